//! Does a statement that writes call a function that may be a stored one? The proof in `query` is for reads; in what writes, a table before its columns
//! looks like a function, too.

use super::query::is_reserved_before_parenthesis;
use crate::sql::cursor::{Cursor, tokens};
use crate::sql::functions::{self, Effect};
use crate::sql::lexer::{LexMode, Token, TokenKind};

/// The most tokens looked at.
const TOKENS_MAX: usize = 100_000;

/// Whether a name stands before a parenthesis that may be a stored function, which may write anywhere.
pub(super) fn calls_unknown(text: &[u8], mode: LexMode) -> bool {
    // Too long to be read: in doubt it does.
    let Some(tokens) = tokens(text, mode, TOKENS_MAX, |_, _| true) else { return true };
    let bytes = |at: usize| tokens.get(at).and_then(|token| text.get(token.start..token.end)).unwrap_or_default();
    let kind = |at: usize| tokens.get(at).map(|token| token.kind);
    let target = target(text, &tokens);
    (0..tokens.len()).any(|at| {
        let name = matches!(kind(at), Some(TokenKind::Word | TokenKind::QuotedIdent));
        if !name || kind(at + 1) != Some(TokenKind::LParen) || Some(at) == target {
            return false;
        }
        let qualified = at > 0 && kind(at - 1) == Some(TokenKind::Dot);
        let word = kind(at) == Some(TokenKind::Word) && !qualified;
        if word && is_reserved_before_parenthesis(bytes(at)) {
            return false;
        }
        let space = tokens.get(at + 1).is_some_and(|next| next.space);
        let harmless = |effect: Effect| effect.is_read() || effect == Effect::LastInsertId;
        !(word && functions::lookup(bytes(at), space, mode).is_some_and(|found| harmless(found.effect)))
    })
}

/// Where the last part of the name behind INSERT or REPLACE stands: its columns follow in parentheses.
fn target(text: &[u8], tokens: &[Token]) -> Option<usize> {
    let mut cursor = Cursor::new(text, tokens);
    if !cursor.eat_any(&["INSERT", "REPLACE"]) {
        return None;
    }
    while cursor.eat_any(&["LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "IGNORE"]) {}
    cursor.eat("INTO");
    cursor.name()?;
    if cursor.eat_kind(TokenKind::Dot) {
        cursor.name()?;
    }
    cursor.pos.checked_sub(1)
}
