//! What the simulation sees of the quorum: every image, right after its entry was applied.
//!
//! Input: images of all nodes of this thread. Output: the same, in the order in which they came to
//! be, to who asks.
//!
//! Invariant: nothing is kept unless somebody watches; no shipped binary has this.
//!
//! Source: none.

use std::cell::RefCell;

use skein_metadata::Image;

thread_local! {
    static APPLIED: RefCell<Option<Vec<Image>>> = const { RefCell::new(None) };
}

/// Keeps images from now on; what was kept before is forgotten.
pub fn watch() {
    APPLIED.replace(Some(Vec::new()));
}

/// The images since the last call.
#[must_use]
pub fn take() -> Vec<Image> {
    APPLIED.with_borrow_mut(|applied| applied.as_mut().map(std::mem::take).unwrap_or_default())
}

/// Keeps no more images.
pub fn end() {
    APPLIED.replace(None);
}

pub(crate) fn applied(image: &Image) {
    APPLIED.with_borrow_mut(|applied| {
        if let Some(applied) = applied {
            applied.push(image.clone());
        }
    });
}
