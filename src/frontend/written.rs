//! What a session has written: the GTIDs its reads must see, told by the server's OK or asked for after an error.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::backend::connection::CommandError;
use crate::backend::pool::Lease;
use crate::frontend::client::Client;
use crate::frontend::leave::ask;
use crate::frontend::query::Job;
use crate::frontend::shared::Shared;
use crate::frontend::told::Told;
use crate::protocol::command::Com;
use crate::protocol::errno::{self, Errno};
use crate::routing::decide::Consistency;
use crate::session::LastWrite;
use crate::session::pin::PinReason;
use crate::sql::classify::{Class, ClassReason};
use crate::topology::Flavor;
use crate::topology::gtid::GtidSet;

/// What each account has written through this proxy, by user name. A site whose requests have a connection each writes in one and reads in the
/// next; so a session begins where the writes of its account ended before it, and not with nothing.
///
/// An anonymous account lets in any name: beyond [`ACCOUNTS_MAX`] those without a client are forgotten.
#[derive(Debug, Default)]
pub struct AccountWrites(Mutex<HashMap<Arc<str>, SharedWrite>>);

/// So many names are remembered, and all that have a client.
const ACCOUNTS_MAX: usize = 4096;

/// The longest value that `SHOW VARIABLES` tells whole.
const SHOWN_MAX: usize = 1024;

/// What an account has written, with all its sessions.
pub type SharedWrite = Arc<Mutex<Option<LastWrite>>>;

impl AccountWrites {
    /// Of this user.
    pub fn of(&self, user: &Arc<str>) -> SharedWrite {
        let mut accounts = self.0.lock();
        if let Some(known) = accounts.get(user) {
            return known.clone();
        }
        if accounts.len() >= ACCOUNTS_MAX && accounts.len().is_power_of_two() {
            accounts.retain(|_, written| Arc::strong_count(written) > 1);
        }
        accounts.entry(user.clone()).or_default().clone()
    }
}

impl Client {
    /// The session has written up to here.
    pub(super) fn learn_gtid(&mut self, lease: &Lease, gtid: Option<&[u8]>) {
        if let Some(text) = gtid.and_then(|text| std::str::from_utf8(text).ok()).filter(|text| !text.is_empty())
            && let Ok(gtid) = GtidSet::parse(lease.flavor, text)
        {
            if lease.flavor == Flavor::MariaDb {
                self.left.wrote(text);
            }
            self.shared.known.learn(lease.server, &gtid);
            let newest = || self.shared.known.newest(lease.server);
            match self.shared.settings.load().routing.consistency {
                Consistency::None => {}
                Consistency::Session => LastWrite::learn(&mut self.account.written.lock(), lease.server, gtid.clone(), newest),
                Consistency::Global => LastWrite::learn(&mut self.shared.newest_write.lock(), lease.server, gtid.clone(), newest),
            }
            LastWrite::learn(&mut self.session.written, lease.server, gtid, newest);
        }
    }

    /// The session begins: it must find what its account wrote before, but for what every replica is known to have.
    pub(super) fn begins_behind(&mut self) {
        // Looked at before the servers are: what is written meanwhile was not acknowledged when this session began.
        let written = self.account.written.lock().clone();
        self.session.written = written.filter(|last| !is_lost(&self.shared, last) && !is_everywhere(&self.shared, last));
    }

    /// A statement that failed may have written all the same: rows of a table without transactions, what a procedure did before
    /// it failed, the tables that `DROP TABLE a, missing` did find. The error tells no GTID, so the
    /// server is asked. `false`: it could not be asked.
    pub(super) async fn learn_position(&mut self, lease: &mut Lease) -> bool {
        // What leaves a trace as it is clears the list of conditions, which the session may ask there for more than was taken of it.
        let untraced = self.session.pins.has(PinReason::SessionStatus) && self.left.warning_count() == 0;
        let position = match untraced {
            true => position_untraced(lease).await,
            false => {
                let sql = match lease.flavor {
                    Flavor::MySql => "SELECT @@GLOBAL.gtid_executed LIMIT 1",
                    Flavor::MariaDb => "SELECT @@last_gtid LIMIT 1",
                };
                lease.scalar(sql).await
            }
        };
        match position {
            Ok(position) => {
                self.learn_gtid(lease, position.as_deref());
                position.is_some()
            }
            // The connection is as good as before, and the session may be bound to it.
            Err(CommandError::Refused(_)) => false,
            Err(CommandError::Io(_) | CommandError::Nonsense(_)) => {
                lease.tainted = true;
                false
            }
        }
    }
}

/// How far a server has written, asked in a way that leaves its optimizer's trace of the statement before: the session has its statements traced.
async fn position_untraced(lease: &mut Lease) -> Result<Option<Vec<u8>>, CommandError> {
    let (shown, asked) = match lease.flavor {
        Flavor::MySql => ("SHOW GLOBAL VARIABLES LIKE 'gtid_executed'", "SELECT @@GLOBAL.gtid_executed LIMIT 1"),
        Flavor::MariaDb => ("SHOW SESSION VARIABLES LIKE 'last_gtid'", "SELECT @@last_gtid LIMIT 1"),
    };
    let row = ask(lease, shown).await?.0.rows.into_iter().next();
    match row.and_then(|row| row.into_iter().nth(1)?) {
        // A longer one is cut there, and `sql_select_limit` may leave none.
        Some(position) if position.len() < SHOWN_MAX => Ok(Some(position)),
        _ => lease.scalar(asked).await,
    }
}

/// Whether a statement that ended with this error may have changed something that lasts: not when it was a read, and not when it
/// was refused before anything was done (it did not parse, names what is not there, or was not allowed).
pub(super) fn may_have_written(job: &Job<'_>, errno: u16) -> bool {
    const REFUSED: &[Errno] = &[
        errno::ER_DBACCESS_DENIED_ERROR,
        errno::ER_ACCESS_DENIED_ERROR,
        errno::ER_NO_DB_ERROR,
        errno::ER_BAD_DB_ERROR,
        errno::ER_BAD_FIELD_ERROR,
        errno::ER_PARSE_ERROR,
        errno::ER_TABLEACCESS_DENIED_ERROR,
        errno::ER_COLUMNACCESS_DENIED_ERROR,
        errno::ER_NO_SUCH_TABLE,
        errno::ER_SPECIFIC_ACCESS_DENIED_ERROR,
        errno::ER_OPTION_PREVENTS_STATEMENT,
        errno::ER_SP_DOES_NOT_EXIST,
    ];
    let class = job.statement.class;
    // SIGNAL fails, and writes nothing.
    let writes = matches!(class, Class::Write | Class::Ddl | Class::Unknown) && job.statement.reason != ClassReason::Diagnostics;
    // A procedure or a list of statements may be refused after its first statement has written.
    let many = job.statement.effects.opaque || job.statement.multi || job.statement.effects.calls_procedure;
    job.com != Com::StmtPrepare && writes && (many || !REFUSED.contains(&Errno(errno)))
}

/// Whether a statement that ended with this error in an open transaction may have committed it before: a definition does so before it looks
/// for what it names, and so may what runs unseen.
pub(super) fn may_have_committed(job: &Job<'_>, errno: u16) -> bool {
    let effects = &job.statement.effects;
    let unseen = effects.opaque || effects.calls_procedure || job.statement.multi;
    job.com != Com::StmtPrepare && (unseen || effects.implicit_commit && Errno(errno) != errno::ER_PARSE_ERROR)
}

/// Whether the server must be asked how far it has written, since the reply did not tell. `open`: a transaction is, as far as is known.
pub(super) fn is_to_be_asked(job: &Job<'_>, told: &Told, open: bool) -> bool {
    match told.errno {
        Some(errno) if open => may_have_committed(job, errno),
        Some(errno) => may_have_written(job, errno),
        None => false,
    }
}

/// Whether there is no server besides the master, in whatever state, that may be read and lack it.
fn is_everywhere(shared: &Shared, last: &LastWrite) -> bool {
    let snapshot = shared.snapshot.load();
    snapshot.current().all(|server| snapshot.master == Some(server.id) || (server.causal && shared.has(server.id, last.gtids())))
}

/// Whether it was written on a master that has been replaced, and its successor does not have it: nobody ever will.
fn is_lost(shared: &Shared, last: &LastWrite) -> bool {
    let snapshot = shared.snapshot.load();
    snapshot.writer().is_some_and(|master| master.id != last.server() && !shared.has(master.id, last.gtids()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::ServerId;

    fn name(n: usize) -> Arc<str> {
        format!("u{n}").into()
    }

    #[test]
    fn an_account_that_comes_back_finds_its_writes_and_any_number_of_names_is_few() {
        let accounts = AccountWrites::default();
        let set = GtidSet::parse(Flavor::MariaDb, "0-1-7").unwrap();
        LastWrite::learn(&mut accounts.of(&name(0)).lock(), ServerId(0), set.clone(), || None);
        assert_eq!(accounts.of(&name(0)).lock().as_ref().map(LastWrite::gtids), Some(&set));
        assert_eq!(*accounts.of(&name(1)).lock(), None);
        let stays = accounts.of(&name(2));
        for n in 3..20_000 {
            accounts.of(&name(n));
        }
        assert!(accounts.0.lock().len() <= 2 * ACCOUNTS_MAX);
        assert!(Arc::ptr_eq(&stays, &accounts.of(&name(2))), "one that has a client is kept");
    }
}
