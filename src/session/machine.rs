//! What one client's session is, and what it learns from each reply.
//!
//! The session never asks a server what state it is in. It learns: from the OK packets' tracked changes, from the status
//! flags, and from the effects that the `sql` room read off the statement. Where it cannot know, it pins itself to the
//! connection that does know.

use std::sync::Arc;
use std::time::Duration;

use crate::protocol::ok_err_eof::Status;
use crate::protocol::session_track::Hears;
use crate::session::last_write::LastWrite;
use crate::session::pin::{PinReason, Pins};
use crate::session::state::{Change, State};
use crate::session::unread::Unread;
use crate::sql::classify::{Class, ClassReason, Classified};
use crate::sql::lexer::{Dialect, LexMode};

/// A tracked system variable: name and value.
pub type Tracked = (Box<[u8]>, Box<[u8]>);

/// What a reply said, as far as the session is concerned.
#[derive(Clone, Copy, Debug, Default)]
pub struct Learned<'a> {
    /// The statement ended without an error.
    pub ok: bool,
    /// The number of the error it ended with, 0 for none.
    pub errno: u16,
    /// Status flags of the last OK or EOF.
    pub status: Option<Status>,
    /// `last_insert_id` of the OK, 0 for none.
    pub last_insert_id: u64,
    /// It is one that the server made: `LAST_INSERT_ID()` tells the same.
    pub id_was_made: bool,
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
        if self.names.len() >= NAMES_MAX {
            self.too_many = true;
        } else if !self.names.iter().any(|n| **n == *name) {
            self.names.push(name.into());
        }
    }

    fn remove(&mut self, name: &str) {
        self.names.retain(|n| **n != *name);
    }

    fn any(&self) -> bool {
        self.too_many || !self.names.is_empty()
    }
}

/// One client's session.
#[derive(Debug)]
pub struct Session {
    /// What stands on any connection before a statement of this session runs there.
    pub state: Arc<State>,
    initial: Arc<State>,
    /// Why it must stay on its connection.
    pub pins: Pins,
    /// Its connection holds a lock under which nobody can write (`FLUSH TABLES WITH READ LOCK` and its like).
    pub read_lock: bool,
    locks: Locks,
    /// What the client was last told of its status.
    pub status: Status,
    /// The value of `LAST_INSERT_ID()`.
    pub last_insert_id: u64,
    insert_id: insert_id::InsertId,
    /// The session's last write; in its beginning that of its account.
    pub written: Option<LastWrite>,
    /// Among what it wrote is a definition (`CREATE`, `ALTER`, ...) that no replica is known to have.
    pub defined: bool,
    /// What it has set globally.
    pub globals: Globals,
    /// How its statements are read.
    pub lex: LexMode,
    /// A reset, and `DEFAULT`, bring back the charset of the login, as MariaDB does it; in MySQL they bring that of the server.
    pub resets_names_to_login: bool,
    /// What it wants to hear of what servers tell of the session: it has set some of `session_track_...`.
    pub hears: Hears,
    lex_default: LexMode,
    temporary_tables: Names,
    text_prepared: TextPrepared,
    unread: Unread,
    handlers: u32,
    named_locks: NamedLocks,
    pending_transaction: bool,
    /// `autocommit` is off by the server's configuration or by a `SET`; kept apart, because every statement asks.
    autocommit_is_off: bool,
    /// `wait_timeout` was set; kept apart, because every command asks.
    limits_idleness: bool,
    /// The statement being learned from assigned to a variable in the form that is for the next transaction only.
    sets_next_transaction: bool,
}

impl Session {
    /// A session right after its login.
    pub fn new(state: Arc<State>, lex_default: LexMode) -> Session {
        let off = autocommit_is_off(&state);
        Session {
            lex: state.lex_mode(lex_default),
            lex_default,
            hears: Hears::default(),
            resets_names_to_login: lex_default.dialect != Dialect::MySql,
            initial: state.clone(),
            state,
            pins: Pins::default(),
            read_lock: false,
            locks: Locks::default(),
            status: if off && lex_default.dialect != Dialect::MySql { Status(0) } else { Status::AUTOCOMMIT },
            autocommit_is_off: off,
            last_insert_id: 0,
            insert_id: insert_id::InsertId::Known,
            written: None,
            defined: false,
            globals: Globals::default(),
            temporary_tables: Names::default(),
            text_prepared: TextPrepared::default(),
            unread: Unread::default(),
            handlers: 0,
            named_locks: NamedLocks::default(),
            pending_transaction: false,
            limits_idleness: false,
            sets_next_transaction: false,
        }
    }

    /// It begins in another state than a reset comes back to.
    pub fn begins_in(&mut self, state: Arc<State>) {
        self.state = state;
        self.state_is_new();
    }

    /// `COM_RESET_CONNECTION`: as right after the login, but for what was written (reads must still see it) and the schema,
    /// which the manual says stays.
    pub fn reset(&mut self) {
        let schema = self.state.schema().map(Into::into);
        let (written, defined) = (self.written.take(), self.defined);
        // Both families let the roles that were set stand.
        let mut changes = vec![Change::Schema(schema), Change::Role(self.state.role().map(Into::into))];
        let role = self.pins.has(PinReason::Role);
        if !self.resets_names_to_login {
            changes.push(Change::NoNames);
        }
        let state = self.initial.changed(&changes);
        let resets_names_to_login = self.resets_names_to_login;
        *self = Session {
            written,
            defined,
            initial: self.initial.clone(),
            resets_names_to_login,
            ..Session::new(Arc::new(state), self.lex_default)
        };
        self.pins.set(PinReason::Role, role);
    }

    /// Whether statements commit by themselves. MySQL's status flags say so of a session that begins with it off, until it is set.
    pub fn autocommit(&self) -> bool {
        self.status.has(Status::AUTOCOMMIT) && !self.autocommit_is_off
    }

    /// Whether `COMMIT` and `ROLLBACK` do no more than they say (`completion_type` is `NO_CHAIN`).
    pub fn completes_plainly(&self) -> bool {
        self.state
            .system("completion_type")
            .is_none_or(|value| !(is_word(value, b"CHAIN", b"1") || is_word(value, b"RELEASE", b"2")))
    }

    /// Whether this statement, when it has ended well, was the session's last: the server closes the connection behind it.
    pub fn ends_with(&self, statement: &Classified) -> bool {
        let Some(end) = statement.effects.ends_transaction else { return false };
        let by_default = || self.state.system("completion_type").is_some_and(|value| is_word(value, b"RELEASE", b"2"));
        end.release.unwrap_or_else(|| end.chain.is_none() && by_default())
    }

    /// How long the client may stay silent: `wait_timeout`, when the session has set it. The server's own end nobody here: an idle
    /// client holds no connection.
    pub fn idle_limit(&self) -> Option<Duration> {
        if !self.limits_idleness {
            return None;
        }
        let text = self.state.system("wait_timeout").and_then(|value| std::str::from_utf8(value).ok())?;
        text.trim().parse().ok().map(Duration::from_secs)
    }

    /// Whether a transaction is open.
    pub fn in_transaction(&self) -> bool {
        self.status.has(Status::IN_TRANS)
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
        self.initial = Arc::new(self.initial.changed(&[Change::Schema(Some(name.into()))]));
    }

    pub(crate) fn change(&mut self, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        self.state = Arc::new(self.state.changed(changes));
        self.state_is_new();
    }

    fn state_is_new(&mut self) {
        self.lex = self.state.lex_mode(self.lex_default);
        self.limits_idleness = self.state.system("wait_timeout").is_some();
        self.autocommit_is_off = autocommit_is_off(&self.state);
        if self.state.too_large() {
            self.pins.set(PinReason::SessionVariable, true);
        }
    }

    /// Learns from the reply to `statement`, whose text was `sql`.
    pub fn learn(&mut self, statement: &Classified, sql: &[u8], learned: &Learned<'_>) {
        // EXECUTE does what the text that was prepared does.
        if !statement.multi
            && let Some(name) = &statement.effects.text_execute
            && let Some((inner, text)) = self.text_prepared.executed(name, sql, self.lex)
        {
            return self.learn_statement(&inner, &text, learned);
        }
        self.learn_statement(statement, sql, learned);
    }

    fn learn_statement(&mut self, statement: &Classified, sql: &[u8], learned: &Learned<'_>) {
        // What SET STATEMENT, or the hint SET_VAR, sets is set back when its statement ends, and both were tracked. What a function in it changed stays.
        let known = learned.ok && !statement.multi && !statement.effects.opaque;
        let told = known && !learned.is_plain();
        let by_hint = told && self.lex.dialect == Dialect::MySql && has_set_var(statement, sql);
        let for_one = by_hint || told && is_set_statement(statement);
        let state_changed = learned.state_changed && statement.runs_unseen();
        // A trigger, or what a view runs, may have set others.
        let others: Vec<Tracked> = match by_hint {
            true => learned.variables.iter().filter(|(name, _)| !names_in_hint(sql, name)).cloned().collect(),
            false => Vec::new(),
        };
        let set_back = Learned { variables: &others, state_changed, ..*learned };
        let learned = if for_one { &set_back } else { learned };
        self.learn_insert_id(statement, learned);
        // Most statements change nothing, and all that follows would find that out.
        if statement.plain && learned.is_plain() && self.learn_plain(learned.status) {
            return;
        }
        if let Some(status) = learned.status {
            self.status = status;
        }
        self.learn_variables(statement, sql, learned);
        // A SET of a shape that is not known (SET RESOURCE GROUP) has set something.
        let set_unseen = learned.ok && statement.reason == ClassReason::UnknownSet;
        if learned.overflow || set_unseen || self.changed_unseen(statement, learned) {
            self.pins.set(PinReason::Unknown, true);
        }
        // Even a refused statement may have done a part (a multi-statement, a procedure): pins that begin are kept, pins that
        // end must have ended well.
        self.learn_effects(statement, sql, learned);
        self.pins.set(PinReason::Transaction, self.in_transaction());
    }

    /// Learns the flags of the reply to a statement without effects, which told of nothing that has changed; an id that it made was
    /// learned before. `false`: something was to begin with it, and [`Session::learn`] knows more.
    pub fn learn_plain(&mut self, status: Option<Status>) -> bool {
        if self.pending_transaction {
            return false;
        }
        if let Some(status) = status {
            self.status = status;
        }
        self.pins.set(PinReason::FoundRows, false);
        self.pins.set(PinReason::Transaction, self.in_transaction());
        true
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
            || effects.text_deallocate.is_some()
            // ALTER TABLE of a temporary table.
            || statement.class == Class::Ddl && !effects.opaque && self.temporary_tables.any();
        if !learned.ok {
            // An error packet tracks nothing. What does not parse has done nothing.
            return effects.opaque && !ran_nothing(statement, learned.errno);
        }
        // What a function makes beside a variable that the text sets is asked for with the variables.
        learned.state_changed && (effects.opaque || !told_by_text)
    }

    fn with_schema<'a>(&self, table: &'a str) -> std::borrow::Cow<'a, str> {
        match self.state.schema() {
            Some(schema) if !table.contains('.') => format!("{}.{table}", String::from_utf8_lossy(schema)).into(),
            _ => table.into(),
        }
    }

    fn learn_effects(&mut self, statement: &Classified, sql: &[u8], learned: &Learned<'_>) {
        let effects = &statement.effects;
        let ok = learned.ok;
        // A table is its schema and its name, in the case they were written in. Where a list of statements changes the schema nobody knows whose it is.
        let moves = statement.multi && effects.use_schema.is_some();
        if ok && !moves && self.temporary_tables.any() {
            for table in &effects.drops_tables {
                let table = self.with_schema(table);
                self.temporary_tables.remove(&table);
            }
        }
        // Of several statements together nobody knows which came last: what was made may be there.
        for table in &effects.creates_temporary_tables {
            let table = self.with_schema(table);
            self.temporary_tables.add(&table);
            self.temporary_tables.too_many |= moves;
        }
        self.pins.set(PinReason::TemporaryTable, self.temporary_tables.any());

        self.locks.learn(effects, ok, statement.multi);
        self.read_lock = self.locks.stops_writes();
        self.pins.set(PinReason::LockTables, self.locks.any());

        if ok && effects.release_all_locks {
            self.named_locks = NamedLocks::default();
        }
        // What the same text takes may have been taken behind the release: the server is asked.
        if effects.get_lock || effects.release_lock {
            self.named_locks.learn(sql, self.lex, ok);
        }
        self.pins.set(PinReason::NamedLock, self.named_locks.any());

        self.learn_text_prepared(statement, sql, ok);
        self.learn_handlers(statement, sql, ok);
        self.learn_xa(statement, sql, ok);
        if effects.set_role && (ok || statement.multi) {
            self.learn_role(statement, sql);
        }
        if ok && effects.flush_status {
            self.pins.set(PinReason::SessionStatus, true);
        }

        // What SQL_CALC_FOUND_ROWS counted can be asked by the next statement, or never.
        self.pins.set(PinReason::FoundRows, ok && effects.calc_found_rows);

        if ok && (effects.set_transaction == Some(false) || self.sets_next_transaction) {
            self.pending_transaction = true;
        } else if self.pending_transaction && ok && !self.in_transaction() && ends_transaction(statement) {
            self.pending_transaction = false;
        }
        self.sets_next_transaction = false;
        self.pins.set(PinReason::SetTransaction, self.pending_transaction);
    }

    /// The user variables that must be read from the connection before it is given back: nothing else keeps the session there.
    pub fn to_read_back(&self) -> Option<&Unread> {
        (self.unread.readable() && self.pins.only(PinReason::UserVariable)).then_some(&self.unread)
    }

    /// What was read back; `None`: it could not be, and the session stays where they are.
    pub fn read_back(&mut self, values: Option<&[Change]>) {
        match values {
            Some(changes) => {
                self.unread = Unread::default();
                self.pins.set(PinReason::UserVariable, false);
                self.change(changes);
            }
            None => self.unread = Unread::Never,
        }
    }

    /// The open transaction was ended for the client.
    pub fn transaction_ended(&mut self) {
        self.status = self.status - Status::IN_TRANS - Status::IN_TRANS_READONLY;
        self.pins.set(PinReason::Transaction, false);
    }

    /// The connection was lost, and what it held with it.
    pub fn connection_lost(&mut self) {
        self.status = Status(self.status.0 & !(Status::IN_TRANS.0 | Status::IN_TRANS_READONLY.0));
        self.pins = Pins::default();
        self.read_lock = false;
        self.locks = Locks::default();
        self.temporary_tables = Names::default();
        self.text_prepared = TextPrepared::default();
        self.unread = Unread::default();
        self.insert_id = insert_id::InsertId::Known;
        self.handlers = 0;
        self.named_locks = NamedLocks::default();
        self.pending_transaction = false;
    }
}

fn is_set_statement(statement: &Classified) -> bool {
    statement.digest_text.get(..14).is_some_and(|begin| begin.eq_ignore_ascii_case("SET STATEMENT "))
}

/// Whether a failed statement surely did nothing: it does not parse, or names no prepared statement.
pub fn ran_nothing(statement: &Classified, errno: u16) -> bool {
    matches!(Errno(errno), errno::ER_PARSE_ERROR | errno::ER_UNKNOWN_STMT_HANDLER)
        && !statement.multi
        && !statement.effects.calls_procedure
}

/// Whether a statement that ended well outside a transaction has been one by itself, so that what `SET TRANSACTION` said for the
/// next one is used up. One that uses no table may not have been.
fn ends_transaction(statement: &Classified) -> bool {
    let effects = &statement.effects;
    effects.ends_transaction.is_some()
        || effects.implicit_commit
        || statement.reason == ClassReason::WritingStatement
        || (matches!(statement.class, Class::Read | Class::LockingRead) && !statement.tables.is_empty())
}

/// A value of an enumeration, as the server or the client wrote it.
fn is_word(value: &[u8], word: &[u8], number: &[u8]) -> bool {
    let value = value.trim_ascii();
    let value = value.strip_prefix(b"'").and_then(|v| v.strip_suffix(b"'")).unwrap_or(value);
    value.eq_ignore_ascii_case(word) || value == number
}

fn autocommit_is_off(state: &State) -> bool {
    state.system("autocommit").is_some_and(|value| is_word(value, b"OFF", b"0"))
}

mod hint;
mod insert_id;
mod locks;
mod named_locks;
mod several;
mod text_prepared;
mod transaction;
mod variables;

use crate::protocol::errno::{self, Errno};
pub use hint::has_set_var;
use hint::names_in_hint;
use locks::Locks;
use named_locks::NamedLocks;
use text_prepared::TextPrepared;
pub use variables::{Globals, is_tracking};

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
