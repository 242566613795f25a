//! The numbers of packets inside of compressed pieces, as a server has them: it numbers on from a piece's number wherever it has
//! sent everything out. Clients that look at them expect that, or numbers in a row; of a packet that ends in a later piece numbers in a row.

use crate::protocol::frame::HEADER_LEN;

/// Numbers packets of one direction, in place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numbering {
    next: u8,
    /// The header that is being passed, as far as it has come.
    header: [u8; HEADER_LEN],
    header_len: usize,
    /// Payload bytes of the packet that have not come yet.
    skip: usize,
}

impl Numbering {
    /// The plain bytes of the piece with the number `seq`. Where it `begins_anew`, since it begins an answer or holds nothing but whole packets, its first packet
    /// takes that number.
    pub fn pass(&mut self, mut piece: &mut [u8], seq: u8, begins_anew: bool) {
        if begins_anew && self.skip == 0 && self.header_len == 0 {
            self.next = seq;
        }
        while !piece.is_empty() {
            if self.skip > 0 {
                let step = self.skip.min(piece.len());
                self.skip -= step;
                piece = piece.get_mut(step..).unwrap_or_default();
                continue;
            }
            let Some((byte, rest)) = std::mem::take(&mut piece).split_first_mut() else { return };
            if self.header_len == HEADER_LEN - 1 {
                *byte = self.next;
                self.next = self.next.wrapping_add(1);
                let [a, b, c, _] = self.header;
                self.skip = u32::from_le_bytes([a, b, c, 0]) as usize;
                self.header_len = 0;
            } else {
                if let Some(place) = self.header.get_mut(self.header_len) {
                    *place = *byte;
                }
                self.header_len += 1;
            }
            piece = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_take_the_number_of_the_piece_they_begin() {
        let wire = [2, 0, 0, 7, b'a', b'b', 0, 0, 0, 8, 1, 0, 0, 9, b'c'];
        for (cuts, numbers) in [
            (vec![15], [1, 2, 3]),
            (vec![6, 4, 5], [1, 2, 3]),
            (vec![10, 5], [1, 2, 2]),
            (vec![5, 10], [1, 2, 3]),
            (vec![8, 7], [1, 2, 3]),
            (vec![1; 15], [1, 7, 11]),
        ] {
            let (mut numbering, mut out, mut rest) = (Numbering::default(), Vec::new(), &wire[..]);
            for (seq, cut) in cuts.iter().enumerate() {
                let (piece, later) = rest.split_at(*cut);
                let mut piece = piece.to_vec();
                numbering.pass(&mut piece, seq as u8 + 1, true);
                out.extend(piece);
                rest = later;
            }
            assert_eq!([out[3], out[9], out[13]], numbers, "{cuts:?}");
            assert_eq!((&out[4..6], out[14]), (&b"ab"[..], b'c'), "payloads stay");
        }
    }

    #[test]
    fn a_packet_that_ends_in_a_later_piece_is_numbered_on() {
        let mut numbering = Numbering::default();
        let mut numbers = Vec::new();
        for (piece, seq, begins_anew) in
            [(&[1, 0, 0, 0, 9][..], 1, true), (&[6, 0, 0, 0, 9], 2, false), (&[9; 5], 3, true), (&[0, 0, 0, 0], 4, true)]
        {
            let mut piece = piece.to_vec();
            numbering.pass(&mut piece, seq, begins_anew);
            numbers.push(piece[3]);
        }
        assert_eq!(numbers, [1, 2, 9, 4]);
    }
}
