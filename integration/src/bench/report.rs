//! The table, and what it says about the aims.

use std::fmt::Write as _;

use crate::bench::load::Sample;

/// One cell: a load at a number of connections, with all paths' samples added up.
#[derive(Debug, Clone)]
pub struct Cell {
    /// `point-text`, `large`, `logins`.
    pub load: &'static str,
    /// Connections at once; 0 where that is fixed.
    pub connections: u32,
    /// Path and its samples.
    pub paths: Vec<(&'static str, Vec<Sample>)>,
}

/// A path's samples of a cell as one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Statements, bytes or logins per second.
    pub rate: f64,
    /// Median latency, milliseconds (mean over the rounds).
    pub p50_ms: f64,
    /// 99th percentile (mean over the rounds).
    pub p99_ms: f64,
    /// CPU of the proxy in microseconds per statement, login or MiB.
    pub cpu_us: f64,
    /// The part of it in user mode.
    pub user_us: f64,
}

impl Cell {
    /// A path's line.
    pub fn line(&self, path: &str) -> Option<Line> {
        let samples = &self.paths.iter().find(|(name, _)| *name == path)?.1;
        let n = samples.len() as f64;
        let sum = |f: &dyn Fn(&Sample) -> f64| samples.iter().map(f).sum::<f64>();
        let count = sum(&|s| s.count as f64);
        if samples.is_empty() || count == 0.0 {
            return None;
        }
        let unit = if self.load == "large" { 1048576.0 } else { 1.0 };
        let user = sum(&|s| s.user.as_secs_f64()) * 1e6;
        let cpu = user + sum(&|s| s.system.as_secs_f64()) * 1e6;
        Some(Line {
            rate: count / unit / sum(&|s| s.time.as_secs_f64()),
            p50_ms: sum(&|s| s.p50_ms) / n,
            p99_ms: sum(&|s| s.p99_ms) / n,
            cpu_us: cpu / (count / unit),
            user_us: user / (count / unit),
        })
    }

    /// Its lines of the table: rates and CPU time with their ratios to HAProxy's.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let unit = match self.load {
            "large" => ("MiB/s", "us/MiB"),
            "logins" => ("logins/s", "us/login"),
            _ => ("stmts/s", "us/stmt"),
        };
        let title =
            if self.connections > 0 { format!("{}, {} connections", self.load, self.connections) } else { self.load.to_owned() };
        let _ = writeln!(
            out,
            "{title:<28} {:>10} {:>8} {:>8} {:>8} {:>10} {:>8} {:>9}",
            unit.0, "/haproxy", "p50 ms", "p99 ms", unit.1, "/haproxy", "user mode"
        );
        let peer = self.line("haproxy");
        for (name, _) in &self.paths {
            let Some(line) = self.line(name) else { continue };
            let ratio = |of: fn(&Line) -> f64| peer.as_ref().map_or(String::new(), |peer| format!("{:.2}", of(&line) / of(peer)));
            let latency = |ms: f64| if ms > 0.0 { format!("{ms:.2}") } else { String::new() };
            let (cpu, cpu_ratio, user) = match *name {
                "direct" => Default::default(),
                _ => (format!("{:.1}", line.cpu_us), ratio(|l| l.cpu_us), format!("{:.1}", line.user_us)),
            };
            let _ = writeln!(
                out,
                "  {name:<26} {:>10.0} {:>8} {:>8} {:>8} {cpu:>10} {cpu_ratio:>8} {user:>9}",
                line.rate,
                ratio(|l| l.rate),
                latency(line.p50_ms),
                latency(line.p99_ms)
            );
        }
        out
    }
}

/// The aims, each with what was measured. Only what was run is judged.
pub fn aims(cells: &[Cell], idle: &[(&'static str, f64)], classify_ns: Option<f64>) -> String {
    let mut out = String::new();
    let mut line = |verdict: &str, text: String| _ = writeln!(out, "{verdict:<7} {text}");
    let verdict = |met: bool| if met { "met" } else { "MISSED" };
    let statements: Vec<&Cell> = cells.iter().filter(|cell| cell.connections > 0).collect();
    let ratios: Vec<f64> =
        statements.iter().filter_map(|cell| Some(cell.line("sluice")?.cpu_us / cell.line("haproxy")?.cpu_us)).collect();
    if !ratios.is_empty() {
        let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
        line(
            verdict(mean <= 0.95),
            format!("CPU per statement: {mean:.2} of HAProxy's on average over {} cells (aim: at most 0.95)", ratios.len()),
        );
    }
    let bare: Vec<[f64; 3]> = statements
        .iter()
        .filter_map(|cell| Some([cell.line("relay")?.cpu_us, cell.line("haproxy")?.cpu_us, cell.line("sluice")?.cpu_us]))
        .collect();
    if !bare.is_empty() {
        let mean = |of: fn(&[f64; 3]) -> f64| bare.iter().map(of).sum::<f64>() / bare.len() as f64;
        let (ratio, above) = (mean(|[relay, peer, _]| relay / peer), mean(|[relay, _, ours]| ours - relay));
        line(
            "",
            format!(
                "a bare relay, which looks at nothing: {ratio:.2} of HAProxy's; Sluice takes {above:.1} us per statement above it"
            ),
        );
    }
    let beaten: Vec<String> = statements
        .iter()
        .filter_map(|cell| {
            let ours = cell.line("sluice")?.cpu_us;
            let others = cell.paths.iter().filter(|(name, _)| !matches!(*name, "direct" | "relay" | "sluice"));
            let best = others.filter_map(|(name, _)| Some((*name, cell.line(name)?.cpu_us))).min_by(|a, b| a.1.total_cmp(&b.1))?;
            (best.1 < ours)
                .then(|| format!("{} at {} ({} {:.1} us, sluice {ours:.1})", cell.load, cell.connections, best.0, best.1))
        })
        .collect();
    if !ratios.is_empty() {
        let cells = if beaten.is_empty() {
            "in every cell".to_owned()
        } else {
            format!("not in {} of {}: {}", beaten.len(), ratios.len(), beaten.join("; "))
        };
        line(verdict(beaten.is_empty()), format!("the least CPU per statement of all proxies {cells}"));
    }
    for cell in statements.iter().filter(|cell| cell.connections == 64) {
        if let (Some(ours), Some(peer)) = (cell.line("sluice"), cell.line("haproxy")) {
            let ratio = ours.rate / peer.rate;
            line(
                verdict(ratio >= 1.0),
                format!("rate at 64 connections, {}: {ratio:.2} of HAProxy's (aim: at least 1)", cell.load),
            );
        }
    }
    if let Some((_, ours)) = idle.iter().find(|(name, _)| *name == "sluice") {
        let kib = ours / 1024.0;
        line(verdict(kib <= 6.0), format!("memory per idle client: {kib:.1} KiB (aim: at most 6)"));
    }
    if let Some(ns) = classify_ns {
        line(verdict(ns < 1000.0), format!("classification of a known statement: {ns:.0} ns (aim: under 1000)"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn sample(count: u64, cpu_ms: u64) -> Sample {
        Sample { count, time: Duration::from_secs(1), user: Duration::from_millis(cpu_ms), ..Sample::default() }
    }

    #[test]
    fn lines_and_aims() {
        let cell = Cell {
            load: "point-text",
            connections: 64,
            paths: vec![
                ("haproxy", vec![sample(10_000, 500), sample(10_000, 300)]),
                ("relay", vec![sample(10_000, 280)]),
                ("sluice", vec![sample(12_000, 360)]),
            ],
        };
        let line = cell.line("haproxy").unwrap();
        assert_eq!((line.rate, line.cpu_us), (10_000.0, 40.0));
        assert!(cell.text().contains("1.20") && cell.text().contains("0.75"), "{}", cell.text());
        let text = aims(&[cell], &[("sluice", 7000.0)], Some(300.0));
        assert_eq!(text.matches("MISSED").count(), 1, "{text}");
        assert!(text.contains("0.75 of HAProxy's"), "{text}");
        // It is no proxy to be cheaper than.
        assert!(text.contains("0.70 of HAProxy's; Sluice takes 2.0 us per statement above it"), "{text}");
    }
}
