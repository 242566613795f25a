//! Commands that Sluice answers itself, or that need more than passing on: `SHOW WARNINGS` after the connection was given
//! back, `CONNECTION_ID()`, `COM_INIT_DB`, commands too long to be kept in memory.

use bytes::BytesMut;
use std::sync::Arc;

use crate::backend::connection::PreparedText;
use crate::backend::pool::{Lease, Wanted};
use crate::frontend::client::{COMMAND_BYTES_MAX, Client, Gone};
use crate::frontend::errors::{ClientError, Source};
use crate::frontend::query::{Job, Payload};
use crate::net::Buffer;
use crate::protocol::command::Com;
use crate::protocol::frame::{HEADER_LEN, Header};
use crate::protocol::reply::Expect;
use crate::protocol::result_set::{ColumnDefinition, ResultSetWriter};
use crate::session::pin::PinReason;
use crate::sql::classify::Classified;

impl Client {
    /// Statements that Sluice answers without a server. `None`: this one needs a server.
    pub(super) async fn answer_itself(
        &mut self,
        statement: &Arc<Classified>,
        sql: &[u8],
    ) -> Result<Option<Result<(), Gone>>, Gone> {
        let effects = &statement.effects;
        if effects.reads_diagnostics
            && self.held.is_none()
            && statement.digest_text.eq_ignore_ascii_case("SHOW WARNINGS")
            && let Some(reply) = &self.warnings
        {
            self.stream.send_all(reply).await?;
            return Ok(Some(Ok(())));
        }
        if effects.reads_connection_id
            && let Some(name) = lone_connection_id(&statement.digest_text, sql)
        {
            return Ok(Some(self.connection_id(name).await));
        }
        if effects.shows_processlist
            && !statement.multi
            && let Some(shown) = Box::pin(self.show_processlist(sql)).await
        {
            return Ok(Some(shown));
        }
        if effects.kill.is_some()
            && let Some(killed) = Box::pin(self.kill_statement(sql)).await
        {
            return Ok(Some(killed));
        }
        Ok(None)
    }

    /// `SELECT CONNECTION_ID()`: the number of the greeting, which `KILL` takes; the server's own would change with the connection.
    async fn connection_id(&mut self, name: &str) -> Result<(), Gone> {
        let mut out = BytesMut::with_capacity(128);
        let columns = [ColumnDefinition::integer(name, true)];
        let mut rows = ResultSetWriter::new(&mut out, 1, self.capabilities, self.session.status, &columns);
        rows.row([Some(self.entry.id.to_string().as_bytes())]);
        rows.finish(self.session.status, 0);
        self.stream.send_all(&out).await?;
        Ok(())
    }

    /// `COM_INIT_DB`.
    pub(super) async fn init_db(&mut self, packet: &[u8]) -> Result<(), Gone> {
        let statement = self.shared.class_use.clone();
        let schema = packet.get(HEADER_LEN + 1..).unwrap_or(&[]);
        if !self.account.schemas.is_empty() && !self.account.schemas.iter().any(|s| s.as_bytes() == schema) {
            return self.schema_not_allowed(schema).await;
        }
        self.run_job(&plain_job(Com::InitDb, Expect::Simple, &statement, schema, packet)).await.map(|_| ())
    }

    pub(super) async fn schema_not_allowed(&mut self, schema: &[u8]) -> Result<(), Gone> {
        let text = format!(
            "Access denied for user '{}' to database '{}': Sluice's configuration allows {}",
            self.account.key.user,
            String::from_utf8_lossy(schema),
            self.account.schemas.join(", ")
        );
        self.refuse(ClientError::new(Source::Client, 1044, b"42000", text)).await
    }

    /// `COM_FIELD_LIST`, `COM_STATISTICS`.
    pub(super) async fn plain_read(&mut self, com: Com, packet: &[u8]) -> Result<(), Gone> {
        let statement = self.shared.class_read.clone();
        let expect = if com == Com::FieldList { Expect::FieldList } else { Expect::Statistics };
        self.run_job(&plain_job(com, expect, &statement, b"", packet)).await.map(|_| ())
    }

    /// Takes a connection for this session before a statement runs, because of `reason`, and brings it to the session's state.
    /// `false`: there was none, and the client was not told (the command has no reply).
    pub(super) async fn pin_for(
        &mut self,
        statement: &Arc<Classified>,
        text: &Arc<PreparedText>,
        reason: PinReason,
    ) -> Result<bool, Gone> {
        let snapshot = self.shared.snapshot.load_full();
        let reader = statement.class == crate::sql::classify::Class::Read;
        let server = if reader { snapshot.readers().next().map(|s| s.id).or(snapshot.master) } else { snapshot.master };
        let Some(pool) = server.and_then(|s| self.shared.pools.get(s.index())) else { return Ok(false) };
        let wanted = Wanted {
            key: &self.account.key,
            credential: &self.account.credential,
            collation: self.account.collation,
            state: &self.session.state,
            fresh: &self.account.fresh,
            text: Some(text),
        };
        let Ok(mut lease) = pool.checkout(wanted).await else { return Ok(false) };
        if lease.bring_to(&self.session.state).await.is_err() {
            return Ok(false);
        }
        self.session.pins.set(reason, true);
        self.held = Some(lease);
        Ok(true)
    }

    pub(super) async fn prepare_on_held(&mut self, lease: &mut Lease, text: &Arc<PreparedText>) -> Option<u32> {
        let mut out = Vec::new();
        let id = self.prepare_on(lease, text, &mut out).await.ok()?;
        lease.bring_to(&self.session.state).await.ok()?;
        Some(id)
    }

    /// A command whose first packet is 16 MiB - 1 long: more follow. It is assembled up to [`COMMAND_BYTES_MAX`].
    pub(super) async fn large_command(&mut self, buffer: &mut Buffer) -> Result<(), Gone> {
        let mut payload: Vec<u8> = Vec::new();
        let mut seq = 0u8;
        loop {
            while buffer.len() < HEADER_LEN {
                if buffer.fill(&mut self.stream).await? == 0 {
                    return Err(Gone);
                }
            }
            let Some(header) = Header::parse(buffer.filled()) else { return Err(Gone) };
            if header.seq != seq {
                let text = format!("got packet with sequence id {} instead of {seq}; the connection is closed", header.seq);
                return self.refuse(ClientError::new(Source::Client, 1156, b"08S01", text).fatal()).await;
            }
            seq = seq.wrapping_add(1);
            buffer.consume(HEADER_LEN);
            let mut left = header.packet_len() - HEADER_LEN;
            if payload.len() + left > COMMAND_BYTES_MAX {
                let text = format!("Got a packet bigger than {COMMAND_BYTES_MAX} bytes; the connection is closed");
                return self.refuse(ClientError::new(Source::Client, 1153, b"08S01", text).fatal()).await;
            }
            while left > 0 {
                if buffer.is_empty() && buffer.fill(&mut self.stream).await? == 0 {
                    return Err(Gone);
                }
                let step = left.min(buffer.len());
                payload.extend_from_slice(buffer.filled().get(..step).unwrap_or(&[]));
                buffer.consume(step);
                left -= step;
            }
            if !header.continues() {
                break;
            }
        }
        let mut packet = bytes::BytesMut::with_capacity(payload.len() + 64);
        crate::protocol::frame::put_packet(&mut packet, 0, &payload);
        let code = payload.first().copied().unwrap_or(0);
        match Com::from_byte(code) {
            Some(Com::Query) => {
                let sql = payload.get(1..).unwrap_or(&[]);
                let (statement, hint) = self.classify(sql);
                let job = Job { hint: hint.as_ref(), ..plain_job(Com::Query, Expect::Query, &statement, sql, &packet) };
                self.run_job(&job).await.map(|_| ())
            }
            Some(Com::StmtExecute | Com::StmtSendLongData) => {
                // These look at their first bytes only, which stand in the first packet as in a short one.
                drop(payload);
                if code == Com::StmtExecute as u8 { self.execute_large(&packet).await } else { self.long_data(&packet).await }
            }
            _ => {
                let text = "Got a packet bigger than this command can be; the connection is closed";
                self.refuse(ClientError::new(Source::Client, 1153, b"08S01", text).fatal()).await
            }
        }
    }

    async fn execute_large(&mut self, packet: &[u8]) -> Result<(), Gone> {
        // Reassembled without the inner headers, as `execute` expects one logical packet.
        let mut whole = Vec::with_capacity(packet.len());
        whole.extend_from_slice(&[0; HEADER_LEN]);
        let mut rest = packet;
        while let Some(header) = Header::parse(rest) {
            whole.extend_from_slice(rest.get(HEADER_LEN..header.packet_len()).unwrap_or(&[]));
            rest = rest.get(header.packet_len()..).unwrap_or(&[]);
        }
        self.execute(&whole).await
    }
}

/// The column's name when the statement is `SELECT CONNECTION_ID()` and nothing else.
fn lone_connection_id<'s>(digest: &str, sql: &'s [u8]) -> Option<&'s str> {
    if !digest.eq_ignore_ascii_case("SELECT CONNECTION_ID()") {
        return None;
    }
    let sql = std::str::from_utf8(sql).ok()?.trim().trim_end_matches(';').trim_end();
    sql.split_ascii_whitespace().nth(1).filter(|word| word.ends_with(')'))
}

/// A job that is its packet and nothing else.
fn plain_job<'a>(com: Com, expect: Expect, statement: &'a Arc<Classified>, sql: &'a [u8], packet: &'a [u8]) -> Job<'a> {
    Job {
        com,
        expect,
        statement,
        hint: None,
        sql,
        payload: Payload::Packet(packet),
        text: None,
        statement_id: 0,
        params: 0,
        types: None,
        prefer: None,
    }
}
