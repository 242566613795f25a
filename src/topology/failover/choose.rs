//! Who takes over, who has more than he has, and what nobody has.

use super::super::candidate::{Candidate, best};
use super::super::observation::ThreadState;
use super::super::snapshot::Snapshot;
use super::super::{ConfiguredRole, Facts, GtidSet, ServerId, State};
use super::Answer;
use super::case::Case;

/// What follows from the survivors' answers.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Choice {
    /// Nobody can take over: why not, each by name.
    Nobody(String),
    /// This one will, but has to apply what it received first.
    Applying(ServerId),
    /// Another has received more, and can send it when it has applied it.
    WaitFor(ServerId),
    /// The old master, which cannot write, has more, and this one still receives from it.
    Rest(ServerId),
    /// Another has more.
    CatchUp {
        /// Who will take over.
        whom: ServerId,
        /// From whom it can have it.
        from: ServerId,
    },
    /// This one, now.
    Ready {
        /// Who.
        whom: ServerId,
        /// What is known to be lost with it, as GTIDs; empty for nothing.
        lost: String,
        /// How many transactions (an upper bound on MariaDB).
        count: u64,
        /// Why not the others.
        why: String,
        /// It will never have applied all that it received.
        as_it_is: bool,
    },
}

/// A server that answers, as far as promotion is concerned.
fn candidate(seen: &Snapshot, id: ServerId, facts: &Facts) -> Option<Candidate> {
    let view = seen.server(id)?;
    let stopped = seen.own_channels(facts).any(|channel| channel.sql_running != ThreadState::Running);
    let senders = seen.servers.iter().filter_map(|view| view.facts.as_deref());
    // What somebody wrote on a replica is nothing that the next master lacks.
    let of_others = |set: GtidSet| match (view.errant.as_deref(), seen.followable(senders.clone(), set)) {
        (Some(errant), set) => facts.of_others(set, errant),
        (None, set) => set,
    };
    let (applied, received, sends) = (of_others(facts.applied()), of_others(seen.received(facts)), of_others(facts.sendable()));
    let delayed = seen.own_channels(facts).any(|channel| channel.delay > 0);
    let sends_on = facts.sends_on;
    Some(Candidate { id, role: view.configured_role, applied, received, sends, applier_ok: !stopped, delayed, sends_on })
}

/// Chooses among those that answered.
/// `outranked` are writable ones that were replaced by another before this process started.
pub(super) fn choose(seen: &Snapshot, case: &Case, answers: &[Answer], outranked: &[ServerId], promote_replicas: bool) -> Choice {
    let mut why_not: Vec<String> = Vec::new();
    let name = |id: ServerId| seen.server(id).map_or("?", |view| &*view.name).to_owned();
    let mut survivors: Vec<Candidate> = Vec::new();
    let mut usable: Vec<Candidate> = Vec::new();
    let mut as_they_are: Vec<ServerId> = Vec::new();
    // What the old master had and no survivor has, where nobody received from it until its end.
    let received = |(id, answer): &Answer| {
        answer.is_ok() && !case.stale.contains(id) && case.old.is_some_and(|old| *id != old && seen.channel(*id, old).is_some())
    };
    let all_stale = !case.stale.is_empty() && !answers.iter().any(received);
    let gone = case.had.as_ref().filter(|_| all_stale).map_or(0, |had| {
        let mut together = GtidSet::empty(had.flavor());
        answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).for_each(|facts| together.merge(&facts.received()));
        had.missing_count(&together)
    });
    for (id, outcome) in answers {
        let (id, Some(view)) = (*id, seen.server(*id)) else { continue };
        let facts = match outcome {
            Ok(facts) => facts,
            Err(failure) => {
                why_not.push(format!("{}: {failure}", view.name));
                continue;
            }
        };
        let Some(mut one) = candidate(seen, id, facts) else { continue };
        let broken = !one.applier_ok && !one.is_drained();
        // What it fetched from another survivor cannot be applied, or an operator takes it as it is: that part is lost, and named.
        let by_force = case.force && case.target == Some(id);
        let given_up =
            (broken && (case.no_catch_up || by_force)) || (case.stands_still == Some(id) && by_force && !one.is_drained());
        let replica = view.configured_role == ConfiguredRole::Replica;
        let reason = match view.state {
            State::Quarantined if !(case.force && case.target == Some(id)) => Some("quarantined"),
            State::Draining | State::Offline => Some("taken out by an operator"),
            _ if facts.gtid_executed.is_none() => Some("it has no GTIDs"),
            _ if outranked.contains(&id) => Some("another was master after it"),
            _ if case.blocked && case.old == Some(id) => Some("it cannot write"),
            _ if case.failed.contains(&id) => Some("its promotion failed"),
            _ if case.target.is_some_and(|target| target != id) => Some("an operator wants another"),
            _ if replica && !promote_replicas && case.target.is_none() => Some("a replica, and failover.promote_replicas is off"),
            _ if gone > 0 && !case.force && case.stale.contains(&id) => Some(
                "its replication had stopped before the master died, and it lacks what came since: FAILOVER TO it FORCE takes it as it is",
            ),
            _ if broken && !given_up => Some("its applier has stopped before it had all that was received"),
            _ => None,
        };
        if view.state != State::Quarantined && !outranked.contains(&id) {
            survivors.push(one.clone());
        }
        if given_up {
            one.received = one.applied.clone();
            one.applier_ok = true;
        }
        if given_up || view.state == State::Quarantined {
            as_they_are.push(id);
        }
        match reason {
            Some(reason) => why_not.push(format!("{}: {reason}", view.name)),
            None => usable.push(one),
        }
    }
    // Of those that have the same: whom somebody made writable already, and not the one that has just died.
    let writable = |id: ServerId| answers.iter().any(|(of, outcome)| *of == id && outcome.as_ref().is_ok_and(Facts::writable));
    usable.sort_by_key(|one| (!writable(one.id), case.old == Some(one.id), one.id));
    let Some(chosen) = best(&usable, true) else { return Choice::Nobody(why_not.join(", ")) };
    let (whom, mut has) = (chosen.id, chosen.received.clone());
    if !chosen.is_drained() {
        return Choice::Applying(whom);
    }
    if !case.no_catch_up && !as_they_are.contains(&whom) {
        let clean = |id: ServerId| seen.server(id).is_none_or(|view| view.errant.is_none());
        let others = || survivors.iter().filter(|one| one.id != whom && !(case.no_rest && case.old == Some(one.id)));
        let rest_of = |one: &Candidate| case.blocked && case.old == Some(one.id);
        let beyond = |set: &GtidSet| set.missing_count(&has);
        // With what is fetched comes what somebody wrote there: best from one that has nothing of its own.
        let ahead = others().max_by_key(|one| (beyond(&one.sends), clean(one.id))).filter(|one| beyond(&one.sends) > 0);
        let most = ahead.map_or(0, |one| beyond(&one.sends));
        // Only what it has applied it can send: a moment is worth it, and a delayed replica's hour is not.
        let busy =
            |one: &&Candidate| one.applier_ok && !one.delayed && !one.is_drained() && !rest_of(one) && beyond(&one.received) > most;
        let waited_for = |one: &&Candidate| busy(one) && !case.force && !case.no_wait.contains(&one.id);
        let applying = others().filter(waited_for).max_by_key(|one| beyond(&one.received));
        match (applying, ahead) {
            (Some(one), _) => return Choice::WaitFor(one.id),
            (None, Some(ahead)) if rest_of(ahead) => return Choice::Rest(whom),
            (None, Some(ahead)) => return Choice::CatchUp { whom, from: ahead.id },
            (None, None) => {}
        }
    }
    has.merge(&chosen.applied);
    let mut known = case.had.clone().unwrap_or_else(|| has.clone());
    for one in &survivors {
        known.merge(&one.received);
    }
    let others = usable.iter().filter(|one| one.id != whom);
    let ranked = others.map(|one| match chosen.received.missing_count(&one.received) {
        0 if one.role != chosen.role => format!("{}: peers come before replicas", name(one.id)),
        0 if chosen.sends_on && !one.sends_on => format!("{}: what it replicates is not in its binary log", name(one.id)),
        _ if one.delayed && !chosen.delayed => format!("{}: it applies late on purpose", name(one.id)),
        0 => format!("{}: has the same", name(one.id)),
        n => format!("{}: {n} transactions behind", name(one.id)),
    });
    let why: Vec<String> = ranked.chain(why_not).collect();
    Choice::Ready {
        whom,
        lost: known.missing_from(&has),
        count: known.missing_count(&has),
        why: why.join(", "),
        as_it_is: as_they_are.contains(&whom),
    }
}
