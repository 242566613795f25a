//! Durations and sizes as people write them: `"250ms"`, `"5m"`, `"256MiB"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// A duration in the configuration: a whole number and one of `ms`, `s`, `m`, `h`, `d`. `"1h"`, never `3600`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Period(pub Duration);

/// A size in the configuration: a whole number and one of `B`, `KiB`, `MiB`, `GiB` (powers of 1024).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(pub u64);

const PERIOD_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Period {
    /// So many milliseconds.
    pub const fn from_millis(ms: u64) -> Period {
        Period(Duration::from_millis(ms))
    }

    /// So many seconds.
    pub const fn from_secs(s: u64) -> Period {
        Period(Duration::from_secs(s))
    }

    /// The duration itself.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl Size {
    /// So many times 1024 times 1024 bytes.
    pub const fn from_mib(mib: u64) -> Size {
        Size(mib << 20)
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// Number and unit, or what is wrong with them in words that follow the quoted text.
fn scan(text: &str, units: &[(&str, u64)], example: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = trimmed.split_at(digits);
    let unit = unit.trim();
    let names: Vec<&str> = units.iter().rev().map(|(name, _)| *name).collect();
    if number.is_empty() {
        return Err(format!("does not begin with a whole number; write it like {example}"));
    }
    if unit.is_empty() {
        return Err(format!("has no unit; add one of {}", names.join(", ")));
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        let meant = match unit {
            "sec" | "secs" | "second" | "seconds" => Some("s"),
            "min" | "mins" | "minute" | "minutes" => Some("m"),
            "hour" | "hours" => Some("h"),
            "day" | "days" => Some("d"),
            "k" | "K" | "kB" | "KB" | "kb" | "kib" => Some("KiB"),
            "M" | "MB" | "mb" | "mib" => Some("MiB"),
            "g" | "G" | "GB" | "gb" | "gib" => Some("GiB"),
            "b" => Some("B"),
            _ => None,
        };
        return Err(match meant.filter(|m| names.contains(m)) {
            Some(meant) => format!("has the unknown unit `{unit}`; write \"{number}{meant}\""),
            None if unit.starts_with('.') || unit.starts_with(',') => {
                format!("is not a whole number; use a smaller unit, like {example}")
            }
            None => format!("has the unknown unit `{unit}`; the units are {}", names.join(", ")),
        });
    };
    number.parse::<u64>().ok().and_then(|n| n.checked_mul(*factor)).ok_or_else(|| "is too large".to_owned())
}

fn show(value: u64, units: &[(&str, u64)], smallest: &str) -> String {
    // Days are left out on purpose: "24h" reads as well as "1d" and "36h" better than "1d" and a half.
    for (name, factor) in units.iter().filter(|(name, _)| *name != "d") {
        if value >= *factor && value.is_multiple_of(*factor) {
            return format!("{}{name}", value / factor);
        }
    }
    format!("{value}{smallest}")
}

impl FromStr for Period {
    type Err = String;
    fn from_str(text: &str) -> Result<Period, String> {
        scan(text, &PERIOD_UNITS, "\"250ms\" or \"30s\"").map(Period::from_millis)
    }
}

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Size, String> {
        scan(text, &SIZE_UNITS, "\"256MiB\"").map(Size)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        f.write_str(&if ms == 0 { "0s".to_owned() } else { show(ms, &PERIOD_UNITS, "ms") })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show(self.0, &SIZE_UNITS, "B"))
    }
}

impl fmt::Debug for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_as_people_write_them() {
        for (text, ms) in [("250ms", 250), ("1s", 1000), ("90s", 90_000), ("5m", 300_000), ("1h", 3_600_000), ("2d", 172_800_000)] {
            assert_eq!(text.parse::<Period>(), Ok(Period::from_millis(ms)));
        }
        for (text, shown) in [("250ms", "250ms"), ("90s", "90s"), ("60s", "1m"), ("0s", "0s"), ("2d", "48h"), ("1500ms", "1500ms")]
        {
            assert_eq!(text.parse::<Period>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn wrong_units_are_named() {
        for (text, said) in [
            ("5 minutes", "has the unknown unit `minutes`; write \"5m\""),
            ("30", "has no unit; add one of ms, s, m, h, d"),
            ("soon", "does not begin with a whole number; write it like \"250ms\" or \"30s\""),
            ("1.5s", "is not a whole number; use a smaller unit, like \"250ms\" or \"30s\""),
            ("5MB", "has the unknown unit `MB`; the units are ms, s, m, h, d"),
            ("99999999999999999d", "is too large"),
        ] {
            assert_eq!(text.parse::<Period>(), Err(said.to_owned()), "{text}");
        }
        for (text, said) in
            [("256MB", "has the unknown unit `MB`; write \"256MiB\""), ("1", "has no unit; add one of B, KiB, MiB, GiB")]
        {
            assert_eq!(text.parse::<Size>(), Err(said.to_owned()), "{text}");
        }
        assert_eq!("256MiB".parse::<Size>().unwrap().bytes(), 256 << 20);
        assert_eq!(Size(1536).to_string(), "1536B");
    }
}
