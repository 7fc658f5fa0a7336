//! Golden bytes: what is written today is read for ever.

use super::*;
use proptest::prelude::*;
use skein_metadata::{Entry, Record};
use skein_types::Uuid;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[track_caller]
fn assert_golden(bytes: &[u8], golden: &str) {
    let golden: String = golden.split_whitespace().collect();
    assert_eq!(hex(bytes), golden, "the bytes have changed");
}

fn id(term: u64, index: u64) -> LogId {
    LogId { term, index }
}

fn membership() -> RaftMembership {
    let nodes = [(7, "a:1"), (8, "b:2")].map(|(id, address)| {
        (
            id,
            PeerNode {
                address: address.into(),
            },
        )
    });
    RaftMembership::new(vec![BTreeSet::from([7])], BTreeMap::from(nodes)).unwrap()
}

#[track_caller]
fn check_entry(payload: EntryPayload<Proposal, u64, PeerNode>, golden: &str) {
    let entry = RaftEntryOf::new(raft_log_id(id(2, 3)), payload);
    let mut bytes = Vec::new();
    write_entry(&entry, 5, &mut bytes).unwrap();
    assert_golden(&bytes, golden);
    let (envelope, length) = envelope::read(&bytes, FRAME_PAYLOAD_MAX).unwrap();
    assert_eq!(length, bytes.len());
    let (read, flushed_end) = read_entry(&envelope).unwrap();
    assert_eq!(
        (format!("{read:?}"), flushed_end),
        (format!("{entry:?}"), 5)
    );
}

#[test]
fn blank_v0() {
    check_entry(
        EntryPayload::Blank,
        "c800000018000000 \
         020000000000000003000000000000000500000000000000 \
         49f9048e",
    );
}

#[test]
fn normal_v0() {
    let records = vec![Record::RemoveTopic { id: Uuid([1; 16]) }];
    let proposal = Proposal::new(Entry {
        base: None,
        records,
    })
    .unwrap();
    check_entry(
        EntryPayload::Normal(proposal),
        "c90000004d000000 \
         0200000000000000030000000000000005000000000000002d00000000000000 \
         6400000005000000000100000039b5d582070000001000000001010101010101 \
         010101010101010101bcbfc7d0 \
         80f417a7",
    );
}

#[test]
fn membership_v0() {
    check_entry(
        EntryPayload::Membership(membership()),
        "ca0000005e000000 \
         0200000000000000030000000000000005000000000000000100000000000000 \
         0100000000000000070000000000000002000000000000000700000000000000 \
         0300000000000000613a3108000000000000000300000000000000623a32 \
         73aa0d39",
    );
}

#[test]
fn file_head_v0() {
    let mut bytes = Vec::new();
    write_file_head(Some(id(2, 3)), &mut bytes).unwrap();
    assert_golden(
        &bytes,
        "cb00000011000000 0102000000000000000300000000000000 a4761d52",
    );
    let (envelope, _) = envelope::read(&bytes, SMALL_PAYLOAD_MAX).unwrap();
    assert_eq!(read_file_head(&envelope).unwrap(), Some(id(2, 3)));
}

#[test]
fn vote_v0() {
    let bytes = vote_bytes(&RaftVote::new_committed(2, 7)).unwrap();
    assert_golden(
        &bytes,
        "cc00000011000000 0200000000000000070000000000000001 ebc70577",
    );
    assert_eq!(vote_of(&bytes).unwrap(), RaftVote::new_committed(2, 7));
    let bytes = vote_bytes(&RaftVote::new(2, 7)).unwrap();
    assert_eq!(vote_of(&bytes).unwrap(), RaftVote::new(2, 7));
}

#[test]
fn closed_v0() {
    let closed = Closed {
        number: 2,
        end: 300,
    };
    let bytes = closed_bytes(closed).unwrap();
    assert_golden(
        &bytes,
        "cf00000010000000 02000000000000002c01000000000000 28c544d7",
    );
    assert_eq!(closed_of(&bytes).unwrap(), closed);
}

#[test]
fn snapshot_head_v0() {
    let membership = RaftStoredMembership::new(Some(raft_log_id(id(1, 1))), membership());
    let head = SnapshotHead {
        last_log_id: Some(id(2, 3)),
        membership,
        image_bytes: 4,
    };
    let bytes = snapshot_head_bytes(&head).unwrap();
    assert_golden(
        &bytes,
        "ce00000070000000 \
         0102000000000000000300000000000000010100000000000000010000000000 \
         0000010000000000000001000000000000000700000000000000020000000000 \
         000007000000000000000300000000000000613a310800000000000000030000 \
         0000000000623a320400000000000000 \
         955985fb",
    );
    assert_eq!(snapshot_head_of(&bytes).unwrap(), (head, bytes.len()));
    let empty = SnapshotHead {
        last_log_id: None,
        membership: RaftStoredMembership::default(),
        image_bytes: 0,
    };
    let bytes = snapshot_head_bytes(&empty).unwrap();
    assert_eq!(snapshot_head_of(&bytes).unwrap().0, empty);
}

proptest! {
    #[test]
    fn arbitrary_payloads_do_not_panic(
        kind in 199_u16..209,
        payload in proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 0..200),
    ) {
        let envelope = Envelope { kind, version: 0, payload: &payload };
        let _ = read_entry(&envelope);
        let _ = read_file_head(&envelope);
        let _ = vote_of(&payload);
        let _ = closed_of(&payload);
        let _ = snapshot_head_of(&payload);
    }
}
