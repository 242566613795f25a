//! When connections are closed: idle ones in time, all of them when what they have is outdated, and at once when their server was given up.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::ServerPool;

impl ServerPool {
    /// The server was given up (it is silent, or gone): whoever waits for it on any connection sees the end now, instead of
    /// when the kernel does.
    pub fn sever(&self) {
        for (_, severer) in self.severers.lock().drain(..) {
            if let Some(severer) = severer.upgrade() {
                severer.sever();
            }
        }
    }

    /// Closes idle connections that are too old, were idle too long, or were closed by the server.
    pub fn retire(&self, now: Instant) {
        let settings = self.settings.lock().clone();
        self.give_room_for_prepared(settings.max_prepared, now);
        let retired = self.inside.lock().book.retire(|_, connection, since| {
            now.duration_since(since) > settings.idle_timeout
                || now > connection.expires
                || connection.is_overdue()
                || connection.is_stale(since, now)
        });
        self.count_closed(retired.len());
    }

    /// Whoever asks from now on gets a connection that is opened from now on. What is in use is closed when it comes back.
    pub fn outdate(&self) {
        self.outdated.fetch_add(1, Ordering::AcqRel);
        self.close_idle(None);
    }

    /// Closes every idle connection (of one account, or of all), as when the server left the rotation or the password was refused.
    pub fn close_idle(&self, user: Option<&str>) {
        let closed = self.inside.lock().book.retire(|key, _, _| user.is_none_or(|user| *key.user == *user));
        self.count_closed(closed.len());
    }
}
