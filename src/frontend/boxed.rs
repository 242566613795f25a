//! A future that is made in its box.

use std::future::poll_fn;

/// Awaits a future in a box of its own. What `Box::pin` is given is made on the stack and copied, all of it, though next to nothing of it is
/// written yet: two kilobytes for every statement.
pub(super) async fn boxed<F: Future>(make: impl FnOnce() -> F) -> F::Output {
    let mut place = Box::pin(None);
    place.set(Some(make()));
    poll_fn(|cx| place.as_mut().as_pin_mut().expect("it was put there").poll(cx)).await
}
