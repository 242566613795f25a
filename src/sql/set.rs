//! Reads SET statements from the raw text: which variables, in which scope, to what, as written.
//! Source: MySQL 8.4 Reference Manual, "SET Syntax for Variable Assignment", "SET NAMES", "SET TRANSACTION", "SET ROLE"; MariaDB "SET", "SET STATEMENT".
//!
//! What it does not do: judge whether the value is known, or what the variable means; the session's table of variables does.

use super::cursor::{Cursor, tokens, unquote, user_variable};
use super::lexer::{LexMode, TokenKind, exec_content};
use super::transaction::Access;

/// Most tokens of a SET that is read; mysqldump's longest has fewer than a hundred.
const MAX_TOKENS: usize = 4096;

/// Where an assignment is kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scope {
    /// The session's value.
    Session,
    /// The server's value.
    Global,
    /// The server's value and its file (PERSIST, PERSIST_ONLY).
    Persist,
    /// A user variable.
    User,
}

/// The right side of an assignment.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum SetValue {
    /// One literal or bare word, as written: `0`, `-1`, `'utf8mb4'`, `ON`.
    Literal(Vec<u8>),
    /// `DEFAULT`
    Default,
    /// Anything else, as written: `@@sql_mode`, `CONCAT(@@sql_mode, ',x')`, `@old`, `?`.
    Expression(Vec<u8>),
}

impl SetValue {
    /// The literal as text without quotes (escapes left as they are); `None` for anything else.
    pub fn as_text(&self) -> Option<String> {
        match self {
            SetValue::Literal(raw) => Some(unquote(raw)),
            _ => None,
        }
    }
}

/// One `name = value` of a SET.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Assignment {
    /// Where it is kept.
    pub scope: Scope,
    /// The variable in lower case, user variables without `@`. SET NAMES and SET CHARACTER SET have the names `names` and `character set`.
    pub name: String,
    /// To what.
    pub value: SetValue,
    /// The COLLATE of SET NAMES, without quotes.
    pub collation: Option<String>,
    /// Written `@@name`, without a word for the scope: for `@@transaction_isolation` that is another one.
    pub bare: bool,
}

/// A SET statement.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum SetStatement {
    /// `SET a = 1, @b = 2, NAMES utf8mb4`
    Assignments(Vec<Assignment>),
    /// `SET [scope] TRANSACTION ...`
    Transaction {
        /// `None`: for the next transaction only.
        scope: Option<Scope>,
        /// `READ ONLY` or `READ WRITE`.
        access: Access,
        /// `ISOLATION LEVEL`, in the form of the variable: `READ-COMMITTED`.
        isolation: Option<&'static str>,
    },
    /// `SET ROLE ...`, what follows ROLE as written.
    Role(Vec<u8>),
    /// `SET DEFAULT ROLE ...`, `SET PASSWORD ...`: changes accounts.
    Account,
}

/// Reads a whole SET statement. `None`: it is no SET, or of a shape not known here (`SET STATEMENT .. FOR ..` among them).
pub fn parse(sql: &[u8], mode: LexMode) -> Option<SetStatement> {
    // mysqldump writes its SETs as /*!40101 SET NAMES utf8 */; text that every supported server reads counts.
    let mut tokens = tokens(sql, mode, MAX_TOKENS, |_, comment| exec_content(comment).0.is_none_or(|version| version < 50_700))?;
    while tokens.last().is_some_and(|token| token.kind == TokenKind::Semicolon) {
        tokens.pop();
    }
    parse_tokens(Cursor::new(sql, &tokens))
}

pub(crate) fn parse_tokens(mut cursor: Cursor<'_>) -> Option<SetStatement> {
    if !cursor.eat("SET") || cursor.rest().iter().any(|token| matches!(token.kind, TokenKind::Semicolon | TokenKind::Bad)) {
        return None;
    }
    if cursor.is("STATEMENT") && !cursor.token(1).is_some_and(|token| matches!(cursor.bytes(token), b"=" | b":=")) {
        return None;
    }
    if cursor.eat("PASSWORD") {
        return Some(SetStatement::Account);
    }
    if cursor.eat_all(&["DEFAULT", "ROLE"]) {
        return Some(SetStatement::Account);
    }
    if cursor.is("ROLE") && !cursor.token(1).is_some_and(|token| matches!(cursor.bytes(token), b"=" | b":=")) {
        cursor.pos += 1;
        let (first, last) = (cursor.rest().first()?, cursor.rest().last()?);
        return Some(SetStatement::Role(cursor.text.get(first.start..last.end)?.to_vec()));
    }
    if let Some(transaction) = transaction(cursor) {
        return transaction;
    }
    let mut assignments = Vec::new();
    // `SET GLOBAL a = 1, b = 2` sets both globally (the manual of MySQL says so; MariaDB does it too).
    let mut current = Scope::Session;
    loop {
        let (scope, written) = scope_word(&mut cursor);
        current = if written { scope } else { current };
        assignments.push(assignment(&mut cursor, current)?);
        if cursor.at_end() {
            return Some(SetStatement::Assignments(assignments));
        }
        if !cursor.eat_kind(TokenKind::Comma) {
            return None;
        }
    }
}

/// The scope, and whether a word for it stood there.
fn scope_word(cursor: &mut Cursor<'_>) -> (Scope, bool) {
    let assigned = cursor.token(1).is_some_and(|token| matches!(cursor.bytes(token), b"=" | b":=" | b"."));
    if assigned {
        (Scope::Session, false)
    } else if cursor.eat("GLOBAL") {
        (Scope::Global, true)
    } else if cursor.eat_any(&["PERSIST", "PERSIST_ONLY"]) {
        (Scope::Persist, true)
    } else {
        (Scope::Session, cursor.eat_any(&["SESSION", "LOCAL"]))
    }
}

fn transaction(mut cursor: Cursor<'_>) -> Option<Option<SetStatement>> {
    let (scope, written) = scope_word(&mut cursor);
    if !cursor.eat("TRANSACTION") || cursor.eat_op("=") || cursor.eat_op(":=") {
        return None;
    }
    let (mut access, mut isolation) = (Access::Unspecified, None);
    loop {
        if cursor.eat_all(&["READ", "ONLY"]) {
            access = Access::ReadOnly;
        } else if cursor.eat_all(&["READ", "WRITE"]) {
            access = Access::ReadWrite;
        } else if cursor.eat_all(&["ISOLATION", "LEVEL"]) {
            const LEVELS: [(&[&str], &str); 4] = [
                (&["READ", "UNCOMMITTED"], "READ-UNCOMMITTED"),
                (&["READ", "COMMITTED"], "READ-COMMITTED"),
                (&["REPEATABLE", "READ"], "REPEATABLE-READ"),
                (&["SERIALIZABLE"], "SERIALIZABLE"),
            ];
            isolation = LEVELS.iter().find(|(words, _)| cursor.eat_all(words)).map(|(_, name)| *name);
            if isolation.is_none() {
                return Some(None);
            }
        } else {
            return Some(None);
        }
        if !cursor.eat_kind(TokenKind::Comma) {
            break;
        }
    }
    let statement = SetStatement::Transaction { scope: written.then_some(scope), access, isolation };
    Some(cursor.at_end().then_some(statement))
}

fn assignment(cursor: &mut Cursor<'_>, scope: Scope) -> Option<Assignment> {
    let token = cursor.token(0)?;
    let assigned = cursor.token(1).is_some_and(|token| matches!(cursor.bytes(token), b"=" | b":="));
    if !assigned && cursor.eat("NAMES") {
        let value = charset_name(cursor)?;
        // COLLATE DEFAULT is what no COLLATE means.
        let collation = if cursor.eat("COLLATE") { charset_name(cursor)?.as_text() } else { None };
        return Some(Assignment { scope: Scope::Session, name: "names".to_owned(), value, collation, bare: false });
    }
    if !assigned && (cursor.eat_all(&["CHARACTER", "SET"]) || cursor.eat_all(&["CHAR", "SET"]) || cursor.eat("CHARSET")) {
        let value = charset_name(cursor)?;
        return Some(Assignment { scope: Scope::Session, name: "character set".to_owned(), value, collation: None, bare: false });
    }
    let mut bare = false;
    let (scope, name) = match token.kind {
        TokenKind::UserVar => {
            cursor.pos += 1;
            (Scope::User, user_variable(cursor.bytes(token)))
        }
        TokenKind::SysVar => {
            cursor.pos += 1;
            let (prefix, name) = super::cursor::system_variable(cursor.bytes(token));
            let scope = match prefix.as_str() {
                "global" => Scope::Global,
                "persist" | "persist_only" => Scope::Persist,
                "" => {
                    bare = true;
                    scope
                }
                _ => Scope::Session,
            };
            (scope, name)
        }
        _ => {
            let mut name = cursor.name()?;
            while cursor.eat_kind(TokenKind::Dot) {
                name = format!("{name}.{}", cursor.name()?);
            }
            (scope, name.to_ascii_lowercase())
        }
    };
    if !cursor.eat_op("=") && !cursor.eat_op(":=") {
        return None;
    }
    Some(Assignment { scope, name, value: value(cursor)?, collation: None, bare })
}

fn charset_name(cursor: &mut Cursor<'_>) -> Option<SetValue> {
    let token = cursor.token(0)?;
    cursor.pos += 1;
    match token.kind {
        TokenKind::Word if cursor.bytes(token).eq_ignore_ascii_case(b"DEFAULT") => Some(SetValue::Default),
        TokenKind::Word | TokenKind::QuotedIdent | TokenKind::String => Some(SetValue::Literal(cursor.bytes(token).to_vec())),
        TokenKind::Param => Some(SetValue::Expression(b"?".to_vec())),
        _ => None,
    }
}

/// Everything up to the next comma outside parentheses.
fn value(cursor: &mut Cursor<'_>) -> Option<SetValue> {
    let begin = cursor.pos;
    let mut depth = 0usize;
    while let Some(kind) = cursor.kind() {
        match kind {
            TokenKind::LParen => depth += 1,
            TokenKind::RParen => depth = depth.checked_sub(1)?,
            TokenKind::Comma if depth == 0 => break,
            _ => {}
        }
        cursor.pos += 1;
    }
    let parts = cursor.tokens.get(begin..cursor.pos)?;
    let (first, last) = (parts.first()?, parts.last()?);
    let raw = cursor.text.get(first.start..last.end)?.to_vec();
    Some(match parts {
        [one] if one.kind == TokenKind::Word && raw.eq_ignore_ascii_case(b"DEFAULT") => SetValue::Default,
        [one] if matches!(one.kind, TokenKind::Word | TokenKind::String | TokenKind::Number | TokenKind::QuotedIdent) => {
            SetValue::Literal(raw)
        }
        [sign, number]
            if sign.kind == TokenKind::Op && number.kind == TokenKind::Number && matches!(raw.first(), Some(b'-' | b'+')) =>
        {
            SetValue::Literal(raw)
        }
        _ => SetValue::Expression(raw),
    })
}

#[cfg(test)]
mod tests;
