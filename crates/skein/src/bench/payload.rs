//! Values of records to measure with.
//!
//! Input: a length, a kind, random bits. Output: values, made once and used in turn.
//!
//! Invariant: at most [`POOL_BYTES_MAX`] bytes of them are kept, or one value.
//!
//! Random bytes cannot be compressed, and what a generator repeats is compressed far better than
//! any log: the words here repeat as in text, and their order does not. zstd makes them about a
//! third.

use bytes::Bytes;
use clap::{Args, ValueEnum};
use skein_env::Rng;

/// Bytes of all values together.
const POOL_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Different values, at most.
const POOL_MAX: usize = 4096;
/// Different words, and their letters at most.
const WORDS: usize = 400;
const WORD_LETTERS_MAX: usize = 9;
const LETTERS: &[u8] = b"etaoinshrdlcumwfgypbvk";
/// Bytes of a value, at most.
const RECORD_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What is in the records.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Records")]
pub(super) struct PayloadArguments {
    /// Bytes of a record's value
    #[arg(
        long,
        visible_alias = "record-size",
        value_name = "BYTES",
        default_value = "1024",
        value_parser = clap::value_parser!(u64).range(1..=RECORD_BYTES_MAX)
    )]
    record_bytes: u64,
    /// What they are
    #[arg(long, value_enum, default_value_t = Payload::Words)]
    payload: Payload,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Payload {
    /// Random words, which compress as a log does.
    Words,
    /// Random bytes, which do not compress.
    Random,
    /// Zeros, which compress to nothing.
    Zeros,
}

/// Values to be sent in turn.
pub(super) struct Pool {
    values: Vec<Bytes>,
    next: usize,
}

impl Pool {
    pub(super) fn new(arguments: &PayloadArguments, rng: &dyn Rng) -> Self {
        let rng = &mut Random(rng.next_u64());
        let length = usize::try_from(arguments.record_bytes).unwrap_or(usize::MAX);
        let count = (POOL_BYTES_MAX / length).clamp(1, POOL_MAX);
        let words = words(rng);
        let mut value = |_| match arguments.payload {
            Payload::Words => text(length, &words, rng),
            Payload::Zeros => vec![0; length],
            Payload::Random => {
                let bytes = std::iter::repeat_with(|| rng.next().to_le_bytes()).flatten();
                bytes.take(length).collect()
            }
        };
        Self {
            values: (0..count).map(&mut value).map(Bytes::from).collect(),
            next: 0,
        }
    }

    /// The next value, without copying it.
    pub(super) fn next(&mut self) -> Bytes {
        let value = self.values.get(self.next).cloned().unwrap_or_default();
        self.next = (self.next + 1) % self.values.len().max(1);
        value
    }
}

/// Random enough for a payload, and far cheaper than asking the system: SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap_or(0)
    }
}

fn words(rng: &mut Random) -> Vec<Vec<u8>> {
    let word = |_| {
        let letters = 1 + rng.below(WORD_LETTERS_MAX);
        let letter = |_| LETTERS[rng.below(LETTERS.len())];
        (0..letters).map(letter).collect()
    };
    (0..WORDS).map(word).collect()
}

fn text(length: usize, words: &[Vec<u8>], rng: &mut Random) -> Vec<u8> {
    let mut text = Vec::with_capacity(length);
    while text.len() < length {
        text.extend_from_slice(&words[rng.below(words.len())]);
        text.push(b' ');
    }
    text.truncate(length);
    text
}

#[cfg(test)]
mod tests {
    use skein_record::Codec;

    use super::*;

    fn pool(payload: Payload, record_bytes: u64) -> Pool {
        struct Seven;
        impl Rng for Seven {
            fn fill(&self, bytes: &mut [u8]) {
                bytes.fill(7);
            }
        }
        let arguments = PayloadArguments {
            record_bytes,
            payload,
        };
        Pool::new(&arguments, &Seven)
    }

    /// Bytes of a batch of such values, for each byte of theirs.
    fn compressed(payload: Payload) -> f64 {
        let mut pool = pool(payload, 1000);
        let mut builder = skein_record::BatchBuilder::new(Codec::Zstd);
        for _ in 0..64 {
            let value = pool.next();
            builder
                .append(skein_types::Millis(0), None, Some(&value), &[])
                .unwrap();
        }
        builder.build().unwrap().freeze().len() as f64 / 64_000.0
    }

    #[test]
    fn values_have_their_length_and_memory_is_bounded() {
        for payload in [Payload::Words, Payload::Random, Payload::Zeros] {
            for length in [1, 1000, 20 << 20] {
                let mut pool = pool(payload, length);
                let kept: usize = pool.values.iter().map(Bytes::len).sum();
                assert!(kept <= POOL_BYTES_MAX || pool.values.len() == 1);
                assert_eq!(pool.next().len() as u64, length);
            }
        }
    }

    #[test]
    fn words_compress_as_a_log_does_and_random_bytes_do_not() {
        let words = compressed(Payload::Words);
        assert!((0.2..0.6).contains(&words), "{words}");
        assert!(compressed(Payload::Random) > 0.95);
        assert!(compressed(Payload::Zeros) < 0.05);
    }
}
