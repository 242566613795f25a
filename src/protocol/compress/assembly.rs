//! Where pieces for a client begin and end: with packets, as far as that costs little memory.
//!
//! The protocol lets them begin and end anywhere, and servers, which hold a row anyway, put each into one piece. There are clients that rely on it:
//! Connector/Python without its C extension reads one piece more than the one that a packet begins in.

use super::PIECE_MAX;
use crate::protocol::frame::{HEADER_LEN, Header, MAX_PAYLOAD};

/// A packet up to so long goes out in one piece, bytes. Longer ones are passed on as they come.
const ASSEMBLED_MAX: usize = 512 * 1024;

/// Cuts one direction of a stream.
#[derive(Debug, Default)]
pub struct Assembly {
    /// A packet of which more is to come.
    begun: Vec<u8>,
    /// What is to come of a packet that is too long to be kept.
    left: usize,
    /// The last packet was as long as can be: the next one belongs to it.
    goes_on: bool,
}

/// What became of bytes.
#[derive(Debug, Default)]
pub struct Cut {
    /// How many were taken, at least one.
    pub taken: usize,
    /// The piece that is to be sent now. It is empty when its packet is not whole yet.
    pub piece: Vec<u8>,
    /// It holds nothing but whole packets, and belongs to none before it.
    pub is_whole: bool,
}

impl Assembly {
    /// Takes bytes from the front of `bytes`, which is not empty.
    pub fn take(&mut self, bytes: &[u8]) -> Cut {
        let is_long = |header: &Header| header.packet_len() > ASSEMBLED_MAX;
        if self.left == 0
            && self.begun.is_empty()
            && let Some(header) = Header::parse(bytes).filter(is_long)
        {
            self.pass_on(header, 0);
        }
        if self.left > 0 {
            let piece = bytes.get(..self.left.min(PIECE_MAX)).unwrap_or(bytes);
            self.left -= piece.len();
            return Cut { taken: piece.len(), piece: piece.to_vec(), is_whole: false };
        }
        if self.begun.is_empty() {
            let whole = whole(bytes, ASSEMBLED_MAX, PIECE_MAX);
            if whole > 0 {
                return self.cut(whole, bytes.get(..whole).unwrap_or(bytes).to_vec());
            }
        }
        // Of a header that is not whole itself the rest comes first.
        let needed = |begun: &[u8]| Header::parse(begun).map_or(HEADER_LEN, Header::packet_len);
        let mut taken = 0;
        while self.begun.len() < needed(&self.begun)
            && let Some(rest @ [_, ..]) = bytes.get(taken..)
        {
            let part = rest.get(..needed(&self.begun) - self.begun.len()).unwrap_or(rest);
            self.begun.extend_from_slice(part);
            taken += part.len();
            if let Some(header) = Header::parse(&self.begun).filter(is_long) {
                self.pass_on(header, self.begun.len());
                return Cut { taken, piece: std::mem::take(&mut self.begun), is_whole: false };
            }
        }
        if Header::parse(&self.begun).is_none_or(|header| self.begun.len() < header.packet_len()) {
            return Cut { taken, ..Cut::default() };
        }
        // Whole ones behind it go along.
        let behind = bytes.get(taken..).unwrap_or_default();
        let room = PIECE_MAX.saturating_sub(self.begun.len());
        let more = whole(behind, room, room);
        self.begun.extend_from_slice(behind.get(..more).unwrap_or_default());
        let piece = std::mem::take(&mut self.begun);
        self.cut(taken + more, piece)
    }

    /// A packet is too long to be kept, of which so many bytes have been.
    fn pass_on(&mut self, header: Header, kept: usize) {
        self.left = header.packet_len() - kept;
        self.goes_on = header.len as usize == MAX_PAYLOAD;
    }

    fn cut(&mut self, taken: usize, piece: Vec<u8>) -> Cut {
        Cut { taken, piece, is_whole: !std::mem::take(&mut self.goes_on) }
    }
}

/// How many bytes the whole packets in front have: the first with up to `first` bytes, and those behind it that fit into `max` with it.
fn whole(bytes: &[u8], first: usize, max: usize) -> usize {
    let mut end = 0;
    while let Some(header) = bytes.get(end..).and_then(Header::parse)
        && let next = end + header.packet_len()
        && next <= bytes.len()
        && next <= if end == 0 { first } else { max }
    {
        end = next;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(len: usize) -> Vec<u8> {
        let mut packet = (len as u32).to_le_bytes()[..3].to_vec();
        packet.push(7);
        packet.extend((0..len).map(|n| n as u8));
        packet
    }

    /// The pieces that come of `packets`, which arrive in parts of so many bytes.
    fn pieces(packets: &[usize], part: usize) -> Vec<Vec<u8>> {
        let (mut assembly, mut pieces) = (Assembly::default(), Vec::new());
        let wire: Vec<u8> = packets.iter().flat_map(|len| packet(*len)).collect();
        for mut bytes in wire.chunks(part) {
            while !bytes.is_empty() {
                let cut = assembly.take(bytes);
                assert!(cut.taken > 0, "it takes something");
                bytes = &bytes[cut.taken..];
                pieces.extend(Some(cut.piece).filter(|piece| !piece.is_empty()));
            }
        }
        assert!(pieces.concat() == wire, "nothing is lost, doubled or held back at the end");
        pieces
    }

    #[test]
    fn pieces_begin_and_end_with_packets() {
        let long = ASSEMBLED_MAX - HEADER_LEN;
        for (packets, part, lens) in [
            (&[1, 0, 5][..], 100, &[18][..]),
            (&[1, 0, 5], 1, &[5, 4, 9]),
            // A packet that is cut takes along what is whole behind it.
            (&[10, 20, 30], 20, &[14, 24, 34]),
            (&[30, 1, 1, 30], 24, &[44, 34]),
            (&[200_000], 16_384, &[200_004]),
            (&[200_000, 3], 300_000, &[200_004, 7]),
            (&[PIECE_MAX - 8, 0, 0], 100_000, &[PIECE_MAX, 4]),
            (&[long, 1], 16_384, &[ASSEMBLED_MAX, 5]),
            (&[long, 1], 2_000_000, &[ASSEMBLED_MAX, 5]),
        ] {
            let found: Vec<usize> = pieces(packets, part).iter().map(Vec::len).collect();
            assert_eq!(found, lens, "{packets:?} in parts of {part}");
        }
    }

    #[test]
    fn what_is_too_long_is_passed_on_as_it_comes() {
        for part in [1, 3, 4, 5, 16_384, 100_000, 20_000_000] {
            let len = if part < 10 { ASSEMBLED_MAX } else { 0xFF_FFFF };
            let pieces = pieces(&[2, len, 0, 9], part);
            assert!(pieces.iter().all(|piece| piece.len() <= PIECE_MAX), "parts of {part}");
            assert!(pieces.last().unwrap().len() <= 17, "parts of {part}");
        }
    }

    #[test]
    fn what_belongs_to_a_packet_before_it_is_not_whole() {
        for (packets, whole) in [
            (&[3, 4][..], &[true][..]),
            (&[MAX_PAYLOAD, 0, 9], &[false, true]),
            (&[MAX_PAYLOAD, MAX_PAYLOAD, 2], &[false, false]),
            (&[ASSEMBLED_MAX, 2], &[true]),
        ] {
            let mut assembly = Assembly::default();
            let mut found = Vec::new();
            for packet in packets.iter().map(|len| packet(*len)) {
                let mut bytes = &packet[..];
                while !bytes.is_empty() {
                    let cut = assembly.take(bytes);
                    bytes = &bytes[cut.taken..];
                    found.push(cut.is_whole);
                }
            }
            assert!(found.ends_with(whole), "{packets:?}: {found:?}");
        }
    }
}
