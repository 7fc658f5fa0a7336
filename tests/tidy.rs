//! The tidiness of the source tree.
