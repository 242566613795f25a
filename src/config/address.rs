//! `host:port` or `unix:/path`: where somebody listens.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// An address to listen on or to connect to. Names are resolved when they are used, not when they are read.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Address {
    /// TCP.
    Tcp {
        /// A name, an IPv4 address, or an IPv6 address without brackets.
        host: String,
        /// The port; 0 to listen on any free one.
        port: u16,
    },
    /// A unix socket.
    Unix(PathBuf),
}

impl Address {
    /// A TCP address.
    pub fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.to_owned(), port }
    }

    /// Whether only this machine can reach it: a unix socket, `localhost`, `127.0.0.0/8`, `::1`.
    pub fn is_local(&self) -> bool {
        match self {
            Address::Unix(_) => true,
            Address::Tcp { host, .. } => host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    /// What is wrong is told in words that follow the quoted text.
    fn from_str(text: &str) -> Result<Address, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') {
                return Err("is not a whole path; write it like \"unix:/run/sluice.sock\"".to_owned());
            }
            // sun_path of unix(7) holds 108 bytes with the closing NUL.
            if path.len() > 107 {
                return Err(format!("is too long: a unix socket's path has at most 107 bytes, this has {}", path.len()));
            }
            return Ok(Address::Unix(PathBuf::from(path)));
        }
        if text.starts_with('/') {
            return Err(format!("is a path; write \"unix:{text}\""));
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(format!("is a URL; leave out `{scheme}://` and write host:port"));
        }
        let no_port = || format!("has no port; write it like \"{text}:3306\"");
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or("has no closing bracket; write it like \"[::1]:3306\"")?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("has no IPv6 address between its brackets; write it like \"[::1]:3306\"".to_owned());
            }
            (host, rest.strip_prefix(':').ok_or_else(no_port)?)
        } else {
            if text.matches(':').count() > 1 {
                return Err(format!("looks like an IPv6 address; write it like \"[{text}]:3306\""));
            }
            text.rsplit_once(':').ok_or_else(no_port)?
        };
        if host.is_empty() {
            return Err("has no host; write it like \"0.0.0.0:3306\"".to_owned());
        }
        if host.contains(char::is_whitespace) || host.contains(['/', '@', ',']) {
            return Err("is not host:port; write it like \"10.0.0.11:3306\"".to_owned());
        }
        if host.bytes().all(|b| b.is_ascii_digit() || b == b'.') && host.parse::<IpAddr>().is_err() {
            return Err(format!("has no valid IPv4 address: `{host}`"));
        }
        let port = port.parse::<u16>().map_err(|_| format!("has no valid port: `{port}` is not a number from 0 to 65535"))?;
        Ok(Address::Tcp { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for text in ["0.0.0.0:3306", "[::]:3306", "db1.example:3307", "unix:/run/sluice.sock", "localhost:0"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for (text, said) in [
            ("10.0.0.11", "has no port; write it like \"10.0.0.11:3306\""),
            (":3306", "has no host; write it like \"0.0.0.0:3306\""),
            ("::1", "looks like an IPv6 address; write it like \"[::1]:3306\""),
            ("10.0.0.1:99999", "has no valid port: `99999` is not a number from 0 to 65535"),
            ("10.0.0.256:1", "has no valid IPv4 address: `10.0.0.256`"),
            ("/run/x.sock", "is a path; write \"unix:/run/x.sock\""),
            ("unix:x.sock", "is not a whole path; write it like \"unix:/run/sluice.sock\""),
            ("mysql://db1:3306", "is a URL; leave out `mysql://` and write host:port"),
        ] {
            assert_eq!(text.parse::<Address>(), Err(said.to_owned()), "{text}");
        }
        assert!("[::1]:1".parse::<Address>().unwrap().is_local());
        assert!(!"0.0.0.0:1".parse::<Address>().unwrap().is_local());
    }
}
