//! One byte stream to a client or a server: TCP or unix socket, plain or in TLS. Knows nothing of MySQL.

pub mod stream;

pub use stream::{Idle, Socket, Stream};
