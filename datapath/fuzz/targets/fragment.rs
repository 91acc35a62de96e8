//! libFuzzer's way into [`datapath_fuzz::fragment`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| datapath_fuzz::fragment::check(input));
