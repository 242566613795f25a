//! What single values cannot tell: names that must differ, settings that contradict each other, references to nothing.

use std::collections::HashMap;
use std::path::PathBuf;

use super::address::Address;
use super::mistake::Severity;
use super::read::Report;
use super::resolve;
use super::secrets::Outside;
use super::types::*;
use super::words::*;
use crate::admin::nearest::nearest;
use crate::stores::Place;

/// A server's name stands in commands, labels and `server:NAME`.
const SERVER_NAME_LETTERS_MAX: usize = 64;

/// Looks at the whole configuration.
pub fn all(config: &Config, report: &mut Report<'_>, outside: &dyn Outside) {
    servers(config, report);
    server_tls(config, report);
    listeners(config, report);
    client_tls(config, report);
    monitor(config, report);
    routing(config, report);
    rules(config, report);
    users(config, report);
    cache(config, report);
    if outside.has_certificates() {
        certificates(config, report);
    }
    if config.pool.idle_timeout > config.pool.max_lifetime && report.has("pool.idle_timeout") {
        report.doubtful(
            "pool.idle_timeout",
            format!(
                "`idle_timeout` ({}) never happens before `max_lifetime` ({})",
                config.pool.idle_timeout, config.pool.max_lifetime
            ),
            "make it the smaller of the two",
        );
    }
    replaceable(config, report);
}

/// Whether failover has somebody to promote. Judged of a file without mistakes alone: one in a server's entry may have hidden him.
fn replaceable(config: &Config, report: &mut Report<'_>) {
    let mut masters = config.servers.iter().enumerate().filter(|(_, server)| server.role == ServerRole::Master);
    let (Some((i, master)), None) = (masters.next(), masters.next()) else { return };
    let failover = &config.failover;
    let can_be = failover.mode != FailoverMode::Auto || failover.promote_replicas || config.servers.len() == 1;
    if !can_be && report.mistakes.iter().all(|mistake| mistake.severity == Severity::Warning) {
        report.doubtful(
            &format!("server[{i}].role"),
            format!("no other server may take the place of \"{}\" when it dies", master.name),
            "give role = \"master\" to its peer, too, or write promote_replicas = true below [failover]; mode = \"manual\" there leaves it to you",
        );
    }
}

fn cache(config: &Config, report: &mut Report<'_>) {
    let (CacheStore::Redis(url) | CacheStore::Memcached(url)) = &config.cache.store else { return };
    if let Err(why) = Place::parse(url) {
        report.wrong(
            "cache.store",
            format!("`store` cannot be used: {why}"),
            "it is like \"redis://host:6379\" or \"memcached://host:11211\"",
        );
    }
    if !config.cache.invalidate.contains(&Invalidate::Binlog) {
        report.wrong(
            "cache.store",
            "a store that proxies share needs `invalidate` to have \"binlog\"",
            "what other proxies have written is known by it alone; docs/cache.md says more",
        );
    }
}

fn servers(config: &Config, report: &mut Report<'_>) {
    if config.servers.is_empty() {
        if !report.has("server") {
            report.wrong("", "no [[server]]", "name at least one: [[server]] with name, address and role = \"master\"");
        }
        return;
    }
    let mut names: HashMap<&str, usize> = HashMap::new();
    let mut addresses: HashMap<&Address, usize> = HashMap::new();
    for (i, server) in config.servers.iter().enumerate() {
        let at = |key: &str| format!("server[{i}].{key}");
        if report.has(&at("name")) {
            let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            if server.name.is_empty() || server.name.len() > SERVER_NAME_LETTERS_MAX || !server.name.chars().all(fine) {
                report.wrong(
                    &at("name"),
                    format!("\"{}\" cannot be a server's name", server.name),
                    format!("use 1 to {SERVER_NAME_LETTERS_MAX} letters, digits, `_`, `-`, `.`"),
                );
            }
            // Commands take names in any case, as MySQL does with host names.
            if let Some(first) = names.insert(server.name.as_str(), i) {
                report.wrong(
                    &at("name"),
                    format!("two servers are called \"{}\"", server.name),
                    format!("the first is number {} of the list; names must differ", first + 1),
                );
            }
        }
        if !report.is_sound(&at("address")) {
            continue;
        }
        if matches!(server.address, Address::Tcp { port: 0, .. }) {
            report.wrong(&at("address"), "a server cannot have port 0", "give the port it listens on, usually 3306");
        } else if let Some(first) = addresses.insert(&server.address, i) {
            report.wrong(
                &at("address"),
                format!("\"{}\" and \"{}\" have the same address {}", config.servers[first].name, server.name, server.address),
                "each server is listed once",
            );
        }
        for (j, listen) in config.proxy.listen.iter().enumerate() {
            if *listen == server.address {
                report.wrong(
                    &at("address"),
                    format!(
                        "the address of \"{}\" is Sluice's own ({})",
                        server.name,
                        if j == 0 { "proxy.listen" } else { "in proxy.listen" }
                    ),
                    "give the address of the MySQL or MariaDB server",
                );
            }
        }
    }
    if !config.servers.iter().any(|s| s.role == ServerRole::Master) {
        report.wrong("server[0]", "no server has role = \"master\"", "give it to the server (or the two) that may take writes");
    }
}

fn server_tls(config: &Config, report: &mut Report<'_>) {
    for (i, server) in config.servers.iter().enumerate() {
        if server.proxy_protocol != ProxyProtocol::Off && matches!(server.address, Address::Unix(_)) {
            report.wrong(
                &format!("server[{i}].proxy_protocol"),
                "a PROXY header tells a TCP address, and this server has a unix socket",
                "write \"off\", or give the server's host:port as `address`",
            );
        }
        let at = |key: &str| format!("server[{i}].tls.{key}");
        let verifies = matches!(server.tls.mode, ServerTlsMode::VerifyCa | ServerTlsMode::VerifyIdentity);
        if verifies && server.tls.ca.is_none() && !report.has(&at("ca")) {
            report.wrong(
                &at("mode"),
                format!("\"{}\" has nothing to verify the certificate with", server.tls.mode),
                "add ca = \"/path/to/ca.pem\"",
            );
        }
        if !verifies && server.tls.ca.is_some() {
            report.wrong(
                &at("ca"),
                format!("`ca` is not used with mode = \"{}\"", server.tls.mode),
                "write mode = \"verify_ca\" or \"verify_identity\", or leave `ca` out",
            );
        }
        if server.tls.mode == ServerTlsMode::VerifyIdentity && matches!(server.address, Address::Unix(_)) {
            report.wrong(
                &at("mode"),
                "\"verify_identity\" needs a host name, and this server has a unix socket",
                "write \"verify_ca\" or \"disabled\"",
            );
        }
    }
}

fn listeners(config: &Config, report: &mut Report<'_>) {
    if config.proxy.listen.is_empty() {
        report.wrong("proxy.listen", "`listen` is empty: no client could connect", "write it like [\"0.0.0.0:3306\"]");
    }
    let mut all: Vec<(String, &Address)> =
        config.proxy.listen.iter().enumerate().map(|(i, a)| (format!("proxy.listen[{i}]"), a)).collect();
    all.extend(config.admin.listen.iter().map(|a| ("admin.listen".to_owned(), a)));
    all.extend(config.http.listen.iter().map(|a| ("http.listen".to_owned(), a)));
    for (i, (path, address)) in all.iter().enumerate() {
        if matches!(address, Address::Tcp { port: 0, .. }) {
            continue;
        }
        if let Some((other, _)) = all[..i].iter().find(|(_, earlier)| overlap(earlier, address)) {
            let other = other.split('[').next().unwrap_or(other);
            report.wrong(path, format!("{address} is already taken by `{other}`"), "give each its own port");
        }
    }
    if let Some(listen) = &config.admin.listen {
        let given =
            ["password", "password_file", "password_env"].map(|key| format!("admin.{key}")).into_iter().find(|at| report.has(at));
        // One that could not be read was told of already; one that was read and is empty is none.
        let unread = given.is_some() && config.admin.secret.password.is_none();
        if !listen.is_local() && config.admin.secret.expose().is_empty() && !unread {
            let (what, advice) = match given {
                Some(_) => ("its password is empty", "write one there, or listen on 127.0.0.1"),
                None => ("has no password", "add `password_file` below [admin], or listen on 127.0.0.1"),
            };
            report.wrong(
                given.as_deref().unwrap_or("admin.listen"),
                format!("the admin port {listen} can be reached from other machines and {what}"),
                advice,
            );
        }
        if config.admin.user.is_empty() {
            report.wrong("admin.user", "`user` is empty", "write user = \"admin\"");
        }
    }
}

/// Whether two listeners would fight for a port.
fn overlap(a: &Address, b: &Address) -> bool {
    let any = |host: &str| matches!(host, "0.0.0.0" | "::");
    match (a, b) {
        (Address::Tcp { host, port }, Address::Tcp { host: other, port: other_port }) => {
            port == other_port && (host == other || any(host) || any(other))
        }
        (a, b) => a == b,
    }
}

fn client_tls(config: &Config, report: &mut Report<'_>) {
    let tls = &config.proxy.tls;
    for (here, there, missing) in
        [("cert", "key", tls.cert.is_some() && tls.key.is_none()), ("key", "cert", tls.key.is_some() && tls.cert.is_none())]
    {
        if missing && !report.has(&format!("proxy.tls.{there}")) {
            report.wrong(&format!("proxy.tls.{here}"), format!("`{here}` without `{there}`"), format!("add {there} = \"...\""));
        }
    }
    if tls.mode == ClientTlsMode::Disabled {
        for (key, given) in [("cert", tls.cert.is_some()), ("key", tls.key.is_some()), ("client_ca", tls.client_ca.is_some())] {
            if given {
                report.wrong(
                    &format!("proxy.tls.{key}"),
                    format!("`{key}` is not used with mode = \"disabled\""),
                    "write mode = \"preferred\" or \"required\", or leave it out",
                );
            }
        }
    }
    if tls.mode == ClientTlsMode::Preferred && tls.client_ca.is_some() {
        report.wrong(
            "proxy.tls.client_ca",
            "`client_ca` demands a certificate of every client, but mode = \"preferred\" lets them in without TLS",
            "write mode = \"required\"",
        );
    }
}

/// Whether certificates, keys and authorities are such, and fit together: the proxy would not start, or not reload, otherwise.
fn certificates(config: &Config, report: &mut Report<'_>) {
    // What cannot be opened was told of already.
    let opens = |files: &[&Option<PathBuf>]| files.iter().copied().flatten().all(|file| std::fs::File::open(file).is_ok());
    let tls = &config.proxy.tls;
    let files = [&tls.cert, &tls.key, &tls.client_ca];
    let is_whole = tls.cert.is_some() == tls.key.is_some();
    if is_whole
        && files.iter().any(|file| file.is_some())
        && opens(&files)
        && let Err(why) = resolve::client_tls(config)
    {
        let named = ["cert", "key", "client_ca"]
            .into_iter()
            .zip(files)
            .find(|(_, file)| file.as_ref().is_some_and(|file| why.contains(&format!(" {}: ", file.display()))));
        let key = named.map_or("key", |(key, _)| key);
        let why = why.trim_start_matches("proxy.tls: ").to_owned();
        report.wrong(&format!("proxy.tls.{key}"), why, "give PEM files: the certificate chain, and the key that it was made for");
    }
    for (i, server) in config.servers.iter().enumerate() {
        if opens(&[&server.tls.ca])
            && server.tls.ca.is_some()
            && let Err(why) = resolve::server_tls(server)
        {
            let why = why.split_once(": tls: ").map_or(why.as_str(), |(_, why)| why).to_owned();
            report.wrong(&format!("server[{i}].tls.ca"), why, "give a PEM file with the certificates of the authorities");
        }
    }
}

fn monitor(config: &Config, report: &mut Report<'_>) {
    let m = &config.monitor;
    if m.user.is_empty() {
        report.wrong("monitor.user", "`user` is empty", "give Sluice its own account on the servers, like user = \"sluice\"");
    }
    if m.heartbeat_timeout < m.heartbeat_interval {
        let at = if report.has("monitor.heartbeat_timeout") { "monitor.heartbeat_timeout" } else { "monitor.heartbeat_interval" };
        report.wrong(
            at,
            format!(
                "`heartbeat_timeout` ({}) is shorter than `heartbeat_interval` ({})",
                m.heartbeat_timeout, m.heartbeat_interval
            ),
            "every server would be suspect between two heartbeats; make the timeout several intervals long",
        );
    }
    let table = &m.heartbeat_table;
    let fine = |part: &str| {
        (1..=64).contains(&part.len()) && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '-'))
    };
    if !table.is_empty() && !table.split_once('.').is_some_and(|(schema, name)| fine(schema) && fine(name)) {
        report.wrong(
            "monitor.heartbeat_table",
            format!("`heartbeat_table` is not schema.table: \"{table}\""),
            "write it like \"sluice.heartbeat\", or \"\" for none",
        );
    }
}

fn routing(config: &Config, report: &mut Report<'_>) {
    let zones: Vec<&str> = config.servers.iter().map(|s| s.zone.as_str()).filter(|z| !z.is_empty()).collect();
    let zone = config.routing.zone.as_str();
    if !zone.is_empty() && !zones.contains(&zone) && !config.servers.is_empty() {
        let advice = match nearest(zone, zones.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "add zone = \"...\" to the servers that stand there, or leave it out".to_owned(),
        };
        report.doubtful("routing.zone", format!("no server is in zone \"{zone}\""), advice);
    }
    if config.routing.read_from_master == ReadFromMaster::Never && config.servers.len() == 1 {
        report.wrong(
            "routing.read_from_master",
            "\"never\" with a single server: no read could be answered",
            "write \"fallback\", or add a replica",
        );
    }
}

fn rules(config: &Config, report: &mut Report<'_>) {
    // A rule whose action was wrong is not in the list, so a rule's place in the file is found again by counting those marks.
    let places: Vec<usize> = (0..).take_while(|i| report.has(&format!("rule[{i}]"))).collect();
    if places.len() != config.rules.len() {
        return;
    }
    let names: Vec<&str> = config.servers.iter().map(|s| s.name.as_str()).collect();
    for (i, rule) in config.rules.iter().enumerate() {
        let at = |key: &str| format!("rule[{i}].{key}");
        if let RuleAction::Server(name) = &rule.action
            && !names.contains(&name.as_str())
        {
            let advice = match nearest(name, names.iter().copied()) {
                Some(near) => format!("did you mean \"server:{near}\"?"),
                None => format!("the servers are {}", names.join(", ")),
            };
            report.wrong(&at("action"), format!("no server is called \"{name}\""), advice);
        }
        if let Some(digest) = &rule.digest
            && resolve::digest(digest).is_none()
        {
            report.wrong(
                &at("digest"),
                format!("`digest` is no digest: \"{digest}\""),
                "it is 1 to 16 hexadecimal digits, as SHOW STATEMENTS and EXPLAIN ROUTE print it",
            );
        }
        if rule.message.is_some() && rule.action != RuleAction::Deny {
            report.wrong(
                &at("message"),
                format!("`message` is not used with action = \"{}\"", rule.action),
                "it is what a denied client reads; leave it out, or write action = \"deny\"",
            );
        }
        if matches!(rule.action, RuleAction::Cache) && !config.cache.enabled {
            report.doubtful(&at("action"), "this rule asks for the cache, which is off", "write enabled = true below [cache]");
        }
        let everything = rule.user.is_none()
            && rule.schema.is_none()
            && rule.pattern.is_none()
            && rule.digest.is_none()
            && rule.client.is_none();
        // Conditions that could not be read are absent here but present in the file.
        let everything = everything && !["user", "schema", "pattern", "digest", "client"].iter().any(|key| report.has(&at(key)));
        if everything && i + 1 < config.rules.len() {
            report.doubtful(&at("action"), "this rule has no condition, so no later rule is ever reached", "move it to the end");
        }
    }
}

fn users(config: &Config, report: &mut Report<'_>) {
    let from_file = config.auth.source == AuthSource::File;
    if from_file && config.users.is_empty() {
        report.wrong(
            "auth.source",
            "\"file\" without a single [[user]]: nobody could log in",
            "add [[user]] entries, or write source = \"servers\"",
        );
    }
    let mut names: HashMap<&str, usize> = HashMap::new();
    for (i, user) in config.users.iter().enumerate() {
        let at = |key: &str| format!("user[{i}].{key}");
        if !report.has(&at("name")) {
            continue;
        }
        if user.name.is_empty() {
            report.wrong(&at("name"), "`name` is empty", "give the name that clients log in with");
        } else if names.insert(&user.name, i).is_some() {
            report.wrong(&at("name"), format!("two entries for the user \"{}\"", user.name), "make one of them");
        }
        let asked = ["password", "password_file", "password_env"].iter().any(|key| report.has(&at(key)));
        if from_file && !asked {
            report.wrong(
                &format!("user[{i}]"),
                format!("the user \"{}\" has no password", user.name),
                "add `password_file`; source = \"file\" asks no server. An account without a password is password = \"\"",
            );
        }
    }
}
