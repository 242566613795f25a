//! The servers as everybody sees them until the next heartbeat: immutable, shared, read without a lock by every statement.

use std::sync::Arc;
use std::time::SystemTime;

use super::diagnosis::{Diagnosis, Standing};
use super::observation::Facts;
use super::settings::{ConfiguredRole, Settings};
use super::{Flavor, GtidSet, Role, ServerId, State};

/// The reason of a server that has not been looked at since the start.
pub const NOT_ASKED: &str = "not asked yet";

/// All servers at one moment.
#[derive(Clone, PartialEq, Debug)]
pub struct Snapshot {
    /// Rises by one whenever something changed that routing decides by: a master, role, state, weight. Lag and GTIDs alone leave it.
    pub epoch: u64,
    /// The servers; the index is the [`ServerId`].
    pub servers: Vec<ServerView>,
    /// The one server that takes writes. It may be [`State::Suspect`]: then writes wait, see [`Snapshot::writer`].
    pub master: Option<ServerId>,
    /// Why there is none; `Some` exactly when `master` is `None`.
    pub no_master: Option<NoMaster>,
    /// Why no write goes to anybody, the master included, while it is being replaced; `None` in ordinary times.
    pub hold: Option<Arc<str>>,
    /// What else is wrong and lasts, for the status page.
    pub standing: Vec<Standing>,
}

/// Why no server takes writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoMaster {
    /// The name of it.
    pub diagnosis: Diagnosis,
    /// Since when there is none for this cause.
    pub since: SystemTime,
    /// In words, each peer with its reason.
    pub detail: Arc<str>,
}

/// One server at one moment.
#[derive(Clone, PartialEq, Debug)]
pub struct ServerView {
    /// Its number.
    pub id: ServerId,
    /// Its name.
    pub name: Arc<str>,
    /// Its address.
    pub address: Arc<str>,
    /// What the file says it may be.
    pub configured_role: ConfiguredRole,
    /// What it is now.
    pub role: Role,
    /// Whether it may be used.
    pub state: State,
    /// Where it stands.
    pub zone: Arc<str>,
    /// Its share of the reads: the file's, or an operator's.
    pub weight: u32,
    /// The most connections Sluice opens to it.
    pub max_connections: u32,
    /// How far behind the master, in milliseconds; `None` when not known. 0 for the master.
    pub lag_ms: Option<u64>,
    /// What reads see there, as of the last heartbeat; for newer knowledge ask [`super::known::KnownGtids`].
    pub gtid: Option<Arc<GtidSet>>,
    /// While it is suspect or down: all that it is known to have had, the writes that it acknowledged after its last heartbeat included.
    pub had: Option<Arc<GtidSet>>,
    /// MySQL or MariaDB; `None` until it has answered once.
    pub flavor: Option<Flavor>,
    /// Its version string; empty until it has answered once.
    pub version: Arc<str>,
    /// Why it is in this state.
    pub reason: Arc<str>,
    /// Since when it is in this state.
    pub since: SystemTime,
    /// Whether it answers: silence is counted from [`Settings::down_after`] on, and an operator's word changes nothing of it.
    pub answers: bool,
    /// True when reads may go there: online, whatever its role.
    pub read_ok: bool,
    /// All it said at the last answer.
    pub facts: Option<Arc<Facts>>,
    /// Whether what it has was compared with what the master has, since it last came back and since the master is master.
    pub compared: bool,
    /// It is writable, and the master has said that it is, too, after this one had said so. Before that the one may have taken the other's place.
    pub beside: bool,
    /// Whether a GTID that it tells means what it means at the master. MySQL's sets always do. MariaDB's positions only count, so that a server whose
    /// history forked seems to have what it never saw: it counts once it was compared with the master that is master now.
    pub causal: bool,
    /// What it has and the master never saw, as GTIDs.
    pub errant: Option<Arc<str>>,
    /// An operator has taken it as it is, with that: `REJOIN SERVER`.
    pub accepted: bool,
}

impl Snapshot {
    /// Before anything has been seen: every server down for not having been asked. Servers that `before` knows by the same name and address keep
    /// what it says, so that a reload of the configuration makes no gap.
    pub fn starting(settings: &Settings, before: Option<&Snapshot>, now: SystemTime) -> Snapshot {
        let not_asked: Arc<str> = Arc::from(NOT_ASKED);
        let mut master = None;
        let servers = settings
            .ids()
            .map(|(id, server)| {
                let old = before.and_then(|b| b.servers.iter().find(|v| v.name == server.name && v.address == server.address));
                let was_master = old.is_some_and(|v| before.is_some_and(|b| b.master == Some(v.id)));
                if was_master && server.role == ConfiguredRole::Master {
                    master = Some(id);
                }
                let role = match server.role {
                    ConfiguredRole::Master if was_master => Role::Master,
                    ConfiguredRole::Master => Role::Standby,
                    ConfiguredRole::Replica | ConfiguredRole::Retired => Role::Replica,
                };
                ServerView {
                    id,
                    name: server.name.clone(),
                    address: server.address.clone(),
                    configured_role: server.role,
                    role,
                    state: old.map_or(State::Down, |v| v.state),
                    zone: server.zone.clone(),
                    weight: server.weight,
                    max_connections: server.max_connections,
                    lag_ms: old.and_then(|v| v.lag_ms),
                    gtid: old.and_then(|v| v.gtid.clone()),
                    had: old.and_then(|v| v.had.clone()),
                    flavor: old.and_then(|v| v.flavor),
                    version: old.map_or_else(|| Arc::from(""), |v| v.version.clone()),
                    reason: old.map_or_else(|| not_asked.clone(), |v| v.reason.clone()),
                    since: old.map_or(now, |v| v.since),
                    answers: old.is_some_and(|v| v.answers),
                    read_ok: old.is_some_and(|v| v.read_ok),
                    facts: old.and_then(|v| v.facts.clone()),
                    compared: false,
                    beside: false,
                    causal: old.is_none_or(|v| v.flavor != Some(Flavor::MariaDb)),
                    errant: None,
                    accepted: false,
                }
            })
            .collect();
        let no_master = master.is_none().then(|| NoMaster {
            diagnosis: Diagnosis::Starting,
            since: now,
            detail: Arc::from("the servers have not been asked yet"),
        });
        Snapshot { epoch: before.map_or(0, |b| b.epoch) + 1, servers, master, no_master, hold: None, standing: Vec::new() }
    }

    /// One server.
    pub fn server(&self, id: ServerId) -> Option<&ServerView> {
        self.servers.get(id.index())
    }

    /// The servers of the file, without those that have left it.
    pub fn current(&self) -> impl Iterator<Item = &ServerView> {
        self.servers.iter().filter(|view| view.configured_role != ConfiguredRole::Retired)
    }

    /// One server, by its name in the file.
    pub fn by_name(&self, name: &str) -> Option<&ServerView> {
        self.current().find(|view| &*view.name == name)
    }

    /// The master, suspect or not.
    pub fn master(&self) -> Option<&ServerView> {
        self.server(self.master?)
    }

    /// The master when it may be sent new writes; `None` means wait (or give up with [`Snapshot::hold`], [`Snapshot::no_master`], or the master's own
    /// reason).
    pub fn writer(&self) -> Option<&ServerView> {
        self.master().filter(|view| view.state == State::Online && self.hold.is_none())
    }

    /// The servers other than the master that may serve reads.
    pub fn readers(&self) -> impl Iterator<Item = &ServerView> {
        self.servers.iter().filter(|view| view.read_ok && view.role != Role::Master)
    }
}
