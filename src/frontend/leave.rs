//! How a session leaves a connection. What only that connection knows is asked of it first, and only when there is something to ask for: user
//! variables, `FOUND_ROWS()`, `LAST_INSERT_ID()`, what it has just set globally. (The conditions of its last statement are taken in `ask`.)
//! A session leaves a replica for a statement that belongs on the master: its read-only transaction ends there, or begins again. At its end,
//! what it has locked by name is released.

use std::time::{Duration, Instant};

use crate::backend::connection::{CommandError, Connection};
use crate::backend::pool::Lease;
use crate::frontend::client::Client;
use crate::frontend::query::Job;
use crate::frontend::send::RELEASE_LOCKS;
use crate::net::timer;
use crate::protocol::command::Com;
use crate::protocol::frame::{HEADER_LEN, Header};
use crate::protocol::ok_err_eof::Status;
use crate::protocol::result_set::{Answer, MAX_DECODED_BYTES, TextResultSet, decode};
use crate::routing::decide::frees_next_transaction;
use crate::session::machine::Session;
use crate::session::pin::PinReason;
use crate::session::state::{Change, State, Value};
use crate::session::unread::{self, READ_BACK_MAX, Unread};
use crate::sql::classify::{Class, Classified};
use crate::topology::Flavor;

/// A server that does not release locks in this time is not waited for; the connection is closed, which releases them.
const RELEASE_LIMIT: Duration = Duration::from_secs(1);

impl Client {
    /// Whether the session may have to leave a replica before the statement runs.
    pub(super) fn may_leave_replica(&self) -> bool {
        let in_transaction = self.session.status.has(Status::IN_TRANS_READONLY);
        self.held.is_some() && (in_transaction || self.session.pins.has(PinReason::FoundRows))
    }

    /// Leaves it, where it has to.
    pub(super) async fn leave_replica(&mut self, job: &Job<'_>) {
        let (statement, prepares) = (&**job.statement, job.com == Com::StmtPrepare);
        if self.session.status.has(Status::IN_TRANS_READONLY) {
            if !prepares {
                self.end_read_only(statement).await;
            }
            // Whoever names a server for it vouches for it.
            if job.hint.is_none() {
                self.move_read_only(statement, prepares).await;
            }
        }
        self.leave_counting_replica(statement).await;
    }

    /// A read-only transaction is on the server that was chosen for it; a statement that ends it by itself (`BEGIN`, DDL) begins
    /// something else, and may run on another server.
    async fn end_read_only(&mut self, statement: &Classified) {
        let effects = &statement.effects;
        // `COMMIT; INSERT ..` in one text ends it before it writes.
        let ended = statement.begins_by_ending() && self.session.completes_plainly();
        let ends = effects.implicit_commit || effects.begins_transaction.is_some() || ended;
        let Some(server) = self.held.as_ref().map(|lease| lease.server) else { return };
        if !ends || !self.session.pins.only(PinReason::Transaction) || self.shared.snapshot.load().master == Some(server) {
            return;
        }
        let Some(mut lease) = self.held.take() else { return };
        Box::pin(self.take_what_is_left(&mut lease)).await;
        self.left.moves();
        if lease.statement(b"COMMIT").await.is_err() {
            lease.tainted = true;
        }
        self.session.transaction_ended();
        lease.give_back(Instant::now());
    }

    /// A read-only transaction that has read nothing yet begins again on the master for a statement that belongs there: one that locks
    /// by name, prepares, opens a `HANDLER`, sets a global variable, shows what is the server's. What was begun stays where it is when there is no connection for that.
    async fn move_read_only(&mut self, statement: &Classified, prepares: bool) {
        let Some(server) = self.held.as_ref().map(|lease| lease.server) else { return };
        let Some(master) = self.shared.snapshot.load().writer().map(|master| master.id).filter(|master| *master != server) else {
            return;
        };
        match statement.class {
            // A savepoint is known there only.
            Class::Session | Class::Transaction => return self.has_read |= statement.effects.savepoint,
            // What it reads from here on must be of the same moment.
            Class::Read | Class::LockingRead => return self.has_read |= !prepares,
            Class::Write | Class::Ddl | Class::Administrative | Class::Unknown => {}
        }
        if self.has_read || !self.session.pins.only(PinReason::Transaction) {
            return self.has_read = true;
        }
        let Some(pool) = self.shared.pools.get(master.index()) else { return };
        let Ok(mut lease) = pool.checkout(self.wanted(None)).await else { return };
        lease.guard.wanted = false;
        let state = self.wanted_state().clone();
        let begin: &[u8] = match self.takes_snapshot {
            true => b"START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
            false => b"START TRANSACTION READ ONLY",
        };
        let begun = lease.bring_to(&state).await.is_ok() && lease.statement(begin).await.is_ok();
        if !begun {
            lease.tainted = true;
            return;
        }
        lease.writes = true;
        if let Some(mut left) = self.held.replace(lease) {
            self.left.moves();
            if left.statement(b"COMMIT").await.is_err() {
                left.tainted = true;
            }
            left.give_back(Instant::now());
        }
        self.record = None;
    }

    /// What `SQL_CALC_FOUND_ROWS` counted on a replica keeps the session there for a read, but not for a statement that may write: one that
    /// asks for the count has left before it is told it.
    pub(super) async fn leave_counting_replica(&mut self, statement: &Classified) {
        let Some(server) = self.held.as_ref().map(|lease| lease.server) else { return };
        // What would let the next transaction write is not run there.
        let sets = statement.class == Class::Session && !frees_next_transaction(statement);
        let stays = statement.class == Class::Read || sets || !self.session.pins.only(PinReason::FoundRows);
        if stays || self.shared.snapshot.load().master == Some(server) {
            return;
        }
        let Some(mut lease) = self.held.take() else { return };
        Box::pin(self.take_unasked(&mut lease)).await;
        self.take_found_rows(&mut lease).await;
        self.left.moves();
        self.session.pins.set(PinReason::FoundRows, false);
        lease.give_back(Instant::now());
    }

    /// At the end of a session: what its procedures and functions have locked by name on the connection where they ran last. What they
    /// locked on others is released there before they run anything for somebody else.
    pub(super) async fn release_unseen(&mut self) {
        let Some((server, thread_id, serial)) = self.unseen_on.take() else { return };
        if self.held.is_some() {
            return;
        }
        let pool = self.shared.pools.get(server.index());
        let Some(mut lease) = pool.and_then(|pool| pool.retake(&self.account.key, thread_id, serial)) else { return };
        if lease.locks_unseen == Some(self.entry.id) {
            let released = timer::timeout(RELEASE_LIMIT, lease.statement(RELEASE_LOCKS)).await;
            lease.tainted |= !matches!(released, Ok(Ok(())));
            lease.locks_unseen = None;
        }
        lease.give_back(Instant::now());
    }

    /// Asks the connection for `FOUND_ROWS()`.
    pub(super) async fn take_found_rows(&mut self, lease: &mut Lease) {
        match ask(lease, "SELECT FOUND_ROWS() LIMIT 1").await {
            Ok((answer, _)) => {
                let cell = answer.rows.into_iter().next().and_then(|row| row.into_iter().next()?);
                if let Some(rows) = cell.and_then(|cell| std::str::from_utf8(&cell).ok()?.parse().ok()) {
                    self.left.found_rows_are(rows);
                }
            }
            // It stays unknown here; the connection is as good as before.
            Err(CommandError::Refused(_)) => {}
            Err(CommandError::Io(_) | CommandError::Nonsense(_)) => lease.tainted = true,
        }
    }

    /// Whether the statement reads `LAST_INSERT_ID()`, and only the connection that is held knows it.
    pub(super) fn must_ask_insert_id(&self, statement: &Classified) -> bool {
        Session::may_read_insert_id(statement) && self.held.is_some() && self.session.insert_id_unsure()
    }

    /// Asks it, and before that for what asking would wipe out.
    pub(super) async fn ask_held_insert_id(&mut self) {
        let Some(mut lease) = self.held.take() else { return };
        Box::pin(self.take_what_is_left(&mut lease)).await;
        self.take_insert_id(&mut lease).await;
        self.held = Some(lease);
    }

    /// Asks for the conditions and the count that only this connection knows.
    pub(super) async fn take_what_is_left(&mut self, lease: &mut Lease) {
        self.take_unasked(lease).await;
        if self.left.uncounted() {
            self.take_found_rows(lease).await;
        }
    }

    async fn take_unasked(&mut self, lease: &mut Lease) {
        if self.left.unasked() {
            let counted = self.left.warning_count();
            self.take_conditions(lease, counted).await;
        }
    }

    /// Asks the connection for `LAST_INSERT_ID()`.
    pub(super) async fn take_insert_id(&mut self, lease: &mut Lease) {
        let id = match lease.scalar("SELECT LAST_INSERT_ID() LIMIT 1").await {
            Ok(cell) => cell.and_then(|cell| std::str::from_utf8(&cell).ok()?.parse().ok()),
            Err(CommandError::Refused(_)) => None,
            Err(CommandError::Io(_) | CommandError::Nonsense(_)) => {
                lease.tainted = true;
                None
            }
        };
        self.session.insert_id_is(id);
        // Its own may differ from the session's: then whoever reads it next restores his.
        lease.last_insert_id = id.unwrap_or(u64::MAX);
    }

    /// Reads the user variables that the session cannot leave behind. When that fails, it stays on the connection.
    pub(super) async fn read_back(&mut self, lease: &mut Lease) {
        if !self.session.globals.keep.is_empty() {
            self.keep_values(lease).await;
        }
        if let Some(question) = self.session.locks_question() {
            let told = ask(lease, &question).await;
            lease.tainted |= matches!(told, Err(CommandError::Io(_) | CommandError::Nonsense(_)));
            let row = told.ok().and_then(|(answer, _)| answer.rows.into_iter().next()).unwrap_or_default();
            self.session.locks_are(&row.iter().map(|cell| cell.as_deref() == Some(b"1")).collect::<Vec<_>>());
        }
        let Some(unread) = self.session.to_read_back() else { return };
        let state = self.session.state.clone();
        match values(lease, unread, &state).await {
            Ok((changes, counts)) => {
                if let Some((row_count, found_rows)) = counts {
                    self.left.counts_are(row_count, found_rows);
                }
                self.session.read_back(changes.as_deref());
                self.lease_stands_there(lease, false);
            }
            Err(CommandError::Refused(_)) => self.session.read_back(None),
            // The next statement finds the connection broken, and says so.
            Err(CommandError::Io(_) | CommandError::Nonsense(_)) => {
                self.session.read_back(None);
                lease.tainted = true;
            }
        }
    }
}

impl Client {
    /// Reads the session's own values of what it has just set globally: other connections begin with the new ones.
    async fn keep_values(&mut self, lease: &mut Lease) {
        let mut values = Vec::new();
        for name in std::mem::take(&mut self.session.globals.keep) {
            match own_value(lease, &name).await {
                Ok(Some(value)) => values.push(Change::System(name, Some(Value::Reported(value.into())))),
                Ok(None) | Err(CommandError::Refused(_)) => {}
                Err(CommandError::Io(_) | CommandError::Nonsense(_)) => {
                    lease.tainted = true;
                    return;
                }
            }
        }
        self.session.keep(&values);
        self.lease_stands_there(lease, false);
    }
}

/// A session's value of a system variable; `None` where it has none, or none that it may set.
async fn own_value(connection: &mut Connection, name: &str) -> Result<Option<Vec<u8>>, CommandError> {
    let reply = connection.raw_reply(format!("SET SESSION {name} = @@session.{name}").as_bytes()).await?;
    if reply.get(HEADER_LEN) == Some(&0xFF) {
        return Ok(None);
    }
    let (answer, _) = ask(connection, &format!("SELECT @@session.{name} LIMIT 1")).await?;
    Ok(answer.rows.into_iter().next().and_then(|row| row.into_iter().next()?))
}

/// `ROW_COUNT()` and `FOUND_ROWS()`.
type Counts = (i64, u64);

/// Their values as changes of the session's state (`None` when there are too many or one cannot be written down), and the counts
/// that asking changed.
async fn values(
    connection: &mut Connection,
    unread: &Unread,
    state: &State,
) -> Result<(Option<Vec<Change>>, Option<Counts>), CommandError> {
    let all;
    let mut counts = None;
    let names = match unread {
        Unread::Some(names) => names,
        Unread::Any => {
            let answer = ask(connection, unread::names_question(connection.flavor == Flavor::MariaDb)).await?.0;
            let cell = |row: &Vec<Option<Vec<u8>>>, at: usize| String::from_utf8(row.get(at)?.clone()?).ok();
            counts = answer.rows.first().and_then(|row| Some((cell(row, 0)?.parse().ok()?, cell(row, 1)?.parse().ok()?)));
            if answer.rows.first().and_then(|row| cell(row, 2)).as_deref() != Some("1") {
                return Ok((None, counts));
            }
            let cells = answer.rows.into_iter().skip(1).filter_map(|row| String::from_utf8(row.into_iter().next()??).ok());
            all = cells.map(|name| name.to_lowercase().into()).collect::<Vec<Box<str>>>();
            &all
        }
        Unread::Nothing | Unread::Never => return Ok((None, counts)),
    };
    if names.is_empty() {
        return Ok((Some(Vec::new()), counts));
    }
    let Some(question) = unread::question(names).filter(|_| names.len() <= READ_BACK_MAX) else { return Ok((None, counts)) };
    let (answer, types) = ask(connection, &question).await?;
    Ok((answer.rows.first().and_then(|row| unread::changes(names, &types, row, |name| state.has_user(name))), counts))
}

/// The rows that answer a question of our own, and the types of their columns.
pub(super) async fn ask(connection: &mut Connection, sql: &str) -> Result<(TextResultSet, Vec<unread::ColumnType>), CommandError> {
    let reply = connection.raw_reply(sql.as_bytes()).await?;
    if reply.get(HEADER_LEN) == Some(&0xFF) {
        return Err(CommandError::Refused(reply.get(HEADER_LEN..).unwrap_or_default().to_vec()));
    }
    match decode(&reply, connection.capabilities, MAX_DECODED_BYTES) {
        Ok((Answer::Rows(rows), _)) => {
            let types = column_types(&reply, rows.columns.len());
            Ok((rows, types))
        }
        Ok(_) => Err(CommandError::Nonsense("no rows".to_owned())),
        Err(e) => Err(CommandError::Nonsense(e.to_string())),
    }
}

/// Type code and flags of each column: they stand at fixed places from the end of its definition.
fn column_types(reply: &[u8], columns: usize) -> Vec<unread::ColumnType> {
    let mut rest = reply;
    let mut types = Vec::with_capacity(columns);
    // The first packet counts the columns.
    for packet in 0..=columns {
        let Some(header) = Header::parse(rest) else { break };
        if packet > 0 {
            let end = rest.get(..header.packet_len()).unwrap_or_default();
            let back = |n: usize| end.len().checked_sub(n).and_then(|at| end.get(at)).copied().unwrap_or(0);
            // type, flags (2), decimals, filler (2)
            types.push((back(6), u16::from_le_bytes([back(5), back(4)])));
        }
        rest = rest.get(header.packet_len()..).unwrap_or_default();
    }
    types
}
