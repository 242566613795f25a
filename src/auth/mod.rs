//! Proving who somebody is, as challenge and response: both sides of the MySQL authentication plugins, and the machine
//! that logs a client in. No socket and no clock; whoever owns those feeds packets and times in.
//!
//! [`answer`] is Sluice logging in at a server; [`exchange`] is a client logging in at Sluice.

#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod accounts;
pub mod answer;
pub mod attributes;
pub mod caching_sha2;
pub mod credential;
pub mod credentials;
pub mod ed25519;
pub mod exchange;
pub mod native_password;
pub mod plugin;
pub mod rsa;
pub mod secret;

pub use accounts::{Accounts, Override, Source};
pub use credential::Credential;
pub use credentials::{Credentials, Known};
pub use plugin::Plugin;
pub use secret::Secret;

use aws_lc_rs::digest;

/// SHA-1, as `mysql_native_password` is built of it. Not a choice: the protocol's.
pub(crate) fn sha1(parts: &[&[u8]]) -> [u8; 20] {
    hash(&digest::SHA1_FOR_LEGACY_USE_ONLY, parts)
}

/// SHA-256, of which `caching_sha2_password` is built.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    hash(&digest::SHA256, parts)
}

fn hash<const N: usize>(algorithm: &'static digest::Algorithm, parts: &[&[u8]]) -> [u8; N] {
    let mut context = digest::Context::new(algorithm);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    out
}

/// `a XOR b`, byte by byte.
pub(crate) fn xor<const N: usize>(mut a: [u8; N], b: &[u8; N]) -> [u8; N] {
    for (x, y) in a.iter_mut().zip(b) {
        *x ^= y;
    }
    a
}

/// Whether two byte strings are the same, in time that tells nothing of where they differ.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}
