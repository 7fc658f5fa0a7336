//! Arbitrary bytes as a Produce request that arrives in pieces.

#![no_main]

#[path = "../../tests/support/arrival.rs"]
mod arrival;

libfuzzer_sys::fuzz_target!(|input: &[u8]| arrival::check_chosen(input));
