//! libFuzzer's way into [`ovsdb_fuzz::log`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ovsdb_fuzz::log::check(input));
