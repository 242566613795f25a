//! What happened, newest last: failover steps, lost heartbeats, reloads, refusals. Logged and kept for `SHOW EVENTS`.

use std::collections::VecDeque;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::clock::Clock;

/// Events kept; older ones are forgotten. At about 200 bytes each, 2 MB.
pub const EVENTS_MAX: usize = 10_000;
/// A detail is cut here: some of its words come from servers and clients.
const DETAIL_BYTES_MAX: usize = 1024;

/// One event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// When.
    pub at: SystemTime,
    /// What kind, in snake case: `heartbeat_lost`, `suspect`, `promoted`, `reload`, `refused`.
    pub kind: &'static str,
    /// The server it concerns.
    pub server: Option<String>,
    /// What exactly, for people.
    pub detail: String,
}

/// The last [`EVENTS_MAX`] events.
#[derive(Debug, Default)]
pub struct EventLog {
    ring: Mutex<VecDeque<Event>>,
}

impl EventLog {
    /// An empty log.
    pub fn new() -> EventLog {
        EventLog::default()
    }

    /// Notes an event now, and logs it with the same fields at level INFO.
    pub fn push(&self, kind: &'static str, server: Option<&str>, detail: impl Into<String>) {
        let mut detail = detail.into();
        if detail.len() > DETAIL_BYTES_MAX {
            let cut = (0..=DETAIL_BYTES_MAX).rev().find(|i| detail.is_char_boundary(*i)).unwrap_or(0);
            detail.truncate(cut);
            detail.push_str(" ...");
        }
        match server {
            Some(server) => tracing::info!(target: "sluice::events", kind, server, "{detail}"),
            None => tracing::info!(target: "sluice::events", kind, "{detail}"),
        }
        let event = Event { at: Clock::wall(), kind, server: server.map(str::to_owned), detail };
        let mut ring = self.ring.lock();
        if ring.len() >= EVENTS_MAX {
            ring.pop_front();
        }
        ring.push_back(event);
    }

    /// All events kept, oldest first.
    pub fn list(&self) -> Vec<Event> {
        self.ring.lock().iter().cloned().collect()
    }

    /// The last `count` events, oldest first.
    pub fn last(&self, count: usize) -> Vec<Event> {
        let ring = self.ring.lock();
        ring.iter().skip(ring.len().saturating_sub(count)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_events_give_way() {
        let log = EventLog::new();
        for i in 0..EVENTS_MAX + 5 {
            log.push("suspect", Some("db1"), format!("number {i}"));
        }
        let all = log.list();
        assert_eq!(all.len(), EVENTS_MAX);
        assert_eq!(all[0].detail, "number 5");
        assert_eq!(log.last(1)[0].detail, format!("number {}", EVENTS_MAX + 4));
        assert_eq!(log.last(1)[0].server.as_deref(), Some("db1"));
        log.push("refused", None, "ä".repeat(5000));
        assert!(log.last(1)[0].detail.len() <= DETAIL_BYTES_MAX + 4);
    }
}
