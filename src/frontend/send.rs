//! Step 7 of the way of one query: the connection is brought to the session's state, and the statement is sent.

use std::sync::Arc;

use bytes::BytesMut;

use crate::backend::connection::{CommandError, PreparedText, put_command, put_query};
use crate::backend::pool::Lease;
use crate::frontend::client::{Client, Gone};
use crate::frontend::errors::{ClientError, Source};
use crate::frontend::query::{Failed, Job, Payload};
use crate::net::Buffer;
use crate::protocol::command::Com;
use crate::protocol::errno::{self, Errno};
use crate::protocol::frame::{HEADER_LEN, put_packet_with};
use crate::protocol::ok_err_eof::{ErrPacket, Status};
use crate::protocol::prepared::{ExecuteError, rewrite_bulk, rewrite_execute};
use crate::routing::decide::{Consistency, MustHave};
use crate::routing::decision::Decision;
use crate::session::LastWrite;
use crate::session::state::{Change, State};
use crate::sql::classify::Class;
use crate::topology::Flavor;

/// What procedures of the client before have locked by name is none of this one's.
pub(super) const RELEASE_LOCKS: &[u8] = b"DO RELEASE_ALL_LOCKS()";

/// Empties the list of conditions on MariaDB, where only a statement with a table does so.
const CLEAR_CONDITIONS: &[u8] = b"DO (SELECT 1 FROM (SELECT 1) t)";

/// What goes to a connection before the statement, besides the session's state.
#[derive(Clone, Copy)]
struct Before {
    /// It is asked to wait for the session's last write.
    wait: bool,
    /// It is told the session's last insert id.
    restore_id: bool,
    /// Conditions that others have left there are cleared.
    clears: bool,
}

impl Client {
    /// Step 7: brings the connection to the session's state and sends the statement. Where the statement is a read both go out in
    /// one write; a statement that changes data waits until its state surely stands.
    pub(super) async fn send(
        &mut self,
        job: &Job<'_>,
        lease: &mut Lease,
        decision: &Decision,
        buffer: &mut Buffer,
    ) -> Result<Result<(), Failed>, Gone> {
        self.fill_from(lease.server);
        lease.guard.wanted = self.only_reads(job, lease);
        if !job.statement.plain
            && lease.dirty_users
            && self.session.state.lacks_user(&job.statement.effects.reads_user_variables)
            && !self.session.pins.any()
            && let Err(e) = Box::pin(self.forget_users(lease)).await
        {
            return Ok(Err(self.broken(lease, &e)));
        }
        let same_as_before = self.last == Some((lease.server, lease.thread_id, lease.serial));
        let wait = decision.wait_for_write && !same_as_before;
        let restore_id = self.session.needs_last_insert_id(job.statement, lease.last_insert_id);
        let want = self.wanted_state();
        let plain = Arc::ptr_eq(&lease.have, want) || lease.have == *want;
        let locked = lease.locks_unseen.is_some_and(|client| client != self.entry.id);
        // Within a text of several statements, on MariaDB, one without a table leaves the list of conditions as it finds it, be it another session's.
        let asks_within = job.statement.multi && job.statement.effects.reads_diagnostics && lease.flavor == Flavor::MariaDb;
        let clears = asks_within && !(same_as_before && self.left.warning_count() > 0);
        let nothing_before = plain && !locked && !clears && lease.guard.is_right() && !lease.has_closes() && !restore_id && !wait;
        let composed;
        let packet = match (&job.payload, job.text) {
            _ if !nothing_before => None,
            (Payload::Packet(packet), _) => Some(*packet),
            (Payload::Execute(payload), Some(text)) => {
                composed = lease.prepared_for(text, job.types).and_then(|id| self.rewritten(job, payload, id).ok());
                composed.as_deref()
            }
            _ => None,
        };
        if let Some(packet) = packet {
            if !Arc::ptr_eq(&lease.have, want) {
                lease.have = want.clone();
            }
            // Of what is compressed nothing is sent first: all of it begins a piece.
            let sent = match lease.stream.send_first(packet) {
                Ok(None) => Ok(()),
                Ok(Some(rest)) => Box::pin(lease.stream.send_command(rest)).await,
                Err(e) => Err(e),
            };
            return Ok(sent.map_err(|e| self.broken(lease, &e)));
        }
        Box::pin(self.send_composed(job, lease, buffer, Before { wait, restore_id, clears })).await
    }

    /// Whether the statement must not write on this server, see [`Guard`](crate::backend::connection::Guard). Definitions are looked at without. And a read-only
    /// transaction of the client's own writes nothing by itself: who asks in it for variables is to see his own.
    fn only_reads(&self, job: &Job<'_>, lease: &Lease) -> bool {
        if self.shared.with_newest_snapshot(|snapshot| snapshot.master == Some(lease.server)) || job.statement.asks_definitions {
            return false;
        }
        let there = self.session.state.schema().is_some_and(|schema| schema.eq_ignore_ascii_case(b"information_schema"));
        let shows = job.statement.effects.reads_server_state && self.session.status.has(Status::IN_TRANS_READONLY);
        !(shows || there && job.statement.asks_definitions_there())
    }

    /// The rest of [`Client::send`]: something must go before the statement, or into it.
    async fn send_composed(
        &mut self,
        job: &Job<'_>,
        lease: &mut Lease,
        buffer: &mut Buffer,
        before: Before,
    ) -> Result<Result<(), Failed>, Gone> {
        if before.wait {
            match self.wait_for_write(lease).await {
                Ok(true) => self.fill_from(lease.server),
                Ok(false) => return Ok(Err(Failed::Behind)),
                Err(e) => return Ok(Err(self.broken(lease, &e))),
            }
        }
        if std::mem::take(&mut self.state_refused)
            && let Err(e) = Box::pin(self.restore_part_by_part(lease)).await
        {
            return Ok(Err(self.broken(lease, &e)));
        }
        let mut out: Vec<u8> = Vec::new();
        lease.put_closes(&mut out);
        let mut answers = 0;
        let mut execute_id = 0;
        if matches!(job.com, Com::StmtExecute | Com::StmtBulkExecute) {
            let text = job.text.expect("an execution has its prepared statement");
            execute_id = match lease.prepared_for(text, job.types) {
                Some(id) => id,
                None => match self.prepare_on(lease, text, &mut out).await {
                    // It is noted what it is executed with.
                    Ok(id) => lease.prepared_for(text, job.types).unwrap_or(id),
                    Err(CommandError::Refused(payload)) => {
                        let errno = ErrPacket::parse(&payload).map_or(0, |e| e.errno);
                        if self.make_room(lease, errno) {
                            return Ok(Err(Failed::PrepareAgain(payload)));
                        }
                        if self.schema_is_gone(errno) && !self.may_lack(lease.server, errno) {
                            return Ok(Err(Failed::NoSchema));
                        }
                        if job.statement.class == Class::Read && self.may_lack(lease.server, errno) {
                            return Ok(Err(Failed::Lacks));
                        }
                        // Tainted, where it was not the statement that was refused.
                        self.state_refused |= lease.tainted;
                        self.server_error(&payload).await?;
                        return Ok(Err(Failed::Answered));
                    }
                    Err(e) => return Ok(Err(self.broken(lease, &e))),
                },
            };
        }
        let want = self.state_before(job, lease);
        answers += lease.put_restore(&want, &mut out);
        if lease.locks_unseen.is_some_and(|client| client != self.entry.id) {
            lease.locks_unseen = None;
            put_query(&mut out, lease.capabilities, RELEASE_LOCKS);
            answers += 1;
        }
        if before.clears {
            put_query(&mut out, lease.capabilities, CLEAR_CONDITIONS);
            answers += 1;
        }
        if before.restore_id {
            put_query(&mut out, lease.capabilities, format!("SET last_insert_id={}", self.session.last_insert_id).as_bytes());
            answers += 1;
        }
        // A compressed connection is asked one thing at a time: pieces of a long command must not wait behind another's answer.
        if answers > 0 && (job.statement.class != Class::Read || lease.stream.is_compressed() || self.upload.is_some()) {
            if let Err(e) = lease.stream.send_command(&out).await {
                return Ok(Err(self.broken(lease, &e)));
            }
            out.clear();
            if let Some(failed) = self.restored(job, lease, buffer, answers, &want).await? {
                return Ok(Err(failed));
            }
            answers = 0;
        }
        match job.payload {
            Payload::Packet(packet) => out.extend_from_slice(packet),
            Payload::Upload => return self.send_upload(job, lease, buffer, &out, execute_id).await,
            Payload::Execute(payload) => match self.rewritten(job, payload, execute_id) {
                Ok(packet) => out.extend_from_slice(&packet),
                Err(e) => {
                    let error = ClientError::new(Source::Client, errno::ER_WRONG_ARGUMENTS, format!("a malformed execution: {e}"));
                    self.refuse(error).await?;
                    return Ok(Err(Failed::Answered));
                }
            },
        }
        if let Err(e) = lease.stream.send_command(&out).await {
            return Ok(Err(self.broken(lease, &e)));
        }
        if answers > 0
            && let Some(failed) = self.restored(job, lease, buffer, answers, &want).await?
        {
            return Ok(Err(failed));
        }
        lease.stands_at(&want);
        if before.restore_id {
            lease.last_insert_id = self.session.last_insert_id;
        }
        Ok(Ok(()))
    }

    /// A variable that was never set is told apart from one that was set to NULL, by its type.
    async fn forget_users(&self, lease: &mut Lease) -> Result<(), CommandError> {
        if self.account.fresh.system("character_set_client").is_none() {
            // The charset of its login has no name that could be set again.
            return Ok(());
        }
        lease.reset(self.wanted_state()).await
    }

    /// The packet of an execution under the server's number for its statement.
    fn rewritten(&self, job: &Job<'_>, payload: &[u8], id: u32) -> Result<BytesMut, ExecuteError> {
        let types = job.types.map_or(0, <[u8]>::len);
        let mut packet = BytesMut::with_capacity(HEADER_LEN + payload.len() + types + 1);
        let mut result = Ok(());
        put_packet_with(&mut packet, 0, |out| result = self.rewrite(job, payload, id, out));
        result.map(|()| packet)
    }

    /// An execution under the server's number for its statement.
    pub(super) fn rewrite(&self, job: &Job<'_>, payload: &[u8], id: u32, out: &mut BytesMut) -> Result<(), ExecuteError> {
        if job.com == Com::StmtBulkExecute {
            return rewrite_bulk(payload, id, job.params, job.types, out);
        }
        rewrite_execute(payload, id, job.params, self.capabilities, job.types, out).map(|_| ())
    }

    pub(super) fn broken(&self, lease: &Lease, e: &(dyn std::fmt::Display + Sync)) -> Failed {
        let name = self.shared.name(lease.server);
        let text = format!("lost the connection to {name} before a statement was sent: {e}");
        Failed::Before(ClientError::new(Source::Server, errno::ER_NET_READ_ERROR, text))
    }

    /// Reads the answers to what restored the session's state. A refusal is the client's error, and the connection is closed:
    /// what state it is in is not known.
    pub(super) async fn restored(
        &mut self,
        job: &Job<'_>,
        lease: &mut Lease,
        buffer: &mut Buffer,
        answers: usize,
        want: &Arc<State>,
    ) -> Result<Option<Failed>, Gone> {
        match lease.expect_oks(buffer, answers).await {
            Ok(()) => {
                lease.stands_at(want);
                Ok(None)
            }
            // The sandbox of an expired password, where all is told so but what ends it. The server lets a login into its schema there,
            // and COM_INIT_DB not; without, a statement would be told that no schema is chosen.
            Err(CommandError::Refused(payload))
                if ErrPacket::parse(&payload).is_some_and(|e| Errno(e.errno) == errno::ER_MUST_CHANGE_PASSWORD) =>
            {
                lease.tainted = true;
                let entered = self.session.state.schema() == lease.have.schema();
                // A session that lives on this connection must know where in its answers it stands.
                if entered || self.session.pins.any() || self.changed_its_password(job) {
                    return Ok(None);
                }
                self.server_error(&payload).await?;
                self.show_idle();
                Ok(Some(Failed::Answered))
            }
            Err(CommandError::Refused(payload)) => {
                lease.tainted = true;
                let errno = ErrPacket::parse(&payload).map_or(0, |e| e.errno);
                if self.may_lack(lease.server, errno) {
                    return Ok(Some(Failed::Lacks));
                }
                if self.schema_is_gone(errno) {
                    return Ok(Some(Failed::NoSchema));
                }
                self.state_refused = true;
                self.server_error(&payload).await?;
                self.show_idle();
                Ok(Some(Failed::Answered))
            }
            Err(e) => {
                let name = self.shared.name(lease.server);
                let text = format!("lost the connection to {name} while the session's state was restored there: {e}");
                Ok(Some(Failed::Before(ClientError::new(Source::Server, errno::ER_NET_READ_ERROR, text))))
            }
        }
    }

    /// Prepares a statement of this session on a connection that does not have it yet, in the state it was prepared in.
    pub(super) async fn prepare_on(
        &self,
        lease: &mut Lease,
        text: &Arc<PreparedText>,
        out: &mut Vec<u8>,
    ) -> Result<u32, CommandError> {
        let other;
        let state: &Arc<State> = if self.wanted_state().prepares_like(&text.state) {
            self.wanted_state()
        } else {
            // No connection can be brought back to having no schema.
            let own = text.state.schema().filter(|_| self.schemaless.is_none());
            let schema = own.or(lease.have.schema()).map(Into::into);
            other = Arc::new(self.wanted_state().preparing_like(&text.state).changed(&[Change::Schema(schema)]));
            &other
        };
        let answers = lease.put_restore(state, out);
        if answers > 0 {
            // Where one of them is refused nobody knows what state the connection is in: it must not be given back.
            let tainted = std::mem::replace(&mut lease.tainted, true);
            lease.stream.send_command(out).await?;
            out.clear();
            let mut buffer = Buffer::new();
            lease.expect_oks(&mut buffer, answers).await?;
            lease.tainted = tainted;
        }
        lease.stands_at(state);
        let mut command = std::mem::take(out);
        put_command(&mut command, Com::StmtPrepare, &text.sql);
        lease.stream.send_command(&command).await?;
        let id = lease.read_prepared().await?;
        lease.note_prepared(text.clone(), id);
        Ok(id)
    }

    /// Asks a replica to wait, for a moment, until it has the session's last write.
    pub(super) async fn wait_for_write(&self, lease: &mut Lease) -> Result<bool, CommandError> {
        let settings = self.shared.settings.load();
        let newest = self.shared.newest_write.lock().clone();
        let written = match settings.routing.consistency {
            Consistency::Global => newest.as_ref(),
            _ => self.session.written.as_ref(),
        }
        .map(LastWrite::gtids);
        let shared = match self.must_have() {
            MustHave::Gtid(set) => Some(set),
            MustHave::Any | MustHave::Master => None,
        };
        let together;
        let written = match (written, shared) {
            (Some(written), Some(shared)) => {
                let mut both = written.clone();
                both.merge(shared);
                together = both;
                Some(&together)
            }
            (one, other) => one.or(other),
        };
        let Some(written) = written else { return Ok(true) };
        let seconds = settings.write_wait.as_secs_f64();
        let sql = match lease.flavor {
            Flavor::MySql => format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{written}', {seconds}) LIMIT 1"),
            Flavor::MariaDb => format!("SELECT MASTER_GTID_WAIT('{written}', {seconds}) LIMIT 1"),
        };
        let reached = lease.scalar(&sql).await?.as_deref() == Some(b"0");
        if reached {
            self.shared.known.learn(lease.server, written);
        }
        Ok(reached)
    }
}
