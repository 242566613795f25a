//! What works against the server works through Sluice: the same rows, columns, counts, ids, warnings and errors.

use integration::accounts::APP;
use integration::driver::{self, server_error};
use mysql_async::consts::ColumnType;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Params, Row, TxOpts, Value, WhiteListFsHandler};

use crate::world::{cluster, pair, proxy, same, schema};

#[tokio::test]
async fn statements_and_what_the_client_is_told() {
    let schema = schema("statements_told").await;
    let (mut through, mut direct) = pair(&schema).await;
    through.query_drop("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, word VARCHAR(5), UNIQUE (word))").await.unwrap();
    through.query_drop("INSERT INTO t (word) VALUES ('one'), ('two')").await.unwrap();
    cluster().settle().await.unwrap();
    for sql in [
        "SELECT 1",
        "SELECT 1 AS a, 'b' AS b, NULL AS c, 1.50 AS d, 1e3 AS e, DATE '2020-02-29' AS f",
        "SELECT * FROM t ORDER BY id",
        "SELECT * FROM t WHERE id = 0",
        "SELECT id, word, COUNT(*) OVER () FROM t ORDER BY id",
        "SELECT 'ünï☃', x'00ff', b'101'",
        "/* a comment */ SELECT 1 -- another",
        "(SELECT 1) UNION (SELECT 2) ORDER BY 1",
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) SELECT i, REPEAT('x', i) FROM n",
        "SHOW TABLES",
        "SHOW COLUMNS FROM t",
        "SHOW CREATE TABLE t",
        "SHOW VARIABLES LIKE 'sql_mode'",
        "SELECT @@autocommit, @@session.sql_mode, @@time_zone",
        "EXPLAIN SELECT * FROM t WHERE id = 1",
        "DESCRIBE t",
        "DO 1",
        "SET @x = 1",
        "USE shop",
    ] {
        assert_eq!(same(&mut through, &mut direct, sql).await.error, None, "{sql}");
    }
}

#[tokio::test]
async fn errors_are_the_servers_word_for_word() {
    let schema = schema("statements_errors").await;
    let (mut through, mut direct) = pair(&schema).await;
    direct.query_drop("CREATE TABLE t (id INT PRIMARY KEY, word VARCHAR(5) NOT NULL)").await.unwrap();
    direct.query_drop("INSERT INTO t VALUES (1, 'one')").await.unwrap();
    cluster().settle().await.unwrap();
    for (sql, code) in [
        ("SELEKT 1", 1064),
        ("SELECT", 1064),
        ("SELECT * FROM nothing", 1146),
        ("SELECT nothing FROM t", 1054),
        ("SELECT * FROM mysql.user", 1142),
        ("INSERT INTO t VALUES (1, 'two')", 1062),
        ("INSERT INTO t VALUES (2, 'too long')", 1406),
        ("INSERT INTO t VALUES (2, NULL)", 1048),
        ("INSERT INTO t VALUES (2)", 1136),
        ("CREATE TABLE t (id INT)", 1050),
        ("DROP TABLE nothing", 1051),
        ("SET nothing = 1", 1193),
        ("SET GLOBAL max_connections = 1", 1227),
        ("SELECT (SELECT 1 UNION SELECT 2)", 1242),
        ("KILL 4294967295", 1094),
        ("USE t_nowhere", 1044),
        ("", 1065),
        ("SELECT SLEEP(1, 2)", 1582),
    ] {
        let told = same(&mut through, &mut direct, sql).await;
        let got = told.error.as_ref().map(|(code, ..)| *code);
        // which of two refusals is given for an unknown schema or function depends on the family
        assert!(got == Some(code) || (got.is_some() && matches!(code, 1044 | 1582)), "{sql}: {told:?}");
    }
    // the session goes on after each of them
    assert_eq!(through.query_first::<u32, _>("SELECT id FROM t").await.unwrap(), Some(1));
}

#[tokio::test]
async fn writes_tell_counts_ids_warnings_and_info() {
    let schema = schema("statements_writes").await;
    let (mut through, mut direct) = pair(&schema).await;
    for sql in [
        "CREATE TABLE % (id INT AUTO_INCREMENT PRIMARY KEY, n INT, word VARCHAR(5))",
        "INSERT INTO % (n) VALUES (1), (2), (3)",
        "INSERT INTO % (n) SELECT n + 10 FROM % ORDER BY id",
        "UPDATE % SET n = n WHERE id < 3",
        "UPDATE % SET n = n + 1 WHERE id < 3",
        "INSERT INTO % (id, n) VALUES (1, 9) ON DUPLICATE KEY UPDATE n = 9",
        "REPLACE INTO % (id, n) VALUES (1, 10)",
        "DELETE FROM % WHERE id = 2",
        "DELETE FROM % WHERE id = 999",
        "INSERT IGNORE INTO % (id, word) VALUES (1, 'dup'), (50, 'far too long')",
        "SHOW WARNINGS",
        "SELECT LAST_INSERT_ID() > 0, ROW_COUNT()",
        "ALTER TABLE % ADD COLUMN more INT",
        "DROP TABLE IF EXISTS nothing",
        "SHOW WARNINGS",
        "SELECT id, n, word FROM % ORDER BY id",
        "TRUNCATE TABLE %",
        "DROP TABLE %",
    ] {
        // the same on two tables of equal width of name: one through Sluice, one at the server
        let expected = driver::told(&mut direct, &sql.replace('%', "b")).await.unwrap();
        let told = driver::told(&mut through, &sql.replace('%', "a")).await.unwrap();
        // MySQL names the table in the warning about its key
        let rows =
            |told: &driver::Told| told.sets.iter().map(|(_, rows)| format!("{rows:?}").replace("'b.", "'a.")).collect::<Vec<_>>();
        assert_eq!((&told.ok, rows(&told), &told.error), (&expected.ok, rows(&expected), &expected.error), "{sql}");
    }
}

/// One column of every type with values at its edges, written and read in the binary protocol.
#[tokio::test]
async fn every_type_survives_a_prepared_statement() {
    let schema = schema("statements_types").await;
    let (mut through, mut direct) = pair(&schema).await;
    let date = |year, month, day, hour, micros| Value::Date(year, month, day, hour, 0, 0, micros);
    let columns: Vec<(&str, Vec<Value>)> = vec![
        ("TINYINT", vec![Value::Int(-128), Value::Int(127)]),
        ("TINYINT UNSIGNED", vec![Value::Int(0), Value::Int(255)]),
        ("SMALLINT", vec![Value::Int(-32768), Value::Int(32767)]),
        ("MEDIUMINT", vec![Value::Int(-8_388_608), Value::Int(8_388_607)]),
        ("INT", vec![Value::Int(i64::from(i32::MIN)), Value::Int(i64::from(i32::MAX))]),
        ("BIGINT", vec![Value::Int(i64::MIN), Value::Int(i64::MAX)]),
        ("BIGINT UNSIGNED", vec![Value::UInt(0), Value::UInt(u64::MAX)]),
        ("FLOAT", vec![Value::Float(-1.5), Value::Float(0.25)]),
        ("DOUBLE", vec![Value::Double(-1.0e300), Value::Double(1.0e-300)]),
        ("DECIMAL(30,10)", vec!["-12345678901234567890.0123456789".into(), "0.0000000001".into()]),
        ("BIT(9)", vec![Value::Bytes(vec![1, 255]), Value::Bytes(vec![0, 0])]),
        ("DATE", vec![date(1000, 1, 1, 0, 0), date(9999, 12, 31, 0, 0)]),
        ("DATETIME(6)", vec![date(2020, 2, 29, 23, 999_999), date(1970, 1, 1, 0, 0)]),
        ("TIMESTAMP(3)", vec![date(2020, 2, 29, 23, 123_000), date(2001, 9, 9, 1, 0)]),
        ("TIME(6)", vec![Value::Time(true, 34, 22, 59, 59, 0), Value::Time(false, 0, 0, 0, 1, 5)]),
        ("YEAR", vec![Value::Int(1901), Value::Int(2155)]),
        ("CHAR(3)", vec!["a☃b".into(), "".into()]),
        ("VARCHAR(300)", vec!["é".repeat(300).into(), "x".repeat(251).into()]),
        ("VARBINARY(300)", vec![Value::Bytes(vec![0; 300]), Value::Bytes((0..=255).collect())]),
        ("TEXT", vec!["x".repeat(65_535).into(), "".into()]),
        ("LONGBLOB", vec![Value::Bytes(vec![0xff; 100_000]), Value::Bytes(vec![])]),
        ("ENUM('a','b')", vec!["a".into(), "b".into()]),
        ("SET('a','b','c')", vec!["a,c".into(), "".into()]),
        ("JSON", vec!["{\"a\": [1, 2]}".into(), "null".into()]),
    ];
    for (index, (kind, values)) in columns.iter().enumerate() {
        through.query_drop(format!("CREATE TABLE c{index} (id INT PRIMARY KEY, v {kind})")).await.unwrap();
        let insert = format!("INSERT INTO c{index} VALUES (?, ?)");
        for (row, value) in values.iter().chain(&[Value::NULL]).enumerate() {
            let parameters = Params::Positional(vec![Value::from(row), value.clone()]);
            through.exec_drop(&insert, parameters).await.unwrap_or_else(|error| panic!("{kind}: {error}"));
        }
        let select = format!("SELECT v FROM c{index} WHERE id >= ? ORDER BY id");
        let read = async |conn: &mut Conn| {
            let rows: Vec<Row> = conn.exec(&select, (0,)).await.unwrap_or_else(|error| panic!("{kind}: {error}"));
            rows.into_iter()
                .map(|row| (row.columns_ref()[0].column_type(), row.unwrap()))
                .collect::<Vec<(ColumnType, Vec<Value>)>>()
        };
        let (there, here) = (read(&mut direct).await, read(&mut through).await);
        assert_eq!(here.len(), 3, "{kind}");
        assert_eq!(here, there, "{kind}");
    }
}

#[tokio::test]
async fn prepared_statements_are_reused_closed_and_fail_like_the_servers() {
    let schema = schema("statements_prepared").await;
    let (mut through, mut direct) = pair(&schema).await;
    through.query_drop("CREATE TABLE t (id INT PRIMARY KEY, n INT)").await.unwrap();
    let insert = through.prep("INSERT INTO t VALUES (?, ?)").await.unwrap();
    assert_eq!((insert.num_params(), insert.num_columns()), (2, 0));
    for id in 0..100 {
        through.exec_drop(&insert, (id, id * 2)).await.unwrap();
    }
    let select = through.prep("SELECT n FROM t WHERE id = ?").await.unwrap();
    assert_eq!((select.num_params(), select.num_columns()), (1, 1));
    for id in 0..100 {
        assert_eq!(through.exec_first::<i32, _, _>(&select, (id,)).await.unwrap(), Some(id * 2));
    }
    through.exec_batch(&insert, (100..200).map(|id| (id, 0))).await.unwrap();
    let duplicate = through.exec_drop(&insert, (1, 1)).await.unwrap_err();
    assert_eq!(server_error(&duplicate).unwrap().0, 1062);
    through.close(insert).await.unwrap();
    // the table changes under the statement
    through.query_drop("ALTER TABLE t ADD COLUMN word VARCHAR(9) DEFAULT 'x'").await.unwrap();
    assert_eq!(through.exec_first::<i32, _, _>(&select, (3,)).await.unwrap(), Some(6));
    for sql in ["SELECT * FROM nothing WHERE id = ?", "SELEKT ?", "CREATE DATABASE ?"] {
        let (here, there) = (through.prep(sql).await.unwrap_err(), direct.prep(sql).await.unwrap_err());
        assert_eq!(server_error(&here), server_error(&there), "{sql}");
    }
    // transactions, reads elsewhere, and the statement again
    let mut transaction = through.start_transaction(TxOpts::default()).await.unwrap();
    assert_eq!(transaction.exec_first::<i32, _, _>(&select, (4,)).await.unwrap(), Some(8));
    transaction.rollback().await.unwrap();
    assert_eq!(through.exec_first::<i32, _, _>(&select, (5,)).await.unwrap(), Some(10));
}

#[tokio::test]
async fn multi_statements_and_procedures_give_all_their_results() {
    let schema = schema("statements_multi").await;
    let (mut through, mut direct) = pair(&schema).await;
    through.query_drop("CREATE TABLE t (id INT)").await.unwrap();
    through.query_drop("CREATE PROCEDURE p () BEGIN SELECT 1; SELECT 2, 3; END").await.unwrap();
    for sql in [
        "SELECT 1; SELECT 2",
        "SELECT 1; SELEKT 2",
        "SELECT 1; SELECT * FROM nothing; SELECT 3",
        "CALL p()",
        "SELECT 0; CALL p(); SELECT 4",
    ] {
        same(&mut through, &mut direct, sql).await;
    }
    through.query_drop("INSERT INTO t VALUES (1); INSERT INTO t VALUES (2); UPDATE t SET id = id + 1").await.unwrap();
    let both: (u32, u32) = direct.query_first("SELECT MIN(id), MAX(id) FROM t").await.unwrap().unwrap();
    assert_eq!(both, (2, 3));
    let rows: Vec<u32> = through.exec("CALL p()", ()).await.unwrap();
    assert_eq!(rows, [1]);
}

#[tokio::test]
async fn twenty_mebibytes_go_up_and_come_back() {
    let schema = schema("statements_big").await;
    let (mut through, _) = pair(&schema).await;
    through.query_drop("CREATE TABLE t (id INT PRIMARY KEY, data LONGBLOB)").await.unwrap();
    let data: Vec<u8> = (0..20u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    through.exec_drop("INSERT INTO t VALUES (?, ?)", (1, &data)).await.unwrap();
    let back: Vec<u8> = through.exec_first("SELECT data FROM t WHERE id = ?", (1,)).await.unwrap().unwrap();
    assert!(back == data, "binary protocol");
    let back: Vec<u8> = through.query_first("SELECT data FROM t").await.unwrap().unwrap();
    assert!(back == data, "text protocol");
    // exactly at and around the 16 MiB a packet can carry
    for length in [0xff_fffa, 0xff_fffb, 0xff_ffff, 0x100_0000] {
        let sql = format!("SELECT LENGTH('{}')", "x".repeat(length));
        assert_eq!(through.query_first::<usize, _>(sql).await.unwrap(), Some(length));
        let long: String = through.query_first(format!("SELECT REPEAT('y', {length})")).await.unwrap().unwrap();
        assert_eq!(long.len(), length);
    }
}

#[tokio::test]
async fn many_rows_stream() {
    let mut conn = proxy().connect("shop").await.unwrap();
    let sql = "SELECT a.id, a.name, b.name FROM items a, items b, items c LIMIT 300000";
    let mut count = 0u32;
    conn.query_iter(sql).await.unwrap().for_each(|_row| count += 1).await.unwrap();
    assert_eq!(count, 300_000);
}

#[tokio::test]
async fn load_data_local() {
    let schema = schema("statements_load").await;
    let file = std::env::temp_dir().join(format!("sluice-load-{}.csv", std::process::id()));
    let lines: String = (0..50_000).map(|n| format!("{n}\tline {n}\n")).collect();
    std::fs::write(&file, &lines).unwrap();
    let options = proxy().options(APP).db_name(Some(&schema)).local_infile_handler(Some(WhiteListFsHandler::new([file.clone()])));
    let mut conn = proxy().connect_with(options).await.unwrap();
    conn.query_drop("CREATE TABLE t (id INT PRIMARY KEY, line VARCHAR(30))").await.unwrap();
    conn.query_drop(format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE t", file.display())).await.unwrap();
    assert_eq!((conn.affected_rows(), conn.info().contains("Records: 50000")), (50_000, true));
    let count: u32 = conn.query_first("SELECT COUNT(*) FROM t").await.unwrap().unwrap();
    assert_eq!(count, 50_000);
    std::fs::remove_file(file).unwrap();
    conn.query_drop("LOAD DATA LOCAL INFILE '/not/allowed' INTO TABLE t").await.unwrap_err();
}

#[tokio::test]
async fn transactions_commit_and_roll_back() {
    let schema = schema("statements_transactions").await;
    let (mut through, mut direct) = pair(&schema).await;
    through.query_drop("CREATE TABLE t (id INT PRIMARY KEY)").await.unwrap();
    let mut count = async || direct.query_first::<u32, _>("SELECT COUNT(*) FROM t").await.unwrap().unwrap();
    for (sql, visible) in [
        ("START TRANSACTION", 0),
        ("INSERT INTO t VALUES (1)", 0),
        ("SAVEPOINT s", 0),
        ("INSERT INTO t VALUES (2)", 0),
        ("ROLLBACK TO SAVEPOINT s", 0),
        ("COMMIT", 1),
        ("BEGIN", 1),
        ("INSERT INTO t VALUES (3)", 1),
        ("ROLLBACK", 1),
        ("SET autocommit = 0", 1),
        ("INSERT INTO t VALUES (4)", 1),
        ("COMMIT", 2),
        ("INSERT INTO t VALUES (5)", 2),
        ("SET autocommit = 1", 3),
        ("BEGIN", 3),
        ("INSERT INTO t VALUES (6)", 3),
        ("CREATE TABLE implicit (id INT)", 4),
        ("ROLLBACK", 4),
    ] {
        through.query_drop(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(count().await, visible, "after {sql}");
    }
    // a client that leaves in the middle leaves nothing behind
    let mut leaver = proxy().connect(&schema).await.unwrap();
    leaver.query_drop("BEGIN").await.unwrap();
    leaver.query_drop("INSERT INTO t VALUES (7)").await.unwrap();
    drop(leaver);
    let free = integration::wait::until_true("the row is free", std::time::Duration::from_secs(5), || async {
        let mut other = proxy().connect(&schema).await?;
        other.query_drop("SET innodb_lock_wait_timeout = 1").await?;
        Ok(other.query_drop("INSERT INTO t VALUES (7)").await.is_ok())
    });
    free.await.unwrap();
}

#[tokio::test]
async fn a_running_statement_can_be_killed() {
    let mut victim = proxy().connect("shop").await.unwrap();
    let id = victim.id();
    let sleeper = tokio::spawn(async move {
        let result = victim.query_drop("SELECT COUNT(*) FROM items a, items b, items c, items d, items e WHERE SLEEP(30)").await;
        (victim, result)
    });
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let mut killer = proxy().connect("shop").await.unwrap();
    killer.query_drop(format!("KILL QUERY {id}")).await.unwrap();
    let (mut victim, result) = tokio::time::timeout(std::time::Duration::from_secs(10), sleeper).await.unwrap().unwrap();
    if let Err(error) = result {
        assert_eq!(server_error(&error).unwrap().0, 1317, "{error}");
    }
    assert_eq!(victim.query_first::<u32, _>("SELECT 1").await.unwrap(), Some(1));
    killer.query_drop(format!("KILL {id}")).await.unwrap();
    let gone = integration::wait::until_true("the connection is gone", std::time::Duration::from_secs(5), async || {
        Ok(victim.ping().await.is_err())
    });
    gone.await.unwrap();
}
