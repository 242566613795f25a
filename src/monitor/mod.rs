//! The monitor: looks at every server, writes the heartbeat, publishes the snapshot everybody routes by.
//!
//! One task a server ([`look`]) asks it once an interval and at once when poked; one task writes the heartbeat on the master ([`beat`]); one task
//! ([`publish`]) feeds what they saw to [`crate::topology::diagnose()`] and stores the result; one task ([`conduct`]) feeds the failover machine and has
//! the servers told what it says ([`hands`]). [`binlog`] reads the master's log for the cache, and
//! [`definitions`] asks it what there is. Nothing is decided in this room.

mod acknowledge;
mod beat;
pub mod binlog;
pub mod commands;
mod conduct;
pub mod definitions;
mod failure;
mod hands;
mod look;
mod publish;
pub mod queries;
mod reach;
mod semi_sync;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::auth::Secret;
use crate::backend::pools::SERVERS_MAX;
use crate::backend::{ServerAddress, ServerTls};
use crate::cache::Changes;
use crate::topology::failover::{FailoverSettings, Machine, Mode, Order, StepDone};
use crate::topology::{Failure, GtidSet, KnownGtids, Memory, Observation, Override, ServerId, Settings, Snapshot, State};
pub use conduct::Traffic;
pub use failure::{of_connect as failure_of_connect, of_query as failure_of_query};
use publish::{INPUTS_MAX, Input, Publisher};
pub use queries::{HeartbeatRow, HeartbeatTable};

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
        let (sender, input) = mpsc::channel(INPUTS_MAX);
        let MonitorSettings { topology, failover, run, .. } = settings.clone();
        let now = Instant::now();
        let snapshot = Snapshot::starting(&topology, Some(&shared.load()), std::time::SystemTime::now());
        let epochs = watch::Sender::new(snapshot.epoch);
        let mut memory = Memory::new(&topology, &snapshot, run.max(1), now);
        memory.steer(failover.mode == Mode::Auto);
        let snapshot = Arc::new(snapshot);
        let machine = Machine::new(failover, snapshot.clone());
        shared.store(snapshot);
        let known = Arc::new(KnownGtids::new(SERVERS_MAX));
        let (beats, relaxed) = (Arc::new(beat::Beats::default()), Arc::default());
        let watch = Watch { settings, servers: Arc::new(servers), account: Arc::new(account) };
        let hands = watch.hands(&sender, &shared, &beats, &relaxed);
        let reached = Arc::new(ArcSwap::from_pointee(watch.reached()));
        let with = With { reached, report: report.clone(), input: sender.clone(), snapshot: shared.clone(), beats, relaxed };
        let watchers = Watchers::start(watch, &with);
        let mut tasks = Vec::new();
        let published = Arc::new(Notify::new());
        let asked = watch::Sender::new(publish::Asked::new());
        let rounds = Arc::new(AtomicU64::new(0));
        let publisher = Publisher {
            settings: topology,
            memory,
            shared: shared.clone(),
            known: known.clone(),
            epochs: epochs.clone(),
            report: report.clone(),
            input,
            published: published.clone(),
            asked: asked.clone(),
            rounds: rounds.clone(),
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
        let poked = ArcSwap::from_pointee(watchers.poked.clone());
        let watchers = parking_lot::Mutex::new(watchers);
        MonitorHandle {
            inner: Arc::new(Inner {
                input: sender,
                poked,
                shared,
                known,
                epochs,
                asked,
                rounds,
                calls,
                traffic,
                with,
                watchers,
                tasks,
            }),
        }
    }
}

/// How servers are reached, as the configuration last said.
#[derive(Clone, Debug)]
pub struct Reached {
    /// By their numbers.
    pub servers: Arc<Vec<MonitoredServer>>,
    /// As whom.
    pub account: Arc<Account>,
    /// Where the heartbeat is written, if it is.
    pub heartbeat: Option<HeartbeatTable>,
}

/// What watching works with, for as long as the monitor lives.
struct With {
    reached: Arc<ArcSwap<Reached>>,
    report: Arc<dyn Report>,
    input: mpsc::Sender<Input>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    beats: Arc<beat::Beats>,
    relaxed: Arc<semi_sync::Relaxed>,
}

/// The tasks that watch.
struct Watchers {
    watch: Watch,
    poked: Vec<Arc<Notify>>,
    looks: Vec<Option<JoinHandle<()>>>,
    beat: Option<JoinHandle<()>>,
}

impl Watchers {
    fn start(watch: Watch, with: &With) -> Watchers {
        let MonitorSettings { topology, run, .. } = &watch.settings;
        let poked: Vec<Arc<Notify>> = watch.servers.iter().map(|_| Arc::new(Notify::new())).collect();
        let count = u32::try_from(watch.servers.len()).unwrap_or(u32::MAX).max(1);
        let look = |((id, _), poked): ((ServerId, _), &Arc<Notify>)| {
            // Evenly over one interval, beginning anywhere in it.
            let slot = (u64::from(id.0) + run % u64::from(count)) % u64::from(count);
            let delay = topology.heartbeat_interval * u32::try_from(slot).unwrap_or_default() / count;
            watch.look(id, poked, &with.input, delay)
        };
        let looks = topology.ids().zip(&poked).map(look).collect();
        let beat = watch.beat(&poked, with);
        Watchers { watch, poked, looks, beat }
    }

    /// Goes on with these servers. Who is asked as before is not disturbed: reloads that follow each other closely must not look like silence.
    fn go_on(&mut self, watch: Watch, with: &With) {
        let alike = watch.asks_like(&self.watch);
        self.poked.resize_with(watch.servers.len().max(self.poked.len()), || Arc::new(Notify::new()));
        self.looks.resize_with(self.poked.len(), || None);
        for ((id, _), (look, poked)) in watch.settings.topology.ids().zip(self.looks.iter_mut().zip(&self.poked)) {
            let trusts_alike = match (self.watch.servers.get(id.index()), watch.servers.get(id.index())) {
                (Some(was), Some(is)) => was.tls.trusts_as(&is.tls),
                _ => false,
            };
            if look.is_some() && alike && trusts_alike && !watch.settings.topology.is_retired(id) {
                continue;
            }
            if let Some(task) = look.take() {
                task.abort();
            }
            *look = watch.look(id, poked, &with.input, Duration::ZERO);
        }
        if let Some(task) = self.beat.take() {
            task.abort();
        }
        self.beat = watch.beat(&self.poked, with);
        with.reached.store(Arc::new(watch.reached()));
        self.watch = watch;
    }

    fn stop(&self) {
        for task in self.looks.iter().flatten().chain(&self.beat) {
            task.abort();
        }
    }
}

/// Whom to watch, and how.
struct Watch {
    settings: MonitorSettings,
    servers: Arc<Vec<MonitoredServer>>,
    account: Arc<Account>,
}

impl Watch {
    fn reached(&self) -> Reached {
        let heartbeat = self.settings.heartbeat.as_ref().map(|row| row.table().clone());
        Reached { servers: self.servers.clone(), account: self.account.clone(), heartbeat }
    }

    /// Whether servers are asked in the same way.
    fn asks_like(&self, other: &Watch) -> bool {
        let (a, b) = (&self.settings, &other.settings);
        a.topology.heartbeat_interval == b.topology.heartbeat_interval
            && a.topology.heartbeat_timeout == b.topology.heartbeat_timeout
            && a.heartbeat == b.heartbeat
            && self.account.user == other.account.user
            && self.account.password.expose() == other.account.password.expose()
    }

    /// The task that asks one server, its first look after `delay`.
    fn look(&self, id: ServerId, poked: &Arc<Notify>, input: &mpsc::Sender<Input>, delay: Duration) -> Option<JoinHandle<()>> {
        let look = look::Look {
            id,
            server: self.servers.get(id.index())?.clone(),
            account: self.account.clone(),
            heartbeat: self.settings.heartbeat.clone(),
            interval: self.settings.topology.heartbeat_interval,
            timeout: self.settings.topology.heartbeat_timeout,
            delay,
            poked: poked.clone(),
            input: input.clone(),
        };
        (!self.settings.topology.is_retired(id)).then(|| tokio::spawn(look.run()))
    }

    /// The task that writes the heartbeat.
    fn beat(&self, poked: &[Arc<Notify>], with: &With) -> Option<JoinHandle<()>> {
        let beater = beat::Beater {
            servers: self.servers.clone(),
            account: self.account.clone(),
            row: self.settings.heartbeat.clone()?,
            run: self.settings.run.max(1),
            interval: self.settings.topology.heartbeat_interval,
            timeout: self.settings.topology.blocked_after(),
            snapshot: with.snapshot.clone(),
            poked: poked.to_vec(),
            input: with.input.clone(),
            beats: with.beats.clone(),
        };
        Some(tokio::spawn(beater.run()))
    }
}

/// Talks to a running monitor. Cheap to clone; the monitor stops when [`MonitorHandle::stop`] is called or the last handle is dropped.
#[derive(Clone, Debug)]
pub struct MonitorHandle {
    inner: Arc<Inner>,
}

struct Inner {
    input: mpsc::Sender<Input>,
    poked: ArcSwap<Vec<Arc<Notify>>>,
    shared: Arc<ArcSwap<Snapshot>>,
    known: Arc<KnownGtids>,
    epochs: watch::Sender<u64>,
    asked: watch::Sender<publish::Asked>,
    rounds: Arc<AtomicU64>,
    calls: mpsc::Sender<conduct::Call>,
    traffic: Arc<OnceLock<Arc<dyn Traffic>>>,
    with: With,
    /// The tasks that ask the servers and write the heartbeat.
    watchers: parking_lot::Mutex<Watchers>,
    tasks: Vec<JoinHandle<()>>,
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

    /// How the servers are reached, for whoever asks them something of his own.
    pub fn reached(&self) -> &Arc<ArcSwap<Reached>> {
        &self.inner.with.reached
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
        self.ring(server);
    }

    fn ring(&self, server: ServerId) {
        if let Some(poked) = self.inner.poked.load().get(server.index()) {
            poked.notify_one();
        }
    }

    /// Has this server asked, and waits until the snapshot has been judged by its answer to that or a later question, or by there being none.
    pub async fn ask_anew(&self, server: ServerId) {
        let (since, mut asked) = (Instant::now(), self.inner.asked.subscribe());
        self.ring(server);
        // The sender lives as long as this handle.
        let _ = asked.wait_for(|all| all.get(server.index()).copied().flatten().is_some_and(|at| at >= since)).await;
    }

    /// How often the task that judges has gone round, at least ten times a second. It has ended or hangs when this stands still.
    pub fn rounds(&self) -> u64 {
        self.inner.rounds.load(Ordering::Relaxed)
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

    /// Begins to follow the binlog of whoever is master, within a tokio runtime, and to tell what changes. Ends when what is returned is dropped. It keeps to the servers and the account of
    /// [`MonitorHandle::reached`] as they are now.
    pub fn follow_binlog(&self, changes: Arc<dyn Changes>) -> binlog::BinlogHandle {
        let shared = self.inner.shared.clone();
        let watchers = self.inner.watchers.lock();
        let MonitorSettings { topology, heartbeat, run, .. } = &watchers.watch.settings;
        let reader = binlog::BinlogReader {
            settings: binlog::BinlogSettings {
                heartbeat: topology.heartbeat_interval,
                silence: topology.heartbeat_timeout,
                behind_max: BEHIND_MAX,
                ignored: heartbeat.as_ref().map(|row| row.table().clone()),
                run: *run,
            },
            servers: watchers.watch.servers.clone(),
            names: topology.servers.iter().map(|server| server.name.to_string()).collect(),
            account: watchers.watch.account.clone(),
            master: Arc::new(move || shared.load().writer().map(|view| view.id)),
            epochs: self.epochs(),
            changes,
            report: self.inner.with.report.clone(),
        };
        reader.spawn()
    }

    /// New settings of failover.
    pub async fn configure(&self, failover: FailoverSettings) {
        let steer = Input::Steer { auto: failover.mode == Mode::Auto, promote_replicas: failover.topology.promote_replicas };
        let _ = self.inner.input.send(steer).await;
        let _ = self.inner.calls.send(conduct::Call::Configure(failover)).await;
    }

    /// Watches these servers from now on, in this way: the configuration was read again. Every server keeps its number; those that left are in `settings`
    /// as [`ConfiguredRole::Retired`](crate::topology::settings::ConfiguredRole::Retired). What is known of the others stays known.
    ///
    /// # Errors
    /// A master is being replaced; nothing has changed then.
    pub async fn rewatch(&self, settings: MonitorSettings, servers: Vec<MonitoredServer>, account: Account) -> Result<(), String> {
        let inner = &self.inner;
        let watch = Watch { settings, servers: Arc::new(servers), account: Arc::new(account) };
        let (answer, wait) = oneshot::channel();
        let new = Box::new(conduct::Rewatch {
            topology: watch.settings.topology.clone(),
            failover: watch.settings.failover.clone(),
            hands: watch.hands(&inner.input, &inner.shared, &inner.with.beats, &inner.with.relaxed),
        });
        let gone = || "the monitor has ended".to_owned();
        inner.calls.send(conduct::Call::Rewatch(new, answer)).await.map_err(|_| gone())?;
        wait.await.map_err(|_| gone())??;
        let mut watchers = inner.watchers.lock();
        watchers.go_on(watch, &inner.with);
        inner.poked.store(Arc::new(watchers.poked.clone()));
        Ok(())
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
        self.inner.stop();
    }
}

impl Inner {
    fn stop(&self) {
        self.watchers.lock().stop();
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}
