//! Transaction control: BEGIN, START TRANSACTION, COMMIT, ROLLBACK, savepoints.
//! Source: MySQL 8.4 Reference Manual, "START TRANSACTION, COMMIT, and ROLLBACK Statements"; MariaDB "START TRANSACTION", "BEGIN END" (NOT ATOMIC).

use super::cursor::{Cursor, tokens};
use super::lexer::{LexMode, TokenKind, exec_content};

/// A transaction statement has a handful of tokens; a longer one is none.
const MAX_TOKENS: usize = 64;

/// What START TRANSACTION says about writing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Access {
    /// Nothing: `transaction_read_only` of the session decides.
    #[default]
    Unspecified,
    /// `READ WRITE`
    ReadWrite,
    /// `READ ONLY`
    ReadOnly,
}

/// `BEGIN` or `START TRANSACTION`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct TransactionStart {
    /// `READ ONLY`, `READ WRITE` or nothing.
    pub access: Access,
    /// `WITH CONSISTENT SNAPSHOT`
    pub snapshot: bool,
}

/// `COMMIT` or `ROLLBACK`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TransactionEnd {
    /// COMMIT, not ROLLBACK.
    pub commit: bool,
    /// `AND CHAIN` / `AND NO CHAIN`; `None`: `completion_type` decides.
    pub chain: Option<bool>,
    /// `RELEASE` / `NO RELEASE`; `None`: `completion_type` decides.
    pub release: Option<bool>,
}

/// One statement of transaction control.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TransactionStatement {
    /// BEGIN, START TRANSACTION
    Start(TransactionStart),
    /// COMMIT, ROLLBACK
    End(TransactionEnd),
    /// SAVEPOINT name
    Savepoint(String),
    /// ROLLBACK TO \[SAVEPOINT\] name
    RollbackTo(String),
    /// RELEASE SAVEPOINT name
    ReleaseSavepoint(String),
}

/// Reads a whole statement. `None`: it is something else, or is not written the way the manuals allow
/// (`BEGIN NOT ATOMIC` begins a block of statements, not a transaction).
pub fn parse(sql: &[u8], mode: LexMode) -> Option<TransactionStatement> {
    // Executable comments that every supported server reads count as text.
    let mut tokens = tokens(sql, mode, MAX_TOKENS, |_, comment| exec_content(comment).0.is_none_or(|version| version < 50_700))?;
    while tokens.last().is_some_and(|token| token.kind == TokenKind::Semicolon) {
        tokens.pop();
    }
    parse_tokens(Cursor::new(sql, &tokens))
}

pub(crate) fn parse_tokens(mut cursor: Cursor<'_>) -> Option<TransactionStatement> {
    let statement = if cursor.eat("BEGIN") {
        cursor.eat("WORK");
        TransactionStatement::Start(TransactionStart::default())
    } else if cursor.eat_all(&["START", "TRANSACTION"]) {
        TransactionStatement::Start(start(&mut cursor)?)
    } else if cursor.eat("COMMIT") {
        cursor.eat("WORK");
        end(&mut cursor, true)?
    } else if cursor.eat("ROLLBACK") {
        cursor.eat("WORK");
        if cursor.eat("TO") {
            cursor.eat("SAVEPOINT");
            TransactionStatement::RollbackTo(cursor.name()?)
        } else {
            end(&mut cursor, false)?
        }
    } else if cursor.eat("SAVEPOINT") {
        TransactionStatement::Savepoint(cursor.name()?)
    } else if cursor.eat_all(&["RELEASE", "SAVEPOINT"]) {
        TransactionStatement::ReleaseSavepoint(cursor.name()?)
    } else {
        return None;
    };
    cursor.at_end().then_some(statement)
}

fn start(cursor: &mut Cursor<'_>) -> Option<TransactionStart> {
    let mut found = TransactionStart::default();
    if cursor.at_end() {
        return Some(found);
    }
    loop {
        if cursor.eat_all(&["WITH", "CONSISTENT", "SNAPSHOT"]) {
            found.snapshot = true;
        } else if cursor.eat_all(&["READ", "ONLY"]) {
            found.access = Access::ReadOnly;
        } else if cursor.eat_all(&["READ", "WRITE"]) {
            found.access = Access::ReadWrite;
        } else {
            return None;
        }
        if !cursor.eat_kind(TokenKind::Comma) {
            return Some(found);
        }
    }
}

fn end(cursor: &mut Cursor<'_>, commit: bool) -> Option<TransactionStatement> {
    let (mut chain, mut release) = (None, None);
    if cursor.eat("AND") {
        let no = cursor.eat("NO");
        if !cursor.eat("CHAIN") {
            return None;
        }
        chain = Some(!no);
    }
    if cursor.eat_all(&["NO", "RELEASE"]) {
        release = Some(false);
    } else if cursor.eat("RELEASE") {
        release = Some(true);
    }
    Some(TransactionStatement::End(TransactionEnd { commit, chain, release }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_manuals_allow() {
        let start = |access, snapshot| Some(TransactionStatement::Start(TransactionStart { access, snapshot }));
        let end = |commit, chain, release| Some(TransactionStatement::End(TransactionEnd { commit, chain, release }));
        let table = [
            ("BEGIN", start(Access::Unspecified, false)),
            ("begin work;", start(Access::Unspecified, false)),
            ("/* c */ START /* d */ TRANSACTION -- e", start(Access::Unspecified, false)),
            ("START TRANSACTION READ ONLY", start(Access::ReadOnly, false)),
            ("START TRANSACTION READ WRITE", start(Access::ReadWrite, false)),
            ("START TRANSACTION WITH CONSISTENT SNAPSHOT", start(Access::Unspecified, true)),
            ("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY", start(Access::ReadOnly, true)),
            ("START TRANSACTION /*!40100 WITH CONSISTENT SNAPSHOT */", start(Access::Unspecified, true)),
            ("START TRANSACTION READ", None),
            ("START SLAVE", None),
            ("BEGIN NOT ATOMIC SELECT 1; END", None),
            ("COMMIT", end(true, None, None)),
            ("COMMIT WORK AND CHAIN", end(true, Some(true), None)),
            ("COMMIT AND NO CHAIN RELEASE", end(true, Some(false), Some(true))),
            ("ROLLBACK NO RELEASE", end(false, None, Some(false))),
            ("ROLLBACK TO a", Some(TransactionStatement::RollbackTo("a".to_owned()))),
            ("ROLLBACK WORK TO SAVEPOINT `a``b`", Some(TransactionStatement::RollbackTo("a`b".to_owned()))),
            ("SAVEPOINT sp1", Some(TransactionStatement::Savepoint("sp1".to_owned()))),
            ("RELEASE SAVEPOINT sp1", Some(TransactionStatement::ReleaseSavepoint("sp1".to_owned()))),
            ("COMMIT; SELECT 1", None),
            ("SELECT 1", None),
        ];
        for (sql, expected) in table {
            assert_eq!(parse(sql.as_bytes(), LexMode::default()), expected, "{sql}");
        }
    }
}
