//! Why a session must stay on its server connection.
//!
//! A pin begins with the statement that causes it and ends with its cause. A session without pins holds no connection
//! between statements.

use std::fmt;

/// One cause.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum PinReason {
    /// A transaction is open (the server's status flag says so).
    Transaction,
    /// Temporary tables exist.
    TemporaryTable,
    /// `LOCK TABLES`, `FLUSH TABLES WITH READ LOCK`.
    LockTables,
    /// `GET_LOCK`.
    NamedLock,
    /// A user variable got a value that Sluice does not know.
    UserVariable,
    /// A system variable got a value that Sluice does not know or cannot bring to another connection.
    SessionVariable,
    /// `SET gtid_next`, until it is `AUTOMATIC` again.
    GtidNext,
    /// A cursor is open (`COM_STMT_EXECUTE` with a cursor flag).
    Cursor,
    /// `COM_STMT_SEND_LONG_DATA` has sent part of a statement's parameters.
    LongData,
    /// `PREPARE name FROM ...`.
    TextPrepared,
    /// `HANDLER t OPEN`.
    Handler,
    /// An XA transaction.
    Xa,
    /// `SQL_CALC_FOUND_ROWS`, until the next statement has run.
    FoundRows,
    /// `SET TRANSACTION`, until the transaction it is meant for has ended.
    SetTransaction,
    /// `SET ROLE` in a form that cannot be repeated on another connection.
    Role,
    /// `FLUSH STATUS`, `SET profiling = 1`, `SET optimizer_trace = 'enabled=on'`: what `SHOW STATUS`, `SHOW PROFILES` and the table
    /// `optimizer_trace` will tell is the connection's, to the session's end.
    SessionStatus,
    /// `NEXTVAL(s)`, where clients of this proxy ask for `LASTVAL(s)`: the connection alone knows it, to the session's end.
    Sequence,
    /// The login cannot be repeated on another connection: its plugin let nothing be learned, or the password has changed since.
    Login,
    /// The statement could not be understood and may have left anything behind.
    Unknown,
}

/// All causes, in the order in which they are told.
pub const ALL: [PinReason; 19] = [
    PinReason::Transaction,
    PinReason::TemporaryTable,
    PinReason::LockTables,
    PinReason::NamedLock,
    PinReason::UserVariable,
    PinReason::SessionVariable,
    PinReason::GtidNext,
    PinReason::Cursor,
    PinReason::LongData,
    PinReason::TextPrepared,
    PinReason::Handler,
    PinReason::Xa,
    PinReason::FoundRows,
    PinReason::SetTransaction,
    PinReason::Role,
    PinReason::SessionStatus,
    PinReason::Sequence,
    PinReason::Login,
    PinReason::Unknown,
];

impl PinReason {
    /// The word in `SHOW CLIENTS`, `EXPLAIN ROUTE` and the label of `sluice_pinned_sessions`.
    pub fn as_str(self) -> &'static str {
        match self {
            PinReason::Transaction => "transaction",
            PinReason::TemporaryTable => "temporary_table",
            PinReason::LockTables => "lock_tables",
            PinReason::NamedLock => "named_lock",
            PinReason::UserVariable => "user_variable",
            PinReason::SessionVariable => "session_variable",
            PinReason::GtidNext => "gtid_next",
            PinReason::Cursor => "cursor",
            PinReason::LongData => "long_data",
            PinReason::TextPrepared => "text_prepared",
            PinReason::Handler => "handler",
            PinReason::Xa => "xa",
            PinReason::FoundRows => "found_rows",
            PinReason::SetTransaction => "set_transaction",
            PinReason::Role => "role",
            PinReason::SessionStatus => "session_status",
            PinReason::Sequence => "sequence",
            PinReason::Login => "login",
            PinReason::Unknown => "unknown",
        }
    }

    fn bit(self) -> u32 {
        1 << (self as u8)
    }
}

/// The causes that hold now.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Pins(u32);

impl Pins {
    /// Begins or ends a cause.
    pub fn set(&mut self, reason: PinReason, on: bool) {
        if on {
            self.0 |= reason.bit();
        } else {
            self.0 &= !reason.bit();
        }
    }

    /// Whether this cause holds.
    pub fn has(self, reason: PinReason) -> bool {
        self.0 & reason.bit() != 0
    }

    /// Whether a server cannot be made read-only without harm before it ends: a transaction, a table lock.
    pub fn holds_up(self) -> bool {
        [PinReason::Transaction, PinReason::LockTables, PinReason::Xa].into_iter().any(|reason| self.has(reason))
    }

    /// Whether any cause holds.
    pub fn any(self) -> bool {
        self.0 != 0
    }

    /// Whether this cause holds and no other.
    pub fn only(self, reason: PinReason) -> bool {
        self.0 == reason.bit()
    }

    /// The cause told first.
    pub fn first(self) -> Option<PinReason> {
        ALL.into_iter().find(|reason| self.has(*reason))
    }

    /// Whether a cause holds that would be lost with the connection: an open transaction ends with an error that says so, but
    /// a session that lost its temporary tables or locks would go on with wrong answers.
    pub fn beyond_transaction(self) -> bool {
        self.0 & !(PinReason::Transaction.bit() | PinReason::FoundRows.bit() | PinReason::SetTransaction.bit()) != 0
    }
}

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(ALL.iter().filter(|r| self.has(**r)).map(|r| r.as_str())).finish()
    }
}
