//! What every statement counts. Each thread adds to a copy of its own, and only a scrape adds the copies up: counters that all
//! threads share would wander from core to core with every statement.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use prometheus::proto::{Bucket, Counter, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::registry::{Class, Target};

const CLASSES: usize = Class::ALL.len();
const TARGETS: usize = Target::ALL.len();
/// Copies at most; more threads than that share some.
const COPIES_MAX: usize = 32;
/// Buckets of a histogram at most, the last without an upper bound among them.
const BUCKETS: usize = 21;

/// From 50 microseconds, what a point select costs on loopback, to 30 seconds. Nanoseconds.
const LATENCY: [u64; 20] = [
    50_000,
    100_000,
    200_000,
    400_000,
    800_000,
    1_600_000,
    3_200_000,
    6_400_000,
    12_800_000,
    25_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    400_000_000,
    800_000_000,
    1_600_000_000,
    3_200_000_000,
    6_400_000_000,
    15_000_000_000,
    30_000_000_000,
];
const OVERHEAD: [u64; 12] = [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 500_000, 1_000_000, 10_000_000];

/// Which copy this thread adds to.
pub(super) fn copy_of_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static COPY: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    match COPY.get() {
        usize::MAX => {
            let copy = NEXT.fetch_add(1, Relaxed) % COPIES_MAX;
            COPY.set(copy);
            copy
        }
        copy => copy,
    }
}

/// One of something for each thread, apart in memory.
#[derive(Debug)]
pub struct Copies<T>(Box<[Apart<T>]>);

/// Two cache lines, since processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Apart<T>(pub(super) T);

impl<T: Default> Default for Copies<T> {
    fn default() -> Copies<T> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let copies = (threads + 2).next_power_of_two().min(COPIES_MAX);
        Copies((0..copies).map(|_| Apart::default()).collect())
    }
}

impl<T> Copies<T> {
    /// This thread's.
    pub fn here(&self) -> &T {
        // The number of copies is a power of two, and not 0.
        &self.0[copy_of_thread() & (self.0.len() - 1)].0
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|apart| &apart.0)
    }
}

/// Durations by their length. What the bounds of the buckets are, the caller knows.
#[derive(Debug, Default)]
pub struct Durations {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

impl Durations {
    fn observe(&self, duration: Duration, bounds: &[u64]) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = bounds.iter().position(|bound| ns <= *bound).unwrap_or(bounds.len());
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Relaxed);
        }
        self.sum_ns.fetch_add(ns, Relaxed);
    }
}

/// The sum of some copies as Prometheus wants it. Buckets are read one after the other while others count: each is right, and
/// the count is their sum.
fn histogram<'d>(copies: impl Iterator<Item = &'d Durations>, bounds: &[u64]) -> Histogram {
    let (mut counts, mut sum_ns) = ([0u64; BUCKETS], 0u64);
    for copy in copies {
        for (count, bucket) in counts.iter_mut().zip(&copy.buckets) {
            *count += bucket.load(Relaxed);
        }
        sum_ns = sum_ns.wrapping_add(copy.sum_ns.load(Relaxed));
    }
    let mut cumulative = 0;
    let buckets = bounds.iter().zip(counts).map(|(bound, count)| {
        cumulative += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound as f64 / 1e9);
        bucket.set_cumulative_count(cumulative);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(counts.iter().sum());
    histogram.set_sample_sum(sum_ns as f64 / 1e9);
    histogram
}

/// What the statements of one server count.
#[derive(Debug, Default)]
pub struct Tally(Copies<OfThread>);

#[derive(Debug, Default)]
struct OfThread {
    queries: [[AtomicU64; TARGETS]; CLASSES],
    durations: [Durations; CLASSES],
}

impl Tally {
    /// Counts a statement and its duration.
    pub fn statement(&self, class: Class, target: Target, duration: Duration) {
        let here = self.0.here();
        here.queries[class as usize][target as usize].fetch_add(1, Relaxed);
        here.durations[class as usize].observe(duration, &LATENCY);
    }

    /// Statements of a class that went to a target.
    pub fn queries(&self, class: Class, target: Target) -> u64 {
        self.0.all().map(|copy| copy.queries[class as usize][target as usize].load(Relaxed)).sum()
    }

    /// All statements.
    pub fn total(&self) -> u64 {
        self.0.all().flat_map(|copy| copy.queries.iter().flatten()).map(|count| count.load(Relaxed)).sum()
    }
}

/// The time of statements inside Sluice.
#[derive(Debug, Default)]
pub struct Overhead(Copies<Durations>);

impl Overhead {
    /// Counts one statement's.
    pub fn observe(&self, duration: Duration) {
        self.0.here().observe(duration, &OVERHEAD);
    }
}

fn labels(pairs: &[(&str, &str)]) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    pairs.iter().map(pair).collect()
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

/// `sluice_queries_total`, `sluice_query_duration_seconds` and `sluice_proxy_overhead_seconds`. Classes and targets that never
/// counted are left out: eight classes, six targets and twenty buckets for each server are mostly zeros.
pub fn families<'t>(servers: impl Iterator<Item = (&'t str, &'t Tally)>, overhead: &Overhead) -> [MetricFamily; 3] {
    let (mut queries, mut durations) = (Vec::new(), Vec::new());
    for (server, tally) in servers {
        for class in Class::ALL {
            for target in Target::ALL {
                let count = tally.queries(*class, *target);
                if count > 0 {
                    let mut counter = Counter::default();
                    counter.set_value(count as f64);
                    let names = [("class", class.as_str()), ("server", server), ("target", target.as_str())];
                    let mut metric = Metric::from_label(labels(&names));
                    metric.set_counter(counter);
                    queries.push(metric);
                }
            }
            let histogram = histogram(tally.0.all().map(|copy| &copy.durations[*class as usize]), &LATENCY);
            if histogram.get_sample_count() > 0 {
                let mut metric = Metric::from_label(labels(&[("class", class.as_str()), ("server", server)]));
                metric.set_histogram(histogram);
                durations.push(metric);
            }
        }
    }
    let mut of_sluice = Metric::default();
    of_sluice.set_histogram(histogram(overhead.0.all(), &OVERHEAD));
    [
        family("sluice_queries_total", "Statements, by where they went; server is empty for none.", MetricType::COUNTER, queries),
        family(
            "sluice_query_duration_seconds",
            "From the statement's last byte to the reply's last byte.",
            MetricType::HISTOGRAM,
            durations,
        ),
        family("sluice_proxy_overhead_seconds", "A statement's time inside Sluice.", MetricType::HISTOGRAM, vec![of_sluice]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_count_apart_and_a_scrape_sees_all() {
        let tally = Tally::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for us in [40, 50, 51, 60_000_000] {
                        tally.statement(Class::Read, Target::Replica, Duration::from_micros(us));
                    }
                });
            }
        });
        assert_eq!((tally.queries(Class::Read, Target::Replica), tally.total()), (16, 16));
        let sums = histogram(tally.0.all().map(|copy| &copy.durations[Class::Read as usize]), &LATENCY);
        // A bound belongs to its bucket; what is above all is in the count alone.
        let of = |i: usize| sums.get_bucket()[i].cumulative_count();
        assert_eq!((of(0), of(1), of(19), sums.get_sample_count()), (8, 12, 12, 16));
        assert!((sums.get_sample_sum() - 240.000_564).abs() < 1e-6, "{}", sums.get_sample_sum());
    }
}
