//! The doors: accepts clients, one task each.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, UnixListener};

use crate::frontend::enter::enter;
use crate::frontend::errors::{ClientError, Source};
use crate::frontend::login::{Arrival, Peer, log_in};
use crate::frontend::shared::Shared;
use crate::metrics::LoginResult;
use crate::net::Stream;

/// Clients that may wait in the kernel until they are accepted.
pub const BACKLOG: i32 = 4096;
/// Pause after an accept that failed (as when file descriptors run out), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// An open door.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixListener),
}

impl Listener {
    /// Opens a TCP door.
    ///
    /// # Errors
    /// Those of the system, such as an address in use.
    pub fn tcp(address: std::net::SocketAddr) -> io::Result<Listener> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Listener::Tcp(TcpListener::from_std(socket.into())?))
    }

    /// Opens a unix socket; one that a dead process left behind is replaced.
    ///
    /// # Errors
    /// Those of the system.
    pub fn unix(path: &std::path::Path) -> io::Result<Listener> {
        if std::os::unix::net::UnixStream::connect(path).is_err() {
            let _ = std::fs::remove_file(path);
        }
        Ok(Listener::Unix(UnixListener::bind(path)?))
    }

    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Listener::Tcp(listener) => {
                let (socket, address) = listener.accept().await?;
                socket.set_nodelay(true)?;
                let keepalive =
                    socket2::TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
                socket2::SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
                Ok((socket.into(), Peer::new(Some(address.ip()))))
            }
            Listener::Unix(listener) => {
                let (socket, _) = listener.accept().await?;
                Ok((socket.into(), Peer::new(None)))
            }
        }
    }
}

/// Accepts clients for as long as the task lives.
pub async fn serve(shared: Arc<Shared>, listener: Listener) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(client(shared.clone(), stream, peer));
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a client; is the limit of open files reached?");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One client from its first byte to its last.
async fn client(shared: Arc<Shared>, stream: Stream, peer: Peer) {
    let limit = shared.settings.load().max_clients;
    if shared.registry.count() >= limit {
        too_many(&shared, stream, limit).await;
        return;
    }
    // The login's state is large and short-lived; the client's own task stays small.
    let logged_in = Box::pin(arrive(shared, stream, peer)).await;
    if let Some(client) = logged_in {
        client.run().await;
    }
}

async fn arrive(shared: Arc<Shared>, stream: Stream, peer: Peer) -> Option<crate::frontend::client::Client> {
    let entry = shared.registry.enter(peer.host.clone());
    let arrival = Arrival { peer: peer.clone(), connection_id: entry.id };
    let id = entry.id;
    let client = match log_in(stream, &arrival, &shared.login).await {
        Ok(login) => {
            shared.metrics.logins(LoginResult::Ok).inc();
            enter(shared.clone(), login, &peer, entry).await
        }
        Err(error) => {
            shared.note_login_error(&error, &peer.host);
            None
        }
    };
    if client.is_none() {
        shared.registry.leave(id);
    }
    client
}

async fn too_many(shared: &Shared, mut stream: Stream, limit: usize) {
    shared.metrics.logins(LoginResult::Refused).inc();
    let text = format!("Too many connections: {limit} clients are connected (proxy.max_clients)");
    let error = ClientError::new(Source::Proxy, 1040, b"08004", text);
    shared.metrics.errors(Source::Proxy).inc();
    let _ = stream.write_all(&error.packet(0)).await;
    let _ = stream.shutdown().await;
}
