//! A client logs in at Sluice, which keeps no list of users.
//!
//! When the user's password is known (learned before, or in the configuration file), the client's answer to our challenge
//! is checked here. When it is not, or the answer does not fit, a server decides, and we learn from that:
//!
//! * The account uses `mysql_native_password` and its server lets a user see his own hash (MariaDB): the client is given
//!   the *server's* challenge, its answer goes to the server, and from the answer and the hash SHA1(password) follows.
//! * Any other plugin that proves a password: the client is asked for the password itself with the full exchange of `caching_sha2_password` (in
//!   TLS, on a unix socket, or encrypted with our RSA key), and we log in at the server with it.
//!
//! * A plugin from which nothing can be learned (`client_ed25519` without TLS, PAM's `dialog`, whatever else a server has): the
//!   exchange is carried between client and server as it is. The client is then served on that one connection.
//!
//! A client's library follows one AuthSwitchRequest, not two, so the machine never spends it on a guess.
//! The machine decides, its owner does: [`Exchange::step`] takes what happened and returns what to do next.

mod machine;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use zeroize::Zeroizing;

use super::rsa::RsaError;
use super::{Credential, Secret};
use crate::protocol::handshake::{NONCE_LEN, ServerError};

pub use machine::Exchange;

/// What the machine is told at the beginning.
#[derive(Debug)]
pub struct Start {
    /// The user's name.
    pub user: String,
    /// The client's address, as error messages name it.
    pub host: String,
    /// The plugin the client answered with; empty when it named none.
    pub plugin: String,
    /// Its answer to [`Start::nonce`]. `None` when that answer may be for another challenge (COM_CHANGE_USER of most plugins), or
    /// when it is empty and the plugin is not the one that was greeted with: libraries then send nothing and wait for a switch.
    pub answer: Option<Zeroizing<Vec<u8>>>,
    /// Our challenge.
    pub nonce: [u8; NONCE_LEN],
    /// Whether the client may answer [`Start::nonce`] in `mysql_native_password` whatever challenge it is given: C libraries do so in
    /// a COM_CHANGE_USER.
    pub keeps_challenge: bool,
    /// Whether the client may send its password as it is: in TLS or on a unix socket.
    pub secure: bool,
    /// Whether the client says that it knows AuthSwitchRequest (`CLIENT_PLUGIN_AUTH`).
    pub can_switch: bool,
    /// What is known of the user.
    pub known: Option<Arc<Credential>>,
    /// Whether a server must accept [`Start::known`] again before it counts.
    pub confirm: bool,
    /// Whether [`Start::known`] was accepted with TLS and this client has none, or the other way round: only a server that accepts it makes it count.
    pub borrowed: bool,
    /// Whether servers decide (`auth.source = "servers"`); else only [`Start::known`] does.
    pub ask_servers: bool,
}

/// What has happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// The client's next packet.
    Client(&'a [u8]),
    /// After [`Action::Probe`].
    Probed(Probed),
    /// After [`Action::Relay`], [`Action::PassOn`] and [`Action::LogIn`].
    Verdict(Verdict),
    /// After [`Action::ReadAccount`]: the statement, or `None` when the server would not tell.
    Account(Option<String>),
    /// After [`Action::Decrypt`].
    Decrypted(Result<Secret, RsaError>),
}

/// What a server said to the user's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Probed {
    /// The account uses this plugin, and this is the challenge.
    Switch {
        /// The plugin's name.
        plugin: String,
        /// The challenge; `None` when the plugin's data is none.
        nonce: Option<[u8; NONCE_LEN]>,
        /// Whether this kind of server shows a user his own password hash.
        shows_hash: bool,
        /// Whether what is sent to that server is safe from others' eyes: TLS or a unix socket.
        secure: bool,
    },
    /// The server let the user in without any proof (it runs with `skip-grant-tables`).
    Open,
    /// The server refused.
    Refused(ServerError),
    /// No server could be asked; why.
    Unreachable(String),
}

/// What a server said to a proof.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Yes.
    Accepted,
    /// No.
    Refused(ServerError),
    /// No server could be asked; why.
    Unreachable(String),
    /// What is known cannot be brought into the form that the account's plugin wants; why.
    Unfit(String),
}

/// What to do next.
#[derive(PartialEq, Eq, Debug)]
pub enum Action {
    /// Send this packet to the client; its next packet is the next event.
    Ask(Vec<u8>),
    /// Send the client our public key as AuthMoreData; its next packet is the next event.
    SendKey,
    /// Open what the client has encrypted with our public key, under this challenge.
    Decrypt {
        /// The bytes.
        encrypted: Vec<u8>,
        /// The challenge it is masked with.
        nonce: [u8; NONCE_LEN],
    },
    /// Name the user to a server, without a proof and with a plugin that nobody has, so that it names the account's.
    Probe,
    /// Give this answer to the probed server.
    Relay(Vec<u8>),
    /// Carry the probed server's packets to the client and the client's to the server, until the server has decided.
    PassOn,
    /// Log in with this: on the probed connection when there is one, else on a new one.
    LogIn(Arc<Credential>),
    /// On the connection that was just accepted: `SHOW CREATE USER CURRENT_USER()`.
    ReadAccount,
    /// The client is who it says.
    Accept(Accepted),
    /// It is not, or it cannot be told.
    Refuse {
        /// For the client.
        error: ServerError,
        /// On what ground.
        ground: Ground,
    },
}

/// Why a login ends badly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ground {
    /// What the client showed is not right, or cannot be used.
    Judged,
    /// The client showed what was known, and a server does not accept that any more: it is to be forgotten.
    Stale,
    /// No server could be asked.
    NoServer,
}

/// The good end.
#[derive(PartialEq, Eq, Debug)]
pub struct Accepted {
    /// What logs in at servers from now on. `None` when it could not be learned: then only the connection on which the
    /// server accepted the client is good.
    pub credential: Option<Arc<Credential>>,
    /// Whether the client waits for AuthMoreData "fast authentication has succeeded" before OK.
    pub fast: bool,
    /// Whether a server accepted the credential just now, so that it is to be remembered as confirmed.
    pub confirmed: bool,
}
