//! Why a command of our own on a connection failed.

use crate::protocol::ok_err_eof::ErrPacket;

/// Why a command of our own failed.
#[derive(Debug)]
pub enum CommandError {
    /// The server's ERR packet, whole payload.
    Refused(Vec<u8>),
    /// The connection broke.
    Io(std::io::Error),
    /// The server answered something that is no answer.
    Nonsense(String),
}

impl std::fmt::Display for CommandError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CommandError::Refused(payload) => match ErrPacket::parse(payload) {
                Some(err) => write!(f, "{} {}", err.errno, String::from_utf8_lossy(err.message)),
                None => f.write_str("an unreadable error packet"),
            },
            CommandError::Io(e) => write!(f, "connection lost: {e}"),
            CommandError::Nonsense(what) => write!(f, "unexpected answer: {what}"),
        }
    }
}

impl From<std::io::Error> for CommandError {
    fn from(e: std::io::Error) -> CommandError {
        CommandError::Io(e)
    }
}
