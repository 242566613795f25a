//! What somebody else's result must have.

use std::time::{Duration, Instant};

use super::{NEED_PARTS_MAX, Need};
use crate::topology::GtidSet;

/// Names of changes that are kept one by one; beyond it all that the master has takes their place, which is one interval.
const KNOWN_PARTS_USUAL: usize = 32;

/// All changes of a table that were heard of, from the start on: what somebody else has read must have them. Unlike the need of a server
/// it never goes back to nothing.
#[derive(Debug, Default)]
pub(super) struct Known {
    changes: Option<GtidSet>,
    /// A change came without its name: nothing of others is good until the master has said what it has.
    owed: bool,
    owed_since: Option<Instant>,
}

impl Known {
    pub(super) fn add(&mut self, need: &Need) {
        match need {
            Need::Nothing => {}
            Need::Master => (self.owed, self.owed_since) = (true, None),
            Need::Gtid(set) => self.merge(set),
        }
    }

    fn merge(&mut self, set: &GtidSet) {
        match &mut self.changes {
            Some(ours) if ours.flavor() == set.flavor() => ours.merge(set),
            Some(_) => (self.owed, self.owed_since) = (true, None),
            ours => *ours = Some(set.clone()),
        }
        if self.changes.as_ref().is_some_and(|set| set.parts() > NEED_PARTS_MAX) {
            *self = Known { owed: true, ..Known::default() };
        }
    }

    pub(super) fn demand(&self) -> Need {
        if self.owed { Need::Master } else { self.changes.clone().map_or(Need::Nothing, Need::Gtid) }
    }

    /// `master`: what it has, if it said so less than `settled` ago.
    pub(super) fn sweep(&mut self, now: Instant, master: Option<&GtidSet>, settled: Duration, idle: bool) {
        let ripe = match self.owed_since {
            _ if !self.owed => false,
            None => {
                self.owed_since = Some(now);
                false
            }
            Some(since) => now.saturating_duration_since(since) > settled && idle,
        };
        let long = self.changes.as_ref().is_some_and(|set| set.parts() > KNOWN_PARTS_USUAL);
        if let Some(master) = master
            && (ripe || long)
        {
            self.merge(master);
            if ripe {
                (self.owed, self.owed_since) = (false, None);
            }
        }
    }
}
