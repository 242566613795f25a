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
    /// The connection's [`serial`](Connection::serial) then.
    in_hands: u64,
    /// Of the parameters it was executed with.
    kinds: Kinds,
}

impl ServerStatement {
    /// Whether a cursor may be open on it, or long data wait for its execution: it is of whoever has the connection now. What others
    /// have left of this kind is of no use to anybody.
    fn is_needed(&self, text: &PreparedText, serial: u64) -> bool {
        text.private != 0 && self.in_hands == serial
    }
}

impl Connection {
    /// The server's number for a statement, if it is prepared here.
    pub fn prepared(&mut self, text: &Arc<PreparedText>) -> Option<u32> {
        self.uses += 1;
        let statement = self.prepared.get_mut(text)?;
        (statement.last_used, statement.in_hands) = (self.uses, self.serial);
        Some(statement.id)
    }

    /// The same for an execution with parameters of these types. On MySQL a statement executed with others before, perhaps for
    /// another client, would read them wrongly (see [`kinds`](crate::protocol::kinds)): it is closed, and must be prepared anew.
    pub fn prepared_for(&mut self, text: &Arc<PreparedText>, types: Option<&[u8]>) -> Option<u32> {
        self.uses += 1;
        let statement = self.prepared.get_mut(text)?;
        (statement.last_used, statement.in_hands) = (self.uses, self.serial);
        let id = statement.id;
        let (Flavor::MySql, 0, Some(types)) = (self.flavor, text.private, types) else { return Some(id) };
        if statement.kinds.take_over(types, self.capabilities.has(Capabilities::QUERY_ATTRIBUTES)) {
            return Some(id);
        }
        self.forget_prepared(text);
        None
    }

    /// Notes that the server prepared `text` as `id`. The statements that must go for it are closed with the next command.
    pub fn note_prepared(&mut self, text: Arc<PreparedText>, id: u32) {
        self.uses += 1;
        let statement = ServerStatement { id, last_used: self.uses, in_hands: self.serial, kinds: Kinds::default() };
        if let Some(old) = self.prepared.insert(text, statement) {
            self.to_close.push(old.id);
        }
        while self.prepared.len() > self.prepared_max.load(Ordering::Relaxed) {
            let may_go = self.prepared.iter().filter(|(text, s)| s.last_used != self.uses && !s.is_needed(text, self.serial));
            let Some(oldest) = may_go.min_by_key(|(_, s)| s.last_used).map(|(text, _)| text.clone()) else { break };
            self.forget_prepared(&oldest);
        }
    }

    /// Closes a statement with the next command, if it is prepared here.
    pub fn forget_prepared(&mut self, text: &Arc<PreparedText>) {
        if let Some(statement) = self.prepared.remove(text) {
            self.to_close.push(statement.id);
        }
    }

    /// Closes all statements that nobody needs with the next command: the server has as many as it takes.
    pub fn forget_all_prepared(&mut self) {
        let serial = self.serial;
        self.to_close.extend(self.prepared.extract_if(|text, s| !s.is_needed(text, serial)).map(|(_, statement)| statement.id));
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::backend::connect::Connected;
    use crate::backend::connection::PoolKey;
    use crate::net::Stream;
    use crate::protocol::handshake::Greeting;
    use crate::session::state::State;
    use crate::topology::ServerId;

    fn connection(max: usize) -> Connection {
        let greeting = Greeting {
            version: "8.4.0".to_owned(),
            connection_id: 1,
            nonce: [0; 20],
            capabilities: Capabilities::NONE,
            collation: 45,
            status: 0,
            plugin: String::new(),
        };
        let connected =
            Connected { stream: Stream::Gone, greeting, capabilities: Capabilities::NONE, connection_id: 1, collation: 45 };
        let key = PoolKey { user: "app".into(), generation: 0, capabilities: Capabilities::NONE, client: None, raw_collation: 0 };
        let fresh = Arc::new(State::at_login(None, None));
        let connection = Connection::new(connected, ServerId(0), Arc::new(key), fresh, Instant::now());
        connection.prepared_max.store(max, Ordering::Relaxed);
        connection
    }

    fn text(sql: &str) -> PreparedText {
        PreparedText::new(sql.as_bytes(), Arc::new(State::at_login(None, None)))
    }

    #[test]
    fn room_is_made_by_what_nobody_needs() {
        let mut connection = connection(3);
        let cursor = Arc::new(text("SELECT 1").made_private());
        connection.note_prepared(cursor.clone(), 1);
        for id in 2..=9u32 {
            connection.note_prepared(Arc::new(text(&format!("SELECT {id}"))), id);
        }
        assert_eq!(connection.prepared_count(), 3);
        assert_eq!(connection.prepared(&cursor), Some(1), "the oldest, and perhaps with a cursor open");
        connection.prepared_max.store(1, Ordering::Relaxed);
        let other = Arc::new(text("SELECT 10").made_private());
        connection.note_prepared(other.clone(), 10);
        assert_eq!(connection.prepared_count(), 2, "a limit that was lowered counts for what is there already");
        connection.forget_all_prepared();
        assert_eq!((connection.prepared(&cursor), connection.prepared(&other)), (Some(1), Some(10)));
        // Somebody else has the connection now, or the same client anew.
        connection.serial += 1;
        assert_eq!(connection.prepared(&other), Some(10));
        connection.forget_all_prepared();
        assert_eq!((connection.prepared(&cursor), connection.prepared(&other)), (None, Some(10)));
        assert_eq!(connection.to_close.iter().filter(|id| **id == 1).count(), 1);
    }
}
