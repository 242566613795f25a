//! Sluice's own errors, as the client reads them: errno and SQLSTATE where MySQL has one that fits, and a text that begins
//! with `sluice: ` and says what happened, to which server, since when, and what to do.

use bytes::BytesMut;

use crate::protocol::frame::put_packet;
use crate::protocol::ok_err_eof::ErrPacket;

pub use crate::metrics::ErrorSource as Source;
use crate::protocol::errno::Errno;

/// An error of ours for the client.
#[derive(Clone, Debug)]
pub struct ClientError {
    /// MySQL's error number.
    pub errno: u16,
    /// Its SQLSTATE.
    pub sqlstate: [u8; 5],
    /// The text, without the prefix.
    pub text: String,
    /// Whose fault it was.
    pub source: Source,
    /// The client's connection is closed after it.
    pub fatal: bool,
    /// Said in a server's place, word for word as a server would: without our prefix.
    pub as_server: bool,
}

impl ClientError {
    /// An error of ours after which the session goes on.
    pub fn new(source: Source, error: Errno, text: impl Into<String>) -> ClientError {
        ClientError { errno: error.0, sqlstate: error.sqlstate_bytes(), text: text.into(), source, fatal: false, as_server: false }
    }

    /// An error that a server would have given, in its words.
    pub fn of_server(error: Errno, text: impl Into<String>) -> ClientError {
        ClientError { as_server: true, ..ClientError::new(Source::Client, error, text) }
    }

    /// The same, but the session ends with it.
    #[must_use]
    pub fn fatal(mut self) -> ClientError {
        self.fatal = true;
        self
    }

    /// The ERR packet, whole.
    pub fn packet(&self, seq: u8) -> Vec<u8> {
        let mut payload = BytesMut::new();
        let text =
            if self.as_server || self.text.starts_with("sluice: ") { self.text.clone() } else { format!("sluice: {}", self.text) };
        ErrPacket::write(&mut payload, self.errno, self.sqlstate, text.as_bytes());
        let mut out = BytesMut::with_capacity(payload.len() + 4);
        put_packet(&mut out, seq, &payload);
        out.to_vec()
    }
}
