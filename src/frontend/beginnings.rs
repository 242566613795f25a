//! What the sessions of each user begin with: asked of a server by one login for all that come meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::frontend::flight::{Flight, Landing};
use crate::session::state::Change;

/// Users whose beginnings are remembered; at the limit all are forgotten, and asked for again.
const BEGINNINGS_MAX: usize = 10_000;
/// So long after nobody could be asked in time one login asks again, and the others do not wait for it.
pub const UNTOLD_FOR: Duration = Duration::from_secs(5);

/// Whose sessions begin alike: a user, the collation of the login, and whether the login itself puts `IGNORE_SPACE` into the `sql_mode`.
pub type Beginner = (Arc<str>, u16, bool);

/// What the sessions begin with.
pub type Begins = Arc<[Change]>;

#[derive(Debug)]
enum Known {
    Told(Begins),
    /// A login asks for the first time, and the others wait for it.
    Asked(Arc<Flight>),
    /// There was no connection to ask on. Until then nobody tries.
    Untold(Instant),
}

/// What a login finds.
#[derive(Debug)]
pub enum Found<'a> {
    /// Its session begins so.
    Told(Begins),
    /// A moment ago nobody could be asked: it begins as with servers that are configured as most are.
    Untold,
    /// Another login asks.
    Waits(Arc<Flight>),
    /// It is the one that asks.
    Asks(Asker<'a>),
}

/// Who asks. When it is dropped without an answer, as when its client has gone, the next one asks.
#[derive(Debug)]
pub struct Asker<'a> {
    all: &'a Beginnings,
    who: Beginner,
    landing: Option<Landing>,
}

/// See the file.
#[derive(Debug, Default)]
pub struct Beginnings(Mutex<HashMap<Beginner, Known>>);

impl Beginnings {
    /// What the last connection of this user that was looked at began with.
    pub fn known(&self, who: &Beginner) -> Option<Begins> {
        match self.0.lock().get(who) {
            Some(Known::Told(begins)) => Some(begins.clone()),
            _ => None,
        }
    }

    /// Notes what a connection of this user began with.
    pub fn note(&self, who: Beginner, begins: Begins) {
        put(&mut self.0.lock(), who, Known::Told(begins));
    }

    /// For a login of somebody whose beginning it was not told. `wait`: how long whoever asks will try.
    pub fn find(&self, who: Beginner, now: Instant, wait: Duration) -> Found<'_> {
        let mut all = self.0.lock();
        let landing = match all.get(&who) {
            Some(Known::Told(begins)) => return Found::Told(begins.clone()),
            Some(Known::Asked(flight)) => return Found::Waits(flight.clone()),
            Some(Known::Untold(until)) if now < *until => return Found::Untold,
            Some(Known::Untold(_)) => {
                all.insert(who.clone(), Known::Untold(now + wait));
                None
            }
            None => {
                let (landing, flight) = Landing::new();
                put(&mut all, who.clone(), Known::Asked(flight));
                Some(landing)
            }
        };
        Found::Asks(Asker { all: self, who, landing })
    }
}

fn put(all: &mut HashMap<Beginner, Known>, who: Beginner, known: Known) {
    if all.len() >= BEGINNINGS_MAX && !all.contains_key(&who) {
        all.clear();
    }
    all.insert(who, known);
}

impl Asker<'_> {
    /// A connection has told it.
    pub fn told(self, begins: Begins) {
        self.all.note(self.who.clone(), begins);
    }

    /// There was no connection in time.
    pub fn nobody(self, now: Instant) {
        put(&mut self.all.0.lock(), self.who.clone(), Known::Untold(now + UNTOLD_FOR));
    }
}

impl Drop for Asker<'_> {
    fn drop(&mut self) {
        let Some(landing) = &self.landing else { return };
        let mut all = self.all.0.lock();
        if matches!(all.get(&self.who), Some(Known::Asked(flight)) if landing.is_of(flight)) {
            all.remove(&self.who);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::state::Value;

    const WAIT: Duration = Duration::from_secs(1);

    fn who(user: &str) -> Beginner {
        (user.into(), 45, false)
    }

    fn off() -> Begins {
        [Change::System("autocommit".into(), Some(Value::Reported(b"OFF"[..].into())))].into()
    }

    fn asker<'a>(all: &'a Beginnings, now: Instant) -> Asker<'a> {
        match all.find(who("app"), now, WAIT) {
            Found::Asks(asker) => asker,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn one_asks_and_all_are_told() {
        let (all, now) = (Beginnings::default(), Instant::now());
        let first = asker(&all, now);
        let Found::Waits(flight) = all.find(who("app"), now, WAIT) else { panic!("the second waits") };
        assert!(matches!(all.find(who("bob"), now, WAIT), Found::Asks(_)), "another user");
        assert!(all.known(&who("app")).is_none());
        first.told(off());
        flight.wait().await;
        assert!(matches!(all.find(who("app"), now, WAIT), Found::Told(begins) if begins == off()));
        assert_eq!(all.known(&who("app")), Some(off()));
    }

    #[tokio::test]
    async fn when_nobody_can_be_asked_all_go_on_and_one_asks_again_later() {
        let (all, now) = (Beginnings::default(), Instant::now());
        let first = asker(&all, now);
        let Found::Waits(flight) = all.find(who("app"), now, WAIT) else { panic!("the second waits") };
        let failed = now + WAIT;
        first.nobody(failed);
        flight.wait().await;
        for after in [Duration::ZERO, UNTOLD_FOR - Duration::from_millis(1)] {
            assert!(matches!(all.find(who("app"), failed + after, WAIT), Found::Untold), "{after:?}");
        }
        // One tries again, and nobody waits for it.
        let again = failed + UNTOLD_FOR;
        let second = asker(&all, again);
        assert!(matches!(all.find(who("app"), again, WAIT), Found::Untold));
        second.nobody(again + WAIT);
        assert!(matches!(all.find(who("app"), again + 2 * WAIT, WAIT), Found::Untold));
        let third = asker(&all, again + WAIT + UNTOLD_FOR);
        // A connection of somebody else may tell it meanwhile.
        all.note(who("app"), off());
        drop(third);
        assert_eq!(all.known(&who("app")), Some(off()));
    }

    #[tokio::test]
    async fn whoever_leaves_while_he_asks_leaves_it_to_the_next() {
        let (all, now) = (Beginnings::default(), Instant::now());
        let first = asker(&all, now);
        let Found::Waits(flight) = all.find(who("app"), now, WAIT) else { panic!("the second waits") };
        drop(first);
        flight.wait().await;
        drop(asker(&all, now));
        // An older one that goes does not take away what a newer one has begun.
        let old = asker(&all, now);
        all.0.lock().clear();
        let new = asker(&all, now);
        drop(old);
        assert!(matches!(all.find(who("app"), now, WAIT), Found::Waits(_)));
        drop(new);
    }

    #[test]
    fn it_is_bounded() {
        let all = Beginnings::default();
        for n in 0..3 * BEGINNINGS_MAX {
            all.note(who(&n.to_string()), off());
        }
        assert!(all.0.lock().len() <= BEGINNINGS_MAX);
    }
}
