//! Results that several proxies keep in one place, and when one's result is good for another.
//!
//! The place is not trusted with anything but bytes: what was put there may be gone, old, cut, from another cluster, or nonsense. So an
//! entry carries all that its reader needs to judge it by what he knows himself:
//!
//! * whose history it is of: the master's identity, and the time on *that master's* clock when it was last known to be true;
//! * a position: with every transaction up to there, the result is what its tables hold;
//! * the whole key, since its name is only a hash of it, and a checksum over all.
//!
//! A proxy that follows the same master's log knows of every change since it began. An entry is good for it when its position has every
//! change of the tables that the proxy has heard of (its own clients' writes, the log, and all there was when it began), and when it was true
//! after the proxy last learned that the history may be another. From then on it is like a result the proxy has read
//! itself at the time of its ticket.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::RwLock;

use super::epoch::{Need, Ticket};
use super::key::Reader;
use super::store::Entry;
use crate::auth::sha256;
use crate::protocol::ok_err_eof::Status;
use crate::session::state::put;
use crate::sql::classify::Classified;
use crate::topology::{Flavor, GtidSet};

/// The layout of an entry, and of what is in it. To be raised with any change of either.
pub const VERSION: u8 = 1;
/// Before an entry: a mark and the version.
const MARK: [u8; 4] = [b's', b'l', b'u', VERSION];
const SUM_LEN: usize = 32;
/// Entries that are true up to a longer position are not put there.
const POSITION_PARTS_MAX: usize = 256;
/// Accounts that are remembered; beyond it all are forgotten.
const ACCOUNTS_MAX: usize = 10_000;
/// A key that is longer is not shared.
pub const KEY_MAX: usize = 1 << 20;

/// Whose log is followed, and since when.
#[derive(Debug)]
pub struct Term {
    /// A hash of all that tells this master from any other server.
    identity: [u8; 32],
    flavor: Flavor,
    /// The master's clock when its history was last found to be perhaps another, microseconds.
    since_us: u64,
    /// The master's clock, microseconds, at the `Instant` beside it or a little later.
    clock: (u64, Instant),
    stable: ArcSwapOption<GtidSet>,
}

impl Term {
    /// `identity`: what the master says of itself; `clock_us`: its clock, asked before `at`; `since_us`: see [`Term::since_us`].
    pub fn new(identity: &str, flavor: Flavor, (clock_us, at): (u64, Instant), since_us: u64) -> Term {
        let identity = sha256(&[identity.as_bytes()]);
        Term { identity, flavor, since_us, clock: (clock_us, at), stable: ArcSwapOption::empty() }
    }

    /// What was true before this time on the master's clock is of a history that is perhaps another.
    pub fn since_us(&self) -> u64 {
        self.since_us
    }

    /// Every change up to here is known, and can be seen at the master.
    pub fn stands(&self, position: &GtidSet) {
        if self.stable.load().as_deref() != Some(position) {
            self.stable.store(Some(Arc::new(position.clone())));
        }
    }

    /// The position that is known, once there is one.
    pub fn stable(&self) -> Option<Arc<GtidSet>> {
        self.stable.load_full()
    }

    /// The master's clock, at most.
    fn clock_us(&self, at: Instant) -> u64 {
        let (clock, then) = self.clock;
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        match at.checked_duration_since(then) {
            Some(later) => clock.saturating_add(micros(later)),
            None => clock.saturating_sub(micros(then.saturating_duration_since(at))),
        }
    }

    /// The name an entry is put under. Two keys with one name are told apart by the entry.
    pub fn name(&self, key: &[u8]) -> String {
        let hash = sha256(&[&MARK, &self.identity, key]);
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sluice:{hex}")
    }
}

/// Which account a reader is, as the servers say: two proxies that log in with one name may be two accounts, told apart by where they
/// come from.
#[derive(Debug, Default)]
pub struct Accounts(RwLock<HashMap<Who, Arc<[u8]>>>);

/// User, its client's address where servers are told it, learning of its password.
type Who = (Arc<str>, Option<IpAddr>, u64);

impl Accounts {
    /// The account, if it is known.
    pub fn of(&self, reader: &Reader) -> Option<Arc<[u8]>> {
        self.0.read().get(&(reader.user.clone(), reader.address, reader.generation)).cloned()
    }

    /// A server has said so.
    pub fn learn(&self, reader: &Reader, account: &[u8]) {
        let mut all = self.0.write();
        if all.len() >= ACCOUNTS_MAX {
            all.clear();
        }
        all.insert((reader.user.clone(), reader.address, reader.generation), account.into());
    }

    /// Another account may fit better now.
    pub fn forget(&self) {
        if !self.0.read().is_empty() {
            self.0.write().clear();
        }
    }
}

/// The bytes to put there: the entry is true now, and was when `stable` was asked for. The caller makes sure of that, by looking at its
/// ticket *after* he has asked for the term and for `stable`. `None`: it is not to be shared, or has lived its time.
pub fn write(term: &Term, stable: &GtidSet, key: &[u8], entry: &Entry, now: Instant) -> Option<(Vec<u8>, Duration)> {
    let left = entry.until.checked_duration_since(now).filter(|left| !left.is_zero())?;
    if stable.parts() > POSITION_PARTS_MAX || key.len() > KEY_MAX {
        return None;
    }
    let position = stable.to_string();
    let mut body = Vec::with_capacity(entry.reply.len() + key.len() + position.len() + 160);
    body.extend_from_slice(&term.identity);
    // True now, and until when it may live.
    let now_us = term.clock_us(now);
    body.extend_from_slice(&now_us.to_le_bytes());
    body.extend_from_slice(&term.clock_us(entry.stored).to_le_bytes());
    body.extend_from_slice(&now_us.saturating_add(u64::try_from(left.as_micros()).ok()?).to_le_bytes());
    body.extend_from_slice(&entry.rows.to_le_bytes());
    body.extend_from_slice(&(entry.status_at as u64).to_le_bytes());
    body.extend_from_slice(&entry.status.0.to_le_bytes());
    put(&mut body, Some(position.as_bytes()));
    put(&mut body, Some(key));
    put(&mut body, Some(&entry.reply));
    let mut out = Vec::with_capacity(MARK.len() + SUM_LEN + body.len());
    out.extend_from_slice(&MARK);
    out.extend_from_slice(&sha256(&[&body]));
    out.extend_from_slice(&body);
    Some((out, left))
}

/// Why what was found is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Not one of ours, of another version, or damaged.
    Garbage,
    /// Of another key with the same name.
    OtherKey,
    /// Of another master, or from before the history may have changed.
    History,
    /// One of its tables has changed since, or nobody knows.
    Changed,
    /// It has lived its time.
    Time,
}

/// Takes an entry to pieces.
struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(part)
    }

    fn number(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn part(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        self.take(len)
    }
}

struct Kept<'a> {
    identity: &'a [u8],
    true_us: u64,
    stored_us: u64,
    until_us: u64,
    rows: u64,
    status_at: usize,
    status: Status,
    position: &'a [u8],
    key: &'a [u8],
    reply: &'a [u8],
}

fn parse(bytes: &[u8]) -> Option<Kept<'_>> {
    let mut parts = Parts(bytes);
    if parts.take(MARK.len())? != MARK {
        return None;
    }
    let sum = parts.take(SUM_LEN)?;
    if sum != sha256(&[parts.0]) {
        return None;
    }
    let kept = Kept {
        identity: parts.take(32)?,
        true_us: parts.number()?,
        stored_us: parts.number()?,
        until_us: parts.number()?,
        rows: parts.number()?,
        status_at: usize::try_from(parts.number()?).ok()?,
        status: Status(parts.take(2)?.try_into().ok().map(u16::from_le_bytes)?),
        position: parts.part()?,
        key: parts.part()?,
        reply: parts.part()?,
    };
    let whole = parts.0.is_empty() && kept.status_at.checked_add(2).is_some_and(|end| end <= kept.reply.len());
    whole.then_some(kept)
}

/// What is asked of an entry.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Taken before the ticket.
    pub term: &'a Term,
    /// See [`super::key::KeyRef::encode`].
    pub key: &'a [u8],
    /// What the result must have.
    pub demand: &'a Need,
    /// The ticket that goes with the demand.
    pub ticket: &'a Ticket,
    /// How long results of this statement live here.
    pub ttl: Duration,
    /// The statement.
    pub statement: &'a Arc<Classified>,
}

/// The entry as one of our own, if it is good for us. It is to be served only while its ticket is current.
///
/// # Errors
/// Why not.
pub fn judge(bytes: &[u8], wanted: &Wanted<'_>, now: Instant) -> Result<Entry, Unfit> {
    let Wanted { term, key, demand, ticket, ttl, statement } = wanted;
    let kept = parse(bytes).ok_or(Unfit::Garbage)?;
    if kept.key != *key {
        return Err(Unfit::OtherKey);
    }
    if kept.identity != term.identity || kept.true_us < term.since_us {
        return Err(Unfit::History);
    }
    let position = std::str::from_utf8(kept.position).ok().and_then(|text| GtidSet::parse(term.flavor, text).ok());
    let position = position.ok_or(Unfit::Garbage)?;
    let has_all = match demand {
        Need::Nothing => true,
        Need::Gtid(set) => set.flavor() == term.flavor && position.covers(set),
        Need::Master => false,
    };
    if !has_all {
        return Err(Unfit::Changed);
    }
    let now_us = term.clock_us(now);
    let age = Duration::from_micros(now_us.saturating_sub(kept.stored_us));
    let left = Duration::from_micros(kept.until_us.saturating_sub(now_us)).min(ttl.saturating_sub(age));
    if left.is_zero() {
        return Err(Unfit::Time);
    }
    let stored = now.checked_sub(age).unwrap_or(now);
    let life = (stored, now + left);
    Ok(Entry::new(kept.reply.into(), kept.status_at, kept.status, kept.rows, (*ticket).clone(), life, (*statement).clone()))
}

#[cfg(test)]
mod tests;
