//! libFuzzer's way into [`datapath_fuzz::too_big`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| datapath_fuzz::too_big::check(input));
