//! From errors of connections to the [`Failure`]s diagnosis understands.

use std::io::{self, ErrorKind};

use crate::backend::{ConnectError, QueryError};
use crate::topology::Failure;

/// `ER_CON_COUNT_ERROR`, `ER_OUT_OF_RESOURCES`, `ER_TOO_MANY_USER_CONNECTIONS`, `ER_USER_LIMIT_REACHED`.
const TOO_MANY: [u16; 4] = [1040, 1041, 1203, 1226];
/// `ER_SERVER_SHUTDOWN`.
const SHUTDOWN: u16 = 1053;

/// Why a login did not come about.
pub fn of_connect(error: &ConnectError) -> Failure {
    match error {
        ConnectError::Unreachable { source, .. } => of_io(source),
        // Accepted and closed again: nobody serves behind that port.
        ConnectError::Lost { source, .. } => Failure::Io(source.to_string()),
        ConnectError::Timeout { .. } => Failure::ConnectTimeout,
        ConnectError::Refused(error) if TOO_MANY.contains(&error.code) => Failure::TooManyConnections,
        ConnectError::Refused(error) if error.code == SHUTDOWN => Failure::ConnectRefused(error.message.clone()),
        ConnectError::Refused(error) => Failure::Auth(error.code, error.message.clone()),
        other => Failure::Protocol(other.to_string()),
    }
}

/// Why a question was not answered.
pub fn of_query(error: &QueryError) -> Failure {
    match error {
        QueryError::Server(error) if error.code == SHUTDOWN => Failure::Io(error.message.clone()),
        // Ours: an answer that makes no facts.
        QueryError::Io(error) if error.kind() == ErrorKind::InvalidData => Failure::Protocol(error.to_string()),
        QueryError::Io(error) => Failure::Io(error.to_string()),
        QueryError::Timeout(_) => Failure::QueryTimeout,
        other => Failure::Protocol(other.to_string()),
    }
}

/// Only what proves that nobody listens is a refusal; the rest may be the way to it.
fn of_io(error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::NotFound => Failure::ConnectRefused(error.to_string()),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => Failure::Io(error.to_string()),
        ErrorKind::TimedOut => Failure::ConnectTimeout,
        _ => Failure::Unreachable(error.to_string()),
    }
}
