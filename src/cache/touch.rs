//! What a statement changes, as far as kept results are concerned. In doubt everything.

use super::changes::VoidReason;
use super::definitions::{Cells, Definitions, NameKey, name_key};
use crate::sql::classify::{Class, ClassReason, Classified};
use crate::sql::digest::BAD;

/// See [`touched`].
#[derive(Clone, Debug)]
pub enum Touched {
    /// No table.
    Nothing,
    /// These and no others.
    Tables(Cells),
    /// Anything.
    Everything(VoidReason),
}

/// Whether a statement changes definitions, and with them which tables change with which.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defines {
    /// It does not.
    No,
    /// It may: a procedure, a text prepared elsewhere, several statements with a definition among them.
    Perhaps,
    /// That is what it is for.
    Surely,
}

/// See [`Defines`]; `touched`: what the statement changes.
pub fn defines(statement: &Classified, touched: &Touched) -> Defines {
    match touched {
        Touched::Everything(VoidReason::Ddl) => Defines::Surely,
        Touched::Everything(VoidReason::UnknownTables) if statement.effects.opaque || statement.effects.implicit_commit => {
            Defines::Perhaps
        }
        _ => Defines::No,
    }
}

/// What a statement of a session with this schema changes. An open transaction's earlier writes are the session's to remember.
pub fn touched(statement: &Classified, schema: Option<&[u8]>, definitions: Option<&Definitions>) -> Touched {
    match statement.class {
        // One that a read-only server has refused writes, nobody knows what.
        Class::Read if statement.writes_unseen.is_raised() => Touched::Everything(VoidReason::UnknownTables),
        // A view may call a function that writes; an open transaction writes that with the rest.
        Class::Read | Class::LockingRead if definitions.is_some_and(|known| known.writes_by_reading(statement, schema)) => {
            Touched::Everything(VoidReason::UnknownTables)
        }
        Class::Read | Class::LockingRead | Class::Session => Touched::Nothing,
        Class::Transaction if statement.effects.xa => Touched::Everything(VoidReason::UnknownTables),
        Class::Transaction => Touched::Nothing,
        Class::Administrative => administrative(statement),
        Class::Unknown => Touched::Everything(VoidReason::UnknownTables),
        Class::Ddl => definition(statement, schema, definitions),
        Class::Write => write(statement, schema, definitions),
    }
}

fn write(statement: &Classified, schema: Option<&[u8]>, definitions: Option<&Definitions>) -> Touched {
    let effects = &statement.effects;
    if !statement.multi && !effects.opaque {
        let nothing = match statement.reason {
            ClassReason::LockTables | ClassReason::Diagnostics | ClassReason::Handler => true,
            ClassReason::PreparedInText => effects.text_execute.is_none(),
            ClassReason::FunctionWithEffect(_) | ClassReason::IntoVariable | ClassReason::AssignsUserVariable => {
                only_reads(statement, schema, definitions)
            }
            _ => false,
        };
        if nothing {
            return Touched::Nothing;
        }
    }
    let plain = statement.reason == ClassReason::WritingStatement
        && statement.tables_complete
        && !statement.tables.is_empty()
        && statement.unknown_functions.is_empty()
        && !statement.calls_unknown
        && !statement.multi
        && !effects.opaque;
    if plain { named(statement, schema, definitions) } else { Touched::Everything(VoidReason::UnknownTables) }
}

/// Whether it writes no table, though it is not called a read: it takes a lock, waits, or assigns variables of its session.
fn only_reads(statement: &Classified, schema: Option<&[u8]>, definitions: Option<&Definitions>) -> bool {
    let starts = |with: &str| statement.digest_text.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    // Its reason is the first that was found: behind another beginning a write may follow.
    let queries = ["SELECT ", "SELECT(", "DO ", "SET @"].iter().any(|beginning| starts(beginning));
    if !queries || statement.effects.sets_global || !statement.unknown_functions.is_empty() {
        return false;
    }
    // A view may call a function that writes.
    !statement.may_use_table || definitions.is_some_and(|known| !known.writes_by_reading(statement, schema))
}

/// Whether a digest may name the table of this key, wherever it stands and in whichever schema. One that was cut may, and one whose quoted names are written otherwise.
pub(super) fn mentions(digest: &str, key: &[u8]) -> bool {
    let table = key.iter().position(|b| *b == 0).and_then(|at| key.get(at + 1..)).unwrap_or(key);
    digest.as_bytes().first() == Some(&BAD)
        || table.is_empty()
        || table.iter().any(|b| matches!(b, b'`' | b'"'))
        || digest.as_bytes().windows(table.len()).any(|part| part.eq_ignore_ascii_case(table))
}

fn named(statement: &Classified, schema: Option<&[u8]>, definitions: Option<&Definitions>) -> Touched {
    let keys: smallvec::SmallVec<[Option<NameKey>; 4]> = statement.tables.iter().map(|name| name_key(name, schema)).collect();
    match definitions.and_then(|definitions| definitions.write(keys.iter().map(Option::as_deref))) {
        Some(cells) => Touched::Tables(cells),
        None => Touched::Everything(VoidReason::UnknownTables),
    }
}

fn definition(statement: &Classified, schema: Option<&[u8]>, definitions: Option<&Definitions>) -> Touched {
    let starts = |with: &str| statement.digest_text.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    if statement.multi || statement.effects.opaque {
        return Touched::Everything(VoidReason::Ddl);
    }
    // A temporary table is seen by its session alone, which is pinned then.
    let text = statement.digest_text.as_bytes();
    let selects = || text.windows(6).any(|word| word.eq_ignore_ascii_case(b"SELECT"));
    if !statement.effects.creates_temporary_tables.is_empty() && !statement.effects.implicit_commit && !selects() {
        return Touched::Nothing;
    }
    if starts("DROP TEMPORARY") {
        return Touched::Nothing;
    }
    if starts("TRUNCATE") && statement.tables.len() == 1 {
        return named(statement, schema, definitions);
    }
    const GRANTS: [&str; 10] = [
        "GRANT",
        "REVOKE",
        "CREATE USER",
        "ALTER USER",
        "DROP USER",
        "RENAME USER",
        // Not any SET: `SET STATEMENT .. FOR ALTER TABLE ..` is a definition.
        "SET PASSWORD",
        "SET DEFAULT",
        "CREATE ROLE",
        "DROP ROLE",
    ];
    let reason = if GRANTS.iter().any(|with| starts(with)) { VoidReason::Grants } else { VoidReason::Ddl };
    Touched::Everything(reason)
}

/// `FLUSH PRIVILEGES`, `SET GLOBAL`, `BINLOG '...'`, `IMPORT TABLE`: rare enough to void everything. What only looks does not.
fn administrative(statement: &Classified) -> Touched {
    let looks = statement.reason == ClassReason::ShowServerState || statement.effects.kill.is_some();
    if looks && !statement.multi { Touched::Nothing } else { Touched::Everything(VoidReason::UnknownTables) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::definitions::Told;
    use crate::cache::epoch::Epochs;
    use crate::sql::classify::classify;
    use crate::sql::lexer::LexMode;

    #[test]
    fn what_statements_change() {
        let table = |name: &str| (("s".to_owned(), name.to_owned()), "BASE TABLE".to_owned(), "InnoDB".to_owned());
        let view = |name: &str| (("s".to_owned(), name.to_owned()), "VIEW".to_owned(), String::new());
        let text = |name: &str, text: &str| (("s".to_owned(), name.to_owned()), text.to_owned());
        let told = Told {
            tables: vec![table("a"), table("b"), view("v"), view("sly")],
            views: vec![text("v", "select `s`.`a`.`x` AS `x` from `s`.`a`"), text("sly", "select `s`.`f`(1) AS `x`")],
            ..Told::default()
        };
        let epochs = Epochs::default();
        let definitions = Definitions::new(told, &epochs, LexMode::default());
        for (sql, expected) in [
            ("SELECT * FROM a", "nothing"),
            ("SELECT * FROM a FOR UPDATE", "nothing"),
            ("SELECT * FROM sly FOR UPDATE", "unknown_tables"),
            ("SELECT * FROM a WHERE x IN (SELECT x FROM sly) FOR UPDATE", "unknown_tables"),
            ("SELECT * FROM sly LOCK IN SHARE MODE", "unknown_tables"),
            ("DO (SELECT x FROM sly)", "unknown_tables"),
            // Not all of its tables are told, and none of those that it can mean.
            ("SELECT /*!40001 SQL_NO_CACHE */ * FROM a FOR UPDATE", "nothing"),
            ("SELECT /*!40001 SQL_NO_CACHE */ * FROM SLY FOR UPDATE", "unknown_tables"),
            ("DO 1", "nothing"),
            ("SHOW CREATE VIEW sly", "nothing"),
            ("EXPLAIN SELECT * FROM sly", "nothing"),
            ("SET @x = 1", "nothing"),
            ("COMMIT", "nothing"),
            ("XA COMMIT 'x'", "unknown_tables"),
            ("SHOW PROCESSLIST", "nothing"),
            ("KILL 5", "nothing"),
            ("INSERT INTO a VALUES (1)", "s.a"),
            ("insert into S.A select * from b", "s.a s.b"),
            ("UPDATE a JOIN b ON a.x = b.x SET a.y = 1", "s.a s.b"),
            ("DELETE FROM b WHERE x = 1", "s.b"),
            ("REPLACE INTO b VALUES (1)", "s.b"),
            ("INSERT INTO a VALUES (f(1))", "unknown_tables"),
            ("INSERT INTO a (x) VALUES (UPPER('x'))", "s.a"),
            ("UPDATE a SET x = s.f(1)", "unknown_tables"),
            ("DELETE FROM a WHERE `count`(x) = 1", "unknown_tables"),
            ("INSERT INTO missing VALUES (1)", "unknown_tables"),
            ("SELECT f(1)", "unknown_tables"),
            ("SELECT GET_LOCK('job', 3600)", "nothing"),
            ("select release_lock('job')", "nothing"),
            ("DO RELEASE_ALL_LOCKS(), SLEEP(1)", "nothing"),
            ("SET @x = GET_LOCK('job', 1)", "nothing"),
            ("SELECT BENCHMARK(10, SHA2('x', 256))", "nothing"),
            ("SELECT LAST_INSERT_ID(5)", "nothing"),
            ("SELECT @n := @n + 1, x FROM a", "nothing"),
            ("SELECT x INTO @x FROM v", "nothing"),
            ("SELECT @n := x FROM sly", "unknown_tables"),
            ("SELECT x INTO @x FROM sly", "unknown_tables"),
            ("SELECT GET_LOCK('job', f(1))", "unknown_tables"),
            ("SELECT SLEEP(1), s.f(1)", "unknown_tables"),
            ("SELECT SLEEP(1); DELETE FROM a", "unknown_tables"),
            ("SET GLOBAL max_connections = @a := 5", "unknown_tables"),
            ("SET @x = GET_LOCK('job', 1), GLOBAL max_connections = 5", "unknown_tables"),
            ("WITH c AS (SELECT @n := 1 AS x) DELETE FROM a WHERE x IN (SELECT x FROM c)", "unknown_tables"),
            ("UPDATE a SET x = GET_LOCK('job', 1)", "unknown_tables"),
            ("CALL p()", "unknown_tables"),
            ("INSERT INTO a VALUES (1); SELECT 1", "unknown_tables"),
            ("LOAD DATA INFILE 'x' INTO TABLE a", "unknown_tables"),
            ("PREPARE s FROM 'SELECT 1'", "nothing"),
            ("EXECUTE s", "unknown_tables"),
            ("LOCK TABLES a WRITE", "nothing"),
            ("TRUNCATE TABLE a", "s.a"),
            ("TRUNCATE a", "s.a"),
            ("ALTER TABLE a ADD b INT", "ddl"),
            ("CREATE TABLE c (x INT)", "ddl"),
            ("CREATE TEMPORARY TABLE c (x INT)", "nothing"),
            ("CREATE TEMPORARY TABLE c SELECT f(1)", "ddl"),
            ("DROP TEMPORARY TABLE a", "nothing"),
            ("DROP TABLE a", "ddl"),
            ("DROP DATABASE s", "ddl"),
            ("CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW INSERT INTO b VALUES (1)", "ddl"),
            ("GRANT SELECT ON a TO u", "grants"),
            ("REVOKE ALL ON a FROM u", "grants"),
            ("DROP USER u", "grants"),
            ("SET PASSWORD FOR u = 'x'", "grants"),
            ("SET DEFAULT ROLE r TO u", "grants"),
            ("SET STATEMENT lock_wait_timeout = 1 FOR ALTER TABLE a ADD b INT", "ddl"),
            ("SET STATEMENT lock_wait_timeout = 1 FOR DROP VIEW v", "ddl"),
            ("SET GLOBAL sql_mode = ''", "unknown_tables"),
            ("FLUSH PRIVILEGES", "unknown_tables"),
            ("gibberish", "unknown_tables"),
        ] {
            let statement = classify(sql.as_bytes(), LexMode::default());
            let found = match touched(&statement, Some(b"s"), Some(&definitions)) {
                Touched::Nothing => "nothing".to_owned(),
                Touched::Tables(cells) => {
                    let mut names: Vec<&str> = cells.iter().map(|cell| cell.name()).collect();
                    names.sort_unstable();
                    names.join(" ")
                }
                Touched::Everything(reason) => reason.to_string(),
            };
            assert_eq!(found, expected, "{sql}");
        }
        for (sql, expected) in [
            ("SELECT f(1)", Defines::No),
            ("INSERT INTO a VALUES (1)", Defines::No),
            ("INSERT INTO a VALUES (f(1))", Defines::No),
            ("INSERT INTO a VALUES (1); SELECT 1", Defines::No),
            ("LOCK TABLES a WRITE", Defines::No),
            ("PREPARE s FROM 'DROP VIEW v'", Defines::No),
            ("GRANT SELECT ON a TO u", Defines::No),
            ("CALL p()", Defines::Perhaps),
            ("EXECUTE s", Defines::Perhaps),
            ("EXECUTE IMMEDIATE 'DROP VIEW v'", Defines::Perhaps),
            ("IF 1 THEN DROP VIEW v; END IF", Defines::Perhaps),
            ("BEGIN NOT ATOMIC DROP VIEW v; END", Defines::Perhaps),
            ("DROP VIEW v; CREATE VIEW v AS SELECT x FROM b", Defines::Perhaps),
            ("SELECT 1; ALTER TABLE a ADD FOREIGN KEY (x) REFERENCES b (x) ON DELETE CASCADE", Defines::Perhaps),
            ("SELECT 1; CALL p()", Defines::Perhaps),
            ("gibberish", Defines::Perhaps),
            ("DROP VIEW v", Defines::Surely),
        ] {
            let statement = classify(sql.as_bytes(), LexMode::default());
            assert_eq!(defines(&statement, &touched(&statement, Some(b"s"), Some(&definitions))), expected, "{sql}");
        }
        // Its tables are not told from its text: they matter only where it mentions a view that calls a function.
        let into = classify(b"SELECT x FROM a INTO @x", LexMode::default());
        let told = Told { tables: vec![table("a"), view("v")], views: vec![text("v", "select 1 AS `x`")], ..Told::default() };
        let definitions_without = Definitions::new(told, &epochs, LexMode::default());
        assert!(matches!(touched(&into, Some(b"s"), Some(&definitions_without)), Touched::Nothing));
        assert!(matches!(touched(&into, Some(b"s"), Some(&definitions)), Touched::Nothing));
        let sly = classify(b"SELECT x FROM sly INTO @x", LexMode::default());
        assert!(matches!(touched(&sly, Some(b"s"), Some(&definitions)), Touched::Everything(_)));
        assert!(matches!(touched(&into, Some(b"s"), None), Touched::Everything(_)));
        let insert = classify(b"INSERT INTO a VALUES (1)", LexMode::default());
        assert!(matches!(touched(&insert, Some(b"s"), None), Touched::Everything(_)));
        assert!(matches!(touched(&insert, None, Some(&definitions)), Touched::Everything(_)));
    }
}
