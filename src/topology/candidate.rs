//! Who could take the place of a lost master, and who of them does.

use super::settings::ConfiguredRole;
use super::{GtidSet, ServerId};

/// A server that answers, as far as promotion is concerned.
#[derive(Clone, PartialEq, Debug)]
pub struct Candidate {
    /// Which.
    pub id: ServerId,
    /// Peers come before replicas.
    pub role: ConfiguredRole,
    /// What it has applied.
    pub applied: GtidSet,
    /// What it has applied or still has in its relay log.
    pub received: GtidSet,
    /// What others could fetch from it.
    pub sends: GtidSet,
    /// Its applier runs, or has nothing left to do. One that is broken will never finish.
    pub applier_ok: bool,
    /// It applies late on purpose, and will for as long.
    pub delayed: bool,
    /// What it replicates is in its binary log.
    pub sends_on: bool,
}

impl Candidate {
    /// Nothing is left in its relay log.
    pub fn is_drained(&self) -> bool {
        self.applied.covers(&self.received)
    }
}

/// The best of them: peers before replicas (those only when `promote_replicas`), then whoever need not wait out a delay of its own, then whoever has received
/// what no other of its kind has more of, then who can send on what it has replicated (whoever lacks some of it could not follow another), then who
/// is not delayed, then whoever has the least left to apply, then the first in the list. `None` when nobody may be promoted.
pub fn best(candidates: &[Candidate], promote_replicas: bool) -> Option<&Candidate> {
    let usable = |candidate: &&Candidate| candidate.applier_ok || candidate.is_drained();
    let of = |role: ConfiguredRole| {
        let kind: Vec<&Candidate> = candidates.iter().filter(usable).filter(|c| c.role == role).collect();
        // Sets are only partly ordered: the one that misses the least of what the others have together.
        let mut all: Option<GtidSet> = None;
        for candidate in &kind {
            match &mut all {
                Some(all) => all.merge(&candidate.received),
                none => *none = Some(candidate.received.clone()),
            }
        }
        let all = all?;
        kind.into_iter().min_by_key(|candidate| {
            let left = candidate.received.missing_count(&candidate.applied);
            let waits = candidate.delayed && left > 0;
            (waits, all.missing_count(&candidate.received), !candidate.sends_on, candidate.delayed, left)
        })
    };
    of(ConfiguredRole::Master).or_else(|| if promote_replicas { of(ConfiguredRole::Replica) } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Flavor;

    fn candidate(id: u16, role: ConfiguredRole, applied: &str, received: &str) -> Candidate {
        let set = |text| GtidSet::parse(Flavor::MariaDb, text).unwrap();
        let (applied, received) = (set(applied), set(received));
        let sends = applied.clone();
        Candidate { id: ServerId(id), role, sends, applied, received, applier_ok: true, delayed: false, sends_on: true }
    }

    #[test]
    fn peers_first_then_who_received_most_then_the_file() {
        use ConfiguredRole::{Master, Replica};
        let peer = candidate(1, Master, "0-1-5", "0-1-7");
        let ahead = candidate(2, Replica, "0-1-9", "0-1-9");
        let also = candidate(3, Replica, "0-1-8", "0-1-9");
        let of = |all: &[Candidate], replicas| best(all, replicas).map(|c| c.id.0);
        assert_eq!(of(&[peer.clone(), ahead.clone()], true), Some(1));
        assert_eq!(of(&[also.clone(), ahead.clone()], true), Some(2));
        assert_eq!(of(&[also.clone(), ahead.clone()], false), None);
        assert_eq!(of(&[], true), None);
        let mute = Candidate { sends_on: false, ..ahead.clone() };
        let late = Candidate { delayed: true, ..ahead.clone() };
        assert_eq!(of(&[mute.clone(), also.clone()], true), Some(3), "the same was received: who can send it on");
        assert_eq!(of(&[mute.clone(), Candidate { received: peer.received.clone(), ..also.clone() }], true), Some(2), "data first");
        assert_eq!(of(&[late.clone(), also.clone()], true), Some(3), "the same was received: who is not delayed");
        assert_eq!(of(&[late.clone(), mute], true), Some(2), "a delay is over when nothing is left to apply");
        let waits = Candidate { delayed: true, ..also.clone() };
        let less = Candidate { received: also.applied.clone(), ..also.clone() };
        assert_eq!(of(&[waits.clone(), Candidate { id: ServerId(4), ..less }], true), Some(4), "an hour for one transaction");
        assert_eq!(of(&[waits], true), Some(3));
        let broken = Candidate { applier_ok: false, ..peer.clone() };
        assert_eq!(of(&[broken, ahead], true), Some(2));
    }
}
