//! Is a result worth keeping before anybody has asked for it twice? Most are. Those of a digest whose results nobody comes back for
//! (a report with another date each time) cost a copy, memory and an eviction each, and gain nothing.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// So many results of a digest are kept before it is judged.
pub const TRIAL: u32 = 1000;
/// Its results are worth keeping at once as long as one in so many was asked for again.
pub const ONE_IN: u32 = 50;
/// Places to remember what was asked once: of the last tens of thousands of reads.
const PLACES: usize = 1 << 16;

/// When a result is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// When it is read.
    AtOnce,
    /// When it is asked for once more: those of its digest were seldom asked for again so far.
    AskedAgain,
}

/// Judges a digest by how many of its results were kept, and how often one was asked for again.
pub fn keeps(kept: u32, again: u32) -> Keeps {
    if kept >= TRIAL && again < kept / ONE_IN { Keeps::AskedAgain } else { Keeps::AtOnce }
}

/// What was asked for once, as far as it is remembered: another read may have taken its place, and two in 2^32 look alike. Either costs
/// one read or one entry more, never a wrong answer.
#[derive(Debug)]
pub struct AskedOnce(Box<[AtomicU32]>);

impl Default for AskedOnce {
    fn default() -> AskedOnce {
        AskedOnce((0..PLACES).map(|_| AtomicU32::new(0)).collect())
    }
}

impl AskedOnce {
    /// Whether the key with this hash was asked for before; from now on it was.
    pub fn before(&self, hash: u64) -> bool {
        let (place, mark) = (hash as usize % PLACES, (hash >> 32) as u32 | 1);
        let Some(place) = self.0.get(place) else { return false };
        let before = place.load(Relaxed) == mark;
        if !before {
            // Of two who come at once neither may see the other: that is one read more, and spares all others a locked instruction.
            place.store(mark, Relaxed);
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::classify::Tally;

    #[test]
    fn a_digest_is_judged_after_a_trial_and_by_one_in_fifty() {
        for (kept, again, keeps_) in [
            (0, 0, Keeps::AtOnce),
            (999, 0, Keeps::AtOnce),
            (1000, 0, Keeps::AskedAgain),
            (1000, 19, Keeps::AskedAgain),
            (1000, 20, Keeps::AtOnce),
            (50_000, 999, Keeps::AskedAgain),
            (50_000, 5_000_000, Keeps::AtOnce),
        ] {
            assert_eq!(keeps(kept, again), keeps_, "{kept} {again}");
        }
    }

    #[test]
    fn what_comes_to_be_asked_again_is_kept_at_once_again() {
        let (tally, asked) = (Tally::default(), AskedOnce::default());
        // As `frontend::cached` does: what is asked for again counts, kept or not.
        let ask = |hash: u64, kept: &mut std::collections::HashSet<u64>| {
            if kept.contains(&hash) {
                tally.again();
                return;
            }
            let (stored, again) = tally.get();
            if keeps(stored, again) == Keeps::AskedAgain {
                if !asked.before(hash) {
                    return;
                }
                tally.again();
            }
            tally.kept();
            kept.insert(hash);
        };
        let mut kept = std::collections::HashSet::new();
        let hash = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for n in 0..100_000 {
            ask(hash(n), &mut kept);
        }
        assert_eq!(kept.len(), TRIAL as usize, "of what is never asked again no more is kept");
        // Now each is asked three times.
        for n in 200_000..200_100 {
            for _ in 0..3 {
                ask(hash(n), &mut kept);
            }
        }
        assert_eq!(kept.len(), TRIAL as usize + 100);
        let (stored, again) = tally.get();
        assert_eq!(keeps(stored, again), Keeps::AtOnce, "{stored} {again}");
    }

    #[test]
    fn asked_once_is_bounded_and_never_blind_to_the_last_one() {
        let asked = AskedOnce::default();
        assert!(!asked.before(7 << 32 | 5) && asked.before(7 << 32 | 5));
        assert!(!asked.before(8 << 32 | 5), "another one in the same place");
        assert!(!asked.before(7 << 32 | 5), "it has lost its place");
        assert!(!asked.before(0) && asked.before(0));
    }
}
