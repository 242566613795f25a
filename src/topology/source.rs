//! From whom a replication channel replicates: which of our servers is it?

use super::gtid::MariaDbPosition;
use super::observation::ReplicaChannel;
use super::snapshot::Snapshot;
use super::{ConfiguredRole, Facts, GtidSet, ServerId};

/// One of the servers a channel may come from: its number, its address in the file, and what it said of itself.
pub type Known<'a> = (ServerId, &'a str, Option<&'a Facts>);

/// The server a channel replicates from, by UUID, by address, by server id; `None` when it is none of ours.
pub fn source_among<'a>(servers: impl Iterator<Item = Known<'a>> + Clone, channel: &ReplicaChannel) -> Option<ServerId> {
    let facts_where = |right: &dyn Fn(&Facts) -> bool| {
        let mut same = servers.clone().filter(|(_, _, facts)| facts.is_some_and(right)).map(|(id, _, _)| id);
        // Two servers of one number are a mistake that must not make us guess.
        match (same.next(), same.next()) {
            (Some(one), None) => Some(one),
            _ => None,
        }
    };
    let by_uuid = if channel.source_uuid.is_empty() { None } else { facts_where(&|f| f.server_uuid == channel.source_uuid) };
    let by_address = || {
        let address = format!("{}:{}", channel.source_host, channel.source_port);
        servers.clone().find(|(_, known, _)| *known == address).map(|(id, _, _)| id)
    };
    let by_number = || if channel.source_server_id == 0 { None } else { facts_where(&|f| f.server_id == channel.source_server_id) };
    by_uuid.or_else(by_address).or_else(by_number)
}

impl Snapshot {
    /// The server a channel replicates from; `None` when it is none of ours.
    pub fn source_of(&self, channel: &ReplicaChannel) -> Option<ServerId> {
        source_among(self.servers.iter().map(|view| (view.id, &*view.address, view.facts.as_deref())), channel)
    }

    /// Whether there is a server of the file that nobody has heard of yet: a channel whose source is not known may come from it.
    pub fn has_strangers(&self) -> bool {
        self.servers.iter().any(|view| view.configured_role != ConfiguredRole::Retired && view.facts.is_none())
    }

    /// Its channels from servers of the file, or all of them where none is known to be one: what comes from elsewhere is no part of a master's history.
    pub fn own_channels<'a>(&self, facts: &'a Facts) -> impl Iterator<Item = &'a ReplicaChannel> {
        let none = !facts.replication.iter().any(|channel| self.source_of(channel).is_some());
        facts.replication.iter().filter(move |channel| none || self.source_of(channel).is_some())
    }

    /// What of a set others may ever have from these senders. MariaDB's `gtid_slave_pos` keeps domains that came from elsewhere once: what stands in no
    /// sender's binary log, and none of the file's servers wrote, nobody can follow.
    pub fn followable<'a>(&self, senders: impl Iterator<Item = &'a Facts> + Clone, set: GtidSet) -> GtidSet {
        let GtidSet::MariaDb(position) = &set else { return set };
        let sends = |domain: u32| {
            senders.clone().any(|sender| match sender.gtid_binlog.as_deref() {
                Some(GtidSet::MariaDb(binlog)) => binlog.domain(domain).is_some(),
                _ => true,
            })
        };
        let wrote = |server: u32| self.servers.iter().any(|view| view.facts.as_ref().is_some_and(|f| f.server_id == server));
        let mut left = MariaDbPosition::default();
        let domains = position.domains().iter().filter(|gtid| sends(gtid.domain) || wrote(gtid.server));
        domains.for_each(|gtid| left.add(*gtid));
        GtidSet::MariaDb(left)
    }

    /// What it has applied, or has from servers of the file in a relay log.
    pub fn received(&self, facts: &Facts) -> GtidSet {
        let mut received = facts.applied();
        self.own_channels(facts).filter_map(|channel| channel.retrieved.as_deref()).for_each(|set| received.merge(set));
        received
    }

    /// The channel by which `server` replicates from `from`, as of its last answer.
    pub fn channel(&self, server: ServerId, from: ServerId) -> Option<&ReplicaChannel> {
        let facts = self.server(server)?.facts.as_ref()?;
        facts.replication.iter().find(|channel| self.source_of(channel) == Some(from))
    }

    /// Where the servers reach that server, as they know it from their own channels; else its address in the file. `None` for a socket of this
    /// machine that nobody replicates from.
    pub fn address_for_servers(&self, server: ServerId) -> Option<(String, u16)> {
        let mut channels = self.servers.iter().filter_map(|view| view.facts.as_ref()).flat_map(|facts| &facts.replication);
        if let Some(channel) = channels.find(|channel| self.source_of(channel) == Some(server)) {
            return Some((channel.source_host.clone(), channel.source_port));
        }
        let (host, port) = self.server(server)?.address.rsplit_once(':')?;
        Some((host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?))
    }
}
