//! Where a store is: `redis://[user[:password]@]host[:port][/database]`, the same with `rediss://` by TLS and perhaps
//! `?ca=/path/to/authority.pem` behind it, `memcached://host[:port]`.

use std::path::PathBuf;

use zeroize::Zeroizing;

/// Which language it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Redis, or what speaks its protocol (RESP2).
    Redis,
    /// memcached, its text protocol.
    Memcached,
}

impl Kind {
    /// The longest value that is put there or taken from there, bytes. memcached's own limit is 1 MiB with its head, unless it is told another
    /// (`-I`).
    pub fn value_max(self) -> usize {
        match self {
            Kind::Redis => 9 << 20,
            Kind::Memcached => 1_000_000,
        }
    }
}

/// See the module.
#[derive(Clone)]
pub struct Place {
    /// Its language.
    pub kind: Kind,
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// For Redis: `AUTH` with user and password.
    pub login: Option<(String, Zeroizing<String>)>,
    /// For Redis: `SELECT`.
    pub database: u32,
    /// By TLS, the certificate verified; `None`: without.
    pub tls: Option<Trust>,
}

/// Who must have signed the certificate of a store, which must be made for its host's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// An authority that the system trusts.
    System,
    /// An authority of this PEM file.
    File(PathBuf),
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}:{}/{}", self.kind, self.host, self.port, self.database)?;
        match &self.tls {
            None => Ok(()),
            Some(Trust::System) => f.write_str(" by TLS"),
            Some(Trust::File(path)) => write!(f, " by TLS, {}", path.display()),
        }
    }
}

impl Place {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it, without the password.
    pub fn parse(url: &str) -> Result<Place, String> {
        let (scheme, rest) = url.split_once("://").ok_or("it has no scheme")?;
        let (kind, usual) = match scheme {
            "redis" | "rediss" => (Kind::Redis, 6379),
            "memcached" => (Kind::Memcached, 11211),
            other => return Err(format!("{other}:// is no store")),
        };
        // A file's name may have an @, too.
        let (rest, query) = match rest.rsplit_once("?ca=") {
            Some((rest, ca)) if scheme == "rediss" => (rest, Some(ca)),
            _ => (rest, None),
        };
        let (login, rest) = match rest.rsplit_once('@') {
            Some((login, rest)) => (Some(login), rest),
            None => (None, rest),
        };
        if rest.contains('?') {
            return Err(
                "what stands behind ? is not understood; there is ?ca= and a file for rediss://, which is Redis by TLS".to_owned()
            );
        }
        let tls = match (scheme, query) {
            ("rediss", None) => Some(Trust::System),
            ("rediss", Some("")) => return Err("?ca= names no file".to_owned()),
            ("rediss", Some(path)) => Some(Trust::File(PathBuf::from(plain(path)?))),
            _ => None,
        };
        let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, after)) => (host, after.strip_prefix(':')),
            None => match address.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            },
        };
        if host.is_empty() {
            return Err("it names no host".to_owned());
        }
        let port = port.map_or(Ok(usual), str::parse).map_err(|_| "its port is no number between 1 and 65535")?;
        let login = login
            .map(|login| {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                Ok::<_, String>((plain(user)?, Zeroizing::new(plain(password)?)))
            })
            .transpose()?;
        let database = if path.is_empty() { Ok(0) } else { path.parse() };
        let database = database.map_err(|_| "what stands behind its host is no database's number".to_owned())?;
        if kind == Kind::Memcached && (login.is_some() || !path.is_empty()) {
            return Err("memcached takes a host and a port and nothing else".to_owned());
        }
        Ok(Place { kind, host: host.to_owned(), port, login, database, tls })
    }
}

/// Without `%40` and the like.
fn plain(text: &str) -> Result<String, String> {
    let wrong = || "user, password or file has a % without two hexadecimal digits behind it (write %25 for it)".to_owned();
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2).ok_or_else(wrong)?;
        let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
        out.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        rest = after;
    }
    String::from_utf8(out).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let place =
            |url| Place::parse(url).map(|p| format!("{p:?} {:?}", p.login.as_ref().map(|(u, p)| format!("{u}/{}", p.as_str()))));
        for (url, expected) in [
            ("redis://host", "Redis host:6379/0 None"),
            ("redis://host:7000/3", "Redis host:7000/3 None"),
            ("redis://:p%40ss@[::1]:7000", "Redis ::1:7000/0 Some(\"/p@ss\")"),
            ("redis://app:a:b@host", "Redis host:6379/0 Some(\"app/a:b\")"),
            ("rediss://app:a@host", "Redis host:6379/0 by TLS Some(\"app/a\")"),
            ("rediss://host:7000/3?ca=/etc/a%20b.pem", "Redis host:7000/3 by TLS, /etc/a b.pem None"),
            ("rediss://app:p?@host?ca=/etc/a@b.pem", "Redis host:6379/0 by TLS, /etc/a@b.pem Some(\"app/p?\")"),
            ("memcached://10.0.0.1", "Memcached 10.0.0.1:11211/0 None"),
        ] {
            assert_eq!(place(url).as_deref(), Ok(expected), "{url}");
        }
        for url in [
            "redis://",
            "redis://h:x",
            "redis://h:99999",
            "redis://h/x",
            "redis://a%4@h",
            "memcached://u@h",
            "memcached://h/1",
            "redis://h?ca=/a.pem",
            "rediss://h?ca=",
            "rediss://h?insecure",
            "rediss://h?ca=/a%4",
            "http://h",
            "h",
        ] {
            let error = place(url).unwrap_err();
            assert!(!error.is_empty() && !error.contains("a%4"), "{url}: {error}");
        }
    }
}
