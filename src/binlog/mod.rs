//! What a server's binary log says has changed, table by table: for the cache, which must hear of writes that did not come through Sluice.
//!
//! Rows are never decoded. From bytes to what is void: [`split`] finds events in the stream and keeps of each only its beginning; [`event`] reads the few
//! fields that matter; [`payload`] unpacks what the servers packed; [`statement`] says what a logged statement changes; [`machine`] collects it by
//! transaction and tells it at the commit; [`kin`] adds what the log does not name, as cascading foreign keys. [`dump`] asks a server for its log. The
//! connection is `monitor`'s.
//!
//! All of it reads what a server sends: nothing here may panic or grow without limit, whatever the bytes. What cannot be understood means that
//! everything may have changed.
//!
//! Sources: MySQL internals manual and the MySQL 8.4 manual, "Replication Event Types"; MariaDB knowledge base, "Replication Protocol"; events of real
//! servers (`fixtures.txt`).

#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod dump;
pub mod event;
#[doc(hidden)]
pub mod fuzz;
pub mod kin;
pub mod machine;
pub mod payload;
pub mod split;
pub mod statement;
#[cfg(test)]
mod tests;

pub use dump::{Dump, from_place};
pub use kin::Kin;
pub use machine::{Change, Machine, Settings, Step, What, Why};
