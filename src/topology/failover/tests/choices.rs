//! Who takes over, and what is named as lost, where servers stand as they rarely do.

use super::super::case::Case;
use super::super::choose::{Choice, choose};
use super::*;
use crate::topology::gtid::MariaDbState;

const A: ServerId = ServerId(0);
const B: ServerId = ServerId(1);
const C: ServerId = ServerId(2);

/// One of MariaDB's: what it has applied, what stands in its binary log, what it has received.
fn mariadb(world: &World, n: usize, [current, binlog, received]: [&str; 3]) -> Facts {
    let set = |text| Some(Arc::new(GtidSet::parse(Flavor::MariaDb, text).unwrap()));
    let mut facts = world.facts(n);
    (facts.flavor, facts.server_uuid) = (Flavor::MariaDb, String::new());
    (facts.gtid_executed, facts.gtid_binlog) = (set(current), set(binlog));
    facts.gtid_state = MariaDbState::parse(binlog).ok().map(Arc::new);
    let channel = &mut facts.replication[0];
    (channel.retrieved, channel.source_uuid) = (set(received), String::new());
    facts
}

/// db1 is master, and these are db1 to db3; then it dies.
fn after_the_end_of(world: &mut World, all: [Facts; 3]) -> (Case, Vec<Answer>) {
    for _ in 0..2 {
        world.now += ms(10);
        let seen =
            all.iter().zip(0..).map(|(facts, n)| Observation::from_monitor(ServerId(n), world.now, world.now, Ok(facts.clone())));
        let seen = seen.collect();
        world.judge(seen);
    }
    world.step(Event::Seen(world.snapshot.clone()));
    assert_eq!(world.snapshot.master, Some(A));
    let mut case = Case::new(Kind::Failover, Some(A), String::new(), world.now);
    case.had = world.machine.had(A);
    let answer = |(facts, n)| (ServerId(n), if n == 0 { Err(Failure::QueryTimeout) } else { Ok(facts) });
    (case, all.into_iter().zip(0..).map(answer).collect())
}

/// Harm: MariaDB writes what it replicates to its own binary log only where it is told to. From a replica that was not told the peer tried to fetch
/// for half a minute, in vain.
#[test]
fn nobody_fetches_from_one_that_cannot_send() {
    for (sends, expected) in [("0-1-10", Some(C)), ("0-1-9", None), ("", None)] {
        let mut world = World::new(1);
        let all = [
            mariadb(&world, 0, ["0-1-10", "0-1-10", ""]),
            mariadb(&world, 1, ["0-1-9", "0-1-9", "0-1-9"]),
            mariadb(&world, 2, ["0-1-10", sends, "0-1-10"]),
        ];
        let (case, answers) = after_the_end_of(&mut world, all);
        match (choose(&world.snapshot, &case, &answers, &[], false), expected) {
            (Choice::CatchUp { whom, from }, Some(one)) => assert_eq!((whom, from), (B, one)),
            (Choice::Ready { whom, lost, count, .. }, None) => assert_eq!((whom, &*lost, count), (B, "0-1-10", 1)),
            (other, _) => panic!("{sends}: {other:?}"),
        }
    }
}

/// Harm: a peer with a stopped channel from a server outside of the cluster, or with something left of it to apply, was not promoted.
#[test]
fn what_comes_from_outside_of_the_cluster_does_not_hinder_a_peer() {
    let mut world = World::new(1);
    let outside = |world: &World, n| {
        let mut facts = world.facts(n);
        let foreign = MySqlSet::one(Origin { uuid: uuid(70), tag: Tag::default() }, 5);
        facts.replication.push(ReplicaChannel {
            name: "billing".to_owned(),
            source_host: "10.9.9.9".to_owned(),
            source_port: 3306,
            source_uuid: uuid_text(70),
            retrieved: Some(Arc::new(GtidSet::MySql(foreign))),
            last_sql_error: "1062 Duplicate entry".to_owned(),
            ..ReplicaChannel::default()
        });
        facts
    };
    let all = [world.facts(0), outside(&world, 1), world.facts(2)];
    let (case, answers) = after_the_end_of(&mut world, all);
    let choice = choose(&world.snapshot, &case, &answers, &[], false);
    assert!(matches!(&choice, Choice::Ready { whom: B, lost, .. } if lost.is_empty()), "{choice:?}");

    // It has not yet applied all that came from the master.
    world.servers[1].relay = MySqlSet::one(Origin { uuid: uuid(0), tag: Tag::default() }, 1);
    let all = [world.facts(0), outside(&world, 1), world.facts(2)];
    let (case, answers) = after_the_end_of(&mut world, all);
    let choice = choose(&world.snapshot, &case, &answers, &[], false);
    assert_eq!(choice, Choice::Applying(B));
    world.servers[1].relay = MySqlSet::default();

    // Where nothing is known of where any of it comes from, all of it counts.
    let mut all = [world.facts(0), outside(&world, 1), world.facts(2)];
    all[1].replication.remove(0);
    let (case, answers) = after_the_end_of(&mut world, all);
    let choice = choose(&world.snapshot, &case, &answers, &[], false);
    assert!(matches!(&choice, Choice::Nobody(_)), "{choice:?}");
}

/// Harm: a domain that had come from elsewhere once, and that the master only remembers, made every switchover fail, and losses were named that never were.
#[test]
fn a_domain_that_the_master_cannot_send_is_nothing_to_follow_and_nothing_to_lose() {
    let mut world = World::new(1);
    let all = [
        mariadb(&world, 0, ["0-1-10,5-77-900", "0-1-10", ""]),
        mariadb(&world, 1, ["0-1-10", "0-1-10", "0-1-10"]),
        mariadb(&world, 2, ["0-1-10,5-77-900", "0-1-10", "0-1-10,5-77-900"]),
    ];
    let [master, peer, _] = all.clone();
    let (case, answers) = after_the_end_of(&mut world, all);
    let choice = choose(&world.snapshot, &case, &answers, &[], false);
    assert!(matches!(&choice, Choice::Ready { whom: B, lost, count: 0, .. } if lost.is_empty()), "{choice:?}");

    let (id, to) = (7, B);
    let asked = world.machine.step(Event::Order(id, Order::Switchover { to, dry_run: false }), world.now);
    let ticket = asked.iter().find_map(|action| if let Action::Ask { ticket, .. } = action { Some(*ticket) } else { None });
    let answers = vec![(A, Ok(master)), (B, Ok(peer))];
    let answered = Event::Done(ticket.unwrap(), Outcome::Answers { answers, stalled: false, writes: Writes::NotTried });
    let actions = world.machine.step(answered, world.now);
    assert!(actions.iter().any(|action| matches!(action, Action::Hold { .. })), "{actions:?}");
}

/// Each with the binary logs of those that could send it.
#[test]
fn what_others_may_have_from_a_server() {
    let mut world = World::new(1);
    let plain = |world: &World, n| mariadb(world, n, ["0-1-10", "0-1-10", ""]);
    let all = [plain(&world, 0), plain(&world, 1), plain(&world, 2)];
    after_the_end_of(&mut world, all);
    for (binlogs, set, left) in [
        (&["0-1-10"][..], "0-1-10,5-77-900", "0-1-10"),
        (&["0-1-10,5-77-900"], "0-1-10,5-77-900", "0-1-10,5-77-900"),
        (&["0-1-10", "5-77-1"], "0-1-10,5-77-900", "0-1-10,5-77-900"),
        // Not in its log, where it does not log what it replicates; but one of the file's servers wrote it.
        (&["1-1-10"], "0-2-10,1-1-10", "0-2-10,1-1-10"),
        (&[""], "0-2-10,5-77-900", "0-2-10"),
    ] {
        let senders: Vec<Facts> = binlogs.iter().map(|binlog| mariadb(&world, 0, [set, binlog, ""])).collect();
        let parsed = GtidSet::parse(Flavor::MariaDb, set).unwrap();
        assert_eq!(world.snapshot.followable(senders.iter(), parsed).to_string(), left, "{set} by {binlogs:?}");
    }
    let mysql = GtidSet::MySql(MySqlSet::one(Origin { uuid: uuid(70), tag: Tag::default() }, 5));
    assert_eq!(world.snapshot.followable(std::iter::empty(), mysql.clone()), mysql);
}

/// Harm: after a start of the proxy a peer that had come back writable was taken for the master, and the replica that was master was quarantined.
#[test]
fn a_replica_that_is_master_stays_so_beside_a_peer_that_came_back_writable() {
    let mut world = super::stories::configured(true);
    let of = |n, number| MySqlSet::one(Origin { uuid: uuid(n), tag: Tag::default() }, number);
    for n in 0..4 {
        world.servers[n].executed.merge(&of(0, 9));
        // db3 had taken over, and all but db1 followed it.
        if n != 0 {
            world.servers[n].executed.merge(&of(2, 5));
            world.servers[n].source = 2;
        }
    }
    (world.servers[2].source, world.servers[2].io, world.servers[2].sql) = (0, false, false);
    (world.servers[0].io, world.servers[0].sql) = (false, false);
    world.servers[2].read_only = false;
    let look = |world: &mut World| {
        for _ in 0..2 {
            world.now += ms(10);
            let seen = (0..4).map(|n| Observation::from_monitor(ServerId(n as u16), world.now, world.now, world.look(n))).collect();
            world.judge(seen);
        }
    };
    look(&mut world);
    assert_eq!(world.snapshot.master, None);
    let detail = &world.snapshot.no_master.as_ref().unwrap().detail;
    assert!(detail.contains("db3 was master after it"), "{detail}");
    let begun = world.machine.step(Event::Seen(world.snapshot.clone()), world.now);
    assert!(begun.iter().any(|action| matches!(action, Action::Ask { .. })), "{begun:?}");
    let answers = (0..4).map(|n| (ServerId(n as u16), world.look(n))).collect();
    let ticket = world.machine.last_ticket();
    world.step(Event::Done(ticket, Outcome::Answers { answers, stalled: false, writes: Writes::NotTried }));
    look(&mut world);
    assert_eq!(world.snapshot.writer().map(|view| view.id), Some(C), "{:?}", world.told);
    let fenced = world.machine.step(Event::Seen(world.snapshot.clone()), world.now);
    assert!(fenced.iter().any(|action| matches!(action, Action::Fence { server: A, .. })), "{fenced:?}");
    assert!(!fenced.iter().any(|action| matches!(action, Action::Fence { server: C, .. })), "{fenced:?}");
}

/// Harm: a peer whose receiver had connected in vain for minutes, while the master lived, was promoted at once and without a word from anybody.
#[test]
fn one_that_has_not_received_for_a_minute_does_not_count_as_following() {
    use ThreadState::{Connecting, Running, Stopped};
    for (state, later, stale) in
        [(Running, 61_000, false), (Stopped, 61_000, true), (Connecting, 61_000, true), (Connecting, 30_000, false)]
    {
        let mut world = World::new(1);
        let all = |world: &World| {
            let mut peer = world.facts(1);
            peer.replication[0].io_running = state;
            [world.facts(0), peer, world.facts(2)]
        };
        let facts = all(&world);
        after_the_end_of(&mut world, facts);
        world.now += ms(later);
        let facts = all(&world);
        after_the_end_of(&mut world, facts);
        assert_eq!(world.machine.tending.stale(world.now).contains(&B), stale, "{state:?} for {later} ms");
    }
}
