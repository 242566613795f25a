//! What stands in the parentheses behind a name: some of MariaDB's functions are known by nothing else.

use super::Walk;
use crate::sql::lexer::{Dialect, TokenKind};

/// How far the arguments of a function are looked through. A longer call is not proved to be the built-in.
const MAX_ARGUMENT_TOKENS: usize = 4096;

/// The same for all functions of a statement together.
pub(super) const MAX_LOOK_AHEAD: usize = 64 * MAX_ARGUMENT_TOKENS;

impl Walk<'_, '_> {
    /// MariaDB knows these names only in one shape; in another they are a stored function's.
    pub(super) fn arguments_fit(&mut self, at: usize, name: &str) -> bool {
        if self.mode.dialect == Dialect::MySql {
            return true;
        }
        match name {
            "POINT" => self.arguments(at + 1) == 2,
            "LINESTRING" | "POLYGON" | "MULTIPOINT" | "MULTILINESTRING" | "MULTIPOLYGON" | "GEOMETRYCOLLECTION" => {
                self.arguments(at + 1) >= 1
            }
            "JSON_TABLE" => self.has_columns_clause(at + 1),
            _ => true,
        }
    }

    /// Looks at what stands directly in the parenthesis at `open`, token by token, until `found` says so or it closes: where that is. `None`: it does not
    /// close within what is looked at.
    fn inside(&mut self, open: usize, mut found: impl FnMut(&Self, usize) -> bool) -> Option<usize> {
        let mut depth = 0usize;
        for at in open..self.tokens.len().min(open + MAX_ARGUMENT_TOKENS.min(self.look_ahead)) {
            self.look_ahead -= 1;
            match self.kind(at) {
                Some(TokenKind::LParen) => depth += 1,
                Some(TokenKind::RParen) => depth -= 1,
                _ if depth == 1 && found(self, at) => return Some(at),
                _ => {}
            }
            if depth == 0 {
                return Some(at);
            }
        }
        None
    }

    /// How many arguments stand in the parenthesis at `open`.
    fn arguments(&mut self, open: usize) -> usize {
        let mut commas = 0;
        let end = self.inside(open, |walk, at| {
            commas += usize::from(walk.kind(at) == Some(TokenKind::Comma));
            false
        });
        match end {
            Some(end) if end > open + 1 => commas + 1,
            _ => 0,
        }
    }

    /// `(doc, path COLUMNS (`: what no call's arguments can look like.
    fn has_columns_clause(&mut self, open: usize) -> bool {
        let Some(at) = self.inside(open, |walk, at| walk.is(at, "COLUMNS")) else { return false };
        let literal = matches!(self.before(at, 1), Some(TokenKind::Param | TokenKind::String));
        self.is(at, "COLUMNS") && literal && self.kind(at + 1) == Some(TokenKind::LParen)
    }
}
