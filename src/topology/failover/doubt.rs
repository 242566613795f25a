//! Is the master dead, or only out of our reach? What it says itself, and whether its replicas still hear from it.

use std::time::{Duration, Instant};

use super::super::observation::{Failure, ThreadState};
use super::super::snapshot::Snapshot;
use super::super::{ServerId, State};
use super::case::Case;
use super::machine::{Machine, OUTCOME_LIMIT, Phase};
use super::{Action, Answer, Event, Outcome, Ticket};

/// Between two questions about a master whose death is not certain.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// Between two questions about a master that its replicas hear from and we do not.
const VETOED_AGAIN: Duration = Duration::from_millis(500);

/// What is thought of the old master.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Opinion {
    /// It answers and is writable.
    Lives,
    /// It answers with a refusal, so that it lives.
    Refuses(String),
    /// It answers and is read-only.
    ReadOnly,
    /// These hear from it; we do not.
    HeardBy(Vec<ServerId>),
    /// Nobody hears from it.
    Dead(String),
    /// Nothing follows from what was said: our own stall, or nobody else answers.
    Unclear(String),
}

/// Judges the old master by the answers of all servers. `seen` tells who replicates from whom where facts alone cannot.
pub(super) fn opinion(seen: &Snapshot, old: ServerId, answers: &[Answer], stalled: bool) -> Opinion {
    let of_old = answers.iter().find(|(id, _)| *id == old).map(|(_, outcome)| outcome);
    let failure = match of_old {
        Some(Ok(facts)) if facts.writable() => return Opinion::Lives,
        Some(Ok(_)) => return Opinion::ReadOnly,
        Some(Err(failure)) if failure.is_alive() => return Opinion::Refuses(failure.to_string()),
        Some(Err(failure)) => Some(failure),
        None => None,
    };
    let gone = matches!(failure, Some(Failure::ConnectRefused(_) | Failure::Io(_)));
    if stalled && !gone {
        return Opinion::Unclear("this process did not run for long enough to hear an answer".to_owned());
    }
    let mut follow_it = 0;
    let mut hear_it = Vec::new();
    let mut answer = 0;
    for (id, outcome) in answers.iter().filter(|(id, _)| *id != old) {
        let Ok(facts) = outcome else { continue };
        answer += 1;
        for channel in facts.replication.iter().filter(|channel| seen.source_of(channel) == Some(old)) {
            follow_it += 1;
            if channel.io_running == ThreadState::Running {
                hear_it.push(*id);
            }
        }
    }
    let text = failure.map_or_else(|| "no answer".to_owned(), ToString::to_string);
    if !hear_it.is_empty() {
        return Opinion::HeardBy(hear_it);
    }
    if answer == 0 {
        return Opinion::Unclear("no other server answers either".to_owned());
    }
    // Silence that nobody can confirm has to last longer.
    let long = seen.server(old).is_some_and(|view| view.state == State::Down);
    if follow_it == 0 && !gone && !long {
        return Opinion::Unclear("no server that answers replicates from it".to_owned());
    }
    Opinion::Dead(text)
}

impl Machine {
    /// Asks everybody about the old master; those who claim to hear from it try to reach it again.
    pub(super) fn ask_about(&mut self, case: Case, now: Instant, actions: &mut Vec<Action>) -> Phase {
        let ticket = self.ticket();
        actions.push(Action::Ask { ticket, unless: None, probe: case.old });
        Phase::Doubt { case, ticket: Some(ticket), until: now + OUTCOME_LIMIT }
    }

    pub(super) fn doubt(
        &mut self,
        mut case: Case,
        ticket: Option<Ticket>,
        until: Instant,
        event: &Event,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Phase {
        let Some(old) = case.old else { return self.ask_candidates(case, None, now, actions) };
        let (answers, stalled) = match event {
            Event::Done(of, Outcome::Answers { answers, stalled }) if Some(*of) == ticket => (answers, *stalled),
            _ if now >= until => return self.ask_about(case, now, actions),
            _ => return Phase::Doubt { case, ticket, until },
        };
        match opinion(&self.seen, old, answers, stalled) {
            Opinion::Lives => self.call_off(case, old, "answers and is writable", now, actions),
            Opinion::ReadOnly => {
                actions.push(self.note(&mut case, "second_opinion", Some(old), "it answers, and is read-only", now));
                self.depose(case, now, actions)
            }
            Opinion::Dead(why) => {
                actions.push(self.note(
                    &mut case,
                    "second_opinion",
                    Some(old),
                    format!("it is dead: {why}; nobody hears from it"),
                    now,
                ));
                self.depose(case, now, actions)
            }
            Opinion::Refuses(_) if self.seen.master == Some(old) => self.call_off(case, old, "lives", now, actions),
            Opinion::Refuses(why) => self.tell_and_wait(case, old, format!("it lives: {why}"), ASK_AGAIN, now, actions),
            Opinion::Unclear(why) => self.tell_and_wait(case, old, why, ASK_AGAIN, now, actions),
            Opinion::HeardBy(whom) => {
                let names: Vec<String> = whom.iter().map(|id| self.name(*id)).collect();
                let text = format!(
                    "it cannot be reached from here, but {} still receive{} from it: it is not replaced, writes wait; look at the network \
                     between this proxy and it",
                    names.join(", "),
                    if names.len() == 1 { "s" } else { "" }
                );
                self.tell_and_wait(case, old, text, VETOED_AGAIN, now, actions)
            }
        }
    }

    /// Told once, asked again.
    fn tell_and_wait(
        &self,
        mut case: Case,
        old: ServerId,
        text: String,
        wait: Duration,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Phase {
        if case.told != text {
            actions.push(Action::Tell { kind: "failover", server: Some(old), detail: format!("second_opinion: {text}") });
            case.told = text;
        }
        Phase::Doubt { case, ticket: None, until: now + wait }
    }

    /// The old master is given up. A fence is left in its socket, should it only be frozen, and nobody waits for it.
    pub(super) fn depose(&mut self, case: Case, now: Instant, actions: &mut Vec<Action>) -> Phase {
        actions.push(Action::Hold { why: format!("a new master is being chosen: {}", case.why), deposed: true });
        if let Some(old) = case.old {
            self.given_up = Some((old, now));
            actions.push(Action::Fence { ticket: self.ticket(), server: old, kill: true });
            actions.push(Action::EndOpen(old));
        }
        self.ask_candidates(case, None, now, actions)
    }
}
