//! What is wrong and lasts: named once when it begins, once when it ends.

use std::sync::Arc;

use super::super::diagnosis::{Change, ChangeKind, Diagnosis, Standing};
use super::super::memory::Memory;
use super::super::observation::{Failure, ThreadState};
use super::super::settings::{ConfiguredRole, Settings};
use super::super::snapshot::{ServerView, Snapshot};
use super::super::{ServerId, State};
use super::Scene;
use super::election::Outcome;

/// Whoever has transactions that the master never saw is out until an operator has looked: a former master with any, and a replica with any that
/// came from a former master. What a replica wrote itself is only told. What the master is fetching from a peer at this moment is no fork.
pub(super) fn quarantine(settings: &Settings, memory: &mut Memory, master: Option<ServerId>) {
    let Some(master) = master else { return };
    let mut found: Vec<(ServerId, String)> = Vec::new();
    for (id, server) in settings.ids().filter(|(id, _)| *id != master) {
        let Some(remembered) = memory.servers.get(id.index()) else { continue };
        let Some(Some(errant)) = &remembered.compared else { continue };
        // Where replicas are promoted, each of them may have been master.
        let peer = server.role == ConfiguredRole::Master || settings.promote_replicas;
        if remembered.is_accepted() || (!peer && errant.foreign.is_empty()) || fetches(settings, memory, master, id) {
            continue;
        }
        let name = settings.server(master).map_or("?", |server| &*server.name);
        let look = errant.how_to_look();
        let reason = format!(
            "it has transactions that the master {name} never saw: {}; {look}; REJOIN SERVER {} takes it back",
            errant.all, server.name
        );
        found.push((id, reason));
    }
    for (id, reason) in found {
        if let Some(remembered) = memory.servers.get_mut(id.index()).filter(|r| r.quarantined.as_deref() != Some(&*reason)) {
            remembered.quarantined = Some(Arc::from(reason));
        }
    }
    if let Some(remembered) = memory.servers.get_mut(master.index()) {
        remembered.quarantined = None;
    }
}

/// Whether the master replicates from that peer at this moment.
fn fetches(settings: &Settings, memory: &Memory, master: ServerId, from: ServerId) -> bool {
    let facts = memory.servers.get(master.index()).and_then(|remembered| remembered.facts.as_ref());
    facts.is_some_and(|facts| {
        facts.replication.iter().any(|channel| {
            channel.io_running == ThreadState::Running
                && channel.sql_running == ThreadState::Running
                && memory.source_of(settings, channel) == Some(from)
        })
    })
}

/// All that is wrong now.
pub(super) fn standing(scene: &Scene<'_>, servers: &[ServerView], broken: &[ServerId], outcome: &Outcome) -> Vec<Standing> {
    let mut found: Vec<(Diagnosis, ServerId, String)> = Vec::new();
    let name = |id: ServerId| scene.settings.server(id).map_or("?", |server| &*server.name).to_owned();
    for id in &outcome.other_writable {
        let master = outcome.master.map(name).unwrap_or_default();
        found.push((
            Diagnosis::TwoWritablePeers,
            *id,
            format!("{} is writable too; writes go to {master} only: set read_only on {}", name(*id), name(*id)),
        ));
    }
    for view in servers {
        let memory = &scene.memory.servers[view.id.index()];
        if let Some(Failure::Auth(..)) = &memory.failure {
            let text = memory.failure.as_ref().map(ToString::to_string).unwrap_or_default();
            found.push((Diagnosis::AccountRefused, view.id, text));
        }
        if let Some(Some(errant)) =
            memory.compared.as_ref().filter(|_| outcome.master.is_some() && view.state != State::Quarantined)
        {
            let text = format!("it has transactions that the master never saw: {}; {}", errant.all, errant.how_to_look());
            found.push((Diagnosis::ErrantTransactions, view.id, text));
        }
        if does_not_send_on(scene, view.id) {
            found.push((Diagnosis::UpdatesNotLogged, view.id, NOT_LOGGED.to_owned()));
        }
        if broken.contains(&view.id) {
            found.push((Diagnosis::ReplicationBroken, view.id, view.reason.to_string()));
        }
    }
    if let Some(master) = outcome.master {
        if let Some((since, why)) = &scene.memory.beat_trouble
            && servers.get(master.index()).is_some_and(|view| view.state == State::Online)
            && scene.memory.servers[master.index()].failure.is_none()
            // Who has said nothing since is silent, and not blocked.
            && scene.memory.servers[master.index()].alive_at.is_some_and(|at| at > *since + scene.settings.heartbeat_interval / 2)
            && scene.now.mono.saturating_duration_since(*since) >= scene.settings.blocked_after()
        {
            found.push((Diagnosis::MasterWritesBlocked, master, format!("the heartbeat cannot be written: {why}")));
        }
        if scene.memory.beats_shared_until.is_some_and(|until| scene.now.mono < until) {
            found.push((
                Diagnosis::HeartbeatShared,
                master,
                "another Sluice writes the same heartbeat row: give each its own instance name".to_owned(),
            ));
        }
    }
    found.into_iter().map(|(diagnosis, server, detail)| keep(scene, diagnosis, server, detail)).collect()
}

/// What a server is told to lack that is to be master and does not log what it replicates.
pub(super) const NOT_LOGGED: &str =
    "what it replicates is not in its binary log (log_replica_updates, log_slave_updates): as master it could not send that on";

/// Whether it may become master, and could not send others what it has replicated.
pub(super) fn does_not_send_on(scene: &Scene<'_>, id: ServerId) -> bool {
    let may_be_master = scene.settings.server(id).is_some_and(|server| match server.role {
        ConfiguredRole::Master => true,
        ConfiguredRole::Replica => scene.settings.promote_replicas,
        ConfiguredRole::Retired => false,
    });
    may_be_master && scene.memory.servers[id.index()].facts.as_ref().is_some_and(|facts| !facts.sends_on)
}

/// What stood before keeps its beginning.
fn keep(scene: &Scene<'_>, diagnosis: Diagnosis, server: ServerId, detail: String) -> Standing {
    let before = scene.previous.standing.iter().find(|s| s.diagnosis == diagnosis && s.server == server);
    match before {
        Some(before) if *before.detail == *detail => before.clone(),
        Some(before) => Standing { detail: Arc::from(detail), ..before.clone() },
        None => Standing { diagnosis, server, since: scene.now.wall, detail: Arc::from(detail) },
    }
}

/// Beginnings and ends.
pub(super) fn changes(previous: &Snapshot, next: &Snapshot, changes: &mut Vec<Change>) {
    let has = |snapshot: &Snapshot, one: &Standing| {
        snapshot.standing.iter().any(|s| s.diagnosis == one.diagnosis && s.server == one.server)
    };
    for one in next.standing.iter().filter(|one| !has(previous, one)) {
        changes.push(Change { kind: ChangeKind::Began(one.diagnosis), server: Some(one.server), detail: one.detail.to_string() });
    }
    for one in previous.standing.iter().filter(|one| !has(next, one)) {
        let detail = format!("no longer: {}", one.detail);
        changes.push(Change { kind: ChangeKind::Ended(one.diagnosis), server: Some(one.server), detail });
    }
}
