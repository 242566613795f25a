//! What stays inside, what does not, and what cannot be told.

use super::*;
use crate::sql::classify::classify;
use crate::sql::lexer::Dialect;

fn refused(sql: &str, current: Option<&str>, lex: LexMode) -> Option<Outside> {
    let allowed = ["shop".to_owned(), "my db".to_owned()];
    let statement = classify(sql.as_bytes(), lex);
    Schemas { allowed: &allowed, lex, whole: true }.refuse(&statement, current.map(str::as_bytes))
}

#[test]
fn what_stays_inside_runs() {
    for sql in [
        "SELECT 1",
        "SELECT a.id, b.id FROM t a JOIN shop.u AS b ON a.id = b.id WHERE a.x IN (1, 2)",
        "SELECT * FROM `my db`.t",
        "SELECT a.lastvalue, a.nextval_of FROM t a",
        "INSERT INTO t VALUES (shop.f(1))",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM performance_schema.threads",
        "SELECT DATABASE(), SCHEMA()",
        "WITH c AS (SELECT 1) SELECT * FROM c",
        "INSERT INTO shop.t (a) VALUES (1)",
        "UPDATE t SET a = 1 WHERE b = 'secret.t'",
        "DELETE FROM shop.t",
        "CREATE TABLE shop.t (a INT)",
        "CREATE DATABASE IF NOT EXISTS shop",
        "ALTER TABLE t ADD COLUMN c INT",
        "USE shop",
        "USE `my db`",
        "USE information_schema",
        "SHOW TABLES",
        "SHOW TABLES FROM shop",
        "SHOW FULL COLUMNS FROM secret",
        "SHOW FULL COLUMNS FROM t FROM shop LIKE 'a%'",
        "SHOW CREATE TABLE shop.t",
        "SHOW DATABASES LIKE 'secret'",
        "SHOW VARIABLES WHERE variable_name IN ('a')",
        "DESCRIBE shop.t",
        "SELECT * FROM t USE INDEX (a) WHERE b MOD 2",
        "CALL p()",
        "CALL shop.p()",
        "SET NAMES utf8mb4",
        "SET @@session.sql_mode = 'ANSI'",
        "SET @a = 1.5",
        "BEGIN",
        "XA PREPARE 'x'",
        "LOCK TABLES t READ",
        "/*!40101 SET NAMES utf8 */",
        "SELECT 1; SELECT 2",
    ] {
        assert_eq!(refused(sql, Some("shop"), LexMode::default()), None, "{sql}");
    }
}

#[test]
fn what_names_another_schema_is_refused() {
    for sql in [
        "INSERT INTO t VALUES (secret.f())",
        "UPDATE t SET a = secret.f(1)",
        "DELETE FROM t WHERE secret . f(id)",
        "SELECT secret.f()",
        "USE secret",
        "use `secret`",
        "SELECT 1; USE secret",
        "SELECT * FROM secret.t",
        "SELECT * FROM t WHERE a IN (SELECT a FROM `secret`.`t`)",
        "SELECT * FROM t, secret . u",
        "SELECT secret.f()",
        "INSERT INTO t SELECT * FROM secret.t",
        "INSERT INTO secret.t VALUES (1)",
        "UPDATE t JOIN secret.u USING (a) SET t.a = 1",
        "DELETE FROM secret.t",
        "TRUNCATE secret.t",
        "CREATE TABLE shop.t SELECT * FROM secret.t",
        "CREATE DATABASE IF NOT EXISTS secret",
        "DROP DATABASE secret",
        "DROP SCHEMA secret",
        "RENAME TABLE shop.t TO secret.t",
        "SHOW TABLES FROM secret",
        "SHOW TABLE STATUS IN secret",
        "SHOW FULL TABLES FROM `secret`",
        "SHOW COLUMNS FROM t FROM secret",
        "SHOW INDEX FROM secret.t",
        "SHOW CREATE DATABASE secret",
        "SHOW CREATE TABLE secret.t",
        "DESCRIBE secret.t",
        "EXPLAIN SELECT * FROM secret.t",
        "CALL secret.p()",
        "SET @a = (SELECT a FROM secret.t)",
        "LOCK TABLES secret.t READ",
        "HANDLER secret.t OPEN",
        "GRANT ALL ON *.* TO x",
        "GRANT ALL ON secret.* TO x",
        "LOAD DATA INFILE 'x' INTO TABLE secret.t",
        "SELECT * FROM mysql.user",
        "DO (SELECT a FROM secret.t)",
        "SELECT NEXT VALUE FOR secret.s",
        "SELECT NEXTVAL(secret.s)",
        "SELECT * FROM shop.t, secret./* */t WHERE a MOD 2",
        "SELECT 1; SELECT * FROM secret.t",
        // Not provably inside.
        "PREPARE s FROM 'SELECT * FROM secret.t'",
        "EXECUTE s",
        "EXECUTE IMMEDIATE 'SELECT * FROM secret.t'",
        "BEGIN NOT ATOMIC EXECUTE IMMEDIATE 'x'; END",
        "CREATE PROCEDURE p() BEGIN PREPARE s FROM 'x'; EXECUTE s; END",
        "SELECT a FROM secret /*!99999 + shop */ . t",
        "/*!50000 USE secret */",
        "SELECT a.b FROM t a WHERE a.b MOD 2",
        "SELECT * FROM 'open",
    ] {
        assert!(refused(sql, Some("shop"), LexMode::default()).is_some(), "{sql}");
        for dialect in [Dialect::MySql, Dialect::MariaDb] {
            assert!(refused(sql, None, LexMode { dialect, ..LexMode::default() }).is_some(), "{sql} in {dialect:?}");
        }
    }
    let ansi = LexMode { ansi_quotes: true, ..LexMode::default() };
    assert!(refused("SELECT * FROM \"secret\".t", Some("shop"), ansi).is_some());
    assert_eq!(refused("SELECT a FROM \"shop\".\"t\"", Some("shop"), ansi), None);
}

/// As after a reload that takes a schema away from a client that is in it.
#[test]
fn in_a_schema_that_is_not_allowed_only_what_leaves_it_runs() {
    for sql in ["SELECT * FROM t", "SHOW TABLES", "INSERT INTO t VALUES (1)", "CALL p()", "SET @a = (SELECT a FROM t)"] {
        assert_eq!(refused(sql, Some("secret"), LexMode::default()), Some(Outside::Schema("secret".to_owned())), "{sql}");
    }
    for sql in ["USE shop", "SELECT 1", "COMMIT", "SET NAMES utf8mb4"] {
        assert_eq!(refused(sql, Some("secret"), LexMode::default()), None, "{sql}");
    }
}

#[test]
fn of_a_long_statement_the_end_is_not_known() {
    let statement = classify(b"INSERT INTO t VALUES (1)", LexMode::default());
    let allowed = ["shop".to_owned()];
    let of = |whole| Schemas { allowed: &allowed, lex: LexMode::default(), whole }.refuse(&statement, Some(b"shop"));
    assert_eq!(of(true), None);
    assert!(matches!(of(false), Some(Outside::Unknown(_))));
    assert_eq!(Schemas::all().refuse(&classify(b"USE secret", LexMode::default()), None), None);
}
