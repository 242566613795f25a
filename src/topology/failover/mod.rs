//! Replacing the master: failover, switchover, and bringing back who was master before. Pure: `step(event, now) -> actions`.
//!
//! ```text
//! failover     Doubt ----dead here, and nobody hears from it---> Collect --drained, losses allowed--> Promote --> Idle
//!                |  it answers, or its replicas hear from it:       |  refused: told, and tried again   |  failed: fenced, the next one
//!                +--> called off, or asked again                    +--> Refused                        +--> Collect
//!              its replicas hear from it and we do not (see doubt): only for so long, and only while nobody else writes to it
//!              it answers and writes nothing (see blocked): fenced if that can be had, and replaced
//! switchover   Ask --> Drain (open transactions end) --> Demote (read_only) --> Follow (the new one has all) --> Promote --> Idle
//!                          whatever fails before Promote: Restore (the old one writable again) --> Idle
//! in peace     tend: a second writable peer is fenced, who returns is compared and taken back, replicas of the dead are re-pointed
//! ```
//!
//! What it holds, whatever is lost, late or a lie: from `Hold` to `Release` no write goes to anybody; `Promote` goes to a second server only after the
//! first was fenced or is out of reach; writes are released only to a server that said it is writable; whoever is writable and not master is fenced as
//! soon as it is heard. A machine that starts anew (a restarted proxy) has no memory and needs none: what is to be done is read off the servers.

mod blocked;
mod case;
mod choose;
mod doubt;
mod machine;
mod orders;
mod planned;
mod promote;
mod tend;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use case::{Case, Kind, StepDone};
pub use doubt::spared;
pub use machine::Machine;
pub use tend::Duty;

use super::settings::Settings;
use super::snapshot::Snapshot;
use super::{Facts, Failure, ServerId};

/// Who starts a failover.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Sluice does, and it tends the servers.
    Auto,
    /// An operator does, by command; Sluice watches and tells.
    Manual,
    /// Nobody: the servers are never touched.
    Off,
}

/// How the machine may act.
#[derive(Clone, Debug)]
pub struct FailoverSettings {
    /// Who starts it.
    pub mode: Mode,
    /// The servers, and when silence counts.
    pub topology: Settings,
    /// How long statements are held; a switchover must end well before.
    pub hold_timeout: Duration,
    /// Refuse when more transactions than this are known to be lost; `None` for any number.
    pub max_lost_transactions: Option<u64>,
}

/// Names one action, so that its late answer is not taken for that of a newer one.
pub type Ticket = u64;
/// Names an operator's command, for its answer.
pub type OrderId = u64;

/// An operator's command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    /// `SWITCHOVER TO x [DRY RUN]`.
    Switchover {
        /// The new master.
        to: ServerId,
        /// Only say what would be done.
        dry_run: bool,
    },
    /// `FAILOVER TO x [FORCE]`.
    Failover {
        /// The new master.
        to: ServerId,
        /// Even when transactions are lost, and even when the old master lives.
        force: bool,
    },
    /// `REJOIN SERVER x`.
    Rejoin(ServerId),
}

/// What happens.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A new snapshot was published.
    Seen(Arc<Snapshot>),
    /// An operator's command.
    Order(OrderId, Order),
    /// An action has ended.
    Done(Ticket, Outcome),
    /// Time has passed.
    Tick,
}

/// How an action ended.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// What the servers said to [`Action::Ask`].
    Answers {
        /// Each that was asked: its facts, or why there are none.
        answers: Vec<Answer>,
        /// This process was not scheduled for so long meanwhile that silence proves nothing.
        stalled: bool,
        /// What came of [`Action::Ask`]'s `write`.
        writes: Writes,
    },
    /// How many transactions are still open after [`Action::AwaitOpen`].
    Open(usize),
    /// Fenced, promoted, re-pointed, caught up: what the server says of itself after it, or why it did not come about. After an error it may have.
    /// Diagnosis has taken in these facts already, as it has those of [`Outcome::Answers`].
    Acted(Result<Box<Facts>, String>),
}

/// Whether a server still writes, by a row of our own on a connection of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Writes {
    /// It was not tried.
    NotTried,
    /// It does.
    Work,
    /// The write did not come back, or the server said that it cannot: why.
    Blocked(String),
    /// It did not come back, and waits behind a large transaction that is being committed: which.
    Committing(String),
    /// It did not come back, and clients of ours hold a lock there under which nobody writes: who.
    Locked(String),
    /// It did not come back for a reason that stops nobody else, or there is nothing to try it with: why.
    Unclear(String),
}

/// One server's answer.
pub type Answer = (ServerId, Result<Facts, Failure>);

/// What to do. Every action may be lost, late, or done without its outcome arriving.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// From now on no write is sent to anybody. Done when it is so, before the actions behind it.
    Hold {
        /// Why, in words.
        why: String,
        /// The master is given up; else what is open there may end.
        deposed: bool,
    },
    /// Writes go to this server. Done before the actions behind it.
    Release(ServerId),
    /// Ask all servers how they stand: [`Outcome::Answers`].
    Ask {
        /// For the answer.
        ticket: Ticket,
        /// The answer of this one is not waited for once all others are there.
        unless: Option<ServerId>,
        /// Who claims to receive from this one is told to connect to it again , and asked
        /// when that has succeeded or its time is over.
        probe: Option<ServerId>,
        /// But not these, see [`spared`].
        spare: Vec<ServerId>,
        /// A row is written there, too.
        write: Option<ServerId>,
    },
    /// Wait until no transaction is open on that server any more, through this proxy: [`Outcome::Open`].
    AwaitOpen {
        /// For the answer.
        ticket: Ticket,
        /// Where.
        server: ServerId,
        /// How long.
        limit: Duration,
    },
    /// Close the connections of clients to that server.
    EndOpen(ServerId),
    /// Make it read-only and end its writers: [`Outcome::Acted`].
    Fence {
        /// For the answer.
        ticket: Ticket,
        /// Whom.
        server: ServerId,
        /// Whether clients' writers on it may be killed.
        kill: bool,
    },
    /// Wait until it has applied all that `like` had: [`Outcome::Acted`].
    Follow {
        /// For the answer.
        ticket: Ticket,
        /// Who waits.
        server: ServerId,
        /// What that other one says it has.
        like: Box<Facts>,
        /// How long.
        limit: Duration,
    },
    /// Point of no return. It stops receiving from `stop_from`, applies what it has, becomes writable: [`Outcome::Acted`].
    Promote {
        /// For the answer.
        ticket: Ticket,
        /// Whom.
        server: ServerId,
        /// Every replication of it from these ends.
        stop_from: Vec<ServerId>,
        /// What it has not applied is given up, and not waited for.
        as_it_is: bool,
    },
    /// Let it replicate from `to` by GTID: [`Outcome::Acted`].
    Repoint {
        /// For the answer.
        ticket: Ticket,
        /// Who.
        server: ServerId,
        /// From whom.
        to: ServerId,
        /// The channel it has used until now comes from this one; `None` for its only one.
        instead_of: Option<ServerId>,
        /// It was master: what it wrote itself counts as received.
        demoted: bool,
    },
    /// Its commits, those of its applier too, must wait for no acknowledgement of semi-synchronous replication until this is over: the one who
    /// would give it may be the dead master. Best effort, and without an outcome.
    LetCommit(ServerId),
    /// Start or stop what a server receives from another: [`Outcome::Acted`].
    Receiver {
        /// For the answer.
        ticket: Ticket,
        /// Who receives.
        server: ServerId,
        /// From whom.
        from: ServerId,
        /// Start it.
        on: bool,
    },
    /// `REJOIN SERVER`: an operator takes it as it is.
    Accept(ServerId),
    /// An event.
    Tell {
        /// Its kind in `SHOW EVENTS`.
        kind: &'static str,
        /// Whom it concerns.
        server: Option<ServerId>,
        /// In words.
        detail: String,
    },
    /// One more for `sluice_failovers_total`, with what it took from the first suspicion when it went well.
    Count {
        /// `failover`, `switchover` or `rejoin`.
        kind: Kind,
        /// `ok`, `refused` or `failed`.
        result: &'static str,
        /// How long.
        took: Option<Duration>,
    },
    /// The answer to an operator's command: its steps, or why not.
    Reply(OrderId, Result<Vec<StepDone>, String>),
}

/// Adds up what the steps need of the clock.
fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How long since.
fn since(then: Instant, now: Instant) -> Duration {
    now.saturating_duration_since(then)
}
