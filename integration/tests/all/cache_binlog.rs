//! The cache told by the binlog: writes made at the master, past the proxy, void what is kept within the log's delay; while the log is not
//! followed nothing is served; after a change of the master it is followed there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use integration::accounts::Account;
use integration::cluster::Cluster;
use integration::proxy::Proxy;
use integration::wait::until_true;
use mysql_async::prelude::Queryable;

use crate::cache::{cell, definitions_among_others, figure, hits, keep, on};
use crate::cache_store::cut_the_log;
use crate::world::{flavour, schema_on};

/// What the log may take on a busy machine; on an idle one it is milliseconds.
const DELAY: Duration = Duration::from_secs(3);

async fn start(cluster: &Cluster) -> Proxy {
    let proxy = Proxy::before(cluster).set("cache.enabled", "true").set("cache.default", "\"all\"");
    let proxy = proxy.set("routing.consistency", "\"none\"").start().await.unwrap();
    on(&proxy).await;
    proxy
}

#[tokio::test]
async fn writes_past_the_proxy_void() {
    let cluster = Cluster::start(flavour()).await.unwrap();
    let schema = schema_on(&cluster, "cache_binlog").await;
    let master = cluster.server("db1");
    let sql = "SELECT SUM(n) FROM t";
    master
        .run(&[
            &format!("CREATE TABLE {schema}.t (id INT PRIMARY KEY, n INT)"),
            &format!("INSERT INTO {schema}.t VALUES (1, 1), (2, 1)"),
        ])
        .await
        .unwrap();
    cluster.settle().await.unwrap();
    let proxy = start(&cluster).await;
    let mut conn = proxy.connect(&schema).await.unwrap();
    for (write, expected) in [
        (format!("UPDATE {schema}.t SET n = 10 WHERE id = 1"), "11"),
        (format!("INSERT INTO {schema}.t VALUES (3, 100)"), "111"),
        (format!("DELETE FROM {schema}.t WHERE id = 2"), "110"),
        (format!("SET STATEMENT_FORMAT; UPDATE {schema}.t SET n = n + 1"), "112"),
        (format!("TRUNCATE TABLE {schema}.t"), "NULL"),
        (
            format!(
                "DROP TABLE {schema}.t; CREATE TABLE {schema}.t (id INT PRIMARY KEY, n INT); INSERT INTO {schema}.t VALUES (1, 7)"
            ),
            "7",
        ),
    ] {
        keep(&proxy, &mut conn, sql).await;
        let write = write.replace("SET STATEMENT_FORMAT", "SET binlog_format = 'STATEMENT'");
        master.run(&write.split("; ").collect::<Vec<_>>()).await.unwrap();
        let found = until_true("it is seen", DELAY, async || {
            let mut conn = proxy.connect(&schema).await?;
            Ok(integration::driver::cell(&mut conn, sql).await?.unwrap_or_else(|| "nothing".to_owned()) == expected)
        });
        found.await.unwrap_or_else(|error| panic!("{write}: {error:#}"));
        on(&proxy).await;
    }
    // A right that is taken away at the server; of a table, since servers take one of a schema from new sessions only.
    const VIEWER: Account = Account { name: "cache_viewer", password: "seen once" };
    let right = format!("SELECT ON {schema}.t");
    let create = format!("CREATE USER '{}'@'%' IDENTIFIED BY '{}'", VIEWER.name, VIEWER.password);
    master.run(&[&create, &format!("GRANT {right} TO '{}'@'%'", VIEWER.name)]).await.unwrap();
    cluster.settle().await.unwrap();
    let mut report = proxy.connect_with(proxy.options(VIEWER).db_name(Some(&schema))).await.unwrap();
    keep(&proxy, &mut report, sql).await;
    master.run(&[&format!("REVOKE {right} FROM '{}'@'%'", VIEWER.name)]).await.unwrap();
    cluster.settle().await.unwrap();
    let refused = until_true("it is refused", DELAY, async || Ok(report.query_drop(sql).await.is_err()));
    refused.await.unwrap();
}

#[tokio::test]
async fn a_definition_among_other_statements_is_seen() {
    let cluster = Cluster::start(flavour()).await.unwrap();
    let schema = schema_on(&cluster, "cache_define").await;
    definitions_among_others(&cluster, &start(&cluster).await, &schema).await;
}

/// Counters written at the master alone: what is read through the proxy is never older than [`DELAY`], while the log's connection is killed
/// again and again, and the master is replaced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_older_than_the_logs_delay_is_served() {
    let cluster = Arc::new(Cluster::start(flavour()).await.unwrap());
    let schema = schema_on(&cluster, "cache_log_hunt").await;
    cluster
        .server("db1")
        .run(&[
            &format!("CREATE TABLE {schema}.c (id INT PRIMARY KEY, n BIGINT)"),
            &format!("INSERT INTO {schema}.c VALUES (1, 0)"),
        ])
        .await
        .unwrap();
    cluster.settle().await.unwrap();
    let proxy = Arc::new(start(&cluster).await);
    let (stop, newest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let history = Arc::new(std::sync::Mutex::new(vec![(Instant::now(), 0u64)]));
    let mut readers = Vec::new();
    for reader in 0..4 {
        let (stop, history) = (stop.clone(), history.clone());
        let mut conn = proxy.connect(&schema).await.unwrap();
        readers.push(tokio::spawn(async move {
            let mut reads = 0u64;
            while !stop.load(Ordering::SeqCst) {
                let before =
                    |history: &[(Instant, u64)]| history.iter().rev().find(|(at, _)| at.elapsed() > DELAY).map_or(0, |(_, n)| *n);
                let floor = before(&history.lock().unwrap());
                let sql = if reader % 2 == 0 { "SELECT n FROM c WHERE id = 1" } else { "SELECT MAX(n) FROM c" };
                let found: u64 = conn.query_first(sql).await.unwrap().unwrap();
                assert!(found >= floor, "read {found}, {floor} was there {DELAY:?} ago");
                reads += 1;
            }
            reads
        }));
    }
    let mut master = "db1";
    for round in 0..24u64 {
        let n = newest.fetch_add(1, Ordering::SeqCst) + 1;
        cluster.server(master).run(&[&format!("UPDATE {schema}.c SET n = {n} WHERE id = 1")]).await.unwrap();
        history.lock().unwrap().push((Instant::now(), n));
        if round % 8 == 3 {
            cut_the_log(&cluster, master).await;
        }
        if round == 13 {
            proxy.admin("SWITCHOVER TO db2").await.unwrap();
            master = "db2";
        }
        tokio::time::sleep(Duration::from_millis(if round % 4 == 0 { 700 } else { 60 })).await;
    }
    stop.store(true, Ordering::SeqCst);
    let mut reads = 0;
    for reader in readers {
        reads += reader.await.unwrap();
    }
    on(&proxy).await;
    let served = hits(&proxy).await;
    assert!(reads > 200 && served > 50, "{reads} reads, {served} hits; {}", figure(&proxy, "state").await);
    let mut conn = proxy.connect(&schema).await.unwrap();
    assert_eq!(cell(&mut conn, "SELECT n FROM c WHERE id = 1").await, newest.load(Ordering::SeqCst).to_string());
}
