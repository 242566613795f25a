//! Which worker thread of the proxy this is, and which one a socket's readiness is reported to.
//!
//! Each worker has a reactor of its own. A socket that is used by another worker than its own works, but every wake-up then
//! crosses from one thread to the other.

use std::cell::Cell;

/// A worker thread, or [`Worker::NONE`] for every other thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Worker(u16);

thread_local! {
    static HERE: Cell<Worker> = const { Cell::new(Worker::NONE) };
}

impl Worker {
    /// A thread that is no worker.
    pub const NONE: Worker = Worker(u16::MAX);

    /// The worker with this number, from 0 on.
    pub fn new(number: u16) -> Worker {
        Worker(number)
    }

    /// The worker whose thread this is.
    pub fn here() -> Worker {
        HERE.get()
    }

    /// Makes this thread that worker.
    pub fn settle(self) {
        HERE.set(self);
    }
}
