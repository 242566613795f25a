//! The side of the new process in an upgrade: it takes the doors, becomes ready, and is given the clients.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::UnixStream;

use crate::backend::pools::SERVERS_MAX;
use crate::frontend::shared::Shared;
use crate::run::doors::Door;
use crate::run::offline;
use crate::run::reload::Reloader;
use crate::run::talk::{HELLO, Talk, refusal};
use crate::topology::{Override, State};

/// How long a new process looks at its servers before it says that it cannot take over.
const LOOK_LIMIT: Duration = Duration::from_secs(20);
/// How long it takes at most until servers that are taken out are seen to be so; nobody accepts meanwhile.
const OUT_LIMIT: Duration = Duration::from_secs(1);

/// What the old process gives beside its clients.
#[derive(Debug, Default)]
pub struct Given {
    /// How many numbers of clients were given.
    numbers: u32,
    /// Servers that an operator has taken out.
    taken_out: Vec<(String, Override)>,
}

/// The process that this one took over from, as long as it has clients: its number, and theirs.
#[derive(Debug, Default)]
pub struct Before(Mutex<Option<(i32, u64)>>);

impl Before {
    fn has(&self, clients: Option<(i32, u64)>) {
        *self.0.lock() = clients;
    }

    /// How many clients are with it.
    pub fn clients(&self) -> u64 {
        self.0.lock().map_or(0, |(_, clients)| clients)
    }

    /// What an operator who looks for them is told.
    pub fn text(&self) -> Option<String> {
        self.0.lock().filter(|(_, clients)| *clients > 0).map(|(pid, clients)| {
            format!(
                "process {pid}, from which this one took over, still serves {clients} clients: they are not listed here and KILL does not \
                 reach them; they have until proxy.upgrade_timeout, and kill -TERM {pid} drains that process at once"
            )
        })
    }
}

/// What there is of the old process until it has said `yours`.
#[derive(Debug)]
pub struct Takeover {
    talk: Talk,
    path: String,
}

impl Takeover {
    /// Asks the process that listens at `path` for its doors.
    ///
    /// # Errors
    /// Nobody is there, or it refuses.
    pub async fn begin(path: &str) -> Result<(Takeover, Vec<Door>), String> {
        if path.is_empty() {
            return Err(
                "--takeover needs proxy.upgrade_socket, and the process that runs must have been started with it".to_owned()
            );
        }
        let explain = |e: io::Error| format!("cannot take over from the process at {path} (proxy.upgrade_socket): {e}");
        let mut talk = UnixStream::connect(Path::new(path)).await.and_then(Talk::on).map_err(explain)?;
        talk.say(&format!("{HELLO} {}", env!("CARGO_PKG_VERSION"))).await.map_err(explain)?;
        let doors = talk.take().await.map_err(explain)?;
        Ok((Takeover { talk, path: path.to_owned() }, doors))
    }

    /// Says that this process is ready, and waits for the clients.
    ///
    /// # Errors
    /// The old process refuses. One that has died has left everything to this one.
    pub async fn is_ready(&mut self) -> Result<Given, String> {
        let mut given = Given::default();
        let answer = match self.talk.say("ready").await {
            Ok(()) => self.given(&mut given).await,
            Err(e) => Err(e),
        };
        match answer {
            Ok(None) => Ok(given),
            Ok(Some(line)) => Err(format!("the old process at {} keeps its clients: {}", self.path, refusal(&line))),
            // Whether it has ended, or only this conversation, its socket tells.
            Err(error) => match UnixStream::connect(Path::new(&self.path)).await {
                Err(_) => {
                    tracing::warn!("the old process has ended before it handed its clients over: {error}");
                    Ok(Given::default())
                }
                Ok(_) => Err(format!("the old process at {} says nothing: {error}", self.path)),
            },
        }
    }

    /// Hears what is given, up to `yours`; a line that is something else is returned.
    async fn given(&mut self, given: &mut Given) -> io::Result<Option<String>> {
        for _ in 0..=SERVERS_MAX {
            let line = self.talk.line_soon().await?;
            match line.split_once(' ') {
                Some(("drain", server)) => given.taken_out.push((server.to_owned(), Override::Drain)),
                Some(("offline", server)) => given.taken_out.push((server.to_owned(), Override::Offline)),
                Some(("yours", number)) => match number.parse() {
                    Ok(number) => {
                        given.numbers = number;
                        return Ok(None);
                    }
                    Err(_) => return Ok(Some(line)),
                },
                _ => return Ok(Some(line)),
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "it tells of more servers than there can be"))
    }

    /// Tells that this process serves the clients, and waits beside it for the end of the old one: until then its sessions write
    /// without the cache of this one hearing of it.
    pub async fn is_done(mut self, shared: Arc<Shared>, before: Arc<Before>) {
        let pid = self.talk.peer().unwrap_or_default();
        if self.talk.say("taken").await.is_ok() {
            while let Ok(line) = self.talk.line().await {
                if let Some(clients) = line.strip_prefix("left ").and_then(|count| count.parse().ok()) {
                    before.has(Some((pid, clients)));
                }
            }
        }
        before.has(None);
        if let Some(cache) = &shared.cache {
            cache.beside_another(false);
        }
        shared.events.push("upgrade", None, "the old process has ended".to_owned());
    }
}

/// Becomes ready and has the old process hand over: from then on this one beats, and replaces masters.
///
/// # Errors
/// No master is found, or the old process refuses.
pub async fn succeed(predecessor: &mut Takeover, shared: &Arc<Shared>, reloader: &Reloader) -> Result<(), String> {
    let mut changed = shared.changed.clone();
    let looked = async {
        while shared.snapshot.load().master().is_none() {
            if changed.changed().await.is_err() {
                return;
            }
        }
    };
    if tokio::time::timeout(LOOK_LIMIT, looked).await.is_err() || shared.snapshot.load().master().is_none() {
        let why = shared.snapshot.load().current().map(|s| format!("{}: {}", s.name, s.reason)).collect::<Vec<_>>().join("; ");
        return Err(format!("no master was found within {LOOK_LIMIT:?} ({why}); the old process goes on"));
    }
    if let Some(template) = offline::greeting(&shared.snapshot.load()) {
        shared.login.greeting.store(Arc::new(template));
    }
    if let Some(cache) = &shared.cache {
        cache.beside_another(true);
    }
    let given = predecessor.is_ready().await?;
    shared.registry.number_after(given.numbers);
    shared.events.push("upgrade", None, "this process has taken over from another".to_owned());
    // First, so that nobody promotes or rejoins what an operator has taken out.
    take_out(&given.taken_out, shared).await;
    reloader.act(true).await
}

/// What an operator has taken out stays out: no statement goes there before that is so.
async fn take_out(servers: &[(String, Override)], shared: &Arc<Shared>) {
    let mut changed = shared.changed.clone();
    let mut ids = Vec::new();
    for (name, over) in servers {
        // It may have left the file.
        let Some(id) = shared.snapshot.load().by_name(name).map(|server| server.id) else { continue };
        shared.monitor.set_override(id, *over).await;
        shared.events.push("override", Some(name), "taken out by an operator before this process took over");
        ids.push(id);
    }
    let is_out = || {
        let snapshot = shared.snapshot.load();
        ids.iter().all(|id| snapshot.server(*id).is_none_or(|s| matches!(s.state, State::Draining | State::Offline)))
    };
    let out = async { while !is_out() && changed.changed().await.is_ok() {} };
    let _ = tokio::time::timeout(OUT_LIMIT, out).await;
}
