//! SHOW, EXPLAIN, DESCRIBE and ANALYZE: which of them only look.
//! Sources: MySQL 8.4 Reference Manual, "SHOW Statements", "EXPLAIN Statement"; MariaDB "SHOW", "EXPLAIN", "ANALYZE Statement".

use super::effects::remember;
use super::judge::query;
use super::query::scan;
use super::verbs::leaves_id_untold;
use super::verdict::{Class, ClassReason, Verdict};
use crate::sql::cursor::{Cursor, user_variable};
use crate::sql::lexer::{LexMode, TokenKind};

/// SHOW of what every server of a healthy set has alike, or of settings. What may follow is checked like a query (`WHERE f(x)`).
#[rustfmt::skip]
const SHOWS: &[&str] = &[
    "AUTHORS", "CHARACTER", "CHARSET", "CLIENT_STATISTICS", "COLLATION", "COLUMNS", "CONTRIBUTORS", "DATABASES", "ENGINES", "EVENTS", "FIELDS", "INDEX", "INDEXES",
    "INDEX_STATISTICS", "KEYS", "LOCALES", "OPEN", "PLUGINS", "PRIVILEGES", "SCHEMAS", "STATUS", "STORAGE", "TABLE", "TABLES", "TABLE_STATISTICS", "TRIGGERS",
    "USER_STATISTICS", "VARIABLES",
];

/// SHOW of what is one server's own: its threads, its logs, its replication. Asked of the master, where the writes are.
#[rustfmt::skip]
const SERVER_SHOWS: &[&str] = &[
    "ALL", "ANALYZE", "BINARY", "BINLOG", "ENGINE", "EXPLAIN", "MASTER", "PARSE_TREE", "PROCESSLIST", "RELAYLOG", "REPLICA", "REPLICAS", "SLAVE", "SLAVES",
];

const CREATE_KINDS: &[&str] = &[
    "DATABASE",
    "EVENT",
    "FUNCTION",
    "LIBRARY",
    "PACKAGE",
    "PROCEDURE",
    "SCHEMA",
    "SEQUENCE",
    "SERVER",
    "TABLE",
    "TRIGGER",
    "USER",
    "VIEW",
];

fn unparsed() -> Verdict {
    Verdict::new(Class::Unknown, ClassReason::DoesNotParse)
}

pub(super) fn show(mut cursor: Cursor<'_>, mode: LexMode) -> Verdict {
    cursor.pos += 1;
    let mut verdict = Verdict::new(Class::Read, ClassReason::Show);
    if cursor.eat("CREATE") {
        // On a replica every event is off, by replication: a dump of it would restore them so.
        verdict.effects.reads_server_state = cursor.is("EVENT");
        let known = cursor.eat_any(CREATE_KINDS);
        cursor.eat("BODY");
        cursor.eat_all(&["IF", "NOT", "EXISTS"]);
        return if known && only_names(cursor) { verdict } else { unparsed() };
    }
    if cursor.eat("GRANTS") {
        return if only_names(cursor) { verdict } else { unparsed() };
    }
    let count =
        cursor.eat("COUNT") && cursor.eat_kind(TokenKind::LParen) && cursor.eat_op("*") && cursor.eat_kind(TokenKind::RParen);
    if cursor.eat_any(&["WARNINGS", "ERRORS"]) {
        (verdict.effects.reads_diagnostics, verdict.effects.session_bound) = (true, true);
    } else if count {
        return unparsed();
    } else if cursor.eat_any(&["PROFILE", "PROFILES"]) {
        verdict.effects.session_bound = true;
        // Its FOR QUERY is no FOR of a query.
        return verdict_for_words(cursor, verdict);
    } else {
        let global = cursor.is("GLOBAL");
        cursor.eat_any(&["GLOBAL", "SESSION", "LOCAL"]);
        cursor.eat("EXTENDED");
        cursor.eat("FULL");
        if cursor.is_any(SERVER_SHOWS) {
            verdict = Verdict::new(Class::Administrative, ClassReason::ShowServerState);
            verdict.effects.shows_processlist = cursor.is("PROCESSLIST") && cursor.rest().len() == 1;
        } else if cursor.eat_any(&["PROCEDURE", "FUNCTION", "LIBRARY", "PACKAGE"]) {
            cursor.eat("BODY");
            if !cursor.eat("STATUS") {
                return unparsed();
            }
        } else if cursor.eat("STATUS") {
            (verdict.effects.reads_session_status, verdict.effects.session_bound) = (!global, !global);
            verdict.effects.reads_server_state = global;
        } else if cursor.eat("CHARACTER") {
            if !cursor.eat("SET") {
                return unparsed();
            }
        } else if cursor.eat("TABLE") {
            // SHOW TABLE STATUS; the names of the others follow FROM or IN.
            if !cursor.eat_any(&["STATUS", "TYPES"]) {
                return unparsed();
            }
        } else if cursor.eat_any(&["VARIABLES", "PLUGINS", "ENGINES", "EVENTS"]) {
            verdict.effects.reads_server_state = true;
        } else if cursor.eat("INDEX") || cursor.eat_any(SHOWS) {
        } else {
            return unparsed();
        }
    }
    scan(cursor.text, cursor.rest(), mode, &mut verdict);
    verdict
}

/// Names, accounts and literals only.
fn only_names(cursor: Cursor<'_>) -> bool {
    // FOR CURRENT_USER()
    let mut current_user = false;
    cursor.rest().iter().all(|token| match token.kind {
        TokenKind::LParen | TokenKind::RParen => current_user,
        TokenKind::Word => {
            current_user |= cursor.bytes(*token).eq_ignore_ascii_case(b"CURRENT_USER");
            true
        }
        TokenKind::QuotedIdent | TokenKind::String | TokenKind::Param | TokenKind::UserVar | TokenKind::Dot | TokenKind::Comma => {
            true
        }
        _ => false,
    })
}

fn verdict_for_words(cursor: Cursor<'_>, verdict: Verdict) -> Verdict {
    let plain = cursor
        .rest()
        .iter()
        .all(|token| matches!(token.kind, TokenKind::Word | TokenKind::Comma | TokenKind::Param | TokenKind::Number));
    if plain { verdict } else { unparsed() }
}

/// EXPLAIN, DESCRIBE, DESC.
pub(super) fn explain(mut cursor: Cursor<'_>, mode: LexMode) -> Verdict {
    cursor.pos += 1;
    let mut executes = false;
    let mut into = None;
    loop {
        if cursor.eat("ANALYZE") {
            executes = true;
        } else if cursor.is("FORMAT") && cursor.token(1).is_some_and(|token| cursor.bytes(token) == b"=") {
            cursor.pos += 3;
        } else if cursor.is_any(&["EXTENDED", "PARTITIONS", "ALL"]) && begins_statement(Cursor { pos: cursor.pos + 1, ..cursor }) {
            cursor.pos += 1;
        } else if cursor.eat_all(&["FOR", "CONNECTION"]) {
            return Verdict::new(Class::Administrative, ClassReason::ShowServerState);
        } else if cursor.eat_all(&["FOR", "SCHEMA"]) || cursor.eat_all(&["FOR", "DATABASE"]) {
            if cursor.name().is_none() {
                return unparsed();
            }
        } else if cursor.is("INTO") {
            // MySQL: EXPLAIN FORMAT = JSON INTO @plan ...
            let Some(variable) = cursor.token(1).filter(|token| token.kind == TokenKind::UserVar) else { return unparsed() };
            into = Some(user_variable(cursor.bytes(variable)));
            cursor.pos += 2;
        } else {
            break;
        }
    }
    if begins_statement(cursor) {
        let mut verdict = explained(cursor, mode, executes);
        // What a plan is made from, the statistics, each server has of its own.
        verdict.effects.reads_server_state |= verdict.class == Class::Read && !executes;
        if let Some(variable) = into {
            verdict.raise(Class::Write, ClassReason::IntoVariable);
            remember(&mut verdict.effects.sets_user_variables, variable);
        }
        return verdict;
    }
    // DESCRIBE table [column | 'pattern']
    let mut table = cursor;
    let named = table.name().is_some() && (!table.eat_kind(TokenKind::Dot) || table.name().is_some());
    let column = table.at_end()
        || matches!(table.kind(), Some(TokenKind::Word | TokenKind::QuotedIdent | TokenKind::Param | TokenKind::String));
    table.pos += usize::from(!table.at_end());
    if named && column && table.at_end() && !executes { Verdict::new(Class::Read, ClassReason::Describe) } else { unparsed() }
}

fn begins_statement(cursor: Cursor<'_>) -> bool {
    cursor.kind() == Some(TokenKind::LParen)
        || cursor.is_any(&["SELECT", "WITH", "VALUES", "TABLE", "INSERT", "UPDATE", "DELETE", "REPLACE"])
}

/// MariaDB's ANALYZE executes its statement; ANALYZE TABLE writes statistics.
pub(super) fn analyze(mut cursor: Cursor<'_>, mode: LexMode) -> Verdict {
    cursor.pos += 1;
    if cursor.is("FORMAT") && cursor.token(1).is_some_and(|token| cursor.bytes(token) == b"=") {
        cursor.pos += 3;
    }
    let table = cursor.is_any(&["TABLE", "TABLES", "LOCAL", "NO_WRITE_TO_BINLOG"]);
    if !table && begins_statement(cursor) {
        return explained(cursor, mode, true);
    }
    let mut verdict = Verdict::new(Class::Administrative, ClassReason::ServerMaintenance);
    verdict.effects.implicit_commit = true;
    verdict
}

/// The optimizer evaluates parts of what it explains, so only what is a read is a read explained; and it locks what a locking read would.
fn explained(cursor: Cursor<'_>, mode: LexMode, executes: bool) -> Verdict {
    let mut verdict = query(cursor, mode);
    match verdict.class {
        Class::Read => verdict.reason = ClassReason::Explain,
        Class::LockingRead => {}
        _ => {
            verdict.class = Class::Write;
            if matches!(verdict.reason, ClassReason::DoesNotParse | ClassReason::WritingStatement | ClassReason::WithWrite) {
                verdict.reason = if executes { ClassReason::AnalyzeWrite } else { ClassReason::ExplainWrite };
            }
            if executes && cursor.is_any(&["INSERT", "REPLACE"]) {
                leaves_id_untold(&mut verdict);
            }
        }
    }
    verdict
}
