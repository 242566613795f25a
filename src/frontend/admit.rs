//! Between step 6 and step 7 of the way of one query: may the connection still be written to? The master may have been replaced while it was
//! waited for, or while a session was pinned to it.

use std::sync::Arc;
use std::time::Instant;

use crate::backend::pool::Lease;
use crate::frontend::client::{Client, Gone};
use crate::frontend::errors::ClientError;
use crate::frontend::query::Job;
use crate::frontend::registry::ClientState;
use crate::routing::decision::{Decision, Reason, Target};
use crate::sql::classify::Class;

/// What becomes of a statement that was not sent on its connection.
pub(super) enum HeldBack {
    /// It has waited for a master, and is decided anew.
    Again,
    /// The connection the session is pinned to is of no use any more.
    HeldLost,
    /// The client has been answered.
    Answered,
}

/// Why a connection may not be written to.
pub(super) enum Barred {
    /// Writes wait.
    ForNow,
    /// Its server is not master any more, and what is pinned to it is gone.
    ForGood,
}

impl Client {
    /// Shows the client as active on the connection, and then looks whether writes wait. Whoever replaces the master says first that they wait, and then
    /// looks who is active: so one of both sees the other.
    pub(super) fn may_go(&self, job: &Job<'_>, lease: &mut Lease, decision: &Decision, started: Instant) -> Result<(), Barred> {
        self.show_active(job, lease, decision, started);
        if lease.writes { self.may_write(lease) } else { Ok(()) }
    }

    /// What becomes of a statement that may not go.
    pub(super) async fn hold_back(
        &mut self,
        job: &Job<'_>,
        mut lease: Lease,
        barred: Barred,
        decision: &Decision,
        started: Instant,
        last_error: &mut Option<ClientError>,
    ) -> Result<HeldBack, Gone> {
        match barred {
            Barred::ForNow => {
                if self.session.pins.any() {
                    self.held = Some(lease);
                } else {
                    // The client is no longer seen on the connection before somebody else may be: a KILL looks in this order.
                    self.show_waiting(job);
                    lease.give_back(Instant::now());
                }
                if let Err(error) = Box::pin(self.hold(job, decision, started, last_error.take(), false)).await? {
                    self.refuse(error).await?;
                    return Ok(HeldBack::Answered);
                }
                Ok(HeldBack::Again)
            }
            Barred::ForGood => {
                lease.tainted = true;
                self.held = Some(lease);
                Ok(HeldBack::HeldLost)
            }
        }
    }

    fn may_write(&self, lease: &Lease) -> Result<(), Barred> {
        let snapshot = self.shared.snapshot.load();
        let master = snapshot.master == Some(lease.server);
        let pins = self.session.pins;
        if !pins.any() {
            return if master && snapshot.writer().is_some() { Ok(()) } else { Err(Barred::ForNow) };
        }
        match (master, snapshot.hold.is_some()) {
            (true, false) => Ok(()),
            // A master that hands over lets end what is open on it.
            (true, true) if pins.holds_up() => Ok(()),
            (true, true) => Err(Barred::ForNow),
            (false, _) => Err(Barred::ForGood),
        }
    }

    /// For `SHOW CLIENTS`, and for whoever replaces the master.
    fn show_active(&self, job: &Job<'_>, lease: &mut Lease, decision: &Decision, started: Instant) {
        // What is pinned stays what it was when it was pinned; what a read pinned on the master, and more than reads now, writes there.
        if !matches!(decision.reason, Reason::Pinned(_)) {
            lease.writes = decision.target == Target::Master && !decision.may_retry;
        } else if !lease.writes && job.statement.class != Class::Read {
            lease.writes = self.shared.snapshot.load().master == Some(lease.server);
        }
        let mut view = self.entry.view.lock();
        view.state = ClientState::Active;
        view.since = Some(started);
        view.server = Some(lease.server);
        view.writes = lease.writes;
        view.thread_id = lease.thread_id;
        if !view.statement.as_ref().is_some_and(|shown| Arc::ptr_eq(shown, job.statement)) {
            view.statement = Some(job.statement.clone());
        }
        view.queries += 1;
    }

    /// The same while a transaction is run again, whose statement is shown already.
    pub(super) fn show_running(&self, lease: &Lease) {
        let mut view = self.entry.view.lock();
        view.state = ClientState::Active;
        view.server = Some(lease.server);
        view.writes = lease.writes;
        view.thread_id = lease.thread_id;
    }
}
