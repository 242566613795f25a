//! What servers pack: a whole transaction of MySQL (zstd), a statement of MariaDB (zlib). Unpacked in pieces or up to a limit, so that a small event
//! cannot become a large memory.

use std::io::Read;

use flate2::read::ZlibDecoder;
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

use super::split::TEXT_KEPT_MAX;
use crate::protocol::primitives::Reader;

/// Bytes that a transaction may have when it is unpacked; it takes a fifth of a second to look at so many.
pub const UNPACKED_MAX: u64 = 256 << 20;
/// Bytes unpacked at a time.
const PIECE_LEN: usize = 64 << 10;

/// Why something packed cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PayloadError {
    /// Its own header is broken.
    #[error("the header of what is compressed is broken")]
    Header,
    /// An algorithm that is not known here.
    #[error("compressed by algorithm {0}, which is not known")]
    Algorithm(u64),
    /// Not what the algorithm makes.
    #[error("what is compressed is broken")]
    Broken,
    /// More than is looked at.
    #[error("more than {0} bytes when unpacked")]
    TooLong(u64),
}

/// Unpacks the events of a transaction and gives them to `each`, in pieces cut anywhere.
///
/// # Errors
/// [`PayloadError`]; pieces may have been given before.
pub fn transaction(body: &[u8], mut each: impl FnMut(&[u8]) -> Result<(), PayloadError>) -> Result<(), PayloadError> {
    let mut r = Reader::new(body);
    let (mut algorithm, mut len) = (0, None);
    loop {
        let field = r.lenenc_int().ok_or(PayloadError::Header)?;
        if field == 0 {
            break;
        }
        let value = r.lenenc_bytes().ok_or(PayloadError::Header)?;
        let number = Reader::new(value).lenenc_int();
        match field {
            1 => len = number,
            2 => algorithm = number.ok_or(PayloadError::Header)?,
            _ => {}
        }
    }
    let packed = r.rest();
    let len = len.and_then(|len| usize::try_from(len).ok()).ok_or(PayloadError::Header)?;
    let packed = packed.get(..len).ok_or(PayloadError::Header)?;
    match algorithm {
        0 => unpack_zstd(packed, &mut each),
        255 => each(packed),
        other => Err(PayloadError::Algorithm(other)),
    }
}

fn unpack_zstd(packed: &[u8], each: &mut impl FnMut(&[u8]) -> Result<(), PayloadError>) -> Result<(), PayloadError> {
    let broken = |_| PayloadError::Broken;
    let mut decoder = Decoder::new().map_err(broken)?;
    let mut input = InBuffer::around(packed);
    let mut piece = vec![0; PIECE_LEN];
    let mut total = 0;
    loop {
        let mut output = OutBuffer::around(piece.as_mut_slice());
        let before = input.pos();
        let left = decoder.run(&mut input, &mut output).map_err(broken)?;
        let out = output.as_slice();
        total += out.len() as u64;
        if total > UNPACKED_MAX {
            return Err(PayloadError::TooLong(UNPACKED_MAX));
        }
        each(out)?;
        if left == 0 && input.pos() == packed.len() {
            return Ok(());
        }
        if out.is_empty() && input.pos() == before {
            return Err(PayloadError::Broken);
        }
    }
}

/// Unpacks a statement: one byte that tells the algorithm and how long the length is, the length with its high byte first, then zlib's stream.
///
/// # Errors
/// [`PayloadError`].
pub fn inflate(packed: &[u8]) -> Result<Vec<u8>, PayloadError> {
    let (first, rest) = packed.split_first().ok_or(PayloadError::Header)?;
    let (marked, algorithm, width) = (first & 0x80 != 0, first >> 4 & 7, usize::from(first & 7));
    if !marked || width == 0 || width > 4 {
        return Err(PayloadError::Header);
    }
    if algorithm != 0 {
        return Err(PayloadError::Algorithm(u64::from(algorithm)));
    }
    let (len, packed) = rest.split_at_checked(width).ok_or(PayloadError::Header)?;
    let len = len.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
    if len > TEXT_KEPT_MAX {
        return Err(PayloadError::TooLong(TEXT_KEPT_MAX as u64));
    }
    let mut text = Vec::new();
    let limit = u64::try_from(len).unwrap_or(u64::MAX).saturating_add(1);
    ZlibDecoder::new(packed).take(limit).read_to_end(&mut text).map_err(|_| PayloadError::Broken)?;
    if text.len() == len { Ok(text) } else { Err(PayloadError::Broken) }
}
