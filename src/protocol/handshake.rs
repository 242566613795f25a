//! The packets of the login: greeting, handshake response, TLS request, authentication switch, and the ERR packet that
//! may end it. Both directions of each, because Sluice is a server to clients and a client to servers.
//!
//! Source: MySQL manual "Connection Phase Packets"; MariaDB knowledge base "Connecting". A parser here never panics and
//! allocates no more than the packet it was given holds; [`LOGIN_PACKET_LEN_MAX`] bounds that. Framing and sequence
//! numbers are not here.

pub(crate) mod cursor;
mod response;
#[cfg(test)]
mod tests;

use std::fmt;

use self::cursor::{Cursor, put_nul};
use super::Capabilities;
use super::errno::Errno;

pub use self::response::{CLIENT_PLUGIN_DATA_LEN_MAX, CONNECT_ATTRS_LEN_MAX, ChangeUser, HandshakeResponse, SslRequest};

/// The longest packet either side may send during a login, in bytes. The largest honest one is a handshake response with
/// 64 KiB of connection attributes (the most a server keeps), names, and an authentication answer.
pub const LOGIN_PACKET_LEN_MAX: usize = 72 * 1024;
/// The challenge's length in bytes for every plugin spoken here.
pub const NONCE_LEN: usize = 20;
/// The longest version string, plugin name or user name taken from a peer, in bytes.
pub const NAME_LEN_MAX: usize = 512;

/// A packet that is not what the protocol says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed {field}: {why}")]
pub struct Malformed {
    /// Packet or field.
    pub field: &'static str,
    /// What is wrong with it.
    pub why: &'static str,
}

/// The server's first packet ("Protocol::HandshakeV10").
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Greeting {
    /// The server's version as it stands in the packet, for instance `5.5.5-10.11.6-MariaDB`.
    pub version: String,
    /// The number of the connection, as in `SHOW PROCESSLIST`. The packet has 32 bits for it.
    pub connection_id: u32,
    /// The challenge for the first plugin.
    pub nonce: [u8; NONCE_LEN],
    /// What the server can do. MariaDB's extended flags are there when the server sent them.
    pub capabilities: Capabilities,
    /// The low byte of the server's default collation.
    pub collation: u8,
    /// `SERVER_STATUS_*` flags.
    pub status: u16,
    /// The plugin the server would like first; empty when it named none.
    pub plugin: String,
}

impl Greeting {
    /// Reads a greeting.
    ///
    /// # Errors
    /// When it is not protocol version 10 with a 20-byte challenge (servers since MySQL 5.5 send that).
    pub fn parse(packet: &[u8]) -> Result<Greeting, Malformed> {
        let mut c = Cursor::new(packet);
        if c.u8("greeting")? != 10 {
            return Err(Malformed { field: "greeting", why: "not protocol version 10" });
        }
        let version = name(c.nul("server version")?, "server version")?;
        let connection_id = c.u32("connection id")?;
        let first = c.bytes(8, "challenge")?;
        c.bytes(1, "challenge")?;
        let low = c.u16("capabilities")?;
        let collation = c.u8("collation")?;
        let status = c.u16("status")?;
        let high = c.u16("capabilities")?;
        let nonce_len = c.u8("challenge length")?;
        c.bytes(6, "reserved")?;
        let extended = c.u32("reserved")?;
        let mut capabilities = Capabilities(u64::from(low) | u64::from(high) << 16);
        if !capabilities.has(Capabilities::LONG_PASSWORD) {
            capabilities = capabilities | Capabilities(u64::from(extended) << 32);
        }
        // "Reserved" after the first 8 bytes: max(13, length - 8), of which the last is a NUL.
        let second = c.bytes(usize::from(nonce_len).saturating_sub(8).max(13), "challenge")?;
        let mut nonce = [0; NONCE_LEN];
        for (to, from) in nonce.iter_mut().zip(first.iter().chain(second)) {
            *to = *from;
        }
        let plugin = if capabilities.has(Capabilities::PLUGIN_AUTH) && !c.is_empty() {
            name(c.nul_or_end("plugin name")?, "plugin name")?
        } else {
            String::new()
        };
        Ok(Greeting { version, connection_id, nonce, capabilities, collation, status, plugin })
    }

    /// Appends the packet's payload.
    pub fn write(&self, out: &mut Vec<u8>) {
        let caps = self.capabilities;
        let bits = caps.mysql_bits();
        let (first, second) = self.nonce.split_at(8);
        out.push(10);
        put_nul(out, self.version.as_bytes());
        out.extend_from_slice(&self.connection_id.to_le_bytes());
        out.extend_from_slice(first);
        out.push(0);
        out.extend_from_slice(&(bits as u16).to_le_bytes());
        out.push(self.collation);
        out.extend_from_slice(&self.status.to_le_bytes());
        out.extend_from_slice(&((bits >> 16) as u16).to_le_bytes());
        out.push(NONCE_LEN as u8 + 1);
        out.extend_from_slice(&[0; 6]);
        let extended = if caps.has(Capabilities::LONG_PASSWORD) { 0 } else { caps.mariadb_bits() };
        out.extend_from_slice(&extended.to_le_bytes());
        out.extend_from_slice(second);
        out.push(0);
        if caps.has(Capabilities::PLUGIN_AUTH) {
            put_nul(out, self.plugin.as_bytes());
        }
    }
}

/// "Protocol::AuthSwitchRequest": go on with another plugin and another challenge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuthSwitchRequest {
    /// The plugin's name.
    pub plugin: String,
    /// Its data; for the challenge-response plugins 20 bytes and a NUL.
    pub data: Vec<u8>,
}

impl AuthSwitchRequest {
    /// The packet's first byte.
    pub const HEADER: u8 = 0xFE;

    /// Reads the packet, its first byte included. One of a single byte asks for `mysql_old_password`.
    ///
    /// # Errors
    /// When it is no such packet.
    pub fn parse(packet: &[u8]) -> Result<AuthSwitchRequest, Malformed> {
        let mut c = Cursor::new(packet);
        if c.u8("authentication switch")? != Self::HEADER {
            return Err(Malformed { field: "authentication switch", why: "wrong first byte" });
        }
        if c.is_empty() {
            return Ok(AuthSwitchRequest { plugin: "mysql_old_password".to_owned(), data: Vec::new() });
        }
        Ok(AuthSwitchRequest { plugin: name(c.nul("plugin name")?, "plugin name")?, data: c.rest().to_vec() })
    }

    /// Appends the packet's payload.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(Self::HEADER);
        put_nul(out, self.plugin.as_bytes());
        out.extend_from_slice(&self.data);
    }

    /// The challenge in the data: its first 20 bytes, when there are that many.
    pub fn nonce(&self) -> Option<[u8; NONCE_LEN]> {
        self.data.first_chunk().copied()
    }
}

/// The first byte of "Protocol::AuthMoreData", whose rest belongs to the plugin.
pub const AUTH_MORE_DATA: u8 = 0x01;

/// A server's ERR packet, kept as it came so that a client can be given exactly it.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerError {
    /// MySQL's error number.
    pub code: u16,
    /// SQLSTATE; `HY000` when the packet carries none (an error before the greeting).
    pub sqlstate: String,
    /// The text.
    pub message: String,
    /// The packet's payload, byte for byte.
    pub payload: Vec<u8>,
}

impl ServerError {
    /// The packet's first byte.
    pub const HEADER: u8 = 0xFF;

    /// Reads an ERR packet with or without SQLSTATE.
    ///
    /// # Errors
    /// When it is no ERR packet.
    pub fn parse(packet: &[u8]) -> Result<ServerError, Malformed> {
        let mut c = Cursor::new(packet);
        if c.u8("error packet")? != Self::HEADER {
            return Err(Malformed { field: "error packet", why: "wrong first byte" });
        }
        let code = c.u16("error code")?;
        let rest = c.rest();
        let (sqlstate, message) = match rest.split_first_chunk::<6>() {
            Some(([b'#', state @ ..], message)) => (String::from_utf8_lossy(state).into_owned(), message),
            _ => ("HY000".to_owned(), rest),
        };
        Ok(ServerError { code, sqlstate, message: String::from_utf8_lossy(message).into_owned(), payload: packet.to_vec() })
    }

    /// An error of Sluice's own. The message of errors that no server would send begins with `sluice: `.
    pub fn new(error: Errno, message: impl Into<String>) -> ServerError {
        ServerError::with_state(error.0, error.sqlstate(), message.into())
    }

    /// `sqlstate` has five letters.
    fn with_state(code: u16, sqlstate: &str, message: String) -> ServerError {
        let mut payload = vec![Self::HEADER];
        payload.extend_from_slice(&code.to_le_bytes());
        payload.push(b'#');
        payload.extend_from_slice(sqlstate.as_bytes());
        payload.extend_from_slice(message.as_bytes());
        ServerError { code, sqlstate: sqlstate.to_owned(), message, payload }
    }

    /// The payload for a client: one that came without SQLSTATE (before a greeting) is given one, because after a
    /// greeting clients expect it.
    pub fn client_payload(&self) -> Vec<u8> {
        match self.payload.get(3) {
            Some(b'#') => self.payload.clone(),
            _ => ServerError::with_state(self.code, &self.sqlstate, self.message.clone()).payload,
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.code, self.sqlstate, self.message)
    }
}

impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerError({self})")
    }
}

impl std::error::Error for ServerError {}

/// A name as text. Bytes that are not UTF-8 are read as Latin-1, so that a name is never cut or merged with another.
fn name(bytes: &[u8], field: &'static str) -> Result<String, Malformed> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().take(NAME_LEN_MAX + 1).map(|b| char::from(*b)).collect(),
    };
    if text.len() > NAME_LEN_MAX { Err(Malformed { field, why: "it is too long" }) } else { Ok(text) }
}

/// Feeds any bytes to every parser of the login; each must return. What parses must survive being written and read again.
#[doc(hidden)]
pub fn handshake_fuzz(data: &[u8]) {
    let again = |out: &mut Vec<u8>| std::mem::take(out);
    let mut out = Vec::new();
    if let Ok(g) = Greeting::parse(data) {
        g.write(&mut out);
        assert_eq!(Greeting::parse(&again(&mut out)).as_ref(), Ok(&normal_greeting(g)));
    }
    // Bytes that are not UTF-8 grow to three in attributes; beyond a third of the limit writing may exceed it.
    if let Ok(r) = HandshakeResponse::parse(data)
        && data.len() < CONNECT_ATTRS_LEN_MAX / 3
    {
        r.write(&mut out);
        assert_eq!(HandshakeResponse::parse(&again(&mut out)).as_ref(), Ok(&r));
    }
    if let Ok(s) = AuthSwitchRequest::parse(data) {
        s.write(&mut out);
        let _ = AuthSwitchRequest::parse(&again(&mut out));
    }
    let _ = SslRequest::parse(data);
    let _ = ServerError::parse(data).map(|e| e.client_payload());
    let _ = ChangeUser::parse(data, Capabilities::PLUGIN_AUTH | Capabilities::CONNECT_ATTRS | Capabilities::SECURE_CONNECTION);
    let _ = ChangeUser::parse(data, Capabilities::NONE);
}

/// What writing makes of a greeting: nothing changes but a plugin name whose flag is not set.
fn normal_greeting(mut g: Greeting) -> Greeting {
    if !g.capabilities.has(Capabilities::PLUGIN_AUTH) {
        g.plugin.clear();
    }
    g
}
