//! How many statements a connection may hold prepared: the setting, and for a while less where the server takes no more (1461).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::ServerPool;

/// Refusals within this time speak of the same state of the server: the statements that the first one closed are not all gone yet.
const LOWERED_EVERY: Duration = Duration::from_secs(1);
/// After so long without a refusal the limit is doubled, until it is the setting again: whoever else had the server's statements may
/// have gone. Twice as long each time that the server refuses one soon after.
const RAISED_EVERY: Duration = Duration::from_secs(60);
/// But no longer.
const RAISED_EVERY_MAX: Duration = Duration::from_secs(3600);

/// The limit of one server's connections.
#[derive(Debug)]
pub(super) struct Room {
    /// As it is now.
    pub(super) max: Arc<AtomicUsize>,
    /// `None`: it is the setting.
    changed: Mutex<Option<Changed>>,
}

/// The last change.
#[derive(Clone, Copy, Debug)]
struct Changed {
    at: Instant,
    raised: bool,
    /// Until it is raised.
    wait: Duration,
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
        let since = |last: &Changed| now.saturating_duration_since(last.at);
        if changed.as_ref().is_some_and(|last| !last.raised && since(last) < LOWERED_EVERY) {
            return None;
        }
        let wait = match &*changed {
            Some(last) if last.raised && since(last) < last.wait => (last.wait * 2).min(RAISED_EVERY_MAX),
            Some(last) => last.wait,
            None => RAISED_EVERY,
        };
        *changed = Some(Changed { at: now, raised: false, wait });
        let before = self.max.load(Ordering::Relaxed);
        let after = (before / 2).max(1);
        self.max.store(after, Ordering::Relaxed);
        Some((before, after))
    }

    /// Time has passed.
    fn raise(&self, setting: usize, now: Instant) {
        let mut changed = self.changed.lock();
        if let Some(last) = &mut *changed
            && now.saturating_duration_since(last.at) >= last.wait
        {
            let before = self.max.load(Ordering::Relaxed);
            if before >= setting {
                *changed = None;
                return;
            }
            self.max.store(before.saturating_mul(2).min(setting), Ordering::Relaxed);
            *last = Changed { at: now, raised: true, wait: last.wait };
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
        // Where the server has no room for more, it is asked less and less often.
        let mut room = Room::new(100);
        for (ms, raised_at) in [(0, 60_000), (61_000, 181_000), (182_000, 422_000), (423_000, 903_000)] {
            room.lower(at(ms));
            for (ms, max) in [(raised_at - 1, 50), (raised_at, 100)] {
                room.raise(100, at(ms));
                assert_eq!(room.max.load(Ordering::Relaxed), max, "{ms}");
            }
        }
        room = Room::new(100);
        room.lower(at(400_000));
        room.set(80);
        room.raise(80, at(500_000));
        assert_eq!(room.max.load(Ordering::Relaxed), 80);
    }
}
