//! `SELECT` over the admin's tables: one table, `WHERE`, `GROUP BY`, `HAVING`, `ORDER BY`, `LIMIT`, aggregates.
//!
//! Enough for a person with a question and for the tools that wrap one; no joins, no subqueries. [`eval`] and [`functions`] evaluate
//! expressions; here is what happens to rows.

mod eval;
mod functions;

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use sqlparser::ast::{
    Distinct, Expr, GroupByExpr, LimitClause, ObjectName, OrderBy, OrderByKind, OrderBySort, Query, Select, SelectItem, SetExpr,
    Statement, TableFactor,
};
use sqlparser::dialect::MySqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer};

use super::Session;
use super::answer::{AdminError, Column, Kind, Table, Value};
use super::house::House;
use super::tables;
use eval::{Scope, eval, has_aggregate};

/// A longer `SELECT` is refused before it is parsed. Connector/J's opening question has about 1,100 bytes.
const SELECT_BYTES_MAX: usize = 16 * 1024;
/// The parser, the evaluator and the tree's own destructor recurse once for each operator of a chain like `1+1+1+...`. Every
/// level of a tree costs at least one word that is no name, value or comma, so a limit on those bounds the depth.
const SELECT_OPERATORS_MAX: usize = 200;
/// Nested parentheses; the parser's own guard.
const NESTING_MAX: usize = 40;

fn cannot(what: impl std::fmt::Display) -> AdminError {
    AdminError::syntax(format_args!(
        "{what} is beyond this port's SELECT: one table, WHERE, GROUP BY, HAVING, ORDER BY, LIMIT, and COUNT, SUM, MIN, MAX, AVG"
    ))
}

/// Answers a `SELECT`.
///
/// # Errors
/// 1064 for what does not parse or is beyond us, 1146 and 1054 for unknown tables and columns.
pub fn select(sql: &str, session: &Session, house: &dyn House) -> Result<Table, AdminError> {
    let query = parse(sql)?;
    let select = match *query.body {
        SetExpr::Select(select) => select,
        _ => return Err(cannot("UNION or VALUES")),
    };
    refuse_unknown_parts(&select)?;
    let source = match select.from.as_slice() {
        [] => Source { table: Table { columns: Vec::new(), rows: vec![Vec::new()] }, real: false },
        [one] if one.joins.is_empty() => match &one.relation {
            TableFactor::Table { name, .. } => Source { table: from_table(name, session, house)?, real: true },
            _ => return Err(cannot("a subquery")),
        },
        _ => return Err(cannot("a join")),
    };
    let limits = limits(query.limit_clause.as_ref(), session)?;
    run(&select, query.order_by.as_ref(), limits, &source, session)
}

struct Source {
    table: Table,
    /// `FROM dual` and no FROM have one row without columns.
    real: bool,
}

fn parse(sql: &str) -> Result<Box<Query>, AdminError> {
    if sql.len() > SELECT_BYTES_MAX {
        return Err(AdminError::syntax(format_args!("a SELECT has at most {SELECT_BYTES_MAX} bytes here, this has {}", sql.len())));
    }
    let dialect = MySqlDialect {};
    let wrong = |e: &dyn std::fmt::Display| {
        let text = e.to_string();
        AdminError::syntax(text.trim_start_matches("sql parser error: ").to_owned())
    };
    let tokens = Tokenizer::new(&dialect, sql).tokenize_with_location().map_err(|e| wrong(&e))?;
    let operators = tokens.iter().filter(|t| may_nest(&t.token)).count();
    if operators > SELECT_OPERATORS_MAX {
        return Err(AdminError::syntax(format_args!(
            "a SELECT has at most {SELECT_OPERATORS_MAX} operators and keywords here, this has {operators}"
        )));
    }
    let mut statements = Parser::new(&dialect)
        .with_recursion_limit(NESTING_MAX)
        .with_tokens_with_locations(tokens)
        .parse_statements()
        .map_err(|e| wrong(&e))?;
    match (statements.pop(), statements.is_empty()) {
        (Some(Statement::Query(query)), true) => {
            if query.with.is_some() {
                return Err(cannot("WITH"));
            }
            Ok(query)
        }
        (_, false) => Err(AdminError::syntax("one statement at a time, please")),
        _ => Err(AdminError::syntax("not a SELECT; HELP lists what there is")),
    }
}

fn may_nest(token: &Token) -> bool {
    match token {
        Token::Whitespace(_) | Token::Comma | Token::Period | Token::RParen | Token::Number(..) => false,
        Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) => false,
        Token::Word(word) => !matches!(word.keyword, Keyword::NoKeyword | Keyword::AS),
        _ => true,
    }
}

fn refuse_unknown_parts(select: &Select) -> Result<(), AdminError> {
    if select.into.is_some() {
        return Err(cannot("INTO"));
    }
    if !select.named_window.is_empty() || select.qualify.is_some() {
        return Err(cannot("a window function"));
    }
    if matches!(select.distinct, Some(Distinct::On(_))) {
        return Err(cannot("DISTINCT ON"));
    }
    Ok(())
}

fn from_table(name: &ObjectName, session: &Session, house: &dyn House) -> Result<Table, AdminError> {
    let parts: Vec<String> = name.0.iter().map(|p| p.as_ident().map_or_else(|| p.to_string(), |i| i.value.clone())).collect();
    let (schema, table) = match parts.as_slice() {
        [table] => (None, table),
        [schema, table] => (Some(schema.as_str()), table),
        _ => return Err(cannot("a name of more than two parts")),
    };
    if schema.is_none() && table.eq_ignore_ascii_case("dual") {
        return Ok(Table { columns: Vec::new(), rows: vec![Vec::new()] });
    }
    let schema = schema.or(session.schema.as_deref());
    tables::table(schema, table, house)
}

/// Rows to skip and rows to give.
fn limits(clause: Option<&LimitClause>, session: &Session) -> Result<(usize, usize), AdminError> {
    let number = |expr: &Expr| -> Result<usize, AdminError> {
        let value = eval(expr, &Scope::constant(session), 0)?;
        match value {
            Value::Int(n) if n >= 0 => Ok(usize::try_from(n).unwrap_or(usize::MAX)),
            Value::UInt(n) => Ok(usize::try_from(n).unwrap_or(usize::MAX)),
            _ => Err(AdminError::syntax("LIMIT and OFFSET take numbers")),
        }
    };
    match clause {
        None => Ok((0, usize::MAX)),
        Some(LimitClause::LimitOffset { limit, offset, limit_by }) if limit_by.is_empty() => Ok((
            offset.as_ref().map(|o| number(&o.value)).transpose()?.unwrap_or(0),
            limit.as_ref().map(number).transpose()?.unwrap_or(usize::MAX),
        )),
        Some(LimitClause::OffsetCommaLimit { offset, limit }) => Ok((number(offset)?, number(limit)?)),
        Some(_) => Err(cannot("LIMIT BY")),
    }
}

/// The row that stands for a group, and all its rows; without grouping each row stands alone.
type Group<'r> = (&'r [Value], Option<Vec<&'r [Value]>>);

/// One column of the result.
struct Output {
    name: String,
    kind: Option<Kind>,
    what: What,
}

enum What {
    Source(usize),
    Expr(Box<Expr>),
}

fn outputs(select: &Select, source: &Source) -> Result<Vec<Output>, AdminError> {
    let columns = &source.table.columns;
    let mut all = Vec::new();
    for item in &select.projection {
        match item {
            SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) if !source.real => {
                return Err(AdminError::new(1096, "HY000", "no table after FROM; SHOW TABLES lists them"));
            }
            SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => {
                all.extend(columns.iter().enumerate().map(|(i, c)| Output {
                    name: c.name.clone(),
                    kind: Some(c.kind),
                    what: What::Source(i),
                }));
            }
            SelectItem::UnnamedExpr(expr) => {
                // A plain column keeps the name that the table gives it; anything else is called by its text, as in MySQL.
                let found = eval::column_of(expr, columns);
                let name = match found {
                    Some(i) => columns[i].name.clone(),
                    None => eval::shown(expr),
                };
                all.push(Output { name, kind: found.map(|i| columns[i].kind), what: What::Expr(Box::new(expr.clone())) });
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                let kind = eval::column_of(expr, columns).map(|i| columns[i].kind);
                all.push(Output { name: alias.value.clone(), kind, what: What::Expr(Box::new(expr.clone())) });
            }
            SelectItem::ExprWithAliases { .. } => return Err(cannot("a list of aliases")),
        }
    }
    Ok(all)
}

fn run(
    select: &Select,
    order_by: Option<&OrderBy>,
    (skip, take): (usize, usize),
    source: &Source,
    session: &Session,
) -> Result<Table, AdminError> {
    let columns = &source.table.columns;
    let mut outputs = outputs(select, source)?;
    let aliases: HashMap<String, Expr> = outputs
        .iter()
        .filter_map(|o| match &o.what {
            What::Expr(expr) => Some((o.name.to_lowercase(), (**expr).clone())),
            What::Source(_) => None,
        })
        .collect();
    let order = order(order_by, &outputs, columns)?;

    let mut rows: Vec<&[Value]> = Vec::new();
    for row in &source.table.rows {
        let keep = match &select.selection {
            None => true,
            Some(filter) if has_aggregate(filter) => {
                return Err(AdminError::new(1111, "HY000", "an aggregate cannot stand in WHERE; write HAVING"));
            }
            Some(filter) => eval(filter, &Scope { columns, row, group: None, aliases: None, session }, 0)?.truth() == Some(true),
        };
        if keep {
            rows.push(row);
        }
    }

    let group_by = match &select.group_by {
        GroupByExpr::Expressions(exprs, modifiers) if modifiers.is_empty() => exprs.as_slice(),
        _ => return Err(cannot("GROUP BY ALL or WITH ROLLUP")),
    };
    let aggregates = outputs.iter().any(|o| matches!(&o.what, What::Expr(e) if has_aggregate(e)))
        || select.having.as_ref().is_some_and(has_aggregate)
        || order.iter().any(|(e, _)| has_aggregate(e));
    let empty = vec![Value::Null; columns.len()];
    let mut groups: Vec<Group<'_>> = Vec::new();
    if !group_by.is_empty() {
        let mut places: HashMap<Vec<String>, usize> = HashMap::new();
        for row in rows {
            let scope = Scope { columns, row, group: None, aliases: Some(&aliases), session };
            let mut key = Vec::new();
            for expr in group_by {
                let expr = position(expr, &outputs).unwrap_or(expr);
                key.push(format!("{:?}", eval(expr, &scope, 0)?).to_lowercase());
            }
            let place = *places.entry(key).or_insert_with(|| {
                groups.push((row, Some(Vec::new())));
                groups.len() - 1
            });
            if let Some((_, Some(members))) = groups.get_mut(place) {
                members.push(row);
            }
        }
    } else if aggregates {
        groups.push((rows.first().copied().unwrap_or(&empty), Some(rows)));
    } else {
        groups = rows.into_iter().map(|row| (row, None)).collect();
    }

    let mut results: Vec<(Vec<Value>, Vec<Value>)> = Vec::new();
    for (row, group) in &groups {
        let plain = Scope { columns, row, group: group.as_deref(), aliases: None, session };
        let with_aliases = Scope { aliases: Some(&aliases), ..plain };
        if let Some(having) = &select.having
            && eval(having, &with_aliases, 0)?.truth() != Some(true)
        {
            continue;
        }
        let mut cells = Vec::with_capacity(outputs.len());
        for output in &outputs {
            cells.push(match &output.what {
                What::Source(i) => row.get(*i).cloned().unwrap_or(Value::Null),
                What::Expr(expr) => eval(expr, &plain, 0)?,
            });
        }
        let mut keys = Vec::with_capacity(order.len());
        for (expr, _) in &order {
            keys.push(eval(expr, &with_aliases, 0)?);
        }
        results.push((cells, keys));
    }
    if select.distinct.as_ref().is_some_and(|d| matches!(d, Distinct::Distinct)) {
        let mut seen = HashSet::new();
        results.retain(|(cells, _)| seen.insert(format!("{cells:?}").to_lowercase()));
    }
    results.sort_by(|(_, a), (_, b)| {
        for ((x, y), (_, descending)) in a.iter().zip(b).zip(&order) {
            let ordering = by_value(x, y);
            if ordering != Ordering::Equal {
                return if *descending { ordering.reverse() } else { ordering };
            }
        }
        Ordering::Equal
    });
    let rows: Vec<Vec<Value>> = results.into_iter().map(|(cells, _)| cells).skip(skip).take(take).collect();
    for (i, output) in outputs.iter_mut().enumerate() {
        output.kind = output.kind.or_else(|| kind_of(rows.iter().filter_map(|row| row.get(i))));
    }
    let columns = outputs.into_iter().map(|o| Column { name: o.name, kind: o.kind.unwrap_or(Kind::Text) }).collect();
    Ok(Table { columns, rows })
}

/// NULL first, as MySQL sorts.
fn by_value(x: &Value, y: &Value) -> Ordering {
    match (x, y) {
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Less,
        (_, Value::Null) => Ordering::Greater,
        (x, y) => x.compare(y).unwrap_or(Ordering::Equal),
    }
}

/// The type that holds all values of a computed column.
fn kind_of<'v>(values: impl Iterator<Item = &'v Value>) -> Option<Kind> {
    values.filter_map(Value::kind).reduce(|a, b| match (a, b) {
        (a, b) if a == b => a,
        (Kind::Text, _) | (_, Kind::Text) => Kind::Text,
        (Kind::Float, _) | (_, Kind::Float) => Kind::Float,
        _ => Kind::Int,
    })
}

/// `GROUP BY 1`, `ORDER BY 2`: the output at that place.
fn position<'o>(expr: &Expr, outputs: &'o [Output]) -> Option<&'o Expr> {
    let Expr::Value(value) = expr else { return None };
    let sqlparser::ast::Value::Number(number, _) = &value.value else { return None };
    let place = number.parse::<usize>().ok()?.checked_sub(1)?;
    match &outputs.get(place)?.what {
        What::Expr(expr) => Some(expr),
        What::Source(_) => None,
    }
}

/// The expressions to sort by, and whether descending.
fn order(order_by: Option<&OrderBy>, outputs: &[Output], columns: &[Column]) -> Result<Vec<(Expr, bool)>, AdminError> {
    let Some(order_by) = order_by else { return Ok(Vec::new()) };
    let OrderByKind::Expressions(exprs) = &order_by.kind else { return Err(cannot("ORDER BY ALL")) };
    let mut all = Vec::new();
    for one in exprs {
        let descending = matches!(one.options.sort, Some(OrderBySort::Desc));
        let mut expr = position(&one.expr, outputs).cloned();
        if expr.is_none()
            && let Expr::Value(value) = &one.expr
            && let sqlparser::ast::Value::Number(number, _) = &value.value
        {
            // `SELECT * ... ORDER BY 3`
            let at = number.parse::<usize>().ok().and_then(|n| n.checked_sub(1)).and_then(|n| outputs.get(n));
            let Some(Output { what: What::Source(i), .. }) = at else {
                return Err(AdminError::new(1054, "42S22", format_args!("there is no column {number} to ORDER BY")));
            };
            expr = columns.get(*i).map(|c| Expr::Identifier(sqlparser::ast::Ident::new(c.name.clone())));
        }
        all.push((expr.unwrap_or_else(|| one.expr.clone()), descending));
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
