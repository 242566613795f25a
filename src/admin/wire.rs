//! MySQL packets of the admin port: frames, result sets in text and binary form, OK, ERR, EOF.
//!
//! Written for answers of a few hundred rows that are made in one go, so a whole reply is built in memory and written at
//! once. The way of the clients' queries has its own frames (room `protocol`), which never build a row.
//!
//! Source: <https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html>

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::answer::{AdminError, Column, Kind, Table, Value};
use super::patience::{PATIENCE, Patient};
use crate::protocol::Capabilities;

/// Longest packet taken from a client: nothing this port understands is longer.
pub const PACKET_BYTES_MAX: usize = 1 << 20;
/// A challenge to prove that one knows the password.
pub const CHALLENGE_BYTES: usize = 20;
/// Longest payload of one frame.
const FRAME_BYTES_MAX: usize = 0xFF_FFFF;
/// utf8mb4_general_ci
const UTF8MB4: u16 = 45;
/// The `binary` collation, which numbers have.
const BINARY: u16 = 63;
/// SERVER_STATUS_AUTOCOMMIT
const STATUS: u16 = 2;

/// A connection that reads and writes packets.
pub struct Wire<S> {
    /// The stream underneath.
    pub stream: S,
    /// What client and server agreed on.
    pub capabilities: Capabilities,
    /// How many warnings the next answer is told to have.
    pub warnings: u16,
    /// How long the peer may take nothing of an answer.
    pub patience: Duration,
    /// What the client was challenged with last. C libraries answer it once more in a `COM_CHANGE_USER`, whatever they are asked there.
    pub challenge: [u8; CHALLENGE_BYTES],
    sequence: u8,
    out: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// A fresh connection.
    pub fn new(stream: S) -> Wire<S> {
        Wire {
            stream,
            capabilities: Capabilities::NONE,
            warnings: 0,
            patience: PATIENCE,
            challenge: [0; CHALLENGE_BYTES],
            sequence: 0,
            out: Vec::new(),
        }
    }

    /// The same conversation on another stream (TLS on the former one). `None` if unsent bytes would be lost.
    pub fn into_stream(self) -> Option<(S, u8)> {
        self.out.is_empty().then_some((self.stream, self.sequence))
    }

    /// Goes on with the sequence number of a former stream.
    pub fn resume(stream: S, sequence: u8) -> Wire<S> {
        Wire { sequence, ..Wire::new(stream) }
    }

    /// A new command begins: its packet has sequence number 0.
    pub fn begin(&mut self) {
        self.sequence = 0;
    }

    /// Reads one packet of at most `most` bytes. `None`: the peer hung up between packets.
    ///
    /// # Errors
    /// `InvalidData` for a longer packet or a wrong sequence number, else those of the stream.
    pub async fn read(&mut self, most: usize) -> io::Result<Option<Vec<u8>>> {
        let mut header = [0u8; 4];
        if self.stream.read(&mut header[..1]).await? == 0 {
            return Ok(None);
        }
        self.stream.read_exact(&mut header[1..]).await?;
        let length = usize::from(header[0]) | usize::from(header[1]) << 8 | usize::from(header[2]) << 16;
        if length > most {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a packet of {length} bytes; at most {most} are taken"),
            ));
        }
        if header[3] != self.sequence {
            let message = format!("packet number {} instead of {}", header[3], self.sequence);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        self.sequence = header[3].wrapping_add(1);
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await?;
        Ok(Some(payload))
    }

    /// Adds a packet to the reply.
    pub fn add(&mut self, payload: &[u8]) {
        let mut rest = payload;
        loop {
            let (frame, behind) = rest.split_at(rest.len().min(FRAME_BYTES_MAX));
            self.out.extend_from_slice(&(frame.len() as u32).to_le_bytes()[..3]);
            self.out.push(self.sequence);
            self.sequence = self.sequence.wrapping_add(1);
            self.out.extend_from_slice(frame);
            rest = behind;
            // A payload of exactly that many bytes is followed by an empty frame.
            if frame.len() < FRAME_BYTES_MAX {
                return;
            }
        }
    }

    /// Sends the reply.
    ///
    /// # Errors
    /// Those of the stream; `TimedOut` when the peer does not read.
    pub async fn send(&mut self) -> io::Result<()> {
        let mut stream = Patient::new(&mut self.stream, self.patience);
        stream.write_all(&self.out).await?;
        stream.flush().await?;
        self.out.clear();
        // One large answer does not cost its memory for the rest of the session.
        self.out.shrink_to(64 * 1024);
        Ok(())
    }

    /// Adds an OK packet.
    pub fn ok(&mut self, affected: u64, info: &str) {
        let mut p = vec![0x00];
        lenenc(&mut p, affected);
        lenenc(&mut p, 0);
        p.extend_from_slice(&STATUS.to_le_bytes());
        p.extend_from_slice(&self.warnings.to_le_bytes());
        if !info.is_empty() {
            // Clients read the info as a length-encoded string; the manual's string<EOF> is what nobody does.
            text(&mut p, info.as_bytes());
        }
        self.add(&p);
    }

    /// Adds an ERR packet.
    pub fn error(&mut self, error: &AdminError) {
        let mut p = vec![0xFF];
        p.extend_from_slice(&error.errno.to_le_bytes());
        p.push(b'#');
        p.extend(error.sqlstate.bytes().chain([b'0'; 5]).take(5));
        p.extend_from_slice(error.message.as_bytes());
        self.add(&p);
    }

    /// The end of columns, or of rows.
    fn eof(&mut self) {
        let (warnings, status) = (self.warnings.to_le_bytes(), STATUS.to_le_bytes());
        self.add(&[0xFE, warnings[0], warnings[1], status[0], status[1]]);
    }

    /// Adds a result set: text rows for COM_QUERY, binary ones for COM_STMT_EXECUTE.
    pub fn table(&mut self, table: &Table, binary: bool) {
        let mut p = Vec::new();
        lenenc(&mut p, table.columns.len() as u64);
        self.add(&p);
        for column in &table.columns {
            self.add(&definition(column));
        }
        self.eof();
        for row in &table.rows {
            let packet = if binary { binary_row(&table.columns, row) } else { text_row(row) };
            self.add(&packet);
        }
        self.eof();
    }

    /// Adds the answer to COM_STMT_PREPARE of a statement without parameters.
    pub fn prepared(&mut self, id: u32, columns: &[Column]) {
        let mut p = vec![0x00];
        p.extend_from_slice(&id.to_le_bytes());
        p.extend_from_slice(&(columns.len() as u16).to_le_bytes());
        p.extend_from_slice(&0u16.to_le_bytes());
        p.push(0);
        p.extend_from_slice(&0u16.to_le_bytes());
        self.add(&p);
        if !columns.is_empty() {
            columns.iter().for_each(|column| self.add(&definition(column)));
            self.eof();
        }
    }

    /// Adds the answer to COM_FIELD_LIST.
    pub fn fields(&mut self, columns: &[Column]) {
        for column in columns {
            let mut p = definition(column);
            // The column's default: NULL.
            p.push(0xFB);
            self.add(&p);
        }
        self.eof();
    }
}

/// A length-encoded integer.
fn lenenc(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=250 => out.push(value as u8),
        251..=0xFFFF => {
            out.push(0xFC);
            out.extend_from_slice(&(value as u16).to_le_bytes());
        }
        0x1_0000..=0xFF_FFFF => {
            out.push(0xFD);
            out.extend_from_slice(&(value as u32).to_le_bytes()[..3]);
        }
        _ => {
            out.push(0xFE);
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
}

/// A length-encoded string.
fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    lenenc(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Protocol::ColumnDefinition41
fn definition(column: &Column) -> Vec<u8> {
    const NOT_FIXED: u8 = 31;
    const UNSIGNED: u16 = 32;
    const IS_BINARY: u16 = 128;
    let (collation, length, kind, flags, decimals): (u16, u32, u8, u16, u8) = match column.kind {
        Kind::Int => (BINARY, 20, 8, IS_BINARY, 0),
        Kind::UInt => (BINARY, 20, 8, IS_BINARY | UNSIGNED, 0),
        Kind::Float => (BINARY, 22, 5, IS_BINARY, NOT_FIXED),
        Kind::Text => (UTF8MB4, 1024, 253, 0, NOT_FIXED),
        Kind::Time => (BINARY, 23, 12, IS_BINARY, 3),
    };
    let mut p = Vec::with_capacity(48 + column.name.len() * 2);
    text(&mut p, b"def");
    text(&mut p, b"");
    text(&mut p, b"");
    text(&mut p, b"");
    text(&mut p, column.name.as_bytes());
    text(&mut p, column.name.as_bytes());
    p.push(0x0C);
    p.extend_from_slice(&collation.to_le_bytes());
    p.extend_from_slice(&length.to_le_bytes());
    p.push(kind);
    p.extend_from_slice(&flags.to_le_bytes());
    p.push(decimals);
    p.extend_from_slice(&[0, 0]);
    p
}

fn text_row(row: &[Value]) -> Vec<u8> {
    let mut p = Vec::new();
    for value in row {
        match value.text() {
            None => p.push(0xFB),
            Some(value) => text(&mut p, value.as_bytes()),
        }
    }
    p
}

/// Every cell in the form that its column's type announces.
fn binary_row(columns: &[Column], row: &[Value]) -> Vec<u8> {
    let mut nulls = vec![0u8; (columns.len() + 9) / 8];
    let mut cells = Vec::new();
    for (i, (column, value)) in columns.iter().zip(row).enumerate() {
        let Some(number) = value.number() else {
            // The bitmap begins with two bits that stand for no column.
            if let Some(byte) = nulls.get_mut((i + 2) / 8) {
                *byte |= 1 << ((i + 2) % 8);
            }
            continue;
        };
        match (column.kind, value) {
            (Kind::Text, value) => text(&mut cells, value.text().unwrap_or_default().as_bytes()),
            (Kind::Time, value) => time(&mut cells, &value.text().unwrap_or_default()),
            (Kind::Float, _) => cells.extend_from_slice(&number.to_le_bytes()),
            (_, Value::Int(v)) => cells.extend_from_slice(&v.to_le_bytes()),
            (_, Value::UInt(v)) => cells.extend_from_slice(&v.to_le_bytes()),
            (Kind::Int, _) => cells.extend_from_slice(&(number as i64).to_le_bytes()),
            (Kind::UInt, _) => cells.extend_from_slice(&(number as u64).to_le_bytes()),
        }
    }
    let mut p = vec![0x00];
    p.append(&mut nulls);
    p.append(&mut cells);
    p
}

/// `2026-11-22 21:04:05.123` as `ProtocolBinary::MYSQL_TYPE_DATETIME`. What is no time becomes the time of zeros.
fn time(out: &mut Vec<u8>, text: &str) {
    let mut parts = text.split(['-', ' ', ':', '.']).map(|part| part.parse::<u32>().ok());
    let mut next = || parts.next().flatten();
    let (Some(year), Some(month), Some(day), Some(hour), Some(minute), Some(second)) =
        (next(), next(), next(), next(), next(), next())
    else {
        return out.push(0);
    };
    let fraction = text.rsplit_once('.').map_or("", |(_, digits)| digits);
    // Six digits; text that a SELECT made up may have any number of them.
    let micros = fraction.bytes().filter(u8::is_ascii_digit).chain(std::iter::repeat(b'0')).take(6);
    let micros = micros.fold(0, |all, digit| all * 10 + u32::from(digit - b'0'));
    out.push(11);
    out.extend_from_slice(&u16::try_from(year).unwrap_or(0).to_le_bytes());
    out.extend([month, day, hour, minute, second].map(|part| u8::try_from(part).unwrap_or(0)));
    out.extend_from_slice(&micros.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        for (value, bytes) in [
            (250u64, vec![250]),
            (251, vec![0xFC, 251, 0]),
            (0x1_0000, vec![0xFD, 0, 0, 1]),
            (0x100_0000, vec![0xFE, 0, 0, 0, 1, 0, 0, 0, 0]),
        ] {
            let mut out = Vec::new();
            lenenc(&mut out, value);
            assert_eq!(out, bytes);
        }
    }

    #[test]
    fn times_with_any_fraction() {
        for (fraction, micros) in [
            ("", 0u32),
            (".5", 500_000),
            (".050", 50_000),
            (".123456", 123_456),
            (".4294967295", 429_496),
            (".x", 0),
            (".99999999999", 999_999),
        ] {
            let mut out = Vec::new();
            time(&mut out, &format!("2026-11-22 21:04:05{fraction}"));
            let mut wanted = vec![11, 0xEA, 0x07, 11, 22, 21, 4, 5];
            wanted.extend_from_slice(&micros.to_le_bytes());
            assert_eq!(out, wanted, "{fraction}");
        }
    }

    #[test]
    fn binary_rows_hold_nulls_in_the_bitmap() {
        let columns = [
            Column::new("a", Kind::UInt),
            Column::new("b", Kind::Text),
            Column::new("c", Kind::Float),
            Column::new("d", Kind::Int),
            Column::new("e", Kind::Time),
        ];
        let row = [Value::UInt(7), Value::Null, Value::Float(1.5), Value::Null, Value::from("2026-11-22 21:04:05.123")];
        let mut wanted = vec![0x00, 0b0010_1000];
        wanted.extend_from_slice(&7u64.to_le_bytes());
        wanted.extend_from_slice(&1.5f64.to_le_bytes());
        wanted.extend_from_slice(&[11, 0xEA, 0x07, 11, 22, 21, 4, 5]);
        wanted.extend_from_slice(&123_000u32.to_le_bytes());
        assert_eq!(binary_row(&columns, &row), wanted);
    }

    #[tokio::test]
    async fn long_packets_and_wrong_numbers_are_refused() {
        for (bytes, what) in [(&[0, 0, 0x10, 0][..], "packet of"), (&[1, 0, 0, 5, 1][..], "packet number 5 instead of 0")] {
            let (near, mut far) = tokio::io::duplex(64);
            far.write_all(bytes).await.unwrap();
            let error = Wire::new(near).read(1000).await.unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
        }
    }

    #[tokio::test]
    async fn a_large_payload_is_cut_into_frames() {
        let (near, _far) = tokio::io::duplex(64);
        let mut wire = Wire::new(near);
        wire.add(&vec![1; FRAME_BYTES_MAX]);
        assert_eq!(wire.out.len(), FRAME_BYTES_MAX + 8);
        assert_eq!(wire.out[FRAME_BYTES_MAX + 4..], [0, 0, 0, 1]);
    }
}
