//! The stream under every client and every server connection.
//!
//! An idle plain stream owns no buffer: its owner waits with [`Buffer::poll_fill`](crate::net::Buffer::poll_fill), which takes one only when
//! bytes have come.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::CommonState;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

use crate::net::packed::{Packed, Peer, first_command};
use crate::net::socket::{Severer, Socket};
use crate::net::timer;
use crate::protocol::compress::Algorithm;

/// A [`Socket`], perhaps with TLS on it. The TLS state is boxed: most streams have none, and idle clients are many.
#[derive(Debug)]
pub enum Stream {
    /// No TLS.
    Plain(Socket),
    /// TLS in either direction.
    Tls(Box<TlsStream<Socket>>),
    /// Compressed, over one of the others.
    Packed(Box<Packed>),
    /// Taken away (handed to somebody else): reads find the end, writes fail.
    Gone,
}

/// What an idle stream looks like, told without waiting. See [`Stream::idle`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Idle {
    /// Nothing has come: as it should be between statements.
    Quiet,
    /// The peer has closed its side.
    Closed,
    /// Bytes have come that nobody asked for (a server's shutdown notice, a pipelined command).
    Bytes,
}

impl Stream {
    /// The socket underneath.
    pub fn socket(&self) -> Option<&Socket> {
        match self {
            Stream::Plain(s) => Some(s),
            Stream::Tls(s) => Some(s.get_ref().0),
            Stream::Packed(s) => s.inner().socket(),
            Stream::Gone => None,
        }
    }

    /// Takes the stream out of its place and leaves [`Stream::Gone`].
    #[must_use]
    pub fn take(&mut self) -> Stream {
        std::mem::replace(self, Stream::Gone)
    }

    /// Takes the bare socket back for an upgrade to TLS. `None` when it already speaks TLS or is compressed.
    pub fn into_plain(self) -> Option<Socket> {
        match self {
            Stream::Plain(s) => Some(s),
            Stream::Tls(_) | Stream::Packed(_) | Stream::Gone => None,
        }
    }

    /// Whether TLS is on.
    pub fn is_tls(&self) -> bool {
        match self {
            Stream::Packed(s) => s.inner().is_tls(),
            other => matches!(other, Stream::Tls(_)),
        }
    }

    /// What was agreed upon in TLS, where it is on.
    pub fn tls_session(&self) -> Option<&CommonState> {
        match self {
            Stream::Packed(s) => s.inner().tls_session(),
            Stream::Tls(tls) => Some(tls.get_ref().1),
            Stream::Plain(_) | Stream::Gone => None,
        }
    }

    /// How it is compressed, if it is.
    pub fn compression(&self) -> Option<Algorithm> {
        match self {
            Stream::Packed(packed) => Some(packed.algorithm),
            _ => None,
        }
    }

    /// The stream, compressed from here on.
    #[must_use]
    pub fn compressed(self, algorithm: Algorithm, peer: Peer) -> Stream {
        Stream::Packed(Box::new(Packed::new(self, algorithm, peer)))
    }

    /// Whether it is compressed.
    pub fn is_compressed(&self) -> bool {
        matches!(self, Stream::Packed(_))
    }

    /// What is written next begins a command to a server.
    pub fn begin_command(&mut self) {
        if let Stream::Packed(packed) = self {
            packed.begin_command();
        }
    }

    /// Writes commands to a server: as [`Stream::send_all`], but where it is compressed each begins a piece of its own. Of the last
    /// one the rest may follow in [`Stream::send_all`].
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn send_command(&mut self, mut commands: &[u8]) -> io::Result<()> {
        use tokio::io::AsyncWriteExt;
        let Stream::Packed(packed) = self else { return self.send_all(commands).await };
        while !commands.is_empty() {
            let (first, rest) = commands.split_at(first_command(commands));
            packed.begin_command();
            packed.write_all(first).await?;
            commands = rest;
        }
        packed.flush().await
    }

    /// Whether a read would find bytes or the end, asked without holding a buffer. For TLS that may be a record that carries no
    /// application data; the read that follows then waits on. Only the task that asked last is woken, and it is the one that reads.
    ///
    /// # Errors
    /// Those of the reactor.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Stream::Packed(packed) = self
            && packed.has_bytes()
        {
            return Poll::Ready(Ok(()));
        }
        match self.socket() {
            Some(socket) => socket.poll_readable(cx),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Writes all of `bytes`. A plain socket is nearly always ready to take them, so it is not asked first.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn send_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        use tokio::io::AsyncWriteExt;
        let Some(rest) = self.send_first(bytes)? else { return Ok(()) };
        self.write_all(rest).await?;
        self.flush().await
    }

    /// The same to a peer that may not read: when nothing can be written for so long, it is not waited for any more. The limit is asked for
    /// only when one must be waited for.
    ///
    /// # Errors
    /// Those of the stream, and [`io::ErrorKind::TimedOut`].
    pub async fn send_all_unless_stalled(&mut self, bytes: &[u8], limit: impl Fn() -> Duration) -> io::Result<()> {
        let Some(rest) = self.send_first(bytes)? else { return Ok(()) };
        self.write_unless_stalled(rest, limit).await
    }

    /// Sends what a plain socket takes at once. `None`: that was all; else what is left must be written as if nothing had been.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn send_first<'b>(&self, bytes: &'b [u8]) -> io::Result<Option<&'b [u8]>> {
        let Stream::Plain(socket) = self else { return Ok(Some(bytes)) };
        match socket.send_now(bytes) {
            Ok(sent) => Ok(bytes.get(sent..).filter(|rest| !rest.is_empty())),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(Some(bytes)),
            Err(e) => Err(e),
        }
    }

    async fn write_unless_stalled(&mut self, mut bytes: &[u8], limit: impl Fn() -> Duration) -> io::Result<()> {
        let mut stalled: Option<Pin<Box<timer::Sleep>>> = None;
        std::future::poll_fn(|cx| {
            loop {
                let step = match bytes.is_empty() {
                    true => Pin::new(&mut *self).poll_flush(cx).map_ok(|()| None),
                    false => Pin::new(&mut *self).poll_write(cx, bytes).map_ok(Some),
                };
                match step {
                    Poll::Ready(Ok(Some(0))) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(Some(n))) => (bytes, stalled) = (bytes.get(n..).unwrap_or_default(), None),
                    Poll::Ready(done) => return Poll::Ready(done.map(|_| ())),
                    Poll::Pending => {
                        let stalled = stalled.get_or_insert_with(|| Box::pin(timer::sleep(limit())));
                        return stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()));
                    }
                }
            }
        })
        .await
    }

    /// Whether whoever has it will read what comes for a long time, on this thread: where it is on a ring, what comes needs not be asked for each time then.
    pub fn keep_receiving(&mut self, keeps: bool) {
        if let Some(socket) = self.socket_mut() {
            socket.keep_receiving(keeps);
        }
    }

    /// Of all that comes at once on this thread's ring, what comes here is read first. Said of connections to servers: replies are passed on, which frees connections,
    /// before the next commands are looked at, and neither work pushes the other's out of the processor's cache.
    pub fn goes_first(&mut self) {
        if let Some(socket) = self.socket_mut() {
            socket.goes_first();
        }
    }

    fn socket_mut(&mut self) -> Option<&mut Socket> {
        match self {
            Stream::Plain(s) => Some(s),
            Stream::Tls(tls) => Some(match &mut **tls {
                TlsStream::Client(tls) => tls.get_mut().0,
                TlsStream::Server(tls) => tls.get_mut().0,
            }),
            Stream::Packed(s) => s.inner_mut().socket_mut(),
            Stream::Gone => None,
        }
    }

    /// Has what drives the sockets of this thread drive this one.
    ///
    /// # Errors
    /// Those of the system, and that something is under way on its ring; the stream is lost then.
    pub fn move_here(&mut self) -> io::Result<()> {
        self.socket_mut().map_or(Ok(()), Socket::move_here)
    }

    /// Puts a stream that was opened on the reactor of this thread on its ring, where it has one.
    #[must_use]
    pub fn settled(mut self) -> Stream {
        // One that is lost on the way is found to be closed by who uses it.
        if sluice_ring::is_here() {
            _ = self.move_here();
        }
        self
    }

    /// Looks at an idle stream without waiting. Without a system call as long as the kernel has reported nothing, where the socket is one
    /// that the kernel reports of.
    pub fn idle(&self) -> Idle {
        self.seen(false)
    }

    /// The same, where it must be as certain as can be that the peer has not closed it by now: a ring's socket asks the system. Others have their reactor's
    /// notes.
    pub fn idle_for_certain(&self) -> Idle {
        self.seen(true)
    }

    fn seen(&self, certain: bool) -> Idle {
        match self {
            Stream::Packed(packed) if packed.has_bytes() => Idle::Bytes,
            other => other.socket().map_or(Idle::Closed, |socket| socket.idle(certain)),
        }
    }

    /// Whether nothing of what was written last went out, since the connection had ended before. A reactor's sockets tell so when they are written to.
    pub fn sent_nothing(&self) -> bool {
        self.socket().is_some_and(Socket::sent_nothing)
    }

    /// Waits until the system has all that was written: what is dropped before loses what its peer had not taken yet.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn all_sent(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.socket().map_or(Poll::Ready(Ok(())), |socket| socket.poll_sent(cx))).await
    }

    /// Whether [`Stream::idle`] costs a system call.
    pub fn asks_the_system(&self) -> bool {
        matches!(self.socket(), Some(Socket::Ring(s)) if !s.is_watched())
    }

    /// Leaves it to itself on this thread, until it is used again: here, or elsewhere when it [is at rest](Stream::is_at_rest). `false` when something has
    /// come, or waits to be sent.
    pub fn rest_here(&self) -> bool {
        self.socket().is_none_or(Socket::rest_here)
    }

    /// Whether it may go on on any thread, as its own thread has found when it was left to itself there.
    pub fn is_at_rest(&self) -> bool {
        self.socket().is_none_or(Socket::is_at_rest)
    }

    /// Brings it to where nothing is under way on its thread's ring, called there: it may go on on any thread then. `false` when something has come, or waits to
    /// be sent. Sockets that are on no ring are always there.
    pub fn come_to_rest(&self) -> bool {
        self.socket().is_none_or(Socket::come_to_rest)
    }
}

impl Stream {
    /// A handle that can end this stream from outside. Costs a file descriptor.
    ///
    /// # Errors
    /// Those of dup(2).
    pub fn severer(&self) -> io::Result<Severer> {
        self.socket().ok_or(io::ErrorKind::NotConnected)?.severer()
    }
}

impl From<TcpStream> for Stream {
    fn from(s: TcpStream) -> Stream {
        Stream::Plain(Socket::Tcp(s))
    }
}

impl From<Socket> for Stream {
    fn from(s: Socket) -> Stream {
        Stream::Plain(s)
    }
}

impl From<UnixStream> for Stream {
    fn from(s: UnixStream) -> Stream {
        Stream::Plain(Socket::Unix(s))
    }
}

macro_rules! each_or {
    ($self:expr, $s:ident => $call:expr, $gone:expr) => {
        match $self.get_mut() {
            Stream::Plain($s) => $call,
            Stream::Tls($s) => $call,
            Stream::Packed($s) => $call,
            Stream::Gone => $gone,
        }
    };
}

/// Reads what has come in TLS, and asks for no more than that. As tokio-rustls reads, until nothing is there any more, it leaves a receive under way: on a ring
/// that must be taken back before the connection goes to its pool, which costs two system calls a statement.
fn read_tls(tls: &mut TlsStream<Socket>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    let mut read = ready!(Pin::new(&mut *tls).poll_fill_buf(cx));
    loop {
        let chunk = read?;
        let len = chunk.len().min(buf.remaining());
        buf.put_slice(chunk.get(..len).unwrap_or_default());
        Pin::new(&mut *tls).consume(len);
        // As long as it wants none, it has more that has been decrypted.
        if len == 0 || buf.remaining() == 0 || tls.get_ref().1.wants_read() {
            return Poll::Ready(Ok(()));
        }
        read = match Pin::new(&mut *tls).poll_fill_buf(cx) {
            Poll::Ready(Ok(chunk)) => Ok(chunk),
            // Told of by the next read.
            Poll::Ready(Err(_)) | Poll::Pending => return Poll::Ready(Ok(())),
        };
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = match self.get_mut() {
            Stream::Plain(s) => return Pin::new(s).poll_read(cx, buf),
            Stream::Tls(s) => read_tls(s, cx, buf),
            Stream::Packed(s) => Pin::new(s).poll_read(cx, buf),
            Stream::Gone => Poll::Ready(Ok(())),
        };
        match read {
            // rustls explains at length that the peer said no good-bye. Servers that die say none, and clients are told of it.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()))
            }
            read => read,
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each_or!(self, s => Pin::new(s).poll_write(cx, buf), Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())))
    }
    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        each_or!(self, s => Pin::new(s).poll_write_vectored(cx, bufs), Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())))
    }
    fn is_write_vectored(&self) -> bool {
        matches!(self, Stream::Plain(_))
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_or!(self, s => Pin::new(s).poll_flush(cx), Poll::Ready(Ok(())))
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_or!(self, s => Pin::new(s).poll_shutdown(cx), Poll::Ready(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_not_waited_for() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut ours = Stream::from(ours);
        let sent = ours.send_all_unless_stalled(&vec![1; 10_000_000], || LIMIT).await;
        assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(theirs);
    }

    #[tokio::test]
    async fn a_peer_that_reads_slowly_is_waited_for() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut ours = Stream::from(ours);
        let read = tokio::spawn(async move {
            let (mut all, mut piece) = (0, vec![0; 200_000]);
            while let Ok(n @ 1..) = theirs.read(&mut piece).await {
                all += n;
                tokio::time::sleep(LIMIT / 20).await;
            }
            all
        });
        let started = std::time::Instant::now();
        ours.send_all_unless_stalled(&vec![1; 10_000_000], || LIMIT).await.unwrap();
        assert!(started.elapsed() > LIMIT, "it took longer than a peer may stand still");
        drop(ours);
        assert_eq!(read.await.unwrap(), 10_000_000);
    }
}
