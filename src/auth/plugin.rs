//! The authentication plugins by name.

use std::fmt;

/// A plugin as Sluice knows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Plugin {
    /// `mysql_native_password`.
    Native,
    /// `caching_sha2_password`.
    CachingSha2,
    /// `sha256_password`, deprecated in MySQL.
    Sha256,
    /// MariaDB's `client_ed25519`.
    Ed25519,
    /// `mysql_clear_password`: the password as it is (LDAP, PAM and their like). Only in TLS or on a unix socket.
    Clear,
}

impl Plugin {
    /// The plugin of that name.
    pub fn from_name(name: &str) -> Option<Plugin> {
        Some(match name {
            "mysql_native_password" => Plugin::Native,
            "caching_sha2_password" => Plugin::CachingSha2,
            "sha256_password" => Plugin::Sha256,
            "client_ed25519" => Plugin::Ed25519,
            "mysql_clear_password" => Plugin::Clear,
            _ => return None,
        })
    }

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Plugin::Native => "mysql_native_password",
            Plugin::CachingSha2 => "caching_sha2_password",
            Plugin::Sha256 => "sha256_password",
            Plugin::Ed25519 => "client_ed25519",
            Plugin::Clear => "mysql_clear_password",
        }
    }
}

impl fmt::Display for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
