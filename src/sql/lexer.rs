//! Cuts a statement into tokens exactly where the servers' own lexers cut it (MySQL `sql_lex.cc` behaviour, MySQL 8.4 Reference Manual "Language Structure"),
//! over bytes, without allocating. Where the two families disagree, or where the answer hangs on something we do not know, the token is
//! [`TokenKind::Bad`]: whoever wants to prove something about the statement has to give up there.
//!
//! What it is not: a parser. Keywords and identifiers are both [`TokenKind::Word`].

mod comments;

pub use super::charset::ByteCharset;
use comments::find_comment_end;
pub use comments::{exec_content, first_statement, statements};

/// Which family's grammar the servers speak. It decides only which names are built-in functions and reserved words.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Dialect {
    /// Not known: a name counts as built in only when it is built in for both.
    #[default]
    Either,
    /// MySQL 8.4 and later.
    MySql,
    /// MariaDB 10.11 and later.
    MariaDb,
}

/// The session settings that change where tokens begin and end, or what a name means. Part of every cache key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct LexMode {
    /// `sql_mode` contains ANSI_QUOTES: `"x"` is an identifier.
    pub ansi_quotes: bool,
    /// `sql_mode` contains NO_BACKSLASH_ESCAPES: `\` is an ordinary character in strings.
    pub no_backslash_escapes: bool,
    /// `sql_mode` contains IGNORE_SPACE: `count (*)` is the built-in; without it, a stored function may be meant.
    pub ignore_space: bool,
    /// `character_set_client`, as far as it hides ASCII bytes.
    pub charset: ByteCharset,
    /// The servers' family.
    pub dialect: Dialect,
}

impl LexMode {
    /// The mode a session with this `sql_mode` is in: comma separated names in quotes or not, case does not matter.
    pub fn from_sql_mode(sql_mode: &str, charset: ByteCharset, dialect: Dialect) -> LexMode {
        let mut mode = LexMode { charset, dialect, ..LexMode::default() };
        for name in sql_mode.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            // The combined modes are expanded by the server when it reports sql_mode, but not in the text of a SET.
            let combined = is("ANSI") || is("ORACLE") || is("MSSQL") || is("DB2") || is("MAXDB") || is("POSTGRESQL");
            mode.ansi_quotes |= combined || is("ANSI_QUOTES");
            mode.ignore_space |= combined || is("IGNORE_SPACE");
            mode.no_backslash_escapes |= is("NO_BACKSLASH_ESCAPES");
        }
        mode
    }

    /// All of the mode in one small number, for hashing.
    pub(crate) fn bits(self) -> u32 {
        u32::from(self.ansi_quotes)
            | u32::from(self.no_backslash_escapes) << 1
            | u32::from(self.ignore_space) << 2
            | (self.charset as u32) << 3
            | (self.dialect as u32) << 8
    }
}

/// What a token is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenKind {
    /// An unquoted keyword or identifier.
    Word,
    /// `` `x` ``, or `"x"` with ANSI_QUOTES; quotes included.
    QuotedIdent,
    /// A string literal with its quotes and an `N`, `X` or `B` prefix.
    String,
    /// A number, also `0x..` and `0b..`.
    Number,
    /// `?`
    Param,
    /// `@name`, `` @`name` ``, `@'name'`.
    UserVar,
    /// `@@name`, `@@scope.name`.
    SysVar,
    /// `(`
    LParen,
    /// `)`
    RParen,
    /// `,`
    Comma,
    /// `.` between names
    Dot,
    /// `;`
    Semicolon,
    /// Any other operator, `:=` among them.
    Op,
    /// `-- x`, `# x`, `/* x */`
    Comment,
    /// `/*! x */`, `/*M! x */`: SQL to some servers and a comment to others.
    ExecComment,
    /// `/*+ x */`
    OptimizerHint,
    /// Unterminated, or a byte that has no place here, or a place where servers disagree about what follows.
    Bad,
}

/// A token: its kind and its bytes' place in the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Whether white space or a comment stands before it. `count(` and `count (` differ, `a.into` and `a. into` too.
    pub space: bool,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

const OTHER: u8 = 0;
const SPACE: u8 = 1;
const WORD: u8 = 2;
const DIGIT: u8 = 3;
const QUOTE: u8 = 4;
const PUNCT: u8 = 5;

/// What a token that begins with this byte may be.
static START: [u8; 256] = {
    let mut table = [OTHER; 256];
    let (mut rest, mut byte): (&mut [u8], u8) = (&mut table, 0);
    while let [slot, after @ ..] = rest {
        *slot = match byte {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => SPACE,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$' | 0x80..=0xff => WORD,
            b'0'..=b'9' => DIGIT,
            b'\'' | b'"' | b'`' => QUOTE,
            b'(' | b')' | b',' | b';' | b'?' => PUNCT,
            _ => OTHER,
        };
        (rest, byte) = (after, byte.wrapping_add(1));
    }
    table
};

/// Letters, digits, `_`, `$` and everything above ASCII.
#[inline]
fn is_ident(byte: u8) -> bool {
    matches!(class_of(byte), WORD | DIGIT)
}

/// Bytes that need a look inside quotes.
static STOPS_QUOTED: [bool; 256] = {
    let mut table = [false; 256];
    let (mut rest, mut byte): (&mut [bool], u8) = (&mut table, 0);
    while let [slot, after @ ..] = rest {
        *slot = matches!(byte, b'\'' | b'"' | b'`' | b'\\' | 0 | 0x80..=0xff);
        (rest, byte) = (after, byte.wrapping_add(1));
    }
    table
};

#[inline]
fn stops_quoted(byte: u8) -> bool {
    STOPS_QUOTED.get(usize::from(byte)).copied().unwrap_or(true)
}

#[inline]
fn class_of(byte: u8) -> u8 {
    // The table has an entry for every byte.
    START.get(usize::from(byte)).copied().unwrap_or(OTHER)
}

/// The tokenizer. An iterator over [`Token`]s; it always ends, and the tokens cover everything that is not white space.
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    text: &'a [u8],
    pos: usize,
    mode: LexMode,
    /// The previous token was a word or quoted name that ended where we stand: `.5x` behind it is a name, not a number.
    after_name: bool,
    /// The previous token was a `.` that ended where we stand: what follows is a name even when it begins with a digit.
    after_dot: bool,
}

impl<'a> Lexer<'a> {
    /// A tokenizer at the beginning of `text`.
    pub fn new(text: &'a [u8], mode: LexMode) -> Lexer<'a> {
        Lexer { text, pos: 0, mode, after_name: false, after_dot: false }
    }

    #[inline]
    fn byte(&self, at: usize) -> Option<u8> {
        self.text.get(at).copied()
    }

    /// End of the run of identifier characters that begins at `at`, and whether all of its characters are characters.
    fn word_end(&self, mut at: usize) -> (usize, bool) {
        if self.mode.charset == ByteCharset::SingleOrUtf8 {
            let rest = self.text.get(at..).unwrap_or_default();
            let len = rest.iter().position(|&byte| !is_ident(byte)).unwrap_or(rest.len());
            return (at + len, true);
        }
        while let Some(byte) = self.byte(at) {
            if byte < 0x80 {
                if !is_ident(byte) {
                    break;
                }
                at += 1;
            } else if self.mode.charset.is_lead(byte) {
                match self.mode.charset.char_len(self.text.get(at..).unwrap_or_default()) {
                    Some(len) => at += len,
                    None => return (at + 1, false),
                }
            } else {
                at += 1;
            }
        }
        (at, true)
    }

    /// End of the quoted text whose opening quote stands at `at`, and whether it is closed and unambiguous.
    fn quoted_end(&self, at: usize, quote: u8, string: bool) -> (usize, bool) {
        let escapes = string && !self.mode.no_backslash_escapes;
        let multi_byte = self.mode.charset != ByteCharset::SingleOrUtf8;
        let mut i = at + 1;
        // Inside a quoted name the servers skip as many bytes as the lead byte announces, valid or not, and stop at NUL: when a quote stands among
        // those bytes, the end of the name is a matter of opinion.
        let mut well_formed = true;
        loop {
            // Most of what is quoted is plain text.
            let rest = self.text.get(i..).unwrap_or_default();
            let Some(plain) = rest.iter().position(|&byte| stops_quoted(byte)) else { break };
            i += plain;
            let Some(byte) = self.byte(i) else { break };
            if byte == quote {
                if self.byte(i + 1) == Some(quote) {
                    i += 2;
                    continue;
                }
                return (i + 1, well_formed);
            }
            if byte >= 0x80 {
                let announced = match byte {
                    0xc2..=0xdf => 1,
                    0xe0..=0xef => 2,
                    0xf0..=0xff => 3,
                    _ => 0,
                };
                let swallowed = self.text.get(i + 1..self.text.len().min(i + 1 + announced)).unwrap_or_default();
                well_formed &= string || multi_byte || !swallowed.contains(&quote);
                if multi_byte && self.mode.charset.is_lead(byte) {
                    match self.mode.charset.char_len(self.text.get(i..).unwrap_or_default()) {
                        Some(len) => {
                            i += len;
                            continue;
                        }
                        None => well_formed &= string,
                    }
                }
            } else if byte == b'\\' && escapes {
                i += 2;
                continue;
            } else if byte == 0 && !string {
                well_formed = false;
            }
            i += 1;
        }
        (self.text.len(), false)
    }

    /// A token that begins with a digit: number, or a name such as `1st`.
    fn number_or_word(&self, at: usize) -> (TokenKind, usize) {
        let digits = |mut i: usize| {
            while self.byte(i).is_some_and(|b| b.is_ascii_digit()) {
                i += 1;
            }
            i
        };
        if self.byte(at) == Some(b'0') && matches!(self.byte(at + 1), Some(b'x' | b'b')) {
            let hex = self.byte(at + 1) == Some(b'x');
            let mut i = at + 2;
            while self.byte(i).is_some_and(|b| if hex { b.is_ascii_hexdigit() } else { matches!(b, b'0' | b'1') }) {
                i += 1;
            }
            if i > at + 2 && !self.byte(i).is_some_and(is_ident) {
                return (TokenKind::Number, i);
            }
            return self.word(at);
        }
        let i = digits(at);
        match self.byte(i) {
            Some(b'.') => self.fraction(i + 1),
            Some(b'e' | b'E') => {
                let sign = usize::from(matches!(self.byte(i + 1), Some(b'+' | b'-')));
                if self.byte(i + 1 + sign).is_some_and(|b| b.is_ascii_digit()) {
                    return (TokenKind::Number, digits(i + 1 + sign));
                }
                self.word(at)
            }
            Some(byte) if is_ident(byte) => self.word(at),
            _ => (TokenKind::Number, i),
        }
    }

    /// The digits and the exponent behind a decimal point, and where they end. `1.e` and `1.5e+` without a digit are no numbers: servers'
    /// lexers drop them and go on behind the next character, so that what stands there reads otherwise than it looks.
    fn fraction(&self, at: usize) -> (TokenKind, usize) {
        let digits = |mut i: usize| {
            while self.byte(i).is_some_and(|b| b.is_ascii_digit()) {
                i += 1;
            }
            i
        };
        let i = digits(at);
        if matches!(self.byte(i), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(self.byte(i + 1), Some(b'+' | b'-')));
            let end = digits(i + 1 + sign);
            return (if end > i + 1 + sign { TokenKind::Number } else { TokenKind::Bad }, end);
        }
        (TokenKind::Number, i)
    }

    fn word(&self, at: usize) -> (TokenKind, usize) {
        let (end, valid) = self.word_end(at);
        (if valid { TokenKind::Word } else { TokenKind::Bad }, end)
    }

    /// `@name`, `@@name`, or a lone `@`. What byte beyond ASCII belongs to an unquoted name depends on the character set, and which names are
    /// one variable on a collation (`@a` with an accent may be `@a`).
    fn variable(&self, at: usize) -> (TokenKind, usize) {
        match self.byte(at + 1) {
            Some(b'@') => {
                let mut i = at + 2;
                loop {
                    let begin = i;
                    if self.byte(i) == Some(b'`') {
                        let (end, closed) = self.quoted_end(i, b'`', false);
                        if !closed {
                            return (TokenKind::Bad, end);
                        }
                        i = end;
                    } else {
                        while self.byte(i).is_some_and(|b| b < 0x80 && is_ident(b)) {
                            i += 1;
                        }
                    }
                    if i == begin {
                        return (TokenKind::Bad, i);
                    }
                    let more =
                        self.byte(i) == Some(b'.') && self.byte(i + 1).is_some_and(|b| b == b'`' || (b < 0x80 && is_ident(b)));
                    if !more {
                        return (self.ascii_name(TokenKind::SysVar, i), i);
                    }
                    i += 1;
                }
            }
            Some(quote @ (b'`' | b'\'' | b'"')) => {
                let string = quote == b'\'' || (quote == b'"' && !self.mode.ansi_quotes);
                let (end, closed) = self.quoted_end(at + 1, quote, string);
                (if closed { TokenKind::UserVar } else { TokenKind::Bad }, end)
            }
            _ => {
                let mut i = at + 1;
                while self.byte(i).is_some_and(|b| b == b'.' || (b < 0x80 && is_ident(b))) {
                    i += 1;
                }
                (self.ascii_name(TokenKind::UserVar, i), i)
            }
        }
    }

    /// The kind of an unquoted name that ends at `end`.
    fn ascii_name(&self, kind: TokenKind, end: usize) -> TokenKind {
        if self.byte(end).is_some_and(|b| b >= 0x80) { TokenKind::Bad } else { kind }
    }

    /// A comment that begins with `/*`.
    fn block_comment(&self, at: usize) -> (TokenKind, usize) {
        let Some(end) = find_comment_end(self.text, at + 2) else { return (TokenKind::Bad, self.text.len()) };
        let kind = match (self.byte(at + 2), self.byte(at + 3)) {
            (Some(b'!'), _) | (Some(b'M'), Some(b'!')) => TokenKind::ExecComment,
            (Some(b'+'), _) => TokenKind::OptimizerHint,
            _ => return (TokenKind::Comment, end),
        };
        // Servers that read the content see its strings and comments, servers that skip it only look for the end: both must find the same end.
        // (Skipping counts nested comments, also inside strings.)
        let inner = exec_content(self.text.get(at..end).unwrap_or_default()).1;
        let clean = !inner.windows(2).any(|pair| pair == b"/*")
            && Lexer::new(inner, self.mode).all(|token| {
                !matches!(token.kind, TokenKind::Bad | TokenKind::Comment | TokenKind::ExecComment | TokenKind::OptimizerHint)
            });
        (if clean { kind } else { TokenKind::Bad }, end)
    }

    fn line_end(&self, at: usize) -> usize {
        self.text.get(at..).and_then(|rest| rest.iter().position(|&b| b == b'\n')).map_or(self.text.len(), |n| at + n + 1)
    }

    fn operator(&self, at: usize, first: u8) -> (TokenKind, usize) {
        let (second, third) = (self.byte(at + 1), self.byte(at + 2));
        let len = match (first, second, third) {
            (b'<', Some(b'='), Some(b'>')) | (b'-', Some(b'>'), Some(b'>')) => 3,
            (b'<', Some(b'=' | b'>' | b'<'), _)
            | (b'>', Some(b'=' | b'>'), _)
            | (b'!' | b':', Some(b'='), _)
            | (b'|', Some(b'|'), _)
            | (b'&', Some(b'&'), _)
            | (b'-', Some(b'>'), _) => 2,
            // `\N` is NULL.
            (b'\\', Some(b'N'), _) => 2,
            // `[` quotes names in MariaDB's MSSQL mode; NUL and control characters end or break a statement; a lone `\` is no operator.
            // `:` follows labels in the bodies of routines.
            (
                b'+' | b'-' | b'*' | b'/' | b'%' | b'=' | b'<' | b'>' | b'!' | b'&' | b'|' | b'^' | b'~' | b'{' | b'}' | b':',
                _,
                _,
            ) => 1,
            _ => return (TokenKind::Bad, at + 1),
        };
        (TokenKind::Op, at + len)
    }

    fn token_at(&self, at: usize, first: u8) -> (TokenKind, usize) {
        match class_of(first) {
            WORD => {
                if matches!(first, b'n' | b'N' | b'x' | b'X' | b'b' | b'B') && self.byte(at + 1) == Some(b'\'') {
                    let (end, closed) = self.quoted_end(at + 1, b'\'', true);
                    return (if closed { TokenKind::String } else { TokenKind::Bad }, end);
                }
                // MySQL 9 reads `$$ .. $$` and `$tag$ .. $tag$` as strings, MariaDB as names.
                if first == b'$' {
                    return (TokenKind::Bad, self.word_end(at).0);
                }
                self.word(at)
            }
            DIGIT if self.after_dot => self.word(at),
            DIGIT => self.number_or_word(at),
            QUOTE => {
                let string = first == b'\'' || (first == b'"' && !self.mode.ansi_quotes);
                let (end, closed) = self.quoted_end(at, first, string);
                let kind = if string { TokenKind::String } else { TokenKind::QuotedIdent };
                (if closed { kind } else { TokenKind::Bad }, end)
            }
            PUNCT => {
                let kind = match first {
                    b'(' => TokenKind::LParen,
                    b')' => TokenKind::RParen,
                    b',' => TokenKind::Comma,
                    b';' => TokenKind::Semicolon,
                    _ => TokenKind::Param,
                };
                (kind, at + 1)
            }
            _ => match first {
                b'.' => match self.byte(at + 1) {
                    Some(next) if next.is_ascii_digit() && !(self.after_name && at == self.pos) => self.fraction(at + 1),
                    _ => (TokenKind::Dot, at + 1),
                },
                b'@' => self.variable(at),
                b'#' => (TokenKind::Comment, self.line_end(at)),
                b'-' if self.byte(at + 1) == Some(b'-') => match self.byte(at + 2) {
                    None => (TokenKind::Comment, self.text.len()),
                    Some(next) if next <= b' ' || next == 0x7f => (TokenKind::Comment, self.line_end(at + 2)),
                    // 0xA0 is a space in latin1 and its kin, so this may or may not be a comment.
                    Some(next) if next >= 0x80 => (TokenKind::Bad, at + 2),
                    Some(_) => (TokenKind::Op, at + 1),
                },
                b'/' if self.byte(at + 1) == Some(b'*') => self.block_comment(at),
                _ => self.operator(at, first),
            },
        }
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    #[inline]
    fn next(&mut self) -> Option<Token> {
        let mut at = self.pos;
        while self.byte(at).is_some_and(|b| class_of(b) == SPACE) {
            at += 1;
        }
        let first = self.byte(at)?;
        if at > self.pos {
            (self.after_dot, self.after_name) = (false, false);
        }
        let (kind, end) = self.token_at(at, first);
        // Quoted text cut short by an escape at the very end points one past it.
        let end = end.min(self.text.len());
        let token = Token { kind, space: at > self.pos, start: at, end };
        self.after_dot = kind == TokenKind::Dot;
        self.after_name = matches!(kind, TokenKind::Word | TokenKind::QuotedIdent);
        self.pos = end;
        Some(token)
    }
}

#[cfg(test)]
mod tests;
