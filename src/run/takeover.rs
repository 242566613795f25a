//! The side of the new process in an upgrade: it takes the doors, becomes ready, and is given the clients.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;

use crate::frontend::shared::Shared;
use crate::run::doors::Door;
use crate::run::offline;
use crate::run::reload::Reloader;
use crate::run::talk::{HELLO, Talk, refusal};

/// How long a new process looks at its servers before it says that it cannot take over.
const LOOK_LIMIT: Duration = Duration::from_secs(20);

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

    /// Says that this process is ready, and waits for the clients. Gives how many numbers of clients were given.
    ///
    /// # Errors
    /// The old process refuses. One that has died has left everything to this one.
    pub async fn is_ready(&mut self) -> Result<u32, String> {
        let answer = match self.talk.say("ready").await {
            Ok(()) => self.talk.line_soon().await,
            Err(e) => Err(e),
        };
        match answer {
            Ok(line) => {
                let given = line.strip_prefix("yours ").and_then(|number| number.parse().ok());
                given.ok_or_else(|| format!("the old process at {} keeps its clients: {}", self.path, refusal(&line)))
            }
            // Whether it has ended, or only this conversation, its socket tells.
            Err(error) => match UnixStream::connect(Path::new(&self.path)).await {
                Err(_) => {
                    tracing::warn!("the old process has ended before it handed its clients over: {error}");
                    Ok(0)
                }
                Ok(_) => Err(format!("the old process at {} says nothing: {error}", self.path)),
            },
        }
    }

    /// Tells that this process serves the clients, and waits beside it for the end of the old one: until then its sessions write
    /// without the cache of this one hearing of it.
    pub async fn is_done(mut self, shared: Arc<Shared>) {
        if self.talk.say("taken").await.is_ok() {
            while self.talk.line().await.is_ok() {}
        }
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
    shared.registry.number_after(given);
    shared.events.push("upgrade", None, "this process has taken over from another".to_owned());
    reloader.act(true).await
}
