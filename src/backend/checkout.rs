//! What is asked of a pool, how it behaves, and why it may have nothing to give.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::Credential;
use crate::auth::attributes::Attribute;
use crate::backend::connect::ConnectError;
use crate::backend::connection::{CommandError, PoolKey, PreparedText};
use crate::backend::pool_book::Counts;
use crate::session::state::State;

/// How a pool behaves.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// Unused for this long: closed.
    pub idle_timeout: Duration,
    /// Open for this long: closed instead of given back.
    pub max_lifetime: Duration,
    /// How long a statement waits for a connection.
    pub checkout_timeout: Duration,
    /// How long opening a connection may take.
    pub connect_timeout: Duration,
    /// Statements one connection may hold prepared. With a hundred connections a server stays well below the default
    /// `max_prepared_stmt_count` of 16,382.
    pub max_prepared: usize,
}

impl Default for PoolSettings {
    fn default() -> PoolSettings {
        PoolSettings {
            idle_timeout: Duration::from_secs(300),
            max_lifetime: Duration::from_secs(3600),
            checkout_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(3),
            max_prepared: 128,
        }
    }
}

/// Who asks for a connection, and in which state he needs it.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// Which connections are his.
    pub key: &'a Arc<PoolKey>,
    /// How a new one logs in.
    pub credential: &'a Arc<Credential>,
    /// The handshake's collation id for a new one.
    pub collation: u16,
    /// The state he will bring it to.
    pub state: &'a Arc<State>,
    /// The state a new connection has right after its login with that collation and no schema.
    pub fresh: &'a Arc<State>,
    /// What a new one tells the server of its client.
    pub attributes: &'a Arc<[Attribute]>,
    /// The prepared statement he will execute.
    pub text: Option<&'a Arc<PreparedText>>,
}

/// Why no connection was to be had.
#[derive(Debug)]
pub enum CheckoutError {
    /// All are in use, and none came back in time.
    Exhausted {
        /// How long was waited.
        waited: Duration,
        /// The books at the end.
        counts: Counts,
    },
    /// A new one could not be opened.
    Connect(ConnectError),
    /// A new one was opened but would not be set up.
    Setup(CommandError),
}

impl std::fmt::Display for CheckoutError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CheckoutError::Exhausted { waited, counts } => {
                write!(
                    f,
                    "all {} connections are in use and {} others wait; gave up after {} ms",
                    counts.max,
                    counts.waiting,
                    waited.as_millis()
                )
            }
            CheckoutError::Connect(error) => write!(f, "cannot open a connection: {error}"),
            CheckoutError::Setup(error) => write!(f, "a new connection could not be set up: {error}"),
        }
    }
}
