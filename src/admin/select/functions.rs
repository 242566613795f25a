//! Functions that MySQL has and SQLite has not, or means differently.

use std::time::{Duration, UNIX_EPOCH};

use regex::RegexBuilder;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{Value as Cell, ValueRef};
use rusqlite::{Connection, Error, Result};

use super::super::Session;
use super::super::variables::SERVER_VERSION;
use super::super::words::like;
use crate::clock::{Clock, utc};

/// Functions that may be meant when an unknown one is typed.
pub const NAMES: &[&str] = &[
    "COUNT",
    "SUM",
    "MIN",
    "MAX",
    "AVG",
    "GROUP_CONCAT",
    "DATABASE",
    "SCHEMA",
    "USER",
    "CURRENT_USER",
    "VERSION",
    "CONNECTION_ID",
    "NOW",
    "UTC_TIMESTAMP",
    "UNIX_TIMESTAMP",
    "FROM_UNIXTIME",
    "DATE_ADD",
    "DATE_SUB",
    "DATE",
    "LOWER",
    "UPPER",
    "LENGTH",
    "CHAR_LENGTH",
    "CONCAT",
    "CONCAT_WS",
    "COALESCE",
    "IFNULL",
    "NULLIF",
    "IF",
    "ROUND",
    "FLOOR",
    "CEIL",
    "ABS",
    "LEFT",
    "RIGHT",
    "SUBSTRING",
    "TRIM",
    "REPLACE",
    "INSTR",
    "GREATEST",
    "LEAST",
    "REGEXP_LIKE",
    "FIELD",
    "FIND_IN_SET",
    "LOCATE",
    "SUBSTRING_INDEX",
    "DATE_FORMAT",
    "TIMESTAMPDIFF",
    "EXTRACT",
    "YEAR",
    "MONTH",
    "DAY",
    "HOUR",
    "MINUTE",
    "SECOND",
    "MOD",
    "FORMAT",
    "ISNULL",
    "HEX",
];
/// A compiled pattern may take this much memory.
const PATTERN_BYTES_MAX: usize = 1 << 20;

fn text(cell: ValueRef<'_>) -> Option<String> {
    match cell {
        ValueRef::Null => None,
        ValueRef::Integer(v) => Some(v.to_string()),
        ValueRef::Real(v) => Some(v.to_string()),
        ValueRef::Text(v) | ValueRef::Blob(v) => Some(String::from_utf8_lossy(v).into_owned()),
    }
}

/// Text counts by its leading digits.
fn number(cell: ValueRef<'_>) -> Option<f64> {
    match cell {
        ValueRef::Null => None,
        ValueRef::Integer(v) => Some(v as f64),
        ValueRef::Real(v) => Some(v),
        other => super::super::answer::Value::Text(text(other)?).number(),
    }
}

fn failed(message: impl Into<String>) -> Error {
    Error::UserFunctionError(message.into().into())
}

/// Registers them all.
pub fn register(db: &Connection, session: &Session) -> Result<()> {
    // SQLite folds calls with constant arguments; what the clock or the session says stays the same within one statement.
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    let constant = |name: &str, cell: Cell| db.create_scalar_function(name, 0, flags, move |_| Ok(cell.clone()));
    let user = Cell::Text(format!("{}@{}", session.user, session.host));
    for name in ["user", "current_user", "session_user", "system_user"] {
        constant(name, user.clone())?;
    }
    let schema = session.schema.clone().map_or(Cell::Null, Cell::Text);
    constant("database", schema.clone())?;
    constant("schema", schema)?;
    constant("version", Cell::Text(SERVER_VERSION.to_owned()))?;
    constant("connection_id", Cell::Integer(i64::from(session.connection_id)))?;
    for name in ["last_insert_id", "found_rows", "row_count"] {
        constant(name, Cell::Integer(0))?;
    }
    let now = utc(Clock::wall());
    for name in ["now", "utc_timestamp", "sysdate", "localtime"] {
        constant(name, Cell::Text(now.split('.').next().unwrap_or(&now).to_owned()))?;
        let now = now.clone();
        db.create_scalar_function(name, 1, flags, move |_| Ok(now.clone()))?;
    }
    constant("unix_timestamp", Cell::Integer((Clock::wall_us() / 1_000_000) as i64))?;

    let one = |name: &str, make: fn(&Context<'_>) -> Result<Cell>| db.create_scalar_function(name, 1, flags, move |c| make(c));
    // Whole seconds: what tools divide into groups by.
    one("unix_timestamp", |c| {
        Ok(text(c.get_raw(0)).and_then(|t| unix_seconds(&t)).map_or(Cell::Null, |s| Cell::Integer(s as i64)))
    })?;
    one("from_unixtime", |c| Ok(number(c.get_raw(0)).and_then(time_of).map_or(Cell::Null, Cell::Text)))?;
    for (name, make) in [("lower", str::to_lowercase as fn(&str) -> String), ("lcase", str::to_lowercase)] {
        db.create_scalar_function(name, 1, flags, move |c| Ok(text(c.get_raw(0)).map(|t| make(&t))))?;
    }
    for name in ["upper", "ucase"] {
        one(name, |c| Ok(text(c.get_raw(0)).map_or(Cell::Null, |t| Cell::Text(t.to_uppercase()))))?;
    }
    one("length", |c| Ok(text(c.get_raw(0)).map_or(Cell::Null, |t| Cell::Integer(t.len() as i64))))?;
    for name in ["char_length", "character_length"] {
        one(name, |c| Ok(text(c.get_raw(0)).map_or(Cell::Null, |t| Cell::Integer(t.chars().count() as i64))))?;
    }
    one("floor", |c| Ok(number(c.get_raw(0)).map_or(Cell::Null, |n| Cell::Integer(n.floor() as i64))))?;
    for name in ["ceil", "ceiling"] {
        one(name, |c| Ok(number(c.get_raw(0)).map_or(Cell::Null, |n| Cell::Integer(n.ceil() as i64))))?;
    }

    let two = |name: &str, make: fn(&Context<'_>) -> Result<Cell>| db.create_scalar_function(name, 2, flags, move |c| make(c));
    two("mysql_divide", |c| Ok(quotient(c).map_or(Cell::Null, Cell::Real)))?;
    two("mysql_div", |c| Ok(quotient(c).map_or(Cell::Null, |n| Cell::Integer(n.trunc() as i64))))?;
    two("mysql_xor", |c| {
        let both = number(c.get_raw(0)).zip(number(c.get_raw(1)));
        Ok(both.map_or(Cell::Null, |(a, b)| Cell::Integer(((a != 0.0) != (b != 0.0)).into())))
    })?;
    two("mod", |c| {
        let rest = number(c.get_raw(0)).zip(number(c.get_raw(1))).filter(|(_, b)| *b != 0.0).map(|(a, b)| a % b);
        Ok(rest.map_or(Cell::Null, |n| if n.fract() == 0.0 { Cell::Integer(n as i64) } else { Cell::Real(n) }))
    })?;
    two("format", |c| {
        let both = number(c.get_raw(0)).zip(number(c.get_raw(1)));
        Ok(both.map_or(Cell::Null, |(n, decimals)| Cell::Text(grouped(n, decimals.clamp(0.0, 30.0) as usize))))
    })?;
    const PARTS: [(&str, std::ops::Range<usize>); 7] = [
        ("year", 0..4),
        ("month", 5..7),
        ("day", 8..10),
        ("dayofmonth", 8..10),
        ("hour", 11..13),
        ("minute", 14..16),
        ("second", 17..19),
    ];
    for (name, place) in PARTS {
        db.create_scalar_function(name, 1, flags, move |c| {
            let time = text(c.get_raw(0)).and_then(|t| unix_seconds(&t)).and_then(time_of);
            Ok(time.and_then(|t| t.get(place.clone())?.parse::<i64>().ok()))
        })?;
    }
    two("mysql_add_seconds", |c| {
        let seconds = text(c.get_raw(0)).and_then(|t| unix_seconds(&t)).zip(number(c.get_raw(1)));
        Ok(seconds.and_then(|(time, more)| time_of(time + more)).map_or(Cell::Null, Cell::Text))
    })?;
    // SQLite asks like(pattern, text) for `text LIKE pattern`.
    two("like", |c| {
        Ok(text(c.get_raw(1)).zip(text(c.get_raw(0))).map_or(Cell::Null, |(t, p)| Cell::Integer(like(&t, &p).into())))
    })?;
    two("regexp", |c| matches(c, 1, 0))?;
    two("regexp_like", |c| matches(c, 0, 1))?;
    two("left", |c| Ok(part(c, |letters, n| &letters[..n.min(letters.len())])))?;
    two("right", |c| Ok(part(c, |letters, n| &letters[letters.len().saturating_sub(n)..])))?;
    for count in [2, 3] {
        db.create_scalar_function("mid", count, flags, move |c| {
            let (Some(text), Some(from)) = (text(c.get_raw(0)), number(c.get_raw(1))) else { return Ok(None) };
            let length = if count == 3 { number(c.get_raw(2)).unwrap_or(0.0).max(0.0) as usize } else { usize::MAX };
            Ok(Some(text.chars().skip((from.max(1.0) - 1.0) as usize).take(length).collect::<String>()))
        })?;
    }
    db.create_scalar_function("if", 3, flags, |c| {
        let chosen = if number(c.get_raw(0)).is_some_and(|n| n != 0.0) { 1 } else { 2 };
        c.get::<Cell>(chosen)
    })?;
    // NULL makes all NULL, as in MySQL; SQLite's own leaves it out.
    db.create_scalar_function("concat", -1, flags, |c| {
        let mut all = String::new();
        for i in 0..c.len() {
            let Some(text) = text(c.get_raw(i)) else { return Ok(None) };
            all.push_str(&text);
        }
        Ok(Some(all))
    })?;
    for count in [2, 3] {
        db.create_scalar_function("locate", count, flags, move |c| {
            let (Some(wanted), Some(text)) = (text(c.get_raw(0)), text(c.get_raw(1))) else { return Ok(None) };
            let from = if count == 3 { number(c.get_raw(2)).unwrap_or(0.0) } else { 1.0 };
            Ok(Some(place(&wanted.to_lowercase(), &text.to_lowercase(), from as usize)))
        })?;
    }
    two("find_in_set", |c| {
        let (Some(wanted), Some(set)) = (text(c.get_raw(0)), text(c.get_raw(1))) else { return Ok(Cell::Null) };
        let found = set.split(',').position(|part| part.to_lowercase() == wanted.to_lowercase() && !set.is_empty());
        Ok(Cell::Integer(found.map_or(0, |i| i as i64 + 1)))
    })?;
    db.create_scalar_function("substring_index", 3, flags, |c| {
        let (Some(text), Some(mark), Some(count)) = (text(c.get_raw(0)), text(c.get_raw(1)), number(c.get_raw(2))) else {
            return Ok(None);
        };
        if mark.is_empty() || count == 0.0 {
            return Ok(Some(String::new()));
        }
        let parts: Vec<&str> = text.split(&mark).collect();
        let count = (count.abs() as usize).min(parts.len());
        let taken = if c.get_raw(2).as_i64().is_ok_and(|n| n < 0) { &parts[parts.len() - count..] } else { &parts[..count] };
        Ok(Some(taken.join(&mark)))
    })?;
    db.create_scalar_function("field", -1, flags, |c| {
        let Some(wanted) = text(c.get_raw(0)) else { return Ok(0) };
        let found = (1..c.len()).find(|i| text(c.get_raw(*i)).is_some_and(|t| t.to_lowercase() == wanted.to_lowercase()));
        Ok(found.map_or(0, |i| i as i64))
    })?;
    two("date_format", |c| {
        let (Some(time), Some(format)) = (text(c.get_raw(0)), text(c.get_raw(1))) else { return Ok(Cell::Null) };
        formatted(&time, &format).map(|text| text.map_or(Cell::Null, Cell::Text))
    })?;
    db.create_scalar_function("timestampdiff", 3, flags, |c| {
        let unit = text(c.get_raw(0)).unwrap_or_default().to_uppercase();
        let length = match unit.as_str() {
            "MICROSECOND" => 1e-6,
            "SECOND" => 1.0,
            "MINUTE" => 60.0,
            "HOUR" => 3_600.0,
            "DAY" => 86_400.0,
            "WEEK" => 604_800.0,
            _ => return Err(failed(format!("TIMESTAMPDIFF knows MICROSECOND, SECOND, MINUTE, HOUR, DAY and WEEK, not {unit}"))),
        };
        let time = |i: usize| text(c.get_raw(i)).and_then(|t| unix_seconds(&t));
        Ok(time(1).zip(time(2)).map(|(from, to)| ((to - from) / length).trunc() as i64))
    })?;
    for (name, greatest) in [("greatest", true), ("least", false)] {
        db.create_scalar_function(name, -1, flags, move |c| {
            let mut best: Option<f64> = None;
            for i in 0..c.len() {
                let Some(n) = number(c.get_raw(i)) else { return Ok(None) };
                best = Some(best.map_or(n, |b| if greatest { b.max(n) } else { b.min(n) }));
            }
            Ok(best.map(|n| if n.fract() == 0.0 { Cell::Integer(n as i64) } else { Cell::Real(n) }))
        })?;
    }
    Ok(())
}

/// The letter, from 1, at which `wanted` stands in `text`, looked for from the letter `from` on; 0 when it does not.
fn place(wanted: &str, text: &str, from: usize) -> i64 {
    let Some(skipped) = from.checked_sub(1) else { return 0 };
    let Some(rest) = text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(skipped).and_then(|at| text.get(at..)) else {
        return 0;
    };
    rest.find(wanted).and_then(|at| rest.get(..at)).map_or(0, |before| (skipped + before.chars().count() + 1) as i64)
}

/// A time as `DATE_FORMAT` writes it, by the marks that stand for numbers; `None` for what is no time.
fn formatted(time: &str, format: &str) -> Result<Option<String>> {
    let Some(seconds) = unix_seconds(time) else { return Ok(None) };
    let Some(whole) = time_of(seconds) else { return Ok(None) };
    let (date, clock) = whole.split_once(' ').unwrap_or((&whole, ""));
    let (clock, millis) = clock.split_once('.').unwrap_or((clock, "000"));
    let (date, clock): (Vec<&str>, Vec<&str>) = (date.split('-').collect(), clock.split(':').collect());
    let ([year, month, day], [hour, minute, second]) = (date.as_slice(), clock.as_slice()) else { return Ok(None) };
    let mut out = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        match letters.next() {
            Some('Y') => out.push_str(year),
            Some('y') => out.push_str(year.get(2..).unwrap_or(year)),
            Some('m') => out.push_str(month),
            Some('d') => out.push_str(day),
            Some('H') => out.push_str(hour),
            Some('i') => out.push_str(minute),
            Some('s' | 'S') => out.push_str(second),
            Some('f') => out.extend([millis, "000"]),
            Some('T') => out.push_str(&clock.join(":")),
            Some('%') => out.push('%'),
            other => return Err(failed(format!("DATE_FORMAT knows %Y %y %m %d %H %i %s %f %T, not %{}", other.unwrap_or(' ')))),
        }
    }
    Ok(Some(out))
}

/// `12,345.7`, as MySQL's `FORMAT` writes a number.
fn grouped(number: f64, decimals: usize) -> String {
    let written = format!("{:.decimals$}", number.abs());
    let (whole, fraction) = written.split_once('.').map_or((written.as_str(), None), |(whole, fraction)| (whole, Some(fraction)));
    let mut out = if number < 0.0 { "-".to_owned() } else { String::new() };
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out.extend(fraction.map(|fraction| format!(".{fraction}")));
    out
}

fn quotient(c: &Context<'_>) -> Option<f64> {
    let (a, b) = number(c.get_raw(0)).zip(number(c.get_raw(1)))?;
    (b != 0.0).then_some(a / b)
}

fn part(c: &Context<'_>, take: fn(&[char], usize) -> &[char]) -> Cell {
    let Some((text, n)) = text(c.get_raw(0)).zip(number(c.get_raw(1))) else { return Cell::Null };
    let letters: Vec<char> = text.chars().collect();
    Cell::Text(take(&letters, n.max(0.0) as usize).iter().collect())
}

fn matches(c: &Context<'_>, subject: usize, pattern: usize) -> Result<Cell> {
    let Some(subject) = text(c.get_raw(subject)) else { return Ok(Cell::Null) };
    // Compiled once for a statement whose pattern is constant.
    let compiled =
        c.get_or_create_aux(pattern as i32, |value| -> std::result::Result<_, Box<dyn std::error::Error + Send + Sync>> {
            let text = text(value).unwrap_or_default();
            Ok(RegexBuilder::new(&text).case_insensitive(true).size_limit(PATTERN_BYTES_MAX).build()?)
        });
    let compiled = compiled.map_err(|e| failed(e.to_string()))?;
    Ok(Cell::Integer(compiled.is_match(&subject).into()))
}

/// `2026-11-22 21:04:05` in UTC, with milliseconds when there are any.
fn time_of(seconds: f64) -> Option<String> {
    if !(0.0..253_402_300_800.0).contains(&seconds) {
        return None;
    }
    let text = utc(UNIX_EPOCH + Duration::from_millis((seconds * 1000.0).round() as u64));
    Some(text.strip_suffix(".000").map_or(text.clone(), str::to_owned))
}

/// Seconds since 1970 of `2026-11-22 21:04:05.123` or `2026-11-22T21:04:05Z`, taken as UTC.
fn unix_seconds(text: &str) -> Option<f64> {
    let text = text.trim_end_matches('Z');
    let (date, time) = text.split_once([' ', 'T']).unwrap_or((text, "0:0:0"));
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.splitn(3, ':').map(|part| part.parse::<f64>().ok());
    let (h, m, s) = (time.next()??, time.next()??, time.next()??);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days from civil, the inverse of `clock::utc`.
    let y = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (y / 400, y % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    Some(days as f64 * 86_400.0 + h * 3_600.0 + m * 60.0 + s)
}
