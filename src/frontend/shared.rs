//! What all clients share: the servers as they are now, the pools, the settings, the counters.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::auth::attributes::Attribute;
use crate::backend::connection::PoolKey;
use crate::backend::pools::Pools;
use crate::cache::Cache;
use crate::frontend::beginnings::Beginnings;
use crate::frontend::errors::Source;
use crate::frontend::flight::Flights;
use crate::frontend::login::{LoginError, LoginRoom, remembered_as};
use crate::frontend::refusals::Refusals;
use crate::frontend::registry::Registry;
use crate::frontend::written::AccountWrites;
use crate::metrics::events::EventLog;
use crate::metrics::spans::Spans;
use crate::metrics::statements::Statements;
use crate::metrics::tally::Copies;
use crate::metrics::{LoginResult, Metrics};
use crate::monitor::MonitorHandle;
use crate::routing::decide::RoutingSettings;
use crate::routing::rules::Rules;
use crate::session::LastWrite;
use crate::session::state::{Interner, State};
use crate::sql::classify::{Classified, ClassifyCache};
use crate::sql::lexer::Dialect;
use crate::stores::SharedStore;
use crate::topology::gtid::GtidSet;
use crate::topology::known::KnownGtids;
use crate::topology::snapshot::Snapshot;
use crate::topology::{Flavor, ServerId};

/// How long a schema that a server let an account use at login needs no asking again.
pub const SCHEMA_CONFIRMED_FOR: Duration = Duration::from_secs(5);
/// At this many pool keys those that nobody uses are dropped.
const KEYS_SWEPT_AT: usize = 1024;
/// Confirmed schemas kept; beyond it the table is emptied.
const SCHEMAS_CONFIRMED_MAX: usize = 10_000;
/// Reads that the cache could have answered.
#[derive(Debug, Default)]
pub struct Asked {
    /// It has.
    pub hits: AtomicU64,
    /// It has not.
    pub misses: AtomicU64,
}

/// Settings that `RELOAD CONFIG` may change under running clients.
#[derive(Clone, Debug)]
pub struct FrontendSettings {
    /// `[routing]`.
    pub routing: RoutingSettings,
    /// `[[rule]]`.
    pub rules: Rules,
    /// `failover.hold_timeout`.
    pub hold_timeout: Duration,
    /// How long a replica may be waited for until it has the session's last write.
    pub write_wait: Duration,
    /// `proxy.max_clients`.
    pub max_clients: usize,
    /// A statement that takes this long is logged.
    pub slow_statement: Option<Duration>,
    /// `proxy.proxy_protocol_from`.
    pub proxy_protocol_from: Vec<IpNet>,
}

/// An account and a schema that a server let it use.
type Confirmed = (Arc<str>, Option<IpAddr>, Box<[u8]>);

/// See the module.
pub struct Shared {
    /// The servers as they are now.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Wakes whoever waits for a change of the snapshot.
    pub changed: watch::Receiver<u64>,
    /// What logins share.
    pub login: LoginRoom,
    /// For telling the monitor what a statement met.
    pub monitor: MonitorHandle,
    /// Transactions that servers were seen to have, between heartbeats.
    pub known: Arc<KnownGtids>,
    /// A pool for each server, by [`ServerId`].
    pub pools: Arc<Pools>,
    /// What statements are.
    pub classify: ClassifyCache,
    /// How `COM_INIT_DB` is classified.
    pub class_use: Arc<Classified>,
    /// How `COM_FIELD_LIST` and `COM_STATISTICS` are classified.
    pub class_read: Arc<Classified>,
    /// Kept results, where there is a cache.
    pub cache: Option<Arc<Cache>>,
    /// What was asked of the cache.
    pub asked: Copies<Asked>,
    /// Where results are kept for other proxies, too.
    pub stored: Option<Arc<SharedStore>>,
    /// Reads that others wait for.
    pub flights: Arc<Flights>,
    /// Settings.
    pub settings: Arc<ArcSwap<FrontendSettings>>,
    /// `failover.transaction_replay`, which every statement looks at.
    pub replays: AtomicBool,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Statistics by digest.
    pub statement_stats: Arc<Statements>,
    /// Where spans go.
    pub spans: Arc<Spans>,
    /// What happened.
    pub events: Arc<EventLog>,
    /// Who is connected.
    pub registry: Registry,
    /// The newest write of any session, for `consistency = "global"`.
    pub newest_write: Mutex<Option<LastWrite>>,
    /// The newest write of each account, for `consistency = "session"`.
    pub account_writes: AccountWrites,
    /// `PAUSE`: new statements wait.
    pub paused: watch::Receiver<bool>,
    /// The same, for a look that costs nothing.
    pub is_paused: AtomicBool,
    /// Whose logins were refused a moment ago.
    pub refusals: Refusals,
    /// The process is shutting down: idle clients leave.
    pub draining: AtomicBool,
    /// (user, schema) that a server confirmed, and when.
    pub schemas: Mutex<HashMap<Confirmed, Instant>>,
    /// What the sessions of each user and collation begin with, see [`Connection::begins`](crate::backend::connection::Connection::begins).
    pub beginnings: Beginnings,
    /// Somebody has asked for the value that he took from a sequence last; who takes one from now on may ask for it too.
    pub asks_last_values: AtomicBool,
    /// Session states, each once.
    pub states: Mutex<Interner>,
    /// Pool keys, each once, for as long as a client uses them.
    pub keys: Mutex<HashMap<PoolKey, std::sync::Weak<PoolKey>>>,
    /// Attributes of clients, each set once, for as long as a client uses it.
    pub attributes: Mutex<HashMap<Vec<Attribute>, std::sync::Weak<[Attribute]>>>,
    /// Whether servers are told clients' addresses, so that connections are shared by clients of one address only.
    pub tells_addresses: bool,
    /// Recent statement latency per server in microseconds (moving average).
    pub latency_us: Vec<AtomicU64>,
    /// Statements per server that ended in an error there, or were lost with it.
    pub errors: Vec<AtomicU64>,
}

impl Shared {
    /// A server's name.
    pub fn name(&self, server: ServerId) -> Arc<str> {
        self.pools.get(server.index()).map_or_else(|| "?".into(), |pool| pool.name.clone())
    }

    /// Every server but the master.
    pub fn all_but_master(&self) -> Vec<ServerId> {
        let snapshot = self.snapshot.load();
        snapshot.servers.iter().map(|server| server.id).filter(|id| snapshot.master != Some(*id)).collect()
    }

    /// The family of the servers, as far as one is known.
    pub fn flavor(&self) -> Option<Flavor> {
        self.snapshot.load().servers.iter().find_map(|s| s.flavor)
    }

    /// How the servers read SQL, as far as that is known.
    pub fn dialect(&self) -> Dialect {
        match self.flavor() {
            Some(Flavor::MySql) => Dialect::MySql,
            Some(Flavor::MariaDb) => Dialect::MariaDb,
            None => Dialect::Either,
        }
    }

    /// Whether the schema was confirmed for the account a moment ago.
    pub fn schema_confirmed(&self, account: &PoolKey, schema: &[u8], now: Instant) -> bool {
        let schemas = self.schemas.lock();
        schemas
            .get(&(account.user.clone(), account.client, schema.into()))
            .is_some_and(|at| now.duration_since(*at) < SCHEMA_CONFIRMED_FOR)
    }

    /// Notes that a server let the account use the schema.
    pub fn confirm_schema(&self, account: &PoolKey, schema: &[u8], now: Instant) {
        let mut schemas = self.schemas.lock();
        if schemas.len() >= SCHEMAS_CONFIRMED_MAX {
            schemas.clear();
        }
        schemas.insert((account.user.clone(), account.client, schema.into()), now);
    }

    /// Reads that the cache has answered, and that it could have.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        let sum = |of: fn(&Asked) -> &AtomicU64| self.asked.all().map(|asked| of(asked).load(Ordering::Relaxed)).sum();
        (sum(|asked| &asked.hits), sum(|asked| &asked.misses))
    }

    /// A client has changed accounts: what servers confirmed of passwords and schemas before does not hold for the next login.
    pub fn accounts_changed(&self) {
        self.login.credentials.doubt_all();
        self.schemas.lock().clear();
    }

    /// Privileges on everything, which connections keep from their login, have changed: sessions that begin from now on get connections
    /// that are opened from now on.
    pub fn outdate(&self) {
        for pool in self.pools.iter() {
            pool.outdate();
        }
    }

    /// The same for one server: its connections have what global variables were before.
    pub fn outdate_at(&self, server: ServerId) {
        if let Some(pool) = self.pools.get(server.index()) {
            pool.outdate();
        }
    }

    /// The shared one of a state.
    pub fn share(&self, state: Arc<State>) -> Arc<State> {
        self.states.lock().share(state)
    }

    /// The shared one of a pool key.
    pub fn share_key(&self, key: PoolKey) -> Arc<PoolKey> {
        let mut keys = self.keys.lock();
        if let Some(shared) = keys.get(&key).and_then(std::sync::Weak::upgrade) {
            return shared;
        }
        if keys.len() >= KEYS_SWEPT_AT {
            keys.retain(|_, weak| weak.strong_count() > 0);
        }
        let shared = Arc::new(key.clone());
        keys.insert(key, Arc::downgrade(&shared));
        shared
    }

    /// A client's attributes, the one copy of them.
    pub fn share_attributes(&self, attributes: Vec<Attribute>) -> Arc<[Attribute]> {
        let mut all = self.attributes.lock();
        if let Some(shared) = all.get(&attributes).and_then(std::sync::Weak::upgrade) {
            return shared;
        }
        if all.len() >= KEYS_SWEPT_AT {
            all.retain(|_, weak| weak.strong_count() > 0);
        }
        let shared: Arc<[Attribute]> = attributes.as_slice().into();
        all.insert(attributes, Arc::downgrade(&shared));
        shared
    }

    /// Statements that ended in an error on this server.
    pub fn server_errors(&self, server: ServerId) -> u64 {
        self.errors.get(server.index()).map_or(0, |e| e.load(std::sync::atomic::Ordering::Relaxed))
    }

    /// Counts such a statement.
    pub fn note_server_error(&self, server: ServerId) {
        if let Some(errors) = self.errors.get(server.index()) {
            errors.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// Whether a server is known to have these transactions.
    pub fn has(&self, server: ServerId, gtid: &GtidSet) -> bool {
        self.known.has(server, gtid)
    }

    /// A server refused what was learned of a password: it is forgotten, and connections opened with it are closed.
    pub fn forget_password(&self, key: &PoolKey) {
        if self.forget_credential(key) {
            self.events.push("password_forgotten", None, format!("a server refused what was learned of {}", key.user));
        }
        self.doubt_password(key);
    }

    /// A replica has refused an account that the master may know: no connection of before answers for it, so that the master has to be asked.
    pub fn doubt_password(&self, key: &PoolKey) {
        for pool in self.pools.iter() {
            pool.close_idle(Some(&key.user));
        }
    }

    /// Forgets what was learned of a password; whether anything was.
    pub fn forget_credential(&self, key: &PoolKey) -> bool {
        let forget = |secure| self.login.credentials.forget(&remembered_as(&key.user, secure, key.client), key.generation);
        [true, false].map(forget).contains(&true)
    }

    /// Counts and logs a login that failed.
    pub fn note_login_error(&self, error: &LoginError, host: &str) {
        match error {
            LoginError::Gone(_) => self.metrics.logins(LoginResult::Failed).inc(),
            LoginError::Refused { user, .. } => {
                self.metrics.logins(LoginResult::Refused).inc();
                // Whoever tries passwords must not push everything else out of the events.
                if self.refusals.is_news(user, host, Instant::now()) {
                    self.events.push(
                        "refused",
                        None,
                        format!("{host}: {error}; more of the same within a minute are only counted"),
                    );
                } else {
                    tracing::info!(client = host, "{error}");
                }
                return;
            }
            LoginError::Malformed(_) | LoginError::Tls(_) | LoginError::Stalled => {
                self.metrics.errors(Source::Client).inc();
                self.metrics.logins(LoginResult::Failed).inc();
            }
            LoginError::NoServer { .. } => {
                self.metrics.errors(Source::Server).inc();
                self.metrics.logins(LoginResult::Failed).inc();
            }
        }
        tracing::debug!(client = host, "{error}");
    }

    /// Moves a server's average latency a little towards that of a statement. Takes every eighth statement, told by the last
    /// bits of its time, so that the threads seldom meet here.
    pub fn note_latency(&self, server: ServerId, took: Duration) {
        use std::sync::atomic::Ordering::Relaxed;
        let Some(average) = self.latency_us.get(server.index()) else { return };
        let old = average.load(Relaxed);
        if old == 0 || took.subsec_nanos().is_multiple_of(8) {
            let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX >> 4).max(1);
            average.store(if old == 0 { us } else { (old * 7 + us) / 8 }, Relaxed);
        }
    }
}
