//! A master that answers and writes nothing: its disk is full, its file system is read-only, a commit waits for a replica or behind a lock.
//!
//! The heartbeat's write tells first. Before anything is done a second row is written, on a connection of its own, so that neither one lost connection
//! nor somebody's lock on our row makes a failover. The master is told to become read-only, and is not waited for long: what hangs in a commit hangs in
//! that, too. While one large transaction is being committed, all others wait as if the disk hung: that is given time, and so is a master that nobody
//! could replace. Nothing is sent to it any more either way, and the new master receives nothing from it until it is read-only and was compared.

use std::time::{Duration, Instant};

use super::super::diagnosis::Diagnosis;
use super::super::snapshot::ServerView;
use super::super::{ConfiguredRole, ServerId, State};
use super::case::{Case, Kind};
use super::machine::{Machine, Phase};
use super::{Action, Mode};

/// Who cannot write gets this long to become read-only.
const FENCE_PATIENCE: Duration = Duration::from_millis(500);
/// It did write: if that lasts, it is asked about again after this.
const BLOCKED_AGAIN: Duration = Duration::from_secs(1);
/// Somebody is making it read-only, which waits for whoever writes, and all writes wait behind it (MySQL: `super_read_only` is on already). That is a switchover of
/// another proxy, or an operator: it is given as long as another proxy's fence may take, and more.
const FENCE_UNDER_WAY: Duration = Duration::from_secs(10);
/// A large transaction may take this long to be committed, while all other commits wait for it.
pub const COMMIT_PATIENCE: Duration = Duration::from_secs(30);
/// Whether it writes could not be told, or nobody can take over.
const BLOCKED_UNCLEAR: Duration = Duration::from_secs(10);

impl Machine {
    /// The master that does not write, and why it is thought so.
    pub(super) fn is_blocked(&self, now: Instant) -> Option<(ServerId, String)> {
        let master = self.seen.master().filter(|view| view.state == State::Online && self.settings.mode == Mode::Auto)?;
        let mut standing = self.seen.standing.iter();
        let found = standing.find(|one| one.diagnosis == Diagnosis::MasterWritesBlocked && one.server == master.id)?;
        if self.tending.pending().is_some_and(|since| super::since(since, now) < FENCE_UNDER_WAY) {
            return None;
        }
        self.blocked_again.is_none_or(|again| now >= again).then(|| (master.id, found.detail.to_string()))
    }

    /// A write of our own did not come back: another is tried. Nothing is held for it yet.
    pub(super) fn doubt_writes(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some((old, why)) = self.is_blocked(now) else { return };
        self.blocked_again = Some(now + BLOCKED_UNCLEAR);
        let mut case = Case::new(Kind::Failover, Some(old), why, now);
        case.had = self.had(old);
        case.blocked = true;
        self.phase = self.ask_about(case, now, actions);
    }

    /// It writes after all, or that cannot be told.
    pub(super) fn blocked_for_nothing(
        &mut self,
        case: Case,
        old: ServerId,
        why: &str,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Phase {
        self.call_off(case, old, &format!("answers, and whether it writes cannot be told: {why}"), now, actions)
    }

    /// Its commits wait behind one that is large: all goes on when that one is in the binary log.
    pub(super) fn waits_for_a_commit(
        &mut self,
        case: Case,
        old: ServerId,
        why: &str,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Phase {
        let began = *self.committing_since.get_or_insert(now);
        if super::since(began, now) >= COMMIT_PATIENCE {
            let why = format!("{why}, for more than {} s", COMMIT_PATIENCE.as_secs());
            return self.depose_blocked(case, old, &why, now, actions);
        }
        self.blocked_again = Some(now + BLOCKED_AGAIN);
        self.call_off(case, old, &format!("answers, and waits: {why}"), now, actions)
    }

    /// It wrote the second row.
    pub(super) fn writes_after_all(&mut self, case: Case, old: ServerId, now: Instant, actions: &mut Vec<Action>) -> Phase {
        self.committing_since = None;
        self.blocked_again = Some(now + BLOCKED_AGAIN);
        self.call_off(case, old, "answers and writes", now, actions)
    }

    /// Two writes did not come back, and it answers questions: it is replaced.
    pub(super) fn depose_blocked(
        &mut self,
        mut case: Case,
        old: ServerId,
        why: &str,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Phase {
        // To end everybody's connections would help nobody.
        if case.order.is_none() && !self.is_anybody_up(old) {
            return self.blocked_for_nothing(case, old, &format!("{why}, and no peer stands ready"), now, actions);
        }
        self.committing_since = None;
        actions.extend(case.note("second_opinion", Some(old), format!("it answers, and cannot write: {why}"), now));
        case.held = true;
        actions.push(Action::Hold { why: format!("a new master is being chosen: {}", case.why), deposed: true });
        let ticket = self.ticket();
        actions.push(Action::Fence { ticket, server: old, kill: true });
        actions.push(Action::EndOpen(old));
        Phase::Undo { case, ticket, until: now + FENCE_PATIENCE, whom: old, blamed: false }
    }

    /// Whether another that may be promoted answers.
    fn is_anybody_up(&self, old: ServerId) -> bool {
        self.promotable(Some(old)).any(|view| view.state == State::Online)
    }

    fn promotable(&self, old: Option<ServerId>) -> impl Iterator<Item = &ServerView> {
        let promoted = |view: &ServerView| match view.configured_role {
            ConfiguredRole::Master => true,
            ConfiguredRole::Replica => self.settings.topology.promote_replicas,
            ConfiguredRole::Retired => false,
        };
        self.seen.servers.iter().filter(move |view| promoted(view) && Some(view.id) != old)
    }

    /// Whether there is a peer beside this one that could take the writes at once.
    pub(super) fn stands_ready(&self, old: Option<ServerId>) -> bool {
        self.promotable(old).any(|view| view.state == State::Online && view.errant.is_none())
    }
}
