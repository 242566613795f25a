//! Any text, in any mode, is lexed and classified without a panic, and equal digests are equal judgements.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice::sql::fuzz::lexer(data));
