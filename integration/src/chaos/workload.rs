//! What the clients do during a round, and what they were told.
//!
//! Writers insert numbered rows and remember each that was acknowledged; the row itself says which server took it. Payers move
//! money between accounts in transactions; the sum must stay. Readers-of-their-own read back what they have just written. Readers
//! read from a replica and should never notice anything.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, TxOpts};

/// Writers: more than one, so that a statement in flight at the fault is likely.
pub const WRITERS: u32 = 4;
const PAYERS: u32 = 2;
const OWN_READERS: u32 = 2;
const READERS: u32 = 2;
/// Accounts of the bank, and what each begins with.
pub const ACCOUNTS: u32 = 20;
/// See [`ACCOUNTS`].
pub const DEPOSIT: u32 = 1_000;
/// A writer's rest between two writes: outages are measured to this precision.
const REST: Duration = Duration::from_millis(5);
/// Others are there to be disturbed, not to load the machine.
const LONG_REST: Duration = Duration::from_millis(20);
const REST_AFTER_ERROR: Duration = Duration::from_millis(20);

/// The tables, empty.
pub fn tables() -> Vec<String> {
    let deposits: Vec<String> = (0..ACCOUNTS).map(|id| format!("({id},{DEPOSIT})")).collect();
    vec![
        "CREATE TABLE t_chaos.log (client INT, number INT, server INT UNSIGNED, PRIMARY KEY (client, number))".to_owned(),
        "CREATE TABLE t_chaos.bank (id INT PRIMARY KEY, balance INT NOT NULL)".to_owned(),
        format!("INSERT INTO t_chaos.bank VALUES {}", deposits.join(",")),
        "CREATE TABLE t_chaos.many (id INT PRIMARY KEY)".to_owned(),
        "INSERT INTO t_chaos.many WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT i FROM n"
            .to_owned(),
        "INSERT INTO t_chaos.many SELECT a.id * 1000 + b.id FROM t_chaos.many a, t_chaos.many b WHERE a.id <= 60".to_owned(),
        "CREATE TABLE t_chaos.big (id INT AUTO_INCREMENT PRIMARY KEY, word VARCHAR(200), KEY (word))".to_owned(),
    ]
}

/// One acknowledged write.
#[derive(Debug, Clone, Copy)]
pub struct Ack {
    /// Whose.
    pub client: u32,
    /// Which of his.
    pub number: u32,
    /// When it was sent.
    pub sent: Instant,
    /// When the client knew.
    pub known: Instant,
}

/// An error a client got.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// `writer 3`, `reader 0`.
    pub who: String,
    /// When.
    pub at: Instant,
    /// Whether the statement's outcome is unknown to the client (its connection to the server was lost while it ran).
    pub unknown: bool,
    /// The text.
    pub text: String,
}

/// A read that did not show the client's own write, although that was acknowledged.
#[derive(Debug, Clone, Copy)]
pub struct StaleRead {
    /// Whose.
    pub client: u32,
    /// What he had written.
    pub wrote: u32,
    /// The last of his that he read then; `None`: not one.
    pub seen: Option<u32>,
    /// When the read was answered.
    pub at: Instant,
}

/// All that clients were told.
#[derive(Debug, Default)]
pub struct Diary {
    /// Writes.
    pub acks: Vec<Ack>,
    /// Errors of those who write.
    pub write_troubles: Vec<Trouble>,
    /// Errors of those who only read.
    pub read_troubles: Vec<Trouble>,
    /// Reads that did not show the client's own last acknowledged write.
    pub stale_reads: Vec<StaleRead>,
    /// Transfers that were acknowledged.
    pub transfers: u64,
    /// Reads that succeeded.
    pub reads: u64,
}

/// Running clients.
#[derive(Debug)]
pub struct Workload {
    diary: Arc<Mutex<Diary>>,
    over: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

impl Workload {
    /// Starts all clients. `first` is the number of their first writes, greater than in any round before.
    pub fn start(options: &Opts, first: u32) -> Workload {
        let diary: Arc<Mutex<Diary>> = Arc::default();
        let over: Arc<AtomicBool> = Arc::default();
        let mut clients = Vec::new();
        let kinds = [(WRITERS, Kind::Writer), (PAYERS, Kind::Payer), (OWN_READERS, Kind::OwnReader), (READERS, Kind::Reader)];
        for (count, kind) in kinds {
            for id in 0..count {
                // Both kinds write into one table.
                let id = if kind == Kind::OwnReader { WRITERS + id } else { id };
                let client = Client { kind, id, options: options.clone(), diary: diary.clone(), over: over.clone(), number: first };
                clients.push(tokio::spawn(client.run()));
            }
        }
        Workload { diary, over, clients }
    }

    /// Whether a write sent after `since` has been acknowledged.
    pub fn has_written_since(&self, since: Instant) -> bool {
        self.diary.lock().expect("never poisoned").acks.iter().rev().any(|ack| ack.sent > since)
    }

    /// Ends the clients and hands over what they know.
    pub async fn end(self) -> Diary {
        self.over.store(true, Ordering::SeqCst);
        for client in self.clients {
            // A client that still waits for an answer is ended without it.
            let handle = client.abort_handle();
            if tokio::time::timeout(Duration::from_secs(15), client).await.is_err() {
                handle.abort();
            }
        }
        std::mem::take(&mut self.diary.lock().expect("never poisoned"))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Writer,
    Payer,
    OwnReader,
    Reader,
}

struct Client {
    kind: Kind,
    id: u32,
    options: Opts,
    diary: Arc<Mutex<Diary>>,
    over: Arc<AtomicBool>,
    number: u32,
}

impl Client {
    async fn run(mut self) {
        let mut conn: Option<Conn> = None;
        while !self.over.load(Ordering::SeqCst) {
            if conn.is_none() {
                match Conn::new(self.options.clone()).await {
                    Ok(new) => conn = Some(new),
                    Err(error) => self.note(&error, false),
                }
            }
            let Some(open) = conn.as_mut() else {
                tokio::time::sleep(REST_AFTER_ERROR).await;
                continue;
            };
            self.number += 1;
            let acted = match self.kind {
                Kind::Writer => self.write(open).await,
                Kind::Payer => self.pay(open).await,
                Kind::OwnReader => self.read_own(open).await,
                Kind::Reader => self.read(open).await,
            };
            if let Err(error) = acted {
                // A server's ERR leaves the connection usable; anything else is its end.
                if !matches!(error, mysql_async::Error::Server(_)) {
                    conn = None;
                }
                self.note(&error, true);
                tokio::time::sleep(REST_AFTER_ERROR).await;
            }
            tokio::time::sleep(if self.kind == Kind::Writer { REST } else { LONG_REST }).await;
        }
    }

    async fn write(&self, conn: &mut Conn) -> Result<(), mysql_async::Error> {
        let sent = Instant::now();
        conn.query_drop(format!("INSERT INTO t_chaos.log VALUES ({}, {}, @@server_id)", self.id, self.number)).await?;
        let ack = Ack { client: self.id, number: self.number, sent, known: Instant::now() };
        self.diary.lock().expect("never poisoned").acks.push(ack);
        Ok(())
    }

    async fn pay(&self, conn: &mut Conn) -> Result<(), mysql_async::Error> {
        // In the order of the accounts' numbers, so that payers do not lock each other out.
        let from = self.number % (ACCOUNTS - 1);
        let to = from + 1 + self.number % (ACCOUNTS - 1 - from);
        let amount = 1 + self.number % 7;
        let mut transaction = conn.start_transaction(TxOpts::default()).await?;
        transaction.query_drop(format!("UPDATE t_chaos.bank SET balance = balance - {amount} WHERE id = {from}")).await?;
        transaction.query_drop(format!("UPDATE t_chaos.bank SET balance = balance + {amount} WHERE id = {to}")).await?;
        transaction.commit().await?;
        self.diary.lock().expect("never poisoned").transfers += 1;
        Ok(())
    }

    async fn read_own(&self, conn: &mut Conn) -> Result<(), mysql_async::Error> {
        self.write(conn).await?;
        let text = format!("SELECT MAX(number) FROM t_chaos.log WHERE client = {}", self.id);
        let seen: Option<u32> = conn.query_first::<Option<u32>, _>(text).await?.flatten();
        if seen.is_none_or(|seen| seen < self.number) {
            let stale = StaleRead { client: self.id, wrote: self.number, seen, at: Instant::now() };
            self.diary.lock().expect("never poisoned").stale_reads.push(stale);
        }
        Ok(())
    }

    async fn read(&self, conn: &mut Conn) -> Result<(), mysql_async::Error> {
        let _: Vec<(u32, i32)> = conn.query("SELECT id, balance FROM t_chaos.bank").await?;
        self.diary.lock().expect("never poisoned").reads += 1;
        Ok(())
    }

    fn note(&self, error: &mysql_async::Error, in_statement: bool) {
        let text = error.to_string();
        // Sluice says so itself; a connection that ended under a statement says nothing at all.
        let unknown = in_statement
            && match error {
                mysql_async::Error::Server(error) => error.message.contains("whether it took effect is unknown"),
                _ => true,
            };
        let who = format!("{:?} {}", self.kind, self.id).to_lowercase();
        let trouble = Trouble { who, at: Instant::now(), unknown, text };
        let mut diary = self.diary.lock().expect("never poisoned");
        match self.kind {
            Kind::Reader => diary.read_troubles.push(trouble),
            _ => diary.write_troubles.push(trouble),
        }
    }
}
