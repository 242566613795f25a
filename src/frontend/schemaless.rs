//! The current schema of a session may be gone: dropped by somebody else, or taken away from its account. A server lets such a session
//! go on with all that does not need it, and lets it enter another. Here its statements run on a connection without a schema meanwhile;
//! each tries the schema first, since it may be there again.

use std::sync::Arc;

use crate::backend::pool::Lease;
use crate::frontend::client::Client;
use crate::frontend::query::Job;
use crate::protocol::command::Com;
use crate::protocol::errno::{self, Errno};
use crate::session::state::{Change, State};

/// What a server says of a schema that is gone.
const NO_SCHEMA: [Errno; 2] = [errno::ER_DBACCESS_DENIED_ERROR, errno::ER_BAD_DB_ERROR];

impl Client {
    /// The state that stands on the session's connection while a statement runs: the session's own, without the schema where that is gone.
    pub(super) fn wanted_state(&self) -> &Arc<State> {
        self.schemaless.as_ref().unwrap_or(&self.session.state)
    }

    /// The state to bring a connection to before this statement. `USE` needs no schema before its own.
    pub(super) fn state_before(&self, job: &Job<'_>, lease: &Lease) -> Arc<State> {
        let want = self.wanted_state();
        if moves(job) && lease.have.schema() != want.schema() {
            return Arc::new(want.changed(&[Change::Schema(lease.have.schema().map(Into::into))]));
        }
        want.clone()
    }

    /// Whether this error of a server, met while a connection was brought to the session's state, says that the schema is gone.
    pub(super) fn schema_is_gone(&self, errno: u16) -> bool {
        NO_SCHEMA.contains(&Errno(errno))
            && self.schemaless.is_none()
            && !self.session.pins.any()
            && self.session.state.schema().is_some()
    }

    /// From here to the end of the statement, and of what it begins, the session has no schema.
    pub(super) fn go_without_schema(&mut self) {
        let without = self.session.state.changed(&[Change::Schema(None)]);
        self.schemaless = Some(self.shared.share(Arc::new(without)));
    }

    /// The statement has changed the session's state; that of its connection is the same.
    pub(super) fn lease_stands_there(&mut self, lease: &mut Lease, entered: bool) {
        self.session.state = self.shared.share(self.session.state.clone());
        if entered {
            self.schemaless = None;
        } else if self.schemaless.is_some() {
            self.go_without_schema();
        }
        lease.have = self.wanted_state().clone();
    }
}

/// Whether it does nothing but enter a schema.
pub(super) fn moves(job: &Job<'_>) -> bool {
    job.com == Com::InitDb || job.com == Com::Query && !job.statement.multi && job.statement.effects.use_schema.is_some()
}
