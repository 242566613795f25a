//! What the configuration file says about users: where they may come from, and what overrides the servers' accounts.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;

use super::{Credential, Known, Secret};
use crate::protocol::errno;
use crate::protocol::handshake::ServerError;

/// Who decides whether somebody may log in (`auth.source`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Source {
    /// The servers: whoever may log in there may log in here.
    #[default]
    Servers,
    /// The `[[user]]` entries, and nobody else.
    File,
}

/// A `[[user]]` entry.
#[derive(Clone, Debug, Default)]
pub struct Override {
    /// The user's name.
    pub name: String,
    /// The password; `None` when the servers know it.
    pub password: Option<Secret>,
    /// The networks the user may come from; empty: from anywhere.
    pub hosts: Vec<IpNet>,
    /// The schemas the user may use, beside those of the server's own that [`schema_is_among`] knows; empty: all that the servers allow.
    pub schemas: Arc<[String]>,
    /// The most clients of this user at a time.
    pub max_connections: Option<u32>,
    /// Whether the user's statements never reach the master.
    pub read_only: bool,
}

impl Override {
    /// Whether a client from there may be this user. A unix socket counts as 127.0.0.1.
    pub fn may_come_from(&self, peer: Option<IpAddr>) -> bool {
        let peer = peer.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)).to_canonical();
        self.hosts.is_empty() || self.hosts.iter().any(|net| net.contains(&peer))
    }

    /// Whether the user may use that schema, as far as the entry goes.
    pub fn may_use_schema(&self, schema: &str) -> bool {
        self.schemas.is_empty() || schema_is_among(&self.schemas, schema)
    }
}

/// Whether a list of schemas lets one be used: it is in the list, as it is written there, or one of those in which servers describe
/// themselves and which clients ask on their own.
pub fn schema_is_among(allowed: &[String], schema: &str) -> bool {
    let own = ["information_schema", "performance_schema"].iter().any(|own| schema.eq_ignore_ascii_case(own));
    own || schema == "sys" || allowed.iter().any(|s| s == schema)
}

/// All `[[user]]` entries and `auth.source`.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    source: Source,
    overrides: HashMap<String, (Arc<Override>, Option<Arc<Credential>>)>,
}

impl Accounts {
    /// From the configuration. Of two entries with one name the last counts; the configuration refuses that.
    pub fn new(source: Source, overrides: Vec<Override>) -> Accounts {
        let entry = |o: Override| {
            // With the servers as source an entry without password leaves that question to them; in a file it means none.
            let credential = match (&o.password, source) {
                (Some(p), _) => Some(Arc::new(Credential::from_password(p.clone()))),
                (None, Source::File) => Some(Arc::new(Credential::None)),
                (None, Source::Servers) => None,
            };
            (o.name.clone(), (Arc::new(o), credential))
        };
        Accounts { source, overrides: overrides.into_iter().map(entry).collect() }
    }

    /// Who decides.
    pub fn source(&self) -> Source {
        self.source
    }

    /// The user's entry.
    pub fn entry(&self, user: &str) -> Option<&Arc<Override>> {
        self.overrides.get(user).map(|(entry, _)| entry)
    }

    /// The user's password as the file gives it.
    pub fn configured(&self, user: &str) -> Option<Known> {
        self.overrides.get(user)?.1.clone().map(Known::configured)
    }

    /// Whether the file lets this user in from there, and with that schema. `host` is the peer as errors name it.
    ///
    /// # Errors
    /// 1045 when not from there, 1044 when not with that schema.
    pub fn admit(&self, user: &str, peer: Option<IpAddr>, host: &str, schema: Option<&str>) -> Result<(), ServerError> {
        let Some(entry) = self.entry(user) else { return Ok(()) };
        if !entry.may_come_from(peer) {
            let text = format!("sluice: Access denied for user '{user}'@'{host}': the user's `hosts` do not include this address");
            return Err(ServerError::new(errno::ER_ACCESS_DENIED_ERROR, text));
        }
        match schema {
            Some(schema) if !entry.may_use_schema(schema) => Err(schema_denied(user, host, schema)),
            _ => Ok(()),
        }
    }
}

/// MySQL's ER_DBACCESS_DENIED_ERROR, with the reason.
pub fn schema_denied(user: &str, host: &str, schema: &str) -> ServerError {
    let text = format!("sluice: Access denied for user '{user}'@'{host}' to database '{schema}': not among the user's `schemas`");
    ServerError::new(errno::ER_DBACCESS_DENIED_ERROR, text)
}

/// MySQL's ER_ACCESS_DENIED_ERROR, word for word.
pub fn access_denied(user: &str, host: &str, used_password: bool) -> ServerError {
    let used = if used_password { "YES" } else { "NO" };
    ServerError::new(errno::ER_ACCESS_DENIED_ERROR, format!("Access denied for user '{user}'@'{host}' (using password: {used})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_schemas_of_an_entry() {
        let app = Override {
            name: "app".to_owned(),
            hosts: vec!["10.0.0.0/8".parse().expect("a network"), "127.0.0.0/8".parse().expect("a network")],
            schemas: ["shop".to_owned()].into(),
            ..Override::default()
        };
        let accounts = Accounts::new(Source::Servers, vec![app]);
        for (user, peer, schema, code) in [
            ("app", "10.1.2.3", None, None),
            ("app", "::ffff:10.1.2.3", Some("shop"), None),
            ("app", "192.168.0.1", None, Some(1045)),
            ("app", "", None, None),
            ("app", "10.1.2.3", Some("mysql"), Some(1044)),
            ("app", "10.1.2.3", Some("INFORMATION_SCHEMA"), None),
            ("other", "192.168.0.1", Some("mysql"), None),
        ] {
            let refused = accounts.admit(user, peer.parse().ok(), peer, schema).err().map(|e| e.code);
            assert_eq!(refused, code, "{user} from {peer} into {schema:?}");
        }
        assert!(accounts.configured("app").is_none(), "the servers know the password");
    }

    #[test]
    fn in_a_file_no_password_is_the_empty_one() {
        let accounts = Accounts::new(Source::File, vec![Override { name: "a".to_owned(), ..Override::default() }]);
        assert_eq!(accounts.configured("a").map(|k| (*k.credential).clone()), Some(Credential::None));
        assert!(accounts.configured("b").is_none());
    }
}
