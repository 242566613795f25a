//! Listening for the admin and HTTP ports, with errors that say what to do.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use crate::net::{Stream, keepalive};

/// A bound port.
#[derive(Debug)]
pub enum Bound {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixListener),
}

/// How a port stands to a process that takes its place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
pub enum Standing {
    /// There is none.
    Serves,
    /// It is about to: nobody is accepted here, and waits in the socket until one of the two goes on. Who is there stays.
    AcceptsNobody,
    /// It does: who is there is let go.
    LetsGo,
}

/// Tells a port how it stands.
#[derive(Clone, Debug)]
pub struct Closing(pub watch::Receiver<Standing>);

impl Closing {
    /// Whether who is there is to go.
    pub fn is_told(&self) -> bool {
        *self.0.borrow() >= Standing::LetsGo
    }

    /// Waits until who is there is to go; for ever, when nobody can tell it any more.
    pub async fn told(&mut self) {
        self.reaches(Standing::LetsGo).await;
    }

    /// Waits until nobody is to be accepted; for ever, when nobody can tell it any more.
    pub async fn accepts_nobody(&mut self) {
        self.reaches(Standing::AcceptsNobody).await;
    }

    async fn reaches(&mut self, standing: Standing) {
        if self.0.wait_for(|is| *is >= standing).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Bound {
    /// A port that another process has bound.
    ///
    /// # Errors
    /// Those of the system.
    pub fn of_another(socket: OwnedFd, is_unix: bool) -> io::Result<Bound> {
        Ok(if is_unix {
            Bound::Unix(UnixListener::from_std(socket.into())?)
        } else {
            Bound::Tcp(TcpListener::from_std(socket.into())?)
        })
    }

    /// The same port once more.
    ///
    /// # Errors
    /// Those of the system, when file descriptors have run out.
    pub fn copy(&self) -> io::Result<OwnedFd> {
        match self {
            Bound::Tcp(listener) => listener.as_fd().try_clone_to_owned(),
            Bound::Unix(listener) => listener.as_fd().try_clone_to_owned(),
        }
    }

    /// Binds `host:port` or `unix:/path`. `what` is the key in the configuration, for the message.
    ///
    /// # Errors
    /// A sentence that names the address, the key, the cause and a remedy.
    pub async fn bind(address: &str, what: &str) -> Result<Bound, String> {
        let explain = |e: io::Error| {
            let remedy = match e.kind() {
                io::ErrorKind::AddrInUse => "another program listens there; stop it or choose another port",
                io::ErrorKind::AddrNotAvailable => "this machine does not have that address",
                io::ErrorKind::PermissionDenied => "this user may not listen there",
                _ => "choose another address",
            };
            let cause = e.to_string();
            let cause = cause.split(" (os error").next().unwrap_or(&cause);
            format!("sluice: cannot listen on {address} ({what}): {cause}; {remedy}")
        };
        match address.strip_prefix("unix:") {
            None => TcpListener::bind(address).await.map(Bound::Tcp).map_err(explain),
            Some(path) => {
                let path = PathBuf::from(path);
                // A socket that a dead process left behind is in the way; one that answers is not ours to take.
                if tokio::net::UnixStream::connect(&path).await.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused) {
                    let _ = std::fs::remove_file(&path);
                }
                UnixListener::bind(&path).map(Bound::Unix).map_err(explain)
            }
        }
    }

    /// The address that was bound, the port filled in when 0 was asked for.
    pub fn address(&self) -> String {
        match self {
            Bound::Tcp(l) => l.local_addr().map_or_else(|_| String::new(), |a| a.to_string()),
            Bound::Unix(l) => {
                l.local_addr().ok().and_then(|a| a.as_pathname().map(|p| format!("unix:{}", p.display()))).unwrap_or_default()
            }
        }
    }

    /// The next connection.
    ///
    /// # Errors
    /// Those of accept(2): most are about one connection, some (no file descriptors) last; wait a moment before the next call.
    pub async fn accept(&self) -> io::Result<Stream> {
        match self {
            Bound::Tcp(l) => {
                let (stream, _) = l.accept().await?;
                keepalive::prepare(&stream, keepalive::CLIENTS)?;
                Ok(stream.into())
            }
            Bound::Unix(l) => Ok(l.accept().await?.0.into()),
        }
    }
}
