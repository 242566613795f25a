//! The task that replaces masters: feeds the failover machine, carries out what it says, and tells what came of it.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::Report;
use super::hands::Hands;
use super::publish::Input;
use crate::topology::failover::{
    Action, Event, FailoverSettings, Machine, Mode, Order, OrderId, Outcome, StepDone, Ticket, Writes,
};
use crate::topology::{Facts, Hold, ServerId, Settings, Snapshot};

/// Outcomes and commands that may wait for the task.
pub(super) const CALLS_MAX: usize = 64;
/// Time passes for the machine this often while something is under way.
const TICK_BUSY: Duration = Duration::from_millis(5);
/// And this often in peace.
const TICK_IDLE: Duration = Duration::from_millis(50);
/// While open transactions are waited for, they are counted this often.
const COUNT_EVERY: Duration = Duration::from_millis(1);
/// Connections for commands are looked after this often.
const WARM_EVERY: Duration = Duration::from_secs(5);

/// What the proxy's clients do at a server; the frontend knows.
pub trait Traffic: Send + Sync + 'static {
    /// How many clients have something open there that has to end before the server may become read-only: a statement that runs, a transaction, a
    /// table lock.
    fn open_on(&self, server: ServerId) -> usize;
    /// Who of our clients holds `FLUSH TABLES WITH READ LOCK` or its like there, so that nothing can be written by their own will.
    fn locks(&self, server: ServerId) -> Option<String>;
    /// Closes the connections clients have there. What is open is rolled back, and they are told.
    fn end(&self, server: ServerId);
}

/// What the task is told from outside.
pub(super) enum Call {
    Order(Order, oneshot::Sender<Result<Vec<StepDone>, String>>),
    Configure(FailoverSettings),
    Rewatch(Box<Rewatch>, oneshot::Sender<Result<(), String>>),
}

/// The configuration was read again, and the servers or how they are watched differ.
pub(super) struct Rewatch {
    pub topology: Settings,
    pub failover: FailoverSettings,
    pub hands: Arc<Hands>,
}

pub(super) struct Conductor {
    pub machine: Machine,
    pub hands: Arc<Hands>,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// A snapshot was published.
    pub published: Arc<Notify>,
    pub calls: mpsc::Receiver<Call>,
    pub input: mpsc::Sender<Input>,
    pub report: Arc<dyn Report>,
    pub traffic: Arc<OnceLock<Arc<dyn Traffic>>>,
}

struct Asked {
    id: OrderId,
    answer: oneshot::Sender<Result<Vec<StepDone>, String>>,
}

impl Conductor {
    /// Runs until nobody can give it commands any more.
    pub(super) async fn run(mut self) {
        let (done, mut outcomes) = mpsc::channel::<(Ticket, Outcome)>(CALLS_MAX);
        let mut asked: Vec<Asked> = Vec::new();
        let mut orders: OrderId = 0;
        let mut warmed: Option<Instant> = None;
        loop {
            if self.machine.acts() && warmed.is_none_or(|at: Instant| at.elapsed() > WARM_EVERY) {
                warmed = Some(Instant::now());
                tokio::spawn(self.hands.clone().warm());
                if self.machine.phase_name() == "idle" && self.machine.tends() {
                    tokio::spawn(self.hands.clone().find_relaxed(self.report.clone()));
                }
            }
            let tick = if self.machine.phase_name() == "idle" { TICK_IDLE } else { TICK_BUSY };
            let event = tokio::select! {
                biased;
                call = self.calls.recv() => match call {
                    None => return,
                    Some(Call::Configure(settings)) => {
                        self.machine.configure(settings);
                        Event::Tick
                    }
                    Some(Call::Rewatch(new, answer)) => {
                        let _ = answer.send(self.rewatch(*new).await);
                        Event::Tick
                    }
                    Some(Call::Order(order, answer)) => {
                        orders += 1;
                        asked.push(Asked { id: orders, answer });
                        Event::Order(orders, order)
                    }
                },
                Some((ticket, outcome)) = outcomes.recv() => Event::Done(ticket, outcome),
                () = self.published.notified() => Event::Seen(self.snapshot.load_full()),
                () = sleep(tick) => Event::Tick,
            };
            // What was published since the machine saw it last, before anything is decided.
            let fresh = Event::Seen(self.snapshot.load_full());
            let mut actions = self.machine.step(fresh, Instant::now());
            if !matches!(event, Event::Seen(_)) {
                actions.extend(self.machine.step(event, Instant::now()));
            }
            for action in actions {
                self.carry_out(action, &done, &mut asked).await;
            }
            if self.machine.phase_name() == "idle" {
                self.hands.wait_again(&self.report);
            }
        }
    }

    /// Between two replacements only: what is under way counts on the servers it began with. The snapshot has all servers before the machine hears of
    /// the new ones.
    async fn rewatch(&mut self, new: Rewatch) -> Result<(), String> {
        let phase = self.machine.phase_name();
        if phase != "idle" {
            return Err(format!(
                "the master is being replaced ({phase}); SHOW EVENTS tells how far that is: reload again after it"
            ));
        }
        let (auto, topology) = (new.failover.mode == Mode::Auto, Box::new(new.topology));
        self.publish(|done| Input::Settings { topology, auto, done }).await;
        self.machine.configure(new.failover);
        self.hands = new.hands;
        Ok(())
    }

    /// Has the publisher do something, and waits until it has.
    async fn publish(&self, input: impl FnOnce(oneshot::Sender<()>) -> Input) {
        let (done, wait) = oneshot::channel();
        if self.input.send(input(done)).await.is_ok() {
            let _ = wait.await;
        }
    }

    async fn carry_out(&mut self, action: Action, done: &mpsc::Sender<(Ticket, Outcome)>, asked: &mut Vec<Asked>) {
        let hands = self.hands.clone();
        match action {
            Action::Hold { why, deposed } => {
                let hold = Hold { why: why.into(), deposed };
                self.publish(|done| Input::Hold(hold, done)).await;
            }
            Action::Release(master) => self.publish(|done| Input::Release(master, done)).await,
            Action::Accept(server) => self.publish(|done| Input::Rejoin(server, done)).await,
            Action::Ask { ticket, unless, probe, spare, write } => {
                let (done, traffic) = (done.clone(), self.traffic.clone());
                tokio::spawn(async move {
                    let mut outcome = hands.ask_all(unless, probe, spare, write).await;
                    if let (Outcome::Answers { writes, .. }, Some(server)) = (&mut outcome, write)
                        && matches!(writes, Writes::Blocked(_))
                        && let Some(why) = traffic.get().and_then(|traffic| traffic.locks(server))
                    {
                        *writes = Writes::Locked(why);
                    }
                    done.send((ticket, outcome)).await
                });
            }
            Action::AwaitOpen { ticket, server, limit } => {
                let (done, traffic) = (done.clone(), self.traffic.clone());
                tokio::spawn(async move {
                    let open = || traffic.get().map_or(0, |traffic| traffic.open_on(server));
                    let until = Instant::now() + limit;
                    while open() > 0 && Instant::now() < until {
                        sleep(COUNT_EVERY).await;
                    }
                    done.send((ticket, Outcome::Open(open()))).await
                });
            }
            Action::EndOpen(server) => {
                if let Some(traffic) = self.traffic.get() {
                    traffic.end(server);
                }
            }
            Action::Fence { ticket, server, kill } => spawn(ticket, done, hands.fence(server, kill)),
            Action::Follow { ticket, server, like, limit } => spawn(ticket, done, hands.follow(server, like, limit)),
            Action::Promote { ticket, server, stop_from, as_it_is } => {
                spawn(ticket, done, hands.promote(server, stop_from, as_it_is))
            }
            Action::Repoint { ticket, server, to, instead_of, demoted } => {
                spawn(ticket, done, hands.repoint(server, to, instead_of, demoted));
            }
            Action::LetCommit(server) => {
                tokio::spawn(hands.let_commit(server, self.report.clone()));
            }
            Action::Receiver { ticket, server, from, on } => spawn(ticket, done, hands.receiver(server, from, on)),
            Action::Tell { kind, server, detail } => {
                let snapshot = self.snapshot.load();
                let name = server.and_then(|id| snapshot.server(id)).map(|view| &*view.name);
                self.report.report(kind, name, &detail);
            }
            Action::Count { kind, result, took } => self.report.replaced(kind.as_str(), result, took),
            Action::Reply(id, result) => {
                if let Some(at) = asked.iter().position(|asked| asked.id == id) {
                    let _ = asked.remove(at).answer.send(result);
                }
            }
        }
    }
}

/// How long an action may take before it counts as failed, whatever it is doing.
const SPAWN_LIMIT: Duration = Duration::from_secs(12);

/// Does it beside the task, and hands in what came of it.
fn spawn(
    ticket: Ticket,
    done: &mpsc::Sender<(Ticket, Outcome)>,
    work: impl Future<Output = Result<Box<Facts>, String>> + Send + 'static,
) {
    let done = done.clone();
    tokio::spawn(async move {
        let result = timeout(SPAWN_LIMIT, work).await.unwrap_or_else(|_| Err("no end in time".to_owned()));
        done.send((ticket, Outcome::Acted(result))).await
    });
}
