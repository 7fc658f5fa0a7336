//! A snapshot that arrives in pieces.
//!
//! Input: pieces, in order. Output: the snapshot, installed, when the last one is there.
//!
//! Invariants:
//! - memory grows by what has arrived, never by what a head promises, and one snapshot arrives at a
//!   time;
//! - a snapshot that is installed already does not travel again: its sender may have given up
//!   waiting for the answer;
//! - a piece that does not continue what is there is not taken: the sender hears where to go on.
//!
//! Source: the Raft paper, section 7.

use openraft::async_runtime::watch::WatchReceiver;
use openraft::storage::{Snapshot, SnapshotMeta};
use parking_lot::Mutex;
use skein_metadata::SNAPSHOT_MAX_BYTES;

use super::member::stopped;
use crate::frozen::{SnapshotHead, snapshot_head_of};
use crate::node::RaftHandle;
use crate::types::{RaftVote, log_id, raft_log_id};
use crate::wire::{PeerRefusal, RefusalReason, SnapshotPiece, SnapshotTaken};

/// The snapshot that is arriving.
#[derive(Default)]
pub(super) struct IncomingSnapshots {
    incoming: Mutex<Option<Incoming>>,
}

struct Incoming {
    vote: RaftVote,
    /// As it travels: it names the snapshot.
    head: Vec<u8>,
    image: Vec<u8>,
}

/// What a piece led to.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Continue(u64),
    Complete(RaftVote, SnapshotHead, Vec<u8>),
}

impl IncomingSnapshots {
    /// Takes a piece, and has the snapshot installed with the last one.
    pub(super) async fn take(
        &self,
        piece: SnapshotPiece,
        raft: &RaftHandle,
    ) -> Result<SnapshotTaken, PeerRefusal> {
        if let Some(vote) = vote_if_applied(&piece, raft) {
            return Ok(SnapshotTaken::Ended(vote));
        }
        match self.add(piece)? {
            Progress::Continue(offset) => Ok(SnapshotTaken::Continue(offset)),
            Progress::Complete(vote, head, image) => {
                let meta = SnapshotMeta {
                    last_log_id: head.last_log_id.map(raft_log_id),
                    last_membership: head.membership,
                };
                let snapshot = Snapshot {
                    meta,
                    snapshot: image,
                };
                let installed = raft.install_full_snapshot(vote, snapshot).await;
                let answer = installed.map_err(|error| stopped(&error))?;
                Ok(SnapshotTaken::Ended(answer.vote))
            }
        }
    }

    fn add(&self, piece: SnapshotPiece) -> Result<Progress, PeerRefusal> {
        let malformed = |text: String| PeerRefusal::new(RefusalReason::Malformed, text);
        let (head, head_length) =
            snapshot_head_of(&piece.head).map_err(|error| malformed(error.to_string()))?;
        if head_length != piece.head.len() || head.image_bytes > SNAPSHOT_MAX_BYTES as u64 {
            return Err(malformed("the head of the snapshot is none".into()));
        }
        // openraft takes anything else for a bug of its own.
        let newest = head.last_log_id.map_or(0, |id| id.term);
        if !piece.vote.committed || newest > piece.vote.leader_id.term {
            return Err(malformed("the snapshot is not that of a leader".into()));
        }
        let mut incoming = self.incoming.lock();
        if piece.offset == 0 {
            *incoming = Some(Incoming {
                vote: piece.vote,
                head: piece.head.clone(),
                image: Vec::new(),
            });
        }
        let same = |i: &&mut Incoming| i.vote == piece.vote && i.head == piece.head;
        let Some(current) = incoming.as_mut().filter(same) else {
            return Ok(Progress::Continue(0));
        };
        let there = current.image.len() as u64;
        if piece.offset != there {
            return Ok(Progress::Continue(there));
        }
        let end = there + piece.bytes.len() as u64;
        if end > head.image_bytes {
            *incoming = None;
            return Err(malformed(
                "the snapshot is longer than its head says".into(),
            ));
        }
        current.image.extend_from_slice(&piece.bytes);
        if end < head.image_bytes {
            return Ok(Progress::Continue(end));
        }
        let image = incoming.take().map(|whole| whole.image).unwrap_or_default();
        Ok(Progress::Complete(piece.vote, head, image))
    }
}

/// This member's vote, if it has applied all that the snapshot holds.
fn vote_if_applied(piece: &SnapshotPiece, raft: &RaftHandle) -> Option<RaftVote> {
    let (head, _) = snapshot_head_of(&piece.head).ok()?;
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let applied = metrics.last_applied.as_ref().map(log_id);
    (applied.is_some() && applied >= head.last_log_id).then_some(metrics.vote)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frozen::snapshot_head_bytes;
    use crate::types::RaftStoredMembership;

    fn piece(term: u64, image_bytes: u64, offset: u64, bytes: &[u8]) -> SnapshotPiece {
        let head = SnapshotHead {
            last_log_id: None,
            membership: RaftStoredMembership::default(),
            image_bytes,
        };
        SnapshotPiece {
            target: 1,
            vote: RaftVote::new_committed(term, 2),
            head: snapshot_head_bytes(&head).unwrap(),
            offset,
            bytes: bytes.to_vec(),
        }
    }

    #[track_caller]
    fn assert_continues(progress: Result<Progress, PeerRefusal>, offset: u64) {
        assert_eq!(progress.unwrap(), Progress::Continue(offset));
    }

    #[test]
    fn pieces_in_order_are_the_snapshot() {
        let snapshots = IncomingSnapshots::default();
        assert_continues(snapshots.add(piece(1, 5, 0, b"ab")), 2);
        assert_continues(snapshots.add(piece(1, 5, 2, b"cd")), 4);
        let Progress::Complete(vote, head, image) = snapshots.add(piece(1, 5, 4, b"e")).unwrap()
        else {
            panic!("it is not complete");
        };
        assert_eq!((vote, head.image_bytes), (RaftVote::new_committed(1, 2), 5));
        assert_eq!(image, b"abcde");
        // It is gone: who repeats its end begins again.
        assert_continues(snapshots.add(piece(1, 5, 4, b"e")), 0);
    }

    #[test]
    fn a_piece_that_does_not_continue_hears_where_to_go_on() {
        let snapshots = IncomingSnapshots::default();
        assert_continues(snapshots.add(piece(1, 5, 2, b"cd")), 0);
        assert_continues(snapshots.add(piece(1, 5, 0, b"ab")), 2);
        assert_continues(snapshots.add(piece(1, 5, 4, b"e")), 2);
        assert_continues(snapshots.add(piece(2, 5, 2, b"xy")), 0);
        assert_continues(snapshots.add(piece(2, 5, 0, b"xy")), 2);
        assert_continues(snapshots.add(piece(1, 5, 2, b"cd")), 0);
    }

    #[test]
    fn a_snapshot_is_never_longer_than_its_head_says() {
        let snapshots = IncomingSnapshots::default();
        let refused = snapshots.add(piece(1, 3, 0, b"abcd")).unwrap_err();
        assert_eq!(refused.reason, RefusalReason::Malformed);
        let too_large = SNAPSHOT_MAX_BYTES as u64 + 1;
        assert!(snapshots.add(piece(1, too_large, 0, b"a")).is_err());
    }
}
