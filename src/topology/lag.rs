//! Lag in milliseconds, from heartbeats alone.
//!
//! Sluice writes beat *k* on the master and notes by its own clock when the write was acknowledged, T(k). A server that shows beat *j* lacks what the
//! master had at T(j+1), so when it showed it, it was behind by at least the time since then. No clock of a server takes part, and neither does
//! `Seconds_Behind_Source`, which is NULL or zero at the wrong moments.
//!
//! When beats stop (the master died, or a write blocks), nothing newer is known that a server could lack: lag then stands still instead of growing,
//! so a survivor is not called late for not hearing from the dead (proxysql#3897).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The beats remembered: 17 minutes at four a second. A server further behind is reported as behind by that much.
pub const BEATS_MAX: usize = 4096;

/// What stands in the heartbeat row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Beat {
    /// A number drawn when this Sluice process started; beats of other runs are foreign.
    pub run: u64,
    /// The beat's number, rising by one, never reused within a run.
    pub number: u64,
}

impl Beat {
    /// No row of ours yet.
    pub const NONE: Beat = Beat { run: 0, number: 0 };
}

/// The beats this process has written.
#[derive(Clone, Debug)]
pub struct Beats {
    run: u64,
    interval: Duration,
    first: Option<Instant>,
    written: VecDeque<(u64, Instant)>,
}

impl Beats {
    /// No beats yet. `run` is not 0; `interval` is the time between two.
    pub fn new(run: u64, interval: Duration) -> Beats {
        Beats { run, interval, first: None, written: VecDeque::new() }
    }

    /// From now on one is written that often.
    pub fn interval_is(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// The run whose beats these are.
    pub fn run(&self) -> u64 {
        self.run
    }

    /// Beat `number` was acknowledged at `at`. Numbers may be skipped (an attempt that failed); one that does not rise is ignored.
    pub fn record(&mut self, number: u64, at: Instant) {
        if self.written.back().is_some_and(|(newest, _)| *newest >= number) {
            return;
        }
        if self.written.len() == BEATS_MAX {
            self.written.pop_front();
        }
        self.first.get_or_insert(at);
        self.written.push_back((number, at));
    }

    /// True while beats are being written: the newest is younger than three intervals and a second.
    pub fn live(&self, now: Instant) -> bool {
        self.written.back().is_some_and(|(_, at)| now.saturating_duration_since(*at) <= self.interval * 3 + Duration::from_secs(1))
    }

    /// Moves all beats forward by a stall of our own, during which none could be written.
    pub fn forgive(&mut self, stall: Duration) {
        for (_, at) in &mut self.written {
            *at += stall;
        }
        if let Some(first) = &mut self.first {
            *first += stall;
        }
    }

    /// How far behind a server was that showed `seen` when asked at `asked_at`. `None` when no beat has been written, or the row was not read.
    pub fn lag(&self, seen: Option<Beat>, asked_at: Instant) -> Option<Duration> {
        let seen = seen?;
        let (newest, newest_at) = *self.written.back()?;
        // Someone else's beat, or none: it lacks even our first. (Right after a start: whatever it shows was written before us.)
        let missing_since = if seen.run != self.run {
            self.first?
        } else if seen.number >= newest {
            return Some(Duration::ZERO);
        } else {
            let at = self.written.partition_point(|(number, _)| *number <= seen.number);
            self.written.get(at)?.1
        };
        let until = asked_at.min(newest_at + self.interval);
        Some(until.saturating_duration_since(missing_since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: u64 = 77;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Beats 1 to `count`, one every 100 ms, the first at `start`.
    fn beats(start: Instant, count: u64) -> Beats {
        let mut beats = Beats::new(RUN, ms(100));
        for k in 1..=count {
            beats.record(k, start + ms(100) * (k as u32 - 1));
        }
        beats
    }

    #[test]
    fn lag_is_the_time_since_the_first_beat_that_is_missing() {
        let t = Instant::now();
        let ten = beats(t, 10); // the newest at +900
        for (shown, asked, lag) in [
            (10, 950, 0),
            (11, 950, 0), // the acknowledgement of beat 11 is still on its way to us
            (9, 900, 0),
            (9, 950, 50),
            (5, 950, 450), // beat 6 was written at +500
            (1, 950, 850),
            (0, 950, 950),
            (5, 10_000, 500), // beats have stopped at +900: lag stands still one interval later
            (10, 10_000, 0),
        ] {
            let seen = Some(Beat { run: RUN, number: shown });
            assert_eq!(ten.lag(seen, t + ms(asked)), Some(ms(lag)), "beat {shown} shown at +{asked}");
        }
    }

    #[test]
    fn beats_of_another_run_mean_that_ours_have_not_arrived() {
        let t = Instant::now();
        let three = beats(t, 3);
        assert_eq!(three.lag(Some(Beat { run: 5, number: 9_000 }), t + ms(250)), Some(ms(250)));
        assert_eq!(three.lag(Some(Beat::NONE), t + ms(250)), Some(ms(250)));
    }

    #[test]
    fn nothing_is_known_before_the_first_beat_and_without_the_row() {
        let t = Instant::now();
        assert_eq!(beats(t, 0).lag(Some(Beat::NONE), t), None);
        assert_eq!(beats(t, 3).lag(None, t), None);
        assert!(!beats(t, 0).live(t));
        assert!(beats(t, 1).live(t + ms(1300)));
        assert!(!beats(t, 1).live(t + ms(1301)));
    }

    #[test]
    fn attempts_that_failed_leave_gaps_and_old_numbers_are_ignored() {
        let t = Instant::now();
        let mut gaps = beats(t, 2);
        gaps.record(5, t + ms(400));
        gaps.record(4, t + ms(500));
        assert_eq!(gaps.lag(Some(Beat { run: RUN, number: 3 }), t + ms(450)), Some(ms(50)));
        assert_eq!(gaps.lag(Some(Beat { run: RUN, number: 5 }), t + ms(450)), Some(ms(0)));
    }

    #[test]
    fn the_ring_is_bounded_and_older_servers_are_behind_by_at_least_its_length() {
        let t = Instant::now();
        let many = beats(t, BEATS_MAX as u64 + 100);
        let asked = t + ms(100) * (BEATS_MAX as u32 + 99);
        assert_eq!(many.written.len(), BEATS_MAX);
        assert_eq!(many.lag(Some(Beat { run: RUN, number: 3 }), asked), Some(ms(100) * (BEATS_MAX as u32 - 1)));
    }
}
