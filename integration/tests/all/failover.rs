//! The master dies, freezes, stops, hands over, comes back: who takes over, how long writes wait, what clients see, what is lost. Every test has a
//! cluster of its own, and ends by looking at every server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use integration::cluster::Cluster;
use integration::proxy::Proxy;
use integration::wait::until_true;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::world::own;

/// A cell of SHOW SERVERS.
async fn of(proxy: &Proxy, server: &str, column: &str) -> anyhow::Result<String> {
    let table = proxy.admin("SHOW SERVERS").await?;
    table.cell("name", server, column).map(str::to_owned).ok_or_else(|| anyhow::anyhow!("no {column} of {server} in {table:?}"))
}

async fn becomes(proxy: &Proxy, server: &str, column: &str, value: &str, limit: Duration) {
    let what = format!("{column} of {server} is {value}");
    let right = until_true(&what, limit, async || {
        let is = of(proxy, server, column).await?;
        if is == value { Ok(true) } else { Err(anyhow::anyhow!("it is {is:?}; {}", events(proxy).await)) }
    });
    right.await.unwrap();
}

/// What SHOW EVENTS has of the last seconds.
async fn events(proxy: &Proxy) -> String {
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

async fn marked(
    configure: impl FnOnce(integration::proxy::ProxyBuilder) -> integration::proxy::ProxyBuilder,
) -> (Cluster, Arc<Proxy>) {
    let (cluster, proxy) = own(configure).await;
    cluster.server("db1").run(&["CREATE TABLE shop.marks (id INT UNSIGNED NOT NULL PRIMARY KEY)"]).await.unwrap();
    cluster.settle().await.unwrap();
    (cluster, Arc::new(proxy))
}

/// The marks a server has.
async fn marks(cluster: &Cluster, server: &str) -> Vec<u32> {
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

#[tokio::test]
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
