//! Which functions are built in, what calling them does, and on what their value depends. A name that is not in this table and stands before a
//! parenthesis may be a stored or loadable function, and those may do anything.
//!
//! Sources: MySQL 8.4 Reference Manual "Built-In Function and Operator Reference" and "Function Name Parsing and Resolution";
//! MariaDB "Built-in Functions"; and trying each name on both servers (see `table`).

mod table;

use super::lexer::{Dialect, LexMode};

/// What calling a function does beside returning a value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Effect {
    /// Nothing.
    Pure,
    /// Tells the id of the server's connection, which is not the one the client was given.
    ConnectionId,
    /// Reads what the previous statement on the connection left: FOUND_ROWS().
    FoundRows,
    /// Reads what the previous statement on the connection left: ROW_COUNT().
    RowCount,
    /// LAST_INSERT_ID(): reads the connection's value, or sets it when called with an argument.
    LastInsertId,
    /// Takes a lock.
    GetLock,
    /// Releases a lock.
    ReleaseLock,
    /// Releases all locks.
    ReleaseAllLocks,
    /// Asks about locks, which are only known to the server that holds them.
    LockState,
    /// Reads or moves a sequence.
    Sequence,
    /// Does nothing but take time: SLEEP, BENCHMARK. Not called reads: nobody wants the answer, and a retry would wait twice.
    Delays,
    /// Depends on the one server's files or counters, or moves the counter.
    ServerState,
    /// Waits for replication, which means something on one server only.
    Waits,
}

impl Effect {
    /// May a statement with this function be called a read?
    pub fn is_read(self) -> bool {
        matches!(self, Effect::Pure | Effect::ConnectionId | Effect::FoundRows | Effect::RowCount | Effect::LastInsertId)
    }
}

/// On what the value depends beside the arguments and the tables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Volatility {
    /// On nothing (session variables such as `time_zone` apart; they belong into a cache key).
    Deterministic,
    /// On the session: who is logged in, which schema.
    Session,
    /// On which server answers.
    Server,
    /// On the clock.
    Time,
    /// On chance.
    Random,
}

/// Whose built-in a name is, in the oldest supported version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Families {
    Both,
    MySql,
    MariaDb,
}

/// Where the parenthesis must stand for the name to mean the built-in, without IGNORE_SPACE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Spacing {
    Anywhere,
    Adjacent,
}

struct Group {
    effect: Effect,
    volatility: Volatility,
    families: Families,
    spacing: Spacing,
    names: &'static [&'static str],
}

/// A built-in function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Builtin {
    /// Its name, upper case.
    pub name: &'static str,
    /// What calling it does.
    pub effect: Effect,
    /// On what its value depends.
    pub volatility: Volatility,
}

/// Longest name in the table, bytes; anything longer is not built in.
pub const MAX_NAME_BYTES: usize = 40;

/// Looks up an unquoted name that stands before a parenthesis. `space`: something stands between the name and the parenthesis.
pub fn lookup(name: &[u8], space: bool, mode: LexMode) -> Option<Builtin> {
    let mut buffer = [0u8; MAX_NAME_BYTES];
    let upper = upper_case(name, &mut buffer)?;
    for group in table::GROUPS {
        let Ok(at) = group.names.binary_search_by(|known| known.as_bytes().cmp(upper)) else { continue };
        let ours = match group.families {
            Families::Both => true,
            Families::MySql => mode.dialect == Dialect::MySql,
            Families::MariaDb => mode.dialect == Dialect::MariaDb,
        };
        let meant = group.spacing == Spacing::Anywhere || !space || mode.ignore_space;
        // What must not be called a read stays so under every reading of the name.
        if !(ours && meant) && group.effect.is_read() {
            return None;
        }
        return group.names.get(at).map(|name| Builtin { name, effect: group.effect, volatility: group.volatility });
    }
    None
}

/// The volatility of names that are functions without a parenthesis (`CURRENT_TIMESTAMP`, `CURRENT_USER`, `UTC_DATE`).
pub fn parenless(name: &[u8]) -> Option<Volatility> {
    const TIME: [&str; 8] = [
        "CURRENT_DATE",
        "CURRENT_TIME",
        "CURRENT_TIMESTAMP",
        "LOCALTIME",
        "LOCALTIMESTAMP",
        "UTC_DATE",
        "UTC_TIME",
        "UTC_TIMESTAMP",
    ];
    const SESSION: [&str; 2] = ["CURRENT_USER", "CURRENT_ROLE"];
    let is = |known: &&str| name.eq_ignore_ascii_case(known.as_bytes());
    if TIME.iter().any(is) {
        Some(Volatility::Time)
    } else if SESSION.iter().any(is) {
        Some(Volatility::Session)
    } else if name.eq_ignore_ascii_case(b"ROWNUM") || name.eq_ignore_ascii_case(b"SYSDATE") {
        // Oracle mode of MariaDB.
        Some(Volatility::Random)
    } else {
        None
    }
}

/// The word in upper case, or `None` when it does not fit.
pub(crate) fn upper_case<'a>(word: &[u8], buffer: &'a mut [u8; MAX_NAME_BYTES]) -> Option<&'a [u8]> {
    let target = buffer.get_mut(..word.len())?;
    target.copy_from_slice(word);
    target.make_ascii_uppercase();
    Some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_is_sorted_and_every_name_stands_once() {
        let mut all = Vec::new();
        for group in table::GROUPS {
            assert!(group.names.is_sorted(), "{:?}", group.names);
            assert!(group.names.iter().all(|name| name.len() <= MAX_NAME_BYTES));
            all.extend_from_slice(group.names);
        }
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn who_knows_which_name() {
        let modes = [Dialect::Either, Dialect::MySql, Dialect::MariaDb].map(|dialect| LexMode { dialect, ..LexMode::default() });
        // name, space before the parenthesis, known to: either, MySQL, MariaDB
        let table = [
            ("concat", false, [true, true, true]),
            ("CONCAT", true, [true, true, true]),
            ("count", false, [true, true, true]),
            ("count", true, [false, false, false]),
            ("md5", false, [false, false, true]),
            ("uuid_to_bin", false, [false, true, false]),
            ("regexp_like", false, [false, true, false]),
            ("to_char", false, [false, false, true]),
            ("get_lock", true, [true, true, true]),
            ("nextval", false, [true, true, true]),
            ("my_function", false, [false, false, false]),
            ("", false, [false, false, false]),
        ];
        for (name, space, expected) in table {
            assert_eq!(modes.map(|mode| lookup(name.as_bytes(), space, mode).is_some()), expected, "{name} space={space}");
        }
        let ignore_space = LexMode { ignore_space: true, ..LexMode::default() };
        assert!(lookup(b"count", true, ignore_space).is_some());
    }

    #[test]
    fn what_must_not_be_called_a_read() {
        let table = [
            "GET_LOCK",
            "RELEASE_LOCK",
            "RELEASE_ALL_LOCKS",
            "IS_FREE_LOCK",
            "IS_USED_LOCK",
            "NEXTVAL",
            "LASTVAL",
            "SETVAL",
            "SLEEP",
            "BENCHMARK",
            "MASTER_POS_WAIT",
            "SOURCE_POS_WAIT",
            "MASTER_GTID_WAIT",
            "WAIT_FOR_EXECUTED_GTID_SET",
            "LOAD_FILE",
            "UUID_SHORT",
        ];
        for name in table {
            assert!(lookup(name.as_bytes(), false, LexMode::default()).is_some_and(|found| !found.effect.is_read()), "{name}");
        }
    }
}
