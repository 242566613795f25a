//! Futures that are boxed for a moment, again and again.
//!
//! What a statement needs while it runs is some kilobytes, made and freed for each. An allocator keeps such sizes ready less well than small ones: this
//! keeps the memory of the last ones for the next, each thread its own.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll};

/// How many layouts a thread keeps memory of, which are those that it met first. There is one for each function that boxes: to be raised with them.
const SHELVES_MAX: usize = 4;
/// How much of each.
const KEPT_MAX: usize = 64;

/// Memory of one layout, that nobody uses.
struct Shelf {
    layout: Layout,
    kept: Vec<NonNull<u8>>,
}

impl Drop for Shelf {
    fn drop(&mut self) {
        for memory in self.kept.drain(..) {
            // SAFETY: it was allocated with this layout, and nobody uses it.
            unsafe { dealloc(memory.as_ptr(), self.layout) };
        }
    }
}

thread_local! {
    static SHELVES: RefCell<Vec<Shelf>> = const { RefCell::new(Vec::new()) };
}

/// Memory of the layout that was kept on this thread.
fn kept(layout: Layout) -> Option<NonNull<u8>> {
    SHELVES.try_with(|shelves| shelves.try_borrow_mut().ok()?.iter_mut().find(|s| s.layout == layout)?.kept.pop()).ok().flatten()
}

/// Keeps the memory on this thread; `false` where there is no room for it, or the thread is ending.
fn keep(layout: Layout, memory: NonNull<u8>) -> bool {
    let keep = |shelves: &RefCell<Vec<Shelf>>| {
        let mut shelves = shelves.try_borrow_mut().ok()?;
        if !shelves.iter().any(|shelf| shelf.layout == layout) && shelves.len() < SHELVES_MAX {
            shelves.push(Shelf { layout, kept: Vec::with_capacity(KEPT_MAX) });
        }
        let shelf = shelves.iter_mut().find(|shelf| shelf.layout == layout && shelf.kept.len() < KEPT_MAX)?;
        shelf.kept.push(memory);
        Some(())
    };
    SHELVES.try_with(keep).ok().flatten().is_some()
}

/// Memory for one value of a layout, whether there is one in it or not.
struct Memory {
    at: NonNull<u8>,
    layout: Layout,
}

impl Memory {
    fn new(layout: Layout) -> Memory {
        let at = match layout.size() {
            // A value without a size needs none.
            0 => NonNull::without_provenance(std::num::NonZero::new(layout.align()).expect("an alignment is not 0")),
            _ => kept(layout).unwrap_or_else(|| {
                // SAFETY: the size is not 0.
                NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
            }),
        };
        Memory { at, layout }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.layout.size() > 0 && !keep(self.layout, self.at) {
            // SAFETY: it was allocated with this layout, and nobody uses it any more.
            unsafe { dealloc(self.at.as_ptr(), self.layout) };
        }
    }
}

/// A future in memory of its own, which its thread keeps for the next of the same type.
pub struct Boxed<F> {
    // Dropped behind what is in it, see `drop`.
    memory: Memory,
    holds: PhantomData<F>,
}

// What is in it stays where it is.
impl<F> Unpin for Boxed<F> {}

// SAFETY: it owns the future and its memory alone, like a `Box`; memory that is kept may come from any thread.
unsafe impl<F: Send> Send for Boxed<F> {}

impl<F> Boxed<F> {
    /// Has the future made in its place: what `Box::pin` is given is made on the stack and copied, all of it, though next to nothing of it is written yet.
    pub fn new(make: impl FnOnce() -> F) -> Boxed<F> {
        let memory = Memory::new(Layout::new::<F>());
        // SAFETY: the memory has the layout of an `F` and is nobody else's. Where `make` panics, it is given back without one.
        unsafe { memory.at.cast::<F>().write(make()) };
        Boxed { memory, holds: PhantomData }
    }
}

impl<F: Future> Future for Boxed<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: there is one from `new` to `drop`; it is not moved from there, and borrowed as this is.
        unsafe { Pin::new_unchecked(self.memory.at.cast::<F>().as_mut()) }.poll(cx)
    }
}

impl<F> Drop for Boxed<F> {
    fn drop(&mut self) {
        // SAFETY: it is dropped once, where it is, before its memory is given back.
        unsafe { self.memory.at.cast::<F>().drop_in_place() };
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::rc::Rc;
    use std::task::Waker;

    use super::*;

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn count_kept() -> usize {
        SHELVES.with_borrow(|shelves| shelves.iter().map(|shelf| shelf.kept.len()).sum())
    }

    /// Holds so much while it waits.
    async fn waits<const N: usize>(seen: Rc<()>, times: u8) -> usize {
        let held = [1u8; N];
        for _ in 0..times {
            let mut once = false;
            std::future::poll_fn(|_| if std::mem::replace(&mut once, true) { Poll::Ready(()) } else { Poll::Pending }).await;
        }
        drop(seen);
        held.iter().map(|byte| usize::from(*byte)).sum()
    }

    #[test]
    fn it_is_run_and_dropped_as_one_in_a_box() {
        for times in 0..3 {
            let seen = Rc::new(());
            let mut boxed = pin!(Boxed::new(|| waits::<3000>(seen.clone(), times)));
            for _ in 0..times {
                assert!(poll(boxed.as_mut()).is_pending());
                assert_eq!(Rc::strong_count(&seen), 2);
            }
            assert_eq!(poll(boxed.as_mut()), Poll::Ready(3000));
            assert_eq!(Rc::strong_count(&seen), 1);
        }
        // One that is dropped while it waits, or before it ran.
        let seen = Rc::new(());
        let mut begun = Box::pin(Boxed::new(|| waits::<3000>(seen.clone(), 1)));
        assert!(poll(begun.as_mut()).is_pending());
        let idle = Boxed::new(|| waits::<100>(seen.clone(), 1));
        assert_eq!(Rc::strong_count(&seen), 3);
        drop((begun, idle));
        assert_eq!(Rc::strong_count(&seen), 1);
    }

    #[test]
    fn its_memory_is_the_next_ones() {
        let seen = Rc::new(());
        let at = |boxed: &Boxed<_>| boxed.memory.at;
        let first = Boxed::new(|| waits::<2000>(seen.clone(), 0));
        let place = at(&first);
        drop(first);
        assert_eq!(count_kept(), 1);
        let second = Boxed::new(|| waits::<2000>(seen.clone(), 0));
        assert_eq!((at(&second), count_kept()), (place, 0));
        // Of another layout it is not.
        let other = Boxed::new(|| waits::<2500>(seen.clone(), 0));
        drop(second);
        assert_ne!(other.memory.at, place);
        drop(other);
        assert_eq!(count_kept(), 2);
        let many: Vec<_> = (0..KEPT_MAX + 9).map(|_| Boxed::new(|| waits::<2000>(seen.clone(), 0))).collect();
        drop(many);
        assert_eq!(count_kept(), KEPT_MAX + 1);
        drop((Boxed::new(|| waits::<2600>(seen.clone(), 0)), Boxed::new(|| waits::<2700>(seen.clone(), 0))));
        drop(Boxed::new(|| waits::<2800>(seen.clone(), 0)));
        assert_eq!(SHELVES.with_borrow(Vec::len), SHELVES_MAX);
        assert_eq!(Rc::strong_count(&seen), 1);
    }

    #[test]
    fn one_that_is_not_made_leaves_its_memory() {
        let made =
            std::panic::catch_unwind(|| drop(Boxed::new(|| -> std::future::Ready<[u8; 999]> { panic!("one that a test wants") })));
        assert!(made.is_err());
        assert_eq!(count_kept(), 1);
        // And one without a size has none.
        let mut empty = pin!(Boxed::new(std::future::pending::<()>));
        assert!(poll(empty.as_mut()).is_pending());
        assert_eq!(count_kept(), 1);
    }

    #[test]
    fn it_may_end_on_another_thread() {
        let boxed = Boxed::new(|| async { [7u8; 900].len() });
        let there = std::thread::spawn(move || {
            let mut boxed = pin!(boxed);
            poll(boxed.as_mut())
        });
        assert_eq!(there.join().unwrap(), Poll::Ready(900));
        assert_eq!(count_kept(), 0);
    }
}
