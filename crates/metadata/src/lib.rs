//! The cluster's metadata image and its versioned records.
