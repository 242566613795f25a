//! One replacement of the master from its beginning to its end: who, why, and what was done when.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::super::{GtidSet, ServerId};
use super::{Action, OrderId, Ticket, ms, since};

/// A step that ends again as it has ended before is told again after this.
const TOLD_AGAIN: Duration = Duration::from_secs(300);
/// So many steps are remembered as told; the oldest is forgotten.
const TOLD_MAX: usize = 64;

/// What kind of replacement, also the event's kind and the metric's label.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// The master is dead.
    Failover,
    /// It lives and hands over.
    Switchover,
    /// A former master comes back.
    Rejoin,
}

impl Kind {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Failover => "failover",
            Kind::Switchover => "switchover",
            Kind::Rejoin => "rejoin",
        }
    }
}

/// A step that has ended (or, in a dry run, would be taken).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepDone {
    /// Its name: `hold`, `second_opinion`, `drain`, `fence`, `apply`, `catch_up`, `promote`, `repoint`, `release`.
    pub step: &'static str,
    /// The server it concerns.
    pub server: Option<ServerId>,
    /// How long it took, or would take at most.
    pub took: Duration,
    /// What came of it.
    pub detail: String,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Case {
    /// What kind.
    pub kind: Kind,
    /// The master that is replaced; `None` when there has been none since the start.
    pub old: Option<ServerId>,
    /// What it had at its last heartbeat.
    pub had: Option<GtidSet>,
    /// Whose receiver had not run for a minute and more while the old master lived: what it lacks is not only what was on its way.
    pub stale: Vec<ServerId>,
    /// Why.
    pub why: String,
    /// Since when writes are held.
    pub began: Instant,
    /// Whom an operator wants.
    pub target: Option<ServerId>,
    /// Losses do not matter, nor whether others hear from the old one.
    pub force: bool,
    /// Who asked.
    pub order: Option<OrderId>,
    /// Who was tried in vain.
    pub failed: Vec<ServerId>,
    /// Whose commits were let go, see [`Action::LetCommit`](super::Action::LetCommit).
    pub let_commit: Vec<ServerId>,
    /// How often it was tried to catch up from another survivor.
    pub catch_ups: u32,
    /// Catching up from another survivor did not succeed: what is missing is lost.
    pub no_catch_up: bool,
    /// What who takes over had when that was begun last.
    pub fetched_from: Option<GtidSet>,
    /// Who was waited for until it had applied what it had received.
    pub waited: Vec<Waited>,
    /// Other survivors that apply nothing: what they have not applied counts as lost.
    pub no_wait: Vec<ServerId>,
    /// Whom an operator wants by force applies nothing of what it has received: that is lost.
    pub stands_still: Option<ServerId>,
    /// What has been done.
    pub steps: Vec<StepDone>,
    /// When a step was told last. What fails is tried again several times a second, for as long as it takes.
    pub(super) told_at: VecDeque<(StepDone, Instant)>,
    /// When the running step began.
    pub step_began: Instant,
    /// What was told last while it waits, so that it is told once.
    pub told: String,
    /// Writes are held for it.
    pub held: bool,
    /// The old master answers and cannot write: it may not be chosen, and need not be fenced first.
    pub blocked: bool,
    /// The old master answers and does not become read-only, and an operator has ordered the failover by force: it is not waited for.
    pub unfenced: bool,
    /// Until when its peer may fetch the rest from it; `None` before that has begun.
    pub rest_until: Option<Instant>,
    /// How often a promotion that failed was fenced in vain.
    pub fences: u32,
    /// It is not waited for any longer: the rest is lost.
    pub no_rest: bool,
    /// The replicas of a master out of our reach were told to connect to it anew, and did.
    pub probed: bool,
    /// What they have of it, and since when that has not grown.
    pub heard: Option<(GtidSet, Instant)>,
    /// When everybody was asked about the old master last: answers are not younger.
    pub asked: Instant,
    /// Who was spared connecting to it anew, see [`spared`](super::spared).
    pub spare: Vec<ServerId>,
    /// Nobody but those said that it hears from it, and [`Case::heard`] is what they had when they were asked.
    pub only_spared: bool,
}

/// A survivor that applies what it has received, so that it can take over or send it.
#[derive(Clone, PartialEq, Debug)]
pub struct Waited {
    /// Who.
    pub server: ServerId,
    /// What it had received when that began.
    pub received: GtidSet,
    /// How much of it was left when it was last seen to go on.
    pub left: u64,
    /// Until when it may apply nothing.
    pub until: Instant,
}

/// The candidate fetches from another survivor what that one has more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct CatchingUp {
    pub whom: ServerId,
    pub from: ServerId,
    pub ticket: Option<Ticket>,
    /// What was asked before that had been begun.
    pub early: Option<Ticket>,
    pub until: Instant,
}

impl Case {
    /// A new one, at its first step.
    pub fn new(kind: Kind, old: Option<ServerId>, why: String, now: Instant) -> Case {
        Case {
            kind,
            old,
            had: None,
            stale: Vec::new(),
            why,
            began: now,
            target: None,
            force: false,
            order: None,
            failed: Vec::new(),
            let_commit: Vec::new(),
            catch_ups: 0,
            no_catch_up: false,
            fetched_from: None,
            waited: Vec::new(),
            no_wait: Vec::new(),
            steps: Vec::new(),
            told_at: VecDeque::new(),
            step_began: now,
            told: String::new(),
            held: false,
            stands_still: None,
            blocked: false,
            unfenced: false,
            rest_until: None,
            fences: 0,
            no_rest: false,
            probed: false,
            heard: None,
            asked: now,
            spare: Vec::new(),
            only_spared: false,
        }
    }

    /// The running step has ended; the next begins.
    pub fn done(&mut self, step: &'static str, server: Option<ServerId>, detail: impl Into<String>, now: Instant) -> StepDone {
        let took = super::since(self.step_began, now);
        self.step_began = now;
        let done = StepDone { step, server, took, detail: detail.into() };
        self.steps.push(done.clone());
        done
    }

    /// A step has ended: an event that says how long it took. `None` for what was told a moment ago.
    pub(super) fn note(
        &mut self,
        step: &'static str,
        server: Option<ServerId>,
        detail: impl Into<String>,
        now: Instant,
    ) -> Option<Action> {
        let detail = detail.into();
        let alike = |(other, _): &(StepDone, Instant)| other.step == step && other.server == server && other.detail == detail;
        if let Some(at) = self.told_at.iter().position(alike) {
            if self.told_at.get(at).is_some_and(|(_, told)| since(*told, now) < TOLD_AGAIN) {
                self.step_began = now;
                return None;
            }
            self.told_at.remove(at);
        }
        if self.told_at.len() >= TOLD_MAX {
            self.told_at.pop_front();
        }
        let done = self.done(step, server, detail, now);
        self.told_at.push_back((done.clone(), now));
        Some(told(self.kind, &done))
    }
}

/// The event that tells of a step.
pub(super) fn told(kind: Kind, done: &StepDone) -> Action {
    let detail = format!("{} took {} ms: {}", done.step, ms(done.took), done.detail);
    Action::Tell { kind: kind.as_str(), server: done.server, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Harm: an account that may not promote filled SHOW EVENTS with three events at each try, four times a second.
    #[test]
    fn what_fails_again_as_before_is_told_once() {
        let begin = Instant::now();
        let mut case = Case::new(Kind::Failover, None, String::new(), begin);
        let mut told = Vec::new();
        for n in 0..1500_u32 {
            let now = begin + Duration::from_millis(250) * n;
            for (step, why) in
                [("promote", "failed: 1227"), ("fence", if n < 1000 { "out of reach: 1227" } else { "it is read-only" })]
            {
                told.extend(case.note(step, None, why, now).map(|_| (step, n)));
            }
        }
        assert_eq!(told, [("promote", 0), ("fence", 0), ("fence", 1000), ("promote", 1200)]);
        assert_eq!(case.steps.len(), told.len());
        for n in 0..1000_u32 {
            case.note("apply", None, n.to_string(), begin);
        }
        assert_eq!(case.told_at.len(), TOLD_MAX);
    }
}
