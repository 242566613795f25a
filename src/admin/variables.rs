//! The `@@variables` that drivers and tools ask for when they connect, with what the admin port answers.
//!
//! Sources: what Connector/J, Go's driver, mysql-connector-python, Workbench, DBeaver and HeidiSQL send.

use super::answer::Value;
use super::nearest::nearest;

/// What the greeting and `VERSION()` say: a MySQL version that drivers know, and who is really there.
pub const SERVER_VERSION: &str = concat!("8.4.0-Sluice-", env!("CARGO_PKG_VERSION"));
/// The packets the admin port takes; see `server::PACKET_BYTES_MAX`.
const MAX_ALLOWED_PACKET: u64 = super::wire::PACKET_BYTES_MAX as u64;

/// `@@wait_timeout`, seconds: MySQL's default.
pub(super) const WAIT_TIMEOUT_S: u64 = 28_800;

/// The value of a variable by its name in lower case, without `@@` and scope.
pub fn system(name: &str) -> Option<Value> {
    Some(match name {
        "version" => Value::from(SERVER_VERSION),
        "version_comment" => Value::from("Sluice admin"),
        "version_compile_os" => Value::from("Linux"),
        "version_compile_machine" => Value::from(std::env::consts::ARCH),
        "max_allowed_packet" => Value::UInt(MAX_ALLOWED_PACKET),
        "auto_increment_increment" | "auto_increment_offset" | "autocommit" => Value::UInt(1),
        "interactive_timeout" | "wait_timeout" => Value::UInt(WAIT_TIMEOUT_S),
        "net_write_timeout" => Value::UInt(60),
        "net_read_timeout" => Value::UInt(30),
        "net_buffer_length" => Value::UInt(16_384),
        "lower_case_table_names"
        | "performance_schema"
        | "query_cache_size"
        | "sql_auto_is_null"
        | "read_only"
        | "super_read_only"
        | "have_ssl"
        | "pseudo_thread_id"
        | "identity"
        | "last_insert_id"
        | "error_count"
        | "warning_count" => Value::UInt(0),
        "transaction_read_only" | "tx_read_only" => Value::UInt(0),
        "sql_safe_updates" | "big_tables" | "foreign_key_checks" | "unique_checks" => Value::UInt(0),
        "port" => Value::UInt(6032),
        "character_set_client"
        | "character_set_connection"
        | "character_set_results"
        | "character_set_server"
        | "character_set_system"
        | "character_set_database" => Value::from("utf8mb4"),
        "collation_connection" | "collation_server" | "collation_database" => Value::from("utf8mb4_general_ci"),
        "transaction_isolation" | "tx_isolation" => Value::from("REPEATABLE-READ"),
        "default_storage_engine" | "storage_engine" => Value::from("SLUICE"),
        "license" => Value::from("Apache-2.0"),
        "query_cache_type" => Value::from("OFF"),
        "time_zone" => Value::from("+00:00"),
        "system_time_zone" => Value::from("UTC"),
        "sql_mode"
        | "init_connect"
        | "socket"
        | "datadir"
        | "basedir"
        | "log_bin"
        | "proxy_user"
        | "external_user"
        | "ssl_ca"
        | "ssl_cert"
        | "ssl_key"
        | "plugin_dir"
        | "default_authentication_plugin" => Value::from(""),
        "hostname" => Value::from("sluice"),
        _ => return None,
    })
}

/// The variables that `SHOW VARIABLES` lists besides the house's own.
pub const LISTED: &[&str] = &[
    "auto_increment_increment",
    "autocommit",
    "character_set_client",
    "character_set_connection",
    "character_set_results",
    "character_set_server",
    "collation_connection",
    "collation_server",
    "init_connect",
    "interactive_timeout",
    "license",
    "lower_case_table_names",
    "max_allowed_packet",
    "net_write_timeout",
    "performance_schema",
    "query_cache_size",
    "query_cache_type",
    "sql_mode",
    "system_time_zone",
    "time_zone",
    "transaction_isolation",
    "version",
    "version_comment",
    "wait_timeout",
];

/// What to say about a variable that nobody knows.
pub fn advice(name: &str) -> String {
    match nearest(name, LISTED.iter().copied()) {
        Some(near) => format!("did you mean `@@{near}`?"),
        None => "SHOW VARIABLES lists those there are".to_owned(),
    }
}
