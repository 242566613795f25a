//! Receives: asked for, brought, read, taken back.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::task::Waker;

use io_uring::squeue::Flags;
use io_uring::{cqueue, opcode};

use crate::buffers::GROUP;
use crate::request::{Standing, Taken, Ticket};
use crate::ring::{CANCELED, Ring, cancel};

/// From `linux/io_uring.h`: wait before trying, since nothing has come most likely; and bring one after the other.
const POLL_FIRST: u16 = 1;
const MULTISHOT: u16 = 1 << 1;
/// How often the ring is entered for one request to be taken back: others may be done first.
const TRIES_MAX: usize = 64;
/// How many buffers of bytes, to be sent or kept aside, are kept for later, and how long they are at most.
const STOCK_MAX: usize = 64;
const STOCKED_MAX: usize = 16 * 1024;
/// A receive that has brought more than this, which nobody has read, is ended. What comes until it is may be as much as there are buffers (512 KiB).
const ASIDE_MAX: usize = 16 * 1024;

impl Ring {
    /// Asks for the next bytes of a socket; when it `keeps` on, for those behind them, too, until it is taken back or cannot go on.
    pub(crate) fn receive(&mut self, socket: &Arc<TcpStream>, waker: &Waker, keeps: bool, goes_first: bool) -> io::Result<Ticket> {
        let (ticket, fd) = self.place(socket, Some(waker.clone()), Vec::new());
        let place = &mut self.places[ticket.place()];
        (place.keeps, place.stays, place.goes_first) = (keeps, keeps, goes_first);
        // The buffer is chosen when bytes have come: tried at once, it would fail for want of one although there is nothing to be read, again and again.
        let how = if keeps { POLL_FIRST | MULTISHOT } else { POLL_FIRST };
        let entry = opcode::Recv::new(fd, std::ptr::null_mut(), 0).buf_group(GROUP).ioprio(how).build();
        self.push_for(ticket, entry.flags(Flags::BUFFER_SELECT))
    }

    /// Takes bytes of a receive that is done. `None` when it has brought none, else how many; and whether this was the last of them, behind which the
    /// request is forgotten, and whether the socket has more.
    pub(crate) fn take(&mut self, ticket: Ticket, into: &mut [u8]) -> Option<(usize, Taken)> {
        let at = ticket.place();
        let (result, flags) = self.find(ticket)?.done?;
        let place = &mut self.places[at];
        let all = match place.bytes.is_empty() {
            true => self.buffers.filled(cqueue::buffer_select(flags)?, usize::try_from(result).ok()?),
            false => &place.bytes,
        };
        let rest = all.get(place.taken..).unwrap_or_default();
        let n = rest.len().min(into.len());
        into[..n].copy_from_slice(&rest[..n]);
        if n < rest.len() {
            place.taken += n;
            return Some((n, Taken::Part));
        }
        if place.stays {
            place.taken = 0;
            let (done, bytes) = (place.done.take(), std::mem::take(&mut place.bytes));
            self.recycle(done, bytes);
            return Some((n, Taken::AllAndStays));
        }
        // Why one that was to keep on has ended, the socket tells.
        let more = cqueue::sock_nonempty(flags) || place.keeps;
        self.free(ticket);
        Some((n, if more { Taken::AllAndMoreWaits } else { Taken::All }))
    }

    /// What a receive that keeps on has brought. One buffer is left where it is until it is read, as long as there are enough for others; else the bytes are kept
    /// aside, and when they are many that nobody reads it ends.
    pub(crate) fn brought(&mut self, ticket: Ticket, result: i32, flags: u32) {
        let few = self.buffers.are_few();
        let Some(place) = self.find(ticket) else { return };
        place.stays = cqueue::more(flags);
        let (waker, goes_first) = (place.waker.take(), place.goes_first);
        if place.orphan {
            let ended = !place.stays;
            self.recycle(Some((result, flags)), Vec::new());
            if ended {
                self.free(ticket);
            }
            return;
        }
        match place.done {
            None if result <= 0 || !few => place.done = Some((result, flags)),
            _ if result > 0 => self.keep_aside(ticket, result, flags),
            // The end or an error behind bytes that are not read yet: the socket tells it again, an error as the end. That it was ended, or had no buffer,
            // needs not be told: whoever has read the bytes asks the socket.
            _ => {}
        }
        self.woken.note(waker, goes_first);
    }

    /// Bytes that came before those in front of them were read, or while buffers are few.
    fn keep_aside(&mut self, ticket: Ticket, result: i32, flags: u32) {
        let at = ticket.place();
        let more = |result, flags| Some((cqueue::buffer_select(flags)?, usize::try_from(result).ok()?));
        let (place, stock) = (&mut self.places[at], &mut self.stock);
        let Some((id, len)) = more(result, flags) else { return };
        if let Some((first, first_len)) = place.done.and_then(|(result, flags)| more(result, flags)) {
            place.bytes = stock.pop().unwrap_or_default();
            place.bytes.extend_from_slice(self.buffers.filled(first, first_len));
            self.buffers.give_back(first);
        }
        place.bytes.drain(..place.taken);
        place.taken = 0;
        place.bytes.extend_from_slice(self.buffers.filled(id, len));
        self.buffers.give_back(id);
        place.done = Some((1, 0));
        if place.stays && !place.asked_to_end && place.bytes.len() > ASIDE_MAX {
            // Where that cannot be handed over, the next bytes try again.
            self.places[at].asked_to_end = self.push(&cancel(ticket)).is_ok();
        }
    }

    /// Gives back what a request had: a buffer, and bytes of its own.
    pub(crate) fn recycle(&mut self, done: Option<(i32, u32)>, bytes: Vec<u8>) {
        if bytes.capacity() > 0 {
            self.keep_for_later(bytes);
        }
        if let Some(id) = done.and_then(|(_, flags)| cqueue::buffer_select(flags)) {
            self.buffers.give_back(id);
        }
    }

    fn keep_for_later(&mut self, mut bytes: Vec<u8>) {
        if bytes.capacity() <= STOCKED_MAX && self.stock.len() < STOCK_MAX {
            bytes.clear();
            self.stock.push(bytes);
        }
    }

    /// Takes a receive back that waits. What has come of it by then is there: [`Standing::None`] when nothing has.
    pub(crate) fn take_back(&mut self, ticket: Ticket) -> Standing {
        if self.push(&cancel(ticket)).is_ok() {
            for _ in 0..TRIES_MAX {
                match self.standing(ticket, None) {
                    // It is done one way or the other, so the wait ends.
                    Standing::Waits => _ = self.enter(true),
                    Standing::Done(result) if result == -CANCELED => self.free(ticket),
                    standing => return standing,
                }
            }
        }
        self.standing(ticket, None)
    }
}
