//! Seeded histories: servers that crash, freeze and come back at the worst moment, that answer and cannot write, that only this proxy cannot reach while
//! others may write to them; actions that are lost, late or done by half, answers that never come. The real diagnosis and the real machine, over servers of a few lines.
//!
//! Held at every step: a promotion meets no other server that is writable and has been heard of; writes go to one server at a time, and to a new one
//! only after it became writable; what a dead master did not send never arrives later in the new one. Held at every release: an acknowledged
//! commit that a survivor had is there. Held at the end: it ends, one server is writable, and what is missing on the master is named.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::super::gtid::{MySqlSet, Origin, Tag};
use super::super::observation::{Facts, Failure, Greeting, Moment, Observation, ReplicaChannel, Sight, ThreadState};
use super::super::settings::{ConfiguredServer, Settings};
use super::super::snapshot::Snapshot;
use super::super::{ConfiguredRole, Flavor, GtidSet, Hold, Memory, ServerId, State, diagnose};
use super::machine::Phase;
use super::*;

mod choices;
mod patience;
mod silent;
mod stories;

const TICK: Duration = Duration::from_millis(20);
/// Faults happen for this long; then everybody is up and the link is good.
const TROUBLE_TICKS: u64 = 700;
/// And it has to be in order after this much more.
const CALM_TICKS: u64 = 6000;
/// A server that has just come back cannot have been heard of yet.
const UNHEARD: Duration = Duration::from_millis(1500);
/// Nor has what it brought, on others that have fetched it since: they may have been asked before that.
const UNASKED: Duration = Duration::from_millis(8000);
/// Histories in the unit tests; `SLUICE_SIM_SEEDS` asks for more.
const SEEDS: u64 = 150;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }
}

fn uuid(n: usize) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid[15] = n as u8 + 1;
    uuid
}

fn uuid_text(n: usize) -> String {
    format!("00000000-0000-0000-0000-{:012x}", n + 1)
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A server of a few lines.
struct Server {
    up: bool,
    frozen: bool,
    back_at: Option<Instant>,
    up_since: Instant,
    restarts: u32,
    read_only: bool,
    boots_read_only: bool,
    executed: MySqlSet,
    relay: MySqlSet,
    /// What nobody else had when it came back.
    brought: MySqlSet,
    next: u64,
    source: usize,
    io: bool,
    sql: bool,
    /// It answers and cannot write, since then; a late write of it comes through when that is over.
    blocked: Option<Instant>,
    /// And what makes it read-only hangs, too.
    fence_hangs: bool,
    /// Somebody's does: it shows `super_read_only` already.
    pending: bool,
    /// Only the proxy cannot reach it.
    cut: bool,
    /// Somebody else can, and writes to it, for at least that long.
    used_since: Option<Instant>,
    /// It applies so many seconds late.
    delay: u64,
}

impl Server {
    /// The proxy can ask it.
    fn reach(&self) -> bool {
        self.answers() && !self.cut
    }

    fn answers(&self) -> bool {
        self.up && !self.frozen
    }

    fn received(&self) -> MySqlSet {
        self.executed.union(&self.relay)
    }
}

/// Up to `count` transactions of a set, the first of each origin.
fn some_of(set: &MySqlSet, count: u64) -> MySqlSet {
    let mut some = MySqlSet::default();
    for (origin, intervals) in set.origins() {
        for number in intervals.iter().flat_map(|i| i.first..=i.last).take(count as usize) {
            some.merge(&MySqlSet::one(origin.clone(), number));
        }
    }
    some
}

struct World {
    seed: u64,
    dice: Dice,
    now: Instant,
    tick: u64,
    servers: Vec<Server>,
    settings: Settings,
    memory: Memory,
    snapshot: Arc<Snapshot>,
    machine: Machine,
    /// Actions on their way, and outcomes on theirs.
    out: Vec<(Instant, Action)>,
    back: Vec<(Instant, Instant, Event)>,
    late: Vec<(Instant, Observation)>,
    acknowledged: MySqlSet,
    /// Only what a replica has received is acknowledged.
    semi_sync: bool,
    /// No answer is lost: then nothing that a survivor has may be missing.
    honest: bool,
    writer: Option<ServerId>,
    /// What the last dead master had and the present one has not, and since when.
    never: Option<(ServerId, MySqlSet, Instant)>,
    told: Vec<String>,
    /// Whom another proxy has just made master, until ours knows.
    moved: Option<ServerId>,
    /// Another proxy has made somebody master.
    another: bool,
}

impl World {
    fn new(seed: u64) -> World {
        let now = Instant::now();
        let server = |n: u16, role| ConfiguredServer {
            name: Arc::from(format!("db{}", n + 1)),
            address: Arc::from(format!("10.0.0.{}:3306", n + 1)),
            role,
            zone: Arc::from(""),
            weight: 1,
            max_connections: 100,
        };
        use ConfiguredRole::{Master, Replica};
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed));
        let settings = Settings {
            heartbeat_interval: ms(250),
            heartbeat_timeout: ms(1000),
            max_lag: ms(5000),
            promote_replicas: dice.one_in(3),
            servers: vec![server(0, Master), server(1, Master), server(2, Replica), server(3, Replica)],
        };
        let snapshot = Arc::new(Snapshot::starting(&settings, None, SystemTime::UNIX_EPOCH));
        let mut memory = Memory::new(&settings, &snapshot, 9, now);
        memory.steer(true);
        let failover = FailoverSettings {
            mode: Mode::Auto,
            topology: settings.clone(),
            hold_timeout: ms(10_000),
            max_lost_transactions: if dice.one_in(4) { Some(0) } else { None },
        };
        let servers = (0..4)
            .map(|n| Server {
                up: true,
                frozen: false,
                back_at: None,
                up_since: now - UNHEARD,
                restarts: 0,
                read_only: n != 0,
                boots_read_only: n != 0 || dice.one_in(2),
                executed: MySqlSet::default(),
                relay: MySqlSet::default(),
                brought: MySqlSet::default(),
                next: 1,
                source: usize::from(n == 0),
                io: true,
                sql: true,
                blocked: None,
                pending: false,
                fence_hangs: false,
                cut: false,
                used_since: None,
                delay: 0,
            })
            .collect();
        let machine = Machine::new(failover, snapshot.clone());
        let (semi_sync, honest) = (dice.one_in(2), dice.one_in(2));
        World {
            seed,
            now,
            tick: 0,
            servers,
            settings,
            memory,
            machine,
            snapshot,
            out: Vec::new(),
            back: Vec::new(),
            late: Vec::new(),
            acknowledged: MySqlSet::default(),
            semi_sync,
            honest,
            writer: None,
            never: None,
            told: Vec::new(),
            moved: None,
            another: false,
            dice,
        }
    }

    fn calm(&self) -> bool {
        self.tick > TROUBLE_TICKS
    }

    fn fail(&self, why: &str) -> ! {
        let servers: Vec<String> = self
            .servers
            .iter()
            .map(|s| {
                format!(
                    "up {} frozen {} read_only {} from db{} io {} sql {} has {}",
                    s.up,
                    s.frozen,
                    s.read_only,
                    s.source + 1,
                    s.io,
                    s.sql,
                    s.executed
                )
            })
            .collect();
        panic!("seed {} tick {}: {why}\n{}\n{}", self.seed, self.tick, self.told.join("\n"), servers.join("\n"))
    }

    fn facts(&self, n: usize) -> Facts {
        let server = &self.servers[n];
        let source = &self.servers[server.source];
        let hears = server.io && source.answers();
        let channel = ReplicaChannel {
            source_host: format!("10.0.0.{}", server.source + 1),
            source_port: 3306,
            source_uuid: uuid_text(server.source),
            io_running: match (server.io, source.up, source.frozen) {
                (false, ..) => ThreadState::Stopped,
                // A frozen source is noticed by whoever connects to it anew.
                (true, true, true) | (true, true, false) => ThreadState::Running,
                (true, false, _) => ThreadState::Connecting,
            },
            sql_running: if server.sql { ThreadState::Running } else { ThreadState::Stopped },
            last_io_error: if hears || !server.io { String::new() } else { "2003 cannot connect".to_owned() },
            last_sql_error: if server.sql || server.executed.contains(&server.relay) { String::new() } else { "1062".to_owned() },
            retrieved: Some(Arc::new(GtidSet::MySql(server.relay.clone()))),
            seconds_behind: Some(0),
            delay: server.delay,
            ..ReplicaChannel::default()
        };
        Facts {
            flavor: Flavor::MySql,
            greeting: Greeting::default(),
            server_uuid: uuid_text(n),
            server_id: n as u32 + 1,
            read_only: server.read_only,
            super_read_only: server.read_only || server.pending,
            gtid_executed: Some(Arc::new(GtidSet::MySql(server.executed.clone()))),
            gtid_purged: None,
            gtid_binlog: None,
            sends_on: true,
            gtid_state: None,
            sight: Sight::Clear,
            replication: vec![channel],
            restarts: server.restarts,
            heartbeat: None,
            semi_sync_clients: None,
            threads_connected: 3,
            max_connections: 151,
        }
    }

    fn look(&self, n: usize) -> Result<Facts, Failure> {
        let server = &self.servers[n];
        match (server.up, server.frozen || server.cut) {
            (true, false) => Ok(self.facts(n)),
            (true, true) => Err(Failure::QueryTimeout),
            (false, _) => Err(Failure::ConnectRefused("111".to_owned())),
        }
    }

    fn judge(&mut self, observations: Vec<Observation>) {
        let moment = Moment { mono: self.now, wall: SystemTime::UNIX_EPOCH };
        let before = self.snapshot.clone();
        let (next, _) = diagnose(&self.settings, &before, &mut self.memory, observations, moment);
        self.snapshot = Arc::new(next);
        let writer = self.snapshot.writer().map(|view| view.id);
        if let Some(new) = writer.filter(|new| self.writer != Some(*new)) {
            if let Some(old) = self.writer
                && before.writer().is_some()
            {
                self.fail(&format!("writes went from {old:?} to {new:?} without a pause"));
            }
            let server = &self.servers[new.index()];
            if server.answers() && server.read_only && self.now - server.up_since > UNHEARD {
                self.fail(&format!("writes go to {new:?}, which is read-only"));
            }
            self.writer = Some(new);
        }
    }

    /// What came of an action is news for the diagnosis first.
    fn told_by(&mut self, asked_at: Instant, event: &Event) {
        let facts: Vec<&Facts> = match event {
            Event::Done(_, Outcome::Answers { answers, .. }) => {
                answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).collect()
            }
            Event::Done(_, Outcome::Acted(Ok(facts))) => vec![&**facts],
            _ => return,
        };
        let seen = |facts: &Facts| {
            let id = ServerId(facts.server_id as u16 - 1);
            Observation::from_monitor(id, asked_at, self.now, Ok(facts.clone()))
        };
        let seen = facts.into_iter().map(seen).collect();
        self.judge(seen);
    }

    fn step(&mut self, event: Event) {
        for action in self.machine.step(event, self.now) {
            match action {
                Action::Hold { why, deposed } => {
                    self.memory.hold(Hold { why: why.into(), deposed });
                    self.judge(Vec::new());
                }
                Action::Release(master) => {
                    let old = self.writer;
                    self.memory.release(master);
                    self.judge(Vec::new());
                    self.released(old, master);
                }
                Action::Accept(server) => self.memory.rejoin(server),
                Action::Tell { kind, server, detail } => self.told.push(format!("{} {kind} {server:?} {detail}", self.tick)),
                Action::Count { .. } | Action::Reply(..) | Action::EndOpen(_) => {}
                action => {
                    let wait = ms(5 + self.dice.roll(60));
                    self.out.push((self.now + wait, action));
                }
            }
        }
    }

    /// A new master: what anybody who can be asked has of the acknowledged commits, it has.
    fn released(&mut self, old: Option<ServerId>, new: ServerId) {
        let has = self.servers[new.index()].executed.clone();
        let back = self.servers.iter().filter(|server| self.now - server.up_since <= UNASKED);
        let brought = back.fold(MySqlSet::default(), |all, server| all.union(&server.brought));
        if self.honest {
            for (n, server) in self.servers.iter().enumerate() {
                let heard = server.reach()
                    && (server.blocked.is_none() || old != Some(ServerId(n as u16)))
                    && self.now - server.up_since > UNASKED;
                let quarantined = self.snapshot.servers[n].state == State::Quarantined;
                let missing = self.acknowledged.subtract(&self.acknowledged.subtract(&server.received())).subtract(&has);
                let missing = missing.subtract(&brought);
                if heard && !quarantined && !missing.is_empty() {
                    self.fail(&format!("db{} has {missing}, and the new master {new:?} has not", n + 1));
                }
            }
        }
        if let Some((_, lost, _)) = self.never.as_mut().filter(|(at, ..)| old == Some(new) && *at == new) {
            // It was found on another survivor meanwhile, and fetched.
            *lost = lost.subtract(&has);
        }
        if let Some(old) = old.filter(|old| *old != new) {
            let lost = self.servers[old.index()].executed.subtract(&has);
            self.never = (!lost.is_empty()).then_some((new, lost, self.now));
        }
    }

    /// What an action does at a server, and what comes back.
    fn perform(&mut self, action: Action) {
        let lossy = !self.calm();
        let lost_before = lossy && self.dice.one_in(12);
        let lost_after = lossy && self.dice.one_in(12);
        let half = lossy && self.dice.one_in(12);
        let answer = |world: &mut World, ticket: Ticket, outcome: Outcome| {
            let wait = ms(world.dice.roll(80));
            world.back.push((world.now + wait, world.now, Event::Done(ticket, outcome)));
        };
        if let Action::Ask { ticket, probe, spare, write, .. } = action {
            let answers = (0..4)
                .map(|n| {
                    let mut outcome = self.look(n);
                    if !self.honest && lossy && self.dice.one_in(10) {
                        outcome = Err(Failure::QueryTimeout);
                    }
                    if let (Ok(facts), Some(source)) = (&mut outcome, probe)
                        && self.servers[n].source == source.index()
                        && !spare.contains(&ServerId(n as u16))
                        && self.servers[source.index()].frozen
                    {
                        for channel in &mut facts.replication {
                            channel.io_running = ThreadState::Connecting;
                        }
                    }
                    (ServerId(n as u16), outcome)
                })
                .collect();
            let stalled = lossy && self.dice.one_in(20);
            let writes = match write.map(|id| &self.servers[id.index()]) {
                None => Writes::NotTried,
                Some(server) if server.blocked.is_some() => Writes::Blocked("no answer in time".to_owned()),
                Some(server) if server.reach() => Writes::Work,
                Some(_) => Writes::Unclear("no login".to_owned()),
            };
            return answer(self, ticket, Outcome::Answers { answers, stalled, writes });
        }
        let (ticket, id) = match &action {
            Action::AwaitOpen { ticket, .. } => return answer(self, *ticket, Outcome::Open(0)),
            Action::Fence { ticket, server, .. }
            | Action::Follow { ticket, server, .. }
            | Action::Promote { ticket, server, .. }
            | Action::Repoint { ticket, server, .. }
            | Action::Receiver { ticket, server, .. } => (*ticket, server.index()),
            _ => return,
        };
        // A fence lies in the socket of a frozen server until it wakes.
        if self.servers[id].up && self.servers[id].frozen && matches!(action, Action::Fence { .. }) {
            self.out.push((self.now + TICK, action));
            return answer(self, ticket, Outcome::Acted(Err("no answer".to_owned())));
        }
        if self.servers[id].blocked.is_some() && self.servers[id].fence_hangs && matches!(action, Action::Fence { .. }) {
            self.servers[id].pending = true;
            self.out.push((self.now + TICK, action));
            return;
        }
        if !self.servers[id].reach() || lost_before {
            return answer(self, ticket, Outcome::Acted(Err("no answer".to_owned())));
        }
        let result = self.act(&action, id, half);
        if lost_after {
            if !self.dice.one_in(4) {
                answer(self, ticket, Outcome::Acted(Err("no answer".to_owned())));
            }
            return;
        }
        let result = result.map(|()| Box::new(self.facts(id)));
        answer(self, ticket, Outcome::Acted(result));
    }

    fn act(&mut self, action: &Action, id: usize, half: bool) -> Result<(), String> {
        match action {
            Action::Fence { .. } => self.servers[id].read_only = true,
            Action::Follow { like, .. } => {
                let GtidSet::MySql(wanted) = like.applied() else { return Err("flavour".to_owned()) };
                if !self.servers[id].executed.contains(&wanted) {
                    return Err("it lacks some".to_owned());
                }
            }
            Action::Promote { stop_from, .. } => {
                if stop_from.iter().any(|from| from.index() == self.servers[id].source) {
                    let relay = std::mem::take(&mut self.servers[id].relay);
                    self.servers[id].executed.merge(&relay);
                    self.servers[id].io = false;
                    self.servers[id].sql = false;
                }
                if half {
                    return Err("half way".to_owned());
                }
                for (n, other) in self.servers.iter().enumerate() {
                    if n == id || !other.answers() || other.read_only {
                        continue;
                    }
                    if self.honest && other.reach() && other.blocked.is_none() && self.now - other.up_since > UNHEARD {
                        self.fail(&format!("db{} is promoted while db{} is writable", id + 1, n + 1));
                    }
                    let long = |since: Instant| self.now - since > ms(3000);
                    let follows = |f: &Server| {
                        f.reach() && long(f.up_since) && f.source == n && f.io && f.received().contains(&other.executed)
                    };
                    if self.honest && other.used_since.is_some_and(long) && self.servers.iter().any(follows) {
                        self.fail(&format!("db{} is promoted while others write to db{}", id + 1, n + 1));
                    }
                }
                self.servers[id].read_only = false;
            }
            Action::Repoint { to, .. } => {
                let server = &mut self.servers[id];
                (server.io, server.sql) = (false, false);
                if half {
                    return Err("half way".to_owned());
                }
                server.relay = MySqlSet::default();
                server.source = to.index();
                (server.io, server.sql) = (true, true);
            }
            Action::Receiver { on, .. } => (self.servers[id].io, self.servers[id].sql) = (*on, *on),
            _ => {}
        }
        Ok(())
    }

    fn faults(&mut self) {
        for n in 0..4 {
            let back = self.servers[n].back_at.is_some_and(|at| self.now >= at) || self.calm();
            if back && self.servers[n].blocked.take().is_some() {
                self.servers[n].pending = false;
                self.servers[n].up_since = self.now;
                if !self.servers[n].read_only && self.servers[n].answers() {
                    self.late_write(n);
                }
            }
            if back && !self.servers[n].reach() {
                let others = self.servers.iter().enumerate().filter(|(other, _)| *other != n);
                let known = others.fold(MySqlSet::default(), |all, (_, server)| all.union(&server.received()));
                self.servers[n].brought = self.servers[n].executed.subtract(&known);
            }
            let (now, server) = (self.now, &mut self.servers[n]);
            if back && server.cut {
                (server.cut, server.used_since, server.back_at, server.up_since) = (false, None, None, now);
            }
            if back && server.frozen {
                (server.frozen, server.back_at, server.up_since) = (false, None, now);
            }
            if back && !server.up {
                (server.up, server.back_at, server.up_since) = (true, None, now);
                server.restarts += 1;
                server.read_only = server.boots_read_only;
                // Replication starts with the server, and fetches anew what was not applied.
                (server.io, server.sql) = (true, true);
                server.relay = MySqlSet::default();
                if self.never.as_ref().is_some_and(|(new, ..)| new.index() == n) {
                    self.never = None;
                }
            }
        }
        self.moved = self.moved.filter(|to| self.writer != Some(*to));
        // The other proxy's own failover is none of this.
        if self.calm() || self.tick < 60 || self.moved.is_some() {
            return;
        }
        if self.dice.one_in(250) && self.switched_by_another() {
            return;
        }
        let often = if self.writer.is_some_and(|writer| self.servers[writer.index()].answers()) { 160 } else { 500 };
        if self.dice.one_in(often) {
            // The master more often than others.
            let random = self.dice.roll(4) as usize;
            let n = if self.dice.one_in(3) { random } else { self.writer.map_or(random, |writer| writer.index()) };
            let back = self.now + ms(50 + self.dice.roll(6000));
            let (freeze, kind, used) = (self.dice.one_in(2), self.dice.roll(8), self.dice.one_in(2));
            let now = self.now;
            let server = &mut self.servers[n];
            if server.reach() && server.blocked.is_none() {
                server.back_at = Some(back);
                // Nobody writes to one that was not master: what it did late would be nobody's.
                let freeze = match kind + if self.writer == Some(ServerId(n as u16)) { 0 } else { 8 } {
                    0 => {
                        (server.blocked, server.fence_hangs) = (Some(now), used);
                        self.told.push(format!("{} db{} cannot write", self.tick, n + 1));
                        return;
                    }
                    1 => {
                        (server.cut, server.used_since) = (true, used.then_some(now));
                        self.told.push(format!("{} db{} is out of reach, used {used}", self.tick, n + 1));
                        return;
                    }
                    _ => freeze,
                };
                if freeze {
                    server.frozen = true;
                } else {
                    server.up = false;
                }
                self.told.push(format!("{} db{} {}", self.tick, n + 1, if freeze { "freezes" } else { "crashes" }));
            }
        }
        if self.dice.one_in(250)
            && let Some(writer) = self.snapshot.writer().map(|view| view.id)
        {
            let to = ServerId(u16::from(writer.0 == 0));
            self.step(Event::Order(self.tick, Order::Switchover { to, dry_run: false }));
        }
    }

    /// Another proxy's switchover, where all is well and we do nothing ourselves.
    fn switched_by_another(&mut self) -> bool {
        let Some(old) = self.snapshot.writer().map(|view| view.id.index()).filter(|old| *old < 2) else { return false };
        let to = 1 - old;
        let at_rest = self.machine.phase_name() == "idle" && self.out.is_empty() && self.back.is_empty() && self.late.is_empty();
        let well = self.servers.iter().all(|server| server.reach() && server.blocked.is_none());
        let follows = self.servers[to].source == old && self.servers[to].io && self.servers[to].sql;
        let quarantined = self.snapshot.servers[to].state == State::Quarantined;
        if !at_rest || !well || !follows || quarantined || self.servers[old].read_only || !self.servers[to].read_only {
            return false;
        }
        let all = self.servers[old].executed.clone();
        if !all.contains(&self.servers[to].executed) {
            return false;
        }
        self.servers[to].executed.merge(&all);
        (self.servers[old].read_only, self.servers[to].read_only) = (true, false);
        // The rest of its work.
        for (_, server) in self.servers.iter_mut().enumerate().filter(|(n, server)| *n == old || server.source == old && *n != to) {
            (server.source, server.relay, server.io, server.sql) = (to, MySqlSet::default(), true, true);
        }
        (self.moved, self.another) = (Some(ServerId(to as u16)), true);
        self.told.push(format!("{} another proxy makes db{} master", self.tick, to + 1));
        true
    }

    fn replicate(&mut self) {
        for n in 0..4 {
            let source = self.servers[n].source;
            if !self.servers[n].answers() {
                continue;
            }
            let (fetch, apply) = if self.calm() { (50, 50) } else { (self.dice.roll(4), self.dice.roll(4)) };
            if self.servers[n].io && self.servers[source].answers() {
                let missing = self.servers[source].executed.subtract(&self.servers[n].received());
                self.servers[n].relay.merge(&some_of(&missing, fetch));
            }
            if self.servers[n].sql {
                let waiting = self.servers[n].relay.subtract(&self.servers[n].executed);
                let now = some_of(&waiting, apply);
                self.servers[n].executed.merge(&now);
            }
        }
        if let Some((new, lost, _)) = &self.never
            && self.snapshot.master == Some(*new)
        {
            let late = lost.subtract(&lost.subtract(&self.servers[new.index()].executed));
            if !late.is_empty() {
                self.fail(&format!("{late} of the dead master arrived late in {new:?}"));
            }
        }
    }

    /// A write that nobody acknowledged, or that was never ours.
    fn late_write(&mut self, n: usize) {
        let one = MySqlSet::one(Origin { uuid: uuid(n), tag: Tag::default() }, self.servers[n].next);
        self.servers[n].next += 1;
        self.servers[n].executed.merge(&one);
        self.told.push(format!("{} db{} writes {one} late", self.tick, n + 1));
        // What is just being made master writes as a master does.
        let next = match &self.machine.phase {
            Phase::Promote { whom, .. } | Phase::Undo { whom, blamed: true, .. } => Some(*whom),
            Phase::Restore { case, .. } => case.old,
            _ => None,
        };
        if let Some(new) = self.snapshot.master.filter(|new| new.index() != n && next != Some(ServerId(n as u16))) {
            let (_, lost, _) = self.never.get_or_insert_with(|| (new, MySqlSet::default(), self.now));
            lost.merge(&one);
        }
    }

    /// Others write, and our heartbeat does or does not.
    fn others(&mut self) {
        for n in 0..4 {
            let server = &self.servers[n];
            if self.tick % 10 == n as u64 && server.used_since.is_some() && server.answers() && !server.read_only {
                self.late_write(n);
            }
        }
        let Some(writer) = self.snapshot.writer().map(|view| view.id.index()) else { return };
        let server = &self.servers[writer];
        match server.blocked {
            Some(since) if self.now - since > ms(670) => {
                self.memory.beat_failed(ServerId(writer as u16), since, "no answer in time".to_owned())
            }
            None if server.reach() && !server.read_only && self.tick.is_multiple_of(12) => {
                self.memory.beat_written(self.tick, self.now)
            }
            _ => {}
        }
    }

    fn write(&mut self) {
        let Some(writer) = self.snapshot.writer().map(|view| view.id.index()) else { return };
        let server = &self.servers[writer];
        if !server.reach() || server.read_only || server.blocked.is_some() || !self.dice.one_in(2) {
            return;
        }
        let one = MySqlSet::one(Origin { uuid: uuid(writer), tag: Tag::default() }, self.servers[writer].next);
        self.servers[writer].next += 1;
        self.servers[writer].executed.merge(&one);
        let follower = (0..4).find(|n| {
            let server = &self.servers[*n];
            *n != writer && server.source == writer && server.io && server.answers()
                // A receiver that lacks older ones gets those first.
                && server.received().contains(&self.servers[writer].executed.subtract(&one))
        });
        if self.semi_sync {
            let Some(follower) = follower else { return };
            self.servers[follower].relay.merge(&one);
        }
        self.acknowledged.merge(&one);
    }

    fn run(&mut self) {
        while self.tick < TROUBLE_TICKS + CALM_TICKS {
            self.tick += 1;
            self.now += TICK;
            self.faults();
            self.others();
            self.write();
            self.replicate();
            let mut seen = Vec::new();
            for n in 0..4 {
                if self.tick % 12 != n as u64 * 3 {
                    continue;
                }
                let outcome = if !self.calm() && self.dice.one_in(15) { Err(Failure::QueryTimeout) } else { self.look(n) };
                let observation = Observation::from_monitor(ServerId(n as u16), self.now, self.now, outcome);
                match self.dice.roll(8) {
                    0 if !self.calm() => self.late.push((self.now + ms(self.dice.roll(400)), observation)),
                    _ => seen.push(observation),
                }
            }
            let now = self.now;
            seen.extend(self.late.extract_if(.., |(at, _)| *at <= now).map(|(_, o)| Observation { at: now, ..o }));
            self.judge(seen);
            self.step(Event::Seen(self.snapshot.clone()));
            let due: Vec<Action> = self.out.extract_if(.., |(at, _)| *at <= now).map(|(_, action)| action).collect();
            for action in due {
                self.perform(action);
            }
            let due: Vec<_> =
                self.back.extract_if(.., |(at, ..)| *at <= now).map(|(_, asked_at, event)| (asked_at, event)).collect();
            for (asked_at, event) in due {
                self.told_by(asked_at, &event);
                self.step(event);
                self.step(Event::Seen(self.snapshot.clone()));
            }
            if self.calm() && self.tick.is_multiple_of(50) && self.in_order().is_ok() {
                break;
            }
        }
        if let Err(why) = self.in_order() {
            self.fail(&format!("it does not end: {why}, {}", self.machine.phase_name()));
        }
    }

    /// One master, everybody else behind it, and what it lacks is named.
    fn in_order(&self) -> Result<(), String> {
        // A promotion that may lose nothing is refused for as long as the old master does not come back; here all do.
        let master = self.snapshot.writer().ok_or("nobody takes writes")?.id.index();
        if self.machine.phase_name() != "idle" {
            return Err("it is under way".to_owned());
        }
        let has = &self.servers[master].executed;
        for (n, server) in self.servers.iter().enumerate() {
            let view = &self.snapshot.servers[n];
            if (n == master) == server.read_only {
                return Err(format!("db{} has read_only {}", n + 1, server.read_only));
            }
            let beyond = server.executed.subtract(has);
            if !beyond.is_empty() && n != master && view.state != State::Quarantined {
                return Err(format!("db{} has {beyond}, which is not named", n + 1));
            }
            // Behind a standby that answers it is let be, as where an operator has set that up: the other proxy may have had its reasons.
            let follows = server.source == master || (n > 1 && server.source < 2 && self.another);
            if n != master && view.state != State::Quarantined && !(follows && server.io && server.sql) {
                return Err(format!("db{} does not follow", n + 1));
            }
        }
        if !self.machine.tending.halted().is_empty() {
            return Err(format!("{:?} were stopped by nobody", self.machine.tending.halted()));
        }
        let gone = self.acknowledged.subtract(has);
        let somewhere = self.servers.iter().fold(MySqlSet::default(), |all, server| all.union(&server.executed));
        let unnamed = gone.subtract(&somewhere);
        if self.semi_sync && self.honest && !unnamed.is_empty() {
            return Err(format!("{unnamed} was acknowledged, and nobody has it"));
        }
        Ok(())
    }
}

#[test]
fn simulation() {
    let asked = std::env::var("SLUICE_SIM_SEEDS").ok().and_then(|text| text.parse().ok());
    let first = std::env::var("SLUICE_SIM_FIRST").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    for seed in first..first + asked.unwrap_or(SEEDS) {
        World::new(seed).run();
    }
}
