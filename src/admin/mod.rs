//! The proxy's own SQL (MySQL protocol, port 6032) and HTTP (port 6070): how people and tools look in and command.
//!
//! [`execute`] answers a statement and knows no socket: it asks a [`House`] for rows and hands it commands. [`server`]
//! brings it to MySQL clients, [`http`] brings the metrics, the health answers and the status page to everybody else.
//!
//! Reading order: [`answer`], [`house`] (what is asked of the other rooms), [`commands`] (the statements; [`foreign`]: those
//! of other proxies), [`show`], [`select`], [`tables`], [`information_schema`], [`system_schemas`]; then [`server`] with [`login`] and [`wire`].

pub mod answer;
mod commands;
pub mod foreign;
pub mod house;
pub mod http;
mod information_schema;
mod json;
mod listen;
mod login;
pub mod nearest;
mod patience;
mod select;
pub mod server;
mod show;
mod system_schemas;
mod tables;
mod variables;
mod wire;
mod words;

#[cfg(test)]
mod tests;

pub use answer::{AdminError, Answer, Column, Kind, Table, Value};
pub use commands::{execute, execute_in};
pub use house::{
    CacheEntryRow, CacheRow, ClientRow, Command, ConfigDiffRow, EventRow, ExplainRow, House, PoolRow, RuleRow, ServerRow,
    StatementRow, UserRow,
};
pub use listen::{Bound, Closing, Standing};
pub use variables::SERVER_VERSION;

/// The one account of the admin port.
pub struct Access {
    /// Its name.
    pub user: String,
    /// Its password; empty: none is asked for.
    pub password: zeroize::Zeroizing<String>,
}

/// What the admin port remembers of a client.
#[derive(Clone, Debug)]
pub struct Session {
    /// The account.
    pub user: String,
    /// Where the client comes from.
    pub host: String,
    /// What `USE` named: the schema for `EXPLAIN ROUTE`, or this port's own `sluice`.
    pub schema: Option<String>,
    /// The connection's id.
    pub connection_id: u32,
    /// `SQL_SELECT_LIMIT`: rows of a SELECT that has no LIMIT of its own.
    pub select_limit: Option<u64>,
}

impl Default for Session {
    fn default() -> Session {
        Session { user: "admin".to_owned(), host: "localhost".to_owned(), schema: None, connection_id: 0, select_limit: None }
    }
}
