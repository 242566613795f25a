//! Bytes of the MySQL client/server protocol: framing, packets, and what a reply looks like.

pub mod capability;
pub mod handshake;

pub use capability::Capabilities;
#[doc(hidden)]
pub use handshake::handshake_fuzz;
