//! The tasks of a worker whose sockets are on a [`ring`]: one future for each of its clients.
//!
//! A runtime of tokio's stays underneath, for its reactor. It would do for the tasks as well, and does where there is no ring, but each time it
//! has run what there was to run it asks the reactor, with a system call, for what nearly always the ring alone can tell. Here the ring says
//! whether the reactor has something, and it gets its turn then.
//!
//! So what is woken on the thread itself must be one of its tasks: a task of tokio's would wait there until the reactor has something. A panic ends the
//! task that it happens in, but one in the destructor of a task ends the process.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};

use async_task::{Runnable, Task};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::{coop, unconstrained, yield_now};

use crate::net::ring;

/// Tasks that run before the ring and the reactor are asked again, however many more could. Tokio's number for the same.
const RUN_MAX: usize = 61;
/// Pieces of work a task may do before others have their turn, though it could go on. Tokio's number for the same.
const BUDGET: u32 = 128;

/// The tasks of one thread, for whoever gives it more.
#[derive(Clone, Debug, Default)]
pub struct Tasks(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    lives: Mutex<Lives>,
    /// Tasks that other threads have woken.
    woken: Mutex<Woken>,
    any_woken: AtomicBool,
    /// Wakes the thread.
    thread: Mutex<Option<Waker>>,
}

#[derive(Debug, Default)]
struct Lives {
    tasks: HashMap<u64, Task<()>>,
    last: u64,
}

#[derive(Debug, Default)]
struct Woken {
    tasks: Vec<Runnable>,
    /// There is no thread any more that would run them.
    ended: bool,
}

/// What belongs to the thread alone.
struct Here {
    tasks: Tasks,
    ready: VecDeque<Runnable>,
}

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
    /// What is left of the budget of the task that runs; `None` where tokio's holds.
    static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Kept by a task for as long as it lives, and dropped with it: a task that drops it ends where it waits next, and one that never had it is counted until
/// the thread ends.
#[derive(Debug)]
pub struct Alive {
    tasks: Tasks,
    number: u64,
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.tasks.forget(self.number);
    }
}

/// Ends a task from outside.
#[derive(Debug)]
pub struct Ender {
    tasks: Tasks,
    number: u64,
}

impl Ender {
    /// Ends the task where it stands, if it has not ended.
    pub fn end(&self) {
        self.tasks.forget(self.number);
    }
}

impl Tasks {
    /// Those of this thread, where it runs any.
    pub fn here() -> Option<Tasks> {
        HERE.try_with(|here| here.borrow().as_ref().map(|here| here.tasks.clone())).ok().flatten()
    }

    /// How many there are that have not been ended, those started [`beside`] others too.
    pub fn count(&self) -> usize {
        self.0.lives.lock().tasks.len()
    }

    /// Starts a task, which keeps what it is given.
    pub fn spawn<F>(&self, make: impl FnOnce(Alive) -> F) -> Ender
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut lives = self.0.lives.lock();
        lives.last += 1;
        let number = lives.last;
        drop(lives);
        let tasks = self.clone();
        let schedule = move |runnable| tasks.schedule(runnable);
        let (runnable, task) = async_task::spawn(make(Alive { tasks: self.clone(), number }), schedule);
        self.0.lives.lock().tasks.insert(number, task);
        runnable.schedule();
        Ender { tasks: self.clone(), number }
    }

    /// Runs the tasks on this thread, whose ring has been started, until `until` is done; then ends those that are left. It is what the thread's runtime is
    /// told to block on: the waker of that interrupts the reactor's waiting, and thereby the ring's, whatever the thread is doing.
    pub async fn run(self, until: impl Future + Send + 'static) {
        poll_fn(|cx| {
            *self.0.thread.lock() = Some(cx.waker().clone());
            Poll::Ready(())
        })
        .await;
        // As a task of the runtime's, it comes back behind the reactor's turn without a system call; what the runtime blocks on would take one.
        _ = tokio::spawn(self.run_all(until)).await;
    }

    async fn run_all(self, until: impl Future + Send + 'static) {
        HERE.set(Some(Here { tasks: self.clone(), ready: VecDeque::new() }));
        // One of the tasks itself: what is woken on this thread otherwise is not seen before it is the reactor's turn.
        let until = async move { _ = until.await };
        let tasks = self.clone();
        let (runnable, until) = async_task::spawn(until, move |runnable| tasks.schedule(runnable));
        runnable.schedule();
        // Tokio would give all of them together what it gives one of its own.
        unconstrained(poll_fn(|cx| self.go_on(&until, cx))).await;
        self.end();
    }

    /// Runs what can run. Pending when it is the reactor's turn.
    fn go_on(&self, until: &Task<()>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.take_woken();
            let none_left = (0..RUN_MAX).any(|_| !run_next());
            if until.is_finished() {
                return Poll::Ready(());
            }
            if ring::turn(none_left && !self.0.any_woken.load(Ordering::Acquire)) {
                // The runtime looks at its reactor, and does not wait there.
                return pin!(yield_now()).poll(cx);
            }
        }
    }

    fn take_woken(&self) {
        if self.0.any_woken.swap(false, Ordering::AcqRel) {
            let woken = mem::take(&mut self.0.woken.lock().tasks);
            HERE.with_borrow_mut(|here| here.as_mut().map(|here| here.ready.extend(woken)));
        }
    }

    /// Has a task run that was woken, on whichever thread. From another one the runtime's waker is told, which writes to a descriptor that the reactor
    /// watches; on this one it would not, and needs not.
    fn schedule(&self, runnable: Runnable) {
        let mut runnable = Some(runnable);
        _ = HERE.try_with(|here| {
            if let Ok(mut here) = here.try_borrow_mut()
                && let Some(here) = here.as_mut().filter(|here| Arc::ptr_eq(&here.tasks.0, &self.0))
            {
                here.ready.extend(runnable.take());
            }
        });
        let Some(runnable) = runnable else { return };
        let mut woken = self.0.woken.lock();
        if woken.ended {
            // Dropped behind the lock, it ends here.
            drop(woken);
            return drop(runnable);
        }
        woken.tasks.push(runnable);
        drop(woken);
        if !self.0.any_woken.swap(true, Ordering::AcqRel)
            && let Some(thread) = &*self.0.thread.lock()
        {
            thread.wake_by_ref();
        }
    }

    fn forget(&self, number: u64) {
        // Dropped behind the lock: that may wake it, for the last time.
        let task = self.0.lives.lock().tasks.remove(&number);
        drop(task);
    }

    fn end(&self) {
        loop {
            // Each is woken once more, to be dropped on this thread. It may start others.
            let tasks = mem::take(&mut self.0.lives.lock().tasks);
            if tasks.is_empty() {
                break;
            }
            drop(tasks);
            self.take_woken();
            while run_next() {}
        }
        let mut woken = self.0.woken.lock();
        woken.ended = true;
        let left = mem::take(&mut woken.tasks);
        drop(woken);
        drop(left);
        HERE.set(None);
    }
}

/// Runs the task whose turn it is; `false` when there is none.
fn run_next() -> bool {
    let next = HERE.with_borrow_mut(|here| here.as_mut().and_then(|here| here.ready.pop_front()));
    let Some(runnable) = next else { return false };
    LEFT.set(Some(BUDGET));
    // A panic ends the task that it happened in. The panic hook has told of it.
    _ = catch_unwind(AssertUnwindSafe(|| runnable.run()));
    LEFT.set(None);
    true
}

/// Starts something beside the task that runs, on the same thread. Where no task runs and there is no runtime, it is not done.
pub fn beside(work: impl Future<Output = ()> + Send + 'static) {
    match Tasks::here() {
        Some(tasks) => {
            _ = tasks.spawn(|alive| async move {
                work.await;
                drop(alive);
            });
        }
        None => _ = Handle::try_current().map(|runtime| runtime.spawn(work)),
    }
}

/// Whether the task that runs may do one more piece of work; it is woken at once when it may not, behind the others that wait.
pub fn poll_proceed(cx: &mut Context<'_>) -> Poll<Proceeds> {
    match LEFT.get() {
        None => coop::poll_proceed(cx).map(|proceeds| Proceeds(Some(proceeds))),
        Some(0) => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        Some(_) => Poll::Ready(Proceeds(None)),
    }
}

/// A piece of work that the task may do. It counts when it was done.
pub struct Proceeds(Option<coop::RestoreOnPending>);

impl Proceeds {
    /// It was done.
    pub fn made_progress(self) {
        match self.0 {
            Some(tokios) => tokios.made_progress(),
            None => LEFT.set(LEFT.get().map(|left| left.saturating_sub(1))),
        }
    }
}

/// A piece of work that needs no waiting: others have their turn when there was enough of it.
pub async fn consume_budget() {
    poll_fn(|cx| {
        ready!(poll_proceed(cx)).made_progress();
        Poll::Ready(())
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;
    use std::thread::{self, ThreadId};
    use std::time::Duration;

    use tokio::runtime::Builder;
    use tokio::sync::{Notify, oneshot};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// A thread that runs tasks until it is dropped.
    struct Worker {
        tasks: Tasks,
        until: Option<oneshot::Sender<()>>,
        thread: Option<thread::JoinHandle<()>>,
    }

    impl Worker {
        fn new() -> Worker {
            let tasks = Tasks::default();
            let (until, told) = oneshot::channel::<()>();
            let run = tasks.clone();
            let thread = thread::spawn(move || {
                let runtime = Builder::new_current_thread().enable_io().build().unwrap();
                runtime.block_on(async {
                    if let Err(e) = ring::start() {
                        eprintln!("this machine gives no io_uring: {e}");
                    }
                    run.run(told).await;
                });
            });
            Worker { tasks, until: Some(until), thread: Some(thread) }
        }
    }

    impl Drop for Worker {
        fn drop(&mut self) {
            drop(self.until.take());
            self.thread.take().unwrap().join().unwrap();
        }
    }

    /// Tells where it was dropped.
    struct Dropped(mpsc::Sender<ThreadId>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            _ = self.0.send(thread::current().id());
        }
    }

    #[test]
    fn a_task_is_ended_where_it_waits_and_dropped_on_its_thread() {
        let worker = Worker::new();
        let its = worker.thread.as_ref().unwrap().thread().id();
        let (tell, told) = mpsc::channel();
        let (begin, begun) = mpsc::channel();
        for ends_itself in [false, true] {
            let (dropped, begin) = (Dropped(tell.clone()), begin.clone());
            let (hand, handed) = mpsc::channel::<Ender>();
            let task = worker.tasks.spawn(|alive| async move {
                begin.send(()).unwrap();
                if ends_itself {
                    handed.recv().unwrap().end();
                }
                std::future::pending::<()>().await;
                drop((alive, dropped));
            });
            begun.recv_timeout(LONG).unwrap();
            assert!(told.try_recv().is_err());
            match ends_itself {
                true => hand.send(task).unwrap(),
                false => task.end(),
            }
            assert_eq!(told.recv_timeout(LONG).unwrap(), its, "by itself: {ends_itself}");
            assert_eq!(worker.tasks.count(), 0);
        }
        // And with the thread, also what a task starts as it ends.
        struct StartsAnother(mpsc::Sender<ThreadId>);
        impl Drop for StartsAnother {
            fn drop(&mut self) {
                let dropped = Dropped(self.0.clone());
                beside(async move {
                    std::future::pending::<()>().await;
                    drop(dropped);
                });
            }
        }
        let ends = StartsAnother(tell);
        worker.tasks.spawn(|alive| async move {
            begin.send(()).unwrap();
            std::future::pending::<()>().await;
            drop((alive, ends));
        });
        begun.recv_timeout(LONG).unwrap();
        drop(worker);
        assert_eq!(told.recv_timeout(LONG).unwrap(), its);
    }

    #[test]
    fn a_panic_ends_its_task_alone() {
        let worker = Worker::new();
        let (tell, told) = mpsc::channel();
        let dropped = Dropped(tell);
        worker.tasks.spawn(|alive| async move {
            let _kept = (alive, dropped);
            panic!("one that a test wants");
        });
        told.recv_timeout(LONG).unwrap();
        let (tell, told) = mpsc::channel();
        worker.tasks.spawn(|alive| async move {
            tell.send(()).unwrap();
            drop(alive);
        });
        told.recv_timeout(LONG).unwrap();
    }

    /// Each wake comes while the thread falls asleep, or just before or behind.
    #[test]
    fn no_wake_of_another_thread_is_lost() {
        let worker = Worker::new();
        let (ping, pong) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (heard, answers) = (ping.clone(), pong.clone());
        worker.tasks.spawn(|alive| async move {
            let _kept = alive;
            loop {
                heard.notified().await;
                answers.notify_one();
            }
        });
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            for n in 0..20_000 {
                ping.notify_one();
                tokio::time::timeout(LONG, pong.notified()).await.unwrap_or_else(|_| panic!("no answer to {n}"));
            }
        });
    }

    #[test]
    fn tasks_that_never_wait_take_turns() {
        let worker = Worker::new();
        let (tell, told) = mpsc::channel();
        let done: [Arc<AtomicUsize>; 2] = Default::default();
        for me in 0..2 {
            let (done, tell) = (done.clone(), tell.clone());
            worker.tasks.spawn(|alive| async move {
                for _ in 0..BUDGET * 100 {
                    done[me].fetch_add(1, Ordering::Relaxed);
                    consume_budget().await;
                    let [one, other] = [0, 1].map(|n| done[n].load(Ordering::Relaxed));
                    // The first begins alone.
                    if one.min(other) > 0 && one.abs_diff(other) > 2 * BUDGET as usize + 2 && one.max(other) < BUDGET as usize * 90
                    {
                        tell.send(Some((one, other))).unwrap();
                    }
                }
                tell.send(None).unwrap();
                drop(alive);
            });
        }
        assert_eq!(told.recv_timeout(LONG).unwrap(), None);
        assert_eq!(told.recv_timeout(LONG).unwrap(), None);
    }
}
