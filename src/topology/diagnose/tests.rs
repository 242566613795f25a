use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::super::diagnosis::Diagnosis;
use super::super::gtid::MariaDbState;
use super::super::lag::Beat;
use super::super::memory::Override;
use super::super::observation::{Facts, Failure, Greeting, ReplicaChannel, Sight, ThreadState};
use super::super::settings::ConfiguredServer;
use super::super::{Flavor, GtidSet};
use super::*;

mod random;

const RUN: u64 = 9;
const A: ServerId = ServerId(0);
const B: ServerId = ServerId(1);
const R: ServerId = ServerId(2);
const S: ServerId = ServerId(3);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn settings() -> Settings {
    let server = |n: u16, role| ConfiguredServer {
        name: Arc::from(format!("db{}", n + 1)),
        address: Arc::from(format!("10.0.0.{}:3306", n + 1)),
        role,
        zone: Arc::from(""),
        weight: 1,
        max_connections: 100,
    };
    use ConfiguredRole::{Master, Replica};
    Settings {
        heartbeat_interval: ms(250),
        heartbeat_timeout: ms(1000),
        max_lag: ms(5000),
        promote_replicas: false,
        servers: vec![server(0, Master), server(1, Master), server(2, Replica), server(3, Replica)],
    }
}

/// A server that replicates from `source` without a flaw.
fn facts(id: ServerId, source: Option<ServerId>, writable: bool) -> Facts {
    let replication = source
        .map(|source| ReplicaChannel {
            source_host: format!("10.0.0.{}", source.0 + 1),
            source_port: 3306,
            source_server_id: u32::from(source.0) + 1,
            io_running: ThreadState::Running,
            sql_running: ThreadState::Running,
            seconds_behind: Some(0),
            ..ReplicaChannel::default()
        })
        .into_iter()
        .collect();
    Facts {
        flavor: Flavor::MariaDb,
        greeting: Greeting { version: "11.4.2-MariaDB".to_owned(), ..Greeting::default() },
        server_uuid: String::new(),
        server_id: u32::from(id.0) + 1,
        read_only: !writable,
        super_read_only: false,
        gtid_executed: GtidSet::parse(Flavor::MariaDb, "0-1-5").ok().map(Arc::new),
        gtid_purged: None,
        gtid_binlog: None,
        sends_on: true,
        gtid_state: None,
        sight: Sight::Clear,
        replication,
        restarts: 0,
        heartbeat: None,
        semi_sync_clients: None,
        threads_connected: 3,
        max_connections: 151,
    }
}

/// db1 master, db2 its read-only peer, db3 and db4 replicas of db1.
fn healthy(id: ServerId) -> Facts {
    match id {
        A => facts(A, Some(B), true),
        _ => facts(id, Some(A), false),
    }
}

fn refused() -> Failure {
    Failure::ConnectRefused("os error 111".to_owned())
}

struct World {
    settings: Settings,
    memory: Memory,
    snapshot: Snapshot,
    now: Moment,
    changes: Vec<Change>,
    beat: u64,
}

impl World {
    fn new() -> World {
        let settings = settings();
        let now = Moment { mono: Instant::now(), wall: SystemTime::UNIX_EPOCH };
        let snapshot = Snapshot::starting(&settings, None, now.wall);
        World { memory: Memory::new(&settings, &snapshot, RUN, now.mono), settings, snapshot, now, changes: Vec::new(), beat: 0 }
    }

    /// All four have answered, db1 is master.
    fn running() -> World {
        let mut world = World::new();
        world.see([(A, Ok(healthy(A))), (B, Ok(healthy(B))), (R, Ok(healthy(R))), (S, Ok(healthy(S)))]);
        assert_eq!(world.snapshot.master, Some(A));
        world.changes.clear();
        world
    }

    fn see<const N: usize>(&mut self, seen: [(ServerId, Result<Facts, Failure>); N]) {
        let observations =
            seen.into_iter().map(|(id, outcome)| Observation::from_monitor(id, self.now.mono, self.now.mono, outcome)).collect();
        self.diagnose(observations);
    }

    fn diagnose(&mut self, observations: Vec<Observation>) {
        let (next, changes) = diagnose(&self.settings, &self.snapshot, &mut self.memory, observations, self.now);
        check(&self.snapshot, &next, &changes);
        self.snapshot = next;
        self.changes.extend(changes);
    }

    fn pass(&mut self, n: u64) {
        self.now.mono += ms(n);
        self.now.wall += ms(n);
    }

    /// `n` heartbeats of all servers but those named, who answer with what is given.
    fn beats<const N: usize>(&mut self, n: u64, other: [(ServerId, Result<Facts, Failure>); N]) {
        for _ in 0..n {
            self.pass(250);
            if self.snapshot.writer().is_some() {
                self.beat += 1;
                self.memory.beat_written(self.beat, self.now.mono);
            }
            for id in [A, B, R, S] {
                let outcome = other
                    .iter()
                    .find(|(o, _)| *o == id)
                    .map_or_else(|| Ok(self.current(healthy(id))), |(_, outcome)| outcome.clone());
                self.see([(id, outcome)]);
            }
        }
    }

    /// These facts, with the newest heartbeat.
    fn current(&self, facts: Facts) -> Facts {
        Facts { heartbeat: Some(Beat { run: RUN, number: self.beat }), ..facts }
    }

    fn state(&self, id: ServerId) -> State {
        self.snapshot.server(id).unwrap().state
    }

    fn reason(&self, id: ServerId) -> &str {
        &self.snapshot.server(id).unwrap().reason
    }

    fn kinds(&mut self) -> Vec<(&'static str, Option<ServerId>)> {
        self.changes.drain(..).map(|change| (change.kind.as_str(), change.server)).collect()
    }

    fn no_master(&self) -> Diagnosis {
        self.snapshot.no_master.as_ref().unwrap().diagnosis
    }
}

/// What holds for every step, whatever was seen.
fn check(before: &Snapshot, after: &Snapshot, changes: &[Change]) {
    assert_eq!(after.master.is_none(), after.no_master.is_some());
    let masters: Vec<ServerId> = after.servers.iter().filter(|v| v.role == Role::Master).map(|v| v.id).collect();
    assert_eq!(masters, after.master.into_iter().collect::<Vec<_>>(), "one master, or none");
    if let Some(master) = after.master() {
        assert!(matches!(master.state, State::Online | State::Suspect), "the master is {}: {}", master.state, master.reason);
        assert_eq!(master.configured_role, ConfiguredRole::Master);
    }
    for view in &after.servers {
        assert!(!view.reason.is_empty(), "{} has no reason", view.name);
        assert_eq!(view.read_ok, view.state == State::Online);
        let old = before.server(view.id).unwrap();
        let told =
            changes.iter().any(|c| c.server == Some(view.id) && matches!(c.kind, ChangeKind::State { to, .. } if to == view.state));
        assert_eq!(told, old.state != view.state, "{}: {} -> {}", view.name, old.state, view.state);
        assert!(old.state != view.state || old.since == view.since);
    }
    assert!(changes.iter().all(|c| !c.detail.is_empty()), "{changes:?}");
    assert_eq!(
        changes.iter().any(|c| c.kind == ChangeKind::MasterElected),
        after.master.is_some() && after.master != before.master
    );
    assert!(after.epoch == before.epoch || after.epoch == before.epoch + 1);
    assert!(
        after.epoch > before.epoch
            || (after.master == before.master && changes.iter().all(|c| !matches!(c.kind, ChangeKind::State { .. })))
    );
}

#[test]
fn the_only_writable_peer_is_master_whatever_the_order_of_the_file() {
    for master in [A, B] {
        let mut world = World::new();
        world.see([(R, Ok(facts(R, Some(A), true)))]);
        assert_eq!(world.no_master(), Diagnosis::Starting, "a writable replica is no master");
        world.see([(A, Ok(facts(A, Some(B), master == A)))]);
        assert_eq!(world.no_master(), Diagnosis::Starting, "the other peer has not been seen");
        world.see([(B, Ok(facts(B, Some(A), master == B)))]);
        assert_eq!(world.snapshot.master, Some(master));
        assert_eq!(world.snapshot.readers().count(), 2);
    }
}

#[test]
fn a_peer_that_never_answers_delays_the_start_by_its_timeout_only() {
    let mut world = World::new();
    world.see([(A, Ok(healthy(A)))]);
    assert_eq!(world.snapshot.master, None);
    world.pass(1000);
    world.see([(A, Ok(healthy(A)))]);
    assert_eq!(world.snapshot.master, Some(A));
}

#[test]
fn two_writable_peers_the_current_one_stays_and_at_the_start_the_one_with_followers() {
    let mut world = World::new();
    world.see([(A, Ok(facts(A, Some(B), true))), (B, Ok(facts(B, Some(A), true)))]);
    assert_eq!(world.no_master(), Diagnosis::Starting, "who has followers is not known yet");
    world.see([(R, Ok(facts(R, Some(B), false))), (S, Ok(facts(S, Some(B), false)))]);
    assert_eq!(world.snapshot.master, Some(B), "db2 has three followers, db1 one");
    assert!(world.kinds().contains(&("two_writable_peers", Some(A))));

    let mut world = World::running();
    world.beats(4, [(B, Ok(world.current(facts(B, Some(A), true))))]);
    assert_eq!(world.snapshot.master, Some(A));
    assert_eq!(world.kinds(), [("two_writable_peers", Some(B))]);
    world.beats(1, []);
    assert_eq!(world.kinds(), [("resolved", Some(B))]);
}

#[test]
fn a_crash_takes_the_master_out_at_once_and_its_followers_stay() {
    let mut world = World::running();
    world.beats(8, []);
    let orphan = |id: ServerId, world: &World| {
        let mut facts = world.current(healthy(id));
        facts.replication[0].io_running = ThreadState::Connecting;
        facts.replication[0].seconds_behind = None;
        facts.replication[0].last_io_error = "2003 error connecting".to_owned();
        // The last beat of the dead master did not get through.
        facts.heartbeat = Some(Beat { run: RUN, number: world.beat - 1 });
        facts
    };
    let (b, r, s) = (orphan(B, &world), orphan(R, &world), orphan(S, &world));
    world.see([(A, Err(refused()))]);
    assert_eq!((world.state(A), world.no_master()), (State::Down, Diagnosis::MasterCrashed));
    assert_eq!(world.kinds(), [("down", Some(A)), ("role", Some(A)), ("no_master", Some(A))]);
    world.beats(400, [(A, Err(refused())), (B, Ok(b)), (R, Ok(r)), (S, Ok(s))]);
    assert_eq!(world.snapshot.readers().count(), 3, "nobody is late for not hearing from the dead: {}", world.reason(R));
    assert_eq!(world.snapshot.server(R).unwrap().lag_ms, Some(250));
    world.beats(2, []);
    assert_eq!(world.snapshot.master, Some(A), "it came back writable");
}

#[test]
fn behind_a_new_master_a_position_means_something_once_histories_were_compared() {
    let mut world = World::running();
    let causal = |world: &World| [B, R, S].map(|id| world.snapshot.server(id).unwrap().causal);
    world.beats(2, []);
    assert_eq!(causal(&world), [true, true, true]);
    // db2 becomes master. What db3 got from the old one waits in its relay log; db4 has applied all of it.
    let master = facts(B, Some(A), true);
    let mut waiting = healthy(R);
    waiting.replication[0].retrieved = GtidSet::parse(Flavor::MariaDb, "0-1-7").ok().map(Arc::new);
    world.see([(A, Ok(facts(A, Some(B), false))), (B, Ok(master.clone()))]);
    assert_eq!((world.snapshot.master, causal(&world)), (Some(B), [true, false, false]), "nobody was compared yet");
    for _ in 0..2 {
        world.pass(250);
        world.see([(R, Ok(waiting.clone())), (S, Ok(healthy(S)))]);
        world.pass(10);
        world.see([(B, Ok(master.clone()))]);
    }
    assert_eq!(causal(&world), [true, false, true]);
    world.see([(R, Ok(facts(R, Some(B), false)))]);
    world.pass(10);
    world.see([(B, Ok(master))]);
    assert_eq!(causal(&world), [true, true, true], "it follows the new master");
}

#[test]
fn a_refused_statement_is_proof_and_a_broken_one_is_not() {
    let mut world = World::running();
    world.pass(100);
    for harmless in [Failure::Io("reset".to_owned()), Failure::QueryTimeout, Failure::ConnectTimeout, Failure::TooManyConnections] {
        world.diagnose(vec![Observation::from_traffic(A, world.now.mono, harmless)]);
        assert_eq!(world.state(A), State::Online);
    }
    world.diagnose(vec![Observation::from_traffic(A, world.now.mono - ms(200), refused())]);
    assert_eq!(world.state(A), State::Online, "older than the last answer");
    world.diagnose(vec![Observation::from_traffic(A, world.now.mono, refused())]);
    assert_eq!(world.state(A), State::Down);
}

#[test]
fn silence_makes_a_suspect_then_down() {
    let mut world = World::running();
    for (after, state) in
        [(250, State::Online), (990, State::Online), (1000, State::Suspect), (1490, State::Suspect), (1500, State::Down)]
    {
        let mut world = World::running();
        world.pass(after);
        world.see([(A, Err(Failure::QueryTimeout))]);
        assert_eq!(world.state(A), state, "after {after} ms");
        assert_eq!(world.snapshot.master.is_some(), state != State::Down);
        assert_eq!(world.snapshot.writer().is_some(), state == State::Online);
    }
    world.pass(3000);
    world.memory.forgive_stall(ms(2900));
    world.diagnose(Vec::new());
    assert_eq!(world.state(A), State::Online, "it was us who slept");
    world.pass(3000);
    world.diagnose(Vec::new());
    assert_eq!(world.no_master(), Diagnosis::AllServersUnreachable);
}

#[test]
fn a_master_made_read_only_is_none_until_a_peer_is_writable() {
    let mut world = World::running();
    world.see([(A, Ok(facts(A, Some(B), false)))]);
    assert_eq!((world.no_master(), world.state(A)), (Diagnosis::MasterReadOnly, State::Online));
    assert!(world.snapshot.no_master.as_ref().unwrap().detail.contains("db1: read_only, db2: read_only"));
    world.see([(B, Ok(facts(B, Some(A), true)))]);
    assert_eq!(world.snapshot.master, Some(B), "a switchover by hand");
    // MySQL shows it from the moment it is set; until `read_only` is on, too, it waits for commits.
    let mut super_read_only = facts(B, Some(A), true);
    super_read_only.super_read_only = true;
    world.see([(B, Ok(super_read_only.clone()))]);
    assert_eq!(world.snapshot.master, Some(B), "commits end there still");
    super_read_only.read_only = true;
    world.see([(B, Ok(super_read_only))]);
    assert_eq!(world.snapshot.master, None);
}

#[test]
fn a_server_that_refuses_our_account_lives() {
    let mut world = World::running();
    let denied = Failure::Auth(1045, "Access denied for user 'sluice'".to_owned());
    world.beats(60, [(A, Err(denied.clone())), (R, Err(Failure::TooManyConnections)), (S, Err(denied))]);
    assert_eq!(world.snapshot.master, Some(A), "it takes writes as before");
    assert_eq!((world.state(A), world.state(R), world.state(S)), (State::Online, State::Lagging, State::Lagging));
    assert!(world.reason(A).contains("1045"), "{}", world.reason(A));
    assert!(world.kinds().contains(&("account_refused", Some(A))));
}

/// Harm: the account's password was changed, and the master was called silent between two of the monitor's rare tries to log in.
#[test]
fn between_two_refused_logins_nobody_is_silent() {
    let mut world = World::running();
    for _ in 0..5 {
        world.see([(A, Err(Failure::Auth(1045, "Access denied".to_owned())))]);
        world.pass(5_500);
        world.see([(B, Ok(healthy(B)))]);
        assert_eq!(world.snapshot.writer().map(|v| v.id), Some(A));
    }
    world.pass(1_000);
    world.see([(B, Ok(healthy(B)))]);
    assert_eq!(world.no_master(), Diagnosis::MasterSilent);
}

/// (what it says, state, a part of the reason)
#[test]
fn replicas() {
    type Case = (&'static str, fn(&mut Facts), State, &'static str);
    let cases: &[Case] = &[
        ("as it should be", |_| {}, State::Online, "follows"),
        ("20 s behind by beats", |f| f.heartbeat.as_mut().unwrap().number -= 80, State::Lagging, "19 s behind"),
        ("4 s behind by beats", |f| f.heartbeat.as_mut().unwrap().number -= 16, State::Online, "follows"),
        (
            "a row of another process, and behind by the server",
            |f| (f.heartbeat, f.replication[0].seconds_behind) = (Some(Beat { run: 5, number: 7 }), Some(6)),
            State::Lagging,
            "6 s behind",
        ),
        // Its filters leave out the heartbeat's schema.
        ("a row of another process, in time", |f| f.heartbeat = Some(Beat { run: 5, number: 7 }), State::Online, "follows"),
        (
            "a row of another process, and nothing told by the server",
            |f| (f.heartbeat, f.replication[0].seconds_behind) = (Some(Beat { run: 5, number: 7 }), None),
            State::Lagging,
            "behind",
        ),
        (
            "no heartbeat, by the server",
            |f| (f.heartbeat, f.replication[0].seconds_behind) = (None, Some(6)),
            State::Lagging,
            "6 s behind",
        ),
        ("no heartbeat, in time", |f| f.heartbeat = None, State::Online, "follows"),
        ("no heartbeat, NULL", |f| (f.heartbeat, f.replication[0].seconds_behind) = (None, None), State::Online, "not known"),
        (
            "STOP REPLICA",
            |f| (f.replication[0].io_running, f.replication[0].sql_running) = Default::default(),
            State::Lagging,
            "applier has stopped",
        ),
        (
            "duplicate key",
            |f| {
                f.replication[0] = ReplicaChannel {
                    sql_running: ThreadState::Stopped,
                    last_sql_error: "1062 Duplicate entry".to_owned(),
                    ..f.replication[0].clone()
                }
            },
            State::Lagging,
            "applier has stopped: 1062",
        ),
        ("STOP REPLICA IO_THREAD", |f| f.replication[0].io_running = ThreadState::Stopped, State::Lagging, "receiver has stopped"),
        ("reconnecting, in time", |f| f.replication[0].io_running = ThreadState::Connecting, State::Online, "follows"),
        ("no replication at all", |f| f.replication.clear(), State::Lagging, "replicates from nobody"),
        (
            "no grant to see it",
            |f| {
                (f.sight, f.heartbeat) = {
                    f.replication.clear();
                    (Sight::Denied, None)
                }
            },
            State::Online,
            "grants",
        ),
        (
            "a second channel from elsewhere is stopped",
            |f| f.replication.push(ReplicaChannel { source_host: "far".to_owned(), ..ReplicaChannel::default() }),
            State::Online,
            "follows",
        ),
    ];
    for (what, change, state, reason) in cases {
        let mut world = World::running();
        world.beats(100, []);
        let mut facts = world.current(healthy(R));
        change(&mut facts);
        world.see([(R, Ok(facts))]);
        assert_eq!(world.state(R), *state, "{what}: {}", world.reason(R));
        assert!(world.reason(R).contains(reason), "{what}: {}", world.reason(R));
    }
}

/// Bug: a replica that did not say any more how it replicates, for a STOP REPLICA that waits, was online again, however late it had been.
#[test]
fn who_does_not_say_how_it_replicates_is_no_better_than_it_was() {
    // What it said before; its heartbeat while it says no more, by how many beats it is behind; after how many beats.
    type Row = (&'static str, fn(&mut Facts), Option<u64>, usize, State, &'static str);
    let well: fn(&mut Facts) = |_| {};
    let stopped: fn(&mut Facts) = |f| f.replication[0].sql_running = ThreadState::Stopped;
    let rows: &[Row] = &[
        ("it was well, a moment ago", well, None, 4, State::Online, "for the moment"),
        ("it was well, too long ago", well, None, 24, State::Lagging, "may be late"),
        ("its applier had stopped", stopped, None, 4, State::Lagging, "may be late"),
        ("its heartbeats come", stopped, Some(0), 24, State::Online, "heartbeats follow"),
        ("its heartbeats are late", well, Some(24), 25, State::Lagging, "behind"),
    ];
    for (what, before, behind, beats, state, reason) in rows {
        let mut world = World::running();
        world.beats(8, []);
        let mut facts = world.current(healthy(R));
        before(&mut facts);
        world.see([(R, Ok(facts))]);
        for _ in 0..*beats {
            let heartbeat = behind.map(|behind| Beat { run: RUN, number: (world.beat + 1).saturating_sub(behind) });
            let facts = Facts { sight: Sight::Hangs, replication: Vec::new(), heartbeat, ..healthy(R) };
            world.beats(1, [(R, Ok(facts))]);
        }
        assert_eq!(world.state(R), *state, "{what}: {}", world.reason(R));
        assert!(world.reason(R).contains(reason), "{what}: {}", world.reason(R));
        let broken = world.snapshot.standing.iter().any(|one| one.diagnosis == Diagnosis::ReplicationBroken);
        assert_eq!(broken, *what == "its applier had stopped", "{what}");
    }
}

#[test]
fn a_replica_without_heartbeats_is_out_when_its_receiver_finds_nobody_for_too_long() {
    let mut world = World::running();
    let mut lost = healthy(R);
    lost.replication[0] =
        ReplicaChannel { io_running: ThreadState::Connecting, seconds_behind: None, ..lost.replication[0].clone() };
    world.beats(16, [(R, Ok(lost.clone()))]);
    assert_eq!(world.state(R), State::Online);
    world.beats(8, [(R, Ok(lost))]);
    assert_eq!(world.state(R), State::Lagging, "{}", world.reason(R));
}

#[test]
fn an_operators_word_stands_above_all() {
    let mut world = World::running();
    world.memory.set_override(R, Override::Drain);
    world.memory.set_override(S, Override::Offline);
    world.memory.set_weight(B, 7);
    world.diagnose(Vec::new());
    assert_eq!((world.state(R), world.state(S), world.snapshot.server(B).unwrap().weight), (State::Draining, State::Offline, 7));
    world.memory.set_override(A, Override::Drain);
    world.diagnose(Vec::new());
    assert_eq!(world.no_master(), Diagnosis::MasterTakenOut);
    for id in [A, R, S] {
        world.memory.set_override(id, Override::Online);
    }
    world.diagnose(Vec::new());
    assert_eq!((world.snapshot.master, world.snapshot.readers().count()), (Some(A), 3));
}

/// An operator's word hides neither that a server has died nor that it is there.
#[test]
fn whether_a_server_answers_is_told_beside_its_state() {
    let mut world = World::running();
    world.memory.set_override(R, Override::Drain);
    world.memory.set_override(S, Override::Offline);
    world.see([(R, Err(refused())), (S, Ok(healthy(S)))]);
    let answers = [A, R, S].map(|id| world.snapshot.server(id).unwrap().answers);
    assert_eq!((world.state(R), world.state(S), answers), (State::Draining, State::Offline, [true, false, true]));
}

#[test]
fn blocked_writes_and_a_shared_row_are_named() {
    let mut world = World::running();
    world.beats(4, []);
    world.memory.beat_failed(A, world.now.mono, "no answer in time".to_owned());
    world.pass(100);
    world.diagnose(Vec::new());
    assert_eq!(world.kinds(), []);
    world.beats(4, [(A, Ok(Facts { heartbeat: Some(Beat { run: 4, number: 1 }), ..healthy(A) }))]);
    assert_eq!(world.kinds(), [("heartbeat_shared", Some(A))]);
    world.memory.beat_failed(A, world.now.mono, "no answer in time".to_owned());
    for _ in 0..5 {
        world.pass(250);
        world.see([(A, Ok(healthy(A))), (B, Ok(healthy(B))), (R, Ok(healthy(R))), (S, Ok(healthy(S)))]);
    }
    assert_eq!(world.kinds(), [("master_writes_blocked", Some(A))]);
    assert_eq!(world.snapshot.master, Some(A));
}

#[test]
fn a_peer_that_does_not_log_what_it_replicates_is_named() {
    let mut world = World::running();
    let mute = |id| Ok(Facts { sends_on: false, ..healthy(id) });
    world.beats(1, [(B, mute(B)), (R, mute(R))]);
    assert_eq!(world.kinds(), [("updates_not_logged", Some(B))], "a replica need not");
    assert!(
        world.reason(B).starts_with("it follows the master; what it replicates is not in its binary log"),
        "{}",
        world.reason(B)
    );
    world.settings.promote_replicas = true;
    world.beats(1, [(R, mute(R))]);
    assert_eq!(world.kinds(), [("updates_not_logged", Some(R)), ("resolved", Some(B))]);
    assert_eq!(world.reason(B), "it follows the master");
}

/// Harm: on a busy machine, the master's first login took longer than half a heartbeat_timeout; it counted as silent at once, and was replaced.
#[test]
fn at_the_start_a_server_gets_as_long_as_later() {
    let after_the_first_look = || {
        let mut world = World::new();
        world.memory.steer(true);
        world.pass(500);
        let late = Err(Failure::ConnectTimeout);
        world.see([(A, late), (B, Ok(healthy(B))), (R, Ok(healthy(R))), (S, Ok(healthy(S)))]);
        assert_eq!(world.no_master(), Diagnosis::Starting);
        world
    };
    let mut world = after_the_first_look();
    world.pass(400);
    world.see([(A, Err(Failure::ConnectTimeout))]);
    assert_eq!(world.no_master(), Diagnosis::Starting);
    world.pass(100);
    world.diagnose(Vec::new());
    assert_eq!((world.no_master(), world.state(A)), (Diagnosis::NoWritablePeer, State::Down));
    let mut world = after_the_first_look();
    world.see([(A, Err(refused()))]);
    assert_eq!(world.no_master(), Diagnosis::NoWritablePeer, "a refusal is no silence");
    let mut world = after_the_first_look();
    world.pass(400);
    world.see([(A, Ok(healthy(A)))]);
    assert_eq!(world.snapshot.master, Some(A));
}

/// Harm: a master that came back was said to block writes, because its own death had hindered the last heartbeat.
#[test]
fn what_hindered_the_heartbeat_dies_with_the_master() {
    let mut world = World::running();
    world.beats(4, []);
    world.memory.beat_failed(A, world.now.mono, "the connection broke".to_owned());
    world.beats(20, [(A, Err(refused()))]);
    world.see([(A, Ok(world.current(healthy(A))))]);
    assert_eq!(world.snapshot.master, Some(A));
    assert!(!world.kinds().iter().any(|(kind, _)| *kind == "master_writes_blocked"));
}

/// Harm: the first second of a new master was spent in doubt of it, since the heartbeat's login at the frozen one before it had
/// just then come to its end.
#[test]
fn a_beat_that_failed_at_the_master_before_says_nothing_of_this_one() {
    let mut world = World::running();
    world.beats(4, []);
    world.memory.beat_failed(B, world.now.mono, "did not finish the login".to_owned());
    for _ in 0..5 {
        world.pass(250);
        world.see([(A, Ok(healthy(A))), (B, Ok(healthy(B))), (R, Ok(healthy(R))), (S, Ok(healthy(S)))]);
    }
    assert_eq!(world.kinds(), []);
}

#[test]
fn a_reload_makes_no_gap() {
    let mut world = World::running();
    world.settings.servers.swap(0, 1);
    world.settings.servers.pop();
    let snapshot = Snapshot::starting(&world.settings, Some(&world.snapshot), world.now.wall);
    assert_eq!(snapshot.master, Some(ServerId(1)), "db1 is second now");
    assert_eq!(snapshot.epoch, world.snapshot.epoch + 1);
    world.memory = Memory::new(&world.settings, &snapshot, RUN, world.now.mono);
    world.snapshot = snapshot;
    world.diagnose(Vec::new());
    assert_eq!(world.snapshot.writer().map(|v| &*v.name), Some("db1"));
    assert_eq!(world.snapshot.readers().count(), 2);
}

/// These facts, with what its log says.
fn logged(facts: Facts, state: &str) -> Facts {
    Facts {
        gtid_executed: GtidSet::parse(Flavor::MariaDb, state).ok().map(Arc::new),
        gtid_state: MariaDbState::parse(state).ok().map(Arc::new),
        ..facts
    }
}

/// Harm: a former master that came back writable was taken for the master as soon as the real one did not answer for a moment.
#[test]
fn a_quarantined_server_is_no_master() {
    let mut world = World::running();
    world.see([(A, Err(refused()))]);
    let master = |state| logged(facts(B, None, true), state);
    world.see([(B, Ok(master("0-1-5,0-2-6")))]);
    assert_eq!(world.snapshot.master, Some(B), "nobody steers: an operator's FAILOVER TO");
    for _ in 0..2 {
        world.pass(250);
        world.see([(A, Ok(logged(facts(A, None, true), "0-1-6")))]);
        world.see([(B, Ok(master("0-1-5,0-2-7")))]);
    }
    assert_eq!(world.state(A), State::Quarantined);
    world.pass(250);
    world.see([(B, Err(refused()))]);
    assert_eq!(world.snapshot.master, None);
    assert!(world.snapshot.no_master.as_ref().unwrap().detail.contains("quarantined"), "{:?}", world.snapshot.no_master);
    world.pass(250);
    world.see([(B, Ok(master("0-1-5,0-2-7")))]);
    assert_eq!(world.snapshot.master, Some(B));
}

#[test]
fn a_writable_peer_is_no_master_behind_one_that_was_master_after_it() {
    let read_only = |id, of, state| Ok(logged(facts(id, of, false), state));
    for (other, followed, master) in [
        // db2 has what db1 lacks, and all follow it.
        ("0-1-5,0-2-6", B, None),
        // What it lacks is its own, and on its way.
        ("0-1-6", B, Some(A)),
        // What it lacks was written on a standby that nobody follows.
        ("0-1-5,0-2-6", A, Some(A)),
    ] {
        let mut world = World::new();
        world.memory.steer(true);
        world.see([
            (A, Ok(logged(facts(A, None, true), "0-1-5"))),
            (B, read_only(B, Some(A), other)),
            (R, read_only(R, Some(followed), "0-1-5")),
            (S, read_only(S, Some(followed), "0-1-5")),
        ]);
        assert_eq!(world.snapshot.master, master, "db2 has {other}, the replicas follow {followed:?}");
    }
}

/// Harm: where an operator had made a replica master, this process had none after it was started again.
#[test]
fn a_replica_that_an_operator_made_master_is_master_after_a_restart_of_this_process() {
    let after = "0-1-5,0-3-9";
    for (writable, source, another, master) in [
        (true, None, after, Some(R)),
        (false, None, after, None),
        (true, None, "0-1-5,0-2-9", None),
        // It waits for a master that is down: somebody forgot to make it read-only.
        (true, Some(B), after, None),
    ] {
        let world = World::new();
        let (snapshot, mut memory) = (world.snapshot.clone(), world.memory.clone());
        let seen = [
            (A, Ok(logged(facts(A, Some(R), false), "0-1-5,0-3-9"))),
            (B, Err(refused())),
            (R, Ok(logged(facts(R, source, writable), after))),
            (S, Ok(logged(facts(S, Some(R), false), another))),
        ];
        let at = world.now.mono;
        let seen = seen.into_iter().map(|(id, facts)| Observation::from_monitor(id, at, at, facts)).collect();
        let (next, _) = diagnose(&world.settings, &snapshot, &mut memory, seen, world.now);
        assert_eq!(next.master, master, "writable {writable}, follows {source:?}, another has {another}");
    }
}
