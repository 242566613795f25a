//! Statements that ask only for what the statement before left, or for the connection's number: a server gives the shape of the
//! answer, the session what stands in it.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;

use crate::backend::pool::Lease;
use crate::frontend::answers::plain_job;
use crate::frontend::client::{Client, Gone};
use crate::frontend::query::{Failed, Job, Payload};
use crate::frontend::replay::Recovered;
use crate::frontend::told::Told;
use crate::protocol::Capabilities;
use crate::protocol::command::Com;
use crate::protocol::frame::{HEADER_LEN, Header, put_packet_with};
use crate::protocol::ok_err_eof::{EofPacket, OkPacket, Status, write_end_of_rows};
use crate::protocol::primitives::Put;
use crate::protocol::query::{NO_ATTRIBUTES, Query};
use crate::protocol::reply::Expect;
use crate::session::leftover::{Condition, Reply};
use crate::session::machine::Learned;
use crate::sql::classify::{ClassReason, Classified, FoundRows, skipped};
use crate::sql::diagnostics;
use crate::sql::leftover::{Asked, Leftover, asked, substitute};
use crate::topology::Flavor;

/// BIGINT and INT, as rows of the binary protocol hold them.
const LONGLONG: u8 = 8;
const LONG: u8 = 3;
/// The longest list of conditions: as many as a session keeps, each with a text as long as servers make them.
const CONDITIONS_BYTES_MAX: usize = 4 * 1024 * 1024;

impl Client {
    /// Whether the statement may be one of those.
    pub(super) fn may_ask(statement: &Classified) -> bool {
        let effects = &statement.effects;
        let counts = effects.reads_row_count || effects.reads_found_rows;
        effects.reads_diagnostics || effects.reads_connection_id || counts || effects.reads_last_gtid
    }

    /// A statement that asks, among other things or only, for what the statement before left.
    pub(super) async fn query_left(&mut self, job: Job<'_>) -> Result<(), Gone> {
        let answered = match job.statement.multi {
            true => self.answer_first(&job).await?.is_some(),
            false => self.answer_diagnostics(&job, false).await?.is_some() || self.answer_left(&job, false).await?.is_some(),
        };
        self.replied = 0;
        if answered {
            return Ok(());
        }
        self.leave_for_count(job.statement).await;
        let changed = self.diagnostics_set(job.sql).or_else(|| self.with_left(job.sql, false));
        let Some(sql) = changed else { return self.run_job(&job).await.map(|_| ()) };
        let sent = match job.payload {
            Payload::Packet(packet) => packet.get(HEADER_LEN..).and_then(|payload| Query::parse(payload, self.capabilities)),
            _ => None,
        };
        let packet = sent.map_or_else(|| self.repacked(Com::Query, &sql), |sent| packed(Com::Query, sent.attributes, &sql));
        self.run_job(&Job { sql: &sql, payload: Payload::Packet(&packet), ..job }).await.map(|_| ())
    }

    /// Answers such a statement, be it with an error: `false`. `None`: it is another, or something it asks for is not known here. `more`: the
    /// text goes on behind it.
    pub(super) async fn answer_left(&mut self, job: &Job<'_>, more: bool) -> Result<Option<bool>, Gone> {
        let Some(asked) = asked(job.sql, self.session.lex) else { return Ok(None) };
        let mine = matches!(&asked, Asked::Values(values) if values.contains(&Leftover::ConnectionId));
        // A connection that is held and was not asked yet knows all but its number, and what was counted before it was held.
        let asks_held = self.held.is_some() && self.left.unasked();
        let counted =
            matches!(&asked, Asked::Values(values) if values.contains(&Leftover::FoundRows)) && self.left.counted_elsewhere();
        if asks_held && !mine && !counted {
            return Ok(None);
        }
        let own = |leftover: Leftover| match leftover {
            Leftover::ConnectionId => Some(self.entry.id.to_string()),
            Leftover::LastInsertId if self.session.insert_id_unsure() => None,
            Leftover::LastInsertId => Some(self.session.last_insert_id.to_string()),
            _ => None,
        };
        let rows = if asks_held { Some(Vec::new()) } else { self.left.answer(&asked, own) };
        let Some(rows) = rows else { return Ok(None) };
        let started = Instant::now();
        let decision = self.decide(job, &[]);
        let Some(server) = decision.server else { return Ok(None) };
        let held = self.held.is_some();
        let mut lease = match self.connection(job, server, Instant::now()).await? {
            Ok(lease) => lease,
            Err(Failed::Answered) => return Ok(Some(false)),
            Err(_) => return Ok(None),
        };
        let state = self.wanted_state().clone();
        if lease.bring_to(&state).await.is_err() {
            return Ok(self.lost_while_asking(job, lease, held).await?.map(|()| false));
        }
        let sent = Instant::now();
        // The rows of that connection's list are not the session's, and may be many.
        let sql = if matches!(asked, Asked::Conditions { .. }) { &b"SHOW WARNINGS LIMIT 0"[..] } else { job.sql };
        let Ok(reply) = lease.raw_reply(sql).await else {
            return Ok(self.lost_while_asking(job, lease, held).await?.map(|()| false));
        };
        let Some(mut shape) = Shape::read(&reply, lease.capabilities) else {
            // An error, word for word; or rows without the definitions that the session does not want, which stand for themselves only.
            let failed = reply.get(HEADER_LEN) == Some(&0xFF);
            let alone = !more && self.replied == 0;
            if failed {
                self.server_error(reply.get(HEADER_LEN..).unwrap_or_default()).await?;
            } else if alone {
                self.send_own(&reply).await?;
            }
            self.keep_or_give_back(lease, held);
            return Ok((failed || alone).then_some(!failed));
        };
        if job.com == Com::StmtExecute && matches!(asked, Asked::Values(_)) {
            // MySQL has warned of `FOUND_ROWS()` when it was prepared.
            shape.warnings = 0;
        }
        let own = |leftover: Leftover| match leftover {
            Leftover::ConnectionId => Some(self.entry.id.to_string()),
            Leftover::FoundRows if counted => self.left.value(leftover),
            _ => None,
        };
        let mut rows = if asks_held { shape.patched(&asked, own) } else { rows };
        // With `sql_select_limit = 0` there is none.
        if matches!(asked, Asked::Values(_)) {
            rows.truncate(shape.rows.len());
        }
        let told = Told {
            status: Some(shape.status),
            warnings: shape.warnings,
            rows: rows.len() as u64,
            ends_rows: true,
            ..Told::default()
        };
        if more {
            shape.status = shape.status | Status::MORE_RESULTS;
        }
        let (out, next_seq) = shape.write(&rows, self.capabilities, job.com == Com::StmtExecute, self.next_seq());
        self.replied = next_seq.wrapping_sub(1);
        self.session.learn(job.statement, job.sql, &Learned { ok: true, status: told.status, ..Learned::default() });
        self.count(job, Some((lease.server, sent)), decision.target, started.elapsed(), Some((&told, Instant::now())));
        self.note_left(job, &told, lease.flavor);
        if self.left.unasked() {
            self.take_conditions(&mut lease, told.warnings).await;
        }
        self.keep_or_give_back(lease, held);
        self.send_own(&out).await?;
        Ok(Some(true))
    }

    /// What an expression of a KILL is at the master, in the session's state.
    ///
    /// # Errors
    /// `None` when it is no whole number, or the master says what is wrong with it; else the client has its answer.
    pub(super) async fn whole_number(&mut self, expression: &[u8]) -> Result<u64, Option<Result<(), Gone>>> {
        let sql = [b"SELECT ", expression, b" LIMIT 1"].concat();
        let sql = self.with_left(&sql, false).unwrap_or(sql);
        let (statement, _) = self.classify(b"KILL 0");
        let packet = self.repacked(Com::Query, &sql);
        let job = plain_job(Com::Query, Expect::Query, &statement, &sql, &packet);
        let server = self.decide(&job, &[]).server.ok_or(None)?;
        let held = self.held.is_some();
        let mut lease = match self.connection(&job, server, Instant::now()).await {
            Ok(Ok(lease)) => lease,
            Ok(Err(Failed::Answered)) => return Err(Some(Ok(()))),
            Ok(Err(_)) => return Err(None),
            Err(gone) => return Err(Some(Err(gone))),
        };
        let state = self.wanted_state().clone();
        let reply = match lease.bring_to(&state).await {
            Ok(()) => lease.raw_reply(&sql).await.ok(),
            Err(_) => None,
        };
        let Some(reply) = reply else { return Err(self.lost_while_asking(&job, lease, held).await.transpose()) };
        let shape = Shape::read(&reply, lease.capabilities);
        self.keep_or_give_back(lease, held);
        let cell = shape.as_ref().and_then(|shape| shape.rows.first()).and_then(|row| row.first());
        cell.and_then(|cell| std::str::from_utf8(cell).ok()?.parse().ok()).ok_or(None)
    }

    /// The connection broke while it was asked. Where the session was pinned to it, what it held is gone: that must not be taken for a statement
    /// that may simply be asked again elsewhere.
    async fn lost_while_asking(&mut self, job: &Job<'_>, mut lease: Lease, held: bool) -> Result<Option<()>, Gone> {
        lease.tainted = true;
        if !held {
            return Ok(None);
        }
        self.held = Some(lease);
        match self.held_lost(job, None).await? {
            Recovered::Yes => Ok(None),
            Recovered::No | Recovered::Told => Ok(Some(())),
        }
    }

    fn keep_or_give_back(&mut self, lease: Lease, held: bool) {
        if held {
            self.held = Some(lease);
        } else {
            lease.give_back(Instant::now());
        }
        self.show_idle();
    }

    /// What the session keeps of a reply beside its state.
    pub(super) fn note_left(&mut self, job: &Job<'_>, told: &Told, flavor: Flavor) {
        if let (Com::StmtPrepare, None, Some(prepared)) = (job.com, told.errno, &told.prepared) {
            return self.left.prepared(job.statement, prepared.warnings, flavor == Flavor::MariaDb);
        }
        let reply = Reply {
            failed: told.errno.is_some(),
            warnings: told.warnings,
            affected_rows: told.affected_rows,
            rows: told.rows,
            skipped: if job.statement.found_rows == FoundRows::SentAndSkipped { skipped(job.sql) } else { None },
            result_set: told.ends_rows,
            error: told.errno.zip(told.sqlstate),
            as_set: job.statement.reason == ClassReason::Diagnostics && job.sql.starts_with(b"SET "),
        };
        self.left.learn(job.statement, &reply, flavor == Flavor::MariaDb);
    }

    /// Sluice itself has answered with an OK: what the statement before left behind is gone with it.
    pub(super) fn note_own_ok(&mut self, statement: &Classified) {
        self.left.learn(statement, &Reply::default(), self.shared.flavor() == Some(Flavor::MariaDb));
        self.last = None;
    }

    /// Which account the server takes the client for; `None` where it does not say.
    pub(super) async fn account_at(&self, lease: &mut Lease) -> Option<Vec<u8>> {
        let reply = lease.raw_reply(b"SELECT HEX(CURRENT_USER()) LIMIT 1").await.inspect_err(|_| lease.tainted = true).ok()?;
        let shape = Shape::read(&reply, lease.capabilities)?;
        shape.rows.first()?.first().map(|cell| cell.to_vec()).filter(|cell| !cell.is_empty())
    }

    /// Asks the connection for the conditions of the statement before, of which its reply `counted` so many.
    pub(super) async fn take_conditions(&mut self, lease: &mut Lease, counted: u16) {
        let shape = match lease.raw_reply_within(b"SHOW WARNINGS LIMIT 1024", CONDITIONS_BYTES_MAX).await {
            Ok(reply) => Shape::read(&reply, lease.capabilities),
            Err(_) => {
                lease.tainted = true;
                None
            }
        };
        if let Some(shape) = &shape {
            self.session.goes_on_with(shape.status);
        }
        let rows = shape.map(|shape| shape.rows).unwrap_or_default();
        let conditions: Vec<Condition> = rows.into_iter().filter_map(|row| row.try_into().ok()).collect();
        self.left.conditions_are(conditions, counted);
    }

    /// The statement with what is known put in the place of the functions that ask for it, where it does more than ask.
    pub(super) fn with_left(&self, sql: &[u8], prepared: bool) -> Option<Vec<u8>> {
        // A statement that asks for nothing else keeps the functions, so that its columns stay what they are.
        let only_asks = asked(sql, self.session.lex).is_some();
        // A connection that is held knows it, unless it was asked for conditions, and for more, since.
        let taken = !self.left.unasked() && self.left.warning_count() > 0;
        // Compared with what a server says, the number must be the server's.
        let server_numbers = [&b"IS_USED_LOCK"[..], b"PROCESSLIST"];
        let compares = server_numbers.iter().any(|word| sql.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word)));
        substitute(sql, self.session.lex, |leftover| match leftover {
            Leftover::ConnectionId if compares => None,
            Leftover::ConnectionId => Some(self.entry.id.to_string()),
            Leftover::RowCount if self.left.counts_alone() && !prepared && !only_asks => self.left.value(leftover),
            Leftover::FoundRows if self.left.counted_elsewhere() && !prepared && !only_asks => self.left.value(leftover),
            // What is prepared is executed later, behind other statements.
            _ if prepared || only_asks || self.held.is_some() && !taken => None,
            Leftover::LastGtid => self.left.value(leftover).map(|gtid| format!("'{gtid}'")),
            other => self.left.value(other),
        })
    }

    /// A write that asks for `FOUND_ROWS()` is told it where it runs, which is not the replica that has counted.
    pub(super) async fn leave_for_count(&mut self, statement: &Classified) {
        if statement.effects.reads_found_rows && self.may_leave_replica() {
            Box::pin(self.leave_counting_replica(statement)).await;
        }
    }

    /// `GET DIAGNOSTICS` as a SET of what is known, when the connection that knows it was left.
    pub(super) fn diagnostics_set(&self, sql: &[u8]) -> Option<Vec<u8>> {
        if self.held.is_some() && self.left.unasked() {
            return None;
        }
        self.left.get_diagnostics(&diagnostics::parse(sql, self.session.lex)?).map(|diagnosed| diagnosed.statement())
    }

    /// A new packet for a statement of our own, or for one that [`Client::with_left`] has changed.
    pub(super) fn repacked(&self, com: Com, sql: &[u8]) -> BytesMut {
        // The connections of such a client have agreed upon attributes, too.
        let attributes = com == Com::Query && self.capabilities.has(Capabilities::QUERY_ATTRIBUTES);
        packed(com, if attributes { NO_ATTRIBUTES } else { &[] }, sql)
    }

    /// [`Client::answer_left`] for a statement that is to be executed.
    pub(super) async fn answer_left_boxed(&mut self, statement: &Arc<Classified>, job: &Job<'_>) -> Result<bool, Gone> {
        if job.statement.plain || !Self::may_ask(statement) {
            return Ok(false);
        }
        let answered =
            self.answer_diagnostics(job, false).await?.is_some() || Box::pin(self.answer_left(job, false)).await?.is_some();
        self.replied = 0;
        Ok(answered)
    }
}

pub(super) fn packed(com: Com, attributes: &[u8], sql: &[u8]) -> BytesMut {
    let mut packet = BytesMut::with_capacity(HEADER_LEN + 1 + attributes.len() + sql.len());
    put_packet_with(&mut packet, 0, |out| {
        out.extend_from_slice(&[com as u8]);
        out.extend_from_slice(attributes);
        out.extend_from_slice(sql);
    });
    packet
}

/// A result set of one's own, its definitions as the server wrote them.
struct Shape {
    definitions: Vec<Vec<u8>>,
    rows: Vec<Vec<Box<[u8]>>>,
    status: Status,
    warnings: u16,
    count: Vec<u8>,
}

impl Shape {
    /// Reads a text result set; `None` when it is an error or no result set.
    fn read(reply: &[u8], caps: Capabilities) -> Option<Shape> {
        let mut packets = Vec::new();
        let mut rest = reply;
        while let Some(header) = Header::parse(rest) {
            packets.push(rest.get(HEADER_LEN..header.packet_len())?);
            rest = rest.get(header.packet_len()..)?;
        }
        let (count, after) = packets.split_first().filter(|(count, _)| !matches!(count.first(), Some(0x00 | 0xFF)))?;
        let columns = usize::from(*count.first().filter(|n| **n < 0xFB)?);
        let definitions: Vec<Vec<u8>> = after.get(..columns)?.iter().map(|d| d.to_vec()).collect();
        let rest = after.get(columns + usize::from(!caps.has(Capabilities::DEPRECATE_EOF))..)?;
        let (last, rows) = rest.split_last()?;
        let (status, warnings) = if caps.has(Capabilities::DEPRECATE_EOF) {
            OkPacket::parse(last, caps).map(|ok| (ok.status, ok.warnings))?
        } else {
            EofPacket::parse(last).map(|eof| (eof.status, eof.warnings))?
        };
        let row = |row: &&[u8]| {
            let mut reader = crate::protocol::primitives::Reader::new(row);
            (0..columns).map(|_| reader.nullable_bytes().map(|cell| cell.unwrap_or_default().into())).collect::<Option<Vec<_>>>()
        };
        let rows = rows.iter().map(row).collect::<Option<Vec<_>>>()?;
        Some(Shape { definitions, rows, status: status - Status::SESSION_STATE_CHANGED, warnings, count: count.to_vec() })
    }

    /// The server's own rows, with what the session has of its `own` in the place of the connection's.
    fn patched(&self, asked: &Asked, own: impl Fn(Leftover) -> Option<String>) -> Vec<Vec<Box<[u8]>>> {
        let mut rows = self.rows.clone();
        if let (Asked::Values(values), Some(row)) = (asked, rows.first_mut()) {
            for (cell, value) in row.iter_mut().zip(values) {
                if let Some(own) = own(*value) {
                    *cell = own.into_bytes().into();
                }
            }
        }
        rows
    }

    /// The packets, numbered from `seq`, and the number behind them.
    fn write(&self, rows: &[Vec<Box<[u8]>>], caps: Capabilities, binary: bool, seq: u8) -> (BytesMut, u8) {
        let mut out = BytesMut::with_capacity(256);
        let mut seq = put_packet_with(&mut out, seq, |out| out.extend_from_slice(&self.count));
        for definition in &self.definitions {
            seq = put_packet_with(&mut out, seq, |out| out.extend_from_slice(definition));
        }
        if !caps.has(Capabilities::DEPRECATE_EOF) {
            seq = put_packet_with(&mut out, seq, |out| EofPacket { warnings: self.warnings, status: self.status }.write(out));
        }
        for row in rows {
            seq = put_packet_with(&mut out, seq, |out| {
                if binary {
                    // No NULL stands in any of these results.
                    out.extend_from_slice(&vec![0; 1 + (row.len() + 9) / 8]);
                }
                for (cell, definition) in row.iter().zip(&self.definitions) {
                    put_cell(out, cell, definition, binary);
                }
            });
        }
        seq = put_packet_with(&mut out, seq, |out| write_end_of_rows(out, caps, self.status, self.warnings));
        (out, seq)
    }
}

fn put_cell(out: &mut BytesMut, cell: &[u8], definition: &[u8], binary: bool) {
    // The type stands six bytes before the end of a definition.
    let kind = definition.len().checked_sub(6).and_then(|at| definition.get(at)).copied();
    let number = || std::str::from_utf8(cell).ok().and_then(|text| text.parse::<i128>().ok());
    match kind {
        Some(LONGLONG) if binary => out.extend_from_slice(&(number().unwrap_or(0) as u64).to_le_bytes()),
        Some(LONG) if binary => out.extend_from_slice(&(number().unwrap_or(0) as u32).to_le_bytes()),
        _ => out.put_lenenc_bytes(cell),
    }
}
