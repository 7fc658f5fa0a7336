//! Numbers with names.
//!
//! Input: the integers of the wire and of the files. Output: one type per meaning, ordered,
//! hashable and printable, with the reserved values of the protocol as constants.
//!
//! Invariants: a newtype holds any value its integer can, because it may come from a stranger; what
//! a value means is checked where it is used.
//!
//! Source: the Kafka protocol guide.

use std::fmt;

macro_rules! newtype {
    (
        $(#[$doc:meta])*
        $name:ident($int:ty) { $($(#[$const_doc:meta])* $const:ident = $value:expr;)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(pub $int);

        impl $name {
            $($(#[$const_doc])* pub const $const: Self = Self($value);)*

            /// The bare integer, as the wire and the files carry it.
            #[must_use]
            pub const fn get(self) -> $int {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl From<$int> for $name {
            fn from(value: $int) -> Self {
                Self(value)
            }
        }

        impl From<$name> for $int {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    };
}

newtype! {
    /// Position of a record in a partition: 0 for the first, one more for each that follows.
    Offset(i64) {
        /// The first offset of a new partition.
        ZERO = 0;
        /// "No offset": what the protocol sends where there is none.
        NONE = -1;
    }
}

newtype! {
    /// How many times a partition has had a new leader (KIP-101).
    LeaderEpoch(i32) {
        /// The epoch of a partition's first leader.
        ZERO = 0;
        /// "Unknown": a client that sends no epoch (KIP-320).
        NONE = -1;
    }
}

newtype! {
    /// How many times a partition's registration has changed: leader, ISR or replicas (KIP-497).
    PartitionEpoch(i32) {
        /// The epoch of a partition just created.
        ZERO = 0;
    }
}

newtype! {
    /// Position of a partition in its topic, from 0.
    PartitionIndex(i32) {}
}

newtype! {
    /// Name of a producer's session, given by `InitProducerId` (KIP-98).
    ProducerId(i64) {
        /// A producer without idempotence.
        NONE = -1;
    }
}

newtype! {
    /// Fencing number of a producer id: of two producers with one id, the higher epoch wins
    /// (KIP-98).
    ProducerEpoch(i16) {
        /// A producer without idempotence.
        NONE = -1;
    }
}

newtype! {
    /// Number of a record among those that one producer sends to one partition (KIP-98).
    ///
    /// After `i32::MAX` comes 0.
    Sequence(i32) {
        /// A producer without idempotence.
        NONE = -1;
    }
}

newtype! {
    /// Name of a broker in its cluster: `node.id`.
    BrokerId(i32) {
        /// "No broker": a partition without a leader, a client's replica id.
        NONE = -1;
    }
}

newtype! {
    /// Number of a broker's registration: a restarted broker gets a higher one (KIP-631).
    BrokerEpoch(i64) {
        /// "Not registered".
        NONE = -1;
    }
}

newtype! {
    /// Milliseconds: of a point in time since 1970-01-01 UTC, or of a duration, as the name says.
    Millis(i64) {
        /// "No timestamp".
        NONE = -1;
    }
}

impl Offset {
    /// The offset `count` records later; `None` past `i64::MAX`.
    #[must_use]
    pub const fn checked_add(self, count: i64) -> Option<Self> {
        match self.0.checked_add(count) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }
}

impl Sequence {
    /// The sequence `count` records later, which wraps to 0 after `i32::MAX`.
    ///
    /// Source: `DefaultRecordBatch.incrementSequence`'s arithmetic, 31 bits.
    #[must_use]
    pub const fn wrapping_add(self, count: u32) -> Self {
        #[allow(clippy::cast_possible_truncation)] // the mask leaves 31 bits
        let sum = (self.0 as u32).wrapping_add(count) & 0x7fff_ffff;
        Self(sum.cast_signed())
    }
}

impl Millis {
    /// This point in time, `other` milliseconds later; stops at the ends of the range.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The milliseconds from `other` to this point in time; stops at the ends of the range.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_wraps_to_zero_after_the_largest() {
        assert_eq!(Sequence(i32::MAX).wrapping_add(1), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 1).wrapping_add(3), Sequence(1));
        assert_eq!(Sequence(5).wrapping_add(0), Sequence(5));
    }

    #[test]
    fn offset_does_not_wrap() {
        assert_eq!(Offset(i64::MAX).checked_add(1), None);
        assert_eq!(Offset(2).checked_add(3), Some(Offset(5)));
    }
}
