//! Random bits, spread from a seed.
//!
//! Input: 32 random bytes, drawn by the caller. Output: as many numbers as a decision needs.
//!
//! Invariant: the same seed gives the same numbers, so that a decision can be repeated.
//!
//! Source: xoshiro256++ by Blackman and Vigna.

use skein_metadata::Image;
use skein_types::{TopicId, Uuid};

/// A stream of numbers that its seed determines. Not for secrets.
#[derive(Clone, Debug)]
pub struct RandomBits {
    state: [u64; 4],
}

impl RandomBits {
    /// The stream of `seed`.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let (words, _) = seed.as_chunks::<8>();
        let mut state = [0; 4];
        for (word, bytes) in state.iter_mut().zip(words) {
            *word = u64::from_le_bytes(*bytes);
        }
        if state == [0; 4] {
            state[0] = 1; // from all zeros the generator gives nothing but zeros
        }
        Self { state }
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// A number below `end`; 0 if `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        let wide = u128::from(self.next_u64()) * end as u128;
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// An id that no topic of `image` has.
    ///
    /// Ids whose text starts with `-` are left out: tools would take them for an option.
    pub fn topic_id(&mut self, image: &Image) -> TopicId {
        loop {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&self.next_u64().to_le_bytes());
            bytes[8..].copy_from_slice(&self.next_u64().to_le_bytes());
            let id = Uuid::from_random(bytes);
            // 62 is the digit `-`. One draw in 64 is thrown away, so this ends at once.
            if id.0[0] >> 2 != 62 && image.topic(id).is_none() {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_its_stream_and_zeros_do_not_stick() {
        let mut random = RandomBits::from_seed([0; 32]);
        let first: Vec<u64> = (0..8).map(|_| random.next_u64()).collect();
        assert!(first.windows(2).any(|pair| pair[0] != pair[1]));
        let mut again = RandomBits::from_seed([0; 32]);
        assert!(first.iter().all(|number| *number == again.next_u64()));
        assert!((0..1000).all(|_| random.below(3) < 3));
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn no_topic_id_reads_like_an_option() {
        let mut random = RandomBits::from_seed([7; 32]);
        let image = Image::new();
        for _ in 0..1000 {
            assert!(!random.topic_id(&image).to_string().starts_with('-'));
        }
    }
}
