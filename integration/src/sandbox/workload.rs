//! A few clients that read and write `shop` through Sluice, gently, and remember how it went.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, TxOpts};

/// Clients, each with a connection of its own.
pub const CLIENTS: u64 = 4;
/// Rest of a client between two things it does.
const REST: Duration = Duration::from_millis(20);
const REST_AFTER_ERROR: Duration = Duration::from_millis(250);
/// ER_LOCK_DEADLOCK: the transaction was rolled back.
const DEADLOCK: u16 = 1213;
/// How often an order is tried.
const ORDER_TRIES: u32 = 5;
/// Orders are taken away again beyond this many, so that a sandbox left alone does not grow.
const ORDERS_KEPT: u32 = 5_000;

/// How it went since the last time somebody asked.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Statements that succeeded.
    pub statements: u64,
    /// Statements or logins that failed.
    pub errors: u64,
    /// The slowest of 99 % of the statements.
    pub p99: Duration,
}

/// The clients' common state.
#[derive(Debug)]
pub struct Workload {
    on: AtomicBool,
    errors: AtomicU64,
    latencies: Mutex<Vec<Duration>>,
    last_error: Mutex<Option<String>>,
}

impl Workload {
    /// Starts the clients, busy or waiting to be switched on.
    pub fn start(options: Opts, on: bool) -> Arc<Self> {
        let workload =
            Arc::new(Self { on: on.into(), errors: 0.into(), latencies: Mutex::default(), last_error: Mutex::default() });
        for client in 0..CLIENTS {
            tokio::spawn(Arc::clone(&workload).client(options.clone(), client));
        }
        workload
    }

    /// Switches the clients on or off.
    pub fn set(&self, on: bool) {
        self.on.store(on, Ordering::SeqCst);
    }

    /// Whether they are busy.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::SeqCst)
    }

    /// What happened since the last call.
    pub fn tally(&self) -> Tally {
        let mut latencies = std::mem::take(&mut *self.latencies.lock().expect("never poisoned"));
        latencies.sort_unstable();
        let p99 = latencies.get(latencies.len().saturating_sub(1) * 99 / 100).copied().unwrap_or_default();
        Tally { statements: latencies.len() as u64, errors: self.errors.swap(0, Ordering::SeqCst), p99 }
    }

    /// The last error there ever was.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().expect("never poisoned").clone()
    }

    async fn client(self: Arc<Self>, options: Opts, seed: u64) {
        let mut conn = None;
        let mut dice = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        loop {
            tokio::time::sleep(REST).await;
            if !self.is_on() {
                conn = None; // an idle sandbox has no clients
                continue;
            }
            // xorshift: any dice will do
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            if let Err(error) = self.act(&mut conn, &options, dice).await {
                self.errors.fetch_add(1, Ordering::SeqCst);
                *self.last_error.lock().expect("never poisoned") = Some(error.to_string());
                conn = None;
                tokio::time::sleep(REST_AFTER_ERROR).await;
            }
        }
    }

    /// One thing a shop's page does: mostly reading.
    async fn act(&self, conn: &mut Option<Conn>, options: &Opts, dice: u64) -> Result<(), mysql_async::Error> {
        let conn = match conn {
            Some(conn) => conn,
            None => conn.insert(Conn::new(options.clone()).await?),
        };
        let (item, customer) = (dice % 100 + 1, dice / 100 % 20 + 1);
        match dice / 2_000 % 10 {
            0..=4 => self.timed(conn.exec_drop("SELECT name, price, stock FROM items WHERE id = ?", (item,))).await,
            5..=6 => {
                self.timed(conn.query_drop(format!("SELECT id, state, placed FROM orders WHERE customer_id = {customer} LIMIT 20")))
                    .await
            }
            7 => {
                let sql = "SELECT state, COUNT(*) FROM orders GROUP BY state";
                self.timed(conn.query_drop(sql)).await
            }
            8 => self.timed(conn.exec_drop("UPDATE items SET stock = 1000 WHERE id = ?", (item,))).await,
            _ => {
                // Two orders may lock each other's rows; who loses begins again, as every application should.
                for _ in 1..ORDER_TRIES {
                    match self.order(conn, item, customer).await {
                        Err(mysql_async::Error::Server(error)) if error.code == DEADLOCK => {}
                        other => return other,
                    }
                }
                self.order(conn, item, customer).await
            }
        }
    }

    async fn order(&self, conn: &mut Conn, item: u64, customer: u64) -> Result<(), mysql_async::Error> {
        let mut transaction = conn.start_transaction(TxOpts::default()).await?;
        self.timed(transaction.exec_drop("INSERT INTO orders (customer_id) VALUES (?)", (customer,))).await?;
        let order = transaction.last_insert_id();
        self.timed(transaction.exec_drop("INSERT INTO order_lines VALUES (?, ?, 1)", (order, item))).await?;
        self.timed(transaction.exec_drop("UPDATE items SET stock = stock - 1 WHERE id = ?", (item,))).await?;
        let old = order.unwrap_or(0).saturating_sub(u64::from(ORDERS_KEPT));
        if old > 40 {
            self.timed(transaction.exec_drop("DELETE FROM order_lines WHERE order_id = ?", (old,))).await?;
            self.timed(transaction.exec_drop("DELETE FROM orders WHERE id = ?", (old,))).await?;
        }
        transaction.commit().await
    }

    async fn timed<T>(&self, work: impl Future<Output = Result<T, mysql_async::Error>>) -> Result<T, mysql_async::Error> {
        let begun = Instant::now();
        let done = work.await?;
        self.latencies.lock().expect("never poisoned").push(begun.elapsed());
        Ok(done)
    }
}
