#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rmail_fuzz::sasl_messages::check(data));
