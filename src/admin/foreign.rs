//! The words that users of ProxySQL, PgBouncer, PgDog and MaxScale type: answered, or answered with what to type instead.
//!
//! Where our statement does the same, theirs is taken for it. Where it would do something else (three layers of
//! configuration, rows to update), it is refused with the statement that does what they want: never silently taken.

use super::answer::AdminError;
use crate::protocol::errno;

/// What a foreign statement means here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Meant {
    /// This statement of ours does it.
    Statement(String),
    /// Nothing does just that; this says what to type.
    Instead(AdminError),
}

/// A table of ProxySQL, as a view over ours.
pub struct View {
    /// Our tables that it reads.
    pub needs: &'static [&'static str],
    /// The SELECT behind it, in SQLite's words.
    pub sql: &'static str,
}

/// Beginnings of statements with the statement of ours that does the same. `*`: what follows is kept.
const SAME: &[(&str, &str)] = &[
    ("PROXYSQL PAUSE", "PAUSE"),
    ("PROXYSQL RESUME", "RESUME"),
    ("PROXYSQL SHUTDOWN SLOW", "SHUTDOWN"),
    ("PROXYSQL FLUSH QUERY CACHE", "FLUSH CACHE"),
    ("PROXYSQL RELOAD TLS", "RELOAD CONFIG"),
    ("SHOW MYSQL SERVERS", "SHOW SERVERS"),
    ("SHOW MYSQL USERS", "SHOW USERS"),
    ("SHOW MYSQL VARIABLES *", "SHOW VARIABLES"),
    ("SHOW MYSQL STATUS *", "SHOW STATUS"),
    ("SHOW ADMIN VARIABLES *", "SHOW VARIABLES"),
    ("SHOW MYSQL QUERY RULES", "SHOW RULES"),
    ("SHOW PROMETHEUS METRICS", "SHOW METRICS"),
    ("RELOAD", "RELOAD CONFIG"),
    ("RELOAD TLS", "RELOAD CONFIG"),
    ("SUSPEND", "PAUSE"),
    ("MAINTENANCE ON", "PAUSE"),
    ("MAINTENANCE OFF", "RESUME"),
    ("BAN *", "OFFLINE SERVER"),
    ("UNBAN *", "ONLINE SERVER"),
    ("RESET QUERY_CACHE", "FLUSH CACHE"),
    ("SHOW BANS", "SELECT name, state, since, reason FROM servers WHERE state <> 'online'"),
    ("SHOW STATS", "SHOW STATUS"),
    ("SHOW LISTS", "SHOW STATUS"),
    ("SHOW TOTALS", "SHOW STATUS"),
    ("SHOW AVERAGES", "SHOW STATUS"),
    ("SHOW STATS_TOTALS", "SHOW STATUS"),
    ("SHOW STATS_AVERAGES", "SHOW STATUS"),
    ("SHOW STATE", "SHOW STATUS LIKE 'Paused'"),
    ("SHOW SESSIONS", "SHOW CLIENTS"),
    ("SHOW CONNECTIONS", "SHOW CLIENTS"),
    ("SHOW QUERIES", "SHOW STATEMENTS"),
    ("SHOW DIGESTS", "SHOW STATEMENTS"),
    ("SHOW BACKENDS", "SHOW SERVERS"),
    ("SHOW HOSTS", "SHOW SERVERS"),
    ("SHOW TOPOLOGY", "SHOW SERVERS"),
    ("SHOW LAG", "SELECT name, role, state, lag_ms FROM servers"),
    ("SHOW SETTINGS", "SHOW VARIABLES"),
    ("SHOW LOG", "SHOW EVENTS"),
    ("SHOW LISTENERS", "SHOW VARIABLES LIKE '%.listen'"),
    ("SHOW REPLICATION", "SELECT name, role, state, lag_ms, gtid FROM servers"),
    ("SHOW REPLICAS", "SELECT * FROM servers WHERE role = 'replica'"),
    ("SHOW QUERY_CACHE", "SHOW CACHE"),
    ("SHOW TRANSACTIONS", "SELECT * FROM clients WHERE pin_reason = 'transaction'"),
    ("SHOW PINNED SESSIONS", "SELECT * FROM clients WHERE pin_reason IS NOT NULL"),
    ("LIST SERVERS", "SHOW SERVERS"),
    ("LIST SESSIONS", "SHOW CLIENTS"),
    ("LIST USERS", "SHOW USERS"),
    ("CALL COMMAND MARIADBMON REJOIN *", "REJOIN SERVER"),
];

const FILE: &str = "there is one configuration, the file: change it, look at SHOW CONFIG DIFF, then RELOAD CONFIG";
const SERVERS: &str = "for now: SET SERVER db3 WEIGHT 5, DRAIN SERVER db3 (OFFLINE_SOFT), OFFLINE SERVER db3 (OFFLINE_HARD), \
    ONLINE SERVER db3; to stay: [[server]] in the file, then RELOAD CONFIG";
const USERS: &str =
    "users are not kept here: whoever may log in at the servers may log in here; limits stand in [[user]] of the file";
const RULES: &str = "reads and writes are told apart without rules; exceptions stand in [[rule]] of the file, then RELOAD CONFIG";

/// Beginnings of statements that are not taken, with what to type instead.
const INSTEAD: &[(&str, &str)] = &[
    ("LOAD MYSQL SERVERS", SERVERS),
    ("LOAD MYSQL USERS", USERS),
    ("LOAD MYSQL QUERY RULES", RULES),
    ("LOAD MYSQL", FILE),
    ("LOAD ADMIN", FILE),
    ("LOAD PROXYSQL", FILE),
    ("LOAD SCHEDULER", "there is no scheduler; failover needs no scripts here"),
    ("SAVE MYSQL", "what commands changed is in force already; SAVE CONFIG writes it into the file"),
    ("SAVE ADMIN", "what commands changed is in force already; SAVE CONFIG writes it into the file"),
    ("SAVE PROXYSQL", "what commands changed is in force already; SAVE CONFIG writes it into the file"),
    ("SAVE CONFIG TO FILE", "SAVE CONFIG writes into the configuration file; SHOW CONFIG shows what runs"),
    ("SELECT CONFIG INTO OUTFILE", "SHOW CONFIG shows what runs; SAVE CONFIG writes runtime changes into the file"),
    ("PROXYSQL STOP", "PAUSE holds new statements, SHUTDOWN lets transactions end and exits"),
    ("PROXYSQL START", "it runs; RESUME ends a PAUSE"),
    (
        "PROXYSQL RESTART",
        "systemctl restart sluice, or whatever started it; RELOAD CONFIG does for most changes. SHUTDOWN ends it, and a service manager leaves it so",
    ),
    ("PROXYSQL SHUTDOWN", "SHUTDOWN lets transactions end and exits"),
    ("PROXYSQL KILL", "SHUTDOWN lets transactions end and exits; kill -9 does not"),
    ("PROXYSQL READONLY", "the admin account may do everything; there is no read-only mode"),
    ("PROXYSQL READWRITE", "the admin account may do everything; there is no read-only mode"),
    ("PROXYSQL FLUSH LOGS", "logs go to stderr; whoever collects them rotates them"),
    ("PROXYSQL FLUSH CONFIGDB", FILE),
    ("PROXYSQL FLUSH MYSQL CLIENT HOSTS", "clients' hosts are not counted or blocked"),
    ("CHECKSUM", "SHOW CONFIG DIFF compares the file with what runs"),
    ("RECONNECT", "DRAIN SERVER db3 closes its idle connections, ONLINE SERVER db3 brings it back"),
    ("WAIT_CLOSE", "SHOW POOLS shows when nothing is used any more"),
    ("SHOW PREPARED", "prepared statements belong to sessions: SHOW CLIENTS; their digests are in SHOW STATEMENTS"),
    ("SHOW DNS_HOSTS", "names are resolved anew for each connection; nothing is kept"),
    ("SHOW DNS_ZONES", "names are resolved anew for each connection; nothing is kept"),
    ("SHOW FDS", "SHOW CLIENTS and SHOW POOLS show the connections of clients and to servers"),
    ("SHOW SOCKETS", "SHOW CLIENTS and SHOW POOLS show the connections of clients and to servers"),
    ("SHOW ACTIVE_SOCKETS", "SHOW CLIENTS and SHOW POOLS show the connections of clients and to servers"),
    ("DISABLE", "PAUSE holds new statements of all; OFFLINE SERVER db3 takes a server out"),
    ("ENABLE", "RESUME lets statements go; ONLINE SERVER db3 brings a server back"),
    ("KILL_CLIENT", "KILL id ends a client; SHOW CLIENTS lists the ids"),
    ("SHUTDOWN WAIT_FOR_CLIENTS", "SHUTDOWN lets transactions end, for proxy.drain_timeout at most, and exits"),
    ("SHUTDOWN WAIT_FOR_SERVERS", "SHUTDOWN lets transactions end, for proxy.drain_timeout at most, and exits"),
    ("SHOW MASTER STATUS", REPLICATION),
    ("SHOW SLAVE STATUS", REPLICATION),
    ("SHOW ALL SLAVES STATUS", REPLICATION),
    ("SHOW REPLICA STATUS", REPLICATION),
    ("SHOW SLAVE HOSTS", REPLICATION),
    ("SHOW BINARY LOG STATUS", REPLICATION),
    ("SHOW BINARY LOGS", REPLICATION),
    ("SHOW ENGINE", "this is the proxy; its servers' engines are asked on the port of the clients"),
    ("SHOW PEERS", "each proxy stands alone; there are no peers"),
    ("SHOW MEM", "the process's memory is what the system says; SHOW METRICS has what is counted"),
    ("HEALTHCHECK", "every server is asked several times a second: SHOW SERVERS"),
    ("CALL COMMAND MARIADBMON SWITCHOVER", "write SWITCHOVER TO db2"),
    ("CALL COMMAND MARIADBMON ASYNC-SWITCHOVER", "write SWITCHOVER TO db2"),
    ("CALL COMMAND MARIADBMON FAILOVER", "write FAILOVER TO db2"),
    ("CALL COMMAND", "here there are SWITCHOVER TO db2, FAILOVER TO db2 and REJOIN SERVER db1"),
    ("ROUTER SET", "the hint /* sluice: master */ or /* sluice: replica */ in a statement, or [routing] in the file"),
];

const REPLICATION: &str =
    "SHOW SERVERS has each server's role, lag_ms and gtid; a server's own words are asked on the port of the clients";
const HOSTGROUPS: &str = "there are no hostgroups: [[server]] of the file has roles, and SHOW SERVERS says who is master now";
const SEEN: &str = "SHOW SERVERS has what is known of the servers, SHOW EVENTS what has changed";

/// Tables of ProxySQL that no view answers for, with what to ask instead.
const TABLES_INSTEAD: &[(&str, &str)] = &[
    (
        "stats_mysql_query_digest_reset",
        "SELECT from stats_mysql_query_digest, then FLUSH STATEMENTS: a SELECT changes nothing here",
    ),
    ("stats_mysql_commands_counters", "SELECT class, SUM(count), SUM(sum_us) FROM statements GROUP BY class"),
    ("stats_mysql_errors", "SELECT text, errors FROM statements WHERE errors > 0"),
    ("stats_mysql_prepared_statements_info", "SHOW STATEMENTS counts prepared statements with the others"),
    ("stats_mysql_free_connections", "SHOW POOLS has the idle connections"),
    ("stats_mysql_client_host_cache", "clients' hosts are not counted or blocked"),
    ("stats_memory_metrics", "SHOW METRICS has what is counted"),
    ("mysql_replication_hostgroups", HOSTGROUPS),
    ("mysql_group_replication_hostgroups", HOSTGROUPS),
    ("mysql_galera_hostgroups", HOSTGROUPS),
    ("mysql_hostgroup_attributes", HOSTGROUPS),
    ("mysql_server_connect_log", SEEN),
    ("mysql_server_ping_log", SEEN),
    ("mysql_server_read_only_log", SEEN),
    ("mysql_server_replication_lag_log", SEEN),
    ("mysql_query_rules_fast_routing", RULES),
    ("proxysql_servers", "each proxy stands alone; there are no peers"),
    ("scheduler", "there is no scheduler; failover needs no scripts here"),
];

/// What to ask in the place of a table of ProxySQL.
pub fn instead_of_table(name: &str) -> Option<&'static str> {
    let bare = name.strip_prefix("runtime_").unwrap_or(name);
    TABLES_INSTEAD.iter().find(|(table, _)| *table == bare).map(|(_, instead)| *instead)
}

/// What to type in the place of `INSERT`, `UPDATE`, `DELETE`, `REPLACE` or `TRUNCATE`: nothing is changed by changing rows.
fn instead_of_change(sql: &str) -> Option<&'static str> {
    let mut words = sql.split(|c: char| c.is_whitespace() || matches!(c, '(' | ';' | '`' | '.')).filter(|word| !word.is_empty());
    let verb = words.next()?;
    if !["INSERT", "UPDATE", "DELETE", "REPLACE", "TRUNCATE"].iter().any(|v| v.eq_ignore_ascii_case(verb)) {
        return None;
    }
    const BETWEEN: &[&str] = &["INTO", "FROM", "TABLE", "IGNORE", "OR", "REPLACE", "MAIN", "STATS", "DISK", "SLUICE"];
    let table = words.find(|word| !BETWEEN.iter().any(|w| w.eq_ignore_ascii_case(word)))?.to_lowercase();
    let bare = table.strip_prefix("runtime_").unwrap_or(&table);
    Some(match bare {
        "mysql_servers" | "servers" => SERVERS,
        "mysql_users" | "users" => USERS,
        "mysql_query_rules" | "rules" => RULES,
        "global_variables" | "config" | "variables" => FILE,
        "statements" | "stats_mysql_query_digest" => "FLUSH STATEMENTS forgets the statistics",
        "clients" | "processlist" => "KILL id ends a client",
        "cache" | "cache_entries" => "FLUSH CACHE [TABLE shop.items] forgets results",
        other => return instead_of_table(other),
    })
}

/// What a statement of another proxy means here; `None`: it is none.
pub fn meant(sql: &str) -> Option<Meant> {
    let typed: Vec<&str> = sql.trim_end_matches([';', ' ', '\n', '\t']).split_whitespace().collect();
    let begins = |form: &str| {
        let form: Vec<&str> = form.split(' ').collect();
        (typed.len() >= form.len() && form.iter().zip(&typed).all(|(a, b)| a.eq_ignore_ascii_case(b))).then_some(form.len())
    };
    for (theirs, ours) in SAME {
        match theirs.strip_suffix(" *") {
            Some(form) => {
                if let Some(n) = begins(form) {
                    let rest = typed.get(n..).unwrap_or_default().join(" ");
                    return Some(Meant::Statement(format!("{ours} {rest}").trim_end().to_owned()));
                }
            }
            None if begins(theirs).is_some_and(|n| n == typed.len()) => return Some(Meant::Statement((*ours).to_owned())),
            None => {}
        }
    }
    if let [set, server, name, word] = typed.as_slice()
        && set.eq_ignore_ascii_case("SET")
        && server.eq_ignore_ascii_case("SERVER")
    {
        // maxctrl set server db3 maintenance|drain
        match word.to_lowercase().as_str() {
            "maintenance" => return Some(Meant::Statement(format!("OFFLINE SERVER {name}"))),
            "drain" => return Some(Meant::Statement(format!("DRAIN SERVER {name}"))),
            _ => {}
        }
    }
    if let Some(variable) = typed.get(1).filter(|_| begins("SET").is_some()).map(|v| v.trim_matches('`').to_lowercase())
        && ["mysql-", "admin-"].iter().any(|prefix| variable.starts_with(prefix))
    {
        let name: String = variable.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).collect();
        let text = match key(&name) {
            Some(key) => format!("{name} is `{key}` here; {FILE}"),
            None => format!("{name} has no counterpart here; SHOW CONFIG lists the keys there are"),
        };
        return Some(Meant::Instead(AdminError::new(errno::ER_NOT_SUPPORTED_YET, text)));
    }
    if let [clear, server, name, _] = typed.as_slice()
        && clear.eq_ignore_ascii_case("CLEAR")
        && server.eq_ignore_ascii_case("SERVER")
    {
        // maxctrl clear server db3 maintenance|drain
        return Some(Meant::Statement(format!("ONLINE SERVER {name}")));
    }
    if let Some(instead) = instead_of_change(sql) {
        return Some(Meant::Instead(AdminError::new(errno::ER_NOT_SUPPORTED_YET, instead)));
    }
    let (_, instead) = INSTEAD.iter().find(|(theirs, _)| begins(theirs).is_some())?;
    Some(Meant::Instead(AdminError::new(errno::ER_NOT_SUPPORTED_YET, instead)))
}

/// Variables of ProxySQL with the key that says the same here.
pub const VARIABLES: &[(&str, &str)] = &[
    ("mysql-interfaces", "proxy.listen"),
    ("mysql-threads", "proxy.worker_threads"),
    ("mysql-max_connections", "proxy.max_clients"),
    ("mysql-proxy_protocol_networks", "proxy.proxy_protocol_from"),
    ("mysql-have_ssl", "proxy.tls.mode"),
    ("mysql-ssl_p2s_ca", "server.tls.ca"),
    ("mysql-monitor_username", "monitor.user"),
    ("mysql-monitor_password", "monitor.password"),
    ("mysql-monitor_ping_interval", "monitor.heartbeat_interval"),
    ("mysql-monitor_ping_timeout", "monitor.heartbeat_timeout"),
    ("mysql-connect_timeout_server_max", "pool.checkout_timeout"),
    ("mysql-connection_max_age_ms", "pool.max_lifetime"),
    ("mysql-query_cache_size_mb", "cache.max_memory"),
    ("admin-mysql_ifaces", "admin.listen"),
    ("admin-admin_credentials", "admin.user"),
    ("admin-restapi_port", "http.listen"),
];

/// The key of a variable of ProxySQL.
pub fn key(variable: &str) -> Option<&'static str> {
    VARIABLES.iter().find(|(name, _)| name.eq_ignore_ascii_case(variable)).map(|(_, key)| *key)
}

/// The schemas in which ProxySQL's tables stand.
pub fn is_schema(name: &str) -> bool {
    ["main", "stats", "disk", "stats_history", "monitor"].iter().any(|s| s.eq_ignore_ascii_case(name))
}

/// The view that answers for a table of ProxySQL.
pub fn view(name: &str) -> Option<View> {
    let lower = name.to_lowercase();
    let bare = lower.strip_prefix("runtime_").unwrap_or(&lower);
    let (needs, sql): (&[&str], &str) = match bare {
        "mysql_servers" => (
            &["servers"],
            "SELECT CASE role WHEN 'master' THEN 0 ELSE 1 END AS hostgroup_id, \
             substr(address, 1, instr(address, ':') - 1) AS hostname, CAST(substr(address, instr(address, ':') + 1) AS INTEGER) AS port, \
             0 AS gtid_port, CASE state WHEN 'online' THEN 'ONLINE' WHEN 'draining' THEN 'OFFLINE_SOFT' WHEN 'offline' THEN \
             'OFFLINE_HARD' ELSE 'SHUNNED' END AS status, weight, 0 AS compression, connections_max AS max_connections, \
             0 AS max_replication_lag, 0 AS use_ssl, 0 AS max_latency_ms, name AS comment FROM servers",
        ),
        "stats_mysql_connection_pool" => (
            &["servers"],
            "SELECT CASE role WHEN 'master' THEN 0 ELSE 1 END AS hostgroup, \
             substr(address, 1, instr(address, ':') - 1) AS srv_host, CAST(substr(address, instr(address, ':') + 1) AS INTEGER) AS srv_port, \
             CASE state WHEN 'online' THEN 'ONLINE' WHEN 'draining' THEN 'OFFLINE_SOFT' WHEN 'offline' THEN 'OFFLINE_HARD' ELSE \
             'SHUNNED' END AS status, connections_used AS ConnUsed, connections_idle AS ConnFree, errors AS ConnERR, \
             queries AS Queries, latency_us AS Latency_us FROM servers",
        ),
        "stats_mysql_query_digest" => (
            &["statements"],
            "SELECT target AS hostgroup, schema AS schemaname, user AS username, '' AS client_address, \
             '0x' || upper(digest) AS digest, text AS digest_text, count AS count_star, unix_timestamp(first_seen) AS first_seen, \
             unix_timestamp(last_seen) AS last_seen, sum_us AS sum_time, min_us AS min_time, max_us AS max_time, \
             `rows` AS sum_rows_sent FROM statements",
        ),
        "stats_mysql_processlist" => (
            &["clients"],
            "SELECT id AS SessionID, user, schema AS db, host AS cli_host, server AS srv_host, state AS command, \
             age_ms AS time_ms, statement AS info FROM clients",
        ),
        "stats_mysql_global" => (&["status"], "SELECT Variable_name, Value AS Variable_Value FROM status"),
        "stats_mysql_users" => (
            &["users"],
            "SELECT name AS username, connections AS frontend_connections, max_connections AS frontend_max_connections FROM users",
        ),
        "mysql_users" => (
            &["users"],
            "SELECT name AS username, NULL AS password, 1 AS active, 0 AS use_ssl, 0 AS default_hostgroup, \
             max_connections, source AS comment FROM users",
        ),
        "mysql_query_rules" => (
            &["rules"],
            "SELECT rule AS rule_id, 1 AS active, user AS username, schema AS schemaname, client AS client_addr, digest, \
             pattern AS match_digest, action AS destination_hostgroup, message AS error_msg, 1 AS apply FROM rules",
        ),
        "stats_mysql_query_rules" => (&["rules"], "SELECT rule AS rule_id, hits FROM rules"),
        "global_variables" => (&["variables"], "SELECT Variable_name AS variable_name, Value AS variable_value FROM variables"),
        _ => return None,
    };
    Some(View { needs, sql })
}
