//! The locks and atomics of what loom checks: the real ones, or loom's.
//!
//! Input: `--cfg loom`. Output: one set of names for both.
//!
//! Invariant: code that uses this module and no other synchronisation is what the loom tests see.
//!
//! Source: the loom documentation.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicUsize, Ordering, fence};

/// A lock that is held for a few instructions.
#[cfg(not(loom))]
pub(crate) struct Lock<T>(parking_lot::Mutex<T>);

#[cfg(not(loom))]
impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(parking_lot::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> parking_lot::MutexGuard<'_, T> {
        self.0.lock()
    }
}

/// A lock that nobody waits for.
#[cfg(not(loom))]
pub(crate) struct TryLock<T>(parking_lot::Mutex<T>);

#[cfg(not(loom))]
impl<T> TryLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(parking_lot::Mutex::new(value))
    }

    pub(crate) fn try_lock(&self) -> Option<parking_lot::MutexGuard<'_, T>> {
        self.0.try_lock()
    }
}

/// A lock that is held for a few instructions.
#[cfg(loom)]
pub(crate) struct Lock<T>(loom::sync::Mutex<T>);

#[cfg(loom)]
impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A lock that nobody waits for.
///
/// Loom does not explore the orders of an unlock and a `try_lock` of its own mutex. So here, as in
/// the real lock, an atomic word says who holds it; the mutex behind it only hands out the value.
#[cfg(loom)]
pub(crate) struct TryLock<T> {
    is_held: AtomicUsize,
    value: loom::sync::Mutex<T>,
}

/// Access to the value of a [`TryLock`].
#[cfg(loom)]
pub(crate) struct Guard<'a, T> {
    value: Option<loom::sync::MutexGuard<'a, T>>,
    is_held: &'a AtomicUsize,
}

#[cfg(loom)]
impl<T> TryLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            is_held: AtomicUsize::new(0),
            value: loom::sync::Mutex::new(value),
        }
    }

    pub(crate) fn try_lock(&self) -> Option<Guard<'_, T>> {
        // Relaxed on failure, as in the real lock: whoever fails learns nothing.
        self.is_held
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        Some(Guard {
            value: self.value.lock().ok(),
            is_held: &self.is_held,
        })
    }
}

#[cfg(loom)]
impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        self.is_held.store(0, Ordering::Release);
    }
}

#[cfg(loom)]
impl<T> std::ops::Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("held until dropped")
    }
}

#[cfg(loom)]
impl<T> std::ops::DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("held until dropped")
    }
}
