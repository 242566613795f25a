//! The admin port: MySQL clients in, [`execute_in`](super::execute_in) behind. The commands of the protocol, nothing of the statements.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use super::answer::{AdminError, Answer};
use super::commands::execute_in;
use super::house::House;
use super::listen::{Bound, Closing};
use super::login::{Login, change_user, log_in};
use super::tables;
use super::variables::SERVER_VERSION;
use super::wire::{PACKET_BYTES_MAX, Wire};
use super::{Access, Session};
use crate::net::Stream;
use crate::protocol::errno;

/// Operators and their tools; more is a mistake of somebody's connection pool.
pub const CONNECTIONS_MAX: usize = 100;
/// A client that has not logged in by then is closed.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Whoever says nothing for so long is closed, as `@@wait_timeout` tells.
const IDLE_TIMEOUT: Duration = Duration::from_secs(super::variables::WAIT_TIMEOUT_S);
/// A refused login is answered at this pace, so that guessing a password takes long.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);
/// Prepared statements of one client.
const PREPARED_MAX: usize = 1_000;
/// After accept(2) failed for lack of file descriptors and the like.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connection ids of this port; those of the clients' port are given elsewhere.
static NEXT_ID: AtomicU32 = AtomicU32::new(1);

impl Access {
    /// The account of the admin port.
    pub fn new(user: &str, password: &str) -> Access {
        Access { user: user.to_owned(), password: Zeroizing::new(password.to_owned()) }
    }
}

/// Serves the admin port until the task is dropped, or until it is told to accept nobody: the port is closed then, and who is
/// there stays.
/// `access` and what `tls` returns may be replaced while it runs (a reload).
pub async fn serve(
    bound: Bound,
    access: Arc<ArcSwap<Access>>,
    tls: Arc<dyn Fn() -> Option<TlsAcceptor> + Send + Sync>,
    house: Arc<dyn House>,
    mut closing: Closing,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = bound.accept() => accepted,
            () = closing.accepts_nobody() => break,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(e) => {
                tracing::warn!("admin port: accept failed: {e}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            let mut wire = Wire::new(stream);
            wire.error(&AdminError::new(
                errno::ER_CON_COUNT_ERROR,
                format_args!("too many connections: the admin port takes {CONNECTIONS_MAX}"),
            ));
            let _ = timeout(Duration::from_millis(100), wire.send()).await;
            continue;
        };
        let (access, tls, house, closing) = (access.clone(), tls(), house.clone(), closing.clone());
        tasks.spawn(async move {
            let _slot = slot;
            let id = NEXT_ID.fetch_add(1, Relaxed);
            let login = timeout(LOGIN_TIMEOUT, log_in(stream, id, &access.load_full(), tls.as_ref())).await;
            let (wire, session) = match login {
                Ok(Ok(Login::In(wire, session))) => (wire, session),
                Ok(Ok(Login::Refused(why))) => {
                    tracing::warn!("admin port: login refused: {why}");
                    tokio::time::sleep(REFUSED_PAUSE).await;
                    return;
                }
                Ok(Err(e)) => return tracing::debug!("admin port: login failed: {e}"),
                Err(_) => return tracing::debug!("admin port: no login within {LOGIN_TIMEOUT:?}"),
            };
            tracing::info!(user = session.user, host = session.host, "admin port: logged in");
            if let Err(e) = converse(wire, session, house.as_ref(), &access, closing, IDLE_TIMEOUT).await {
                tracing::debug!("admin port: connection {id} ended: {e}");
            }
        });
    }
    tasks.detach_all();
}

/// The commands of <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_command_phase.html> that we take.
mod com {
    pub const QUIT: u8 = 0x01;
    pub const INIT_DB: u8 = 0x02;
    pub const QUERY: u8 = 0x03;
    pub const FIELD_LIST: u8 = 0x04;
    pub const STATISTICS: u8 = 0x09;
    pub const PROCESS_KILL: u8 = 0x0C;
    pub const PING: u8 = 0x0E;
    pub const CHANGE_USER: u8 = 0x11;
    pub const STMT_PREPARE: u8 = 0x16;
    pub const STMT_EXECUTE: u8 = 0x17;
    pub const STMT_SEND_LONG_DATA: u8 = 0x18;
    pub const STMT_CLOSE: u8 = 0x19;
    pub const STMT_RESET: u8 = 0x1A;
    pub const SET_OPTION: u8 = 0x1B;
    pub const RESET_CONNECTION: u8 = 0x1F;
}

struct Conversation<'h> {
    wire: Wire<Stream>,
    session: Session,
    house: &'h dyn House,
    prepared: HashMap<u32, String>,
    next_statement: u32,
}

pub(super) async fn converse(
    wire: Wire<Stream>,
    session: Session,
    house: &dyn House,
    access: &ArcSwap<Access>,
    mut closing: Closing,
    idle: Duration,
) -> io::Result<()> {
    let mut c = Conversation { wire, session, house, prepared: HashMap::new(), next_statement: 1 };
    let mut answered = false;
    loop {
        c.wire.begin();
        let read = tokio::select! {
            biased;
            read = timeout(idle, c.wire.read(PACKET_BYTES_MAX)) => match read {
                Ok(read) => read,
                Err(_) => return Ok(()),
            },
            // Who has just come in is about to ask something.
            () = closing.told(), if answered => return Ok(()),
        };
        let packet = match read {
            Ok(Some(packet)) => packet,
            Ok(None) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                c.wire.error(&AdminError::new(errno::ER_NET_PACKET_TOO_LARGE, &e));
                c.wire.send().await?;
                return Err(e);
            }
            Err(e) => return Err(e),
        };
        let (command, body) = packet.split_first().map_or((0, &[][..]), |(command, body)| (*command, body));
        if command == com::QUIT {
            return Ok(());
        }
        answered = true;
        if command == com::CHANGE_USER {
            let changed = timeout(LOGIN_TIMEOUT, change_user(&mut c.wire, &packet, &c.session, &access.load_full())).await;
            match changed.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
                Ok(session) => (c.session, c.prepared) = (session, HashMap::new()),
                Err(why) => {
                    tracing::warn!("admin port: login refused: {why}");
                    tokio::time::sleep(REFUSED_PAUSE).await;
                    return Ok(());
                }
            }
            continue;
        }
        c.command(command, body).await;
        c.wire.send().await?;
    }
}

impl Conversation<'_> {
    async fn command(&mut self, command: u8, body: &[u8]) {
        match command {
            com::QUERY => {
                let answer = self.run(body).await;
                self.wire.warnings = self.warnings(body);
                self.reply(answer, false);
                self.wire.warnings = 0;
            }
            com::PING => self.wire.ok(0, ""),
            com::INIT_DB => {
                self.session.schema = Some(String::from_utf8_lossy(body).into_owned());
                self.wire.ok(0, "");
            }
            com::FIELD_LIST => {
                let name = body.split(|b| *b == 0).next().unwrap_or_default();
                let name = String::from_utf8_lossy(name);
                match tables::columns_of(&name) {
                    Some(columns) => self.wire.fields(&columns),
                    None => self.wire.error(&AdminError::new(errno::ER_NO_SUCH_TABLE, format_args!("no table is called `{name}`"))),
                }
            }
            // A string, no packet type in front: what `mysqladmin status` prints.
            com::STATISTICS => {
                let text = format!("{SERVER_VERSION}  Clients: {}", self.house.clients().len());
                self.wire.add(text.as_bytes());
            }
            com::PROCESS_KILL => {
                let id = body.first_chunk::<4>().map_or(0, |id| u32::from_le_bytes(*id));
                let answer = execute_in(&format!("KILL {id}"), &mut self.session, self.house).await;
                self.reply(answer, false);
            }
            com::STMT_PREPARE => self.prepare(body).await,
            com::STMT_EXECUTE => {
                let sql = id(body).and_then(|id| self.prepared.get(&id)).cloned();
                match sql {
                    Some(sql) => {
                        let answer = self.run(sql.as_bytes()).await;
                        self.reply(answer, true);
                    }
                    None => self.unknown_statement(body),
                }
            }
            com::STMT_RESET => match id(body).is_some_and(|id| self.prepared.contains_key(&id)) {
                true => self.wire.ok(0, ""),
                false => self.unknown_statement(body),
            },
            com::STMT_CLOSE => {
                id(body).map(|id| self.prepared.remove(&id));
            }
            // Never answered; there are no parameters that it could be for.
            com::STMT_SEND_LONG_DATA => {}
            com::RESET_CONNECTION => {
                self.session.schema = None;
                self.session.select_limit = None;
                self.prepared.clear();
                self.wire.ok(0, "");
            }
            // Answered with EOF by servers of old, with OK where there is no EOF: OK is understood by all.
            com::SET_OPTION => self.wire.ok(0, ""),
            other => self
                .wire
                .error(&AdminError::new(errno::ER_UNKNOWN_COM_ERROR, format_args!("the admin port has no command 0x{other:02x}"))),
        }
    }

    async fn run(&mut self, sql: &[u8]) -> Answer {
        match std::str::from_utf8(sql) {
            Ok(sql) => execute_in(sql, &mut self.session, self.house).await,
            Err(_) => Answer::Error(AdminError::new(errno::ER_INVALID_CHARACTER_STRING, "the statement is not UTF-8")),
        }
    }

    /// One for a list of clients that is not of all of them: `SHOW WARNINGS` tells.
    fn warnings(&self, sql: &[u8]) -> u16 {
        let sql = String::from_utf8_lossy(sql).to_ascii_lowercase();
        let lists = ["clients", "processlist", "sessions", "connections", "users"].iter().any(|word| sql.contains(word));
        u16::from(lists && self.house.elsewhere().is_some())
    }

    fn reply(&mut self, answer: Answer, binary: bool) {
        match answer {
            Answer::Table(table) => self.wire.table(&table, binary),
            Answer::Ok { affected, info } => self.wire.ok(affected, &info),
            Answer::Error(error) => self.wire.error(&error),
        }
    }

    /// The columns of a statement are known only by running it. A SELECT or SHOW changes nothing, so it is run for them;
    /// anything else has none.
    async fn prepare(&mut self, sql: &[u8]) {
        let text = String::from_utf8_lossy(sql).into_owned();
        if self.prepared.len() >= PREPARED_MAX {
            let message = format!("a client has at most {PREPARED_MAX} prepared statements here");
            return self.wire.error(&AdminError::new(errno::ER_MAX_PREPARED_STMT_COUNT_REACHED, message));
        }
        if has_parameter(&text) {
            let message = "prepared statements take no parameters here; write the values into the statement";
            return self.wire.error(&AdminError::new(errno::ER_UNSUPPORTED_PS, message));
        }
        let word = text.trim_start().split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default().to_uppercase();
        let mut columns = Vec::new();
        if matches!(word.as_str(), "SELECT" | "SHOW" | "EXPLAIN" | "DESC" | "DESCRIBE" | "HELP") {
            match execute_in(&text, &mut self.session.clone(), self.house).await {
                Answer::Table(table) => columns = table.columns,
                Answer::Ok { .. } => {}
                Answer::Error(error) => return self.wire.error(&error),
            }
        }
        let id = self.next_statement;
        self.next_statement = self.next_statement.wrapping_add(1);
        self.prepared.insert(id, text);
        self.wire.prepared(id, &columns);
    }

    fn unknown_statement(&mut self, body: &[u8]) {
        let id = id(body).unwrap_or_default();
        self.wire.error(&AdminError::new(errno::ER_UNKNOWN_STMT_HANDLER, format_args!("unknown prepared statement {id}")));
    }
}

fn id(body: &[u8]) -> Option<u32> {
    body.first_chunk::<4>().map(|id| u32::from_le_bytes(*id))
}

/// Whether a `?` stands outside of quotes.
fn has_parameter(sql: &str) -> bool {
    let mut quote = None;
    let mut escaped = false;
    for c in sql.chars() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if matches!(c, '\'' | '"' | '`') => quote = Some(c),
            None if c == '?' => return true,
            None => {}
        }
    }
    false
}
