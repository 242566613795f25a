//! The routing decision itself: a pure function whose text is the order of the rules.

use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::routing::balance::{self, Candidate, Load, ReadBalance};
use crate::routing::decision::{Decision, Reason, Target};
use crate::routing::rules::{Action, Rules, Subject};
use crate::routing::schemas::Schemas;
use crate::session::pin::PinReason;
use crate::session::state::READ_ONLY;
use crate::sql::classify::{Access, Class, ClassReason, Classified};
use crate::sql::hint::{Hint, HintTarget};
use crate::topology::gtid::GtidSet;
use crate::topology::snapshot::{ServerView, Snapshot};
use crate::topology::{Role, ServerId};

/// `routing.consistency`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Consistency {
    /// Reads may be older than the session's own writes.
    None,
    /// A session reads its own writes.
    #[default]
    Session,
    /// Every session reads all writes that returned before it asked: reads go to the master or wait for its position.
    Global,
}

/// `routing.read_from_master`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReadFromMaster {
    /// Not even when no replica is left.
    Never,
    /// When no replica can serve.
    #[default]
    Fallback,
    /// It takes its turn like a replica.
    Always,
}

/// `[routing]`, as this room needs it.
#[derive(Clone, Debug, Default)]
pub struct RoutingSettings {
    /// Which replica takes a read.
    pub read_balance: ReadBalance,
    /// What a read must have seen.
    pub consistency: Consistency,
    /// Whether the master serves reads.
    pub read_from_master: ReadFromMaster,
    /// Where this proxy stands; readers in the same zone come first. Empty: nowhere.
    pub zone: Arc<str>,
}

/// What the server of a read must have beside what the session itself must see: its answer is to be kept for others.
#[derive(Clone, Copy, Debug, Default)]
pub enum MustHave<'a> {
    /// Nothing.
    #[default]
    Any,
    /// These transactions.
    Gtid(&'a GtidSet),
    /// What only the master is known to have.
    Master,
}

/// Everything the decision depends on.
pub struct Question<'a> {
    /// What the statement is.
    pub statement: &'a Classified,
    /// Its text, for the patterns of rules.
    pub sql: &'a [u8],
    /// The hint in its comments.
    pub hint: Option<&'a Hint>,
    /// The account.
    pub user: &'a str,
    /// Where the client is.
    pub client: Option<IpAddr>,
    /// The session's current schema.
    pub schema: Option<&'a [u8]>,
    /// Where the session is pinned, and why.
    pub pinned: Option<(ServerId, PinReason)>,
    /// The session holds no connection yet, and will stay on the one it is given.
    pub stays: bool,
    /// In a transaction that may only read.
    pub in_read_only_transaction: bool,
    /// `autocommit` of the session.
    pub autocommit: bool,
    /// `completion_type` of the session is `NO_CHAIN`.
    pub completes_plainly: bool,
    /// The account may only read.
    pub read_only_account: bool,
    /// The schemas that the account may use.
    pub schemas: Schemas<'a>,
    /// What the session's reads must have seen: its own last write, or with global consistency the newest known write.
    pub written: Option<&'a GtidSet>,
    /// The session has changed a definition, and no replica was known to have that since.
    pub defined: bool,
    /// The session has set a global variable, on the master.
    pub set_global: bool,
    /// What others must be able to see in its answer.
    pub must_have: MustHave<'a>,
    /// The servers as they are now.
    pub snapshot: &'a Snapshot,
    /// The operator's rules.
    pub rules: &'a Rules,
    /// The settings.
    pub settings: &'a RoutingSettings,
    /// Where the statement was prepared a moment ago: taken before others that are as good.
    pub prefer: Option<ServerId>,
    /// Servers that already failed this statement.
    pub failed: &'a [ServerId],
    /// Counts up with every decision of this thread that goes to a replica.
    pub turn: u64,
    /// What a server is doing now.
    pub load: &'a dyn Fn(ServerId) -> Load,
    /// Whether a server is known to have these transactions, from the last heartbeat or from what it was seen to have since.
    pub has: &'a dyn Fn(ServerId, &GtidSet) -> bool,
}

/// Where the statement goes, and why.
pub fn decide(q: &Question<'_>) -> Decision {
    let subject = Subject { user: q.user, schema: q.schema, sql: q.sql, digest: q.statement.digest_hash, client: q.client };
    let rule = if q.rules.0.is_empty() { None } else { q.rules.first_match(&subject) };

    // What is refused is refused everywhere, pinned or not.
    if let Some((number, rule)) = rule
        && rule.action == Action::Deny
    {
        return answer(Target::Deny, Reason::Rule(number));
    }
    if q.read_only_account && !allowed_to_readers(q.statement.class) {
        return answer(Target::Deny, Reason::ReadOnlyAccount);
    }
    if q.schemas.refuse(q.statement, q.schema).is_some() {
        return answer(Target::Deny, Reason::SchemaNotAllowed);
    }

    // 1. Pinned.
    if let Some((server, pin)) = q.pinned {
        // An account with the privilege could write on a read-only server, and the two would differ from then on.
        if q.snapshot.master.is_some_and(|master| master != server) && !q.in_read_only_transaction && writes(q.statement) {
            return answer(Target::Deny, Reason::PinnedElsewhere(pin));
        }
        // A lock there would keep nobody out, and a variable be set there alone.
        if q.in_read_only_transaction && q.snapshot.master.is_some_and(|master| master != server) && is_masters(q.statement) {
            return answer(Target::Deny, Reason::PinnedElsewhere(pin));
        }
        return Decision {
            target: Target::Server,
            server: Some(server),
            reason: Reason::Pinned(pin),
            wait_for_write: false,
            may_retry: false,
        };
    }
    if q.completes_plainly && ends_nothing(q.statement) {
        return answer(Target::Proxy, Reason::Answered);
    }

    let may_read = readable(q.statement);
    let mut unusable = None;
    // 2. Hint.
    if let Some(target) = q.hint.and_then(|hint| hint.target.as_ref()) {
        match aim(q, Aim::from(target), may_read, Reason::Hint) {
            Some(decision) => return decision,
            None => unusable = Some(Reason::HintUnusable),
        }
    }
    // 3. Rule.
    if let Some((number, rule)) = rule {
        let target = match &rule.action {
            Action::Master => Some(Aim::Master),
            Action::Replica => Some(Aim::Replica),
            Action::Server(name) => Some(Aim::Server(name)),
            Action::Deny | Action::Cache | Action::NoCache => None,
        };
        if let Some(decision) = target.and_then(|target| aim(q, target, may_read, Reason::Rule(number))) {
            return decision;
        }
    }
    // 4. Class.
    let decision = by_class(q);
    match unusable {
        Some(reason) => Decision { reason, ..decision },
        None => decision,
    }
}

fn by_class(q: &Question<'_>) -> Decision {
    let class = q.statement.class;
    if !q.autocommit && matches!(class, Class::Read | Class::LockingRead) && begins_transaction(q.statement) {
        return master(q, Reason::AutocommitOff);
    }
    match class {
        Class::Read if q.stays => master(q, Reason::Stays),
        Class::Read if q.statement.writes_unseen.is_raised() => master(q, Reason::RefusedByReplica),
        // A global variable is set on the master, and read where it was set; whoever sets one sees what comes of it.
        Class::Read if (q.set_global || reads_server_state(q)) && q.snapshot.master.is_some() => {
            Decision { may_retry: true, ..master(q, Reason::ServerState) }
        }
        Class::Read => read(q, Reason::Read),
        Class::Transaction if begins_read_only(q.statement) && !q.set_global => read(q, Reason::ReadOnlyTransaction),
        Class::Session if frees_next_transaction(q.statement) => master(q, Reason::Session),
        Class::Session => match q.snapshot.writer() {
            Some(_) => master(q, Reason::Session),
            None => read(q, Reason::Session),
        },
        Class::Transaction => master(q, Reason::Transaction),
        Class::LockingRead => master(q, Reason::LockingRead),
        Class::Write => master(q, Reason::Write),
        Class::Ddl => master(q, Reason::Ddl),
        Class::Administrative => master(q, Reason::Administrative),
        Class::Unknown => master(q, Reason::Unknown),
    }
}

/// Schemas whose tables, or some of them, show the server itself.
const OWN_SCHEMAS: [&[u8]; 4] = [b"mysql", b"performance_schema", b"sys", b"information_schema"];

/// Whether it reads what each server has of its own: by its text, or by the schema that its names are in.
fn reads_server_state(q: &Question<'_>) -> bool {
    let statement = q.statement;
    statement.effects.reads_server_state
        || statement.reason == ClassReason::PlainSelect
            && statement.may_use_table
            && q.schema.is_some_and(|schema| OWN_SCHEMAS.iter().any(|own| schema.eq_ignore_ascii_case(own)))
}

/// Whether the transaction that follows may write although the session's do not: a server that is not the master is guarded by that (see `backend::connection`).
pub fn frees_next_transaction(statement: &Classified) -> bool {
    let effects = &statement.effects;
    effects.set_transaction == Some(false)
        || effects.begins_transaction.is_some_and(|start| start.access == Access::ReadWrite)
        || effects.sets_system_variables.iter().any(|name| READ_ONLY.contains(&name.as_str()))
}

/// Whether it may change what replicas copy from the master: all that is not known to speak of the connection only, or to read.
fn writes(statement: &Classified) -> bool {
    match statement.class {
        Class::Session | Class::Transaction => frees_next_transaction(statement),
        Class::Read | Class::LockingRead | Class::Administrative => false,
        Class::Ddl | Class::Unknown => true,
        Class::Write => match &statement.reason {
            ClassReason::PreparedInText => statement.effects.text_execute.is_some(),
            ClassReason::FunctionWithEffect(_)
            | ClassReason::AssignsUserVariable
            | ClassReason::IntoVariable
            | ClassReason::ProcedureClause
            | ClassReason::ExplainWrite
            | ClassReason::Handler
            | ClassReason::LockTables
            | ClassReason::Diagnostics
            | ClassReason::Empty => false,
            _ => true,
        },
    }
}

/// Whether it means nothing on a server that is not the master, even in a transaction that only reads.
fn is_masters(statement: &Classified) -> bool {
    let effects = &statement.effects;
    let asks = matches!(&statement.reason, ClassReason::FunctionWithEffect("IS_FREE_LOCK" | "IS_USED_LOCK"));
    effects.get_lock || effects.sets_global || asks
}

/// Whether a read may begin a transaction when statements do not commit by themselves. In MySQL what shows something reads tables of
/// the dictionary.
fn begins_transaction(statement: &Classified) -> bool {
    statement.may_use_table || !matches!(statement.reason, ClassReason::PlainSelect | ClassReason::Do)
}

/// A hint's or a rule's wish.
enum Aim<'a> {
    Master,
    Replica,
    Server(&'a str),
}

impl<'a> From<&'a HintTarget> for Aim<'a> {
    fn from(target: &'a HintTarget) -> Aim<'a> {
        match target {
            HintTarget::Master => Aim::Master,
            HintTarget::Replica => Aim::Replica,
            HintTarget::Server(name) => Aim::Server(name),
        }
    }
}

/// A wish fulfilled, or `None` where fulfilling it would send a write to a server that is not the master.
fn aim(q: &Question<'_>, aim: Aim<'_>, may_read: bool, reason: Reason) -> Option<Decision> {
    match aim {
        Aim::Master => Some(master(q, reason)),
        Aim::Replica if may_read => Some(Decision { reason, ..read(q, reason) }),
        Aim::Replica => None,
        Aim::Server(name) => {
            let server = q.snapshot.servers.iter().find(|s| &*s.name == name)?;
            if q.snapshot.master == Some(server.id) {
                return Some(master(q, reason));
            }
            let usable = may_read && server.read_ok && !q.failed.contains(&server.id);
            usable.then(|| {
                let wait_for_write = q.written.is_some_and(|written| !(q.has)(server.id, written));
                Decision { target: Target::Server, server: Some(server.id), reason, wait_for_write, may_retry: true }
            })
        }
    }
}

/// Whether a server that is not the master may run it: a proved read, or a `SELECT` whose only doubt is a function that the
/// operator, by naming the server, vouches for (servers that are not the master are read-only anyway).
fn readable(statement: &Classified) -> bool {
    match statement.class {
        Class::Read => !statement.writes_unseen.is_raised(),
        Class::Write => matches!(statement.reason, ClassReason::UnknownFunction(_)) && !statement.writes_unseen.is_raised(),
        Class::Transaction => begins_read_only(statement),
        _ => false,
    }
}

fn begins_read_only(statement: &Classified) -> bool {
    statement.effects.begins_transaction.is_some_and(|start| start.access == Access::ReadOnly)
}

/// `COMMIT` or `ROLLBACK` by itself: without an open transaction there is nothing to do. `AND CHAIN` begins a new one, and
/// `RELEASE` ends the session, so these need a server.
fn ends_nothing(statement: &Classified) -> bool {
    let end = statement.effects.ends_transaction;
    !statement.multi
        && statement.class == Class::Transaction
        && end.is_some_and(|end| end.chain != Some(true) && end.release != Some(true))
}

fn allowed_to_readers(class: Class) -> bool {
    matches!(class, Class::Read | Class::Session | Class::Transaction)
}

fn answer(target: Target, reason: Reason) -> Decision {
    Decision { target, server: None, reason, wait_for_write: false, may_retry: false }
}

fn master(q: &Question<'_>, reason: Reason) -> Decision {
    // Nobody while the master is suspect or being replaced: then it waits.
    let server = q.snapshot.writer().map(|master| master.id);
    Decision { target: Target::Master, server, reason, wait_for_write: false, may_retry: false }
}

/// As many servers are chosen from without an allocation.
const FEW: usize = 8;

/// Whether this server takes reads at all now.
fn serves(q: &Question<'_>, server: &ServerView) -> bool {
    server.read_ok && !q.failed.contains(&server.id)
}

fn read(q: &Question<'_>, reason: Reason) -> Decision {
    let written = match q.settings.consistency {
        Consistency::None => None,
        Consistency::Session | Consistency::Global => q.written,
    };
    let always = q.settings.read_from_master == ReadFromMaster::Always;
    let never = q.settings.read_from_master == ReadFromMaster::Never;
    let shared = match q.must_have {
        MustHave::Master if !never && q.snapshot.writer().is_some_and(|master| serves(q, master)) => {
            return Decision { may_retry: true, ..master(q, Reason::ReplicasBehind) };
        }
        MustHave::Gtid(set) => Some(set),
        MustHave::Any | MustHave::Master => None,
    };
    let lacks = |server, set: Option<&GtidSet>| set.is_some_and(|set| !(q.has)(server, set));
    let mut fresh: SmallVec<[&ServerView; FEW]> = SmallVec::new();
    let mut behind: SmallVec<[&ServerView; FEW]> = SmallVec::new();
    for server in &q.snapshot.servers {
        let is_master = server.role == Role::Master && q.snapshot.master == Some(server.id);
        if !serves(q, server) || (is_master && !always) {
            continue;
        }
        // What it says it has may be something else of that number; to wait for it there would end too early.
        if !is_master && (written.is_some() || shared.is_some()) && !server.causal && !never {
            continue;
        }
        if !is_master && (lacks(server.id, written) || lacks(server.id, shared)) {
            behind.push(server);
        } else {
            fresh.push(server);
        }
    }
    let preferred = fresh.iter().find(|s| q.prefer == Some(s.id) && s.weight > 0).map(|s| s.id);
    if let Some(server) = preferred.or_else(|| choose(q, &fresh)) {
        let is_master = q.snapshot.master == Some(server);
        return Decision {
            target: if is_master { Target::Master } else { Target::Replica },
            server: Some(server),
            reason: match (is_master, written.is_some() && reason == Reason::Read) {
                (true, _) => Reason::ReadFromMaster,
                (false, true) => Reason::ReadYourWrites,
                (false, false) => reason,
            },
            wait_for_write: false,
            may_retry: true,
        };
    }
    if let Some(server) = choose(q, &behind) {
        // A replica that was well behind at its last heartbeat will not have it in a moment either. Nor will the next one, where one
        // was waited for in vain; nor any, where a definition was changed: that takes a replica as long as it took the master, and
        // it begins when the master is done.
        let lags = q.snapshot.server(server).and_then(|s| s.lag_ms).is_some_and(|lag| lag > WAITING_LAG_MS_MAX);
        let hopeless = lags || q.defined || !q.failed.is_empty();
        let master_serves = q.snapshot.writer().is_some_and(|master| !q.failed.contains(&master.id));
        if !hopeless || never || !master_serves {
            return Decision {
                target: Target::Replica,
                server: Some(server),
                reason: Reason::ReadYourWritesWait,
                wait_for_write: true,
                may_retry: true,
            };
        }
        return Decision { may_retry: true, ..master(q, Reason::ReplicasBehind) };
    }
    match q.settings.read_from_master {
        ReadFromMaster::Never => Decision {
            target: Target::Replica,
            server: None,
            reason: Reason::NoReplicaAllowed,
            wait_for_write: false,
            may_retry: true,
        },
        // The master may have failed this statement, too; then it waits for a master as a write does.
        _ => Decision { may_retry: true, ..master(q, if written.is_some() { Reason::ReplicasBehind } else { Reason::NoReplica }) },
    }
}

/// A replica further behind than this is not asked to wait for a session's write; the read goes to the master.
pub const WAITING_LAG_MS_MAX: u64 = 200;

/// One of these, by zone first and then by the settings' balance.
fn choose(q: &Question<'_>, servers: &[&ServerView]) -> Option<ServerId> {
    let zone = &q.settings.zone;
    let near = !zone.is_empty() && servers.iter().any(|s| s.zone == *zone && s.weight > 0);
    let chosen_from = servers.iter().filter(|s| !near || s.zone == *zone);
    if q.settings.read_balance == ReadBalance::RoundRobin {
        return balance::in_turn(chosen_from.map(|s| (s.id, s.weight)), q.turn);
    }
    let by_load = matches!(q.settings.read_balance, ReadBalance::LeastConnections | ReadBalance::Fastest);
    let load = |id| if by_load { (q.load)(id) } else { Load::default() };
    let candidates: SmallVec<[Candidate; FEW]> =
        chosen_from.map(|s| Candidate { id: s.id, weight: s.weight, load: load(s.id) }).collect();
    balance::pick(q.settings.read_balance, &candidates, q.turn)
}

#[cfg(test)]
mod tests;
