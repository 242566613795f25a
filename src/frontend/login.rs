//! Logging a client in: greeting, TLS, and carrying out what [`crate::auth::exchange`] decides. Decides nothing itself.
//!
//! The last word of a login, OK or ERR, is left to the caller ([`LoggedIn::accept`], [`LoggedIn::refuse`]): it may first
//! have to ask a server whether the schema exists.

mod ask;
mod client;
mod drive;
mod greeting;
mod pass_on;
mod server;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::OnceCell;

use crate::auth::rsa::{PasswordKey, RsaError};
use crate::auth::{Accounts, Credentials, Known, Override};
use crate::backend::{Connected, ServerAddress, ServerTls};
use crate::frontend::tls::ClientTls;
use crate::net::{self, Stream};
use crate::protocol::Capabilities;
use crate::protocol::compress::Algorithm;
use crate::protocol::handshake::{NONCE_LEN, ServerError};
use crate::topology::ServerId;

pub use client::LoginError;
pub(crate) use drive::remembered_as;
pub use drive::{change_user, log_in};
pub use greeting::{GreetingTemplate, NOT_OFFERED, OFFERED, nonce};

/// A server that may be asked about a user.
#[derive(Clone, Debug)]
pub struct LoginServer {
    /// Its number.
    pub id: ServerId,
    /// Where it is.
    pub address: ServerAddress,
    /// How to speak TLS with it.
    pub tls: ServerTls,
    /// It has answered the monitor lately: what takes long there is its load.
    pub answers: bool,
}

/// Which servers to ask, the one to ask first at the front (the master, then any). Asked anew at each login.
pub type LoginServers = dyn Fn() -> Vec<LoginServer> + Send + Sync;

/// How long a login may take.
#[derive(Clone, Copy, Debug)]
pub struct LoginLimits {
    /// The whole of it, from the accepted socket to the last packet of the exchange.
    pub login: Duration,
    /// Connecting to one server within it; the next one is asked then, and beside one that is silent sooner.
    pub server: Duration,
    /// How long a server's word on a credential counts before a login has it confirmed again.
    pub confirm_after: Duration,
}

impl Default for LoginLimits {
    fn default() -> LoginLimits {
        LoginLimits { login: Duration::from_secs(10), server: Duration::from_secs(3), confirm_after: Duration::from_secs(10) }
    }
}

/// What all logins share.
pub struct LoginRoom {
    /// TLS towards clients; replaced by a reload.
    pub tls: ArcSwap<ClientTls>,
    /// The `[[user]]` entries; replaced by [`LoginRoom::set_accounts`].
    pub accounts: ArcSwap<Accounts>,
    /// Counts how often they were read, from 1 on.
    pub accounts_read: AtomicU64,
    /// What has been learned.
    pub credentials: Arc<Credentials>,
    /// What clients are greeted with; replaced when the servers are known.
    pub greeting: ArcSwap<GreetingTemplate>,
    /// Which servers to ask.
    pub servers: Box<LoginServers>,
    /// How long things may take.
    pub limits: LoginLimits,
    /// Whether servers are told clients' addresses.
    pub tells_addresses: bool,
    key: OnceCell<Arc<PasswordKey>>,
}

impl LoginRoom {
    /// A room in which nothing is known yet.
    pub fn new(
        tls: ClientTls,
        accounts: Accounts,
        credentials: Arc<Credentials>,
        servers: Box<LoginServers>,
        limits: LoginLimits,
        tells_addresses: bool,
    ) -> LoginRoom {
        LoginRoom {
            tls: ArcSwap::from_pointee(tls),
            accounts: ArcSwap::from_pointee(accounts),
            accounts_read: AtomicU64::new(1),
            credentials,
            greeting: ArcSwap::from_pointee(GreetingTemplate::default()),
            servers,
            limits,
            tells_addresses,
            key: OnceCell::new(),
        }
    }

    /// Replaces the `[[user]]` entries. Clients that are in follow with their next statement.
    pub fn set_accounts(&self, accounts: Accounts) {
        self.accounts.store(Arc::new(accounts));
        self.accounts_read.fetch_add(1, Ordering::Release);
    }

    /// The RSA key for passwords, made on first need in a thread that may block. Call it once at start, so that no login
    /// waits for it.
    ///
    /// # Errors
    /// When no key could be made.
    pub async fn password_key(&self) -> Result<Arc<PasswordKey>, RsaError> {
        let make = || async {
            let key = tokio::task::spawn_blocking(PasswordKey::generate).await.map_err(|_| RsaError::NoKey)??;
            Ok(Arc::new(key))
        };
        self.key.get_or_try_init(make).await.cloned()
    }
}

/// Where a client comes from.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address; `None` on a unix socket.
    pub ip: Option<IpAddr>,
    /// The address as errors and tables name it: without port, `localhost` on a unix socket.
    pub host: String,
}

impl Peer {
    /// From an address, perhaps one that a PROXY header told; `None`: a unix socket.
    pub fn new(ip: Option<IpAddr>) -> Peer {
        let ip = ip.map(|ip| ip.to_canonical());
        Peer { ip, host: ip.map_or_else(|| "localhost".to_owned(), |ip| ip.to_string()) }
    }
}

/// A connection on which a server has accepted the client during its login, ready for its first statement.
#[derive(Debug)]
pub struct First {
    /// Which server.
    pub server: ServerId,
    /// The connection, logged in with the capabilities agreed with the client, without a schema.
    pub connected: Connected,
}

/// A client that is who it says; it waits for OK or ERR.
#[derive(Debug)]
pub struct LoggedIn {
    /// The stream, in TLS when the client asked for it.
    pub stream: Stream,
    /// Whether it is in TLS.
    pub tls: bool,
    /// The user's name.
    pub user: String,
    /// Where the client comes from, as errors name it.
    pub host: String,
    /// The schema the client wants to start in.
    pub schema: Option<String>,
    /// The collation the client named; 0 when a COM_CHANGE_USER named none.
    pub collation: u16,
    /// What was agreed upon with the client.
    pub capabilities: Capabilities,
    /// The longest packet the client says it takes, in bytes.
    pub max_packet: u32,
    /// Connection attributes.
    pub attributes: Vec<(String, String)>,
    /// What logs the user in at servers. `None` when it could not be learned: then only `first` can serve the client.
    pub credential: Option<Known>,
    /// The user's `[[user]]` entry.
    pub account: Option<Arc<Override>>,
    /// A connection made on the way. Use it or close it politely.
    pub first: Option<First>,
    sequence: u8,
    /// The challenge the client was given last.
    pub challenge: [u8; NONCE_LEN],
    fast: bool,
    /// The stream is compressed behind the OK.
    compression: Option<Algorithm>,
}

/// What one login needs besides the room.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Where the client comes from.
    pub peer: Peer,
    /// The number the client is told, and with which it may `KILL`.
    pub connection_id: u32,
}

/// A COM_CHANGE_USER in a running session.
#[derive(Clone, Copy, Debug)]
pub struct ChangeUserRequest<'a> {
    /// The packet's payload, command byte included.
    pub packet: &'a [u8],
    /// What the session agreed upon when it logged in.
    pub capabilities: Capabilities,
    /// The longest packet the client said it takes, in bytes.
    pub max_packet: u32,
    /// The challenge the client was given last.
    pub nonce: [u8; NONCE_LEN],
}

impl LoggedIn {
    /// Tells the client that it is in. `status`: `SERVER_STATUS_*` flags.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn accept(&mut self, status: u16) -> std::io::Result<()> {
        let [low, high] = status.to_le_bytes();
        self.accept_with(&[0, 0, 0, low, high, 0, 0]).await
    }

    /// As [`LoggedIn::accept`] with an OK packet's payload of the caller's.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn accept_with(&mut self, ok: &[u8]) -> std::io::Result<()> {
        client::send_ok(&mut self.stream, &mut self.sequence, self.fast, ok).await?;
        if let Some(algorithm) = self.compression.take() {
            self.stream = self.stream.take().compressed(algorithm, net::Peer::Client);
        }
        Ok(())
    }

    /// Refuses the client after all, with a server's error, and closes; with `keep` it is left open, for its old session.
    pub async fn refuse(mut self, error: &ServerError, keep: bool) -> Option<Stream> {
        if keep {
            let client = client::Client { stream: Some(self.stream), sequence: self.sequence, challenge: self.challenge };
            return client.keep_with(&LoginError::Refused { user: self.user, error: error.clone() }).await;
        }
        client::send_error(&mut self.stream, self.sequence, error).await;
        None
    }
}

/// The moment of a login. The only clock here.
fn now() -> Instant {
    Instant::now()
}
