//! What the service manager is told: ready, reloading, stopping, alive. <https://www.freedesktop.org/software/systemd/man/sd_notify.html>
//!
//! Without `NOTIFY_SOCKET` in the environment (no systemd, or a unit without `Type=notify`) nothing is sent.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Tells it one thing: `READY=1`, `RELOADING=1`, `STOPPING=1`, `WATCHDOG=1`.
pub fn notify(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&socket.to_string_lossy(), state) {
        tracing::debug!(%error, state, "the service manager was not told");
    }
}

fn send(socket: &str, state: &str) -> std::io::Result<()> {
    // A name that begins with @ is in the abstract namespace.
    let address = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_sockets_are_told() {
        let name = format!("sluice-notify-{}", std::process::id());
        let abstract_socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let path = std::env::temp_dir().join(&name);
        let file_socket = UnixDatagram::bind(&path).unwrap();
        for (socket, to) in [(abstract_socket, format!("@{name}")), (file_socket, path.display().to_string())] {
            send(&to, "READY=1").unwrap();
            let mut got = [0; 64];
            let length = socket.recv(&mut got).unwrap();
            assert_eq!(&got[..length], b"READY=1");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(send("/nowhere/at/all", "READY=1").is_err());
    }
}
