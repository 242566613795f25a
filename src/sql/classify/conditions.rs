//! Which statements of MariaDB clear the list of conditions before they run: those that name a table to the server, be it a derived one. The others
//! leave what the statement before has left, unless they have conditions of their own.
//!
//! No manual says so; tried on MariaDB 10.11 with every statement below. MySQL clears the list before all but what asks for it.

use super::verdict::{Class, ClassReason, Verdict};
use crate::sql::cursor::{Cursor, tokens};
use crate::sql::lexer::{LexMode, TokenKind};

/// A definition says in its beginning what it defines.
const MAX_TOKENS: usize = 100_000;

/// What a definition defines, in the order in which the words may stand in one. `true`: it is a table, or is opened as one.
const KINDS: [(&str, bool); 14] = [
    ("TABLE", true),
    ("TABLES", true),
    ("VIEW", true),
    ("INDEX", true),
    ("SEQUENCE", true),
    ("TRIGGER", true),
    ("PROCEDURE", false),
    ("FUNCTION", false),
    ("EVENT", false),
    ("USER", false),
    ("ROLE", false),
    ("DATABASE", false),
    ("SCHEMA", false),
    ("SERVER", false),
];

/// What `SHOW` shows that is no table of `information_schema` inside the server.
const SHOWN_WITHOUT_TABLE: [&str; 8] = ["GRANTS", "PROFILES", "PRIVILEGES", "ENGINE", "MASTER", "BINARY", "BINLOG", "SLAVE"];

/// Whether the server clears the list before this statement, by its digest. `uses_table`: it is known or possible that it uses one.
pub(super) fn clears(text: &[u8], verdict: &Verdict, uses_table: bool, mode: LexMode) -> bool {
    let reason = &verdict.reason;
    let sequence = verdict.effects.takes_sequence_value || verdict.effects.reads_sequence_value;
    let uses_table = uses_table || sequence;
    // The text tells more of these than the tables that were found.
    let looks = match reason {
        ClassReason::Definition | ClassReason::LockTables | ClassReason::ServerMaintenance | ClassReason::Show => true,
        ClassReason::PlainSelect | ClassReason::Explain => !uses_table,
        _ => false,
    };
    if verdict.multi || !looks {
        return uses_table
            || match verdict.class {
                Class::Session | Class::Transaction => false,
                Class::Read => !matches!(reason, ClassReason::PlainSelect | ClassReason::Do | ClassReason::Help),
                _ => {
                    use ClassReason::{AnalyzeWrite, Definition, ExplainWrite, Handler, WithWrite, WritingStatement};
                    matches!(reason, WritingStatement | WithWrite | Definition | ExplainWrite | AnalyzeWrite | Handler)
                }
            };
    }
    let Some(tokens) = tokens(text, mode, MAX_TOKENS, |_, _| true) else { return true };
    let mut cursor = Cursor::new(text, &tokens);
    if cursor.eat_all(&["SET", "STATEMENT"]) {
        while !cursor.at_end() && !cursor.eat("FOR") {
            cursor.pos += 1;
        }
    }
    match reason {
        ClassReason::Definition => defines_table(cursor),
        ClassReason::LockTables => cursor.is("LOCK"),
        ClassReason::ServerMaintenance if cursor.eat("FLUSH") => {
            cursor.eat_any(&["LOCAL", "NO_WRITE_TO_BINLOG"]);
            let all = |cursor: &Cursor<'_>| cursor.at_end() || cursor.kind() == Some(TokenKind::Semicolon) || cursor.is("WITH");
            cursor.eat_any(&["TABLE", "TABLES"]) && !all(&cursor)
        }
        ClassReason::ServerMaintenance => uses_table || cursor.eat_all(&["BACKUP", "LOCK"]),
        ClassReason::Show => {
            cursor.pos += 1;
            let named = cursor.eat("CREATE") && cursor.is_any(&["DATABASE", "SCHEMA", "USER"]);
            !named && !cursor.is_any(&SHOWN_WITHOUT_TABLE)
        }
        ClassReason::Explain if !cursor.is_at(1, "SELECT") => true,
        _ => has_derived_table(cursor),
    }
}

/// Whether a definition is one of a table, or names one.
fn defines_table(cursor: Cursor<'_>) -> bool {
    if cursor.is("SET") {
        return false;
    }
    if cursor.is_any(&["GRANT", "REVOKE"]) {
        return grants_on_table(cursor);
    }
    let words = || (1..cursor.rest().len()).filter_map(|at| cursor.word(at));
    let kind = words().find_map(|word| KINDS.iter().find(|(kind, _)| word.eq_ignore_ascii_case(kind.as_bytes())));
    match kind {
        Some(("TRIGGER", _)) => !cursor.is("DROP"),
        Some((_, table)) => *table || cursor.is("TRUNCATE"),
        None => true,
    }
}

/// Whether privileges are on a table or routine, which the server looks up as one, and not on a schema, on everything, or a role's.
fn grants_on_table(mut cursor: Cursor<'_>) -> bool {
    while !cursor.at_end() && !cursor.eat("ON") {
        cursor.pos += 1;
    }
    while !cursor.at_end() && !cursor.is_any(&["TO", "FROM"]) {
        if cursor.eat_op("*") {
            return false;
        }
        cursor.pos += 1;
    }
    // Without ON it is the end.
    !cursor.at_end()
}

/// Whether a query that uses no table has one that it makes itself.
fn has_derived_table(cursor: Cursor<'_>) -> bool {
    // FROM is a word within these, too.
    const FUNCTIONS: [&str; 5] = ["TRIM", "EXTRACT", "SUBSTRING", "SUBSTR", "MID"];
    let places = || (cursor.pos..cursor.tokens.len()).map(|pos| Cursor { pos, ..cursor });
    let derived = |place: Cursor<'_>| {
        let open = |ahead: &usize| place.token(*ahead).is_some_and(|token| token.kind == TokenKind::LParen);
        let behind = (1..).find(|ahead| !open(ahead)).unwrap_or(1);
        place.is("FROM") && behind > 1 && ["SELECT", "VALUES", "WITH"].iter().any(|word| place.is_at(behind, word))
    };
    cursor.is("WITH") || !places().any(|place| place.is_any(&FUNCTIONS)) && places().any(derived)
}

#[cfg(test)]
mod tests {
    use crate::sql::classify::classify;
    use crate::sql::lexer::{Dialect, LexMode};

    #[test]
    fn what_mariadb_clears_the_list_before() {
        let mode = LexMode { dialect: Dialect::MariaDb, ..LexMode::default() };
        for (clears, statements) in [
            (
                false,
                &[
                    "CREATE PROCEDURE p() SELECT 1",
                    "CREATE OR REPLACE DEFINER = CURRENT_USER PROCEDURE p() SELECT a FROM t",
                    "CREATE DEFINER=`table`@`%` FUNCTION IF NOT EXISTS f() RETURNS INT RETURN (SELECT MAX(a) FROM t)",
                    "CREATE PROCEDURE p() BEGIN SELECT a FROM t; DROP TABLE t; END",
                    "ALTER PROCEDURE p COMMENT 'x'",
                    "DROP PROCEDURE p",
                    "DROP FUNCTION IF EXISTS w.f",
                    "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO DELETE FROM t",
                    "ALTER EVENT e COMMENT 'x'",
                    "DROP EVENT e",
                    "DROP TRIGGER w.t",
                    "CREATE USER IF NOT EXISTS u",
                    "ALTER USER u IDENTIFIED BY 'x'",
                    "RENAME USER a TO b",
                    "DROP USER u",
                    "SET PASSWORD FOR u = PASSWORD('y')",
                    "SET DEFAULT ROLE NONE",
                    "CREATE OR REPLACE ROLE r",
                    "GRANT r TO u",
                    "GRANT SELECT ON w.* TO u",
                    "GRANT ALL ON *.* TO u WITH GRANT OPTION",
                    "GRANT SELECT ON * TO u",
                    "REVOKE ALL PRIVILEGES, GRANT OPTION FROM u",
                    "CREATE DATABASE d",
                    "ALTER SCHEMA d CHARACTER SET latin1",
                    "DROP DATABASE d",
                    "CREATE SERVER s FOREIGN DATA WRAPPER mysql OPTIONS (HOST 'a')",
                    "SET STATEMENT max_statement_time = 5 FOR CREATE PROCEDURE p() SELECT 1",
                    "UNLOCK TABLES",
                    "FLUSH TABLES",
                    "FLUSH TABLES WITH READ LOCK",
                    "FLUSH STATUS",
                    "BACKUP UNLOCK",
                    "SELECT 1",
                    "SELECT (SELECT 1), 2",
                    "SELECT TRIM(LEADING 'a' FROM (SELECT 'ab'))",
                    "SELECT 1 UNION SELECT 2",
                    "VALUES (1)",
                    "EXPLAIN SELECT 1",
                    "SHOW GRANTS",
                    "SHOW CREATE DATABASE w",
                    "HELP 'select'",
                    "DO 1",
                    "SET @a = 1",
                    "USE w",
                    "BEGIN",
                    "ROLLBACK",
                ][..],
            ),
            (
                true,
                &[
                    "CREATE TABLE t (a INT)",
                    "SET STATEMENT max_statement_time = 5 FOR CREATE TABLE t (a INT)",
                    "CREATE TEMPORARY TABLE t (a INT)",
                    "ALTER ONLINE TABLE t ADD b INT",
                    "CREATE UNIQUE INDEX user ON t (a)",
                    "DROP INDEX i ON t",
                    "CREATE VIEW v AS SELECT 1",
                    "ALTER DEFINER = CURRENT_USER SQL SECURITY INVOKER VIEW v AS SELECT 2",
                    "DROP VIEW v",
                    "CREATE SEQUENCE s",
                    "CREATE TRIGGER r BEFORE INSERT ON t FOR EACH ROW SET @a = 1",
                    "RENAME TABLE t TO u",
                    "TRUNCATE t",
                    "DROP TABLE t",
                    "GRANT SELECT ON w.t TO u",
                    "GRANT SELECT (a) ON TABLE t TO u",
                    "GRANT EXECUTE ON PROCEDURE w.p TO u",
                    "REVOKE SELECT ON t FROM u",
                    "LOCK TABLES t READ",
                    "FLUSH LOCAL TABLES t",
                    "FLUSH TABLES t WITH READ LOCK",
                    "BACKUP LOCK t",
                    "SELECT a FROM t",
                    "SELECT * FROM (SELECT 1) d",
                    "SELECT * FROM ((SELECT 1) UNION (SELECT 2)) d",
                    "WITH c AS (SELECT 1) SELECT * FROM c",
                    "EXPLAIN SELECT a FROM t",
                    "EXPLAIN UPDATE t SET a = 1",
                    "DESCRIBE t",
                    "SHOW TABLES",
                    "SHOW CREATE TABLE t",
                    "SHOW VARIABLES",
                    "DO (SELECT MAX(a) FROM t)",
                    "SET @a = (SELECT MAX(a) FROM t)",
                    "INSERT INTO t VALUES (1)",
                    "HANDLER t OPEN",
                    "SELECT NEXTVAL(s)",
                    "CHECK TABLE t",
                ],
            ),
        ] {
            for sql in statements {
                assert_eq!(classify(sql.as_bytes(), mode).clears_conditions, clears, "{sql}");
            }
        }
    }
}
