//! `[[user]] schemas`: whether a statement stays within the schemas that its account may use.
//!
//! Where the parser has found all tables of a statement, those are looked at, and its stored functions. Of everything else every name that stands
//! before a dot is taken for a schema, and what names schemas in other ways (`USE`, `SHOW TABLES FROM`, `CREATE DATABASE`) is known word by
//! word: what cannot be proved to stay inside is outside. So an alias before a column is refused in a statement that the parser does not understand,
//! and nothing that names another schema passes.
//!
//! Limits, which no look at a text can pass: what a view, a trigger, a routine or a synonym of the server's own reaches. The account's privileges
//! at the servers are the wall; this is a fence before it.

use crate::auth::accounts::schema_is_among;
use crate::sql::classify::{Class, ClassReason, Classified};
use crate::sql::cursor::{tokens, unquote};
use crate::sql::lexer::{LexMode, Token, TokenKind};

/// Most tokens looked at. Those of nearly all statements are few, since a digest shortens lists.
const MAX_TOKENS: usize = 100_000;
/// With one of these a statement may name a schema without a dot.
const NAMING: [&str; 8] = ["USE", "DATABASE", "SCHEMA", "SHOW", "PREPARE", "EXECUTE", "IMMEDIATE", "CALL"];

/// A sequence may stand where the parser looks for a column: these are in the digest then.
const SEQUENCES: [&str; 5] = ["NEXTVAL", "LASTVAL", "CURRVAL", "SETVAL", "VALUE FOR"];

/// What an account may use, and how its statements are read.
#[derive(Clone, Copy, Debug)]
pub struct Schemas<'a> {
    /// The entry's `schemas`; empty: all that the servers allow.
    pub allowed: &'a [String],
    /// How the session's statements are cut into tokens.
    pub lex: LexMode,
    /// The statement is known to its end. Of a long one only the beginning is.
    pub whole: bool,
}

impl Schemas<'_> {
    /// Any schema.
    pub fn all() -> Schemas<'static> {
        Schemas { allowed: &[], lex: LexMode::default(), whole: true }
    }

    /// Why the statement may not run, if so. `current` is the session's schema.
    pub fn refuse(&self, statement: &Classified, current: Option<&[u8]>) -> Option<Outside> {
        if self.allowed.is_empty() {
            return None;
        }
        if let Some(current) = current.map(String::from_utf8_lossy)
            && !self.has(&current)
            && uses_current(statement)
        {
            return Some(Outside::Schema(current.into_owned()));
        }
        if !self.whole {
            return Some(Outside::Unknown("it is too long to be looked at whole"));
        }
        if statement.tables_complete && !Self::names_sequence(&statement.digest_text) {
            let mut tables = statement.tables.iter().filter_map(|table| table.schema.as_deref());
            return match tables.find(|schema| !self.has(schema)) {
                Some(schema) => Some(Outside::Schema(schema.to_owned())),
                None => self.functions(&statement.digest_text).err(),
            };
        }
        self.scan(statement).err()
    }

    /// `schema.function(...)`, wherever it stands.
    fn functions(&self, digest: &str) -> Result<(), Outside> {
        let text = digest.as_bytes();
        if !text.contains(&b'.') {
            return Ok(());
        }
        let tokens =
            tokens(text, self.lex, MAX_TOKENS, |_, _| true).ok_or(Outside::Unknown("it is too long to be looked at whole"))?;
        let names = Names { text, tokens: &tokens };
        for at in 1..tokens.len() {
            let calls = names.kind(at) == Some(TokenKind::Dot) && names.kind(at + 2) == Some(TokenKind::LParen);
            if calls && names.is_name(at - 1) && !names.is_behind_dot(at - 1) {
                self.allow(names.bytes(at - 1), Outside::Schema)?;
            }
        }
        Ok(())
    }

    /// Whether one of MariaDB's sequences may stand where the parser looks for a column.
    fn names_sequence(digest: &str) -> bool {
        let digest = digest.to_ascii_uppercase();
        let part = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'$' || b >= 0x80);
        SEQUENCES.iter().any(|word| {
            digest.match_indices(word).any(|(at, _)| {
                let bytes = digest.as_bytes();
                let before = at.checked_sub(1).and_then(|at| bytes.get(at).copied());
                !part(before) && !part(bytes.get(at + word.len()).copied())
            })
        })
    }

    fn has(&self, schema: &str) -> bool {
        schema_is_among(self.allowed, schema)
    }

    fn allow(&self, name: &[u8], outside: fn(String) -> Outside) -> Result<(), Outside> {
        let name = unquote(name);
        if self.has(&name) { Ok(()) } else { Err(outside(name)) }
    }

    fn scan(&self, statement: &Classified) -> Result<(), Outside> {
        match statement.reason {
            ClassReason::PreparedInText => return Err(Outside::Unknown("it prepares or runs a statement that stands in a string")),
            ClassReason::DoesNotLex | ClassReason::TooLong | ClassReason::ExecutableComments | ClassReason::DependsOnVersion => {
                return Err(Outside::Unknown("Sluice cannot read it"));
            }
            _ => {}
        }
        let text = statement.digest_text.as_bytes();
        let tokens =
            tokens(text, self.lex, MAX_TOKENS, |_, _| true).ok_or(Outside::Unknown("it is too long to be looked at whole"))?;
        let names = Names { text, tokens: &tokens };
        let has_comment = [&b"/*!"[..], b"/*M!"].iter().any(|mark| text.windows(mark.len()).any(|part| part == *mark));
        if has_comment && (0..tokens.len()).any(|at| names.kind(at) == Some(TokenKind::Dot) || names.is_any(at, &NAMING)) {
            return Err(Outside::Unknown("an executable comment in it may be read or not"));
        }
        for at in 0..tokens.len() {
            if names.kind(at) == Some(TokenKind::Dot) {
                self.dot(&names, at)?;
            } else if names.kind(at) == Some(TokenKind::Word) && !names.is_behind_dot(at) {
                self.word(&names, at, statement)?;
            }
        }
        self.shown(&names)
    }

    /// `schema.name`, or `alias.column` for all that is known.
    fn dot(&self, names: &Names<'_>, at: usize) -> Result<(), Outside> {
        let Some(before) = at.checked_sub(1) else { return Err(Outside::Unknown("it names things on all schemas")) };
        match names.kind(before) {
            // Only the first of `a.b.c` is a schema.
            Some(TokenKind::Word | TokenKind::QuotedIdent) if names.is_behind_dot(before) => Ok(()),
            Some(TokenKind::Word | TokenKind::QuotedIdent) => self.allow(names.bytes(before), Outside::Qualifier),
            _ => Err(Outside::Unknown("it names things on all schemas")),
        }
    }

    /// Words behind which a schema stands without a dot, and those behind which nobody can tell.
    fn word(&self, names: &Names<'_>, at: usize, statement: &Classified) -> Result<(), Outside> {
        if names.is(at, "USE") && !names.is_any(at + 1, &["INDEX", "KEY"]) {
            return match names.is_name(at + 1) {
                true => self.allow(names.bytes(at + 1), Outside::Schema),
                false => Err(Outside::Unknown("Sluice cannot read which schema it goes to")),
            };
        }
        if names.is_any(at, &["DATABASE", "SCHEMA"]) {
            let mut next = at + 1;
            while names.is_any(next, &["IF", "NOT", "EXISTS"]) {
                next += 1;
            }
            return if names.is_name(next) { self.allow(names.bytes(next), Outside::Schema) } else { Ok(()) };
        }
        // In the body of a routine or a block.
        let runs_text = names.is(at, "PREPARE") || names.is(at, "EXECUTE") && names.is(at + 1, "IMMEDIATE");
        if runs_text && statement.reason != ClassReason::Xa {
            return Err(Outside::Unknown("it prepares or runs a statement that stands in a string"));
        }
        Ok(())
    }

    /// `SHOW TABLES FROM schema`, `SHOW COLUMNS FROM table FROM schema` and their kin.
    fn shown(&self, names: &Names<'_>) -> Result<(), Outside> {
        for (start, _) in names.tokens.iter().enumerate().filter(|(at, _)| names.begins_statement(*at) && names.is(*at, "SHOW")) {
            let mut of_table = false;
            let mut of_schema = false;
            for at in start + 1..names.tokens.len() {
                if names.kind(at) == Some(TokenKind::Semicolon) || names.is_any(at, &["WHERE", "LIKE"]) {
                    break;
                }
                of_table |= names.is_any(at, &["COLUMNS", "FIELDS", "INDEX", "INDEXES", "KEYS"]);
                of_schema |= names.is_any(at, &["TABLES", "TABLE", "TRIGGERS", "EVENTS"]);
                if !names.is_any(at, &["FROM", "IN"]) || !names.is_name(at + 1) {
                    continue;
                }
                if of_table {
                    (of_table, of_schema) = (false, true);
                } else if of_schema {
                    self.allow(names.bytes(at + 1), Outside::Schema)?;
                }
            }
        }
        Ok(())
    }
}

/// Whether a name without a schema may stand in it: that would be in the current one.
fn uses_current(statement: &Classified) -> bool {
    statement.may_use_table
        || match statement.class {
            Class::Session | Class::Transaction => false,
            Class::Read => !matches!(statement.reason, ClassReason::PlainSelect | ClassReason::Do),
            _ => true,
        }
}

struct Names<'a> {
    text: &'a [u8],
    tokens: &'a [Token],
}

impl Names<'_> {
    fn kind(&self, at: usize) -> Option<TokenKind> {
        self.tokens.get(at).map(|token| token.kind)
    }

    fn bytes(&self, at: usize) -> &[u8] {
        self.tokens.get(at).and_then(|token| self.text.get(token.start..token.end)).unwrap_or_default()
    }

    fn is(&self, at: usize, word: &str) -> bool {
        self.kind(at) == Some(TokenKind::Word) && self.bytes(at).eq_ignore_ascii_case(word.as_bytes())
    }

    fn is_any(&self, at: usize, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(at, word))
    }

    fn is_name(&self, at: usize) -> bool {
        matches!(self.kind(at), Some(TokenKind::Word | TokenKind::QuotedIdent))
    }

    fn is_behind_dot(&self, at: usize) -> bool {
        at.checked_sub(1).is_some_and(|before| self.kind(before) == Some(TokenKind::Dot))
    }

    fn begins_statement(&self, at: usize) -> bool {
        at.checked_sub(1).is_none_or(|before| self.kind(before) == Some(TokenKind::Semicolon))
    }
}

/// Why a statement does not stay within an account's schemas.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outside {
    /// It names this schema, or it is the session's and the statement may use it.
    Schema(String),
    /// This stands before a dot, and for all that is known is a schema.
    Qualifier(String),
    /// Which schemas it uses cannot be told, and why.
    Unknown(&'static str),
}

impl Outside {
    /// What the client is told, behind `Access denied for user 'app'`.
    pub fn text(&self, allowed: &[String]) -> String {
        let allowed = allowed.join(", ");
        match self {
            Outside::Schema(schema) => {
                format!("to database '{schema}': not among the user's `schemas` in Sluice's configuration ({allowed})")
            }
            Outside::Qualifier(name) => format!(
                "to '{name}': Sluice does not understand the statement well enough to tell whether that is a schema, and it is not among \
                 the user's `schemas` in its configuration ({allowed}); an alias before a column can be left out"
            ),
            Outside::Unknown(why) => {
                format!("to this statement: the user's `schemas` in Sluice's configuration are {allowed}, and {why}")
            }
        }
    }
}

#[cfg(test)]
mod tests;
