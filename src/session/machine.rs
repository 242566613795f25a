//! What one client's session is, and what it learns from each reply.
//!
//! The session never asks a server what state it is in. It learns: from the OK packets' tracked changes, from the status
//! flags, and from the effects that the `sql` room read off the statement. Where it cannot know, it pins itself to the
//! connection that does know.

use std::sync::Arc;

use crate::protocol::ok_err_eof::Status;
use crate::session::pin::{PinReason, Pins};
use crate::session::state::{Change, State, USER_VARIABLE_BYTES_MAX, Value};
use crate::sql::classify::{Class, Classified};
use crate::sql::lexer::LexMode;
use crate::sql::set::{self, Assignment, Scope, SetStatement, SetValue};
use crate::topology::gtid::GtidSet;

/// A tracked system variable: name and value.
pub type Tracked = (Box<[u8]>, Box<[u8]>);

/// What a reply said, as far as the session is concerned.
#[derive(Clone, Copy, Debug, Default)]
pub struct Learned<'a> {
    /// The statement ended without an error.
    pub ok: bool,
    /// Status flags of the last OK or EOF.
    pub status: Option<Status>,
    /// `last_insert_id` of the OK, 0 for none.
    pub last_insert_id: u64,
    /// Tracked system variables.
    pub variables: &'a [Tracked],
    /// Tracked schema.
    pub schema: Option<&'a [u8]>,
    /// The server says that the session's state changed.
    pub state_changed: bool,
    /// More changed than was kept.
    pub overflow: bool,
}

impl Learned<'_> {
    /// It ended well and told of no change. What it says of a statement without effects leaves the state as it is.
    pub fn is_plain(&self) -> bool {
        self.ok && self.variables.is_empty() && self.schema.is_none() && !self.state_changed && !self.overflow
    }
}

/// The longest list of names (temporary tables, prepared names) that a session remembers; a longer one stays pinned until the
/// connection is reset.
const NAMES_MAX: usize = 1024;

/// A list of things that each pin, by lower-case name.
#[derive(Debug, Default)]
struct Names {
    names: Vec<Box<str>>,
    too_many: bool,
}

impl Names {
    fn add(&mut self, name: &str) {
        let name = name.to_lowercase();
        if self.names.len() >= NAMES_MAX {
            self.too_many = true;
        } else if !self.names.iter().any(|n| **n == *name) {
            self.names.push(name.into());
        }
    }

    fn remove(&mut self, name: &str) {
        let name = name.to_lowercase();
        self.names.retain(|n| **n != *name);
    }

    fn any(&self) -> bool {
        self.too_many || !self.names.is_empty()
    }
}

/// Variables whose value belongs to the connection or is used up by the next statement: they cannot be brought along.
const BOUND_VARIABLES: [&str; 10] = [
    "insert_id",
    "rand_seed1",
    "rand_seed2",
    "gtid_next",
    "gtid_domain_id",
    "gtid_seq_no",
    "server_id",
    "pseudo_thread_id",
    "pseudo_replica_mode",
    "pseudo_slave_mode",
];

/// Tracked variables that say what happened rather than what is set; never brought along.
const NOT_STATE: [&str; 7] =
    ["last_gtid", "last_insert_id", "identity", "statement_id", "warning_count", "error_count", "in_transaction"];

/// Tracking itself is Sluice's business on its own connections.
fn is_tracking(name: &str) -> bool {
    name.starts_with("session_track_")
}

/// One client's session.
#[derive(Debug)]
pub struct Session {
    /// What stands on any connection before a statement of this session runs there.
    pub state: Arc<State>,
    initial: Arc<State>,
    /// Why it must stay on its connection.
    pub pins: Pins,
    /// What the client was last told of its status.
    pub status: Status,
    /// The value of `LAST_INSERT_ID()`.
    pub last_insert_id: u64,
    /// The session's last write.
    pub written: Option<GtidSet>,
    /// How its statements are read.
    pub lex: LexMode,
    lex_default: LexMode,
    temporary_tables: Names,
    text_prepared: Names,
    handlers: u32,
    named_locks: u32,
    pending_transaction: bool,
}

impl Session {
    /// A session right after its login.
    pub fn new(state: Arc<State>, lex_default: LexMode) -> Session {
        Session {
            lex: state.lex_mode(lex_default),
            lex_default,
            initial: state.clone(),
            state,
            pins: Pins::default(),
            status: Status::AUTOCOMMIT,
            last_insert_id: 0,
            written: None,
            temporary_tables: Names::default(),
            text_prepared: Names::default(),
            handlers: 0,
            named_locks: 0,
            pending_transaction: false,
        }
    }

    /// `COM_RESET_CONNECTION`: as right after the login, but for what was written (reads must still see it) and the schema,
    /// which the manual says stays.
    pub fn reset(&mut self) {
        let schema = self.state.schema().map(Into::into);
        let written = self.written.take();
        let state = self.initial.changed(&[Change::Schema(schema)]);
        *self = Session { written, initial: self.initial.clone(), ..Session::new(Arc::new(state), self.lex_default) };
    }

    /// Whether statements commit by themselves.
    pub fn autocommit(&self) -> bool {
        self.status.has(Status::AUTOCOMMIT)
    }

    /// Whether a transaction is open.
    pub fn in_transaction(&self) -> bool {
        self.status.has(Status::IN_TRANS)
    }

    /// Whether the statement needs `LAST_INSERT_ID()` restored on the connection it runs on, where it is `there` now.
    pub fn needs_last_insert_id(&self, statement: &Classified, there: u64) -> bool {
        statement.effects.reads_last_insert_id && self.last_insert_id != there
    }

    /// The state as others hold it, see [`crate::session::state::Interner`].
    pub fn share_state(&mut self, share: impl Fn(Arc<State>) -> Arc<State>) {
        self.state = share(self.state.clone());
        self.initial = share(self.initial.clone());
    }

    /// The schema was changed by `COM_INIT_DB`, or named at login.
    pub fn schema_is(&mut self, name: &[u8]) {
        self.change(&[Change::Schema(Some(name.into()))]);
    }

    /// The schema that the login named: a reset comes back to it.
    pub fn schema_at_login(&mut self, name: &[u8]) {
        self.schema_is(name);
        self.initial = self.state.clone();
    }

    fn change(&mut self, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        self.state = Arc::new(self.state.changed(changes));
        self.lex = self.state.lex_mode(self.lex_default);
        if self.state.too_large() {
            self.pins.set(PinReason::SessionVariable, true);
        }
    }

    /// Learns from the reply to `statement`, whose text was `sql`.
    pub fn learn(&mut self, statement: &Classified, sql: &[u8], learned: &Learned<'_>) {
        if let Some(status) = learned.status {
            self.status = status;
        }
        if learned.last_insert_id != 0 {
            self.last_insert_id = learned.last_insert_id;
        }
        // Most statements change nothing, and all that follows would find that out.
        if statement.plain && learned.is_plain() && !self.pending_transaction {
            self.pins.set(PinReason::FoundRows, false);
            self.pins.set(PinReason::Transaction, self.in_transaction());
            return;
        }
        self.learn_variables(statement, sql, learned);
        if learned.overflow || self.changed_unseen(statement, learned) {
            self.pins.set(PinReason::Unknown, true);
        }
        // Even a refused statement may have done a part (a multi-statement, a procedure): pins that begin are kept, pins that
        // end must have ended well.
        self.learn_effects(statement, sql, learned.ok);
        self.pins.set(PinReason::Transaction, self.in_transaction());
    }

    /// Whether something changed that the statement's text does not tell: a procedure, function or trigger that sets user
    /// variables or makes temporary tables. What it was stays on that connection, so the session stays there too.
    fn changed_unseen(&self, statement: &Classified, learned: &Learned<'_>) -> bool {
        let effects = &statement.effects;
        let told_by_text = statement.class == Class::Session
            || !effects.sets_system_variables.is_empty()
            || !effects.sets_user_variables.is_empty()
            || !effects.creates_temporary_tables.is_empty()
            || !effects.drops_tables.is_empty()
            || effects.use_schema.is_some()
            || effects.text_prepare.is_some()
            || effects.text_deallocate.is_some();
        if !learned.ok {
            // An error packet tracks nothing.
            return effects.opaque;
        }
        learned.state_changed && (effects.opaque || !told_by_text)
    }

    fn learn_variables(&mut self, statement: &Classified, sql: &[u8], learned: &Learned<'_>) {
        let effects = &statement.effects;
        let mut changes: Vec<Change> = Vec::new();
        if let Some(schema) = learned.schema {
            let schema = (!schema.is_empty()).then(|| schema.into());
            if self.state.schema() != schema.as_deref() {
                changes.push(Change::Schema(schema));
            }
        }
        for (name, value) in learned.variables {
            let Ok(name) = std::str::from_utf8(name) else { continue };
            let name = name.to_ascii_lowercase();
            if NOT_STATE.contains(&name.as_str()) || is_tracking(&name) {
                continue;
            }
            if BOUND_VARIABLES.contains(&name.as_str()) {
                let ended = name == "gtid_next" && value.eq_ignore_ascii_case(b"AUTOMATIC");
                self.pins.set(PinReason::SessionVariable, !ended);
                continue;
            }
            changes.push(Change::System(name.into(), Some(Value::Reported(value.clone()))));
        }
        let sets_user = !effects.sets_user_variables.is_empty();
        let sets_system = !effects.sets_system_variables.is_empty();
        if statement.class == Class::Session && !statement.multi && (sets_user || sets_system) {
            if learned.ok {
                match set::parse(sql, self.lex) {
                    Some(SetStatement::Assignments(assignments)) => self.learn_assignments(&assignments, &mut changes),
                    // Tracked as variables, or told by the effects.
                    Some(SetStatement::Transaction { .. } | SetStatement::Role(_) | SetStatement::Account) => {}
                    None => {
                        self.pins.set(PinReason::UserVariable, sets_user || self.pins.has(PinReason::UserVariable));
                        self.pins.set(PinReason::SessionVariable, sets_system || self.pins.has(PinReason::SessionVariable));
                    }
                }
            }
        } else {
            // In a multi-statement or inside a SELECT: system variables are tracked by the server, user variables are not.
            if sets_user {
                self.pins.set(PinReason::UserVariable, true);
            }
            if sets_system && learned.variables.is_empty() {
                self.pins.set(PinReason::SessionVariable, true);
            }
        }
        if effects.sets_last_insert_id && learned.last_insert_id == 0 {
            self.pins.set(PinReason::SessionVariable, true);
        }
        self.change(&changes);
    }

    /// What the client wrote decides where the server does not track: literals are taken along, anything else pins.
    fn learn_assignments(&mut self, assignments: &[Assignment], changes: &mut Vec<Change>) {
        for assignment in assignments {
            let name = assignment.name.to_ascii_lowercase();
            match (&assignment.scope, &assignment.value) {
                (Scope::Global | Scope::Persist, _) => {}
                (Scope::Session, _) if name == "names" || name == "character set" => {
                    let tracked = changes.iter().any(|c| matches!(c, Change::System(n, _) if **n == *"character_set_client"));
                    if !tracked {
                        self.learn_names(assignment, changes);
                    }
                    if let Some(collation) = &assignment.collation {
                        let value = Value::Reported(collation.as_bytes().into());
                        changes.push(Change::System("collation_connection".into(), Some(value)));
                    }
                }
                (Scope::User, SetValue::Literal(text)) if portable(text) && name.len() + text.len() <= USER_VARIABLE_BYTES_MAX => {
                    changes.push(Change::User(name.into(), Value::Literal(text.as_slice().into())));
                }
                (Scope::User, _) => self.pins.set(PinReason::UserVariable, true),
                (Scope::Session, _) if is_tracking(&name) => {}
                (Scope::Session, SetValue::Literal(text)) if name == "last_insert_id" || name == "identity" => {
                    match std::str::from_utf8(text).ok().and_then(|t| t.trim().parse().ok()) {
                        Some(id) => self.last_insert_id = id,
                        None => self.pins.set(PinReason::SessionVariable, true),
                    }
                }
                (Scope::Session, _) if BOUND_VARIABLES.contains(&name.as_str()) => {
                    let ended = name == "gtid_next"
                        && matches!(&assignment.value, SetValue::Literal(t) if t.to_ascii_uppercase().windows(9).any(|w| w == b"AUTOMATIC"));
                    self.pins.set(PinReason::SessionVariable, !ended);
                }
                (Scope::Session, SetValue::Default) => {
                    changes.retain(|c| !matches!(c, Change::System(n, _) if **n == *name));
                    // Charset defaults are those of the login, which the initial state holds.
                    let initial = self.initial.system(&name).map(|v| Value::Reported(v.into()));
                    changes.push(Change::System(name.into(), initial));
                }
                (Scope::Session, value) => {
                    let tracked = changes.iter().any(|c| matches!(c, Change::System(n, _) if **n == *name));
                    match value {
                        _ if tracked => {}
                        SetValue::Literal(text) if portable(text) || is_word(text) => {
                            changes.push(Change::System(name.into(), Some(Value::Literal(text.as_slice().into()))));
                        }
                        _ => self.pins.set(PinReason::SessionVariable, true),
                    }
                }
            }
        }
    }

    /// `SET NAMES` of a server that does not track it: the literal names all three charsets.
    fn learn_names(&mut self, assignment: &Assignment, changes: &mut Vec<Change>) {
        match assignment.value.as_text() {
            Some(charset) if assignment.name == "names" => {
                for name in ["character_set_client", "character_set_connection", "character_set_results"] {
                    changes.push(Change::System(name.into(), Some(Value::Reported(charset.as_bytes().into()))));
                }
            }
            _ => self.pins.set(PinReason::SessionVariable, true),
        }
    }

    fn learn_effects(&mut self, statement: &Classified, sql: &[u8], ok: bool) {
        let effects = &statement.effects;
        for table in &effects.creates_temporary_tables {
            self.temporary_tables.add(table);
        }
        if ok && self.temporary_tables.any() {
            for table in &effects.drops_tables {
                self.temporary_tables.remove(table);
            }
        }
        self.pins.set(PinReason::TemporaryTable, self.temporary_tables.any());

        // START TRANSACTION releases table locks, but not those of FLUSH TABLES WITH READ LOCK: only UNLOCK TABLES surely ends both.
        if ok && effects.unlock_tables {
            self.pins.set(PinReason::LockTables, false);
        }
        if effects.lock_tables || effects.flush_tables_with_read_lock {
            self.pins.set(PinReason::LockTables, true);
        }

        if effects.get_lock {
            self.named_locks = self.named_locks.saturating_add(1);
        }
        if ok && effects.release_lock {
            self.named_locks = self.named_locks.saturating_sub(1);
        }
        if ok && effects.release_all_locks {
            self.named_locks = 0;
        }
        self.pins.set(PinReason::NamedLock, self.named_locks > 0);

        if let Some(name) = &effects.text_prepare {
            self.text_prepared.add(name);
        }
        if ok && let Some(name) = &effects.text_deallocate {
            self.text_prepared.remove(name);
        }
        self.pins.set(PinReason::TextPrepared, self.text_prepared.any());

        if effects.handler_open {
            self.handlers = self.handlers.saturating_add(1);
        }
        if ok && effects.handler_use && last_word_is(sql, b"CLOSE") {
            self.handlers = self.handlers.saturating_sub(1);
        }
        self.pins.set(PinReason::Handler, self.handlers > 0);

        if effects.xa {
            let ended = ok && [&b"COMMIT"[..], b"ROLLBACK"].iter().any(|word| second_word_is(sql, word));
            self.pins.set(
                PinReason::Xa,
                !ended && (self.pins.has(PinReason::Xa) || second_word_is(sql, b"START") || second_word_is(sql, b"BEGIN")),
            );
        }
        if effects.set_role {
            self.pins.set(PinReason::Role, true);
        }
        if ok && effects.flush_status {
            self.pins.set(PinReason::SessionStatus, true);
        }

        // What SQL_CALC_FOUND_ROWS counted can be asked by the next statement, or never.
        self.pins.set(PinReason::FoundRows, ok && effects.calc_found_rows);

        if ok && effects.set_transaction == Some(false) {
            self.pending_transaction = true;
        } else if self.pending_transaction && !self.in_transaction() && statement.class != Class::Session {
            self.pending_transaction = false;
        }
        self.pins.set(PinReason::SetTransaction, self.pending_transaction);
    }

    /// The connection was lost, and what it held with it.
    pub fn connection_lost(&mut self) {
        self.status = Status(self.status.0 & !(Status::IN_TRANS.0 | Status::IN_TRANS_READONLY.0));
        self.pins = Pins::default();
        self.temporary_tables = Names::default();
        self.text_prepared = Names::default();
        self.handlers = 0;
        self.named_locks = 0;
        self.pending_transaction = false;
    }
}

/// Literals that mean the same on every connection, whatever its `sql_mode` and charset: numbers, `NULL`, booleans, hexadecimal,
/// and single-quoted ASCII without a backslash.
fn portable(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    let number = || {
        text.strip_prefix(b"-").unwrap_or(text).iter().all(|b| b.is_ascii_digit() || *b == b'.')
            && text.iter().any(u8::is_ascii_digit)
    };
    let word = || [&b"NULL"[..], b"TRUE", b"FALSE"].iter().any(|w| text.eq_ignore_ascii_case(w));
    let hex = || {
        (text.starts_with(b"0x") && text.len() > 2 && text.iter().skip(2).all(u8::is_ascii_hexdigit))
            || (text.len() > 3 && text.starts_with(b"x'") && text.ends_with(b"'"))
    };
    let quoted = || {
        text.len() >= 2
            && text.starts_with(b"'")
            && text.ends_with(b"'")
            && text.iter().skip(1).rev().skip(1).all(|b| (0x20..0x7f).contains(b) && !matches!(b, b'\\' | b'\''))
    };
    !text.is_empty() && (number() || word() || hex() || quoted())
}

fn last_word_is(sql: &[u8], word: &[u8]) -> bool {
    let sql = sql.trim_ascii_end();
    let sql = sql.strip_suffix(b";").unwrap_or(sql).trim_ascii_end();
    sql.len() > word.len() && sql.get(sql.len() - word.len()..).is_some_and(|end| end.eq_ignore_ascii_case(word))
}

fn second_word_is(sql: &[u8], word: &[u8]) -> bool {
    sql.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty()).nth(1).is_some_and(|w| w.eq_ignore_ascii_case(word))
}

/// A bare word as in `SET sql_mode = ANSI`, `SET autocommit = ON`.
fn is_word(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    !text.is_empty() && text.len() <= 64 && text.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

#[cfg(test)]
mod tests;
