//! Workers' sockets on io_uring, where the kernel lets us: see [`sluice_ring`].
//!
//! When a worker has run what there was to run ([`tasks`](crate::net::tasks)), its ring hands over what its sockets have to send and want to receive, and
//! waits for them and for the reactor of the runtime underneath. What that one, which waits with epoll, is still needed for: other threads that wake a
//! task, unix sockets, connections that are being opened.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use tokio::net::UnixStream;

pub use sluice_ring::turn;

/// Gives this thread, which runs [`tasks`](crate::net::tasks), a ring.
///
/// # Errors
/// Those of the system: io_uring is not there or forbidden; `/proc` is not mounted. Sockets are the reactor's then.
pub fn start() -> io::Result<()> {
    sluice_ring::start(reactor()?)
}

/// The epoll descriptor of this thread's runtime, which tokio does not tell: the one that a socket of ours is registered with. Source: proc_pid_fdinfo(5).
fn reactor() -> io::Result<RawFd> {
    let (ours, _theirs) = UnixStream::pair()?;
    let registered = format!("{}", ours.as_raw_fd());
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        let entry = entry?;
        let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()) else { continue };
        // Others may be closed meanwhile.
        let Ok(info) = fs::read_to_string(entry.path()) else { continue };
        let mut watched = info.lines().filter_map(|line| line.strip_prefix("tfd:")?.split_whitespace().next());
        if watched.any(|watched| watched == registered) {
            return Ok(fd);
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "the runtime's epoll descriptor is not in /proc/self/fdinfo"))
}

#[cfg(test)]
mod tests;
