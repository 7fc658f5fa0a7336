//! How long to wait before a peer is tried again.
//!
//! Input: what went wrong, and how often in a row. Output: a pause.
//!
//! Invariant: a process that is dead or just starting is tried again within
//! [`UNREACHABLE_MAX`], because a fail-over waits for it; only what an operator must repair waits
//! for longer.
//!
//! Source: none.

use std::time::Duration;

/// The first pause; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(1);
/// The longest pause before a peer that nobody answers for.
const UNREACHABLE_MAX: Duration = Duration::from_millis(10);
/// The longest before one that hangs up in the handshake: it may be about to stop, or at its limit
/// of connections, or no peer at all.
const HUNG_UP_MAX: Duration = Duration::from_millis(100);
/// The longest before one that refused this node, or that this node refused.
const REFUSED_MAX: Duration = Duration::from_secs(1);

/// What went wrong with a connection to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nobody answered, or a connection that was in use has ended.
    Unreachable,
    /// It was closed in the handshake.
    HungUp,
    /// One side refused the other.
    Refused,
}

/// The pause after `fault`, the `count`th in a row, counted from 1.
pub(super) fn pause_after(fault: Fault, count: u32) -> Duration {
    let max = match fault {
        Fault::Unreachable => UNREACHABLE_MAX,
        Fault::HungUp => HUNG_UP_MAX,
        Fault::Refused => REFUSED_MAX,
    };
    let factor = 2_u32.saturating_pow(count.saturating_sub(1));
    FIRST.saturating_mul(factor).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_of_their_fault() {
        let pauses = |fault| {
            let of = |count| pause_after(fault, count).as_millis();
            [of(1), of(2), of(4), of(5), of(8), of(20), of(u32::MAX)]
        };
        assert_eq!(pauses(Fault::Unreachable), [1, 2, 8, 10, 10, 10, 10]);
        assert_eq!(pauses(Fault::HungUp), [1, 2, 8, 16, 100, 100, 100]);
        assert_eq!(pauses(Fault::Refused), [1, 2, 8, 16, 128, 1000, 1000]);
    }
}
