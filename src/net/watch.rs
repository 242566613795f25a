//! Whether a peer has gone, while something else is awaited.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::net::stream::{Idle, Stream};
use crate::net::timer::{self, Sleep};

/// How often a peer is looked at that has sent something which nobody reads: the end behind it wakes nobody.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What is kept between two looks at a peer. Nearly always nothing.
#[derive(Debug, Default)]
pub struct Watch(Option<Pin<Box<Sleep>>>);

impl Stream {
    /// Waits until the peer has closed its side. Bytes that come meanwhile are left alone.
    pub async fn closed(&self) {
        let mut watch = Watch::default();
        poll_fn(|cx| self.poll_closed(&mut watch, cx)).await;
    }

    /// [`Stream::closed`], asked once.
    pub fn poll_closed(&self, watch: &mut Watch, cx: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(ready) = self.poll_readable(cx) {
            if ready.is_err() {
                return Poll::Ready(());
            }
            match self.idle() {
                Idle::Closed => return Poll::Ready(()),
                // The next command, or a farewell.
                Idle::Bytes => {
                    if self.socket().is_none_or(|socket| socket.is_read_closed()) {
                        return Poll::Ready(());
                    }
                    ready!(watch.0.get_or_insert_with(|| Box::pin(timer::sleep(LOOK_EVERY))).as_mut().poll(cx));
                    watch.0 = None;
                }
                // The note of readiness was stale and is gone now.
                Idle::Quiet => {}
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream, UnixStream};

    use super::*;

    const MOMENT: Duration = Duration::from_millis(50);

    /// `theirs` says something, and only then closes.
    async fn goes(ours: Stream, mut theirs: impl AsyncWriteExt + Unpin + Send + 'static) {
        theirs.write_all(b"farewell").await.unwrap();
        assert!(timer::timeout(MOMENT, ours.closed()).await.is_err(), "it is still there");
        let going = tokio::spawn(async move {
            tokio::time::sleep(MOMENT).await;
            drop(theirs);
        });
        timer::timeout(LOOK_EVERY * 10, ours.closed()).await.expect("it has gone");
        going.await.unwrap();
        let mut bytes = [0; 8];
        let mut ours = ours;
        tokio::io::AsyncReadExt::read_exact(&mut ours, &mut bytes).await.unwrap();
        assert_eq!(&bytes, b"farewell", "what it said is left alone");
    }

    #[tokio::test]
    async fn a_peer_that_says_something_before_it_goes_is_seen_to_go() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        goes(Stream::from(ours), theirs).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        goes(Stream::from(listener.accept().await.unwrap().0), theirs).await;
    }
}
