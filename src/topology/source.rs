//! From whom a replication channel replicates: which of our servers is it?

use super::gtid::MariaDbPosition;
use super::observation::ReplicaChannel;
use super::snapshot::Snapshot;
use super::{ConfiguredRole, Facts, GtidSet, ServerId};

/// One of the servers a channel may come from.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Its number.
    pub id: ServerId,
    /// What the file calls it.
    pub role: ConfiguredRole,
    /// Its address in the file.
    pub address: &'a str,
    /// What it said of itself; `None` when it has never answered.
    pub facts: Option<&'a Facts>,
}

/// The server a channel replicates from, by UUID, by address, by server id, else by elimination; `None` when it is none of ours.
pub fn source_among<'a>(servers: impl Iterator<Item = Known<'a>> + Clone, channel: &ReplicaChannel) -> Option<ServerId> {
    by_name(servers.clone(), channel).or_else(|| by_elimination(servers, channel))
}

fn by_name<'a>(servers: impl Iterator<Item = Known<'a>> + Clone, channel: &ReplicaChannel) -> Option<ServerId> {
    let facts_where = |right: &dyn Fn(&Facts) -> bool| {
        let mut same = servers.clone().filter(|one| one.facts.is_some_and(right)).map(|one| one.id);
        // Two servers of one number are a mistake that must not make us guess.
        match (same.next(), same.next()) {
            (Some(one), None) => Some(one),
            _ => None,
        }
    };
    let by_uuid = if channel.source_uuid.is_empty() { None } else { facts_where(&|f| f.server_uuid == channel.source_uuid) };
    let by_address = || {
        let address = format!("{}:{}", channel.source_host, channel.source_port);
        servers.clone().find(|one| one.address == address).map(|one| one.id)
    };
    let by_number = || if channel.source_server_id == 0 { None } else { facts_where(&|f| f.server_id == channel.source_server_id) };
    by_uuid.or_else(by_address).or_else(by_number)
}

/// A proxy that is started while the master is silent knows it by its address in the file alone, and the servers may know it by another. Where everybody
/// but one peer has answered, what all of them receive from one unknown source, and nothing from that peer by a name that is known, comes from it.
fn by_elimination<'a>(servers: impl Iterator<Item = Known<'a>> + Clone, channel: &ReplicaChannel) -> Option<ServerId> {
    let mut unheard = servers.clone().filter(|one| one.role != ConfiguredRole::Retired && one.facts.is_none());
    let silent = match (unheard.next(), unheard.next()) {
        (Some(one), None) if one.role == ConfiguredRole::Master => one.id,
        _ => return None,
    };
    let same = |other: &ReplicaChannel| {
        let named = !channel.source_uuid.is_empty() && !other.source_uuid.is_empty();
        let address = other.source_port == channel.source_port && other.source_host == channel.source_host;
        if named { other.source_uuid == channel.source_uuid } else { address }
    };
    let mut channels = servers.clone().filter_map(|one| one.facts).flat_map(|facts| &facts.replication);
    let alone = channels.all(|other| by_name(servers.clone(), other).map_or_else(|| same(other), |id| id != silent));
    alone.then_some(silent)
}

impl Snapshot {
    /// The server a channel replicates from; `None` when it is none of ours.
    pub fn source_of(&self, channel: &ReplicaChannel) -> Option<ServerId> {
        source_among(self.known(), channel)
    }

    /// The same, where a name tells, and not only that no other is left. A source outside of the file may look so, too.
    pub fn named_source_of(&self, channel: &ReplicaChannel) -> Option<ServerId> {
        by_name(self.known(), channel)
    }

    fn known(&self) -> impl Iterator<Item = Known<'_>> + Clone {
        self.servers.iter().map(|view| Known {
            id: view.id,
            role: view.configured_role,
            address: &view.address,
            facts: view.facts.as_deref(),
        })
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

#[cfg(test)]
mod tests {
    use super::super::{Flavor, ServerId};
    use super::*;

    const SILENT: ServerId = ServerId(0);

    fn facts(n: u16, from: &[(&str, u16, &str)]) -> Facts {
        let channel = |(host, number, uuid): &(&str, u16, &str)| ReplicaChannel {
            source_host: (*host).to_owned(),
            source_port: 3306,
            source_server_id: u32::from(*number),
            source_uuid: (*uuid).to_owned(),
            ..ReplicaChannel::default()
        };
        Facts {
            server_uuid: format!("u{n}"),
            server_id: u32::from(n),
            read_only: true,
            super_read_only: true,
            replication: from.iter().map(channel).collect(),
            ..Facts::bare(Flavor::MySql)
        }
    }

    #[test]
    fn one_that_has_never_answered_is_known_by_elimination() {
        use ConfiguredRole::{Master, Replica};
        // db1 (u1, server id 1) is silent; the file knows it as 10.0.0.1.
        let inside: (&str, u16, &str) = ("inside", 1, "u1");
        let elsewhere: (&str, u16, &str) = ("far", 9, "u9");
        let named: (&str, u16, &str) = ("10.0.0.1", 1, "u1");
        let db2: (&str, u16, &str) = ("10.0.0.2", 2, "u2");
        type Row<'a> = (&'a str, ConfiguredRole, [Option<&'a [(&'a str, u16, &'a str)]>; 2], Option<ServerId>);
        let rows: &[Row<'_>] = &[
            ("both follow it by another address", Master, [Some(&[inside]), Some(&[inside])], Some(SILENT)),
            ("one follows it, the other that one", Master, [Some(&[inside]), Some(&[db2])], Some(SILENT)),
            ("another has never answered, either", Master, [Some(&[inside]), None], None),
            ("it is a replica in the file", Replica, [Some(&[inside]), Some(&[inside])], None),
            ("there are two unknown sources", Master, [Some(&[inside]), Some(&[inside, elsewhere])], None),
            ("it is known by its address from another", Master, [Some(&[elsewhere]), Some(&[named])], None),
            ("MariaDB after a start: its number is not known", Master, [Some(&[("inside", 0, "")]), Some(&[inside])], Some(SILENT)),
        ];
        for (what, role, [second, third], is) in rows {
            let told = [second.map(|from| facts(2, from)), third.map(|from| facts(3, from))];
            let known = [
                Known { id: SILENT, role: *role, address: "10.0.0.1:3306", facts: None },
                Known { id: ServerId(1), role: Master, address: "10.0.0.2:3306", facts: told[0].as_ref() },
                Known { id: ServerId(2), role: Replica, address: "10.0.0.3:3306", facts: told[1].as_ref() },
            ];
            let channel = &told[0].as_ref().expect("db2 answers").replication[0];
            assert_eq!(source_among(known.into_iter(), channel), *is, "{what}");
        }
    }
}
