//! Reading login packets field by field. Every read says how much was missing; nothing here can panic.

use super::Malformed;

/// What is left of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn new(packet: &'a [u8]) -> Cursor<'a> {
        Cursor(packet)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(crate) fn bytes(&mut self, n: usize, field: &'static str) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(Malformed { field, why: "the packet ends before it" })?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N, field)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, Malformed> {
        self.array::<1>(field).map(|[b]| b)
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, Malformed> {
        self.array(field).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, Malformed> {
        self.array(field).map(u32::from_le_bytes)
    }

    /// The bytes before the next NUL, which is taken too. A missing NUL at the packet's end is an error.
    pub(crate) fn nul(&mut self, field: &'static str) -> Result<&'a [u8], Malformed> {
        let end = self.0.iter().position(|b| *b == 0).ok_or(Malformed { field, why: "it is not terminated" })?;
        let text = self.bytes(end, field)?;
        self.bytes(1, field)?;
        Ok(text)
    }

    /// As [`Cursor::nul`], and the packet's end may stand for the NUL: servers accept that from clients, so we do.
    pub(crate) fn nul_or_end(&mut self, field: &'static str) -> Result<&'a [u8], Malformed> {
        if self.0.contains(&0) { self.nul(field) } else { Ok(self.rest()) }
    }

    /// A length-encoded integer. `None` stands for the byte 0xFB, which is NULL in text rows.
    pub(crate) fn lenenc(&mut self, field: &'static str) -> Result<Option<u64>, Malformed> {
        Ok(Some(match self.u8(field)? {
            0xFB => return Ok(None),
            0xFC => u64::from(self.u16(field)?),
            0xFD => {
                let [a, b, c] = self.array::<3>(field)?;
                u64::from(u32::from_le_bytes([a, b, c, 0]))
            }
            0xFE => u64::from_le_bytes(self.array::<8>(field)?),
            0xFF => return Err(Malformed { field, why: "0xFF begins no length" }),
            short => u64::from(short),
        }))
    }

    /// A length-encoded string; `None` is NULL.
    pub(crate) fn lenenc_bytes(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, Malformed> {
        match self.lenenc(field)? {
            None => Ok(None),
            Some(n) => {
                let n = usize::try_from(n).map_err(|_| Malformed { field, why: "its length is absurd" })?;
                self.bytes(n, field).map(Some)
            }
        }
    }
}

/// Appends a length-encoded integer.
pub(crate) fn put_lenenc(out: &mut Vec<u8>, n: u64) {
    let bytes = n.to_le_bytes();
    match n {
        0..=0xFA => out.extend_from_slice(&bytes[..1]),
        0xFB..=0xFFFF => {
            out.push(0xFC);
            out.extend_from_slice(&bytes[..2]);
        }
        0x1_0000..=0xFF_FFFF => {
            out.push(0xFD);
            out.extend_from_slice(&bytes[..3]);
        }
        _ => {
            out.push(0xFE);
            out.extend_from_slice(&bytes);
        }
    }
}

/// Appends a length-encoded string.
pub(crate) fn put_lenenc_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_lenenc(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a string and its NUL. A NUL inside would end it early and shift what follows, so such a byte is left out.
pub(crate) fn put_nul(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(bytes.iter().copied().filter(|b| *b != 0));
    out.push(0);
}
