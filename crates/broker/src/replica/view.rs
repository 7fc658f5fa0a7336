//! What readers of a replica load: immutable, without a lock.
//!
//! Input: the log's view, the state machine's offsets and leader epochs. Output: all of them
//! together.
//!
//! Invariant: the offsets were true of a log that had at least these segments and bytes.
//!
//! Source: none.

use std::sync::Arc;

use skein_partition::PublishedOffsets;
use skein_record::LeaderEpochs;
use skein_storage::LogView;

/// A replica as readers see it.
#[derive(Clone)]
pub(crate) struct ReplicaView {
    /// Where the bytes are.
    pub(crate) log: Arc<LogView>,
    /// Which of them may be read.
    pub(crate) offsets: PublishedOffsets,
    /// In which epoch each of them was written.
    pub(crate) leader_epochs: Arc<LeaderEpochs>,
}
