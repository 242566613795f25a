//! One statement from top to bottom: what it is, where it goes, a connection in the right state, the reply, what was
//! learned.
//!
//! The steps are those of the map in `lib.rs`. Decisions are made by `sql`, `session` and `routing`; this file carries them
//! out, and says what happened when that fails.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;

use crate::backend::connect::ConnectError;
use crate::backend::connection::{CommandError, PreparedText, put_command};
use crate::backend::pool::{CheckoutError, Lease, Wanted};
use crate::frontend::client::{Client, Gone};
use crate::frontend::errors::{ClientError, Source};
use crate::frontend::registry::ClientState;
use crate::frontend::relay::{End, Pending, Relay, Told, write_pending};
use crate::net::{Buffer, Idle};
use crate::protocol::command::Com;
use crate::protocol::frame::{HEADER_LEN, put_packet};
use crate::protocol::prepared::rewrite_execute;
use crate::protocol::reply::{Expect, ReplyTracker};
use crate::routing::balance::Load;
use crate::routing::decide::{Consistency, Question, decide};
use crate::routing::decision::{Decision, Reason, Target};
use crate::session::machine::Learned;
use crate::session::state::State;
use crate::sql::classify::{Class, Classified};
use crate::sql::digest::DigestBuf;
use crate::sql::hint::Hint;
use crate::topology::gtid::GtidSet;
use crate::topology::observation::Failure;
use crate::topology::{Flavor, ServerId};

/// A connection to a server was lost: `ER_NET_READ_ERROR`. Clients' own 2013 would say it more plainly, but MariaDB's client
/// library takes any number from 2000 to 2999 in an ERR packet for a malformed packet.
pub(super) const LOST: u16 = 1158;
/// Servers a read is tried on before its error goes to the client.
const TRIES_MAX: usize = 4;
/// Pause between tries to reach a master that the monitor still believes in.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

thread_local! {
    static DIGEST: RefCell<DigestBuf> = RefCell::new(DigestBuf::default());
}

/// What is sent to the server.
pub(super) enum Payload<'a> {
    /// The client's packet as it came.
    Packet(&'a [u8]),
    /// `COM_STMT_EXECUTE`: the client's payload, into which the server's number for the statement is put.
    Execute(&'a [u8]),
}

/// One statement to be run.
pub(super) struct Job<'a> {
    pub com: Com,
    pub expect: Expect,
    pub statement: &'a Arc<Classified>,
    pub hint: Option<&'a Hint>,
    pub sql: &'a [u8],
    pub payload: Payload<'a>,
    /// The prepared statement, for EXECUTE, and for PREPARE what it becomes.
    pub text: Option<&'a Arc<PreparedText>>,
    /// The client's number for it.
    pub statement_id: u32,
    /// Its parameters and remembered types, for EXECUTE.
    pub params: u16,
    pub types: Option<&'a [u8]>,
    /// The server it was prepared on, which is taken when it may be.
    pub prefer: Option<ServerId>,
}

/// What came of it. The client has its answer already.
pub(super) struct Outcome {
    /// What the server told; `None` when the answer was ours.
    pub told: Option<Told>,
    /// The server that ran it.
    pub server: Option<ServerId>,
}

const ANSWERED: Outcome = Outcome { told: None, server: None };

/// Why an attempt on one server failed.
enum Failed {
    /// The client has been answered.
    Answered,
    /// Nothing of the statement has an effect that counts; it may be tried elsewhere.
    Before(ClientError),
    /// The statement may have run.
    Unknown(ClientError),
    /// The replica did not reach the session's last write in time.
    Behind,
}

impl Client {
    /// `COM_QUERY`.
    pub(super) async fn query(&mut self, packet: &[u8]) -> Result<(), Gone> {
        let sql = packet.get(5..).unwrap_or(&[]);
        let (statement, hint) = self.classify(sql);
        if let Some(answer) = self.answer_itself(&statement, sql).await? {
            return answer;
        }
        let job = Job {
            com: Com::Query,
            expect: Expect::Query,
            statement: &statement,
            hint: hint.as_ref(),
            sql,
            payload: Payload::Packet(packet),
            text: None,
            statement_id: 0,
            params: 0,
            types: None,
            prefer: None,
        };
        self.run_job(job).await.map(|_| ())
    }

    pub(super) fn classify(&self, sql: &[u8]) -> (Arc<Classified>, Option<Hint>) {
        DIGEST.with(|buffer| {
            let mut buffer = buffer.borrow_mut();
            let statement = self.shared.classify.get(sql, self.session.lex, &mut buffer);
            (statement, buffer.hint.take())
        })
    }

    /// Steps 5 to 10 of the way of one query.
    pub(super) async fn run_job(&mut self, job: Job<'_>) -> Result<Outcome, Gone> {
        let started = Instant::now();
        let mut failed: Vec<ServerId> = Vec::new();
        let mut last_error: Option<ClientError> = None;
        loop {
            let decision = self.decide(&job, &failed);
            self.note_rule(&decision);
            match decision.target {
                Target::Deny => {
                    self.refuse(self.denied(&job, &decision)).await?;
                    return Ok(ANSWERED);
                }
                Target::Proxy => {
                    self.count(&job, None, Target::Proxy, started, None);
                    self.ok("").await?;
                    return Ok(ANSWERED);
                }
                Target::Master | Target::Replica | Target::Server => {}
            }
            let paused = *self.shared.paused.borrow() && self.held.is_none();
            let server = match decision.server {
                Some(server) if !paused => server,
                _ => {
                    if let Err(error) = self.hold(&job, &decision, started, last_error.take(), paused).await? {
                        self.refuse(error).await?;
                        return Ok(ANSWERED);
                    }
                    failed.clear();
                    continue;
                }
            };
            let lease = match self.connection(&job, server).await? {
                Ok(lease) => lease,
                Err(failure) => {
                    match failure {
                        Failed::Answered => return Ok(ANSWERED),
                        Failed::Before(error) | Failed::Unknown(error) => {
                            if decision.may_retry && failed.len() < TRIES_MAX {
                                failed.push(server);
                                last_error = Some(error);
                                continue;
                            }
                            // Nothing was sent: a statement for a master that cannot be reached waits for one that can.
                            let hold = self.shared.settings.load().hold_timeout;
                            let waits = decision.target == Target::Master && error.source == Source::Server;
                            if waits && started.elapsed() < hold {
                                tokio::time::sleep(RETRY_PAUSE).await;
                                last_error = Some(error);
                                continue;
                            }
                            self.refuse(error).await?;
                            return Ok(ANSWERED);
                        }
                        Failed::Behind => unreachable!("a connection is not behind"),
                    }
                }
            };
            match self.attempt(&job, lease, &decision, started).await? {
                Ok(outcome) => return Ok(outcome),
                Err(Failed::Answered) => return Ok(ANSWERED),
                Err(Failed::Behind) => failed.push(server),
                Err(Failed::Before(error)) if decision.may_retry && failed.len() < TRIES_MAX => {
                    failed.push(server);
                    last_error = Some(error);
                }
                Err(Failed::Before(error) | Failed::Unknown(error)) => {
                    let fatal = self.session.pins.beyond_transaction();
                    self.session.connection_lost();
                    self.show_idle();
                    self.refuse(if fatal { error.fatal() } else { error }).await?;
                    return Ok(ANSWERED);
                }
            }
        }
    }

    /// Step 5: where does it go, and why.
    fn decide(&self, job: &Job<'_>, failed: &[ServerId]) -> Decision {
        let shared = &self.shared;
        let snapshot = shared.snapshot.load();
        let settings = shared.settings.load();
        let newest;
        let written = match settings.routing.consistency {
            Consistency::None => None,
            Consistency::Session => self.session.written.as_ref(),
            Consistency::Global => {
                newest = shared.newest_write.lock().clone();
                newest.as_ref()
            }
        };
        let pinned = self.held.as_ref().map(|lease| {
            (lease.server, self.session.pins.first().unwrap_or(crate::session::pin::PinReason::Unknown))
        });
        let mut decision = decide(&Question {
            statement: job.statement,
            sql: job.sql,
            hint: job.hint,
            user: &self.account.key.user,
            client: self.account.ip,
            schema: self.session.state.schema(),
            pinned,
            autocommit: self.session.autocommit(),
            read_only_account: self.account.read_only,
            written,
            snapshot: &snapshot,
            rules: &settings.rules,
            settings: &settings.routing,
            failed,
            turn: shared.turn.fetch_add(1, Ordering::Relaxed),
            load: &|server| self.load(server),
            has: &|server, gtid| shared.has(server, gtid),
        });
        if let (Some(prefer), Reason::Read, Target::Replica) = (job.prefer, decision.reason, decision.target)
            && !failed.contains(&prefer)
            && snapshot.server(prefer).is_some_and(|s| s.read_ok && s.weight > 0)
            && snapshot.master != Some(prefer)
        {
            decision.server = Some(prefer);
        }
        decision
    }

    fn note_rule(&self, decision: &Decision) {
        if let Reason::Rule(number) = decision.reason
            && let Some(rule) = self.shared.settings.load().rules.0.get(number - 1)
        {
            rule.hits.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn load(&self, server: ServerId) -> Load {
        Load {
            used: self.shared.pools.get(server.index()).map_or(0, |p| p.counts().used as u32),
            latency_us: self.shared.latency_us.get(server.index()).map_or(0, |l| l.load(Ordering::Relaxed) as u32),
        }
    }

    /// Waits until there is a server for the statement, or the time for that is over.
    async fn hold(
        &mut self,
        job: &Job<'_>,
        decision: &Decision,
        started: Instant,
        last_error: Option<ClientError>,
        paused: bool,
    ) -> Result<Result<(), ClientError>, Gone> {
        let hold = self.shared.settings.load().hold_timeout;
        let deadline = started + hold;
        self.show_waiting(job);
        let mut changed = self.shared.changed.clone();
        let mut resumed = self.shared.paused.clone();
        changed.borrow_and_update();
        let _held = Held::new(&self.shared.metrics.held_statements);
        loop {
            let snapshot = self.shared.snapshot.load_full();
            let still_paused = *resumed.borrow_and_update();
            let served = snapshot.master.is_some() || (decision.target == Target::Replica && snapshot.readers().next().is_some());
            if served && !still_paused {
                return Ok(Ok(()));
            }
            if Instant::now() >= deadline {
                if paused {
                    let text = format!("paused by an operator for more than {} ms; RESUME on the admin port ends it", hold.as_millis());
                    return Ok(Err(ClientError::new(Source::Proxy, 1290, b"HY000", text)));
                }
                return Ok(Err(last_error.unwrap_or_else(|| no_server(&snapshot, decision, hold))));
            }
            tokio::select! {
                _ = changed.changed() => {}
                _ = resumed.changed() => {}
                () = tokio::time::sleep_until(deadline.into()) => {}
                () = gone(&self.stream) => return Err(Gone),
            }
        }
    }

    /// Step 6: a connection to this server for this session.
    async fn connection(&mut self, job: &Job<'_>, server: ServerId) -> Result<Result<Lease, Failed>, Gone> {
        if let Some(lease) = self.held.take() {
            if lease.is_quiet() {
                return Ok(Ok(lease));
            }
            self.held = Some(lease);
            self.lost_pinned().await?;
            return Ok(Err(Failed::Answered));
        }
        if let Some(lease) = self.retake(job) {
            return Ok(Ok(lease));
        }
        let Some(pool) = self.shared.pools.get(server.index()) else { return Ok(Err(Failed::Answered)) };
        let wanted = Wanted {
            key: &self.account.key,
            credential: &self.account.credential,
            collation: self.account.collation,
            state: &self.session.state,
            fresh: &self.account.fresh,
            text: job.text,
        };
        let checkout = tokio::select! {
            biased;
            checkout = pool.checkout(wanted) => checkout,
            () = gone(&self.stream) => return Err(Gone),
        };
        let name = &pool.name;
        Ok(match checkout {
            Ok(lease) => Ok(lease),
            Err(CheckoutError::Exhausted { waited, counts }) => {
                let text = format!(
                    "all {} connections to {name} are in use and {} others wait; gave up after {} ms; raise max_connections of {name}, \
                     or look for long transactions in SHOW CLIENTS",
                    counts.max,
                    counts.waiting,
                    waited.as_millis()
                );
                Err(Failed::Before(ClientError::new(Source::Proxy, 1203, b"42000", text)))
            }
            Err(CheckoutError::Connect(error)) => {
                if let ConnectError::Refused(refused) = &error
                    && error.is_access_denied()
                {
                    // The password that was learned is no longer right: forget it, and tell the client what the server said.
                    self.shared.forget_password(&self.account.key);
                    self.server_error(&refused.payload).await?;
                    return Err(Gone);
                }
                if let Some(failure) = failure_of(&error) {
                    self.shared.monitor.poke(server, failure);
                }
                let text = format!("cannot open a connection to {name}: {error}; see SHOW SERVERS on the admin port");
                Err(Failed::Before(ClientError::new(Source::Server, 1429, b"HY000", text)))
            }
            Err(CheckoutError::Setup(CommandError::Refused(payload))) => {
                self.server_error(&payload).await?;
                Err(Failed::Answered)
            }
            Err(CheckoutError::Setup(error)) => {
                let text = format!("a new connection to {name} failed: {error}");
                Err(Failed::Before(ClientError::new(Source::Server, LOST, b"08S01", text)))
            }
        })
    }

    /// A statement that asks what the one before it left on its connection gets that connection, if nobody has used it since.
    fn retake(&mut self, job: &Job<'_>) -> Option<Lease> {
        let effects = &job.statement.effects;
        if !(effects.session_bound || effects.reads_diagnostics || effects.reads_found_rows || effects.reads_row_count) {
            return None;
        }
        let (server, thread_id, serial) = self.last?;
        self.shared.pools.get(server.index())?.retake(&self.account.key, thread_id, serial)
    }

    /// Steps 7 to 10 on one server.
    async fn attempt(
        &mut self,
        job: &Job<'_>,
        mut lease: Lease,
        decision: &Decision,
        started: Instant,
    ) -> Result<Result<Outcome, Failed>, Gone> {
        let server = lease.server;
        self.show_active(job, &lease);
        let mut buffer = Buffer::new();
        let tracker = ReplyTracker::new(job.expect, lease.capabilities);
        let sent = Instant::now();
        if let Err(failed) = self.send(job, &mut lease, decision, &mut buffer).await? {
            if let Failed::Before(error) = &failed {
                self.shared.monitor.poke(server, Failure::Io(error.text.clone()));
            }
            return Ok(Err(failed));
        }
        let mut told = Told::default();
        let mut pending = Pending::default();
        let mut relay = Relay {
            server: &mut lease,
            client: &mut self.stream,
            client_capabilities: self.capabilities,
            tracker,
            statement_id: job.statement_id,
        };
        let end = relay.run(&mut buffer, &mut told, &mut pending).await;
        match end {
            End::Done => {}
            End::Client(_) => {
                // The statement may still be running there for nobody.
                self.shared.kill_on_server(&lease, &self.account);
                return Err(Gone);
            }
            End::Server { error, forwarded } => {
                let name = self.shared.name(server);
                drop(lease);
                self.shared.monitor.poke(server, Failure::Io(error.to_string()));
                let in_transaction = self.session.in_transaction();
                let text = if in_transaction {
                    format!("lost {name} while a statement ran there ({error}); the transaction was rolled back unless its COMMIT was the statement that was lost")
                } else if job.statement.class == Class::Read {
                    format!("lost {name} while a read ran there ({error}); it can be repeated")
                } else {
                    format!("lost {name} while a statement ran there ({error}); whether it took effect is unknown, look before you repeat it")
                };
                let error = ClientError::new(Source::Server, LOST, b"08S01", text);
                if forwarded {
                    // Part of a result is with the client; nothing can be put behind it.
                    self.shared.metrics.errors(Source::Server).inc();
                    tracing::warn!(client = self.entry.id, server = %name, "{}; its client is closed in the middle of a result", error.text);
                    return Err(Gone);
                }
                let repeatable = job.statement.class == Class::Read && !in_transaction && decision.may_retry;
                return Ok(Err(if repeatable { Failed::Before(error) } else { Failed::Unknown(error) }));
            }
        }
        self.learn(job, &mut lease, &told);
        let want_warnings = (told.warnings > 0 || told.errno.is_some()) && !job.statement.effects.reads_diagnostics;
        self.count(job, Some((server, sent)), decision.target, started, Some(&told));
        if want_warnings && !self.session.pins.any() {
            // What SHOW WARNINGS would say lives on this connection; it is fetched before the connection goes to somebody else,
            // and after the client has its reply.
            write_pending(&mut self.stream, &mut buffer, &mut pending).await?;
            self.capture_warnings(&mut lease).await;
            self.settle(lease);
            return Ok(Ok(Outcome { told: Some(told), server: Some(server) }));
        }
        if !job.statement.effects.reads_diagnostics {
            self.warnings = None;
        }
        self.settle(lease);
        write_pending(&mut self.stream, &mut buffer, &mut pending).await?;
        Ok(Ok(Outcome { told: Some(told), server: Some(server) }))
    }

    /// Keeps the connection while a pin holds, else gives it back.
    fn settle(&mut self, lease: Lease) {
        let now = Instant::now();
        self.last = Some((lease.server, lease.thread_id, lease.serial));
        if self.session.pins.any() {
            self.held = Some(lease);
        } else {
            lease.give_back(now);
        }
        self.show_idle();
    }

    /// Step 7: brings the connection to the session's state and sends the statement. Where the statement is a read both go out in
    /// one write; a statement that changes data waits until its state surely stands.
    async fn send(
        &mut self,
        job: &Job<'_>,
        lease: &mut Lease,
        decision: &Decision,
        buffer: &mut Buffer,
    ) -> Result<Result<(), Failed>, Gone> {
        let shared = self.shared.clone();
        let broken = |lease: &Lease, e: &(dyn std::fmt::Display + Sync)| {
            let name = shared.name(lease.server);
            Failed::Before(ClientError::new(Source::Server, LOST, b"08S01", format!("lost the connection to {name} before a statement was sent: {e}")))
        };
        let restore_id = self.session.needs_last_insert_id(job.statement);
        let plain = Arc::ptr_eq(&lease.have, &self.session.state) || lease.have == self.session.state;
        if plain && !lease.has_closes() && !restore_id && !decision.wait_for_write && let Payload::Packet(packet) = job.payload {
            lease.have = self.session.state.clone();
            return match lease.stream.write_all(packet).await {
                Ok(()) => Ok(flush(lease).await.map_err(|e| broken(lease, &e))),
                Err(e) => Ok(Err(broken(lease, &e))),
            };
        }
        if decision.wait_for_write {
            match self.wait_for_write(lease).await {
                Ok(true) => {}
                Ok(false) => return Ok(Err(Failed::Behind)),
                Err(e) => return Ok(Err(broken(lease, &e))),
            }
        }
        let mut out: Vec<u8> = Vec::new();
        lease.put_closes(&mut out);
        let mut answers = 0;
        let mut execute_id = 0;
        if let Payload::Execute(_) = job.payload {
            let text = job.text.expect("an execution has its prepared statement");
            execute_id = match lease.prepared(text) {
                Some(id) => id,
                None => match self.prepare_on(lease, text, &mut out).await {
                    Ok(id) => id,
                    Err(CommandError::Refused(payload)) => {
                        self.server_error(&payload).await?;
                        return Ok(Err(Failed::Answered));
                    }
                    Err(e) => return Ok(Err(broken(lease, &e))),
                },
            };
        }
        answers += lease.put_restore(&self.session.state, &mut out);
        if restore_id {
            put_command(&mut out, Com::Query, format!("SET last_insert_id={}", self.session.last_insert_id).as_bytes());
            answers += 1;
        }
        if answers > 0 && job.statement.class != Class::Read {
            if let Err(e) = lease.stream.write_all(&out).await {
                return Ok(Err(broken(lease, &e)));
            }
            out.clear();
            if let Some(failed) = self.restored(lease, buffer, answers).await? {
                return Ok(Err(failed));
            }
            answers = 0;
        }
        match job.payload {
            Payload::Packet(packet) => out.extend_from_slice(packet),
            Payload::Execute(payload) => {
                let mut body = BytesMut::with_capacity(payload.len() + 64);
                let rewritten = rewrite_execute(payload, execute_id, job.params, self.capabilities, job.types, &mut body);
                if rewritten.is_ok() {
                    let mut framed = BytesMut::with_capacity(body.len() + HEADER_LEN);
                    put_packet(&mut framed, 0, &body);
                    out.extend_from_slice(&framed);
                }
                if let Err(e) = rewritten {
                    let error = ClientError::new(Source::Client, 1210, b"HY000", format!("a malformed COM_STMT_EXECUTE: {e}"));
                    self.refuse(error).await?;
                    return Ok(Err(Failed::Answered));
                }
            }
        }
        if let Err(e) = lease.stream.write_all(&out).await {
            return Ok(Err(broken(lease, &e)));
        }
        if let Err(e) = flush(lease).await {
            return Ok(Err(broken(lease, &e)));
        }
        if answers > 0 && let Some(failed) = self.restored(lease, buffer, answers).await? {
            return Ok(Err(failed));
        }
        lease.have = self.session.state.clone();
        Ok(Ok(()))
    }

    /// Reads the answers to what restored the session's state. A refusal is the client's error, and the connection is closed:
    /// what state it is in is not known.
    async fn restored(&mut self, lease: &mut Lease, buffer: &mut Buffer, answers: usize) -> Result<Option<Failed>, Gone> {
        match lease.expect_oks(buffer, answers).await {
            Ok(()) => {
                lease.have = self.session.state.clone();
                Ok(None)
            }
            Err(CommandError::Refused(payload)) => {
                lease.tainted = true;
                self.server_error(&payload).await?;
                self.show_idle();
                Ok(Some(Failed::Answered))
            }
            Err(e) => {
                let name = self.shared.name(lease.server);
                let text = format!("lost the connection to {name} while the session's state was restored there: {e}");
                Ok(Some(Failed::Before(ClientError::new(Source::Server, LOST, b"08S01", text))))
            }
        }
    }

    /// Prepares a statement of this session on a connection that does not have it yet, in the state it was prepared in.
    pub(super) async fn prepare_on(&self, lease: &mut Lease, text: &Arc<PreparedText>, out: &mut Vec<u8>) -> Result<u32, CommandError> {
        let state: &Arc<State> = if same_for_prepare(&self.session.state, &text.state) { &self.session.state } else { &text.state };
        let answers = lease.put_restore(state, out);
        if answers > 0 {
            lease.stream.write_all(out).await?;
            out.clear();
            let mut buffer = Buffer::new();
            lease.expect_oks(&mut buffer, answers).await?;
        }
        lease.have = state.clone();
        let mut command = std::mem::take(out);
        put_command(&mut command, Com::StmtPrepare, &text.sql);
        lease.stream.write_all(&command).await?;
        lease.stream.flush().await?;
        let id = lease.read_prepared().await?;
        lease.note_prepared(text.clone(), id);
        Ok(id)
    }

    /// Asks a replica to wait, for a moment, until it has the session's last write.
    async fn wait_for_write(&self, lease: &mut Lease) -> Result<bool, CommandError> {
        let settings = self.shared.settings.load();
        let newest = self.shared.newest_write.lock().clone();
        let written = match settings.routing.consistency {
            Consistency::Global => newest.as_ref(),
            _ => self.session.written.as_ref(),
        };
        let Some(written) = written else { return Ok(true) };
        let seconds = settings.write_wait.as_secs_f64();
        let sql = match lease.flavor {
            Flavor::MySql => format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{written}', {seconds})"),
            Flavor::MariaDb => format!("SELECT MASTER_GTID_WAIT('{written}', {seconds})"),
        };
        let reached = lease.scalar(&sql).await?.as_deref() == Some(b"0");
        if reached {
            self.shared.known.learn(lease.server, written);
        }
        Ok(reached)
    }

    /// Step 9: what the reply says about the session and the server.
    fn learn(&mut self, job: &Job<'_>, lease: &mut Lease, told: &Told) {
        let ok = told.errno.is_none();
        let prepare_only = job.com == Com::StmtPrepare;
        if !prepare_only {
            let before = self.session.state.clone();
            self.session.learn(
                job.statement,
                job.sql,
                &Learned {
                    ok,
                    status: told.status,
                    last_insert_id: told.last_insert_id,
                    variables: &told.variables,
                    schema: told.schema.as_deref(),
                    overflow: told.overflow,
                },
            );
            if job.com == Com::InitDb && ok {
                self.session.schema_is(job.sql);
            }
            if !Arc::ptr_eq(&before, &self.session.state) {
                lease.have = self.session.state.clone();
                self.show_schema();
            }
        } else if let (Some(prepared), Some(text)) = (&told.prepared, job.text) {
            lease.note_prepared(text.clone(), prepared.statement_id);
        }
        if let Some(gtid) = told.gtid.as_deref().and_then(|text| std::str::from_utf8(text).ok()).filter(|text| !text.is_empty())
            && let Ok(gtid) = GtidSet::parse(lease.flavor, gtid)
        {
            self.shared.known.learn(lease.server, &gtid);
            if self.shared.settings.load().routing.consistency == Consistency::Global {
                match &mut *self.shared.newest_write.lock() {
                    Some(newest) => newest.merge(&gtid),
                    none => *none = Some(gtid.clone()),
                }
            }
            match &mut self.session.written {
                Some(written) => written.merge(&gtid),
                none => *none = Some(gtid),
            }
        }
    }

    async fn capture_warnings(&mut self, lease: &mut Lease) {
        self.warnings = match lease.raw_reply(b"SHOW WARNINGS").await {
            Ok(reply) => Some(reply.into()),
            Err(_) => {
                lease.tainted = true;
                None
            }
        };
    }

    fn denied(&self, job: &Job<'_>, decision: &Decision) -> ClientError {
        let settings = self.shared.settings.load();
        let message = match decision.reason {
            Reason::Rule(number) => {
                let rule = settings.rules.0.get(number - 1);
                rule.and_then(|r| r.message.clone()).unwrap_or_else(|| format!("refused by rule {number}"))
            }
            Reason::ReadOnlyAccount => {
                format!("the account {} is read_only in Sluice's configuration, and this is a {} statement", self.account.key.user, job.statement.class.as_str())
            }
            other => format!("refused: {other}"),
        };
        ClientError::new(Source::Client, 1290, b"HY000", message)
    }

    fn show_active(&self, job: &Job<'_>, lease: &Lease) {
        let mut view = self.entry.view.lock();
        view.state = ClientState::Active;
        view.since = Some(Instant::now());
        view.server = Some(lease.server);
        view.thread_id = lease.thread_id;
        view.statement = Some(job.statement.clone());
        view.queries += 1;
    }

    fn show_waiting(&self, job: &Job<'_>) {
        let mut view = self.entry.view.lock();
        view.state = ClientState::Waiting;
        view.since = Some(Instant::now());
        view.statement = Some(job.statement.clone());
    }

    pub(super) fn show_schema(&self) {
        self.entry.view.lock().schema = self.session.state.schema().map(|s| String::from_utf8_lossy(s).into());
    }
}

fn same_for_prepare(a: &State, b: &State) -> bool {
    a.schema() == b.schema()
        && ["sql_mode", "character_set_client", "character_set_connection", "collation_connection"]
            .iter()
            .all(|name| a.system(name) == b.system(name))
}

async fn flush(lease: &mut Lease) -> std::io::Result<()> {
    if lease.stream.is_tls() { lease.stream.flush().await } else { Ok(()) }
}

/// Ends when the client has closed its side.
async fn gone(stream: &crate::net::Stream) {
    if stream.wait_readable().await.is_ok() && stream.idle() == Idle::Closed {
        return;
    }
    std::future::pending::<()>().await;
}

/// What a failed connect says about the server; `None` when it says something about the client's account instead.
fn failure_of(error: &ConnectError) -> Option<Failure> {
    Some(crate::monitor::failure_of_connect(error)).filter(|failure| !matches!(failure, Failure::Auth(..) | Failure::Protocol(_)))
}

/// Counts a held statement for as long as it lives.
struct Held<'a>(&'a prometheus::IntGauge);

impl<'a> Held<'a> {
    fn new(gauge: &'a prometheus::IntGauge) -> Held<'a> {
        gauge.inc();
        Held(gauge)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Nobody to send it to: the diagnosis, and since when.
fn no_server(snapshot: &crate::topology::snapshot::Snapshot, decision: &Decision, hold: Duration) -> ClientError {
    let why = match (&snapshot.no_master, decision.target) {
        (_, Target::Replica) => "no server serves reads, and read_from_master is \"never\"".to_owned(),
        (Some(no_master), _) => format!("there is no master that takes writes: {} ({})", no_master.detail, no_master.diagnosis),
        (None, _) => "there is no master that takes writes".to_owned(),
    };
    let text = format!("{why}; waited {} ms (failover.hold_timeout); see SHOW SERVERS and SHOW EVENTS on the admin port", hold.as_millis());
    ClientError::new(Source::Server, 1290, b"HY000", text)
}
