//! The digest of a statement: its text with literals replaced by `?`, comments and white space normalised, and lists of literals shortened so that
//! neither the number of elements nor the number of rows matters.
//!
//! The digest keeps everything on which the classification depends: [`super::classify`] judges the digest's text, never the raw one, so two statements
//! with one digest have one class by construction. That is why a token the lexer is unsure of becomes [`BAD`], which stays unsure when read
//! again, and why `count (` keeps its space. What hangs on a literal's value (`SET autocommit = 0`, `KILL 7`) is read from the raw text by
//! [`super::set`] and [`super::transaction`].
//!
//! Cost: about a nanosecond a byte; one pass, into a buffer the caller reuses.

use std::hash::{BuildHasher, Hasher};

use super::hint::Hint;
use super::lexer::{LexMode, Lexer, TokenKind};

/// Longest digest text, bytes. Beyond it the statement is not worth remembering and is not provably anything.
pub const MAX_DIGEST_BYTES: usize = 1 << 20;

/// Capacity a buffer keeps between statements, bytes: one long statement must not cost its session memory for good.
const MAX_KEPT_BYTES: usize = 64 << 10;

/// Deepest parenthesis in which repeated groups are shortened.
const MAX_GROUP_DEPTH: usize = 16;

/// Stands for a token that cannot be told for sure. Alone, it is no SQL in either family.
pub const BAD: u8 = b'\\';

/// The seed is fixed so that digests agree between proxies and restarts; texts are compared, so a found collision gains nothing.
const HASH_SEED: u64 = 0x51_75_1c_e0_d1_9e_57;

/// A digest, in a buffer to be reused from statement to statement.
#[derive(Clone, Debug, Default)]
pub struct DigestBuf {
    /// The normalised text. Bytes as the client sent them: not always UTF-8.
    pub text: Vec<u8>,
    /// Hash of the text. A key must compare the text (and the [`LexMode`]) too.
    pub hash: u64,
    /// What hints to Sluice said; no part of the text.
    pub hint: Option<Hint>,
    /// How many statements the text holds, separated by `;`.
    pub statements: usize,
    /// The text was cut at [`MAX_DIGEST_BYTES`].
    pub truncated: bool,
}

/// One open parenthesis, as far as shortening needs it. Offsets into the output fit: it has [`MAX_DIGEST_BYTES`] and a token at most.
#[derive(Clone, Copy, Default)]
struct Group {
    /// Where its `(` stands in the output.
    start: u32,
    /// Start and end of the group that closed last inside this one.
    last: (u32, u32),
    /// It holds only literals so far, in a place where lists of literals stand.
    literals: bool,
}

/// Computes the digest of `sql` into `out`, replacing what was there.
pub fn digest(sql: &[u8], mode: LexMode, out: &mut DigestBuf) {
    out.text.clear();
    out.text.shrink_to(MAX_KEPT_BYTES);
    (out.hint, out.statements, out.truncated) = (None, 0, false);
    let mut writer =
        Writer { text: &mut out.text, groups: [Group::default(); MAX_GROUP_DEPTH], depth: 0, prev: None, list_word: false };
    let (mut pending_semicolon, mut after_comment, mut statement_open) = (false, false, false);
    for token in Lexer::new(sql, mode) {
        let raw = sql.get(token.start..token.end).unwrap_or_default();
        match token.kind {
            TokenKind::Comment => {
                if raw.starts_with(b"/*") {
                    Hint::read_comment(raw, &mut out.hint);
                }
                after_comment = true;
                continue;
            }
            TokenKind::Semicolon => {
                (pending_semicolon, statement_open) = (true, false);
                continue;
            }
            _ => {}
        }
        if !statement_open {
            (statement_open, out.statements) = (true, out.statements + 1);
        }
        if pending_semicolon {
            pending_semicolon = false;
            writer.semicolon();
        }
        let literal = matches!(token.kind, TokenKind::String | TokenKind::Number);
        if writer.text.len() + if literal { 1 } else { raw.len() } > MAX_DIGEST_BYTES {
            // The mark goes in front, where it cannot be overlooked.
            writer.text.insert(0, b' ');
            writer.text.insert(0, BAD);
            out.truncated = true;
            break;
        }
        writer.token(token.kind, raw, token.space || after_comment);
        after_comment = false;
    }
    let mut hasher = foldhash::fast::FixedState::with_seed(HASH_SEED).build_hasher();
    hasher.write(&out.text);
    out.hash = hasher.finish();
}

struct Writer<'a> {
    text: &'a mut Vec<u8>,
    /// The open parentheses; the first entry stands for the statement itself.
    groups: [Group; MAX_GROUP_DEPTH],
    depth: usize,
    prev: Option<TokenKind>,
    /// The previous token was IN, VALUES, VALUE or ROW: a parenthesis behind it opens a list.
    list_word: bool,
}

impl Writer<'_> {
    fn semicolon(&mut self) {
        self.text.push(b';');
        (self.depth, self.prev, self.list_word) = (0, Some(TokenKind::Semicolon), false);
        if let Some(top) = self.groups.first_mut() {
            *top = Group::default();
        }
    }

    #[inline]
    fn in_list(&self) -> bool {
        self.groups.get(self.depth).is_some_and(|group| group.literals)
    }

    #[inline]
    fn end_list(&mut self) {
        if let Some(group) = self.groups.get_mut(self.depth) {
            group.literals = false;
        }
    }

    #[inline]
    fn token(&mut self, kind: TokenKind, raw: &[u8], space: bool) {
        match kind {
            TokenKind::Word => {
                if self.in_list() && is_literal_word(raw) {
                    return self.literal(TokenKind::Number);
                }
                self.spacing(kind, space);
                self.text.extend_from_slice(raw);
                self.end_list();
                (self.prev, self.list_word) = (Some(kind), is_list_word(raw));
                return;
            }
            TokenKind::String | TokenKind::Number | TokenKind::Param => return self.literal(kind),
            TokenKind::LParen => return self.open(space),
            TokenKind::RParen => return self.close(),
            TokenKind::Comma => self.text.push(b','),
            TokenKind::Op
                if matches!(raw, b"-" | b"+")
                    && matches!(self.prev, Some(TokenKind::LParen | TokenKind::Comma))
                    && self.in_list() =>
            {
                return;
            }
            TokenKind::Bad => {
                self.text.extend_from_slice(&[b' ', BAD, b' ']);
                self.end_list();
            }
            _ => {
                self.spacing(kind, space);
                self.text.extend_from_slice(raw);
                self.end_list();
            }
        }
        (self.prev, self.list_word) = (Some(kind), false);
    }

    /// One space between tokens, except where none is usual; where its presence means something, as it was.
    #[inline]
    fn spacing(&mut self, kind: TokenKind, space: bool) {
        let wanted = match (self.prev, kind) {
            (None | Some(TokenKind::LParen | TokenKind::Bad), _) => false,
            (Some(TokenKind::Dot), _) => space,
            (_, TokenKind::Dot) => false,
            _ => true,
        };
        if wanted {
            self.text.push(b' ');
        }
    }

    #[inline]
    fn literal(&mut self, kind: TokenKind) {
        // 'a' 'b' is one literal.
        if kind == TokenKind::String && self.prev == Some(TokenKind::String) {
            return;
        }
        self.spacing(kind, true);
        self.text.push(b'?');
        (self.prev, self.list_word) = (Some(kind), false);
    }

    fn open(&mut self, space: bool) {
        let call = matches!(self.prev, Some(TokenKind::Word | TokenKind::QuotedIdent));
        let literals = self.list_word || matches!(self.prev, Some(TokenKind::LParen | TokenKind::Comma));
        let wanted = if call { space || self.list_word } else { self.prev.is_some_and(|prev| prev != TokenKind::LParen) };
        if wanted {
            self.text.push(b' ');
        }
        self.end_list();
        self.depth += 1;
        let start = offset(self.text.len());
        if let Some(group) = self.groups.get_mut(self.depth) {
            *group = Group { start, literals, last: (0, 0) };
        }
        self.text.push(b'(');
        (self.prev, self.list_word) = (Some(TokenKind::LParen), false);
    }

    fn close(&mut self) {
        let closed = self.groups.get(self.depth).copied().filter(|_| self.depth > 0);
        let had_content = self.prev != Some(TokenKind::LParen);
        self.depth = self.depth.saturating_sub(1);
        (self.prev, self.list_word) = (Some(TokenKind::RParen), false);
        self.text.push(b')');
        let Some(closed) = closed else { return };
        if closed.literals && had_content {
            self.text.truncate(closed.start as usize);
            self.text.extend_from_slice(b"(?)");
        }
        // A group equal to its left neighbour adds nothing: rows of VALUES, tuples of IN.
        let Some(outer) = self.groups.get_mut(self.depth) else { return };
        let (last_start, last_end) = outer.last;
        let left = self.text.get(last_start as usize..last_end as usize).unwrap_or_default();
        let between = self.text.get(last_end as usize..closed.start as usize).unwrap_or_default();
        let this = self.text.get(closed.start as usize..).unwrap_or_default();
        if !left.is_empty() && between == b", " && left == this {
            self.text.truncate(last_end as usize);
        } else {
            outer.last = (closed.start, offset(self.text.len()));
        }
    }
}

fn offset(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[inline]
fn is_literal_word(word: &[u8]) -> bool {
    match word.len() {
        4 => word.eq_ignore_ascii_case(b"NULL") || word.eq_ignore_ascii_case(b"TRUE"),
        5 => word.eq_ignore_ascii_case(b"FALSE"),
        _ => false,
    }
}

#[inline]
fn is_list_word(word: &[u8]) -> bool {
    match word.len() {
        2 => word.eq_ignore_ascii_case(b"IN"),
        3 => word.eq_ignore_ascii_case(b"ROW"),
        5 => word.eq_ignore_ascii_case(b"VALUE"),
        6 => word.eq_ignore_ascii_case(b"VALUES"),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
