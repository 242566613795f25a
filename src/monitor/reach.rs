//! One server as failover reaches it: a connection of its own, apart from the one that is looked through and the one that beats.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::publish::Input;
use super::queries::{self, Parts};
use super::{Account, MonitoredServer, failure};
use crate::backend::{AdminConnection, QueryError, TextResult, connect_admin};
use crate::topology::observation::ReplicaChannel;
use crate::topology::{Facts, Failure, Flavor, Observation, ServerId};

/// What the account must be allowed and is not, or what else the server said no with.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The server's error.
    Said(String),
    /// It could not be asked.
    Failed(Failure),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Said(text) => f.write_str(text),
            Refusal::Failed(failure) => failure.fmt(f),
        }
    }
}

/// See the module.
pub(super) struct Reach {
    pub id: ServerId,
    /// It has left the configuration: it is not asked any more.
    pub retired: bool,
    pub server: MonitoredServer,
    pub account: std::sync::Arc<Account>,
    /// Kept between two commands: while a server hangs, what was sent on it still arrives when it wakes.
    pub idle: Mutex<Option<AdminConnection>>,
    /// What a server says is news for the diagnosis, too.
    pub input: mpsc::Sender<Input>,
    /// What was to make it read-only was not answered in time: there it still waits for whoever writes, and all writes wait behind it.
    pub fence_hangs: AtomicBool,
}

impl Reach {
    /// Runs statements one after the other, within `limit` together.
    pub(super) async fn run(&self, statements: &[String], limit: Duration) -> Result<Vec<TextResult>, Refusal> {
        let until = Instant::now() + limit;
        let left = || until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let mut kept = self.idle.lock().take();
        loop {
            let reused = kept.is_some();
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => self.connect(left()).await?,
            };
            let mut results = Vec::new();
            let mut lost = None;
            for statement in statements {
                connection.set_timeout(left());
                match connection.query(statement).await {
                    Ok(more) => results.extend(more),
                    Err(error) if error.code().is_some() => {
                        *self.idle.lock() = Some(connection);
                        return Err(Refusal::Said(format!("{error} ({statement})")));
                    }
                    Err(error) => {
                        lost = Some(error);
                        break;
                    }
                }
            }
            match lost {
                None => {
                    *self.idle.lock() = Some(connection);
                    return Ok(results);
                }
                // The server had closed it, or was another one since: that says nothing of the server.
                Some(QueryError::Io(_)) if reused && results.is_empty() => {}
                Some(error) => return Err(Refusal::Failed(failure::of_query(&error))),
            }
        }
    }

    pub(super) async fn connect(&self, limit: Duration) -> Result<AdminConnection, Refusal> {
        let MonitoredServer { address, tls } = &self.server;
        let connecting = connect_admin(address, tls, &self.account.user, &self.account.password, limit);
        match timeout(limit, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(Refusal::Failed(failure::of_connect(&error))),
            Err(_) => Err(Refusal::Failed(Failure::ConnectTimeout)),
        }
    }

    /// The flavour, by asking when it is not known yet.
    pub(super) async fn flavor(&self, known: Option<Flavor>, limit: Duration) -> Result<Flavor, Refusal> {
        if let Some(flavor) = known {
            return Ok(flavor);
        }
        let connection = self.connect(limit).await?;
        let flavor = connection.flavor();
        *self.idle.lock() = Some(connection);
        Ok(flavor)
    }

    /// Whether a channel finds its place by GTID already, and can be told another source while it applies (MySQL).
    pub(super) async fn finds_its_place(&self, facts: &Facts, channel: &ReplicaChannel, limit: Duration) -> bool {
        if facts.flavor != Flavor::MySql {
            return false;
        }
        let Ok(results) = self.run(&["SHOW REPLICA STATUS".to_owned()], limit).await else { return false };
        let Some(table) = results.first() else { return false };
        let of = |row: &usize| table.get(*row, "Channel_Name") == Some(channel.name.as_str());
        (0..table.rows.len()).find(of).is_some_and(|row| table.get(row, "Auto_Position") == Some("1"))
    }

    /// How it stands now. What is not asked is taken from `before`. Diagnosis is told before this returns, with the time of the question: an answer
    /// that counted as newer than it is would be compared with what servers said later, and they would seem to have what the master never saw.
    pub(super) async fn ask(&self, before: Option<&Facts>, limit: Duration) -> Result<Facts, Failure> {
        let until = Instant::now() + limit;
        let as_failure = |refusal| match refusal {
            Refusal::Failed(failure) => failure,
            Refusal::Said(text) => Failure::Protocol(text),
        };
        let flavor = self.flavor(before.map(|facts| facts.flavor), limit).await.map_err(as_failure)?;
        let parts = Parts { slow: false, replication: true, heartbeat: false };
        let asked_at = Instant::now();
        let left = until.saturating_duration_since(asked_at);
        let results = self.run(&[queries::poll(flavor, parts, None)], left).await.map_err(as_failure)?;
        let greeting = before.map(|facts| facts.greeting.clone()).unwrap_or_default();
        let mut facts = queries::facts(flavor, parts, &results, &greeting, before).map_err(Failure::Protocol)?;
        facts.heartbeat = before.and_then(|facts| facts.heartbeat);
        // Before its first look a server is not known by half: what it greets with, its ids.
        if before.is_some() {
            let seen = Observation::from_monitor(self.id, asked_at, Instant::now(), Ok(facts.clone()));
            let _ = self.input.send(Input::Seen(seen)).await;
        }
        Ok(facts)
    }
}
