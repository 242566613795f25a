//! Bytes of the MySQL client/server protocol: framing, packets, and what a reply looks like.
//!
//! All of it reads what strangers send: nothing here may panic, whatever the bytes.

#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod capability;
pub mod command;
pub mod compress;
pub mod errno;
pub mod frame;
#[doc(hidden)]
pub mod fuzz;
pub mod handshake;
pub mod kinds;
pub mod ok_err_eof;
pub mod prepared;
pub mod primitives;
pub mod proxy_header;
pub mod query;
pub mod reply;
pub mod result_set;
pub mod session_track;

pub use capability::Capabilities;
pub use command::Com;
#[doc(hidden)]
pub use handshake::handshake_fuzz;
pub use reply::{Expect, ReplyTracker};
