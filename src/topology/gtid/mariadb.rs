//! MariaDB's GTIDs: `domain-server-sequence`, one position a domain.
//!
//! Within a domain sequence numbers rise, so a server that stands at `0-2-42` has everything of domain 0 up to 42, whoever wrote it. That holds as
//! long as histories have not forked; where they may have (a dead master that comes back), [`super::MariaDbState`] is compared instead.

use std::fmt;

use super::{GTID_PARTS_MAX, GtidError};

/// One transaction, or the newest one of its domain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MariaDbGtid {
    /// The replication domain (`gtid_domain_id`).
    pub domain: u32,
    /// The server that wrote it first (`server_id`).
    pub server: u32,
    /// The sequence number within the domain.
    pub sequence: u64,
}

impl fmt::Display for MariaDbGtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server, self.sequence)
    }
}

/// A position: at most one GTID a domain, sorted by domain.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct MariaDbPosition {
    domains: Vec<MariaDbGtid>,
}

impl MariaDbPosition {
    /// Reads `0-1-5,1-1-7`. Where a domain is named more than once (`gtid_binlog_state` names every server), the highest sequence stays.
    ///
    /// # Errors
    /// [`GtidError::Position`] for text that is not a list of triples, [`GtidError::TooManyParts`] beyond the limit.
    pub fn parse(text: &str) -> Result<MariaDbPosition, GtidError> {
        let mut position = MariaDbPosition::default();
        for part in text.split(',') {
            let part = part.trim();
            if part.is_empty() {
                continue;
            }
            if position.domains.len() >= GTID_PARTS_MAX {
                return Err(GtidError::TooManyParts);
            }
            position.add(parse_gtid(part)?);
        }
        Ok(position)
    }

    /// A position that names this transaction (and so all before it in its domain).
    pub fn one(gtid: MariaDbGtid) -> MariaDbPosition {
        MariaDbPosition { domains: vec![gtid] }
    }

    /// Moves the domain of `gtid` forward to it; an older one changes nothing.
    pub fn add(&mut self, gtid: MariaDbGtid) {
        match self.domains.binary_search_by_key(&gtid.domain, |known| known.domain) {
            Ok(at) => {
                if let Some(known) = self.domains.get_mut(at).filter(|known| known.sequence < gtid.sequence) {
                    *known = gtid;
                }
            }
            Err(at) => self.domains.insert(at, gtid),
        }
    }

    /// True when no domain is named.
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    /// The position in one domain.
    pub fn domain(&self, domain: u32) -> Option<MariaDbGtid> {
        let at = self.domains.binary_search_by_key(&domain, |known| known.domain).ok()?;
        self.domains.get(at).copied()
    }

    /// The positions, sorted by domain.
    pub fn domains(&self) -> &[MariaDbGtid] {
        &self.domains
    }

    /// True when every domain of `other` has been reached here.
    pub fn covers(&self, other: &MariaDbPosition) -> bool {
        other.domains.iter().all(|wanted| self.domain(wanted.domain).is_some_and(|have| have.sequence >= wanted.sequence))
    }

    /// Moves every domain to the further of both positions.
    pub fn merge(&mut self, other: &MariaDbPosition) {
        for gtid in &other.domains {
            if self.domains.len() < GTID_PARTS_MAX || self.domain(gtid.domain).is_some() {
                self.add(*gtid);
            }
        }
    }

    /// The sequence numbers that `self` has reached and `other` has not: `0-1-17..21,4-1-1..3`. A single one is written as the GTID it is.
    pub fn missing_from(&self, other: &MariaDbPosition) -> String {
        let mut text = String::new();
        for gtid in &self.domains {
            let reached = other.domain(gtid.domain).map_or(0, |have| have.sequence);
            if reached >= gtid.sequence {
                continue;
            }
            if !text.is_empty() {
                text.push(',');
            }
            let first = reached + 1;
            text.push_str(&format!("{}-{}-{first}", gtid.domain, gtid.server));
            if first < gtid.sequence {
                text.push_str(&format!("..{}", gtid.sequence));
            }
        }
        text
    }

    /// How many sequence numbers `self` has reached and `other` has not (saturating).
    pub fn missing_count(&self, other: &MariaDbPosition) -> u64 {
        self.domains.iter().fold(0, |sum, gtid| {
            sum.saturating_add(gtid.sequence.saturating_sub(other.domain(gtid.domain).map_or(0, |have| have.sequence)))
        })
    }
}

impl fmt::Display for MariaDbPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, gtid) in self.domains.iter().enumerate() {
            if n > 0 {
                f.write_str(",")?;
            }
            gtid.fmt(f)?;
        }
        Ok(())
    }
}

/// Reads one `domain-server-sequence`.
pub(super) fn parse_gtid(text: &str) -> Result<MariaDbGtid, GtidError> {
    let mut parts = text.split('-');
    let (Some(domain), Some(server), Some(sequence), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(GtidError::Position);
    };
    Ok(MariaDbGtid { domain: number(domain)?, server: number(server)?, sequence: number(sequence)? })
}

/// Digits only: `str::parse` alone would take a leading plus sign.
fn number<T: std::str::FromStr>(text: &str) -> Result<T, GtidError> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_err(|_| GtidError::Position)
    } else {
        Err(GtidError::Position)
    }
}
