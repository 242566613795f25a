//! Which of several servers takes the next read.

use crate::topology::ServerId;

/// `routing.read_balance`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReadBalance {
    /// One after the other.
    #[default]
    RoundRobin,
    /// One after the other, in proportion to their weights.
    Weighted,
    /// The one with the fewest statements running, in relation to its weight.
    LeastConnections,
    /// The one that would answer soonest: recent latency times statements running.
    Fastest,
}

/// What a server is doing now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Load {
    /// Connections in use.
    pub used: u32,
    /// Recent time of a statement there, in microseconds; 0 when nothing is known.
    pub latency_us: u32,
}

/// A server that could take the read.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Which.
    pub id: ServerId,
    /// Its weight; 0 takes nothing while others can.
    pub weight: u32,
    /// Its load.
    pub load: Load,
}

/// The next in the round of those that weigh something, or of all where none does: what [`pick`] does in [`ReadBalance::RoundRobin`], of which nobody's load
/// needs to be known.
pub fn in_turn(candidates: impl Iterator<Item = (ServerId, u32)> + Clone, turn: u64) -> Option<ServerId> {
    let (all, weighty) = candidates.clone().fold((0, 0), |(all, weighty), (_, weight)| (all + 1, weighty + u64::from(weight > 0)));
    let nth = turn.checked_rem(if weighty > 0 { weighty } else { all })?;
    candidates.filter(|(_, weight)| *weight > 0 || weighty == 0).nth(nth as usize).map(|(id, _)| id)
}

/// Picks one. `turn` counts up by one with every decision of a thread that goes to a replica, which makes the round.
pub fn pick(balance: ReadBalance, candidates: &[Candidate], turn: u64) -> Option<ServerId> {
    let weighty = candidates.iter().any(|c| c.weight > 0);
    let usable = || candidates.iter().filter(move |c| c.weight > 0 || !weighty);
    usable().next()?;
    // Equals are taken in turn, or the first in the file would take every idle moment's read.
    let least = |cost: &dyn Fn(&Candidate) -> u128| {
        let lowest = usable().map(cost).min()?;
        let equal = usable().filter(|c| cost(c) == lowest).count() as u64;
        usable().filter(|c| cost(c) == lowest).nth(usize::try_from(turn % equal).unwrap_or(0)).map(|c| c.id)
    };
    match balance {
        ReadBalance::RoundRobin => in_turn(candidates.iter().map(|c| (c.id, c.weight)), turn),
        ReadBalance::Weighted => {
            let total: u64 = usable().map(|c| u64::from(c.weight.max(1))).sum();
            // Neighbouring turns are spread over the whole circle, so that a heavy server does not get its share in one run.
            let golden = turn.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
            let mut at = (golden * total) >> 32;
            for candidate in usable() {
                let weight = u64::from(candidate.weight.max(1));
                if at < weight {
                    return Some(candidate.id);
                }
                at -= weight;
            }
            usable().next().map(|c| c.id)
        }
        ReadBalance::LeastConnections => least(&|c| u128::from(c.load.used) * 1_000_000 / u128::from(c.weight.max(1))),
        ReadBalance::Fastest => {
            least(&|c| u128::from(c.load.latency_us) * u128::from(c.load.used + 1) * 1_000 / u128::from(c.weight.max(1)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(id: u16, weight: u32, used: u32, latency_us: u32) -> Candidate {
        Candidate { id: ServerId(id), weight, load: Load { used, latency_us } }
    }

    fn shares(balance: ReadBalance, candidates: &[Candidate]) -> [usize; 4] {
        let mut shares = [0; 4];
        for turn in 0..1000 {
            shares[pick(balance, candidates, turn).unwrap().index()] += 1;
        }
        shares
    }

    #[test]
    fn round_robin_is_even_whatever_the_weights() {
        let three = [candidate(0, 1, 9, 0), candidate(1, 5, 0, 0), candidate(2, 1, 0, 0)];
        assert_eq!(shares(ReadBalance::RoundRobin, &three)[..3], [334, 333, 333]);
    }

    #[test]
    fn weighted_gives_each_its_share() {
        let [a, b, c, _] = shares(ReadBalance::Weighted, &[candidate(0, 1, 0, 0), candidate(1, 3, 0, 0), candidate(2, 0, 0, 0)]);
        assert!((240..=260).contains(&a) && (740..=760).contains(&b) && c == 0, "{a} {b} {c}");
    }

    #[test]
    fn least_connections_and_fastest_prefer_the_less_busy() {
        let two = [candidate(0, 1, 3, 100), candidate(1, 1, 1, 900)];
        assert_eq!(pick(ReadBalance::LeastConnections, &two, 0), Some(ServerId(1)));
        assert_eq!(pick(ReadBalance::Fastest, &two, 0), Some(ServerId(0)));
        let idle = [candidate(0, 1, 0, 0), candidate(1, 1, 0, 0)];
        assert_eq!(shares(ReadBalance::LeastConnections, &idle)[..2], [500, 500]);
    }

    #[test]
    fn weight_zero_serves_only_when_nobody_else_does() {
        assert_eq!(pick(ReadBalance::RoundRobin, &[candidate(0, 0, 0, 0), candidate(1, 1, 0, 0)], 0), Some(ServerId(1)));
        assert_eq!(pick(ReadBalance::RoundRobin, &[candidate(0, 0, 0, 0)], 7), Some(ServerId(0)));
        assert_eq!(pick(ReadBalance::RoundRobin, &[], 7), None);
    }
}
