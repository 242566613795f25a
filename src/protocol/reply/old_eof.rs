//! EOF packets for clients without `DEPRECATE_EOF`, of what a server says that has it.
//!
//! Source: MySQL manual, "EOF_Packet" and "Text Resultset"; the same statements answered with and without it (`reply/fixtures.txt`).

use crate::protocol::frame::{HEADER_LEN, Header};
use crate::protocol::ok_err_eof::{EOF_HEADER, OkPacket, Status};

/// The length of an EOF packet, header included.
pub const EOF_PACKET_LEN: usize = HEADER_LEN + 5;

/// An EOF packet, header included.
pub fn eof_packet(seq: u8, warnings: u16, status: Status) -> [u8; EOF_PACKET_LEN] {
    let [a, b, c, seq] = Header { len: 5, seq }.to_bytes();
    let [w, x] = warnings.to_le_bytes();
    let [s, t] = status.0.to_le_bytes();
    [a, b, c, seq, EOF_HEADER, w, x, s, t]
}

/// What stands between the definitions and the rows that `ok` ends, where both come at once. A server may have fewer warnings and flags to tell
/// there than at the end, where clients look for them; what comes with the rows cannot be told apart. A cursor's flags are none of the client's:
/// with rows behind the definitions there is none, and MySQL sets them for the cursor of a function. Behind that of a procedure, which has more
/// results, they stand here too.
pub fn before_rows(seq: u8, ok: &OkPacket<'_>) -> [u8; EOF_PACKET_LEN] {
    let mut status = ok.status - Status::SESSION_STATE_CHANGED;
    if !status.has(Status::MORE_RESULTS) {
        status = status - Status::CURSOR_EXISTS - Status::LAST_ROW_SENT;
    }
    eof_packet(seq, ok.warnings, status)
}

/// What stands in the place of `ok`, which begins with 0xFE.
///
/// Behind OUT parameters MySQL repeats neither the flag that names them nor that more follows, though an OK always does; MariaDB both. `of_mysql`: it is
/// one, and the EOF before the row has told.
pub fn at_end(seq: u8, ok: &OkPacket<'_>, of_mysql: bool) -> [u8; EOF_PACKET_LEN] {
    let mut status = ok.status - Status::SESSION_STATE_CHANGED;
    if of_mysql && status.has(Status::PS_OUT_PARAMS) {
        status = status - Status::PS_OUT_PARAMS - Status::MORE_RESULTS;
    }
    eof_packet(seq, ok.warnings, status)
}

#[cfg(test)]
mod tests;
