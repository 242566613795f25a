//! Reads the answer to one of Sluice's own questions into owned rows.

use thiserror::Error;

use crate::protocol::Capabilities;
use crate::protocol::frame::{FrameError, next_packet};
use crate::protocol::ok_err_eof::{EOF_HEADER, ERR_HEADER, EofPacket, ErrPacket, MAX_EOF_LEN, OK_HEADER, OkPacket, Status};
use crate::protocol::primitives::Reader;
use crate::protocol::reply::MAX_COLUMNS;

/// The most payload bytes a decoded answer may have in all: the monitor asks short questions.
pub const MAX_DECODED_BYTES: usize = 4 * 1024 * 1024;

/// A result set with its values as the server wrote them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TextResultSet {
    /// Names of the columns in the statement.
    pub columns: Vec<String>,
    /// The rows; `None` is NULL.
    pub rows: Vec<Vec<Option<Vec<u8>>>>,
    /// Flags at its end.
    pub status: Status,
}

impl TextResultSet {
    /// Where the column of this name stands, in whatever case it is written.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.eq_ignore_ascii_case(name))
    }

    /// A value as text; `None` for NULL, for what is not UTF-8, and where there is no such row or column.
    pub fn text(&self, row: usize, name: &str) -> Option<&str> {
        let value = self.rows.get(row)?.get(self.column(name)?)?.as_deref()?;
        std::str::from_utf8(value).ok()
    }
}

/// What a server answered to a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// No rows to send.
    Ok {
        /// The session's flags.
        status: Status,
        /// Rows changed.
        affected_rows: u64,
        /// As in the OK packet, for [`crate::protocol::session_track::changes`].
        session_state: Vec<u8>,
    },
    /// An error.
    Err {
        /// Its number.
        errno: u16,
        /// Its SQLSTATE, where it has one.
        sqlstate: Option<[u8; 5]>,
        /// Its text; what is not UTF-8 is replaced.
        message: String,
    },
    /// Rows.
    Rows(TextResultSet),
}

/// Why an answer cannot be decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum DecodeError {
    /// It is not framed.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A packet that cannot be read.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// More bytes than the limit.
    #[error("answer larger than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes of payload.
        limit: usize,
    },
    /// The buffer ends before the answer does.
    #[error("the answer is not complete")]
    Incomplete,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    First,
    Columns { left: u64 },
    ColumnsEof,
    Rows,
    Done,
}

/// Takes an answer packet by packet; only its first result is decoded, so multi-statements are not for it.
#[derive(Clone, Debug)]
pub struct TextDecoder {
    caps: Capabilities,
    state: State,
    limit: usize,
    seen: usize,
    set: TextResultSet,
}

impl TextDecoder {
    /// A decoder for an answer on a connection with `caps`, of at most `limit` payload bytes.
    pub fn new(caps: Capabilities, limit: usize) -> TextDecoder {
        TextDecoder { caps, state: State::First, limit, seen: 0, set: TextResultSet::default() }
    }

    /// Takes the next packet's payload; the answer, once it is complete.
    pub fn packet(&mut self, payload: &[u8]) -> Result<Option<Answer>, DecodeError> {
        self.seen = self.seen.saturating_add(payload.len());
        if self.seen > self.limit {
            return Err(DecodeError::TooLarge { limit: self.limit });
        }
        let first = *payload.first().ok_or(DecodeError::Malformed("empty packet"))?;
        if first == ERR_HEADER {
            let err = ErrPacket::parse(payload).ok_or(DecodeError::Malformed("ERR packet"))?;
            if err.is_progress() && self.caps.has(Capabilities::MARIADB_PROGRESS) {
                return Ok(None);
            }
            self.state = State::Done;
            let message = String::from_utf8_lossy(err.message).into_owned();
            return Ok(Some(Answer::Err { errno: err.errno, sqlstate: err.sqlstate, message }));
        }
        match self.state {
            State::First if first == OK_HEADER => {
                let ok = OkPacket::parse(payload, self.caps).ok_or(DecodeError::Malformed("OK packet"))?;
                self.state = State::Done;
                let session_state = ok.session_state.to_vec();
                return Ok(Some(Answer::Ok { status: ok.status, affected_rows: ok.affected_rows, session_state }));
            }
            State::First => {
                let malformed = DecodeError::Malformed("column count");
                let mut r = Reader::new(payload);
                let left = r.lenenc_int().filter(|n| (1..=MAX_COLUMNS).contains(n)).ok_or(malformed)?;
                // Definitions that were left out would leave the columns without names.
                if r.u8() == Some(0) {
                    return Err(DecodeError::Malformed("result set without metadata"));
                }
                self.state = State::Columns { left };
            }
            State::Columns { left } => {
                self.set.columns.push(column_name(payload).ok_or(DecodeError::Malformed("column definition"))?);
                self.state = match left {
                    2.. => State::Columns { left: left - 1 },
                    _ if self.caps.has(Capabilities::DEPRECATE_EOF) => State::Rows,
                    _ => State::ColumnsEof,
                };
            }
            State::ColumnsEof => {
                EofPacket::parse(payload).ok_or(DecodeError::Malformed("EOF packet"))?;
                self.state = State::Rows;
            }
            State::Rows if first == EOF_HEADER && (payload.len() <= MAX_EOF_LEN || self.caps.has(Capabilities::DEPRECATE_EOF)) => {
                let ok = OkPacket::parse(payload, self.caps).filter(|_| self.caps.has(Capabilities::DEPRECATE_EOF));
                let status = ok.map(|ok| ok.status).or_else(|| EofPacket::parse(payload).map(|eof| eof.status));
                self.set.status = status.ok_or(DecodeError::Malformed("end of rows"))?;
                self.state = State::Done;
                return Ok(Some(Answer::Rows(std::mem::take(&mut self.set))));
            }
            State::Rows => {
                let mut r = Reader::new(payload);
                let row: Option<Vec<_>> =
                    self.set.columns.iter().map(|_| r.nullable_bytes().map(|value| value.map(<[u8]>::to_vec))).collect();
                self.set.rows.push(row.filter(|_| r.is_empty()).ok_or(DecodeError::Malformed("row"))?);
            }
            State::Done => return Err(DecodeError::Malformed("packet behind the end of an answer")),
        }
        Ok(None)
    }
}

/// The fifth string of a column definition.
fn column_name(payload: &[u8]) -> Option<String> {
    let mut r = Reader::new(payload);
    for _ in 0..4 {
        r.lenenc_bytes()?;
    }
    r.lenenc_bytes().map(|name| String::from_utf8_lossy(name).into_owned())
}

/// Decodes an answer that stands whole in `buf`, and tells how many bytes it took.
pub fn decode(buf: &[u8], caps: Capabilities, limit: usize) -> Result<(Answer, usize), DecodeError> {
    let mut decoder = TextDecoder::new(caps, limit);
    let mut at = 0;
    loop {
        let packet = next_packet(buf.get(at..).unwrap_or_default(), limit)?.ok_or(DecodeError::Incomplete)?;
        at += packet.wire_len;
        if let Some(answer) = decoder.packet(&packet.payload)? {
            return Ok((answer, at));
        }
    }
}
