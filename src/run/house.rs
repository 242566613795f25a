//! The admin room's view of the running proxy: rows for its tables, and what its commands do.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio::sync::watch;

use crate::admin::AdminError;
use crate::admin::house::{
    CacheEntryRow, CacheRow, ClientRow, Command, ConfigDiffRow, EventRow, ExplainRow, House, PoolRow, RuleRow, ServerRow,
    StatementRow, StepRow, UserRow,
};
use crate::config::Config;
use crate::frontend::kill::{By, Manner};
use crate::frontend::shared::Shared;
use crate::protocol::errno;
use crate::run::explain::{ExplainParts, Who, explain};
use crate::run::keeping;
use crate::run::reload::Reloader;
use crate::run::takeover::Before;
use crate::run::traffic;
use crate::topology::{Override, ServerId};

/// How long after the start `/readyz` waits for every server to have been looked at.
const LOOK_AROUND: Duration = Duration::from_secs(2);

/// What the admin room sees and moves.
pub struct ProxyHouse {
    /// The running proxy.
    pub shared: Arc<Shared>,
    /// The configuration in force.
    pub config: Arc<ArcSwap<Config>>,
    /// Reads the file again.
    pub reloader: Arc<Reloader>,
    /// `PAUSE` and `RESUME`.
    pub paused: watch::Sender<bool>,
    /// `SHUTDOWN`.
    pub shutdown: Arc<tokio::sync::Notify>,
    /// When the proxy started.
    pub started: Instant,
    /// The process that this one took over from.
    pub before: Arc<Before>,
}

impl ProxyHouse {
    fn server_id(&self, name: &str) -> Result<ServerId, AdminError> {
        traffic::server_id(&self.shared, name)
    }

    /// What an operator is told who came in by this process before another began to take its place.
    fn acts(&self) -> Result<(), AdminError> {
        if !self.reloader.given_away.load(Ordering::SeqCst) {
            return Ok(());
        }
        Err(AdminError::failed("nothing was done: another process takes the place of this one; connect again and tell that one"))
    }

    fn event(&self, kind: &'static str, server: Option<&str>, detail: impl Into<String>) {
        self.shared.events.push(kind, server, detail);
    }
}

#[async_trait]
impl House for ProxyHouse {
    fn servers(&self) -> Vec<ServerRow> {
        let snapshot = self.shared.snapshot.load();
        let rows = snapshot.current().map(|server| {
            let pool = self.shared.pools.get(server.id.index());
            let counts = pool.map(|p| p.counts()).unwrap_or_default();
            let metrics = self.shared.metrics.server(server.id);
            ServerRow {
                name: server.name.to_string(),
                address: server.address.to_string(),
                role: Some(server.role.as_str().to_owned()),
                state: server.state.as_str().to_owned(),
                zone: server.zone.to_string(),
                weight: u64::from(server.weight),
                lag_ms: server.lag_ms,
                gtid: server.gtid.as_ref().map(ToString::to_string).unwrap_or_default(),
                connections_used: counts.used as u64,
                connections_idle: counts.idle as u64,
                connections_max: counts.max as u64,
                queries: metrics.queries_total(),
                errors: self.shared.server_errors(server.id),
                latency_us: self.shared.latency_us.get(server.id.index()).map(|l| l.load(Ordering::Relaxed)).filter(|l| *l > 0),
                since: server.since,
                reason: server.reason.to_string(),
            }
        });
        rows.collect()
    }

    fn clients(&self) -> Vec<ClientRow> {
        let now = Instant::now();
        let row = |entry: Arc<crate::frontend::registry::ClientEntry>| {
            let view = entry.view.lock().clone();
            ClientRow {
                id: u64::from(entry.id),
                user: view.user.to_string(),
                host: entry.host().to_owned(),
                schema: view.schema.map(|s| s.to_string()),
                state: view.state.as_str().to_owned(),
                server: view.server.map(|s| self.shared.name(s).to_string()),
                pin_reason: view.pins.first().map(|p| p.as_str().to_owned()),
                statement: view.statement.map(|s| s.digest_text.clone()),
                age_ms: view.since.map_or(0, |since| now.duration_since(since).as_millis() as u64),
                queries: view.queries,
                tls: view.tls.then(|| "yes".to_owned()),
            }
        };
        self.shared.registry.all().into_iter().map(row).collect()
    }

    fn pools(&self) -> Vec<PoolRow> {
        let mut used: std::collections::HashMap<(ServerId, Arc<str>), u64> = std::collections::HashMap::new();
        for client in self.shared.registry.all() {
            let view = client.view.lock();
            if let Some(server) = view.server {
                *used.entry((server, view.user.clone())).or_default() += 1;
            }
        }
        let mut rows = Vec::new();
        for pool in self.shared.pools.iter() {
            let mut users = pool.by_user();
            for (server, user) in used.keys() {
                if *server == pool.server && !users.iter().any(|(u, ..)| u == user) {
                    users.push((user.clone(), 0, 0));
                }
            }
            users.sort();
            for (user, idle, waiting) in users {
                rows.push(PoolRow {
                    server: pool.name.to_string(),
                    used: used.get(&(pool.server, user.clone())).copied().unwrap_or(0),
                    user: user.to_string(),
                    idle: idle as u64,
                    waiting: waiting as u64,
                    opened: pool.opened.load(Ordering::Relaxed),
                    closed: pool.closed.load(Ordering::Relaxed),
                    reused: pool.reused(),
                    wait_us_p99: pool.wait_us.p99(),
                });
            }
        }
        rows
    }

    fn statements(&self) -> Vec<StatementRow> {
        let all = self.shared.statement_stats.snapshot();
        let advised = keeping::advised(&all);
        let row = |(at, s): (usize, crate::metrics::statements::StatementSnapshot)| StatementRow {
            digest: format!("{:016x}", s.key.digest),
            target: s.target(),
            text: s.key.text.to_string(),
            schema: s.key.schema.to_string(),
            user: s.key.user.to_string(),
            class: s.key.class.as_str().to_owned(),
            count: s.count,
            errors: s.errors,
            rows: s.rows,
            sum_us: s.sum_us,
            min_us: s.min_us,
            avg_us: s.avg_us,
            p99_us: s.p99_us,
            max_us: s.max_us,
            first_seen: s.first_seen,
            last_seen: s.last_seen,
            cached: if s.cached {
                "yes"
            } else if advised.contains(&at) {
                "advised"
            } else {
                "no"
            }
            .to_owned(),
        };
        all.into_iter().enumerate().map(row).collect()
    }

    fn events(&self) -> Vec<EventRow> {
        let row =
            |e: crate::metrics::events::Event| EventRow { at: e.at, kind: e.kind.to_owned(), server: e.server, detail: e.detail };
        self.shared.events.list().into_iter().map(row).collect()
    }

    fn rules(&self) -> Vec<RuleRow> {
        let settings = self.shared.settings.load();
        let row = |(index, rule): (usize, &crate::routing::rules::Rule)| RuleRow {
            rule: index as u64 + 1,
            user: rule.user.clone(),
            schema: rule.schema.clone(),
            pattern: rule.pattern.as_ref().map(|p| p.as_str().to_owned()),
            digest: rule.digest.map(|d| format!("{d:016x}")),
            client: rule.client.map(|c| c.to_string()),
            action: rule.action.text(),
            message: rule.message.clone(),
            hits: rule.hits.load(Ordering::Relaxed),
        };
        settings.rules.0.iter().enumerate().map(row).collect()
    }

    fn users(&self) -> Vec<UserRow> {
        let config = self.config.load();
        let clients = self.shared.registry.all();
        // One pass: this runs beside the monitor, which must not wait.
        let mut counts: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        for client in &clients {
            *counts.entry(client.view.lock().user.clone()).or_default() += 1;
        }
        let count = |name: &str| counts.get(name).copied().unwrap_or_default();
        let mut rows: Vec<UserRow> = config
            .users
            .iter()
            .map(|user| UserRow {
                name: user.name.clone(),
                source: "file".to_owned(),
                connections: count(&user.name),
                max_connections: (user.max_connections > 0).then_some(user.max_connections as u64),
                read_only: user.read_only,
                schemas: user.schemas.join(", "),
                hosts: user.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            })
            .collect();
        let listed: HashSet<&str> = config.users.iter().map(|user| user.name.as_str()).collect();
        rows.extend(counts.iter().filter(|(user, _)| !user.is_empty() && !listed.contains(&***user)).map(|(user, count)| {
            UserRow {
                connections: *count,
                name: user.to_string(),
                source: "servers".to_owned(),
                max_connections: None,
                read_only: false,
                schemas: String::new(),
                hosts: String::new(),
            }
        }));
        rows
    }

    fn config_text(&self) -> String {
        self.reloader.running().to_toml()
    }

    fn status(&self) -> Vec<(String, String)> {
        let shared = &self.shared;
        let snapshot = shared.snapshot.load();
        let clients = shared.registry.all();
        let pinned = clients.iter().filter(|c| c.view.lock().pins.any()).count();
        let queries: u64 = snapshot.current().map(|s| shared.metrics.server(s.id).queries_total()).sum();
        let own = shared.metrics.no_server().queries_total();
        let used: usize = shared.pools.iter().map(|p| p.counts().used).sum();
        let idle: usize = shared.pools.iter().map(|p| p.counts().idle).sum();
        [
            ("Uptime", self.started.elapsed().as_secs().to_string()),
            ("Master", snapshot.master.map_or_else(|| "none".to_owned(), |m| shared.name(m).to_string())),
            ("Epoch", snapshot.epoch.to_string()),
            ("Clients_connected", clients.len().to_string()),
            ("Clients_of_old_process", self.before.clients().to_string()),
            ("Clients_pinned", pinned.to_string()),
            ("Queries", (queries + own).to_string()),
            ("Queries_answered_by_proxy", own.to_string()),
            ("Server_connections_used", used.to_string()),
            ("Server_connections_idle", idle.to_string()),
            ("Held_statements", shared.metrics.held_statements.get().to_string()),
            ("Digests_known", shared.classify.len().to_string()),
            ("Credentials_known", shared.login.credentials.len().to_string()),
            ("Paused", if *shared.paused.borrow() { "ON" } else { "OFF" }.to_owned()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    fn variables(&self) -> Vec<(String, String)> {
        crate::config::reload::listed(&self.reloader.running())
    }

    fn metrics_text(&self) -> String {
        self.refresh_gauges();
        self.shared.metrics.text()
    }

    fn explain_route(&self, user: Option<&str>, client: Option<IpAddr>, schema: Option<&str>, sql: &str) -> ExplainRow {
        let snapshot = self.shared.snapshot.load();
        let settings = self.shared.settings.load();
        let accounts = self.shared.login.accounts.load();
        explain(
            &snapshot,
            &ExplainParts {
                rules: &settings.rules,
                routing: &settings.routing,
                accounts: &accounts,
                dialect: self.shared.dialect(),
                known: Some(&self.shared.classify),
                cache: self.shared.cache.as_deref(),
            },
            Who { user, client, schema },
            sql,
        )
    }

    fn ready(&self) -> Result<(), String> {
        let snapshot = self.shared.snapshot.load();
        if self.shared.draining.load(Ordering::Relaxed) {
            return Err("shutting down".to_owned());
        }
        // Ready too early would mean that the first reads all go to the servers that happened to answer first.
        let unasked = snapshot.current().find(|s| &*s.reason == crate::topology::snapshot::NOT_ASKED);
        if let Some(server) = unasked.filter(|_| self.started.elapsed() < LOOK_AROUND) {
            return Err(format!("just started; {} has not been looked at yet", server.name));
        }
        match (&snapshot.master, &snapshot.no_master) {
            (Some(_), _) => Ok(()),
            (None, Some(why)) => Err(format!("no master: {}", why.detail)),
            (None, None) => Err("no master is known yet".to_owned()),
        }
    }

    async fn command(&self, command: Command) -> Result<String, AdminError> {
        // Clients that have stayed here are known to no other process.
        if !matches!(command, Command::Kill { .. }) {
            self.acts()?;
        }
        match command {
            Command::DrainServer(name) => self.set_override(&name, Override::Drain).await,
            Command::OfflineServer(name) => self.set_override(&name, Override::Offline).await,
            Command::OnlineServer(name) => self.set_override(&name, Override::Online).await,
            Command::SetWeight { server, weight } => {
                let id = self.server_id(&server)?;
                self.shared.monitor.set_weight(id, weight).await;
                self.event("weight", Some(&server), format!("weight {weight}, set by an operator"));
                Ok(format!("{server} has weight {weight} until the next reload or restart; SAVE CONFIG writes it into the file"))
            }
            Command::Pause => {
                self.shared.is_paused.store(true, Ordering::SeqCst);
                // Told before it is looked whether another process begins to take the place of this one, which looks the other way
                // round: one of the two sees the other.
                if let Err(why) = self.acts() {
                    self.shared.is_paused.store(false, Ordering::SeqCst);
                    return Err(why);
                }
                self.paused.send_replace(true);
                self.event("pause", None, "by an operator");
                Ok("new statements wait, up to failover.hold_timeout, until RESUME".to_owned())
            }
            Command::Resume => {
                self.shared.is_paused.store(false, Ordering::SeqCst);
                self.paused.send_replace(false);
                self.event("resume", None, "by an operator");
                Ok("statements run again".to_owned())
            }
            Command::FlushStatements => {
                self.shared.statement_stats.clear();
                Ok("statement statistics are empty".to_owned())
            }
            Command::Kill { id, query } => {
                let target = u32::try_from(id).ok().and_then(|id| self.shared.registry.get(id));
                let unknown = || match self.before.text() {
                    None => AdminError::unknown_client(id),
                    Some(text) => AdminError::new(errno::ER_NO_SUCH_THREAD, format_args!("no client has the id {id} here; {text}")),
                };
                let target = target.ok_or_else(unknown)?;
                let manner = Manner { query_only: query, hardness: "" };
                self.shared.kill_client(&target, manner, By::Operator).await.map_err(|e| AdminError::failed(e.text))?;
                self.event("kill", None, format!("client {id}{}", if query { ", its statement only" } else { "" }));
                Ok(format!("client {id} is told"))
            }
            Command::ReloadConfig => self.reloader.reload().await.map_err(AdminError::failed),
            Command::SaveConfig => self.reloader.save().await.map_err(AdminError::failed),
            Command::Shutdown => {
                self.shutdown.notify_one();
                Ok("draining, then exiting".to_owned())
            }
            Command::Switchover { .. } | Command::Failover { .. } | Command::RejoinServer(_) => {
                self.steps(command).await.map(|steps| format!("{} steps", steps.len()))
            }
            Command::FlushCache(table) => {
                let done = keeping::flush(&self.shared, table.as_deref())?;
                self.event("flush_cache", None, table.as_deref().unwrap_or("all"));
                Ok(done)
            }
        }
    }

    async fn steps(&self, command: Command) -> Result<Vec<StepRow>, AdminError> {
        self.acts()?;
        // Why the monitor refuses is about this process alone, when it has just given its work away.
        traffic::steps(&self.shared, command).await.map_err(|why| self.acts().err().unwrap_or(why))
    }

    fn note(&self, who: &str, what: &str) {
        self.shared.events.push("command", None, format!("{who}: {what}"));
    }

    fn elsewhere(&self) -> Option<String> {
        self.before.text()
    }

    fn cache(&self) -> Result<Vec<CacheRow>, AdminError> {
        Ok(vec![keeping::row(&self.shared, &self.config.load())])
    }

    fn cache_entries(&self) -> Result<Vec<CacheEntryRow>, AdminError> {
        Ok(keeping::entries(&self.shared))
    }

    fn config_diff(&self) -> Result<Vec<ConfigDiffRow>, AdminError> {
        self.reloader.diff().map_err(AdminError::failed)
    }
}

impl ProxyHouse {
    async fn set_override(&self, name: &str, to: Override) -> Result<String, AdminError> {
        let id = self.server_id(name)?;
        if to != Override::Online && self.shared.snapshot.load().master == Some(id) {
            return Err(AdminError::failed(format!("{name} is the master: SWITCHOVER TO another first, then take it out")));
        }
        self.shared.monitor.set_override(id, to).await;
        let text = match to {
            Override::Drain => "finishes what runs there and takes no new statements",
            Override::Offline => "takes no statements; its idle connections are closed",
            Override::Online => "takes statements again as soon as it is fit to",
        };
        self.event("override", Some(name), text);
        if to != Override::Online
            && let Some(pool) = self.shared.pools.get(id.index())
        {
            pool.close_idle(None);
        }
        Ok(format!("{name} {text}"))
    }

    /// Gauges that nobody counts as it happens are read off when they are asked for.
    fn refresh_gauges(&self) {
        keeping::refresh(&self.shared);
        let metrics = &self.shared.metrics;
        let snapshot = self.shared.snapshot.load();
        for server in snapshot.current() {
            let handles = metrics.server(server.id);
            handles.up.set(i64::from(server.answers));
            handles.set_role(server.role);
            handles.set_state(server.state);
            handles.set_lag(server.lag_ms.map(Duration::from_millis));
            if let Some(pool) = self.shared.pools.get(server.id.index()) {
                let counts = pool.counts();
                handles.pool_used.set(counts.used as i64);
                handles.pool_idle.set(counts.idle as i64);
            }
        }
        let mut states = [0i64; 3];
        let mut pins = std::collections::HashMap::new();
        for client in self.shared.registry.all() {
            let view = client.view.lock();
            use crate::frontend::registry::ClientState;
            match view.state {
                ClientState::Login => states[0] += 1,
                ClientState::Idle => states[1] += 1,
                ClientState::Active | ClientState::Waiting => states[2] += 1,
            }
            if let Some(pin) = view.pins.first() {
                *pins.entry(pin).or_insert(0i64) += 1;
            }
        }
        metrics.clients_login.set(states[0]);
        metrics.clients_idle.set(states[1]);
        metrics.clients_active.set(states[2]);
        for pin in crate::session::pin::ALL {
            metrics.pinned(pin.as_str()).set(pins.get(&pin).copied().unwrap_or(0));
        }
    }
}
