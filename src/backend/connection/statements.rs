//! The statements prepared on one connection: one for a text, whichever clients execute it, the least recently used closed for room.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Connection, PreparedText, put_command};
use crate::protocol::Capabilities;
use crate::protocol::command::Com;
use crate::protocol::kinds::Kinds;
use crate::topology::Flavor;

/// A statement prepared on one connection.
#[derive(Debug)]
pub(super) struct ServerStatement {
    /// The server's number for it.
    id: u32,
    last_used: u64,
    /// Of the parameters it was executed with.
    kinds: Kinds,
}

impl Connection {
    /// The server's number for a statement, if it is prepared here.
    pub fn prepared(&mut self, text: &Arc<PreparedText>) -> Option<u32> {
        self.uses += 1;
        let statement = self.prepared.get_mut(text)?;
        statement.last_used = self.uses;
        Some(statement.id)
    }

    /// The same for an execution with parameters of these types. On MySQL a statement executed with others before, perhaps for
    /// another client, would read them wrongly (see [`kinds`](crate::protocol::kinds)): it is closed, and must be prepared anew.
    pub fn prepared_for(&mut self, text: &Arc<PreparedText>, types: Option<&[u8]>) -> Option<u32> {
        self.uses += 1;
        let statement = self.prepared.get_mut(text)?;
        statement.last_used = self.uses;
        let id = statement.id;
        let (Flavor::MySql, 0, Some(types)) = (self.flavor, text.private, types) else { return Some(id) };
        if statement.kinds.take_over(types, self.capabilities.has(Capabilities::QUERY_ATTRIBUTES)) {
            return Some(id);
        }
        self.forget_prepared(text);
        None
    }

    /// Notes that the server prepared `text` as `id`. The statement that must go for it is closed with the next command.
    pub fn note_prepared(&mut self, text: Arc<PreparedText>, id: u32) {
        self.uses += 1;
        if let Some(old) = self.prepared.insert(text, ServerStatement { id, last_used: self.uses, kinds: Kinds::default() }) {
            self.to_close.push(old.id);
        }
        if self.prepared.len() > self.prepared_max.load(Ordering::Relaxed)
            && let Some(oldest) = self.prepared.iter().min_by_key(|(_, s)| s.last_used).map(|(text, _)| text.clone())
        {
            self.forget_prepared(&oldest);
        }
    }

    /// Closes a statement with the next command, if it is prepared here.
    pub fn forget_prepared(&mut self, text: &Arc<PreparedText>) {
        if let Some(statement) = self.prepared.remove(text) {
            self.to_close.push(statement.id);
        }
    }

    /// Closes all statements with the next command: the server has as many as it takes.
    pub fn forget_all_prepared(&mut self) {
        self.to_close.extend(self.prepared.drain().map(|(_, statement)| statement.id));
    }

    /// How many statements are prepared here.
    pub fn prepared_count(&self) -> usize {
        self.prepared.len()
    }

    /// `COM_STMT_CLOSE` for what is to be closed, appended to `out`; they have no replies.
    pub fn put_closes(&mut self, out: &mut Vec<u8>) {
        for id in self.to_close.drain(..) {
            put_command(out, Com::StmtClose, &id.to_le_bytes());
        }
    }

    /// Whether [`Connection::put_closes`] has something to say.
    pub fn has_closes(&self) -> bool {
        !self.to_close.is_empty()
    }
}
