//! Commands that take a way of their own: what Sluice answers itself (`SHOW PROCESSLIST`, `KILL`, questions about clients), `COM_INIT_DB`,
//! `COM_FIELD_LIST`, `COM_STATISTICS`, `COM_DEBUG` and `COM_REFRESH` as jobs, and statements that must have a connection before they run.

use std::sync::Arc;

use crate::auth::accounts::schema_is_among;
use crate::backend::connection::{NET_TIMEOUTS, PreparedText};
use crate::backend::pool::Lease;
use crate::frontend::client::{Client, Gone};
use crate::frontend::place::given_up;
use crate::frontend::query::{Job, Payload};
use crate::frontend::relay::patience;
use crate::protocol::command::Com;
use crate::protocol::frame::HEADER_LEN;
use crate::protocol::reply::Expect;
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
        if effects.shows_processlist
            && !statement.multi
            && let Some(shown) = Box::pin(self.show_processlist(sql)).await
        {
            return Ok(Some(shown));
        }
        if effects.kill.is_some() {
            let killed =
                if statement.multi { Box::pin(self.kill_and_more(sql)).await } else { Box::pin(self.kill_statement(sql)).await };
            return Ok(killed);
        }
        if effects.reads_server_state || effects.reads_session_status {
            return Ok(Box::pin(self.about_clients(statement, sql)).await);
        }
        Ok(None)
    }

    /// `COM_INIT_DB`.
    pub(super) async fn init_db(&mut self, packet: &[u8]) -> Result<(), Gone> {
        let statement = self.shared.class_use.clone();
        let schema = packet.get(HEADER_LEN + 1..).unwrap_or(&[]);
        self.account.follow(&self.shared.login);
        let allowed = &self.account.schemas;
        if !allowed.is_empty() && !std::str::from_utf8(schema).is_ok_and(|schema| schema_is_among(allowed, schema)) {
            return self.schema_not_allowed(schema).await;
        }
        self.run_job(&plain_job(Com::InitDb, Expect::Simple, &statement, schema, packet)).await.map(|_| ())
    }

    /// `COM_FIELD_LIST`, `COM_STATISTICS`.
    pub(super) async fn plain_read(&mut self, com: Com, packet: &[u8]) -> Result<(), Gone> {
        let statement = self.shared.class_read.clone();
        let expect = if com == Com::FieldList { Expect::FieldList } else { Expect::Statistics };
        self.run_job(&plain_job(com, expect, &statement, b"", packet)).await.map(|_| ())
    }

    /// `COM_DEBUG`, `COM_REFRESH`: for the master, which knows whether the account may.
    pub(super) async fn administrative(&mut self, com: Com, packet: &[u8]) -> Result<(), Gone> {
        let (statement, _) = self.classify(b"FLUSH LOGS");
        self.run_job(&plain_job(com, Expect::Simple, &statement, b"", packet)).await.map(|_| ())
    }

    /// Sends rows that Sluice answers with. A client that does not read is waited for as long as its server would wait.
    pub(super) async fn send_own(&mut self, rows: &[u8]) -> Result<(), Gone> {
        let limit = || patience(&self.session.state, "net_write_timeout", NET_TIMEOUTS.0);
        let sent = self.stream.send_all_unless_stalled(rows, limit).await;
        sent.inspect_err(|error| self.note_stalled(error)).map_err(Gone::from)
    }

    /// Takes a connection for this session before a statement runs, because of `reason`, and brings it to the session's state.
    /// `false`: there was none, and the client was not told (the command has no reply).
    pub(super) async fn pin_for(&mut self, text: &Arc<PreparedText>, reason: PinReason) -> Result<bool, Gone> {
        let snapshot = self.shared.snapshot.load_full();
        // A session that stays where it is may write there.
        let Some(pool) = snapshot.master.and_then(|s| self.shared.pools.get(s.index())) else { return Ok(false) };
        let checkout = tokio::select! {
            biased;
            checkout = pool.checkout(self.wanted(Some(text))) => checkout,
            _ = given_up(&self.shared, pool.server) => return Ok(false),
            () = self.stream.closed() => return Err(Gone),
        };
        let Ok(mut lease) = checkout else { return Ok(false) };
        lease.guard.wanted = false;
        if lease.bring_to(&self.session.state).await.is_err() {
            return Ok(false);
        }
        lease.writes = true;
        self.session.pins.set(reason, true);
        self.left.moves();
        self.held = Some(lease);
        Ok(true)
    }

    pub(super) async fn prepare_on_held(&mut self, lease: &mut Lease, text: &Arc<PreparedText>) -> Option<u32> {
        let mut out = Vec::new();
        let id = self.prepare_on(lease, text, &mut out).await.ok()?;
        lease.bring_to(&self.session.state).await.ok()?;
        Some(id)
    }
}

/// A job that is its packet and nothing else.
pub(super) fn plain_job<'a>(com: Com, expect: Expect, statement: &'a Arc<Classified>, sql: &'a [u8], packet: &'a [u8]) -> Job<'a> {
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
