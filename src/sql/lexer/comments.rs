//! Comments and semicolons: where a block comment ends, what an executable comment says, where one statement of several ends.

use super::{LexMode, Lexer, TokenKind};

/// Where a `/*` comment whose content begins at `from` ends (one past `*/`).
pub(super) fn find_comment_end(text: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let star = at + text.get(at..)?.iter().position(|&b| b == b'*')?;
        if text.get(star + 1) == Some(&b'/') {
            return Some(star + 2);
        }
        at = star + 1;
    }
}

/// What an executable comment or optimizer hint (whole, with its delimiters) says: the version before which it is a comment, and its content.
/// A version has five or six digits (MySQL Reference Manual, "Comments"; MariaDB "Comment Syntax").
pub fn exec_content(comment: &[u8]) -> (Option<u32>, &[u8]) {
    let inner = comment.get(2..comment.len().saturating_sub(2)).unwrap_or_default();
    let inner = inner.strip_prefix(b"M").filter(|rest| rest.first() == Some(&b'!')).unwrap_or(inner);
    let Some(rest) = inner.strip_prefix(b"!") else { return (None, inner.get(1..).unwrap_or_default()) };
    let digits = rest.iter().take(6).take_while(|b| b.is_ascii_digit()).count();
    if digits < 5 {
        return (None, rest);
    }
    let (number, content) = rest.split_at(digits);
    let version = number.iter().fold(0u32, |sum, b| sum * 10 + u32::from(b - b'0'));
    (Some(version), content)
}

/// The first statement of a text, and what stands behind its semicolon, which is empty where that holds nothing. `None` without a semicolon.
pub fn first_statement(text: &[u8], mode: LexMode) -> Option<(&[u8], &[u8])> {
    let end = Lexer::new(text, mode).find(|token| token.kind == TokenKind::Semicolon)?;
    let (first, behind) = (text.get(..end.start)?, text.get(end.end..)?);
    let any = Lexer::new(behind, mode).any(|token| token.kind != TokenKind::Comment);
    Some((first, if any { behind } else { &[] }))
}

/// Cuts a text into its statements at the top-level semicolons. Statements that hold nothing are left out.
pub fn statements(text: &[u8], mode: LexMode) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let (mut begin, mut any) = (0, false);
    for token in Lexer::new(text, mode) {
        match token.kind {
            TokenKind::Semicolon => {
                if any {
                    found.push(text.get(begin..token.start).unwrap_or_default());
                }
                (begin, any) = (token.end, false);
            }
            TokenKind::Comment => {}
            _ => any = true,
        }
    }
    if any {
        found.push(text.get(begin..).unwrap_or_default());
    }
    found
}
