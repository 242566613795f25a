//! The names of what can be wrong, as an operator would say them, and the changes diagnosis reports.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Role, ServerId, State};

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Diagnosis {
    /// The servers have not all been asked yet.
    Starting,
    /// No server of the file has `role = "master"`.
    NoPeerConfigured,
    /// The master's process is gone: connections are refused or reset.
    MasterCrashed,
    /// The master says nothing: frozen, or cut off from here.
    MasterSilent,
    /// The master was made read-only, and no other peer is writable.
    MasterReadOnly,
    /// An operator drained the master or took it offline, and no other peer is writable.
    MasterTakenOut,
    /// Every peer that answers is read-only.
    NoWritablePeer,
    /// No server answers at all: more likely our network than all of them.
    AllServersUnreachable,
    /// More than one peer is writable; only one is used.
    TwoWritablePeers,
    /// A server does not replicate as it should.
    ReplicationBroken,
    /// The master answers questions, but the heartbeat's write does not come back: full disk, `FLUSH TABLES WITH READ LOCK`, semi-sync waiting.
    MasterWritesBlocked,
    /// Another process writes our heartbeat row: two Sluices of one name. Lag falls back to what the servers say.
    HeartbeatShared,
    /// The monitor's account is refused.
    AccountRefused,
    /// A server has transactions that the master never saw.
    ErrantTransactions,
    /// A server that may become master does not write what it replicates to its binary log: it could not send that on.
    UpdatesNotLogged,
    /// The master is being replaced: a failover or a switchover is under way.
    Replacing,
}

impl Diagnosis {
    /// The word in events, logs and error messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Diagnosis::Starting => "starting",
            Diagnosis::NoPeerConfigured => "no_peer_configured",
            Diagnosis::MasterCrashed => "master_crashed",
            Diagnosis::MasterSilent => "master_silent",
            Diagnosis::MasterReadOnly => "master_read_only",
            Diagnosis::MasterTakenOut => "master_taken_out",
            Diagnosis::NoWritablePeer => "no_writable_peer",
            Diagnosis::AllServersUnreachable => "all_servers_unreachable",
            Diagnosis::TwoWritablePeers => "two_writable_peers",
            Diagnosis::ReplicationBroken => "replication_broken",
            Diagnosis::MasterWritesBlocked => "master_writes_blocked",
            Diagnosis::HeartbeatShared => "heartbeat_shared",
            Diagnosis::AccountRefused => "account_refused",
            Diagnosis::ErrantTransactions => "errant_transactions",
            Diagnosis::UpdatesNotLogged => "updates_not_logged",
            Diagnosis::Replacing => "replacing",
        }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something wrong that lasts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// What.
    pub diagnosis: Diagnosis,
    /// At which server.
    pub server: ServerId,
    /// Since when.
    pub since: SystemTime,
    /// In words.
    pub detail: Arc<str>,
}

/// What is new in a snapshot. Every change carries its reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// To whom; `None` for the topology as a whole.
    pub server: Option<ServerId>,
    /// Why, in words; never empty.
    pub detail: String,
}

/// The kinds of change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeKind {
    /// A server's state.
    State {
        /// Before.
        from: State,
        /// Now.
        to: State,
    },
    /// A server's role.
    Role {
        /// Before.
        from: Role,
        /// Now.
        to: Role,
    },
    /// This server takes the writes from now on.
    MasterElected,
    /// No server takes writes.
    NoMaster(Diagnosis),
    /// Something wrong has begun.
    Began(Diagnosis),
    /// It has ended.
    Ended(Diagnosis),
}

impl ChangeKind {
    /// The `kind` in `SHOW EVENTS`.
    pub fn as_str(self) -> &'static str {
        match self {
            ChangeKind::State { to, .. } => to.as_str(),
            ChangeKind::Role { .. } => "role",
            ChangeKind::MasterElected => "master",
            ChangeKind::NoMaster(_) => "no_master",
            ChangeKind::Began(diagnosis) => diagnosis.as_str(),
            ChangeKind::Ended(_) => "resolved",
        }
    }
}
