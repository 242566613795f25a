//! Every key of the configuration as a type, with its default. What each does stands in `config/sluice.toml`.
//!
//! Serialising a [`Config`] gives the file that would produce it, passwords hidden: that is `SHOW CONFIG`, and what
//! [`super::reload`] compares.

use std::fmt;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Serialize, Serializer};

use super::address::Address;
use super::mistake::Mistake;
use super::secrets::Credential;
use super::units::{Period, Size};
pub use super::watch::{Http, Tracing};
pub use super::words::*;

/// The whole file.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Config {
    /// `[proxy]`
    pub proxy: Proxy,
    /// `[monitor]`
    pub monitor: Monitor,
    /// `[[server]]`, in the file's order; a server's place here is its `ServerId`.
    #[serde(rename = "server")]
    pub servers: Vec<Server>,
    /// `[failover]`
    pub failover: Failover,
    /// `[routing]`
    pub routing: Routing,
    /// `[[rule]]`, in the file's order: the first that matches wins.
    #[serde(rename = "rule")]
    pub rules: Vec<Rule>,
    /// `[cache]`
    pub cache: Cache,
    /// `[pool]`
    pub pool: Pool,
    /// `[auth]`
    pub auth: Auth,
    /// `[[user]]`
    #[serde(rename = "user")]
    pub users: Vec<User>,
    /// `[admin]`
    pub admin: Admin,
    /// `[http]`
    pub http: Http,
    /// `[tracing]`
    pub tracing: Tracing,
    /// What is doubtful but does not stop the program.
    #[serde(skip)]
    pub warnings: Vec<Mistake>,
}

impl Config {
    /// The file that would produce this configuration, every key written out, passwords hidden.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_else(|e| format!("# cannot be shown: {e}\n"))
    }
}

/// `[proxy]`: the side of the clients.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Proxy {
    /// Where clients connect.
    pub listen: Vec<Address>,
    /// TLS towards them.
    pub tls: ClientTls,
    /// Logged-in and logging-in clients at one time; the next gets error 1040.
    pub max_clients: usize,
    /// How long SIGTERM and `SHUTDOWN` wait for open transactions.
    pub drain_timeout: Period,
    /// Peers whose PROXY protocol header is believed.
    #[serde(serialize_with = "each_shown")]
    pub proxy_protocol_from: Vec<IpNet>,
    /// Threads that carry the traffic; 0: one for each core.
    pub worker_threads: usize,
    /// Whether these threads use io_uring where the kernel lets them.
    pub io_uring: bool,
    /// A statement that takes this long is logged; 0: none is.
    pub slow_statement: Period,
    /// The unix socket on which a new process asks for the listening sockets; empty: upgrades need a restart.
    pub upgrade_socket: String,
    /// How long the old process serves its sessions after an upgrade, before it drains.
    pub upgrade_timeout: Period,
}

impl Default for Proxy {
    fn default() -> Proxy {
        Proxy {
            listen: vec![Address::tcp("0.0.0.0", 3306)],
            tls: ClientTls::default(),
            max_clients: 10_000,
            drain_timeout: Period::from_secs(30),
            proxy_protocol_from: Vec::new(),
            worker_threads: 0,
            io_uring: true,
            slow_statement: Period::default(),
            upgrade_socket: String::new(),
            upgrade_timeout: Period::from_secs(600),
        }
    }
}

/// `proxy.tls`
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ClientTls {
    /// Whether TLS is offered or demanded.
    pub mode: ClientTlsMode,
    /// PEM file with the certificate chain. Without it, a self-signed certificate is made at every start.
    pub cert: Option<PathBuf>,
    /// PEM file with the private key.
    pub key: Option<PathBuf>,
    /// PEM file: clients must show a certificate signed by one of these.
    pub client_ca: Option<PathBuf>,
}

impl Default for ClientTls {
    fn default() -> ClientTls {
        ClientTls { mode: ClientTlsMode::Preferred, cert: None, key: None, client_ca: None }
    }
}

/// `[monitor]`: Sluice's own account on the servers, and how it watches them.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Monitor {
    /// The account's name.
    pub user: String,
    /// Its password.
    #[serde(flatten)]
    pub secret: Credential,
    /// Time between two heartbeats to a server.
    pub heartbeat_interval: Period,
    /// Silence that makes a server suspect.
    pub heartbeat_timeout: Period,
    /// A replica further behind serves no reads.
    pub max_lag: Period,
    /// `schema.table` of the one row written on the master; empty: off.
    pub heartbeat_table: String,
}

impl Default for Monitor {
    fn default() -> Monitor {
        Monitor {
            user: "sluice".to_owned(),
            secret: Credential::default(),
            heartbeat_interval: Period::from_millis(250),
            heartbeat_timeout: Period::from_secs(1),
            max_lag: Period::from_secs(5),
            heartbeat_table: "sluice.heartbeat".to_owned(),
        }
    }
}

/// `[[server]]`
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Server {
    /// Unique name; used in commands, rules and labels.
    pub name: String,
    /// Where it listens.
    pub address: Address,
    /// What it may become.
    pub role: ServerRole,
    /// Where it stands; see `routing.zone`. Empty: nowhere in particular.
    pub zone: String,
    /// Its share of the reads when `read_balance` is `weighted`; with `least_connections` and `fastest` its load counts divided by it. 0 takes no
    /// reads under any of them while another server can.
    pub weight: u32,
    /// Most connections Sluice opens to it for clients.
    pub max_connections: usize,
    /// The PROXY header in front of each connection to it.
    pub proxy_protocol: ProxyProtocol,
    /// TLS towards it.
    pub tls: ServerTls,
    /// Whether its connections are compressed.
    pub compression: ServerCompression,
    /// It has left the file, and keeps its number (see `run::roster`). No key says so.
    #[serde(skip)]
    pub retired: bool,
}

impl Default for Server {
    fn default() -> Server {
        Server {
            name: String::new(),
            address: Address::tcp("127.0.0.1", 3306),
            role: ServerRole::Replica,
            zone: String::new(),
            weight: 1,
            max_connections: 100,
            proxy_protocol: ProxyProtocol::Off,
            tls: ServerTls::default(),
            compression: ServerCompression::Off,
            retired: false,
        }
    }
}

/// `server.tls`
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ServerTls {
    /// Whether TLS is used and what is verified.
    pub mode: ServerTlsMode,
    /// PEM file with the authorities that may have signed the server's certificate.
    pub ca: Option<PathBuf>,
}

impl Default for ServerTls {
    fn default() -> ServerTls {
        ServerTls { mode: ServerTlsMode::Preferred, ca: None }
    }
}

/// `[failover]`
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Failover {
    /// Who starts it.
    pub mode: FailoverMode,
    /// How long a statement waits for a master.
    pub hold_timeout: Period,
    /// How many known transactions a promotion may lose.
    pub max_lost_transactions: MaxLost,
    /// Whether a plain replica may become master when no peer is left.
    pub promote_replicas: bool,
    /// Whether a transaction that was open on the dead master is replayed, results compared.
    pub transaction_replay: bool,
}

impl Default for Failover {
    fn default() -> Failover {
        Failover {
            mode: FailoverMode::Auto,
            hold_timeout: Period::from_secs(10),
            max_lost_transactions: MaxLost::Any,
            promote_replicas: false,
            transaction_replay: false,
        }
    }
}

/// `[routing]`
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Routing {
    /// How reads are spread.
    pub read_balance: ReadBalance,
    /// What a read is promised to see.
    pub consistency: Consistency,
    /// Whether the master serves reads.
    pub read_from_master: ReadFromMaster,
    /// Where this proxy stands: servers of that zone are preferred for reads. Empty: no preference.
    pub zone: String,
}

impl Default for Routing {
    fn default() -> Routing {
        Routing {
            read_balance: ReadBalance::RoundRobin,
            consistency: Consistency::Session,
            read_from_master: ReadFromMaster::Fallback,
            zone: String::new(),
        }
    }
}

/// `[[rule]]`: every condition that is given must hold.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Rule {
    /// The client's user name.
    pub user: Option<String>,
    /// The session's current schema.
    pub schema: Option<String>,
    /// Found somewhere in the statement's text.
    pub pattern: Option<Pattern>,
    /// The statement's digest as `SHOW STATEMENTS` names it.
    pub digest: Option<String>,
    /// The client's address.
    #[serde(serialize_with = "shown", skip_serializing_if = "Option::is_none")]
    pub client: Option<IpNet>,
    /// What happens.
    pub action: RuleAction,
    /// What a denied client reads.
    pub message: Option<String>,
}

/// `rule.action`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum RuleAction {
    /// To the current master.
    Master,
    /// To a replica, even if it is not proved read-only.
    Replica,
    /// To the server of that name.
    Server(String),
    /// Refused with `message`.
    Deny,
    /// May be answered from the cache.
    Cache,
    /// Never answered from the cache.
    NoCache,
}

impl fmt::Display for RuleAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuleAction::Master => f.write_str("master"),
            RuleAction::Replica => f.write_str("replica"),
            RuleAction::Server(name) => write!(f, "server:{name}"),
            RuleAction::Deny => f.write_str("deny"),
            RuleAction::Cache => f.write_str("cache"),
            RuleAction::NoCache => f.write_str("nocache"),
        }
    }
}

impl Serialize for RuleAction {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// A compiled regular expression that compares by its text.
#[derive(Clone)]
pub struct Pattern(pub regex::Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0.as_str(), f)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.0.as_str())
    }
}

/// `[cache]`
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Cache {
    /// Whether there is one.
    pub enabled: bool,
    /// Most memory for entries.
    pub max_memory: Size,
    /// Upper bound of any entry's life.
    pub ttl: Period,
    /// A result that was served and has no more than this left to live is read anew by the next who asks for it; zero: not before it has ended.
    pub refresh_ahead: Period,
    /// Which reads may be cached.
    pub default: CacheDefault,
    /// Where entries live.
    pub store: CacheStore,
    /// What voids them.
    pub invalidate: Vec<Invalidate>,
}

impl Default for Cache {
    fn default() -> Cache {
        Cache {
            enabled: false,
            max_memory: Size::from_mib(256),
            ttl: Period::from_secs(60),
            refresh_ahead: Period::from_millis(0),
            default: CacheDefault::OptIn,
            store: CacheStore::Memory,
            invalidate: vec![Invalidate::Proxy, Invalidate::Binlog],
        }
    }
}

/// `cache.store`
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CacheStore {
    /// In this process.
    Memory,
    /// A Redis server, by its whole URL.
    Redis(String),
    /// A memcached server, by its whole URL.
    Memcached(String),
}

impl fmt::Display for CacheStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = match self {
            CacheStore::Memory => return f.write_str("memory"),
            CacheStore::Redis(url) | CacheStore::Memcached(url) => url,
        };
        // redis://user:password@host: what stands between `//` and `@` is nobody's business.
        match (url.find("//"), url.rfind('@')) {
            (Some(from), Some(to)) if from + 2 < to => write!(f, "{}********{}", &url[..from + 2], &url[to..]),
            _ => f.write_str(url),
        }
    }
}

impl Serialize for CacheStore {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// `[pool]`: connections to the servers.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Pool {
    /// An idle connection is closed after this.
    pub idle_timeout: Period,
    /// Any connection is closed at the end of a statement after this.
    pub max_lifetime: Period,
    /// How long a statement waits for a connection.
    pub checkout_timeout: Period,
    /// Statements one connection holds prepared; the least recently used is closed to make room for another.
    pub max_prepared_per_connection: u64,
}

impl Default for Pool {
    fn default() -> Pool {
        Pool {
            idle_timeout: Period::from_secs(300),
            max_lifetime: Period::from_secs(3600),
            checkout_timeout: Period::from_secs(10),
            max_prepared_per_connection: 128,
        }
    }
}

/// `[auth]`
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Auth {
    /// Who may log in.
    pub source: AuthSource,
}

impl Default for Auth {
    fn default() -> Auth {
        Auth { source: AuthSource::Servers }
    }
}

/// `[[user]]`
#[derive(Clone, PartialEq, Debug, Serialize, Default)]
pub struct User {
    /// The client's user name.
    pub name: String,
    /// The password; none: the servers are asked.
    #[serde(flatten)]
    pub secret: Credential,
    /// Most clients of that name at one time; 0: no limit but `proxy.max_clients`.
    pub max_connections: usize,
    /// Whether everything but reads is refused.
    pub read_only: bool,
    /// Schemas that it may use; empty: all that the servers allow.
    pub schemas: Vec<String>,
    /// Addresses it may come from; empty: anywhere.
    #[serde(serialize_with = "each_shown")]
    pub hosts: Vec<IpNet>,
}

/// `[admin]`: the proxy's own SQL.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Admin {
    /// Where it listens; `None` (empty in the file): nowhere.
    #[serde(serialize_with = "or_empty")]
    pub listen: Option<Address>,
    /// The one account.
    pub user: String,
    /// Its password; none is allowed on a loopback address only.
    #[serde(flatten)]
    pub secret: Credential,
}

impl Default for Admin {
    fn default() -> Admin {
        Admin { listen: Some(Address::tcp("127.0.0.1", 6032)), user: "admin".to_owned(), secret: Credential::default() }
    }
}

fn each_shown<S: Serializer>(nets: &[IpNet], s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(nets.iter().map(IpNet::to_string))
}

fn shown<S: Serializer>(net: &Option<IpNet>, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&net.map(|n| n.to_string()).unwrap_or_default())
}

pub(super) fn or_empty<S: Serializer>(address: &Option<Address>, s: S) -> Result<S::Ok, S::Error> {
    match address {
        Some(address) => s.collect_str(address),
        None => s.serialize_str(""),
    }
}
