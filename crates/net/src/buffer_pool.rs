//! Receive buffers, used again and again.
//!
//! Input: how many contiguous bytes are wanted. Output: an empty buffer of at least that capacity.
//!
//! A fresh map per frame doubles the cost of receiving it, because the kernel zeroes every page
//! anew. So buffers come back: a connection returns the handle at the end of its chunk while
//! batches split off it may still be waiting to be written, and the pool gives the chunk out again
//! once its handle is the only one left.
//!
//! Invariants:
//! - a chunk is given out again only when nothing else refers to it (`BytesMut::try_reclaim`);
//! - the pool keeps at most [`KEPT_MAX`] chunks of each class, and none larger than the last class.
//!
//! Source: measured; see the Produce path in `ARCHITECTURE.md`.

use bytes::BytesMut;
use parking_lot::Mutex;

/// Capacities of the classes, in bytes: an idle connection's first read, a frame of small batches,
/// a full-rate writer. What is larger is allocated as asked, and not kept.
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

    /// Takes back a buffer that [`BufferPool::take`] gave, when nothing else refers to it any more.
    pub fn give_back(&self, mut buffer: BytesMut) {
        buffer.clear();
        // The largest capacity that the chunk can have again is that of its class.
        for class in CLASS_BYTES.into_iter().rev() {
            if buffer.try_reclaim(class) {
                let taken_bytes = buffer.capacity();
                return self.give_back_chunk(buffer, taken_bytes);
            }
        }
    }

    /// Takes back a buffer that had a capacity of `taken_bytes` when [`BufferPool::take`] gave it;
    /// batches split off it may still be in use.
    pub(crate) fn give_back_chunk(&self, mut buffer: BytesMut, taken_bytes: usize) {
        // Not what is left of it: a chunk must neither sink to a smaller class nor, if it is larger
        // than all, stay.
        let Some(class) = CLASS_BYTES.iter().position(|class| *class == taken_bytes) else {
            return;
        };
        buffer.clear();
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
    fn a_chunk_given_back_in_use_comes_back_whole_when_its_batches_are_gone() {
        let pool = BufferPool::new();
        let mut chunk = pool.take(CLASS_BYTES[2]);
        let taken_bytes = chunk.capacity();
        chunk.resize(taken_bytes - 20 * 1024, 7);
        let address = chunk.as_ptr();
        let batch = chunk.split();
        pool.give_back_chunk(chunk, taken_bytes);
        // It does not sink to a class that what is left of it would do for.
        assert_ne!(pool.take(1000).as_ptr(), batch.as_ptr_range().end);
        drop(batch);
        let again = pool.take(CLASS_BYTES[2]);
        assert_eq!((again.as_ptr(), again.capacity()), (address, taken_bytes));
    }

    #[test]
    fn the_rest_of_a_large_buffer_is_not_kept() {
        let pool = BufferPool::new();
        let mut large = pool.take(8 << 20);
        let taken_bytes = large.capacity();
        large.resize((8 << 20) - 20 * 1024, 7);
        let _batch = large.split();
        pool.give_back_chunk(large, taken_bytes);
        assert!(pool.classes.iter().all(|class| class.lock().is_empty()));
    }

    #[test]
    fn each_class_keeps_its_maximum_and_no_more() {
        let pool = BufferPool::new();
        for (class, bytes) in CLASS_BYTES.into_iter().enumerate() {
            let taken: Vec<_> = (0..=KEPT_MAX[class]).map(|_| pool.take(bytes)).collect();
            for chunk in taken {
                pool.give_back_chunk(chunk, bytes);
            }
            assert_eq!(pool.classes[class].lock().len(), KEPT_MAX[class]);
        }
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
