//! The threads that clients live on: one reactor and one run queue each, so that a statement never changes the thread.
//!
//! A work-stealing pool would spread a burst better, but it moves a client's memory from core to core and wakes sleeping
//! threads for work that lasts microseconds. A new client goes to the worker with the fewest.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::net::tasks::{self, Alive, Tasks};
use crate::net::{Worker as Home, ring, timer};

/// Tasks that run before a worker without a ring looks for events again. Tokio's own default is 61: with many busy clients their replies
/// would wait behind a long queue, with fewer the system call would cost more than it finds.
const EVENT_INTERVAL: u32 = 61;

/// The workers. Dropping it ends their threads, and with them whoever lives there.
#[derive(Debug)]
pub struct Workers {
    all: Vec<Worker>,
}

#[derive(Debug)]
struct Worker {
    /// Has its reactor, and runs its clients where it has no ring.
    runtime: Handle,
    /// Its clients and what they start, where its sockets are on a ring.
    tasks: Tasks,
    /// How many clients it has where they are not.
    clients: Arc<AtomicUsize>,
    /// Whether its sockets are on a ring, or why they cannot be.
    on_ring: io::Result<bool>,
    /// Dropped, it tells the thread to end.
    _until: oneshot::Sender<()>,
}

/// One client of a worker, counted for as long as this lives.
pub enum Counted {
    /// On a ring.
    Ring(Alive),
    /// On the reactor.
    Reactor(Arc<AtomicUsize>),
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Counted::Reactor(clients) = self {
            clients.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Ends a client from outside.
#[derive(Debug)]
pub enum ClientEnder {
    /// On a ring.
    Ring(tasks::Ender),
    /// On the reactor.
    Reactor(AbortHandle),
}

impl ClientEnder {
    /// Ends it wherever it stands, if it has not ended.
    pub fn end(&self) {
        match self {
            ClientEnder::Ring(task) => task.end(),
            ClientEnder::Reactor(task) => task.abort(),
        }
    }
}

impl Workers {
    /// Starts `count` threads; 0 means as many as the machine lets the process use. Started on a runtime, they leave their timers
    /// to it (see [`timer`]). `on_ring`: their sockets are on a [`ring`] each, where the system gives one.
    ///
    /// # Errors
    /// Those of the system, when it gives no thread or no reactor.
    pub fn start(count: usize, on_ring: bool) -> io::Result<Workers> {
        let count = if count == 0 { thread::available_parallelism().map_or(1, usize::from) } else { count };
        let numbers = 0..u16::try_from(count).unwrap_or(u16::MAX - 1);
        Ok(Workers { all: numbers.map(|number| Worker::start(number, on_ring)).collect::<io::Result<_>>()? })
    }

    /// Says in the log what drives their sockets.
    pub fn tell_what_drives_them(&self) {
        let threads = self.all.len();
        match self.all.iter().find_map(|worker| worker.on_ring.as_ref().err()) {
            Some(e) => {
                tracing::info!(threads, "the sockets are on epoll, since io_uring cannot be had ({e}): it would take less CPU")
            }
            None if self.all.iter().all(Worker::is_on_ring) => {
                tracing::info!(threads, "the sockets are on io_uring")
            }
            None => tracing::info!(threads, "the sockets are on epoll (proxy.io_uring = false)"),
        }
    }

    /// Runs a client's task on the worker with the fewest clients. The task keeps what it is given to its end: a task around it would
    /// hold the client twice, as it came and as it runs.
    pub fn spawn<F>(&self, client: impl FnOnce(Counted) -> F) -> ClientEnder
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let worker = self.all.iter().min_by_key(|worker| worker.clients()).expect("there is at least one worker");
        if worker.is_on_ring() {
            return ClientEnder::Ring(worker.tasks.spawn(|alive| client(Counted::Ring(alive))));
        }
        worker.clients.fetch_add(1, Ordering::Relaxed);
        ClientEnder::Reactor(worker.runtime.spawn(client(Counted::Reactor(worker.clients.clone()))).abort_handle())
    }
}

impl Worker {
    fn start(number: u16, on_ring: bool) -> io::Result<Worker> {
        let mut builder = Builder::new_current_thread();
        builder.enable_io().event_interval(EVENT_INTERVAL);
        let clock = Handle::try_current().ok();
        if clock.is_none() {
            builder.enable_time();
        }
        // A ring waits in the runtime's place, and knows nothing of a clock.
        let on_ring = on_ring && clock.is_some();
        let runtime = builder.build()?;
        let handle = runtime.handle().clone();
        let (until, told) = oneshot::channel::<()>();
        let (tell, started) = mpsc::channel();
        let tasks = Tasks::default();
        let run = tasks.clone();
        thread::Builder::new().name(format!("sluice-{number}")).spawn(move || {
            Home::new(number).settle();
            if let Some(clock) = clock {
                timer::set_clock(clock);
            }
            runtime.block_on(async {
                let begun = on_ring.then(ring::start).transpose().map(|begun| begun.is_some());
                let has_ring = matches!(begun, Ok(true));
                _ = tell.send(begun);
                // Of the worker's end, an error is what is waited for.
                match has_ring {
                    true => run.run(told).await,
                    false => _ = told.await,
                }
            });
        })?;
        let on_ring = started.recv().map_err(|_| io::Error::other("a worker's thread ended at once"))?;
        Ok(Worker { runtime: handle, tasks, clients: Arc::default(), on_ring, _until: until })
    }

    fn is_on_ring(&self) -> bool {
        matches!(self.on_ring, Ok(true))
    }

    fn clients(&self) -> usize {
        match self.is_on_ring() {
            true => self.tasks.count(),
            false => self.clients.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_spread_and_a_worker_knows_itself() {
        let workers = Workers::start(2, true).unwrap();
        let (tell, told) = mpsc::channel();
        let homes: Vec<Home> = (0..4)
            .map(|_| {
                let tell = tell.clone();
                workers.spawn(|counted| async move {
                    tell.send(Home::here()).unwrap();
                    std::future::pending::<()>().await;
                    drop(counted);
                });
                told.recv().unwrap()
            })
            .collect();
        assert_eq!(homes.iter().filter(|h| **h == Home::new(0)).count(), 2, "{homes:?}");
        assert_eq!(homes.iter().filter(|h| **h == Home::new(1)).count(), 2, "{homes:?}");
        assert_eq!(Home::here(), Home::NONE);
    }

    #[test]
    fn a_client_that_ended_is_counted_no_more() {
        let workers = Workers::start(1, true).unwrap();
        let (tell, told) = mpsc::channel();
        let (dropped, ended) = mpsc::channel::<()>();
        let task = workers.spawn(|counted| async move {
            tell.send(()).unwrap();
            std::future::pending::<()>().await;
            drop((counted, dropped));
        });
        told.recv().unwrap();
        assert_eq!(workers.all[0].clients(), 1);
        task.end();
        // The other end goes with what the client had.
        assert!(ended.recv_timeout(std::time::Duration::from_secs(20)) == Err(mpsc::RecvTimeoutError::Disconnected));
        assert_eq!(workers.all[0].clients(), 0);
    }
}
