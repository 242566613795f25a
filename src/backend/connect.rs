//! Connecting to a server and logging in there.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::handshake::{Opening, broken};
use super::tls::ServerTls;
use crate::auth::Credential;
use crate::auth::answer::{AnswerError, Answerer, Step};
use crate::net::{Stream, timer};
use crate::protocol::Capabilities;
use crate::protocol::compress::Algorithm;
use crate::protocol::errno::{self, Errno};
use crate::protocol::handshake::{Greeting, Malformed, ServerError};
use crate::topology::Flavor;

/// The port when an address names none.
pub const PORT_DEFAULT: u16 = 3306;

/// Where a server listens.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ServerAddress {
    /// A host name or IP address (IPv6 without brackets) and a port.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A unix socket on this machine.
    Unix(PathBuf),
}

impl FromStr for ServerAddress {
    type Err = String;

    /// Reads `host:port`, `host`, `[v6]:port`, `unix:/path`.
    fn from_str(text: &str) -> Result<ServerAddress, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.starts_with('/') {
                true => Ok(ServerAddress::Unix(path.into())),
                false => Err(format!("`{text}`: the path of a unix socket begins with /")),
            };
        }
        let (host, port) = match text.strip_prefix('[').and_then(|t| t.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or_else(|| format!("`{text}`: a colon belongs after ]"))?)),
            None => match text.split_once(':') {
                Some((_, rest)) if rest.contains(':') => {
                    return Err(format!("`{text}`: an IPv6 address stands in brackets, [::1]:3306"));
                }
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/') {
            return Err(format!("`{text}` names no host; host:port or unix:/path is expected"));
        }
        let port = match port {
            None => PORT_DEFAULT,
            Some(port) => {
                port.parse().ok().filter(|p| *p != 0).ok_or_else(|| format!("`{text}`: `{port}` is no port (1 to 65535)"))?
            }
        };
        Ok(ServerAddress::Tcp { host: host.to_owned(), port })
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerAddress::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            ServerAddress::Tcp { host, port } => write!(f, "{host}:{port}"),
            ServerAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Who logs in at a server, and how.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// What proves it.
    pub credential: Credential,
    /// The schema to start in.
    pub schema: Option<String>,
    /// The collation to start with. The packet has room for numbers to 255; what was named instead of a greater one
    /// stands in [`Connected::collation`].
    pub collation: u16,
    /// What is wanted; what the server does not offer falls away, see [`Connected::capabilities`].
    pub capabilities: Capabilities,
    /// How the connection is to be compressed, where the server offers it.
    pub compression: Option<Algorithm>,
    /// Connection attributes, shown in the server's `performance_schema.session_connect_attrs`.
    pub attributes: Vec<(String, String)>,
    /// Where the client is whom the connection is for, told to servers that take a PROXY header. `None`: it is Sluice's own.
    pub client: Option<IpAddr>,
}

/// A connection on which somebody is logged in; the next packet is a command.
#[derive(Debug)]
pub struct Connected {
    /// The stream.
    pub stream: Stream,
    /// What the server said first.
    pub greeting: Greeting,
    /// What was agreed upon, `SSL` and the other flags of the login itself included.
    pub capabilities: Capabilities,
    /// The server's number for the connection, for `KILL`.
    pub connection_id: u32,
    /// The collation that was named in the login.
    pub collation: u16,
}

impl Connected {
    /// MySQL or MariaDB.
    pub fn flavor(&self) -> Flavor {
        Flavor::from_version(&self.greeting.version)
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing listens there, or the name is unknown.
    #[error("{address} cannot be reached: {source}")]
    Unreachable {
        /// The server.
        address: ServerAddress,
        /// What the system said.
        source: io::Error,
    },
    /// The connection ended in the middle of the login.
    #[error("{address} closed the connection during the login: {source}")]
    Lost {
        /// The server.
        address: ServerAddress,
        /// What the system said.
        source: io::Error,
    },
    /// The login took longer than allowed.
    #[error("{address} did not finish the login within {after:?}")]
    Timeout {
        /// The server.
        address: ServerAddress,
        /// The time that was allowed.
        after: Duration,
    },
    /// The server says no. Its packet can be passed on as it is.
    #[error("the server refused: {0}")]
    Refused(ServerError),
    /// The peer does not speak the protocol.
    #[error("the server does not speak the protocol: {0}")]
    Protocol(#[from] Malformed),
    /// TLS was wanted and did not come about.
    #[error("TLS with {address}: {why}")]
    Tls {
        /// The server.
        address: ServerAddress,
        /// What is wrong.
        why: String,
    },
    /// The account uses a plugin that Sluice does not speak.
    #[error("the account uses the authentication plugin {plugin}, which Sluice does not speak")]
    PluginNotSupported {
        /// Its name.
        plugin: String,
    },
    /// The plugin needs more than is known, or a safer connection.
    #[error("{0}")]
    CannotAnswer(AnswerError),
}

impl ConnectError {
    /// Whether the same login may succeed at another server, or at this one later: the server was not there, or was too
    /// busy. A refusal of the user or a broken set-up will be the same everywhere.
    pub fn is_retryable(&self) -> bool {
        match self {
            ConnectError::Unreachable { .. } | ConnectError::Lost { .. } | ConnectError::Timeout { .. } => true,
            ConnectError::Refused(e) => is_busy(e) || Errno(e.code) == errno::ER_TOO_MANY_USER_CONNECTIONS,
            _ => false,
        }
    }

    /// Whether the server says that user and password do not belong together (or not any more).
    pub fn is_access_denied(&self) -> bool {
        let ConnectError::Refused(e) = self else { return false };
        matches!(
            Errno(e.code),
            errno::ER_ACCESS_DENIED_ERROR
                | errno::ER_ACCESS_DENIED_NO_PASSWORD_ERROR
                | errno::ER_ACCOUNT_HAS_BEEN_LOCKED
                | errno::ER_MARIADB_ACCOUNT_HAS_BEEN_LOCKED
        )
    }
}

/// A refusal that says nothing of the user, so that another server may be asked: too many connections, out of memory, shutting down, our host
/// blocked there.
pub fn is_busy(error: &ServerError) -> bool {
    matches!(
        Errno(error.code),
        errno::ER_CON_COUNT_ERROR | errno::ER_OUT_OF_RESOURCES | errno::ER_SERVER_SHUTDOWN | errno::ER_HOST_IS_BLOCKED
    )
}

impl From<AnswerError> for ConnectError {
    fn from(e: AnswerError) -> ConnectError {
        match e {
            AnswerError::PluginNotSupported(plugin) => ConnectError::PluginNotSupported { plugin },
            AnswerError::Malformed(m) => ConnectError::Protocol(m),
            e => ConnectError::CannotAnswer(e),
        }
    }
}

/// Connects, goes into TLS when the mode says so, and logs in. `timeout` bounds the whole of it.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect(
    address: &ServerAddress,
    tls: &ServerTls,
    login: &Login,
    timeout: Duration,
) -> Result<Connected, ConnectError> {
    let late = |_| ConnectError::Timeout { address: address.clone(), after: timeout };
    timer::timeout(timeout, log_in(address, tls, login)).await.map_err(late)?
}

async fn log_in(address: &ServerAddress, tls: &ServerTls, login: &Login) -> Result<Connected, ConnectError> {
    let lost = |source| ConnectError::Lost { address: address.clone(), source };
    let mut opening = Opening::greet(address, tls, login).await?;
    let greeting = opening.greeting();
    let mut answerer = Answerer::new(&login.credential, opening.is_secure(), &greeting.plugin, greeting.nonce);
    let (plugin, answer) = answerer.first();
    opening.respond(login, plugin, &answer).await.map_err(lost)?;
    loop {
        let packet = opening.read().await.map_err(|e| broken(address, e))?;
        match answerer.step(&packet)? {
            Step::Send(payload) => opening.write(&payload).await.map_err(lost)?,
            Step::Wait => {}
            Step::Done => return Ok(opening.finish()),
            Step::Refused(e) => return Err(ConnectError::Refused(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_they_are_written() {
        let tcp = |host: &str, port| Some(ServerAddress::Tcp { host: host.to_owned(), port });
        for (text, meant) in [
            ("10.0.0.11:3306", tcp("10.0.0.11", 3306)),
            ("db1.example.com", tcp("db1.example.com", 3306)),
            ("[::1]:3307", tcp("::1", 3307)),
            ("[::1]", tcp("::1", 3306)),
            ("unix:/run/mysqld/mysqld.sock", Some(ServerAddress::Unix("/run/mysqld/mysqld.sock".into()))),
            ("::1", None),
            ("[::1]3306", None),
            ("", None),
            (":3306", None),
            ("db1:0", None),
            ("db1:65536", None),
            ("db1:", None),
            ("unix:relative", None),
            ("mysql://db1", None),
            ("db 1:3306", None),
        ] {
            let read = text.parse::<ServerAddress>();
            assert_eq!(read.as_ref().ok(), meant.as_ref(), "{text}");
            if let Ok(address) = read {
                assert_eq!(address.to_string().parse(), Ok(address), "{text}: as it is shown it can be read");
            }
        }
    }

    #[test]
    fn only_the_absent_and_the_busy_are_worth_another_try() {
        for (code, retryable, denied) in [
            (1040, true, false),
            (1129, true, false),
            (1203, true, false),
            (1226, false, false),
            (1045, false, true),
            (1130, false, false),
            (1049, false, false),
        ] {
            let e = ConnectError::Refused(ServerError::new(Errno(code), "x"));
            assert_eq!((e.is_retryable(), e.is_access_denied()), (retryable, denied), "{code}");
        }
    }
}
