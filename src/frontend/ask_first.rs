//! A text of several statements that begins with some that ask for what the statement before the text has left: these are answered here, one by
//! one, and the rest of the text is sent. `GET DIAGNOSTICS` alone goes the same way, and nowhere.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;

use crate::frontend::answers::plain_job;
use crate::frontend::ask::packed;
use crate::frontend::client::{Client, Gone};
use crate::frontend::query::{Job, Payload};
use crate::frontend::told::Told;
use crate::protocol::Capabilities;
use crate::protocol::command::Com;
use crate::protocol::frame::{HEADER_LEN, put_packet};
use crate::protocol::ok_err_eof::{OK_HEADER, OkPacket, Status};
use crate::protocol::query::Query;
use crate::protocol::reply::Expect;
use crate::routing::decision::Target;
use crate::session::leftover::Diagnosed;
use crate::sql::classify::{ClassReason, Classified, Uncacheable};
use crate::sql::diagnostics;
use crate::sql::lexer::first_statement;
use crate::topology::Flavor;

/// What became of one statement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    /// It was answered, and the next one is due.
    Answered,
    /// It was answered with an error, with which the text ends.
    Failed,
    /// It asks for something else.
    Another,
}

impl Client {
    /// Answers what a text begins with. `None`: nothing of it, and it is to be sent as it came.
    pub(super) async fn answer_first(&mut self, job: &Job<'_>) -> Result<Option<()>, Gone> {
        // A connection that is held and was not asked has what the statement before has left.
        let several = job.statement.multi && self.account.key.capabilities.has(Capabilities::MULTI_STATEMENTS);
        let Payload::Packet(packet) = job.payload else { return Ok(None) };
        if self.held.is_some() && self.left.unasked() || !several {
            return Ok(None);
        }
        let mut rest = job.sql.trim_ascii_end();
        while let Some(before) = rest.strip_suffix(b";") {
            rest = before.trim_ascii_end();
        }
        let whole = rest.len();
        while !rest.is_empty() {
            // Where nothing but a comment is left, a server says something of its own.
            let (first, behind) = match first_statement(rest, self.session.lex) {
                Some((_, [])) => break,
                Some((first, behind)) => (first, behind),
                None => (rest, &[][..]),
            };
            match self.answer_one(job, first, !behind.is_empty()).await? {
                First::Answered => rest = behind,
                First::Failed => {
                    self.replied = 0;
                    return Ok(Some(()));
                }
                First::Another => {
                    // There is no such condition, on whichever connection.
                    let Some(none) = self.names_no_condition(first).filter(|_| !behind.is_empty()) else { break };
                    let ended = self.send_rest(job, packet, &[&none[..], b";", behind].concat()).await;
                    self.replied = 0;
                    return ended.map(Some);
                }
            }
        }
        let sent = rest.len() < whole;
        let ended = if sent && !rest.is_empty() { self.send_rest(job, packet, rest).await } else { Ok(()) };
        self.replied = 0;
        ended.map(|()| sent.then_some(()))
    }

    /// What stands for a statement that asks for a condition that there is not.
    fn names_no_condition(&self, sql: &[u8]) -> Option<Vec<u8>> {
        if self.held.is_some() {
            return None;
        }
        let parsed = diagnostics::parse(sql, self.session.lex)?;
        self.left.get_diagnostics(&parsed).filter(|found| matches!(found, Diagnosed::NoCondition)).map(|found| found.statement())
    }

    async fn answer_one(&mut self, job: &Job<'_>, sql: &[u8], more: bool) -> Result<First, Gone> {
        let (statement, _) = self.classify(sql);
        if statement.plain || statement.multi || !Self::may_ask(&statement) {
            return Ok(First::Another);
        }
        let packet = self.repacked(Com::Query, sql);
        let one = Job { hint: job.hint, ..plain_job(Com::Query, Expect::Query, &statement, sql, &packet) };
        if self.answer_diagnostics(&one, more).await?.is_some() {
            return Ok(First::Answered);
        }
        Ok(match Box::pin(self.answer_left(&one, more)).await? {
            Some(true) => First::Answered,
            Some(false) => First::Failed,
            None => First::Another,
        })
    }

    /// The rest of a text whose beginning was answered.
    async fn send_rest(&mut self, job: &Job<'_>, packet: &[u8], rest: &[u8]) -> Result<(), Gone> {
        let (statement, hint) = self.classify(rest);
        // An answer that is kept begins with the first packet of a reply.
        let statement = Arc::new(Classified { cacheable: Err(Uncacheable::Session), ..(*statement).clone() });
        let changed = self.diagnostics_set(rest).or_else(|| self.with_left(rest, false));
        let sql = changed.as_deref().unwrap_or(rest);
        let sent = packet.get(HEADER_LEN..).and_then(|payload| Query::parse(payload, self.capabilities));
        let packet = sent.map_or_else(|| self.repacked(Com::Query, sql), |sent| packed(Com::Query, sent.attributes, sql));
        let hint = job.hint.or(hint.as_ref());
        let job = Job { hint, ..plain_job(Com::Query, Expect::Query, &statement, sql, &packet) };
        self.run_job(&job).await.map(|_| ())
    }

    /// Answers `GET DIAGNOSTICS` where all that it asks for is known, and the session is on no connection: its variables are brought to the next.
    pub(super) async fn answer_diagnostics(&mut self, job: &Job<'_>, more: bool) -> Result<Option<()>, Gone> {
        if self.held.is_some() || job.statement.reason != ClassReason::Diagnostics {
            return Ok(None);
        }
        let parsed = diagnostics::parse(job.sql, self.session.lex);
        let Some(Diagnosed::Values(values)) = parsed.and_then(|parsed| self.left.get_diagnostics(&parsed)) else { return Ok(None) };
        // A rule may deny it, and while there is no server it waits as other statements do.
        if self.decide(job, &[]).server.is_none() || !self.session.assign(&values) {
            return Ok(None);
        }
        let started = Instant::now();
        let more = if more { Status::MORE_RESULTS } else { Status(0) };
        let ok = OkPacket { status: self.session.status.of_session() | more, ..OkPacket::default() };
        let (mut payload, mut out) = (BytesMut::with_capacity(16), BytesMut::with_capacity(16 + HEADER_LEN));
        ok.write(&mut payload, self.capabilities, OK_HEADER);
        put_packet(&mut out, self.next_seq(), &payload);
        self.replied = self.next_seq();
        self.count(job, None, Target::Proxy, started.elapsed(), None);
        self.note_left(job, &Told::default(), self.shared.flavor().unwrap_or(Flavor::MySql));
        self.send_own(&out).await?;
        Ok(Some(()))
    }
}
