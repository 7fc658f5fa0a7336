//! Producer, consumer and admin client for Rust programs.
