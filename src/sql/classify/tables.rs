//! The tables a statement names, with sqlparser's help.
//!
//! The parser is a guest here: it recurses without a guard on chains of operators, so it sees only texts whose length, tokens and operators are
//! bounded; it drops or misreads some constructs without saying so, so its answer counts only when our own look for names behind FROM, JOIN, INTO,
//! UPDATE and TABLE finds nothing it left out.

use std::ops::ControlFlow;

use sqlparser::ast::{Ident, ObjectName, ObjectNamePart, Query, Statement, Visit, Visitor, visit_relations};
use sqlparser::dialect::MySqlDialect;
use sqlparser::parser::Parser;

use super::verdict::{Class, ClassReason, TableName, Verdict};
use crate::sql::cursor::{tokens, unquote};
use crate::sql::lexer::{LexMode, TokenKind};

/// Longest text given to the parser, bytes.
const MAX_PARSED_BYTES: usize = 16 * 1024;
/// Most tokens given to the parser.
const MAX_PARSED_TOKENS: usize = 4_000;
/// Most operators given to the parser: it goes one level of the stack deeper for each, here, in its visitor and in its destructor.
const MAX_OPERATORS: usize = 200;
/// Deepest nesting the parser itself allows.
const MAX_NESTING: usize = 40;
/// The stack the parser gets, bytes. A join without ON takes some 7 KiB of it, and every one goes deeper; a thread of a worker has 2 MiB in all.
const PARSER_STACK: usize = 64 << 20;

/// All tables the statement names, sorted, or `None` when that is not certain.
pub(super) fn tables(text: &[u8], mode: LexMode, verdict: &Verdict) -> Option<Vec<TableName>> {
    let parsed = match verdict.class {
        Class::Read | Class::LockingRead => verdict.reason != ClassReason::Show,
        Class::Write => !matches!(
            verdict.reason,
            ClassReason::MultiStatement
                | ClassReason::Call
                | ClassReason::PreparedInText
                | ClassReason::Handler
                | ClassReason::CompoundStatement
        ),
        _ => false,
    };
    let small = text.len() <= MAX_PARSED_BYTES && verdict.tokens <= MAX_PARSED_TOKENS && verdict.operators <= MAX_OPERATORS;
    // With ANSI_QUOTES the parser would take names for strings.
    if !parsed || !small || verdict.exec_comments || mode.ansi_quotes {
        return None;
    }
    stacker::grow(PARSER_STACK, || parsed_tables(text, mode))
}

fn parsed_tables(text: &[u8], mode: LexMode) -> Option<Vec<TableName>> {
    let text_utf8 = std::str::from_utf8(text).ok()?;
    let statements =
        Parser::new(&MySqlDialect {}).with_recursion_limit(MAX_NESTING).try_with_sql(text_utf8).ok()?.parse_statements().ok()?;
    let [statement] = statements.as_slice() else { return None };
    let mut finder = Finder::default();
    let _ = statement.visit(&mut finder);
    let mut found = finder.found;
    if finder.strange {
        return None;
    }
    // The visitor shows what stands in expressions and FROM; targets of some statements it may not.
    if !matches!(statement, Statement::Query(_) | Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_)) {
        return None;
    }
    found.sort();
    found.dedup();
    let complete = names_in_place(text, mode)?.iter().all(|name| found.contains(name) || finder.with_names.contains(&name.name));
    complete.then_some(found)
}

#[derive(Default)]
struct Finder {
    found: Vec<TableName>,
    /// Names that WITH clauses around the current place define.
    scopes: Vec<Vec<String>>,
    with_names: Vec<String>,
    strange: bool,
}

impl Visitor for Finder {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let mut names: Vec<String> = Vec::new();
        if let Some(with) = &query.with {
            names = with.cte_tables.iter().map(|cte| cte.alias.name.value.clone()).collect();
            if !with.recursive {
                // Without RECURSIVE an entry sees only earlier ones: a later name, or its own, is a real table there.
                for (n, cte) in with.cte_tables.iter().enumerate() {
                    let _ = visit_relations(&cte.query, |name: &ObjectName| {
                        if let Some(table) = table_name(name)
                            && table.schema.is_none()
                            && names.iter().skip(n).any(|later| later.eq_ignore_ascii_case(&table.name))
                        {
                            self.found.push(table);
                        }
                        ControlFlow::<()>::Continue(())
                    });
                }
            }
        }
        self.with_names.extend(names.iter().cloned());
        self.scopes.push(names);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let Some(table) = table_name(relation) else {
            self.strange = true;
            return ControlFlow::Continue(());
        };
        let same = |name: &&String| table.schema.is_none() && name.eq_ignore_ascii_case(&table.name);
        let from_with = self.scopes.iter().flatten().any(|name| same(&name));
        // Where servers tell cases apart (lower_case_table_names = 0) a name of another case is a real table's.
        self.strange |= from_with && !self.scopes.iter().flatten().any(|name| *name == table.name);
        let dual = table.schema.is_none() && table.name.eq_ignore_ascii_case("dual");
        if !from_with && !dual {
            self.found.push(table);
        }
        ControlFlow::Continue(())
    }
}

fn table_name(name: &ObjectName) -> Option<TableName> {
    let ident = |part: &ObjectNamePart| match part {
        ObjectNamePart::Identifier(Ident { value, .. }) => Some(value.clone()),
        ObjectNamePart::Function(_) => None,
    };
    match name.0.as_slice() {
        [table] => Some(TableName { schema: None, name: ident(table)? }),
        [schema, table] => Some(TableName { schema: Some(ident(schema)?), name: ident(table)? }),
        _ => None,
    }
}

/// Names that stand right behind a word that a table follows. A second look, not a complete one.
fn names_in_place(text: &[u8], mode: LexMode) -> Option<Vec<TableName>> {
    let tokens = tokens(text, mode, MAX_PARSED_TOKENS, |_, _| false)?;
    let bytes = |at: usize| tokens.get(at).and_then(|token| text.get(token.start..token.end)).unwrap_or_default();
    let is_name = |at: usize| tokens.get(at).is_some_and(|token| matches!(token.kind, TokenKind::Word | TokenKind::QuotedIdent));
    let is = |at: usize, kind| tokens.get(at).is_some_and(|token| token.kind == kind);
    let mut found = Vec::new();
    // A parenthesis opened by a function has FROMs that no table follows: EXTRACT(DAY FROM d), TRIM(x FROM y).
    let mut calls = Vec::new();
    for at in 0..tokens.len() {
        if is(at, TokenKind::LParen) {
            let expression = ["EXTRACT", "TRIM", "SUBSTRING", "SUBSTR", "MID"]
                .iter()
                .any(|name| at > 0 && bytes(at - 1).eq_ignore_ascii_case(name.as_bytes()));
            calls.push(expression);
        } else if is(at, TokenKind::RParen) {
            calls.pop();
        }
        let behind = is(at, TokenKind::Word)
            && ["FROM", "JOIN", "STRAIGHT_JOIN", "INTO", "UPDATE", "TABLE"]
                .iter()
                .any(|word| bytes(at).eq_ignore_ascii_case(word.as_bytes()))
            && !(at > 0 && is(at - 1, TokenKind::Dot));
        // IS DISTINCT FROM, STRAIGHT_JOIN behind SELECT, ON DUPLICATE KEY UPDATE, UPDATE LOW_PRIORITY: no table.
        let no_table =
            at > 0 && ["DISTINCT", "SELECT", "KEY"].iter().any(|word| bytes(at - 1).eq_ignore_ascii_case(word.as_bytes()));
        if !behind || no_table || calls.last() == Some(&true) || !is_name(at + 1) {
            continue;
        }
        let modifier = ["LOW_PRIORITY", "IGNORE", "LATERAL", "DUAL", "ONLY"]
            .iter()
            .any(|word| bytes(at + 1).eq_ignore_ascii_case(word.as_bytes()));
        if modifier || is(at + 2, TokenKind::LParen) && !bytes(at).eq_ignore_ascii_case(b"INTO") {
            continue;
        }
        let (schema, name) = if is(at + 2, TokenKind::Dot) && is_name(at + 3) {
            (Some(unquote(bytes(at + 1))), bytes(at + 3))
        } else {
            (None, bytes(at + 1))
        };
        found.push(TableName { schema, name: unquote(name) });
    }
    Some(found)
}
