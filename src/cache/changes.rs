//! What a reader of the binlog tells the cache. Other clients' writes, made at a server and not through Sluice, are known by no
//! other way; so a cache that is to hear of them (`cache.invalidate` has `"binlog"`) answers nothing until a reader says that it
//! follows, and nothing from the moment on that it says it does not.
//!
//! A reader calls from one thread, in the binlog's order. All calls are short and wait for nothing.

use std::fmt;

use crate::topology::GtidSet;

/// Why everything kept is to be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VoidReason {
    /// A schema, table, view, trigger, routine or event was made, changed or dropped.
    Ddl,
    /// Accounts, roles or privileges changed.
    Grants,
    /// A statement whose tables are not known: a routine's call, a statement the parser does not read.
    UnknownTables,
    /// Some of what was written was not seen: the reader was behind, began anew, or an event could not be read.
    Missed,
    /// Another server takes the writes now.
    Master,
    /// An operator's `FLUSH CACHE`, or a change of the configuration.
    Operator,
}

impl fmt::Display for VoidReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            VoidReason::Ddl => "ddl",
            VoidReason::Grants => "grants",
            VoidReason::UnknownTables => "unknown_tables",
            VoidReason::Missed => "missed",
            VoidReason::Master => "master",
            VoidReason::Operator => "operator",
        })
    }
}

/// The cache, as a reader of the binlog sees it. Names of schemas and tables are as the server writes them.
pub trait Changes: Send + Sync {
    /// These tables, as `(schema, table)`, have other rows than before. To be called when the transaction's end was read
    /// (earlier calls for the same tables do no harm); `gtid` is the transaction's, as its server writes it (`0-1-17`,
    /// `uuid:17`), when it has one. What is kept of these tables is void when the call returns.
    fn tables_changed(&self, tables: &[(&str, &str)], gtid: Option<&str>);

    /// What changed is not known by tables, or changes what any statement may answer: all that is kept is void.
    fn everything_changed(&self, reason: VoidReason, gtid: Option<&str>);

    /// What [`Changes::tables_changed`] told of this transaction can be seen by everybody now. A server logs a transaction before it commits
    /// it (long before, where it waits for a replica's acknowledgement), so what was read on the master in between has the old rows, and
    /// is void when the call returns. That the transaction was told before proves nothing: only a read that began behind its own client's
    /// OK does. A cache that cannot tell these apart does best to void without a name, as here.
    fn tables_seen(&self, tables: &[(&str, &str)], gtid: Option<&str>) {
        let _ = gtid;
        self.tables_changed(tables, None);
    }

    /// The same for [`Changes::everything_changed`].
    fn everything_seen(&self, reason: VoidReason, gtid: Option<&str>) {
        let _ = gtid;
        self.everything_changed(reason, None);
    }

    /// Definitions of tables changed: which tables change with which is to be asked for anew. Called like the others when it is read, and again when it can be
    /// seen: what was asked in between may be the old ones.
    fn definitions_changed(&self) {}

    /// The reader does not follow the master any more: from now on nothing is answered or kept, until [`Changes::following`].
    /// May be called again with another reason.
    fn lost(&self, reason: &str);

    /// The reader is connected to the current master and has read all that had been written when it connected. `missed` says
    /// whether writes may have gone by unseen since the last call before [`Changes::lost`]; then all that is kept is void.
    /// A reader that goes on at the GTID where it stopped, and has told of all since, passes `false`. The first call after the
    /// start passes `true`.
    fn following(&self, missed: bool);

    /// Whose log is followed, and since when; after [`Changes::following`].
    fn begins(&self, term: super::shared::Term) {
        let _ = term;
    }

    /// Everything up to this position has been told for the second time, or is no change of any table.
    fn stands(&self, position: &GtidSet) {
        let _ = position;
    }
}
