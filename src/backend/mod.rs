//! Connections to servers: logging in, the pool, bringing a connection to a session's state.

pub mod aim;
pub mod checkout;
pub mod client;
pub mod connect;
pub mod connection;
pub mod handshake;
pub mod kill;
pub mod packets;
pub mod pool;
pub mod pool_book;
pub mod pools;
pub mod tls;

pub use client::{AdminConnection, QueryError, TextResult, connect_admin};
pub use connect::{ConnectError, Connected, Login, ServerAddress, connect};
pub use tls::{ServerTls, TlsMode};
