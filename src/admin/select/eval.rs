//! Expressions of the admin's `SELECT`: what MySQL would say, for the operators and functions that people and drivers use.

use std::cmp::Ordering;
use std::collections::HashMap;

use sqlparser::ast::{
    BinaryOperator, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, UnaryOperator,
    Value as Literal,
};

use super::super::Session;
use super::super::answer::{AdminError, Column, Value};
use super::super::nearest::nearest;
use super::super::variables;
use super::super::words::like;
use crate::clock::{Clock, utc};

/// Nested operators; `SELECT_OPERATORS_MAX` keeps chains below this already.
const DEPTH_MAX: usize = 250;
/// Bytes of a string that an expression makes (CONCAT of CONCAT).
const TEXT_BYTES_MAX: usize = 1 << 20;

/// What names in an expression mean.
#[derive(Clone, Copy)]
pub struct Scope<'s> {
    /// The table's columns.
    pub columns: &'s [Column],
    /// The current row, or the first of the group.
    pub row: &'s [Value],
    /// The rows that aggregates run over.
    pub group: Option<&'s [&'s [Value]]>,
    /// Names given with AS, where they may be used (GROUP BY, HAVING, ORDER BY).
    pub aliases: Option<&'s HashMap<String, Expr>>,
    /// For DATABASE(), USER() and the like.
    pub session: &'s Session,
}

impl<'s> Scope<'s> {
    /// No table at all.
    pub fn constant(session: &'s Session) -> Scope<'s> {
        Scope { columns: &[], row: &[], group: None, aliases: None, session }
    }
}

const AGGREGATES: &[&str] = &["COUNT", "SUM", "MIN", "MAX", "AVG"];
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

/// The text of an expression as a column's name.
pub fn shown(expr: &Expr) -> String {
    expr.to_string()
}

/// The name in upper case, without schema.
fn function_name(function: &Function) -> String {
    function.name.0.last().map_or_else(String::new, |part| part.to_string()).trim_matches('`').to_uppercase()
}

/// Whether an aggregate stands in it.
pub fn has_aggregate(expr: &Expr) -> bool {
    match expr {
        Expr::Function(f) => {
            AGGREGATES.contains(&function_name(f).as_str()) || arguments(f).is_ok_and(|args| args.iter().any(|a| has_aggregate(a)))
        }
        Expr::BinaryOp { left, right, .. } => has_aggregate(left) || has_aggregate(right),
        Expr::UnaryOp { expr, .. } | Expr::Nested(expr) | Expr::IsNull(expr) | Expr::IsNotNull(expr) | Expr::Cast { expr, .. } => {
            has_aggregate(expr)
        }
        Expr::Between { expr, low, high, .. } => has_aggregate(expr) || has_aggregate(low) || has_aggregate(high),
        Expr::InList { expr, list, .. } => has_aggregate(expr) || list.iter().any(has_aggregate),
        Expr::Like { expr, pattern, .. } => has_aggregate(expr) || has_aggregate(pattern),
        Expr::Case { operand, conditions, else_result, .. } => {
            operand.as_deref().is_some_and(has_aggregate)
                || conditions.iter().any(|c| has_aggregate(&c.condition) || has_aggregate(&c.result))
                || else_result.as_deref().is_some_and(has_aggregate)
        }
        _ => false,
    }
}

/// The table's column that an expression is, if it is one and nothing else.
pub fn column_of(expr: &Expr, columns: &[Column]) -> Option<usize> {
    let name = match expr {
        Expr::Identifier(ident) => &ident.value,
        Expr::CompoundIdentifier(parts) => &parts.last()?.value,
        Expr::Nested(inner) => return column_of(inner, columns),
        // A function without parentheses is a column's name when there is one: `user`, `schema`.
        Expr::Function(f) if matches!(f.args, FunctionArguments::None) => &f.name.0.last()?.as_ident()?.value,
        _ => return None,
    };
    columns.iter().position(|c| c.name.eq_ignore_ascii_case(name))
}

fn unsupported(expr: &Expr) -> AdminError {
    AdminError::syntax(format_args!("this port's SELECT cannot evaluate `{expr}`"))
}

fn unknown_column(name: &str, scope: &Scope<'_>) -> AdminError {
    let advice = match nearest(name, scope.columns.iter().map(|c| c.name.as_str())) {
        Some(near) => format!("did you mean `{near}`?"),
        None if scope.columns.is_empty() => "there is no table after FROM".to_owned(),
        None => format!("the columns are {}", scope.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ")),
    };
    AdminError::new(1054, "42S22", format_args!("unknown column `{name}`; {advice}"))
}

/// The value of an expression.
///
/// # Errors
/// 1054 for an unknown column, 1305 for an unknown function, 1193 for an unknown variable, 1064 for what cannot be evaluated.
pub fn eval(expr: &Expr, scope: &Scope<'_>, depth: usize) -> Result<Value, AdminError> {
    if depth > DEPTH_MAX {
        return Err(AdminError::new(1436, "HY000", "the expression is nested too deeply"));
    }
    let sub = |expr: &Expr| eval(expr, scope, depth + 1);
    let truth = |value: Option<bool>, negated: bool| value.map_or(Value::Null, |v| Value::from(v != negated));
    if let Some(i) = column_of(expr, scope.columns) {
        return Ok(scope.row.get(i).cloned().unwrap_or(Value::Null));
    }
    Ok(match expr {
        Expr::Value(value) => literal(&value.value).ok_or_else(|| unsupported(expr))?,
        Expr::Identifier(ident) if ident.value.starts_with('@') => variable(&ident.value)?,
        Expr::Identifier(ident) => match scope.aliases.and_then(|a| a.get(&ident.value.to_lowercase())) {
            // An alias means its expression, in which aliases mean nothing: no loops.
            Some(meant) => eval(meant, &Scope { aliases: None, ..*scope }, depth + 1)?,
            None => return Err(unknown_column(&ident.value, scope)),
        },
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [first, name] if first.value.starts_with("@@") => variable(&format!("{}.{}", first.value, name.value))?,
            [.., name] => return Err(unknown_column(&name.value, scope)),
            [] => return Err(unsupported(expr)),
        },
        Expr::Nested(inner) => sub(inner)?,
        Expr::IsNull(inner) => Value::from(sub(inner)? == Value::Null),
        Expr::IsNotNull(inner) => Value::from(sub(inner)? != Value::Null),
        Expr::IsTrue(inner) => Value::from(sub(inner)?.truth() == Some(true)),
        Expr::IsFalse(inner) => Value::from(sub(inner)?.truth() == Some(false)),
        Expr::IsNotTrue(inner) => Value::from(sub(inner)?.truth() != Some(true)),
        Expr::IsNotFalse(inner) => Value::from(sub(inner)?.truth() != Some(false)),
        Expr::UnaryOp { op, expr: inner } => {
            let value = sub(inner)?;
            match op {
                UnaryOperator::Not | UnaryOperator::BangNot => truth(value.truth(), true),
                UnaryOperator::Plus => value,
                UnaryOperator::Minus => match value {
                    Value::Null => Value::Null,
                    Value::Int(v) => v.checked_neg().map_or(Value::Float(-(v as f64)), Value::Int),
                    Value::UInt(v) => i64::try_from(v).map_or(Value::Float(-(v as f64)), |v| Value::Int(-v)),
                    other => Value::Float(-other.number().unwrap_or(0.0)),
                },
                _ => return Err(unsupported(expr)),
            }
        }
        Expr::BinaryOp { left, op, right } => binary(expr, sub(left)?, op, || sub(right))?,
        Expr::Like { negated, any: false, expr: inner, pattern, .. } => {
            let matched = sub(inner)?.text().zip(sub(pattern)?.text()).map(|(text, pattern)| like(&text, &pattern));
            truth(matched, *negated)
        }
        Expr::RLike { negated, expr: inner, pattern, .. } => {
            let matched = match sub(inner)?.text().zip(sub(pattern)?.text()) {
                None => None,
                Some((text, pattern)) => Some(
                    regex::RegexBuilder::new(&pattern)
                        .case_insensitive(true)
                        .size_limit(1 << 20)
                        .build()
                        .map_err(|_| AdminError::new(3696, "HY000", format_args!("`{pattern}` is no regular expression")))?
                        .is_match(&text),
                ),
            };
            truth(matched, *negated)
        }
        Expr::InList { expr: inner, list, negated } => {
            let value = sub(inner)?;
            let mut found = Some(false);
            for one in list {
                match value.compare(&sub(one)?) {
                    Some(Ordering::Equal) => {
                        found = Some(true);
                        break;
                    }
                    Some(_) => {}
                    None => found = None,
                }
            }
            truth(found, *negated)
        }
        Expr::Between { expr: inner, negated, low, high } => {
            let value = sub(inner)?;
            let inside = value
                .compare(&sub(low)?)
                .zip(value.compare(&sub(high)?))
                .map(|(low, high)| low != Ordering::Less && high != Ordering::Greater);
            truth(inside, *negated)
        }
        Expr::Case { operand, conditions, else_result, .. } => {
            let operand = operand.as_deref().map(sub).transpose()?;
            for case in conditions {
                let when = sub(&case.condition)?;
                let chosen = match &operand {
                    Some(operand) => operand.compare(&when) == Some(Ordering::Equal),
                    None => when.truth() == Some(true),
                };
                if chosen {
                    return sub(&case.result);
                }
            }
            else_result.as_deref().map(sub).transpose()?.unwrap_or(Value::Null)
        }
        Expr::Cast { expr: inner, data_type, .. } => cast(sub(inner)?, &data_type.to_string().to_uppercase()),
        Expr::Floor { expr: inner, .. } => round(sub(inner)?, f64::floor),
        Expr::Ceil { expr: inner, .. } => round(sub(inner)?, f64::ceil),
        Expr::Substring { expr: inner, substring_from, substring_for, .. } => {
            let from = substring_from.as_deref().map(sub).transpose()?.unwrap_or(Value::Int(1));
            let length = substring_for.as_deref().map(sub).transpose()?;
            substring(&sub(inner)?, &from, length.as_ref())
        }
        Expr::Function(f) => function(expr, f, scope, depth)?,
        _ => return Err(unsupported(expr)),
    })
}

fn literal(value: &Literal) -> Option<Value> {
    Some(match value {
        Literal::Number(text, _) => match (text.parse::<i64>(), text.parse::<u64>(), text.parse::<f64>()) {
            (Ok(v), _, _) => Value::Int(v),
            (_, Ok(v), _) => Value::UInt(v),
            (_, _, Ok(v)) => Value::Float(v),
            _ => return None,
        },
        Literal::SingleQuotedString(s) | Literal::DoubleQuotedString(s) | Literal::NationalStringLiteral(s) => {
            Value::Text(s.clone())
        }
        Literal::Boolean(b) => Value::from(*b),
        Literal::Null => Value::Null,
        _ => return None,
    })
}

/// `@@name`, `@@session.name`, `@name` (a user variable: nobody has set one, so NULL).
fn variable(name: &str) -> Result<Value, AdminError> {
    let Some(system) = name.strip_prefix("@@") else { return Ok(Value::Null) };
    let lower = system.to_lowercase();
    let bare = ["session.", "global.", "local."].iter().find_map(|scope| lower.strip_prefix(scope)).unwrap_or(&lower);
    variables::system(bare.trim_matches('`')).ok_or_else(|| {
        AdminError::new(1193, "HY000", format_args!("unknown system variable `{system}`; {}", variables::advice(bare)))
    })
}

fn binary(
    expr: &Expr,
    left: Value,
    op: &BinaryOperator,
    right: impl FnOnce() -> Result<Value, AdminError>,
) -> Result<Value, AdminError> {
    use BinaryOperator as Op;
    let right = right()?;
    let compare = |wanted: &[Ordering]| left.compare(&right).map_or(Value::Null, |o| Value::from(wanted.contains(&o)));
    Ok(match op {
        Op::And => match (left.truth(), right.truth()) {
            (Some(false), _) | (_, Some(false)) => Value::from(false),
            (Some(true), Some(true)) => Value::from(true),
            _ => Value::Null,
        },
        Op::Or => match (left.truth(), right.truth()) {
            (Some(true), _) | (_, Some(true)) => Value::from(true),
            (Some(false), Some(false)) => Value::from(false),
            _ => Value::Null,
        },
        Op::Xor => left.truth().zip(right.truth()).map_or(Value::Null, |(a, b)| Value::from(a != b)),
        Op::Eq => compare(&[Ordering::Equal]),
        Op::NotEq => compare(&[Ordering::Less, Ordering::Greater]),
        Op::Lt => compare(&[Ordering::Less]),
        Op::LtEq => compare(&[Ordering::Less, Ordering::Equal]),
        Op::Gt => compare(&[Ordering::Greater]),
        Op::GtEq => compare(&[Ordering::Greater, Ordering::Equal]),
        Op::Spaceship => match (&left, &right) {
            (Value::Null, Value::Null) => Value::from(true),
            (a, b) => Value::from(a.compare(b) == Some(Ordering::Equal)),
        },
        Op::Plus => arithmetic(&left, &right, i128::checked_add, |a, b| a + b),
        Op::Minus => arithmetic(&left, &right, i128::checked_sub, |a, b| a - b),
        Op::Multiply => arithmetic(&left, &right, i128::checked_mul, |a, b| a * b),
        Op::Modulo => arithmetic(&left, &right, i128::checked_rem, |a, b| a % b),
        Op::Divide => match left.number().zip(right.number()) {
            Some((a, b)) if b != 0.0 => Value::Float(a / b),
            _ => Value::Null,
        },
        Op::MyIntegerDivide => match left.number().zip(right.number()) {
            Some((a, b)) if b != 0.0 => Value::Int((a / b).trunc() as i64),
            _ => Value::Null,
        },
        _ => return Err(unsupported(expr)),
    })
}

/// Whole numbers stay whole where they fit, else it is a number with a fraction.
fn arithmetic(a: &Value, b: &Value, whole: fn(i128, i128) -> Option<i128>, real: fn(f64, f64) -> f64) -> Value {
    let integer = |v: &Value| match v {
        Value::Int(v) => Some(i128::from(*v)),
        Value::UInt(v) => Some(i128::from(*v)),
        _ => None,
    };
    if let Some((x, y)) = integer(a).zip(integer(b)) {
        match whole(x, y) {
            Some(v) => {
                return i64::try_from(v)
                    .map(Value::Int)
                    .or_else(|_| u64::try_from(v).map(Value::UInt))
                    .unwrap_or(Value::Float(v as f64));
            }
            // The only way `%` fails.
            None if y == 0 => return Value::Null,
            None => {}
        }
    }
    match a.number().zip(b.number()) {
        Some((x, y)) => Some(real(x, y)).filter(|v| v.is_finite()).map_or(Value::Null, Value::Float),
        None => Value::Null,
    }
}

fn cast(value: Value, to: &str) -> Value {
    match value {
        Value::Null => Value::Null,
        value if to.contains("CHAR") || to.contains("TEXT") || to.contains("BINARY") => {
            value.text().map_or(Value::Null, Value::Text)
        }
        value if to.contains("UNSIGNED") => Value::UInt(value.number().unwrap_or(0.0) as u64),
        value if to.contains("INT") || to.contains("SIGNED") => Value::Int(value.number().unwrap_or(0.0) as i64),
        value if to.contains("DOUBLE") || to.contains("FLOAT") || to.contains("DECIMAL") => {
            Value::Float(value.number().unwrap_or(0.0))
        }
        value => value,
    }
}

fn round(value: Value, how: fn(f64) -> f64) -> Value {
    match value {
        Value::Float(v) => Value::Int(how(v) as i64),
        Value::Text(_) => Value::Int(how(value.number().unwrap_or(0.0)) as i64),
        whole => whole,
    }
}

fn substring(text: &Value, from: &Value, length: Option<&Value>) -> Value {
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
fn arguments(f: &Function) -> Result<Vec<&Expr>, AdminError> {
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

fn function(expr: &Expr, f: &Function, scope: &Scope<'_>, depth: usize) -> Result<Value, AdminError> {
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
