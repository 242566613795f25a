//! What a statement of the admin port is answered with, before anybody thinks of packets.

use std::cmp::Ordering;
use std::fmt;

use crate::protocol::errno::{self, Errno};

/// One cell.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// NULL.
    Null,
    /// A signed number.
    Int(i64),
    /// An unsigned number.
    UInt(u64),
    /// A number with a fraction.
    Float(f64),
    /// Text.
    Text(String),
}

/// The type of a column, as clients are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `BIGINT`
    Int,
    /// `BIGINT UNSIGNED`
    UInt,
    /// `DOUBLE`
    Float,
    /// `VARCHAR`, utf8mb4
    Text,
    /// `DATETIME(3)` in UTC; its values are text
    Time,
}

impl Kind {
    /// The type's name in `SHOW COLUMNS`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Int => "bigint",
            Kind::UInt => "bigint unsigned",
            Kind::Float => "double",
            Kind::Text => "varchar(255)",
            Kind::Time => "datetime(3)",
        }
    }
}

/// A column's name and type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: Kind,
}

impl Column {
    /// A column.
    pub fn new(name: impl Into<String>, kind: Kind) -> Column {
        Column { name: name.into(), kind }
    }
}

/// Columns and rows; every row has as many cells as there are columns.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Table {
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows.
    pub rows: Vec<Vec<Value>>,
}

impl Table {
    /// A table of text columns.
    pub fn of_text(columns: &[&str], rows: Vec<Vec<String>>) -> Table {
        Table {
            columns: columns.iter().map(|name| Column::new(*name, Kind::Text)).collect(),
            rows: rows.into_iter().map(|row| row.into_iter().map(Value::Text).collect()).collect(),
        }
    }
}

/// The answer to one statement.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// A result set.
    Table(Table),
    /// Done.
    Ok {
        /// Rows changed; 0 for most commands.
        affected: u64,
        /// What was done, for people; empty for `SET` and the like.
        info: String,
    },
    /// Refused or failed.
    Error(AdminError),
}

impl Answer {
    /// Done, with nothing to say.
    pub fn done() -> Answer {
        Answer::Ok { affected: 0, info: String::new() }
    }
}

/// An error as MySQL clients know it. The message begins with `sluice: `.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdminError {
    /// MySQL's error number.
    pub errno: u16,
    /// The SQLSTATE, five letters.
    pub sqlstate: &'static str,
    /// For people.
    pub message: String,
}

impl AdminError {
    /// Any error; `sluice: ` is put before the message.
    pub fn new(error: Errno, message: impl fmt::Display) -> AdminError {
        AdminError { errno: error.0, sqlstate: error.sqlstate(), message: format!("sluice: {message}") }
    }

    /// ER_PARSE_ERROR (1064): not a statement we know, and what would have been right.
    pub fn syntax(message: impl fmt::Display) -> AdminError {
        AdminError::new(errno::ER_PARSE_ERROR, message)
    }

    /// ER_NOT_SUPPORTED_YET (1235): `what` is a command of the product that this version cannot carry out.
    pub fn unavailable(what: impl fmt::Display) -> AdminError {
        AdminError::new(errno::ER_NOT_SUPPORTED_YET, format_args!("{what} is not available in this version"))
    }

    /// ER_UNKNOWN_ERROR (1105): the command was right and failed; `message` says why.
    pub fn failed(message: impl fmt::Display) -> AdminError {
        AdminError::new(errno::ER_UNKNOWN_ERROR, message)
    }

    /// For a server name that is in no configuration (1477, ER_FOREIGN_SERVER_DOESNT_EXIST).
    pub fn unknown_server<'k>(name: &str, known: impl IntoIterator<Item = &'k str> + Clone) -> AdminError {
        let advice = match super::nearest::nearest(name, known.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the servers are {}", known.into_iter().collect::<Vec<_>>().join(", ")),
        };
        AdminError::new(errno::ER_FOREIGN_SERVER_DOESNT_EXIST, format_args!("no server is called `{name}`; {advice}"))
    }

    /// ER_NO_SUCH_THREAD (1094), for KILL.
    pub fn unknown_client(id: u64) -> AdminError {
        AdminError::new(errno::ER_NO_SUCH_THREAD, format_args!("no client has the id {id}; SHOW CLIENTS lists them"))
    }
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ERROR {} ({}): {}", self.errno, self.sqlstate, self.message)
    }
}

impl std::error::Error for AdminError {}

impl Value {
    /// As the text protocol shows it; `None` for NULL.
    pub fn text(&self) -> Option<String> {
        Some(match self {
            Value::Null => return None,
            Value::Int(v) => v.to_string(),
            Value::UInt(v) => v.to_string(),
            Value::Float(v) => v.to_string(),
            Value::Text(v) => v.clone(),
        })
    }

    /// As a number: text by its leading digits, as MySQL does, else 0. `None` for NULL.
    pub fn number(&self) -> Option<f64> {
        Some(match self {
            Value::Null => return None,
            Value::Int(v) => *v as f64,
            Value::UInt(v) => *v as f64,
            Value::Float(v) => *v,
            Value::Text(v) => {
                let v = v.trim_start();
                let end = v
                    .char_indices()
                    .find(|(i, c)| !(c.is_ascii_digit() || *c == '.' || (*i == 0 && matches!(c, '-' | '+'))))
                    .map_or(v.len(), |(i, _)| i);
                v[..end].parse().unwrap_or(0.0)
            }
        })
    }

    /// As `=`, `<`, `ORDER BY` compare: text without regard to case, a number with text as numbers. `None` when either is NULL.
    pub fn compare(&self, other: &Value) -> Option<Ordering> {
        Some(match (self, other) {
            (Value::Null, _) | (_, Value::Null) => return None,
            (Value::Text(a), Value::Text(b)) => a.to_lowercase().cmp(&b.to_lowercase()),
            (Value::Int(a), Value::Int(b)) => a.cmp(b),
            (Value::UInt(a), Value::UInt(b)) => a.cmp(b),
            (Value::Int(a), Value::UInt(b)) => i128::from(*a).cmp(&i128::from(*b)),
            (Value::UInt(a), Value::Int(b)) => i128::from(*a).cmp(&i128::from(*b)),
            (a, b) => a.number()?.total_cmp(&b.number()?),
        })
    }

    /// The type a column of such values has; `None` for NULL.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Value::Null => None,
            Value::Int(_) => Some(Kind::Int),
            Value::UInt(_) => Some(Kind::UInt),
            Value::Float(_) => Some(Kind::Float),
            Value::Text(_) => Some(Kind::Text),
        }
    }
}

impl From<&str> for Value {
    fn from(v: &str) -> Value {
        Value::Text(v.to_owned())
    }
}

impl From<bool> for Value {
    fn from(v: bool) -> Value {
        Value::Int(i64::from(v))
    }
}
