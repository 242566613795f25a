//! Asks the master what tables, views, triggers and cascades there are, for the cache: when it does not know, and where nobody reads the
//! binlog for it also now and then.
//!
//! Sluice's account sees all of them with `TRIGGER` and `SHOW VIEW` on `*.*`, which let it see no row. Without these the list might lack
//! a trigger, so that then nothing is kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::{Account, HeartbeatTable, Reached};
use crate::backend::{AdminConnection, TextResult, connect_admin};
use crate::cache::definitions::{Named, Told};
use crate::cache::epoch::Need;
use crate::cache::{Cache, VoidReason};
use crate::sql::lexer::{Dialect, LexMode};
use crate::topology::{Flavor, ServerId, Snapshot};

/// How often it is looked whether something is to be asked.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// After a failure.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How long the answers may take: a server opens its tables for some of them.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Schemas of the server itself; nothing in them is kept.
const NOT_SYSTEM: &str = "NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema')";

/// Whom to ask, and for whom.
pub struct Asker {
    /// Who wants to know.
    pub cache: Arc<Cache>,
    /// How to reach the servers.
    pub reached: Arc<ArcSwap<Reached>>,
    /// Who is master.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// How often it is asked again though it is known; `None`: never.
    pub again_every: Option<Duration>,
}

impl Asker {
    /// Runs for as long as the process does.
    pub async fn run(self) {
        let mut kept: Option<(ServerId, AdminConnection)> = None;
        let mut last = Instant::now();
        let mut heartbeat = self.heartbeat();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            // Where this process writes none, another one may still write the one before.
            if let Some(written) = self.heartbeat().filter(|written| heartbeat.as_ref() != Some(written)) {
                // From now on it is written past the cache, and what was kept of it is void.
                heartbeat = Some(written);
                self.cache.everything(VoidReason::Ddl, &Need::Nothing);
            }
            let due = self.again_every.is_some_and(|every| last.elapsed() >= every);
            let Some(version) = self.cache.wants_definitions().or_else(|| due.then(|| self.cache.asking())) else { continue };
            // Where no log tells, each procedure may have changed them: not so many questions as calls.
            if self.again_every.is_some() && last.elapsed() < AGAIN_AFTER {
                continue;
            }
            last = Instant::now();
            match self.ask(&mut kept, heartbeat.clone()).await {
                Ok((told, mode)) => self.cache.told(version, told, mode),
                Err(why) => {
                    kept = None;
                    tracing::debug!(why, "the tables are not known");
                    self.cache.untold(&why);
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
        }
    }

    /// The heartbeat's table as the configuration has it now, if there is one.
    fn heartbeat(&self) -> Option<Named> {
        self.reached.load().heartbeat.as_ref().map(HeartbeatTable::names)
    }

    async fn ask(
        &self,
        kept: &mut Option<(ServerId, AdminConnection)>,
        heartbeat: Option<Named>,
    ) -> Result<(Told, LexMode), String> {
        let master = self.snapshot.load().master.ok_or("there is no master to ask")?;
        let mut connection = match kept.take().filter(|(id, _)| *id == master) {
            Some((_, connection)) => connection,
            None => connect(&self.reached, master, ANSWER_LIMIT).await?,
        };
        let dialect = match connection.flavor() {
            Flavor::MySql => Dialect::MySql,
            Flavor::MariaDb => Dialect::MariaDb,
        };
        let told = Told { heartbeat, ..told(&mut connection).await? };
        *kept = Some((master, connection));
        Ok((told, LexMode { dialect, ..LexMode::default() }))
    }
}

async fn told(connection: &mut AdminConnection) -> Result<Told, String> {
    let rights = rows(
        connection,
        "SELECT DISTINCT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES WHERE PRIVILEGE_TYPE IN ('TRIGGER', 'SHOW VIEW')",
    )
    .await?;
    if rights.len() < 2 {
        return Err("the monitor's account lacks TRIGGER or SHOW VIEW on *.*; docs/grants.md lists the grants".to_owned());
    }
    let variables =
        "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('transaction_isolation', 'tx_isolation', 'enable_cascade_triggers')";
    let variables = rows(connection, variables).await?;
    if variables.iter().any(|row| at(row, 1).to_ascii_uppercase().contains("UNCOMMITTED")) {
        return Err("the server's transaction_isolation is READ-UNCOMMITTED: what is read may never be committed".to_owned());
    }
    // Sessions may set it for themselves, so whatever it is now, its being there is what counts.
    let cascades_fire = variables.iter().any(|row| at(row, 0).eq_ignore_ascii_case("enable_cascade_triggers"));
    let mut told = Told { cascades_fire, ..Told::default() };
    let tables = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA {NOT_SYSTEM}"
    );
    for row in rows(connection, &tables).await? {
        told.tables.push((named(&row, 0, 1), at(&row, 2), at(&row, 3)));
    }
    let triggers = "SELECT DISTINCT EVENT_OBJECT_SCHEMA, EVENT_OBJECT_TABLE FROM information_schema.TRIGGERS";
    told.triggers = rows(connection, triggers).await?.iter().map(|row| named(row, 0, 1)).collect();
    // RESTRICT and NO ACTION change no child.
    let cascades = "SELECT UNIQUE_CONSTRAINT_SCHEMA, REFERENCED_TABLE_NAME, CONSTRAINT_SCHEMA, TABLE_NAME \
                    FROM information_schema.REFERENTIAL_CONSTRAINTS \
                    WHERE DELETE_RULE NOT IN ('RESTRICT', 'NO ACTION') OR UPDATE_RULE NOT IN ('RESTRICT', 'NO ACTION')";
    told.cascades = rows(connection, cascades).await?.iter().map(|row| (named(row, 0, 1), named(row, 2, 3))).collect();
    let views =
        format!("SELECT TABLE_SCHEMA, TABLE_NAME, VIEW_DEFINITION FROM information_schema.VIEWS WHERE TABLE_SCHEMA {NOT_SYSTEM}");
    told.views = rows(connection, &views).await?.iter().map(|row| (named(row, 0, 1), at(row, 2))).collect();
    // The same is to be found the same.
    told.tables.sort();
    told.triggers.sort();
    told.cascades.sort();
    told.views.sort();
    Ok(told)
}

/// Logs in at a server with Sluice's own account.
async fn connect(reached: &ArcSwap<Reached>, id: ServerId, limit: Duration) -> Result<AdminConnection, String> {
    let reached = reached.load_full();
    let server = reached.servers.get(id.index()).ok_or("no such server")?;
    let Account { user, password } = &*reached.account;
    connect_admin(&server.address, &server.tls, user, password, limit).await.map_err(|e| e.to_string())
}

type Row = Vec<Option<String>>;

async fn rows(connection: &mut AdminConnection, sql: &str) -> Result<Vec<Row>, String> {
    let results = connection.query(sql).await.map_err(|e| format!("{e} ({sql})"))?;
    Ok(results.into_iter().next().map(|TextResult { rows, .. }| rows).unwrap_or_default())
}

fn at(row: &Row, column: usize) -> String {
    row.get(column).cloned().flatten().unwrap_or_default()
}

fn named(row: &Row, schema: usize, name: usize) -> Named {
    (at(row, schema), at(row, name))
}
