//! A connection handed out by its pool, and how it comes back.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::ServerPool;
use crate::backend::connection::Connection;

/// A connection in somebody's hands.
pub struct Lease {
    connection: Option<Box<Connection>>,
    /// Gone when the connection is.
    pool: Option<Arc<ServerPool>>,
}

impl Deref for Lease {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("a lease holds its connection until it is given back")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("a lease holds its connection until it is given back")
    }
}

impl Lease {
    pub(super) fn of(connection: Box<Connection>, pool: Arc<ServerPool>) -> Lease {
        Lease { connection: Some(connection), pool: Some(pool) }
    }

    /// Closes the connection and keeps its place in the books, for another one.
    pub(super) fn close(mut self) -> Arc<ServerPool> {
        drop(self.connection.take());
        let pool = self.pool.take().expect("a lease has its pool until it is given back");
        pool.closed.fetch_add(1, Ordering::Relaxed);
        pool
    }

    /// Gives the connection back in good order: nothing unread, no transaction open, [`Connection::have`] true.
    pub fn give_back(mut self, now: Instant) {
        if let (Some(connection), Some(pool)) = (self.connection.take(), self.pool.take()) {
            pool.take_back(connection, now);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.connection.take());
        if let Some(pool) = self.pool.take() {
            pool.closed.fetch_add(1, Ordering::Relaxed);
            pool.place_free();
        }
    }
}
