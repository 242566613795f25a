//! States that are in use, each once: sessions with the same settings share one, so that a connection that served one of them
//! is recognised by pointer, and thousands of clients need the memory of a few.
//!
//! A state lives as long as a session or a connection has it: what is kept here is a weak reference.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::State;

/// With fewer states than this it is not looked for those that nobody has any more.
const SWEPT_FROM: usize = 1_000;

/// See the file.
#[derive(Debug, Default)]
pub struct Interner {
    states: HashMap<u64, Vec<Weak<State>>, foldhash::fast::FixedState>,
    count: usize,
    /// How many were in use when it was last looked.
    used: usize,
}

impl Interner {
    /// The shared one of this state. One that is [too large](State::too_large) is its session's alone.
    pub fn share(&mut self, state: Arc<State>) -> Arc<State> {
        if state.too_large() {
            return state;
        }
        let all = self.states.entry(state.hash()).or_default();
        let same = all.iter().filter_map(Weak::upgrade).find(|known| Arc::ptr_eq(known, &state) || **known == *state);
        if let Some(same) = same {
            return same;
        }
        all.push(Arc::downgrade(&state));
        self.count += 1;
        // Twice what was in use the last time: a state costs the same on average, however many there are.
        if self.count >= SWEPT_FROM.max(2 * self.used) {
            self.sweep();
        }
        state
    }

    fn sweep(&mut self) {
        self.states.retain(|_, all| {
            all.retain(|state| state.strong_count() > 0);
            !all.is_empty()
        });
        self.used = self.states.values().map(Vec::len).sum();
        self.count = self.used;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::state::{Change, Value};

    fn state(n: usize) -> Arc<State> {
        let value = Value::Literal(n.to_string().into_bytes().into());
        Arc::new(State::at_login(None, None).changed(&[Change::User("c".into(), value)]))
    }

    #[test]
    fn what_nobody_has_takes_no_room() {
        let mut interner = Interner::default();
        let kept: Vec<_> = (0..3 * SWEPT_FROM).map(|n| interner.share(state(n))).collect();
        for n in 0..20 * SWEPT_FROM {
            interner.share(state(1_000_000 + n));
        }
        assert!(interner.count <= 2 * kept.len(), "{}", interner.count);
        assert!(kept.iter().enumerate().all(|(n, kept)| Arc::ptr_eq(kept, &interner.share(state(n)))));
        drop(kept);
        for n in 0..10 * SWEPT_FROM {
            interner.share(state(n));
        }
        assert!(interner.count <= SWEPT_FROM, "{}", interner.count);
    }

    #[test]
    fn a_state_that_is_too_large_grows_no_further_and_is_not_shared() {
        let mut one = State::at_login(None, None);
        for n in 0..2_000 {
            let name = format!("v{n}");
            one = one.changed(&[Change::User(name.as_str().into(), Value::Literal([b'1'; 1000][..].into()))]);
        }
        assert!(one.too_large() && one.heap_bytes() < 256 * 1024, "{}", one.heap_bytes());
        let mut interner = Interner::default();
        let one = Arc::new(one);
        assert!(Arc::ptr_eq(&interner.share(one.clone()), &one));
        assert_eq!(interner.count, 0);
    }
}
