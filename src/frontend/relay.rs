//! One reply from a server to a client: bytes go through as they were read, and only the short packets that end a result
//! are looked at. For a client without `DEPRECATE_EOF` the EOF packets that it expects are put in, and packets numbered anew where they stand.
//!
//! The last piece of a reply is not written here but handed back as [`Pending`], so that the caller can give the server's
//! connection back to the pool before it waits for the client.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;

use crate::backend::connection::Connection;
use crate::frontend::capture::Capture;
use crate::frontend::told::Told;
use crate::net::{Buffer, Stream, Watch, timer};
use crate::protocol::Capabilities;
use crate::protocol::frame::{HEADER_LEN, MAX_PAYLOAD, put_packet};
use crate::protocol::ok_err_eof::{EOF_HEADER, EofPacket, ErrPacket, OkPacket, Status, rewrite_ok};
use crate::protocol::prepared::PrepareOk;
use crate::protocol::reply::old_eof::{self, EOF_PACKET_LEN};
use crate::protocol::reply::{Event, Expect, PacketKind, ReplyTracker};
use crate::protocol::session_track;
use crate::session::state::State;
use crate::topology::Flavor;

/// A read this full makes the next one larger: a long result then costs fewer system calls.
const LONG_REPLY_BUFFER: usize = 128 * 1024;

/// How relaying ended.
#[derive(Debug)]
pub enum End {
    /// The whole reply was read; the last piece of it is still to be written.
    Done {
        /// Bytes of this reply went to the client already.
        forwarded: bool,
    },
    /// The server's connection broke, or what it sent is no reply.
    Server {
        /// What happened.
        error: io::Error,
        /// Bytes of this reply went to the client already.
        forwarded: bool,
    },
    /// The client went away.
    Client(io::Error),
}

/// The piece of a reply that the caller writes.
#[derive(Debug, Default)]
pub struct Pending {
    /// Rewritten bytes; if empty, the first `from_buffer` bytes of the buffer are the piece.
    pub out: Vec<u8>,
    /// See `out`.
    pub from_buffer: usize,
}

impl Pending {
    /// The piece's bytes.
    pub fn piece<'p>(&'p self, buffer: &'p Buffer) -> &'p [u8] {
        if self.out.is_empty() { buffer.filled().get(..self.from_buffer).unwrap_or(&[]) } else { &self.out }
    }
}

/// One relay.
pub struct Relay<'a> {
    /// The server's side.
    pub server: &'a mut Connection,
    /// The client's side.
    pub client: &'a mut Stream,
    /// What the client negotiated.
    pub client_capabilities: Capabilities,
    /// What the client has asked for of what the server tells Sluice, with `session_track_...`.
    pub hears: session_track::Hears,
    /// Walks the reply.
    pub tracker: ReplyTracker,
    /// Put into a PREPARE's OK instead of the server's number.
    pub statement_id: u32,
    /// The session's flags, as far as they are known before the reply tells.
    pub status: Status,
    /// Statements of the text, each with a result of its own; `usize::MAX` where a procedure is called, whose results are always followed by an OK.
    pub statements: usize,
    /// Takes along what goes to the client, but for the last piece.
    pub capture: Option<&'a mut Capture>,
    /// The session, which says how long a client is waited for that stands still.
    pub state: &'a State,
    /// The number of the packet that asked for a file.
    pub asked_with: u8,
    /// What the client said behind a file that it was asked for.
    pub behind: Vec<u8>,
}

/// How long a client that stands still is waited for before it counts as gone: as long as its server would wait, by what the session has set or the
/// server's configuration.
pub(super) fn patience(state: &State, variable: &str, default: Duration) -> Duration {
    let set = state.system(variable).and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok());
    set.map_or(default, Duration::from_secs)
}

/// A tracker for the reply to what a client sent on this connection. `cursor`: it asked for one. `out_params`: it calls a procedure. `next_seq`: the number of the reply's first
/// packet, where the server may count other packets than the client.
pub(super) fn tracker(
    expect: Expect,
    server: &Connection,
    client: Capabilities,
    (cursor, out_params): (bool, bool),
    next_seq: Option<u8>,
) -> ReplyTracker {
    let tracker = ReplyTracker::new(expect, server.capabilities).toward(client, cursor, out_params);
    match (server.stream.is_compressed(), next_seq) {
        (true, next) => tracker.numbered_from(next.unwrap_or(1)).unnumbered(),
        (false, Some(next)) => tracker.numbered_from(next),
        (false, None) => tracker,
    }
}

impl Relay<'_> {
    /// Reads the reply to its end and forwards all but its last piece.
    pub async fn run(&mut self, buffer: &mut Buffer, told: &mut Told, pending: &mut Pending) -> End {
        let mut forwarded = false;
        let mut watch = Watch::default();
        loop {
            // At first nothing has come yet, most likely.
            let ready = match buffer.is_empty() && !self.tracker.is_done() {
                true => Ready::default(),
                false => match self.process(buffer, told, pending) {
                    Ok(ready) => ready,
                    Err(error) => return End::Server { error, forwarded },
                },
            };
            if ready.done {
                told.rows = self.tracker.rows();
                return End::Done { forwarded };
            }
            if pending.from_buffer > 0 || !pending.out.is_empty() {
                if let Some(capture) = &mut self.capture {
                    capture.push(pending.piece(buffer));
                }
                if let Err(error) = write_pending(self.client, (self.state, self.server.net_timeouts.0), buffer, pending).await {
                    return End::Client(error);
                }
                forwarded = true;
            }
            if ready.local_infile {
                match self.local_infile().await {
                    Ok(()) => continue,
                    Err(end) => return end,
                }
            }
            let room_was_full = buffer.len() == buffer.capacity();
            if room_was_full && buffer.capacity() < LONG_REPLY_BUFFER {
                buffer.reserve(LONG_REPLY_BUFFER);
            }
            match poll_fn(|cx| self.poll_fill(buffer, &mut watch, cx)).await {
                Ok(0) => return End::Server { error: io::ErrorKind::UnexpectedEof.into(), forwarded },
                Ok(n) => {
                    told.bytes += n as u64;
                    if n >= crate::net::buffer::STANDARD_LEN && buffer.capacity() < LONG_REPLY_BUFFER {
                        buffer.reserve(LONG_REPLY_BUFFER);
                    }
                }
                Err(Gone::Server(error)) => return End::Server { error, forwarded },
                Err(Gone::Client) => return End::Client(io::ErrorKind::ConnectionReset.into()),
            }
        }
    }

    /// Waits for the server, and meanwhile notices when the client leaves.
    fn poll_fill(&mut self, buffer: &mut Buffer, watch: &mut Watch, cx: &mut Context<'_>) -> Poll<Result<usize, Gone>> {
        if let Poll::Ready(read) = buffer.poll_fill(&mut self.server.stream, cx) {
            return Poll::Ready(read.map_err(Gone::Server));
        }
        self.client.poll_closed(watch, cx).map(|()| Err(Gone::Client))
    }

    /// Walks what is in the buffer, looks at control packets, and says what of it may be written.
    fn process(&mut self, buffer: &mut Buffer, told: &mut Told, pending: &mut Pending) -> io::Result<Ready> {
        let rewrite =
            self.server.capabilities.has(Capabilities::SESSION_TRACK) != self.client_capabilities.has(Capabilities::SESSION_TRACK);
        let old = self.tracker.is_for_old_client();
        let mut at = 0;
        let mut copied = 0;
        // Where an EOF stands that is right but for its flags, which the end of the rows tells.
        let mut unflagged = None;
        let mut ready = Ready::default();
        loop {
            let walk = self.tracker.walk(buffer.filled_mut().get_mut(at..).unwrap_or_default()).map_err(invalid)?;
            if let Some(sum) = &mut told.sum {
                sum.rows(buffer.filled().get(at..at + walk.pass).unwrap_or(&[]));
            }
            at += walk.pass;
            let (kind, mut len, done) = match walk.event {
                Event::Packet { kind, len, done } => (kind, len, done),
                Event::EofDue { seq, done } => {
                    // What comes before in the same reply may have told more; behind a procedure's results there is always an OK.
                    let mut status = told.status.map_or(self.status, Status::of_session);
                    if told.results.saturating_add(1) < self.statements {
                        status = status | Status::MORE_RESULTS;
                    }
                    buffer.replace(at, 0, &old_eof::eof_packet(seq, 0, status));
                    unflagged = Some((at, seq));
                    at += EOF_PACKET_LEN;
                    if done {
                        ready.done = true;
                        break;
                    }
                    continue;
                }
                Event::NeedMore => {
                    ready.done = self.tracker.is_done();
                    break;
                }
            };
            let packet = buffer.filled().get(at..at + len).unwrap_or(&[]);
            let payload = packet.get(HEADER_LEN..).unwrap_or(&[]);
            match kind {
                PacketKind::Ok => {
                    let ok =
                        OkPacket::parse(payload, self.server.capabilities).ok_or_else(|| invalid("an unreadable OK packet"))?;
                    told.note_ok(&ok);
                    told.results += 1;
                    told.ends_rows = payload.first() == Some(&EOF_HEADER);
                    told.last_len = len;
                    let seq = packet.get(3).copied().unwrap_or(1);
                    // What Sluice has the server tell is for Sluice.
                    let less = if rewrite { None } else { session_track::heard(ok.session_state, self.hears) };
                    if old && told.ends_rows {
                        let before = unflagged.take().map(|(place, seq)| (place, old_eof::before_rows(seq, &ok)));
                        // Behind a row that was too long to be waited for nothing but this tells of the OK to come.
                        let told_before = self.server.flavor == Flavor::MySql && before.is_some();
                        let end = old_eof::at_end(seq, &ok, told_before);
                        buffer.replace(at, len, &end);
                        if let Some((place, eof)) = before {
                            buffer.replace(place, EOF_PACKET_LEN, &eof);
                        }
                        (len, told.last_len) = (EOF_PACKET_LEN, EOF_PACKET_LEN);
                    } else if rewrite || less.is_some() {
                        let mut short = BytesMut::with_capacity(64);
                        match &less {
                            Some(less) => OkPacket { session_state: less, ..ok }.write(
                                &mut short,
                                self.client_capabilities,
                                payload.first().copied().unwrap_or_default(),
                            ),
                            None => _ = rewrite_ok(payload, self.server.capabilities, self.client_capabilities, &mut short),
                        }
                        pending.out.extend_from_slice(buffer.filled().get(copied..at).unwrap_or(&[]));
                        let mut framed = BytesMut::with_capacity(short.len() + HEADER_LEN);
                        put_packet(&mut framed, seq, &short);
                        pending.out.extend_from_slice(&framed);
                        told.last_len = framed.len();
                        copied = at + len;
                    }
                }
                PacketKind::Err => {
                    let error = ErrPacket::parse(payload);
                    let errno = error.as_ref().map_or(0, |e| e.errno);
                    (told.errno, told.sqlstate) = (Some(errno), error.and_then(|e| e.sqlstate));
                    if let Some(sum) = &mut told.sum {
                        sum.error(errno);
                    }
                }
                PacketKind::Eof => {
                    if let Some(eof) = EofPacket::parse(payload) {
                        told.status = Some(eof.status);
                        told.warnings = eof.warnings;
                        (told.ends_rows, told.last_len) = (true, len);
                    }
                }
                PacketKind::PrepareOk => {
                    told.prepared =
                        Some(PrepareOk::parse(payload).ok_or_else(|| invalid("an unreadable answer to COM_STMT_PREPARE"))?);
                    let id = self.statement_id.to_le_bytes();
                    if let Some(place) = buffer.filled_mut().get_mut(at + HEADER_LEN + 1..at + HEADER_LEN + 5) {
                        place.copy_from_slice(&id);
                    }
                }
                PacketKind::LocalInfile => {
                    (ready.local_infile, self.asked_with) = (true, packet.get(3).copied().unwrap_or(1));
                }
                PacketKind::Progress => {}
            }
            at += len;
            if done {
                ready.done = true;
                break;
            }
            if ready.local_infile {
                break;
            }
        }
        if pending.out.is_empty() {
            pending.from_buffer = at;
        } else {
            pending.out.extend_from_slice(buffer.filled().get(copied..at).unwrap_or(&[]));
            pending.from_buffer = 0;
            buffer.consume(at);
        }
        Ok(ready)
    }

    /// `LOAD DATA LOCAL INFILE`: the client's file goes to the server, packet by packet, up to the empty one.
    async fn local_infile(&mut self) -> Result<(), End> {
        let mut buffer = Buffer::new();
        let mut left_in_packet = 0usize;
        // The longest packet goes on in the next one, which may be empty.
        let mut goes_on = false;
        // In compressed pieces clients number as they like.
        let other = self.client.is_compressed() || self.tracker.renumbers();
        let mut next = other.then(|| self.tracker.file_seq(self.asked_with));
        let mut last = self.asked_with;
        loop {
            // Whole headers are looked at; what is between them passes as it is.
            let mut at = 0;
            let mut ended = false;
            loop {
                let filled = buffer.filled_mut();
                let step = left_in_packet.min(filled.len() - at);
                at += step;
                left_in_packet -= step;
                if left_in_packet > 0 {
                    break;
                }
                let Some(header) = filled.get_mut(at..at + HEADER_LEN) else { break };
                if let Some(next) = &mut next {
                    header[HEADER_LEN - 1] = *next;
                    *next = next.wrapping_add(1);
                }
                last = last.wrapping_add(1);
                let len = usize::from(header[0]) | usize::from(header[1]) << 8 | usize::from(header[2]) << 16;
                at += HEADER_LEN;
                left_in_packet = len;
                if len == 0 && !goes_on {
                    ended = true;
                    break;
                }
                goes_on = len == MAX_PAYLOAD;
            }
            if at > 0 {
                let bytes = buffer.filled().get(..at).unwrap_or(&[]);
                if let Err(error) = self.server.stream.send_all(bytes).await {
                    return Err(End::Server { error, forwarded: true });
                }
                buffer.consume(at);
            }
            if ended {
                self.tracker.behind_file(last);
                self.behind = buffer.filled().to_vec();
                return Ok(());
            }
            match timer::timeout(patience(self.state, "net_read_timeout", self.server.net_timeouts.1), buffer.fill(self.client))
                .await
            {
                Ok(Ok(0)) => return Err(End::Client(io::ErrorKind::UnexpectedEof.into())),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(End::Client(error)),
                Err(_) => return Err(End::Client(io::ErrorKind::TimedOut.into())),
            }
        }
    }
}

#[derive(Default)]
struct Ready {
    done: bool,
    local_infile: bool,
}

enum Gone {
    Server(io::Error),
    Client,
}

fn invalid(e: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, e.to_string())
}

/// Writes of the piece what the client takes at once, and takes that out. Whether it was all: the rest is for [`write_pending`].
///
/// # Errors
/// The client's.
pub fn write_at_once(client: &Stream, buffer: &mut Buffer, pending: &mut Pending) -> io::Result<bool> {
    let piece = pending.piece(buffer);
    let rest = client.send_first(piece)?;
    let sent = piece.len() - rest.map_or(0, <[u8]>::len);
    let all = rest.is_none();
    if pending.out.is_empty() {
        buffer.consume(sent);
        pending.from_buffer -= sent;
    } else {
        pending.out.drain(..sent);
    }
    Ok(all)
}

/// Writes the piece and takes it out of the buffer.
///
/// # Errors
/// The client's.
pub async fn write_pending(
    client: &mut Stream,
    (state, configured): (&State, Duration),
    buffer: &mut Buffer,
    pending: &mut Pending,
) -> io::Result<()> {
    let limit = || patience(state, "net_write_timeout", configured);
    if pending.out.is_empty() {
        let bytes = buffer.filled().get(..pending.from_buffer).unwrap_or(&[]);
        client.send_all_unless_stalled(bytes, limit).await?;
        buffer.consume(pending.from_buffer);
        pending.from_buffer = 0;
    } else {
        client.send_all_unless_stalled(&pending.out, limit).await?;
        pending.out.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;

    use super::*;

    /// A peer that takes a part at first gets the rest behind it, and nothing twice.
    #[tokio::test]
    async fn what_is_not_taken_at_once_is_written_behind_it() {
        let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n / 7) as u8).collect();
        for (rewritten, len) in [(false, 100), (true, 100), (false, bytes.len()), (true, bytes.len())] {
            let piece = &bytes[..len];
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let mut ours = Stream::from(ours);
            let (mut buffer, mut pending) = (Buffer::new(), Pending::default());
            match rewritten {
                true => pending.out = piece.to_vec(),
                false => {
                    // Behind the piece stands what is not to be written yet.
                    buffer.extend(piece);
                    buffer.extend(b"more");
                    pending.from_buffer = len;
                }
            }
            let all = write_at_once(&ours, &mut buffer, &mut pending).unwrap();
            assert_eq!(all, len == 100);
            let reader = tokio::spawn(async move {
                let mut read = Vec::new();
                theirs.read_to_end(&mut read).await.unwrap();
                read
            });
            if !all {
                let state = State::at_login(None, None);
                let session = (&state, Duration::from_secs(20));
                write_pending(&mut ours, session, &mut buffer, &mut pending).await.unwrap();
            }
            drop(ours);
            assert!(reader.await.unwrap() == piece, "rewritten {rewritten}, {len} bytes");
            assert_eq!(buffer.filled(), if rewritten { &b""[..] } else { b"more" });
            assert!(pending.out.is_empty() && pending.from_buffer == 0);
        }
    }
}
