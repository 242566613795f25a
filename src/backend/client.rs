//! A small client for Sluice's own account: text queries, all rows in memory. For the monitor and for questions a login
//! has; never for a client's statements.

use std::time::Duration;

use super::connect::{ConnectError, Connected, Login, ServerAddress, connect};
use super::packets::{PacketError, put_packet, read_packet};
use super::tls::ServerTls;
use crate::auth::{Credential, Secret};
use crate::net::Stream;
use crate::net::timer::timeout;
use crate::protocol::Capabilities;
use crate::protocol::handshake::cursor::Cursor;
use crate::protocol::handshake::{Malformed, ServerError};
use crate::protocol::ok_err_eof::Status;
use crate::protocol::query::NO_ATTRIBUTES;
use crate::topology::Flavor;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};

/// The most bytes all results of one [`AdminConnection::query`] may have together.
pub const RESULT_LEN_MAX: usize = 16 << 20;
/// The most columns in one result (the servers' own limit).
pub const COLUMNS_MAX: u64 = 4096;

const COM_QUIT: u8 = 0x01;
const COM_QUERY: u8 = 0x03;
const COM_PING: u8 = 0x0E;
const COLLATION_UTF8MB4_GENERAL_CI: u16 = 45;

/// One result of a query. A statement without rows has no columns.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TextResult {
    /// The columns' names.
    pub columns: Vec<String>,
    /// The rows; `None` is NULL. Bytes that are not UTF-8 are replaced.
    pub rows: Vec<Vec<Option<String>>>,
    /// Rows changed, for a statement without rows.
    pub affected_rows: u64,
    /// `SERVER_STATUS_*` flags at the result's end.
    pub status: u16,
}

impl TextResult {
    /// The value in that row (counted from 0) and column, by name in any case. `None` when there is none or it is NULL.
    pub fn get(&self, row: usize, column: &str) -> Option<&str> {
        let at = self.columns.iter().position(|c| c.eq_ignore_ascii_case(column))?;
        self.rows.get(row)?.get(at)?.as_deref()
    }
}

/// Why a query has no result. After anything but `Server` the connection is of no use.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The server's error. In a multi-statement the results before it are lost.
    #[error(transparent)]
    Server(ServerError),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// More than [`RESULT_LEN_MAX`].
    #[error("the result is longer than {RESULT_LEN_MAX} bytes")]
    TooLong,
    /// The server does not follow the protocol.
    #[error("the server does not speak the protocol: {0}")]
    Protocol(#[from] Malformed),
}

impl QueryError {
    /// The server's error number, when it was the server that said no.
    pub fn code(&self) -> Option<u16> {
        match self {
            QueryError::Server(e) => Some(e.code),
            _ => None,
        }
    }
}

impl From<PacketError> for QueryError {
    fn from(e: PacketError) -> QueryError {
        match e {
            PacketError::Io(e) => QueryError::Io(e),
            PacketError::TooLong { .. } => QueryError::TooLong,
            PacketError::OutOfOrder { .. } => Malformed { field: "result", why: "a packet's sequence number is wrong" }.into(),
        }
    }
}

/// A connection of Sluice's own.
#[derive(Debug)]
pub struct AdminConnection {
    /// Replication status has some sixty columns, a packet each.
    stream: BufReader<Stream>,
    version: String,
    connection_id: u32,
    timeout: Duration,
}

/// Logs in with Sluice's own account. `limit` bounds the login, and then each query.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect_admin(
    address: &ServerAddress,
    tls: &ServerTls,
    user: &str,
    password: &Secret,
    limit: Duration,
) -> Result<AdminConnection, ConnectError> {
    let login = Login {
        user: user.to_owned(),
        credential: Credential::from_password(password.clone()),
        schema: None,
        collation: COLLATION_UTF8MB4_GENERAL_CI,
        capabilities: Capabilities::PROTOCOL_41
            | Capabilities::LONG_FLAG
            | Capabilities::TRANSACTIONS
            | Capabilities::MULTI_STATEMENTS
            | Capabilities::MULTI_RESULTS,
        compression: None,
        attributes: vec![("program_name".to_owned(), "sluice".to_owned())],
        client: None,
    };
    Ok(AdminConnection::new(connect(address, tls, &login, limit).await?, limit))
}

impl AdminConnection {
    /// From a connection that was agreed upon without `DEPRECATE_EOF` and `SESSION_TRACK`.
    pub fn new(connected: Connected, limit: Duration) -> AdminConnection {
        AdminConnection {
            stream: BufReader::new(connected.stream),
            version: connected.greeting.version,
            connection_id: connected.connection_id,
            timeout: limit,
        }
    }

    /// MySQL or MariaDB.
    pub fn flavor(&self) -> Flavor {
        Flavor::from_version(&self.version)
    }

    /// The version the server greeted with.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The server's number for this connection.
    pub fn connection_id(&self) -> u32 {
        self.connection_id
    }

    /// Whether the connection is in TLS.
    pub fn is_tls(&self) -> bool {
        self.stream.get_ref().is_tls()
    }

    /// How long the next queries may take, each.
    pub fn set_timeout(&mut self, limit: Duration) {
        self.timeout = limit;
    }

    /// Runs one or more statements, divided by `;`, and returns all results.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn query(&mut self, sql: &str) -> Result<Vec<TextResult>, QueryError> {
        let limit = self.timeout;
        let late = |_| QueryError::Timeout(limit);
        let results = timeout(limit, run_query(&mut self.stream, sql, Capabilities::NONE)).await.map_err(late)??;
        if results.last().is_some_and(|result| !Status(result.status).has(Status::AUTOCOMMIT)) {
            // The server is configured so that nothing commits by itself. This commits what was just done, and whatever follows.
            timeout(limit, run_query(&mut self.stream, "SET autocommit=1", Capabilities::NONE)).await.map_err(late)??;
        }
        Ok(results)
    }

    /// The stream, for a command whose answer is no result. The next packet is a command.
    pub(crate) fn into_stream(self) -> BufReader<Stream> {
        self.stream
    }

    /// Asks whether the server answers.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn ping(&mut self) -> Result<(), QueryError> {
        let limit = self.timeout;
        let ask = async {
            let mut sequence = command(&mut self.stream, COM_PING, &[]).await?;
            let packet = read_packet(&mut self.stream, &mut sequence, RESULT_LEN_MAX).await?;
            match packet.first() {
                Some(0) => Ok(()),
                Some(&ServerError::HEADER) => Err(QueryError::Server(ServerError::parse(&packet)?)),
                _ => Err(Malformed { field: "ping", why: "the answer is no OK packet" }.into()),
            }
        };
        timeout(limit, ask).await.map_err(|_| QueryError::Timeout(limit))?
    }

    /// Says goodbye and closes, waiting no longer than a second.
    pub async fn quit(mut self) {
        let goodbye = async {
            command(&mut self.stream, COM_QUIT, &[]).await?;
            self.stream.shutdown().await
        };
        let _ = timeout(Duration::from_secs(1), goodbye).await;
    }
}

async fn command(stream: &mut (impl AsyncWrite + Unpin), command: u8, argument: &[u8]) -> std::io::Result<u8> {
    let mut payload = Vec::with_capacity(argument.len() + 1);
    payload.push(command);
    payload.extend_from_slice(argument);
    let mut packet = Vec::with_capacity(payload.len() + 4);
    let mut sequence = 0;
    put_packet(&mut packet, &mut sequence, &payload)?;
    stream.write_all(&packet).await?;
    stream.flush().await?;
    Ok(sequence)
}

/// One COM_QUERY on a connection with these capabilities, and all its results.
pub(crate) async fn run_query<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    sql: &str,
    capabilities: Capabilities,
) -> Result<Vec<TextResult>, QueryError> {
    let attributes = if capabilities.has(Capabilities::QUERY_ATTRIBUTES) { NO_ATTRIBUTES } else { &[] };
    let mut sequence = command(stream, COM_QUERY, &[attributes, sql.as_bytes()].concat()).await?;
    let mut left = RESULT_LEN_MAX;
    let mut results = Vec::new();
    loop {
        let result = read_result(stream, &mut sequence, &mut left, capabilities).await?;
        let more = Status(result.status).has(Status::MORE_RESULTS);
        results.push(result);
        if !more {
            return Ok(results);
        }
    }
}

async fn next(stream: &mut (impl AsyncRead + Unpin), sequence: &mut u8, left: &mut usize) -> Result<Vec<u8>, QueryError> {
    let packet = read_packet(stream, sequence, *left).await?;
    *left = left.checked_sub(packet.len() + 4).ok_or(QueryError::TooLong)?;
    if packet.first() == Some(&ServerError::HEADER) {
        return Err(QueryError::Server(ServerError::parse(&packet)?));
    }
    Ok(packet)
}

async fn read_result(
    stream: &mut (impl AsyncRead + Unpin),
    sequence: &mut u8,
    left: &mut usize,
    capabilities: Capabilities,
) -> Result<TextResult, QueryError> {
    let deprecate_eof = capabilities.has(Capabilities::DEPRECATE_EOF);
    let head = next(stream, sequence, left).await?;
    if head.first() == Some(&0) {
        let mut c = Cursor::new(&head);
        c.u8("OK packet")?;
        let affected_rows = c.lenenc("OK packet")?.unwrap_or_default();
        c.lenenc("OK packet")?;
        return Ok(TextResult { affected_rows, status: c.u16("OK packet")?, ..TextResult::default() });
    }
    // With MariaDB's CACHE_METADATA a byte follows the count; that is never agreed upon for these connections.
    let count = Cursor::new(&head).lenenc("column count")?.filter(|n| *n <= COLUMNS_MAX);
    let count = count.ok_or(Malformed { field: "column count", why: "no number of columns" })? as usize;
    let mut columns = Vec::with_capacity(count);
    for _ in 0..count {
        columns.push(column_name(&next(stream, sequence, left).await?)?);
    }
    if !deprecate_eof {
        next(stream, sequence, left).await?;
    }
    let mut rows = Vec::new();
    loop {
        let packet = next(stream, sequence, left).await?;
        // 0xFE begins the end (an EOF packet, or an OK packet with that first byte), or a row whose first value has 16 MiB
        // or more, which the limit excludes.
        if packet.first() == Some(&0xFE) {
            let mut c = Cursor::new(&packet);
            c.u8("end of rows")?;
            let status = if deprecate_eof {
                c.lenenc("end of rows")?;
                c.lenenc("end of rows")?;
                c.u16("end of rows")?
            } else {
                c.u16("end of rows")?;
                c.u16("end of rows")?
            };
            return Ok(TextResult { columns, rows, affected_rows: 0, status });
        }
        rows.push(row(&packet, count)?);
    }
}

fn column_name(packet: &[u8]) -> Result<String, Malformed> {
    let mut c = Cursor::new(packet);
    for field in ["catalog", "schema", "table", "original table"] {
        c.lenenc_bytes(field)?;
    }
    Ok(String::from_utf8_lossy(c.lenenc_bytes("column name")?.unwrap_or_default()).into_owned())
}

fn row(packet: &[u8], count: usize) -> Result<Vec<Option<String>>, Malformed> {
    let mut c = Cursor::new(packet);
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        values.push(c.lenenc_bytes("row")?.map(|v| String::from_utf8_lossy(v).into_owned()));
    }
    Ok(values)
}
