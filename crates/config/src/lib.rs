//! Every configuration key: type, default, range, scope, documentation.
