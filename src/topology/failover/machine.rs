//! The machine itself: which event goes to which phase, how a replacement begins and how it ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::diagnosis::Diagnosis;
use super::super::snapshot::{ServerView, Snapshot};
use super::super::{Facts, GtidSet, ServerId, State};
use super::case::{Case, CatchingUp, Kind, told};
use super::tend::Tending;
use super::{Action, Event, FailoverSettings, Mode, Outcome, Ticket, ms, since};

/// More automatic failovers than this within [`CALM`] are flapping: the next one waits until the oldest of them is older, or until a peer
/// stands ready.
pub const RECENT_MAX: usize = 5;
/// The same while a peer stands ready that has nothing of its own: what there was has healed, and to wait would only leave everybody
/// without a master. A server that crashes again and again behind a manager that starts it again comes to it.
pub const RECENT_MAX_READY: usize = 30;
/// See [`RECENT_MAX`].
pub const CALM: Duration = Duration::from_secs(60);
/// For how long a former master that becomes read-only does so because of us.
const OUR_FENCE: Duration = Duration::from_secs(60);
/// And for how long a fence may hang that nobody has heard of since.
const HANGING_FENCE: Duration = Duration::from_secs(600);
/// An action whose outcome does not come within this is taken for failed. Whoever carries it out gives up earlier.
pub const OUTCOME_LIMIT: Duration = Duration::from_secs(15);

/// See the module above.
#[derive(Clone, Debug)]
pub struct Machine {
    pub(super) settings: FailoverSettings,
    pub(super) phase: Phase,
    pub(super) seen: Arc<Snapshot>,
    /// The last server writes were released to, by us or by an election.
    pub(super) master: Option<ServerId>,
    pub(super) tending: Tending,
    tickets: Ticket,
    /// When the last automatic failovers ended.
    recent: VecDeque<Instant>,
    /// What an operator was advised to do last, so that it is said once.
    advised: Option<ServerId>,
    /// Flapping was told.
    damped: bool,
    /// The last master was seen dead: if it answers again and is read-only, nobody meant it to be.
    died: bool,
    /// How often the master had started when it was last seen as master.
    pub(super) restarts: u32,
    /// A master that cannot write is not asked about again before this.
    pub(super) blocked_again: Option<Instant>,
    /// Since when its commits have been waiting behind a large one.
    pub(super) committing_since: Option<Instant>,
    /// What the master's replicas had received when that grew last, and when it did.
    pub(super) heard: Option<(ServerId, GtidSet, Instant)>,
    /// The last fence sent to each server: it may be what makes it read-only later.
    fences: Vec<Fenced>,
}

/// A fence that was sent.
#[derive(Clone, Debug)]
struct Fenced {
    server: ServerId,
    ticket: Ticket,
    at: Instant,
    /// The server has said that it is read-only.
    done: bool,
}

impl Fenced {
    fn may_come(&self, now: Instant) -> bool {
        since(self.at, now) < if self.done { OUR_FENCE } else { HANGING_FENCE }
    }
}

/// Where it stands.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    Idle,
    /// Is it dead? `ticket` is `None` between two questions; the next is asked at `until`.
    Doubt {
        case: Case,
        ticket: Option<Ticket>,
        until: Instant,
    },
    /// Who can take over, and has it applied what it received?
    Collect {
        case: Case,
        ticket: Option<Ticket>,
        until: Instant,
        catching_up: Option<CatchingUp>,
    },
    /// A promotion was refused; it is thought over again at `until`.
    Refused {
        case: Case,
        until: Instant,
    },
    /// Point of no return.
    Promote {
        case: Case,
        ticket: Ticket,
        until: Instant,
        whom: ServerId,
        lost: String,
        others: Vec<ServerId>,
    },
    /// One that was to be promoted may be writable or not (`blamed`), or another is writable although it should not be: it is fenced.
    Undo {
        case: Case,
        ticket: Ticket,
        until: Instant,
        whom: ServerId,
        blamed: bool,
    },
    /// A switchover looks at all servers once more.
    Ask {
        case: Case,
        ticket: Ticket,
        until: Instant,
    },
    /// Open transactions end.
    Drain {
        case: Case,
        ticket: Ticket,
        until: Instant,
    },
    /// The old master becomes read-only.
    Demote {
        case: Case,
        ticket: Ticket,
        until: Instant,
    },
    /// The new one applies the rest.
    Follow {
        case: Case,
        ticket: Ticket,
        until: Instant,
    },
    /// The old master becomes writable again.
    Restore {
        case: Case,
        ticket: Ticket,
        until: Instant,
        why: String,
    },
}

impl Machine {
    /// Nothing seen, nothing to do.
    pub fn new(settings: FailoverSettings, seen: Arc<Snapshot>) -> Machine {
        let master = seen.master;
        Machine {
            settings,
            phase: Phase::Idle,
            seen,
            master,
            tending: Tending::default(),
            tickets: 0,
            recent: VecDeque::new(),
            advised: None,
            damped: false,
            died: false,
            restarts: 0,
            blocked_again: None,
            committing_since: None,
            heard: None,
            fences: Vec::new(),
        }
    }

    /// The word for where it stands.
    pub fn phase_name(&self) -> &'static str {
        match &self.phase {
            Phase::Idle => "idle",
            Phase::Doubt { .. } => "second_opinion",
            Phase::Collect { .. } => "collect",
            Phase::Refused { .. } => "refused",
            Phase::Promote { .. } => "promote",
            Phase::Undo { .. } => "undo",
            Phase::Ask { .. } => "ask",
            Phase::Drain { .. } => "drain",
            Phase::Demote { .. } => "fence",
            Phase::Follow { .. } => "apply",
            Phase::Restore { .. } => "restore",
        }
    }

    /// Whether it may ever touch a server.
    pub fn acts(&self) -> bool {
        self.settings.mode != Mode::Off
    }

    /// Whether it touches servers in peace.
    pub fn tends(&self) -> bool {
        self.settings.mode == Mode::Auto
    }

    /// What `RELOAD CONFIG` changed.
    pub fn configure(&mut self, settings: FailoverSettings) {
        self.settings = settings;
    }

    /// Takes an event in, and says what to do. The caller carries the actions out in order.
    pub fn step(&mut self, event: Event, now: Instant) -> Vec<Action> {
        if let Event::Done(of, Outcome::Acted(Ok(_))) = &event {
            for fenced in self.fences.iter_mut().filter(|fenced| fenced.ticket == *of) {
                (fenced.done, fenced.at) = (true, now);
            }
        }
        let actions = self.take(event, now);
        for action in &actions {
            if let Action::Fence { ticket, server, .. } = action {
                self.fences.retain(|fenced| fenced.server != *server);
                self.fences.push(Fenced { server: *server, ticket: *ticket, at: now, done: false });
            }
        }
        actions
    }

    fn take(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Event::Seen(snapshot) = &event {
            let before = self.seen.clone();
            self.seen = snapshot.clone();
            self.listen(now);
            self.note_restarts(&before, now);
            self.note_stopped(now);
        }
        if let Event::Done(ticket, outcome) = &event {
            self.tended(*ticket, outcome, now, &mut actions);
        }
        if let Event::Order(id, order) = event {
            self.order(id, order, now, &mut actions);
            return actions;
        }
        if self.settings.mode == Mode::Off {
            self.stand_down(now, &mut actions);
        }
        self.phase = match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle => {
                self.idle(now, &mut actions);
                return actions;
            }
            Phase::Doubt { case, ticket, until } => self.doubt(case, ticket, until, &event, now, &mut actions),
            Phase::Collect { case, ticket, until, catching_up } => {
                self.collect(case, ticket, until, catching_up, &event, now, &mut actions)
            }
            Phase::Refused { case, until } if now >= until => self.ask_candidates(case, None, now, &mut actions),
            Phase::Refused { case, until } => Phase::Refused { case, until },
            Phase::Promote { case, ticket, until, whom, lost, others } => match outcome_of(&event, ticket, until, now) {
                Some(Ok(facts)) if facts.writable() => self.promoted(case, whom, lost, others, now, &mut actions),
                Some(Ok(_)) => self.undo(case, whom, "it says that it is still read-only".to_owned(), now, &mut actions),
                Some(Err(why)) => self.undo(case, whom, why, now, &mut actions),
                None => Phase::Promote { case, ticket, until, whom, lost, others },
            },
            Phase::Undo { case, ticket, until, whom, blamed } => {
                self.undone(case, ticket, until, (whom, blamed), &event, now, &mut actions)
            }
            phase => self.planned(phase, &event, now, &mut actions),
        };
        actions
    }

    /// The newest ticket.
    #[cfg(test)]
    pub(super) fn last_ticket(&self) -> Ticket {
        self.tickets
    }

    /// A new ticket.
    pub(super) fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        self.tickets
    }

    /// A server's view.
    pub(super) fn view(&self, id: ServerId) -> Option<&ServerView> {
        self.seen.server(id)
    }

    /// What a server is known to have had.
    pub(super) fn had(&self, id: ServerId) -> Option<GtidSet> {
        let view = self.view(id)?;
        let set = view.had.as_deref().or(view.gtid.as_deref()).cloned()?;
        Some(self.seen.followable(view.facts.as_deref().into_iter(), set))
    }

    /// A server's name in the file.
    pub(super) fn name(&self, id: ServerId) -> String {
        self.view(id).map_or_else(|| "?".to_owned(), |view| view.name.to_string())
    }

    fn idle(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let Some(master) = self.seen.master {
            self.master = Some(master);
            self.advised = None;
        }
        let restarts = |view: &ServerView| view.facts.as_ref().map_or(0, |facts| facts.restarts);
        if let Some(view) = self.seen.writer() {
            self.restarts = restarts(view);
            self.died = false;
        } else if let Some(view) = self.master.and_then(|old| self.seen.server(old)) {
            self.died |= matches!(view.state, State::Down | State::Suspect) || restarts(view) != self.restarts;
        }
        match self.trouble(now) {
            None if self.is_blocked(now).is_some() => self.doubt_writes(now, actions),
            None => {
                if !self.seen.standing.iter().any(|one| one.diagnosis == Diagnosis::MasterWritesBlocked) {
                    self.committing_since = None;
                }
                self.tend(now, actions);
            }
            Some((old, why)) if self.settings.mode == Mode::Auto => {
                while self.recent.front().is_some_and(|at| since(*at, now) > CALM) {
                    self.recent.pop_front();
                    self.damped = false;
                }
                let most = if self.stands_ready(old) { RECENT_MAX_READY } else { RECENT_MAX };
                if self.recent.len() >= most {
                    if !std::mem::replace(&mut self.damped, true) {
                        let detail = format!(
                            "{} failovers within {} s: the next one waits until it is calmer, or for FAILOVER TO; {why}",
                            self.recent.len(),
                            CALM.as_secs()
                        );
                        actions.push(Action::Tell { kind: "failover_damped", server: old, detail });
                    }
                    return;
                }
                self.phase = self.begin_failover(old, why, now, actions);
            }
            Some((old, why)) if self.settings.mode == Mode::Manual && self.advised != old => {
                self.advised = old;
                let detail =
                    format!("{why}; failover.mode is \"manual\": FAILOVER TO one of the others on the admin port replaces it");
                actions.push(Action::Tell { kind: "failover_advised", server: old, detail });
            }
            Some(_) => {}
        }
    }

    /// Is there no master that answers, and whom was it?
    fn trouble(&self, now: Instant) -> Option<(Option<ServerId>, String)> {
        if let Some(old) = self.seen.master {
            let view = self.view(old)?;
            return matches!(view.state, State::Suspect | State::Down).then(|| (Some(old), view.reason.to_string()));
        }
        let why = self.seen.no_master.as_ref()?;
        let detail = why.detail.to_string();
        match (self.master, why.diagnosis) {
            (_, Diagnosis::Starting | Diagnosis::NoPeerConfigured | Diagnosis::MasterTakenOut) => None,
            // An operator, or another proxy, made it read-only: whoever is writable instead is adopted, and nobody promoted.
            (Some(old), _)
                if !self.died && self.view(old).is_some_and(|view| !matches!(view.state, State::Down | State::Suspect)) =>
            {
                let late = |fenced: &Fenced| fenced.server == old && fenced.may_come(now);
                let ours = self.fences.iter().any(late) || self.has_fenced_the_next(now);
                let late = ours.then(|| (Some(old), format!("a fence of ours has left nobody writable; {detail}")));
                self.adoptable().map(|id| (None, format!("{} is writable, {detail}", self.name(id)))).or(late)
            }
            (Some(old), _) => Some((Some(old), detail)),
            // Right after the start: whoever most others replicate from was it, if it does not answer.
            (None, _) => Some((self.orphans_source(), detail)),
        }
    }

    /// The only one that is writable of the peers, and the last master where that is a replica.
    pub(super) fn adoptable(&self) -> Option<ServerId> {
        let mut writable = self.seen.servers.iter().filter(|view| {
            !matches!(view.state, State::Down | State::Offline | State::Quarantined)
                && view.facts.as_ref().is_some_and(|facts| facts.writable())
                && (view.configured_role == super::super::ConfiguredRole::Master || self.master == Some(view.id))
        });
        match (writable.next(), writable.next()) {
            (Some(one), None) => Some(one.id),
            _ => None,
        }
    }

    /// The silent server that others replicate from.
    fn orphans_source(&self) -> Option<ServerId> {
        let dead = self.seen.servers.iter().filter(|view| view.state == State::Down && self.followers(view.id) > 0);
        dead.max_by_key(|view| self.followers(view.id)).map(|view| view.id)
    }

    /// How many servers replicate from this one, or try to.
    pub(super) fn followers(&self, id: ServerId) -> usize {
        self.seen.servers.iter().filter(|view| self.seen.channel(view.id, id).is_some()).count()
    }

    pub(super) fn begin_failover(&mut self, old: Option<ServerId>, why: String, now: Instant, actions: &mut Vec<Action>) -> Phase {
        let mut case = Case::new(Kind::Failover, old, why.clone(), now);
        case.had = old.and_then(|id| self.had(id));
        case.stale = self.tending.stale(now);
        self.hold_for(&mut case, why, now, actions);
        match old {
            Some(_) => self.ask_about(case, now, actions),
            None => self.ask_candidates(case, None, now, actions),
        }
    }

    /// The old master answers and is writable: nothing was changed, it goes on.
    pub(super) fn call_off(&mut self, case: Case, master: ServerId, why: &str, now: Instant, actions: &mut Vec<Action>) -> Phase {
        if case.held {
            actions.push(Action::Release(master));
        }
        let took = ms(since(case.began, now));
        let detail = format!("called off after {took} ms: {} {why}", self.name(master));
        actions.push(Action::Tell { kind: case.kind.as_str(), server: Some(master), detail: detail.clone() });
        if let Some(order) = case.order {
            actions.push(Action::Reply(order, Err(detail)));
        }
        // A peer that is writable beside it is fenced; a replica only where it was master.
        if let Some(old) = self.master.filter(|old| {
            *old != master && self.view(*old).is_some_and(|v| v.configured_role == super::super::ConfiguredRole::Replica)
        }) {
            self.tending.depose(old);
        }
        self.master = Some(master);
        Phase::Idle
    }

    /// The new master is writable: writes go there, and everybody follows it.
    pub(super) fn promoted(
        &mut self,
        mut case: Case,
        whom: ServerId,
        lost: String,
        others: Vec<ServerId>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Phase {
        actions.push(Action::Release(whom));
        actions.extend(case.note("promote", Some(whom), "it is writable", now));
        self.master = Some(whom);
        self.tending.promoted(whom, now);
        if let Some(old) = case.old.filter(|old| *old != whom) {
            self.tending.depose(old);
        }
        if let Some(old) = case.old {
            // Who followed the old master and does not answer now is re-pointed when it is back.
            let ids = self.settings.topology.ids().map(|(id, _)| id);
            let silent: Vec<ServerId> =
                ids.filter(|id| *id != whom && !others.contains(id) && self.seen.channel(*id, old).is_some()).collect();
            for server in silent {
                self.tending.adrift(server);
            }
        }
        for server in others {
            self.repoint(server, whom, case.old, now, actions);
        }
        let took = since(case.began, now);
        let loss = match (case.kind, lost.as_str()) {
            (Kind::Switchover, _) => String::new(),
            (_, "") => "; nothing is known to be lost".to_owned(),
            (_, lost) => {
                format!("; lost with {}: {lost}", case.old.map_or_else(|| "the old master".to_owned(), |old| self.name(old)))
            }
        };
        let done = case.done("release", Some(whom), format!("writes go to {} after {} ms{loss}", self.name(whom), ms(took)), now);
        actions.push(told(case.kind, &done));
        actions.push(Action::Count { kind: case.kind, result: "ok", took: Some(took) });
        if case.kind == Kind::Failover && case.order.is_none() {
            self.recent.push_back(now);
        }
        if let Some(order) = case.order {
            actions.push(Action::Reply(order, Ok(case.steps)));
        }
        Phase::Idle
    }
}

/// The outcome of the action this phase waits for; an error when its time is over.
pub(super) fn outcome_of(event: &Event, ticket: Ticket, until: Instant, now: Instant) -> Option<Result<Box<Facts>, String>> {
    match event {
        Event::Done(of, Outcome::Acted(result)) if *of == ticket => Some(result.clone()),
        _ if now >= until => Some(Err("no outcome in time".to_owned())),
        _ => None,
    }
}
