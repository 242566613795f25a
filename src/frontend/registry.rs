//! Who is connected: one entry a client, for `SHOW CLIENTS`, `KILL` and the drain.
//!
//! The entry is written by the client's own task (a short lock that nobody else holds but a `SHOW CLIENTS`), and read by
//! the admin room.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::frontend::client::Account;
use crate::session::pin::Pins;
use crate::sql::classify::Classified;
use crate::topology::ServerId;

/// What a client is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ClientState {
    /// Shaking hands.
    #[default]
    Login,
    /// Between statements.
    Idle,
    /// A statement of it is running on a server.
    Active,
    /// It waits for a connection or a master.
    Waiting,
}

impl ClientState {
    /// The word in `SHOW CLIENTS` and the label of `sluice_clients`.
    pub fn as_str(self) -> &'static str {
        match self {
            ClientState::Login => "login",
            ClientState::Idle => "idle",
            ClientState::Active => "active",
            ClientState::Waiting => "waiting",
        }
    }
}

/// What is told of a client.
#[derive(Clone, Default)]
pub struct ClientView {
    /// The account; empty during the login.
    pub user: Arc<str>,
    /// The current schema.
    pub schema: Option<Arc<str>>,
    /// What it is doing.
    pub state: ClientState,
    /// The server it is using or pinned to.
    pub server: Option<ServerId>,
    /// That connection was handed out for writing.
    pub writes: bool,
    /// That server's number for the connection in use.
    pub thread_id: u64,
    /// Why it is pinned.
    pub pins: Pins,
    /// What runs now or ran last.
    pub statement: Option<Arc<Classified>>,
    /// Since when it is in this state.
    pub since: Option<Instant>,
    /// Statements so far.
    pub queries: u64,
    /// It speaks TLS.
    pub tls: bool,
}

/// One client.
pub struct ClientEntry {
    /// The number the client sees (in the greeting, `KILL`, `SHOW CLIENTS`).
    pub id: u32,
    /// Where it comes from.
    pub host: String,
    /// What it is doing.
    pub view: Mutex<ClientView>,
    /// How its connections log in; set once it is logged in.
    pub account: Mutex<Option<Account>>,
    /// Its task, from right after it was started.
    task: OnceLock<AbortHandle>,
    /// Wakes its task, from the end of its login on.
    waker: OnceLock<Waker>,
}

impl ClientEntry {
    /// Tells which task serves the client.
    pub fn served_by(&self, task: AbortHandle) {
        // A second task for the same client does not exist.
        let _ = self.task.set(task);
    }

    /// Tells how its task is woken while it waits for the client.
    pub fn woken_by(&self, waker: &Waker) {
        let _ = self.waker.set(waker.clone());
    }

    /// Ends the client wherever it stands. Its server connection, if it holds one, is closed.
    pub fn end(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }

    /// Has an idle client look whether it should stay (see `Shared::draining`).
    pub fn nudge(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }
}

/// All clients.
#[derive(Default)]
pub struct Registry {
    clients: Mutex<HashMap<u32, Arc<ClientEntry>>>,
    next_id: AtomicU32,
    count: AtomicUsize,
}

impl Registry {
    /// Takes in a client that has just connected.
    pub fn enter(&self, host: String) -> Arc<ClientEntry> {
        let mut clients = self.clients.lock();
        let id = loop {
            let id = self.next_id.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            if id != 0 && !clients.contains_key(&id) {
                break id;
            }
        };
        let entry = Arc::new(ClientEntry {
            id,
            host,
            view: Mutex::new(ClientView { since: Some(Instant::now()), ..ClientView::default() }),
            account: Mutex::new(None),
            task: OnceLock::new(),
            waker: OnceLock::new(),
        });
        clients.insert(id, entry.clone());
        self.count.store(clients.len(), Ordering::Relaxed);
        entry
    }

    /// A client has gone.
    pub fn leave(&self, id: u32) {
        let mut clients = self.clients.lock();
        clients.remove(&id);
        self.count.store(clients.len(), Ordering::Relaxed);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// How many of them are like this.
    pub fn count_where(&self, like: impl Fn(&ClientView) -> bool) -> usize {
        self.clients.lock().values().filter(|client| like(&client.view.lock())).count()
    }

    /// One of them.
    pub fn get(&self, id: u32) -> Option<Arc<ClientEntry>> {
        self.clients.lock().get(&id).cloned()
    }

    /// All of them, by number.
    pub fn all(&self) -> Vec<Arc<ClientEntry>> {
        let mut all: Vec<_> = self.clients.lock().values().cloned().collect();
        all.sort_by_key(|c| c.id);
        all
    }
}
