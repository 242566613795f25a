//! The life of a running proxy, from its open doors to the last client: signals, the handing over to a new process, the drain.

use std::io::ErrorKind;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::frontend::registry::ClientState;
use crate::run::Proxy;
use crate::run::doors::Doors;
use crate::run::notify::notify;
use crate::run::talk::Talk;
use crate::run::upgrade::{self, UpgradeDoor};
use crate::topology::State;
use crate::topology::snapshot::ServerView;

/// How long the new process may take to say that it serves the clients it was given. It takes milliseconds; until then nobody accepts.
const TAKEN_LIMIT: Duration = Duration::from_secs(10);
/// How long a door may take to close. It takes microseconds, and whoever comes waits meanwhile.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// How often this process tries to act again, when an upgrade came to nothing and it could not at once.
const ACT_EVERY: Duration = Duration::from_secs(1);
/// How often at most the new process is told how many clients are left here.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How often a drain looks whether clients have become idle.
const DRAIN_EVERY: Duration = Duration::from_millis(50);

impl Proxy {
    /// Serves until SIGTERM, SIGINT or `SHUTDOWN`, then drains. SIGHUP reloads, SIGUSR2 starts a new process that takes over.
    pub async fn until_told(mut self) {
        let Ok(mut signals) = Signals::new() else {
            tracing::error!("cannot listen for signals");
            return;
        };
        notify("READY=1");
        let mut successor = None;
        loop {
            tokio::select! {
                _ = signals.term.recv() => break,
                _ = signals.int.recv() => break,
                () = self.shutdown.notified() => break,
                _ = signals.hup.recv() => {
                    match self.reloader.reload().await {
                        Ok(text) => tracing::info!("reload: {text}"),
                        Err(text) => tracing::error!("reload refused: {text}"),
                    }
                }
                () = tokio::time::sleep(ACT_EVERY), if !self.reloader.acts() => self.act_again().await,
                _ = signals.usr2.recv() => match &self.program {
                    _ if self.upgrades.is_none() => tracing::error!("SIGUSR2: an upgrade needs proxy.upgrade_socket"),
                    Some(program) => upgrade::start(program),
                    None => tracing::error!("SIGUSR2: it is not known which file this program is"),
                },
                Some(talk) = self.successors.recv() => {
                    match self.hand_over(talk, &mut signals).await {
                        HandOver::Done(mut talk) => {
                            self.serve_to_the_end(&mut talk, &mut signals).await;
                            successor = Some(talk);
                            break;
                        }
                        HandOver::ToEnd => break,
                        HandOver::CameToNothing => {}
                    }
                }
            }
        }
        if successor.is_none() {
            notify("STOPPING=1");
        }
        self.drain(&mut signals).await;
        drop(successor);
    }

    /// Gives the clients to come to the process that asks for them, in an order in which no two processes ever accept, beat or replace a
    /// master: first this one stops. When the other one dies before it has said that it has them, this one goes on; when it says
    /// nothing for too long, it is ended.
    async fn hand_over(&mut self, mut talk: Talk, signals: &mut Signals) -> HandOver {
        const PAUSED: &str = "no it is paused; RESUME first";
        if self.shared.is_paused.load(Ordering::SeqCst) {
            let _ = talk.say(PAUSED).await;
            return HandOver::CameToNothing;
        }
        if let Err(why) = self.reloader.act(false).await {
            let _ = talk.say(&format!("no {}", why.replace('\n', " "))).await;
            return HandOver::CameToNothing;
        }
        // From here on a PAUSE is refused; one that came in between would be held here, where nobody could end it any more.
        if self.shared.is_paused.load(Ordering::SeqCst) {
            let _ = talk.say(PAUSED).await;
            self.act_again().await;
            return HandOver::CameToNothing;
        }
        self.stays.set(true);
        // The ports too: a command for the proxy is to reach the process that acts.
        let open = tokio::select! {
            open = self.served.close(CLOSE_LIMIT) => open,
            _ = signals.term.recv() => return HandOver::ToEnd,
            _ = signals.int.recv() => return HandOver::ToEnd,
        };
        for door in open {
            tracing::error!(
                "{door} was not closed within {CLOSE_LIMIT:?} and may take clients for a moment that the new process does not know"
            );
        }
        if let Some(cache) = &self.shared.cache {
            cache.beside_another(true);
        }
        let given = self.shared.registry.numbers_given();
        let pid = talk.peer();
        let named = pid.unwrap_or_default();
        let taken = match talk.say(&format!("{}yours {given}", self.taken_out())).await {
            Ok(()) => {
                tokio::select! {
                    taken = self.is_taken(&mut talk) => taken,
                    // Nothing is left here but to end, whatever the other one does.
                    _ = signals.term.recv() => return HandOver::ToEnd,
                    _ = signals.int.recv() => return HandOver::ToEnd,
                }
            }
            Err(_) => false,
        };
        if taken {
            self.shared.events.push("upgrade", None, format!("process {named} has taken over"));
            if let Some(pid) = pid {
                notify(&format!("MAINPID={pid}"));
            }
            self.served.let_go();
            self.copies.clear();
            if let Some(upgrades) = self.upgrades.take() {
                upgrades.abort();
            }
            return HandOver::Done(talk);
        }
        let text = format!("process {named} has ended before it had taken over; this one goes on");
        tracing::error!("{text}");
        self.shared.events.push("upgrade", None, text);
        self.resume().await;
        HandOver::CameToNothing
    }

    /// The servers that an operator has taken out, as they are told to the new process.
    fn taken_out(&self) -> String {
        let snapshot = self.shared.snapshot.load();
        let line = |server: &ServerView| match server.state {
            State::Draining => Some(format!("drain {}\n", server.name)),
            State::Offline => Some(format!("offline {}\n", server.name)),
            _ => None,
        };
        snapshot.current().filter_map(line).collect()
    }

    /// Whether the new process says that it serves the clients. One that is there and does not is ended: the doors are closed
    /// here, and two processes never stand at them.
    async fn is_taken(&self, talk: &mut Talk) -> bool {
        let named = talk.peer().unwrap_or_default();
        loop {
            let why = match tokio::time::timeout(TAKEN_LIMIT, talk.line()).await {
                Ok(Ok(line)) if line == "taken" => return true,
                Ok(Err(error)) if error.kind() != ErrorKind::InvalidData => return false,
                Ok(Ok(_) | Err(_)) => "says what is not understood".to_owned(),
                Err(_) => format!("has not said within {TAKEN_LIMIT:?} that it serves them"),
            };
            match talk.end_peer() {
                Ok(true) => {
                    let text = format!("process {named}, which was given the clients, {why}: it was ended");
                    tracing::error!("{text}");
                    self.shared.events.push("upgrade", None, text);
                    // Its end of the socket is closed when nothing of it is left.
                    while talk.line().await.is_ok() {}
                    return false;
                }
                Ok(false) => {}
                Err(error) => {
                    let text = format!(
                        "process {named}, which was given the clients, {why}, and cannot be ended ({error}): clients that come wait \
                         until it serves them or ends; end it with kill -9 {named}"
                    );
                    tracing::error!("{text}");
                    self.shared.events.push("upgrade", None, text);
                }
            }
        }
    }

    /// Opens the doors again, and that for upgrades: the new process may have put its own in the place of it.
    async fn resume(&mut self) {
        if let Some(cache) = &self.shared.cache {
            cache.beside_another(false);
        }
        self.act_again().await;
        let doors = upgrade::copies(&self.copies).map_err(|e| e.to_string());
        let config = self.config.load_full();
        let opened = match doors {
            Ok(doors) => Doors::open(&config, doors, &self.stays).await,
            Err(error) => Err(error),
        };
        match opened {
            Ok(doors) => {
                self.served.open(doors, &self.staff);
                self.stays.set(false);
            }
            Err(why) => return tracing::error!("the doors stay closed: {why}"),
        }
        if let Err(why) = self.answer_upgrades().await {
            tracing::error!("there are no more upgrades without a refused client: {why}");
        }
    }

    /// Writes the heartbeat and replaces masters again. Tried until it is so.
    async fn act_again(&self) {
        if let Err(why) = self.reloader.act(true).await {
            tracing::error!("masters are not replaced by this process, which tries again in {ACT_EVERY:?}: {why}");
        }
    }

    async fn answer_upgrades(&mut self) -> Result<(), String> {
        let door = UpgradeDoor::open(&self.config.load().proxy.upgrade_socket, true, &self.stays)?;
        if let Some(before) = self.upgrades.take() {
            before.abort();
            let _ = before.await;
        }
        let (upgrades, successors) = door.answer(&self.copies)?;
        (self.upgrades, self.successors) = (Some(upgrades), successors);
        Ok(())
    }

    /// Serves who is connected, until they have gone, `proxy.upgrade_timeout` has passed or a signal comes.
    async fn serve_to_the_end(&self, talk: &mut Talk, signals: &mut Signals) {
        let limit = self.config.load().proxy.upgrade_timeout.0;
        let count = || self.shared.registry.count();
        self.shared.events.push("upgrade", None, format!("{} clients stay with this process for at most {limit:?}", count()));
        let deadline = tokio::time::Instant::now() + limit;
        let mut told = (usize::MAX, tokio::time::Instant::now());
        while count() > 0 && tokio::time::Instant::now() < deadline {
            if told.0 != count() && told.1 <= tokio::time::Instant::now() {
                told = (count(), tokio::time::Instant::now() + TELL_EVERY);
                // One that has gone need not be told; this one serves on.
                let _ = tokio::time::timeout(DRAIN_EVERY, talk.say(&format!("left {}", told.0))).await;
            }
            tokio::select! {
                () = tokio::time::sleep(DRAIN_EVERY) => {}
                _ = signals.term.recv() => return,
                _ = signals.int.recv() => return,
                _ = signals.hup.recv() => tracing::warn!("SIGHUP: another process has taken over; the file is read by that one"),
                _ = signals.usr2.recv() => tracing::warn!("SIGUSR2: another process has taken over already"),
            }
        }
    }

    /// Stops accepting, lets transactions end, closes idle clients; bounded by `proxy.drain_timeout`, and ended at once by a
    /// second signal.
    async fn drain(mut self, signals: &mut Signals) {
        let limit = self.config.load().proxy.drain_timeout.0;
        let deadline = tokio::time::Instant::now() + limit;
        // No copy of a door may keep it open.
        if let Some(upgrades) = self.upgrades.take() {
            upgrades.abort();
            let _ = upgrades.await;
        }
        self.copies.clear();
        let deadline_of_doors = tokio::time::Instant::now() + CLOSE_LIMIT;
        for door in self.served.close_to_clients(deadline_of_doors).await {
            tracing::error!("{door} was not closed within {CLOSE_LIMIT:?}");
        }
        self.shared.draining.store(true, Ordering::Relaxed);
        self.shared.events.push(
            "drain",
            None,
            format!("{} clients are connected; at most {limit:?}", self.shared.registry.count()),
        );
        loop {
            for client in self.shared.registry.all() {
                let state = client.view.lock().state;
                match state {
                    ClientState::Login => client.end(),
                    ClientState::Idle => client.nudge(),
                    _ => {}
                }
            }
            if self.shared.registry.count() == 0 || tokio::time::Instant::now() >= deadline {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(DRAIN_EVERY) => {}
                _ = signals.term.recv() => break,
                _ = signals.int.recv() => break,
            }
        }
        tracing::info!(left = self.shared.registry.count(), "drained");
        drop(self.staff);
    }
}

/// What has come of handing over.
enum HandOver {
    /// Another process serves the clients that come; it is told by this when the last one here has gone.
    Done(Talk),
    /// This process goes on.
    CameToNothing,
    /// A signal has come that ends this process.
    ToEnd,
}

/// The signals the proxy listens to.
struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
    usr2: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            usr2: signal(SignalKind::user_defined2())?,
        })
    }
}
