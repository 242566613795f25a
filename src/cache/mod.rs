//! Results kept in memory: may a statement be answered from them, what does a write void, and what may be stored.

mod changes;

pub use changes::{Changes, VoidReason};
