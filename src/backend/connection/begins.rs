//! What a session begins with on a new connection that its login does not name: `autocommit` as the server is configured, its `sql_mode` where that
//! decides how statements are read, and what its `init_connect` has set for the account.
//!
//! Asked along with the first command, because the status flags do not tell: MySQL's say that statements commit by themselves until a session
//! sets it. Only where there is an `init_connect` at all another question tells what it did: of the variables below those that are not what the
//! server's own are, and the charsets. User variables, roles and temporary tables that it made are not looked for.
//!
//! Source: MySQL 8.4 Reference Manual, "Server System Variables", `init_connect` (accounts with CONNECTION_ADMIN are spared); MariaDB likewise.

use std::sync::Arc;
use std::time::Duration;

use super::{CommandError, Connection};
use crate::protocol::Capabilities;
use crate::protocol::result_set::{Answer, MAX_DECODED_BYTES, decode};
use crate::session::state::{Change, NAMES, State, Value};
use crate::topology::Flavor;

/// Goes out with the first command of a connection.
pub(super) const QUESTION: &str = "SELECT @@session.autocommit, @@global.init_connect, @@global.sql_mode, @@global.net_write_timeout, @@global.net_read_timeout, \
     @@session.wait_timeout LIMIT 1";

/// Servers' own `net_write_timeout` and `net_read_timeout` where nobody configures others.
pub const NET_TIMEOUTS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(30));

/// Servers' own `wait_timeout` where nobody configures another.
const WAIT_TIMEOUT: Duration = Duration::from_secs(28_800);
/// How long before the end of its `wait_timeout` a connection is not handed out any more.
const WAIT_MARGIN: Duration = Duration::from_secs(2);

/// How long a connection may be idle and be handed out still.
fn idle_limit(wait_timeout: Duration) -> Duration {
    wait_timeout.saturating_sub(WAIT_MARGIN).max(wait_timeout / 2)
}

/// Modes in which statements read otherwise. Only servers with one of them tell theirs: then it stands in the state of each session, and so
/// the lexer knows it.
const LEXED_MODES: [&[u8]; 2] = [b"ANSI_QUOTES", b"NO_BACKSLASH_ESCAPES"];

/// Whether statements read otherwise in this `sql_mode` than in the usual ones.
fn reads_otherwise(sql_mode: &[u8]) -> bool {
    sql_mode.split(|b| *b == b',').any(|mode| LEXED_MODES.contains(&mode))
}

/// Variables that an `init_connect` may set, beside the charsets; of both families, with values that can be set as they are read.
const VARIABLES: [&str; 20] = [
    "sql_mode",
    "time_zone",
    "foreign_key_checks",
    "unique_checks",
    "sql_safe_updates",
    "sql_select_limit",
    "max_join_size",
    "sql_auto_is_null",
    "sql_big_selects",
    "sql_notes",
    "sql_quote_show_create",
    "group_concat_max_len",
    "innodb_lock_wait_timeout",
    "lock_wait_timeout",
    "net_read_timeout",
    "net_write_timeout",
    "lc_time_names",
    "div_precision_increment",
    "default_storage_engine",
    "optimizer_switch",
];
/// Those whose names the families do not share.
const OF_MARIADB: [&str; 3] = ["tx_isolation", "tx_read_only", "max_statement_time"];
const OF_MYSQL: [&str; 3] = ["transaction_isolation", "transaction_read_only", "max_execution_time"];

type Row = Vec<Option<Vec<u8>>>;

/// The one row of an answer; `None` for anything else.
fn row(reply: &[u8], capabilities: Capabilities) -> Option<Row> {
    match decode(reply, capabilities, MAX_DECODED_BYTES) {
        Ok((Answer::Rows(rows), _)) => rows.rows.into_iter().next(),
        _ => None,
    }
}

fn own_names(flavor: Flavor) -> impl Iterator<Item = &'static str> {
    let more = match flavor {
        Flavor::MariaDb => OF_MARIADB,
        Flavor::MySql => OF_MYSQL,
    };
    VARIABLES.into_iter().chain(more)
}

fn details_question(flavor: Flavor) -> String {
    let pairs = own_names(flavor).map(|name| format!("@@session.{name},@@global.{name}"));
    let charsets = NAMES.iter().map(|name| format!("@@session.{name}"));
    format!("SELECT {} LIMIT 1", pairs.chain(charsets).collect::<Vec<_>>().join(","))
}

fn is_off(cell: Option<&Option<Vec<u8>>>) -> bool {
    matches!(cell, Some(Some(value)) if value == b"0" || value.eq_ignore_ascii_case(b"OFF"))
}

fn set(name: &str, value: &[u8]) -> Change {
    Change::System(name.into(), Some(Value::Reported(value.into())))
}

/// What the answer to [`details_question`] says.
fn details(flavor: Flavor, row: &Row) -> Vec<Change> {
    let (pairs, charsets) = row.split_at(row.len().saturating_sub(NAMES.len()));
    let differ = own_names(flavor).zip(pairs.chunks_exact(2)).filter_map(|(name, pair)| match pair {
        [Some(session), global] if Some(session) != global.as_ref() => Some(set(name, session)),
        _ => None,
    });
    // The collation last: a charset takes it away. They are told whether they differ from the login's or not, because others log in with others.
    let names = NAMES.iter().zip(charsets).map(|(name, value)| set(name, value.as_deref().unwrap_or_default()));
    differ.chain(names).collect()
}

impl Connection {
    /// Takes the answer to [`QUESTION`], and asks further where there is more to know. Brings [`Connection::have`] in line.
    ///
    /// # Errors
    /// See [`Connection::command`].
    pub(super) async fn learn_beginning(&mut self, reply: &[u8]) -> Result<(), CommandError> {
        // An account whose password is expired is told nothing.
        let Some(answer) = row(reply, self.capabilities) else { return Ok(()) };
        let mut begins = Vec::new();
        if is_off(answer.first()) {
            begins.push(set("autocommit", b"OFF"));
        }
        let seconds = |at: usize, usual: Duration| {
            let cell = answer.get(at).and_then(|cell| std::str::from_utf8(cell.as_deref()?).ok()?.parse().ok());
            cell.map_or(usual, Duration::from_secs)
        };
        self.net_timeouts = (seconds(3, NET_TIMEOUTS.0), seconds(4, NET_TIMEOUTS.1));
        self.idle_limit = Some(idle_limit(seconds(5, WAIT_TIMEOUT)));
        let runs_something = matches!(answer.get(1), Some(Some(text)) if !text.trim_ascii().is_empty());
        // The server's own stands before what `init_connect` made of it.
        if let Some(Some(mode)) = answer.get(2)
            && (runs_something || reads_otherwise(mode))
        {
            let mut mode = mode.clone();
            if self.key.capabilities.has(Capabilities::IGNORE_SPACE) {
                mode.extend_from_slice(if mode.is_empty() { b"IGNORE_SPACE" } else { b",IGNORE_SPACE" });
            }
            begins.push(set("sql_mode", &mode));
        }
        if runs_something {
            let reply = self.raw_reply(details_question(self.flavor).as_bytes()).await?;
            if let Some(row) = row(&reply, self.capabilities) {
                begins.extend(details(self.flavor, &row));
            }
        }
        if !begins.is_empty() {
            self.have = Arc::new(with(&self.have, &begins));
        }
        self.begins = begins.into();
        Ok(())
    }
}

/// Of what a session begins with, what is the server's own: a reset, which runs no `init_connect`, comes back to that.
pub fn own(begins: &[Change]) -> Vec<Change> {
    let of = |wanted: &str| begins.iter().find(|change| matches!(change, Change::System(name, _) if **name == *wanted));
    ["autocommit", "sql_mode"].into_iter().filter_map(of).cloned().collect()
}

/// The state with these changes; where they change no charset it keeps what its login gave its results.
pub fn with(state: &State, begins: &[Change]) -> State {
    let news = |change: &&Change| match change {
        Change::System(name, Some(value)) => !(NAMES.contains(&&**name) && state.has_system(name, value)),
        _ => true,
    };
    let news: Vec<Change> = begins.iter().filter(news).cloned().collect();
    if news.is_empty() { state.clone() } else { state.changed(&news) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(values: &[&str]) -> Row {
        values.iter().map(|value| (*value != "NULL").then(|| value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn what_differs_from_the_servers_own_and_the_charsets() {
        let mut values = vec!["1"; 2 * own_names(Flavor::MySql).count()];
        values[0] = "ANSI_QUOTES";
        values.extend(["utf8mb4", "utf8mb4", "NULL", "utf8mb4_bin"]);
        let changes = details(Flavor::MySql, &cells(&values));
        assert_eq!(changes.len(), 5, "{changes:?}");
        let state = with(&State::at_login(None, Some(("latin1", "latin1_swedish_ci"))), &changes);
        assert_eq!(state.system("sql_mode"), Some(&b"ANSI_QUOTES"[..]));
        assert_eq!(state.system("character_set_results"), Some(&b""[..]));
        assert_eq!(state.system("collation_connection"), Some(&b"utf8mb4_bin"[..]));
        assert_eq!(state.system("character_set_connection"), Some(&b"utf8mb4"[..]));
    }

    #[test]
    fn a_connection_is_used_until_shortly_before_its_server_closes_it() {
        for (wait_timeout, limit) in [(28_800_000, 28_798_000), (3000, 1500), (1000, 500)] {
            assert_eq!(idle_limit(Duration::from_millis(wait_timeout)), Duration::from_millis(limit));
        }
    }

    #[test]
    fn charsets_that_the_login_named_as_well_change_nothing() {
        let login = State::at_login(None, Some(("utf8mb4", "utf8mb4_general_ci")));
        let begins = [set("character_set_client", b"utf8mb4"), set("collation_connection", b"utf8mb4_general_ci")];
        assert!(with(&login, &begins) == login);
        assert!(with(&login, &[set("autocommit", b"OFF")]) != login);
    }

    #[test]
    fn each_variable_is_asked_with_the_servers_own() {
        let question = details_question(Flavor::MariaDb);
        assert!(question.starts_with("SELECT @@session.sql_mode,@@global.sql_mode,"), "{question}");
        assert!(question.ends_with(",@@session.collation_connection LIMIT 1"), "{question}");
        assert!(question.contains("tx_isolation") && !question.contains("transaction_isolation"));
    }
}
