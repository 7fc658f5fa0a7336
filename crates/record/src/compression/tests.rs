//! Round trips, the bound, and bytes that no encoder has made.

use proptest::prelude::*;

use super::*;

fn compressed(codec: Codec, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    compress(codec, data, &mut out).unwrap();
    out
}

#[test]
fn ids_and_names_are_kafkas() {
    let names = ["none", "gzip", "snappy", "lz4", "zstd"];
    for (id, codec) in (0..).zip(Codec::ALL) {
        assert_eq!(Codec::from_id(id), Some(codec));
        assert_eq!(codec.id(), id);
        assert_eq!(codec.name(), names[usize::from(id)]);
        assert_eq!(Codec::from_name(codec.name()), Some(codec));
    }
    assert_eq!(Codec::from_id(5), None);
    assert_eq!(Codec::from_name("brotli"), None);
}

#[test]
fn decompression_stops_at_the_bound() {
    let zeros = vec![0; 10_000_000];
    for codec in Codec::ALL {
        let small = compressed(codec, &zeros);
        assert_eq!(
            decompress(codec, &small, zeros.len()).unwrap().len(),
            zeros.len(),
            "{codec}"
        );
        for max_bytes in [zeros.len() - 1, 100_000, 1, 0] {
            let result = decompress(codec, &small, max_bytes);
            assert_eq!(
                result,
                Err(CompressionError::TooLarge { max_bytes }),
                "{codec}"
            );
        }
    }
}

#[test]
fn bare_snappy_block_is_read() {
    let data = b"librdkafka writes one block without a frame".repeat(50);
    let block = snap::raw::Encoder::new().compress_vec(&data).unwrap();
    assert_eq!(decompress(Codec::Snappy, &block, 10_000), Ok(data));
}

#[test]
fn snappy_block_cannot_claim_what_it_cannot_hold() {
    // A length of 2^32 - 1 in front of next to nothing, bare and framed.
    let block = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00, 0x41];
    let claim = "a block claims more than its bytes can hold".to_owned();
    let refused = Err(CompressionError::Corrupt { reason: claim });
    assert_eq!(decompress(Codec::Snappy, &block, usize::MAX), refused);
    let mut framed = compressed(Codec::Snappy, b"");
    framed.extend_from_slice(&[0, 0, 0, 7]);
    framed.extend_from_slice(&block);
    assert_eq!(decompress(Codec::Snappy, &framed, usize::MAX), refused);
}

#[test]
fn best_snappy_ratio_is_within_the_rule() {
    let block = snap::raw::Encoder::new()
        .compress_vec(&vec![7; 65_536])
        .unwrap();
    assert_eq!(
        decompress(Codec::Snappy, &block, 65_536).map(|data| data.len()),
        Ok(65_536)
    );
}

#[test]
fn frame_headers_are_those_of_kafkas_clients() {
    let lz4 = compressed(Codec::Lz4, b"abc");
    assert_eq!(lz4[..7], [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82]);
    let snappy = compressed(Codec::Snappy, b"abc");
    assert_eq!(
        snappy[..16],
        [0x82, 83, 78, 65, 80, 80, 89, 0, 0, 0, 0, 1, 0, 0, 0, 1]
    );
}

#[test]
fn gzip_members_and_zstd_frames_may_follow_one_another() {
    for codec in [Codec::Gzip, Codec::Zstd] {
        let mut two = compressed(codec, b"one ");
        two.extend(compressed(codec, b"two"));
        assert_eq!(
            decompress(codec, &two, 100).as_deref(),
            Ok(&b"one two"[..]),
            "{codec}"
        );
    }
    let mut two = compressed(Codec::Snappy, b"one ");
    two.extend(compressed(Codec::Snappy, b"two"));
    assert_eq!(
        decompress(Codec::Snappy, &two, 100).as_deref(),
        Ok(&b"one two"[..])
    );
}

fn data() -> impl Strategy<Value = Vec<u8>> {
    (prop::collection::vec(any::<u8>(), 0..300), 0..400_usize)
        .prop_map(|(piece, times)| piece.repeat(times))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_codec_round_trips(data in data()) {
        for codec in Codec::ALL {
            let small = compressed(codec, &data);
            let back = decompress(codec, &small, data.len());
            prop_assert_eq!(back.as_ref(), Ok(&data));
        }
    }

    #[test]
    fn a_compressor_writes_the_same_whatever_it_wrote_before(
        pieces in prop::collection::vec((0..5_u8, 0..3_usize, data()), 1..6),
    ) {
        let mut used = Compressor::default();
        for (codec, level, data) in pieces {
            let codec = Codec::from_id(codec).unwrap();
            let compression = Compression { codec, level: [None, Some(1), Some(9)][level] };
            let (mut again, mut fresh) = (b"before".to_vec(), b"before".to_vec());
            used.compress(compression, &data, &mut again).unwrap();
            compress_with(compression, &data, &mut fresh).unwrap();
            prop_assert_eq!(&again, &fresh);
            let back = decompress(codec, &again[6..], data.len());
            prop_assert_eq!(back, Ok(data));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_stay_in_bounds(
        bytes in prop::collection::vec(any::<u8>(), 0..400), max_bytes in 0..2_000_usize,
    ) {
        for codec in Codec::ALL {
            if let Ok(out) = decompress(codec, &bytes, max_bytes) {
                prop_assert!(out.len() <= max_bytes);
            }
        }
    }

    #[test]
    fn damaged_frames_never_panic_and_stay_in_bounds(
        data in data(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index,
    ) {
        for codec in Codec::ALL {
            let mut small = compressed(codec, &data);
            if small.is_empty() {
                continue;
            }
            let at = at.index(small.len());
            small[at] ^= byte;
            small.truncate(cut.index(small.len()) + 1);
            if let Ok(out) = decompress(codec, &small, data.len()) {
                prop_assert!(out.len() <= data.len());
            }
        }
    }
}
