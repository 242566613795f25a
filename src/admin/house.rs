//! What the admin asks of the rest of the house. `run` implements it; tests do with made-up rows.
//!
//! The rows have the columns of the product's contract, in its order.

use std::time::SystemTime;

use async_trait::async_trait;

use super::answer::{AdminError, Kind, Value};
use crate::clock::utc;

/// A type that can stand in a column.
pub trait Cell {
    /// The column's type.
    const KIND: Kind;
    /// The cell.
    fn cell(&self) -> Value;
}

impl Cell for String {
    const KIND: Kind = Kind::Text;
    fn cell(&self) -> Value {
        Value::Text(self.clone())
    }
}

impl Cell for u64 {
    const KIND: Kind = Kind::UInt;
    fn cell(&self) -> Value {
        Value::UInt(*self)
    }
}

impl Cell for f64 {
    const KIND: Kind = Kind::Float;
    fn cell(&self) -> Value {
        Value::Float(*self)
    }
}

/// `yes` or `no`.
impl Cell for bool {
    const KIND: Kind = Kind::Text;
    fn cell(&self) -> Value {
        Value::from(if *self { "yes" } else { "no" })
    }
}

/// UTC, as MySQL writes a `DATETIME(3)`.
impl Cell for SystemTime {
    const KIND: Kind = Kind::Time;
    fn cell(&self) -> Value {
        Value::Text(utc(*self))
    }
}

impl<T: Cell> Cell for Option<T> {
    const KIND: Kind = T::KIND;
    fn cell(&self) -> Value {
        self.as_ref().map_or(Value::Null, Cell::cell)
    }
}

/// A row of one of the admin's tables.
pub trait Row {
    /// Names and types of its columns.
    const COLUMNS: &'static [(&'static str, Kind)];
    /// Its cells.
    fn cells(&self) -> Vec<Value>;
}

macro_rules! rows {
    ($($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Debug)]
        pub struct $name { $($(#[$fdoc])* pub $field: $type),* }

        impl Row for $name {
            const COLUMNS: &'static [(&'static str, Kind)] = &[$((stringify!($field), <$type as Cell>::KIND)),*];
            fn cells(&self) -> Vec<Value> {
                vec![$(self.$field.cell()),*]
            }
        }
    )*};
}

rows! {
    /// `SHOW SERVERS`
    ServerRow {
        /// Its name in the file.
        name: String,
        /// `host:port` or `unix:/path`.
        address: String,
        /// master | standby | replica; `None` before the first heartbeat.
        role: Option<String>,
        /// online | suspect | lagging | draining | offline | down | quarantined
        state: String,
        /// Its zone, perhaps empty.
        zone: String,
        /// Its weight now (`SET SERVER` changes it).
        weight: u64,
        /// Behind the master; `None` on the master and when unknown.
        lag_ms: Option<u64>,
        /// What it has executed.
        gtid: String,
        /// Connections lent out.
        connections_used: u64,
        /// Connections waiting.
        connections_idle: u64,
        /// The limit.
        connections_max: u64,
        /// Statements sent to it.
        queries: u64,
        /// Errors it answered.
        errors: u64,
        /// Mean time of recent statements there, as they came by.
        latency_us: Option<u64>,
        /// When it came into this state.
        since: SystemTime,
        /// Why it is in this state, when it is not online.
        reason: String,
    }
    /// `SHOW CLIENTS`
    ClientRow {
        /// Its connection id.
        id: u64,
        /// Its user; empty while it logs in.
        user: String,
        /// Where it comes from.
        host: String,
        /// Its current schema.
        schema: Option<String>,
        /// login | idle | active | waiting
        state: String,
        /// The server whose connection it holds now.
        server: Option<String>,
        /// Why it holds one while idle.
        pin_reason: Option<String>,
        /// The statement that runs, or ran last.
        statement: Option<String>,
        /// Since when it is in this state.
        age_ms: u64,
        /// Statements so far.
        queries: u64,
        /// `yes` in TLS; `None` without.
        tls: Option<String>,
    }
    /// `SHOW POOLS`
    PoolRow {
        /// The server.
        server: String,
        /// The user its connections are logged in as.
        user: String,
        /// Lent out.
        used: u64,
        /// Waiting.
        idle: u64,
        /// Statements that wait for a connection.
        waiting: u64,
        /// Opened to the server since the start, for whichever user; so are the next three.
        opened: u64,
        /// Closed since the start.
        closed: u64,
        /// Times a connection was used again.
        reused: u64,
        /// 99th percentile of the wait.
        wait_us_p99: u64,
    }
    /// `SHOW STATEMENTS`
    StatementRow {
        /// The digest's hash, 16 hex digits.
        digest: String,
        /// The statement with its literals taken out.
        text: String,
        /// The session's schema.
        schema: String,
        /// The client's user.
        user: String,
        /// Its class.
        class: String,
        /// master | replica | server:NAME | cache | proxy | deny
        target: String,
        /// Executions.
        count: u64,
        /// Of them, errors.
        errors: u64,
        /// Rows sent.
        rows: u64,
        /// All durations together.
        sum_us: u64,
        /// Shortest.
        min_us: u64,
        /// Mean.
        avg_us: u64,
        /// 99th percentile.
        p99_us: u64,
        /// Longest.
        max_us: u64,
        /// First execution.
        first_seen: SystemTime,
        /// Last execution.
        last_seen: SystemTime,
        /// `yes`: answered from the cache; `advised`: it could be, and takes most of the servers' time; else `no`.
        cached: String,
    }
    /// `SHOW CACHE`
    CacheRow {
        /// Entries now.
        entries: u64,
        /// Memory they hold.
        bytes: u64,
        /// Reads answered.
        hits: u64,
        /// Cacheable reads not found.
        misses: u64,
        /// Results stored.
        stores: u64,
        /// Entries that gave way.
        evictions: u64,
        /// Entries voided.
        invalidations: u64,
        /// hits / (hits + misses).
        hit_ratio: f64,
        /// memory, or the store's URL without its password.
        store: String,
        /// on | off | bypassed, with a reason.
        state: String,
    }
    /// `SHOW CACHE ENTRIES`
    CacheEntryRow {
        /// The digest's hash.
        digest: String,
        /// The statement.
        statement: String,
        /// The schema it ran in.
        schema: String,
        /// The user whose rights it was read with.
        user: String,
        /// Tables it depends on.
        tables: String,
        /// Memory it holds.
        bytes: u64,
        /// How often it answered.
        hits: u64,
        /// Since it was stored.
        age_ms: u64,
        /// Until it ends.
        ttl_ms: u64,
    }
    /// `SHOW EVENTS`
    EventRow {
        /// When.
        at: SystemTime,
        /// What kind.
        kind: String,
        /// The server it concerns.
        server: Option<String>,
        /// What exactly.
        detail: String,
    }
    /// `SHOW RULES`
    RuleRow {
        /// Its place, from 1.
        rule: u64,
        /// Condition.
        user: Option<String>,
        /// Condition.
        schema: Option<String>,
        /// Condition.
        pattern: Option<String>,
        /// Condition.
        digest: Option<String>,
        /// Condition.
        client: Option<String>,
        /// What it does.
        action: String,
        /// What a denied client reads.
        message: Option<String>,
        /// How often it decided.
        hits: u64,
    }
    /// `SHOW USERS`
    UserRow {
        /// The name.
        name: String,
        /// file | servers: who knows the password.
        source: String,
        /// Clients now.
        connections: u64,
        /// The limit; `None` for none of its own.
        max_connections: Option<u64>,
        /// Whether everything but reads is refused.
        read_only: bool,
        /// Schemas it may use, comma-separated; empty: all.
        schemas: String,
        /// Networks it may come from, comma-separated; empty: anywhere.
        hosts: String,
    }
    /// `SHOW CONFIG DIFF`: what the file has now and the process has not.
    ConfigDiffRow {
        /// The key's path.
        name: String,
        /// In the process.
        running: Option<String>,
        /// In the file.
        file: Option<String>,
        /// `no`, or why this key needs a restart.
        restart: String,
    }
    /// `SWITCHOVER TO`, `FAILOVER TO`, `REJOIN SERVER`: what was done, or would be.
    StepRow {
        /// Its name.
        step: String,
        /// The server it concerns.
        server: Option<String>,
        /// How long it took, or may take.
        took_ms: u64,
        /// What came of it.
        detail: String,
    }
    /// `EXPLAIN ROUTE`
    ExplainRow {
        /// The statement's class.
        class: String,
        /// master | replica | server:NAME | cache | proxy | deny
        target: String,
        /// The server it would go to now, if one is chosen.
        server: Option<String>,
        /// Why.
        reason: String,
        /// Tables it names, comma-separated.
        tables: String,
        /// `yes`, or `no` and why.
        cacheable: String,
        /// The digest's hash.
        digest: String,
        /// The rule that decided, from 1.
        rule: Option<String>,
    }
}

/// What the admin commands the house to do. Server names are as typed; the house knows which exist.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// `DRAIN SERVER`: finish what runs there, take nothing new.
    DrainServer(String),
    /// `ONLINE SERVER`: back into rotation.
    OnlineServer(String),
    /// `OFFLINE SERVER`: out of rotation at once.
    OfflineServer(String),
    /// `SET SERVER x WEIGHT n`, until the next reload.
    SetWeight {
        /// The server.
        server: String,
        /// From 1.
        weight: u32,
    },
    /// `SWITCHOVER TO x [DRY RUN]`
    Switchover {
        /// The new master.
        to: String,
        /// Only say what would be done.
        dry_run: bool,
    },
    /// `FAILOVER TO x [FORCE]`
    Failover {
        /// The new master.
        to: String,
        /// Even if transactions are lost.
        force: bool,
    },
    /// `REJOIN SERVER x`
    RejoinServer(String),
    /// `PAUSE`: hold new statements.
    Pause,
    /// `RESUME`
    Resume,
    /// `FLUSH CACHE [TABLE x]`
    FlushCache(Option<String>),
    /// `FLUSH STATEMENTS`
    FlushStatements,
    /// `KILL [QUERY] id`
    Kill {
        /// The client.
        id: u64,
        /// Only its statement.
        query: bool,
    },
    /// `RELOAD CONFIG`
    ReloadConfig,
    /// `SAVE CONFIG`: what commands changed goes into the file, as far as it has keys for it.
    SaveConfig,
    /// `SHUTDOWN`: as SIGTERM.
    Shutdown,
}

/// The rest of the house. Nothing here blocks: it is called from the tasks of the admin and HTTP ports.
#[async_trait]
pub trait House: Send + Sync {
    /// `SHOW SERVERS`, in the file's order.
    fn servers(&self) -> Vec<ServerRow>;
    /// `SHOW CLIENTS`
    fn clients(&self) -> Vec<ClientRow>;
    /// `SHOW POOLS`
    fn pools(&self) -> Vec<PoolRow>;
    /// `SHOW STATEMENTS`
    fn statements(&self) -> Vec<StatementRow>;
    /// `SHOW EVENTS`, oldest first.
    fn events(&self) -> Vec<EventRow>;
    /// `SHOW RULES`
    fn rules(&self) -> Vec<RuleRow>;
    /// `SHOW USERS`
    fn users(&self) -> Vec<UserRow>;
    /// The running configuration as TOML, passwords hidden; `SHOW CONFIG` shows its keys.
    fn config_text(&self) -> String;
    /// Names and values for `SHOW STATUS`.
    fn status(&self) -> Vec<(String, String)>;
    /// Names and values for `SHOW VARIABLES`.
    fn variables(&self) -> Vec<(String, String)>;
    /// The text of `/metrics`.
    fn metrics_text(&self) -> String;
    /// `EXPLAIN ROUTE`, from the same code that routes. `user`: as whom, else any user.
    fn explain_route(&self, user: Option<&str>, client: Option<std::net::IpAddr>, schema: Option<&str>, sql: &str) -> ExplainRow;
    /// Whether a master is known, and if not, why: `/readyz`.
    ///
    /// # Errors
    /// The reason, for people.
    fn ready(&self) -> Result<(), String>;
    /// Carries out a command and says in a sentence what was done.
    ///
    /// # Errors
    /// [`AdminError::unavailable`] for what this version cannot do, [`AdminError::unknown_server`], or what failed.
    async fn command(&self, command: Command) -> Result<String, AdminError>;

    /// Carries out [`Command::Switchover`], [`Command::Failover`] or [`Command::RejoinServer`] and tells the steps.
    ///
    /// # Errors
    /// Why not, or what failed and what is so now.
    async fn steps(&self, command: Command) -> Result<Vec<StepRow>, AdminError>;

    /// Notes in the log of events that an operator gave a command, which, and what came of it.
    fn note(&self, who: &str, what: &str);

    /// `SHOW CACHE`
    ///
    /// # Errors
    /// Not available without a cache.
    fn cache(&self) -> Result<Vec<CacheRow>, AdminError> {
        Err(AdminError::unavailable("SHOW CACHE"))
    }

    /// `SHOW CACHE ENTRIES`
    ///
    /// # Errors
    /// Not available without a cache.
    fn cache_entries(&self) -> Result<Vec<CacheEntryRow>, AdminError> {
        Err(AdminError::unavailable("SHOW CACHE ENTRIES"))
    }

    /// Which clients are not listed here and cannot be ended from here, because they stayed with the process that this one took over
    /// from; `None` when there are none.
    fn elsewhere(&self) -> Option<String> {
        None
    }

    /// `SHOW CONFIG DIFF`
    ///
    /// # Errors
    /// When the file cannot be read, or says wrong things.
    fn config_diff(&self) -> Result<Vec<ConfigDiffRow>, AdminError> {
        Err(AdminError::unavailable("SHOW CONFIG DIFF"))
    }
}
