//! What a reply and a `SET` teach about variables: what the server tracked is the truth, what the client wrote stands for what it
//! does not track, and what neither tells is read back or stays on its connection.

use std::sync::Arc;

use crate::protocol::errno::{self, Errno};
use crate::session::machine::{Learned, Session};
use crate::session::pin::PinReason;
use crate::session::state::{Change, NAMES, USER_VARIABLE_BYTES_MAX, Value};
use crate::session::unread::string_literal;
use crate::sql::classify::{Class, Classified};
use crate::sql::set::{self, Assignment, Scope, SetStatement, SetValue};

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

/// Variables that mean the next transaction only when they are assigned as `@@name`.
const NEXT_TRANSACTION: [&str; 4] = ["transaction_isolation", "transaction_read_only", "tx_isolation", "tx_read_only"];

/// While it is on, a connection notes its statements for `SHOW PROFILES`, and keeps them when it is off again.
const PROFILING: &str = "profiling";

/// While it is on, `information_schema.optimizer_trace` tells of the statement before on the same connection.
const OPTIMIZER_TRACE: &str = "optimizer_trace";

/// More variables than this set globally by one statement are not kept as they were.
const KEPT_MAX: usize = 64;

/// What a session has set globally.
#[derive(Debug, Default)]
pub struct Globals {
    /// It has set a variable, on the master. Replicas have their own, so that its reads see there what comes of it.
    pub set: bool,
    /// Variables of which its own values are those of a connection that ends now; they are to be read from it.
    pub keep: Vec<Box<str>>,
}

fn is_traced(value: &[u8]) -> bool {
    value.windows(10).any(|word| word.eq_ignore_ascii_case(b"enabled=on"))
}

fn is_off(value: &[u8]) -> bool {
    [&b"0"[..], b"OFF", b"FALSE", b"'OFF'"].iter().any(|off| value.trim_ascii().eq_ignore_ascii_case(off))
}

/// Tracking itself is Sluice's business on its own connections.
pub fn is_tracking(name: &str) -> bool {
    name.starts_with("session_track_")
}

/// Whether a variable that was set among other things is one whose value was told, and can be brought to another connection.
fn goes_along(name: &str, learned: &Learned<'_>) -> bool {
    let tracked = match name {
        "names" | "character set" => "character_set_client",
        name => name,
    };
    let told = || learned.variables.iter().any(|(told, _)| told.eq_ignore_ascii_case(tracked.as_bytes()));
    is_tracking(name) || !BOUND_VARIABLES.contains(&name) && told()
}

impl Session {
    /// Learns that `sql` has set global variables. Connections that are opened from now on begin with the new values, and the session
    /// goes on with the old ones.
    pub fn learn_globals(&mut self, sql: &[u8]) {
        self.globals.set = true;
        let Some(SetStatement::Assignments(assignments)) = set::parse(sql, self.lex) else { return };
        for Assignment { scope, name, .. } in assignments {
            let is_global = matches!(scope, Scope::Global | Scope::Persist);
            let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            // Charsets hang together, and every session has its own from its login.
            let special = name.starts_with("character_set_") || name.starts_with("collation_") || is_tracking(&name);
            let bound = [&BOUND_VARIABLES[..], &NOT_STATE, &NEXT_TRANSACTION].concat().contains(&name.as_str());
            let keep = &mut self.globals.keep;
            let known = self.state.system(&name).is_some() || keep.iter().any(|kept| **kept == *name);
            if is_global && plain && !special && !bound && !known && keep.len() < KEPT_MAX {
                keep.push(name.into());
            }
        }
    }

    /// Whether something is to be read from the connection before anybody else has it.
    pub fn reads_back(&self) -> bool {
        self.to_read_back().is_some() || !self.globals.keep.is_empty() || self.locks_question().is_some()
    }

    /// The values of [`Globals::keep`], as far as a session can set them.
    pub fn keep(&mut self, values: &[Change]) {
        self.change(values);
    }

    /// User variables get values that are known, as SQL. `false`: they are more than a session takes along, and have got none.
    pub fn assign(&mut self, values: &[(String, Vec<u8>)]) -> bool {
        let fits = |(name, value): &(String, Vec<u8>)| name.len() + value.len() <= USER_VARIABLE_BYTES_MAX;
        if !values.iter().all(fits) {
            return false;
        }
        let change =
            |(name, value): &(String, Vec<u8>)| Change::User(name.as_str().into(), Value::Literal(value.as_slice().into()));
        let state = self.state.changed(&values.iter().map(change).collect::<Vec<_>>());
        let fits = !state.too_large();
        if fits {
            self.state = Arc::new(state);
        }
        fits
    }

    pub(super) fn learn_variables(&mut self, statement: &Classified, sql: &[u8], learned: &Learned<'_>) {
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
                self.learn_bound(&name, value.eq_ignore_ascii_case(b"AUTOMATIC"));
                continue;
            }
            if name == PROFILING && !is_off(value) || name == OPTIMIZER_TRACE && is_traced(value) {
                self.pins.set(PinReason::SessionStatus, true);
            }
            changes.push(Change::System(name.into(), Some(Value::Reported(value.clone()))));
        }
        for name in effects.sets_system_variables.iter().filter(|name| is_tracking(name)) {
            self.hears.more(name);
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
                        self.unread.add(&effects.sets_user_variables);
                        self.pins.set(PinReason::SessionVariable, sets_system || self.pins.has(PinReason::SessionVariable));
                    }
                }
            }
        } else {
            // In a multi-statement or inside a SELECT: system variables are tracked by the server, user variables are not.
            if sets_user {
                self.unread.add(&effects.sets_user_variables);
            }
            // One that is tracked says nothing of the others.
            if effects.sets_system_variables.iter().any(|name| !goes_along(name, learned)) {
                self.pins.set(PinReason::SessionVariable, true);
            }
        }
        if effects.opaque && (learned.ok || !super::ran_nothing(statement, learned.errno)) {
            self.unread.add_any();
        }
        // A function may have set others beside those that the text names; a trigger or a function has set some to say why it refused.
        let calls = statement.calls_unknown || !statement.unknown_functions.is_empty();
        if learned.ok && sets_user && calls || Errno(learned.errno) == errno::ER_SIGNAL_EXCEPTION && statement.class != Class::Read
        {
            self.unread.add_any();
        }
        self.pins.set(PinReason::UserVariable, self.unread.any());
        if effects.sets_last_insert_id && learned.last_insert_id == 0 {
            self.insert_id_changed();
        }
        self.change(&changes);
    }

    /// One of [`BOUND_VARIABLES`] was set: only `gtid_next` has a value with which it is as if it never was.
    fn learn_bound(&mut self, name: &str, automatic: bool) {
        match name {
            "gtid_next" => self.pins.set(PinReason::GtidNext, !automatic),
            _ => self.pins.set(PinReason::SessionVariable, true),
        }
    }

    /// What the client wrote decides where the server does not track: literals are taken along, anything else pins.
    fn learn_assignments(&mut self, assignments: &[Assignment], changes: &mut Vec<Change>) {
        for assignment in assignments {
            let name = assignment.name.to_ascii_lowercase();
            if name == OPTIMIZER_TRACE
                && matches!((&assignment.scope, &assignment.value), (Scope::Session, SetValue::Literal(text)) if is_traced(text))
            {
                self.pins.set(PinReason::SessionStatus, true);
            }
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
                        changes.push(Change::ResultsCollation(Some(collation.to_ascii_lowercase().into())));
                    }
                }
                (Scope::User, SetValue::Literal(text)) => match self.portable_literal(text) {
                    Some(literal) if name.len() + literal.len() <= USER_VARIABLE_BYTES_MAX => {
                        self.unread.known(&name);
                        changes.push(Change::User(name.into(), Value::Literal(literal.into())));
                    }
                    _ => self.unread.add(&[name]),
                },
                (Scope::User, _) => self.unread.add(&[name]),
                // The manual of MySQL, "SET TRANSACTION": `SET @@transaction_isolation = ...` is for the next transaction only.
                (Scope::Session, _) if assignment.bare && NEXT_TRANSACTION.contains(&name.as_str()) => {
                    self.sets_next_transaction = true;
                    changes.retain(|c| !matches!(c, Change::System(n, _) if **n == *name));
                }
                (Scope::Session, _) if is_tracking(&name) => {}
                (Scope::Session, SetValue::Literal(text)) if name == "last_insert_id" || name == "identity" => {
                    match std::str::from_utf8(text).ok().and_then(|t| t.trim().parse().ok()) {
                        Some(id) => {
                            self.insert_id_changed();
                            self.insert_id_is(Some(id));
                        }
                        None => self.insert_id_changed(),
                    }
                }
                (Scope::Session, _) if name == "last_insert_id" || name == "identity" => self.insert_id_changed(),
                (Scope::Session, _) if BOUND_VARIABLES.contains(&name.as_str()) => {
                    let automatic = matches!(&assignment.value, SetValue::Literal(t) if t.to_ascii_uppercase().windows(9).any(|w| w == b"AUTOMATIC"));
                    self.learn_bound(&name, automatic);
                }
                // The clock goes on; the value that was tracked would stop it.
                (Scope::Session, value)
                    if name == "timestamp" && (*value == SetValue::Default || *value == SetValue::Literal(b"0".to_vec())) =>
                {
                    changes.retain(|c| !matches!(c, Change::System(n, _) if **n == *"timestamp"));
                    changes.push(Change::System(name.into(), None));
                }
                (Scope::Session, SetValue::Default) => {
                    // What the server tracked is what it came to. (MySQL gives bits of its own, such as foreign_key_checks, another
                    // default than a fresh connection has.)
                    let tracked = changes.iter().any(|c| matches!(c, Change::System(n, _) if **n == *name));
                    if !tracked {
                        let initial = self.initial.system(&name).filter(|_| NAMES.contains(&name.as_str()));
                        changes.push(Change::System(name.into(), initial.map(|v| Value::Reported(v.into()))));
                    }
                }
                (Scope::Session, SetValue::Literal(text)) if name == PROFILING => {
                    if !is_off(text) {
                        self.pins.set(PinReason::SessionStatus, true);
                    }
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

    /// `SET ROLE` travels as it was written, when that means the same in every `sql_mode` and charset.
    pub(super) fn learn_role(&mut self, statement: &Classified, sql: &[u8]) {
        let written = match set::parse(sql, self.lex) {
            Some(SetStatement::Role(text)) if !statement.multi => text,
            _ => Vec::new(),
        };
        let plain = |b: &u8| b.is_ascii_alphanumeric() || b" _-@%.,`'".contains(b);
        let role = std::str::from_utf8(&written).ok().filter(|text| !text.is_empty() && text.bytes().all(|b| plain(&b)));
        self.pins.set(PinReason::Role, role.is_none());
        if let Some(role) = role {
            self.change(&[Change::Role(Some(role.into()))]);
        }
    }

    /// The literal in a form that means the same on every connection, whatever its `sql_mode` and charset; `None` where that
    /// is not known.
    fn portable_literal(&self, text: &[u8]) -> Option<Vec<u8>> {
        if !portable(text) {
            return None;
        }
        let text = text.trim_ascii();
        if !text.starts_with(b"'") {
            return Some(text.to_vec());
        }
        let collation = self.state.system("collation_connection")?;
        let inner = text.get(1..text.len() - 1)?;
        let hex: String = inner.iter().map(|b| format!("{b:02x}")).collect();
        string_literal(hex.as_bytes(), collation)
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

/// A bare word as in `SET sql_mode = ANSI`, `SET autocommit = ON`.
fn is_word(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    !text.is_empty() && text.len() <= 64 && text.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
}
