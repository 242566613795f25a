//! The judge: from a digest's text to a verdict. Looks at the first words of each statement and hands queries to the proof in `query`.

use super::body;
use super::effects::{Effects, remember};
use super::query::scan;
use super::verbs;
use super::verdict::{Class, ClassReason, Verdict};
use crate::sql::cursor::{Cursor, tokens};
use crate::sql::lexer::{LexMode, Lexer, Token, TokenKind};

/// Most tokens looked at. The digest's own limit on bytes comes first for all but odd texts.
const MAX_TOKENS: usize = 400_000;

/// Most executable comments of which every combination is judged. mysqldump's SETs have one each, its SELECTs one.
const MAX_EXEC_COMMENTS: usize = 4;

/// Longer texts are judged once or not at all: every combination would be another walk over them.
const MAX_EXEC_COMMENT_BYTES: usize = 256 * 1024;

/// Judges a digest's text, which may hold several statements and executable comments.
pub(super) fn judge(text: &[u8], mode: LexMode, truncated: bool) -> Verdict {
    if truncated {
        return opaque(Verdict::new(Class::Unknown, ClassReason::TooLong));
    }
    let comments = Lexer::new(text, mode).filter(|token| token.kind == TokenKind::ExecComment).count();
    if comments > 0 && text.len() > MAX_EXEC_COMMENT_BYTES {
        return opaque(Verdict::new(Class::Unknown, ClassReason::TooLong));
    }
    // Every server reads all comments up to some version and skips the rest, but the two families count differently: so any subset is possible.
    let masks = 1u32 << comments.min(MAX_EXEC_COMMENTS);
    let variant = |mask: u32| match tokens(text, mode, MAX_TOKENS, |n, _| n >= MAX_EXEC_COMMENTS || mask & (1 << n) != 0) {
        Some(tokens) => judge_statements(text, &tokens, mode),
        None => opaque(Verdict::new(Class::Unknown, ClassReason::TooLong)),
    };
    let mut verdict = variant(masks - 1);
    if comments == 0 {
        return verdict;
    }
    verdict.exec_comments = true;
    for mask in 0..masks - 1 {
        let other = variant(mask);
        let differs = other.class != Class::Read && other.reason != ClassReason::Empty;
        if verdict.class == Class::Read && differs {
            (verdict.class, verdict.reason) = (Class::Write, ClassReason::DependsOnVersion);
        }
        verdict.multi |= other.multi;
        verdict.effects.merge(other.effects);
    }
    if comments > MAX_EXEC_COMMENTS && verdict.class == Class::Read {
        (verdict.class, verdict.reason) = (Class::Write, ClassReason::ExecutableComments);
    }
    verdict
}

/// Marks a verdict whose effects cannot be told from the text.
pub(super) fn opaque(mut verdict: Verdict) -> Verdict {
    verdict.effects.opaque = true;
    verdict
}

fn judge_statements(text: &[u8], tokens: &[Token], mode: LexMode) -> Verdict {
    let mut parts = tokens.split(|token| token.kind == TokenKind::Semicolon).filter(|part| !part.is_empty());
    let Some(first) = parts.next() else { return Verdict::new(Class::Unknown, ClassReason::Empty) };
    let Some(second) = parts.next() else { return judge_one(text, first, mode) };
    if body::is_one_definition(Cursor::new(text, tokens)) {
        // What the body does, it does when it is called.
        return judge_one(text, first, mode);
    }
    if verbs::holds_statements(Cursor::new(text, first)) {
        // The semicolons belong to the body of a routine or block, or not: without a grammar of bodies nobody can tell.
        let mut verdict = opaque(judge_one(text, first, mode));
        verdict.multi = true;
        return verdict;
    }
    let mut verdict = Verdict::new(Class::Write, ClassReason::MultiStatement);
    verdict.multi = true;
    let mut effects = Effects::default();
    for part in [first, second].into_iter().chain(parts) {
        let one = judge_one(text, part, mode);
        effects.merge(one.effects);
        for name in one.unknown_functions {
            remember(&mut verdict.unknown_functions, name);
        }
    }
    verdict.effects = effects;
    verdict
}

/// Judges one statement.
pub(super) fn judge_one(text: &[u8], tokens: &[Token], mode: LexMode) -> Verdict {
    let mut verdict = verbs::judge(Cursor::new(text, tokens), mode);
    if tokens.iter().any(|token| token.kind == TokenKind::Bad) {
        (verdict.class, verdict.reason) = (Class::Unknown, ClassReason::DoesNotLex);
        verdict.effects.opaque = true;
    }
    verdict
}

/// Judges a SELECT, WITH, VALUES or TABLE, in parentheses or not.
pub(super) fn query(cursor: Cursor<'_>, mode: LexMode) -> Verdict {
    let mut head = cursor;
    while head.eat_kind(TokenKind::LParen) {}
    if !head.is_any(&["SELECT", "WITH", "VALUES", "TABLE"]) {
        return Verdict::new(Class::Unknown, ClassReason::DoesNotParse);
    }
    let with = head.is("WITH");
    let mut verdict = Verdict::new(Class::Read, ClassReason::PlainSelect);
    scan(cursor.text, cursor.rest(), mode, &mut verdict);
    if with && verdict.reason == ClassReason::WritingStatement {
        verdict.reason = ClassReason::WithWrite;
    }
    verdict
}
