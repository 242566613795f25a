//! The harness: real servers, the proxy in front of them, and what disturbs them, as a library.
//!
//! The suites (`tests/all`), the sandbox (`make demo`), the failure tests and the benchmark are all written with it, and it
//! should read like a sentence there:
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use integration::{cluster::Cluster, flavour::Flavour, proxy::Proxy};
//! let cluster = Cluster::start(Flavour::from_env()?).await?;
//! let proxy = Proxy::before(&cluster).set("monitor.max_lag", "\"2s\"").start().await?;
//! let mut client = proxy.connect("app").await?;
//! cluster.server("db3").kill()?;
//! # Ok(()) }
//! ```
//!
//! Reading order: [`flavour`] and [`install`] (which server programs), [`process`] (children that never outlive us), [`home`]
//! (directories that never outlive us), [`template`] and [`accounts`] (the data every server starts from), [`server`],
//! [`cluster`], [`proxy`], [`link`] and [`fake_server`] (what stands between or instead), [`driver`] and [`wait`] (what tests
//! ask and how they wait).
//!
//! Nothing here is tied to one tokio runtime: servers and the proxy are child processes, relays are plain threads, and every
//! administrative question opens its own connection. So one cluster can be shared by many `#[tokio::test]`s, each of which
//! has a runtime of its own.

pub mod accounts;
pub mod bench;
pub mod cases;
pub mod chaos;
pub mod cluster;
pub mod collector;
pub mod driver;
pub mod fake_server;
pub mod flavour;
pub mod home;
pub mod install;
pub mod link;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod sandbox;
pub mod server;
pub mod store;
pub mod template;
pub mod wait;
pub mod wire;
pub mod witness;
