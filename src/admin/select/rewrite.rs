//! A MySQL `SELECT` said in SQLite's words, and the tables it reads.
//!
//! What differs and can be said differently is: variables, division, `<=>`, intervals, strings in double quotes. What SQLite
//! does not have it refuses itself.

use std::collections::HashSet;
use std::ops::ControlFlow;

use sqlparser::ast::*;
use sqlparser::dialect::MySqlDialect;
use sqlparser::parser::Parser;

use super::super::answer::{AdminError, Value as Cell};
use super::super::foreign;
use super::super::variables;
use super::having;
use crate::protocol::errno;

/// What is asked of SQLite.
pub struct Question {
    /// In SQLite's words.
    pub sql: String,
    /// Tables by schema, if one is named, and name, as written.
    pub tables: Vec<(Option<String>, String)>,
}

/// Rewrites a query; `limit` is for one that has none.
///
/// # Errors
/// 1064 for what has no counterpart (INTO, placeholders), 1193 for an unknown variable.
pub fn rewrite(mut query: Box<Query>, limit: Option<u64>) -> Result<Question, AdminError> {
    if let Some(rows) = limit.filter(|_| query.limit_clause.is_none()) {
        let rows = number(i64::try_from(rows).unwrap_or(i64::MAX));
        query.limit_clause = Some(LimitClause::LimitOffset { limit: Some(rows), offset: None, limit_by: Vec::new() });
    }
    name_columns(&mut query.body);
    newest_first(&mut query);
    let mut rewriter = Rewriter::default();
    if let ControlFlow::Break(error) = VisitMut::visit(&mut query, &mut rewriter) {
        return Err(error);
    }
    Ok(Question { sql: query.to_string(), tables: rewriter.tables })
}

/// `ORDER BY at DESC` gives events of the same millisecond newest first, too: they stand in the table in the order in which they happened.
fn newest_first(query: &mut Query) {
    let (SetExpr::Select(select), Some(OrderBy { kind: OrderByKind::Expressions(by), .. })) = (&*query.body, &mut query.order_by)
    else {
        return;
    };
    let [TableWithJoins { relation: TableFactor::Table { name, .. }, joins }] = select.from.as_slice() else { return };
    let table = name.0.last().and_then(|part| part.as_ident()).map(|ident| ident.value.to_lowercase());
    let own = query.with.is_none() && joins.is_empty() && table.is_some_and(|table| table == "events" || table == super::SHOWN);
    let is_at = |expr: &Expr| match expr {
        Expr::Identifier(column) => column.value.eq_ignore_ascii_case("at"),
        Expr::CompoundIdentifier(parts) => parts.last().is_some_and(|column| column.value.eq_ignore_ascii_case("at")),
        _ => false,
    };
    let named_at = |name: &Ident| {
        select.projection.iter().any(|item| {
            matches!(item, SelectItem::ExprWithAlias { expr, alias } if is_at(expr) && alias.value.eq_ignore_ascii_case(&name.value))
        })
    };
    let Some(last) = by.last().filter(|last| matches!(last.options.sort, Some(OrderBySort::Desc))) else { return };
    if own && (is_at(&last.expr) || matches!(&last.expr, Expr::Identifier(name) if named_at(name))) {
        let options = last.options.clone();
        by.push(OrderByExpr { options, ..OrderByExpr::from(Ident::new("rowid")) });
    }
}

/// MySQL calls a computed column by its text as it was asked for, so that is noted before anything is changed.
fn name_columns(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => {
            for item in &mut select.projection {
                let SelectItem::UnnamedExpr(expr) = item else { continue };
                let plain = match &*expr {
                    Expr::Identifier(name) => !name.value.starts_with('@'),
                    Expr::CompoundIdentifier(parts) => !parts.first().is_some_and(|p| p.value.starts_with('@')),
                    Expr::Function(f) => matches!(f.args, FunctionArguments::None),
                    _ => false,
                };
                if !plain {
                    let alias = Ident::with_quote('`', expr.to_string());
                    *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
                }
            }
        }
        SetExpr::SetOperation { left, .. } => name_columns(left),
        SetExpr::Query(query) => name_columns(&mut query.body),
        _ => {}
    }
}

#[derive(Default)]
struct Rewriter {
    tables: Vec<(Option<String>, String)>,
    /// Names that WITH gave.
    own: HashSet<String>,
    /// How many names of computed columns were replaced by what they stand for, in the whole question.
    replaced: usize,
}

pub(super) type Flow = ControlFlow<AdminError>;

pub(super) fn refuse(what: impl std::fmt::Display) -> Flow {
    ControlFlow::Break(AdminError::syntax(what))
}

impl VisitorMut for Rewriter {
    type Break = AdminError;

    fn pre_visit_query(&mut self, query: &mut Query) -> Flow {
        query.locks.clear();
        open(&mut query.body);
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.own.insert(table.alias.name.value.to_lowercase());
        }
        Flow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> Flow {
        if select.into.is_some() {
            return refuse("SELECT ... INTO writes; this port's tables are only read");
        }
        select.optimizer_hints.clear();
        select.select_modifiers = None;
        let dual =
            |name: &ObjectName| name.0.last().and_then(|p| p.as_ident()).is_some_and(|i| i.value.eq_ignore_ascii_case("dual"));
        if let [only] = select.from.as_slice()
            && only.joins.is_empty()
            && matches!(&only.relation, TableFactor::Table { name, .. } if dual(name))
        {
            select.from.clear();
        }
        having::without_group(select, &mut self.replaced)
    }

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> Flow {
        if let TableFactor::Table { index_hints, .. } = table {
            index_hints.clear();
        }
        Flow::Continue(())
    }

    fn pre_visit_relation(&mut self, name: &mut ObjectName) -> Flow {
        let parts: Vec<String> = name.0.iter().map(|p| p.as_ident().map_or_else(|| p.to_string(), |i| i.value.clone())).collect();
        match parts.as_slice() {
            [table] if self.own.contains(&table.to_lowercase()) => {}
            [table] => self.tables.push((None, table.clone())),
            // `stats.stats_mysql_query_digest`, `main.mysql_servers`
            [schema, table] if foreign::is_schema(schema) => {
                self.tables.push((None, table.clone()));
                *name = ObjectName::from(vec![Ident::with_quote('`', table.clone())]);
            }
            [schema, table] => self.tables.push((Some(schema.clone()), table.clone())),
            _ => return refuse(format_args!("`{name}` has more parts than schema and table")),
        }
        Flow::Continue(())
    }

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> Flow {
        match &value.value {
            Value::DoubleQuotedString(text) => value.value = Value::SingleQuotedString(text.clone()),
            // `b'101'`
            Value::SingleQuotedByteStringLiteral(bits) => match u64::from_str_radix(bits, 2) {
                Ok(bits) => value.value = Value::Number(bits.to_string(), false),
                Err(_) => return refuse(format_args!("b'{bits}' is no number of at most 64 bits")),
            },
            Value::SingleQuotedString(text) if text.contains('\0') => {
                return refuse("a text with a zero byte cannot be asked for here: no table has one");
            }
            Value::Placeholder(sign) => return refuse(format_args!("`{sign}` stands for a value that was not given")),
            _ => {}
        }
        Flow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> Flow {
        let new = match expr {
            Expr::Identifier(name) if name.value.starts_with('@') => match variable(&name.value) {
                Ok(value) => value,
                Err(error) => return ControlFlow::Break(error),
            },
            Expr::CompoundIdentifier(parts) if parts.first().is_some_and(|p| p.value.starts_with("@@")) => {
                let name = parts.iter().map(|p| p.value.as_str()).collect::<Vec<_>>().join(".");
                match variable(&name) {
                    Ok(value) => value,
                    Err(error) => return ControlFlow::Break(error),
                }
            }
            Expr::BinaryOp { left, op, right } => {
                let sign = if *op == BinaryOperator::Minus { -1 } else { 1 };
                match (&*op, right.as_ref()) {
                    (BinaryOperator::Plus | BinaryOperator::Minus, Expr::Interval(interval)) => match seconds(interval) {
                        Some(seconds) => call("mysql_add_seconds", [*left.clone(), number(sign * seconds)]),
                        None => return refuse(format_args!("`{interval}` is no number of seconds to weeks")),
                    },
                    (BinaryOperator::Xor, _) => call("mysql_xor", [*left.clone(), *right.clone()]),
                    (BinaryOperator::Divide, _) => call("mysql_divide", [*left.clone(), *right.clone()]),
                    (BinaryOperator::MyIntegerDivide, _) => call("mysql_div", [*left.clone(), *right.clone()]),
                    (BinaryOperator::Spaceship, _) => {
                        *op = BinaryOperator::Custom("IS".to_owned());
                        return Flow::Continue(());
                    }
                    _ => return Flow::Continue(()),
                }
            }
            Expr::RLike { regexp, .. } => {
                *regexp = true;
                return Flow::Continue(());
            }
            Expr::Substring { special, .. } => {
                *special = true;
                return Flow::Continue(());
            }
            // Everything here is utf8mb4 and compares without regard to case.
            Expr::Collate { expr: inner, .. } | Expr::Prefixed { value: inner, .. } => *inner.clone(),
            Expr::Convert { expr: inner, charset: Some(_), .. } => *inner.clone(),
            Expr::Convert { expr: inner, data_type: Some(kind), .. } => cast(inner.clone(), kind),
            Expr::Cast { expr: inner, data_type, .. } => cast(inner.clone(), data_type),
            Expr::Extract { field, expr: inner, .. } => match field {
                DateTimeField::Year
                | DateTimeField::Month
                | DateTimeField::Day
                | DateTimeField::Hour
                | DateTimeField::Minute
                | DateTimeField::Second => call(&field.to_string(), [*inner.clone()]),
                _ => return refuse(format_args!("EXTRACT knows YEAR, MONTH, DAY, HOUR, MINUTE and SECOND, not {field}")),
            },
            // A word of SQLite's own, which takes nothing in parentheses.
            Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("isnull") => match only(function) {
                Some(value) => Expr::Nested(Box::new(Expr::IsNull(Box::new(value)))),
                None => return refuse("ISNULL() takes one value"),
            },
            Expr::Function(function) => return function_words(function),
            _ => return Flow::Continue(()),
        };
        *expr = new;
        Flow::Continue(())
    }
}

/// `(SELECT ...) UNION (SELECT ...)`: SQLite has no parentheses there. Those that only hold a SELECT go, the others become a table.
fn open(body: &mut SetExpr) {
    match body {
        SetExpr::SetOperation { left, right, .. } => {
            open(left);
            open(right);
        }
        SetExpr::Query(query) => {
            let plain = query.with.is_none() && query.order_by.is_none() && query.limit_clause.is_none();
            let inner = std::mem::replace(
                &mut *query.body,
                SetExpr::Values(Values { explicit_row: false, value_keyword: false, rows: vec![] }),
            );
            match inner {
                SetExpr::Select(select) if plain => *body = SetExpr::Select(select),
                inner => {
                    *query.body = inner;
                    if let Some(outer) = as_table(query.clone()) {
                        *body = outer;
                    }
                }
            }
        }
        _ => {}
    }
}

/// `SELECT * FROM (query)`
fn as_table(query: Box<Query>) -> Option<SetExpr> {
    let outer = Parser::parse_sql(&MySqlDialect {}, "SELECT * FROM (SELECT 1)").ok()?.pop()?;
    let Statement::Query(mut outer) = outer else { return None };
    if let SetExpr::Select(select) = &mut *outer.body
        && let [TableWithJoins { relation: TableFactor::Derived { subquery, .. }, .. }] = select.from.as_mut_slice()
    {
        *subquery = query;
    }
    Some(*outer.body)
}

fn function_words(function: &mut Function) -> Flow {
    let name = function.name.to_string().to_uppercase();
    // `CURRENT_USER` without parentheses; `user` and `schema` without are columns.
    if matches!(function.args, FunctionArguments::None) && name == "CURRENT_USER" {
        function.args = FunctionArguments::List(list(Vec::new()));
        return Flow::Continue(());
    }
    let FunctionArguments::List(arguments) = &mut function.args else { return Flow::Continue(()) };
    let separator = arguments.clauses.iter().position(|c| matches!(c, FunctionArgumentClause::Separator(_)));
    if let Some(at) = separator
        && let FunctionArgumentClause::Separator(value) = arguments.clauses.remove(at)
    {
        arguments.args.push(argument(Expr::Value(value)));
    }
    // Its unit looks like the name of a column.
    if let ("TIMESTAMPDIFF", [FunctionArg::Unnamed(FunctionArgExpr::Expr(unit)), ..]) =
        (name.as_str(), arguments.args.as_mut_slice())
        && let Expr::Identifier(word) = unit
    {
        *unit = Expr::value(Value::SingleQuotedString(word.value.clone()));
    }
    if let ("DATE_ADD" | "DATE_SUB", [time, FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Interval(interval)))]) =
        (name.as_str(), arguments.args.as_slice())
    {
        let (Some(seconds), time) = (seconds(interval), time.clone()) else {
            return refuse(format_args!("the interval of `{function}` is no number of seconds to weeks"));
        };
        let sign = if name == "DATE_SUB" { -1 } else { 1 };
        function.name = ObjectName::from(vec![Ident::new("mysql_add_seconds")]);
        function.args = FunctionArguments::List(list(vec![time, argument(number(sign * seconds))]));
    }
    Flow::Continue(())
}

/// The length of `INTERVAL 5 MINUTE`.
fn seconds(interval: &Interval) -> Option<i64> {
    let Expr::Value(value) = interval.value.as_ref() else { return None };
    let count: i64 = match &value.value {
        Value::Number(text, _) | Value::SingleQuotedString(text) => text.parse().ok()?,
        _ => return None,
    };
    let unit = match interval.leading_field.as_ref()? {
        DateTimeField::Second => 1,
        DateTimeField::Minute => 60,
        DateTimeField::Hour => 3_600,
        DateTimeField::Day => 86_400,
        DateTimeField::Week(_) => 604_800,
        _ => return None,
    };
    count.checked_mul(unit)
}

/// `@@name`, `@@session.name`, `@name` (a user variable: nobody has set one, so NULL).
fn variable(name: &str) -> Result<Expr, AdminError> {
    let Some(system) = name.strip_prefix("@@") else { return Ok(Expr::value(Value::Null)) };
    let lower = system.to_lowercase();
    let bare = ["session.", "global.", "local."].iter().find_map(|scope| lower.strip_prefix(scope)).unwrap_or(&lower);
    match variables::system(bare) {
        Some(Cell::Null) => Ok(Expr::value(Value::Null)),
        Some(Cell::Text(text)) => Ok(Expr::value(Value::SingleQuotedString(text))),
        Some(other) => Ok(Expr::value(Value::Number(other.text().unwrap_or_default(), false))),
        None => Err(AdminError::new(
            errno::ER_UNKNOWN_SYSTEM_VARIABLE,
            format_args!("unknown system variable `{bare}`; {}", variables::advice(bare)),
        )),
    }
}

fn number(n: i64) -> Expr {
    Expr::value(Value::Number(n.to_string(), false))
}

/// `CAST(x AS UNSIGNED)`, with the type that SQLite has for it.
fn cast(expr: Box<Expr>, kind: &DataType) -> Expr {
    let name = kind.to_string().to_uppercase();
    let data_type = match name.split([' ', '(']).next().unwrap_or_default() {
        "SIGNED" | "UNSIGNED" | "BIGINT" | "INT" | "INTEGER" => DataType::BigInt(None),
        "DECIMAL" | "DOUBLE" | "FLOAT" | "REAL" => DataType::Real,
        _ => DataType::Text,
    };
    Expr::Cast { kind: CastKind::Cast, expr, data_type, format: None }
}

fn argument(expr: Expr) -> FunctionArg {
    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
}

fn list(args: Vec<FunctionArg>) -> FunctionArgumentList {
    FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }
}

/// The one argument of a function that has one.
fn only(function: &Function) -> Option<Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))] => Some(expr.clone()),
        _ => None,
    }
}

fn call<const N: usize>(name: &str, args: [Expr; N]) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(list(args.into_iter().map(argument).collect())),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
