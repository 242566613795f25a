//! `failover.transaction_replay = true`: a transaction that was open on a master that dies goes on, on the new one; or the client is told why not.

use std::sync::Arc;
use std::time::Duration;

use integration::cluster::Cluster;
use integration::link::{Link, Way};
use integration::proxy::Proxy;
use integration::wait::until_true;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::failover::{events, marked, marks};
use crate::world::flavour;

async fn replaying() -> (Cluster, Arc<Proxy>, Conn) {
    let (cluster, proxy) = marked(|proxy| proxy.set("failover.transaction_replay", "true")).await;
    let conn = proxy.connect("shop").await.unwrap();
    // The heartbeat's row and all else is everywhere, so that nothing is lost with the master.
    cluster.settle().await.unwrap();
    (cluster, proxy, conn)
}

/// Nothing new is under way to the survivors when the master is killed.
async fn kill_db1(cluster: &Cluster) {
    cluster.kill_with_nothing_to_lose("db1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn an_open_transaction_goes_on_at_the_new_master() {
    let (cluster, proxy, mut conn) = replaying().await;
    conn.query_drop("BEGIN").await.unwrap();
    conn.query_drop("INSERT INTO marks VALUES (1)").await.unwrap();
    let insert = conn.prep("INSERT INTO marks VALUES (?)").await.unwrap();
    for id in [2, 3] {
        conn.exec_drop(&insert, (id,)).await.unwrap();
    }
    let stock: Option<i32> = conn.query_first("SELECT stock FROM items WHERE id = 5 FOR UPDATE").await.unwrap();
    conn.query_drop("UPDATE items SET stock = stock + 1 WHERE id = 5").await.unwrap();
    // An error is an answer, too.
    conn.query_drop("INSERT INTO marks VALUES (1)").await.unwrap_err();
    kill_db1(&cluster).await;
    let seen: Vec<u32> = conn.query("SELECT id FROM marks ORDER BY id").await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(seen, [1, 2, 3], "what it wrote itself");
    conn.exec_drop(&insert, (4,)).await.unwrap();
    assert_eq!(marks(&cluster, "db2").await, [0; 0], "nothing is committed yet: {}", events(&proxy).await);
    conn.query_drop("COMMIT").await.unwrap();
    assert_eq!(marks(&cluster, "db2").await, [1, 2, 3, 4]);
    let now: Option<i32> = conn.query_first("SELECT stock FROM items WHERE id = 5 FOR UPDATE").await.unwrap();
    assert_eq!(now, stock.map(|stock| stock + 1));
}

/// Bug: where another server was master by the time of its next statement, and that was a write, it was refused for a session bound to a server that
/// is not the master; the COMMIT behind it then committed the transaction without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_write_behind_the_failover_goes_on_at_the_new_master() {
    let (cluster, proxy, mut conn) = replaying().await;
    conn.query_drop("BEGIN").await.unwrap();
    conn.query_drop("INSERT INTO marks VALUES (1)").await.unwrap();
    kill_db1(&cluster).await;
    let mut other = proxy.connect("shop").await.unwrap();
    other.query_drop("INSERT INTO marks VALUES (7)").await.unwrap();
    conn.query_drop("INSERT INTO marks VALUES (2)").await.unwrap_or_else(|e| panic!("{e}"));
    conn.query_drop("COMMIT").await.unwrap();
    assert_eq!(marks(&cluster, "db2").await, [1, 2, 7]);
}

/// The connection is reset in the moment before the statement, which then does not go out: that it is lost is certain, and so is what is lost with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_statement_that_never_went_out_goes_on_at_the_new_master() {
    let cluster = Cluster::start(flavour()).await.unwrap();
    let db1 = cluster.server("db1");
    db1.run(&["CREATE TABLE shop.marks (id INT UNSIGNED NOT NULL)"]).await.unwrap();
    let link = Link::to(&db1.address()).unwrap();
    let proxy = Proxy::before(&cluster).set("failover.transaction_replay", "true").reach("db1", &link.address());
    let proxy = proxy.start().await.unwrap();
    let mut conn = proxy.connect("shop").await.unwrap();
    conn.query_drop("BEGIN").await.unwrap();
    cluster.settle().await.unwrap();
    conn.query_drop("INSERT INTO marks VALUES (1)").await.unwrap();
    link.reset();
    let (insert, killed) = tokio::join!(conn.query_drop("INSERT INTO marks VALUES (2)"), async { db1.kill().map(|()| link.cut()) });
    killed.unwrap();
    insert.unwrap_or_else(|e| panic!("{e}"));
    conn.query_drop("COMMIT").await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(marks(&cluster, "db2").await, [1, 2], "{}", events(&proxy).await);
}

/// Bug: the statement was run again on one that others had executed with other types there, and MySQL read its parameter by those.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn parameters_are_read_for_what_they_are_when_it_is_run_again() {
    let settings = |proxy: integration::proxy::ProxyBuilder| {
        proxy.set("failover.transaction_replay", "true").server("db2", "max_connections", "1")
    };
    let (cluster, proxy) = marked(settings).await;
    let mut conn = proxy.connect("shop").await.unwrap();
    let mut other = proxy.connect("shop").await.unwrap();
    let text = "/* sluice: server=db2 */ SELECT ? AS it";
    let date = mysql_async::Value::Date(2020, 1, 2, 3, 4, 5, 0);
    for _ in 0..2 {
        other.exec_drop(text, (date.clone(),)).await.unwrap();
    }
    conn.query_drop("BEGIN").await.unwrap();
    conn.query_drop("INSERT INTO marks VALUES (1)").await.unwrap();
    assert_eq!(conn.exec_first::<i64, _, _>(text, (-1,)).await.unwrap(), Some(-1));
    kill_db1(&cluster).await;
    assert_eq!(conn.exec_first::<i64, _, _>(text, (-2,)).await.unwrap_or_else(|e| panic!("{e}")), Some(-2));
    conn.query_drop("COMMIT").await.unwrap();
    assert_eq!(marks(&cluster, "db2").await, [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_statement_that_was_running_is_run_again_with_its_transaction() {
    let (cluster, _proxy, mut conn) = replaying().await;
    conn.query_drop("START TRANSACTION").await.unwrap();
    conn.query_drop("INSERT INTO marks VALUES (1)").await.unwrap();
    let running = tokio::spawn(async move {
        conn.query_drop("INSERT INTO marks SELECT 2 FROM (SELECT SLEEP(1.5)) AS slow").await.unwrap();
        conn.query_drop("COMMIT").await.unwrap();
        conn
    });
    tokio::time::sleep(Duration::from_millis(400)).await;
    cluster.server("db1").kill().unwrap();
    let mut conn = running.await.unwrap();
    assert_eq!(marks(&cluster, "db2").await, [1, 2]);
    conn.query_drop("INSERT INTO marks VALUES (3)").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn another_result_is_an_error_that_says_so() {
    let (cluster, proxy, mut conn) = replaying().await;
    conn.query_drop("BEGIN").await.unwrap();
    conn.query_drop("INSERT INTO marks VALUES (1)").await.unwrap();
    let server: Option<u32> = conn.query_first("SELECT @@server_id FROM marks WHERE id = 1").await.unwrap();
    assert_eq!(server, Some(1));
    kill_db1(&cluster).await;
    let error = conn.query_drop("INSERT INTO marks VALUES (2)").await.unwrap_err().to_string();
    assert!(error.contains("statement 3 of 3 had another result than before") && error.contains("rolled back"), "{error}");
    // Nothing of it is left, and the session goes on.
    conn.query_drop("INSERT INTO marks VALUES (9)").await.unwrap();
    assert_eq!(marks(&cluster, "db2").await, [9], "{}", events(&proxy).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_cannot_be_run_again_ends_as_without_it() {
    let (cluster, _proxy, mut conn) = replaying().await;
    conn.query_drop("BEGIN").await.unwrap();
    conn.query_drop("SET time_zone = '+03:00'").await.unwrap();
    conn.query_drop("INSERT INTO marks VALUES (1)").await.unwrap();
    kill_db1(&cluster).await;
    let error = conn.query_drop("INSERT INTO marks VALUES (2)").await.unwrap_err().to_string();
    assert!(error.contains("its transaction was rolled back, begin it again"), "{error}");
    conn.query_drop("INSERT INTO marks VALUES (9)").await.unwrap();
    assert_eq!(marks(&cluster, "db2").await, [9]);
}

/// Commits of db1 hang from now on; what it committed before is known to the proxy, and is everywhere.
async fn commits_hang(cluster: &Cluster) -> Conn {
    let mut root = cluster.server("db1").root().await.unwrap();
    root.query_drop("FLUSH TABLES WITH READ LOCK").await.unwrap();
    cluster.settle().await.unwrap();
    // A heartbeat's questions go on, and see it.
    tokio::time::sleep(Duration::from_millis(300)).await;
    root
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_lost_commit_that_did_not_happen_is_run_again() {
    let (cluster, proxy, mut conn) = replaying().await;
    conn.query_drop("BEGIN").await.unwrap();
    conn.query_drop("INSERT INTO marks VALUES (1)").await.unwrap();
    let _root = commits_hang(&cluster).await;
    let commit = tokio::spawn(async move {
        let result = conn.query_drop("COMMIT").await;
        (conn, result)
    });
    tokio::time::sleep(Duration::from_millis(150)).await;
    cluster.server("db1").kill().unwrap();
    let (mut conn, result) = commit.await.unwrap();
    result.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(marks(&cluster, "db2").await, [1], "{}", events(&proxy).await);
    conn.query_drop("INSERT INTO marks VALUES (2)").await.unwrap();
}

/// Harm: it was run again on a connection that knew nothing of what SET TRANSACTION had said for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_statement_that_a_set_transaction_was_said_for_is_not_run_without_it() {
    let (cluster, proxy, mut conn) = replaying().await;
    conn.query_drop("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE").await.unwrap();
    let _root = commits_hang(&cluster).await;
    let insert = tokio::spawn(async move {
        let result = conn.query_drop("INSERT INTO marks VALUES (1)").await;
        (conn, result)
    });
    tokio::time::sleep(Duration::from_millis(150)).await;
    cluster.server("db1").kill().unwrap();
    let (mut conn, result) = insert.await.unwrap();
    let error = result.unwrap_err().to_string();
    assert!(error.contains("lost db1"), "{error}");
    conn.query_drop("INSERT INTO marks VALUES (2)").await.unwrap();
    assert_eq!(marks(&cluster, "db2").await, [2], "{}", events(&proxy).await);
}

/// Harm: a switchover that began meanwhile did not wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_transaction_that_is_being_run_again_is_seen_at_its_server() {
    let (cluster, proxy, mut conn) = replaying().await;
    conn.query_drop("BEGIN").await.unwrap();
    conn.query_drop("INSERT INTO marks SELECT 1 FROM (SELECT SLEEP(1.5)) AS slow").await.unwrap();
    kill_db1(&cluster).await;
    let next = tokio::spawn(async move {
        conn.query_drop("INSERT INTO marks VALUES (2)").await.unwrap();
        conn.query_drop("COMMIT").await.unwrap();
    });
    let seen = until_true("it is at db2", Duration::from_secs(10), async || {
        assert_eq!(marks(&cluster, "db2").await, [0; 0], "and it was not seen there");
        let clients = proxy.admin("SHOW CLIENTS").await?;
        Ok(clients.cell("server", "db2", "state") == Some("active") && !next.is_finished())
    });
    seen.await.unwrap();
    // As long as the first statement takes: it is that one, and not the second.
    let seen = std::time::Instant::now();
    next.await.unwrap();
    assert!(seen.elapsed() > Duration::from_secs(1), "{:?}", seen.elapsed());
    assert_eq!(marks(&cluster, "db2").await, [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_lost_commit_that_happened_is_not_run_twice() {
    let cluster = Cluster::start(flavour()).await.unwrap();
    cluster.server("db1").run(&["CREATE TABLE shop.marks (id INT UNSIGNED NOT NULL)"]).await.unwrap();
    cluster.settle().await.unwrap();
    let link = Link::to(&cluster.server("db1").address()).unwrap();
    let proxy = Proxy::before(&cluster).set("failover.transaction_replay", "true").reach("db1", &link.address());
    let proxy = proxy.start().await.unwrap();
    let mut conn = proxy.connect("shop").await.unwrap();
    conn.query_drop("BEGIN").await.unwrap();
    conn.query_drop("INSERT INTO marks VALUES (1)").await.unwrap();
    // What the master says is lost from now on; what it is told arrives.
    link.stall(Way::Down);
    let commit = tokio::spawn(async move {
        let result = conn.query_drop("COMMIT").await;
        (conn, result)
    });
    let there = until_true("it is on db2", Duration::from_secs(5), async || Ok(marks(&cluster, "db2").await == [1]));
    there.await.unwrap();
    cluster.server("db1").kill().unwrap();
    link.cut();
    let (mut conn, result) = commit.await.unwrap();
    let error = result.unwrap_err().to_string();
    assert!(error.contains("unless its COMMIT was the statement that was lost"), "{error}");
    conn.query_drop("INSERT INTO marks VALUES (2)").await.unwrap();
    assert_eq!(marks(&cluster, "db2").await, [1, 2], "{}", events(&proxy).await);
}
