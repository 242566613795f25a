//! Semi-synchronous replication, where it stands in a failover's way.
//!
//! Peers that are sources to each other wait with each commit until the other has acknowledged it, and so does the one that applies what the dead
//! master had sent: for an acknowledgement that only the dead one would give, up to the timeout, ten seconds by default. Nothing can be promoted,
//! stopped or fetched meanwhile. So while the master is replaced the survivors do not wait for a replica that is not there, and have their replicas
//! connect anew, which the dead one does not; who waits now is let go then, and on MySQL before ([`super::acknowledge`]). (To switch it off as a whole
//! would do, too, but MySQL holds up everybody for a second meanwhile.) Until a replica has come a server acknowledges as with asynchronous replication.
//!
//! The timeout is set to 0 along with it. A timeout of 0 is nothing that anybody configures. It is the mark by which a Sluice that died in between is put right by the next one.
//!
//! Sources: MySQL 8.4 Reference Manual, "Semisynchronous Replication" (`rpl_semi_sync_source_...`, before 8.0.26 `..._master_...`); MariaDB,
//! "Semisynchronous Replication".

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::time::sleep;

use super::hands::Hands;
use super::reach::{Reach, Refusal};
use super::{Report, acknowledge, commands};
use crate::backend::TextResult;
use crate::topology::{Flavor, ServerId};

/// Until a command has its effect.
const ACT_LIMIT: Duration = Duration::from_secs(3);
/// How often it is looked whether a timeout may be what it was.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// For so long; then, and at a server that cannot be reached, it is looked less often.
const SOON: Duration = Duration::from_secs(5);
/// How often then.
const LATER_EVERY: Duration = Duration::from_secs(1);
/// The acknowledgements of a replica that has just come are read only when the server looks up, once a second: commits would wait for that.
const HEARD_AFTER: Duration = Duration::from_millis(1_200);
/// While threads that were killed are waited for, this often.
const SENDERS_EVERY: Duration = Duration::from_millis(20);

/// Variables and status in one text.
const QUESTION: &str = "SHOW GLOBAL VARIABLES LIKE 'rpl_semi_sync_%'; SHOW GLOBAL STATUS LIKE 'rpl_semi_sync_%'";
/// The threads that send to replicas.
const SENDERS: &str = "SELECT id AS id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'";
/// And those of whom it was asked that they end. MySQL's take up to a second, in which they count as replicas still. (MariaDB's may take until the network's time-out.)
const ENDING: &str = "SELECT id AS id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%' OR command = 'Killed'";

/// What the variables call who follows a `source`, or a `master`.
fn replica_of(word: &str) -> &'static str {
    if word == "source" { "replica" } else { "slave" }
}

/// How a server stands as a source.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Source {
    /// `source` or `master`, as its variables are called.
    word: &'static str,
    enabled: bool,
    timeout_ms: u64,
    /// Even where there is no replica.
    waits: bool,
    /// Commits wait.
    on: bool,
    clients: u64,
    /// How many acknowledgements a commit waits for.
    needs: u64,
    /// How many commits wait now.
    waiting: u64,
}

impl Source {
    /// What the answer to [`QUESTION`] says; `None` where there is nothing semi-synchronous.
    fn read(results: &[TextResult]) -> Option<Source> {
        let cell = |name: &str| {
            let mut rows = results.iter().flat_map(|result| &result.rows);
            let row = rows.find(|row| matches!(row.first(), Some(Some(cell)) if cell.eq_ignore_ascii_case(name)))?;
            row.get(1)?.as_deref()
        };
        let is_on = |name: &str| cell(name).is_some_and(|value| value.eq_ignore_ascii_case("ON") || value == "1");
        let number = |name: &str| cell(name).and_then(|n| n.parse().ok()).unwrap_or(0);
        let word = ["source", "master"].into_iter().find(|word| cell(&format!("rpl_semi_sync_{word}_timeout")).is_some())?;
        Some(Source {
            word,
            enabled: is_on(&format!("rpl_semi_sync_{word}_enabled")),
            timeout_ms: cell(&format!("rpl_semi_sync_{word}_timeout"))?.parse().ok()?,
            waits: is_on(&format!("rpl_semi_sync_{word}_wait_no_{}", replica_of(word))),
            on: is_on(&format!("Rpl_semi_sync_{word}_status")),
            clients: number(&format!("Rpl_semi_sync_{word}_clients")),
            needs: number(&format!("rpl_semi_sync_{word}_wait_for_{}_count", replica_of(word))),
            waiting: number(&format!("Rpl_semi_sync_{word}_wait_sessions")),
        })
    }

    /// What lets its commits go on, once its replicas connect anew.
    fn let_commit(&self) -> Option<String> {
        let no_replica = self.no_replica();
        let word = self.word;
        // Of one that is let go already from the last time, a replica may have died since.
        (self.enabled && (self.on && self.timeout_ms > 0 || self.is_let_go())).then(|| {
            format!("SET GLOBAL rpl_semi_sync_{word}_timeout = 0; SET GLOBAL rpl_semi_sync_{word}_wait_no_{no_replica} = OFF")
        })
    }

    /// MariaDB notices with the end of a replica that it is to wait for none, and not before: one that had none must be switched off and on, and so must one
    /// whose dead replica counts still.
    fn let_go_at_once(&self, flavor: Flavor) -> Option<String> {
        let word = self.word;
        let in_vain = self.clients == 0 || (flavor == Flavor::MariaDb && self.waiting > 0);
        (self.enabled && self.on && in_vain)
            .then(|| format!("SET GLOBAL rpl_semi_sync_{word}_enabled = OFF; SET GLOBAL rpl_semi_sync_{word}_enabled = ON"))
    }

    /// Commits wait for replicas again. `None`: not yet, there are too few, or one waits still that is to be let go.
    fn wait_again(&self, was: Was) -> Option<String> {
        let (word, no_replica) = (self.word, self.no_replica());
        let waits = if was.waits { "ON" } else { "OFF" };
        // The mark goes last.
        (!self.enabled || self.clients >= self.needs.max(1) && self.waiting == 0).then(|| {
            format!(
                "SET GLOBAL rpl_semi_sync_{word}_wait_no_{no_replica} = {waits}; SET GLOBAL rpl_semi_sync_{word}_timeout = {}",
                was.timeout_ms
            )
        })
    }

    fn no_replica(&self) -> &'static str {
        replica_of(self.word)
    }

    /// Whether somebody has let its commits go.
    fn is_let_go(&self) -> bool {
        self.enabled && self.timeout_ms == 0 && !self.waits
    }

    fn is(&self) -> Was {
        Was { timeout_ms: self.timeout_ms, waits: self.waits }
    }
}

/// How it was configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Was {
    timeout_ms: u64,
    /// Even where there is no replica.
    waits: bool,
}

/// Where nobody says otherwise, as the servers have it.
const DEFAULT: Was = Was { timeout_ms: 10_000, waits: true };

/// Whose commits were let go, and what there was before.
#[derive(Default)]
pub(super) struct Relaxed {
    /// As long as the replacement lasts.
    let_go: Mutex<Vec<ServerId>>,
    /// Who is looked after until there is a replica.
    waiting: Mutex<Vec<ServerId>>,
    /// Who was found so: another Sluice may be in the middle of a failover, so it is looked at twice.
    found: Mutex<Vec<ServerId>>,
    /// How each was configured when it was seen last.
    was: Mutex<HashMap<ServerId, Was>>,
}

impl Relaxed {
    /// What this one had; if nobody has seen it, what another has.
    fn was(&self, server: ServerId) -> Was {
        let was = self.was.lock();
        was.get(&server).or_else(|| was.values().next()).copied().unwrap_or(DEFAULT)
    }
}

/// Ends the threads that send to replicas, and waits until they have ended: before that the dead one counts as a replica still, and so do `ours`. Those that
/// live connect anew, at once.
async fn end_senders(reach: &Reach, flavor: Flavor, ours: Vec<String>) {
    let ending = if flavor == Flavor::MySql { ENDING } else { SENDERS };
    let Ok(found) = reach.run(&[SENDERS.to_owned()], ACT_LIMIT).await else { return };
    let ids = |results: &[TextResult]| -> Vec<String> {
        let Some(table) = results.first() else { return Vec::new() };
        (0..table.rows.len()).filter_map(|row| table.get(row, "id").map(str::to_owned)).collect()
    };
    let mut ended = ids(&found);
    ended.extend(ours);
    for kill in ended.iter().filter_map(|id| commands::kill(id)) {
        // 1094: it has ended by itself.
        let _ = reach.run(&[kill], ACT_LIMIT).await;
    }
    let until = Instant::now() + ACT_LIMIT;
    while Instant::now() < until {
        match reach.run(&[ending.to_owned()], ACT_LIMIT).await {
            Ok(left) if ids(&left).iter().any(|id| ended.contains(id)) => sleep(SENDERS_EVERY).await,
            _ => return,
        }
    }
}

impl Hands {
    /// Looks at a source, and remembers how it is configured.
    async fn look_at_source(&self, reach: &Reach) -> Result<Option<Source>, Refusal> {
        let source = Source::read(&reach.run(&[QUESTION.to_owned()], ACT_LIMIT).await?);
        if let Some(source) = source.as_ref().filter(|source| source.timeout_ms > 0) {
            self.relaxed.was.lock().insert(reach.id, source.is());
        }
        Ok(source)
    }

    /// No commit of this one waits for an acknowledgement until [`Hands::wait_again`].
    pub(super) async fn let_commit(self: Arc<Self>, server: ServerId, report: Arc<dyn Report>) {
        let Some(reach) = self.free.get(server.index()) else { return };
        let Ok(Some(source)) = self.look_at_source(reach).await else { return };
        let Some(statements) = source.let_commit() else { return };
        let flavor = self.facts(server).map_or(Flavor::MariaDb, |facts| facts.flavor);
        let detail = match reach.run(&[statements], ACT_LIMIT).await {
            Ok(_) => {
                let acknowledged =
                    if flavor == Flavor::MySql { acknowledge::everything(reach, source.needs).await } else { Ok(Vec::new()) };
                let slower = acknowledged.as_ref().err().map(|why| format!("; those that wait now within a second: {why}"));
                if source.clients > 0 || acknowledged.as_ref().is_ok_and(|ours| !ours.is_empty()) {
                    end_senders(reach, flavor, acknowledged.unwrap_or_default()).await;
                }
                if let Ok(Some(now)) = self.look_at_source(reach).await
                    && let Some(statements) = now.let_go_at_once(flavor)
                {
                    let _ = reach.run(&[statements], ACT_LIMIT).await;
                }
                format!(
                    "semi_sync: its commits wait for no acknowledgement while the master is replaced (rpl_semi_sync_{}_timeout was {} ms){}",
                    source.word,
                    self.relaxed.was(server).timeout_ms,
                    slower.unwrap_or_default()
                )
            }
            Err(refusal) => {
                let advice = match &refusal {
                    Refusal::Said(_) => "; MariaDB: GRANT REPLICATION MASTER ADMIN ON *.* to Sluice's account",
                    Refusal::Failed(_) => "",
                };
                format!(
                    "semi_sync: its commits wait for acknowledgements of the dead master, up to {} ms: {refusal}{advice}",
                    source.timeout_ms
                )
            }
        };
        self.relaxed.let_go.lock().push(server);
        self.tell(&report, server, &detail);
    }

    /// The replacement is over.
    pub(super) fn wait_again(self: &Arc<Self>, report: &Arc<dyn Report>) {
        for server in std::mem::take(&mut *self.relaxed.let_go.lock()) {
            self.look_after(server, report);
        }
    }

    /// Looks for servers that somebody who died has left so.
    pub(super) async fn find_relaxed(self: Arc<Self>, report: Arc<dyn Report>) {
        let mut found = Vec::new();
        for reach in self.free.iter().filter(|reach| !reach.retired) {
            if let Ok(Some(source)) = self.look_at_source(reach).await
                && source.is_let_go()
            {
                found.push(reach.id);
            }
        }
        let before = std::mem::replace(&mut *self.relaxed.found.lock(), found.clone());
        for server in found.into_iter().filter(|server| before.contains(server)) {
            self.look_after(server, &report);
        }
    }

    /// One task for a server, whoever asks.
    fn look_after(self: &Arc<Self>, server: ServerId, report: &Arc<dyn Report>) {
        let mut waiting = self.relaxed.waiting.lock();
        if waiting.contains(&server) {
            return;
        }
        waiting.push(server);
        let (hands, report) = (self.clone(), report.clone());
        tokio::spawn(async move {
            hands.tighten(server, &report).await;
            hands.relaxed.waiting.lock().retain(|other| *other != server);
        });
    }

    /// Until it is as it was.
    async fn tighten(&self, server: ServerId, report: &Arc<dyn Report>) {
        let Some(reach) = self.free.get(server.index()) else { return };
        let was = self.relaxed.was(server);
        let began = Instant::now();
        let mut there = None;
        loop {
            let pause = match self.look_at_source(reach).await {
                // It has started anew, or somebody was faster.
                Ok(None) => return,
                Ok(Some(source)) if source.timeout_ms > 0 => return,
                Ok(Some(source)) => match source.wait_again(was) {
                    None => {
                        there = None;
                        if began.elapsed() < SOON { LOOK_EVERY } else { LATER_EVERY }
                    }
                    Some(_) if there.get_or_insert_with(Instant::now).elapsed() < HEARD_AFTER => LOOK_EVERY,
                    Some(statements) => match reach.run(&[statements], ACT_LIMIT).await {
                        Ok(_) => {
                            let detail = format!("semi_sync: rpl_semi_sync_{}_timeout is {} ms again", source.word, was.timeout_ms);
                            return self.tell(report, server, &detail);
                        }
                        Err(_) => LATER_EVERY,
                    },
                },
                Err(_) => LATER_EVERY,
            };
            sleep(pause).await;
        }
    }

    fn tell(&self, report: &Arc<dyn Report>, server: ServerId, detail: &str) {
        let snapshot = self.snapshot.load();
        report.report("failover", snapshot.server(server).map(|view| &*view.name), detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(rows: &[(&str, &str)]) -> Vec<TextResult> {
        let rows = rows.iter().map(|(name, value)| vec![Some((*name).to_owned()), Some((*value).to_owned())]).collect();
        vec![TextResult { columns: vec!["Variable_name".into(), "Value".into()], rows, affected_rows: 0, status: 0 }]
    }

    #[test]
    fn both_families_are_understood() {
        for (word, capital) in [("source", "Rpl_semi_sync_source"), ("master", "Rpl_semi_sync_master")] {
            let small = capital.to_lowercase();
            let found = Source::read(&answer(&[
                (&format!("{small}_enabled"), "ON"),
                (&format!("{small}_timeout"), "10000"),
                (&format!("{small}_wait_no_{}", if word == "source" { "replica" } else { "slave" }), "ON"),
                (&format!("{capital}_status"), "ON"),
                (&format!("{capital}_clients"), "2"),
                (&format!("{small}_wait_for_{}_count", if word == "source" { "replica" } else { "slave" }), "1"),
                (&format!("{capital}_wait_sessions"), "3"),
            ]));
            let expected =
                Source { word, enabled: true, timeout_ms: 10_000, waits: true, on: true, clients: 2, needs: 1, waiting: 3 };
            assert_eq!(found, Some(expected));
        }
        assert_eq!(Source::read(&answer(&[("rpl_semi_sync_replica_enabled", "ON")])), None);
        assert_eq!(Source::read(&[]), None);
    }

    #[test]
    fn only_who_waits_is_let_go_and_waits_again_when_there_is_a_replica() {
        let waits =
            Source { word: "master", enabled: true, timeout_ms: 10_000, waits: true, on: true, clients: 0, needs: 1, waiting: 0 };
        let text = "SET GLOBAL rpl_semi_sync_master_timeout = 0; SET GLOBAL rpl_semi_sync_master_wait_no_slave = OFF";
        assert_eq!(waits.let_commit().as_deref(), Some(text));
        for other in [
            Source { enabled: false, ..waits.clone() },
            Source { on: false, ..waits.clone() },
            // Somebody has it so.
            Source { timeout_ms: 0, ..waits.clone() },
        ] {
            assert_eq!(other.let_commit(), None, "{other:?}");
        }
        let none = Source { timeout_ms: 0, waits: false, ..waits.clone() };
        let text = "SET GLOBAL rpl_semi_sync_master_enabled = OFF; SET GLOBAL rpl_semi_sync_master_enabled = ON";
        assert_eq!(none.let_go_at_once(Flavor::MySql).as_deref(), Some(text));
        assert_eq!(Source { clients: 1, ..none.clone() }.let_go_at_once(Flavor::MariaDb), None);
        assert_eq!(Source { on: false, ..none.clone() }.let_go_at_once(Flavor::MariaDb), None);
        let dead = Source { clients: 1, waiting: 1, ..none };
        assert_eq!(dead.let_go_at_once(Flavor::MariaDb).as_deref(), Some(text), "the dead one counts as a replica still");
        assert_eq!(dead.let_go_at_once(Flavor::MySql), None, "there it has been acknowledged");
        let let_go = Source { word: "source", timeout_ms: 0, waits: false, on: false, ..waits };
        assert_eq!(let_go.wait_again(DEFAULT), None);
        for (source, expected) in [
            (let_go.clone(), true),
            (Source { waits: true, ..let_go.clone() }, false),
            (Source { enabled: false, ..let_go.clone() }, false),
            (Source { timeout_ms: 10_000, ..let_go.clone() }, false),
        ] {
            assert_eq!(source.is_let_go(), expected, "an operator may have set one of them: {source:?}");
        }
        let text = "SET GLOBAL rpl_semi_sync_source_wait_no_replica = ON; SET GLOBAL rpl_semi_sync_source_timeout = 10000";
        assert_eq!(Source { clients: 1, ..let_go.clone() }.wait_again(DEFAULT).as_deref(), Some(text));
        assert_eq!(
            Source { clients: 1, needs: 2, ..let_go.clone() }.wait_again(DEFAULT),
            None,
            "one of two would be waited for in vain"
        );
        let again = Source { on: true, ..let_go.clone() };
        assert!(again.let_commit().is_some(), "in the middle of the last replacement the next one dies");
        let ending = Source { clients: 1, waiting: 1, ..let_go.clone() };
        assert_eq!(ending.wait_again(DEFAULT), None, "what was to be let go would wait again, for the timeout");
        assert!(Source { enabled: false, ..let_go }.wait_again(DEFAULT).is_some(), "switched off by an operator meanwhile");
    }
}
