//! The benchmark: the same work directly, through HAProxy, through MySQL Router where it is installed, through a bare relay and
//! through Sluice, in one run, taken in turns. Machines are noisy, so what counts are the ratios within a run and the CPU time of the proxy's
//! process, not the rates.

pub mod cache;
pub mod load;
pub mod paths;
pub mod relay;
pub mod report;

use std::time::Duration;

/// What of the benchmark is run, from its arguments.
#[derive(Debug, Clone)]
pub struct Plan {
    /// sysbench cells: workload, connections.
    pub cells: Vec<(load::Workload, u32)>,
    /// Each path runs a cell this often, in turns.
    pub rounds: u32,
    /// One run of one path.
    pub time: Duration,
    /// Large results are measured.
    pub large: bool,
    /// Connections per second are measured.
    pub logins: bool,
    /// The cache is measured.
    pub cache: bool,
    /// So many idle clients are measured; 0: none.
    pub idle: u32,
    /// Only these paths; empty: all.
    pub only_paths: Vec<String>,
    /// Threads of HAProxy and Sluice.
    pub threads: u32,
}

/// `bench --help`.
pub const USAGE: &str =
    "bench [--quick] [--only WORKLOAD,...] [--connections N,...] [--rounds N] [--seconds N] [--paths NAME,...] [--threads N]
  --quick        fewer cells, short runs: under four minutes
  --only         of point-text, point-prepared, ro-text, ro-prepared, rw-text, rw-prepared, large, logins, idle, cache
  --connections  instead of 1,16,64,256
  --paths        of direct, haproxy, router, proxysql, relay (bare, for comparison), sluice
  --threads      of each proxy, 2 by default
FLAVOUR=mysql runs it on MySQL.";

impl Plan {
    /// Whether anything is measured that all ways to the server are compared in.
    pub fn has_paths(&self) -> bool {
        !self.cells.is_empty() || self.large || self.logins || self.idle > 0
    }

    /// Reads the arguments.
    ///
    /// # Errors
    /// What is wrong with them, for people.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Plan, String> {
        let mut args = args.into_iter();
        let (mut quick, mut only, mut connections) = (false, Vec::new(), None);
        let (mut rounds, mut seconds, mut only_paths, mut threads) = (None, None, Vec::new(), 2);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value\n{USAGE}"));
            let list = |text: String| text.split(',').map(|s| s.trim().to_owned()).collect::<Vec<_>>();
            let number = |text: String| text.trim().parse::<u32>().map_err(|e| format!("{text}: {e}"));
            match arg.as_str() {
                "--quick" => quick = true,
                "--only" => only = list(value()?),
                "--connections" => connections = Some(list(value()?).into_iter().map(number).collect::<Result<Vec<_>, _>>()?),
                "--rounds" => rounds = Some(number(value()?)?.max(1)),
                "--seconds" => seconds = Some(number(value()?)?.max(1)),
                "--paths" => only_paths = list(value()?),
                "--threads" => threads = number(value()?)?.max(1),
                _ => return Err(format!("{arg} is unknown\n{USAGE}")),
            }
        }
        let known: Vec<&str> = load::WORKLOADS.iter().map(|w| w.name).chain(["large", "logins", "idle", "cache"]).collect();
        if let Some(wrong) = only.iter().find(|name| !known.contains(&name.as_str())) {
            return Err(format!("no workload {wrong:?}: there are {}", known.join(", ")));
        }
        let wanted = |name: &str, in_quick: bool| if only.is_empty() { !quick || in_quick } else { only.iter().any(|o| o == name) };
        let connections = connections.unwrap_or_else(|| if quick { vec![1, 16, 64] } else { vec![1, 16, 64, 256] });
        let workloads = load::WORKLOADS.iter().filter(|w| wanted(w.name, w.in_quick));
        let cells = workloads.flat_map(|w| connections.iter().map(|c| (*w, *c))).collect();
        Ok(Plan {
            cells,
            rounds: rounds.unwrap_or(if quick { 2 } else { 3 }),
            time: Duration::from_secs(u64::from(seconds.unwrap_or(if quick { 2 } else { 4 }))),
            large: wanted("large", false),
            logins: wanted("logins", false),
            cache: wanted("cache", false),
            idle: if wanted("idle", true) { if quick { 1000 } else { 5000 } } else { 0 },
            only_paths,
            threads,
        })
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
        assert_eq!((full.cells.len(), full.idle, full.large, full.logins, full.cache), (24, 5000, true, true, true));
        let cache = plan("--only cache").unwrap();
        assert!(cache.cache && !cache.has_paths() && full.has_paths());
        let quick = plan("--quick").unwrap();
        assert_eq!((quick.cells.len(), quick.idle, quick.large), (9, 1000, false));
        let one = plan("--only point-text --connections 64 --rounds 5 --seconds 1 --paths haproxy,sluice").unwrap();
        assert_eq!((one.cells.len(), one.idle, one.rounds, one.only_paths.len()), (1, 0, 5, 2));
        assert!(plan("--only nothing").unwrap_err().contains("point-prepared"));
        assert!(plan("--rounds").unwrap_err().contains("needs a value"));
        assert!(plan("--fast").unwrap_err().contains("--quick"));
    }
}
