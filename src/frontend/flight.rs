//! One fetch for many: of clients that miss the same result at the same time one asks the server, and the others wait for what it brings.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::cache::key::Key;
use crate::net::timer;

/// Parts of the table, each with its lock.
const SHARDS: usize = 16;
/// Nobody waits longer than this for another's fetch; then it asks the server itself, which will take as long again.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// One fetch under way.
#[derive(Debug, Default)]
pub struct Flight {
    landed: AtomicBool,
    wakes: Notify,
}

impl Flight {
    /// Waits until it has ended, well or not, or for [`WAIT_MAX`].
    pub async fn wait(&self) {
        let landed = self.wakes.notified();
        tokio::pin!(landed);
        landed.as_mut().enable();
        if !self.landed.load(Ordering::SeqCst) {
            // At the end of the time the one who waits goes on by himself.
            let _ = timer::timeout(WAIT_MAX, landed).await;
        }
    }
}

/// Its end: when it is dropped, those who wait go on.
#[derive(Debug)]
pub struct Landing(Arc<Flight>);

impl Landing {
    /// Of a new one.
    pub fn new() -> (Landing, Arc<Flight>) {
        let flight = Arc::new(Flight::default());
        (Landing(flight.clone()), flight)
    }

    /// Whether it is this one's.
    pub fn is_of(&self, flight: &Arc<Flight>) -> bool {
        Arc::ptr_eq(&self.0, flight)
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.0.landed.store(true, Ordering::SeqCst);
        self.0.wakes.notify_waiters();
    }
}

type Shard = Mutex<HashMap<Arc<Key>, Arc<Flight>, foldhash::fast::RandomState>>;

/// All fetches under way.
#[derive(Debug, Default)]
pub struct Flights([Shard; SHARDS]);

/// What becomes of somebody who misses a result.
pub enum Boarding {
    /// He fetches it.
    Leads(Leader),
    /// Another does.
    Waits(Arc<Flight>),
}

/// Who fetches. When it is dropped the others go on.
#[derive(Debug)]
pub struct Leader {
    flights: Arc<Flights>,
    key: Arc<Key>,
    /// Dropped after the key has left the table.
    _landing: Landing,
}

impl Flights {
    fn shard(&self, key: &Key) -> &Shard {
        &self.0[key.look().hash_code() as usize % SHARDS]
    }

    /// Leads, or waits for who does.
    pub fn board(self: &Arc<Flights>, key: &Arc<Key>) -> Boarding {
        let mut shard = self.shard(key).lock();
        if let Some(flight) = shard.get(key) {
            return Boarding::Waits(flight.clone());
        }
        let (landing, flight) = Landing::new();
        shard.insert(key.clone(), flight);
        Boarding::Leads(Leader { flights: self.clone(), key: key.clone(), _landing: landing })
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.flights.shard(&self.key).lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::key::{KeyRef, Reader};
    use crate::session::state::State;

    #[tokio::test]
    async fn one_leads_and_the_others_go_on_when_he_ends() {
        let flights = Arc::new(Flights::default());
        let reader = Reader { user: "app".into(), address: None, generation: 1, capabilities: 0, raw_collation: 0 };
        let state = Arc::new(State::default());
        let key = |sql: &str| Arc::new(KeyRef::new(reader.look(), &state, None, sql.as_bytes(), None).to_owned());
        let Boarding::Leads(leader) = flights.board(&key("a")) else { panic!("the first leads") };
        assert!(matches!(flights.board(&key("b")), Boarding::Leads(_)));
        let Boarding::Waits(flight) = flights.board(&key("a")) else { panic!("the second waits") };
        let waiter = tokio::spawn({
            let flight = flight.clone();
            async move { flight.wait().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        drop(leader);
        waiter.await.unwrap();
        flight.wait().await;
        assert!(matches!(flights.board(&key("a")), Boarding::Leads(_)));
    }
}
