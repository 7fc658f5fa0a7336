//! A whole node or cluster in one thread, from one seed.
