//! The work: sysbench's standard loads, large results, logins, idle clients.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::task::JoinSet;

use crate::accounts::APP;
use crate::bench::paths::{Path, cpu, memory};
use crate::driver;
use crate::server::Server;

/// Tables and rows that sysbench works on.
pub const TABLES: u32 = 4;
/// Rows of each.
pub const TABLE_ROWS: u32 = 20_000;
/// Clients that fetch large results, or log in, at once.
const FETCHERS: u32 = 4;
const LOGGERS: u32 = 8;
/// Clients there are before idle ones are counted, so that what a proxy makes once is not taken for theirs.
const WARM: u32 = 100;
/// Clients that log in at once while idle ones are made.
const IDLE_AT_ONCE: usize = 64;

/// One of sysbench's loads.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// Its name in the table and for `--only`.
    pub name: &'static str,
    script: &'static str,
    prepared: bool,
    more: &'static [&'static str],
    /// Part of `--quick`.
    pub in_quick: bool,
}

/// All of them.
pub const WORKLOADS: [Workload; 6] = [
    Workload { name: "point-text", script: "oltp_point_select", prepared: false, more: &["--skip-trx=on"], in_quick: true },
    Workload { name: "point-prepared", script: "oltp_point_select", prepared: true, more: &["--skip-trx=on"], in_quick: true },
    Workload { name: "ro-text", script: "oltp_read_only", prepared: false, more: &[], in_quick: false },
    Workload { name: "ro-prepared", script: "oltp_read_only", prepared: true, more: &[], in_quick: false },
    Workload { name: "rw-text", script: "oltp_read_write", prepared: false, more: &[], in_quick: true },
    Workload { name: "rw-prepared", script: "oltp_read_write", prepared: true, more: &[], in_quick: false },
];

/// What one run of one path brought.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// Statements, results in bytes, or logins.
    pub count: u64,
    /// How long it ran.
    pub time: Duration,
    /// CPU time of the proxy in user mode.
    pub user: Duration,
    /// CPU time of the proxy in system mode.
    pub system: Duration,
    /// Median latency of a transaction, milliseconds.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
}

/// Creates sysbench's tables.
pub async fn prepare(server: &Server) -> Result<()> {
    sysbench("oltp_read_write", server.port(), &["--db-ps-mode=disable"], "prepare").await.map(|_| ())
}

/// One run of a sysbench load.
pub async fn run(path: &Path, workload: Workload, connections: u32, time: Duration) -> Result<Sample> {
    let options = [
        format!("--threads={connections}"),
        format!("--time={}", time.as_secs()),
        format!("--db-ps-mode={}", if workload.prepared { "auto" } else { "disable" }),
        "--histogram=on".to_owned(),
        "--percentile=99".to_owned(),
    ];
    let options: Vec<&str> = options.iter().map(String::as_str).chain(workload.more.iter().copied()).collect();
    let before = usage(path)?;
    let started = Instant::now();
    let out = sysbench(workload.script, path.port, &options, "run").await.with_context(|| path.name)?;
    let elapsed = started.elapsed();
    let (user, system) = since(path, before)?;
    parse(&out, elapsed, user, system).with_context(|| format!("sysbench said:\n{out}"))
}

fn parse(out: &str, elapsed: Duration, user: Duration, system: Duration) -> Result<Sample> {
    let number = |line: &str| line.split(|c: char| !(c.is_ascii_digit() || c == '.')).find(|w| !w.is_empty())?.parse::<f64>().ok();
    let find = |name: &str| out.lines().find_map(|line| line.trim().strip_prefix(name).and_then(number));
    let errors = find("ignored errors:").context("no count of errors")?;
    let reconnects = find("reconnects:").context("no count of reconnects")?;
    // Deadlocks of the read-write load are ignored errors, and as frequent on every path; anything more is a failure.
    let transactions = find("transactions:").context("no count of transactions")?;
    if reconnects > 0.0 || errors > transactions / 10.0 {
        bail!("{errors} errors and {reconnects} reconnects in {transactions} transactions");
    }
    let time =
        out.lines().find_map(|line| number(line.trim().strip_prefix("total time:")?)).map_or(elapsed, Duration::from_secs_f64);
    Ok(Sample {
        count: find("queries:").context("no count of queries")? as u64,
        time,
        user,
        system,
        p50_ms: median(out).context("no histogram")?,
        p99_ms: find("99th percentile:").context("no percentile")?,
    })
}

/// From sysbench's histogram: lines of `value |bar count`.
fn median(out: &str) -> Option<f64> {
    let rows: Vec<(f64, u64)> = out
        .lines()
        .filter_map(|line| {
            let (value, rest) = line.split_once('|')?;
            Some((value.trim().parse().ok()?, rest.trim_start_matches(['*', ' ']).trim().parse().ok()?))
        })
        .collect();
    let total: u64 = rows.iter().map(|(_, count)| count).sum();
    let mut seen = 0;
    rows.iter()
        .find(|(_, count)| {
            seen += count;
            seen * 2 >= total
        })
        .map(|(value, _)| *value)
}

async fn sysbench(script: &str, port: u16, options: &[&str], command: &str) -> Result<String> {
    let mut process = tokio::process::Command::new("sysbench");
    process
        .args([script, "--db-driver=mysql", "--mysql-host=127.0.0.1", "--mysql-db=sbtest", "--mysql-ssl=off"])
        .args([format!("--mysql-port={port}"), format!("--mysql-user={}", APP.name), format!("--mysql-password={}", APP.password)])
        .args([format!("--tables={TABLES}"), format!("--table-size={TABLE_ROWS}")])
        .args(options)
        .arg(command);
    let output =
        process.kill_on_drop(true).stdin(Stdio::null()).output().await.context("sysbench does not start: tools/setup bench")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("sysbench {script} {command} failed:\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}

/// What a client of ours does again and again.
#[derive(Debug, Clone, Copy)]
enum Turn {
    /// Fetches a result with so many bytes of values.
    Fetch { bytes: u64 },
    /// Logs in, runs one statement, leaves.
    LogIn,
}

/// Results of several megabytes, fetched by a few clients; counted in bytes of their values.
pub async fn large(path: &Path, time: Duration) -> Result<Sample> {
    let mut conn = connect(path).await?;
    let sum = "SELECT CAST(SUM(LENGTH(id) + LENGTH(k) + LENGTH(c) + LENGTH(pad)) AS CHAR) FROM sbtest1";
    let bytes = driver::cell(&mut conn, sum).await?.context("an empty table")?.parse().context("no number of bytes")?;
    repeat(path, FETCHERS, time, Turn::Fetch { bytes }).await
}

/// Clients that log in, run one statement and leave; counted in logins.
pub async fn logins(path: &Path, time: Duration) -> Result<Sample> {
    repeat(path, LOGGERS, time, Turn::LogIn).await
}

async fn repeat(path: &Path, clients: u32, time: Duration, turn: Turn) -> Result<Sample> {
    let (over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let before = usage(path)?;
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let (over, count, port) = (over.clone(), count.clone(), path.port);
        tasks.spawn(async move {
            let mut kept = None;
            while !over.load(Ordering::Relaxed) {
                match turn {
                    Turn::Fetch { bytes } => {
                        let conn = match &mut kept {
                            Some(conn) => conn,
                            none => none.insert(dial(port).await?),
                        };
                        conn.query_drop("SELECT id, k, c, pad FROM sbtest1").await?;
                        count.fetch_add(bytes, Ordering::Relaxed);
                    }
                    Turn::LogIn => {
                        let mut conn = dial(port).await?;
                        conn.query_drop("SELECT 1").await?;
                        conn.disconnect().await?;
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            anyhow::Ok(())
        });
    }
    tokio::time::sleep(time).await;
    over.store(true, Ordering::Relaxed);
    while let Some(done) = tasks.join_next().await {
        done?.with_context(|| path.name)?;
    }
    let time = started.elapsed();
    let (user, system) = since(path, before)?;
    Ok(Sample { count: count.load(Ordering::Relaxed), time, user, system, ..Sample::default() })
}

/// Memory of the proxy for each idle client that has run a statement, bytes.
pub async fn idle(path: &Path, clients: u32) -> Result<f64> {
    let pid = path.pid.context("the server itself is not measured")?;
    let mut held = Vec::new();
    hold(path, &mut held, WARM).await?;
    let before = memory(pid)?;
    hold(path, &mut held, clients).await?;
    // What logging in took is given back by then, if it ever is.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = memory(pid)?;
    let more = held.len() as u32 - WARM;
    drop(held);
    Ok((after as f64 - before as f64) / f64::from(more))
}

async fn hold(path: &Path, held: &mut Vec<Conn>, clients: u32) -> Result<()> {
    let mut tasks = JoinSet::new();
    let mut left = clients as usize - held.len();
    while left > 0 || !tasks.is_empty() {
        while left > 0 && tasks.len() < IDLE_AT_ONCE {
            let port = path.port;
            left -= 1;
            tasks.spawn(async move {
                let mut conn = dial(port).await?;
                conn.query_drop("SELECT 1").await?;
                anyhow::Ok(conn)
            });
        }
        if let Some(done) = tasks.join_next().await {
            held.push(done?.with_context(|| format!("{}: client {} of {clients}", path.name, held.len() + 1))?);
        }
    }
    Ok(())
}

async fn connect(path: &Path) -> Result<Conn> {
    dial(path.port).await.context(path.name)
}

async fn dial(port: u16) -> Result<Conn> {
    // The driver asks for some variables after each login unless it is told them.
    let options = driver::options(port, APP).db_name(Some("sbtest")).max_allowed_packet(Some(64 << 20)).wait_timeout(Some(28_800));
    driver::connect(options).await
}

fn usage(path: &Path) -> Result<(Duration, Duration)> {
    path.pid.map_or(Ok((Duration::ZERO, Duration::ZERO)), cpu)
}

fn since(path: &Path, before: (Duration, Duration)) -> Result<(Duration, Duration)> {
    let now = usage(path)?;
    Ok((now.0.saturating_sub(before.0), now.1.saturating_sub(before.1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysbench_is_read() {
        let out = "Latency histogram (values are in milliseconds)\n       value  ------------- distribution ------------- count\n       \
                   0.046 |**                                       10\n       0.055 |******************** 60\n       0.060 |*** 30\n \n\
                   SQL statistics:\n    transactions:                        2000   (999.00 per sec.)\n    queries:                             \
                   40000  (19980.00 per sec.)\n    ignored errors:                      3      (1.50 per sec.)\n    reconnects:                          \
                   0      (0.00 per sec.)\n    total time:                          2.0019s\n         99th percentile:                        1.23\n";
        let sample = parse(out, Duration::ZERO, Duration::ZERO, Duration::ZERO).unwrap();
        assert_eq!((sample.count, sample.p50_ms, sample.p99_ms), (40_000, 0.055, 1.23));
        assert!((sample.time.as_secs_f64() - 2.0019).abs() < 1e-6);
        let lost = out.replace("reconnects:                          0", "reconnects:                          1");
        assert!(parse(&lost, Duration::ZERO, Duration::ZERO, Duration::ZERO).is_err());
    }
}
