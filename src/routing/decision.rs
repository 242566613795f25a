//! The answer of the routing room, and the words for its reasons.

use std::fmt;

use crate::session::pin::PinReason;
use crate::topology::ServerId;

/// Where a statement goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// The current master. When [`Decision::server`] is empty there is none: the statement waits for one.
    Master,
    /// A server that serves reads.
    Replica,
    /// The server named by a hint, a rule or a pin.
    Server,
    /// Answered by Sluice itself.
    Proxy,
    /// Refused by a rule or by the account's settings.
    Deny,
}

impl Target {
    /// The label of `sluice_queries_total` and the column of `SHOW STATEMENTS` (where `Server` is followed by its name elsewhere).
    pub fn as_str(self) -> &'static str {
        match self {
            Target::Master => "master",
            Target::Replica => "replica",
            Target::Server => "server",
            Target::Proxy => "proxy",
            Target::Deny => "deny",
        }
    }
}

/// Why it goes there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The session is pinned to a server.
    Pinned(PinReason),
    /// A hint asked for it.
    Hint,
    /// A hint asked for a server that does not exist or does not serve reads, or for a replica on behalf of a statement that may not be read
    /// there; routed as if the hint were not there.
    HintUnusable,
    /// The rule with this number (from 1, as in `SHOW RULES`).
    Rule(usize),
    /// A read; replicas serve it.
    Read,
    /// A read whose rows must include the session's last write; this replica is known to have it.
    ReadYourWrites,
    /// A read after a write; the replica is asked to wait for it.
    ReadYourWritesWait,
    /// A read after a write that no replica is known to have.
    ReplicasBehind,
    /// A read, and no replica serves reads.
    NoReplica,
    /// A read, and `read_from_master = "always"` had the turn come to the master.
    ReadFromMaster,
    /// `read_from_master = "never"`, and no replica serves reads.
    NoReplicaAllowed,
    /// Called a read, but a read-only server has refused it: something that it uses writes.
    RefusedByReplica,
    /// The statement changes data, or may.
    Write,
    /// It locks rows.
    LockingRead,
    /// It changes a schema.
    Ddl,
    /// It begins or ends a transaction that may write.
    Transaction,
    /// `START TRANSACTION READ ONLY`.
    ReadOnlyTransaction,
    /// `autocommit = 0`: any statement begins a transaction.
    AutocommitOff,
    /// The session will stay on the connection, and may write there: a cursor, or long data that goes before its statement.
    Stays,
    /// It writes, and the session is pinned to a server that is not the master.
    PinnedElsewhere(PinReason),
    /// It concerns the session; any server can tell.
    Session,
    /// It reads what each server has of its own; the master's is what the session would see there.
    ServerState,
    /// It administers a server.
    Administrative,
    /// It was not understood, so it may be a write.
    Unknown,
    /// Sluice answers it itself.
    Answered,
    /// The account is `read_only` and the statement is not a read.
    ReadOnlyAccount,
    /// The account may not use this schema.
    SchemaNotAllowed,
}

impl Reason {
    /// One word for logs, metrics, columns and tests.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Pinned(_) => "pinned",
            Reason::Hint => "hint",
            Reason::HintUnusable => "hint_unusable",
            Reason::Rule(_) => "rule",
            Reason::Read => "read",
            Reason::ReadYourWrites => "read_your_writes",
            Reason::ReadYourWritesWait => "read_your_writes_wait",
            Reason::ReplicasBehind => "replicas_behind",
            Reason::NoReplica => "no_replica",
            Reason::ReadFromMaster => "read_from_master",
            Reason::NoReplicaAllowed => "no_replica_allowed",
            Reason::RefusedByReplica => "refused_by_replica",
            Reason::Write => "write",
            Reason::LockingRead => "locking_read",
            Reason::Ddl => "ddl",
            Reason::Transaction => "transaction",
            Reason::ReadOnlyTransaction => "read_only_transaction",
            Reason::AutocommitOff => "autocommit_off",
            Reason::Stays => "stays",
            Reason::PinnedElsewhere(_) => "pinned_elsewhere",
            Reason::Session => "session",
            Reason::ServerState => "server_state",
            Reason::Administrative => "administrative",
            Reason::Unknown => "unknown",
            Reason::Answered => "answered",
            Reason::ReadOnlyAccount => "read_only_account",
            Reason::SchemaNotAllowed => "schema_not_allowed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Pinned(pin) => write!(f, "pinned: {}", pin.as_str()),
            Reason::Rule(number) => write!(f, "rule {number}"),
            other => f.write_str(other.as_str()),
        }
    }
}

/// Where a statement goes, to which server, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    /// The kind of place.
    pub target: Target,
    /// The server; `None` with [`Target::Master`] means there is no master now, with [`Target::Replica`] that nobody serves reads.
    pub server: Option<ServerId>,
    /// Why.
    pub reason: Reason,
    /// The server must be asked to wait until it has the session's last write, before the statement runs.
    pub wait_for_write: bool,
    /// Whether another server may be tried when this one fails before its first byte.
    pub may_retry: bool,
}
