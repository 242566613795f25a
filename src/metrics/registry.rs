//! Every metric of `/metrics`, by the names of the product's contract, each with its labels looked up beforehand.
//!
//! Looking a label up costs a hash and a lock; the handles here cost one atomic addition. A [`Metrics`] owns its registry:
//! two proxies in one process (a test) do not see each other.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::{GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::newest::{Seen, with_newest};
use super::tally::{self, Overhead, Tally};
use crate::topology::{Role, ServerId, State};

/// The handles of each server, by [`ServerId`].
type Named = Vec<Arc<ServerMetrics>>;

thread_local! {
    static SEEN: Seen<Named> = const { RefCell::new(None) };
}

/// Enums whose words are label values, with an index for tables of handles.
macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl $name {
            /// All of them, in the order of their indices.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// The label's value.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }
        }
    )*};
}

labels! {
    /// The classes of statements.
    Class {
        /// Proved read-only.
        Read = "read",
        /// `SELECT ... FOR UPDATE` and the like.
        LockingRead = "locking_read",
        /// Changes rows, or may.
        Write = "write",
        /// Changes definitions.
        Ddl = "ddl",
        /// `BEGIN`, `COMMIT`, `SAVEPOINT`.
        Transaction = "transaction",
        /// `SET`, `USE`.
        Session = "session",
        /// `KILL`, `FLUSH`, `SHOW`, replication.
        Administrative = "administrative",
        /// Not understood.
        Unknown = "unknown",
    }
    /// Where a statement went.
    Target {
        /// To the current master.
        Master = "master",
        /// To a server that serves reads.
        Replica = "replica",
        /// To a server that was named or that the session is pinned to.
        Server = "server",
        /// Answered from the cache.
        Cache = "cache",
        /// Answered by the proxy itself.
        Proxy = "proxy",
        /// Refused by a rule.
        Deny = "deny",
    }
    /// Whose error a client got.
    ErrorSource {
        /// Malformed packets, broken connections, refused statements.
        Client = "client",
        /// Sluice's own errors.
        Proxy = "proxy",
        /// A server's error, passed on.
        Server = "server",
    }
    /// How a login ended.
    LoginResult {
        /// Logged in.
        Ok = "ok",
        /// Wrong name or password, or refused by a limit.
        Refused = "refused",
        /// The peer stalled, hung up or sent garbage.
        Failed = "failed",
    }
}

const WAIT_SECONDS: &[f64] = &[0.000_01, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0];
const FAILOVER_SECONDS: &[f64] = &[0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0];

/// The ready handles of one server (or of statements that went to none).
#[derive(Debug)]
pub struct ServerMetrics {
    name: String,
    tally: Tally,
    /// `sluice_server_up`: 1 while it answers.
    pub up: IntGauge,
    /// `sluice_server_lag_seconds`; `None` for "no server".
    lag: Option<GaugeVec>,
    /// `sluice_pool_connections{state="used"}`.
    pub pool_used: IntGauge,
    /// `sluice_pool_connections{state="idle"}`.
    pub pool_idle: IntGauge,
    roles: [IntGauge; 3],
    states: [IntGauge; 7],
}

impl ServerMetrics {
    /// The server's name; empty for statements that went to none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `sluice_queries_total` of a class and a target.
    pub fn queries(&self, class: Class, target: Target) -> u64 {
        self.tally.queries(class, target)
    }

    /// Counts a statement and its duration.
    pub fn statement(&self, class: Class, target: Target, duration: Duration) {
        self.tally.statement(class, target, duration);
    }

    /// Sets `sluice_server_role`: 1 for that role, 0 for the others.
    pub fn set_role(&self, role: Role) {
        for (gauge, each) in self.roles.iter().zip(ROLES) {
            gauge.set(i64::from(each == role));
        }
    }

    /// Sets `sluice_server_state`: 1 for that state, 0 for the others.
    pub fn set_state(&self, state: State) {
        for (gauge, each) in self.states.iter().zip(State::ALL) {
            gauge.set(i64::from(each == state));
        }
    }

    /// Sets `sluice_server_lag_seconds`. What is not known has no series: 0 would be a claim.
    pub fn set_lag(&self, lag: Option<Duration>) {
        let Some(gauges) = &self.lag else { return };
        match lag {
            Some(lag) => gauges.with_label_values(&[&self.name]).set(lag.as_secs_f64()),
            None => {
                let _ = gauges.remove_label_values(&[&self.name]);
            }
        }
    }

    /// The sum of `sluice_queries_total` of this server, for the status page.
    pub fn queries_total(&self) -> u64 {
        self.tally.total()
    }
}

const ROLES: [Role; 3] = [Role::Master, Role::Standby, Role::Replica];

/// All metrics of one proxy.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    up: IntGaugeVec,
    role: IntGaugeVec,
    state: IntGaugeVec,
    lag: GaugeVec,
    pool: IntGaugeVec,
    pinned: IntGaugeVec,
    failovers: IntCounterVec,
    errors: [IntCounter; 3],
    logins: [IntCounter; 3],
    servers: Arc<ArcSwap<Named>>,
    none: Arc<ServerMetrics>,
    /// `sluice_proxy_overhead_seconds`: a statement's time in Sluice, the server's time taken out.
    pub overhead: Overhead,
    /// `sluice_pool_wait_seconds`: how long statements waited for a connection.
    pub pool_wait: Histogram,
    /// `sluice_clients{state="active"}`: a statement is running.
    pub clients_active: IntGauge,
    /// `sluice_clients{state="idle"}`.
    pub clients_idle: IntGauge,
    /// `sluice_clients{state="login"}`: connected, not yet logged in.
    pub clients_login: IntGauge,
    /// `sluice_cache_hits_total`
    pub cache_hits: IntCounter,
    /// `sluice_cache_misses_total`
    pub cache_misses: IntCounter,
    /// `sluice_cache_stores_total`
    pub cache_stores: IntCounter,
    /// `sluice_cache_evictions_total`
    pub cache_evictions: IntCounter,
    /// `sluice_cache_invalidations_total`
    pub cache_invalidations: IntCounter,
    /// `sluice_cache_bytes`
    pub cache_bytes: IntGauge,
    /// `sluice_cache_store_up`
    pub cache_store_up: IntGauge,
    /// `sluice_cache_store_hits_total`
    pub cache_store_hits: IntCounter,
    /// `sluice_cache_store_misses_total`
    pub cache_store_misses: IntCounter,
    /// `sluice_cache_store_unfit_total`
    pub cache_store_unfit: IntCounter,
    /// `sluice_cache_store_errors_total`
    pub cache_store_errors: IntCounter,
    /// `sluice_failover_duration_seconds`
    pub failover_duration: Histogram,
    /// `sluice_held_statements`: waiting for a master now.
    pub held_statements: IntGauge,
    /// `sluice_spans_total{result="sent"}`
    pub spans_sent: IntCounter,
    /// `sluice_spans_total{result="dropped"}`
    pub spans_dropped: IntCounter,
}

/// Registration fails only for a wrong or doubled name: all are constants here, and a test makes one of each.
const CONSTANT: &str = "metric names are constants and differ";

fn add<C: prometheus::core::Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let collector = made.expect(CONSTANT);
    registry.register(Box::new(collector.clone())).expect(CONSTANT);
    collector
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

/// Every `kind` and `result` of `sluice_failovers_total`.
const FAILOVERS: [(&str, &str); 9] = [
    ("failover", "ok"),
    ("failover", "refused"),
    ("failover", "failed"),
    ("switchover", "ok"),
    ("switchover", "refused"),
    ("switchover", "failed"),
    ("rejoin", "ok"),
    ("rejoin", "refused"),
    ("rejoin", "failed"),
];

impl Metrics {
    /// All metrics at zero, with a registry of their own.
    pub fn new() -> Metrics {
        let r = Registry::new();
        let counter = |name: &str, help: &str| add(&r, IntCounter::new(name, help));
        let gauge = |name: &str, help: &str| add(&r, IntGauge::new(name, help));
        let counters = |name: &str, help: &str, labels: &[&str]| add(&r, IntCounterVec::new(Opts::new(name, help), labels));
        let gauges = |name: &str, help: &str, labels: &[&str]| add(&r, IntGaugeVec::new(Opts::new(name, help), labels));
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            add(&r, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
        };

        let build = gauges("sluice_build_info", "Always 1; the version is a label.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let up = gauges("sluice_server_up", "1 while the server answers heartbeats.", &["server"]);
        let role = gauges("sluice_server_role", "1 for the role the server has now.", &["server", "role"]);
        let state = gauges("sluice_server_state", "1 for the state the server is in.", &["server", "state"]);
        let lag =
            add(&r, GaugeVec::new(Opts::new("sluice_server_lag_seconds", "How far the server is behind the master."), &["server"]));
        let pool = gauges("sluice_pool_connections", "Connections to the server, by state.", &["server", "state"]);
        let clients = gauges("sluice_clients", "Clients connected, by state.", &["state"]);
        let errors = counters("sluice_errors_total", "Errors that clients got, by whose they were.", &["source"]);
        let logins = counters("sluice_logins_total", "Login attempts, by how they ended.", &["result"]);
        let spans = counters("sluice_spans_total", "Statements whose spans were to be sent, by what came of it.", &["result"]);
        Metrics {
            spans_sent: spans.with_label_values(&["sent"]),
            spans_dropped: spans.with_label_values(&["dropped"]),
            none: Arc::new(server_metrics("", None)),
            servers: Arc::new(ArcSwap::from_pointee(Vec::new())),
            clients_active: clients.with_label_values(&["active"]),
            clients_idle: clients.with_label_values(&["idle"]),
            clients_login: clients.with_label_values(&["login"]),
            errors: std::array::from_fn(|i| errors.with_label_values(&[ErrorSource::ALL[i].as_str()])),
            logins: std::array::from_fn(|i| logins.with_label_values(&[LoginResult::ALL[i].as_str()])),
            pinned: gauges("sluice_pinned_sessions", "Sessions bound to one server, by reason.", &["reason"]),
            failovers: {
                let failovers =
                    counters("sluice_failovers_total", "Failovers and switchovers, by how they ended.", &["kind", "result"]);
                // All there can be, from the start: a rate needs the zero before the first.
                for (kind, result) in FAILOVERS {
                    let _ = failovers.with_label_values(&[kind, result]);
                }
                failovers
            },
            overhead: Overhead::default(),
            pool_wait: histogram("sluice_pool_wait_seconds", "How long a statement waited for a connection.", WAIT_SECONDS),
            cache_hits: counter("sluice_cache_hits_total", "Reads answered from the cache."),
            cache_misses: counter("sluice_cache_misses_total", "Cacheable reads that were not in the cache."),
            cache_stores: counter("sluice_cache_stores_total", "Results stored."),
            cache_evictions: counter("sluice_cache_evictions_total", "Entries that gave way to others."),
            cache_invalidations: counter("sluice_cache_invalidations_total", "Entries voided by a write."),
            cache_bytes: gauge("sluice_cache_bytes", "Memory held by entries."),
            cache_store_up: gauge("sluice_cache_store_up", "1 while the shared store is asked."),
            cache_store_hits: counter("sluice_cache_store_hits_total", "Reads answered with what another proxy has stored."),
            cache_store_misses: counter("sluice_cache_store_misses_total", "Results the shared store did not have."),
            cache_store_unfit: counter("sluice_cache_store_unfit_total", "Stored results that were not good here."),
            cache_store_errors: counter("sluice_cache_store_errors_total", "Looks and puts that failed."),
            failover_duration: histogram("sluice_failover_duration_seconds", "From suspicion to the new master.", FAILOVER_SECONDS),
            held_statements: gauge("sluice_held_statements", "Statements waiting for a master."),
            registry: r,
            up,
            role,
            state,
            lag,
            pool,
        }
    }

    /// Names the servers, in the order of their `ServerId`s; at start and after a reload. Counters of a name that stays go
    /// on counting; series of names that are gone are removed. An empty name stands for a server that has left.
    pub fn set_servers<S: AsRef<str>>(&self, names: &[S]) {
        let known = self.servers.load_full();
        let next: Vec<Arc<ServerMetrics>> = names
            .iter()
            .map(|name| {
                let name = name.as_ref();
                if name.is_empty() {
                    return self.none.clone();
                }
                known.iter().find(|s| s.name == name).cloned().unwrap_or_else(|| {
                    let gauges =
                        ServerGauges { up: &self.up, role: &self.role, state: &self.state, lag: &self.lag, pool: &self.pool };
                    Arc::new(server_metrics(name, Some(gauges)))
                })
            })
            .collect();
        for gone in known.iter().filter(|s| !s.name.is_empty() && !next.iter().any(|n| n.name == s.name)) {
            let name = gone.name.as_str();
            let _ = self.up.remove_label_values(&[name]);
            let _ = self.lag.remove_label_values(&[name]);
            for role in ROLES {
                let _ = self.role.remove_label_values(&[name, role.as_str()]);
            }
            for state in State::ALL {
                let _ = self.state.remove_label_values(&[name, state.as_str()]);
            }
            for state in ["used", "idle"] {
                let _ = self.pool.remove_label_values(&[name, state]);
            }
        }
        self.servers.store(Arc::new(next));
    }

    /// The handles of a server, to be kept by whoever counts often. An id that was never named gets the handles of no server.
    pub fn server(&self, id: ServerId) -> Arc<ServerMetrics> {
        self.servers.load().get(id.index()).unwrap_or(&self.none).clone()
    }

    /// Counts with a server's handles, without keeping them.
    pub fn of_server<R>(&self, id: ServerId, count: impl FnOnce(&ServerMetrics) -> R) -> R {
        with_newest(&SEEN, &self.servers, |servers| count(servers.get(id.index()).unwrap_or(&self.none)))
    }

    /// The handles for statements that went to no server (target `cache`, `proxy`, `deny`).
    pub fn no_server(&self) -> &ServerMetrics {
        &self.none
    }

    /// All named servers.
    pub fn servers(&self) -> Vec<Arc<ServerMetrics>> {
        self.servers.load().to_vec()
    }

    /// `sluice_errors_total`
    pub fn errors(&self, source: ErrorSource) -> &IntCounter {
        &self.errors[source as usize]
    }

    /// `sluice_logins_total`
    pub fn logins(&self, result: LoginResult) -> &IntCounter {
        &self.logins[result as usize]
    }

    /// `sluice_pinned_sessions`; keep the handle, the look-up costs a lock.
    pub fn pinned(&self, reason: &str) -> IntGauge {
        self.pinned.with_label_values(&[reason])
    }

    /// `sluice_failovers_total`: `kind` is `failover`, `switchover` or `rejoin`, `result` is `ok`, `refused` or `failed`.
    pub fn failovers(&self, kind: &str, result: &str) -> IntCounter {
        self.failovers.with_label_values(&[kind, result])
    }

    /// Everything in Prometheus' text format.
    pub fn text(&self) -> String {
        let mut families = self.registry.gather();
        let servers = self.servers.load();
        let named = servers.iter().filter(|server| !server.name().is_empty());
        let tallies = named.chain([&self.none]).map(|server| (server.name(), &server.tally));
        families.extend(tally::families(tallies, &self.overhead));
        families.sort_by(|a, b| a.name().cmp(b.name()));
        families.retain(|family| !family.get_metric().is_empty());
        prometheus::TextEncoder::new().encode_to_string(&families).unwrap_or_else(|e| format!("# cannot be shown: {e}\n"))
    }
}

struct ServerGauges<'m> {
    up: &'m IntGaugeVec,
    role: &'m IntGaugeVec,
    state: &'m IntGaugeVec,
    lag: &'m GaugeVec,
    pool: &'m IntGaugeVec,
}

/// Without `gauges`, those handles stand for themselves and are not registered: "no server" is neither up nor behind.
fn server_metrics(name: &str, gauges: Option<ServerGauges<'_>>) -> ServerMetrics {
    let loose = || IntGauge::new("sluice_unregistered", "-").expect(CONSTANT);
    ServerMetrics {
        name: name.to_owned(),
        tally: Tally::default(),
        up: gauges.as_ref().map_or_else(loose, |g| g.up.with_label_values(&[name])),
        lag: gauges.as_ref().map(|g| g.lag.clone()),
        pool_used: gauges.as_ref().map_or_else(loose, |g| g.pool.with_label_values(&[name, "used"])),
        pool_idle: gauges.as_ref().map_or_else(loose, |g| g.pool.with_label_values(&[name, "idle"])),
        roles: ROLES.map(|role| gauges.as_ref().map_or_else(loose, |g| g.role.with_label_values(&[name, role.as_str()]))),
        states: State::ALL.map(|state| gauges.as_ref().map_or_else(loose, |g| g.state.with_label_values(&[name, state.as_str()]))),
    }
}

#[cfg(test)]
mod tests;
