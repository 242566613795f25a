//! Connections to servers: how they are made, kept and used.

pub mod client;
pub mod connect;
pub mod handshake;
pub mod packets;
pub mod tls;

pub use client::{AdminConnection, QueryError, TextResult, connect_admin};
pub use connect::{ConnectError, Connected, Login, ServerAddress, connect};
pub use tls::{ServerTls, TlsMode};
