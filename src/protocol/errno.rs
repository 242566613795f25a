//! The errors that Sluice raises itself or knows by their numbers: the name that a manual lists them under, number and SQLSTATE.
//!
//! Other errors of servers pass through untouched and need no entry here.
//! Source: MySQL manual, "Server Error Message Reference"; MariaDB knowledge base, "MariaDB Error Codes" (for those that say so).

/// An error by its number, which is what clients branch on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Errno(pub u16);

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident = $code:literal $state:literal;)*) => {
        $($(#[$doc])* pub const $name: Errno = Errno($code);)*

        impl Errno {
            /// Its SQLSTATE, five characters; `HY000`, "none in particular", for one that does not stand in this file.
            pub const fn sqlstate(self) -> &'static str {
                match self {
                    $($name => $state,)*
                    _ => "HY000",
                }
            }
        }

        #[cfg(test)]
        const ALL: &[Errno] = &[$($name),*];
    };
}

errors! {
    /// Out of memory for sorting: an answer of the admin port is too large.
    ER_OUT_OF_SORTMEMORY = 1038 "HY001";
    /// Too many connections: `proxy.max_clients` is reached, or a server has no free one.
    ER_CON_COUNT_ERROR = 1040 "08004";
    /// Out of memory.
    ER_OUT_OF_RESOURCES = 1041 "HY000";
    /// Bad handshake: the login packet cannot be read.
    ER_HANDSHAKE_ERROR = 1043 "08S01";
    /// Access denied for this user to this schema.
    ER_DBACCESS_DENIED_ERROR = 1044 "42000";
    /// Access denied for this user.
    ER_ACCESS_DENIED_ERROR = 1045 "28000";
    /// No schema selected.
    ER_NO_DB_ERROR = 1046 "3D000";
    /// Unknown command byte, or one that Sluice does not pass on.
    ER_UNKNOWN_COM_ERROR = 1047 "08S01";
    /// Unknown schema.
    ER_BAD_DB_ERROR = 1049 "42000";
    /// A column's name is ambiguous.
    ER_NON_UNIQ_ERROR = 1052 "23000";
    /// The server is being stopped, and has begun nothing.
    ER_SERVER_SHUTDOWN = 1053 "08S01";
    /// Unknown column.
    ER_BAD_FIELD_ERROR = 1054 "42S22";
    /// Syntax error.
    ER_PARSE_ERROR = 1064 "42000";
    /// Empty statement.
    ER_EMPTY_QUERY = 1065 "42000";
    /// No such thread, for KILL.
    ER_NO_SUCH_THREAD = 1094 "HY000";
    /// Not the owner of the thread, for KILL.
    ER_KILL_DENIED_ERROR = 1095 "HY000";
    /// No table after FROM.
    ER_NO_TABLES_USED = 1096 "HY000";
    /// An error for which nothing more precise exists.
    ER_UNKNOWN_ERROR = 1105 "HY000";
    /// Unknown table, in information_schema or a DELETE of several.
    ER_UNKNOWN_TABLE = 1109 "42S02";
    /// An aggregate where none may stand.
    ER_INVALID_GROUP_FUNC_USE = 1111 "HY000";
    /// Our host has failed too often there.
    ER_HOST_IS_BLOCKED = 1129 "HY000";
    /// No such grant.
    ER_NONEXISTING_GRANT = 1141 "42000";
    /// A right on a table is missing.
    ER_TABLEACCESS_DENIED_ERROR = 1142 "42000";
    /// A right on a column is missing.
    ER_COLUMNACCESS_DENIED_ERROR = 1143 "42000";
    /// Unknown table.
    ER_NO_SUCH_TABLE = 1146 "42S02";
    /// No such grant on the table.
    ER_NONEXISTING_TABLE_GRANT = 1147 "42000";
    /// A packet larger than `max_allowed_packet`.
    ER_NET_PACKET_TOO_LARGE = 1153 "08S01";
    /// Packets out of order: wrong sequence number.
    ER_NET_PACKETS_OUT_OF_ORDER = 1156 "08S01";
    /// A connection to a server was lost. Clients' own 2013 would say it more plainly, but MariaDB's client library takes any
    /// number from 2000 to 2999 in an ERR packet for a malformed packet.
    ER_NET_READ_ERROR = 1158 "08S01";
    /// Reading from a client took too long.
    ER_NET_READ_INTERRUPTED = 1159 "08S01";
    /// Unknown index. (The manual spells it so.)
    ER_KEY_DOES_NOT_EXITS = 1176 "42000";
    /// Unknown system variable.
    ER_UNKNOWN_SYSTEM_VARIABLE = 1193 "HY000";
    /// The user has too many connections.
    ER_TOO_MANY_USER_CONNECTIONS = 1203 "42000";
    /// Wrong arguments.
    ER_WRONG_ARGUMENTS = 1210 "HY000";
    /// A user's resource limit is used up.
    ER_USER_LIMIT_REACHED = 1226 "42000";
    /// A privilege is missing.
    ER_SPECIFIC_ACCESS_DENIED_ERROR = 1227 "42000";
    /// A value that the variable cannot have.
    ER_WRONG_VALUE_FOR_VAR = 1231 "42000";
    /// A value of a type that the variable cannot have.
    ER_WRONG_TYPE_FOR_VAR = 1232 "42000";
    /// Not supported.
    ER_NOT_SUPPORTED_YET = 1235 "42000";
    /// Unknown prepared statement.
    ER_UNKNOWN_STMT_HANDLER = 1243 "HY000";
    /// The client does not support the authentication that the account has.
    ER_NOT_SUPPORTED_AUTH_MODE = 1251 "08004";
    /// The server runs with an option that forbids the statement: it is read-only.
    ER_OPTION_PREVENTS_STATEMENT = 1290 "HY000";
    /// Not supported in the prepared statement protocol.
    ER_UNSUPPORTED_PS = 1295 "HY000";
    /// A text that is not in its charset.
    ER_INVALID_CHARACTER_STRING = 1300 "HY000";
    /// A result longer than may be.
    ER_WARN_ALLOWED_PACKET_OVERFLOWED = 1301 "HY000";
    /// Unknown routine.
    ER_SP_DOES_NOT_EXIST = 1305 "42000";
    /// The statement was interrupted.
    ER_QUERY_INTERRUPTED = 1317 "70100";
    /// A right on what is under a view is missing, for EXPLAIN and SHOW.
    ER_VIEW_NO_EXPLAIN = 1345 "HY000";
    /// A view where a table must be, or the other way round.
    ER_WRONG_OBJECT = 1347 "HY000";
    /// A view names what is not there.
    ER_VIEW_INVALID = 1356 "HY000";
    /// Unknown trigger.
    ER_TRG_DOES_NOT_EXIST = 1360 "HY000";
    /// A right on a routine is missing.
    ER_PROCACCESS_DENIED_ERROR = 1370 "42000";
    /// A prepared statement has no open cursor.
    ER_STMT_HAS_NO_OPEN_CURSOR = 1421 "HY000";
    /// A server cannot be reached.
    ER_CONNECT_TO_FOREIGN_DATA_SOURCE = 1429 "HY000";
    /// The definer is no account.
    ER_NO_SUCH_USER = 1449 "HY000";
    /// Too many prepared statements.
    ER_MAX_PREPARED_STMT_COUNT_REACHED = 1461 "42000";
    /// Unknown server, on the admin port.
    ER_FOREIGN_SERVER_DOESNT_EXIST = 1477 "HY000";
    /// The account's plugin is not there.
    ER_PLUGIN_IS_NOT_LOADED = 1524 "HY000";
    /// Unknown event.
    ER_EVENT_DOES_NOT_EXIST = 1539 "HY000";
    /// A function has another number of arguments.
    ER_WRONG_PARAMCOUNT_TO_NATIVE_FCT = 1582 "42000";
    /// A prepared statement is not what it was.
    ER_NEED_REPREPARE = 1615 "HY000";
    /// Unknown function, with a blank before its bracket.
    ER_FUNC_INEXISTENT_NAME_COLLISION = 1630 "42000";
    /// A condition that SIGNAL raised.
    ER_SIGNAL_EXCEPTION = 1644 "HY000";
    /// Access denied, whatever the password.
    ER_ACCESS_DENIED_NO_PASSWORD_ERROR = 1698 "28000";
    /// Unknown partition.
    ER_UNKNOWN_PARTITION = 1735 "HY000";
    /// A write in a read-only transaction.
    ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION = 1792 "25006";
    /// The password has expired: the session may change it, and nothing else.
    ER_MUST_CHANGE_PASSWORD = 1820 "HY000";
    /// A command that cannot be read.
    ER_MALFORMED_PACKET = 1835 "HY000";
    /// The password has expired, and the client cannot change it.
    ER_MUST_CHANGE_PASSWORD_LOGIN = 1862 "HY000";
    /// MariaDB: the connection is killed, as it says on its way out to whoever was running a statement.
    ER_CONNECTION_KILLED = 1927 "70100";
    /// MariaDB: unknown role.
    ER_INVALID_ROLE = 1959 "OP000";
    /// The statement took too long.
    ER_QUERY_TIMEOUT = 3024 "HY000";
    /// The account is locked.
    ER_ACCOUNT_HAS_BEEN_LOCKED = 3118 "HY000";
    /// TLS is required.
    ER_SECURE_TRANSPORT_REQUIRED = 3159 "HY000";
    /// Disconnected because it was idle.
    ER_CLIENT_INTERACTION_TIMEOUT = 4031 "HY000";
    /// MariaDB: unknown sequence.
    ER_UNKNOWN_SEQUENCES = 4091 "42S02";
    /// MariaDB: the account is locked. (Its manual has the name of 3118, too.)
    ER_MARIADB_ACCOUNT_HAS_BEEN_LOCKED = 4151 "HY000";
}

impl Errno {
    /// [`Errno::sqlstate`], as a packet has it.
    pub fn sqlstate_bytes(self) -> [u8; 5] {
        self.sqlstate().as_bytes().first_chunk().copied().unwrap_or(*b"HY000")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_order_and_well_formed() {
        for pair in ALL.windows(2) {
            assert!(pair[0].0 < pair[1].0, "{} before {}", pair[0].0, pair[1].0);
        }
        for error in ALL {
            let state = error.sqlstate();
            assert!(state.len() == 5 && state.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()), "{}", error.0);
            assert_eq!(error.sqlstate_bytes(), state.as_bytes());
        }
        assert_eq!(Errno(65535).sqlstate_bytes(), *b"HY000");
    }
}
