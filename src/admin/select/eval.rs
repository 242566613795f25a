//! Expressions of the admin's `SELECT`: what MySQL would say, for the operators and functions that people and drivers use.

use std::cmp::Ordering;
use std::collections::HashMap;

use sqlparser::ast::{BinaryOperator, Expr, FunctionArguments, UnaryOperator, Value as Literal};

use super::super::Session;
use super::super::answer::{AdminError, Column, Value};
use super::super::nearest::nearest;
use super::super::variables;
use super::super::words::like;
use super::functions::{AGGREGATES, arguments, function, function_name, round, substring};

/// Nested operators; `SELECT_OPERATORS_MAX` keeps chains below this already.
const DEPTH_MAX: usize = 250;

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

/// The text of an expression as a column's name.
pub fn shown(expr: &Expr) -> String {
    expr.to_string()
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
pub(super) fn arithmetic(a: &Value, b: &Value, whole: fn(i128, i128) -> Option<i128>, real: fn(f64, f64) -> f64) -> Value {
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
