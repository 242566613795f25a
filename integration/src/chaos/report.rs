//! The table: a line for each fault, and what in it breaks a promise.

use std::fmt::Write as _;
use std::time::Duration;

use super::fault::Fault;
use super::round::Done;
use crate::flavour::Flavour;

/// All rounds.
#[derive(Debug)]
pub struct Report {
    flavour: Flavour,
    semi_sync: bool,
    untimed: bool,
    rounds: Vec<(Fault, Done)>,
}

impl Report {
    /// Nothing yet.
    pub fn new(flavour: Flavour, semi_sync: bool, untimed: bool) -> Report {
        Report { flavour, semi_sync, untimed, rounds: Vec::new() }
    }

    /// Takes in a round.
    pub fn add(&mut self, fault: Fault, done: Done) {
        self.rounds.push((fault, done));
    }

    /// How many rounds kept every promise, and how many did not.
    pub fn counts(&self) -> (usize, usize) {
        let failed = self.rounds.iter().filter(|(fault, done)| !self.broken(*fault, done).is_empty()).count();
        (self.rounds.len() - failed, failed)
    }

    /// The promises a round broke.
    fn broken(&self, fault: Fault, done: &Done) -> Vec<String> {
        let mut broken = Vec::new();
        let found = &done.found;
        if done.moved != fault.moves_the_master() && !fault.may_leave_it() {
            broken.push(if done.moved { "a false alarm moved the master" } else { "the master was not replaced" }.to_owned());
        }
        if done.outage > fault.outage_max() && !self.untimed {
            broken.push(format!(
                "writes stood still for {} ms, {} are allowed",
                done.outage.as_millis(),
                fault.outage_max().as_millis()
            ));
        }
        let losses = found.lost.len();
        if losses > 0 && (self.semi_sync || fault.is_lossless()) {
            broken.push(format!("{losses} acknowledged writes are lost"));
        }
        if losses > 0 && !found.loss_was_named {
            broken.push(format!("{losses} lost writes are named nowhere"));
        }
        broken.extend(found.two_masters.iter().take(3).cloned());
        broken.extend(found.wrong_data.iter().cloned());
        broken.extend(found.writable.iter().map(|name| format!("{name} is not read-only")));
        if done.read_errors > 0 && !fault.restarts_the_proxy() {
            broken.push(format!("{} reads failed", done.read_errors));
        }
        if !found.stale_reads.is_empty() {
            broken.push(format!("{} reads lacked the client's own write, which is not lost", found.stale_reads.len()));
        }
        let unknown_allowed = match fault {
            Fault::Switchover | Fault::Blip => 0,
            endured if endured.is_endured() => 0,
            _ => 1,
        };
        if done.unknown_max > unknown_allowed && !fault.restarts_the_proxy() {
            broken.push(format!("{} statements of one client ended with an unknown outcome", done.unknown_max));
        }
        if fault == Fault::Switchover && done.errors > 0 {
            broken.push(format!("{} errors at clients", done.errors));
        }
        if done.stuck {
            broken.push("not all servers came back into their places".to_owned());
        }
        broken.extend(found.quarantined_for_nothing.iter().map(|name| format!("{name} is quarantined for nothing")));
        broken
    }

    /// The table, and below it what was broken.
    pub fn table(&self) -> String {
        let mut out = format!(
            "{}{}\n{:<12} {:>6} {:>16} {:>16} {:>8} {:>8} {:>8} {:>6} {:>6} {:>7}\n",
            self.flavour.title(),
            if self.semi_sync { ", semi-synchronous" } else { ", asynchronous" },
            "fault",
            "rounds",
            "seen p50/worst",
            "outage p50/worst",
            "errors",
            "unknown",
            "reads",
            "lost",
            "false",
            "broken"
        );
        let mut faults: Vec<Fault> = Vec::new();
        for (fault, _) in &self.rounds {
            if !faults.contains(fault) {
                faults.push(*fault);
            }
        }
        let mut below = String::new();
        for fault in faults {
            let rounds: Vec<&Done> = self.rounds.iter().filter(|(f, _)| *f == fault).map(|(_, done)| done).collect();
            let sum = |of: fn(&Done) -> usize| rounds.iter().map(|done| of(done)).sum::<usize>();
            let broken: Vec<String> = rounds.iter().flat_map(|done| self.broken(fault, done)).collect();
            let false_alarms = rounds.iter().filter(|done| done.moved && !fault.moves_the_master()).count();
            let _ = writeln!(
                out,
                "{:<12} {:>6} {:>16} {:>16} {:>8} {:>8} {:>8} {:>6} {:>6} {:>7}",
                fault.word(),
                rounds.len(),
                spread(rounds.iter().filter_map(|done| done.detected).collect()),
                spread(rounds.iter().map(|done| done.outage).collect()),
                sum(|done| done.errors),
                rounds.iter().map(|done| done.unknown_max).max().unwrap_or(0),
                sum(|done| done.read_errors),
                sum(|done| done.found.lost.len()),
                false_alarms,
                broken.len()
            );
            for text in broken {
                let _ = writeln!(below, "BROKEN {}: {text}", fault.word());
            }
            let wrong = rounds.iter().find(|done| !self.broken(fault, done).is_empty());
            let told = wrong
                .or_else(|| rounds.iter().find(|done| !done.recovered))
                .or_else(|| rounds.iter().find(|done| !done.texts.is_empty()));
            if let Some(done) = told {
                let _ = writeln!(below, "       {}: told was", fault.word());
                for text in &done.texts {
                    let _ = writeln!(below, "         {text}");
                }
            }
        }
        out.push_str("(times in ms; unknown: the most statements of one client whose outcome it was not told)\n");
        out.push_str(&below);
        out
    }
}

/// Median and worst, in ms.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    match (times.get(times.len() / 2), times.last()) {
        (Some(middle), Some(worst)) => format!("{} / {}", middle.as_millis(), worst.as_millis()),
        _ => "-".to_owned(),
    }
}
