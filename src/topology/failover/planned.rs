//! The switchover: the master lives and hands over, and no client sees an error.

use std::time::{Duration, Instant};

use super::super::snapshot::ServerView;
use super::super::{ConfiguredRole, ServerId, State};
use super::case::{Case, Kind};
use super::machine::{Machine, OUTCOME_LIMIT, Phase, outcome_of};
use super::{Action, Event, OrderId, Outcome, ms, since};

/// Open transactions get this long to end, or half of `hold_timeout` where that is less: statements are held meanwhile.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// The new master gets this long to apply the rest, or a quarter of `hold_timeout`.
pub const FOLLOW_LIMIT: Duration = Duration::from_secs(5);

/// So many transactions are applied in no time.
const NEARLY_NOTHING: u64 = 50;
/// A target that is further behind than that gets this long to come nearer before writes are held.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(2);

impl Machine {
    pub(super) fn drain_limit(&self) -> Duration {
        DRAIN_LIMIT.min(self.settings.hold_timeout / 2)
    }

    pub(super) fn follow_limit(&self) -> Duration {
        FOLLOW_LIMIT.min(self.settings.hold_timeout / 4)
    }

    pub(super) fn begin_switchover(&mut self, order: OrderId, to: ServerId, now: Instant, actions: &mut Vec<Action>) {
        let old = self.seen.master;
        let mut case = Case::new(Kind::Switchover, old, "an operator's SWITCHOVER".to_owned(), now);
        case.order = Some(order);
        case.target = Some(to);
        let detail = format!("to {}, by an operator", self.name(to));
        actions.push(Action::Tell { kind: "switchover", server: old, detail });
        let ticket = self.ticket();
        actions.push(Action::Ask { ticket, unless: None, probe: None, spare: Vec::new(), write: None });
        self.phase = Phase::Ask { case, ticket, until: now + OUTCOME_LIMIT };
    }

    pub(super) fn planned(&mut self, phase: Phase, event: &Event, now: Instant, actions: &mut Vec<Action>) -> Phase {
        let phase = self.dies_meanwhile(phase, now, actions);
        match phase {
            Phase::Ask { case, ticket, until } => match event {
                Event::Done(of, Outcome::Answers { answers, .. }) if *of == ticket => {
                    let (Some(old), Some(to)) = (case.old, case.target) else {
                        return self.give_up(case, "no target", now, actions);
                    };
                    let said =
                        |id: ServerId| answers.iter().find(|(of, _)| *of == id).and_then(|(_, outcome)| outcome.as_ref().ok());
                    let why = match (said(old), said(to)) {
                        (Some(facts), _) if !facts.writable() => "the master is read-only now",
                        (None, _) => "the master does not answer",
                        (_, None) => "it does not answer",
                        // Back from the dead, and not made read-only yet.
                        (_, Some(facts)) if facts.writable() => "it is writable itself, which a standby must not be",
                        // Nothing is held yet: what it is behind by now, writes need not wait for later.
                        (Some(facts), Some(target))
                            if self.seen.followable([facts].into_iter(), facts.applied()).missing_count(&target.applied())
                                > NEARLY_NOTHING
                                && since(case.began, now) < CATCH_UP_PATIENCE =>
                        {
                            let ticket = self.ticket();
                            actions.push(Action::Ask { ticket, unless: None, probe: None, spare: Vec::new(), write: None });
                            return Phase::Ask { case, ticket, until: now + OUTCOME_LIMIT };
                        }
                        _ => return self.drain(case, old, now, actions),
                    };
                    self.give_up(case, why, now, actions)
                }
                _ if now >= until => self.give_up(case, "the servers do not answer in time", now, actions),
                _ => Phase::Ask { case, ticket, until },
            },
            Phase::Drain { mut case, ticket, until } => {
                let open = match event {
                    Event::Done(of, Outcome::Open(open)) if *of == ticket => *open,
                    _ if now >= until => 0,
                    _ => return Phase::Drain { case, ticket, until },
                };
                let Some(old) = case.old else { return self.give_up(case, "no master", now, actions) };
                let detail = match open {
                    0 => "no transaction is open".to_owned(),
                    n => format!("{n} transactions did not end within {} ms and are rolled back", ms(self.drain_limit())),
                };
                actions.extend(case.note("drain", Some(old), detail, now));
                if open > 0 {
                    actions.push(Action::EndOpen(old));
                }
                let ticket = self.ticket();
                actions.push(Action::Fence { ticket, server: old, kill: true });
                Phase::Demote { case, ticket, until: now + OUTCOME_LIMIT }
            }
            Phase::Demote { mut case, ticket, until } => {
                let (Some(old), Some(to)) = (case.old, case.target) else { return self.give_up(case, "no target", now, actions) };
                match outcome_of(event, ticket, until, now) {
                    None => Phase::Demote { case, ticket, until },
                    Some(Ok(facts)) => {
                        actions.extend(case.note("fence", Some(old), "it is read-only", now));
                        let (ticket, limit) = (self.ticket(), self.follow_limit());
                        actions.push(Action::Follow { ticket, server: to, like: facts, limit });
                        Phase::Follow { case, ticket, until: now + OUTCOME_LIMIT }
                    }
                    Some(Err(why)) => {
                        let why = format!("it did not become read-only: {why}; SHOW PROCESSLIST there tells who holds it up");
                        self.restore(case, old, why, now, actions)
                    }
                }
            }
            Phase::Follow { mut case, ticket, until } => {
                let (Some(old), Some(to)) = (case.old, case.target) else { return self.give_up(case, "no target", now, actions) };
                match outcome_of(event, ticket, until, now) {
                    None => Phase::Follow { case, ticket, until },
                    Some(Ok(_)) => {
                        actions.extend(case.note("apply", Some(to), "it has all that the old master had", now));
                        let ticket = self.ticket();
                        // It stays in the circle: what the old one has, it has too.
                        actions.push(Action::Promote { ticket, server: to, stop_from: Vec::new(), as_it_is: false });
                        let view = |id: ServerId| self.seen.server(id).is_some_and(|view| view.facts.is_some() && view.read_ok);
                        let others = self.seen.servers.iter().map(|view| view.id).filter(|id| *id != to && *id != old && view(*id));
                        let others = others.collect();
                        Phase::Promote { case, ticket, until: now + OUTCOME_LIMIT, whom: to, lost: String::new(), others }
                    }
                    Some(Err(why)) => self.restore(case, old, format!("{} did not catch up: {why}", self.name(to)), now, actions),
                }
            }
            Phase::Restore { case, ticket, until, why } => {
                let Some(old) = case.old else { return self.give_up(case, &why, now, actions) };
                match outcome_of(event, ticket, until, now) {
                    None => Phase::Restore { case, ticket, until, why },
                    Some(Ok(facts)) if facts.writable() => {
                        actions.push(Action::Release(old));
                        self.ended(case, &why, now, actions)
                    }
                    // Neither the one nor the other: then it is a failover, with whoever can be had. One that said nothing may be writable all the same.
                    Some(said) => {
                        let why = format!("{why}, and {} cannot be made writable again", self.name(old));
                        if let Some(order) = case.order {
                            actions.push(Action::Reply(order, Err(why.clone())));
                        }
                        let next = self.as_failover(case, why, now);
                        if said.is_ok() { self.depose(next, now, actions) } else { self.doubted(next, now, actions) }
                    }
                }
            }
            other => other,
        }
    }

    fn drain(&mut self, mut case: Case, old: ServerId, now: Instant, actions: &mut Vec<Action>) -> Phase {
        let to = case.target.map(|to| self.name(to)).unwrap_or_default();
        actions.extend(case.note("ask", Some(old), "the servers answer", now));
        case.began = now;
        case.held = true;
        actions.push(Action::Hold { why: format!("a switchover from {} to {to} is under way", self.name(old)), deposed: false });
        let (ticket, limit) = (self.ticket(), self.drain_limit());
        actions.push(Action::AwaitOpen { ticket, server: old, limit });
        Phase::Drain { case, ticket, until: now + limit + Duration::from_secs(1) }
    }

    /// A switchover that has become one: what the old master had counts.
    fn as_failover(&self, case: Case, why: String, now: Instant) -> Case {
        let had = case.old.and_then(|old| self.had(old));
        Case { kind: Kind::Failover, order: None, target: None, why, had, stale: self.tending.stale(now), ..case }
    }

    /// The old master does not answer: before anybody is promoted beside it, the others are asked whether they hear from it, as ever.
    fn doubted(&mut self, mut case: Case, now: Instant, actions: &mut Vec<Action>) -> Phase {
        let why = case.why.clone();
        self.hold_for(&mut case, why, now, actions);
        self.ask_about(case, now, actions)
    }

    /// The old master has fallen silent while it was to hand over, and nobody was promoted yet.
    fn dies_meanwhile(&mut self, phase: Phase, now: Instant, actions: &mut Vec<Action>) -> Phase {
        let (Phase::Drain { case, .. } | Phase::Demote { case, .. } | Phase::Follow { case, .. }) = &phase else { return phase };
        let dead = case.old.and_then(|old| self.view(old)).filter(|view| view.state == State::Down);
        let Some(why) = dead.map(|view| format!("{} is down while it was to hand over: {}", view.name, view.reason)) else {
            return phase;
        };
        let case = case.clone();
        if let Some(order) = case.order {
            actions.push(Action::Reply(order, Err(why.clone())));
        }
        let next = self.as_failover(case, why, now);
        self.doubted(next, now, actions)
    }

    /// The old master takes the writes again.
    pub(super) fn restore(&mut self, mut case: Case, old: ServerId, why: String, now: Instant, actions: &mut Vec<Action>) -> Phase {
        // The other one crashed meanwhile and came back writable, as its file says, or so did a former master, or another proxy has made one master: then
        // the old one must not become so, too.
        let writable = |view: &&ServerView| {
            view.id != old
                && (Some(view.id) == case.target
                    || view.configured_role == ConfiguredRole::Master
                    || self.tending.deposed.contains(&view.id))
                && !matches!(view.state, State::Down | State::Offline)
                && view.facts.as_ref().is_some_and(|facts| facts.writable())
        };
        if let Some(other) = self.seen.servers.iter().find(writable) {
            let why = format!("{why}, and {} is writable", other.name);
            if let Some(order) = case.order {
                actions.push(Action::Reply(order, Err(format!("{why}: who is master is decided anew"))));
            }
            let next = self.as_failover(case, why, now);
            return self.ask_candidates(next, None, now, actions);
        }
        actions.extend(case.note("restore", Some(old), format!("back to {}: {why}", self.name(old)), now));
        let ticket = self.ticket();
        actions.push(Action::Promote { ticket, server: old, stop_from: Vec::new(), as_it_is: false });
        Phase::Restore { case, ticket, until: now + OUTCOME_LIMIT, why }
    }

    /// Before anything was done.
    fn give_up(&mut self, case: Case, why: &str, now: Instant, actions: &mut Vec<Action>) -> Phase {
        self.ended(case, why, now, actions)
    }

    fn ended(&mut self, case: Case, why: &str, now: Instant, actions: &mut Vec<Action>) -> Phase {
        let old = case.old.map(|old| self.name(old)).unwrap_or_default();
        let detail = format!("given up after {} ms, {old} stays master: {why}", ms(since(case.began, now)));
        actions.push(Action::Tell { kind: case.kind.as_str(), server: case.target, detail: detail.clone() });
        actions.push(Action::Count { kind: case.kind, result: "failed", took: None });
        if let Some(order) = case.order {
            actions.push(Action::Reply(order, Err(detail)));
        }
        Phase::Idle
    }
}
