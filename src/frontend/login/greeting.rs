//! What clients are greeted with: the servers' own greeting, less what Sluice does not relay.

use aws_lc_rs::rand;

use crate::auth::Plugin;
use crate::protocol::Capabilities;
use crate::protocol::handshake::{Greeting, NONCE_LEN};

/// What Sluice relays, and so may offer when the servers do.
pub const OFFERED: Capabilities = Capabilities::LONG_PASSWORD
    .with(Capabilities::FOUND_ROWS)
    .with(Capabilities::LONG_FLAG)
    .with(Capabilities::CONNECT_WITH_DB)
    .with(Capabilities::NO_SCHEMA)
    .with(Capabilities::ODBC)
    .with(Capabilities::COMPRESS)
    .with(Capabilities::LOCAL_FILES)
    .with(Capabilities::IGNORE_SPACE)
    .with(Capabilities::PROTOCOL_41)
    .with(Capabilities::INTERACTIVE)
    .with(Capabilities::IGNORE_SIGPIPE)
    .with(Capabilities::TRANSACTIONS)
    .with(Capabilities::RESERVED)
    .with(Capabilities::SECURE_CONNECTION)
    .with(Capabilities::MULTI_STATEMENTS)
    .with(Capabilities::MULTI_RESULTS)
    .with(Capabilities::PS_MULTI_RESULTS)
    .with(Capabilities::PLUGIN_AUTH)
    .with(Capabilities::CONNECT_ATTRS)
    .with(Capabilities::CAN_HANDLE_EXPIRED_PASSWORDS)
    .with(Capabilities::PLUGIN_AUTH_LENENC)
    .with(Capabilities::SESSION_TRACK)
    .with(Capabilities::DEPRECATE_EOF)
    .with(Capabilities::OPTIONAL_RESULTSET_METADATA)
    .with(Capabilities::ZSTD_COMPRESSION)
    .with(Capabilities::QUERY_ATTRIBUTES)
    .with(Capabilities::SSL_VERIFY_SERVER_CERT)
    .with(Capabilities::REMEMBER_OPTIONS)
    .with(Capabilities::MARIADB_PROGRESS)
    .with(Capabilities::MARIADB_STMT_BULK_OPERATIONS)
    .with(Capabilities::MARIADB_EXTENDED_METADATA)
    .with(Capabilities::MARIADB_BULK_UNIT_RESULTS);

/// What servers offer and Sluice does not, each for a reason. `SSL` is offered when TLS is configured.
pub const NOT_OFFERED: &[(Capabilities, &str)] = &[
    (Capabilities::MULTI_FACTOR_AUTHENTICATION, "a second factor cannot be shown again for a pooled connection"),
    (Capabilities::CAPABILITY_EXTENSION, "reserved by MySQL"),
    (Capabilities::MARIADB_COM_MULTI, "withdrawn by MariaDB"),
    (
        Capabilities::MARIADB_CACHE_METADATA,
        "a server leaves out the column definitions it sent last for its statement; that statement is shared here, so it may have \
         sent them to another client, before or after an ALTER TABLE that this client has not seen; without it nothing is lost but bytes",
    ),
];

/// `SERVER_STATUS_AUTOCOMMIT`.
const STATUS_AUTOCOMMIT: u16 = 2;

/// What every client is greeted with, but for its number and challenge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GreetingTemplate {
    /// The servers' version string, as it stands in their greeting.
    pub version: String,
    /// The low byte of their default collation.
    pub collation: u8,
    /// What is offered, without `SSL`.
    pub capabilities: Capabilities,
    /// The plugin clients should try first: the one most accounts there use, so that most logins need no switch.
    pub plugin: Plugin,
}

impl Default for GreetingTemplate {
    /// Until a server is known: MySQL 8.4's, the older of the two that clients know as MySQL.
    fn default() -> GreetingTemplate {
        GreetingTemplate { version: "8.4.0".to_owned(), collation: 255, capabilities: OFFERED, plugin: Plugin::CachingSha2 }
    }
}

impl GreetingTemplate {
    /// From a server's greeting.
    pub fn from_server(greeting: &Greeting) -> GreetingTemplate {
        // LONG_PASSWORD stays as the server has it: where it is unset, MariaDB's clients look for the extended flags.
        let needed = Capabilities::PROTOCOL_41 | Capabilities::SECURE_CONNECTION;
        let ours = Capabilities::PLUGIN_AUTH | Capabilities::PLUGIN_AUTH_LENENC | Capabilities::CONNECT_ATTRS;
        GreetingTemplate {
            version: greeting.version.clone(),
            collation: greeting.collation,
            capabilities: (greeting.capabilities & OFFERED) | needed | ours,
            plugin: match Plugin::from_name(&greeting.plugin) {
                Some(Plugin::Native) => Plugin::Native,
                _ => Plugin::CachingSha2,
            },
        }
    }

    /// What servers with different abilities can all do: used when clients may be sent to any of them.
    #[must_use]
    pub fn narrowed_to(mut self, other: Capabilities) -> GreetingTemplate {
        // Without these no client could log in at all.
        let needed = Capabilities::PROTOCOL_41 | Capabilities::SECURE_CONNECTION | Capabilities::PLUGIN_AUTH;
        let kept = needed | Capabilities::PLUGIN_AUTH_LENENC | Capabilities::CONNECT_ATTRS;
        self.capabilities = self.capabilities & (other | kept);
        self
    }

    /// One client's greeting.
    pub(super) fn greet(&self, connection_id: u32, nonce: [u8; NONCE_LEN], tls: bool) -> Greeting {
        Greeting {
            version: self.version.clone(),
            connection_id,
            nonce,
            capabilities: if tls { self.capabilities | Capabilities::SSL } else { self.capabilities },
            collation: self.collation,
            status: STATUS_AUTOCOMMIT,
            plugin: self.plugin.name().to_owned(),
        }
    }
}

/// A fresh challenge: 7-bit characters without NUL, which would end it, and `$`, which MySQL's own never contain.
///
/// # Errors
/// When the system gives no randomness.
pub fn nonce() -> std::io::Result<[u8; NONCE_LEN]> {
    let mut nonce = [0; NONCE_LEN];
    rand::fill(&mut nonce).map_err(|_| std::io::Error::other("the system gives no random bytes"))?;
    for byte in &mut nonce {
        *byte &= 0x7F;
        if matches!(*byte, 0 | b'$') {
            *byte += 1;
        }
    }
    Ok(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_hold_no_nul_and_no_dollar() {
        for _ in 0..1000 {
            let nonce = nonce().expect("randomness");
            assert!(nonce.iter().all(|b| (1..0x80).contains(b) && *b != b'$'));
        }
    }

    /// A server that did not greet in time once left nothing of what clients need to log in.
    #[test]
    fn what_a_login_needs_is_always_offered() {
        let narrowed = GreetingTemplate::default().narrowed_to(Capabilities::NONE);
        for flag in [Capabilities::PROTOCOL_41, Capabilities::SECURE_CONNECTION, Capabilities::PLUGIN_AUTH] {
            assert!(narrowed.capabilities.has(flag), "{flag:?}");
        }
    }

    #[test]
    fn a_flag_is_offered_or_has_a_reason_why_not() {
        for (flag, why) in NOT_OFFERED {
            assert!(!OFFERED.has(*flag), "{flag:?}: {why}");
        }
    }

    #[test]
    fn mariadbs_greeting_with_its_extended_flags() {
        let server = Greeting {
            version: "5.5.5-10.11.6-MariaDB".to_owned(),
            connection_id: 7,
            nonce: [1; 20],
            capabilities: Capabilities(u64::MAX) - Capabilities::LONG_PASSWORD - Capabilities::DEPRECATE_EOF,
            collation: 45,
            status: 2,
            plugin: "mysql_native_password".to_owned(),
        };
        let template = GreetingTemplate::from_server(&server);
        assert_eq!((template.plugin, template.collation), (Plugin::Native, 45));
        assert_eq!(template.capabilities, OFFERED - Capabilities::DEPRECATE_EOF - Capabilities::LONG_PASSWORD);
        let mut packet = Vec::new();
        template.greet(1, [2; 20], false).write(&mut packet);
        let read = Greeting::parse(&packet).expect("a greeting");
        assert!(read.capabilities.has(Capabilities::MARIADB_EXTENDED_METADATA), "the extended flags are in the packet");
        assert!(!read.capabilities.has(Capabilities::MARIADB_CACHE_METADATA));
        assert!(template.greet(1, [2; 20], true).capabilities.has(Capabilities::SSL));
        assert!(!template.greet(1, [2; 20], false).capabilities.has(Capabilities::SSL));
    }
}
