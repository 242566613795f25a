//! A MySQL server that says what a script tells it to: for replies no real server gives.
//!
//! Every connection plays the same script from the start. Plain threads, so it belongs to no runtime.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};

/// What the server does next.
#[derive(Debug, Clone)]
pub enum Step {
    /// Send these bytes as they are, header and all.
    Send(Vec<u8>),
    /// Read one packet and forget it.
    Read,
    /// Do nothing for a while.
    Pause(Duration),
    /// Answer every further command with OK, until the peer leaves.
    Serve,
    /// Keep the connection open and silent, until the peer leaves.
    Hang,
}

/// A running fake. Dropping it ends it for new connections.
#[derive(Debug)]
pub struct FakeServer {
    port: u16,
    over: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
}

impl FakeServer {
    /// Starts one on a free port.
    pub fn start(script: Vec<Step>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, crate::ports::free_port()?))?;
        let port = listener.local_addr()?.port();
        let (over, accepted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (ended, count) = (Arc::clone(&over), Arc::clone(&accepted));
        std::thread::Builder::new().name("fake".into()).spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let script = script.clone();
                let _ = std::thread::Builder::new().name("fake".into()).spawn(move || play(stream, &script));
            }
        })?;
        Ok(Self { port, over, accepted })
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn play(mut stream: TcpStream, script: &[Step]) -> Result<()> {
    for step in script {
        match step {
            Step::Send(bytes) => stream.write_all(bytes)?,
            Step::Read => {
                read_packet(&mut stream)?;
            }
            Step::Pause(time) => std::thread::sleep(*time),
            Step::Serve => loop {
                let (sequence, _) = read_packet(&mut stream)?;
                stream.write_all(&packet(sequence.wrapping_add(1), OK))?;
            },
            Step::Hang => while stream.read(&mut [0; 1024])? > 0 {},
        }
    }
    Ok(())
}

/// Reads one packet: its sequence id and payload.
pub fn read_packet(stream: &mut impl Read) -> Result<(u8, Vec<u8>)> {
    let mut head = [0; 4];
    stream.read_exact(&mut head)?;
    let length = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
    if length == 0xff_ffff {
        bail!("this fake reads no packets of 16 MiB");
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload)?;
    Ok((head[3], payload))
}

/// A packet: header and payload (below 16 MiB).
pub fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small packet").to_le_bytes();
    let mut bytes = vec![length[0], length[1], length[2], sequence];
    bytes.extend_from_slice(payload);
    bytes
}

/// The payload of an OK without anything in it, autocommit on.
pub const OK: &[u8] = &[0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00];

/// The greeting of a MySQL 8.4 that asks for `mysql_native_password`: protocol 10, no TLS, DEPRECATE_EOF and SESSION_TRACK.
pub fn greeting() -> Vec<u8> {
    let mut payload = b"\x0a8.4.0-fake\0\x07\0\0\0ABCDEFGH\0".to_vec();
    let capabilities: u32 =
        0x0000_0001 | 0x8 | 0x200 | 0x2000 | 0x8000 | 0x1_0000 | 0x2_0000 | 0x4_0000 | 0x8_0000 | 0x80_0000 | 0x100_0000;
    let [a, b, c, d] = capabilities.to_le_bytes();
    payload.extend([a, b, 45, 2, 0, c, d, 21]);
    payload.extend([0; 10]);
    payload.extend(b"IJKLMNOPQRST\0mysql_native_password\0");
    packet(0, &payload)
}

/// A login that succeeds, then OK to everything.
pub fn agreeable() -> Vec<Step> {
    vec![Step::Send(greeting()), Step::Read, Step::Send(packet(2, OK)), Step::Serve]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::APP;
    use mysql_async::prelude::Queryable;

    #[tokio::test]
    async fn a_driver_believes_it() {
        let fake = FakeServer::start(agreeable()).unwrap();
        let port = fake.address().rsplit(':').next().unwrap().parse().unwrap();
        let mut conn = crate::driver::connect(crate::driver::options(port, APP)).await.unwrap();
        conn.query_drop("anything").await.unwrap();
        assert_eq!(fake.accepted(), 1);
    }

    #[tokio::test]
    async fn garbage_is_sent_as_it_is() {
        let fake = FakeServer::start(vec![Step::Send(vec![0xff; 40])]).unwrap();
        let port = fake.address().rsplit(':').next().unwrap().parse().unwrap();
        assert!(crate::driver::connect(crate::driver::options(port, APP)).await.is_err());
    }
}
