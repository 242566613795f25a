//! Replies for a client that reads them otherwise than the server sends them: with EOF packets that the server leaves out, or with other
//! numbers.
//!
//! Server connections always negotiate `DEPRECATE_EOF`, since the OK at the end of rows tells what a function in them has changed, and an EOF
//! does not. Many clients do not know it (libmariadb, PyMySQL, mysqlnd).

use super::{ReplyTracker, State};
use crate::protocol::Capabilities;
use crate::protocol::frame::{HEADER_LEN, Header};
use crate::protocol::ok_err_eof::{EOF_HEADER, ERR_HEADER, OkPacket, Status};
use crate::protocol::reply::Expect;

/// Who gets the reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Toward {
    /// A client with the connection's capabilities.
    Same,
    /// One without `DEPRECATE_EOF`, on a connection with it.
    Old {
        /// The client has asked for a cursor. MySQL sets the flag of one for what a function has had for itself, too.
        cursor: bool,
        /// A procedure may answer with OUT parameters, which only the flag in the EOF before their row tells from a result.
        out_params: bool,
    },
}

/// Behind which definitions an EOF packet is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Behind {
    /// Those of a result set.
    Columns,
    /// Those of a statement's parameters, see [`State::ParamsEof`].
    Params { columns: u16, defined: bool },
    /// Those of a statement's columns.
    PreparedColumns,
}

impl ReplyTracker {
    /// The reply goes to a client that negotiated `client`. Where that lacks the server's `DEPRECATE_EOF`, [`Event::EofDue`] tells where an EOF
    /// is to be written for it, and the packets behind are numbered on from that. `cursor`: it asked for one. `out_params`: a procedure is called.
    #[must_use]
    pub fn toward(mut self, client: Capabilities, cursor: bool, out_params: bool) -> ReplyTracker {
        if self.deprecate_eof() && !client.has(Capabilities::DEPRECATE_EOF) {
            self.toward = Toward::Old { cursor, out_params };
        }
        self
    }

    /// Its packets get numbers in a row from `next` on: behind a long command a server counts packets that the client did not send.
    #[must_use]
    pub fn numbered_from(mut self, next: u8) -> ReplyTracker {
        self.own = Some(next);
        self
    }

    /// The server's own numbers mean nothing: on a compressed connection it counts the pieces that packets go out in.
    #[must_use]
    pub fn unnumbered(mut self) -> ReplyTracker {
        self.unnumbered = true;
        self
    }

    /// Whether the reply goes to a client without the server's `DEPRECATE_EOF`.
    pub fn is_for_old_client(&self) -> bool {
        matches!(self.toward, Toward::Old { .. })
    }

    /// Whether packets have other numbers for the client than for the server.
    pub fn renumbers(&self) -> bool {
        self.own.is_some()
    }

    /// The number that the server expects of the first packet of the file that it asked for with a packet that the client got as `asked`.
    pub fn file_seq(&self, asked: u8) -> u8 {
        self.asked.filter(|_| !self.unnumbered).unwrap_or(asked).wrapping_add(1)
    }

    /// The client has sent its file, in packets up to the number `last`.
    pub fn behind_file(&mut self, last: u8) {
        self.own = self.own.map(|_| last.wrapping_add(1));
    }

    /// Moves on from the place of an EOF that an old client expects, with what comes next at the front of `rest`. `None`: that must be seen first.
    /// `false`: there is none, since the rows stay at the server and the one packet that says so ends the reply.
    pub(super) fn eof_due(&mut self, behind: Behind, rest: &[u8]) -> Option<bool> {
        let (next, due) = match behind {
            Behind::Columns if self.expect == Expect::Execute => (State::Rows, !self.ends_at_definitions(rest)?),
            Behind::Columns => (State::Rows, true),
            Behind::Params { columns, defined } => (self.prepared_columns(columns, defined), true),
            Behind::PreparedColumns => (State::Done, true),
        };
        self.state = next;
        Some(due)
    }

    /// Whether no EOF stands behind the definitions of an execution: its cursor was opened, or could not be. What may be the row of OUT parameters is waited for up to the packet behind it, so that its flag is known with
    /// it; one of 16 MiB or more is not.
    fn ends_at_definitions(&self, rest: &[u8]) -> Option<bool> {
        let (header, first) = (Header::parse(rest)?, *rest.get(HEADER_LEN)?);
        let ends = |header: Header, first: u8| first == EOF_HEADER && !header.continues();
        let Toward::Old { cursor, out_params } = self.toward else { return Some(false) };
        // What fails while its cursor is opened has definitions, and no EOF behind them.
        if first == ERR_HEADER && cursor {
            return Some(true);
        }
        if ends(header, first) && cursor {
            let ok = OkPacket::parse(rest.get(HEADER_LEN..header.packet_len())?, self.caps);
            return Some(ok.is_some_and(|ok| opens_cursor(ok.status)));
        }
        if out_params && first < EOF_HEADER && !header.continues() {
            let behind = rest.get(header.packet_len()..)?;
            let (header, first) = (Header::parse(behind)?, *behind.get(HEADER_LEN)?);
            if ends(header, first) && behind.len() < header.packet_len() {
                return None;
            }
        }
        Some(false)
    }
}

/// Whether the rows stay at the server until they are fetched. MySQL leaves the flag set behind a cursor that a procedure has opened for itself;
/// the rows of its results come, and more follows them, as never behind a cursor.
pub(super) fn opens_cursor(status: Status) -> bool {
    status.has(Status::CURSOR_EXISTS) && !status.has(Status::MORE_RESULTS)
}
