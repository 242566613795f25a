//! The threads that clients live on: one reactor and one run queue each, so that a statement never changes the thread.
//!
//! A work-stealing pool would spread a burst better, but it moves a client's memory from core to core and wakes sleeping
//! threads for work that lasts microseconds. A new client goes to the worker with the fewest.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::net::{Worker as Home, timer};

/// Tasks that run before a worker looks for events again. Tokio's own default is 61: with many busy clients their replies
/// would wait behind a long queue, with fewer the system call would cost more than it finds.
const EVENT_INTERVAL: u32 = 61;

/// The workers. Dropping it ends their threads, and with them whoever lives there.
#[derive(Debug)]
pub struct Workers {
    all: Vec<Worker>,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    clients: Arc<AtomicUsize>,
    /// Dropped, it tells the thread to end.
    _until: oneshot::Sender<()>,
}

/// One client of a worker, counted for as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// Starts `count` threads; 0 means as many as the machine lets the process use. Started on a runtime, they leave their timers
    /// to it (see [`timer`]).
    ///
    /// # Errors
    /// Those of the system, when it gives no thread or no reactor.
    pub fn start(count: usize) -> io::Result<Workers> {
        let count = if count == 0 { thread::available_parallelism().map_or(1, usize::from) } else { count };
        let all = (0..u16::try_from(count).unwrap_or(u16::MAX - 1)).map(Worker::start).collect::<io::Result<_>>()?;
        Ok(Workers { all })
    }

    /// Runs a client's task on the worker with the fewest clients.
    pub fn spawn<F>(&self, client: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let worker = self.all.iter().min_by_key(|w| w.clients.load(Ordering::Relaxed)).expect("there is at least one worker");
        worker.clients.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(worker.clients.clone());
        worker
            .runtime
            .spawn(async move {
                client.await;
                drop(counted);
            })
            .abort_handle()
    }
}

impl Worker {
    fn start(number: u16) -> io::Result<Worker> {
        let mut builder = Builder::new_current_thread();
        builder.enable_io().event_interval(EVENT_INTERVAL);
        let clock = Handle::try_current().ok();
        if clock.is_none() {
            builder.enable_time();
        }
        let runtime = builder.build()?;
        let handle = runtime.handle().clone();
        let (until, told) = oneshot::channel::<()>();
        thread::Builder::new().name(format!("sluice-{number}")).spawn(move || {
            Home::new(number).settle();
            if let Some(clock) = clock {
                timer::set_clock(clock);
            }
            // An error is the sender's end, which is what is waited for.
            let _ = runtime.block_on(told);
        })?;
        Ok(Worker { runtime: handle, clients: Arc::default(), _until: until })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn clients_are_spread_and_a_worker_knows_itself() {
        let workers = Workers::start(2).unwrap();
        let (tell, told) = mpsc::channel();
        let homes: Vec<Home> = (0..4)
            .map(|_| {
                let tell = tell.clone();
                workers.spawn(async move {
                    tell.send(Home::here()).unwrap();
                    std::future::pending::<()>().await;
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
        let workers = Workers::start(1).unwrap();
        let (tell, told) = mpsc::channel();
        let task = workers.spawn(async move {
            tell.send(()).unwrap();
            std::future::pending::<()>().await;
        });
        told.recv().unwrap();
        assert_eq!(workers.all[0].clients.load(Ordering::Relaxed), 1);
        task.abort();
        while workers.all[0].clients.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
    }
}
