//! The prepared statements of one client: its own numbers for them, and what executing them on any server needs.

use std::collections::HashMap;
use std::sync::Arc;

use crate::sql::classify::Classified;
use crate::sql::hint::Hint;
use crate::topology::ServerId;

/// Statements one client may hold prepared; one more is answered as a server at its `max_prepared_stmt_count` would (1461).
pub const STATEMENTS_MAX: usize = 16_382;

/// One prepared statement of a client. `T` is the text with its context, as the connections know it.
#[derive(Debug, Clone)]
pub struct ClientStatement<T> {
    /// The statement, and what its meaning depends on.
    pub text: Arc<T>,
    /// What it is.
    pub classified: Arc<Classified>,
    /// The hint in its comments.
    pub hint: Option<Arc<Hint>>,
    /// How many parameters it takes.
    pub params: u16,
    /// The parameter types the client sent last (two bytes each); it sends them only when they change.
    pub types: Option<Arc<[u8]>>,
    /// The server that prepared it for the client; its next execution goes there if it may, where it is surely prepared.
    pub prepared_on: Option<ServerId>,
    /// Part of its parameters was sent with `COM_STMT_SEND_LONG_DATA`.
    pub long_data: bool,
    /// Such a part was lost, on its way or with its connection: the next execution would run without it.
    pub long_data_lost: bool,
    /// A cursor is open on it.
    pub cursor: bool,
}

/// All prepared statements of one client. Takes no memory until the first.
#[derive(Debug)]
pub struct Statements<T> {
    by_id: HashMap<u32, ClientStatement<T>, foldhash::fast::RandomState>,
    next_id: u32,
}

impl<T> Default for Statements<T> {
    fn default() -> Self {
        Statements { by_id: HashMap::default(), next_id: 0 }
    }
}

impl<T> Statements<T> {
    /// The number the next statement will get. Like a server's it starts at 1 and counts up within the session.
    pub fn next_id(&mut self) -> u32 {
        loop {
            self.next_id = if self.next_id == u32::MAX - 1 { 1 } else { self.next_id + 1 };
            if !self.by_id.contains_key(&self.next_id) {
                return self.next_id;
            }
        }
    }

    /// Whether one more may be prepared.
    pub fn has_room(&self) -> bool {
        self.by_id.len() < STATEMENTS_MAX
    }

    /// Takes in a statement under the number that [`Statements::next_id`] gave.
    pub fn insert(&mut self, id: u32, statement: ClientStatement<T>) {
        self.by_id.insert(id, statement);
    }

    /// The statement with this number. `0xFFFFFFFF` means the last one prepared (MariaDB's "direct" execution).
    pub fn get_mut(&mut self, id: u32) -> Option<&mut ClientStatement<T>> {
        let id = if id == u32::MAX { self.next_id } else { id };
        self.by_id.get_mut(&id)
    }

    /// `COM_STMT_CLOSE`.
    pub fn remove(&mut self, id: u32) -> Option<ClientStatement<T>> {
        self.by_id.remove(&id)
    }

    /// `COM_RESET_CONNECTION`, `COM_CHANGE_USER`.
    pub fn clear(&mut self) {
        self.by_id = HashMap::default();
    }

    /// The connection was lost: what was open on it is open nowhere.
    pub fn connection_lost(&mut self) {
        for statement in self.by_id.values_mut() {
            statement.long_data_lost |= statement.long_data;
            (statement.cursor, statement.long_data) = (false, false);
        }
    }

    /// Whether any statement has a cursor open.
    pub fn any_cursor(&self) -> bool {
        self.by_id.values().any(|s| s.cursor)
    }

    /// Whether any statement has long data pending.
    pub fn any_long_data(&self) -> bool {
        self.by_id.values().any(|s| s.long_data)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}
