//! The books of one server's pool: who holds how many connections, which are idle, who waits. Pure: connections are an
//! opaque type, time is an argument, and waking a waiter is left to `pool`.
//!
//! Rules. At most `max` connections exist or are being opened. Waiters are served in the order they came. A connection
//! given back goes to the first waiter if it may serve him (same key); if not, it is closed and its place is given to him.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Instant;

/// A waiter's number.
pub type Ticket = u64;

/// What somebody who wants a connection gets.
#[derive(Debug, PartialEq, Eq)]
pub enum Checkout<C> {
    /// This idle connection.
    Use(C),
    /// A place to open one; `evict`, when given, was idle for somebody else and must be closed.
    Open {
        /// Closed to make room.
        evict: Option<C>,
    },
    /// A place in the queue.
    Wait(Ticket),
}

/// What becomes of a connection that was given back, or of a place that became free.
#[derive(Debug, PartialEq, Eq)]
pub enum Given<C> {
    /// It is idle now, or the place is free.
    Kept,
    /// It goes to this waiter.
    To(Ticket, C),
    /// This waiter may open one; the connection, when given, must be closed.
    Place(Ticket, Option<C>),
    /// It is too much (the limit was lowered): close it.
    Close(C),
}

struct IdleConnection<C> {
    connection: C,
    since: Instant,
}

/// How many idle connections of a key are looked at for the best one. Those used last are looked at first.
const LOOKED_AT_MAX: usize = 16;

/// The books of one server's pool.
pub struct PoolBook<K, C> {
    max: usize,
    used: usize,
    idle_count: usize,
    idle: HashMap<K, Vec<IdleConnection<C>>, foldhash::fast::RandomState>,
    waiting: VecDeque<(Ticket, K)>,
    next_ticket: Ticket,
}

/// Numbers for `SHOW POOLS`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Handed out or being opened.
    pub used: usize,
    /// Open and unused.
    pub idle: usize,
    /// In the queue.
    pub waiting: usize,
    /// The limit.
    pub max: usize,
}

impl<K: Hash + Eq + Clone, C> PoolBook<K, C> {
    /// Books of a pool that may hold `max` connections (at least one).
    pub fn new(max: usize) -> Self {
        PoolBook { max: max.max(1), used: 0, idle_count: 0, idle: HashMap::default(), waiting: VecDeque::new(), next_ticket: 1 }
    }

    /// Numbers as they stand.
    pub fn counts(&self) -> Counts {
        Counts { used: self.used, idle: self.idle_count, waiting: self.waiting.len(), max: self.max }
    }

    /// Idle connections of each key.
    pub fn idle_by_key(&self) -> impl Iterator<Item = (&K, usize)> {
        self.idle.iter().filter(|(_, list)| !list.is_empty()).map(|(key, list)| (key, list.len()))
    }

    /// Keys of those who wait.
    pub fn waiting_keys(&self) -> impl Iterator<Item = &K> {
        self.waiting.iter().map(|(_, key)| key)
    }

    /// An idle connection, the one that `score` likes best, as [`PoolBook::checkout`] would give it.
    pub fn take_idle(&mut self, key: &K, score: impl Fn(&C) -> Option<u32>) -> Option<C> {
        self.take_idle_if(key, score, |_| true)
    }

    /// The same, unless that one cannot be used `here`: it stays idle then.
    pub fn take_idle_if(&mut self, key: &K, score: impl Fn(&C) -> Option<u32>, here: impl Fn(&C) -> bool) -> Option<C> {
        let connection = self.take_best(key, score, here)?;
        self.used += 1;
        Some(connection)
    }

    /// Who is served next.
    pub fn next_waiter(&self) -> Option<Ticket> {
        self.waiting.front().map(|(ticket, _)| *ticket)
    }

    /// Asks for a connection. `score` judges an idle one: `None` may not be used, otherwise the highest wins; `u32::MAX` ends the search.
    pub fn checkout(&mut self, key: &K, score: impl Fn(&C) -> Option<u32>) -> Checkout<C> {
        // Those who wait came first, unless what is idle cannot be what they wait for.
        if let Some(connection) = self.take_idle(key, score) {
            return Checkout::Use(connection);
        }
        if self.used + self.idle_count < self.max {
            self.used += 1;
            return Checkout::Open { evict: None };
        }
        if self.waiting.is_empty()
            && let Some(connection) = self.take_oldest()
        {
            self.used += 1;
            return Checkout::Open { evict: Some(connection) };
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting.push_back((ticket, key.clone()));
        Checkout::Wait(ticket)
    }

    /// Takes an idle connection for which `is` holds, whoever waits: it was his a moment ago.
    pub fn retake(&mut self, key: &K, is: impl Fn(&C) -> bool) -> Option<C> {
        self.take_idle(key, |c| is(c).then_some(u32::MAX))
    }

    fn take_best(&mut self, key: &K, score: impl Fn(&C) -> Option<u32>, here: impl Fn(&C) -> bool) -> Option<C> {
        let list = self.idle.get_mut(key)?;
        let mut best: Option<(usize, u32)> = None;
        for (index, idle) in list.iter().enumerate().rev().take(LOOKED_AT_MAX) {
            if let Some(score) = score(&idle.connection)
                && best.is_none_or(|(_, b)| score > b)
            {
                best = Some((index, score));
                if score == u32::MAX {
                    break;
                }
            }
        }
        let (index, _) = best.filter(|(index, _)| list.get(*index).is_some_and(|idle| here(&idle.connection)))?;
        let taken = list.remove(index);
        // An emptied list stays for the connection that comes back; `retire` removes it when none does.
        self.idle_count -= 1;
        Some(taken.connection)
    }

    fn take_oldest(&mut self) -> Option<C> {
        let filled = self.idle.iter().filter(|(_, list)| !list.is_empty());
        let key = filled.min_by_key(|(_, list)| list.first().map(|i| i.since))?.0.clone();
        let list = self.idle.get_mut(&key)?;
        let taken = list.remove(0);
        self.idle_count -= 1;
        if list.is_empty() {
            self.idle.remove(&key);
        }
        Some(taken.connection)
    }

    /// A connection comes back in good order.
    pub fn give_back(&mut self, key_of: impl Fn(&C) -> &K, connection: C, now: Instant) -> Given<C> {
        if self.used + self.idle_count > self.max {
            self.used -= 1;
            return Given::Close(connection);
        }
        if let Some((ticket, wanted)) = self.waiting.pop_front() {
            return if wanted == *key_of(&connection) {
                Given::To(ticket, connection)
            } else {
                Given::Place(ticket, Some(connection))
            };
        }
        self.used -= 1;
        self.idle_count += 1;
        match self.idle.get_mut(key_of(&connection)) {
            Some(list) => list.push(IdleConnection { connection, since: now }),
            None => {
                let key = key_of(&connection).clone();
                self.idle.insert(key, vec![IdleConnection { connection, since: now }]);
            }
        }
        Given::Kept
    }

    /// A connection was closed, or could not be opened: its place is free.
    pub fn lost(&mut self) -> Given<C> {
        if self.used + self.idle_count <= self.max
            && let Some((ticket, _)) = self.waiting.pop_front()
        {
            return Given::Place(ticket, None);
        }
        self.used -= 1;
        Given::Kept
    }

    /// A waiter gave up. `false`: he had been served already, and must give back what he got.
    pub fn give_up(&mut self, ticket: Ticket) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|(t, _)| *t != ticket);
        before != self.waiting.len()
    }

    /// Takes out idle connections for which `tired` holds (given how long they have been idle since).
    pub fn retire(&mut self, mut tired: impl FnMut(&K, &C, Instant) -> bool) -> Vec<C> {
        let mut out = Vec::new();
        self.idle.retain(|key, list| {
            let mut kept = Vec::with_capacity(list.len());
            for idle in list.drain(..) {
                if tired(key, &idle.connection, idle.since) {
                    out.push(idle.connection);
                } else {
                    kept.push(idle);
                }
            }
            *list = kept;
            !list.is_empty()
        });
        self.idle_count -= out.len();
        out
    }

    /// Changes the limit; idle connections above it are returned to be closed.
    pub fn set_max(&mut self, max: usize) -> Vec<C> {
        self.max = max.max(1);
        let mut out = Vec::new();
        while self.used + self.idle_count > self.max {
            match self.take_oldest() {
                Some(connection) => out.push(connection),
                None => break,
            }
        }
        out
    }

    /// Places that a higher limit has made free, for those who wait.
    pub fn new_places(&mut self) -> Vec<Ticket> {
        let mut served = Vec::new();
        while self.used + self.idle_count < self.max
            && let Some((ticket, _)) = self.waiting.pop_front()
        {
            self.used += 1;
            served.push(ticket);
        }
        served
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_higher_limit_serves_who_waits_first_and_no_more_than_it_allows() {
        let mut book: PoolBook<&str, u32> = PoolBook::new(1);
        assert_eq!(book.checkout(&"app", |_| Some(0)), Checkout::Open { evict: None });
        let waits = |book: &mut PoolBook<&str, u32>| match book.checkout(&"app", |_| Some(0)) {
            Checkout::Wait(ticket) => ticket,
            other => panic!("{other:?}"),
        };
        let (first, second, third) = (waits(&mut book), waits(&mut book), waits(&mut book));
        assert!(book.set_max(3).is_empty());
        assert_eq!(book.new_places(), [first, second]);
        assert_eq!((book.counts().used, book.counts().waiting), (3, 1));
        assert!(book.new_places().is_empty());
        assert!(book.give_up(third));
    }

    #[test]
    fn an_idle_connection_is_used_before_one_is_opened() {
        let now = Instant::now();
        let mut book: PoolBook<&str, u32> = PoolBook::new(2);
        assert_eq!(book.checkout(&"app", |_| Some(0)), Checkout::Open { evict: None });
        assert_eq!(book.give_back(|_| &"app", 7, now), Given::Kept);
        assert_eq!(book.checkout(&"app", |_| Some(0)), Checkout::Use(7));
    }

    #[test]
    fn the_best_idle_connection_is_taken() {
        let now = Instant::now();
        let mut book: PoolBook<&str, u32> = PoolBook::new(9);
        for id in 1..=4 {
            assert_eq!(book.checkout(&"app", |_| None), Checkout::Open { evict: None });
            assert_eq!(book.give_back(|_| &"app", id, now), Given::Kept);
        }
        assert_eq!(book.checkout(&"app", |c| Some(u32::from(*c == 2))), Checkout::Use(2));
        assert_eq!(book.checkout(&"app", |_| Some(0)), Checkout::Use(4), "the one used last");
    }

    #[test]
    fn a_full_pool_closes_what_is_idle_for_others_and_then_makes_wait() {
        let now = Instant::now();
        let mut book: PoolBook<&str, u32> = PoolBook::new(1);
        assert_eq!(book.checkout(&"a", |_| Some(0)), Checkout::Open { evict: None });
        assert_eq!(book.give_back(|_| &"a", 1, now), Given::Kept);
        assert_eq!(book.checkout(&"b", |_| Some(0)), Checkout::Open { evict: Some(1) });
        assert_eq!(book.checkout(&"b", |_| Some(0)), Checkout::Wait(1));
        assert_eq!(book.checkout(&"a", |_| Some(0)), Checkout::Wait(2));
        assert_eq!(book.give_back(|_| &"b", 2, now), Given::To(1, 2));
        assert_eq!(book.give_back(|_| &"b", 2, now), Given::Place(2, Some(2)));
        assert_eq!(book.lost(), Given::Kept);
        assert_eq!(book.counts().used, 0);
    }

    proptest! {
        /// Never above max, no waiter forgotten: whoever waits is served as soon as everything handed out has come back.
        #[test]
        fn never_above_max_and_no_waiter_forgotten(max in 1usize..5, ops in proptest::collection::vec((0u8..5, 0u8..3), 1..200)) {
            let now = Instant::now();
            let mut book: PoolBook<u8, u32> = PoolBook::new(max);
            let mut out: Vec<u8> = Vec::new();
            let mut queue: Vec<(Ticket, u8)> = Vec::new();
            let mut id = 0;
            let serve = |given: Given<u32>, out: &mut Vec<u8>, queue: &mut Vec<(Ticket, u8)>| match given {
                Given::Kept | Given::Close(_) => {}
                Given::To(ticket, _) | Given::Place(ticket, _) => {
                    let at = queue.iter().position(|(t, _)| *t == ticket).expect("a waiter that waits");
                    assert_eq!(at, 0, "first come, first served");
                    out.push(queue.remove(at).1);
                }
            };
            for (op, key) in ops {
                match op {
                    0 | 1 => match book.checkout(&key, |_| Some(0)) {
                        Checkout::Wait(ticket) => queue.push((ticket, key)),
                        _ => out.push(key),
                    },
                    2 => if let Some(key) = out.pop() {
                        id += 1;
                        let given = book.give_back(|_| &[0, 1, 2][usize::from(key)], id, now);
                        serve(given, &mut out, &mut queue);
                    },
                    3 => if out.pop().is_some() {
                        let given = book.lost();
                        serve(given, &mut out, &mut queue);
                    },
                    _ => if !queue.is_empty() {
                        let (ticket, _) = queue.remove(0);
                        prop_assert!(book.give_up(ticket));
                    },
                }
                let counts = book.counts();
                prop_assert!(counts.used + counts.idle <= max);
                prop_assert_eq!(counts.used, out.len());
                prop_assert_eq!(counts.waiting, queue.len());
                prop_assert!(queue.is_empty() || counts.used > 0, "somebody waits and nobody holds anything");
            }
        }
    }
}
