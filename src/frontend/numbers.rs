//! Clients' numbers where servers have their own: questions about processes that name a client by the number it was greeted with, and
//! how many there are.

use std::sync::Arc;

use bytes::BytesMut;

use crate::backend::kill::aside;
use crate::frontend::answers::plain_job;
use crate::frontend::client::{Client, Gone};
use crate::frontend::query::{Job, Payload};
use crate::protocol::command::Com;
use crate::protocol::reply::Expect;
use crate::protocol::result_set::{Answer, MAX_DECODED_BYTES, decode};
use crate::sql::classify::{Class, Classified};
use crate::sql::numbers::replaced;

impl Client {
    /// A statement that asks for a server's own state, where Sluice knows better. `None`: it is left to the server.
    pub(super) async fn about_clients(&mut self, statement: &Arc<Classified>, sql: &[u8]) -> Option<Result<(), Gone>> {
        if asks_threads_connected(sql) {
            return self.threads_connected(sql).await;
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

    /// `SHOW STATUS LIKE 'Threads_connected'`: the master's, with Sluice's clients in the place of the connections of its pool, so that it goes
    /// up and down with them and agrees with `SHOW PROCESSLIST`.
    async fn threads_connected(&mut self, sql: &[u8]) -> Option<Result<(), Gone>> {
        if self.account.login_only {
            return None;
        }
        let shared = self.shared.clone();
        let pool = shared.pools.get(shared.snapshot.load().master?.index())?;
        let text = std::str::from_utf8(sql).ok()?;
        let answer = aside(pool, self.account.any_connection(), text).await.ok()?;
        let Ok((Answer::Rows(mut rows), _)) = decode(&answer.reply, answer.capabilities, MAX_DECODED_BYTES) else { return None };
        let counts = pool.counts();
        let asked_on_one_more = !pool.owns(answer.thread_id);
        let ours = (counts.used + counts.idle + usize::from(asked_on_one_more)) as u64;
        for value in rows.rows.iter_mut().filter_map(|row| row.get_mut(1)) {
            let there: u64 = std::str::from_utf8(value.as_deref()?).ok()?.parse().ok()?;
            *value = Some((there.saturating_sub(ours) + shared.registry.all().len() as u64).to_string().into_bytes());
        }
        let mut definitions = BytesMut::new();
        self.put_definitions(&answer.reply, rows.columns.len(), &mut definitions);
        Some(self.send_rows(definitions, &rows.rows).await)
    }
}

fn asks_threads_connected(sql: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(sql) else { return false };
    let mut words = text.trim().trim_end_matches(';').split_ascii_whitespace();
    let mut next = || words.next().unwrap_or_default().to_ascii_lowercase();
    if next() != "show" {
        return false;
    }
    let mut word = next();
    if matches!(word.as_str(), "global" | "session" | "local") {
        word = next();
    }
    word == "status"
        && next() == "like"
        && matches!(next().as_str(), "'threads_connected'" | "\"threads_connected\"")
        && next().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_threads_is_asked_for_alone() {
        for sql in ["SHOW STATUS LIKE 'Threads_connected'", "show global status like \"threads_connected\";"] {
            assert!(asks_threads_connected(sql.as_bytes()), "{sql}");
        }
        for sql in [
            "SHOW STATUS",
            "SHOW STATUS LIKE 'Threads%'",
            "SHOW STATUS LIKE 'threads_connected' OR 1",
            "SELECT 'threads_connected'",
        ] {
            assert!(!asks_threads_connected(sql.as_bytes()), "{sql}");
        }
    }
}
