//! One client after its login: reads commands, hands statements to [`query`](super::query), answers the rest.
//!
//! Between commands a client holds no buffer, and unless it is pinned no server connection.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::auth::Credential;
use crate::auth::attributes::Attribute;
use crate::backend::connection::{NET_TIMEOUTS, PoolKey, PreparedText};
use crate::backend::pool::Lease;
use crate::frontend::cached::Fill;
use crate::frontend::changed::Written;
use crate::frontend::errors::{ClientError, Source};
use crate::frontend::registry::{ClientEntry, ClientState};
use crate::frontend::relay::patience;
use crate::frontend::shared::Shared;
use crate::frontend::upload::{STREAMED_FROM, Upload, is_streamed};
use crate::frontend::written::SharedWrite;
use crate::net::tasks::consume_budget;
use crate::net::{Boxed, Buffer, Stream, timer};
use crate::protocol::Capabilities;
use crate::protocol::command::Com;
use crate::protocol::errno;
use crate::protocol::frame::{HEADER_LEN, Header, put_packet};
use crate::protocol::handshake::NONCE_LEN;
use crate::protocol::ok_err_eof::{OK_HEADER, OkPacket, write_end_of_rows};
use crate::session::leftover::Leftovers;
use crate::session::machine::Session;
use crate::session::pin::PinReason;
use crate::session::prepared::Statements;
use crate::session::replay::Record;
use crate::session::state::State;
use crate::topology::{Flavor, GtidSet, ServerId};

/// The client is no more: it left, or was told why it must go.
#[derive(Debug)]
pub struct Gone;

impl From<io::Error> for Gone {
    fn from(_: io::Error) -> Gone {
        Gone
    }
}

/// A client that does not read is not waited for with its farewell.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// A logged-in client.
pub struct Client {
    pub(super) shared: Arc<Shared>,
    pub(super) stream: Stream,
    /// What was agreed with the client.
    pub(super) capabilities: Capabilities,
    pub(super) session: Session,
    pub(super) statements: Statements<PreparedText>,
    pub(super) entry: Arc<ClientEntry>,
    pub(super) account: Account,
    /// The connection it is pinned to.
    pub(super) held: Option<Lease>,
    /// The long command that is being sent.
    pub(super) upload: Option<Box<Upload>>,
    /// Packets with which the first statements of the text that runs were answered.
    pub(super) replied: u8,
    /// What the last statement left behind, for `SHOW WARNINGS` and its like.
    pub(super) left: Leftovers,
    /// The longest packet the client says it takes.
    pub(super) max_packet: u32,
    /// `COM_CHANGE_USER`s that were refused.
    pub(super) failed_changes: u8,
    /// The transaction that is open, to be run again on another server; made where `failover.transaction_replay` is on.
    pub(super) record: Option<Box<Record<PreparedText>>>,
    /// What the master was known to have when a statement was sent that may commit.
    pub(super) sent_knowing: Option<Box<GtidSet>>,
    /// `LAST_INSERT_ID()` for the statement that is being sent, where it may read it and a replay may have to: `None` inside when it is not known.
    pub(super) sent_insert_id: Option<Option<u64>>,
    /// The challenge of its login, for the next `COM_CHANGE_USER`.
    pub(super) challenge: [u8; NONCE_LEN],
    /// The connection of the last statement as it was given back: (server, thread id, serial).
    pub(super) last: Option<(ServerId, u64, u64)>,
    /// What stands on its connection while the session's schema is gone; stays for as long as the connection is held.
    pub(super) schemaless: Option<Arc<State>>,
    /// A server has refused a part of the session's state (see [`crate::frontend::unrestored`]).
    pub(super) state_refused: bool,
    /// The transaction that only reads has read something, or must stay for another reason where it was begun.
    pub(super) has_read: bool,
    /// It began `WITH CONSISTENT SNAPSHOT`.
    pub(super) takes_snapshot: bool,
    /// The connection (server, thread id, serial) where it ran last what may have taken locks that no text tells.
    pub(super) unseen_on: Option<(ServerId, u64, u64)>,
    /// The reply of the statement that runs is to be kept.
    pub(super) fill: Option<Box<Fill>>,
    /// What the open transaction has written, for the cache.
    pub(super) written: Written,
    /// What the client sent behind the end of a file, which is read apart from its commands: the next of them.
    pub(super) behind: Vec<u8>,
}

/// Who the client is, for the servers and for the rules.
#[derive(Clone)]
pub struct Account {
    /// Its connections in the pools.
    pub key: Arc<PoolKey>,
    /// How they log in.
    pub credential: Arc<Credential>,
    /// The collation of the client's handshake.
    pub collation: u16,
    /// The state of a connection opened with that collation and no schema.
    pub fresh: Arc<State>,
    /// What its connections tell servers of it.
    pub attributes: Arc<[Attribute]>,
    /// Where the client is.
    pub ip: Option<IpAddr>,
    /// Nothing was learned at the login that would log in again: the session lives on the one connection it was given then.
    pub login_only: bool,
    /// What was written by it, through all its sessions.
    pub written: SharedWrite,
    /// The account may only read.
    pub read_only: bool,
    /// The only schemas it may use; empty: all.
    pub schemas: Arc<[String]>,
    /// As of which reading of the configuration it is so.
    pub accounts_read: u64,
}

impl Client {
    /// A client right after its login.
    pub fn new(
        shared: Arc<Shared>,
        stream: Stream,
        capabilities: Capabilities,
        max_packet: u32,
        session: Session,
        entry: Arc<ClientEntry>,
        account: Account,
    ) -> Client {
        Client {
            shared,
            stream,
            capabilities,
            session,
            statements: Statements::default(),
            entry,
            account,
            held: None,
            upload: None,
            replied: 0,
            left: Leftovers::default(),
            max_packet,
            failed_changes: 0,
            challenge: [0; NONCE_LEN],
            last: None,
            schemaless: None,
            state_refused: false,
            unseen_on: None,
            has_read: false,
            takes_snapshot: false,
            fill: None,
            written: Written::default(),
            record: None,
            sent_knowing: None,
            sent_insert_id: None,
            behind: Vec::new(),
        }
    }

    /// Serves the client until it leaves or is told to.
    pub async fn run(&mut self) {
        poll_fn(|cx| {
            self.entry.woken_by(cx.waker());
            Poll::Ready(())
        })
        .await;
        self.stream.keep_receiving(true);
        'served: while let Ok(mut buffer) = self.next_bytes_in_time().await {
            loop {
                match self.next_command(&mut buffer).await {
                    Ok(true) if buffer.is_empty() => {}
                    // Of those sent ahead no command may ever have to wait: the worker's other clients have their turn all the same.
                    Ok(true) => consume_budget().await,
                    Ok(false) => break,
                    Err(Gone) => break 'served,
                }
            }
        }
        // A client that reads slowly has its last words all the same.
        let limit = patience(&self.session.state, "net_write_timeout", NET_TIMEOUTS.0);
        _ = Box::pin(timer::timeout(limit, self.stream.all_sent())).await;
        Box::pin(self.release_unseen()).await;
    }

    /// Waits until the client says something, at most as long as its `wait_timeout`, if it has set one.
    async fn next_bytes_in_time(&mut self) -> Result<Buffer, Gone> {
        let Some(limit) = self.session.idle_limit() else { return self.next_bytes().await };
        if let Ok(said) = Box::pin(timer::timeout(limit, self.next_bytes())).await {
            return said;
        }
        // MariaDB closes without a word.
        if self.shared.flavor() == Some(Flavor::MySql) {
            let text = "The client was disconnected by the server because of inactivity. See wait_timeout and interactive_timeout for configuring this behavior.";
            let error = ClientError::of_server(errno::ER_CLIENT_INTERACTION_TIMEOUT, text).packet(0);
            let _ = Box::pin(timer::timeout(GOODBYE_TIMEOUT, self.stream.send_all(&error))).await;
        }
        Err(Gone)
    }

    /// Waits until the client says something. Holds no buffer while it waits.
    async fn next_bytes(&mut self) -> Result<Buffer, Gone> {
        let mut asked = false;
        poll_fn(|cx| {
            // Behind the last command nothing has come, most likely: that is seen without a buffer.
            let waits = !std::mem::replace(&mut asked, true)
                && matches!(self.stream, Stream::Plain(_))
                && self.stream.poll_readable(cx).is_pending();
            if waits && !self.shared.draining.load(Ordering::Relaxed) {
                return Poll::Pending;
            }
            let mut buffer = Buffer::new();
            match buffer.poll_fill(&mut self.stream, cx) {
                Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(Gone)),
                Poll::Ready(Ok(_)) => Poll::Ready(Ok(buffer)),
                // A drain nudges idle clients; those that hold a transaction may end it first.
                Poll::Pending if self.shared.draining.load(Ordering::Relaxed) && self.held.is_none() => Poll::Ready(Err(Gone)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Runs the next command in the buffer. `false`: the buffer is used up.
    async fn next_command(&mut self, buffer: &mut Buffer) -> Result<bool, Gone> {
        if buffer.is_empty() {
            return Ok(false);
        }
        let header = loop {
            if let Some(header) = Header::parse(buffer.filled()) {
                break header;
            }
            if buffer.fill(&mut self.stream).await? == 0 {
                return Err(Gone);
            }
        };
        // Servers take what a compressed piece numbers, and Connector/J numbers what stands in it with it.
        if header.seq != 0 && self.stream.is_compressed() {
            if let Some(seq) = buffer.filled_mut().get_mut(HEADER_LEN - 1) {
                *seq = 0;
            }
        } else if header.seq != 0 {
            let text =
                format!("got packet with sequence id {} where a command begins with 0; the connection is closed", header.seq);
            let error = ClientError::new(Source::Client, errno::ER_NET_PACKETS_OUT_OF_ORDER, text).fatal();
            return Box::pin(self.refuse(error)).await.map(|()| true);
        }
        let whole = header.packet_len();
        if whole > STREAMED_FROM {
            while buffer.len() <= HEADER_LEN {
                if buffer.fill(&mut self.stream).await? == 0 {
                    return Err(Gone);
                }
            }
            if header.continues() || buffer.filled().get(HEADER_LEN).is_some_and(|code| is_streamed(*code)) {
                Box::pin(self.large_command(buffer)).await?;
                buffer.extend(&std::mem::take(&mut self.behind));
                return Ok(true);
            }
        }
        // It grows as bytes come: a header alone costs its sender nothing.
        while buffer.len() < whole {
            let limit = || patience(&self.session.state, "net_read_timeout", NET_TIMEOUTS.1);
            let read = buffer.fill_unless_stalled(&mut self.stream, limit).await;
            if read.inspect_err(|error| self.note_stalled(error))? == 0 {
                return Err(Gone);
            }
        }
        let Some(&code) = buffer.filled().get(HEADER_LEN) else {
            let text = "an empty command packet; the connection is closed";
            let error = ClientError::new(Source::Client, errno::ER_MALFORMED_PACKET, text).fatal();
            return Box::pin(self.refuse(error)).await.map(|()| true);
        };
        // What a running statement needs is kept apart from what an idle client needs, and what nearly all statements need from
        // what few do.
        if code == Com::Query as u8 {
            let packet = buffer.filled().get(..whole).unwrap_or(&[]);
            Boxed::new(|| self.query(packet)).await?;
        } else if code == Com::StmtExecute as u8 {
            let packet = buffer.filled().get(..whole).unwrap_or(&[]);
            Boxed::new(|| self.execute(packet)).await?;
        } else {
            Box::pin(self.command(code, buffer, whole)).await?;
        }
        buffer.consume(whole);
        if !self.behind.is_empty() {
            buffer.extend(&std::mem::take(&mut self.behind));
        }
        Ok(true)
    }

    async fn command(&mut self, code: u8, buffer: &mut Buffer, whole: usize) -> Result<(), Gone> {
        let Some(com) = Com::from_byte(code) else {
            return self.refuse(unknown_command(code)).await;
        };
        let packet = buffer.filled_mut().get_mut(..whole).unwrap_or(&mut []);
        match com {
            Com::Query | Com::StmtExecute => unreachable!("taken out before"),
            Com::StmtPrepare => self.prepare(packet).await,
            Com::StmtBulkExecute if self.shared.flavor() != Some(Flavor::MySql) => self.execute_bulk(packet).await,
            Com::StmtSendLongData => self.long_data(packet).await,
            Com::StmtClose => Box::pin(self.close_statement(packet)).await,
            Com::StmtReset => self.reset_statement(packet).await,
            Com::StmtFetch => self.fetch(packet).await,
            Com::InitDb => self.init_db(packet).await,
            Com::FieldList | Com::Statistics => self.plain_read(com, packet).await,
            Com::Ping => self.ok("").await,
            Com::SetOption => self.set_option(packet).await,
            Com::ResetConnection => self.reset_connection().await,
            Com::ChangeUser => self.change_user(packet).await,
            Com::ProcessKill => self.process_kill(packet).await,
            Com::Debug => self.administrative(com, packet).await,
            // MySQL has withdrawn them.
            Com::Refresh if self.shared.flavor() == Some(Flavor::MariaDb) => self.administrative(com, packet).await,
            Com::ProcessInfo if self.shared.flavor() == Some(Flavor::MariaDb) => {
                let packet = self.repacked(Com::Query, b"SHOW PROCESSLIST");
                Box::pin(self.query(&packet)).await
            }
            Com::Quit => Err(Gone),
            _ => self.refuse(unknown_command(code)).await,
        }
    }

    /// Tells the client of an error of ours, and ends it when the error is fatal.
    pub(super) async fn refuse(&mut self, error: ClientError) -> Result<(), Gone> {
        self.shared.metrics.errors(error.source).inc();
        if error.source != Source::Client {
            tracing::warn!(client = self.entry.id, user = %self.account.key.user, errno = error.errno, "{}", error.text);
        }
        let seq = if error.fatal { self.next_seq() } else { self.heard_out().await? };
        self.stream.send_all(&error.packet(seq)).await?;
        if error.fatal { Err(Gone) } else { Ok(()) }
    }

    /// The number of the packet that answers the command that runs: behind the client's own.
    pub(super) fn next_seq(&self) -> u8 {
        self.upload.as_ref().map_or(self.replied.wrapping_add(1), |upload| upload.next_seq())
    }

    /// The same, once the client has said all of its command: until then it does not listen, and has not numbered all of it.
    async fn heard_out(&mut self) -> Result<u8, Gone> {
        if let Some(upload) = &mut self.upload {
            Box::pin(upload.drain(&mut self.stream)).await?;
        }
        Ok(self.next_seq())
    }

    /// Passes on an ERR packet's payload as a server sent it.
    pub(super) async fn server_error(&mut self, payload: &[u8]) -> Result<(), Gone> {
        self.shared.metrics.errors(Source::Server).inc();
        let mut out = BytesMut::with_capacity(payload.len() + HEADER_LEN);
        put_packet(&mut out, self.heard_out().await?, payload);
        self.stream.send_all(&out).await?;
        Ok(())
    }

    /// An OK of our own, with the session's status.
    pub(super) async fn ok(&mut self, info: &str) -> Result<(), Gone> {
        let mut payload = BytesMut::with_capacity(16 + info.len());
        let ok = OkPacket { status: self.session.status.of_session(), info: info.as_bytes(), ..OkPacket::default() };
        ok.write(&mut payload, self.capabilities, OK_HEADER);
        let mut out = BytesMut::with_capacity(payload.len() + HEADER_LEN);
        put_packet(&mut out, self.heard_out().await?, &payload);
        self.stream.send_all(&out).await?;
        Ok(())
    }

    /// The EOF with which `COM_SET_OPTION` is answered (an OK in the place of EOF where EOF is deprecated). It leaves the warnings
    /// of the statement before it, and in MySQL counts them.
    pub(super) async fn eof(&mut self) -> Result<(), Gone> {
        let mut payload = BytesMut::with_capacity(16);
        let warnings = if self.shared.flavor() == Some(Flavor::MySql) { self.left.warning_count() } else { 0 };
        write_end_of_rows(&mut payload, self.capabilities, self.session.status.of_session(), warnings);
        let mut out = BytesMut::with_capacity(payload.len() + HEADER_LEN);
        put_packet(&mut out, 1, &payload);
        self.stream.send_all(&out).await?;
        Ok(())
    }

    async fn set_option(&mut self, packet: &[u8]) -> Result<(), Gone> {
        let option = packet.get(HEADER_LEN + 1..HEADER_LEN + 3).and_then(|b| b.try_into().ok()).map(u16::from_le_bytes);
        let on = match option {
            Some(0) => true,
            Some(1) => false,
            _ => return self.refuse(unknown_command(Com::SetOption as u8)).await,
        };
        // A connection that is held was opened with the other setting, and must be told itself.
        if let Some(lease) = self.held.as_mut() {
            let payload = [u8::from(!on), 0];
            if lease.command(Com::SetOption, &payload).await.is_err() {
                return self.lost_pinned().await;
            }
            lease.tainted = true;
        }
        let mut key = PoolKey::clone(&self.account.key);
        key.capabilities =
            if on { key.capabilities | Capabilities::MULTI_STATEMENTS } else { key.capabilities - Capabilities::MULTI_STATEMENTS };
        self.account.key = self.shared.share_key(key);
        self.eof().await
    }

    async fn reset_connection(&mut self) -> Result<(), Gone> {
        if self.account.login_only
            && let Some(mut lease) = self.held.take()
        {
            self.forget_what_was_built_up();
            self.session.pins.set(PinReason::Login, true);
            let done = lease.reset(&self.session.state).await;
            self.held = Some(lease);
            if done.is_err() {
                return self.lost_pinned().await;
            }
            self.show_idle();
            return self.ok("").await;
        }
        self.release_unseen().await;
        self.forget_session();
        self.ok("").await
    }

    /// The login cannot be repeated any more (see [`PinReason::Login`]): the session stays on the connection it is on.
    pub(super) fn live_on_this_connection(&mut self) {
        self.account.login_only = true;
        self.session.pins.set(PinReason::Login, true);
    }

    /// Everything a reset takes away. What the held connection carries goes with the connection.
    pub(super) fn forget_session(&mut self) {
        if let Some(mut lease) = self.held.take() {
            lease.tainted = true;
            lease.give_back(Instant::now());
        }
        self.forget_what_was_built_up();
        self.show_idle();
    }

    /// What a reset takes away of what is known here; the connection is another matter. (What is kept of a read-only transaction is set anew when
    /// one begins.)
    fn forget_what_was_built_up(&mut self) {
        self.session.reset();
        self.session.share_state(|state| self.shared.share(state));
        self.statements.clear();
        self.left.reset();
        self.last = None;
        self.schemaless = None;
        self.record = None;
    }

    /// Notes in the registry that the client is between statements.
    pub(super) fn show_idle(&self) {
        self.show_idle_since(Instant::now());
    }

    pub(super) fn show_idle_since(&self, now: Instant) {
        let mut view = self.entry.view.lock();
        view.state = ClientState::Idle;
        view.since = Some(now);
        view.pins = self.session.pins;
        view.read_lock = self.session.read_lock;
        view.server = self.held.as_ref().map(|lease| lease.server);
        view.thread_id = self.held.as_ref().map_or(0, |lease| lease.thread_id);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // A pinned connection carries this session's state; it is closed, and the server rolls back and cleans up.
        if let Some(mut lease) = self.held.take() {
            lease.tainted = true;
        }
    }
}

pub(super) fn unknown_command(code: u8) -> ClientError {
    tracing::debug!(code, "a command that Sluice does not know");
    ClientError::of_server(errno::ER_UNKNOWN_COM_ERROR, "Unknown command")
}
