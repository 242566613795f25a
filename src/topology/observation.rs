//! What was seen of a server at one moment: an answer or a failure. The only input of diagnosis; the monitor and the data path make these.

use std::fmt;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::gtid::{MariaDbGtid, MariaDbPosition, MariaDbState, MySqlSet};
use super::lag::Beat;
use super::{Flavor, GtidSet, ServerId};

/// The time, as an argument: `mono` for durations, `wall` for what people read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// Monotonic; every comparison uses this one.
    pub mono: Instant,
    /// For `since` columns and events.
    pub wall: SystemTime,
}

/// Who saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Witness {
    /// The monitor's own connection. It has already tried once more when an established connection broke, so its `Io` means the server.
    Monitor,
    /// A statement of a client. Only a refused connection is proof; a connection may break for reasons of its own (`KILL`, a timeout).
    Traffic,
}

/// One look at one server.
#[derive(Clone, PartialEq, Debug)]
pub struct Observation {
    /// Which server.
    pub server: ServerId,
    /// When the question was sent. Facts are never newer than this.
    pub asked_at: Instant,
    /// When the answer came, or the failure was noticed: the server lived, or did not, at this time.
    pub at: Instant,
    /// Who looked.
    pub witness: Witness,
    /// What was seen.
    pub outcome: Result<Facts, Failure>,
}

impl Observation {
    /// The monitor's answer or failure.
    pub fn from_monitor(server: ServerId, asked_at: Instant, at: Instant, outcome: Result<Facts, Failure>) -> Observation {
        Observation { server, asked_at, at, witness: Witness::Monitor, outcome }
    }

    /// A failure a statement met; takes effect at once if it proves anything, and otherwise is a reason to look (see [`Witness::Traffic`]).
    pub fn from_traffic(server: ServerId, at: Instant, failure: Failure) -> Observation {
        Observation { server, asked_at: at, at, witness: Witness::Traffic, outcome: Err(failure) }
    }
}

/// What a server says of itself.
#[derive(Clone, PartialEq, Debug)]
pub struct Facts {
    /// MySQL or MariaDB.
    pub flavor: Flavor,
    /// What it greets clients with.
    pub greeting: Greeting,
    /// `@@server_uuid` (MySQL); empty on MariaDB.
    pub server_uuid: String,
    /// `@@server_id`.
    pub server_id: u32,
    /// `@@read_only`.
    pub read_only: bool,
    /// `@@super_read_only` (MySQL); false on MariaDB. It reads as on from the moment somebody sets it, and holds only with `read_only`, when the commits that were
    /// under way have ended.
    pub super_read_only: bool,
    /// Everything whose effect a read on this server sees. MySQL: `gtid_executed`. MariaDB: `gtid_current_pos`, which takes from the binlog only what
    /// the server wrote itself: a replicated transaction is in the binlog before it can be read. `None` without GTIDs.
    pub gtid_executed: Option<Arc<GtidSet>>,
    /// MySQL: `gtid_purged`.
    pub gtid_purged: Option<Arc<GtidSet>>,
    /// MariaDB: `gtid_binlog_pos`, what it could send to others; for failover only.
    pub gtid_binlog: Option<Arc<GtidSet>>,
    /// Whether what it replicates is in its binary log (`log_replica_updates`, `log_slave_updates`): without that it sends nothing on, and whoever follows it
    /// once it is master must have all that it has not written itself.
    pub sends_on: bool,
    /// MariaDB: `gtid_binlog_state`, which tells forked histories apart.
    pub gtid_state: Option<Arc<MariaDbState>>,
    /// Whether it says how it replicates; when not, [`Facts::replication`] is empty and means nothing.
    pub sight: Sight,
    /// Its replication channels (MariaDB: connections).
    pub replication: Vec<ReplicaChannel>,
    /// How often it was seen to have started anew, between two looks too.
    pub restarts: u32,
    /// The heartbeat row: `None` when it could not be read, [`Beat::NONE`] when there is no row of ours.
    pub heartbeat: Option<Beat>,
    /// Semi-synchronous replication is on as a source, and how many replicas acknowledge.
    pub semi_sync_clients: Option<u32>,
    /// `Threads_connected`.
    pub threads_connected: u32,
    /// `@@max_connections`.
    pub max_connections: u32,
}

impl Facts {
    /// One that tells nothing, for tests to fill in.
    #[cfg(test)]
    pub fn bare(flavor: Flavor) -> Facts {
        Facts {
            flavor,
            greeting: Greeting::default(),
            server_uuid: String::new(),
            server_id: 1,
            read_only: false,
            super_read_only: false,
            gtid_executed: None,
            gtid_purged: None,
            gtid_binlog: None,
            sends_on: true,
            gtid_state: None,
            sight: Sight::Clear,
            replication: Vec::new(),
            restarts: 0,
            heartbeat: None,
            semi_sync_clients: None,
            threads_connected: 1,
            max_connections: 100,
        }
    }

    /// True when it takes writes from an ordinary account, or still has some in the middle of their commits.
    pub fn writable(&self) -> bool {
        !self.read_only
    }

    /// What it has applied: what reads see, and on MariaDB also what stands in its binary log.
    pub fn applied(&self) -> GtidSet {
        let mut applied = self.gtid_executed.as_deref().cloned().unwrap_or_else(|| GtidSet::empty(self.flavor));
        if let Some(binlog) = &self.gtid_binlog {
            applied.merge(binlog);
        }
        applied
    }

    /// What it could send to others: what stands in its binary log. Without `log_slave_updates` that lacks what it has only replicated. MySQL counts that
    /// among `gtid_purged`, as it does what has left the log.
    pub fn sendable(&self) -> GtidSet {
        match (self.flavor, &self.gtid_binlog, self.applied(), self.gtid_purged.as_deref()) {
            (Flavor::MariaDb, Some(binlog), ..) => GtidSet::clone(binlog),
            (_, _, GtidSet::MySql(has), Some(GtidSet::MySql(purged))) => GtidSet::MySql(has.subtract(purged)),
            (_, _, applied, _) => applied,
        }
    }

    /// What it has applied or has in a relay log.
    pub fn received(&self) -> GtidSet {
        let mut received = self.applied();
        for retrieved in self.replication.iter().filter_map(|channel| channel.retrieved.as_deref()) {
            received.merge(retrieved);
        }
        received
    }

    /// A set of this server without what it wrote itself, and on MySQL without what is `errant`: what there is of others' transactions in it.
    pub fn of_others(&self, set: GtidSet, errant: &str) -> GtidSet {
        match set {
            GtidSet::MySql(set) => GtidSet::MySql(MySqlSet::parse(errant).map_or(set.clone(), |errant| set.subtract(&errant))),
            GtidSet::MariaDb(position) => {
                // A position that a transaction of its own stands for: the newest of somebody else's in that domain, as far as its log or its receiver tells.
                let mut others = MariaDbPosition::default();
                let writers = self.gtid_state.iter().flat_map(|state| state.writers()).copied();
                let retrieved = self.replication.iter().filter_map(|channel| match channel.retrieved.as_deref() {
                    Some(GtidSet::MariaDb(position)) => Some(position.domains().iter().copied()),
                    _ => None,
                });
                let all = position.domains().iter().copied().chain(writers).chain(retrieved.flatten());
                // No further than the set itself reaches.
                let within = |gtid: &MariaDbGtid| position.domain(gtid.domain).is_some_and(|own| gtid.sequence <= own.sequence);
                all.filter(|gtid| gtid.server != self.server_id && within(gtid)).for_each(|gtid| others.add(gtid));
                GtidSet::MariaDb(others)
            }
        }
    }
}

/// What the frontend needs to greet clients as this server would.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Greeting {
    /// The version string, as in the greeting packet (MariaDB's may begin `5.5.5-`).
    pub version: String,
    /// The id of the default collation, as the greeting carries it.
    pub collation: u16,
    /// The capability bits it offered, MariaDB's extended ones in the upper half. 0 when not known.
    pub capabilities: u64,
    /// The authentication plugin it names first.
    pub auth_plugin: String,
}

/// Whether a server says how it replicates.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sight {
    /// It does.
    #[default]
    Clear,
    /// The account may not ask.
    Denied,
    /// It does not answer that question, and others it does: a `STOP REPLICA` that waits holds the lock that the answer needs.
    Hangs,
}

/// Whether a replication thread runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ThreadState {
    /// `Yes`.
    Running,
    /// `Connecting` or `Preparing`: it tries, the source does not answer.
    Connecting,
    /// `No`.
    #[default]
    Stopped,
}

/// One row of `SHOW REPLICA STATUS` or `SHOW ALL SLAVES STATUS`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ReplicaChannel {
    /// `Channel_Name` or `Connection_name`; usually empty.
    pub name: String,
    /// Where it replicates from.
    pub source_host: String,
    /// And the port.
    pub source_port: u16,
    /// `Source_UUID` (MySQL); empty until it has connected once, and on MariaDB.
    pub source_uuid: String,
    /// `Source_Server_Id`; 0 until it has connected once.
    pub source_server_id: u32,
    /// The thread that fetches.
    pub io_running: ThreadState,
    /// The thread that applies.
    pub sql_running: ThreadState,
    /// Why it does not fetch, with the error number; empty for no error.
    pub last_io_error: String,
    /// Why it does not apply, with the error number; empty for no error.
    pub last_sql_error: String,
    /// What it has fetched (`Retrieved_Gtid_Set`, `Gtid_IO_Pos`), applied or not.
    pub retrieved: Option<Arc<GtidSet>>,
    /// `Seconds_Behind_Source`; `None` for NULL.
    pub seconds_behind: Option<u64>,
    /// `SQL_Delay`: it applies what it fetches so many seconds late, on purpose.
    pub delay: u64,
}

impl ReplicaChannel {
    /// Neither of its threads runs, and no error stopped them.
    pub fn is_at_rest(&self) -> bool {
        self.io_running == ThreadState::Stopped
            && self.sql_running == ThreadState::Stopped
            && self.last_io_error.is_empty()
            && self.last_sql_error.is_empty()
    }
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// Nobody listens there (or no such socket, or the network says so): the process is gone.
    ConnectRefused(String),
    /// No way to it: no route, no such name. Counts as silence, for the way may be what is broken.
    Unreachable(String),
    /// No complete login in time.
    ConnectTimeout,
    /// Logged in, and a question is not answered in time.
    QueryTimeout,
    /// The server refuses the account: error number and text.
    Auth(u16, String),
    /// The server has no connection left (1040, 1203). It lives.
    TooManyConnections,
    /// The connection broke.
    Io(String),
    /// It answered, but not as a MySQL server does, or with an error to the monitor's questions.
    Protocol(String),
}

impl Failure {
    /// The word in events and metric labels.
    pub fn as_str(&self) -> &'static str {
        match self {
            Failure::ConnectRefused(_) => "connect_refused",
            Failure::Unreachable(_) => "unreachable",
            Failure::ConnectTimeout => "connect_timeout",
            Failure::QueryTimeout => "query_timeout",
            Failure::Auth(..) => "auth",
            Failure::TooManyConnections => "too_many_connections",
            Failure::Io(_) => "io",
            Failure::Protocol(_) => "protocol",
        }
    }

    /// True when the server answered, though not with facts.
    pub fn is_alive(&self) -> bool {
        matches!(self, Failure::Auth(..) | Failure::TooManyConnections)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::ConnectRefused(why) => write!(f, "connection refused ({why})"),
            Failure::Unreachable(why) => write!(f, "unreachable ({why})"),
            Failure::ConnectTimeout => f.write_str("no login in time"),
            Failure::QueryTimeout => f.write_str("no answer in time"),
            Failure::Auth(code, message) => write!(f, "the monitor's account is refused: {code} {message}"),
            Failure::TooManyConnections => f.write_str("the server has no connection left"),
            Failure::Io(why) => write!(f, "connection lost ({why})"),
            Failure::Protocol(why) => write!(f, "unexpected answer ({why})"),
        }
    }
}
