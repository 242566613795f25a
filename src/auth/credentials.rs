//! What Sluice has learned of passwords, while it runs: in memory only, wiped when dropped, bounded, and forgotten when a
//! server refuses it.
//!
//! The lock inside is held for a look-up only; time is an argument.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Credential;

/// How many users are remembered. At the limit the one whose confirmation is oldest is forgotten, and asked of a server
/// again at its next login.
pub const USERS_MAX: usize = 10_000;

/// A credential that a server has accepted (or that the configuration file gives), as of some moment.
#[derive(Clone, Debug)]
pub struct Known {
    /// What logs in.
    pub credential: Arc<Credential>,
    /// Which learning it comes from, for [`Credentials::forget`]. 0 when it stands in the configuration file.
    pub generation: u64,
    /// When a server accepted it last. `None` when it stands in the configuration file.
    pub confirmed: Option<Instant>,
    /// An account was changed since, perhaps this one: no login may rely on it before a server has accepted it again.
    pub doubted: bool,
}

impl Known {
    /// A credential from the configuration file.
    pub fn configured(credential: Arc<Credential>) -> Known {
        Known { credential, generation: 0, confirmed: None, doubted: false }
    }

    /// Whether a server should be asked again before it is relied upon.
    pub fn is_due(&self, now: Instant, confirm_after: Duration) -> bool {
        self.doubted || self.confirmed.is_some_and(|at| now.saturating_duration_since(at) >= confirm_after)
    }
}

#[derive(Debug, Default)]
struct Inner {
    users: HashMap<String, Known>,
    last_generation: u64,
}

/// The store. One per process; shared by logins and pools.
#[derive(Debug, Default)]
pub struct Credentials(Mutex<Inner>);

impl Credentials {
    /// An empty store.
    pub fn new() -> Credentials {
        Credentials::default()
    }

    /// What is known of a user.
    pub fn get(&self, user: &str) -> Option<Known> {
        self.0.lock().users.get(user).cloned()
    }

    /// A server has accepted this credential just now. The same one as before keeps its generation.
    pub fn learn(&self, user: &str, credential: Credential, now: Instant) -> Known {
        let mut inner = self.0.lock();
        if let Some(known) = inner.users.get_mut(user)
            && *known.credential == credential
        {
            known.confirmed = Some(now);
            known.doubted = false;
            return known.clone();
        }
        if inner.users.len() >= USERS_MAX && !inner.users.contains_key(user) {
            let oldest = inner.users.iter().min_by_key(|(_, known)| known.confirmed).map(|(user, _)| user.clone());
            if let Some(oldest) = oldest {
                inner.users.remove(&oldest);
            }
        }
        inner.last_generation += 1;
        let known =
            Known { credential: Arc::new(credential), generation: inner.last_generation, confirmed: Some(now), doubted: false };
        inner.users.insert(user.to_owned(), known.clone());
        known
    }

    /// A server has accepted the credential of that generation again, for instance for a pooled connection.
    pub fn confirm(&self, user: &str, generation: u64, now: Instant) {
        if let Some(known) = self.0.lock().users.get_mut(user)
            && known.generation == generation
        {
            known.confirmed = known.confirmed.max(Some(now));
            known.doubted = false;
        }
    }

    /// Somebody has changed accounts: of each user a server is asked again at the next login.
    pub fn doubt_all(&self) {
        for known in self.0.lock().users.values_mut() {
            known.doubted = true;
        }
    }

    /// A server has refused the credential of that generation. One learned since is kept. Says whether anything was
    /// forgotten.
    pub fn forget(&self, user: &str, generation: u64) -> bool {
        let mut inner = self.0.lock();
        let stale = inner.users.get(user).is_some_and(|known| known.generation == generation);
        stale && inner.users.remove(user).is_some()
    }

    /// How many users are remembered.
    pub fn len(&self) -> usize {
        self.0.lock().users.len()
    }

    /// Whether nobody is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Secret;

    fn password(text: &str) -> Credential {
        Credential::Password(Secret::from(text))
    }

    #[test]
    fn a_late_refusal_of_the_old_password_leaves_the_new_one() {
        let (store, start) = (Credentials::new(), Instant::now());
        let old = store.learn("app", password("old"), start);
        let new = store.learn("app", password("new"), start);
        assert!(!store.forget("app", old.generation));
        assert_eq!(*store.get("app").expect("kept").credential, password("new"));
        assert!(store.forget("app", new.generation));
        assert!(store.get("app").is_none() && store.is_empty());
        assert!(!store.forget("app", 0), "what the file gives is not ours to forget");
    }

    #[test]
    fn confirmation_ages() {
        let (store, start, after) = (Credentials::new(), Instant::now(), Duration::from_secs(10));
        let known = store.learn("app", password("x"), start);
        let later = start + after;
        assert!(!known.is_due(start, after) && known.is_due(later, after));
        store.confirm("app", known.generation, later);
        assert!(!store.get("app").expect("known").is_due(later, after));
        store.doubt_all();
        assert!(store.get("app").expect("known").is_due(later, after), "a password may have been changed");
        let again = store.learn("app", password("x"), later + after);
        assert!(!again.is_due(later + after, after));
        assert_eq!(again.generation, known.generation, "the same password is the same learning");
        assert!(!Known::configured(Arc::new(Credential::None)).is_due(later, after));
    }

    #[test]
    fn at_the_limit_the_oldest_goes() {
        let (store, start) = (Credentials::new(), Instant::now());
        for i in 0..=USERS_MAX {
            store.learn(&format!("u{i}"), Credential::None, start + Duration::from_millis(i as u64));
        }
        assert_eq!(store.len(), USERS_MAX);
        assert!(store.get("u0").is_none() && store.get("u1").is_some());
    }
}
