//! One byte stream to a client or a server: TCP or unix socket, plain or in TLS, compressed or not, and the buffer to read
//! it with. Of MySQL it knows only how streams are compressed. [`Boxed`], memory for futures, comes with the sockets on a ring.

pub mod buffer;
pub mod home;
pub mod keepalive;
pub mod packed;
pub mod ring;
pub mod socket;
pub mod stream;
pub mod tasks;
pub mod timer;
pub mod watch;

pub use buffer::Buffer;
pub use home::Worker;
pub use packed::Peer;
pub use sluice_ring::Boxed;
pub use socket::{Severer, Socket};
pub use stream::{Idle, Stream};
pub use watch::Watch;
