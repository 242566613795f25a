//! OK, EOF and ERR packets, and the status flags in the first two.
//!
//! Not here: the frame around them (`frame`) and what an OK's session state says (`session_track`).
//! Source: MySQL manual, "Generic Response Packets"; checked against MySQL 9.7 and MariaDB 10.11.

use bytes::BytesMut;

use super::Capabilities;
use super::primitives::{Put, Reader};

mod err;
mod status;

pub use err::{ErrPacket, PROGRESS_ERRNO, ProgressReport};
pub use status::Status;

/// First byte of an OK packet.
pub const OK_HEADER: u8 = 0x00;
/// First byte of an EOF packet, and of the OK packet in its place under `DEPRECATE_EOF`.
pub const EOF_HEADER: u8 = 0xFE;
/// The longest packet that clients take for an EOF when it begins with 0xFE and `DEPRECATE_EOF` was not negotiated.
pub const MAX_EOF_LEN: usize = 8;
/// First byte of an ERR packet.
pub const ERR_HEADER: u8 = 0xFF;

/// An OK packet whose strings stay where they were read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OkPacket<'a> {
    /// Rows changed (or found, with `FOUND_ROWS`).
    pub affected_rows: u64,
    /// First value an AUTO_INCREMENT column was given, or 0.
    pub last_insert_id: u64,
    /// The session's flags after the statement.
    pub status: Status,
    /// Warnings the statement left.
    pub warnings: u16,
    /// A line for people, such as `Rows matched: 3  Changed: 0  Warnings: 0`.
    pub info: &'a [u8],
    /// For [`super::session_track::changes`]; empty without `SESSION_TRACK`.
    pub session_state: &'a [u8],
}

impl<'a> OkPacket<'a> {
    /// Reads an OK packet that begins with 0x00 or 0xFE; `None` when it is something else or cut short.
    ///
    /// Without `SESSION_TRACK` the manual calls `info` a `string<EOF>`, but MySQL and MariaDB write it length-encoded and their
    /// client libraries read it so. Both are read: a length that reaches exactly to the end is one.
    pub fn parse(payload: &'a [u8], caps: Capabilities) -> Option<OkPacket<'a>> {
        let mut r = Reader::new(payload);
        if !matches!(r.u8()?, OK_HEADER | EOF_HEADER) {
            return None;
        }
        let mut ok = OkPacket {
            affected_rows: r.lenenc_int()?,
            last_insert_id: r.lenenc_int()?,
            status: Status(r.u16()?),
            warnings: r.u16()?,
            ..OkPacket::default()
        };
        if r.is_empty() {
            // Both strings may be left out when there is nothing to say.
        } else if caps.has(Capabilities::SESSION_TRACK) {
            ok.info = r.lenenc_bytes()?;
            if ok.status.has(Status::SESSION_STATE_CHANGED) && !r.is_empty() {
                ok.session_state = r.lenenc_bytes()?;
            }
        } else {
            let whole = r.peek_rest();
            ok.info = r.lenenc_bytes().filter(|_| r.is_empty()).unwrap_or(whole);
        }
        Some(ok)
    }

    /// Appends the payload. `header` is [`OK_HEADER`], or [`EOF_HEADER`] at the end of rows under `DEPRECATE_EOF`.
    ///
    /// Without `SESSION_TRACK` in `caps` the session state is dropped and its status flag cleared; `info` is length-encoded either way.
    pub fn write(&self, out: &mut BytesMut, caps: Capabilities, header: u8) {
        let tracked = caps.has(Capabilities::SESSION_TRACK) && !self.session_state.is_empty();
        let status =
            if tracked { self.status | Status::SESSION_STATE_CHANGED } else { self.status - Status::SESSION_STATE_CHANGED };
        out.extend_from_slice(&[header]);
        out.put_lenenc_int(self.affected_rows);
        out.put_lenenc_int(self.last_insert_id);
        out.extend_from_slice(&status.0.to_le_bytes());
        out.extend_from_slice(&self.warnings.to_le_bytes());
        if tracked || !self.info.is_empty() {
            out.put_lenenc_bytes(self.info);
        }
        if tracked {
            out.put_lenenc_bytes(self.session_state);
        }
    }
}

/// Appends the OK packet `payload` of a connection with `from` as a connection with `to` would have it; its first byte stays.
///
/// What differs is session state, which is dropped where `to` lacks `SESSION_TRACK`. `false`: not an OK packet, nothing appended.
pub fn rewrite_ok(payload: &[u8], from: Capabilities, to: Capabilities, out: &mut BytesMut) -> bool {
    let (Some(ok), Some(header)) = (OkPacket::parse(payload, from), payload.first()) else { return false };
    if from.has(Capabilities::SESSION_TRACK) == to.has(Capabilities::SESSION_TRACK) {
        out.extend_from_slice(payload);
    } else {
        ok.write(out, to, *header);
    }
    true
}

/// An EOF packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EofPacket {
    /// Warnings the statement left.
    pub warnings: u16,
    /// The session's flags.
    pub status: Status,
}

impl EofPacket {
    /// Reads an EOF packet; `None` when it is something else or cut short.
    pub fn parse(payload: &[u8]) -> Option<EofPacket> {
        let mut r = Reader::new(payload);
        if r.u8()? != EOF_HEADER {
            return None;
        }
        Some(EofPacket { warnings: r.u16()?, status: Status(r.u16()?) })
    }

    /// Appends the payload.
    pub fn write(&self, out: &mut BytesMut) {
        out.extend_from_slice(&[EOF_HEADER]);
        out.extend_from_slice(&self.warnings.to_le_bytes());
        out.extend_from_slice(&self.status.0.to_le_bytes());
    }
}

/// Appends what ends the rows of a result set on a connection with `caps`: an OK that begins with 0xFE, or an EOF.
pub fn write_end_of_rows(out: &mut BytesMut, caps: Capabilities, status: Status, warnings: u16) {
    if caps.has(Capabilities::DEPRECATE_EOF) {
        OkPacket { status, warnings, ..OkPacket::default() }.write(out, caps, EOF_HEADER);
    } else {
        EofPacket { warnings, status }.write(out);
    }
}

#[cfg(test)]
mod tests;
