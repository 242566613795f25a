//! `GET DIAGNOSTICS` with user variables as targets: which are assigned what.
//! Source: MySQL 8.4 Reference Manual, "GET DIAGNOSTICS Statement"; MariaDB "GET DIAGNOSTICS".

use super::cursor::{Cursor, tokens, user_variable};
use super::lexer::{LexMode, TokenKind};

/// Longer ones are left to the server.
const MAX_TOKENS: usize = 200;

/// What a target gets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Item {
    /// `NUMBER`: how many conditions there are.
    Number,
    /// `ROW_COUNT`
    RowCount,
    /// `MYSQL_ERRNO`
    Errno,
    /// `MESSAGE_TEXT`
    Message,
    /// `RETURNED_SQLSTATE`
    SqlState,
}

/// One statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GetDiagnostics {
    /// The number behind CONDITION, from 1.
    pub condition: Option<usize>,
    /// Names of user variables without `@`, and what each gets.
    pub targets: Vec<(String, Item)>,
}

/// Reads a whole statement; `None` when it is another, or asks for something else.
pub fn parse(sql: &[u8], mode: LexMode) -> Option<GetDiagnostics> {
    let mut tokens = tokens(sql, mode, MAX_TOKENS, |_, _| true)?;
    while tokens.last().is_some_and(|token| token.kind == TokenKind::Semicolon) {
        tokens.pop();
    }
    let mut cursor = Cursor::new(sql, &tokens);
    if !cursor.eat("GET") {
        return None;
    }
    cursor.eat("CURRENT");
    if !cursor.eat("DIAGNOSTICS") {
        return None;
    }
    let condition = if cursor.eat("CONDITION") {
        let number = cursor.token(0).filter(|token| token.kind == TokenKind::Number)?;
        cursor.pos += 1;
        Some(std::str::from_utf8(cursor.bytes(number)).ok()?.parse().ok()?)
    } else {
        None
    };
    let known: &[(&str, Item)] = match condition {
        None => &[("NUMBER", Item::Number), ("ROW_COUNT", Item::RowCount)],
        Some(_) => &[("MYSQL_ERRNO", Item::Errno), ("MESSAGE_TEXT", Item::Message), ("RETURNED_SQLSTATE", Item::SqlState)],
    };
    let mut targets = Vec::new();
    loop {
        let target = cursor.token(0).filter(|token| token.kind == TokenKind::UserVar)?;
        cursor.pos += 1;
        if !cursor.eat_op("=") {
            return None;
        }
        let item = known.iter().find(|(word, _)| cursor.is(word))?.1;
        cursor.pos += 1;
        targets.push((user_variable(cursor.bytes(target)), item));
        if cursor.at_end() {
            return Some(GetDiagnostics { condition, targets });
        }
        if !cursor.eat_kind(TokenKind::Comma) {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_assigned() {
        let made = |condition, targets: &[(&str, Item)]| {
            Some(GetDiagnostics { condition, targets: targets.iter().map(|(name, item)| ((*name).to_owned(), *item)).collect() })
        };
        for (sql, expected) in [
            ("GET DIAGNOSTICS @a = NUMBER, @b = ROW_COUNT", made(None, &[("a", Item::Number), ("b", Item::RowCount)])),
            ("get current diagnostics condition 2 @e=mysql_errno;", made(Some(2), &[("e", Item::Errno)])),
            (
                "GET DIAGNOSTICS CONDITION 1 @t = MESSAGE_TEXT, @s = RETURNED_SQLSTATE",
                made(Some(1), &[("t", Item::Message), ("s", Item::SqlState)]),
            ),
            ("GET DIAGNOSTICS CONDITION @n @e = MYSQL_ERRNO", None),
            ("GET STACKED DIAGNOSTICS @a = NUMBER", None),
            ("GET DIAGNOSTICS a = NUMBER", None),
            ("GET DIAGNOSTICS CONDITION 1 @c = CLASS_ORIGIN", None),
            ("SELECT 1", None),
        ] {
            assert_eq!(parse(sql.as_bytes(), LexMode::default()), expected, "{sql}");
        }
    }
}
