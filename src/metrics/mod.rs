//! Counters, events, statement statistics: what the proxy knows of itself. Nothing here decides, nothing here is global.
//!
//! [`Metrics`] has every metric of `/metrics` with its labels already looked up, so that the way of a query only adds to
//! atomics ([`newest`] finds those of a server). [`events::EventLog`] is what `SHOW EVENTS` reads, [`statements::Statements`] what `SHOW STATEMENTS` reads.

pub mod events;
pub mod histogram;
pub mod newest;
pub mod otlp;
pub mod registry;
pub mod spans;
pub mod statements;
pub mod tally;

pub use events::{Event, EventLog};
pub use histogram::AtomicHistogram;
pub use registry::{Class, ErrorSource, LoginResult, Metrics, ServerMetrics, Target};
pub use statements::{StatementKey, StatementStats, Statements};
