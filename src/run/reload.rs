//! `RELOAD CONFIG` and SIGHUP: the file is read again and applied whole, or not at all.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;

use crate::admin::Access;
use crate::admin::house::ConfigDiffRow;
use crate::config::edit;
use crate::config::reload::{Change, diff};
use crate::config::types::ServerRole;
use crate::config::{self, Config, Mistake, Severity, resolve};
use crate::frontend::shared::Shared;
use crate::run::roster::Roster;
use crate::run::servers::{
    configure_pools, monitor_account, monitor_settings, names, only_watches, open_pools, renewed, tells_addresses,
};
use crate::run::{keeping, otlp};
use crate::topology::settings::ConfiguredRole;
use crate::topology::{ServerId, State};

/// Reads and applies the configuration file of the running proxy.
pub struct Reloader {
    /// The file.
    pub path: PathBuf,
    /// The configuration in force.
    pub config: Arc<ArcSwap<Config>>,
    /// What it is applied to.
    pub shared: Arc<Shared>,
    /// The admin port's account.
    pub access: Arc<ArcSwap<Access>>,
    /// Which server has which number. Held while a configuration is applied or saved: one after the other.
    pub roster: tokio::sync::Mutex<Roster>,
    /// Names this process in the heartbeat row.
    pub run: u64,
    /// Another process has taken over: this one only watches, and keeps the configuration it has.
    pub given_away: AtomicBool,
    /// This process writes the heartbeat and replaces masters, as its configuration has it; or another does, or is to.
    pub acting: AtomicBool,
}

impl Reloader {
    fn read(&self) -> Result<Config, String> {
        config::load(&self.path).map_err(|mistakes| self.refuse(&mistakes))
    }

    fn refuse(&self, mistakes: &[Mistake]) -> String {
        refusal(&self.path, mistakes)
    }

    /// The configuration in force with what commands have changed since: the servers' weights.
    pub fn running(&self) -> Config {
        let mut config = (*self.config.load_full()).clone();
        let snapshot = self.shared.snapshot.load();
        for server in &mut config.servers {
            server.weight = snapshot.by_name(&server.name).map_or(server.weight, |now| now.weight);
        }
        config
    }

    /// Writes what commands have changed into the file, and nothing else: comments and order stay.
    ///
    /// # Errors
    /// A file that has mistakes, lacks the server or cannot be written; it is as it was then.
    pub async fn save(&self) -> Result<String, String> {
        // A reload must not come in between: its configuration would be put back, or the file that it has read be replaced by the older one.
        let _roster = self.roster.lock().await;
        if self.given_away.load(Ordering::Relaxed) {
            return Err("nothing was changed: another process has taken over".to_owned());
        }
        let (config, running) = (self.config.load_full(), self.running());
        let changed = config.servers.iter().zip(&running.servers).filter(|(was, is)| was.weight != is.weight);
        let changes: Vec<edit::Change> =
            changed.map(|(_, is)| edit::Change { server: is.name.clone(), key: "weight", value: i64::from(is.weight) }).collect();
        let kept = match self.unwritten() {
            others if others.is_empty() => String::new(),
            others => format!("; not in the file: {}", others.join(", ")),
        };
        if changes.is_empty() {
            return Ok(format!("no command has changed anything that the file can hold{kept}"));
        }
        let name = self.path.display();
        let text = std::fs::read_to_string(&self.path).map_err(|e| format!("cannot read {name}: {e}"))?;
        let text = edit::servers(&text, &changes)?;
        config::parse(&text, &name.to_string()).map_err(|mistakes| self.refuse(&mistakes))?;
        replace_file(&self.path, &text).map_err(|e| format!("cannot write {name}: {e}; nothing was changed"))?;
        self.config.store(Arc::new(running));
        let all: Vec<String> = changes.iter().map(|c| format!("server.{}.{} = {}", c.server, c.key, c.value)).collect();
        Ok(format!("written to {name}: {}{kept}", all.join(", ")))
    }

    /// What commands have changed and no key of the file holds: it is for this process, and ends with it.
    fn unwritten(&self) -> Vec<String> {
        let snapshot = self.shared.snapshot.load();
        let mut all = Vec::new();
        for server in snapshot.current() {
            match server.state {
                State::Draining => all.push(format!("{0} is drained (until ONLINE SERVER {0} or a restart)", server.name)),
                State::Offline => all.push(format!("{0} is offline (until ONLINE SERVER {0} or a restart)", server.name)),
                _ => {}
            }
        }
        if self.shared.is_paused.load(Ordering::Relaxed) {
            all.push("statements are held (until RESUME or a restart)".to_owned());
        }
        all
    }

    /// What a reload would change.
    ///
    /// # Errors
    /// The file's mistakes.
    pub fn diff(&self) -> Result<Vec<ConfigDiffRow>, String> {
        let new = self.read()?;
        let row = |change: Change| ConfigDiffRow {
            name: change.path,
            running: change.old,
            file: change.new,
            restart: change.restart.unwrap_or_default().to_owned(),
        };
        Ok(diff(&self.running(), &new).into_iter().map(row).collect())
    }

    /// Reads the file and applies it.
    ///
    /// # Errors
    /// The file's mistakes, or changes that need a restart; nothing is changed then.
    pub async fn reload(&self) -> Result<String, String> {
        let result = self.apply().await;
        match &result {
            Ok(text) => self.shared.events.push("reload", None, text.clone()),
            Err(text) => self.shared.events.push("reload_refused", None, text.clone()),
        }
        result
    }

    /// Whether this process writes the heartbeat and replaces masters, or only watches, as the old one of an upgrade does.
    ///
    /// # Errors
    /// A master is being replaced; nothing has changed then.
    pub async fn act(&self, acts: bool) -> Result<(), String> {
        let roster = self.roster.lock().await;
        // Said before it is so, and taken back: whoever is refused by a monitor that only watches is told why.
        let before = self.given_away.fetch_or(!acts, Ordering::SeqCst);
        let done = self.rewatch(&roster, acts).await;
        self.given_away.store(is_given_away(acts, before, done.is_ok()), Ordering::SeqCst);
        match done {
            Ok(()) => self.acting.store(acts, Ordering::SeqCst),
            // It is to act, and does not.
            Err(_) if acts => self.acting.store(false, Ordering::SeqCst),
            Err(_) => {}
        }
        done
    }

    /// Whether this process acts, or has given that away. `false`: it is to, and [`Reloader::act`] has failed.
    pub fn acts(&self) -> bool {
        self.acting.load(Ordering::SeqCst) || self.given_away.load(Ordering::SeqCst)
    }

    async fn rewatch(&self, roster: &Roster, acts: bool) -> Result<(), String> {
        let running = self.running();
        let monitored = open_pools(roster, &running, &self.shared.pools, &self.shared.metrics)?;
        let mut settings = monitor_settings(&roster.numbered(&running), self.run);
        if !acts {
            only_watches(&mut settings);
        }
        self.shared.monitor.rewatch(settings, monitored, monitor_account(&running)).await
    }

    async fn apply(&self) -> Result<String, String> {
        let mut roster = self.roster.lock().await;
        if self.given_away.load(Ordering::Relaxed) {
            return Err("nothing was changed: another process has taken over".to_owned());
        }
        let new = self.read()?;
        let old = self.running();
        let changes = diff(&old, &new);
        // Certificates and authorities are renewed in their files, under the same names.
        let certificate = new.proxy.tls.cert.is_some() || new.proxy.tls.client_ca.is_some();
        let authorities = new.servers.iter().any(|server| server.tls.ca.is_some());
        if changes.is_empty() && !certificate && !authorities {
            return Ok("nothing has changed".to_owned());
        }
        let mut restart: Vec<String> = changes.iter().filter(|c| c.restart.is_some()).map(ToString::to_string).collect();
        if tells_addresses(&new) != self.shared.tells_addresses {
            restart.push("server.proxy_protocol (needs a restart: clients that are connected have shared connections)".to_owned());
        }
        if !restart.is_empty() {
            return Err(format!("nothing was changed, because these need a restart: {}", restart.join("; ")));
        }
        let next = roster.next(&new)?;
        let numbered = next.numbered(&new);
        self.keeps_its_master(&numbered)?;
        // Whatever can fail comes first.
        let frontend = resolve::frontend(&new)?;
        let client_tls = (certificate || old.proxy.tls != new.proxy.tls).then(|| resolve::client_tls(&new)).transpose()?;
        let monitored = open_pools(&next, &new, &self.shared.pools, &self.shared.metrics)?;
        let renewed = renewed(&monitored, &self.shared.pools);
        if watches_otherwise(&changes) || !renewed.is_empty() {
            self.shared.metrics.set_servers(&names(&next));
            let rewatched =
                self.shared.monitor.rewatch(monitor_settings(&numbered, self.run), monitored, monitor_account(&new)).await;
            if let Err(why) = rewatched {
                self.shared.metrics.set_servers(&names(&roster));
                *roster = roster.refused(&next);
                return Err(format!("nothing was changed: {why}"));
            }
        } else {
            self.set_weights(&old, &numbered).await;
            if old.failover != new.failover {
                self.shared.monitor.configure(resolve::failover(&numbered)).await;
            }
        }
        self.shared.settings.store(Arc::new(frontend));
        self.shared.replays.store(new.failover.transaction_replay, Ordering::Relaxed);
        if let Some(cache) = &self.shared.cache {
            cache.set(keeping::settings(&new));
        }
        if let Some(tls) = client_tls {
            self.shared.login.tls.store(Arc::new(tls));
        }
        for (pool, tls) in &renewed {
            pool.set_tls(tls.clone());
        }
        self.shared.login.set_accounts(resolve::accounts(&new));
        let strangers = self.shared.end_strangers();
        configure_pools(&next, &new, &self.shared.pools);
        otlp::configure(&self.shared, &new);
        *roster = next;
        self.access.store(Arc::new(Access::new(&new.admin.user, new.admin.secret.expose())));
        self.config.store(Arc::new(new));
        let mut all: Vec<String> = changes.iter().map(ToString::to_string).collect();
        if certificate {
            all.push("the certificate was read again".to_owned());
        }
        if !renewed.is_empty() {
            let names: Vec<&str> = renewed.iter().map(|(pool, _)| &*pool.name).collect();
            all.push(format!("new authorities for {}", names.join(", ")));
        }
        if strangers > 0 {
            all.push(format!("{strangers} clients were ended, whose `hosts` no longer include where they are"));
        }
        Ok(match changes.len() {
            0 if all.is_empty() => "nothing has changed".to_owned(),
            0 => format!("nothing has changed in the file; {}", all.join("; ")),
            count => format!("{count} changed: {}", all.join("; ")),
        })
    }

    async fn set_weights(&self, old: &Config, numbered: &Config) {
        for (id, server) in (0..=u16::MAX).map(ServerId).zip(&numbered.servers).filter(|(_, server)| !server.retired) {
            if old.servers.iter().any(|before| before.name == server.name && before.weight != server.weight) {
                self.shared.monitor.set_weight(id, server.weight).await;
            }
        }
    }

    /// The master is replaced by a switchover, not by an edit of the file.
    fn keeps_its_master(&self, numbered: &Config) -> Result<(), String> {
        let snapshot = self.shared.snapshot.load();
        let Some(master) = snapshot.master() else { return Ok(()) };
        let stays =
            numbered.servers.get(master.id.index()).is_some_and(|server| !server.retired && server.role == ServerRole::Master);
        // A replica that was promoted is one in the file still.
        if stays || master.configured_role == ConfiguredRole::Replica && !self.leaves(numbered, master.id) {
            return Ok(());
        }
        Err(format!(
            "nothing was changed: {} is the master and would leave, be reached in another way, or be no master any more; SWITCHOVER TO another first",
            master.name
        ))
    }

    fn leaves(&self, numbered: &Config, id: ServerId) -> bool {
        numbered.servers.get(id.index()).is_none_or(|server| server.retired)
    }
}

/// Why a file is not taken: its errors before its warnings, since clients show the first 512 bytes of a message.
fn refusal(path: &Path, mistakes: &[Mistake]) -> String {
    let (errors, warnings): (Vec<&Mistake>, Vec<&Mistake>) = mistakes.iter().partition(|m| m.severity == Severity::Error);
    let all: Vec<String> = errors.into_iter().chain(warnings).map(ToString::to_string).collect();
    format!("{} has mistakes, nothing was changed:\n{}", path.display(), all.join("\n"))
}

/// Whether another process takes the place of this one, after it was told to act or not to. When it is to act again nobody does,
/// even if that fails: commands must not be refused in the name of a process that has gone.
fn is_given_away(acts: bool, before: bool, done: bool) -> bool {
    match (acts, done) {
        (true, _) => false,
        (false, true) => true,
        (false, false) => before,
    }
}

/// Puts a text in a file's place at once: whoever reads it sees the old one or the new one. Its mode stays,
/// its owner where this user may say so, and a symbolic link to it is one still.
fn replace_file(path: &Path, text: &str) -> std::io::Result<()> {
    let path = &path.canonicalize()?;
    let old = std::fs::metadata(path)?;
    let beside = path.with_extension("toml.new");
    // One that a process left behind which died here.
    let _ = std::fs::remove_file(&beside);
    // It may hold passwords: nobody else reads it before its mode is that of the old one.
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let new = file.metadata()?;
    // Who is not root may not give a file away: then it is this user's, whose group may be the old one at least.
    if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
        let _ = fchown(&file, Some(old.uid()), Some(old.gid())).or_else(|_| fchown(&file, None, Some(old.gid())));
    }
    let written = file
        .set_permissions(old.permissions())
        .and_then(|()| file.write_all(text.as_bytes()))
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// Whether the monitor has to be told anew whom to watch and how. Weights and limits it need not be.
fn watches_otherwise(changes: &[Change]) -> bool {
    let light = |path: &str| path.ends_with(".weight") || path.ends_with(".max_connections");
    changes.iter().any(|c| c.path.starts_with("monitor.") || c.path.starts_with("server.") && !light(&c.path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_place_is_given_away_only_to_somebody() {
        assert!(is_given_away(false, false, true));
        assert!(!is_given_away(false, false, false));
        assert!(!is_given_away(true, true, true));
        assert!(!is_given_away(true, true, false), "nobody takes the place, though this process could not act at once");
    }

    /// Harm: a client that shows the first 512 bytes showed a warning, and not what was wrong.
    #[test]
    fn errors_are_told_before_warnings() {
        let (doubt, wrong) = (Mistake::whole_file("f", "doubtful", None).warning(), Mistake::whole_file("f", "wrong", None));
        let text = refusal(Path::new("f.toml"), &[doubt.clone(), wrong, doubt]);
        assert_eq!(text.matches("doubtful").count(), 2);
        assert!(text.find("wrong") < text.find("doubtful"), "{text}");
    }

    #[test]
    fn a_file_is_replaced_whole_behind_its_link_with_its_mode() {
        let place = std::env::temp_dir().join(format!("sluice-replace-{}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        let (file, link) = (place.join("real.toml"), place.join("sluice.toml"));
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        std::fs::write(place.join("real.toml.new"), "left behind").unwrap();
        replace_file(&link, "new").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 2);
        assert!(replace_file(&place.join("none.toml"), "new").is_err());
        std::fs::remove_dir_all(&place).unwrap();
    }
}
