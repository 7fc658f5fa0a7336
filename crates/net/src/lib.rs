//! Framing, ordered responses, peer connections.
