//! A password in memory: wiped when dropped, never printed.

use std::fmt;

use zeroize::Zeroizing;

/// The longest password taken from anywhere, in bytes (a server's RSA-encrypted password can be 214 with a 2048-bit
/// key; in TLS servers read up to their packet buffer, of which this is a sane part).
pub const PASSWORD_LEN_MAX: usize = 1024;

/// A password, or other bytes nobody may see. Its memory is zeroed when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over; the caller's buffer must not have copies of them elsewhere.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Secret {
        Secret(Zeroizing::new(bytes.into()))
    }

    /// The bytes. Whoever calls this keeps no copy that is not zeroed.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is the empty password.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Secret {
        Secret::new(text.as_bytes())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Secret {
        Secret::new(text.into_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
