//! The buffers that a ring's receives put their bytes into.
//!
//! A receive that waits owns no buffer: the kernel takes one from here when bytes have come ("provided buffers", io_uring_register(2),
//! `IORING_REGISTER_PBUF_RING`). So a thousand idle clients cost none.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

/// How many there are, a power of two. When all are taken and bytes come, a receive says so, and its socket is read with a system call.
const COUNT: u16 = 128;
/// How long each is, bytes. Nearly every command and short reply fits; of more, the rest is read with a system call, or stands in further ones.
const LEN: usize = 4096;
/// From one to the next, bytes: at a multiple of a page all would begin in the same few places of the processor's cache.
const STRIDE: usize = LEN + 3 * 64;
/// The only group of buffers of a ring.
pub(crate) const GROUP: u16 = 0;
/// What the kernel wants the ring's entries to begin at.
const PAGE: usize = 4096;

/// See the module. Its memory is never freed: the kernel may hold it for as long as the ring's last request, and rings end with the
/// process.
#[derive(Debug)]
pub(crate) struct Buffers {
    entries: *mut BufRingEntry,
    bytes: *mut u8,
    tail: u16,
    /// Those that the kernel has.
    left: u16,
}

impl Buffers {
    /// Gives a ring its buffers.
    pub(crate) fn register(ring: &IoUring) -> io::Result<Buffers> {
        let entries = zeroed(usize::from(COUNT) * size_of::<BufRingEntry>())?.cast::<BufRingEntry>();
        let bytes = zeroed(usize::from(COUNT) * STRIDE)?;
        // SAFETY: the memory is as long as COUNT entries, begins at a page, and is never freed.
        unsafe { ring.submitter().register_buf_ring_with_flags(entries as u64, COUNT, GROUP, 0)? };
        let mut buffers = Buffers { entries, bytes, tail: 0, left: 0 };
        (0..COUNT).for_each(|id| buffers.give_back(id));
        Ok(buffers)
    }

    /// A completion has brought one.
    pub(crate) fn note_taken(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// Whether so few are left that those of bytes which nobody has read yet are to be given back.
    pub(crate) fn are_few(&self) -> bool {
        self.left < COUNT / 2
    }

    /// The first `len` bytes of a buffer that a receive has filled.
    pub(crate) fn filled(&self, id: u16, len: usize) -> &[u8] {
        let at = usize::from(id % COUNT) * STRIDE;
        // SAFETY: `at + LEN` lies within the allocation, which was zeroed and is never freed. The kernel writes to a buffer only between
        // `give_back` and the completion that names it, and the caller has that completion; `give_back` takes `&mut self`.
        unsafe { std::slice::from_raw_parts(self.bytes.add(at), len.min(LEN)) }
    }

    /// The kernel may fill it again.
    pub(crate) fn give_back(&mut self, id: u16) {
        let id = id % COUNT;
        // SAFETY: within the allocations, see `register`. The kernel reads an entry only once the tail is past it, and there are as many
        // entries as buffers: one that is given back has a free entry.
        unsafe {
            let entry = &mut *self.entries.add(usize::from(self.tail % COUNT));
            entry.set_addr(self.bytes.add(usize::from(id) * STRIDE) as u64);
            entry.set_len(LEN as u32);
            entry.set_bid(id);
        }
        self.left += 1;
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the address of the first entry; the tail lies in what that entry does not use, is aligned, and only the kernel reads it beside us.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

fn zeroed(len: usize) -> io::Result<*mut u8> {
    let layout = Layout::from_size_align(len, PAGE).map_err(io::Error::other)?;
    // SAFETY: the lengths asked for are constants above 0.
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() {
        handle_alloc_error(layout);
    }
    Ok(memory)
}
