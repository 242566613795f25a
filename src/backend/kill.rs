//! `KILL` at a server: through a connection of its own, because the one to be killed is busy.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::Credential;
use crate::backend::client::AdminConnection;
use crate::backend::connect::{self, Login};
use crate::backend::pool::ServerPool;
use crate::net::timer;
use crate::protocol::Capabilities;

/// How long connecting and killing may take together.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// `utf8mb4_general_ci`, which both flavours know.
const COLLATION: u16 = 45;

/// Kills what `thread_id` is running, or with `query_only = false` the connection itself. A failure is logged, not returned:
/// nobody waits for it.
pub async fn kill(pool: Arc<ServerPool>, user: Arc<str>, credential: Arc<Credential>, thread_id: u64, query_only: bool) {
    let login = Login {
        user: user.to_string(),
        credential: Credential::clone(&credential),
        schema: None,
        collation: COLLATION,
        capabilities: crate::backend::connection::ALWAYS_CAPABILITIES - Capabilities::SESSION_TRACK,
        compression: None,
        attributes: vec![("program_name".to_owned(), "sluice-kill".to_owned())],
    };
    let killed = timer::timeout(KILL_TIMEOUT, async {
        let connected = connect::connect(pool.address(), pool.tls(), &login, KILL_TIMEOUT).await.map_err(|e| e.to_string())?;
        let what = if query_only { "QUERY" } else { "CONNECTION" };
        let mut client = AdminConnection::new(connected, KILL_TIMEOUT);
        client.query(&format!("KILL {what} {thread_id}")).await.map(|_| ()).map_err(|e| e.to_string())
    })
    .await;
    match killed {
        Ok(Ok(())) => tracing::debug!(server = %pool.name, thread_id, query_only, "killed"),
        Ok(Err(error)) => tracing::debug!(server = %pool.name, thread_id, %error, "could not kill"),
        Err(_) => tracing::warn!(server = %pool.name, thread_id, "could not kill: no answer within {KILL_TIMEOUT:?}"),
    }
}
