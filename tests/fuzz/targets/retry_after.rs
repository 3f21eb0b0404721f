#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::retry_after::run(data));
