//! The doors: accepts clients, one task each.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::frontend::client::Client;
use crate::frontend::enter::enter;
use crate::frontend::errors::{ClientError, Source};
use crate::frontend::login::{Arrival, Peer, log_in};
use crate::frontend::registry::ClientEntry;
use crate::frontend::shared::Shared;
use crate::frontend::workers::{Counted, Workers};
use crate::metrics::LoginResult;
use crate::net::{Socket, Stream, keepalive, timer};
use crate::protocol::errno;
use crate::protocol::proxy_header::{self, Progress};

/// Clients that may wait in the kernel until they are accepted.
pub const BACKLOG: i32 = 4096;
/// Pause after an accept that failed (as when file descriptors run out), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long the last packet to a refused client may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// An open door.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixListener, SocketFile),
}

/// The file of a unix socket, removed with the door.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode: by the end another process may have put its own in the place.
    id: (u64, u64),
    stays: Stays,
}

/// Says of all doors of a process whether the files of their sockets stay when they are closed, since another process serves them.
#[derive(Clone, Debug, Default)]
pub struct Stays(Arc<AtomicBool>);

impl Stays {
    /// Whether they stay.
    pub fn set(&self, stay: bool) {
        self.0.store(stay, Ordering::SeqCst);
    }
}

impl SocketFile {
    /// The file there is at the path now.
    ///
    /// # Errors
    /// Those of the system, when there is none.
    pub fn at(path: &std::path::Path, stays: &Stays) -> io::Result<SocketFile> {
        let made = std::fs::symlink_metadata(path)?;
        Ok(SocketFile { path: path.to_owned(), id: (made.dev(), made.ino()), stays: stays.clone() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if !self.stays.0.load(Ordering::SeqCst)
            && std::fs::symlink_metadata(&self.path).is_ok_and(|there| (there.dev(), there.ino()) == self.id)
        {
            let _ = std::fs::remove_file(&self.path);
        }
    }
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

    /// Opens a unix socket for everybody on the machine, as the servers do; one that a dead process left behind is replaced.
    ///
    /// # Errors
    /// Those of the system; [`io::ErrorKind::AddrInUse`] when somebody listens there, [`io::ErrorKind::AlreadyExists`] when the
    /// path is something else than a socket.
    pub fn unix(path: &std::path::Path, stays: &Stays) -> io::Result<Listener> {
        match std::fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the path exists and is no socket"));
            }
            Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
                _ => return Err(io::ErrorKind::AddrInUse.into()),
            },
            Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))?;
        Ok(Listener::Unix(listener, SocketFile::at(path, stays)?))
    }

    /// A door that another process has opened. `path` is that of a unix socket.
    ///
    /// # Errors
    /// Those of the system; the file of the unix socket may be gone.
    pub fn of_another(socket: OwnedFd, path: Option<&std::path::Path>, stays: &Stays) -> io::Result<Listener> {
        match path {
            None => Ok(Listener::Tcp(TcpListener::from_std(socket.into())?)),
            Some(path) => Ok(Listener::Unix(UnixListener::from_std(socket.into())?, SocketFile::at(path, stays)?)),
        }
    }

    /// The same door once more.
    ///
    /// # Errors
    /// Those of the system, when file descriptors have run out.
    pub fn copy(&self) -> io::Result<OwnedFd> {
        match self {
            Listener::Tcp(listener) => listener.as_fd().try_clone_to_owned(),
            Listener::Unix(listener, _) => listener.as_fd().try_clone_to_owned(),
        }
    }

    async fn accept(&self) -> io::Result<(Accepted, Peer)> {
        match self {
            Listener::Tcp(listener) => {
                let (socket, address) = listener.accept().await?;
                keepalive::prepare(&socket, keepalive::CLIENTS)?;
                Ok((Accepted::Tcp(socket.into_std()?), Peer::new(Some(address.ip()))))
            }
            Listener::Unix(listener, _) => {
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
    /// The stream, on what drives the sockets of this thread.
    fn stream(self) -> io::Result<Stream> {
        match self {
            Accepted::Tcp(socket) => Socket::of_std(socket).map(Stream::from),
            Accepted::Unix(socket) => UnixStream::from_std(socket).map(Stream::from),
        }
    }
}

/// A client's place in the registry and at its worker, left when its task ends, however that ends.
struct Registered {
    shared: Arc<Shared>,
    entry: Arc<ClientEntry>,
    _counted: Counted,
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
                let task = workers.spawn(|counted| {
                    client(Registered { shared: shared.clone(), entry: entry.clone(), _counted: counted }, socket, peer)
                });
                entry.served_by(task);
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a client; is the limit of open files reached?");
                timer::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One client from its first byte to its last. Thousands of them wait in here, so that it holds a client once and no more: the login's
/// state, which is large and short-lived, is in a box, and what a future is given it would keep twice.
fn client(registered: Registered, socket: Accepted, peer: Peer) -> impl Future<Output = ()> + Send + 'static {
    let arriving = Box::pin(arrive(registered.shared.clone(), registered.entry.clone(), socket, peer));
    async move {
        let mut logged_in = arriving.await;
        if let Some(client) = &mut logged_in {
            client.run().await;
        }
        drop((logged_in, registered));
    }
}

async fn arrive(shared: Arc<Shared>, entry: Arc<ClientEntry>, socket: Accepted, peer: Peer) -> Option<Client> {
    let mut stream = socket.stream().ok()?;
    let peer = match through_a_proxy(&shared, &mut stream, peer).await {
        Ok(peer) => peer,
        Err((peer, why)) => {
            shared.metrics.logins(LoginResult::Failed).inc();
            tracing::info!(client = peer.host, "{why}");
            let error = ClientError::new(Source::Client, errno::ER_HANDSHAKE_ERROR, format!("Bad handshake: {why}"));
            let _ = timer::timeout(GOODBYE_TIMEOUT, stream.send_all(&error.packet(0))).await;
            return None;
        }
    };
    if peer.host != entry.host() {
        entry.comes_from(&peer.host);
    }
    let arrival = Arrival { peer: peer.clone(), connection_id: entry.id };
    match log_in(stream, &arrival, &shared.login).await {
        Ok(login) => {
            shared.metrics.logins(LoginResult::Ok).inc();
            enter(shared.clone(), login, &peer, entry, false).await.ok()
        }
        Err(error) => {
            shared.note_login_error(&error, &peer.host);
            None
        }
    }
}

/// Who is behind a peer that must send a PROXY header; another peer is itself. An error is told together with the peer.
async fn through_a_proxy(shared: &Shared, stream: &mut Stream, peer: Peer) -> Result<Peer, (Peer, String)> {
    let must = |ip| shared.settings.load().proxy_protocol_from.iter().any(|net| net.contains(&ip));
    if !peer.ip.is_some_and(must) {
        return Ok(peer);
    }
    let limit = shared.login.limits.login;
    match timer::timeout(limit, read_proxy_header(stream)).await {
        // A health check, or a balancer that speaks for itself.
        Ok(Ok(None)) => Ok(peer),
        Ok(Ok(Some(address))) => Ok(Peer::new(Some(address.ip()))),
        Ok(Err(why)) => {
            let text = format!("{why}; {} is among proxy.proxy_protocol_from and must send one", peer.host);
            Err((peer, text))
        }
        Err(_) => {
            let text = format!("no PROXY protocol header within {limit:?}; {} is among proxy.proxy_protocol_from", peer.host);
            Err((peer, text))
        }
    }
}

async fn read_proxy_header(stream: &mut Stream) -> Result<Option<std::net::SocketAddr>, String> {
    let mut header = Vec::with_capacity(64);
    loop {
        match proxy_header::read(&header).map_err(|e| e.to_string())? {
            Progress::Done(address) => return Ok(address),
            Progress::More(more) => {
                let read = AsyncReadExt::take(&mut *stream, more as u64).read_buf(&mut header).await.map_err(|e| e.to_string())?;
                if read == 0 {
                    return Err("the connection ended in front of the PROXY protocol header's end".to_owned());
                }
            }
        }
    }
}

async fn too_many(shared: Arc<Shared>, socket: Accepted, limit: usize) {
    let Ok(mut stream) = socket.stream() else { return };
    shared.metrics.logins(LoginResult::Refused).inc();
    let text = format!("Too many connections: {limit} clients are connected (proxy.max_clients)");
    let error = ClientError::new(Source::Proxy, errno::ER_CON_COUNT_ERROR, text);
    shared.metrics.errors(Source::Proxy).inc();
    let _ = stream.write_all(&error.packet(0)).await;
    let _ = stream.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path of this test's own; removed at its end.
    struct Place(PathBuf);

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    /// The size of what a function of three arguments makes.
    fn size_made<A, B, C, R>(_: fn(A, B, C) -> R) -> usize {
        size_of::<R>()
    }

    /// Thousands of tasks wait: once a copy of the client too many was kept in each, and three times that.
    #[test]
    fn the_task_of_a_client_is_hardly_larger_than_the_client() {
        let task = size_made(client);
        let client = size_of::<Client>();
        assert!(task < client + 320, "the task takes {task} bytes, the client in it {client}");
        assert!(client <= 1024, "{client}");
    }

    #[tokio::test]
    async fn the_file_of_a_unix_socket() {
        let place = Place(std::env::temp_dir().join(format!("sluice-door-{}.sock", std::process::id())));
        let path = &place.0;
        std::fs::write(path, "precious").unwrap();
        assert_eq!(
            Listener::unix(path, &Stays::default()).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists,
            "a file is left alone"
        );
        std::fs::remove_file(path).unwrap();
        // Left behind by a process that is gone.
        drop(std::os::unix::net::UnixListener::bind(path).unwrap());
        let door = Listener::unix(path, &Stays::default()).unwrap();
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o777);
        assert_eq!(Listener::unix(path, &Stays::default()).unwrap_err().kind(), io::ErrorKind::AddrInUse, "somebody listens there");
        drop(door);
        assert!(!path.exists(), "removed with the door");
        let door = Listener::unix(path, &Stays::default()).unwrap();
        std::fs::remove_file(path).unwrap();
        let other = std::os::unix::net::UnixListener::bind(path).unwrap();
        drop(door);
        assert!(path.exists(), "another process's socket is left alone");
        drop(other);
        std::fs::remove_file(path).unwrap();
        let stays = Stays::default();
        let door = Listener::unix(path, &stays).unwrap();
        let copy = door.copy().unwrap();
        stays.set(true);
        drop(door);
        assert!(path.exists(), "another process serves it");
        let door = Listener::of_another(copy, Some(path), &Stays::default()).unwrap();
        let client = std::os::unix::net::UnixStream::connect(path).unwrap();
        assert!(door.accept().await.is_ok());
        drop((door, client));
        assert!(!path.exists());
    }
}
