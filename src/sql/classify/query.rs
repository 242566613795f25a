//! The proof that a query reads only: one walk over its tokens. Every construct of either family's grammar by which a query can lock, assign, write,
//! hand its rows elsewhere or call code we do not know, needs a reserved word, `:=`, or a name before a parenthesis; this walk looks at all of them.

mod arguments;

use super::effects::remember;
use super::own::{IDENTITY, OWN_TABLES};
use super::verdict::{Class, ClassReason, Verdict};
use crate::sql::cursor::{system_variable, unquote, user_variable};
use crate::sql::functions::{self, Effect, MAX_NAME_BYTES, Volatility, upper_case};
use crate::sql::lexer::{Dialect, LexMode, Token, TokenKind};

/// Reserved in both families (and tried on both servers): before a parenthesis they are never somebody's function.
#[rustfmt::skip]
const PLAIN_WORDS: &[&str] = &[
    "ALL", "AND", "ANY", "AS", "ASC", "BETWEEN", "BIGINT", "BINARY", "BOOLEAN", "BY", "CASE", "COLLATE", "CROSS", "DATETIME", "DEC", "DECIMAL", "DESC", "DISTINCT",
    "DISTINCTROW", "DIV", "DOUBLE", "DUAL", "ELSE", "END", "EXCEPT", "EXISTS", "FALSE", "FETCH", "FIXED", "FLOAT", "FORCE", "FROM", "GROUP", "HAVING",
    "HIGH_PRIORITY", "IGNORE", "IN", "INDEX", "INNER", "INT", "INTEGER", "INTERSECT", "IS", "JOIN", "JSON", "KEY", "LIKE", "LIMIT", "MEDIUMINT", "NATIONAL", "NATURAL",
    "NCHAR", "NOT", "NULL", "NUMERIC", "NVARCHAR", "OFFSET", "ON", "OR", "ORDER", "OUTER", "OVER", "PARTITION", "RANGE", "REAL", "RECURSIVE", "REGEXP", "RLIKE", "ROW",
    "ROWS", "SELECT", "SIGNED", "SMALLINT", "SOME", "SOUNDS", "SQL_BIG_RESULT", "SQL_BUFFER_RESULT", "SQL_CALC_FOUND_ROWS", "SQL_NO_CACHE",
    "SQL_SMALL_RESULT", "STRAIGHT_JOIN", "TEXT", "THEN", "TINYINT", "TRUE", "UNION", "UNSIGNED", "USE", "USING", "VARBINARY", "VARCHAR", "WHEN", "WHERE", "WINDOW",
    "WITH", "XOR",
];

/// Words that begin or belong to statements that are no reads. All are reserved in both families, so none is a column or alias.
#[rustfmt::skip]
const WRITING_WORDS: &[&str] = &[
    "ALTER", "CALL", "CREATE", "DELETE", "DROP", "GRANT", "INSERT", "KILL", "LOAD", "RENAME", "REPLACE", "REVOKE", "SET", "UPDATE",
];

/// Words on which a recursive parser goes deeper although no parenthesis opens.
#[rustfmt::skip]
const OPERATOR_WORDS: &[&str] = &[
    "AND", "AT", "BETWEEN", "BINARY", "CASE", "COLLATE", "DIV", "EXCEPT", "IN", "INTERSECT", "INTERVAL", "IS", "ISNULL", "LIKE", "MINUS", "MOD", "NOT", "NOTNULL", "OR",
    "REGEXP", "RLIKE", "SIMILAR", "SOUNDS", "UNION", "XOR",
];

/// Words of statements that write, which are no function's name before a parenthesis either.
const WRITING_PLAIN_WORDS: &[&str] = &["DEFAULT", "SET", "VALUE", "VALUES", "WHERE"];

/// Whether a parenthesis behind this unquoted word is not the one of a function's arguments.
pub(super) fn is_reserved_before_parenthesis(word: &[u8]) -> bool {
    let mut buffer = [0u8; MAX_NAME_BYTES];
    let Some(upper) = upper_case(word, &mut buffer) else { return false };
    [PLAIN_WORDS, WRITING_PLAIN_WORDS].iter().any(|list| list.binary_search_by(|word| word.as_bytes().cmp(upper)).is_ok())
}

/// What an open parenthesis belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opener {
    /// SUBSTRING(x FROM 1 FOR 2)
    Substring,
    Other,
}

/// Where a WITH list stands, per parenthesis.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WithList {
    No,
    /// A name comes next.
    Name,
    /// The name was read; its columns or AS come next.
    Named,
    /// The body was read; a comma brings another name.
    Body,
}

struct Frame {
    opener: Opener,
    with: WithList,
    /// The token that opened it stands right behind AS.
    behind_as: bool,
}

/// What a join counts among the operators. No server joins more than 61 tables.
const JOIN_OPERATORS: usize = 3;

/// Walks over one statement's tokens and raises `verdict` by what it finds.
pub(super) fn scan(text: &[u8], tokens: &[Token], mode: LexMode, verdict: &mut Verdict) {
    let mut walk = Walk {
        text,
        tokens,
        mode,
        verdict,
        frames: vec![Frame { opener: Opener::Other, with: WithList::No, behind_as: false }],
        into_list: false,
        look_ahead: arguments::MAX_LOOK_AHEAD,
    };
    walk.verdict.tokens += tokens.len();
    for at in 0..tokens.len() {
        walk.step(at);
    }
}

impl Verdict {
    /// Takes over a worse class; the first reason for the worst class stays.
    pub(super) fn raise(&mut self, class: Class, reason: ClassReason) {
        let weight = |class| match class {
            Class::Read => 0,
            Class::LockingRead => 1,
            _ => 2,
        };
        if weight(class) > weight(self.class) {
            (self.class, self.reason) = (class, reason);
        }
    }
}

struct Walk<'a, 'v> {
    text: &'a [u8],
    tokens: &'a [Token],
    mode: LexMode,
    verdict: &'v mut Verdict,
    frames: Vec<Frame>,
    /// Inside `INTO @a, @b`.
    into_list: bool,
    /// How many tokens may still be looked at ahead of the walk: calls within calls must not cost their product.
    look_ahead: usize,
}

impl<'a> Walk<'a, '_> {
    fn kind(&self, at: usize) -> Option<TokenKind> {
        self.tokens.get(at).map(|token| token.kind)
    }

    fn before(&self, at: usize, back: usize) -> Option<TokenKind> {
        at.checked_sub(back).and_then(|at| self.kind(at))
    }

    fn bytes(&self, at: usize) -> &'a [u8] {
        self.tokens.get(at).and_then(|token| self.text.get(token.start..token.end)).unwrap_or_default()
    }

    fn is(&self, at: usize, keyword: &str) -> bool {
        self.kind(at) == Some(TokenKind::Word) && self.bytes(at).eq_ignore_ascii_case(keyword.as_bytes())
    }

    fn was(&self, at: usize, back: usize, keyword: &str) -> bool {
        at.checked_sub(back).is_some_and(|at| self.is(at, keyword))
    }

    fn with(&self) -> WithList {
        self.frames.last().map_or(WithList::No, |frame| frame.with)
    }

    fn set_with(&mut self, with: WithList) {
        if let Some(frame) = self.frames.last_mut() {
            frame.with = with;
        }
    }

    fn volatile(&mut self, volatility: Volatility) {
        self.verdict.volatility = self.verdict.volatility.max(volatility);
    }

    fn step(&mut self, at: usize) {
        let Some(token) = self.tokens.get(at).copied() else { return };
        if self.into_list && !matches!(token.kind, TokenKind::UserVar | TokenKind::Comma) {
            self.into_list = false;
        }
        if self.with() == WithList::Body && token.kind != TokenKind::Comma {
            // The statement itself begins: commas of its own name nothing.
            self.set_with(WithList::No);
        }
        match token.kind {
            TokenKind::Bad | TokenKind::ExecComment | TokenKind::Semicolon => {
                self.verdict.raise(Class::Unknown, ClassReason::DoesNotLex)
            }
            TokenKind::Op => {
                self.verdict.operators += 1;
                if self.bytes(at) == b":=" {
                    if self.before(at, 1) == Some(TokenKind::UserVar) {
                        let name = user_variable(self.bytes(at - 1));
                        remember(&mut self.verdict.effects.sets_user_variables, name);
                    }
                    self.verdict.raise(Class::Write, ClassReason::AssignsUserVariable);
                }
            }
            TokenKind::UserVar => {
                let name = user_variable(self.bytes(at));
                let effects = &mut self.verdict.effects;
                remember(if self.into_list { &mut effects.sets_user_variables } else { &mut effects.reads_user_variables }, name);
            }
            TokenKind::SysVar => self.system_variable(at),
            TokenKind::LParen => {
                let opener = ["SUBSTRING", "SUBSTR", "MID"].iter().any(|name| self.was(at, 1, name));
                let opener = if opener { Opener::Substring } else { Opener::Other };
                let behind_as = self.was(at, 1, "AS");
                self.frames.push(Frame { opener, with: WithList::No, behind_as });
            }
            TokenKind::RParen => {
                let closed = if self.frames.len() > 1 { self.frames.pop() } else { None };
                // `name (columns)` is still named; `AS (body)` ends one entry of the list.
                if self.with() == WithList::Named && closed.is_some_and(|frame| frame.behind_as) {
                    self.set_with(WithList::Body);
                }
            }
            TokenKind::Comma if self.with() == WithList::Body => self.set_with(WithList::Name),
            TokenKind::Word | TokenKind::QuotedIdent => self.name(at, token),
            _ => {}
        }
    }

    fn system_variable(&mut self, at: usize) {
        let (_, name) = system_variable(self.bytes(at));
        let effects = &mut self.verdict.effects;
        match name.as_str() {
            "warning_count" | "error_count" => (effects.reads_diagnostics, effects.session_bound) = (true, true),
            "last_insert_id" | "identity" => effects.reads_last_insert_id = true,
            "pseudo_thread_id" => effects.reads_connection_id = true,
            "last_gtid" => (effects.reads_last_gtid, effects.session_bound) = (true, true),
            _ => {}
        }
        effects.reads_server_state |= !IDENTITY.contains(&name.as_str());
        remember(&mut effects.reads_system_variables, name);
        self.volatile(Volatility::Server);
    }

    fn name(&mut self, at: usize, token: Token) {
        let word = self.bytes(at);
        let after_dot = self.before(at, 1) == Some(TokenKind::Dot) && !token.space;
        let call = self.kind(at + 1) == Some(TokenKind::LParen);
        let mut buffer = [0u8; MAX_NAME_BYTES];
        let upper = upper_case(word, &mut buffer).unwrap_or_default();
        let keyword = token.kind == TokenKind::Word && !after_dot;
        self.system_schema(at, word);
        // Words that write, lock or assign come first: no later rule may excuse them.
        if keyword && self.keyword(at, upper, call) {
            return;
        }
        if token.kind == TokenKind::Word {
            self.high_bytes(word);
        }
        // Behind a dot with a space (`db . f (x)`) a word has a say as one of its own, too, but is no built-in's name.
        if self.before(at, 1) == Some(TokenKind::Dot) {
            if call {
                self.unknown_function(at);
            } else if upper == b"NEXTVAL" || upper == b"CURRVAL" {
                // Oracle mode of MariaDB: s.nextval moves the sequence.
                self.sequence(upper == b"NEXTVAL");
            }
            return;
        }
        match self.with() {
            WithList::Name if !(keyword && upper == b"RECURSIVE") => return self.set_with(WithList::Named),
            _ => {}
        }
        if let Some(volatility) = functions::parenless(word).filter(|_| keyword) {
            self.volatile(volatility);
        }
        if call && !(keyword && self.harmless_before_parenthesis(at, upper)) && !self.column_list(at) {
            self.function(at, token, word);
        }
    }

    /// Handles words that mean something wherever they stand. Returns whether the word is done with.
    fn keyword(&mut self, at: usize, upper: &[u8], call: bool) -> bool {
        if OPERATOR_WORDS.iter().any(|word| word.as_bytes() == upper) {
            self.verdict.operators += 1;
        } else if upper == b"JOIN" || upper == b"STRAIGHT_JOIN" {
            self.verdict.operators += JOIN_OPERATORS;
        }
        match upper {
            b"INTO" => {
                let file = self.is(at + 1, "OUTFILE") || self.is(at + 1, "DUMPFILE");
                self.into_list = !file;
                self.verdict.raise(Class::Write, if file { ClassReason::IntoFile } else { ClassReason::IntoVariable });
            }
            b"FOR" => self.for_clause(at),
            b"LOCK" => self.verdict.raise(Class::LockingRead, ClassReason::LockInShareMode),
            b"PROCEDURE" => self.verdict.raise(Class::Write, ClassReason::ProcedureClause),
            b"SQL_CALC_FOUND_ROWS" => self.verdict.effects.calc_found_rows = true,
            b"SQL_NO_CACHE" => self.verdict.no_cache = true,
            b"WITH" => {
                // Not WITH ROLLUP, WITH QUERY EXPANSION, WITH TIES.
                if matches!(self.before(at, 1), None | Some(TokenKind::LParen)) {
                    self.set_with(WithList::Name);
                }
            }
            _ if WRITING_WORDS.binary_search_by(|word| word.as_bytes().cmp(upper)).is_ok() => {
                let function = matches!(upper, b"INSERT" | b"REPLACE")
                    && call
                    && !matches!(self.before(at, 1), None | Some(TokenKind::RParen));
                let charset = upper == b"SET" && (self.was(at, 1, "CHARACTER") || self.was(at, 1, "CHAR"));
                // FOR UPDATE locks, and was told by FOR.
                let locking = upper == b"UPDATE" && self.was(at, 1, "FOR");
                if function || charset || locking {
                    return false;
                }
                self.verdict.raise(Class::Write, ClassReason::WritingStatement);
            }
            _ => return false,
        }
        true
    }

    fn for_clause(&mut self, at: usize) {
        let after = |words: &[&str]| words.iter().any(|word| self.is(at + 1, word));
        if after(&["UPDATE"]) {
            self.verdict.raise(Class::LockingRead, ClassReason::ForUpdate);
        } else if after(&["SHARE"]) {
            self.verdict.raise(Class::LockingRead, ClassReason::ForShare);
        } else if self.was(at, 1, "VALUE") && (self.was(at, 2, "NEXT") || self.was(at, 2, "PREVIOUS")) {
            self.sequence(self.was(at, 2, "NEXT"));
        } else {
            let index_hint = after(&["JOIN", "ORDER", "GROUP"]) && (self.was(at, 1, "INDEX") || self.was(at, 1, "KEY"));
            let substring = self.frames.last().is_some_and(|frame| frame.opener == Opener::Substring);
            // JSON_TABLE(.. COLUMNS (n FOR ORDINALITY, ..))
            let ordinality = after(&["ORDINALITY"]) && matches!(self.kind(at + 2), Some(TokenKind::Comma | TokenKind::RParen));
            if !index_hint && !substring && !ordinality && !after(&["SYSTEM_TIME"]) {
                self.verdict.raise(Class::Write, ClassReason::UnknownForClause);
            }
        }
    }

    /// The next value of a sequence, or the one that this connection has taken last.
    fn sequence(&mut self, next: bool) {
        let effects = &mut self.verdict.effects;
        effects.takes_sequence_value |= next;
        effects.reads_sequence_value |= !next;
        effects.session_bound |= !next;
        self.verdict.raise(Class::Write, ClassReason::SequenceValue);
    }

    /// A byte above ASCII may be white space in a single-byte character set (0xA0 in latin1) and so cut a word in two:
    /// none of the pieces may be a word that matters.
    fn high_bytes(&mut self, word: &[u8]) {
        if word.is_ascii() {
            return;
        }
        let suspicious = word.split(|b| !b.is_ascii()).any(|piece| {
            let mut buffer = [0u8; MAX_NAME_BYTES];
            let upper = upper_case(piece, &mut buffer).unwrap_or_default();
            WRITING_WORDS.iter().chain(&["INTO", "FOR", "LOCK", "PROCEDURE", "WITH"]).any(|known| known.as_bytes() == upper)
        });
        if suspicious {
            self.verdict.raise(Class::Unknown, ClassReason::DoesNotLex);
        }
    }

    fn system_schema(&mut self, at: usize, word: &[u8]) {
        if self.kind(at + 1) == Some(TokenKind::Dot) && word.len() <= 20 {
            let name = unquote(word).to_ascii_lowercase();
            let effects = &mut self.verdict.effects;
            effects.system_schemas |= matches!(name.as_str(), "information_schema" | "performance_schema" | "mysql" | "sys");
            let own = match name.as_str() {
                // In `mysql` servers' own logs, plugins and names of other servers stand among what is replicated.
                "performance_schema" | "sys" | "mysql" => true,
                "information_schema" => {
                    let table = unquote(self.bytes(at + 2)).to_ascii_lowercase();
                    OWN_TABLES.contains(&table.as_str()) || table.starts_with("innodb_")
                }
                _ => false,
            };
            self.verdict.effects.reads_server_state |= own;
        }
    }

    /// A reserved word, which cannot be a function's name, or a word that is none in this place.
    fn harmless_before_parenthesis(&self, at: usize, upper: &[u8]) -> bool {
        if PLAIN_WORDS.binary_search_by(|word| word.as_bytes().cmp(upper)).is_ok() {
            return true;
        }
        let mysql = self.mode.dialect == Dialect::MySql;
        match upper {
            b"LATERAL" => mysql,
            // x MEMBER OF (json), FOR SYSTEM_TIME AS OF (time)
            b"OF" => mysql || self.was(at, 1, "MEMBER") || self.was(at, 1, "AS") && self.was(at, 2, "SYSTEM_TIME"),
            // JSON_TABLE(doc, '$[*]' COLUMNS (...)), x LIKE 'y' ESCAPE ('z'): a call cannot stand right behind a literal.
            b"COLUMNS" | b"ESCAPE" => mysql || matches!(self.before(at, 1), Some(TokenKind::Param | TokenKind::String)),
            b"AGAINST" => mysql || self.behind_match(at),
            _ => false,
        }
    }

    /// `MATCH a, t.b AGAINST (..)`; with parentheses around the columns it is found by [`Walk::column_list`].
    fn behind_match(&self, at: usize) -> bool {
        const MAX_COLUMN_TOKENS: usize = 128;
        let name = |at: &usize| {
            matches!(self.kind(*at), Some(TokenKind::Word | TokenKind::QuotedIdent | TokenKind::Dot | TokenKind::Comma))
        };
        (0..at).rev().take(MAX_COLUMN_TOKENS).take_while(name).any(|at| self.is(at, "MATCH"))
    }

    /// `WITH name (columns) AS`, `(SELECT ..) name (columns)`, `(SELECT ..) AS name (columns)`: a call cannot stand there.
    fn column_list(&self, at: usize) -> bool {
        let behind_parenthesis = self.before(at, 1) == Some(TokenKind::RParen);
        let behind_as = self.was(at, 1, "AS") && self.before(at, 2) == Some(TokenKind::RParen);
        behind_parenthesis || behind_as
    }

    fn function(&mut self, at: usize, token: Token, word: &[u8]) {
        let space = self.tokens.get(at + 1).is_some_and(|next| next.space);
        let known = if token.kind == TokenKind::Word { functions::lookup(word, space, self.mode) } else { None };
        let Some(found) = known else { return self.unknown_function(at) };
        if !self.arguments_fit(at, found.name) {
            return self.unknown_function(at);
        }
        self.volatile(found.volatility);
        let no_arguments = self.kind(at + 2) == Some(TokenKind::RParen);
        let effects = &mut self.verdict.effects;
        match found.effect {
            Effect::ConnectionId => effects.reads_connection_id = true,
            Effect::FoundRows => (effects.reads_found_rows, effects.session_bound) = (true, true),
            Effect::RowCount => (effects.reads_row_count, effects.session_bound) = (true, true),
            Effect::GetLock => effects.get_lock = true,
            Effect::ReleaseLock => effects.release_lock = true,
            Effect::ReleaseAllLocks => effects.release_all_locks = true,
            Effect::LastInsertId if no_arguments => effects.reads_last_insert_id = true,
            Effect::LastInsertId => {
                effects.sets_last_insert_id = true;
                self.verdict.raise(Class::Write, ClassReason::FunctionWithEffect(found.name));
            }
            Effect::Sequence if found.name == "NEXTVAL" => effects.takes_sequence_value = true,
            Effect::Sequence if found.name == "LASTVAL" => {
                (effects.reads_sequence_value, effects.session_bound) = (true, true);
            }
            _ => {}
        }
        if !found.effect.is_read() {
            self.verdict.raise(Class::Write, ClassReason::FunctionWithEffect(found.name));
        }
    }

    fn unknown_function(&mut self, at: usize) {
        let mut name = unquote(self.bytes(at));
        if self.before(at, 1) == Some(TokenKind::Dot) && at >= 2 {
            name = format!("{}.{name}", unquote(self.bytes(at - 2)));
        }
        remember(&mut self.verdict.unknown_functions, name.clone());
        self.verdict.raise(Class::Write, ClassReason::UnknownFunction(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_lists_are_sorted() {
        for list in [PLAIN_WORDS, WRITING_WORDS, OPERATOR_WORDS] {
            assert!(list.is_sorted());
        }
    }
}
