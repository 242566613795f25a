//! Locks of tables and of backups: each kind ends with its own statement.
//!
//! Sources: MySQL 8.4 Reference Manual, "LOCK TABLES and UNLOCK TABLES Statements", "LOCK INSTANCE FOR BACKUP and UNLOCK INSTANCE
//! Statements"; MariaDB "BACKUP STAGE", "BACKUP LOCK".

use super::Session;
use crate::session::pin::PinReason;
use crate::sql::classify::{BackupLocks, Effects};

/// What the connection holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TableLocks {
    tables: bool,
    /// Among them a lock against all writing.
    global: bool,
    backup: BackupLocks,
}

impl Session {
    pub(super) fn learn_table_locks(&mut self, effects: &Effects, ok: bool, multi: bool) {
        let locks = &mut self.table_locks;
        // START TRANSACTION releases table locks, but not those of FLUSH TABLES WITH READ LOCK: only UNLOCK TABLES surely ends both.
        if ok && effects.unlock_tables {
            (locks.tables, locks.global) = (false, false);
        }
        if ok {
            locks.backup.remove(effects.unlocks_backup);
        }
        locks.tables |= effects.lock_tables || effects.flush_tables_with_read_lock;
        locks.global |= ok && effects.flush_tables_with_read_lock;
        if ok || multi {
            locks.backup.add(effects.locks_backup);
        }
        self.pins.set(PinReason::LockTables, locks.tables || locks.backup.any());
    }

    /// What to ask the connection about named locks that the session wanted.
    pub fn locks_question(&self) -> Option<String> {
        if self.pins.has(PinReason::NamedLock) { self.named_locks.question() } else { None }
    }

    /// Which of them it has. Of what is not told it has all.
    pub fn locks_are(&mut self, held: &[bool]) {
        self.named_locks.are(held);
        self.pins.set(PinReason::NamedLock, self.named_locks.any());
    }

    /// Its connection holds a lock under which nobody can write (`FLUSH TABLES WITH READ LOCK` and its like).
    pub fn holds_read_lock(&self) -> bool {
        self.table_locks.global || self.table_locks.backup.has(BackupLocks::STAGE)
    }
}
