//! What is asked beside the log: whether a server's log can be relied upon, where it stands, and how its tables hang together.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::{AdminConnection, QueryError, TextResult, connect_admin};
use crate::binlog::Kin;
use crate::binlog::kin::{KIN_MAX, innodb_names};
use crate::monitor::{Account, MonitoredServer};
use crate::topology::Flavor;
use crate::topology::gtid::GtidSet;

/// What a server says of its log.
#[derive(Clone, Debug)]
pub(super) struct LogFacts {
    pub flavor: Flavor,
    /// Everything in it.
    pub position: GtidSet,
    /// `lower_case_table_names` is not 0.
    pub lower: bool,
    /// The server's clock, Unix seconds.
    pub now: f64,
    /// Seconds since it started.
    pub uptime: f64,
    /// The number it gave our connection: they rise until it starts anew.
    pub connection: u32,
    /// `server_id`.
    pub server: u32,
    /// Whatever tells this server from others.
    pub identity: String,
    /// Where its log ends: the file, and the place in it as far as four bytes tell.
    pub end: (String, u32),
}

fn cell<'a>(results: &'a [TextResult], at: usize, column: &str) -> &'a str {
    results.get(at).and_then(|result| result.get(0, column)).unwrap_or_default()
}

/// The connection beside the log's. Made when it is needed, and again when it broke: it may lie idle for longer than the server keeps it.
pub(super) struct Beside {
    server: MonitoredServer,
    account: Arc<Account>,
    limit: Duration,
    connection: Option<AdminConnection>,
}

impl Beside {
    pub(super) fn new(server: MonitoredServer, account: Arc<Account>, limit: Duration) -> Beside {
        Beside { server, account, limit, connection: None }
    }

    async fn connect(&mut self) -> Result<&mut AdminConnection, String> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let MonitoredServer { address, tls } = &self.server;
                let connecting = connect_admin(address, tls, &self.account.user, &self.account.password, self.limit);
                connecting.await.map_err(|error| error.to_string())?
            }
        };
        Ok(self.connection.insert(connection))
    }

    /// See [`facts`].
    pub(super) async fn facts(&mut self) -> Result<Result<LogFacts, String>, String> {
        let asked = facts(self.connect().await?).await;
        asked.map_err(|error| format!("{error}; docs/grants.md lists what the account needs"))
    }

    /// How tables hang together. `statements`: triggers and views matter too. What may not be asked stays unknown.
    pub(super) async fn kin(&mut self, statements: bool) -> Result<Kin, String> {
        let reused = self.connection.is_some();
        match self.ask_kin(statements).await {
            Err(Ask::Broken) if reused => {
                self.connection = None;
                self.ask_kin(statements).await
            }
            asked => asked,
        }
        .map_err(|error| error.to_string())
    }

    async fn ask_kin(&mut self, statements: bool) -> Result<Kin, Ask> {
        let kin = foreign_keys(self.connect().await?).await?;
        // A right that was granted is one of the sessions that begin behind it, and only `SHOW GRANTS` shows it to others at once.
        if !statements || !sees_all_tables(self.connect().await?).await? {
            return Ok(kin);
        }
        self.connection = None;
        let kin = indirect(self.connect().await?, kin).await?;
        Ok(if sees_all_tables(self.connect().await?).await? { kin } else { kin.without_indirect() })
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Ask {
    #[error("{0}")]
    Connect(String),
    #[error("the connection broke")]
    Broken,
    #[error("{0}")]
    Query(QueryError),
}

impl From<String> for Ask {
    fn from(error: String) -> Ask {
        Ask::Connect(error)
    }
}

impl From<QueryError> for Ask {
    fn from(error: QueryError) -> Ask {
        match error {
            QueryError::Io(_) => Ask::Broken,
            other => Ask::Query(other),
        }
    }
}

/// Asks; the inner error says why its log cannot be followed.
pub(super) async fn facts(connection: &mut AdminConnection) -> Result<Result<LogFacts, String>, QueryError> {
    let flavor = connection.flavor();
    let (variables, status) = match flavor {
        Flavor::MySql => (
            "@@global.gtid_executed AS f_gtid, @@global.gtid_mode AS f_mode, @@global.log_replica_updates AS f_relayed",
            "SHOW BINARY LOG STATUS",
        ),
        Flavor::MariaDb => {
            ("@@global.gtid_binlog_pos AS f_gtid, 'ON' AS f_mode, @@global.log_slave_updates AS f_relayed", "SHOW MASTER STATUS")
        }
    };
    let sql = format!(
        "SELECT @@global.log_bin AS f_log, @@global.lower_case_table_names AS f_lower, UNIX_TIMESTAMP(NOW(6)) AS f_now, \
         @@global.server_id AS f_server, {variables}; {status}; SHOW GLOBAL STATUS LIKE 'Uptime'; \
         SHOW GLOBAL VARIABLES WHERE Variable_name IN ('server_uuid', 'server_uid', 'server_id', 'hostname', 'port', 'datadir', 'version')"
    );
    let results = connection.query(&sql).await?;
    let say = |what: &str| cell(&results, 0, what);
    if say("f_log") != "1" {
        return Ok(Err("its binary log is off (log_bin)".to_owned()));
    }
    if !say("f_mode").eq_ignore_ascii_case("ON") {
        return Ok(Err(format!("it has no GTIDs (gtid_mode is {})", say("f_mode"))));
    }
    if say("f_relayed") != "1" {
        return Ok(Err("what it replicates is not in its log (log_replica_updates is off)".to_owned()));
    }
    for column in ["Binlog_Do_DB", "Binlog_Ignore_DB"] {
        let filter = cell(&results, 1, column);
        if !filter.is_empty() {
            return Ok(Err(format!("not all schemas are in its log ({column}: {filter})")));
        }
    }
    let position = match GtidSet::parse(flavor, say("f_gtid")) {
        Ok(position) => position,
        Err(error) => return Ok(Err(format!("its GTIDs cannot be read: {error}"))),
    };
    Ok(Ok(LogFacts {
        flavor,
        position,
        lower: say("f_lower") != "0",
        now: say("f_now").parse().unwrap_or_default(),
        uptime: cell(&results, 2, "Value").parse().unwrap_or_default(),
        connection: connection.connection_id(),
        server: say("f_server").parse().unwrap_or_default(),
        identity: identity(results.get(3).map(|result| result.rows.as_slice()).unwrap_or_default()),
        end: (cell(&results, 1, "File").to_owned(), cell(&results, 1, "Position").parse::<u64>().unwrap_or_default() as u32),
    }))
}

/// Names and values in the order of the names.
fn identity(rows: &[Vec<Option<String>>]) -> String {
    let mut lines: Vec<String> = rows.iter().map(|row| format!("{}={}\n", text(row, 0), text(row, 1))).collect();
    lines.sort();
    lines.concat()
}

/// Which tables' rows follow others.
async fn foreign_keys(connection: &mut AdminConnection) -> Result<Kin, QueryError> {
    let mut kin = Kin::default();
    // The lowest four bits: ON DELETE CASCADE, ON DELETE SET NULL, ON UPDATE CASCADE, ON UPDATE SET NULL. MySQL tells names as they are, MariaDB as it
    // names files, and knows how to read those.
    let (columns, table) = match connection.flavor() {
        Flavor::MySql => ("FOR_NAME, REF_NAME".to_owned(), "INNODB_FOREIGN"),
        Flavor::MariaDb => {
            let part = |name: &str, part: &str| {
                format!("CONVERT(CONVERT(CAST(SUBSTRING_INDEX({name}, '/', {part}) AS BINARY) USING filename) USING utf8mb4)")
            };
            let whole = |name: &str| format!("CONCAT({}, '/', {})", part(name, "1"), part(name, "-1"));
            (format!("{}, {}", whole("FOR_NAME"), whole("REF_NAME")), "INNODB_SYS_FOREIGN")
        }
    };
    let sql = format!("SELECT {columns} FROM information_schema.{table} WHERE TYPE & 15 LIMIT {}", KIN_MAX + 1);
    if let Some(rows) = allowed(connection.query(&sql).await)? {
        kin = kin.with_children(rows.iter().flat_map(|row| {
            let parents = innodb_names(text(row, 1));
            innodb_names(text(row, 0))
                .into_iter()
                .flat_map(move |child| parents.clone().into_iter().map(move |p| (child.clone(), p)))
        }));
    }
    Ok(kin)
}

/// Which tables have triggers, and which are views.
async fn indirect(connection: &mut AdminConnection, mut kin: Kin) -> Result<Kin, QueryError> {
    let sql = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE = 'VIEW' UNION \
         SELECT EVENT_OBJECT_SCHEMA, EVENT_OBJECT_TABLE FROM information_schema.TRIGGERS LIMIT {}",
        KIN_MAX + 1
    );
    if let Some(rows) = allowed(connection.query(&sql).await)? {
        kin = kin.with_indirect(rows.iter().map(|row| (text(row, 0).to_owned(), text(row, 1).to_owned())));
    }
    Ok(kin)
}

/// The information schema shows the triggers and views of tables only to whom has `TRIGGER` on them.
async fn sees_all_tables(connection: &mut AdminConnection) -> Result<bool, QueryError> {
    let Some(rows) = allowed(connection.query("SHOW GRANTS").await)? else { return Ok(false) };
    Ok(rows.iter().map(|row| text(row, 0)).any(|grant| {
        let Some((rights, _)) = grant.split_once(" ON *.* TO ") else { return false };
        let rights = rights.trim_start_matches("GRANT ");
        rights.split(',').any(|right| matches!(right.trim(), "TRIGGER" | "ALL PRIVILEGES"))
    }))
}

fn text(row: &[Option<String>], at: usize) -> &str {
    row.get(at).and_then(Option::as_deref).unwrap_or_default()
}

/// The rows, or `None` when the account may not ask.
fn allowed(result: Result<Vec<TextResult>, QueryError>) -> Result<Option<Vec<Vec<Option<String>>>>, QueryError> {
    match result {
        Ok(results) => Ok(results.into_iter().next().map(|result| result.rows)),
        Err(error) if error.code().is_some() => Ok(None),
        Err(error) => Err(error),
    }
}
