//! Many different statements and many users: nothing stalls, memory and metrics stay bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use integration::accounts::Account;
use integration::proxy::Proxy;
use mysql_async::prelude::Queryable;

use crate::world::own;

/// More than `SHOW STATEMENTS` keeps (10,000).
const DIGESTS: usize = 11_000;
const USERS: usize = 1_000;
/// No statement of the client that only watches may take longer, on a debug build with all the others at work.
const STALL: Duration = Duration::from_secs(4);
/// What the process may grow by. Statements take about 2 KiB each in the statistics, and as much again for their classification.
const GROWTH_KIB_MAX: u64 = 160 << 10;
/// `/metrics`, whoever comes.
const METRICS_BYTES_MAX: usize = 128 << 10;

fn resident_kib(proxy: &Proxy) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

async fn scrape(proxy: &Proxy) -> (usize, usize, Duration) {
    let start = Instant::now();
    let (status, body) = proxy.get("/metrics").await.unwrap();
    assert_eq!(status, 200);
    (body.len(), body.lines().filter(|line| !line.starts_with('#')).count(), start.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_digests_and_a_thousand_users() {
    let (cluster, proxy) = own(|config| config).await;
    let proxy = Arc::new(proxy);
    let mut statements = vec!["SET SESSION sql_log_bin = 1".to_owned()];
    for n in 0..USERS {
        statements.push(format!("CREATE USER many{n}@'%' IDENTIFIED BY 'pw{n}'"));
        statements.push(format!("GRANT SELECT ON shop.* TO many{n}@'%'"));
    }
    let all: Vec<&str> = statements.iter().map(String::as_str).collect();
    cluster.server("db1").run(&all).await.unwrap();
    cluster.settle().await.unwrap();

    let mut warm = proxy.connect("shop").await.unwrap();
    warm.query_drop("SELECT id FROM items").await.unwrap();
    let (before, before_scrape) = (resident_kib(&proxy), scrape(&proxy).await);

    // Somebody who does next to nothing, all the time.
    let stop = Arc::new(AtomicBool::new(false));
    let (until, through) = (stop.clone(), proxy.clone());
    let watcher = tokio::spawn(async move {
        let mut conn = through.connect("shop").await?;
        let mut slowest = Duration::ZERO;
        while !until.load(Ordering::Relaxed) {
            let start = Instant::now();
            conn.query_drop("SELECT id FROM items WHERE id = 1").await?;
            slowest = slowest.max(start.elapsed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        anyhow::Ok(slowest)
    });

    let mut tasks = Vec::new();
    for part in 0..8 {
        let proxy = proxy.clone();
        tasks.push(tokio::spawn(async move {
            let mut conn = proxy.connect("shop").await?;
            for n in (part..DIGESTS).step_by(8) {
                conn.query_drop(format!("SELECT id AS c{n} FROM items WHERE id = 1")).await?;
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks.drain(..) {
        task.await.unwrap().unwrap();
    }
    for part in 0..8 {
        let proxy = proxy.clone();
        tasks.push(tokio::spawn(async move {
            for n in (part..USERS).step_by(8) {
                one(&proxy, n).await.with_context(|| format!("user {n}"))?;
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let slowest = watcher.await.unwrap().unwrap();
    assert!(slowest < STALL, "a statement took {slowest:?}");

    let (bytes, series, took) = scrape(&proxy).await;
    assert!(bytes < METRICS_BYTES_MAX && took < Duration::from_secs(1), "{bytes} bytes in {took:?}");
    // A class or a bucket that was not seen before may be new; no user, digest or client is a series.
    assert!(series < before_scrape.1 + 200, "{series} series, {} before", before_scrape.1);
    let grown = resident_kib(&proxy).saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "the process has grown by {grown} KiB");

    let start = Instant::now();
    let shown = proxy.admin("SHOW STATEMENTS").await.unwrap();
    assert!((9_000..=10_000).contains(&shown.rows.len()), "{} statements are shown", shown.rows.len());
    let top = proxy.admin("SELECT digest, count FROM statements ORDER BY count DESC LIMIT 3").await.unwrap();
    assert_eq!(top.rows.len(), 3);
    let pools = proxy.admin("SHOW POOLS").await.unwrap();
    assert!(!pools.rows.is_empty() && start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let (status, page) = proxy.get("/status.json").await.unwrap();
    assert!(status == 200 && page.len() < 4 << 20, "the status page is told {} bytes", page.len());
    println!(
        "slowest {slowest:?}, grown by {grown} KiB, {series} series in {bytes} bytes, scraped in {took:?}, pools {}, page {} bytes, admin {:?}",
        pools.rows.len(),
        page.len(),
        start.elapsed()
    );
}

async fn one(proxy: &Proxy, n: usize) -> Result<()> {
    let (name, password) = (format!("many{n}"), format!("pw{n}"));
    let account = Account { name: Box::leak(name.into_boxed_str()), password: Box::leak(password.into_boxed_str()) };
    let mut conn = proxy.connect_with(proxy.options(account).db_name(Some("shop"))).await?;
    conn.query_drop("SELECT id FROM items WHERE id = 2").await?;
    conn.disconnect().await?;
    Ok(())
}
