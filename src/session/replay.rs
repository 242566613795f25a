//! A transaction as it was run so far: its statements, and a checksum of what each was answered with. When its server is lost it can be run again on
//! another one, and is the same transaction only if every answer is the same. Pure: recording and comparing; running is `frontend::replay`'s.
//!
//! Not recorded, so that the transaction ends with its server as ever: what cannot be sent again or may do something beside the transaction (several
//! statements in one text, procedures, uploads, cursors), what changes the session's variables, and more than the limits below.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;

use crate::protocol::reply::Expect;
use crate::sql::classify::Classified;
use crate::topology::{Facts, Flavor, GtidSet};

/// Statements remembered of one transaction.
pub const STATEMENTS_MAX: usize = 1_000;
/// Bytes remembered of one transaction: statements and parameters.
pub const BYTES_MAX: usize = 1 << 20;
/// What a remembered statement costs beside its bytes.
const STEP_COST: usize = 96;

/// A checksum of one answer: its rows and definitions byte by byte, of an OK the affected rows and the insert id, of an error its number.
#[derive(Clone)]
pub struct Checksum(digest::Context);

/// A finished [`Checksum`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sum([u8; 32]);

impl Default for Checksum {
    fn default() -> Self {
        Checksum(digest::Context::new(&digest::SHA256))
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Checksum")
    }
}

impl Checksum {
    /// Bytes of rows, cut anywhere.
    pub fn rows(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// An OK packet.
    pub fn ok(&mut self, affected_rows: u64, last_insert_id: u64) {
        self.0.update(b"\0ok");
        self.0.update(&affected_rows.to_le_bytes());
        self.0.update(&last_insert_id.to_le_bytes());
    }

    /// An ERR packet.
    pub fn error(&mut self, errno: u16) {
        self.0.update(b"\0error");
        self.0.update(&errno.to_le_bytes());
    }

    /// The answer has ended.
    pub fn finish(self) -> Sum {
        let mut sum = [0; 32];
        for (to, from) in sum.iter_mut().zip(self.0.finish().as_ref()) {
            *to = *from;
        }
        Sum(sum)
    }
}

/// What was sent. `T` is a prepared statement's text with its context, as the connections know it.
#[derive(Clone, Debug)]
pub enum Sent<T> {
    /// A command's payload.
    Command(Box<[u8]>),
    /// An execution's payload, for any number its statement may have.
    Execute {
        /// The statement.
        text: Arc<T>,
        /// The payload.
        payload: Box<[u8]>,
        /// How many parameters.
        params: u16,
        /// Their types as the client sent them last.
        types: Option<Arc<[u8]>>,
    },
}

impl<T> Sent<T> {
    fn cost(&self) -> usize {
        STEP_COST
            + match self {
                Sent::Command(payload) => payload.len(),
                Sent::Execute { payload, types, .. } => payload.len() + types.as_ref().map_or(0, |types| types.len()),
            }
    }
}

/// One statement and its answer.
#[derive(Clone, Debug)]
pub struct Step<T> {
    /// What was sent.
    pub sent: Sent<T>,
    /// `LAST_INSERT_ID()` as it was before, where the statement may read it: the other server's connection has another.
    pub insert_id: Option<u64>,
    /// How the answer reads.
    pub expect: Expect,
    /// The answer.
    pub sum: Sum,
}

/// The transaction that is open.
#[derive(Debug)]
pub struct Record<T> {
    steps: Vec<Step<T>>,
    bytes: usize,
    broken: Option<&'static str>,
}

impl<T> Default for Record<T> {
    fn default() -> Self {
        Record { steps: Vec::new(), bytes: 0, broken: None }
    }
}

/// Whether a transaction was open before a statement, and is after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Open {
    /// Before.
    pub before: bool,
    /// After.
    pub after: bool,
}

impl<T> Record<T> {
    /// A statement has been answered. `step` is how to run it again, or why that cannot be.
    pub fn ran(&mut self, statement: &Classified, open: Open, step: Result<Step<T>, &'static str>) {
        if !open.after {
            *self = Record::default();
            return;
        }
        let effects = &statement.effects;
        let ends = effects.ends_transaction.is_some() && !effects.savepoint;
        if !open.before || effects.begins_transaction.is_some() || ends || effects.implicit_commit {
            *self = Record::default();
        } else if self.steps.is_empty() && self.broken.is_none() {
            self.broken = Some("it was not recorded from its beginning");
        }
        match step {
            Ok(step) if self.broken.is_none() => {
                self.bytes += step.sent.cost();
                self.steps.push(step);
                if self.bytes > BYTES_MAX || self.steps.len() > STATEMENTS_MAX {
                    self.give_up("it is longer than what is remembered");
                }
            }
            Ok(_) => {}
            Err(why) => self.give_up(why),
        }
    }

    fn give_up(&mut self, why: &'static str) {
        *self = Record { steps: Vec::new(), bytes: 0, broken: Some(why) };
    }

    /// All statements of the open transaction.
    ///
    /// # Errors
    /// Why they are not all known.
    pub fn steps(&self) -> Result<&[Step<T>], &'static str> {
        match self.broken {
            Some(why) => Err(why),
            None if self.steps.is_empty() => Err("it was not recorded"),
            None => Ok(&self.steps),
        }
    }
}

/// Whether a statement can be recorded, as far as its text tells.
///
/// # Errors
/// Why not.
pub fn repeatable(statement: &Classified) -> Result<(), &'static str> {
    let effects = &statement.effects;
    if statement.multi {
        Err("one of its texts held several statements")
    } else if effects.opaque || effects.calls_procedure {
        Err("it called a procedure, or what it did cannot be told by its text")
    } else if effects.load_data || effects.load_data_local {
        Err("it loaded a file")
    } else {
        Ok(())
    }
}

/// Whether a statement may commit something, `in_transaction` or outside of one.
pub fn may_commit(statement: &Classified, is_read: bool, in_transaction: bool) -> bool {
    let effects = &statement.effects;
    if in_transaction {
        let ends = effects.ends_transaction.is_some() && !effects.savepoint;
        ends || effects.begins_transaction.is_some() || effects.implicit_commit || repeatable(statement).is_err()
    } else {
        !is_read
    }
}

/// Whether a transaction of the old master is surely not among those of the new one. It was sent to be committed when the old master was known to have
/// `known`, so that its own GTID is none of these and, on MariaDB, greater. `new` is what the new master says that receives nothing from the old one
/// any more. What others committed on the old master meanwhile may be it as well as not: then nothing is sure.
pub fn surely_absent(known: &GtidSet, new: &Facts) -> bool {
    match (known, new.gtid_executed.as_deref(), new.flavor) {
        (GtidSet::MySql(known), Some(GtidSet::MySql(has)), Flavor::MySql) => {
            let Ok(own) = crate::topology::gtid::parse_uuid(&new.server_uuid) else { return false };
            has.subtract(known).without(&own).is_empty()
        }
        (GtidSet::MariaDb(known), Some(_), Flavor::MariaDb) => {
            let Some(state) = &new.gtid_state else { return false };
            let newer = |gtid: &&crate::topology::gtid::MariaDbGtid| {
                gtid.server != new.server_id && known.domain(gtid.domain).is_none_or(|known| gtid.sequence > known.sequence)
            };
            !known.is_empty() && !state.writers().iter().any(|gtid| newer(&gtid))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
