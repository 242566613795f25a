//! A statement to be run, and what became of it.

use std::sync::Arc;

use crate::backend::connection::PreparedText;
use crate::frontend::errors::ClientError;
use crate::frontend::lost::Loss;
use crate::frontend::told::Told;
use crate::protocol::command::Com;
use crate::protocol::ok_err_eof::Status;
use crate::protocol::prepared::PrepareOk;
use crate::protocol::reply::Expect;
use crate::sql::classify::Classified;
use crate::sql::hint::Hint;
use crate::topology::ServerId;

/// What is sent to the server.
pub(super) enum Payload<'a> {
    /// The client's packet as it came.
    Packet(&'a [u8]),
    /// `COM_STMT_EXECUTE`, `COM_STMT_BULK_EXECUTE`: the client's payload, into which the server's number for the statement is put.
    Execute(&'a [u8]),
    /// The client's [`upload`](Client::upload).
    Upload,
}

/// One statement to be run.
pub(super) struct Job<'a> {
    pub com: Com,
    pub expect: Expect,
    pub statement: &'a Arc<Classified>,
    pub hint: Option<&'a Hint>,
    pub sql: &'a [u8],
    pub payload: Payload<'a>,
    /// The prepared statement, for EXECUTE, and for PREPARE what it becomes.
    pub text: Option<&'a Arc<PreparedText>>,
    /// The client's number for it.
    pub statement_id: u32,
    /// Its parameters and remembered types, for EXECUTE.
    pub params: u16,
    pub types: Option<&'a [u8]>,
    /// The server it was prepared on, which is taken when it may be.
    pub prefer: Option<ServerId>,
}

/// What came of it. The client has its answer already.
pub(super) struct Outcome {
    /// The server that ran it; `None` when the answer was ours.
    pub server: Option<ServerId>,
    /// The server's reply ended well.
    pub ok: bool,
    /// The status flags of a reply that ended well.
    pub status: Option<Status>,
    /// The answer to `COM_STMT_PREPARE`.
    pub prepared: Option<PrepareOk>,
}

impl Outcome {
    pub(super) fn of(server: ServerId, told: &Told) -> Outcome {
        let ok = told.errno.is_none();
        Outcome { server: Some(server), ok, status: told.status.filter(|_| ok), prepared: told.prepared }
    }
}

pub(super) const ANSWERED: Outcome = Outcome { server: None, ok: false, status: None, prepared: None };

/// Why an attempt on one server failed.
pub(super) enum Failed {
    /// The client has been answered.
    Answered,
    /// Nothing of the statement has an effect that counts; it may be tried elsewhere.
    Before(ClientError),
    /// The statement may have run.
    Unknown(ClientError),
    /// A read was lost with its connection. It may be tried elsewhere, for so often as that may be.
    Lost(ClientError, Loss),
    /// The connection that the session is pinned to is gone.
    HeldLost,
    /// The replica did not reach the session's last write in time.
    Behind,
    /// The replica misses what the statement names or a right to it; the master may have it.
    Lacks,
    /// The session's schema is gone.
    NoSchema,
    /// The server is read-only, and refused a statement whose text looked like a read.
    ReadOnlyServer,
    /// The prepared statement must be prepared again, or room made for it; the server's error packet.
    PrepareAgain(Vec<u8>),
}
