//! Locks of tables and of the whole instance: which are held, and which statement ends which.
//!
//! Sources: MySQL 8.4 Reference Manual, "LOCK TABLES and UNLOCK TABLES", "LOCK INSTANCE FOR BACKUP"; MariaDB Knowledge Base, "BACKUP STAGE",
//! "BACKUP LOCK".

use crate::sql::classify::Effects;

/// What a session has locked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Locks {
    /// `LOCK TABLES`, `FLUSH TABLES ... WITH READ LOCK`, until `UNLOCK TABLES`.
    tables: bool,
    /// Among these one under which nobody can write.
    flushed: bool,
    /// `LOCK INSTANCE FOR BACKUP`, `BACKUP STAGE`, `BACKUP LOCK`, until `UNLOCK INSTANCE`, `BACKUP STAGE END`, `BACKUP UNLOCK`.
    backup: bool,
}

impl Locks {
    /// A statement has ended. One that was refused may have locked tables, and has ended nothing; among several the one that locks may have ended well.
    pub(super) fn learn(&mut self, effects: &Effects, ok: bool, multi: bool) {
        // START TRANSACTION releases table locks, but not those of FLUSH TABLES WITH READ LOCK: only UNLOCK TABLES surely ends both.
        if ok && effects.unlock_tables {
            (self.tables, self.flushed) = (false, false);
        }
        if ok && effects.unlock_backup {
            self.backup = false;
        }
        self.tables |= effects.lock_tables || effects.flush_tables_with_read_lock;
        self.flushed |= ok && effects.flush_tables_with_read_lock;
        self.backup |= effects.lock_backup && (ok || multi);
    }

    /// Whether its connection must stay its own.
    pub(super) fn any(self) -> bool {
        self.tables || self.backup
    }

    /// Whether it holds a lock under which nobody can write.
    pub(super) fn stops_writes(self) -> bool {
        self.flushed || self.backup
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::classify::classify;
    use crate::sql::lexer::LexMode;

    /// Harm: MySQL Shell's dumps end their read lock and go on with the backup lock, which was left on a connection of the pool.
    #[test]
    fn each_lock_ends_with_its_own_statement() {
        for (sql, any, stops_writes) in [
            ("LOCK TABLES t WRITE", true, false),
            ("LOCK TABLES t WRITE; UNLOCK TABLES", false, false),
            ("FLUSH TABLES WITH READ LOCK", true, true),
            ("FLUSH TABLES WITH READ LOCK; LOCK INSTANCE FOR BACKUP; UNLOCK TABLES", true, true),
            ("FLUSH TABLES WITH READ LOCK; LOCK INSTANCE FOR BACKUP; UNLOCK TABLES; UNLOCK INSTANCE", false, false),
            ("LOCK TABLES t WRITE; LOCK INSTANCE FOR BACKUP; UNLOCK INSTANCE", true, false),
            ("BACKUP STAGE START; BACKUP STAGE BLOCK_COMMIT", true, true),
            ("BACKUP STAGE START; BACKUP STAGE BLOCK_COMMIT; BACKUP STAGE END", false, false),
            ("BACKUP LOCK t", true, true),
            ("BACKUP LOCK t; BACKUP UNLOCK", false, false),
        ] {
            let mut locks = Locks::default();
            for one in sql.split("; ") {
                locks.learn(&classify(one.as_bytes(), LexMode::default()).effects, true, false);
            }
            assert_eq!((locks.any(), locks.stops_writes()), (any, stops_writes), "{sql}");
        }
        let mut locks = Locks::default();
        locks.learn(&classify(b"FLUSH TABLES WITH READ LOCK", LexMode::default()).effects, true, false);
        locks.learn(&classify(b"UNLOCK TABLES", LexMode::default()).effects, false, false);
        assert!(locks.any(), "refused");
        let mut locks = Locks::default();
        locks.learn(&classify(b"LOCK INSTANCE FOR BACKUP", LexMode::default()).effects, false, false);
        assert!(!locks.any(), "what would end it is refused, too");
    }
}
