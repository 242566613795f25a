//! One byte stream to a client or a server: TCP or unix socket, plain or in TLS, and the buffer to read it with. Knows
//! nothing of MySQL.

pub mod buffer;
pub mod home;
pub mod stream;
pub mod timer;

pub use buffer::Buffer;
pub use home::Worker;
pub use stream::{Idle, Severer, Socket, Stream};
