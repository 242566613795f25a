//! What a string literal says.
//! Source: MySQL 8.4 Reference Manual, "String Literals"; MariaDB "String Literals".

use super::lexer::LexMode;

/// The value of one quoted literal as bytes; `None` when it is none, or when its charset could hide half a character behind a
/// backslash.
pub fn string_value(literal: &[u8], mode: LexMode) -> Option<Vec<u8>> {
    let quote = *literal.first().filter(|b| matches!(b, b'\'' | b'"'))?;
    let inner = literal.get(1..literal.len().checked_sub(1)?)?;
    if literal.len() < 2 || *literal.last()? != quote {
        return None;
    }
    let escapes = !mode.no_backslash_escapes && inner.contains(&b'\\');
    if escapes && !inner.is_ascii() {
        return None;
    }
    let mut value = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte == quote {
            // Only doubled quotes stand inside.
            bytes.next().filter(|b| *b == quote)?;
            value.push(quote);
        } else if byte == b'\\' && escapes {
            match bytes.next()? {
                b'0' => value.push(0),
                b'b' => value.push(8),
                b'n' => value.push(b'\n'),
                b'r' => value.push(b'\r'),
                b't' => value.push(b'\t'),
                b'Z' => value.push(26),
                other @ (b'%' | b'_') => value.extend_from_slice(&[b'\\', other]),
                other => value.push(other),
            }
        } else {
            value.push(byte);
        }
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_literals_say() {
        let plain = LexMode::default();
        let raw = LexMode { no_backslash_escapes: true, ..LexMode::default() };
        for (literal, mode, value) in [
            ("'abc'", plain, Some("abc")),
            ("''", plain, Some("")),
            ("'it''s'", plain, Some("it's")),
            ("\"a\"\"b'\"", plain, Some("a\"b'")),
            (r"'a\nb\'c\\'", plain, Some("a\nb'c\\")),
            (r"'a\n'", raw, Some(r"a\n")),
            (r"'100\%'", plain, Some(r"100\%")),
            ("abc", plain, None),
            ("'", plain, None),
            ("'a'b'", plain, None),
        ] {
            let said = string_value(literal.as_bytes(), mode);
            assert_eq!(said.as_deref().map(String::from_utf8_lossy).as_deref(), value, "{literal}");
        }
    }
}
