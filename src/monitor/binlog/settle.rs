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

/// The most transactions that wait each for itself; beyond it they wait together.
const APART_MAX: usize = 1000;

/// Changes that cannot be seen yet, as far as is known.
#[derive(Debug)]
struct Pending {
    /// What each transaction changed, with its name.
    changes: Vec<(What, Option<GtidSet>)>,
    /// All their names.
    gtids: Option<GtidSet>,
    /// Where the last of them ends (MariaDB).
    end: (String, u32),
    /// The number of the last of them.
    last: u64,
}

impl Pending {
    fn add(&mut self, what: What, gtid: Option<&GtidSet>, end: (String, u32), last: u64) {
        merge(&mut self.gtids, gtid);
        (self.end, self.last) = (end, last);
        let full = self.changes.len() >= APART_MAX;
        match self.changes.last_mut() {
            Some((all, names)) if full => {
                all.merge(what);
                merge(names, gtid);
            }
            _ => self.changes.push((what, gtid.cloned())),
        }
    }
}

fn merge(all: &mut Option<GtidSet>, more: Option<&GtidSet>) {
    match (all.as_mut(), more) {
        (Some(all), Some(more)) => all.merge(more),
        (None, Some(more)) => *all = Some(more.clone()),
        (_, None) => {}
    }
}

/// What waits, and who is to be asked about it.
pub(super) struct Settling {
    changes: Arc<dyn Changes>,
    state: Mutex<Told>,
    added: Notify,
}

/// Held while the cache is told, so that it is told one thing after the other.
#[derive(Default)]
struct Told {
    server: Option<ServerId>,
    pending: Option<Pending>,
    /// How many changes were told.
    count: u64,
    /// All up to this one can be seen.
    settled: u64,
    /// How far the log was read, and how many changes had been told then.
    read: Option<(u64, GtidSet)>,
    /// The last change of definitions, until it can be seen.
    defined: Option<u64>,
    /// The same for what waits to be seen.
    waiting: Option<GtidSet>,
    /// How often everything was forgotten. What was taken before is nothing to wait for any more.
    round: u64,
}

impl Settling {
    pub(super) fn new(changes: Arc<dyn Changes>) -> Settling {
        Settling { changes, state: Mutex::default(), added: Notify::new() }
    }

    /// What is read from now on comes from this server.
    pub(super) fn ask(&self, server: ServerId) {
        let mut told = self.state.lock();
        (told.server, told.read, told.waiting) = (Some(server), None, None);
    }

    /// The log has been read up to here, and all of it was told.
    pub(super) fn reached(&self, position: &GtidSet) {
        let mut told = self.state.lock();
        if told.settled == told.count {
            self.changes.stands(position);
        } else {
            told.read = Some((told.count, position.clone()));
        }
    }

    /// What was told comes from a log that is not gone on with: another server's, or one that was begun anew. That server may never have it, so nobody
    /// waits for it, and it is told no second time. To be called only where everything is void before anything is kept again.
    pub(super) fn forget(&self) {
        let mut told = self.state.lock();
        (told.pending, told.read, told.waiting, told.defined) = (None, None, None, None);
        (told.settled, told.round) = (told.count, told.round + 1);
    }

    /// What is to be asked about next, at whom, and in which round.
    fn take(&self) -> (Option<ServerId>, Option<Pending>, u64) {
        let mut told = self.state.lock();
        let pending = told.pending.take();
        if let Some(pending) = &pending {
            // What was told after the last time of reading it all is not all of that piece.
            let read = told.read.take_if(|(count, _)| *count <= pending.last);
            told.waiting = read.map(|(_, position)| position);
        }
        (told.server, pending, told.round)
    }

    /// Whether what was taken in this round is waited for.
    fn is_round(&self, round: u64) -> bool {
        self.state.lock().round == round
    }

    /// All changes up to this number can be seen.
    pub(super) fn settled(&self) -> u64 {
        self.state.lock().settled
    }

    /// Tells a change for the first time, and returns its number.
    /// `defines`: definitions changed.
    pub(super) fn tell(&self, what: What, gtid: Option<&GtidSet>, end: (String, u32), defines: bool) -> u64 {
        let mut told = self.state.lock();
        if what.is_nothing() {
            return told.count;
        }
        told.count += 1;
        let last = told.count;
        if defines {
            told.defined = Some(last);
            self.changes.definitions_changed();
        }
        tell(&*self.changes, &what, gtid, false);
        let none = || Pending { changes: Vec::new(), gtids: None, end: end.clone(), last };
        told.pending.get_or_insert_with(none).add(what, gtid, end.clone(), last);
        drop(told);
        self.added.notify_one();
        last
    }

    /// Tells changes once more, now that they can be seen.
    fn tell_again(&self, pending: &Pending, round: u64) {
        let mut told = self.state.lock();
        if told.round != round {
            return;
        }
        for (what, gtid) in &pending.changes {
            tell(&*self.changes, what, gtid.as_ref(), true);
        }
        if told.defined.take_if(|number| *number <= pending.last).is_some() {
            self.changes.definitions_changed();
        }
        told.settled = pending.last;
        if let Some(position) = told.waiting.take() {
            self.changes.stands(&position);
        }
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
            let (server, pending, round) = self.settling.take();
            let (Some(server), Some(pending)) = (server, pending) else {
                self.settling.added.notified().await;
                continue;
            };
            self.status.lock().unsettled = pending.changes.len() as u64;
            let mut pause = PAUSE;
            // What comes meanwhile waits until this has been told.
            while self.settling.is_round(round) && !self.is_seen(server, &pending, &mut connection).await {
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            self.settling.tell_again(&pending, round);
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

/// Tells the cache; `seen`: for the second time.
fn tell(changes: &dyn Changes, what: &What, gtid: Option<&GtidSet>, seen: bool) {
    let text = gtid.map(GtidSet::to_string);
    let text = text.as_deref();
    match what {
        What::Tables(tables) => {
            let tables: Vec<(&str, &str)> = tables.iter().map(|(schema, table)| (schema.as_str(), table.as_str())).collect();
            if seen { changes.tables_seen(&tables, text) } else { changes.tables_changed(&tables, text) }
        }
        What::Everything(why) if seen => changes.everything_seen(reason(*why), text),
        What::Everything(why) => changes.everything_changed(reason(*why), text),
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

    /// What the cache was told, as text.
    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Changes for Heard {
        fn tables_changed(&self, tables: &[(&str, &str)], gtid: Option<&str>) {
            self.0.lock().push(format!("{tables:?} {gtid:?}"));
        }
        fn tables_seen(&self, tables: &[(&str, &str)], gtid: Option<&str>) {
            self.0.lock().push(format!("seen {tables:?} {gtid:?}"));
        }
        fn everything_changed(&self, reason: VoidReason, gtid: Option<&str>) {
            self.0.lock().push(format!("{reason} {gtid:?}"));
        }
        fn everything_seen(&self, reason: VoidReason, gtid: Option<&str>) {
            self.0.lock().push(format!("seen {reason} {gtid:?}"));
        }
        fn definitions_changed(&self) {
            self.0.lock().push("definitions".to_owned());
        }
        fn lost(&self, _: &str) {}
        fn following(&self, _: bool) {}
        fn stands(&self, position: &GtidSet) {
            self.0.lock().push(format!("stands {position}"));
        }
    }

    #[test]
    fn each_change_is_told_twice_by_its_own_name() {
        let heard = Arc::new(Heard::default());
        let settling = Settling::new(heard.clone());
        let table = |name: &str| What::Tables([("s".to_owned(), name.to_owned())].into());
        let gtid = |text: &str| GtidSet::parse(Flavor::MariaDb, text).ok();
        let end = |at| ("binlog.000001".to_owned(), at);
        assert_eq!(settling.tell(table("a"), gtid("0-1-5").as_ref(), end(100), false), 1);
        assert_eq!(settling.tell(What::nothing(), gtid("0-1-6").as_ref(), end(200), false), 1, "nothing is told of nothing");
        assert_eq!(settling.tell(What::Everything(Why::Ddl), gtid("0-1-7").as_ref(), end(300), true), 2);
        assert_eq!(settling.settled(), 0);
        let pending = settling.state.lock().pending.take().unwrap();
        assert_eq!((pending.end.1, pending.gtids.as_ref().map(GtidSet::to_string).as_deref()), (300, Some("0-1-7")));
        settling.tell_again(&pending, 0);
        assert_eq!(settling.settled(), 2);
        assert_eq!(
            *heard.0.lock(),
            [
                "[(\"s\", \"a\")] Some(\"0-1-5\")",
                "definitions",
                "ddl Some(\"0-1-7\")",
                "seen [(\"s\", \"a\")] Some(\"0-1-5\")",
                "seen ddl Some(\"0-1-7\")",
                "definitions",
            ]
        );
        for n in 0..2 * APART_MAX {
            settling.tell(table(&n.to_string()), None, end(400), false);
        }
        assert_eq!(settling.state.lock().pending.as_ref().unwrap().changes.len(), APART_MAX, "no more than that is kept apart");
    }

    #[test]
    fn what_another_server_may_never_have_is_not_waited_for() {
        let heard = Arc::new(Heard::default());
        let settling = Settling::new(heard.clone());
        let tell = |name: &str, gtid: &str, defines| {
            let what = What::Tables([("s".to_owned(), name.to_owned())].into());
            settling.tell(what, GtidSet::parse(Flavor::MariaDb, gtid).ok().as_ref(), ("binlog.000009".to_owned(), 900), defines)
        };
        let position = |text: &str| GtidSet::parse(Flavor::MariaDb, text).unwrap();
        settling.ask(ServerId(0));
        tell("a", "0-1-5", true);
        settling.reached(&position("0-1-5"));
        let (_, asked, round) = settling.take();
        let asked = asked.unwrap();
        tell("b", "0-1-6", false);
        // The master dies, and the log is read at another server, which may have neither.
        settling.forget();
        settling.ask(ServerId(1));
        assert_eq!(settling.settled(), 2);
        assert!(settling.take().1.is_none(), "what was queued is not asked for at a server that may not have it");
        heard.0.lock().clear();
        tell("c", "0-2-6", false);
        assert!(!settling.is_round(round), "what was being asked about is given up");
        settling.tell_again(&asked, round);
        assert_eq!(settling.settled(), 2, "and if its answer comes after all, it stands for nothing");
        settling.reached(&position("0-2-6"));
        let (server, pending, round) = settling.take();
        settling.tell_again(&pending.unwrap(), round);
        assert_eq!((server, settling.settled()), (Some(ServerId(1)), 3));
        assert_eq!(*heard.0.lock(), ["[(\"s\", \"c\")] Some(\"0-2-6\")", "seen [(\"s\", \"c\")] Some(\"0-2-6\")", "stands 0-2-6"]);
    }

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
