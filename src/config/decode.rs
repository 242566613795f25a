//! From the parsed document to the types, one function a section. Checks that need several keys are in [`super::check`].

use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys;
use super::read::{Report, Section, Value};
use super::secrets::{self, Outside};
use super::types::*;
use super::units::{Period, Size};
use crate::admin::nearest::nearest;

const SECOND: Period = Period::from_secs(1);
const HOUR: Period = Period::from_secs(3600);
const YEAR: Period = Period::from_secs(365 * 86_400);
/// More server entries are a generated mistake; `ServerId` holds 16 bits and every statement looks at all of them.
const SERVERS_MAX: usize = 256;
/// Rules are tried one after the other for each new statement and user.
const RULES_MAX: usize = 10_000;

/// Reads everything; what is missing or wrong has its default.
pub fn document(root: &DeTable<'_>, report: &mut Report<'_>, outside: &dyn Outside) -> Config {
    for (key, value) in root {
        let name: &str = key.get_ref();
        let is_list = keys::LISTS.contains(&name);
        if keys::TOP.contains(&name) {
            match value.get_ref() {
                DeValue::Table(_) if is_list => {
                    report.marks.insert(name.to_owned(), key.span());
                    report.wrong_at(key.span(), format!("[{name}] is a list"), Some(format!("write [[{name}]]")));
                }
                DeValue::Array(_) if !is_list => {
                    report.wrong_at(key.span(), format!("[[{name}]] is no list"), Some(format!("write [{name}]")));
                }
                DeValue::Table(_) | DeValue::Array(_) => {}
                _ => report.wrong_at(key.span(), format!("`{name}` is a section"), Some(format!("write {}", keys::shown(name)))),
            }
            continue;
        }
        let advice = if let Some((home, _)) = keys::ALL.iter().find(|(_, keys)| keys.contains(&name)) {
            format!("`{name}` belongs below {}", keys::shown(home))
        } else {
            match nearest(name.trim_end_matches('s'), keys::TOP.iter().copied()) {
                Some(near) => format!("did you mean {}?", keys::shown(near)),
                None => format!("the sections are {}", keys::TOP.iter().map(|k| keys::shown(k)).collect::<Vec<_>>().join(", ")),
            }
        };
        let what = if matches!(value.get_ref(), DeValue::Table(_) | DeValue::Array(_)) { "section" } else { "key" };
        report.wrong_at(key.span(), format!("unknown {what} `{name}`"), Some(advice));
    }

    let servers = list(root, "server", keys::SERVER, SERVERS_MAX, report, |s, r| server(s, r, outside));
    let rules = list(root, "rule", keys::RULE, RULES_MAX, report, rule).into_iter().flatten().collect();
    let users = list(root, "user", keys::USER, usize::MAX, report, |s, r| user(s, r, outside));
    Config {
        proxy: proxy(&section(root, "proxy", keys::PROXY, report), report, outside),
        monitor: monitor(&section(root, "monitor", keys::MONITOR, report), report, outside),
        servers,
        failover: failover(&section(root, "failover", keys::FAILOVER, report), report),
        routing: routing(&section(root, "routing", keys::ROUTING, report), report),
        rules,
        cache: cache(&section(root, "cache", keys::CACHE, report), report),
        pool: pool(&section(root, "pool", keys::POOL, report), report),
        auth: Auth { source: section(root, "auth", keys::AUTH, report).get("source", Auth::default().source, report) },
        users,
        admin: admin(&section(root, "admin", keys::ADMIN, report), report, outside),
        http: Http { listen: section(root, "http", keys::HTTP, report).address_or_off("listen", Http::default().listen, report) },
        tracing: super::watch::tracing(&section(root, "tracing", keys::TRACING, report), report, outside),
        warnings: Vec::new(),
    }
}

fn section<'d, 'i>(root: &'d DeTable<'i>, name: &str, keys: &'static [&'static str], report: &mut Report<'_>) -> Section<'d, 'i> {
    let entry = root.get_key_value(name);
    let table = entry.and_then(|(_, value)| match value.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => None,
    });
    Section::new(table, entry.map(|(key, _)| key.span()), name, keys, report)
}

fn list<'i, T>(
    root: &DeTable<'i>,
    name: &str,
    keys: &'static [&'static str],
    most: usize,
    report: &mut Report<'_>,
    read: impl Fn(&Section<'_, 'i>, &mut Report<'_>) -> T,
) -> Vec<T> {
    let Some((key, value)) = root.get_key_value(name) else { return Vec::new() };
    let DeValue::Array(array) = value.get_ref() else { return Vec::new() };
    report.marks.insert(name.to_owned(), key.span());
    if array.len() > most {
        report.wrong_at(key.span(), format!("{} entries of [[{name}]]", array.len()), Some(format!("the most are {most}")));
    }
    let mut all = Vec::new();
    for (i, element) in array.iter().enumerate().take(most) {
        let path = format!("{name}[{i}]");
        match element.get_ref() {
            DeValue::Table(table) => {
                let section = Section::new(Some(table), Some(element.span()), &path, keys, report);
                all.push(read(&section, report));
            }
            _ => report.wrong_at(element.span(), format!("an entry of [[{name}]] must be a table"), None),
        }
    }
    all
}

fn proxy(s: &Section<'_, '_>, r: &mut Report<'_>, outside: &dyn Outside) -> Proxy {
    let d = Proxy::default();
    let tls = s.table("tls", keys::PROXY_TLS, r);
    let file = |key: &'static str, r: &mut Report<'_>| {
        let file = tls.optional(key, r);
        secrets::readable(r, &tls.path_of(key), file, outside)
    };
    let cert = file("cert", r);
    let key = file("key", r);
    let client_ca = file("client_ca", r);
    Proxy {
        listen: s.get("listen", d.listen, r),
        tls: ClientTls { mode: tls.get("mode", d.tls.mode, r), cert, key, client_ca },
        max_clients: s.number("max_clients", d.max_clients, 1..=1_000_000, r),
        drain_timeout: s.period("drain_timeout", d.drain_timeout, Period::default()..=HOUR, r),
        proxy_protocol_from: s.get("proxy_protocol_from", d.proxy_protocol_from, r),
        worker_threads: s.number("worker_threads", d.worker_threads, 0..=1024, r),
        io_uring: s.get("io_uring", d.io_uring, r),
        slow_statement: s.period("slow_statement", d.slow_statement, Period::default()..=HOUR, r),
        upgrade_socket: upgrade_socket(s, d.upgrade_socket, r),
        upgrade_timeout: s.period("upgrade_timeout", d.upgrade_timeout, Period::default()..=YEAR, r),
    }
}

/// The longest path of a unix socket that something can be bound beside: 107 bytes with `.new` behind it.
const UPGRADE_SOCKET_BYTES_MAX: usize = 103;

fn upgrade_socket(s: &Section<'_, '_>, default: String, r: &mut Report<'_>) -> String {
    let path: String = s.get("upgrade_socket", default, r);
    if !path.is_empty() && (!path.starts_with('/') || path.len() > UPGRADE_SOCKET_BYTES_MAX) {
        let why = format!("`{path}` is not a whole path of at most {UPGRADE_SOCKET_BYTES_MAX} bytes");
        r.wrong(&s.path_of("upgrade_socket"), why, "write it like \"/run/sluice/upgrade.sock\"");
    }
    path
}

fn monitor(s: &Section<'_, '_>, r: &mut Report<'_>, outside: &dyn Outside) -> Monitor {
    let d = Monitor::default();
    Monitor {
        user: s.get("user", d.user, r),
        secret: secrets::credential(s, r, outside),
        heartbeat_interval: s.period("heartbeat_interval", d.heartbeat_interval, Period::from_millis(10)..=HOUR, r),
        heartbeat_timeout: s.period("heartbeat_timeout", d.heartbeat_timeout, Period::from_millis(50)..=HOUR, r),
        max_lag: s.period("max_lag", d.max_lag, Period::from_millis(1)..=YEAR, r),
        heartbeat_table: s.get("heartbeat_table", d.heartbeat_table, r),
    }
}

fn server(s: &Section<'_, '_>, r: &mut Report<'_>, outside: &dyn Outside) -> Server {
    let d = Server::default();
    for (key, advice) in [
        ("name", "give it a name of its own, like name = \"db1\""),
        ("address", "say where it listens, like address = \"10.0.0.11:3306\""),
    ] {
        if s.raw(key).is_none() {
            let path = s.path_of(key);
            r.wrong(&path, format!("this server has no `{key}`"), advice);
        }
    }
    let tls = s.table("tls", keys::SERVER_TLS, r);
    let ca = tls.optional("ca", r);
    Server {
        name: s.get("name", d.name, r),
        address: s.get("address", d.address, r),
        role: s.get("role", d.role, r),
        zone: s.get("zone", d.zone, r),
        weight: s.number("weight", d.weight, 1..=1_000_000, r),
        max_connections: s.number("max_connections", d.max_connections, 1..=100_000, r),
        compression: s.get("compression", d.compression, r),
        retired: false,
        proxy_protocol: s.get("proxy_protocol", d.proxy_protocol, r),
        tls: ServerTls { mode: tls.get("mode", d.tls.mode, r), ca: secrets::readable(r, &tls.path_of("ca"), ca, outside) },
    }
}

fn failover(s: &Section<'_, '_>, r: &mut Report<'_>) -> Failover {
    let d = Failover::default();
    Failover {
        mode: s.get("mode", d.mode, r),
        hold_timeout: s.period("hold_timeout", d.hold_timeout, Period::default()..=HOUR, r),
        max_lost_transactions: s.get("max_lost_transactions", d.max_lost_transactions, r),
        promote_replicas: s.get("promote_replicas", d.promote_replicas, r),
        transaction_replay: s.get("transaction_replay", d.transaction_replay, r),
    }
}

fn routing(s: &Section<'_, '_>, r: &mut Report<'_>) -> Routing {
    let d = Routing::default();
    Routing {
        read_balance: s.get("read_balance", d.read_balance, r),
        consistency: s.get("consistency", d.consistency, r),
        read_from_master: s.get("read_from_master", d.read_from_master, r),
        zone: s.get("zone", d.zone, r),
    }
}

fn rule(s: &Section<'_, '_>, r: &mut Report<'_>) -> Option<Rule> {
    let rule = Rule {
        user: s.optional("user", r),
        schema: s.optional("schema", r),
        pattern: s.optional("pattern", r),
        digest: s.optional("digest", r),
        client: s.optional("client", r),
        action: RuleAction::Master,
        message: s.optional("message", r),
    };
    if s.raw("action").is_none() {
        r.wrong(&s.path_of("action"), "this rule has no `action`", format!("add one of {ACTIONS}"));
        return None;
    }
    let action = s.optional("action", r)?;
    Some(Rule { action, ..rule })
}

const ACTIONS: &str = "\"master\", \"replica\", \"server:NAME\", \"deny\", \"cache\", \"nocache\"";

impl Value for RuleAction {
    fn read(value: &Spanned<DeValue<'_>>, path: &str, report: &mut Report<'_>) -> Option<RuleAction> {
        let text = String::read(value, path, report)?;
        Some(match text.as_str() {
            "master" => RuleAction::Master,
            "replica" => RuleAction::Replica,
            "deny" => RuleAction::Deny,
            "cache" => RuleAction::Cache,
            "nocache" => RuleAction::NoCache,
            other => match other.strip_prefix("server:") {
                Some(name) => RuleAction::Server(name.to_owned()),
                None => {
                    let advice = match nearest(other, ["master", "replica", "deny", "cache", "nocache"]) {
                        Some(near) => format!("did you mean \"{near}\"?"),
                        None => format!("it is one of {ACTIONS}"),
                    };
                    report.wrong_at(value.span(), format!("`action` cannot be \"{other}\""), Some(advice));
                    return None;
                }
            },
        })
    }
}

impl Value for Pattern {
    fn read(value: &Spanned<DeValue<'_>>, path: &str, report: &mut Report<'_>) -> Option<Pattern> {
        let text = String::read(value, path, report)?;
        match regex::Regex::new(&text) {
            Ok(regex) => Some(Pattern(regex)),
            Err(e) => {
                // The crate's message repeats the pattern over several lines; its last line says what is wrong.
                let said = e.to_string();
                let said = said.lines().last().unwrap_or(&said).trim_start_matches("error: ").to_owned();
                report.wrong_at(
                    value.span(),
                    format!("`pattern` is no regular expression: {said}"),
                    Some("see https://docs.rs/regex/#syntax; single quotes keep backslashes as they are".to_owned()),
                );
                None
            }
        }
    }
}

impl Value for CacheStore {
    fn read(value: &Spanned<DeValue<'_>>, path: &str, report: &mut Report<'_>) -> Option<CacheStore> {
        let text = String::read(value, path, report)?;
        if text == "memory" {
            return Some(CacheStore::Memory);
        }
        match text.split_once("://") {
            Some(("redis" | "rediss", host)) if !host.is_empty() => return Some(CacheStore::Redis(text)),
            Some(("memcached", host)) if !host.is_empty() => return Some(CacheStore::Memcached(text)),
            _ => {}
        }
        report.wrong_at(
            value.span(),
            "`store` names an unknown store",
            Some("it is \"memory\", \"redis://host:6379\" or \"memcached://host:11211\"".to_owned()),
        );
        None
    }
}

fn cache(s: &Section<'_, '_>, r: &mut Report<'_>) -> Cache {
    let d = Cache::default();
    let max_memory = s.get("max_memory", d.max_memory, r);
    if max_memory < Size(1 << 20) {
        r.wrong(&s.path_of("max_memory"), format!("`max_memory` cannot be \"{max_memory}\""), "give it at least \"1MiB\"");
    }
    Cache {
        enabled: s.get("enabled", d.enabled, r),
        max_memory,
        ttl: s.period("ttl", d.ttl, Period::from_millis(1)..=YEAR, r),
        refresh_ahead: s.period("refresh_ahead", d.refresh_ahead, Period::from_millis(0)..=YEAR, r),
        default: s.get("default", d.default, r),
        store: s.get("store", d.store, r),
        invalidate: s.get("invalidate", d.invalidate, r),
    }
}

fn pool(s: &Section<'_, '_>, r: &mut Report<'_>) -> Pool {
    let d = Pool::default();
    Pool {
        idle_timeout: s.period("idle_timeout", d.idle_timeout, SECOND..=YEAR, r),
        max_lifetime: s.period("max_lifetime", d.max_lifetime, SECOND..=YEAR, r),
        checkout_timeout: s.period("checkout_timeout", d.checkout_timeout, Period::from_millis(1)..=HOUR, r),
        max_prepared_per_connection: s.number("max_prepared_per_connection", d.max_prepared_per_connection, 1..=1_000_000, r),
    }
}

fn user(s: &Section<'_, '_>, r: &mut Report<'_>, outside: &dyn Outside) -> User {
    if s.raw("name").is_none() {
        let path = s.path_of("name");
        r.wrong(&path, "this user has no `name`", "give the name that clients log in with, like name = \"app\"");
    }
    User {
        name: s.get("name", String::new(), r),
        secret: secrets::credential(s, r, outside),
        max_connections: s.number("max_connections", 0, 0..=1_000_000, r),
        read_only: s.get("read_only", false, r),
        schemas: s.get("schemas", Vec::new(), r),
        hosts: s.get("hosts", Vec::new(), r),
    }
}

fn admin(s: &Section<'_, '_>, r: &mut Report<'_>, outside: &dyn Outside) -> Admin {
    let d = Admin::default();
    Admin {
        listen: s.address_or_off("listen", d.listen, r),
        user: s.get("user", d.user, r),
        secret: secrets::credential(s, r, outside),
    }
}
