//! What every statement looks at: the servers and the settings as they are now.

use std::cell::RefCell;

use crate::frontend::shared::{FrontendSettings, Shared};
use crate::metrics::newest::{Seen, with_newest};
use crate::topology::snapshot::Snapshot;

thread_local! {
    static SNAPSHOT: Seen<Snapshot> = const { RefCell::new(None) };
    static SETTINGS: Seen<FrontendSettings> = const { RefCell::new(None) };
}

impl Shared {
    /// Runs `f` with the newest servers and settings. Not for who must not miss what another thread did before it looked at something else: see
    /// [`with_newest`].
    pub fn with_newest<R>(&self, f: impl FnOnce(&Snapshot, &FrontendSettings) -> R) -> R {
        with_newest(&SNAPSHOT, &self.snapshot, |snapshot| with_newest(&SETTINGS, &self.settings, |settings| f(snapshot, settings)))
    }

    /// The same with the servers alone.
    pub fn with_newest_snapshot<R>(&self, f: impl FnOnce(&Snapshot) -> R) -> R {
        with_newest(&SNAPSHOT, &self.snapshot, f)
    }
}
