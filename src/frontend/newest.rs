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
        with_newest(&self.snapshot, &self.settings, f)
    }
}

fn with_newest<R>(
    snapshot: &Arc<ArcSwap<Snapshot>>,
    settings: &Arc<ArcSwap<FrontendSettings>>,
    f: impl FnOnce(&Snapshot, &FrontendSettings) -> R,
) -> R {
    SEEN.with(|seen| {
        // It is borrowed where `f` of another call runs.
        let Ok(mut seen) = seen.try_borrow_mut() else { return f(&snapshot.load(), &settings.load()) };
        // A process has one of each; tests have several.
        let ours = |(kept, kept_settings): &(Kept<Snapshot>, Kept<FrontendSettings>)| {
            std::ptr::eq(kept.arc_swap(), &**snapshot) && std::ptr::eq(kept_settings.arc_swap(), &**settings)
        };
        if !seen.as_ref().is_some_and(ours) {
            *seen = None;
        }
        let (kept, kept_settings) = seen.get_or_insert_with(|| (Cache::new(snapshot.clone()), Cache::new(settings.clone())));
        f(kept.load(), kept_settings.load())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::decide::RoutingSettings;

    fn snapshot(epoch: u64) -> Snapshot {
        Snapshot { epoch, servers: Vec::new(), master: None, no_master: None, hold: None, standing: Vec::new() }
    }

    #[test]
    fn it_is_the_newest_of_whichever_is_asked() {
        let settings = |max_clients| FrontendSettings {
            routing: RoutingSettings::default(),
            rules: Default::default(),
            hold_timeout: Default::default(),
            write_wait: Default::default(),
            max_clients,
            slow_statement: None,
            proxy_protocol_from: Vec::new(),
        };
        let made = |n| (Arc::new(ArcSwap::from_pointee(snapshot(n))), Arc::new(ArcSwap::from_pointee(settings(n as usize))));
        let houses = [made(1), made(2)];
        let seen = |n: usize| with_newest(&houses[n].0, &houses[n].1, |snapshot, settings| (snapshot.epoch, settings.max_clients));
        assert_eq!([seen(0), seen(0), seen(1), seen(0)], [(1, 1), (1, 1), (2, 2), (1, 1)]);
        houses[0].0.store(Arc::new(snapshot(7)));
        assert_eq!([seen(0), seen(1)], [(7, 1), (2, 2)]);
        houses[0].1.store(Arc::new(settings(8)));
        assert_eq!(seen(0), (7, 8));
        // Asked while it is asked.
        let nested = with_newest(&houses[0].0, &houses[0].1, |snapshot, _| (snapshot.epoch, seen(1), seen(0)));
        assert_eq!(nested, (7, (2, 2), (7, 8)));
    }
}
