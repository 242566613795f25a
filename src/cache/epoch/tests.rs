//! All orders in which clients and servers can take their steps, for small histories: no read is answered with rows older than a write
//! that had returned before it began.

use super::*;
use crate::topology::Flavor;

fn gtid(n: u64) -> GtidSet {
    GtidSet::parse(Flavor::MariaDb, &format!("0-1-{n}")).unwrap()
}

/// One table, one statement's result, a master and one replica. A version is the number of the write that made it.
struct World {
    epochs: Epochs,
    cell: Arc<Cell>,
    master: u64,
    replica: u64,
    /// The newest write that has returned to its client.
    returned: u64,
    kept: Option<(u64, Ticket)>,
    stores: u64,
    now: Instant,
}

impl World {
    fn new(now: Instant) -> World {
        let epochs = Epochs::default();
        let cell = epochs.cell(b"s\0t", "s.t").unwrap();
        World { epochs, cell, master: 0, replica: 0, returned: 0, kept: None, stores: 0, now }
    }

    fn tables(&self) -> Option<SmallVec<[Arc<Cell>; 2]>> {
        Some(SmallVec::from_iter([self.cell.clone()]))
    }

    fn look_up(&self) -> Option<u64> {
        self.kept.as_ref().filter(|(_, ticket)| ticket.is_current()).map(|(version, _)| *version)
    }
}

/// Somebody with steps to take, one after another.
enum Actor {
    /// Sent, run at the master, ended; of a known table or of any.
    Writer { step: u8, version: u64, writing: Option<Writing>, known: bool },
    /// Sent, lost, and then run all the same.
    LostWriter { step: u8, writing: Option<Writing> },
    /// A write at the master that did not come by us, and the binlog's word of it. It returns to nobody here.
    Stranger { step: u8, version: u64 },
    /// A write whose end does not tell its name, and that asks for it: sent, run (or refused, having done nothing), ended, asked, learned.
    Nameless { step: u8, runs: bool, writing: Option<Writing>, unnamed: Option<Unnamed>, version: u64 },
    /// A change without a name, told by the log.
    Unnamed { done: bool },
    /// A sweep that sees what there is, the master's word of what it has, and a sweep that has heard it.
    Sweeper { step: u8, said: u64, at_once: bool },
    /// Applies the next transaction.
    Replica { left: u8 },
    /// Asked, read at a server, stored.
    Reader { step: u8, at_master: bool, granted: Option<Granted>, may_store: bool, version: u64 },
}

impl Actor {
    fn done(&self) -> bool {
        match self {
            Actor::Writer { step, .. } | Actor::LostWriter { step, .. } => *step == 3,
            Actor::Stranger { step, .. } => *step == 2,
            Actor::Nameless { step, .. } => *step == 4,
            Actor::Unnamed { done } => *done,
            Actor::Sweeper { step, .. } => *step == 3,
            Actor::Replica { left } => *left == 0,
            Actor::Reader { step, .. } => *step == 3,
        }
    }

    fn step(&mut self, world: &mut World) -> Result<(), String> {
        match self {
            Actor::Writer { step, version, writing, known } => {
                match step {
                    0 => *writing = Some(world.epochs.write(world.tables().filter(|_| *known), world.now)),
                    1 => {
                        world.master += 1;
                        *version = world.master;
                    }
                    _ => {
                        writing.take().unwrap().end(&Need::Gtid(gtid(*version)));
                        world.returned = world.returned.max(*version);
                    }
                }
                *step += 1;
            }
            Actor::LostWriter { step, writing } => {
                match step {
                    0 => *writing = Some(world.epochs.write(world.tables(), world.now)),
                    1 => drop(writing.take()),
                    _ => world.master += 1,
                }
                *step += 1;
            }
            Actor::Stranger { step, version } => {
                match step {
                    0 => {
                        world.master += 1;
                        *version = world.master;
                    }
                    _ => {
                        world.epochs.changed(std::slice::from_ref(&world.cell), Some(&gtid(*version)));
                        // From here on it counts as if it had returned.
                        world.returned = world.returned.max(*version);
                    }
                }
                *step += 1;
            }
            Actor::Nameless { step, runs, writing, unnamed, version } => {
                match step {
                    0 => {
                        *writing = Some(world.epochs.write(world.tables(), world.now));
                        if *runs {
                            world.master += 1;
                        }
                        *version = world.master;
                    }
                    1 => {
                        *unnamed = writing.take().unwrap().end(&Need::Master);
                        if *runs {
                            world.returned = world.returned.max(*version);
                        }
                    }
                    2 => *version = world.master,
                    _ => unnamed.take().unwrap().learned(&gtid(*version)),
                }
                *step += 1;
            }
            Actor::Unnamed { done } => {
                world.epochs.changed(std::slice::from_ref(&world.cell), None);
                *done = true;
            }
            Actor::Sweeper { step, said, at_once } => {
                let sweep = |master, at| world.epochs.sweep(at, &|_| false, master, QUIET, QUIET);
                match step {
                    _ if *at_once => {
                        sweep(None, world.now);
                        sweep(Some(&gtid(world.master)), world.now + 2 * QUIET);
                        *step = 2;
                    }
                    0 => sweep(None, world.now),
                    1 => *said = world.master,
                    _ => sweep(Some(&gtid(*said)), world.now + 2 * QUIET),
                }
                *step += 1;
            }
            Actor::Replica { left } => {
                world.replica = (world.replica + 1).min(world.master);
                *left -= 1;
            }
            Actor::Reader { step, at_master, granted, may_store, version } => {
                match step {
                    0 => {
                        if let Some(found) = world.look_up() {
                            *step = 3;
                            if found < world.returned {
                                return Err(format!("answered with version {found} after {} had returned", world.returned));
                            }
                            return Ok(());
                        }
                        *granted = world.epochs.ticket(std::slice::from_ref(&world.cell), world.now).ok();
                        *may_store = *at_master
                            || granted.as_ref().is_some_and(|granted| match &granted.need {
                                Need::Nothing => true,
                                Need::Gtid(set) => gtid(world.replica).covers(set),
                                Need::Master => false,
                            });
                    }
                    1 => *version = if *at_master { world.master } else { world.replica },
                    _ => {
                        if let Some(granted) = granted.take().filter(|granted| *may_store && granted.ticket.is_current()) {
                            world.kept = Some((*version, granted.ticket));
                            world.stores += 1;
                        }
                    }
                }
                *step += 1;
            }
        }
        Ok(())
    }
}

fn writer() -> Actor {
    Actor::Writer { step: 0, version: 0, writing: None, known: true }
}

fn sweeper(at_once: bool) -> Actor {
    Actor::Sweeper { step: 0, said: 0, at_once }
}

fn nameless(runs: bool) -> Actor {
    Actor::Nameless { step: 0, runs, writing: None, unnamed: None, version: 0 }
}

fn reader(at_master: bool) -> Actor {
    Actor::Reader { step: 0, at_master, granted: None, may_store: false, version: 0 }
}

/// Runs every order of the actors' steps; how many there were, and how often something was stored.
fn every_order(actors: &dyn Fn() -> Vec<Actor>) -> (u64, u64) {
    let now = Instant::now();
    let (mut orders, mut kept) = (0, 0);
    // A path of choices; the next one differs from it as late as possible.
    let mut path: Vec<usize> = Vec::new();
    loop {
        let (mut world, mut all) = (World::new(now), actors());
        let mut at = 0;
        let mut wide = Vec::new();
        loop {
            let able: Vec<usize> = (0..all.len()).filter(|i| !all[*i].done()).collect();
            if able.is_empty() {
                break;
            }
            if at == path.len() {
                path.push(0);
            }
            wide.push(able.len());
            all[able[path[at]]].step(&mut world).unwrap_or_else(|why| panic!("{why}; choices {path:?}"));
            at += 1;
        }
        orders += 1;
        kept += world.stores;
        // Whoever asks at the end is answered from what is kept, too.
        if let Some(found) = world.look_up() {
            assert!(
                found >= world.returned,
                "version {found} is kept at the end, {} had returned; choices {path:?}",
                world.returned
            );
        }
        path.truncate(at);
        while let Some(last) = path.pop() {
            if last + 1 < wide[path.len()] {
                path.push(last + 1);
                break;
            }
        }
        if path.is_empty() {
            return (orders, kept);
        }
    }
}

#[test]
fn no_order_of_steps_serves_rows_older_than_a_write_that_returned() {
    let histories: [(&str, &dyn Fn() -> Vec<Actor>); 10] = [
        ("a write, two reads at the master", &|| vec![writer(), reader(true), reader(true)]),
        ("a write, reads at the replica and at the master", &|| {
            vec![writer(), Actor::Replica { left: 1 }, reader(false), reader(true)]
        }),
        ("two writes, a lagging replica", &|| vec![writer(), writer(), Actor::Replica { left: 2 }, reader(false)]),
        ("a write of unknown tables", &|| {
            let anything = Actor::Writer { step: 0, version: 0, writing: None, known: false };
            vec![anything, Actor::Replica { left: 1 }, reader(false), reader(true)]
        }),
        ("a write that was lost and happens later", &|| {
            vec![Actor::LostWriter { step: 0, writing: None }, writer(), Actor::Replica { left: 2 }, reader(true)]
        }),
        ("a stranger's write", &|| {
            vec![Actor::Stranger { step: 0, version: 0 }, writer(), Actor::Replica { left: 2 }, reader(false)]
        }),
        ("two writes that ask for their names, one of which did nothing", &|| vec![nameless(false), nameless(true), reader(false)]),
        ("a name that is asked for, a sweep, and a write that asks for its own", &|| {
            vec![nameless(false), sweeper(true), nameless(true), reader(false)]
        }),
        ("a sweep while a write comes, with its name", &|| {
            vec![Actor::Unnamed { done: false }, sweeper(false), writer(), reader(false)]
        }),
        ("a sweep while a write comes, without its name", &|| {
            vec![Actor::Unnamed { done: false }, sweeper(false), nameless(true), reader(false)]
        }),
    ];
    for (name, history) in histories {
        let (orders, kept) = every_order(history);
        assert!(orders > 100 && kept > 0, "{name}: {orders} orders, something was stored {kept} times");
    }
}

#[test]
fn a_stranger_is_noticed_though_a_newer_write_was_ours() {
    let now = Instant::now();
    let world = World::new(now);
    let tables = [world.cell.clone()];
    world.epochs.write(world.tables(), now).end(&Need::Gtid(gtid(5)));
    let kept = world.epochs.ticket(&tables, now).unwrap().ticket;
    assert!(!world.epochs.changed(&tables, Some(&gtid(5))), "our own write, by the binlog");
    assert!(kept.is_current());
    assert!(world.epochs.changed(&tables, Some(&gtid(6))));
    assert!(!kept.is_current());
    // Once the need is only what a sweep took from the master, an event may tell of something newer than what is kept.
    world.epochs.changed(&tables, None);
    let sweep = |at| world.epochs.sweep(at, &|_| false, Some(&gtid(9)), QUIET, QUIET);
    sweep(now);
    let kept = world.epochs.ticket(&tables, now).unwrap();
    assert_eq!(kept.need, Need::Master);
    sweep(now + 2 * QUIET);
    assert!(kept.ticket.is_current());
    assert!(world.epochs.changed(&tables, Some(&gtid(8))), "it may have been read before this");
    assert!(!kept.ticket.is_current());
    assert_eq!(world.epochs.ticket(&tables, now).unwrap().need, Need::Gtid(gtid(9)));
    world.epochs.sweep(now, &|_| true, None, QUIET, QUIET);
    assert_eq!(world.epochs.ticket(&tables, now).unwrap().need, Need::Nothing);
}

#[test]
fn a_write_without_an_outcome_blocks_for_a_while() {
    let now = Instant::now();
    let world = World::new(now);
    let tables = [world.cell.clone()];
    drop(world.epochs.write(world.tables(), now));
    let minute = Duration::from_secs(60);
    let state = |at| {
        world.epochs.sweep(at, &|_| true, None, QUIET, minute);
        world.epochs.ticket(&tables, at).err()
    };
    assert_eq!(state(now), Some(NoTicket::Doubt));
    assert_eq!(state(now + minute / 2), Some(NoTicket::Doubt));
    assert_eq!(state(now + minute), None);
    let writing = world.epochs.write(None, now);
    assert_eq!(world.epochs.ticket(&tables, now).err(), Some(NoTicket::Writing));
    writing.end(&Need::Nothing);
    assert!(!world.epochs.ticket(&tables, now).unwrap().quiet);
    assert!(world.epochs.ticket(&tables, now + QUIET).unwrap().quiet);
}

#[test]
fn needs_that_grow_too_long_come_to_the_master() {
    let mut need = Need::Nothing;
    let one = |n: u64| GtidSet::parse(Flavor::MySql, &format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:{n}")).unwrap();
    for n in 0..NEED_PARTS_MAX as u64 {
        need.merge(&Need::Gtid(one(2 * n + 1)));
    }
    assert!(matches!(&need, Need::Gtid(set) if set.parts() == NEED_PARTS_MAX));
    need.merge(&Need::Gtid(one(9999)));
    assert_eq!(need, Need::Master);
    let mut mixed = Need::Gtid(one(1));
    mixed.merge(&Need::Gtid(gtid(1)));
    assert_eq!(mixed, Need::Master);
}

/// A name that comes late stands for its own write alone.
#[test]
fn a_name_that_is_learned_takes_the_masters_place_only_when_no_other_is_missing() {
    let now = Instant::now();
    let my = |sets: &str| GtidSet::parse(Flavor::MySql, sets).unwrap();
    let (a, b) = ("00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b");
    let one = |n: u64| my(&format!("{a}:{n}"));
    let named = |n: u64| Need::Gtid(one(n));
    for (ended, learned, needed) in [
        // What was known before stays needed.
        (vec![named(5), Need::Master], vec![one(7)], Need::Gtid(my(&format!("{a}:5:7")))),
        (vec![Need::Master, named(5)], vec![one(7)], Need::Gtid(my(&format!("{a}:5:7")))),
        (vec![Need::Master], vec![one(7)], named(7)),
        // Two are missing, and one is learned.
        (vec![Need::Master, Need::Master], vec![one(7)], Need::Master),
        // Nothing is missing: there is nothing to learn.
        (vec![named(5)], vec![my(&format!("{b}:1"))], named(5)),
    ] {
        let epochs = Epochs::default();
        let cell = epochs.cell(b"s\0t", "s.t").unwrap();
        let ends = ended.iter().map(|need| epochs.write(Some(SmallVec::from_iter([cell.clone()])), now).end(need));
        let unnamed: Vec<Unnamed> = ends.flatten().collect();
        for (unnamed, gtid) in unnamed.into_iter().zip(&learned) {
            unnamed.learned(gtid);
        }
        assert_eq!(epochs.ticket(&[cell], now).unwrap().need, needed, "{ended:?} {learned:?}");
    }
    // Too many names to be told one by one: the master, whatever is learned.
    let epochs = Epochs::default();
    let cell = epochs.cell(b"s\0t", "s.t").unwrap();
    for n in 0..400 {
        epochs.write(Some(SmallVec::from_iter([cell.clone()])), now).end(&named(2 * n + 1));
    }
    let unnamed = epochs.write(Some(SmallVec::from_iter([cell.clone()])), now).end(&Need::Master).unwrap();
    unnamed.learned(&one(7));
    assert_eq!(epochs.ticket(std::slice::from_ref(&cell), now).unwrap().need, Need::Master);
    // What the master said once all had ended has all of them, and later names stay beside it.
    let all = my(&format!("{a}:1-1000"));
    epochs.sweep(now, &|_| false, Some(&all), QUIET, QUIET);
    epochs.write(Some(SmallVec::from_iter([cell.clone()])), now).end(&named(1002));
    epochs.sweep(now + 2 * QUIET, &|_| false, Some(&all), QUIET, QUIET);
    assert_eq!(epochs.ticket(&[cell], now).unwrap().need, Need::Gtid(my(&format!("{a}:1-1000:1002"))));
}

/// A name stands for the write that asked for it, even where one without a name has come and gone since.
#[test]
fn a_name_does_not_take_the_place_of_a_later_write() {
    let now = Instant::now();
    let world = World::new(now);
    let tables = [world.cell.clone()];
    let end = |need: &Need| world.epochs.write(world.tables(), now).end(need);
    let first = end(&Need::Master).unwrap();
    let sweep = |at| world.epochs.sweep(at, &|_| false, Some(&gtid(5)), QUIET, QUIET);
    sweep(now);
    sweep(now + 2 * QUIET);
    assert_eq!(world.epochs.ticket(&tables, now).unwrap().need, Need::Gtid(gtid(5)));
    let second = end(&Need::Master).unwrap();
    first.learned(&gtid(5));
    assert_eq!(world.epochs.ticket(&tables, now).unwrap().need, Need::Master);
    second.learned(&gtid(6));
    assert_eq!(world.epochs.ticket(&tables, now).unwrap().need, Need::Gtid(gtid(6)));
    assert!(end(&Need::Nothing).is_none() && end(&Need::Gtid(gtid(7))).is_none(), "they wait for no name");
}
