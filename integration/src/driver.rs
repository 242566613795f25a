//! The independent driver (`mysql_async`) with what tests ask again and again.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, Row, Value};

use crate::accounts::Account;

/// Options for a TCP login on this machine. The driver's habit of moving to the server's Unix socket, past any proxy, is off.
pub fn options(port: u16, account: Account) -> OptsBuilder {
    let password = Some(account.password).filter(|password| !password.is_empty());
    OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(port)
        .user(Some(account.name))
        .pass(password)
        .prefer_socket(false)
        // asking the server for these would cost each connection a round trip, and a statement in the counters
        .max_allowed_packet(Some(64 << 20))
        .wait_timeout(Some(28_800))
}

/// Opens a connection.
pub async fn connect(options: impl Into<Opts>) -> Result<Conn> {
    let options = options.into();
    let whom = format!("{}@{}:{}", options.user().unwrap_or(""), options.ip_or_hostname(), options.tcp_port());
    Conn::new(options).await.with_context(|| format!("log in as {whom}"))
}

/// A value as a client program prints it.
pub fn text(value: &Value) -> String {
    match value {
        Value::NULL => "NULL".into(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        other => other.as_sql(true).trim_matches('\'').to_owned(),
    }
}

/// A result set as text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// Column names.
    pub columns: Vec<String>,
    /// Rows, each with as many cells as there are columns.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// The cells of one column; empty when there is no such column.
    pub fn column(&self, name: &str) -> Vec<&str> {
        let Some(index) = self.columns.iter().position(|column| column == name) else { return Vec::new() };
        self.rows.iter().map(|row| row[index].as_str()).collect()
    }

    /// The cell of column `name` in the first row whose column `key` is `value`.
    pub fn cell(&self, key: &str, value: &str, name: &str) -> Option<&str> {
        let index = self.column(key).iter().position(|cell| *cell == value)?;
        self.column(name).get(index).copied()
    }

    /// Framed like the command-line clients' output.
    pub fn framed(&self) -> String {
        let width = |index: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(index)).chain(self.columns.get(index));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let rule = widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("+");
        let line = |cells: &[String]| {
            let padded = cells.iter().zip(&widths).map(|(cell, width)| format!(" {cell:<width$} ")).collect::<Vec<_>>();
            padded.join("|").trim_end().to_owned()
        };
        let mut out = String::new();
        let _ = writeln!(out, "{}\n{rule}", line(&self.columns));
        for row in &self.rows {
            let _ = writeln!(out, "{}", line(row));
        }
        out
    }
}

/// Runs a statement in the text protocol and returns its (last) result set as text; empty when it has none.
pub async fn table(conn: &mut Conn, sql: &str) -> Result<Table, mysql_async::Error> {
    let mut result = conn.query_iter(sql).await?;
    let mut table = Table::default();
    while !result.is_empty() {
        table.columns = result.columns_ref().iter().map(|column| column.name_str().into_owned()).collect();
        table.rows = result.collect::<Row>().await?.into_iter().map(|row| row.unwrap().iter().map(text).collect()).collect();
    }
    Ok(table)
}

/// The first cell of the first row as text, or `None` when there is no row.
pub async fn cell(conn: &mut Conn, sql: &str) -> Result<Option<String>, mysql_async::Error> {
    Ok(table(conn, sql).await?.rows.into_iter().next().and_then(|row| row.into_iter().next()))
}

/// What a client sees of an error: number, SQLSTATE, message. `None` when it is not an answer of the server but a broken
/// connection or the driver's own error.
pub fn server_error(error: &mysql_async::Error) -> Option<(u16, String, String)> {
    match error {
        mysql_async::Error::Server(error) => Some((error.code, error.state.clone(), error.message.clone())),
        _ => None,
    }
}

/// All a client is told by one statement, for comparing two ways of asking it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// Each result set: its columns with all their metadata, and its rows.
    pub sets: Vec<(Vec<String>, Vec<Vec<String>>)>,
    /// Affected rows, last insert id, number of warnings, info text of the last OK.
    pub ok: Option<(u64, Option<u64>, u16, String)>,
    /// Number, SQLSTATE and message of an error.
    pub error: Option<(u16, String, String)>,
}

/// Runs statements in the text protocol and returns all the client is told. The outer error is a broken connection.
pub async fn told(conn: &mut Conn, sql: &str) -> Result<Told> {
    let mut told = Told::default();
    match gather(conn, sql, &mut told).await {
        Ok(()) => told.ok = Some((conn.affected_rows(), conn.last_insert_id(), conn.get_warnings(), conn.info().into_owned())),
        Err(error) => told.error = Some(server_error(&error).ok_or(error).with_context(|| sql.to_owned())?),
    }
    Ok(told)
}

async fn gather(conn: &mut Conn, sql: &str, told: &mut Told) -> Result<(), mysql_async::Error> {
    let mut result = conn.query_iter(sql).await?;
    while !result.is_empty() {
        let columns = result.columns_ref().iter().map(|column| format!("{column:?}")).collect();
        let rows = result.collect::<Row>().await?;
        told.sets.push((columns, rows.into_iter().map(|row| row.unwrap().iter().map(text).collect()).collect()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_framed_and_asked_by_name() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let table = Table { columns: row(["name", "role"]), rows: vec![row(["db1", "master"]), row(["db22", "replica"])] };
        assert_eq!(table.framed(), " name | role\n------+---------\n db1  | master\n db22 | replica\n");
        assert_eq!(table.cell("name", "db22", "role"), Some("replica"));
        assert_eq!(table.cell("name", "db3", "role"), None);
        assert!(table.column("nothing").is_empty());
    }
}
