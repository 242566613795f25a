//! The cluster itself, without any proxy: if this fails, nothing else means anything.

use std::time::Duration;

use integration::accounts::{self, APP, EMPTY, MONITOR, REPORT};
use integration::cluster::Cluster;
use integration::flavour::Flavour;
use integration::{driver, wait};
use mysql_async::prelude::Queryable;

use crate::world::{cluster, flavour, schema};

#[tokio::test]
async fn a_row_written_on_the_master_arrives_everywhere_and_is_nobody_elses_own_transaction() {
    let (cluster, schema) = (cluster(), schema("harness_arrives").await);
    let mut app = driver::connect(driver::options(cluster.server("db1").port(), APP).db_name(Some(&schema))).await.unwrap();
    app.query_drop("CREATE TABLE t (id INT PRIMARY KEY, word TEXT)").await.unwrap();
    app.query_drop("INSERT INTO t VALUES (1, 'snow'), (2, '☃')").await.unwrap();
    cluster.settle().await.unwrap();
    for server in cluster.servers() {
        assert_eq!(server.value(&format!("SELECT GROUP_CONCAT(word ORDER BY id) FROM {schema}.t")).await.unwrap(), "snow,☃");
    }
    assert!(cluster.server("db1").own_transactions().await.unwrap() > 0);
    for name in ["db2", "db3", "db4"] {
        assert_eq!(cluster.server(name).own_transactions().await.unwrap(), 0, "{name}");
        // the counters cannot tell: both families count a replicated row event as the statement it came from
        assert_ne!(cluster.server(name).status("Com_insert").await.unwrap(), 0, "{name}");
    }
}

#[tokio::test]
async fn only_db1_takes_writes_and_the_servers_can_be_told_apart() {
    let (cluster, schema) = (cluster(), schema("harness_writes").await);
    for (index, server) in cluster.servers().iter().enumerate() {
        assert_eq!(server.value("SELECT @@server_id").await.unwrap(), (index + 1).to_string());
        assert_eq!(server.value("SELECT @@port").await.unwrap(), server.port().to_string());
        let mut app = server.connect(APP).await.unwrap();
        let write = app.query_drop(format!("CREATE TABLE {schema}.t (id INT PRIMARY KEY)")).await;
        match write {
            Ok(()) => assert_eq!(server.name(), "db1"),
            Err(error) => assert_eq!(driver::server_error(&error).unwrap().0, 1290, "{}", server.name()),
        }
    }
}

#[tokio::test]
async fn the_accounts_can_do_what_they_should_and_no_more() {
    let server = cluster().server("db1");
    let named = if flavour() == Flavour::MariaDb { accounts::NATIVE } else { accounts::SHA2 };
    for account in [APP, EMPTY, REPORT, named, MONITOR] {
        server.connect(account).await.unwrap_or_else(|error| panic!("{}: {error:#}", account.name));
    }
    let mut report = server.connect(REPORT).await.unwrap();
    let items: u32 = report.query_first("SELECT COUNT(*) FROM shop.items").await.unwrap().unwrap();
    assert_eq!(items, 100);
    assert!(report.query_drop("DELETE FROM shop.order_lines").await.is_err());
    let mut monitor = server.connect(MONITOR).await.unwrap();
    for sql in [
        "SHOW REPLICA STATUS",
        "SELECT @@GLOBAL.read_only",
        "SHOW PROCESSLIST",
        "CREATE DATABASE IF NOT EXISTS sluice",
        "CREATE TABLE IF NOT EXISTS sluice.probe (id INT PRIMARY KEY)",
        "INSERT INTO sluice.probe VALUES (1)",
        "UPDATE sluice.probe SET id = 2",
    ] {
        monitor.query_drop(sql).await.unwrap_or_else(|error| panic!("the monitor account: {sql}: {error}"));
    }
    assert!(monitor.query_drop("SELECT * FROM shop.items").await.is_err(), "Sluice's account sees no application's data");
}

#[tokio::test]
async fn a_killed_a_frozen_and_a_restarted_server_come_back_and_catch_up() {
    let cluster = Cluster::start(flavour()).await.unwrap();
    let (db1, db3) = (cluster.server("db1"), cluster.server("db3"));
    db3.kill().unwrap();
    assert_eq!((db3.is_running(), db3.condition()), (false, "ended"));
    assert!(db3.connect(APP).await.is_err());
    db1.run(&["CREATE DATABASE t_while_db3_was_dead"]).await.unwrap();
    db3.start_again().unwrap();
    cluster.settle().await.unwrap();
    assert_eq!(db3.value("SHOW DATABASES LIKE 't_while_db3_was_dead'").await.unwrap(), "t_while_db3_was_dead");

    db3.freeze().unwrap();
    assert_eq!((db3.is_running(), db3.condition()), (true, "frozen"));
    assert!(tokio::time::timeout(Duration::from_millis(300), db3.query("SELECT 1")).await.is_err());
    db3.thaw().unwrap();
    db3.query("SELECT 1").await.unwrap();

    db1.restart().unwrap();
    wait::until_true("db3 replicates again", Duration::from_secs(20), || cluster.replicates(db3)).await.unwrap();
    db1.run(&["CREATE DATABASE t_after_db1_came_back"]).await.unwrap();
    cluster.settle().await.unwrap();
}

#[tokio::test]
async fn the_masters_replicate_in_a_circle() {
    let cluster = Cluster::start(flavour()).await.unwrap();
    let (db1, db2) = (cluster.server("db1"), cluster.server("db2"));
    db1.run(&["SET GLOBAL read_only = 1"]).await.unwrap();
    if flavour() == Flavour::MySql {
        db2.run(&["SET GLOBAL super_read_only = 0"]).await.unwrap();
    }
    db2.run(&["SET GLOBAL read_only = 0", "CREATE DATABASE t_from_db2"]).await.unwrap();
    cluster.settle_behind("db2").await.unwrap();
    assert_eq!(cluster.server("db4").value("SHOW DATABASES LIKE 't_from_db2'").await.unwrap(), "t_from_db2");
    assert!(db2.own_transactions().await.unwrap() > 0);
}

#[tokio::test]
async fn a_delayed_replica_lags() {
    let cluster = Cluster::start(flavour()).await.unwrap();
    cluster.delay("db4", 2).await.unwrap();
    let start = std::time::Instant::now();
    cluster.server("db1").run(&["CREATE DATABASE t_late"]).await.unwrap();
    cluster.settle().await.unwrap();
    assert!(start.elapsed() > Duration::from_millis(900), "db4 had it after {:?}", start.elapsed());
}
