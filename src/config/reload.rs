//! What differs between the running configuration and a new one, and which of it can be applied without a restart.

use std::collections::BTreeMap;
use std::fmt;

use super::keys;
use super::types::Config;

/// One key that differs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Its path: `monitor.max_lag`, `server.db3.weight`, `rule[2].action`.
    pub path: String,
    /// What it was; `None`: it is new.
    pub old: Option<String>,
    /// What it is now; `None`: it is gone.
    pub new: Option<String>,
    /// Whether `RELOAD CONFIG` can apply it; if not, why it needs a restart.
    pub restart: Option<&'static str>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |v: &Option<String>| v.clone().unwrap_or_else(|| "(not set)".to_owned());
        write!(f, "{}: {} -> {}", self.path, show(&self.old), show(&self.new))?;
        match self.restart {
            Some(why) => write!(f, " (needs a restart: {why})"),
            None => Ok(()),
        }
    }
}

/// Keys that cannot change while the process runs, with the reason. Everything else can.
const RESTART: &[(&str, &str)] = &[
    ("proxy.listen", "the sockets are bound at start"),
    ("proxy.worker_threads", "the threads are started once"),
    ("proxy.io_uring", "the threads are started once"),
    ("proxy.upgrade_socket", "the socket is bound at start"),
    ("admin.listen", "the socket is bound at start"),
    ("http.listen", "the socket is bound at start"),
    ("cache.enabled", "the memory is laid out at start"),
    ("cache.max_memory", "the memory is laid out at start"),
    ("cache.invalidate", "what follows the servers is started once"),
    ("cache.store", "the store is opened at start"),
];

/// Why a key needs a restart, if it does.
pub fn needs_restart(path: &str) -> Option<&'static str> {
    RESTART.iter().find(|(key, _)| path == *key).map(|(_, why)| *why)
}

/// All keys that differ, in the order of their paths. Servers and users are matched by name, so that moving an entry is no
/// change; the order of rules means something, so they are matched by their place.
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    let (before, after) = (flatten(old), flatten(new));
    let mut paths: Vec<&String> = before.keys().chain(after.keys()).collect();
    paths.sort();
    paths.dedup();
    let mut changes = Vec::new();
    for path in paths {
        let (a, b) = (before.get(path), after.get(path));
        if a == b {
            continue;
        }
        let restart = needs_restart(path);
        let shown = |v: Option<&Entry>| v.map(|v| v.shown.clone());
        changes.push(Change { path: path.clone(), old: shown(a), new: shown(b), restart });
    }
    changes
}

/// Every key with its value as it is shown, for `SHOW VARIABLES`.
pub fn listed(config: &Config) -> Vec<(String, String)> {
    // Text as it is, without the quotes of TOML.
    let bare = |shown: String| match shown.parse::<toml::Value>() {
        Ok(toml::Value::String(text)) => text,
        _ => shown,
    };
    flatten(config).into_iter().map(|(path, entry)| (path, bare(entry.shown))).collect()
}

/// A value as it is shown, and what is compared besides (a password, which is not shown).
#[derive(PartialEq)]
struct Entry {
    shown: String,
    hidden: Option<String>,
}

fn flatten(config: &Config) -> BTreeMap<String, Entry> {
    let mut all = BTreeMap::new();
    if let Ok(value) = toml::Value::try_from(config) {
        walk("", &value, &mut all);
    }
    // A password that came from a file or the environment changes without any key changing; a store's URL hides one too.
    let mut secret = |path: String, password: &str| {
        let entry = Entry { shown: "********".to_owned(), hidden: Some(password.to_owned()) };
        all.insert(path, entry);
    };
    let optional = |c: &super::Credential| c.password.as_ref().map(|p| p.expose().to_owned());
    if let Some(p) = optional(&config.monitor.secret) {
        secret("monitor.password".to_owned(), &p);
    }
    if let Some(p) = optional(&config.admin.secret) {
        secret("admin.password".to_owned(), &p);
    }
    for user in &config.users {
        if let Some(p) = optional(&user.secret) {
            secret(format!("user.{}.password", user.name), &p);
        }
    }
    if let super::CacheStore::Redis(url) | super::CacheStore::Memcached(url) = &config.cache.store {
        let shown = config.cache.store.to_string();
        all.insert("cache.store".to_owned(), Entry { shown, hidden: Some(url.clone()) });
    }
    all
}

fn walk(path: &str, value: &toml::Value, all: &mut BTreeMap<String, Entry>) {
    let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        toml::Value::Table(table) => table.iter().for_each(|(key, value)| walk(&join(key), value, all)),
        toml::Value::Array(entries) if keys::LISTS.contains(&path) => {
            for (i, entry) in entries.iter().enumerate() {
                let name = entry.get("name").and_then(toml::Value::as_str);
                let path = name.map_or_else(|| format!("{path}[{i}]"), &join);
                walk(&path, entry, all);
            }
        }
        leaf => {
            all.insert(path.to_owned(), Entry { shown: leaf.to_string(), hidden: None });
        }
    }
}
