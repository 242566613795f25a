//! A stream whose bytes are compressed: [`protocol::compress`](crate::protocol::compress) over a socket or TLS.
//!
//! Holds a read buffer only while bytes stand in it, at most one packed piece that could not be written yet, and what has come of a packet for a client, see
//! [`Assembly`].

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::buffer::Buffer;
use crate::net::stream::Stream;
use crate::protocol::compress::{Algorithm, Assembly, Numbering, Packer, Step, Unpacker};
use crate::protocol::frame::Header;

/// A write buffer larger than this is not kept while there is nothing to write.
const OUTPUT_KEPT: usize = 4 * 1024;

/// Who is at the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// A client: it sends commands, one at a time.
    Client,
    /// A server: it answers.
    Server,
}

/// See the module.
#[derive(Debug)]
pub struct Packed {
    inner: Stream,
    pub(super) algorithm: Algorithm,
    unpacker: Unpacker,
    packer: Packer,
    /// Cuts and numbers what a client is sent.
    numbering: Option<(Assembly, Numbering)>,
    /// Something was read since something was written: what is written next answers it.
    answers: bool,
    /// What was read and not unpacked yet.
    input: Option<Buffer>,
    /// What was packed and not written yet, from `sent` on.
    output: Vec<u8>,
    sent: usize,
}

impl Packed {
    pub(super) fn new(inner: Stream, algorithm: Algorithm, peer: Peer) -> Packed {
        Packed {
            inner,
            algorithm,
            unpacker: Unpacker::new(algorithm, peer == Peer::Client),
            packer: Packer::new(algorithm),
            numbering: (peer == Peer::Client).then(Default::default),
            answers: false,
            input: None,
            output: Vec::new(),
            sent: 0,
        }
    }

    /// The stream underneath.
    pub(super) fn inner(&self) -> &Stream {
        &self.inner
    }

    pub(super) fn inner_mut(&mut self) -> &mut Stream {
        &mut self.inner
    }

    /// Whether bytes have come that nobody has read yet.
    pub(super) fn has_bytes(&self) -> bool {
        self.input.is_some() || !self.unpacker.is_between()
    }

    /// What is written next begins a command: its pieces are numbered from 0.
    pub(super) fn begin_command(&mut self) {
        self.unpacker.sent_up_to(0);
    }

    /// Writes what is packed; at the end of it the buffer is empty.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.output.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.sent += n,
            }
        }
        self.sent = 0;
        self.output.clear();
        self.output.shrink_to(OUTPUT_KEPT);
        Poll::Ready(Ok(()))
    }
}

/// How many bytes of `commands` belong to its first command, whose further packets are numbered on from 0. The last command
/// may be incomplete.
pub(super) fn first_command(commands: &[u8]) -> usize {
    let mut at = 0;
    while let Some(header) = commands.get(at..).and_then(Header::parse)
        && (at == 0 || header.seq != 0)
    {
        at += header.packet_len();
    }
    at.clamp(commands.len().min(1), commands.len())
}

impl AsyncRead for Packed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let input = this.input.as_ref().map_or(&[][..], Buffer::filled);
            let step = match this.unpacker.unpack(input, buf.initialize_unfilled()) {
                Ok(step) => step,
                Err(error) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error))),
            };
            if let Some(input) = &mut this.input {
                input.consume(step.taken);
                if input.is_empty() {
                    this.input = None;
                }
            }
            if step.given > 0 {
                this.answers = true;
                buf.advance(step.given);
                return Poll::Ready(Ok(()));
            }
            if step != Step::default() || buf.remaining() == 0 {
                if buf.remaining() == 0 {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            let mut input = this.input.take().unwrap_or_default();
            match input.poll_fill(&mut this.inner, cx) {
                Poll::Ready(Ok(0)) if this.unpacker.is_between() && input.is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(Ok(_)) => this.input = Some(input),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    this.input = Some(input).filter(|input| !input.is_empty());
                    return Poll::Pending;
                }
            }
        }
    }
}

impl AsyncWrite for Packed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let seq = this.unpacker.next_seq();
        let taken = match &mut this.numbering {
            Some((assembly, numbering)) => {
                let mut cut = assembly.take(buf);
                if cut.piece.is_empty() {
                    return Poll::Ready(Ok(cut.taken));
                }
                numbering.pass(&mut cut.piece, seq, this.answers || cut.is_whole);
                this.answers = false;
                this.packer.pack_all(&cut.piece, seq, &mut this.output);
                cut.taken
            }
            None => this.packer.pack(buf, seq, &mut this.output),
        };
        this.unpacker.sent_up_to(seq.wrapping_add(1));
        // What does not go out now goes with the next write or flush.
        match this.poll_drain(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => {
                // While it waits, it has no more room than it needs: some was made for what it was before it was packed.
                this.output.shrink_to(OUTPUT_KEPT);
                Poll::Ready(Ok(taken))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;

    fn pair(algorithm: Algorithm) -> (Stream, Stream) {
        let (a, b) = UnixStream::pair().unwrap();
        (Stream::from(a).compressed(algorithm, Peer::Server), Stream::from(b).compressed(algorithm, Peer::Client))
    }

    #[tokio::test]
    async fn what_is_written_is_read() {
        for algorithm in [Algorithm::Zlib, Algorithm::Zstd { level: 3 }] {
            let (mut client, mut server) = pair(algorithm);
            let long: Vec<u8> = (0..2_000_000u32).map(|n| (n / 7) as u8).collect();
            let sent = long.clone();
            let send = tokio::spawn(async move {
                client.send_command(&sent).await.unwrap();
                client
            });
            let mut got = vec![0; long.len()];
            server.read_exact(&mut got).await.unwrap();
            assert!(got == long);
            let mut client = send.await.unwrap();
            server.send_all(b"\x06\0\0\x01answer").await.unwrap();
            let mut got = [0; 10];
            client.read_exact(&mut got).await.unwrap();
            assert_eq!(&got[4..], b"answer");
            drop(client);
            assert_eq!(server.read(&mut got).await.unwrap(), 0, "the end is the end");
        }
    }

    #[tokio::test]
    async fn a_piece_cut_off_is_an_error_and_bytes_that_wait_are_seen() {
        let (raw, b) = UnixStream::pair().unwrap();
        let mut raw = Stream::from(raw);
        let mut server = Stream::from(b).compressed(Algorithm::Zlib, Peer::Client);
        assert_eq!(server.idle(), crate::net::Idle::Quiet);
        raw.write_all(&[4, 0, 0, 0, 0, 0, 0, b'a', b'b']).await.unwrap();
        let mut got = [0; 1];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"a");
        assert_eq!(server.idle(), crate::net::Idle::Bytes, "b was read from the socket and waits");
        raw.shutdown().await.unwrap();
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(server.read(&mut got).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn commands_are_told_apart() {
        let two = [3, 0, 0, 0, 3, b'a', b'b', 1, 0, 0, 0, 14];
        let continued = [1, 0, 0, 0, b'a', 1, 0, 0, 1, b'b', 1, 0, 0, 0, 14];
        for (bytes, first) in [(&two[..], 7), (&two[7..], 5), (&two[..5], 5), (&continued[..], 10), (&[1][..], 1), (&[][..], 0)] {
            assert_eq!(first_command(bytes), first, "{bytes:?}");
        }
    }
}
