//! Where a connection is at home, how it is left there, and whether it is fit for whoever wants it next.
//!
//! On a ring a connection that is used again and again on one worker's thread leaves its receive with the kernel, also while it is idle: a statement costs one
//! request less, and that the server has closed it is told without a look. Another thread cannot take it from there by itself: it
//! [has it brought over](Lease::brought_over), which costs more than a few statements save. So a connection that is wanted here and there does not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Connection, PreparedText};
use crate::backend::pool::Lease;
use crate::net::tasks::Tasks;
use crate::net::{Idle, Worker, timer};
use crate::session::state::State;

/// For so long after its last use a connection is taken for as good as it was then, where looking costs a system call. A reactor's notes, which cost none,
/// are as old.
const JUST_USED: Duration = Duration::from_millis(1);
/// Where it costs one, idle connections are looked at by the keeper of the pool only after so long; whoever takes one looks himself.
const LOOKED_AT_AFTER: Duration = Duration::from_secs(30);
/// So often in a row it must have been wanted on its own thread before it leaves its receive there.
const AT_HOME_MIN: u8 = 16;

/// How long a thread is waited for that has an idle connection: one that has so much to do is left alone.
const BROUGHT_WITHIN: Duration = Duration::from_secs(1);

/// The worker to whose ring or reactor a connection's socket belongs.
#[derive(Debug)]
pub(super) struct Home {
    worker: Worker,
    /// What runs there, where it has a ring.
    tasks: Option<Tasks>,
    /// How often in a row it was wanted there.
    wanted: u8,
}

impl Home {
    pub(super) fn here() -> Home {
        Home { worker: Worker::here(), tasks: Tasks::here(), wanted: 0 }
    }

    fn is_here(&self) -> bool {
        self.worker == Worker::here()
    }
}

impl Connection {
    /// Whether it is fit for the next statement: nothing came while it was idle, the server has not closed it, as far as is known. Costs no
    /// system call when all is well where the kernel tells of what comes.
    pub fn is_quiet(&self) -> bool {
        self.stream.idle() == Idle::Quiet
    }

    /// The same, as certain as can be.
    pub fn is_quiet_for_certain(&self) -> bool {
        self.stream.idle_for_certain() == Idle::Quiet
    }

    /// Whether it has ended while it was idle. Where looking costs a system call, it is looked at only when it has been idle for a while.
    pub fn is_stale(&self, since: Instant, now: Instant) -> bool {
        (!self.stream.asks_the_system() || now.duration_since(since) > LOOKED_AT_AFTER) && !self.is_quiet()
    }

    /// Whether its server may be about to close it because of its `wait_timeout`.
    pub fn is_overdue(&self) -> bool {
        self.idle_limit.is_some_and(|limit| self.idle_since.elapsed() > limit)
    }

    /// Whether it may be handed out on this thread, where it belongs from now on. One that does not [go on here](Connection::goes_on_here) may not.
    pub fn is_fit(&mut self) -> bool {
        self.is_still_fit(Instant::now) && !self.is_overdue() && self.come_home().is_ok()
    }

    /// Whether the session that holds it may go on with it. The time is asked for only where it counts.
    pub fn is_still_fit(&self, now: impl FnOnce() -> Instant) -> bool {
        self.stream.asks_the_system() && now().duration_since(self.idle_since) < JUST_USED || self.is_quiet()
    }

    /// Whether it can be used on this thread as it is.
    pub fn goes_on_here(&self) -> bool {
        self.home.is_here() || self.stream.is_at_rest()
    }

    /// Moves its socket to the ring or reactor of this thread, if it belongs to another worker.
    ///
    /// # Errors
    /// Those of the system; it must be closed then.
    fn come_home(&mut self) -> std::io::Result<()> {
        if self.home.is_here() {
            if self.home.wanted < AT_HOME_MIN {
                self.home.wanted += 1;
                self.stream.keep_receiving(self.home.wanted == AT_HOME_MIN);
            }
            return Ok(());
        }
        self.stream.move_here()?;
        self.stream.goes_first();
        self.home = Home::here();
        Ok(())
    }

    /// How well it suits a session: `None` not at all, `u32::MAX` nothing needs to be sent and it belongs to this worker.
    pub fn suits(&self, want: &Arc<State>, text: Option<&Arc<PreparedText>>) -> Option<u32> {
        let same = Arc::ptr_eq(&self.have, want) || self.have == *want;
        let prepared = text.is_none_or(|text| self.prepared.contains_key(text));
        match (same, prepared) {
            _ if self.have.role().is_some() && want.role().is_none() => None,
            _ if self.have.schema().is_some() && want.schema().is_none() && !same => None,
            // To bring it over takes more than what another one lacks.
            _ if !self.goes_on_here() => Some(u32::from(same)),
            (true, true) if self.home.is_here() => Some(u32::MAX),
            (true, true) => Some(5),
            (false, true) if self.have.schema() == want.schema() => Some(4),
            (true, false) => Some(3),
            _ if self.have.schema() == want.schema() => Some(2),
            _ => Some(1),
        }
    }
}

impl Lease {
    /// The connection, to be used on this thread. `None`: its home does not let go of it now and gives it back later, or has ended with it.
    pub async fn brought_over(self) -> Option<Lease> {
        if self.goes_on_here() {
            return Some(self);
        }
        let tasks = self.home.tasks.clone()?;
        let (tell, told) = oneshot::channel();
        tasks.spawn(|alive| async move {
            // One for which something has come is not fit, as whoever waits for it finds.
            self.stream.come_to_rest();
            // Nobody waits for it any more: it is as good as it was, and as old.
            if let Err(lease) = tell.send(self) {
                let since = lease.idle_since;
                lease.give_back(since);
            }
            drop(alive);
        });
        timer::timeout(BROUGHT_WITHIN, told).await.ok()?.ok()
    }
}
