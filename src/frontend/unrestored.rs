//! A session whose state a server does not take any more: its role was revoked, or the privilege to set a variable, or a server lacks what it set.
//!
//! A server lets a session keep what it has set; another connection cannot be brought there. The statement that finds it out is told why. With
//! the next one each part is brought by itself, and what is refused is not the session's any more: else every statement would fail, also the one
//! that would mend it.

use crate::backend::connection::CommandError;
use crate::backend::pool::Lease;
use crate::frontend::client::Client;
use crate::protocol::frame::HEADER_LEN;
use crate::protocol::ok_err_eof::ERR_HEADER;

impl Client {
    /// Brings the connection to the session's state, part by part, and lets go of what is refused.
    ///
    /// # Errors
    /// A broken connection.
    pub(super) async fn restore_part_by_part(&mut self, lease: &mut Lease) -> Result<(), CommandError> {
        // What it has been brought to is not noted: it does not come back to the pool.
        lease.expires = std::time::Instant::now();
        let mut refused = Vec::new();
        for (command, change) in lease.have.alone(&self.session.state) {
            let reply = lease.raw_reply(&command).await?;
            if reply.get(HEADER_LEN) == Some(&ERR_HEADER) {
                tracing::info!(
                    client = self.entry.id,
                    refused = %String::from_utf8_lossy(&command),
                    "the session has lost what the server refuses to set again"
                );
                refused.push(change);
            }
        }
        self.session.change(&refused);
        Ok(())
    }
}
