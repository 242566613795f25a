//! One client's conversation as a machine: what it has set, what pins it, what it has written.

#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod collation;
pub mod last_write;
pub mod leftover;
pub mod machine;
pub mod pin;
pub mod prepared;
pub mod replay;
pub mod state;
pub mod unread;

pub use last_write::LastWrite;
pub use machine::{Learned, Session};
pub use pin::{PinReason, Pins};
pub use state::State;
