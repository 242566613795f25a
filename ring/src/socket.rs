//! A socket on a ring.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags};

use crate::request::{Home, Standing, Taken, Ticket};
use crate::ring::{Ring, breathe, here, take_back};

/// Up to so many bytes are copied and sent with the next turn of the ring; more are sent at once.
const COPIED_MAX: usize = 4096;
/// A system call that fills so much room has more behind it.
const BULK_MIN: usize = 4096;
/// So much of what a peer does not take at once is copied, to be sent when it does.
const WAITING_MAX: usize = 16 * 1024;

/// What a socket looks like that nobody reads, told without waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// Nothing has come.
    Quiet,
    /// Bytes have come.
    Bytes,
    /// The peer has closed its side, or the socket is broken.
    Closed,
}

/// A TCP socket on the ring of the thread that made it. Elsewhere it can be looked at, taken off the ring when nothing is under way
/// ([`Socket::into_std`]), and dropped.
///
/// What is sent is told as sent when it was taken over: as with any socket, that says nothing of its peer. That it could not be sent, the next
/// write tells, or the end that the next read finds.
#[derive(Debug)]
pub struct Socket {
    socket: Arc<TcpStream>,
    home: Arc<Home>,
    receives: Slot,
    sends: Slot,
    /// The last read left bytes in the kernel, most likely: they are asked for without waiting first.
    has_more: AtomicBool,
    /// See [`Socket::keep_receiving`].
    keeps: bool,
    /// See [`Socket::goes_first`].
    goes_first: bool,
    /// Much comes at once: a receive that kept on would fill one buffer after the other.
    in_bulk: bool,
}

/// The ticket of a request. It changes behind a shared reference, on one thread.
#[derive(Debug, Default)]
struct Slot(AtomicU64);

impl Slot {
    fn get(&self) -> Ticket {
        Ticket::from_bits(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, ticket: Ticket) {
        self.0.store(ticket.bits(), Ordering::Relaxed);
    }
}

impl Socket {
    /// Puts a connected socket on this thread's ring; gives it back where there is none. It must be blocking: a request on one that must not wait may not
    /// wait.
    ///
    /// # Errors
    /// The socket as it was.
    pub fn new(socket: TcpStream) -> Result<Socket, TcpStream> {
        let home = here(|ring| ring.home().clone());
        match home {
            Some(home) => Ok(Socket {
                socket: Arc::new(socket),
                home,
                receives: Slot::default(),
                sends: Slot::default(),
                has_more: AtomicBool::new(false),
                keeps: false,
                goes_first: false,
                in_bulk: false,
            }),
            None => Err(socket),
        }
    }

    /// Whether receives that are asked for from now on go on behind what they bring: a peer that sends little by little costs one request in all then. A
    /// socket that leaves its thread ([`Socket::come_to_rest`]) pays for having it taken back.
    pub fn keep_receiving(&mut self, keeps: bool) {
        self.keeps = keeps;
    }

    /// Of all who are woken by one turn of the ring, those who read such a socket are woken first. Where some of a thread's sockets are read to do one thing and the
    /// others to do another, each is done for all it is due for before the other: what the processor needs for it stays in its cache.
    pub fn goes_first(&mut self) {
        self.goes_first = true;
    }

    /// Whether [`Socket::seen`] tells without asking the system: the ring waits for its bytes, or has brought some. `false` on another thread.
    pub fn is_watched(&self) -> bool {
        let standing = self.here(|ring| ring.standing(self.receives.get(), None));
        matches!(standing, Ok(Standing::Waits | Standing::Done(0..)))
    }

    /// The socket underneath, for its addresses and options.
    pub fn as_std(&self) -> &TcpStream {
        &self.socket
    }

    /// Whether the ring has nothing to do for it and nothing for its owner: it may be taken off. On another thread it tells what was found when its own asked
    /// last.
    pub fn is_at_rest(&self) -> bool {
        let standings = self.here(|ring| [&self.receives, &self.sends].map(|slot| ring.standing(slot.get(), None)));
        match standings {
            Ok(standings) if standings == [Standing::None; 2] => {
                // What was sent needs to be asked no more, on whichever thread.
                self.sends.set(Ticket::NONE);
                self.receives.set(Ticket::NONE);
                true
            }
            _ => self.receives.get() == Ticket::NONE && self.sends.get() == Ticket::NONE,
        }
    }

    /// Brings it to rest, where nothing has come: a receive that is under way is taken back, which costs a system call. Called on its thread, or when it is
    /// at rest. `false` when something has come, or waits to be sent.
    pub fn come_to_rest(&self) -> bool {
        self.rest(false)
    }

    /// The same, but that a receive which keeps on is left waiting: the socket may be used on its thread alone then.
    pub fn rest_here(&self) -> bool {
        self.rest(self.keeps)
    }

    fn rest(&self, may_wait: bool) -> bool {
        match self.unused_receive() {
            Ok(Standing::Waits) if may_wait => {
                return self.here(|ring| ring.standing(self.sends.get(), None) == Standing::None).unwrap_or(false);
            }
            Ok(Standing::Waits) => {
                // Something may have come that it was about to bring.
                if take_back(self.receives.get()) != Some(Standing::None) || self.look() != Seen::Quiet {
                    return false;
                }
                self.receives.set(Ticket::NONE);
            }
            Ok(Standing::Done(_)) => return false,
            Ok(Standing::None) | Err(_) => {}
        }
        self.is_at_rest()
    }

    /// How the receive of a socket stands of which all was read: waiting, or none. One that had no buffer, or was ended, is forgotten: the next read asks
    /// anew.
    fn unused_receive(&self) -> io::Result<Standing> {
        let looks_quiet = || self.look() == Seen::Quiet;
        let standing = self.here(|ring| match ring.standing(self.receives.get(), None) {
            Standing::Done(result) if result < 0 && looks_quiet() => {
                ring.free(self.receives.get());
                self.receives.set(Ticket::NONE);
                Standing::None
            }
            standing => standing,
        })?;
        // Of an end that was found behind the last bytes nothing else tells.
        if standing == Standing::None && self.has_more.load(Ordering::Relaxed) {
            if !looks_quiet() {
                return Ok(Standing::Done(0));
            }
            self.has_more.store(false, Ordering::Relaxed);
        }
        Ok(standing)
    }

    /// Takes the socket off the ring, on any thread. It is blocking.
    ///
    /// # Errors
    /// Something is under way, or was when its own thread last asked ([`Socket::is_at_rest`]); the socket is closed then. And those of the system.
    pub fn into_std(self) -> io::Result<TcpStream> {
        if self.receives.get() != Ticket::NONE || self.sends.get() != Ticket::NONE {
            return Err(io::Error::other("something is under way on the socket's ring"));
        }
        let socket = self.socket.clone();
        drop(self);
        Arc::try_unwrap(socket).map_err(|_| io::Error::other("a request of the socket is not forgotten"))
    }

    /// Whether a read would find bytes, the end or an error. Only who asked last is woken.
    ///
    /// # Errors
    /// It is not on its thread, or the system refuses.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_more.load(Ordering::Relaxed) {
            if self.look() != Seen::Quiet {
                return Poll::Ready(Ok(()));
            }
            self.has_more.store(false, Ordering::Relaxed);
        }
        let asked = self.here(|ring| match ring.standing(self.receives.get(), Some(cx.waker())) {
            Standing::Waits => Ok(false),
            // One that has brought nothing, and of which the socket shows nothing, is asked for anew.
            Standing::Done(result) if result >= 0 || self.look() != Seen::Quiet => Ok(true),
            Standing::Done(_) | Standing::None => {
                ring.free(self.receives.get());
                self.receives.set(self.ask(ring, cx)?);
                Ok(false)
            }
        });
        match asked {
            Ok(Ok(true)) => Poll::Ready(Ok(())),
            Ok(Ok(false)) => Poll::Pending,
            Ok(Err(e)) | Err(e) => Poll::Ready(Err(e)),
        }
    }

    /// Reads what has come, or waits for it. 0 is the end.
    ///
    /// # Errors
    /// Those of recv(2); and it is not on its thread.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        if into.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            if std::mem::take(self.has_more.get_mut()) && self.receives.get() == Ticket::NONE {
                match self.receive_now(into) {
                    Ok(n) => {
                        breathe();
                        *self.has_more.get_mut() = n == into.len();
                        self.in_bulk |= n == into.len() && n >= BULK_MIN;
                        return Poll::Ready(Ok(n));
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    Err(e) => return Poll::Ready(Err(e)),
                }
            }
            let ticket = self.receives.get();
            let step = self.here(|ring| match ring.standing(ticket, Some(cx.waker())) {
                Standing::Waits => Step::Wait,
                Standing::None => match self.ask(ring, cx) {
                    Ok(ticket) => {
                        self.receives.set(ticket);
                        Step::Wait
                    }
                    Err(e) => Step::Failed(e),
                },
                Standing::Done(_) => match ring.take(ticket, into) {
                    Some((n, taken)) => {
                        if !matches!(taken, Taken::Part | Taken::AllAndStays) {
                            self.receives.set(Ticket::NONE);
                        }
                        Step::Read(n, taken)
                    }
                    None => {
                        let result = ring.standing(ticket, None);
                        ring.free(ticket);
                        self.receives.set(Ticket::NONE);
                        Step::of(result)
                    }
                },
            });
            match step {
                Ok(Step::Wait) => return Poll::Pending,
                Ok(Step::Read(n, taken)) => {
                    let more =
                        if taken == Taken::AllAndMoreWaits { self.read_on(into.get_mut(n..).unwrap_or_default()) } else { 0 };
                    // It ends with the first read that leaves nothing behind.
                    self.in_bulk &= match taken {
                        Taken::All => false,
                        Taken::AllAndMoreWaits => *self.has_more.get_mut(),
                        Taken::Part | Taken::AllAndStays => true,
                    };
                    return Poll::Ready(Ok(n + more));
                }
                // It could not be read that way: all buffers were taken, it was ended, or a signal came.
                Ok(Step::Again) => *self.has_more.get_mut() = true,
                Ok(Step::Failed(e)) | Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }

    /// Asks for its next bytes.
    fn ask(&self, ring: &mut Ring, cx: &Context<'_>) -> io::Result<Ticket> {
        ring.receive(&self.socket, cx.waker(), self.keeps && !self.in_bulk, self.goes_first)
    }

    /// Reads what did not fit into the ring's buffer, so that it is passed on in one piece with what did. The end is the next read's, and so is an error,
    /// as an end: recv(2) tells of an error once.
    fn read_on(&mut self, room: &mut [u8]) -> usize {
        let read = if room.is_empty() { Ok(0) } else { self.receive_now(room) };
        *self.has_more.get_mut() = match &read {
            Ok(n) => *n == 0 || *n == room.len(),
            Err(e) => e.kind() != io::ErrorKind::WouldBlock,
        };
        read.unwrap_or(0)
    }

    /// Takes over what can be sent without waiting; how much.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing can be; that something taken over before could not be sent; those of send(2).
    pub fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let is_copied = bytes.len() <= COPIED_MAX && !bytes.is_empty();
        self.here(|ring| match self.sent(ring, None) {
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
            Poll::Ready(Ok(())) if is_copied => ring.send(&self.socket, bytes).map(|ticket| self.sends.set(ticket)),
            Poll::Ready(sent) => sent,
        })??;
        if is_copied {
            return Ok(bytes.len());
        }
        breathe();
        Ok(rustix::net::send(&*self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
    }

    /// The same, and waits until something can be.
    ///
    /// # Errors
    /// As [`Socket::send_now`].
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let sent = match self.here(|ring| self.sent(ring, Some(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(sent)) => sent,
            Err(e) => Err(e),
        };
        if let Err(e) = sent {
            return Poll::Ready(Err(e));
        }
        Poll::Ready(match self.send_now(bytes) {
            // The peer takes nothing: the ring waits until it does.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let first = bytes.get(..WAITING_MAX).unwrap_or(bytes);
                let ticket = self.here(|ring| ring.send_waiting(&self.socket, first)).and_then(|ticket| ticket);
                ticket.map(|ticket| self.sends.set(ticket)).map(|()| first.len())
            }
            sent => sent,
        })
    }

    /// Waits until the system has what was taken over: `all` of it, or only what a peer that takes nothing had to be waited for with.
    ///
    /// # Errors
    /// As [`Socket::send_now`].
    pub fn poll_sent(&self, cx: &mut Context<'_>, all: bool) -> Poll<io::Result<()>> {
        let sent = self.here(|ring| match all || ring.waits_for_peer(self.sends.get()) {
            true => self.sent(ring, Some(cx)),
            false => Poll::Ready(Ok(())),
        });
        sent.unwrap_or_else(|e| Poll::Ready(Err(e)))
    }

    /// Whether nothing went out of what was taken over last, since the socket was closed before.
    pub fn sent_nothing(&self) -> bool {
        self.here(|ring| ring.sent_nothing(self.sends.get())).unwrap_or(false)
    }

    /// Closes its own side behind all that was sent.
    ///
    /// # Errors
    /// As [`Socket::send_now`].
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.here(|ring| self.sent(ring, Some(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(Err(e))) | Err(e) => Poll::Ready(Err(e)),
            Ok(Poll::Ready(Ok(()))) => Poll::Ready(self.socket.shutdown(Shutdown::Write)),
        }
    }

    /// What it looks like, on any thread. Asks the system only when the ring is not waiting for its bytes, or when it is to be certain: the ring tells of
    /// what it had brought when its thread turned last.
    pub fn seen(&self, certain: bool) -> Seen {
        let standing = self.here(|ring| match ring.standing(self.receives.get(), None) {
            Standing::Done(result) if self.receives.get() != Ticket::NONE => Some(match result {
                0 => Seen::Closed,
                1.. => Seen::Bytes,
                _ => self.look(),
            }),
            Standing::Waits if !certain => Some(Seen::Quiet),
            _ => None,
        });
        standing.ok().flatten().unwrap_or_else(|| self.look())
    }

    /// Whether what has come was received by the ring. When it had no buffer left it is read with a system call. For tests.
    #[doc(hidden)]
    pub fn has_received(&self) -> bool {
        self.here(|ring| matches!(ring.standing(self.receives.get(), None), Standing::Done(1..))).unwrap_or(false)
    }

    /// Whether the peer will send nothing more, behind whatever has come and was not read yet.
    pub fn is_read_closed(&self) -> bool {
        let wanted = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let mut fds = [PollFd::from_borrowed_fd(self.socket.as_fd(), wanted)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_err() || fds[0].revents().intersects(wanted)
    }

    fn look(&self) -> Seen {
        let mut byte = [0];
        match rustix::net::recv(&*self.socket, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((0, _)) => Seen::Closed,
            Ok(_) => Seen::Bytes,
            Err(e) if e == rustix::io::Errno::WOULDBLOCK || e == rustix::io::Errno::INTR => Seen::Quiet,
            Err(_) => Seen::Closed,
        }
    }

    fn receive_now(&self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::net::recv(&*self.socket, &mut *into, RecvFlags::DONTWAIT) {
                Ok((n, _)) => return Ok(n),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Whether what was taken over is sent.
    fn sent(&self, ring: &mut Ring, cx: Option<&mut Context<'_>>) -> Poll<io::Result<()>> {
        let ticket = self.sends.get();
        match ring.standing(ticket, cx.map(|cx| cx.waker())) {
            Standing::None => {
                self.sends.set(Ticket::NONE);
                Poll::Ready(Ok(()))
            }
            Standing::Waits => Poll::Pending,
            Standing::Done(result) => {
                ring.free(ticket);
                self.sends.set(Ticket::NONE);
                // All of it would have been forgotten; a part is sent where the connection ended meanwhile.
                Poll::Ready(Err(if result < 0 { io::Error::from_raw_os_error(-result) } else { io::ErrorKind::BrokenPipe.into() }))
            }
        }
    }

    fn here<R>(&self, f: impl FnOnce(&mut Ring) -> R) -> io::Result<R> {
        let done = here(|ring| self.home.is_of(ring).then(|| f(ring))).flatten();
        done.ok_or_else(|| io::Error::other("a socket is used on another thread than the one whose ring it is on"))
    }
}

enum Step {
    Wait,
    Read(usize, Taken),
    Again,
    Failed(io::Error),
}

impl Step {
    /// What a receive that brought no bytes says.
    fn of(standing: Standing) -> Step {
        use rustix::io::Errno;
        match standing {
            Standing::Done(0) => Step::Read(0, Taken::All),
            Standing::Done(result) => match Errno::from_raw_os_error(-result) {
                Errno::NOBUFS | Errno::AGAIN | Errno::INTR | Errno::CANCELED => Step::Again,
                _ => Step::Failed(io::Error::from_raw_os_error(-result)),
            },
            Standing::None | Standing::Waits => Step::Again,
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let tickets = [self.sends.get(), self.receives.get()];
        if tickets == [Ticket::NONE; 2] {
            return;
        }
        let abandoned = self.here(|ring| {
            // The peer is to see the end now, and not when a receive that stays has been taken back.
            if ring.standing(self.sends.get(), None) == Standing::None
                && ring.standing(self.receives.get(), None) == Standing::Waits
            {
                let _ = self.socket.shutdown(Shutdown::Both);
            }
            tickets.into_iter().for_each(|ticket| ring.abandon(ticket, self.socket.clone()));
        });
        if abandoned.is_err() {
            // Its own thread lets go of it when it turns, which the end of the socket makes it do if something is under way.
            let left = tickets.into_iter().filter(|ticket| *ticket != Ticket::NONE);
            left.for_each(|ticket| self.home.mailbox.put((ticket, self.socket.clone())));
            let _ = self.socket.shutdown(Shutdown::Both);
        }
    }
}
