//! Four servers, each behind a link that everybody uses to reach it (the proxy, its replicas), and the proxy. So a link that is
//! cut cuts the server off from all, as a lost switch port does.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
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
    /// In front of the links, and only on the proxy's way, where that is to be cut alone. Else the proxy knows the servers by the addresses they know each
    /// other by, as it mostly is.
    doors: Vec<Link>,
    disks: Option<Disks>,
    /// The proxy in front of them.
    pub proxy: Proxy,
}

/// And have applied everything within this.
const SETTLE_LIMIT_S: u32 = 60;

/// What is special about an arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Plain,
    /// The peers' binary logs lie on small disks.
    SmallDisks,
    /// The proxy reaches the servers by ways of its own.
    OwnWays,
}

/// A small file system for the binary logs of each of the peers, that can be filled up without harm to anybody else.
#[derive(Debug)]
pub struct Disks {
    dir: PathBuf,
}

/// The peers, which have a disk each.
const PEERS: [&str; 2] = ["db1", "db2"];
/// Enough for the binary logs of a few rounds.
const DISK_SIZE: &str = "64m";

impl Disks {
    /// Mounts them. Needs the right to mount, as root in a container of its own has it.
    fn mount() -> Result<Disks> {
        let disks = Disks { dir: crate::home::new_dir("disks")? };
        for name in PEERS {
            let dir = disks.of(name);
            std::fs::create_dir_all(&dir)?;
            let done = Command::new("mount")
                .args(["-t", "tmpfs", "-o", &format!("size={DISK_SIZE},mode=777"), "none"])
                .arg(&dir)
                .output()?;
            anyhow::ensure!(done.status.success(), "mount: {}", String::from_utf8_lossy(&done.stderr).trim());
        }
        Ok(disks)
    }

    /// Whether they can be had here.
    pub fn can_be_mounted() -> bool {
        Disks::mount().is_ok()
    }

    fn of(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Fills a peer's disk to the last byte.
    pub fn fill(&self, name: &str) -> Result<()> {
        let mut file = std::fs::File::create(self.of(name).join("filler"))?;
        for size in [1 << 20, 1 << 12, 1 << 8, 1] {
            let zeros = vec![0; size];
            while file.write_all(&zeros).is_ok() {}
        }
        Ok(())
    }

    /// Makes room again on all.
    pub fn free(&self) {
        for name in PEERS {
            let _ = std::fs::remove_file(self.of(name).join("filler"));
        }
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        self.free();
        for name in PEERS {
            // Lazily: the server that has its log there may end a moment later.
            let _ = Command::new("umount").arg("-l").arg(self.of(name)).output();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Arena {
    /// Fresh servers, replicating through the links, and a proxy that reaches them through the links.
    pub async fn start(flavour: Flavour, semi_sync: bool, kind: Kind, progress: &Progress) -> Result<Arena> {
        progress(&format!("starting four {} servers", flavour.title()));
        let options = if semi_sync { flavour.semi_sync() } else { &[] };
        let disks = if kind == Kind::SmallDisks { Some(Disks::mount()?) } else { None };
        let binlog = |name: &str| {
            disks
                .iter()
                .filter(|_| PEERS.contains(&name))
                .map(|disks| format!("--log-bin={}", disks.of(name).join("binlog").display()))
                .collect()
        };
        let cluster = Cluster::start_each(flavour, options, &binlog, &|_| {}).await?;
        let links = cluster.servers().iter().map(|server| Link::to(&server.address())).collect::<Result<Vec<_>>>()?;
        let mut builder = Proxy::before(&cluster);
        let doors = if kind == Kind::OwnWays {
            links.iter().map(|link| Link::to(&link.address())).collect::<Result<Vec<_>>>()?
        } else {
            Vec::new()
        };
        for (server, door) in cluster.servers().iter().zip(if doors.is_empty() { &links } else { &doors }) {
            builder = builder.reach(server.name(), &door.address());
        }
        for (follower, leader) in [(1, 0), (2, 0), (3, 0), (0, 1)] {
            let link: &Link = &links[leader];
            let follow = flavour.follow(link.port(), 0);
            cluster.servers()[follower].run(&[flavour.stop_replica(), &follow, flavour.start_replica()]).await?;
        }
        cluster.settle().await?;
        let proxy = builder.start().await?;
        let arena = Arena { cluster, links, doors, disks, proxy };
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

    /// What only the proxy reaches a server through.
    pub fn door(&self, server: &Server) -> Result<&Link> {
        let index = self.cluster.servers().iter().position(|other| other.name() == server.name()).expect("a server of this arena");
        self.doors.get(index).context("the proxy has no ways of its own in this arena")
    }

    /// All links.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// All of them, and the proxy's own.
    pub fn all_links(&self) -> impl Iterator<Item = &Link> {
        self.links.iter().chain(&self.doors)
    }

    /// The small disks that hold the binary logs.
    pub fn disks(&self) -> Result<&Disks> {
        self.disks.as_ref().context("this arena has no small disks")
    }

    /// Waits until all running servers but those put aside have applied all that the master has.
    pub async fn settle(&self, aside: &[String]) -> Result<()> {
        let master = self.master().await?;
        let gtids = master.value(self.cluster.flavour.executed_gtids()).await?;
        let gtids: String = gtids.split_whitespace().collect();
        for server in self.cluster.servers() {
            let follows = server.name() != master.name() && server.is_running() && !aside.iter().any(|name| name == server.name());
            if follows {
                let answer = server.value(&self.cluster.flavour.wait_for_gtids(&gtids, SETTLE_LIMIT_S)).await?;
                anyhow::ensure!(answer == "0", "{} has not applied {gtids} within {SETTLE_LIMIT_S} s", server.name());
            }
        }
        Ok(())
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
