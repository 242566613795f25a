//! The cache of a running proxy: made from the configuration, swept, told of masters that change, shown to operators.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::admin::AdminError;
use crate::admin::house::{CacheEntryRow, CacheRow};
use crate::backend::ServerTls;
use crate::backend::tls::TlsMode;
use crate::cache::epoch::Need;
use crate::cache::{Cache, Changes as _, VoidReason, as_changes, policy};
use crate::config::Config;
use crate::config::types::{CacheDefault, CacheStore, Invalidate};
use crate::frontend::shared::Shared;
use crate::metrics::events::EventLog;
use crate::metrics::statements::StatementSnapshot;
use crate::monitor::definitions::Asker;
use crate::stores::{Place, SharedStore, Trust};
use crate::topology::{GtidSet, State};

/// How often it is looked whether servers are reached in another way.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often epochs are looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How many sweeps of the epochs go by for one of the entries.
const ENTRIES_EVERY: u32 = 5;
/// A heartbeat that ended this long after a write, and in any case three timeouts, tells of that write.
const SETTLED_MIN: Duration = Duration::from_secs(3);
/// Without a reader of the binlog, definitions that somebody changed at the master are noticed after this long.
const ASK_AGAIN_EVERY: Duration = Duration::from_secs(60);
/// Statements of `SHOW STATEMENTS` that are advised to be kept.
const ADVISED_MAX: usize = 10;
/// One that ran fewer times tells nothing yet.
const ADVISED_COUNT_MIN: u64 = 10;
/// Most lines of `SHOW CACHE ENTRIES`.
const SHOWN_MAX: usize = 10_000;

/// `[cache]`, as far as it may be changed under running clients.
pub fn settings(config: &Config) -> policy::Settings {
    let all = config.cache.default == CacheDefault::All;
    policy::Settings { ttl: config.cache.ttl.0, all, refresh_ahead: config.cache.refresh_ahead.0 }
}

/// The cache, if there is one.
///
/// # Errors
/// A shared store whose results nobody could judge.
pub fn cache(config: &Config) -> Result<Option<Arc<Cache>>, String> {
    if !config.cache.enabled {
        return Ok(None);
    }
    let reader = config.cache.invalidate.contains(&Invalidate::Binlog);
    let shares = config.cache.store != CacheStore::Memory;
    if shares && !reader {
        let store = &config.cache.store;
        return Err(format!(
            "cache.store = \"{store}\" needs \"binlog\" in cache.invalidate: what other proxies have written is known by it alone"
        ));
    }
    Ok(Some(Arc::new(Cache::with_store(settings(config), config.cache.max_memory.0, reader, shares))))
}

/// The store that other proxies use, too, if there is one.
///
/// # Errors
/// A URL that names none, a file of authorities that cannot be read.
pub fn stored(config: &Config, events: &Arc<EventLog>) -> Result<Option<Arc<SharedStore>>, String> {
    let store = &config.cache.store;
    let (CacheStore::Redis(url) | CacheStore::Memcached(url)) = store else { return Ok(None) };
    if !config.cache.enabled {
        return Ok(None);
    }
    let place = Place::parse(url).map_err(|why| format!("cache.store = \"{store}\": {why}"))?;
    let tls = match &place.tls {
        None => None,
        Some(trust) => {
            let ca = match trust {
                Trust::System => None,
                Trust::File(path) => Some(path.as_path()),
            };
            let tls = ServerTls::new(TlsMode::VerifyIdentity, ca, None, None)
                .map_err(|why| format!("cache.store = \"{store}\": {why}"))?;
            tls.connector().cloned()
        }
    };
    let events = events.clone();
    Ok(Some(SharedStore::start(place, tls, Box::new(move |kind, detail| events.push(kind, None, detail)))))
}

/// Starts what the cache needs done.
pub fn start(shared: &Arc<Shared>, config: &Config) {
    let Some(cache) = &shared.cache else { return };
    let reader = config.cache.invalidate.contains(&Invalidate::Binlog);
    let asker = Asker {
        cache: cache.clone(),
        reached: shared.monitor.reached().clone(),
        snapshot: shared.snapshot.clone(),
        again_every: (!reader).then_some(ASK_AGAIN_EVERY),
    };
    tokio::spawn(asker.run());
    if reader {
        tokio::spawn(follow(shared.clone(), cache.clone()));
    }
    let settled = (config.monitor.heartbeat_timeout.0 * 3).max(SETTLED_MIN);
    tokio::spawn(sweep(shared.clone(), cache.clone(), settled));
}

/// Has the master's binlog read for the cache. A reload that changes how servers are reached makes another reader.
async fn follow(shared: Arc<Shared>, cache: Arc<Cache>) {
    loop {
        let reached = shared.monitor.reached().load_full();
        let reader = shared.monitor.follow_binlog(as_changes(&cache));
        while Arc::ptr_eq(&reached, &shared.monitor.reached().load()) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        drop(reader);
        cache.lost("the configuration was read again");
    }
}

async fn sweep(shared: Arc<Shared>, cache: Arc<Cache>, settled: Duration) {
    let mut every = tokio::time::interval(SWEEP_EVERY);
    let mut changed = shared.changed.clone();
    changed.mark_changed();
    let mut down: Vec<bool> = Vec::new();
    let mut count = 0u32;
    loop {
        tokio::select! {
            _ = every.tick() => {
                let now = Instant::now();
                let snapshot = shared.snapshot.load_full();
                let all = |set: &GtidSet| snapshot.current().all(|server| shared.has(server.id, set));
                let master = snapshot.writer().and_then(|master| master.gtid.clone());
                let ttl = cache.settings.load().ttl;
                cache.epochs.sweep(now, &all, master.as_deref(), settled, ttl);
                cache.sweep_unread(now);
                count = count.wrapping_add(1);
                if count.is_multiple_of(ENTRIES_EVERY) {
                    cache.store.sweep(now);
                }
            }
            alive = changed.changed() => {
                if alive.is_err() {
                    return;
                }
                let snapshot = shared.snapshot.load_full();
                cache.master_is(snapshot.master);
                let lost = |state| matches!(state, State::Down | State::Quarantined);
                let now_down: Vec<bool> = snapshot.servers.iter().map(|server| lost(server.state)).collect();
                if now_down != down {
                    // Whoever comes back may have gone back.
                    cache.epochs.distrust_servers();
                    if snapshot.master().is_some_and(|master| lost(master.state)) {
                        cache.everything(VoidReason::Master, &Need::Master);
                    }
                    down = now_down;
                }
            }
        }
    }
}

/// Brings the counters to what the cache has counted.
pub fn refresh(shared: &Shared) {
    let Some(cache) = &shared.cache else { return };
    cache.store.sweep(Instant::now());
    let metrics = &shared.metrics;
    let (hits, misses) = shared.hits_and_misses();
    for (counter, now) in [
        (&metrics.cache_hits, hits),
        (&metrics.cache_misses, misses),
        (&metrics.cache_stores, cache.stores.load(Relaxed)),
        (&metrics.cache_evictions, cache.store.evictions()),
        (&metrics.cache_invalidations, cache.store.invalidations()),
    ] {
        counter.inc_by(now.saturating_sub(counter.get()));
    }
    if let Some(stored) = &shared.stored {
        metrics.cache_store_up.set(i64::from(stored.is_up()));
        for (counter, now) in [
            (&metrics.cache_store_hits, stored.hits.load(Relaxed)),
            (&metrics.cache_store_misses, stored.misses.load(Relaxed)),
            (&metrics.cache_store_unfit, stored.unfit.load(Relaxed)),
            (&metrics.cache_store_errors, stored.errors()),
        ] {
            counter.inc_by(now.saturating_sub(counter.get()));
        }
    }
    metrics.cache_bytes.set(i64::try_from(cache.store.bytes()).unwrap_or(i64::MAX));
}

/// The places of those statements that servers spend most time on and that could be kept.
pub fn advised(all: &[StatementSnapshot]) -> Vec<usize> {
    let mut found: Vec<(usize, &StatementSnapshot)> =
        all.iter().enumerate().filter(|(_, s)| s.cacheable && !s.cached && s.count >= ADVISED_COUNT_MIN).collect();
    found.sort_by_key(|(_, s)| std::cmp::Reverse(s.sum_us));
    found.into_iter().take(ADVISED_MAX).map(|(at, _)| at).collect()
}

/// `SHOW CACHE`
pub fn row(shared: &Shared, config: &Config) -> CacheRow {
    let Some(cache) = &shared.cache else {
        let state = "off".to_owned();
        let store = config.cache.store.to_string();
        return CacheRow {
            entries: 0,
            bytes: 0,
            hits: 0,
            misses: 0,
            stores: 0,
            evictions: 0,
            invalidations: 0,
            hit_ratio: 0.0,
            store,
            state,
        };
    };
    cache.store.sweep(Instant::now());
    let (hits, misses) = shared.hits_and_misses();
    CacheRow {
        entries: cache.store.len() as u64,
        bytes: cache.store.bytes(),
        hits,
        misses,
        stores: cache.stores.load(Relaxed),
        evictions: cache.store.evictions(),
        invalidations: cache.store.invalidations(),
        hit_ratio: if hits + misses == 0 { 0.0 } else { hits as f64 / (hits + misses) as f64 },
        store: config.cache.store.to_string(),
        state: match (cache.state(), shared.stored.as_ref().and_then(|stored| stored.why_down())) {
            (state, Some(why)) if state == "on" => format!("on, without its store: {why}"),
            (state, _) => state,
        },
    }
}

/// `SHOW CACHE ENTRIES`
pub fn entries(shared: &Shared) -> Vec<CacheEntryRow> {
    let Some(cache) = &shared.cache else { return Vec::new() };
    let now = Instant::now();
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let line = |shown: crate::cache::store::Shown| CacheEntryRow {
        digest: format!("{:016x}", shown.entry.statement.digest_hash),
        statement: shown.entry.statement.digest_text.clone(),
        schema: shown.key.schema().map(|schema| String::from_utf8_lossy(schema).into_owned()).unwrap_or_default(),
        user: shown.key.user().to_owned(),
        tables: shown.entry.ticket.tables().collect::<Vec<_>>().join(", "),
        bytes: crate::cache::store::weight(&shown.key, &shown.entry),
        hits: shown.entry.hits.load(Relaxed),
        age_ms: ms(now.saturating_duration_since(shown.entry.stored)),
        ttl_ms: ms(cache.store.ends(&shown.entry).saturating_duration_since(now)),
    };
    cache.store.list(now, SHOWN_MAX).into_iter().map(line).collect()
}

/// `FLUSH CACHE [TABLE x]`
///
/// # Errors
/// A table that is not written as `schema.table`.
pub fn flush(shared: &Shared, table: Option<&str>) -> Result<String, AdminError> {
    let Some(cache) = &shared.cache else {
        return Ok("there is no cache (cache.enabled = false), and nothing to forget".to_owned());
    };
    let Some(table) = table else {
        // What other proxies have of it is to be from after this moment.
        let need = if shared.stored.is_some() { Need::Master } else { Need::Nothing };
        cache.everything(VoidReason::Operator, &need);
        cache.store.sweep(Instant::now());
        return Ok("the cache is empty".to_owned());
    };
    let Some((schema, name)) = table.split_once('.') else {
        return Err(AdminError::failed(format!("which {table}? write FLUSH CACHE TABLE schema.{table}")));
    };
    crate::cache::Changes::tables_changed(&**cache, &[(schema, name)], None);
    cache.store.sweep(Instant::now());
    Ok(format!("results of {table} are forgotten"))
}
