//! All suites in one program, so that the drivers are linked once. Run it once per flavour: `FLAVOUR=mariadb|mysql`.
//!
//! What a suite may do to the servers decides where it runs: [`world`] holds one cluster and one proxy that all tests share,
//! each in a schema of its own, and that nobody may disturb; whoever kills, freezes, delays or promotes starts a cluster of its
//! own, which takes a second or two.

mod accounts;
mod admin;
mod bad_input;
mod beginnings;
mod binlog;
mod bounds;
mod cache;
mod cache_binlog;
mod cache_life;
mod cache_store;
mod cases;
mod commands;
mod deploy;
mod docs;
mod doors;
mod failover;
mod grafana;
mod guard;
mod harness;
mod health;
mod kill;
mod login;
mod logs;
mod many;
mod page;
mod prepared;
mod promotion;
mod protocol;
mod readme;
mod reload;
mod replay;
mod routing;
mod semi_sync;
mod sessions;
mod sockets;
mod statements;
mod tracing;
mod upgrade;
mod world;
