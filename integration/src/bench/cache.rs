//! What a hit costs, beside a bare echo of the same bytes over sockets of the same kind, and beside the server; what the cache costs where it
//! never hits; what memory it takes. In one run, in turns, by one client that speaks bytes.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::paths::{cpu, memory};
use crate::accounts::EMPTY;
use crate::ports::free_port;
use crate::process::Process;
use crate::proxy::{Proxy, ProxyBuilder};
use crate::raw::RawClient;
use crate::server::Server;
use crate::wait::until_true;

/// The reads: one row, and a hundred.
const READS: [(&str, &str); 2] = [
    ("1 row", "SELECT c FROM sbtest.sbtest1 WHERE id = 1000"),
    ("100 rows", "SELECT id, k, c FROM sbtest.sbtest1 WHERE id BETWEEN 1001 AND 1100"),
];
/// Clients of the runs that are about rate and CPU.
const MANY: usize = 16;
/// Slices of each round of the run that never hits.
const SLICES: u32 = 4;
/// Statements of one slice at most.
const NEW_EACH: u64 = 100_000_000;
/// `cache.max_memory` of the run that fills it, bytes.
const MEMORY: u64 = 64 << 20;
/// Statements of that run: several times what fits.
const FILL: u64 = 60_000;

/// One run against one port.
struct Run {
    count: u64,
    time: Duration,
    /// Of the process behind the port.
    cpu: Duration,
    /// Microseconds, in order.
    took: Vec<f64>,
}

impl Run {
    fn rate(&self) -> f64 {
        self.count as f64 / self.time.as_secs_f64()
    }

    fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.count.max(1) as f64
    }

    fn quantile(&self, q: f64) -> f64 {
        let at = (self.took.len() as f64 * q) as usize;
        self.took.get(at.min(self.took.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }
}

/// Whom a run is against.
struct Target {
    name: &'static str,
    port: u16,
    pid: u32,
    /// It speaks no protocol: what is sent comes back as the reply.
    bare: bool,
}

fn request(sql: &str) -> Vec<u8> {
    crate::fake_server::packet(0, &[b"\x03", sql.as_bytes()].concat())
}

async fn client(target: &Target) -> Result<RawClient> {
    if target.bare { RawClient::dial(target.port).await } else { RawClient::login(target.port).await }
}

/// Clients that send what `statement` says for each number, and read `reply` bytes, for so long.
async fn drive(
    target: &Target,
    clients: usize,
    time: Duration,
    reply: usize,
    statement: impl Fn(u64) -> Vec<u8> + Send + Clone + 'static,
) -> Result<Run> {
    let mut ready = Vec::new();
    for at in 0..clients {
        let mut client = client(target).await?;
        let mut buffer = vec![0; reply];
        client.exchange(&statement(at as u64), &mut buffer).await?;
        ready.push((client, buffer));
    }
    let busy = |(user, system): (Duration, Duration)| user + system;
    let (before, started) = (busy(cpu(target.pid)?), Instant::now());
    let mut tasks = JoinSet::new();
    for (at, (mut client, mut buffer)) in ready.into_iter().enumerate() {
        let statement = statement.clone();
        tasks.spawn(async move {
            let mut took = Vec::new();
            let mut n = at as u64;
            while started.elapsed() < time {
                n += clients as u64;
                let bytes = statement(n);
                let begun = Instant::now();
                client.exchange(&bytes, &mut buffer).await?;
                took.push(begun.elapsed().as_secs_f64() * 1e6);
            }
            anyhow::Ok(took)
        });
    }
    let mut took = Vec::new();
    while let Some(done) = tasks.join_next().await {
        took.extend(done?.with_context(|| target.name)?);
    }
    let (time, cpu) = (started.elapsed(), busy(cpu(target.pid)?).saturating_sub(before));
    took.sort_by(f64::total_cmp);
    Ok(Run { count: took.len() as u64, time, cpu, took })
}

/// A process that sends `reply` bytes for every `request` bytes: `bench --echo PORT REQUEST REPLY THREADS`.
///
/// # Errors
/// Wrong arguments, or the port is taken.
pub fn echo(args: &[String]) -> Result<()> {
    let number = |at: usize| args.get(at).and_then(|text| text.parse::<usize>().ok()).context("--echo PORT REQUEST REPLY THREADS");
    let (port, request, reply, threads) = (number(0)?, number(1)?, number(2)?, number(3)?);
    tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", u16::try_from(port)?)).await?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                let (mut asked, answer) = (vec![0; request], vec![b'x'; reply]);
                while stream.read_exact(&mut asked).await.is_ok() && stream.write_all(&answer).await.is_ok() {}
            });
        }
    })
}

async fn echoing(request: usize, reply: usize, threads: u32) -> Result<(Process, Target)> {
    let port = free_port()?;
    let log = crate::home::new_dir("echo")?.join("log");
    let args = [usize::from(port), request, reply, threads as usize].map(|n| n.to_string());
    let args: Vec<String> = ["--echo".to_owned()].into_iter().chain(args).collect();
    let process = Process::start(&std::env::current_exe()?, &args, &[], &log)?;
    let target = Target { name: "bare echo", port, pid: process.id(), bare: true };
    until_true("the echo listens", Duration::from_secs(10), async || Ok(RawClient::dial(port).await.is_ok())).await?;
    Ok((process, target))
}

fn proxy(server: &Server, threads: u32) -> ProxyBuilder {
    Proxy::before_address("db1", &server.address())
        .server("db1", "max_connections", "300")
        .server("db1", "tls", "{ mode = \"disabled\" }")
        .set("proxy.worker_threads", &threads.to_string())
}

async fn caching(server: &Server, threads: u32, memory: u64) -> Result<Proxy> {
    let builder = proxy(server, threads).set("cache.enabled", "true").set("cache.default", "\"all\"").set("cache.ttl", "\"1h\"");
    // One server without replicas, and nobody writes past the proxy.
    let proxy =
        builder.set("cache.invalidate", "[\"proxy\"]").set("cache.max_memory", &format!("\"{}MiB\"", memory >> 20)).start().await?;
    until_true("the cache is on", Duration::from_secs(30), async || {
        Ok(proxy.admin("SHOW CACHE").await?.column("state").first() == Some(&"on"))
    })
    .await?;
    Ok(proxy)
}

/// Runs all of it, and says what came of it.
///
/// # Errors
/// A proxy, an echo or the server cannot be used.
pub async fn run(server: &Server, threads: u32, rounds: u32, time: Duration, progress: &dyn Fn(&str)) -> Result<String> {
    let grant = format!("GRANT SELECT ON sbtest.* TO '{}'@'%'", EMPTY.name);
    server.run(&[&grant]).await?;
    let mut out = String::from("the cache");
    let with = caching(server, threads, 256 << 20).await?;
    let direct = Target { name: "server", port: server.port(), pid: server.pid().context("the server has ended")?, bare: false };
    let sluice = Target { name: "hit", port: with.port(), pid: with.id(), bare: false };
    for (name, sql) in READS {
        let bytes = request(sql);
        let reply = client(&direct).await?.whole(&bytes).await?;
        if reply.get(4) == Some(&0xff) {
            bail!("{sql}: {}", String::from_utf8_lossy(&reply));
        }
        let (_process, echo) = echoing(bytes.len(), reply.len(), threads).await?;
        if client(&sluice).await?.whole(&bytes).await?.len() != reply.len() {
            bail!("{sql}: Sluice's reply is of another length");
        }
        writeln!(out, "\n{name}, {} bytes", reply.len())?;
        writeln!(
            out,
            "  {:<12} {:>10} {:>10} {:>10} {:>12} {:>12}",
            "", "median us", "p99 us", "cpu us", "per second", "cpu us (16)"
        )?;
        let mut all: Vec<(&Target, Vec<Run>, Vec<Run>)> = [&echo, &sluice, &direct].map(|t| (t, Vec::new(), Vec::new())).into();
        for round in 0..rounds {
            for (target, one, many) in &mut all {
                progress(&format!("cache, {name}, round {} of {rounds}: {}", round + 1, target.name));
                let same = |bytes: &Vec<u8>| {
                    let bytes = bytes.clone();
                    move |_| bytes.clone()
                };
                one.push(drive(target, 1, time, reply.len(), same(&bytes)).await?);
                many.push(drive(target, MANY, time, reply.len(), same(&bytes)).await?);
            }
        }
        let mut lines = Vec::new();
        for (target, one, many) in &all {
            let figures = [
                median(one, |run| run.quantile(0.5)),
                median(one, |run| run.quantile(0.99)),
                median(one, Run::cpu_us),
                median(many, Run::rate),
                median(many, Run::cpu_us),
            ];
            let [half, most, cpu, rate, cpu_many] = figures;
            writeln!(out, "  {:<12} {half:>10.1} {most:>10.1} {cpu:>10.2} {rate:>12.0} {cpu_many:>12.2}", target.name)?;
            lines.push(figures);
        }
        if let [echo, hit, direct] = lines.as_slice() {
            let told = |what: &str, value: f64, aim: &str| format!("  {what:<58} {value:>8.2}   aim {aim}\n");
            out.push_str(&told("CPU of a hit, times that of the echo, 16 clients", hit[4] / echo[4], "<= 1.2"));
            out.push_str(&told("median of a hit, times that of the echo, 1 client", hit[0] / echo[0], "<= 1.2"));
            out.push_str(&told("rate of hits, times that of the server, 16 clients", hit[3] / direct[3], ">= 5 (100 rows)"));
            out.push_str(&told("CPU of a hit, times the server's for it, 16 clients", hit[4] / direct[4], "<= 0.1 (100 rows)"));
            // By one client: with more of them than cores a reply waits for its turn, which says how many they are and not what a hit takes.
            out.push_str(&told("p99 of a hit, us, 1 client", hit[1], "< 100 on an idle machine"));
            out.push_str(&told("p99 of the bare echo, us, 1 client: what the machine does", echo[1], "none"));
            out.push_str(&told("p99 of a hit, times that of the echo, 1 client", hit[1] / echo[1], "none"));
        }
    }
    drop(with);
    out.push_str(&never(server, threads, rounds, time, progress).await?);
    out.push_str(&filled(server, threads, progress).await?);
    Ok(out)
}

fn median(runs: &[Run], of: impl Fn(&Run) -> f64) -> f64 {
    let mut all: Vec<f64> = runs.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A statement that nobody has asked before: its number is in a comment, and the row one of a thousand.
fn new_one(n: u64) -> Vec<u8> {
    request(&format!("SELECT c FROM sbtest.sbtest1 WHERE id = {} /* {n:012} */", 1000 + n % 1000))
}

/// What a target's slices took, microseconds of CPU a statement, beside those of the first target at the same turn: percent more.
fn beyond(base: &[Run], runs: &[Run]) -> Vec<f64> {
    let mut more: Vec<f64> = base.iter().zip(runs).map(|(base, run)| 100.0 * (run.cpu_us() / base.cpu_us() - 1.0)).collect();
    more.sort_by(f64::total_cmp);
    more
}

async fn never(server: &Server, threads: u32, rounds: u32, time: Duration, progress: &dyn Fn(&str)) -> Result<String> {
    // Statements that are never asked again, kept in vain; and the same where the cache is on and nobody has asked for it.
    let off = proxy(server, threads).start().await?;
    let kept = caching(server, threads, 256 << 20).await?;
    let unasked = proxy(server, threads).set("cache.enabled", "true").set("cache.invalidate", "[\"proxy\"]").start().await?;
    let targets = [("off", &off), ("on, not asked", &unasked), ("on, in vain", &kept)];
    let targets = targets.map(|(name, proxy)| Target { name, port: proxy.port(), pid: proxy.id(), bare: false });
    let reply = client(&targets[0]).await?.whole(&new_one(0)).await?.len();
    let mut all: Vec<(&Target, Vec<Run>)> = targets.iter().map(|target| (target, Vec::new())).collect();
    // What a proxy does once (opening its connections, judging the statement by its first thousand results) is not the cost of a statement.
    for (target, _) in &all {
        drive(target, MANY, time, reply, move |n| new_one(NEW_EACH / 2 + n)).await?;
    }
    // Short slices by turns, the order turned too: what else the machine does meets all alike, and slices are judged beside those of their turn.
    let slices = rounds * SLICES;
    for slice in 0..slices {
        // The same statements for each.
        let base = u64::from(slice + 1) * NEW_EACH;
        let first = slice as usize % all.len();
        for at in 0..all.len() {
            let place = (first + at) % all.len();
            let Some((target, runs)) = all.get_mut(place) else { continue };
            progress(&format!("cache that never hits, slice {} of {slices}: {}", slice + 1, target.name));
            runs.push(drive(target, MANY, time / 2, reply, move |n| new_one(base + n)).await?);
        }
    }
    let mut out = format!("\nreads that are never asked again, 16 clients, {slices} slices by turns\n");
    let Some((_, base)) = all.first() else { return Ok(out) };
    for (target, runs) in &all {
        let (rate, cpu, more) = (median(runs, Run::rate), median(runs, Run::cpu_us), beyond(base, runs));
        let at = |part: f64| more.get((more.len() as f64 * part) as usize).copied().unwrap_or(f64::NAN);
        writeln!(
            out,
            "  {:<14} {rate:>10.0} per second {cpu:>8.2} us cpu {:>+7.1} % (half of the slices {:+.1} to {:+.1})   aim < 3 %",
            target.name,
            at(0.5),
            at(0.25),
            at(0.75)
        )?;
    }
    Ok(out)
}

async fn filled(server: &Server, threads: u32, progress: &dyn Fn(&str)) -> Result<String> {
    let proxy = caching(server, threads, MEMORY).await?;
    let target = Target { name: "fill", port: proxy.port(), pid: proxy.id(), bare: false };
    let rows = |n: u64| {
        let from = 1000 + n % 500;
        request(&format!("SELECT c FROM sbtest.sbtest1 WHERE id BETWEEN {from} AND {} /* {n:012} */", from + 19))
    };
    progress("filling the cache beyond its limit");
    // What a process of it takes for its clients, before.
    let mut client = client(&target).await?;
    let reply = client.whole(&rows(0)).await?.len();
    let mut buffer = vec![0; reply];
    for _ in 0..200 {
        client.exchange(&rows(0), &mut buffer).await?;
    }
    let before = memory(target.pid)?;
    let mut most = 0u64;
    for n in 1..FILL {
        // Twice: results that nobody comes back for are soon not kept any more.
        client.exchange(&rows(n), &mut buffer).await?;
        client.exchange(&rows(n), &mut buffer).await?;
        if n % 5000 == 0 {
            most = most.max(memory(target.pid)?.saturating_sub(before));
        }
    }
    let said = proxy.admin("SHOW CACHE").await?;
    let figure = |name: &str| said.column(name).first().map(|text| (*text).to_owned()).unwrap_or_default();
    let share = 100.0 * most as f64 / MEMORY as f64;
    Ok(format!(
        "\nfilled with {FILL} results of {reply} bytes, limit {} MiB\n  counted {} bytes, {} evictions; the process grew by {most} bytes: {share:.1} % of the limit   aim <= 105 %\n",
        MEMORY >> 20,
        figure("bytes"),
        figure("evictions"),
    ))
}
