//! Where does a server's reply end, and which of its packets matter? [`ReplyTracker`] walks the bytes and tells.
//!
//! The relay forwards what it read as it was read, but for packets that an older client counts otherwise ([`old_eof`]): rows and column definitions are only counted, by their headers. The few packets that
//! carry state (OK, EOF, ERR, the request for a local file, the answer to a PREPARE) are handed to the caller whole, since they may have to be
//! rewritten for the client. Nothing here allocates, and how the bytes were cut on their way makes no difference.
//!
//! Sources: MySQL manual, "Text Resultset", "Binary Protocol Resultset", "COM_STMT_PREPARE Response"; MariaDB knowledge base,
//! "Result Set Packets"; all replies checked against MySQL 9.7 and MariaDB 10.11 (`reply/fixtures.rs`).

use thiserror::Error;

use super::frame::MAX_PAYLOAD;

pub mod old_eof;
mod tracker;

pub use tracker::ReplyTracker;

/// The most columns a result set may have. The answer to a PREPARE counts them in 16 bits; that to a query may have more (MySQL 9 sends
/// 68,001 where that many are selected), and each comes in a packet of its own, which is counted and let go.
pub const MAX_COLUMNS: u64 = 0xFF_FFFF;

/// What was asked, which decides how the reply reads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Expect {
    /// COM_QUERY: OK, ERR, a file request, or result sets; several of them.
    Query,
    /// COM_STMT_PREPARE.
    Prepare,
    /// COM_STMT_EXECUTE and COM_STMT_BULK_EXECUTE: like a query, and a cursor may take the place of the rows.
    Execute,
    /// COM_STMT_FETCH: rows, without definitions before them.
    Fetch,
    /// COM_FIELD_LIST: definitions, without a count before them.
    FieldList,
    /// COM_STATISTICS: one packet of text.
    Statistics,
    /// OK, ERR or EOF: COM_PING, COM_INIT_DB, COM_SET_OPTION, COM_RESET_CONNECTION, COM_STMT_RESET, COM_DEBUG, ...
    Simple,
}

/// What a control packet is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PacketKind {
    /// An OK, beginning with 0x00, or with 0xFE where it ends rows under `DEPRECATE_EOF`.
    Ok,
    /// An error. It ends the reply, whatever was to come.
    Err,
    /// An EOF that ends a result set or the reply. The one between definitions and rows is passed silently.
    Eof,
    /// The server asks for a local file. It goes on when the client has sent it, so the reply is not done.
    LocalInfile,
    /// The answer to a PREPARE, with the server's statement id; definitions may follow.
    PrepareOk,
    /// A progress report of MariaDB, not an error though it looks like one.
    Progress,
}

/// What comes after the bytes that may be passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// An incomplete header or control packet, or nothing: to be kept until more has come.
    NeedMore,
    /// Here a client without `DEPRECATE_EOF` expects an EOF packet, between definitions and rows or behind a statement's definitions; the server
    /// sends none. Only told where [`ReplyTracker::toward`] wants it.
    EofDue {
        /// The number that it gets.
        seq: u8,
        /// Whether the reply ends with it.
        done: bool,
    },
    /// A control packet stands whole at `buf[pass..pass + len]`; walk on behind it.
    Packet {
        /// What it is.
        kind: PacketKind,
        /// Its bytes, header included.
        len: usize,
        /// Whether the reply ends with it.
        done: bool,
    },
}

/// How far [`ReplyTracker::walk`] came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Walk {
    /// This many bytes at the front may be forwarded as they are.
    pub pass: usize,
    /// What comes then.
    pub event: Event,
}

/// Bytes that are no reply. The connection they came from is of no further use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ReplyError {
    /// Packets were lost or mixed up.
    #[error("reply out of order: expected sequence {expected}, got {got}")]
    Sequence {
        /// The sequence number whose turn it was.
        expected: u8,
        /// The one in the header.
        got: u8,
    },
    /// A packet that cannot stand where it stands.
    #[error("a packet that begins with {first:#04x} instead of {wanted}")]
    Unexpected {
        /// What should have come.
        wanted: &'static str,
        /// The packet's first byte.
        first: u8,
    },
    /// A packet without payload.
    #[error("an empty packet instead of {wanted}")]
    Empty {
        /// What should have come.
        wanted: &'static str,
    },
    /// A control packet whose payload cannot be read.
    #[error("malformed {what}")]
    Malformed {
        /// Which packet.
        what: &'static str,
    },
    /// A control packet that goes on in another physical packet.
    #[error("control packet of {MAX_PAYLOAD} bytes or more")]
    TooLong,
}

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;
