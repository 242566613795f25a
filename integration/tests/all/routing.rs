//! Reads spread over the replicas, writes reach only the master, and `EXPLAIN ROUTE` tells what really happens.

use std::collections::BTreeMap;

use integration::accounts::{Account, REPORT};
use integration::proxy::Proxy;
use mysql_async::prelude::Queryable;

use crate::world::{WHERE_AM_I, cluster, proxy, schema, where_am_i};

const MASTER: u32 = 1;

#[tokio::test]
async fn reads_are_spread_evenly_over_the_replicas() {
    let mut answered: BTreeMap<u32, u32> = BTreeMap::new();
    for _ in 0..6 {
        // An account that writes nothing: others' sessions begin behind what theirs has written, and read where that is.
        let mut conn = proxy().connect_with(proxy().options(REPORT).db_name(Some("shop"))).await.unwrap();
        for _ in 0..50 {
            *answered.entry(where_am_i(&mut conn).await).or_default() += 1;
        }
        for _ in 0..50 {
            let id: u32 = conn.exec_first(format!("{WHERE_AM_I} AND ? = 1"), (1,)).await.unwrap().unwrap();
            *answered.entry(id).or_default() += 1;
        }
    }
    assert_eq!(answered.get(&MASTER), None, "the master answers reads only when nobody else can: {answered:?}");
    // db2 is the standby master, db3 and db4 are replicas: whether a standby serves reads is Sluice's choice, evenness is not
    for replica in [3, 4] {
        let share = answered.get(&replica).copied().unwrap_or(0);
        assert!((150..=330).contains(&share), "600 reads came out as {answered:?}");
    }
}

#[tokio::test]
async fn what_is_not_proved_read_only_runs_on_the_master() {
    let schema = schema("routing_master").await;
    let mut conn = proxy().connect(&schema).await.unwrap();
    conn.query_drop("CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, server INT)").await.unwrap();
    conn.query_drop("CREATE FUNCTION f () RETURNS INT NOT DETERMINISTIC READS SQL DATA RETURN @@server_id").await.unwrap();
    for sql in [
        "SELECT @@server_id FROM shop.items WHERE id = 1 FOR UPDATE",
        "SELECT @@server_id FROM shop.items WHERE id = 1 LOCK IN SHARE MODE",
        "SELECT f()",
        "SELECT @@server_id, LAST_INSERT_ID()",
        "SELECT @@server_id, GET_LOCK('routing', 0), RELEASE_LOCK('routing')",
        "/* sluice: master */ SELECT @@server_id FROM shop.items WHERE id = 1",
    ] {
        let row: mysql_async::Row = conn.query_first(sql).await.unwrap().unwrap();
        assert_eq!(row.get::<u32, _>(0), Some(MASTER), "{sql}");
    }
    for sql in ["BEGIN", "START TRANSACTION", "START TRANSACTION WITH CONSISTENT SNAPSHOT", "SET autocommit = 0"] {
        conn.query_drop(sql).await.unwrap();
        for _ in 0..4 {
            assert_eq!(where_am_i(&mut conn).await, MASTER, "after {sql}");
        }
        conn.query_drop("COMMIT").await.unwrap();
    }
    conn.query_drop("SET autocommit = 1").await.unwrap();
    // Behind its own CREATE FUNCTION it reads on the master until a replica is known to have that.
    let over = integration::wait::until_true("the transaction is over", std::time::Duration::from_secs(20), async || {
        Ok(where_am_i(&mut conn).await != MASTER)
    });
    over.await.unwrap();
    conn.query_drop("INSERT INTO t (server) VALUES (@@server_id)").await.unwrap();
    let written: u32 = conn.query_first("SELECT server FROM t").await.unwrap().unwrap();
    assert_eq!(written, MASTER);
}

#[tokio::test]
async fn a_read_that_a_replica_refuses_runs_on_the_master() {
    let schema = schema("routing_unseen").await;
    // Made by another session: one that made a routine may stay on the master (README, "What an application can tell apart").
    let mut maker = proxy().connect(&schema).await.unwrap();
    maker.query_drop("CREATE TABLE seen (server INT)").await.unwrap();
    let body = "BEGIN INSERT INTO seen VALUES (@@server_id); RETURN @@server_id; END";
    maker.query_drop(format!("CREATE FUNCTION note () RETURNS INT NOT DETERMINISTIC MODIFIES SQL DATA {body}")).await.unwrap();
    // Nothing in a SELECT from this view tells that it writes.
    maker.query_drop("CREATE VIEW innocent AS SELECT note() AS server").await.unwrap();
    cluster().settle().await.unwrap();
    let mut conn = proxy().connect(&schema).await.unwrap();
    for execution in 0..4 {
        let read: Option<u32> = conn.query_first("SELECT server FROM innocent").await.unwrap();
        assert_eq!(read, Some(MASTER), "execution {execution}");
    }
    let read: Option<u32> = conn.exec_first("SELECT server FROM innocent WHERE ? = 1", (1,)).await.unwrap();
    assert_eq!(read, Some(MASTER));
    let table = proxy().admin("EXPLAIN ROUTE SELECT server FROM innocent").await.unwrap();
    assert_eq!((table.column("target")[0], table.column("reason")[0]), ("master", "refused_by_replica: plain_select"));
    let written: Vec<u32> = conn.query("/* sluice: master */ SELECT server FROM seen").await.unwrap();
    assert_eq!(written, [MASTER; 5], "each ran once");
}

#[tokio::test]
async fn a_write_in_a_read_only_transaction_is_refused_as_the_master_would() {
    let (mut through, mut direct) = crate::world::pair("shop").await;
    for conn in [&mut through, &mut direct] {
        conn.query_drop("START TRANSACTION READ ONLY").await.unwrap();
    }
    let sql = "INSERT INTO items (name, price) VALUES ('x', 1)";
    let (here, there) = (through.query_drop(sql).await.unwrap_err(), direct.query_drop(sql).await.unwrap_err());
    assert_eq!(here.to_string(), there.to_string());
    through.query_drop("ROLLBACK").await.unwrap();
}

#[tokio::test]
async fn a_read_only_transaction_runs_on_one_replica() {
    let mut conn = proxy().connect("shop").await.unwrap();
    for _ in 0..4 {
        conn.query_drop("START TRANSACTION READ ONLY").await.unwrap();
        let first = where_am_i(&mut conn).await;
        assert_ne!(first, MASTER);
        for _ in 0..5 {
            assert_eq!(where_am_i(&mut conn).await, first, "one transaction, one server");
        }
        conn.query_drop("COMMIT").await.unwrap();
    }
}

#[tokio::test]
async fn hints_choose_the_server() {
    let mut conn = proxy().connect("shop").await.unwrap();
    for (hint, allowed) in [("server=db3", vec![3]), ("server=db4", vec![4]), ("master", vec![1]), ("replica", vec![2, 3, 4])] {
        for _ in 0..4 {
            let id: u32 = conn.query_first(format!("/* sluice: {hint} */ {WHERE_AM_I}")).await.unwrap().unwrap();
            assert!(allowed.contains(&id), "{hint} went to {id}");
        }
    }
    // a hint sends no write to a replica: it runs on the master, or it is refused
    let before = cluster().server("db3").own_transactions().await.unwrap();
    let _ = conn.query_drop("/* sluice: replica */ UPDATE items SET stock = stock WHERE id = 1").await;
    let _ = conn.query_drop("/* sluice: server=db3 */ UPDATE items SET stock = stock WHERE id = 1").await;
    assert_eq!(cluster().server("db3").own_transactions().await.unwrap(), before);
}

#[tokio::test]
async fn rules_come_before_classes_and_hints_before_rules() {
    let rules = r#"
[[rule]]
pattern = "(?i)^select .* from forbidden"
action = "deny"
message = "no forbidden fruit"
[[rule]]
pattern = "(?i)to_db4"
action = "server:db4"
[[rule]]
user = "app"
schema = "sbtest"
action = "master"
"#;
    let proxy = Proxy::before(cluster()).more(rules).start().await.unwrap();
    let mut conn = proxy.connect("shop").await.unwrap();
    let denied = conn.query_drop("SELECT * FROM forbidden").await.unwrap_err();
    assert!(denied.to_string().contains("no forbidden fruit"), "{denied}");
    for _ in 0..4 {
        assert_eq!(conn.query_first(format!("{WHERE_AM_I} AND 'to_db4' <> ''")).await.unwrap(), Some(4));
        let hinted = format!("/* sluice: server=db3 */ {WHERE_AM_I} AND 'to_db4' <> ''");
        assert_eq!(conn.query_first(hinted).await.unwrap(), Some(3));
    }
    let mut conn = proxy.connect("sbtest").await.unwrap();
    for _ in 0..4 {
        assert_eq!(where_am_i(&mut conn).await, MASTER);
    }
}

#[tokio::test]
async fn read_from_master_never_fallback_always() {
    for (setting, expected) in [("always", true), ("fallback", false)] {
        let proxy = Proxy::before(cluster()).set("routing.read_from_master", &format!("{setting:?}")).start().await.unwrap();
        let mut conn = proxy.connect("shop").await.unwrap();
        let mut seen = false;
        for _ in 0..40 {
            seen |= where_am_i(&mut conn).await == MASTER;
        }
        assert_eq!(seen, expected, "read_from_master = {setting}: the master answered a read");
    }
}

#[tokio::test]
async fn no_write_of_a_mixed_load_reaches_a_replica() {
    let schema = schema("routing_mixed").await;
    let mut setup = proxy().connect(&schema).await.unwrap();
    setup.query_drop("CREATE TABLE t (id INT PRIMARY KEY, n INT)").await.unwrap();
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let schema = schema.clone();
            tokio::spawn(async move {
                let mut conn = proxy().connect(&schema).await.unwrap();
                for round in 0..40 {
                    let id = client * 1000 + round;
                    conn.exec_drop("INSERT INTO t VALUES (?, 0)", (id,)).await.unwrap();
                    conn.query_drop(format!("UPDATE t SET n = n + 1 WHERE id = {id}")).await.unwrap();
                    let n: Option<u32> = conn.exec_first("SELECT n FROM t WHERE id = ?", (id,)).await.unwrap();
                    assert_eq!(n, Some(1), "client {client} reads what it wrote");
                    conn.query_drop("SELECT COUNT(*) FROM shop.items; DELETE FROM t WHERE id = -1").await.unwrap();
                    if round % 4 == 0 {
                        conn.query_drop(format!("WITH x AS (SELECT 1 AS n) UPDATE t, x SET t.n = 5 WHERE t.id = {id}")).await.ok();
                        conn.query_drop(format!("REPLACE INTO t SELECT {id}, 7")).await.unwrap();
                        conn.query_drop(format!("/* read */ -- me\n DELETE FROM t WHERE id = {id}")).await.unwrap();
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    cluster().settle().await.unwrap();
    for name in ["db2", "db3", "db4"] {
        assert_eq!(cluster().server(name).own_transactions().await.unwrap(), 0, "{name} took a write");
        let rows = cluster().server(name).value(&format!("SELECT COUNT(*) FROM {schema}.t")).await.unwrap();
        assert_eq!(rows, "240", "{name}");
    }
}

#[tokio::test]
async fn explain_route_tells_class_target_and_reason() {
    for (sql, class, targets) in [
        ("SELECT * FROM shop.items", "read", &["replica"][..]),
        ("SELECT NOW()", "read", &["replica"]),
        ("SELECT * FROM shop.items FOR UPDATE", "locking read", &["master"]),
        ("INSERT INTO shop.items (name, price) VALUES ('x', 1)", "write", &["master"]),
        ("UPDATE shop.items SET stock = 1", "write", &["master"]),
        ("CREATE TABLE shop.x (id INT)", "ddl", &["master"]),
        ("BEGIN", "transaction", &["master", "proxy"]),
        ("SET NAMES utf8mb4", "session", &["proxy", "master", "replica"]),
        ("FLUSH TABLES", "administrative", &["master"]),
        ("FROBNICATE ALL THE THINGS", "unknown", &["master"]),
        ("SELECT unknown_function(1)", "", &["master"]),
    ] {
        let table = proxy().admin(&format!("EXPLAIN ROUTE {sql}")).await.unwrap();
        let of = |column: &str| table.column(column).first().map(|cell| (*cell).to_owned()).unwrap_or_default();
        let squeezed = |word: &str| word.to_lowercase().replace([' ', '_', '-'], "");
        assert!(squeezed(&of("class")).starts_with(&squeezed(class)), "{sql}: {table:?}");
        assert!(targets.contains(&of("target").as_str()), "{sql}: {table:?}");
        assert!(!of("reason").is_empty(), "{sql}: {table:?}");
    }
}

#[tokio::test]
async fn explain_of_the_command_line_says_the_same() {
    let config = proxy().config_path().display().to_string();
    let (code, out, err) = Proxy::command(&["explain", "--config", &config, "SELECT * FROM shop.items FOR UPDATE"]).await.unwrap();
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("master"), "{out}");
}

#[tokio::test]
async fn explain_route_names_a_hint_that_means_nothing() {
    for (hint, ignored) in
        [("replica", ""), ("slave", "`slave`"), ("replica, cache=abc", "`cache=abc`"), ("cache=5s nocache", "`cache=5s nocache`")]
    {
        let table = proxy().admin(&format!("EXPLAIN ROUTE /* sluice: {hint} */ SELECT * FROM shop.items")).await.unwrap();
        let reason = table.column("reason")[0];
        assert_eq!(reason.contains("is ignored"), !ignored.is_empty(), "{hint}: {reason}");
        assert!(reason.contains(ignored), "{hint}: {reason}");
    }
}

/// The name of a server of its own is told by whoever answers; a global variable is read where it was set.
#[tokio::test]
async fn a_global_variable_is_read_where_it_was_set() {
    let cluster = cluster();
    let mut root = cluster.server("db1").root().await.unwrap();
    root.query_drop("SET GLOBAL net_retry_count = 77").await.unwrap();
    let mut conn = proxy().connect("shop").await.unwrap();
    for _ in 0..8 {
        let value: u32 = conn.query_first("SELECT @@GLOBAL.net_retry_count").await.unwrap().unwrap();
        assert_eq!(value, 77);
        let (_, value): (String, u32) = conn.query_first("SHOW GLOBAL VARIABLES LIKE 'net_retry_count'").await.unwrap().unwrap();
        assert_eq!(value, 77);
    }
    root.query_drop("SET GLOBAL net_retry_count = DEFAULT").await.unwrap();
}

/// Connections that are opened later begin with the new value, and whoever set it goes on with his own; he reads where it was set.
#[tokio::test]
async fn who_sets_a_variable_globally_keeps_his_own_value() {
    let mut root = cluster().server("db1").root().await.unwrap();
    let account = Account { name: "t_globals", password: "p" };
    root.query_drop("CREATE USER IF NOT EXISTS t_globals@'%' IDENTIFIED BY 'p'").await.unwrap();
    root.query_drop("GRANT ALL ON *.* TO t_globals@'%'").await.unwrap();
    cluster().settle().await.unwrap();
    let mut conn = proxy().connect_with(proxy().options(account)).await.unwrap();
    let own = "SELECT @@session.group_concat_max_len, @@session.max_sort_length";
    let before: (u64, u64) = conn.query_first(own).await.unwrap().unwrap();
    conn.query_drop("SET GLOBAL group_concat_max_len = 77777, @@global.max_sort_length = 1025, GLOBAL net_retry_count = 78")
        .await
        .unwrap();
    for _ in 0..4 {
        assert_eq!(conn.query_first(own).await.unwrap(), Some(before));
        assert_eq!(where_am_i(&mut conn).await, MASTER);
    }
    // Longer than a length of one byte tells.
    let long = "SELECT @@session.optimizer_switch";
    let switches: String = conn.query_first(long).await.unwrap().unwrap();
    conn.query_drop("SET GLOBAL optimizer_switch = 'mrr=off,index_merge=off'").await.unwrap();
    assert_eq!(conn.query_first::<String, _>(long).await.unwrap().as_deref(), Some(&*switches));
    conn.query_drop("SET GLOBAL optimizer_switch = DEFAULT").await.unwrap();
    // NULL, which the server tells as an empty text and takes as NULL only.
    conn.query_drop("SET SESSION innodb_tmpdir = NULL").await.unwrap();
    assert_eq!(where_am_i(&mut conn).await, MASTER);
    let mut later = proxy().connect_with(proxy().options(account)).await.unwrap();
    later.query_drop("START TRANSACTION").await.unwrap();
    assert_eq!(later.query_first(own).await.unwrap(), Some((77777_u64, 1025_u64)));
    later.query_drop("ROLLBACK").await.unwrap();
    for name in ["group_concat_max_len", "max_sort_length", "net_retry_count"] {
        conn.query_drop(format!("SET GLOBAL {name} = DEFAULT")).await.unwrap();
    }
    assert_eq!(conn.query_first(own).await.unwrap(), Some(before));
}

/// Rows that a failed statement left in a table without transactions are the session's own writes too.
#[tokio::test]
async fn a_failed_write_is_read_by_who_made_it() {
    let schema = schema("routing_failed_write").await;
    let mut conn = proxy().connect(&schema).await.unwrap();
    conn.query_drop("CREATE TABLE t (id INT PRIMARY KEY) ENGINE=MyISAM").await.unwrap();
    conn.query_drop("INSERT INTO t VALUES (0)").await.unwrap();
    for round in 1..20u32 {
        conn.query_drop(format!("INSERT INTO t VALUES ({round}), (0)")).await.unwrap_err();
        let rows: u32 = conn.query_first("SELECT COUNT(*) FROM t").await.unwrap().unwrap();
        assert_eq!(rows, round + 1);
    }
}
