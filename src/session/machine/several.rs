//! What counts by the order of statements that came in one text: of all of them together it is not known which was the last.

use super::Session;
use crate::session::pin::PinReason;
use crate::sql::classify::{Classified, Effects, classify};
use crate::sql::lexer::{LexMode, Lexer, TokenKind, statements};

/// Each statement of a text, in order; the text itself where it is one.
fn each<'a>(statement: &'a Classified, sql: &'a [u8], mode: LexMode, mut learn: impl FnMut(&Effects, &[u8])) {
    if !statement.multi {
        return learn(&statement.effects, sql);
    }
    for one in statements(sql, mode) {
        learn(&classify(one, mode).effects, one);
    }
}

impl Session {
    /// `PREPARE`, `DEALLOCATE PREPARE`. `ok`: all of the text ended well; else what it ended may still be there.
    pub(super) fn learn_text_prepared(&mut self, statement: &Classified, sql: &[u8], ok: bool) {
        if statement.effects.text_prepare.is_some() || statement.effects.text_deallocate.is_some() {
            let (mode, multi, known) = (self.lex, statement.multi, &mut self.text_prepared);
            each(statement, sql, mode, |effects, sql| {
                match (&effects.text_prepare, multi, ok) {
                    (Some(name), true, _) => known.add_unknown(name),
                    (Some(name), false, true) => known.add(name, sql, mode),
                    // A PREPARE that fails takes an older statement of that name with it.
                    (Some(name), false, false) => known.remove(name),
                    (None, ..) => {}
                }
                if ok && let Some(name) = &effects.text_deallocate {
                    known.remove(name);
                }
            });
        }
        self.pins.set(PinReason::TextPrepared, self.text_prepared.any());
    }

    /// `HANDLER ... OPEN`, `HANDLER ... CLOSE`.
    pub(super) fn learn_handlers(&mut self, statement: &Classified, sql: &[u8], ok: bool) {
        if statement.effects.handler_open || statement.effects.handler_use {
            let handlers = &mut self.handlers;
            each(statement, sql, self.lex, |effects, sql| {
                if effects.handler_open {
                    *handlers = handlers.saturating_add(1);
                }
                if ok && effects.handler_use && last_word_is(sql, b"CLOSE") {
                    *handlers = handlers.saturating_sub(1);
                }
            });
        }
        self.pins.set(PinReason::Handler, self.handlers > 0);
    }

    /// `XA`. Among several the one that begins may have ended well.
    pub(super) fn learn_xa(&mut self, statement: &Classified, sql: &[u8], ok: bool) {
        if !statement.effects.xa {
            return;
        }
        let (mode, multi, pins) = (self.lex, statement.multi, &mut self.pins);
        each(statement, sql, mode, |effects, sql| {
            let verb = second_word(sql, mode);
            let is = |words: [&[u8]; 2]| effects.xa && words.iter().any(|word| verb.eq_ignore_ascii_case(word));
            if (ok || multi) && is([b"START", b"BEGIN"]) {
                pins.set(PinReason::Xa, true);
            }
            if ok && is([b"COMMIT", b"ROLLBACK"]) {
                pins.set(PinReason::Xa, false);
            }
        });
    }
}

fn last_word_is(sql: &[u8], word: &[u8]) -> bool {
    let sql = sql.trim_ascii_end();
    let sql = sql.strip_suffix(b";").unwrap_or(sql).trim_ascii_end();
    sql.len() > word.len() && sql.get(sql.len() - word.len()..).is_some_and(|end| end.eq_ignore_ascii_case(word))
}

/// The second word, comments not counted; empty when there is none.
fn second_word(sql: &[u8], mode: LexMode) -> &[u8] {
    let mut tokens = Lexer::new(sql, mode).filter(|token| !matches!(token.kind, TokenKind::Comment | TokenKind::OptimizerHint));
    tokens.nth(1).and_then(|token| sql.get(token.start..token.end)).unwrap_or_default()
}
