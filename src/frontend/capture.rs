//! A reply taken along as it goes to its client, to be kept for others; all of them together within a limit.

use std::sync::Arc;

use crate::cache::store::Room;

/// A reply as it goes to the client, kept for others up to a limit.
#[derive(Debug)]
pub struct Capture {
    bytes: Vec<u8>,
    bytes_max: usize,
    room: Arc<Room>,
    /// Taken of it.
    taken: usize,
    missed: Option<Missed>,
}

/// Why there is no whole reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missed {
    /// It is longer than what is kept.
    TooLong,
    /// Others took up the room.
    NoRoom,
}

impl Capture {
    /// Nothing yet, of at most so many bytes.
    pub fn new(bytes_max: usize, room: Arc<Room>) -> Capture {
        Capture { bytes: Vec::new(), bytes_max, room, taken: 0, missed: None }
    }

    /// The next piece.
    pub fn push(&mut self, piece: &[u8]) {
        let len = self.bytes.len() + piece.len();
        if self.missed.is_some() {
            return;
        }
        self.missed = match () {
            () if len > self.bytes_max => Some(Missed::TooLong),
            () if !self.grow(len) => Some(Missed::NoRoom),
            () => None,
        };
        if self.missed.is_none() {
            self.bytes.extend_from_slice(piece);
        } else {
            self.let_go();
        }
    }

    /// As a vector grows: to twice its size, where that is wanted.
    fn grow(&mut self, len: usize) -> bool {
        if len <= self.taken {
            return true;
        }
        let wanted = len.max(2 * self.taken).min(self.bytes_max);
        if !self.room.take(wanted - self.taken) {
            return false;
        }
        self.taken = wanted;
        self.bytes.reserve_exact(wanted - self.bytes.len());
        true
    }

    fn let_go(&mut self) {
        self.bytes = Vec::new();
        self.room.give_back(std::mem::take(&mut self.taken));
    }

    /// From the beginning, at another server.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.missed = None;
    }

    /// All of it.
    ///
    /// # Errors
    /// Why there is not.
    pub fn take(&mut self) -> Result<Vec<u8>, Missed> {
        self.missed.map_or_else(|| Ok(std::mem::take(&mut self.bytes)), Err)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.let_go();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_share_a_room() {
        let room = Arc::new(Room::new(100));
        let left = || room.left();
        let mut first = Capture::new(60, room.clone());
        first.push(&[1; 10]);
        first.push(&[2; 20]);
        assert_eq!(left(), 70);
        first.push(&[3; 5]);
        assert_eq!(left(), 40, "twice what it was, and no more than it may ever be");
        let mut second = Capture::new(60, room.clone());
        second.push(&[4; 41]);
        second.push(&[4; 1]);
        assert_eq!((second.take(), left()), (Err(Missed::NoRoom), 40));
        second.clear();
        second.push(&[4; 40]);
        assert_eq!((second.take(), left()), (Ok(vec![4; 40]), 0));
        drop(second);
        first.push(&[5; 26]);
        assert_eq!((first.take(), left()), (Err(Missed::TooLong), 100));
        first.clear();
        first.push(&[6; 7]);
        assert_eq!(first.take(), Ok(vec![6; 7]));
        drop(first);
        assert_eq!(left(), 100);
    }
}
