//! Hints to Sluice in comments: `/* sluice: master */`, `/* sluice: replica */`, `/* sluice: server=db3 */`, `/* sluice: cache=30s */`,
//! `/* sluice: nocache */`, several separated by commas. A hint is no part of the digest: it changes where a statement goes, not what it is.

use std::time::Duration;

/// Longest comment looked at, bytes. A hint is a few words.
pub const MAX_HINT_BYTES: usize = 256;

/// Longest time to live a hint may ask for; the cache's own `ttl` bounds it further.
const MAX_TTL: Duration = Duration::from_secs(365 * 24 * 3600);

/// Where a hint wants the statement to go.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum HintTarget {
    /// The current master.
    Master,
    /// Any replica.
    Replica,
    /// The server of this name in the configuration.
    Server(String),
}

/// What a hint says about the cache.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CacheHint {
    /// Answer from the cache, keep the answer this long.
    Ttl(Duration),
    /// Neither answer from the cache nor store.
    No,
}

/// What the hints of one statement say together; a later one overrides an earlier one of its kind.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Hint {
    /// Where to.
    pub target: Option<HintTarget>,
    /// Cached or not.
    pub cache: Option<CacheHint>,
    /// The first word that was not understood. It is ignored; `EXPLAIN ROUTE` tells.
    pub malformed: Option<String>,
}

impl Hint {
    /// Reads a whole `/* .. */` comment into `hint`. Returns whether the comment was addressed to Sluice.
    pub fn read_comment(comment: &[u8], hint: &mut Option<Hint>) -> bool {
        let Some(inner) = comment.strip_prefix(b"/*").and_then(|rest| rest.strip_suffix(b"*/")) else { return false };
        let inner = inner.trim_ascii();
        let addressed = inner.get(..7).is_some_and(|word| word.eq_ignore_ascii_case(b"sluice:"));
        if !addressed {
            return false;
        }
        let hint = hint.get_or_insert_with(Hint::default);
        let body = inner.get(7..).unwrap_or_default();
        match std::str::from_utf8(body) {
            Ok(text) if comment.len() <= MAX_HINT_BYTES => hint.read_words(text),
            _ => hint.reject("a hint that is too long or not UTF-8"),
        }
        true
    }

    fn read_words(&mut self, text: &str) {
        for word in text.split(',').map(str::trim) {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim())),
                None => (word, None),
            };
            match (name.to_ascii_lowercase().as_str(), value) {
                ("master", None) => self.target = Some(HintTarget::Master),
                ("replica", None) => self.target = Some(HintTarget::Replica),
                ("server", Some(name)) if is_server_name(name) => self.target = Some(HintTarget::Server(name.to_owned())),
                ("nocache", None) => self.cache = Some(CacheHint::No),
                ("cache", Some(value)) => match parse_duration(value) {
                    Some(ttl) => self.cache = Some(CacheHint::Ttl(ttl)),
                    None => self.reject(word),
                },
                _ => self.reject(word),
            }
        }
    }

    fn reject(&mut self, word: &str) {
        self.malformed.get_or_insert_with(|| word.to_owned());
    }
}

fn is_server_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// `250ms`, `30s`, `5m`, `1h`, as in the configuration file. Zero, negative and absurd values are refused.
fn parse_duration(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(split)?;
    let number: u64 = number.parse().ok()?;
    let unit_ms = match unit.trim().to_ascii_lowercase().as_str() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let duration = Duration::from_millis(number.checked_mul(unit_ms)?);
    (!duration.is_zero() && duration <= MAX_TTL).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(comment: &str) -> Option<Hint> {
        let mut found = None;
        Hint::read_comment(comment.as_bytes(), &mut found);
        found
    }

    #[test]
    fn what_hints_say() {
        let target = |target| Some(Hint { target: Some(target), ..Hint::default() });
        let ttl = |ms| Some(Hint { cache: Some(CacheHint::Ttl(Duration::from_millis(ms))), ..Hint::default() });
        let bad = |word: &str| Some(Hint { malformed: Some(word.to_owned()), ..Hint::default() });
        let table = [
            ("/* sluice: master */", target(HintTarget::Master)),
            ("/*sluice:master*/", target(HintTarget::Master)),
            ("/* SLUICE: Replica */", target(HintTarget::Replica)),
            ("/* sluice: server=db3 */", target(HintTarget::Server("db3".to_owned()))),
            ("/* sluice: server = db-3.eu */", target(HintTarget::Server("db-3.eu".to_owned()))),
            ("/* sluice: cache=30s */", ttl(30_000)),
            ("/* sluice: cache=250ms */", ttl(250)),
            ("/* sluice: cache=5m */", ttl(300_000)),
            ("/* sluice: nocache */", Some(Hint { cache: Some(CacheHint::No), ..Hint::default() })),
            (
                "/* sluice: replica, cache=1h */",
                Some(Hint {
                    target: Some(HintTarget::Replica),
                    cache: Some(CacheHint::Ttl(Duration::from_secs(3600))),
                    malformed: None,
                }),
            ),
            ("/* sluice: slave */", bad("slave")),
            ("/* sluice: cache */", bad("cache")),
            ("/* sluice: cache=0s */", bad("cache=0s")),
            ("/* sluice: cache=99999999999999999999s */", bad("cache=99999999999999999999s")),
            ("/* sluice: server= */", bad("server=")),
            ("/* sluice: */", bad("")),
            ("/* sluices: master */", None),
            ("/* master */", None),
            ("/**/", None),
        ];
        for (comment, expected) in table {
            assert_eq!(hint(comment), expected, "{comment}");
        }
    }

    #[test]
    fn a_long_hint_is_refused() {
        let long = format!("/* sluice: master{} */", " ".repeat(MAX_HINT_BYTES));
        assert!(hint(&long).is_some_and(|hint| hint.target.is_none() && hint.malformed.is_some()));
    }
}
