//! Servers that die, hang, lag, change roles or were never there: who notices, how fast, and what clients see. Every test has
//! a cluster of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use integration::flavour::Flavour;
use integration::proxy::Proxy;
use integration::wait::until_true;
use mysql_async::prelude::Queryable;

use crate::world::{flavour, own, where_am_i};

/// A cell of SHOW SERVERS.
async fn of(proxy: &Proxy, server: &str, column: &str) -> anyhow::Result<String> {
    let table = proxy.admin("SHOW SERVERS").await?;
    table.cell("name", server, column).map(str::to_owned).ok_or_else(|| anyhow::anyhow!("no {column} of {server} in {table:?}"))
}

async fn becomes(proxy: &Proxy, server: &str, column: &str, values: &[&str], limit: Duration) {
    let what = format!("{column} of {server} is one of {values:?}");
    let right = until_true(&what, limit, async || {
        let value = of(proxy, server, column).await?;
        if values.contains(&value.as_str()) { Ok(true) } else { Err(anyhow::anyhow!("it is {value:?}")) }
    });
    right.await.unwrap();
}

/// Clients that read all the time; gives reads, errors and the longest any read took.
async fn readers_while(proxy: &Arc<Proxy>, disturb: impl AsyncFnOnce()) -> (u32, Vec<String>, Duration) {
    let over = Arc::new(AtomicBool::new(false));
    let reads = Arc::new(AtomicU32::new(0));
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let (proxy, over, reads) = (Arc::clone(proxy), Arc::clone(&over), Arc::clone(&reads));
            tokio::spawn(async move {
                let mut errors = Vec::new();
                let mut slowest = Duration::ZERO;
                let mut conn = proxy.connect("shop").await.unwrap();
                while !over.load(Ordering::SeqCst) {
                    let start = Instant::now();
                    let read = match client % 2 {
                        0 => conn.query_first::<u32, _>("SELECT id FROM items WHERE id = 7").await,
                        _ => conn.exec_first("SELECT id FROM items WHERE id = ?", (7,)).await,
                    };
                    slowest = slowest.max(start.elapsed());
                    match read {
                        Ok(row) => assert_eq!(row, Some(7)),
                        Err(error) => {
                            errors.push(error.to_string());
                            conn = proxy.connect("shop").await.unwrap();
                        }
                    }
                    reads.fetch_add(1, Ordering::SeqCst);
                }
                (errors, slowest)
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    disturb().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    over.store(true, Ordering::SeqCst);
    let (mut errors, mut slowest) = (Vec::new(), Duration::ZERO);
    for client in clients {
        let (seen, longest) = tokio::time::timeout(Duration::from_secs(20), client).await.expect("a reader hangs").unwrap();
        errors.extend(seen);
        slowest = slowest.max(longest);
    }
    (reads.load(Ordering::SeqCst), errors, slowest)
}

#[tokio::test]
async fn a_replica_killed_under_reads_costs_no_client_an_error() {
    let (cluster, proxy) = own(|proxy| proxy).await;
    let proxy = Arc::new(proxy);
    let (reads, errors, slowest) = readers_while(&proxy, async || cluster.server("db3").kill().unwrap()).await;
    assert_eq!(errors, Vec::<String>::new(), "of {reads} reads");
    assert!(reads > 100, "{reads} reads");
    assert!(slowest < Duration::from_secs(2), "a read took {slowest:?}");
    becomes(&proxy, "db3", "state", &["down"], Duration::from_secs(3)).await;
    cluster.server("db3").start_again().unwrap();
    becomes(&proxy, "db3", "state", &["online"], Duration::from_secs(15)).await;
}

/// MySQL answers statements with 1053 while it shuts down: that is no answer to a read, and it is asked elsewhere.
#[tokio::test]
async fn a_replica_stopped_cleanly_under_reads_costs_no_client_an_error() {
    let (cluster, proxy) = own(|proxy| proxy).await;
    let proxy = Arc::new(proxy);
    let (reads, errors, _) = readers_while(&proxy, async || cluster.server("db3").stop().unwrap()).await;
    assert_eq!(errors, Vec::<String>::new(), "of {reads} reads");
    becomes(&proxy, "db3", "state", &["down"], Duration::from_secs(3)).await;
}

#[tokio::test]
async fn a_frozen_replica_leaves_the_rotation_and_comes_back() {
    let (cluster, proxy) = own(|proxy| proxy).await;
    let proxy = Arc::new(proxy);
    let (reads, errors, slowest) = readers_while(&proxy, async || {
        cluster.server("db4").freeze().unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
    })
    .await;
    assert_eq!(errors, Vec::<String>::new(), "of {reads} reads");
    // It is given up after the heartbeat's time-out of 1 s; whoever waits for it then, even for a new connection, goes elsewhere.
    assert!(slowest < Duration::from_millis(2900), "a read took {slowest:?}");
    assert_ne!(of(&proxy, "db4", "state").await.unwrap(), "online");
    cluster.server("db4").thaw().unwrap();
    becomes(&proxy, "db4", "state", &["online"], Duration::from_secs(15)).await;
}

/// A full disk, a collector of logs that has ended: what is lost is the log, and nothing else.
#[tokio::test]
async fn a_log_that_cannot_be_written_stops_nothing() {
    let (cluster, proxy) = own(|proxy| proxy.log_unread()).await;
    cluster.server("db3").kill().unwrap();
    becomes(&proxy, "db3", "state", &["down"], Duration::from_secs(5)).await;
    proxy.admin("SWITCHOVER TO db2").await.unwrap();
    becomes(&proxy, "db2", "role", &["master"], Duration::from_secs(5)).await;
    proxy.check_running().unwrap();
}

#[tokio::test]
async fn all_replicas_gone_the_master_answers_reads() {
    let (cluster, proxy) = own(|proxy| proxy).await;
    let mut conn = proxy.connect("shop").await.unwrap();
    for name in ["db2", "db3", "db4"] {
        cluster.server(name).kill().unwrap();
    }
    for _ in 0..10 {
        assert_eq!(where_am_i(&mut conn).await, 1);
    }
}

#[tokio::test]
async fn the_role_is_what_the_servers_say() {
    let (cluster, proxy) = own(|proxy| proxy.set("failover.mode", "\"off\"")).await;
    becomes(&proxy, "db1", "role", &["master"], Duration::from_secs(3)).await;
    becomes(&proxy, "db2", "role", &["standby"], Duration::from_secs(3)).await;
    becomes(&proxy, "db3", "role", &["replica"], Duration::from_secs(3)).await;
    let read_only = |on: &str| match flavour() {
        Flavour::MariaDb => format!("SET GLOBAL read_only = {on}"),
        Flavour::MySql => format!("SET GLOBAL super_read_only = {on}"),
    };
    cluster.server("db1").run(&[&read_only("ON")]).await.unwrap();
    cluster.settle().await.unwrap();
    cluster.server("db2").run(&[&read_only("OFF"), "SET GLOBAL read_only = OFF"]).await.unwrap();
    becomes(&proxy, "db2", "role", &["master"], Duration::from_secs(5)).await;
    let mut conn = proxy.connect("shop").await.unwrap();
    conn.query_drop("UPDATE items SET note = CONCAT('server ', @@server_id) WHERE id = 1").await.unwrap();
    assert_eq!(cluster.server("db2").value("SELECT note FROM shop.items WHERE id = 1").await.unwrap(), "server 2");
    assert_ne!(of(&proxy, "db1", "role").await.unwrap(), "master");
}

#[tokio::test]
async fn a_lagging_replica_serves_no_reads() {
    let (cluster, proxy) = own(|proxy| proxy.set("monitor.max_lag", "\"1s\"").set("routing.consistency", "\"none\"")).await;
    cluster.delay("db3", 8).await.unwrap();
    cluster.server("db1").run(&["UPDATE shop.items SET note = 'late' WHERE id = 2"]).await.unwrap();
    // Setting the delay stops the applier for a moment, which takes the replica out too: that is not what is waited for.
    until_true("it is out because of its lag", Duration::from_secs(8), async || {
        let behind = of(&proxy, "db3", "reason").await?.contains("behind");
        let lag = of(&proxy, "db3", "lag_ms").await?.parse::<u64>().unwrap_or(0);
        Ok(behind && lag >= 1000 && of(&proxy, "db3", "state").await? == "lagging")
    })
    .await
    .unwrap();
    let mut conn = proxy.connect("shop").await.unwrap();
    for _ in 0..20 {
        assert_ne!(where_am_i(&mut conn).await, 3);
    }
    cluster.delay("db3", 0).await.unwrap();
    becomes(&proxy, "db3", "state", &["online"], Duration::from_secs(15)).await;
}

#[tokio::test]
async fn lag_is_told_in_milliseconds() {
    let (_cluster, proxy) = own(|proxy| proxy).await;
    for name in ["db3", "db4"] {
        let small = until_true("the lag is known and small", Duration::from_secs(5), async || {
            let lag = of(&proxy, name, "lag_ms").await?;
            Ok(lag.parse::<u64>().is_ok_and(|lag| lag < 1000))
        });
        small.await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_is_down_at_the_start_is_reported_not_fatal() {
    let cluster = integration::cluster::Cluster::start(flavour()).await.unwrap();
    cluster.server("db4").kill().unwrap();
    let proxy = Proxy::before(&cluster).start().await.unwrap();
    assert_eq!(of(&proxy, "db4", "state").await.unwrap(), "down");
    assert_ne!(of(&proxy, "db4", "reason").await.unwrap(), "");
    let mut conn = proxy.connect("shop").await.unwrap();
    conn.query_drop("UPDATE items SET stock = stock WHERE id = 1").await.unwrap();
    cluster.server("db4").start_again().unwrap();
    becomes(&proxy, "db4", "state", &["online"], Duration::from_secs(15)).await;
}

#[tokio::test]
async fn without_a_master_reads_go_on_writes_wait_and_readiness_says_so() {
    let (cluster, mut proxy) = own(|proxy| proxy.set("failover.mode", "\"off\"").set("failover.hold_timeout", "\"2s\"")).await;
    let mut conn = proxy.connect("shop").await.unwrap();
    cluster.server("db1").kill().unwrap();
    until_true("readyz says no", Duration::from_secs(5), async || Ok(proxy.get("/readyz").await?.0 == 503)).await.unwrap();
    assert_eq!(proxy.get("/healthz").await.unwrap().0, 200);
    assert_ne!(where_am_i(&mut conn).await, 1);
    let start = Instant::now();
    let refused = conn.query_drop("UPDATE items SET stock = stock WHERE id = 1").await.unwrap_err();
    let (code, state, message) = integration::driver::server_error(&refused).expect("an error packet");
    assert_eq!((code, state.as_str()), (1290, "HY000"), "{message}");
    assert!(message.starts_with("sluice: ") && message.contains("db1"), "{message}");
    assert!((1..6).contains(&start.elapsed().as_secs()), "held for {:?}", start.elapsed());
    // A master that comes back in time is waited for, by a write that began when it was gone.
    proxy.reload_with(|proxy| proxy.set("failover.hold_timeout", "\"30s\"")).await.unwrap();
    let waiting = tokio::spawn(async move { conn.query_drop("UPDATE items SET stock = stock WHERE id = 1").await });
    until_true("the write waits", Duration::from_secs(5), async || {
        Ok(proxy.admin("SHOW CLIENTS").await?.column("state").contains(&"waiting"))
    })
    .await
    .unwrap();
    cluster.server("db1").start_again().unwrap();
    tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(proxy.get("/readyz").await.unwrap().0, 200);
}

#[tokio::test]
async fn a_write_whose_master_died_while_it_ran_is_never_called_a_success() {
    let (cluster, proxy) = own(|proxy| proxy.set("failover.mode", "\"off\"")).await;
    let mut conn = proxy.connect("shop").await.unwrap();
    let write = tokio::spawn(async move { conn.query_drop("UPDATE items SET stock = SLEEP(5) WHERE id = 1").await });
    tokio::time::sleep(Duration::from_millis(700)).await;
    cluster.server("db1").kill().unwrap();
    let outcome = tokio::time::timeout(Duration::from_secs(20), write).await.expect("no answer").unwrap();
    let error = outcome.unwrap_err();
    if let Some((code, _, message)) = integration::driver::server_error(&error) {
        // 1158: what MariaDB's client library would make of 2013 in an ERR packet is a malformed packet.
        assert!(matches!(code, 1158 | 1053 | 1290), "{code} {message}");
        assert!(message.contains("unknown"), "{message}");
    }
}

/// Whoever is told of a lost statement goes on at once. Its next one must not be lost as well, on a connection whose end is still under way.
#[tokio::test]
async fn who_is_told_of_a_lost_statement_finds_its_server_judged() {
    let (cluster, proxy) = own(|proxy| {
        proxy
            .set("failover.mode", "\"off\"")
            .set("failover.hold_timeout", "\"0s\"")
            .set("monitor.heartbeat_interval", "\"3s\"")
            .set("monitor.heartbeat_timeout", "\"9s\"")
    })
    .await;
    let mut conn = proxy.connect("shop").await.unwrap();
    let write = tokio::spawn(async move { (conn.query_drop("UPDATE items SET stock = SLEEP(5) WHERE id = 1").await, conn) });
    let runs = async || {
        let count = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'UPDATE items SET stock = SLEEP%'";
        Ok(cluster.server("db1").value(count).await? == "1")
    };
    until_true("the write runs at the master", Duration::from_secs(4), runs).await.unwrap();
    cluster.server("db1").kill().unwrap();
    let (outcome, mut conn) = tokio::time::timeout(Duration::from_secs(20), write).await.expect("no answer").unwrap();
    let (_, _, message) = integration::driver::server_error(&outcome.unwrap_err()).expect("an error packet");
    assert!(message.contains("is unknown"), "{message}");
    let second = conn.query_drop("UPDATE items SET stock = stock WHERE id = 1").await.unwrap_err();
    let (code, _, message) = integration::driver::server_error(&second).expect("an error packet");
    assert!(code == 1290 && message.contains("db1") && message.contains("there is no master"), "{code} {message}");
}

/// What a `SET` does is its connection's alone: lost with that, it is run again, on the next master. In a transaction it is lost with more.
#[tokio::test]
async fn a_set_whose_master_died_while_it_ran_is_run_again() {
    let (cluster, proxy) = own(|proxy| proxy).await;
    let mut conn = proxy.connect("shop").await.unwrap();
    // It takes a second or more.
    let many = "(SELECT COUNT(*) FROM information_schema.collations a, information_schema.collations b, information_schema.character_sets c, \
                (SELECT 1 UNION SELECT 2 UNION SELECT 3) d)";
    for (server, begin) in [("db1", "DO 0"), ("db2", "BEGIN")] {
        conn.query_drop(begin).await.unwrap();
        let set = tokio::spawn(async move { (conn.query_drop(format!("SET @many = {many}, @n = 7")).await, conn) });
        let runs = async || {
            let count = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SET @many%'";
            Ok(cluster.server(server).value(count).await? == "1")
        };
        until_true("the SET runs at the master", Duration::from_secs(9), runs).await.unwrap();
        cluster.server(server).kill().unwrap();
        let (outcome, back) = tokio::time::timeout(Duration::from_secs(40), set).await.expect("no answer").unwrap();
        conn = back;
        match begin {
            "BEGIN" => assert_eq!(integration::driver::server_error(&outcome.unwrap_err()).expect("an error packet").0, 1158),
            _ => {
                outcome.unwrap();
                assert_eq!(conn.query_first::<i64, _>(format!("SELECT @many = {many} AND @n = 7")).await.unwrap(), Some(1));
            }
        }
    }
}

#[tokio::test]
async fn sigterm_lets_open_transactions_end_and_exits_zero() {
    let (_cluster, proxy) = own(|proxy| proxy.set("proxy.drain_timeout", "\"8s\"")).await;
    let mut conn = proxy.connect("shop").await.unwrap();
    conn.query_drop("BEGIN").await.unwrap();
    conn.query_drop("UPDATE items SET note = 'drained' WHERE id = 3").await.unwrap();
    let proxy = Arc::new(proxy);
    let stopping = Arc::clone(&proxy);
    let stopped = tokio::task::spawn_blocking(move || stopping.stop());
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(proxy.connect("shop").await.is_err(), "a draining proxy takes no new clients");
    conn.query_drop("COMMIT").await.unwrap();
    drop(conn);
    let took = stopped.await.unwrap().unwrap();
    assert!(took < Duration::from_secs(7), "it waited {took:?} though nobody was left");
}
