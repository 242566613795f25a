//! Does a server that is not the master follow it closely enough to be read from?
//!
//! Lag comes from heartbeats while they are written, and from `seconds_behind` otherwise. A stopped applier is out at once. A stopped receiver is out
//! at once too, unless its source is dead: then it has applied what there is, and lag (which stands still when nobody writes) decides. A receiver
//! that is still trying gets `max_lag` of time. Whoever does not say how it replicates is judged by its heartbeats, and without them is no better than
//! it was.

use std::time::Duration;

use super::super::diagnosis::{Diagnosis, Standing};
use super::super::memory::Pulse;
use super::super::observation::{Facts, ReplicaChannel, Sight, ThreadState};
use super::super::{ServerId, State};
use super::{Scene, Verdict};

/// The verdict on a server that answers and is not the master.
pub(super) fn judge(scene: &Scene<'_>, id: ServerId) -> Verdict {
    let memory = &scene.memory.servers[id.index()];
    let (Some(facts), Some(asked_at)) = (&memory.facts, memory.facts_at) else {
        return Verdict { state: State::Down, reason: "nothing is known of it yet".to_owned(), lag_ms: None, broken: false };
    };
    let channels = relevant(scene, facts);
    let lag = lag(scene, facts, &channels, asked_at);
    let lag_ms = lag.map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX));
    let broken = |reason: String| Verdict { state: State::Lagging, reason, lag_ms, broken: true };
    if facts.sight == Sight::Clear && scene.master.is_some() && facts.replication.is_empty() {
        return broken("it replicates from nobody".to_owned());
    }
    for channel in &channels {
        let source = scene.memory.source_of(scene.settings, channel);
        let source_dead =
            source.is_some_and(|source| matches!(scene.pulse(source), Pulse::Gone | Pulse::Silent(_) | Pulse::Suspect(_)));
        if channel.sql_running != ThreadState::Running {
            return broken(format!("its applier has stopped{}", because(&channel.last_sql_error)));
        }
        if channel.io_running == ThreadState::Stopped && !source_dead && scene.master.is_some() {
            return broken(format!("its receiver has stopped{}", because(&channel.last_io_error)));
        }
        let cut_off = memory.disconnected_since.map_or(Duration::ZERO, |since| scene.now.mono.saturating_duration_since(since));
        if channel.io_running != ThreadState::Running && lag.is_none() && scene.master.is_some() && cut_off > scene.settings.max_lag
        {
            return broken(format!(
                "its receiver has no connection for {} s{}",
                cut_off.as_secs(),
                because(&channel.last_io_error)
            ));
        }
    }
    match lag {
        Some(lag) if lag > scene.settings.max_lag => {
            // Whole seconds, so that the text is not new at every heartbeat; `lag_ms` has the figure.
            let reason = format!("{} s behind, max_lag is {:?}", lag.as_secs(), scene.settings.max_lag);
            Verdict { state: State::Lagging, reason, lag_ms, broken: false }
        }
        _ if scene.master.is_none() => {
            Verdict { state: State::Online, reason: "it answers; there is no master to follow".to_owned(), lag_ms, broken: false }
        }
        Some(_) if facts.sight == Sight::Hangs => Verdict {
            state: State::Online,
            reason: "its heartbeats follow the master; what it is asked of its replication it does not answer".to_owned(),
            lag_ms,
            broken: false,
        },
        Some(_) => Verdict { state: State::Online, reason: "it follows the master".to_owned(), lag_ms, broken: false },
        None if facts.sight == Sight::Hangs => unseen(scene, id),
        None if facts.sight == Sight::Denied => Verdict {
            state: State::Online,
            reason: "it answers; how it replicates cannot be seen (grants)".to_owned(),
            lag_ms,
            broken: false,
        },
        None => {
            Verdict { state: State::Online, reason: "it replicates; how far behind is not known".to_owned(), lag_ms, broken: false }
        }
    }
}

/// Nothing tells how far behind it is. Who was late, or has not been judged yet, may be late still; who was not gets `max_lag` of time.
fn unseen(scene: &Scene<'_>, id: ServerId) -> Verdict {
    let unseen = scene.memory.servers[id.index()].unseen_since.map_or(Duration::ZERO, |since| scene.now.mono - since);
    let was_well = scene.previous.server(id).is_some_and(|before| before.state == State::Online);
    let broken = |one: &Standing| one.diagnosis == Diagnosis::ReplicationBroken && one.server == id;
    let (state, text) = match was_well && unseen <= scene.settings.max_lag {
        true => (State::Online, "for the moment"),
        false => (State::Lagging, "and who does not say how far behind it is may be late"),
    };
    Verdict {
        state,
        reason: format!("what it is asked of its replication it does not answer, {text}"),
        lag_ms: None,
        broken: scene.previous.standing.iter().any(broken),
    }
}

/// The channels that come from the master, or all of them when none does directly.
fn relevant<'a>(scene: &Scene<'_>, facts: &'a Facts) -> Vec<&'a ReplicaChannel> {
    let from_master =
        |channel: &&ReplicaChannel| scene.master.is_some() && scene.memory.source_of(scene.settings, channel) == scene.master;
    let direct: Vec<&ReplicaChannel> = facts.replication.iter().filter(from_master).collect();
    if direct.is_empty() { facts.replication.iter().collect() } else { direct }
}

/// Our first beat has not come to a server after so long: what the server says itself counts.
const FILTERED_AFTER: Duration = Duration::from_secs(10);

/// How far behind, by the best witness there is.
fn lag(scene: &Scene<'_>, facts: &Facts, channels: &[&ReplicaChannel], asked_at: std::time::Instant) -> Option<Duration> {
    let shared = scene.memory.beats_shared_until.is_some_and(|until| scene.now.mono < until);
    let beats = &scene.memory.beats;
    let by_beats = if shared { None } else { beats.lag(facts.heartbeat, asked_at) };
    let by_server = channels.iter().filter_map(|channel| channel.seconds_behind).max().map(Duration::from_secs);
    let ours = facts.heartbeat.is_some_and(|beat| beat.run == beats.run());
    // It follows the master and none of our beats has come: its filters leave out the schema of the heartbeat.
    let from_master = |channel: &&ReplicaChannel| {
        channel.io_running == ThreadState::Running && scene.memory.source_of(scene.settings, channel) == scene.master
    };
    let filtered = !ours && by_beats.is_some_and(|lag| lag > FILTERED_AFTER) && channels.iter().all(from_master);
    if filtered && by_server.is_some() {
        return by_server;
    }
    if beats.live(scene.now.mono) && by_beats.is_some() {
        return by_beats;
    }
    // Beats that stopped still say what is missing of them; a row from before our first beat says nothing any more.
    by_server.max(by_beats.filter(|_| ours))
}

/// `: the error`, or nothing.
fn because(error: &str) -> String {
    if error.is_empty() { String::new() } else { format!(": {error}") }
}
