//! One replica of one partition, as a pure state machine.
