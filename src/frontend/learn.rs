//! Step 9 of the way of one query: what a reply says about the session and its connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::backend::connection::Guard;
use crate::backend::pool::Lease;
use crate::frontend::client::Client;
use crate::frontend::query::{Job, Payload};
use crate::frontend::schemaless::moves;
use crate::frontend::told::Told;
use crate::protocol::command::Com;
use crate::session::machine::{Learned, is_tracking};
use crate::session::pin::PinReason;
use crate::sql::classify::Effects;
use crate::sql::classify::{Class, Classified, names_id};

/// The variables among those that a statement set by which a server is told what to track.
pub(super) fn tracking_set<'a>(statement: &'a Classified, told: &'a Told) -> Vec<&'a str> {
    if statement.plain && told.variables.is_empty() {
        return Vec::new();
    }
    let named = statement.effects.sets_system_variables.iter().map(|name| &**name);
    let seen = told.variables.iter().filter_map(|(name, _)| std::str::from_utf8(name).ok());
    named.chain(seen).filter(|name| is_tracking(name)).collect()
}

impl Client {
    /// Step 9: what the reply says about the session and the server.
    pub(super) fn learn(&mut self, job: &Job<'_>, lease: &mut Lease, told: &Told) {
        let is_read = job.statement.plain && job.statement.class == Class::Read && job.com != Com::StmtPrepare;
        if is_read && told.tells_of_no_change() && !job.text.is_some_and(|text| text.once) && self.session.learn_plain(told.status)
        {
            return;
        }
        let ok = told.errno.is_none();
        let prepare_only = job.com == Com::StmtPrepare;
        let effects = &job.statement.effects;
        let set = !job.statement.plain
            && (effects.sets_last_insert_id
                || effects.sets_system_variables.iter().any(|n| n == "last_insert_id" || n == "identity"));
        // A trigger may set one, and no server tells of `SELECT .. INTO @a` and `@a :=` in it.
        lease.dirty_users |=
            told.state_changed || effects.opaque || !effects.sets_user_variables.is_empty() || job.statement.class == Class::Write;
        if let Some(start) = effects.begins_transaction.filter(|_| !prepare_only) {
            (self.has_read, self.takes_snapshot) = (job.statement.multi, start.snapshot);
        }
        if job.statement.class != Class::Read && !prepare_only && job.statement.runs_unseen() {
            lease.locks_unseen = Some(self.entry.id);
        }
        let id_was_made = told.last_insert_id != 0 && made_by_server(job, told.last_insert_id);
        if id_was_made {
            lease.last_insert_id = told.last_insert_id;
        } else if set || effects.opaque || told.last_insert_id != 0 {
            // Changed without an OK that says to what: whoever reads it next restores his own.
            lease.last_insert_id = u64::MAX;
        }
        if !prepare_only {
            let learned = Learned {
                ok,
                errno: told.errno.unwrap_or(0),
                status: told.status,
                last_insert_id: told.last_insert_id,
                id_was_made,
                variables: &told.variables,
                schema: told.schema.as_deref(),
                state_changed: told.state_changed,
                overflow: told.overflow,
            };
            if (ok || job.statement.multi) && job.statement.changes_accounts() {
                self.shared.accounts_changed();
                if ok && job.statement.changes_global_rights() {
                    self.shared.outdate();
                }
            }
            if ok && effects.sets_global {
                self.session.learn_globals(job.sql);
                // Sessions that begin later have the new value; the other servers have not heard of it.
                self.shared.outdate_at(lease.server);
            }
            if !job.statement.plain {
                self.learn_sequences(effects);
            }
            let may_change = !(job.statement.plain && learned.is_plain());
            let before = may_change.then(|| self.session.state.clone());
            self.session.learn(job.statement, job.sql, &learned);
            if job.com == Com::InitDb && ok {
                self.session.schema_is(job.sql);
            }
            if told.overflow
                || told.variables.iter().any(|(name, _)| Guard::is_variable(name))
                || effects.sets_system_variables.iter().any(|name| Guard::is_variable(name.as_bytes()))
            {
                lease.guard.was_assigned();
            }
            if before.is_some_and(|before| !Arc::ptr_eq(&before, &self.session.state)) {
                let entered = told.schema.is_some() || job.com == Com::InitDb && ok;
                self.lease_stands_there(lease, entered);
                self.show_schema();
            } else if may_change && ok && moves(job) {
                // Into the schema that the session has been in, from another of the connection's.
                self.lease_stands_there(lease, true);
            }
        } else if let (Some(prepared), Some(text)) = (&told.prepared, job.text) {
            lease.note_prepared(text.clone(), prepared.statement_id);
        }
        if let Some(text) = job.text.filter(|text| text.once) {
            lease.forget_prepared(text);
        }
        self.learn_gtid(lease, told.gtid.as_deref());
        self.session.defined |= job.statement.class == Class::Ddl && told.gtid.is_some();
    }

    /// What `LASTVAL(s)` tells stays on its connection. Most who take values never ask, and need not stay there.
    fn learn_sequences(&mut self, effects: &Effects) {
        let asked = &self.shared.asks_last_values;
        if effects.reads_sequence_value && !asked.load(Ordering::Relaxed) {
            asked.store(true, Ordering::Relaxed);
        }
        if effects.takes_sequence_value && asked.load(Ordering::Relaxed) {
            self.session.pins.set(PinReason::Sequence, true);
        }
    }

    pub(super) fn show_schema(&self) {
        self.entry.view.lock().schema = self.session.state.schema().map(|s| String::from_utf8_lossy(s).into());
    }
}

/// Whether the id of the OK is one that `LAST_INSERT_ID()` tells, see [`Classified::ok_tells_insert_id`](crate::sql::classify::Classified).
fn made_by_server(job: &Job<'_>, id: u64) -> bool {
    let parameters = match job.payload {
        Payload::Packet(_) => &[],
        Payload::Execute(payload) => payload,
        Payload::Upload => return false,
    };
    job.statement.ok_tells_insert_id && !names_id(job.sql, parameters, id)
}
