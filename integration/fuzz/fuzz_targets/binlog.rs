#![no_main]
//! The body stands in `sluice::binlog::fuzz`, where the unit tests run this target's corpus through it too.
libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice::binlog::fuzz::events(data));
