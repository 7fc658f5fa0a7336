//! The outside world as traits: network, disk, clock, random numbers, tasks.
