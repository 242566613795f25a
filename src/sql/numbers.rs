//! Whole numbers in a text that stand for something else at the server that reads it.

use super::cursor::tokens;
use super::lexer::{LexMode, TokenKind};

/// Texts with more tokens are left as they are.
const TOKENS_MAX: usize = 2_000;

/// The text with every whole number `n` for which `of(n)` tells another replaced by that. `None`: there is none.
pub fn replaced(sql: &[u8], mode: LexMode, mut of: impl FnMut(u64) -> Option<u64>) -> Option<Vec<u8>> {
    let found = tokens(sql, mode, TOKENS_MAX, |_, _| false)?;
    let mut out = Vec::new();
    let mut copied = 0;
    for token in found.iter().filter(|token| token.kind == TokenKind::Number) {
        let written = sql.get(token.start..token.end)?;
        let Some(other) = std::str::from_utf8(written).ok().and_then(|text| text.parse().ok()).and_then(&mut of) else { continue };
        out.extend_from_slice(sql.get(copied..token.start)?);
        out.extend_from_slice(other.to_string().as_bytes());
        copied = token.end;
    }
    if copied == 0 {
        return None;
    }
    out.extend_from_slice(sql.get(copied..)?);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_alone_are_replaced() {
        let of = |n: u64| (n == 1_073_741_850).then_some(17);
        for (sql, expected) in [
            ("SELECT 1073741850", Some("SELECT 17")),
            ("SELECT a FROM p WHERE id=1073741850 AND b IN (2,1073741850)", Some("SELECT a FROM p WHERE id=17 AND b IN (2,17)")),
            ("SELECT '1073741850', `1073741850`, 1073741850.0, 10737418500, x1073741850, 1 -- 1073741850", None),
            ("SELECT 1", None),
        ] {
            let found = replaced(sql.as_bytes(), LexMode::default(), of).map(|text| String::from_utf8(text).expect("text"));
            assert_eq!(found.as_deref(), expected, "{sql}");
        }
    }
}
