//! Golden bytes: what members say today is understood by every later release. They were computed
//! from the description of the layouts, not by this code.

use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use proptest::prelude::*;
use skein_metadata::LogId;
use skein_types::Uuid;

use super::*;
use crate::identity::Founding;
use crate::types::{RaftEntryOf, RaftLogId, RaftVote, raft_log_id};

fn id(term: u64, index: u64) -> RaftLogId {
    raft_log_id(LogId { term, index })
}

fn founding() -> Founding {
    Founding {
        cluster_id: Uuid([1; 16]).into(),
        members: vec![(7, "a:1".into()), (8, "b:2".into())],
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// These bytes are that message, and a message of these bytes gives them again.
#[track_caller]
fn check_as<M: Message>(kind: u16, message: &M, golden: &str) {
    let golden: String = golden.split_whitespace().collect();
    let bytes = encode_as(kind, message).unwrap();
    assert_eq!(hex(&bytes), golden, "the bytes have changed");
    let envelope = open(&bytes).unwrap();
    assert_eq!((envelope.kind, envelope.version), (kind, 0));
    let read: M = decode(&envelope).unwrap();
    assert_eq!(
        hex(&encode_as(kind, &read).unwrap()),
        golden,
        "it was read as another one"
    );
}

#[track_caller]
fn check<M: Message>(message: &M, golden: &str) {
    check_as(M::KIND, message, golden);
}

#[test]
fn refused_v0() {
    let refusal = PeerRefusal::new(RefusalReason::NotReady, "later");
    check(
        &refusal,
        "dc0000000e000000 0105000000000000006c61746572 69a3016b",
    );
    assert_eq!(
        answer::<Standing>(&refusal.to_bytes()).unwrap_err(),
        refusal
    );
}

#[test]
fn who_v0() {
    assert_eq!(hex(&who()), "dd00000000000000f81d450c");
}

#[test]
fn standing_v0() {
    let standing = Standing {
        nonce: [5; 16],
        raft_id: 7,
        list: vec!["a:1".into(), "b:2".into()],
        founding: Some(founding()),
        is_member: true,
    };
    check(
        &standing,
        "de00000084000000 \
         0505050505050505050505050505050507000000000000000200000000000000 \
         0300000000000000613a310300000000000000623a3201160000000000000041 \
         5145424151454241514542415145424151454241510200000000000000070000 \
         00000000000300000000000000613a3108000000000000000300000000000000 \
         623a3201 \
         fa5c8093",
    );
    assert_eq!(
        answer::<Standing>(&encode(&standing).unwrap()).unwrap(),
        standing
    );
}

#[test]
fn offer_and_offered_v0() {
    check(
        &founding(),
        "df0000004c000000 \
         1600000000000000415145424151454241514542415145424151454241510200 \
         00000000000007000000000000000300000000000000613a3108000000000000 \
         000300000000000000623a32 \
         8c06924c",
    );
    let refused = Some("no".to_owned());
    check(
        &Offered { refused },
        "e00000000b000000 0102000000000000006e6f f11ade45",
    );
}

#[test]
fn fate_and_left_out_v0() {
    let question = IsForgotten {
        cluster_id: Uuid([1; 16]).into(),
        raft_id: 9,
    };
    check(
        &question,
        "ec00000026000000160000000000000041514542415145424151454241514542 \
         4151454241510900000000000000 \
         796094a3",
    );
    check(&Fate { is_forgotten: true }, "ed0000000100000001 3879a07e");
    let peers = vec!["c:3".to_owned()];
    check(
        &LeaveOut { peers },
        "ee0000001300000001000000000000000300000000000000633a33 \
         e3a889ad",
    );
    check(&LeftOut { refused: None }, "ef0000000100000000 5a205a61");
    let refused = Some("no".to_owned());
    check(
        &LeftOut { refused },
        "ef0000000b0000000102000000000000006e6f \
         5aadcdbf",
    );
}

#[test]
fn join_and_admission_v0() {
    let join = JoinRequest {
        cluster_id: Uuid([1; 16]).into(),
        raft_id: 9,
        address: "c:3".into(),
    };
    check(
        &join,
        "e100000031000000 \
         1600000000000000415145424151454241514542415145424151454241510900 \
         0000000000000300000000000000633a33 \
         7640d6e2",
    );
    check(&Admission::Seated, "e200000004000000 00000000 a28f24f7");
    check(
        &Admission::Elsewhere("a:1".into()),
        "e20000000f000000 010000000300000000000000613a31 00b5cb86",
    );
    check(
        &Admission::Refused("no".into()),
        "e20000000e000000 0200000002000000000000006e6f 40f819c7",
    );
}

#[test]
fn append_v0() {
    let entry = RaftEntryOf::new(id(2, 3), EntryPayload::Blank);
    let request = AppendEntriesRequest {
        vote: RaftVote::new_committed(2, 7),
        prev_log_id: Some(id(1, 2)),
        leader_commit: Some(id(1, 1)),
        entries: vec![entry],
    };
    check(
        &Append { target: 8, request },
        "e30000006f000000 \
         0800000000000000020000000000000007000000000000000101010000000000 \
         0000020000000000000001010000000000000001000000000000000100000000 \
         0000002400000000000000c80000001800000002000000000000000300000000 \
         0000000000000000000000030625e6 \
         4818b7dd",
    );
}

#[test]
fn appended_v0() {
    check(
        &Appended(AppendEntriesResponse::Success),
        "e400000004000000 00000000 02770050",
    );
    let partial = AppendEntriesResponse::PartialSuccess(Some(id(1, 2)));
    check(
        &Appended(partial),
        "e400000015000000 010000000101000000000000000200000000000000 2faf7739",
    );
    check(
        &Appended(AppendEntriesResponse::Conflict),
        "e400000004000000 02000000 835467ef",
    );
    let higher = AppendEntriesResponse::HigherVote(RaftVote::new(3, 7));
    check(
        &Appended(higher),
        "e400000015000000 030000000300000000000000070000000000000000 e1d5be3b",
    );
}

#[test]
fn vote_pre_vote_and_ballot_v0() {
    let mut request = VoteRequest::new(RaftVote::new(3, 7), Some(id(2, 3)));
    let ballot = Ballot {
        target: 8,
        request: request.clone(),
    };
    check_as(
        PRE_VOTE,
        &ballot,
        "e60000002b000000 \
         0800000000000000030000000000000007000000000000000001020000000000 \
         0000030000000000000000 \
         23f0174b",
    );
    request.leadership_transfer = true;
    check_as(
        VOTE,
        &Ballot { target: 8, request },
        "e50000002b000000 \
         0800000000000000030000000000000007000000000000000001020000000000 \
         0000030000000000000001 \
         aa3c04f2",
    );
    let granted = VoteResponse::new(RaftVote::new(3, 7), None, true);
    check(
        &BallotAnswer(granted),
        "e700000013000000 03000000000000000700000000000000000100 21e71f2e",
    );
}

#[test]
fn snapshot_piece_v0() {
    let piece = SnapshotPiece {
        target: 8,
        vote: RaftVote::new_committed(2, 7),
        head: b"hd".to_vec(),
        offset: 4,
        bytes: b"img".to_vec(),
    };
    check(
        &piece,
        "e800000036000000 \
         0800000000000000020000000000000007000000000000000102000000000000 \
         00686404000000000000000300000000000000696d67 \
         3702e5a8",
    );
    check(
        &SnapshotTaken::Continue(7),
        "e90000000c000000 000000000700000000000000 22457246",
    );
    let vote = RaftVote::new_committed(2, 7);
    check(
        &SnapshotTaken::Ended(vote),
        "e900000015000000 010000000200000000000000070000000000000001 3a14fe0d",
    );
}

#[test]
fn lead_v0() {
    let from = RaftVote::new_committed(2, 7);
    let request = TransferLeaderRequest::new(from, 8, Some(id(2, 3)));
    check(
        &Lead { target: 8, request },
        "ea00000032000000 \
         0800000000000000020000000000000007000000000000000108000000000000 \
         000102000000000000000300000000000000 \
         416f7f66",
    );
    check(&Leads(Ok(())), "eb00000004000000 00000000 e38c3748");
    let changed = TransferLeaderError::VoteChanged {
        expected: from,
        actual: RaftVote::new(3, 8),
    };
    check(
        &Leads(Err(changed)),
        "eb00000026000000 \
         0100000002000000000000000700000000000000010300000000000000080000 \
         000000000000 \
         ec018f79",
    );
    let unflushed = TransferLeaderError::LogNotFlushed {
        expected: Some(id(2, 3)),
        actual: None,
    };
    check(
        &Leads(Err(unflushed)),
        "eb00000016000000 02000000010200000000000000030000000000000000 1754ce6f",
    );
}

#[test]
fn entries_that_leave_a_gap_are_refused() {
    for (previous, index) in [(None, 1), (Some(id(1, 2)), 4), (Some(id(1, u64::MAX)), 0)] {
        let request = AppendEntriesRequest {
            vote: RaftVote::new_committed(2, 7),
            prev_log_id: previous,
            leader_commit: None,
            entries: vec![RaftEntryOf::new(id(2, index), EntryPayload::Blank)],
        };
        let bytes = encode(&Append { target: 8, request }).unwrap();
        let error = decode::<Append>(&open(&bytes).unwrap()).err().unwrap();
        assert!(error.to_string().contains("does not follow"), "{error}");
    }
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    let text = "\u{e9}".repeat(REFUSAL_TEXT_MAX);
    let refusal = PeerRefusal::new(RefusalReason::Failed, text);
    assert!(refusal.text.len() <= REFUSAL_TEXT_MAX);
    assert!(answer::<Standing>(&refusal.to_bytes()).unwrap_err().text == refusal.text);
}

proptest! {
    #[test]
    fn arbitrary_payloads_do_not_panic(
        kind in 219_u16..237,
        payload in proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 0..300),
    ) {
        let envelope = Envelope { kind, version: 0, payload: &payload };
        let _ = decode::<PeerRefusal>(&envelope);
        let _ = decode::<Standing>(&envelope);
        let _ = decode::<Founding>(&envelope);
        let _ = decode::<JoinRequest>(&envelope);
        let _ = decode::<Admission>(&envelope);
        let _ = decode::<Append>(&envelope);
        let _ = decode::<Appended>(&envelope);
        let _ = decode::<Ballot>(&envelope);
        let _ = decode::<BallotAnswer>(&envelope);
        let _ = decode::<SnapshotPiece>(&envelope);
        let _ = decode::<SnapshotTaken>(&envelope);
        let _ = decode::<Lead>(&envelope);
        let _ = decode::<Leads>(&envelope);
    }
}
