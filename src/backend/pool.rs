//! The pool of one server: [`pool_book`](super::pool_book) keeps the books, this file opens, hands out, takes back and
//! closes.
//!
//! No lock is held across an await. A [`Lease`] that is dropped instead of given back closes its connection and frees its
//! place, whatever happened to the task that held it.

mod close;
mod give_back;
mod lease;
mod room;

pub use lease::Lease;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::auth::Credential;
use crate::backend::aim::Aims;
pub use crate::backend::checkout::{CheckoutError, PoolSettings, Wanted};
use crate::backend::connect::{self, ConnectError, Connected, Login, ServerAddress};
use crate::backend::connection::{ALWAYS_CAPABILITIES, CommandError, Connection, LAYOUT_CAPABILITIES, PoolKey};
use crate::backend::pool_book::{Checkout, Counts, PoolBook, Ticket};
use crate::backend::tls::ServerTls;
use crate::metrics::histogram::AtomicHistogram;
use crate::net::{Severer, Worker, timer};
use crate::protocol::Capabilities;
use crate::protocol::compress::Algorithm;
use crate::session::state::{Change, State};
use crate::topology::{Flavor, ServerId};

/// Connections are not idle for longer than `pool.idle_timeout` and this: see [`ServerPool::retire`].
const RETIRED_WITHIN: Duration = Duration::from_secs(10);

type Handed = Option<Box<Connection>>;

struct Inside {
    book: PoolBook<Arc<PoolKey>, Box<Connection>>,
    waiters: HashMap<Ticket, (oneshot::Sender<Handed>, Worker)>,
    /// Checkouts served by an idle connection.
    reused: u64,
}

/// The pool of one server.
pub struct ServerPool {
    /// Which server.
    pub server: ServerId,
    /// Its name in the configuration.
    pub name: Arc<str>,
    address: ServerAddress,
    tls: ArcSwap<ServerTls>,
    compression: Option<Algorithm>,
    settings: Mutex<PoolSettings>,
    inside: Mutex<Inside>,
    /// How many statements a connection may hold prepared.
    room: room::Room,
    /// Every open connection's number at the server and end, for [`ServerPool::sever`] and [`ServerPool::owns`].
    severers: Mutex<Vec<(u64, Weak<Severer>)>>,
    /// Connections that a `KILL` is on its way to.
    pub aims: Aims,
    /// How often all that was open became outdated: see [`ServerPool::outdate`].
    outdated: AtomicU64,
    /// Connections opened since the start.
    pub opened: AtomicU64,
    /// Connections closed since the start.
    pub closed: AtomicU64,
    /// How long checkouts took that had to wait or open, in microseconds.
    pub wait_us: AtomicHistogram,
    /// `sluice_pool_wait_seconds`, common to all pools; see [`ServerPool::tell_waits`].
    waits: OnceLock<prometheus::Histogram>,
}

/// A place in the books held while a connection is being opened; dropped (the client may go away meanwhile), it is freed.
struct Place(Option<Arc<ServerPool>>);

impl Place {
    fn filled(mut self) -> Arc<ServerPool> {
        self.0.take().expect("a place is filled once")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(pool) = self.0.take() {
            pool.place_free();
        }
    }
}

/// A waiter; dropped before it was served, it leaves the queue, or passes on what it had just been given.
struct Waiting {
    pool: Arc<ServerPool>,
    ticket: Ticket,
    receiver: oneshot::Receiver<Handed>,
    served: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.served {
            return;
        }
        let left = {
            let mut inside = self.pool.inside.lock();
            inside.waiters.remove(&self.ticket);
            inside.book.give_up(self.ticket)
        };
        if left {
            return;
        }
        match self.receiver.try_recv() {
            Ok(Some(connection)) => self.pool.clone().take_back(connection, Instant::now()),
            _ => self.pool.place_free(),
        }
    }
}

impl ServerPool {
    /// An empty pool.
    pub fn new(
        server: ServerId,
        name: Arc<str>,
        address: ServerAddress,
        tls: ServerTls,
        compression: Option<Algorithm>,
        max: usize,
        settings: PoolSettings,
    ) -> Arc<ServerPool> {
        Arc::new(ServerPool {
            server,
            name,
            address,
            tls: ArcSwap::from_pointee(tls),
            compression,
            room: room::Room::new(settings.max_prepared),
            settings: Mutex::new(settings),
            inside: Mutex::new(Inside { book: PoolBook::new(max), waiters: HashMap::new(), reused: 0 }),
            severers: Mutex::default(),
            aims: Aims::default(),
            outdated: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            wait_us: AtomicHistogram::default(),
            waits: OnceLock::new(),
        })
    }

    /// Where the server is.
    pub fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// How to speak TLS to it.
    pub fn tls(&self) -> Arc<ServerTls> {
        self.tls.load_full()
    }

    /// The authorities of its certificate were read again: connections that are opened from now on trust these.
    pub fn set_tls(&self, tls: ServerTls) {
        self.tls.store(Arc::new(tls));
    }

    /// The books as they stand.
    pub fn counts(&self) -> Counts {
        self.inside.lock().book.counts()
    }

    /// Checkouts served by an idle connection. (One that the server had closed meanwhile counts, too.)
    pub fn reused(&self) -> u64 {
        self.inside.lock().reused
    }

    /// Per account: idle connections and waiters.
    pub fn by_user(&self) -> Vec<(Arc<str>, usize, usize)> {
        let inside = self.inside.lock();
        let mut users: Vec<(Arc<str>, usize, usize)> = Vec::new();
        let mut add = |user: &Arc<str>, idle: usize, waiting: usize| match users.iter_mut().find(|(u, ..)| u == user) {
            Some(row) => {
                row.1 += idle;
                row.2 += waiting;
            }
            None => users.push((user.clone(), idle, waiting)),
        };
        for (key, idle) in inside.book.idle_by_key() {
            add(&key.user, idle, 0);
        }
        for key in inside.book.waiting_keys() {
            add(&key.user, 0, 1);
        }
        users
    }

    /// New limits and times; idle connections above the limit are closed.
    pub fn configure(&self, max: usize, settings: PoolSettings) {
        self.room.set(settings.max_prepared);
        *self.settings.lock() = settings;
        let (closed, served) = {
            let mut inside = self.inside.lock();
            let (closed, served) = (inside.book.set_max(max), inside.book.new_places());
            (closed, served.into_iter().filter_map(|ticket| inside.waiters.remove(&ticket)).collect::<Vec<_>>())
        };
        self.count_closed(closed.len());
        for (sender, _) in served {
            // A waiter that left meanwhile finds the place when what it was given is dropped.
            let _ = sender.send(None);
        }
    }

    fn count_closed(&self, n: usize) {
        self.closed.fetch_add(n as u64, Ordering::Relaxed);
    }

    /// An idle connection for `wanted`, if there is one.
    pub fn take_idle(self: &Arc<Self>, wanted: Wanted<'_>) -> Option<Lease> {
        loop {
            let connection = {
                let mut inside = self.inside.lock();
                let connection =
                    inside.book.take_idle_if(wanted.key, |c| c.suits(wanted.state, wanted.text), |c| c.goes_on_here())?;
                inside.reused += 1;
                connection
            };
            let mut lease = Lease::of(connection, self.clone());
            if lease.is_fit() {
                lease.serial += 1;
                return Some(lease);
            }
            // The server closed it while it was idle; dropping the lease frees the place.
        }
    }

    /// The same, brought over from another thread if need be.
    pub async fn take_any_idle(self: &Arc<Self>, wanted: Wanted<'_>) -> Option<Lease> {
        if let Some(lease) = self.take_idle(wanted) {
            return Some(lease);
        }
        let connection = self.inside.lock().book.take_idle(wanted.key, |c| c.suits(wanted.state, wanted.text))?;
        self.hand_out(connection).await
    }

    /// An idle connection, taken from the books. `None`: it was not fit and is closed, or its thread does not let go of it now and gives it back later.
    async fn hand_out(self: &Arc<Self>, connection: Box<Connection>) -> Option<Lease> {
        let mut lease = Lease::of(connection, self.clone()).brought_over().await?;
        lease.is_fit().then(|| {
            lease.serial += 1;
            self.inside.lock().reused += 1;
            lease
        })
    }

    /// A connection for `wanted`: idle, else new, else the first that comes back.
    ///
    /// # Errors
    /// See [`CheckoutError`].
    pub async fn checkout(self: &Arc<Self>, wanted: Wanted<'_>) -> Result<Lease, CheckoutError> {
        loop {
            if let Some(lease) = self.take_idle(wanted) {
                return Ok(lease);
            }
            let checkout = {
                let mut inside = self.inside.lock();
                let checkout = inside.book.checkout(wanted.key, |c| c.suits(wanted.state, wanted.text));
                match checkout {
                    Checkout::Wait(ticket) => {
                        let (sender, receiver) = oneshot::channel();
                        inside.waiters.insert(ticket, (sender, Worker::here()));
                        Err(Waiting { pool: self.clone(), ticket, receiver, served: false })
                    }
                    other => Ok(other),
                }
            };
            match checkout {
                Ok(Checkout::Use(connection)) => {
                    if let Some(lease) = self.hand_out(connection).await {
                        return Ok(lease);
                    }
                }
                Ok(Checkout::Open { evict }) => {
                    if evict.is_some() {
                        self.count_closed(1);
                    }
                    drop(evict);
                    return Box::pin(self.open(Place(Some(self.clone())), wanted, Instant::now())).await;
                }
                Ok(Checkout::Wait(_)) => unreachable!("made into a waiter above"),
                Err(waiting) => {
                    if let Some(lease) = Box::pin(self.wait(waiting, wanted)).await? {
                        return Ok(lease);
                    }
                }
            }
        }
    }

    /// The connection that was given back as (`thread_id`, `serial`), if nobody has used it since and it is idle.
    pub fn retake(self: &Arc<Self>, key: &Arc<PoolKey>, thread_id: u64, serial: u64) -> Option<Lease> {
        let connection =
            self.inside.lock().book.retake(key, |c| c.thread_id == thread_id && c.serial == serial && c.goes_on_here())?;
        let mut lease = Lease::of(connection, self.clone());
        lease.is_fit().then_some(lease)
    }

    /// `None`: what was given was lost, and is to be asked for again.
    async fn wait(self: &Arc<Self>, mut waiting: Waiting, wanted: Wanted<'_>) -> Result<Option<Lease>, CheckoutError> {
        let started = Instant::now();
        let limit = self.settings.lock().checkout_timeout;
        let handed = match timer::timeout(limit, &mut waiting.receiver).await {
            Ok(Ok(handed)) => handed,
            Ok(Err(_)) => unreachable!("a waiter's sender lives in the books until it is used"),
            Err(_) => {
                return Err(CheckoutError::Exhausted { waited: started.elapsed(), counts: self.counts() });
            }
        };
        waiting.served = true;
        drop(waiting);
        let place = match handed {
            Some(connection) => {
                // It may have been given by a thread that did not see who waits.
                let Some(mut lease) = Lease::of(connection, self.clone()).brought_over().await else { return Ok(None) };
                let suits = lease.suits(wanted.state, wanted.text).is_some() && lease.is_fit();
                if suits {
                    self.note_wait(started);
                    lease.serial += 1;
                    self.inside.lock().reused += 1;
                    return Ok(Some(lease));
                }
                // It was his turn: whoever began to wait after him waits on.
                lease.close()
            }
            None => self.clone(),
        };
        self.open(Place(Some(place)), wanted, started).await.map(Some)
    }

    async fn open(self: &Arc<Self>, place: Place, wanted: Wanted<'_>, started: Instant) -> Result<Lease, CheckoutError> {
        let timeout = self.settings.lock().connect_timeout;
        let outdated = self.outdated.load(Ordering::Acquire);
        let login = Login {
            user: wanted.key.user.to_string(),
            credential: Credential::clone(wanted.credential),
            schema: None,
            collation: wanted.collation,
            capabilities: ALWAYS_CAPABILITIES | wanted.key.capabilities,
            compression: self.compression,
            attributes: wanted.attributes.to_vec(),
            client: wanted.key.client,
        };
        let connected = connect::connect(&self.address, &self.tls(), &login, timeout).await.map_err(CheckoutError::Connect)?;
        let needed = (wanted.key.capabilities & LAYOUT_CAPABILITIES) | Capabilities::DEPRECATE_EOF;
        let missing = needed - connected.capabilities;
        if missing != Capabilities::NONE {
            let text = format!("the server does not offer {missing:?}, which Sluice or this client needs");
            return Err(CheckoutError::Setup(CommandError::Nonsense(text)));
        }
        // A login has one byte for the collation. What was named instead of a greater one is what the connection has.
        let have = match connected.collation == wanted.collation || wanted.key.raw_collation != 0 {
            true => wanted.fresh.clone(),
            false => Arc::new(State::with_collation(connected.collation, connected.flavor() == Flavor::MariaDb)),
        };
        let mut connection = Connection::new(connected, self.server, wanted.key.clone(), have, self.expiry());
        connection.outdated = outdated;
        self.begin(&mut connection).await?;
        self.note_wait(started);
        Ok(Lease::of(Box::new(connection), place.filled()))
    }

    /// When a connection opened now is to be closed.
    fn expiry(&self) -> Instant {
        Instant::now() + self.settings.lock().max_lifetime
    }

    /// The first command of a connection that is logged in. It may take as long as the login, and ends when the server is given up.
    async fn begin(&self, connection: &mut Connection) -> Result<(), CheckoutError> {
        self.make_severable(connection);
        connection.prepared_max = self.room.max.clone();
        let PoolSettings { connect_timeout: after, idle_timeout, .. } = *self.settings.lock();
        let late = |_| CheckoutError::Connect(ConnectError::Timeout { address: self.address.clone(), after });
        timer::timeout(after, connection.track_session()).await.map_err(late)?.map_err(CheckoutError::Setup)?;
        // A server that waits for longer than connections are kept need not be thought of.
        connection.idle_limit = connection.idle_limit.filter(|limit| *limit < idle_timeout + RETIRED_WITHIN);
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn make_severable(&self, connection: &mut Connection) {
        let Ok(severer) = connection.stream.severer() else { return };
        let severer = Arc::new(severer);
        let mut all = self.severers.lock();
        if all.len() >= all.capacity() {
            all.retain(|(_, s)| s.strong_count() > 0);
        }
        all.push((connection.thread_id, Arc::downgrade(&severer)));
        connection.severer = Some(severer);
    }

    /// Whether the connection with this number at the server is one of this pool's, idle or in use.
    pub fn owns(&self, thread_id: u64) -> bool {
        self.severers.lock().iter().any(|(id, severer)| *id == thread_id && severer.strong_count() > 0)
    }

    /// Takes in a connection that a login opened, when there is room for it; else it is closed.
    /// What it [began with](Connection::begins), where it was taken in.
    pub async fn adopt(self: &Arc<Self>, connected: Connected, key: &Arc<PoolKey>, fresh: &Arc<State>) -> Option<Arc<[Change]>> {
        let counts = self.counts();
        // A login's connection is not compressed.
        if self.compression.is_none()
            && counts.used + counts.idle < counts.max
            && let Some(lease) = self.take_in(connected, key, fresh).await
        {
            let begins = lease.begins.clone();
            lease.give_back(Instant::now());
            return Some(begins);
        }
        None
    }

    /// Takes in a connection that a login opened, in place of an idle one if need be. `None`: all are in use, or it broke.
    pub async fn take_in(self: &Arc<Self>, connected: Connected, key: &Arc<PoolKey>, fresh: &Arc<State>) -> Option<Lease> {
        let place = {
            let mut inside = self.inside.lock();
            match inside.book.checkout(key, |_| None) {
                Checkout::Open { evict } => {
                    drop(evict);
                    Place(Some(self.clone()))
                }
                // The only other answers are a place in the queue and an idle connection, which the score rules out.
                Checkout::Wait(ticket) => {
                    inside.book.give_up(ticket);
                    return None;
                }
                Checkout::Use(_) => return None,
            }
        };
        let mut connection = Connection::new(connected, self.server, key.clone(), fresh.clone(), self.expiry());
        connection.outdated = self.outdated.load(Ordering::Acquire);
        self.begin(&mut connection).await.ok()?;
        Some(Lease::of(Box::new(connection), place.filled()))
    }

    /// Counts every wait in this histogram, too.
    pub fn tell_waits(&self, histogram: prometheus::Histogram) {
        let _ = self.waits.set(histogram);
    }

    fn note_wait(&self, started: Instant) {
        let waited = started.elapsed();
        self.wait_us.record(waited);
        if let Some(histogram) = self.waits.get() {
            histogram.observe(waited.as_secs_f64());
        }
    }
}
