//! Kept results in memory: bounded in bytes, and not emptied by one walk over a large table (what is used once goes before what is used
//! again).

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

use super::epoch::Ticket;
use super::key::{Key, KeyRef};
use crate::protocol::ok_err_eof::Status;
use crate::sql::classify::Classified;

/// What an entry takes beside its key's and its reply's bytes: itself, its key, the counters before both, its place in the map.
const OVERHEAD: usize = size_of::<Entry>() + size_of::<Key>() + 2 * 16 + 96;
/// Parts of the map, each with its lock and its share of the memory.
const SHARDS: usize = 8;
/// Replies that are on their way here take at most the memory divided by this.
const ON_THEIR_WAY: u64 = 8;
/// The map's first size assumes entries of this many bytes.
const ENTRY_BYTES_USUAL: u64 = 8 * 1024;

/// A kept reply.
#[derive(Debug)]
pub struct Entry {
    /// The packets as the client gets them, the last one without session state.
    pub reply: Box<[u8]>,
    /// Where in `reply` the last packet's two bytes of status stand.
    pub status_at: usize,
    /// What stands there.
    pub status: Status,
    /// Rows in it.
    pub rows: u64,
    /// The tables' epochs it is true for.
    pub ticket: Ticket,
    /// When it was stored.
    pub stored: Instant,
    /// When it ends.
    pub until: Instant,
    /// The statement.
    pub statement: Arc<Classified>,
    /// How often it was served.
    pub hits: AtomicU64,
    /// The account that it was read as, once that is known: other proxies find it under that one alone.
    pub account: OnceLock<Arc<[u8]>>,
    /// When it was last put where other proxies look, milliseconds after it was stored; [`u64::MAX`]: never.
    pub shared_ms: AtomicU64,
    /// It was counted among the voided.
    voided: AtomicBool,
}

impl Entry {
    /// A new entry.
    pub fn new(
        reply: Box<[u8]>,
        status_at: usize,
        status: Status,
        rows: u64,
        ticket: Ticket,
        (stored, until): (Instant, Instant),
        statement: Arc<Classified>,
    ) -> Entry {
        let (hits, shared_ms, voided) = (AtomicU64::new(0), AtomicU64::new(u64::MAX), AtomicBool::new(false));
        let account = OnceLock::new();
        Entry { reply, status_at, status, rows, ticket, stored, until, statement, hits, account, shared_ms, voided }
    }
}

/// Allocators round up: by at most an eighth of what is asked for, and to 16 bytes.
fn allocated(bytes: usize) -> usize {
    bytes + bytes / 8 + 16
}

/// Memory an entry takes.
pub fn weight(key: &Key, entry: &Entry) -> u64 {
    (allocated(key.heap_bytes()) + allocated(entry.reply.len()) + entry.ticket.heap_bytes() + OVERHEAD) as u64
}

#[derive(Clone, Debug)]
struct ByMemory;

impl Weighter<Arc<Key>, Arc<Entry>> for ByMemory {
    fn weight(&self, key: &Arc<Key>, entry: &Arc<Entry>) -> u64 {
        weight(key, entry)
    }
}

#[derive(Clone, Debug)]
struct Count(Arc<AtomicU64>);

impl Lifecycle<Arc<Key>, Arc<Entry>> for Count {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _: Arc<Key>, _: Arc<Entry>) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// Memory for all replies that are on their way to be kept. Beside what is kept already.
#[derive(Debug)]
pub struct Room(AtomicUsize);

impl Room {
    /// Of so many bytes.
    pub fn new(bytes: usize) -> Room {
        Room(AtomicUsize::new(bytes))
    }

    /// Takes some of it, if there is as much.
    #[must_use]
    pub fn take(&self, bytes: usize) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }

    /// What was taken is not needed any more.
    pub fn give_back(&self, bytes: usize) {
        self.0.fetch_add(bytes, Relaxed);
    }

    /// What there is of it.
    pub fn left(&self) -> usize {
        self.0.load(Relaxed)
    }
}

/// See the file.
pub struct Store {
    map: Cache<Arc<Key>, Arc<Entry>, ByMemory, DefaultHashBuilder, Count>,
    evictions: Arc<AtomicU64>,
    invalidations: AtomicU64,
    reply_max: usize,
    room: Arc<Room>,
    /// No entry lives longer, milliseconds; an operator may have shortened it after it was kept.
    life_max_ms: AtomicU64,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("entries", &self.map.len()).finish_non_exhaustive()
    }
}

/// One line of `SHOW CACHE ENTRIES`.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The entry.
    pub entry: Arc<Entry>,
    /// Its key.
    pub key: Arc<Key>,
}

impl Store {
    /// A store for this many bytes.
    #[expect(clippy::expect_used, reason = "the builder fails for what it was not given, and shards can be set by it alone")]
    pub fn new(bytes_max: u64) -> Store {
        let evictions = Arc::new(AtomicU64::new(0));
        let options = OptionsBuilder::new()
            .shards(SHARDS)
            .estimated_items_capacity(usize::try_from(bytes_max / ENTRY_BYTES_USUAL).unwrap_or(usize::MAX).max(64))
            .weight_capacity(bytes_max)
            .build()
            .expect("all that must be given is given");
        let map = Cache::with_options(options, ByMemory, DefaultHashBuilder::default(), Count(evictions.clone()));
        // A share must hold several of the largest.
        let reply_max = usize::try_from(map.shard_capacity() / 4).unwrap_or(usize::MAX).min(REPLY_MAX);
        let room = Arc::new(Room::new(usize::try_from(bytes_max / ON_THEIR_WAY).unwrap_or(usize::MAX)));
        Store { map, evictions, invalidations: AtomicU64::new(0), reply_max, room, life_max_ms: AtomicU64::new(u64::MAX) }
    }

    /// The longest reply that is kept, bytes.
    pub fn reply_max(&self) -> usize {
        self.reply_max
    }

    /// For replies on their way here.
    pub fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// No entry lives longer than this, those included that are kept already.
    pub fn life_is(&self, ttl: Duration) {
        self.life_max_ms.store(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// When an entry ends.
    pub fn ends(&self, entry: &Entry) -> Instant {
        let most = Duration::from_millis(self.life_max_ms.load(Relaxed));
        entry.stored.checked_add(most).map_or(entry.until, |end| end.min(entry.until))
    }

    /// Whether an entry that was of use ends within this time, or within half of its life where that is shorter: one whose whole life
    /// is shorter than `time` would else be read anew with every second read. Never within none at all.
    pub fn is_nearly_over(&self, entry: &Entry, time: Duration, now: Instant) -> bool {
        if time.is_zero() || entry.hits.load(Relaxed) == 0 {
            return false;
        }
        let end = self.ends(entry);
        let half = end.saturating_duration_since(entry.stored) / 2;
        end.saturating_duration_since(now) < time.min(half)
    }

    fn is_true(&self, entry: &Entry, now: Instant) -> bool {
        entry.ticket.is_current() && now < self.ends(entry)
    }

    /// What is kept under this key and is true now.
    pub fn get(&self, key: &KeyRef<'_>, now: Instant) -> Option<Arc<Entry>> {
        let entry = self.map.get(key)?;
        if self.is_true(&entry, now) {
            return Some(entry);
        }
        self.drop_entry(key, &entry);
        None
    }

    fn drop_entry(&self, key: &KeyRef<'_>, entry: &Arc<Entry>) {
        if self.map.remove_if(key, |kept| Arc::ptr_eq(kept, entry)).is_some() {
            self.count_voided(entry);
        }
    }

    fn count_voided(&self, entry: &Entry) {
        if !entry.ticket.is_current() && !entry.voided.swap(true, Relaxed) {
            self.invalidations.fetch_add(1, Relaxed);
        }
    }

    /// Keeps an entry.
    pub fn insert(&self, key: Arc<Key>, entry: Arc<Entry>) {
        self.map.insert(key, entry);
    }

    /// Lets go of what is not true any more or has lived its time. What is void is never served, swept or not.
    pub fn sweep(&self, now: Instant) {
        self.map.retain(|_, entry| {
            self.count_voided(entry);
            self.is_true(entry, now)
        });
    }

    /// Entries now.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Memory they take.
    pub fn bytes(&self) -> u64 {
        self.map.weight()
    }

    /// Entries that gave way to others.
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Relaxed)
    }

    /// Entries that a write has voided and that were let go.
    pub fn invalidations(&self) -> u64 {
        self.invalidations.load(Relaxed)
    }

    /// All that is true now, at most this many.
    pub fn list(&self, now: Instant, most: usize) -> Vec<Shown> {
        let alive = self.map.iter().filter(|(_, entry)| self.is_true(entry, now));
        alive.map(|(key, entry)| Shown { entry, key }).take(most).collect()
    }
}

/// The longest reply kept whatever the memory, bytes: longer ones are seldom asked twice before they change, and each would push out
/// thousands.
const REPLY_MAX: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::epoch::{Epochs, Need};
    use crate::cache::key::Reader;
    use crate::session::state::State;
    use crate::sql::classify::classify;
    use crate::sql::lexer::LexMode;

    struct Room {
        store: Store,
        epochs: Epochs,
        reader: Reader,
        state: Arc<State>,
        statement: Arc<Classified>,
        now: Instant,
    }

    impl Room {
        fn new(bytes: u64) -> Room {
            Room {
                store: Store::new(bytes),
                epochs: Epochs::default(),
                reader: Reader { user: "app".into(), address: None, generation: 1, capabilities: 0, raw_collation: 0 },
                state: Arc::new(State::default()),
                statement: Arc::new(classify(b"SELECT a FROM t", LexMode::default())),
                now: Instant::now(),
            }
        }

        fn put(&self, sql: &str, table: &str, bytes: usize) {
            let cell = self.epochs.cell(table.as_bytes(), table).unwrap();
            let ticket = self.epochs.ticket(&[cell], self.now).unwrap().ticket;
            let life = (self.now, self.now + Duration::from_secs(60));
            let entry = Entry::new(vec![1; bytes].into(), 0, Status::NONE, 1, ticket, life, self.statement.clone());
            self.store.insert(Arc::new(self.key(sql).to_owned()), Arc::new(entry));
        }

        fn key<'a>(&'a self, sql: &'a str) -> KeyRef<'a> {
            KeyRef::new(self.reader.look(), &self.state, None, sql.as_bytes(), None)
        }

        fn has(&self, sql: &str, after: u64) -> bool {
            self.store.get(&self.key(sql), self.now + Duration::from_secs(after)).is_some()
        }

        fn write(&self, table: &str) {
            let cell = self.epochs.cell(table.as_bytes(), table).unwrap();
            self.epochs.write(Some(smallvec::SmallVec::from_iter([cell])), self.now).end(&Need::Nothing);
        }
    }

    #[test]
    fn kept_until_a_write_or_its_time() {
        let room = Room::new(1 << 20);
        room.put("q1", "a", 10);
        room.put("q2", "b", 10);
        assert!(room.has("q1", 59) && room.has("q2", 0) && !room.has("q3", 0));
        room.write("a");
        assert!(!room.has("q1", 0) && room.has("q2", 0));
        assert_eq!((room.store.len(), room.store.invalidations()), (1, 1));
        assert_eq!(room.store.list(room.now, 9).len(), 1);
        assert!(!room.has("q2", 60));
        room.put("q4", "b", 10);
        room.put("q5", "c", 10);
        room.write("b");
        room.store.sweep(room.now);
        assert_eq!((room.store.len(), room.store.invalidations()), (1, 2), "what ended by its time is not counted");
        room.store.sweep(room.now + Duration::from_secs(60));
        assert!(room.store.is_empty() && room.store.bytes() == 0);
        // An operator has shortened what was to be a minute.
        room.put("q6", "d", 10);
        room.store.life_is(Duration::from_secs(2));
        assert!(room.has("q6", 1) && room.store.list(room.now + Duration::from_secs(2), 9).is_empty());
        assert!(!room.has("q6", 2));
    }

    #[test]
    fn what_is_nearly_over_has_lived_half_of_its_life() {
        let room = Room::new(1 << 20);
        room.put("q", "a", 10);
        let entry = room.store.get(&room.key("q"), room.now).unwrap();
        let over = |ahead, after| {
            let at = room.now + Duration::from_millis(after);
            room.store.is_nearly_over(&entry, Duration::from_millis(ahead), at)
        };
        assert!(!over(5000, 59_000), "it was never served");
        entry.hits.fetch_add(1, Relaxed);
        for (ahead, after, nearly) in [
            (5000, 55_000, false),
            (5000, 55_001, true),
            (0, 60_000, false),
            // Longer than its half, and than all of its minute.
            (50_000, 30_000, false),
            (50_000, 30_001, true),
            (600_000, 0, false),
            (600_000, 30_000, false),
            (600_000, 30_001, true),
        ] {
            assert_eq!(over(ahead, after), nearly, "{ahead} {after}");
        }
        // An operator shortens what was to be a minute: its true end counts.
        room.store.life_is(Duration::from_secs(4));
        for (ahead, after, nearly) in
            [(1000, 3000, false), (1000, 3001, true), (5000, 1999, false), (5000, 2000, false), (5000, 2001, true)]
        {
            assert_eq!(over(ahead, after), nearly, "{ahead} {after} of 4 s");
        }
    }

    #[test]
    fn memory_stays_below_its_limit_and_a_walk_does_not_empty_it() {
        let limit = 8 << 20;
        let room = Room::new(limit);
        for n in 0..50 {
            room.put(&format!("hot {n}"), "a", 1000);
        }
        let warm = |room: &Room| (0..50).filter(|n| room.has(&format!("hot {n}"), 0)).count();
        assert_eq!(warm(&room), 50);
        for n in 0..20_000 {
            room.put(&format!("walk {n}"), "a", 1000);
            if n % 100 == 0 {
                warm(&room);
            }
            assert!(room.store.bytes() <= limit);
        }
        assert!(room.store.evictions() > 10_000);
        assert!(warm(&room) > 40, "{}", warm(&room));
        // The largest reply that is let in fits, and one that does not fit is no trouble.
        let largest = room.store.reply_max();
        room.put("large", "a", largest);
        assert!(room.has("large", 0) && room.store.bytes() <= limit);
        room.put("too large", "a", limit as usize);
        assert!(!room.has("too large", 0) && room.store.bytes() <= limit);
    }
}
