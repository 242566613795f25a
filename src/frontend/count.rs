//! Step 10 of the way of one query: the counters, by the words of the rooms that decided.

use std::time::{Duration, Instant};

use crate::frontend::client::Client;
use crate::frontend::query::Job;
use crate::frontend::relay::Told;
use crate::metrics;
use crate::metrics::statements::StatementRef;
use crate::protocol::command::Com;
use crate::routing::decision::Target;
use crate::sql::classify::Class;
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

impl Client {
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
                shared.note_latency(server, at_server.as_micros() as u64);
                shared.metrics.overhead.observe(elapsed.saturating_sub(at_server).as_secs_f64());
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
        let name = match (to, ran) {
            (metrics::Target::Server, Some((server, _))) => shared.pools.get(server.index()).map_or("", |p| &*p.name),
            _ => "",
        };
        let schema = std::str::from_utf8(self.session.state.schema().unwrap_or(b"")).unwrap_or("?");
        let key = StatementRef {
            digest: job.statement.digest_hash,
            text: &job.statement.digest_text,
            schema,
            user: &self.account.key.user,
            class,
            target: to,
            server: name,
        };
        let ended = told.map_or_else(Instant::now, |(_, ended)| ended);
        shared.statement_stats.record(key, ended, elapsed, told.map_or(0, |(t, _)| t.rows), error);
    }
}
