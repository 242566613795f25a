//! What the configuration lets an account do, as it is now: `[[user]] read_only` and `schemas`, from the statement after a reload on, and `hosts`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::frontend::client::{Account, Client, Gone};
use crate::frontend::errors::{ClientError, Source};
use crate::frontend::kill::{By, Manner};
use crate::frontend::login::LoginRoom;
use crate::frontend::query::{Job, Payload};
use crate::frontend::shared::Shared;
use crate::protocol::command::Com;
use crate::protocol::errno;
use crate::routing::schemas::{Outside, Schemas};

impl Account {
    /// Takes up what the entry of this user says now. Where no reload has been since the last look that costs one load.
    pub(super) fn follow(&mut self, room: &LoginRoom) {
        let read = room.accounts_read.load(Ordering::Acquire);
        if read == self.accounts_read {
            return;
        }
        self.accounts_read = read;
        let accounts = room.accounts.load();
        let entry = accounts.entry(&self.key.user);
        self.read_only = entry.is_some_and(|entry| entry.read_only);
        // One list for all clients of the user.
        self.schemas = entry.map_or_else(Default::default, |entry| entry.schemas.clone());
    }
}

impl Shared {
    /// Ends the clients that may no longer come from where they are (`[[user]] hosts`), and says how many. What they run is killed at its server.
    pub fn end_strangers(self: &Arc<Self>) -> usize {
        let accounts = self.login.accounts.load();
        let is_stranger =
            |account: &Account| accounts.entry(&account.key.user).is_some_and(|entry| !entry.may_come_from(account.ip));
        let strangers: Vec<_> =
            self.registry.all().into_iter().filter(|client| client.account.lock().as_ref().is_some_and(is_stranger)).collect();
        let count = strangers.len();
        for client in strangers {
            let shared = self.clone();
            // A server may take its time; nobody waits for it.
            tokio::spawn(async move {
                let manner = Manner { query_only: false, hardness: "" };
                if shared.kill_client(&client, manner, By::Operator).await.is_err() {
                    client.end();
                }
            });
        }
        count
    }
}

impl Client {
    /// The schemas that the account may use, for this job.
    pub(super) fn schemas<'a>(&'a self, job: &Job<'_>) -> Schemas<'a> {
        // What it names is no statement's text, and was looked at.
        if job.com == Com::InitDb {
            return Schemas::all();
        }
        let whole = job.com != Com::Query || !matches!(job.payload, Payload::Upload);
        Schemas { allowed: &self.account.schemas, lex: self.session.lex, whole }
    }

    /// `COM_INIT_DB` of a schema that the account may not use.
    pub(super) async fn schema_not_allowed(&mut self, schema: &[u8]) -> Result<(), Gone> {
        let outside = Outside::Schema(String::from_utf8_lossy(schema).into_owned());
        let error = self.outside(&outside);
        self.refuse(error).await
    }

    /// What a client is told whose statement does not stay within the schemas that its account may use.
    pub(super) fn schema_denied(&self, job: &Job<'_>) -> ClientError {
        let found = self.schemas(job).refuse(job.statement, self.session.state.schema());
        self.outside(&found.unwrap_or(Outside::Unknown("it was refused")))
    }

    fn outside(&self, outside: &Outside) -> ClientError {
        let user = format!("'{}'@'{}'", self.account.key.user, self.entry.host());
        let text = format!("Access denied for user {user} {}", outside.text(&self.account.schemas));
        ClientError::new(Source::Client, errno::ER_DBACCESS_DENIED_ERROR, text)
    }
}
