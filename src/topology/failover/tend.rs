//! In peace: what the servers need so that the next failover goes well. Read off each snapshot anew, so nothing has to be remembered over a restart.
//!
//! - A peer that is writable beside the master is fenced: who was master comes back so, and so does one that was promoted in vain. Not before the
//!   master has said once more that it is writable itself: somebody else may have made that peer master a moment ago.
//! - The master receives nothing from a server that is gone, is quarantined or could still be written to: what a dead master did not send must not
//!   arrive later, unseen. Once that server is read-only and was compared with the master without a finding, the circle is closed again.
//! - Who replicates from the dead follows the master, by GTID; and so does a former master that follows nobody.

use std::time::{Duration, Instant};

use super::super::observation::{ReplicaChannel, Sight, ThreadState};
use super::super::snapshot::{NOT_ASKED, ServerView, Snapshot};
use super::super::{ConfiguredRole, Facts, ServerId, State};
use super::machine::{Machine, OUTCOME_LIMIT};
use super::{Action, Kind, Mode, Outcome, Ticket};

/// After a duty was done, what the servers say of it may be older for this long.
const SEEN_AFTER: Duration = Duration::from_secs(1);
/// A duty that failed is tried again after this, doubled each time.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// But at least this often.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// A receiver that has been stopped for so long is no short break any more.
const STALE_AFTER: Duration = Duration::from_secs(60);

/// Something to be done at a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Duty {
    /// It is writable and should not be.
    Fence(ServerId),
    /// The master receives from one it should not receive from.
    StopReceiver {
        /// The master.
        server: ServerId,
        /// Not from this one.
        from: ServerId,
    },
    /// The master may receive from its peer again.
    StartReceiver {
        /// The master.
        server: ServerId,
        /// From this one.
        from: ServerId,
    },
    /// It follows a server that is dead, or nobody.
    Repoint {
        /// Who.
        server: ServerId,
        /// The master.
        to: ServerId,
        /// From whom it has replicated until now.
        instead_of: Option<ServerId>,
        /// It was master.
        demoted: bool,
    },
}

impl Duty {
    fn server(self) -> ServerId {
        match self {
            Duty::Fence(server)
            | Duty::StopReceiver { server, .. }
            | Duty::StartReceiver { server, .. }
            | Duty::Repoint { server, .. } => server,
        }
    }
}

/// What is under way, and what waits.
#[derive(Clone, Default, Debug)]
pub(super) struct Tending {
    /// Former masters that have not come back yet.
    pub(super) deposed: Vec<ServerId>,
    /// Those of them that answer again, and since when their commits wait for no acknowledgement.
    let_go: Vec<(ServerId, Instant)>,
    /// Those of them whose quarantine was counted.
    refused: Vec<ServerId>,
    /// Who has started anew while it was watched, and does not replicate yet: where servers do not start their replication themselves, we do.
    restarted: Vec<ServerId>,
    /// Whose receiver does not run although the master lives, and since when.
    stopped: Vec<(ServerId, Instant)>,
    /// Since when there is no master to receive from: that time does not count.
    alone: Option<Instant>,
    /// Whose replication somebody else has stopped, and from whom it came; it is theirs to start it again.
    halted: Vec<(ServerId, ServerId)>,
    /// Who was master meanwhile.
    halted_under: Option<ServerId>,
    /// Whose re-pointing was begun and has not succeeded: their replication may be stopped.
    adrift: Vec<ServerId>,
    running: Vec<(Duty, Ticket, Instant)>,
    resting: Vec<Rest>,
    /// When a fence was sent last, or came about.
    fenced: Option<Instant>,
    /// Whose receivers a promotion of ours has stopped, even where another proxy had made it master a moment before; and until when that is news.
    promoted: Option<(ServerId, Instant)>,
    /// Since when somebody is making the master read-only, which waits for whoever writes there (MySQL).
    pending: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Rest {
    duty: Duty,
    until: Instant,
    wait: Duration,
    told: String,
    /// It did not come about.
    failed: bool,
}

impl Tending {
    pub(super) fn depose(&mut self, server: ServerId) {
        if !self.deposed.contains(&server) {
            self.deposed.push(server);
        }
        self.refused.retain(|other| *other != server);
    }

    /// It was made master.
    pub(super) fn promoted(&mut self, server: ServerId, now: Instant) {
        self.promoted = Some((server, now + SEEN_AFTER));
    }

    /// Its replication may have been stopped by something that did not end well.
    pub(super) fn adrift(&mut self, server: ServerId) {
        if !self.adrift.contains(&server) {
            self.adrift.push(server);
        }
    }

    /// Whose receiver had not run for so long that what it lacks is not only what was on its way.
    pub(super) fn stale(&self, now: Instant) -> Vec<ServerId> {
        let until = self.alone.unwrap_or(now);
        let stale = |(_, since): &&(ServerId, Instant)| until.saturating_duration_since(*since) >= STALE_AFTER;
        self.stopped.iter().filter(stale).map(|(id, _)| *id).collect()
    }

    /// Since when the master is on its way to being read-only.
    pub(super) fn pending(&self) -> Option<Instant> {
        self.pending
    }

    /// What has no outcome in time may have been done by half.
    fn forget_late(&mut self, now: Instant) {
        for (duty, ..) in self.running.extract_if(.., |(_, _, until)| now >= *until).collect::<Vec<_>>() {
            if let Duty::Repoint { server, .. } = duty {
                self.adrift(server);
            }
        }
    }

    /// Nothing is done to it, and what it says is not older than what was done.
    fn untouched(&self, server: ServerId, now: Instant) -> bool {
        !self.running.iter().any(|(duty, ..)| duty.server() == server)
            && self.promoted.is_none_or(|(id, until)| id != server || now >= until)
            && !self.resting.iter().any(|rest| rest.duty.server() == server && now < rest.until)
    }

    /// Nobody stops anything in the simulation.
    #[cfg(test)]
    pub(super) fn halted(&self) -> &[(ServerId, ServerId)] {
        &self.halted
    }

    fn free(&self, duty: Duty, now: Instant) -> bool {
        !self.running.iter().any(|(other, _, until)| other.server() == duty.server() && now < *until)
            && !self.resting.iter().any(|rest| rest.duty == duty && now < rest.until)
    }
}

/// What is to be done. `deposed` are former masters that have not come back yet, `adrift` those whose re-pointing was begun, `restarted` those that
/// have started anew and replicated before, `halted` those that somebody else has stopped.
pub(super) fn duties(
    seen: &Snapshot,
    master: ServerId,
    deposed: &[ServerId],
    adrift: &[ServerId],
    restarted: &[ServerId],
    halted: &[(ServerId, ServerId)],
    promote_replicas: bool,
) -> Vec<Duty> {
    let mut duties = Vec::new();
    let alive = |state: State| matches!(state, State::Online | State::Lagging | State::Quarantined | State::Draining);
    for view in seen.servers.iter().filter(|view| view.id != master && alive(view.state)) {
        let Some(facts) = &view.facts else { continue };
        let was_master = deposed.contains(&view.id);
        if facts.writable() && (view.configured_role == ConfiguredRole::Master || was_master) {
            if view.beside {
                duties.push(Duty::Fence(view.id));
            }
            continue;
        }
        if view.state == State::Quarantined || facts.sight != Sight::Clear {
            continue;
        }
        // With several sources of ours nothing is known of the operator's plan.
        let sources: Vec<ServerId> = facts.replication.iter().filter_map(|channel| seen.source_of(channel)).collect();
        let repoint = |instead_of| Duty::Repoint { server: view.id, to: master, instead_of, demoted: was_master };
        match sources.as_slice() {
            [one] if *one == master => {
                let channel = seen.channel(view.id, master);
                let stopped =
                    channel.is_some_and(|c| c.io_running == ThreadState::Stopped || c.sql_running == ThreadState::Stopped);
                let ours = was_master
                    || adrift.contains(&view.id)
                    // Stopped by their start, and not by an error or by somebody since.
                    || (restarted.contains(&view.id) && channel.is_some_and(ReplicaChannel::is_at_rest));
                if ours && stopped && is_compared(view) {
                    duties.push(repoint(Some(master)));
                }
            }
            [one] => {
                let dead = seen.server(*one).is_none_or(|source| matches!(source.state, State::Down | State::Quarantined));
                // Left by a re-pointing that was broken off: stopped, without an error, behind a peer that is not master.
                let left = seen.channel(view.id, *one).is_some_and(ReplicaChannel::is_at_rest)
                    && seen.server(*one).is_some_and(|source| promote_replicas || source.configured_role == ConfiguredRole::Master);
                let ours = was_master || adrift.contains(&view.id);
                if ours || ((dead || left) && !halted.contains(&(view.id, *one))) {
                    duties.push(repoint(Some(*one)));
                }
            }
            // It followed the dead master and has started anew since: MariaDB has forgotten that one's number, and the file may know it by another address.
            [] if adrift.contains(&view.id)
                && facts.replication.len() == 1
                && facts
                    .replication
                    .iter()
                    .all(|channel| channel.io_running != ThreadState::Running && channel.source_server_id == 0) =>
            {
                duties.push(repoint(None));
            }
            _ => {}
        }
    }
    let Some(facts) = seen.server(master).and_then(|view| view.facts.as_ref()) else { return duties };
    for channel in &facts.replication {
        let Some(from) = seen.named_source_of(channel).and_then(|id| seen.server(id)) else { continue };
        let writable = from.facts.as_ref().is_none_or(|facts| facts.writable());
        if &*from.reason == NOT_ASKED {
            continue;
        }
        let beside = writable && (from.beside || from.facts.is_none());
        let bad = matches!(from.state, State::Down | State::Quarantined) || (beside && from.state != State::Suspect);
        // Whoever follows another than the master may fetch from that one what the master must not have.
        let astray = from.facts.as_ref().is_none_or(|facts| facts.replication.iter().any(|c| seen.source_of(c) != Some(master)));
        let clean = !bad && !writable && !astray && from.state != State::Suspect && from.compared && from.errant.is_none();
        if bad && channel.io_running != ThreadState::Stopped {
            duties.push(Duty::StopReceiver { server: master, from: from.id });
        } else if clean
            && from.configured_role == ConfiguredRole::Master
            && !deposed.contains(&from.id)
            && !halted.contains(&(master, from.id))
            && (channel.io_running == ThreadState::Stopped || channel.sql_running == ThreadState::Stopped)
        {
            duties.push(Duty::StartReceiver { server: master, from: from.id });
        }
    }
    duties
}

/// It was compared with the master, and what was found on it, if anything, an operator has taken as it is.
fn is_compared(view: &ServerView) -> bool {
    view.compared && (view.errant.is_none() || view.accepted)
}

impl Machine {
    /// Who has started anew since the last snapshot, and of those of before who replicates by now; and who was stopped.
    pub(super) fn note_restarts(&mut self, before: &Snapshot, now: Instant) {
        self.note_halted(before, now);
        for view in &self.seen.servers {
            let Some(facts) = &view.facts else { continue };
            let old = before.server(view.id).and_then(|old| old.facts.as_ref());
            let replicates = |facts: &Facts| facts.replication.iter().any(|channel| channel.sql_running == ThreadState::Running);
            if old.is_some_and(|old| old.restarts != facts.restarts && replicates(old)) {
                self.tending.restarted.retain(|id| *id != view.id);
                self.tending.restarted.push(view.id);
            } else if replicates(facts) {
                self.tending.restarted.retain(|id| *id != view.id);
            }
        }
    }

    /// What ran and does not any more, without a start anew, without an error and without a hand of ours, somebody has stopped. Another proxy would have
    /// a reason to that is seen here, too: another master, or a source that is out of order.
    fn note_halted(&mut self, before: &Snapshot, now: Instant) {
        let Some(master) = self.seen.writer().map(|view| view.id) else { return };
        if self.tending.halted_under.replace(master) != Some(master) {
            self.tending.halted.clear();
        }
        let same = before.writer().is_some_and(|view| view.id == master);
        let in_order = |seen: &Snapshot, source: ServerId| {
            let read_only = |view: &ServerView| view.facts.as_ref().is_some_and(|facts| !facts.writable());
            seen.server(source).is_some_and(|view| {
                !matches!(view.state, State::Suspect | State::Down | State::Quarantined) && (source == master || read_only(view))
            })
        };
        let runs = |c: &ReplicaChannel| c.io_running != ThreadState::Stopped && c.sql_running != ThreadState::Stopped;
        for view in &self.seen.servers {
            let Some(facts) = &view.facts else { continue };
            for channel in &facts.replication {
                let Some(source) = self.seen.source_of(channel) else { continue };
                let old = before.server(view.id).and_then(|old| old.facts.as_ref()).filter(|old| old.restarts == facts.restarts);
                let known = self.tending.halted.contains(&(view.id, source));
                if runs(channel) || old.is_none() {
                    self.tending.halted.retain(|one| *one != (view.id, source));
                } else if !known
                    && same
                    && channel.last_io_error.is_empty()
                    && channel.last_sql_error.is_empty()
                    && before.channel(view.id, source).is_some_and(runs)
                    && in_order(before, source)
                    && in_order(&self.seen, source)
                    && self.tending.untouched(view.id, now)
                {
                    self.tending.halted.push((view.id, source));
                }
            }
        }
    }

    /// Whose receiver does not run while there is a master to receive from, be it stopped or connecting in vain, and whether that one is being made read-only.
    pub(super) fn note_stopped(&mut self, now: Instant) {
        let writer = self.seen.writer().and_then(|view| view.facts.as_ref());
        let pending = writer.is_some_and(|facts| facts.super_read_only && !facts.read_only);
        self.tending.pending = if pending { Some(self.tending.pending.unwrap_or(now)) } else { None };
        let Some(master) = self.seen.writer().map(|view| view.id) else {
            self.tending.alone.get_or_insert(now);
            return;
        };
        if let Some(alone) = self.tending.alone.take() {
            self.tending.stopped.iter_mut().for_each(|(_, since)| *since += now.saturating_duration_since(alone));
        }
        for view in &self.seen.servers {
            let stopped = self.seen.channel(view.id, master).is_some_and(|channel| channel.io_running != ThreadState::Running);
            if !stopped {
                self.tending.stopped.retain(|(id, _)| *id != view.id);
            } else if !self.tending.stopped.iter().any(|(id, _)| *id == view.id) {
                self.tending.stopped.push((view.id, now));
            }
        }
    }

    /// Nobody is writable, and a moment ago one was fenced beside a master that has become read-only since: somebody else had just made that one master.
    pub(super) fn has_fenced_the_next(&self, now: Instant) -> bool {
        let fresh = SEEN_AFTER + self.settings.topology.heartbeat_interval * 2;
        self.tending.fenced.is_some_and(|at| now.saturating_duration_since(at) < fresh)
            && !self.seen.servers.iter().any(|view| view.facts.as_ref().is_some_and(|facts| facts.writable()))
    }

    /// Begins what is to be done and not under way.
    pub(super) fn tend(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(master) = self.seen.writer().map(|view| view.id).filter(|_| self.settings.mode == Mode::Auto) else { return };
        self.let_returned_commit(now, actions);
        self.note_returned(master, now, actions);
        self.tending.forget_late(now);
        let promote_replicas = self.settings.topology.promote_replicas;
        let Tending { deposed, adrift, restarted, halted, .. } = &self.tending;
        for duty in duties(&self.seen, master, deposed, adrift, restarted, halted, promote_replicas) {
            if !self.tending.free(duty, now) {
                continue;
            }
            let ticket = self.ticket();
            self.tending.running.push((duty, ticket, now + OUTCOME_LIMIT));
            let action = match duty {
                Duty::Fence(server) => {
                    self.tending.depose(server);
                    self.tending.fenced = Some(now);
                    // Once, however often it fails.
                    if !self.tending.resting.iter().any(|rest| rest.duty == duty && rest.failed) {
                        let detail = format!("it is writable and {} is master: it is made read-only", self.name(master));
                        actions.push(Action::Tell { kind: "rejoin", server: Some(server), detail });
                    }
                    // To become read-only it waits for its commits, and what its applier commits waits for replicas that it has not yet.
                    actions.push(Action::LetCommit(server));
                    Action::Fence { ticket, server, kill: true }
                }
                Duty::StopReceiver { server, from } => Action::Receiver { ticket, server, from, on: false },
                Duty::StartReceiver { server, from } => Action::Receiver { ticket, server, from, on: true },
                Duty::Repoint { server, to, instead_of, demoted } => Action::Repoint { ticket, server, to, instead_of, demoted },
            };
            actions.push(action);
        }
    }

    /// Right after a promotion, without waiting for the next snapshot.
    pub(super) fn repoint(
        &mut self,
        server: ServerId,
        to: ServerId,
        old: Option<ServerId>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let follows = |from: ServerId| self.seen.channel(server, from).is_some();
        if self.settings.mode == Mode::Off || follows(to) {
            return;
        }
        let Some(old) = old.filter(|old| follows(*old)) else { return };
        let ticket = self.ticket();
        let demoted = false;
        let duty = Duty::Repoint { server, to, instead_of: Some(old), demoted };
        self.tending.running.push((duty, ticket, now + OUTCOME_LIMIT));
        actions.push(Action::Repoint { ticket, server, to, instead_of: Some(old), demoted });
    }

    /// A duty has ended, well or not.
    pub(super) fn tended(&mut self, ticket: Ticket, outcome: &Outcome, now: Instant, actions: &mut Vec<Action>) {
        let Some(at) = self.tending.running.iter().position(|(_, of, _)| *of == ticket) else { return };
        let (duty, _, _) = self.tending.running.remove(at);
        let Outcome::Acted(result) = outcome else { return };
        if matches!(duty, Duty::Fence(_)) {
            self.tending.fenced = Some(now);
        }
        if let Duty::Repoint { server, .. } = duty {
            self.tending.adrift.retain(|other| *other != server);
            if result.is_err() {
                self.tending.adrift(server);
            }
        }
        let before = self.tending.resting.iter().position(|rest| rest.duty == duty).map(|at| self.tending.resting.remove(at));
        let (kind, done) = match duty {
            Duty::Fence(_) => ("rejoin", "it is read-only".to_owned()),
            Duty::StopReceiver { from, .. } => {
                ("rejoin", format!("it receives nothing from {} until that one is compared", self.name(from)))
            }
            Duty::StartReceiver { from, .. } => ("rejoin", format!("it receives from {} again", self.name(from))),
            Duty::Repoint { to, .. } => ("repoint", format!("it replicates from {}", self.name(to))),
        };
        let server = Some(duty.server());
        let (longer, told) = before.map_or((RETRY_MIN, String::new()), |rest| ((rest.wait * 2).min(RETRY_MAX), rest.told));
        // What a server is told to start it may not keep up: that is begun anew as a failure is. What is dangerous is stopped at once each time.
        let starts = matches!(duty, Duty::StartReceiver { .. } | Duty::Repoint { .. });
        let failed = result.is_err();
        let (wait, text) = match result {
            Ok(_) => (if starts { longer } else { SEEN_AFTER }, done),
            Err(why) => (longer, format!("failed, tried again: {why}")),
        };
        if told != text || !starts && !failed {
            actions.push(Action::Tell { kind, server, detail: text.clone() });
        }
        self.tending.resting.push(Rest { duty, until: now + wait, wait, told: text, failed });
        self.tending.resting.retain(|rest| now < rest.until + RETRY_MAX);
    }

    /// A former master that comes back may have commits that wait for their acknowledgement, which are in its binary log and in no set of GTIDs: whoever fetched from
    /// it would have them, unseen. They are let go, and it is looked at again before anything is fetched.
    fn let_returned_commit(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for id in self.tending.deposed.clone() {
            let Some(state) = self.seen.server(id).map(|view| view.state) else { continue };
            let known = self.tending.let_go.iter().any(|(other, _)| *other == id);
            match state {
                State::Suspect | State::Down | State::Offline => self.tending.let_go.retain(|(other, _)| *other != id),
                _ if !known => {
                    self.tending.let_go.push((id, now));
                    actions.push(Action::LetCommit(id));
                }
                _ => {}
            }
        }
    }

    /// Former masters that follow the new one, and those that may not.
    fn note_returned(&mut self, master: ServerId, now: Instant, actions: &mut Vec<Action>) {
        let mut back = Vec::new();
        for id in &self.tending.deposed {
            let Some(view) = self.seen.server(*id) else { continue };
            let read_only = view.facts.as_ref().is_some_and(|facts| !facts.writable());
            if view.state == State::Quarantined && !self.tending.refused.contains(id) {
                self.tending.refused.push(*id);
                actions.push(Action::Count { kind: Kind::Rejoin, result: "refused", took: None });
            }
            let follows = self
                .seen
                .channel(*id, master)
                .is_some_and(|channel| channel.io_running == ThreadState::Running && channel.sql_running == ThreadState::Running);
            let let_go = |(other, at): &(ServerId, Instant)| other == id && now.saturating_duration_since(*at) >= SEEN_AFTER;
            let seen_after = self.tending.let_go.iter().any(let_go);
            if view.state == State::Online && read_only && is_compared(view) && follows && seen_after {
                back.push(*id);
            }
        }
        back.extend(self.tending.deposed.iter().filter(|id| **id == master).copied().collect::<Vec<_>>());
        for id in back {
            self.tending.deposed.retain(|other| *other != id);
            self.tending.let_go.retain(|(other, _)| *other != id);
            if id != master {
                let own = if self.view(id).is_some_and(|view| view.errant.is_some()) {
                    "was taken as it is"
                } else {
                    "has nothing of its own"
                };
                let detail = format!("it {own}, replicates from {}, and is standby", self.name(master));
                actions.push(Action::Tell { kind: "rejoin", server: Some(id), detail });
                actions.push(Action::Count { kind: Kind::Rejoin, result: "ok", took: None });
            }
        }
    }
}
