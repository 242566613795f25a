//! `LAST_INSERT_ID()`: what a session knows of it, and what only a connection knows.
//!
//! Source: MySQL 8.4 Reference Manual, "Information Functions", LAST_INSERT_ID().

use smallvec::{SmallVec, smallvec};

use super::{Learned, Session, ran_nothing};
use crate::sql::classify::Classified;

/// So many ids are remembered that a reply told and the statement may have given itself.
const TOLD_IDS_MAX: usize = 64;

/// What is known of `LAST_INSERT_ID()`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum InsertId {
    /// It is what the session remembers.
    #[default]
    Known,
    /// It is one of these if the connection says so, else what it was: the statements that they come from may have given them.
    Told(SmallVec<[u64; 1]>),
    /// What the connection says.
    Connection,
}

impl Session {
    /// Whether the statement needs `LAST_INSERT_ID()` restored on the connection it runs on, where it is `there` now.
    pub fn needs_last_insert_id(&self, statement: &Classified, there: u64) -> bool {
        Self::may_read_insert_id(statement) && !self.insert_id_unsure() && self.last_insert_id != there
    }

    /// Whether the statement asks for `LAST_INSERT_ID()`, or runs what may ask for it. Of several statements only the last tells its
    /// id: what the connection says afterwards is the session's only if it was before.
    pub fn may_read_insert_id(statement: &Classified) -> bool {
        statement.multi || !statement.plain && (statement.effects.reads_last_insert_id || statement.effects.opaque)
    }

    /// Whether only the connection knows what `LAST_INSERT_ID()` is.
    pub fn insert_id_unsure(&self) -> bool {
        self.insert_id != InsertId::Known
    }

    /// `LAST_INSERT_ID()` as the connection told it; `None`: it could not be asked.
    pub fn insert_id_is(&mut self, id: Option<u64>) {
        match (std::mem::take(&mut self.insert_id), id) {
            // The connection has kept what somebody else made there before.
            (InsertId::Told(told), Some(id)) if !told.contains(&id) => {}
            (_, Some(id)) => self.last_insert_id = id,
            (_, None) => {}
        }
    }

    /// The connection's value changed, to one that no reply tells.
    pub(super) fn insert_id_changed(&mut self) {
        self.insert_id = InsertId::Connection;
    }

    pub(super) fn learn_insert_id(&mut self, statement: &Classified, learned: &Learned<'_>) {
        if learned.last_insert_id != 0 && learned.id_was_made {
            (self.last_insert_id, self.insert_id) = (learned.last_insert_id, InsertId::Known);
        } else if statement.effects.opaque && (learned.ok || !ran_nothing(statement, learned.errno))
            || learned.last_insert_id != 0 && statement.multi
        {
            self.insert_id_changed();
        } else if learned.last_insert_id != 0 {
            match &mut self.insert_id {
                InsertId::Connection => {}
                InsertId::Told(told) if told.len() < TOLD_IDS_MAX => told.push(learned.last_insert_id),
                InsertId::Told(_) => self.insert_id_changed(),
                known @ InsertId::Known => *known = InsertId::Told(smallvec![learned.last_insert_id]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sql::classify::classify;
    use crate::sql::lexer::LexMode;

    #[test]
    fn what_a_reply_tells_and_what_the_connection_says() {
        // (statement, the OK's id, whether it was made; what the connection says when it is asked; what the session has then)
        let made = |id| Learned { ok: true, last_insert_id: id, id_was_made: true, ..Learned::default() };
        let given = |id| Learned { ok: true, last_insert_id: id, ..Learned::default() };
        let none = Learned { ok: true, ..Learned::default() };
        for (what, steps, says, expected) in [
            ("it was made", vec![("INSERT INTO t VALUES (NULL)", made(7))], None, 7),
            (
                "it was given, and the connection has what somebody else made",
                vec![("INSERT INTO t VALUES (7)", given(7))],
                Some(900),
                5,
            ),
            ("it could have been given, and was made", vec![("INSERT INTO t SELECT 1", given(7))], Some(7), 7),
            ("made and then given", vec![("INSERT INTO t SELECT 1", given(7)), ("INSERT INTO t VALUES (9)", given(9))], Some(7), 7),
            ("a procedure says nothing", vec![("CALL p()", none)], Some(33), 33),
            ("of two the last tells", vec![("INSERT INTO t VALUES (NULL); INSERT INTO t VALUES (9)", given(9))], Some(8), 8),
            ("rows stand in the place of an OK", vec![("INSERT INTO t (n) VALUES (1) RETURNING id", none)], Some(34), 34),
            ("an upload tells none", vec![("LOAD DATA INFILE 'x' INTO TABLE t", none)], Some(35), 35),
            ("a SELECT sets it", vec![("SELECT LAST_INSERT_ID(77)", none)], Some(77), 77),
            ("it is set to a literal", vec![("SET last_insert_id = 99", none)], None, 99),
            ("it is set to something else", vec![("SET last_insert_id = @a + 1", none)], Some(4), 4),
            ("a read", vec![("SELECT 1", none)], None, 5),
            ("what does not parse runs nothing", vec![("SELEKT", Learned { errno: 1064, ..Learned::default() })], None, 5),
        ] {
            let mut session = Session::new(Arc::default(), LexMode::default());
            session.last_insert_id = 5;
            for (sql, learned) in &steps {
                session.learn(&classify(sql.as_bytes(), LexMode::default()), sql.as_bytes(), learned);
            }
            assert_eq!(session.insert_id_unsure(), says.is_some(), "{what}");
            if session.insert_id_unsure() {
                session.insert_id_is(says);
            }
            assert_eq!((session.last_insert_id, session.insert_id_unsure()), (expected, false), "{what}");
        }
    }

    #[test]
    fn it_is_restored_for_what_may_read_it() {
        let session = Session::new(Arc::default(), LexMode::default());
        for (sql, expected) in [
            ("SELECT LAST_INSERT_ID()", true),
            ("CALL p()", true),
            ("EXECUTE s", true),
            ("INSERT INTO t VALUES (1); SELECT 1", true),
            ("INSERT INTO t VALUES (1)", false),
            ("SELECT 1", false),
        ] {
            assert_eq!(session.needs_last_insert_id(&classify(sql.as_bytes(), LexMode::default()), 900), expected, "{sql}");
        }
    }
}
