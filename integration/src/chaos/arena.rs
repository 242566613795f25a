//! Four servers, each behind a link that everybody uses to reach it (the proxy, its replicas), and the proxy. So a link that is
//! cut cuts the server off from all, as a lost switch port does.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::cluster::{Cluster, Progress};
use crate::driver::Table;
use crate::flavour::Flavour;
use crate::link::Link;
use crate::proxy::Proxy;
use crate::server::Server;

/// After a fault has ended, all four servers serve again within this, or the round says they did not.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);

/// Everything a round plays with.
#[derive(Debug)]
pub struct Arena {
    /// The servers.
    pub cluster: Cluster,
    links: Vec<Link>,
    /// The proxy in front of them.
    pub proxy: Proxy,
}

/// Semi-synchronous replication, so that a commit is acknowledged only when another server has received it.
fn semi_sync_options(flavour: Flavour) -> &'static [&'static str] {
    match flavour {
        Flavour::MariaDb => &[
            "--rpl-semi-sync-master-enabled=ON",
            "--rpl-semi-sync-slave-enabled=ON",
            "--rpl-semi-sync-master-wait-point=AFTER_SYNC",
            "--rpl-semi-sync-master-timeout=10000",
        ],
        Flavour::MySql => &[
            "--plugin-load-add=semisync_source.so",
            "--plugin-load-add=semisync_replica.so",
            "--loose-rpl-semi-sync-source-enabled=ON",
            "--loose-rpl-semi-sync-replica-enabled=ON",
            "--loose-rpl-semi-sync-source-wait-point=AFTER_SYNC",
            "--loose-rpl-semi-sync-source-timeout=10000",
        ],
    }
}

impl Arena {
    /// Fresh servers, replicating through the links, and a proxy that reaches them through the links.
    pub async fn start(flavour: Flavour, semi_sync: bool, progress: &Progress) -> Result<Arena> {
        progress(&format!("starting four {} servers", flavour.title()));
        let options = if semi_sync { semi_sync_options(flavour) } else { &[] };
        let cluster = Cluster::start_with(flavour, options, &|_| {}).await?;
        let links = cluster.servers().iter().map(|server| Link::to(&server.address())).collect::<Result<Vec<_>>>()?;
        let mut builder = Proxy::before(&cluster);
        for (server, link) in cluster.servers().iter().zip(&links) {
            builder = builder.reach(server.name(), &link.address());
        }
        for (follower, leader) in [(1, 0), (2, 0), (3, 0), (0, 1)] {
            let link: &Link = &links[leader];
            let follow = flavour.follow(link.port(), 0);
            cluster.servers()[follower].run(&[flavour.stop_replica(), &follow, flavour.start_replica()]).await?;
        }
        cluster.settle().await?;
        let proxy = builder.start().await?;
        let arena = Arena { cluster, links, proxy };
        arena.prepare().await?;
        let aside = arena.wait_for_calm().await?;
        anyhow::ensure!(aside.is_empty(), "{} quarantined before anything happened", aside.join(", "));
        Ok(arena)
    }

    /// The tables the workload uses.
    async fn prepare(&self) -> Result<()> {
        let mut statements = vec!["CREATE DATABASE t_chaos".to_owned()];
        statements.extend(super::workload::tables());
        let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
        self.master().await?.run(&statements).await
    }

    /// `SHOW SERVERS`.
    pub async fn servers(&self) -> Result<Table> {
        self.proxy.admin("SHOW SERVERS").await
    }

    /// The server that takes writes, as the proxy sees it.
    pub async fn master(&self) -> Result<&Server> {
        let servers = self.servers().await?;
        let name = servers.cell("role", "master", "name").context("the proxy knows no master")?;
        self.cluster.find(name)
    }

    /// The peer of the master.
    pub async fn standby(&self) -> Result<&Server> {
        let servers = self.servers().await?;
        let name = servers.cell("role", "standby", "name").context("the proxy knows no standby")?;
        self.cluster.find(name)
    }

    /// What everybody reaches a server through.
    pub fn link(&self, server: &Server) -> &Link {
        let index = self.cluster.servers().iter().position(|other| other.name() == server.name()).expect("a server of this arena");
        &self.links[index]
    }

    /// All links.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Waits until one server is master and all others are online, or put aside because they have transactions that the master
    /// never saw; gives the names of those.
    pub async fn wait_for_calm(&self) -> Result<Vec<String>> {
        let calm = crate::wait::until_true("all servers are online", RECOVERY_LIMIT, || async {
            let servers = self.servers().await?;
            let masters = servers.column("role").iter().filter(|role| **role == "master").count();
            let settled = servers.column("state").iter().all(|state| matches!(*state, "online" | "quarantined"));
            if masters == 1 && settled {
                return Ok(true);
            }
            anyhow::bail!("{}", servers.framed())
        });
        calm.await?;
        let servers = self.servers().await?;
        let states = servers.column("name").into_iter().zip(servers.column("state"));
        Ok(states.filter(|(_, state)| *state == "quarantined").map(|(name, _)| name.to_owned()).collect())
    }
}
