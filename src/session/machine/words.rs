//! Single words of a statement.

use crate::sql::lexer::{LexMode, Lexer, TokenKind};

/// Whether this is the statement's last word.
pub(super) fn last_word_is(sql: &[u8], word: &[u8]) -> bool {
    let sql = sql.trim_ascii_end();
    let sql = sql.strip_suffix(b";").unwrap_or(sql).trim_ascii_end();
    sql.len() > word.len() && sql.get(sql.len() - word.len()..).is_some_and(|end| end.eq_ignore_ascii_case(word))
}

/// The second word, comments not counted; empty when there is none.
pub(super) fn second_word(sql: &[u8], mode: LexMode) -> &[u8] {
    let mut tokens = Lexer::new(sql, mode).filter(|token| !matches!(token.kind, TokenKind::Comment | TokenKind::OptimizerHint));
    tokens.nth(1).and_then(|token| sql.get(token.start..token.end)).unwrap_or_default()
}
