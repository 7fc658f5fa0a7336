//! The codec against the schemas, against another implementation, against golden bytes, and against
//! bytes that want to hurt.
//!
//! Input: random messages that the schemas generate, as bytes; damaged ones; the corpus of the fuzz
//! targets. Output: the codec reads them all, writes the same bytes, agrees with the
//! `kafka-protocol` crate on every version it knows, never panics, and allocates within its bound.
//!
//! Invariant: every API and every version is covered, because the messages come from
//! `for_each_message!` and the versions from the schemas. The oracle does not know the records of
//! Kafka's metadata log, nor those of coordinators, nor what only our nodes say to one another:
//! golden bytes stand in for it.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a failure is a failed test

#[path = "../support/arrival.rs"]
mod arrival;
mod corpus;
#[path = "../support/generate.rs"]
mod generate;
mod golden;
mod group_records;
mod hostile_input;
mod metadata_records;
mod oracle;
mod peer_messages;
mod produce_stream;
#[path = "../support/round_trip.rs"]
mod round_trip;
#[path = "../../build/schema.rs"]
#[allow(dead_code)] // the generator of the code needs more of it
mod schema;
mod schema_errors;
