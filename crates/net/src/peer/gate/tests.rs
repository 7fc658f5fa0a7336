//! The gate against everybody who may knock, over a stream that the test controls.

use std::net::{Ipv4Addr, SocketAddr};

use proptest::prelude::*;
use skein_protocol::messages::api_versions::ApiVersionsResponse;
use skein_protocol::messages::metadata::MetadataRequest;
use skein_protocol::messages::peer_handshake::PeerHandshakeResponse;

use super::*;
use crate::peer::handshake::ClientHello;
use crate::peer::{PeerSecret, Purpose};
use crate::testing::{MemoryStream, Peer, Sent};

const FROM: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4711);

/// As random as a test wants it.
struct Always(u8);

impl skein_env::Rng for Always {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(self.0);
    }
}

fn local(number: u8) -> LocalPeer {
    let secret = PeerSecret::new(b"0123456789abcdef");
    let apis = vec![(ApiKey::QuorumRpc, 0..=0)];
    LocalPeer::new(&Always(number), Some(secret), apis)
}

fn gate() -> PeerGate {
    PeerGate::new(Arc::new(local(2)), Arc::new(Always(3)))
}

/// What the gate makes of someone who says `bytes` and, if so, leaves; and what it answers.
async fn knock(bytes: &[u8], leaves: bool) -> (Option<RemotePeer>, Vec<u8>) {
    let peer = Peer::default();
    peer.open_window(1 << 20);
    peer.send(bytes);
    if leaves {
        peer.end();
    }
    let mut stream = MemoryStream(peer.clone());
    let remote = gate().greet(&mut stream, FROM).await;
    let sent = peer.state().sent.clone();
    (remote, sent)
}

fn framed<R: skein_protocol::Request>(request: &R, version: i16) -> Vec<u8> {
    let encoded = frame::encode_request(request, version, 7, None).unwrap();
    encoded.into_bytes().unwrap().to_vec()
}

/// Both messages of a peer that knows what the gate of this test will say.
fn messages() -> (Vec<u8>, Vec<u8>) {
    let (client, server) = (local(1), local(2));
    let hello = ClientHello::new(&client, Purpose::Fetch, [1; NONCE_BYTES]);
    let request = hello.request();
    let (answer, _) = handshake::take_hello(&server, [3; NONCE_BYTES], &request);
    let proof = hello.answered(&answer).unwrap().request();
    (framed(&request, 0), framed(&proof, 0))
}

#[tokio::test(start_paused = true)]
async fn a_peer_passes_however_its_bytes_arrive() {
    let (hello, proof) = messages();
    for read_max in [0, 1, 7] {
        let peer = Peer::default();
        peer.open_window(1 << 20);
        peer.state().read_max = read_max;
        peer.send(&[&hello[..], &proof, b"the first request"].concat());
        let mut stream = MemoryStream(peer.clone());
        let remote = gate().greet(&mut stream, FROM).await.unwrap();
        assert_eq!(
            (remote.purpose, remote.process_id.0),
            (Purpose::Fetch, [1; 16])
        );
        assert_eq!(peer.unread(), 17, "what follows is left to the connection");
        assert_eq!(peer.answers(), [7, 7]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_ends_early_lets_nobody_pass() {
    let (hello, proof) = messages();
    let all = [hello, proof].concat();
    for cut in 0..all.len() {
        for leaves in [true, false] {
            let began = Instant::now();
            let (remote, _) = knock(&all[..cut], leaves).await;
            assert_eq!(remote, None, "{cut} bytes");
            let took = began.elapsed();
            let limit = if leaves { Duration::ZERO } else { GREETING_MAX };
            assert!(
                took >= limit && took < limit + Duration::from_millis(5),
                "{took:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_with_one_wrong_bit_lets_nobody_pass() {
    let (hello, proof) = messages();
    let all = [&hello[..], &proof].concat();
    // Not checked, and nobody's business: the header's correlation id, and the APIs that the client
    // serves.
    let correlation_ids = [8..12, hello.len() + 8..hello.len() + 12];
    let apis = hello.len() - 9..hello.len();
    // Every other value than 0 is true.
    let has_secret = apis.start - 1 - NONCE_BYTES - 1;
    for at in 0..all.len() {
        if correlation_ids.iter().any(|range| range.contains(&at)) || apis.contains(&at) {
            continue;
        }
        for bit in 0..if at == has_secret { 1 } else { 8 } {
            let mut bytes = all.clone();
            bytes[at] ^= 1 << bit;
            let (remote, _) = knock(&bytes, true).await;
            assert_eq!(remote, None, "bit {bit} of byte {at}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_claimed_length_is_refused_before_it_is_read() {
    let (hello, _) = messages();
    for length in [0x7fff_ffff_u32, 4097, 0xffff_ffff, 0] {
        let peer = Peer::default();
        peer.send(&length.to_be_bytes());
        peer.send(&hello[4..]);
        let mut stream = MemoryStream(peer.clone());
        assert_eq!(gate().greet(&mut stream, FROM).await, None);
        assert!(peer.unread() >= hello.len() - OPENING_BYTES, "{length}");
        assert!(peer.state().capacity_max <= 4 + exchange::FRAME_MAX_BYTES);
    }
}

#[tokio::test(start_paused = true)]
async fn a_kafka_client_that_asks_for_versions_is_told_that_it_may_not() {
    for version in [0, 3, 4] {
        let (remote, sent) = knock(&framed(&ApiVersionsRequest::default(), version), false).await;
        assert_eq!(remote, None);
        let frame = Bytes::from(sent).slice(4..);
        let (id, answer): (i32, ApiVersionsResponse) =
            frame::decode_response::<ApiVersionsRequest>(&frame, version).unwrap();
        assert_eq!((id, answer.error_code), (7, 31));
        assert!(answer.api_keys.is_empty(), "nothing is advertised here");
    }
    // From the future: as version 0, which such a client expects (KIP-511).
    let mut future = framed(&ApiVersionsRequest::default(), 4);
    future[7] = 99;
    let (_, sent) = knock(&future, false).await;
    assert_eq!(sent[4..10], [0, 0, 0, 7, 0, 31]);
    let (remote, sent) = knock(&framed(&MetadataRequest::default(), 12), false).await;
    assert_eq!((remote, sent), (None, Vec::new()), "merely closed");
}

#[test]
fn strangers_are_called_by_their_names() {
    let name = |bytes: &[u8]| stranger_of(&bytes[..OPENING_BYTES]);
    assert_eq!(name(b"GET / HTTP/1.1"), Some(Stranger::Http));
    assert_eq!(name(&[22, 3, 1, 0, 200, 1, 0, 0]), Some(Stranger::Tls));
    assert_eq!(name(&[0; 8]), Some(Stranger::Unknown));
    assert_eq!(name(&[0xff; 8]), Some(Stranger::Unknown));
    let metadata = framed(&MetadataRequest::default(), 12);
    assert_eq!(name(&metadata), Some(Stranger::KafkaClient));
    let (hello, proof) = messages();
    assert_eq!(name(&hello), None);
    assert_eq!(
        name(&proof),
        Some(Stranger::Unknown),
        "not as the first thing"
    );
}

#[tokio::test(start_paused = true)]
async fn a_handshake_from_the_future_is_told_which_version_is_known() {
    let (mut hello, _) = messages();
    hello[7] = 1;
    let (remote, sent) = knock(&hello, false).await;
    assert_eq!(remote, None);
    let frame = Bytes::from(sent).slice(4..);
    let (_, answer): (i32, PeerHandshakeResponse) =
        frame::decode_response::<PeerHandshakeRequest>(&frame, 0).unwrap();
    assert_eq!(answer.error_code, ErrorCode::UnsupportedVersion.code());
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_holds_a_place_at_the_gate_for_two_seconds() {
    let gate = Arc::new(gate());
    let silent = |gate: &Arc<PeerGate>| {
        let gate = Arc::clone(gate);
        tokio::spawn(async move {
            let mut stream = MemoryStream(Peer::default());
            gate.greet(&mut stream, FROM).await
        })
    };
    let began = Instant::now();
    let waiting: Vec<_> = (0..GREETINGS_MAX).map(|_| silent(&gate)).collect();
    tokio::task::yield_now().await;
    assert_eq!(silent(&gate).await.unwrap(), None);
    assert_eq!(began.elapsed(), Duration::ZERO, "no place is left");
    for one in waiting {
        assert_eq!(one.await.unwrap(), None);
    }
    let (hello, proof) = messages();
    let peer = Peer::default();
    peer.open_window(1 << 20);
    peer.send(&[hello, proof].concat());
    let mut stream = MemoryStream(peer.clone());
    assert!(
        gate.greet(&mut stream, FROM).await.is_some(),
        "the places came back"
    );
    assert!(
        !peer.state().events.contains(&Sent::Shutdown),
        "and it stays open"
    );
}

proptest! {
    #[test]
    fn no_bytes_of_a_stranger_pass(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        begins_well: bool,
    ) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().unwrap();
        let (hello, _) = messages();
        let said = if begins_well { [hello, bytes].concat() } else { bytes };
        let (remote, _) = runtime.block_on(knock(&said, true));
        prop_assert_eq!(remote, None);
    }
}
