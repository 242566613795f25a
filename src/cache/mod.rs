//! Results kept in memory, and never served when they are older than a write that has returned.
//!
//! * [`policy`]: may this statement, in this session, be answered from here?
//! * [`key`]: what a result is kept under.
//! * [`epoch`]: when may it be kept, and until when is it true?
//! * [`definitions`]: which tables a name stands for, and what changes with them.
//! * [`touch`]: what does a statement change?
//! * [`store`]: the memory.
//! * [`worth`]: is a result worth keeping before anybody has asked for it twice?
//! * [`shared`]: what several proxies keep in one place, and when one's result is good for another.
//! * [`Changes`]: what a reader of the binlog calls.
//!
//! `frontend::cached` serves from it and fills it, `frontend::changed` tells it of clients' writes, `run` has the master asked for its
//! definitions. `docs/cache.md` says what is promised.

#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod changes;
pub mod definitions;
pub mod epoch;
pub mod key;
pub mod policy;
pub mod shared;
pub mod store;
mod tell;
pub mod touch;
pub mod worth;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;

pub use changes::{Changes, VoidReason};
use definitions::{Definitions, Told, Unkept};
use epoch::{Epochs, Granted, Need, NoTicket};
use policy::Settings;
use store::{Entry, Store};
pub use tell::as_changes;
use worth::Keeps;

use crate::sql::classify::Classified;
use crate::sql::lexer::LexMode;
use crate::topology::{GtidSet, ServerId};

/// Digests remembered whose results could not be kept.
const UNFIT_MAX: usize = 4096;
/// For so long nobody waits for a result of such a digest.
const UNFIT_FOR: std::time::Duration = std::time::Duration::from_secs(10);
/// No master was seen yet.
const NO_MASTER: u32 = u32::MAX;
/// How long the log may take to tell what a procedure has changed, before the master is asked.
const UNREAD_MAX: std::time::Duration = std::time::Duration::from_secs(5);

/// The cache of one proxy.
#[derive(Debug)]
pub struct Cache {
    /// `[cache]`, as far as it may be changed under running clients.
    pub settings: ArcSwap<Settings>,
    /// When results are true.
    pub epochs: Epochs,
    /// The results.
    pub store: Store,
    /// What is known to look at others' results; `None` while the binlog is not followed.
    term: ArcSwapOption<shared::Term>,
    shares: bool,
    definitions: ArcSwapOption<Definitions>,
    /// What may have changed them, until the log was read behind it, see [`Cache::may_have_defined`]. It is as if there were none meanwhile.
    unread: ArcSwapOption<GtidSet>,
    /// Reading one of the views in them may write: looked at with every read, where there is a cache.
    reads_write: AtomicBool,
    /// Moves when definitions may have changed.
    version: AtomicU64,
    /// Moves whenever definitions must be asked for anew.
    forgotten: AtomicU64,
    /// Since when [`Cache::unread`] was seen to wait for the log.
    unread_since: Mutex<Option<Instant>>,
    /// Why there are none, for people.
    why_untold: Mutex<String>,
    /// Writes at the servers that do not come by us are told of by a reader of the binlog.
    needs_reader: bool,
    following: AtomicBool,
    /// Another process writes too, and does not tell us.
    beside: AtomicBool,
    why_lost: Mutex<String>,
    master: AtomicU32,
    unfit: quick_cache::sync::Cache<u64, Instant>,
    asked_once: worth::AskedOnce,
    /// Which accounts readers are, as the servers say; forgotten when rights change.
    pub accounts: shared::Accounts,
    /// Results kept.
    pub stores: AtomicU64,
}

/// Why a read is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// By its tables.
    Tables(Unkept),
    /// By a write that goes on.
    Ticket(NoTicket),
}

impl Refused {
    /// The word in `EXPLAIN ROUTE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Refused::Tables(why) => why.as_str(),
            Refused::Ticket(NoTicket::Writing) => "being_written",
            Refused::Ticket(NoTicket::Doubt) => "write_in_doubt",
        }
    }
}

impl Cache {
    /// An empty cache. `needs_reader`: nothing is served until a reader of the binlog says that it follows.
    pub fn new(settings: Settings, bytes_max: u64, needs_reader: bool) -> Cache {
        Cache::with_store(settings, bytes_max, needs_reader, false)
    }

    /// The same; `shares`: there is a store that other proxies use, too.
    pub fn with_store(settings: Settings, bytes_max: u64, needs_reader: bool, shares: bool) -> Cache {
        let (epochs, store) = (Epochs::new(shares), Store::new(bytes_max));
        store.life_is(settings.ttl);
        // Whoever wrote before the start may be ahead of what replicas have.
        epochs.distrust_servers();
        Cache {
            settings: ArcSwap::from_pointee(settings),
            epochs,
            store,
            term: ArcSwapOption::empty(),
            shares,
            accounts: shared::Accounts::default(),
            definitions: ArcSwapOption::empty(),
            unread: ArcSwapOption::empty(),
            reads_write: AtomicBool::new(false),
            version: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
            unread_since: Mutex::new(None),
            why_untold: Mutex::new("the master was not asked yet".to_owned()),
            needs_reader,
            following: AtomicBool::new(false),
            beside: AtomicBool::new(false),
            why_lost: Mutex::new("no reader of the binlog has begun".to_owned()),
            master: AtomicU32::new(NO_MASTER),
            unfit: quick_cache::sync::Cache::new(UNFIT_MAX),
            asked_once: worth::AskedOnce::default(),
            stores: AtomicU64::new(0),
        }
    }

    /// What the operator has changed holds from now on, for what is kept as well.
    pub fn set(&self, settings: Settings) {
        self.store.life_is(settings.ttl);
        self.settings.store(Arc::new(settings));
    }

    /// Whether what changes at the servers is known here.
    pub fn is_told(&self) -> bool {
        !self.beside.load(SeqCst) && (!self.needs_reader || self.following.load(SeqCst))
    }

    /// While another process of this proxy serves clients (an upgrade), its writes are not known here before they are in the
    /// binlog: nothing is served and nothing kept.
    pub fn beside_another(&self, beside: bool) {
        if !beside {
            // Reads that were under way meanwhile are not to be kept; no new one gets leave before the line below.
            self.everything(VoidReason::Missed, &Need::Master);
        }
        self.beside.store(beside, SeqCst);
    }

    /// To be asked before anything is served: with another master than before, nothing of what is kept is known to be there.
    pub fn master_is(&self, master: Option<ServerId>) {
        let Some(master) = master.map(|id| u32::from(id.0)) else { return };
        let before = self.master.load(SeqCst);
        if before != master && self.master.compare_exchange(before, master, SeqCst, SeqCst).is_ok() && before != NO_MASTER {
            self.everything(VoidReason::Master, &Need::Master);
        }
    }

    /// What is known of the tables.
    pub fn definitions(&self) -> Option<Arc<Definitions>> {
        if self.unread.load().is_some() { None } else { self.definitions.load_full() }
    }

    /// Whether this read may write: by a view that calls a function.
    pub fn read_writes(&self, statement: &Classified, schema: Option<&[u8]>) -> bool {
        self.reads_write.load(SeqCst)
            && self.definitions.load().as_ref().is_some_and(|known| known.writes_by_reading(statement, schema))
    }

    /// What others' results are judged by. To be asked for before the ticket is taken.
    pub fn term(&self) -> Option<Arc<shared::Term>> {
        self.term.load_full()
    }

    /// Leave to keep the result of a read, to be taken before it is sent.
    ///
    /// # Errors
    /// Why it may not be kept.
    pub fn may_keep(&self, statement: &Classified, schema: Option<&[u8]>, now: Instant) -> Result<Granted, Refused> {
        let version = self.version();
        let definitions = self.definitions.load();
        let known = definitions.as_ref().filter(|_| self.unread.load().is_none());
        let definitions = known.ok_or(Refused::Tables(Unkept::NotTold))?;
        let cells = definitions.read(&statement.tables, schema).map_err(Refused::Tables)?;
        let granted = self.epochs.ticket(&cells, now).map_err(Refused::Ticket)?;
        // Forgotten since: the ticket may be younger than the end of what has changed them, which would then not void it.
        if self.version() == version { Ok(granted) } else { Err(Refused::Tables(Unkept::NotTold)) }
    }

    /// Whether the result of a read that is not kept yet is to be: by how useful it was to keep those of its digest. `hash`: of its key.
    pub fn is_worth_keeping(&self, statement: &Classified, hash: u64) -> bool {
        let (kept, again) = statement.worth.get();
        match worth::keeps(kept, again) {
            Keeps::AtOnce => true,
            Keeps::AskedAgain => {
                let before = self.asked_once.before(hash);
                if before {
                    statement.worth.again();
                }
                before
            }
        }
    }

    /// Keeps a result, unless one of its tables was written meanwhile.
    pub fn keep(&self, key: Arc<key::Key>, entry: Arc<Entry>) -> bool {
        let current = entry.ticket.is_current() && self.is_told();
        if current {
            entry.statement.worth.kept();
            self.store.insert(key, entry);
            self.stores.fetch_add(1, Relaxed);
        }
        current
    }

    /// All that is kept is void, for this reason.
    pub fn everything(&self, reason: VoidReason, need: &Need) {
        // A more fitting account may have come into being.
        self.accounts.forget();
        if matches!(reason, VoidReason::Ddl | VoidReason::Missed | VoidReason::Master) {
            self.forget_definitions();
        }
        if matches!(reason, VoidReason::Missed | VoidReason::Master) {
            self.epochs.forget_acknowledged();
        }
        self.epochs.everything_changed(need);
    }

    /// Definitions may have changed: until the master has told them again nothing is kept, and a write voids everything.
    pub fn forget_definitions(&self) {
        let unread = self.unread.load();
        self.version.fetch_add(1, SeqCst);
        self.forgotten.fetch_add(1, SeqCst);
        self.definitions.store(None);
        // What is asked from here on has what was in doubt until now, but for what came in between.
        self.unread.compare_and_swap(&unread, None);
        "they may have changed and are asked for".clone_into(&mut self.why_untold.lock());
    }

    /// Whether a log is followed, and told of everything until a moment ago.
    pub fn log_tells(&self) -> bool {
        self.needs_reader && self.is_told()
    }

    /// Something has run of which nobody knows whether it changed definitions: a procedure, most likely. Where the log is followed, it tells, in
    /// milliseconds; until then nothing is kept, and a write voids everything. That spares the master from being asked for all its
    /// definitions at each call. `need`: what it was.
    pub fn may_have_defined(&self, need: &Need) {
        let Need::Gtid(set) = need else { return self.forget_definitions() };
        if !self.log_tells() {
            return self.forget_definitions();
        }
        self.unread.rcu(|before| {
            let mut all = Need::Gtid(set.clone());
            if let Some(before) = before {
                all.merge(&Need::Gtid((**before).clone()));
            }
            match all {
                Need::Gtid(all) => Some(Arc::new(all)),
                // Of two families: the log that is followed has the one only.
                _ => Some(Arc::new(set.clone())),
            }
        });
        // Writes that are under way were judged by definitions that may be the old ones.
        self.version.fetch_add(1, SeqCst);
    }

    /// The log has told of everything up to here, and all of it can be seen.
    fn is_read(&self, position: &GtidSet) {
        let unread = self.unread.load();
        if unread.as_ref().is_some_and(|unread| unread.flavor() == position.flavor() && position.covers(unread)) {
            self.unread.compare_and_swap(&unread, None);
        }
    }

    /// The log has not come for too long to where it would tell: the master is asked. Called once in a while.
    pub fn sweep_unread(&self, now: Instant) {
        let mut since = self.unread_since.lock();
        if self.unread.load().is_none() {
            *since = None;
        } else if now.saturating_duration_since(*since.get_or_insert(now)) >= UNREAD_MAX {
            *since = None;
            self.forget_definitions();
        }
    }

    /// Whether definitions must be asked for, and what [`Cache::told`] wants to know then.
    pub fn wants_definitions(&self) -> Option<u64> {
        let asking = self.asking();
        self.definitions.load().is_none().then_some(asking)
    }

    /// What [`Cache::told`] wants to know of whoever asks again though there are some.
    pub fn asking(&self) -> u64 {
        self.forgotten.load(SeqCst)
    }

    /// The definitions as they were told last, though something may have run since that changed them: for writes, which are judged again at
    /// their end when it has.
    pub fn definitions_as_told(&self) -> Option<Arc<Definitions>> {
        self.definitions.load_full()
    }

    /// Changes with everything that may change what is judged by definitions.
    pub fn version(&self) -> u64 {
        self.version.load(SeqCst)
    }

    /// What the master said when it was asked; `asked`: [`Cache::asking`] before that.
    pub fn told(&self, asked: u64, told: Told, mode: LexMode) {
        let known = self.definitions.load_full();
        if known.as_ref().is_some_and(|known| known.says(&told)) {
            return;
        }
        if known.is_some() {
            // Somebody has changed them behind our back.
            self.everything(VoidReason::Ddl, &Need::Master);
            return;
        }
        let made = Arc::new(Definitions::new(told, &self.epochs, mode));
        self.reads_write.store(made.any_read_writes(), SeqCst);
        self.definitions.store(Some(made));
        // A change that came meanwhile has found none to take away.
        if self.asking() != asked {
            self.definitions.store(None);
        }
    }

    /// The master could not be asked.
    pub fn untold(&self, why: &str) {
        why.clone_into(&mut self.why_untold.lock());
    }

    /// A result of this digest could not be kept, and others of it will not be either: nobody waits for one.
    pub fn is_unfit(&self, digest: u64, now: Instant) -> bool {
        self.unfit.get(&digest).is_some_and(|until| now < until)
    }

    /// See [`Cache::is_unfit`].
    pub fn unfit(&self, digest: u64, now: Instant) {
        self.unfit.insert(digest, now + UNFIT_FOR);
    }

    /// `on`, or `bypassed` and why.
    pub fn state(&self) -> String {
        if self.beside.load(SeqCst) {
            return "bypassed: another process of this proxy serves clients too (an upgrade)".to_owned();
        }
        if !self.is_told() {
            return format!("bypassed: {}", self.why_lost.lock());
        }
        match self.definitions.load().as_ref() {
            Some(_) => "on".to_owned(),
            None => format!("bypassed: tables are not known: {}", self.why_untold.lock()),
        }
    }
}
