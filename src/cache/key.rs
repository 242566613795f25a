//! What a result is kept under: everything that can make the answer, or the bytes it is told in, another one. Compared in full, never by
//! a hash alone.

use std::hash::{BuildHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use quick_cache::Equivalent;

use crate::session::state::{State, put};

/// Whose rights it was read with, and how its client is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader {
    /// The account.
    pub user: Arc<str>,
    /// Its client's address, where servers are told it: accounts may differ by it.
    pub address: Option<IpAddr>,
    /// Which learning of its password it logs in with.
    pub generation: u64,
    /// What was agreed with its client that changes what statements mean or how replies are laid out.
    pub capabilities: u64,
    /// The collation of its handshake, where that has no name among the session's variables.
    pub raw_collation: u16,
}

/// The same, borrowed: to look for a key nothing is copied and nothing counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderRef<'a> {
    /// See [`Reader`], as for the others.
    pub user: &'a Arc<str>,
    /// See there.
    pub address: Option<IpAddr>,
    /// See there.
    pub generation: u64,
    /// See there.
    pub capabilities: u64,
    /// See there.
    pub raw_collation: u16,
}

impl Reader {
    /// As one to look for.
    pub fn look(&self) -> ReaderRef<'_> {
        ReaderRef {
            user: &self.user,
            address: self.address,
            generation: self.generation,
            capabilities: self.capabilities,
            raw_collation: self.raw_collation,
        }
    }
}

impl ReaderRef<'_> {
    fn to_owned(self) -> Reader {
        Reader {
            user: self.user.clone(),
            address: self.address,
            generation: self.generation,
            capabilities: self.capabilities,
            raw_collation: self.raw_collation,
        }
    }
}

/// The parameters of an execution, as they came. Their text results are kept apart from binary ones by being there or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Parameters<'a> {
    /// Types, and names of attributes.
    pub types: &'a [u8],
    /// Which are NULL.
    pub nulls: &'a [u8],
    /// The values.
    pub values: &'a [u8],
}

/// A key to look for.
#[derive(Clone, Copy, Debug)]
pub struct KeyRef<'a> {
    /// See [`Reader`].
    pub reader: ReaderRef<'a>,
    /// Schema and variables of the session.
    pub state: &'a Arc<State>,
    /// For an execution: those at the time it was prepared.
    pub prepared: Option<&'a Arc<State>>,
    /// The exact text, its comments included.
    pub sql: &'a [u8],
    /// For an execution.
    pub parameters: Option<Parameters<'a>>,
    hash: u64,
}

impl<'a> KeyRef<'a> {
    /// A key, with its hash made.
    pub fn new(
        reader: ReaderRef<'a>,
        state: &'a Arc<State>,
        prepared: Option<&'a Arc<State>>,
        sql: &'a [u8],
        parameters: Option<Parameters<'a>>,
    ) -> KeyRef<'a> {
        let mut hasher = foldhash::fast::FixedState::with_seed(0xCAC4E).build_hasher();
        hasher.write(sql);
        hasher.write_u64(state.hash());
        hasher.write(reader.user.as_bytes());
        hasher.write_u64(reader.capabilities);
        if let Some(parameters) = parameters {
            hasher.write(parameters.types);
            hasher.write(parameters.nulls);
            hasher.write(parameters.values);
        }
        KeyRef { reader, state, prepared, sql, parameters, hash: hasher.finish() }
    }

    /// The key to keep.
    pub fn to_owned(&self) -> Key {
        Key {
            reader: self.reader.to_owned(),
            state: self.state.clone(),
            prepared: self.prepared.cloned(),
            sql: self.sql.into(),
            parameters: self.parameters.map(|p| [p.types.into(), p.nulls.into(), p.values.into()]),
            hash: self.hash,
        }
    }

    /// As bytes that are the same in another process of this version, and those of no other key. The account stands in the place of
    /// the learning of its password, which is one proxy's own.
    pub fn encode(&self, account: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.sql.len() + 256);
        put(&mut out, Some(account));
        put(&mut out, Some(self.reader.user.as_bytes()));
        put(&mut out, self.reader.address.map(|address| address.to_string()).as_deref().map(str::as_bytes));
        out.extend_from_slice(&self.reader.capabilities.to_le_bytes());
        out.extend_from_slice(&self.reader.raw_collation.to_le_bytes());
        self.state.encode(&mut out);
        out.push(u8::from(self.prepared.is_some()));
        if let Some(state) = self.prepared {
            state.encode(&mut out);
        }
        put(&mut out, Some(self.sql));
        put(&mut out, self.parameters.map(|p| p.types));
        put(&mut out, self.parameters.map(|p| p.nulls));
        put(&mut out, self.parameters.map(|p| p.values));
        out
    }

    /// For tables that are divided by it.
    pub fn hash_code(&self) -> u64 {
        self.hash
    }
}

type Bytes = Box<[u8]>;

/// A kept key.
#[derive(Clone, Debug)]
pub struct Key {
    reader: Reader,
    state: Arc<State>,
    prepared: Option<Arc<State>>,
    sql: Bytes,
    parameters: Option<[Bytes; 3]>,
    hash: u64,
}

fn same(a: &Arc<State>, b: &Arc<State>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

impl Key {
    /// As one to look for.
    pub fn look(&self) -> KeyRef<'_> {
        KeyRef {
            reader: self.reader.look(),
            state: &self.state,
            prepared: self.prepared.as_ref(),
            sql: &self.sql,
            parameters: self.parameters.as_ref().map(|[types, nulls, values]| Parameters { types, nulls, values }),
            hash: self.hash,
        }
    }

    /// Whose rights it was read with.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The account it was read with.
    pub fn user(&self) -> &str {
        &self.reader.user
    }

    /// The session's schema.
    pub fn schema(&self) -> Option<&[u8]> {
        self.state.schema()
    }

    /// Bytes it takes beside itself. The session's state is shared with the sessions that have it, and counted once more here in case
    /// they have gone.
    pub fn heap_bytes(&self) -> usize {
        let parameters = self.parameters.as_ref().map_or(0, |parts| parts.iter().map(|part| part.len()).sum());
        self.sql.len() + parameters + self.state.heap_bytes() + self.prepared.as_ref().map_or(0, |state| state.heap_bytes())
    }
}

impl PartialEq for KeyRef<'_> {
    fn eq(&self, other: &KeyRef<'_>) -> bool {
        self.hash == other.hash
            && self.sql == other.sql
            && self.parameters == other.parameters
            && same(self.state, other.state)
            && match (self.prepared, other.prepared) {
                (Some(a), Some(b)) => same(a, b),
                (None, None) => true,
                _ => false,
            }
            && self.reader == other.reader
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.look() == other.look()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Equivalent<Arc<Key>> for KeyRef<'_> {
    fn equivalent(&self, key: &Arc<Key>) -> bool {
        *self == key.look()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::state::{Change, Value};

    fn reader() -> Reader {
        Reader { user: "app".into(), address: None, generation: 1, capabilities: 5, raw_collation: 0 }
    }

    #[test]
    fn whatever_changes_the_answer_makes_another_key() {
        let own = reader();
        let reader = own.look();
        let state = Arc::new(State::at_login(Some(b"shop"), Some(("utf8mb4", "utf8mb4_bin"))));
        let zone = Change::System("time_zone".into(), Some(Value::Reported(b"+03:00"[..].into())));
        let moved = Arc::new(state.changed(&[zone]));
        let elsewhere = Arc::new(state.changed(&[Change::Schema(Some(b"other"[..].into()))]));
        let parameters = |values| Some(Parameters { types: &[3, 0], nulls: &[0], values });
        let base = KeyRef::new(reader, &state, None, b"SELECT 1", None);
        let other_readers = [
            Reader { user: "bob".into(), ..own.clone() },
            Reader { address: Some([10, 0, 0, 1].into()), ..own.clone() },
            Reader { generation: 2, ..own.clone() },
            Reader { capabilities: 4, ..own.clone() },
            Reader { raw_collation: 255, ..own.clone() },
        ];
        let mut others = vec![
            KeyRef::new(reader, &state, None, b"SELECT 2", None),
            KeyRef::new(reader, &state, None, b"select 1", None),
            KeyRef::new(reader, &moved, None, b"SELECT 1", None),
            KeyRef::new(reader, &elsewhere, None, b"SELECT 1", None),
            KeyRef::new(reader, &state, Some(&state), b"SELECT 1", parameters(b"\x01")),
            KeyRef::new(reader, &state, Some(&state), b"SELECT 1", parameters(b"\x02")),
            KeyRef::new(reader, &state, Some(&moved), b"SELECT 1", parameters(b"\x01")),
            KeyRef::new(
                reader,
                &state,
                Some(&state),
                b"SELECT 1",
                Some(Parameters { types: &[8, 0], nulls: &[0], values: b"\x01" }),
            ),
        ];
        others.extend(other_readers.iter().map(|other| KeyRef::new(other.look(), &state, None, b"SELECT 1", None)));
        let kept = Arc::new(base.to_owned());
        assert!(base.equivalent(&kept));
        assert_ne!(base.encode(b"x@%"), base.encode(b"x@10.0.0.1"));
        let again = Arc::new(State::at_login(Some(b"shop"), Some(("utf8mb4", "utf8mb4_bin"))));
        assert!(KeyRef::new(own.clone().look(), &again, None, b"SELECT 1", None).equivalent(&kept), "equal is enough");
        for (n, other) in others.iter().enumerate() {
            // Even if all hashes were one.
            let other = KeyRef { hash: base.hash, ..*other };
            assert!(!other.equivalent(&kept), "{n}");
            for (m, third) in others.iter().enumerate() {
                assert_eq!(other == KeyRef { hash: base.hash, ..*third }, n == m, "{n} {m}");
                // For other processes they are told apart alike, but for the learning of the password.
                let learned = |n: usize| others[n].reader.generation == 2;
                assert_eq!(other.encode(b"x@%") == third.encode(b"x@%"), n == m, "{n} {m}");
                assert!(!learned(n) || other.encode(b"x@%") == base.encode(b"x@%"));
            }
        }
    }
}
