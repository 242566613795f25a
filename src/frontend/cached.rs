//! Step 4 of the way of one query: a read is answered from the cache, or its reply is kept as it goes by.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::cache::Cache;
use crate::cache::epoch::{Granted, Need};
use crate::cache::key::{Key, KeyRef, Parameters, ReaderRef};
use crate::cache::policy::{self, Bypass};
use crate::cache::store::Entry;
use crate::frontend::capture::{Capture, Missed};
use crate::frontend::client::{Client, Gone};
use crate::frontend::flight::{Boarding, Leader};
use crate::frontend::place::{interrupted, killed_while_waiting};
use crate::frontend::query::{ANSWERED, Job, Outcome, Payload};
use crate::frontend::registry::ClientState;
use crate::frontend::shared_cache::{self, Kept};
use crate::frontend::told::Told;
use crate::protocol::Capabilities;
use crate::protocol::command::Com;
use crate::protocol::frame::{HEADER_LEN, put_packet};
use crate::protocol::ok_err_eof::{Status, write_end_of_rows};
use crate::protocol::prepared::ExecuteHeader;
use crate::routing::decide::MustHave;
use crate::routing::rules::Subject;
use crate::session::machine::Learned;
use crate::topology::{Flavor, ServerId};

/// Where the status stands in the packet that ends rows, OK or EOF.
const STATUS_AT: usize = HEADER_LEN + 3;

/// A read whose reply is to be kept.
pub(super) struct Fill {
    pub(super) cache: Arc<Cache>,
    pub(super) key: Arc<Key>,
    granted: Granted,
    ttl: Duration,
    /// The server that answers has all that the tables' last writes have.
    fresh: bool,
    /// What has gone to the client so far.
    capture: Capture,
    /// Others may wait for it.
    leader: Option<Leader>,
}

/// What there is of a read that may be kept.
pub(super) enum Look {
    /// Its result.
    Found(Arc<Entry>),
    /// Its result, which ends soon; the key and the life of the next one.
    NearlyOver(Arc<Entry>, Arc<Key>, Duration),
    /// Nothing, and what comes is worth keeping: under this key, for so long.
    Missed(Arc<Key>, Duration),
}

impl Client {
    /// Whether the statement may be answered from the cache or kept, and for how long.
    fn may_use(&self, cache: &Cache, job: &Job<'_>) -> Result<Duration, Bypass> {
        let settings = self.shared.settings.load();
        let rules = &settings.rules;
        let asked = cache.settings.load();
        if rules.0.is_empty() && !asked.all && job.hint.is_none() {
            return Err(Bypass::NotAsked);
        }
        let rule = if rules.0.is_empty() {
            None
        } else {
            rules.first_match(&Subject {
                user: &self.account.key.user,
                schema: self.session.state.schema(),
                sql: job.sql,
                digest: job.statement.digest_hash,
                client: self.account.ip,
            })
        };
        let ttl = policy::asked(&asked, job.statement, job.hint, rule.map(|(number, rule)| (number, &rule.action)))?;
        policy::session(&self.session)?;
        if self.schemas(job).refuse(job.statement, self.session.state.schema()).is_some() {
            return Err(Bypass::Refused);
        }
        if self.held.is_some() || self.account.login_only || self.upload.is_some() {
            return Err(Bypass::Form);
        }
        if self.shared.is_paused.load(Relaxed) {
            return Err(Bypass::Paused);
        }
        if !cache.is_told() {
            return Err(Bypass::Lost);
        }
        Ok(ttl)
    }

    fn reader(&self) -> ReaderRef<'_> {
        let key = &self.account.key;
        ReaderRef {
            user: &key.user,
            address: key.client,
            generation: key.generation,
            // Replies are kept as the client has them.
            capabilities: (key.capabilities | (self.capabilities & Capabilities::DEPRECATE_EOF)).0,
            raw_collation: key.raw_collation,
        }
    }

    /// The key of the job; `None` for an execution that cannot be read or wants a cursor.
    fn key_of<'a>(&'a self, job: &'a Job<'_>) -> Option<KeyRef<'a>> {
        let reader = self.reader();
        let state = &self.session.state;
        match (job.com, &job.payload, job.text) {
            (Com::Query, _, _) => Some(KeyRef::new(reader, state, None, job.sql, None)),
            (Com::StmtExecute, Payload::Execute(payload), Some(text)) if text.private == 0 => {
                let header = ExecuteHeader::parse(payload, job.params, self.capabilities).ok()?;
                if header.wants_cursor() {
                    return None;
                }
                let types = if header.num_params == 0 { &[] } else { job.types.unwrap_or_default() };
                let (nulls, values) = (payload.get(header.null_bitmap.clone())?, payload.get(header.values_at..)?);
                Some(KeyRef::new(reader, state, Some(&text.state), job.sql, Some(Parameters { types, nulls, values })))
            }
            _ => None,
        }
    }

    /// Looks for a job's result. `None`: it is a matter of the servers alone, and nothing of it is kept. Nothing is copied, locked or
    /// waited for to find that out: reads of which none ever comes back pass by here, one and all.
    pub(super) fn look_up(&self, job: &Job<'_>, started: Instant) -> Option<Look> {
        let cache = self.shared.cache.as_deref()?;
        let ttl = self.may_use(cache, job).ok()?;
        let key = self.key_of(job)?;
        let found = cache.store.get(&key, started);
        if found.is_none() && !cache.is_worth_keeping(job.statement, key.hash_code()) {
            self.shared.asked.here().misses.fetch_add(1, Relaxed);
            return None;
        }
        // Another master makes void what was found.
        cache.master_is(self.shared.snapshot.load().master);
        let Some(entry) = found.filter(|entry| entry.ticket.is_current()) else {
            return Some(Look::Missed(Arc::new(key.to_owned()), ttl));
        };
        // The key is wanted for what is nearly over, or is to be put where others look once more.
        let renew = cache.store.is_nearly_over(&entry, cache.settings.load().refresh_ahead, started);
        let share = self.shared.stored.is_some() && shared_cache::is_due(&entry, started);
        if !renew && !share {
            return Some(Look::Found(entry));
        }
        let key = Arc::new(key.to_owned());
        if share {
            shared_cache::share(&self.shared, cache, &key, &entry, started);
        }
        Some(if renew { Look::NearlyOver(entry, key, ttl) } else { Look::Found(entry) })
    }

    /// Answers from the cache, or leaves a [`Fill`] behind when the reply is to be kept.
    pub(super) async fn answer_kept(&mut self, look: Look, job: &Job<'_>, started: Instant) -> Result<Option<Outcome>, Gone> {
        let answered = match look {
            Look::Found(entry) => return self.serve(job, &entry, started).await.map(Some),
            Look::NearlyOver(entry, key, ttl) => {
                if !self.renews(job, key, ttl, started) {
                    return self.serve(job, &entry, started).await.map(Some);
                }
                None
            }
            Look::Missed(key, ttl) => Box::pin(self.miss(job, key, ttl, started)).await?,
        };
        if answered.is_none() {
            self.shared.asked.here().misses.fetch_add(1, Relaxed);
        }
        Ok(answered)
    }

    /// Whether this read is sent to a server though there is a result, since that ends soon: one client asks in time, and the others are
    /// answered from what there is meanwhile.
    fn renews(&mut self, job: &Job<'_>, key: Arc<Key>, ttl: Duration, now: Instant) -> bool {
        let Some(cache) = self.shared.cache.clone() else { return false };
        let Boarding::Leads(leader) = self.shared.flights.board(&key) else { return false };
        let Ok(granted) = cache.may_keep(job.statement, self.schema_of(job), now) else { return false };
        if !granted.quiet {
            return false;
        }
        let capture = Capture::new(cache.store.reply_max(), cache.store.room().clone());
        self.fill = Some(Box::new(Fill { cache, key, granted, ttl, fresh: false, capture, leader: Some(leader) }));
        true
    }

    /// The schema that names without one are of.
    fn schema_of<'a>(&'a self, job: &'a Job<'_>) -> Option<&'a [u8]> {
        job.text.map_or_else(|| self.session.state.schema(), |text| text.state.schema())
    }

    async fn miss(&mut self, job: &Job<'_>, key: Arc<Key>, ttl: Duration, started: Instant) -> Result<Option<Outcome>, Gone> {
        let Some(cache) = self.shared.cache.clone() else { return Ok(None) };
        let digest = job.statement.digest_hash;
        if cache.is_unfit(digest, started) {
            return Ok(None);
        }
        // Before the ticket: what is known of the log is then not newer than it.
        let term = cache.term();
        let Ok(mut granted) = cache.may_keep(job.statement, self.schema_of(job), started) else { return Ok(None) };
        let mut leader = None;
        if granted.quiet {
            match self.shared.flights.board(&key) {
                Boarding::Leads(one) => {
                    if let Some(entry) = self.look_shared(&cache, term.as_deref(), job, &key, &granted, ttl).await {
                        drop(one);
                        return self.serve(job, &entry, started).await.map(Some);
                    }
                    leader = Some(one);
                }
                Boarding::Waits(flight) => {
                    self.show_waiting(job);
                    tokio::select! {
                        biased;
                        () = flight.wait() => {}
                        () = interrupted(&self.entry) => {
                            self.show_idle();
                            self.refuse(killed_while_waiting()).await?;
                            return Ok(Some(ANSWERED));
                        }
                        () = self.stream.closed() => return Err(Gone),
                    }
                    let now = Instant::now();
                    cache.master_is(self.shared.snapshot.load().master);
                    if let Some(entry) = cache.store.get(&key.look(), now)
                        && cache.is_told()
                    {
                        return self.serve(job, &entry, started).await.map(Some);
                    }
                    match cache.may_keep(job.statement, self.schema_of(job), now) {
                        Ok(again) => granted = again,
                        Err(_) => return Ok(None),
                    }
                }
            }
        }
        let capture = Capture::new(cache.store.reply_max(), cache.store.room().clone());
        self.fill = Some(Box::new(Fill { cache, key, granted, ttl, fresh: false, capture, leader }));
        Ok(None)
    }

    /// Sends what is kept. To the session it is as if it had been read.
    async fn serve(&mut self, job: &Job<'_>, entry: &Entry, started: Instant) -> Result<Outcome, Gone> {
        let own = self.session.status.of_session();
        let status = (entry.status - entry.status.of_session()) | own;
        if status == entry.status {
            self.send_own(&entry.reply).await?;
        } else {
            let mut reply = entry.reply.to_vec();
            if let Some(place) = reply.get_mut(entry.status_at..entry.status_at + 2) {
                place.copy_from_slice(&status.0.to_le_bytes());
            }
            self.send_own(&reply).await?;
        }
        self.shared.asked.here().hits.fetch_add(1, Relaxed);
        entry.hits.fetch_add(1, Relaxed);
        entry.statement.worth.again();
        let told = Told { status: Some(status), rows: entry.rows, ends_rows: true, ..Told::default() };
        self.session.learn(job.statement, job.sql, &Learned { ok: true, status: Some(status), ..Learned::default() });
        self.note_left(job, &told, self.shared.flavor().unwrap_or(Flavor::MySql));
        // Its connection has seen none of this.
        self.last = None;
        let ended = Instant::now();
        {
            let mut view = self.entry.view.lock();
            view.state = ClientState::Idle;
            view.queries += 1;
            view.since = Some(ended);
            if !view.statement.as_ref().is_some_and(|shown| Arc::ptr_eq(shown, job.statement)) {
                view.statement = Some(job.statement.clone());
            }
        }
        self.count_cached(job, ended, ended.saturating_duration_since(started), entry.rows);
        Ok(Outcome { server: None, ok: true, status: Some(status), prepared: None })
    }

    /// What a server must have, so that its answer can be kept. Only where it is likely to last is a read sent elsewhere, or made to
    /// wait, for it.
    pub(super) fn must_have(&self) -> MustHave<'_> {
        match &self.fill {
            Some(fill) if fill.granted.quiet => match &fill.granted.need {
                Need::Nothing => MustHave::Any,
                Need::Gtid(set) => MustHave::Gtid(set),
                Need::Master => MustHave::Master,
            },
            _ => MustHave::Any,
        }
    }

    /// The statement is about to be sent to this server: whether what it will answer is fresh enough to be kept.
    pub(super) fn fill_from(&mut self, server: ServerId) {
        let Some(fill) = &mut self.fill else { return };
        fill.capture.clear();
        let snapshot = self.shared.snapshot.load();
        let master = snapshot.master == Some(server);
        // What a server says it has proves nothing where its history may be another.
        let causal = snapshot.server(server).is_some_and(|view| view.causal);
        fill.fresh = master
            || match &fill.granted.need {
                Need::Nothing => true,
                Need::Gtid(set) => causal && self.shared.has(server, set),
                Need::Master => false,
            };
    }
}

impl Fill {
    /// Where the reply is taken along, if it is to be kept.
    pub(super) fn capture(&mut self) -> Option<&mut Capture> {
        self.fresh.then_some(&mut self.capture)
    }

    /// The reply has come to its end; `last` is the piece of it that the client does not have yet. What comes back is kept.
    pub(super) fn end(mut self, job: &Job<'_>, told: &Told, last: &[u8], capabilities: Capabilities, now: Instant) -> Option<Kept> {
        let passing =
            [Status::MORE_RESULTS, Status::CURSOR_EXISTS, Status::PS_OUT_PARAMS, Status::METADATA_CHANGED, Status::IN_TRANS];
        let status = told.status?;
        if told.errno.is_some() || passing.into_iter().any(|flag| status.has(flag)) {
            return None;
        }
        let quiet = told.gtid.is_none() && told.variables.is_empty() && !told.state_changed && told.schema.is_none();
        if self.fresh {
            self.capture.push(last);
        }
        let whole = self.capture.take();
        let unfit = whole == Err(Missed::TooLong) || told.warnings > 0 || !quiet || !told.ends_rows;
        if unfit {
            self.cache.unfit(job.statement.digest_hash, now);
        }
        let mut reply = whole.ok().filter(|_| !unfit && self.fresh)?;
        let at = reply.len().checked_sub(told.last_len)?;
        // Session state is not kept, nor what was so of one execution only.
        let status = status - Status::SESSION_STATE_CHANGED - Status::QUERY_WAS_SLOW - Status::DB_DROPPED;
        let seq = reply.get(at + 3).copied()?;
        reply.truncate(at);
        let (mut payload, mut packet) = (BytesMut::with_capacity(16), BytesMut::with_capacity(16));
        write_end_of_rows(&mut payload, capabilities, status, 0);
        put_packet(&mut packet, seq, &payload);
        reply.extend_from_slice(&packet);
        let life = (now, now + self.ttl);
        let statement = job.statement.clone();
        let entry = Entry::new(reply.into_boxed_slice(), at + STATUS_AT, status, told.rows, self.granted.ticket, life, statement);
        let entry = Arc::new(entry);
        let kept = self.cache.keep(self.key.clone(), entry.clone());
        drop(self.leader.take());
        kept.then(|| Kept { cache: self.cache, key: self.key, entry })
    }
}
