//! The steps of logging in at a server, one by one: read the greeting, go into TLS, answer, and carry packets until the
//! server is content. [`super::connect`] takes all of them; the login of a client whose password is not known stops in
//! the middle, to have the client answer the server's challenge itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use zeroize::Zeroizing;

use super::connect::{ConnectError, Connected, Login, ServerAddress};
use super::packets::{PacketError, read_packet, write_packet};
use super::tls::ServerTls;
use crate::net::{Peer, Socket, Stream, keepalive};
use crate::protocol::Capabilities;
use crate::protocol::compress::Algorithm;
use crate::protocol::handshake::{Greeting, HandshakeResponse, LOGIN_PACKET_LEN_MAX, Malformed, ServerError, SslRequest};
use crate::protocol::proxy_header::{self, Version};

/// The packet size announced to servers, in bytes: the protocol's most, so that the server's own limit rules.
const MAX_PACKET_LEN: u32 = 1 << 30;
/// The collation's number that is named when the wanted one does not fit the packet's single byte: `utf8mb4_general_ci`.
const COLLATION_DEFAULT: u8 = 45;

/// What a server must be able to do: without these the packets here have other shapes.
const NEEDED: Capabilities = Capabilities::PROTOCOL_41.with(Capabilities::SECURE_CONNECTION).with(Capabilities::PLUGIN_AUTH);
/// What does not depend on the client's wishes, but on what this login carries.
const OF_THE_LOGIN: Capabilities = Capabilities::SSL
    .with(Capabilities::CONNECT_WITH_DB)
    .with(Capabilities::CONNECT_ATTRS)
    .with(Capabilities::PLUGIN_AUTH_LENENC)
    // Agreed with each side by itself.
    .with(Capabilities::COMPRESS)
    .with(Capabilities::ZSTD_COMPRESSION)
    .with(Capabilities::MULTI_FACTOR_AUTHENTICATION)
    .with(Capabilities::SSL_VERIFY_SERVER_CERT);

/// A login at a server under way.
#[derive(Debug)]
pub struct Opening {
    stream: Stream,
    sequence: u8,
    greeting: Greeting,
    capabilities: Capabilities,
    collation: u8,
}

impl Opening {
    /// Connects, reads the greeting, and goes into TLS when the mode says so.
    ///
    /// # Errors
    /// All of [`ConnectError`] but `Timeout`: the caller holds the clock.
    pub async fn greet(address: &ServerAddress, tls: &ServerTls, login: &Login) -> Result<Opening, ConnectError> {
        let opened = open(address, tls.proxy_header, login.client).await;
        let mut stream = opened.map_err(|source| ConnectError::Unreachable { address: address.clone(), source })?;
        let mut sequence = 0;
        let packet = read_packet(&mut stream, &mut sequence, LOGIN_PACKET_LEN_MAX).await.map_err(|e| broken(address, e))?;
        if packet.first() == Some(&ServerError::HEADER) {
            // "Too many connections", "Host is blocked", "Host is not allowed": said before any greeting.
            return Err(ConnectError::Refused(ServerError::parse(&packet)?));
        }
        let greeting = Greeting::parse(&packet)?;
        if !greeting.capabilities.has(NEEDED) {
            return Err(Malformed { field: "greeting", why: "the server is too old (no protocol 4.1 with plugins)" }.into());
        }
        let capabilities = agree(greeting.capabilities, login);
        let collation = u8::try_from(login.collation)
            .ok()
            .filter(|c| *c != 0 && (login.user.is_ascii() && login.schema.as_ref().is_none_or(|s| s.is_ascii()) || is_utf8(*c)))
            .unwrap_or(COLLATION_DEFAULT);
        Opening { stream, sequence, greeting, capabilities, collation }.encrypt(address, tls).await
    }

    async fn encrypt(mut self, address: &ServerAddress, tls: &ServerTls) -> Result<Opening, ConnectError> {
        // As the MySQL client does: a unix socket is safe by itself, so `preferred` uses no TLS there.
        let is_unix = matches!(address, ServerAddress::Unix(_));
        let Some(connector) = tls.connector().filter(|_| tls.mode.is_mandatory() || !is_unix) else { return Ok(self) };
        let failed = |why: String| ConnectError::Tls { address: address.clone(), why };
        if !self.greeting.capabilities.has(Capabilities::SSL) {
            return match tls.mode.is_mandatory() {
                true => Err(failed("the server offers no TLS".to_owned())),
                false => Ok(self),
            };
        }
        self.capabilities = self.capabilities | Capabilities::SSL;
        let mut packet = Vec::with_capacity(SslRequest::LEN);
        SslRequest { capabilities: self.capabilities, max_packet: MAX_PACKET_LEN, collation: self.collation }.write(&mut packet);
        self.write(&packet).await.map_err(|source| ConnectError::Lost { address: address.clone(), source })?;
        let name = address.server_name().map_err(failed)?;
        let Stream::Plain(socket) = self.stream else { return Ok(self) };
        let stream = connector.connect(name, socket).await.map_err(|e| failed(e.to_string()))?;
        Ok(Opening { stream: Stream::Tls(Box::new(stream.into())), ..self })
    }

    /// Sends the handshake response with this plugin's answer.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn respond(&mut self, login: &Login, plugin: &str, answer: &[u8]) -> std::io::Result<()> {
        let response = HandshakeResponse {
            capabilities: self.capabilities,
            max_packet: MAX_PACKET_LEN,
            collation: self.collation,
            user: login.user.clone(),
            auth: answer.to_vec(),
            schema: login.schema.clone(),
            plugin: plugin.to_owned(),
            attributes: login.attributes.clone(),
            zstd_level: match login.compression {
                Some(Algorithm::Zstd { level }) => Some(level),
                _ => None,
            },
        };
        let mut packet = Zeroizing::new(Vec::with_capacity(256));
        response.write(&mut packet);
        self.write(&packet).await
    }

    /// The next packet of the server.
    ///
    /// # Errors
    /// Those of the stream; a packet out of order or too long.
    pub async fn read(&mut self) -> Result<Vec<u8>, PacketError> {
        read_packet(&mut self.stream, &mut self.sequence, LOGIN_PACKET_LEN_MAX).await
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn write(&mut self, payload: &[u8]) -> std::io::Result<()> {
        write_packet(&mut self.stream, &mut self.sequence, payload).await
    }

    /// The stream, and the number of the next packet, for who carries on the login itself.
    pub fn parts(&mut self) -> (&mut Stream, u8) {
        (&mut self.stream, self.sequence)
    }

    /// Whether a password may be sent as it is: in TLS or on a unix socket.
    pub fn is_secure(&self) -> bool {
        self.stream.is_tls() || matches!(self.stream.socket(), Some(Socket::Unix(_)))
    }

    /// The server's greeting.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// The server has sent OK: the connection is a user's now.
    pub fn finish(self) -> Connected {
        // We asked for one way at most, and pack at the level that the server was told.
        let stream = match Algorithm::agreed(self.capabilities, None) {
            Some(algorithm) => self.stream.compressed(algorithm, Peer::Server),
            None => self.stream,
        };
        Connected {
            connection_id: self.greeting.connection_id,
            collation: u16::from(self.collation),
            stream,
            greeting: self.greeting,
            capabilities: self.capabilities,
        }
    }
}

/// What both sides can and this login wants. `LONG_PASSWORD` is the switch between MySQL's layout and MariaDB's
/// extended flags: set unless one of those was agreed upon.
fn agree(offered: Capabilities, login: &Login) -> Capabilities {
    let mut caps = (login.capabilities.without(OF_THE_LOGIN) & offered) | NEEDED;
    caps = match caps.mariadb_bits() {
        0 => caps | Capabilities::LONG_PASSWORD,
        _ => caps - Capabilities::LONG_PASSWORD,
    };
    // Long answers do not fit the one-byte length; every server of today offers the other form.
    caps = caps | (offered & Capabilities::PLUGIN_AUTH_LENENC);
    if login.schema.is_some() {
        caps = caps | Capabilities::CONNECT_WITH_DB;
    }
    match login.compression {
        Some(Algorithm::Zlib) => caps = caps | (offered & Capabilities::COMPRESS),
        Some(Algorithm::Zstd { .. }) => caps = caps | (offered & Capabilities::ZSTD_COMPRESSION),
        None => {}
    }
    if !login.attributes.is_empty() {
        caps = caps | (offered & Capabilities::CONNECT_ATTRS);
    }
    caps
}

/// Whether names sent under this collation are read as UTF-8 (`utf8mb3_*`, `utf8mb4_*` below 256).
fn is_utf8(collation: u8) -> bool {
    matches!(collation, 33 | 45 | 46 | 76 | 83 | 192..=215 | 223..=247 | 255)
}

async fn open(address: &ServerAddress, header: Option<Version>, client: Option<IpAddr>) -> std::io::Result<Stream> {
    match address {
        ServerAddress::Unix(path) => UnixStream::connect(path).await.map(Stream::from),
        ServerAddress::Tcp { host, port } => {
            let socket = TcpStream::connect((bare_host(host), *port)).await?;
            keepalive::prepare(&socket, keepalive::SERVERS)?;
            let server = socket.peer_addr()?;
            let mut stream = Stream::from(socket);
            if let Some(version) = header {
                // The port belongs to one of the clients that will share the connection; none is told.
                let client = client.map(|ip| SocketAddr::new(ip, 0));
                stream.send_all(&proxy_header::write(version, client, server)).await?;
            }
            Ok(stream)
        }
    }
}

fn bare_host(host: &str) -> &str {
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
}

impl ServerAddress {
    /// The name a certificate must carry under `verify_identity`.
    fn server_name(&self) -> Result<ServerName<'static>, String> {
        match self {
            ServerAddress::Unix(_) => Ok(ServerName::IpAddress(Ipv4Addr::LOCALHOST.into())),
            ServerAddress::Tcp { host, .. } => {
                let host = bare_host(host);
                if let Ok(ip) = host.parse::<Ipv6Addr>() {
                    return Ok(ServerName::IpAddress(ip.into()));
                }
                ServerName::try_from(host.to_owned()).map_err(|_| format!("`{host}` is no name a certificate could carry"))
            }
        }
    }
}

/// A read that failed in the middle of a login.
pub(crate) fn broken(address: &ServerAddress, error: PacketError) -> ConnectError {
    match error {
        PacketError::Io(source) => ConnectError::Lost { address: address.clone(), source },
        PacketError::TooLong { .. } => Malformed { field: "login packet", why: "it is too long" }.into(),
        PacketError::OutOfOrder { .. } => Malformed { field: "login packet", why: "its sequence number is wrong" }.into(),
    }
}
