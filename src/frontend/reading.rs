//! Step 1 of the way of one query: what the statement is.

use std::cell::RefCell;
use std::sync::Arc;

use crate::frontend::client::Client;
use crate::sql::classify::{Classified, Templates};
use crate::sql::digest::DigestBuf;
use crate::sql::hint::Hint;

thread_local! {
    static READING: RefCell<(DigestBuf, Templates)> = RefCell::default();
}

impl Client {
    /// What it is, and the hint in its comments.
    pub(super) fn classify(&self, sql: &[u8]) -> (Arc<Classified>, Option<Hint>) {
        READING.with_borrow_mut(|(buffer, templates)| {
            if let Some(known) = templates.get(sql, self.session.lex) {
                return (known.clone(), None);
            }
            let (statement, seen) = self.shared.classify.find(sql, self.session.lex, buffer);
            if seen {
                templates.put(sql, self.session.lex, &statement);
            }
            (statement, buffer.hint.take())
        })
    }
}
