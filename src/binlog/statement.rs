//! What a statement in the log changes, by its text. It was run and logged as it stands, so what is not understood changed anything.

use super::machine::Why;
use crate::sql::ByteCharset;
use crate::sql::classify::{Class, ClassReason, TableName, classify_digest};
use crate::sql::cursor::{Cursor, tokens};
use crate::sql::digest::{DigestBuf, digest};
use crate::sql::lexer::{Dialect, LexMode, Token, TokenKind};
use crate::topology::Flavor;

use super::event::Query;

/// A definition longer than this, in bytes, is not read.
const DEFINITION_LEN_MAX: usize = 256 << 10;
/// The most tokens looked at.
const TOKENS_MAX: usize = 100_000;

/// Schema and table.
pub type Table = (String, String);

/// What a statement in the log does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// A transaction begins.
    Begin,
    /// It ends; if by a rollback, tables that know no transactions were changed.
    End,
    /// A transaction by `XA` begins.
    XaBegin,
    /// A prepared transaction is committed or rolled back; by its name.
    XaEnd(String),
    /// No table's rows and no definition.
    Nothing,
    /// Rows of these tables, and perhaps what their triggers write.
    Rows(Vec<Table>),
    /// These tables were made, changed, emptied, renamed or dropped. The flag: rows of the same transaction follow.
    Defined(Vec<Table>, bool),
    /// Anything.
    Everything(Why),
}

/// Reads a statement. `lower`: the server keeps names in lower case.
pub fn said(query: &Query<'_>, flavor: Flavor, lower: bool) -> Said {
    let mode = mode(query, flavor);
    let unknown = Said::Everything(Why::UnknownTables);
    let names = Names { schema: query.schema, utf8: is_utf8(query.charset), lower };
    let begins = |word: &str| query.text.get(..word.len()).is_some_and(|text| text.eq_ignore_ascii_case(word.as_bytes()));
    // What the server itself writes around transactions, without lexing it.
    match query.text.as_ref() {
        b"BEGIN" => return Said::Begin,
        b"COMMIT" | b"ROLLBACK" => return Said::End,
        _ => {}
    }
    if query.text.len() > DEFINITION_LEN_MAX || ["INSERT", "UPDATE", "DELETE", "REPLACE"].iter().any(|word| begins(word)) {
        return rows(&query.text, mode, &names).unwrap_or(unknown);
    }
    let Some(tokens) = tokens(&query.text, mode, TOKENS_MAX, |_, _| true) else { return unknown };
    if tokens.iter().any(|token| token.kind == TokenKind::Bad) {
        return unknown;
    }
    let cursor = Cursor::new(&query.text, &tokens);
    if cursor.is_any(&["INSERT", "UPDATE", "DELETE", "REPLACE", "WITH"]) {
        return rows(&query.text, mode, &names).unwrap_or(unknown);
    }
    other(cursor, &names).unwrap_or(unknown)
}

fn mode(query: &Query<'_>, flavor: Flavor) -> LexMode {
    let has = |bit: u64| query.sql_mode & bit != 0;
    LexMode {
        ansi_quotes: has(4),
        ignore_space: has(8),
        no_backslash_escapes: has(1 << 20),
        charset: query.charset.map_or_else(ByteCharset::default, ByteCharset::from_collation_id),
        dialect: match flavor {
            Flavor::MySql => Dialect::MySql,
            Flavor::MariaDb => Dialect::MariaDb,
        },
    }
}

/// Whether the statement's names are UTF-8, by the collation id of its character set. MariaDB's twins without padding are the plain ids plus 1024,
/// those of its newer Unicode versions begin at 2048.
fn is_utf8(charset: Option<u16>) -> bool {
    match charset {
        None => true,
        Some(2048..=2559) => true,
        Some(id) => matches!(id & 1023, 33 | 45 | 46 | 83 | 76 | 192..=247 | 255..=323),
    }
}

/// How names are completed.
struct Names<'a> {
    schema: &'a [u8],
    utf8: bool,
    lower: bool,
}

impl Names<'_> {
    fn table(&self, name: TableName) -> Option<Table> {
        let schema = match name.schema {
            Some(schema) => schema,
            // The default schema is logged in UTF-8, whatever the statement is in.
            None => return self.spell(std::str::from_utf8(self.schema).ok()?.to_owned(), name.name),
        };
        if !schema.is_ascii() && !self.utf8 {
            return None;
        }
        self.spell(schema, name.name)
    }

    fn spell(&self, schema: String, table: String) -> Option<Table> {
        let readable = !schema.contains('\u{FFFD}') && !table.contains('\u{FFFD}') && (table.is_ascii() || self.utf8);
        if schema.is_empty() || table.is_empty() || !readable {
            return None;
        }
        Some(if self.lower { (schema.to_lowercase(), table.to_lowercase()) } else { (schema, table) })
    }

    fn all(&self, names: Vec<TableName>) -> Option<Vec<Table>> {
        names.into_iter().map(|name| self.table(name)).collect()
    }
}

/// INSERT, UPDATE, DELETE, REPLACE: all tables they name, or `None` when those may not be all.
fn rows(text: &[u8], mode: LexMode, names: &Names<'_>) -> Option<Said> {
    let mut buf = DigestBuf::default();
    digest(text, mode, &mut buf);
    let classified = classify_digest(&buf, mode);
    let writes = classified.class == Class::Write && classified.reason == ClassReason::WritingStatement;
    if !writes || !classified.tables_complete || classified.tables.is_empty() || classified.calls_unknown {
        return None;
    }
    names.all(classified.tables).map(Said::Rows)
}

fn table(cursor: &mut Cursor<'_>) -> Option<TableName> {
    let first = cursor.name()?;
    if cursor.eat_kind(TokenKind::Dot) {
        return Some(TableName { schema: Some(first), name: cursor.name()? });
    }
    Some(TableName { schema: None, name: first })
}

/// All that is neither a transaction's frame nor plain DML. `None`: not understood.
fn other(mut cursor: Cursor<'_>, names: &Names<'_>) -> Option<Said> {
    let first = cursor.word(0)?.to_ascii_uppercase();
    let text = cursor.text;
    cursor.pos += 1;
    match first.as_slice() {
        b"BEGIN" | b"START" => Some(Said::Begin),
        b"COMMIT" => Some(Said::End),
        b"ROLLBACK" if cursor.is("TO") || cursor.is_at(1, "TO") => Some(Said::Nothing),
        b"ROLLBACK" => Some(Said::End),
        b"SAVEPOINT" | b"RELEASE" => Some(Said::Nothing),
        b"XA" => xa(cursor),
        b"LOAD" => load(cursor, names),
        b"CREATE" => create(cursor, names),
        b"DROP" => drop_statement(cursor, names),
        b"ALTER" => alter(cursor, names),
        b"RENAME" => rename(cursor, names),
        b"TRUNCATE" => {
            cursor.eat("TABLE");
            Some(Said::Defined(vec![names.table(table(&mut cursor)?)?], false))
        }
        b"GRANT" | b"REVOKE" => Some(Said::Everything(Why::Grants)),
        b"SET" if cursor.is_any(&["PASSWORD", "DEFAULT"]) => Some(Said::Everything(Why::Grants)),
        b"FLUSH" => {
            let grants = text.windows(10).any(|part| part.eq_ignore_ascii_case(b"PRIVILEGES"));
            Some(if grants { Said::Everything(Why::Grants) } else { Said::Nothing })
        }
        // Statistics and files are made anew, rows stay what they are.
        b"ANALYZE" | b"OPTIMIZE" => Some(Said::Nothing),
        _ => None,
    }
}

/// `XA START x`, `XA END x`, `XA PREPARE x`, `XA COMMIT x`, `XA ROLLBACK x`
fn xa(mut cursor: Cursor<'_>) -> Option<Said> {
    if cursor.eat_any(&["START", "BEGIN"]) {
        return Some(Said::XaBegin);
    }
    if cursor.eat_any(&["END", "PREPARE"]) {
        return Some(Said::Nothing);
    }
    if !cursor.eat_any(&["COMMIT", "ROLLBACK"]) {
        return None;
    }
    let name: Vec<u8> = cursor.rest().iter().flat_map(|token| cursor.bytes(*token)).map(u8::to_ascii_lowercase).collect();
    Some(Said::XaEnd(String::from_utf8_lossy(&name).into_owned()))
}

/// `LOAD DATA .. INTO TABLE t ..`
fn load(mut cursor: Cursor<'_>, names: &Names<'_>) -> Option<Said> {
    while !cursor.at_end() {
        if cursor.eat_all(&["INTO", "TABLE"]) {
            let name = table(&mut cursor)?;
            // SET column = expression: the expression may call anything.
            let rest = cursor
                .rest()
                .iter()
                .any(|token| token.kind == TokenKind::Word && cursor.bytes(*token).eq_ignore_ascii_case(b"SET"));
            return if rest { None } else { Some(Said::Rows(vec![names.table(name)?])) };
        }
        cursor.pos += 1;
    }
    None
}

/// Routines, triggers, events and views: statements mean something else than before.
fn is_code(cursor: &Cursor<'_>) -> bool {
    const WORDS: [&str; 9] = ["VIEW", "TRIGGER", "PROCEDURE", "FUNCTION", "EVENT", "PACKAGE", "LIBRARY", "SERVER", "AGGREGATE"];
    // DEFINER = `a`@`b` SQL SECURITY DEFINER, ALGORITHM = MERGE and OR REPLACE stand before them.
    (0..16).any(|ahead| WORDS.iter().any(|word| cursor.is_at(ahead, word)))
}

fn is_account(cursor: &Cursor<'_>) -> bool {
    cursor.is_any(&["USER", "ROLE"])
}

fn create(mut cursor: Cursor<'_>, names: &Names<'_>) -> Option<Said> {
    cursor.eat_all(&["OR", "REPLACE"]);
    if is_account(&cursor) {
        return Some(Said::Everything(Why::Grants));
    }
    if cursor.is_any(&["DATABASE", "SCHEMA"]) {
        return Some(Said::Everything(Why::Ddl));
    }
    let temporary = cursor.eat("TEMPORARY");
    if cursor.eat_any(&["TABLE", "SEQUENCE"]) {
        cursor.eat_all(&["IF", "NOT", "EXISTS"]);
        let name = table(&mut cursor)?;
        let has = |word: &str| {
            let is = |token: &Token| token.kind == TokenKind::Word && cursor.bytes(*token).eq_ignore_ascii_case(word.as_bytes());
            cursor.rest().iter().any(is)
        };
        if has("SELECT") {
            return None;
        }
        if temporary {
            return Some(Said::Nothing);
        }
        let tokens = cursor.rest();
        let last = |back: usize, word: &str| {
            let token = tokens.len().checked_sub(back).and_then(|at| tokens.get(at));
            token.is_some_and(|token| cursor.bytes(*token).eq_ignore_ascii_case(word.as_bytes()))
        };
        let rows_follow = last(2, "START") && last(1, "TRANSACTION");
        return Some(Said::Defined(vec![names.table(name)?], rows_follow));
    }
    if let Some(said) = index(cursor, names) {
        return Some(said);
    }
    is_code(&cursor).then_some(Said::Everything(Why::Ddl))
}

/// `[UNIQUE] INDEX i [USING ..] ON t`, behind CREATE or DROP.
fn index(mut cursor: Cursor<'_>, names: &Names<'_>) -> Option<Said> {
    cursor.eat_any(&["ONLINE", "OFFLINE"]);
    cursor.eat_any(&["UNIQUE", "FULLTEXT", "SPATIAL", "VECTOR"]);
    if !cursor.eat("INDEX") {
        return None;
    }
    while !cursor.at_end() {
        if cursor.eat("ON") {
            return Some(Said::Defined(vec![names.table(table(&mut cursor)?)?], false));
        }
        cursor.pos += 1;
    }
    None
}

fn drop_statement(mut cursor: Cursor<'_>, names: &Names<'_>) -> Option<Said> {
    if is_account(&cursor) {
        return Some(Said::Everything(Why::Grants));
    }
    let temporary = cursor.eat("TEMPORARY");
    if cursor.eat_any(&["TABLE", "TABLES", "SEQUENCE"]) {
        cursor.eat_all(&["IF", "EXISTS"]);
        let mut found = Vec::new();
        loop {
            found.push(table(&mut cursor)?);
            if !cursor.eat_kind(TokenKind::Comma) {
                break;
            }
        }
        return if temporary { Some(Said::Nothing) } else { names.all(found).map(|tables| Said::Defined(tables, false)) };
    }
    if let Some(said) = index(cursor, names) {
        return Some(said);
    }
    (is_code(&cursor) || cursor.is_any(&["DATABASE", "SCHEMA"])).then_some(Said::Everything(Why::Ddl))
}

fn alter(mut cursor: Cursor<'_>, names: &Names<'_>) -> Option<Said> {
    if is_account(&cursor) {
        return Some(Said::Everything(Why::Grants));
    }
    while cursor.eat_any(&["ONLINE", "OFFLINE", "IGNORE"]) {}
    if !cursor.eat_any(&["TABLE", "SEQUENCE"]) {
        return (is_code(&cursor) || cursor.is_any(&["DATABASE", "SCHEMA"])).then_some(Said::Everything(Why::Ddl));
    }
    cursor.eat_all(&["IF", "EXISTS"]);
    let mut found = vec![table(&mut cursor)?];
    // RENAME [TO] u, EXCHANGE PARTITION p WITH TABLE u.
    while !cursor.at_end() {
        let mut behind = cursor;
        let renames = behind.eat("RENAME") && !behind.is_any(&["COLUMN", "INDEX", "KEY"]);
        if renames {
            behind.eat_any(&["TO", "AS"]);
            behind.eat_op("=");
        }
        if (renames || behind.eat_all(&["WITH", "TABLE"]))
            && let Some(name) = table(&mut behind)
        {
            found.push(name);
        }
        cursor.pos += 1;
    }
    names.all(found).map(|tables| Said::Defined(tables, false))
}

/// `RENAME TABLE a TO b, c TO d`
fn rename(mut cursor: Cursor<'_>, names: &Names<'_>) -> Option<Said> {
    if is_account(&cursor) {
        return Some(Said::Everything(Why::Grants));
    }
    if !cursor.eat_any(&["TABLE", "TABLES"]) {
        return None;
    }
    cursor.eat_all(&["IF", "EXISTS"]);
    let mut found = Vec::new();
    loop {
        found.push(table(&mut cursor)?);
        if cursor.eat("WAIT") {
            cursor.pos += 1;
        }
        cursor.eat("NOWAIT");
        if !cursor.eat("TO") {
            return None;
        }
        found.push(table(&mut cursor)?);
        if !cursor.eat_kind(TokenKind::Comma) {
            break;
        }
    }
    if cursor.at_end() { names.all(found).map(|tables| Said::Defined(tables, false)) } else { None }
}
