//! How things break, and how they are mended.

use std::time::Duration;

use anyhow::Result;
use mysql_async::prelude::Queryable;

use super::arena::Arena;
use crate::link::Way;
use crate::process::Signal;

/// How long a fault that heals by itself lasts: longer than any failover may take.
const LASTS: Duration = Duration::from_secs(4);
/// A silence shorter than `monitor.heartbeat_timeout` (1 s): nothing may happen.
const BLIP: Duration = Duration::from_millis(600);

/// One way to break something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9` of the master.
    Kill,
    /// The master is stopped cleanly.
    Stop,
    /// The master's process is frozen, and thaws as if nothing had happened.
    Freeze,
    /// The master's port is closed to everybody, its process lives on.
    Port,
    /// The master is cut off in both directions; connections stay open.
    Cut,
    /// Nothing reaches the master.
    CutIn,
    /// Nothing comes back from the master.
    CutOut,
    /// The master answers and accepts, but no commit ends there, as with a disk that hangs or is full.
    NoCommit,
    /// No room is left for the master's binary log.
    DiskFull,
    /// Only the proxy cannot reach the master; its replicas still receive from it.
    Alone,
    /// The master is killed while its peer still applies a large transaction.
    Lagging,
    /// 100 ms of delay on the master's link, then `kill -9`.
    Slow,
    /// `SWITCHOVER TO` the standby.
    Switchover,
    /// The master is killed, and right after it the proxy, which is started again.
    Proxy,
    /// The master is frozen, and the proxy is killed somewhere in the middle of the failover, and started again.
    ProxyMidway,
    /// The master is silent for less than the time-out.
    Blip,
    /// The proxy gets three tenths of its time.
    Starved,
    /// Up to 200 ms of jitter on every link.
    Jitter,
    /// Both at once.
    StarvedJitter,
    /// 20 ms of delay on every link, and a twentieth of what is sent is lost and sent again.
    Lossy,
}

/// All of them.
pub const ALL: [Fault; 20] = [
    Fault::Kill,
    Fault::Stop,
    Fault::Freeze,
    Fault::Port,
    Fault::Cut,
    Fault::CutIn,
    Fault::CutOut,
    Fault::NoCommit,
    Fault::DiskFull,
    Fault::Alone,
    Fault::Lagging,
    Fault::Slow,
    Fault::Switchover,
    Fault::Proxy,
    Fault::ProxyMidway,
    Fault::Blip,
    Fault::Starved,
    Fault::Jitter,
    Fault::StarvedJitter,
    Fault::Lossy,
];

impl Fault {
    /// Its word on the command line and in the table.
    pub fn word(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::Stop => "stop",
            Fault::Freeze => "freeze",
            Fault::Port => "port",
            Fault::Cut => "cut",
            Fault::CutIn => "cut-in",
            Fault::CutOut => "cut-out",
            Fault::NoCommit => "no-commit",
            Fault::Lagging => "lagging",
            Fault::Slow => "slow",
            Fault::Switchover => "switchover",
            Fault::Proxy => "proxy",
            Fault::Blip => "blip",
            Fault::Starved => "starved",
            Fault::Jitter => "jitter",
            Fault::StarvedJitter => "starved-jitter",
            Fault::Lossy => "lossy",
            Fault::DiskFull => "disk-full",
            Fault::Alone => "alone",
            Fault::ProxyMidway => "proxy-midway",
        }
    }

    /// Whether the master has to change. Where it has not, a change is a false alarm.
    pub fn moves_the_master(self) -> bool {
        self != Fault::Blip && !self.is_endured()
    }

    /// Whether the master may stay: where its peer has so much to apply that it is back, with all it had, before anybody could take over.
    pub fn may_leave_it(self) -> bool {
        self == Fault::Lagging
    }

    /// Whether it lasts as long as the plan says, and nothing may happen in it.
    pub fn is_endured(self) -> bool {
        matches!(self, Fault::Starved | Fault::Jitter | Fault::StarvedJitter | Fault::Lossy)
    }

    /// Whether the master has the time to hand over all it acknowledged, and nothing that it did not: then nothing may be lost,
    /// and nobody quarantined. A crash takes with it what was on its way, when nobody waits for the replicas.
    pub fn is_lossless(self) -> bool {
        matches!(self, Fault::Stop | Fault::Switchover | Fault::Blip) || self.is_endured()
    }

    /// Where it can be done.
    pub fn arena(self) -> super::arena::Kind {
        match self {
            Fault::DiskFull => super::arena::Kind::SmallDisks,
            // The one that is started again knows the silent master by no address that the servers use.
            Fault::Alone | Fault::ProxyMidway => super::arena::Kind::OwnWays,
            _ => super::arena::Kind::Plain,
        }
    }

    /// Whether the proxy itself is restarted: what clients see of that is not counted.
    pub fn restarts_the_proxy(self) -> bool {
        matches!(self, Fault::Proxy | Fault::ProxyMidway)
    }

    /// The longest write outage that is allowed.
    pub fn outage_max(self) -> Duration {
        Duration::from_millis(match self {
            Fault::Kill | Fault::Stop | Fault::Port => 1_000,
            Fault::Freeze | Fault::Cut | Fault::CutIn | Fault::CutOut => 2_000,
            Fault::NoCommit | Fault::DiskFull | Fault::Alone => 2_000,
            Fault::Slow => 3_000,
            Fault::Proxy | Fault::ProxyMidway => 5_000,
            // As long as the peer needs to apply what it has received.
            Fault::Lagging => 15_000,
            Fault::Switchover => 300,
            Fault::Blip => 1_000,
            Fault::Starved | Fault::Jitter | Fault::StarvedJitter | Fault::Lossy => 2_000,
        })
    }

    /// Breaks it, and returns when the fault has lasted as long as it should. What has to be mended then is done by
    /// [`Fault::mend`]. `endured` is how long those last under which nothing may happen.
    pub async fn strike(self, arena: &Arena, endured: Duration) -> Result<()> {
        let master = arena.master().await?.name().to_owned();
        match self {
            Fault::Kill => arena.cluster.find(&master)?.kill()?,
            Fault::Stop => {
                // Apart: it answers for as long as it shuts down, and the work goes on.
                let server = arena.cluster.find(&master)?;
                tokio::task::block_in_place(|| server.stop())?;
            }
            Fault::Freeze => arena.cluster.find(&master)?.freeze()?,
            Fault::Port => arena.link(arena.cluster.find(&master)?).cut(),
            Fault::Cut | Fault::CutIn | Fault::CutOut => {
                let link = arena.link(arena.cluster.find(&master)?);
                if self != Fault::CutOut {
                    link.stall(Way::Up);
                }
                if self != Fault::CutIn {
                    link.stall(Way::Down);
                }
            }
            Fault::NoCommit => {
                // The lock goes with its connection, in the end of this function.
                let mut root = arena.cluster.find(&master)?.root().await?;
                root.query_drop("FLUSH TABLES WITH READ LOCK").await?;
                tokio::time::sleep(LASTS + LASTS).await;
                root.disconnect().await?;
            }
            Fault::DiskFull => arena.disks()?.fill(&master)?,
            Fault::Alone => {
                let door = arena.door(arena.cluster.find(&master)?)?;
                door.stall(Way::Up);
                door.stall(Way::Down);
            }
            Fault::Lagging => {
                // Both replicate through one applier: what the peer gets behind this waits for it.
                let server = arena.cluster.find(&master)?;
                server.run(&["INSERT INTO t_chaos.big (word) SELECT REPEAT('x', 200) FROM t_chaos.many"]).await?;
                server.kill()?;
            }
            Fault::Slow => {
                let server = arena.cluster.find(&master)?;
                let link = arena.link(server);
                link.delay(Way::Up, Duration::from_millis(50));
                link.delay(Way::Down, Duration::from_millis(50));
                tokio::time::sleep(Duration::from_secs(1)).await;
                server.kill()?;
            }
            Fault::Switchover => {
                let to = arena.standby().await?.name().to_owned();
                arena.proxy.admin(&format!("SWITCHOVER TO {to}")).await?;
            }
            Fault::Proxy => {
                arena.cluster.find(&master)?.kill()?;
                tokio::time::sleep(Duration::from_millis(150)).await;
                arena.proxy.kill();
                arena.proxy.start_again().await?;
            }
            Fault::ProxyMidway => {
                arena.cluster.find(&master)?.freeze()?;
                let begun = crate::wait::until_true("the failover begins", LASTS, || async {
                    let events = arena.proxy.admin("SHOW EVENTS").await?;
                    Ok(events.rows.iter().any(|event| event.iter().any(|cell| cell.starts_with("writes are held"))))
                });
                begun.await?;
                // Anywhere from the second opinion to the promotion.
                let dice = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.subsec_nanos() % 500;
                tokio::time::sleep(Duration::from_millis(u64::from(dice))).await;
                arena.proxy.kill();
                arena.proxy.start_again().await?;
            }
            Fault::Blip => {
                let link = arena.link(arena.cluster.find(&master)?);
                link.stall(Way::Up);
                link.stall(Way::Down);
                tokio::time::sleep(BLIP).await;
                link.heal();
            }
            Fault::Starved => starve(arena, endured).await?,
            Fault::Jitter => jitter(arena, endured).await,
            Fault::StarvedJitter => {
                let (starved, ()) = tokio::join!(starve(arena, endured), jitter(arena, endured));
                starved?;
            }
            Fault::Lossy => {
                for (link, way) in arena.links().iter().flat_map(|link| [(link, Way::Up), (link, Way::Down)]) {
                    link.delay(way, Duration::from_millis(10));
                    link.lose(way, 50);
                }
                tokio::time::sleep(endured).await;
            }
        }
        if self.moves_the_master() {
            tokio::time::sleep(LASTS).await;
        }
        Ok(())
    }

    /// Ends the fault: what was stopped starts, what was cut is joined.
    pub fn mend(self, arena: &Arena) -> Result<()> {
        for link in arena.all_links() {
            link.heal();
        }
        if self == Fault::DiskFull {
            arena.disks()?.free();
        }
        for server in arena.cluster.servers() {
            match server.condition() {
                "frozen" => server.thaw()?,
                "ended" => server.start_again()?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Stops the proxy for seven tenths of the time.
async fn starve(arena: &Arena, endured: Duration) -> Result<()> {
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < endured {
        arena.proxy.signal(Signal::Stop)?;
        tokio::time::sleep(Duration::from_millis(70)).await;
        arena.proxy.signal(Signal::Cont)?;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    Ok(())
}

/// Delays what comes back on each link by another time up to 200 ms, ten times a second.
async fn jitter(arena: &Arena, endured: Duration) {
    let begun = tokio::time::Instant::now();
    let mut dice = 0x9E37_79B9_7F4A_7C15u64;
    while begun.elapsed() < endured {
        for link in arena.links() {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            link.delay(Way::Down, Duration::from_millis(dice % 200));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
