//! Steps 5 and 6 of the way of one query: where the statement goes, waiting while there is nowhere to send it, and a
//! connection to the server that was chosen.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::backend::connect::ConnectError;
use crate::backend::connection::{CommandError, PreparedText};
use crate::backend::pool::{CheckoutError, Lease, Wanted};
use crate::frontend::client::{Client, Gone};
use crate::frontend::errors::{ClientError, Source};
use crate::frontend::query::{Failed, Job};
use crate::frontend::refused::bound_to;
use crate::frontend::registry::{ClientEntry, ClientState};
use crate::frontend::shared::{FrontendSettings, Shared};
use crate::net::timer;
use crate::protocol::command::Com;
use crate::protocol::errno::{self, Errno};
use crate::protocol::ok_err_eof::{ErrPacket, Status};
use crate::routing::balance::Load;
use crate::routing::decide::{Consistency, Question, decide};
use crate::routing::decision::{Decision, Reason, Target};
use crate::session::LastWrite;
use crate::session::replay::may_commit;
use crate::sql::classify::Class;
use crate::topology::observation::Failure;
use crate::topology::snapshot::Snapshot;
use crate::topology::{ServerId, State};

thread_local! {
    /// Counts decisions for replicas, for the round robin. Each thread goes round by itself, which is as even as going round
    /// together. Other decisions do not count: a client that reads and writes in turns would always meet the same replica.
    static TURN: Cell<u64> = const { Cell::new(0) };
}

impl Client {
    /// Step 5: where does it go, and why.
    pub(super) fn decide(&self, job: &Job<'_>, failed: &[ServerId]) -> Decision {
        self.shared.with_newest(|snapshot, settings| self.decide_by(snapshot, settings, job, failed))
    }

    fn decide_by(&self, snapshot: &Snapshot, settings: &FrontendSettings, job: &Job<'_>, failed: &[ServerId]) -> Decision {
        let shared = &self.shared;
        let newest;
        let written = match settings.routing.consistency {
            Consistency::None => None,
            Consistency::Session => self.session.written.as_ref().map(LastWrite::gtids),
            Consistency::Global => {
                newest = shared.newest_write.lock().clone();
                newest.as_ref().map(LastWrite::gtids)
            }
        };
        let pinned = self
            .held
            .as_ref()
            .map(|lease| (lease.server, self.session.pins.first().unwrap_or(crate::session::pin::PinReason::Unknown)));
        let decision = decide(&Question {
            statement: job.statement,
            sql: job.sql,
            hint: job.hint,
            user: &self.account.key.user,
            client: self.account.ip,
            schema: self.session.state.schema(),
            pinned,
            stays: self.held.is_none() && self.session.pins.any(),
            in_read_only_transaction: self.session.status.has(Status::IN_TRANS_READONLY),
            autocommit: self.session.autocommit(),
            completes_plainly: job.com == Com::Query
                && job.statement.class == Class::Transaction
                && self.session.completes_plainly(),
            read_only_account: self.account.read_only,
            schemas: self.schemas(job),
            written,
            defined: self.session.defined,
            set_global: self.session.globals.set,
            must_have: self.must_have(),
            snapshot,
            rules: &settings.rules,
            settings: &settings.routing,
            prefer: job.prefer,
            failed,
            turn: TURN.get(),
            load: &|server| self.load(server),
            has: &|server, gtid| shared.has(server, gtid),
        });
        if decision.target == Target::Replica {
            TURN.set(TURN.get().wrapping_add(1));
        }
        decision
    }

    /// The decision, where the statement went to the connection of the one before it instead.
    pub(super) fn retaken(&self, lease: &Lease, decision: Decision) -> Decision {
        let target = if self.shared.snapshot.load().master == Some(lease.server) { Target::Master } else { Target::Replica };
        Decision { target, server: Some(lease.server), wait_for_write: false, may_retry: false, ..decision }
    }

    /// Whether running the statement once more, elsewhere, is the same to the client as running it once: a read, or what acts on nothing but a connection
    /// (`SET NAMES`), which is gone with all that it did there.
    pub(super) fn is_repeatable(&self, job: &Job<'_>, decision: &Decision) -> bool {
        let is_read = job.statement.class == Class::Read && decision.may_retry;
        let acts_there = job.statement.acts_on_its_connection() && !self.session.pins.any();
        (is_read || acts_there) && !self.session.in_transaction() && self.upload.is_none()
    }

    pub(super) fn note_decision(&mut self, decision: &Decision) {
        if let Reason::Rule(number) = decision.reason
            && let Some(rule) = self.shared.settings.load().rules.0.get(number - 1)
        {
            rule.hits.fetch_add(1, Ordering::Relaxed);
        }
        // A replica has all that the session wrote.
        if decision.reason == Reason::ReadYourWrites {
            self.session.defined = false;
        }
    }

    pub(super) fn load(&self, server: ServerId) -> Load {
        Load {
            used: self.shared.pools.get(server.index()).map_or(0, |p| p.counts().used as u32),
            latency_us: self.shared.latency_us.get(server.index()).map_or(0, |l| l.load(Ordering::Relaxed) as u32),
        }
    }

    /// Waits until there is a server for the statement, or the time for that is over.
    pub(super) async fn hold(
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
            let served = snapshot.writer().is_some() || (decision.target == Target::Replica && snapshot.readers().next().is_some());
            if served && !still_paused {
                // Servers that are well and cannot be reached all the same are not tried for ever.
                return Ok(match last_error {
                    Some(error) if Instant::now() >= deadline => Err(error),
                    _ => Ok(()),
                });
            }
            if Instant::now() >= deadline {
                if paused {
                    let text =
                        format!("paused by an operator for more than {} ms; RESUME on the admin port ends it", hold.as_millis());
                    return Ok(Err(ClientError::new(Source::Proxy, errno::ER_OPTION_PREVENTS_STATEMENT, text)));
                }
                return Ok(Err(last_error.unwrap_or_else(|| no_server(&snapshot, decision, hold))));
            }
            tokio::select! {
                _ = changed.changed() => {}
                _ = resumed.changed() => {}
                () = timer::sleep_until(deadline) => {}
                () = interrupted(&self.entry) => return Ok(Err(killed_while_waiting())),
                () = self.stream.closed() => return Err(Gone),
            }
        }
    }

    /// How long a statement waits for a master.
    pub(super) fn hold_timeout(&self) -> Duration {
        self.shared.settings.load().hold_timeout
    }

    /// Step 6: a connection to this server for this session.
    pub(super) async fn connection(
        &mut self,
        job: &Job<'_>,
        server: ServerId,
        now: Instant,
    ) -> Result<Result<Lease, Failed>, Gone> {
        match self.connection_at_once(job, server, now) {
            Some(found) => Ok(found),
            None => Box::pin(self.wait_for_connection(job, server)).await,
        }
    }

    /// The same without waiting. `None`: it must be [waited for](Client::wait_for_connection).
    pub(super) fn connection_at_once(&mut self, job: &Job<'_>, server: ServerId, now: Instant) -> Option<Result<Lease, Failed>> {
        if let Some(lease) = self.held.take() {
            // What may commit is not sent to a server that has gone: nobody could tell then what has become of it.
            let fit = match may_commit(job.statement, job.statement.class == Class::Read, self.session.in_transaction()) {
                true => lease.is_quiet_for_certain(),
                false => lease.is_still_fit(|| now),
            };
            if fit {
                return Some(Ok(lease));
            }
            self.held = Some(lease);
            return Some(Err(Failed::HeldLost));
        }
        if let Some(lease) = self.retake(job, server) {
            return Some(Ok(lease));
        }
        let Some(pool) = self.shared.pools.get(server.index()) else { return Some(Err(Failed::Answered)) };
        pool.take_idle(self.wanted(job.text)).map(Ok)
    }

    /// A connection for this session, best one that has `text` prepared.
    pub(super) fn wanted<'a>(&'a self, text: Option<&'a Arc<PreparedText>>) -> Wanted<'a> {
        Wanted {
            key: &self.account.key,
            credential: &self.account.credential,
            collation: self.account.collation,
            state: self.wanted_state(),
            fresh: &self.account.fresh,
            attributes: &self.account.attributes,
            text,
        }
    }

    /// Opens a connection, or waits until one comes back, for as long as the client stays.
    pub(super) async fn wait_for_connection(&mut self, job: &Job<'_>, server: ServerId) -> Result<Result<Lease, Failed>, Gone> {
        let Some(pool) = self.shared.pools.get(server.index()) else { return Ok(Err(Failed::Answered)) };
        self.show_waiting(job);
        let name = &pool.name;
        let given_up = given_up(&self.shared, server);
        let checkout = tokio::select! {
            biased;
            checkout = pool.checkout(self.wanted(job.text)) => checkout,
            reason = given_up => {
                let text = format!("{name} went down while a connection to it was awaited: {reason}");
                return Ok(Err(Failed::Before(ClientError::new(Source::Server, errno::ER_CONNECT_TO_FOREIGN_DATA_SOURCE, text))));
            }
            () = interrupted(&self.entry) => {
                self.refuse(killed_while_waiting()).await?;
                return Ok(Err(Failed::Answered));
            }
            () = self.stream.closed() => return Err(Gone),
        };
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
                Err(Failed::Before(ClientError::new(Source::Proxy, errno::ER_TOO_MANY_USER_CONNECTIONS, text)))
            }
            Err(CheckoutError::Connect(error)) => {
                if let ConnectError::Refused(refused) = &error
                    && error.is_access_denied()
                {
                    if self.may_lack(server, refused.code) {
                        self.shared.doubt_password(&self.account.key);
                        return Ok(Err(Failed::Lacks));
                    }
                    // The password that was learned is no longer right: forget it, and tell the client what the server said.
                    self.shared.forget_password(&self.account.key);
                    self.server_error(&refused.payload).await?;
                    return Err(Gone);
                }
                // What the account may not, the server says itself: too many connections of it, an expired password.
                if let ConnectError::Refused(refused) = &error
                    && matches!(
                        Errno(refused.code),
                        errno::ER_TOO_MANY_USER_CONNECTIONS | errno::ER_USER_LIMIT_REACHED | errno::ER_MUST_CHANGE_PASSWORD_LOGIN
                    )
                {
                    self.server_error(&refused.payload).await?;
                    return Ok(Err(Failed::Answered));
                }
                if let Some(failure) = failure_of(&error) {
                    self.shared.monitor.poke(server, failure);
                }
                let text = format!("cannot open a connection to {name}: {error}; see SHOW SERVERS on the admin port");
                Err(Failed::Before(ClientError::new(Source::Server, errno::ER_CONNECT_TO_FOREIGN_DATA_SOURCE, text)))
            }
            Err(CheckoutError::Setup(CommandError::Refused(payload))) => {
                if self.may_lack(server, ErrPacket::parse(&payload).map_or(0, |e| e.errno)) {
                    return Ok(Err(Failed::Lacks));
                }
                self.server_error(&payload).await?;
                Err(Failed::Answered)
            }
            Err(CheckoutError::Setup(error)) => {
                let text = format!("a new connection to {name} failed: {error}");
                Err(Failed::Before(ClientError::new(Source::Server, errno::ER_NET_READ_ERROR, text)))
            }
        })
    }

    /// A statement that asks what the one before it left on its connection gets that connection, if nobody has used it since.
    pub(super) fn retake(&mut self, job: &Job<'_>, chosen: ServerId) -> Option<Lease> {
        let effects = &job.statement.effects;
        if !(effects.session_bound
            || effects.reads_last_insert_id
            || effects.reads_diagnostics
            || effects.reads_found_rows
            || effects.reads_row_count)
        {
            return None;
        }
        let (server, thread_id, serial) = self.last?;
        // The master may be another one by now: nothing but a read follows its session to the old one.
        // And what reads tables goes where they are to be read: by a hint, a rule, or because that one lags.
        if server != chosen && (job.statement.class != Class::Read || job.statement.may_use_table || job.hint.is_some()) {
            return None;
        }
        self.shared.pools.get(server.index())?.retake(&self.account.key, thread_id, serial)
    }

    pub(super) fn denied(&self, job: &Job<'_>, decision: &Decision) -> ClientError {
        let settings = self.shared.settings.load();
        let message = match decision.reason {
            Reason::Rule(number) => {
                let rule = settings.rules.0.get(number - 1);
                rule.and_then(|r| r.message.clone()).unwrap_or_else(|| format!("refused by rule {number}"))
            }
            Reason::ReadOnlyAccount => {
                format!(
                    "the account {} is read_only in Sluice's configuration, and this is a {} statement",
                    self.account.key.user,
                    job.statement.class.as_str()
                )
            }
            Reason::SchemaNotAllowed => return self.schema_denied(job),
            Reason::PinnedElsewhere(pin) => {
                let server = self.held.as_ref().map_or_else(|| "a server".into(), |lease| self.shared.name(lease.server));
                bound_to(&server, pin)
            }
            other => format!("refused: {other}"),
        };
        ClientError::new(Source::Client, errno::ER_OPTION_PREVENTS_STATEMENT, message)
    }

    pub(super) fn show_waiting(&self, job: &Job<'_>) {
        self.entry.take_interrupt();
        let mut view = self.entry.view.lock();
        view.state = ClientState::Waiting;
        view.since = Some(Instant::now());
        view.server = self.held.as_ref().map(|lease| lease.server);
        view.thread_id = self.held.as_ref().map_or(0, |lease| lease.thread_id);
        view.statement = Some(job.statement.clone());
    }
}

/// Waits until the monitor gives this server up, and returns why: nobody need wait for a connection to it any longer. One that
/// is silent is given up as soon as another is master, which may be before it counts as down.
pub(super) async fn given_up(shared: &Shared, server: ServerId) -> Arc<str> {
    let mut changed = shared.changed.clone();
    loop {
        changed.borrow_and_update();
        let snapshot = shared.snapshot.load();
        let silent = |state| state == State::Suspect && snapshot.master != Some(server);
        if let Some(view) = snapshot.server(server).filter(|view| view.state == State::Down || silent(view.state)) {
            return view.reason.clone();
        }
        drop(snapshot);
        if changed.changed().await.is_err() {
            // The proxy is ending; whoever waits is ended with it.
            std::future::pending::<()>().await;
        }
    }
}

/// Waits for a KILL QUERY, which wakes the client's task.
pub(super) async fn interrupted(entry: &ClientEntry) {
    std::future::poll_fn(|_| if entry.take_interrupt() { Poll::Ready(()) } else { Poll::Pending }).await;
}

pub(super) fn killed_while_waiting() -> ClientError {
    ClientError::of_server(errno::ER_QUERY_INTERRUPTED, "Query execution was interrupted")
}

/// What a failed connect says about the server; `None` when it says something about the client's account instead.
fn failure_of(error: &ConnectError) -> Option<Failure> {
    Some(crate::monitor::failure_of_connect(error)).filter(|failure| !matches!(failure, Failure::Auth(..) | Failure::Protocol(_)))
}

/// Counts a held statement for as long as it lives.
pub(super) struct Held<'a>(&'a prometheus::IntGauge);

impl<'a> Held<'a> {
    pub(super) fn new(gauge: &'a prometheus::IntGauge) -> Held<'a> {
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
        _ if snapshot.hold.is_some() && decision.target != Target::Replica => {
            format!("the master is being replaced: {}", snapshot.hold.as_deref().unwrap_or_default())
        }
        (_, Target::Replica) => "no server serves reads, and read_from_master is \"never\"".to_owned(),
        (Some(no_master), _) => format!("there is no master that takes writes: {} ({})", no_master.detail, no_master.diagnosis),
        (None, _) => match snapshot.master() {
            Some(master) => format!("the master {} is {}: {}", master.name, master.state, master.reason),
            None => "there is no master that takes writes".to_owned(),
        },
    };
    let text = format!(
        "{why}; waited {} ms (failover.hold_timeout); see SHOW SERVERS and SHOW EVENTS on the admin port",
        hold.as_millis()
    );
    ClientError::new(Source::Server, errno::ER_OPTION_PREVENTS_STATEMENT, text)
}
