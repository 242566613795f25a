//! Which GTIDs are known to be on which server, between heartbeats too.
//!
//! A heartbeat tells all of it, but is up to an interval old; the data path learns more: a write's own GTID in the master's OK packet, a position a
//! replica was waited for. What was learned stays until two heartbeats have come after it, so that an answer that was under way when it was learned
//! does not take it back; and what a heartbeat no longer confirms (a server restored from a backup) is forgotten.

use std::sync::Arc;

use parking_lot::RwLock;

use super::{GtidSet, ServerId};

/// One slot a server. Readers share a lock that is held for a comparison; writers come four times a second.
#[derive(Debug, Default)]
pub struct KnownGtids {
    servers: Vec<RwLock<Slot>>,
}

#[derive(Debug, Default)]
struct Slot {
    polled: Option<Arc<GtidSet>>,
    learned: Option<GtidSet>,
    learned_before: Option<GtidSet>,
}

impl KnownGtids {
    /// Nothing known of that many servers.
    pub fn new(servers: usize) -> KnownGtids {
        KnownGtids { servers: (0..servers).map(|_| RwLock::default()).collect() }
    }

    /// What the server itself said it has.
    pub fn polled(&self, server: ServerId, set: Arc<GtidSet>) {
        if let Some(slot) = self.servers.get(server.index()) {
            let mut slot = slot.write();
            slot.polled = Some(set);
            slot.learned_before = slot.learned.take();
        }
    }

    /// These GTIDs are on that server: it said so in an OK packet, or a wait for them ended there.
    pub fn learn(&self, server: ServerId, set: &GtidSet) {
        if let Some(slot) = self.servers.get(server.index()) {
            let mut slot = slot.write();
            match &mut slot.learned {
                Some(learned) => learned.merge(set),
                empty => *empty = Some(set.clone()),
            }
        }
    }

    /// Nothing is known of that server any more: it died, and may come back with another history.
    pub fn forget(&self, server: ServerId) {
        if let Some(slot) = self.servers.get(server.index()) {
            *slot.write() = Slot::default();
        }
    }

    /// All that is known to be on that server.
    pub fn newest(&self, server: ServerId) -> Option<GtidSet> {
        let slot = self.servers.get(server.index())?.read();
        let mut all = slot.polled.as_deref().cloned();
        for more in slot.learned.iter().chain(&slot.learned_before) {
            match &mut all {
                Some(all) => all.merge(more),
                none => *none = Some(more.clone()),
            }
        }
        all
    }

    /// True when that server is known to have all of `wanted`. A single learned GTID and the last heartbeat are each looked at on their own: their
    /// union covers nothing else a session would ask for.
    pub fn has(&self, server: ServerId, wanted: &GtidSet) -> bool {
        let Some(slot) = self.servers.get(server.index()) else { return false };
        let slot = slot.read();
        slot.polled.as_ref().is_some_and(|set| set.covers(wanted))
            || slot.learned.as_ref().is_some_and(|set| set.covers(wanted))
            || slot.learned_before.as_ref().is_some_and(|set| set.covers(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Flavor;

    fn set(text: &str) -> GtidSet {
        GtidSet::parse(Flavor::MariaDb, text).unwrap()
    }

    #[test]
    fn what_was_learned_outlives_the_heartbeat_that_was_under_way() {
        let known = KnownGtids::new(2);
        let (a, b) = (ServerId(0), ServerId(1));
        assert!(!known.has(a, &set("0-1-1")));
        known.polled(a, Arc::new(set("0-1-10")));
        assert!(known.has(a, &set("0-1-10")) && !known.has(a, &set("0-1-11")) && !known.has(b, &set("0-1-1")));
        known.learn(a, &set("0-1-12"));
        known.learn(a, &set("0-1-11"));
        assert!(known.has(a, &set("0-1-12")));
        known.polled(a, Arc::new(set("0-1-10")));
        assert!(known.has(a, &set("0-1-12")), "the answer was under way");
        known.polled(a, Arc::new(set("0-1-10")));
        assert!(!known.has(a, &set("0-1-12")), "the server does not have it after all");
        known.forget(a);
        assert!(!known.has(a, &set("0-1-1")));
        assert!(!known.has(ServerId(9), &set("")), "no such server");
    }
}
