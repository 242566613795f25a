//! What the last statement left behind beside its result: conditions (`SHOW WARNINGS`), their counts, `ROW_COUNT()`, `FOUND_ROWS()`; and what
//! the last one that wrote did, MariaDB's `@@last_gtid`.
//! On a server they live on the connection; here they are the session's, which may be on another connection by the time it asks.
//!
//! Sources: MySQL 8.4 Reference Manual, "The MySQL Diagnostics Area", "Information Functions"; MariaDB's server, which keeps the list
//! over statements that use no table (tried on 10.11).

use crate::session::unread::string_literal;
use crate::sql::classify::{Class, ClassReason, Classified, FoundRows};
use crate::sql::diagnostics::{GetDiagnostics, Item};
use crate::sql::leftover::{Asked, Leftover};

/// Conditions kept; `max_error_count` of the servers is 64 to 1024.
pub const CONDITIONS_MAX: usize = 1024;

/// One row of `SHOW WARNINGS`: level, number, message.
pub type Condition = [Box<[u8]>; 3];

/// See the file.
#[derive(Debug)]
pub struct Leftovers {
    conditions: Box<[Condition]>,
    /// The last statement left some that the connection was not asked for yet.
    unasked: bool,
    /// The connection was asked for them since the last statement: its `ROW_COUNT()` is that of the question.
    asked: bool,
    warning_count: u64,
    row_count: i64,
    /// The last statement was GET DIAGNOSTICS, run as a SET: the connection counts otherwise.
    diagnosed: bool,
    /// Number and SQLSTATE of the error among the conditions that its statement ended with. The list of conditions has no states.
    error: Option<(u16, [u8; 5])>,
    /// Unknown behind statements whose rows were not counted here.
    found_rows: Option<u64>,
    /// The last statement was one of those, and the connection was not asked yet.
    uncounted: bool,
    /// What was counted last was counted on the connection where the session stays, if it does.
    counted_there: bool,
    /// GTID of the last transaction that the session wrote.
    last_gtid: Box<str>,
}

/// What one reply said, as far as this file is concerned.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reply {
    /// It ended with an error.
    pub failed: bool,
    /// Warnings it counted.
    pub warnings: u16,
    /// Rows it changed.
    pub affected_rows: u64,
    /// Rows it sent.
    pub rows: u64,
    /// Rows that its LIMIT went past, where its text tells.
    pub skipped: Option<u64>,
    /// It ended with a result set, empty or not.
    pub result_set: bool,
    /// Number and SQLSTATE of the error it ended with.
    pub error: Option<(u16, [u8; 5])>,
    /// It was GET DIAGNOSTICS, and run as a SET, whose warnings are its own.
    pub as_set: bool,
}

/// What `GET DIAGNOSTICS` comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Diagnosed {
    /// User variables by name, and what each is given, as SQL.
    Values(Vec<(String, Vec<u8>)>),
    /// There is no condition of that number.
    NoCondition,
}

impl Diagnosed {
    /// The statement that does the same on any connection.
    pub fn statement(&self) -> Vec<u8> {
        let Diagnosed::Values(values) = self else {
            return b"GET DIAGNOSTICS CONDITION 2147483647 @`_` = MESSAGE_TEXT".to_vec();
        };
        let mut set = Vec::new();
        for (name, value) in values {
            set.extend_from_slice(if set.is_empty() { b"SET " } else { b", " });
            set.extend_from_slice(format!("@`{}` = ", name.replace('`', "``")).as_bytes());
            set.extend_from_slice(value);
        }
        set
    }
}

impl Default for Leftovers {
    /// Of a session that has asked for nothing yet.
    fn default() -> Leftovers {
        Leftovers {
            conditions: Box::default(),
            unasked: false,
            asked: false,
            warning_count: 0,
            row_count: 0,
            diagnosed: false,
            error: None,
            found_rows: Some(0),
            uncounted: false,
            counted_there: false,
            last_gtid: Box::default(),
        }
    }
}

impl Leftovers {
    /// Learns from a reply.
    pub fn learn(&mut self, statement: &Classified, reply: &Reply, mariadb: bool) {
        if statement.reason == ClassReason::Diagnostics && statement.effects.reads_diagnostics && !reply.failed {
            return self.learn_diagnostics(reply);
        }
        self.diagnosed = false;
        self.asked = false;
        self.row_count = match reply.failed {
            true => -1,
            // SELECT ... INTO sends none, and tells how many rows it took.
            false if reply.result_set => -1,
            false => i64::try_from(reply.affected_rows).unwrap_or(i64::MAX),
        };
        // One that failed leaves the number of the one before.
        self.uncounted = false;
        if !reply.failed {
            self.learn_found_rows(statement, reply);
        }
        if statement.effects.reads_diagnostics && !reply.failed && !asks_by_variable(statement) {
            // What the last of several has left, the connection knows.
            self.unasked |= statement.multi;
            return;
        }
        let has = reply.failed || reply.warnings > 0;
        if !has && (!mariadb || statement.clears_conditions) {
            self.conditions = Box::default();
            self.warning_count = 0;
            self.unasked = false;
        }
        self.unasked |= has;
        if has {
            self.error = reply.error;
            self.warning_count = u64::from(reply.warnings);
        }
    }

    /// `GET DIAGNOSTICS` leaves all as it was, but for a condition of its own: that there is none of the number it names.
    fn learn_diagnostics(&mut self, reply: &Reply) {
        self.diagnosed = true;
        if reply.warnings == 0 || reply.as_set {
            return;
        }
        let mut conditions = std::mem::take(&mut self.conditions).into_vec();
        if conditions.len() < CONDITIONS_MAX {
            conditions.push([b"Error"[..].into(), b"1758"[..].into(), b"Invalid condition number"[..].into()]);
        }
        self.conditions = conditions.into();
        self.warning_count += 1;
    }

    fn learn_found_rows(&mut self, statement: &Classified, reply: &Reply) {
        let known = match statement.found_rows {
            FoundRows::Left => return,
            // The session stays where it can be asked.
            _ if statement.effects.calc_found_rows => {
                self.counted_there = true;
                return self.found_rows = None;
            }
            FoundRows::Sent => Some(reply.rows),
            FoundRows::SentAndSkipped => match reply.skipped {
                // It may have gone past the last row.
                Some(1..) if reply.rows == 0 => None,
                skipped => Some(reply.rows.saturating_add(skipped.unwrap_or(0))),
            },
            FoundRows::Counted => None,
        };
        self.found_rows = known;
        self.uncounted = known.is_none();
        self.counted_there = true;
    }

    /// Learns that a statement was prepared, which leaves the counts and takes the conditions of the statement before.
    pub fn prepared(&mut self, statement: &Classified, warnings: u16, mariadb: bool) {
        if statement.effects.reads_diagnostics && !asks_by_variable(statement) {
            return;
        }
        if warnings > 0 {
            self.unasked = true;
            self.warning_count = u64::from(warnings);
        } else if !mariadb || statement.clears_conditions {
            (self.conditions, self.warning_count, self.unasked) = (Box::default(), 0, false);
        }
    }

    /// Whether the connection must be asked for conditions before the session leaves it.
    pub fn unasked(&self) -> bool {
        self.unasked
    }

    /// How many conditions the last reply counted.
    pub fn warning_count(&self) -> u16 {
        u16::try_from(self.warning_count).unwrap_or(u16::MAX)
    }

    /// The counts as the connection told them.
    pub fn counts_are(&mut self, row_count: i64, found_rows: u64) {
        if !self.asked {
            self.row_count = row_count;
        }
        self.found_rows = Some(found_rows);
        self.uncounted = false;
    }

    /// Whether `ROW_COUNT()` is known here, and not to the connection that ran the last statement.
    pub fn counts_alone(&self) -> bool {
        self.diagnosed
    }

    /// Whether the connection must be asked for `FOUND_ROWS()` before the session leaves it: the next who uses it has another.
    pub fn uncounted(&self) -> bool {
        self.uncounted
    }

    /// `COM_RESET_CONNECTION`, which leaves what was counted.
    pub fn reset(&mut self) {
        *self = Leftovers { found_rows: self.found_rows, ..Leftovers::default() };
    }

    /// The next statement begins on whichever connection.
    pub fn moves(&mut self) {
        self.counted_there = false;
    }

    /// Whether `FOUND_ROWS()` is known here, and not to the connection where the session stays: it was counted before that began.
    pub fn counted_elsewhere(&self) -> bool {
        !self.counted_there && self.found_rows.is_some()
    }

    /// `FOUND_ROWS()` as the connection told it.
    pub fn found_rows_are(&mut self, found_rows: u64) {
        self.counts_are(self.row_count, found_rows);
    }

    /// What this statement does, where all it asks for is known.
    pub fn get_diagnostics(&self, statement: &GetDiagnostics) -> Option<Diagnosed> {
        let row = match statement.condition {
            Some(number) => match self.conditions.get(number.checked_sub(1)?) {
                None => return Some(Diagnosed::NoCondition),
                row => row,
            },
            None => None,
        };
        let mut values = Vec::new();
        for (name, item) in &statement.targets {
            let text = |at: usize| row.and_then(|row: &Condition| row.get(at)).map(|cell| cell.to_vec());
            let unsigned = |number: &[u8]| [b"CAST(", number, b" AS UNSIGNED)"].concat();
            let string = |value: &[u8]| {
                let hex: String = value.iter().map(|b| format!("{b:02x}")).collect();
                string_literal(hex.as_bytes(), b"utf8mb3_general_ci")
            };
            let value = match item {
                Item::Number => unsigned(self.conditions.len().to_string().as_bytes()),
                Item::RowCount => self.row_count.to_string().into_bytes(),
                Item::Errno => unsigned(&text(1)?),
                Item::Message => string(&text(2)?)?,
                Item::SqlState => {
                    let errno = std::str::from_utf8(&text(1)?).ok()?.parse().ok()?;
                    let told = self.error.as_ref().filter(|(of, _)| *of == errno).map(|(_, state)| &state[..]);
                    string(told.or_else(|| sqlstate(errno).map(str::as_bytes))?)?
                }
            };
            values.push((name.clone(), value));
        }
        Some(Diagnosed::Values(values))
    }

    /// The session's last transaction on MariaDB.
    pub fn wrote(&mut self, gtid: &str) {
        self.last_gtid = gtid.into();
    }

    /// The conditions as the connection told them. `counted`: how many the reply counted, which may be more.
    pub fn conditions_are(&mut self, mut rows: Vec<Condition>, counted: u16) {
        rows.truncate(CONDITIONS_MAX);
        self.warning_count = u64::from(counted).max(rows.len() as u64);
        self.conditions = rows.into();
        (self.unasked, self.asked) = (false, true);
    }

    /// The rows that answer this; `None` when something asked for is not known here.
    pub fn answer(&self, asked: &Asked, value: impl Fn(Leftover) -> Option<String>) -> Option<Vec<Vec<Box<[u8]>>>> {
        match asked {
            Asked::Conditions { errors, offset, count } => {
                let rows = self.conditions.iter().filter(|row| !errors || is_error(row));
                Some(rows.skip(*offset).take(*count).map(|row| row.to_vec()).collect())
            }
            Asked::Values(asked) => {
                let row: Option<Vec<Box<[u8]>>> =
                    asked.iter().map(|asked| self.value(*asked).or_else(|| value(*asked)).map(|v| v.into_bytes().into())).collect();
                Some(vec![row?])
            }
        }
    }

    /// One value, if it is known here.
    pub fn value(&self, asked: Leftover) -> Option<String> {
        match asked {
            Leftover::WarningCount => Some(self.warning_count.to_string()),
            Leftover::ErrorCount => Some(self.conditions.iter().filter(|row| is_error(row)).count().to_string()),
            Leftover::RowCount => Some(self.row_count.to_string()),
            Leftover::FoundRows => self.found_rows.map(|rows| rows.to_string()),
            Leftover::LastGtid => Some(self.last_gtid.to_string()),
            Leftover::ConnectionId | Leftover::LastInsertId => None,
        }
    }
}

/// The SQLSTATE of conditions that applications ask about; a list of conditions does not tell it.
fn sqlstate(errno: u16) -> Option<&'static str> {
    Some(match errno {
        1046 => "3D000",
        1048 | 1062 | 1169 | 1216 | 1217 | 1451 | 1452 | 1557 | 1586 | 1761 | 1762 => "23000",
        1050 => "42S01",
        1051 | 1146 => "42S02",
        1054 => "42S22",
        1064 | 1049 | 1305 | 1304 | 1318 | 1142 | 1149 => "42000",
        1136 => "21S01",
        1205 => "HY000",
        1213 => "40001",
        1242 => "21000",
        1264 | 1690 => "22003",
        1265 => "01000",
        1292 => "22007",
        1365 => "22012",
        1406 => "22001",
        1329 => "02000",
        _ => return None,
    })
}

fn is_error(row: &Condition) -> bool {
    row.first().is_some_and(|level| level.eq_ignore_ascii_case(b"Error"))
}

/// `SELECT @@warning_count` is no diagnostic statement: it is counted as any other SELECT.
fn asks_by_variable(statement: &Classified) -> bool {
    matches!(statement.reason, ClassReason::PlainSelect) || statement.class == Class::Session
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::classify::classify;
    use crate::sql::leftover::asked;
    use crate::sql::lexer::LexMode;

    fn row(level: &str, message: &str) -> Condition {
        [level.as_bytes().into(), b"1292"[..].into(), message.as_bytes().into()]
    }

    fn told(left: &Leftovers, sql: &str) -> String {
        let asked = asked(sql.as_bytes(), LexMode::default()).unwrap_or_else(|| panic!("{sql}"));
        let rows = left.answer(&asked, |_| None).unwrap_or_else(|| panic!("{sql}"));
        let line =
            |row: &Vec<Box<[u8]>>| row.iter().map(|cell| String::from_utf8_lossy(cell).into_owned()).collect::<Vec<_>>().join(" ");
        rows.iter().map(line).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn what_is_left_is_told_in_every_form() {
        let mut left = Leftovers::default();
        let says = |left: &mut Leftovers, sql: &str, reply: Reply, mariadb| {
            left.learn(&classify(sql.as_bytes(), LexMode::default()), &reply, mariadb);
            left.unasked()
        };
        assert!(says(
            &mut left,
            "SELECT CAST('a' AS SIGNED)",
            Reply { warnings: 3, rows: 1, result_set: true, ..Reply::default() },
            true
        ));
        left.conditions_are(vec![row("Warning", "a"), row("Error", "b"), row("Note", "c")], 3);
        for (sql, expected) in [
            ("SHOW WARNINGS", "Warning 1292 a; Error 1292 b; Note 1292 c"),
            ("SHOW WARNINGS LIMIT 1, 1", "Error 1292 b"),
            ("SHOW ERRORS", "Error 1292 b"),
            ("SHOW COUNT(*) WARNINGS", "3"),
            ("SELECT @@warning_count, @@error_count, ROW_COUNT(), FOUND_ROWS()", "3 1 -1 1"),
        ] {
            assert_eq!(told(&left, sql), expected, "{sql}");
        }
        // The list stays over what asks for it, and in MariaDB over what uses no table.
        for (sql, mariadb, kept) in [
            ("SHOW WARNINGS", false, "3"),
            ("GET DIAGNOSTICS @n = NUMBER", false, "3"),
            ("SELECT 1", true, "3"),
            ("SET @a = 1", true, "3"),
            ("COMMIT", true, "3"),
            ("SELECT * FROM t", true, "0"),
        ] {
            assert!(!says(&mut left, sql, Reply { rows: 1, result_set: true, ..Reply::default() }, mariadb), "{sql}");
            assert_eq!(told(&left, "SHOW COUNT(*) WARNINGS"), kept, "{sql}");
        }
        // Preparing does the same to the list.
        for (sql, mariadb, kept) in
            [("SHOW WARNINGS", false, "1"), ("SELECT 1", true, "1"), ("SELECT * FROM t", true, "0"), ("SELECT 1", false, "0")]
        {
            left.conditions_are(vec![row("Warning", "a")], 1);
            left.prepared(&classify(sql.as_bytes(), LexMode::default()), 0, mariadb);
            assert_eq!(told(&left, "SHOW COUNT(*) WARNINGS"), kept, "{sql}");
        }
        left.conditions_are(vec![row("Warning", "a")], 1);
        let get = |sql: &str| {
            let parsed = crate::sql::diagnostics::parse(sql.as_bytes(), LexMode::default());
            let set = parsed.and_then(|get| left.get_diagnostics(&get)).map(|diagnosed| diagnosed.statement());
            set.map(|set| String::from_utf8_lossy(&set).into_owned()).unwrap_or_default()
        };
        assert_eq!(get("GET DIAGNOSTICS @n = NUMBER"), "SET @`n` = CAST(1 AS UNSIGNED)");
        assert_eq!(
            get("GET DIAGNOSTICS CONDITION 1 @e = MYSQL_ERRNO, @t = MESSAGE_TEXT, @s = RETURNED_SQLSTATE"),
            "SET @`e` = CAST(1292 AS UNSIGNED), @`t` = _utf8mb3 x'61' COLLATE utf8mb3_general_ci, \
             @`s` = _utf8mb3 x'3232303037' COLLATE utf8mb3_general_ci"
        );
        let none = get("GET DIAGNOSTICS CONDITION 2 @e = MYSQL_ERRNO");
        assert_eq!(none, "GET DIAGNOSTICS CONDITION 2147483647 @`_` = MESSAGE_TEXT");
        // MySQL warns of the SET that is run instead: no condition of this statement's.
        for (as_set, told_of) in [(true, "1"), (false, "2")] {
            let reply = Reply { warnings: 1, as_set, ..Reply::default() };
            says(&mut left, "GET DIAGNOSTICS CONDITION 1 @s = RETURNED_SQLSTATE", reply, false);
            assert_eq!(told(&left, "SHOW COUNT(*) WARNINGS"), told_of);
        }
        // A state of the user's own comes with the error.
        let signalled = Reply { failed: true, warnings: 1, error: Some((1644, *b"45000")), ..Reply::default() };
        says(&mut left, "SIGNAL SQLSTATE '45000'", signalled, false);
        left.conditions_are(vec![[b"Error"[..].into(), b"1644"[..].into(), b"a"[..].into()]], 1);
        let parsed = crate::sql::diagnostics::parse(b"GET DIAGNOSTICS CONDITION 1 @s = RETURNED_SQLSTATE", LexMode::default());
        let set = parsed.and_then(|get| left.get_diagnostics(&get)).map(|diagnosed| diagnosed.statement()).unwrap_or_default();
        assert_eq!(String::from_utf8_lossy(&set), "SET @`s` = _utf8mb3 x'3435303030' COLLATE utf8mb3_general_ci");
        says(&mut left, "SELECT 1", Reply { rows: 1, result_set: true, ..Reply::default() }, false);
        assert_eq!(told(&left, "SHOW WARNINGS"), "");
        says(&mut left, "UPDATE t SET a = 1", Reply { affected_rows: 5, ..Reply::default() }, false);
        assert_eq!(told(&left, "SELECT ROW_COUNT()"), "5");
        assert_eq!(left.value(Leftover::FoundRows), Some("1".to_owned()), "an UPDATE counts none");
        says(&mut left, "SELECT 1 INTO @a", Reply { affected_rows: 1, ..Reply::default() }, false);
        assert_eq!(told(&left, "SELECT ROW_COUNT()"), "1");
        says(&mut left, "INSERT INTO t SELECT * FROM u", Reply { affected_rows: 5, ..Reply::default() }, false);
        assert_eq!(left.value(Leftover::FoundRows), None);
        // Rows that the connection counts behind SHOW WARNINGS are none of the statement's.
        says(&mut left, "CALL p()", Reply { affected_rows: 2, warnings: 1, ..Reply::default() }, false);
        left.conditions_are(vec![row("Warning", "a")], 1);
        left.counts_are(-1, 7);
        assert_eq!(told(&left, "SELECT ROW_COUNT(), FOUND_ROWS()"), "2 7");
        says(&mut left, "CALL p()", Reply { rows: 1, ..Reply::default() }, false);
        left.counts_are(-1, 7);
        assert_eq!(told(&left, "SELECT ROW_COUNT()"), "-1");
        says(&mut left, "UPDATE t SET a = 1", Reply { failed: true, ..Reply::default() }, false);
        assert_eq!(told(&left, "SELECT ROW_COUNT()"), "-1");
    }
}
