//! `KILL`, by the numbers that clients see, and the end of what a client leaves behind.
//!
//! A client's number is Sluice's (see [`registry`](super::registry)), and lies above those of the servers' own connections, so that
//! both can be killed through Sluice: a client's number ends the client, or what it runs on whichever server; any other number goes
//! to the server, which knows whose it is. Whether somebody may kill another user's statement is the server's to say.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::backend::kill::{KillError, kill};
use crate::backend::pool::{Lease, Wanted};
use crate::frontend::answers::plain_job;
use crate::frontend::client::{Account, Client, Gone};
use crate::frontend::errors::{ClientError, Source};
use crate::frontend::query::{Job, Payload};
use crate::frontend::registry::{ClientEntry, ClientState};
use crate::frontend::shared::Shared;
use crate::net::tasks::beside;
use crate::protocol::Capabilities;
use crate::protocol::command::Com;
use crate::protocol::errno::{self, Errno};
use crate::protocol::frame::HEADER_LEN;
use crate::protocol::handshake::ServerError;
use crate::protocol::prepared::ExecuteHeader;
use crate::protocol::query::NO_ATTRIBUTES;
use crate::protocol::reply::Expect;
use crate::sql::kill::{KillStatement, Victim, parse};
use crate::sql::lexer::statements;
use crate::topology::{Flavor, ServerId};

/// What a KILL is to do.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// End what runs, not the client.
    pub query_only: bool,
    /// `HARD `, `SOFT ` or nothing, for a server of MariaDB.
    pub hardness: &'static str,
}

/// On whose behalf.
#[derive(Clone, Copy)]
pub enum By<'a> {
    /// An operator on the admin port.
    Operator,
    /// A client's account.
    Account(&'a Account),
}

impl Account {
    /// A connection of this account in whatever state.
    pub(super) fn any_connection(&self) -> Wanted<'_> {
        Wanted {
            key: &self.key,
            credential: &self.credential,
            collation: self.collation,
            state: &self.fresh,
            fresh: &self.fresh,
            attributes: &self.attributes,
            text: None,
        }
    }
}

impl Shared {
    /// Ends what a connection is doing at its server, because its client is gone. The connection must not be given back.
    /// With a login that cannot be repeated there is nobody to do it: its statement ends when the server sees the connection closed.
    pub fn kill_on_server(&self, lease: &Lease, account: &Account) {
        if account.login_only {
            return;
        }
        if let Some(pool) = self.pools.get(lease.server.index()).cloned() {
            let (account, thread_id) = (account.clone(), lease.thread_id);
            beside(async move {
                _ = kill(&pool, account.any_connection(), &format!("KILL CONNECTION {thread_id}")).await;
            });
        }
    }

    /// Ends a client, or what it is running.
    ///
    /// # Errors
    /// What the killer is to be told.
    pub async fn kill_client(&self, target: &ClientEntry, manner: Manner, by: By<'_>) -> Result<(), ClientError> {
        let own_account = target.account.lock().clone();
        let account = match by {
            By::Account(account) => Some(account),
            By::Operator => own_account.as_ref(),
        };
        let foreign = match by {
            By::Account(account) => *target.view.lock().user != *account.key.user,
            By::Operator => false,
        };
        let (state, server, thread_id) = target.doing();
        if state == ClientState::Active
            && let (Some(server), Some(account)) = (server, account)
            && thread_id != 0
        {
            return self.kill_running(target, manner, account, foreign, (server, thread_id)).await;
        }
        if let (true, Some(account)) = (foreign, account) {
            self.may_kill_others(account, target.id).await?;
        }
        match (manner.query_only, state) {
            (false, _) => target.end(),
            (true, ClientState::Waiting) => target.interrupt(),
            // A server's KILL QUERY of an idle connection does nothing either.
            (true, _) => {}
        }
        Ok(())
    }

    /// Has a server end what a client is running there.
    async fn kill_running(
        &self,
        target: &ClientEntry,
        manner: Manner,
        account: &Account,
        foreign: bool,
        (server, thread_id): (ServerId, u64),
    ) -> Result<(), ClientError> {
        let Some(pool) = self.pools.get(server.index()) else { return Ok(()) };
        let aim = pool.aims.take(thread_id);
        // From here on the connection is closed when its statement ends; if it ended before, its client is no longer active on it.
        if target.doing() != (ClientState::Active, Some(server), thread_id) {
            if !manner.query_only && !foreign {
                target.end();
            }
            return Ok(());
        }
        let what = if manner.query_only { "QUERY" } else { "CONNECTION" };
        // Before the server hangs up: its client is then closed as a server closes one, instead of reading that a server was lost.
        target.doomed.store(!manner.query_only, Ordering::Relaxed);
        let killed = match account.login_only {
            // There is no password to open a second connection with.
            true => Err(KillError::Failed("the account's plugin lets Sluice log in only once".to_owned())),
            false => kill(pool, account.any_connection(), &format!("KILL {}{what} {thread_id}", manner.hardness)).await,
        };
        drop(aim);
        match killed {
            Ok(()) => {}
            Err(KillError::Refused(error)) if Errno(error.code) == errno::ER_NO_SUCH_THREAD => {}
            Err(error) if foreign || manner.query_only => {
                target.doomed.store(false, Ordering::Relaxed);
                return Err(match error {
                    KillError::Refused(error) if Errno(error.code) == errno::ER_KILL_DENIED_ERROR => denied(target.id),
                    KillError::Refused(error) => as_it_came(&error),
                    KillError::Failed(why) => {
                        ClientError::new(Source::Server, errno::ER_UNKNOWN_ERROR, format!("cannot kill on {}: {why}", pool.name))
                    }
                });
            }
            // The client goes in any case; its statement may run on for a while.
            Err(error) => tracing::warn!(server = %pool.name, thread_id, %error, "a killed client's statement may run on"),
        }
        if !manner.query_only {
            target.end();
        }
        Ok(())
    }

    /// Whether an account may kill what is not its own, as the master tells by its grants.
    async fn may_kill_others(&self, account: &Account, id: u32) -> Result<(), ClientError> {
        let snapshot = self.snapshot.load_full();
        let server = snapshot.master.or_else(|| snapshot.readers().next().map(|s| s.id));
        let pool = server.and_then(|s| self.pools.get(s.index())).filter(|_| !account.login_only);
        let grants = match pool {
            Some(pool) => match pool.checkout(account.any_connection()).await {
                Ok(mut lease) => match lease.raw_reply(b"SHOW GRANTS").await {
                    Ok(grants) => {
                        lease.give_back(std::time::Instant::now());
                        grants
                    }
                    Err(_) => Vec::new(),
                },
                Err(_) => Vec::new(),
            },
            None => Vec::new(),
        };
        if grants_kill(&String::from_utf8_lossy(&grants)) { Ok(()) } else { Err(denied(id)) }
    }
}

/// Whether `SHOW GRANTS` shows a right to kill what is not one's own.
fn grants_kill(grants: &str) -> bool {
    // Rows are told apart by their first word; a raw reply has lengths between them.
    grants.split("GRANT ").filter_map(|grant| grant.split_once(" ON *.* TO ")).any(|(rights, _)| {
        rights.split(',').any(|right| matches!(right.trim(), "ALL PRIVILEGES" | "SUPER" | "CONNECTION ADMIN" | "CONNECTION_ADMIN"))
    })
}

fn denied(id: u32) -> ClientError {
    ClientError::of_server(errno::ER_KILL_DENIED_ERROR, format!("You are not owner of thread {id}"))
}

fn unknown(id: u64) -> ClientError {
    ClientError::of_server(errno::ER_NO_SUCH_THREAD, format!("Unknown thread id: {id}"))
}

/// A statement that ends with this error.
fn signal(error: &ClientError) -> Vec<u8> {
    // MESSAGE_TEXT holds 128 characters.
    let plain = |c: char| if c.is_ascii_graphic() && !matches!(c, '\'' | '\\') { c } else { ' ' };
    let text: String = error.text.chars().map(plain).take(128).collect();
    format!("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {}, MESSAGE_TEXT = '{text}'", error.errno).into_bytes()
}

fn as_it_came(error: &ServerError) -> ClientError {
    let state = error.sqlstate.as_bytes().first_chunk().copied().unwrap_or(*b"HY000");
    ClientError { sqlstate: state, ..ClientError::of_server(Errno(error.code), error.message.clone()) }
}

impl Client {
    /// A text that begins with KILLs of clients. They are carried out here, and the rest goes to a server, with a statement that does
    /// nothing in the place of each, so that the client gets as many replies as it sent statements. A KILL behind another
    /// statement is the server's, which may know its number or not: it cannot be known here whether it is ever reached.
    /// `None`: all of it is the server's.
    pub(super) async fn kill_and_more(&mut self, sql: &[u8]) -> Option<Result<(), Gone>> {
        if !self.account.key.capabilities.has(Capabilities::MULTI_STATEMENTS) {
            return None; // a mistake, as the server says
        }
        let statements = statements(sql, self.session.lex);
        let (mut done, mut refused) = (0, None);
        for statement in &statements {
            let Some(KillStatement { query_only, hardness, victim: Victim::Thread(id) }) = self.kill_of(statement) else { break };
            match self.kill_thread(id, Manner { query_only, hardness }).await {
                Some(Ok(())) => done += 1,
                Some(Err(error)) if done == 0 => return Some(self.refuse(error).await),
                // Its number is Sluice's, and may be anybody's at the server: that has only the error to tell, behind the replies before it.
                Some(Err(error)) => {
                    refused = Some(signal(&error));
                    break;
                }
                // The server refuses a number that it does not know.
                None => break,
            }
        }
        if done == 0 {
            return None;
        }
        let rest: Vec<&[u8]> = match &refused {
            Some(signal) => vec![signal],
            None => statements.iter().skip(done).copied().collect(),
        };
        let text = std::iter::repeat_n(&b"DO 0"[..], done).chain(rest).collect::<Vec<_>>().join(&b';');
        let mut packet = vec![0; HEADER_LEN];
        packet.push(Com::Query.byte());
        if self.capabilities.has(Capabilities::QUERY_ATTRIBUTES) {
            packet.extend_from_slice(NO_ATTRIBUTES);
        }
        packet.extend_from_slice(&text);
        let length = (packet.len() - HEADER_LEN) as u32;
        // Hardly longer than what came, and that was one packet.
        packet.iter_mut().zip(length.to_le_bytes()).take(3).for_each(|(to, from)| *to = from);
        let (statement, hint) = self.classify(&text);
        let job = Job { hint: hint.as_ref(), ..plain_job(Com::Query, Expect::Query, &statement, &text, &packet) };
        Some(self.run_job(&job).await.map(|_| ()))
    }

    /// The KILL that a statement is where it goes to. To MySQL, `HARD` and `SOFT` are no words of one but a mistake.
    fn kill_of(&self, sql: &[u8]) -> Option<KillStatement> {
        let is_mariadb = || self.shared.flavor() == Some(Flavor::MariaDb);
        parse(sql, self.session.lex).filter(|kill| kill.hardness.is_empty() || is_mariadb())
    }

    /// A KILL statement. `None`: it is the server's.
    pub(super) async fn kill_statement(&mut self, sql: &[u8]) -> Option<Result<(), Gone>> {
        let KillStatement { query_only, hardness, victim } = self.kill_of(sql)?;
        let mariadb = self.shared.flavor() == Some(Flavor::MariaDb);
        let manner = Manner { query_only, hardness };
        match victim {
            Victim::Thread(id) => self.kill(id, manner).await,
            Victim::Expression(expression) => match self.whole_number(&expression).await {
                Ok(id) => self.kill(id, manner).await,
                Err(done) => done,
            },
            Victim::User(user) if mariadb => {
                let (shared, account) = (self.shared.clone(), self.account.clone());
                // The server's OK does not tell whether it killed anybody.
                let may = *account.key.user == *user || shared.may_kill_others(&account, 0).await.is_ok();
                if may && !account.login_only { Some(self.kill_user(&user, manner).await) } else { None }
            }
            Victim::User(_) | Victim::QueryId | Victim::Parameter => None,
        }
    }

    /// The execution of a prepared KILL, by its parameter where it has one. `None`: it is the server's.
    pub(super) async fn kill_prepared(&mut self, sql: &[u8], payload: &[u8], types: Option<&[u8]>) -> Option<Result<(), Gone>> {
        let KillStatement { query_only, hardness, victim } = self.kill_of(sql)?;
        let id = match victim {
            Victim::Thread(id) => id,
            Victim::Parameter => {
                let header = ExecuteHeader::parse(payload, 1, self.capabilities).ok()?;
                crate::protocol::prepared::first_whole_number(payload, &header, types)?
            }
            _ => return None,
        };
        self.kill(id, Manner { query_only, hardness }).await
    }

    /// `COM_PROCESS_KILL`.
    pub(super) async fn process_kill(&mut self, packet: &[u8]) -> Result<(), Gone> {
        let id = packet.get(HEADER_LEN + 1..HEADER_LEN + 5).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
        let Some(id) = id else {
            return self
                .refuse(ClientError::new(Source::Client, errno::ER_MALFORMED_PACKET, "malformed packet: COM_PROCESS_KILL"))
                .await;
        };
        let sql = format!("KILL {id}");
        let killed = Box::pin(self.kill(u64::from(id), Manner { query_only: false, hardness: "" })).await;
        if let Some(killed) = killed {
            return killed;
        }
        let (statement, _) = self.classify(sql.as_bytes());
        let job = Job {
            com: Com::ProcessKill,
            expect: Expect::Simple,
            statement: &statement,
            hint: None,
            sql: sql.as_bytes(),
            payload: Payload::Packet(packet),
            text: None,
            statement_id: 0,
            params: 0,
            types: None,
            prefer: None,
        };
        self.run_job(&job).await.map(|_| ())
    }

    /// Kills by number, and tells the client. `None` as in [`kill_thread`](Self::kill_thread).
    async fn kill(&mut self, id: u64, manner: Manner) -> Option<Result<(), Gone>> {
        Some(match self.kill_thread(id, manner).await? {
            Ok(()) => self.ok("").await,
            Err(error) => self.refuse(error).await,
        })
    }

    /// Kills by number. `None`: no client has it, and it may be a connection of the master that is not Sluice's.
    async fn kill_thread(&mut self, id: u64, manner: Manner) -> Option<Result<(), ClientError>> {
        let target = u32::try_from(id).ok().and_then(|id| self.shared.registry.get(id));
        let target = match target {
            Some(target) => target,
            None => match self.user_of(id, manner).await? {
                Ok(Some(target)) => target,
                Ok(None) => return Some(Ok(())),
                Err(error) => return Some(Err(error)),
            },
        };
        if target.id == self.entry.id {
            // As a server does it: the statement that is killed is this one.
            return Some(Err(self.killed_itself(manner)));
        }
        let (shared, account) = (self.shared.clone(), self.account.clone());
        Some(shared.kill_client(&target, manner, By::Account(&account)).await)
    }

    /// The client that uses the connection which a server numbers so, as `information_schema.processlist` tells it. Servers number
    /// independently: the master's numbers come first, and another's counts only where the master has no such connection, nor one that
    /// is not Sluice's. `Ok(None)`: it had one, which is killed. `None`: it is the master's to say.
    async fn user_of(&mut self, id: u64, manner: Manner) -> Option<Result<Option<Arc<ClientEntry>>, ClientError>> {
        let shared = self.shared.clone();
        let master = shared.snapshot.load().master.and_then(|master| shared.pools.get(master.index()));
        let users = || -> (Vec<_>, Vec<_>) {
            shared.registry.on_connection(id).into_iter().partition(|c| c.doing().1 == master.map(|pool| pool.server))
        };
        let (mut at_master, mut elsewhere) = users();
        if let Some(target) = at_master.pop() {
            return Some(Ok(Some(target)));
        }
        if let Some(pool) = master {
            if pool.owns(id) {
                // An idle connection of a pool may be anybody's in a moment.
                return Some(Err(unknown(id)));
            }
            if elsewhere.is_empty() || self.account.login_only {
                return None;
            }
            let what = if manner.query_only { "QUERY" } else { "CONNECTION" };
            let sql = format!("KILL {}{what} {id}", manner.hardness);
            match kill(pool, self.account.any_connection(), &sql).await {
                Ok(()) => return Some(Ok(None)),
                // Who used it when the master was asked may be somewhere else by now.
                Err(KillError::Refused(error)) if Errno(error.code) == errno::ER_NO_SUCH_THREAD => elsewhere = users().1,
                Err(KillError::Refused(error)) => return Some(Err(as_it_came(&error))),
                Err(KillError::Failed(why)) => {
                    let text = format!("cannot tell whether {} has a connection {id}: {why}", pool.name);
                    return Some(Err(ClientError::new(Source::Server, errno::ER_UNKNOWN_ERROR, text)));
                }
            }
        }
        if elsewhere.len() > 1 {
            let text = format!("thread id {id} is in use on several servers; take the id that SHOW PROCESSLIST tells");
            return Some(Err(ClientError::new(Source::Client, errno::ER_NO_SUCH_THREAD, text)));
        }
        elsewhere.pop().map(|target| Ok(Some(target)))
    }

    /// What a client is told that killed itself.
    fn killed_itself(&self, manner: Manner) -> ClientError {
        let interrupted = ClientError::of_server(errno::ER_QUERY_INTERRUPTED, "Query execution was interrupted");
        if manner.query_only {
            return interrupted;
        }
        let mariadb = self.shared.flavor() == Some(Flavor::MariaDb);
        let error =
            if mariadb { ClientError::of_server(errno::ER_CONNECTION_KILLED, "Connection was killed") } else { interrupted };
        error.fatal()
    }

    /// `KILL USER`, which MariaDB's servers do for their own connections; the user's clients without one are ended here.
    async fn kill_user(&mut self, user: &str, manner: Manner) -> Result<(), Gone> {
        let (shared, account) = (self.shared.clone(), self.account.clone());
        let clients: Vec<Arc<ClientEntry>> =
            shared.registry.all().into_iter().filter(|c| *c.view.lock().user == *user && c.id != self.entry.id).collect();
        let doom = |on: bool| clients.iter().for_each(|c| c.doomed.store(on && !manner.query_only, Ordering::Relaxed));
        doom(true);
        let query = if manner.query_only { "QUERY " } else { "" };
        let sql = format!("KILL {}{query}USER '{}'", manner.hardness, user.replace('\\', "\\\\").replace('\'', "''"));
        let snapshot = shared.snapshot.load_full();
        let mut servers: Vec<ServerId> = snapshot.master.into_iter().collect();
        servers.extend(snapshot.readers().map(|s| s.id).filter(|id| Some(*id) != snapshot.master));
        for server in servers {
            let Some(pool) = shared.pools.get(server.index()) else { continue };
            if let Err(KillError::Refused(error)) = kill(pool, account.any_connection(), &sql).await
                && Errno(error.code) != errno::ER_NO_SUCH_THREAD
            {
                doom(false);
                return self.refuse(as_it_came(&error)).await;
            }
        }
        for client in &clients {
            match manner.query_only {
                true => client.interrupt(),
                false => client.end(),
            }
        }
        if *account.key.user == *user && !manner.query_only {
            return self.refuse(self.killed_itself(manner)).await;
        }
        self.ok("").await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_kill_what_is_not_his_own() {
        for (grants, may) in [
            ("GRANT USAGE ON *.* TO `app`@`%`", false),
            ("GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION", true),
            ("GRANT ALL PRIVILEGES ON `shop`.* TO `app`@`%`", false),
            ("\u{1}GRANT USAGE ON *.* TO `a`@`%`\u{2}\u{3}GRANT PROCESS, CONNECTION ADMIN ON *.* TO `a`@`%`", true),
            ("GRANT CONNECTION_ADMIN,ROLE_ADMIN ON *.* TO `a`@`%`", true),
            ("GRANT SELECT, SUPER ON *.* TO `a`@`%`", true),
            ("GRANT SELECT ON `SUPER`.* TO `a`@`%`", false),
            ("", false),
        ] {
            assert_eq!(grants_kill(grants), may, "{grants}");
        }
    }
}
