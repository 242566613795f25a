//! Functions and aggregates of the admin's `SELECT`.

use std::cmp::Ordering;

use sqlparser::ast::{DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments};

use super::super::answer::{AdminError, Value};
use super::super::nearest::nearest;
use super::super::variables;
use super::eval::{Scope, arithmetic, eval};
use crate::clock::{Clock, utc};

pub(super) const AGGREGATES: &[&str] = &["COUNT", "SUM", "MIN", "MAX", "AVG"];
const FUNCTIONS: &[&str] = &[
    "COUNT",
    "SUM",
    "MIN",
    "MAX",
    "AVG",
    "DATABASE",
    "SCHEMA",
    "USER",
    "CURRENT_USER",
    "SESSION_USER",
    "SYSTEM_USER",
    "VERSION",
    "CONNECTION_ID",
    "LAST_INSERT_ID",
    "NOW",
    "CURRENT_TIMESTAMP",
    "UTC_TIMESTAMP",
    "UNIX_TIMESTAMP",
    "LOWER",
    "UPPER",
    "LENGTH",
    "CHAR_LENGTH",
    "CONCAT",
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
];

/// Bytes of a string that an expression makes (CONCAT of CONCAT).
const TEXT_BYTES_MAX: usize = 1 << 20;

/// The name in upper case, without schema.
pub(super) fn function_name(function: &Function) -> String {
    function.name.0.last().map_or_else(String::new, |part| part.to_string()).trim_matches('`').to_uppercase()
}

pub(super) fn round(value: Value, how: fn(f64) -> f64) -> Value {
    match value {
        Value::Float(v) => Value::Int(how(v) as i64),
        Value::Text(_) => Value::Int(how(value.number().unwrap_or(0.0)) as i64),
        whole => whole,
    }
}

pub(super) fn substring(text: &Value, from: &Value, length: Option<&Value>) -> Value {
    let Some((text, from)) = text.text().zip(from.number()) else { return Value::Null };
    let letters: Vec<char> = text.chars().collect();
    let start = match from as i64 {
        0 => return Value::from(""),
        from if from < 0 => letters.len().checked_sub(from.unsigned_abs() as usize),
        from => Some(from as usize - 1),
    };
    let length = match length {
        None => usize::MAX,
        Some(length) => match length.number() {
            None => return Value::Null,
            Some(n) => n.max(0.0) as usize,
        },
    };
    start.map_or(Value::from(""), |start| Value::Text(letters.into_iter().skip(start).take(length).collect()))
}

/// The plain arguments of a function; `*` is left out.
pub(super) fn arguments(f: &Function) -> Result<Vec<&Expr>, AdminError> {
    let list = match &f.args {
        FunctionArguments::None => return Ok(Vec::new()),
        FunctionArguments::Subquery(_) => return Err(AdminError::syntax("a subquery cannot be evaluated here")),
        FunctionArguments::List(list) => list,
    };
    let mut all = Vec::new();
    for arg in &list.args {
        match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => all.push(expr),
            FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => {}
            _ => return Err(AdminError::syntax(format_args!("`{f}` cannot be evaluated here"))),
        }
    }
    Ok(all)
}

fn aggregate(f: &Function, name: &str, scope: &Scope<'_>, depth: usize) -> Result<Value, AdminError> {
    let Some(group) = scope.group else {
        return Err(AdminError::new(1111, "HY000", format_args!("{name}() cannot stand here")));
    };
    let args = arguments(f)?;
    let Some(arg) = args.first() else {
        if name == "COUNT" {
            return Ok(Value::Int(i64::try_from(group.len()).unwrap_or(i64::MAX)));
        }
        return Err(AdminError::syntax(format_args!("{name}() needs a column")));
    };
    let mut values = Vec::new();
    for row in group {
        let value = eval(arg, &Scope { row, group: None, aliases: None, ..*scope }, depth + 1)?;
        if value != Value::Null {
            values.push(value);
        }
    }
    if let FunctionArguments::List(list) = &f.args
        && list.duplicate_treatment == Some(DuplicateTreatment::Distinct)
    {
        let mut seen = std::collections::HashSet::new();
        values.retain(|v| seen.insert(format!("{v:?}").to_lowercase()));
    }
    let sum = || values.iter().fold(Value::Int(0), |sum, v| arithmetic(&sum, v, i128::checked_add, |a, b| a + b));
    Ok(match name {
        "COUNT" => Value::Int(i64::try_from(values.len()).unwrap_or(i64::MAX)),
        _ if values.is_empty() => Value::Null,
        "SUM" => sum(),
        "AVG" => Value::Float(sum().number().unwrap_or(0.0) / values.len() as f64),
        "MIN" => values.into_iter().reduce(|a, b| if b.compare(&a) == Some(Ordering::Less) { b } else { a }).unwrap_or(Value::Null),
        _ => values.into_iter().reduce(|a, b| if b.compare(&a) == Some(Ordering::Greater) { b } else { a }).unwrap_or(Value::Null),
    })
}

pub(super) fn function(expr: &Expr, f: &Function, scope: &Scope<'_>, depth: usize) -> Result<Value, AdminError> {
    let name = function_name(f);
    if f.over.is_some() {
        return Err(AdminError::syntax("window functions cannot be evaluated here"));
    }
    if AGGREGATES.contains(&name.as_str()) {
        return aggregate(f, &name, scope, depth);
    }
    let session = scope.session;
    let mut args = Vec::new();
    for arg in arguments(f)? {
        args.push(eval(arg, scope, depth + 1)?);
    }
    let first = || args.first().cloned().unwrap_or(Value::Null);
    let text = |make: &dyn Fn(String) -> String| first().text().map_or(Value::Null, |t| Value::Text(make(t)));
    Ok(match (name.as_str(), args.as_slice()) {
        ("DATABASE" | "SCHEMA", []) => session.schema.clone().map_or(Value::Null, Value::Text),
        ("USER" | "CURRENT_USER" | "SESSION_USER" | "SYSTEM_USER", []) => Value::Text(format!("{}@{}", session.user, session.host)),
        ("VERSION", []) => Value::from(variables::SERVER_VERSION),
        ("CONNECTION_ID", []) => Value::UInt(u64::from(session.connection_id)),
        ("LAST_INSERT_ID" | "FOUND_ROWS" | "ROW_COUNT", []) => Value::Int(0),
        ("NOW" | "CURRENT_TIMESTAMP" | "UTC_TIMESTAMP" | "LOCALTIME" | "SYSDATE", _) => {
            let now = utc(Clock::wall());
            Value::from(now.split('.').next().unwrap_or(&now))
        }
        ("UNIX_TIMESTAMP", []) => Value::UInt(Clock::wall_us() / 1_000_000),
        ("UNIX_TIMESTAMP", [at]) => at.text().and_then(|t| unix_seconds(&t)).map_or(Value::Null, Value::Float),
        ("LOWER" | "LCASE", [_]) => text(&|t| t.to_lowercase()),
        ("UPPER" | "UCASE", [_]) => text(&|t| t.to_uppercase()),
        ("LENGTH", [_]) => first().text().map_or(Value::Null, |t| Value::Int(t.len() as i64)),
        ("CHAR_LENGTH" | "CHARACTER_LENGTH", [_]) => first().text().map_or(Value::Null, |t| Value::Int(t.chars().count() as i64)),
        ("CONCAT", [_, ..]) => {
            let mut all = String::new();
            for arg in &args {
                let Some(text) = arg.text() else { return Ok(Value::Null) };
                all.push_str(&text);
                if all.len() > TEXT_BYTES_MAX {
                    return Err(AdminError::new(1301, "HY000", format_args!("the result is longer than {TEXT_BYTES_MAX} bytes")));
                }
            }
            Value::Text(all)
        }
        ("COALESCE", [_, ..]) | ("IFNULL", [_, _]) => args.iter().find(|v| **v != Value::Null).cloned().unwrap_or(Value::Null),
        ("NULLIF", [a, b]) => {
            if a.compare(b) == Some(Ordering::Equal) {
                Value::Null
            } else {
                a.clone()
            }
        }
        ("IF", [when, yes, no]) => if when.truth() == Some(true) { yes } else { no }.clone(),
        ("ROUND", [_]) => round(first(), f64::round),
        ("ROUND", [value, digits]) => match value.number().zip(digits.number()) {
            Some((v, digits)) => {
                let factor = 10f64.powi(digits.clamp(-15.0, 15.0) as i32);
                Value::Float((v * factor).round() / factor)
            }
            None => Value::Null,
        },
        ("FLOOR", [_]) => round(first(), f64::floor),
        ("CEIL" | "CEILING", [_]) => round(first(), f64::ceil),
        ("ABS", [value]) => match value {
            Value::Int(v) => Value::UInt(v.unsigned_abs()),
            Value::Null | Value::UInt(_) => value.clone(),
            other => Value::Float(other.number().unwrap_or(0.0).abs()),
        },
        ("LEFT", [t, n]) => substring(t, &Value::Int(1), Some(n)),
        ("RIGHT", [t, n]) => match t.text().zip(n.number()) {
            Some((text, n)) => {
                let count = text.chars().count();
                Value::Text(text.chars().skip(count.saturating_sub(n.max(0.0) as usize)).collect())
            }
            None => Value::Null,
        },
        ("SUBSTRING" | "SUBSTR" | "MID", [t, from]) => substring(t, from, None),
        ("SUBSTRING" | "SUBSTR" | "MID", [t, from, length]) => substring(t, from, Some(length)),
        (known, _) if FUNCTIONS.contains(&known) => {
            return Err(AdminError::new(1582, "42000", format_args!("wrong number of arguments for {known}(): `{expr}`")));
        }
        _ => {
            let advice = match nearest(&name, FUNCTIONS.iter().copied()) {
                Some(near) => format!("did you mean {near}()?"),
                None => format!("there are {}", FUNCTIONS.join(", ")),
            };
            return Err(AdminError::new(1305, "42000", format_args!("no function is called {name}; {advice}")));
        }
    })
}

/// Seconds since 1970 of `2026-11-22 21:04:05.123`, taken as UTC.
fn unix_seconds(text: &str) -> Option<f64> {
    let (date, time) = text.split_once(' ').unwrap_or((text, "0:0:0"));
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
