//! A connected socket, of whichever kind.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use sluice_ring::{Seen, breathe};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::net::stream::Idle;
use crate::net::tasks::poll_proceed;

/// See the module.
#[derive(Debug)]
pub enum Socket {
    /// TCP on a reactor, with `TCP_NODELAY` set by whoever connected or accepted it.
    Tcp(TcpStream),
    /// The same on the ring of a worker, see [`ring`](crate::net::ring).
    Ring(sluice_ring::Socket),
    /// A unix socket.
    Unix(UnixStream),
    /// None any more: it was lost on its way to another thread.
    Lost,
}

impl Socket {
    /// A non-blocking TCP socket on what drives the sockets of this thread: its ring, else its reactor.
    ///
    /// # Errors
    /// Those of the system; the socket is closed then.
    pub fn of_std(socket: std::net::TcpStream) -> io::Result<Socket> {
        if !sluice_ring::is_here() {
            return TcpStream::from_std(socket).map(Socket::Tcp);
        }
        socket.set_nonblocking(false)?;
        Socket::of_blocking(socket)
    }

    /// The same of one that is blocking, as those on a ring are: from ring to ring it costs no system call.
    fn of_blocking(socket: std::net::TcpStream) -> io::Result<Socket> {
        match sluice_ring::Socket::new(socket) {
            Ok(socket) => Ok(Socket::Ring(socket)),
            Err(socket) => {
                socket.set_nonblocking(true)?;
                TcpStream::from_std(socket).map(Socket::Tcp)
            }
        }
    }

    /// Has what drives the sockets of this thread drive this one from now on.
    pub(super) fn move_here(&mut self) -> io::Result<()> {
        *self = match std::mem::replace(self, Socket::Lost) {
            Socket::Tcp(s) => Socket::of_std(s.into_std()?)?,
            Socket::Ring(s) => Socket::of_blocking(s.into_std()?)?,
            Socket::Unix(s) => Socket::Unix(UnixStream::from_std(s.into_std()?)?),
            Socket::Lost => return Err(lost()),
        };
        Ok(())
    }

    /// See [`Stream::keep_receiving`](crate::net::Stream::keep_receiving).
    pub(super) fn keep_receiving(&mut self, keeps: bool) {
        if let Socket::Ring(s) = self {
            s.keep_receiving(keeps);
        }
    }

    /// See [`Stream::goes_first`](crate::net::Stream::goes_first).
    pub(super) fn goes_first(&mut self) {
        if let Socket::Ring(s) = self {
            s.goes_first();
        }
    }

    /// See [`Stream::rest_here`](crate::net::Stream::rest_here).
    pub(super) fn rest_here(&self) -> bool {
        match self {
            Socket::Ring(s) => s.rest_here(),
            Socket::Tcp(_) | Socket::Unix(_) | Socket::Lost => true,
        }
    }

    /// See [`Stream::is_at_rest`](crate::net::Stream::is_at_rest).
    pub(super) fn is_at_rest(&self) -> bool {
        !matches!(self, Socket::Ring(s) if !s.is_at_rest())
    }

    /// See [`Stream::come_to_rest`](crate::net::Stream::come_to_rest).
    pub(super) fn come_to_rest(&self) -> bool {
        match self {
            Socket::Ring(s) => s.come_to_rest(),
            Socket::Tcp(_) | Socket::Unix(_) | Socket::Lost => true,
        }
    }

    /// The peer's address as text: `10.0.0.1:3306`, or `localhost` for a unix socket (as a MySQL server calls it).
    pub fn peer(&self) -> String {
        let address = match self {
            Socket::Tcp(s) => s.peer_addr(),
            Socket::Ring(s) => s.as_std().peer_addr(),
            Socket::Unix(_) => return "localhost".to_owned(),
            Socket::Lost => Err(lost()),
        };
        address.map_or_else(|_| "unknown".to_owned(), |a| a.to_string())
    }

    /// See [`Stream::idle`](crate::net::Stream::idle).
    pub(super) fn idle(&self, certain: bool) -> Idle {
        let peek = |socket: socket2::SockRef<'_>| socket.peek(&mut [std::mem::MaybeUninit::uninit()]);
        match self {
            Socket::Tcp(s) => noted(|seen| s.try_io(Interest::READABLE, || seen(peek(s.into())))),
            Socket::Unix(s) => noted(|seen| s.try_io(Interest::READABLE, || seen(peek(s.into())))),
            Socket::Ring(s) => match s.seen(certain) {
                Seen::Quiet => Idle::Quiet,
                Seen::Bytes => Idle::Bytes,
                Seen::Closed => Idle::Closed,
            },
            Socket::Lost => Idle::Closed,
        }
    }

    /// What a plain socket takes at once, however little.
    pub(super) fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(s) => socket2::SockRef::from(s).send(bytes),
            Socket::Ring(s) => s.send_now(bytes),
            Socket::Unix(s) => socket2::SockRef::from(s).send(bytes),
            Socket::Lost => Err(lost()),
        }
    }

    /// Whether it has been noted that the peer will send nothing more, behind whatever has come and was not read yet.
    pub(super) fn is_read_closed(&self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        let ready = match self {
            Socket::Tcp(s) => pin!(s.ready(Interest::READABLE)).poll(&mut nobody),
            Socket::Unix(s) => pin!(s.ready(Interest::READABLE)).poll(&mut nobody),
            Socket::Ring(s) => return s.is_read_closed(),
            Socket::Lost => return true,
        };
        matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// See [`Stream::poll_readable`](crate::net::Stream::poll_readable).
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(s) => s.poll_read_ready(cx),
            Socket::Ring(s) => s.poll_readable(cx),
            Socket::Unix(s) => s.poll_read_ready(cx),
            Socket::Lost => Poll::Ready(Err(lost())),
        }
    }

    /// See [`Stream::sent_nothing`](crate::net::Stream::sent_nothing).
    pub(super) fn sent_nothing(&self) -> bool {
        matches!(self, Socket::Ring(s) if s.sent_nothing())
    }

    /// See [`Stream::all_sent`](crate::net::Stream::all_sent).
    pub(super) fn poll_sent(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Ring(s) => s.poll_sent(cx, true),
            Socket::Tcp(_) | Socket::Unix(_) => Poll::Ready(Ok(())),
            Socket::Lost => Poll::Ready(Err(lost())),
        }
    }

    /// See [`Stream::severer`](crate::net::Stream::severer).
    pub(super) fn severer(&self) -> io::Result<Severer> {
        let socket = match self {
            Socket::Tcp(s) => socket2::SockRef::from(s).try_clone(),
            Socket::Ring(s) => socket2::SockRef::from(s.as_std()).try_clone(),
            Socket::Unix(s) => socket2::SockRef::from(s).try_clone(),
            Socket::Lost => Err(lost()),
        };
        socket.map(Severer)
    }
}

fn lost() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the socket was lost on its way to another thread")
}

/// What a look at a socket finds that its reactor has noted something of. A look that finds nothing clears the note.
fn noted(look: impl FnOnce(&mut dyn FnMut(io::Result<usize>) -> io::Result<()>) -> io::Result<()>) -> Idle {
    let mut idle = Idle::Quiet;
    let _ = look(&mut |peeked| {
        idle = match peeked {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(e),
            Ok(1..) => Idle::Bytes,
            Ok(0) | Err(_) => Idle::Closed,
        };
        Ok(())
    });
    idle
}

/// Ends a stream from outside, whoever is reading or writing it: its owner sees the end at once.
#[derive(Debug)]
pub struct Severer(socket2::Socket);

impl Severer {
    /// Shuts both directions down.
    pub fn sever(&self) {
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Socket::Ring(s) => {
                let turn = ready!(poll_proceed(cx));
                let n = ready!(s.poll_read(cx, buf.initialize_unfilled()))?;
                turn.made_progress();
                buf.advance(n);
                Poll::Ready(Ok(()))
            }
            Socket::Unix(s) => {
                // Where tokio's budget holds, it counts twice.
                let turn = ready!(poll_proceed(cx));
                breathe();
                ready!(Pin::new(s).poll_read(cx, buf))?;
                turn.made_progress();
                Poll::Ready(Ok(()))
            }
            Socket::Lost => Poll::Ready(Err(lost())),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(s) => Pin::new(s).poll_write(cx, buf),
            Socket::Ring(s) => {
                let turn = ready!(poll_proceed(cx));
                let n = ready!(s.poll_write(cx, buf))?;
                turn.made_progress();
                Poll::Ready(Ok(n))
            }
            Socket::Unix(s) => Pin::new(s).poll_write(cx, buf),
            Socket::Lost => Poll::Ready(Err(lost())),
        }
    }
    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Socket::Tcp(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Socket::Ring(_) | Socket::Lost => {
                let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
                self.poll_write(cx, first)
            }
            Socket::Unix(s) => Pin::new(s).poll_write_vectored(cx, bufs),
        }
    }
    fn is_write_vectored(&self) -> bool {
        !matches!(self, Socket::Ring(_))
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(s) => Pin::new(s).poll_flush(cx),
            Socket::Ring(s) => s.poll_sent(cx, false),
            Socket::Lost => Poll::Ready(Err(lost())),
            Socket::Unix(s) => Pin::new(s).poll_flush(cx),
        }
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Socket::Ring(s) => s.poll_shutdown(cx),
            Socket::Unix(s) => Pin::new(s).poll_shutdown(cx),
            Socket::Lost => Poll::Ready(Err(lost())),
        }
    }
}
