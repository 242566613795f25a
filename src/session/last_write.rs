//! What was written last, by one session or by one account: the GTIDs that its reads must find.

use crate::topology::ServerId;
use crate::topology::gtid::GtidSet;

/// So many parts are kept before they are simplified.
const PARTS_MAX: usize = 16;

/// The GTIDs of writes, and where they were written.
#[derive(Clone, PartialEq, Debug)]
pub struct LastWrite {
    server: ServerId,
    gtids: GtidSet,
}

impl LastWrite {
    /// What a server must have to show the writes.
    pub fn gtids(&self) -> &GtidSet {
        &self.gtids
    }

    /// Where the last of them was written.
    pub fn server(&self) -> ServerId {
        self.server
    }

    /// `gtid` was written on that server, as its OK told. `newest` is all that the server is known to have.
    ///
    /// What was written on another server before is let go: a server takes writes only after it has all that it will ever have of its predecessor,
    /// so whoever has the new write has that, too; and what was lost with the predecessor nobody need wait for.
    ///
    /// With two sessions that write in turns, no number of one is another's neighbour. So that the set stays small, and a question about it
    /// cheap, it becomes all that the server is known to have: more than was written, and in few pieces.
    pub fn learn(last: &mut Option<LastWrite>, server: ServerId, gtid: GtidSet, newest: impl FnOnce() -> Option<GtidSet>) {
        let Some(LastWrite { gtids, .. }) = last.as_mut().filter(|last| last.server == server) else {
            *last = Some(LastWrite { server, gtids: gtid });
            return;
        };
        gtids.merge(&gtid);
        if gtids.parts() > PARTS_MAX
            && let Some(all) = newest().filter(|all| all.covers(gtids) && all.parts() < gtids.parts())
        {
            *gtids = all;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Flavor;

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(text: &str) -> GtidSet {
        GtidSet::parse(Flavor::MySql, text).unwrap()
    }

    #[test]
    fn what_one_of_two_sessions_wrote_in_turns_stays_small() {
        let db1 = ServerId(0);
        let (mut last, mut server) = (None, set(&format!("{UUID}:1")));
        for n in (3..=140_001).step_by(2) {
            let own = set(&format!("{UUID}:{n}"));
            server.merge(&set(&format!("{UUID}:{}-{n}", n - 1)));
            LastWrite::learn(&mut last, db1, own.clone(), || Some(server.clone()));
            let gtids = last.as_ref().unwrap().gtids();
            assert!(gtids.covers(&own) && gtids.parts() <= PARTS_MAX + 1, "{n}: {} parts", gtids.parts());
        }
        // Nothing is known of the server: nothing is lost.
        let all = last.clone().unwrap();
        for n in 0..40 {
            LastWrite::learn(&mut last, db1, set(&format!("{UUID}:{}", 200_000 + 2 * n)), || None);
        }
        assert!(last.unwrap().gtids().covers(all.gtids()));
    }

    #[test]
    fn a_write_on_a_new_master_stands_for_those_on_the_old_one() {
        let mut last = None;
        // Number 9 died with db1 and is nowhere.
        LastWrite::learn(&mut last, ServerId(0), set(&format!("{UUID}:9")), || None);
        let other = set("4e11fa47-71ca-11e1-9e33-c80aa9429562:1");
        LastWrite::learn(&mut last, ServerId(1), other.clone(), || None);
        assert_eq!(last.unwrap().gtids(), &other);
    }
}
