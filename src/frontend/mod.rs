//! Clients: accept, log in, one loop each, one statement at a time, the reply relayed.
//!
//! Reading order:
//! * a client comes in: [`listener`], [`workers`], [`login`] ([`tls`], [`refusals`]), [`beginnings`], [`enter`], [`registry`], [`client`];
//! * the way of a statement: [`query`], `job`, `reading` (1), `cached`, [`flight`], [`capture`] and `shared_cache` (4), `place` (5, 6),
//!   `admit`, `changed`, `send` (7), [`relay`], [`told`] (8), `learn`, [`written`], `questions` (9), `leave`, `count` (10);
//! * other ways: [`prepared`], `long` and [`upload`], [`answers`], `ask`, `ask_first`, `numbers`, `processlist`, `status`, [`kill`];
//! * what can go wrong: [`errors`], `refused`, `lost`, `replay`, `schemaless`, [`unrestored`], `bounds`;
//! * what all of them use: [`shared`], `newest`.

mod admit;
pub mod answers;
mod ask;
mod ask_first;
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
mod newest;
mod numbers;
mod place;
pub mod prepared;
mod processlist;
pub mod query;
mod questions;
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
mod status;
pub mod tls;
pub mod told;
pub mod unrestored;
pub mod upload;
pub mod workers;
pub mod written;

pub use login::{LoggedIn, LoginError, LoginRoom};
