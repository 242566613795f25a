//! The heartbeat's writer: one task, one row, on whichever server is master now. Its connection is its own, so that a write that hangs is not taken
//! for silence of the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep;

use super::publish::Input;
use super::queries::{HeartbeatRow, READ_ONLY, is_another_table, is_its_own_fault};
use super::{Account, MonitoredServer};
use crate::backend::{AdminConnection, ConnectError, QueryError, connect_admin};
use crate::topology::lag::Beat;
use crate::topology::memory::REFUSED_RETRY;
use crate::topology::{ServerId, Snapshot};

/// Without the right to write, it is tried again this seldom.
const RETRY_DENIED: Duration = Duration::from_secs(60);

pub(super) struct Beater {
    pub servers: Arc<Vec<MonitoredServer>>,
    pub account: Arc<Account>,
    pub row: HeartbeatRow,
    pub run: u64,
    pub interval: Duration,
    pub timeout: Duration,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Wakes the task that looks at a server: a refused write says more than the last heartbeat.
    pub poked: Vec<Arc<Notify>>,
    pub input: mpsc::Sender<Input>,
    pub beats: Arc<Beats>,
}

/// What outlives the task when the configuration is read again.
#[derive(Debug, Default)]
pub(super) struct Beats {
    /// Of the last beat: numbers never fall within a run.
    number: AtomicU64,
    /// Held while a beat is written, so that nobody makes the server read-only in the middle of it.
    pub writing: tokio::sync::Mutex<()>,
}

/// What came of one beat.
enum Sent {
    Written,
    /// The server is read-only: it is not master any more, whatever we believed.
    ReadOnly,
    /// The server refuses our login. The task that looks at it says so; writes are not what is blocked.
    Refused,
    /// Somebody has locked the row, or ended our statement: the next one may come through.
    Unlucky,
    /// The account may not, or the table is not ours.
    Denied(String),
    Failed(String),
}

impl Beater {
    /// Runs until the receiving side is gone.
    pub(super) async fn run(self) {
        let mut connection: Option<(ServerId, AdminConnection)> = None;
        let mut denied = false;
        loop {
            let began = Instant::now();
            let mut pause = self.interval;
            let writer = self.snapshot.load().writer().map(|view| view.id);
            if connection.as_ref().map(|(id, _)| *id) != writer
                && let Some((_, old)) = connection.take()
            {
                // It may be frozen: nobody waits for its goodbye.
                tokio::spawn(old.quit());
            }
            if let Some(id) = writer {
                let number = self.beats.number.fetch_add(1, Ordering::Relaxed) + 1;
                let sent = self.beat(id, &mut connection, Beat { run: self.run, number }).await;
                let input = match sent {
                    Sent::Written => {
                        denied = false;
                        Some(Input::BeatWritten { number, at: Instant::now() })
                    }
                    Sent::ReadOnly | Sent::Unlucky => {
                        self.poke(id);
                        None
                    }
                    Sent::Refused => {
                        pause = REFUSED_RETRY;
                        None
                    }
                    Sent::Denied(why) => {
                        pause = RETRY_DENIED;
                        let told = std::mem::replace(&mut denied, true);
                        let detail = format!("no heartbeat is written: {why}; lag is what the servers say");
                        (!told).then_some(Input::Note { kind: "heartbeat_off", server: Some(id), detail })
                    }
                    Sent::Failed(why) => {
                        self.poke(id);
                        Some(Input::BeatFailed { server: id, at: began, why })
                    }
                };
                if let Some(input) = input
                    && self.input.send(input).await.is_err()
                {
                    return;
                }
            }
            if self.input.is_closed() {
                return;
            }
            self.rest(pause.saturating_sub(began.elapsed()), writer).await;
        }
    }

    /// Sleeps, but not past a change of the master.
    async fn rest(&self, pause: Duration, writer: Option<ServerId>) {
        let until = Instant::now() + pause;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            sleep(left.min(self.interval)).await;
            if self.snapshot.load().writer().map(|view| view.id) != writer || self.input.is_closed() {
                return;
            }
        }
    }

    fn poke(&self, id: ServerId) {
        if let Some(poked) = self.poked.get(id.index()) {
            poked.notify_one();
        }
    }

    async fn beat(&self, id: ServerId, connection: &mut Option<(ServerId, AdminConnection)>, beat: Beat) -> Sent {
        if connection.is_none() {
            let Some(MonitoredServer { address, tls }) = self.servers.get(id.index()) else {
                return Sent::Failed("no such server".to_owned());
            };
            match connect_admin(address, tls, &self.account.user, &self.account.password, self.timeout).await {
                Ok(new) => *connection = Some((id, new)),
                Err(ConnectError::Refused(_)) => return Sent::Refused,
                Err(error) => return Sent::Failed(error.to_string()),
            }
        }
        let Some((_, open)) = connection else { return Sent::Failed("no connection".to_owned()) };
        let _beating = self.beats.writing.lock().await;
        if self.snapshot.load().writer().map(|view| view.id) != Some(id) {
            return Sent::ReadOnly;
        }
        match self.write(open, beat).await {
            Ok(true) => Sent::Written,
            Ok(false) => Sent::ReadOnly,
            Err(error) => {
                if error.code().is_none() {
                    *connection = None;
                }
                match error.code() {
                    // ER_OPTION_PREVENTS_STATEMENT, ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION, ER_READ_ONLY_MODE
                    Some(1290 | 1792 | 1836) => Sent::ReadOnly,
                    // ER_DBACCESS_DENIED, ER_TABLEACCESS_DENIED, ER_COLUMNACCESS_DENIED, ER_SPECIFIC_ACCESS_DENIED
                    Some(1044 | 1142 | 1143 | 1227) => Sent::Denied(error.to_string()),
                    Some(code) if is_another_table(code) => Sent::Denied(error.to_string()),
                    Some(code) if is_its_own_fault(code) => Sent::Unlucky,
                    _ => Sent::Failed(error.to_string()),
                }
            }
        }
    }

    /// The row is updated; it and its table are made when they are missing. `false`: the server is read-only. It has to be asked, since an account that
    /// may change `read_only` may write in spite of it.
    async fn write(&self, connection: &mut AdminConnection, beat: Beat) -> Result<bool, QueryError> {
        let update = self.row.update(beat);
        let changed = match connection.query(&update).await {
            Ok(results) => results.first().is_some_and(|result| result.affected_rows > 0),
            // ER_BAD_DB, ER_NO_SUCH_TABLE, ER_BAD_FIELD (a table of another making is told in that error); without any right to the schema the
            // error is a denial even when it does not exist.
            Err(error) if matches!(error.code(), Some(1049 | 1146)) => {
                let asked = connection.query(READ_ONLY).await?;
                if asked.first().and_then(|result| result.get(0, "f_ro")).is_none_or(|text| text != "0") {
                    return Ok(false);
                }
                if error.code() == Some(1049) {
                    connection.query(&self.row.create_schema()).await?;
                }
                match connection.query(&self.row.create_table()).await {
                    Err(error) if error.code() == Some(1049) => {
                        connection.query(&self.row.create_schema()).await?;
                        connection.query(&self.row.create_table()).await?;
                    }
                    other => {
                        other?;
                    }
                }
                false
            }
            Err(error) => return Err(error),
        };
        if changed {
            return Ok(true);
        }
        let results = connection.query(&self.row.insert(beat)).await?;
        Ok(results.first().is_some_and(|result| result.affected_rows > 0))
    }
}
