//! The contract of the network traits.
