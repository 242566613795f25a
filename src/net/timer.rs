//! Timers for whoever may run on a worker: workers have a reactor and no clock.
//!
//! A runtime with a clock reads the time and looks through its timers each time it waits, which for a proxy is twice a statement.
//! Statements set timers seldom (when they must wait for a connection or a master), so those of the workers run on the main
//! runtime's clock, and wake the worker from there. Tokio's own `sleep` and `timeout` panic on a worker: a test of the house sees
//! that the rooms use these.

use std::cell::RefCell;
use std::future::Future;
use std::time::{Duration, Instant};

use tokio::runtime::{EnterGuard, Handle};
pub use tokio::time::Sleep;
use tokio::time::Timeout;

thread_local! {
    static CLOCK: RefCell<Option<Handle>> = const { RefCell::new(None) };
}

/// Makes `runtime`, which must have a clock and outlive this thread's futures, keep the timers that are set on this thread.
pub fn set_clock(runtime: Handle) {
    CLOCK.set(Some(runtime));
}

fn on_the_clock<R>(set: impl FnOnce() -> R) -> R {
    CLOCK.with_borrow(|clock| {
        let _entered: Option<EnterGuard<'_>> = clock.as_ref().map(Handle::enter);
        set()
    })
}

/// [`tokio::time::sleep`].
pub fn sleep(duration: Duration) -> Sleep {
    on_the_clock(|| tokio::time::sleep(duration))
}

/// [`tokio::time::sleep_until`].
pub fn sleep_until(deadline: Instant) -> Sleep {
    on_the_clock(|| tokio::time::sleep_until(deadline.into()))
}

/// [`tokio::time::timeout`].
pub fn timeout<F: Future>(limit: Duration, future: F) -> Timeout<F> {
    on_the_clock(|| tokio::time::timeout(limit, future))
}
