//! `make bench`: see [`integration::bench`].

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::Result;
use integration::bench::cache;
use integration::bench::load::{self, Sample};
use integration::bench::paths::{self, Path};
use integration::bench::relay;
use integration::bench::report::{Cell, aims};
use integration::bench::{Plan, USAGE};
use integration::flavour::Flavour;
use integration::install::Install;
use integration::server::{Server, ServerOptions};
use sluice::sql::classify::ClassifyCache;
use sluice::sql::digest::DigestBuf;
use sluice::sql::lexer::LexMode;

/// The idle clients of a proxy that opens a connection for each, and then some.
const SERVER_CONNECTIONS: &str = "--max-connections=6500";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    // What it starts beside the proxies, as processes of their own.
    let beside = match args.split_first() {
        Some((first, rest)) if first == "--echo" => Some(cache::echo(rest)),
        Some((first, rest)) if first == "--relay" => Some(relay::relay(rest)),
        _ => None,
    };
    if let Some(ended) = beside {
        return match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("bench: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    let plan = match Plan::parse(args) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("bench: {error}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(run(plan))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(plan: Plan) -> Result<()> {
    let flavour = Flavour::from_env()?;
    let install = Install::find(flavour)?;
    let template = integration::template::template(&install, &|text| progress(text)).await?;
    progress("starting one server, which all paths lead to");
    let mut options = ServerOptions::new("db1", 1).option(SERVER_CONNECTIONS).option("--innodb-buffer-pool-size=512M");
    // The benchmark is of proxies, not of disks.
    for option in ["--innodb-flush-log-at-trx-commit=0", "--sync-binlog=0"] {
        options = options.option(option);
    }
    let server = Server::start(&install, options, &template)?;
    let root = ["SET GLOBAL max_connect_errors = 1000000", "CREATE DATABASE IF NOT EXISTS sbtest"];
    server.run(&root).await?;
    progress("filling sysbench's tables");
    load::prepare(&server).await?;
    if plan.cache {
        let report = cache::run(&server, plan.threads, plan.rounds, plan.time, &progress).await?;
        clear();
        println!("{} {}\n{report}", flavour.title(), install.version);
    }
    if !plan.has_paths() {
        return Ok(());
    }
    let wanted = |name: &str| plan.only_paths.is_empty() || plan.only_paths.iter().any(|path| path == name);
    let (paths, missing) = paths::all(&server, plan.threads, wanted).await?;
    let names: Vec<&str> = paths.iter().map(|path| path.name).collect();
    println!(
        "{} {}, {} threads a proxy, {} rounds of {:?}: {}",
        flavour.title(),
        install.version,
        plan.threads,
        plan.rounds,
        plan.time,
        names.join(", ")
    );
    for path in &missing {
        println!("not measured: {path}");
    }

    let mut cells = Vec::new();
    for (workload, connections) in &plan.cells {
        let cell = in_turns(&paths, &plan, workload.name, *connections, async |path| {
            load::run(path, *workload, *connections, plan.time).await
        });
        cells.push(show(cell.await?));
    }
    if plan.large {
        cells.push(show(in_turns(&paths, &plan, "large", 0, async |path| load::large(path, plan.time).await).await?));
    }
    if plan.logins {
        cells.push(show(in_turns(&paths, &plan, "logins", 0, async |path| load::logins(path, plan.time).await).await?));
    }
    let mut idle = Vec::new();
    if plan.idle > 0 {
        println!("\n{} idle clients that have run a statement       KiB each", plan.idle);
        for path in paths.iter().filter(|path| path.pid.is_some()) {
            progress(&format!("idle clients of {}", path.name));
            let bytes = load::idle(path, plan.idle).await?;
            println!("  {:<46} {:>10.1}", path.name, bytes / 1024.0);
            idle.push((path.name, bytes));
        }
    }
    println!("\n{}", aims(&cells, &idle, Some(classify())));
    Ok(())
}

/// A cell: every path in turn, the order reversed every other round, so that what the machine does meanwhile meets all.
async fn in_turns(
    paths: &[Path],
    plan: &Plan,
    load: &'static str,
    connections: u32,
    run: impl AsyncFn(&Path) -> Result<Sample>,
) -> Result<Cell> {
    let mut all: Vec<(&'static str, Vec<Sample>)> = paths.iter().map(|path| (path.name, Vec::new())).collect();
    for round in 0..plan.rounds {
        let mut order: Vec<usize> = (0..paths.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            progress(&format!("{load}, {connections} connections, round {} of {}: {}", round + 1, plan.rounds, paths[at].name));
            all[at].1.push(run(&paths[at]).await?);
        }
    }
    Ok(Cell { load, connections, paths: all })
}

fn show(cell: Cell) -> Cell {
    clear();
    println!("\n{}", cell.text().trim_end());
    cell
}

/// Nanoseconds of classifying a text whose digest is known, the median of some batches.
fn classify() -> f64 {
    const TEXTS: usize = 1000;
    let cache = ClassifyCache::new(1000, 1 << 20);
    let mut buffer = DigestBuf::default();
    let texts: Vec<String> = (0..TEXTS).map(|id| format!("SELECT c FROM sbtest1 WHERE id={}", 10_000 + id)).collect();
    let mut batches: Vec<f64> = (0..51)
        .map(|_| {
            let started = std::time::Instant::now();
            for text in &texts {
                std::hint::black_box(cache.get(text.as_bytes(), LexMode::default(), &mut buffer));
            }
            started.elapsed().as_nanos() as f64 / TEXTS as f64
        })
        .collect();
    batches.sort_by(f64::total_cmp);
    batches[batches.len() / 2]
}

fn progress(text: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{text}");
    }
}

fn clear() {
    progress("");
}
