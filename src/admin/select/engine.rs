//! An empty SQLite database in memory: filled with the tables of one question, asked, thrown away.

use std::collections::HashMap;
use std::time::Duration;

use rusqlite::limits::Limit;
use rusqlite::types::{Value as Cell, ValueRef};
use rusqlite::{Connection, Error, Statement};

use super::super::Session;
use super::super::answer::{AdminError, Column, Kind, Table, Value};
use super::super::nearest::nearest;
use super::super::system_schemas::MYSQLS;
use super::super::tables::{INFORMATION, SCHEMA};
use super::functions;
use crate::clock::Clock;
use crate::protocol::errno;

/// A question that takes longer is ended: a join of everything with everything is a mistake.
const TIME_MAX: Duration = Duration::from_secs(3);
/// Instructions of SQLite's machine between looks at the clock; some 50 microseconds.
const STEPS_PER_LOOK: i32 = 10_000;
/// One string or row.
const VALUE_BYTES_MAX: i32 = 16 << 20;
/// All memory that SQLite takes in this process, whoever asks: 10,000 digests with their texts need about 10 MiB.
const MEMORY_MAX: i64 = 256 << 20;
/// Rows of an answer; they are all in memory before the first is sent.
const ROWS_MAX: usize = 200_000;

/// A table to be laid into the database.
pub struct Loaded {
    /// `sluice`, `information_schema` or one of [`MYSQLS`].
    pub schema: &'static str,
    /// Its name in lower case.
    pub name: String,
    table: Table,
}

impl Loaded {
    /// A table with its rows.
    pub fn new(schema: &'static str, name: &str, table: Table) -> Loaded {
        Loaded { schema, name: name.to_lowercase(), table }
    }
}

/// Answers a question in SQLite's words.
///
/// # Errors
/// MySQL's numbers for what SQLite says.
pub fn run(sql: &str, tables: Vec<Loaded>, views: &[(String, &'static str)], session: &Session) -> Result<Table, AdminError> {
    let mut columns: Vec<String> = Vec::new();
    for loaded in &tables {
        columns.extend(loaded.table.columns.iter().map(|c| c.name.clone()));
    }
    answer(sql, tables, views, session).map_err(|e| mysql_error(&e, &columns))
}

fn answer(sql: &str, tables: Vec<Loaded>, views: &[(String, &'static str)], session: &Session) -> Result<Table, Error> {
    let mut db = Connection::open_in_memory()?;
    db.execute_batch(&format!(
        "PRAGMA temp_store = MEMORY; PRAGMA hard_heap_limit = {MEMORY_MAX};
         ATTACH ':memory:' AS {SCHEMA}; ATTACH ':memory:' AS {INFORMATION};"
    ))?;
    for schema in MYSQLS.iter().filter(|schema| tables.iter().any(|loaded| loaded.schema == **schema)) {
        db.execute_batch(&format!("ATTACH ':memory:' AS {schema}"))?;
    }
    db.set_limit(Limit::SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX)?;
    functions::register(&db, session)?;
    for loaded in tables {
        lay(&db, loaded)?;
    }
    for (name, text) in views {
        // A view may not reach into another attached database, and need not: all its tables are in this one.
        db.execute_batch(&format!("CREATE VIEW {SCHEMA}.{} AS {text}", quoted(name)))?;
    }
    let deadline = Clock::now() + TIME_MAX;
    db.progress_handler(STEPS_PER_LOOK, Some(move || Clock::now() > deadline))?;
    let mut statement = db.prepare(sql)?;
    read(&mut statement)
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// The type a column is declared with; text compares without regard to case, as in MySQL.
fn declared(kind: Kind) -> &'static str {
    match kind {
        Kind::Int => "BIGINT",
        Kind::UInt => "BIGINT UNSIGNED",
        Kind::Float => "DOUBLE",
        Kind::Text => "TEXT COLLATE NOCASE",
        // Said so that SQLite takes it for text all the same.
        Kind::Time => "DATETIME TEXT",
    }
}

fn lay(db: &Connection, loaded: Loaded) -> Result<(), Error> {
    let Loaded { schema, name, table } = loaded;
    let columns: Vec<String> = table.columns.iter().map(|c| format!("{} {}", quoted(&c.name), declared(c.kind))).collect();
    let place = format!("{schema}.{}", quoted(&name));
    db.execute_batch(&format!("CREATE TABLE {place} ({})", columns.join(", ")))?;
    if table.rows.is_empty() {
        return Ok(());
    }
    let marks = vec!["?"; table.columns.len()].join(", ");
    let mut insert = db.prepare(&format!("INSERT INTO {place} VALUES ({marks})"))?;
    db.execute_batch("BEGIN")?;
    for row in table.rows {
        insert.execute(rusqlite::params_from_iter(row.into_iter().map(cell)))?;
    }
    db.execute_batch("COMMIT")
}

fn cell(value: Value) -> Cell {
    match value {
        Value::Null => Cell::Null,
        Value::Int(v) => Cell::Integer(v),
        // SQLite's integers are signed; counters do not come that far.
        Value::UInt(v) => i64::try_from(v).map_or(Cell::Real(v as f64), Cell::Integer),
        Value::Float(v) => Cell::Real(v),
        Value::Text(v) => Cell::Text(v),
    }
}

fn read(statement: &mut Statement<'_>) -> Result<Table, Error> {
    let mut columns: Vec<(String, Option<Kind>)> = statement
        .columns()
        .map(|column| {
            let kind = column.decl_type().and_then(|declared| match declared.to_uppercase().as_str() {
                "BIGINT UNSIGNED" => Some(Kind::UInt),
                "BIGINT" => Some(Kind::Int),
                "DOUBLE" => Some(Kind::Float),
                "TEXT" => Some(Kind::Text),
                "DATETIME TEXT" => Some(Kind::Time),
                _ => None,
            });
            (column.name().to_owned(), kind)
        })
        .collect();
    let mut seen: Vec<Option<Kind>> = vec![None; columns.len()];
    let mut rows = Vec::new();
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        if rows.len() >= ROWS_MAX {
            return Err(Error::UserFunctionError(format!("the answer has more than {ROWS_MAX} rows; add a LIMIT").into()));
        }
        let mut cells = Vec::with_capacity(columns.len());
        for (i, (_, kind)) in columns.iter().enumerate() {
            let value = match (row.get_ref(i)?, kind) {
                (ValueRef::Null, _) => Value::Null,
                (ValueRef::Integer(v), Some(Kind::UInt)) => u64::try_from(v).map_or(Value::Int(v), Value::UInt),
                (ValueRef::Integer(v), Some(Kind::Float)) => Value::Float(v as f64),
                (ValueRef::Integer(v), _) => Value::Int(v),
                (ValueRef::Real(v), _) => Value::Float(v),
                (ValueRef::Text(v) | ValueRef::Blob(v), _) => Value::Text(String::from_utf8_lossy(v).into_owned()),
            };
            if let (None, Some(place)) = (kind, seen.get_mut(i)) {
                *place = match (*place, value.kind()) {
                    (None, kind) | (kind, None) => kind,
                    (Some(a), Some(b)) if a == b => Some(a),
                    (Some(Kind::Text), _) | (_, Some(Kind::Text)) => Some(Kind::Text),
                    _ => Some(Kind::Float),
                };
            }
            cells.push(value);
        }
        rows.push(cells);
    }
    for ((_, kind), seen) in columns.iter_mut().zip(seen) {
        *kind = kind.or(seen);
    }
    let columns = columns.into_iter().map(|(name, kind)| Column::new(name, kind.unwrap_or(Kind::Text))).collect();
    Ok(Table { columns, rows })
}

/// What SQLite says, with MySQL's number and the nearest right word.
fn mysql_error(error: &Error, columns: &[String]) -> AdminError {
    let text = match error {
        Error::SqlInputError { msg, .. } => msg.clone(),
        Error::UserFunctionError(why) => why.to_string(),
        Error::SqliteFailure(code, detail) => match code.code {
            rusqlite::ErrorCode::OperationInterrupted => {
                let message = format!("the SELECT took longer than {} s and was ended", TIME_MAX.as_secs());
                return AdminError::new(errno::ER_QUERY_TIMEOUT, message);
            }
            rusqlite::ErrorCode::OutOfMemory => {
                let message = format!("the SELECT needs more than the {} MiB there are for it", MEMORY_MAX >> 20);
                return AdminError::new(errno::ER_OUT_OF_SORTMEMORY, message);
            }
            rusqlite::ErrorCode::TooBig => {
                return AdminError::new(
                    errno::ER_WARN_ALLOWED_PACKET_OVERFLOWED,
                    format_args!("a value is longer than {VALUE_BYTES_MAX} bytes"),
                );
            }
            _ => detail.clone().unwrap_or_else(|| error.to_string()),
        },
        other => other.to_string(),
    };
    let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    if let Some(name) = text.strip_prefix("no such column: ") {
        let mut all: Vec<&str> = columns.iter().map(String::as_str).collect();
        let mut seen = HashMap::new();
        all.retain(|c| seen.insert(*c, ()).is_none());
        let advice = match nearest(&last(name), all.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if all.is_empty() => "there is no table after FROM".to_owned(),
            None => format!("the columns are {}", all.join(", ")),
        };
        return AdminError::new(errno::ER_BAD_FIELD_ERROR, format_args!("unknown column `{name}`; {advice}"));
    }
    if let Some(name) = text.strip_prefix("no such function: ") {
        let advice = match nearest(name, functions::NAMES.iter().copied()) {
            Some(near) => format!("did you mean {near}()?"),
            None => format!("there are {}", functions::NAMES.join(", ")),
        };
        return AdminError::new(errno::ER_SP_DOES_NOT_EXIST, format_args!("no function is called {name}; {advice}"));
    }
    match text.as_str() {
        t if t.starts_with("wrong number of arguments") => AdminError::new(errno::ER_WRONG_PARAMCOUNT_TO_NATIVE_FCT, t),
        t if t.starts_with("misuse of aggregate") => AdminError::new(
            errno::ER_INVALID_GROUP_FUNC_USE,
            format_args!("an aggregate cannot stand there (in WHERE, for example); write HAVING: {t}"),
        ),
        t if t.starts_with("ambiguous column name") => AdminError::new(errno::ER_NON_UNIQ_ERROR, t),
        t if t.contains("ORDER BY term out of range") => AdminError::new(errno::ER_BAD_FIELD_ERROR, t),
        "no tables specified" => AdminError::new(errno::ER_NO_TABLES_USED, "no table after FROM; SHOW TABLES lists them"),
        t => match t.strip_prefix("near ").and_then(|rest| rest.strip_suffix(": syntax error")) {
            Some(place) => AdminError::syntax(format_args!(
                "what stands near {place} is SQL that this port's SELECT does not know; docs/admin.md says what it does"
            )),
            None => AdminError::syntax(t),
        },
    }
}
