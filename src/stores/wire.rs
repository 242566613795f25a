//! Commands and answers as bytes: RESP2 of Redis (<https://redis.io/docs/latest/develop/reference/protocol-spec/>), the text protocol of memcached
//! (`doc/protocol.txt` of its sources). Pure.

use std::time::Duration;

use super::place::{Kind, Place};

/// A line of an answer that is longer is nonsense.
const LINE_MAX: usize = 1024;
/// memcached takes longer lives for points in time.
const MEMCACHED_TTL_MAX: u64 = 30 * 24 * 3600;

/// What a command's answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// A value, or that there is none.
    Value,
    /// That it is done.
    Done,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// A value.
    Value(Vec<u8>),
    /// There is none of that name.
    Nothing,
    /// Done.
    Done,
    /// The store does not want to, and says why; the connection is as good as before.
    Refused(String),
}

/// Bytes that are no answer. The connection cannot be used any more.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nonsense {
    /// Not the protocol.
    #[error("its answer is none: {0:?}")]
    Line(String),
    /// A value that is longer than any that was put there.
    #[error("it has a value of {0} bytes, which is longer than any of ours")]
    Long(u64),
}

fn redis(out: &mut Vec<u8>, parts: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", parts.len()).as_bytes());
    for part in parts {
        out.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}

/// What a connection begins with, and how many answers that has. The last one says that the store is there.
pub fn hello(out: &mut Vec<u8>, place: &Place) -> usize {
    if place.kind == Kind::Memcached {
        out.extend_from_slice(b"version\r\n");
        return 1;
    }
    let mut answers = 1;
    if let Some((user, password)) = &place.login {
        answers += 1;
        match user.as_str() {
            "" => redis(out, &[b"AUTH", password.as_bytes()]),
            user => redis(out, &[b"AUTH", user.as_bytes(), password.as_bytes()]),
        }
    }
    if place.database != 0 {
        answers += 1;
        redis(out, &[b"SELECT", place.database.to_string().as_bytes()]);
    }
    redis(out, &[b"PING"]);
    answers
}

/// A command that asks for a value.
pub fn get(out: &mut Vec<u8>, kind: Kind, name: &str) {
    match kind {
        Kind::Redis => redis(out, &[b"GET", name.as_bytes()]),
        Kind::Memcached => out.extend_from_slice(format!("get {name}\r\n").as_bytes()),
    }
}

/// A command that puts one.
pub fn set(out: &mut Vec<u8>, kind: Kind, name: &str, value: &[u8], ttl: Duration) {
    match kind {
        Kind::Redis => {
            let ms = ttl.as_millis().clamp(1, u128::from(u32::MAX)).to_string();
            redis(out, &[b"SET", name.as_bytes(), value, b"PX", ms.as_bytes()]);
        }
        Kind::Memcached => {
            let seconds = ttl.as_millis().div_ceil(1000).clamp(1, u128::from(MEMCACHED_TTL_MAX));
            out.extend_from_slice(format!("set {name} 0 {seconds} {}\r\n", value.len()).as_bytes());
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// A line without its end, and the bytes it takes with it. `None`: it is not whole yet.
fn line(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, Nonsense> {
    let piece = bytes.get(..LINE_MAX.min(bytes.len())).unwrap_or_default();
    match piece.windows(2).position(|pair| pair == b"\r\n") {
        Some(end) => Ok(piece.get(..end).map(|line| (line, end + 2))),
        None if piece.len() < LINE_MAX => Ok(None),
        None => Err(nonsense(piece)),
    }
}

fn nonsense(bytes: &[u8]) -> Nonsense {
    Nonsense::Line(String::from_utf8_lossy(bytes.get(..bytes.len().min(80)).unwrap_or_default()).into_owned())
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A value of `len` bytes behind the first `from`, with `end` behind it. `None`: it is not whole yet.
fn value(bytes: &[u8], from: usize, len: u64, max: usize, end: &[u8]) -> Result<Option<(Answer, usize)>, Nonsense> {
    let size = usize::try_from(len).ok().filter(|len| *len <= max).ok_or(Nonsense::Long(len))?;
    let (to, whole) = (from + size, from + size + end.len());
    let Some(after) = bytes.get(to..whole) else { return Ok(None) };
    if after != end {
        return Err(nonsense(after));
    }
    Ok(bytes.get(from..to).map(|value| (Answer::Value(value.to_vec()), whole)))
}

/// The first answer in `bytes`, and how many of them it takes. `None`: it is not whole yet, and is not longer than `max` and a line or two.
///
/// # Errors
/// It is none.
pub fn answer(kind: Kind, expect: Expect, bytes: &[u8], max: usize) -> Result<Option<(Answer, usize)>, Nonsense> {
    let Some((text, used)) = line(bytes)? else { return Ok(None) };
    let said = |answer| Ok(Some((answer, used)));
    let refused = || Ok(Some((Answer::Refused(String::from_utf8_lossy(text).into_owned()), used)));
    match kind {
        Kind::Redis => match (text.split_first(), expect) {
            (Some((b'-', _)), _) => refused(),
            (Some((b'+', _)), Expect::Done) => said(Answer::Done),
            (Some((b'$', b"-1")), Expect::Value) => said(Answer::Nothing),
            (Some((b'$', len)), Expect::Value) => match number(len) {
                Some(len) => value(bytes, used, len, max, b"\r\n"),
                None => Err(nonsense(text)),
            },
            _ => Err(nonsense(text)),
        },
        Kind::Memcached => {
            let words: Vec<&[u8]> = text.split(|byte| *byte == b' ').collect();
            match (words.as_slice(), expect) {
                ([b"SERVER_ERROR", ..], _) => refused(),
                ([b"END"], Expect::Value) => said(Answer::Nothing),
                ([b"VALUE", _, _, len], Expect::Value) => match number(len) {
                    Some(len) => value(bytes, used, len, max, b"\r\nEND\r\n"),
                    None => Err(nonsense(text)),
                },
                ([b"STORED" | b"NOT_STORED"] | [b"VERSION", ..], Expect::Done) => said(Answer::Done),
                _ => Err(nonsense(text)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(kind: Kind, expect: Expect, bytes: &[u8]) -> Result<Option<(Answer, usize)>, Nonsense> {
        // However it is cut, it is not whole before its end, and then the same.
        for cut in 0..bytes.len() {
            let part = answer(kind, expect, bytes.get(..cut).unwrap(), 10);
            assert!(part == Ok(None) || part == answer(kind, expect, bytes, 10), "{cut}: {part:?}");
        }
        answer(kind, expect, bytes, 10)
    }

    #[test]
    fn answers_are_read_however_they_are_cut() {
        use Expect::{Done, Value};
        use Kind::{Memcached, Redis};
        let given = |bytes: &[u8]| Answer::Value(bytes.to_vec());
        for (kind, expect, bytes, expected) in [
            (Redis, Value, &b"$5\r\na\r\nbc\r\n"[..], given(b"a\r\nbc")),
            (Redis, Value, b"$0\r\n\r\n", given(b"")),
            (Redis, Value, b"$-1\r\n", Answer::Nothing),
            (Redis, Done, b"+OK\r\n", Answer::Done),
            (Redis, Done, b"-OOM no\r\n", Answer::Refused("-OOM no".into())),
            (Memcached, Value, b"VALUE k 0 3\r\nabc\r\nEND\r\n", given(b"abc")),
            (Memcached, Value, b"END\r\n", Answer::Nothing),
            (Memcached, Done, b"STORED\r\n", Answer::Done),
            (Memcached, Done, b"SERVER_ERROR object too large\r\n", Answer::Refused("SERVER_ERROR object too large".into())),
            (Memcached, Done, b"VERSION 1.6\r\n", Answer::Done),
        ] {
            assert_eq!(whole(kind, expect, bytes), Ok(Some((expected, bytes.len()))), "{}", String::from_utf8_lossy(bytes));
        }
        for (kind, expect, bytes) in [
            (Redis, Value, &b"$11\r\n"[..]),
            (Redis, Value, b"$18446744073709551615\r\n"),
            (Redis, Value, b"$x\r\n"),
            (Redis, Value, b"$2\r\nabcd"),
            (Redis, Value, b"*1\r\n"),
            (Redis, Done, b"HTTP/1.1 400 Bad Request\r\n"),
            (Memcached, Value, b"VALUE k 0 11\r\n"),
            (Memcached, Value, b"VALUE k 0 1\r\na\r\nNOEND"),
            (Memcached, Done, b"ERROR\r\n"),
            (Memcached, Done, b"CLIENT_ERROR bad data chunk\r\n"),
        ] {
            assert!(answer(kind, expect, bytes, 10).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
        assert!(answer(Redis, Done, &[b'x'; LINE_MAX], 10).is_err(), "a line without an end is not waited for");
    }

    #[test]
    fn commands_are_written() {
        let mut out = Vec::new();
        set(&mut out, Kind::Redis, "k", b"a\r\n", Duration::from_millis(1500));
        get(&mut out, Kind::Redis, "k");
        assert_eq!(
            String::from_utf8_lossy(&out),
            "*5\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\na\r\n\r\n$2\r\nPX\r\n$4\r\n1500\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"
        );
        out.clear();
        set(&mut out, Kind::Memcached, "k", b"a\r\n", Duration::from_millis(1500));
        get(&mut out, Kind::Memcached, "k");
        assert_eq!(String::from_utf8_lossy(&out), "set k 0 2 3\r\na\r\n\r\nget k\r\n");
        out.clear();
        let place = Place::parse("redis://u:p@h/2").unwrap();
        assert_eq!(hello(&mut out, &place), 3);
        assert!(String::from_utf8_lossy(&out).ends_with("*1\r\n$4\r\nPING\r\n"));
    }
}
