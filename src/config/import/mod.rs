//! `sluice import-proxysql FILE`: a configuration of ProxySQL as one of ours, and what of it has no counterpart.
//!
//! What Sluice finds out by itself (users and passwords, who is master, which statements read) is left out on purpose, and
//! said to be. The result is a file to read and to check, not one to be put to use unseen.

mod clusters;
mod digest;
mod read;
mod servers;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ipnet::IpNet;

use read::{Row, Source};

/// What came out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Imported {
    /// The file.
    pub toml: String,
    /// What was left out, changed or has to be looked at.
    pub notes: Vec<String>,
}

/// Columns of a rule that do things which have no counterpart: a rule that uses one is left out.
const RULE_HAS_NOT: &[&str] =
    &["flagOUT", "replace_pattern", "mirror_hostgroup", "mirror_flagOUT", "proxy_addr", "proxy_port", "digest", "OK_msg"];
/// Columns of a rule that only change how it is carried out.
const RULE_IGNORED: &[&str] = &["timeout", "retries", "delay", "multiplex", "sticky_conn", "gtid_from_hostgroup", "reconnect"];
/// Patterns by which users of ProxySQL tell reads from writes, in lower case and without blanks.
const SPLIT: &[&str] =
    &["^select", "^select.*", "^select.*forupdate", "^select.*forupdate$", "^select.*forupdate.*", "^select.*forupdate.*$"];
/// ProxySQL's default of `mysql_users.max_connections`: as good as none.
const USER_CONNECTIONS_DEFAULT: &str = "10000";

/// Translates the text of a `proxysql.cnf` or of a dump of its tables. `wanted` names a host group of the cluster that is wanted, where there are
/// several.
///
/// # Errors
/// What is wrong with the text, with its line; or that it has several clusters.
pub fn proxysql(text: &str, wanted: Option<&str>) -> Result<Imported, String> {
    let source = read::read(text)?;
    let mut import =
        Import { source: &source, out: String::new(), notes: Vec::new(), groups: Groups::default(), others: BTreeSet::new() };
    import.others = clusters::others(&import.rows("mysql_replication_hostgroups"), &import.rows("mysql_servers"), wanted)?;
    if !import.others.is_empty() {
        let others: Vec<&str> = import.others.iter().map(String::as_str).collect();
        import.note(format!("the host groups {} are of other clusters and were left out with their servers", others.join(", ")));
    }
    import.groups = import.groups();
    import.proxy();
    import.monitor();
    import.servers();
    import.rules();
    import.users();
    import.rest();
    Ok(Imported { toml: import.out, notes: import.notes })
}

/// Which host group is for what.
#[derive(Default)]
struct Groups {
    writers: BTreeSet<String>,
    readers: BTreeSet<String>,
    /// Names of the servers in each.
    members: BTreeMap<String, Vec<String>>,
}

struct Import<'s> {
    source: &'s Source,
    out: String,
    notes: Vec<String>,
    groups: Groups,
    /// Host groups of other clusters.
    others: BTreeSet<String>,
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn get<'r>(row: &'r Row, column: &str) -> Option<&'r str> {
    row.get(column).map(String::as_str).filter(|v| !v.is_empty())
}

fn hostgroup(row: &Row) -> &str {
    get(row, "hostgroup_id").or_else(|| get(row, "hostgroup")).unwrap_or("0")
}

fn address(row: &Row) -> String {
    let host = get(row, "hostname").or_else(|| get(row, "address")).unwrap_or("127.0.0.1");
    match get(row, "port").unwrap_or("3306") {
        "0" => format!("unix:{host}"),
        port if host.contains(':') => format!("[{host}]:{port}"),
        port => format!("{host}:{port}"),
    }
}

impl Import<'_> {
    fn rows(&self, table: &str) -> Vec<Row> {
        // Of a dump with both, the runtime's table is what was in force.
        let runtime = format!("runtime_{table}");
        let mut rows = self.source.tables.get(&runtime).or_else(|| self.source.tables.get(table)).cloned().unwrap_or_default();
        match table {
            "mysql_servers" => rows.retain(|row| !self.others.contains(hostgroup(row))),
            "mysql_replication_hostgroups" => {
                rows.retain(|row| get(row, "writer_hostgroup").is_none_or(|g| !self.others.contains(g)))
            }
            _ => {}
        }
        rows
    }

    fn variable(&self, name: &str) -> Option<String> {
        let found = self.source.variables.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        // `(null)`: what ProxySQL itself writes for one that is not set.
        found.map(|(_, value)| value.clone()).filter(|v| !v.is_empty() && v != "(null)")
    }

    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// A number as it may be here: from 1 to `most`. What differs there is noted.
    fn number(&mut self, what: &str, value: &str, most: u64) -> Option<u64> {
        match value.parse::<u64>() {
            Ok(number) if (1..=most).contains(&number) => Some(number),
            Ok(number) if number > most => {
                self.note(format!("{what} is {value} there; here it is {most}, which is the most"));
                Some(most)
            }
            _ => {
                self.note(format!("{what} is {value} there, and was not taken: here it is a number from 1 to {most}"));
                None
            }
        }
    }

    fn groups(&self) -> Groups {
        let mut groups = Groups::default();
        for row in self.rows("mysql_replication_hostgroups") {
            groups.writers.extend(get(&row, "writer_hostgroup").map(str::to_owned));
            groups.readers.extend(get(&row, "reader_hostgroup").map(str::to_owned));
        }
        if groups.writers.is_empty() {
            // Without that table, users go to their default host group first: it has the writers.
            groups
                .writers
                .extend(self.rows("mysql_users").iter().filter_map(|row| get(row, "default_hostgroup").map(str::to_owned)));
        }
        let all: BTreeSet<String> = self.rows("mysql_servers").iter().map(|row| hostgroup(row).to_owned()).collect();
        if !groups.writers.iter().any(|group| all.contains(group)) {
            groups.writers.extend(all.first().cloned());
        }
        groups
    }

    fn key(&mut self, key: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.out, "{key} = {value}");
    }

    fn proxy(&mut self) {
        self.out.push_str("# Made by `sluice import-proxysql`. Read it, then `sluice check --online`.\n\n[proxy]\n");
        let listen = self.variable("mysql-interfaces").unwrap_or_else(|| "0.0.0.0:6033".to_owned());
        let each = |l: &str| if l.starts_with('/') { quoted(&format!("unix:{l}")) } else { quoted(l) };
        let all: Vec<String> = listen.split(';').map(str::trim).filter(|l| !l.is_empty()).map(each).collect();
        self.key("listen", format_args!("[{}]", all.join(", ")));
        let max = self.variable("mysql-max_connections");
        if let Some(max) = max.and_then(|max| self.number("mysql-max_connections", &max, 1_000_000)) {
            self.key("max_clients", max);
        }
        if let Some(networks) = self.variable("mysql-proxy_protocol_networks") {
            let networks = if networks == "*" { "0.0.0.0/0,::/0".to_owned() } else { networks };
            let all: Vec<String> = networks.split(',').map(|n| quoted(n.trim())).collect();
            self.key("proxy_protocol_from", format_args!("[{}]", all.join(", ")));
        }
        if let Some(threads) = self.variable("mysql-threads") {
            self.note(format!("mysql-threads = {threads}: not taken, proxy.worker_threads = 0 is one thread for each core"));
        }
        if self.variable("mysql-have_ssl").is_some_and(|v| v == "false" || v == "0") {
            self.out.push_str("tls = { mode = \"disabled\" }\n");
        }
        let milliseconds = |v: String| v.parse::<u64>().ok().filter(|ms| *ms > 0);
        let wait = self.variable("mysql-connect_timeout_server_max").and_then(milliseconds);
        let age = self.variable("mysql-connection_max_age_ms").and_then(milliseconds);
        if wait.is_some() || age.is_some() {
            self.out.push_str("\n[pool]\n");
            for (key, ms) in [("checkout_timeout", wait), ("max_lifetime", age)] {
                if let Some(ms) = ms {
                    self.key(key, format_args!("\"{ms}ms\""));
                }
            }
        }
        self.out.push_str("\n[admin]\n");
        if let Some(listen) = self.variable("admin-mysql_ifaces") {
            let first = listen.split(';').next().unwrap_or_default().to_owned();
            if listen.contains(';') {
                self.note(format!("admin-mysql_ifaces = {listen}: the admin port listens on one address, {first}"));
            }
            self.key("listen", quoted(&first));
        }
        if let Some(credentials) = self.variable("admin-admin_credentials") {
            let first = credentials.split(';').next().unwrap_or_default();
            let (user, password) = first.split_once(':').unwrap_or((first, ""));
            self.key("user", quoted(user));
            self.key("password", quoted(password));
            if credentials.contains(';') {
                self.note(format!("admin-admin_credentials: the admin port has one account, `{user}`; the others were left out"));
            }
        }
    }

    fn monitor(&mut self) {
        self.out.push_str("\n[monitor]\n");
        let user = self.variable("mysql-monitor_username").unwrap_or_else(|| "monitor".to_owned());
        self.key("user", quoted(&user));
        let password = self.variable("mysql-monitor_password").unwrap_or_else(|| "monitor".to_owned());
        self.key("password", quoted(&password));
        let lags = self.rows("mysql_servers").iter().filter_map(|r| get(r, "max_replication_lag")?.parse::<u64>().ok()).max();
        if let Some(seconds) = lags.filter(|s| *s > 0) {
            self.key("max_lag", format_args!("\"{seconds}s\""));
        }
        self.note(format!("the account `{user}` needs the grants of docs/grants.md on every server"));
        let intervals =
            ["mysql-monitor_ping_interval", "mysql-monitor_read_only_interval", "mysql-monitor_replication_lag_interval"];
        if intervals.iter().any(|name| self.variable(name).is_some()) {
            self.note(
                "the monitor's intervals were not taken: Sluice asks every server four times a second, monitor.heartbeat_interval",
            );
        }
    }

    fn rules(&mut self) {
        let mut rows = self.rows("mysql_query_rules");
        rows.retain(|row| get(row, "active") != Some("0"));
        rows.sort_by_key(|row| get(row, "rule_id").and_then(|id| id.parse::<u64>().ok()).unwrap_or(u64::MAX));
        let mut kept: Vec<u64> = Vec::new();
        for row in rows {
            let id = get(&row, "rule_id").unwrap_or("?").to_owned();
            match self.rule(&row) {
                Ok(text) => {
                    self.doubts(&id, &row);
                    if text.contains("\naction = \"cache\"\n") {
                        kept.extend(get(&row, "cache_ttl").and_then(|ttl| ttl.parse::<u64>().ok()));
                    }
                    self.out.push_str(&text);
                }
                Err(why) => self.note(format!("rule {id} was left out: {why}")),
            }
            let ignored: Vec<&str> =
                RULE_IGNORED.iter().copied().filter(|c| get(&row, c).is_some_and(|v| v != "0" && v != "-1")).collect();
            if !ignored.is_empty() {
                self.note(format!("rule {id}: {} has no counterpart", ignored.join(", ")));
            }
        }
        self.cache(kept.into_iter().max());
    }

    /// What a rule that was taken may do otherwise than there.
    fn doubts(&mut self, id: &str, row: &Row) {
        let digest = get(row, "match_digest").filter(|_| get(row, "match_pattern").is_none());
        if let Some(Ok((_, differs))) = digest.map(digest::pattern) {
            let how = if differs { ", and was rewritten: values for `?`, any white space for a space" } else { "" };
            self.note(format!(
                "rule {id}: match_digest is a `pattern` here, which sees statements as they were sent, comments and values included{how}; try it with `sluice explain`"
            ));
        }
        if get(row, "apply").unwrap_or("0") == "0" && get(row, "error_msg").is_none() {
            self.note(format!(
                "rule {id}: without apply = 1 later rules were looked at there; here the first rule that matches is the last"
            ));
        }
    }

    /// `[cache]`, when a rule asks for it. `ttl` in ms is the longest of theirs.
    fn cache(&mut self, ttl: Option<u64>) {
        let memory = self.variable("mysql-query_cache_size_MB").and_then(|v| v.parse::<u64>().ok());
        let Some(ttl) = ttl else {
            if memory.is_some() {
                self.note("mysql-query_cache_size_MB: no rule has a cache_ttl; the cache stays off");
            }
            return;
        };
        let _ = write!(self.out, "\n[cache]\nenabled = true\nttl = \"{ttl}ms\"\n");
        if let Some(memory) = memory.filter(|memory| *memory > 0) {
            self.key("max_memory", format_args!("\"{memory}MiB\""));
        }
        self.note(
            "cached results are void when their tables are written to; cache.ttl is only the longest that one is kept, the same for all rules",
        );
    }

    fn rule(&self, row: &Row) -> Result<String, String> {
        let (text, digest) = (get(row, "match_pattern"), get(row, "match_digest"));
        if text.is_some() && digest.is_some() {
            return Err("it has match_pattern and match_digest, and a rule has one `pattern`".to_owned());
        }
        let pattern = text.or(digest);
        let conditions = ["username", "schemaname", "client_addr"].iter().any(|c| get(row, c).is_some());
        let squeezed = pattern.unwrap_or_default().to_lowercase().replace(' ', "");
        let target = get(row, "destination_hostgroup");
        if !conditions && SPLIT.contains(&squeezed.as_str()) && target.is_some_and(|t| self.is_known(t)) {
            return Err("it tells reads from writes, which Sluice does by itself".to_owned());
        }
        let has_not: Vec<&str> =
            RULE_HAS_NOT.iter().copied().filter(|c| get(row, c).is_some_and(|v| v != "0" && v != "-1")).collect();
        if !has_not.is_empty() || get(row, "flagIN").is_some_and(|v| v != "0") {
            let names = if has_not.is_empty() { "flagIN".to_owned() } else { has_not.join(", ") };
            return Err(format!("{names} has no counterpart"));
        }
        if get(row, "negate_match_pattern") == Some("1") {
            return Err("a negated pattern has no counterpart; put a rule for the opposite before it".to_owned());
        }
        if let Some(group) = target.filter(|group| self.others.contains(*group)) {
            return Err(format!("host group {group} is of another cluster"));
        }
        let action = match (get(row, "error_msg"), get(row, "cache_ttl").filter(|t| *t != "0"), target) {
            (Some(_), ..) => "deny".to_owned(),
            (None, Some(_), _) => "cache".to_owned(),
            (None, None, Some(group)) if self.groups.writers.contains(group) => "master".to_owned(),
            (None, None, Some(group)) if self.groups.readers.contains(group) => "replica".to_owned(),
            (None, None, Some(group)) => match self.groups.members.get(group).map(Vec::as_slice) {
                Some([one]) => format!("server:{one}"),
                Some(_) => "replica".to_owned(),
                None => return Err(format!("host group {group} has no server")),
            },
            (None, None, None) => return Err("it sends nowhere, denies nothing and keeps nothing".to_owned()),
        };
        let mut text = format!("\n# rule {}\n[[rule]]\n", get(row, "rule_id").unwrap_or("?"));
        for (column, key) in [("username", "user"), ("schemaname", "schema")] {
            if let Some(value) = get(row, column) {
                let _ = writeln!(text, "{key} = {}", quoted(value));
            }
        }
        if let Some(client) = get(row, "client_addr") {
            let network = network(client).ok_or_else(|| format!("client_addr {client} is no address or network"))?;
            let _ = writeln!(text, "client = \"{network}\"");
        }
        let translated = digest.map(digest::pattern).transpose()?.map(|(pattern, _)| pattern);
        if let Some(pattern) = translated.as_deref().or(pattern) {
            let caseless = get(row, "re_modifiers").is_none_or(|m| m.to_uppercase().contains("CASELESS"));
            let pattern = format!("{}{pattern}", if caseless && !pattern.starts_with("(?i)") { "(?i)" } else { "" });
            regex::Regex::new(&pattern)
                .map_err(|e| format!("its pattern is not understood: {}", e.to_string().replace('\n', " ")))?;
            let _ = writeln!(text, "pattern = {}", quoted(&pattern));
        }
        let _ = writeln!(text, "action = {}", quoted(&action));
        if let Some(message) = get(row, "error_msg") {
            let _ = writeln!(text, "message = {}", quoted(message));
        }
        Ok(text)
    }

    fn is_known(&self, group: &str) -> bool {
        self.groups.writers.contains(group) || self.groups.readers.contains(group) || self.groups.members.contains_key(group)
    }

    fn users(&mut self) {
        let rows = self.rows("mysql_users");
        if !rows.is_empty() {
            self.note(format!(
                "{} users were left out: whoever may log in at the servers may log in here, with that password",
                rows.len()
            ));
        }
        let mut seen = BTreeSet::new();
        for row in rows {
            let Some(name) = get(&row, "username").map(str::to_owned) else { continue };
            if !seen.insert(name.clone()) {
                continue;
            }
            let group = get(&row, "default_hostgroup").unwrap_or("0").to_owned();
            if self.others.contains(&group) {
                self.note(format!("user {name} was left out: default_hostgroup {group} is of another cluster"));
                continue;
            }
            if !self.groups.writers.contains(&group) {
                self.note(format!(
                    "user {name}: default_hostgroup {group} was dropped: reads go to replicas and writes to the master; a [[rule]] with user = {} sends it elsewhere",
                    quoted(&name)
                ));
            }
            if get(&row, "active") == Some("0") {
                self.note(format!("user {name} is not active there; here the servers decide"));
            }
            if get(&row, "fast_forward") == Some("1") {
                self.note(format!("user {name}: fast_forward has no counterpart"));
            }
            let max = get(&row, "max_connections").filter(|m| *m != USER_CONNECTIONS_DEFAULT);
            if let Some(max) = max.and_then(|max| self.number(&format!("max_connections of user {name}"), max, 1_000_000)) {
                let _ = write!(self.out, "\n[[user]]\nname = {}\nmax_connections = {max}\n", quoted(&name));
            }
        }
    }

    /// Tables and variables that nobody has looked at.
    fn rest(&mut self) {
        for (name, key, how) in [
            ("mysql-ssl_p2s_ca", "server.tls.ca", "tls = { mode = \"verify_ca\", ca = \"FILE\" } in each [[server]]"),
            ("admin-restapi_port", "http.listen", "/metrics is on http.listen, 127.0.0.1:6070 if nothing is said"),
        ] {
            if let Some(value) = self.variable(name) {
                self.note(format!("{name} = {value} was not taken ({key}): {how}"));
            }
        }
        let known = ["mysql_servers", "mysql_users", "mysql_query_rules", "mysql_replication_hostgroups"];
        let others: Vec<String> = self
            .source
            .tables
            .iter()
            .filter(|(name, rows)| !known.contains(&name.trim_start_matches("runtime_")) && !rows.is_empty())
            .map(|(name, rows)| format!("{name} ({} rows)", rows.len()))
            .collect();
        if !others.is_empty() {
            self.note(format!("no counterpart: {}", others.join(", ")));
        }
        let taken = crate::admin::foreign::VARIABLES;
        let left: Vec<&str> = self
            .source
            .variables
            .keys()
            .filter(|name| !name.starts_with("mysql-monitor_") && !taken.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)))
            .map(String::as_str)
            .collect();
        if !left.is_empty() {
            self.note(format!("{} variables have no counterpart: {}", left.len(), left.join(", ")));
        }
    }
}

/// `10.1.2.3`, `10.1.0.0/16`, `10.1.%`
fn network(text: &str) -> Option<String> {
    if text.parse::<IpNet>().is_ok() || text.parse::<std::net::IpAddr>().is_ok() {
        return Some(text.to_owned());
    }
    let parts: Vec<&str> = text.strip_suffix('%')?.trim_end_matches('.').split('.').filter(|p| !p.is_empty()).collect();
    if parts.len() > 3 || parts.iter().any(|p| p.parse::<u8>().is_err()) {
        return None;
    }
    let mut bytes = parts.clone();
    bytes.resize(4, "0");
    Some(format!("{}/{}", bytes.join("."), parts.len() * 8))
}

#[cfg(test)]
mod tests;
