#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| clarion_fuzz::run("token", input));
