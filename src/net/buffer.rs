//! A read buffer that exists only while there is something to read.
//!
//! Buffers of the standard size go back to a small stock of the thread when dropped, so that an idle client costs none and a
//! busy one no allocation.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};

use super::timer;

/// What one read may bring at once. Large enough for nearly every statement and reply, small enough to stay in the cache.
pub const STANDARD_LEN: usize = 16 * 1024;
/// Buffers kept per thread; more are freed.
const STOCK_MAX: usize = 64;

thread_local! {
    static STOCK: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that were read and not used up yet.
#[derive(Debug)]
pub struct Buffer {
    data: Vec<u8>,
    start: usize,
    end: usize,
}

impl Default for Buffer {
    fn default() -> Buffer {
        Buffer::new()
    }
}

impl Buffer {
    /// An empty buffer from the thread's stock.
    pub fn new() -> Buffer {
        let data = STOCK.with(|stock| stock.borrow_mut().pop()).unwrap_or_else(|| vec![0; STANDARD_LEN]);
        Buffer { data, start: 0, end: 0 }
    }

    /// What has been read and not consumed.
    pub fn filled(&self) -> &[u8] {
        self.data.get(self.start..self.end).unwrap_or(&[])
    }

    /// The same, to change in place.
    pub fn filled_mut(&mut self) -> &mut [u8] {
        self.data.get_mut(self.start..self.end).unwrap_or(&mut [])
    }

    /// How many bytes stand unused.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Nothing unused.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// How many bytes it can hold without growing.
    pub fn capacity(&self) -> usize {
        self.data.len()
    }

    /// Marks the first `n` bytes as used.
    pub fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Makes the buffer able to hold `len` unused bytes in all.
    pub fn reserve(&mut self, len: usize) {
        if self.start > 0 && self.start + len > self.data.len() {
            self.data.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if len > self.data.len() {
            self.data.resize(len, 0);
        }
    }

    /// Appends bytes that came some other way.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.reserve(self.len() + bytes.len());
        if let Some(room) = self.data.get_mut(self.end..self.end + bytes.len()) {
            room.copy_from_slice(bytes);
            self.end += bytes.len();
        }
    }

    /// Puts `bytes` in the place of `len` unused bytes from `at` on; what stands behind them moves.
    pub fn replace(&mut self, at: usize, len: usize, bytes: &[u8]) {
        let at = at.min(self.len());
        let len = len.min(self.len() - at);
        let mut end = self.end - len + bytes.len();
        if end > self.data.len() {
            self.reserve(self.len() - len + bytes.len());
            end = self.end - len + bytes.len();
        }
        let from = self.start + at;
        if len != bytes.len() && from + len < self.end {
            self.data.copy_within(from + len..self.end, from + bytes.len());
        }
        if let Some(place) = self.data.get_mut(from..from + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        self.end = end;
    }

    /// Reads once, as much as there is room for; makes room for at least one more byte first.
    ///
    /// # Errors
    /// Those of the stream. `Ok(0)` is its end.
    pub fn poll_fill<S: AsyncRead + Unpin>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.end == self.data.len() {
            let len = self.len();
            // Half a buffer of leftovers is moved down; more makes it grow.
            self.reserve(if len * 2 > self.data.len() { self.data.len() * 2 } else { self.data.len().max(len + 1) });
            if self.end == self.data.len() && self.start > 0 {
                self.data.copy_within(self.start..self.end, 0);
                self.end = len;
                self.start = 0;
            }
        }
        let Some(room) = self.data.get_mut(self.end..) else { return Poll::Ready(Ok(0)) };
        let mut into = ReadBuf::new(room);
        match Pin::new(stream).poll_read(cx, &mut into) {
            Poll::Ready(Ok(())) => {
                let n = into.filled().len();
                self.end += n;
                Poll::Ready(Ok(n))
            }
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// [`Buffer::poll_fill`], awaited.
    ///
    /// # Errors
    /// Those of the stream. `Ok(0)` is its end.
    pub async fn fill<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_fill(stream, cx)).await
    }

    /// The same from a peer that should go on: when nothing comes for so long, it is not waited for any more. The limit is asked for only
    /// when it must be waited for.
    ///
    /// # Errors
    /// Those of the stream, and [`io::ErrorKind::TimedOut`].
    pub async fn fill_unless_stalled<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        limit: impl Fn() -> Duration,
    ) -> io::Result<usize> {
        let mut stalled: Option<Pin<Box<timer::Sleep>>> = None;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(read) = self.poll_fill(stream, cx) {
                return Poll::Ready(read);
            }
            let stalled = stalled.get_or_insert_with(|| Box::pin(timer::sleep(limit())));
            stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
        })
        .await
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.data.len() == STANDARD_LEN {
            let data = std::mem::take(&mut self.data);
            // A thread that is ending has no stock any more; the buffer is then freed.
            let _ = STOCK.try_with(|stock| {
                let mut stock = stock.borrow_mut();
                if stock.len() < STOCK_MAX {
                    stock.push(data);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_are_kept_while_it_grows() {
        let mut buffer = Buffer::new();
        buffer.extend(b"abcdef");
        buffer.consume(4);
        buffer.reserve(STANDARD_LEN);
        assert_eq!(buffer.filled(), b"ef");
        buffer.extend(&vec![b'x'; STANDARD_LEN]);
        assert_eq!(buffer.len(), STANDARD_LEN + 2);
        assert!(buffer.filled().starts_with(b"efx"));
        buffer.consume(usize::MAX / 2);
        assert!(buffer.is_empty());
    }

    #[test]
    fn bytes_take_the_place_of_others() {
        for (at, len, bytes, then) in [
            (0, 0, &b"xy"[..], &b"xycdef"[..]),
            (2, 0, b"xy", b"cdxyef"),
            (4, 0, b"xy", b"cdefxy"),
            (1, 2, b"x", b"cxf"),
            (1, 2, b"xyz", b"cxyzf"),
            (3, 9, b"", b"cde"),
        ] {
            for fill in [0, STANDARD_LEN - 6] {
                let mut buffer = Buffer::new();
                buffer.extend(&vec![b'.'; fill]);
                buffer.extend(b"abcdef");
                buffer.consume(fill + 2);
                buffer.replace(at, len, bytes);
                assert_eq!(buffer.filled(), then, "{at} {len} {fill}");
            }
        }
    }

    #[tokio::test]
    async fn a_stream_longer_than_the_buffer_is_read_piece_by_piece() {
        let bytes: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
        let mut source = &bytes[..];
        let mut buffer = Buffer::new();
        let mut seen = Vec::new();
        while buffer.fill(&mut source).await.unwrap() > 0 {
            let n = buffer.len().min(10_000);
            seen.extend_from_slice(&buffer.filled()[..n]);
            buffer.consume(n);
        }
        seen.extend_from_slice(buffer.filled());
        assert_eq!(seen, bytes);
    }
}
