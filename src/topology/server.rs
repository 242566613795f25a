//! What a server is to us: its number, flavour, role and state.

use std::fmt;

/// The place of a server in the configuration file's list, and its index in every snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ServerId(pub u16);

impl ServerId {
    /// The index in a snapshot's list of servers.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What a server is now, judged from what the servers say (never from the file alone).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// The one server that takes writes.
    Master,
    /// A master peer that does not take writes; it serves reads as a replica does.
    Standby,
    /// A server that is no master peer.
    Replica,
}

impl Role {
    /// The word in `SHOW SERVERS`, logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Master => "master",
            Role::Standby => "standby",
            Role::Replica => "replica",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a server may be used, and if not, in which way it may not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// In rotation.
    Online,
    /// Heartbeats are missing, not yet for long enough to call it down; no new statement goes there.
    Suspect,
    /// Replication is too far behind, or stopped; serves no reads.
    Lagging,
    /// An operator asked it to finish what it does and take nothing new.
    Draining,
    /// An operator took it out.
    Offline,
    /// It does not answer.
    Down,
    /// It carries transactions that the current master does not have.
    Quarantined,
}

impl State {
    /// All of them.
    pub const ALL: [State; 7] =
        [State::Online, State::Suspect, State::Lagging, State::Draining, State::Offline, State::Down, State::Quarantined];

    /// The word in `SHOW SERVERS`, logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Online => "online",
            State::Suspect => "suspect",
            State::Lagging => "lagging",
            State::Draining => "draining",
            State::Offline => "offline",
            State::Down => "down",
            State::Quarantined => "quarantined",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
