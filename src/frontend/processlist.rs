//! `SHOW PROCESSLIST`: the master's own, in which Sluice's connections to the servers stand for the clients that use them.
//!
//! A row of a connection that a client uses gets the client's number and address; connections that nobody uses are left out;
//! clients without a connection are added. Other connections of the master (replicas, whoever logs in there directly) are shown as
//! the master shows them. So every number in the list is one that `KILL` takes. What an account may see, the master decides:
//! without the right to see others' (`PROCESS`), its own.

use std::time::Instant;

use bytes::BytesMut;

use crate::backend::kill::{Aside, aside};
use crate::frontend::client::{Client, Gone};
use crate::frontend::errors::{ClientError, Source};
use crate::frontend::registry::ClientState;
use crate::protocol::Capabilities;
use crate::protocol::errno;
use crate::protocol::frame::{HEADER_LEN, next_packet, put_packet, put_packet_with};
use crate::protocol::handshake::ServerError;
use crate::protocol::ok_err_eof::{EofPacket, write_end_of_rows};
use crate::protocol::primitives::Put;
use crate::protocol::result_set::{Answer, MAX_DECODED_BYTES, TextResultSet, decode};
use crate::topology::ServerId;

/// Without FULL a server shows this many characters of a statement.
const INFO_LEN: usize = 100;

pub(super) type Row = Vec<Option<Vec<u8>>>;

/// One client as the list needs it.
#[derive(Clone, Debug, Default)]
struct Seen {
    id: u32,
    user: String,
    host: String,
    schema: Option<String>,
    waiting: bool,
    seconds: u64,
    statement: Option<String>,
    /// The connection it uses.
    on: Option<(ServerId, u64)>,
}

/// One server's rows.
struct Listed {
    server: ServerId,
    rows: TextResultSet,
    /// The connection that asked, which is nobody's.
    asked_on: u64,
}

/// What is merged, and for whom.
struct Merge<'a> {
    lists: &'a [Listed],
    clients: &'a [Seen],
    /// Who asks, and with which text.
    me: u32,
    my_user: &'a str,
    question: &'a str,
    /// Whether a connection of that server is one of Sluice's pools.
    pooled: &'a dyn Fn(ServerId, u64) -> bool,
}

/// The list. The first of `lists` is the master's.
fn merge(m: &Merge<'_>) -> Vec<Row> {
    let Some(master) = m.lists.first() else { return Vec::new() };
    let column = |name: &str| master.rows.column(name);
    let (id_at, user_at, host_at) = (column("Id").unwrap_or(0), column("User").unwrap_or(1), column("Host").unwrap_or(2));
    let number = |row: &Row| row.get(id_at)?.as_deref().and_then(|v| std::str::from_utf8(v).ok()?.parse::<u64>().ok());
    let sees_all = master.rows.rows.iter().any(|row| row.get(user_at).is_some_and(|u| u.as_deref() != Some(m.my_user.as_bytes())));
    let mut out: Vec<Row> = Vec::new();
    let mut shown: Vec<u32> = vec![m.me];
    for list in m.lists {
        let is_master = list.server == master.server;
        for row in &list.rows.rows {
            let Some(id) = number(row) else { continue };
            let client = m.clients.iter().find(|c| c.on == Some((list.server, id)) && !shown.contains(&c.id));
            match client {
                Some(client) => {
                    shown.push(client.id);
                    let mut row = row.clone();
                    set(&mut row, id_at, Some(client.id.to_string()));
                    set(&mut row, host_at, Some(client.host.clone()));
                    out.push(row);
                }
                None if is_master && id != list.asked_on && !(m.pooled)(list.server, id) => out.push(row.clone()),
                None => {}
            }
        }
    }
    for client in m.clients {
        let mine = client.id == m.me;
        if !mine && (shown.contains(&client.id) || !(sees_all || client.user == m.my_user)) {
            continue;
        }
        let mut row: Row = vec![None; master.rows.columns.len()];
        let (command, state, info) = match (mine, client.waiting) {
            (true, _) => ("Query", "starting", Some(m.question.to_owned())),
            (false, true) => ("Query", "waiting for a server", client.statement.clone()),
            (false, false) => ("Sleep", "", None),
        };
        for (name, value) in [
            ("Id", Some(client.id.to_string())),
            ("User", Some(client.user.clone())),
            ("Host", Some(client.host.clone())),
            ("db", client.schema.clone()),
            ("Command", Some(command.to_owned())),
            ("Time", Some(if mine { 0 } else { client.seconds }.to_string())),
            ("State", Some(state.to_owned())),
            ("Info", info),
            ("Progress", Some("0.000".to_owned())),
        ] {
            if let Some(at) = column(name) {
                set(&mut row, at, value);
            }
        }
        out.push(row);
    }
    out
}

fn set(row: &mut Row, at: usize, value: Option<String>) {
    if let Some(place) = row.get_mut(at) {
        *place = value.map(String::into_bytes);
    }
}

impl Client {
    /// `SHOW [FULL] PROCESSLIST`. `None`: it is left to a server.
    pub(super) async fn show_processlist(&mut self, sql: &[u8]) -> Option<Result<(), Gone>> {
        if self.account.login_only {
            return None;
        }
        let question = String::from_utf8_lossy(sql).trim().trim_end_matches(';').trim_end().to_owned();
        let full = question.split_ascii_whitespace().any(|word| word.eq_ignore_ascii_case("FULL"));
        let clients = self.seen();
        let master = self.shared.snapshot.load().master?;
        let mut servers = vec![master];
        for (server, _) in clients.iter().filter_map(|c| c.on) {
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
        let shared = self.shared.clone();
        let (mut lists, mut definitions) = (Vec::new(), BytesMut::new());
        for server in servers {
            let Some(pool) = shared.pools.get(server.index()) else { continue };
            let sql = if full { "SHOW FULL PROCESSLIST" } else { "SHOW PROCESSLIST" };
            let listed = aside(pool, self.account.any_connection(), sql).await;
            let Aside { reply, capabilities, thread_id } = match listed {
                Ok(reply) => reply,
                // A replica that cannot be asked costs its rows; the clients there are shown all the same.
                Err(_) if server != master => continue,
                Err(error) => {
                    let text = format!("cannot ask {} for its processes: {error}", pool.name);
                    return Some(self.refuse(ClientError::new(Source::Server, errno::ER_UNKNOWN_ERROR, text)).await);
                }
            };
            match decode(&reply, capabilities, MAX_DECODED_BYTES) {
                Ok((Answer::Rows(rows), _)) => {
                    if server == master {
                        self.put_definitions(&reply, rows.columns.len(), &mut definitions);
                    }
                    lists.push(Listed { server, rows, asked_on: thread_id });
                }
                _ if server != master => {}
                _ => {
                    // An error of the server's, such as one of an account whose password has expired.
                    let payload = reply.get(HEADER_LEN..).and_then(|p| ServerError::parse(p).ok()).map(|e| e.payload);
                    return Some(self.server_error(&payload.unwrap_or_default()).await);
                }
            }
        }
        let question = if full { question } else { question.chars().take(INFO_LEN).collect() };
        let rows = merge(&Merge {
            lists: &lists,
            clients: &clients,
            me: self.entry.id,
            my_user: &self.account.key.user,
            question: &question,
            pooled: &|server, id| shared.pools.get(server.index()).is_some_and(|pool| pool.owns(id)),
        });
        Some(self.send_rows(definitions, &rows).await)
    }

    fn seen(&self) -> Vec<Seen> {
        let (now, snapshot) = (Instant::now(), self.shared.registry.all());
        let of = |entry: std::sync::Arc<crate::frontend::registry::ClientEntry>| {
            let view = entry.view.lock();
            Seen {
                id: entry.id,
                user: if view.state == ClientState::Login { "unauthenticated user".to_owned() } else { view.user.to_string() },
                host: entry.host().to_owned(),
                schema: view.schema.as_ref().map(|s| s.to_string()),
                waiting: view.state == ClientState::Waiting,
                seconds: view.since.map_or(0, |since| now.duration_since(since).as_secs()),
                statement: view.statement.as_ref().map(|s| s.digest_text.clone()),
                on: view.server.filter(|_| view.thread_id != 0).map(|server| (server, view.thread_id)),
            }
        };
        snapshot.into_iter().map(of).collect()
    }

    /// The column count and the master's definitions, for this client.
    pub(super) fn put_definitions(&self, reply: &[u8], columns: usize, out: &mut BytesMut) {
        let caps = self.capabilities;
        let tells = caps.has(Capabilities::OPTIONAL_RESULTSET_METADATA) || caps.has(Capabilities::MARIADB_CACHE_METADATA);
        let mut seq = put_packet_with(out, 1, |out| {
            out.put_lenenc_int(columns as u64);
            if tells {
                bytes::BufMut::put_u8(out, 1);
            }
        });
        let mut at = next_packet(reply, MAX_DECODED_BYTES).ok().flatten().map_or(0, |count| count.wire_len);
        for _ in 0..columns {
            let Ok(Some(packet)) = next_packet(reply.get(at..).unwrap_or(&[]), MAX_DECODED_BYTES) else { return };
            seq = put_packet(out, seq, &packet.payload);
            at += packet.wire_len;
        }
        if !caps.has(Capabilities::DEPRECATE_EOF) {
            put_packet_with(out, seq, |out| EofPacket { warnings: 0, status: self.session.status.of_session() }.write(out));
        }
    }

    /// These rows behind their definitions, to the client.
    pub(super) async fn send_rows(&mut self, mut out: BytesMut, rows: &[Row]) -> Result<(), Gone> {
        let mut seq = 1u8;
        let mut rest = &out[..];
        while let Ok(Some(packet)) = next_packet(rest, MAX_DECODED_BYTES) {
            seq = seq.wrapping_add(1);
            rest = rest.get(packet.wire_len..).unwrap_or(&[]);
        }
        for row in rows {
            seq = put_packet_with(&mut out, seq, |out| row.iter().for_each(|value| out.put_nullable_bytes(value.as_deref())));
        }
        put_packet_with(&mut out, seq, |out| write_end_of_rows(out, self.capabilities, self.session.status.of_session(), 0));
        self.send_own(&out).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(server: u16, rows: &[(u64, &str, &str)]) -> Listed {
        let columns = ["Id", "User", "Host", "db", "Command", "Time", "State", "Info"].map(str::to_owned).to_vec();
        let row = |(id, user, command): &(u64, &str, &str)| {
            let text = |s: &str| Some(s.as_bytes().to_vec());
            vec![text(&id.to_string()), text(user), text("10.0.0.9:555"), None, text(command), text("0"), text(""), None]
        };
        Listed {
            server: ServerId(server),
            rows: TextResultSet { columns, rows: rows.iter().map(row).collect(), ..Default::default() },
            asked_on: 0,
        }
    }

    fn client(id: u32, user: &str, on: Option<(u16, u64)>) -> Seen {
        Seen { id, user: user.to_owned(), host: "c".to_owned(), on: on.map(|(s, t)| (ServerId(s), t)), ..Seen::default() }
    }

    fn shown(lists: &[Listed], clients: &[Seen], me: u32, my_user: &str) -> Vec<(String, String, String)> {
        let pooled = |_: ServerId, id: u64| (100..200).contains(&id);
        let rows = merge(&Merge { lists, clients, me, my_user, question: "SHOW PROCESSLIST", pooled: &pooled });
        let text = |v: &Option<Vec<u8>>| String::from_utf8(v.clone().unwrap_or_default()).expect("text");
        rows.iter().map(|row| (text(&row[0]), text(&row[1]), text(&row[4]))).collect()
    }

    #[test]
    fn connections_stand_for_the_clients_that_use_them() {
        let clients = [
            client(1001, "app", Some((0, 101))),
            client(1002, "app", None),
            client(1003, "app", Some((2, 101))),
            client(1004, "other", None),
        ];
        let lists = [
            // 101: in use, 102: idle in a pool, 7: logged in directly
            list(0, &[(5, "event_scheduler", "Daemon"), (101, "app", "Query"), (102, "app", "Sleep"), (7, "app", "Sleep")]),
            // of another server only what clients of Sluice do there
            list(2, &[(101, "app", "Query"), (102, "app", "Sleep"), (7, "app", "Sleep")]),
        ];
        let row = |id: &str, user: &str, command: &str| (id.to_owned(), user.to_owned(), command.to_owned());
        assert_eq!(
            shown(&lists, &clients, 1002, "app"),
            [
                row("5", "event_scheduler", "Daemon"),
                row("1001", "app", "Query"),
                row("7", "app", "Sleep"),
                row("1003", "app", "Query"),
                row("1002", "app", "Query"),
                row("1004", "other", "Sleep"),
            ]
        );
    }

    #[test]
    fn who_sees_only_his_own_at_the_master_sees_only_his_own_here() {
        let clients = [client(1001, "app", None), client(1002, "other", None), client(1003, "app", None)];
        let seen = shown(&[list(0, &[(101, "app", "Query")])], &clients, 1001, "app");
        assert_eq!(seen.iter().map(|r| r.0.as_str()).collect::<Vec<_>>(), ["1001", "1003"]);
    }
}
