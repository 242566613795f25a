//! Statements too long to be kept: what they are is told from their beginning, and the rest is only watched as it passes.
//!
//! A beginning proves nothing to be a read, so such a statement runs on the master. What the session must know of the rest is
//! whether anything in it may leave something behind (a user variable, a lock, a second statement). [`Tail`] proves that for
//! what long statements are made of: literals, and lists of them.

use super::classify::{Class, ClassReason, Classified, classify};
use super::functions::{Effect, MAX_NAME_BYTES, lookup};
use super::lexer::{ByteCharset, LexMode, Lexer, TokenKind};

/// Words that may stand before a parenthesis and are no functions.
const BEFORE_PARENTHESIS: &[&str] =
    &["ALL", "AND", "ANY", "AS", "BETWEEN", "ELSE", "EXISTS", "IN", "LIKE", "NOT", "OR", "ROW", "THEN", "VALUE", "VALUES", "WHEN"];
/// Words that move sequences without a parenthesis.
const SEQUENCES: &[&str] = &["CURRVAL", "LASTVAL", "NEXT", "NEXTVAL", "PREVIOUS"];

/// Judges a statement by its beginning, and begins to watch the rest: `beginning` whole, and then what follows it.
pub fn classify_beginning(beginning: &[u8], mode: LexMode) -> (Classified, Tail) {
    // The last token may go on beyond the beginning, and what a name is, is told by what follows it.
    let (mut cut, mut behind_name) = (0, false);
    for token in Lexer::new(beginning, mode) {
        if !behind_name {
            cut = token.start;
        }
        behind_name = matches!(token.kind, TokenKind::Word | TokenKind::QuotedIdent);
    }
    let mut statement = classify(beginning.get(..cut).unwrap_or(beginning), mode);
    let known = statement.plain && !statement.multi && matches!(statement.class, Class::Read | Class::LockingRead | Class::Write);
    if statement.class == Class::Read || !known {
        (statement.class, statement.reason) = (Class::Unknown, ClassReason::TooLong);
    }
    let mut tail = Tail::new(mode);
    tail.inert = known && mode.charset == ByteCharset::SingleOrUtf8;
    tail.watch(beginning.get(cut..).unwrap_or_default());
    (statement, tail)
}

/// Watches text as it passes, in pieces of any length.
#[derive(Clone, Debug)]
pub struct Tail {
    mode: LexMode,
    inert: bool,
    /// The quote that ends the string or name we are in.
    quote: Option<u8>,
    /// The byte before was a backslash in a string.
    escaped: bool,
    /// What stands before, outside of quotes.
    before: Before,
    /// The word that is being read, in capitals.
    word: Vec<u8>,
    /// A `;` was seen: nothing but space may follow.
    ended: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Before {
    Nothing,
    /// A word, and whether space follows it.
    Word {
        space: bool,
    },
    /// Something in quotes that may be a name.
    Name,
    Dash,
}

impl Tail {
    fn new(mode: LexMode) -> Tail {
        let word = Vec::with_capacity(MAX_NAME_BYTES);
        Tail { mode, inert: true, quote: None, escaped: false, before: Before::Nothing, word, ended: false }
    }

    /// Whether all that has passed leaves nothing behind in the session.
    pub fn is_inert(&self) -> bool {
        self.inert
    }

    /// The next bytes.
    pub fn watch(&mut self, mut bytes: &[u8]) {
        while self.inert
            && let Some((byte, rest)) = bytes.split_first()
        {
            if let Some(quote) = self.quote {
                bytes = self.quoted(quote, bytes);
            } else {
                self.plain(*byte);
                bytes = rest;
            }
        }
    }

    /// In quotes: passes over what is neither the quote nor an escape; the rest.
    fn quoted<'b>(&mut self, quote: u8, bytes: &'b [u8]) -> &'b [u8] {
        if self.escaped {
            self.escaped = false;
            return bytes.get(1..).unwrap_or_default();
        }
        let escapes = quote != b'`' && !self.mode.no_backslash_escapes;
        let Some(at) = bytes.iter().position(|b| *b == quote || escapes && *b == b'\\') else { return &[] };
        if bytes.get(at) == Some(&quote) {
            self.quote = None;
            self.before = if quote == b'\'' { Before::Nothing } else { Before::Name };
        } else {
            self.escaped = true;
        }
        bytes.get(at + 1..).unwrap_or_default()
    }

    fn plain(&mut self, byte: u8) {
        let space = byte.is_ascii_whitespace() || byte == 0x0b;
        if self.ended && !space {
            self.inert = false;
            return;
        }
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..) {
            if self.before != (Before::Word { space: false }) {
                self.word.clear();
            }
            if self.word.len() < MAX_NAME_BYTES {
                self.word.push(byte.to_ascii_uppercase());
            }
            self.before = Before::Word { space: false };
            return;
        }
        let is = |words: &[&str], word: &[u8]| words.iter().any(|known| known.as_bytes() == word);
        if self.before == (Before::Word { space: false }) && is(SEQUENCES, &self.word) {
            self.inert = false;
        }
        self.before = match (byte, self.before) {
            (_, Before::Word { .. }) if space => Before::Word { space: true },
            (_, before) if space => {
                // "-- " begins a comment, and servers differ about what else does.
                if before == Before::Dash { Before::Nothing } else { before }
            }
            (b'(', Before::Word { space }) => {
                let builtin = lookup(&self.word, space, self.mode).is_some_and(|f| f.effect == Effect::Pure);
                self.inert &= builtin || is(BEFORE_PARENTHESIS, &self.word);
                Before::Nothing
            }
            (b'(', Before::Name) | (b'-', Before::Dash) => {
                self.inert = false;
                Before::Nothing
            }
            (b'-', _) => Before::Dash,
            (b'\'' | b'"' | b'`', _) => {
                self.quote = Some(byte);
                Before::Nothing
            }
            (b';', _) => {
                self.ended = true;
                Before::Nothing
            }
            (b',' | b'(' | b')' | b'.' | b'+' | b'=' | b'<' | b'>' | b'*' | b'?' | b'%' | b'!', _) => Before::Nothing,
            // @ : # / \ and whatever else may begin a variable, an assignment or a comment.
            _ => {
                self.inert = false;
                Before::Nothing
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inert(sql: &str, beginning: usize, mode: LexMode) -> (Class, bool) {
        let (statement, mut tail) = classify_beginning(&sql.as_bytes()[..beginning.min(sql.len())], mode);
        for piece in sql.as_bytes().get(beginning..).unwrap_or_default().chunks(3) {
            tail.watch(piece);
        }
        (statement.class, tail.is_inert())
    }

    #[test]
    fn what_long_statements_end_in() {
        let (write, unknown) = (Class::Write, Class::Unknown);
        for (sql, class, leaves_nothing) in [
            ("INSERT INTO t (a, b) VALUES (1, 'x'), (NULL, -2.5e3), (DEFAULT, x'00ff')", write, true),
            ("INSERT INTO t (a, b) VALUES (1, 'it''s; @a := GET_LOCK(1) \\' /* '), (2, \"/*\")", write, true),
            ("INSERT INTO t (a, b) VALUES (1, _binary 'x') ON DUPLICATE KEY UPDATE a = VALUES(a);  ", write, true),
            ("INSERT INTO t (a, b) VALUES (1, UPPER('x')), (2, NOW())", write, true),
            ("INSERT INTO t (a, b) VALUES (1, 'x'); SET autocommit = 0", write, false),
            ("INSERT INTO t (a, b) VALUES (1, @a := 2)", write, false),
            ("INSERT INTO t (a, b) VALUES (1, GET_LOCK('l', 1))", write, false),
            ("INSERT INTO t (a, b) VALUES (1, LAST_INSERT_ID(7))", write, false),
            ("INSERT INTO t (a, b) VALUES (1, stored(1)), (2, 3)", write, false),
            ("INSERT INTO t (a, b) VALUES (1, `stored` (1)), (2, 3)", write, false),
            ("INSERT INTO t (a, b) VALUES (1, s.nextval), (2, 3)", write, false),
            ("INSERT INTO t (a, b) VALUES (1, NEXT VALUE FOR s), (2, 3)", write, false),
            ("INSERT INTO t (a, b) VALUES (1, 2) /*! ; SET @a = 1 */", write, false),
            ("INSERT INTO t (a, b) VALUES (1, 2) -- '\n, (@a := 1)", write, false),
            ("INSERT INTO t (a, b) VALUES (1, 2) # '\n, (@a := 1)", write, false),
            ("SELECT a FROM t WHERE b IN (1, 2, 3, 4, 5)", unknown, true),
            ("SELECT a FROM t WHERE b IN (1, 2, 3, 4, 5) FOR UPDATE", unknown, true),
            ("SELECT a FROM t WHERE b IN (1, 2, 3, 4, 5) INTO @x", unknown, false),
            ("SET @a = 'something that is long', @b = 2", unknown, false),
            ("CREATE TEMPORARY TABLE t AS SELECT 1 FROM u", unknown, false),
            ("BEGIN; INSERT INTO t VALUES (1, 'x')", unknown, false),
            ("CALL something_that_is_long(1, 2, 3)", unknown, false),
        ] {
            assert_eq!(inert(sql, 33, LexMode::default()), (class, leaves_nothing), "{sql}");
        }
        let gbk = LexMode { charset: ByteCharset::Gbk, ..LexMode::default() };
        assert!(!inert("INSERT INTO t (a, b) VALUES (1, 'x')", 33, gbk).1, "a quote may be half a character");
        let plain_backslash = LexMode { no_backslash_escapes: true, ..LexMode::default() };
        let sql = "INSERT INTO t (a, b) VALUES (1, '\\'), (@a := 1), ('')";
        assert!(!inert(sql, 33, plain_backslash).1);
        assert!(inert("INSERT INTO t (a, b) VALUES (1, '\\'), (@a := 1), (')", 33, LexMode::default()).1);
    }

    #[test]
    fn wherever_the_beginning_ends_nothing_is_missed() {
        let sql = "INSERT INTO t (a, b) VALUES (1, 'it''s \\' so'), (2, GET_LOCK('x', 1))";
        for beginning in 0..sql.len() {
            let (class, leaves_nothing) = inert(sql, beginning, LexMode::default());
            assert!(!leaves_nothing && class != Class::Read, "{beginning}: {class:?}");
        }
        let sql = "INSERT INTO t VALUES (1, 'it''s \\' so'), (2, 'x')";
        for beginning in "INSERT INTO t VALUES (1,".len()..sql.len() {
            assert_eq!(inert(sql, beginning, LexMode::default()), (Class::Write, true), "{beginning}");
        }
    }
}
