//! What a session has written: the GTIDs its reads must see, told by the server's OK or asked for after an error.

use crate::backend::pool::Lease;
use crate::frontend::client::Client;
use crate::frontend::query::Job;
use crate::protocol::command::Com;
use crate::routing::decide::Consistency;
use crate::sql::classify::Class;
use crate::topology::Flavor;
use crate::topology::gtid::GtidSet;

/// A session's writes are remembered in so many parts before they are simplified.
const WRITTEN_PARTS_MAX: usize = 16;

impl Client {
    /// The session has written up to here.
    pub(super) fn learn_gtid(&mut self, lease: &Lease, gtid: Option<&[u8]>) {
        if let Some(gtid) = gtid.and_then(|text| std::str::from_utf8(text).ok()).filter(|text| !text.is_empty())
            && let Ok(gtid) = GtidSet::parse(lease.flavor, gtid)
        {
            self.shared.known.learn(lease.server, &gtid);
            if self.shared.settings.load().routing.consistency == Consistency::Global {
                add(&mut self.shared.newest_write.lock(), gtid.clone(), || self.shared.known.newest(lease.server));
            }
            add(&mut self.session.written, gtid, || self.shared.known.newest(lease.server));
        }
    }

    /// A statement that failed may have written all the same: rows of a table without transactions, what a procedure did before
    /// it failed, the tables that `DROP TABLE a, missing` did find. The error tells no GTID, so the server is asked.
    /// `false`: it could not be asked.
    pub(super) async fn learn_position(&mut self, lease: &mut Lease) -> bool {
        let sql = match lease.flavor {
            Flavor::MySql => "SELECT @@GLOBAL.gtid_executed",
            Flavor::MariaDb => "SELECT @@last_gtid",
        };
        match lease.scalar(sql).await {
            Ok(position) => {
                self.learn_gtid(lease, position.as_deref());
                true
            }
            Err(_) => {
                lease.tainted = true;
                false
            }
        }
    }
}

/// With two sessions that write in turns, no number of one is another's neighbour. So that the set stays small, and a question about it cheap, it becomes all
/// that the server is known to have: more than was written, and in few pieces.
fn add(written: &mut Option<GtidSet>, gtid: GtidSet, newest: impl FnOnce() -> Option<GtidSet>) {
    let Some(written) = written else {
        *written = Some(gtid);
        return;
    };
    written.merge(&gtid);
    if written.parts() > WRITTEN_PARTS_MAX
        && let Some(all) = newest().filter(|all| all.covers(written) && all.parts() < written.parts())
    {
        *written = all;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_of_two_sessions_wrote_in_turns_stays_small() {
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let (mut written, mut server) = (None, GtidSet::parse(Flavor::MySql, &format!("{uuid}:1")).unwrap());
        for n in (3..=140_001).step_by(2) {
            let own = GtidSet::parse(Flavor::MySql, &format!("{uuid}:{n}")).unwrap();
            server.merge(&GtidSet::parse(Flavor::MySql, &format!("{uuid}:{}-{n}", n - 1)).unwrap());
            add(&mut written, own.clone(), || Some(server.clone()));
            let written = written.as_ref().unwrap();
            assert!(written.covers(&own) && written.parts() <= WRITTEN_PARTS_MAX + 1, "{n}: {} parts", written.parts());
        }
        // Nothing is known of the server: nothing is lost.
        let all = written.clone().unwrap();
        for n in 0..40 {
            add(&mut written, GtidSet::parse(Flavor::MySql, &format!("{uuid}:{}", 200_000 + 2 * n)).unwrap(), || None);
        }
        assert!(written.as_ref().unwrap().covers(&all));
    }
}
