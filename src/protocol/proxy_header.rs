//! The PROXY protocol: a header in front of a connection's first byte, in which whoever carries the connection says where it comes
//! from. Source: <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, versions 1 and 2.
//!
//! Reading never takes a byte behind the header: [`read`] says how many more may be read.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use proxy_header::{Error, ParseConfig, ProxiedAddress, ProxyHeader};
use thiserror::Error;

/// The shortest header: `PROXY UNKNOWN\r\n`.
const SHORTEST: usize = 15;
/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// What version 1 begins with.
const WORD: &[u8; 6] = b"PROXY ";
/// Version 2's fixed part.
const FIXED: usize = 16;
/// The most bytes taken behind the fixed part: addresses (36) and extensions, of which certificates' names are the longest.
pub const EXTENSIONS_LEN_MAX: usize = 4096;

/// How far a header has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Not complete. So many bytes may be read without taking what is not the header's.
    More(usize),
    /// Complete. `None`: it tells no address, because the sender speaks for itself (LOCAL, a health check) or does not know.
    Done(Option<SocketAddr>),
}

/// Why there is no header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum NoHeader {
    /// Something else.
    #[error("what was sent is no PROXY protocol header")]
    Other,
    /// It begins like one.
    #[error("the PROXY protocol header is damaged")]
    Damaged,
    /// Longer than [`EXTENSIONS_LEN_MAX`] allows.
    #[error("the PROXY protocol header is longer than {EXTENSIONS_LEN_MAX} bytes")]
    TooLong,
}

/// Looks at what has come so far.
///
/// # Errors
/// See [`NoHeader`]; more bytes will not help.
pub fn read(buf: &[u8]) -> Result<Progress, NoHeader> {
    let begins = |with: &[u8]| buf.iter().zip(with).all(|(a, b)| a == b);
    if !begins(SIGNATURE) && !begins(WORD) {
        return Err(NoHeader::Other);
    }
    if buf.len() < SHORTEST {
        return Ok(Progress::More(SHORTEST - buf.len()));
    }
    if begins(SIGNATURE) {
        let Some(length) = buf.get(FIXED - 2..FIXED).and_then(|b| b.first_chunk().copied()).map(u16::from_be_bytes) else {
            return Ok(Progress::More(FIXED - buf.len()));
        };
        if usize::from(length) > EXTENSIONS_LEN_MAX {
            return Err(NoHeader::TooLong);
        }
        let whole = FIXED + usize::from(length);
        if buf.len() < whole {
            return Ok(Progress::More(whole - buf.len()));
        }
    }
    match ProxyHeader::parse(buf, ParseConfig::default()) {
        Ok((header, _)) => Ok(Progress::Done(header.proxied_address().map(|address| address.source))),
        // Version 1 ends with its line.
        Err(Error::BufferTooShort) if begins(WORD) => Ok(Progress::More(1)),
        Err(_) => Err(NoHeader::Damaged),
    }
}

/// The version to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// The header for a connection on behalf of a client at this address (a port that is not known is 0), to `server`. `None`: for a
/// connection of one's own, or of a client on a unix socket.
pub fn write(version: Version, client: Option<SocketAddr>, server: SocketAddr) -> Vec<u8> {
    // Both addresses must be of one family.
    let both = client.map(|client| match (client.ip().to_canonical(), server.ip().to_canonical()) {
        (IpAddr::V6(_), IpAddr::V4(v4)) => (client, SocketAddr::new(v4.to_ipv6_mapped().into(), server.port())),
        (client_ip @ IpAddr::V4(_), IpAddr::V6(_)) => {
            (SocketAddr::new(client_ip, client.port()), SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), server.port()))
        }
        (client_ip, server_ip) => (SocketAddr::new(client_ip, client.port()), SocketAddr::new(server_ip, server.port())),
    });
    let header = match both {
        Some((client, server)) => ProxyHeader::with_address(ProxiedAddress::stream(client, server)),
        None => ProxyHeader::with_local(),
    };
    let mut out = Vec::with_capacity(128);
    // It has no extensions and addresses of one family, which is all that could be refused.
    let _ = match version {
        Version::V1 => header.encode_v1(&mut out),
        Version::V2 => header.encode_v2(&mut out),
    };
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        [&SIGNATURE[..], &[command, family], &u16::try_from(rest.len()).expect("short").to_be_bytes(), rest].concat()
    }

    fn headers() -> Vec<(Vec<u8>, Option<&'static str>)> {
        let v4 = [10, 1, 2, 3, 10, 0, 0, 1, 0x12, 0x34, 0x0c, 0xea];
        let unique_id = [5, 0, 3, b'a', b'b', b'c'];
        vec![
            (b"PROXY TCP4 10.1.2.3 10.0.0.1 4660 3306\r\n".to_vec(), Some("10.1.2.3:4660")),
            (b"PROXY TCP6 2001:db8::1 ::1 4660 3306\r\n".to_vec(), Some("[2001:db8::1]:4660")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (v2(0x21, 0x11, &v4), Some("10.1.2.3:4660")),
            (v2(0x21, 0x11, &[&v4[..], &unique_id].concat()), Some("10.1.2.3:4660")),
            (v2(0x21, 0x11, &[&v4[..], &[4, 0x0e, 0], &[0; 3584]].concat()), Some("10.1.2.3:4660")),
            (v2(0x20, 0x00, &[]), None),
            (v2(0x20, 0x11, &v4), None),
            (v2(0x21, 0x31, &[b'/'; 216]), None),
        ]
    }

    /// What comes of a header that arrives in pieces of at most `step` bytes, and how much of `bytes` was taken.
    fn arrive(bytes: &[u8], step: usize) -> (Result<Option<SocketAddr>, NoHeader>, usize) {
        let mut taken = 0;
        loop {
            match read(&bytes[..taken]) {
                Ok(Progress::Done(address)) => return (Ok(address), taken),
                Err(error) => return (Err(error), taken),
                Ok(Progress::More(n)) => {
                    assert!(n > 0);
                    let next = (taken + n.min(step)).min(bytes.len());
                    if next == taken {
                        return (Err(NoHeader::Damaged), taken);
                    }
                    taken = next;
                }
            }
        }
    }

    #[test]
    fn headers_however_they_arrive() {
        for (header, address) in headers() {
            let with_more = [&header[..], b"the first packet"].concat();
            for step in [1, 2, 7, 15, 16, 1000, 100_000] {
                let (result, taken) = arrive(&with_more, step);
                let shown = result.map(|a| a.map(|a| a.to_string()));
                assert_eq!(shown, Ok(address.map(str::to_owned)), "{header:?} by {step}");
                assert_eq!(taken, header.len(), "{header:?} by {step}: nothing behind it is taken");
            }
        }
    }

    #[test]
    fn what_is_no_header() {
        for (bytes, error) in [
            (b"\x4a\x00\x00\x01\x85\xa6\x3f\x20\0\0\0\x01\x2d\0\0\0".to_vec(), NoHeader::Other),
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), NoHeader::Other),
            (b"PROXY TCP4 10.1.2.3.4 10.0.0.1 1 2\r\n".to_vec(), NoHeader::Damaged),
            (b"PROXY TCP5 10.1.2.3 10.0.0.1 1 2\r\n".to_vec(), NoHeader::Damaged),
            (b"PROXY TCP4 10.1.2.3 10.0.0.1 1 99999\r\n".to_vec(), NoHeader::Damaged),
            ([&b"PROXY TCP4 "[..], &[b'1'; 200]].concat(), NoHeader::Damaged),
            (v2(0x11, 0x11, &[0; 12]), NoHeader::Damaged),
            (v2(0x21, 0x11, &[0; 11]), NoHeader::Damaged),
            (v2(0x21, 0x11, &[0; EXTENSIONS_LEN_MAX + 1]), NoHeader::TooLong),
        ] {
            assert_eq!(arrive(&bytes, 1).0, Err(error), "{bytes:?}");
            assert_eq!(arrive(&bytes, 100_000).0, Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let server: SocketAddr = "10.0.0.1:3306".parse().expect("an address");
        let server6: SocketAddr = "[2001:db8::2]:3306".parse().expect("an address");
        for version in [Version::V1, Version::V2] {
            for (client, told) in [
                (Some("10.1.2.3:0"), Some("10.1.2.3:0")),
                (Some("[2001:db8::1]:7"), Some("[2001:db8::1]:7")),
                (Some("[::ffff:10.1.2.3]:7"), Some("10.1.2.3:7")),
                (None, None),
            ] {
                for server in [server, server6] {
                    let header = write(version, client.map(|c| c.parse().expect("an address")), server);
                    let read = arrive(&header, 100_000).0.map(|a| a.map(|a| a.to_string()));
                    assert_eq!(read, Ok(told.map(str::to_owned)), "{version:?} {client:?} to {server}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..300), step in 1usize..40) {
            let _ = arrive(&bytes, step);
        }

        #[test]
        fn damaged_headers_end_as_they_do_in_one_piece(which in 0usize..10, at in 0usize..60, byte in any::<u8>(), step in 1usize..40) {
            let (mut header, _) = headers().swap_remove(which);
            let at = at % header.len();
            header[at] = byte;
            header.extend_from_slice(&[b' '; 200]);
            let (cut, whole) = (arrive(&header, step).0, arrive(&header, 100_000).0);
            prop_assert_eq!(cut, whole);
        }
    }
}
