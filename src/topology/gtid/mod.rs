//! Sets of global transaction identifiers, in the two languages servers speak.
//!
//! MySQL writes `uuid:1-5:7,uuid:tag:1-3` and means an exact set of transactions. MariaDB writes one position a replication domain, `0-1-42,7-2-9`,
//! and means everything up to that sequence number in that domain. The rest of the house asks one question of both, [`GtidSet::covers`]:
//! has this server everything that one names?
//!
//! Sources: MySQL manual "GTID Format and Storage" (tags since 8.3); MariaDB knowledge base "Global Transaction ID".

mod mariadb;
mod mariadb_state;
mod mysql;
#[cfg(test)]
mod tests;

use std::fmt;

pub use mariadb::{MariaDbGtid, MariaDbPosition};
pub use mariadb_state::MariaDbState;
pub(crate) use mysql::parse_uuid;
pub use mysql::{Interval, MySqlSet, Origin, Tag};

use super::Flavor;

/// The longest text [`GtidSet::parse`] reads, in bytes. A set of a thousand origins with ten gaps each is about 200 KB.
pub const GTID_TEXT_BYTES_MAX: usize = 1 << 20;
/// The most intervals (MySQL) or domains (MariaDB) a set may hold; a larger one is refused rather than compared slowly on every statement.
pub const GTID_PARTS_MAX: usize = 65_536;

/// Why a text is not a set of GTIDs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GtidError {
    /// More than [`GTID_TEXT_BYTES_MAX`] bytes.
    #[error("the text is longer than {GTID_TEXT_BYTES_MAX} bytes")]
    TooLong,
    /// More than [`GTID_PARTS_MAX`] intervals or domains.
    #[error("the set has more than {GTID_PARTS_MAX} parts")]
    TooManyParts,
    /// Not a UUID where one has to stand.
    #[error("not a UUID")]
    Uuid,
    /// A tag that is empty, longer than 32 characters, or has other characters than `a-z 0-9 _`.
    #[error("not a tag")]
    Tag,
    /// An interval that is not `n` or `n-m` with 1 <= n <= m < 2^63 - 1.
    #[error("not an interval")]
    Interval,
    /// A MariaDB position that is not `domain-server-sequence`.
    #[error("not a domain-server-sequence triple")]
    Position,
}

/// What a server has applied, or what one transaction is called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GtidSet {
    /// An exact set.
    MySql(MySqlSet),
    /// One position a domain; everything before it is included.
    MariaDb(MariaDbPosition),
}

impl GtidSet {
    /// Reads what a server of this flavour writes. Empty text is the empty set; blanks and line ends between parts are skipped.
    ///
    /// # Errors
    /// [`GtidError`] for anything else, including sets beyond the limits of this module.
    pub fn parse(flavor: Flavor, text: &str) -> Result<GtidSet, GtidError> {
        if text.len() > GTID_TEXT_BYTES_MAX {
            return Err(GtidError::TooLong);
        }
        match flavor {
            Flavor::MySql => MySqlSet::parse(text).map(GtidSet::MySql),
            Flavor::MariaDb => MariaDbPosition::parse(text).map(GtidSet::MariaDb),
        }
    }

    /// The empty set of a flavour.
    pub fn empty(flavor: Flavor) -> GtidSet {
        match flavor {
            Flavor::MySql => GtidSet::MySql(MySqlSet::default()),
            Flavor::MariaDb => GtidSet::MariaDb(MariaDbPosition::default()),
        }
    }

    /// Whose language this is.
    pub fn flavor(&self) -> Flavor {
        match self {
            GtidSet::MySql(_) => Flavor::MySql,
            GtidSet::MariaDb(_) => Flavor::MariaDb,
        }
    }

    /// True when it names no transaction.
    pub fn is_empty(&self) -> bool {
        match self {
            GtidSet::MySql(set) => set.is_empty(),
            GtidSet::MariaDb(position) => position.is_empty(),
        }
    }

    /// How many intervals (MySQL) or domains (MariaDB) it has: what it costs to keep and compare.
    pub fn parts(&self) -> usize {
        match self {
            GtidSet::MySql(set) => set.origins().map(|(_, intervals)| intervals.len()).sum(),
            GtidSet::MariaDb(position) => position.domains().len(),
        }
    }

    /// True when everything `other` names is in `self`. The usual call has one GTID in `other` (a session's last write) and costs a binary search,
    /// no allocation. Sets of different flavours never cover each other, unless `other` is empty.
    pub fn covers(&self, other: &GtidSet) -> bool {
        match (self, other) {
            (GtidSet::MySql(a), GtidSet::MySql(b)) => a.contains(b),
            (GtidSet::MariaDb(a), GtidSet::MariaDb(b)) => a.covers(b),
            _ => other.is_empty(),
        }
    }

    /// Adds what `other` names. A set of the other flavour is ignored, unless `self` is empty: then `self` becomes it.
    pub fn merge(&mut self, other: &GtidSet) {
        match (&mut *self, other) {
            (GtidSet::MySql(a), GtidSet::MySql(b)) => a.merge(b),
            (GtidSet::MariaDb(a), GtidSet::MariaDb(b)) => a.merge(b),
            (mine, _) => {
                if mine.is_empty() {
                    *mine = other.clone();
                }
            }
        }
    }

    /// What `self` has and `other` lacks, as text for an operator: for MySQL the exact set, for MariaDB one range of sequence numbers a domain
    /// (`0-1-17..21`, the server id being that of the newest). Empty when nothing is missing.
    pub fn missing_from(&self, other: &GtidSet) -> String {
        match (self, other) {
            (GtidSet::MySql(a), GtidSet::MySql(b)) => a.subtract(b).to_string(),
            (GtidSet::MariaDb(a), GtidSet::MariaDb(b)) => a.missing_from(b),
            _ => self.to_string(),
        }
    }

    /// How many transactions `self` has and `other` lacks (saturating). For MariaDB sequence numbers are counted: an upper bound, as they may have gaps.
    pub fn missing_count(&self, other: &GtidSet) -> u64 {
        match (self, other) {
            (GtidSet::MySql(a), GtidSet::MySql(b)) => a.subtract(b).count(),
            (GtidSet::MariaDb(a), GtidSet::MariaDb(b)) => a.missing_count(b),
            (GtidSet::MySql(a), _) => a.count(),
            (GtidSet::MariaDb(a), _) => a.missing_count(&MariaDbPosition::default()),
        }
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GtidSet::MySql(set) => set.fmt(f),
            GtidSet::MariaDb(position) => position.fmt(f),
        }
    }
}
