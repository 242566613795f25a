//! The store that several proxies share, as clients' statements use it: looked at where a read would go to a server, filled with what was
//! read, behind the client's back.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::backend::pool::Lease;
use crate::cache::Cache;
use crate::cache::epoch::Granted;
use crate::cache::key::Key;
use crate::cache::shared::{self, Term, Wanted};
use crate::cache::store::Entry;
use crate::frontend::client::Client;
use crate::frontend::query::Job;
use crate::frontend::shared::Shared;
use crate::stores::Found;

/// A result that is asked for is put there again so long after the first time, with what the log has told meanwhile: what it was true for when it
/// was read may lack the write just before, which the log tells of a moment later.
const AGAIN_FIRST: Duration = Duration::from_millis(250);
/// And so long after each other time: a proxy that has begun meanwhile takes only what was true then.
const AGAIN: Duration = Duration::from_secs(5);

fn age_ms(entry: &Entry, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(entry.stored).as_millis()).unwrap_or(u64::MAX)
}

/// Whether it is time to put it there once more.
pub(super) fn is_due(entry: &Entry, now: Instant) -> bool {
    if entry.account.get().is_none() {
        return false;
    }
    let last = entry.shared_ms.load(Relaxed);
    let pause = if last < 100 { AGAIN_FIRST } else { AGAIN };
    last == u64::MAX || u128::from(age_ms(entry, now).saturating_sub(last)) >= pause.as_millis()
}

/// Puts a result there that is true now.
pub(super) fn share(shared: &Shared, cache: &Cache, key: &Key, entry: &Entry, now: Instant) {
    let Some(stored) = shared.stored.as_ref().filter(|stored| stored.is_up()) else { return };
    let Some(term) = cache.term() else { return };
    let (Some(stable), Some(account)) = (term.stable(), entry.account.get()) else { return };
    // Behind what is known of the log: each change up to there has voided it, or it has it.
    if !entry.ticket.is_current() || !cache.is_told() {
        return;
    }
    entry.shared_ms.store(age_ms(entry, now), Relaxed);
    let encoded = key.look().encode(account);
    if let Some((bytes, ttl)) = shared::write(&term, &stable, &encoded, entry, now) {
        stored.put(term.name(&encoded), bytes, ttl);
    }
}

impl Client {
    /// A result of another proxy that is good for us. It is kept in memory from then on.
    pub(super) async fn look_shared(
        &self,
        cache: &Cache,
        term: Option<&Term>,
        job: &Job<'_>,
        key: &Arc<Key>,
        granted: &Granted,
        ttl: Duration,
    ) -> Option<Arc<Entry>> {
        let stored = self.shared.stored.as_ref().filter(|stored| stored.is_up())?;
        let (term, account) = (term?, cache.accounts.of(key.reader())?);
        let encoded = key.look().encode(&account);
        let bytes = match stored.get(term.name(&encoded)).await {
            Found::Value(bytes) => bytes,
            Found::Nothing => {
                stored.misses.fetch_add(1, Relaxed);
                return None;
            }
            Found::Failed => return None,
        };
        let (demand, ticket, statement) = (&granted.demand, &granted.ticket, job.statement);
        let now = Instant::now();
        let entry = match shared::judge(&bytes, &Wanted { term, key: &encoded, demand, ticket, ttl, statement }, now) {
            Ok(entry) if entry.reply.len() <= cache.store.reply_max() => Arc::new(entry),
            Ok(_) => return None,
            Err(why) => {
                tracing::trace!(?why, "another proxy's result is not good for us");
                stored.unfit.fetch_add(1, Relaxed);
                return None;
            }
        };
        entry.shared_ms.store(age_ms(&entry, now), Relaxed);
        _ = entry.account.set(account);
        // It is good only if none of its tables has changed since the ticket.
        if !cache.keep(key.clone(), entry.clone()) {
            return None;
        }
        stored.hits.fetch_add(1, Relaxed);
        Some(entry)
    }

    /// Shares what was read on a connection whose account is not known yet. The connection is asked, once, and after all that is to be asked of it
    /// about the client's statement: an answer takes away what that left behind. One pool may have connections of two accounts, where an
    /// account that fits better was made meanwhile.
    pub(super) async fn share_kept(&self, kept: Kept, lease: &mut Lease) {
        if lease.tainted {
            return;
        }
        if let Some(account) = self.account_at(lease).await {
            lease.account = Some(account.into());
            kept.share(&self.shared, lease);
        }
    }
}

/// A read's result that is kept in memory and not shared yet.
pub(super) struct Kept {
    pub(super) cache: Arc<Cache>,
    pub(super) key: Arc<Key>,
    pub(super) entry: Arc<Entry>,
}

impl Kept {
    /// Shares it as read by the account of this connection. It comes back when that is not known.
    pub(super) fn share(self, shared: &Shared, lease: &Lease) -> Option<Kept> {
        shared.stored.as_ref()?;
        let Some(account) = &lease.account else { return Some(self) };
        let Kept { cache, key, entry } = self;
        if cache.accounts.of(key.reader()).as_ref() != Some(account) {
            cache.accounts.learn(key.reader(), account);
        }
        _ = entry.account.set(account.clone());
        share(shared, &cache, &key, &entry, Instant::now());
        None
    }
}
