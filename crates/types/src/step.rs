//! What the steps of all state machines have in common.
//!
//! Input: none, these are plain values. Output: the time of a step, and the name of a request.
//!
//! Invariant: a state machine reads no clock; `Now` is all it knows of the time.

use crate::Millis;

/// Name that the runtime gives to a request, so that it knows the answer again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// The time of a step, on two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// In ms since 1970, for what is kept with the records. It may jump in both directions.
    pub time_of_day: Millis,
    /// In ms since the runtime began, for how long somebody waits. It never goes back.
    pub monotonic: Millis,
}
