//! What becomes of connections that come back, and of places that become free.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::oneshot;

use super::{Handed, Inside, ServerPool};
use crate::backend::connection::Connection;
use crate::backend::pool_book::Given;
use crate::net::Worker;

impl Inside {
    /// Whether what comes back now is for another thread.
    fn next_is_elsewhere(&self) -> bool {
        let next = self.book.next_waiter().and_then(|ticket| self.waiters.get(&ticket));
        next.is_some_and(|(_, worker)| *worker != Worker::here())
    }
}

impl ServerPool {
    pub(super) fn take_back(self: Arc<Self>, mut connection: Box<Connection>, now: Instant) {
        connection.idle_since = now;
        let unfit = connection.tainted || now > connection.expires || self.aims.has(connection.thread_id);
        if unfit || !connection.stream.rest_here() {
            return self.discard(connection);
        }
        let mut inside = self.inside.lock();
        // What is under way on this thread's ring cannot be waited for on another, where the next who waits may be. It is taken back outside of the lock.
        if inside.next_is_elsewhere() && !connection.stream.is_at_rest() {
            drop(inside);
            if !connection.stream.come_to_rest() {
                return self.discard(connection);
            }
            inside = self.inside.lock();
        }
        // Looked at under the lock, or it might be put among the idle ones right behind their closing.
        if connection.outdated != self.outdated.load(Ordering::Acquire) {
            drop(inside);
            return self.discard(connection);
        }
        let given = inside.book.give_back(|connection| &connection.key, connection, now);
        let given = Self::sender(&mut inside, given);
        drop(inside);
        self.pass_on(given);
    }

    fn discard(&self, connection: Box<Connection>) {
        self.count_closed(1);
        drop(connection);
        self.place_free();
    }

    pub(super) fn place_free(&self) {
        let given = {
            let mut inside = self.inside.lock();
            let given = inside.book.lost();
            Self::sender(&mut inside, given)
        };
        self.pass_on(given);
    }

    #[allow(clippy::type_complexity)]
    fn sender(
        inside: &mut Inside,
        given: Given<Box<Connection>>,
    ) -> (Option<(oneshot::Sender<Handed>, Handed)>, Option<Box<Connection>>) {
        match given {
            Given::Kept => (None, None),
            Given::Close(connection) => (None, Some(connection)),
            Given::To(ticket, connection) => match inside.waiters.remove(&ticket) {
                Some((sender, _)) => (Some((sender, Some(connection))), None),
                None => (None, Some(connection)),
            },
            Given::Place(ticket, close) => (inside.waiters.remove(&ticket).map(|(sender, _)| (sender, None)), close),
        }
    }

    #[allow(clippy::type_complexity)]
    fn pass_on(&self, (to, close): (Option<(oneshot::Sender<Handed>, Handed)>, Option<Box<Connection>>)) {
        if close.is_some() {
            self.count_closed(1);
        }
        drop(close);
        if let Some((sender, handed)) = to {
            // A waiter that left meanwhile finds what it was given when it is dropped.
            let _ = sender.send(handed);
        }
    }
}
