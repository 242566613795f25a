//! COM_QUERY: where the statement's text begins, behind the attributes a client may send with it.
//!
//! Source: MySQL manual, "COM_QUERY", "Binary Protocol Value".

use super::Capabilities;
use super::command::Com;
use super::primitives::Reader;

/// What stands before the text of a statement without attributes where `QUERY_ATTRIBUTES` was agreed upon: none, in one set.
pub const NO_ATTRIBUTES: &[u8] = &[0, 1];

/// The most attributes one statement may carry.
pub const MAX_ATTRIBUTES: u64 = 0xFFFF;

/// A COM_QUERY's payload, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Query<'a> {
    /// The statement's text.
    pub text: &'a [u8],
    /// What stands between the command byte and the text: empty without `QUERY_ATTRIBUTES`.
    pub attributes: &'a [u8],
}

impl<'a> Query<'a> {
    /// Takes the payload apart; `None` when it is no COM_QUERY or its attributes are damaged.
    pub fn parse(payload: &'a [u8], caps: Capabilities) -> Option<Query<'a>> {
        let mut r = Reader::new(payload);
        if r.u8()? != Com::Query.byte() {
            return None;
        }
        let behind_command = r.peek_rest();
        if caps.has(Capabilities::QUERY_ATTRIBUTES) {
            each_attribute(&mut r, &mut |_, _| {})?;
        }
        let attributes = behind_command.get(..behind_command.len() - r.remaining())?;
        Some(Query { text: r.rest(), attributes })
    }

    /// The value of a text attribute.
    pub fn attribute(&self, name: &str) -> Option<&'a [u8]> {
        let mut found = None;
        if self.has_attributes() {
            each_attribute(&mut Reader::new(self.attributes), &mut |is, value| {
                if is == name.as_bytes() {
                    found = value;
                }
            })?;
        }
        found
    }

    /// Whether any attribute was sent.
    pub fn has_attributes(&self) -> bool {
        self.attributes.first().is_some_and(|count| *count != 0)
    }
}

/// The text of a COM_QUERY on a connection with `caps`; `None` when its attributes are damaged.
pub fn text(payload: &[u8], caps: Capabilities) -> Option<&[u8]> {
    if caps.has(Capabilities::QUERY_ATTRIBUTES) {
        return Query::parse(payload, caps).map(|query| query.text);
    }
    payload.get(1..)
}

/// Reads them, and tells each by its name; its value when that is text.
fn each_attribute<'a>(r: &mut Reader<'a>, tell: &mut dyn FnMut(&'a [u8], Option<&'a [u8]>)) -> Option<()> {
    let count = r.lenenc_int().filter(|count| *count <= MAX_ATTRIBUTES)? as usize;
    // The number of parameter sets: always 1.
    if r.lenenc_int()? != 1 {
        return None;
    }
    if count == 0 {
        return Some(());
    }
    let nulls = r.bytes(count.div_ceil(8))?;
    // Types must be sent: a statement's text is only sent once.
    if r.u8()? != 1 {
        return None;
    }
    let mut types = *r;
    for _ in 0..count {
        r.u16()?;
        r.lenenc_bytes()?;
    }
    for n in 0..count {
        let [kind, _sign] = types.u16()?.to_le_bytes();
        let name = types.lenenc_bytes()?;
        let null = nulls.get(n / 8).is_some_and(|byte| byte & (1 << (n % 8)) != 0);
        let value = if null { None } else { skip_binary_value(r, kind)? };
        tell(name, value);
    }
    Some(())
}

/// Skips one value of the binary protocol by its column type, and gives it when it is text.
pub(super) fn skip_binary_value<'a>(r: &mut Reader<'a>, kind: u8) -> Option<Option<&'a [u8]>> {
    let len = match kind {
        0x06 => 0,                                         // NULL
        0x01 => 1,                                         // TINY
        0x02 | 0x0d => 2,                                  // SHORT, YEAR
        0x03 | 0x04 | 0x09 => 4,                           // LONG, FLOAT, INT24
        0x05 | 0x08 => 8,                                  // DOUBLE, LONGLONG
        0x07 | 0x0a | 0x0b | 0x0c => usize::from(r.u8()?), // TIMESTAMP, DATE, TIME, DATETIME
        _ => return r.lenenc_bytes().map(Some),
    };
    r.bytes(len).map(|_| None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::type_complexity, reason = "tables of cases")]

    use super::*;

    const ATTRIBUTES: Capabilities = Capabilities::QUERY_ATTRIBUTES;

    #[test]
    fn where_the_text_begins() {
        let table: &[(&[u8], Capabilities, Option<(&[u8], bool)>)] = &[
            (b"\x03select 1", Capabilities::NONE, Some((b"select 1", false))),
            (b"\x03\x00\x01select 1", ATTRIBUTES, Some((b"select 1", false))),
            (b"\x03\x01\x01\x00\x01\x08\x00\x03abc12345678select 1", ATTRIBUTES, Some((b"select 1", true))),
            (b"\x03\x02\x01\x01\x01\x08\x00\x01a\xfe\x00\x01b\x02xyselect 1", ATTRIBUTES, Some((b"select 1", true))),
            (b"\x03\x01\x01\x00\x01\x0c\x00\x01d\x04\xe4\x07\x01\x02select 1", ATTRIBUTES, Some((b"select 1", true))),
            (b"\x03\x00\x02select 1", ATTRIBUTES, None),
            (b"\x03\x01\x01\x00\x01\x08\x00\x03abc123", ATTRIBUTES, None),
            (b"\x03\x01\x01\x00\x00select 1", ATTRIBUTES, None),
            (b"\x03", ATTRIBUTES, None),
            (b"\x0e", Capabilities::NONE, None),
            (b"", Capabilities::NONE, None),
        ];
        for (payload, caps, expected) in table {
            let got = Query::parse(payload, *caps);
            assert_eq!(got.map(|q| (q.text, q.has_attributes())), *expected, "{payload:?}");
        }
    }

    #[test]
    fn attributes_by_name() {
        let payload = b"\x03\x03\x01\x04\x01\x08\x00\x01a\xfe\x00\x01b\xfe\x00\x01c12345678\x02xyselect 1";
        let query = Query::parse(payload, ATTRIBUTES).unwrap();
        assert_eq!(query.text, b"select 1");
        assert_eq!(query.attribute("b"), Some(&b"xy"[..]));
        for none in ["a", "c", "d", ""] {
            assert_eq!(query.attribute(none), None, "{none}");
        }
    }
}
