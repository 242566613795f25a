//! How many statements a connection may hold prepared: the setting, and for a while less where the server takes no more (1461).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::ServerPool;

/// Refusals within this time speak of the same state of the server: the statements that the first one closed are not all gone yet.
const LOWERED_EVERY: Duration = Duration::from_secs(1);
/// After so long without a refusal the limit is doubled, until it is the setting again: whoever else had the server's statements may
/// have gone.
const RAISED_EVERY: Duration = Duration::from_secs(60);

/// The limit of one server's connections.
#[derive(Debug)]
pub(super) struct Room {
    /// As it is now.
    pub(super) max: Arc<AtomicUsize>,
    /// When it was lowered or raised last; `None`: it is the setting.
    changed: Mutex<Option<Instant>>,
}

impl Room {
    pub(super) fn new(setting: usize) -> Room {
        Room { max: Arc::new(AtomicUsize::new(setting)), changed: Mutex::new(None) }
    }

    /// A new setting.
    pub(super) fn set(&self, setting: usize) {
        self.max.store(setting, Ordering::Relaxed);
        *self.changed.lock() = None;
    }

    /// The server refused another statement. What the limit was and is, when it was lowered.
    fn lower(&self, now: Instant) -> Option<(usize, usize)> {
        let mut changed = self.changed.lock();
        if changed.is_some_and(|at| now.saturating_duration_since(at) < LOWERED_EVERY) {
            return None;
        }
        *changed = Some(now);
        let before = self.max.load(Ordering::Relaxed);
        let after = (before / 2).max(1);
        self.max.store(after, Ordering::Relaxed);
        Some((before, after))
    }

    /// Time has passed.
    fn raise(&self, setting: usize, now: Instant) {
        let mut changed = self.changed.lock();
        if changed.is_some_and(|at| now.saturating_duration_since(at) >= RAISED_EVERY) {
            let max = self.max.load(Ordering::Relaxed).saturating_mul(2).min(setting);
            self.max.store(max, Ordering::Relaxed);
            *changed = (max < setting).then_some(now);
        }
    }
}

impl ServerPool {
    /// The server holds as many prepared statements as it takes (1461): from now on each connection holds half as many, and idle
    /// ones that hold any are closed.
    pub fn make_room_for_prepared(&self, now: Instant) {
        if let Some((before, after)) = self.room.lower(now) {
            tracing::warn!(
                server = %self.name,
                "the server is at its max_prepared_stmt_count; its connections hold at most {after} statements each from now on, instead of {before}"
            );
        }
        let closed = self.inside.lock().book.retire(|_, connection, _| connection.prepared_count() > 0);
        self.count_closed(closed.len());
    }

    /// Lets connections hold more statements again, when the server has refused none for long enough.
    pub(super) fn give_room_for_prepared(&self, setting: usize, now: Instant) {
        self.room.raise(setting, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_refusals_at_once_halve_the_limit_once_and_it_grows_back() {
        let (room, start) = (Room::new(100), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        for (ms, lowered) in
            [(0, Some((100, 50))), (0, None), (500, None), (1_000, Some((50, 25))), (1_999, None), (2_000, Some((25, 12)))]
        {
            assert_eq!(room.lower(at(ms)), lowered, "{ms}");
        }
        for (ms, max) in
            [(2_000, 12), (61_999, 12), (62_000, 24), (62_000, 24), (122_000, 48), (182_000, 96), (242_000, 100), (302_000, 100)]
        {
            room.raise(100, at(ms));
            assert_eq!(room.max.load(Ordering::Relaxed), max, "{ms}");
        }
        room.lower(at(400_000));
        room.set(80);
        room.raise(80, at(500_000));
        assert_eq!(room.max.load(Ordering::Relaxed), 80);
    }
}
