//! The plain byte stream in, pieces out.

use std::cell::RefCell;

use flate2::{Compress, Compression, FlushCompress, Status};
use zstd::bulk::Compressor;

use super::{Algorithm, PIECE_HEADER_LEN};

/// The most plain bytes of one piece: enough to pack well, and no more than what is read at once of a long reply.
pub const PIECE_MAX: usize = 64 * 1024;
/// Shorter pieces are not worth packing (`MIN_COMPRESS_LENGTH` of the servers).
const PACKED_FROM: usize = 50;
/// zlib's level, the one servers use.
pub const ZLIB_LEVEL: u8 = 6;
/// Pieces above [`PIECE_MAX`] are packed quickly, whatever was agreed upon: the thread's other clients wait meanwhile.
const FAST_ZLIB_LEVEL: u32 = 1;
const FAST_ZSTD_LEVEL: u8 = 1;

/// The libraries' states, one of each kind per thread: every piece is packed by itself and at once.
#[derive(Default)]
struct Library {
    zlib: Option<Compress>,
    /// For long pieces.
    fast_zlib: Option<Compress>,
    zstd: Option<(u8, Compressor<'static>)>,
}

thread_local! {
    static LIBRARY: RefCell<Library> = RefCell::default();
}

/// Packs one direction of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Packer {
    algorithm: Algorithm,
}

impl Packer {
    /// Packs that way.
    pub fn new(algorithm: Algorithm) -> Packer {
        Packer { algorithm }
    }

    /// Appends one piece of the first bytes of `plain`, numbered `seq`, to `out`; how many bytes those are, at most [`PIECE_MAX`].
    pub fn pack(&self, plain: &[u8], seq: u8, out: &mut Vec<u8>) -> usize {
        let piece = plain.get(..PIECE_MAX).unwrap_or(plain);
        self.pack_all(piece, seq, out);
        piece.len()
    }

    /// The same of a whole piece, of less than 16 MiB. What does not become shorter is not packed.
    pub fn pack_all(&self, piece: &[u8], seq: u8, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + PIECE_HEADER_LEN + piece.len(), 0);
        let packed = match out.get_mut(start + PIECE_HEADER_LEN..) {
            Some(room) if piece.len() >= PACKED_FROM => LIBRARY.with_borrow_mut(|library| self.deflate(library, piece, room)),
            _ => None,
        };
        let (len, plain_len) = match packed {
            Some(len) => (len, piece.len()),
            None => {
                if let Some(room) = out.get_mut(start + PIECE_HEADER_LEN..) {
                    room.copy_from_slice(piece);
                }
                (piece.len(), 0)
            }
        };
        out.truncate(start + PIECE_HEADER_LEN + len);
        let ([a, b, c, _], [d, e, f, _]) = ((len as u32).to_le_bytes(), (plain_len as u32).to_le_bytes());
        if let Some(header) = out.get_mut(start..start + PIECE_HEADER_LEN) {
            header.copy_from_slice(&[a, b, c, seq, d, e, f]);
        }
    }

    /// The packed length; `None` when it does not become shorter, or the library fails.
    fn deflate(&self, library: &mut Library, piece: &[u8], room: &mut [u8]) -> Option<usize> {
        let room_len = room.len() - 1;
        let room = room.get_mut(..room_len)?;
        match self.algorithm {
            Algorithm::Zlib => {
                let (zlib, level) = match piece.len() > PIECE_MAX {
                    true => (&mut library.fast_zlib, FAST_ZLIB_LEVEL),
                    false => (&mut library.zlib, u32::from(ZLIB_LEVEL)),
                };
                let zlib = zlib.get_or_insert_with(|| Compress::new(Compression::new(level), true));
                zlib.reset();
                let status = zlib.compress(piece, room, FlushCompress::Finish).ok()?;
                (status == Status::StreamEnd).then_some(zlib.total_out() as usize)
            }
            Algorithm::Zstd { level } => {
                let level = if piece.len() > PIECE_MAX { level.min(FAST_ZSTD_LEVEL) } else { level };
                match &mut library.zstd {
                    Some((made_for, _)) if *made_for == level => {}
                    Some((made_for, zstd)) => {
                        zstd.set_compression_level(i32::from(level)).ok()?;
                        *made_for = level;
                    }
                    none => *none = Some((level, Compressor::new(i32::from(level)).ok()?)),
                }
                library.zstd.as_mut()?.1.compress_to_buffer(piece, room).ok()
            }
        }
    }
}
