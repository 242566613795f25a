//! Single packets, for logins and for Sluice's own small queries. What clients and servers say to each other afterwards
//! is relayed elsewhere, without being taken apart like this.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Why a packet could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// The stream broke or ended.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Longer than the reader's limit.
    #[error("a packet of {len} bytes, {limit} are allowed here")]
    TooLong {
        /// What the header says, in bytes.
        len: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The header's sequence number is not the next one.
    #[error("packet number {got} came where {expected} belongs")]
    OutOfOrder {
        /// The number in the header.
        got: u8,
        /// The number that was due.
        expected: u8,
    },
}

/// Reads one packet's payload, and nothing beyond it. `sequence` is the number the packet must have, and is then the
/// one of the next.
///
/// # Errors
/// See [`PacketError`]. A peer that closes between packets is [`io::ErrorKind::UnexpectedEof`].
pub async fn read_packet<S: AsyncRead + Unpin>(stream: &mut S, sequence: &mut u8, limit: usize) -> Result<Vec<u8>, PacketError> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await?;
    let [a, b, c, got] = header;
    let len = u32::from_le_bytes([a, b, c, 0]) as usize;
    if got != *sequence {
        return Err(PacketError::OutOfOrder { got, expected: *sequence });
    }
    *sequence = got.wrapping_add(1);
    if len > limit {
        return Err(PacketError::TooLong { len, limit });
    }
    let mut payload = vec![0; len];
    stream.read_exact(&mut payload).await?;
    Ok(payload)
}

/// Writes one packet. `sequence` is its number, and is then the one of the next.
///
/// # Errors
/// Those of the stream; [`io::ErrorKind::InvalidInput`] for a payload of 16 MiB or more.
pub async fn write_packet<S: AsyncWrite + Unpin>(stream: &mut S, sequence: &mut u8, payload: &[u8]) -> io::Result<()> {
    let mut out = zeroize::Zeroizing::new(Vec::with_capacity(payload.len() + 4));
    put_packet(&mut out, sequence, payload)?;
    stream.write_all(&out).await?;
    stream.flush().await
}

/// Appends a packet, header and payload, to a buffer.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] for a payload of 16 MiB or more.
pub fn put_packet(out: &mut Vec<u8>, sequence: &mut u8, payload: &[u8]) -> io::Result<()> {
    let len = u32::try_from(payload.len()).ok().filter(|n| *n < 0xFF_FFFF).ok_or(io::ErrorKind::InvalidInput)?;
    let [a, b, c, _] = len.to_le_bytes();
    out.extend_from_slice(&[a, b, c, *sequence]);
    out.extend_from_slice(payload);
    *sequence = sequence.wrapping_add(1);
    Ok(())
}
