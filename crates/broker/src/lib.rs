//! The runtime: router, handlers, replicas, metrics.
