//! Step 10 of the way of one query: the counters, by the words of the rooms that decided.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::frontend::client::Client;
use crate::frontend::errors::Source;
use crate::frontend::query::{Job, Payload};
use crate::frontend::told::Told;
use crate::metrics;
use crate::metrics::spans::StatementSpan;
use crate::metrics::statements::{StatementRef, StatementStats};
use crate::protocol::Capabilities;
use crate::protocol::command::Com;
use crate::protocol::frame::HEADER_LEN;
use crate::protocol::prepared::{self, ExecuteHeader};
use crate::protocol::query;
use crate::routing::decision::Target;
use crate::sql::classify::{Class, Classified};
use crate::sql::traceparent::{self, TraceParent};
use crate::topology::ServerId;

fn class(class: Class) -> metrics::Class {
    match class {
        Class::Read => metrics::Class::Read,
        Class::LockingRead => metrics::Class::LockingRead,
        Class::Write => metrics::Class::Write,
        Class::Ddl => metrics::Class::Ddl,
        Class::Transaction => metrics::Class::Transaction,
        Class::Session => metrics::Class::Session,
        Class::Administrative => metrics::Class::Administrative,
        Class::Unknown => metrics::Class::Unknown,
    }
}

fn target(target: Target) -> metrics::Target {
    match target {
        Target::Master => metrics::Target::Master,
        Target::Replica => metrics::Target::Replica,
        Target::Server => metrics::Target::Server,
        Target::Proxy => metrics::Target::Proxy,
        Target::Deny => metrics::Target::Deny,
    }
}

/// The least `proxy.slow_statement` can be.
const SLOW_MIN: Duration = Duration::from_millis(1);

impl Client {
    /// A client that stood still for too long is closed, so that it keeps no server's connection from others.
    pub(super) fn note_stalled(&self, error: &std::io::Error) {
        if error.kind() == std::io::ErrorKind::TimedOut {
            self.shared.metrics.errors(Source::Client).inc();
            tracing::warn!(
                client = self.entry.id,
                user = %self.account.key.user,
                "closed: it read nothing of a reply, or said nothing in the middle of a command or of the file that LOAD DATA LOCAL reads, for longer than net_write_timeout or net_read_timeout"
            );
        }
    }

    /// Counts one statement that took `elapsed` in all. `ran`: the server it ran on and when it was sent there. `told`: what
    /// came back, and when.
    pub(super) fn count(
        &self,
        job: &Job<'_>,
        ran: Option<(ServerId, Instant)>,
        to: Target,
        elapsed: Duration,
        told: Option<(&Told, Instant)>,
    ) {
        if matches!(job.com, Com::StmtPrepare) {
            return;
        }
        let shared = &self.shared;
        let (class, to) = (class(job.statement.class), target(to));
        match (ran, told) {
            (Some((server, sent)), Some((_, ended))) => {
                let at_server = ended.duration_since(sent);
                shared.metrics.of_server(server, |m| m.statement(class, to, elapsed));
                shared.note_latency(server, at_server);
                shared.metrics.overhead.observe(elapsed.saturating_sub(at_server));
            }
            _ => shared.metrics.no_server().statement(class, to, elapsed),
        }
        let error = told.is_some_and(|(t, _)| t.errno.is_some());
        if error {
            shared.metrics.errors(metrics::ErrorSource::Server).inc();
            if let Some((server, _)) = ran {
                shared.note_server_error(server);
            }
        }
        let ended = told.map_or_else(Instant::now, |(_, ended)| ended);
        // Periods are whole milliseconds: most statements are told by that alone.
        if elapsed >= SLOW_MIN && shared.settings.load().slow_statement.is_some_and(|limit| elapsed >= limit) {
            self.tell_slow(job, ran, elapsed, told);
        }
        let rows = told.map_or(0, |(t, _)| t.rows);
        if shared.spans.on() {
            let errno = told.and_then(|(t, _)| t.errno);
            self.trace(job, ran, to, ended.checked_sub(elapsed).unwrap_or(ended), ended, (rows, errno));
        }
        let named = ran.map(|(server, _)| server).filter(|_| to == metrics::Target::Server);
        RECENT.with_borrow_mut(|recent| {
            let key = Known {
                statement: job.statement,
                user: &self.account.key.user,
                schema: self.session.state.schema(),
                target: to,
                server: named,
            };
            let look_up = || {
                let stats = self.statement_stats(job, class, to, named);
                if job.statement.cacheable.is_ok() {
                    stats.set_cacheable();
                }
                stats
            };
            let stats = recent.find(key, ended, look_up);
            stats.record(ended, elapsed, rows, error);
        });
    }

    /// Counts a statement that was answered from the cache.
    pub(super) fn count_cached(&self, job: &Job<'_>, ended: Instant, elapsed: Duration, rows: u64) {
        let (class, target) = (metrics::Class::Read, metrics::Target::Cache);
        self.shared.metrics.no_server().statement(class, target, elapsed);
        if self.shared.spans.on() {
            self.trace(job, None, target, ended.checked_sub(elapsed).unwrap_or(ended), ended, (rows, None));
        }
        RECENT.with_borrow_mut(|recent| {
            let (user, schema) = (&self.account.key.user, self.session.state.schema());
            let key = Known { statement: job.statement, user, schema, target, server: None };
            let look_up = || {
                let stats = self.statement_stats(job, class, target, None);
                stats.set_cached(true);
                stats
            };
            recent.find(key, ended, look_up).record(ended, elapsed, rows, false);
        });
    }

    /// Puts the statement's spans into the queue, if its trace is recorded.
    #[cold]
    fn trace(
        &self,
        job: &Job<'_>,
        ran: Option<(ServerId, Instant)>,
        target: metrics::Target,
        began: Instant,
        ended: Instant,
        (rows, errno): (u64, Option<u16>),
    ) {
        let spans = &self.shared.spans;
        let by_attribute = || match job.payload {
            Payload::Packet(packet) if job.com == Com::Query => {
                let query = query::Query::parse(packet.get(HEADER_LEN..)?, self.capabilities)?;
                TraceParent::parse(query.attribute(traceparent::NAME)?)
            }
            Payload::Execute(payload) if self.capabilities.has(Capabilities::QUERY_ATTRIBUTES) => {
                let header = ExecuteHeader::parse(payload, job.params, self.capabilities).ok()?;
                let types = job.types.unwrap_or_default();
                TraceParent::parse(prepared::attribute(payload, &header, job.params, types, traceparent::NAME)?)
            }
            _ => None,
        };
        let told = TraceParent::in_comment(job.sql).or_else(by_attribute);
        let Some((trace, parent, number)) = spans.begin(told) else { return };
        spans.put(StatementSpan {
            trace,
            parent,
            number,
            statement: job.statement.clone(),
            target: target.as_str(),
            server: ran.map_or_else(|| "".into(), |(server, _)| self.shared.name(server)),
            user: self.account.key.user.clone(),
            schema: String::from_utf8_lossy(self.session.state.schema().unwrap_or_default()).into_owned(),
            rows,
            errno,
            began,
            sent: ran.map(|(_, sent)| sent),
            ended,
        });
    }

    /// Without the literals: they may be anybody's secrets.
    #[cold]
    fn tell_slow(&self, job: &Job<'_>, ran: Option<(ServerId, Instant)>, elapsed: Duration, told: Option<(&Told, Instant)>) {
        let at_server = ran.zip(told).map_or(Duration::ZERO, |((_, sent), (_, ended))| ended.duration_since(sent));
        let ms = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        tracing::warn!(
            target: "sluice::slow",
            client = self.entry.id,
            user = %self.account.key.user,
            host = self.entry.host(),
            schema = %String::from_utf8_lossy(self.session.state.schema().unwrap_or_default()),
            server = %ran.map_or_else(|| "".into(), |(server, _)| self.shared.name(server)),
            class = job.statement.class.as_str(),
            rows = told.map_or(0, |(told, _)| told.rows),
            errno = told.and_then(|(told, _)| told.errno).unwrap_or(0),
            total_ms = ms(elapsed),
            server_ms = ms(at_server),
            proxy_ms = ms(elapsed.saturating_sub(at_server)),
            digest = %format_args!("{:016x}", job.statement.digest_hash),
            "{}",
            job.statement.digest_text
        );
    }

    fn statement_stats(
        &self,
        job: &Job<'_>,
        class: metrics::Class,
        target: metrics::Target,
        named: Option<ServerId>,
    ) -> Arc<StatementStats> {
        let shared = &self.shared;
        shared.statement_stats.stats(StatementRef {
            digest: job.statement.digest_hash,
            text: &job.statement.digest_text,
            schema: std::str::from_utf8(self.session.state.schema().unwrap_or(b"")).unwrap_or("?"),
            user: &self.account.key.user,
            class,
            target,
            server: named.and_then(|server| shared.pools.get(server.index())).map_or("", |pool| &*pool.name),
        })
    }
}

/// Statistics that a thread has found lately, so that a statement that is run often is not looked up, and locks nothing.
struct Recent(Vec<Option<Found>>);

/// What was looked up.
struct Known<'k> {
    statement: &'k Arc<Classified>,
    user: &'k Arc<str>,
    schema: Option<&'k [u8]>,
    target: metrics::Target,
    server: Option<ServerId>,
}

/// What was found, with the key by value.
struct Found {
    statement: Arc<Classified>,
    user: Arc<str>,
    schema: Option<Box<[u8]>>,
    target: metrics::Target,
    server: Option<ServerId>,
    stats: Arc<StatementStats>,
    until: Instant,
}

/// Places of [`Recent`]; some 25 KiB for each thread, and what they keep alive.
const RECENT_LEN: usize = 256;
/// After this long it is looked up again: the table of all statements sees that it is in use, and when it has given way there
/// it counts anew.
const RECENT_FOR: Duration = Duration::from_secs(1);

thread_local! {
    static RECENT: RefCell<Recent> = RefCell::new(Recent((0..RECENT_LEN).map(|_| None).collect()));
}

impl Known<'_> {
    /// A statement and a user are what they are by their place in memory, which an entry keeps from being used again.
    fn is(&self, found: &Found) -> bool {
        Arc::ptr_eq(&found.statement, self.statement)
            && Arc::ptr_eq(&found.user, self.user)
            && found.schema.as_deref() == self.schema
            && (found.target, found.server) == (self.target, self.server)
    }

    fn place(&self) -> usize {
        (Arc::as_ptr(self.statement).addr() >> 5)
            ^ (Arc::as_ptr(self.user).cast::<u8>().addr() >> 4)
            ^ ((self.target as usize) << 3)
    }
}

impl Recent {
    fn find(&mut self, key: Known<'_>, now: Instant, look_up: impl FnOnce() -> Arc<StatementStats>) -> &StatementStats {
        let place = &mut self.0[key.place() % RECENT_LEN];
        if !place.as_ref().is_some_and(|found| key.is(found) && now < found.until) {
            *place = None;
        }
        let found = place.get_or_insert_with(|| Found {
            statement: key.statement.clone(),
            user: key.user.clone(),
            schema: key.schema.map(Into::into),
            target: key.target,
            server: key.server,
            stats: look_up(),
            until: now + RECENT_FOR,
        });
        &found.stats
    }
}
