//! Bytes of the MySQL client/server protocol: framing, packets, and what a reply looks like.

pub mod capability;

pub use capability::Capabilities;
