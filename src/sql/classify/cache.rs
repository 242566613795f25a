//! Judgements remembered by digest. Bounded, shared by all sessions, without a lock around more than a shard.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use quick_cache::sync::Cache;
use quick_cache::{Equivalent, Weighter};

use super::{Classified, classify_digest};
use crate::sql::digest::{DigestBuf, digest};
use crate::sql::lexer::LexMode;

/// Longest digest text that is remembered, bytes. Longer ones are judged each time: they are rare, and one of them would push out hundreds.
pub const MAX_CACHED_BYTES: usize = 16 * 1024;

/// What an entry costs beside its text, roughly: the judgement's own strings and the map's slots.
const ENTRY_OVERHEAD_BYTES: u64 = 1024;

/// A digest as a key. The whole text is compared: with a hash alone, a collision would route a write as a read.
struct Key {
    hash: u64,
    mode: LexMode,
    text: Box<[u8]>,
}

#[derive(Clone, Copy)]
struct KeyRef<'a> {
    hash: u64,
    mode: LexMode,
    text: &'a [u8],
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash ^ u64::from(self.mode.bits()));
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash ^ u64::from(self.mode.bits()));
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.hash == other.hash && self.mode == other.mode && self.text == other.text
    }
}

impl Eq for Key {}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.hash == key.hash && self.mode == key.mode && *self.text == *key.text
    }
}

#[derive(Clone)]
struct ByText;

impl Weighter<Key, Arc<Classified>> for ByText {
    fn weight(&self, key: &Key, _: &Arc<Classified>) -> u64 {
        // The text is kept twice, once for people.
        2 * key.text.len() as u64 + ENTRY_OVERHEAD_BYTES
    }
}

/// Digests come from clients, so the map is bounded in bytes; what is used seldom goes first.
pub struct ClassifyCache {
    map: Cache<Key, Arc<Classified>, ByText>,
}

impl ClassifyCache {
    /// A cache for about `max_entries` digests of usual length, using at most about `max_bytes` bytes.
    pub fn new(max_entries: usize, max_bytes: u64) -> ClassifyCache {
        let entries = max_entries.max(1);
        ClassifyCache { map: Cache::with_weighter(entries, max_bytes.max(ENTRY_OVERHEAD_BYTES), ByText) }
    }

    /// Makes the digest of `sql` in `buf` (its hint is there afterwards) and returns the judgement, remembered or made now.
    pub fn get(&self, sql: &[u8], mode: LexMode, buf: &mut DigestBuf) -> Arc<Classified> {
        self.find(sql, mode, buf).0
    }

    /// The judgement on a digest, if it is remembered.
    pub fn known(&self, buf: &DigestBuf, mode: LexMode) -> Option<Arc<Classified>> {
        self.map.get(&KeyRef { hash: buf.hash, mode, text: &buf.text })
    }

    /// [`ClassifyCache::get`], with `true` for a judgement that was remembered.
    pub fn find(&self, sql: &[u8], mode: LexMode, buf: &mut DigestBuf) -> (Arc<Classified>, bool) {
        digest(sql, mode, buf);
        let key = KeyRef { hash: buf.hash, mode, text: &buf.text };
        if let Some(known) = self.map.get(&key) {
            return (known, true);
        }
        let made = Arc::new(classify_digest(buf, mode));
        if !buf.truncated && buf.text.len() <= MAX_CACHED_BYTES {
            let key = Key { hash: buf.hash, mode, text: buf.text.as_slice().into() };
            self.map.insert(key, Arc::clone(&made));
        }
        (made, false)
    }

    /// How many digests are remembered.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }
}

impl std::fmt::Debug for ClassifyCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClassifyCache").field("entries", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Class;

    #[test]
    fn a_digest_is_judged_once_and_modes_are_kept_apart() {
        let cache = ClassifyCache::new(100, 1 << 20);
        let mut buf = DigestBuf::default();
        let first = cache.get(b"SELECT a FROM t WHERE b = 1", LexMode::default(), &mut buf);
        let second = cache.get(b"select a from t where b = 1".to_ascii_uppercase().as_slice(), LexMode::default(), &mut buf);
        assert_eq!((first.class, second.class), (Class::Read, Class::Read));
        let again = cache.get(b"SELECT a FROM t  WHERE b=42 -- c", LexMode::default(), &mut buf);
        assert!(Arc::ptr_eq(&first, &again));
        let tricky = b"SELECT \"\\\" , '\" FOR UPDATE -- '";
        let ansi = LexMode { ansi_quotes: true, ..LexMode::default() };
        assert_ne!(cache.get(tricky, LexMode::default(), &mut buf).class, Class::Session);
        assert_eq!(cache.get(b"SELECT \"f\"(1)", LexMode::default(), &mut buf).class, Class::Read);
        assert_eq!(cache.get(b"SELECT \"f\"(1)", ansi, &mut buf).class, Class::Write);
    }

    #[test]
    fn it_stays_within_its_bounds() {
        let cache = ClassifyCache::new(64, 64 * 2048);
        let mut buf = DigestBuf::default();
        for n in 0..2000 {
            cache.get(format!("SELECT c{n} FROM t").as_bytes(), LexMode::default(), &mut buf);
        }
        assert!(cache.len() <= 256, "{}", cache.len());
        let before = cache.len();
        let long = format!("SELECT {} FROM t", "c,".repeat(MAX_CACHED_BYTES));
        cache.get(long.as_bytes(), LexMode::default(), &mut buf);
        assert!(cache.len() <= before);
    }
}
