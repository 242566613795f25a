//! A long command on its way from the client to a server: piece by piece, never whole in memory.
//!
//! Its beginning is read first, and decides; then the rest follows as fast as the server takes it. A server that answers before it
//! has all of it (it is longer than its `max_allowed_packet`) is not sent the rest; the client is heard out and given that answer.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWrite;

use crate::net::{Buffer, Stream, timer};
use crate::protocol::command::Com;
use crate::protocol::frame::{HEADER_LEN, Header, MAX_PAYLOAD};
use crate::sql::long::Tail;

/// Commands longer than this are not kept whole: their packet's header told so before they came. Shorter ones are judged by all of
/// their text, and read no slower.
pub const STREAMED_FROM: usize = 1024 * 1024;
/// How much of a long command is kept to decide by. Types of 65,535 parameters and their NULLs fit.
pub const BEGINNING_MAX: usize = 256 * 1024;
/// How long a client may say nothing in the middle of a command that is not wanted: a server's default `net_read_timeout`.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How long what a server said before it closed is waited for.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether the command with this byte can be sent on piece by piece.
pub fn is_streamed(code: u8) -> bool {
    matches!(Com::from_byte(code), Some(Com::Query | Com::StmtExecute | Com::StmtBulkExecute | Com::StmtSendLongData))
}

/// A command that is being sent.
#[derive(Debug)]
pub struct Upload {
    /// Bytes of the client's that were read and not passed on.
    pub input: Buffer,
    /// The first bytes of the payload, at most [`BEGINNING_MAX`].
    pub beginning: Vec<u8>,
    /// Watches the text that passes.
    pub tail: Option<Tail>,
    /// Payload bytes of the client's current packet that were not taken from `input` yet.
    left: usize,
    /// Another packet of the client's follows that one.
    continued: bool,
    /// Its number.
    next_seq: u8,
}

/// How sending ended.
#[derive(Debug)]
pub enum Sent {
    /// The server has all of it.
    Whole,
    /// The server has answered before it had all of it; the answer is in the buffer.
    Answered,
    /// The server's connection broke.
    Server(io::Error),
}

/// The client went away, or its packets are out of order.
#[derive(Debug)]
pub struct ClientGone;

impl From<io::Error> for ClientGone {
    fn from(_: io::Error) -> ClientGone {
        ClientGone
    }
}

impl Upload {
    /// Reads a command's beginning. `input` begins with the header of its first packet.
    pub async fn begin(input: Buffer, client: &mut Stream) -> Result<Upload, ClientGone> {
        let mut upload = Upload { input, beginning: Vec::new(), tail: None, left: 0, continued: true, next_seq: 0 };
        while upload.beginning.len() < BEGINNING_MAX && upload.more(client).await? {
            let step = upload.left.min(upload.input.len()).min(BEGINNING_MAX - upload.beginning.len());
            upload.beginning.extend_from_slice(upload.input.filled().get(..step).unwrap_or(&[]));
            upload.take(step);
        }
        Ok(upload)
    }

    /// The number behind that of the client's last packet that was begun.
    pub fn next_seq(&self) -> u8 {
        self.next_seq
    }

    fn take(&mut self, n: usize) {
        self.input.consume(n);
        self.left -= n;
    }

    /// Goes on to the next packet where one has ended. `false`: that was the last.
    async fn next_packet(&mut self, client: &mut Stream) -> Result<bool, ClientGone> {
        while self.left == 0 {
            if !self.continued {
                return Ok(false);
            }
            let header = loop {
                if let Some(header) = Header::parse(self.input.filled()) {
                    break header;
                }
                if self.input.fill(client).await? == 0 {
                    return Err(ClientGone);
                }
            };
            // Servers do not look at the numbers in compressed pieces.
            if header.seq != self.next_seq && !client.is_compressed() {
                return Err(ClientGone);
            }
            self.next_seq = self.next_seq.wrapping_add(1);
            self.input.consume(HEADER_LEN);
            (self.left, self.continued) = (header.len as usize, header.continues());
        }
        Ok(true)
    }

    /// Waits until there is a byte of the payload to take. `false`: there is none any more.
    async fn more(&mut self, client: &mut Stream) -> Result<bool, ClientGone> {
        if !self.next_packet(client).await? {
            return Ok(false);
        }
        if self.input.is_empty() && self.input.fill(client).await? == 0 {
            return Err(ClientGone);
        }
        Ok(true)
    }

    /// Takes what is left of the command and forgets it, so that the client's next one can be read. A client that falls silent in the
    /// middle is gone.
    pub async fn drain(&mut self, client: &mut Stream) -> Result<(), ClientGone> {
        while timer::timeout(SILENCE_MAX, self.more(client)).await.map_err(|_| ClientGone)?? {
            self.take(self.left.min(self.input.len()));
        }
        Ok(())
    }

    /// Sends `head` in place of the beginning, and then the rest. `reply` takes what the server says meanwhile.
    ///
    /// The packets are cut anew, because `head` may be longer than the beginning was.
    pub async fn send(
        &mut self,
        head: Vec<u8>,
        client: &mut Stream,
        server: &mut Stream,
        reply: &mut Buffer,
    ) -> Result<Sent, ClientGone> {
        let (mut pending, mut seq) = (head, 0u8);
        loop {
            // Of a packet that is continued the length is known only with the next header; what stands before that is kept.
            while self.continued && pending.len() + self.left < MAX_PAYLOAD {
                while self.left > 0 {
                    self.more(client).await?;
                    let step = self.left.min(self.input.len());
                    pending.extend_from_slice(self.input.filled().get(..step).unwrap_or(&[]));
                    self.watch(step);
                    self.take(step);
                }
                self.next_packet(client).await?;
            }
            let len = (pending.len() + self.left).min(MAX_PAYLOAD);
            let mut out = Header { len: len as u32, seq }.to_bytes().to_vec();
            let from_pending = len.min(pending.len());
            out.extend_from_slice(pending.get(..from_pending).unwrap_or(&[]));
            pending.drain(..from_pending);
            let first = seq == 0;
            seq = seq.wrapping_add(1);
            if first {
                server.begin_command();
            }
            if let Some(ended) = write(&out, server, reply).await {
                return Ok(ended);
            }
            let mut packet_left = len - from_pending;
            while packet_left > 0 {
                if self.input.is_empty() {
                    match self.fill(client, server, reply).await? {
                        None => {}
                        Some(ended) => return Ok(ended),
                    }
                }
                let step = packet_left.min(self.input.len());
                self.watch(step);
                let piece = self.input.filled().get(..step).unwrap_or(&[]);
                if let Some(ended) = write(piece, server, reply).await {
                    return Ok(ended);
                }
                self.take(step);
                packet_left -= step;
            }
            if len < MAX_PAYLOAD {
                return Ok(Sent::Whole);
            }
        }
    }

    fn watch(&mut self, step: usize) {
        if let Some(tail) = &mut self.tail {
            tail.watch(self.input.filled().get(..step).unwrap_or(&[]));
        }
    }

    /// Reads from the client, and meanwhile hears what the server says.
    async fn fill(&mut self, client: &mut Stream, server: &mut Stream, reply: &mut Buffer) -> Result<Option<Sent>, ClientGone> {
        poll_fn(|cx| {
            match self.input.poll_fill(client, cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(ClientGone)),
                Poll::Ready(Ok(_)) => return Poll::Ready(Ok(None)),
                Poll::Pending => {}
            }
            heard(server, reply, cx).map(|sent| Ok(Some(sent)))
        })
        .await
    }
}

/// What the server says before it has all.
fn heard(server: &mut Stream, reply: &mut Buffer, cx: &mut Context<'_>) -> Poll<Sent> {
    match reply.poll_fill(server, cx) {
        Poll::Ready(Ok(0)) => Poll::Ready(Sent::Server(io::ErrorKind::UnexpectedEof.into())),
        Poll::Ready(Ok(_)) => Poll::Ready(Sent::Answered),
        Poll::Ready(Err(error)) => Poll::Ready(Sent::Server(error)),
        Poll::Pending => Poll::Pending,
    }
}

/// Writes all of `bytes`; `None`: done.
async fn write(mut bytes: &[u8], server: &mut Stream, reply: &mut Buffer) -> Option<Sent> {
    let ended = poll_fn(|cx| {
        loop {
            if let Poll::Ready(sent) = heard(server, reply, cx) {
                return Poll::Ready(Some(sent));
            }
            if bytes.is_empty() {
                return match Pin::new(&mut *server).poll_flush(cx) {
                    Poll::Ready(Ok(())) => Poll::Ready(None),
                    Poll::Ready(Err(error)) => Poll::Ready(Some(Sent::Server(error))),
                    Poll::Pending => Poll::Pending,
                };
            }
            match Pin::new(&mut *server).poll_write(cx, bytes) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Some(Sent::Server(io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(n)) => bytes = bytes.get(n..).unwrap_or(&[]),
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Sent::Server(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
    let Some(Sent::Server(error)) = ended else { return ended };
    // A server that has closed may have said why, and what it said may show a moment later than that it has closed.
    match timer::timeout(LAST_WORDS_TIMEOUT, poll_fn(|cx| heard(server, reply, cx))).await {
        Ok(Sent::Answered) => Some(Sent::Answered),
        _ => Some(Sent::Server(error)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;
    use crate::protocol::frame::{next_packet, put_packet};

    fn payload(len: usize) -> Vec<u8> {
        (0..len as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    /// Sends a payload of `len` bytes, `more` bytes longer at the front.
    async fn through(len: usize, more: usize) {
        let (mut sender, client) = UnixStream::pair().unwrap();
        let (server, mut receiver) = UnixStream::pair().unwrap();
        let payload = payload(len);
        let mut wire = bytes::BytesMut::new();
        put_packet(&mut wire, 0, &payload);
        wire.extend_from_slice(b"next");
        tokio::spawn(async move { sender.write_all(&wire).await.map(|()| sender) });
        let received = tokio::spawn(async move {
            let mut all = Vec::new();
            receiver.read_to_end(&mut all).await.unwrap();
            all
        });
        let (mut client, mut server) = (Stream::from(client), Stream::from(server));
        let mut upload = Upload::begin(Buffer::new(), &mut client).await.unwrap();
        let head = [vec![b'+'; more], upload.beginning.clone()].concat();
        let sent = upload.send(head, &mut client, &mut server, &mut Buffer::new()).await.unwrap();
        assert!(matches!(sent, Sent::Whole), "{len} + {more}: {sent:?}");
        while upload.input.len() < 4 {
            upload.input.fill(&mut client).await.unwrap();
        }
        assert_eq!(upload.input.filled(), b"next", "and not a byte of the next command");
        drop(server);
        let all = received.await.unwrap();
        let packet = next_packet(&all, usize::MAX).unwrap().unwrap();
        assert_eq!((packet.seq, packet.wire_len), (0, all.len()));
        assert!(*packet.payload == [vec![b'+'; more], payload].concat(), "{len} + {more}");
    }

    #[tokio::test]
    async fn any_length_arrives_as_it_was_and_longer() {
        for len in
            [1, BEGINNING_MAX, 2_000_000, MAX_PAYLOAD - 1, MAX_PAYLOAD, MAX_PAYLOAD + 1, 2 * MAX_PAYLOAD, 2 * MAX_PAYLOAD + 7]
        {
            for more in [0, 1, 1000] {
                through(len, more).await;
            }
        }
    }

    #[tokio::test]
    async fn a_server_that_answers_early_is_heard_and_the_client_is_heard_out() {
        let (mut sender, client) = UnixStream::pair().unwrap();
        let (server, mut early) = UnixStream::pair().unwrap();
        let mut wire = bytes::BytesMut::new();
        put_packet(&mut wire, 0, &payload(20_000_000));
        tokio::spawn(async move { sender.write_all(&wire).await.map(|()| sender) });
        early.write_all(b"too long").await.unwrap();
        let (mut client, mut server) = (Stream::from(client), Stream::from(server));
        let mut upload = Upload::begin(Buffer::new(), &mut client).await.unwrap();
        let (head, mut reply) = (upload.beginning.clone(), Buffer::new());
        let sent = upload.send(head, &mut client, &mut server, &mut reply).await.unwrap();
        assert!(matches!(sent, Sent::Answered), "{sent:?}");
        assert_eq!(reply.filled(), b"too long");
        upload.drain(&mut client).await.unwrap();
        assert!(upload.input.is_empty());
    }
}
