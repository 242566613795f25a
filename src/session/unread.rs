//! User variables whose values only their connection knows (`SELECT @a := f()`, `INTO @a`, OUT parameters), and how they are read
//! from it, so that the session can leave it: one question whose answer makes a literal of the same type for each.
//!
//! Sources: MySQL 8.4 Reference Manual, "User-Defined Variables"; MariaDB, "User-Defined Variables", "Information Schema
//! USER_VARIABLES Table"; types and lengths as MySQL 9.7 and MariaDB 10.11 send them.

use crate::session::state::{Change, USER_VARIABLE_BYTES_MAX, Value};

/// More than this many are not read back: the session stays where they are.
pub const READ_BACK_MAX: usize = 64;

/// More bytes than this in all variables that are asked for together are not read back.
pub const READ_BACK_BYTES_MAX: usize = 16 * USER_VARIABLE_BYTES_MAX;

/// What is not known yet.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Unread {
    /// All is known.
    #[default]
    Nothing,
    /// These, by lower-case name.
    Some(Vec<Box<str>>),
    /// Any: what ran does not tell which it set.
    Any,
    /// Any, and nobody can tell: the session stays until it is reset.
    Never,
}

impl Unread {
    /// Notes variables that were assigned.
    pub fn add(&mut self, names: &[String]) {
        if *self == Unread::Nothing {
            *self = Unread::Some(Vec::new());
        }
        if let Unread::Some(known) = self {
            for name in names {
                if !known.iter().any(|n| **n == **name) {
                    known.push(name.as_str().into());
                }
            }
            if known.len() > READ_BACK_MAX {
                *self = Unread::Never;
            }
        }
    }

    /// Notes that any may have been assigned.
    pub fn add_any(&mut self) {
        if *self != Unread::Never {
            *self = Unread::Any;
        }
    }

    /// A variable got a value that is known.
    pub fn known(&mut self, name: &str) {
        if let Unread::Some(names) = self {
            names.retain(|n| **n != *name);
            if names.is_empty() {
                *self = Unread::Nothing;
            }
        }
    }

    /// Whether something is unknown.
    pub fn any(&self) -> bool {
        *self != Unread::Nothing
    }

    /// Whether it may be tried to read it.
    pub fn readable(&self) -> bool {
        matches!(self, Unread::Some(_) | Unread::Any)
    }
}

/// The question for the names of all user variables of a connection; at most one more than can be read. Its first row has
/// `ROW_COUNT()` and `FOUND_ROWS()`, which asking changes, and whether the names are all there is to know: the server knows this connection's variables
/// at all (MySQL's tables are there and empty with `performance_schema = OFF`, and for a thread beyond its limits), and no temporary table was ever made
/// on it, which a function may have done too (MySQL has no such counter that can be selected).
///
/// Like every question on a session's connection it ends in a `LIMIT`: else the session's `sql_select_limit` would cut the answer.
pub fn names_question(mariadb: bool) -> &'static str {
    if mariadb {
        "SELECT ROW_COUNT(), FOUND_ROWS(), \
         (SELECT VARIABLE_VALUE = 0 FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'COM_CREATE_TEMPORARY_TABLE') UNION ALL \
         (SELECT VARIABLE_NAME, NULL, NULL FROM information_schema.USER_VARIABLES LIMIT 65) LIMIT 66"
    } else {
        "SELECT ROW_COUNT(), FOUND_ROWS(), EXISTS (SELECT 1 FROM performance_schema.threads WHERE PROCESSLIST_ID = CONNECTION_ID()) \
         UNION ALL \
         (SELECT v.VARIABLE_NAME, NULL, NULL FROM performance_schema.user_variables_by_thread v \
         JOIN performance_schema.threads t USING (THREAD_ID) WHERE t.PROCESSLIST_ID = CONNECTION_ID() LIMIT 65) LIMIT 66"
    }
}

/// The question for the values of these variables; `None` when there are too many. No row answers it when they are too long to be
/// taken along: they may be as long as `max_allowed_packet`.
pub fn question(names: &[Box<str>]) -> Option<String> {
    if names.is_empty() || names.len() > READ_BACK_MAX {
        return None;
    }
    let parts = names.iter().map(|name| {
        let name = format!("@`{}`", name.replace('`', "``"));
        format!("{name}, HEX({name}), COLLATION({name})")
    });
    let parts = parts.collect::<Vec<_>>().join(", ");
    let lengths = names.iter().map(|name| format!("COALESCE(LENGTH(@`{}`), 0)", name.replace('`', "``")));
    Some(format!("SELECT {parts} FROM DUAL WHERE {} <= {READ_BACK_BYTES_MAX} LIMIT 1", lengths.collect::<Vec<_>>().join(" + ")))
}

/// A column's type code and flags.
pub type ColumnType = (u8, u16);

/// The answer to [`question`] as changes of the session's state; `None` where a value cannot be written as a literal. `known`: the
/// session has had a value for this one.
pub fn changes(
    names: &[Box<str>],
    types: &[ColumnType],
    row: &[Option<Vec<u8>>],
    known: impl Fn(&str) -> bool,
) -> Option<Vec<Change>> {
    let mut changes = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        let value = row.get(at * 3)?;
        let literal = match value {
            // One that never had a value and one that was set to NULL differ in nothing but their type.
            None if !known(name) => continue,
            None => b"NULL".to_vec(),
            Some(value) => {
                let (hex, collation) = (row.get(at * 3 + 1)?.as_deref()?, row.get(at * 3 + 2)?.as_deref()?);
                literal(*types.get(at * 3)?, value, hex, collation)?
            }
        };
        if name.len() + literal.len() > USER_VARIABLE_BYTES_MAX {
            return None;
        }
        changes.push(Change::User(name.clone(), Value::Literal(literal.into())));
    }
    Some(changes)
}

const UNSIGNED: u16 = 0x0020;
const DOUBLE: u8 = 5;
const LONGLONG: u8 = 8;
const NEWDECIMAL: u8 = 246;

fn literal((kind, flags): ColumnType, value: &[u8], hex: &[u8], collation: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(value).ok();
    Some(match kind {
        LONGLONG if flags & UNSIGNED != 0 => format!("CAST({} AS UNSIGNED)", text?).into_bytes(),
        LONGLONG => format!("CAST({} AS SIGNED)", text?).into_bytes(),
        NEWDECIMAL => {
            let scale = text?.split_once('.').map_or(0, |(_, fraction)| fraction.len());
            format!("CAST('{}' AS DECIMAL(65,{scale}))", text?).into_bytes()
        }
        DOUBLE if value.contains(&b'e') => value.to_vec(),
        DOUBLE => format!("{}e0", text?).into_bytes(),
        _ => string_literal(hex, collation)?,
    })
}

/// A string by its bytes, so that no `sql_mode` and no charset reads it otherwise.
pub fn string_literal(hex: &[u8], collation: &[u8]) -> Option<Vec<u8>> {
    let is_name = !collation.is_empty() && collation.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let charset = collation.split(|b| *b == b'_').next().filter(|_| is_name)?;
    let mut out = b"_".to_vec();
    out.extend_from_slice(charset);
    out.extend_from_slice(b" x'");
    out.extend_from_slice(hex);
    out.push(b'\'');
    if collation != b"binary" {
        out.extend_from_slice(b" COLLATE ");
        out.extend_from_slice(collation);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_comes_back_as_itself() {
        for (kind, value, hex, collation, sql) in [
            ((8, 0x80), "5", "5", "binary", "CAST(5 AS SIGNED)"),
            ((8, 0xa0), "18446744073709551615", "", "binary", "CAST(18446744073709551615 AS UNSIGNED)"),
            ((246, 0x80), "-5.00", "", "binary", "CAST('-5.00' AS DECIMAL(65,2))"),
            ((246, 0x80), "7", "", "binary", "CAST('7' AS DECIMAL(65,0))"),
            ((5, 0x80), "5", "", "binary", "5e0"),
            ((5, 0x80), "1e300", "", "binary", "1e300"),
            ((251, 0), "ab", "6162", "utf8mb4_bin", "_utf8mb4 x'6162' COLLATE utf8mb4_bin"),
            ((251, 0x80), "ab", "6162", "binary", "_binary x'6162'"),
            ((251, 0), "", "", "latin1_swedish_ci", "_latin1 x'' COLLATE latin1_swedish_ci"),
        ] {
            let made = literal(kind, value.as_bytes(), hex.as_bytes(), collation.as_bytes());
            assert_eq!(made.as_deref().map(String::from_utf8_lossy).as_deref(), Some(sql), "{kind:?} {value}");
        }
    }

    #[test]
    fn what_is_asked_and_what_becomes_of_it() {
        let mut unread = Unread::default();
        unread.add(&["a".to_owned(), "b`c".to_owned(), "a".to_owned()]);
        let Unread::Some(names) = &unread else { panic!("{unread:?}") };
        let sql = question(names).unwrap_or_default();
        assert_eq!(
            sql,
            "SELECT @`a`, HEX(@`a`), COLLATION(@`a`), @`b``c`, HEX(@`b``c`), COLLATION(@`b``c`) FROM DUAL \
             WHERE COALESCE(LENGTH(@`a`), 0) + COALESCE(LENGTH(@`b``c`), 0) <= 65536 LIMIT 1"
        );
        let text = |text: &str| Some(text.as_bytes().to_vec());
        let row = [None, None, text("binary"), text("1"), text("1"), text("binary")];
        let made = changes(names, &[(251, 0), (251, 0), (253, 0), (8, 0), (253, 0), (253, 0)], &row, |name| name == "a");
        let made = made.unwrap_or_default();
        assert_eq!(made.len(), 2);
        unread.known("a");
        unread.known("b`c");
        assert!(!unread.any());
        unread.add_any();
        unread.add(&["x".to_owned()]);
        assert_eq!(unread, Unread::Any);
    }
}
