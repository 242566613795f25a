//! What each server has of its own, so that it matters which one is asked.

/// System variables by which one asks which server answers; whichever answers tells its own.
pub(super) const IDENTITY: &[&str] = &["hostname", "port", "report_host", "report_port", "server_id", "server_uuid"];

/// Tables of `information_schema` that show the server itself and not its data, beside those of InnoDB.
pub(super) const OWN_TABLES: &[&str] = &[
    "client_statistics",
    "engines",
    // Whether an event is on: a replica has its own word for it.
    "events",
    "global_status",
    "global_variables",
    "index_statistics",
    "key_caches",
    "metadata_lock_info",
    "plugins",
    "all_plugins",
    "processlist",
    "profiling",
    "query_cache_info",
    "session_status",
    "session_variables",
    "system_variables",
    "table_statistics",
    "thread_pool_stats",
    "user_statistics",
    "user_variables",
];
