//! Which client character sets hide ASCII bytes inside a character, and how long a character is in them.
//!
//! In UTF-8 and in every single-byte character set a byte below 0x80 is that ASCII character. In the five families named here the second byte of a
//! character may be `\` (0x5c) or a backquote (0x60), so a lexer that looks at bytes would see an escape or a quote that the server does not see
//! (the old `0xbf5c27` injection). Source: MySQL 8.4 Reference Manual, "Character Sets and Collations", and the code pages themselves.

/// The families of client character sets a lexer has to tell apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ByteCharset {
    /// UTF-8, every single-byte set, and the multi-byte sets whose second byte is never a quote or a backslash (ujis, eucjpms, euckr, gb2312).
    #[default]
    SingleOrUtf8,
    /// GBK: lead 0x81-0xFE, trail 0x40-0x7E and 0x80-0xFE.
    Gbk,
    /// Shift-JIS and cp932: lead 0x81-0x9F and 0xE0-0xFC, trail 0x40-0x7E and 0x80-0xFC.
    Sjis,
    /// Big5: lead 0xA1-0xF9, trail 0x40-0x7E and 0xA1-0xFE.
    Big5,
    /// GB18030: as GBK, and four-byte characters whose second and fourth bytes are digits.
    Gb18030,
}

impl ByteCharset {
    /// From the name in `SET NAMES` or `character_set_client`.
    pub fn from_name(name: &str) -> ByteCharset {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("gbk") {
            ByteCharset::Gbk
        } else if is("sjis") || is("cp932") {
            ByteCharset::Sjis
        } else if is("big5") {
            ByteCharset::Big5
        } else if is("gb18030") {
            ByteCharset::Gb18030
        } else {
            ByteCharset::SingleOrUtf8
        }
    }

    /// From the collation id of a handshake. MariaDB's NOPAD twins are the plain id plus 1024.
    pub fn from_collation_id(id: u16) -> ByteCharset {
        match id & 1023 {
            1 | 84 => ByteCharset::Big5,
            13 | 88 | 95 | 96 => ByteCharset::Sjis,
            28 | 87 => ByteCharset::Gbk,
            248..=250 if id < 1024 => ByteCharset::Gb18030,
            _ => ByteCharset::SingleOrUtf8,
        }
    }

    /// Length in bytes of the multi-byte character that begins `text`, or `None` when it begins with a byte that stands alone
    /// (or with a sequence that is no character in this set, which the server also takes byte by byte). Always `None` for [`ByteCharset::SingleOrUtf8`].
    pub(crate) fn char_len(self, text: &[u8]) -> Option<usize> {
        let (lead, trail) = (*text.first()?, text.get(1).copied());
        let two = |lead_ok: bool, trail_ok: fn(u8) -> bool| (lead_ok && trail.is_some_and(trail_ok)).then_some(2);
        match self {
            ByteCharset::SingleOrUtf8 => None,
            ByteCharset::Gbk => two((0x81..=0xfe).contains(&lead), |b| matches!(b, 0x40..=0x7e | 0x80..=0xfe)),
            ByteCharset::Sjis => two(matches!(lead, 0x81..=0x9f | 0xe0..=0xfc), |b| matches!(b, 0x40..=0x7e | 0x80..=0xfc)),
            ByteCharset::Big5 => two((0xa1..=0xf9).contains(&lead), |b| matches!(b, 0x40..=0x7e | 0xa1..=0xfe)),
            ByteCharset::Gb18030 => {
                let lead_ok = (0x81..=0xfe).contains(&lead);
                if lead_ok && trail.is_some_and(|b| b.is_ascii_digit()) {
                    let tail_ok =
                        matches!(text.get(2..4), Some([third, fourth]) if (0x81..=0xfe).contains(third) && fourth.is_ascii_digit());
                    return tail_ok.then_some(4);
                }
                two(lead_ok, |b| matches!(b, 0x40..=0x7e | 0x80..=0xfe))
            }
        }
    }

    /// May this byte begin a multi-byte character? (In Shift-JIS the half-width katakana are single high bytes.)
    pub(crate) fn is_lead(self, byte: u8) -> bool {
        match self {
            ByteCharset::SingleOrUtf8 => false,
            ByteCharset::Gbk | ByteCharset::Gb18030 => (0x81..=0xfe).contains(&byte),
            ByteCharset::Sjis => matches!(byte, 0x81..=0x9f | 0xe0..=0xfc),
            ByteCharset::Big5 => (0xa1..=0xf9).contains(&byte),
        }
    }
}
