//! What a statement does to, or needs from, the connection it runs on. The session's machine reads these to pin, to replay and to forget.

pub use crate::sql::transaction::{Access, TransactionEnd, TransactionStart};

/// What `KILL` is aimed at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kill {
    /// `KILL n`, `KILL CONNECTION n`
    Connection,
    /// `KILL QUERY n`, `KILL QUERY ID n`
    Query,
    /// `KILL USER u`
    User,
}

/// One statement's effects; for several statements sent together, the union of theirs. All empty or false: nothing to remember.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Effects {
    /// `BEGIN`, `START TRANSACTION`
    pub begins_transaction: Option<TransactionStart>,
    /// `COMMIT`, `ROLLBACK` (not to a savepoint)
    pub ends_transaction: Option<TransactionEnd>,
    /// `SAVEPOINT`, `ROLLBACK TO`, `RELEASE SAVEPOINT`
    pub savepoint: bool,
    /// Commits an open transaction although it is no COMMIT: DDL, account statements, LOCK TABLES.
    pub implicit_commit: bool,
    /// `SET TRANSACTION` (`false`: for the next transaction only; `true`: with SESSION or GLOBAL)
    pub set_transaction: Option<bool>,
    /// Names of temporary tables (and sequences) that come into being, as written, with the schema where one is written.
    pub creates_temporary_tables: Vec<String>,
    /// Names after `DROP TEMPORARY TABLE` and after a plain `DROP TABLE`, which drops temporary tables first; written likewise.
    pub drops_tables: Vec<String>,
    /// `LOCK TABLES`
    pub lock_tables: bool,
    /// `UNLOCK TABLES`
    pub unlock_tables: bool,
    /// `GET_LOCK()`
    pub get_lock: bool,
    /// `RELEASE_LOCK()`
    pub release_lock: bool,
    /// `RELEASE_ALL_LOCKS()`
    pub release_all_locks: bool,
    /// User variables assigned, lower case without `@`.
    pub sets_user_variables: Vec<String>,
    /// User variables mentioned, lower case without `@`.
    pub reads_user_variables: Vec<String>,
    /// System variables assigned for the session, lower case (`names` and `character set` for SET NAMES and SET CHARACTER SET).
    pub sets_system_variables: Vec<String>,
    /// System variables mentioned, lower case.
    pub reads_system_variables: Vec<String>,
    /// `SET GLOBAL`, `SET PERSIST`, `SET @@global.x`
    pub sets_global: bool,
    /// `SET ROLE`
    pub set_role: bool,
    /// `PREPARE s FROM ...`: the name
    pub text_prepare: Option<String>,
    /// `EXECUTE s` (empty: EXECUTE IMMEDIATE). What runs is not known from this text.
    pub text_execute: Option<String>,
    /// `DEALLOCATE PREPARE s`, `DROP PREPARE s`: the name
    pub text_deallocate: Option<String>,
    /// `HANDLER t OPEN`
    pub handler_open: bool,
    /// `HANDLER t READ`, `HANDLER t CLOSE`
    pub handler_use: bool,
    /// An XA statement.
    pub xa: bool,
    /// `SQL_CALC_FOUND_ROWS`
    pub calc_found_rows: bool,
    /// `FOUND_ROWS()`
    pub reads_found_rows: bool,
    /// `ROW_COUNT()`
    pub reads_row_count: bool,
    /// `@@last_gtid`
    pub reads_last_gtid: bool,
    /// `SHOW WARNINGS`, `SHOW ERRORS`, `GET DIAGNOSTICS`, `@@warning_count`, `@@error_count`
    pub reads_diagnostics: bool,
    /// `LAST_INSERT_ID()`, `@@last_insert_id`, `@@identity`
    pub reads_last_insert_id: bool,
    /// `LAST_INSERT_ID(expr)`
    pub sets_last_insert_id: bool,
    /// `NEXTVAL(s)`, `NEXT VALUE FOR s`, `s.nextval`
    pub takes_sequence_value: bool,
    /// `LASTVAL(s)`, `PREVIOUS VALUE FOR s`, `s.currval`: the value that this connection took last.
    pub reads_sequence_value: bool,
    /// `SHOW STATUS`, `SHOW SESSION STATUS`: counters of the connection.
    pub reads_session_status: bool,
    /// `FLUSH STATUS`: the connection's counters begin at zero, and somebody will read them.
    pub flush_status: bool,
    /// Reads what is not replicated and each server has of its own: global variables, status, processes, `performance_schema`.
    pub reads_server_state: bool,
    /// `USE schema`
    pub use_schema: Option<String>,
    /// `LOAD DATA LOCAL INFILE`: the client will be asked for a file.
    pub load_data_local: bool,
    /// `LOAD DATA` or `LOAD XML`, local or not.
    pub load_data: bool,
    /// `KILL`; the number is in the raw text.
    pub kill: Option<Kill>,
    /// `CALL`: what the procedure does is not known from this text.
    pub calls_procedure: bool,
    /// `FLUSH TABLES ... WITH READ LOCK`, `FLUSH TABLES ... FOR EXPORT`: the connection holds a lock afterwards.
    pub flush_tables_with_read_lock: bool,
    /// `LOCK INSTANCE FOR BACKUP`, `BACKUP STAGE`, `BACKUP LOCK`: the same.
    pub lock_backup: bool,
    /// `UNLOCK INSTANCE`, `BACKUP STAGE END`, `BACKUP UNLOCK`
    pub unlock_backup: bool,
    /// `SHUTDOWN`, `RESTART`
    pub shutdown: bool,
    /// `CONNECTION_ID()`, `@@pseudo_thread_id`
    pub reads_connection_id: bool,
    /// `SHOW [FULL] PROCESSLIST`, alone.
    pub shows_processlist: bool,
    /// Names `information_schema`, `performance_schema`, `mysql` or `sys`.
    pub system_schemas: bool,
    /// Reads what the statement before left on its connection, so it must run there.
    pub session_bound: bool,
    /// Anything may have happened to the session: CALL, EXECUTE, blocks, text that does not lex. What the server reports afterwards is all there is.
    pub opaque: bool,
}

impl Effects {
    /// Whether the proxy may answer the statement itself.
    pub fn answerable(&self) -> bool {
        self.kill.is_some() || self.shows_processlist || self.reads_server_state || self.reads_session_status
    }

    /// Adds another statement's effects; where only one can hold, the later one wins.
    pub fn merge(&mut self, other: Effects) {
        let Effects {
            begins_transaction,
            ends_transaction,
            savepoint,
            implicit_commit,
            set_transaction,
            creates_temporary_tables,
            drops_tables,
            lock_tables,
            unlock_tables,
            get_lock,
            release_lock,
            release_all_locks,
            sets_user_variables,
            reads_user_variables,
            sets_system_variables,
            reads_system_variables,
            sets_global,
            set_role,
            text_prepare,
            text_execute,
            text_deallocate,
            handler_open,
            handler_use,
            xa,
            calc_found_rows,
            reads_found_rows,
            reads_row_count,
            reads_last_gtid,
            reads_diagnostics,
            reads_last_insert_id,
            sets_last_insert_id,
            takes_sequence_value,
            reads_sequence_value,
            reads_session_status,
            flush_status,
            reads_server_state,
            use_schema,
            load_data_local,
            load_data,
            kill,
            calls_procedure,
            flush_tables_with_read_lock,
            lock_backup,
            unlock_backup,
            shutdown,
            reads_connection_id,
            shows_processlist,
            system_schemas,
            session_bound,
            opaque,
        } = other;
        for (mine, theirs) in [
            (&mut self.savepoint, savepoint),
            (&mut self.implicit_commit, implicit_commit),
            (&mut self.lock_tables, lock_tables),
            (&mut self.unlock_tables, unlock_tables),
            (&mut self.get_lock, get_lock),
            (&mut self.release_lock, release_lock),
            (&mut self.release_all_locks, release_all_locks),
            (&mut self.sets_global, sets_global),
            (&mut self.set_role, set_role),
            (&mut self.handler_open, handler_open),
            (&mut self.handler_use, handler_use),
            (&mut self.xa, xa),
            (&mut self.calc_found_rows, calc_found_rows),
            (&mut self.reads_found_rows, reads_found_rows),
            (&mut self.reads_row_count, reads_row_count),
            (&mut self.reads_last_gtid, reads_last_gtid),
            (&mut self.reads_diagnostics, reads_diagnostics),
            (&mut self.reads_last_insert_id, reads_last_insert_id),
            (&mut self.sets_last_insert_id, sets_last_insert_id),
            (&mut self.takes_sequence_value, takes_sequence_value),
            (&mut self.reads_sequence_value, reads_sequence_value),
            (&mut self.reads_session_status, reads_session_status),
            (&mut self.flush_status, flush_status),
            (&mut self.reads_server_state, reads_server_state),
            (&mut self.load_data_local, load_data_local),
            (&mut self.load_data, load_data),
            (&mut self.calls_procedure, calls_procedure),
            (&mut self.flush_tables_with_read_lock, flush_tables_with_read_lock),
            (&mut self.lock_backup, lock_backup),
            (&mut self.unlock_backup, unlock_backup),
            (&mut self.shutdown, shutdown),
            (&mut self.reads_connection_id, reads_connection_id),
            (&mut self.shows_processlist, shows_processlist),
            (&mut self.system_schemas, system_schemas),
            (&mut self.session_bound, session_bound),
            (&mut self.opaque, opaque),
        ] {
            *mine |= theirs;
        }
        self.begins_transaction = begins_transaction.or(self.begins_transaction);
        self.ends_transaction = ends_transaction.or(self.ends_transaction);
        self.set_transaction = set_transaction.or(self.set_transaction);
        self.kill = kill.or(self.kill);
        for (mine, theirs) in [
            (&mut self.text_prepare, text_prepare),
            (&mut self.text_execute, text_execute),
            (&mut self.text_deallocate, text_deallocate),
            (&mut self.use_schema, use_schema),
        ] {
            if theirs.is_some() {
                *mine = theirs;
            }
        }
        for (mine, theirs) in [
            (&mut self.creates_temporary_tables, creates_temporary_tables),
            (&mut self.drops_tables, drops_tables),
            (&mut self.sets_user_variables, sets_user_variables),
            (&mut self.reads_user_variables, reads_user_variables),
            (&mut self.sets_system_variables, sets_system_variables),
            (&mut self.reads_system_variables, reads_system_variables),
        ] {
            for name in theirs {
                remember(mine, name);
            }
        }
    }
}

/// Most names kept of a kind; a statement that names more is treated like any other that cannot be followed by the reader of the list.
pub const MAX_NAMES: usize = 256;

/// Adds a name once.
pub(crate) fn remember(names: &mut Vec<String>, name: String) {
    if names.len() < MAX_NAMES && !names.contains(&name) {
        names.push(name);
    }
}
