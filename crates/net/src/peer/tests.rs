//! Gate and links together, over the simulated network.

use std::sync::Arc;
use std::time::Duration;

mod calls;
mod harness;
mod strangers;

use super::*;

/// Longer than anything that works takes.
const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn purposes_are_told_by_their_numbers() {
    for (index, purpose) in Purpose::ALL.into_iter().enumerate() {
        assert_eq!(Purpose::from_code(purpose.code()), Some(purpose));
        assert_eq!(purpose as usize, index, "links are kept in this order");
    }
    for code in [i8::MIN, -1, 0, 5, i8::MAX] {
        assert_eq!(Purpose::from_code(code), None);
    }
}

#[test]
fn the_newest_version_that_both_know_is_spoken() {
    use skein_protocol::messages::fetch::FetchRequest;
    let of = |versions: RangeInclusive<i16>| {
        let remote = RemotePeer {
            process_id: Uuid::ZERO,
            is_self: false,
            purpose: Purpose::Fetch,
            apis: BTreeMap::from([(ApiKey::Fetch.code(), versions)]),
        };
        remote.version_of::<FetchRequest>()
    };
    assert_eq!(of(12..=17), Some(17));
    assert_eq!(of(0..=4), Some(4));
    assert_eq!(of(17..=99), Some(18));
    assert_eq!(of(0..=3), None);
    assert_eq!(of(19..=20), None);
    // Whatever a peer claims: an empty range has no version.
    #[allow(clippy::reversed_empty_ranges)]
    let reversed = of(17..=12);
    assert_eq!(reversed, None);
}

#[test]
fn an_address_is_printed_as_it_is_written() {
    assert_eq!(PeerAddress::new("node-1", 9192).to_string(), "node-1:9192");
    assert_eq!(PeerAddress::new("::1", 1).to_string(), "[::1]:1");
}
