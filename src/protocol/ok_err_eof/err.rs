//! ERR packets, and MariaDB's progress reports, which look like one.

use super::{BytesMut, ERR_HEADER, Put, Reader};
use crate::protocol::errno::{ER_CLIENT_INTERACTION_TIMEOUT, Errno};

/// The error number that marks a progress report.
pub const PROGRESS_ERRNO: u16 = 0xFFFF;

/// An ERR packet whose message stays where it was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ErrPacket<'a> {
    /// The number a client branches on.
    pub errno: u16,
    /// Five ASCII characters; `None` in errors sent before the handshake (1040, 1129, 1130), which have none.
    pub sqlstate: Option<[u8; 5]>,
    /// The text, in the client's character set.
    pub message: &'a [u8],
}

impl<'a> ErrPacket<'a> {
    /// Reads an ERR packet; `None` when it is something else or has no number.
    pub fn parse(payload: &'a [u8]) -> Option<ErrPacket<'a>> {
        let mut r = Reader::new(payload);
        if r.u8()? != ERR_HEADER {
            return None;
        }
        let errno = r.u16()?;
        let mut sqlstate = None;
        if r.peek() == Some(b'#') {
            let mut after = r;
            after.u8()?;
            if let Some(state) = after.bytes(5).and_then(|state| state.first_chunk::<5>()) {
                sqlstate = Some(*state);
                r = after;
            }
        }
        Some(ErrPacket { errno, sqlstate, message: r.rest() })
    }

    /// Appends the payload of an ERR packet.
    pub fn write(out: &mut BytesMut, errno: u16, sqlstate: [u8; 5], message: &[u8]) {
        out.extend_from_slice(&[ERR_HEADER]);
        out.extend_from_slice(&errno.to_le_bytes());
        out.extend_from_slice(b"#");
        out.extend_from_slice(&sqlstate);
        out.extend_from_slice(message);
    }

    /// Whether this packet says that the server has closed the connection because it was idle. It was sent before a command was read: its number
    /// is 0, and answers begin with 1.
    pub fn is_farewell(packet: &[u8]) -> bool {
        let [_, _, _, 0, payload @ ..] = packet else { return false };
        ErrPacket::parse(payload).is_some_and(|error| Errno(error.errno) == ER_CLIENT_INTERACTION_TIMEOUT)
    }

    /// Whether this is a progress report and not an error; only meant where `MARIADB_PROGRESS` was negotiated.
    pub fn is_progress(&self) -> bool {
        self.errno == PROGRESS_ERRNO
    }
}

/// How far a long statement is (MariaDB knowledge base, "Progress Reporting").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProgressReport<'a> {
    /// The stage being worked on, from 1.
    pub stage: u8,
    /// How many stages there are.
    pub stages: u8,
    /// Thousandths of a percent of the stage that are done.
    pub progress: u32,
    /// What the server is doing.
    pub state: &'a [u8],
}

impl<'a> ProgressReport<'a> {
    /// Reads the ERR packet that carries a report.
    pub fn parse(payload: &'a [u8]) -> Option<ProgressReport<'a>> {
        let mut r = Reader::new(payload);
        if r.u8()? != ERR_HEADER || r.u16()? != PROGRESS_ERRNO {
            return None;
        }
        // How many strings follow; always 1.
        r.u8()?;
        Some(ProgressReport { stage: r.u8()?, stages: r.u8()?, progress: r.u24()?, state: r.lenenc_bytes()? })
    }

    /// Appends the payload that carries this report.
    pub fn write(&self, out: &mut BytesMut) {
        out.extend_from_slice(&[ERR_HEADER, 0xFF, 0xFF, 1, self.stage, self.stages]);
        out.put_u24_le(self.progress);
        out.put_lenenc_bytes(self.state);
    }
}
