//! From what was seen to what is: roles, states, the one master, and every change with its reason.
//!
//! The rules, in the order they are applied:
//! 1. Does it answer? A refused or reset connection is [`State::Down`] at once; silence makes a suspect, then down; a server that refuses our account
//!    or has no connection left is alive, and stays what it was for as long as old facts can be trusted.
//! 2. Who is master? [`election`]: the current one for as long as it answers and is writable, else the only writable peer.
//! 3. Does it replicate? [`replication`]: everybody but the master, against `max_lag`.
//! 4. Has it what the master never saw? [`standing`]: then it is [`State::Quarantined`].
//! 5. An operator's word (drain, offline) stands above all of it.

mod election;
mod replication;
mod standing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::diagnosis::{Change, ChangeKind};
use super::memory::{Memory, Pulse};
use super::observation::{Moment, Observation};
use super::settings::{ConfiguredRole, Settings};
use super::snapshot::{ServerView, Snapshot};
use super::{Role, ServerId, State};

/// Takes in `observations` and judges everything anew at `now`. Called after every observation and on a tick (silence has no event of its own).
/// Returns the next snapshot and what is new in it.
pub fn diagnose(
    settings: &Settings,
    previous: &Snapshot,
    memory: &mut Memory,
    observations: Vec<Observation>,
    now: Moment,
) -> (Snapshot, Vec<Change>) {
    for observation in observations {
        memory.absorb(settings, observation, now);
    }
    if previous.master.is_none() {
        // What hindered the heartbeat was the master that is no more.
        memory.beat_trouble = None;
    }
    let pulses: Vec<Pulse> = settings.ids().map(|(id, _)| memory.pulse(settings, id, now.mono)).collect();
    let outcome = election::elect(settings, previous, memory, &pulses, now);
    memory.appointed = None;
    if outcome.master.is_some() && outcome.master != memory.last_master {
        memory.forget_comparisons();
    }
    standing::quarantine(settings, memory, outcome.master);
    let view = Scene { settings, previous, memory, pulses: &pulses, master: outcome.master, now };
    let mut broken = Vec::new();
    let servers: Vec<ServerView> = settings.ids().map(|(id, _)| view.judge(id, &mut broken)).collect();
    let standing = standing::standing(&view, &servers, &broken, &outcome);
    let mut next = Snapshot {
        epoch: previous.epoch,
        servers,
        master: outcome.master,
        no_master: outcome.no_master.clone(),
        hold: memory.hold.as_ref().map(|hold| hold.why.clone()),
        standing,
    };
    let mut changes = Vec::new();
    state_changes(previous, &next, &mut changes);
    if let Some(id) = next.master.filter(|_| next.master != previous.master) {
        changes.push(Change { kind: ChangeKind::MasterElected, server: Some(id), detail: outcome.why.clone() });
    }
    if let Some(none) = &next.no_master
        && previous.no_master.as_ref().map(|before| before.diagnosis) != Some(none.diagnosis)
    {
        changes.push(Change {
            kind: ChangeKind::NoMaster(none.diagnosis),
            server: previous.master,
            detail: none.detail.to_string(),
        });
    }
    standing::changes(previous, &next, &mut changes);
    if routing_differs(previous, &next) {
        next.epoch += 1;
    }
    if next.master.is_some() {
        memory.last_master = next.master;
        memory.ever_elected = true;
    }
    (next, changes)
}

/// Everything a judgement looks at.
struct Scene<'a> {
    settings: &'a Settings,
    previous: &'a Snapshot,
    memory: &'a Memory,
    pulses: &'a [Pulse],
    master: Option<ServerId>,
    now: Moment,
}

/// A state, why, and how far behind.
struct Verdict {
    state: State,
    reason: String,
    lag_ms: Option<u64>,
    /// Replication itself is broken or stopped, not only late.
    broken: bool,
}

impl Scene<'_> {
    fn pulse(&self, id: ServerId) -> &Pulse {
        self.pulses.get(id.index()).unwrap_or(&Pulse::Unknown)
    }

    /// The next view of one server; its id joins `broken` when its replication is.
    fn judge(&self, id: ServerId, broken: &mut Vec<ServerId>) -> ServerView {
        let server = &self.settings.servers[id.index()];
        let remembered = &self.memory.servers[id.index()];
        let before = self.previous.server(id);
        let role = match server.role {
            _ if self.master == Some(id) => Role::Master,
            ConfiguredRole::Master => Role::Standby,
            ConfiguredRole::Replica | ConfiguredRole::Retired => Role::Replica,
        };
        let mut verdict = self.verdict(id);
        if verdict.state == State::Online && standing::does_not_send_on(self, id) {
            verdict.reason = format!("{}; {}", verdict.reason, standing::NOT_LOGGED);
        }
        if verdict.broken {
            broken.push(id);
        }
        let facts = remembered.facts.clone();
        let reuse =
            |old: Option<&Arc<str>>, text: &str| old.filter(|old| &***old == text).cloned().unwrap_or_else(|| Arc::from(text));
        ServerView {
            id,
            name: server.name.clone(),
            address: server.address.clone(),
            configured_role: server.role,
            role,
            state: verdict.state,
            zone: server.zone.clone(),
            weight: remembered.weight.unwrap_or(server.weight),
            max_connections: server.max_connections,
            lag_ms: verdict.lag_ms,
            gtid: facts.as_ref().and_then(|f| f.gtid_executed.clone()),
            had: before.filter(|_| matches!(verdict.state, State::Suspect | State::Down)).and_then(|b| b.had.clone()),
            flavor: facts.as_ref().map(|f| f.flavor),
            version: reuse(before.map(|b| &b.version), facts.as_ref().map_or("", |f| &f.greeting.version)),
            reason: reuse(before.map(|b| &b.reason), &verdict.reason),
            since: before.filter(|b| b.state == verdict.state).map_or(self.now.wall, |b| b.since),
            answers: match self.pulse(id) {
                Pulse::Unknown => before.is_some_and(|b| b.answers),
                Pulse::Alive | Pulse::Blind(_) | Pulse::Suspect(_) => true,
                Pulse::Silent(_) | Pulse::Gone => false,
            },
            read_ok: verdict.state == State::Online,
            facts,
            compared: remembered.compared.is_some(),
            beside: remembered.beside,
            causal: self.master == Some(id) || remembered.is_causal(),
            errant: match &remembered.compared {
                Some(Some(found)) => Some(reuse(before.and_then(|b| b.errant.as_ref()), &found.all)),
                _ => None,
            },
            accepted: remembered.is_accepted(),
        }
    }

    fn verdict(&self, id: ServerId) -> Verdict {
        let of = |state, reason: String| Verdict { state, reason, lag_ms: None, broken: false };
        if self.settings.is_retired(id) {
            return of(State::Offline, "no longer in the configuration".to_owned());
        }
        match self.memory.overridden(id) {
            Some(State::Draining) => return of(State::Draining, "drained by an operator".to_owned()),
            Some(state) => return of(state, "taken offline by an operator".to_owned()),
            None => {}
        }
        let failure =
            || self.memory.servers[id.index()].failure.as_ref().map_or_else(|| "no answer".to_owned(), ToString::to_string);
        match self.pulse(id) {
            Pulse::Unknown => {
                let before = self.previous.server(id);
                let state = before.map_or(State::Down, |b| b.state);
                Verdict {
                    lag_ms: before.and_then(|b| b.lag_ms),
                    ..of(state, before.map_or_else(|| "not asked yet".to_owned(), |b| b.reason.to_string()))
                }
            }
            Pulse::Gone => of(State::Down, failure()),
            Pulse::Silent(None) => of(State::Down, failure()),
            Pulse::Silent(Some(_)) => {
                of(State::Down, format!("silent for more than {} ms: {}", self.settings.down_after().as_millis(), failure()))
            }
            Pulse::Suspect(_) => {
                of(State::Suspect, format!("silent for more than {} ms: {}", self.settings.suspect_after().as_millis(), failure()))
            }
            Pulse::Blind(_) if self.memory.servers[id.index()].facts.is_none() => of(State::Down, failure()),
            Pulse::Blind(_) if self.master == Some(id) => {
                Verdict { lag_ms: Some(0), ..of(State::Online, format!("it answers, but {}", failure())) }
            }
            Pulse::Blind(unseen) if *unseen > self.settings.max_lag => {
                of(State::Lagging, format!("its replication cannot be seen for {} s: {}", unseen.as_secs(), failure()))
            }
            Pulse::Blind(_) | Pulse::Alive if self.master != Some(id) && self.memory.servers[id.index()].quarantined.is_some() => {
                let why = self.memory.servers[id.index()].quarantined.as_deref().unwrap_or_default();
                of(State::Quarantined, why.to_owned())
            }
            Pulse::Blind(_) | Pulse::Alive if self.master == Some(id) => {
                Verdict { lag_ms: Some(0), ..of(State::Online, "it answers and is writable".to_owned()) }
            }
            Pulse::Blind(_) | Pulse::Alive => replication::judge(self, id),
        }
    }
}

/// State and role changes, server by server.
fn state_changes(previous: &Snapshot, next: &Snapshot, changes: &mut Vec<Change>) {
    for view in &next.servers {
        let Some(before) = previous.server(view.id) else { continue };
        if before.state != view.state {
            let kind = ChangeKind::State { from: before.state, to: view.state };
            changes.push(Change { kind, server: Some(view.id), detail: view.reason.to_string() });
        }
        if before.role != view.role {
            let detail = match view.role {
                Role::Master => "it takes the writes now".to_owned(),
                _ => format!("it takes no writes any more: {}", view.reason),
            };
            changes.push(Change { kind: ChangeKind::Role { from: before.role, to: view.role }, server: Some(view.id), detail });
        }
    }
}

/// Would any statement be routed otherwise?
fn routing_differs(previous: &Snapshot, next: &Snapshot) -> bool {
    let key = |view: &ServerView| (view.role, view.state, view.weight, view.max_connections, view.read_ok);
    previous.master != next.master
        || previous.hold != next.hold
        || previous.no_master.as_ref().map(|n| n.diagnosis) != next.no_master.as_ref().map(|n| n.diagnosis)
        || previous.servers.len() != next.servers.len()
        || previous.servers.iter().zip(&next.servers).any(|(a, b)| key(a) != key(b))
}
