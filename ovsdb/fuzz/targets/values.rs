//! libFuzzer's way into [`ovsdb_fuzz::values`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ovsdb_fuzz::values::check(input));
