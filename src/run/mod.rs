//! The parts wired together: the running proxy from its configuration to its last client.

pub mod doors;
pub mod explain;
pub mod house;
pub mod keeping;
mod life;
pub mod notify;
pub mod offline;
pub mod otlp;
pub mod reload;
pub mod roster;
pub mod servers;
pub mod takeover;
pub mod talk;
pub mod traffic;
pub mod upgrade;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};

use crate::admin::Access;
use crate::auth::Credentials;
use crate::backend::ServerTls;
use crate::backend::pool::ServerPool;
use crate::backend::pools::{Pools, SERVERS_MAX};
use crate::config::{Config, resolve};
use crate::frontend::beginnings::Beginnings;
use crate::frontend::listener::Stays;
use crate::frontend::login::{LoginLimits, LoginRoom, LoginServer};
use crate::frontend::refusals::Refusals;
use crate::frontend::registry::Registry;
use crate::frontend::shared::Shared;
use crate::frontend::workers::Workers;
use crate::frontend::written::AccountWrites;
use crate::metrics::Metrics;
use crate::metrics::events::EventLog;
use crate::metrics::spans::Spans;
use crate::metrics::statements::Statements;
use crate::metrics::tally::Copies;
use crate::monitor::{Monitor, Report};
use crate::run::doors::{Door, Doors, Served, Staff};
use crate::run::house::ProxyHouse;
use crate::run::notify::notify;
use crate::run::reload::Reloader;
use crate::run::roster::Roster;
use crate::run::servers::{monitor_account, monitor_settings, names, only_watches, open_pools, tells_addresses};
use crate::run::takeover::Takeover;
use crate::run::talk::Talk;
use crate::run::upgrade::UpgradeDoor;
use crate::sql::classify::{Classified, ClassifyCache, classify};
use crate::sql::lexer::LexMode;
use crate::topology::snapshot::Snapshot;
use crate::topology::{ServerId, State};

/// How often idle connections are looked through.
const RETIRE_EVERY: Duration = Duration::from_secs(5);
/// Digests whose classification is remembered. Clients make digests, so both bounds hold.
const CLASSIFIED_MAX: usize = 100_000;
/// Memory for them.
const CLASSIFIED_BYTES_MAX: u64 = 64 << 20;

/// Runs the proxy until it is told to end, with `takeover` in the place of the one that runs. The exit code is 0 after a drain,
/// 1 when it could not start.
pub fn run(config: Config, path: PathBuf, takeover: bool) -> ExitCode {
    // Clients live on workers of their own (frontend::workers). Here run the doors, the monitor and the admin port, so that a
    // busy proxy takes none of its own stalls for a server's.
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().thread_name("sluice").build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start threads");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        match Proxy::start(config, path, takeover).await {
            Ok(proxy) => {
                proxy.until_told().await;
                ExitCode::SUCCESS
            }
            Err(error) => {
                tracing::error!("{error}");
                ExitCode::FAILURE
            }
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

/// A running proxy.
pub struct Proxy {
    shared: Arc<Shared>,
    config: Arc<ArcSwap<Config>>,
    reloader: Arc<Reloader>,
    shutdown: Arc<Notify>,
    served: Served,
    /// The same doors, for a new process, or for this one when the new one fails at the last moment; empty: no upgrades.
    copies: Vec<Door>,
    staff: Staff,
    stays: Stays,
    /// Answers new processes.
    upgrades: Option<tokio::task::JoinHandle<()>>,
    /// Those that are ready.
    successors: mpsc::Receiver<Talk>,
    /// The program's file, as it was named.
    program: Option<PathBuf>,
}

impl Proxy {
    /// Opens the doors. Servers that are down are reported, not fatal.
    ///
    /// # Errors
    /// An address that cannot be bound, a TLS file that cannot be used; with `takeover`, that the process that runs keeps its clients.
    pub async fn start(config: Config, path: PathBuf, takeover: bool) -> Result<Proxy, String> {
        let (started, program) = (Instant::now(), upgrade::program());
        raise_file_limit(&config);
        let events = Arc::new(EventLog::new());
        let metrics = Arc::new(Metrics::new());
        let roster = Roster::new(&config)?;
        metrics.set_servers(&names(&roster));
        let tells_addresses = tells_addresses(&config);
        let pools = Arc::new(Pools::default());
        let monitored = open_pools(&roster, &config, &pools, &metrics)?;

        // The doors are bound first, so that nothing is started when one is taken.
        let (stays, upgrade_path) = (Stays::default(), config.proxy.upgrade_socket.clone());
        let (mut predecessor, taken) = match takeover {
            true => Takeover::begin(&upgrade_path).await.map(|(predecessor, doors)| (Some(predecessor), doors))?,
            false => (None, Vec::new()),
        };
        // Until the old process gives them away, the files of unix sockets are its own.
        stays.set(takeover);
        let mut upgrade_door = match upgrade_path.is_empty() || takeover {
            true => None,
            false => Some(UpgradeDoor::open(&upgrade_path, false, &stays)?),
        };
        let doors = Doors::open(&config, taken, &stays).await?;
        let copies = match upgrade_path.is_empty() {
            true => Vec::new(),
            false => doors.copies().map_err(|e| format!("cannot keep the listening sockets for an upgrade: {e}"))?,
        };

        let run = random()?;
        let topology = resolve::topology(&config);
        let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::starting(&topology, None, std::time::SystemTime::now())));
        let mut watching = monitor_settings(&config, run);
        if takeover {
            only_watches(&mut watching);
        }
        let monitor = Monitor::spawn(
            watching,
            monitored,
            monitor_account(&config),
            snapshot.clone(),
            Arc::new(Reported { events: events.clone(), metrics: metrics.clone() }),
        );
        let known = monitor.known().clone();

        let login = {
            let (snapshot, pools) = (snapshot.clone(), pools.clone());
            let servers = move || {
                let snapshot = snapshot.load();
                let ids =
                    snapshot.master.into_iter().chain(snapshot.readers().map(|s| s.id)).chain(snapshot.current().map(|s| s.id));
                let mut order: Vec<ServerId> = Vec::new();
                for id in ids {
                    if !order.contains(&id) {
                        order.push(id);
                    }
                }
                let login = |pool: &Arc<ServerPool>| LoginServer {
                    id: pool.server,
                    address: pool.address().clone(),
                    tls: ServerTls::clone(&pool.tls()),
                    answers: snapshot
                        .server(pool.server)
                        .is_some_and(|view| view.facts.is_some() && !matches!(view.state, State::Down | State::Suspect)),
                };
                order.iter().filter_map(|id| pools.get(id.index()).map(login)).collect()
            };
            LoginRoom::new(
                resolve::client_tls(&config)?,
                resolve::accounts(&config),
                Arc::new(Credentials::new()),
                Box::new(servers),
                LoginLimits::default(),
                tells_addresses,
            )
        };
        let (spans, spans_out) = Spans::new(random()?, metrics.spans_dropped.clone());
        let (paused, paused_receiver) = watch::channel(false);
        let stored = keeping::stored(&config, &events)?;
        let shared = Arc::new(Shared {
            snapshot,
            changed: monitor.epochs(),
            login,
            monitor,
            known,
            pools,
            classify: ClassifyCache::new(CLASSIFIED_MAX, CLASSIFIED_BYTES_MAX),
            class_use: Arc::new(classify(b"USE s", LexMode::default())),
            class_read: Arc::new(Classified { asks_definitions: true, ..classify(b"SELECT 1", LexMode::default()) }),
            cache: keeping::cache(&config)?,
            asked: Copies::default(),
            stored,
            flights: Arc::default(),
            settings: Arc::new(ArcSwap::from_pointee(resolve::frontend(&config)?)),
            replays: AtomicBool::new(config.failover.transaction_replay),
            metrics,
            statement_stats: Arc::new(Statements::default()),
            spans: Arc::new(spans),
            events,
            registry: Registry::default(),
            newest_write: Mutex::new(None),
            account_writes: AccountWrites::default(),
            paused: paused_receiver,
            is_paused: AtomicBool::new(false),
            asks_last_values: AtomicBool::new(false),
            refusals: Refusals::default(),
            draining: AtomicBool::new(false),
            schemas: Mutex::default(),
            beginnings: Beginnings::default(),
            states: Mutex::default(),
            keys: Mutex::default(),
            attributes: Mutex::default(),
            tells_addresses,
            latency_us: (0..SERVERS_MAX).map(|_| AtomicU64::new(0)).collect(),
            errors: (0..SERVERS_MAX).map(|_| AtomicU64::new(0)).collect(),
        });

        shared.monitor.watch_traffic(Arc::new(traffic::ClientTraffic::of(&shared)));
        keeping::start(&shared, &config);
        otlp::configure(&shared, &config);
        let access = Arc::new(ArcSwap::from_pointee(Access::new(&config.admin.user, config.admin.secret.expose())));
        let config = Arc::new(ArcSwap::from_pointee(config));
        tokio::spawn(otlp::run(spans_out, shared.clone(), config.clone()));
        let reloader = Arc::new(Reloader {
            path,
            config: config.clone(),
            shared: shared.clone(),
            access: access.clone(),
            roster: tokio::sync::Mutex::new(roster),
            run,
            given_away: AtomicBool::new(false),
            acting: AtomicBool::new(!takeover),
        });
        let shutdown = Arc::new(Notify::new());
        let before = Arc::new(takeover::Before::default());
        let house = Arc::new(ProxyHouse {
            shared: shared.clone(),
            config: config.clone(),
            reloader: reloader.clone(),
            paused,
            shutdown: shutdown.clone(),
            started,
            before: before.clone(),
        });

        let proxy = &config.load().proxy;
        let workers = Workers::start(proxy.worker_threads, proxy.io_uring).map_err(|e| format!("cannot start threads: {e}"))?;
        workers.tell_what_drives_them();
        let staff = Staff { shared: shared.clone(), workers: Arc::new(workers), access, house };
        tokio::spawn(housekeeping(shared.clone()));
        let room = shared.clone();
        let key = tokio::spawn(async move { room.login.password_key().await.map(|_| ()) });
        if let Some(predecessor) = &mut predecessor {
            let _ = key.await;
            takeover::succeed(predecessor, &shared, &reloader).await?;
            stays.set(false);
            upgrade_door = UpgradeDoor::open(&upgrade_path, true, &stays).map_err(|e| tracing::error!("{e}")).ok();
        }
        let served = doors.serve(&staff);
        if let Some(predecessor) = predecessor {
            tokio::spawn(predecessor.is_done(shared.clone(), before));
        }
        let (upgrades, successors) = match upgrade_door {
            None => (None, mpsc::channel(1).1),
            Some(door) => door.answer(&copies).map(|(upgrades, successors)| (Some(upgrades), successors))?,
        };
        Ok(Proxy { shared, config, reloader, shutdown, served, copies, staff, stays, upgrades, successors, program })
    }
}

/// What the monitor tells goes to the log of events.
struct Reported {
    events: Arc<EventLog>,
    metrics: Arc<Metrics>,
}

impl Report for Reported {
    fn report(&self, kind: &'static str, server: Option<&str>, detail: &str) {
        self.events.push(kind, server, detail);
    }

    fn replaced(&self, kind: &'static str, result: &'static str, took: Option<Duration>) {
        self.metrics.failovers(kind, result).inc();
        if let Some(took) = took {
            self.metrics.failover_duration.observe(took.as_secs_f64());
        }
    }
}

/// A number that no other run has.
fn random() -> Result<u64, String> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "the system gives no random numbers".to_owned())?;
    Ok(u64::from_le_bytes(bytes) >> 1)
}

/// Clients, server connections and some for ourselves need a file descriptor each. The limit is raised by whoever starts us
/// (`LimitNOFILE` of systemd, `ulimit -n`); here it is only told when it is too low.
fn raise_file_limit(config: &Config) {
    let servers: usize = config.servers.iter().map(|s| s.max_connections).sum();
    let wanted = config.proxy.max_clients + servers + 64;
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft =
        limits.lines().find(|l| l.starts_with("Max open files")).and_then(|l| l.split_whitespace().nth(3)?.parse::<usize>().ok());
    if let Some(soft) = soft.filter(|soft| *soft < wanted) {
        tracing::warn!(
            "the limit of open files is {soft}; max_clients and the servers' max_connections may need {wanted}: raise it (ulimit -n)"
        );
    }
}

/// What happens every few seconds: idle connections are retired, and what clients are greeted with follows the servers.
async fn housekeeping(shared: Arc<Shared>) {
    let mut every = tokio::time::interval(RETIRE_EVERY);
    let mut changed = shared.changed.clone();
    // The servers may have answered before this task began: clients would be greeted as if nobody had.
    changed.mark_changed();
    let mut rounds = 0;
    loop {
        tokio::select! {
            _ = every.tick() => {
                if lives(&mut rounds, shared.monitor.rounds()) {
                    notify("WATCHDOG=1");
                }
                let now = Instant::now();
                for pool in shared.pools.iter() {
                    pool.retire(now);
                }
            }
            alive = changed.changed() => {
                if alive.is_err() {
                    return;
                }
                let snapshot = shared.snapshot.load_full();
                if let Some(template) = offline::greeting(&snapshot) {
                    shared.login.greeting.store(Arc::new(template));
                }
                for server in &snapshot.servers {
                    let Some(pool) = shared.pools.get(server.id.index()) else { continue };
                    match server.state {
                        State::Down => {
                            pool.close_idle(None);
                            pool.sever();
                        }
                        State::Offline => pool.close_idle(None),
                        _ => {}
                    }
                }
            }
        }
    }
}

/// Whether the loop that watches the servers has gone round since it was last asked. The service manager restarts a process whose servers nobody
/// watches, whatever else of it lives.
fn lives(seen: &mut u64, rounds: u64) -> bool {
    std::mem::replace(seen, rounds) != rounds
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("clients", &self.shared.registry.count()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Report for Nobody {
        fn report(&self, _: &'static str, _: Option<&str>, _: &str) {}
        fn replaced(&self, _: &'static str, _: &'static str, _: Option<Duration>) {}
    }

    #[tokio::test]
    async fn who_watches_nothing_any_more_is_not_called_alive() {
        let config = Config::default();
        let settings = monitor_settings(&config, 1);
        let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::starting(&settings.topology, None, std::time::SystemTime::now())));
        let monitor = Monitor::spawn(settings, Vec::new(), monitor_account(&config), snapshot, Arc::new(Nobody));
        // Longer than a round takes.
        let look = Duration::from_millis(300);
        let mut rounds = 0;
        let until = async |wanted: bool, rounds: &mut u64| {
            while lives(rounds, monitor.rounds()) != wanted {
                tokio::time::sleep(look).await;
            }
        };
        tokio::time::timeout(look * 30, until(true, &mut rounds)).await.unwrap();
        tokio::time::sleep(look).await;
        tokio::time::timeout(look * 30, until(true, &mut rounds)).await.unwrap();
        monitor.stop();
        tokio::time::timeout(look * 30, until(false, &mut rounds)).await.unwrap();
    }
}
