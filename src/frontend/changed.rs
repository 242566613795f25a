//! What clients' writes void: told to the cache when a statement is sent, and again before its client hears what came of it.
//!
//! What an open transaction has written is remembered and voided once more with its end: until then others rightly see the rows from
//! before it.

use std::time::Instant;

use crate::backend::pool::Lease;
use crate::cache::VoidReason;
use crate::cache::definitions::Cells;
use crate::cache::epoch::{Need, Unnamed, Writing};
use crate::cache::touch::{Defines, Touched, defines, touched};
use crate::frontend::client::Client;
use crate::frontend::query::Job;
use crate::frontend::told::Told;
use crate::frontend::written;
use crate::protocol::command::Com;
use crate::session::machine::ran_nothing;
use crate::sql::classify::{Class, ClassReason};
use crate::topology::ServerId;
use crate::topology::gtid::GtidSet;

/// What the open transaction has written.
#[derive(Debug, Default)]
pub(super) struct Written {
    cells: Cells,
    everything: bool,
    /// When it was told which tables change with which, see `Cache::version`.
    version: Option<u64>,
}

impl Written {
    fn is_empty(&self) -> bool {
        !self.everything && self.cells.is_empty()
    }

    fn add(&mut self, cells: Option<&Cells>, version: u64) {
        match cells {
            Some(cells) => {
                for cell in cells {
                    if !self.cells.iter().any(|known| std::sync::Arc::ptr_eq(known, cell)) {
                        self.cells.push(cell.clone());
                    }
                }
            }
            None => self.everything = true,
        }
        self.version.get_or_insert(version);
    }
}

/// A change that was sent. Dropped without a word, its outcome is not known.
pub(super) struct Change {
    writing: Writing,
    /// What the statement itself changes goes on to the transaction's end; `None`: it changes nothing itself.
    own: Option<Option<Cells>>,
    version: u64,
    defines: Defines,
}

impl Change {
    /// It surely has not happened.
    pub(super) fn none(change: Option<Change>) {
        if let Some(change) = change {
            change.writing.end(&Need::Nothing);
        }
    }
}

impl Client {
    /// Before the statement is sent.
    pub(super) fn begin_change(&self, job: &Job<'_>, server: ServerId, now: Instant) -> Option<Change> {
        let cache = self.shared.cache.as_ref()?;
        if job.com == Com::StmtPrepare {
            return None;
        }
        let schema = match job.text {
            Some(text) => text.state.schema(),
            None => self.session.state.schema(),
        };
        // Before the definitions: whoever changes them behind this is noticed at the end.
        let mut version = cache.version();
        let is_read = job.statement.class == Class::Read && !job.statement.writes_unseen.is_raised();
        let touched = if is_read {
            // A server that is read-only refuses what a function in a view would write.
            if !cache.read_writes(job.statement, schema) || self.shared.snapshot.load().master != Some(server) {
                return None;
            }
            Touched::Everything(VoidReason::UnknownTables)
        } else {
            touched(job.statement, schema, cache.definitions_as_told().as_deref())
        };
        let own = match &touched {
            Touched::Nothing => None,
            Touched::Tables(cells) => Some(Some(cells.clone())),
            Touched::Everything(_) => Some(None),
        };
        let defines = defines(job.statement, &touched);
        let mut all = own.clone();
        // What does not go on with the transaction may end it.
        let goes_on = matches!(job.statement.class, Class::LockingRead) || job.statement.reason == ClassReason::WritingStatement;
        if !goes_on && !self.written.is_empty() {
            let mut cells = all.unwrap_or_else(|| Some(Cells::new()));
            if self.written.everything {
                cells = None;
            }
            if let Some(cells) = &mut cells {
                cells.extend(self.written.cells.iter().cloned());
            }
            all = Some(cells);
            version = self.written.version.unwrap_or(version);
        }
        let cells = all?;
        let writing = cache.epochs.write(cells, now);
        if defines == Defines::Surely {
            cache.forget_definitions();
            version = cache.version();
        }
        Some(Change { writing, own, version, defines })
    }

    /// When the reply is known and learned from, and before the client hears of it.
    /// What comes back waits for the name of its transaction, which may be asked for.
    pub(super) fn end_change(&mut self, job: &Job<'_>, change: Option<Change>, told: &Told, lease: &Lease) -> Option<Unnamed> {
        let cache = self.shared.cache.as_deref()?;
        let gtid = told.gtid.as_deref().and_then(|text| std::str::from_utf8(text).ok()).filter(|text| !text.is_empty());
        let gtid = gtid.and_then(|text| GtidSet::parse(lease.flavor, text).ok());
        let open = self.session.in_transaction();
        let need = match (gtid, told.errno) {
            (Some(gtid), _) => Need::Gtid(gtid),
            (None, Some(errno)) if !open && written::may_have_written(job, errno) => Need::Master,
            (None, Some(errno)) if open && written::may_have_committed(job, errno) => Need::Master,
            (None, None) if !open && (told.affected_rows > 0 || !self.names_transactions(lease)) => Need::Master,
            (None, _) => Need::Nothing,
        };
        let Some(change) = change else {
            // Called a read, and has written: by a view with a function.
            if matches!(need, Need::Gtid(_)) && job.com != Com::StmtPrepare {
                cache.everything(VoidReason::UnknownTables, &need);
            }
            return None;
        };
        // What is read from here on is judged by the new definitions or not kept: nothing is before its end.
        match change.defines {
            Defines::Surely => cache.forget_definitions(),
            // What a text that was prepared calls may end with the same errors, after it has defined something.
            Defines::Perhaps
                if told.errno.is_some_and(|errno| ran_nothing(job.statement, errno))
                    && job.statement.reason != ClassReason::PreparedInText => {}
            // One that failed, and may have changed something before: the log tells of that in a moment.
            Defines::Perhaps if told.errno.is_some() && cache.log_tells() => {}
            Defines::Perhaps if need != Need::Nothing || !self.names_transactions(lease) => cache.may_have_defined(&need),
            Defines::Perhaps | Defines::No => {}
        }
        let unnamed = change.writing.end(&need);
        if change.defines == Defines::No && cache.version() != change.version {
            // Somebody changed which tables change with which, while this was under way.
            cache.everything(VoidReason::UnknownTables, &need);
        }
        // What was taken along has come to an end with it, or is void once more at the next.
        if !open {
            self.written = Written::default();
        } else if let Some(own) = &change.own {
            self.written.add(own.as_ref(), change.version);
        }
        unnamed
    }

    /// Whether the server tells of all that is written there by which transaction it was.
    fn names_transactions(&self, lease: &Lease) -> bool {
        let snapshot = self.shared.snapshot.load();
        snapshot.server(lease.server).and_then(|server| server.gtid.as_deref()).is_some_and(|gtid| !gtid.is_empty())
    }

    /// The transactions that a failed statement may have left were asked for.
    pub(super) fn change_learned(&self, unnamed: Option<Unnamed>) {
        if let (Some(unnamed), Some(written)) = (unnamed, &self.session.written) {
            unnamed.learned(written.gtids());
        }
    }
}
