//! Sluice: a MySQL-protocol proxy. The map of the house is written here as the rooms fill.

pub mod admin;
pub mod auth;
pub mod backend;
pub mod cache;
pub mod cli;
pub mod clock;
pub mod config;
pub mod frontend;
pub mod metrics;
pub mod monitor;
pub mod net;
pub mod protocol;
pub mod routing;
pub mod session;
pub mod sql;
pub mod topology;
