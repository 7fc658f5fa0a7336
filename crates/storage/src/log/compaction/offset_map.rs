//! The last offset of each key, in bounded memory.
//!
//! Input: keys with their offsets, rising. Output: the last offset of a key that was put.
//!
//! A slot holds a hash of 128 bits instead of the key. Two keys with one hash would cost a record;
//! with random keys that takes about 2⁶⁴ of them. The hash is keyed with random bits, so that
//! nobody can choose keys which collide.
//!
//! Invariants: at most `keys_max` keys are held, and one slot stays free, so that a search ends.
//!
//! Source: `SkimpyOffsetMap` of Kafka 4.1.1 (MD5 there); J.-P. Aumasson, D. J. Bernstein,
//! "SipHash: a fast short-input PRF".

use siphasher::sip128::SipHasher24;
use skein_types::Offset;
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};

/// Bytes of a slot: the hash, and the offset plus one; all zeros where it is free.
pub(super) const SLOT_BYTES: u64 = 24;

type SlotWords = [u64; 3];

/// Hashes of keys, and their offsets.
pub(super) struct OffsetMap {
    hasher: SipHasher24,
    slots: Vec<SlotWords>,
    keys: usize,
    keys_max: usize,
}

impl OffsetMap {
    /// Room for `keys_max` keys in so many slots; `hash_key` must be random.
    pub(super) fn new(hash_key: [u8; 16], slots: usize, keys_max: usize) -> Self {
        let slots = slots.max(2);
        Self {
            hasher: SipHasher24::new_with_key(&hash_key),
            slots: vec![[0; 3]; slots],
            keys: 0,
            keys_max: keys_max.clamp(1, slots - 1),
        }
    }

    /// Keeps the offset of `key`; `false` if there is no room for another key.
    pub(super) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let (first, second) = self.hasher.hash(key).as_u64();
        let at = self.find(first, second);
        let is_free = self.slots[at][2] == 0;
        if is_free && self.keys == self.keys_max {
            return false;
        }
        #[cfg(feature = "mutations")]
        if !is_free && mutation::has(Mutation::CompactionKeepsFirst) {
            return true;
        }
        self.keys += usize::from(is_free);
        self.slots[at] = [first, second, offset.0.cast_unsigned() + 1];
        true
    }

    /// The offset that was last put with `key`.
    pub(super) fn get(&self, key: &[u8]) -> Option<Offset> {
        let (first, second) = self.hasher.hash(key).as_u64();
        let word = self.slots[self.find(first, second)][2];
        word.checked_sub(1)
            .map(|offset| Offset(offset.cast_signed()))
    }

    /// The slot of the hash, or the free one where it would be.
    fn find(&self, first: u64, second: u64) -> usize {
        let count = self.slots.len();
        let home = (u128::from(first) * count as u128) >> 64;
        let mut at = usize::try_from(home).unwrap_or(0);
        loop {
            let slot = &self.slots[at];
            if slot[2] == 0 || slot[0] == first && slot[1] == second {
                return at;
            }
            at = if at + 1 == count { 0 } else { at + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map_that_may_be_full(
            keys in prop::collection::vec(0_u8..40, 1..200),
            slots in 1_usize..50,
            keys_max in 1_usize..50,
        ) {
            let mut map = OffsetMap::new([7; 16], slots, keys_max);
            let room = keys_max.min(slots.max(2) - 1);
            let mut model = BTreeMap::new();
            for (offset, key) in keys.iter().enumerate() {
                let offset = Offset(i64::try_from(offset).unwrap());
                let has_room = model.contains_key(key) || model.len() < room;
                prop_assert_eq!(map.put(&[*key], offset), has_room);
                if has_room {
                    model.insert(*key, offset);
                }
            }
            for key in 0..40 {
                prop_assert_eq!(map.get(&[key]), model.get(&key).copied());
            }
        }
    }
}
