//! The status flags that OK and EOF packets carry.

use std::fmt;
use std::ops::{BitAnd, BitOr, Sub};

/// A set of `SERVER_STATUS_*` flags. Source: MySQL manual, "Status Flags".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Status(pub u16);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:expr;)*) => {
        impl Status {
            $($(#[$doc])* pub const $name: Status = Status(1 << $bit);)*
        }
        const NAMES: &[(u16, &str)] = &[$((1 << $bit, stringify!($name))),*];
    };
}

flags! {
    /// A transaction is open.
    IN_TRANS = 0;
    /// Autocommit is on.
    AUTOCOMMIT = 1;
    /// Another result follows this one.
    MORE_RESULTS = 3;
    /// No good index was used.
    NO_GOOD_INDEX_USED = 4;
    /// No index was used.
    NO_INDEX_USED = 5;
    /// A cursor was opened: the rows are to be fetched.
    CURSOR_EXISTS = 6;
    /// The cursor has no more rows.
    LAST_ROW_SENT = 7;
    /// A schema was dropped.
    DB_DROPPED = 8;
    /// `NO_BACKSLASH_ESCAPES` is in force: a backslash in a literal is a backslash.
    NO_BACKSLASH_ESCAPES = 9;
    /// A prepared statement was prepared again and its columns are others now.
    METADATA_CHANGED = 10;
    /// The statement was slow by the server's measure.
    QUERY_WAS_SLOW = 11;
    /// This result set holds OUT parameters.
    PS_OUT_PARAMS = 12;
    /// The open transaction is read-only.
    IN_TRANS_READONLY = 13;
    /// Session state information follows in the OK packet.
    SESSION_STATE_CHANGED = 14;
    /// MariaDB: `ANSI_QUOTES` is in force: double quotes enclose names.
    ANSI_QUOTES = 15;
}

impl Status {
    /// No flag at all.
    pub const NONE: Status = Status(0);

    /// The flags that tell of the session; the others tell of one statement.
    #[must_use]
    pub const fn of_session(self) -> Status {
        let session = Status::IN_TRANS.0
            | Status::AUTOCOMMIT.0
            | Status::NO_BACKSLASH_ESCAPES.0
            | Status::IN_TRANS_READONLY.0
            | Status::ANSI_QUOTES.0;
        Status(self.0 & session)
    }

    /// Whether every flag of `other` is set.
    pub const fn has(self, other: Status) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Status {
    type Output = Status;
    fn bitor(self, other: Status) -> Status {
        Status(self.0 | other.0)
    }
}

impl BitAnd for Status {
    type Output = Status;
    fn bitand(self, other: Status) -> Status {
        Status(self.0 & other.0)
    }
}

impl Sub for Status {
    type Output = Status;
    fn sub(self, other: Status) -> Status {
        Status(self.0 & !other.0)
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = NAMES.iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, name)| *name).collect();
        write!(f, "{}", names.join("|"))
    }
}
