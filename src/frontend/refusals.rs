//! Refused logins as events: the first of a user and host at once, the next only after a while.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The next event of the same user and host.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Pairs remembered; names come from strangers.
const PAIRS_MAX: usize = 1024;

/// See the file.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<(String, String), Instant>>);

impl Refusals {
    /// Whether this refusal is worth an event. While more users and hosts than are remembered try within a minute, none is.
    pub fn is_news(&self, user: &str, host: &str, now: Instant) -> bool {
        let mut seen = self.0.lock();
        let pair = (user.to_owned(), host.to_owned());
        if let Some(at) = seen.get_mut(&pair) {
            let news = now.saturating_duration_since(*at) >= AGAIN_AFTER;
            if news {
                *at = now;
            }
            return news;
        }
        if seen.len() >= PAIRS_MAX {
            seen.retain(|_, at| now.saturating_duration_since(*at) < AGAIN_AFTER);
        }
        let room = seen.len() < PAIRS_MAX;
        if room {
            seen.insert(pair, now);
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_a_minute_for_each_and_none_in_a_flood() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let at = |s: u64| start + Duration::from_secs(s);
        assert!(refusals.is_news("app", "10.0.0.1", at(0)));
        assert!(!refusals.is_news("app", "10.0.0.1", at(59)));
        assert!(refusals.is_news("app", "10.0.0.2", at(59)));
        assert!(refusals.is_news("app", "10.0.0.1", at(60)));
        for n in 0..PAIRS_MAX * 2 {
            refusals.is_news(&n.to_string(), "10.0.0.3", at(61));
        }
        assert!(!refusals.is_news("another", "10.0.0.3", at(62)));
        assert!(refusals.0.lock().len() <= PAIRS_MAX);
        assert!(refusals.is_news("another", "10.0.0.3", at(130)));
    }
}
