//! What must hold when a round is over, asked of every server directly.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result};

use super::arena::Arena;
use super::fault::Fault;
use super::workload::{ACCOUNTS, DEPOSIT, Diary, StaleRead};
use crate::server::Server;

/// What was found.
#[derive(Debug, Default, Clone)]
pub struct Findings {
    /// Acknowledged writes that the master does not have: (client, number).
    pub lost: Vec<(u32, u32)>,
    /// Reads that lacked the client's own write, which is not lost: what consistency promises is broken.
    pub stale_reads: Vec<StaleRead>,
    /// The proxy named transactions as lost or errant, in `SHOW EVENTS` or `SHOW SERVERS`.
    pub loss_was_named: bool,
    /// A write sent after another server had acknowledged one ran on the server before it.
    pub two_masters: Vec<String>,
    /// Servers whose data differ from the master's, or whose bank does not add up.
    pub wrong_data: Vec<String>,
    /// Servers that are quarantined although they have no row that the master lacks.
    pub quarantined_for_nothing: Vec<String>,
    /// Servers other than the master that are not read-only.
    pub writable: Vec<String>,
}

/// Compares what clients were told with what the servers have.
pub async fn check(arena: &Arena, fault: Fault, diary: &Diary, first: u32) -> Result<Findings> {
    let mut found = Findings::default();
    let master = arena.master().await?;
    let rows = log_of(master, first).await?;
    found.lost = diary.acks.iter().map(|ack| (ack.client, ack.number)).filter(|id| !rows.contains_key(id)).collect();
    // A write that the master does not have can be read from nobody.
    found.stale_reads = diary.stale_reads.iter().filter(|read| rows.contains_key(&(read.client, read.wrote))).copied().collect();
    found.two_masters = two_masters(diary, &rows);
    let events = arena.proxy.admin("SHOW EVENTS").await?;
    let servers = arena.servers().await?;
    let told = events.column("detail").into_iter().chain(servers.column("reason")).collect::<Vec<_>>().join("\n");
    found.loss_was_named = told.contains("lost") || told.contains("errant");
    for server in arena.cluster.servers() {
        if !server.is_running() {
            found.wrong_data.push(format!("{} does not run", server.name()));
            continue;
        }
        let sum = server.value("SELECT CAST(SUM(balance) AS CHAR) FROM t_chaos.bank").await?;
        if sum != (ACCOUNTS * DEPOSIT).to_string() {
            found.wrong_data.push(format!("{}: the bank holds {sum} instead of {}", server.name(), ACCOUNTS * DEPOSIT));
        }
        if server.name() == master.name() {
            continue;
        }
        if server.value("SELECT @@GLOBAL.read_only").await? != "1" {
            found.writable.push(server.name().to_owned());
        }
        let quarantined = servers.cell("name", server.name(), "state") == Some("quarantined");
        let theirs = log_of(server, first).await?;
        let only = |a: &Rows, b: &Rows| a.keys().filter(|id| !b.contains_key(*id)).count();
        let (more, less) = (only(&theirs, &rows), only(&rows, &theirs));
        if quarantined && fault.is_lossless() {
            found.quarantined_for_nothing.push(server.name().to_owned());
        }
        if !quarantined && theirs != rows {
            found.wrong_data.push(format!("{} has {more} rows the master lacks, and lacks {less}", server.name()));
        }
    }
    Ok(found)
}

fn number(cell: &String) -> Result<u32> {
    cell.parse().with_context(|| format!("a number: {cell:?}"))
}

/// Which server took which write.
type Rows = HashMap<(u32, u32), u32>;

async fn log_of(server: &Server, first: u32) -> Result<Rows> {
    let table = server.query(&format!("SELECT client, number, server FROM t_chaos.log WHERE number > {first}")).await?;
    table.rows.iter().map(|row| Ok(((number(&row[0])?, number(&row[1])?), number(&row[2])?))).collect()
}

/// A write must not run on a server after another one has taken over: for each two servers of the round, either all writes of
/// the one were sent before the first acknowledgement of the other, or the other way round.
fn two_masters(diary: &Diary, rows: &Rows) -> Vec<String> {
    let of = |ack: &&super::workload::Ack| rows.get(&(ack.client, ack.number)).copied();
    let servers: HashSet<u32> = diary.acks.iter().filter_map(|ack| of(&ack)).collect();
    let mut servers: Vec<(std::time::Instant, u32)> = servers
        .into_iter()
        .filter_map(|server| {
            let first = diary.acks.iter().filter(|ack| of(ack) == Some(server)).map(|ack| ack.known).min()?;
            Some((first, server))
        })
        .collect();
    servers.sort_unstable();
    let mut wrong = Vec::new();
    for pair in servers.windows(2) {
        let [(_, old), (taken_over, new)] = pair else { continue };
        for ack in diary.acks.iter().filter(|ack| of(ack) == Some(*old) && ack.sent > *taken_over) {
            let late = ack.sent.duration_since(*taken_over);
            let (client, number) = (ack.client, ack.number);
            wrong.push(format!(
                "write {client}/{number} ran on server {old}, sent {late:?} after server {new} had acknowledged one"
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::chaos::workload::Ack;

    #[test]
    fn a_late_write_on_the_old_master_is_found() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let ack = |client, number, sent, known| Ack { client, number, sent: at(sent), known: at(known) };
        let mut diary = Diary { acks: vec![ack(0, 1, 0, 5), ack(1, 1, 4, 20), ack(0, 2, 6, 10)], ..Diary::default() };
        let mut rows: Rows = [((0, 1), 1), ((1, 1), 1), ((0, 2), 2)].into();
        assert!(two_masters(&diary, &rows).is_empty(), "sent before the other's first acknowledgement at 10");
        diary.acks.push(ack(1, 2, 11, 12));
        rows.insert((1, 2), 1);
        assert_eq!(two_masters(&diary, &rows).len(), 1);
    }
}
