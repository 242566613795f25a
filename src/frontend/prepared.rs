//! Prepared statements in the binary protocol: the client has its own number for each, and each is prepared on whichever
//! server connection executes it, when it does.

use std::sync::Arc;

use crate::backend::connection::{PreparedText, put_command};
use crate::frontend::answers::plain_job;
use crate::frontend::client::{Client, Gone};
use crate::frontend::errors::{ClientError, Source};
use crate::frontend::query::{Job, Payload};
use crate::frontend::upload::Sent;
use crate::net::Buffer;
use crate::protocol::command::Com;
use crate::protocol::errno;
use crate::protocol::frame::HEADER_LEN;
use crate::protocol::ok_err_eof::Status;
use crate::protocol::prepared::{ExecuteHeader, bulk_types, types_of};
use crate::protocol::reply::Expect;
use crate::session::pin::PinReason;
use crate::session::prepared::ClientStatement;
use crate::sql::classify::ClassReason;
use crate::topology::Flavor;

/// The cursor flags of `COM_STMT_EXECUTE`; the server sends no rows until they are fetched.
const CURSOR_FLAGS: u8 = 0x07;

fn statement_id(packet: &[u8]) -> Option<u32> {
    packet.get(HEADER_LEN + 1..HEADER_LEN + 5).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes)
}

impl Client {
    /// `COM_STMT_PREPARE`.
    pub(super) async fn prepare(&mut self, packet: &[u8]) -> Result<(), Gone> {
        let sql = packet.get(HEADER_LEN + 1..).unwrap_or(&[]);
        if !self.statements.has_room() {
            let text = "Can't create more prepared statements in this session; close some (COM_STMT_CLOSE)";
            return self.refuse(ClientError::new(Source::Client, errno::ER_MAX_PREPARED_STMT_COUNT_REACHED, text)).await;
        }
        let (statement, hint) = self.classify(sql);
        let id = self.statements.next_id();
        let changed = if statement.effects.reads_connection_id { self.with_left(sql, true) } else { None };
        let repacked = changed.as_deref().map(|sql| self.repacked(Com::StmtPrepare, sql));
        let packet = repacked.as_deref().unwrap_or(packet);
        let sql = changed.as_deref().unwrap_or(sql);
        let text = PreparedText::new(sql, self.session.state.clone());
        // MySQL's statement reads a user variable as what it was when the statement was prepared: another client's may be another type.
        let keeps_types = !statement.effects.reads_user_variables.is_empty() && self.shared.flavor() != Some(Flavor::MariaDb);
        let text = Arc::new(if keeps_types { text.made_private() } else { text });
        let job = Job {
            com: Com::StmtPrepare,
            expect: Expect::Prepare,
            statement: &statement,
            hint: hint.as_ref(),
            sql,
            payload: Payload::Packet(packet),
            text: Some(&text),
            statement_id: id,
            params: 0,
            types: None,
            prefer: None,
        };
        let outcome = self.run_job(&job).await?;
        if let Some(prepared) = outcome.prepared {
            self.statements.insert(
                id,
                ClientStatement {
                    text,
                    classified: statement,
                    hint: hint.map(Arc::new),
                    params: prepared.num_params,
                    types: None,
                    prepared_on: outcome.server,
                    long_data: false,
                    long_data_lost: false,
                    cursor: false,
                },
            );
        }
        Ok(())
    }

    /// `COM_STMT_BULK_EXECUTE` (MariaDB): one statement, many rows of parameters.
    pub(super) async fn execute_bulk(&mut self, packet: &[u8]) -> Result<(), Gone> {
        let payload = packet.get(HEADER_LEN..).unwrap_or(&[]);
        let Some(id) = statement_id(packet) else { return self.malformed("COM_STMT_BULK_EXECUTE", &"too short").await };
        let Some(statement) = self.statements.get_mut(id) else {
            return self.unknown_statement(id, "mysql_stmt_bulk_execute").await;
        };
        match bulk_types(payload, statement.params) {
            Ok(Some(types)) if statement.types.as_deref() != Some(types) => statement.types = Some(types.into()),
            Ok(_) => {}
            Err(e) => return self.malformed("COM_STMT_BULK_EXECUTE", &e).await,
        }
        let prefer = statement.prepared_on.take();
        let statement = statement.clone();
        let job = Job {
            com: Com::StmtBulkExecute,
            expect: Expect::Execute,
            statement: &statement.classified,
            hint: statement.hint.as_deref(),
            sql: &statement.text.sql,
            payload: if self.upload.is_some() { Payload::Upload } else { Payload::Execute(payload) },
            text: Some(&statement.text),
            statement_id: id,
            params: statement.params,
            types: statement.types.as_deref(),
            prefer,
        };
        self.run_job(&job).await.map(|_| ())
    }

    /// `COM_STMT_EXECUTE`.
    pub(super) async fn execute(&mut self, packet: &[u8]) -> Result<(), Gone> {
        let payload = packet.get(HEADER_LEN..).unwrap_or(&[]);
        let Some(id) = statement_id(packet) else { return self.malformed("COM_STMT_EXECUTE", &"too short").await };
        let flags = payload.get(5).copied().unwrap_or(0);
        let cursor = flags & CURSOR_FLAGS != 0;
        let capabilities = self.capabilities;
        let Some(statement) = self.statements.get_mut(id) else { return self.unknown_statement(id, "mysqld_stmt_execute").await };
        if (cursor || statement.cursor) && statement.text.private == 0 {
            // A cursor is a state of the server's statement, which others must not share.
            statement.text = Arc::new(statement.text.made_private());
        }
        match ExecuteHeader::parse(payload, statement.params, capabilities) {
            Ok(header) => {
                if let Some(types) = types_of(payload, &header)
                    && statement.types.as_deref() != Some(types)
                {
                    statement.types = Some(types.into());
                }
            }
            Err(e) => return self.malformed("COM_STMT_EXECUTE", &e).await,
        }
        let prefer = statement.prepared_on.take();
        if std::mem::take(&mut statement.long_data_lost) {
            let text = "what was sent for this statement with COM_STMT_SEND_LONG_DATA was lost with its server's connection, or there was no master to take it; \
                        nothing was executed: send it again, then execute";
            return self.refuse(ClientError::new(Source::Proxy, errno::ER_NET_READ_ERROR, text.to_owned())).await;
        }
        let statement = statement.clone();
        if statement.classified.effects.kill.is_some()
            && let Some(killed) = Box::pin(self.kill_prepared(&statement.text.sql, payload, statement.types.as_deref())).await
        {
            return killed;
        }
        let job = Job {
            com: Com::StmtExecute,
            expect: Expect::Execute,
            statement: &statement.classified,
            hint: statement.hint.as_deref(),
            sql: &statement.text.sql,
            payload: if self.upload.is_some() { Payload::Upload } else { Payload::Execute(payload) },
            text: Some(&statement.text),
            statement_id: id,
            params: statement.params,
            types: statement.types.as_deref(),
            prefer,
        };
        if self.must_ask_insert_id(&statement.classified) {
            Box::pin(self.ask_held_insert_id()).await;
        }
        if !cursor && self.answer_left_boxed(&statement.classified, &job).await? {
            return Ok(());
        }
        if job.statement.reason == ClassReason::Diagnostics
            && let Some(sql) = self.diagnostics_set(job.sql)
        {
            let packet = self.repacked(Com::Query, &sql);
            let job = plain_job(Com::Query, Expect::Query, job.statement, &sql, &packet);
            return Box::pin(self.run_job(&job)).await.map(|_| ());
        }
        // What it asks for, among other things, is put into its text, which is prepared for this execution.
        let known = !cursor && !statement.long_data && Self::may_ask(job.statement);
        if known {
            self.leave_for_count(job.statement).await;
        }
        let changed = if known { self.with_left(job.sql, false) } else { None };
        let changed = changed.map(|sql| Arc::new(PreparedText::made_once(&sql, statement.text.state.clone())));
        let job = match &changed {
            Some(text) => Job { sql: &text.sql, text: Some(text), ..job },
            None => job,
        };
        if cursor {
            // The pin must stand before the reply is learned from, or the connection would be given back with the cursor open.
            self.session.pins.set(PinReason::Cursor, true);
        }
        let outcome = self.run_job(&job).await?;
        // MySQL sets the flag for a cursor in a procedure or function too, which is none of the client's.
        let open = cursor && outcome.status.is_some_and(|s| s.has(Status::CURSOR_EXISTS) && !s.has(Status::MORE_RESULTS));
        if let Some(statement) = self.statements.get_mut(id) {
            if statement.long_data && outcome.server.is_none() {
                // No server has executed it, which would have dropped what was sent for it: a server's statement that still has it is not used again.
                if let Some(lease) = self.held.as_mut() {
                    lease.forget_prepared(&statement.text);
                }
                statement.text = Arc::new(statement.text.made_private());
            }
            statement.cursor = open;
            statement.long_data = false;
        }
        self.settle_statements().await;
        Ok(())
    }

    /// Ends the pins of cursors and long data when no statement has any.
    async fn settle_statements(&mut self) {
        if self.session.pins.has(PinReason::Cursor) || self.session.pins.has(PinReason::LongData) {
            Box::pin(self.end_statements_pins()).await;
        }
    }

    /// Lets the connection go if that was all that kept it, with what it alone knows.
    async fn end_statements_pins(&mut self) {
        self.session.pins.set(PinReason::Cursor, self.statements.any_cursor());
        self.session.pins.set(PinReason::LongData, self.statements.any_long_data());
        if !self.session.pins.any()
            && let Some(mut lease) = self.held.take()
        {
            self.take_what_is_left(&mut lease).await;
            self.show_idle();
            lease.give_back(std::time::Instant::now());
            return;
        }
        self.show_idle();
    }

    /// `COM_STMT_SEND_LONG_DATA`: has no reply, so an error shows at the execution, as with a server.
    pub(super) async fn long_data(&mut self, packet: &[u8]) -> Result<(), Gone> {
        let Some(id) = statement_id(packet) else { return Ok(()) };
        let Some(statement) = self.statements.get_mut(id) else { return Ok(()) };
        if statement.long_data_lost {
            // The execution is refused, and all pieces are sent again: one that went out now would stand there twice.
            return Ok(());
        }
        if statement.text.private == 0 {
            statement.text = Arc::new(statement.text.made_private());
        }
        let statement = statement.clone();
        if self.held.is_none() && !self.pin_for(&statement.text, PinReason::LongData).await? {
            return self.long_data_is_lost(id);
        }
        let Some(mut lease) = self.held.take() else { return Ok(()) };
        let mut out = Vec::new();
        let server_id = match lease.prepared(&statement.text) {
            Some(id) => id,
            None => match self.prepare_on_held(&mut lease, &statement.text).await {
                Some(id) => id,
                None => {
                    lease.tainted = true;
                    drop(lease);
                    return self.long_data_is_lost(id);
                }
            },
        };
        out.extend_from_slice(packet);
        if let Some(place) = out.get_mut(HEADER_LEN + 1..HEADER_LEN + 5) {
            place.copy_from_slice(&server_id.to_le_bytes());
        }
        let written = match self.upload.take() {
            Some(mut upload) => {
                let (head, mut said) = (out.split_off(HEADER_LEN), Buffer::new());
                let sent = upload.send(head, &mut self.stream, &mut lease.stream, &mut said).await?;
                self.upload = Some(upload);
                matches!(sent, Sent::Whole)
            }
            None => lease.stream.send_command(&out).await.is_ok(),
        };
        if !written {
            lease.tainted = true;
            drop(lease);
            return self.long_data_is_lost(id);
        }
        self.held = Some(lease);
        self.session.pins.set(PinReason::LongData, true);
        if let Some(statement) = self.statements.get_mut(id) {
            statement.long_data = true;
        }
        self.show_idle();
        Ok(())
    }

    /// A piece of long data went nowhere. The command has no reply: its statement's next execution says so. Where more than that was on the connection, nobody
    /// would tell the client before it goes on without it, so it is closed.
    fn long_data_is_lost(&mut self, id: u32) -> Result<(), Gone> {
        self.session.pins.set(PinReason::LongData, false);
        if self.held.is_none() && self.session.pins.any() {
            return Err(Gone);
        }
        if self.held.is_none() {
            self.session.connection_lost();
            self.statements.connection_lost();
        }
        if let Some(statement) = self.statements.get_mut(id) {
            statement.long_data_lost = true;
        }
        self.show_idle();
        Ok(())
    }

    /// `COM_STMT_CLOSE`: has no reply. The server's statement stays prepared for the next one who prepares the same text.
    pub(super) async fn close_statement(&mut self, packet: &[u8]) -> Result<(), Gone> {
        if let Some(statement) = statement_id(packet).and_then(|id| self.statements.remove(id)) {
            if let Some(lease) = self.held.as_mut()
                && statement.text.private != 0
            {
                lease.forget_prepared(&statement.text);
            }
            self.settle_statements().await;
        }
        Ok(())
    }

    /// `COM_STMT_RESET`: closes the cursor and drops long data.
    pub(super) async fn reset_statement(&mut self, packet: &[u8]) -> Result<(), Gone> {
        let Some(id) = statement_id(packet) else { return self.malformed("COM_STMT_RESET", &"too short").await };
        let Some(statement) = self.statements.get_mut(id) else { return self.unknown_statement(id, "mysqld_stmt_reset").await };
        let busy = statement.cursor || statement.long_data;
        statement.cursor = false;
        statement.long_data = false;
        statement.long_data_lost = false;
        self.session.status = self.session.status - Status::CURSOR_EXISTS - Status::LAST_ROW_SENT;
        let text = statement.text.clone();
        if busy && let Some(lease) = self.held.as_mut() {
            let server_id = lease.prepared(&text);
            if let Some(server_id) = server_id
                && lease.command(Com::StmtReset, &server_id.to_le_bytes()).await.is_err()
            {
                return self.lost_pinned().await;
            }
        }
        self.settle_statements().await;
        self.ok("").await
    }

    /// `COM_STMT_FETCH`.
    pub(super) async fn fetch(&mut self, packet: &[u8]) -> Result<(), Gone> {
        let Some(id) = statement_id(packet) else { return self.malformed("COM_STMT_FETCH", &"too short").await };
        let Some(statement) = self.statements.get_mut(id) else { return self.unknown_statement(id, "mysqld_stmt_fetch").await };
        let statement = statement.clone();
        let server_id = self.held.as_mut().and_then(|lease| lease.prepared(&statement.text));
        let (true, Some(server_id)) = (statement.cursor, server_id) else {
            let text = format!("The statement ({id}) has no open cursor.");
            return self.refuse(ClientError::of_server(errno::ER_STMT_HAS_NO_OPEN_CURSOR, text)).await;
        };
        let mut command = Vec::with_capacity(16);
        put_command(
            &mut command,
            Com::StmtFetch,
            &[&server_id.to_le_bytes()[..], packet.get(HEADER_LEN + 5..).unwrap_or(&[])].concat(),
        );
        let job = Job {
            com: Com::StmtFetch,
            expect: Expect::Fetch,
            statement: &statement.classified,
            hint: None,
            sql: b"",
            payload: Payload::Packet(&command),
            text: None,
            statement_id: id,
            params: 0,
            types: None,
            prefer: None,
        };
        let outcome = self.run_job(&job).await?;
        let ended = !outcome.ok || outcome.status.is_some_and(|s| s.has(Status::LAST_ROW_SENT));
        if ended {
            if let Some(statement) = self.statements.get_mut(id) {
                statement.cursor = false;
            }
            self.settle_statements().await;
        }
        Ok(())
    }

    async fn malformed(&mut self, what: &str, why: &(dyn std::fmt::Display + Sync)) -> Result<(), Gone> {
        let text = format!("malformed packet: {what}: {why}");
        self.refuse(ClientError::new(Source::Client, errno::ER_MALFORMED_PACKET, text)).await
    }

    async fn unknown_statement(&mut self, id: u32, function: &str) -> Result<(), Gone> {
        let text = format!("Unknown prepared statement handler ({id}) given to {function}");
        self.refuse(ClientError::of_server(errno::ER_UNKNOWN_STMT_HANDLER, text)).await
    }
}
