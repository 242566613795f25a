//! `mysql_native_password`: the server keeps stage 2 = SHA1(SHA1(password)); the client answers a challenge with
//! SHA1(password) XOR SHA1(challenge + stage 2). Source: MySQL manual "Native Authentication".
//!
//! Whoever sees one answer and knows stage 2 has SHA1(password), and with it can log in for ever: see [`recover`].

use super::{sha1, xor};
use crate::protocol::handshake::NONCE_LEN;

/// `SHA1(password)`.
pub fn stage1(password: &[u8]) -> [u8; 20] {
    sha1(&[password])
}

/// `SHA1(stage1)`, which the server keeps.
pub fn stage2(stage1: &[u8; 20]) -> [u8; 20] {
    sha1(&[stage1])
}

/// The answer to a challenge.
pub fn scramble(stage1: &[u8; 20], nonce: &[u8; NONCE_LEN]) -> [u8; 20] {
    xor(sha1(&[nonce, &stage2(stage1)]), stage1)
}

/// Gets `SHA1(password)` back from an answer to a challenge when the server's stage 2 is known. `None` when the answer
/// was not made with the password of that stage 2.
pub fn recover(answer: &[u8], nonce: &[u8; NONCE_LEN], stage2_of_account: &[u8; 20]) -> Option<[u8; 20]> {
    let answer: &[u8; 20] = answer.try_into().ok()?;
    let stage1 = xor(sha1(&[nonce, stage2_of_account]), answer);
    super::same(&stage2(&stage1), stage2_of_account).then_some(stage1)
}

/// Reads `*` and 40 hexadecimal digits, as `SHOW CREATE USER` and `PASSWORD()` write stage 2.
pub fn parse_stage2(text: &str) -> Option<[u8; 20]> {
    let digits = text.strip_prefix('*')?.as_bytes();
    if digits.len() != 40 {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    let mut out = [0; 20];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(out)
}

/// Every stage 2 that an answer to `SHOW CREATE USER CURRENT_USER()` holds: MariaDB lets a user see his own, and an
/// account may have several ways to log in (`IDENTIFIED VIA unix_socket OR mysql_native_password USING '*…'`).
pub fn stage2_in_create_user(statement: &str) -> impl Iterator<Item = [u8; 20]> + '_ {
    statement.split('\'').filter_map(parse_stage2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `PASSWORD('password')` as the manual prints it.
    #[test]
    fn known_values() {
        let two = stage2(&stage1(b"password"));
        assert_eq!(Some(two), parse_stage2("*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19"));
        let nonce = *b"abcdefghijklmnopqrst";
        let answer = scramble(&stage1(b"password"), &nonce);
        assert_eq!(recover(&answer, &nonce, &two), Some(stage1(b"password")));
        assert_eq!(recover(&answer, b"another nonce 012345", &two), None);
        assert_eq!(recover(&answer[..19], &nonce, &two), None);
        assert_eq!(recover(&[], &nonce, &two), None);
    }

    /// Recorded between the mariadb client and mariadbd 10.11, password "natpw", and what `SHOW CREATE USER` said then.
    #[test]
    fn recorded_exchange() {
        let nonce = *b"iInpi=529g{Tran'r,$k";
        let sent = b"q\xf4\xa5v\x9d\xe7L\x03\x87\x1c\x0eT\x9dv\xdeS\xfd\x10\x1bl";
        assert_eq!(&scramble(&stage1(b"natpw"), &nonce), sent);
        let shown = "CREATE USER `nat`@`%` IDENTIFIED BY PASSWORD '*1374EDB489482E02B373F1E4764607ADEACA73BB'";
        let two = stage2_in_create_user(shown).next().expect("a hash");
        assert_eq!(recover(sent, &nonce, &two), Some(stage1(b"natpw")));
    }

    #[test]
    fn stage2_is_found_in_what_servers_print() {
        for (statement, found) in [
            ("CREATE USER `a`@`%` IDENTIFIED BY PASSWORD '*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19'", 1),
            (
                "CREATE USER `a`@`%` IDENTIFIED VIA unix_socket OR mysql_native_password USING '*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19'",
                1,
            ),
            ("CREATE USER `a`@`%` IDENTIFIED WITH 'mysql_native_password' AS '<secret>' REQUIRE NONE", 0),
            ("CREATE USER `a`@`%`", 0),
            ("'*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E1'", 0),
            ("'*ZZ70C0C06DEE42FD1618BB99005ADCA2EC9D1E19'", 0),
        ] {
            assert_eq!(stage2_in_create_user(statement).count(), found, "{statement}");
        }
    }
}
