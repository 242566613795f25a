//! `caching_sha2_password`: a fast exchange by challenge when the server remembers the account, else a full one in which
//! the password itself is sent, in TLS, on a unix socket, or encrypted with the server's RSA key.
//! Source: MySQL manual "Caching SHA-2 Pluggable Authentication" and "Caching_sha2_password information".

use super::{sha256, xor};
use crate::protocol::handshake::NONCE_LEN;

/// AuthMoreData from the server: the fast exchange has succeeded; OK follows.
pub const FAST_OK: u8 = 0x03;
/// AuthMoreData from the server: send the password.
pub const FULL_NEEDED: u8 = 0x04;
/// From the client: send me your public key.
pub const REQUEST_KEY: u8 = 0x02;
/// The same question in `sha256_password`.
pub const SHA256_REQUEST_KEY: u8 = 0x01;

/// The answer to a challenge: SHA256(password) XOR SHA256(SHA256(SHA256(password)) + challenge).
pub fn scramble(password: &[u8], nonce: &[u8; NONCE_LEN]) -> [u8; 32] {
    let once = zeroize::Zeroizing::new(sha256(&[password]));
    let twice = sha256(&[once.as_slice()]);
    xor(sha256(&[&twice, nonce]), &once)
}

/// The password and its NUL, XORed with the challenge again and again: what is RSA-encrypted, and the way back.
pub fn mask(password: &mut [u8], nonce: &[u8; NONCE_LEN]) {
    for (byte, mask) in password.iter_mut().zip(nonce.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded between the mysql client and mysqld 9.7, password "freshpw".
    #[test]
    fn recorded_scramble() {
        let nonce = *b"sWw(pTE7L\\R\x1b:W`3R_h\x19";
        let sent = b"!G\xe2\xbaB\xe1\xe1A\xc5\xfc\x8d\xd9IF?\x86\xc9\xed\xec\x84\xa9M\x15[4qQa\xc7MT\x0b";
        assert_eq!(&scramble(b"freshpw", &nonce), sent);
    }

    /// The example in the tests of the Go driver: password "secret" (first bytes).
    #[test]
    fn known_scramble() {
        let nonce = [10, 47, 74, 111, 75, 73, 34, 48, 88, 76, 114, 74, 37, 13, 3, 80, 82, 2, 23, 21];
        assert_eq!(&scramble(b"secret", &nonce)[..8], &[244, 144, 231, 111, 102, 217, 216, 102]);
    }

    #[test]
    fn mask_is_its_own_inverse() {
        let nonce = *b"abcdefghijklmnopqrst";
        let mut text = b"a password longer than the twenty bytes of the nonce\0".to_vec();
        let clear = text.clone();
        mask(&mut text, &nonce);
        assert_ne!(text, clear);
        mask(&mut text, &nonce);
        assert_eq!(text, clear);
    }
}
