//! The server errors that Sluice itself raises: number, SQLSTATE, and the name MySQL's manual lists them under.
//!
//! Errors of servers pass through untouched and need no entry here.
//! Source: MySQL manual, "Server Error Message Reference" and "Client Error Message Reference".

/// An error number with its SQLSTATE.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Errno {
    /// The number a client branches on.
    pub code: u16,
    /// Five ASCII characters.
    pub sqlstate: [u8; 5],
    /// The manual's symbol.
    pub name: &'static str,
}

impl Errno {
    /// The SQLSTATE as text.
    pub fn sqlstate(&self) -> &str {
        std::str::from_utf8(&self.sqlstate).unwrap_or("HY000")
    }
}

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident = $code:literal $state:literal;)*) => {
        $($(#[$doc])* pub const $name: Errno = Errno { code: $code, sqlstate: *$state, name: stringify!($name) };)*
        /// All of them, in order of their numbers.
        pub const ALL: &[Errno] = &[$($name),*];
    };
}

errors! {
    /// Too many connections: `proxy.max_clients` is reached, or a server has no free one.
    ER_CON_COUNT_ERROR = 1040 b"08004";
    /// Out of memory: a limit on buffered bytes was hit.
    ER_OUT_OF_RESOURCES = 1041 b"HY000";
    /// Bad handshake: the login packet cannot be read.
    ER_HANDSHAKE_ERROR = 1043 b"08S01";
    /// Access denied for this user to this schema.
    ER_DBACCESS_DENIED_ERROR = 1044 b"42000";
    /// Access denied for this user.
    ER_ACCESS_DENIED_ERROR = 1045 b"28000";
    /// No schema selected.
    ER_NO_DB_ERROR = 1046 b"3D000";
    /// Unknown command byte, or one that Sluice does not pass on.
    ER_UNKNOWN_COM_ERROR = 1047 b"08S01";
    /// Unknown schema.
    ER_BAD_DB_ERROR = 1049 b"42000";
    /// The server is shutting down: Sluice drains.
    ER_SERVER_SHUTDOWN = 1053 b"08S01";
    /// Syntax error, in Sluice's own commands.
    ER_PARSE_ERROR = 1064 b"42000";
    /// Empty statement.
    ER_EMPTY_QUERY = 1065 b"42000";
    /// No such thread, for KILL.
    ER_NO_SUCH_THREAD = 1094 b"HY000";
    /// Not the owner of the thread, for KILL.
    ER_KILL_DENIED_ERROR = 1095 b"HY000";
    /// An error for which nothing more precise exists.
    ER_UNKNOWN_ERROR = 1105 b"HY000";
    /// Unknown character set.
    ER_UNKNOWN_CHARACTER_SET = 1115 b"42000";
    /// This host may not connect.
    ER_HOST_NOT_PRIVILEGED = 1130 b"HY000";
    /// Not allowed in this version: LOAD DATA LOCAL where it is switched off (MariaDB and MySQL before 8.0).
    ER_NOT_ALLOWED_COMMAND = 1148 b"42000";
    /// A packet larger than `max_allowed_packet`.
    ER_NET_PACKET_TOO_LARGE = 1153 b"08S01";
    /// Packets out of order: wrong sequence number.
    ER_NET_PACKETS_OUT_OF_ORDER = 1156 b"08S01";
    /// The bytes of a packet could not be decompressed.
    ER_NET_UNCOMPRESS_ERROR = 1157 b"08S01";
    /// Reading from a peer failed.
    ER_NET_READ_ERROR = 1158 b"08S01";
    /// Reading from a peer took too long.
    ER_NET_READ_INTERRUPTED = 1159 b"08S01";
    /// Writing to a peer failed.
    ER_NET_ERROR_ON_WRITE = 1160 b"08S01";
    /// Writing to a peer took too long.
    ER_NET_WRITE_INTERRUPTED = 1161 b"08S01";
    /// The user has too many connections.
    ER_TOO_MANY_USER_CONNECTIONS = 1203 b"42000";
    /// Waited too long: for a server connection, for a replica to catch up.
    ER_LOCK_WAIT_TIMEOUT = 1205 b"HY000";
    /// Wrong arguments.
    ER_WRONG_ARGUMENTS = 1210 b"HY000";
    /// A user's resource limit is used up.
    ER_USER_LIMIT_REACHED = 1226 b"42000";
    /// A privilege is missing: a rule denies the statement.
    ER_SPECIFIC_ACCESS_DENIED_ERROR = 1227 b"42000";
    /// Not supported yet.
    ER_NOT_SUPPORTED_YET = 1235 b"42000";
    /// Unknown prepared statement id.
    ER_UNKNOWN_STMT_HANDLER = 1243 b"HY000";
    /// The client is too old for the server's authentication.
    ER_NOT_SUPPORTED_AUTH_MODE = 1251 b"08004";
    /// The server runs with an option that forbids the statement: no master takes writes.
    ER_OPTION_PREVENTS_STATEMENT = 1290 b"HY000";
    /// Not supported in the prepared statement protocol.
    ER_UNSUPPORTED_PS = 1295 b"HY000";
    /// The statement was interrupted.
    ER_QUERY_INTERRUPTED = 1317 b"70100";
    /// Too many prepared statements.
    ER_MAX_PREPARED_STMT_COUNT_REACHED = 1461 b"42000";
    /// The connection was killed.
    ER_CONNECTION_KILLED = 1927 b"70100";
    /// Of clients: no connection to the server could be made.
    CR_CONN_HOST_ERROR = 2003 b"HY000";
    /// Of clients: the server has gone away before the statement was sent. SQLSTATE 08S01 makes drivers drop the connection.
    CR_SERVER_GONE_ERROR = 2006 b"08S01";
    /// Of clients: the connection was lost while the statement ran; its outcome is unknown.
    CR_SERVER_LOST = 2013 b"08S01";
    /// Of clients: packets that do not follow the protocol.
    CR_MALFORMED_PACKET = 2027 b"HY000";
    /// TLS is required.
    ER_SECURE_TRANSPORT_REQUIRED = 3159 b"HY000";
    /// LOAD DATA LOCAL where it is switched off (MySQL from 8.0).
    ER_CLIENT_LOCAL_FILES_DISABLED = 3948 b"42000";
    /// Disconnected because it was idle or stalled.
    ER_CLIENT_INTERACTION_TIMEOUT = 4031 b"HY000";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_order_and_well_formed() {
        for pair in ALL.windows(2) {
            assert!(pair[0].code < pair[1].code, "{} before {}", pair[0].name, pair[1].name);
        }
        for e in ALL {
            assert!(e.sqlstate.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()), "{}", e.name);
            assert_eq!(e.sqlstate().len(), 5);
        }
    }
}
