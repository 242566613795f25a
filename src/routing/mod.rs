//! Where a statement goes, and why: facts about the statement, the session and the servers in, a [`Decision`] out.
//!
//! The order of the rules is the text of [`decide::decide`]. The reason it returns is the word that stands in `EXPLAIN ROUTE`,
//! in the log, in the metrics and in the tests.

#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod balance;
pub mod decide;
pub mod decision;
pub mod rules;
pub mod schemas;

pub use balance::{Load, ReadBalance};
pub use decide::{Consistency, Question, ReadFromMaster, RoutingSettings, decide};
pub use decision::{Decision, Reason, Target};
pub use rules::{Action, Rule, Rules};
