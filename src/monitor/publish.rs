//! The one task that judges: takes in what all others saw, runs the diagnosis, publishes the snapshot, tells what changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::timeout;

use super::Report;
use crate::topology::{
    ChangeKind, Hold, KnownGtids, Memory, Moment, Observation, Override, ServerId, Settings, Snapshot, State, Witness, diagnose,
};

/// How many inputs may wait for the task; hints of the data path beyond that are dropped, everything else waits.
pub(super) const INPUTS_MAX: usize = 1024;
/// How many are taken into one diagnosis.
const BATCH_MAX: usize = 256;

/// What the task is told.
pub(super) enum Input {
    Seen(Observation),
    BeatWritten {
        number: u64,
        at: Instant,
    },
    BeatFailed {
        server: ServerId,
        at: Instant,
        why: String,
    },
    Override(ServerId, Override),
    /// Failover's word: no write to anybody. Answered when it is so.
    Hold(Hold, oneshot::Sender<()>),
    /// Failover's word: this one is master. Answered when it is so.
    Release(ServerId, oneshot::Sender<()>),
    /// `REJOIN SERVER`.
    Rejoin(ServerId, oneshot::Sender<()>),
    /// Whether failover decides who is master, and whether replicas may be.
    Steer {
        auto: bool,
        promote_replicas: bool,
    },
    Weight(ServerId, u32),
    /// The configuration was read again. Answered when the snapshot is judged by it.
    Settings {
        topology: Box<Settings>,
        auto: bool,
        done: oneshot::Sender<()>,
    },
    /// An event of the monitor itself.
    Note {
        kind: &'static str,
        server: Option<ServerId>,
        detail: String,
    },
}

impl Input {
    fn asked_by_monitor(&self) -> Option<(ServerId, Instant)> {
        match self {
            Input::Seen(seen) if seen.witness == Witness::Monitor => Some((seen.server, seen.asked_at)),
            _ => None,
        }
    }
}

pub(super) struct Publisher {
    pub settings: Settings,
    pub memory: Memory,
    pub shared: Arc<ArcSwap<Snapshot>>,
    pub known: Arc<KnownGtids>,
    pub epochs: watch::Sender<u64>,
    pub report: Arc<dyn Report>,
    pub input: mpsc::Receiver<Input>,
    /// Wakes failover after every snapshot.
    pub published: Arc<Notify>,
    /// When each server was last asked what the snapshot was judged by.
    pub asked: watch::Sender<Asked>,
    /// How often it has judged: it lives as long as this grows.
    pub rounds: Arc<AtomicU64>,
}

/// When each server was last asked, by its number.
pub(super) type Asked = Vec<Option<Instant>>;

impl Publisher {
    /// Runs until every sender is gone.
    pub(super) async fn run(mut self) {
        let mut inputs = Vec::new();
        let mut woke = Instant::now();
        loop {
            // Silence has no event of its own: judge anew at least this often.
            let tick = (self.settings.heartbeat_interval / 4).clamp(Duration::from_millis(10), Duration::from_millis(100));
            if let Ok(0) = timeout(tick, self.input.recv_many(&mut inputs, BATCH_MAX)).await {
                return;
            }
            let now = Moment { mono: Instant::now(), wall: SystemTime::now() };
            // We slept longer than a tick: this process, or its machine, stood still. What was not heard meanwhile was not silence.
            let overslept = now.mono.saturating_duration_since(woke).saturating_sub(tick);
            if overslept > self.settings.heartbeat_interval {
                self.memory.forgive_stall(overslept);
                self.report.report(
                    "stall",
                    None,
                    &format!("this process did not run for {} ms; no heartbeat counts as missed for it", overslept.as_millis()),
                );
            }
            woke = now.mono;
            let asked: Vec<(ServerId, Instant)> = inputs.iter().filter_map(Input::asked_by_monitor).collect();
            self.judge(&mut inputs, now);
            self.rounds.fetch_add(1, Ordering::Relaxed);
            self.asked.send_if_modified(|all| {
                for (server, at) in &asked {
                    all.resize(all.len().max(server.index() + 1), None);
                    all[server.index()] = all[server.index()].max(Some(*at));
                }
                !asked.is_empty()
            });
        }
    }

    fn judge(&mut self, inputs: &mut Vec<Input>, now: Moment) {
        let previous = self.shared.load_full();
        let mut seen = Vec::new();
        let mut done: Vec<oneshot::Sender<()>> = Vec::new();
        for input in inputs.drain(..) {
            match input {
                Input::Seen(observation) => {
                    if let Ok(facts) = &observation.outcome
                        && let Some(gtid) = &facts.gtid_executed
                    {
                        self.known.polled(observation.server, gtid.clone());
                    }
                    seen.push(observation);
                }
                Input::BeatWritten { number, at } => self.memory.beat_written(number, at),
                Input::BeatFailed { server, at, why } => self.memory.beat_failed(server, at, why),
                Input::Override(server, over) => self.memory.set_override(server, over),
                Input::Hold(hold, waits) => {
                    self.memory.hold(hold);
                    done.push(waits);
                }
                Input::Release(master, waits) => {
                    self.memory.release(master);
                    done.push(waits);
                }
                Input::Rejoin(server, waits) => {
                    self.memory.rejoin(server);
                    done.push(waits);
                }
                Input::Steer { auto, promote_replicas } => {
                    self.memory.steer(auto);
                    self.settings.promote_replicas = promote_replicas;
                }
                Input::Settings { topology, auto, done: waits } => {
                    self.memory.realign(&topology);
                    self.memory.steer(auto);
                    self.settings = *topology;
                    done.push(waits);
                }
                Input::Weight(server, weight) => self.memory.set_weight(server, weight),
                Input::Note { kind, server, detail } => {
                    let name = server.and_then(|id| previous.server(id)).map(|view| &*view.name);
                    self.report.report(kind, name, &detail);
                }
            }
        }
        let (mut next, changes) = diagnose(&self.settings, &previous, &mut self.memory, seen, now);
        for view in &mut next.servers {
            // The data path knows of more than the last heartbeat told. It is forgotten below, when the server is down.
            let last_words = view.state == State::Suspect || (view.state == State::Down && view.had.is_none());
            if last_words && view.flavor.is_some() {
                view.had = self.known.newest(view.id).map(Arc::new);
            }
        }
        if next == *previous {
            for waits in done {
                let _ = waits.send(());
            }
            return;
        }
        let epoch = next.epoch;
        let next = Arc::new(next);
        self.shared.store(next.clone());
        if epoch != previous.epoch {
            self.epochs.send_replace(epoch);
        }
        for waits in done {
            let _ = waits.send(());
        }
        self.published.notify_one();
        for change in &changes {
            if let (ChangeKind::State { to: State::Down, .. }, Some(id)) = (change.kind, change.server) {
                self.known.forget(id);
            }
            let name = change.server.and_then(|id| next.server(id)).map(|view| &*view.name);
            self.report.report(change.kind.as_str(), name, &change.detail);
        }
    }
}
