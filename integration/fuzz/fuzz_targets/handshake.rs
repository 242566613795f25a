//! Any bytes in the place of a login packet are refused or understood, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice::protocol::handshake_fuzz(data));
