//! Statements by their first words: what each is, and what it does to the session.
//! Sources: MySQL 8.4 Reference Manual, chapter "SQL Statements"; MariaDB "SQL Statements".

use super::effects::{Kill, remember};
use super::judge::{opaque, query};
use super::query::scan;
use super::show;
use super::verdict::{Class, ClassReason, TableName, Verdict};
use crate::sql::cursor::{Cursor, user_variable};
use crate::sql::functions::{MAX_NAME_BYTES, upper_case};
use crate::sql::lexer::{LexMode, TokenKind};
use crate::sql::set::{self, Scope, SetStatement};
use crate::sql::transaction::{self, TransactionStatement};

/// Judges one statement by its first word.
pub(super) fn judge(cursor: Cursor<'_>, mode: LexMode) -> Verdict {
    let first = match cursor.kind() {
        Some(TokenKind::LParen) => return query(cursor, mode),
        Some(TokenKind::Word) => cursor.word(0).unwrap_or_default(),
        // `<<label>>` begins a block in MariaDB's Oracle mode.
        Some(TokenKind::Op) => return opaque(Verdict::new(Class::Write, ClassReason::CompoundStatement)),
        _ => return opaque(Verdict::new(Class::Unknown, ClassReason::UnknownStatement)),
    };
    let mut buffer = [0u8; MAX_NAME_BYTES];
    match upper_case(first, &mut buffer).unwrap_or_default() {
        b"SELECT" | b"WITH" | b"VALUES" | b"TABLE" => query(cursor, mode),
        b"SHOW" => show::show(cursor, mode),
        b"EXPLAIN" | b"DESCRIBE" | b"DESC" => show::explain(cursor, mode),
        b"ANALYZE" => show::analyze(cursor, mode),
        b"HELP" => help(cursor),
        b"DO" => do_expressions(cursor, mode),
        b"INSERT" | b"REPLACE" => insert(cursor, mode),
        b"UPDATE" | b"DELETE" => writing(cursor, mode),
        b"LOAD" => load(cursor, mode),
        b"BEGIN" | b"START" | b"COMMIT" | b"ROLLBACK" | b"SAVEPOINT" | b"RELEASE" => transaction_control(cursor),
        b"XA" => with(Class::Transaction, ClassReason::Xa, |verdict| verdict.effects.xa = true),
        b"SET" => set_statement(cursor, mode),
        b"USE" => use_schema(cursor),
        b"CREATE" => create(cursor, mode),
        b"DROP" => drop(cursor),
        b"ALTER" | b"RENAME" | b"TRUNCATE" | b"GRANT" | b"REVOKE" => definition(cursor),
        b"CALL" => call(cursor, mode),
        b"PREPARE" | b"EXECUTE" | b"DEALLOCATE" => prepared(cursor, mode),
        b"HANDLER" => handler(cursor),
        b"LOCK" | b"UNLOCK" => lock(cursor),
        b"GET" | b"SIGNAL" | b"RESIGNAL" => diagnostics(cursor),
        b"KILL" => kill(cursor),
        b"FLUSH" | b"BACKUP" | b"RESET" | b"PURGE" | b"CHANGE" | b"STOP" | b"INSTALL" | b"UNINSTALL" | b"SHUTDOWN" | b"RESTART"
        | b"BINLOG" | b"CLONE" | b"IMPORT" | b"CACHE" | b"CHECK" | b"CHECKSUM" | b"REPAIR" | b"OPTIMIZE" => maintenance(cursor),
        b"IF" | b"WHILE" | b"LOOP" | b"REPEAT" | b"CASE" | b"DECLARE" | b"FOR" | b"GOTO" => {
            opaque(Verdict::new(Class::Write, ClassReason::CompoundStatement))
        }
        _ => opaque(Verdict::new(Class::Unknown, ClassReason::UnknownStatement)),
    }
}

/// Whether the statement may hold others, so that the semicolons behind it may be its own.
pub(super) fn holds_statements(cursor: Cursor<'_>) -> bool {
    let routine = |word: &str| (1..12).any(|n| cursor.is_at(n, word));
    let block = cursor.is("BEGIN") && cursor.token(1).is_some() && !cursor.is_at(1, "WORK");
    let creates = (cursor.is("CREATE") || cursor.is("ALTER"))
        && ["PROCEDURE", "FUNCTION", "TRIGGER", "EVENT", "PACKAGE"].iter().any(|word| routine(word));
    let other = cursor.kind() == Some(TokenKind::Op) || cursor.is_any(&["IF", "WHILE", "LOOP", "REPEAT", "CASE", "DECLARE", "FOR"]);
    block || creates || other
}

fn with(class: Class, reason: ClassReason, change: impl FnOnce(&mut Verdict)) -> Verdict {
    let mut verdict = Verdict::new(class, reason);
    change(&mut verdict);
    verdict
}

/// A verdict that is sure to be no read, with the effects found in the statement's expressions.
fn scanned(cursor: Cursor<'_>, mode: LexMode, class: Class, reason: ClassReason) -> Verdict {
    let mut verdict = Verdict::new(class, reason);
    scan(cursor.text, cursor.rest(), mode, &mut verdict);
    // A table before its columns looks like a function.
    verdict.unknown_functions.clear();
    verdict
}

/// The user variables among the tokens: what INTO, OUT parameters and GET DIAGNOSTICS may assign.
fn assign_all_variables(cursor: Cursor<'_>, verdict: &mut Verdict) {
    for token in cursor.tokens.iter().filter(|token| token.kind == TokenKind::UserVar) {
        remember(&mut verdict.effects.sets_user_variables, user_variable(cursor.bytes(*token)));
    }
}

/// `name`, `schema.name`
pub(super) fn table(cursor: &mut Cursor<'_>) -> Option<TableName> {
    let first = cursor.name()?;
    if cursor.eat_kind(TokenKind::Dot) {
        return Some(TableName { schema: Some(first), name: cursor.name()? });
    }
    Some(TableName { schema: None, name: first })
}

/// `a, b.c, d`
fn table_list(cursor: &mut Cursor<'_>) -> Vec<TableName> {
    let mut found = Vec::new();
    while let Some(name) = table(cursor) {
        found.push(name);
        if !cursor.eat_kind(TokenKind::Comma) {
            break;
        }
    }
    found
}

fn writing(cursor: Cursor<'_>, mode: LexMode) -> Verdict {
    scanned(cursor, mode, Class::Write, ClassReason::WritingStatement)
}

fn insert(cursor: Cursor<'_>, mode: LexMode) -> Verdict {
    let mut verdict = writing(cursor, mode);
    // Its reply is rows, which tell no id.
    if cursor.rest().iter().any(|token| token.kind == TokenKind::Word && cursor.bytes(*token).eq_ignore_ascii_case(b"RETURNING")) {
        leaves_id_untold(&mut verdict);
    }
    verdict
}

/// It may make an id that its reply does not tell: the connection is asked for `LAST_INSERT_ID()` after it, and has the session's before it, in case
/// that it made none.
pub(super) fn leaves_id_untold(verdict: &mut Verdict) {
    (verdict.effects.reads_last_insert_id, verdict.effects.sets_last_insert_id) = (true, true);
}

fn load(mut cursor: Cursor<'_>, mode: LexMode) -> Verdict {
    cursor.pos += 1;
    if !cursor.eat_any(&["DATA", "XML"]) {
        return Verdict::new(Class::Administrative, ClassReason::ServerMaintenance);
    }
    cursor.eat_any(&["LOW_PRIORITY", "CONCURRENT"]);
    let local = cursor.is("LOCAL");
    let mut verdict = writing(cursor, mode);
    (verdict.effects.load_data, verdict.effects.load_data_local) = (true, local);
    leaves_id_untold(&mut verdict);
    assign_all_variables(cursor, &mut verdict);
    verdict
}

fn help(mut cursor: Cursor<'_>) -> Verdict {
    cursor.pos += 1;
    let plain = cursor
        .rest()
        .iter()
        .all(|token| matches!(token.kind, TokenKind::Word | TokenKind::String | TokenKind::Param | TokenKind::Number));
    if plain && !cursor.at_end() {
        return Verdict::new(Class::Read, ClassReason::Help);
    }
    Verdict::new(Class::Unknown, ClassReason::DoesNotParse)
}

fn do_expressions(mut cursor: Cursor<'_>, mode: LexMode) -> Verdict {
    cursor.pos += 1;
    let mut verdict = Verdict::new(Class::Read, ClassReason::Do);
    scan(cursor.text, cursor.rest(), mode, &mut verdict);
    verdict
}

fn transaction_control(cursor: Cursor<'_>) -> Verdict {
    let Some(statement) = transaction::parse_tokens(cursor) else {
        return if cursor.is("BEGIN") {
            opaque(Verdict::new(Class::Write, ClassReason::CompoundStatement))
        } else if cursor.is("START") {
            Verdict::new(Class::Administrative, ClassReason::ServerMaintenance)
        } else {
            Verdict::new(Class::Unknown, ClassReason::DoesNotParse)
        };
    };
    with(Class::Transaction, ClassReason::TransactionControl, |verdict| match statement {
        TransactionStatement::Start(start) => verdict.effects.begins_transaction = Some(start),
        TransactionStatement::End(end) => verdict.effects.ends_transaction = Some(end),
        TransactionStatement::Savepoint(_) | TransactionStatement::RollbackTo(_) | TransactionStatement::ReleaseSavepoint(_) => {
            verdict.effects.savepoint = true;
        }
    })
}

/// Variables of SET STATEMENT that only bound or tune the one statement.
#[rustfmt::skip]
const HARMLESS_FOR_ONE_STATEMENT: &[&str] = &[
    "group_concat_max_len", "histogram_size", "join_buffer_size", "join_cache_level", "lock_wait_timeout", "max_heap_table_size", "max_sort_length",
    "max_statement_time", "mrr_buffer_size", "optimizer_prune_level", "optimizer_search_depth", "optimizer_switch", "optimizer_use_condition_selectivity",
    "read_buffer_size", "read_rnd_buffer_size", "sort_buffer_size", "time_zone", "tmp_memory_table_size", "tmp_table_size", "use_stat_tables",
];

fn set_statement(cursor: Cursor<'_>, mode: LexMode) -> Verdict {
    let assigned = cursor.token(2).is_some_and(|token| matches!(cursor.bytes(token), b"=" | b":="));
    if cursor.is_at(1, "STATEMENT") && !assigned {
        return set_for_one_statement(cursor, mode);
    }
    let Some(statement) = set::parse_tokens(cursor) else {
        let mut verdict = scanned(cursor, mode, Class::Session, ClassReason::UnknownSet);
        verdict.raise(Class::Write, ClassReason::UnknownSet);
        return opaque(with(Class::Write, ClassReason::UnknownSet, |made| made.effects = verdict.effects));
    };
    match statement {
        SetStatement::Account => with(Class::Ddl, ClassReason::Definition, |verdict| verdict.effects.implicit_commit = true),
        SetStatement::Role(_) => with(Class::Session, ClassReason::SetSession, |verdict| verdict.effects.set_role = true),
        SetStatement::Transaction { scope: Some(Scope::Global | Scope::Persist), .. } => {
            with(Class::Administrative, ClassReason::SetGlobal, |verdict| {
                verdict.effects.sets_global = true;
                verdict.effects.set_transaction = Some(true);
            })
        }
        SetStatement::Transaction { scope, .. } => {
            with(Class::Session, ClassReason::SetSession, |verdict| verdict.effects.set_transaction = Some(scope.is_some()))
        }
        SetStatement::Assignments(assignments) => {
            // The proof is asked about the right sides: SET @a = f() may do anything, and `@a := @b := 1` assigns twice.
            let mut right = Verdict::new(Class::Read, ClassReason::SetSession);
            scan_assignments(cursor, mode, &mut right);
            let effects = &mut right.effects;
            for assignment in assignments {
                match assignment.scope {
                    Scope::User => remember(&mut effects.sets_user_variables, assignment.name),
                    Scope::Session => remember(&mut effects.sets_system_variables, assignment.name),
                    Scope::Global | Scope::Persist => effects.sets_global = true,
                }
            }
            if right.class == Class::Read {
                right.class = if right.effects.sets_global { Class::Administrative } else { Class::Session };
                right.reason = if right.effects.sets_global { ClassReason::SetGlobal } else { ClassReason::SetSession };
            } else {
                right.class = Class::Write;
            }
            right
        }
    }
}

/// Scans what stands behind SET, without the `=` or `:=` of each assignment and without the assigned name.
fn scan_assignments(cursor: Cursor<'_>, mode: LexMode, verdict: &mut Verdict) {
    let mut depth = 0usize;
    let mut begin = cursor.pos + 1;
    let mut seen_assignment = false;
    let tokens = cursor.tokens;
    for (at, token) in tokens.iter().enumerate().skip(cursor.pos + 1) {
        match token.kind {
            TokenKind::LParen => depth += 1,
            TokenKind::RParen => depth = depth.saturating_sub(1),
            TokenKind::Comma if depth == 0 => {
                scan(cursor.text, tokens.get(begin..at).unwrap_or_default(), mode, verdict);
                (begin, seen_assignment) = (at + 1, false);
            }
            TokenKind::Op if depth == 0 && !seen_assignment && matches!(cursor.bytes(*token), b"=" | b":=") => {
                (begin, seen_assignment) = (at + 1, true);
            }
            _ => {}
        }
    }
    let last = tokens.get(begin..).unwrap_or_default();
    // NAMES and CHARACTER SET have no sign of assignment; their words are no expression.
    if seen_assignment {
        scan(cursor.text, last, mode, verdict);
    }
}

/// `SET STATEMENT a = 1, b = 2 FOR statement` (MariaDB).
fn set_for_one_statement(cursor: Cursor<'_>, mode: LexMode) -> Verdict {
    let mut depth = 0usize;
    let found = cursor.tokens.iter().enumerate().skip(cursor.pos + 2).find_map(|(at, token)| {
        match token.kind {
            TokenKind::LParen => depth += 1,
            TokenKind::RParen => depth = depth.saturating_sub(1),
            TokenKind::Word if depth == 0 && cursor.bytes(*token).eq_ignore_ascii_case(b"FOR") => return Some(at),
            _ => {}
        }
        None
    });
    let Some(at) = found else { return opaque(Verdict::new(Class::Unknown, ClassReason::DoesNotParse)) };
    let inner = Cursor { pos: 0, tokens: cursor.tokens.get(at + 1..).unwrap_or_default(), ..cursor };
    if inner.is("SET") {
        return opaque(Verdict::new(Class::Write, ClassReason::SetStatement));
    }
    let mut verdict = judge(inner, mode);
    let mut head = Cursor { pos: cursor.pos + 2, tokens: cursor.tokens.get(..at).unwrap_or_default(), ..cursor };
    let mut harmless = !head.at_end();
    while !head.at_end() && harmless {
        let known = head.name().is_some_and(|name| HARMLESS_FOR_ONE_STATEMENT.contains(&name.to_ascii_lowercase().as_str()));
        let assigned = head.eat_op("=") || head.eat_op(":=");
        let sign = head.eat_op("-");
        let literal = matches!(head.kind(), Some(TokenKind::Param | TokenKind::Number | TokenKind::String | TokenKind::Word));
        head.pos += 1;
        harmless = known && assigned && literal && (head.at_end() || head.eat_kind(TokenKind::Comma));
        let _ = sign;
    }
    if !harmless && verdict.class == Class::Read {
        (verdict.class, verdict.reason) = (Class::Write, ClassReason::SetStatement);
    }
    verdict
}

fn use_schema(mut cursor: Cursor<'_>) -> Verdict {
    cursor.pos += 1;
    match cursor.name() {
        Some(name) if cursor.at_end() => with(Class::Session, ClassReason::Use, |verdict| verdict.effects.use_schema = Some(name)),
        _ => Verdict::new(Class::Unknown, ClassReason::DoesNotParse),
    }
}

fn create(mut cursor: Cursor<'_>, mode: LexMode) -> Verdict {
    let whole = cursor;
    cursor.pos += 1;
    cursor.eat_all(&["OR", "REPLACE"]);
    let temporary = cursor.eat("TEMPORARY");
    let relation = cursor.eat_any(&["TABLE", "SEQUENCE", "VIEW"]);
    cursor.eat_all(&["IF", "NOT", "EXISTS"]);
    let name = if relation { table(&mut cursor) } else { None };
    // A body's assignments and locks happen when it is called, not now.
    let mut verdict = if holds_statements(whole) {
        Verdict::new(Class::Ddl, ClassReason::Definition)
    } else {
        scanned(cursor, mode, Class::Ddl, ClassReason::Definition)
    };
    verdict.effects.implicit_commit = !temporary;
    if let Some(name) = name {
        if temporary {
            remember(&mut verdict.effects.creates_temporary_tables, name.to_string());
        }
        verdict.tables.push(name);
    }
    verdict
}

fn drop(mut cursor: Cursor<'_>) -> Verdict {
    cursor.pos += 1;
    if cursor.eat("PREPARE") {
        let name = cursor.name();
        return with(Class::Write, ClassReason::PreparedInText, |verdict| verdict.effects.text_deallocate = name);
    }
    let temporary = cursor.eat("TEMPORARY");
    // MariaDB's DROP SEQUENCE IF EXISTS leaves a table of that name where it is.
    let sequence = cursor.eat("SEQUENCE");
    let relation = sequence || cursor.eat_any(&["TABLE", "TABLES"]);
    let view = cursor.eat("VIEW");
    cursor.eat_all(&["IF", "EXISTS"]);
    let tables = if relation || view { table_list(&mut cursor) } else { Vec::new() };
    with(Class::Ddl, ClassReason::Definition, |verdict| {
        verdict.effects.implicit_commit = !temporary;
        if relation && !sequence {
            for table in &tables {
                remember(&mut verdict.effects.drops_tables, table.to_string());
            }
        }
        verdict.tables = tables;
    })
}

fn definition(mut cursor: Cursor<'_>) -> Verdict {
    let grants = cursor.is_any(&["GRANT", "REVOKE"]);
    let rename = cursor.is("RENAME");
    let truncate = cursor.is("TRUNCATE");
    cursor.pos += 1;
    cursor.eat_any(&["ONLINE", "OFFLINE"]);
    cursor.eat("IGNORE");
    let relation = cursor.eat_any(&["TABLE", "TABLES"]) || truncate;
    cursor.eat_all(&["IF", "EXISTS"]);
    let tables = if grants || !relation {
        Vec::new()
    } else if rename {
        let names = cursor.rest().iter().filter(|token| matches!(token.kind, TokenKind::Word | TokenKind::QuotedIdent)).count();
        // a TO b, c.d TO e: too many shapes for a list; what voids caches must then void all.
        let mut list = Vec::new();
        while list.len() < names {
            let (Some(from), true, Some(to)) = (table(&mut cursor), cursor.eat("TO"), table(&mut cursor)) else { break };
            list.extend([from, to]);
            if !cursor.eat_kind(TokenKind::Comma) {
                break;
            }
        }
        list
    } else {
        table(&mut cursor).into_iter().collect()
    };
    with(Class::Ddl, ClassReason::Definition, |verdict| {
        verdict.effects.implicit_commit = true;
        verdict.tables = tables;
    })
}

fn call(cursor: Cursor<'_>, mode: LexMode) -> Verdict {
    let mut verdict = opaque(scanned(cursor, mode, Class::Write, ClassReason::Call));
    verdict.reason = ClassReason::Call;
    verdict.effects.calls_procedure = true;
    assign_all_variables(cursor, &mut verdict);
    verdict
}

fn prepared(mut cursor: Cursor<'_>, mode: LexMode) -> Verdict {
    let whole = cursor;
    let mut verdict = scanned(cursor, mode, Class::Write, ClassReason::PreparedInText);
    if cursor.eat("PREPARE") {
        verdict.effects.text_prepare = cursor.name();
    } else if cursor.eat("EXECUTE") {
        let immediate = cursor.is("IMMEDIATE");
        verdict.effects.text_execute = if immediate { Some(String::new()) } else { cursor.name() };
        assign_all_variables(whole, &mut verdict);
        verdict = opaque(verdict);
    } else {
        cursor.pos += 1;
        cursor.eat("PREPARE");
        verdict.effects.text_deallocate = cursor.name();
    }
    verdict
}

fn handler(mut cursor: Cursor<'_>) -> Verdict {
    cursor.pos += 1;
    let name = table(&mut cursor);
    let open = cursor.is("OPEN");
    with(Class::Write, ClassReason::Handler, |verdict| {
        (verdict.effects.handler_open, verdict.effects.handler_use, verdict.effects.session_bound) = (open, !open, !open);
        verdict.tables.extend(name);
    })
}

fn lock(cursor: Cursor<'_>) -> Verdict {
    let tables = cursor.is_at(1, "TABLE") || cursor.is_at(1, "TABLES");
    with(Class::Write, ClassReason::LockTables, |verdict| {
        let effects = &mut verdict.effects;
        match (cursor.is("UNLOCK"), tables) {
            (true, true) => effects.unlock_tables = true,
            (true, false) => effects.unlock_backup = true,
            (false, true) => (effects.lock_tables, effects.implicit_commit) = (true, true),
            (false, false) => effects.lock_backup = true,
        }
    })
}

fn diagnostics(cursor: Cursor<'_>) -> Verdict {
    with(Class::Write, ClassReason::Diagnostics, |verdict| {
        assign_all_variables(cursor, verdict);
        let get = cursor.is("GET");
        (verdict.effects.reads_diagnostics, verdict.effects.session_bound) = (get, get);
    })
}

fn kill(mut cursor: Cursor<'_>) -> Verdict {
    cursor.pos += 1;
    cursor.eat_any(&["HARD", "SOFT"]);
    let kind = if cursor.eat("QUERY") {
        cursor.eat("ID");
        Kill::Query
    } else {
        cursor.eat("CONNECTION");
        Kill::Connection
    };
    let kind = if cursor.is("USER") { Kill::User } else { kind };
    with(Class::Administrative, ClassReason::ServerMaintenance, |verdict| verdict.effects.kill = Some(kind))
}

fn maintenance(cursor: Cursor<'_>) -> Verdict {
    let read_lock = (1..cursor.tokens.len().min(4096)).any(|n| {
        cursor.is_at(n, "WITH") && cursor.is_at(n + 1, "READ") && cursor.is_at(n + 2, "LOCK")
            || cursor.is_at(n, "FOR") && cursor.is_at(n + 1, "EXPORT")
    });
    with(Class::Administrative, ClassReason::ServerMaintenance, |verdict| {
        let effects = &mut verdict.effects;
        effects.flush_tables_with_read_lock = cursor.is("FLUSH") && read_lock;
        effects.unlock_backup = cursor.is("BACKUP") && (cursor.is_at(1, "UNLOCK") || cursor.is_at(2, "END"));
        effects.lock_backup = cursor.is("BACKUP") && !effects.unlock_backup;
        effects.shutdown = cursor.is_any(&["SHUTDOWN", "RESTART"]);
        let local = usize::from(cursor.is_at(1, "LOCAL") || cursor.is_at(1, "NO_WRITE_TO_BINLOG"));
        effects.flush_status = cursor.is("FLUSH") && cursor.is_at(1 + local, "STATUS");
        // RESET CONNECTION is no statement, but RESET and FLUSH commit like the others.
        effects.implicit_commit = !cursor.is_any(&["SHUTDOWN", "RESTART", "CHECKSUM", "BINLOG"]);
    })
}
