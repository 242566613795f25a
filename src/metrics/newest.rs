//! What all threads look at with every statement, and seldom anybody replaces: each thread keeps what it saw last, and looks only whether that is still the
//! newest. To hold what others may replace meanwhile costs locked instructions.

use std::cell::RefCell;
use std::sync::Arc;
use std::thread::LocalKey;

use arc_swap::ArcSwap;
use arc_swap::cache::Cache;

/// What a thread saw last, for a thread-local variable.
pub type Seen<T> = RefCell<Option<Cache<Arc<ArcSwap<T>>, Arc<T>>>>;

/// Runs `f` with the newest. What another thread puts in its place at this moment may be seen only the next time: who must not miss what a thread did before it
/// looked at something else [loads](ArcSwap::load) it.
pub fn with_newest<T, R>(seen: &'static LocalKey<Seen<T>>, newest: &Arc<ArcSwap<T>>, f: impl FnOnce(&T) -> R) -> R {
    seen.with(|seen| {
        // It is borrowed where `f` of another call runs.
        let Ok(mut seen) = seen.try_borrow_mut() else { return f(&newest.load()) };
        // A process has one of each; tests have several.
        if !seen.as_ref().is_some_and(|seen| std::ptr::eq(seen.arc_swap(), &**newest)) {
            *seen = None;
        }
        f(seen.get_or_insert_with(|| Cache::new(newest.clone())).load())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        static SEEN: Seen<u32> = const { RefCell::new(None) };
    }

    #[test]
    fn it_is_the_newest_of_whichever_is_asked() {
        let houses = [1, 2].map(|n| Arc::new(ArcSwap::from_pointee(n)));
        let seen = |n: usize| with_newest(&SEEN, &houses[n], |value| *value);
        assert_eq!([seen(0), seen(0), seen(1), seen(0)], [1, 1, 2, 1]);
        houses[0].store(Arc::new(7));
        assert_eq!([seen(0), seen(1), seen(0)], [7, 2, 7]);
        // Asked while it is asked, and replaced meanwhile.
        let nested = with_newest(&SEEN, &houses[0], |value| {
            let before = (*value, seen(1), seen(0));
            houses[0].store(Arc::new(8));
            (before, *value, seen(0))
        });
        assert_eq!(nested, ((7, 2, 7), 7, 8));
        assert_eq!(seen(0), 8);
    }
}
