//! A connection that is reset in place: because it cannot be exchanged for another (its session's login cannot be repeated), or so
//! that no user variable has ever had a value there.

use std::sync::Arc;

use super::{CommandError, Connection};
use crate::protocol::Capabilities;
use crate::protocol::command::Com;
use crate::session::state::{Change, State, Value};

impl Connection {
    /// `COM_RESET_CONNECTION`, and from the server's defaults to `want`. The schema stays, as the manual says.
    ///
    /// # Errors
    /// See [`Connection::command`]. After one the connection must be closed.
    pub async fn reset(&mut self, want: &Arc<State>) -> Result<(), CommandError> {
        self.command(Com::ResetConnection, &[]).await?;
        self.prepared.clear();
        self.to_close.clear();
        self.last_insert_id = 0;
        self.dirty_users = false;
        self.locks_unseen = None;
        self.guard_is_gone();
        // The names are the server's own now, whatever those are: nobody asks for these, so they are always set anew.
        // Both families let the roles that were set stand.
        let mut stands = vec![Change::Role(self.have.role().map(Into::into))];
        // And MariaDB forgets what the login's capabilities gave.
        let given = [("sql_mode", Capabilities::IGNORE_SPACE), ("wait_timeout", Capabilities::INTERACTIVE)];
        for (name, _) in given.into_iter().filter(|(_, by)| self.key.capabilities.has(*by)) {
            stands.push(Change::System(name.into(), Some(Value::Literal(format!("@@GLOBAL.{name}").into_bytes().into()))));
        }
        self.have = Arc::new(State::at_login(self.have.schema(), Some(("binary", "binary"))).changed(&stands));
        // A reset runs no `init_connect`: what new sessions begin with is still what this one began with.
        let begins = self.begins.clone();
        self.track_session().await?;
        self.begins = begins;
        self.bring_to(want).await
    }
}
