//! Statistics of statements by digest, bounded: what `SHOW STATEMENTS` shows.
//!
//! Whoever runs a statement often keeps its `Arc<StatementStats>` and records into it: a handful of atomic additions. The
//! look-up compares the key in full, because two digests may share a hash.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quick_cache::{Equivalent, sync::Cache};

use super::histogram::AtomicHistogram;
use super::registry::{Class, Target};
use super::tally::{Apart, copy_of_thread};
use crate::clock::Clock;

/// Different statements kept; digests come from clients, so their number has no bound of its own. About 2 KiB each.
pub const STATEMENTS_MAX: usize = 10_000;
/// A digest's text is kept up to here.
const TEXT_BYTES_MAX: usize = 4096;

/// What distinguishes two lines of `SHOW STATEMENTS`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatementKey {
    /// The digest's hash.
    pub digest: u64,
    /// The digest: the statement with its literals taken out; the first 4096 bytes.
    pub text: Arc<str>,
    /// The session's schema; empty for none.
    pub schema: Arc<str>,
    /// The client's user name.
    pub user: Arc<str>,
    /// Its class.
    pub class: Class,
    /// Where it went.
    pub target: Target,
    /// Which server, when `target` is [`Target::Server`]; empty otherwise.
    pub server: Arc<str>,
}

/// A [`StatementKey`] made of borrowed parts, for looking up without an allocation.
#[derive(Clone, Copy, Debug)]
pub struct StatementRef<'k> {
    /// As in [`StatementKey`].
    pub digest: u64,
    /// As in [`StatementKey`], in any length.
    pub text: &'k str,
    /// As in [`StatementKey`].
    pub schema: &'k str,
    /// As in [`StatementKey`].
    pub user: &'k str,
    /// As in [`StatementKey`].
    pub class: Class,
    /// As in [`StatementKey`].
    pub target: Target,
    /// As in [`StatementKey`].
    pub server: &'k str,
}

/// The part of a digest's text that is kept.
fn kept(text: &str) -> &str {
    if text.len() <= TEXT_BYTES_MAX {
        return text;
    }
    let cut = (0..=TEXT_BYTES_MAX).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    &text[..cut]
}

impl Hash for StatementRef<'_> {
    fn hash<H: Hasher>(&self, h: &mut H) {
        // The digest is a hash of the text already.
        h.write_u64(self.digest);
        h.write(self.schema.as_bytes());
        h.write(self.user.as_bytes());
        h.write(self.server.as_bytes());
        h.write_u16(((self.class as u16) << 8) | self.target as u16);
    }
}

impl Hash for StatementKey {
    fn hash<H: Hasher>(&self, h: &mut H) {
        self.borrowed().hash(h);
    }
}

impl Equivalent<StatementKey> for StatementRef<'_> {
    fn equivalent(&self, key: &StatementKey) -> bool {
        self.digest == key.digest
            && self.class == key.class
            && self.target == key.target
            && *self.schema == *key.schema
            && *self.user == *key.user
            && *self.server == *key.server
            && *kept(self.text) == *key.text
    }
}

impl StatementKey {
    fn borrowed(&self) -> StatementRef<'_> {
        StatementRef {
            digest: self.digest,
            text: &self.text,
            schema: &self.schema,
            user: &self.user,
            class: self.class,
            target: self.target,
            server: &self.server,
        }
    }
}

/// The statistics of one statement.
#[derive(Debug)]
pub struct StatementStats {
    /// Whose they are.
    pub key: StatementKey,
    counters: [Apart<Counters>; COPIES],
    /// On the monotonic clock, as [`Counters::last_seen_us`]: when the first execution ended.
    first_seen_us: AtomicU64,
    cached: AtomicBool,
    cacheable: AtomicBool,
    durations: AtomicHistogram,
}

/// Threads count in as many places, so that they seldom meet.
const COPIES: usize = 4;

#[derive(Debug)]
struct Counters {
    count: AtomicU64,
    errors: AtomicU64,
    rows: AtomicU64,
    sum_us: AtomicU64,
    min_us: AtomicU64,
    /// On the monotonic clock, see [`monotonic_us`].
    last_seen_us: AtomicU64,
}

impl Default for Counters {
    fn default() -> Counters {
        let zero = AtomicU64::default;
        Counters {
            count: zero(),
            errors: zero(),
            rows: zero(),
            sum_us: zero(),
            min_us: AtomicU64::new(u64::MAX),
            last_seen_us: zero(),
        }
    }
}

/// Microseconds from the first call in this process; earlier instants count as 0. A statement ends with the clock read already,
/// and the wall clock need not be read on top.
fn monotonic_us(at: Instant) -> u64 {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    let begin = *BEGIN.get_or_init(|| at);
    u64::try_from(at.saturating_duration_since(begin).as_micros()).unwrap_or(u64::MAX)
}

impl StatementStats {
    fn new(key: StatementKey) -> StatementStats {
        StatementStats {
            key,
            counters: std::array::from_fn(|_| Apart::default()),
            first_seen_us: AtomicU64::new(u64::MAX),
            cached: AtomicBool::new(false),
            cacheable: AtomicBool::new(false),
            durations: AtomicHistogram::default(),
        }
    }

    /// Counts one execution: when it ended, its duration, the rows sent, whether it ended in an error.
    pub fn record(&self, ended: Instant, duration: Duration, rows: u64, error: bool) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let here = &self.counters[copy_of_thread() % COPIES].0;
        here.count.fetch_add(1, Relaxed);
        here.sum_us.fetch_add(us, Relaxed);
        if us < here.min_us.load(Relaxed) {
            here.min_us.fetch_min(us, Relaxed);
        }
        if rows > 0 {
            here.rows.fetch_add(rows, Relaxed);
        }
        if error {
            here.errors.fetch_add(1, Relaxed);
        }
        let seen_us = monotonic_us(ended);
        here.last_seen_us.store(seen_us, Relaxed);
        if seen_us < self.first_seen_us.load(Relaxed) {
            self.first_seen_us.fetch_min(seen_us, Relaxed);
        }
        self.durations.record_us(us);
    }

    /// Notes that its result is (or is no more) served from the cache.
    pub fn set_cached(&self, cached: bool) {
        self.cached.store(cached, Relaxed);
    }

    /// Notes that its result could be kept.
    pub fn set_cacheable(&self) {
        self.cacheable.store(true, Relaxed);
    }

    /// All numbers, each as it is now; they are not of one instant.
    pub fn snapshot(&self) -> StatementSnapshot {
        let sum = |of: fn(&Counters) -> &AtomicU64| self.counters.iter().map(|c| of(&c.0).load(Relaxed)).sum::<u64>();
        let (count, sum_us) = (sum(|c| &c.count), sum(|c| &c.sum_us));
        let min_us = self.counters.iter().map(|c| c.0.min_us.load(Relaxed)).min().unwrap_or(u64::MAX);
        let last_seen_us = self.counters.iter().map(|c| c.0.last_seen_us.load(Relaxed)).max().unwrap_or(0);
        let (now_us, wall_us) = (monotonic_us(Clock::now()), Clock::wall_us());
        let wall = |at_us: u64| UNIX_EPOCH + Duration::from_micros(wall_us.saturating_sub(now_us.saturating_sub(at_us)));
        StatementSnapshot {
            key: self.key.clone(),
            count,
            errors: sum(|c| &c.errors),
            rows: sum(|c| &c.rows),
            sum_us,
            min_us: if min_us == u64::MAX { 0 } else { min_us },
            avg_us: sum_us.checked_div(count).unwrap_or(0),
            p99_us: self.durations.p99(),
            max_us: self.durations.max(),
            first_seen: wall(self.first_seen_us.load(Relaxed).min(last_seen_us)),
            last_seen: wall(last_seen_us),
            cached: self.cached.load(Relaxed),
            cacheable: self.cacheable.load(Relaxed),
        }
    }
}

/// One line of `SHOW STATEMENTS`; durations in microseconds.
#[derive(Clone, PartialEq, Debug)]
pub struct StatementSnapshot {
    /// Whose numbers.
    pub key: StatementKey,
    /// Executions.
    pub count: u64,
    /// Of them, those that ended in an error.
    pub errors: u64,
    /// Rows sent.
    pub rows: u64,
    /// Sum of all durations.
    pub sum_us: u64,
    /// Shortest.
    pub min_us: u64,
    /// `sum_us / count`.
    pub avg_us: u64,
    /// 99th percentile, at most 12.5 % too high.
    pub p99_us: u64,
    /// Longest.
    pub max_us: u64,
    /// First execution.
    pub first_seen: SystemTime,
    /// Last execution.
    pub last_seen: SystemTime,
    /// Whether its result is served from the cache.
    pub cached: bool,
    /// Whether it could be.
    pub cacheable: bool,
}

impl StatementSnapshot {
    /// The word in the column `target`: `server:NAME` names the server.
    pub fn target(&self) -> String {
        match self.key.target {
            Target::Server => format!("server:{}", self.key.server),
            other => other.as_str().to_owned(),
        }
    }
}

/// All statements seen lately, at most [`STATEMENTS_MAX`]; those rarely used give way.
pub struct Statements {
    map: Cache<StatementKey, Arc<StatementStats>, quick_cache::UnitWeighter, foldhash::fast::RandomState>,
}

impl std::fmt::Debug for Statements {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Statements({})", self.map.len())
    }
}

impl Default for Statements {
    fn default() -> Statements {
        Statements::new(STATEMENTS_MAX)
    }
}

impl Statements {
    /// Room for `most` statements.
    pub fn new(most: usize) -> Statements {
        Statements {
            map: Cache::with(
                most,
                most as u64,
                quick_cache::UnitWeighter,
                foldhash::fast::RandomState::default(),
                quick_cache::sync::DefaultLifecycle::default(),
            ),
        }
    }

    /// The statistics of a statement, made on first sight. Keep the `Arc` to record again without a look-up; statistics that
    /// have given way meanwhile then count for nobody.
    pub fn stats(&self, key: StatementRef<'_>) -> Arc<StatementStats> {
        if let Some(stats) = self.map.get(&key) {
            return stats;
        }
        let owned = StatementKey {
            digest: key.digest,
            text: kept(key.text).into(),
            schema: key.schema.into(),
            user: key.user.into(),
            class: key.class,
            target: key.target,
            server: key.server.into(),
        };
        // Of two that come first at the same moment, one makes it and both count into it.
        let made: Result<_, std::convert::Infallible> =
            self.map.get_or_insert_with(&owned, || Ok(Arc::new(StatementStats::new(owned.clone()))));
        match made {
            Ok(stats) => stats,
            Err(never) => match never {},
        }
    }

    /// Looks up and counts one execution.
    pub fn record(&self, key: StatementRef<'_>, ended: Instant, duration: Duration, rows: u64, error: bool) {
        self.stats(key).record(ended, duration, rows, error);
    }

    /// All statements, in no order.
    pub fn snapshot(&self) -> Vec<StatementSnapshot> {
        self.map.iter().map(|(_, stats)| stats.snapshot()).collect()
    }

    /// `FLUSH STATEMENTS`.
    pub fn clear(&self) {
        self.map.clear();
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(digest: u64, text: &str) -> StatementRef<'_> {
        StatementRef { digest, text, schema: "shop", user: "app", class: Class::Read, target: Target::Replica, server: "" }
    }

    #[test]
    fn one_line_for_each_key() {
        let all = Statements::default();
        all.record(key(1, "SELECT ?"), Clock::now(), Duration::from_micros(100), 1, false);
        all.record(key(1, "SELECT ?"), Clock::now(), Duration::from_micros(300), 2, true);
        all.record(key(1, "SELECT a"), Clock::now(), Duration::from_micros(7), 0, false);
        all.record(StatementRef { user: "bob", ..key(1, "SELECT ?") }, Clock::now(), Duration::from_micros(7), 0, false);
        all.record(
            StatementRef { target: Target::Server, server: "db3", ..key(1, "SELECT ?") },
            Clock::now(),
            Duration::ZERO,
            0,
            false,
        );
        let lines = all.snapshot();
        assert_eq!(lines.len(), 4);
        let first = lines.iter().find(|l| l.count == 2).unwrap();
        assert_eq!((first.errors, first.rows, first.sum_us, first.min_us, first.avg_us, first.max_us), (1, 3, 400, 100, 200, 300));
        assert_eq!(first.p99_us, 300);
        assert!(lines.iter().any(|l| l.target() == "server:db3"));
        assert!(lines.iter().all(|l| l.first_seen <= l.last_seen), "seen first before last: {lines:?}");
        all.clear();
        assert!(all.is_empty());
    }

    #[test]
    fn their_number_is_bounded() {
        let all = Statements::new(100);
        for i in 0..5_000 {
            all.record(key(i, "SELECT ?"), Clock::now(), Duration::from_micros(1), 0, false);
        }
        assert!(all.len() <= 110, "{}", all.len());
        let long = "ä".repeat(TEXT_BYTES_MAX);
        let a = all.stats(key(u64::MAX, &long));
        assert!(Arc::ptr_eq(&a, &all.stats(key(u64::MAX, &long))));
        assert!(a.key.text.len() <= TEXT_BYTES_MAX);
    }

    #[test]
    fn many_threads_lose_nothing() {
        let all = Statements::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    (0..10_000).for_each(|i| all.record(key(i % 3, "SELECT ?"), Clock::now(), Duration::from_micros(i), 1, false))
                });
            }
        });
        let lines = all.snapshot();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines.iter().map(|l| l.count).sum::<u64>(), 40_000);
        assert_eq!(lines.iter().map(|l| l.rows).sum::<u64>(), 40_000);
    }
}
