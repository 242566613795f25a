//! The compressed protocol: the byte stream of ordinary packets, cut into pieces that are packed each by itself.
//!
//! A piece has a header of seven bytes (packed length, number, plain length; a plain length of 0 means that it is not packed),
//! and begins and ends wherever its sender likes: packets run across pieces. A piece's number is 0 where a command begins, and
//! counts on through the exchange, whoever sends. Compression begins behind the OK of the login and lies inside TLS.
//!
//! Nothing here holds a whole piece: unpacking writes into the caller's buffer as bytes come, so a piece that swells to 16 MiB
//! costs no more memory than one of a few bytes.
//!
//! Sources: MySQL manual, "Compression", "Compressed Packet Header"; MariaDB knowledge base, "Compressed packet".

mod assembly;
mod numbering;
mod pack;
mod unpack;

#[cfg(test)]
mod tests;

use thiserror::Error;

use super::Capabilities;

pub use assembly::Assembly;
pub use numbering::Numbering;
pub use pack::{PIECE_MAX, Packer, ZLIB_LEVEL};
pub use unpack::{Step, Unpacker};

/// Bytes of a piece's header.
pub const PIECE_HEADER_LEN: usize = 7;

/// How pieces are packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// `CLIENT_COMPRESS`.
    Zlib,
    /// `CLIENT_ZSTD_COMPRESSION_ALGORITHM`, with the level at which we pack, see [`ZSTD_LEVELS`].
    Zstd {
        /// The level.
        level: u8,
    },
}

/// The levels a client may ask for, as at a MySQL server.
pub const ZSTD_LEVELS: std::ops::RangeInclusive<u8> = 1..=22;

/// The level where none is named, as in MySQL's clients.
pub const ZSTD_LEVEL_DEFAULT: u8 = 3;

impl Algorithm {
    /// What was agreed upon; zlib where both were, as at a server. `level` is that of the handshake response.
    pub fn agreed(capabilities: Capabilities, level: Option<u8>) -> Option<Algorithm> {
        if capabilities.has(Capabilities::COMPRESS) {
            return Some(Algorithm::Zlib);
        }
        let level = level.filter(|level| ZSTD_LEVELS.contains(level)).unwrap_or(ZSTD_LEVEL_DEFAULT);
        capabilities.has(Capabilities::ZSTD_COMPRESSION).then_some(Algorithm::Zstd { level })
    }
}

/// Why a piece cannot be unpacked. The stream is of no further use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CompressError {
    /// A piece out of its turn.
    #[error("compressed packets out of order: expected number {expected}, got {got}")]
    Sequence {
        /// The number whose turn it was.
        expected: u8,
        /// The one in the header.
        got: u8,
    },
    /// A piece of no bytes.
    #[error("an empty compressed packet")]
    Empty,
    /// What was packed is not as long as the header says.
    #[error("a compressed packet that does not unpack to the length it says")]
    Length,
    /// The packed bytes are damaged, or packed in another way.
    #[error("a damaged compressed packet")]
    Damaged,
    /// No memory for the library's state.
    #[error("the compression library cannot be set up")]
    Library,
}

/// Feeds any bytes to the unpacker, whole and in pieces: the same must come out, and never more than the headers say.
#[doc(hidden)]
pub fn compress_fuzz(data: &[u8]) {
    let [choice, cut, wire @ ..] = data else { return };
    let algorithm = if choice & 1 == 0 { Algorithm::Zlib } else { Algorithm::Zstd { level: ZSTD_LEVEL_DEFAULT } };
    let run = |input_cut: usize, room: usize| {
        let mut unpacker = Unpacker::new(algorithm, choice & 2 == 0);
        let (mut at, mut out, mut plain) = (0, vec![0; room], Vec::new());
        loop {
            let input = wire.get(at..wire.len().min(at + input_cut)).unwrap_or_default();
            match unpacker.unpack(input, &mut out) {
                Ok(step) => {
                    at += step.taken;
                    plain.extend_from_slice(out.get(..step.given).unwrap_or_default());
                    let idle = step.taken == 0 && step.given == 0;
                    if idle && (at + input.len() >= wire.len() || input.is_empty()) {
                        return (plain, None);
                    }
                    assert!(!idle, "it is given all it asked for and does nothing");
                }
                Err(error) => return (plain, Some(error)),
            }
            if plain.len() > 1 << 22 {
                return (plain, None);
            }
        }
    };
    let (whole, error) = run(usize::MAX >> 1, 64 * 1024);
    let (cut, cut_error) = run(usize::from(*cut).max(1), 1 + usize::from(cut / 3));
    assert_eq!(error.is_some(), cut_error.is_some(), "cut at {cut:?}");
    let common = whole.len().min(cut.len());
    assert_eq!(whole.get(..common), cut.get(..common));
    if error.is_none() && whole.len() < 1 << 22 {
        assert_eq!(whole, cut);
    }
}
