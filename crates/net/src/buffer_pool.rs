//! Receive buffers, used again and again.
//!
//! Input: how many contiguous bytes are wanted. Output: an empty buffer of at least that capacity.
//!
//! A fresh map per frame doubles the cost of receiving it, because the kernel zeroes every page anew.
//! So buffers come back: a connection returns the handle at the end of its chunk while batches split
//! off it may still be waiting to be written, and the pool gives the chunk out again once its handle
//! is the only one left.
//!
//! Invariants:
//! - a chunk is given out again only when nothing else refers to it (`BytesMut::try_reclaim`);
//! - the pool keeps at most [`KEPT_MAX`] chunks of each class, and none larger than the last class.
//!
//! Source: measured; see the Produce path in `ARCHITECTURE.md`.

use bytes::BytesMut;
use parking_lot::Mutex;

/// Capacities of the classes, in bytes: an idle connection's first read, a frame of small batches, a
/// full-rate writer. What is larger is allocated as asked, and not kept.
const CLASS_BYTES: [usize; 3] = [16 * 1024, 128 * 1024, 1024 * 1024 + 16 * 1024];

/// How many chunks of one class are kept.
const KEPT_MAX: [usize; 3] = [256, 64, 48];

/// How many kept chunks are looked at for one that is free.
const LOOKED_AT_MAX: usize = 4;

/// The pool of a node.
#[derive(Default)]
pub struct BufferPool {
    classes: [Mutex<Vec<BytesMut>>; 3],
}

impl BufferPool {
    /// An empty pool.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Capacity of the class that serves a frame of `bytes`: the largest read that is worth it.
    #[must_use]
    pub fn class_for(bytes: usize) -> usize {
        CLASS_BYTES
            .into_iter()
            .find(|class| *class >= bytes)
            .unwrap_or(CLASS_BYTES[2])
    }

    /// An empty buffer with a capacity of at least `bytes`.
    #[must_use]
    pub fn take(&self, bytes: usize) -> BytesMut {
        let Some(class) = CLASS_BYTES.iter().position(|class| *class >= bytes) else {
            return BytesMut::with_capacity(bytes);
        };
        let mut kept = self.classes[class].lock();
        let oldest_looked_at = kept.len().saturating_sub(LOOKED_AT_MAX);
        for index in (oldest_looked_at..kept.len()).rev() {
            if kept[index].try_reclaim(CLASS_BYTES[class]) {
                return kept.swap_remove(index);
            }
        }
        drop(kept);
        BytesMut::with_capacity(CLASS_BYTES[class])
    }

    /// Takes back a buffer that [`BufferPool::take`] gave; batches split off it may still be in use.
    pub fn give_back(&self, mut buffer: BytesMut) {
        buffer.clear();
        // `try_reclaim` also tells the class: the largest capacity that the chunk can have again.
        let class = (0..CLASS_BYTES.len()).rev().find(|&class| {
            buffer.capacity() >= CLASS_BYTES[class] || buffer.try_reclaim(CLASS_BYTES[class])
        });
        let Some(class) = class else { return };
        if buffer.capacity() > CLASS_BYTES[2] * 2 {
            return;
        }
        let mut kept = self.classes[class].lock();
        if kept.len() < KEPT_MAX[class] {
            kept.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_comes_back_when_its_batches_are_gone() {
        let pool = BufferPool::new();
        let mut chunk = pool.take(1000);
        assert!(chunk.capacity() >= CLASS_BYTES[0]);
        chunk.extend_from_slice(&[7; 1000]);
        let address = chunk.as_ptr();
        let batch = chunk.split_to(1000);
        drop(batch);
        pool.give_back(chunk);
        let again = pool.take(1000);
        assert_eq!(again.as_ptr(), address, "the same memory");
        assert!(again.is_empty());
    }

    #[test]
    fn a_chunk_in_use_is_not_given_out() {
        let pool = BufferPool::new();
        let mut chunk = pool.take(1000);
        chunk.extend_from_slice(&[7; 1000]);
        let batch = chunk.split_to(1000);
        pool.give_back(chunk);
        let other = pool.take(1000);
        assert_ne!(other.as_ptr(), batch.as_ptr());
        assert_eq!(&batch[..], &[7; 1000]);
    }

    #[test]
    fn a_large_buffer_is_made_to_measure_and_not_kept() {
        let pool = BufferPool::new();
        let large = pool.take(8 << 20);
        assert!(large.capacity() >= 8 << 20);
        pool.give_back(large);
        assert!(pool.classes.iter().all(|class| class.lock().is_empty()));
    }
}
