//! The only place that reads the time. The rooms above the line are given it as an argument.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// The monotonic clock: for durations and deadlines.
    pub fn now() -> Instant {
        #[allow(clippy::disallowed_methods)]
        Instant::now()
    }

    /// The wall clock: for people and logs, never for durations.
    pub fn wall() -> SystemTime {
        #[allow(clippy::disallowed_methods)]
        SystemTime::now()
    }

    /// The wall clock in microseconds since 1970 (UTC); 0 if it stands before.
    pub fn wall_us() -> u64 {
        Clock::wall().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX))
    }
}

/// `2026-11-22 21:04:05.123` in UTC, as MySQL writes a `DATETIME(3)`. Times before 1970 show as 1970.
pub fn utc(at: SystemTime) -> String {
    let ms = at.duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
    let (days, ms) = (ms / 86_400_000, ms % 86_400_000);
    // Civil date from days: era of 400 years beginning on 1 March of year 0.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (h, m, s) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02}.{:03}", ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates() {
        for (secs, shown) in [
            (0, "1970-01-01 00:00:00.000"),
            (951_782_400, "2000-02-29 00:00:00.000"),
            (1_795_381_445, "2026-11-22 21:04:05.000"),
            (4_102_444_799, "2099-12-31 23:59:59.000"),
        ] {
            assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(secs)), shown);
        }
        assert_eq!(utc(UNIX_EPOCH + Duration::from_millis(1_007)), "1970-01-01 00:00:01.007");
    }
}
