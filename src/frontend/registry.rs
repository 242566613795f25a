//! Who is connected: one entry a client, for `SHOW CLIENTS`, `KILL` and the drain.
//!
//! The entry is written by the client's own task (a short lock that nobody else holds but a `SHOW CLIENTS`), and read by
//! the admin room.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Instant;

use parking_lot::Mutex;

use crate::frontend::client::Account;
use crate::frontend::workers::ClientEnder;
use crate::session::pin::Pins;
use crate::sql::classify::Classified;
use crate::topology::ServerId;

/// The least number of a client. Servers number their connections from 1 on: between a client's number and those a server would
/// need a thousand million connections to meet. It still fits into 31 bits, for drivers that read it as signed.
pub const CLIENT_ID_MIN: u32 = 1 << 30;
/// One past the greatest.
const CLIENT_ID_END: u32 = 1 << 31;

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
    /// The word in `SHOW CLIENTS`. (`sluice_clients` counts those that wait among the active ones.)
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
    /// The account; empty until it is known.
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
    /// It holds a lock there under which nobody can write.
    pub read_lock: bool,
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
    /// Where its socket comes from.
    socket_host: String,
    /// Where it comes from as a PROXY header told.
    told_host: OnceLock<String>,
    /// What it is doing.
    pub view: Mutex<ClientView>,
    /// A KILL of the client is on its way to its server: what comes back from there is not for the client any more.
    pub doomed: AtomicBool,
    /// A KILL QUERY met the client waiting.
    interrupted: AtomicBool,
    /// How its connections log in; set once it is logged in.
    pub account: Mutex<Option<Account>>,
    /// Its task, from right after it was started.
    task: OnceLock<ClientEnder>,
    /// Wakes its task, from the end of its login on.
    waker: OnceLock<Waker>,
}

impl ClientEntry {
    /// Tells which task serves the client.
    pub fn served_by(&self, task: ClientEnder) {
        // A second task for the same client does not exist.
        let _ = self.task.set(task);
    }

    /// Tells how its task is woken while it waits for the client.
    pub fn woken_by(&self, waker: &Waker) {
        let _ = self.waker.set(waker.clone());
    }

    /// Where it comes from.
    pub fn host(&self) -> &str {
        self.told_host.get().unwrap_or(&self.socket_host)
    }

    /// A PROXY header told where it comes from.
    pub fn comes_from(&self, host: &str) {
        let _ = self.told_host.set(host.to_owned());
    }

    /// Ends the client wherever it stands. Its server connection, if it holds one, is closed.
    pub fn end(&self) {
        if let Some(task) = self.task.get() {
            task.end();
        }
    }

    /// Ends the waiting of a statement (see [`ClientEntry::take_interrupt`]).
    pub fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Release);
        self.nudge();
    }

    /// Whether the waiting was interrupted since it was asked last.
    pub fn take_interrupt(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed) && self.interrupted.swap(false, Ordering::Acquire)
    }

    /// What the client is doing, on which server, and that server's number for the connection (0: none).
    pub fn doing(&self) -> (ClientState, Option<ServerId>, u64) {
        let view = self.view.lock();
        (view.state, view.server, view.thread_id)
    }

    /// Has an idle client look whether it should stay (see `Shared::draining`).
    pub fn nudge(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }
}

/// A client's place among those of its account, while it is logging in.
pub struct Claim {
    entry: Arc<ClientEntry>,
    /// Whose it was before.
    before: Option<Arc<str>>,
}

impl Claim {
    /// The login has succeeded.
    pub fn keep(mut self) {
        self.before = None;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(before) = self.before.take() {
            self.entry.view.lock().user = before;
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
            let id = CLIENT_ID_MIN + self.next_id.fetch_add(1, Ordering::Relaxed) % (CLIENT_ID_END - CLIENT_ID_MIN);
            if !clients.contains_key(&id) {
                break id;
            }
        };
        let entry = Arc::new(ClientEntry {
            id,
            socket_host: host,
            told_host: OnceLock::new(),
            view: Mutex::new(ClientView { since: Some(Instant::now()), ..ClientView::default() }),
            doomed: AtomicBool::new(false),
            interrupted: AtomicBool::new(false),
            account: Mutex::new(None),
            task: OnceLock::new(),
            waker: OnceLock::new(),
        });
        clients.insert(id, entry.clone());
        self.count.store(clients.len(), Ordering::Relaxed);
        entry
    }

    /// How many numbers were given.
    pub fn numbers_given(&self) -> u32 {
        self.next_id.load(Ordering::Relaxed)
    }

    /// Goes on behind the numbers that another process has given, so that no two clients have one.
    pub fn number_after(&self, given: u32) {
        self.next_id.store(given, Ordering::Relaxed);
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

    /// Counts a client that is logging in among those of `user`, unless there are `limit` others already. Taken back when the claim is
    /// dropped instead of kept: the login came to nothing after all.
    pub fn claim(&self, entry: &Arc<ClientEntry>, user: &str, limit: u32) -> Option<Claim> {
        // All counting is done under this lock, so that of two at once one sees the other.
        let clients = self.clients.lock();
        let others = clients.values().filter(|client| client.id != entry.id && *client.view.lock().user == *user).count();
        if others >= limit as usize {
            return None;
        }
        let before = std::mem::replace(&mut entry.view.lock().user, user.into());
        Some(Claim { entry: entry.clone(), before: Some(before) })
    }

    /// One of them.
    pub fn get(&self, id: u32) -> Option<Arc<ClientEntry>> {
        self.clients.lock().get(&id).cloned()
    }

    /// Those that use the connection which a server numbers so. Servers number independently, so there may be several.
    pub fn on_connection(&self, thread_id: u64) -> Vec<Arc<ClientEntry>> {
        self.all().into_iter().filter(|c| matches!(c.doing(), (_, Some(_), id) if id == thread_id)).collect()
    }

    /// All of them, by number.
    pub fn all(&self) -> Vec<Arc<ClientEntry>> {
        let mut all: Vec<_> = self.clients.lock().values().cloned().collect();
        all.sort_by_key(|c| c.id);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_logins_at_once_no_more_are_let_in_than_may_be() {
        let registry = Registry::default();
        let clients: Vec<_> = (0..3).map(|n| registry.enter(format!("10.0.0.{n}"))).collect();
        let claim = |n: usize| registry.claim(&clients[n], "app", 2);
        let (first, second) = (claim(0).unwrap(), claim(1).unwrap());
        assert!(claim(2).is_none(), "neither of the others is logged in yet");
        assert_eq!(*clients[2].view.lock().user, *"");
        drop(second);
        let third = claim(2).expect("the login before came to nothing");
        third.keep();
        first.keep();
        assert!(claim(1).is_none());
        assert!(registry.claim(&clients[1], "other", 1).is_some());
        // COM_CHANGE_USER to the same account.
        drop(claim(0).expect("it is one of the two itself"));
        assert_eq!(*clients[0].view.lock().user, *"app");
    }
}
