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
    /// Another has more and is still applying it.
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
    },
}

/// A server that answers, as far as promotion is concerned.
fn candidate(seen: &Snapshot, id: ServerId, facts: &Facts) -> Option<Candidate> {
    let view = seen.server(id)?;
    let stopped = facts.replication.iter().any(|channel| channel.sql_running != ThreadState::Running);
    Some(Candidate { id, role: view.configured_role, applied: facts.applied(), received: facts.received(), applier_ok: !stopped })
}

/// Chooses among those that answered.
pub(super) fn choose(seen: &Snapshot, case: &Case, answers: &[Answer], promote_replicas: bool) -> Choice {
    let mut why_not: Vec<String> = Vec::new();
    let name = |id: ServerId| seen.server(id).map_or("?", |view| &*view.name).to_owned();
    let mut survivors: Vec<Candidate> = Vec::new();
    let mut usable: Vec<Candidate> = Vec::new();
    for (id, outcome) in answers {
        let (id, Some(view)) = (*id, seen.server(*id)) else { continue };
        let facts = match outcome {
            Ok(facts) => facts,
            Err(failure) => {
                why_not.push(format!("{}: {failure}", view.name));
                continue;
            }
        };
        let Some(one) = candidate(seen, id, facts) else { continue };
        let replica = view.configured_role == ConfiguredRole::Replica;
        let reason = match view.state {
            State::Quarantined => Some("quarantined"),
            State::Draining | State::Offline => Some("taken out by an operator"),
            _ if facts.gtid_executed.is_none() => Some("it has no GTIDs"),
            _ if case.blocked && case.old == Some(id) => Some("it cannot write"),
            _ if case.failed.contains(&id) => Some("its promotion failed"),
            _ if case.target.is_some_and(|target| target != id) => Some("an operator wants another"),
            _ if replica && !promote_replicas && case.target.is_none() => Some("a replica, and failover.promote_replicas is off"),
            _ if !one.applier_ok && !one.is_drained() => Some("its applier has stopped before it had all that was received"),
            _ => None,
        };
        if view.state != State::Quarantined {
            survivors.push(one.clone());
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
    let lacks = |one: &Candidate, has: &GtidSet| one.received.missing_count(has);
    if !case.no_catch_up {
        let ahead = survivors
            .iter()
            .filter(|one| one.id != whom && !(case.no_rest && case.old == Some(one.id)))
            .max_by_key(|one| lacks(one, &has))
            .filter(|one| lacks(one, &has) > 0);
        if let Some(ahead) = ahead {
            return if !chosen.is_drained() {
                Choice::Applying(whom)
            } else if case.blocked && case.old == Some(ahead.id) {
                Choice::Rest(whom)
            } else if !ahead.is_drained() && ahead.applier_ok {
                Choice::WaitFor(ahead.id)
            } else {
                Choice::CatchUp { whom, from: ahead.id }
            };
        }
    }
    if !chosen.is_drained() {
        return Choice::Applying(whom);
    }
    has.merge(&chosen.applied);
    let mut known = case.had.clone().unwrap_or_else(|| has.clone());
    for one in &survivors {
        known.merge(&one.received);
    }
    let others = usable.iter().filter(|one| one.id != whom);
    let ranked = others.map(|one| match chosen.received.missing_count(&one.received) {
        0 if one.role != chosen.role => format!("{}: peers come before replicas", name(one.id)),
        0 => format!("{}: has the same", name(one.id)),
        n => format!("{}: {n} transactions behind", name(one.id)),
    });
    let why: Vec<String> = ranked.chain(why_not).collect();
    Choice::Ready { whom, lost: known.missing_from(&has), count: known.missing_count(&has), why: why.join(", ") }
}
