//! The time of day.
//!
//! Input: nothing. Output: wall-clock milliseconds.
//!
//! Invariants: none. The time of day may jump in both directions, and the simulation makes it jump:
//! whoever measures a duration or sets a timer uses `tokio::time`, which is monotonic.
//!
//! Source: POSIX `CLOCK_REALTIME`.

use skein_types::Millis;

/// Reads the time of day.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970-01-01 UTC.
    fn now(&self) -> Millis;
}
