//! Is the master dead, or only out of our reach? What it says itself, and whether its replicas still hear from it.

use std::time::{Duration, Instant};

use super::super::observation::{Failure, ThreadState};
use super::super::snapshot::{ServerView, Snapshot};
use super::super::{ConfiguredRole, Facts, Flavor, GtidSet, ServerId, State};
use super::case::Case;
use super::machine::{Machine, OUTCOME_LIMIT, Phase};
use super::{Action, Answer, Event, Outcome, Ticket, Writes, ms, since};

/// Between two questions about a master whose death is not certain.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// Between two questions about a master that its replicas hear from and we do not.
const VETOED_AGAIN: Duration = Duration::from_millis(20);

/// What is thought of the old master.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Opinion {
    /// It answers and is writable.
    Lives,
    /// It answers, says that it is writable, and writes nothing.
    Blocked(String),
    /// It answers, and we did not run for long enough to see whether it writes.
    Stalled,
    /// It answers, and its writes wait behind a large transaction that is being committed.
    Committing(String),
    /// It answers, and whether it writes cannot be told.
    Unsettled(String),
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
pub(super) fn opinion(seen: &Snapshot, old: ServerId, answers: &[Answer], stalled: bool, writes: &Writes) -> Opinion {
    let of_old = answers.iter().find(|(id, _)| *id == old).map(|(_, outcome)| outcome);
    let failure = match of_old {
        Some(Ok(facts)) if facts.writable() => {
            return match writes {
                Writes::NotTried | Writes::Work => Opinion::Lives,
                Writes::Blocked(_) if stalled => Opinion::Stalled,
                Writes::Blocked(why) => Opinion::Blocked(why.clone()),
                Writes::Committing(why) => Opinion::Committing(why.clone()),
                // For a backup, say: that is as it was meant, and ends when the client wants.
                Writes::Locked(why) | Writes::Unclear(why) => Opinion::Unsettled(why.clone()),
            };
        }
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
        // One that answers with an error, and says nothing of itself: grants are missing.
        let refuses = answers.iter().filter(|(id, _)| *id != old).find_map(|(id, outcome)| match outcome {
            Err(failure @ (Failure::Protocol(_) | Failure::Auth(..))) => Some((seen.server(*id)?, failure)),
            _ => None,
        });
        let why = refuses.map(|(view, failure)| format!(" ({}: {failure})", view.name)).unwrap_or_default();
        return Opinion::Unclear(format!("no other server answers either{why}"));
    }
    // Silence that nobody can confirm has to last longer.
    let long = seen.server(old).is_some_and(|view| view.state == State::Down);
    if follow_it == 0 && !gone && !long {
        return Opinion::Unclear("no server that answers replicates from it".to_owned());
    }
    Opinion::Dead(text)
}

/// Whether this one is not told to connect to `source` anew when it is asked whether it still hears from it.
///
/// A receiver that is connecting to a silent source cannot be stopped for two seconds (MySQL always, MariaDB now and then), and a peer that has to fetch
/// from a replica what that one has more must stop it first. Such a peer keeps its connection, where a replica can try instead, and says by what it
/// receives whether anything comes.
pub fn spared(seen: &Snapshot, id: ServerId, source: ServerId) -> bool {
    let peer = |view: &ServerView| view.configured_role == ConfiguredRole::Master;
    let receives =
        |view: &ServerView| seen.channel(view.id, source).is_some_and(|channel| channel.io_running == ThreadState::Running);
    let own = seen.server(id).filter(|view| peer(view) && receives(view));
    let Some(has) = own.and_then(|view| view.facts.as_ref()).map(|facts| facts.received()) else { return false };
    let mut replicas = seen.servers.iter().filter(|view| !peer(view) && view.state == State::Online);
    replicas.any(|view| receives(view) && view.facts.as_ref().is_some_and(|facts| !has.covers(&facts.received())))
}

/// What these have received together.
fn together<'a>(all: impl Iterator<Item = &'a Facts>) -> Option<GtidSet> {
    all.map(Facts::received).reduce(|mut set, more| {
        set.merge(&more);
        set
    })
}

impl Machine {
    /// From now on no write is sent to anybody.
    pub(super) fn hold_for(&self, case: &mut Case, why: String, now: Instant, actions: &mut Vec<Action>) {
        actions.push(Action::Tell { kind: "failover", server: case.old, detail: format!("writes are held: {why}") });
        actions.push(Action::Hold { why, deposed: case.old.is_none() });
        case.held = true;
        let Some(old) = case.old else { return };
        case.heard = self.received_from(old).map(|set| match &self.heard {
            Some((of, before, since)) if *of == old && before.covers(&set) => (set, *since),
            _ => (set, now),
        });
    }

    /// What those that replicate from a server have received, as of their last heartbeats.
    fn received_from(&self, source: ServerId) -> Option<GtidSet> {
        let views = self.seen.servers.iter().filter(|view| self.seen.channel(view.id, source).is_some());
        together(views.filter_map(|view| view.facts.as_deref()))
    }

    /// Keeps in mind since when the replicas of the master have received nothing new.
    pub(super) fn listen(&mut self, now: Instant) {
        let Some(master) = self.seen.master.or(self.master) else { return };
        let Some(set) = self.received_from(master) else { return };
        if !self.heard.as_ref().is_some_and(|(of, before, _)| *of == master && before.covers(&set)) {
            self.heard = Some((master, set, now));
        }
    }

    /// Asks everybody about the old master; those who claim to hear from it try to reach it again. Where it is its writes that are doubted, one is tried.
    pub(super) fn ask_about(&mut self, mut case: Case, now: Instant, actions: &mut Vec<Action>) -> Phase {
        let ticket = self.ticket();
        let (probe, write) = if case.blocked { (None, case.old) } else { (case.old.filter(|_| !case.probed), None) };
        if let Some(old) = probe {
            case.spare = self.seen.servers.iter().map(|view| view.id).filter(|id| spared(&self.seen, *id, old)).collect();
        }
        // Who has been silent that long is not waited for once more.
        let unless = case.old.filter(|_| case.only_spared);
        case.asked = now;
        actions.push(Action::Ask { ticket, unless, probe, spare: case.spare.clone(), write });
        // A write has two thirds of `heartbeat_timeout`, and may be looked at after that.
        let limit = OUTCOME_LIMIT.max(self.settings.topology.heartbeat_timeout * 2);
        Phase::Doubt { case, ticket: Some(ticket), until: now + limit }
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
        let (answers, stalled, writes) = match event {
            Event::Done(of, Outcome::Answers { answers, stalled, writes }) if Some(*of) == ticket => (answers, *stalled, writes),
            _ if now >= until => return self.ask_about(case, now, actions),
            _ => return Phase::Doubt { case, ticket, until },
        };
        let opinion = opinion(&self.seen, old, answers, stalled, writes);
        if case.blocked && matches!(opinion, Opinion::HeardBy(_) | Opinion::Dead(_) | Opinion::Unclear(_)) {
            // Now it does not answer at all. Whether it is silent for too long, its heartbeats tell, and they have not yet.
            if self.view(old).is_some_and(|view| view.state == State::Online) && case.order.is_none() {
                self.blocked_again = Some(now + ASK_AGAIN * 5);
                return self.call_off(case, old, "does not answer for the moment", now, actions);
            }
            case.blocked = false;
            self.hold_for(&mut case, "it answers no more".to_owned(), now, actions);
            return self.ask_about(case, now, actions);
        }
        match opinion {
            Opinion::Blocked(why) => self.depose_blocked(case, old, &why, now, actions),
            Opinion::Stalled => {
                let why = "this process did not run for long enough to see whether it writes".to_owned();
                self.tell_and_wait(case, old, why, ASK_AGAIN, now, actions)
            }
            Opinion::Committing(why) => self.waits_for_a_commit(case, old, &why, now, actions),
            Opinion::Unsettled(why) => self.blocked_for_nothing(case, old, &why, now, actions),
            Opinion::Lives if case.blocked => self.writes_after_all(case, old, now, actions),
            Opinion::Lives => self.call_off(case, old, "answers and is writable", now, actions),
            Opinion::ReadOnly => {
                actions.extend(case.note("second_opinion", Some(old), "it answers, and is read-only", now));
                // No fence: it may be the one that takes over.
                actions.push(Action::Hold { why: format!("a new master is being chosen: {}", case.why), deposed: true });
                case.held = true;
                actions.push(Action::EndOpen(old));
                self.ask_candidates(case, None, now, actions)
            }
            Opinion::Dead(why) => {
                actions.extend(case.note("second_opinion", Some(old), format!("it is dead: {why}; nobody hears from it"), now));
                self.depose(case, now, actions)
            }
            Opinion::Refuses(_) if self.seen.master == Some(old) => self.call_off(case, old, "lives", now, actions),
            Opinion::Refuses(why) => self.tell_and_wait(case, old, format!("it lives: {why}"), ASK_AGAIN, now, actions),
            Opinion::Unclear(why) => self.tell_and_wait(case, old, why, ASK_AGAIN, now, actions),
            Opinion::HeardBy(whom) => self.out_of_reach(case, old, &whom, answers, now, actions),
        }
    }

    /// Its replicas hear from it, and we do not. Whoever else writes to it, another proxy at least with its heartbeats, shows in what they receive: then
    /// it stays, or there would be two masters. Else it is given up once it has been silent for long enough to be down.
    fn out_of_reach(
        &mut self,
        mut case: Case,
        old: ServerId,
        whom: &[ServerId],
        answers: &[Answer],
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Phase {
        case.probed = true;
        let hearing = answers.iter().filter(|(id, _)| whom.contains(id)).filter_map(|(_, answer)| answer.as_ref().ok());
        let has = together(hearing).unwrap_or_else(|| GtidSet::empty(Flavor::MySql));
        let before = case.heard.take();
        let grows = before.as_ref().is_none_or(|(set, _)| !set.covers(&has));
        let (mut set, mut still_since) = before.unwrap_or_else(|| (has.clone(), now));
        if grows {
            set.merge(&has);
            still_since = now;
        }
        let names: Vec<String> = whom.iter().map(|id| self.name(*id)).collect();
        let tried = |(id, answer): &Answer| {
            let follows = |facts: &Facts| facts.replication.iter().any(|channel| self.seen.source_of(channel) == Some(old));
            answer.as_ref().is_ok_and(follows) && !case.spare.contains(id)
        };
        if answers.iter().any(tried) && whom.iter().all(|id| case.spare.contains(id)) {
            let quiet = self.settings.topology.heartbeat_interval.mul_f32(1.5);
            let since_then = case.asked.saturating_duration_since(still_since);
            if case.only_spared && !grows && since_then >= quiet {
                let names = names.join(", ");
                let detail =
                    format!("it is dead: nobody reaches it, and {names} has received nothing new for {} ms", ms(since_then));
                actions.extend(case.note("second_opinion", Some(old), detail, now));
                return self.depose(case, now, actions);
            }
            if grows || !case.only_spared {
                // What they had when they were asked, and not when all answers were there.
                (set, still_since) = (has, case.asked);
            }
            case.only_spared = true;
            case.heard = Some((set, still_since));
            return Phase::Doubt { case, ticket: None, until: (still_since + quiet).max(now + VETOED_AGAIN) };
        }
        case.only_spared = false;
        case.heard = Some((set, still_since));
        let down = self.seen.server(old).is_none_or(|view| view.state == State::Down);
        // They have just connected to it anew, so it lives: another proxy's heartbeats may be late, or wait behind a large transaction.
        let quiet = self.settings.topology.down_after();
        let still = since(still_since, now);
        let heard = format!("{} still receive{} from it", names.join(", "), if names.len() == 1 { "s" } else { "" });
        if down && still >= quiet {
            let detail = format!("it is out of reach; {heard}, but nothing new for {} ms: nobody writes to it", ms(still));
            actions.extend(case.note("second_opinion", Some(old), detail, now));
            return self.depose(case, now, actions);
        }
        // Growth right at the beginning is what was under way.
        let text = if since(case.began, now) > self.settings.topology.down_after() {
            format!(
                "it cannot be reached from here, but {heard}, and somebody writes to it: it is not replaced, writes wait; look at the network between this proxy and it"
            )
        } else {
            format!("it cannot be reached from here, but {heard}")
        };
        self.tell_and_wait(case, old, text, VETOED_AGAIN, now, actions)
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
        let mut case = case;
        case.held = true;
        actions.push(Action::Hold { why: format!("a new master is being chosen: {}", case.why), deposed: true });
        if let Some(old) = case.old {
            actions.push(Action::Fence { ticket: self.ticket(), server: old, kill: true });
            actions.push(Action::EndOpen(old));
        }
        self.ask_candidates(case, None, now, actions)
    }
}
