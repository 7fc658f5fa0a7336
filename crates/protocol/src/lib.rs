//! The Kafka wire codec, generated from compact schemas.
