//! MySQL's GTIDs: `uuid[:tag]:interval[:interval…]`, exact sets.
//!
//! Kept as a sorted list of origins, each with sorted, disjoint, never touching intervals, so that equal sets are equal values and the question
//! "is this one GTID in?" is two binary searches.

use std::cmp::Ordering;
use std::fmt;

use super::{GTID_PARTS_MAX, GtidError};

/// The highest transaction number, exclusive bound: the manual gives 2^63 - 1 as the limit that is never assigned.
const NUMBER_MAX: u64 = i64::MAX as u64;
/// The longest tag, in characters (manual: "up to 32 characters").
const TAG_LENGTH_MAX: usize = 32;

/// A tag of 8.3 and later; empty for the plain GTIDs of before. Lower case always.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Tag(Box<str>);

impl Tag {
    /// Reads a tag: a letter or underscore, then letters, digits, underscores; case does not matter.
    ///
    /// # Errors
    /// [`GtidError::Tag`] for anything else.
    pub fn parse(text: &str) -> Result<Tag, GtidError> {
        let lower = text.to_ascii_lowercase();
        let mut bytes = lower.bytes();
        let first = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
        if first
            && lower.len() <= TAG_LENGTH_MAX
            && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        {
            Ok(Tag(lower.into_boxed_str()))
        } else {
            Err(GtidError::Tag)
        }
    }

    /// Its text, empty for no tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Who numbered the transactions: a server's UUID and a tag.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Origin {
    /// `server_uuid` of the server that committed first.
    pub uuid: [u8; 16],
    /// The tag, empty for none.
    pub tag: Tag,
}

/// Transaction numbers `first..=last`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interval {
    /// The lowest number, at least 1.
    pub first: u64,
    /// The highest number, included.
    pub last: u64,
}

/// A set of transactions.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct MySqlSet {
    /// Sorted by origin; no list of intervals is empty.
    origins: Vec<(Origin, Vec<Interval>)>,
}

impl MySqlSet {
    /// Reads a set as `gtid_executed` or an OK packet writes it. Order, overlaps and line ends do not matter.
    ///
    /// # Errors
    /// [`GtidError`] for text that is no set, and for one with more than [`GTID_PARTS_MAX`] intervals.
    pub fn parse(text: &str) -> Result<MySqlSet, GtidError> {
        let mut raw: Vec<(Origin, Vec<Interval>)> = Vec::new();
        let mut parts = 0;
        for member in text.split(',') {
            let member = member.trim();
            if member.is_empty() {
                continue;
            }
            let mut fields = member.split(':').map(str::trim);
            let uuid = parse_uuid(fields.next().unwrap_or_default())?;
            let mut origin = Origin { uuid, tag: Tag::default() };
            let mut intervals = Vec::new();
            for field in fields {
                if field.as_bytes().first().is_some_and(u8::is_ascii_digit) {
                    parts += 1;
                    if parts > GTID_PARTS_MAX {
                        return Err(GtidError::TooManyParts);
                    }
                    intervals.push(parse_interval(field)?);
                } else {
                    let tagged = Origin { uuid, tag: Tag::parse(field)? };
                    let finished = std::mem::replace(&mut origin, tagged);
                    raw.push((finished, std::mem::take(&mut intervals)));
                }
            }
            raw.push((origin, intervals));
        }
        raw.retain(|(_, intervals)| !intervals.is_empty());
        raw.sort_by(|a, b| a.0.cmp(&b.0));
        let mut set = MySqlSet::default();
        for (origin, intervals) in raw {
            match set.origins.last_mut() {
                Some((last, known)) if *last == origin => known.extend(intervals),
                _ => set.origins.push((origin, intervals)),
            }
        }
        for (_, intervals) in &mut set.origins {
            normalise(intervals);
        }
        Ok(set)
    }

    /// The set of one transaction.
    pub fn one(origin: Origin, number: u64) -> MySqlSet {
        MySqlSet { origins: vec![(origin, vec![Interval { first: number, last: number }])] }
    }

    /// True when it names no transaction.
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    /// How many transactions it names (saturating).
    pub fn count(&self) -> u64 {
        self.origins
            .iter()
            .flat_map(|(_, intervals)| intervals)
            .fold(0, |sum, interval| sum.saturating_add(interval.last - interval.first + 1))
    }

    /// The intervals of one origin, sorted and disjoint.
    pub fn intervals(&self, origin: &Origin) -> &[Interval] {
        self.origins
            .binary_search_by(|(known, _)| known.cmp(origin))
            .ok()
            .and_then(|at| self.origins.get(at))
            .map_or(&[], |(_, intervals)| intervals.as_slice())
    }

    /// Every origin with its intervals.
    pub fn origins(&self) -> impl Iterator<Item = (&Origin, &[Interval])> {
        self.origins.iter().map(|(origin, intervals)| (origin, intervals.as_slice()))
    }

    /// True when all of `other` is in.
    pub fn contains(&self, other: &MySqlSet) -> bool {
        other.origins.iter().all(|(origin, wanted)| {
            let have = self.intervals(origin);
            wanted.iter().all(|interval| holds(have, *interval))
        })
    }

    /// Adds all of `other`. Beyond [`GTID_PARTS_MAX`] intervals of one origin the addition is dropped: the set then says less than is true, which is
    /// the safe side for everyone who asks it.
    pub fn merge(&mut self, other: &MySqlSet) {
        for (origin, added) in &other.origins {
            match self.origins.binary_search_by(|(known, _)| known.cmp(origin)) {
                Ok(at) => {
                    let Some((_, intervals)) = self.origins.get_mut(at) else { continue };
                    // The common case: one more transaction behind the last one.
                    if let ([one], Some(last)) = (added.as_slice(), intervals.last_mut())
                        && one.first >= last.first
                        && one.first <= last.last + 1
                    {
                        last.last = last.last.max(one.last);
                    } else if intervals.len() + added.len() <= GTID_PARTS_MAX {
                        intervals.extend_from_slice(added);
                        normalise(intervals);
                    }
                }
                Err(at) => {
                    if self.origins.len() < GTID_PARTS_MAX {
                        self.origins.insert(at, (origin.clone(), added.clone()));
                    }
                }
            }
        }
    }

    /// What is in `self` and not in `other`.
    pub fn subtract(&self, other: &MySqlSet) -> MySqlSet {
        let mut left = MySqlSet::default();
        for (origin, intervals) in &self.origins {
            let rest = subtract_intervals(intervals, other.intervals(origin));
            if !rest.is_empty() {
                left.origins.push((origin.clone(), rest));
            }
        }
        left
    }

    /// What is left without the transactions that this server numbered.
    pub fn without(&self, uuid: &[u8; 16]) -> MySqlSet {
        MySqlSet { origins: self.origins.iter().filter(|(origin, _)| origin.uuid != *uuid).cloned().collect() }
    }

    /// Both sets together.
    #[cfg(test)]
    pub fn union(&self, other: &MySqlSet) -> MySqlSet {
        let mut both = self.clone();
        both.merge(other);
        both
    }
}

impl fmt::Display for MySqlSet {
    /// As the server writes it: `uuid:1-5:8:tag:1-3`, a UUID's tags behind its plain intervals, members joined by commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut previous: Option<&[u8; 16]> = None;
        for (origin, intervals) in &self.origins {
            if previous != Some(&origin.uuid) {
                if previous.is_some() {
                    f.write_str(",")?;
                }
                write_uuid(f, &origin.uuid)?;
            }
            if !origin.tag.as_str().is_empty() {
                write!(f, ":{}", origin.tag.as_str())?;
            }
            for interval in intervals {
                if interval.first == interval.last {
                    write!(f, ":{}", interval.first)?;
                } else {
                    write!(f, ":{}-{}", interval.first, interval.last)?;
                }
            }
            previous = Some(&origin.uuid);
        }
        Ok(())
    }
}

/// Is `wanted` inside one of the sorted, disjoint, non-touching intervals?
fn holds(intervals: &[Interval], wanted: Interval) -> bool {
    intervals
        .binary_search_by(|interval| {
            if interval.last < wanted.first {
                Ordering::Less
            } else if interval.first > wanted.first {
                Ordering::Greater
            } else {
                Ordering::Equal
            }
        })
        .ok()
        .and_then(|at| intervals.get(at))
        .is_some_and(|interval| interval.last >= wanted.last)
}

/// Sorts, and joins what overlaps or touches.
fn normalise(intervals: &mut Vec<Interval>) {
    intervals.sort_unstable_by_key(|interval| interval.first);
    let mut joined: Vec<Interval> = Vec::with_capacity(intervals.len());
    for interval in intervals.drain(..) {
        match joined.last_mut() {
            Some(last) if interval.first <= last.last + 1 => last.last = last.last.max(interval.last),
            _ => joined.push(interval),
        }
    }
    *intervals = joined;
}

/// Both lists sorted and disjoint; so is the result.
fn subtract_intervals(from: &[Interval], taken: &[Interval]) -> Vec<Interval> {
    let mut rest = Vec::new();
    let mut taken = taken.iter().peekable();
    for interval in from {
        let mut first = interval.first;
        while let Some(hole) = taken.peek() {
            if hole.first > interval.last {
                break;
            }
            if hole.first > first {
                rest.push(Interval { first, last: hole.first - 1 });
            }
            first = first.max(hole.last + 1);
            if hole.last > interval.last {
                break; // it may reach into the next interval too
            }
            taken.next();
        }
        if first <= interval.last {
            rest.push(Interval { first, last: interval.last });
        }
    }
    rest
}

/// `n` or `n-m`, blanks around the numbers allowed.
fn parse_interval(text: &str) -> Result<Interval, GtidError> {
    let number = |digits: &str| -> Result<u64, GtidError> {
        let digits = digits.trim();
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(GtidError::Interval);
        }
        digits.parse::<u64>().ok().filter(|n| (1..NUMBER_MAX).contains(n)).ok_or(GtidError::Interval)
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    if first <= last { Ok(Interval { first, last }) } else { Err(GtidError::Interval) }
}

/// 32 hexadecimal digits, dashes anywhere between bytes as the server accepts them (8-4-4-4-12 or none).
pub(crate) fn parse_uuid(text: &str) -> Result<[u8; 16], GtidError> {
    let mut uuid = [0; 16];
    let mut digits = text.bytes().filter(|byte| *byte != b'-');
    for byte in &mut uuid {
        let high = digits.next().and_then(hex).ok_or(GtidError::Uuid)?;
        let low = digits.next().and_then(hex).ok_or(GtidError::Uuid)?;
        *byte = high << 4 | low;
    }
    // With dashes it has to be the canonical form; a tag or a number may not slip in as part of a UUID.
    let shape = text.len() == 32 || (text.len() == 36 && [8, 13, 18, 23].iter().all(|at| text.as_bytes().get(*at) == Some(&b'-')));
    if digits.next().is_none() && shape { Ok(uuid) } else { Err(GtidError::Uuid) }
}

/// The value of a hexadecimal digit.
fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The canonical lower-case form.
fn write_uuid(f: &mut fmt::Formatter<'_>, uuid: &[u8; 16]) -> fmt::Result {
    for (n, byte) in uuid.iter().enumerate() {
        if matches!(n, 4 | 6 | 8 | 10) {
            f.write_str("-")?;
        }
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}
