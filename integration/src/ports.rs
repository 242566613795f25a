//! Free TCP ports on 127.0.0.1.
//!
//! Not by binding port 0: that gives a port of the range the kernel also takes for outgoing connections, so while a killed
//! server is down, any client of this machine may happen to sit on its port, and the server could not come back. We try ports
//! below that range (which begins at 32768 on Linux) instead, from a place that differs between processes. A clash between two
//! processes remains possible, so whoever starts something on a port retries with another.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail};

const LOWEST: u32 = 12_000;
const COUNT: u32 = 20_000;
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port nobody listens on just now. Not given twice to one process until all have been tried.
pub fn free_port() -> Result<u16> {
    let start = std::process::id().wrapping_mul(7919);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(LOWEST + start.wrapping_add(step) % COUNT).expect("below 32000");
        if is_free(port) {
            return Ok(port);
        }
    }
    bail!("no free TCP port between {LOWEST} and {}", LOWEST + COUNT)
}

/// `wanted` when it is free, else the next free port above it.
pub fn free_port_from(wanted: u16) -> Result<u16> {
    match (wanted..wanted.saturating_add(200)).find(|port| is_free(*port)) {
        Some(port) => Ok(port),
        None => bail!("no free TCP port from {wanted} on"),
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_distinct_and_below_the_ephemeral_range() {
        let (a, b) = (free_port().unwrap(), free_port().unwrap());
        assert!(a != b && a < 32_768 && b < 32_768);
    }

    #[test]
    fn a_taken_port_is_passed_over() {
        let taken = free_port().unwrap();
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, taken)).unwrap();
        assert!(free_port_from(taken).unwrap() > taken);
    }
}
