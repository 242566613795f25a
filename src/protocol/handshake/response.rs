//! What a client sends to log in: the TLS request, the handshake response, and COM_CHANGE_USER in a running session.

use super::cursor::{Cursor, put_lenenc, put_lenenc_bytes, put_nul};
use super::{Malformed, name};
use crate::protocol::Capabilities;

/// The most connection attributes taken from a client, in bytes together (what `performance_schema` would keep at most).
pub const CONNECT_ATTRS_LEN_MAX: usize = 64 * 1024;
/// The longest authentication answer in a handshake response, in bytes. The longest honest one is a clear text password.
pub const CLIENT_PLUGIN_DATA_LEN_MAX: usize = 4096;

/// "Protocol::SSLRequest": a handshake response that stops before the user's name, and TLS follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SslRequest {
    /// The client's flags, as the handshake response repeats them.
    pub capabilities: Capabilities,
    /// The longest packet the client takes, in bytes.
    pub max_packet: u32,
    /// The low byte of the collation's number.
    pub collation: u8,
}

impl SslRequest {
    /// The packet's length in bytes.
    pub const LEN: usize = 32;

    /// Reads the packet. A handshake response without TLS, which is longer, is `None`.
    ///
    /// # Errors
    /// When it is shorter, or from a client older than protocol 4.1.
    pub fn parse(packet: &[u8]) -> Result<Option<SslRequest>, Malformed> {
        let head = read_head(&mut Cursor::new(packet))?;
        Ok((packet.len() == Self::LEN && head.capabilities.has(Capabilities::SSL)).then_some(head))
    }

    /// Appends the packet's payload, which is also the beginning of a handshake response.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.capabilities.mysql_bits().to_le_bytes());
        out.extend_from_slice(&self.max_packet.to_le_bytes());
        out.push(self.collation);
        out.extend_from_slice(&[0; 19]);
        let extended = if self.capabilities.has(Capabilities::LONG_PASSWORD) { 0 } else { self.capabilities.mariadb_bits() };
        out.extend_from_slice(&extended.to_le_bytes());
    }
}

fn read_head(c: &mut Cursor<'_>) -> Result<SslRequest, Malformed> {
    const FIELD: &str = "handshake response";
    let low = c.u32(FIELD)?;
    let mut capabilities = Capabilities(u64::from(low));
    if !capabilities.has(Capabilities::PROTOCOL_41) {
        return Err(Malformed { field: FIELD, why: "the client speaks a protocol older than 4.1" });
    }
    let max_packet = c.u32(FIELD)?;
    let collation = c.u8(FIELD)?;
    c.bytes(19, FIELD)?;
    let extended = c.u32(FIELD)?;
    // CLIENT_LONG_PASSWORD unset means a MariaDB client; MySQL's clients always set it.
    if !capabilities.has(Capabilities::LONG_PASSWORD) {
        capabilities = capabilities | Capabilities(u64::from(extended) << 32);
    }
    Ok(SslRequest { capabilities, max_packet, collation })
}

/// "Protocol::HandshakeResponse41".
#[derive(Clone, PartialEq, Eq)]
pub struct HandshakeResponse {
    /// The client's flags; MariaDB's extended ones when `LONG_PASSWORD` is unset.
    pub capabilities: Capabilities,
    /// The longest packet the client takes, in bytes.
    pub max_packet: u32,
    /// The low byte of the collation's number.
    pub collation: u8,
    /// The user's name.
    pub user: String,
    /// The answer to the greeting's challenge.
    pub auth: Vec<u8>,
    /// The schema to start in, when one was named.
    pub schema: Option<String>,
    /// The plugin that made [`HandshakeResponse::auth`]; empty when the client names none.
    pub plugin: String,
    /// `key`, `value` pairs for the server's `performance_schema.session_connect_attrs`.
    pub attributes: Vec<(String, String)>,
    /// The level asked for with `ZSTD_COMPRESSION`.
    pub zstd_level: Option<u8>,
}

impl std::fmt::Debug for HandshakeResponse {
    /// Without the authentication answer, which may be a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HandshakeResponse")
            .field("user", &self.user)
            .field("schema", &self.schema)
            .field("plugin", &self.plugin)
            .field("capabilities", &self.capabilities)
            .field("collation", &self.collation)
            .finish_non_exhaustive()
    }
}

impl HandshakeResponse {
    /// Reads the packet. Fields that a client announces and then leaves out at the end count as empty, as servers do it.
    ///
    /// # Errors
    /// When a field is cut off or too long.
    pub fn parse(packet: &[u8]) -> Result<HandshakeResponse, Malformed> {
        let mut c = Cursor::new(packet);
        let SslRequest { capabilities, max_packet, collation } = read_head(&mut c)?;
        let user = name(c.nul("user name")?, "user name")?;
        let auth = if capabilities.has(Capabilities::PLUGIN_AUTH_LENENC) {
            c.lenenc_bytes("authentication answer")?.unwrap_or_default()
        } else if capabilities.has(Capabilities::SECURE_CONNECTION) {
            let n = c.u8("authentication answer")?;
            c.bytes(usize::from(n), "authentication answer")?
        } else {
            c.nul("authentication answer")?
        };
        if auth.len() > CLIENT_PLUGIN_DATA_LEN_MAX {
            return Err(Malformed { field: "authentication answer", why: "it is too long" });
        }
        let auth = auth.to_vec();
        let schema = match capabilities.has(Capabilities::CONNECT_WITH_DB) && !c.is_empty() {
            true => Some(name(c.nul_or_end("schema name")?, "schema name")?).filter(|s| !s.is_empty()),
            false => None,
        };
        let plugin = match capabilities.has(Capabilities::PLUGIN_AUTH) && !c.is_empty() {
            true => name(c.nul_or_end("plugin name")?, "plugin name")?,
            false => String::new(),
        };
        let attributes = match capabilities.has(Capabilities::CONNECT_ATTRS) && !c.is_empty() {
            true => read_attributes(&mut c)?,
            false => Vec::new(),
        };
        let zstd_level = match capabilities.has(Capabilities::ZSTD_COMPRESSION) && !c.is_empty() {
            true => Some(c.u8("compression level")?),
            false => None,
        };
        Ok(HandshakeResponse { capabilities, max_packet, collation, user, auth, schema, plugin, attributes, zstd_level })
    }

    /// Appends the packet's payload. The fields that are written are those whose flags are set.
    pub fn write(&self, out: &mut Vec<u8>) {
        let caps = self.capabilities;
        SslRequest { capabilities: caps, max_packet: self.max_packet, collation: self.collation }.write(out);
        put_nul(out, self.user.as_bytes());
        if caps.has(Capabilities::PLUGIN_AUTH_LENENC) {
            put_lenenc_bytes(out, &self.auth);
        } else if caps.has(Capabilities::SECURE_CONNECTION) {
            let auth = self.auth.get(..255).unwrap_or(&self.auth);
            out.push(auth.len() as u8);
            out.extend_from_slice(auth);
        } else {
            put_nul(out, &self.auth);
        }
        if caps.has(Capabilities::CONNECT_WITH_DB) {
            put_nul(out, self.schema.as_deref().unwrap_or_default().as_bytes());
        }
        if caps.has(Capabilities::PLUGIN_AUTH) {
            put_nul(out, self.plugin.as_bytes());
        }
        if caps.has(Capabilities::CONNECT_ATTRS) {
            write_attributes(out, &self.attributes);
        }
        if caps.has(Capabilities::ZSTD_COMPRESSION)
            && let Some(level) = self.zstd_level
        {
            out.push(level);
        }
    }
}

/// COM_CHANGE_USER: another user, in a running session, on the connection's capabilities. Its answer is for the
/// greeting's challenge and the plugin it names.
#[derive(Clone, PartialEq, Eq)]
pub struct ChangeUser {
    /// The user's name.
    pub user: String,
    /// The answer to the greeting's challenge.
    pub auth: Vec<u8>,
    /// The schema to start in.
    pub schema: Option<String>,
    /// The collation's number; `None` when the packet ends before it.
    pub collation: Option<u16>,
    /// The plugin that made the answer; empty when none is named.
    pub plugin: String,
    /// Connection attributes.
    pub attributes: Vec<(String, String)>,
}

impl ChangeUser {
    /// The command byte.
    pub const COMMAND: u8 = 0x11;

    /// Reads a COM_CHANGE_USER packet, its command byte included.
    ///
    /// # Errors
    /// When a field is cut off or too long.
    pub fn parse(packet: &[u8], capabilities: Capabilities) -> Result<ChangeUser, Malformed> {
        let mut c = Cursor::new(packet);
        if c.u8("COM_CHANGE_USER")? != Self::COMMAND {
            return Err(Malformed { field: "COM_CHANGE_USER", why: "wrong command byte" });
        }
        let user = name(c.nul("user name")?, "user name")?;
        let auth = if capabilities.has(Capabilities::SECURE_CONNECTION) {
            let n = c.u8("authentication answer")?;
            c.bytes(usize::from(n), "authentication answer")?
        } else {
            c.nul("authentication answer")?
        };
        let auth = auth.to_vec();
        let schema = Some(name(c.nul_or_end("schema name")?, "schema name")?).filter(|s| !s.is_empty());
        let collation = if c.is_empty() { None } else { Some(c.u16("collation")?) };
        let plugin = match capabilities.has(Capabilities::PLUGIN_AUTH) && !c.is_empty() {
            true => name(c.nul_or_end("plugin name")?, "plugin name")?,
            false => String::new(),
        };
        let attributes = match capabilities.has(Capabilities::CONNECT_ATTRS) && !c.is_empty() {
            true => read_attributes(&mut c)?,
            false => Vec::new(),
        };
        Ok(ChangeUser { user, auth, schema, collation, plugin, attributes })
    }
}

impl std::fmt::Debug for ChangeUser {
    /// Without the authentication answer.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChangeUser").field("user", &self.user).field("plugin", &self.plugin).finish_non_exhaustive()
    }
}

fn read_attributes(c: &mut Cursor<'_>) -> Result<Vec<(String, String)>, Malformed> {
    const FIELD: &str = "connection attributes";
    let all = c.lenenc_bytes(FIELD)?.unwrap_or_default();
    if all.len() > CONNECT_ATTRS_LEN_MAX {
        return Err(Malformed { field: FIELD, why: "they are longer than 64 KiB" });
    }
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let mut c = Cursor::new(all);
    let mut pairs = Vec::new();
    while !c.is_empty() {
        let key = text(c.lenenc_bytes(FIELD)?);
        let value = text(c.lenenc_bytes(FIELD)?);
        pairs.push((key, value));
    }
    Ok(pairs)
}

fn write_attributes(out: &mut Vec<u8>, pairs: &[(String, String)]) {
    let mut all = Vec::new();
    for (key, value) in pairs {
        put_lenenc_bytes(&mut all, key.as_bytes());
        put_lenenc_bytes(&mut all, value.as_bytes());
    }
    put_lenenc(out, all.len() as u64);
    out.extend_from_slice(&all);
}
