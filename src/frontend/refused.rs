//! Errors of a server that are no fault of the client's: it refused to write because it is read-only, it has not heard yet of what the
//! statement names, its prepared statement is not what it was, it has no room for another. The statement is run elsewhere or again,
//! and the client hears nothing of it.

use std::time::Instant;

use crate::backend::pool::Lease;
use crate::frontend::client::Client;
use crate::frontend::errors::{ClientError, Source};
use crate::frontend::query::{Failed, Job};
use crate::frontend::relay::Pending;
use crate::net::Buffer;
use crate::protocol::command::Com;
use crate::protocol::errno::{self, Errno};
use crate::protocol::frame::{HEADER_LEN, Header};
use crate::protocol::ok_err_eof::{ErrPacket, Status};
use crate::routing::decide::ReadFromMaster;
use crate::routing::decision::{Decision, Reason, Target};
use crate::session::pin::PinReason;
use crate::sql::classify::{Class, Classified};
use crate::topology::{Failure, Flavor, ServerId};

/// What a server says of names and rights that it does not know: schemas, tables, columns, indexes, partitions, views, routines, triggers,
/// events, sequences, accounts and roles.
const LACKING: [Errno; 24] = [
    errno::ER_DBACCESS_DENIED_ERROR,
    errno::ER_ACCESS_DENIED_ERROR,
    errno::ER_BAD_DB_ERROR,
    errno::ER_BAD_FIELD_ERROR,
    errno::ER_UNKNOWN_TABLE,
    errno::ER_NONEXISTING_GRANT,
    errno::ER_TABLEACCESS_DENIED_ERROR,
    errno::ER_COLUMNACCESS_DENIED_ERROR,
    errno::ER_NO_SUCH_TABLE,
    errno::ER_NONEXISTING_TABLE_GRANT,
    errno::ER_KEY_DOES_NOT_EXITS,
    errno::ER_SPECIFIC_ACCESS_DENIED_ERROR,
    errno::ER_SP_DOES_NOT_EXIST,
    errno::ER_VIEW_NO_EXPLAIN,
    errno::ER_WRONG_OBJECT,
    errno::ER_VIEW_INVALID,
    errno::ER_TRG_DOES_NOT_EXIST,
    errno::ER_PROCACCESS_DENIED_ERROR,
    errno::ER_NO_SUCH_USER,
    errno::ER_EVENT_DOES_NOT_EXIST,
    errno::ER_FUNC_INEXISTENT_NAME_COLLISION,
    errno::ER_UNKNOWN_PARTITION,
    errno::ER_INVALID_ROLE,
    errno::ER_UNKNOWN_SEQUENCES,
];

/// What the client of a session that must stay on a server other than the master is told when it writes.
pub(super) fn bound_to(server: &str, pin: PinReason) -> String {
    format!("this session is bound to {server}, which is not the master, by {}; end that, then write", pin.as_str())
}

/// Whether a server said that it may not write.
pub(super) fn may_not_write(errno: Option<u16>) -> bool {
    matches!(errno.map(Errno), Some(errno::ER_OPTION_PREVENTS_STATEMENT | errno::ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION))
}

/// Why a server does not write that a statement was sent to as to the master.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NotWritable {
    /// Somebody else has made it read-only, another proxy or the process that took over from this one, and the monitor has not seen it
    /// yet.
    Unseen,
    /// Another one was found to be master after it had been decided where the statement goes: the server is read-only by now, or its
    /// connection was [guarded](crate::backend::connection::Guard) already.
    Deposed,
}

/// Whether this error is the server's or Sluice's, and not one that the statement would meet at the master too. `guarded`: Sluice has
/// made the connection read-only.
fn not_writable(error: &ErrPacket<'_>, guarded: bool, target: Target, is_master: bool) -> Option<NotWritable> {
    match Errno(error.errno) {
        errno::ER_OPTION_PREVENTS_STATEMENT if !is_read_only(error) => None,
        errno::ER_OPTION_PREVENTS_STATEMENT if is_master => Some(NotWritable::Unseen),
        errno::ER_OPTION_PREVENTS_STATEMENT if target == Target::Master => Some(NotWritable::Deposed),
        errno::ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION if guarded && target == Target::Master => Some(NotWritable::Deposed),
        _ => None,
    }
}

/// Whether the option that prevents the statement, which 1290 names in every language, is `--read-only` or `--super-read-only`, and not
/// `--secure-file-priv`, `--innodb-read-only` or another.
fn is_read_only(error: &ErrPacket<'_>) -> bool {
    let says = |word: &[u8]| error.message.windows(word.len()).any(|part| part == word);
    (says(b"read-only") || says(b"read_only")) && !says(b"innodb")
}

/// The error that a reply is, or that stands behind the columns of a result that came to nothing.
fn error_of<'b>(buffer: &'b Buffer, pending: &Pending) -> Option<ErrPacket<'b>> {
    let mut last = buffer.filled().get(..pending.from_buffer)?;
    while let Some(header) = Header::parse(last).filter(|h| h.packet_len() < last.len()) {
        last = last.get(header.packet_len()..)?;
    }
    ErrPacket::parse(last.get(HEADER_LEN..)?)
}

/// Whether what was executed is not there, or not as it was prepared: said before anything of it ran. A procedure or a trigger may end with these
/// numbers too, and what it has done by then must not be done again.
fn has_run_nothing(statement: &Classified, error: &ErrPacket<'_>) -> bool {
    let says = |word: &[u8]| error.message.windows(word.len()).any(|part| part == word);
    // A trigger that makes an error of its own gives it a SQLSTATE for those.
    let of_server = error.sqlstate.is_none_or(|state| state == *b"HY000");
    match Errno(error.errno) {
        errno::ER_NEED_REPREPARE => of_server && !statement.runs_unseen() && !statement.effects.calls_procedure,
        // What lacks its statement is named in every language: `mysqld_stmt_execute` on MariaDB, `mysql_stmt_precheck` on MySQL. In a procedure
        // it is `EXECUTE`.
        errno::ER_UNKNOWN_STMT_HANDLER => of_server && (says(b"mysqld_stmt_") || says(b"mysql_stmt_")),
        _ => false,
    }
}

impl Client {
    /// A server other than the master refused to write. A statement taken for a read is run on the master instead; in a read-only
    /// transaction, which is on this server because Sluice chose it, the client is told what the master would say.
    pub(super) fn read_only_server(
        &mut self,
        job: &Job<'_>,
        decision: &Decision,
        buffer: &Buffer,
        pending: &mut Pending,
        errno: Option<u16>,
    ) -> Option<Failed> {
        if !pending.out.is_empty() {
            return None;
        }
        if errno.map(Errno) == Some(errno::ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION) {
            if self.session.status.has(Status::IN_TRANS_READONLY) || self.is_on_master(decision) {
                return None;
            }
            let failed = self.runs_on_master(job, decision);
            if let (None, Reason::Pinned(pin), Some(server)) = (&failed, decision.reason, decision.server) {
                let seq = buffer.filled().get(3).copied()?;
                pending.out =
                    ClientError::new(Source::Client, errno::ER_OPTION_PREVENTS_STATEMENT, bound_to(&self.shared.name(server), pin))
                        .packet(seq);
                pending.from_buffer = 0;
            }
            return failed;
        }
        let seq = buffer.filled().get(3).copied()?;
        if !is_read_only(&error_of(buffer, pending)?) || self.is_on_master(decision) {
            return None;
        }
        if self.session.status.has(Status::IN_TRANS_READONLY) {
            let text = match self.shared.flavor() {
                Some(Flavor::MariaDb) => "Cannot execute statement in a READ ONLY transaction",
                _ => "Cannot execute statement in a READ ONLY transaction.",
            };
            pending.out = ClientError::of_server(errno::ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION, text).packet(seq);
            pending.from_buffer = 0;
            return None;
        }
        self.runs_on_master(job, decision)
    }

    fn is_on_master(&self, decision: &Decision) -> bool {
        decision.server.is_none() || self.shared.snapshot.load().master == decision.server
    }

    /// A statement that was taken for a read, or that an operator took for one by naming a server. What keeps the session on the server it was
    /// sent to must not be lost with it; `FOUND_ROWS()` is another after this statement anyway.
    fn runs_on_master(&mut self, job: &Job<'_>, decision: &Decision) -> Option<Failed> {
        let counts_only = matches!(decision.reason, Reason::Pinned(_)) && self.session.pins.only(PinReason::FoundRows);
        let first = !job.statement.writes_unseen.is_raised();
        if !(decision.may_retry && first || counts_only) || !matches!(job.statement.class, Class::Read | Class::Write) {
            return None;
        }
        self.session.pins.set(PinReason::FoundRows, false);
        self.left.moves();
        Some(Failed::ReadOnlyServer)
    }

    /// The server that a write was sent to as to the master refused it. Nothing of the statement has happened, and it waits for whoever
    /// is master. Of a procedure, or of several statements, the first may have been done: they are not begun anew.
    pub(super) fn master_is_read_only(
        &self,
        job: &Job<'_>,
        lease: &Lease,
        decision: &Decision,
        started: Instant,
        buffer: &Buffer,
        pending: &Pending,
    ) -> Option<Failed> {
        let effects = &job.statement.effects;
        let many = effects.opaque || effects.calls_procedure || job.statement.multi;
        let whole = !many && matches!(job.statement.class, Class::Write | Class::LockingRead | Class::Ddl);
        let is_master = self.shared.snapshot.load().master == Some(lease.server);
        let error = error_of(buffer, pending)?;
        let why = not_writable(&error, lease.guard.stands(), decision.target, is_master)?;
        if !pending.out.is_empty() || !whole || self.session.pins.any() || started.elapsed() >= self.hold_timeout() {
            return None;
        }
        let name = self.shared.name(lease.server);
        let text = match why {
            NotWritable::Unseen => {
                let text = format!("{name} has become read-only, and another master is not known yet");
                self.shared.monitor.poke(lease.server, Failure::Io(text.clone()));
                text
            }
            NotWritable::Deposed => format!("{name} was the master when the statement was sent there, and is not any more"),
        };
        Some(Failed::Before(ClientError::new(Source::Server, errno::ER_OPTION_PREVENTS_STATEMENT, text)))
    }

    /// Whether a statement that went well gave the client's own account another password, so that the one it logged in with opens no
    /// more connections. Another account's of a similar name costs a pin, no more.
    pub(super) fn changed_its_password(&self, job: &Job<'_>) -> bool {
        let text = &job.statement.digest_text;
        let starts = |with: &str| text.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
        if job.statement.class != Class::Ddl || !(starts("ALTER USER") || starts("SET PASSWORD")) {
            return false;
        }
        let sql = String::from_utf8_lossy(job.sql).to_ascii_uppercase();
        let own = self.account.key.user.to_ascii_uppercase();
        starts("SET PASSWORD =") || sql.contains("USER()") || sql.contains("CURRENT_USER") || sql.contains(&own)
    }

    /// An error that is no fault of the client's: a replica that has not heard of a definition yet, a server's statement that is not what
    /// it was prepared as, no room for another. The statement is run elsewhere or prepared again, and the client hears nothing of it.
    pub(super) fn not_its_fault(
        &self,
        job: &Job<'_>,
        lease: &mut Lease,
        decision: &Decision,
        errno: u16,
        buffer: &Buffer,
        pending: &Pending,
    ) -> Option<Failed> {
        // Of a packet that is longer than what is kept of it the rest has gone by.
        if !pending.out.is_empty() || self.upload.is_some() {
            return None;
        }
        let asked_there = matches!(decision.reason, Reason::Hint | Reason::Rule(_) | Reason::Pinned(_));
        if decision.may_retry && !asked_there && job.statement.class == Class::Read && self.may_lack(lease.server, errno) {
            return Some(Failed::Lacks);
        }
        let reply = buffer.filled().get(..pending.from_buffer)?;
        let payload = reply.get(HEADER_LEN..)?.to_vec();
        match (job.com, Errno(errno)) {
            (Com::StmtPrepare, _) if self.make_room(lease, errno) => Some(Failed::PrepareAgain(payload)),
            (Com::StmtExecute, errno::ER_NEED_REPREPARE | errno::ER_UNKNOWN_STMT_HANDLER)
                if has_run_nothing(job.statement, &error_of(buffer, pending)?) =>
            {
                // What was sent for it with COM_STMT_SEND_LONG_DATA would be lost.
                let text = job.text.filter(|text| text.private == 0)?;
                lease.forget_prepared(text);
                Some(Failed::PrepareAgain(payload))
            }
            _ => None,
        }
    }

    /// Whether what this server says it does not know may be known to the master, which then is asked. A definition or a right that another
    /// session has just made is not on every replica; that an unknown name is asked for twice costs little.
    pub(super) fn may_lack(&self, server: ServerId, errno: u16) -> bool {
        let snapshot = self.shared.snapshot.load();
        LACKING.contains(&Errno(errno))
            && !self.session.pins.any()
            && snapshot.writer().is_some_and(|master| master.id != server)
            && self.shared.settings.load().routing.read_from_master != ReadFromMaster::Never
    }

    /// Whether this is the server's limit on prepared statements; then some are closed.
    pub(super) fn make_room(&self, lease: &mut Lease, errno: u16) -> bool {
        if Errno(errno) != errno::ER_MAX_PREPARED_STMT_COUNT_REACHED {
            return false;
        }
        lease.forget_all_prepared();
        if let Some(pool) = self.shared.pools.get(lease.server.index()) {
            pool.make_room_for_prepared(Instant::now());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::classify::classify;
    use crate::sql::lexer::LexMode;

    #[test]
    fn what_may_have_run_is_not_executed_again() {
        let gone: &[u8] = b"Unknown prepared statement handler (7) given to mysqld_stmt_execute";
        let within: &[u8] = b"Unknown prepared statement handler (s) given to EXECUTE";
        let changed: &[u8] = b"Prepared statement needs to be re-prepared";
        for (sql, errno, state, message, expected) in [
            ("SELECT a FROM t", 1615, b"HY000", changed, true),
            ("INSERT INTO t VALUES (1)", 1615, b"HY000", changed, true),
            ("INSERT INTO t VALUES (1)", 1615, b"45000", b"a trigger's own", false),
            ("INSERT INTO t VALUES (f(1))", 1615, b"HY000", changed, false),
            ("SELECT f(1)", 1615, b"HY000", changed, false),
            ("CALL p()", 1615, b"HY000", changed, false),
            ("CALL p()", 1243, b"HY000", within, false),
            ("CALL p()", 1243, b"HY000", gone, true),
            ("CALL p()", 1243, b"HY000", b"Unknown prepared statement handler (7) given to mysql_stmt_precheck", true),
            ("SELECT a FROM t", 1243, b"HY000", gone, true),
            ("SELECT a FROM t", 1146, b"42S02", changed, false),
        ] {
            let statement = classify(sql.as_bytes(), LexMode::default());
            let error = ErrPacket { errno, sqlstate: Some(*state), message };
            assert_eq!(has_run_nothing(&statement, &error), expected, "{sql}: {errno}");
        }
    }

    #[test]
    fn a_write_for_the_master_waits_only_where_another_refused_it() {
        use NotWritable::{Deposed, Unseen};
        let says = |errno, message: &'static [u8]| ErrPacket { errno, sqlstate: Some(*b"HY000"), message };
        for (code, guarded, target, is_master, wanted) in [
            (1290, false, Target::Master, true, Some(Unseen)),
            // The snapshot has changed since it was decided where the statement goes.
            (1290, false, Target::Master, false, Some(Deposed)),
            (1792, true, Target::Master, false, Some(Deposed)),
            // It has changed back.
            (1792, true, Target::Master, true, Some(Deposed)),
            // The session's own transaction is read-only.
            (1792, false, Target::Master, true, None),
            (1792, false, Target::Master, false, None),
            // Where a hint or a rule has sent it.
            (1290, false, Target::Server, false, None),
            (1792, true, Target::Server, false, None),
            (1792, true, Target::Replica, false, None),
            (1062, true, Target::Master, false, None),
        ] {
            let error =
                says(code, b"The MySQL server is running with the --super-read-only option so it cannot execute this statement");
            assert_eq!(not_writable(&error, guarded, target, is_master), wanted, "{code} {guarded} {target:?} {is_master}");
        }
        let other =
            says(1290, b"The MySQL server is running with the --secure-file-priv option so it cannot execute this statement");
        assert_eq!(not_writable(&other, false, Target::Master, true), None, "nobody else would run it");
    }
}
