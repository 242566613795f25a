//! The live table: what Sluice says of its servers (`SHOW SERVERS`), what the sandbox knows of their processes, and how the
//! workload fares.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use mysql_async::Conn;

use super::screen::Screen;
use super::workload::{CLIENTS, Workload};
use crate::cluster::Cluster;
use crate::driver::{self, Table};
use crate::proxy::{ADMIN, Proxy};

/// Longer than this, the admin port counts as silent and the table is drawn without it.
const ADMIN_LIMIT: Duration = Duration::from_secs(1);

/// What the table is made from.
#[derive(Debug)]
pub struct View {
    cluster: Arc<Cluster>,
    proxy: Arc<Proxy>,
    begun: Instant,
    version: String,
    admin: Option<Conn>,
    last: Option<(Instant, BTreeMap<String, u64>)>,
    last_tally: Instant,
}

impl View {
    /// A table that has shown nothing yet.
    pub fn new(cluster: Arc<Cluster>, proxy: Arc<Proxy>, begun: Instant) -> Self {
        let words = cluster.install.version.split_whitespace();
        let version = words.skip_while(|word| *word != "Ver").nth(1).unwrap_or_default();
        let version = format!("{} {}", cluster.flavour.title(), version.split('-').next().unwrap_or_default());
        Self { cluster, proxy, begun, version, admin: None, last: None, last_tally: Instant::now() }
    }

    /// Lines it has.
    pub fn height(&self) -> usize {
        self.cluster.servers().len() + 5
    }

    /// The lines as they are now.
    pub async fn lines(&mut self, screen: &Screen, workload: &Workload) -> Vec<String> {
        let seconds = self.begun.elapsed().as_secs();
        let title = format!("Sluice sandbox · {} · 127.0.0.1:{}", self.version, self.proxy.port());
        let more = format!(
            "admin {} · http {} · up {:02}:{:02}",
            self.proxy.admin_port(),
            self.proxy.http_port(),
            seconds / 60,
            seconds % 60
        );
        let mut lines = vec![format!("{} {}", screen.strong(&title), screen.quiet(&format!("· {more}")))];
        let head = format!(
            "{:<7} {:<9} {:<12} {:>9} {:>13} {:>12}  {}",
            "server", "role", "state", "lag", "statements/s", "connections", "process"
        );
        lines.push(screen.quiet(&head));
        let answer = match tokio::time::timeout(ADMIN_LIMIT, self.ask()).await {
            Ok(answer) => answer,
            Err(_) => Err(anyhow::anyhow!("no answer in {ADMIN_LIMIT:?}")),
        };
        if answer.is_err() {
            self.admin = None;
        }
        let rates = self.rates(answer.as_ref().ok());
        for server in self.cluster.servers() {
            let of = |column: &str| {
                answer.as_ref().ok().and_then(|table| table.cell("name", server.name(), column)).unwrap_or("-").to_owned()
            };
            let (role, state) = (of("role"), of("state"));
            let lag = if matches!(of("lag_ms").as_str(), "-" | "NULL" | "") { "-".into() } else { format!("{} ms", of("lag_ms")) };
            let rate = rates.get(server.name()).map_or_else(|| "-".into(), |rate| format!("{rate:.0}"));
            let connections = format!("{}+{}", of("connections_used"), of("connections_idle"));
            let process = match server.condition() {
                "running" => screen.quiet("running"),
                "frozen" => screen.uneasy("frozen"),
                other => screen.bad(other),
            };
            let role = if role == "master" { screen.strong(&format!("{role:<9}")) } else { format!("{role:<9}") };
            let state = match state.as_str() {
                "online" => screen.good(&format!("{state:<12}")),
                "suspect" | "lagging" | "draining" => screen.uneasy(&format!("{state:<12}")),
                _ => screen.bad(&format!("{state:<12}")),
            };
            lines.push(format!("{:<7} {role} {state} {lag:>9} {rate:>13} {connections:>12}  {process}", server.name()));
        }
        lines.push(self.load(screen, workload));
        lines.push(match &answer {
            Ok(_) => workload.last_error().map_or_else(String::new, |error| screen.quiet(&format!("last error: {error}"))),
            Err(error) => screen.bad(&format!("the admin port does not answer: {}", error.root_cause())),
        });
        lines.push(screen.quiet(&"─".repeat(78)));
        lines
    }

    async fn ask(&mut self) -> Result<Table> {
        let conn = match &mut self.admin {
            Some(conn) => conn,
            None => self.admin.insert(driver::connect(driver::options(self.proxy.admin_port(), ADMIN)).await?),
        };
        Ok(driver::table(conn, "SHOW SERVERS").await?)
    }

    /// Statements per second of each server since the last time.
    fn rates(&mut self, table: Option<&Table>) -> BTreeMap<String, f64> {
        let Some(table) = table else { return BTreeMap::new() };
        let counts = table.column("queries").iter().map(|cell| cell.parse().unwrap_or(0)).collect::<Vec<u64>>();
        let now = Instant::now();
        let counts: BTreeMap<String, u64> = table.column("name").iter().map(|name| (*name).to_owned()).zip(counts).collect();
        let Some((then, before)) = self.last.replace((now, counts.clone())) else { return BTreeMap::new() };
        let seconds = (now - then).as_secs_f64().max(0.001);
        let rate = |name: &str, count: u64| count.saturating_sub(before.get(name).copied().unwrap_or(0)) as f64 / seconds;
        counts.iter().map(|(name, count)| (name.clone(), rate(name, *count))).collect()
    }

    fn load(&mut self, screen: &Screen, workload: &Workload) -> String {
        let tally = workload.tally();
        let seconds = self.last_tally.elapsed().as_secs_f64().max(0.001);
        self.last_tally = Instant::now();
        if !workload.is_on() {
            return screen.quiet("workload off");
        }
        let (rate, p99) = (tally.statements as f64 / seconds, tally.p99.as_secs_f64() * 1000.0);
        let errors = format!("{} errors", tally.errors);
        let errors = if tally.errors > 0 { screen.bad(&errors) } else { errors };
        format!("workload: {CLIENTS} clients, {rate:.0} statements/s, p99 {p99:.1} ms, {errors}")
    }
}
