//! Connections that a `KILL` is on its way to.
//!
//! A KILL names a connection by its number at the server, and takes a moment to get there. If the statement it is meant for ends
//! meanwhile, the connection must not be given to somebody else: the KILL would end his statement. So whoever sends a KILL first
//! takes aim, then looks whether the victim still uses the connection; and a connection that is aimed at is closed instead of
//! given back.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// The connections of one server that are aimed at.
#[derive(Debug, Default)]
pub struct Aims {
    /// How many there are: a look at it costs nothing, and it is nearly always 0.
    count: AtomicUsize,
    at: Mutex<Vec<u64>>,
}

/// One KILL on its way. Dropped when the server has answered it.
#[derive(Debug)]
pub struct Aim<'a> {
    aims: &'a Aims,
    thread_id: u64,
}

impl Aims {
    /// Takes aim at a connection. Look whether it is still the right one afterwards, under the lock that its user takes before
    /// giving it back.
    pub fn take(&self, thread_id: u64) -> Aim<'_> {
        self.at.lock().push(thread_id);
        self.count.fetch_add(1, Ordering::Relaxed);
        Aim { aims: self, thread_id }
    }

    /// Whether a KILL is on its way to it.
    pub fn has(&self, thread_id: u64) -> bool {
        self.count.load(Ordering::Relaxed) != 0 && self.at.lock().contains(&thread_id)
    }
}

impl Drop for Aim<'_> {
    fn drop(&mut self) {
        let mut at = self.aims.at.lock();
        if let Some(index) = at.iter().position(|id| *id == self.thread_id) {
            at.swap_remove(index);
            self.aims.count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_kills_of_one_connection_both_count() {
        let aims = Aims::default();
        let (first, second) = (aims.take(7), aims.take(7));
        assert!(aims.has(7) && !aims.has(8));
        drop(first);
        assert!(aims.has(7), "the other KILL is still on its way");
        drop(second);
        assert!(!aims.has(7));
    }
}
