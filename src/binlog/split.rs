//! Finds the events in a stream of bytes, however it is cut, and keeps of each only as much as is looked at: an event of a gigabyte costs no more
//! memory than one of a kilobyte.

use flate2::Crc;

use super::event::{CHECKSUM_LEN, HEADER_LEN, Header, kind};

/// Bytes kept of a statement or of a packed transaction. Of a longer one is known that it changed something.
pub const TEXT_KEPT_MAX: usize = 16 << 20;
/// Bytes kept of other events: names of schema and table, identifiers.
const FIELDS_KEPT_MAX: usize = 1 << 10;
/// Bytes kept of rows: the table's id.
const ROWS_KEPT_MAX: usize = 64;
/// A buffer beyond this is given back when its event is done with.
const BUFFER_KEPT_MAX: usize = 64 << 10;

/// An event as it was found.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// Its header.
    pub header: Header,
    /// What was kept of its body, without the checksum.
    pub body: &'a [u8],
    /// Whether that is all of it.
    pub whole: bool,
    /// Whether the checksum is right; true where there is none to look at.
    pub sound: bool,
}

/// Bytes that cannot be events.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an event says that it is {0} bytes long, header and checksum included")]
pub struct Impossible(pub u32);

/// See the module.
#[derive(Debug, Default)]
pub struct Splitter {
    /// The header, then what is kept of the body.
    kept: Vec<u8>,
    header: Option<Header>,
    /// Bytes of the event seen so far, header included.
    seen: usize,
    /// Whether events have a checksum behind them.
    checksum: bool,
    crc: Crc,
    tail: [u8; CHECKSUM_LEN],
}

impl Splitter {
    /// For events that lie inside another one: they have no checksum of their own.
    pub fn new() -> Splitter {
        Splitter::default()
    }

    /// Whether no event is under way.
    pub fn between_events(&self) -> bool {
        self.seen == 0
    }

    /// Forgets an event that is under way.
    pub fn reset(&mut self) {
        self.kept.clear();
        (self.header, self.seen) = (None, 0);
    }

    /// Takes the next bytes and gives every event that ends in them to `each`, which says whether checksums are expected behind it.
    ///
    /// # Errors
    /// [`Impossible`] when a length cannot be; nothing behind it can be read.
    pub fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(Found<'_>) -> Option<bool>) -> Result<(), Impossible> {
        while !bytes.is_empty() {
            let header = match self.header {
                Some(header) => header,
                None => {
                    let (piece, rest) = bytes.split_at((HEADER_LEN - self.seen).min(bytes.len()));
                    self.kept.extend_from_slice(piece);
                    self.seen += piece.len();
                    bytes = rest;
                    let Some(header) = Header::parse(&self.kept) else { return Ok(()) };
                    if (header.len as usize) < HEADER_LEN + self.tail_len(&header) {
                        return Err(Impossible(header.len));
                    }
                    self.crc = Crc::new();
                    self.crc.update(&self.kept);
                    self.kept.clear();
                    self.header = Some(header);
                    header
                }
            };
            let piece = self.body(&header, bytes);
            bytes = bytes.get(piece..).unwrap_or_default();
            if self.seen == header.len as usize {
                self.finish(header, &mut each);
            }
        }
        Ok(())
    }

    /// A format description has always a checksum; whether it is a right one, depends on what it says.
    fn tail_len(&self, header: &Header) -> usize {
        if self.checksum || header.kind == kind::FORMAT_DESCRIPTION { CHECKSUM_LEN } else { 0 }
    }

    /// Takes what belongs to the body and the checksum; how much that is.
    fn body(&mut self, header: &Header, bytes: &[u8]) -> usize {
        let (len, tail_len) = (header.len as usize, self.tail_len(header));
        let bytes = bytes.get(..(len - self.seen).min(bytes.len())).unwrap_or_default();
        let (body, tail) = bytes.split_at((len - tail_len).saturating_sub(self.seen).min(bytes.len()));
        if self.checksum {
            self.crc.update(body);
        }
        let room = kept_max(header.kind).saturating_sub(self.kept.len());
        self.kept.extend_from_slice(body.get(..room.min(body.len())).unwrap_or_default());
        let at = (self.seen + body.len() + tail_len).saturating_sub(len);
        for (slot, byte) in self.tail.iter_mut().skip(at).zip(tail) {
            *slot = *byte;
        }
        self.seen += bytes.len();
        bytes.len()
    }

    fn finish(&mut self, header: Header, each: &mut impl FnMut(Found<'_>) -> Option<bool>) {
        let whole = self.kept.len() + HEADER_LEN + self.tail_len(&header) == header.len as usize;
        // Events made up before the format is known, and the format itself, are taken as they are.
        let looked_at = self.checksum && header.kind != kind::FORMAT_DESCRIPTION;
        let sound = !looked_at || self.crc.sum() == u32::from_le_bytes(self.tail);
        if let Some(expected) = each(Found { header, body: &self.kept, whole, sound }) {
            self.checksum = expected;
        }
        self.kept.clear();
        if self.kept.capacity() > BUFFER_KEPT_MAX {
            self.kept = Vec::new();
        }
        (self.header, self.seen) = (None, 0);
    }
}

fn kept_max(kind: u8) -> usize {
    match kind {
        kind::QUERY | kind::QUERY_COMPRESSED | kind::EXECUTE_LOAD_QUERY | kind::TRANSACTION_PAYLOAD => TEXT_KEPT_MAX,
        _ if kind::is_rows(kind) => ROWS_KEPT_MAX,
        _ => FIELDS_KEPT_MAX,
    }
}
