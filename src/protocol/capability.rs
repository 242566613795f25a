//! Capability flags: what client and server agreed on when they shook hands.
//!
//! The lower 32 bits are those of the MySQL manual ("Capabilities Flags"); the upper 32 bits are MariaDB's extended
//! capabilities, which its greeting carries in four bytes that MySQL leaves zero and which are only meant when
//! `CLIENT_LONG_PASSWORD` (called `CLIENT_MYSQL` there) is *not* set in the server's greeting.

use std::fmt;
use std::ops::{BitAnd, BitOr, Sub};

/// A set of capability flags, MySQL's in bits 0 to 31, MariaDB's extended ones in bits 32 to 63.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Capabilities(pub u64);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:expr;)*) => {
        impl Capabilities {
            $($(#[$doc])* pub const $name: Capabilities = Capabilities(1 << $bit);)*
        }
        const NAMES: &[(u64, &str)] = &[$((1 << $bit, stringify!($name))),*];
    };
}

flags! {
    /// `CLIENT_LONG_PASSWORD` (MySQL), `CLIENT_MYSQL` (MariaDB): unset by a MariaDB server that speaks its extended capabilities.
    LONG_PASSWORD = 0;
    /// `CLIENT_FOUND_ROWS`: affected rows count the rows found, not those changed.
    FOUND_ROWS = 1;
    /// `CLIENT_LONG_FLAG`.
    LONG_FLAG = 2;
    /// `CLIENT_CONNECT_WITH_DB`: the handshake response names a schema.
    CONNECT_WITH_DB = 3;
    /// `CLIENT_NO_SCHEMA`: `schema.table.column` is refused.
    NO_SCHEMA = 4;
    /// `CLIENT_COMPRESS`: zlib compressed packets.
    COMPRESS = 5;
    /// `CLIENT_ODBC`.
    ODBC = 6;
    /// `CLIENT_LOCAL_FILES`: `LOAD DATA LOCAL INFILE` is allowed.
    LOCAL_FILES = 7;
    /// `CLIENT_IGNORE_SPACE`: a space may stand between a function's name and its parenthesis.
    IGNORE_SPACE = 8;
    /// `CLIENT_PROTOCOL_41`: without it nothing here works; such clients are refused.
    PROTOCOL_41 = 9;
    /// `CLIENT_INTERACTIVE`: `interactive_timeout` instead of `wait_timeout`.
    INTERACTIVE = 10;
    /// `CLIENT_SSL`: the client continues in TLS.
    SSL = 11;
    /// `CLIENT_IGNORE_SIGPIPE`.
    IGNORE_SIGPIPE = 12;
    /// `CLIENT_TRANSACTIONS`: OK packets carry status flags.
    TRANSACTIONS = 13;
    /// `CLIENT_RESERVED`.
    RESERVED = 14;
    /// `CLIENT_SECURE_CONNECTION` (`RESERVED2`): 20-byte challenges.
    SECURE_CONNECTION = 15;
    /// `CLIENT_MULTI_STATEMENTS`.
    MULTI_STATEMENTS = 16;
    /// `CLIENT_MULTI_RESULTS`.
    MULTI_RESULTS = 17;
    /// `CLIENT_PS_MULTI_RESULTS`.
    PS_MULTI_RESULTS = 18;
    /// `CLIENT_PLUGIN_AUTH`.
    PLUGIN_AUTH = 19;
    /// `CLIENT_CONNECT_ATTRS`.
    CONNECT_ATTRS = 20;
    /// `CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA`.
    PLUGIN_AUTH_LENENC = 21;
    /// `CLIENT_CAN_HANDLE_EXPIRED_PASSWORDS`.
    CAN_HANDLE_EXPIRED_PASSWORDS = 22;
    /// `CLIENT_SESSION_TRACK`: OK packets carry changes of the session's state.
    SESSION_TRACK = 23;
    /// `CLIENT_DEPRECATE_EOF`: result sets end with an OK packet that begins with 0xFE, and no EOF packet follows the columns.
    DEPRECATE_EOF = 24;
    /// `CLIENT_OPTIONAL_RESULTSET_METADATA`.
    OPTIONAL_RESULTSET_METADATA = 25;
    /// `CLIENT_ZSTD_COMPRESSION_ALGORITHM`.
    ZSTD_COMPRESSION = 26;
    /// `CLIENT_QUERY_ATTRIBUTES`.
    QUERY_ATTRIBUTES = 27;
    /// `MULTI_FACTOR_AUTHENTICATION`.
    MULTI_FACTOR_AUTHENTICATION = 28;
    /// `CLIENT_CAPABILITY_EXTENSION`.
    CAPABILITY_EXTENSION = 29;
    /// `CLIENT_SSL_VERIFY_SERVER_CERT`.
    SSL_VERIFY_SERVER_CERT = 30;
    /// `CLIENT_REMEMBER_OPTIONS`.
    REMEMBER_OPTIONS = 31;
    /// `MARIADB_CLIENT_PROGRESS`: progress reports in ERR packets with code 0xFFFF.
    MARIADB_PROGRESS = 32;
    /// `MARIADB_CLIENT_COM_MULTI` (withdrawn).
    MARIADB_COM_MULTI = 33;
    /// `MARIADB_CLIENT_STMT_BULK_OPERATIONS`: COM_STMT_BULK_EXECUTE.
    MARIADB_STMT_BULK_OPERATIONS = 34;
    /// `MARIADB_CLIENT_EXTENDED_METADATA`: column definitions carry a type's name and format.
    MARIADB_EXTENDED_METADATA = 35;
    /// `MARIADB_CLIENT_CACHE_METADATA`: column definitions are left out when they have not changed; the column count is followed by a byte that tells.
    MARIADB_CACHE_METADATA = 36;
    /// `MARIADB_CLIENT_BULK_UNIT_RESULTS`.
    MARIADB_BULK_UNIT_RESULTS = 37;
}

impl Capabilities {
    /// No flag at all.
    pub const NONE: Capabilities = Capabilities(0);

    /// Whether every flag of `other` is set.
    pub const fn has(self, other: Capabilities) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together; `|` in constant expressions.
    pub const fn with(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 | other.0)
    }

    /// This set without `other`; `-` in constant expressions.
    pub const fn without(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 & !other.0)
    }

    /// MySQL's 32 bits, as they stand in handshake packets.
    pub const fn mysql_bits(self) -> u32 {
        self.0 as u32
    }

    /// MariaDB's extended 32 bits.
    pub const fn mariadb_bits(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl BitOr for Capabilities {
    type Output = Capabilities;
    fn bitor(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 | other.0)
    }
}

impl BitAnd for Capabilities {
    type Output = Capabilities;
    fn bitand(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 & other.0)
    }
}

impl Sub for Capabilities {
    type Output = Capabilities;
    fn sub(self, other: Capabilities) -> Capabilities {
        self.without(other)
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = NAMES.iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, name)| *name).collect();
        write!(f, "{}", names.join("|"))
    }
}
