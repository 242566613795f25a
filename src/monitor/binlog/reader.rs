//! The task that reads: finds the master, opens its log where it stopped, tells what comes, and says when it is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::ask::{Beside, LogFacts};
use super::settle::Settling;
use super::stream::{LogStream, StreamError};
use super::{BinlogReader, BinlogState, BinlogStatus};
use crate::binlog::{Change, Dump, Kin, Machine, Settings, Step, What, Why};
use crate::cache::shared::Term;
use crate::topology::{GtidSet, ServerId};

/// After a loss it is tried again this soon, then doubled up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Nobody may be master for a while without anybody saying when that ends.
const MASTER_WAIT: Duration = Duration::from_millis(250);
/// The status is written no oftener than this.
const STATUS_EVERY: Duration = Duration::from_millis(100);
/// `ER_SOURCE_FATAL_ERROR_READING_BINLOG`: among others, the server does not have any more what was asked for.
const FATAL_READING: u16 = 1236;
/// A server that for so long has nothing to send, although it has more than was read, will not send it.
const WITHHELD_AFTER: Duration = Duration::from_secs(5);
/// Readers have numbers from here on; servers have them by hand, and low.
const READER_ID_MIN: u32 = 0xF000_0000;

/// See the module.
pub(super) struct Reader {
    reader: BinlogReader,
    settling: Arc<Settling>,
    status: Arc<Mutex<BinlogStatus>>,
    machine: Option<Machine>,
    /// Whose log was read last, and how that server stood.
    last: Option<(ServerId, LogFacts)>,
    /// What the server has asked for is gone, or cannot be named: begin at its newest.
    jump: bool,
    /// Writes may have gone by since it was last following.
    missed: bool,
    following: bool,
    told: Option<String>,
    attempts: u32,
    kin: Option<Asked>,
    /// The number of the last change of definitions.
    defined: u64,
    /// The master's clock when writes had last gone by unseen, microseconds.
    since_us: u64,
}

/// How tables hang together, as a server said.
struct Asked {
    kin: Kin,
    /// Triggers and views too.
    of_statements: bool,
    /// The changes that could be seen when it was asked: a definition is logged before others see it.
    settled: u64,
}

/// Why the log is not read any more.
enum End {
    /// The master is another one now.
    NotMaster,
    Lost(String),
    /// The server does not have what comes behind the position.
    Gone(String),
}

impl From<StreamError> for End {
    fn from(error: StreamError) -> End {
        match error {
            StreamError::Refused(error) if error.code == FATAL_READING => End::Gone(error.to_string()),
            error => End::Lost(error.to_string()),
        }
    }
}

impl LogFacts {
    /// Whether the transaction's name says whether others have it. On MariaDB one that another server wrote (a standby that was written to, and whose
    /// writes come by replication) may have a lower number than what was written here before it came: whoever has the higher one has
    /// not therefore this one.
    fn tells_apart(&self, gtid: &GtidSet) -> bool {
        match gtid {
            GtidSet::MySql(_) => true,
            GtidSet::MariaDb(position) => position.domains().iter().all(|one| one.server == self.server),
        }
    }

    /// Whether it has started anew. Its uptime has whole seconds, so its start is known to two.
    fn restarted_since(&self, before: &LogFacts) -> bool {
        let started = |facts: &LogFacts| facts.now - facts.uptime;
        self.connection < before.connection || (started(self) - started(before)).abs() > 2.0
    }
}

/// What is known of one connection.
struct Course {
    facts: LogFacts,
    asked_at: Instant,
    began: bool,
    /// All that was there when the log was asked for has been read.
    there: bool,
    /// When the server last said that there is nothing more. MySQL says so too while it passes over what had been read before.
    current_at: Option<Instant>,
    /// Since when it has said nothing else.
    idle_since: Option<Instant>,
    written_at: Option<Instant>,
}

impl Course {
    /// At most so far behind: by the newest time in the log, and by when the server said that there is nothing more.
    fn behind(&self, newest: u32) -> Duration {
        let since = self.current_at.map(|at| at.elapsed());
        let server_now = self.facts.now + self.asked_at.elapsed().as_secs_f64();
        let by_time = (newest > 0).then(|| Duration::try_from_secs_f64(server_now - f64::from(newest)).unwrap_or_default());
        match (since, by_time) {
            (Some(a), Some(b)) => a.min(b),
            (a, b) => a.or(b).unwrap_or_default(),
        }
    }
}

impl Reader {
    pub(super) fn new(reader: BinlogReader, settling: Arc<Settling>, status: Arc<Mutex<BinlogStatus>>) -> Reader {
        Reader {
            reader,
            settling,
            status,
            machine: None,
            last: None,
            jump: false,
            missed: true,
            following: false,
            told: None,
            attempts: 0,
            kin: None,
            defined: 0,
            since_us: 0,
        }
    }

    pub(super) async fn run(mut self) {
        let mut epochs = self.reader.epochs.clone();
        let mut pause = RETRY_MIN;
        loop {
            let Some(id) = (self.reader.master)() else {
                self.lost(None, "there is no master");
                let _ = timeout(MASTER_WAIT, epochs.changed()).await;
                // Without its sender the wait above would be none.
                sleep(Duration::from_millis(10)).await;
                continue;
            };
            let was_following = self.following;
            let end = self.follow(id, &mut epochs).await;
            if self.following || was_following {
                pause = RETRY_MIN;
            }
            match end {
                End::NotMaster => self.lost(Some(id), "another server is master now"),
                End::Lost(why) => self.lost(Some(id), &why),
                End::Gone(why) => {
                    // Where nothing but the newest was asked for, that would be asked for again.
                    if !self.jump {
                        pause = RETRY_MIN;
                    }
                    (self.jump, self.missed) = (true, true);
                    self.lost(Some(id), &why);
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// Follows one server until that ends.
    async fn follow(&mut self, id: ServerId, epochs: &mut watch::Receiver<u64>) -> End {
        let Some(server) = self.reader.servers.get(id.index()).cloned() else { return End::Lost("no such server".to_owned()) };
        let limit = self.reader.settings.silence;
        let mut beside = Beside::new(server.clone(), self.reader.account.clone(), limit);
        let facts = match beside.facts().await {
            Ok(Ok(facts)) => facts,
            Ok(Err(why)) | Err(why) => return End::Lost(why),
        };
        let position = self.begin(id, &facts);
        let target = facts.position.clone();
        let dump = Dump {
            flavor: facts.flavor,
            server: self.number(facts.server),
            uuid: self.uuid(),
            heartbeat_ns: u64::try_from(self.reader.settings.heartbeat.as_nanos()).unwrap_or(u64::MAX),
            position,
        };
        let mut stream = match LogStream::open(&server, &self.reader.account, &dump, limit).await {
            Ok(stream) => stream,
            Err(StreamError::Refused(error)) if matches!(error.code, 1045 | 1227) => {
                return End::Lost(format!("{error}; it takes REPLICATION SLAVE, docs/grants.md"));
            }
            Err(error) => return error.into(),
        };
        self.last = Some((id, facts.clone()));
        self.settling.ask(id);
        let mut course = Course {
            facts,
            asked_at: Instant::now(),
            began: false,
            there: false,
            current_at: None,
            idle_since: None,
            written_at: None,
        };
        let mut steps = Vec::new();
        loop {
            let piece = {
                let next = timeout(limit, stream.next());
                tokio::pin!(next);
                loop {
                    tokio::select! {
                        piece = &mut next => break piece,
                        changed = epochs.changed() => {
                            if (self.reader.master)() != Some(id) {
                                return End::NotMaster;
                            }
                            if changed.is_err() {
                                // Nobody tells any more; what is read still counts.
                                break next.await;
                            }
                        }
                    }
                }
            };
            let (bytes, last) = match piece {
                Ok(Ok(piece)) => piece,
                Ok(Err(error)) => return error.into(),
                Err(_) => return StreamError::Silence(limit).into(),
            };
            let Some(machine) = &mut self.machine else { return End::Lost("no machine".to_owned()) };
            let mut pushed = machine.push(bytes, &mut steps);
            if last && pushed.is_ok() {
                pushed = machine.end_of_packet();
            }
            for step in steps.drain(..) {
                if let Err(why) = self.step(step, &mut course, &mut beside).await {
                    // The position is behind what was not told.
                    self.missed = true;
                    return End::Lost(why);
                }
            }
            if let Some(machine) = self.machine.as_ref().filter(|_| self.following) {
                self.settling.reached(machine.position());
            }
            if let Err(broken) = pushed {
                return End::Lost(broken.to_string());
            }
            self.look(id, &mut course, &target);
            if !course.there && course.idle_since.is_some_and(|since| since.elapsed() > WITHHELD_AFTER) {
                return End::Gone("the server does not send all that it has".to_owned());
            }
        }
    }

    /// Where to begin: where the reading stopped, unless this server does not have that, or nothing says where it was.
    fn begin(&mut self, id: ServerId, facts: &LogFacts) -> GtidSet {
        let settings = Settings {
            flavor: facts.flavor,
            lower: facts.lower,
            ignored: self.reader.settings.ignored.as_ref().map(|table| table.names()),
        };
        self.kin = None;
        if let Some((last, before)) = &self.last {
            // Rows that were read from a master that died, or from before a crash, may be of transactions that nobody has any more. The log tells of no
            // transaction that is gone.
            if *last != id || facts.restarted_since(before) {
                self.missed = true;
                self.settling.forget();
            }
        }
        let Some(machine) = &mut self.machine else {
            self.machine = Some(Machine::new(settings, facts.position.clone()));
            self.jump = false;
            return facts.position.clone();
        };
        machine.reconnected(settings);
        let lost = machine.position().flavor() != facts.flavor || !facts.position.covers(machine.position());
        if self.jump || lost || machine.saw_unnamed() {
            self.missed = true;
            self.settling.forget();
            machine.jump(facts.position.clone());
        }
        self.jump = false;
        machine.position().clone()
    }

    async fn step(&mut self, step: Step, course: &mut Course, beside: &mut Beside) -> Result<(), String> {
        match step {
            Step::Began => course.began = true,
            Step::CaughtUp => {
                let now = Instant::now();
                course.current_at = Some(now);
                course.idle_since.get_or_insert(now);
            }
            Step::Changed(change) => {
                course.idle_since = None;
                let what = self.widen(&change, beside).await?;
                let name = change.gtid.filter(|gtid| course.facts.tells_apart(gtid));
                let number = self.settling.tell(what, name.as_ref(), change.end, change.definitions);
                if change.definitions {
                    self.defined = number;
                }
                self.status.lock().transactions += 1;
            }
        }
        Ok(())
    }

    /// Adds what the log does not name.
    async fn widen(&mut self, change: &Change, beside: &mut Beside) -> Result<What, String> {
        let What::Tables(tables) = &change.what else { return Ok(change.what.clone()) };
        // A definition changes no other table's rows.
        if tables.is_empty() || change.definitions {
            return Ok(change.what.clone());
        }
        let fresh = |asked: &Asked| asked.settled >= self.defined && (asked.of_statements || !change.by_statement);
        if !self.kin.as_ref().is_some_and(fresh) {
            // Without an answer the log is not followed any more, and read again from here.
            let settled = self.settling.settled();
            let kin = beside.kin(change.by_statement).await.map_err(|why| format!("asking for foreign keys: {why}"))?;
            self.kin = Some(Asked { kin, of_statements: change.by_statement, settled });
        }
        Ok(self.kin.as_ref().map_or(What::Everything(Why::UnknownTables), |asked| asked.kin.widen(change)))
    }

    /// Says whether it follows, by what has been read.
    fn look(&mut self, id: ServerId, course: &mut Course, target: &GtidSet) {
        let Some(machine) = &self.machine else { return };
        let behind = course.behind(machine.newest());
        if !self.following {
            course.there |= course.began && machine.position().covers(target);
            if course.there && behind <= self.reader.settings.behind_max {
                self.follows(id, course);
            }
        } else if behind > self.reader.settings.behind_max {
            self.lost(Some(id), &format!("the log is read {} s behind", behind.as_secs()));
        }
        if course.written_at.is_none_or(|at| at.elapsed() >= STATUS_EVERY) {
            course.written_at = Some(Instant::now());
            let Some(machine) = &self.machine else { return };
            let mut status = self.status.lock();
            (status.behind, status.position, status.server) = (behind, Some(machine.position().clone()), Some(id));
        }
    }

    fn follows(&mut self, id: ServerId, course: &Course) {
        let facts = &course.facts;
        let clock_us = (facts.now * 1e6) as u64;
        if self.missed {
            self.since_us = clock_us;
            // What stood at the end of its log when it was asked is perhaps not to be seen yet.
            self.settling.tell(What::Everything(Why::Missed), None, facts.end.clone(), false);
        }
        self.reader.changes.following(self.missed);
        self.reader.changes.begins(Term::new(&facts.identity, facts.flavor, (clock_us, course.asked_at), self.since_us));
        let position = self.machine.as_ref().map(|machine| machine.position().clone());
        let detail = match (&position, self.missed) {
            (Some(position), false) => format!("nothing was missed; it stands at {position}"),
            (Some(position), true) => format!("all that was kept is void; it stands at {position}"),
            (None, _) => String::new(),
        };
        self.report("binlog_following", Some(id), &detail);
        (self.following, self.missed, self.told, self.attempts) = (true, false, None, 0);
        let mut status = self.status.lock();
        (status.state, status.server, status.position) = (BinlogState::Following, Some(id), position);
        status.reason.clear();
    }

    /// Says that it does not follow; the same reason once.
    fn lost(&mut self, id: Option<ServerId>, why: &str) {
        self.attempts = self.attempts.wrapping_add(1);
        if self.following || self.told.as_deref() != Some(why) {
            self.reader.changes.lost(why);
            self.report("binlog_lost", id, why);
            self.told = Some(why.to_owned());
        }
        self.following = false;
        let mut status = self.status.lock();
        (status.state, status.reason) = (BinlogState::Lost, why.to_owned());
    }

    fn report(&self, kind: &'static str, id: Option<ServerId>, detail: &str) {
        let name = id.and_then(|id| self.reader.names.get(id.index())).map(String::as_str);
        self.reader.report.report(kind, name, detail);
    }

    /// A `server_id` for this connection, another one for each: a server that has not noticed yet that the last one ended would end the new one with it.
    fn number(&self, server: u32) -> u32 {
        let spread = self.reader.settings.run.wrapping_add(u64::from(self.attempts).wrapping_mul(0x9E37_79B9));
        let number = READER_ID_MIN | (spread as u32 & !READER_ID_MIN);
        if number == server { number ^ 1 } else { number }
    }

    /// A UUID that is this process's and no server's: version 8, of its random number.
    fn uuid(&self) -> String {
        let run = self.reader.settings.run;
        let (high, low) = ((run >> 32) as u32, run as u32);
        format!("{high:08x}-{:04x}-8{:03x}-8{:03x}-{low:08x}{:04x}", low >> 16, low & 0xFFF, high & 0xFFF, self.attempts as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Flavor;

    #[test]
    fn a_name_counts_only_where_it_says_who_has_the_transaction() {
        let uuid = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa";
        for (flavor, gtid, counts) in [
            (Flavor::MySql, format!("{uuid}:7"), true),
            (Flavor::MariaDb, "0-1-102".to_owned(), true),
            (Flavor::MariaDb, "0-2-101".to_owned(), false),
            (Flavor::MariaDb, "5-2-101".to_owned(), false),
        ] {
            let set = GtidSet::parse(flavor, &gtid).unwrap();
            let facts = LogFacts {
                flavor,
                position: set.clone(),
                lower: false,
                now: 0.0,
                uptime: 0.0,
                connection: 1,
                server: 1,
                identity: String::new(),
                end: (String::new(), 0),
            };
            assert_eq!(facts.tells_apart(&set), counts, "{gtid}");
        }
    }
}
