//! What only our nodes say to one another, against the schemas, and against bytes that must never
//! change: nodes of two versions speak them during an upgrade.

use bytes::Bytes;
use skein_protocol::messages::peer_handshake::{
    PeerHandshakeRequest, PeerHandshakeResponse, RequestApi, ResponseApi,
};
use skein_protocol::messages::peer_proof::{PeerProofRequest, PeerProofResponse};
use skein_protocol::messages::quorum_rpc::{QuorumRpcRequest, QuorumRpcResponse};
use skein_protocol::{Message, messages};
use skein_types::Uuid;

use crate::generate::Schemas;
use crate::golden::check;

const ID: Uuid = Uuid([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);

#[test]
fn every_version_of_every_message_round_trips() {
    let schemas = Schemas::load();
    macro_rules! check_message {
        ($module:ident, $name:ident) => {
            crate::metadata_records::check::<messages::$module::$name>(&schemas);
        };
    }
    skein_protocol::for_each_peer_message!(check_message);
}

#[test]
fn no_message_of_ours_passes_for_one_of_kafkas() {
    fn is_for_peers<M: Message>() -> bool {
        M::API_KEY.is_some_and(skein_protocol::ApiKey::is_for_peers)
    }
    let (mut kafkas, mut ours) = (Vec::new(), Vec::new());
    macro_rules! collect_kafkas {
        ($module:ident, $name:ident) => {
            kafkas.push(is_for_peers::<messages::$module::$name>());
        };
    }
    macro_rules! collect_ours {
        ($module:ident, $name:ident) => {
            ours.push(is_for_peers::<messages::$module::$name>());
        };
    }
    skein_protocol::for_each_message!(collect_kafkas);
    skein_protocol::for_each_peer_message!(collect_ours);
    assert!(kafkas.into_iter().all(|is_for_peers| !is_for_peers));
    assert_eq!(ours, [true; 14]);
}

#[test]
fn the_first_step_of_the_handshake_never_changes() {
    let request = PeerHandshakeRequest {
        purpose: 2,
        process_id: ID,
        has_secret: true,
        nonce: Bytes::from_static(&[0xab; 4]),
        apis: vec![RequestApi {
            api_key: 1,
            min_version: 4,
            max_version: 18,
        }],
    };
    let hex = "020102030405060708090a0b0c0d0e0f100105abababab020001000400120000";
    check(request, 0, hex);
    let response = PeerHandshakeResponse {
        error_code: 58,
        error_message: Some("no".into()),
        process_id: ID,
        has_secret: false,
        nonce: Bytes::from_static(&[0xcd]),
        apis: vec![ResponseApi {
            api_key: 20_002,
            min_version: 0,
            max_version: 1,
        }],
    };
    let hex = "003a036e6f0102030405060708090a0b0c0d0e0f100002cd024e22000000010000";
    check(response, 0, hex);
}

#[test]
fn the_second_step_of_the_handshake_never_changes() {
    let request = PeerProofRequest {
        proof: Bytes::from_static(&[1, 2, 3]),
    };
    check(request, 0, "0401020300");
    let response = PeerProofResponse {
        error_code: 0,
        error_message: None,
        proof: Bytes::from_static(&[4]),
    };
    check(response, 0, "000000020400");
}

#[test]
fn the_envelope_of_the_quorum_never_changes() {
    let request = QuorumRpcRequest {
        body: Bytes::from_static(b"abc"),
    };
    check(request, 0, "0461626300");
    let response = QuorumRpcResponse {
        error_code: 3,
        body: Bytes::new(),
    };
    check(response, 0, "00030100");
}
