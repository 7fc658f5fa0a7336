//! Random numbers.
//!
//! Input: nothing. Output: bits that no one can guess (really) or that the seed decides
//! (simulated).
//!
//! Invariant: every random bit of a node comes from here; otherwise a seed would not replay.
//!
//! Source: `getrandom(2)`.

/// Gives random bits.
pub trait Rng: Send + Sync {
    /// Fills `bytes` with random bits.
    fn fill(&self, bytes: &mut [u8]);

    /// A random number of 64 bits.
    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}
