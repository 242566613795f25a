//! A TCP relay to put between the proxy and a server, or a client and the proxy: it can delay, stall, cut, and count.
//!
//! Plain threads, so it belongs to no runtime. Meant for tens of connections, not for measuring speed.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;

/// Which way bytes go: `Up` from whoever connected to the target, `Down` back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Towards the target.
    Up,
    /// Back from the target.
    Down,
}

/// What becomes of the bytes behind a place, see [`Link::spoil`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoil {
    /// The connection ends there.
    Close,
    /// Every byte behind it is this one.
    Bytes(u8),
}

/// Linux' shortest time-out before a segment is sent again.
const RESENT_AFTER: Duration = Duration::from_millis(200);

#[derive(Debug, Default)]
struct State {
    delay_us: [AtomicU64; 2],
    /// Of a thousand pieces so many are lost, and come only after [`RESENT_AFTER`].
    lost_permille: [AtomicU64; 2],
    /// Counts pieces, for the dice.
    pieces: AtomicU64,
    stalled: [AtomicBool; 2],
    bytes: [AtomicU64; 2],
    refuse: AtomicBool,
    over: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
    spoil: Mutex<Option<(Vec<u8>, Spoil)>>,
}

/// A relay to one target. Dropping it closes everything.
#[derive(Debug)]
pub struct Link {
    port: u16,
    state: Arc<State>,
}

impl Link {
    /// A relay on a free port of 127.0.0.1 to `target` (`127.0.0.1:3306`).
    pub fn to(target: &str) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, crate::ports::free_port()?))?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(State::default());
        let (accept, target) = (Arc::clone(&state), target.to_owned());
        std::thread::Builder::new().name("link".into()).spawn(move || {
            for client in listener.incoming().flatten() {
                if accept.over.load(Ordering::SeqCst) {
                    return;
                }
                if !accept.refuse.load(Ordering::SeqCst) {
                    let _ = accept.join(client, &target);
                }
            }
        })?;
        Ok(Self { port, state })
    }

    /// `127.0.0.1:PORT`, for [`crate::proxy::ProxyBuilder::reach`].
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Holds every piece of data back this long, one way.
    pub fn delay(&self, way: Way, delay: Duration) {
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.state.delay_us[way as usize].store(micros, Ordering::SeqCst);
    }

    /// Loses so many of a thousand pieces of data, one way: as TCP does it, they come later, and everything behind them with them.
    pub fn lose(&self, way: Way, permille: u64) {
        self.state.lost_permille[way as usize].store(permille, Ordering::SeqCst);
    }

    /// Stops carrying data one way, connections stay open: what a lost route or a frozen peer looks like.
    pub fn stall(&self, way: Way) {
        self.state.stalled[way as usize].store(true, Ordering::SeqCst);
    }

    /// Closes all connections and closes new ones at once: what a dead process looks like.
    pub fn cut(&self) {
        self.state.refuse.store(true, Ordering::SeqCst);
        self.state.close_all();
    }

    /// Closes all connections; new ones work.
    pub fn hang_up(&self) {
        self.state.close_all();
    }

    /// Ends all connections with a reset; new ones work. Source: connect(2), `AF_UNSPEC`.
    pub fn reset(&self) {
        for stream in self.state.streams.lock().expect("never poisoned").drain(..) {
            let _ = rustix::net::connect_unspec(&stream);
        }
    }

    /// Of the next connection on which the target sends `marker`, in one piece of data, what comes behind it is spoiled.
    pub fn spoil(&self, marker: &[u8], how: Spoil) {
        *self.state.spoil.lock().expect("never poisoned") = Some((marker.to_vec(), how));
    }

    /// Whether what [`Link::spoil`] waits for has come.
    pub fn has_spoiled(&self) -> bool {
        self.state.spoil.lock().expect("never poisoned").is_none()
    }

    /// Ends every delay, stall and cut.
    pub fn heal(&self) {
        for way in [Way::Up, Way::Down] {
            self.delay(way, Duration::ZERO);
            self.lose(way, 0);
            self.state.stalled[way as usize].store(false, Ordering::SeqCst);
        }
        self.state.refuse.store(false, Ordering::SeqCst);
    }

    /// Bytes carried one way since the start.
    pub fn bytes(&self, way: Way) -> u64 {
        self.state.bytes[way as usize].load(Ordering::SeqCst)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        self.state.close_all();
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)); // wakes the accepting thread
    }
}

impl State {
    /// Joins a client with a new connection to the target.
    fn join(self: &Arc<Self>, client: TcpStream, target: &str) -> Result<()> {
        let server = TcpStream::connect(target)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        self.streams.lock().expect("never poisoned").extend([client.try_clone()?, server.try_clone()?]);
        for (way, from, to) in [(Way::Up, client.try_clone()?, server.try_clone()?), (Way::Down, server, client)] {
            let state = Arc::clone(self);
            std::thread::Builder::new().name("link".into()).spawn(move || state.carry(way, from, to))?;
        }
        Ok(())
    }

    fn carry(&self, way: Way, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        let mut spoiled = None;
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let delay = self.delay_us[way as usize].load(Ordering::SeqCst);
            std::thread::sleep(Duration::from_micros(delay));
            let dice = self.pieces.fetch_add(1, Ordering::SeqCst).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
            if dice % 1000 < self.lost_permille[way as usize].load(Ordering::SeqCst) {
                std::thread::sleep(RESENT_AFTER);
            }
            while self.stalled[way as usize].load(Ordering::SeqCst) && !self.over.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(2));
            }
            // Counted first: whoever has received them finds them counted.
            self.bytes[way as usize].fetch_add(count as u64, Ordering::SeqCst);
            let mut good = count;
            if way == Way::Down
                && spoiled.is_none()
                && let Some((at, how)) = self.spoils(&buffer[..count])
            {
                (good, spoiled) = (at, Some(how));
            } else if spoiled.is_some() {
                good = 0;
            }
            match spoiled {
                Some(Spoil::Bytes(byte)) => buffer[good..count].fill(byte),
                Some(Spoil::Close) => {
                    let _ = to.write_all(&buffer[..good]);
                    let _ = from.shutdown(Shutdown::Both);
                    break;
                }
                None => {}
            }
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }

    /// Where the marker ends that is waited for.
    fn spoils(&self, piece: &[u8]) -> Option<(usize, Spoil)> {
        let mut wanted = self.spoil.lock().expect("never poisoned");
        let (marker, how) = wanted.as_ref()?;
        let at = piece.windows(marker.len()).position(|window| window == marker)? + marker.len();
        let how = *how;
        *wanted = None;
        Some((at, how))
    }

    fn close_all(&self) {
        for stream in self.streams.lock().expect("never poisoned").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it gets.
    fn echo() -> String {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut &stream));
            }
        });
        address
    }

    fn ask(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
        stream.write_all(text)?;
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }

    #[test]
    fn it_carries_counts_delays_stalls_and_cuts() {
        let link = Link::to(&echo()).unwrap();
        let mut stream = TcpStream::connect(link.address()).unwrap();
        assert_eq!(ask(&mut stream, b"hello").unwrap(), b"hello");
        assert_eq!((link.bytes(Way::Up), link.bytes(Way::Down)), (5, 5));

        link.delay(Way::Down, Duration::from_millis(80));
        let start = std::time::Instant::now();
        ask(&mut stream, b"slow").unwrap();
        assert!(start.elapsed() >= Duration::from_millis(80));

        link.lose(Way::Up, 1000);
        let start = std::time::Instant::now();
        ask(&mut stream, b"lost").unwrap();
        assert!(start.elapsed() >= Duration::from_millis(280), "sent again, and delayed on its way back");

        link.stall(Way::Up);
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(ask(&mut stream, b"held").is_err());
        link.heal();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut held = [0; 4];
        stream.read_exact(&mut held).unwrap();
        assert_eq!(&held, b"held");

        link.cut();
        assert!(ask(&mut stream, b"gone").is_err());
        let mut refused = TcpStream::connect(link.address()).unwrap();
        assert!(ask(&mut refused, b"no").is_err());
        link.heal();
        assert_eq!(ask(&mut TcpStream::connect(link.address()).unwrap(), b"back").unwrap(), b"back");
    }
}
