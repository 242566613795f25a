//! `failover.transaction_replay`: a transaction whose server was lost is run again on the new master, and a COMMIT whose answer was lost is run again
//! where the GTIDs prove that it did not happen. What is recorded and what is compared, `session::replay` says; this file waits, sends and reads.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::backend::connection::PreparedText;
use crate::backend::pool::Lease;
use crate::frontend::client::{Client, Gone};
use crate::frontend::errors::{ClientError, Source};
use crate::frontend::place::{Held, interrupted, killed_while_waiting};
use crate::frontend::query::{Job, Payload};
use crate::frontend::relay;
use crate::frontend::told::Told;
use crate::net::{Buffer, timer};
use crate::protocol::command::Com;
use crate::protocol::errno;
use crate::protocol::frame::{HEADER_LEN, put_packet};
use crate::protocol::ok_err_eof::{EofPacket, ErrPacket, OkPacket, Status};
use crate::protocol::prepared::rewrite_execute;
use crate::protocol::reply::{Event, Expect, PacketKind};
use crate::routing::decision::{Decision, Reason};
use crate::session::machine::Session;
use crate::session::pin::PinReason;
use crate::session::replay::{Checksum, Open, Record, Sent, Step, Sum, may_commit, repeatable, surely_absent};
use crate::session::state::State;
use crate::sql::classify::Class;
use crate::topology::{self, Facts, ServerId};

/// A master that is still master so long after a connection to it was lost is not being replaced: the connection was lost for a reason of its own.
const STILL_MASTER: Duration = Duration::from_millis(1_000);

/// How long whoever lost a statement waits for a look at its server; a silent one is judged later than that.
const LOOK_LIMIT: Duration = Duration::from_millis(250);

/// What came of it.
pub(super) enum Recovered {
    /// The statement may be sent again; where a transaction was open, it is open again.
    Yes,
    /// Nothing was done. The client is told as ever.
    No,
    /// The client has been told.
    Told,
}

impl Client {
    /// Before a statement is sent: whether it is to be recorded, and then what the master has now, if the statement may commit.
    pub(super) fn note_sending(&mut self, job: &Job<'_>, server: ServerId) -> Option<bool> {
        if !self.shared.replays.load(Ordering::Relaxed) {
            return None;
        }
        let open = self.session.in_transaction();
        let id = || (!self.session.insert_id_unsure()).then_some(self.session.last_insert_id);
        self.sent_insert_id = Session::may_read_insert_id(job.statement).then(id);
        let commits = may_commit(job.statement, job.statement.class == Class::Read, open);
        self.sent_knowing = if commits { self.shared.known.newest(server).map(Box::new) } else { None };
        Some(open)
    }

    /// After a statement was answered and learned from. `open`: whether a transaction was open before it; `state`: what the session was then.
    pub(super) fn record_step(&mut self, job: &Job<'_>, open: bool, told: &mut Told, state: &Arc<State>) {
        let sum = told.sum.take();
        let open = Open { before: open, after: self.session.in_transaction() };
        if job.com == Com::StmtPrepare || (!open.after && self.record.is_none()) {
            return;
        }
        let step = self.step(job, sum, told, state);
        self.record.get_or_insert_with(Box::default).ran(job.statement, open, step);
    }

    fn step(
        &self,
        job: &Job<'_>,
        sum: Option<Checksum>,
        told: &Told,
        state: &Arc<State>,
    ) -> Result<Step<PreparedText>, &'static str> {
        repeatable(job.statement)?;
        if self.replied != 0 {
            return Err("its answer began behind those of other statements");
        }
        let insert_id = match self.sent_insert_id {
            None => None,
            Some(Some(id)) => Some(id),
            Some(None) => return Err("it reads an insert id that is not known"),
        };
        if !Arc::ptr_eq(state, &self.session.state) && *state != self.session.state {
            return Err("it changed the session's variables or its schema");
        }
        if self.session.pins.has(PinReason::SetTransaction) {
            return Err("a SET TRANSACTION was said for it");
        }
        if self.session.pins.beyond_transaction() {
            return Err("the session holds more than the transaction");
        }
        if told.status.is_some_and(|status| status.has(Status::CURSOR_EXISTS)) || job.expect == Expect::Fetch {
            return Err("it reads by a cursor");
        }
        let sent = match (&job.payload, job.text) {
            (Payload::Packet(packet), _) => Sent::Command(packet.get(HEADER_LEN..).unwrap_or(&[]).into()),
            (Payload::Execute(payload), Some(text)) if job.com == Com::StmtExecute && text.private == 0 => Sent::Execute {
                text: text.clone(),
                payload: (*payload).into(),
                params: job.params,
                types: job.types.map(Arc::from),
            },
            _ => return Err("one of its statements cannot be kept"),
        };
        Ok(Step { sent, insert_id, expect: job.expect, sum: sum.ok_or("an answer was not read")?.finish() })
    }

    /// Whether a statement is refused for no other reason than that the session's transaction, begun on the master, is on a server that is none any more:
    /// it has ended with that one's role.
    pub(super) fn has_left_master(&self, decision: &Decision) -> bool {
        matches!(decision.reason, Reason::PinnedElsewhere(_)) && self.held.as_ref().is_some_and(|lease| lease.writes)
    }

    /// The connection that the session is pinned to is gone, and nothing was sent on it. `server`: to which it was, where it is not held any more.
    pub(super) async fn held_lost(&mut self, job: &Job<'_>, server: Option<ServerId>) -> Result<Recovered, Gone> {
        let server = server.or_else(|| self.held.as_ref().map(|lease| lease.server));
        if let Some(server) = server
            && let recovered @ (Recovered::Yes | Recovered::Told) = Box::pin(self.recover(job, server, false)).await?
        {
            return Ok(recovered);
        }
        self.held = None;
        self.lost_pinned_to(server).await?;
        self.show_idle();
        Ok(Recovered::No)
    }

    /// The pinned connection broke between two statements.
    pub(super) async fn lost_pinned(&mut self) -> Result<(), Gone> {
        let server = self.held.take().map(|lease| lease.server);
        self.lost_pinned_to(server).await
    }

    /// The same of one that is not held any more.
    async fn lost_pinned_to(&mut self, server: Option<ServerId>) -> Result<(), Gone> {
        let server = server.map(|server| self.shared.name(server));
        let why = self.session.pins.first().map_or("unknown", |p| p.as_str());
        let fatal = self.session.pins.beyond_transaction();
        self.session.connection_lost();
        self.statements.connection_lost();
        let text = format!(
            "lost the connection to {} that this session was pinned to ({why}); {}",
            server.as_deref().unwrap_or("a server"),
            if fatal { "what it held is gone, reconnect" } else { "its transaction was rolled back, begin it again" }
        );
        let error = ClientError::new(Source::Server, errno::ER_NET_READ_ERROR, text);
        self.refuse(if fatal { error.fatal() } else { error }).await
    }

    /// The connection to `old` was lost, with the statement on it when it was `sent`.
    pub(super) async fn recover(&mut self, job: &Job<'_>, old: ServerId, sent: bool) -> Result<Recovered, Gone> {
        let knowing = self.sent_knowing.take();
        if sent && self.shared.snapshot.load().server(old).is_some_and(|view| view.state == topology::State::Online) {
            // Whoever is told of a lost statement goes on at once: by then it must be known whether the server has gone, or his next statement is lost
            // on a connection whose end is still under way.
            let _ = timer::timeout(LOOK_LIMIT, self.shared.monitor.ask_anew(old)).await;
        }
        let open = self.session.in_transaction();
        let possible = self.shared.replays.load(Ordering::Relaxed)
            && !self.session.pins.beyond_transaction()
            && self.upload.is_none()
            && (open || sent)
            // It was said on the connection that is lost.
            && (open || !self.session.pins.has(PinReason::SetTransaction))
            && (!open || self.record.as_ref().is_some_and(|record| record.steps().is_ok()));
        if !possible {
            return Ok(Recovered::No);
        }
        if let Some(mut lease) = self.held.take() {
            lease.tainted = true;
        }
        let deadline = Instant::now() + self.hold_timeout();
        let Some((new, facts)) = (match self.other_master(job, old, deadline).await? {
            Ok(found) => found,
            Err(error) => return self.not_recovered(error).await,
        }) else {
            return Ok(Recovered::No);
        };
        if sent && may_commit(job.statement, job.statement.class == Class::Read, open) {
            // Nobody knows whether it happened, unless it surely did not.
            if !knowing.is_some_and(|knowing| surely_absent(&knowing, &facts)) {
                return Ok(Recovered::No);
            }
            tracing::info!(client = self.entry.id, "a statement of unknown outcome is not on the new master, and is run again");
        }
        if !open {
            return Ok(Recovered::Yes);
        }
        let Some(record) = self.record.take() else { return Ok(Recovered::No) };
        let again = tokio::select! {
            biased;
            again = self.run_again(&record, new) => again,
            () = timer::sleep_until(deadline) => Err("it did not come to its end within failover.hold_timeout".to_owned()),
        };
        match again {
            Ok(lease) => {
                tracing::info!(client = self.entry.id, server = %self.shared.name(new), "a transaction was run again");
                self.record = Some(record);
                self.held = Some(lease);
                Ok(Recovered::Yes)
            }
            Err(why) => {
                let (old, new) = (self.shared.name(old), self.shared.name(new));
                let text = format!(
                    "lost {old} while a transaction was open there; it was run again on {new}, and {why}; it was rolled back, begin it again"
                );
                self.not_recovered(ClientError::new(Source::Server, errno::ER_NET_READ_ERROR, text)).await
            }
        }
    }

    async fn not_recovered(&mut self, error: ClientError) -> Result<Recovered, Gone> {
        self.session.connection_lost();
        self.record = None;
        self.show_idle();
        self.refuse(error).await?;
        Ok(Recovered::Told)
    }

    /// Waits until another server than `old` takes writes. `None`: `old` goes on, or nobody takes over in time.
    async fn other_master(
        &mut self,
        job: &Job<'_>,
        old: ServerId,
        deadline: Instant,
    ) -> Result<Result<Option<(ServerId, Arc<Facts>)>, ClientError>, Gone> {
        let still = Instant::now() + STILL_MASTER;
        self.show_waiting(job);
        let mut changed = self.shared.changed.clone();
        let _held = Held::new(&self.shared.metrics.held_statements);
        loop {
            changed.borrow_and_update();
            let snapshot = self.shared.snapshot.load_full();
            let now = Instant::now();
            if let Some(view) = snapshot.writer()
                && (view.id != old || now >= still)
            {
                return Ok(Ok(view.facts.clone().filter(|_| view.id != old).map(|facts| (view.id, facts))));
            }
            if now >= deadline {
                return Ok(Ok(None));
            }
            let until = if snapshot.writer().is_some() { still.min(deadline) } else { deadline };
            tokio::select! {
                _ = changed.changed() => {}
                () = timer::sleep_until(until) => {}
                () = interrupted(&self.entry) => return Ok(Err(killed_while_waiting())),
                () = self.stream.closed() => return Err(Gone),
            }
        }
    }

    /// Runs the transaction again, and compares.
    async fn run_again(&self, record: &Record<PreparedText>, new: ServerId) -> Result<Lease, String> {
        let steps = record.steps().map_err(str::to_owned)?;
        let pool = self.shared.pools.get(new.index()).ok_or("there is no such server")?;
        let lost = |error: &dyn std::fmt::Display| format!("the connection was lost: {error}");
        let mut lease = pool.checkout(self.wanted(None)).await.map_err(|_| "no connection could be had".to_owned())?;
        // Whatever ends this early leaves a transaction behind: then the connection is closed.
        lease.tainted = true;
        lease.guard.wanted = false;
        lease.writes = true;
        // In this order, as before every statement: whoever hands this master over sees it, or is seen.
        self.show_running(&lease);
        if self.shared.snapshot.load().writer().is_none_or(|view| view.id != new) {
            return Err("that one was being replaced, too".to_owned());
        }
        lease.bring_to(&self.session.state).await.map_err(|e| lost(&e))?;
        for (n, step) in steps.iter().enumerate() {
            let (sum, status) = self.run_step(&mut lease, step).await.map_err(|e| lost(&e))?;
            if sum != step.sum {
                return Err(format!("statement {} of {} had another result than before", n + 1, steps.len()));
            }
            if n + 1 == steps.len() && status.is_some_and(|status| !status.has(Status::IN_TRANS)) {
                return Err("it was not open at its end".to_owned());
            }
        }
        lease.tainted = false;
        // Its statements made the same ids again; what the session had before them was never there.
        lease.last_insert_id = u64::MAX;
        Ok(lease)
    }

    async fn run_step(
        &self,
        lease: &mut Lease,
        step: &Step<PreparedText>,
    ) -> Result<(Sum, Option<Status>), Box<dyn std::error::Error + Send + Sync>> {
        if let Some(id) = step.insert_id {
            lease.statement(format!("SET last_insert_id={id}").as_bytes()).await.map_err(|e| e.to_string())?;
        }
        let mut out = BytesMut::new();
        match &step.sent {
            Sent::Command(payload) => {
                put_packet(&mut out, 0, payload);
            }
            Sent::Execute { text, payload, params, types } => {
                let id = match lease.prepared_for(text, types.as_deref()) {
                    Some(id) => id,
                    None => {
                        let id = self.prepare_on(lease, text, &mut Vec::new()).await.map_err(|e| e.to_string())?;
                        lease.bring_to(&self.session.state).await.map_err(|e| e.to_string())?;
                        // It is noted what it is executed with.
                        lease.prepared_for(text, types.as_deref()).unwrap_or(id)
                    }
                };
                let mut body = BytesMut::with_capacity(payload.len() + 64);
                rewrite_execute(payload, id, *params, self.capabilities, types.as_deref(), &mut body).map_err(|e| e.to_string())?;
                put_packet(&mut out, 0, &body);
            }
        }
        lease.stream.send_command(&out).await?;
        // Numbered as the first answer was, since its numbers are in the sum.
        let mut tracker = relay::tracker(step.expect, lease, self.capabilities, (false, false), None);
        let mut buffer = Buffer::new();
        let mut told = Told { sum: Some(Checksum::default()), ..Told::default() };
        loop {
            let walk = tracker.walk(buffer.filled_mut()).map_err(|e| e.to_string())?;
            let sum = told.sum.get_or_insert_default();
            sum.rows(buffer.filled().get(..walk.pass).unwrap_or(&[]));
            match walk.event {
                Event::Packet { kind, len, done } => {
                    let payload = buffer.filled().get(walk.pass + HEADER_LEN..walk.pass + len).unwrap_or(&[]);
                    match kind {
                        PacketKind::Ok => {
                            let ok = OkPacket::parse(payload, lease.capabilities).ok_or("an unreadable OK packet")?;
                            told.note_ok(&ok);
                        }
                        PacketKind::Err => sum.error(ErrPacket::parse(payload).map_or(0, |e| e.errno)),
                        PacketKind::Eof => told.status = EofPacket::parse(payload).map(|eof| eof.status).or(told.status),
                        PacketKind::LocalInfile => return Err("it asks for a file".into()),
                        PacketKind::PrepareOk | PacketKind::Progress => {}
                    }
                    buffer.consume(walk.pass + len);
                    if done {
                        break;
                    }
                }
                // The EOF is written for the client alone.
                Event::EofDue { .. } => buffer.consume(walk.pass),
                Event::NeedMore => {
                    buffer.consume(walk.pass);
                    if tracker.is_done() {
                        break;
                    }
                    if buffer.fill(&mut lease.stream).await? == 0 {
                        return Err(Box::from(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)));
                    }
                }
            }
        }
        Ok((told.sum.take().unwrap_or_default().finish(), told.status))
    }
}
