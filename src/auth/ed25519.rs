//! `client_ed25519` of MariaDB (server side `ed25519`): the server sends 32 random bytes and the client signs them with a key made
//! of the password. Source: MariaDB knowledge base "Authentication Plugin - ed25519"; RFC 8032 section 5.1.6.
//!
//! It is Ed25519 but for the private key, which is SHA-512 of a password of any length where the RFC hashes 32 random bytes.
//! A server keeps the public key, and nothing that it or anybody on the way sees can be used to sign: so a login by this plugin
//! can be carried through Sluice, but nothing is learned from it.

use aws_lc_rs::digest;
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::{Scalar, clamp_integer};
use zeroize::Zeroizing;

/// The challenge's length in bytes.
pub const CHALLENGE_LEN: usize = 32;
/// The answer's length in bytes.
pub const SIGNATURE_LEN: usize = 64;

fn sha512(parts: &[&[u8]]) -> Zeroizing<[u8; 64]> {
    Zeroizing::new(super::hash(&digest::SHA512, parts))
}

/// The answer to a challenge.
pub fn sign(password: &[u8], challenge: &[u8; CHALLENGE_LEN]) -> [u8; SIGNATURE_LEN] {
    let hashed = sha512(&[password]);
    let (secret, prefix) = hashed.split_at(CHALLENGE_LEN);
    let secret: Zeroizing<[u8; 32]> = Zeroizing::new(secret.first_chunk().copied().unwrap_or_default());
    let key = Zeroizing::new(Scalar::from_bytes_mod_order(clamp_integer(*secret)));
    let public = EdwardsPoint::mul_base(&key).compress();
    let r = Zeroizing::new(Scalar::from_bytes_mod_order_wide(&sha512(&[prefix, challenge])));
    let commitment = EdwardsPoint::mul_base(&r).compress();
    let k = Scalar::from_bytes_mod_order_wide(&sha512(&[commitment.as_bytes(), public.as_bytes(), challenge]));
    let s = k * *key + *r;
    let mut signature = [0; SIGNATURE_LEN];
    for (to, from) in signature.iter_mut().zip(commitment.as_bytes().iter().chain(s.as_bytes())) {
        *to = *from;
    }
    signature
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    /// The public key as MariaDB keeps it: base64 without padding in `SHOW CREATE USER`, here its bytes.
    fn public(password: &[u8]) -> [u8; 32] {
        let hashed = sha512(&[password]);
        let secret: [u8; 32] = hashed[..32].try_into().expect("32 of 64");
        EdwardsPoint::mul_base(&Scalar::from_bytes_mod_order(clamp_integer(secret))).compress().to_bytes()
    }

    /// `ED25519_PASSWORD('secret')` as the knowledge base prints it: ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJY.
    #[test]
    fn the_public_key_of_the_manual() {
        let printed = b"\x64\x88\x14\x44\x45\x20\xe4\xf5\x60\x43\xa2\xec\x92\x15\xe6\x3b\xe7\x99\x2d\x2d\x27\x0b\xc6\xde\xe8\x73\xe3\x61\x64\x78\x60\x96";
        assert_eq!(&public(b"secret"), printed);
    }

    #[test]
    fn answers_are_signatures_that_others_verify() {
        for password in [&b"x"[..], b"secret", "naïve ☃ pässword".as_bytes(), &[0xFF; 200]] {
            let mut challenge = [7; CHALLENGE_LEN];
            let signature = sign(password, &challenge);
            let key = UnparsedPublicKey::new(&ED25519, public(password));
            key.verify(&challenge, &signature).expect("it verifies");
            challenge[31] ^= 1;
            key.verify(&challenge, &signature).expect_err("another challenge");
        }
    }
}
