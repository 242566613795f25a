//! Clients' numbers where servers have their own: questions about processes that name a client by the number it was greeted with.

use std::sync::Arc;

use crate::frontend::answers::plain_job;
use crate::frontend::client::{Client, Gone};
use crate::frontend::query::{Job, Payload};
use crate::frontend::status;
use crate::protocol::command::Com;
use crate::protocol::reply::Expect;
use crate::sql::classify::{Class, Classified};
use crate::sql::numbers::replaced;

impl Client {
    /// A statement that asks for a server's own state, where Sluice knows better. `None`: it is left to the server.
    pub(super) async fn about_clients(&mut self, statement: &Arc<Classified>, sql: &[u8]) -> Option<Result<(), Gone>> {
        if let Some(asked) = status::asked(sql) {
            return self.show_own_status(&asked, sql).await;
        }
        // What is written is the client's own number.
        if !statement.effects.system_schemas || statement.class != Class::Read || statement.multi {
            return None;
        }
        let master = self.shared.snapshot.load().master?;
        let connection_of = |number: u64| {
            let client = self.shared.registry.get(u32::try_from(number).ok()?)?;
            let (_, server, thread_id) = client.doing();
            (server == Some(master) && thread_id != 0).then_some(thread_id)
        };
        let sql = replaced(sql, self.session.lex, connection_of)?;
        let packet = self.repacked(Com::Query, &sql);
        let job = plain_job(Com::Query, Expect::Query, statement, &sql, &packet);
        Some(self.run_job(&Job { payload: Payload::Packet(&packet), ..job }).await.map(|_| ()))
    }
}
