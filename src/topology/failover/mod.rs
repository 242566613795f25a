//! Failover as a machine: `step(event, now) -> actions`. It is not wired to servers yet.
//!
//! ```text
//! Idle -MasterLost-> Fencing -fenced, or out of time-> Draining -relay log applied, losses allowed-> Promoting -Promoted-> Idle (and repoint)
//!                       ^                                  |  out of time, refused: GiveUp                |
//!                       +-------- outcome unknown: the one we tried to promote is fenced in turn <--------+
//! ```
//!
//! What it holds, whatever is lost or late: `Promote` goes to one server at a time, and to another only after the first has been fenced or its fencing
//! has had its time; writes are released to a server only after it said that it is writable; a server that could not be fenced is fenced when it is
//! heard again, before anything else happens to it.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use super::candidate::{Candidate, best, losses};
use super::{GtidSet, ServerId};

/// How failover may act.
#[derive(Clone, Copy, Debug)]
pub struct FailoverSettings {
    /// How long statements may be held: then it gives up.
    pub hold_timeout: Duration,
    /// How long fencing, and how long a promotion may take each.
    pub step_timeout: Duration,
    /// Refuse when more transactions than this are known to be lost; `None` for any number.
    pub max_lost_transactions: Option<u64>,
    /// Replicas too, when no peer can.
    pub promote_replicas: bool,
}

/// What happens.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// The diagnosis lost the master. `had` is what it had at its last heartbeat.
    MasterLost {
        /// The lost one.
        master: ServerId,
        /// Its last known GTIDs.
        had: Option<GtidSet>,
    },
    /// That server confirmed that it is read-only, or its process is proven gone.
    Fenced(ServerId),
    /// Fresh positions of all servers that answer.
    Positions(Vec<Candidate>),
    /// That server confirmed that it is writable and replicates from nobody it should not.
    Promoted(ServerId),
    /// That server answers and says it is writable.
    HeardWritable(ServerId),
    /// Time has passed.
    Tick,
}

/// What to do. Every action may be lost, late, or done without its confirmation arriving.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// Hold new writes.
    Hold,
    /// Make it read-only and end its writers; answer with [`Event::Fenced`].
    Fence(ServerId),
    /// Ask all for their positions; answer with [`Event::Positions`].
    AskPositions,
    /// Point of no return. Make it writable; answer with [`Event::Promoted`].
    Promote(ServerId),
    /// Let it replicate from `to`.
    Repoint {
        /// Who.
        server: ServerId,
        /// From whom.
        to: ServerId,
    },
    /// Writes go to it now. `lost` names the transactions that are known to be lost, empty for none.
    Release {
        /// The new master.
        master: ServerId,
        /// GTIDs, as text.
        lost: String,
    },
    /// Statements are answered with this; nobody takes writes.
    GiveUp(String),
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Failover {
    settings: FailoverSettings,
    phase: Phase,
    /// Could not be fenced; must be as soon as they are heard.
    unfenced: Vec<ServerId>,
    /// The one writes were released to last.
    master: Option<ServerId>,
}

/// What one failover knows from its beginning to its end.
#[derive(Clone, Debug)]
struct Case {
    lost_master: ServerId,
    had: Option<GtidSet>,
    give_up_at: Instant,
    /// Who was tried in vain.
    failed: Vec<ServerId>,
}

#[derive(Clone, Debug)]
enum Phase {
    Idle,
    Fencing { case: Case, whom: ServerId, until: Instant },
    Draining { case: Case },
    Promoting { case: Case, whom: ServerId, until: Instant, lost: String, others: Vec<ServerId> },
}

impl Failover {
    /// Nothing to do yet; `master` takes the writes.
    pub fn new(settings: FailoverSettings, master: Option<ServerId>) -> Failover {
        Failover { settings, phase: Phase::Idle, unfenced: Vec::new(), master }
    }

    /// The word for events: where it stands.
    pub fn step_name(&self) -> &'static str {
        match self.phase {
            Phase::Idle => "idle",
            Phase::Fencing { .. } => "fence",
            Phase::Draining { .. } => "wait_for_relay_log",
            Phase::Promoting { .. } => "promote",
        }
    }

    /// Takes an event in, and says what to do.
    pub fn step(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Event::Fenced(server) = event {
            self.unfenced.retain(|other| *other != server);
        }
        if let Event::HeardWritable(server) = event {
            // Whoever is neither master nor being made master has no business being writable.
            let promoting = matches!(self.phase, Phase::Promoting { whom, .. } if whom == server);
            if self.unfenced.contains(&server) && self.master != Some(server) && !promoting {
                actions.push(Action::Fence(server));
            }
        }
        self.phase = match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle => self.idle(event, now, &mut actions),
            Phase::Fencing { case, whom, until } => self.fencing(case, whom, until, event, now, &mut actions),
            Phase::Draining { case } => self.draining(case, event, now, &mut actions),
            Phase::Promoting { case, whom, until, lost, others } => match event {
                Event::Promoted(server) if server == whom => {
                    self.unfenced.retain(|other| *other != whom);
                    self.master = Some(whom);
                    actions.push(Action::Release { master: whom, lost });
                    actions.extend(others.into_iter().map(|server| Action::Repoint { server, to: whom }));
                    Phase::Idle
                }
                // It may be writable by now or become so: it has to be fenced like a master before another is tried.
                _ if now >= until => {
                    let mut case = case;
                    case.failed.push(whom);
                    self.fence(case, whom, now, &mut actions)
                }
                _ => Phase::Promoting { case, whom, until, lost, others },
            },
        };
        actions
    }

    fn idle(&mut self, event: Event, now: Instant, actions: &mut Vec<Action>) -> Phase {
        match event {
            Event::MasterLost { master, had } if self.master == Some(master) => {
                self.master = None;
                actions.push(Action::Hold);
                let case = Case { lost_master: master, had, give_up_at: now + self.settings.hold_timeout, failed: Vec::new() };
                self.fence(case, master, now, actions)
            }
            _ => Phase::Idle,
        }
    }

    fn fence(&mut self, case: Case, whom: ServerId, now: Instant, actions: &mut Vec<Action>) -> Phase {
        if !self.unfenced.contains(&whom) {
            self.unfenced.push(whom);
        }
        actions.push(Action::Fence(whom));
        Phase::Fencing { case, whom, until: now + self.settings.step_timeout }
    }

    fn fencing(
        &mut self,
        case: Case,
        whom: ServerId,
        until: Instant,
        event: Event,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Phase {
        if now >= until || event == Event::Fenced(whom) {
            actions.push(Action::AskPositions);
            return Phase::Draining { case };
        }
        Phase::Fencing { case, whom, until }
    }

    fn draining(&mut self, case: Case, event: Event, now: Instant, actions: &mut Vec<Action>) -> Phase {
        if now >= case.give_up_at {
            actions.push(Action::GiveUp("no server could be promoted in time".to_owned()));
            return Phase::Idle;
        }
        let Event::Positions(candidates) = event else {
            if event == Event::Tick {
                actions.push(Action::AskPositions);
            }
            return Phase::Draining { case };
        };
        let usable: Vec<Candidate> =
            candidates.into_iter().filter(|c| c.id != case.lost_master && !case.failed.contains(&c.id)).collect();
        let Some(chosen) = best(&usable, self.settings.promote_replicas).filter(|c| c.is_drained()) else {
            return Phase::Draining { case };
        };
        let (lost, count) = losses(case.had.as_ref(), chosen).unwrap_or_default();
        if self.settings.max_lost_transactions.is_some_and(|max| count > max) {
            actions.push(Action::GiveUp(format!("promotion refused by max_lost_transactions: {lost} would be lost")));
            return Phase::Idle;
        }
        let others = usable.iter().map(|c| c.id).filter(|id| *id != chosen.id).collect();
        actions.push(Action::Promote(chosen.id));
        Phase::Promoting { whom: chosen.id, until: now + self.settings.step_timeout, lost, others, case }
    }
}
