//! Decisions on the metadata image.
