//! Is the id in an INSERT's OK the one that `LAST_INSERT_ID()` tells from then on?
//!
//! An OK packet tells the AUTO_INCREMENT value of the (first) row, also where the statement gave it itself; `LAST_INSERT_ID()` tells
//! only values that the server made. Whether one was given can be seen where a statement's values are literals and parameters.
//!
//! Sources: MySQL 8.4 Reference Manual, "Information Functions", LAST_INSERT_ID(); C API Guide, "mysql_insert_id()".

use super::verbs::table;
use super::verdict::Verdict;
use crate::sql::cursor::{Cursor, tokens};
use crate::sql::lexer::{LexMode, TokenKind};

/// The most tokens looked at; rows of literals are one in a digest.
const TOKENS_MAX: usize = 2_000;
/// Longer texts and payloads are not searched.
const SEARCHED_MAX: usize = 4096;
/// Functions that stand in many INSERTs and give no id.
const NO_ID: [&str; 9] =
    ["NOW", "CURRENT_TIMESTAMP", "CURRENT_DATE", "CURDATE", "CURTIME", "UTC_TIMESTAMP", "LOCALTIMESTAMP", "SYSDATE", "UUID"];

/// Whether the id in the OK is `LAST_INSERT_ID()` unless the statement names it among its literals or parameters.
pub(super) fn told_by_ok(digest: &[u8], mode: LexMode, verdict: &Verdict) -> bool {
    if verdict.multi || verdict.effects.opaque || verdict.exec_comments {
        return false;
    }
    let Some(tokens) = tokens(digest, mode, TOKENS_MAX, |_, _| true) else { return false };
    let mut cursor = Cursor::new(digest, &tokens);
    if cursor.is("UPDATE") {
        return verdict.effects.sets_last_insert_id;
    }
    cursor.eat_any(&["INSERT", "REPLACE"]) && values(cursor).is_some()
}

/// `[INTO] t [(columns)] VALUES (...), ...` or `SET column = ..., ...` of literals, parameters and harmless functions, to its end.
fn values(mut cursor: Cursor<'_>) -> Option<()> {
    cursor.eat_any(&["LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY"]);
    cursor.eat("INTO");
    table(&mut cursor)?;
    if cursor.eat("SET") {
        loop {
            cursor.name()?;
            cursor.eat_op("=").then_some(())?;
            value(&mut cursor)?;
            if !cursor.eat_kind(TokenKind::Comma) {
                return cursor.at_end().then_some(());
            }
        }
    }
    if cursor.eat_kind(TokenKind::LParen) {
        while cursor.eat_kind(TokenKind::Comma) || cursor.name().is_some() {}
        cursor.eat_kind(TokenKind::RParen).then_some(())?;
    }
    cursor.eat_any(&["VALUES", "VALUE"]).then_some(())?;
    loop {
        cursor.eat_kind(TokenKind::LParen).then_some(())?;
        while !cursor.eat_kind(TokenKind::RParen) {
            value(&mut cursor)?;
            (cursor.eat_kind(TokenKind::Comma) || cursor.kind() == Some(TokenKind::RParen)).then_some(())?;
        }
        if !cursor.eat_kind(TokenKind::Comma) {
            return cursor.at_end().then_some(());
        }
    }
}

fn value(cursor: &mut Cursor<'_>) -> Option<()> {
    if cursor.eat_any(&["NULL", "DEFAULT", "TRUE", "FALSE"]) {
        return Some(());
    }
    if cursor.eat_any(&NO_ID) {
        if cursor.eat_kind(TokenKind::LParen) {
            cursor.eat_kind(TokenKind::Param);
            cursor.eat_kind(TokenKind::RParen).then_some(())?;
        }
        return Some(());
    }
    let _ = cursor.eat_op("-") || cursor.eat_op("+");
    let literal = matches!(cursor.kind()?, TokenKind::Param | TokenKind::Number | TokenKind::String);
    cursor.pos += 1;
    literal.then_some(())
}

/// Whether the id stands in the text or among the parameters as they are sent. In doubt it does.
pub fn names_id(text: &[u8], parameters: &[u8], id: u64) -> bool {
    // Without an allocation: every INSERT that made an id comes by here.
    let (mut place, mut rest, mut at) = ([0u8; 20], id, 20);
    loop {
        at -= 1;
        if let Some(digit) = place.get_mut(at) {
            *digit = b'0' + (rest % 10) as u8;
        }
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let digits = place.get(at..).unwrap_or_default();
    let bytes = id.to_le_bytes();
    let used = bytes.len() - (id.leading_zeros() / 8) as usize;
    let number = bytes.get(..used.max(1)).unwrap_or(&bytes);
    let has = |place: &[u8], what: &[u8]| place.len() > SEARCHED_MAX || place.windows(what.len()).any(|part| part == what);
    // Drivers without integers (Node's) send each number as a DOUBLE.
    let floats = || has(parameters, &(id as f64).to_le_bytes()) || has(parameters, &(id as f32).to_le_bytes());
    has(text, digits) || has(parameters, digits) || has(parameters, number) || floats() || may_spell(text, id)
}

/// Whether there is a number in the text that is not written in decimal digits alone: hexadecimal, bits, one with an exponent, `TRUE`.
/// What looks like one inside a string counts, too.
fn may_spell(text: &[u8], id: u64) -> bool {
    let byte = |at: usize| text.get(at).copied().unwrap_or(b' ');
    let in_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let before = |at: usize| at.checked_sub(1).map_or(b' ', byte);
    text.iter().enumerate().any(|(at, b)| match b {
        b'x' | b'X' | b'b' | b'B' => {
            let prefixed = before(at) == b'0' && at.checked_sub(1).is_some_and(|zero| !in_word(before(zero)));
            prefixed && byte(at + 1).is_ascii_hexdigit() || byte(at + 1) == b'\'' && before(at) != b'\'' && !in_word(before(at))
        }
        b'e' | b'E' => {
            let signed = usize::from(matches!(byte(at + 1), b'+' | b'-'));
            let digits = text.get(..at).unwrap_or_default().iter().rev().take_while(|b| b.is_ascii_digit() || **b == b'.').count();
            digits > 0 && byte(at + 1 + signed).is_ascii_digit() && !in_word(before(at - digits))
        }
        b't' | b'T' => id == 1 && text.get(at..at + 4).is_some_and(|word| word.eq_ignore_ascii_case(b"TRUE")),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::classify::classify;

    #[test]
    fn whose_ok_tells_last_insert_id() {
        for (sql, expected) in [
            ("INSERT INTO t (a, b) VALUES (1, 'x'), (-2, NULL)", true),
            ("INSERT INTO shop.t VALUES (NULL, ?, NOW(), CURRENT_TIMESTAMP, UUID())", true),
            ("INSERT t VALUES (DEFAULT, NOW(6)), (DEFAULT, NOW(6))", true),
            ("replace into `t` set a = 1, b = ?", true),
            ("INSERT INTO t () VALUES ()", true),
            ("UPDATE t SET n = LAST_INSERT_ID(n + 1)", true),
            ("UPDATE t SET n = n + 1", false),
            ("INSERT INTO t VALUES (70 + 7)", false),
            ("INSERT INTO t VALUES (@id)", false),
            ("INSERT INTO t VALUES (f(1))", false),
            ("INSERT INTO t VALUES (UUID_SHORT())", false),
            ("INSERT INTO t SELECT * FROM u", false),
            ("INSERT IGNORE INTO t VALUES (1)", false),
            ("INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE a = LAST_INSERT_ID(a)", false),
            ("INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)", false),
            ("LOAD DATA INFILE 'x' INTO TABLE t", false),
            ("CALL p()", false),
        ] {
            assert_eq!(classify(sql.as_bytes(), LexMode::default()).ok_tells_insert_id, expected, "{sql}");
        }
    }

    #[test]
    fn where_an_id_is_named() {
        for (text, parameters, id, expected) in [
            (&b"INSERT INTO t VALUES (77, 3)"[..], &b""[..], 77, true),
            (b"INSERT INTO t VALUES (1, '9')", b"", 77, false),
            (b"INSERT INTO t VALUES (?)", &[0, 77, 0, 0, 0], 77, true),
            (b"INSERT INTO t VALUES (?)", &[0, 1, 0, 0, 0], 70_000, false),
            (b"INSERT INTO t VALUES (?)", &[0x70, 0x11, 0x01], 70_000, true),
            (b"INSERT INTO t VALUES (?)", b"\x0570000", 70_000, true),
            (b"INSERT INTO t VALUES (18446744073709551615)", b"", u64::MAX, true),
            (b"INSERT INTO t VALUES (1844674407370955161)", b"", u64::MAX, false),
            (&[b'x'; SEARCHED_MAX + 1], b"", 1, true),
            (b"INSERT INTO t VALUES (?)", &[0, 1, 5, 0, 0, 0, 0, 0, 0x40, 0x53, 0x40], 77, true),
            (b"INSERT INTO t VALUES (?)", &[0, 1, 5, 0, 0, 0, 0, 0, 0x40, 0x53, 0x40], 78, false),
            (b"INSERT INTO t VALUES (?)", &[0, 1, 4, 0, 0, 0, 0x9a, 0x42], 77, true),
            (b"INSERT INTO t VALUES (0x4D)", b"", 77, true),
            (b"INSERT INTO t VALUES (X'4D')", b"", 77, true),
            (b"INSERT INTO t VALUES (0b1001101)", b"", 77, true),
            (b"INSERT INTO t VALUES (b'1001101')", b"", 77, true),
            (b"INSERT INTO t VALUES (1e2)", b"", 100, true),
            (b"INSERT INTO t VALUES ('1.0E+2')", b"", 100, true),
            (b"INSERT INTO t VALUES (true)", b"", 1, true),
            (b"INSERT INTO t VALUES (TRUE)", b"", 2, false),
            (b"INSERT INTO box (tab, hex) VALUES ('d3b0e2-4c9b', 'a1e2f', 'e3', 'b', 'x')", b"", 77, false),
        ] {
            assert_eq!(names_id(text, parameters, id), expected, "{id} in {parameters:?}");
        }
    }
}
