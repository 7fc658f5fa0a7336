//! Tests of a connection against a stream and a session that the test plays.

mod harness;

mod bounds;
mod burst;
mod endings;
mod frames;
mod order;
mod sending;
mod simulated;
