//! The pools of all servers, each at its server's number. A reload of the configuration adds pools while statements look for theirs, so
//! there is a fixed number of places, each filled once.

use std::sync::{Arc, OnceLock};

use super::pool::ServerPool;

/// Servers one process may ever have had.
pub const SERVERS_MAX: usize = 256;

/// See the file.
pub struct Pools {
    places: Box<[OnceLock<Arc<ServerPool>>]>,
}

impl Default for Pools {
    fn default() -> Pools {
        Pools { places: (0..SERVERS_MAX).map(|_| OnceLock::new()).collect() }
    }
}

impl Pools {
    /// The pool at that number, if there is one.
    pub fn get(&self, index: usize) -> Option<&Arc<ServerPool>> {
        self.places.get(index)?.get()
    }

    /// Puts a pool at its server's number. `false`: there is one, or no such place.
    pub fn add(&self, pool: Arc<ServerPool>) -> bool {
        self.places.get(pool.server.index()).is_some_and(|place| place.set(pool).is_ok())
    }

    /// All of them, in the order of their numbers, those of servers that left the configuration included.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ServerPool>> {
        self.places.iter().map_while(OnceLock::get)
    }
}
