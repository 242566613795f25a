//! Redis or memcached, where several proxies keep results in one place. Names and bytes; what they mean, and whether they are to be believed,
//! is [`crate::cache::shared`]'s.
//!
//! The client is our own for both: four commands, each with one answer, and nothing of a store's answers may cost more than it is worth. The length of a
//! value is looked at before it is read, which the crates for either leave to the server; and a store that hangs, refuses, or talks
//! nonsense is left alone, at once and for all clients, until it has been found well again. To whoever asks it is then as if it were empty.
//!
//! * [`place`]: where it is, as its URL says.
//! * [`wire`]: commands and answers as bytes.
//! * [`link`]: the one connection, and the task that has it.

mod link;
pub mod place;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsConnector;

use crate::net::timer;
pub use place::{Kind, Place, Trust};

/// So long a client waits for a value, at most.
pub const LOOK_MAX: Duration = Duration::from_millis(50);
/// Commands that wait to be sent.
const ORDERS_MAX: usize = 1024;
/// Bytes of values that wait to be sent, and of values that may be read at the same time.
const QUEUED_MAX: usize = 32 << 20;

enum Order {
    Get { name: String, answer: oneshot::Sender<Option<Vec<u8>>> },
    Put { name: String, value: Vec<u8>, ttl: Duration },
}

/// What is known of the store.
#[derive(Debug, Default)]
struct State {
    up: AtomicBool,
    why: Mutex<String>,
    queued: AtomicUsize,
    errors: AtomicU64,
}

/// Who hears that the store is lost or found: a word for the event, and what there is to say.
pub type Heard = Box<dyn Fn(&'static str, &str) + Send + Sync>;

/// What became of a look.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// There is something of that name.
    Value(Vec<u8>),
    /// There is nothing.
    Nothing,
    /// The store is down, busy, or did not answer in time.
    Failed,
}

/// One store.
#[derive(Debug)]
pub struct SharedStore {
    orders: mpsc::Sender<Order>,
    state: Arc<State>,
    value_max: usize,
    /// Values that were found and were good.
    pub hits: AtomicU64,
    /// Names that were not there.
    pub misses: AtomicU64,
    /// Values that were found and were not good: older than a write, damaged, of another master.
    pub unfit: AtomicU64,
}

impl SharedStore {
    /// Begins to look for it, within a tokio runtime with a clock. Until it is found it is down. `tls`: for a place that is reached by TLS.
    pub fn start(place: Place, tls: Option<TlsConnector>, heard: Heard) -> Arc<SharedStore> {
        let (orders, receiver) = mpsc::channel(ORDERS_MAX);
        let state = Arc::new(State::default());
        "not connected yet".clone_into(&mut state.why.lock());
        let value_max = place.kind.value_max();
        tokio::spawn(link::run(place, tls, receiver, state.clone(), heard));
        let (hits, misses, unfit) = Default::default();
        Arc::new(SharedStore { orders, state, value_max, hits, misses, unfit })
    }

    /// What is there under this name. Takes [`LOOK_MAX`] at most, and no time at all while the store is down.
    pub async fn get(&self, name: String) -> Found {
        if !self.is_up() {
            return Found::Failed;
        }
        let (answer, answered) = oneshot::channel();
        if self.orders.try_send(Order::Get { name, answer }).is_err() {
            return self.failed();
        }
        match timer::timeout(LOOK_MAX, answered).await {
            Ok(Ok(Some(value))) => Found::Value(value),
            Ok(Ok(None)) => Found::Nothing,
            Ok(Err(_)) | Err(_) => self.failed(),
        }
    }

    fn failed(&self) -> Found {
        self.state.errors.fetch_add(1, Relaxed);
        Found::Failed
    }

    /// Puts a value there, some time soon, if that is possible.
    pub fn put(&self, name: String, value: Vec<u8>, ttl: Duration) {
        let len = value.len();
        if !self.is_up() || len > self.value_max {
            return;
        }
        if self.state.queued.fetch_add(len, Relaxed) + len > QUEUED_MAX
            || self.orders.try_send(Order::Put { name, value, ttl }).is_err()
        {
            self.state.queued.fetch_sub(len, Relaxed);
            self.failed();
        }
    }

    /// Whether it is asked.
    pub fn is_up(&self) -> bool {
        self.state.up.load(Relaxed)
    }

    /// Why it is not.
    pub fn why_down(&self) -> Option<String> {
        (!self.is_up()).then(|| self.state.why.lock().clone())
    }

    /// Looks that failed, values that could not be sent or were refused, and connections lost.
    pub fn errors(&self) -> u64 {
        self.state.errors.load(Relaxed)
    }
}
