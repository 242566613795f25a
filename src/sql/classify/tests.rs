use super::*;
use crate::sql::lexer::{ByteCharset, Dialect};

fn judged(sql: &str) -> (Class, &'static str) {
    let found = classify(sql.as_bytes(), LexMode::default());
    (found.class, found.reason.as_str())
}

fn check(table: &[(&str, Class, &str)]) {
    for (sql, class, reason) in table {
        assert_eq!(judged(sql), (*class, *reason), "{sql}");
    }
}

fn effects(sql: &str) -> Effects {
    classify(sql.as_bytes(), LexMode::default()).effects
}

#[test]
fn everyday_reads() {
    let reads = [
        "SELECT 1",
        "select c from sbtest1 where id=5023",
        "SELECT/**/1",
        "/* x */ SELECT 1",
        "-- comment\nSELECT 1",
        "# comment\nSELECT 1 # more",
        "SELECT 1;",
        "SELECT 1 ; -- done",
        "(SELECT 1)",
        "((SELECT 1) UNION (SELECT 2)) ORDER BY 1 LIMIT 3",
        "SELECT DISTINCT a, b AS x, COUNT(*) FROM t1 JOIN t2 USING (id) WHERE a IN (1,2,3) AND b LIKE 'x%' GROUP BY a HAVING COUNT(*) > 1",
        "SELECT * FROM t WHERE (a, b) IN ((1, 2), (3, 4))",
        "SELECT a FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.id = t.id) AND b = ANY (SELECT c FROM v)",
        "SELECT * FROM (SELECT 1 AS a) AS d (x)",
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10), m AS (SELECT 2), k(a, b) AS (SELECT 1, 2) SELECT * FROM n, m, k",
        "SELECT SUM(a) OVER (PARTITION BY b ORDER BY c ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t",
        "SELECT ROW_NUMBER() OVER w FROM t WINDOW w AS (ORDER BY a)",
        "SELECT CAST(a AS DECIMAL(10,2)), CONVERT(b USING utf8mb4), CAST(c AS CHAR(5) CHARACTER SET utf8mb4) FROM t",
        "SELECT CASE WHEN (a = 1) THEN CONCAT('x', b) ELSE IF(c, 1, 2) END FROM t",
        "SELECT SUBSTRING(a FROM 1 FOR 2), TRIM(LEADING 'x' FROM b), EXTRACT(DAY FROM c) FROM t",
        "SELECT DATE_ADD(a, INTERVAL 1 DAY), NOW(), CURRENT_TIMESTAMP(6), UTC_DATE FROM t",
        "SELECT MATCH (a, b) AGAINST ('x' IN BOOLEAN MODE) FROM t",
        "SELECT INSERT('abc', 1, 1, 'x'), REPLACE('abc', 'a', 'b')",
        "SELECT `update`, t.into, `for` FROM t",
        "SELECT 'FOR UPDATE', \"INTO OUTFILE\" FROM t -- FOR UPDATE",
        "SELECT @a, @@version, @@global.read_only, @@session.sql_mode",
        "SELECT LAST_INSERT_ID(), FOUND_ROWS(), ROW_COUNT(), CONNECTION_ID(), DATABASE(), USER(), VERSION()",
        "SELECT SQL_CALC_FOUND_ROWS * FROM t LIMIT 1",
        "SELECT /*+ MAX_EXECUTION_TIME(1000) */ * FROM t",
        "SELECT /*!40001 SQL_NO_CACHE */ * FROM `t`",
        "SELECT STRAIGHT_JOIN * FROM t1 USE INDEX FOR ORDER BY (a) JOIN t2 FORCE INDEX (b)",
        "SELECT * FROM t FOR SYSTEM_TIME AS OF NOW()",
        "SELECT * FROM t PARTITION (p0, p1)",
        "SELECT JSON_EXTRACT(a, '$.b'), a->'$.b', a->>'$.c' FROM t",
        "SELECT * FROM JSON_TABLE('[]', '$[*]' COLUMNS (n FOR ORDINALITY, a INT PATH '$.a')) AS j",
        "SELECT * FROM information_schema.tables WHERE table_schema = DATABASE()",
        "SELECT POINT(1, 2), ST_AsText(g) FROM t",
        "SELECT {fn CONCAT('a', 'b')}, {d '2020-01-01'}",
        "VALUES (1, 2), (3, 4)",
        "VALUES ROW(1, 2), ROW(3, 4)",
        "TABLE t ORDER BY a LIMIT 3",
        "SELECT a FROM t WHERE b = ? AND c IN (?, ?)",
        "SELECT -1, +2, - -3, 1.5e3, .5, 0x41, x'41', b'01', N'x', _utf8mb4'x' COLLATE utf8mb4_bin, NULL",
        "SELECT 1 FROM DUAL WHERE 1 = 0 UNION SELECT 2 EXCEPT SELECT 3 INTERSECT SELECT 4",
        "SELECT prénom, voilà FROM élèves",
    ];
    for sql in reads {
        assert_eq!(judged(sql), (Class::Read, "plain_select"), "{sql}");
    }
}

/// Sizes at which a product of two lengths would take minutes.
#[test]
fn what_is_looked_at_grows_with_the_text_only() {
    for (head, unit, tail, n) in [
        ("SHOW GRANTS FOR ", "a ", "CURRENT_USER", 100_000),
        ("SELECT ", "POINT(", "1", 100_000),
        ("SELECT ", "JSON_TABLE(", "1", 60_000),
        ("/*! */ /*! */ /*! */ /*! */ SELECT ", "POINT(", "1", 100_000),
    ] {
        let sql = format!("{head}{}{tail}{}", unit.repeat(n), "(".repeat(if tail == "1" { 0 } else { n }));
        let found = classify(sql.as_bytes(), LexMode { dialect: Dialect::MariaDb, ..LexMode::default() });
        assert!(found.class != Class::Read || head.starts_with("SHOW"), "{head}{unit}");
    }
}

#[test]
fn functions_behind_a_with_list_count() {
    for (sql, expected) in [
        ("WITH x AS (SELECT a FROM t) SELECT x.a, NOW() FROM x", Err(Uncacheable::Time)),
        ("WITH x AS (SELECT a FROM t) SELECT x.a, UUID() FROM x", Err(Uncacheable::Random)),
        ("WITH x AS (SELECT a FROM t) SELECT x.a, CURRENT_TIMESTAMP FROM x", Err(Uncacheable::Time)),
        ("WITH x AS (SELECT a FROM t), y (b) AS (SELECT 1) SELECT x.a, y.b FROM x, y", Ok(())),
    ] {
        assert_eq!(classify(sql.as_bytes(), LexMode::default()).cacheable, expected, "{sql}");
    }
    assert!(effects("WITH c AS (SELECT id FROM t) SELECT c.id, LAST_INSERT_ID() FROM c").reads_last_insert_id);
}

#[test]
fn reads_that_are_none() {
    use Class::{LockingRead, Unknown, Write};
    check(&[
        // locks (the misroutes of regular expressions: a newline, a comment, a suffix of two words)
        ("SELECT * FROM t FOR UPDATE", LockingRead, "for_update"),
        ("SELECT * FROM t\nFOR\n\tUPDATE", LockingRead, "for_update"),
        ("SELECT * FROM t FOR/**/UPDATE SKIP LOCKED", LockingRead, "for_update"),
        ("SELECT * FROM t FOR UPDATE WAIT 5", LockingRead, "for_update"),
        ("SELECT * FROM t FOR UPDATE OF t NOWAIT", LockingRead, "for_update"),
        ("SELECT * FROM t FOR SHARE", LockingRead, "for_share"),
        ("SELECT * FROM t LOCK IN SHARE MODE", LockingRead, "lock_in_share_mode"),
        ("((SELECT 1) UNION (SELECT 2)) FOR UPDATE", LockingRead, "for_update"),
        ("SELECT * FROM t1 JOIN (SELECT * FROM t2 FOR UPDATE) x", LockingRead, "for_update"),
        ("WITH x AS (SELECT * FROM t FOR UPDATE) SELECT * FROM x", LockingRead, "for_update"),
        // hands rows elsewhere
        ("SELECT a INTO @x FROM t", Write, "into_variable"),
        ("SELECT a FROM t INTO @x", Write, "into_variable"),
        ("SELECT a FROM t INTO OUTFILE '/tmp/x'", Write, "into_file"),
        ("SELECT a INTO DUMPFILE '/tmp/x' FROM t", Write, "into_file"),
        ("SELECT 1.INTO OUTFILE 'x'", Write, "into_file"),
        ("SELECT a. INTO OUTFILE 'x'", Write, "into_file"),
        ("TABLE t INTO OUTFILE 'x'", Write, "into_file"),
        ("SELECT col AS into", Write, "into_variable"),
        // assigns
        ("SELECT @a:=1", Write, "assigns_user_variable"),
        ("SELECT a FROM t WHERE (@n := @n + 1) < 3", Write, "assigns_user_variable"),
        ("SELECT * FROM t PROCEDURE ANALYSE()", Write, "procedure_clause"),
        // calls
        ("SELECT f(1)", Write, "unknown_function"),
        ("SELECT f (1)", Write, "unknown_function"),
        ("SELECT db.concat(1)", Write, "unknown_function"),
        ("SELECT `concat`(1)", Write, "unknown_function"),
        ("SELECT COUNT (*) FROM t", Write, "unknown_function"),
        ("SELECT COUNT/**/(*) FROM t", Write, "unknown_function"),
        ("SELECT GET_LOCK('a', 1)", Write, "function_with_effect"),
        ("SELECT NEXTVAL(s)", Write, "function_with_effect"),
        ("SELECT SLEEP(1)", Write, "function_with_effect"),
        ("SELECT LAST_INSERT_ID(5)", Write, "function_with_effect"),
        // behind a WITH list the commas are the query's own
        ("WITH x AS (SELECT 1) SELECT 1, f(2)", Write, "unknown_function"),
        ("WITH x AS (SELECT 1), y AS (SELECT 2) SELECT a, GET_LOCK('a', 1) FROM x, y", Write, "function_with_effect"),
        ("WITH x AS (SELECT 1) (SELECT 1, f(2))", Write, "unknown_function"),
        ("SELECT (WITH x AS (SELECT 1) SELECT a FROM x ORDER BY a, f(2))", Write, "unknown_function"),
        ("SELECT NEXT VALUE FOR s", Write, "sequence_value"),
        ("SELECT PREVIOUS VALUE FOR s", Write, "sequence_value"),
        ("SELECT s.nextval FROM dual", Write, "sequence_value"),
        ("SELECT s . nextval FROM dual", Write, "sequence_value"),
        ("SELECT db . concat(1)", Write, "unknown_function"),
        // writes
        ("WITH x AS (SELECT 1) DELETE FROM t", Write, "with_write"),
        ("WITH x AS (SELECT 1) UPDATE t SET a = 1", Write, "with_write"),
        ("DELETE FROM t RETURNING a", Write, "writing_statement"),
        ("INSERT INTO t VALUES (1) RETURNING a", Write, "writing_statement"),
        ("REPLACE INTO t VALUES (1)", Write, "writing_statement"),
        ("SELECT 1; DROP TABLE t", Write, "multi_statement"),
        ("SELECT 1;SELECT 2", Write, "multi_statement"),
        // executable comments, read by some
        ("SELECT 1 /*! FOR UPDATE */", LockingRead, "for_update"),
        ("SELECT 1 /*M!100100 FOR UPDATE */", LockingRead, "for_update"),
        ("SELECT 1 /*!99999 INTO OUTFILE 'x' */", Write, "into_file"),
        ("SELECT a /*!99999 , GET_LOCK */ /*!40000 ('a', 1) */", Write, "function_with_effect"),
        ("SELECT a /*!99999 , x */ /*!40000 ('a', 1) */", Write, "unknown_function"),
        ("SELECT a /*!40000 , */ /*!99999 b, */ f /*!40000 , */ (1)", Write, "depends_on_version"),
        ("SELECT 1 /*!99999 ' */ FOR UPDATE -- ' */", Unknown, "does_not_lex"),
        ("SELECT 1 /*!99999 '/*' */ FOR UPDATE -- ' */", Unknown, "does_not_lex"),
        ("SELECT 1 /*!50000 /*!50000 FOR UPDATE */ */", Unknown, "does_not_lex"),
        ("SELECT /*+ QB_NAME(`*/`) */ 1 FOR UPDATE -- `", Unknown, "does_not_lex"),
        ("SELECT /*!40000 1 */ /*!40000 +1 */ /*!40000 +1 */ /*!40000 +1 */ /*!40000 +1 */", Write, "executable_comments"),
        // cannot be told
        ("SELECT 'unterminated", Unknown, "does_not_lex"),
        ("SELECT 1 /* unterminated", Unknown, "does_not_lex"),
        ("SELECT 1 \0 FOR UPDATE", Unknown, "does_not_lex"),
        ("SELECT $$ FOR UPDATE $$", Unknown, "does_not_lex"),
        ("SELECT [a b] FROM t", Unknown, "does_not_lex"),
        ("SELECT a FROM t FOR\u{a0}UPDATE", Unknown, "does_not_lex"),
        ("", Unknown, "empty"),
        ("-- nothing", Unknown, "empty"),
        ("SELEC 1", Unknown, "unknown_statement"),
        ("(FROM t)", Unknown, "does_not_parse"),
    ]);
}

#[test]
fn show_explain_describe_help() {
    use Class::{Administrative, LockingRead, Read, Unknown, Write};
    check(&[
        ("SHOW TABLES", Read, "show"),
        ("SHOW FULL TABLES FROM db LIKE 'x%'", Read, "show"),
        ("SHOW DATABASES", Read, "show"),
        ("SHOW CREATE TABLE `db`.`t`", Read, "show"),
        ("SHOW CREATE PROCEDURE p", Read, "show"),
        ("SHOW CREATE USER 'a'@'b'", Read, "show"),
        ("SHOW GLOBAL VARIABLES LIKE 'x'", Read, "show"),
        ("SHOW SESSION STATUS WHERE Variable_name IN ('a', 'b')", Read, "show"),
        ("SHOW INDEX FROM t IN db WHERE Key_name = 'PRIMARY'", Read, "show"),
        ("SHOW FULL COLUMNS FROM t", Read, "show"),
        ("SHOW EXTENDED FULL FIELDS IN t", Read, "show"),
        ("SHOW TABLE STATUS LIKE 't'", Read, "show"),
        ("SHOW CHARACTER SET", Read, "show"),
        ("SHOW COLLATION", Read, "show"),
        ("SHOW STORAGE ENGINES", Read, "show"),
        ("SHOW PLUGINS", Read, "show"),
        ("SHOW TRIGGERS", Read, "show"),
        ("SHOW EVENTS", Read, "show"),
        ("SHOW PROCEDURE STATUS", Read, "show"),
        ("SHOW GRANTS FOR CURRENT_USER()", Read, "show"),
        ("SHOW GRANTS FOR 'a'@'%' USING r", Read, "show"),
        ("SHOW WARNINGS LIMIT 3", Read, "show"),
        ("SHOW COUNT(*) ERRORS", Read, "show"),
        ("SHOW PROFILE FOR QUERY 1", Read, "show"),
        ("SHOW TABLES WHERE f(1)", Write, "unknown_function"),
        ("SHOW MASTER STATUS", Administrative, "show_server_state"),
        ("SHOW BINARY LOG STATUS", Administrative, "show_server_state"),
        ("SHOW BINLOG EVENTS IN 'x'", Administrative, "show_server_state"),
        ("SHOW ALL SLAVES STATUS", Administrative, "show_server_state"),
        ("SHOW FULL PROCESSLIST", Administrative, "show_server_state"),
        ("SHOW ENGINE INNODB STATUS", Administrative, "show_server_state"),
        ("SHOW nonsense", Unknown, "does_not_parse"),
        ("EXPLAIN SELECT 1", Read, "explain"),
        ("EXPLAIN FORMAT=TREE SELECT 1", Read, "explain"),
        ("EXPLAIN FORMAT = JSON (SELECT 1)", Read, "explain"),
        ("EXPLAIN EXTENDED SELECT 1", Read, "explain"),
        ("EXPLAIN ANALYZE SELECT 1", Read, "explain"),
        ("EXPLAIN WITH x AS (SELECT 1) SELECT * FROM x", Read, "explain"),
        ("EXPLAIN SELECT * FROM (SELECT f()) x", Write, "unknown_function"),
        ("EXPLAIN SELECT 1 FOR UPDATE", LockingRead, "for_update"),
        // Refused by a read-only MariaDB.
        ("EXPLAIN UPDATE t SET a = 1", Write, "explain_write"),
        ("EXPLAIN ANALYZE DELETE FROM t", Write, "analyze_write"),
        ("EXPLAIN FORMAT=JSON INTO @x SELECT 1", Write, "into_variable"),
        ("EXPLAIN FOR CONNECTION 5", Administrative, "show_server_state"),
        ("ANALYZE SELECT 1", Read, "explain"),
        ("ANALYZE FORMAT=JSON SELECT 1", Read, "explain"),
        ("ANALYZE FORMAT=JSON UPDATE t SET a = 1", Write, "analyze_write"),
        ("ANALYZE TABLE t", Administrative, "server_maintenance"),
        ("DESC t", Read, "describe"),
        ("DESCRIBE db.t a", Read, "describe"),
        ("EXPLAIN t 'a%'", Read, "describe"),
        ("DESC format", Read, "describe"),
        ("HELP 'SELECT'", Read, "help"),
        ("DO 1", Read, "do"),
        ("DO RELEASE_LOCK('a')", Write, "function_with_effect"),
    ]);
}

#[test]
fn all_the_others() {
    use Class::{Administrative, Ddl, Session, Transaction, Unknown, Write};
    check(&[
        ("BEGIN", Transaction, "transaction_control"),
        ("START TRANSACTION READ ONLY", Transaction, "transaction_control"),
        ("COMMIT AND CHAIN", Transaction, "transaction_control"),
        ("ROLLBACK TO SAVEPOINT a", Transaction, "transaction_control"),
        ("XA START 'a'", Transaction, "xa"),
        ("BEGIN NOT ATOMIC SELECT 1; END", Write, "compound_statement"),
        ("IF 1 THEN SELECT 1; END IF", Write, "compound_statement"),
        ("COMMIT CHAIN", Unknown, "does_not_parse"),
        ("SET autocommit = 0", Session, "set_session"),
        ("SET NAMES utf8mb4", Session, "set_session"),
        ("/*!40101 SET NAMES utf8 */;", Session, "set_session"),
        ("SET @a = 1, sql_mode = CONCAT(@@sql_mode, ',x')", Session, "set_session"),
        ("SET @a := 1", Session, "set_session"),
        ("SET @a = f()", Write, "unknown_function"),
        ("SET @a = (SELECT NEXTVAL(s))", Write, "function_with_effect"),
        ("SET @a = (@b := 1)", Write, "assigns_user_variable"),
        ("SET GLOBAL read_only = 1", Administrative, "set_global"),
        ("SET @@global.read_only = 1", Administrative, "set_global"),
        ("SET PERSIST x = 1", Administrative, "set_global"),
        ("SET TRANSACTION ISOLATION LEVEL READ COMMITTED", Session, "set_session"),
        ("SET ROLE r", Session, "set_session"),
        ("SET PASSWORD = 'x'", Ddl, "definition"),
        ("SET STATEMENT max_statement_time = 1 FOR SELECT 1", Class::Read, "plain_select"),
        ("SET STATEMENT sql_log_bin = 0 FOR SELECT 1", Write, "set_statement"),
        ("SET STATEMENT max_statement_time = f() FOR SELECT 1", Write, "set_statement"),
        ("SET STATEMENT max_statement_time = 1 FOR DELETE FROM t", Write, "writing_statement"),
        ("USE db", Session, "use"),
        ("CREATE TABLE t (a INT)", Ddl, "definition"),
        ("CREATE TEMPORARY TABLE t SELECT 1", Ddl, "definition"),
        ("CREATE PROCEDURE p() BEGIN SELECT 1; SELECT 2; END", Ddl, "definition"),
        ("TRUNCATE t", Ddl, "definition"),
        ("GRANT SELECT ON *.* TO a", Ddl, "definition"),
        ("CALL p(1)", Write, "call"),
        ("PREPARE s FROM 'SELECT 1'", Write, "prepared_in_text"),
        ("EXECUTE s USING @a", Write, "prepared_in_text"),
        ("HANDLER t OPEN", Write, "handler"),
        ("HANDLER t READ FIRST", Write, "handler"),
        ("LOCK TABLES t READ", Write, "lock_tables"),
        ("UNLOCK TABLES", Write, "lock_tables"),
        ("LOAD DATA LOCAL INFILE 'x' INTO TABLE t", Write, "writing_statement"),
        ("GET DIAGNOSTICS @a = NUMBER", Write, "diagnostics"),
        ("SIGNAL SQLSTATE '45000'", Write, "diagnostics"),
        ("KILL QUERY 5", Administrative, "server_maintenance"),
        ("FLUSH TABLES WITH READ LOCK", Administrative, "server_maintenance"),
        ("BINLOG 'x'", Administrative, "server_maintenance"),
        ("CHECKSUM TABLE t", Administrative, "server_maintenance"),
        ("INSTALL PLUGIN x SONAME 'y'", Administrative, "server_maintenance"),
        ("garbage", Unknown, "unknown_statement"),
    ]);
}

#[test]
fn what_the_session_learns() {
    let start = |access, snapshot| Some(TransactionStart { access, snapshot });
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let table: Vec<(&str, Effects)> = vec![
        ("SELECT a FROM t", Effects::default()),
        ("BEGIN", Effects { begins_transaction: start(Access::Unspecified, false), ..Effects::default() }),
        ("START TRANSACTION READ ONLY", Effects { begins_transaction: start(Access::ReadOnly, false), ..Effects::default() }),
        (
            "COMMIT AND CHAIN",
            Effects {
                ends_transaction: Some(TransactionEnd { commit: true, chain: Some(true), release: None }),
                ..Effects::default()
            },
        ),
        ("SAVEPOINT a", Effects { savepoint: true, ..Effects::default() }),
        (
            "CREATE TEMPORARY TABLE IF NOT EXISTS a.t (x INT)",
            Effects { creates_temporary_tables: names(&["a.t"]), ..Effects::default() },
        ),
        ("DROP TEMPORARY TABLE a, b.c", Effects { drops_tables: names(&["a", "b.c"]), ..Effects::default() }),
        ("DROP TABLE t", Effects { drops_tables: names(&["t"]), implicit_commit: true, ..Effects::default() }),
        ("LOCK TABLES t WRITE", Effects { lock_tables: true, implicit_commit: true, ..Effects::default() }),
        ("UNLOCK TABLES", Effects { unlock_tables: true, ..Effects::default() }),
        ("SELECT GET_LOCK('a', 1)", Effects { get_lock: true, ..Effects::default() }),
        (
            "SELECT RELEASE_LOCK('a'), RELEASE_ALL_LOCKS()",
            Effects { release_lock: true, release_all_locks: true, ..Effects::default() },
        ),
        (
            "SELECT @A := @`b c` + 1",
            Effects { sets_user_variables: names(&["a"]), reads_user_variables: names(&["a", "b c"]), ..Effects::default() },
        ),
        ("SELECT a, b INTO @x, @y FROM t", Effects { sets_user_variables: names(&["x", "y"]), ..Effects::default() }),
        (
            "SET @x = @y, SQL_MODE = @@global.sql_mode",
            Effects {
                sets_user_variables: names(&["x"]),
                reads_user_variables: names(&["y"]),
                sets_system_variables: names(&["sql_mode"]),
                reads_system_variables: names(&["sql_mode"]),
                reads_server_state: true,
                ..Effects::default()
            },
        ),
        ("SELECT @@server_id", Effects { reads_system_variables: names(&["server_id"]), ..Effects::default() }),
        (
            "SELECT @@global.datadir",
            Effects { reads_system_variables: names(&["datadir"]), reads_server_state: true, ..Effects::default() },
        ),
        ("SHOW GLOBAL VARIABLES LIKE 'a'", Effects { reads_server_state: true, ..Effects::default() }),
        ("SHOW GLOBAL STATUS", Effects { reads_server_state: true, ..Effects::default() }),
        ("SHOW STATUS", Effects { reads_session_status: true, session_bound: true, ..Effects::default() }),
        (
            "SELECT * FROM information_schema.PROCESSLIST",
            Effects { system_schemas: true, reads_server_state: true, ..Effects::default() },
        ),
        ("SELECT * FROM information_schema.tables", Effects { system_schemas: true, ..Effects::default() }),
        (
            "SELECT * FROM performance_schema.threads",
            Effects { system_schemas: true, reads_server_state: true, ..Effects::default() },
        ),
        ("FLUSH STATUS", Effects { flush_status: true, implicit_commit: true, ..Effects::default() }),
        ("FLUSH LOCAL STATUS", Effects { flush_status: true, implicit_commit: true, ..Effects::default() }),
        ("FLUSH LOCAL TABLES status", Effects { implicit_commit: true, ..Effects::default() }),
        ("SET NAMES utf8", Effects { sets_system_variables: names(&["names"]), ..Effects::default() }),
        ("SET GLOBAL a = 1, b = 2", Effects { sets_global: true, ..Effects::default() }),
        ("SET SESSION TRANSACTION READ ONLY", Effects { set_transaction: Some(true), ..Effects::default() }),
        ("SET TRANSACTION READ ONLY", Effects { set_transaction: Some(false), ..Effects::default() }),
        ("SET ROLE NONE", Effects { set_role: true, ..Effects::default() }),
        (
            "PREPARE s FROM @q",
            Effects { text_prepare: Some("s".to_owned()), reads_user_variables: names(&["q"]), ..Effects::default() },
        ),
        ("DROP PREPARE s", Effects { text_deallocate: Some("s".to_owned()), ..Effects::default() }),
        ("HANDLER t OPEN", Effects { handler_open: true, ..Effects::default() }),
        ("XA PREPARE 'a'", Effects { xa: true, ..Effects::default() }),
        ("SELECT SQL_CALC_FOUND_ROWS 1", Effects { calc_found_rows: true, ..Effects::default() }),
        ("SELECT FOUND_ROWS()", Effects { reads_found_rows: true, session_bound: true, ..Effects::default() }),
        ("SHOW WARNINGS", Effects { reads_diagnostics: true, session_bound: true, ..Effects::default() }),
        (
            "SELECT @@warning_count",
            Effects {
                reads_diagnostics: true,
                session_bound: true,
                reads_system_variables: names(&["warning_count"]),
                reads_server_state: true,
                ..Effects::default()
            },
        ),
        ("SELECT LAST_INSERT_ID()", Effects { reads_last_insert_id: true, ..Effects::default() }),
        ("SELECT LAST_INSERT_ID(7)", Effects { sets_last_insert_id: true, ..Effects::default() }),
        ("UPDATE t SET id = LAST_INSERT_ID(id + 1)", Effects { sets_last_insert_id: true, ..Effects::default() }),
        ("SELECT NEXTVAL(s)", Effects { takes_sequence_value: true, ..Effects::default() }),
        ("SELECT NEXT VALUE FOR s", Effects { takes_sequence_value: true, ..Effects::default() }),
        ("SELECT s.nextval", Effects { takes_sequence_value: true, ..Effects::default() }),
        ("SELECT LASTVAL(s)", Effects { reads_sequence_value: true, session_bound: true, ..Effects::default() }),
        ("SELECT PREVIOUS VALUE FOR s", Effects { reads_sequence_value: true, session_bound: true, ..Effects::default() }),
        ("SELECT s.currval", Effects { reads_sequence_value: true, session_bound: true, ..Effects::default() }),
        ("USE `a``b`", Effects { use_schema: Some("a`b".to_owned()), ..Effects::default() }),
        (
            "LOAD DATA LOCAL INFILE 'x' INTO TABLE t",
            Effects {
                load_data: true,
                load_data_local: true,
                reads_last_insert_id: true,
                sets_last_insert_id: true,
                ..Effects::default()
            },
        ),
        (
            "INSERT INTO t VALUES (1) RETURNING a",
            Effects { reads_last_insert_id: true, sets_last_insert_id: true, ..Effects::default() },
        ),
        ("KILL QUERY 5", Effects { kill: Some(Kill::Query), ..Effects::default() }),
        ("SHOW FULL PROCESSLIST", Effects { shows_processlist: true, ..Effects::default() }),
        ("KILL 5", Effects { kill: Some(Kill::Connection), ..Effects::default() }),
        ("SELECT CONNECTION_ID()", Effects { reads_connection_id: true, ..Effects::default() }),
        ("SELECT * FROM mysql.user", Effects { system_schemas: true, reads_server_state: true, ..Effects::default() }),
    ];
    for (sql, expected) in table {
        assert_eq!(effects(sql), expected, "{sql}");
    }
    let several = effects("SET autocommit = 0; BEGIN; USE db");
    assert!(
        several.begins_transaction.is_some()
            && several.use_schema.is_some()
            && several.sets_system_variables == names(&["autocommit"])
    );
    assert!(effects("CALL p(@x)").opaque && effects("CALL p(@x)").sets_user_variables == names(&["x"]));
}

#[test]
fn a_name_from_with_in_another_case_may_be_a_table() {
    for (sql, complete) in [
        ("WITH x AS (SELECT * FROM t) SELECT * FROM x", true),
        ("WITH x AS (SELECT * FROM t) SELECT * FROM X", false),
        ("WITH X AS (SELECT * FROM t) SELECT * FROM (SELECT * FROM x) d", false),
        ("WITH x AS (SELECT * FROM t) SELECT * FROM s.X", true),
        ("WITH x AS (SELECT * FROM t), X AS (SELECT * FROM u) SELECT * FROM X", true),
    ] {
        let found = classify(sql.as_bytes(), LexMode::default());
        assert_eq!((found.tables_complete, found.cacheable.is_ok()), (complete, complete), "{sql}");
    }
}

#[test]
fn tables_and_cacheability() {
    let table: &[(&str, &str, Result<(), Uncacheable>)] = &[
        ("SELECT a FROM t WHERE id = 1", "t", Ok(())),
        ("SELECT * FROM shop.items i JOIN orders o ON i.id = o.item WHERE o.x IN (1, 2)", "orders shop.items", Ok(())),
        ("WITH x AS (SELECT * FROM t) SELECT * FROM x", "t", Ok(())),
        ("WITH t AS (SELECT * FROM t) SELECT * FROM t", "t", Ok(())),
        ("SELECT (SELECT MAX(a) FROM u) FROM t WHERE b IN (SELECT c FROM v)", "t u v", Ok(())),
        ("SELECT 1", "", Err(Uncacheable::NoTables)),
        ("SELECT NOW() FROM t", "t", Err(Uncacheable::Time)),
        ("SELECT a FROM t WHERE d > CURRENT_DATE", "t", Err(Uncacheable::Time)),
        ("SELECT RAND() FROM t", "t", Err(Uncacheable::Random)),
        // MariaDB: an expression, of the moment or by a sequence.
        ("SELECT DEFAULT(a) FROM t", "t", Err(Uncacheable::Random)),
        ("SELECT USER() FROM t", "t", Err(Uncacheable::Session)),
        ("SELECT @a FROM t", "t", Err(Uncacheable::Session)),
        ("SELECT * FROM information_schema.tables", "information_schema.tables", Err(Uncacheable::SystemSchema)),
        ("SELECT SQL_NO_CACHE a FROM t", "t", Err(Uncacheable::Asked)),
        ("SELECT a FROM t FOR UPDATE", "t", Err(Uncacheable::NotASelect)),
        ("SELECT SQL_CALC_FOUND_ROWS a FROM t LIMIT 1", "t", Err(Uncacheable::CalcFoundRows)),
        ("SELECT a FROM t UNION SELECT b FROM u LIMIT 1", "t u", Err(Uncacheable::CalcFoundRows)),
        ("SELECT a FROM t UNION SELECT b FROM u", "t u", Ok(())),
        ("INSERT INTO t (a) SELECT b FROM u", "t u", Err(Uncacheable::NotASelect)),
        ("UPDATE t SET a = 1", "t", Err(Uncacheable::NotASelect)),
        ("DELETE FROM db.t WHERE a = 1", "db.t", Err(Uncacheable::NotASelect)),
    ];
    for (sql, tables, cacheable) in table {
        let found = classify(sql.as_bytes(), LexMode::default());
        let names: Vec<String> = found.tables.iter().map(ToString::to_string).collect();
        assert_eq!((names.join(" ").as_str(), found.cacheable, found.tables_complete), (*tables, *cacheable, true), "{sql}");
    }
}

/// Such statements run without the guard of servers that are not the master, so nothing else may be in them.
#[test]
fn what_asks_for_definitions_alone() {
    let mode = LexMode { dialect: Dialect::MariaDb, ..LexMode::default() };
    for (sql, alone, of_server) in [
        ("SHOW TABLES", true, false),
        ("SHOW FULL COLUMNS FROM v LIKE 'a%'", true, false),
        ("DESCRIBE v", true, false),
        ("SELECT * FROM information_schema.columns WHERE table_name = 'v'", true, false),
        ("SELECT * FROM information_schema.tables t JOIN INFORMATION_SCHEMA.columns c USING (table_name)", true, false),
        ("SELECT * FROM information_schema.columns, v", false, true),
        ("SELECT * FROM information_schema.columns WHERE column_name IN (SELECT a FROM v)", false, true),
        ("SELECT * FROM mysql.user", false, true),
        ("SHOW TABLES WHERE (SELECT a FROM v) = 1", false, false),
        ("SELECT f() FROM information_schema.tables", false, false),
        ("SHOW TABLES; SELECT * FROM v", false, false),
        ("SELECT * FROM v", false, false),
        ("SELECT 1", false, false),
    ] {
        let found = classify(sql.as_bytes(), mode);
        assert_eq!((found.asks_definitions, found.effects.reads_server_state), (alone, of_server), "{sql}");
        assert!(!classify(sql.as_bytes(), LexMode { dialect: Dialect::MySql, ..mode }).asks_definitions, "{sql}");
    }
    assert!(classify(b"SELECT * FROM columns, information_schema.tables", mode).asks_definitions_there());
    assert!(!classify(b"SELECT * FROM columns, shop.v", mode).asks_definitions_there());
}

#[test]
fn modes_change_the_judgement() {
    let mode = |change: fn(&mut LexMode)| {
        let mut mode = LexMode::default();
        change(&mut mode);
        mode
    };
    let table: &[(&[u8], LexMode, Class)] = &[
        (b"SELECT \"f\"(1)", mode(|m| m.ansi_quotes = true), Class::Write),
        (b"SELECT COUNT (*) FROM t", mode(|m| m.ignore_space = true), Class::Read),
        // A backslash that escapes nothing ends the string early.
        (b"SELECT '\\' FOR UPDATE -- '", mode(|m| m.no_backslash_escapes = true), Class::LockingRead),
        (b"SELECT '\\' FOR UPDATE -- '", LexMode::default(), Class::Read),
        // 0xbf5c is one character in GBK: the quote behind it closes.
        (b"SELECT '\xbf\\' FOR UPDATE -- '", mode(|m| m.charset = ByteCharset::Gbk), Class::LockingRead),
        (b"SELECT '\xbf\\' FOR UPDATE -- '", LexMode::default(), Class::Read),
        (b"SELECT `\x83` FOR UPDATE -- `", mode(|m| m.charset = ByteCharset::Sjis), Class::Read),
        (b"SELECT `\x83` FOR UPDATE -- `", LexMode::default(), Class::LockingRead),
        // A UTF-8 server swallows the quote behind a lead byte, a latin1 server does not.
        (b"SELECT `\xe2` FOR UPDATE -- `", LexMode::default(), Class::Unknown),
        (b"SELECT MD5('a')", mode(|m| m.dialect = Dialect::MariaDb), Class::Read),
        (b"SELECT MD5('a')", mode(|m| m.dialect = Dialect::MySql), Class::Write),
        (b"SELECT UUID_TO_BIN('a')", mode(|m| m.dialect = Dialect::MySql), Class::Read),
        (b"SELECT UUID_TO_BIN('a')", LexMode::default(), Class::Write),
        (b"SELECT * FROM t, LATERAL (SELECT 1) x", mode(|m| m.dialect = Dialect::MySql), Class::Read),
    ];
    for (sql, mode, class) in table {
        assert_eq!(classify(sql, *mode).class, *class, "{} {mode:?}", String::from_utf8_lossy(sql));
    }
}

/// Such a text overflowed the parser's stack and ended the process: it recurses for every operator. The test's thread has 2 MiB, like a worker's.
#[test]
fn long_and_deep_statements_are_judged_without_the_parser() {
    let n = 100_000;
    let table = [
        (format!("SELECT {}1", "1+".repeat(n)), Class::Read),
        (format!("SELECT {}1", "NOT ".repeat(n)), Class::Read),
        (format!("SELECT {}1{}", "(".repeat(n), ")".repeat(n)), Class::Read),
        (format!("SELECT {}1{}", "ABS(".repeat(n), ")".repeat(n)), Class::Read),
        (format!("{}SELECT 1", "SET STATEMENT max_statement_time=1 FOR ".repeat(n / 10)), Class::Write),
        (format!("SELECT {} FROM t", "a, ".repeat(400_000)), Class::Unknown),
    ];
    for (sql, class) in table {
        assert_eq!(classify(sql.as_bytes(), LexMode::default()).class, class, "{}", sql.get(..60).unwrap_or_default());
    }
    // At the limits the parser still has stack enough.
    for chain in ["1+", "NOT ", "- ", "a AND ", "a COLLATE b LIKE ", "CASE a WHEN 1 THEN 2 ELSE 3 END + ", "EXISTS (SELECT 1) OR "]
    {
        for count in [20, 60, 199, 200, 201] {
            classify(format!("SELECT {}1 FROM t", chain.repeat(count)).as_bytes(), LexMode::default());
        }
    }
    classify(format!("SELECT 1{}", " UNION SELECT 1".repeat(199)).as_bytes(), LexMode::default());
    classify(format!("SELECT {}1{}", "ABS((".repeat(39), "))".repeat(39)).as_bytes(), LexMode::default());
}

#[test]
fn many_joins_do_not_end_the_process() {
    for n in [61, 150, 300, 600] {
        for one in ["JOIN shop.t", "JOIN (SELECT 1 a)", "STRAIGHT_JOIN t", "NATURAL JOIN t", "LEFT JOIN t"] {
            let joins: String = (1..n).map(|n| format!(" {one} t{n}")).collect();
            let statement = classify(format!("SELECT 1 FROM t t0{joins}").as_bytes(), LexMode::default());
            assert_eq!(statement.class, Class::Read, "{n} {one}");
        }
    }
}

#[test]
fn what_changes_privileges_on_everything() {
    for (sql, changes) in [
        ("GRANT SELECT ON *.* TO u", true),
        ("GRANT SELECT ON * . * TO u", true),
        ("REVOKE INSERT ON *.* FROM u", true),
        ("REVOKE ALL PRIVILEGES, GRANT OPTION FROM u", true),
        ("REVOKE ALL, GRANT OPTION FROM u", true),
        ("FLUSH PRIVILEGES", true),
        ("GRANT r TO u", true),
        ("DROP USER u", true),
        ("RENAME USER u TO v", true),
        ("CREATE USER u", false),
        ("REVOKE r FROM u", true),
        ("SET DEFAULT ROLE r FOR u", true),
        ("ALTER USER u DEFAULT ROLE r", true),
        ("DROP ROLE r", false),
        ("GRANT SELECT ON shop.* TO u", false),
        ("REVOKE ALL PRIVILEGES ON shop.* FROM u", false),
        ("ALTER USER u IDENTIFIED BY 'x'", false),
        ("SELECT 1", false),
    ] {
        assert_eq!(classify(sql.as_bytes(), LexMode::default()).changes_global_rights(), changes, "{sql}");
    }
}
