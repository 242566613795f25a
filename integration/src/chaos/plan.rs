//! What of the failure tests is run, from the arguments.

use std::time::Duration;

use super::fault::{ALL, Fault};

/// `chaos --help`.
pub const USAGE: &str = "chaos [--quick] [--only FAULT,...] [--rounds N] [--semi-sync] [--events] [--endure SECONDS]
  --quick      a few faults, one round each, judged by what is lost, stale, false or stuck and not by times: what CI runs
  --only       of kill, stop, freeze, port, cut, cut-in, cut-out, no-commit, disk-full, alone, lagging, slow, switchover, proxy,
               proxy-midway, blip, starved, jitter, starved-jitter, lossy
  --rounds     each fault this often, 20 by default
  --semi-sync  the servers replicate semi-synchronously: then no acknowledged write may be lost at all
  --events     prints the events of every round, and not only of those that went wrong
  --endure     how long those last under which nothing may happen (starved, jitter, lossy), 15 by default
FLAVOUR=mysql runs it on MySQL.";

/// The faults of `--quick`.
const QUICK: [Fault; 4] = [Fault::Kill, Fault::Freeze, Fault::Switchover, Fault::Blip];
const ROUNDS: u32 = 20;
const ENDURED: Duration = Duration::from_secs(15);

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// In this order.
    pub faults: Vec<Fault>,
    /// Each this often.
    pub rounds: u32,
    /// Undisturbed work before and after a fault.
    pub calm: Duration,
    /// Whether the servers replicate semi-synchronously.
    pub semi_sync: bool,
    /// The events of every round are printed.
    pub events: bool,
    /// How long those faults last under which nothing may happen.
    pub endured: Duration,
    /// Outages are not judged: other work runs on this machine.
    pub untimed: bool,
}

impl Plan {
    /// Reads the arguments.
    ///
    /// # Errors
    /// What is wrong with them, for people.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Plan, String> {
        let mut args = args.into_iter();
        let (mut quick, mut only, mut rounds, mut semi_sync, mut events) = (false, None, None, false, false);
        let mut endured = ENDURED;
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value\n{USAGE}"));
            match arg.as_str() {
                "--quick" => quick = true,
                "--semi-sync" => semi_sync = true,
                "--events" => events = true,
                "--endure" => endured = Duration::from_secs(value()?.parse().map_err(|e| format!("--endure: {e}"))?),
                "--rounds" => rounds = Some(value()?.parse::<u32>().map_err(|e| format!("--rounds: {e}"))?.max(1)),
                "--only" => {
                    let named = value()?;
                    let find = |word: &str| {
                        ALL.into_iter().find(|fault| fault.word() == word).ok_or_else(|| format!("no fault {word:?}\n{USAGE}"))
                    };
                    only = Some(named.split(',').map(|word| find(word.trim())).collect::<Result<Vec<_>, _>>()?);
                }
                _ => return Err(format!("{arg} is unknown\n{USAGE}")),
            }
        }
        let faults = only.unwrap_or_else(|| if quick { QUICK.to_vec() } else { ALL.to_vec() });
        let rounds = rounds.unwrap_or(if quick { 1 } else { ROUNDS });
        Ok(Plan { faults, rounds, calm: Duration::from_secs(1), semi_sync, events, endured, untimed: quick })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(args: &str) -> Result<Plan, String> {
        Plan::parse(args.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn arguments() {
        let full = plan("").unwrap();
        assert_eq!((full.faults.len(), full.rounds, full.semi_sync), (ALL.len(), ROUNDS, false));
        assert_eq!(plan("--quick").unwrap().rounds, 1);
        let some = plan("--only kill,cut-in --rounds 3 --semi-sync").unwrap();
        assert_eq!((some.faults, some.rounds, some.semi_sync), (vec![Fault::Kill, Fault::CutIn], 3, true));
        assert_eq!(plan("--endure 3600").unwrap().endured, Duration::from_secs(3600));
        assert!(plan("--only fire").unwrap_err().contains("no-commit"));
        assert!(plan("--rounds").unwrap_err().contains("needs a value"));
        assert!(plan("--all").unwrap_err().contains("--quick"));
    }

    #[test]
    fn every_fault_is_named_in_the_usage() {
        for fault in ALL {
            assert!(USAGE.contains(fault.word()), "{}", fault.word());
        }
    }
}
