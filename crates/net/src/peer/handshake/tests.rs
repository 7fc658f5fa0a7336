//! The handshake without a network: who is let in, and who is told what.

use skein_protocol::ApiKey;

use super::*;
use crate::peer::PeerSecret;
use crate::peer::proof::NONCE_BYTES;

const SECRET: &[u8] = b"0123456789abcdef";

fn peer(number: u8, secret: Option<&[u8]>) -> LocalPeer {
    LocalPeer {
        process_id: Uuid([number; 16]),
        secret: secret.map(PeerSecret::new),
        apis: vec![(ApiKey::QuorumRpc, 0..=0), (ApiKey::Fetch, 12..=17)],
    }
}

fn nonce(number: u8) -> Nonce {
    [number; NONCE_BYTES]
}

type Ends = (
    Result<RemotePeer, HandshakeError>,
    Result<RemotePeer, HandshakeError>,
);

/// What client and server come to, with messages that someone on the way may change.
fn meet_with(
    client: &LocalPeer,
    server: &LocalPeer,
    change: impl FnOnce(&mut PeerProofRequest),
) -> Ends {
    let hello = ClientHello::new(client, Purpose::Raft, nonce(1));
    let (answer, next) = take_hello(server, nonce(2), &hello.request());
    let (proof, server_proof) = match (hello.answered(&answer), next) {
        (Ok(proof), Ok(next)) => (proof, next),
        (proof, next) => return (refused(proof), refused(next)),
    };
    let mut request = proof.request();
    change(&mut request);
    let (answer, passed) = server_proof.take(&request);
    (proof.answered(&answer), passed)
}

fn refused<T>(result: Result<T, HandshakeError>) -> Result<RemotePeer, HandshakeError> {
    Err(result.err().expect("one side goes on alone"))
}

fn meet(client: &LocalPeer, server: &LocalPeer) -> Ends {
    meet_with(client, server, |_| {})
}

#[test]
fn who_knows_the_secret_passes_and_both_know_who_is_there() {
    for secret in [Some(SECRET), None] {
        let (client, server) = (peer(1, secret), peer(2, secret));
        let (at_client, at_server) = meet(&client, &server);
        let (at_client, at_server) = (at_client.unwrap(), at_server.unwrap());
        assert_eq!(at_client.process_id, server.process_id);
        assert_eq!(at_server.process_id, client.process_id);
        assert_eq!(
            (at_client.purpose, at_server.purpose),
            (Purpose::Raft, Purpose::Raft)
        );
        assert!(!at_client.is_self && !at_server.is_self);
        assert_eq!(at_client.apis, at_server.apis);
        assert_eq!(at_client.apis[&ApiKey::Fetch.code()], 12..=17);
    }
}

#[test]
fn a_node_that_connects_to_itself_knows_it() {
    let myself = peer(1, Some(SECRET));
    let (at_client, at_server) = meet(&myself, &myself);
    assert!(at_client.unwrap().is_self && at_server.unwrap().is_self);
}

#[test]
fn another_secret_is_refused_and_both_sides_say_what_to_repair() {
    let (client, server) = (peer(1, Some(b"another secret..")), peer(2, Some(SECRET)));
    let (at_client, at_server) = meet(&client, &server);
    assert!(matches!(at_server, Err(HandshakeError::WrongSecret)));
    let error = at_client.unwrap_err();
    assert!(error.is_refusal());
    let told = error.to_string();
    assert!(
        told.contains("cluster.secret.file differ (SASL_AUTHENTICATION_FAILED)"),
        "{told}"
    );
}

#[test]
fn a_secret_on_one_side_alone_is_refused_and_told_from_each_side() {
    let (with, without) = (peer(1, Some(SECRET)), peer(2, None));
    let (at_client, at_server) = meet(&without, &with);
    assert!(matches!(at_server, Err(HandshakeError::SecretMissingThere)));
    let told = at_client.unwrap_err().to_string();
    assert!(
        told.contains("has a cluster.secret.file and this one has not"),
        "{told}"
    );
    let (at_client, at_server) = meet(&with, &without);
    assert!(matches!(at_server, Err(HandshakeError::SecretMissingHere)));
    let told = at_client.unwrap_err().to_string();
    assert!(
        told.contains("this node has a cluster.secret.file and the other one"),
        "{told}"
    );
}

#[test]
fn a_client_that_claims_a_secret_and_proves_nothing_is_refused() {
    let (client, server) = (peer(1, Some(SECRET)), peer(2, Some(SECRET)));
    let (_, at_server) = meet_with(&client, &server, |request| request.proof = Bytes::new());
    assert!(matches!(at_server, Err(HandshakeError::WrongSecret)));
}

#[test]
fn a_server_that_proves_nothing_is_refused() {
    let (client, server) = (peer(1, Some(SECRET)), peer(2, Some(SECRET)));
    let hello = ClientHello::new(&client, Purpose::Raft, nonce(1));
    let (answer, _) = take_hello(&server, nonce(2), &hello.request());
    let proof = hello.answered(&answer).unwrap();
    let error = proof.answered(&PeerProofResponse::default()).unwrap_err();
    assert!(matches!(error, HandshakeError::WrongSecret));
}

#[test]
fn a_server_that_denies_to_have_a_secret_cannot_do_without_a_proof() {
    let (client, server) = (peer(1, Some(SECRET)), peer(2, None));
    let hello = ClientHello::new(&client, Purpose::Raft, nonce(1));
    let request = PeerHandshakeRequest {
        has_secret: false,
        ..hello.request()
    };
    let (answer, _) = take_hello(&server, nonce(2), &request);
    let error = hello.answered(&answer).err().unwrap();
    assert!(matches!(error, HandshakeError::SecretMissingThere));
}

#[test]
fn a_proof_that_comes_back_to_its_sender_is_wrong() {
    let client = peer(1, Some(SECRET));
    let hello = ClientHello::new(&client, Purpose::Raft, nonce(1));
    // A stranger in place of the server gives back whatever it hears, also as its own name.
    let answer = PeerHandshakeResponse {
        process_id: client.process_id,
        has_secret: true,
        nonce: Bytes::copy_from_slice(&nonce(1)),
        ..Default::default()
    };
    let proof = hello.answered(&answer).unwrap();
    let reflected = PeerProofResponse {
        proof: proof.request().proof,
        ..Default::default()
    };
    assert!(matches!(
        proof.answered(&reflected),
        Err(HandshakeError::WrongSecret)
    ));
}

#[test]
fn a_proof_of_an_earlier_connection_is_wrong() {
    let (client, server) = (peer(1, Some(SECRET)), peer(2, Some(SECRET)));
    let hello = ClientHello::new(&client, Purpose::Raft, nonce(1));
    let first = hello.request();
    let (answer, next) = take_hello(&server, nonce(2), &first);
    let recorded = hello.answered(&answer).unwrap().request();
    assert!(next.unwrap().take(&recorded).1.is_ok());
    // The same messages again, to a server that has another nonce now.
    let (_, next) = take_hello(&server, nonce(3), &first);
    let (answer, passed) = next.unwrap().take(&recorded);
    assert!(matches!(passed, Err(HandshakeError::WrongSecret)));
    assert!(answer.proof.is_empty(), "nothing is proved to a stranger");
}

#[test]
fn a_server_proves_nothing_before_the_client_has() {
    let server = peer(2, Some(SECRET));
    let client = peer(1, Some(SECRET));
    let hello = ClientHello::new(&client, Purpose::Control, nonce(1));
    let (answer, _) = take_hello(&server, nonce(2), &hello.request());
    assert_eq!(
        answer.nonce,
        Bytes::copy_from_slice(&nonce(2)),
        "chosen before it was asked"
    );
    let (answer, _) = meet_with(&client, &server, |request| request.proof = Bytes::new());
    assert!(matches!(answer, Err(HandshakeError::Refused { .. })));
}

#[test]
fn a_proof_for_one_purpose_opens_no_other() {
    let (client, server) = (peer(1, Some(SECRET)), peer(2, Some(SECRET)));
    let hello = ClientHello::new(&client, Purpose::Raft, nonce(1));
    let changed = PeerHandshakeRequest {
        purpose: Purpose::Fetch.code(),
        ..hello.request()
    };
    let (answer, next) = take_hello(&server, nonce(2), &changed);
    let proof = hello.answered(&answer).unwrap().request();
    assert!(matches!(
        next.unwrap().take(&proof).1,
        Err(HandshakeError::WrongSecret)
    ));
}

#[test]
fn what_no_node_would_say_is_refused() {
    let (client, server) = (peer(1, None), peer(2, None));
    let say = |change: fn(&mut PeerHandshakeRequest)| {
        let mut request = ClientHello::new(&client, Purpose::Raft, nonce(1)).request();
        change(&mut request);
        let (answer, next) = take_hello(&server, nonce(2), &request);
        assert_eq!(answer.error_code, ErrorCode::InvalidRequest.code());
        next.err().unwrap().to_string()
    };
    let refused = say(|request| request.purpose = 5);
    assert!(refused.contains("purpose 5"), "{refused}");
    let refused = say(|request| request.nonce = Bytes::from_static(&[1; 31]));
    assert!(refused.contains("a nonce of 31 bytes"), "{refused}");
    let refused = say(|request| request.nonce = Bytes::new());
    assert!(refused.contains("a nonce of 0 bytes"), "{refused}");
}

#[test]
fn a_version_from_the_future_is_told_so() {
    let (answer, error) = unknown_version(7);
    assert_eq!(answer.error_code, ErrorCode::UnsupportedVersion.code());
    assert!(error.to_string().contains("version 7"), "{error}");
}

#[test]
fn what_a_stranger_says_is_cut_before_it_is_logged() {
    let long = format!("a\n\u{1b}[31m{}", "é".repeat(500));
    let error = check_answer(42, Some(&long.as_str().into())).unwrap_err();
    let told = error.to_string();
    assert!(!told.contains(['\n', '\u{1b}']), "{told}");
    assert!(told.chars().count() < 300, "{told}");
}
