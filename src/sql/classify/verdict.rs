//! The words a judgement is made of.

use std::fmt;

use super::effects::Effects;
use crate::sql::functions::Volatility;

/// What kind of statement it is. Only [`Class::Read`] may run on a replica.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Class {
    /// Provably free of side effects and locks.
    Read,
    /// A SELECT that locks rows.
    LockingRead,
    /// Writes, or may write for all we know.
    Write,
    /// Definitions and accounts; commits implicitly.
    Ddl,
    /// BEGIN, COMMIT, ROLLBACK, savepoints, XA.
    Transaction,
    /// SET, USE: remembered and brought to whichever server is used next.
    Session,
    /// Concerns the server itself: KILL, FLUSH, SET GLOBAL, SHOW PROCESSLIST.
    Administrative,
    /// Not recognised.
    Unknown,
}

impl Class {
    /// The word in `EXPLAIN ROUTE`, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Read => "read",
            Class::LockingRead => "locking_read",
            Class::Write => "write",
            Class::Ddl => "ddl",
            Class::Transaction => "transaction",
            Class::Session => "session",
            Class::Administrative => "administrative",
            Class::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a statement has its class.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ClassReason {
    /// SELECT, VALUES, TABLE, WITH .. SELECT: everything in it is known to be free of side effects.
    PlainSelect,
    /// SHOW of something that is the same on every server, or of this session.
    Show,
    /// SHOW of something that is one server's own.
    ShowServerState,
    /// EXPLAIN of a read.
    Explain,
    /// DESCRIBE table.
    Describe,
    /// HELP.
    Help,
    /// DO with harmless expressions.
    Do,
    /// FOR UPDATE
    ForUpdate,
    /// FOR SHARE
    ForShare,
    /// LOCK IN SHARE MODE
    LockInShareMode,
    /// INTO @variable
    IntoVariable,
    /// INTO OUTFILE, INTO DUMPFILE
    IntoFile,
    /// @a := ...
    AssignsUserVariable,
    /// PROCEDURE ANALYSE
    ProcedureClause,
    /// A name before a parenthesis that is no known built-in.
    UnknownFunction(String),
    /// A built-in that does or needs more than compute.
    FunctionWithEffect(&'static str),
    /// NEXT VALUE FOR, PREVIOUS VALUE FOR, s.nextval
    SequenceValue,
    /// A use of FOR that is not known.
    UnknownForClause,
    /// INSERT, UPDATE, DELETE, REPLACE, LOAD DATA, ...; also inside something that looked like a read.
    WritingStatement,
    /// WITH .. UPDATE, WITH .. DELETE
    WithWrite,
    /// EXPLAIN of something that is not a read.
    ExplainWrite,
    /// ANALYZE UPDATE and EXPLAIN ANALYZE UPDATE execute it.
    AnalyzeWrite,
    /// CALL
    Call,
    /// Several statements in one text.
    MultiStatement,
    /// BEGIN NOT ATOMIC, IF, WHILE and other blocks.
    CompoundStatement,
    /// PREPARE, EXECUTE, DEALLOCATE
    PreparedInText,
    /// HANDLER
    Handler,
    /// LOCK TABLES, UNLOCK TABLES
    LockTables,
    /// GET DIAGNOSTICS, SIGNAL, RESIGNAL
    Diagnostics,
    /// CREATE, ALTER, DROP, GRANT, ...
    Definition,
    /// BEGIN, COMMIT, ...
    TransactionControl,
    /// XA
    Xa,
    /// SET of session or user variables.
    SetSession,
    /// SET GLOBAL, SET PERSIST
    SetGlobal,
    /// SET of a shape that is not known.
    UnknownSet,
    /// SET STATEMENT .. FOR with a variable that is not known to be harmless.
    SetStatement,
    /// USE
    Use,
    /// KILL, FLUSH, RESET, CHECK TABLE and the like.
    ServerMaintenance,
    /// Too many executable comments, or one that breaks a token, to look at every way servers may read them.
    ExecutableComments,
    /// Servers may read it differently when they skip an executable comment; only one reading is a read.
    DependsOnVersion,
    /// A quote or comment without end, a byte without a place, a construct in which servers disagree where it ends.
    DoesNotLex,
    /// Longer than what is looked at.
    TooLong,
    /// No statement at all.
    Empty,
    /// A first word that begins no known statement.
    UnknownStatement,
    /// A known first word, but not continued as any manual says.
    DoesNotParse,
}

impl ClassReason {
    /// The word in `EXPLAIN ROUTE` and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            ClassReason::PlainSelect => "plain_select",
            ClassReason::Show => "show",
            ClassReason::ShowServerState => "show_server_state",
            ClassReason::Explain => "explain",
            ClassReason::Describe => "describe",
            ClassReason::Help => "help",
            ClassReason::Do => "do",
            ClassReason::ForUpdate => "for_update",
            ClassReason::ForShare => "for_share",
            ClassReason::LockInShareMode => "lock_in_share_mode",
            ClassReason::IntoVariable => "into_variable",
            ClassReason::IntoFile => "into_file",
            ClassReason::AssignsUserVariable => "assigns_user_variable",
            ClassReason::ProcedureClause => "procedure_clause",
            ClassReason::UnknownFunction(_) => "unknown_function",
            ClassReason::FunctionWithEffect(_) => "function_with_effect",
            ClassReason::SequenceValue => "sequence_value",
            ClassReason::UnknownForClause => "unknown_for_clause",
            ClassReason::WritingStatement => "writing_statement",
            ClassReason::WithWrite => "with_write",
            ClassReason::ExplainWrite => "explain_write",
            ClassReason::AnalyzeWrite => "analyze_write",
            ClassReason::Call => "call",
            ClassReason::MultiStatement => "multi_statement",
            ClassReason::CompoundStatement => "compound_statement",
            ClassReason::PreparedInText => "prepared_in_text",
            ClassReason::Handler => "handler",
            ClassReason::LockTables => "lock_tables",
            ClassReason::Diagnostics => "diagnostics",
            ClassReason::Definition => "definition",
            ClassReason::TransactionControl => "transaction_control",
            ClassReason::Xa => "xa",
            ClassReason::SetSession => "set_session",
            ClassReason::SetGlobal => "set_global",
            ClassReason::UnknownSet => "unknown_set",
            ClassReason::SetStatement => "set_statement",
            ClassReason::Use => "use",
            ClassReason::ServerMaintenance => "server_maintenance",
            ClassReason::ExecutableComments => "executable_comments",
            ClassReason::DependsOnVersion => "depends_on_version",
            ClassReason::DoesNotLex => "does_not_lex",
            ClassReason::TooLong => "too_long",
            ClassReason::Empty => "empty",
            ClassReason::UnknownStatement => "unknown_statement",
            ClassReason::DoesNotParse => "does_not_parse",
        }
    }
}

impl fmt::Display for ClassReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClassReason::UnknownFunction(name) => write!(f, "unknown_function {name}()"),
            ClassReason::FunctionWithEffect(name) => write!(f, "function_with_effect {name}()"),
            other => f.write_str(other.as_str()),
        }
    }
}

/// A table as a statement names it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TableName {
    /// The schema, if one is written.
    pub schema: Option<String>,
    /// The table, as written, without quotes.
    pub name: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Why a result must not be kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Uncacheable {
    /// Not a read, or not a SELECT.
    NotASelect,
    /// The tables are not certainly known.
    TablesUnknown,
    /// It reads no table.
    NoTables,
    /// It depends on the clock.
    Time,
    /// It depends on chance.
    Random,
    /// It depends on the session or the server: user variables, CURRENT_USER(), @@variables, FOUND_ROWS().
    Session,
    /// It reads information_schema, performance_schema, mysql or sys.
    SystemSchema,
    /// SQL_NO_CACHE
    Asked,
    /// SQL_CALC_FOUND_ROWS, or a UNION with a LIMIT: it leaves a number behind for the next statement that its rows do not tell.
    CalcFoundRows,
    /// Executable comments: what it says depends on the server.
    ExecutableComments,
}

impl Uncacheable {
    /// The word in `EXPLAIN ROUTE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Uncacheable::NotASelect => "not_a_select",
            Uncacheable::TablesUnknown => "tables_unknown",
            Uncacheable::NoTables => "no_tables",
            Uncacheable::Time => "time",
            Uncacheable::Random => "random",
            Uncacheable::Session => "session",
            Uncacheable::SystemSchema => "system_schema",
            Uncacheable::Asked => "sql_no_cache",
            Uncacheable::CalcFoundRows => "calc_found_rows",
            Uncacheable::ExecutableComments => "executable_comments",
        }
    }
}

/// A judgement in the making.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    pub(super) class: Class,
    pub(super) reason: ClassReason,
    pub(super) effects: Effects,
    /// Tables our own scan found.
    pub(super) tables: Vec<TableName>,
    pub(super) volatility: Volatility,
    pub(super) unknown_functions: Vec<String>,
    pub(super) multi: bool,
    pub(super) exec_comments: bool,
    pub(super) no_cache: bool,
    /// Operators and other words on which a parser recurses; bounds its stack.
    pub(super) operators: usize,
    pub(super) tokens: usize,
}

impl Verdict {
    pub(super) fn new(class: Class, reason: ClassReason) -> Verdict {
        Verdict {
            class,
            reason,
            effects: Effects::default(),
            tables: Vec::new(),
            volatility: Volatility::Deterministic,
            unknown_functions: Vec::new(),
            multi: false,
            exec_comments: false,
            no_cache: false,
            operators: 0,
            tokens: 0,
        }
    }

    pub(super) fn cacheable(&self, tables_complete: bool, tables: &[TableName]) -> Result<(), Uncacheable> {
        let effects = &self.effects;
        if self.class != Class::Read || self.reason != ClassReason::PlainSelect {
            return Err(Uncacheable::NotASelect);
        }
        if self.exec_comments {
            return Err(Uncacheable::ExecutableComments);
        }
        if self.no_cache {
            return Err(Uncacheable::Asked);
        }
        if effects.calc_found_rows {
            return Err(Uncacheable::CalcFoundRows);
        }
        if effects.system_schemas {
            return Err(Uncacheable::SystemSchema);
        }
        let session = effects.session_bound
            || effects.reads_last_insert_id
            || effects.reads_connection_id
            || !effects.reads_user_variables.is_empty()
            || !effects.reads_system_variables.is_empty();
        match self.volatility {
            Volatility::Random => return Err(Uncacheable::Random),
            Volatility::Time => return Err(Uncacheable::Time),
            Volatility::Session | Volatility::Server => return Err(Uncacheable::Session),
            Volatility::Deterministic if session => return Err(Uncacheable::Session),
            Volatility::Deterministic => {}
        }
        if !tables_complete {
            return Err(Uncacheable::TablesUnknown);
        }
        if tables.is_empty() {
            return Err(Uncacheable::NoTables);
        }
        Ok(())
    }
}
