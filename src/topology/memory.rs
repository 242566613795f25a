//! What diagnosis remembers between two snapshots: who answered when, the beats written, what operators asked for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lag::Beats;
use super::observation::{Facts, Failure, Moment, Observation, ReplicaChannel, Sight, ThreadState, Witness};
use super::settings::{ConfiguredServer, Settings};
use super::snapshot::Snapshot;
use super::source::{Known, source_among};
use super::{Errant, Flavor, GtidSet, ServerId, State, errant, lacks_of, on_its_way};

/// A server that refuses the monitor's account is asked again this often: a wrong password must not fill its log, or lock the account.
pub const REFUSED_RETRY: Duration = Duration::from_secs(5);

/// What an operator asked for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Override {
    /// `ONLINE SERVER`: judged like any other.
    #[default]
    Online,
    /// `DRAIN SERVER`.
    Drain,
    /// `OFFLINE SERVER`.
    Offline,
}

/// The memory of one diagnosis.
#[derive(Clone, Debug)]
pub struct Memory {
    pub(super) started: Instant,
    pub(super) beats: Beats,
    pub(super) servers: Vec<ServerMemory>,
    /// The last master there was, and whether any has been elected since the start.
    pub(super) last_master: Option<ServerId>,
    pub(super) ever_elected: bool,
    /// Since when the heartbeat's write does not come back, and what came instead.
    pub(super) beat_trouble: Option<(Instant, String)>,
    /// Until when the heartbeat row counts as written by somebody else too.
    pub(super) beats_shared_until: Option<Instant>,
    /// Failover decides who is master once there has been one; elections are for the start only.
    pub(super) steered: bool,
    /// Failover's word: no write to anybody, and why.
    pub(super) hold: Option<Hold>,
    /// Failover's word: this one is master from the next judgement on.
    pub(super) appointed: Option<ServerId>,
}

/// No write goes to anybody.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hold {
    /// Why, in words.
    pub why: Arc<str>,
    /// The master is given up; else it stays, and what is open there may end.
    pub deposed: bool,
}

/// The memory of one server.
#[derive(Clone, Default, Debug)]
pub(super) struct ServerMemory {
    pub facts: Option<Arc<Facts>>,
    pub facts_at: Option<Instant>,
    /// When it last answered anything, a refusal of our account included.
    pub alive_at: Option<Instant>,
    /// The last failure when the last look was one.
    pub failure: Option<Failure>,
    /// True once anything has been seen of it, good or bad.
    pub observed: bool,
    pub over: Override,
    pub weight: Option<u32>,
    /// Since when one of its replication threads tries to connect in vain.
    pub disconnected_since: Option<Instant>,
    /// Since when it does not say how it replicates, though it answers else.
    pub unseen_since: Option<Instant>,
    /// When its last facts arrived.
    pub heard_at: Option<Instant>,
    /// What came of comparing it with the master; `None` before that.
    pub compared: Option<Option<Errant>>,
    /// The master has said that it is writable after this one had said so: they are writable at one time.
    pub beside: bool,
    /// When it first said that it is writable, and has not said otherwise since.
    pub writable_since: Option<Instant>,
    /// What it had of the master's own transactions and the master did not show yet, see [`on_its_way`].
    pub doubtful: Option<(GtidSet, Instant)>,
    /// When it did not answer last, or was seen to have started anew, and what others had then: of that it may have lost something.
    pub away: Option<(Instant, GtidSet)>,
    /// When it was, nothing could come to it any more that the master has not.
    pub settled: bool,
    /// What it was quarantined for, until `REJOIN SERVER`.
    pub quarantined: Option<Arc<str>>,
    /// Errant transactions that an operator has taken as they are.
    pub accepted: Option<String>,
}

/// Does it answer?
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Pulse {
    /// Nobody has looked yet, or it has not answered and the start is only a moment ago.
    Unknown,
    /// It answered within the time allowed.
    Alive,
    /// It answers, but tells nothing: our account is refused, or it has no connection left. For how long facts are missing.
    Blind(Duration),
    /// Silent for longer than [`Settings::suspect_after`].
    Suspect(Duration),
    /// Silent for longer than [`Settings::down_after`], or never heard.
    Silent(Option<Duration>),
    /// Its process is gone.
    Gone,
}

impl ServerMemory {
    /// Whether what was found on it is what an operator has taken as it is.
    pub(super) fn is_accepted(&self) -> bool {
        let found = self.compared.as_ref().and_then(|found| found.as_ref());
        found.is_some_and(|errant| self.accepted.as_ref() == Some(&errant.all))
    }

    /// See [`super::snapshot::ServerView::causal`].
    pub(super) fn is_causal(&self) -> bool {
        let counts = self.facts.as_ref().is_some_and(|facts| facts.flavor == Flavor::MariaDb);
        !counts || (self.settled && self.compared == Some(None))
    }
}

impl Memory {
    /// Nothing seen. `run` names this process in the heartbeat row (drawn at random, not 0). What `snapshot` carries over from before a reload is kept.
    pub fn new(settings: &Settings, snapshot: &Snapshot, run: u64, now: Instant) -> Memory {
        let remember = |(id, _)| {
            let view = snapshot.server(id);
            let over = match view.map(|view| view.state) {
                Some(State::Draining) => Override::Drain,
                Some(State::Offline) => Override::Offline,
                _ => Override::Online,
            };
            ServerMemory { facts: view.and_then(|view| view.facts.clone()), over, ..ServerMemory::default() }
        };
        let servers = settings.ids().map(remember).collect();
        Memory {
            started: now,
            beats: Beats::new(run, settings.heartbeat_interval),
            servers,
            last_master: snapshot.master,
            ever_elected: snapshot.master.is_some(),
            beat_trouble: None,
            beats_shared_until: None,
            steered: false,
            hold: None,
            appointed: None,
        }
    }

    /// The configuration was read again: new servers have not been asked yet, those that left are forgotten, and an operator's weights give way
    /// to the file's. What is known of the others stays.
    pub fn realign(&mut self, settings: &Settings) {
        self.servers.resize_with(settings.servers.len().max(self.servers.len()), ServerMemory::default);
        for (id, _) in settings.ids() {
            let Some(memory) = self.servers.get_mut(id.index()) else { continue };
            memory.weight = None;
            if settings.is_retired(id) {
                *memory = ServerMemory::default();
            }
        }
        self.beats.interval_is(settings.heartbeat_interval);
    }

    /// An operator's word on a server.
    pub fn set_override(&mut self, server: ServerId, over: Override) {
        if let Some(memory) = self.servers.get_mut(server.index()) {
            memory.over = over;
        }
    }

    /// From now on failover decides who is master (`failover.mode = "auto"`); an election is held only for the first.
    pub fn steer(&mut self, on: bool) {
        self.steered = on;
    }

    /// No write goes to anybody until [`Memory::release`].
    pub fn hold(&mut self, hold: Hold) {
        self.hold = Some(hold);
    }

    /// Writes go to this server, if it answers and is writable. Ends a hold.
    pub fn release(&mut self, master: ServerId) {
        self.hold = None;
        self.appointed = Some(master);
        // It was chosen in spite of it, by an operator's force.
        if let Some(memory) = self.servers.get_mut(master.index()) {
            memory.quarantined = None;
        }
        // What hindered it was another master, or is over.
        self.beat_trouble = None;
    }

    /// `REJOIN SERVER`: whatever it was quarantined for is taken as it is.
    pub fn rejoin(&mut self, server: ServerId) {
        if let Some(memory) = self.servers.get_mut(server.index()) {
            memory.quarantined = None;
            memory.accepted = memory.compared.as_ref().and_then(|found| found.as_ref()).map(|errant| errant.all.clone());
        }
    }

    /// What an operator asked for at a server.
    pub fn override_of(&self, server: ServerId) -> Override {
        self.servers.get(server.index()).map_or(Override::Online, |memory| memory.over)
    }

    /// An operator's weight for a server, until the next reload.
    pub fn set_weight(&mut self, server: ServerId, weight: u32) {
        if let Some(memory) = self.servers.get_mut(server.index()) {
            memory.weight = Some(weight);
        }
    }

    /// The heartbeat row was written on the master; acknowledged at `at`.
    pub fn beat_written(&mut self, number: u64, at: Instant) {
        self.beats.record(number, at);
        self.beat_trouble = None;
    }

    /// The heartbeat row could not be written on `server`. `why` names the error or the timeout. What is said late of one that is
    /// master no more says nothing of the one that is.
    pub fn beat_failed(&mut self, server: ServerId, at: Instant, why: String) {
        if self.appointed.or(self.last_master) != Some(server) {
            return;
        }
        match &mut self.beat_trouble {
            Some((_, text)) => *text = why,
            none => *none = Some((at, why)),
        }
    }

    /// This process did not run for that long: silence heard meanwhile is nobody else's.
    pub fn forgive_stall(&mut self, stall: Duration) {
        self.started += stall;
        self.beats.forgive(stall);
        for server in &mut self.servers {
            for at in [
                &mut server.alive_at,
                &mut server.facts_at,
                &mut server.heard_at,
                &mut server.writable_since,
                &mut server.disconnected_since,
                &mut server.unseen_since,
            ]
            .into_iter()
            .flatten()
            {
                *at += stall;
            }
        }
        if let Some((since, _)) = &mut self.beat_trouble {
            *since += stall;
        }
    }

    /// Takes in what was seen. An observation older than a later answer changes nothing.
    pub(super) fn absorb(&mut self, settings: &Settings, observation: Observation, now: Moment) {
        let run = self.beats.run();
        let wrote = self.beats.live(now.mono);
        let is_master = self.last_master == Some(observation.server);
        let of_others = self.together_without(&observation);
        let Some(memory) = self.servers.get_mut(observation.server.index()) else { return };
        match observation.outcome {
            Ok(facts) => {
                if memory.facts_at.is_some_and(|at| at > observation.asked_at) {
                    return;
                }
                let connecting = facts.replication.iter().any(|c| c.io_running != ThreadState::Running);
                if !connecting {
                    memory.disconnected_since = None;
                } else if memory.disconnected_since.is_none() {
                    memory.disconnected_since = Some(observation.at);
                }
                memory.unseen_since = match facts.sight {
                    Sight::Hangs => memory.unseen_since.or(Some(observation.at)),
                    Sight::Clear | Sight::Denied => None,
                };
                if is_master && wrote && facts.heartbeat.is_some_and(|beat| beat.run != run && beat.run != 0) {
                    self.beats_shared_until = Some(now.mono + HEARTBEAT_SHARED_FOR);
                }
                if memory.facts.as_ref().is_some_and(|old| old.restarts != facts.restarts) {
                    memory.away = of_others.map(|set| (observation.at, set));
                }
                // It may have written until now.
                if memory.facts.as_ref().is_some_and(|old| old.restarts != facts.restarts || (old.writable() && !facts.writable()))
                {
                    memory.compared = None;
                }
                // What the master said before may be older than this.
                let was_writable = memory.facts.as_ref().is_some_and(|old| old.writable());
                memory.beside &= facts.writable() && was_writable;
                memory.writable_since = match facts.writable() {
                    true => memory.writable_since.filter(|_| was_writable).or(Some(observation.at)),
                    false => None,
                };
                memory.observed = true;
                memory.facts = Some(Arc::new(facts));
                memory.facts_at = Some(observation.asked_at);
                memory.heard_at = Some(observation.at);
                memory.alive_at = Some(observation.at);
                memory.failure = None;
                if is_master {
                    self.compare(settings, observation.server, observation.asked_at);
                }
            }
            Err(failure) => {
                if memory.alive_at.is_some_and(|at| at > observation.at) {
                    return;
                }
                match observation.witness {
                    Witness::Monitor => {}
                    Witness::Traffic if matches!(failure, Failure::ConnectRefused(_)) => {}
                    Witness::Traffic => return,
                }
                if failure.is_alive() {
                    memory.alive_at = Some(observation.at);
                } else {
                    // It may come back with something else.
                    (memory.compared, memory.beside, memory.writable_since) = (None, false, None);
                    memory.away = of_others.map(|set| (observation.at, set));
                }
                memory.observed = true;
                memory.failure = Some(failure);
            }
        }
    }

    /// What all others have, where this one is the master and was away; only MySQL's numbers come again unseen.
    fn together_without(&self, observation: &Observation) -> Option<GtidSet> {
        let own = self.servers.get(observation.server.index())?.facts.as_ref()?;
        let away = match &observation.outcome {
            Ok(facts) => facts.restarts != own.restarts,
            Err(failure) => !failure.is_alive(),
        };
        if !away || own.flavor != Flavor::MySql {
            return None;
        }
        let others = self.servers.iter().enumerate().filter(|(index, _)| *index != observation.server.index());
        let mut all = GtidSet::empty(own.flavor);
        others.filter_map(|(_, memory)| memory.facts.as_ref()).for_each(|facts| all.merge(&facts.received()));
        Some(all)
    }

    /// Compares everybody who had answered before the master was asked with what it said.
    fn compare(&mut self, settings: &Settings, master: ServerId, asked_at: Instant) {
        let Some(known) = self.servers.get(master.index()).and_then(|memory| memory.facts.clone()) else { return };
        // One that was away may have lost what it had sent, and give the same numbers to something else.
        let away = self.servers.get(master.index()).and_then(|memory| memory.away.clone());
        let away = away.filter(|(at, _)| asked_at.saturating_duration_since(*at) < LOST_FOR).map(|(_, set)| set);
        let patience = |facts: &Facts| match &away {
            Some(had) if lacks_of(facts, &known, had) => Duration::ZERO,
            _ => ON_ITS_WAY,
        };
        let settled: Vec<bool> = self
            .servers
            .iter()
            .map(|memory| memory.facts.as_ref().is_some_and(|facts| self.is_settled(settings, master, facts)))
            .collect();
        for (index, memory) in self.servers.iter_mut().enumerate() {
            let Some(facts) = memory.facts.as_ref().filter(|_| index != master.index() && memory.failure.is_none()) else {
                continue;
            };
            // Its answers come as often as the master's: the last may always be newer than the question to the master.
            memory.beside |= known.writable() && facts.writable() && memory.writable_since.is_some_and(|at| at <= asked_at);
            if memory.heard_at.is_some_and(|at| at <= asked_at) {
                if let Some(doubtful) = on_its_way(facts, &known, memory.doubtful.as_ref(), asked_at, patience(facts)) {
                    memory.doubtful = Some(doubtful);
                    continue;
                }
                memory.doubtful = None;
                memory.compared = Some(errant(facts, &known));
                memory.settled = settled.get(index).copied().unwrap_or_default();
            }
        }
    }

    /// The server a channel replicates from, by what is known of all.
    pub(super) fn source_of<'s>(&'s self, settings: &'s Settings, channel: &ReplicaChannel) -> Option<ServerId> {
        let known = |(id, server): (ServerId, &'s ConfiguredServer)| {
            let facts = self.servers.get(id.index()).and_then(|remembered| remembered.facts.as_deref());
            Known { id, role: server.role, address: &server.address, facts }
        };
        source_among(settings.ids().map(known), channel)
    }

    /// Whether all that comes to a server comes from the master, and nothing of somebody else waits to be applied.
    fn is_settled(&self, settings: &Settings, master: ServerId, facts: &Facts) -> bool {
        let of_master = |channel: &ReplicaChannel| self.source_of(settings, channel) == Some(master);
        facts.replication.iter().all(of_master) || facts.applied().covers(&facts.received())
    }

    /// There is another master: what was compared with the old one says nothing.
    pub(super) fn forget_comparisons(&mut self) {
        for memory in &mut self.servers {
            (memory.compared, memory.beside) = (None, false);
        }
    }

    /// Does that server answer?
    pub(super) fn pulse(&self, settings: &Settings, server: ServerId, now: Instant) -> Pulse {
        let Some(memory) = self.servers.get(server.index()).filter(|memory| memory.observed) else { return Pulse::Unknown };
        if matches!(memory.failure, Some(Failure::ConnectRefused(_) | Failure::Io(_))) {
            return Pulse::Gone;
        }
        let Some(alive_at) = memory.alive_at else {
            // Not heard since the start: it gets as long as one that is heard then and not again. The first look gives up earlier.
            let silence = now.saturating_duration_since(self.started);
            return if silence < settings.suspect_after() { Pulse::Unknown } else { Pulse::Silent(None) };
        };
        // Whoever refuses our account is asked less often; between two tries it is not silent.
        let unasked = if matches!(memory.failure, Some(Failure::Auth(..))) { REFUSED_RETRY } else { Duration::ZERO };
        let silence = now.saturating_duration_since(alive_at).saturating_sub(unasked);
        if silence >= settings.down_after() {
            Pulse::Silent(Some(silence))
        } else if silence >= settings.suspect_after() {
            Pulse::Suspect(silence)
        } else if memory.failure.as_ref().is_some_and(Failure::is_alive) {
            Pulse::Blind(now.saturating_duration_since(memory.facts_at.unwrap_or(self.started)))
        } else if memory.facts.is_none() {
            // It answered once with a refusal of our account, and now not at all: nothing is known that could be used.
            Pulse::Silent(None)
        } else {
            Pulse::Alive
        }
    }

    /// The state an operator's word makes of a server.
    pub(super) fn overridden(&self, server: ServerId) -> Option<State> {
        match self.override_of(server) {
            Override::Online => None,
            Override::Drain => Some(State::Draining),
            Override::Offline => Some(State::Offline),
        }
    }
}

/// For how long a master that waits for an acknowledgement may not show what its replicas have of it: three times the time that servers wait by default.
const ON_ITS_WAY: Duration = Duration::from_secs(30);
/// For how long after its start what a master lacks may be lost.
const LOST_FOR: Duration = Duration::from_secs(60);
/// For how long after a foreign beat on the master its row is not trusted.
const HEARTBEAT_SHARED_FOR: Duration = Duration::from_secs(10);
