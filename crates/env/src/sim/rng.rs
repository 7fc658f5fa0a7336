//! The simulation's random numbers.
//!
//! Input: a seed and names. Output: bits that depend on nothing else.
//!
//! Invariant: a fork depends on the seed and the name only, never on how many numbers were drawn
//! before: a new consumer does not shift what the others see.
//!
//! Source: xoshiro256++ and splitmix64 (Blackman, Vigna; public domain).

/// A generator that a seed decides.
#[derive(Clone, Debug)]
pub struct SimRng {
    seed: u64,
    state: [u64; 4],
}

impl SimRng {
    /// The generator of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut word = seed;
        let state = std::array::from_fn(|_| {
            word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mix(word)
        });
        Self { seed, state }
    }

    /// The generator of this one's seed and `name`.
    #[must_use]
    pub fn fork(&self, name: &str) -> Self {
        let named = name
            .bytes()
            .fold(self.seed ^ 0x6a09_e667_f3bc_c908, |word, byte| {
                mix(word.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ u64::from(byte))
            });
        Self::new(named)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        result
    }

    /// A number below `end`, which is not 0; as even as 64 bits allow.
    pub fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "an empty range has no number");
        let product = u128::from(self.next_u64()) * u128::from(end);
        #[allow(clippy::cast_possible_truncation)] // the upper half of 128 bits
        let number = (product >> 64) as u64;
        number
    }

    /// A number from `first` to `last`, both included.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below((last - first).saturating_add(1))
    }

    /// True once in `one_in` draws on average; never for 0. Draws also then, so that a changed
    /// probability does not shift the numbers after it.
    pub fn chance(&mut self, one_in: u32) -> bool {
        let drawn = self.next_u64();
        one_in != 0 && (u128::from(drawn) * u128::from(one_in)) >> 64 == 0
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        let (words, rest) = bytes.as_chunks_mut::<8>();
        for word in words {
            *word = self.next_u64().to_le_bytes();
        }
        if !rest.is_empty() {
            let word = self.next_u64().to_le_bytes();
            rest.copy_from_slice(&word[..rest.len()]);
        }
    }
}

/// The finaliser of splitmix64.
pub(super) fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_in_their_range_and_reach_its_ends() {
        let mut rng = SimRng::new(1);
        let drawn: Vec<u64> = (0..1000).map(|_| rng.between(3, 6)).collect();
        assert_eq!(drawn.iter().min(), Some(&3));
        assert_eq!(drawn.iter().max(), Some(&6));
        assert_eq!(rng.between(7, 7), 7);
    }

    #[test]
    fn chance_is_about_one_in_n_and_never_for_zero() {
        let mut rng = SimRng::new(2);
        let hits = (0..10_000).filter(|_| rng.chance(10)).count();
        assert!((800..1200).contains(&hits), "{hits} of 10000");
        assert!((0..1000).all(|_| rng.chance(1)));
        assert!(!(0..1000).any(|_| rng.chance(0)));
    }

    #[test]
    fn a_fork_depends_on_seed_and_name_only() {
        let mut used = SimRng::new(3);
        let fresh = used.clone();
        used.next_u64();
        assert_eq!(used.fork("disk").next_u64(), fresh.fork("disk").next_u64());
        assert_ne!(fresh.fork("disk").next_u64(), fresh.fork("net").next_u64());
        assert_ne!(
            fresh.fork("disk").next_u64(),
            SimRng::new(4).fork("disk").next_u64()
        );
    }
}
