//! One connection to a server, as the pool keeps it and a statement uses it: the stream, what it negotiated, the session
//! state it was last brought to, and the statements prepared on it.

mod begins;
mod error;
mod guard;
mod home;
mod reset;
mod statements;

pub use begins::{NET_TIMEOUTS, own, with};
pub use error::CommandError;
pub use guard::Guard;
use home::Home;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::backend::checkout::PoolSettings;
use crate::backend::connect::Connected;
use crate::net::{Buffer, Severer, Stream};
use crate::protocol::Capabilities;
use crate::protocol::command::Com;
use crate::protocol::frame::{HEADER_LEN, Header};
use crate::protocol::ok_err_eof::ErrPacket;
use crate::protocol::prepared::PrepareOk;
use crate::protocol::query::NO_ATTRIBUTES;
use crate::protocol::reply::{Event, Expect, PacketKind, ReplyTracker};
use crate::session::state::{Change, State};
use crate::topology::{Flavor, ServerId};

/// What makes connections interchangeable: everything that changes a reply's bytes and cannot be changed by a statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolKey {
    /// The account.
    pub user: Arc<str>,
    /// Which learning of the account's password it was opened with; a changed password makes a new pool.
    pub generation: u64,
    /// The capabilities that a session chooses (see [`key_capabilities`]).
    pub capabilities: Capabilities,
    /// The client's address, where servers are told it (see [`crate::backend::ServerTls::proxy_header`]): accounts may differ by it.
    pub client: Option<IpAddr>,
    /// The handshake's collation id where it has no name that a `SET` could restore, else 0.
    pub raw_collation: u16,
}

impl Hash for PoolKey {
    /// Every statement looks for a connection: what is the same for nearly all is not hashed.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.generation);
        state.write(self.user.as_bytes());
        self.client.hash(state);
        state.write_u64(u64::from(self.raw_collation));
    }
}

/// Capabilities that follow the client into the pool's key: they change replies or what statements mean.
pub const KEY_CAPABILITIES: Capabilities = Capabilities::FOUND_ROWS
    .with(Capabilities::NO_SCHEMA)
    .with(Capabilities::LOCAL_FILES)
    .with(Capabilities::IGNORE_SPACE)
    .with(Capabilities::INTERACTIVE)
    .with(Capabilities::MULTI_STATEMENTS)
    .with(Capabilities::MULTI_RESULTS)
    .with(Capabilities::PS_MULTI_RESULTS)
    .with(Capabilities::CAN_HANDLE_EXPIRED_PASSWORDS)
    .with(Capabilities::OPTIONAL_RESULTSET_METADATA)
    .with(Capabilities::QUERY_ATTRIBUTES)
    .with(Capabilities::MARIADB_PROGRESS)
    .with(Capabilities::MARIADB_STMT_BULK_OPERATIONS)
    .with(Capabilities::MARIADB_EXTENDED_METADATA)
    .with(Capabilities::MARIADB_BULK_UNIT_RESULTS);

/// Capabilities without which a connection cannot serve a client that has them: packets have another layout.
pub const LAYOUT_CAPABILITIES: Capabilities =
    Capabilities::OPTIONAL_RESULTSET_METADATA.with(Capabilities::QUERY_ATTRIBUTES).with(Capabilities::MARIADB_EXTENDED_METADATA);

/// Capabilities that every server connection asks for, whatever the client can do. What a function in a read has changed is only told with
/// `DEPRECATE_EOF`; a client without it gets its EOF packets from [`crate::protocol::reply::old_eof`].
pub const ALWAYS_CAPABILITIES: Capabilities = Capabilities::LONG_PASSWORD
    .with(Capabilities::LONG_FLAG)
    .with(Capabilities::PROTOCOL_41)
    .with(Capabilities::TRANSACTIONS)
    .with(Capabilities::SECURE_CONNECTION)
    .with(Capabilities::PLUGIN_AUTH)
    .with(Capabilities::PLUGIN_AUTH_LENENC)
    .with(Capabilities::CONNECT_ATTRS)
    .with(Capabilities::DEPRECATE_EOF)
    .with(Capabilities::SESSION_TRACK);

/// The part of a client's capabilities that goes into its pool key.
pub fn key_capabilities(client: Capabilities) -> Capabilities {
    client & KEY_CAPABILITIES
}

/// The text of a prepared statement together with what its meaning depends on at the time it is prepared.
#[derive(Debug, Clone)]
pub struct PreparedText {
    /// The statement as the client sent it.
    pub sql: Box<[u8]>,
    /// The session when the client prepared it; the statement keeps its schema and what [`State::prepares_like`] compares.
    pub state: Arc<State>,
    /// Set for a statement that must not be shared (a cursor is open on it, long data was sent to it, it names user variables).
    pub private: u64,
    /// Made for one execution, with values in its text: closed behind it.
    pub once: bool,
    /// Of `sql`, made once: connections look for it at every execution.
    hash: u64,
}

impl PreparedText {
    /// A text that may be shared.
    pub fn new(sql: &[u8], state: Arc<State>) -> PreparedText {
        // Equal texts must meet in one connection's map whichever client made them, so the seed is the same for all.
        let hash = foldhash::quality::FixedState::default().hash_one(sql);
        PreparedText { sql: sql.into(), state, private: 0, once: false, hash }
    }

    /// The same text for one client's statement alone. No other ever meets it in a connection, not even one of another client
    /// with the same number and text: what a server's statement was executed with before decides how it reads long data.
    #[must_use]
    pub fn made_private(&self) -> PreparedText {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        PreparedText { private: NEXT.fetch_add(1, Ordering::Relaxed), ..self.clone() }
    }

    /// A text for one execution.
    pub fn made_once(sql: &[u8], state: Arc<State>) -> PreparedText {
        PreparedText { once: true, ..PreparedText::new(sql, state).made_private() }
    }
}

impl PartialEq for PreparedText {
    fn eq(&self, other: &PreparedText) -> bool {
        self.hash == other.hash && self.private == other.private && self.sql == other.sql && self.state.prepares_like(&other.state)
    }
}
impl Eq for PreparedText {}

impl Hash for PreparedText {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (self.hash ^ self.private).hash(hasher);
    }
}

/// The longest reply to a statement of our own.
pub const RAW_REPLY_MAX: usize = 256 * 1024;

mod track;

/// One connection to a server.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub stream: Stream,
    /// Which server.
    pub server: ServerId,
    /// Its family.
    pub flavor: Flavor,
    /// The server's own number for this connection (`CONNECTION_ID()` there), for `KILL`.
    pub thread_id: u64,
    /// What was agreed with the server.
    pub capabilities: Capabilities,
    /// Where in the pool it belongs.
    pub key: Arc<PoolKey>,
    /// The state it was last brought to.
    pub have: Arc<State>,
    /// What its session began with that the login does not name: a sign of how the server is configured.
    pub begins: Arc<[Change]>,
    /// How long the server waits for a client that takes nothing of a reply, and for one that says nothing: `net_write_timeout` and
    /// `net_read_timeout` as it is configured.
    pub net_timeouts: (Duration, Duration),
    /// After this it is closed instead of given back.
    pub expires: Instant,
    /// When it was given back last.
    pub idle_since: Instant,
    /// Idle for longer than this, its server may be about to close it. `None` where its pool closes it before that.
    pub idle_limit: Option<Duration>,
    /// How often its pool had been outdated when it was opened.
    pub outdated: u64,
    home: Home,
    prepared: HashMap<Arc<PreparedText>, statements::ServerStatement, foldhash::fast::RandomState>,
    to_close: Vec<u32>,
    /// A user variable had a value here. That it has none any more can only be brought about by a reset.
    pub dirty_users: bool,
    /// The client whose procedures or functions ran here, which may have taken locks by name.
    pub locks_unseen: Option<u32>,
    /// Statements it may hold prepared; the least recently used is closed to make room. The pool's own, so that what one
    /// connection learns of the server's limit holds for all.
    pub prepared_max: Arc<AtomicUsize>,
    uses: u64,
    /// Counts up whenever it is handed out: with the same number nobody has used it since.
    pub serial: u64,
    /// Ends it from outside when its server is given up; lives as long as the connection.
    pub severer: Option<Arc<Severer>>,
    /// What `LAST_INSERT_ID()` says there, as far as OK packets told.
    pub last_insert_id: u64,
    /// Which account its server takes it for, once it was asked.
    pub account: Option<Arc<[u8]>>,
    /// It was handed out for writing: what is pinned to it ends when its server is no longer master.
    pub writes: bool,
    /// Its server may write nothing for it, see [`guard`](self).
    pub guard: Guard,
    /// It carries something that no `SET` can take away (a temporary table, a lock): close it instead of giving it back.
    pub tainted: bool,
}

/// A command packet (sequence id 0) appended to `out`. `payload` must be shorter than 16 MiB - 1, as our own commands are.
pub fn put_command(out: &mut Vec<u8>, com: Com, payload: &[u8]) {
    let len = payload.len() + 1;
    out.extend_from_slice(&[len as u8, (len >> 8) as u8, (len >> 16) as u8, 0, com as u8]);
    out.extend_from_slice(payload);
}

/// A `COM_QUERY` of our own appended to `out`, for a connection with `capabilities`: with `QUERY_ATTRIBUTES` it says that it
/// has none.
pub fn put_query(out: &mut Vec<u8>, capabilities: Capabilities, sql: &[u8]) {
    if capabilities.has(Capabilities::QUERY_ATTRIBUTES) {
        put_command(out, Com::Query, &[NO_ATTRIBUTES, sql].concat());
    } else {
        put_command(out, Com::Query, sql);
    }
}

impl Connection {
    /// A connection that has just been authenticated.
    /// It belongs to the worker whose thread this is.
    pub fn new(connected: Connected, server: ServerId, key: Arc<PoolKey>, have: Arc<State>, expires: Instant) -> Connection {
        let mut stream = connected.stream.settled();
        stream.goes_first();
        Connection {
            flavor: Flavor::from_version(&connected.greeting.version),
            stream,
            server,
            thread_id: u64::from(connected.connection_id),
            capabilities: connected.capabilities,
            key,
            have,
            begins: [].into(),
            net_timeouts: NET_TIMEOUTS,
            expires,
            idle_since: Instant::now(),
            idle_limit: None,
            outdated: 0,
            home: Home::here(),
            prepared: HashMap::default(),
            to_close: Vec::new(),
            dirty_users: false,
            locks_unseen: None,
            prepared_max: Arc::new(AtomicUsize::new(PoolSettings::default().max_prepared)),
            uses: 0,
            serial: 0,
            last_insert_id: 0,
            account: None,
            severer: None,
            writes: false,
            guard: Guard::default(),
            tainted: false,
        }
    }

    /// Sends one command and waits for its OK, or for the EOF that `COM_SET_OPTION` is answered with.
    ///
    /// # Errors
    /// The server's refusal, a broken connection, an answer that is neither.
    pub async fn command(&mut self, com: Com, payload: &[u8]) -> Result<(), CommandError> {
        let mut out = Vec::with_capacity(payload.len() + 5);
        put_command(&mut out, com, payload);
        self.run_command(out, Expect::Simple).await
    }

    /// Runs a statement of our own that is answered with OK.
    ///
    /// # Errors
    /// See [`Connection::command`].
    pub async fn statement(&mut self, sql: &[u8]) -> Result<(), CommandError> {
        let mut out = Vec::with_capacity(sql.len() + 8);
        put_query(&mut out, self.capabilities, sql);
        self.run_command(out, Expect::Query).await
    }

    async fn run_command(&mut self, command: Vec<u8>, expect: Expect) -> Result<(), CommandError> {
        self.stream.send_command(&command).await?;
        let mut buffer = Buffer::new();
        self.expect_replies(&mut buffer, 1, expect).await?;
        if buffer.is_empty() { Ok(()) } else { Err(CommandError::Nonsense("more than one answer".to_owned())) }
    }

    /// Reads `count` replies that must be OKs; what follows them stays in `buffer`. All are read even when one is a refusal,
    /// as long as the connection holds; the first refusal is returned.
    ///
    /// # Errors
    /// See [`Connection::command`].
    pub async fn expect_oks(&mut self, buffer: &mut Buffer, count: usize) -> Result<(), CommandError> {
        self.expect_replies(buffer, count, Expect::Query).await
    }

    async fn expect_replies(&mut self, buffer: &mut Buffer, count: usize, expect: Expect) -> Result<(), CommandError> {
        let mut refused = None;
        for _ in 0..count {
            let mut tracker = ReplyTracker::new(expect, self.capabilities);
            loop {
                let walk = tracker.walk(buffer.filled_mut()).map_err(|e| CommandError::Nonsense(e.to_string()))?;
                match walk.event {
                    Event::Packet { kind, len, done } => {
                        let packet = buffer.filled().get(walk.pass..walk.pass + len).unwrap_or(&[]);
                        if ErrPacket::is_farewell(packet) {
                            return Err(CommandError::Io(std::io::ErrorKind::ConnectionAborted.into()));
                        }
                        let payload = packet.get(HEADER_LEN..).unwrap_or(&[]);
                        if kind == PacketKind::Err {
                            refused.get_or_insert_with(|| payload.to_vec());
                        }
                        buffer.consume(walk.pass + len);
                        if done {
                            break;
                        }
                    }
                    Event::EofDue { .. } | Event::NeedMore => {
                        buffer.consume(walk.pass);
                        if tracker.is_done() {
                            break;
                        }
                        if buffer.fill(&mut self.stream).await? == 0 {
                            return Err(CommandError::Io(std::io::ErrorKind::UnexpectedEof.into()));
                        }
                    }
                }
            }
        }
        refused.map_or(Ok(()), |payload| Err(CommandError::Refused(payload)))
    }

    /// Brings it to `want`, waiting for the answers.
    ///
    /// # Errors
    /// See [`Connection::command`]. After one the state is not known and the connection must be closed.
    pub async fn bring_to(&mut self, want: &Arc<State>) -> Result<(), CommandError> {
        let mut out = Vec::new();
        let answers = self.put_restore(want, &mut out);
        if answers > 0 {
            self.stream.send_command(&out).await?;
            let mut buffer = Buffer::new();
            self.expect_oks(&mut buffer, answers).await?;
        }
        self.stands_at(want);
        Ok(())
    }

    /// Runs a statement of our own and returns its whole reply as the server sent it, up to [`RAW_REPLY_MAX`] bytes.
    ///
    /// # Errors
    /// A broken connection, or a longer reply.
    pub async fn raw_reply(&mut self, sql: &[u8]) -> Result<Vec<u8>, CommandError> {
        self.raw_reply_within(sql, RAW_REPLY_MAX).await
    }

    /// The same, up to `most` bytes.
    ///
    /// # Errors
    /// A broken connection, or a longer reply.
    pub async fn raw_reply_within(&mut self, sql: &[u8], most: usize) -> Result<Vec<u8>, CommandError> {
        let mut out = Vec::with_capacity(sql.len() + 8);
        put_query(&mut out, self.capabilities, sql);
        self.stream.send_command(&out).await?;
        self.read_reply_within(&mut Buffer::new(), Expect::Query, most).await
    }

    /// `COM_PING`: in the answer the server tells what it has not told of the session yet, so that it tells nobody else.
    ///
    /// # Errors
    /// A broken connection.
    pub async fn ping(&mut self) -> Result<(), CommandError> {
        let mut out = Vec::with_capacity(8);
        put_command(&mut out, Com::Ping, &[]);
        self.read_raw(out, Expect::Simple).await.map(|_| ())
    }

    async fn read_raw(&mut self, command: Vec<u8>, expect: Expect) -> Result<Vec<u8>, CommandError> {
        self.stream.send_command(&command).await?;
        self.read_reply(&mut Buffer::new(), expect).await
    }

    /// Reads one whole reply; what follows it stays in `buffer`.
    async fn read_reply(&mut self, buffer: &mut Buffer, expect: Expect) -> Result<Vec<u8>, CommandError> {
        self.read_reply_within(buffer, expect, RAW_REPLY_MAX).await
    }

    async fn read_reply_within(&mut self, buffer: &mut Buffer, expect: Expect, most: usize) -> Result<Vec<u8>, CommandError> {
        let mut reply = Vec::new();
        let mut tracker = ReplyTracker::new(expect, self.capabilities);
        while !tracker.is_done() {
            let walk = tracker.walk(buffer.filled_mut()).map_err(|e| CommandError::Nonsense(e.to_string()))?;
            let used = match walk.event {
                Event::Packet { len, .. } => walk.pass + len,
                Event::EofDue { .. } | Event::NeedMore => walk.pass,
            };
            reply.extend_from_slice(buffer.filled().get(..used).unwrap_or(&[]));
            buffer.consume(used);
            if reply.len() > most {
                return Err(CommandError::Nonsense(format!("a reply of more than {most} bytes")));
            }
            if matches!(walk.event, Event::NeedMore) && !tracker.is_done() && buffer.fill(&mut self.stream).await? == 0 {
                return Err(CommandError::Io(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Ok(reply)
    }

    /// The first column of the first row of a statement of our own, or `None` for no row or NULL.
    ///
    /// # Errors
    /// See [`Connection::command`].
    pub async fn scalar(&mut self, sql: &str) -> Result<Option<Vec<u8>>, CommandError> {
        let reply = self.raw_reply(sql.as_bytes()).await?;
        let mut rest = &reply[..];
        let mut packets = Vec::new();
        while let Some(header) = Header::parse(rest) {
            packets.push(rest.get(HEADER_LEN..header.packet_len()).unwrap_or(&[]));
            rest = rest.get(header.packet_len()..).unwrap_or(&[]);
        }
        if let Some(first) = packets.first().filter(|p| p.first() == Some(&0xFF)) {
            return Err(CommandError::Refused(first.to_vec()));
        }
        // Column count, one definition unless the session wants none, an EOF where it is not deprecated, then the row.
        let optional = self.capabilities.has(Capabilities::OPTIONAL_RESULTSET_METADATA);
        let defined = !optional || packets.first().and_then(|p| p.get(1)) != Some(&0);
        let eof = !self.capabilities.has(Capabilities::DEPRECATE_EOF);
        let row = packets.get(1 + usize::from(defined) + usize::from(eof));
        Ok(row.and_then(|row| crate::protocol::primitives::Reader::new(row).nullable_bytes()?.map(<[u8]>::to_vec)))
    }

    /// Reads the reply to a `COM_STMT_PREPARE` and returns the server's number for the statement.
    ///
    /// # Errors
    /// See [`Connection::command`].
    pub async fn read_prepared(&mut self) -> Result<u32, CommandError> {
        let reply = self.read_raw(Vec::new(), Expect::Prepare).await?;
        let payload = Header::parse(&reply).and_then(|h| reply.get(HEADER_LEN..h.packet_len())).unwrap_or(&[]);
        if payload.first() == Some(&0xFF) {
            return Err(CommandError::Refused(payload.to_vec()));
        }
        PrepareOk::parse(payload)
            .map(|ok| ok.statement_id)
            .ok_or_else(|| CommandError::Nonsense("an unreadable answer to COM_STMT_PREPARE".to_owned()))
    }
}
