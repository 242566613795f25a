//! A connection that was lost with a statement on it: what the client is told, and how often a read is begun anew, or what acts on its connection alone.
//!
//! A read may be what has ended its server, or what somebody has ended there because it ran for too long. Begun anew on one server after the other
//! it would end them all, or run as often as there are servers.

use std::time::{Duration, Instant};

use crate::frontend::client::Client;
use crate::frontend::errors::{ClientError, Source};
use crate::frontend::query::{Job, TRIES_MAX};
use crate::net::timer;
use crate::protocol::errno;
use crate::sql::classify::Class;
use crate::topology::{ServerId, State};

/// How long it is waited for a look at a server; a silent one is judged later than that.
const LOOK_LIMIT: Duration = Duration::from_millis(250);
/// A connection that was closed while it was idle is found to be so by what is sent on it, this soon.
const STALE: Duration = Duration::from_millis(100);
/// How often a read is begun anew that was lost while it ran.
const REPEATS_MAX: usize = 1;

/// With what a read was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Loss {
    /// With a connection or a server that had ended before: it has hardly begun, and has ended nobody.
    Before,
    /// With what it ran on.
    Running,
}

/// How often a statement was lost so.
#[derive(Debug, Default)]
pub(super) struct Losses {
    before: usize,
    running: usize,
}

impl Losses {
    /// One more. Whether the read may be begun anew.
    pub(super) fn may_repeat(&mut self, loss: Loss) -> bool {
        let (count, max) = match loss {
            Loss::Before => (&mut self.before, TRIES_MAX),
            Loss::Running => (&mut self.running, REPEATS_MAX),
        };
        *count += 1;
        *count <= max
    }
}

impl Client {
    /// Whether the server is there, looked at anew: then it was the connection that ended, and not the server. A look that does not come in time
    /// says nothing, and then the read is repeated.
    pub(super) async fn goes_on(&self, server: ServerId) -> bool {
        let looked = timer::timeout(LOOK_LIMIT, self.shared.monitor.ask_anew(server)).await.is_ok();
        let view = self.shared.snapshot.load();
        looked && view.server(server).is_some_and(|view| !matches!(view.state, State::Down | State::Suspect))
    }

    /// With what a read was lost that was sent then.
    pub(super) async fn loss(&self, server: ServerId, sent: Instant) -> Loss {
        match sent.elapsed() < STALE && self.goes_on(server).await {
            true => Loss::Before,
            false => Loss::Running,
        }
    }

    /// The error for a statement that was lost with its connection.
    pub(super) fn lost_while_running(&self, job: &Job<'_>, name: &str, error: &std::io::Error) -> ClientError {
        let text = if self.session.in_transaction() {
            format!(
                "lost {name} while a statement ran there ({error}); the transaction was rolled back unless its COMMIT was the statement that was lost"
            )
        } else if job.statement.class == Class::Read {
            format!("lost {name} while a read ran there ({error}); it can be repeated")
        } else if job.statement.acts_on_its_connection() {
            format!(
                "lost {name} while a statement ran there ({error}) whose effect would have been the session's alone; it can be repeated"
            )
        } else {
            format!(
                "lost {name} while a statement ran there ({error}); whether it took effect is unknown, look before you repeat it"
            )
        };
        ClientError::new(Source::Server, errno::ER_NET_READ_ERROR, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_loss_has_its_own_limit() {
        let mut losses = Losses::default();
        assert!((0..TRIES_MAX).all(|_| losses.may_repeat(Loss::Before)));
        assert!(!losses.may_repeat(Loss::Before));
        assert!(losses.may_repeat(Loss::Running), "stale connections do not count against it");
        assert!(!losses.may_repeat(Loss::Running));
    }
}
