//! What a MariaDB server has in its binary log, told apart by who wrote it: `gtid_binlog_state`.
//!
//! A position ([`super::MariaDbPosition`]) cannot tell two histories apart that forked at the same sequence number. The state can: it names, for
//! each domain and each server that wrote in it, the newest transaction. Two servers whose histories agree name the same writers; one that has more
//! of a writer than the other has transactions that the other never saw.

use std::fmt;

use super::mariadb::parse_gtid;
use super::{GTID_PARTS_MAX, GtidError, MariaDbGtid, MariaDbPosition};

/// The newest transaction of every (domain, server).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct MariaDbState {
    /// Sorted by domain, then server; one entry each.
    writers: Vec<MariaDbGtid>,
}

impl MariaDbState {
    /// Reads `gtid_binlog_state`: `0-1-105,0-2-103`.
    ///
    /// # Errors
    /// [`GtidError::Position`] for text that is not a list of triples, [`GtidError::TooManyParts`] beyond the limit.
    pub fn parse(text: &str) -> Result<MariaDbState, GtidError> {
        let mut state = MariaDbState::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            if state.writers.len() >= GTID_PARTS_MAX {
                return Err(GtidError::TooManyParts);
            }
            state.add(parse_gtid(part)?);
        }
        Ok(state)
    }

    /// Moves a writer forward; an older transaction changes nothing.
    pub fn add(&mut self, gtid: MariaDbGtid) {
        match self.writers.binary_search_by_key(&(gtid.domain, gtid.server), |known| (known.domain, known.server)) {
            Ok(at) => {
                if let Some(known) = self.writers.get_mut(at).filter(|known| known.sequence < gtid.sequence) {
                    *known = gtid;
                }
            }
            Err(at) => self.writers.insert(at, gtid),
        }
    }

    /// Adds what a position names: a server without `log_slave_updates` has transactions that its binary log has not.
    pub fn add_position(&mut self, position: &MariaDbPosition) {
        for gtid in position.domains() {
            self.add(*gtid);
        }
    }

    /// The newest transaction of each (domain, server).
    pub fn writers(&self) -> &[MariaDbGtid] {
        &self.writers
    }

    /// The newest transaction of a writer in a domain.
    fn newest(&self, domain: u32, server: u32) -> Option<u64> {
        let at = self.writers.binary_search_by_key(&(domain, server), |known| (known.domain, known.server)).ok()?;
        self.writers.get(at).map(|gtid| gtid.sequence)
    }

    /// What `self` has and `other` never saw: `(first, last)` of each writer. A writer that `other` does not know at all is older than its records
    /// when it wrote nothing newer than the oldest thing they name in that domain (a server restored from a backup begins with an empty log).
    fn beyond<'a>(&'a self, other: &'a MariaDbState) -> impl Iterator<Item = (u64, MariaDbGtid)> + 'a {
        self.writers.iter().filter_map(|gtid| {
            let first = match other.newest(gtid.domain, gtid.server) {
                Some(newest) => newest + 1,
                None => {
                    let oldest = other.writers.iter().filter(|w| w.domain == gtid.domain).map(|w| w.sequence).min();
                    if oldest.is_some_and(|oldest| gtid.sequence <= oldest) {
                        return None;
                    }
                    // Its older ones may be known; at least the newest is not.
                    gtid.sequence
                }
            };
            (first <= gtid.sequence).then_some((first, *gtid))
        })
    }

    /// What `self` has and `other` never saw, as `0-1-101..105`; empty when nothing. `but_of` leaves out what that server wrote.
    pub fn missing_from(&self, other: &MariaDbState, but_of: Option<u32>) -> String {
        let one = |(first, gtid): (u64, MariaDbGtid)| {
            if first == gtid.sequence {
                gtid.to_string()
            } else {
                format!("{}-{}-{first}..{}", gtid.domain, gtid.server, gtid.sequence)
            }
        };
        let parts: Vec<String> = self.beyond(other).filter(|(_, gtid)| Some(gtid.server) != but_of).map(one).collect();
        parts.join(",")
    }
}

impl fmt::Display for MariaDbState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, gtid) in self.writers.iter().enumerate() {
            if n > 0 {
                f.write_str(",")?;
            }
            gtid.fmt(f)?;
        }
        Ok(())
    }
}
