//! `KILL` at a server, and what else is asked beside the connections that are busy: on an idle one, else on one of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::Credential;
use crate::backend::checkout::Wanted;
use crate::backend::connect::{self, ConnectError, Login};
use crate::backend::connection::{ALWAYS_CAPABILITIES, Connection, put_command};
use crate::backend::pool::ServerPool;
use crate::net::timer;
use crate::protocol::Capabilities;
use crate::protocol::command::Com;
use crate::protocol::frame::HEADER_LEN;
use crate::protocol::handshake::ServerError;

/// How long connecting and killing may take together.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// `utf8mb4_general_ci`, which both flavours know.
const COLLATION: u16 = 45;

/// Why a KILL came to nothing.
#[derive(Debug)]
pub enum KillError {
    /// The server said no.
    Refused(ServerError),
    /// It could not be told.
    Failed(String),
}

impl std::fmt::Display for KillError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KillError::Refused(e) => write!(f, "{e}"),
            KillError::Failed(why) => f.write_str(why),
        }
    }
}

/// Runs a KILL statement at the server as this account: on an idle connection of its own, else on one opened for it, which may be
/// one more than `max_connections`: those may all be busy with what is to be killed.
///
/// # Errors
/// See [`KillError`].
pub async fn kill(pool: &Arc<ServerPool>, by: Wanted<'_>, sql: &str) -> Result<(), KillError> {
    let late = |_| KillError::Failed(format!("{} did not answer a KILL within {KILL_TIMEOUT:?}", pool.name));
    let killed = timer::timeout(KILL_TIMEOUT, Box::pin(run(pool, by, sql))).await.map_err(late).and_then(|killed| killed);
    match &killed {
        Ok(()) => tracing::debug!(server = %pool.name, sql, "killed"),
        Err(error) => tracing::debug!(server = %pool.name, sql, %error, "could not kill"),
    }
    killed
}

async fn run(pool: &Arc<ServerPool>, by: Wanted<'_>, sql: &str) -> Result<(), KillError> {
    let answer = reply_aside(pool, by, sql).await?;
    let payload = answer.reply.get(HEADER_LEN..).unwrap_or_default();
    match payload.first() {
        Some(&ServerError::HEADER) => {
            let unreadable = |_| KillError::Failed(format!("{} gave an unreadable answer to a KILL", pool.name));
            Err(KillError::Refused(ServerError::parse(payload).map_err(unreadable)?))
        }
        _ => Ok(()),
    }
}

/// The answer to what was asked aside.
#[derive(Debug)]
pub struct Aside {
    /// The whole reply, as the server sent it.
    pub reply: Vec<u8>,
    /// With which to read it.
    pub capabilities: Capabilities,
    /// The number of the connection that was asked on.
    pub thread_id: u64,
}

/// Runs a statement of ours as this account beside what the pool is busy with.
///
/// # Errors
/// See [`KillError`]. A server's refusal of the statement is a reply.
pub async fn aside(pool: &Arc<ServerPool>, by: Wanted<'_>, sql: &str) -> Result<Aside, KillError> {
    let late = |_| KillError::Failed(format!("no answer within {KILL_TIMEOUT:?}"));
    timer::timeout(KILL_TIMEOUT, Box::pin(reply_aside(pool, by, sql))).await.map_err(late).and_then(|reply| reply)
}

async fn reply_aside(pool: &Arc<ServerPool>, by: Wanted<'_>, sql: &str) -> Result<Aside, KillError> {
    if let Some(mut lease) = pool.take_any_idle(by).await {
        // One that had broken while it was idle is dropped.
        if let Ok(reply) = lease.raw_reply(sql.as_bytes()).await {
            let answer = Aside { reply, capabilities: lease.capabilities, thread_id: lease.thread_id };
            lease.give_back(Instant::now());
            return Ok(answer);
        }
    }
    let login = Login {
        user: by.key.user.to_string(),
        credential: Credential::clone(by.credential),
        schema: None,
        collation: COLLATION,
        capabilities: ALWAYS_CAPABILITIES | by.key.capabilities,
        compression: None,
        attributes: by.attributes.to_vec(),
        client: by.key.client,
    };
    let connected = connect::connect(pool.address(), &pool.tls(), &login, KILL_TIMEOUT).await.map_err(|e| match e {
        ConnectError::Refused(e) => KillError::Refused(e),
        e => KillError::Failed(e.to_string()),
    })?;
    let mut connection = Connection::new(connected, pool.server, by.key.clone(), by.fresh.clone(), Instant::now());
    let reply = connection.raw_reply(sql.as_bytes()).await.map_err(|e| KillError::Failed(e.to_string()))?;
    let mut quit = Vec::new();
    put_command(&mut quit, Com::Quit, &[]);
    let _ = connection.stream.send_all(&quit).await;
    Ok(Aside { reply, capabilities: connection.capabilities, thread_id: connection.thread_id })
}
