//! Carries out what the failover machine says, on one server each. Every action ends within its limit, and says what the server is like afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::beat::Beats;
use super::publish::Input;
use super::queries::{self, HeartbeatRow};
use super::reach::{Reach, Refusal};
use super::semi_sync::Relaxed;
use super::{MonitoredServer, Watch, commands};
use crate::topology::failover::{Answer, Outcome, Writes};
use crate::topology::observation::{ReplicaChannel, ThreadState};
use crate::topology::{Facts, Failure, Flavor, ServerId, Snapshot};

/// The least an answer to failover's questions may take; else a third of `heartbeat_timeout`.
const ANSWER_LIMIT_MIN: Duration = Duration::from_millis(200);
/// Until a command at a server has its effect.
const ACT_LIMIT: Duration = Duration::from_secs(3);
/// `SET GLOBAL read_only` waits for running writes; those that have not ended by then are ended.
const READ_ONLY_PATIENCE: Duration = Duration::from_millis(150);
/// A receiver that has not stopped by then is connecting.
const STOP_PATIENCE: Duration = Duration::from_millis(60);
/// While something is waited for, a server is asked this often.
const ASK_EVERY: Duration = Duration::from_millis(5);
/// A server that is not needed gets this much longer than the others.
const GRACE: Duration = Duration::from_millis(10);
/// What our own clock may be late while we wait for answers, before their absence proves nothing.
const STALL_MAX: Duration = Duration::from_millis(100);

/// A STOP that may take a while.
type Stopping = JoinHandle<Result<(), String>>;

/// All servers within reach.
pub(super) struct Hands {
    /// For questions.
    pub ask: Vec<Arc<Reach>>,
    /// For commands.
    pub act: Vec<Arc<Reach>>,
    /// For what must get through while a command hangs.
    pub free: Vec<Arc<Reach>>,
    /// Whose commits were let go.
    pub relaxed: Arc<Relaxed>,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// How long one answer may take.
    pub answer_limit: Duration,
    /// What is written to see whether a server writes; `None` where no heartbeat is.
    pub row: Option<HeartbeatRow>,
    /// Whose writing is waited for before a server is made read-only.
    pub beats: Arc<Beats>,
}

impl Watch {
    /// Who carries out failover's steps.
    pub(super) fn hands(
        &self,
        input: &mpsc::Sender<Input>,
        snapshot: &Arc<ArcSwap<Snapshot>>,
        beats: &Arc<Beats>,
        relaxed: &Arc<Relaxed>,
    ) -> Arc<Hands> {
        let topology = &self.settings.topology;
        let reach = |(id, server): (ServerId, &MonitoredServer)| {
            let (server, account, input) = (server.clone(), self.account.clone(), input.clone());
            let (retired, idle, fence_hangs) = (topology.is_retired(id), parking_lot::Mutex::default(), AtomicBool::new(false));
            Arc::new(Reach { id, server, account, input, retired, idle, fence_hangs })
        };
        let all = || topology.ids().map(|(id, _)| id).zip(self.servers.iter()).map(reach).collect::<Vec<_>>();
        Arc::new(Hands {
            ask: all(),
            act: all(),
            free: all(),
            relaxed: relaxed.clone(),
            snapshot: snapshot.clone(),
            answer_limit: (topology.heartbeat_timeout / 3).max(ANSWER_LIMIT_MIN),
            beats: beats.clone(),
            row: self.settings.heartbeat.clone(),
        })
    }
}

impl Hands {
    pub(super) fn facts(&self, id: ServerId) -> Option<Arc<Facts>> {
        self.snapshot.load().server(id).and_then(|view| view.facts.clone())
    }

    /// Opens a connection for commands everywhere, so that it is there when it is needed.
    pub(super) async fn warm(self: Arc<Self>) {
        for reach in self.act.iter().filter(|reach| !reach.retired) {
            if reach.idle.lock().is_none() {
                let _ = reach.ask(self.facts(reach.id).as_deref(), ACT_LIMIT).await;
            }
        }
    }

    /// Asks everybody at once.
    pub(super) async fn ask_all(
        self: Arc<Self>,
        unless: Option<ServerId>,
        probe: Option<ServerId>,
        spare: Vec<ServerId>,
        write: Option<ServerId>,
    ) -> Outcome {
        let trial = write.map(|id| tokio::spawn(self.clone().try_write(id)));
        let mut asked: JoinSet<Answer> = JoinSet::new();
        for reach in self.ask.iter().filter(|reach| !reach.retired) {
            let (hands, reach) = (self.clone(), reach.clone());
            let probe = probe.filter(|_| !spare.contains(&reach.id));
            asked.spawn(async move {
                let id = reach.id;
                let before = hands.facts(id);
                let mut answer = reach.ask(before.as_deref(), hands.answer_limit).await;
                if let (Ok(facts), Some(source)) = (&answer, probe.filter(|source| *source != id))
                    && let Some(channel) = hands.hears(facts, source)
                {
                    answer = hands.probe(&reach, facts.clone(), source, &channel).await;
                }
                (id, answer)
            });
        }
        let gone = |reach: &Arc<Reach>| (reach.id, Err(Failure::ConnectRefused("no longer in the configuration".to_owned())));
        let mut answers: Vec<Answer> = self.ask.iter().filter(|reach| reach.retired).map(gone).collect();
        let mut late = Duration::ZERO;
        // A write that hangs is looked at before it is told.
        let mut until = Instant::now() + self.answer_limit * if trial.is_some() { 5 } else { 3 };
        while !asked.is_empty() || trial.as_ref().is_some_and(|trial| !trial.is_finished()) {
            let needed = self.ask.iter().any(|reach| Some(reach.id) != unless && !answers.iter().any(|(id, _)| *id == reach.id));
            if !needed && unless.is_some() {
                until = until.min(Instant::now() + GRACE);
            }
            let nap = Duration::from_millis(20).min(until.saturating_duration_since(Instant::now()));
            let began = Instant::now();
            let next = async {
                match asked.join_next().await {
                    None => std::future::pending().await,
                    answer => answer,
                }
            };
            match timeout(nap, next).await {
                Ok(Some(Ok(answer))) => answers.push(answer),
                Ok(_) => {}
                Err(_) => late = late.max(began.elapsed().saturating_sub(nap)),
            }
            if Instant::now() >= until {
                break;
            }
        }
        for reach in self.ask.iter().filter(|reach| !answers.iter().any(|(id, _)| *id == reach.id)).collect::<Vec<_>>() {
            answers.push((reach.id, Err(Failure::QueryTimeout)));
        }
        answers.sort_by_key(|(id, _)| *id);
        let writes = match trial {
            None => Writes::NotTried,
            Some(trial) if trial.is_finished() => trial.await.unwrap_or_else(|_| Writes::Unclear("it was not tried".to_owned())),
            Some(_) => Writes::Blocked("no end in time".to_owned()),
        };
        Outcome::Answers { answers, stalled: late > STALL_MAX, writes }
    }

    /// Does it write? On a connection made for that.
    async fn try_write(self: Arc<Self>, id: ServerId) -> Writes {
        let (Some(row), Some(reach)) = (&self.row, self.ask.get(id.index())) else {
            return Writes::Unclear("there is no heartbeat to write".to_owned());
        };
        let mut connection = match reach.connect(self.answer_limit).await {
            Ok(connection) => connection,
            Err(refusal) => return Writes::Unclear(refusal.to_string()),
        };
        // As long as the heartbeat's: a disk that stands still for a moment is no reason.
        connection.set_timeout(self.answer_limit * 2);
        let mut tried = connection.query(&row.try_write()).await;
        // Before the first heartbeat: what that would do is tried.
        if tried.as_ref().is_err_and(|error| matches!(error.code(), Some(1049 | 1146))) {
            for statement in [row.create_schema(), row.create_table(), row.try_write()] {
                tried = connection.query(&statement).await;
                if tried.is_err() {
                    break;
                }
            }
        }
        match tried {
            Ok(results) if results.first().is_some_and(|result| result.affected_rows > 0) => Writes::Work,
            Ok(_) => Writes::Unclear("it is read-only".to_owned()),
            Err(error) => match error.code() {
                Some(code) if queries::is_its_own_fault(code) || queries::is_another_table(code) => {
                    Writes::Unclear(error.to_string())
                }
                // No table, no right.
                Some(1044 | 1049 | 1142 | 1143 | 1146 | 1227 | 1290 | 1792 | 1836) => Writes::Unclear(error.to_string()),
                Some(_) => Writes::Blocked(error.to_string()),
                None => {
                    let asked = reach.run(&[queries::thread_state(connection.connection_id())], self.answer_limit).await;
                    let state = asked.ok().and_then(|results| results.first()?.get(0, "f_state").map(str::to_owned));
                    match state {
                        Some(state) if queries::waits_for_a_table(&state) => {
                            Writes::Unclear(format!("the heartbeat's table: {state}"))
                        }
                        Some(state) if queries::waits_to_commit(&state) => {
                            let asked = reach.run(&[queries::large_commit()], self.answer_limit).await;
                            let large = asked.ok().and_then(|results| {
                                let row = results.first()?;
                                Some((row.get(0, "f_thread")?.to_owned(), row.get(0, "f_rows")?.to_owned()))
                            });
                            match large {
                                Some((thread, rows)) => Writes::Committing(format!("thread {thread} commits {rows} rows")),
                                None => Writes::Blocked(format!("{error} ({state})")),
                            }
                        }
                        Some(state) => Writes::Blocked(format!("{error} ({state})")),
                        None => Writes::Blocked(error.to_string()),
                    }
                }
            },
        }
    }

    /// The channel by which these facts say that it hears from `source`.
    fn hears(&self, facts: &Facts, source: ServerId) -> Option<String> {
        let snapshot = self.snapshot.load();
        let mut channels = facts.replication.iter().filter(|channel| snapshot.source_of(channel) == Some(source));
        channels.find(|channel| channel.io_running == ThreadState::Running).map(|channel| channel.name.clone())
    }

    /// Does it really hear from it? A receiver notices a silent source only after `slave_net_timeout`, a minute by default: so it connects anew.
    async fn probe(&self, reach: &Reach, facts: Facts, source: ServerId, channel: &str) -> Result<Facts, Failure> {
        let until = Instant::now() + self.answer_limit;
        let left = || until.saturating_duration_since(Instant::now()).max(ASK_EVERY);
        hurry(reach, facts.flavor, left()).await;
        // One text: whatever becomes of us, it is not left stopped.
        let again =
            format!("{}; {}", commands::stop_receiver(facts.flavor, channel), commands::start_receiver(facts.flavor, channel));
        if reach.run(&[again], left()).await.is_err() {
            return Ok(facts);
        }
        loop {
            let now = reach.ask(Some(&facts), left()).await?;
            let snapshot = self.snapshot.load();
            let state = now.replication.iter().find(|c| snapshot.source_of(c) == Some(source));
            let decided = state.is_none_or(|c| c.io_running == ThreadState::Running || !c.last_io_error.is_empty());
            if decided || Instant::now() >= until {
                return Ok(now);
            }
            sleep(ASK_EVERY).await;
        }
    }

    fn reach(&self, id: ServerId) -> Result<Arc<Reach>, String> {
        self.act.get(id.index()).cloned().ok_or_else(|| "no such server".to_owned())
    }

    /// How it stands after what was done to it.
    async fn after(&self, reach: &Reach) -> Result<Box<Facts>, String> {
        reach.ask(self.facts(reach.id).as_deref(), ACT_LIMIT).await.map(Box::new).map_err(|failure| failure.to_string())
    }

    async fn flavor(&self, reach: &Reach) -> Result<Flavor, String> {
        let known = self.facts(reach.id).map(|facts| facts.flavor);
        reach.flavor(known, ACT_LIMIT).await.map_err(|refusal| refusal.to_string())
    }

    /// `read_only` on, writers ended, and what it has then.
    pub(super) async fn fence(self: Arc<Self>, id: ServerId, kill: bool) -> Result<Box<Facts>, String> {
        let reach = self.reach(id)?;
        let flavor = self.flavor(&reach).await?;
        // One that hangs is enough: each would keep a thread of the server.
        if reach.fence_hangs.load(Ordering::Relaxed) {
            self.kill_found(&reach, [commands::own_fences(&reach.account.user)]).await;
        }
        let _no_beat = timeout(READ_ONLY_PATIENCE, self.beats.writing.lock()).await;
        let statement = [commands::read_only(flavor).to_owned()];
        let mut set = Box::pin(reach.run(&statement, ACT_LIMIT));
        let done = match timeout(READ_ONLY_PATIENCE, &mut set).await {
            Ok(done) => done,
            Err(_) => {
                reach.fence_hangs.store(true, Ordering::Relaxed);
                if kill {
                    self.kill_writers(id).await;
                }
                set.await
            }
        };
        reach.fence_hangs.store(matches!(done, Err(Refusal::Failed(_))), Ordering::Relaxed);
        done.map_err(|refusal| refusal.to_string())?;
        if kill {
            self.kill_writers(id).await;
        }
        let facts = self.after(&reach).await?;
        if facts.writable() { Err("it is still writable".to_owned()) } else { Ok(facts) }
    }

    /// Ends who has something open to write. Best effort: whoever is left cannot commit.
    async fn kill_writers(&self, id: ServerId) {
        let Some(reach) = self.ask.get(id.index()) else { return };
        self.kill_found(reach, [commands::WRITERS.to_owned(), commands::own_writers(&reach.account.user)]).await;
    }

    async fn kill_found(&self, reach: &Reach, threads: impl IntoIterator<Item = String>) {
        for writers in threads {
            let Ok(found) = reach.run(&[writers], ACT_LIMIT).await else { return };
            let Some(table) = found.first() else { return };
            for row in 0..table.rows.len() {
                if let Some(kill) = table.get(row, "id").and_then(commands::kill) {
                    // 1094: it has ended by itself.
                    let _ = reach.run(&[kill], ACT_LIMIT).await;
                }
            }
        }
    }

    /// Waits until it has applied all of `wanted`.
    pub(super) async fn follow(self: Arc<Self>, id: ServerId, wanted: Box<Facts>, limit: Duration) -> Result<Box<Facts>, String> {
        let until = Instant::now() + limit;
        let wanted = self.snapshot.load().followable([&*wanted].into_iter(), wanted.applied());
        let reach = self.reach(id)?;
        loop {
            let facts = self.after(&reach).await?;
            let applied = facts.applied();
            if applied.covers(&wanted) {
                return Ok(facts);
            }
            if Instant::now() >= until {
                return Err(format!("after {} ms it still lacks {}", limit.as_millis(), wanted.missing_from(&applied)));
            }
            sleep(ASK_EVERY).await;
        }
    }

    /// Receives no more from `stop_from`, applies what it has (but for one that is taken as it is), becomes writable.
    pub(super) async fn promote(
        self: Arc<Self>,
        id: ServerId,
        stop_from: Vec<ServerId>,
        as_it_is: bool,
    ) -> Result<Box<Facts>, String> {
        let reach = self.reach(id)?;
        let say = |refusal: Refusal| refusal.to_string();
        // What hangs there, of ours or of a Sluice that has died, would make it read-only, or receive again, whenever it comes to its turn. To lose
        // the connection does not end it.
        reach.fence_hangs.store(false, Ordering::Relaxed);
        let user = &reach.account.user;
        self.kill_found(&reach, [commands::own_fences(user), commands::own_probes(user)]).await;
        let mut facts = self.after(&reach).await?;
        let channels: Vec<String> = {
            let snapshot = self.snapshot.load();
            // The dead master that has never answered this proxy is known by the address in the file alone, and the servers may know it by another.
            let stranger = !stop_from.is_empty() && snapshot.has_strangers();
            let from = |channel: &&ReplicaChannel| {
                // MariaDB has forgotten the source's number after a start, until it has connected.
                let new = !stop_from.is_empty() && channel.source_server_id == 0 && channel.source_uuid.is_empty();
                snapshot.source_of(channel).map_or(stranger || new, |source| stop_from.contains(&source))
            };
            facts.replication.iter().filter(from).map(|channel| channel.name.clone()).collect()
        };
        if !channels.is_empty() {
            let stopping = self.stop_receivers(id, facts.flavor, &channels).await?;
            let until = Instant::now() + ACT_LIMIT;
            facts = self.after(&reach).await?;
            while !as_it_is && !facts.applied().covers(&self.snapshot.load().received(&facts)) {
                if Instant::now() >= until {
                    return Err("it has not applied all that it received".to_owned());
                }
                sleep(ASK_EVERY).await;
                facts = self.after(&reach).await?;
            }
            if facts.flavor == Flavor::MySql && channels.len() == facts.replication.len() {
                self.kill_found(&reach, [commands::HALF_APPLIED.to_owned()]).await;
            }
            let stops: Vec<String> = channels.iter().map(|channel| commands::stop(facts.flavor, channel)).collect();
            // Nothing is left to apply, and nothing comes: the rest of it need not be waited for. MySQL's applier may take a minute to stop where the source
            // broke off in the middle of a transaction.
            let free = self.free.get(id.index()).cloned();
            let patience = match stopping {
                // What it has not applied must not be applied later.
                _ if as_it_is => ACT_LIMIT * 2,
                None => STOP_PATIENCE,
                Some(_) => Duration::ZERO,
            };
            let mut rest = tokio::spawn(async move {
                if let Some(stopping) = stopping {
                    let _ = stopping.await;
                }
                match free {
                    Some(free) => free.run(&stops, ACT_LIMIT).await.map(|_| ()),
                    None => Ok(()),
                }
            });
            match timeout(patience, &mut rest).await {
                Ok(Ok(Err(Refusal::Said(why)))) => return Err(why),
                Ok(Ok(Ok(()))) => {}
                _ if as_it_is => return Err("its applier does not stop".to_owned()),
                _ => {}
            }
        }
        let statements: Vec<String> = commands::writable(facts.flavor).iter().map(|text| (*text).to_owned()).collect();
        reach.run(&statements, ACT_LIMIT).await.map_err(say)?;
        self.after(&reach).await
    }

    /// They receive nothing more when this has returned; what is returned may still go on. A STOP waits two seconds, or until the network's
    /// time-out, for a receiver that is just connecting to a silent source; but the first thing it says is that the receiver has to end as soon as it is connected, so nobody need wait.
    async fn stop_receivers(&self, id: ServerId, flavor: Flavor, channels: &[String]) -> Result<Option<Stopping>, String> {
        let (act, ask) = (self.reach(id)?, self.ask.get(id.index()).ok_or_else(|| "no such server".to_owned())?);
        let stops: Vec<String> = channels.iter().map(|channel| commands::stop_receiver(flavor, channel)).collect();
        hurry(&act, flavor, self.answer_limit).await;
        let mut stopping: Stopping =
            tokio::spawn(async move { act.run(&stops, ACT_LIMIT).await.map(|_| ()).map_err(|refusal| refusal.to_string()) });
        let ended = match timeout(STOP_PATIENCE, &mut stopping).await {
            Ok(ended) => ended,
            Err(_) => {
                let before = self.facts(id);
                let receives = |c: &ReplicaChannel| channels.contains(&c.name) && c.io_running == ThreadState::Running;
                let asked = ask.ask(before.as_deref(), self.answer_limit).await;
                if asked.is_ok_and(|facts| !facts.replication.iter().any(receives)) {
                    return Ok(Some(stopping));
                }
                stopping.await
            }
        };
        ended.map_err(|_| "it was not stopped".to_owned())??;
        Ok(None)
    }

    /// Replicates from `to` from now on.
    pub(super) async fn repoint(
        self: Arc<Self>,
        id: ServerId,
        to: ServerId,
        instead_of: Option<ServerId>,
        demoted: bool,
    ) -> Result<Box<Facts>, String> {
        let reach = self.reach(id)?;
        let facts = self.after(&reach).await?;
        let snapshot = self.snapshot.load_full();
        let Some((host, port)) = snapshot.address_for_servers(to) else {
            return Err("it is not known where the servers reach the master".to_owned());
        };
        let channel = match (instead_of, facts.replication.as_slice()) {
            (_, [only]) => only,
            (Some(old), many) => {
                let found = many.iter().find(|channel| snapshot.source_of(channel) == Some(old));
                found.ok_or_else(|| "none of its channels is the one that was meant".to_owned())?
            }
            (None, []) => {
                return Err("it has no replication channel whose account could be used: set up replication once by hand".to_owned());
            }
            (None, _) => return Err("it has more than one replication channel".to_owned()),
        };
        // What it has received and the new source lacks must not be applied: then the applier is stopped, too, and it is thrown away.
        let has_it_all = self.facts(to).is_some_and(|to| to.applied().covers(&snapshot.received(&facts)));
        let applies_on =
            has_it_all && channel.sql_running == ThreadState::Running && reach.finds_its_place(&facts, channel, ACT_LIMIT).await;
        // One text: a proxy that dies in the middle leaves no server stopped.
        let mut statements = vec![
            // The receiver first: while it is waited for, what it has is applied, and reads go on.
            commands::stop_receiver(facts.flavor, &channel.name),
        ];
        if applies_on {
            statements.push(commands::receive_from(&channel.name, &host, port));
        } else {
            statements.push(commands::stop(facts.flavor, &channel.name));
            statements.push(commands::follow(facts.flavor, &channel.name, &host, port, demoted));
        }
        statements.push(commands::start(facts.flavor, &channel.name));
        let statements = statements.join("; ");
        hurry(&reach, facts.flavor, self.answer_limit).await;
        reach.run(&[statements], ACT_LIMIT).await.map_err(|refusal| refusal.to_string())?;
        self.after(&reach).await
    }

    /// Starts or stops what it receives from another.
    pub(super) async fn receiver(self: Arc<Self>, id: ServerId, from: ServerId, on: bool) -> Result<Box<Facts>, String> {
        let reach = self.reach(id)?;
        let facts = self.after(&reach).await?;
        let snapshot = self.snapshot.load_full();
        let Some(channel) = facts.replication.iter().find(|channel| snapshot.source_of(channel) == Some(from)) else {
            return Err("it has no such replication channel".to_owned());
        };
        let statement = if on { commands::start(facts.flavor, &channel.name) } else { commands::stop(facts.flavor, &channel.name) };
        reach.run(&[statement], ACT_LIMIT).await.map_err(|refusal| refusal.to_string())?;
        self.after(&reach).await
    }
}

/// Best effort: an account that may not takes longer.
async fn hurry(reach: &Reach, flavor: Flavor, limit: Duration) {
    if flavor == Flavor::MariaDb {
        let _ = reach.run(&[commands::SHORT_GOODBYE.to_owned()], limit).await;
    }
}
