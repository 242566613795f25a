//! Sockets of one thread on io_uring, under the interface of sockets that are asked whether they are ready.
//!
//! A proxy moves a few hundred bytes at a time, and most of what that costs is the kernel's: for each statement epoll_wait(2), recv(2) and send(2)
//! twice. On a ring (io_uring(7)) a thread hands over all that it has to send and wants to receive, and takes all that has come, with one
//! system call, which is also the one that it sleeps in.
//!
//! * [`start`] gives a thread its ring; [`turn`] is called whenever the thread has nothing else to do, [`breathe`] while it has much.
//! * [`Socket`] is a TCP socket on the ring of the thread that made it. While it waits for bytes it owns no buffer. What is long is read and
//!   written with system calls of its own, past the ring: there they cost little.
//!
//! Whoever uses it needs no ring to be there: without one [`Socket::new`] gives the socket back.
//!
//! Beside it stands [`Boxed`], memory for futures that come and go with every statement.
//!
//! All unsafe code of Sluice is in [`mod@ring`], [`mod@buffers`] and [`mod@boxed`]. What the kernel is given is kept until the kernel has let it go: by the ring
//! bytes to be sent and buffers for what comes; by the socket, and by the ring once that was dropped, its descriptor, whose number is not used again while a
//! request names it.

mod boxed;
mod buffers;
mod receive;
mod request;
mod ring;
mod socket;

pub use boxed::Boxed;
pub use ring::{breathe, is_here, start, turn};
pub use socket::{Seen, Socket};
