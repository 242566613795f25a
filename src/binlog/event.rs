//! One event: its header, and the few fields of its body that matter here.

use std::borrow::Cow;

use super::payload::{self, PayloadError};
use crate::protocol::primitives::Reader;
use crate::topology::gtid::{MariaDbGtid, Origin, Tag};

/// Bytes of an event's header.
pub const HEADER_LEN: usize = 19;
/// Flag of an event that who does not know it may skip (MySQL: `LOG_EVENT_IGNORABLE_F`).
pub const FLAG_IGNORABLE: u16 = 0x80;
/// Bytes of the checksum behind an event.
pub const CHECKSUM_LEN: usize = 4;
/// The table id of a rows event that names no table and only ends a statement.
pub const NO_TABLE: u64 = 0xFF_FFFF;

/// Types of events that are looked at. Names as in the manuals.
#[allow(missing_docs)]
pub mod kind {
    pub const QUERY: u8 = 2;
    pub const STOP: u8 = 3;
    pub const ROTATE: u8 = 4;
    pub const INTVAR: u8 = 5;
    pub const APPEND_BLOCK: u8 = 9;
    pub const DELETE_FILE: u8 = 11;
    pub const RAND: u8 = 13;
    pub const USER_VAR: u8 = 14;
    pub const FORMAT_DESCRIPTION: u8 = 15;
    pub const XID: u8 = 16;
    pub const BEGIN_LOAD_QUERY: u8 = 17;
    pub const EXECUTE_LOAD_QUERY: u8 = 18;
    pub const TABLE_MAP: u8 = 19;
    pub const WRITE_ROWS_V1: u8 = 23;
    pub const DELETE_ROWS_V1: u8 = 25;
    pub const INCIDENT: u8 = 26;
    pub const HEARTBEAT: u8 = 27;
    pub const IGNORABLE: u8 = 28;
    pub const ROWS_QUERY: u8 = 29;
    pub const WRITE_ROWS: u8 = 30;
    pub const DELETE_ROWS: u8 = 32;
    pub const GTID: u8 = 33;
    pub const ANONYMOUS_GTID: u8 = 34;
    pub const PREVIOUS_GTIDS: u8 = 35;
    pub const TRANSACTION_CONTEXT: u8 = 36;
    pub const VIEW_CHANGE: u8 = 37;
    pub const XA_PREPARE: u8 = 38;
    pub const PARTIAL_UPDATE_ROWS: u8 = 39;
    pub const TRANSACTION_PAYLOAD: u8 = 40;
    pub const HEARTBEAT_V2: u8 = 41;
    pub const GTID_TAGGED: u8 = 42;
    pub const ANNOTATE_ROWS: u8 = 160;
    pub const BINLOG_CHECKPOINT: u8 = 161;
    pub const MARIADB_GTID: u8 = 162;
    pub const GTID_LIST: u8 = 163;
    pub const START_ENCRYPTION: u8 = 164;
    pub const QUERY_COMPRESSED: u8 = 165;
    pub const WRITE_ROWS_COMPRESSED_V1: u8 = 166;
    pub const DELETE_ROWS_COMPRESSED: u8 = 171;

    /// Whether the body begins with the id of a table whose rows changed.
    pub fn is_rows(kind: u8) -> bool {
        matches!(
            kind,
            WRITE_ROWS_V1..=DELETE_ROWS_V1
                | WRITE_ROWS..=DELETE_ROWS
                | PARTIAL_UPDATE_ROWS
                | WRITE_ROWS_COMPRESSED_V1..=DELETE_ROWS_COMPRESSED
        )
    }
}

/// What every event begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Unix time when the statement began, seconds; 0 for events that the server made up for the stream.
    pub timestamp: u32,
    /// Its type, see [`kind`].
    pub kind: u8,
    /// `server_id` of who wrote it first.
    pub server: u32,
    /// Bytes of the event, header and checksum included.
    pub len: u32,
    /// Where it ends in its file, as far as four bytes tell; 0 for events made up for the stream.
    pub end: u32,
    /// `LOG_EVENT_*_F`.
    pub flags: u16,
}

impl Header {
    /// Reads a header; `None` for fewer than [`HEADER_LEN`] bytes.
    pub fn parse(bytes: &[u8]) -> Option<Header> {
        let mut r = Reader::new(bytes);
        Some(Header { timestamp: r.u32()?, kind: r.u8()?, server: r.u32()?, len: r.u32()?, end: r.u32()?, flags: r.u16()? })
    }
}

/// What a file's format description says about the events behind it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Format {
    /// Whether a CRC32 stands behind every event.
    pub checksum: bool,
    /// Length of the fixed part of each type's body, from type 1 on.
    lengths: Vec<u8>,
}

impl Format {
    fn length(&self, kind: u8) -> Option<u8> {
        self.lengths.get(usize::from(kind).checked_sub(1)?).copied()
    }
}

/// A transaction's name at its beginning.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Gtid {
    /// MySQL.
    MySql(Origin, u64),
    /// MySQL without a name: `gtid_mode` is or was off.
    Anonymous,
    /// MariaDB; whether one statement alone follows, without a commit behind it.
    MariaDb(MariaDbGtid, bool),
}

/// A statement in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Query<'a> {
    /// The default schema; empty for none.
    pub schema: &'a [u8],
    /// The text.
    pub text: Cow<'a, [u8]>,
    /// `sql_mode` as the number the server keeps it as.
    pub sql_mode: u64,
    /// The collation id of `character_set_client`, if it was told.
    pub charset: Option<u16>,
}

/// An event, as far as it is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event<'a> {
    /// How the events behind it look.
    Format(Format),
    /// The server has nothing new to send.
    Heartbeat,
    /// The next transaction begins.
    Gtid(Gtid),
    /// A statement.
    Query(Query<'a>),
    /// The name behind a table id.
    TableMap {
        /// The id in the events behind it.
        id: u64,
        /// Schema.
        schema: &'a [u8],
        /// Table.
        table: &'a [u8],
    },
    /// Rows of the table with this id changed.
    Rows(u64),
    /// The transaction is committed.
    Xid,
    /// The transaction is prepared (or, in one phase, committed).
    XaPrepare {
        /// Committed at once.
        one_phase: bool,
        /// Its name, as `XA COMMIT` writes it in the log.
        name: String,
    },
    /// A whole transaction in one event, packed.
    Payload(&'a [u8]),
    /// Nothing that changes tables.
    Nothing,
    /// The server says that its log has a gap.
    Incident,
    /// A type not known here; not flagged as one that may be skipped.
    Unknown(u8),
}

/// Why an event could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EventError {
    /// It ends before its fields do.
    #[error("an event of type {0} is too short for its fields")]
    Short(u8),
    /// The checksum is not that of the bytes.
    #[error("an event of type {0} has a wrong checksum")]
    Checksum(u8),
    /// Its compressed part cannot be read.
    #[error("an event of type {0}: {1}")]
    Payload(u8, PayloadError),
}

/// Reads an event's body: what stands between header and checksum, or only the beginning of it (`whole` is false).
///
/// # Errors
/// [`EventError`] when fields are missing. For a statement that was not kept whole [`Event::Unknown`] is returned.
pub fn parse<'a>(header: &Header, body: &'a [u8], whole: bool, format: &Format) -> Result<Event<'a>, EventError> {
    let kind = header.kind;
    let short = EventError::Short(kind);
    let r = Reader::new(body);
    Ok(match kind {
        kind::FORMAT_DESCRIPTION => Event::Format(format_description(r).ok_or(short)?),
        kind::HEARTBEAT | kind::HEARTBEAT_V2 => Event::Heartbeat,
        kind::QUERY | kind::QUERY_COMPRESSED | kind::EXECUTE_LOAD_QUERY if !whole => Event::Unknown(kind),
        kind::QUERY | kind::QUERY_COMPRESSED | kind::EXECUTE_LOAD_QUERY => {
            let mut query = query(r, kind).ok_or(short)?;
            if kind == kind::QUERY_COMPRESSED {
                let text = payload::inflate(&query.text).map_err(|e| EventError::Payload(kind, e))?;
                query.text = Cow::Owned(text);
            }
            Event::Query(query)
        }
        kind::TABLE_MAP => table_map(r, format).ok_or(short)?,
        _ if kind::is_rows(kind) => Event::Rows(table_id(&mut { r }, kind, format).ok_or(short)?),
        kind::XID => Event::Xid,
        kind::XA_PREPARE => xa_prepare(r).ok_or(short)?,
        kind::GTID => Event::Gtid(gtid(r).ok_or(short)?),
        kind::GTID_TAGGED => Event::Gtid(gtid_tagged(r).ok_or(short)?),
        kind::ANONYMOUS_GTID => Event::Gtid(Gtid::Anonymous),
        kind::MARIADB_GTID => Event::Gtid(mariadb_gtid(r, header.server).ok_or(short)?),
        kind::TRANSACTION_PAYLOAD if !whole => Event::Unknown(kind),
        kind::TRANSACTION_PAYLOAD => Event::Payload(body),
        kind::INCIDENT => Event::Incident,
        // The file's end, parts of a statement's input, what the log itself needs: none of them changes a table.
        kind::STOP
        | kind::ROTATE
        | kind::INTVAR
        | kind::RAND
        | kind::USER_VAR
        | kind::APPEND_BLOCK
        | kind::DELETE_FILE
        | kind::BEGIN_LOAD_QUERY
        | kind::IGNORABLE
        | kind::ROWS_QUERY
        | kind::PREVIOUS_GTIDS
        | kind::TRANSACTION_CONTEXT
        | kind::VIEW_CHANGE
        | kind::ANNOTATE_ROWS
        | kind::BINLOG_CHECKPOINT
        | kind::GTID_LIST
        | kind::START_ENCRYPTION => Event::Nothing,
        _ if header.flags & FLAG_IGNORABLE != 0 => Event::Nothing,
        _ => Event::Unknown(kind),
    })
}

/// Binlog version, server version, time, header length, then a length for every type, the checksum's algorithm, and always a checksum, which is cut
/// off before.
fn format_description(mut r: Reader<'_>) -> Option<Format> {
    r.u16()?;
    r.bytes(50)?;
    r.u32()?;
    r.u8()?;
    let (algorithm, lengths) = r.rest().split_last()?;
    Some(Format { checksum: *algorithm == 1, lengths: lengths.to_vec() })
}

fn query<'a>(mut r: Reader<'a>, kind: u8) -> Option<Query<'a>> {
    r.u32()?; // the session's number
    r.u32()?; // how long it took
    let schema_len = usize::from(r.u8()?);
    r.u16()?; // the error it ended with
    let variables_len = usize::from(r.u16()?);
    if kind == kind::EXECUTE_LOAD_QUERY {
        // The file's number, where its name stands in the text, what to do with duplicates.
        r.bytes(13)?;
    }
    let variables = r.bytes(variables_len)?;
    let schema = r.bytes(schema_len)?;
    r.u8()?;
    let (sql_mode, charset) = session(variables);
    Some(Query { schema, text: Cow::Borrowed(r.rest()), sql_mode, charset })
}

/// `sql_mode` and `character_set_client` among the variables of a session. They stand before those whose length is not known here.
fn session(variables: &[u8]) -> (u64, Option<u16>) {
    let (mut sql_mode, mut charset) = (0, None);
    let mut r = Reader::new(variables);
    let mut one = || {
        match r.u8()? {
            0 => r.bytes(4).map(drop)?,
            1 => sql_mode = r.u64()?,
            2 => {
                let len = usize::from(r.u8()?) + 1;
                r.bytes(len).map(drop)?;
            }
            3 => r.bytes(4).map(drop)?,
            4 => {
                charset = Some(r.u16()?);
                r.bytes(4).map(drop)?;
            }
            5 | 6 => {
                let len = usize::from(r.u8()?);
                r.bytes(len).map(drop)?;
            }
            7 | 8 => r.bytes(2).map(drop)?,
            9 => r.bytes(8).map(drop)?,
            10 => r.bytes(4).map(drop)?,
            _ => return None,
        }
        Some(())
    };
    while one().is_some() {}
    (sql_mode, charset)
}

/// Six bytes; four in logs of old servers, which the format tells.
fn table_id(r: &mut Reader<'_>, kind: u8, format: &Format) -> Option<u64> {
    if format.length(kind) == Some(6) {
        return r.u32().map(u64::from);
    }
    let (low, high) = (r.u32()?, r.u16()?);
    Some(u64::from(low) | u64::from(high) << 32)
}

fn table_map<'a>(mut r: Reader<'a>, format: &Format) -> Option<Event<'a>> {
    let id = table_id(&mut r, kind::TABLE_MAP, format)?;
    r.u16()?;
    let schema_len = usize::from(r.u8()?);
    let schema = r.bytes(schema_len)?;
    r.u8()?;
    let table_len = usize::from(r.u8()?);
    let table = r.bytes(table_len)?;
    Some(Event::TableMap { id, schema, table })
}

fn xa_prepare<'a>(mut r: Reader<'_>) -> Option<Event<'a>> {
    let one_phase = r.u8()? != 0;
    let format_id = r.u32()?;
    let (gtrid_len, bqual_len) = (r.u32()?, r.u32()?);
    let gtrid = r.bytes(usize::try_from(gtrid_len).ok()?)?;
    let bqual = r.bytes(usize::try_from(bqual_len).ok()?)?;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Some(Event::XaPrepare { one_phase, name: format!("x'{}',x'{}',{format_id}", hex(gtrid), hex(bqual)) })
}

fn uuid(r: &mut Reader<'_>) -> Option<[u8; 16]> {
    r.bytes(16)?.try_into().ok()
}

fn gtid(mut r: Reader<'_>) -> Option<Gtid> {
    r.u8()?;
    let uuid = uuid(&mut r)?;
    Some(Gtid::MySql(Origin { uuid, tag: Tag::default() }, r.u64()?))
}

/// MySQL 8.3 and later, for transactions with a tag. Fields with numbers, each number in as many bytes as it needs: how many follow the first byte, the
/// ones at its low end tell. Source: MySQL's description of its serialization library, and captured events.
fn gtid_tagged(mut r: Reader<'_>) -> Option<Gtid> {
    let number = |r: &mut Reader<'_>| -> Option<u64> {
        let first = r.u8()?;
        let more = first.trailing_ones() as usize;
        let mut bytes = [0u8; 16];
        if let Some(slot) = bytes.first_mut() {
            *slot = first;
        }
        bytes.get_mut(1..=more)?.copy_from_slice(r.bytes(more)?);
        u64::try_from(u128::from_le_bytes(bytes) >> (more + 1).min(8)).ok()
    };
    number(&mut r)?; // version of the serialization
    number(&mut r)?; // length of the message
    number(&mut r)?; // the last field that must be known
    let (mut uuid, mut sequence, mut tag) = ([0; 16], None, Tag::default());
    // Flags, UUID, number, tag: the first four fields, in that order.
    for _ in 0..4 {
        match number(&mut r)? {
            0 => drop(number(&mut r)?),
            1 => {
                for byte in &mut uuid {
                    *byte = u8::try_from(number(&mut r)?).ok()?;
                }
            }
            // Signed: the sign is the lowest bit.
            2 => sequence = Some(number(&mut r)? >> 1),
            3 => {
                let len = usize::try_from(number(&mut r)?).ok()?;
                let text = std::str::from_utf8(r.bytes(len)?).ok()?;
                if !text.is_empty() {
                    tag = Tag::parse(text).ok()?;
                }
            }
            _ => return None,
        }
    }
    Some(Gtid::MySql(Origin { uuid, tag }, sequence?))
}

fn mariadb_gtid(mut r: Reader<'_>, server: u32) -> Option<Gtid> {
    let sequence = r.u64()?;
    let domain = r.u32()?;
    let standalone = r.u8()? & 1 != 0;
    Some(Gtid::MariaDb(MariaDbGtid { domain, server, sequence }, standalone))
}
