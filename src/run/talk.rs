//! What two processes of one proxy say to each other when one takes the place of the other: lines on a unix socket, the
//! listening sockets beside one of them.
//!
//! ```text
//! new                                   old
//! sluice-upgrade 1 VERSION         ->
//!                                  <-   doors N, and N names, a line each; the sockets beside them
//! ready                            ->   (it has looked at the servers)
//!                                  <-   drain NAME, offline NAME: servers that an operator has taken out, a line each
//!                                  <-   yours NUMBER (it accepts nobody and replaces no master any more; clients' numbers so far)
//! taken                            ->   (it does)
//!                                  <-   left NUMBER: its clients, whenever that has changed; who does not know the line leaves it
//!                                       (the end: its last session has ended)
//! ```
//! When `taken` does not come, the old one ends the new one and goes on. In the place of each of its answers the old one may say `no REASON`.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::run::doors::Door;

/// The first word of the new one, with the version of this exchange.
pub const HELLO: &str = "sluice-upgrade 1";
/// How long either waits for a line that needs no work.
pub const LINE_LIMIT: Duration = Duration::from_secs(10);
/// The most doors that are passed. The kernel passes at most 253 at a time (SCM_MAX_FD).
pub const DOORS_MAX: usize = 64;
/// The most that is read of the other's words before it is given up.
const BYTES_MAX: usize = 64 << 10;

/// One end of the conversation.
#[derive(Debug)]
pub struct Talk {
    stream: UnixStream,
    heard: Vec<u8>,
    sockets: Vec<OwnedFd>,
}

impl Talk {
    /// On this socket.
    ///
    /// # Errors
    /// The other end is another user's, or cannot be told.
    pub fn on(stream: UnixStream) -> io::Result<Talk> {
        let (peer, own) = (stream.peer_cred()?.uid(), rustix::process::geteuid().as_raw());
        if peer != own {
            let text = format!("the process at the other end is of user {peer}; only {own} may take over");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(Talk { stream, heard: Vec::new(), sockets: Vec::new() })
    }

    /// The process at the other end.
    pub fn peer(&self) -> Option<i32> {
        self.stream.peer_cred().ok().and_then(|peer| peer.pid())
    }

    /// Ends the process at the other end with SIGKILL, whatever it does. Tells whether that was done: it is not when the process
    /// has gone.
    ///
    /// # Errors
    /// The process is not known, or the system does not allow it.
    pub fn end_peer(&self) -> io::Result<bool> {
        let pid = self.peer().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "which process it is cannot be told"))?;
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(rustix::io::Errno::SRCH) => return Ok(false),
            process => process?,
        };
        // Its end of the socket is open still: so it lived when it was looked up by its number, which nobody else had then.
        let mut end = [PollFd::new(&self.stream, PollFlags::RDHUP)];
        if poll(&mut end, Some(&Timespec::default()))? > 0 {
            return Ok(false);
        }
        pidfd_send_signal(process, Signal::KILL)?;
        Ok(true)
    }

    /// Says a line.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn say(&mut self, line: &str) -> io::Result<()> {
        self.stream.write_all(format!("{line}\n").as_bytes()).await
    }

    /// The next line.
    ///
    /// # Errors
    /// Those of the system; [`io::ErrorKind::UnexpectedEof`] when the other end has gone, [`io::ErrorKind::InvalidData`] when it
    /// talks without end.
    pub async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.heard.len() >= BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line without end"));
            }
            let (heard, sockets) = (&mut self.heard, &mut self.sockets);
            let stream = &self.stream;
            let read = stream.async_io(Interest::READABLE, || receive(stream.as_fd(), heard, sockets)).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The next line, which needs no work of the other: soon.
    ///
    /// # Errors
    /// Those of [`Talk::line`], and [`io::ErrorKind::TimedOut`].
    pub async fn line_soon(&mut self) -> io::Result<String> {
        timeout(LINE_LIMIT, self.line()).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Passes the doors.
    ///
    /// # Errors
    /// Those of the system; more doors than [`DOORS_MAX`].
    pub async fn pass(&mut self, doors: &[Door]) -> io::Result<()> {
        if doors.len() > DOORS_MAX {
            let text = format!("{} sockets are listened on; at most {DOORS_MAX} can be passed", doors.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let mut text = format!("doors {}\n", doors.len());
        for door in doors {
            text.push_str(&door.name);
            text.push('\n');
        }
        let sockets: Vec<BorrowedFd<'_>> = doors.iter().map(|door| door.socket.as_fd()).collect();
        let stream = &self.stream;
        let sent = stream.async_io(Interest::WRITABLE, || send(stream.as_fd(), text.as_bytes(), &sockets)).await?;
        self.stream.write_all(text.as_bytes().get(sent..).unwrap_or_default()).await
    }

    /// Takes the doors that are passed.
    ///
    /// # Errors
    /// Those of [`Talk::line`]; a refusal, in its words; something else than doors.
    pub async fn take(&mut self) -> io::Result<Vec<Door>> {
        let first = self.line_soon().await?;
        let count = first.strip_prefix("doors ").and_then(|count| count.parse::<usize>().ok());
        let Some(count) = count.filter(|count| *count <= DOORS_MAX) else { return Err(refusal(&first)) };
        let mut names = Vec::new();
        for _ in 0..count {
            names.push(self.line_soon().await?);
        }
        let sockets = std::mem::take(&mut self.sockets);
        if sockets.len() != count {
            let text = format!("{count} sockets were told of and {} came", sockets.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(names.into_iter().zip(sockets).map(|(name, socket)| Door { name, socket }).collect())
    }
}

/// A line that is not what was waited for: a refusal, or nonsense.
pub fn refusal(line: &str) -> io::Error {
    match line.strip_prefix("no ") {
        Some(why) => io::Error::other(why.to_owned()),
        None => io::Error::new(io::ErrorKind::InvalidData, format!("it says {line:?}, which is not understood")),
    }
}

fn send(socket: BorrowedFd<'_>, text: &[u8], sockets: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DOORS_MAX))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !sockets.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(io::Error::other("too many sockets"));
    }
    Ok(sendmsg(socket, &[IoSlice::new(text)], &mut beside, SendFlags::NOSIGNAL)?)
}

fn receive(socket: BorrowedFd<'_>, heard: &mut Vec<u8>, sockets: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DOORS_MAX))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let read = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut beside, RecvFlags::CMSG_CLOEXEC)?.bytes;
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            let room = DOORS_MAX.saturating_sub(sockets.len());
            sockets.extend(passed.take(room));
        }
    }
    heard.extend_from_slice(bytes.get(..read).unwrap_or_default());
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Talk, Talk) {
        let (a, b) = UnixStream::pair().unwrap();
        (Talk::on(a).unwrap(), Talk::on(b).unwrap())
    }

    #[tokio::test]
    async fn doors_are_passed_with_their_names_and_still_open() {
        let (mut old, mut new) = pair();
        let listeners = [(); 3].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let addresses = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
        let doors: Vec<Door> = listeners
            .into_iter()
            .zip(addresses)
            .map(|(listener, address)| Door { name: format!("clients {address}"), socket: listener.into() })
            .collect();
        old.pass(&doors).await.unwrap();
        drop(doors);
        let taken = new.take().await.unwrap();
        assert_eq!(taken.len(), 3);
        for (door, address) in taken.into_iter().zip(addresses) {
            assert_eq!(door.name, format!("clients {address}"));
            let listener = std::net::TcpListener::from(door.socket);
            let _client = std::net::TcpStream::connect(address).unwrap();
            assert_eq!(listener.accept().unwrap().0.local_addr().unwrap(), address);
        }
    }

    /// The other end is of this process, which would not live to fail here.
    #[tokio::test]
    async fn a_process_that_has_gone_is_not_ended() {
        let (old, new) = pair();
        drop(new);
        assert!(!old.end_peer().unwrap());
        let (mut old, mut new) = pair();
        new.say("taken").await.unwrap();
        drop(new);
        assert!(!old.end_peer().unwrap());
        assert_eq!(old.line().await.unwrap(), "taken");
    }

    #[tokio::test]
    async fn refusals_nonsense_and_an_early_end() {
        for (said, kind) in [
            ("no the master is being replaced", io::ErrorKind::Other),
            ("doors many", io::ErrorKind::InvalidData),
            ("doors 65", io::ErrorKind::InvalidData),
            // Names without sockets.
            ("doors 1\nclients a", io::ErrorKind::InvalidData),
        ] {
            let (mut old, mut new) = pair();
            old.say(said).await.unwrap();
            assert_eq!(new.take().await.unwrap_err().kind(), kind, "{said}");
        }
        let (mut old, mut new) = pair();
        old.say("doors 2\nclients a").await.unwrap();
        drop(old);
        assert_eq!(new.take().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let (mut old, mut new) = pair();
        let endless = tokio::spawn(async move { while old.stream.write_all(&[b'x'; 1000]).await.is_ok() {} });
        assert_eq!(new.line().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(new);
        endless.await.unwrap();
    }
}
