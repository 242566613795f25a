//! A server sends a transaction's events before others can see its rows: with semi-synchronous replication it waits for a replica in between. A read in that
//! time gives the old rows to the cache, behind the change. So every change is told a second time, when it is certain that it can be seen.
//!
//! MySQL adds a transaction to `gtid_executed` when it can be seen. MariaDB has nothing like it, but a consistent snapshot tells which place of the log it
//! shows (`binlog_snapshot_position`).

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::BinlogStatus;
use crate::backend::{AdminConnection, QueryError, connect_admin};
use crate::binlog::{What, Why};
use crate::cache::{Changes, VoidReason};
use crate::monitor::{Account, MonitoredServer};
use crate::topology::gtid::GtidSet;
use crate::topology::{Flavor, ServerId};

/// Between two questions; doubled while nothing has come of them, up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Changes that cannot be seen yet, as far as is known.
#[derive(Debug)]
pub(super) struct Pending {
    pub what: What,
    /// MySQL: which transactions. Empty: without names.
    pub gtids: Option<GtidSet>,
    /// MariaDB: where the last of them ends.
    pub end: (String, u32),
    pub transactions: u64,
    /// The number of the last of them.
    pub last: u64,
}

/// What waits, and who is to be asked about it.
pub(super) struct Settling {
    changes: Arc<dyn Changes>,
    state: Mutex<Told>,
    added: Notify,
}

/// Held while the cache is told, so that no older name of a transaction is told behind a newer one.
#[derive(Default)]
struct Told {
    server: Option<ServerId>,
    pending: Option<Pending>,
    /// Everything told.
    position: Option<GtidSet>,
    /// How many changes were told.
    count: u64,
    /// All up to this one can be seen.
    settled: u64,
}

impl Settling {
    pub(super) fn new(changes: Arc<dyn Changes>) -> Settling {
        Settling { changes, state: Mutex::default(), added: Notify::new() }
    }

    /// What is read from now on comes from this server.
    pub(super) fn ask(&self, server: ServerId) {
        self.state.lock().server = Some(server);
    }

    /// All changes up to this number can be seen.
    pub(super) fn settled(&self) -> u64 {
        self.state.lock().settled
    }

    /// Tells a change for the first time, and returns its number. `position` is the reader's, that change included.
    pub(super) fn tell(&self, what: What, gtid: Option<&GtidSet>, position: &GtidSet, end: (String, u32)) -> u64 {
        let mut told = self.state.lock();
        if what.is_nothing() {
            return told.count;
        }
        told.count += 1;
        let last = told.count;
        told.position = Some(position.clone());
        tell(&*self.changes, &what, gtid);
        match &mut told.pending {
            Some(pending) => {
                pending.what.merge(what);
                match (&mut pending.gtids, gtid) {
                    (Some(all), Some(gtid)) => all.merge(gtid),
                    (all @ None, Some(gtid)) => *all = Some(gtid.clone()),
                    _ => {}
                }
                pending.end = end;
                pending.transactions += 1;
                pending.last = last;
            }
            none => *none = Some(Pending { what, gtids: gtid.cloned(), end, transactions: 1, last }),
        }
        drop(told);
        self.added.notify_one();
        last
    }

    /// Tells changes once more, now that they can be seen: with all that has been told, which is more than they.
    fn tell_again(&self, pending: &Pending) {
        let mut told = self.state.lock();
        tell(&*self.changes, &pending.what, told.position.as_ref());
        told.settled = pending.last;
    }
}

/// The task.
pub(super) struct Settler {
    pub settling: Arc<Settling>,
    pub servers: Arc<Vec<MonitoredServer>>,
    pub account: Arc<Account>,
    pub limit: Duration,
    pub status: Arc<Mutex<BinlogStatus>>,
}

impl Settler {
    pub(super) async fn run(self) {
        let mut connection: Option<(ServerId, AdminConnection)> = None;
        loop {
            let (server, pending) = {
                let mut state = self.settling.state.lock();
                (state.server, state.pending.take())
            };
            let (Some(server), Some(pending)) = (server, pending) else {
                self.settling.added.notified().await;
                continue;
            };
            self.status.lock().unsettled = pending.transactions;
            let mut pause = PAUSE;
            // What comes meanwhile waits for the next round. Another server has it already, or has lost it, and then everything is void.
            while !self.is_seen(server, &pending, &mut connection).await {
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
                if self.settling.state.lock().server != Some(server) {
                    break;
                }
            }
            self.settling.tell_again(&pending);
            self.status.lock().unsettled = 0;
            sleep(PAUSE).await;
        }
    }

    /// Whether all of it can be seen. False when the server cannot be asked.
    async fn is_seen(&self, id: ServerId, pending: &Pending, kept: &mut Option<(ServerId, AdminConnection)>) -> bool {
        if kept.as_ref().is_some_and(|(of, _)| *of != id) {
            *kept = None;
        }
        if kept.is_none() {
            let Some(MonitoredServer { address, tls }) = self.servers.get(id.index()) else { return false };
            match connect_admin(address, tls, &self.account.user, &self.account.password, self.limit).await {
                Ok(new) => *kept = Some((id, new)),
                Err(_) => return false,
            }
        }
        let Some((_, connection)) = kept else { return false };
        match ask(connection, pending).await {
            Ok(seen) => seen,
            Err(error) => {
                if error.code().is_none() {
                    *kept = None;
                }
                false
            }
        }
    }
}

async fn ask(connection: &mut AdminConnection, pending: &Pending) -> Result<bool, QueryError> {
    match connection.flavor() {
        Flavor::MySql => {
            let Some(gtids) = &pending.gtids else { return Ok(true) };
            let sql = format!("SELECT GTID_SUBSET('{gtids}', @@global.gtid_executed) AS f_seen");
            let results = connection.query(&sql).await?;
            Ok(results.first().and_then(|result| result.get(0, "f_seen")) == Some("1"))
        }
        Flavor::MariaDb => {
            let sql = "START TRANSACTION WITH CONSISTENT SNAPSHOT; SHOW STATUS LIKE 'binlog_snapshot_%'; COMMIT";
            let results = connection.query(sql).await?;
            let rows = results.get(1).map(|result| result.rows.as_slice()).unwrap_or_default();
            let value = |name: &str| {
                let named = |row: &&Vec<Option<String>>| {
                    row.first().and_then(Option::as_deref).is_some_and(|n| n.eq_ignore_ascii_case(name))
                };
                rows.iter().find(named).and_then(|row| row.get(1)).and_then(Option::as_deref).unwrap_or_default()
            };
            Ok(is_behind((value("binlog_snapshot_file"), value("binlog_snapshot_position")), &pending.end))
        }
    }
}

/// Whether a snapshot at this place of the log shows what ends at `end`. Files are numbered; a place beyond four bytes is told by its lower ones only.
fn is_behind((file, position): (&str, &str), end: &(String, u32)) -> bool {
    let number = |file: &str| file.rsplit('.').next().and_then(|digits| digits.parse::<u64>().ok());
    let (Some(at), Some(wanted), Ok(position)) = (number(file), number(&end.0), position.parse::<u64>()) else {
        return false;
    };
    at > wanted || at == wanted && (position as u32) >= end.1
}

/// Tells the cache.
fn tell(changes: &dyn Changes, what: &What, gtid: Option<&GtidSet>) {
    let text = gtid.map(GtidSet::to_string);
    match what {
        What::Tables(tables) if tables.is_empty() => {}
        What::Tables(tables) => {
            let tables: Vec<(&str, &str)> = tables.iter().map(|(schema, table)| (schema.as_str(), table.as_str())).collect();
            changes.tables_changed(&tables, text.as_deref());
        }
        What::Everything(why) => changes.everything_changed(reason(*why), text.as_deref()),
    }
}

fn reason(why: Why) -> VoidReason {
    match why {
        Why::Ddl => VoidReason::Ddl,
        Why::Grants => VoidReason::Grants,
        Why::UnknownTables => VoidReason::UnknownTables,
        Why::Missed => VoidReason::Missed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_log_is_compared_by_file_then_position() {
        let end = |file: &str, at| (file.to_owned(), at);
        for (snapshot, end, seen) in [
            (("binlog.000002", "500"), end("binlog.000002", 500), true),
            (("binlog.000002", "499"), end("binlog.000002", 500), false),
            (("binlog.000003", "4"), end("binlog.000002", 500), true),
            (("binlog.000001", "900"), end("binlog.000002", 500), false),
            (("binlog.1000000", "4"), end("binlog.999999", 500), true),
            (("binlog.000002", "4294968000"), end("binlog.000002", 700), true),
            (("binlog.000002", "4294968000"), end("binlog.000002", 705), false),
            (("", ""), end("binlog.000002", 500), false),
            (("binlog.000002", "500"), end("", 0), false),
        ] {
            assert_eq!(is_behind(snapshot, &end), seen, "{snapshot:?} {end:?}");
        }
    }
}
