//! Statements prepared in SQL text (`PREPARE s FROM '...'`): what executing each does, where its text can be read.

use std::sync::Arc;

use super::NAMES_MAX;
use crate::sql::classify::{Classified, classify};
use crate::sql::lexer::{LexMode, Lexer, TokenKind};
use crate::sql::literal::string_value;

/// The longest text that is kept to know what `EXECUTE` does; a longer one may do anything.
const TEXT_BYTES_MAX: usize = 16 * 1024;

type Text = (Arc<Classified>, Arc<[u8]>);

/// The prepared statements of a session, by lower-case name.
#[derive(Debug, Default)]
pub(super) struct TextPrepared {
    names: Vec<(Box<str>, Option<Text>)>,
    too_many: bool,
}

impl TextPrepared {
    /// `PREPARE name FROM ...`, whole in `sql`.
    pub(super) fn add(&mut self, name: &str, sql: &[u8], mode: LexMode) {
        self.put(name, inner(sql, mode));
    }

    /// A statement whose text cannot be read.
    pub(super) fn add_unknown(&mut self, name: &str) {
        self.put(name, None);
    }

    fn put(&mut self, name: &str, text: Option<Text>) {
        self.remove(name);
        if self.names.len() >= NAMES_MAX {
            self.too_many = true;
        } else {
            self.names.push((name.to_lowercase().into(), text));
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        let name = name.to_lowercase();
        self.names.retain(|(n, _)| **n != *name);
    }

    pub(super) fn any(&self) -> bool {
        self.too_many || !self.names.is_empty()
    }

    /// What `EXECUTE name` runs; with an empty name, what `EXECUTE IMMEDIATE '...'` does, which stands in `sql`.
    pub(super) fn executed(&self, name: &str, sql: &[u8], mode: LexMode) -> Option<Text> {
        if name.is_empty() {
            return inner(sql, mode);
        }
        let name = name.to_lowercase();
        self.names.iter().find(|(n, _)| **n == *name)?.1.clone()
    }
}

/// The statement in the one string literal behind FROM or IMMEDIATE.
fn inner(sql: &[u8], mode: LexMode) -> Option<Text> {
    let word_of = |start, end| sql.get(start..end).unwrap_or_default();
    let mut tokens = Lexer::new(sql, mode).skip_while(|token| {
        let word = word_of(token.start, token.end);
        !(token.kind == TokenKind::Word && (word.eq_ignore_ascii_case(b"FROM") || word.eq_ignore_ascii_case(b"IMMEDIATE")))
    });
    tokens.next()?;
    let literal = tokens.next().filter(|token| {
        token.kind == TokenKind::String
            || token.kind == TokenKind::QuotedIdent && word_of(token.start, token.end).starts_with(b"\"")
    })?;
    let alone = tokens
        .next()
        .is_none_or(|next| next.kind == TokenKind::Semicolon || word_of(next.start, next.end).eq_ignore_ascii_case(b"USING"));
    let text = string_value(word_of(literal.start, literal.end), mode).filter(|text| alone && text.len() <= TEXT_BYTES_MAX)?;
    let classified = classify(&text, mode);
    // What a text inside a text does is looked at no further.
    let known = !classified.effects.opaque && classified.effects.text_prepare.is_none();
    known.then(|| (Arc::new(classified), text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_known_where_it_is_one_literal() {
        let mut prepared = TextPrepared::default();
        let mode = LexMode::default();
        for (sql, text) in [
            ("PREPARE s FROM 'SET @a = ''x'''", Some("SET @a = 'x'")),
            ("prepare s from \"SELECT ?\"", Some("SELECT ?")),
            ("PREPARE s FROM @text", None),
            ("PREPARE s FROM 'SELECT ' 'a'", None),
            ("PREPARE s FROM 'CALL p()'", None),
        ] {
            prepared.add("s", sql.as_bytes(), mode);
            let found = prepared.executed("S", b"EXECUTE S USING @a", mode);
            assert_eq!(found.as_ref().map(|(_, text)| std::str::from_utf8(text).unwrap_or("")), text, "{sql}");
        }
        let immediate = prepared.executed("", b"EXECUTE IMMEDIATE 'CREATE TEMPORARY TABLE t (a INT)'", mode);
        assert_eq!(immediate.map(|(statement, _)| statement.effects.creates_temporary_tables.clone()), Some(vec!["t".to_owned()]));
        prepared.remove("s");
        assert!(!prepared.any());
    }
}
