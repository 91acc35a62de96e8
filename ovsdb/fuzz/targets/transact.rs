//! libFuzzer's way into [`ovsdb_fuzz::transact`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ovsdb_fuzz::transact::check(input));
