//! The open descriptors and maps of cold segments, capped.
//!
//! Input: slots, one per file, and how to fill them. Output: what is in them, opened again if it
//! had to go.
//!
//! Eviction is second chance, which comes close to least recently used and costs a reader only one
//! store: the oldest slot that was not used since it was last looked at is emptied.
//!
//! Invariants:
//! - at most `capacity` slots are full, plus those just being filled (checked in [`Cache::admit`]);
//! - an emptied slot takes nothing from a reader that holds its content;
//! - a slot's own lock is not held while its cache's lock is taken, so that eviction cannot
//!   deadlock.
//!
//! Source: F. J. Corbató, "A Paging Experiment with the Multics System" (1968).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::StorageError;

/// Full slots, oldest first.
pub(crate) struct Cache {
    capacity: usize,
    slots: Mutex<VecDeque<Weak<dyn Evict>>>,
}

impl Cache {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            slots: Mutex::new(VecDeque::new()),
        }
    }

    /// How many slots are full at most: those that were emptied otherwise still count.
    pub(crate) fn len(&self) -> usize {
        self.slots.lock().len()
    }

    /// Notes that `slot` has become full, and empties others while there are too many.
    fn admit(&self, slot: Weak<dyn Evict>) {
        let mut slots = self.slots.lock();
        slots.push_back(slot);
        // Each used slot gets its second chance once, so that the loop ends.
        let mut chances = slots.len();
        while slots.len() > self.capacity {
            let Some(oldest) = slots.pop_front() else {
                break;
            };
            let Some(slot) = oldest.upgrade() else {
                continue;
            };
            if chances > 0 && slot.take_used() {
                chances -= 1;
                slots.push_back(oldest);
            } else {
                slot.evict();
            }
        }
        assert!(
            slots.len() <= self.capacity,
            "{} slots are full",
            slots.len()
        );
    }
}

/// A place for something that can be opened again.
pub(crate) struct Slot<T: ?Sized> {
    content: Mutex<Option<Arc<T>>>,
    used: AtomicBool,
}

trait Evict: Send + Sync {
    /// Whether the slot was used since the last call.
    fn take_used(&self) -> bool;

    fn evict(&self);
}

impl<T: ?Sized + Send + Sync + 'static> Slot<T> {
    pub(crate) fn empty() -> Arc<Self> {
        Arc::new(Self {
            content: Mutex::new(None),
            used: AtomicBool::new(false),
        })
    }

    /// A slot that is full from the start.
    pub(crate) fn full(cache: &Cache, content: Arc<T>) -> Arc<Self> {
        let slot = Self::empty();
        *slot.content.lock() = Some(content);
        slot.admit_to(cache);
        slot
    }

    /// The content, if the slot is full.
    pub(crate) fn peek(&self) -> Option<Arc<T>> {
        self.used.store(true, Ordering::Relaxed);
        self.content.lock().clone()
    }

    /// Empties the slot if `is_it` says so of its content, with the slot locked.
    pub(crate) fn discard_if(&self, is_it: impl FnOnce(&T) -> bool) {
        let mut content = self.content.lock();
        if content.as_deref().is_some_and(is_it) {
            *content = None;
        }
    }

    /// The content, which `open` makes if the slot is empty.
    pub(crate) fn get(
        self: &Arc<Self>,
        cache: &Cache,
        open: impl FnOnce() -> Result<Arc<T>, StorageError>,
    ) -> Result<Arc<T>, StorageError> {
        self.used.store(true, Ordering::Relaxed);
        let mut content = self.content.lock();
        if let Some(content) = &*content {
            return Ok(Arc::clone(content));
        }
        let opened = open()?;
        *content = Some(Arc::clone(&opened));
        drop(content);
        self.admit_to(cache);
        Ok(opened)
    }

    fn admit_to(self: &Arc<Self>, cache: &Cache) {
        let slot: Arc<dyn Evict> = Arc::clone(self) as Arc<dyn Evict>;
        cache.admit(Arc::downgrade(&slot));
    }
}

impl<T: ?Sized + Send + Sync> Evict for Slot<T> {
    fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    fn evict(&self) {
        *self.content.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_slots_never_exceed_the_capacity_and_used_ones_stay() {
        let cache = Cache::new(3);
        let alive = Arc::new(());
        let slots: Vec<Arc<Slot<Arc<()>>>> = (0..10).map(|_| Slot::empty()).collect();
        let open = || Ok(Arc::new(Arc::clone(&alive)));
        for slot in &slots {
            slot.get(&cache, open).unwrap();
            slots[0].get(&cache, open).unwrap();
            assert!(Arc::strong_count(&alive) <= 4);
        }
        // The one that was used all the time is still open.
        slots[0].get(&cache, || panic!("opened again")).unwrap();
        drop(slots);
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn a_failed_opening_leaves_the_slot_empty() {
        let cache = Cache::new(1);
        let slot: Arc<Slot<u8>> = Slot::empty();
        let error = StorageError::Broken { path: "x".into() };
        assert!(slot.get(&cache, || Err(error)).is_err());
        assert_eq!(*slot.get(&cache, || Ok(Arc::new(1))).unwrap(), 1);
        assert_eq!(*slot.get(&cache, || panic!("it is full")).unwrap(), 1);
    }
}
