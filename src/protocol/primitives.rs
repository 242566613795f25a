//! The protocol's integers and strings: a reader that never panics and the same for writing.
//!
//! Source: MySQL manual, "Protocol Basics: Integer Types, String Types". Integers are little-endian.

use bytes::{BufMut, BytesMut};

/// The first byte that stands for NULL where a length-encoded value of a text row could stand.
pub const NULL_VALUE: u8 = 0xFB;

/// Reads values from the front of a slice. Every method gives `None`, and consumes nothing, when the bytes do not suffice.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    buf: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of all of `buf`.
    pub fn new(buf: &'a [u8]) -> Reader<'a> {
        Reader { buf }
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.buf.len()
    }

    /// Whether all was read.
    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// The next byte, left where it is.
    pub fn peek(&self) -> Option<u8> {
        self.buf.first().copied()
    }

    /// The bytes not yet read, left where they are.
    pub fn peek_rest(&self) -> &'a [u8] {
        self.buf
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.buf.split_first_chunk::<N>()?;
        self.buf = tail;
        Some(*head)
    }

    /// `int<1>`.
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[b]| b)
    }

    /// `int<2>`.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// `int<3>`.
    pub fn u24(&mut self) -> Option<u32> {
        self.array::<3>().map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]))
    }

    /// `int<4>`.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// `int<8>`.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// `int<lenenc>`. `0xFB` (NULL) and `0xFF` (an error) are no integers and give `None`.
    pub fn lenenc_int(&mut self) -> Option<u64> {
        let before = *self;
        let value = match self.u8()? {
            small @ 0..=0xFA => Some(u64::from(small)),
            0xFC => self.u16().map(u64::from),
            0xFD => self.u24().map(u64::from),
            0xFE => self.u64(),
            _ => None,
        };
        if value.is_none() {
            *self = before;
        }
        value
    }

    /// `string<fix>`: the next `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.buf.split_at_checked(len)?;
        self.buf = tail;
        Some(head)
    }

    /// `string<lenenc>`.
    pub fn lenenc_bytes(&mut self) -> Option<&'a [u8]> {
        let before = *self;
        let value = self.lenenc_int().and_then(|len| usize::try_from(len).ok()).and_then(|len| self.bytes(len));
        if value.is_none() {
            *self = before;
        }
        value
    }

    /// A value of a text row: `Some(None)` is NULL.
    pub fn nullable_bytes(&mut self) -> Option<Option<&'a [u8]>> {
        if self.peek()? == NULL_VALUE {
            self.u8()?;
            return Some(None);
        }
        self.lenenc_bytes().map(Some)
    }

    /// `string<EOF>`: everything left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.buf)
    }
}

/// Appends the protocol's own types; plain integers come from [`BufMut`] (`put_u8`, `put_u16_le`, ...). Only for buffers that grow.
pub trait Put: BufMut {
    /// `int<3>`; the upper byte of `value` is dropped.
    fn put_u24_le(&mut self, value: u32) {
        let [a, b, c, _] = value.to_le_bytes();
        self.put_slice(&[a, b, c]);
    }

    /// `int<lenenc>`, in its shortest form.
    fn put_lenenc_int(&mut self, value: u64) {
        match value {
            0..=0xFA => self.put_u8(value as u8),
            0xFB..=0xFFFF => {
                self.put_u8(0xFC);
                self.put_u16_le(value as u16);
            }
            0x1_0000..=0xFF_FFFF => {
                self.put_u8(0xFD);
                self.put_u24_le(value as u32);
            }
            _ => {
                self.put_u8(0xFE);
                self.put_u64_le(value);
            }
        }
    }

    /// `string<lenenc>`.
    fn put_lenenc_bytes(&mut self, value: &[u8]) {
        self.put_lenenc_int(value.len() as u64);
        self.put_slice(value);
    }

    /// A value of a text row.
    fn put_nullable_bytes(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => self.put_lenenc_bytes(value),
            None => self.put_u8(NULL_VALUE),
        }
    }
}

impl Put for Vec<u8> {}
impl Put for BytesMut {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_encoded_integers_at_every_border() {
        let table: &[(u64, &[u8])] = &[
            (0, &[0]),
            (250, &[0xFA]),
            (251, &[0xFC, 0xFB, 0]),
            (0xFFFF, &[0xFC, 0xFF, 0xFF]),
            (0x1_0000, &[0xFD, 0, 0, 1]),
            (0xFF_FFFF, &[0xFD, 0xFF, 0xFF, 0xFF]),
            (0x100_0000, &[0xFE, 0, 0, 0, 1, 0, 0, 0, 0]),
            (u64::MAX, &[0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
        ];
        for (value, bytes) in table {
            let mut out = Vec::new();
            out.put_lenenc_int(*value);
            assert_eq!(&out, bytes);
            assert_eq!(Reader::new(bytes).lenenc_int(), Some(*value));
            for cut in 0..bytes.len() {
                let mut reader = Reader::new(&bytes[..cut]);
                assert_eq!(reader.lenenc_int(), None);
                assert_eq!(reader.remaining(), cut, "a failed read consumes nothing");
            }
        }
        assert_eq!(Reader::new(&[0xFB]).lenenc_int(), None);
        assert_eq!(Reader::new(&[0xFF]).lenenc_int(), None);
    }

    #[test]
    fn strings() {
        let mut out = Vec::new();
        out.put_lenenc_bytes(b"abc");
        out.put_nullable_bytes(None);
        out.put_u24_le(0x01_0203);
        out.put_slice(b"rest");
        let mut r = Reader::new(&out);
        assert_eq!(r.nullable_bytes(), Some(Some(&b"abc"[..])));
        assert_eq!(r.nullable_bytes(), Some(None));
        assert_eq!(r.u24(), Some(0x01_0203));
        assert_eq!(r.rest(), b"rest");
        assert!(r.is_empty());
        assert_eq!(r.nullable_bytes(), None);
        let mut r = Reader::new(&[5, b'a']);
        assert_eq!(r.lenenc_bytes(), None);
        assert_eq!(r.remaining(), 2);
        assert_eq!(Reader::new(&[0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]).lenenc_bytes(), None);
    }
}
