//! The master dies, freezes, stops, hands over, comes back: who takes over, how long writes wait, what clients see, what is lost. Every test has a
//! cluster of its own, and ends by looking at every server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use integration::cluster::Cluster;
use integration::flavour::Flavour;
use integration::proxy::Proxy;
use integration::wait::until_true;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::world::{flavour, own};

/// A cell of SHOW SERVERS.
pub(crate) async fn of(proxy: &Proxy, server: &str, column: &str) -> anyhow::Result<String> {
    let table = proxy.admin("SHOW SERVERS").await?;
    table.cell("name", server, column).map(str::to_owned).ok_or_else(|| anyhow::anyhow!("no {column} of {server} in {table:?}"))
}

pub(crate) async fn becomes(proxy: &Proxy, server: &str, column: &str, value: &str, limit: Duration) {
    let what = format!("{column} of {server} is {value}");
    let right = until_true(&what, limit, async || {
        let is = of(proxy, server, column).await?;
        if is == value { Ok(true) } else { Err(anyhow::anyhow!("it is {is:?}; {}", events(proxy).await)) }
    });
    right.await.unwrap();
}

/// What SHOW EVENTS has of the last seconds.
pub(crate) async fn events(proxy: &Proxy) -> String {
    let table = proxy.admin("SHOW EVENTS").await.unwrap();
    table.rows.iter().map(|row| row.join(" | ")).collect::<Vec<_>>().join("\n")
}

/// What one writer saw: an insert every 5 ms, each with a number of its own.
#[derive(Default)]
struct Written {
    /// The numbers that were acknowledged.
    acknowledged: Vec<u32>,
    /// Errors, each with its text.
    errors: Vec<String>,
    /// The longest time from one acknowledgement to the next.
    outage: Duration,
    /// The longest any single insert took.
    slowest: Duration,
}

/// Writes until told to stop.
struct Writer {
    over: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Written>,
}

impl Writer {
    fn start(proxy: &Arc<Proxy>, number: u32) -> Writer {
        let over = Arc::new(AtomicBool::new(false));
        let (proxy, told) = (Arc::clone(proxy), Arc::clone(&over));
        let task = tokio::spawn(async move {
            let mut written = Written::default();
            let mut conn: Option<Conn> = None;
            let mut last: Option<Instant> = None;
            for n in 0.. {
                if told.load(Ordering::SeqCst) {
                    break;
                }
                let id = number * 1_000_000 + n;
                let began = Instant::now();
                if conn.is_none() {
                    conn = proxy.connect("shop").await.ok();
                }
                let Some(open) = conn.as_mut() else {
                    written.errors.push("no login".to_owned());
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                };
                match open.query_drop(format!("INSERT INTO marks VALUES ({id})")).await {
                    Ok(()) => {
                        let now = Instant::now();
                        written.acknowledged.push(id);
                        if let Some(last) = last {
                            written.outage = written.outage.max(now - last);
                        }
                        written.slowest = written.slowest.max(now - began);
                        last = Some(now);
                    }
                    Err(error) => {
                        written.errors.push(error.to_string());
                        if !matches!(error, mysql_async::Error::Server(_)) {
                            conn = None;
                        }
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            written
        });
        Writer { over, task }
    }

    async fn stop(self) -> Written {
        self.over.store(true, Ordering::SeqCst);
        tokio::time::timeout(Duration::from_secs(20), self.task).await.expect("a writer hangs").unwrap()
    }
}

pub(crate) async fn marked(
    configure: impl FnOnce(integration::proxy::ProxyBuilder) -> integration::proxy::ProxyBuilder,
) -> (Cluster, Arc<Proxy>) {
    let (cluster, proxy) = own(configure).await;
    cluster.server("db1").run(&["CREATE TABLE shop.marks (id INT UNSIGNED NOT NULL PRIMARY KEY)"]).await.unwrap();
    cluster.settle().await.unwrap();
    (cluster, Arc::new(proxy))
}

/// The marks a server has.
pub(crate) async fn marks(cluster: &Cluster, server: &str) -> Vec<u32> {
    let table = cluster.server(server).query("SELECT id FROM shop.marks ORDER BY id").await.unwrap();
    table.rows.iter().map(|row| row[0].parse().unwrap()).collect()
}

/// Every running server has every acknowledged mark, but for at most `lost` of them, and one server is writable.
async fn all_is_there(cluster: &Cluster, master: &str, written: &[&Written], lost: usize) {
    cluster.settle_behind(master).await.unwrap();
    let mut writable = Vec::new();
    for server in cluster.servers().iter().filter(|server| server.condition() == "running") {
        let have = marks(cluster, server.name()).await;
        let missing: Vec<u32> =
            written.iter().flat_map(|w| &w.acknowledged).filter(|id| have.binary_search(id).is_err()).copied().collect();
        assert!(missing.len() <= lost, "{} lacks {missing:?}", server.name());
        if server.value("SELECT @@GLOBAL.read_only").await.unwrap() == "0" {
            writable.push(server.name().to_owned());
        }
    }
    assert_eq!(writable, [master], "who takes writes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_killed_master_is_replaced_within_a_second() {
    let (cluster, proxy) = marked(|proxy| proxy).await;
    let writers: Vec<Writer> = (1..=4).map(|n| Writer::start(&proxy, n)).collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.server("db1").kill().unwrap();
    becomes(&proxy, "db2", "role", "master", Duration::from_secs(5)).await;
    tokio::time::sleep(Duration::from_millis(1000)).await;
    let mut all = Vec::new();
    for writer in writers {
        all.push(writer.stop().await);
    }
    let events = events(&proxy).await;
    for written in &all {
        eprintln!("outage {:?}, slowest {:?}, errors {:?}", written.outage, written.slowest, written.errors);
        assert!(written.outage < Duration::from_secs(2), "{events}");
        assert!(written.errors.len() <= 1, "{:?}\n{events}", written.errors);
    }
    eprintln!("{events}");
    all_is_there(&cluster, "db2", &all.iter().collect::<Vec<_>>(), 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_frozen_master_is_replaced_and_comes_back_as_standby() {
    let (cluster, proxy) = marked(|proxy| proxy).await;
    let writers: Vec<Writer> = (1..=2).map(|n| Writer::start(&proxy, n)).collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.server("db1").freeze().unwrap();
    becomes(&proxy, "db2", "role", "master", Duration::from_secs(6)).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    cluster.server("db1").thaw().unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    let mut all = Vec::new();
    for writer in writers {
        all.push(writer.stop().await);
    }
    let events = events(&proxy).await;
    for written in &all {
        eprintln!("outage {:?}, slowest {:?}, errors {:?}", written.outage, written.slowest, written.errors);
        assert!(written.outage < Duration::from_secs(4), "{events}");
        assert!(written.errors.len() <= 1, "{:?}\n{events}", written.errors);
    }
    // What was committed in the moment of the freeze and never sent is an error at its client, and a reason to be out.
    let reads = until_true("db1 is read-only and judged", Duration::from_secs(10), async || {
        Ok(["online", "quarantined"].contains(&of(&proxy, "db1", "state").await?.as_str())
            && cluster.server("db1").value("SELECT @@GLOBAL.read_only").await? == "1")
    });
    reads.await.unwrap();
    if of(&proxy, "db1", "state").await.unwrap() == "online" {
        all_is_there(&cluster, "db2", &all.iter().collect::<Vec<_>>(), 0).await;
    }
}

/// Harm: clients that logged in at a proxy that had just been started waited for a frozen master until the login's limit, for long
/// after another had taken over.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_login_right_after_the_start_waits_for_no_frozen_server() {
    let (cluster, proxy) = marked(|proxy| proxy).await;
    cluster.server("db1").freeze().unwrap();
    proxy.kill();
    proxy.start_again().await.unwrap();
    let began = Instant::now();
    let mut logins = Vec::new();
    for _ in 0..4 {
        let proxy = Arc::clone(&proxy);
        logins.push(tokio::spawn(async move {
            let mut conn = proxy.connect("shop").await?;
            conn.query_first::<u32, _>("SELECT COUNT(*) FROM marks").await?;
            anyhow::Ok(())
        }));
    }
    for login in logins {
        login.await.unwrap().unwrap();
    }
    // Less than the three seconds that one server may take within a login.
    assert!(began.elapsed() < Duration::from_millis(2_900), "{:?}\n{}", began.elapsed(), events(&proxy).await);
    becomes(&proxy, "db2", "role", "master", Duration::from_secs(6)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_master_stopped_cleanly_is_replaced_and_rejoins() {
    let (cluster, proxy) = marked(|proxy| proxy).await;
    let writer = Writer::start(&proxy, 1);
    tokio::time::sleep(Duration::from_millis(300)).await;
    cluster.server("db1").stop().unwrap();
    becomes(&proxy, "db2", "role", "master", Duration::from_secs(5)).await;
    // It comes back as it was configured: writable. Nobody may write to it, and it has nothing of its own.
    cluster.server("db1").start_again().unwrap();
    becomes(&proxy, "db1", "state", "online", Duration::from_secs(15)).await;
    let back = until_true("db1 is back", Duration::from_secs(10), async || {
        Ok(proxy.metric("sluice_failovers_total", &["kind=\"rejoin\"", "result=\"ok\""]).await? >= 1.0)
    });
    back.await.unwrap();
    let written = writer.stop().await;
    assert!(written.outage < Duration::from_secs(3), "{:?}\n{}", written.outage, events(&proxy).await);
    assert_eq!(of(&proxy, "db1", "role").await.unwrap(), "standby");
    all_is_there(&cluster, "db2", &[&written], 0).await;
    // The circle is closed: back again by command, with nobody noticing.
    let circle = until_true("db2 receives from db1 again", Duration::from_secs(10), async || {
        cluster.replicates(cluster.server("db2")).await
    });
    circle.await.unwrap();
    let writer = Writer::start(&proxy, 2);
    tokio::time::sleep(Duration::from_millis(200)).await;
    proxy.admin("SWITCHOVER TO db1").await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let again = writer.stop().await;
    assert_eq!(again.errors, Vec::<String>::new());
    all_is_there(&cluster, "db1", &[&written, &again], 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_a_dead_master_did_not_send_is_named_and_stays_out() {
    let (cluster, proxy) = marked(|proxy| proxy).await;
    // The heartbeat's row is one of the things that both masters would insert, had the first not reached the others.
    for name in ["db2", "db3", "db4"] {
        let there = until_true("the heartbeat's row is there", Duration::from_secs(10), async || {
            // Beside it there may be the row that is written when the first heartbeat was slow: where the servers share a busy machine.
            Ok(cluster.server(name).value("SELECT COUNT(*) FROM sluice.heartbeat WHERE run <> 0").await? == "1")
        });
        there.await.unwrap();
    }
    // Nobody fetches any more: what is written now is on db1 alone.
    for name in ["db2", "db3", "db4"] {
        cluster
            .server(name)
            .run(&[match flavour() {
                Flavour::MariaDb => "STOP SLAVE IO_THREAD",
                Flavour::MySql => "STOP REPLICA IO_THREAD",
            }])
            .await
            .unwrap();
    }
    let mut conn = proxy.connect("shop").await.unwrap();
    conn.query_drop("INSERT INTO marks VALUES (1), (2)").await.unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await; // a heartbeat has seen it
    cluster.server("db1").kill().unwrap();
    becomes(&proxy, "db2", "role", "master", Duration::from_secs(5)).await;
    let told = events(&proxy).await;
    assert!(told.contains("; lost with db1: "), "{told}");
    conn.query_drop("INSERT INTO marks VALUES (3)").await.unwrap();
    cluster.server("db1").start_again().unwrap();
    becomes(&proxy, "db1", "state", "quarantined", Duration::from_secs(15)).await;
    let reason = of(&proxy, "db1", "reason").await.unwrap();
    assert!(reason.contains("REJOIN SERVER db1") && reason.contains("binlog"), "{reason}");
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(cluster.server("db1").value("SELECT @@GLOBAL.read_only").await.unwrap(), "1");
    assert_eq!(marks(&cluster, "db2").await, [3], "what was late did not flow into the new master: {}", events(&proxy).await);
    if flavour() == Flavour::MySql {
        // As skip_replica_start leaves it.
        cluster.server("db1").run(&["STOP REPLICA"]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    let answer = proxy.admin("REJOIN SERVER db1").await;
    match flavour() {
        Flavour::MySql => {
            answer.unwrap();
            becomes(&proxy, "db1", "state", "online", Duration::from_secs(10)).await;
        }
        Flavour::MariaDb => assert!(format!("{:#}", answer.unwrap_err()).contains("RESET MASTER")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_switchover_shows_no_client_an_error() {
    let (cluster, proxy) = marked(|proxy| proxy).await;
    let plan = proxy.admin("SWITCHOVER TO db2 DRY RUN").await.unwrap();
    let steps: Vec<&str> = plan.rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(steps, ["hold", "drain", "fence", "apply", "promote", "release", "repoint", "repoint"]);
    for (command, refusal) in [
        ("SWITCHOVER TO db1", "db1 is the master already"),
        ("SWITCHOVER TO db3", "db3 is a replica"),
        ("FAILOVER TO db2", "the master db1 is alive"),
        ("REJOIN SERVER db1", "db1 is the master"),
        ("REJOIN SERVER db2", "db2 is not quarantined"),
        ("OFFLINE SERVER db1", "db1 is the master"),
    ] {
        let refused = format!("{:#}", proxy.admin(command).await.unwrap_err());
        assert!(refused.contains(refusal), "{command}: {refused}");
    }
    let writers: Vec<Writer> = (1..=4).map(|n| Writer::start(&proxy, n)).collect();
    let mut transaction = proxy.connect("shop").await.unwrap();
    let mut stalls = Vec::new();
    for to in ["db2", "db1", "db2", "db1"] {
        // Whoever is in a transaction may end it; it is the others who wait.
        transaction.query_drop("BEGIN").await.unwrap();
        transaction.query_drop("UPDATE items SET stock = stock + 1 WHERE id = 5").await.unwrap();
        let mut ends = async || {
            tokio::time::sleep(Duration::from_millis(60)).await;
            transaction.query_drop("UPDATE items SET stock = stock - 1 WHERE id = 5").await.unwrap();
            transaction.query_drop("COMMIT").await.unwrap();
        };
        let command = format!("SWITCHOVER TO {to}");
        let began = Instant::now();
        let (done, ()) = tokio::join!(proxy.admin(&command), ends());
        done.unwrap_or_else(|error| panic!("{error:#}"));
        stalls.push(began.elapsed());
        becomes(&proxy, to, "role", "master", Duration::from_secs(1)).await;
        let other = if to == "db1" { "db2" } else { "db1" };
        becomes(&proxy, other, "state", "online", Duration::from_secs(10)).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let mut all = Vec::new();
    for writer in writers {
        all.push(writer.stop().await);
    }
    let events = events(&proxy).await;
    for written in &all {
        assert_eq!(written.errors, Vec::<String>::new(), "{events}");
    }
    eprintln!("switchovers {stalls:?}, stalls {:?}", all.iter().map(|w| w.slowest).collect::<Vec<_>>());
    all_is_there(&cluster, "db1", &all.iter().collect::<Vec<_>>(), 0).await;
    assert_eq!(proxy.metric("sluice_failovers_total", &["kind=\"switchover\"", "result=\"ok\""]).await.unwrap(), 4.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_proxy_killed_in_the_middle_leaves_what_the_next_one_understands() {
    let (cluster, proxy) = marked(|proxy| proxy).await;
    let mut conn = proxy.connect("shop").await.unwrap();
    conn.query_drop("INSERT INTO marks VALUES (1)").await.unwrap();
    drop(conn);
    // Between the death of the master and everything else.
    cluster.kill_with_nothing_to_lose("db1").await.unwrap();
    proxy.kill();
    let again = Proxy::before(&cluster).start_unready().await.unwrap();
    let began = Instant::now();
    let mut conn = again.connect("shop").await.unwrap();
    conn.query_drop("INSERT INTO marks VALUES (2)").await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}\n{}", began.elapsed(), events(&again).await);
    becomes(&again, "db2", "role", "master", Duration::from_secs(1)).await;
    let followed = until_true("the replicas follow db2", Duration::from_secs(10), async || {
        let told = events(&again).await;
        Ok(["db3", "db4"].iter().all(|name| told.contains(&format!("| repoint | {name} |"))))
    });
    followed.await.unwrap_or_else(|error| panic!("{error:#}"));
    // The old one returns writable, and yet another proxy starts: there is one master, the one that is followed.
    again.kill();
    cluster.server("db1").start_again().unwrap();
    let third = Proxy::before(&cluster).start().await.unwrap();
    becomes(&third, "db2", "role", "master", Duration::from_secs(5)).await;
    becomes(&third, "db1", "state", "online", Duration::from_secs(15)).await;
    let fenced = until_true("db1 is read-only", Duration::from_secs(5), async || {
        Ok(cluster.server("db1").value("SELECT @@GLOBAL.read_only").await? == "1")
    });
    fenced.await.unwrap();
    let mut conn = third.connect("shop").await.unwrap();
    conn.query_drop("INSERT INTO marks VALUES (3)").await.unwrap();
    cluster.settle_behind("db2").await.unwrap();
    assert_eq!(marks(&cluster, "db1").await, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn in_manual_mode_an_operator_decides() {
    let (cluster, proxy) = marked(|proxy| proxy.set("failover.mode", "\"manual\"")).await;
    cluster.server("db1").kill().unwrap();
    let advised = until_true("it is told", Duration::from_secs(5), async || Ok(events(&proxy).await.contains("failover_advised")));
    advised.await.unwrap();
    let waiting = {
        let mut conn = proxy.connect("shop").await.unwrap();
        tokio::spawn(async move { conn.query_drop("INSERT INTO marks VALUES (1)").await })
    };
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(cluster.server("db2").value("SELECT @@GLOBAL.read_only").await.unwrap(), "1", "nobody is touched");
    assert_eq!(proxy.metric("sluice_held_statements", &[]).await.unwrap(), 1.0);
    proxy.admin("FAILOVER TO db2").await.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(of(&proxy, "db2", "role").await.unwrap(), "master");
}
