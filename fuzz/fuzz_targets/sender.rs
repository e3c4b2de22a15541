#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rmail_fuzz::senders::check(data));
