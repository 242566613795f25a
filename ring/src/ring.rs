//! The ring of a thread: what its sockets have asked for, and what has come of it.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Waker;

use io_uring::squeue::{Entry, Flags};
use io_uring::{IoUring, cqueue, opcode, types};

use crate::buffers::Buffers;
use crate::request::{Home, Mailbox, Place, Standing, TURNS, Ticket, Woken};

/// Requests that may wait to be handed over; more are handed over in between.
const SUBMISSIONS: u32 = 1024;
/// Results that may wait to be taken. The kernel keeps more aside.
const COMPLETIONS: u32 = 8192;
/// Pieces of work after which the ring goes on, see [`breathe`].
const BREATHS: u32 = 32;

/// The reactor has something to do.
const REACTOR: u64 = u64::MAX;
/// What nobody waits for.
const IGNORED: u64 = u64::MAX - 1;

/// From `linux/socket.h` (asm-generic): all of it, and no signal when the peer has gone.
const MSG_WAITALL: i32 = 0x100;
const MSG_NOSIGNAL: i32 = 0x4000;
/// At once or not at all.
const MSG_DONTWAIT: i32 = 0x40;

/// Nothing can be sent now; a signal came; the request was taken back.
const AGAIN: i32 = rustix::io::Errno::AGAIN.raw_os_error();
pub(crate) const CANCELED: i32 = rustix::io::Errno::CANCELED.raw_os_error();
const INTR: i32 = rustix::io::Errno::INTR.raw_os_error();

#[derive(Debug)]
pub(crate) struct Ring {
    home: Arc<Home>,
    // Before what it uses: dropped first.
    uring: Uring,
    pub(crate) buffers: Buffers,
    pub(crate) places: Vec<Place>,
    free: Vec<usize>,
    pub(crate) stock: Vec<Vec<u8>>,
    /// Sends that are not handed over yet. Those of which nothing is told when they are, are done.
    sends: Vec<Ticket>,
    /// The descriptor of the thread's own reactor, which is watched while the ring waits.
    reactor: RawFd,
    watches_reactor: bool,
    /// Calls of [`breathe`] since it last turned.
    breaths: u32,
    pub(crate) woken: Woken,
    results: Vec<(u64, i32, u32)>,
}

struct Uring(IoUring);

impl std::fmt::Debug for Uring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Uring")
    }
}

thread_local! {
    static RING: RefCell<Option<Ring>> = const { RefCell::new(None) };
}

static NUMBERS: AtomicU32 = AtomicU32::new(1);

/// Runs `f` with the ring of this thread, when it has one.
pub(crate) fn here<R>(f: impl FnOnce(&mut Ring) -> R) -> Option<R> {
    RING.try_with(|ring| ring.try_borrow_mut().ok()?.as_mut().map(f)).ok().flatten()
}

/// Gives this thread a ring. `reactor` is the epoll descriptor of the thread's runtime: [`turn`] returns when it has something to tell.
///
/// # Errors
/// Those of the system: the kernel is older than 6.1, or io_uring is forbidden (`kernel.io_uring_disabled`, a container's seccomp profile).
pub fn start(reactor: RawFd) -> io::Result<()> {
    let ring = Ring::new(reactor)?;
    RING.with_borrow_mut(|place| *place = Some(ring));
    Ok(())
}

/// Whether this thread has a ring.
pub fn is_here() -> bool {
    here(|_| ()).is_some()
}

/// Hands over what was asked for and wakes whom what is done is for. `may_wait`, when the thread has nothing else to do: waits until something is done, or
/// the reactor has something to tell. Whether that one has: its runtime is to look at it then, without waiting. Without a ring it always has.
pub fn turn(may_wait: bool) -> bool {
    let Some((woken, reactor)) = here(|ring| ring.turn(may_wait)) else { return true };
    wake(woken);
    reactor
}

/// Called with each piece of work that may follow another without the thread ever coming to rest: now and then it has the ring go on meanwhile.
pub fn breathe() {
    let due = here(|ring| {
        ring.breaths += 1;
        (ring.breaths >= BREATHS).then(|| ring.turn(false))
    });
    // The reactor is watched anew, and has its turn in the next one that is asked for it.
    if let Some((woken, _reactor)) = due.flatten() {
        wake(woken);
    }
}

/// See [`Ring::take_back`]. `None` without a ring.
pub(crate) fn take_back(ticket: Ticket) -> Option<Standing> {
    let standing = here(|ring| ring.take_back(ticket));
    // Whoever was to be woken by what was done meanwhile.
    wake(here(|ring| std::mem::take(&mut ring.woken)).unwrap_or_default());
    standing
}

fn wake(mut woken: Woken) {
    // They may ask for more: the ring is not borrowed any more.
    woken.first.drain(..).chain(woken.others.drain(..)).for_each(Waker::wake);
    here(|ring| ring.woken = woken);
}

impl Ring {
    fn new(reactor: RawFd) -> io::Result<Ring> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            // Else one that does not wait would hand over, and take nothing.
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        let features = uring.params();
        if !features.is_feature_nodrop() || !features.is_feature_skip_cqe_on_success() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let buffers = Buffers::register(&uring)?;
        Ok(Ring {
            home: Arc::new(Home { number: NUMBERS.fetch_add(1, Ordering::Relaxed), mailbox: Mailbox::default() }),
            uring: Uring(uring),
            buffers,
            places: Vec::new(),
            free: Vec::new(),
            stock: Vec::new(),
            sends: Vec::new(),
            reactor,
            watches_reactor: false,
            breaths: 0,
            woken: Woken::default(),
            results: Vec::new(),
        })
    }

    pub(crate) fn home(&self) -> &Arc<Home> {
        &self.home
    }

    /// Has bytes sent, all of them, without anybody waiting for it yet. Nearly always the socket takes them when they are handed over, and nothing
    /// is told of that: a result of each would end the wait that follows.
    pub(crate) fn send(&mut self, socket: &Arc<TcpStream>, bytes: &[u8]) -> io::Result<Ticket> {
        let mut copy = self.stock.pop().unwrap_or_default();
        copy.extend_from_slice(bytes);
        let (ticket, fd) = self.place(socket, None, copy);
        let entry = send_entry(fd, &self.places[ticket.place()].bytes, MSG_DONTWAIT).flags(Flags::SKIP_SUCCESS);
        let ticket = self.push_for(ticket, entry)?;
        self.sends.push(ticket);
        Ok(ticket)
    }

    /// Has bytes sent that the peer does not take now.
    pub(crate) fn send_waiting(&mut self, socket: &Arc<TcpStream>, bytes: &[u8]) -> io::Result<Ticket> {
        let (ticket, fd) = self.place(socket, None, bytes.to_vec());
        let place = &mut self.places[ticket.place()];
        place.goes_on = true;
        let entry = send_entry(fd, &place.bytes, 0);
        self.push_for(ticket, entry)
    }

    /// Whether a send waits for its peer.
    pub(crate) fn waits_for_peer(&mut self, ticket: Ticket) -> bool {
        self.find(ticket).is_some_and(|place| place.goes_on)
    }

    /// Whether a send has failed before anything of it went out.
    pub(crate) fn sent_nothing(&mut self, ticket: Ticket) -> bool {
        self.find(ticket).is_some_and(|place| place.sent == 0 && place.done.is_some_and(|(result, _)| result < 0))
    }

    /// Has the rest of them sent when the peer takes it.
    fn send_rest(&mut self, ticket: Ticket) -> io::Result<()> {
        let Some(place) = self.find(ticket) else { return Ok(()) };
        let Some(rest) = place.bytes.get(place.sent..) else { return Ok(()) };
        let entry = send_entry(types::Fd(place.fd), rest, 0).user_data(ticket.bits());
        self.push(&entry)
    }

    /// A place for a request of the socket, which hands itself over with it when it is dropped ([`Ring::abandon`]).
    pub(crate) fn place(&mut self, socket: &Arc<TcpStream>, waker: Option<Waker>, bytes: Vec<u8>) -> (Ticket, types::Fd) {
        let at = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { turn: 1, ..Place::default() });
            self.places.len() - 1
        });
        let place = &mut self.places[at];
        place.fd = socket.as_raw_fd();
        place.bytes = bytes;
        if waker.is_some() {
            place.waker = waker;
        }
        (Ticket::new(at, place.turn), types::Fd(place.fd))
    }

    pub(crate) fn push_for(&mut self, ticket: Ticket, entry: Entry) -> io::Result<Ticket> {
        match self.push(&entry.user_data(ticket.bits())) {
            Ok(()) => Ok(ticket),
            Err(e) => {
                self.free(ticket);
                Err(e)
            }
        }
    }

    pub(crate) fn push(&mut self, entry: &Entry) -> io::Result<()> {
        loop {
            // SAFETY: what an entry points to is memory that its place keeps until the request is done, and a descriptor that its socket keeps open, or
            // once that was dropped, the mailbox and then the place (the reactor's descriptor lives as long as the thread's runtime); places are not freed before.
            if unsafe { self.uring.0.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            match self.uring.0.submit() {
                Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
                _ => {}
            }
        }
    }

    pub(crate) fn find(&mut self, ticket: Ticket) -> Option<&mut Place> {
        self.places.get_mut(ticket.place()).filter(|place| place.turn == ticket.turn())
    }

    /// How a request stands. Who finds that it waits is woken when it is done, when it says so.
    pub(crate) fn standing(&mut self, ticket: Ticket, waker: Option<&Waker>) -> Standing {
        let Some(place) = self.find(ticket) else { return Standing::None };
        match place.done {
            Some((result, _)) => Standing::Done(result),
            None => {
                if let Some(waker) = waker
                    && !place.waker.as_ref().is_some_and(|known| known.will_wake(waker))
                {
                    place.waker = Some(waker.clone());
                }
                Standing::Waits
            }
        }
    }

    /// Forgets a request that is done, with whatever it has brought.
    pub(crate) fn free(&mut self, ticket: Ticket) {
        let at = ticket.place();
        let Some(place) = self.find(ticket) else { return };
        // No ticket of before is its any more.
        let turn = ((place.turn + 1) % TURNS).max(1);
        let Place { done, bytes, .. } = std::mem::replace(place, Place { turn, fd: place.fd, ..Place::default() });
        self.recycle(done, bytes);
        self.free.push(at);
    }

    /// Nobody asks for the request any more: it is forgotten, at once or when the kernel has let it go. What was to be sent is sent as far as it goes
    /// without waiting.
    pub(crate) fn abandon(&mut self, ticket: Ticket, socket: Arc<TcpStream>) {
        let Some(place) = self.find(ticket) else { return };
        if place.done.is_some() && !place.stays {
            return self.free(ticket);
        }
        place.socket = Some(socket);
        place.orphan = true;
        place.waker = None;
        if let done @ Some(_) = place.done.take() {
            let bytes = std::mem::take(&mut place.bytes);
            self.recycle(done, bytes);
        }
        // Where it cannot be handed over, the request ends with its socket.
        if self.push(&cancel(ticket)).is_err()
            && let Some(socket) = self.find(ticket).and_then(|place| place.socket.as_ref())
        {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }

    fn turn(&mut self, may_wait: bool) -> (Woken, bool) {
        self.breaths = 0;
        loop {
            if !self.watches_reactor {
                // Asked anew each time, it tells of what is there already.
                let readable = rustix::event::PollFlags::IN.bits().into();
                let watch = opcode::PollAdd::new(types::Fd(self.reactor), readable).build().user_data(REACTOR);
                self.watches_reactor = self.push(&watch).is_ok();
            }
            // Without the watch nothing might end the wait. And of a send that is done nothing is told that would.
            let sent_soon = self.sends.iter().any(|send| self.places[send.place()].waker.is_some());
            let waits = may_wait && self.watches_reactor && !sent_soon;
            let (entered, reactor) = self.enter(waits);
            // Interrupted, or told of nothing that anybody waits for: the wait goes on.
            let goes_on = waits && !reactor && self.woken.is_empty();
            let failed = entered.is_err_and(|e| e.kind() != io::ErrorKind::Interrupted);
            if !goes_on || failed {
                // Where nobody watches it, it may have something at any time.
                return (std::mem::take(&mut self.woken), reactor || failed || !self.watches_reactor);
            }
        }
    }

    /// Hands over, waits for something to be done when it says so, and takes what is. Whether the reactor has something to tell.
    pub(crate) fn enter(&mut self, waits: bool) -> (io::Result<usize>, bool) {
        let entered = self.uring.0.submit_and_wait(usize::from(waits));
        // Of sends that were handed over all is told that will be, unless the kernel keeps results aside.
        let queue = self.uring.0.submission();
        let all_told = queue.is_empty() && !queue.cq_overflow();
        drop(queue);
        // What ended with a socket that was dropped elsewhere wakes nobody.
        self.read_mailbox();
        let reactor = self.take_results();
        if all_told {
            self.settle_sends();
        }
        (entered, reactor)
    }

    fn read_mailbox(&mut self) {
        self.home.mailbox.take().into_iter().for_each(|(ticket, socket)| self.abandon(ticket, socket));
    }

    /// Takes what is done; whether the reactor has something to tell.
    fn take_results(&mut self) -> bool {
        let mut results = std::mem::take(&mut self.results);
        results.extend(self.uring.0.completion().map(|done| (done.user_data(), done.result(), done.flags())));
        let mut reactor = false;
        for (ticket, result, flags) in results.drain(..) {
            if cqueue::buffer_select(flags).is_some() {
                self.buffers.note_taken();
            }
            match ticket {
                REACTOR => (self.watches_reactor, reactor) = (false, true),
                IGNORED => {}
                _ => self.done(Ticket::from_bits(ticket), result, flags),
            }
        }
        self.results = results;
        reactor
    }

    fn done(&mut self, ticket: Ticket, result: i32, flags: u32) {
        let Some(place) = self.find(ticket) else { return };
        if place.keeps {
            return self.brought(ticket, result, flags);
        }
        if !place.bytes.is_empty() && !place.orphan {
            // A send tells of itself when it could not be done at once, or was done later.
            place.sent += usize::try_from(result).unwrap_or(0);
            let left = place.sent < place.bytes.len();
            let goes_on = left && (result > 0 || result == -AGAIN || result == -INTR);
            place.goes_on |= goes_on;
            if goes_on && self.send_rest(ticket).is_ok() {
                return;
            }
            if !left {
                return self.finish(ticket);
            }
        }
        let Some(place) = self.find(ticket) else { return };
        place.done = Some((result, flags));
        let (orphan, waker, goes_first) = (place.orphan, place.waker.take(), place.goes_first);
        if orphan {
            self.free(ticket);
        }
        self.woken.note(waker, goes_first);
    }

    /// Forgets a send that is done, and wakes whoever waits for that.
    fn finish(&mut self, ticket: Ticket) {
        let waker = self.find(ticket).and_then(|place| place.waker.take());
        self.free(ticket);
        self.woken.note(waker, false);
    }

    /// Sends of which nothing was told when they were handed over are done.
    fn settle_sends(&mut self) {
        let mut sends = std::mem::take(&mut self.sends);
        for ticket in sends.drain(..) {
            let done = self.find(ticket).is_some_and(|place| place.done.is_none() && !place.goes_on);
            if done {
                self.finish(ticket);
            }
        }
        self.sends = sends;
    }
}

/// Takes a request back. Where there is none any more, that is told to nobody.
pub(crate) fn cancel(ticket: Ticket) -> Entry {
    opcode::AsyncCancel::new(ticket.bits()).build().user_data(IGNORED).flags(Flags::SKIP_SUCCESS)
}

/// The bytes must stay unchanged and at their address until the request is done: their place keeps them.
fn send_entry(fd: types::Fd, bytes: &[u8], flags: i32) -> Entry {
    opcode::Send::new(fd, bytes.as_ptr(), bytes.len() as u32).flags(MSG_WAITALL | MSG_NOSIGNAL | flags).build()
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Farewells that were asked for last.
        let _ = self.uring.0.submit();
        // What the kernel may still read is left where it is.
        std::mem::forget(std::mem::take(&mut self.places));
    }
}
