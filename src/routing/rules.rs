//! `[[rule]]`: the operator's own routing. First match wins; every condition is optional.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use ipnet::IpNet;
use regex::bytes::Regex;

/// What a rule does with a statement that matches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// To the current master.
    Master,
    /// To a server that serves reads. A statement that is not a read still goes to the master.
    Replica,
    /// To this server. A statement that is not a read still goes to the master.
    Server(String),
    /// Refused.
    Deny,
    /// May be answered from the cache.
    Cache,
    /// Never answered from the cache.
    NoCache,
}

impl Action {
    /// As it is written in the configuration.
    pub fn text(&self) -> String {
        match self {
            Action::Master => "master".to_owned(),
            Action::Replica => "replica".to_owned(),
            Action::Server(name) => format!("server:{name}"),
            Action::Deny => "deny".to_owned(),
            Action::Cache => "cache".to_owned(),
            Action::NoCache => "nocache".to_owned(),
        }
    }
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The account's name.
    pub user: Option<String>,
    /// The session's current schema.
    pub schema: Option<String>,
    /// Found in the statement's text as the client sent it.
    pub pattern: Option<Regex>,
    /// The digest's hash, in hexadecimal, as `SHOW STATEMENTS` prints it.
    pub digest: Option<u64>,
    /// The client's network.
    pub client: Option<IpNet>,
    /// What to do.
    pub action: Action,
    /// What a refused client is told.
    pub message: Option<String>,
    /// How many statements it has decided.
    pub hits: Arc<AtomicU64>,
}

/// What a rule looks at.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The account's name.
    pub user: &'a str,
    /// The session's current schema.
    pub schema: Option<&'a [u8]>,
    /// The statement's text.
    pub sql: &'a [u8],
    /// Its digest's hash.
    pub digest: u64,
    /// Where the client is; `None` for a unix socket.
    pub client: Option<IpAddr>,
}

/// All rules, in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Rules(pub Vec<Rule>);

impl Rules {
    /// The first rule that matches, with its number (from 1).
    pub fn first_match(&self, subject: &Subject<'_>) -> Option<(usize, &Rule)> {
        self.0.iter().enumerate().find(|(_, rule)| rule.matches(subject)).map(|(index, rule)| (index + 1, rule))
    }
}

impl Rule {
    fn matches(&self, subject: &Subject<'_>) -> bool {
        self.user.as_ref().is_none_or(|user| user == subject.user)
            && self.schema.as_ref().is_none_or(|schema| subject.schema.is_some_and(|s| s == schema.as_bytes()))
            && self.digest.is_none_or(|digest| digest == subject.digest)
            && self.client.as_ref().is_none_or(|net| subject.client.is_some_and(|ip| net.contains(&ip)))
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(subject.sql))
    }
}
