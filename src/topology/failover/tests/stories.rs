//! Single histories, step by step, as an operator would tell them.

use super::super::machine::{RECENT_MAX, RECENT_MAX_READY};
use super::*;

pub(super) const A: ServerId = ServerId(0);
pub(super) const B: ServerId = ServerId(1);

/// Servers of which nothing is known yet, with `auto`.
pub(super) fn configured(promote_replicas: bool) -> World {
    let mut world = World::new(1);
    world.settings.promote_replicas = promote_replicas;
    let failover = FailoverSettings {
        mode: Mode::Auto,
        topology: world.settings.clone(),
        hold_timeout: ms(10_000),
        max_lost_transactions: None,
    };
    world.machine.configure(failover);
    world
}

/// db1 is master, all is well.
pub(super) fn running() -> World {
    let mut world = configured(false);
    for n in 0..4 {
        for number in 1..=9 {
            let one = MySqlSet::one(Origin { uuid: uuid(0), tag: Tag::default() }, number);
            world.servers[n].executed.merge(&one);
        }
    }
    look_around(&mut world);
    assert_eq!(world.snapshot.master, Some(A));
    assert_eq!(tell(&mut world, None), Vec::<&str>::new());
    world
}

pub(super) fn look_around(world: &mut World) {
    for _ in 0..2 {
        world.now += ms(10);
        let seen = (0..4).map(|n| Observation::from_monitor(ServerId(n as u16), world.now, world.now, world.look(n))).collect();
        world.judge(seen);
    }
}

pub(super) fn step(world: &mut World, event: Event) -> Vec<Action> {
    world.now += ms(10);
    let actions = world.machine.step(event, world.now);
    for action in &actions {
        match action {
            Action::Hold { why, deposed } => world.memory.hold(Hold { why: why.as_str().into(), deposed: *deposed }),
            Action::Release(master) => world.memory.release(*master),
            _ => {}
        }
    }
    actions
}

/// The names of what is done when this is seen, or told, without the events.
pub(super) fn tell(world: &mut World, event: Option<Event>) -> Vec<&'static str> {
    let event = event.unwrap_or_else(|| Event::Seen(world.snapshot.clone()));
    step(world, event).iter().filter_map(name).collect()
}

pub(super) fn name(action: &Action) -> Option<&'static str> {
    Some(match action {
        Action::Hold { deposed: false, .. } => "hold",
        Action::Hold { deposed: true, .. } => "depose",
        Action::Release(_) => "release",
        Action::Ask { .. } => "ask",
        Action::AwaitOpen { .. } => "await open",
        Action::EndOpen(_) => "end open",
        Action::Fence { .. } => "fence",
        Action::Follow { .. } => "follow",
        Action::Promote { .. } => "promote",
        Action::Repoint { .. } => "repoint",
        Action::Receiver { on: true, .. } => "receive",
        Action::Receiver { on: false, .. } => "receive nothing",
        Action::Accept(_) => "accept",
        Action::Count { result, .. } => result,
        Action::Reply(..) => "reply",
        Action::LetCommit(_) | Action::Tell { .. } => return None,
    })
}

/// The answers to the last question, as the servers are.
pub(super) fn answers(world: &mut World, ticket: Ticket) -> Event {
    let answers = (0..4).map(|n| (ServerId(n as u16), world.look(n))).collect();
    Event::Done(ticket, Outcome::Answers { answers, stalled: false, writes: Writes::NotTried })
}

/// The same, to whatever was asked last.
pub(super) fn newest(world: &mut World) -> Event {
    let ticket = world.machine.last_ticket();
    answers(world, ticket)
}

pub(super) fn acted(world: &World, ticket: Ticket, n: usize) -> Event {
    Event::Done(ticket, Outcome::Acted(Ok(Box::new(world.facts(n)))))
}

/// The master crashes and was asked about.
pub(super) fn crashed(world: &mut World) -> Ticket {
    world.servers[0].up = false;
    look_around(world);
    assert_eq!(tell(world, None), ["hold", "ask"]);
    1
}

pub(super) fn one_of_the_master(number: u64) -> MySqlSet {
    MySqlSet::one(Origin { uuid: uuid(0), tag: Tag::default() }, number)
}

#[test]
fn a_crash_from_hold_to_release() {
    let mut world = running();
    let ticket = crashed(&mut world);
    let answer = answers(&mut world, ticket);
    assert_eq!(tell(&mut world, Some(answer)), ["depose", "fence", "end open", "ask"]);
    let answer = answers(&mut world, 3);
    let actions = step(&mut world, answer);
    let promote = actions.iter().find_map(|a| {
        if let Action::Promote { ticket, server, stop_from, .. } = a { Some((*ticket, *server, stop_from.len())) } else { None }
    });
    assert_eq!(promote, Some((4, B, 3)), "{actions:?}");
    // None of the survivors waits for the dead one to acknowledge something.
    let let_go: Vec<u16> = actions.iter().filter_map(|a| if let Action::LetCommit(id) = a { Some(id.0) } else { None }).collect();
    assert_eq!(let_go, [1, 2, 3], "{actions:?}");
    world.servers[1].read_only = false;
    let done = acted(&world, 4, 1);
    assert_eq!(tell(&mut world, Some(done)), ["release", "repoint", "repoint", "ok"]);
    look_around(&mut world);
    assert_eq!(world.snapshot.writer().map(|view| view.id), Some(B));
}

/// The master is out of this proxy's reach, and was asked about when it had been silent for long enough.
fn out_of_reach() -> World {
    let mut world = running();
    world.servers[0].cut = true;
    world.now += ms(1050);
    world.judge(others(&world));
    assert_eq!(tell(&mut world, None), ["hold", "ask"]);
    world
}

pub(super) fn others(world: &World) -> Vec<Observation> {
    (1..4).map(|n| Observation::from_monitor(ServerId(n as u16), world.now, world.now, world.look(n))).collect()
}

#[test]
fn a_master_that_only_its_replicas_hear_from_is_replaced_when_nobody_writes_to_it() {
    let mut world = out_of_reach();
    let heard = answers(&mut world, 1);
    assert_eq!(tell(&mut world, Some(heard)), Vec::<&str>::new(), "not yet");
    assert_eq!(world.machine.phase_name(), "second_opinion");
    world.now += ms(500);
    world.judge(others(&world));
    assert_eq!(tell(&mut world, None), ["ask"]);
    let heard = answers(&mut world, 2);
    assert_eq!(tell(&mut world, Some(heard)), ["depose", "fence", "end open", "ask"]);
}

#[test]
fn a_master_that_only_its_replicas_hear_from_stays_while_somebody_writes_to_it() {
    let mut world = out_of_reach();
    for ticket in 1..20 {
        // Another proxy's heartbeat.
        for n in 0..4 {
            let one = MySqlSet::one(Origin { uuid: uuid(0), tag: Tag::default() }, 20 + ticket);
            world.servers[n].executed.merge(&one);
        }
        let heard = answers(&mut world, ticket);
        assert_eq!(tell(&mut world, Some(heard)), Vec::<&str>::new(), "answer {ticket}");
        world.now += ms(250);
        world.judge(others(&world));
        assert_eq!(tell(&mut world, None), ["ask"]);
    }
    world.servers[0].cut = false;
    let answer = answers(&mut world, 20);
    assert_eq!(tell(&mut world, Some(answer)), ["release"], "and now it answers");
}

/// Harm: one beat of another proxy that came an eighth of a second late made two masters.
#[test]
fn a_late_beat_of_another_proxy_does_not_cost_the_master_its_place() {
    let mut world = out_of_reach();
    for ticket in 1..10 {
        for n in 0..4 {
            world.servers[n].executed.merge(&one_of_the_master(20 + ticket));
        }
        let heard = answers(&mut world, ticket);
        assert_eq!(tell(&mut world, Some(heard)), Vec::<&str>::new(), "answer {ticket}");
        world.now += ms(700);
        world.judge(others(&world));
        assert_eq!(tell(&mut world, None), ["ask"]);
    }
}

/// Harm: what somebody had written on a replica was fetched by the next master, or stopped its applier, and then nobody took over any more.
#[test]
fn what_a_replica_wrote_itself_is_nothing_that_the_next_master_lacks() {
    let mut world = running();
    let own = |n: usize, number| MySqlSet::one(Origin { uuid: uuid(n), tag: Tag::default() }, number);
    world.servers[2].executed.merge(&own(2, 1));
    look_around(&mut world);
    tell(&mut world, None);
    assert!(world.snapshot.servers[2].errant.is_some());
    let ticket = crashed(&mut world);
    let answer = answers(&mut world, ticket);
    tell(&mut world, Some(answer));
    let answer = answers(&mut world, 3);
    assert_eq!(tell(&mut world, Some(answer)), ["promote"]);

    // Both replicas have what the peer lacks of the master: it is fetched from the one that has nothing of its own.
    let mut world = running();
    world.servers[2].executed.merge(&own(2, 1));
    look_around(&mut world);
    for n in [0, 2, 3] {
        world.servers[n].executed.merge(&one_of_the_master(10));
    }
    tell(&mut world, None);
    let ticket = crashed(&mut world);
    let answer = answers(&mut world, ticket);
    tell(&mut world, Some(answer));
    let answer = answers(&mut world, 3);
    let actions = step(&mut world, answer);
    let from = actions.iter().find_map(|a| if let Action::Repoint { to, .. } = a { Some(*to) } else { None });
    assert_eq!(from, Some(ServerId(3)), "{actions:?}");
    // What it fetched cannot be applied there: it is left, and named.
    world.servers[1].relay.merge(&one_of_the_master(10));
    world.servers[1].sql = false;
    for _ in 0..3 {
        world.now += ms(300);
        tell(&mut world, Some(Event::Tick));
        let answer = newest(&mut world);
        let actions = step(&mut world, answer);
        if actions.iter().any(|action| matches!(action, Action::Promote { server: B, as_it_is: true, .. })) {
            return;
        }
    }
    panic!("nobody takes over: {}", world.machine.phase_name());
}

/// A replica has received the newest of the dead master and has not applied it; the peer is asked until it is promoted or told to fetch.
fn a_replica_is_ahead(world: &mut World, mut each_time: impl FnMut(&mut World)) -> Vec<Action> {
    world.servers[2].relay.merge(&one_of_the_master(10));
    let ticket = crashed(world);
    let answer = answers(world, ticket);
    tell(world, Some(answer));
    for _ in 0..2_000 {
        let answer = newest(world);
        let actions = step(world, answer);
        if actions.iter().any(|action| matches!(action, Action::Promote { .. } | Action::Repoint { .. })) {
            return actions;
        }
        each_time(world);
        world.now += ms(20);
        tell(world, Some(Event::Tick));
    }
    panic!("nobody takes over: {}", world.machine.phase_name());
}

/// Harm: a commit that waited for its acknowledgement on the dead master was in no set of GTIDs when that came back; the new master fetched it, and with its rows
/// overwrote what clients had written since.
#[test]
fn a_former_master_commits_what_waits_there_before_anybody_fetches_from_it() {
    let mut world = running();
    world.settings.promote_replicas = false;
    let first = crashed(&mut world);
    let answer = answers(&mut world, first);
    tell(&mut world, Some(answer));
    let promotes = (0..20).any(|_| {
        world.now += ms(20);
        tell(&mut world, Some(Event::Tick));
        let answer = newest(&mut world);
        step(&mut world, answer).iter().any(|action| matches!(action, Action::Promote { server: B, .. }))
    });
    assert!(promotes, "{}", world.machine.phase_name());
    world.servers[1].read_only = false;
    (world.servers[1].io, world.servers[1].sql) = (false, false);
    let done = acted(&world, world.machine.last_ticket(), 1);
    step(&mut world, done);
    // It comes back read-only, replicates, and shows nothing of its own.
    let old = &mut world.servers[0];
    (old.up, old.read_only, old.source, old.io, old.sql) = (true, true, 1, true, true);
    look_around(&mut world);
    let seen = Event::Seen(world.snapshot.clone());
    let actions = step(&mut world, seen);
    assert!(actions.iter().any(|action| matches!(action, Action::LetCommit(A))), "{actions:?}");
    assert!(!actions.iter().any(|action| matches!(action, Action::Receiver { on: true, .. })), "{actions:?}");
    // A second later what is known of it is newer than that.
    world.now += ms(1_100);
    look_around(&mut world);
    let seen = Event::Seen(world.snapshot.clone());
    let actions = step(&mut world, seen);
    assert!(!actions.iter().any(|action| matches!(action, Action::LetCommit(_))), "once is enough: {actions:?}");
    look_around(&mut world);
    let seen = Event::Seen(world.snapshot.clone());
    let more = step(&mut world, seen);
    let receives = |action: &Action| matches!(action, Action::Receiver { server: B, from: A, on: true, .. });
    assert!(actions.iter().chain(&more).any(receives), "{actions:?} {more:?}");
}

/// Harm: a peer that came back writable was not fenced while each of its answers was newer than the question to the master.
#[test]
fn one_that_is_writable_beside_the_master_is_seen_whatever_the_order_of_their_answers() {
    let mut world = running();
    world.servers[1].read_only = false;
    for round in 0..3 {
        world.now += ms(250);
        let peer = Observation::from_monitor(B, world.now - ms(5), world.now, world.look(1));
        world.judge(vec![peer]);
        // It was asked before that answer came, and always is.
        let master = Observation::from_monitor(A, world.now - ms(60), world.now, world.look(0));
        world.judge(vec![master]);
        assert_eq!(world.snapshot.servers[1].beside, round > 0, "round {round}");
    }
}

/// Harm: a delayed replica was waited for until it had applied what it had received, an hour later.
#[test]
fn a_survivor_that_applies_late_is_waited_for_and_not_for_long() {
    let mut world = running();
    // In a moment.
    let begun = world.now;
    let actions = a_replica_is_ahead(&mut world, |world| {
        if world.now - begun > ms(1_000) {
            world.servers[2].executed.merge(&one_of_the_master(10));
        }
    });
    let from = actions.iter().find_map(|a| if let Action::Repoint { server: B, to, .. } = a { Some(*to) } else { None });
    assert_eq!(from, Some(ServerId(2)), "{actions:?}");
    assert!(world.now - begun < ms(1_500));
    // It cannot fetch, and says so: it is tried a few times, and no longer.
    world.servers[1].source = 2;
    let begun = world.now;
    let mut tries = 0;
    for _ in 0..40 {
        let done = acted(&world, world.machine.last_ticket(), 1);
        tell(&mut world, Some(done));
        world.now += ms(20);
        tell(&mut world, Some(Event::Tick));
        let Event::Done(ticket, Outcome::Answers { mut answers, .. }) = newest(&mut world) else { unreachable!("answers") };
        if let Ok(facts) = &mut answers[1].1 {
            facts.replication[0].io_running = ThreadState::Stopped;
            facts.replication[0].last_io_error = "1236 purged".to_owned();
        }
        let answered = Event::Done(ticket, Outcome::Answers { answers, stalled: false, writes: Writes::NotTried });
        let actions = step(&mut world, answered);
        tries += actions.iter().filter(|action| matches!(action, Action::Repoint { .. })).count();
        if actions.iter().any(|action| matches!(action, Action::Promote { .. })) {
            break;
        }
        assert!(world.now - begun < ms(2_000), "{}", world.machine.phase_name());
    }
    assert_eq!(tries, 4);

    // One by one, each of which takes long.
    let mut world = running();
    (11..14).for_each(|number| world.servers[2].relay.merge(&one_of_the_master(number)));
    let begun = world.now;
    let actions = a_replica_is_ahead(&mut world, |world| {
        let applied = (world.now - begun).as_secs() / 8;
        (10..10 + applied).for_each(|number| world.servers[2].executed.merge(&one_of_the_master(number)));
    });
    assert!(actions.iter().any(|action| matches!(action, Action::Repoint { server: B, .. })), "{actions:?}");
    assert!(world.now - begun > ms(30_000), "what a survivor has is not given up while it applies");

    // Not at all.
    let mut world = running();
    let begun = world.now;
    let actions = a_replica_is_ahead(&mut world, |_| {});
    assert!(actions.iter().any(|action| matches!(action, Action::Promote { server: B, .. })), "{actions:?}");
    assert!(world.now - begun > ms(10_000) && world.now - begun < ms(12_000));

    // Not at all, and somebody goes on writing there.
    let mut world = running();
    let begun = world.now;
    let mut own = 0;
    let actions = a_replica_is_ahead(&mut world, |world| {
        own += 1;
        world.servers[2].executed.merge(&MySqlSet::one(Origin { uuid: uuid(2), tag: Tag::default() }, own));
    });
    let goes_on = |action: &Action| matches!(action, Action::Promote { server: B, .. } | Action::Repoint { server: B, .. });
    assert!(actions.iter().any(goes_on), "{actions:?}");
    assert!(world.now - begun < ms(12_000));

    // In an hour, on purpose.
    let mut world = running();
    world.servers[2].delay = 3_600;
    let begun = world.now;
    let actions = a_replica_is_ahead(&mut world, |_| {});
    assert!(actions.iter().any(|action| matches!(action, Action::Promote { server: B, .. })), "{actions:?}");
    assert!(world.now - begun < ms(500));
    world.servers[1].read_only = false;
    let done = acted(&world, world.machine.last_ticket(), 1);
    let actions = step(&mut world, done);
    let named = |action: &Action| matches!(action, Action::Tell { detail, .. } if detail.contains("lost with db1: 00000000-0000-0000-0000-000000000001:10"));
    assert!(actions.iter().any(named), "{actions:?}");

    // Its applier is stopped.
    let mut world = running();
    world.servers[2].sql = false;
    let begun = world.now;
    let actions = a_replica_is_ahead(&mut world, |_| {});
    assert!(actions.iter().any(|action| matches!(action, Action::Promote { server: B, .. })), "{actions:?}");
    assert!(world.now - begun < ms(500), "nothing can be had there");
}

/// Harm: a standby that had started anew and was not told to replicate stayed so, and was promoted with what it had days ago.
#[test]
fn a_standby_that_starts_anew_replicates_again_and_one_that_does_not_is_not_promoted() {
    let mut world = running();
    let stop = |server: &mut Server| (server.io, server.sql) = (false, false);
    stop(&mut world.servers[1]);
    look_around(&mut world);
    assert_eq!(tell(&mut world, None), Vec::<&str>::new(), "an operator stopped it");
    let mut world = running();
    stop(&mut world.servers[1]);
    world.servers[1].restarts += 1;
    look_around(&mut world);
    assert_eq!(tell(&mut world, None), ["repoint"]);
    assert_eq!(world.snapshot.servers[1].state, State::Lagging);

    // It has not begun to for a minute when the master dies.
    for n in 2..4 {
        world.servers[n].io = false;
    }
    look_around(&mut world);
    tell(&mut world, None);
    world.now += ms(61_000);
    world.servers[0].executed.merge(&one_of_the_master(10));
    look_around(&mut world);
    tell(&mut world, None);
    world.servers[0].up = false;
    look_around(&mut world);
    let seen = Event::Seen(world.snapshot.clone());
    let begun = step(&mut world, seen);
    assert!(begun.iter().any(|action| matches!(action, Action::Ask { .. })), "{begun:?}");
    let answer = newest(&mut world);
    tell(&mut world, Some(answer));
    let answer = newest(&mut world);
    assert_eq!(tell(&mut world, Some(answer)), Vec::<&str>::new());
    assert_eq!(world.machine.phase_name(), "collect");
    assert_eq!(tell(&mut world, Some(Event::Order(7, Order::Failover { to: B, force: true }))), ["ask"]);
    let answer = newest(&mut world);
    assert_eq!(tell(&mut world, Some(answer)), ["promote"]);
}

/// Harm: a replica behind the standby, and the master's own replication, were started again within a second of an operator's STOP.
#[test]
fn what_an_operator_has_stopped_is_left_alone_and_what_we_stopped_is_not() {
    for (n, begins_anew) in [(3, "repoint"), (0, "receive")] {
        let behind_the_standby = || {
            let mut world = running();
            world.servers[n].source = 1;
            look_around(&mut world);
            assert_eq!(tell(&mut world, None), Vec::<&str>::new());
            world
        };
        let stop = |server: &mut Server| (server.io, server.sql) = (false, false);
        let mut world = behind_the_standby();
        stop(&mut world.servers[n]);
        for _ in 0..3 {
            look_around(&mut world);
            assert_eq!(tell(&mut world, None), Vec::<&str>::new(), "db{} was stopped", n + 1);
        }
        // Its next start is no operator's STOP, and neither is what was so before we began.
        world.servers[n].restarts += 1;
        look_around(&mut world);
        assert_eq!(tell(&mut world, None), [begins_anew]);
        let mut world = behind_the_standby();
        stop(&mut world.servers[n]);
        look_around(&mut world);
        world.machine = Machine::new(world.machine.settings.clone(), world.snapshot.clone());
        assert_eq!(tell(&mut world, None), [begins_anew]);
    }
    let mut world = running();
    world.servers[1].up = false;
    look_around(&mut world);
    assert_eq!(tell(&mut world, None), ["receive nothing"]);
    (world.servers[0].io, world.servers[0].sql, world.servers[1].up) = (false, false, true);
    // What it said comes before its answer to the command.
    look_around(&mut world);
    tell(&mut world, None);
    let done = acted(&world, world.machine.last_ticket(), 0);
    assert_eq!(tell(&mut world, Some(done)), ["receive"]);
}

/// Harm: a replication whose thread died at once, by a duplicate key or a binary log that was purged, was started every second for ever.
#[test]
fn what_does_not_keep_running_is_started_less_and_less_often() {
    let mut world = running();
    world.servers[0].relay.merge(&MySqlSet::one(Origin { uuid: uuid(1), tag: Tag::default() }, 1));
    world.servers[0].sql = false;
    let mut starts = 0;
    let mut told = 0;
    for _ in 0..600 {
        world.now += ms(80);
        look_around(&mut world);
        if tell(&mut world, None).contains(&"receive") {
            starts += 1;
            let done = acted(&world, world.machine.last_ticket(), 0);
            told += step(&mut world, done).iter().filter(|action| matches!(action, Action::Tell { .. })).count();
        }
    }
    assert!((4..=7).contains(&starts), "{starts} times in a minute");
    assert_eq!(told, 1, "and it is told once");
}

/// Harm: where servers do not start their replication themselves, one that was taken back was never told to, and its every later stop was taken for ours.
#[test]
fn one_that_an_operator_takes_back_as_it_is_replicates_again() {
    let mut world = running();
    world.servers[1].executed.merge(&MySqlSet::one(Origin { uuid: uuid(1), tag: Tag::default() }, 1));
    world.servers[1].restarts += 1;
    for n in 0..2 {
        (world.servers[n].io, world.servers[n].sql) = (false, false);
    }
    look_around(&mut world);
    tell(&mut world, None);
    assert_eq!(world.snapshot.servers[1].state, State::Quarantined);
    assert_eq!(tell(&mut world, Some(Event::Order(7, Order::Rejoin(B)))), ["accept", "reply"]);
    world.memory.rejoin(B);
    look_around(&mut world);
    assert_eq!(tell(&mut world, None), ["repoint"]);
    (world.servers[1].io, world.servers[1].sql) = (true, true);
    let done = acted(&world, world.machine.last_ticket(), 1);
    tell(&mut world, Some(done));
    // What it had under way shows first.
    world.now += ms(1_100);
    look_around(&mut world);
    assert_eq!(tell(&mut world, None), ["ok"], "and that ends it");
    world.now += ms(1_500);
    (world.servers[1].io, world.servers[1].sql) = (false, false);
    look_around(&mut world);
    assert_eq!(tell(&mut world, None), Vec::<&str>::new());
}

/// Harm: with its peer quarantined and the master dead for good there was no command that made a master.
#[test]
fn where_only_a_quarantined_server_is_left_an_operator_can_force_it() {
    let mut world = running();
    let own = MySqlSet::one(Origin { uuid: uuid(1), tag: Tag::default() }, 1);
    world.servers[1].executed.merge(&own);
    world.servers[0].io = false;
    look_around(&mut world);
    tell(&mut world, None);
    assert_eq!(world.snapshot.servers[1].state, State::Quarantined);
    let ticket = crashed(&mut world);
    let answer = answers(&mut world, ticket);
    tell(&mut world, Some(answer));
    let refused = step(&mut world, Event::Order(7, Order::Failover { to: B, force: false }));
    assert!(matches!(refused.as_slice(), [Action::Reply(7, Err(why))] if why.contains("FORCE")), "{refused:?}");
    assert_eq!(tell(&mut world, Some(Event::Order(8, Order::Failover { to: B, force: true }))), ["ask"]);
    let answer = newest(&mut world);
    assert_eq!(tell(&mut world, Some(answer)), ["promote"]);
    world.servers[1].read_only = false;
    let done = acted(&world, world.machine.last_ticket(), 1);
    tell(&mut world, Some(done));
    look_around(&mut world);
    assert_eq!(world.snapshot.writer().map(|view| view.id), Some(B));
}

/// Another proxy, or an operator, has moved the writes: nothing is done at any server, to semi-synchronous replication neither.
#[test]
fn a_master_that_somebody_else_made_is_adopted_and_nobody_is_touched() {
    let mut world = running();
    (world.servers[0].read_only, world.servers[1].read_only) = (true, false);
    look_around(&mut world);
    let seen = Event::Seen(world.snapshot.clone());
    let mut done: Vec<Action> = step(&mut world, seen);
    for _ in 0..3 {
        let answer = newest(&mut world);
        done.extend(step(&mut world, answer));
    }
    assert!(done.contains(&Action::Release(B)), "{done:?}");
    let touches = |action: &Action| !matches!(name(action), None | Some("hold" | "depose" | "ask" | "release" | "end open" | "ok"));
    let let_go = |action: &Action| matches!(action, Action::LetCommit(_));
    assert!(!done.iter().any(|action| touches(action) || let_go(action)), "{done:?}");
}

/// Harm: the one that another proxy had just made master was fenced, since what was known of the old one was a heartbeat old; then both were read-only,
/// and no proxy took that for its own doing.
#[test]
fn a_master_that_somebody_else_made_is_not_fenced_for_what_the_old_one_said_before() {
    let look = |world: &mut World, n: u16| {
        world.now += ms(10);
        let seen = vec![Observation::from_monitor(ServerId(n), world.now, world.now, world.look(usize::from(n)))];
        world.judge(seen);
    };
    let mut world = running();
    (world.servers[0].read_only, world.servers[1].read_only) = (true, false);
    look(&mut world, 1);
    assert_eq!(tell(&mut world, None), Vec::<&str>::new(), "and its receiver is let run");
    look(&mut world, 0);
    assert_eq!(tell(&mut world, None), ["depose", "ask"]);
    world.servers[1].cut = true;
    let answer = newest(&mut world);
    assert_eq!(tell(&mut world, Some(answer)), Vec::<&str>::new(), "nobody is promoted beside it for one answer that is missing");
    world.servers[1].cut = false;
    world.now += ms(300);
    assert_eq!(tell(&mut world, Some(Event::Tick)), ["ask"]);
    let answer = newest(&mut world);
    assert_eq!(tell(&mut world, Some(answer)), ["release"]);
    look_around(&mut world);
    assert_eq!(world.snapshot.writer().map(|view| view.id), Some(B));

    // One that is writable beside it is fenced as soon as both have said so.
    let mut world = running();
    world.servers[1].read_only = false;
    look(&mut world, 1);
    assert_eq!(tell(&mut world, None), Vec::<&str>::new());
    look(&mut world, 0);
    assert_eq!(tell(&mut world, None), ["fence", "receive nothing"]);
    // And where it was somebody's master after all, nobody stays read-only for it.
    world.servers[0].read_only = true;
    world.servers[1].read_only = true;
    let done = acted(&world, world.machine.last_ticket() - 1, 1);
    tell(&mut world, Some(done));
    look_around(&mut world);
    assert_eq!(tell(&mut world, None), ["hold", "ask"]);
}

/// Harm: a replica that had been promoted, was made read-only for a moment and writable again was never master again: a peer was looked for.
#[test]
fn a_replica_that_was_promoted_is_adopted_again_like_a_peer() {
    let mut world = running();
    let ticket = crashed(&mut world);
    world.servers[1].up = false;
    look_around(&mut world);
    let answer = answers(&mut world, ticket);
    tell(&mut world, Some(answer));
    let to = ServerId(2);
    assert_eq!(tell(&mut world, Some(Event::Order(7, Order::Failover { to, force: false }))), ["ask"]);
    let answer = newest(&mut world);
    assert_eq!(tell(&mut world, Some(answer)), ["promote"]);
    world.servers[2].read_only = false;
    let done = acted(&world, world.machine.last_ticket(), 2);
    assert_eq!(tell(&mut world, Some(done)), ["release", "repoint", "ok", "reply"]);
    look_around(&mut world);
    assert_eq!(world.snapshot.writer().map(|view| view.id), Some(to));
    tell(&mut world, None);
    world.servers[2].read_only = true;
    look_around(&mut world);
    assert_eq!(tell(&mut world, None), Vec::<&str>::new(), "an operator has done that");
    world.servers[2].read_only = false;
    look_around(&mut world);
    assert_eq!(tell(&mut world, None), ["depose", "ask"]);
    let answer = newest(&mut world);
    assert_eq!(tell(&mut world, Some(answer)), ["release"]);
    look_around(&mut world);
    assert_eq!(world.snapshot.writer().map(|view| view.id), Some(to));
}

/// Harm: when all servers had started anew after a failover, this process too, the former master was taken for the master, since it was the
/// writable one, and those that had what was written since were quarantined.
#[test]
fn when_all_start_anew_after_a_failover_the_one_that_took_over_is_master_again() {
    let mut world = World::new(1);
    world.settings.promote_replicas = false;
    for n in 0..4 {
        world.servers[n].executed.merge(&one_of_the_master(9));
        // db2 had taken over, and all followed it.
        world.servers[n].source = usize::from(n != 1);
        if n != 0 {
            world.servers[n].executed.merge(&MySqlSet::one(Origin { uuid: uuid(1), tag: Tag::default() }, 5));
        }
    }
    world.servers[0].io = false;
    world.servers[0].sql = false;
    look_around(&mut world);
    assert_eq!(world.snapshot.master, None, "db1 is writable, and lacks what db2 wrote");
    let detail = &world.snapshot.no_master.as_ref().unwrap().detail;
    assert!(detail.contains("db2 was master after it"), "{detail}");
    tell(&mut world, None);
    let answer = newest(&mut world);
    assert_eq!(tell(&mut world, Some(answer)), ["fence"], "db1 must not be writable any more");
    world.servers[0].read_only = true;
    let done = acted(&world, world.machine.last_ticket(), 0);
    assert_eq!(tell(&mut world, Some(done)), ["ask"]);
    let answer = newest(&mut world);
    let actions = step(&mut world, answer);
    assert!(actions.iter().any(|action| matches!(action, Action::Promote { server: B, .. })), "{actions:?}");
}

#[test]
fn our_own_stall_proves_nothing() {
    let mut world = running();
    world.servers[0].frozen = true;
    world.now += ms(1200);
    let seen = (1..4).map(|n| Observation::from_monitor(ServerId(n as u16), world.now, world.now, world.look(n))).collect();
    world.judge(seen);
    assert_eq!(tell(&mut world, None), ["hold", "ask"]);
    let answers = (0..4).map(|n| (ServerId(n), Err(Failure::QueryTimeout))).collect();
    assert_eq!(
        tell(&mut world, Some(Event::Done(1, Outcome::Answers { answers, stalled: true, writes: Writes::NotTried }))),
        Vec::<&str>::new()
    );
    assert_eq!(world.machine.phase_name(), "second_opinion");
}

#[test]
fn with_zero_losses_allowed_a_lossy_promotion_is_refused_until_it_is_forced() {
    let mut world = running();
    let one = MySqlSet::one(Origin { uuid: uuid(0), tag: Tag::default() }, 10);
    world.servers[0].executed.merge(&one);
    look_around(&mut world);
    tell(&mut world, None);
    world.machine.configure(FailoverSettings {
        mode: Mode::Auto,
        topology: world.settings.clone(),
        hold_timeout: ms(10_000),
        max_lost_transactions: Some(0),
    });
    let ticket = crashed(&mut world);
    let answer = answers(&mut world, ticket);
    tell(&mut world, Some(answer));
    let answer = answers(&mut world, 3);
    assert_eq!(tell(&mut world, Some(answer)), ["refused", "depose"]);
    assert_eq!(world.machine.phase_name(), "refused");
    assert_eq!(tell(&mut world, Some(Event::Order(7, Order::Failover { to: B, force: true }))), ["ask"]);
    let answer = answers(&mut world, 4);
    assert_eq!(tell(&mut world, Some(answer)), ["promote"]);
}

/// Harm: a failover that had begun went on to promote, whatever the file said since.
#[test]
fn a_failover_that_has_promoted_nobody_ends_when_it_is_switched_off() {
    for collecting in [false, true] {
        let mut world = running();
        let ticket = crashed(&mut world);
        if collecting {
            let answer = answers(&mut world, ticket);
            assert_eq!(tell(&mut world, Some(answer)), ["depose", "fence", "end open", "ask"]);
        }
        world.machine.configure(FailoverSettings { mode: Mode::Off, ..world.machine.settings.clone() });
        assert_eq!(tell(&mut world, Some(Event::Tick)), ["release"], "nothing waits for it any more");
        assert_eq!(world.machine.phase_name(), "idle");
        let answer = newest(&mut world);
        assert_eq!(tell(&mut world, Some(answer)), Vec::<&str>::new());
        look_around(&mut world);
        assert_eq!(tell(&mut world, None), Vec::<&str>::new());
        assert!(world.snapshot.hold.is_none() && world.snapshot.writer().is_none());
    }
}

/// Harm: who had given the first command waited for its answer until his client gave up.
#[test]
fn a_second_failover_command_answers_the_first() {
    let mut world = running();
    let ticket = crashed(&mut world);
    let answer = answers(&mut world, ticket);
    tell(&mut world, Some(answer));
    let replies = |actions: Vec<Action>| -> Vec<(OrderId, bool)> {
        actions.iter().filter_map(|a| if let Action::Reply(id, result) = a { Some((*id, result.is_ok())) } else { None }).collect()
    };
    assert_eq!(replies(step(&mut world, Event::Order(7, Order::Failover { to: B, force: false }))), []);
    assert_eq!(replies(step(&mut world, Event::Order(8, Order::Failover { to: B, force: true }))), [(7, false)]);
    let answer = newest(&mut world);
    assert_eq!(tell(&mut world, Some(answer)), ["promote"]);
    world.servers[1].read_only = false;
    let done = acted(&world, world.machine.last_ticket(), 1);
    assert_eq!(replies(step(&mut world, done)), [(8, true)]);
}

#[test]
fn a_switchover_holds_drains_fences_applies_and_promotes() {
    let mut world = running();
    for (order, refusal) in [
        (Order::Switchover { to: A, dry_run: false }, "db1 is the master already"),
        (Order::Switchover { to: ServerId(2), dry_run: true }, "db3 is a replica, and failover.promote_replicas is off"),
        (Order::Failover { to: B, force: false }, "the master db1 is alive: SWITCHOVER TO db2"),
        (Order::Rejoin(B), "db2 is not quarantined, it is online"),
    ] {
        let actions = step(&mut world, Event::Order(1, order.clone()));
        let said = actions.iter().find_map(|a| if let Action::Reply(_, Err(why)) = a { Some(why.clone()) } else { None });
        assert!(said.as_ref().is_some_and(|said| said.starts_with(refusal)), "{order:?}: {said:?}");
    }
    assert_eq!(tell(&mut world, Some(Event::Order(2, Order::Switchover { to: B, dry_run: false }))), ["ask"]);
    let answer = answers(&mut world, 1);
    assert_eq!(tell(&mut world, Some(answer)), ["hold", "await open"]);
    assert_eq!(tell(&mut world, Some(Event::Done(2, Outcome::Open(1)))), ["end open", "fence"]);
    world.servers[0].read_only = true;
    let done = acted(&world, 3, 0);
    assert_eq!(tell(&mut world, Some(done)), ["follow"]);
    let done = acted(&world, 4, 1);
    assert_eq!(tell(&mut world, Some(done)), ["promote"]);
    world.servers[1].read_only = false;
    let done = acted(&world, 5, 1);
    assert_eq!(tell(&mut world, Some(done)), ["release", "repoint", "repoint", "ok", "reply"]);
}

/// Harm: writes were held for as long as the target was behind at that moment, a third of a second when all had just been started.
#[test]
fn a_switchover_waits_for_a_target_that_is_behind_before_it_holds_anything() {
    let mut world = running();
    for number in 10..200 {
        world.servers[0].executed.merge(&one_of_the_master(number));
    }
    assert_eq!(tell(&mut world, Some(Event::Order(2, Order::Switchover { to: B, dry_run: false }))), ["ask"]);
    let answer = newest(&mut world);
    assert_eq!(tell(&mut world, Some(answer)), ["ask"]);
    for number in 10..190 {
        world.servers[1].executed.merge(&one_of_the_master(number));
    }
    let answer = newest(&mut world);
    assert_eq!(tell(&mut world, Some(answer)), ["hold", "await open"]);
    // One that does not come nearer is not waited for.
    let mut world = running();
    for number in 10..200 {
        world.servers[0].executed.merge(&one_of_the_master(number));
    }
    tell(&mut world, Some(Event::Order(2, Order::Switchover { to: B, dry_run: false })));
    world.now += ms(2_000);
    let answer = newest(&mut world);
    assert_eq!(tell(&mut world, Some(answer)), ["hold", "await open"]);
}

#[test]
fn flapping_is_damped() {
    masters_die_in_turn(RECENT_MAX, false);
}

#[test]
fn a_master_is_replaced_again_as_long_as_a_peer_stands_ready() {
    masters_die_in_turn(RECENT_MAX_READY, true);
}

/// Masters die in turn, and come back clean; `most` are replaced, then it waits. `ready`: a peer stands ready the last time, too.
fn masters_die_in_turn(most: usize, ready: bool) {
    let mut world = running();
    let mut ticket = 0;
    for round in 0..=most {
        let (old, new) = if round % 2 == 0 { (0, 1) } else { (1, 0) };
        world.servers[old].up = false;
        if round == most {
            world.servers[new].up = ready;
        }
        look_around(&mut world);
        let begins = tell(&mut world, None);
        if round == most {
            assert_eq!(begins, Vec::<&str>::new(), "it waits");
            continue;
        }
        assert_eq!(begins, ["hold", "ask"], "round {round}");
        let next = |actions: &[Action]| {
            actions.iter().rev().find_map(|action| match action {
                Action::Ask { ticket, .. } | Action::Promote { ticket, .. } => Some(*ticket),
                _ => None,
            })
        };
        // The tickets of the duties in between are not counted here: what matters is the last question.
        for _ in 0..40 {
            ticket += 1;
            let answer = answers(&mut world, ticket);
            let actions = step(&mut world, answer);
            if actions.iter().any(|action| matches!(action, Action::Promote { .. })) {
                ticket = next(&actions).unwrap();
                break;
            }
        }
        world.servers[new].read_only = false;
        let done = acted(&world, ticket, new);
        let actions = step(&mut world, done);
        assert!(actions.iter().any(|action| matches!(action, Action::Release(_))), "round {round}: {actions:?}");
        let servers = &mut world.servers;
        (servers[old].up, servers[old].read_only, servers[old].source) = (true, true, new);
        for n in [2, 3, old] {
            servers[n].source = new;
            (servers[n].io, servers[n].sql) = (true, true);
        }
        look_around(&mut world);
        tell(&mut world, None);
    }
}
