//! MySQL or MariaDB? The only place that asks; everybody else matches on [`Flavor`].

use std::fmt;

/// Which of the two families a server belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Flavor {
    /// MySQL 8.4 and later.
    MySql,
    /// MariaDB 10.11 and later.
    MariaDb,
}

impl Flavor {
    /// Told from the version string of the server's greeting (MariaDB's contains its name; replication-compatible greetings begin `5.5.5-`).
    pub fn from_version(version: &str) -> Flavor {
        if version.contains("MariaDB") || version.starts_with("5.5.5-") { Flavor::MariaDb } else { Flavor::MySql }
    }

    /// The word in logs and admin tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Flavor::MySql => "mysql",
            Flavor::MariaDb => "mariadb",
        }
    }
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
