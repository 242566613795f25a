//! The state of a session that must stand on a server connection before a statement may run there: schema, system
//! variables, user variables.
//!
//! A session has the state its client built up ("want"); a connection has the state it was last brought to ("have").
//! [`State::restore`] says what to send so that have becomes want, and nothing when they are the same. States are shared
//! as `Arc<State>`: a connection that served this session last time is recognised by pointer.
//!
//! Values come from two sources. What the server tracked in its OK packet (the manual's "Server Tracking of Client Session
//! State") is the truth. Where a server does not track a variable, the literal the client wrote stands for it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, Hasher};

pub use super::collation::charset_of_collation;
use crate::protocol::Capabilities;
use crate::sql::lexer::{ByteCharset, LexMode};

mod encode;
mod interner;
mod names;

pub use encode::put;
pub use interner::Interner;
pub use names::NAMES;

/// How a value is written into the `SET` that restores it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Value {
    /// As the server reported it: quoted unless it is a number.
    Reported(Box<[u8]>),
    /// SQL text of a literal, as the client wrote it.
    Literal(Box<[u8]>),
}

/// `transaction_read_only` by its names; MariaDB has had the first alone before 11.1.
pub const READ_ONLY: [&str; 2] = ["tx_read_only", "transaction_read_only"];
/// The isolation level by its names; MariaDB has had the first alone before 11.1.
const ISOLATION: [&str; 2] = ["tx_isolation", "transaction_isolation"];
/// The system variables that a server reads when it prepares a statement rather than when it executes it: how its text is read, and what
/// MySQL works out of its constants, types and precisions once and for all.
const PREPARE_DEPENDS_ON: [&str; 15] = [
    "sql_mode",
    "character_set_client",
    "character_set_connection",
    "collation_connection",
    "time_zone",
    "default_week_format",
    "div_precision_increment",
    "group_concat_max_len",
    "lc_time_names",
    "default_collation_for_utf8mb4",
    "windowing_use_high_precision",
    "sql_auto_is_null",
    "explicit_defaults_for_timestamp",
    "character_set_collations",
    "old_mode",
];
/// Variables whose NULL is told as an empty value, which they do not take.
const NULL_WHEN_EMPTY: [&str; 5] = [
    "character_set_results",
    "innodb_tmpdir",
    "default_tmp_storage_engine",
    "enforce_storage_engine",
    "innodb_ft_user_stopword_table",
];
/// More than this many variables a session cannot take along; it is pinned to its connection instead.
pub const VARIABLES_MAX: usize = 256;
/// More bytes than this in all variables a session cannot take along either.
pub const STATE_BYTES_MAX: usize = 128 * 1024;
/// User variables longer than this (name and value) are not taken along; the session is pinned instead.
pub const USER_VARIABLE_BYTES_MAX: usize = 4096;

/// Schema and variables of one session or one connection.
#[derive(Clone, Debug, Default)]
pub struct State {
    schema: Option<Box<[u8]>>,
    /// System variables that differ from what a fresh connection has, by lower-case name.
    system: BTreeMap<Box<str>, Value>,
    /// User variables by lower-case name.
    user: BTreeMap<Box<str>, Value>,
    /// The collation of results where `SET NAMES .. COLLATE` or the login gave one; else it is the default of their charset.
    results_collation: Option<Box<str>>,
    /// What `SET ROLE` named, as written; `None`: the roles of a fresh connection.
    role: Option<Box<str>>,
    /// What follows from all of it, worked out once.
    hash: u64,
    bytes: usize,
    uncommitted: bool,
    /// See [`State::finds_insert_ids`].
    finds_ids: bool,
}

impl PartialEq for State {
    fn eq(&self, other: &State) -> bool {
        self.hash == other.hash
            && self.schema == other.schema
            && self.system == other.system
            && self.user == other.user
            && self.results_collation == other.results_collation
            && self.role == other.role
    }
}

/// What to send, in this order, so that a connection comes to the wanted state. Each part is one command.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Restore {
    /// `SET ROLE` for a `COM_QUERY`; first, because what follows may need its privileges.
    pub role: Option<Vec<u8>>,
    /// Name for a `COM_INIT_DB`.
    pub schema: Option<Box<[u8]>>,
    /// `SET` of system variables for a `COM_QUERY`.
    pub system: Option<Vec<u8>>,
    /// `SET` of user variables for a `COM_QUERY`; apart, because it must be read in the charset that the first one brought.
    pub user: Option<Vec<u8>>,
    /// The connection must be reset first: it has a schema, or roles that were set, and the session has none, which no statement
    /// can bring about.
    pub impossible: bool,
}

impl Restore {
    /// Nothing needs to be sent.
    pub fn is_empty(&self) -> bool {
        self.role.is_none() && self.schema.is_none() && self.system.is_none() && self.user.is_none()
    }
}

impl State {
    /// The state of a connection that was opened with this collation, without a schema.
    pub fn with_collation(id: u16, mariadb: bool) -> State {
        let names = charset_of_collation(id, mariadb);
        State::at_login(None, names.as_ref().map(|(charset, collation)| (charset.as_str(), collation.as_str())))
    }

    /// The state right after login: a schema or none, and the four charset variables that the handshake's collation brings
    /// (names, where the collation is known; see [`charset_of_collation`]).
    pub fn at_login(schema: Option<&[u8]>, collation: Option<(&str, &str)>) -> State {
        let mut state = State { schema: schema.map(Into::into), ..State::default() };
        if let Some((charset, collation)) = collation {
            for name in ["character_set_client", "character_set_connection", "character_set_results"] {
                state.system.insert(name.into(), Value::Reported(charset.as_bytes().into()));
            }
            state.system.insert("collation_connection".into(), Value::Reported(collation.as_bytes().into()));
            state.results_collation = Some(collation.into());
        }
        state.rehash();
        state
    }

    /// The current schema.
    pub fn schema(&self) -> Option<&[u8]> {
        self.schema.as_deref()
    }

    /// What `SET ROLE` named last.
    pub fn role(&self) -> Option<&str> {
        self.role.as_deref()
    }

    /// A system variable's value when it was changed in this session, as text.
    pub fn system(&self, name: &str) -> Option<&[u8]> {
        self.system.get(name).map(Value::bytes)
    }

    /// Whether a system variable has just this value.
    pub fn has_system(&self, name: &str, value: &Value) -> bool {
        self.system.get(name) == Some(value)
    }

    /// The value of a system variable, as a `SET` that restores it writes it.
    pub fn system_sql(&self, name: &str) -> Option<Vec<u8>> {
        self.system.get(name).map(|value| value.sql(name))
    }

    /// Whether the user variable (lower-case name) is one that is taken along.
    pub fn has_user(&self, name: &str) -> bool {
        self.user.contains_key(name)
    }

    /// Whether a variable of these has no value here.
    pub fn lacks_user(&self, names: &[String]) -> bool {
        names.iter().any(|name| !self.user.contains_key(name.as_str()))
    }

    /// This state with other contents.
    #[must_use]
    pub fn changed(&self, changes: &[Change]) -> State {
        let mut state = self.clone();
        let full = self.too_large();
        for change in changes {
            match change.clone() {
                Change::Schema(name) => state.schema = name,
                Change::System(name, Some(value)) => {
                    // A charset's default collation comes with it; an explicit one follows in `changes`.
                    if &*name == "character_set_connection" {
                        state.system.remove("collation_connection");
                    }
                    if &*name == "collation_connection"
                        && !state.system("character_set_connection").is_some_and(|charset| names::belongs(value.bytes(), charset))
                    {
                        state.system.remove("character_set_connection");
                    }
                    if &*name == "character_set_results" {
                        state.results_collation = None;
                    }
                    state.system.insert(name, value);
                }
                Change::System(name, None) => {
                    if &*name == "character_set_results" {
                        state.results_collation = None;
                    }
                    state.system.remove(&name);
                }
                Change::ResultsCollation(collation) => state.results_collation = collation,
                Change::NoNames => {
                    state.results_collation = None;
                    state.system.retain(|name, _| !NAMES.contains(&&**name));
                }
                // One that has grown too large stays on its connection, where all of them are.
                Change::User(name, _) if full && !state.user.contains_key(&name) => {}
                Change::User(name, value) => {
                    state.user.insert(name, value);
                }
                Change::Role(role) => state.role = role,
            }
        }
        state.rehash();
        state
    }

    /// Whether it has grown past what a session may take along.
    pub fn too_large(&self) -> bool {
        self.system.len() + self.user.len() > VARIABLES_MAX || self.bytes > STATE_BYTES_MAX
    }

    /// Whether a statement prepared in one of the two means the same as prepared in the other.
    pub fn prepares_like(&self, other: &State) -> bool {
        std::ptr::eq(self, other)
            || self.schema == other.schema
                && PREPARE_DEPENDS_ON.iter().all(|name| self.system.get(*name) == other.system.get(*name))
    }

    /// This state with what a statement depends on when it is prepared as it was in `prepared`. Nothing else is of that time: to set
    /// `autocommit` back would end the session's transaction, and a user variable would lose what it has been given since.
    pub fn preparing_like(&self, prepared: &State) -> State {
        let mut state = self.clone();
        state.schema.clone_from(&prepared.schema);
        state.results_collation.clone_from(&prepared.results_collation);
        for name in PREPARE_DEPENDS_ON.iter().chain(&NAMES) {
            match prepared.system.get(*name) {
                Some(value) => state.system.insert((*name).into(), value.clone()),
                None => state.system.remove(*name),
            };
        }
        state.rehash();
        state
    }

    /// Bytes it takes, roughly.
    pub fn heap_bytes(&self) -> usize {
        self.bytes
    }

    fn count_bytes(&self) -> usize {
        const EACH: usize = 64;
        let all = self.system.iter().chain(&self.user);
        all.map(|(name, value)| name.len() + value.bytes().len() + EACH).sum::<usize>()
            + self.schema.as_ref().map_or(0, |s| s.len())
            + self.role.as_ref().map_or(0, |role| role.len())
    }

    /// Equal or not, told from the hash alone where that suffices.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Whether its transactions read what others have not committed (`READ UNCOMMITTED`).
    pub fn reads_uncommitted(&self) -> bool {
        self.uncommitted
    }

    /// Whether `WHERE id IS NULL` finds the row that it has inserted last (`sql_auto_is_null`).
    pub fn finds_insert_ids(&self) -> bool {
        self.finds_ids
    }

    fn rehash(&mut self) {
        let mut hasher = foldhash::fast::FixedState::with_seed(0x51).build_hasher();
        self.schema.hash(&mut hasher);
        self.system.hash(&mut hasher);
        self.user.hash(&mut hasher);
        self.results_collation.hash(&mut hasher);
        self.role.hash(&mut hasher);
        self.hash = hasher.finish();
        self.bytes = self.count_bytes();
        let is_null = self.system("sql_auto_is_null").unwrap_or_default();
        self.finds_ids = is_null == b"1" || is_null.eq_ignore_ascii_case(b"ON") || is_null.eq_ignore_ascii_case(b"TRUE");
        self.uncommitted = ISOLATION.iter().any(|name| {
            let level = self.system(name).unwrap_or_default();
            level == b"0" || level.windows(11).any(|part| part.eq_ignore_ascii_case(b"UNCOMMITTED"))
        });
    }

    /// What brings a connection in state `self` to `want`.
    pub fn restore(&self, want: &State) -> Restore {
        self.restore_after(want, Capabilities::NONE)
    }

    /// The same for a connection whose login had these capabilities.
    pub fn restore_after(&self, want: &State, login: Capabilities) -> Restore {
        let mut restore = Restore::default();
        if std::ptr::eq(self, want) || self == want {
            return restore;
        }
        if self.schema != want.schema {
            restore.impossible = want.schema.is_none();
            restore.schema.clone_from(&want.schema);
        }
        if self.role != want.role {
            restore.impossible |= want.role.is_none();
            restore.role = want.role.as_ref().map(|role| format!("SET ROLE {role}").into_bytes());
        }
        let mut set = Vec::new();
        for name in self.system.keys().filter(|name| !want.system.contains_key(*name) && !NAMES.contains(&&***name)) {
            assignment(&mut set, name, &default_of(name, login));
        }
        names::put(self, want, &mut set);
        for (name, value) in want.system.iter().filter(|(name, _)| !NAMES.contains(&&***name)) {
            if self.system.get(name) != Some(value) {
                assignment(&mut set, name, &value.sql(name));
            }
        }
        if !set.is_empty() {
            restore.system = Some(set);
        }
        let mut set = Vec::new();
        for name in self.user.keys().filter(|name| !want.user.contains_key(*name)) {
            assignment(&mut set, &user_name(name), b"NULL");
        }
        for (name, value) in &want.user {
            if self.user.get(name) != Some(value) {
                assignment(&mut set, &user_name(name), &value.sql(name));
            }
        }
        if !set.is_empty() {
            restore.user = Some(set);
        }
        restore
    }

    /// What brings a connection in state `self` to the role and the variables of `want`, each by a command of its own, with the change that gives it up.
    /// The charsets and the schema are not among them.
    pub fn alone(&self, want: &State) -> Vec<(Vec<u8>, Change)> {
        let mut parts = Vec::new();
        if let Some(role) = want.role.as_ref().filter(|_| self.role != want.role) {
            parts.push((format!("SET ROLE {role}").into_bytes(), Change::Role(None)));
        }
        for (name, value) in want.system.iter().filter(|(name, _)| !NAMES.contains(&&***name)) {
            if self.system.get(name) != Some(value) {
                let mut set = Vec::new();
                assignment(&mut set, name, &value.sql(name));
                parts.push((set, Change::System(name.clone(), None)));
            }
        }
        parts
    }

    /// How the lexer must read statements of this session. `default` is the server's own mode, for what the session has not set.
    pub fn lex_mode(&self, default: LexMode) -> LexMode {
        let mut mode = default;
        if let Some(sql_mode) = self.system("sql_mode") {
            mode = LexMode::from_sql_mode(&String::from_utf8_lossy(sql_mode), mode.charset, mode.dialect);
        }
        if let Some(charset) = self.system("character_set_client") {
            let text = String::from_utf8_lossy(charset).to_ascii_lowercase();
            mode.charset = ByteCharset::from_name(text.trim_matches(|c| c == '\'' || c == '"'));
        }
        mode
    }
}

/// One change of a session's state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// The current schema, or none.
    Schema(Option<Box<[u8]>>),
    /// A system variable; `None` returns it to what a fresh connection has.
    System(Box<str>, Option<Value>),
    /// A user variable.
    User(Box<str>, Value),
    /// What `SET ROLE` named, as written.
    Role(Option<Box<str>>),
    /// The collation that `SET NAMES` gave to results, beside that of the connection.
    ResultsCollation(Option<Box<str>>),
    /// The charset variables are those of a fresh connection.
    NoNames,
}

impl Value {
    fn bytes(&self) -> &[u8] {
        match self {
            Value::Reported(bytes) | Value::Literal(bytes) => bytes,
        }
    }

    fn sql(&self, name: &str) -> Vec<u8> {
        match self {
            Value::Literal(text) => text.to_vec(),
            Value::Reported(bytes) => {
                if bytes.is_empty() && NULL_WHEN_EMPTY.contains(&name) {
                    return b"NULL".to_vec();
                }
                // MariaDB tells the word, and takes it as a word only.
                if &**bytes == b"DEFAULT" && name == "system_versioning_asof" {
                    return b"DEFAULT".to_vec();
                }
                let number = !bytes.is_empty()
                    && bytes.iter().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-'))
                    && bytes.iter().any(u8::is_ascii_digit)
                    && !bytes.iter().skip(1).any(|b| *b == b'-')
                    && bytes.iter().filter(|b| **b == b'.').count() <= 1;
                if number {
                    return bytes.to_vec();
                }
                let plain = bytes.iter().all(|b| (0x20..0x7f).contains(b) && !matches!(b, b'\\' | b'\''));
                if plain {
                    let mut text = Vec::with_capacity(bytes.len() + 2);
                    text.push(b'\'');
                    text.extend_from_slice(bytes);
                    text.push(b'\'');
                    return text;
                }
                // No quoting rule holds in every sql_mode and charset; hexadecimal does.
                let mut text = b"x'".to_vec();
                for byte in bytes {
                    text.extend_from_slice(format!("{byte:02x}").as_bytes());
                }
                text.push(b'\'');
                text
            }
        }
    }
}

fn user_name(name: &str) -> String {
    format!("@`{}`", name.replace('`', "``"))
}

/// What a session begins with. MySQL 9.7 takes `DEFAULT` for OFF where a variable is kept the other way round inside, whatever its global value.
/// Two variables begin with what the login says, and `DEFAULT` does not know of it.
fn default_of(name: &str, login: Capabilities) -> Cow<'static, [u8]> {
    match name {
        "foreign_key_checks" | "unique_checks" => Cow::Owned(format!("@@GLOBAL.{name}").into_bytes()),
        "sql_mode" if login.has(Capabilities::IGNORE_SPACE) => {
            Cow::Borrowed(b"CONCAT_WS(',',NULLIF(@@GLOBAL.sql_mode,''),'IGNORE_SPACE')")
        }
        "wait_timeout" if login.has(Capabilities::INTERACTIVE) => Cow::Borrowed(b"@@GLOBAL.interactive_timeout"),
        _ => Cow::Borrowed(b"DEFAULT"),
    }
}

fn assignment(set: &mut Vec<u8>, name: &str, value: &[u8]) {
    set.extend_from_slice(if set.is_empty() { b"SET " } else { b"," });
    set.extend_from_slice(name.as_bytes());
    set.push(b'=');
    set.extend_from_slice(value);
}

#[cfg(test)]
mod tests;
