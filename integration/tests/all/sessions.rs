//! A session is the client's own, whichever server connection serves it; it reads its own writes; it is pinned only while it
//! must be.

use std::time::Duration;

use integration::accounts::{Account, REPORT};
use integration::cluster::Cluster;
use integration::flavour::Flavour;
use integration::proxy::Proxy;
use integration::wait::until_true;
use integration::witness::{UTF8MB4, Wire};
use mysql_async::prelude::Queryable;
use mysql_async::{ChangeUserOpts, Conn};

use crate::cache::{caching, keep};
use crate::world::{cluster, flavour, own, proxy, schema, schema_on, where_am_i};

/// A hundred clients on five connections a server: each has its own schema, time zone, SQL mode, limits and rows.
#[tokio::test]
async fn a_hundred_clients_on_five_connections_keep_their_own_state() {
    for n in 0..10 {
        let schema = schema(&format!("sessions_{n}")).await;
        let table = format!("CREATE TABLE {schema}.t (client INT, round INT, PRIMARY KEY (client, round))");
        cluster().server("db1").run(&[&table]).await.unwrap();
    }
    cluster().settle().await.unwrap();
    let proxy = Proxy::before(cluster()).every_server("max_connections", "5").start().await.unwrap();
    let proxy = std::sync::Arc::new(proxy);
    let clients: Vec<_> = (0..100u32)
        .map(|client| {
            let proxy = std::sync::Arc::clone(&proxy);
            tokio::spawn(async move {
                let mut conn = proxy.connect("shop").await.unwrap();
                one_client(&mut conn, client, "sessions", 8).await;
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let threads: u64 =
        proxy.admin("SHOW SERVERS").await.unwrap().column("connections_used").iter().map(|n| n.parse::<u64>().unwrap()).sum();
    assert_eq!(threads, 0, "an idle session holds no server connection");
}

/// What one session leaves set is not there for the next one on its connection, whichever way round a server keeps the variable.
#[tokio::test]
async fn what_a_session_left_set_is_gone_for_the_next_on_its_connection() {
    let proxy = Proxy::before(cluster()).every_server("max_connections", "1").start().await.unwrap();
    let names = [
        "foreign_key_checks",
        "unique_checks",
        "sql_notes",
        "sql_warnings",
        "sql_big_selects",
        "sql_safe_updates",
        "sql_buffer_result",
        "sql_auto_is_null",
        "sql_quote_show_create",
        "big_tables",
    ];
    for name in names {
        let ask = format!("/* sluice: master */ SELECT CAST(@@SESSION.{name} AS SIGNED)");
        let mut first = proxy.connect("shop").await.unwrap();
        let before: i64 = first.query_first(&ask).await.unwrap().unwrap();
        first.query_drop(format!("SET SESSION {name} = {}", 1 - before)).await.unwrap();
        assert_eq!(first.query_first::<i64, _>(&ask).await.unwrap(), Some(1 - before), "{name}");
        first.disconnect().await.unwrap();
        let mut next = proxy.connect("shop").await.unwrap();
        assert_eq!(next.query_first::<i64, _>(&ask).await.unwrap(), Some(before), "{name}");
        next.disconnect().await.unwrap();
    }
}

/// A thousand clients, all there at once, on four connections a server.
#[tokio::test]
async fn a_thousand_clients_on_four_connections_keep_their_own_state() {
    for n in 0..10 {
        let schema = schema(&format!("thousand_{n}")).await;
        let table = format!("CREATE TABLE {schema}.t (client INT, round INT, PRIMARY KEY (client, round))");
        cluster().server("db1").run(&[&table]).await.unwrap();
    }
    cluster().settle().await.unwrap();
    let proxy = Proxy::before(cluster()).every_server("max_connections", "4").start().await.unwrap();
    let proxy = std::sync::Arc::new(proxy);
    let all_there = std::sync::Arc::new(tokio::sync::Barrier::new(1000));
    // A login has a limit of time, which a thousand at once can exceed on a small machine.
    let logins = std::sync::Arc::new(tokio::sync::Semaphore::new(20));
    let clients: Vec<_> = (0..1000u32)
        .map(|client| {
            let (proxy, all_there) = (std::sync::Arc::clone(&proxy), std::sync::Arc::clone(&all_there));
            let logins = std::sync::Arc::clone(&logins);
            tokio::spawn(async move {
                let turn = logins.acquire().await.unwrap();
                let mut conn = proxy.connect("shop").await.unwrap();
                drop(turn);
                all_there.wait().await;
                one_client(&mut conn, client, "thousand", 1).await;
                // Behind all the others' statements its own state is still there.
                all_there.wait().await;
                let (schema, zone): (String, String) = conn.query_first("SELECT DATABASE(), @@time_zone").await.unwrap().unwrap();
                assert_eq!((schema, zone), (format!("t_thousand_{}", client % 10), format!("+{:02}:00", client % 12)));
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let opened: Vec<u64> = cluster_connections(&proxy).await;
    assert!(opened.iter().all(|n| *n <= 4), "{opened:?}");
}

/// Connections open in each pool.
async fn cluster_connections(proxy: &Proxy) -> Vec<u64> {
    let servers = proxy.admin("SHOW SERVERS").await.unwrap();
    let number = |column: &str| servers.column(column).iter().map(|n| n.parse::<u64>().unwrap()).collect::<Vec<_>>();
    number("connections_used").into_iter().zip(number("connections_idle")).map(|(used, idle)| used + idle).collect()
}

async fn one_client(conn: &mut Conn, client: u32, schemas: &str, rounds: u32) {
    let schema = format!("t_{schemas}_{}", client % 10);
    let zone = format!("+{:02}:00", client % 12);
    let mode = ["ANSI_QUOTES", "", "NO_BACKSLASH_ESCAPES", "STRICT_TRANS_TABLES"][client as usize % 4];
    let length = u64::from(5_000 + client);
    let (charset, collation) = [("utf8mb4", "utf8mb4_bin"), ("latin1", "latin1_german1_ci")][client as usize % 2];
    conn.query_drop(format!("USE {schema}")).await.unwrap();
    conn.query_drop(format!("SET time_zone = '{zone}', SESSION sql_mode = '{mode}'")).await.unwrap();
    conn.query_drop(format!("SET @@group_concat_max_len = {length}")).await.unwrap();
    conn.query_drop(format!("SET NAMES {charset} COLLATE {collation}")).await.unwrap();
    for round in 0..rounds {
        let state: (String, String, String, u64, String) = conn
            .query_first("SELECT DATABASE(), @@time_zone, @@sql_mode, @@group_concat_max_len, @@collation_connection")
            .await
            .unwrap()
            .unwrap();
        let expected = (schema.clone(), zone.clone(), mode.to_owned(), length, collation.to_owned());
        assert_eq!(state, expected, "client {client} round {round}");
        conn.exec_drop("INSERT INTO t VALUES (?, ?)", (client, round)).await.unwrap();
        let own: u32 = conn.query_first(format!("SELECT COUNT(*) FROM t WHERE client = {client}")).await.unwrap().unwrap();
        assert_eq!(own, round + 1, "client {client} reads its own writes");
        let quoted: String = conn.query_first(r"SELECT 'a\\b'").await.unwrap().unwrap();
        let expected = if mode == "NO_BACKSLASH_ESCAPES" { r"a\\b" } else { r"a\b" };
        assert_eq!(quoted, expected, "client {client} {mode}");
    }
}

#[tokio::test]
async fn a_session_reads_its_own_writes_from_lagging_replicas() {
    let (cluster, proxy) = own(|proxy| proxy).await;
    let schema = schema_on(&cluster, "sessions_causal").await;
    let mut conn = proxy.connect(&schema).await.unwrap();
    conn.query_drop("CREATE TABLE t (id INT PRIMARY KEY, n INT)").await.unwrap();
    conn.query_drop("INSERT INTO t VALUES (1, 0)").await.unwrap();
    cluster.settle().await.unwrap();
    for name in ["db2", "db3", "db4"] {
        cluster.delay(name, 1).await.unwrap();
    }
    // Drivers begin so; the connection goes on to tell what Sluice lives by.
    let tracking: &[&str] = match flavour() {
        Flavour::MariaDb => &[
            "SET session_track_system_variables = 'auto_increment_increment'",
            "SET autocommit = 1, session_track_schema = 1, session_track_system_variables = CONCAT(@@global.session_track_system_variables, ',tx_isolation')",
        ],
        Flavour::MySql => {
            &["SET session_track_gtids = OFF", "SET SESSION session_track_system_variables = '', session_track_gtids = 'OFF'"]
        }
    };
    for n in 1..=15u32 {
        if let Some(set) = tracking.get(n as usize % 4) {
            conn.query_drop(*set).await.unwrap();
        }
        match n % 3 {
            0 => conn.exec_drop("UPDATE t SET n = ? WHERE id = 1", (n,)).await.unwrap(),
            1 => conn.query_drop(format!("UPDATE t SET n = {n} WHERE id = 1")).await.unwrap(),
            _ => {
                conn.query_drop("BEGIN").await.unwrap();
                conn.query_drop(format!("UPDATE t SET n = {n} WHERE id = 1")).await.unwrap();
                conn.query_drop("COMMIT").await.unwrap();
            }
        }
        let read: u32 = conn.query_first("SELECT n FROM t WHERE id = 1").await.unwrap().unwrap();
        assert_eq!(read, n, "an own write was not seen");
    }
    untold(&cluster, &proxy, &schema).await;
    failed(&cluster, &proxy, &schema).await;
    // The request after it, on a connection of its own, with every way to begin one.
    for n in 20..=35u32 {
        let mut writer = proxy.connect(&schema).await.unwrap();
        writer.query_drop(format!("UPDATE t SET n = {n} WHERE id = 1")).await.unwrap();
        let mut reader = match n % 2 {
            0 => {
                writer.disconnect().await.unwrap();
                proxy.connect(&schema).await.unwrap()
            }
            _ => {
                conn.change_user(ChangeUserOpts::default().with_db_name(Some(schema.clone()))).await.unwrap();
                conn
            }
        };
        let read: u32 = reader.query_first("SELECT n FROM t WHERE id = 1").await.unwrap().unwrap();
        assert_eq!(read, n, "a session that began after it did not see what its account had written");
        conn = reader;
    }
    // the delay was real: without consistency the same read is stale at least once
    let careless = Proxy::before(&cluster).set("routing.consistency", "\"none\"").start().await.unwrap();
    let mut conn = careless.connect(&schema).await.unwrap();
    let mut stale = 0;
    for n in 100..110u32 {
        conn.query_drop(format!("UPDATE t SET n = {n} WHERE id = 1")).await.unwrap();
        let read: u32 = conn.query_first("SELECT n FROM t WHERE id = 1").await.unwrap().unwrap();
        stale += u32::from(read != n);
    }
    assert!(stale > 0, "with consistency = none and lagging replicas some read should have been stale");
}

/// Bug: what was written by a statement that answers with rows was not known of clients whose rows end in EOF packets, which tell of no
/// transaction: their next reads, and the cache, went to replicas that did not have it.
async fn untold(cluster: &Cluster, proxy: &Proxy, schema: &str) {
    let function = format!(
        "CREATE FUNCTION {schema}.becomes (a INT) RETURNS INT MODIFIES SQL DATA BEGIN UPDATE {schema}.t SET n = a; RETURN a; END"
    );
    cluster.server("db1").run(&[&function]).await.unwrap();
    let caching = caching(Proxy::before(cluster)).start().await.unwrap();
    let mut ways = vec!["SELECT becomes({n})"];
    if flavour() == Flavour::MariaDb {
        ways.push("REPLACE INTO t VALUES (1, {n}) RETURNING n");
    }
    let read = "SELECT n FROM t WHERE id = 1";
    let mut reader = caching.connect(schema).await.unwrap();
    for (proxy, cached) in [(proxy, false), (&caching, true)] {
        let mut writer = Wire::connect(proxy.port(), schema, UTF8MB4, false).await.unwrap();
        for n in 1000..1006 {
            for way in &ways {
                let n = n + 100 * i32::from(cached);
                let sql = way.replace("{n}", &n.to_string());
                let written = writer.query(sql.as_bytes()).await.unwrap();
                assert_eq!(written.rows, [[n.to_string()]], "{sql}: {written:?}");
                if cached {
                    keep(proxy, &mut reader, read).await;
                    assert_eq!(reader.query_first::<i32, _>(read).await.unwrap(), Some(n), "kept behind {sql}");
                } else {
                    assert_eq!(writer.query(read.as_bytes()).await.unwrap().rows, [[n.to_string()]], "behind {sql}");
                }
            }
        }
    }
}

/// Bug: what a statement wrote that failed, or the transaction that it committed before it failed, was not known of a session that was
/// bound to its connection, and its reads went to replicas that did not have it.
async fn failed(cluster: &Cluster, proxy: &Proxy, schema: &str) {
    cluster.server("db1").run(&[&format!("CREATE TABLE {schema}.loose (id INT PRIMARY KEY) ENGINE=MyISAM")]).await.unwrap();
    let mut conn = proxy.connect(schema).await.unwrap();
    let fails = ["CREATE TABLE t (id INT)", "DROP TABLE missing", "ALTER TABLE missing ADD b INT"];
    for (n, fails) in (2000..).zip([fails, fails].concat()) {
        conn.query_drop("BEGIN").await.unwrap();
        conn.query_drop(format!("UPDATE t SET n = {n} WHERE id = 1")).await.unwrap();
        conn.query_drop(fails).await.unwrap_err();
        let warned: String = conn.query_first("SELECT @@warning_count + @@error_count > 0").await.unwrap().unwrap();
        assert_eq!(warned, "1", "behind {fails}");
        // The first is asked where the transaction was.
        for _ in 0..2 {
            let read: i32 = conn.query_first("SELECT n FROM t WHERE id = 1").await.unwrap().unwrap();
            assert_eq!(read, n, "behind {fails}");
        }
    }
    conn.query_drop("INSERT INTO loose VALUES (0)").await.unwrap();
    for n in 1..5 {
        conn.query_drop("SELECT GET_LOCK('sessions_failed', 0)").await.unwrap();
        conn.query_drop(format!("INSERT INTO loose VALUES ({n}), (0)")).await.unwrap_err();
        let warnings: Vec<(String, u16, String)> = conn.query("SHOW WARNINGS").await.unwrap();
        assert_eq!(warnings.first().map(|(_, code, _)| *code), Some(1062), "{warnings:?}");
        conn.query_drop("SELECT RELEASE_LOCK('sessions_failed')").await.unwrap();
        assert_eq!(conn.query_first::<i32, _>("SELECT COUNT(*) FROM loose").await.unwrap(), Some(n + 1));
    }
}

/// Harm: after somebody else had dropped its schema a session was told 1049 for everything, `USE` of another schema too.
#[tokio::test]
async fn a_session_whose_schema_was_dropped_goes_on_without_one() {
    let schema = schema("sessions_dropped").await;
    let other = format!("{schema}_x");
    let (mut left, mut dropper) = (proxy().connect(&schema).await.unwrap(), proxy().connect(&schema).await.unwrap());
    for (round, first) in ["SELECT 1", "USE {schema}", "CREATE DATABASE {other}", "SET @a = 1"].into_iter().enumerate() {
        dropper.query_drop(format!("CREATE DATABASE IF NOT EXISTS {other}")).await.unwrap();
        left.query_drop(format!("USE {other}")).await.unwrap();
        dropper.query_drop(format!("DROP DATABASE {other}")).await.unwrap();
        // Its connections have served somebody else since.
        for _ in 0..4 {
            dropper.query_drop("SELECT * FROM information_schema.schemata LIMIT 1").await.unwrap();
            dropper.query_drop("DO 1").await.unwrap();
        }
        let first = first.replace("{schema}", &schema).replace("{other}", &other);
        left.query_drop(&first).await.unwrap_or_else(|error| panic!("round {round}, {first}: {error}"));
        left.query_drop(format!("USE {schema}")).await.unwrap();
        let current: String = left.query_first("SELECT DATABASE()").await.unwrap().unwrap();
        assert_eq!(current, schema);
    }
    left.query_drop(format!("DROP DATABASE IF EXISTS {other}")).await.unwrap();
}

/// What another session has just defined or granted, no replica has yet.
#[tokio::test]
async fn what_replicas_do_not_know_yet_is_asked_of_the_master() {
    let (cluster, proxy) = own(|proxy| proxy).await;
    let schema = schema_on(&cluster, "sessions_defined").await;
    let mut other = proxy.connect(&schema).await.unwrap();
    let mut prepares = proxy.connect(&schema).await.unwrap();
    let mut reports = proxy.connect_with(proxy.options(REPORT).db_name(Some("shop"))).await.unwrap();
    for conn in [&mut other, &mut prepares] {
        conn.query_drop("SELECT COUNT(*) FROM shop.items").await.unwrap();
    }
    for name in ["db2", "db3", "db4"] {
        cluster.delay(name, 2).await.unwrap();
    }
    let mut defines = proxy.connect(&schema).await.unwrap();
    defines.query_drop("CREATE TABLE t (id INT PRIMARY KEY)").await.unwrap();
    defines.query_drop("INSERT INTO t VALUES (7)").await.unwrap();
    assert_eq!(other.query_first::<u32, _>("SELECT id FROM t").await.unwrap(), Some(7));
    assert_eq!(prepares.exec_first::<u32, _, _>("SELECT id FROM t WHERE id > ?", (1,)).await.unwrap(), Some(7));
    cluster.server("db1").run(&[&format!("GRANT SELECT ON {schema}.t TO report@'%'")]).await.unwrap();
    let read = format!("SELECT id FROM {schema}.t");
    assert_eq!(reports.query_first::<u32, _>(read).await.unwrap(), Some(7));
    // What nobody knows is told as the server tells it.
    let error = other.query_drop("SELECT nothing FROM nowhere").await.unwrap_err();
    assert_eq!(integration::driver::server_error(&error).map(|(code, ..)| code), Some(1146), "{error}");
}

#[tokio::test]
async fn user_variables_and_temporary_tables_stay_with_their_session() {
    let schema = schema("sessions_temporary").await;
    let mut conn = proxy().connect(&schema).await.unwrap();
    let mut other = proxy().connect(&schema).await.unwrap();
    conn.query_drop("SET @a = 5, @b := CONCAT('x', @@server_id)").await.unwrap();
    for _ in 0..6 {
        let a: Option<u32> = conn.query_first("SELECT @a FROM shop.items WHERE id = 1").await.unwrap().unwrap();
        assert_eq!(a, Some(5));
        let a: Option<u32> = other.query_first("SELECT @a FROM shop.items WHERE id = 1").await.unwrap().unwrap();
        assert_eq!(a, None);
    }
    conn.query_drop("CREATE TEMPORARY TABLE mine (id INT PRIMARY KEY)").await.unwrap();
    conn.query_drop("INSERT INTO mine VALUES (1), (2)").await.unwrap();
    for _ in 0..6 {
        assert_eq!(conn.query_first::<u32, _>("SELECT COUNT(*) FROM mine").await.unwrap(), Some(2));
        assert!(other.query_drop("SELECT * FROM mine").await.is_err());
    }
    conn.query_drop("SELECT COUNT(*) INTO @count FROM mine").await.unwrap();
    assert_eq!(conn.query_first::<u32, _>("SELECT @count").await.unwrap(), Some(2));
    conn.query_drop("DROP TEMPORARY TABLE mine").await.unwrap();
}

/// What `SHOW CLIENTS` says of the pin of one connection.
async fn pin(conn: &Conn) -> String {
    let clients = proxy().admin("SHOW CLIENTS").await.unwrap();
    clients
        .cell("id", &conn.id().to_string(), "pin_reason")
        .unwrap_or_else(|| panic!("{} is not in {clients:?}", conn.id()))
        .to_owned()
}

#[tokio::test]
async fn pins_begin_and_end_with_their_cause() {
    let schema = schema("sessions_pins").await;
    let mut conn = proxy().connect(&schema).await.unwrap();
    conn.query_drop("CREATE TABLE t (id INT)").await.unwrap();
    for (begin, end) in [
        ("BEGIN; SELECT COUNT(*) FROM t", "COMMIT"),
        ("CREATE TEMPORARY TABLE tmp (id INT)", "DROP TEMPORARY TABLE tmp"),
        ("LOCK TABLES t WRITE", "UNLOCK TABLES"),
        ("SELECT GET_LOCK('sessions_pins', 1)", "SELECT RELEASE_LOCK('sessions_pins')"),
    ] {
        assert!(matches!(pin(&conn).await.as_str(), "" | "NULL"), "before {begin}: {}", pin(&conn).await);
        conn.query_drop(begin).await.unwrap();
        assert!(!matches!(pin(&conn).await.as_str(), "" | "NULL"), "after {begin}");
        conn.query_drop(end).await.unwrap();
    }
    assert!(matches!(pin(&conn).await.as_str(), "" | "NULL"), "at the end: {}", pin(&conn).await);
    // A busy replica may need a moment for the last write, and the master reads for it meanwhile.
    let conn = tokio::sync::Mutex::new(conn);
    integration::wait::until_true("reads go to replicas again", std::time::Duration::from_secs(10), async || {
        Ok(where_am_i(&mut *conn.lock().await).await != 1)
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn session_limits_and_isolation_follow() {
    let mut conn = proxy().connect("shop").await.unwrap();
    // MariaDB has the new name from 11.1 on only
    let isolation = if flavour() == Flavour::MariaDb { "@@tx_isolation" } else { "@@transaction_isolation" };
    conn.query_drop("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await.unwrap();
    conn.query_drop("SET SESSION wait_timeout = 1234, sql_select_limit = 3").await.unwrap();
    for _ in 0..6 {
        let rows: Vec<u32> = conn.query("SELECT id FROM items").await.unwrap();
        assert_eq!(rows.len(), 3);
        let state: (String, u32) = conn.query_first(format!("SELECT {isolation}, @@wait_timeout")).await.unwrap().unwrap();
        assert_eq!(state, ("READ-COMMITTED".to_owned(), 1234));
    }
    let mut other = proxy().connect("shop").await.unwrap();
    let rows: Vec<u32> = other.query("SELECT id FROM items").await.unwrap();
    assert_eq!(rows.len(), 100, "nothing of it shows in another session");
}

#[tokio::test]
async fn when_all_connections_are_taken_clients_wait_and_then_are_told() {
    let builder = Proxy::before(cluster()).every_server("max_connections", "2").set("pool.checkout_timeout", "\"1s\"");
    let proxy = builder.start().await.unwrap();
    let mut holders = Vec::new();
    for _ in 0..2 {
        let mut conn = proxy.connect("shop").await.unwrap();
        conn.query_drop("BEGIN").await.unwrap();
        conn.query_drop("SELECT * FROM items WHERE id = 1").await.unwrap();
        holders.push(conn);
    }
    let start = std::time::Instant::now();
    let refused = async {
        let mut third = proxy.connect("shop").await?;
        third.query_drop("BEGIN").await?;
        anyhow::Ok(third.query_drop("SELECT * FROM items WHERE id = 1").await?)
    };
    let refused = refused.await.unwrap_err();
    assert!(format!("{refused:#}").contains("sluice: "), "{refused:#}");
    assert!(start.elapsed() < Duration::from_secs(5));
    drop(holders);
    let free = until_true("a connection is free", Duration::from_secs(5), async || {
        let mut conn = proxy.connect("shop").await?;
        Ok(conn.query_drop("UPDATE items SET stock = stock WHERE id = 1").await.is_ok())
    });
    free.await.unwrap();
}

/// Bug: an account that may read `performance_schema` lost what a procedure set where that schema is off and its tables are empty.
/// Where it is on, the session leaves the connection with its variables.
#[tokio::test]
async fn what_a_procedure_set_is_there_whatever_the_server_tells_of_it() {
    const READER: Account = Account { name: "reader_all", password: "reader_all" };
    let grant = ["CREATE USER reader_all@'%' IDENTIFIED BY 'reader_all'", "GRANT ALL ON *.* TO reader_all@'%'"];
    let body = "BEGIN SELECT 5, 'five' INTO @number, @word; SET b = 6; END";
    let mut clusters = vec![None];
    if flavour() == Flavour::MySql {
        let telling = Cluster::start_with(flavour(), &["--performance-schema=ON"], &|_| {}).await.unwrap();
        clusters.push(Some(telling));
    }
    for other in &clusters {
        let cluster = other.as_ref().unwrap_or_else(|| cluster());
        let schema = schema_on(cluster, "sessions_procedure").await;
        let create = format!("CREATE PROCEDURE {schema}.sets (OUT b INT) {body}");
        cluster.server("db1").run(&[&grant[..], &[&create]].concat()).await.unwrap();
        cluster.settle().await.unwrap();
        let proxy = Proxy::before(cluster).start().await.unwrap();
        let mut conn = proxy.connect_with(proxy.options(READER).db_name(Some(&schema))).await.unwrap();
        for _ in 0..2 {
            conn.query_drop("CALL sets(@b)").await.unwrap();
            let set: (u32, String, u32) = conn.query_first("SELECT @number, @word, @b").await.unwrap().unwrap();
            assert_eq!(set, (5, "five".to_owned(), 6));
        }
        let clients = proxy.admin("SHOW CLIENTS").await.unwrap();
        let pins = clients.column("pin_reason");
        let stays = flavour() == Flavour::MySql && other.is_none();
        assert_eq!(pins.contains(&"user_variable"), stays, "{pins:?}");
    }
}

/// `@@last_gtid` of MariaDB is the session's own, whoever has used its connection since.
#[tokio::test]
async fn the_last_gtid_is_that_of_the_session() {
    if flavour() != Flavour::MariaDb {
        let mut conn = proxy().connect("shop").await.unwrap();
        assert!(conn.query_drop("SELECT @@last_gtid").await.is_err(), "MySQL has none");
        return;
    }
    let schema = schema("sessions_gtid").await;
    let proxy = Proxy::before(cluster()).every_server("max_connections", "1").start().await.unwrap();
    let (mut one, mut two) = (proxy.connect(&schema).await.unwrap(), proxy.connect(&schema).await.unwrap());
    one.query_drop("CREATE TABLE t (id INT PRIMARY KEY)").await.unwrap();
    assert_eq!(two.query_first::<String, _>("SELECT @@last_gtid").await.unwrap().as_deref(), Some(""), "it wrote nothing");
    one.query_drop("INSERT INTO t VALUES (1)").await.unwrap();
    let own: String = one.query_first("SELECT @@last_gtid").await.unwrap().unwrap();
    two.query_drop("INSERT INTO t VALUES (2)").await.unwrap();
    let others: String = two.query_first("SELECT @@last_gtid AS pos").await.unwrap().unwrap();
    assert_ne!(own, others);
    assert_eq!(one.query_first::<String, _>("SELECT @@last_gtid").await.unwrap(), Some(own.clone()));
    one.query_drop("SET @pos = @@last_gtid").await.unwrap();
    assert_eq!(one.query_first::<String, _>("SELECT @pos").await.unwrap(), Some(own));
}

/// Bug: what ended a read-only transaction and wrote in one text was refused by the replica that the transaction was on.
#[tokio::test]
async fn a_text_that_ends_a_read_only_transaction_may_write() {
    let schema = schema("sessions_read_only").await;
    let mut conn = proxy().connect(&schema).await.unwrap();
    conn.query_drop("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY)").await.unwrap();
    for _ in 0..3 {
        conn.query_drop("START TRANSACTION READ ONLY").await.unwrap();
        conn.query_drop("SELECT COUNT(*) FROM t").await.unwrap();
        conn.query_drop("COMMIT; INSERT INTO t VALUES ()").await.unwrap();
        assert!(conn.query_drop("INSERT INTO t VALUES ()").await.is_ok(), "nothing of it is left");
    }
    assert_eq!(conn.query_first::<u32, _>("SELECT COUNT(*) FROM t").await.unwrap(), Some(6));
    // The other way round it is refused, as a server does.
    conn.query_drop("START TRANSACTION READ ONLY").await.unwrap();
    conn.query_drop("SELECT COUNT(*) FROM t").await.unwrap();
    assert!(conn.query_drop("INSERT INTO t VALUES (); COMMIT").await.is_err());
    conn.query_drop("ROLLBACK").await.unwrap();
    assert_eq!(conn.query_first::<u32, _>("SELECT COUNT(*) FROM t").await.unwrap(), Some(6));
}

/// Bug: what a function made beside a variable that its statement sets stayed on the connection for the next client.
#[tokio::test]
async fn a_functions_temporary_table_is_its_sessions() {
    let schema = schema("sessions_function").await;
    let create = format!(
        "CREATE FUNCTION {schema}.makes () RETURNS INT READS SQL DATA BEGIN CREATE TEMPORARY TABLE made (id INT); RETURN 1; END"
    );
    cluster().server("db1").run(&[&create]).await.unwrap();
    cluster().settle().await.unwrap();
    let proxy = Proxy::before(cluster()).every_server("max_connections", "2").start().await.unwrap();
    let mut conn = proxy.connect(&schema).await.unwrap();
    conn.query_drop("SET @n = makes()").await.unwrap();
    for _ in 0..4 {
        let mut other = proxy.connect(&schema).await.unwrap();
        assert!(other.query_drop("/* sluice: master */ SELECT * FROM made").await.is_err());
        assert!(conn.query_drop("SELECT * FROM made").await.is_ok());
    }
}

/// Bug: where rows end in EOF packets, nothing was known of what a function in their statement had set and made: it stayed on the
/// connection for the next client. So did, later still, what the function of a view had, and that of one read for a lock, in a statement
/// of which not all tables are known, or beside the hint SET_VAR.
#[tokio::test]
async fn what_a_function_leaves_behind_rows_is_its_sessions() {
    let schema = schema("sessions_behind_rows").await;
    let function = |name: &str, body: &str| {
        format!("CREATE FUNCTION {schema}.{name} () RETURNS INT MODIFIES SQL DATA BEGIN {body}; RETURN 1; END")
    };
    let functions =
        [function("makes", "CREATE TEMPORARY TABLE made (id INT)"), function("translates", "SET SESSION lc_time_names = 'de_DE'")];
    cluster().server("db1").run(&functions.each_ref().map(String::as_str)).await.unwrap();
    let views = ["makes", "translates"].map(|f| format!("CREATE VIEW {schema}.v_{f} AS SELECT {schema}.{f}() AS done"));
    cluster().server("db1").run(&views.each_ref().map(String::as_str)).await.unwrap();
    cluster().settle().await.unwrap();
    let proxy = Proxy::before(cluster()).every_server("max_connections", "2").start().await.unwrap();
    let mut other = Wire::connect(proxy.port(), &schema, UTF8MB4, false).await.unwrap();
    let names = b"/* sluice: master */ SELECT @@lc_time_names";
    let (made, translated) = ("SELECT COUNT(*) FROM made", "SELECT @@lc_time_names = 'de_DE'");
    for (sql, read) in [
        ("SELECT makes()", made),
        ("SELECT translates()", translated),
        ("/* sluice: master */ SELECT * FROM v_makes", made),
        ("/* sluice: master */ SELECT * FROM v_translates", translated),
        ("SELECT * FROM v_makes FOR UPDATE", made),
        ("/* sluice: master */ SELECT /*!50000 * */ FROM v_makes", made),
        ("SELECT /*+ SET_VAR(sort_buffer_size = 262144) */ makes()", made),
        ("/* sluice: master */ SELECT /*+ SET_VAR(sort_buffer_size = 262144) */ * FROM v_translates", translated),
    ] {
        let mut own = Wire::connect(proxy.port(), &schema, UTF8MB4, false).await.unwrap();
        let done = own.query(sql.as_bytes()).await.unwrap();
        assert_eq!(done.error, None, "{sql}: {done:?}");
        for _ in 0..3 {
            let seen = other.query(b"/* sluice: master */ SELECT * FROM made").await.unwrap();
            assert_eq!(seen.error, Some(1146), "{sql}: {seen:?}");
            assert_eq!(other.query(names).await.unwrap().rows, [["en_US"]], "{sql}");
            let seen = own.query(read.as_bytes()).await.unwrap();
            assert_eq!(seen.rows.concat().concat(), if sql.contains("makes") { "0" } else { "1" }, "{sql}: {seen:?}");
        }
        let clients = proxy.admin("SHOW CLIENTS").await.unwrap();
        // That something was made is told where it cannot be the hint that is meant; a variable is known, and goes wherever its session goes.
        let pinned = !(sql.contains("SET_VAR") && sql.contains("v_translates") && flavour() == Flavour::MySql);
        let unknown = clients.column("pin_reason").iter().filter(|pin| **pin == "unknown").count();
        assert_eq!(unknown, usize::from(pinned), "{sql}: {clients:?}");
    }
}

/// After FLUSH STATUS the counters are this session's, whoever used the connection before and whatever runs beside it.
#[tokio::test]
async fn counters_flushed_by_a_session_count_its_own_statements() {
    const FLUSHER: Account = Account { name: "flusher", password: "flusher" };
    let create = "CREATE USER flusher@'%' IDENTIFIED BY 'flusher'";
    cluster().server("db1").run(&[create, "GRANT RELOAD, SELECT ON *.* TO flusher@'%'"]).await.unwrap();
    cluster().settle().await.unwrap();
    let builder = Proxy::before(cluster()).every_server("max_connections", "2");
    let proxy = builder.start().await.unwrap();
    let mut conn = proxy.connect_with(proxy.options(FLUSHER)).await.unwrap();
    let mut other = proxy.connect("shop").await.unwrap();
    // A definition that another test changes meanwhile is looked up anew, which is counted here, too: so the least of a few counts.
    let mut least = u32::MAX;
    for _ in 0..12 {
        conn.query_drop("FLUSH STATUS").await.unwrap();
        for _ in 0..3 {
            other.query_drop("SELECT COUNT(*) FROM items WHERE id > 5").await.unwrap();
        }
        conn.query_drop("SELECT * FROM shop.items WHERE id = 1").await.unwrap();
        let (_, keys): (String, u32) = conn.query_first("SHOW STATUS LIKE 'Handler_read_key'").await.unwrap().unwrap();
        assert!(keys >= 1, "what it did itself is counted");
        least = least.min(keys);
    }
    assert_eq!(least, 1);
}

/// A client that has set its `wait_timeout` is sent away when it is over, though it holds no connection; MySQL says why.
#[tokio::test]
async fn a_session_ends_with_its_wait_timeout() {
    let modern = sluice::protocol::Capabilities::DEPRECATE_EOF;
    let mut others = integration::wire::Wire::login(proxy().port(), modern).await.unwrap();
    for port in [cluster().server("db1").port(), proxy().port()] {
        let mut wire = integration::wire::Wire::login(port, modern).await.unwrap();
        wire.query("SET SESSION wait_timeout = 1").await.unwrap();
        let begun = std::time::Instant::now();
        let last = wire.reply(sluice::protocol::reply::Expect::Simple).await;
        match flavour() {
            Flavour::MariaDb => drop(last.expect_err("it only closes")),
            Flavour::MySql => {
                assert!(format!("{:?}", last.unwrap()).contains("ERR(4031 HY000 \"The client was disconnected by the server"))
            }
        }
        let lasted = begun.elapsed();
        assert!(lasted > Duration::from_millis(900) && lasted < Duration::from_secs(8), "{lasted:?}");
        assert!(wire.query("SELECT 1").await.is_err());
    }
    others.query("SELECT 1").await.unwrap();
}

/// Bug: whoever waited for a connection and was handed one that did not suit him gave his turn to the next, and waited anew behind all
/// others; `pool.checkout_timeout` began anew, too.
#[tokio::test]
async fn a_waiter_whom_no_connection_suits_has_his_turn() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    let proxy = Proxy::before(cluster()).every_server("max_connections", "1").start().await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let mut others = Vec::new();
    for _ in 0..4 {
        let (mut conn, over) = (proxy.connect("shop").await.unwrap(), over.clone());
        others.push(tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                conn.query_drop("SELECT SLEEP(0.01) FROM items WHERE id = 1 FOR UPDATE").await.unwrap();
            }
        }));
    }
    // No connection can be brought back to having no schema.
    let mut without = proxy.connect("").await.unwrap();
    for _ in 0..10 {
        let turn = without.query_drop("SELECT id FROM shop.items WHERE id = 2 FOR UPDATE");
        tokio::time::timeout(Duration::from_secs(5), turn).await.expect("his turn comes").unwrap();
    }
    over.store(true, Ordering::Relaxed);
    for other in others {
        other.await.unwrap();
    }
}

/// Bug: where a server's `wait_timeout` is shorter than `pool.idle_timeout`, a statement could go out on a connection that the server was closing
/// at that moment; its client was told of a lost connection, or by MySQL of its own inactivity.
#[tokio::test]
async fn a_connection_that_its_server_is_about_to_close_is_not_handed_out() {
    let cluster = Cluster::start_with(flavour(), &["--wait-timeout=4"], &|_| {}).await.unwrap();
    let proxy = Proxy::before(&cluster).start().await.unwrap();
    let mut conn = proxy.connect("shop").await.unwrap();
    let opened = async || {
        let pools = proxy.admin("SHOW POOLS").await.unwrap();
        pools.column("opened").iter().map(|n| n.parse::<u64>().unwrap()).sum::<u64>()
    };
    conn.query_drop("UPDATE items SET stock = stock WHERE id = 1").await.unwrap();
    let before = opened().await;
    conn.query_drop("UPDATE items SET stock = stock WHERE id = 1").await.unwrap();
    assert_eq!(opened().await, before, "at once it is the same");
    tokio::time::sleep(Duration::from_millis(2500)).await;
    conn.query_drop("UPDATE items SET stock = stock WHERE id = 1").await.unwrap();
    assert_eq!(opened().await, before + 1);
}

/// Bug: what the login itself gives a session, `IGNORE_SPACE` in its `sql_mode` and `interactive_timeout` for its `wait_timeout`, was lost on a
/// connection on which another client had set these.
#[tokio::test]
async fn what_the_login_gave_a_variable_is_there_behind_others() {
    use integration::wire::Wire;
    use sluice::protocol::Capabilities;

    let cluster = Cluster::start_with(flavour(), &["--interactive-timeout=1234"], &|_| {}).await.unwrap();
    let proxy = Proxy::before(&cluster).every_server("max_connections", "1").start().await.unwrap();
    let wanted = Capabilities::IGNORE_SPACE | Capabilities::INTERACTIVE | Capabilities::DEPRECATE_EOF;
    let ask = "SELECT @@sql_mode, @@wait_timeout FROM shop.items WHERE id = 1 FOR UPDATE";
    let mut direct = Wire::login(cluster.server("db1").port(), wanted).await.unwrap();
    let expected = direct.query(ask).await.unwrap();
    assert!(format!("{expected:?}").contains("IGNORE_SPACE") && format!("{expected:?}").contains("1234"), "{expected:?}");
    let mut first = Wire::login(proxy.port(), wanted).await.unwrap();
    let mut second = Wire::login(proxy.port(), wanted).await.unwrap();
    first.query("SET sql_mode = 'ANSI', wait_timeout = 77").await.unwrap();
    first.query("UPDATE shop.items SET stock = stock WHERE id = 1").await.unwrap();
    assert_eq!(second.query(ask).await.unwrap(), expected);
    // A connection with another's user variables is reset before these can be seen.
    first.query("SET @a = 1").await.unwrap();
    first.query("UPDATE shop.items SET stock = stock WHERE id = @a").await.unwrap();
    assert_eq!(second.query(ask).await.unwrap(), expected);
    let with_variable = "SELECT @@sql_mode, @@wait_timeout, @a FROM shop.items WHERE id = 1 FOR UPDATE";
    let (told, at_server) = (second.query(with_variable).await.unwrap(), direct.query(with_variable).await.unwrap());
    assert_eq!(told, at_server);
}
