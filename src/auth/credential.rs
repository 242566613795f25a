//! What Sluice proves to a server that it may be a user.

use zeroize::Zeroizing;

use super::ed25519::{self, CHALLENGE_LEN};
use super::{Secret, caching_sha2, native_password};
use crate::protocol::handshake::NONCE_LEN;

/// Enough to log in at a server, and to check that a client knows the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Credential {
    /// The account's password is empty.
    None,
    /// The password itself: good for every plugin.
    Password(Secret),
    /// `SHA1(password)`, as it is recovered from a `mysql_native_password` exchange: good for that plugin alone.
    NativeStage1(Stage1),
}

/// `SHA1(password)`: zeroed when dropped, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Stage1(Zeroizing<[u8; 20]>);

impl Stage1 {
    /// Takes the hash over.
    pub fn new(hash: [u8; 20]) -> Stage1 {
        Stage1(Zeroizing::new(hash))
    }

    /// The hash.
    pub fn expose(&self) -> &[u8; 20] {
        &self.0
    }
}

impl std::fmt::Debug for Stage1 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stage1(…)")
    }
}

impl Credential {
    /// From a password; the empty one is [`Credential::None`].
    pub fn from_password(password: Secret) -> Credential {
        if password.is_empty() { Credential::None } else { Credential::Password(password) }
    }

    /// The answer of `mysql_native_password` to a challenge. Empty for the empty password.
    pub fn native_answer(&self, nonce: &[u8; NONCE_LEN]) -> Vec<u8> {
        match self {
            Credential::None => Vec::new(),
            Credential::Password(p) => {
                let stage1 = Stage1::new(native_password::stage1(p.expose()));
                native_password::scramble(stage1.expose(), nonce).to_vec()
            }
            Credential::NativeStage1(s) => native_password::scramble(s.expose(), nonce).to_vec(),
        }
    }

    /// The answer of `caching_sha2_password` to a challenge. `None` when the password is not known.
    pub fn caching_sha2_answer(&self, nonce: &[u8; NONCE_LEN]) -> Option<Vec<u8>> {
        match self {
            Credential::None => Some(Vec::new()),
            Credential::Password(p) => Some(caching_sha2::scramble(p.expose(), nonce).to_vec()),
            Credential::NativeStage1(_) => None,
        }
    }

    /// The answer of `client_ed25519` to a challenge. `None` when the password is not known.
    pub fn ed25519_answer(&self, challenge: &[u8; CHALLENGE_LEN]) -> Option<Vec<u8>> {
        match self {
            Credential::None => Some(Vec::new()),
            Credential::Password(p) => Some(ed25519::sign(p.expose(), challenge).to_vec()),
            Credential::NativeStage1(_) => None,
        }
    }

    /// Whether a client's answer to the challenge shows that it knows the same.
    pub fn verify_native(&self, nonce: &[u8; NONCE_LEN], answer: &[u8]) -> bool {
        super::same(&self.native_answer(nonce), answer)
    }

    /// As [`Credential::verify_native`] for `caching_sha2_password`; `None` when it cannot be told.
    pub fn verify_caching_sha2(&self, nonce: &[u8; NONCE_LEN], answer: &[u8]) -> Option<bool> {
        self.caching_sha2_answer(nonce).map(|right| super::same(&right, answer))
    }
}
