//! Clients: accept, log in, one loop each, one statement at a time, the reply relayed.
//!
//! Reading order: [`listener`], [`login`], [`enter`], [`client`], [`query`], [`relay`]; then [`prepared`], [`answers`] and [`kill`].

mod admit;
pub mod answers;
mod ask;
pub mod beginnings;
mod bounds;
mod cached;
pub mod capture;
mod changed;
pub mod client;
mod count;
pub mod enter;
pub mod errors;
pub mod flight;
mod job;
pub mod kill;
mod learn;
mod leave;
pub mod listener;
pub mod login;
mod long;
mod lost;
mod numbers;
mod place;
pub mod prepared;
mod processlist;
pub mod query;
mod reading;
pub mod refusals;
mod refused;
pub mod registry;
pub mod relay;
mod replay;
mod schemaless;
mod send;
pub mod shared;
mod shared_cache;
pub mod tls;
pub mod upload;
pub mod workers;
pub mod written;

pub use login::{LoggedIn, LoginError, LoginRoom};
