//! Semi-synchronous replication: a commit that waits for its acknowledgement is in the binary log, and nobody sees it yet, in no set of GTIDs either.

use std::sync::Arc;
use std::time::Duration;

use integration::cluster::Cluster;
use integration::flavour::Flavour;
use integration::link::{Link, Way};
use integration::proxy::Proxy;
use integration::server::Server;
use integration::wait::until_true;
use mysql_async::prelude::Queryable;

use crate::failover::{becomes, events, marks, of};
use crate::world::flavour;

const SOON: Duration = Duration::from_secs(10);
const FOLLOWERS: [&str; 3] = ["db2", "db3", "db4"];

/// Everybody, the proxy too, reaches db1 by a link.
async fn semi_synchronous() -> (Cluster, Link, Arc<Proxy>) {
    let cluster = Cluster::start_with(flavour(), flavour().semi_sync(), &|_| {}).await.unwrap();
    cluster.server("db1").run(&["CREATE TABLE shop.marks (id INT UNSIGNED NOT NULL PRIMARY KEY)"]).await.unwrap();
    cluster.settle().await.unwrap();
    let link = Link::to(&cluster.server("db1").address()).unwrap();
    for name in FOLLOWERS {
        let follow = flavour().follow(link.port(), 0);
        cluster.server(name).run(&[flavour().stop_replica(), &follow, flavour().start_replica()]).await.unwrap();
    }
    cluster.settle().await.unwrap();
    let proxy = Proxy::before(&cluster).reach("db1", &link.address()).start().await.unwrap();
    (cluster, link, Arc::new(proxy))
}

/// A counter of the plugin that waits.
async fn counter(server: &Server, name: &str) -> anyhow::Result<u64> {
    let word = match flavour() {
        Flavour::MySql => "source",
        Flavour::MariaDb => "master",
    };
    server.status(&format!("Rpl_semi_sync_{word}_{name}")).await
}

/// Harm: on MySQL the former master counted as read-only from the moment that was asked of it, although what waited there for its acknowledgement had not
/// ended; it seemed to have nothing of its own, the new master received from it again, and older rows overwrote newer ones on all servers.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_waited_at_a_frozen_master_does_not_flow_back() {
    let (cluster, link, proxy) = semi_synchronous().await;
    let mut conn = proxy.connect("shop").await.unwrap();
    conn.query_drop("INSERT INTO marks VALUES (1)").await.unwrap();
    cluster.settle().await.unwrap();
    let replicas = until_true("all are replicas", SOON, async || Ok(counter(cluster.server("db1"), "clients").await? == 3));
    replicas.await.unwrap();
    link.stall(Way::Up);
    link.stall(Way::Down);
    // Nobody has it, and nobody sees it.
    let mut lost = cluster.server("db1").root().await.unwrap();
    let waits = tokio::spawn(async move { lost.query_drop("INSERT INTO shop.marks VALUES (2)").await });
    let waiting = until_true("a commit waits", SOON, async || Ok(counter(cluster.server("db1"), "wait_sessions").await? > 0));
    waiting.await.unwrap();
    cluster.server("db1").freeze().unwrap();
    becomes(&proxy, "db2", "role", "master", SOON).await;
    conn.query_drop("INSERT INTO marks VALUES (3)").await.unwrap();
    link.heal();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    cluster.server("db1").thaw().unwrap();
    becomes(&proxy, "db1", "state", "quarantined", SOON).await;
    let _ = waits.await.unwrap();
    let reason = of(&proxy, "db1", "reason").await.unwrap();
    assert!(reason.contains("transactions that the master never saw") || reason.contains("REJOIN SERVER db1"), "{reason}");
    assert_eq!(cluster.server("db1").value("SELECT @@GLOBAL.read_only").await.unwrap(), "1");
    assert_eq!(marks(&cluster, "db1").await[..2], [1, 2], "it has what it wrote; it may follow the others besides");
    for name in FOLLOWERS {
        let has = until_true("what was written since is everywhere", SOON, async || Ok(marks(&cluster, name).await.contains(&3)));
        has.await.unwrap();
        assert_eq!(marks(&cluster, name).await, [1, 3], "{name}: {}", events(&proxy).await);
    }
}
