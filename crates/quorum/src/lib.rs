//! The metadata quorum: openraft over our own log store.
