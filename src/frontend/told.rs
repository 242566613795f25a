//! What a reply told about itself and the session.

use crate::protocol::ok_err_eof::{OkPacket, Status};
use crate::protocol::prepared::PrepareOk;
use crate::protocol::session_track::{self, Change as TrackedChange};
use crate::session::machine::Tracked;
use crate::session::replay::Checksum;

/// Session changes kept of one reply; a reply that tracks more leaves the session pinned.
pub const TRACKED_MAX: usize = 512;

/// What a reply told about itself and the session.
#[derive(Debug, Default)]
pub struct Told {
    /// The last ERR packet's errno; `None` when the reply ended well.
    pub errno: Option<u16>,
    /// Its SQLSTATE.
    pub sqlstate: Option<[u8; 5]>,
    /// The last status flags; meaningless after an error.
    pub status: Option<Status>,
    /// Warnings of the last result.
    pub warnings: u16,
    /// Affected rows of the last OK.
    pub affected_rows: u64,
    /// `last_insert_id` of the last OK that had one.
    pub last_insert_id: u64,
    /// Rows of all result sets.
    pub rows: u64,
    /// Results that have ended well.
    pub results: usize,
    /// Bytes read from the server.
    pub bytes: u64,
    /// System variables that changed: name and value.
    pub variables: Vec<Tracked>,
    /// The schema, when it changed.
    pub schema: Option<Box<[u8]>>,
    /// GTIDs of what was written: MySQL's tracker, or MariaDB's `last_gtid`.
    pub gtid: Option<Box<[u8]>>,
    /// The server says that the session's state changed: a variable, a temporary table, a prepared statement.
    pub state_changed: bool,
    /// More was tracked than is kept.
    pub overflow: bool,
    /// The prepared statement's OK, for `COM_STMT_PREPARE`.
    pub prepared: Option<PrepareOk>,
    /// Bytes of the last OK or EOF, as the client gets it, header included.
    pub last_len: usize,
    /// It stood behind rows.
    pub ends_rows: bool,
    /// Made of the whole reply, where one is wanted.
    pub sum: Option<Checksum>,
}

impl Told {
    /// The reply ended well, and told of nothing that has changed.
    pub fn tells_of_no_change(&self) -> bool {
        self.errno.is_none()
            && self.last_insert_id == 0
            && self.variables.is_empty()
            && self.schema.is_none()
            && self.gtid.is_none()
            && !self.state_changed
            && !self.overflow
    }

    pub(super) fn note_ok(&mut self, ok: &OkPacket<'_>) {
        if let Some(sum) = &mut self.sum {
            sum.ok(ok.affected_rows, ok.last_insert_id);
        }
        self.status = Some(ok.status);
        self.warnings = ok.warnings;
        self.affected_rows = ok.affected_rows;
        if ok.last_insert_id != 0 {
            self.last_insert_id = ok.last_insert_id;
        }
        if ok.session_state.is_empty() {
            return;
        }
        for change in session_track::changes(ok.session_state) {
            match change {
                Ok(TrackedChange::SystemVariable { name, value }) => {
                    if name == b"last_gtid" {
                        self.gtid = Some(value.into());
                    } else if self.variables.len() < TRACKED_MAX {
                        self.variables.push((name.into(), value.into()));
                    } else {
                        self.overflow = true;
                    }
                }
                Ok(TrackedChange::Schema(name)) => self.schema = Some(name.into()),
                Ok(TrackedChange::Gtids(gtids)) => self.gtid = Some(gtids.into()),
                Ok(TrackedChange::StateChange(changed)) => self.state_changed |= changed,
                Ok(_) => {}
                Err(_) => {
                    self.overflow = true;
                    break;
                }
            }
        }
    }
}
