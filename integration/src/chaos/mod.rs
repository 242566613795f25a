//! The failure tests (`make chaos`): real servers are killed, frozen, cut off and slowed down under a workload that remembers every
//! write it was told of, and afterwards every server is asked what it has.
//!
//! Reading order: [`plan`] (which faults, how often), [`arena`] (servers, links and proxy), [`workload`] (what clients do and
//! remember), [`fault`] (how things break), [`round`] (one fault from calm to calm), [`check`] (what must hold afterwards),
//! [`report`] (the table).

pub mod arena;
pub mod check;
pub mod fault;
pub mod plan;
pub mod report;
pub mod round;
pub mod workload;

use anyhow::Result;

use crate::flavour::Flavour;
use arena::Arena;
use plan::Plan;
use report::Report;

/// Runs the plan and returns the table's lines of failure; none when all that must hold held.
pub async fn run(plan: &Plan, progress: &crate::cluster::Progress) -> Result<Report> {
    let flavour = Flavour::from_env()?;
    let mut report = Report::new(flavour, plan.semi_sync, plan.untimed);
    let mut last: Option<Arena> = None;
    for fault in &plan.faults {
        let kind = fault.arena();
        if kind == arena::Kind::SmallDisks && !arena::Disks::can_be_mounted() {
            progress(&format!("{:<16} left out: no file system can be mounted here", fault.word()));
            continue;
        }
        // Every fault begins on fresh servers, so that none pays for the one before it; but for those that leave all in order, where time is short.
        let mut arena = match last.take() {
            Some(arena) if plan.untimed && kind == arena::Kind::Plain => arena,
            _ => Arena::start(flavour, plan.semi_sync, kind, progress).await?,
        };
        for number in 1..=plan.rounds {
            let done = round::run(&mut arena, *fault, plan).await?;
            progress(&format!("{:<16} {number}/{}: {}", fault.word(), plan.rounds, done.summary()));
            let reusable = done.recovered;
            report.add(*fault, done);
            if number == plan.rounds {
                last = Some(arena).filter(|_| reusable);
                break;
            }
            if !reusable {
                arena = Arena::start(flavour, plan.semi_sync, kind, progress).await?;
            }
        }
    }
    Ok(report)
}
