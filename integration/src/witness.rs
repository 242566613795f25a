//! A client that keeps all it is told: every column's definition, every row, status flags, warnings and counts, as lines that
//! can be compared. It speaks the protocol by itself, so that neither a driver's nor the proxy's idea of a reply is in between.
//!
//! It logs in as the account without a password, which every authentication plugin accepts with an empty answer.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::accounts::EMPTY;

/// Nothing a case asks takes longer.
const LIMIT: Duration = Duration::from_secs(30);

/// The column types of the text protocol are strings; in the binary protocol rows stay as they are.
const DEPRECATE_EOF: u32 = 1 << 24;
const CONNECT_WITH_DB: u32 = 1 << 3;
/// LONG_PASSWORD, LONG_FLAG, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, MULTI_STATEMENTS, MULTI_RESULTS, PS_MULTI_RESULTS,
/// PLUGIN_AUTH.
const CAPABILITIES: u32 = 0x1 | 0x4 | 0x200 | 0x2000 | 0x8000 | 0x1_0000 | 0x2_0000 | 0x4_0000 | 0x8_0000;

/// `SERVER_QUERY_WAS_SLOW`: how busy the machine is shows in it.
const STATUS_SLOW: u16 = 0x0800;
/// `SERVER_MORE_RESULTS_EXISTS`.
const STATUS_MORE_RESULTS: u16 = 0x0008;
/// In a transaction, autocommit, more results, a cursor, no backslash escapes, OUT parameters, a transaction that only reads.
const STATUS_BEFORE_ROWS: u16 = 0x0001 | 0x0002 | STATUS_MORE_RESULTS | 0x0040 | 0x0200 | 0x1000 | 0x2000;

/// utf8mb4_general_ci, which both families know.
pub const UTF8MB4: u8 = 45;

/// All that one command was answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// Everything, a line each.
    pub lines: Vec<String>,
    /// The rows of the last result set in the text protocol.
    pub rows: Vec<Vec<String>>,
    /// The error it ended with.
    pub error: Option<u16>,
    /// `last_insert_id` of the last OK.
    pub insert_id: u64,
    /// The peer closed the connection.
    pub closed: bool,
}

/// A connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    deprecate_eof: bool,
    /// The connection id of the greeting.
    pub id: u32,
    /// The status flags of the OK that ended the login.
    pub login_status: u16,
}

/// A packet read from its front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(n.min(self.0.len()));
        self.0 = tail;
        head
    }

    fn number(&mut self, n: usize) -> u64 {
        self.take(n).iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    fn lenenc(&mut self) -> u64 {
        match self.number(1) {
            0xfc => self.number(2),
            0xfd => self.number(3),
            0xfe => self.number(8),
            n => n,
        }
    }

    fn string(&mut self) -> &'a [u8] {
        let n = self.lenenc() as usize;
        self.take(n)
    }

    fn cell(&mut self) -> String {
        if self.0.first() == Some(&0xfb) {
            self.take(1);
            return "NULL".into();
        }
        readable(self.string())
    }
}

/// Bytes for people: UTF-8 as it is, anything else in hexadecimal.
fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => text.into(),
        _ => format!("0x{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    }
}

impl Wire {
    /// Logs in at a port of this machine, with a schema current.
    pub async fn connect(port: u16, schema: &str, collation: u8, deprecate_eof: bool) -> Result<Wire> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let mut wire = Wire { stream, deprecate_eof, id: 0, login_status: 0 };
        let (_, greeting) = wire.receive().await?.context("closed before the greeting")?;
        let mut reader = Reader(&greeting);
        if reader.number(1) != 10 {
            bail!("instead of a greeting: {}", readable(&greeting));
        }
        let version = reader.0.iter().position(|byte| *byte == 0).context("a version ends")?;
        reader.take(version + 1);
        wire.id = reader.number(4) as u32;
        let mut capabilities = CAPABILITIES;
        if deprecate_eof {
            capabilities |= DEPRECATE_EOF;
        }
        if !schema.is_empty() {
            capabilities |= CONNECT_WITH_DB;
        }
        let mut payload = capabilities.to_le_bytes().to_vec();
        payload.extend((64u32 << 20).to_le_bytes());
        payload.push(collation);
        payload.extend([0; 23]);
        payload.extend(EMPTY.name.as_bytes());
        payload.extend([0, 0]);
        if !schema.is_empty() {
            payload.extend(schema.as_bytes());
            payload.push(0);
        }
        payload.extend(b"mysql_native_password\0");
        wire.send(1, &payload).await?;
        loop {
            match wire.receive().await?.context("closed during the login")? {
                (_, payload) if payload.first() == Some(&0) => {
                    let mut reader = Reader(&payload[1..]);
                    reader.lenenc();
                    reader.lenenc();
                    wire.login_status = reader.number(2) as u16;
                    return Ok(wire);
                }
                (sequence, payload) if payload.first() == Some(&0xfe) => wire.send(sequence.wrapping_add(1), &[]).await?,
                (_, payload) if payload.first() == Some(&1) => {} // caching_sha2_password: the fast path succeeded
                (_, payload) => bail!("login as {}: {}", EMPTY.name, readable(&payload)),
            }
        }
    }

    async fn send(&mut self, sequence: u8, payload: &[u8]) -> Result<()> {
        let packet = crate::fake_server::packet(sequence, payload);
        tokio::time::timeout(LIMIT, self.stream.write_all(&packet)).await.context("the peer does not read")??;
        Ok(())
    }

    /// One packet shorter than 16 MiB, or the end.
    async fn receive(&mut self) -> Result<Option<(u8, Vec<u8>)>> {
        let read = async {
            let mut head = [0; 4];
            self.stream.read_exact(&mut head).await.ok()?;
            let mut payload = vec![0; Reader(&head[..3]).number(3) as usize];
            self.stream.read_exact(&mut payload).await.ok()?;
            Some((head[3], payload))
        };
        tokio::time::timeout(LIMIT, read).await.with_context(|| format!("no answer in {LIMIT:?}"))
    }

    /// `COM_QUERY`.
    pub async fn query(&mut self, sql: &[u8]) -> Result<Answer> {
        let mut answer = Answer::default();
        if self.send(0, &[&[3], sql].concat()).await.is_err() {
            answer.end();
            return Ok(answer);
        }
        self.results(&mut answer, false).await?;
        Ok(answer)
    }

    /// A command without a payload of its own meaning and with an OK, EOF or ERR for an answer.
    pub async fn command(&mut self, code: u8, payload: &[u8]) -> Result<Answer> {
        let mut answer = Answer::default();
        if self.send(0, &[&[code], payload].concat()).await.is_err() {
            answer.end();
            return Ok(answer);
        }
        self.results(&mut answer, false).await?;
        Ok(answer)
    }

    /// `COM_STMT_PREPARE`, `COM_STMT_EXECUTE` twice when `again`, `COM_STMT_CLOSE`. What cannot be prepared is asked as text.
    pub async fn prepared(&mut self, sql: &[u8]) -> Result<Answer> {
        let mut answer = Answer::default();
        let Some(id) = self.prepare(sql, &mut answer).await? else {
            let as_text = matches!(answer.error, Some(1064 | 1295 | 1065)) && !answer.closed;
            return if as_text { self.query(sql).await } else { Ok(answer) };
        };
        let mut payload = vec![0x17];
        payload.extend(id.to_le_bytes());
        payload.push(0);
        payload.extend(1u32.to_le_bytes());
        self.send(0, &payload).await?;
        self.results(&mut answer, true).await?;
        if !answer.closed {
            self.send(0, &[&[0x19], &id.to_le_bytes()[..]].concat()).await?;
        }
        Ok(answer)
    }

    async fn prepare(&mut self, sql: &[u8], answer: &mut Answer) -> Result<Option<u32>> {
        if self.send(0, &[&[0x16], sql].concat()).await.is_err() {
            answer.end();
            return Ok(None);
        }
        let Some((_, payload)) = self.receive().await? else {
            answer.end();
            return Ok(None);
        };
        let mut reader = Reader(&payload);
        if reader.number(1) != 0 {
            answer.error(&payload);
            return Ok(None);
        }
        let id = reader.number(4) as u32;
        let (columns, params) = (reader.number(2), reader.number(2));
        reader.take(1);
        answer.lines.push(format!("prepared: {params} parameters, {columns} columns, {} warnings", reader.number(2)));
        for (count, what) in [(params, "parameter"), (columns, "column")] {
            for _ in 0..count {
                let (_, payload) = self.receive().await?.context("closed in the middle of definitions")?;
                answer.lines.push(format!("{what} {}", definition(&payload)));
            }
            if count > 0 && !self.deprecate_eof {
                self.receive().await?.context("closed before the end of definitions")?;
            }
        }
        Ok(Some(id))
    }

    /// Reads results up to the last one.
    async fn results(&mut self, answer: &mut Answer, binary: bool) -> Result<()> {
        loop {
            let Some((_, payload)) = self.receive().await? else {
                answer.end();
                return Ok(());
            };
            let status = match payload.first() {
                Some(0x00) => answer.ok(&payload),
                Some(0xff) => {
                    answer.error(&payload);
                    return Ok(());
                }
                Some(0xfe) if payload.len() < 9 => answer.eof(&payload),
                Some(0xfb) => bail!("a file was asked for"),
                _ => {
                    let columns = Reader(&payload).lenenc();
                    match self.rows(columns, answer, binary).await? {
                        Some(status) => status,
                        None => return Ok(()),
                    }
                }
            };
            if status & STATUS_MORE_RESULTS == 0 {
                return Ok(());
            }
        }
    }

    /// Reads one result set; its status, or `None` when it ended with an error or the connection.
    async fn rows(&mut self, columns: u64, answer: &mut Answer, binary: bool) -> Result<Option<u16>> {
        answer.rows.clear();
        for _ in 0..columns {
            let Some((_, payload)) = self.receive().await? else { return Ok(answer.end_in_rows()) };
            answer.lines.push(format!("column {}", definition(&payload)));
        }
        if !self.deprecate_eof {
            let Some((_, payload)) = self.receive().await? else { return Ok(answer.end_in_rows()) };
            answer.definitions_end(&payload);
        }
        loop {
            let Some((_, payload)) = self.receive().await? else { return Ok(answer.end_in_rows()) };
            match payload.first() {
                Some(0xff) => {
                    answer.error(&payload);
                    return Ok(None);
                }
                Some(0xfe) if !self.deprecate_eof && payload.len() < 9 => return Ok(Some(answer.eof(&payload))),
                Some(0xfe) if self.deprecate_eof && payload.len() < 0xff_ffff => return Ok(Some(answer.ok(&payload))),
                _ if binary => answer.lines.push(format!("row {}", readable(&payload))),
                _ => {
                    let mut reader = Reader(&payload);
                    let row: Vec<String> = (0..columns).map(|_| reader.cell()).collect();
                    answer.lines.push(format!("row {}", row.join(" | ")));
                    answer.rows.push(row);
                }
            }
        }
    }
}

impl Answer {
    fn ok(&mut self, payload: &[u8]) -> u16 {
        let mut reader = Reader(payload);
        reader.take(1);
        let (affected, insert_id) = (reader.lenenc(), reader.lenenc());
        let (status, warnings) = (reader.number(2) as u16, reader.number(2));
        self.insert_id = insert_id;
        let info = readable(reader.0);
        let status_shown = status & !STATUS_SLOW;
        self.lines
            .push(format!("ok: {affected} rows, insert id {insert_id}, status {status_shown:#06x}, {warnings} warnings, {info:?}"));
        status
    }

    fn eof(&mut self, payload: &[u8]) -> u16 {
        let mut reader = Reader(payload);
        reader.take(1);
        let (warnings, status) = (reader.number(2), reader.number(2) as u16);
        self.lines.push(format!("end: status {:#06x}, {warnings} warnings", status & !STATUS_SLOW));
        status
    }

    /// The EOF between definitions and rows: what it says of the session and of what comes next. What it says of the statement is said at the
    /// end, where it is known.
    fn definitions_end(&mut self, payload: &[u8]) {
        let mut reader = Reader(payload);
        reader.take(3);
        self.lines.push(format!("definitions end: status {:#06x}", reader.number(2) as u16 & STATUS_BEFORE_ROWS));
    }

    fn error(&mut self, payload: &[u8]) {
        let mut reader = Reader(payload);
        reader.take(1);
        let number = reader.number(2) as u16;
        self.error = Some(number);
        self.lines.push(format!("error {number} {}", readable(reader.0)));
    }

    fn end(&mut self) {
        self.closed = true;
        self.lines.push("the connection was closed".into());
    }

    fn end_in_rows(&mut self) -> Option<u16> {
        self.end();
        None
    }
}

/// A column's definition with all its metadata.
fn definition(payload: &[u8]) -> String {
    let mut reader = Reader(payload);
    reader.string(); // the catalog is "def"
    let [schema, table, original_table, name, original_name] = std::array::from_fn(|_| readable(reader.string()));
    reader.lenenc();
    let (charset, length, kind) = (reader.number(2), reader.number(4), reader.number(1));
    let (flags, decimals) = (reader.number(2), reader.number(1));
    format!(
        "{name} ({schema}.{table}.{original_table}.{original_name}) type {kind}, flags {flags:#06x}, length {length}, \
         decimals {decimals}, charset {charset}"
    )
}
