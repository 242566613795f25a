//! What diagnosis is told by the configuration: this room's own settings, already resolved.

use std::sync::Arc;
use std::time::Duration;

use super::ServerId;

/// What the file calls a server. It says who may become master, never who is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfiguredRole {
    /// One of the master-master peers.
    Master,
    /// A replica; it never takes writes, writable or not.
    Replica,
    /// It has left the file. Nobody asks it or uses it; only its number is still its own.
    Retired,
}

/// A `[[server]]` of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfiguredServer {
    /// Unique name.
    pub name: Arc<str>,
    /// `host:port` or `unix:/path`, as the file writes it.
    pub address: Arc<str>,
    /// Peer or replica.
    pub role: ConfiguredRole,
    /// Where it stands; empty for nowhere in particular.
    pub zone: Arc<str>,
    /// Its share of the reads.
    pub weight: u32,
    /// The most connections Sluice opens to it.
    pub max_connections: u32,
}

/// `[monitor]` and the list of servers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// How often every server is asked, and the master's heartbeat row written.
    pub heartbeat_interval: Duration,
    /// Silence that makes a server suspect.
    pub heartbeat_timeout: Duration,
    /// A replica further behind serves no reads.
    pub max_lag: Duration,
    /// A replica may become master when no peer is left.
    pub promote_replicas: bool,
    /// The servers; the index is the [`ServerId`].
    pub servers: Vec<ConfiguredServer>,
}

impl Settings {
    /// Silence after which a server is [`super::State::Suspect`]: `heartbeat_timeout`, but never less than two intervals, so that one late answer
    /// suspects nobody.
    pub fn suspect_after(&self) -> Duration {
        self.heartbeat_timeout.max(self.heartbeat_interval * 2)
    }

    /// A heartbeat that has not been written for so long says that the master writes nothing: two thirds of [`Settings::suspect_after`], for the second
    /// opinion takes the last third.
    pub fn blocked_after(&self) -> Duration {
        self.suspect_after() * 2 / 3
    }

    /// Silence after which a suspect is [`super::State::Down`]: half as long again. A refused or reset connection does not wait for it.
    pub fn down_after(&self) -> Duration {
        self.suspect_after() + (self.suspect_after() / 2).max(self.heartbeat_interval)
    }

    /// The servers with their ids.
    pub fn ids(&self) -> impl Iterator<Item = (ServerId, &ConfiguredServer)> + Clone {
        (0..=u16::MAX).map(ServerId).zip(&self.servers)
    }

    /// Whether a server has left the file.
    pub fn is_retired(&self, id: ServerId) -> bool {
        self.server(id).is_none_or(|server| server.role == ConfiguredRole::Retired)
    }

    /// One server.
    pub fn server(&self, id: ServerId) -> Option<&ConfiguredServer> {
        self.servers.get(id.index())
    }
}
