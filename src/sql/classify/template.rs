//! Judgements remembered by the text itself: most statements differ from an earlier one in a few literals only, and are
//! recognised by comparing bytes, without a token being read.
//!
//! A template is a text seen before and the places of its literals: runs of ASCII digits that were a number each, and strings
//! in plain quotes. Another text matches when it is the same byte for byte outside those places, and has there another run of
//! digits, or another string without a backslash, a quote or a byte above ASCII. Then its tokens are the same but for what
//! stands inside those literals: in front of a literal both texts are equal, so the lexer stands in the same state; the literal
//! ends at the same following byte, which could not have been a part of it (no letter, digit, `.`, quote). The digest replaces
//! both literals by `?`, so it is the same too, and with it the judgement.
//!
//! One store for each thread, so nothing is locked and no counter is shared.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use super::Classified;
use crate::sql::lexer::{ByteCharset, LexMode, Lexer, TokenKind};

/// Longest text that is kept, bytes.
const TEXT_BYTES_MAX: usize = 1024;
/// Most literals in one.
const LITERALS_MAX: usize = 16;
/// The texts of one bucket begin alike. With [`BUCKETS`] the store stays below 300 KiB.
const WAYS: usize = 4;
const BUCKETS: usize = 64;
/// How much of its beginning chooses a text's bucket.
const PREFIX_LEN: usize = 32;

/// Templates of one thread.
#[derive(Debug, Default)]
pub struct Templates {
    buckets: Vec<Vec<Template>>,
    /// Which entry of a full bucket gives way next.
    turn: usize,
}

#[derive(Debug)]
struct Template {
    text: Box<[u8]>,
    literals: Box<[Literal]>,
    mode: LexMode,
    judged: Arc<Classified>,
}

#[derive(Clone, Copy, Debug)]
struct Literal {
    start: u32,
    end: u32,
    /// The quote of a string; 0 for digits.
    quote: u8,
}

/// What a byte is to a literal of ours: nothing, a part of a name, a digit, a quote.
static KIND: [u8; 256] = {
    let mut table = [PLAIN; 256];
    let (mut rest, mut byte): (&mut [u8], u8) = (&mut table, 0);
    while let [slot, after @ ..] = rest {
        *slot = if is_quote(byte) {
            QUOTE
        } else if byte.is_ascii_digit() {
            DIGIT
        } else if goes_on(byte) {
            NAME
        } else {
            PLAIN
        };
        (rest, byte) = (after, byte.wrapping_add(1));
    }
    table
};
const PLAIN: u8 = 0;
const NAME: u8 = 1;
// From here on it may begin a literal.
const DIGIT: u8 = 2;
const QUOTE: u8 = 3;

/// By what stands before the first literal.
fn bucket(sql: &[u8]) -> usize {
    let prefix = sql.get(..PREFIX_LEN).unwrap_or(sql);
    let kind = |byte: &u8| KIND.get(usize::from(*byte)).copied().unwrap_or(PLAIN);
    // A digit inside a name (`sbtest1`) begins no literal.
    let in_name = |at: usize| {
        let before = at.checked_sub(1).and_then(|before| prefix.get(before));
        prefix.get(at).is_some_and(|byte| kind(byte) == DIGIT) && before.is_some_and(|before| kind(before) != PLAIN)
    };
    let mut at = 0;
    let len = loop {
        let next = prefix.get(at..).and_then(|rest| rest.iter().position(|byte| kind(byte) >= DIGIT));
        match next.map(|next| at + next) {
            Some(name) if in_name(name) => at = name + 1,
            begins => break begins.unwrap_or(prefix.len()),
        }
    };
    let mut hasher = foldhash::fast::FixedState::default().build_hasher();
    hasher.write(prefix.get(..len).unwrap_or_default());
    hasher.finish() as usize % BUCKETS
}

impl Templates {
    /// The judgement of a text that differs from one seen before in its literals only.
    pub fn get(&self, sql: &[u8], mode: LexMode) -> Option<&Arc<Classified>> {
        let bucket = self.buckets.get(bucket(sql))?;
        bucket.iter().find(|template| template.mode == mode && template.fits(sql)).map(|template| &template.judged)
    }

    /// Remembers a text with its judgement, if it can be told apart from others by its bytes alone. Texts with comments are
    /// not kept: there may be a hint in them.
    pub fn put(&mut self, sql: &[u8], mode: LexMode, judged: &Arc<Classified>) {
        let Some(template) = Template::of(sql, mode, judged) else { return };
        if self.buckets.is_empty() {
            self.buckets.resize_with(BUCKETS, Vec::new);
        }
        let Some(bucket) = self.buckets.get_mut(bucket(sql)) else { return };
        if bucket.len() < WAYS {
            bucket.push(template);
        } else if let Some(entry) = bucket.get_mut(self.turn % WAYS) {
            self.turn = self.turn.wrapping_add(1);
            *entry = template;
        }
    }
}

impl Template {
    fn of(sql: &[u8], mode: LexMode, judged: &Arc<Classified>) -> Option<Template> {
        // In the others a byte above ASCII may make the ASCII byte behind it a part of a character.
        if sql.len() > TEXT_BYTES_MAX || mode.charset != ByteCharset::SingleOrUtf8 {
            return None;
        }
        let mut literals = Vec::new();
        for token in Lexer::new(sql, mode) {
            let raw = sql.get(token.start..token.end)?;
            let next = sql.get(token.end).copied().unwrap_or(b' ');
            let quote = match token.kind {
                TokenKind::Number if raw.iter().all(u8::is_ascii_digit) && !goes_on(next) => 0,
                TokenKind::String if plain_string(raw) && !is_quote(next) => *raw.first()?,
                // Another literal of this kind, or at this place, may be told apart only by a lexer: these bytes must be equal.
                TokenKind::Number | TokenKind::String => continue,
                TokenKind::Comment | TokenKind::ExecComment | TokenKind::OptimizerHint | TokenKind::Bad => return None,
                _ => continue,
            };
            // Before its first byte both texts are equal, so what makes this byte begin a literal holds for both.
            literals.push(Literal { start: token.start as u32, end: token.end as u32, quote });
        }
        (literals.len() <= LITERALS_MAX).then(|| Template {
            text: sql.into(),
            literals: literals.into(),
            mode,
            // A copy of its own: the counter of a shared one would go back and forth between the threads.
            judged: Arc::new(Classified::clone(judged)),
        })
    }

    fn fits(&self, sql: &[u8]) -> bool {
        let (mut here, mut there) = (0usize, 0usize);
        for literal in &self.literals {
            let fixed = self.text.get(here..literal.start as usize).unwrap_or_default();
            let Some(rest) = sql.get(there..) else { return false };
            let Some(rest) = rest.strip_prefix(fixed) else { return false };
            let Some(len) = literal_len(rest, literal.quote) else { return false };
            here = literal.end as usize;
            there += fixed.len() + len;
        }
        self.text.get(here..) == sql.get(there..)
    }
}

/// Length of the literal at the beginning of `rest`; `None` when there is none of that kind or it needs a lexer to be read.
fn literal_len(rest: &[u8], quote: u8) -> Option<usize> {
    if quote == 0 {
        let len = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        return (len > 0).then_some(len);
    }
    let body = rest.strip_prefix(&[quote])?;
    let len = body.iter().position(|b| !is_plain(*b))?;
    (body.get(len) == Some(&quote)).then_some(len + 2)
}

/// It is in plain quotes and has nothing inside that needs a look.
fn plain_string(raw: &[u8]) -> bool {
    match raw {
        [quote, body @ .., end] => is_quote(*quote) && quote == end && body.iter().all(|b| is_plain(*b)),
        _ => false,
    }
}

/// A byte that stands for itself inside any quotes, in every charset and mode.
fn is_plain(byte: u8) -> bool {
    byte < 0x80 && byte != 0 && byte != b'\\' && !is_quote(byte)
}

const fn is_quote(byte: u8) -> bool {
    matches!(byte, b'\'' | b'"' | b'`')
}

/// Behind a number, this byte could belong to it, or make a name of it.
const fn goes_on(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'.' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::classify::classify;
    use crate::sql::digest::{DigestBuf, digest};
    use proptest::prelude::*;

    fn knows(template: &str, sql: &str) -> bool {
        let mut templates = Templates::default();
        let mode = LexMode::default();
        templates.put(template.as_bytes(), mode, &Arc::new(classify(template.as_bytes(), mode)));
        templates.get(sql.as_bytes(), mode).is_some()
    }

    #[test]
    fn texts_that_differ_in_literals_only() {
        for (template, sql, same) in [
            ("SELECT c FROM sbtest1 WHERE id=1", "SELECT c FROM sbtest1 WHERE id=20731", true),
            ("SELECT c FROM sbtest1 WHERE id=1", "SELECT c FROM sbtest2 WHERE id=1", false),
            ("SELECT c FROM t WHERE id=1", "SELECT c FROM t WHERE id=1x", false),
            ("SELECT c FROM t WHERE id=1", "SELECT c FROM t WHERE id=", false),
            ("SELECT c FROM t WHERE id=1", "SELECT c FROM t WHERE id=1 FOR UPDATE", false),
            ("SELECT c FROM t WHERE id=1 FOR UPDATE", "SELECT c FROM t WHERE id=77 FOR UPDATE", true),
            ("SELECT 1.5", "SELECT 1.5", true),
            ("SELECT 1.5", "SELECT 2.5", false),
            ("SELECT 0x1", "SELECT 0x2", false),
            ("SELECT 1e3", "SELECT 2e3", false),
            ("SELECT a FROM t WHERE b='x' AND c=2", "SELECT a FROM t WHERE b='yy' AND c=11", true),
            ("SELECT a FROM t WHERE b='x'", "SELECT a FROM t WHERE b=''", true),
            ("SELECT a FROM t WHERE b='x'", "SELECT a FROM t WHERE b='it''s'", false),
            ("SELECT a FROM t WHERE b='x'", "SELECT a FROM t WHERE b='\\'; DROP TABLE t; -- '", false),
            ("SELECT a FROM t WHERE b='x'", "SELECT a FROM t WHERE b='' FOR UPDATE -- '", false),
            ("SELECT a FROM t WHERE b='x'", "SELECT a FROM t WHERE b='ä'", false),
            ("SELECT /* c */ 1", "SELECT /* c */ 1", false),
            ("SELECT a FROM t WHERE b=1 -- x", "SELECT a FROM t WHERE b=1 -- x", false),
            ("SELECT x'00'", "SELECT x'01'", false),
        ] {
            assert_eq!(knows(template, sql), same, "{template} / {sql}");
        }
    }

    #[test]
    fn modes_are_kept_apart() {
        let mut templates = Templates::default();
        let (plain, ansi) = (LexMode::default(), LexMode { ansi_quotes: true, ..LexMode::default() });
        let sql = b"SELECT \"a\" FROM t";
        templates.put(sql, plain, &Arc::new(classify(sql, plain)));
        assert!(templates.get(b"SELECT \"b\" FROM t", plain).is_some());
        assert!(templates.get(sql, ansi).is_none());
        templates.put(sql, ansi, &Arc::new(classify(sql, ansi)));
        assert!(templates.get(b"SELECT \"b\" FROM t", ansi).is_none(), "a name is no literal");
    }

    #[test]
    fn it_stays_within_its_bounds() {
        let mut templates = Templates::default();
        let judged = Arc::new(classify(b"SELECT 1", LexMode::default()));
        for n in 0..2000 {
            templates.put(format!("SELECT c{n} FROM t").as_bytes(), LexMode::default(), &judged);
        }
        templates.put("SELECT 1,".repeat(1000).as_bytes(), LexMode::default(), &judged);
        assert!(templates.buckets.iter().map(Vec::len).sum::<usize>() <= WAYS * BUCKETS);
    }

    fn bits(seed: &[u8]) -> String {
        const BITS: &[&str] = &[
            "SELECT ",
            "a",
            "1",
            "23",
            "'x'",
            "'",
            "\"",
            "`",
            "\\",
            "''",
            " ",
            "=",
            ".",
            "e",
            "0x1",
            "-",
            "--",
            " -- ",
            "/*",
            "*/",
            "#",
            ";",
            "@",
            "@@",
            "(",
            ")",
            ",",
            "ä",
            "x'",
            "N'",
            "_utf8",
            "FOR UPDATE",
            "IN (",
            "1.",
            "5e",
            "\n",
            "?",
            "$",
            "\0",
        ];
        seed.iter().map(|b| BITS[usize::from(*b) % BITS.len()]).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        /// Whatever matches a template has its digest.
        #[test]
        fn what_matches_has_the_same_digest(
            seed in proptest::collection::vec(any::<u8>(), 1..14), changes in proptest::collection::vec((0usize..14, any::<u8>()), 0..3), ansi: bool, no_escapes: bool,
        ) {
            let mode = LexMode { ansi_quotes: ansi, no_backslash_escapes: no_escapes, ..LexMode::default() };
            let text = bits(&seed);
            let mut other = seed.clone();
            for (at, byte) in changes {
                let at = at % other.len();
                other[at] = byte;
            }
            let other = bits(&other);
            let mut templates = Templates::default();
            templates.put(text.as_bytes(), mode, &Arc::new(classify(text.as_bytes(), mode)));
            if templates.get(other.as_bytes(), mode).is_some() {
                let (mut one, mut two) = (DigestBuf::default(), DigestBuf::default());
                digest(text.as_bytes(), mode, &mut one);
                digest(other.as_bytes(), mode, &mut two);
                prop_assert_eq!(one.text, two.text, "{} / {}", text, other);
            }
        }
    }
}
