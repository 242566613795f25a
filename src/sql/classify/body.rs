//! Whether a text with semicolons is the definition of one routine, trigger or event and nothing more.
//!
//! Not a grammar: it follows the nesting of blocks, and says yes only where each `BEGIN` and `END` stands where a statement begins. What
//! it is not sure of is no definition, and is judged as several statements.
//!
//! Source: MySQL 8.4 Reference Manual, "CREATE PROCEDURE and CREATE FUNCTION Statements", "Compound Statement Syntax".

use crate::sql::cursor::Cursor;
use crate::sql::lexer::TokenKind;

/// Between the name of a routine and its body may stand these, types and literals; a statement begins with none of them.
const STATEMENTS: [&str; 40] = [
    "ALTER",
    "ANALYZE",
    "CALL",
    "CHECK",
    "CHECKSUM",
    "CLOSE",
    "COMMIT",
    "CREATE",
    "DEALLOCATE",
    "DECLARE",
    "DELETE",
    "DO",
    "DROP",
    "EXECUTE",
    "FETCH",
    "FLUSH",
    "GET",
    "GRANT",
    "HANDLER",
    "IF",
    "INSERT",
    "KILL",
    "LOCK",
    "LOOP",
    "OPEN",
    "OPTIMIZE",
    "PREPARE",
    "RENAME",
    "REPAIR",
    "REPEAT",
    "REPLACE",
    "RESIGNAL",
    "RETURN",
    "REVOKE",
    "SELECT",
    "SIGNAL",
    "TRUNCATE",
    "UPDATE",
    "WHILE",
    "WITH",
];

/// Behind these a statement of a body begins.
const OPENERS: [&str; 7] = ["THEN", "ELSE", "DO", "LOOP", "REPEAT", "BEGIN", "ATOMIC"];

/// Whether all the tokens are one `CREATE PROCEDURE`, `FUNCTION`, `TRIGGER` or `EVENT` whose body is a `BEGIN ... END`, perhaps with a
/// semicolon behind it.
pub(super) fn is_one_definition(whole: Cursor<'_>) -> bool {
    let Some(first) = body(whole) else { return false };
    let (mut depth, mut cases) = (0u32, 0u32);
    let mut at = Cursor { pos: first, ..whole };
    while !at.at_end() {
        let behind = at.pos.checked_sub(1).map(|pos| Cursor { pos, ..at });
        let is_start = at.pos == first
            || behind.is_some_and(|b| b.is_any(&OPENERS) || matches!(b.kind(), Some(TokenKind::Semicolon)) || ends_label(b));
        if at.kind() == Some(TokenKind::Semicolon) {
            if depth == 0 {
                return at.rest().iter().all(|token| token.kind == TokenKind::Semicolon);
            }
        } else if is_start && at.is("BEGIN") {
            depth += 1;
        } else if is_start && at.is("END") {
            if at.is_at(1, "CASE") {
                let Some(left) = cases.checked_sub(1) else { return false };
                cases = left;
                at.pos += 1;
            } else if !["IF", "LOOP", "REPEAT", "WHILE", "FOR"].iter().any(|word| at.is_at(1, word)) {
                let Some(left) = depth.checked_sub(1) else { return false };
                depth = left;
                if depth == 0 {
                    // The label may be repeated.
                    let label = usize::from(at.word(1).is_some());
                    let rest = at.tokens.get(at.pos + 1 + label..).unwrap_or_default();
                    return cases == 0 && rest.iter().all(|token| token.kind == TokenKind::Semicolon);
                }
            }
        } else if at.is("CASE") {
            cases += 1;
        } else if at.is("END") && cases > 0 {
            cases -= 1;
        }
        at.pos += 1;
    }
    false
}

/// `label:` before a block.
fn ends_label(at: Cursor<'_>) -> bool {
    at.token(0).is_some_and(|token| at.bytes(token) == b":")
}

/// Where the `BEGIN` of the body stands.
fn body(whole: Cursor<'_>) -> Option<usize> {
    let kinds = ["PROCEDURE", "FUNCTION", "TRIGGER", "EVENT"];
    let mut at = whole;
    if !at.eat("CREATE") {
        return None;
    }
    while !at.is_any(&kinds) {
        if at.at_end() || at.kind() == Some(TokenKind::Semicolon) {
            return None;
        }
        at.pos += 1;
    }
    let is_event = at.is("EVENT");
    at.pos += 1;
    at.eat_all(&["IF", "NOT", "EXISTS"]);
    while !at.is("BEGIN") {
        // An event is `DO` its body, and a trigger names INSERT, UPDATE or DELETE, before `ON`.
        let names_event = at.is_any(&["INSERT", "UPDATE", "DELETE"]) && at.is_at(1, "ON");
        let does = is_event && at.is("DO");
        if at.at_end() || at.kind() == Some(TokenKind::Semicolon) || at.is_any(&STATEMENTS) && !names_event && !does {
            return None;
        }
        at.pos += 1;
    }
    Some(at.pos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::cursor::tokens;
    use crate::sql::lexer::LexMode;

    fn one(sql: &str) -> bool {
        let tokens = tokens(sql.as_bytes(), LexMode::default(), 1000, |_, _| true).expect("few tokens");
        is_one_definition(Cursor::new(sql.as_bytes(), &tokens))
    }

    #[test]
    fn a_definition_ends_with_its_block() {
        for sql in [
            "CREATE PROCEDURE p () BEGIN SELECT 1; SELECT 2; END",
            "CREATE DEFINER=`a`@`%` PROCEDURE s.p (IN a INT, OUT b VARCHAR(9)) SQL SECURITY INVOKER COMMENT 'x;' BEGIN SET b = a; END;",
            "CREATE FUNCTION f (a INT) RETURNS INT DETERMINISTIC READS SQL DATA BEGIN IF a > 1 THEN RETURN 1; ELSE BEGIN END; END IF; RETURN 2; END",
            "CREATE PROCEDURE IF NOT EXISTS p () l: BEGIN WHILE 1 DO BEGIN SET @a = 1; END; END WHILE; REPEAT SET @b = 2; UNTIL 1 END REPEAT; END l",
            "CREATE PROCEDURE p () BEGIN CASE a WHEN 1 THEN SELECT CASE WHEN 1 THEN 2 END; ELSE BEGIN END; END CASE; END",
            "CREATE TRIGGER t BEFORE INSERT ON t FOR EACH ROW BEGIN SET NEW.a = 1; END",
            "CREATE EVENT e ON SCHEDULE EVERY 1 HOUR DO BEGIN SELECT 1; END",
        ] {
            assert!(one(sql), "{sql}");
        }
    }

    #[test]
    fn what_goes_on_behind_it_is_more_than_one() {
        for sql in [
            "CREATE PROCEDURE p () BEGIN SELECT 1; END; SET @a = 1",
            "CREATE PROCEDURE p () SELECT 1; SET @a = 1",
            "CREATE PROCEDURE p () SELECT 1 AS begin; SET @a = 1; SELECT 1 AS end",
            "CREATE PROCEDURE p () BEGIN SELECT 1 begin; END; SET @a = 1; SELECT 2 end",
            "CREATE PROCEDURE p () BEGIN END; BEGIN; SET @a = 1; END",
            "CREATE PROCEDURE p () SELECT CASE 1 WHEN 1 THEN 2 END; SET @a = 1",
            "CREATE PROCEDURE p () BEGIN SELECT 1;",
            "CREATE TRIGGER t BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 1; BEGIN; END",
            "CREATE TABLE t (a INT); CREATE PROCEDURE p () BEGIN END",
            "BEGIN; SELECT 1; END",
            "",
        ] {
            assert!(!one(sql), "{sql}");
        }
    }
}
