//! `RELOAD CONFIG` and SIGHUP: the file is read again and applied whole, or not at all.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::admin::Access;
use crate::admin::house::ConfigDiffRow;
use crate::config::reload::{Change, diff};
use crate::config::{self, Config, resolve};
use crate::frontend::shared::Shared;
use crate::topology::ServerId;

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
}

impl Reloader {
    fn read(&self) -> Result<Config, String> {
        config::load(&self.path).map_err(|mistakes| {
            let all: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            format!("{} has mistakes, nothing was changed:\n{}", self.path.display(), all.join("\n"))
        })
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
        Ok(diff(&self.config.load(), &new).into_iter().map(row).collect())
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

    async fn apply(&self) -> Result<String, String> {
        let new = self.read()?;
        let old = self.config.load_full();
        let changes = diff(&old, &new);
        if changes.is_empty() {
            return Ok("nothing has changed".to_owned());
        }
        let mut restart: Vec<String> = changes.iter().filter(|c| c.restart.is_some()).map(ToString::to_string).collect();
        // Servers are numbered at start: their settings change live, the list itself does not yet.
        restart.extend(
            changes
                .iter()
                .filter(|c| needs_new_servers(c, &old, &new))
                .map(|c| format!("{c} (needs a restart: the list of servers is fixed at start)")),
        );
        if !restart.is_empty() {
            return Err(format!("nothing was changed, because these need a restart: {}", restart.join("; ")));
        }
        // Whatever can fail comes first.
        let frontend = resolve::frontend(&new)?;
        let client_tls = resolve::client_tls(&new)?;
        let pool = resolve::pool(&new);
        self.shared.settings.store(Arc::new(frontend));
        self.shared.login.tls.store(Arc::new(client_tls));
        self.shared.login.accounts.store(Arc::new(resolve::accounts(&new)));
        for (pool_of, server) in self.shared.pools.iter().zip(&new.servers) {
            pool_of.configure(server.max_connections, pool.clone());
        }
        for (index, (before, after)) in old.servers.iter().zip(&new.servers).enumerate() {
            if before.weight != after.weight
                && let Ok(id) = u16::try_from(index)
            {
                self.shared.monitor.set_weight(ServerId(id), after.weight).await;
            }
        }
        self.access.store(Arc::new(Access::new(&new.admin.user, new.admin.secret.expose())));
        self.config.store(Arc::new(new));
        let all: Vec<String> = changes.iter().map(ToString::to_string).collect();
        Ok(format!("{} changed: {}", all.len(), all.join("; ")))
    }
}

/// Whether a change touches which servers there are, where they are, or how they are reached.
fn needs_new_servers(change: &Change, old: &Config, new: &Config) -> bool {
    let same_list = old.servers.len() == new.servers.len()
        && old.servers.iter().zip(&new.servers).all(|(a, b)| {
            a.name == b.name && a.address == b.address && a.tls == b.tls && a.proxy_protocol == b.proxy_protocol && a.role == b.role
        });
    // The monitor reads its settings at start, all but the servers' weights.
    !same_list && change.path.starts_with("server")
        || change.path.starts_with("monitor.")
        || (change.path.starts_with("server") && change.path.ends_with(".zone"))
}
