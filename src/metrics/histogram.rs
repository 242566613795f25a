//! A histogram that many threads add to without a lock, in fixed memory, for quantiles.
//!
//! Log-linear: each power of two is cut into eight equal parts, so a quantile is at most 12.5 % too high and never too low.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Parts of a power of two.
const PARTS: u64 = 8;
const PARTS_BITS: u32 = 3;
/// Values from 2^36 microseconds (19 hours) on share the last bucket.
const BITS_MAX: u32 = 36;
const BUCKETS: usize = ((BITS_MAX - PARTS_BITS + 1) * PARTS as u32) as usize;
/// When a bucket has counted this much, all are halved: quantiles keep their meaning, and a counter cannot run over.
const COUNT_MAX: u32 = 1 << 30;

/// Microseconds, counted. 1.1 KiB.
pub struct AtomicHistogram {
    buckets: [AtomicU32; BUCKETS],
    max: AtomicU64,
}

impl Default for AtomicHistogram {
    fn default() -> AtomicHistogram {
        AtomicHistogram { buckets: [const { AtomicU32::new(0) }; BUCKETS], max: AtomicU64::new(0) }
    }
}

impl std::fmt::Debug for AtomicHistogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AtomicHistogram(p50 {}, p99 {}, max {})", self.p50(), self.p99(), self.max())
    }
}

fn bucket(value: u64) -> usize {
    if value < PARTS {
        return value as usize;
    }
    let bits = 63 - value.leading_zeros();
    if bits >= BITS_MAX {
        return BUCKETS - 1;
    }
    let part = (value >> (bits - PARTS_BITS)) & (PARTS - 1);
    ((bits - PARTS_BITS + 1) as usize) * PARTS as usize + part as usize
}

/// The largest value that falls into a bucket.
fn upper(index: usize) -> u64 {
    let (row, part) = (index as u64 / PARTS, index as u64 % PARTS);
    if row == 0 {
        return part;
    }
    let shift = row - 1;
    ((PARTS + part + 1) << shift) - 1
}

impl AtomicHistogram {
    /// Counts a duration.
    pub fn record(&self, duration: Duration) {
        self.record_us(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// Counts a number of microseconds.
    pub fn record_us(&self, us: u64) {
        // `bucket` is below BUCKETS for every value; `get` only spares the check its panic.
        if let Some(counter) = self.buckets.get(bucket(us))
            && counter.fetch_add(1, Relaxed) >= COUNT_MAX
        {
            for counter in &self.buckets {
                counter.fetch_sub(counter.load(Relaxed) / 2, Relaxed);
            }
        }
        if us > self.max.load(Relaxed) {
            self.max.fetch_max(us, Relaxed);
        }
    }

    /// The value in microseconds that the fraction `q` (0 to 1) of all does not exceed; 0 when nothing was counted.
    pub fn quantile(&self, q: f64) -> u64 {
        let counts: [u64; BUCKETS] = std::array::from_fn(|i| u64::from(self.buckets[i].load(Relaxed)));
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return 0;
        }
        let rank = ((total as f64) * q.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (i, count) in counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                // The last bucket has no upper end of its own.
                return if i + 1 == BUCKETS { self.max() } else { upper(i).min(self.max()) };
            }
        }
        self.max()
    }

    /// The median in microseconds.
    pub fn p50(&self) -> u64 {
        self.quantile(0.50)
    }

    /// The 99th percentile in microseconds.
    pub fn p99(&self) -> u64 {
        self.quantile(0.99)
    }

    /// The largest value in microseconds.
    pub fn max(&self) -> u64 {
        self.max.load(Relaxed)
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.buckets.iter().for_each(|b| b.store(0, Relaxed));
        self.max.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_into_a_bucket_that_holds_it() {
        let mut last = 0;
        for value in (0..5000).chain((13..64).flat_map(|b| [(1u64 << b) - 1, 1 << b, (1 << b) + 1])).chain([u64::MAX]) {
            let index = bucket(value);
            assert!(index < BUCKETS && index >= last, "{value}");
            last = index;
            if value < 1 << BITS_MAX {
                assert!(upper(index) >= value, "{value}");
                assert!(upper(index) as f64 <= value as f64 * 1.125 + 1.0, "{value} {}", upper(index));
            }
        }
    }

    #[test]
    fn quantiles() {
        let h = AtomicHistogram::default();
        assert_eq!((h.p50(), h.p99(), h.max()), (0, 0, 0));
        (1..=1000).for_each(|v| h.record_us(v));
        assert!((500..=563).contains(&h.p50()), "{h:?}");
        assert!((990..=1000).contains(&h.p99()), "{h:?}");
        assert_eq!(h.max(), 1000);
        h.record_us(u64::MAX);
        assert_eq!(h.quantile(1.0), u64::MAX);
        h.clear();
        assert_eq!(h.p99(), 0);
    }

    #[test]
    fn a_full_counter_is_halved() {
        let h = AtomicHistogram::default();
        h.buckets[bucket(10)].store(COUNT_MAX, Relaxed);
        h.buckets[bucket(1_000_000)].store(COUNT_MAX / 50, Relaxed);
        h.record_us(10);
        assert!(h.buckets[bucket(10)].load(Relaxed) <= COUNT_MAX / 2 + 1);
        assert!(h.p99() >= 1_000_000 || h.max() < 1_000_000);
    }
}
