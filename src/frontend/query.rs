//! One statement from top to bottom: what it is, where it goes, a connection in the right state, the reply, what was
//! learned.
//!
//! The steps are those of the map in `lib.rs`, which names the files that carry them out; this one puts them in a row, and says what happened
//! when one fails. Decisions are made by `sql`, `session` and `routing`.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::backend::pool::Lease;
use crate::frontend::admit::HeldBack;
use crate::frontend::answers::plain_job;
use crate::frontend::changed::Change;
use crate::frontend::client::{Client, Gone};
use crate::frontend::errors::{ClientError, Source};
pub(super) use crate::frontend::job::{ANSWERED, Failed, Job, Outcome, Payload};
use crate::frontend::lost::{Loss, Losses};
use crate::frontend::refused;
use crate::frontend::relay::{self, End, Pending, Relay, write_at_once, write_pending};
use crate::frontend::replay::Recovered;
use crate::frontend::told::Told;
use crate::net::{Buffer, timer};
use crate::protocol::Capabilities;
use crate::protocol::command::Com;
use crate::protocol::errno::{self, Errno};
use crate::protocol::frame::HEADER_LEN;
use crate::protocol::ok_err_eof::ErrPacket;
use crate::protocol::prepared::ExecuteHeader;
use crate::protocol::query;
use crate::protocol::reply::Expect;
use crate::routing::decision::{Decision, Target};
use crate::session::replay::Checksum;
use crate::sql::lexer::statements;
use crate::topology::ServerId;
use crate::topology::observation::Failure;

/// Servers a read is tried on before its error goes to the client.
pub(super) const TRIES_MAX: usize = 4;
/// Pause between tries to reach a master that the monitor still believes in.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// How often a statement is prepared again before its error goes to the client.
const PREPARED_AGAIN_MAX: u32 = 6;
/// Pause before it is, times how often it was.
const PREPARE_PAUSE: Duration = Duration::from_millis(20);

impl Client {
    /// `COM_QUERY`.
    pub(super) async fn query(&mut self, packet: &[u8]) -> Result<(), Gone> {
        let Some(sql) = query::text(packet.get(HEADER_LEN..).unwrap_or(&[]), self.capabilities) else {
            return self.refuse(ClientError::of_server(errno::ER_MALFORMED_PACKET, "Malformed communication packet.")).await;
        };
        let (statement, hint) = self.classify(sql);
        if statement.effects.answerable()
            && let Some(answer) = Box::pin(self.answer_itself(&statement, sql)).await?
        {
            return answer;
        }
        let job = Job { hint: hint.as_ref(), ..plain_job(Com::Query, Expect::Query, &statement, sql, packet) };
        if self.must_ask_insert_id(&statement) {
            Box::pin(self.ask_held_insert_id()).await;
        }
        if !statement.plain && Self::may_ask(&statement) {
            return Box::pin(self.query_left(job)).await;
        }
        self.run_job(&job).await.map(|_| ())
    }

    /// Steps 5 to 10 of the way of one query.
    pub(super) async fn run_job(&mut self, job: &Job<'_>) -> Result<Outcome, Gone> {
        self.account.follow(&self.shared.login);
        // What is to be kept is this statement's reply or nothing, and nobody waits for it when it was never sent.
        self.fill = None;
        if self.held.is_none() {
            self.schemaless = None;
            self.left.moves();
        }
        let ended = self.carry_out(job).await;
        self.fill = None;
        ended
    }

    async fn carry_out(&mut self, job: &Job<'_>) -> Result<Outcome, Gone> {
        let started = Instant::now();
        let mut failed: Vec<ServerId> = Vec::new();
        let mut last_error: Option<ClientError> = None;
        let (mut prepared_again, mut losses) = (0, Losses::default());
        if job.statement.cacheable.is_ok()
            && let Some(look) = self.look_up(job, started)
            && let Some(answered) = self.answer_kept(look, job, started).await?
        {
            return Ok(answered);
        }
        let mut now = Some(started);
        if self.may_leave_replica() {
            Box::pin(self.leave_replica(job)).await;
            now = None;
        }
        loop {
            let decision = self.decide(job, &failed);
            self.note_decision(&decision);
            match decision.target {
                // A write in a transaction whose master has been replaced.
                Target::Deny if self.has_left_master(&decision) => match self.held_lost(job, None).await? {
                    Recovered::Yes => continue,
                    Recovered::No | Recovered::Told => return Ok(ANSWERED),
                },
                Target::Deny => {
                    self.refuse(self.denied(job, &decision)).await?;
                    return Ok(ANSWERED);
                }
                Target::Proxy => {
                    self.count(job, None, Target::Proxy, started.elapsed(), None);
                    self.note_own_ok(job.statement);
                    self.ok("").await?;
                    return Ok(ANSWERED);
                }
                Target::Master | Target::Replica | Target::Server => {}
            }
            let paused = self.shared.is_paused.load(Ordering::Relaxed) && self.held.is_none();
            let server = match decision.server {
                Some(server) if !paused => server,
                _ => {
                    if let Err(error) = Box::pin(self.hold(job, &decision, started, last_error.take(), paused)).await? {
                        self.refuse(error).await?;
                        return Ok(ANSWERED);
                    }
                    if !failed.is_empty() {
                        timer::sleep(RETRY_PAUSE).await;
                    }
                    failed.clear();
                    now = None;
                    continue;
                }
            };
            // As `connection` does, without a future where nothing is waited for.
            let connection = match self.connection_at_once(job, server, now.take().unwrap_or_else(Instant::now)) {
                Some(found) => found,
                None => Box::pin(self.wait_for_connection(job, server)).await?,
            };
            let mut lease = match connection {
                Ok(lease) => lease,
                Err(failure) => {
                    match failure {
                        Failed::Answered => return Ok(ANSWERED),
                        Failed::HeldLost => match self.held_lost(job, None).await? {
                            Recovered::Yes => continue,
                            Recovered::No | Recovered::Told => return Ok(ANSWERED),
                        },
                        Failed::Before(error) | Failed::Unknown(error) => {
                            if decision.may_retry && failed.len() < TRIES_MAX {
                                failed.push(server);
                                last_error = Some(error);
                                continue;
                            }
                            // Nothing was sent: a statement for a master that cannot be reached waits for one that can.
                            let waits = decision.target == Target::Master && error.source == Source::Server;
                            if waits && started.elapsed() < self.hold_timeout() {
                                timer::sleep(RETRY_PAUSE).await;
                                last_error = Some(error);
                                continue;
                            }
                            self.refuse(error).await?;
                            return Ok(ANSWERED);
                        }
                        Failed::Lacks => failed = self.shared.all_but_master(),
                        Failed::Behind | Failed::NoSchema | Failed::ReadOnlyServer | Failed::PrepareAgain(_) | Failed::Lost(..) => {
                            unreachable!("a connection runs nothing")
                        }
                    }
                    continue;
                }
            };
            let decision = if lease.server == server { decision } else { self.retaken(&lease, decision) };
            if let Err(barred) = self.may_go(job, &mut lease, &decision, started) {
                match Box::pin(self.hold_back(job, lease, barred, &decision, started, &mut last_error)).await? {
                    HeldBack::Again => continue,
                    HeldBack::HeldLost => match self.held_lost(job, None).await? {
                        Recovered::Yes => continue,
                        Recovered::No | Recovered::Told => return Ok(ANSWERED),
                    },
                    HeldBack::Answered => return Ok(ANSWERED),
                }
            }
            match self.attempt(job, lease, &decision, started).await? {
                Ok(outcome) => return Ok(outcome),
                Err(Failed::Answered | Failed::HeldLost) => return Ok(ANSWERED),
                Err(Failed::Behind) => failed.push(server),
                Err(Failed::Lacks) => failed = self.shared.all_but_master(),
                Err(Failed::NoSchema) => self.go_without_schema(),
                // The next decision knows, and so does that of the next execution.
                Err(Failed::ReadOnlyServer) => job.statement.writes_unseen.raise(),
                Err(Failed::PrepareAgain(payload)) => {
                    prepared_again += 1;
                    if prepared_again > PREPARED_AGAIN_MAX {
                        self.server_error(&payload).await?;
                        return Ok(ANSWERED);
                    }
                    // Statements of connections that were closed for room are gone a moment later.
                    timer::sleep(PREPARE_PAUSE * (prepared_again - 1)).await;
                }
                Err(Failed::Before(error)) if decision.may_retry && failed.len() < TRIES_MAX => {
                    failed.push(server);
                    last_error = Some(error);
                }
                Err(Failed::Lost(error, loss)) if losses.may_repeat(loss) => {
                    failed.push(server);
                    last_error = Some(error);
                }
                Err(Failed::Lost(error, _)) => {
                    self.show_idle();
                    self.refuse(error).await?;
                    return Ok(ANSWERED);
                }
                // Nothing of it was sent, and nothing is lost with the connection: it waits for a master that can be reached.
                Err(Failed::Before(error)) if !self.session.pins.any() && started.elapsed() < self.hold_timeout() => {
                    timer::sleep(RETRY_PAUSE).await;
                    last_error = Some(error);
                }
                // Nothing of it was sent: what is lost is what the session had there.
                Err(Failed::Before(_)) if self.session.in_transaction() || self.session.pins.beyond_transaction() => {
                    match self.held_lost(job, Some(server)).await? {
                        Recovered::Yes => failed.clear(),
                        Recovered::No | Recovered::Told => return Ok(ANSWERED),
                    }
                }
                Err(Failed::Before(error) | Failed::Unknown(error)) => {
                    match Box::pin(self.recover(job, server, true)).await? {
                        Recovered::Yes => {
                            failed.clear();
                            continue;
                        }
                        Recovered::No => {}
                        Recovered::Told => return Ok(ANSWERED),
                    }
                    let fatal = self.session.pins.beyond_transaction();
                    self.session.connection_lost();
                    self.statements.connection_lost();
                    self.show_idle();
                    self.refuse(if fatal { error.fatal() } else { error }).await?;
                    return Ok(ANSWERED);
                }
            }
        }
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
        let mut buffer = Buffer::new();
        let sent = Instant::now();
        let change = self.begin_change(job, server, sent);
        let open = self.note_sending(job, server);
        if let Err(failed) = self.send(job, &mut lease, decision, &mut buffer).await? {
            if !matches!(failed, Failed::Unknown(_)) {
                Change::none(change);
            }
            if let Failed::Before(error) = &failed {
                self.shared.monitor.poke(server, Failure::Io(error.text.clone()));
            } else if matches!(
                failed,
                Failed::Answered | Failed::PrepareAgain(_) | Failed::Behind | Failed::Lacks | Failed::NoSchema
            ) {
                if lease.tainted && self.session.pins.any() {
                    // What the session holds is on a connection in a state that nobody knows, perhaps with an answer under way: there is no going on from
                    // here, and the client has been told of an error.
                    return Err(Gone);
                }
                // Refused, and the connection is as good as before.
                self.settle(lease, Instant::now());
            }
            return Ok(Err(failed));
        }
        let mut told = Told { sum: open.map(|_| Checksum::default()), ..Told::default() };
        let mut pending = Pending::default();
        // A long command's packets may have been cut anew for the server, which numbers its answer behind those.
        let next_seq = (self.upload.is_some() || self.replied != 0).then(|| self.next_seq());
        let calls = job.statement.effects.calls_procedure;
        let cursor = matches!(job.payload, Payload::Execute(payload) if ExecuteHeader::asks_for_cursor(payload));
        // Only clients without `DEPRECATE_EOF` are told, where rows begin, whether more results follow.
        let counted = job.statement.multi && !self.capabilities.has(Capabilities::DEPRECATE_EOF);
        let in_text = if counted { statements(job.sql, self.session.lex).len() } else { 1 };
        let out_params = calls || job.statement.effects.opaque;
        let tracker = relay::tracker(job.expect, &lease, self.capabilities, (cursor, out_params), next_seq);
        let mut fill = self.fill.take();
        let mut relay = Relay {
            server: &mut lease,
            client: &mut self.stream,
            client_capabilities: self.capabilities,
            hears: self.session.hears,
            tracker,
            statement_id: job.statement_id,
            status: self.session.status.of_session(),
            statements: if calls { usize::MAX } else { in_text },
            capture: fill.as_mut().and_then(|fill| fill.capture()),
            state: &self.session.state,
            asked_with: 1,
            behind: Vec::new(),
        };
        let end = relay.run(&mut buffer, &mut told, &mut pending).await;
        self.behind = relay.behind;
        match end {
            End::Done { forwarded } => {
                if told.errno.is_some() && self.entry.doomed.load(Ordering::Relaxed) {
                    return Err(Gone);
                }
                if told.errno.is_some() && !forwarded && self.upload.is_none() && ErrPacket::is_farewell(pending.piece(&buffer)) {
                    // It was idle for the server's `wait_timeout`, and the statement met the farewell.
                    Change::none(change);
                    return Ok(Err(self.broken(&lease, &"it was idle for its server's wait_timeout")));
                }
                if refused::may_not_write(told.errno)
                    && !forwarded
                    && self.upload.is_none()
                    && let Some(failed) = self
                        .read_only_server(job, decision, &buffer, &mut pending, told.errno)
                        .or_else(|| self.master_is_read_only(job, &lease, decision, started, &buffer, &pending))
                {
                    Change::none(change);
                    self.settle(lease, Instant::now());
                    return Ok(Err(failed));
                }
                if let Some(errno) = told.errno.filter(|_| !forwarded)
                    && let Some(failed) = self.not_its_fault(job, &mut lease, decision, errno, &buffer, &pending)
                {
                    Change::none(change);
                    self.settle(lease, Instant::now());
                    return Ok(Err(failed));
                }
                let ended =
                    matches!(told.errno.map(Errno), Some(errno::ER_SERVER_SHUTDOWN | errno::ER_CONNECTION_KILLED)) && !forwarded;
                let repeatable = ended && self.is_repeatable(job, decision);
                // Who has had a read ended at a server that goes on does not want to see it begin at the next one.
                let killed = repeatable && Box::pin(self.goes_on(server)).await;
                lease.tainted |= killed;
                if ended && !killed && (open.is_some() || repeatable) {
                    // Its connections end with it: as good as lost before the first byte.
                    let text = format!("{} is being stopped", self.shared.name(server));
                    drop(lease);
                    self.shared.monitor.poke(server, Failure::Io(text.clone()));
                    let error = ClientError::new(Source::Server, errno::ER_NET_READ_ERROR, text);
                    // MySQL says the same to what it interrupts as to what it refuses to begin.
                    return Ok(Err(if repeatable { Failed::Lost(error, Loss::Before) } else { Failed::Unknown(error) }));
                }
            }
            End::Client(error) => {
                self.note_stalled(&error);
                // The statement may still be running there for nobody.
                self.shared.kill_on_server(&lease, &self.account);
                return Err(Gone);
            }
            End::Server { error, forwarded } => {
                if self.entry.doomed.load(Ordering::Relaxed) {
                    return Err(Gone);
                }
                let name = self.shared.name(server);
                let never_sent = !forwarded && self.upload.is_none() && lease.stream.sent_nothing();
                let unsent = never_sent.then(|| self.broken(&lease, &error));
                drop(lease);
                self.shared.monitor.poke(server, Failure::Io(error.to_string()));
                if let Some(failed) = unsent {
                    Change::none(change);
                    return Ok(Err(failed));
                }
                let error = self.lost_while_running(job, &name, &error);
                if forwarded {
                    // Part of a result is with the client; nothing can be put behind it.
                    self.shared.metrics.errors(Source::Server).inc();
                    tracing::warn!(client = self.entry.id, server = %name, "{}; its client is closed in the middle of a result", error.text);
                    return Err(Gone);
                }
                if !self.is_repeatable(job, decision) {
                    return Ok(Err(Failed::Unknown(error)));
                }
                let loss = Box::pin(self.loss(server, sent)).await;
                return Ok(Err(Failed::Lost(error, loss)));
            }
        }
        let before = open.map(|open| (open, self.session.state.clone()));
        self.learn(job, &mut lease, &told);
        let unnamed = self.end_change(job, change, &told, &lease);
        let kept = fill.and_then(|fill| fill.end(job, &told, pending.piece(&buffer), self.capabilities, sent));
        let unshared = kept.and_then(|kept| kept.share(&self.shared, &lease));
        if let Some((open, state)) = before {
            self.record_step(job, open, &mut told, &state);
        }
        self.note_upload();
        if told.errno.is_none() && self.changed_its_password(job) {
            if lease.tainted {
                if Box::pin(lease.track_session()).await.is_err() {
                    return Err(Gone);
                }
                // Nothing of the session's state could be brought there until now.
                lease.have = self.account.fresh.clone();
            }
            self.shared.forget_credential(&self.account.key);
            self.live_on_this_connection();
        }
        let ended = Instant::now();
        self.note_left(job, &told, lease.flavor);
        self.count(job, Some((server, sent)), decision.target, ended.duration_since(started), Some((&told, ended)));
        if let Some(questions) = self.questions(job, &told, &lease, unshared) {
            Box::pin(self.ask_behind(questions, &mut lease, (&mut buffer, &mut pending), &told, unnamed)).await?;
            self.settle(lease, ended);
            return Ok(Ok(Outcome::of(server, &told)));
        }
        let released =
            matches!(job.com, Com::Query | Com::StmtExecute) && told.errno.is_none() && self.session.ends_with(job.statement);
        lease.tainted |= released;
        let configured = lease.net_timeouts.0;
        self.settle(lease, ended);
        let written = write_at_once(&self.stream, &mut buffer, &mut pending);
        if !written.inspect_err(|error| self.note_stalled(error))? {
            Box::pin(self.write_last(&mut buffer, &mut pending, configured)).await?;
        }
        if released {
            return Err(Gone);
        }
        Ok(Ok(Outcome::of(server, &told)))
    }

    pub(super) async fn write_last(
        &mut self,
        buffer: &mut Buffer,
        pending: &mut Pending,
        configured: Duration,
    ) -> Result<(), Gone> {
        let written = write_pending(&mut self.stream, (&self.session.state, configured), buffer, pending).await;
        written.inspect_err(|error| self.note_stalled(error)).map_err(Gone::from)
    }

    /// Keeps the connection while a pin holds, else gives it back.
    fn settle(&mut self, mut lease: Lease, now: Instant) {
        self.last = Some((lease.server, lease.thread_id, lease.serial));
        if lease.locks_unseen == Some(self.entry.id) {
            self.unseen_on = self.last;
        }
        // The client is no longer seen on the connection before somebody else may be: a KILL looks in this order.
        if self.session.pins.any() {
            lease.idle_since = now;
            self.held = Some(lease);
            self.show_idle_since(now);
        } else {
            self.show_idle_since(now);
            lease.give_back(now);
        }
    }
}
