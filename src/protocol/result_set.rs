//! Result sets in the text protocol: written for the answers Sluice gives itself, and read for its own questions to servers.
//!
//! Rows that are relayed never come here. Source: MySQL manual, "Text Resultset", "Column Definition".

use bytes::{BufMut, BytesMut};

use super::Capabilities;
use super::frame::put_packet_with;
use super::ok_err_eof::{EofPacket, Status, write_end_of_rows};
use super::primitives::Put;

mod decode;

pub use decode::{Answer, DecodeError, MAX_DECODED_BYTES, TextDecoder, TextResultSet, decode};

/// `utf8mb4_general_ci`: known to every server and client there is.
pub const UTF8MB4: u16 = 45;
/// The character set of what is not text.
pub const BINARY: u16 = 63;

/// Column types (`enum_field_types`) that Sluice's own answers use.
pub mod column_type {
    /// DOUBLE.
    pub const DOUBLE: u8 = 0x05;
    /// BIGINT.
    pub const LONGLONG: u8 = 0x08;
    /// VARCHAR.
    pub const VAR_STRING: u8 = 0xFD;
}

/// A column's flags that Sluice's own answers use.
pub mod column_flag {
    /// NULL never stands there.
    pub const NOT_NULL: u16 = 0x0001;
    /// No sign.
    pub const UNSIGNED: u16 = 0x0020;
    /// Compared byte by byte.
    pub const BINARY: u16 = 0x0080;
}

/// A column's definition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ColumnDefinition<'a> {
    /// Schema of its table.
    pub schema: &'a [u8],
    /// Name of its table in the statement.
    pub table: &'a [u8],
    /// Name of its table.
    pub org_table: &'a [u8],
    /// Name in the statement.
    pub name: &'a [u8],
    /// Name in the table.
    pub org_name: &'a [u8],
    /// Collation id; see [`UTF8MB4`], [`BINARY`].
    pub charset: u16,
    /// The longest value, in bytes.
    pub length: u32,
    /// See [`column_type`].
    pub kind: u8,
    /// See [`column_flag`].
    pub flags: u16,
    /// Digits behind the point; 31 for floating.
    pub decimals: u8,
}

impl<'a> ColumnDefinition<'a> {
    /// A column of text.
    pub fn text(name: &'a str) -> ColumnDefinition<'a> {
        ColumnDefinition {
            schema: b"",
            table: b"",
            org_table: b"",
            name: name.as_bytes(),
            org_name: b"",
            charset: UTF8MB4,
            length: 1024,
            kind: column_type::VAR_STRING,
            flags: 0,
            decimals: 31,
        }
    }

    /// Appends the payload for a connection with `caps`.
    pub fn write(&self, out: &mut BytesMut, caps: Capabilities) {
        for text in [b"def", self.schema, self.table, self.org_table, self.name, self.org_name] {
            out.put_lenenc_bytes(text);
        }
        if caps.has(Capabilities::MARIADB_EXTENDED_METADATA) {
            out.put_lenenc_int(0);
        }
        // The length of the fields of fixed length, then those.
        out.put_lenenc_int(0x0c);
        out.put_u16_le(self.charset);
        out.put_u32_le(self.length);
        out.put_u8(self.kind);
        out.put_u16_le(self.flags);
        out.put_u8(self.decimals);
        out.put_u16_le(0);
    }
}

/// Writes one result set as packets: [`ResultSetWriter::new`], any number of rows, [`ResultSetWriter::finish`].
#[derive(Debug)]
pub struct ResultSetWriter<'o> {
    out: &'o mut BytesMut,
    caps: Capabilities,
    seq: u8,
    columns: usize,
}

impl<'o> ResultSetWriter<'o> {
    /// Begins a result set, for a client that negotiated `caps`, in packets numbered from `seq` (1 for the first answer to a command).
    ///
    /// `status` goes into the EOF behind the definitions, where the client wants one. There must be at least one column.
    pub fn new(
        out: &'o mut BytesMut,
        seq: u8,
        caps: Capabilities,
        status: Status,
        columns: &[ColumnDefinition<'_>],
    ) -> ResultSetWriter<'o> {
        let tells = caps.has(Capabilities::OPTIONAL_RESULTSET_METADATA) || caps.has(Capabilities::MARIADB_CACHE_METADATA);
        let mut seq = put_packet_with(out, seq, |out| {
            out.put_lenenc_int(columns.len() as u64);
            if tells {
                out.put_u8(1);
            }
        });
        for column in columns {
            seq = put_packet_with(out, seq, |out| column.write(out, caps));
        }
        if !caps.has(Capabilities::DEPRECATE_EOF) {
            seq = put_packet_with(out, seq, |out| EofPacket { warnings: 0, status }.write(out));
        }
        ResultSetWriter { out, caps, seq, columns: columns.len() }
    }

    /// Appends a row; what is missing of it is NULL, what is too much is dropped.
    pub fn row<'v>(&mut self, values: impl IntoIterator<Item = Option<&'v [u8]>>) {
        let columns = self.columns;
        self.seq = put_packet_with(self.out, self.seq, |out| {
            let mut values = values.into_iter();
            for _ in 0..columns {
                out.put_nullable_bytes(values.next().flatten());
            }
        });
    }

    /// Ends the result set and returns the next sequence number.
    pub fn finish(self, status: Status, warnings: u16) -> u8 {
        put_packet_with(self.out, self.seq, |out| write_end_of_rows(out, self.caps, status, warnings))
    }
}

#[cfg(test)]
mod tests;
