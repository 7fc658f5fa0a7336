//! Segment files and the log above them.
