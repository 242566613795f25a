//! Framing: three bytes of length, one of sequence, then the payload; payloads of 16 MiB - 1 and more are split.
//!
//! Not here: compression and TLS, which lie below, and what a payload means. Source: MySQL manual, "MySQL Packets".

use std::borrow::Cow;

use bytes::BytesMut;
use thiserror::Error;

/// Bytes of a packet header.
pub const HEADER_LEN: usize = 4;

/// The longest payload of one physical packet; one exactly that long is continued by the next packet.
pub const MAX_PAYLOAD: usize = 0xFF_FFFF;

/// What a header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Bytes of payload that follow, at most [`MAX_PAYLOAD`].
    pub len: u32,
    /// Position of this packet in its exchange, counting modulo 256.
    pub seq: u8,
}

impl Header {
    /// The header at the start of `buf`, or `None` while it is not complete.
    pub fn parse(buf: &[u8]) -> Option<Header> {
        let [a, b, c, seq] = *buf.first_chunk::<HEADER_LEN>()?;
        Some(Header { len: u32::from_le_bytes([a, b, c, 0]), seq })
    }

    /// The header's bytes; a `len` beyond [`MAX_PAYLOAD`] loses its upper byte.
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let [a, b, c, _] = self.len.to_le_bytes();
        [a, b, c, self.seq]
    }

    /// Appends the header to `out`.
    pub fn write(self, out: &mut BytesMut) {
        out.extend_from_slice(&self.to_bytes());
    }

    /// Whether the payload goes on in the next physical packet.
    pub fn continues(self) -> bool {
        self.len as usize == MAX_PAYLOAD
    }

    /// Bytes of the physical packet, header included.
    pub fn packet_len(self) -> usize {
        HEADER_LEN + self.len as usize
    }
}

/// Why bytes cannot be framed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FrameError {
    /// A packet came out of its turn: bytes were lost, or the peers disagree on where an exchange began.
    #[error("packets out of order: expected sequence {expected}, got {got}")]
    Sequence {
        /// The sequence number whose turn it was.
        expected: u8,
        /// The one in the header.
        got: u8,
    },
    /// The payload, over all its physical packets, is longer than what the reader accepts.
    #[error("packet of at least {len} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// Payload bytes known of so far.
        len: usize,
        /// The reader's limit.
        limit: usize,
    },
}

/// Compares a sequence number with the one whose turn it is.
pub fn check_seq(expected: u8, got: u8) -> Result<(), FrameError> {
    if expected == got { Ok(()) } else { Err(FrameError::Sequence { expected, got }) }
}

/// A whole packet found in a buffer by [`next_packet`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet<'a> {
    /// Sequence number of its first physical packet.
    pub seq: u8,
    /// The number the answer to it begins with.
    pub next_seq: u8,
    /// Its payload; borrowed unless it came in several physical packets.
    pub payload: Cow<'a, [u8]>,
    /// Bytes it takes in the buffer, headers included.
    pub wire_len: usize,
}

/// The packet at the start of `buf`, or `None` while bytes of it are missing.
///
/// `limit` bounds the payload in bytes (`max_allowed_packet`); a header that announces more fails at once, before the bytes arrive.
/// Physical packets of one payload must be numbered in a row. A payload of several physical packets is copied, any other borrowed.
pub fn next_packet(buf: &[u8], limit: usize) -> Result<Option<Packet<'_>>, FrameError> {
    let Some(first) = Header::parse(buf) else { return Ok(None) };
    let (mut header, mut at, mut len) = (first, 0usize, 0usize);
    loop {
        len += header.len as usize;
        if len > limit {
            return Err(FrameError::TooLarge { len, limit });
        }
        at += header.packet_len();
        if at > buf.len() {
            return Ok(None);
        }
        if !header.continues() {
            break;
        }
        let Some(next) = buf.get(at..).and_then(Header::parse) else { return Ok(None) };
        check_seq(header.seq.wrapping_add(1), next.seq)?;
        header = next;
    }
    let wire = buf.get(..at).unwrap_or_default();
    let payload = if first.continues() {
        let mut whole = Vec::with_capacity(len);
        for physical in wire.chunks(HEADER_LEN + MAX_PAYLOAD) {
            whole.extend_from_slice(physical.get(HEADER_LEN..).unwrap_or_default());
        }
        Cow::Owned(whole)
    } else {
        Cow::Borrowed(wire.get(HEADER_LEN..).unwrap_or_default())
    };
    Ok(Some(Packet { seq: first.seq, next_seq: header.seq.wrapping_add(1), payload, wire_len: at }))
}

/// Appends `payload` as one packet, split where it must be, and returns the next sequence number.
///
/// A payload that is a multiple of [`MAX_PAYLOAD`] is followed by an empty packet, which ends it.
pub fn put_packet(out: &mut BytesMut, seq: u8, payload: &[u8]) -> u8 {
    out.reserve(payload.len() + (payload.len() / MAX_PAYLOAD + 1) * HEADER_LEN);
    let (mut rest, mut seq) = (payload, seq);
    loop {
        let (now, later) = rest.split_at(rest.len().min(MAX_PAYLOAD));
        Header { len: now.len() as u32, seq }.write(out);
        out.extend_from_slice(now);
        seq = seq.wrapping_add(1);
        rest = later;
        if now.len() < MAX_PAYLOAD {
            return seq;
        }
    }
}

/// Appends a packet whose payload `write` appends; saves the copy that [`put_packet`] makes when the payload is short.
pub fn put_packet_with(out: &mut BytesMut, seq: u8, write: impl FnOnce(&mut BytesMut)) -> u8 {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_LEN]);
    write(out);
    let len = out.len().saturating_sub(start + HEADER_LEN);
    if len >= MAX_PAYLOAD {
        let long = out.split_off(start);
        return put_packet(out, seq, long.get(HEADER_LEN..).unwrap_or_default());
    }
    if let Some(header) = out.get_mut(start..start + HEADER_LEN) {
        header.copy_from_slice(&Header { len: len as u32, seq }.to_bytes());
    }
    seq.wrapping_add(1)
}

#[cfg(test)]
mod tests;
