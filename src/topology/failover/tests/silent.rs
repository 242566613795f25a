//! Single histories of a master that is silent or cannot write.

use super::stories::*;
use super::*;

/// The master is frozen, and a replica has more of it than its peer: replicas were told to connect to it anew, the peer was spared that.
fn frozen() -> World {
    let mut world = running();
    world.servers[0].frozen = true;
    world.servers[2].executed.merge(&one_of_the_master(20));
    world.now += ms(1050);
    world.judge(others(&world));
    let seen = Event::Seen(world.snapshot.clone());
    let actions = step(&mut world, seen);
    let spare = actions.iter().find_map(|a| if let Action::Ask { spare, .. } = a { Some(spare.clone()) } else { None });
    assert_eq!(spare, Some(vec![B]), "{actions:?}");
    world
}

#[test]
fn a_peer_connects_anew_unless_it_will_have_to_fetch_from_a_replica() {
    let mut world = running();
    let spared_now = |world: &World| (0..4).filter(|n| spared(&world.snapshot, ServerId(*n), A)).collect::<Vec<_>>();
    assert_eq!(spared_now(&world), [] as [u16; 0], "all have the same");
    world.servers[1].executed.merge(&one_of_the_master(20));
    world.judge(others(&world));
    assert_eq!(spared_now(&world), [] as [u16; 0], "it has more itself");
    world.servers[2].executed.merge(&one_of_the_master(21));
    world.judge(others(&world));
    assert_eq!(spared_now(&world), [1]);
}

/// The answers when those that are not spared try in vain.
fn tried_anew(world: &mut World, ticket: Ticket) -> Event {
    let answers = (0..4).map(|n| {
        let mut answer = world.look(n);
        for channel in answer.iter_mut().flat_map(|facts| &mut facts.replication).filter(|_| n > 1) {
            channel.io_running = ThreadState::Connecting;
        }
        (ServerId(n as u16), answer)
    });
    Event::Done(ticket, Outcome::Answers { answers: answers.collect(), stalled: false, writes: Writes::NotTried })
}

/// Harm: a peer whose receiver was connecting to the frozen master could not fetch from a replica what that had more for two seconds.
/// And: what it had when it was asked was taken for what it had when the last answer came, so that another proxy's beats were not seen.
#[test]
fn a_peer_that_was_spared_says_by_what_it_receives_that_the_master_is_dead() {
    let mut world = frozen();
    world.now += ms(340);
    let answer = tried_anew(&mut world, 1);
    assert_eq!(tell(&mut world, Some(answer)), Vec::<&str>::new(), "what it had in the beginning says nothing yet");
    world.now += ms(10);
    assert_eq!(tell(&mut world, None), Vec::<&str>::new(), "another proxy's beat may just be coming");
    world.now += ms(30);
    assert_eq!(tell(&mut world, None), ["ask"]);
    let answer = tried_anew(&mut world, 2);
    assert_eq!(tell(&mut world, Some(answer)), ["depose", "fence", "end open", "ask"]);
}

#[test]
fn where_no_replica_answers_nothing_follows_from_their_silence() {
    let mut world = frozen();
    for n in 2..4 {
        world.servers[n].cut = true;
    }
    world.now += ms(340);
    let answer = tried_anew(&mut world, 1);
    assert_eq!(tell(&mut world, Some(answer)), Vec::<&str>::new(), "its peer may hear from it");
    world.now += ms(200);
    world.judge(Vec::new());
    assert_eq!(tell(&mut world, None), ["ask"]);
    let answer = tried_anew(&mut world, 2);
    assert_eq!(
        tell(&mut world, Some(answer)),
        Vec::<&str>::new(),
        "its peer claims to hear from it, and received something half a second ago"
    );
    world.now += ms(1_000);
    world.judge(Vec::new());
    assert_eq!(tell(&mut world, None), ["ask"]);
    let answer = tried_anew(&mut world, 3);
    assert_eq!(tell(&mut world, Some(answer)), ["depose", "fence", "end open", "ask"], "down, and nobody writes to it");
}

#[test]
fn a_peer_that_was_spared_and_receives_something_is_heard() {
    let mut world = frozen();
    for ticket in 1..8 {
        world.now += ms(340);
        let answer = tried_anew(&mut world, ticket);
        assert_eq!(tell(&mut world, Some(answer)), Vec::<&str>::new(), "somebody writes to it, by another way than ours");
        // Another proxy's beat, later than the answer.
        world.servers[1].executed.merge(&one_of_the_master(30 + ticket));
        world.now += ms(380);
        world.judge(others(&world));
        assert_eq!(tell(&mut world, None), ["ask"]);
    }
}

/// Harm: on a busy machine nobody had answered for a second after the start; the standby, which did first, took the place of a master that it received from,
/// and both were writable.
#[test]
fn a_master_that_has_not_answered_since_the_start_is_asked_about_before_another_takes_its_place() {
    let mut world = configured(false);
    let all = |world: &mut World, cut: bool| world.servers.iter_mut().for_each(|server| server.cut = cut);
    all(&mut world, true);
    world.now += ms(990);
    look_around(&mut world);
    assert_eq!(tell(&mut world, None), ["depose", "ask"]);
    world.servers[1].cut = false;
    let answer = newest(&mut world);
    let actions = step(&mut world, answer);
    assert!(actions.iter().any(|action| matches!(action, Action::Ask { probe: Some(A), .. })), "{actions:?}");
    let answer = newest(&mut world);
    assert_eq!(tell(&mut world, Some(answer)), Vec::<&str>::new(), "the standby receives from it");
    all(&mut world, false);
    look_around(&mut world);
    world.now += ms(100);
    assert_eq!(tell(&mut world, None), ["ask"]);
    let answer = newest(&mut world);
    assert_eq!(tell(&mut world, Some(answer)), ["release"]);
    world.judge(Vec::new());
    assert_eq!(world.snapshot.master, Some(A));
}

/// The master's heartbeat does not come back, and it was asked for another write.
fn cannot_write() -> World {
    let mut world = running();
    world.servers[0].blocked = Some(world.now);
    world.memory.beat_failed(ServerId(0), world.now, "no answer in time".to_owned());
    assert_eq!(tell(&mut world, None), Vec::<&str>::new());
    world.now += ms(700);
    look_around(&mut world);
    assert_eq!(tell(&mut world, None), ["ask"], "and nothing is held for it");
    world
}

fn tried(world: &mut World, ticket: Ticket, writes: Writes) -> Event {
    match answers(world, ticket) {
        Event::Done(ticket, Outcome::Answers { answers, .. }) => {
            Event::Done(ticket, Outcome::Answers { answers, stalled: false, writes })
        }
        other => other,
    }
}

#[test]
fn a_master_that_cannot_write_is_replaced_whether_it_can_be_fenced_or_not() {
    for fenced in [true, false] {
        let mut world = cannot_write();
        let blocked = tried(&mut world, 1, Writes::Blocked("no answer in time".to_owned()));
        assert_eq!(tell(&mut world, Some(blocked)), ["depose", "fence", "end open"]);
        if fenced {
            world.servers[0].read_only = true;
            let done = acted(&world, 2, 0);
            assert_eq!(tell(&mut world, Some(done)), ["ask"]);
        } else {
            world.now += ms(500);
            assert_eq!(tell(&mut world, Some(Event::Tick)), ["ask"]);
        }
        let answer = answers(&mut world, 3);
        assert_eq!(tell(&mut world, Some(answer)), ["promote"], "fenced {fenced}");
        world.servers[1].read_only = false;
        let done = acted(&world, 4, 1);
        assert_eq!(tell(&mut world, Some(done)), ["release", "repoint", "repoint", "ok"]);
    }
}

/// Bug: it was taken for one that cannot write, and need not be fenced, after it had started anew: another was made master beside it.
#[test]
fn a_master_that_could_not_write_and_has_started_anew_is_one_that_writes() {
    let mut world = cannot_write();
    let blocked = tried(&mut world, 1, Writes::Blocked("no answer in time".to_owned()));
    tell(&mut world, Some(blocked));
    world.servers[0].read_only = true;
    let done = acted(&world, 2, 0);
    assert_eq!(tell(&mut world, Some(done)), ["ask"]);
    (world.servers[0].blocked, world.servers[0].read_only) = (None, false);
    world.servers[0].restarts += 1;
    let answer = answers(&mut world, 3);
    let actions = step(&mut world, answer);
    assert!(actions.iter().any(|action| matches!(action, Action::Promote { server: A, .. })), "{actions:?}");
}

/// Harm: six tenths of a second of silence on a busy machine, in which the heartbeat's write did not come back, cost the master its place.
#[test]
fn a_master_that_did_not_write_and_now_does_not_answer_is_silent_and_no_more() {
    let mut world = cannot_write();
    world.servers[0].cut = true;
    let answer = newest(&mut world);
    assert_eq!(tell(&mut world, Some(answer)), Vec::<&str>::new(), "nothing is held");
    assert_eq!(world.machine.phase_name(), "idle");
    // For too long.
    world.now += ms(1_100);
    world.judge(others(&world));
    assert_eq!(tell(&mut world, None), ["hold", "ask"]);
}

/// Harm: a purge of a hundred megabytes was written to the binary log for more than a second, and the master was replaced for it.
#[test]
fn a_large_commit_is_given_time() {
    let mut world = cannot_write();
    let large = Writes::Committing("thread 7 commits 100000 rows".to_owned());
    for second in 0..31 {
        let ticket = world.machine.last_ticket();
        let answer = tried(&mut world, ticket, large.clone());
        let done = tell(&mut world, Some(answer));
        if second < 29 {
            assert_eq!(done, Vec::<&str>::new(), "after {second} s");
        } else if done == ["depose", "fence", "end open"] {
            return;
        }
        world.now += ms(1_000);
        look_around(&mut world);
        assert_eq!(tell(&mut world, None), ["ask"]);
    }
    panic!("it is waited for without an end");
}

#[test]
fn a_master_that_cannot_write_and_that_nobody_can_replace_is_let_alone() {
    let mut world = cannot_write();
    world.servers[1].up = false;
    look_around(&mut world);
    tell(&mut world, None);
    let answer = tried(&mut world, 1, Writes::Blocked("no answer in time".to_owned()));
    assert_eq!(tell(&mut world, Some(answer)), Vec::<&str>::new());
}

#[test]
fn a_stall_of_our_own_is_no_proof_that_a_master_cannot_write() {
    let mut world = cannot_write();
    let Event::Done(ticket, Outcome::Answers { answers, .. }) = answers(&mut world, 1) else { unreachable!("answers") };
    let writes = Writes::Blocked("no answer in time".to_owned());
    let stalled = Event::Done(ticket, Outcome::Answers { answers, stalled: true, writes: writes.clone() });
    assert_eq!(tell(&mut world, Some(stalled)), Vec::<&str>::new());
    world.now += ms(110);
    assert_eq!(tell(&mut world, Some(Event::Tick)), ["ask"], "and it is asked again soon");
    let blocked = tried(&mut world, 2, writes);
    assert_eq!(tell(&mut world, Some(blocked)), ["depose", "fence", "end open"]);
}

#[test]
fn a_heartbeat_alone_that_does_not_come_back_replaces_nobody() {
    let unclear = Writes::Unclear("somebody has locked the table".to_owned());
    for writes in [Writes::Work, unclear, Writes::Locked("a client of ours makes a backup".to_owned())] {
        let mut world = cannot_write();
        let answer = tried(&mut world, 1, writes.clone());
        assert_eq!(tell(&mut world, Some(answer)), Vec::<&str>::new(), "{writes:?}");
        assert_eq!((world.machine.phase_name(), world.snapshot.writer().map(|view| view.id)), ("idle", Some(A)));
        assert_eq!(tell(&mut world, Some(Event::Tick)), Vec::<&str>::new(), "it is not asked again at once");
    }
}

/// Harm: what a switchover of another proxy waits for at the master, a rollback or somebody's ALTER, made this one promote its peer beside it.
#[test]
fn a_master_that_somebody_is_making_read_only_is_given_time() {
    let mut world = running();
    world.servers[0].pending = true;
    look_around(&mut world);
    tell(&mut world, None);
    world.memory.beat_failed(ServerId(0), world.now, "no answer in time".to_owned());
    for second in 1..20 {
        world.now += ms(1_000);
        look_around(&mut world);
        match tell(&mut world, None).as_slice() {
            [] => assert!(second < 12, "it is waited for without an end"),
            ["ask"] => return assert!(second >= 10, "after {second} s"),
            other => panic!("{other:?}"),
        }
    }
}

/// Harm: where a commit hung at the old master, so that it could not become read-only, a failover by force was tried again without an end.
#[test]
fn by_force_a_master_is_replaced_that_cannot_be_made_read_only() {
    let mut world = running();
    let began = tell(&mut world, Some(Event::Order(7, Order::Failover { to: B, force: true })));
    assert_eq!(began, ["hold", "depose", "fence", "end open", "ask"]);
    let (mut fences, mut let_go) = (1, false);
    for _ in 0..40 {
        world.now += ms(10);
        let ticket = world.machine.last_ticket();
        let event = if world.machine.phase_name() == "fence" || world.machine.phase_name() == "undo" {
            Event::Done(ticket, Outcome::Acted(Err("no answer in time".to_owned())))
        } else {
            answers(&mut world, ticket)
        };
        let mut actions = step(&mut world, event);
        actions.extend(step(&mut world, Event::Tick));
        fences += actions.iter().filter(|action| matches!(action, Action::Fence { server: A, .. })).count();
        let_go |= actions.iter().any(|action| matches!(action, Action::LetCommit(A)));
        if actions.iter().any(|action| matches!(action, Action::Promote { server: B, .. })) {
            return assert!(fences == 2 && let_go, "{fences} fences, {let_go}");
        }
    }
    panic!("nobody is promoted: {}", world.machine.phase_name());
}

/// Harm: a master that died while it was to hand over was waited for until each step's time was over, and what it took with it was neither named nor
/// counted.
#[test]
fn a_master_that_dies_while_it_hands_over_is_replaced_at_once_and_its_loss_is_named() {
    let mut world = running();
    assert_eq!(tell(&mut world, Some(Event::Order(7, Order::Switchover { to: B, dry_run: false }))), ["ask"]);
    let answer = newest(&mut world);
    assert_eq!(tell(&mut world, Some(answer)), ["hold", "await open"]);
    // Nobody has received its last one.
    world.servers[0].executed.merge(&one_of_the_master(40));
    world.servers[1].io = false;
    look_around(&mut world);
    tell(&mut world, None);
    world.servers[0].up = false;
    look_around(&mut world);
    assert_eq!(tell(&mut world, None), ["reply", "hold", "ask"]);
    let answer = newest(&mut world);
    assert_eq!(tell(&mut world, Some(answer)), ["depose", "fence", "end open", "ask"], "it refuses, and nobody hears from it");
    let lost = (0..20).find_map(|_| {
        world.now += ms(20);
        let answer = newest(&mut world);
        let actions = step(&mut world, answer);
        let lost = |phase: &Phase| if let Phase::Promote { lost, .. } = phase { Some(lost.clone()) } else { None };
        actions.iter().any(|action| matches!(action, Action::Promote { server: B, .. })).then(|| lost(&world.machine.phase))?
    });
    assert_eq!(lost.as_deref(), Some(&*one_of_the_master(40).to_string()));
}

/// Harm: a peer with a delay of an hour, or whose applier waited for a lock, left the cluster without a master for as long, whatever an operator ordered.
#[test]
fn who_applies_nothing_of_what_it_has_received_is_told_and_taken_by_force() {
    let mut world = running();
    world.servers[0].executed.merge(&one_of_the_master(40));
    world.servers[1].relay.merge(&one_of_the_master(40));
    look_around(&mut world);
    tell(&mut world, None);
    world.servers[0].up = false;
    look_around(&mut world);
    tell(&mut world, None);
    let mut told = 0;
    let mut promoted = None;
    for second in 0..30 {
        if second == 20 {
            tell(&mut world, Some(Event::Order(7, Order::Failover { to: B, force: true })));
        }
        for _ in 0..4 {
            world.now += ms(250);
            tell(&mut world, Some(Event::Tick));
            let answer = newest(&mut world);
            let actions = step(&mut world, answer);
            let text = |action: &Action| matches!(action, Action::Tell { detail, .. } if detail.contains("has applied nothing"));
            told += actions.iter().filter(|action| text(action)).count();
            let found = actions.iter().find_map(|a| if let Action::Promote { as_it_is, .. } = a { Some(*as_it_is) } else { None });
            promoted = promoted.or(found.map(|as_it_is| (second, as_it_is)));
        }
        assert!(promoted.is_none() || second >= 20, "nobody has ordered that");
    }
    assert_eq!((told, promoted.map(|(_, as_it_is)| as_it_is)), (1, Some(true)), "{promoted:?}");
}

/// Harm: the link to the master broke in the middle of a switchover, and the peer was promoted beside it while another proxy went on writing there.
#[test]
fn a_master_that_is_out_of_reach_while_it_hands_over_stays_while_somebody_writes_to_it() {
    for restores in [false, true] {
        let mut world = running();
        assert_eq!(tell(&mut world, Some(Event::Order(7, Order::Switchover { to: B, dry_run: false }))), ["ask"]);
        let answer = newest(&mut world);
        assert_eq!(tell(&mut world, Some(answer)), ["hold", "await open"]);
        world.servers[0].cut = true;
        let lost = |world: &World| Event::Done(world.machine.last_ticket(), Outcome::Acted(Err("no answer".to_owned())));
        if restores {
            let open = Event::Done(world.machine.last_ticket(), Outcome::Open(0));
            assert_eq!(tell(&mut world, Some(open)), ["fence"]);
            let fence = lost(&world);
            assert_eq!(tell(&mut world, Some(fence)), ["promote"], "back to db1");
            let release = lost(&world);
            assert_eq!(tell(&mut world, Some(release)), ["reply", "hold", "ask"]);
        }
        world.now += ms(1_600);
        world.judge(others(&world));
        assert_eq!(tell(&mut world, None), if restores { vec![] } else { vec!["reply", "hold", "ask"] });
        for number in 50..60 {
            (0..4).for_each(|n| world.servers[n].executed.merge(&one_of_the_master(number)));
            let heard = newest(&mut world);
            assert_eq!(tell(&mut world, Some(heard)), Vec::<&str>::new(), "another proxy's beat {number}, restores {restores}");
            world.now += ms(250);
            world.judge(others(&world));
            assert_eq!(tell(&mut world, None), ["ask"]);
        }
        world.servers[0].cut = false;
        let answer = newest(&mut world);
        assert_eq!(tell(&mut world, Some(answer)), ["release"], "restores {restores}");
    }
}

/// Harm: with a long `heartbeat_timeout` the write that was to tell came back after its question was given up, and so did every later one.
#[test]
fn a_write_is_waited_for_as_long_as_it_may_take() {
    let mut world = running();
    world.settings.heartbeat_timeout = ms(30_000);
    world.machine.configure(FailoverSettings { topology: world.settings.clone(), ..world.machine.settings.clone() });
    world.memory.beat_failed(A, world.now, "no answer in time".to_owned());
    world.now += ms(25_000);
    look_around(&mut world);
    assert_eq!(tell(&mut world, None), ["ask"]);
    world.now += ms(22_000);
    look_around(&mut world);
    assert_eq!(tell(&mut world, None), Vec::<&str>::new(), "it has two thirds of it");
    let blocked = tried(&mut world, 1, Writes::Blocked("no answer in time".to_owned()));
    assert_eq!(tell(&mut world, Some(blocked)), ["depose", "fence", "end open"]);
}

/// Harm: replicas that connected in vain in the moment before their master was seen dead counted, a minute later, as cut off from a living one.
#[test]
fn who_connects_in_vain_to_a_dead_master_was_not_cut_off_before() {
    let mut world = running();
    world.servers[0].executed.merge(&one_of_the_master(40));
    look_around(&mut world);
    world.machine.configure(FailoverSettings { mode: Mode::Manual, ..world.machine.settings.clone() });
    tell(&mut world, None);
    world.servers[0].up = false;
    world.judge(others(&world));
    assert!(world.snapshot.writer().is_some(), "its replicas know first");
    tell(&mut world, None);
    look_around(&mut world);
    tell(&mut world, None);
    world.now += ms(70_000);
    look_around(&mut world);
    world.machine.configure(FailoverSettings { mode: Mode::Auto, ..world.machine.settings.clone() });
    assert_eq!(tell(&mut world, None), ["hold", "ask"]);
    let answer = newest(&mut world);
    tell(&mut world, Some(answer));
    let answer = newest(&mut world);
    assert_eq!(tell(&mut world, Some(answer)), ["promote"]);
}

/// Harm: what the master received from a server outside of the file was stopped, again after each START: a peer that had never answered was taken for it.
#[test]
fn what_only_looks_like_a_peer_that_has_never_answered_is_not_stopped() {
    for (what, named, expected) in [("it is named", true, vec!["receive nothing"]), ("another is left", false, vec![])] {
        let mut world = configured(false);
        (world.servers[0].up, world.servers[1].read_only) = (false, false);
        (2..4).for_each(|n| world.servers[n].source = 1);
        for _ in 0..2 {
            world.now += ms(10);
            let look = |n: u16| {
                let mut said = world.look(usize::from(n));
                if let (1, false, Ok(facts)) = (n, named, &mut said) {
                    facts.replication[0].source_host = "legacy".to_owned();
                    facts.replication[0].source_uuid = uuid_text(77);
                }
                Observation::from_monitor(ServerId(n), world.now, world.now, said)
            };
            let seen = (0..4).map(look).collect();
            world.judge(seen);
        }
        assert_eq!(world.snapshot.writer().map(|view| view.id), Some(B));
        let channel = world.snapshot.servers[1].facts.as_ref().map(|facts| facts.replication[0].clone()).unwrap();
        assert_eq!(world.snapshot.source_of(&channel), Some(A), "{what}");
        assert_eq!(tell(&mut world, None), expected, "{what}");
    }
}
