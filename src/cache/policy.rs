//! May this statement, in this session, be answered from the cache and its result be kept?

use std::fmt;
use std::time::Duration;

use crate::routing::rules::Action;
use crate::session::machine::Session;
use crate::session::pin::PinReason;
use crate::sql::classify::{Classified, Uncacheable};
use crate::sql::hint::{CacheHint, Hint};

/// What the operator has said in `[cache]`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `cache.ttl`: the longest life of an entry.
    pub ttl: Duration,
    /// `cache.default = "all"`: what no rule and no hint speaks of is kept, too.
    pub all: bool,
    /// `cache.refresh_ahead`: a read asks a server again when its result ends within this time; zero: never before it has ended.
    pub refresh_ahead: Duration,
}

/// Why a statement goes past the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bypass {
    /// There is no cache.
    Off,
    /// No hint and no rule asks for it, and `cache.default` is `opt_in`.
    NotAsked,
    /// `/* sluice: nocache */`
    Hint,
    /// A hint names a server.
    HintPlace,
    /// The rule with this number says `nocache`.
    Rule(usize),
    /// The rule with this number names a server, or refuses.
    RulePlace(usize),
    /// The statement itself.
    Statement(Uncacheable),
    /// Called a read, but a read-only server has refused it.
    WritesUnseen,
    /// A transaction is open.
    Transaction,
    /// `autocommit = 0`: it begins a transaction.
    AutocommitOff,
    /// The session is pinned: its connection has something that others have not.
    Pinned(PinReason),
    /// The session reads what others have not committed.
    ReadUncommitted,
    /// `sql_auto_is_null = 1`: what `IS NULL` finds depends on the session's last insert id.
    AutoIsNull,
    /// A cursor, or parameters sent in pieces.
    Form,
    /// The account may not use a schema of it.
    Refused,
    /// Statements wait (`PAUSE`).
    Paused,
    /// The binlog is to be followed and is not.
    Lost,
}

impl fmt::Display for Bypass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Bypass::Off => "off",
            Bypass::NotAsked => "not_asked",
            Bypass::Hint => "hint",
            Bypass::HintPlace => "hint_names_a_server",
            Bypass::Rule(number) => return write!(f, "rule {number}"),
            Bypass::RulePlace(number) => return write!(f, "rule {number} names a server"),
            Bypass::Statement(why) => why.as_str(),
            Bypass::WritesUnseen => "refused_by_replica",
            Bypass::Transaction => "transaction",
            Bypass::AutocommitOff => "autocommit_off",
            Bypass::Pinned(pin) => return write!(f, "pinned: {}", pin.as_str()),
            Bypass::ReadUncommitted => "read_uncommitted",
            Bypass::AutoIsNull => "sql_auto_is_null",
            Bypass::Form => "cursor",
            Bypass::Refused => "schema_not_allowed",
            Bypass::Paused => "paused",
            Bypass::Lost => "binlog_not_followed",
        })
    }
}

/// What the statement, its hint and its rule say; the session apart. The life of its entry, or why it has none. In the order in which
/// routing asks: hint, rule, statement.
///
/// # Errors
/// Why not.
pub fn asked(
    settings: &Settings,
    statement: &Classified,
    hint: Option<&Hint>,
    rule: Option<(usize, &Action)>,
) -> Result<Duration, Bypass> {
    if let Err(why) = statement.cacheable {
        return Err(Bypass::Statement(why));
    }
    if statement.writes_unseen.is_raised() {
        return Err(Bypass::WritesUnseen);
    }
    // What is refused is refused whatever a hint says.
    if let Some((number, Action::Deny)) = rule {
        return Err(Bypass::RulePlace(number));
    }
    match hint.and_then(|hint| hint.cache) {
        Some(CacheHint::No) => return Err(Bypass::Hint),
        Some(CacheHint::Ttl(ttl)) => return Ok(ttl.min(settings.ttl)),
        None => {}
    }
    if hint.is_some_and(|hint| hint.target.is_some()) {
        return Err(Bypass::HintPlace);
    }
    match rule {
        Some((_, Action::Cache)) => Ok(settings.ttl),
        Some((number, Action::NoCache)) => Err(Bypass::Rule(number)),
        Some((number, Action::Master | Action::Replica | Action::Server(_) | Action::Deny)) => Err(Bypass::RulePlace(number)),
        None if settings.all => Ok(settings.ttl),
        None => Err(Bypass::NotAsked),
    }
}

/// Whether the session is one that others' results are right for.
///
/// # Errors
/// Why not.
pub fn session(session: &Session) -> Result<(), Bypass> {
    if session.in_transaction() {
        return Err(Bypass::Transaction);
    }
    if !session.autocommit() {
        return Err(Bypass::AutocommitOff);
    }
    if session.pins.any()
        && let Some(pin) = session.pins.first()
    {
        return Err(Bypass::Pinned(pin));
    }
    if session.state.finds_insert_ids() {
        return Err(Bypass::AutoIsNull);
    }
    if session.state.reads_uncommitted() { Err(Bypass::ReadUncommitted) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::protocol::ok_err_eof::Status;
    use crate::session::state::{Change, State, Value};
    use crate::sql::classify::classify;
    use crate::sql::digest::{DigestBuf, digest};
    use crate::sql::lexer::LexMode;

    fn of(sql: &str, all: bool, rule: Option<&Action>) -> String {
        let mut buffer = DigestBuf::default();
        digest(sql.as_bytes(), LexMode::default(), &mut buffer);
        let settings = Settings { ttl: Duration::from_secs(60), all, refresh_ahead: Duration::ZERO };
        let statement = classify(sql.as_bytes(), LexMode::default());
        match asked(&settings, &statement, buffer.hint.as_ref(), rule.map(|action| (2, action))) {
            Ok(ttl) => format!("{}s", ttl.as_secs()),
            Err(why) => why.to_string(),
        }
    }

    #[test]
    fn who_asks_for_it_and_who_does_not_want_it() {
        let place = Action::Server("db3".to_owned());
        for (sql, all, rule, said) in [
            ("SELECT a FROM t", false, None, "not_asked"),
            ("SELECT a FROM t", true, None, "60s"),
            ("SELECT a FROM t", false, Some(&Action::Cache), "60s"),
            ("SELECT a FROM t", true, Some(&Action::NoCache), "rule 2"),
            ("SELECT a FROM t", true, Some(&place), "rule 2 names a server"),
            ("/* sluice: cache=5s */ SELECT a FROM t", false, None, "5s"),
            ("/* sluice: cache=5s */ SELECT a FROM t", false, Some(&Action::NoCache), "5s"),
            ("/* sluice: cache=5s */ SELECT a FROM t", false, Some(&Action::Deny), "rule 2 names a server"),
            ("/* sluice: cache=5m */ SELECT a FROM t", false, None, "60s"),
            ("/* sluice: nocache */ SELECT a FROM t", true, Some(&Action::Cache), "hint"),
            ("/* sluice: master */ SELECT a FROM t", true, None, "hint_names_a_server"),
            ("/* sluice: master, cache=1s */ SELECT a FROM t", false, None, "1s"),
            ("/* sluice: cache=5s */ SELECT NOW() FROM t", true, None, "time"),
            ("SELECT 1", true, None, "no_tables"),
            ("SELECT a FROM t FOR UPDATE", true, None, "not_a_select"),
            ("UPDATE t SET a = 1", true, None, "not_a_select"),
            ("SELECT f(a) FROM t", true, None, "not_a_select"),
            ("SELECT a, @b FROM t", true, None, "session"),
            ("SELECT table_name FROM information_schema.tables", true, None, "system_schema"),
        ] {
            assert_eq!(of(sql, all, rule), said, "{sql}");
        }
    }

    #[test]
    fn sessions_that_see_what_others_do_not() {
        let fresh = || Session::new(Arc::new(State::default()), LexMode::default());
        assert_eq!(session(&fresh()), Ok(()));
        let mut open = fresh();
        open.status = Status::AUTOCOMMIT | Status::IN_TRANS;
        assert_eq!(session(&open), Err(Bypass::Transaction));
        let mut off = fresh();
        off.status = Status::NONE;
        assert_eq!(session(&off), Err(Bypass::AutocommitOff));
        let mut pinned = fresh();
        pinned.pins.set(PinReason::TemporaryTable, true);
        assert_eq!(session(&pinned), Err(Bypass::Pinned(PinReason::TemporaryTable)));
        for (name, value, refused) in [
            ("transaction_isolation", "READ-UNCOMMITTED", true),
            ("tx_isolation", "'read-uncommitted'", true),
            ("transaction_isolation", "READ-COMMITTED", false),
            ("sql_auto_is_null", "1", true),
            ("sql_auto_is_null", "on", true),
            ("sql_auto_is_null", "0", false),
        ] {
            let value = Value::Literal(value.as_bytes().into());
            let state = State::default().changed(&[Change::System(name.into(), Some(value))]);
            let level = Session::new(Arc::new(state), LexMode::default());
            assert_eq!(session(&level).is_err(), refused, "{name}");
        }
    }
}
