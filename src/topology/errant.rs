//! Transactions that a server has and the master never saw: what a dead master took with it, or what somebody wrote on a replica.

use std::fmt;
use std::time::{Duration, Instant};

use super::gtid::{MariaDbState, MySqlSet};
use super::{Facts, Flavor, GtidSet};

/// What a server has beyond the master.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Errant {
    /// All of it, as GTIDs.
    pub all: String,
    /// The part that this server did not write itself, so that it came from a former master. Empty for none.
    pub foreign: String,
    flavor: Flavor,
}

/// Compares a server with the master. `master` has to have been asked after `server` answered, else what is on its way looks errant. `None` when
/// there is nothing, or nothing can be said (no GTIDs, two flavours).
pub fn errant(server: &Facts, master: &Facts) -> Option<Errant> {
    let (all, foreign) = match (server.flavor, master.flavor) {
        (Flavor::MySql, Flavor::MySql) => {
            let (GtidSet::MySql(has), GtidSet::MySql(known)) = (server.gtid_executed.as_deref()?, master.gtid_executed.as_deref()?)
            else {
                return None;
            };
            let beyond = has.subtract(known);
            let foreign =
                super::gtid::parse_uuid(&server.server_uuid).map_or_else(|_| MySqlSet::default(), |own| beyond.without(&own));
            (beyond.to_string(), foreign.to_string())
        }
        (Flavor::MariaDb, Flavor::MariaDb) => {
            let (has, known) = (state(server)?, state(master)?);
            (has.missing_from(&known, None), has.missing_from(&known, Some(server.server_id)))
        }
        _ => return None,
    };
    (!all.is_empty()).then_some(Errant { all, foreign, flavor: server.flavor })
}

/// Whether a server was master after a writable one: more servers follow it, and it has what that one lacks and did not write itself. So it is
/// when all servers start anew after a failover: the first master comes up writable, as its file says, and the one that took over does not.
/// Each with the number of servers that replicate from it. `alike` are two peers or two replicas: of those that are writable, the election decides.
/// A replica that was promoted may be writable beside a peer that has come back so.
pub fn outranks((other, its_followers): (&Facts, usize), (writable, followers): (&Facts, usize), alike: bool) -> bool {
    !(alike && other.writable()) && its_followers > followers && has_more(other, writable)
}

/// Whether a server has what another one lacks and did not write itself. What that one wrote itself and lacks is on its way: it was asked a moment before.
pub fn has_more(other: &Facts, writable: &Facts) -> bool {
    match (other.gtid_executed.as_deref(), writable.gtid_executed.as_deref()) {
        (Some(GtidSet::MySql(has)), Some(GtidSet::MySql(known))) => {
            let beyond = has.subtract(known);
            !super::gtid::parse_uuid(&writable.server_uuid).map_or(beyond.clone(), |own| beyond.without(&own)).is_empty()
        }
        (Some(GtidSet::MariaDb(_)), Some(GtidSet::MariaDb(_))) => match (state(other), state(writable)) {
            (Some(has), Some(known)) => !has.missing_from(&known, Some(writable.server_id)).is_empty(),
            _ => false,
        },
        _ => false,
    }
}

/// What a server has of the master's own transactions and the master does not show yet; `None` when there is no such thing, when there is something else too,
/// or when some of what was found so before (`before`) has not come within its `patience`: then it is errant, for the master has lost it. With the time
/// since when it is waited for.
///
/// MySQL sends a transaction to replicas when it is in the binary log, and shows it in its own `gtid_executed` a little later, with its group of commits: a replica
/// that is asked first may show more than the master that is asked behind it. Where commits wait for a replica's acknowledgement (`AFTER_SYNC`) that
/// lasts until it has come or is given up.
pub fn on_its_way(
    server: &Facts,
    master: &Facts,
    before: Option<&(GtidSet, Instant)>,
    now: Instant,
    patience: Duration,
) -> Option<(GtidSet, Instant)> {
    let (Some(GtidSet::MySql(has)), Some(GtidSet::MySql(known))) =
        (server.gtid_executed.as_deref(), master.gtid_executed.as_deref())
    else {
        return None;
    };
    let beyond = has.subtract(known);
    let own = super::gtid::parse_uuid(&master.server_uuid).ok()?;
    if beyond.is_empty() || !beyond.without(&own).is_empty() {
        return None;
    }
    let waits = before.filter(|(set, _)| matches!(set, GtidSet::MySql(before) if !before.subtract(known).is_empty()));
    match waits {
        None => Some((GtidSet::MySql(beyond), now)),
        Some(waits) => (now.saturating_duration_since(waits.1) < patience).then(|| waits.clone()),
    }
}

/// Whether a server has some of `had` that the master lacks (MySQL).
pub fn lacks_of(server: &Facts, master: &Facts, had: &GtidSet) -> bool {
    match (server.gtid_executed.as_deref(), master.gtid_executed.as_deref(), had) {
        (Some(GtidSet::MySql(has)), Some(GtidSet::MySql(known)), GtidSet::MySql(had)) => {
            let beyond = has.subtract(known);
            beyond.subtract(had) != beyond
        }
        _ => false,
    }
}

/// The binary log's state with what a server without `log_slave_updates` has only applied.
fn state(facts: &Facts) -> Option<MariaDbState> {
    let mut state = MariaDbState::clone(facts.gtid_state.as_deref()?);
    if let Some(GtidSet::MariaDb(position)) = facts.gtid_executed.as_deref() {
        state.add_position(position);
    }
    Some(state)
}

impl Errant {
    /// How an operator sees what they did.
    pub fn how_to_look(&self) -> String {
        match self.flavor {
            Flavor::MySql => {
                format!("mysqlbinlog --include-gtids='{}' over its binary logs shows them", self.all.replace('\n', ""))
            }
            Flavor::MariaDb => {
                "mariadb-binlog --start-position=GTID --stop-position=GTID over its binary logs shows them".to_owned()
            }
        }
    }
}

impl fmt::Display for Errant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.all)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn facts(flavor: Flavor, number: u32, set: &str) -> Facts {
        Facts {
            server_uuid: format!("0000000{number}-0000-0000-0000-000000000000"),
            server_id: number,
            read_only: true,
            gtid_executed: match flavor {
                Flavor::MySql => GtidSet::parse(flavor, set).ok().map(Arc::new),
                Flavor::MariaDb => Some(Arc::new(GtidSet::empty(flavor))),
            },
            gtid_state: MariaDbState::parse(set).ok().map(Arc::new).filter(|_| flavor == Flavor::MariaDb),
            ..Facts::bare(flavor)
        }
    }

    #[test]
    fn what_the_master_never_saw() {
        for (server, master, all, foreign) in [
            ("0-1-100,0-2-50", "0-1-100,0-2-120", "", ""),
            ("", "0-1-100", "", ""),
            // Both went on from 100: by their positions alone the master is ahead.
            ("0-1-105", "0-1-100,0-2-120", "0-1-101..105", ""),
            ("0-2-101,0-1-100", "0-1-100,0-3-120", "0-2-101", "0-2-101"),
            // Restored from a backup: it knows nothing older than its log.
            ("0-1-80,0-2-90", "0-2-90,0-2-120", "", ""),
            ("0-1-5,1-1-7", "0-1-5", "1-1-7", ""),
        ] {
            let found = errant(&facts(Flavor::MariaDb, 1, server), &facts(Flavor::MariaDb, 2, master));
            let told = found.map_or_else(|| (String::new(), String::new()), |e| (e.all, e.foreign));
            assert_eq!(told, (all.to_owned(), foreign.to_owned()), "{server} against {master}");
        }
        let (one, two) = ("00000001-0000-0000-0000-000000000000", "00000002-0000-0000-0000-000000000000");
        let found = errant(
            &facts(Flavor::MySql, 1, &format!("{one}:1-9,{two}:1-4")),
            &facts(Flavor::MySql, 2, &format!("{one}:1-7,{two}:1-3")),
        );
        let found = found.unwrap();
        assert_eq!((found.all, found.foreign), (format!("{one}:8-9,{two}:4"), format!("{two}:4")));
    }

    /// Harm: a replica of a busy master was quarantined for what was still on its way to the end of its commit there.
    #[test]
    fn what_the_master_has_just_sent_is_not_errant_before_it_stays_so() {
        let (one, two) = ("00000001-0000-0000-0000-000000000000", "00000002-0000-0000-0000-000000000000");
        let master = |set: &str| facts(Flavor::MySql, 2, set);
        let server = |set: &str| facts(Flavor::MySql, 1, set);
        let (now, short) = (Instant::now(), Duration::ZERO);
        let later = now + Duration::from_millis(500);
        let way = |has: &str, known: &str, before: Option<&(GtidSet, Instant)>, at, patience| {
            on_its_way(&server(has), &master(known), before, at, patience)
        };
        let first = way(&format!("{two}:1-9"), &format!("{two}:1-7"), None, now, short);
        assert_eq!(first.as_ref().map(|(set, _)| set.to_string()), Some(format!("{two}:8-9")));
        let next = way(&format!("{two}:1-14"), &format!("{two}:1-12"), first.as_ref(), later, short);
        assert_eq!(next.map(|(set, since)| (set.to_string(), since)), Some((format!("{two}:13-14"), later)), "8 and 9 are there");
        assert_eq!(way(&format!("{two}:1-9"), &format!("{two}:1-8"), first.as_ref(), later, short), None, "9 is lost");
        // Of what others had while it was away it may have lost something.
        let set = |text: &str| GtidSet::MySql(MySqlSet::parse(text).unwrap());
        for (had, lost) in [("1-8", true), ("1-7", false), ("8-20", true), ("10-20", false)] {
            let found = lacks_of(&server(&format!("{two}:1-9")), &master(&format!("{two}:1-7")), &set(&format!("{two}:{had}")));
            assert_eq!(found, lost, "{had}");
        }
        // Semi-synchronous: the master waits for an acknowledgement.
        let long = Duration::from_secs(30);
        assert_eq!(way(&format!("{two}:1-14"), &format!("{two}:1-8"), first.as_ref(), later, long), first, "9 is waited for");
        assert_eq!(way(&format!("{two}:1-14"), &format!("{two}:1-8"), first.as_ref(), now + long, long), None, "9 is lost");
        assert_eq!(way(&format!("{one}:1,{two}:1-9"), &format!("{two}:1-8"), None, now, long), None, "its own is errant");
        assert_eq!(way(&format!("{two}:1-7"), &format!("{two}:1-7"), None, now, long), None);
    }
}
