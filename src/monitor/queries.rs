//! What a server is asked at every heartbeat, in its own words, and how its answer becomes [`Facts`]. No connection in here.
//!
//! One round trip: the questions are one multi-statement. A part the account may not ask (replication status, the heartbeat row) is left out of the
//! next one, see [`Parts`]. Grants the account needs:
//!
//! | for | MySQL | MariaDB |
//! |---|---|---|
//! | roles, GTIDs | none | none |
//! | replication status | `REPLICATION CLIENT ON *.*` | `REPLICA MONITOR ON *.*` (`SLAVE MONITOR`) |
//! | the heartbeat | `SELECT, INSERT, UPDATE, CREATE ON sluice.*` | the same |
//!
//! What failover needs beside these stands in [`super::commands`]. The account it makes may write on a read-only server (on MariaDB whoever may change
//! `read_only` may), so the heartbeat's statements look at `read_only` themselves.

use std::sync::Arc;

use crate::backend::TextResult;
use crate::topology::gtid::MariaDbState;
use crate::topology::lag::Beat;
use crate::topology::observation::{Greeting, ReplicaChannel, Sight, ThreadState};
use crate::topology::{Facts, Flavor, GtidSet};

/// The longest name of this process in the heartbeat row, in bytes; longer ones are cut.
pub const INSTANCE_LEN_MAX: usize = 64;

/// The heartbeat's table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeartbeatTable {
    schema: String,
    table: String,
}

impl HeartbeatTable {
    /// Reads `schema.table`. `None` for anything else.
    pub fn parse(text: &str) -> Option<HeartbeatTable> {
        let (schema, table) = text.split_once('.')?;
        let good = |name: &str| {
            !name.is_empty() && name.chars().count() <= 64 && !name.contains(['.', '\0', '/', '\\']) && !name.ends_with(' ')
        };
        (good(schema) && good(table)).then(|| HeartbeatTable { schema: schema.to_owned(), table: table.to_owned() })
    }

    /// Schema and table.
    pub(super) fn names(&self) -> (String, String) {
        (self.schema.clone(), self.table.clone())
    }

    fn quoted(&self) -> String {
        format!("{}.{}", identifier(&self.schema), identifier(&self.table))
    }
}

/// The heartbeat row of this process: where it is and which is ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeartbeatRow {
    table: HeartbeatTable,
    /// A string literal.
    instance: String,
}

impl HeartbeatRow {
    /// `instance` names this process among all that share the table, and is the same after a restart: two processes of one name would write over each
    /// other. Beyond ASCII letters, digits, `.`, `:`, `-` and `_` every character becomes `_`.
    pub fn new(table: HeartbeatTable, instance: &str) -> HeartbeatRow {
        let plain = |c: char| if c.is_ascii_alphanumeric() || ".:-_".contains(c) { c } else { '_' };
        let name: String = instance.chars().map(plain).take(INSTANCE_LEN_MAX).collect();
        HeartbeatRow { table, instance: format!("'{name}'") }
    }

    /// Where it is.
    pub fn table(&self) -> &HeartbeatTable {
        &self.table
    }

    /// Asks for the row.
    pub fn read(&self) -> String {
        format!("SELECT run, beat FROM {} WHERE proxy = {}", self.table.quoted(), self.instance)
    }

    /// Writes a beat into the row that is there, on a server that is writable.
    pub fn update(&self, beat: Beat) -> String {
        let table = self.table.quoted();
        format!(
            "UPDATE {table} SET run = {}, beat = {}, written = NOW(6) WHERE proxy = {} AND NOT @@global.read_only",
            beat.run, beat.number, self.instance
        )
    }

    /// Writes the first beat. A row that another connection made meanwhile is left alone.
    pub fn insert(&self, beat: Beat) -> String {
        let table = self.table.quoted();
        format!(
            "INSERT IGNORE INTO {table} (proxy, run, beat, written) SELECT {}, {}, {}, NOW(6) FROM DUAL WHERE NOT @@global.read_only",
            self.instance, beat.run, beat.number
        )
    }

    /// Writes a row that nothing else of ours writes, on a server that is writable: whether it writes at all.
    pub fn try_write(&self) -> String {
        let table = self.table.quoted();
        format!(
            "INSERT INTO {table} (proxy, run, beat, written) SELECT {TRIAL}, 0, 0, NOW(6) FROM DUAL WHERE NOT @@global.read_only \
             ON DUPLICATE KEY UPDATE written = NOW(6)"
        )
    }

    /// Makes the schema; asked only when it is missing.
    pub fn create_schema(&self) -> String {
        format!("CREATE DATABASE IF NOT EXISTS {}", identifier(&self.table.schema))
    }

    /// Makes the table; asked only when it is missing.
    pub fn create_table(&self) -> String {
        let columns = "proxy VARCHAR(64) CHARACTER SET ascii NOT NULL PRIMARY KEY, run BIGINT UNSIGNED NOT NULL, beat BIGINT UNSIGNED NOT NULL, \
                       written TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)";
        format!(
            "CREATE TABLE IF NOT EXISTS {} ({columns}) ENGINE=InnoDB COMMENT='Sluice: lag and write checks'",
            self.table.quoted()
        )
    }
}

/// The row of [`HeartbeatRow::try_write`], all proxies' together.
const TRIAL: &str = "'sluice/trial'";

/// Whether a write that failed with this error failed for a reason of its own, that stops no other: ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK,
/// ER_QUERY_INTERRUPTED, ER_CONNECTION_KILLED, ER_STATEMENT_TIMEOUT, ER_QUERY_TIMEOUT.
pub fn is_its_own_fault(code: u16) -> bool {
    matches!(code, 1205 | 1213 | 1317 | 1927 | 1969 | 3024)
}

/// Whether a write that failed with this error failed because the heartbeat's table has another making than ours: ER_BAD_FIELD, ER_WRONG_VALUE_COUNT,
/// ER_WARN_DATA_OUT_OF_RANGE, ER_NON_UPDATABLE_TABLE, ER_TRUNCATED_WRONG_VALUE, ER_WRONG_OBJECT, ER_VIEW_INVALID, ER_NO_DEFAULT_FOR_FIELD,
/// ER_TRUNCATED_WRONG_VALUE_FOR_FIELD, ER_DATA_TOO_LONG, ER_NON_INSERTABLE_TABLE.
pub fn is_another_table(code: u16) -> bool {
    matches!(code, 1054 | 1136 | 1264 | 1288 | 1292 | 1347 | 1356 | 1364 | 1366 | 1406 | 1471)
}

/// What a thread waits for.
pub fn thread_state(id: u32) -> String {
    format!("SELECT state AS f_state FROM information_schema.processlist WHERE id = {id}")
}

/// Whether a write in this state waits for one table only, whoever has locked that.
pub fn waits_for_a_table(state: &str) -> bool {
    state.starts_with("Waiting for table metadata lock") || state.starts_with("Waiting for table level lock")
}

/// A write in this state is being committed, or waits for those before it: "waiting for handler commit" (MySQL), "Commit" (MariaDB), and what groups of
/// commits wait for.
const COMMITTING: [&str; 4] = ["waiting for handler commit", "Commit", "Waiting for prior transaction to commit", "query end"];

/// Whether a write in this state is being committed, so that a large one before it may be what it waits for.
pub fn waits_to_commit(state: &str) -> bool {
    COMMITTING.iter().any(|word| state.eq_ignore_ascii_case(word))
}

/// The largest transaction that is being committed; no row for none of more than a thousand rows. What it writes to the binary log, all other commits
/// wait for. Needs `PROCESS`.
pub fn large_commit() -> String {
    let states: Vec<String> = COMMITTING.iter().map(|state| format!("'{state}'")).collect();
    format!(
        "SELECT t.trx_mysql_thread_id AS f_thread, t.trx_rows_modified AS f_rows FROM information_schema.innodb_trx t \
         JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id \
         WHERE t.trx_rows_modified >= 1000 AND p.state IN ({}) ORDER BY t.trx_rows_modified DESC LIMIT 1",
        states.join(", ")
    )
}

/// Whether the server is read-only.
pub const READ_ONLY: &str = "SELECT @@global.read_only AS f_ro";

fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Which questions the next poll has.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Parts {
    /// What changes slowly or costs much: connection counts, collation, UUID, semi-sync.
    pub slow: bool,
    /// `SHOW REPLICA STATUS`, `SHOW ALL SLAVES STATUS`.
    pub replication: bool,
    /// The heartbeat row.
    pub heartbeat: bool,
}

const MYSQL_EVERY: &str = "SELECT @@global.read_only AS f_ro, @@global.super_read_only AS f_sro, @@global.gtid_executed AS f_gtid, \
     @@global.gtid_purged AS f_purged, @@global.log_bin AND @@global.log_replica_updates AS f_on, @@global.server_id AS f_id, @@global.server_uuid AS f_uuid, @@global.max_connections AS f_max";
const MARIADB_EVERY: &str = "SELECT @@global.read_only AS f_ro, @@global.gtid_current_pos AS f_gtid, @@global.gtid_binlog_pos AS f_binlog, @@global.gtid_binlog_state AS f_state, @@global.log_bin AND @@global.log_slave_updates AS f_on, \
     @@global.server_id AS f_id, @@global.max_connections AS f_max";
const MYSQL_SLOW: &str = "SELECT (SELECT id FROM information_schema.collations WHERE collation_name = @@global.collation_server) AS f_collation, \
     (SELECT variable_value FROM performance_schema.global_status WHERE variable_name = 'Threads_connected') AS f_threads, \
     (SELECT variable_value FROM performance_schema.global_status WHERE variable_name = 'Rpl_semi_sync_source_clients') AS f_semi, \
     (SELECT variable_value FROM performance_schema.global_status WHERE variable_name = 'Rpl_semi_sync_source_status') AS f_semi_on";
const MARIADB_SLOW: &str = "SELECT (SELECT id FROM information_schema.collations WHERE collation_name = @@global.collation_server LIMIT 1) AS f_collation, \
     MAX(IF(variable_name = 'THREADS_CONNECTED', variable_value, NULL)) AS f_threads, \
     MAX(IF(variable_name = 'RPL_SEMI_SYNC_MASTER_CLIENTS', variable_value, NULL)) AS f_semi, \
     MAX(IF(variable_name = 'RPL_SEMI_SYNC_MASTER_STATUS', variable_value, NULL)) AS f_semi_on FROM information_schema.global_status \
     WHERE variable_name IN ('THREADS_CONNECTED', 'RPL_SEMI_SYNC_MASTER_CLIENTS', 'RPL_SEMI_SYNC_MASTER_STATUS')";

/// The questions, as one text.
pub fn poll(flavor: Flavor, parts: Parts, heartbeat: Option<&HeartbeatRow>) -> String {
    let (every, slow, replication) = match flavor {
        Flavor::MySql => (MYSQL_EVERY, MYSQL_SLOW, "SHOW REPLICA STATUS"),
        Flavor::MariaDb => (MARIADB_EVERY, MARIADB_SLOW, "SHOW ALL SLAVES STATUS"),
    };
    let mut sql = every.to_owned();
    if parts.slow {
        sql.push(';');
        sql.push_str(slow);
    }
    if parts.replication {
        sql.push(';');
        sql.push_str(replication);
    }
    if let Some(row) = heartbeat.filter(|_| parts.heartbeat) {
        sql.push(';');
        sql.push_str(&row.read());
    }
    sql
}

/// The answer to [`poll`] as facts. What was not asked this time stays as it stands in `before`.
///
/// # Errors
/// What is missing in the answer, in words.
pub fn facts(
    flavor: Flavor,
    parts: Parts,
    results: &[TextResult],
    greeting: &Greeting,
    before: Option<&Facts>,
) -> Result<Facts, String> {
    let mut results = results.iter();
    let mut next = || results.next().ok_or_else(|| "a result is missing".to_owned());
    let every = next()?;
    let get = |column: &str| every.get(0, column).ok_or_else(|| format!("{column} is missing"));
    let set = |column: &str| -> Result<Option<Arc<GtidSet>>, String> {
        let Some(text) = every.get(0, column) else { return Ok(None) };
        GtidSet::parse(flavor, text).map(|set| Some(Arc::new(set))).map_err(|error| format!("{column} is no set of GTIDs: {error}"))
    };
    let mut facts = Facts {
        flavor,
        greeting: greeting.clone(),
        server_uuid: every.get(0, "f_uuid").unwrap_or_default().to_owned(),
        server_id: get("f_id")?.parse().map_err(|_| "server_id is no number".to_owned())?,
        read_only: is_on(get("f_ro")?),
        super_read_only: every.get(0, "f_sro").is_some_and(is_on),
        gtid_executed: set("f_gtid")?,
        gtid_purged: set("f_purged")?,
        gtid_binlog: set("f_binlog")?,
        sends_on: every.get(0, "f_on").is_none_or(is_on),
        gtid_state: match every.get(0, "f_state").filter(|_| flavor == Flavor::MariaDb) {
            Some(text) => {
                Some(Arc::new(MariaDbState::parse(text).map_err(|error| format!("f_state is no list of GTIDs: {error}"))?))
            }
            None => None,
        },
        sight: if parts.replication { Sight::Clear } else { Sight::Denied },
        restarts: before.map_or(0, |b| b.restarts),
        replication: Vec::new(),
        heartbeat: None,
        semi_sync_clients: before.and_then(|b| b.semi_sync_clients),
        threads_connected: before.map_or(0, |b| b.threads_connected),
        max_connections: get("f_max")?.parse().map_err(|_| "max_connections is no number".to_owned())?,
    };
    facts.greeting.collation = before.map_or(greeting.collation, |b| b.greeting.collation);
    if parts.slow {
        let slow = next()?;
        let number = |column: &str| slow.get(0, column).and_then(|text| text.parse::<u32>().ok());
        facts.threads_connected = number("f_threads").unwrap_or_default();
        facts.semi_sync_clients = number("f_semi").filter(|_| slow.get(0, "f_semi_on").is_some_and(is_on));
        if let Some(collation) = number("f_collation").and_then(|id| u16::try_from(id).ok()) {
            facts.greeting.collation = collation;
        }
    }
    if parts.replication {
        let status = next()?;
        facts.replication = (0..status.rows.len()).map(|row| channel(flavor, status, row)).collect();
    }
    if parts.heartbeat {
        let row = next()?;
        let number = |column: &str| row.get(0, column).and_then(|text| text.parse::<u64>().ok());
        facts.heartbeat = Some(match (number("run"), number("beat")) {
            (Some(run), Some(number)) => Beat { run, number },
            _ => Beat::NONE,
        });
    }
    Ok(facts)
}

fn channel(flavor: Flavor, status: &TextResult, row: usize) -> ReplicaChannel {
    let (name, io, sql, host, port, uuid, id, behind, gtid) = match flavor {
        Flavor::MySql => (
            "Channel_Name",
            "Replica_IO_Running",
            "Replica_SQL_Running",
            "Source_Host",
            "Source_Port",
            "Source_UUID",
            "Source_Server_Id",
            "Seconds_Behind_Source",
            "Retrieved_Gtid_Set",
        ),
        Flavor::MariaDb => (
            "Connection_name",
            "Slave_IO_Running",
            "Slave_SQL_Running",
            "Master_Host",
            "Master_Port",
            "",
            "Master_Server_Id",
            "Seconds_Behind_Master",
            "Gtid_IO_Pos",
        ),
    };
    let text = |column: &str| status.get(row, column).unwrap_or_default().to_owned();
    let error = |number: &str, message: &str| match status.get(row, number) {
        None | Some("0" | "") => String::new(),
        Some(number) => format!("{number} {}", text(message)),
    };
    ReplicaChannel {
        name: text(name),
        source_host: text(host),
        source_port: text(port).parse().unwrap_or_default(),
        source_uuid: text(uuid),
        source_server_id: text(id).parse().unwrap_or_default(),
        io_running: thread(&text(io)),
        sql_running: thread(&text(sql)),
        last_io_error: error("Last_IO_Errno", "Last_IO_Error"),
        last_sql_error: error("Last_SQL_Errno", "Last_SQL_Error"),
        retrieved: GtidSet::parse(flavor, &text(gtid)).ok().map(Arc::new),
        seconds_behind: status.get(row, behind).and_then(|text| text.parse().ok()),
        delay: text("SQL_Delay").parse().unwrap_or_default(),
    }
}

fn thread(text: &str) -> ThreadState {
    match text {
        "Yes" => ThreadState::Running,
        "No" | "" => ThreadState::Stopped,
        _ => ThreadState::Connecting,
    }
}

/// `read_only` is a boolean, and in MariaDB 12 an enumeration (`NO_LOCK`, `NO_LOCK_NO_ADMIN`): everything but off is on.
fn is_on(text: &str) -> bool {
    !matches!(text, "0" | "OFF" | "")
}

#[cfg(test)]
mod tests;
