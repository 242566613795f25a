//! When may what was read be kept, and until when is it true? Each table has an epoch that moves with every write to it.
//!
//! * A write moves the epochs of its tables when it is sent and again when its outcome is known, before the client hears of it.
//!   Between the two nothing that is read of these tables may be kept.
//! * A read that is to be kept takes a [`Ticket`] before it is sent: the epochs of its tables. What it brought is true for as long as
//!   none of them has moved, and that is looked at when it is stored and each time it is to be served. So it does not matter how
//!   storing and a write interleave.
//! * A read on the master sees every write that had returned when it began. A read on another server does so only when that server had
//!   the last write of each of the tables before: the ticket says which transactions that takes ([`Need`]).
//! * A write whose outcome nobody learned (its connection or its client was lost) may still happen. For a while nothing of its tables
//!   is kept.
//!
//! Steps of clients and servers are enumerated in the tests, and no order of them serves rows older than a write that had returned.

mod known;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;

use crate::topology::GtidSet;
use known::Known;

/// Tables that have an epoch of their own. What is beyond has none: it is not kept, and its writes void everything.
pub const TABLES_MAX: usize = 65_536;
/// A need of more transactions than this (in intervals) is forgotten in favour of the master.
const NEED_PARTS_MAX: usize = 256;
/// A table left alone for this long is worth an effort to fill.
pub const QUIET: Duration = Duration::from_millis(5);

/// What a server must have so that what it answers is not older than the writes that have returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Need {
    /// Every server has all of it.
    #[default]
    Nothing,
    /// These transactions.
    Gtid(GtidSet),
    /// Only the master surely has it.
    Master,
}

impl Need {
    /// Both.
    pub fn merge(&mut self, other: &Need) {
        match (&mut *self, other) {
            (_, Need::Nothing) | (Need::Master, _) => {}
            (_, Need::Master) => *self = Need::Master,
            (Need::Nothing, Need::Gtid(_)) => *self = other.clone(),
            (Need::Gtid(mine), Need::Gtid(theirs)) => {
                // Two families of servers in one cluster name their transactions differently; that is nobody's set.
                if mine.flavor() == theirs.flavor() {
                    mine.merge(theirs);
                } else {
                    *self = Need::Master;
                }
            }
        }
        if let Need::Gtid(set) = self
            && set.parts() > NEED_PARTS_MAX
        {
            *self = Need::Master;
        }
    }
}

/// One table's epoch, or that of everything.
#[derive(Debug)]
pub struct Cell {
    /// `schema.table`, for people; empty for everything.
    name: Box<str>,
    /// What others have kept may be looked at: [`Inner::known`] is wanted.
    shares: bool,
    /// Read without the lock, changed under it.
    epoch: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Writes that were sent and have not ended.
    writers: u32,
    /// A write's outcome was not learned.
    doubt: Doubt,
    need: Need,
    /// While [`Inner::need`] is the master: what is needed beside the writes whose names did not come.
    named: Need,
    /// The only one whose name did not come, by the epoch that its end has made; `None`: there are others, or it has no end of ours.
    only: Option<u64>,
    /// Transactions whose OK came to us: what is kept was read after it. A transaction that is only logged cannot be seen by others yet.
    acknowledged: Option<GtidSet>,
    /// Since when no write came without its name, while [`Inner::need`] is the master; `None` until a sweep has seen it.
    master_since: Option<Instant>,
    moved: Option<Instant>,
    known: Known,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Doubt {
    #[default]
    None,
    /// Since the last sweep.
    New,
    Until(Instant),
}

impl Inner {
    /// `end`: the epoch made by the end of the write that tells it.
    fn hear(&mut self, need: &Need, end: Option<u64>) {
        let nameless = *need == Need::Master;
        if self.need != Need::Master {
            let named = if nameless { self.need.clone() } else { Need::Nothing };
            self.need.merge(need);
            if self.need == Need::Master {
                // With too many names, or those of two families, no single name is what is missing.
                (self.named, self.only, self.master_since) = (named, end.filter(|_| nameless), None);
            }
            return;
        }
        if !nameless {
            self.named.merge(need);
        }
        if nameless || self.named == Need::Master {
            if !nameless {
                self.named = Need::Nothing;
            }
            // What the master said before this does not tell of it.
            (self.only, self.master_since) = (None, None);
        }
    }

    /// The name of the write whose end has made this epoch: it takes the place of the master when no other name is missing.
    fn learn(&mut self, end: u64, gtid: &GtidSet) {
        if self.need == Need::Master && self.only == Some(end) && self.writers == 0 {
            self.only = None;
            self.need = std::mem::take(&mut self.named);
            self.master_since = None;
            self.hear(&Need::Gtid(gtid.clone()), None);
        }
    }

    fn acknowledge(&mut self, need: &Need) {
        let Need::Gtid(set) = need else { return };
        match &mut self.acknowledged {
            Some(ours) if ours.flavor() == set.flavor() && ours.parts() < NEED_PARTS_MAX => ours.merge(set),
            ours => *ours = Some(set.clone()),
        }
    }
}

impl Cell {
    fn new(name: &str, shares: bool) -> Cell {
        Cell { name: name.into(), shares, epoch: AtomicU64::new(0), inner: Mutex::default() }
    }

    fn heard(&self, inner: &mut Inner, need: &Need, end: Option<u64>) {
        inner.hear(need, end);
        if self.shares {
            inner.known.add(need);
        }
    }

    /// `schema.table`; empty for everything.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn begin(&self, now: Instant) {
        let mut inner = self.inner.lock();
        inner.writers += 1;
        inner.moved = Some(now);
        self.epoch.fetch_add(1, SeqCst);
    }

    /// The epoch that this has made.
    fn end(&self, need: &Need, doubt: bool) -> u64 {
        let mut inner = self.inner.lock();
        inner.writers = inner.writers.saturating_sub(1);
        let end = self.epoch.load(SeqCst) + 1;
        self.heard(&mut inner, need, Some(end));
        inner.acknowledge(need);
        if doubt {
            inner.doubt = Doubt::New;
        }
        self.epoch.store(end, SeqCst);
        end
    }

    fn void(&self, need: &Need) {
        let mut inner = self.inner.lock();
        self.heard(&mut inner, need, None);
        self.epoch.fetch_add(1, SeqCst);
    }

    /// Whether what is kept was read after this transaction's OK.
    fn has_acknowledged(&self, gtid: &GtidSet) -> bool {
        self.inner.lock().acknowledged.as_ref().is_some_and(|ours| ours.covers(gtid))
    }

    fn needs_more(&self, need: &Need) {
        self.heard(&mut self.inner.lock(), need, None);
    }
}

/// The epochs of a read's tables, as they were before it was sent.
#[derive(Clone, Debug)]
pub struct Ticket {
    parts: SmallVec<[(Arc<Cell>, u64); 3]>,
}

impl Ticket {
    /// Whether none of the tables was written since.
    pub fn is_current(&self) -> bool {
        self.parts.iter().all(|(cell, epoch)| cell.epoch.load(SeqCst) == *epoch)
    }

    /// The tables' names.
    pub fn tables(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|(cell, _)| cell.name()).filter(|name| !name.is_empty())
    }

    /// Bytes it takes beside itself.
    pub fn heap_bytes(&self) -> usize {
        if self.parts.spilled() { self.parts.capacity() * size_of::<(Arc<Cell>, u64)>() } else { 0 }
    }
}

/// Why a read may not be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTicket {
    /// One of its tables is being written.
    Writing,
    /// What became of a write to one of them is not known.
    Doubt,
}

/// A read that may be kept.
#[derive(Debug)]
pub struct Granted {
    /// What is looked at when it is stored and served.
    pub ticket: Ticket,
    /// What the server that answers it must have.
    pub need: Need,
    /// What somebody else's result must have, to be as good as one that is read now. [`Need::Master`]: none is.
    pub demand: Need,
    /// None of the tables was written a moment ago, so that it is likely to last.
    pub quiet: bool,
}

/// All epochs.
#[derive(Debug)]
pub struct Epochs {
    everything: Arc<Cell>,
    shares: bool,
    tables: RwLock<std::collections::HashMap<Box<[u8]>, Arc<Cell>, foldhash::fast::RandomState>>,
}

impl Default for Epochs {
    fn default() -> Epochs {
        Epochs::new(false)
    }
}

impl Epochs {
    /// `shares`: what others have kept may be looked at.
    pub fn new(shares: bool) -> Epochs {
        Epochs { everything: Arc::new(Cell::new("", shares)), shares, tables: RwLock::default() }
    }

    /// The cell of a table, made at first. `key` tells tables apart, `name` is for people. `None`: there are too many.
    pub fn cell(&self, key: &[u8], name: &str) -> Option<Arc<Cell>> {
        if let Some(cell) = self.tables.read().get(key) {
            return Some(cell.clone());
        }
        let mut tables = self.tables.write();
        if let Some(cell) = tables.get(key) {
            return Some(cell.clone());
        }
        if tables.len() >= TABLES_MAX {
            return None;
        }
        let cell = Arc::new(Cell::new(name, self.shares));
        // A cell is never taken away: somebody may hold it, and a second one of that name would know nothing of his writes.
        tables.insert(key.into(), cell.clone());
        Some(cell)
    }

    /// A ticket for a read of these tables, to be taken before it is sent.
    ///
    /// # Errors
    /// One of them is being written.
    pub fn ticket(&self, tables: &[Arc<Cell>], now: Instant) -> Result<Granted, NoTicket> {
        let mut parts = SmallVec::new();
        let mut need = Need::Nothing;
        let mut demand = if self.shares { Need::Nothing } else { Need::Master };
        let mut quiet = true;
        for cell in tables.iter().chain([&self.everything]) {
            let inner = cell.inner.lock();
            if inner.writers > 0 {
                return Err(NoTicket::Writing);
            }
            if inner.doubt != Doubt::None {
                return Err(NoTicket::Doubt);
            }
            need.merge(&inner.need);
            if self.shares {
                demand.merge(&inner.known.demand());
            }
            quiet &= inner.moved.is_none_or(|moved| now.saturating_duration_since(moved) >= QUIET);
            parts.push((cell.clone(), cell.epoch.load(SeqCst)));
        }
        Ok(Granted { ticket: Ticket { parts }, need, demand, quiet })
    }

    /// A write to these tables is sent now; `None` for any table. What becomes of it is to be told by [`Writing::end`]; if it is dropped
    /// instead, nobody knows.
    #[must_use]
    pub fn write(&self, tables: Option<SmallVec<[Arc<Cell>; 2]>>, now: Instant) -> Writing {
        let cells = tables.unwrap_or_else(|| SmallVec::from_iter([self.everything.clone()]));
        for cell in &cells {
            cell.begin(now);
        }
        Writing { cells }
    }

    /// These tables have changed, or their change can be seen now, by the transaction `gtid`. `false`: it was our own, and has voided what it had
    /// to when its OK came.
    pub fn changed(&self, tables: &[Arc<Cell>], gtid: Option<&GtidSet>) -> bool {
        let need = gtid.map_or(Need::Master, |gtid| Need::Gtid(gtid.clone()));
        let known = |cell: &Cell| gtid.is_some_and(|gtid| cell.has_acknowledged(gtid));
        // Our own write has voided what was older.
        if known(&self.everything) {
            return false;
        }
        let mut any = false;
        for cell in tables {
            if known(cell) {
                continue;
            }
            cell.void(&need);
            any = true;
        }
        any
    }

    /// Tables that are not known have changed, by the transaction `gtid`. `false`: that was known.
    pub fn anything_changed(&self, gtid: Option<&GtidSet>) -> bool {
        self.changed(std::slice::from_ref(&self.everything), gtid)
    }

    /// Everything may have changed.
    pub fn everything_changed(&self, need: &Need) {
        self.everything.void(need);
    }

    /// Which transactions were our own is forgotten: another master gives the numbers of those it has never seen to others' (MariaDB).
    pub fn forget_acknowledged(&self) {
        for cell in self.tables.read().values().chain([&self.everything]) {
            cell.inner.lock().acknowledged = None;
        }
    }

    /// Whether servers are known to have anything is forgotten: one of them may have gone back in time.
    pub fn distrust_servers(&self) {
        self.everything.needs_more(&Need::Master);
    }

    /// To be called every few seconds. `all_have`: whether every server has these transactions; `master`: what the master has, if it said so
    /// less than `settled` ago; `doubt`: how long a write whose outcome is not known may take.
    pub fn sweep(
        &self,
        now: Instant,
        all_have: &dyn Fn(&GtidSet) -> bool,
        master: Option<&GtidSet>,
        settled: Duration,
        doubt: Duration,
    ) {
        let tables = self.tables.read();
        for cell in tables.values().chain([&self.everything]) {
            let mut inner = cell.inner.lock();
            match inner.doubt {
                Doubt::New => inner.doubt = Doubt::Until(now + doubt),
                Doubt::Until(end) if end <= now => inner.doubt = Doubt::None,
                Doubt::None | Doubt::Until(_) => {}
            }
            let idle = inner.writers == 0;
            inner.known.sweep(now, master, settled, idle);
            match (&inner.need, inner.master_since) {
                (Need::Nothing, _) => {}
                (Need::Gtid(set), _) => {
                    if all_have(set) {
                        inner.need = Need::Nothing;
                    }
                    inner.master_since = None;
                }
                (Need::Master, None) => inner.master_since = Some(now),
                // What made it so had ended when the master said this; what ended since then has told its name.
                (Need::Master, Some(since)) if now.saturating_duration_since(since) > settled && inner.writers == 0 => {
                    if let Some(master) = master {
                        let mut need = std::mem::take(&mut inner.named);
                        need.merge(&Need::Gtid(master.clone()));
                        (inner.need, inner.only, inner.master_since) = (need, None, None);
                    }
                }
                (Need::Master, Some(_)) => {}
            }
        }
    }
}

/// A write that was sent and has not ended.
#[derive(Debug)]
pub struct Writing {
    cells: SmallVec<[Arc<Cell>; 2]>,
}

impl Writing {
    /// Its outcome is known; to be called before the client hears of it. `need`: the transaction it was. What comes back waits for the
    /// name of that transaction, where it is not known.
    pub fn end(mut self, need: &Need) -> Option<Unnamed> {
        let ends = std::mem::take(&mut self.cells).into_iter().map(|cell| {
            let end = cell.end(need, false);
            (cell, end)
        });
        let ends: SmallVec<_> = ends.collect();
        (*need == Need::Master).then_some(Unnamed { ends })
    }
}

/// A write that has ended and whose transaction has no name yet.
#[derive(Debug)]
pub struct Unnamed {
    ends: SmallVec<[(Arc<Cell>, u64); 2]>,
}

impl Unnamed {
    /// The server has said what it was: it is among these.
    pub fn learned(self, gtid: &GtidSet) {
        for (cell, end) in self.ends {
            cell.inner.lock().learn(end, gtid);
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        for cell in &self.cells {
            cell.end(&Need::Master, true);
        }
    }
}

#[cfg(test)]
mod tests;
