//! What every statement looks at: the servers and the settings as they are now.
//!
//! Each thread keeps what it saw last, and looks only whether that is still the newest: to hold what others may replace meanwhile costs locked
//! instructions.

use std::cell::RefCell;
use std::sync::Arc;

use arc_swap::ArcSwap;
use arc_swap::cache::Cache;

use crate::frontend::shared::{FrontendSettings, Shared};
use crate::topology::snapshot::Snapshot;

type Kept<T> = Cache<Arc<ArcSwap<T>>, Arc<T>>;

thread_local! {
    static SEEN: RefCell<Option<(Kept<Snapshot>, Kept<FrontendSettings>)>> = const { RefCell::new(None) };
}

impl Shared {
    /// Runs `f` with the newest. What another thread puts in their place at this moment may be seen only the next time: who must not miss what a thread
    /// did before it looked at something else [loads](ArcSwap::load) it.
    pub fn with_newest<R>(&self, f: impl FnOnce(&Snapshot, &FrontendSettings) -> R) -> R {
        SEEN.with(|seen| {
            // It is borrowed where `f` of another call runs.
            let Ok(mut seen) = seen.try_borrow_mut() else { return f(&self.snapshot.load(), &self.settings.load()) };
            let ours = |(snapshot, settings): &(Kept<Snapshot>, Kept<FrontendSettings>)| {
                std::ptr::eq(snapshot.arc_swap(), &*self.snapshot) && std::ptr::eq(settings.arc_swap(), &*self.settings)
            };
            if !seen.as_ref().is_some_and(ours) {
                *seen = None;
            }
            let (snapshot, settings) =
                seen.get_or_insert_with(|| (Cache::new(self.snapshot.clone()), Cache::new(self.settings.clone())));
            f(snapshot.load(), settings.load())
        })
    }
}
