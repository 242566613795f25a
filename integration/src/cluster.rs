//! The four servers of the sandbox: db1 and db2 replicate each other (db2 is read-only), db3 and db4 follow db1.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mysql_async::prelude::Queryable;

use crate::flavour::Flavour;
use crate::install::Install;
use crate::server::{Server, ServerOptions};

/// Who is told what is being done, for people who wait.
pub type Progress = dyn Fn(&str) + Send + Sync;

/// Replication has caught up within this, or something is broken.
const SETTLE_LIMIT_S: u32 = 20;

/// Four running servers. Dropping it ends them and removes their directories.
#[derive(Debug)]
pub struct Cluster {
    /// Which family.
    pub flavour: Flavour,
    /// What was started.
    pub install: Install,
    /// No test does anything to its servers. A machine that is busy with tests may hold one up for more than a second (its files are written
    /// while others are copied): what stands in front of it waits longer than by default before it calls one dead.
    pub undisturbed: bool,
    servers: Vec<Server>,
}

impl Cluster {
    /// Starts the four servers and waits until a row written on db1 can be read on all of them, and one written on db2's side
    /// of the circle would be (its thread runs).
    pub async fn start(flavour: Flavour) -> Result<Self> {
        Self::start_with(flavour, &[], &|_| {}).await
    }

    /// [`Cluster::start`] with more server options (`--name=value`) for all four, telling `progress` each step.
    pub async fn start_with(flavour: Flavour, options: &[&str], progress: &Progress) -> Result<Self> {
        Self::start_each(flavour, options, &|_| Vec::new(), progress).await
    }

    /// [`Cluster::start_with`] with options of each server's own, by its name.
    pub async fn start_each(
        flavour: Flavour,
        options: &[&str],
        own: &(dyn Fn(&str) -> Vec<String> + Sync),
        progress: &Progress,
    ) -> Result<Self> {
        let install = Install::find(flavour)?;
        let template = crate::template::template(&install, progress).await?;
        let kinds = [("db1", false), ("db2", true), ("db3", true), ("db4", true)];
        let servers = std::thread::scope(|scope| {
            let start = |index: usize, (name, read_only): (&'static str, bool)| {
                let (install, template) = (&install, &template);
                let mut what = ServerOptions::new(name, u32::try_from(index).expect("four servers") + 1);
                if read_only {
                    what = what.read_only();
                }
                let what = options.iter().fold(what, |what, option| what.option(option));
                let what = own(name).iter().fold(what, |what, option| what.option(option));
                scope.spawn(move || {
                    let begun = Instant::now();
                    let server = Server::start(install, what, template)?;
                    progress(&format!("{name} answers on {} after {:.1} s", server.address(), begun.elapsed().as_secs_f32()));
                    Ok::<_, anyhow::Error>(server)
                })
            };
            let started: Vec<_> = kinds.into_iter().enumerate().map(|(index, kind)| start(index, kind)).collect();
            started.into_iter().map(|thread| thread.join().expect("starting a server does not panic")).collect::<Result<Vec<_>>>()
        })?;
        let cluster = Self { flavour, install, undisturbed: false, servers };
        for (follower, leader) in [("db2", "db1"), ("db3", "db1"), ("db4", "db1"), ("db1", "db2")] {
            cluster.follow(follower, leader).await?;
        }
        cluster.wait_for_threads().await?;
        // the first transaction: a replica that applied it has proved the whole way
        cluster.server("db1").run(&["CREATE DATABASE t_harness"]).await?;
        cluster.settle().await?;
        progress("replication flows: db1 ⇄ db2, db1 → db3, db1 → db4");
        Ok(cluster)
    }

    /// All servers, db1 first.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// A server by its name; panics when there is none, since names are written in tests.
    pub fn server(&self, name: &str) -> &Server {
        self.find(name).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A server by a name somebody typed.
    pub fn find(&self, name: &str) -> Result<&Server> {
        let known = || self.servers.iter().map(Server::name).collect::<Vec<_>>().join(", ");
        self.servers
            .iter()
            .find(|server| server.name() == name)
            .with_context(|| format!("no server {name:?}: there are {}", known()))
    }

    /// The server with this `server_id`.
    pub fn by_id(&self, id: u32) -> Option<&Server> {
        self.servers.iter().find(|server| server.id() == id)
    }

    /// Lets `follower` replicate from `leader`.
    pub async fn follow(&self, follower: &str, leader: &str) -> Result<()> {
        let port = self.server(leader).port();
        let statements = [self.flavour.stop_replica(), &self.flavour.follow(port, 0), self.flavour.start_replica()];
        self.server(follower).run(&statements).await
    }

    /// Makes a replica apply everything `seconds` late; 0 ends it.
    pub async fn delay(&self, name: &str, seconds: u32) -> Result<()> {
        let statements = [self.flavour.stop_replica(), &self.flavour.change_delay(seconds), self.flavour.start_replica()];
        self.server(name).run(&statements).await
    }

    /// Waits until all running servers have applied all that db1 has executed.
    pub async fn settle(&self) -> Result<()> {
        self.settle_behind("db1").await
    }

    /// Waits until all running servers have applied all that `leader` has executed.
    pub async fn settle_behind(&self, leader: &str) -> Result<()> {
        let gtids = self.server(leader).value(self.flavour.executed_gtids()).await?;
        let gtids: String = gtids.split_whitespace().collect();
        if gtids.is_empty() {
            return Ok(());
        }
        for server in self.servers.iter().filter(|server| server.name() != leader && server.is_running()) {
            let answer = server.value(&self.flavour.wait_for_gtids(&gtids, SETTLE_LIMIT_S)).await?;
            if answer != "0" {
                bail!("{} has not applied {gtids} within {SETTLE_LIMIT_S} s:\n{}", server.name(), self.replication(server).await?);
            }
        }
        Ok(())
    }

    /// `kill -9` of a server whose every transaction is on all others: a lock keeps what would be written in between, such as
    /// the next heartbeat, from being lost with it. Must not be called while a statement runs there that changes something.
    pub async fn kill_with_nothing_to_lose(&self, leader: &str) -> Result<()> {
        let mut root = self.server(leader).root().await?;
        root.query_drop("FLUSH TABLES WITH READ LOCK").await?;
        self.settle_behind(leader).await?;
        self.server(leader).kill()
    }

    /// Whether both replication threads of a server run.
    pub async fn replicates(&self, server: &Server) -> Result<bool> {
        let state = self.replication(server).await?;
        Ok(state.matches("_Running: Yes").count() == 2)
    }

    /// `SHOW REPLICA STATUS`, one `Name: value` a line.
    pub async fn replication(&self, server: &Server) -> Result<String> {
        let table = server.query("SHOW REPLICA STATUS").await?;
        let Some(row) = table.rows.first() else { return Ok("not a replica".into()) };
        Ok(table.columns.iter().zip(row).map(|(column, cell)| format!("{column}: {cell}")).collect::<Vec<_>>().join("\n"))
    }

    async fn wait_for_threads(&self) -> Result<()> {
        for server in &self.servers {
            let what = format!("{} replicates", server.name());
            crate::wait::until_true(&what, Duration::from_secs(20), || self.replicates(server)).await?;
        }
        Ok(())
    }
}
