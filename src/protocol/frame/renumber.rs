//! Packets of a compressed connection numbered as an uncompressed one would: there servers number them by the pieces they go
//! out in, and uncompressed clients check the numbers.

use super::{HEADER_LEN, Header};

/// Numbers the packets of one reply in a row, in place.
#[derive(Clone, Copy, Debug)]
pub struct Renumber {
    next: u8,
    /// Payload bytes of the packet being passed that have not come yet.
    skip: usize,
    /// Bytes at the front of the buffer that were looked at already.
    ahead: usize,
}

impl Renumber {
    /// The next packet gets the number `next`.
    pub fn new(next: u8) -> Renumber {
        Renumber { next, skip: 0, ahead: 0 }
    }

    /// The client has sent packets up to the number `last`.
    pub fn behind(&mut self, last: u8) {
        self.next = last.wrapping_add(1);
    }

    /// Looks at what is new in the buffer since the last call.
    pub fn pass(&mut self, buffer: &mut [u8]) {
        loop {
            let step = self.skip.min(buffer.len().saturating_sub(self.ahead));
            self.ahead += step;
            self.skip -= step;
            if self.skip > 0 {
                return;
            }
            let Some(place) = buffer.get_mut(self.ahead..self.ahead + HEADER_LEN) else { return };
            let Some(header) = Header::parse(place) else { return };
            place.copy_from_slice(&Header { seq: self.next, ..header }.to_bytes());
            self.next = self.next.wrapping_add(1);
            self.ahead += HEADER_LEN;
            self.skip = header.len as usize;
        }
    }

    /// Bytes were taken from the front of the buffer.
    pub fn consumed(&mut self, n: usize) {
        self.ahead = self.ahead.saturating_sub(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_numbered_in_a_row_however_they_come() {
        let wire = [2, 0, 0, 9, b'a', b'b', 0, 0, 0, 9, 1, 0, 0, 1, b'c', 3, 0, 0, 200, 1, 2, 3];
        let wanted = [2, 0, 0, 1, b'a', b'b', 0, 0, 0, 2, 1, 0, 0, 3, b'c', 3, 0, 0, 4, 1, 2, 3];
        for cut in 1..wire.len() {
            let (mut renumber, mut buffer, mut out) = (Renumber::new(1), Vec::new(), Vec::new());
            for piece in wire.chunks(cut) {
                buffer.extend_from_slice(piece);
                renumber.pass(&mut buffer);
                // The reader keeps what is not a whole header yet.
                let taken = renumber.ahead.min(buffer.len());
                out.extend(buffer.drain(..taken));
                renumber.consumed(taken);
            }
            assert_eq!(out, wanted, "cut {cut}");
        }
    }
}
