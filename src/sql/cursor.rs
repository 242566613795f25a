//! A place in one statement's tokens: what the readers of SET, of transaction statements and the judge share.

use super::lexer::{LexMode, Lexer, Token, TokenKind, exec_content};

/// The tokens of a text without its comments. Executable comments are read or skipped as `include` says for the n-th of them.
/// `None` when there are more than `max` tokens.
pub(crate) fn tokens(text: &[u8], mode: LexMode, max: usize, include: impl Fn(usize, &[u8]) -> bool) -> Option<Vec<Token>> {
    let mut found = Vec::with_capacity((text.len() / 4).min(max).min(1024));
    let (mut seen, mut space) = (0, false);
    for token in Lexer::new(text, mode) {
        match token.kind {
            TokenKind::Comment | TokenKind::OptimizerHint => space = true,
            TokenKind::ExecComment => {
                space = true;
                let comment = text.get(token.start..token.end).unwrap_or_default();
                if include(seen, comment) {
                    let inner = exec_content(comment).1;
                    let offset = token.end - 2 - inner.len();
                    for (n, part) in Lexer::new(inner, mode).enumerate() {
                        let space = part.space || n == 0;
                        found.push(Token { space, start: part.start + offset, end: part.end + offset, ..part });
                    }
                }
                seen += 1;
            }
            _ => {
                found.push(Token { space: token.space || space, ..token });
                space = false;
            }
        }
        if found.len() > max {
            return None;
        }
    }
    Some(found)
}

/// A place in a list of tokens.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) tokens: &'a [Token],
    pub(crate) pos: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a [u8], tokens: &'a [Token]) -> Cursor<'a> {
        Cursor { text, tokens, pos: 0 }
    }

    pub(crate) fn token(&self, ahead: usize) -> Option<Token> {
        self.tokens.get(self.pos + ahead).copied()
    }

    pub(crate) fn kind(&self) -> Option<TokenKind> {
        self.token(0).map(|token| token.kind)
    }

    pub(crate) fn bytes(&self, token: Token) -> &'a [u8] {
        self.text.get(token.start..token.end).unwrap_or_default()
    }

    pub(crate) fn at_end(&self) -> bool {
        self.pos >= self.tokens.len()
    }

    /// The word at `ahead`, if a word stands there.
    pub(crate) fn word(&self, ahead: usize) -> Option<&'a [u8]> {
        self.token(ahead).filter(|token| token.kind == TokenKind::Word).map(|token| self.bytes(token))
    }

    pub(crate) fn is_at(&self, ahead: usize, keyword: &str) -> bool {
        self.word(ahead).is_some_and(|word| word.eq_ignore_ascii_case(keyword.as_bytes()))
    }

    pub(crate) fn is(&self, keyword: &str) -> bool {
        self.is_at(0, keyword)
    }

    pub(crate) fn is_any(&self, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.is(keyword))
    }

    /// Steps over the keyword if it stands here.
    pub(crate) fn eat(&mut self, keyword: &str) -> bool {
        let found = self.is(keyword);
        self.pos += usize::from(found);
        found
    }

    pub(crate) fn eat_any(&mut self, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.eat(keyword))
    }

    /// Steps over all of the keywords, in order, or none.
    pub(crate) fn eat_all(&mut self, keywords: &[&str]) -> bool {
        let found = keywords.iter().enumerate().all(|(n, keyword)| self.is_at(n, keyword));
        self.pos += if found { keywords.len() } else { 0 };
        found
    }

    pub(crate) fn eat_kind(&mut self, kind: TokenKind) -> bool {
        let found = self.kind() == Some(kind);
        self.pos += usize::from(found);
        found
    }

    pub(crate) fn eat_op(&mut self, operator: &str) -> bool {
        let found = self.token(0).is_some_and(|token| token.kind == TokenKind::Op && self.bytes(token) == operator.as_bytes());
        self.pos += usize::from(found);
        found
    }

    /// Steps over a name, quoted or not, and returns it without quotes.
    pub(crate) fn name(&mut self) -> Option<String> {
        let token = self.token(0).filter(|token| matches!(token.kind, TokenKind::Word | TokenKind::QuotedIdent))?;
        self.pos += 1;
        Some(unquote(self.bytes(token)))
    }

    pub(crate) fn rest(&self) -> &'a [Token] {
        self.tokens.get(self.pos..).unwrap_or_default()
    }
}

/// A name without its quotes, doubled quotes halved. Bytes that are not UTF-8 are replaced.
pub(crate) fn unquote(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let quote = match text.chars().next() {
        Some(quote @ ('`' | '"' | '\'')) if text.len() >= 2 => quote,
        _ => return text.into_owned(),
    };
    let inner = text.get(1..text.len() - 1).unwrap_or_default();
    let doubled: String = [quote, quote].iter().collect();
    inner.replace(&doubled, quote.encode_utf8(&mut [0; 4]))
}

/// A user variable's name as the server compares it: without `@` and quotes, lower case.
pub(crate) fn user_variable(token: &[u8]) -> String {
    unquote(token.strip_prefix(b"@").unwrap_or(token)).to_lowercase()
}

/// Scope (`global`, `session`, ...; empty when none is written) and name of `@@scope.name`, lower case.
pub(crate) fn system_variable(token: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(token.strip_prefix(b"@@").unwrap_or(token)).replace('`', "").to_ascii_lowercase();
    match text.split_once('.') {
        Some((scope @ ("global" | "session" | "local" | "persist" | "persist_only"), name)) => (scope.to_owned(), name.to_owned()),
        _ => (String::new(), text),
    }
}
