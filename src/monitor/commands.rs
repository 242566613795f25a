//! What the servers are told when the master is replaced, in their own words. No connection in here.
//!
//! Grants these need, beside those of [`super::queries`]; all of them only where `failover.mode` is not `"off"`:
//!
//! | for | MySQL | MariaDB |
//! |---|---|---|
//! | `read_only`, `super_read_only` | `SYSTEM_VARIABLES_ADMIN` | `READ_ONLY ADMIN` |
//! | `STOP`, `START`, `CHANGE` of replication | `REPLICATION_SLAVE_ADMIN` | `REPLICATION SLAVE ADMIN` |
//! | finding writers | `PROCESS` | `PROCESS` |
//! | ending them | `CONNECTION_ADMIN` | `CONNECTION ADMIN` |

use crate::topology::Flavor;

/// Makes a server read-only for everybody the account's privileges allow to name: on MySQL for `SUPER` too.
pub fn read_only(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::MySql => "SET GLOBAL super_read_only = ON",
        Flavor::MariaDb => "SET GLOBAL read_only = ON",
    }
}

/// Makes it writable.
pub fn writable(flavor: Flavor) -> &'static [&'static str] {
    match flavor {
        Flavor::MySql => &["SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF"],
        Flavor::MariaDb => &["SET GLOBAL read_only = OFF"],
    }
}

/// The threads that have changed rows or locked some in an open transaction, ours and those of replication left out.
pub const WRITERS: &str = "SELECT t.trx_mysql_thread_id AS id FROM information_schema.innodb_trx t \
     JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id \
     WHERE (t.trx_rows_modified > 0 OR t.trx_rows_locked > 0) AND p.user NOT IN ('system user', 'event_scheduler') AND p.id <> CONNECTION_ID()";

/// The threads of our own account whose write hangs: a heartbeat that waits for a lock or a disk would be written when that is over, on a server that is
/// no master any more. An account that may change `read_only` writes in spite of it; the rows' statements look at `read_only` themselves, those that make the
/// schema and the table cannot.
pub fn own_writers(account: &str) -> String {
    format!(
        "SELECT id AS id FROM information_schema.processlist WHERE user = {} AND command = 'Query' AND id <> CONNECTION_ID() \
         AND (info LIKE 'UPDATE %' OR info LIKE 'INSERT %' OR info LIKE 'CREATE %')",
        literal(account)
    )
}

/// The threads of our own account that wait to make the server read-only.
pub fn own_fences(account: &str) -> String {
    format!(
        "SELECT id AS id FROM information_schema.processlist WHERE user = {} AND command = 'Query' AND id <> CONNECTION_ID() \
         AND info IN ('{}', '{}')",
        literal(account),
        read_only(Flavor::MySql),
        read_only(Flavor::MariaDb)
    )
}

/// The threads of our own account that wait for a receiver to stop, to start it again: a look whether it hears from its source. What is to receive nothing more
/// must not be started by one that is late. (MySQL's STOP goes on in spite of it; what would follow does not.)
pub fn own_probes(account: &str) -> String {
    format!(
        "SELECT id AS id FROM information_schema.processlist WHERE user = {} AND command = 'Query' AND id <> CONNECTION_ID() \
         AND (info LIKE 'STOP REPLICA IO_THREAD%' OR info LIKE 'STOP SLAVE%IO_THREAD%')",
        literal(account)
    )
}

/// MySQL: replication's threads in the middle of a transaction. What its source has broken off keeps its rows locked for a minute after STOP
/// (`SLAVE_WAIT_GROUP_DONE`, while it is applied in parallel); ended, it is rolled back at once. Whose channel they apply is not told here.
pub const HALF_APPLIED: &str = "SELECT t.trx_mysql_thread_id AS id FROM information_schema.innodb_trx t \
     JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id \
     WHERE (t.trx_rows_modified > 0 OR t.trx_rows_locked > 0) AND p.user = 'system user'";

/// Ends a thread.
pub fn kill(id: &str) -> Option<String> {
    id.parse::<u64>().ok().map(|id| format!("KILL {id}"))
}

/// MariaDB: a semi-synchronous receiver that is stopped logs in at its source to end its thread there, and waits five seconds for one that is
/// frozen. One has to do; less cannot be said.
pub const SHORT_GOODBYE: &str = "SET GLOBAL rpl_semi_sync_slave_kill_conn_timeout = IF(@@GLOBAL.rpl_semi_sync_slave_enabled, \
     LEAST(@@GLOBAL.rpl_semi_sync_slave_kill_conn_timeout, 1), @@GLOBAL.rpl_semi_sync_slave_kill_conn_timeout)";

/// Stops fetching on one channel.
pub fn stop_receiver(flavor: Flavor, channel: &str) -> String {
    match flavor {
        Flavor::MySql => format!("STOP REPLICA IO_THREAD FOR CHANNEL {}", literal(channel)),
        Flavor::MariaDb => format!("STOP SLAVE {}IO_THREAD", connection(channel)),
    }
}

/// Starts fetching on one channel; the applier is left as it is.
pub fn start_receiver(flavor: Flavor, channel: &str) -> String {
    match flavor {
        Flavor::MySql => format!("START REPLICA IO_THREAD FOR CHANNEL {}", literal(channel)),
        Flavor::MariaDb => format!("START SLAVE {}IO_THREAD", connection(channel)),
    }
}

/// Stops both threads of one channel.
pub fn stop(flavor: Flavor, channel: &str) -> String {
    match flavor {
        Flavor::MySql => format!("STOP REPLICA FOR CHANNEL {}", literal(channel)),
        Flavor::MariaDb => format!("STOP SLAVE {}", connection(channel)).trim_end().to_owned(),
    }
}

/// Starts both threads of one channel.
pub fn start(flavor: Flavor, channel: &str) -> String {
    match flavor {
        Flavor::MySql => format!("START REPLICA FOR CHANNEL {}", literal(channel)),
        Flavor::MariaDb => format!("START SLAVE {}", connection(channel)).trim_end().to_owned(),
    }
}

/// Lets a stopped channel replicate from another server; it finds its place by GTID. Its account, its TLS and the rest stay as they are. `demoted`:
/// on MariaDB what the server wrote itself while it was master counts as its position.
pub fn follow(flavor: Flavor, channel: &str, host: &str, port: u16, demoted: bool) -> String {
    let host = literal(host);
    match flavor {
        Flavor::MySql => format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST={host}, SOURCE_PORT={port}, SOURCE_AUTO_POSITION=1 FOR CHANNEL {}",
            literal(channel)
        ),
        Flavor::MariaDb => format!(
            "CHANGE MASTER {}TO MASTER_HOST={host}, MASTER_PORT={port}, MASTER_USE_GTID=slave_pos{}",
            connection(channel),
            if demoted { ", MASTER_DEMOTE_TO_SLAVE=1" } else { "" }
        ),
    }
}

/// MySQL: the same of a channel whose receiver alone is stopped, and which finds its place by GTID already: what it has received is kept, and is applied
/// meanwhile. To stop the applier takes a minute where the old source broke off in the middle of a transaction (`SLAVE_WAIT_GROUP_DONE`).
pub fn receive_from(channel: &str, host: &str, port: u16) -> String {
    let (host, channel) = (literal(host), literal(channel));
    format!("CHANGE REPLICATION SOURCE TO SOURCE_HOST={host}, SOURCE_PORT={port} FOR CHANNEL {channel}")
}

/// The privileges of the list above.
pub fn privileges(flavor: Flavor) -> &'static [&'static str] {
    match flavor {
        Flavor::MySql => &["SYSTEM_VARIABLES_ADMIN", "REPLICATION_SLAVE_ADMIN", "PROCESS", "CONNECTION_ADMIN"],
        Flavor::MariaDb => &["READ_ONLY ADMIN", "REPLICATION SLAVE ADMIN", "PROCESS", "CONNECTION ADMIN"],
    }
}

/// What is better to have: without it `sluice check --online` says what is not done.
pub fn lacks_advised(flavor: Flavor, grants: &[String]) -> Option<&'static str> {
    let lacks = flavor == Flavor::MySql && !missing(&["SYSTEM_USER"], grants).is_empty();
    lacks.then_some(
        "without SYSTEM_USER ON *.* the rows of a large transaction that a master dies in the middle of sending stay locked on the \
         next one for up to a minute",
    )
}

/// Which of them the lines of `SHOW GRANTS` do not give. What comes by a role is not seen.
pub fn missing_privileges(flavor: Flavor, grants: &[String]) -> Vec<&'static str> {
    missing(privileges(flavor), grants)
}

/// The same of what reading a server's binlog takes.
pub fn missing_binlog_privileges(flavor: Flavor, grants: &[String]) -> Vec<&'static str> {
    let wanted: &[&str] = match flavor {
        Flavor::MySql => &["REPLICATION SLAVE"],
        Flavor::MariaDb => &["REPLICATION SLAVE", "BINLOG MONITOR"],
    };
    missing(wanted, grants)
}

fn missing(wanted: &[&'static str], grants: &[String]) -> Vec<&'static str> {
    let given = |privilege: &str| {
        grants.iter().filter_map(|line| line.split_once(" ON *.*")).any(|(given, _)| {
            let given = given.trim_start_matches("GRANT ");
            given.split(',').any(|one| one.trim() == privilege || one.trim() == "ALL PRIVILEGES")
        })
    };
    wanted.iter().filter(|privilege| !given(privilege)).copied().collect()
}

/// MariaDB's name of a connection, with a blank behind it; nothing for the unnamed one.
fn connection(channel: &str) -> String {
    if channel.is_empty() { String::new() } else { format!("{} ", literal(channel)) }
}

/// A string literal that reads the same with and without NO_BACKSLASH_ESCAPES: what would need a backslash is left out, for no host and no channel
/// has any.
fn literal(text: &str) -> String {
    let plain: String = text.chars().filter(|c| *c != '\\' && !c.is_control()).collect();
    format!("'{}'", plain.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_named_as_each_flavour_does() {
        use Flavor::{MariaDb, MySql};
        for (told, text) in [
            (stop_receiver(MySql, ""), "STOP REPLICA IO_THREAD FOR CHANNEL ''"),
            (stop_receiver(MariaDb, ""), "STOP SLAVE IO_THREAD"),
            (stop_receiver(MariaDb, "east"), "STOP SLAVE 'east' IO_THREAD"),
            (stop(MySql, "ea'st"), "STOP REPLICA FOR CHANNEL 'ea''st'"),
            (stop(MariaDb, ""), "STOP SLAVE"),
            (start(MariaDb, "east"), "START SLAVE 'east'"),
            (
                follow(MySql, "", "10.0.0.2", 3306, true),
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST='10.0.0.2', SOURCE_PORT=3306, SOURCE_AUTO_POSITION=1 FOR CHANNEL ''",
            ),
            (
                follow(MariaDb, "", "db2", 3306, true),
                "CHANGE MASTER TO MASTER_HOST='db2', MASTER_PORT=3306, MASTER_USE_GTID=slave_pos, MASTER_DEMOTE_TO_SLAVE=1",
            ),
            (
                follow(MariaDb, "a\\b", "db2", 3306, false),
                "CHANGE MASTER 'ab' TO MASTER_HOST='db2', MASTER_PORT=3306, MASTER_USE_GTID=slave_pos",
            ),
            (
                receive_from("", "10.0.0.2", 3306),
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST='10.0.0.2', SOURCE_PORT=3306 FOR CHANNEL ''",
            ),
        ] {
            assert_eq!(told, text);
        }
        let grants = [
            "GRANT PROCESS, CONNECTION ADMIN, READ_ONLY ADMIN ON *.* TO `sluice`@`%`",
            "GRANT SELECT ON `sluice`.* TO `sluice`@`%`",
        ];
        let grants = grants.map(str::to_owned);
        assert_eq!(missing_privileges(MariaDb, &grants), ["REPLICATION SLAVE ADMIN"]);
        assert_eq!(missing_binlog_privileges(MariaDb, &grants), ["REPLICATION SLAVE", "BINLOG MONITOR"]);
        let reader = ["GRANT REPLICATION SLAVE, BINLOG MONITOR, SLAVE MONITOR ON *.* TO `sluice`@`%`".to_owned()];
        assert_eq!(missing_binlog_privileges(MariaDb, &reader), [""; 0]);
        assert_eq!(
            missing_binlog_privileges(MySql, &["GRANT REPLICATION CLIENT ON *.* TO `s`@`%`".to_owned()]),
            ["REPLICATION SLAVE"]
        );
        assert_eq!(missing_privileges(MySql, &["GRANT ALL PRIVILEGES ON *.* TO `root`@`%`".to_owned()]), [""; 0]);
        assert!(lacks_advised(MySql, &grants).is_some_and(|told| told.contains("SYSTEM_USER")));
        assert_eq!(lacks_advised(MySql, &["GRANT SYSTEM_USER,PROCESS ON *.* TO `s`@`%`".to_owned()]), None);
        assert_eq!(lacks_advised(MariaDb, &grants), None);
        assert_eq!(kill("7").as_deref(), Some("KILL 7"));
        assert_eq!(kill("7; DROP"), None);
    }
}
