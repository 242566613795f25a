//! The client's end of a login: packets in and out, and the errors that a broken one gets.

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use zeroize::Zeroizing;

use crate::auth::Plugin;
use crate::auth::caching_sha2::FAST_OK;
use crate::backend::packets::{PacketError, put_packet, read_packet, write_packet};
use crate::net::{Stream, timer};
use crate::protocol::errno;
use crate::protocol::handshake::{AUTH_MORE_DATA, AuthSwitchRequest, LOGIN_PACKET_LEN_MAX, Malformed, NONCE_LEN, ServerError};

/// How long the last packet to a refused client may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a client is not logged in. It has been told and its connection is closed.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// It went away.
    #[error("the client went away during the login: {0}")]
    Gone(#[from] io::Error),
    /// It stalled.
    #[error("the client did not finish its login in time")]
    Stalled,
    /// It does not speak the protocol.
    #[error("the client does not speak the protocol: {0}")]
    Malformed(String),
    /// TLS did not come about.
    #[error("TLS with the client: {0}")]
    Tls(String),
    /// A server, or the configuration, refuses the user.
    #[error("login of '{user}' refused: {error}")]
    Refused {
        /// The user's name.
        user: String,
        /// What the client was told.
        error: ServerError,
    },
    /// No server could be asked.
    #[error("login of '{user}' not decided: {error}")]
    NoServer {
        /// The user's name.
        user: String,
        /// What the client was told.
        error: ServerError,
    },
}

impl LoginError {
    /// A word for counters and events.
    pub fn kind(&self) -> &'static str {
        match self {
            LoginError::Gone(_) => "gone",
            LoginError::Stalled => "stalled",
            LoginError::Malformed(_) => "malformed",
            LoginError::Tls(_) => "tls",
            LoginError::Refused { .. } => "refused",
            LoginError::NoServer { .. } => "no_server",
        }
    }

    /// What the client is to be told, when it is still there to hear it.
    pub(super) fn for_client(&self) -> Option<ServerError> {
        match self {
            LoginError::Gone(_) | LoginError::Tls(_) => None,
            LoginError::Stalled => Some(ServerError::new(
                errno::ER_NET_READ_INTERRUPTED,
                "sluice: Got timeout reading communication packets during the login",
            )),
            LoginError::Malformed(why) => Some(ServerError::new(errno::ER_HANDSHAKE_ERROR, format!("Bad handshake: {why}"))),
            LoginError::Refused { error, .. } | LoginError::NoServer { error, .. } => Some(error.clone()),
        }
    }
}

impl From<Malformed> for LoginError {
    fn from(e: Malformed) -> LoginError {
        LoginError::Malformed(e.to_string())
    }
}

impl From<PacketError> for LoginError {
    fn from(e: PacketError) -> LoginError {
        match e {
            PacketError::Io(e) => LoginError::Gone(e),
            e => LoginError::Malformed(e.to_string()),
        }
    }
}

/// A client in its login. The stream is away only while TLS is being set up.
pub(super) struct Client {
    pub(super) stream: Option<Stream>,
    /// The number of the next packet, whoever sends it.
    pub(super) sequence: u8,
    /// The challenge it was given last; C libraries answer it once more in a COM_CHANGE_USER.
    pub(super) challenge: [u8; NONCE_LEN],
}

impl Client {
    fn stream(&mut self) -> io::Result<&mut Stream> {
        self.stream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// The next packet; it may hold a password, so it is wiped when dropped.
    pub(super) async fn read(&mut self) -> Result<Zeroizing<Vec<u8>>, LoginError> {
        let mut sequence = self.sequence;
        let packet = read_packet(self.stream()?, &mut sequence, LOGIN_PACKET_LEN_MAX).await;
        // An error reply takes the number after the packet that was read, however bad that was.
        self.sequence = self.sequence.wrapping_add(1);
        Ok(Zeroizing::new(packet?))
    }

    pub(super) async fn write(&mut self, payload: &[u8]) -> Result<(), LoginError> {
        self.note_challenge(payload);
        let mut sequence = self.sequence;
        write_packet(self.stream()?, &mut sequence, payload).await?;
        self.sequence = sequence;
        Ok(())
    }

    /// What libraries keep of a switch to one of the plugins that answer 20 bytes.
    fn note_challenge(&mut self, payload: &[u8]) {
        if payload.first() == Some(&AuthSwitchRequest::HEADER)
            && let Ok(switch) = AuthSwitchRequest::parse(payload)
            && matches!(Plugin::from_name(&switch.plugin), Some(Plugin::Native | Plugin::CachingSha2 | Plugin::Sha256))
            && let Some(challenge) = switch.data.first_chunk()
        {
            self.challenge = *challenge;
        }
    }

    /// Tells the client why not, and keeps it: its session goes on as it was before COM_CHANGE_USER. Only for refusals.
    pub(super) async fn keep_with(mut self, error: &LoginError) -> Option<Stream> {
        let (LoginError::Refused { error, .. } | LoginError::NoServer { error, .. }) = error else {
            self.close_with(error).await;
            return None;
        };
        self.write(&error.client_payload()).await.ok()?;
        self.stream
    }

    /// Tells the client why not, when it is there to hear it, and closes.
    pub(super) async fn close_with(self, error: &LoginError) {
        if let (Some(mut stream), Some(error)) = (self.stream, error.for_client()) {
            send_error(&mut stream, self.sequence, &error).await;
        }
    }
}

/// Sends an ERR packet and closes the sending side, waiting no longer than [`GOODBYE_TIMEOUT`].
pub(super) async fn send_error(stream: &mut Stream, mut sequence: u8, error: &ServerError) {
    let goodbye = async {
        write_packet(stream, &mut sequence, &error.client_payload()).await?;
        stream.shutdown().await
    };
    let _ = timer::timeout(GOODBYE_TIMEOUT, goodbye).await;
}

/// Sends the end of a good login in one write: "fast authentication has succeeded" where the client waits for it, and OK.
pub(super) async fn send_ok(stream: &mut Stream, sequence: &mut u8, fast: bool, ok: &[u8]) -> io::Result<()> {
    let mut out = Vec::with_capacity(ok.len() + 10);
    if fast {
        put_packet(&mut out, sequence, &[AUTH_MORE_DATA, FAST_OK])?;
    }
    put_packet(&mut out, sequence, ok)?;
    stream.write_all(&out).await?;
    stream.flush().await
}
