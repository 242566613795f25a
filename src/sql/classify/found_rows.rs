//! What `FOUND_ROWS()` says behind a statement. Source: MySQL 8.4 Reference Manual, "Information Functions"; where it is silent, the
//! servers (MariaDB 10.11, MySQL 9.7).

use super::verdict::{Class, ClassReason, Verdict};
use crate::sql::lexer::Dialect;

const OFFSET: &[u8] = b"OFFSET";
/// How a digest ends whose LIMIT goes past rows.
const SKIPS: [&[u8]; 2] = [b"LIMIT ?, ?", b"LIMIT ? OFFSET ?"];

/// See the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FoundRows {
    /// The number of rows that it sent.
    Sent,
    /// Those and the ones that its LIMIT went past, which [`skipped`] reads from the statement.
    SentAndSkipped,
    /// What it said before.
    Left,
    /// Another number, which the connection has to be asked for: a query inside another statement, a UNION with a LIMIT, a call.
    Counted,
}

impl FoundRows {
    /// By a statement's digest and what is known of it.
    pub(super) fn behind(text: &[u8], verdict: &Verdict, dialect: Dialect) -> FoundRows {
        let has = |word: &[u8]| text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
        // What a function in it counts is its own.
        let calls = matches!(verdict.reason, ClassReason::UnknownFunction(_) | ClassReason::FunctionWithEffect(_));
        let query = calls && !verdict.multi && !verdict.effects.opaque && starts_with(text, b"SELECT ") && !has(b"INTO");
        match (verdict.class, &verdict.reason) {
            (Class::Read, ClassReason::Show) if is_no_query(text) => FoundRows::Left,
            (Class::Read, ClassReason::Help) => FoundRows::Left,
            // MariaDB's ANALYZE executes the query. An EXPLAIN that has nothing to look up leaves 0 there, and all others what was.
            (Class::Read, ClassReason::Explain) if dialect == Dialect::MariaDb && has(b"ANALYZE") => FoundRows::Counted,
            (Class::Read, ClassReason::Explain) => FoundRows::Left,
            (Class::Read, ClassReason::Do) if dialect == Dialect::MariaDb => FoundRows::Left,
            (Class::Read, ClassReason::Do) => FoundRows::Counted,
            (class, _) if query || matches!(class, Class::Read | Class::LockingRead) => {
                let combined = has(b"UNION") || has(b"INTERSECT") || has(b"EXCEPT");
                match combined && has(b"LIMIT") {
                    true => FoundRows::Counted,
                    false if SKIPS.iter().any(|end| ends_with(text, end)) => FoundRows::SentAndSkipped,
                    false => FoundRows::Sent,
                }
            }
            (Class::Write | Class::Ddl | Class::Unknown, _) if verdict.effects.opaque || has(b"SELECT") => FoundRows::Counted,
            // What sends no rows leaves the number.
            _ => FoundRows::Left,
        }
    }
}

fn starts_with(text: &[u8], begin: &[u8]) -> bool {
    text.get(..begin.len()).is_some_and(|first| first.eq_ignore_ascii_case(begin))
}

fn ends_with(text: &[u8], end: &[u8]) -> bool {
    text.len().checked_sub(end.len()).and_then(|at| text.get(at..)).is_some_and(|last| last.eq_ignore_ascii_case(end))
}

/// How many rows the `LIMIT` at the end of a statement goes past, where the number stands there: `LIMIT 20, 10`, `LIMIT 10 OFFSET 20`.
/// Reads nothing but the end.
pub fn skipped(sql: &[u8]) -> Option<u64> {
    let (before, last) = number_at_end(sql.strip_suffix(b";").unwrap_or(sql))?;
    match before.strip_suffix(b",") {
        Some(before) => number_at_end(before).map(|(_, first)| first),
        None => before.get(before.len().checked_sub(OFFSET.len())?..)?.eq_ignore_ascii_case(OFFSET).then_some(last),
    }
}

/// A number and what stands before it.
fn number_at_end(text: &[u8]) -> Option<(&[u8], u64)> {
    let text = text.trim_ascii_end();
    let digits = text.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let (before, number) = text.split_at_checked(text.len() - digits)?;
    Some((before.trim_ascii_end(), std::str::from_utf8(number).ok()?.parse().ok()?))
}

/// Whether a SHOW leaves `FOUND_ROWS()` as it was: those do that are no query of `information_schema` inside the server.
fn is_no_query(text: &[u8]) -> bool {
    const WORDS: [&[u8]; 8] =
        [b"CREATE", b"GRANTS", b"WARNINGS", b"ERRORS", b"PROFILES", b"PRIVILEGES", b"AUTHORS", b"CONTRIBUTORS"];
    let word = text.split(u8::is_ascii_whitespace).nth(1).unwrap_or_default();
    WORDS.iter().any(|known| word.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::classify::classify;
    use crate::sql::lexer::LexMode;

    #[test]
    fn what_found_rows_says() {
        use FoundRows::{Counted, Left, Sent, SentAndSkipped};
        let mariadb = LexMode { dialect: Dialect::MariaDb, ..LexMode::default() };
        let mysql = LexMode { dialect: Dialect::MySql, ..LexMode::default() };
        for (sql, on_mariadb, on_mysql) in [
            ("SELECT * FROM t", Sent, Sent),
            ("SELECT * FROM t LIMIT 10", Sent, Sent),
            ("SELECT * FROM t ORDER BY a LIMIT 20, 10", SentAndSkipped, SentAndSkipped),
            ("select * from t limit 10 offset 20", SentAndSkipped, SentAndSkipped),
            ("SELECT * FROM (SELECT a FROM t LIMIT 20, 10) d", Sent, Sent),
            ("SELECT 1 UNION SELECT 2 LIMIT 1", Counted, Counted),
            ("SELECT f(a) FROM t", Sent, Sent),
            ("SELECT GET_LOCK('a', 1)", Sent, Sent),
            ("SELECT f(a) FROM t LIMIT 20, 10", SentAndSkipped, SentAndSkipped),
            ("SELECT f(a) FROM t INTO @a", Counted, Counted),
            ("INSERT INTO t SELECT f(1)", Counted, Counted),
            ("INSERT INTO t SELECT 1", Counted, Counted),
            ("SELECT 1 INTO @a", Counted, Counted),
            ("CALL p()", Counted, Counted),
            ("INSERT INTO t VALUES (1)", Left, Left),
            ("SET @a = (SELECT 5)", Left, Left),
            ("COMMIT", Left, Left),
            ("DROP TABLE t", Left, Left),
            ("SHOW TABLES", Sent, Sent),
            ("SHOW COUNT(*) WARNINGS", Sent, Sent),
            ("SHOW WARNINGS", Left, Left),
            ("SHOW CREATE TABLE t", Left, Left),
            ("SHOW GRANTS", Left, Left),
            ("DESCRIBE t", Sent, Sent),
            ("EXPLAIN SELECT * FROM t", Left, Left),
            ("ANALYZE SELECT * FROM t", Counted, Left),
            ("HELP 'a'", Left, Left),
            ("DO 1", Left, Counted),
        ] {
            assert_eq!(classify(sql.as_bytes(), mariadb).found_rows, on_mariadb, "MariaDB: {sql}");
            assert_eq!(classify(sql.as_bytes(), mysql).found_rows, on_mysql, "MySQL: {sql}");
        }
    }

    #[test]
    fn what_a_limit_goes_past() {
        for (sql, expected) in [
            ("SELECT a FROM t LIMIT 20, 10", Some(20)),
            ("SELECT a FROM t LIMIT 20,10 ;", Some(20)),
            ("SELECT a FROM t LIMIT 10 offset 20", Some(20)),
            ("SELECT a FROM t LIMIT 10", None),
            ("SELECT a FROM t LIMIT ?, ?", None),
            ("20", None),
            ("", None),
        ] {
            assert_eq!(skipped(sql.as_bytes()), expected, "{sql}");
        }
    }
}
