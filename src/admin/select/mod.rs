//! `SELECT` over the admin's tables, by SQLite in memory: joins, subqueries, aggregates, window functions.
//!
//! [`rewrite`] says the question in SQLite's words (variables, `/`, `<=>`, intervals) and names the tables it needs; those
//! are read from the house as they are now and laid into an empty database, which [`engine`] asks, off the threads that
//! serve clients and watch servers. [`functions`] are those of MySQL that SQLite lacks or means differently.

mod engine;
mod functions;
mod having;
mod rewrite;

use sqlparser::ast::{Query, Statement};
use sqlparser::dialect::MySqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer};

use super::Session;
use super::answer::{AdminError, Table};
use super::foreign;
use super::house::House;
use super::show::known_schema;
use super::tables;
use engine::Loaded;
use rewrite::Question;

/// A longer `SELECT` is refused before it is parsed. The longest that tools send (Connector/J's `getColumns`) has about 5,000.
const SELECT_BYTES_MAX: usize = 16 * 1024;
/// The parser, the rewriting and the tree's own destructor recurse once for each operator of a chain like `1+1+1+...`. Every
/// level of a tree costs at least one word that is no name, value or comma, so a limit on those bounds the depth. Connector/J's
/// `getColumns` has some 430, hardly any of them within each other; SQLite itself takes a tree of 1,000 levels.
const SELECT_OPERATORS_MAX: usize = 1_000;
/// Stack for all of that, as the parser gets for statements of clients: a thread has 2 MiB in all.
const SELECT_STACK: usize = 64 << 20;
/// The table of what SHOW shows.
const SHOWN: &str = "shown";
/// Nested parentheses; the parser's own guard.
const NESTING_MAX: usize = 40;

/// Answers a `SELECT`.
///
/// # Errors
/// 1064 for what neither parser understands, 1146 and 1054 for unknown tables and columns, 3024 when it takes too long.
pub async fn select(sql: &str, session: &Session, house: &dyn House) -> Result<Table, AdminError> {
    let question = understood(sql, session.select_limit)?;
    let mut loaded: Vec<Loaded> = Vec::new();
    let mut views: Vec<(String, &'static str)> = Vec::new();
    // A question may name a table hundreds of times: it is read once, so that what a question takes is bounded by the tables there are.
    let mut load = |place, schema: Option<&str>, name: &str| {
        let lower = name.to_lowercase();
        if !loaded.iter().any(|had| had.schema == place && had.name == lower) {
            loaded.push(Loaded::new(place, name, tables::table(schema, name, house)?));
        }
        Ok::<(), AdminError>(())
    };
    for (schema, name) in &question.tables {
        schema.as_deref().map_or(Ok(()), known_schema)?;
        let schema = schema.as_deref().or(session.schema.as_deref());
        match foreign::view(name).filter(|_| tables::place(schema) == tables::SCHEMA) {
            Some(view) => {
                for needed in view.needs {
                    load(tables::SCHEMA, None, needed)?;
                }
                let lower = name.to_lowercase();
                if !views.iter().any(|(had, _)| *had == lower) {
                    views.push((lower, view.sql));
                }
            }
            None => {
                load(tables::place(schema), schema, name)?;
            }
        }
    }
    ask(question.sql, loaded, views, session).await
}

/// `SHOW ... WHERE ... ORDER BY ... LIMIT ...`: `rest` is what follows, `table` what SHOW would have shown.
///
/// # Errors
/// As [`select`].
pub async fn filter(table: Table, rest: &str, session: &Session) -> Result<Table, AdminError> {
    let question = understood(&format!("SELECT * FROM {SHOWN} {rest}"), None)?;
    if question.tables.iter().any(|(schema, name)| schema.is_some() || name != SHOWN) {
        return Err(AdminError::syntax("SHOW ... WHERE reads only what it shows; SELECT joins tables"));
    }
    ask(question.sql, vec![Loaded::new(tables::SCHEMA, SHOWN, table)], Vec::new(), session).await
}

/// Asks tables and views that are each there once.
async fn ask(sql: String, loaded: Vec<Loaded>, views: Vec<(String, &'static str)>, session: &Session) -> Result<Table, AdminError> {
    let session = session.clone();
    let answered = tokio::task::spawn_blocking(move || engine::run(&sql, loaded, &views, &session)).await;
    answered.unwrap_or_else(|e| Err(AdminError::failed(format_args!("the SELECT ended badly: {e}"))))
}

/// The question of a `SELECT`, which has at most so many rows if it does not say itself; its tree is gone again.
fn understood(sql: &str, limit: Option<u64>) -> Result<Question, AdminError> {
    stacker::grow(SELECT_STACK, || rewrite::rewrite(parse(sql)?, limit))
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
        (Some(Statement::Query(query)), true) => Ok(query),
        (_, false) => Err(AdminError::syntax("one statement at a time, please")),
        _ => Err(AdminError::syntax("not a SELECT; HELP lists what there is")),
    }
}

fn may_nest(token: &Token) -> bool {
    match token {
        Token::Whitespace(_) | Token::Comma | Token::Period | Token::RParen | Token::Number(..) => false,
        Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) => false,
        // WHEN, THEN and the names of columns make a tree wide, not deep.
        Token::Word(word) => !matches!(
            word.keyword,
            Keyword::NoKeyword | Keyword::AS | Keyword::WHEN | Keyword::THEN | Keyword::NULL | Keyword::COLUMN | Keyword::TABLE
        ),
        _ => true,
    }
}

#[cfg(test)]
mod tests;
