//! One fault, from calm to calm.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;

use super::arena::Arena;
use super::check::{Findings, check};
use super::fault::Fault;
use super::plan::Plan;
use super::workload::{Diary, Workload};
use crate::accounts::APP;

/// Writes must go on within this after a fault, or the round says they did not.
const OUTAGE_LIMIT: Duration = Duration::from_secs(40);

/// Events printed when something is wrong.
const EVENTS_SHOWN: usize = 30;

/// How a round went.
#[derive(Debug)]
pub struct Done {
    /// The longest time without an acknowledged write, from the fault on.
    pub outage: Duration,
    /// From the fault to the first event about it in `SHOW EVENTS`; `None` when there was none.
    pub detected: Option<Duration>,
    /// The master changed.
    pub moved: bool,
    /// Errors clients got, by who.
    pub errors: usize,
    /// The most errors of unknown outcome that any one client got.
    pub unknown_max: usize,
    /// Errors of clients that only read.
    pub read_errors: usize,
    /// Acknowledged writes.
    pub writes: usize,
    /// What the servers have.
    pub found: Findings,
    /// All servers are back in their places, none quarantined.
    pub recovered: bool,
    /// A server is neither back nor quarantined.
    pub stuck: bool,
    /// One error text of each kind, to look at.
    pub texts: Vec<String>,
}

impl Done {
    /// One line for people who watch.
    pub fn summary(&self) -> String {
        let mut words = vec![format!("outage {} ms", self.outage.as_millis())];
        if let Some(detected) = self.detected {
            words.push(format!("seen after {} ms", detected.as_millis()));
        }
        words.push(format!("{} writes, {} errors ({} unknown for one client)", self.writes, self.errors, self.unknown_max));
        if !self.found.lost.is_empty() {
            let named = if self.found.loss_was_named { "named" } else { "NOT NAMED" };
            words.push(format!("{} acknowledged writes lost, {named}", self.found.lost.len()));
        }
        if self.read_errors > 0 {
            words.push(format!("{} READ ERRORS", self.read_errors));
        }
        for wrong in [&self.found.two_masters, &self.found.wrong_data, &self.found.writable] {
            words.extend(wrong.first().map(|first| format!("{first} (and {} more)", wrong.len() - 1)));
        }
        if self.stuck {
            words.push("did not come back".to_owned());
        } else if !self.recovered {
            words.push("a server is quarantined".to_owned());
        }
        words.join(", ")
    }
}

/// Runs one round.
pub async fn run(arena: &mut Arena, fault: Fault, plan: &Plan) -> Result<Done> {
    let calm = plan.calm;
    let first = arena.master().await?.value("SELECT COALESCE(MAX(number), 0) FROM t_chaos.log").await?.parse::<u32>()? + 1_000;
    let before = arena.master().await?.name().to_owned();
    let events_before = arena.proxy.admin("SHOW EVENTS").await?.rows.len();
    let options = arena.proxy.options(APP).db_name(Some("t_chaos"));
    let workload = Workload::start(&options.into(), first);
    tokio::time::sleep(calm).await;
    let struck = Instant::now();
    let struck_at = SystemTime::now();
    let strike = fault.strike(arena, plan.endured).await;
    let mended = fault.mend(arena);
    // Work goes on until writes do, and then for a while, so that what comes back late is seen.
    let goes_on = crate::wait::until_true("writes go on", OUTAGE_LIMIT, || async {
        Ok(workload.has_written_since(Instant::now() - Duration::from_millis(200)))
    });
    let goes_on = goes_on.await;
    tokio::time::sleep(calm * 2).await;
    let diary = workload.end().await;
    strike?;
    mended?;
    goes_on?;
    let calm_again = arena.wait_for_calm().await;
    let recovered = calm_again.as_ref().is_ok_and(Vec::is_empty);
    if let Ok(aside) = &calm_again {
        arena.settle(aside).await?;
    }
    let found = check(arena, fault, &diary, first).await?;
    let moved = arena.master().await?.name() != before;
    let events = arena.proxy.admin("SHOW EVENTS").await?;
    // A proxy that was started again has forgotten the events before.
    let skip = if fault.restarts_the_proxy() { 0 } else { events_before };
    let detected = events.column("at").into_iter().skip(skip).find_map(|at| since(struck_at, at));
    let mut done = done(fault, &diary, struck, detected, moved, found, recovered);
    done.texts.extend(calm_again.as_ref().ok().filter(|aside| !aside.is_empty()).map(|aside| format!("quarantined: {aside:?}")));
    done.stuck = calm_again.is_err();
    if let Err(error) = &calm_again {
        done.texts.push(format!("{error:#}"));
    }
    for read in &done.found.stale_reads {
        let (after, who) = (read.at.saturating_duration_since(struck).as_millis(), read.client);
        done.texts.push(format!("ownreader {who} after {after} ms: it wrote {} and then read {:?}", read.wrote, read.seen));
    }
    if calm_again.is_err()
        || !done.found.stale_reads.is_empty()
        || done.outage > fault.outage_max()
        || moved != fault.moves_the_master()
        || !done.found.two_masters.is_empty()
        || plan.events
    {
        let last: Vec<_> = events.rows.iter().rev().take(EVENTS_SHOWN).rev().map(|event| event.join("  ")).collect();
        done.texts.extend(last);
    }
    Ok(done)
}

fn done(
    fault: Fault,
    diary: &Diary,
    struck: Instant,
    detected: Option<Duration>,
    moved: bool,
    found: Findings,
    recovered: bool,
) -> Done {
    let mut unknown: HashMap<&str, usize> = HashMap::new();
    let mut texts: Vec<String> = Vec::new();
    for trouble in diary.write_troubles.iter().chain(&diary.read_troubles) {
        if trouble.unknown {
            *unknown.entry(&trouble.who).or_default() += 1;
        }
        let text = format!("{} after {} ms: {}", trouble.who, trouble.at.duration_since(struck).as_millis(), trouble.text);
        if texts.len() < 5 && !texts.iter().any(|other| other.ends_with(&trouble.text)) {
            texts.push(text);
        }
    }
    Done {
        outage: outage(diary, struck),
        detected: detected.filter(|_| fault != Fault::Switchover),
        moved,
        errors: diary.write_troubles.len(),
        unknown_max: unknown.values().copied().max().unwrap_or(0),
        read_errors: diary.read_troubles.len(),
        writes: diary.acks.len(),
        found,
        recovered,
        stuck: false,
        texts,
    }
}

/// The longest gap between two acknowledgements, from the last one before the fault on.
fn outage(diary: &Diary, struck: Instant) -> Duration {
    let mut known: Vec<Instant> = diary.acks.iter().map(|ack| ack.known).collect();
    known.sort_unstable();
    let pairs = known.windows(2).filter(|pair| pair[1] > struck);
    pairs.map(|pair| pair[1].duration_since(pair[0].max(struck))).max().unwrap_or(OUTAGE_LIMIT)
}

/// How long after `struck` an event was, told by its `at` (`2026-11-25 16:00:00.123`, UTC); `None` for an earlier one.
fn since(struck: SystemTime, at: &str) -> Option<Duration> {
    let wall = struck.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let (date, time) = at.split_once([' ', 'T'])?;
    let mut days = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (days.next()??, days.next()??, days.next()??);
    let mut parts = time.trim_end_matches('Z').splitn(3, ':').map(|part| part.parse::<f64>().ok());
    let seconds = parts.next()?? * 3600.0 + parts.next()?? * 60.0 + parts.next()??;
    // Days since 1970-01-01 of a proleptic Gregorian date.
    let (y, m) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 1 - 719_468;
    let at = days as f64 * 86_400.0 + seconds;
    let after = at - wall.as_secs_f64();
    (after > -0.002).then(|| Duration::from_secs_f64(after.max(0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::workload::Ack;

    #[test]
    fn events_are_timed_from_the_fault() {
        let struck = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_622_400_500);
        assert_eq!(since(struck, "2026-11-25 16:00:00.750").map(|d| d.as_millis()), Some(250));
        assert_eq!(since(struck, "2026-11-25T16:00:01.500Z").map(|d| d.as_millis()), Some(1000));
        assert_eq!(since(struck, "2026-11-25 15:59:59.000"), None);
        assert_eq!(since(struck, "yesterday"), None);
    }

    #[test]
    fn the_outage_is_the_longest_gap_from_the_fault_on() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let ack = |number, known| Ack { client: 0, number, sent: at(known - 1), known: at(known) };
        let diary = Diary { acks: vec![ack(1, 10), ack(2, 900), ack(3, 1_000), ack(4, 1_600), ack(5, 1_700)], ..Diary::default() };
        assert_eq!(outage(&diary, at(1_100)), Duration::from_millis(500), "from the fault, not from the write before it");
        assert_eq!(outage(&diary, at(950)), Duration::from_millis(600), "a later gap counts, too");
        assert_eq!(outage(&diary, at(2_000)), OUTAGE_LIMIT, "nothing was written any more");
    }
}
