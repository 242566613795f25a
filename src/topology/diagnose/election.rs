//! Who takes the writes.
//!
//! - The current master stays for as long as it answers (or has not been silent for too long), is writable, and no operator has taken it out.
//! - Otherwise the only writable peer that answers is master, unless it is quarantined, or (where failover steers) another was master after it, a
//!   read-only peer or a replica that was promoted: more servers follow that one, and it has what this one lacks.
//! - If several are writable and there is no current one: the one that has all the others have, then the one that most servers replicate from, then the
//!   first in the file.
//! - At the start nobody is elected before every peer (with several writable ones: every server) has been seen or has had its time.
//! - Nobody is made writable here; that is failover's business. Where it steers (`failover.mode = "auto"`), elections are for the first master only,
//!   and whoever comes after it is appointed; while it holds the writes, nobody is elected.

use std::sync::Arc;

use super::super::diagnosis::Diagnosis;
use super::super::memory::{Memory, Override, Pulse};
use super::super::observation::{Moment, ThreadState};
use super::super::settings::{ConfiguredRole, ConfiguredServer, Settings};
use super::super::snapshot::{NoMaster, Snapshot};
use super::super::{ServerId, errant, has_more, outranks};

/// The result of an election.
pub(super) struct Outcome {
    pub master: Option<ServerId>,
    pub no_master: Option<NoMaster>,
    /// Why this one.
    pub why: String,
    /// Other peers that are writable and should not be.
    pub other_writable: Vec<ServerId>,
}

pub(super) fn elect(settings: &Settings, previous: &Snapshot, memory: &Memory, pulses: &[Pulse], now: Moment) -> Outcome {
    let ballot = Ballot { settings, previous, memory, pulses, now };
    let writable: Vec<ServerId> = ballot.peers().filter(|id| ballot.is_candidate(*id)).collect();
    if let Some(hold) = &memory.hold {
        let master = previous.master.filter(|_| !hold.deposed);
        let no_master = master.is_none().then(|| ballot.none_for(Diagnosis::Replacing, hold.why.to_string()));
        return Outcome { master, no_master, why: String::new(), other_writable: Vec::new() };
    }
    if let Some(id) = memory.appointed.filter(|id| ballot.is_candidate(*id)) {
        let other_writable = writable.into_iter().filter(|other| *other != id).collect();
        return Outcome { master: Some(id), no_master: None, why: "appointed by failover".to_owned(), other_writable };
    }
    if let Some(current) = previous.master.filter(|id| ballot.may_stay(*id)) {
        let other_writable = writable.into_iter().filter(|id| *id != current).collect();
        return Outcome { master: Some(current), no_master: None, why: "it stays".to_owned(), other_writable };
    }
    let must_be_seen = |id: &ServerId| writable.len() > 1 || ballot.peers().any(|peer| peer == *id);
    let waiting = !memory.ever_elected
        && now.mono.saturating_duration_since(memory.started) < settings.suspect_after()
        && settings.ids().map(|(id, _)| id).filter(must_be_seen).any(|id| ballot.pulse(id) == &Pulse::Unknown);
    let chosen = if waiting || (memory.steered && memory.ever_elected) { None } else { ballot.choose(&writable) };
    let chosen = chosen.filter(|id| ballot.outranked_by(*id).is_none());
    match chosen {
        Some(id) => {
            let why = if writable.len() == 1 {
                "the only writable peer".to_owned()
            } else {
                format!(
                    "{} peers are writable; it has what the others have, is the one that most servers replicate from ({}), or the first of them in the \
                     file",
                    writable.len(),
                    ballot.followers(id)
                )
            };
            let other_writable = writable.into_iter().filter(|other| *other != id).collect();
            Outcome { master: Some(id), no_master: None, why, other_writable }
        }
        None => Outcome { master: None, no_master: Some(ballot.why_none(waiting)), why: String::new(), other_writable: Vec::new() },
    }
}

struct Ballot<'a> {
    settings: &'a Settings,
    previous: &'a Snapshot,
    memory: &'a Memory,
    pulses: &'a [Pulse],
    now: Moment,
}

impl Ballot<'_> {
    /// Who may be master: the peers, a replica that is master already, or was made master by an operator's `FAILOVER TO` before this process started, and where
    /// replicas are promoted every one of them; replicas only when no peer is writable.
    fn peers(&self) -> impl Iterator<Item = ServerId> {
        let peer_is_writable =
            self.settings.ids().any(|(id, server)| server.role == ConfiguredRole::Master && self.is_candidate(id));
        let replicas_too = self.settings.promote_replicas && !peer_is_writable;
        let may = move |id: ServerId, role: ConfiguredRole| {
            role == ConfiguredRole::Master
                || replicas_too
                || self.previous.master == Some(id)
                || (!peer_is_writable && role == ConfiguredRole::Replica && self.was_made_master(id))
        };
        self.settings.ids().filter(move |(id, server)| may(*id, server.role)).map(|(id, _)| id)
    }

    /// A replica that is writable, does not even try to replicate, and is followed by others that have nothing it lacks.
    fn was_made_master(&self, id: ServerId) -> bool {
        let facts = |id: ServerId| self.memory.servers.get(id.index()).and_then(|memory| memory.facts.as_deref());
        let Some(own) = facts(id).filter(|_| self.is_candidate(id) && self.followers(id) > 0) else { return false };
        // One that waits for its source is a replica that somebody forgot to make read-only.
        let receives = own.replication.iter().any(|channel| channel.io_running != ThreadState::Stopped);
        !receives
            && self
                .settings
                .ids()
                .filter(|(other, _)| *other != id && self.pulse(*other) == &Pulse::Alive)
                .all(|(other, _)| facts(other).is_none_or(|facts| !has_more(facts, own)))
    }

    fn pulse(&self, id: ServerId) -> &Pulse {
        self.pulses.get(id.index()).unwrap_or(&Pulse::Unknown)
    }

    /// What it last said; `None` when it never has.
    fn writable(&self, id: ServerId) -> Option<bool> {
        self.memory.servers.get(id.index())?.facts.as_ref().map(|facts| facts.writable())
    }

    fn is_candidate(&self, id: ServerId) -> bool {
        let answered = self.memory.servers.get(id.index()).is_some_and(|memory| memory.failure.is_none());
        answered
            && self.pulse(id) == &Pulse::Alive
            && self.writable(id) == Some(true)
            && self.memory.override_of(id) == Override::Online
            && self
                .memory
                .servers
                .get(id.index())
                .is_some_and(|memory| memory.quarantined.is_none() || memory.compared == Some(None))
    }

    /// The one that was master after this one, see [`outranks`]. Asked where failover can make that one master again.
    fn outranked_by(&self, id: ServerId) -> Option<ServerId> {
        if !self.memory.steered {
            return None;
        }
        let facts = |id: ServerId| self.memory.servers.get(id.index()).and_then(|memory| memory.facts.as_deref());
        let own = facts(id)?;
        let is_peer = |(other, server): &(ServerId, &ConfiguredServer)| {
            *other != id
                && (server.role == ConfiguredRole::Master || self.settings.promote_replicas)
                && self.pulse(*other) == &Pulse::Alive
                && self.memory.override_of(*other) == Override::Online
                && self.memory.servers.get(other.index()).is_some_and(|memory| memory.quarantined.is_none())
        };
        let mut peers = self.settings.ids().filter(is_peer).map(|(other, _)| other);
        let role = |id: ServerId| self.settings.server(id).map(|server| server.role);
        peers.find(|other| {
            let theirs = facts(*other).map(|facts| (facts, self.followers(*other)));
            theirs.is_some_and(|theirs| outranks(theirs, (own, self.followers(id)), role(*other) == role(id)))
        })
    }

    fn may_stay(&self, id: ServerId) -> bool {
        self.memory.override_of(id) == Override::Online
            && match self.pulse(id) {
                Pulse::Gone | Pulse::Silent(_) => false,
                // Carried over from before a reload; it will have been asked within a heartbeat's timeout.
                Pulse::Unknown => true,
                Pulse::Alive | Pulse::Blind(_) | Pulse::Suspect(_) => self.writable(id) == Some(true),
            }
    }

    fn choose(&self, writable: &[ServerId]) -> Option<ServerId> {
        // `max_by_key` takes the last of equals: so from the end of the file.
        writable.iter().rev().copied().max_by_key(|id| (self.covered(*id, writable), self.followers(*id)))
    }

    /// How many of these have nothing that it has not: a former master that came back writable lacks what was written since.
    fn covered(&self, id: ServerId, writable: &[ServerId]) -> usize {
        let facts = |id: ServerId| self.memory.servers.get(id.index()).and_then(|memory| memory.facts.as_deref());
        let covers = |other: &&ServerId| match (facts(**other), facts(id)) {
            (Some(other), Some(own)) => errant(other, own).is_none(),
            _ => false,
        };
        writable.iter().filter(covers).count()
    }

    /// How many servers replicate from it.
    fn followers(&self, id: ServerId) -> usize {
        let follows = |other: ServerId| {
            let facts = self.memory.servers.get(other.index()).and_then(|memory| memory.facts.as_ref());
            facts.is_some_and(|facts| {
                facts.replication.iter().any(|channel| {
                    channel.io_running != ThreadState::Stopped && self.memory.source_of(self.settings, channel) == Some(id)
                })
            })
        };
        self.settings.ids().filter(|(other, _)| *other != id && follows(*other)).count()
    }

    fn why_none(&self, waiting: bool) -> NoMaster {
        let (diagnosis, detail) = self.cause(waiting);
        self.none_for(diagnosis, detail)
    }

    fn none_for(&self, diagnosis: Diagnosis, detail: String) -> NoMaster {
        let same = self.previous.no_master.as_ref().filter(|before| before.diagnosis == diagnosis);
        let detail = same
            .filter(|before| *before.detail == *detail)
            .map_or_else(|| Arc::from(detail.as_str()), |before| before.detail.clone());
        NoMaster { diagnosis, since: same.map_or(self.now.wall, |before| before.since), detail }
    }

    fn cause(&self, waiting: bool) -> (Diagnosis, String) {
        if self.peers().next().is_none() {
            return (Diagnosis::NoPeerConfigured, "no [[server]] has role = \"master\"".to_owned());
        }
        let peers = self.describe_peers();
        if waiting || self.peers().all(|id| self.pulse(id) == &Pulse::Unknown) {
            return (Diagnosis::Starting, peers);
        }
        let dead = |pulse: &Pulse| matches!(pulse, Pulse::Gone | Pulse::Silent(_));
        if self.settings.servers.len() > 1 && self.pulses.iter().all(dead) {
            return (Diagnosis::AllServersUnreachable, format!("none of {} servers answers; {peers}", self.settings.servers.len()));
        }
        let Some(last) = self.memory.last_master else { return (Diagnosis::NoWritablePeer, peers) };
        let name = self.settings.server(last).map_or("?", |server| &server.name);
        if self.memory.override_of(last) != Override::Online {
            return (Diagnosis::MasterTakenOut, format!("the master {name} was taken out by an operator; {peers}"));
        }
        match self.pulse(last) {
            Pulse::Gone => (Diagnosis::MasterCrashed, format!("the master {name} is gone; {peers}")),
            Pulse::Silent(_) => (Diagnosis::MasterSilent, format!("the master {name} is silent; {peers}")),
            _ if self.writable(last) == Some(false) => {
                (Diagnosis::MasterReadOnly, format!("the master {name} became read-only; {peers}"))
            }
            _ => (Diagnosis::NoWritablePeer, peers),
        }
    }

    /// Why one that is writable is not master.
    fn why_not_writable(&self, id: ServerId) -> String {
        let quarantined = self.memory.servers.get(id.index()).is_some_and(|memory| memory.quarantined.is_some());
        match self.outranked_by(id).and_then(|other| self.settings.server(other)) {
            _ if quarantined => "writable, but quarantined".to_owned(),
            Some(other) => {
                format!("writable, but {} was master after it: it has what this one lacks, and more servers follow it", other.name)
            }
            None => "writable".to_owned(),
        }
    }

    /// Each peer and why it is not master.
    fn describe_peers(&self) -> String {
        let mut text = String::new();
        for id in self.peers() {
            let name = self.settings.server(id).map_or("?", |server| &server.name);
            let failure = self.memory.servers.get(id.index()).and_then(|memory| memory.failure.as_ref());
            let why = match (self.memory.override_of(id), self.pulse(id)) {
                (Override::Drain, _) => "drained by an operator".to_owned(),
                (Override::Offline, _) => "taken offline by an operator".to_owned(),
                (_, Pulse::Unknown) => "not asked yet".to_owned(),
                (_, Pulse::Alive) if self.writable(id) == Some(false) => "read_only".to_owned(),
                (_, Pulse::Alive) => self.why_not_writable(id),
                (_, _) => failure.map_or_else(|| "does not answer".to_owned(), ToString::to_string),
            };
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(name);
            text.push_str(": ");
            text.push_str(&why);
        }
        text
    }
}
