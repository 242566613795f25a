//! Follows the binlog of the current master as a replica does, and tells the cache what changed.
//!
//! One task reads ([`reader`]) on a connection of its own ([`stream`]); what must be asked beside it ([`ask`]) goes over a second one. The log is sent before
//! a commit can be seen by others (with semi-synchronous replication long before), so what was told when it was read is told once more when it can be seen
//! ([`settle`]). What an event means is [`crate::binlog`]'s.

mod ask;
mod reader;
mod settle;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Account, HeartbeatTable, MonitoredServer, Report};
use crate::cache::Changes;
use crate::topology::{GtidSet, ServerId};

/// How to follow.
#[derive(Clone, Debug)]
pub struct BinlogSettings {
    /// A server that has nothing else to send says so this often.
    pub heartbeat: Duration,
    /// A server that has sent nothing for so long is not followed any more.
    pub silence: Duration,
    /// A reader further behind than this follows no more, until it has caught up.
    pub behind_max: Duration,
    /// The heartbeat's table, whose changes are told to nobody.
    pub ignored: Option<HeartbeatTable>,
    /// A random number, new for every process.
    pub run: u64,
}

/// Whether the log is followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BinlogState {
    /// Everything the master has logged is told.
    Following,
    /// It is not, for the reason that is told.
    Lost,
}

impl BinlogState {
    /// The word in `SHOW CACHE`.
    pub fn as_str(self) -> &'static str {
        match self {
            BinlogState::Following => "following",
            BinlogState::Lost => "lost",
        }
    }
}

/// How the reader stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BinlogStatus {
    /// Whether it follows.
    pub state: BinlogState,
    /// Why not; empty while it follows.
    pub reason: String,
    /// Whose log it reads or read last.
    pub server: Option<ServerId>,
    /// Everything up to here was told.
    pub position: Option<GtidSet>,
    /// At most so far behind the master; 0 when the master said that there is nothing more.
    pub behind: Duration,
    /// Transactions read.
    pub transactions: u64,
    /// Transactions that were read and cannot be seen yet, as far as is known.
    pub unsettled: u64,
}

/// Who is master now; asked often, answers at once.
pub type Master = Arc<dyn Fn() -> Option<ServerId> + Send + Sync>;

/// What a reader needs.
pub struct BinlogReader {
    /// How to follow.
    pub settings: BinlogSettings,
    /// The servers, by their number.
    pub servers: Arc<Vec<MonitoredServer>>,
    /// Their names, for people.
    pub names: Vec<String>,
    /// Sluice's own account.
    pub account: Arc<Account>,
    /// Whom to follow.
    pub master: Master,
    /// Changes whenever [`BinlogReader::master`] may have changed.
    pub epochs: watch::Receiver<u64>,
    /// Who is told.
    pub changes: Arc<dyn Changes>,
    /// Who is told when following begins and ends.
    pub report: Arc<dyn Report>,
}

impl std::fmt::Debug for BinlogReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BinlogReader").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// A reader that runs. Ends when dropped.
#[derive(Debug)]
pub struct BinlogHandle {
    status: Arc<Mutex<BinlogStatus>>,
    tasks: Vec<JoinHandle<()>>,
}

impl BinlogReader {
    /// Begins to follow, within a tokio runtime. Until [`Changes::following`] is called nothing is known.
    pub fn spawn(self) -> BinlogHandle {
        let status = Arc::new(Mutex::new(BinlogStatus {
            state: BinlogState::Lost,
            reason: "not connected yet".to_owned(),
            server: None,
            position: None,
            behind: Duration::ZERO,
            transactions: 0,
            unsettled: 0,
        }));
        let settling = Arc::new(settle::Settling::new(self.changes.clone()));
        let settler = settle::Settler {
            settling: settling.clone(),
            servers: self.servers.clone(),
            account: self.account.clone(),
            limit: self.settings.silence,
            status: status.clone(),
        };
        let reader = reader::Reader::new(self, settling, status.clone());
        BinlogHandle { status, tasks: vec![tokio::spawn(reader.run()), tokio::spawn(settler.run())] }
    }
}

impl BinlogHandle {
    /// How it stands.
    pub fn status(&self) -> BinlogStatus {
        self.status.lock().clone()
    }
}

impl Drop for BinlogHandle {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
