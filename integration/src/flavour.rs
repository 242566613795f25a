//! Which family of servers: MariaDB or MySQL. The only place of the harness that spells the dialects' differences.

use anyhow::{Result, bail};

/// A family of servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// mariadbd, from the system's packages.
    MariaDb,
    /// mysqld 9.x, see `tools/setup mysql`.
    MySql,
}

impl Flavour {
    /// The flavour named by the environment variable `FLAVOUR`: `mariadb` (also when unset or empty) or `mysql`.
    pub fn from_env() -> Result<Self> {
        match std::env::var("FLAVOUR") {
            Ok(word) if !word.is_empty() => Self::parse(&word),
            _ => Ok(Self::MariaDb),
        }
    }

    /// Reads `mariadb` or `mysql`, in any case.
    pub fn parse(word: &str) -> Result<Self> {
        match word.to_ascii_lowercase().as_str() {
            "mariadb" => Ok(Self::MariaDb),
            "mysql" => Ok(Self::MySql),
            _ => bail!("unknown flavour {word:?}: it is either mariadb or mysql"),
        }
    }

    /// `mariadb` or `mysql`: the word [`Flavour::parse`] reads.
    pub fn word(self) -> &'static str {
        match self {
            Self::MariaDb => "mariadb",
            Self::MySql => "mysql",
        }
    }

    /// The name as people write it.
    pub fn title(self) -> &'static str {
        match self {
            Self::MariaDb => "MariaDB",
            Self::MySql => "MySQL",
        }
    }

    /// The statement that points a replica at `port` on this machine and lets it find its place by GTID, with `delay_s` seconds
    /// of intended lag.
    pub fn follow(self, port: u16, delay_s: u32) -> String {
        let (user, password) = (crate::accounts::REPLICATION.name, crate::accounts::REPLICATION.password);
        match self {
            Self::MariaDb => format!(
                "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='{user}', MASTER_PASSWORD='{password}', \
                 MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1, MASTER_HEARTBEAT_PERIOD=1, MASTER_DELAY={delay_s}"
            ),
            Self::MySql => format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={port}, SOURCE_USER='{user}', \
                 SOURCE_PASSWORD='{password}', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1, SOURCE_CONNECT_RETRY=1, \
                 SOURCE_RETRY_COUNT=86400, SOURCE_HEARTBEAT_PERIOD=1, SOURCE_DELAY={delay_s}"
            ),
        }
    }

    /// Changes only the intended lag of a stopped replica.
    pub fn change_delay(self, delay_s: u32) -> String {
        match self {
            Self::MariaDb => format!("CHANGE MASTER TO MASTER_DELAY={delay_s}"),
            Self::MySql => format!("CHANGE REPLICATION SOURCE TO SOURCE_DELAY={delay_s}"),
        }
    }

    /// Starts both replication threads.
    pub fn start_replica(self) -> &'static str {
        match self {
            Self::MariaDb => "START SLAVE",
            Self::MySql => "START REPLICA",
        }
    }

    /// Stops both replication threads.
    pub fn stop_replica(self) -> &'static str {
        match self {
            Self::MariaDb => "STOP SLAVE",
            Self::MySql => "STOP REPLICA",
        }
    }

    /// The options of servers that replicate semi-synchronously: a commit is acknowledged when another server has received it, or after ten seconds.
    pub fn semi_sync(self) -> &'static [&'static str] {
        match self {
            Self::MariaDb => &[
                "--rpl-semi-sync-master-enabled=ON",
                "--rpl-semi-sync-slave-enabled=ON",
                "--rpl-semi-sync-master-wait-point=AFTER_SYNC",
                "--rpl-semi-sync-master-timeout=10000",
            ],
            Self::MySql => &[
                "--plugin-load-add=semisync_source.so",
                "--plugin-load-add=semisync_replica.so",
                "--loose-rpl-semi-sync-source-enabled=ON",
                "--loose-rpl-semi-sync-replica-enabled=ON",
                "--loose-rpl-semi-sync-source-wait-point=AFTER_SYNC",
                "--loose-rpl-semi-sync-source-timeout=10000",
            ],
        }
    }

    /// A query whose one value is all GTIDs this server has executed, as text its peers understand.
    pub fn executed_gtids(self) -> &'static str {
        match self {
            Self::MariaDb => "SELECT @@GLOBAL.gtid_current_pos",
            Self::MySql => "SELECT @@GLOBAL.gtid_executed",
        }
    }

    /// A query that waits up to `seconds` until `gtids` are applied; its one value is 0 when they are.
    pub fn wait_for_gtids(self, gtids: &str, seconds: u32) -> String {
        match self {
            Self::MariaDb => format!("SELECT MASTER_GTID_WAIT('{gtids}', {seconds})"),
            Self::MySql => format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{gtids}', {seconds})"),
        }
    }
}

impl std::fmt::Display for Flavour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}
