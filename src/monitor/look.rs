//! One server's task: look at it once an interval, and at once when somebody met a failure there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

use super::publish::Input;
use super::queries::{self, HeartbeatRow, Parts};
use super::{Account, MonitoredServer, failure};
use crate::auth::Credential;
use crate::backend::handshake::Opening;
use crate::backend::{AdminConnection, Login, QueryError, connect_admin};
use crate::protocol::Capabilities;
use crate::topology::memory::REFUSED_RETRY;
use crate::topology::observation::Greeting;
use crate::topology::{Facts, Failure, Observation, ServerId};

/// What changes slowly is asked every that many polls.
const SLOW_EVERY: u32 = 16;
/// A part the server refused or did not answer is asked again after this long, doubled each time up to [`RETRY_PART_MAX`].
const RETRY_PART_MIN: Duration = Duration::from_secs(1);
const RETRY_PART_MAX: Duration = Duration::from_secs(60);
/// However often somebody asks for a look, no two begin closer together.
const LOOK_GAP_MIN: Duration = Duration::from_millis(20);

/// What the task needs.
pub(super) struct Look {
    pub id: ServerId,
    pub server: MonitoredServer,
    pub account: Arc<Account>,
    pub heartbeat: Option<HeartbeatRow>,
    pub interval: Duration,
    pub timeout: Duration,
    /// Before the first look, so that not all servers are asked at the same moment.
    pub delay: Duration,
    pub poked: Arc<Notify>,
    pub input: mpsc::Sender<Input>,
}

/// A part of the poll that can be left out.
struct Part {
    wait: Duration,
    not_before: Option<Instant>,
    /// An event has said that it is missing.
    told: bool,
}

impl Part {
    fn new() -> Part {
        Part { wait: RETRY_PART_MIN, not_before: None, told: false }
    }

    fn due(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| now >= at)
    }

    fn failed(&mut self, now: Instant) {
        self.not_before = Some(now + self.wait);
        self.wait = (self.wait * 2).min(RETRY_PART_MAX);
    }
}

struct Looker {
    task: Look,
    connection: Option<AdminConnection>,
    greeting: Greeting,
    facts: Option<Facts>,
    replication: Part,
    heartbeat: Part,
    polls: u32,
    /// The last connection's number at the server: they rise until it starts anew.
    number: u32,
    restarts: u32,
}

impl Look {
    /// Runs until the receiving side is gone.
    pub(super) async fn run(self) {
        sleep(self.delay).await;
        let mut looker = Looker {
            task: self,
            connection: None,
            greeting: Greeting::default(),
            facts: None,
            replication: Part::new(),
            heartbeat: Part::new(),
            polls: 0,
            number: 0,
            restarts: 0,
        };
        loop {
            let asked_at = Instant::now();
            let outcome = looker.look().await;
            let pause = match &outcome {
                Err(Failure::Auth(..)) => REFUSED_RETRY,
                _ => looker.task.interval,
            };
            let seen = Observation::from_monitor(looker.task.id, asked_at, Instant::now(), outcome);
            if looker.task.input.send(Input::Seen(seen)).await.is_err() {
                return;
            }
            // The next look is due one interval after this one began, or when poked.
            let _ = timeout(pause.saturating_sub(asked_at.elapsed()), looker.task.poked.notified()).await;
            sleep(LOOK_GAP_MIN.saturating_sub(asked_at.elapsed())).await;
        }
    }
}

impl Looker {
    /// One answer, or the failure that speaks for the server: a connection that broke is made again once before it counts.
    async fn look(&mut self) -> Result<Facts, Failure> {
        let mut second = false;
        loop {
            let fresh = self.connection.is_none();
            if fresh {
                self.connect().await?;
            }
            match self.ask().await {
                Ok(mut facts) => {
                    facts.restarts = self.restarts;
                    self.facts = Some(facts.clone());
                    return Ok(facts);
                }
                Err(error) => {
                    if error.code().is_none() {
                        self.connection = None;
                    }
                    let failure = failure::of_query(&error);
                    let again = match &failure {
                        Failure::Io(_) => !fresh,
                        // Perhaps only SHOW REPLICA STATUS hangs, behind a STOP REPLICA that waits, or the heartbeat's table is locked: ask without both.
                        Failure::QueryTimeout => self.leave_out(Instant::now()),
                        _ => false,
                    };
                    if !again || second {
                        return Err(failure);
                    }
                    second = true;
                }
            }
        }
    }

    /// Whatever may hang while the server does not. `false`: nothing was asked that could.
    fn leave_out(&mut self, now: Instant) -> bool {
        let heartbeat = self.task.heartbeat.is_some().then_some(&mut self.heartbeat);
        let due: Vec<&mut Part> =
            [Some(&mut self.replication), heartbeat].into_iter().flatten().filter(|part| part.due(now)).collect();
        let any = !due.is_empty();
        due.into_iter().for_each(|part| part.failed(now));
        any
    }

    /// Half of the time silence may last: so a second try fits in.
    fn limit(&self) -> Duration {
        self.task.timeout / 2
    }

    async fn connect(&mut self) -> Result<(), Failure> {
        let MonitoredServer { address, tls } = &self.task.server;
        let Account { user, password } = &*self.task.account;
        let connection =
            connect_admin(address, tls, user, password, self.limit()).await.map_err(|error| failure::of_connect(&error))?;
        if self.greeting.version != connection.version() {
            self.greeting = self.read_greeting(connection.version()).await;
            // Another version may be another server: nothing of the old one is kept.
            self.facts = None;
        }
        if connection.connection_id() < self.number {
            self.restarts = self.restarts.wrapping_add(1);
        }
        self.number = connection.connection_id();
        self.polls = 0;
        self.connection = Some(connection);
        Ok(())
    }

    /// The greeting as clients get it, read on a connection of its own that ends there; once for every version a server shows. Best effort: without
    /// it the version alone is known.
    async fn read_greeting(&self, version: &str) -> Greeting {
        let MonitoredServer { address, tls } = &self.task.server;
        let login = Login {
            user: self.task.account.user.clone(),
            credential: Credential::from_password(self.task.account.password.clone()),
            schema: None,
            collation: 45,
            capabilities: Capabilities::PROTOCOL_41,
            compression: None,
            attributes: Vec::new(),
            client: None,
        };
        let plain = || Greeting { version: version.to_owned(), ..Greeting::default() };
        match timeout(self.limit(), Opening::greet(address, tls, &login)).await {
            Ok(Ok(opening)) => {
                let greeting = opening.greeting();
                Greeting {
                    version: greeting.version.clone(),
                    collation: u16::from(greeting.collation),
                    capabilities: greeting.capabilities.0,
                    auth_plugin: greeting.plugin.clone(),
                }
            }
            _ => plain(),
        }
    }

    /// Asks, leaving out what the server refuses to tell.
    async fn ask(&mut self) -> Result<Facts, QueryError> {
        let limit = self.limit();
        loop {
            let now = Instant::now();
            let row = self.task.heartbeat.as_ref();
            let parts = Parts {
                slow: self.polls.is_multiple_of(SLOW_EVERY),
                replication: self.replication.due(now),
                heartbeat: row.is_some() && self.heartbeat.due(now),
            };
            let Some(connection) = &mut self.connection else {
                return Err(QueryError::Io(std::io::ErrorKind::NotConnected.into()));
            };
            connection.set_timeout(limit);
            let flavor = connection.flavor();
            match connection.query(&queries::poll(flavor, parts, row)).await {
                Ok(results) => {
                    self.polls = self.polls.wrapping_add(1);
                    if parts.replication {
                        self.replication = Part::new(); // and a later refusal is news again
                    }
                    if parts.heartbeat {
                        self.heartbeat = Part::new();
                    }
                    return queries::facts(flavor, parts, &results, &self.greeting, self.facts.as_ref())
                        .map_err(|why| QueryError::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, why)));
                }
                Err(error) => match error.code() {
                    // ER_SPECIFIC_ACCESS_DENIED_ERROR: no REPLICATION CLIENT, no REPLICA MONITOR.
                    Some(1227) if parts.replication => {
                        self.replication.failed(now);
                        if !std::mem::replace(&mut self.replication.told, true) {
                            let detail = format!("its replication cannot be seen: {error}");
                            let server = Some(self.task.id);
                            let _ = self.task.input.try_send(Input::Note { kind: "grant_missing", server, detail });
                        }
                    }
                    // No such schema or table, or no right to read it. On a replica it comes with replication.
                    Some(1044 | 1049 | 1142 | 1143 | 1146) if parts.heartbeat => self.heartbeat.failed(now),
                    // A table of another making, a broken one: that says nothing of the server.
                    Some(_) if parts.heartbeat => {
                        self.heartbeat.failed(now);
                        if !std::mem::replace(&mut self.heartbeat.told, true) {
                            let detail = format!("the heartbeat cannot be read: {error}; lag is what the servers say");
                            let server = Some(self.task.id);
                            let _ = self.task.input.try_send(Input::Note { kind: "heartbeat_off", server, detail });
                        }
                    }
                    _ => return Err(error),
                },
            }
        }
    }
}
