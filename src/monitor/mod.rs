//! The monitor: looks at every server, writes the heartbeat, publishes the snapshot everybody routes by.
//!
//! One task a server ([`look`]) asks it once an interval and at once when poked; one task writes the heartbeat on the master ([`beat`]); one task
//! ([`publish`]) feeds what they saw to [`crate::topology::diagnose()`] and stores the result; one task ([`conduct`]) feeds the failover machine and has
//! the servers told what it says ([`hands`]). [`binlog`] reads the master's log for the cache. Nothing is decided in this room.

mod beat;
pub mod binlog;
pub mod commands;
mod conduct;
mod failure;
mod hands;
mod look;
mod publish;
pub mod queries;
mod reach;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::auth::Secret;
use crate::backend::{ServerAddress, ServerTls};
use crate::cache::Changes;
use crate::topology::failover::{FailoverSettings, Machine, Mode, Order, StepDone};
use crate::topology::{Failure, GtidSet, KnownGtids, Memory, Observation, Override, ServerId, Settings, Snapshot, State};
pub use conduct::Traffic;
pub use failure::{of_connect as failure_of_connect, of_query as failure_of_query};
use publish::{INPUTS_MAX, Input, Publisher};
pub use queries::{HeartbeatRow, HeartbeatTable};

/// The least an answer to failover's questions may take; else a third of `heartbeat_timeout`.
const ANSWER_LIMIT_MIN: Duration = Duration::from_millis(200);
/// A reader of the binlog that is further behind than this does not follow.
const BEHIND_MAX: Duration = Duration::from_secs(10);
/// An operator waits this long for the end of his command.
const ORDER_LIMIT: Duration = Duration::from_secs(60);

/// Takes what the monitor has to tell, for `SHOW EVENTS` and the log. Called from the monitor's task: it must not block.
pub trait Report: Send + Sync + 'static {
    /// Something happened. `server` is its name in the file, `None` for all of them; `detail` is never empty.
    fn report(&self, kind: &'static str, server: Option<&str>, detail: &str);

    /// A failover, a switchover or a rejoin has ended (`ok`, `refused`, `failed`), after `took` when it went well.
    fn replaced(&self, kind: &'static str, result: &'static str, took: Option<Duration>);
}

/// How to watch.
#[derive(Clone, Debug)]
pub struct MonitorSettings {
    /// Intervals and the servers' names.
    pub topology: Settings,
    /// Where the heartbeat is written; `None` for off.
    pub heartbeat: Option<HeartbeatRow>,
    /// How the master is replaced.
    pub failover: FailoverSettings,
    /// A random number, not 0, new for every process: it names this run in the heartbeat row and spreads the first looks over an interval.
    pub run: u64,
}

/// How to reach a server; in the order of [`Settings::servers`].
#[derive(Clone, Debug)]
pub struct MonitoredServer {
    /// Where it listens.
    pub address: ServerAddress,
    /// Whether in TLS.
    pub tls: ServerTls,
}

/// Sluice's own account on the servers.
#[derive(Clone, Debug)]
pub struct Account {
    /// User name.
    pub user: String,
    /// Password.
    pub password: Secret,
}

/// Starts monitors.
#[derive(Debug)]
pub struct Monitor;

impl Monitor {
    /// Starts watching, within a tokio runtime. What `shared` holds of the same servers is kept until they have been asked, so that a new monitor (a
    /// reload) makes no gap; at the start of the process it is [`Snapshot::starting`].
    pub fn spawn(
        settings: MonitorSettings,
        servers: Vec<MonitoredServer>,
        account: Account,
        shared: Arc<ArcSwap<Snapshot>>,
        report: Arc<dyn Report>,
    ) -> MonitorHandle {
        let MonitorSettings { topology, heartbeat, failover, run } = settings;
        let (sender, input) = mpsc::channel(INPUTS_MAX);
        let now = Instant::now();
        let snapshot = Snapshot::starting(&topology, Some(&shared.load()), std::time::SystemTime::now());
        let epochs = watch::Sender::new(snapshot.epoch);
        let mut memory = Memory::new(&topology, &snapshot, run.max(1), now);
        memory.steer(failover.mode == Mode::Auto);
        let snapshot = Arc::new(snapshot);
        let machine = Machine::new(failover, snapshot.clone());
        shared.store(snapshot);
        let known = Arc::new(KnownGtids::new(topology.servers.len()));
        let poked: Vec<Arc<Notify>> = topology.servers.iter().map(|_| Arc::new(Notify::new())).collect();
        let account = Arc::new(account);
        let servers = Arc::new(servers);
        let (interval, timeout) = (topology.heartbeat_interval, topology.heartbeat_timeout);
        let mut tasks = Vec::new();
        let count = u32::try_from(servers.len()).unwrap_or(u32::MAX).max(1);
        for (((id, _), server), poked) in topology.ids().zip(servers.iter()).zip(&poked) {
            // Evenly over one interval, beginning anywhere in it.
            let slot = (u64::from(id.0) + run % u64::from(count)) % u64::from(count);
            let look = look::Look {
                id,
                server: server.clone(),
                account: account.clone(),
                heartbeat: heartbeat.clone(),
                interval,
                timeout,
                delay: interval * u32::try_from(slot).unwrap_or_default() / count,
                poked: poked.clone(),
                input: sender.clone(),
            };
            tasks.push(tokio::spawn(look.run()));
        }
        let log = Log {
            settings: binlog::BinlogSettings {
                heartbeat: interval,
                silence: timeout,
                behind_max: BEHIND_MAX,
                ignored: heartbeat.as_ref().map(|row| row.table().clone()),
                run,
            },
            servers: servers.clone(),
            names: topology.servers.iter().map(|server| server.name.to_string()).collect(),
            account: account.clone(),
            report: report.clone(),
        };
        let beating = Arc::new(tokio::sync::Mutex::new(()));
        let reach = |index: usize, server: &MonitoredServer| {
            let id = ServerId(u16::try_from(index).unwrap_or(u16::MAX));
            Arc::new(reach::Reach { id, server: server.clone(), account: account.clone(), idle: parking_lot::Mutex::default() })
        };
        let all = || servers.iter().enumerate().map(|(index, server)| reach(index, server)).collect::<Vec<_>>();
        let hands = Arc::new(hands::Hands {
            ask: all(),
            act: all(),
            snapshot: shared.clone(),
            answer_limit: (timeout / 3).max(ANSWER_LIMIT_MIN),
            beating: beating.clone(),
        });
        if let Some(row) = heartbeat {
            let beater = beat::Beater {
                servers,
                account,
                row,
                run: run.max(1),
                interval,
                timeout,
                snapshot: shared.clone(),
                poked: poked.clone(),
                input: sender.clone(),
                beating,
            };
            tasks.push(tokio::spawn(beater.run()));
        }
        let published = Arc::new(Notify::new());
        let publisher = Publisher {
            settings: topology,
            memory,
            shared: shared.clone(),
            known: known.clone(),
            epochs: epochs.clone(),
            report: report.clone(),
            input,
            published: published.clone(),
        };
        tasks.push(tokio::spawn(publisher.run()));
        let (calls, orders) = mpsc::channel(conduct::CALLS_MAX);
        let traffic = Arc::new(OnceLock::new());
        let conductor = conduct::Conductor {
            machine,
            hands,
            snapshot: shared.clone(),
            published,
            calls: orders,
            input: sender.clone(),
            report,
            traffic: traffic.clone(),
        };
        tasks.push(tokio::spawn(conductor.run()));
        MonitorHandle { inner: Arc::new(Inner { input: sender, poked, shared, known, epochs, calls, traffic, tasks, log }) }
    }
}

/// Talks to a running monitor. Cheap to clone; the monitor stops when [`MonitorHandle::stop`] is called or the last handle is dropped.
#[derive(Clone, Debug)]
pub struct MonitorHandle {
    inner: Arc<Inner>,
}

struct Inner {
    input: mpsc::Sender<Input>,
    poked: Vec<Arc<Notify>>,
    shared: Arc<ArcSwap<Snapshot>>,
    known: Arc<KnownGtids>,
    epochs: watch::Sender<u64>,
    calls: mpsc::Sender<conduct::Call>,
    traffic: Arc<OnceLock<Arc<dyn Traffic>>>,
    tasks: Vec<JoinHandle<()>>,
    log: Log,
}

/// What a reader of the binlog is made of.
struct Log {
    settings: binlog::BinlogSettings,
    servers: Arc<Vec<MonitoredServer>>,
    names: Vec<String>,
    account: Arc<Account>,
    report: Arc<dyn Report>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("tasks", &self.tasks.len()).finish_non_exhaustive()
    }
}

impl MonitorHandle {
    /// The servers as they are.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.inner.shared.load_full()
    }

    /// Where the snapshots are published.
    pub fn shared(&self) -> &Arc<ArcSwap<Snapshot>> {
        &self.inner.shared
    }

    /// Wakes whoever waits for a master: changes with every [`Snapshot::epoch`]. Subscribe first, then look at the snapshot, then wait.
    pub fn epochs(&self) -> watch::Receiver<u64> {
        self.inner.epochs.subscribe()
    }

    /// Which GTIDs are known to be where.
    pub fn known(&self) -> &Arc<KnownGtids> {
        &self.inner.known
    }

    /// These GTIDs are on that server, learned from an OK packet or a wait that ended.
    pub fn learn_gtid(&self, server: ServerId, set: &GtidSet) {
        self.inner.known.learn(server, set);
    }

    /// A statement met a failure at a server. A refused connection takes it out at once; anything else makes the monitor look now instead of at the
    /// next heartbeat. Never waits.
    pub fn poke(&self, server: ServerId, failure: Failure) {
        let refused = matches!(failure, Failure::ConnectRefused(_));
        if refused && self.inner.shared.load().server(server).is_some_and(|view| view.state != State::Down) {
            // A full queue means that the monitor has more than enough to look at already.
            let _ = self.inner.input.try_send(Input::Seen(Observation::from_traffic(server, Instant::now(), failure)));
        }
        if let Some(poked) = self.inner.poked.get(server.index()) {
            poked.notify_one();
        }
    }

    /// Whom failover asks about the clients at a server. The first answer counts.
    pub fn watch_traffic(&self, traffic: Arc<dyn Traffic>) {
        let _ = self.inner.traffic.set(traffic);
    }

    /// An operator's command to replace the master, or to take one back: what was done, or why not.
    ///
    /// # Errors
    /// The refusal, or what went wrong and what is so now.
    pub async fn order(&self, order: Order) -> Result<Vec<StepDone>, String> {
        let (answer, wait) = oneshot::channel();
        let gone = || "the monitor has ended".to_owned();
        self.inner.calls.send(conduct::Call::Order(order, answer)).await.map_err(|_| gone())?;
        match tokio::time::timeout(ORDER_LIMIT, wait).await {
            Ok(result) => result.map_err(|_| gone())?,
            Err(_) => Err(format!("it is still under way after {} s; SHOW EVENTS tells how far it is", ORDER_LIMIT.as_secs())),
        }
    }

    /// Begins to follow the binlog of whoever is master, within a tokio runtime, and to tell what changes. Ends when what is returned is dropped.
    pub fn follow_binlog(&self, changes: Arc<dyn Changes>) -> binlog::BinlogHandle {
        let Log { settings, servers, names, account, report } = &self.inner.log;
        let shared = self.inner.shared.clone();
        let reader = binlog::BinlogReader {
            settings: settings.clone(),
            servers: servers.clone(),
            names: names.clone(),
            account: account.clone(),
            master: Arc::new(move || shared.load().writer().map(|view| view.id)),
            epochs: self.epochs(),
            changes,
            report: report.clone(),
        };
        reader.spawn()
    }

    /// New settings of failover.
    pub async fn configure(&self, failover: FailoverSettings) {
        let steer = Input::Steer { auto: failover.mode == Mode::Auto, promote_replicas: failover.topology.promote_replicas };
        let _ = self.inner.input.send(steer).await;
        let _ = self.inner.calls.send(conduct::Call::Configure(failover)).await;
    }

    /// An operator's word on a server. Waits only while the monitor is busy.
    pub async fn set_override(&self, server: ServerId, over: Override) {
        let _ = self.inner.input.send(Input::Override(server, over)).await;
    }

    /// An operator's weight for a server, until the configuration is reloaded.
    pub async fn set_weight(&self, server: ServerId, weight: u32) {
        let _ = self.inner.input.send(Input::Weight(server, weight)).await;
    }

    /// Ends all its tasks. The last snapshot stays.
    pub fn stop(&self) {
        for task in &self.inner.tasks {
            task.abort();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
