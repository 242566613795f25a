//! The doors: accepts clients, one task each.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::frontend::client::Client;
use crate::frontend::enter::enter;
use crate::frontend::errors::{ClientError, Source};
use crate::frontend::login::{Arrival, Peer, log_in};
use crate::frontend::registry::ClientEntry;
use crate::frontend::shared::Shared;
use crate::frontend::workers::Workers;
use crate::metrics::LoginResult;
use crate::net::{Stream, timer};

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

    async fn accept(&self) -> io::Result<(Accepted, Peer)> {
        match self {
            Listener::Tcp(listener) => {
                let (socket, address) = listener.accept().await?;
                socket.set_nodelay(true)?;
                let keepalive =
                    socket2::TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
                socket2::SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
                Ok((Accepted::Tcp(socket.into_std()?), Peer::new(Some(address.ip()))))
            }
            Listener::Unix(listener) => {
                let (socket, _) = listener.accept().await?;
                Ok((Accepted::Unix(socket.into_std()?), Peer::new(None)))
            }
        }
    }
}

/// A client's socket on its way from the door to its worker.
enum Accepted {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Accepted {
    /// The stream, on the reactor of this thread.
    fn stream(self) -> io::Result<Stream> {
        match self {
            Accepted::Tcp(socket) => TcpStream::from_std(socket).map(Stream::from),
            Accepted::Unix(socket) => UnixStream::from_std(socket).map(Stream::from),
        }
    }
}

/// A client's place in the registry, left when its task ends, however that ends.
struct Registered {
    shared: Arc<Shared>,
    entry: Arc<ClientEntry>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.shared.registry.leave(self.entry.id);
    }
}

/// Accepts clients for as long as the task lives.
pub async fn serve(shared: Arc<Shared>, listener: Listener, workers: Arc<Workers>) {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                let limit = shared.settings.load().max_clients;
                if shared.registry.count() >= limit {
                    tokio::spawn(too_many(shared.clone(), socket, limit));
                    continue;
                }
                let entry = shared.registry.enter(peer.host.clone());
                let registered = Registered { shared: shared.clone(), entry: entry.clone() };
                entry.served_by(workers.spawn(client(registered, socket, peer)));
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a client; is the limit of open files reached?");
                timer::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One client from its first byte to its last.
async fn client(registered: Registered, socket: Accepted, peer: Peer) {
    // The login's state is large and short-lived; the client's own task stays small.
    let logged_in = Box::pin(arrive(registered.shared.clone(), registered.entry.clone(), socket, peer)).await;
    if let Some(client) = logged_in {
        client.run().await;
    }
}

async fn arrive(shared: Arc<Shared>, entry: Arc<ClientEntry>, socket: Accepted, peer: Peer) -> Option<Client> {
    let stream = socket.stream().ok()?;
    let arrival = Arrival { peer: peer.clone(), connection_id: entry.id };
    match log_in(stream, &arrival, &shared.login).await {
        Ok(login) => {
            shared.metrics.logins(LoginResult::Ok).inc();
            enter(shared.clone(), login, &peer, entry).await
        }
        Err(error) => {
            shared.note_login_error(&error, &peer.host);
            None
        }
    }
}

async fn too_many(shared: Arc<Shared>, socket: Accepted, limit: usize) {
    let Ok(mut stream) = socket.stream() else { return };
    shared.metrics.logins(LoginResult::Refused).inc();
    let text = format!("Too many connections: {limit} clients are connected (proxy.max_clients)");
    let error = ClientError::new(Source::Proxy, 1040, b"08004", text);
    shared.metrics.errors(Source::Proxy).inc();
    let _ = stream.write_all(&error.packet(0)).await;
    let _ = stream.shutdown().await;
}
