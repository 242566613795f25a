//! How the system finds out that a peer is gone without a word.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// After how much silence the system asks whether a peer is there, and how often until it is given up.
#[derive(Clone, Copy, Debug)]
pub struct Keepalive {
    idle: Duration,
    interval: Duration,
    /// `None`: as often as the system does by default, nine times.
    retries: Option<u32>,
}

/// For who connects to us: it must not keep a place for more than a few minutes.
pub const CLIENTS: Keepalive = Keepalive { idle: Duration::from_secs(60), interval: Duration::from_secs(15), retries: None };
/// For servers: statements wait there.
pub const SERVERS: Keepalive = Keepalive { idle: Duration::from_secs(30), interval: Duration::from_secs(10), retries: Some(3) };

/// Sets that up, and that small packets go out at once.
///
/// # Errors
/// Those of the system: the socket is broken already.
pub fn prepare(socket: &TcpStream, keepalive: Keepalive) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let asked = TcpKeepalive::new().with_time(keepalive.idle).with_interval(keepalive.interval);
    let asked = match keepalive.retries {
        Some(retries) => asked.with_retries(retries),
        None => asked,
    };
    SockRef::from(socket).set_tcp_keepalive(&asked)
}
