//! What a session begins with where servers are not configured as most are: `autocommit = 0`, `init_connect`.

use std::time::Duration;

use integration::accounts::APP;
use integration::cluster::Cluster;
use integration::driver::{self, told};
use integration::flavour::Flavour;
use integration::proxy::Proxy;
use integration::witness::{UTF8MB4, Wire};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::world::{flavour, reads_on_a_replica, where_am_i};

const MASTER: u32 = 1;

async fn world(options: &[&str]) -> (Cluster, Proxy) {
    let cluster = Cluster::start_with(flavour(), options, &|_: &str| {}).await.unwrap();
    let proxy = Proxy::before(&cluster).every_server("max_connections", "3").start().await.unwrap();
    (cluster, proxy)
}

async fn pair(cluster: &Cluster, proxy: &Proxy, schema: &str) -> (Conn, Conn) {
    let direct = driver::options(cluster.server("db1").port(), APP).db_name(Some(schema));
    (proxy.connect(schema).await.unwrap(), driver::connect(direct).await.unwrap())
}

/// Both are told the same.
async fn same(through: &mut Conn, direct: &mut Conn, sql: &str) {
    let (here, there) = (told(through, sql).await.unwrap(), told(direct, sql).await.unwrap());
    assert_eq!(here, there, "{sql}");
}

#[tokio::test]
async fn where_nothing_commits_by_itself_a_session_knows_it() {
    let (cluster, proxy) = world(&["--autocommit=0"]).await;
    cluster.server("db1").run(&["CREATE DATABASE t_off", "CREATE TABLE t_off.t (id INT PRIMARY KEY, n INT)"]).await.unwrap();
    cluster.settle().await.unwrap();
    // The heartbeat is written, and read on the others: whatever Sluice does by itself is committed.
    integration::wait::until("a lag that is known", Duration::from_secs(20), async || {
        let servers = proxy.admin("SHOW SERVERS").await.unwrap();
        Ok(servers.cell("name", "db3", "lag_ms").filter(|lag| *lag != "NULL").map(str::to_owned))
    })
    .await
    .unwrap();
    for round in 0..3 {
        let (mut through, mut direct) = pair(&cluster, &proxy, "t_off").await;
        same(&mut through, &mut direct, "SELECT @@autocommit, @@session.autocommit").await;
        // A read begins the transaction, the write is a part of it.
        assert_eq!(where_am_i(&mut through).await, MASTER, "round {round}");
        for sql in ["INSERT INTO t VALUES (1, 1)", "SELECT * FROM t", "ROLLBACK", "SELECT * FROM t", "COMMIT"] {
            let answer = told(&mut through, sql).await.unwrap();
            assert!(answer.error.is_none(), "{sql}: {answer:?}");
        }
        let rows: Vec<u32> = through.query("SELECT id FROM t").await.unwrap();
        assert!(rows.is_empty(), "rolled back");
        through.query_drop("REPLACE INTO t VALUES (2, 1)").await.unwrap();
        through.query_drop("COMMIT").await.unwrap();
        direct.query_drop("COMMIT").await.unwrap();
        let rows: Vec<u32> = direct.query("SELECT id FROM t").await.unwrap();
        assert_eq!(rows, [2]);
        // Who wants it otherwise has it otherwise, wherever he is.
        through.query_drop("SET autocommit = 1").await.unwrap();
        reads_on_a_replica(&mut through).await;
        through.query_drop("REPLACE INTO t VALUES (3, 1)").await.unwrap();
        let committed: Option<u32> = direct.query_first("SELECT COUNT(*) FROM t WHERE id = 3 LOCK IN SHARE MODE").await.unwrap();
        assert_eq!(committed, Some(1));
        direct.query_drop("COMMIT").await.unwrap();
        through.query_drop("DELETE FROM t").await.unwrap();
        through.reset().await.unwrap();
        same(&mut through, &mut direct, "SELECT @@autocommit").await;
        assert_eq!(where_am_i(&mut through).await, MASTER);
        through.query_drop("COMMIT").await.unwrap();
        cluster.settle().await.unwrap();
        integration::wait::until_true("a read-only transaction on a replica", Duration::from_secs(20), async || {
            through.query_drop("START TRANSACTION READ ONLY").await?;
            let at = where_am_i(&mut through).await;
            through.query_drop("COMMIT").await?;
            Ok(at != MASTER)
        })
        .await
        .unwrap();
    }
    // Others use the same connections, with their own idea of it.
    let (mut on, mut off) = (proxy.connect("t_off").await.unwrap(), proxy.connect("t_off").await.unwrap());
    on.query_drop("SET autocommit = 1").await.unwrap();
    for n in 10..14 {
        on.query_drop(format!("INSERT INTO t VALUES ({n}, 1)")).await.unwrap();
        off.query_drop(format!("INSERT INTO t VALUES ({n}0, 1)")).await.unwrap();
        off.query_drop("ROLLBACK").await.unwrap();
    }
    let rows: Vec<u32> = on.query("/* sluice: master */ SELECT id FROM t ORDER BY id").await.unwrap();
    assert_eq!(rows, [10, 11, 12, 13]);
}

/// The status of the login's own OK, by the wire.
/// Bug: where the servers' own `sql_mode` has double quotes for names, a function so named was taken for a text.
#[tokio::test]
async fn statements_are_read_in_the_servers_own_mode() {
    let (cluster, proxy) = world(&["--sql-mode=ANSI_QUOTES,NO_BACKSLASH_ESCAPES"]).await;
    let function = "CREATE FUNCTION shop.here () RETURNS INT READS SQL DATA RETURN @@server_id";
    cluster.server("db1").run(&[function]).await.unwrap();
    cluster.settle().await.unwrap();
    let (mut through, mut direct) = pair(&cluster, &proxy, "shop").await;
    reads_on_a_replica(&mut through).await;
    for _ in 0..3 {
        same(&mut through, &mut direct, "SELECT @@sql_mode").await;
        same(&mut through, &mut direct, r#"SELECT "name", '\' FROM items WHERE id = 1"#).await;
        for _ in 0..4 {
            let at: Option<u32> = through.query_first(r#"SELECT "here"()"#).await.unwrap();
            assert_eq!(at, Some(MASTER), "what the function does is not known");
        }
        through.reset().await.unwrap();
        direct.reset().await.unwrap();
    }
    through.query_drop("SET sql_mode = ''").await.unwrap();
    let text: Option<String> = through.query_first(r#"SELECT "name" FROM items WHERE id = 1"#).await.unwrap();
    assert_eq!(text.as_deref(), Some("name"));
}

#[tokio::test]
async fn the_login_says_so() {
    let (cluster, proxy) = world(&["--autocommit=0"]).await;
    for round in 0..2 {
        let through = Wire::connect(proxy.port(), "shop", UTF8MB4, false).await.unwrap();
        let direct = Wire::connect(cluster.server("db1").port(), "shop", UTF8MB4, false).await.unwrap();
        assert_eq!(through.login_status, direct.login_status, "round {round}");
        // MySQL's says that statements commit by themselves all the same.
        assert_eq!(through.login_status & 2, if flavour() == Flavour::MariaDb { 0 } else { 2 });
    }
}

#[tokio::test]
async fn what_init_connect_sets_is_there_on_every_connection() {
    let init = "--init-connect=SET sql_mode='ANSI_QUOTES,NO_BACKSLASH_ESCAPES', time_zone='+05:00', NAMES latin1, group_concat_max_len=4321";
    let (cluster, proxy) = world(&[init]).await;
    let asks = [
        "SELECT @@sql_mode, @@time_zone, @@group_concat_max_len, @@autocommit",
        "SELECT @@character_set_client, @@character_set_connection, @@character_set_results, @@collation_connection",
        r#"SELECT "id", 'a\\' FROM items WHERE id = 1"#,
        "SELECT FROM_UNIXTIME(0), COLLATION('a')",
    ];
    for names in [None, Some("utf8mb4"), None] {
        let (mut through, mut direct) = pair(&cluster, &proxy, "shop").await;
        if let Some(names) = names {
            for sql in [&format!("SET NAMES {names}"), "SET sql_mode = ''"] {
                same(&mut through, &mut direct, sql).await;
            }
        }
        for sql in asks {
            for _ in 0..3 {
                same(&mut through, &mut direct, sql).await;
            }
        }
        reads_on_a_replica(&mut through).await;
        for conn in [&mut through, &mut direct] {
            conn.reset().await.unwrap();
        }
        same(&mut through, &mut direct, asks[0]).await;
    }
}
