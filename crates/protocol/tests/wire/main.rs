//! The codec against the schemas, against another implementation, and against golden bytes.
//!
//! Input: random messages that the schemas generate, as bytes. Output: the codec reads them all,
//! writes the same bytes, and agrees with the `kafka-protocol` crate on every version it knows.
//!
//! Invariant: every API and every version is covered, because the messages come from
//! `for_each_message!` and the versions from the schemas.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a failure is a failed test

#[path = "../support/generate.rs"]
mod generate;
mod oracle;
#[path = "../../build/schema.rs"]
#[allow(dead_code)] // the generator of the code needs more of it
mod schema;
