//! RSA as the password plugins use it: OAEP with SHA-1, public keys as PEM.
//!
//! The padding's randomness comes from the library; an encrypted password is never compared, so nothing here depends on it.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use zeroize::Zeroizing;

use super::{Secret, caching_sha2};
use crate::protocol::handshake::NONCE_LEN;

/// The longest PEM public key taken from a server, in bytes (16,384 bits of key are 3 KiB).
pub const PUBLIC_KEY_LEN_MAX: usize = 8 * 1024;

/// What can be wrong with a key or with what it should open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RsaError {
    /// The public key is no PEM public key of RSA.
    #[error("the public key is not an RSA key in PEM")]
    BadKey,
    /// The password is longer than the key can encrypt.
    #[error("the password is too long for the public key")]
    TooLong,
    /// The text was not encrypted with our key.
    #[error("the password was not encrypted with our public key")]
    NotOurs,
    /// The key could not be made.
    #[error("no RSA key could be made")]
    NoKey,
}

/// The password, NUL-terminated, masked with the challenge and encrypted with a server's public key.
///
/// # Errors
/// [`RsaError::BadKey`], [`RsaError::TooLong`].
pub fn encrypt_password(password: &Secret, nonce: &[u8; NONCE_LEN], public_key_pem: &[u8]) -> Result<Vec<u8>, RsaError> {
    if public_key_pem.len() > PUBLIC_KEY_LEN_MAX {
        return Err(RsaError::BadKey);
    }
    let der = SubjectPublicKeyInfoDer::from_pem_slice(public_key_pem).map_err(|_| RsaError::BadKey)?;
    let key = PublicEncryptingKey::from_der(&der).map_err(|_| RsaError::BadKey)?;
    let key = OaepPublicEncryptingKey::new(key).map_err(|_| RsaError::BadKey)?;
    let mut clear = Zeroizing::new(Vec::with_capacity(password.expose().len() + 1));
    clear.extend_from_slice(password.expose());
    clear.push(0);
    caching_sha2::mask(&mut clear, nonce);
    if clear.len() > key.max_plaintext_size(&OAEP_SHA1_MGF1SHA1) {
        return Err(RsaError::TooLong);
    }
    let mut out = vec![0; key.ciphertext_size()];
    let n = key.encrypt(&OAEP_SHA1_MGF1SHA1, &clear, &mut out, None).map_err(|_| RsaError::TooLong)?.len();
    out.truncate(n);
    Ok(out)
}

/// Sluice's own key, with which clients without TLS encrypt their passwords. Made once at start, kept in memory only.
pub struct PasswordKey {
    private: OaepPrivateDecryptingKey,
    public_pem: Vec<u8>,
}

impl PasswordKey {
    /// Makes a key of 2048 bits. Takes some hundred milliseconds of CPU: call it in a thread that may block.
    ///
    /// # Errors
    /// [`RsaError::NoKey`].
    pub fn generate() -> Result<PasswordKey, RsaError> {
        let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).map_err(|_| RsaError::NoKey)?;
        let der: PublicKeyX509Der<'_> = private.public_key().as_der().map_err(|_| RsaError::NoKey)?;
        let public_pem = pem("PUBLIC KEY", der.as_ref());
        Ok(PasswordKey { private: OaepPrivateDecryptingKey::new(private).map_err(|_| RsaError::NoKey)?, public_pem })
    }

    /// The public half as PEM, as clients ask for it.
    pub fn public_pem(&self) -> &[u8] {
        &self.public_pem
    }

    /// Opens what a client encrypted: the password without its NUL.
    ///
    /// # Errors
    /// [`RsaError::NotOurs`].
    pub fn decrypt_password(&self, encrypted: &[u8], nonce: &[u8; NONCE_LEN]) -> Result<Secret, RsaError> {
        let mut room = Zeroizing::new(vec![0; self.private.min_output_size()]);
        let clear = self.private.decrypt(&OAEP_SHA1_MGF1SHA1, encrypted, &mut room, None).map_err(|_| RsaError::NotOurs)?;
        caching_sha2::mask(clear, nonce);
        match clear.split_last() {
            Some((0, password)) => Ok(Secret::new(password)),
            _ => Err(RsaError::NotOurs),
        }
    }
}

impl std::fmt::Debug for PasswordKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordKey(…)")
    }
}

/// PEM of a DER value (RFC 7468): base64 in lines of 64.
fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut base64 = Vec::with_capacity(der.len() / 3 * 4 + 4);
    for group in der.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let digit = ALPHABET.get((bits >> (18 - 6 * i) & 63) as usize).copied().unwrap_or(b'=');
            base64.push(if i <= group.len() { digit } else { b'=' });
        }
    }
    let mut out = format!("-----BEGIN {label}-----\n").into_bytes();
    for line in base64.chunks(64) {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.extend_from_slice(format!("-----END {label}-----\n").as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_key_meet() {
        let key = PasswordKey::generate().expect("a key");
        let nonce = *b"abcdefghijklmnopqrst";
        for password in ["", "x", "päßword", &"long ".repeat(40)] {
            let sent = encrypt_password(&Secret::from(password), &nonce, key.public_pem()).expect("encrypts");
            assert_eq!(key.decrypt_password(&sent, &nonce).expect("opens").expose(), password.as_bytes());
            assert_ne!(
                key.decrypt_password(&sent, b"01234 another nonce!").ok().map(|s| s.expose().to_vec()),
                Some(password.into())
            );
        }
        let sent = encrypt_password(&Secret::from("x"), &nonce, key.public_pem()).expect("encrypts");
        for garbage in [&[][..], &[0; 255], &[0xFF; 256], &[7; 257], &sent[1..]] {
            assert_eq!(key.decrypt_password(garbage, &nonce), Err(RsaError::NotOurs));
        }
        assert_eq!(
            encrypt_password(&Secret::new(vec![b'x'; 215]), &nonce, key.public_pem()),
            Err(RsaError::TooLong),
            "2048 bits less padding and NUL"
        );
        assert_eq!(
            encrypt_password(&Secret::from("x"), &nonce, b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"),
            Err(RsaError::BadKey)
        );
        assert_eq!(encrypt_password(&Secret::from("x"), &nonce, &[b'-'; PUBLIC_KEY_LEN_MAX + 1]), Err(RsaError::BadKey));
    }

    #[test]
    fn base64_ends_with_the_right_padding() {
        for (der, line) in [(&b"M"[..], "TQ=="), (b"Ma", "TWE="), (b"Man", "TWFu")] {
            assert_eq!(String::from_utf8(pem("X", der)).expect("ascii"), format!("-----BEGIN X-----\n{line}\n-----END X-----\n"));
        }
    }
}
