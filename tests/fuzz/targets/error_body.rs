#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::error_body::run(data));
