//! The names of all sections and keys. A test holds this list, the types and `config/sluice.toml` together.

/// Sections by path, with their keys. `server` , `rule` and `user` are lists of tables.
pub const ALL: &[(&str, &[&str])] = &[
    ("proxy", PROXY),
    ("proxy.tls", PROXY_TLS),
    ("monitor", MONITOR),
    ("server", SERVER),
    ("server.tls", SERVER_TLS),
    ("failover", FAILOVER),
    ("routing", ROUTING),
    ("rule", RULE),
    ("cache", CACHE),
    ("pool", POOL),
    ("auth", AUTH),
    ("user", USER),
    ("admin", ADMIN),
    ("http", HTTP),
    ("tracing", TRACING),
];

/// Top-level names.
pub const TOP: &[&str] =
    &["proxy", "monitor", "server", "failover", "routing", "rule", "cache", "pool", "auth", "user", "admin", "http", "tracing"];
/// Those written `[[name]]`.
pub const LISTS: &[&str] = &["server", "rule", "user"];

/// Keys of `[proxy]`.
pub const PROXY: &[&str] = &[
    "listen",
    "tls",
    "max_clients",
    "drain_timeout",
    "proxy_protocol_from",
    "worker_threads",
    "io_uring",
    "slow_statement",
    "upgrade_socket",
    "upgrade_timeout",
];
/// Keys of `proxy.tls`.
pub const PROXY_TLS: &[&str] = &["mode", "cert", "key", "client_ca"];
/// Keys of `[monitor]`.
pub const MONITOR: &[&str] =
    &["user", "password", "password_file", "password_env", "heartbeat_interval", "heartbeat_timeout", "max_lag", "heartbeat_table"];
/// Keys of `[[server]]`.
pub const SERVER: &[&str] =
    &["name", "address", "role", "zone", "weight", "max_connections", "compression", "proxy_protocol", "tls"];
/// Keys of `server.tls`.
pub const SERVER_TLS: &[&str] = &["mode", "ca"];
/// Keys of `[failover]`.
pub const FAILOVER: &[&str] = &["mode", "hold_timeout", "max_lost_transactions", "promote_replicas", "transaction_replay"];
/// Keys of `[routing]`.
pub const ROUTING: &[&str] = &["read_balance", "consistency", "read_from_master", "zone"];
/// Keys of `[[rule]]`.
pub const RULE: &[&str] = &["user", "schema", "pattern", "digest", "client", "action", "message"];
/// Keys of `[cache]`.
pub const CACHE: &[&str] = &["enabled", "max_memory", "ttl", "refresh_ahead", "default", "store", "invalidate"];
/// Keys of `[pool]`.
pub const POOL: &[&str] = &["idle_timeout", "max_lifetime", "checkout_timeout", "max_prepared_per_connection"];
/// Keys of `[auth]`.
pub const AUTH: &[&str] = &["source"];
/// Keys of `[[user]]`.
pub const USER: &[&str] =
    &["name", "password", "password_file", "password_env", "max_connections", "read_only", "schemas", "hosts"];
/// Keys of `[admin]`.
pub const ADMIN: &[&str] = &["listen", "user", "password", "password_file", "password_env"];
/// Keys of `[tracing]`.
pub const TRACING: &[&str] = &["otlp_endpoint", "otlp_ca", "sample_every", "service_name"];
/// Keys of `[http]`.
pub const HTTP: &[&str] = &["listen"];

/// How a section is written in the file.
pub fn shown(section: &str) -> String {
    if LISTS.contains(&section) {
        format!("[[{section}]]")
    } else if section.contains('.') {
        format!("`{section}`")
    } else {
        format!("[{section}]")
    }
}
