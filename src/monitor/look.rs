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
use crate::topology::observation::{Greeting, Sight};
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
    /// How it failed last.
    sight: Sight,
    /// An event has said that it is missing.
    told: bool,
}

impl Part {
    fn new() -> Part {
        Part { wait: RETRY_PART_MIN, not_before: None, sight: Sight::Clear, told: false }
    }

    fn due(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| now >= at)
    }

    /// It has failed, and has not been answered since.
    fn is_on_trial(&self) -> bool {
        self.sight != Sight::Clear
    }

    fn failed(&mut self, sight: Sight, now: Instant) {
        self.sight = sight;
        self.not_before = Some(now + self.wait);
        self.wait = (self.wait * 2).min(RETRY_PART_MAX);
    }
}

/// What is to be asked. Where both are in doubt, one at a time: the one that hangs would hide the other.
fn due(replication: &Part, heartbeat: Option<&Part>, now: Instant) -> Parts {
    let beats = heartbeat.is_some_and(|heartbeat| heartbeat.due(now));
    let both = beats && heartbeat.is_some_and(Part::is_on_trial) && replication.is_on_trial();
    Parts { slow: false, replication: replication.due(now) && !both, heartbeat: beats }
}

/// No answer came: whatever may hang while the server does not is left out. That is what has hung before, else all that was asked. `false`: nothing
/// was asked that could.
fn leave_out(asked: Parts, replication: &mut Part, heartbeat: &mut Part, now: Instant) -> bool {
    let mut parts = [(asked.replication, replication), (asked.heartbeat, heartbeat)];
    let known = parts.iter().any(|(asked, part)| *asked && part.is_on_trial());
    for (asked, part) in &mut parts {
        match (*asked, part.is_on_trial()) {
            (true, on_trial) if on_trial == known => part.failed(Sight::Hangs, now),
            // One look has time for one that hangs.
            (false, true) => part.not_before = part.not_before.max(Some(now + RETRY_PART_MIN)),
            _ => {}
        }
    }
    asked.replication || asked.heartbeat
}

struct Looker {
    task: Look,
    connection: Option<AdminConnection>,
    greeting: Greeting,
    facts: Option<Facts>,
    replication: Part,
    heartbeat: Part,
    /// What the last poll had in it.
    asked: Parts,
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
            asked: Parts::default(),
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
                        Failure::QueryTimeout => leave_out(self.asked, &mut self.replication, &mut self.heartbeat, Instant::now()),
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
            let slow = self.polls.is_multiple_of(SLOW_EVERY);
            let parts = Parts { slow, ..due(&self.replication, row.map(|_| &self.heartbeat), now) };
            self.asked = parts;
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
                    let mut facts = queries::facts(flavor, parts, &results, &self.greeting, self.facts.as_ref())
                        .map_err(|why| QueryError::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, why)))?;
                    facts.sight = self.replication.sight;
                    return Ok(facts);
                }
                Err(error) => match error.code() {
                    // ER_SPECIFIC_ACCESS_DENIED_ERROR: no REPLICATION CLIENT, no REPLICA MONITOR.
                    Some(1227) if parts.replication => {
                        self.replication.failed(Sight::Denied, now);
                        if !std::mem::replace(&mut self.replication.told, true) {
                            let detail = format!("its replication cannot be seen: {error}");
                            let server = Some(self.task.id);
                            let _ = self.task.input.try_send(Input::Note { kind: "grant_missing", server, detail });
                        }
                    }
                    // No such schema or table, or no right to read it. On a replica it comes with replication.
                    Some(1044 | 1049 | 1142 | 1143 | 1146) if parts.heartbeat => self.heartbeat.failed(Sight::Denied, now),
                    // A table of another making, a broken one: that says nothing of the server.
                    Some(_) if parts.heartbeat => {
                        self.heartbeat.failed(Sight::Denied, now);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Bug: while SHOW REPLICA STATUS hung, the heartbeat that was asked with it was never read, and nothing told how late the server was.
    #[test]
    fn what_hangs_is_found_and_the_rest_is_asked_on() {
        // Who hangs from the beginning on; what the last poll of each look of ten seconds' had in it: how often replication, how often the heartbeat.
        for (replication_hangs, heartbeat_hangs, replication_seen, beats_seen) in
            [(false, false, 40, 40), (true, false, 0, 36), (false, true, 32, 0), (true, true, 0, 0)]
        {
            let (mut replication, mut heartbeat) = (Part::new(), Part::new());
            let (begin, mut seen, mut beats) = (Instant::now(), 0, 0);
            for look in 0..40 {
                let now = begin + Duration::from_millis(250) * look;
                let silent = (0..2).all(|_| {
                    let asked = due(&replication, Some(&heartbeat), now);
                    if (asked.replication && replication_hangs) || (asked.heartbeat && heartbeat_hangs) {
                        assert!(leave_out(asked, &mut replication, &mut heartbeat, now));
                        return true;
                    }
                    if asked.replication {
                        (replication, seen) = (Part::new(), seen + 1);
                    }
                    if asked.heartbeat {
                        (heartbeat, beats) = (Part::new(), beats + 1);
                    }
                    false
                });
                assert!(!silent, "look {look}: it counts as silent");
            }
            let what = format!("{replication_hangs} {heartbeat_hangs}: {seen} {beats}");
            assert!(seen >= replication_seen && (seen == 0) == (replication_seen == 0), "{what}");
            assert!(beats >= beats_seen && (beats == 0) == (beats_seen == 0), "{what}");
        }
        assert!(!leave_out(Parts::default(), &mut Part::new(), &mut Part::new(), Instant::now()));
    }
}
