//! libFuzzer's way into [`ovsdb_fuzz::scanner`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ovsdb_fuzz::scanner::check(input));
