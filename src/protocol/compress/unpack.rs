//! Pieces in, the plain byte stream out.

use std::cell::RefCell;

use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder, Operation};

use super::{Algorithm, CompressError, PIECE_HEADER_LEN};

/// The largest window a zstd piece may ask for, as a power of two: as long as the longest piece.
const ZSTD_WINDOW_LOG_MAX: u32 = 24;

/// States of the libraries kept per thread, so that a piece does not allocate tens of KiB and an idle stream holds none.
const STOCK_MAX: usize = 8;

thread_local! {
    static STOCK: RefCell<Vec<Inflate>> = const { RefCell::new(Vec::new()) };
}

/// What one call of [`Unpacker::unpack`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Step {
    /// Bytes of the input that were used.
    pub taken: usize,
    /// Bytes that were written to the output.
    pub given: usize,
}

/// Takes a stream apart, however it was cut on its way.
pub struct Unpacker {
    algorithm: Algorithm,
    /// Numbers are looked at: the peer is a client, whose commands come one by one.
    ordered: bool,
    header: [u8; PIECE_HEADER_LEN],
    header_len: usize,
    body: Option<Body>,
    next_seq: u8,
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacker").field("algorithm", &self.algorithm).field("next_seq", &self.next_seq).finish_non_exhaustive()
    }
}

/// The rest of a piece.
struct Body {
    packed_left: usize,
    plain_left: usize,
    /// `None`: it is not packed.
    inflate: Option<Inflate>,
}

enum Inflate {
    Zlib(Box<Decompress>),
    Zstd(Box<Decoder<'static>>),
}

impl Inflate {
    fn new(algorithm: Algorithm) -> Result<Inflate, CompressError> {
        let stocked = STOCK.with_borrow_mut(|stock| {
            let place = stock.iter().position(|i| matches!(i, Inflate::Zlib(_)) == (algorithm == Algorithm::Zlib))?;
            Some(stock.swap_remove(place))
        });
        match (stocked, algorithm) {
            (Some(mut inflate), _) => {
                match &mut inflate {
                    Inflate::Zlib(z) => z.reset(true),
                    Inflate::Zstd(z) => z.reinit().map_err(|_| CompressError::Library)?,
                }
                Ok(inflate)
            }
            (None, Algorithm::Zlib) => Ok(Inflate::Zlib(Box::new(Decompress::new(true)))),
            (None, Algorithm::Zstd { .. }) => {
                let mut decoder = Decoder::new().map_err(|_| CompressError::Library)?;
                decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)).map_err(|_| CompressError::Library)?;
                Ok(Inflate::Zstd(Box::new(decoder)))
            }
        }
    }

    fn keep(self) {
        STOCK.with_borrow_mut(|stock| {
            if stock.len() < STOCK_MAX {
                stock.push(self);
            }
        });
    }

    /// Bytes used, bytes written, and whether the packed data ended.
    fn run(&mut self, input: &[u8], out: &mut [u8]) -> Result<(usize, usize, bool), CompressError> {
        match self {
            Inflate::Zlib(z) => {
                let (taken, given) = (z.total_in(), z.total_out());
                let status = z.decompress(input, out, FlushDecompress::None).map_err(|_| CompressError::Damaged)?;
                Ok(((z.total_in() - taken) as usize, (z.total_out() - given) as usize, status == Status::StreamEnd))
            }
            Inflate::Zstd(z) => {
                let status = z.run_on_buffers(input, out).map_err(|_| CompressError::Damaged)?;
                let moved = status.bytes_read > 0 || status.bytes_written > 0;
                Ok((status.bytes_read, status.bytes_written, status.remaining == 0 && moved))
            }
        }
    }
}

impl Unpacker {
    /// At the beginning of a stream. `ordered`: a piece must have number 0 or the next one. Servers number the answers to commands
    /// that were sent together each anew, so for them it is `false`.
    pub fn new(algorithm: Algorithm, ordered: bool) -> Unpacker {
        Unpacker { algorithm, ordered, header: [0; PIECE_HEADER_LEN], header_len: 0, body: None, next_seq: 0 }
    }

    /// The number the next piece has, whoever sends it.
    pub fn next_seq(&self) -> u8 {
        self.next_seq
    }

    /// We have sent pieces; the next has this number.
    pub fn sent_up_to(&mut self, next_seq: u8) {
        self.next_seq = next_seq;
    }

    /// Whether it stands between two pieces.
    pub fn is_between(&self) -> bool {
        self.body.is_none() && self.header_len == 0
    }

    /// Unpacks from `input` to `out` until one of them is used up or a piece ends. Call it again with the rest, and while it writes
    /// something also with no input: a few packed bytes may be many plain ones.
    ///
    /// # Errors
    /// See [`CompressError`].
    pub fn unpack(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, CompressError> {
        let mut step = Step::default();
        if self.body.is_none() {
            let wanted = PIECE_HEADER_LEN - self.header_len;
            for (place, byte) in self.header.iter_mut().skip(self.header_len).zip(input) {
                *place = *byte;
            }
            step.taken = wanted.min(input.len());
            self.header_len += step.taken;
            if self.header_len < PIECE_HEADER_LEN {
                return Ok(step);
            }
            self.header_len = 0;
            self.body = Some(self.begin()?);
        }
        let Some(body) = &mut self.body else { return Ok(step) };
        let rest = input.get(step.taken..).unwrap_or_default();
        let done = body.run(rest, out, &mut step)?;
        if done && let Some(Body { inflate: Some(inflate), .. }) = self.body.take() {
            inflate.keep();
        }
        Ok(step)
    }

    fn begin(&mut self) -> Result<Body, CompressError> {
        let [a, b, c, seq, d, e, f] = self.header;
        let packed_left = u32::from_le_bytes([a, b, c, 0]) as usize;
        let plain = u32::from_le_bytes([d, e, f, 0]) as usize;
        if self.ordered && seq != 0 && seq != self.next_seq {
            return Err(CompressError::Sequence { expected: self.next_seq, got: seq });
        }
        self.next_seq = seq.wrapping_add(1);
        if packed_left == 0 {
            return Err(CompressError::Empty);
        }
        let inflate = if plain == 0 { None } else { Some(Inflate::new(self.algorithm)?) };
        Ok(Body { packed_left, plain_left: if plain == 0 { packed_left } else { plain }, inflate })
    }
}

impl Body {
    /// `true`: the piece has ended.
    fn run(&mut self, input: &[u8], out: &mut [u8], step: &mut Step) -> Result<bool, CompressError> {
        let Some(inflate) = &mut self.inflate else {
            let len = input.len().min(out.len()).min(self.packed_left);
            for (place, byte) in out.iter_mut().zip(input.iter().take(len)) {
                *place = *byte;
            }
            self.packed_left -= len;
            step.taken += len;
            step.given += len;
            return Ok(self.packed_left == 0);
        };
        let (mut input, mut out) = (input.get(..input.len().min(self.packed_left)).unwrap_or(input), out);
        loop {
            // All plain bytes that the header promised have come: what is left of the packed ones must end without another.
            let mut beyond = [0];
            let room = if self.plain_left == 0 { &mut beyond[..] } else { &mut *out };
            let room_len = room.len().min(self.plain_left.max(1));
            if room_len == 0 {
                return Ok(false);
            }
            let (taken, given, ended) = inflate.run(input, room.get_mut(..room_len).unwrap_or_default())?;
            if given > self.plain_left {
                return Err(CompressError::Length);
            }
            self.packed_left -= taken;
            self.plain_left -= given;
            step.taken += taken;
            step.given += given;
            input = input.get(taken..).unwrap_or_default();
            out = std::mem::take(&mut out).get_mut(given..).unwrap_or_default();
            if ended {
                return if self.packed_left == 0 && self.plain_left == 0 { Ok(true) } else { Err(CompressError::Length) };
            }
            if taken == 0 && given == 0 {
                // Nothing to go on with; if the piece has no more bytes it is too short.
                return if self.packed_left == 0 { Err(CompressError::Length) } else { Ok(false) };
            }
        }
    }
}
