//! Prepared statements at scale: one on each server connection for a text, shared by all clients, closed when there are too many,
//! prepared again unseen; a table that changes under them shows as at the server.

use integration::cluster::Cluster;
use integration::proxy::Proxy;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use crate::world::{cluster, flavour, pair, schema, schema_on};

/// Bug: a server at its `max_prepared_stmt_count` answered 1461, and the client got it although nearly all of those statements
/// were kept prepared for nobody.
#[tokio::test]
async fn a_thousand_texts_on_few_connections_stay_within_the_servers_limit() {
    const LIMIT: usize = 60;
    let option = format!("--max-prepared-stmt-count={LIMIT}");
    let cluster = Cluster::start_with(flavour(), &[&option], &|_| {}).await.unwrap();
    // Two hundred would be more than the server takes.
    let proxy = Proxy::before(&cluster).every_server("max_connections", "4").set("pool.max_prepared_per_connection", "50");
    let proxy = proxy.start().await.unwrap();
    let schema = schema_on(&cluster, "prepared_scale").await;
    let mut conn = proxy.connect(&schema).await.unwrap();
    conn.query_drop("CREATE TABLE t (id INT PRIMARY KEY)").await.unwrap();
    conn.query_drop("INSERT INTO t VALUES (1)").await.unwrap();
    cluster.settle().await.unwrap();
    let clients = (0..8u32).map(|client| {
        let (proxy, schema) = (&proxy, schema.as_str());
        async move {
            // By itself the driver keeps 32 statements and closes older ones.
            let options = proxy.options(integration::accounts::APP).db_name(Some(schema)).stmt_cache_size(Some(200));
            let mut conn = proxy.connect_with(options).await.unwrap();
            let mut kept = Vec::new();
            for n in 0..125u32 {
                // reads of a replica, and of the master
                let lock = if n % 5 == 0 { " FOR UPDATE" } else { "" };
                let sql = format!("SELECT id + ? + {} FROM t{lock}", client * 1000 + n);
                let statement = conn.prep(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
                let sum: Option<u32> = conn.exec_first(&statement, (5,)).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
                assert_eq!(sum, Some(6 + client * 1000 + n));
                kept.push(statement);
            }
            for (n, statement) in kept.iter().enumerate().step_by(7) {
                let sum: Option<u32> = conn.exec_first(statement, (7,)).await.unwrap_or_else(|error| panic!("{n} again: {error}"));
                assert_eq!(sum, Some(8 + client * 1000 + n as u32));
            }
        }
    });
    futures(clients).await;
    for server in cluster.servers() {
        let table = server.query("SHOW GLOBAL STATUS LIKE 'Prepared_stmt_count'").await.unwrap();
        let count: usize = table.rows[0][1].parse().unwrap();
        assert!(count <= LIMIT, "{} holds {count}", server.name());
    }
    proxy.check_running().unwrap();
}

/// Bug: a statement that asks for what the one before has left is prepared with the values in its text; where it was one client's alone (it names a
/// user variable, too), each of its executions left another statement at the server.
#[tokio::test]
async fn a_text_with_values_is_closed_behind_its_execution() {
    let cluster = Cluster::start_with(flavour(), &["--max-prepared-stmt-count=40"], &|_| {}).await.unwrap();
    let proxy = Proxy::before(&cluster).every_server("max_connections", "1").start().await.unwrap();
    let schema = schema_on(&cluster, "prepared_values").await;
    let mut conn = proxy.connect(&schema).await.unwrap();
    conn.query_drop("CREATE TABLE log (name VARCHAR(9), n INT)").await.unwrap();
    conn.query_drop("SET @u = 'own'").await.unwrap();
    let statement = conn.prep("INSERT INTO log VALUES (@u, ROW_COUNT())").await.unwrap();
    for _ in 0..120 {
        conn.exec_drop(&statement, ()).await.unwrap();
    }
    conn.query_drop("SELECT 1 UNION SELECT 2 UNION SELECT 3").await.unwrap();
    let statement = conn.prep("INSERT INTO log VALUES (@u, FOUND_ROWS())").await.unwrap();
    conn.query_drop("BEGIN").await.unwrap();
    for _ in 0..120 {
        conn.exec_drop(&statement, ()).await.unwrap();
    }
    conn.query_drop("COMMIT").await.unwrap();
    let written: Option<u32> = conn.query_first("SELECT COUNT(*) FROM log WHERE name = 'own'").await.unwrap();
    assert_eq!(written, Some(240));
}

/// Bug: what `SQL_CALC_FOUND_ROWS` counted on a replica kept a write there that asks for the count, and it was refused for the replica's `read_only`.
#[tokio::test]
async fn a_write_is_told_what_a_replica_has_counted() {
    let schema = schema("prepared_counted").await;
    let (mut through, _) = pair(&schema).await;
    through.query_drop("CREATE TABLE t (n INT)").await.unwrap();
    through.query_drop("INSERT INTO t VALUES (1), (2), (3)").await.unwrap();
    through.query_drop("CREATE TABLE log (way VARCHAR(9), n INT)").await.unwrap();
    cluster().settle().await.unwrap();
    let prepared = through.prep("INSERT INTO log VALUES ('prepared', FOUND_ROWS())").await.unwrap();
    for way in ["text", "prepared"] {
        through.query_drop("SELECT SQL_CALC_FOUND_ROWS n FROM t LIMIT 1").await.unwrap();
        match way {
            "text" => through.query_drop("INSERT INTO log VALUES ('text', FOUND_ROWS())").await.unwrap(),
            _ => through.exec_drop(&prepared, ()).await.unwrap(),
        }
    }
    let seen: Vec<(String, u32)> = through.query("SELECT way, n FROM log ORDER BY way").await.unwrap();
    assert_eq!(seen, [("prepared".into(), 3), ("text".into(), 3)]);
}

/// All of them at once, on this task.
async fn futures<F: Future<Output = ()>>(all: impl Iterator<Item = F>) {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        all.retain_mut(|one| one.as_mut().poll(cx).is_pending());
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

fn shape(rows: &[Row]) -> Vec<(String, String, String)> {
    let Some(row) = rows.first() else { return Vec::new() };
    let columns = row.columns_ref().iter().enumerate();
    columns
        .map(|(n, column)| (column.name_str().into_owned(), format!("{:?}", column.column_type()), format!("{:?}", row.as_ref(n))))
        .collect()
}

#[tokio::test]
async fn a_table_that_changes_under_shared_statements_shows_as_at_the_server() {
    let schema = schema("prepared_metadata").await;
    let (mut through, mut direct) = pair(&schema).await;
    through.query_drop("CREATE TABLE t (id INT PRIMARY KEY, n INT)").await.unwrap();
    through.query_drop("INSERT INTO t VALUES (1, 10)").await.unwrap();
    cluster().settle().await.unwrap();
    const SQL: &str = "SELECT * FROM t WHERE id >= ? ORDER BY id";
    let mut clients: Vec<Conn> = Vec::new();
    for _ in 0..4 {
        clients.push(crate::world::proxy().connect(&schema).await.unwrap());
    }
    let there = direct.prep(SQL).await.unwrap();
    let mut statements = Vec::new();
    for client in &mut clients {
        statements.push(client.prep(SQL).await.unwrap());
    }
    for change in [
        "INSERT INTO t VALUES (2, 20)",
        "ALTER TABLE t ADD COLUMN word VARCHAR(9) DEFAULT 'new'",
        "ALTER TABLE t MODIFY n DECIMAL(8,3)",
        "ALTER TABLE t DROP COLUMN word, ADD COLUMN day DATE DEFAULT '2020-02-29' FIRST",
        "DROP TABLE t; CREATE TABLE t (id BIGINT PRIMARY KEY, other JSON, more INT); INSERT INTO t VALUES (7, '[1]', 3)",
        "RENAME TABLE t TO u; CREATE TABLE t (id INT, a INT, b INT, c INT, d INT); INSERT INTO t VALUES (1, 2, 3, 4, 5)",
    ] {
        through.query_drop(change).await.unwrap();
        cluster().settle().await.unwrap();
        let expected: Vec<Row> = direct.exec(&there, (0,)).await.unwrap();
        for (client, statement) in clients.iter_mut().zip(&statements) {
            for _ in 0..3 {
                let rows: Vec<Row> = client.exec(statement, (0,)).await.unwrap_or_else(|error| panic!("{change}: {error}"));
                assert_eq!((shape(&rows), rows.len()), (shape(&expected), expected.len()), "{change}");
            }
        }
    }
    through.query_drop("DROP TABLE t").await.unwrap();
    cluster().settle().await.unwrap();
    for (client, statement) in clients.iter_mut().zip(&statements) {
        let error = client.exec_drop(statement, (0,)).await.unwrap_err();
        assert_eq!(integration::driver::server_error(&error).map(|(code, ..)| code), Some(1146), "{error}");
    }
}

/// The server's statements go with its connections; the client's stay.
#[tokio::test]
async fn statements_outlive_the_connections_they_were_prepared_on() {
    let schema = schema("prepared_killed").await;
    let proxy = Proxy::before(cluster()).every_server("max_connections", "3").start().await.unwrap();
    let mut conn = proxy.connect(&schema).await.unwrap();
    conn.query_drop("CREATE TABLE t (id INT PRIMARY KEY, n INT)").await.unwrap();
    cluster().settle().await.unwrap();
    let insert = conn.prep("INSERT INTO t VALUES (?, ?)").await.unwrap();
    let select = conn.prep("SELECT n FROM t WHERE id = ?").await.unwrap();
    for id in 0..6 {
        conn.exec_drop(&insert, (id, id * 10)).await.unwrap();
        assert_eq!(conn.exec_first::<i32, _, _>(&select, (id,)).await.unwrap(), Some(id * 10));
        // every idle connection in this schema, on every server
        for server in cluster().servers() {
            let sql = format!("SELECT ID FROM information_schema.PROCESSLIST WHERE DB = '{schema}' AND COMMAND = 'Sleep'");
            for row in server.query(&sql).await.unwrap().rows {
                let _ = server.run(&[&format!("KILL {}", row[0])]).await;
            }
        }
    }
}

/// Bug: on MySQL a number came back as NULL, because another client had executed the same text with a DATETIME: a server keeps the
/// type of a parameter, and the statement was shared.
#[tokio::test]
async fn a_parameter_is_read_for_what_it_is_whatever_others_sent_for_it() {
    use mysql_async::Value;
    let proxy = Proxy::before(cluster()).every_server("max_connections", "1").start().await.unwrap();
    let values = [
        (Value::Date(2020, 1, 2, 3, 4, 5, 0), "2020-01-02 03:04:05"),
        (Value::Int(-1), "-1"),
        (Value::Double(1.5), "1.5"),
        (Value::Bytes(b"abc".to_vec()), "abc"),
        (Value::NULL, "NULL"),
        (Value::Time(false, 0, 1, 2, 3, 0), "001:02:03"),
        (Value::UInt(u64::MAX), "18446744073709551615"),
    ];
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut conn = proxy.connect("").await.unwrap();
        let statement = conn.prep("SELECT ? AS it, /* sluice: master */ 1").await.unwrap();
        clients.push((conn, statement));
    }
    for first in 0..values.len() {
        for second in 0..values.len() {
            for (client, at) in [(0, first), (1, second), (0, second), (1, first)] {
                let (value, expected) = &values[at];
                let (conn, statement) = &mut clients[client];
                let row: Row = conn.exec_first(&*statement, (value.clone(),)).await.unwrap().unwrap();
                let it = match &row[0] {
                    Value::Bytes(text) => String::from_utf8_lossy(text).into_owned(),
                    Value::NULL => "NULL".to_owned(),
                    other => other.as_sql(true).trim_matches('\'').to_owned(),
                };
                // Fractions of a second are written out where the type has them.
                let it = it.trim_end_matches(".000000").to_owned();
                assert_eq!(it, *expected, "client {client}: {} behind {}", expected, values[first].1);
            }
        }
    }
}

/// Bug: long data for a parameter arrived as a number. Another client had executed the same text, under the same number, with an INT
/// there, and had left the connection; a server keeps the types of a statement, and reads long data before new ones come.
#[tokio::test]
async fn long_data_is_one_clients() {
    use integration::wire::{Seen, Wire};
    use sluice::protocol::Capabilities;
    use sluice::protocol::reply::Expect;

    let schema = schema("prepared_long_data").await;
    let proxy = Proxy::before(cluster()).every_server("max_connections", "1").start().await.unwrap();
    let insert = format!("INSERT INTO {schema}.t VALUES (?, ?)");
    for (columns, numbers) in [("a INT, b LONGTEXT", true), ("a LONGTEXT, b LONGTEXT", false)] {
        let mut wire = Wire::login(proxy.port(), Capabilities::DEPRECATE_EOF).await.unwrap();
        wire.query(&format!("DROP TABLE IF EXISTS {schema}.t")).await.unwrap();
        wire.query(&format!("CREATE TABLE {schema}.t ({columns})")).await.unwrap();
        wire.prepare(&insert).await.unwrap();
        let id = wire.statement.to_le_bytes();
        let piece = |param: u8, data: &[u8]| [&[0x18][..], &id, &[param, 0], data].concat();
        for _ in 0..3 {
            if !numbers {
                wire.send(&piece(0, b"12345678")).await.unwrap();
            }
            wire.send(&piece(1, b"ab")).await.unwrap();
        }
        // LONG or STRING, then BLOB.
        let types: &[u8] = if numbers { &[3, 0, 0xfc, 0, 7, 0, 0, 0] } else { &[0xfe, 0, 0xfc, 0] };
        let execute = [&[0x17][..], &id, &[0, 1, 0, 0, 0, 0, 1], types].concat();
        let done = wire.ask(&execute, Expect::Execute).await.unwrap();
        assert!(matches!(done[..], [Seen::Ok(1, ..)]), "{done:?}");
        let lengths = wire.query(&format!("SELECT CONCAT('a', LENGTH(a), 'b', LENGTH(b)) FROM {schema}.t")).await.unwrap();
        let expected = if numbers { "a1b6" } else { "a24b6" };
        assert!(format!("{lengths:?}").contains(expected), "{lengths:?}");
    }
}

/// Bug: pieces of long data that came behind one that was lost went to the server. The execution was refused, "send it again", and what was sent
/// again stood there behind them. And a client that left while its piece waited for a connection was waited for all the same.
#[tokio::test]
async fn long_data_of_which_a_piece_was_lost() {
    use integration::wait::until_true;
    use integration::wire::{Seen, Wire};
    use sluice::protocol::Capabilities;
    use sluice::protocol::reply::Expect;
    use std::time::Duration;

    let schema = schema("prepared_lost_data").await;
    let builder = Proxy::before(cluster()).every_server("max_connections", "1");
    let mut proxy = builder.set("pool.checkout_timeout", "\"300ms\"").start().await.unwrap();
    let mut wire = Wire::login(proxy.port(), Capabilities::DEPRECATE_EOF).await.unwrap();
    wire.query(&format!("CREATE TABLE {schema}.t (a LONGTEXT)")).await.unwrap();
    wire.prepare(&format!("INSERT INTO {schema}.t VALUES (?)")).await.unwrap();
    let id = wire.statement.to_le_bytes();
    let piece = |data: &[u8]| [&[0x18][..], &id, &[0, 0], data].concat();
    let execute = [&[0x17][..], &id, &[0, 1, 0, 0, 0, 0, 1, 0xfc, 0]].concat();
    let mut other = proxy.connect("shop").await.unwrap();
    other.query_drop("BEGIN").await.unwrap();
    other.query_drop("SELECT * FROM items WHERE id = 1 FOR UPDATE").await.unwrap();
    wire.send(&piece(b"one")).await.unwrap();
    // The answer comes when the piece was given up.
    wire.ask(b"\x0e", Expect::Simple).await.unwrap();
    other.query_drop("COMMIT").await.unwrap();
    wire.send(&piece(b"two")).await.unwrap();
    let refused = wire.ask(&execute, Expect::Execute).await.unwrap();
    assert!(matches!(refused[..], [Seen::Err(..)]), "{refused:?}");
    for data in [b"one", b"two"] {
        wire.send(&piece(data)).await.unwrap();
    }
    let done = wire.ask(&execute, Expect::Execute).await.unwrap();
    assert!(matches!(done[..], [Seen::Ok(1, ..)]), "{done:?}");
    let stored: Option<String> = other.query_first(format!("SELECT a FROM {schema}.t FOR UPDATE")).await.unwrap();
    assert_eq!(stored.as_deref(), Some("onetwo"));

    proxy.reload_with(|builder| builder.set("pool.checkout_timeout", "\"100s\"")).await.unwrap();
    other.query_drop("BEGIN").await.unwrap();
    other.query_drop("SELECT * FROM items WHERE id = 1 FOR UPDATE").await.unwrap();
    wire.send(&piece(b"one")).await.unwrap();
    let waits = async |wanted: bool| {
        let asked = until_true("the piece waits or does not", Duration::from_secs(10), async || {
            Ok(proxy.admin("SHOW POOLS").await?.column("waiting").contains(&"1") == wanted)
        });
        asked.await.unwrap();
    };
    waits(true).await;
    drop(wire);
    waits(false).await;
}

/// Bug: the warnings of the statement before a `COM_STMT_PREPARE` were still told behind it.
#[tokio::test]
async fn preparing_takes_the_warnings_of_the_statement_before() {
    use integration::wire::Wire;
    use sluice::protocol::Capabilities;
    let mut told = Vec::new();
    for port in [cluster().server("db1").port(), crate::world::proxy().port()] {
        let mut wire = Wire::login(port, Capabilities::DEPRECATE_EOF).await.unwrap();
        for text in ["SELECT * FROM shop.items", "SELECT 1", "DO 1", "INSERT INTO shop.nothing VALUES (1)", "SHOW WARNINGS"] {
            wire.query("DROP TABLE IF EXISTS shop.nothing").await.unwrap();
            wire.prepare(text).await.unwrap();
            told.push(format!("{text}: {:?}", wire.query("SELECT @@warning_count, @@error_count").await.unwrap()));
            told.push(format!("{text}: {:?}", wire.query("SHOW WARNINGS").await.unwrap()));
        }
    }
    let through = told.split_off(told.len() / 2);
    assert_eq!(told, through);
}

/// Bug: a statement told what another client's variables had made of it: servers read some variables when a statement is prepared,
/// and the one statement was shared by clients in which they differ.
#[tokio::test]
async fn a_statement_has_the_variables_it_was_prepared_with() {
    use integration::flavour::Flavour;
    let proxy = Proxy::before(cluster()).every_server("max_connections", "1").start().await.unwrap();
    let probes = [
        ("default_week_format", "0", "1", "SELECT WEEK('2008-02-20')"),
        ("div_precision_increment", "4", "10", "SELECT 1/3"),
        ("lc_time_names", "'en_US'", "'de_DE'", "SELECT MONTHNAME('2020-03-01')"),
        ("group_concat_max_len", "1024", "4", "SELECT GROUP_CONCAT(n) FROM (SELECT 10 AS n UNION SELECT 20) AS t"),
        ("sql_mode", "''", "'PIPES_AS_CONCAT'", "SELECT 1 || 2"),
    ];
    let mysql = [
        ("time_zone", "'+00:00'", "'+05:00'", "SELECT CONCAT(TIMESTAMP'2020-01-01 00:00:00+02:00')"),
        (
            "default_collation_for_utf8mb4",
            "'utf8mb4_0900_ai_ci'",
            "'utf8mb4_general_ci'",
            "SELECT COLLATION(CAST('a' AS CHAR CHARACTER SET utf8mb4))",
        ),
    ];
    let mariadb = [("old_mode", "''", "'UTF8_IS_UTF8MB3'", "SELECT CHARSET(CONVERT('a' USING utf8))")];
    let of_family = if flavour() == Flavour::MySql { &mysql[..] } else { &mariadb[..] };
    let mut told = Vec::new();
    for through in [false, true] {
        for (name, one, other, sql) in probes.iter().chain(of_family) {
            let mut clients = Vec::new();
            for value in [one, other] {
                let mut conn = if through {
                    proxy.connect("").await.unwrap()
                } else {
                    cluster().server("db1").connect(integration::accounts::APP).await.unwrap()
                };
                if let Err(error) = conn.query_drop(format!("SET SESSION {name} = {value}")).await {
                    told.push(format!("{name}: {:?}", integration::driver::server_error(&error)));
                }
                let statement = conn.prep(*sql).await.unwrap();
                clients.push((conn, statement, value));
            }
            for round in 0..2 {
                for (conn, statement, value) in &mut clients {
                    let row: Row = conn.exec_first(&*statement, ()).await.unwrap().unwrap();
                    told.push(format!("{name} = {value}, round {round}: {:?}", row.as_ref(0)));
                }
            }
            // It keeps them when they are set to something else.
            let (conn, statement, _) = &mut clients[0];
            conn.query_drop(format!("SET SESSION {name} = {other}")).await.ok();
            let row: Row = conn.exec_first(&*statement, ()).await.unwrap().unwrap();
            told.push(format!("{name} was {one}: {:?}", row.as_ref(0)));
        }
    }
    let here = told.split_off(told.len() / 2);
    assert_eq!(told, here);
}

/// Bug: a statement that had to be prepared anew brought the connection to all that the session had been when it was first prepared,
/// `autocommit` too, and so ended the transaction that stood open; and user variables to what they had been.
#[tokio::test]
async fn preparing_anew_leaves_the_transaction_and_the_variables_alone() {
    use integration::wire::{Seen, Wire};
    use sluice::protocol::Capabilities;
    use sluice::protocol::reply::Expect;

    let schema = schema("prepared_anew").await;
    let mut told = Vec::new();
    for port in [cluster().server("db1").port(), crate::world::proxy().port()] {
        let mut wire = Wire::login(port, Capabilities::DEPRECATE_EOF).await.unwrap();
        wire.query(&format!("CREATE OR REPLACE VIEW {schema}.one AS SELECT 1 AS n")).await.unwrap();
        wire.query(&format!("DROP TABLE IF EXISTS {schema}.t")).await.unwrap();
        wire.query(&format!("CREATE TABLE {schema}.t (n INT, b LONGTEXT)")).await.unwrap();
        for (before, after) in [("autocommit = 1", "autocommit = 0"), ("autocommit = 0", "autocommit = 1")] {
            wire.query(&format!("SET {before}, @seen = 'before'")).await.unwrap();
            wire.query("COMMIT").await.unwrap();
            wire.prepare(&format!("INSERT INTO {schema}.t VALUES (?, ?)")).await.unwrap();
            wire.query(&format!("SET {after}, time_zone = '+03:00', @seen = 'after'")).await.unwrap();
            wire.query("BEGIN").await.unwrap();
            wire.query(&format!("INSERT INTO {schema}.t VALUES (1, 'in the transaction')")).await.unwrap();
            wire.query(&format!("SELECT 'selected' INTO @seen FROM {schema}.one")).await.unwrap();
            let id = wire.statement.to_le_bytes();
            // What has long data is one client's own, and is prepared for it.
            wire.send(&[&[0x18][..], &id, &[1, 0], b"long"].concat()).await.unwrap();
            let execute = [&[0x17][..], &id, &[0, 1, 0, 0, 0, 0, 1], &[3, 0, 0xfc, 0, 7, 0, 0, 0]].concat();
            let done = wire.ask(&execute, Expect::Execute).await.unwrap();
            assert!(matches!(done[..], [Seen::Ok(1, ..)]), "{done:?}");
            told.push(format!("{after}: {:?}", wire.query("SELECT CONCAT(@seen, @@autocommit, @@time_zone)").await.unwrap()));
            wire.query("ROLLBACK").await.unwrap();
            told.push(format!(
                "{after}: {:?}",
                wire.query(&format!("SELECT CONCAT(COUNT(*), 'rows') FROM {schema}.t")).await.unwrap()
            ));
        }
        wire.query("COMMIT").await.unwrap();
    }
    let through = told.split_off(told.len() / 2);
    assert_eq!(told, through);
}

/// Bug: Node's driver sends each number as a DOUBLE, and an id that a client gave itself was taken for one that the server had made.
#[tokio::test]
async fn an_id_that_is_given_as_a_double_is_not_the_last_insert_id() {
    use mysql_async::Value;
    let schema = schema("prepared_double_id").await;
    let (mut through, mut direct) = pair(&schema).await;
    through.query_drop("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY)").await.unwrap();
    for (conn, first) in [(&mut through, 1000), (&mut direct, 2000)] {
        conn.query_drop(format!("ALTER TABLE t AUTO_INCREMENT = {first}")).await.unwrap();
        conn.query_drop("INSERT INTO t VALUES (NULL)").await.unwrap();
        let made: u64 = conn.query_first("SELECT LAST_INSERT_ID()").await.unwrap().unwrap();
        for given in [Value::Double(f64::from(first) + 77.0), Value::Float(first as f32 + 78.0)] {
            conn.exec_drop("INSERT INTO t VALUES (?)", (given.clone(),)).await.unwrap();
            let told: u64 = conn.query_first("SELECT LAST_INSERT_ID()").await.unwrap().unwrap();
            assert_eq!(told, made, "behind {given:?}");
        }
    }
}

/// Bug: MySQL fixes the type of a user variable when a statement is prepared, and the statement was shared: 'abc' came back as 0, and
/// 1.50 as 2, where another client's variable of that name was a number.
#[tokio::test]
async fn a_user_variable_is_read_for_what_it_is_whatever_others_have_in_it() {
    let proxy = Proxy::before(cluster()).every_server("max_connections", "1").start().await.unwrap();
    let mut told = Vec::new();
    for through in [false, true] {
        for sql in ["SELECT @a", "SELECT @a + 0", "SELECT CONCAT(@a, 'x')", "SELECT @a / 3"] {
            let mut clients = Vec::new();
            for value in ["18446744073709551615", "'abc'", "1.50", "2e0", "5"] {
                let mut conn = if through {
                    proxy.connect("").await.unwrap()
                } else {
                    cluster().server("db1").connect(integration::accounts::APP).await.unwrap()
                };
                conn.query_drop(format!("SET @a = {value}")).await.unwrap();
                let statement = conn.prep(sql).await.unwrap();
                clients.push((conn, statement, value));
            }
            for round in 0..2 {
                for (conn, statement, value) in &mut clients {
                    let row: Row = conn.exec_first(&*statement, ()).await.unwrap().unwrap();
                    let kind = row.columns_ref()[0].column_type();
                    told.push(format!("{sql}, {value}, round {round}: {:?} {kind:?}", row.as_ref(0)));
                }
            }
        }
    }
    let here = told.split_off(told.len() / 2);
    assert_eq!(told, here);
}

/// Bug: a procedure that ended with the error of a statement which must be prepared again was executed seven times.
#[tokio::test]
async fn what_ends_as_if_it_was_not_prepared_is_executed_once() {
    let schema = schema("prepared_once").await;
    let signal = |state: &str| format!("SIGNAL SQLSTATE '{state}' SET MYSQL_ERRNO = 1615, MESSAGE_TEXT = 'again'");
    let setup = [
        format!("USE {schema}"),
        "CREATE TABLE log (id INT AUTO_INCREMENT PRIMARY KEY) ENGINE=MyISAM".to_owned(),
        "CREATE TABLE t (id INT) ENGINE=MyISAM".to_owned(),
        "CREATE PROCEDURE executes () BEGIN INSERT INTO log VALUES (); EXECUTE nosuch; END".to_owned(),
        format!("CREATE PROCEDURE signals () BEGIN INSERT INTO log VALUES (); {}; END", signal("HY000")),
        format!("CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW BEGIN INSERT INTO log VALUES (); {}; END", signal("45000")),
    ];
    cluster().server("db1").run(&setup.each_ref().map(String::as_str)).await.unwrap();
    cluster().settle().await.unwrap();
    let mut conn = crate::world::proxy().connect(&schema).await.unwrap();
    for (sql, expected) in [("CALL executes()", 1243), ("CALL signals()", 1615), ("INSERT INTO t VALUES (1)", 1615)] {
        conn.query_drop("TRUNCATE log").await.unwrap();
        let error = conn.exec_drop(sql, ()).await.unwrap_err();
        assert_eq!(integration::driver::server_error(&error).map(|(code, ..)| code), Some(expected), "{sql}: {error}");
        assert_eq!(conn.query_first::<u32, _>("SELECT COUNT(*) FROM log").await.unwrap(), Some(1), "{sql}");
    }
}
