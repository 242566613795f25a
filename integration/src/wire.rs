//! A client that agrees upon exactly the capabilities it is told to, and sees every packet of a reply: for comparing what the
//! proxy sends with what the server sends. Logs in as the account without a password.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use sluice::net::{Buffer, Peer, Stream};
use sluice::protocol::Capabilities;
use sluice::protocol::compress::Algorithm;
use sluice::protocol::frame::{HEADER_LEN, next_packet, put_packet};
use sluice::protocol::handshake::{Greeting, HandshakeResponse};
use sluice::protocol::ok_err_eof::{EofPacket, ErrPacket, OkPacket};
use sluice::protocol::prepared::PrepareOk;
use sluice::protocol::reply::{Event, Expect, PacketKind, ReplyTracker};
use tokio::net::TcpStream;

use crate::accounts::EMPTY;

/// Longer than this, a peer that should answer counts as hanging.
const LIMIT: Duration = Duration::from_secs(30);
/// The longest packet read.
const PACKET_MAX: usize = 256 << 20;

/// What every client has: without these the packets of the login have other shapes.
pub const BASE: Capabilities = Capabilities::PROTOCOL_41
    .with(Capabilities::SECURE_CONNECTION)
    .with(Capabilities::PLUGIN_AUTH)
    .with(Capabilities::TRANSACTIONS)
    .with(Capabilities::LONG_FLAG);

/// One packet of a reply, with what may differ between two connections taken out.
#[derive(Clone, PartialEq, Eq)]
pub enum Seen {
    /// An OK: affected rows, last insert id, status, warnings, text.
    Ok(u64, u64, u16, u16, String),
    /// An EOF: status and warnings.
    Eof(u16, u16),
    /// An ERR: number, SQLSTATE, text.
    Err(u16, String, String),
    /// The answer to a PREPARE: columns, parameters, warnings, and whether definitions follow.
    Prepared(u16, u16, u16, bool),
    /// A progress report; how far it says the server is differs.
    Progress,
    /// Anything else, as it is.
    Bytes(Vec<u8>),
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Seen::Ok(affected, id, status, warnings, text) => write!(f, "OK({affected}, {id}, {status:#x}, {warnings}, {text:?})"),
            Seen::Eof(status, warnings) => write!(f, "EOF({status:#x}, {warnings})"),
            Seen::Err(errno, state, text) => write!(f, "ERR({errno} {state} {text:?})"),
            Seen::Prepared(columns, params, warnings, defined) => write!(f, "PREPARED({columns}, {params}, {warnings}, {defined})"),
            Seen::Progress => write!(f, "PROGRESS"),
            Seen::Bytes(bytes) if bytes.len() > 200 => write!(f, "[{} bytes]", bytes.len()),
            Seen::Bytes(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
        }
    }
}

/// A logged-in client.
#[derive(Debug)]
pub struct Wire {
    stream: Stream,
    buffer: Buffer,
    /// What was agreed upon.
    pub capabilities: Capabilities,
    /// What the peer greeted with.
    pub greeting: Greeting,
    /// The challenge it was given last, by the greeting or a switch.
    pub challenge: Vec<u8>,
    /// The number in the answer to the last PREPARE.
    pub statement: u32,
    /// What the last OK told of the session's state.
    pub tracked: Vec<u8>,
    seq: u8,
}

impl Wire {
    /// Reads the greeting only.
    pub async fn greeting(port: u16) -> Result<Greeting> {
        Ok(Wire::dial(port).await?.greeting)
    }

    async fn dial(port: u16) -> Result<Wire> {
        let socket = TcpStream::connect(("127.0.0.1", port)).await?;
        socket.set_nodelay(true)?;
        let mut wire = Wire {
            stream: Stream::from(socket),
            buffer: Buffer::new(),
            capabilities: BASE,
            greeting: Greeting {
                version: String::new(),
                connection_id: 0,
                nonce: [0; 20],
                capabilities: Capabilities::NONE,
                collation: 0,
                status: 0,
                plugin: String::new(),
            },
            challenge: Vec::new(),
            statement: 0,
            tracked: Vec::new(),
            seq: 0,
        };
        let packet = wire.packet().await?;
        wire.greeting = Greeting::parse(&packet).with_context(|| format!("instead of a greeting: {packet:?}"))?;
        wire.challenge = wire.greeting.nonce.to_vec();
        Ok(wire)
    }

    /// Logs in with those of `wanted` that are offered, without a schema.
    pub async fn login(port: u16, wanted: Capabilities) -> Result<Wire> {
        Wire::login_with(port, wanted, 45, None).await
    }

    /// The same as another account without a password.
    pub async fn login_as(port: u16, user: &str, wanted: Capabilities) -> Result<Wire> {
        Wire::login_of(port, user, wanted, 45, None).await
    }

    /// With a collation (two bytes in the packet) and a level for zstd.
    pub async fn login_with(port: u16, wanted: Capabilities, collation: u16, zstd_level: Option<u8>) -> Result<Wire> {
        Wire::login_of(port, EMPTY.name, wanted, collation, zstd_level).await
    }

    async fn login_of(port: u16, user: &str, wanted: Capabilities, collation: u16, zstd_level: Option<u8>) -> Result<Wire> {
        let mut wire = Wire::dial(port).await?;
        let offered = wire.greeting.capabilities;
        let mut capabilities = (wanted | BASE) & offered;
        if wanted.mariadb_bits() == 0 {
            // MySQL's clients, and MariaDB's that want nothing of it.
            capabilities = capabilities | Capabilities::LONG_PASSWORD;
        }
        wire.capabilities = capabilities;
        let response = HandshakeResponse {
            capabilities,
            max_packet: 1 << 30,
            collation: collation as u8,
            user: user.to_owned(),
            auth: Vec::new(),
            schema: None,
            plugin: wire.greeting.plugin.clone(),
            attributes: Vec::new(),
            zstd_level,
        };
        let mut payload = Vec::new();
        response.write(&mut payload);
        payload[9] = (collation >> 8) as u8;
        wire.write(&payload).await?;
        loop {
            let packet = wire.packet().await?;
            match packet.first() {
                Some(0) => break,
                Some(0xfe) => {
                    let data = packet.splitn(2, |byte| *byte == 0).nth(1).unwrap_or_default();
                    wire.challenge = data.strip_suffix(b"\0").unwrap_or(data).to_vec();
                    wire.write(&[]).await?;
                }
                Some(1) => {}
                _ => bail!("login as {user}: {}", packet.escape_ascii()),
            }
        }
        if let Some(algorithm) = Algorithm::agreed(capabilities, zstd_level) {
            wire.stream = wire.stream.take().compressed(algorithm, Peer::Server);
        }
        Ok(wire)
    }

    async fn write(&mut self, payload: &[u8]) -> Result<()> {
        let mut out = BytesMut::new();
        put_packet(&mut out, self.seq, payload);
        Ok(self.stream.send_all(&out).await?)
    }

    async fn fill(&mut self) -> Result<()> {
        let read = tokio::time::timeout(LIMIT, self.buffer.fill(&mut self.stream)).await.context("no answer in time")??;
        if read == 0 {
            bail!("the peer closed the connection");
        }
        Ok(())
    }

    /// The next packet's payload.
    async fn packet(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(packet) = next_packet(self.buffer.filled(), PACKET_MAX)? {
                let (payload, len) = (packet.payload.into_owned(), packet.wire_len);
                self.seq = packet.next_seq;
                self.buffer.consume(len);
                return Ok(payload);
            }
            self.fill().await?;
        }
    }

    /// Sends one command.
    pub async fn send(&mut self, command: &[u8]) -> Result<()> {
        let mut out = BytesMut::with_capacity(command.len() + 64);
        put_packet(&mut out, 0, command);
        self.send_bytes(&out).await
    }

    /// Sends bytes as they are, a command's beginning.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(tokio::time::timeout(LIMIT, self.stream.send_command(bytes)).await.context("the peer does not read")??)
    }

    /// Sends more bytes of what [`Wire::send_bytes`] began.
    pub async fn send_more(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(tokio::time::timeout(LIMIT, self.stream.send_all(bytes)).await.context("the peer does not read")??)
    }

    /// Sends what the server asked for as a local file, and its end.
    pub async fn send_file(&mut self, content: &[u8]) -> Result<()> {
        let (mut out, mut seq) = (BytesMut::new(), 2);
        for piece in content.chunks(50_000) {
            seq = put_packet(&mut out, seq, piece);
        }
        put_packet(&mut out, seq, &[]);
        self.send_more(&out).await
    }

    /// Sends a `COM_QUERY` without attributes and reads its whole reply.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<Seen>> {
        let attributes: &[u8] = if self.capabilities.has(Capabilities::QUERY_ATTRIBUTES) { &[0, 1] } else { &[] };
        self.ask(&[&[3], attributes, sql.as_bytes()].concat(), Expect::Query).await.with_context(|| format!("{sql:.100}"))
    }

    /// Sends a command and reads its whole reply.
    pub async fn ask(&mut self, command: &[u8], expect: Expect) -> Result<Vec<Seen>> {
        self.send(command).await?;
        self.reply(expect).await
    }

    /// Sends a `COM_CHANGE_USER` to an account without a password, and goes through the login that follows.
    pub async fn change_user(&mut self, command: &[u8]) -> Result<()> {
        self.send(command).await?;
        loop {
            let packet = self.packet().await?;
            match packet.first() {
                Some(0) => return Ok(()),
                Some(0xfe) => {
                    let mut out = BytesMut::new();
                    put_packet(&mut out, self.seq, &[]);
                    self.stream.send_all(&out).await?;
                }
                Some(1) => {}
                _ => bail!("COM_CHANGE_USER: {}", packet.escape_ascii()),
            }
        }
    }

    /// Sends a `COM_CHANGE_USER` and answers as C libraries do in `mysql_native_password`: with the challenge of the login, whatever a
    /// switch brings.
    pub async fn change_user_as_c_does(&mut self, user: &str, password: &str) -> Result<()> {
        use sluice::auth::native_password::{scramble, stage1};
        let nonce = self.challenge.first_chunk().context("a challenge of 20 bytes")?;
        let answer = scramble(&stage1(password.as_bytes()), nonce);
        let plugin = b"mysql_native_password\0";
        let parts: [&[u8]; 6] = [b"\x11", user.as_bytes(), b"\0\x14", &answer, b"\0\x2d\0", plugin];
        self.send(&parts.concat()).await?;
        loop {
            let packet = self.packet().await?;
            match packet.first() {
                Some(0) => return Ok(()),
                Some(0xfe) if packet.get(1..).is_some_and(|rest| rest.starts_with(plugin)) => {
                    let mut out = BytesMut::new();
                    put_packet(&mut out, self.seq, &answer);
                    self.stream.send_all(&out).await?;
                }
                _ => bail!("COM_CHANGE_USER: {}", packet.escape_ascii()),
            }
        }
    }

    /// The same as MySQL Connector/J does at a server that calls itself 5.5.5: it answers what a switch to `mysql_native_password` brings, and
    /// follows to no other plugin.
    pub async fn change_user_as_java_does(&mut self, user: &str, password: &str) -> Result<()> {
        use sluice::auth::native_password::{scramble, stage1};
        let answer = |challenge: &[u8]| {
            let nonce = challenge.first_chunk().context("a challenge of 20 bytes")?;
            Ok::<_, anyhow::Error>(scramble(&stage1(password.as_bytes()), nonce))
        };
        let (first, plugin) = (answer(&self.challenge)?, b"mysql_native_password\0");
        let name = b"\x1f\x0c_client_name\x11MySQL Connector/J";
        let parts: [&[u8]; 7] = [b"\x11", user.as_bytes(), b"\0\x14", &first, b"\0\x2d\0", plugin, name];
        self.send(&parts.concat()).await?;
        loop {
            let packet = self.packet().await?;
            match packet.strip_prefix(b"\xfe").and_then(|rest| rest.strip_prefix(plugin)) {
                _ if packet.first() == Some(&0) => return Ok(()),
                Some(challenge) => {
                    let mut out = BytesMut::new();
                    put_packet(&mut out, self.seq, &answer(challenge)?);
                    self.stream.send_all(&out).await?;
                }
                None => bail!("COM_CHANGE_USER: {}", packet.escape_ascii()),
            }
        }
    }

    /// Prepares a statement; its number is in [`Wire::statement`].
    pub async fn prepare(&mut self, sql: &str) -> Result<Vec<Seen>> {
        self.ask(&[b"\x16", sql.as_bytes()].concat(), Expect::Prepare).await
    }

    /// Reads a whole reply. Of a request for a local file only that: the reply goes on when the file was sent.
    pub async fn reply(&mut self, expect: Expect) -> Result<Vec<Seen>> {
        let mut tracker = ReplyTracker::new(expect, self.capabilities);
        if self.stream.is_compressed() {
            // There servers number packets by the pieces they go out in, and nobody looks.
            tracker = tracker.numbered_from(1).unnumbered();
        }
        self.reply_of(&mut tracker).await
    }

    /// [`Wire::reply`], going on with a tracker.
    pub async fn reply_of(&mut self, tracker: &mut ReplyTracker) -> Result<Vec<Seen>> {
        let (mut passed, mut seen) = (Vec::new(), Vec::new());
        loop {
            let walk = tracker.walk(self.buffer.filled_mut())?;
            passed.extend_from_slice(&self.buffer.filled()[..walk.pass]);
            self.buffer.consume(walk.pass);
            match walk.event {
                Event::Packet { kind, len, done } => {
                    whole_packets(&mut passed, &mut seen)?;
                    let payload = self.buffer.filled()[HEADER_LEN..len].to_vec();
                    self.buffer.consume(len);
                    self.note(kind, payload, &mut seen);
                    if done || kind == PacketKind::LocalInfile {
                        return Ok(seen);
                    }
                }
                Event::EofDue { .. } => {}
                Event::NeedMore if tracker.is_done() => {
                    whole_packets(&mut passed, &mut seen)?;
                    return Ok(seen);
                }
                Event::NeedMore => {
                    let filled = self.fill().await;
                    filled.with_context(|| {
                        let more = passed.get(..passed.len().min(300)).unwrap_or_default().escape_ascii();
                        format!("so far {seen:?}, then \"{more}\"")
                    })?;
                }
            }
        }
    }

    fn note(&mut self, kind: PacketKind, payload: Vec<u8>, seen: &mut Vec<Seen>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if kind == PacketKind::Ok
            && let Some(ok) = OkPacket::parse(&payload, self.capabilities)
        {
            self.tracked = ok.session_state.to_vec();
        }
        let packet = match kind {
            PacketKind::Ok => OkPacket::parse(&payload, self.capabilities)
                // That the session's state changed is told by what is tracked, which is more through the proxy.
                .map(|ok| Seen::Ok(ok.affected_rows, ok.last_insert_id, ok.status.0 & !0x4000, ok.warnings, text(ok.info))),
            PacketKind::Eof => EofPacket::parse(&payload).map(|eof| Seen::Eof(eof.status.0 & !0x4000, eof.warnings)),
            PacketKind::Err => ErrPacket::parse(&payload)
                .map(|err| Seen::Err(err.errno, err.sqlstate.map_or_else(String::new, |s| text(&s)), text(err.message))),
            PacketKind::PrepareOk => PrepareOk::parse(&payload).map(|ok| {
                self.statement = ok.statement_id;
                Seen::Prepared(ok.num_columns, ok.num_params, ok.warnings, ok.metadata_follows)
            }),
            PacketKind::Progress => Some(Seen::Progress),
            PacketKind::LocalInfile => None,
        };
        seen.push(packet.unwrap_or(Seen::Bytes(payload)));
    }
}

/// Packets that the tracker passed. The EOF between definitions and rows is among them, and tells the session's status.
fn whole_packets(passed: &mut Vec<u8>, seen: &mut Vec<Seen>) -> Result<()> {
    let mut at = 0;
    while at < passed.len() {
        let packet = next_packet(&passed[at..], PACKET_MAX)?.context("a packet that the tracker cut")?;
        let eof = EofPacket::parse(&packet.payload).filter(|_| packet.payload.len() == 5);
        seen.push(match eof {
            Some(eof) => Seen::Eof(eof.status.0 & !0x4000, eof.warnings),
            None => Seen::Bytes(packet.payload.to_vec()),
        });
        at += packet.wire_len;
    }
    passed.clear();
    Ok(())
}
