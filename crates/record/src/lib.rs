//! Record batch v2, producer states, leader epochs.
