//! Named locks (`GET_LOCK`) of a session, by name where the name is a literal. A lock may be taken more than once, and is free when
//! it was released as often.
//!
//! What a call returned is not looked at. Whether a lock was had is asked of the server once the client has its reply, where the name is a plain
//! literal; else one that was refused counts as taken, and the session stays pinned for it until its name is released. A release of a
//! name that was never taken releases nothing.

use super::{NAMES_MAX, Session};
use crate::session::pin::PinReason;
use crate::sql::lexer::{Dialect, LexMode, Lexer, TokenKind};

/// One call.
#[derive(Debug)]
struct Lock {
    name: Box<[u8]>,
    /// The server was not asked yet.
    unasked: bool,
}

/// A name whose literal means the same in every `sql_mode` and charset, without its quotes. `None`: another.
fn plain(literal: &[u8]) -> Option<Box<[u8]>> {
    let inner = literal.strip_prefix(b"'").and_then(|rest| rest.strip_suffix(b"'"));
    let inner = inner.or_else(|| literal.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")))?;
    let fits = !inner.is_empty() && inner.iter().all(|b| (0x20..0x7f).contains(b) && !matches!(b, b'\\' | b'\'' | b'"'));
    fits.then(|| inner.into())
}

/// Whether two names are those of one lock: MySQL compares them without regard to case, MariaDB byte by byte.
fn is_same(one: &[u8], other: &[u8], dialect: Dialect) -> bool {
    one == other || dialect == Dialect::MySql && one.eq_ignore_ascii_case(other)
}

/// See the file.
#[derive(Debug, Default)]
pub(super) struct NamedLocks {
    names: Vec<Lock>,
    /// Taken by names that are no literals.
    unknown: u32,
    /// Taken once for each row of a table: how often is not known, and only RELEASE_ALL_LOCKS() ends it.
    many: bool,
}

impl NamedLocks {
    pub(super) fn any(&self) -> bool {
        self.many || self.unknown > 0 || !self.names.is_empty()
    }

    /// What to ask the server: a column for each lock that it was not asked about.
    pub(super) fn question(&self) -> Option<String> {
        let columns = self.names.iter().filter(|lock| lock.unasked);
        let columns: Vec<String> =
            columns.map(|lock| format!("IS_USED_LOCK('{}') = CONNECTION_ID()", String::from_utf8_lossy(&lock.name))).collect();
        (!columns.is_empty()).then(|| format!("SELECT {} LIMIT 1", columns.join(", ")))
    }

    /// The answer: which of them the connection holds. One that is not told is taken for held.
    pub(super) fn are(&mut self, held: &[bool]) {
        let mut told = held.iter();
        self.names.retain_mut(|lock| !std::mem::take(&mut lock.unasked) || told.next().copied().unwrap_or(true));
    }

    /// Learns from the calls in a statement. `ok`: it ended well; what a failed one took stays taken, what it released may not be.
    pub(super) fn learn(&mut self, sql: &[u8], mode: LexMode, ok: bool) {
        let by_row = Lexer::new(sql, mode).any(|token| {
            token.kind == TokenKind::Word && sql.get(token.start..token.end).is_some_and(|word| word.eq_ignore_ascii_case(b"FROM"))
        });
        let mut tokens = Lexer::new(sql, mode).filter(|token| token.kind != TokenKind::Comment);
        while let Some(token) = tokens.next() {
            let word = sql.get(token.start..token.end).unwrap_or_default();
            let takes = word.eq_ignore_ascii_case(b"GET_LOCK");
            if token.kind != TokenKind::Word || !(takes || ok && word.eq_ignore_ascii_case(b"RELEASE_LOCK")) {
                continue;
            }
            if tokens.next().is_none_or(|token| token.kind != TokenKind::LParen) {
                continue;
            }
            let name = tokens.next().filter(|token| token.kind == TokenKind::String);
            let name = name.map(|token| sql.get(token.start..token.end).unwrap_or_default());
            let name = name.map(|name| plain(name).map_or((name.into(), false), |name| (name, true)));
            match (takes, name) {
                (true, _) if by_row => self.many = true,
                // For each row, and perhaps for none.
                (false, _) if by_row => {}
                (true, Some((name, unasked))) if self.names.len() < NAMES_MAX => self.names.push(Lock { name, unasked }),
                (true, _) => self.unknown = self.unknown.saturating_add(1),
                // What is not sure to be the one that was taken ends nothing: a lock must not stay behind for the next session.
                (false, Some((name, _))) => {
                    let same = |lock: &Lock| is_same(&lock.name, &name, mode.dialect);
                    if let Some(at) = self.names.iter().position(same) {
                        self.names.swap_remove(at);
                    }
                }
                (false, None) => self.unknown = self.unknown.saturating_sub(1),
            }
        }
    }
}

impl Session {
    /// What to ask the connection about named locks that the session wanted. A session that has its statements noted there stays, whatever it has
    /// locked, and would find the question among them.
    pub fn locks_question(&self) -> Option<String> {
        let asks = self.pins.has(PinReason::NamedLock) && !self.pins.has(PinReason::SessionStatus);
        if asks { self.named_locks.question() } else { None }
    }

    /// Which of them it has. Of what is not told it has all.
    pub fn locks_are(&mut self, held: &[bool]) {
        self.named_locks.are(held);
        self.pins.set(PinReason::NamedLock, self.named_locks.any());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_says_was_refused_is_not_held() {
        let mut locks = NamedLocks::default();
        let learn = |sql: &str, locks: &mut NamedLocks| locks.learn(sql.as_bytes(), LexMode::default(), true);
        learn("SELECT GET_LOCK('Leader', 0)", &mut locks);
        assert_eq!(locks.question().as_deref(), Some("SELECT IS_USED_LOCK('Leader') = CONNECTION_ID() LIMIT 1"));
        locks.are(&[false]);
        assert!(!locks.any());
        learn("SELECT GET_LOCK('a', 0), GET_LOCK('b', 0)", &mut locks);
        locks.are(&[true, false]);
        assert_eq!((locks.any(), locks.question()), (true, None));
        learn("SELECT RELEASE_LOCK('A')", &mut locks);
        assert!(locks.any(), "on MariaDB that is another lock");
        let mysql = LexMode { dialect: Dialect::MySql, ..LexMode::default() };
        locks.learn(b"SELECT RELEASE_LOCK('A')", mysql, true);
        assert!(!locks.any());
        learn(r"SELECT GET_LOCK('it\'s', 0)", &mut locks);
        assert_eq!((locks.any(), locks.question()), (true, None), "it is not asked for what may be read otherwise");
    }

    #[test]
    fn a_lock_is_held_until_it_was_released_as_often_as_taken() {
        for (statements, held) in [
            (&["SELECT GET_LOCK('a', 1)"][..], true),
            (&["SELECT GET_LOCK('a', 1)", "DO RELEASE_LOCK('a')"], false),
            (&["SELECT GET_LOCK('a', 1)", "DO RELEASE_LOCK('A')"], true),
            (&["SELECT GET_LOCK('a', 1), GET_LOCK('b', 1)", "DO RELEASE_LOCK('a')"], true),
            (&["SELECT GET_LOCK('a', 1), GET_LOCK('a', 1)", "DO RELEASE_LOCK('a')"], true),
            (&["SELECT GET_LOCK('a', 1)", "DO RELEASE_LOCK('other')"], true),
            (&["SELECT GET_LOCK(?, 1)", "DO RELEASE_LOCK(?)"], false),
            (&["SELECT GET_LOCK(CONCAT('a', 1), 1)", "DO RELEASE_LOCK('x')"], true),
            (&["SELECT get_lock('a', 1)", "DO RELEASE_LOCK(@a)"], true),
            (&["SELECT GET_LOCK('a', 1) FROM t", "DO RELEASE_LOCK('a')"], true),
            (&["SELECT GET_LOCK('a', 1)", "SELECT RELEASE_LOCK('a') FROM t WHERE 0"], true),
        ] {
            let mut locks = NamedLocks::default();
            for sql in statements {
                locks.learn(sql.as_bytes(), LexMode::default(), true);
            }
            assert_eq!(locks.any(), held, "{statements:?}");
        }
    }
}
