//! A transaction that no reply tells of.

use super::Session;
use crate::protocol::ok_err_eof::Status;
use crate::session::pin::PinReason;

impl Session {
    /// What a connection said of itself behind an error, which tells no status: with `autocommit = 0` a statement that failed has begun
    /// a transaction all the same, and may hold locks in it.
    pub fn goes_on_with(&mut self, status: Status) {
        if status.has(Status::IN_TRANS) {
            self.status = self.status | Status::IN_TRANS;
            self.pins.set(PinReason::Transaction, true);
        }
    }
}
