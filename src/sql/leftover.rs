//! Statements that ask what the statement before left on its connection, or which connection it is: `SHOW WARNINGS`,
//! `SELECT ROW_COUNT()`, `SELECT @@warning_count`, `SELECT @@last_gtid`, `SELECT CONNECTION_ID()`. Where nothing else is asked, the session itself can say
//! it; where they stand inside something else, what is known is put in their place.
//!
//! Sources: MySQL 8.4 Reference Manual, "Information Functions", "SHOW WARNINGS Statement"; MariaDB, the same names.

use super::cursor::{Cursor, system_variable, tokens};
use super::lexer::{LexMode, Token, TokenKind};

/// A statement that asks for nothing but this is short.
const MAX_TOKENS: usize = 200;
/// Statements longer than this are not looked through.
const SUBSTITUTE_TOKENS_MAX: usize = 20_000;

/// One thing asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Leftover {
    /// `@@warning_count`, `SHOW COUNT(*) WARNINGS`
    WarningCount,
    /// `@@error_count`, `SHOW COUNT(*) ERRORS`
    ErrorCount,
    /// `ROW_COUNT()`
    RowCount,
    /// `FOUND_ROWS()`
    FoundRows,
    /// `CONNECTION_ID()`, `@@pseudo_thread_id`
    ConnectionId,
    /// `LAST_INSERT_ID()`
    LastInsertId,
    /// `@@last_gtid` of MariaDB
    LastGtid,
}

/// A statement that asks for nothing else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    /// `SHOW WARNINGS`, `SHOW ERRORS`
    Conditions {
        /// Only errors.
        errors: bool,
        /// The first to be told.
        offset: usize,
        /// How many at most.
        count: usize,
    },
    /// One row of these, in this order.
    Values(Vec<Leftover>),
}

/// What this statement asks for, if that is all it does.
pub fn asked(sql: &[u8], mode: LexMode) -> Option<Asked> {
    let mut tokens = tokens(sql, mode, MAX_TOKENS, |_, _| true)?;
    while tokens.last().is_some_and(|token| token.kind == TokenKind::Semicolon) {
        tokens.pop();
    }
    let mut cursor = Cursor::new(sql, &tokens);
    if cursor.eat("SHOW") {
        return show(cursor);
    }
    if !cursor.eat("SELECT") {
        return None;
    }
    let mut values = Vec::new();
    loop {
        values.push(leftover(&mut cursor)?);
        let named = cursor.eat("AS") || !cursor.at_end() && !cursor.is("FROM") && cursor.kind() != Some(TokenKind::Comma);
        if named {
            alias(&mut cursor)?;
        }
        if cursor.eat_kind(TokenKind::Comma) {
            continue;
        }
        cursor.eat_all(&["FROM", "DUAL"]);
        return cursor.at_end().then_some(Asked::Values(values));
    }
}

fn alias(cursor: &mut Cursor<'_>) -> Option<()> {
    let known = matches!(cursor.kind()?, TokenKind::Word | TokenKind::QuotedIdent | TokenKind::String);
    cursor.pos += 1;
    known.then_some(())
}

fn leftover(cursor: &mut Cursor<'_>) -> Option<Leftover> {
    let (found, len) = at(*cursor)?;
    cursor.pos += len;
    Some(found)
}

/// The one that stands here, and its tokens.
fn at(cursor: Cursor<'_>) -> Option<(Leftover, usize)> {
    let token = cursor.token(0)?;
    match token.kind {
        TokenKind::SysVar => {
            let found = match system_variable(cursor.bytes(token)) {
                (scope, name) if matches!(scope.as_str(), "" | "session" | "local") => match name.as_str() {
                    "warning_count" => Leftover::WarningCount,
                    "error_count" => Leftover::ErrorCount,
                    "pseudo_thread_id" => Leftover::ConnectionId,
                    "last_insert_id" | "identity" => Leftover::LastInsertId,
                    "last_gtid" => Leftover::LastGtid,
                    _ => return None,
                },
                _ => return None,
            };
            Some((found, 1))
        }
        TokenKind::Word => {
            const FUNCTIONS: [(&str, Leftover); 4] = [
                ("ROW_COUNT", Leftover::RowCount),
                ("FOUND_ROWS", Leftover::FoundRows),
                ("CONNECTION_ID", Leftover::ConnectionId),
                ("LAST_INSERT_ID", Leftover::LastInsertId),
            ];
            let found = FUNCTIONS.iter().find(|(name, _)| cursor.is(name))?.1;
            let called = cursor.token(1)?.kind == TokenKind::LParen && cursor.token(2)?.kind == TokenKind::RParen;
            called.then_some((found, 3))
        }
        _ => None,
    }
}

fn show(mut cursor: Cursor<'_>) -> Option<Asked> {
    if cursor.eat("COUNT") {
        let star = cursor.eat_kind(TokenKind::LParen) && cursor.eat_op("*") && cursor.eat_kind(TokenKind::RParen);
        let value = if cursor.eat("WARNINGS") {
            Leftover::WarningCount
        } else if cursor.eat("ERRORS") {
            Leftover::ErrorCount
        } else {
            return None;
        };
        return (star && cursor.at_end()).then(|| Asked::Values(vec![value]));
    }
    let errors = cursor.is("ERRORS");
    if !cursor.eat_any(&["WARNINGS", "ERRORS"]) {
        return None;
    }
    let (mut offset, mut count) = (0, usize::MAX);
    if cursor.eat("LIMIT") {
        count = number(&mut cursor)?;
        if cursor.eat_kind(TokenKind::Comma) {
            offset = std::mem::replace(&mut count, number(&mut cursor)?);
        } else if cursor.eat("OFFSET") {
            offset = number(&mut cursor)?;
        }
    }
    cursor.at_end().then_some(Asked::Conditions { errors, offset, count })
}

fn number(cursor: &mut Cursor<'_>) -> Option<usize> {
    let token = cursor.token(0).filter(|token| token.kind == TokenKind::Number)?;
    cursor.pos += 1;
    std::str::from_utf8(cursor.bytes(token)).ok()?.parse().ok()
}

/// The statement with what is known in the place of these functions, or `None` when none of them stands in it. Columns of a query
/// keep the names they would have had, and counts their type: the function stands beside its value, and is warned of where it is deprecated. What stands in a definition is not for now: a view
/// asks when it is read. Of several statements only the first asks for what was before.
pub fn substitute(sql: &[u8], mode: LexMode, known: impl Fn(Leftover) -> Option<String>) -> Option<Vec<u8>> {
    let tokens = tokens(sql, mode, SUBSTITUTE_TOKENS_MAX, |_, _| false)?;
    let mut out = Vec::with_capacity(sql.len() + 64);
    let (mut copied, mut pos, mut depth) = (0, 0, 0usize);
    // The item of the outermost list of columns that is being read: where it begins, and whether something was put into it.
    let mut item: Option<(usize, bool)> = None;
    let mut replaced = false;
    // Where the statement begins that is being read.
    let mut first = 0;
    while let Some(token) = tokens.get(pos).copied() {
        let cursor = Cursor { pos, ..Cursor::new(sql, &tokens) };
        match token.kind {
            TokenKind::LParen => depth += 1,
            TokenKind::RParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        if pos == first && cursor.is_any(&["CREATE", "ALTER"]) {
            break;
        }
        let semicolon = depth == 0 && token.kind == TokenKind::Semicolon;
        let ends = semicolon
            || depth == 0
                && (token.kind == TokenKind::Comma || cursor.is_any(&["FROM", "INTO", "UNION", "LIMIT", "WHERE", "ORDER"]));
        if ends && let Some((begin, true)) = item {
            name(sql, &tokens, begin, pos, &mut copied, &mut out);
        }
        if ends {
            item = (token.kind == TokenKind::Comma && item.is_some()).then_some((pos + 1, false));
        }
        if semicolon {
            first = pos + 1;
        }
        if cursor.is("SELECT") && pos == first {
            item = Some((pos + 1, false));
        }
        if let Some((found, len)) = at(cursor)
            && (first == 0 || found == Leftover::ConnectionId)
            && let Some(value) = known(found)
            && let Some(last) = tokens.get(pos + len - 1)
        {
            out.extend_from_slice(sql.get(copied..token.start)?);
            let written = || String::from_utf8_lossy(sql.get(token.start..last.end).unwrap_or_default());
            let value = match found {
                Leftover::RowCount | Leftover::FoundRows => format!("IF(1,{value},{})", written()),
                Leftover::WarningCount | Leftover::ErrorCount => format!("IF(1,CAST({value} AS UNSIGNED),{})", written()),
                Leftover::ConnectionId | Leftover::LastInsertId | Leftover::LastGtid => value,
            };
            out.extend_from_slice(value.as_bytes());
            copied = last.end;
            replaced = true;
            item = item.map(|(begin, _)| (begin, true));
            pos += len;
            continue;
        }
        pos += 1;
    }
    if let Some((begin, true)) = item {
        let end = tokens.iter().rposition(|token| token.kind != TokenKind::Semicolon).map_or(tokens.len(), |last| last + 1);
        name(sql, &tokens, begin, end, &mut copied, &mut out);
    }
    out.extend_from_slice(sql.get(copied..)?);
    replaced.then_some(out)
}

/// Gives the item of these tokens the name it would have had, unless it has one.
fn name(sql: &[u8], tokens: &[Token], begin: usize, end: usize, copied: &mut usize, out: &mut Vec<u8>) {
    let Some((first, last)) = tokens.get(begin).zip(end.checked_sub(1).and_then(|last| tokens.get(last))) else { return };
    let before = end.checked_sub(2).and_then(|at| tokens.get(at)).map(|token| token.kind);
    let is_alias = matches!(last.kind, TokenKind::Word | TokenKind::QuotedIdent | TokenKind::String)
        && end - begin > 1
        && !matches!(before, Some(TokenKind::Op | TokenKind::Dot));
    let Some(text) = sql.get(first.start..last.end) else { return };
    if is_alias || !text.is_ascii() {
        return;
    }
    out.extend_from_slice(sql.get(*copied..last.end).unwrap_or_default());
    *copied = last.end.max(*copied);
    out.extend_from_slice(b" AS `");
    out.extend_from_slice(&text.iter().flat_map(|b| if *b == b'`' { vec![b'`', b'`'] } else { vec![*b] }).collect::<Vec<u8>>());
    out.push(b'`');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_for_nothing_else() {
        use Leftover::{ConnectionId, ErrorCount, FoundRows, LastInsertId, RowCount, WarningCount};
        let conditions = |errors, offset, count| Some(Asked::Conditions { errors, offset, count });
        let values = |values: &[Leftover]| Some(Asked::Values(values.to_vec()));
        for (sql, expected) in [
            ("SHOW WARNINGS", conditions(false, 0, usize::MAX)),
            ("show errors;", conditions(true, 0, usize::MAX)),
            ("SHOW WARNINGS LIMIT 5", conditions(false, 0, 5)),
            ("SHOW WARNINGS LIMIT 2, 5", conditions(false, 2, 5)),
            ("SHOW /* x */ ERRORS LIMIT 5 OFFSET 2", conditions(true, 2, 5)),
            ("SHOW COUNT(*) WARNINGS", values(&[WarningCount])),
            ("SHOW COUNT(*) ERRORS", values(&[ErrorCount])),
            ("SELECT ROW_COUNT()", values(&[RowCount])),
            ("select row_count ( ) as n, found_rows() f from dual", values(&[RowCount, FoundRows])),
            ("SELECT @@warning_count, @@session.error_count", values(&[WarningCount, ErrorCount])),
            ("SELECT CONNECTION_ID() AS 'id', @@identity", values(&[ConnectionId, LastInsertId])),
            ("SELECT @@last_gtid AS pos", values(&[Leftover::LastGtid])),
            ("SELECT @@global.last_gtid", None),
            ("SELECT LAST_INSERT_ID(5)", None),
            ("SELECT ROW_COUNT() + 1", None),
            ("SELECT ROW_COUNT() FROM t", None),
            ("SELECT @@global.warning_count", None),
            ("SHOW WARNINGS WHERE 1", None),
            ("SELECT 1", None),
        ] {
            assert_eq!(asked(sql.as_bytes(), LexMode::default()), expected, "{sql}");
        }
    }

    #[test]
    fn what_is_known_is_put_in() {
        let known = |leftover| match leftover {
            Leftover::ConnectionId => Some("77".to_owned()),
            Leftover::RowCount => Some("3".to_owned()),
            Leftover::WarningCount => Some("2".to_owned()),
            _ => None,
        };
        for (sql, expected) in [
            ("SELECT CONNECTION_ID() + 1", Some("SELECT 77 + 1 AS `CONNECTION_ID() + 1`")),
            ("SELECT 1, CONNECTION_ID() id, CONNECTION_ID() FROM t", Some("SELECT 1, 77 id, 77 AS `CONNECTION_ID()` FROM t")),
            ("SELECT a FROM t WHERE id = connection_id()", Some("SELECT a FROM t WHERE id = 77")),
            ("SELECT CONCAT('x', CONNECTION_ID())", Some("SELECT CONCAT('x', 77) AS `CONCAT('x', CONNECTION_ID())`")),
            ("INSERT INTO t VALUES (ROW_COUNT(), FOUND_ROWS())", Some("INSERT INTO t VALUES (IF(1,3,ROW_COUNT()), FOUND_ROWS())")),
            ("SET @a = ROW_COUNT()", Some("SET @a = IF(1,3,ROW_COUNT())")),
            ("SET @a = @@warning_count", Some("SET @a = IF(1,CAST(2 AS UNSIGNED),@@warning_count)")),
            ("SELECT 'CONNECTION_ID()'", None),
            ("CREATE VIEW v AS SELECT CONNECTION_ID(), ROW_COUNT()", None),
            ("CREATE TABLE t (a INT, b BIGINT AS (a + CONNECTION_ID()))", None),
            ("ALTER VIEW v AS SELECT ROW_COUNT()", None),
            (
                "SELECT ROW_COUNT(), 1; SELECT 2, ROW_COUNT(); SELECT CONNECTION_ID()",
                Some(
                    "SELECT IF(1,3,ROW_COUNT()) AS `ROW_COUNT()`, 1; SELECT 2, ROW_COUNT(); \
                     SELECT 77 AS `CONNECTION_ID()`",
                ),
            ),
            (
                "SELECT ROW_COUNT(); CREATE VIEW v AS SELECT CONNECTION_ID()",
                Some("SELECT IF(1,3,ROW_COUNT()) AS `ROW_COUNT()`; CREATE VIEW v AS SELECT CONNECTION_ID()"),
            ),
            ("SELECT FOUND_ROWS()", None),
        ] {
            let made = substitute(sql.as_bytes(), LexMode::default(), known);
            assert_eq!(made.as_deref().map(String::from_utf8_lossy).as_deref(), expected, "{sql}");
        }
    }
}
