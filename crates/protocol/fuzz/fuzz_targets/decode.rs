//! Arbitrary bytes into the decoder of any message of any version.

#![no_main]

#[path = "../../tests/support/round_trip.rs"]
mod round_trip;

libfuzzer_sys::fuzz_target!(|input: &[u8]| round_trip::check_chosen(input));
