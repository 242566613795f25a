#![no_main]
//! The body stands in `sluice::protocol::fuzz`, where the unit tests run this target's corpus through it too.
libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice::protocol::fuzz::frame(data));
