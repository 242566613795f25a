//! What a session has written: the GTIDs its reads must see, told by the server's OK or asked for after an error.

use crate::backend::pool::Lease;
use crate::frontend::client::Client;
use crate::frontend::query::Job;
use crate::protocol::command::Com;
use crate::routing::decide::Consistency;
use crate::sql::classify::Class;
use crate::topology::Flavor;
use crate::topology::gtid::GtidSet;

impl Client {
    /// The session has written up to here.
    pub(super) fn learn_gtid(&mut self, lease: &Lease, gtid: Option<&[u8]>) {
        if let Some(gtid) = gtid.and_then(|text| std::str::from_utf8(text).ok()).filter(|text| !text.is_empty())
            && let Ok(gtid) = GtidSet::parse(lease.flavor, gtid)
        {
            self.shared.known.learn(lease.server, &gtid);
            if self.shared.settings.load().routing.consistency == Consistency::Global {
                match &mut *self.shared.newest_write.lock() {
                    Some(newest) => newest.merge(&gtid),
                    none => *none = Some(gtid.clone()),
                }
            }
            match &mut self.session.written {
                Some(written) => written.merge(&gtid),
                none => *none = Some(gtid),
            }
        }
    }

    /// A statement that failed may have written all the same: rows of a table without transactions, what a procedure did before
    /// it failed, the tables that `DROP TABLE a, missing` did find. The error tells no GTID, so the server is asked.
    pub(super) async fn learn_position(&mut self, lease: &mut Lease) {
        let sql = match lease.flavor {
            Flavor::MySql => "SELECT @@GLOBAL.gtid_executed",
            Flavor::MariaDb => "SELECT @@last_gtid",
        };
        match lease.scalar(sql).await {
            Ok(position) => self.learn_gtid(lease, position.as_deref()),
            Err(_) => lease.tainted = true,
        }
    }
}

/// Whether a statement that ended with this error may have changed something that lasts: not when it was a read, and not when it
/// was refused before anything was done (it did not parse, names what is not there, or was not allowed).
pub(super) fn may_have_written(job: &Job<'_>, errno: u16) -> bool {
    const REFUSED: &[u16] = &[1044, 1045, 1046, 1049, 1054, 1064, 1142, 1143, 1146, 1227, 1290, 1305];
    let class = job.statement.class;
    let writes = matches!(class, Class::Write | Class::Ddl | Class::Unknown);
    // A procedure or a list of statements may be refused after its first statement has written.
    let many = job.statement.effects.opaque || job.statement.multi || job.statement.effects.calls_procedure;
    job.com != Com::StmtPrepare && writes && (many || !REFUSED.contains(&errno))
}
