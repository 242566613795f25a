//! Behind step 9 of the way of one query: what a server is asked before its connection goes to somebody else, for what lives there alone. Most statements
//! leave nothing to ask.

use crate::backend::pool::Lease;
use crate::cache::epoch::Unnamed;
use crate::frontend::client::{Client, Gone};
use crate::frontend::learn::tracking_set;
use crate::frontend::query::Job;
use crate::frontend::relay::Pending;
use crate::frontend::shared_cache::Kept;
use crate::frontend::told::Told;
use crate::frontend::written;
use crate::net::Buffer;
use crate::protocol::command::Com;
use crate::session::machine::has_set_var;
use crate::session::pin::PinReason;
use crate::topology::Flavor;

/// What is to be asked.
pub(super) struct Questions<'q> {
    /// Nothing but a PING: to prepare a statement with the hint `SET_VAR` sets and sets back, and MySQL tells of it with the next OK, which must not be
    /// another statement's.
    hinted: bool,
    /// What `SHOW WARNINGS` would say.
    warnings: bool,
    /// The values of variables.
    read_back: bool,
    /// Nothing: these are set again, by which the server tells of others.
    tracking: Vec<&'q str>,
    /// How far it has written.
    position: bool,
    /// `LAST_INSERT_ID()`.
    insert_id: bool,
    /// The account as the server knows it, by which this is kept for others.
    unshared: Option<Kept>,
}

impl Client {
    /// What the server is to be asked behind this statement; `None`: nothing.
    pub(super) fn questions<'q>(
        &self,
        job: &Job<'q>,
        told: &'q Told,
        lease: &Lease,
        unshared: Option<Kept>,
    ) -> Option<Questions<'q>> {
        let told_more = told.state_changed || job.com == Com::StmtPrepare;
        let questions = Questions {
            hinted: told_more && lease.flavor == Flavor::MySql && has_set_var(job.statement, job.sql),
            warnings: self.left.unasked(),
            read_back: self.session.reads_back(),
            tracking: tracking_set(job.statement, told),
            // Within an XA transaction a server answers nothing else.
            position: !self.session.pins.has(PinReason::Xa) && written::is_to_be_asked(job, told, self.session.in_transaction()),
            insert_id: self.session.insert_id_unsure(),
            unshared,
        };
        let Questions { hinted, warnings, read_back, position, insert_id, .. } = questions;
        let leaves = warnings || self.left.uncounted() || insert_id;
        let any = hinted || read_back || position || !questions.tracking.is_empty() || questions.unshared.is_some();
        (any || leaves && !self.session.pins.any()).then_some(questions)
    }

    /// Asks, when the client has its reply.
    pub(super) async fn ask_behind(
        &mut self,
        questions: Questions<'_>,
        lease: &mut Lease,
        (buffer, pending): (&mut Buffer, &mut Pending),
        told: &Told,
        unnamed: Option<Unnamed>,
    ) -> Result<(), Gone> {
        let Questions { hinted, warnings, read_back, tracking, position, insert_id, unshared } = questions;
        // Whoever has the reply may look at SHOW CLIENTS: a pin that has ended is not there any more.
        self.entry.view.lock().pins = self.session.pins;
        // How far it has written is known before anybody can ask others for it.
        if !position {
            self.write_last(buffer, pending, lease.net_timeouts.0).await?;
        }
        if hinted && lease.ping().await.is_err() {
            lease.tainted = true;
        }
        if warnings {
            Box::pin(self.take_conditions(lease, told.warnings)).await;
        }
        // The questions below are queries themselves.
        if self.left.uncounted() && !read_back || position && self.session.pins.has(PinReason::FoundRows) {
            Box::pin(self.take_found_rows(lease)).await;
        }
        if !tracking.is_empty() && Box::pin(lease.track_again(&tracking)).await.is_err() {
            lease.tainted = true;
        }
        if read_back {
            Box::pin(self.read_back(lease)).await;
        }
        // Behind what it would change: it is a query.
        if position {
            if Box::pin(self.learn_position(lease)).await {
                self.change_learned(unnamed);
            }
            self.entry.view.lock().pins = self.session.pins;
            self.write_last(buffer, pending, lease.net_timeouts.0).await?;
        }
        if insert_id && !self.session.pins.any() {
            Box::pin(self.take_insert_id(lease)).await;
        }
        if let Some(kept) = unshared {
            Box::pin(self.share_kept(kept, lease)).await;
        }
        Ok(())
    }
}
