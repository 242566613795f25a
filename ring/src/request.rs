//! What a socket has asked its ring for, and how that stands.

use std::net::TcpStream;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use crate::ring::Ring;

/// Of a ticket's bits those that tell the place; the others tell the turn.
const PLACE_BITS: u32 = 24;
/// So many turns do not come round, and the highest bit stays free: no ticket is one of the ring's own numbers.
pub(crate) const TURNS: u64 = 1 << 39;

/// The number of a request: its place, and which of the requests that were there. 0 is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ticket(u64);

impl Ticket {
    pub(crate) const NONE: Ticket = Ticket(0);

    pub(crate) fn from_bits(bits: u64) -> Ticket {
        Ticket(bits)
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    pub(crate) fn new(place: usize, turn: u64) -> Ticket {
        Ticket(turn << PLACE_BITS | place as u64)
    }

    pub(crate) fn place(self) -> usize {
        (self.0 & ((1 << PLACE_BITS) - 1)) as usize
    }

    pub(crate) fn turn(self) -> u64 {
        self.0 >> PLACE_BITS
    }
}

/// How a request stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// Nobody has asked, or it was done and needs nothing more.
    None,
    /// The kernel has it.
    Waits,
    /// It is done with this result, negative an error number.
    Done(i32),
}

/// A place for a request. Where there is none, all but its turn and descriptor is as it begins.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// Which of the requests of this place it is, from 1 on; the number that no ticket has yet, while there is none.
    pub(crate) turn: u64,
    /// Its descriptor, which stays open as long as the kernel may use its number: the [`Socket`](crate::Socket) has it, and once that was dropped, this place,
    /// or the mailbox on the way there.
    pub(crate) fd: RawFd,
    /// The socket that was dropped.
    pub(crate) socket: Option<Arc<TcpStream>>,
    pub(crate) waker: Option<Waker>,
    /// Whoever waits for it is woken before others.
    pub(crate) goes_first: bool,
    pub(crate) done: Option<(i32, u32)>,
    /// A receive that brings one after the other: the kernel has it as long as it `stays`.
    pub(crate) keeps: bool,
    pub(crate) stays: bool,
    /// It was asked to end.
    pub(crate) asked_to_end: bool,
    /// How many bytes of what a receive has brought have been read.
    pub(crate) taken: usize,
    /// A send's bytes; those of a receive that were kept aside until somebody reads them.
    pub(crate) bytes: Vec<u8>,
    /// How many of them are sent.
    pub(crate) sent: usize,
    /// The rest was handed over once more, to be sent when the peer takes it.
    pub(crate) goes_on: bool,
    /// Nobody asks what has come of it.
    pub(crate) orphan: bool,
}

/// Whom to wake: first who waits for sockets that [go first](crate::Socket::goes_first), then the others.
#[derive(Debug, Default)]
pub(crate) struct Woken {
    pub(crate) first: Vec<Waker>,
    pub(crate) others: Vec<Waker>,
}

impl Woken {
    pub(crate) fn note(&mut self, waker: Option<Waker>, goes_first: bool) {
        if goes_first { &mut self.first } else { &mut self.others }.extend(waker);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.others.is_empty()
    }
}

/// Requests of sockets that were dropped on other threads.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    any: AtomicBool,
    left: Mutex<Vec<Left>>,
}

/// A request, and the socket that it may still need.
pub(crate) type Left = (Ticket, Arc<TcpStream>);

impl Mailbox {
    pub(crate) fn put(&self, left: Left) {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).push(left);
        self.any.store(true, Ordering::Release);
    }

    /// What was put there.
    pub(crate) fn take(&self) -> Vec<Left> {
        if !self.any.load(Ordering::Relaxed) || !self.any.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Which ring a socket belongs to.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) number: u32,
    pub(crate) mailbox: Mailbox,
}

/// What is left of a receive when bytes of it were taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Taken {
    /// There is more of it.
    Part,
    /// That was all, and the request is forgotten.
    All,
    /// The same, and the socket may have more.
    AllAndMoreWaits,
    /// That was all so far: the kernel still has the request.
    AllAndStays,
}

impl Home {
    pub(crate) fn is_of(&self, ring: &Ring) -> bool {
        self.number == ring.home().number
    }
}
