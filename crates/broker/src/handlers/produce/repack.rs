//! The codec that a topic forces on its batches (`compression.type`).
//!
//! Input: a batch as its producer packed it. Output: the batch in the topic's codec, or why it is
//! refused.
//!
//! Invariants:
//! - a batch that has the codec already is kept as it is, and so is every batch of a topic that
//!   forces none: they cost one comparison;
//! - packing runs on the offload pool, before the replica's lock, and unpacks a bounded number of
//!   bytes: of the node together (`unpacking.rs`), and of a batch as many as the topic takes where
//!   they are stored unpacked;
//! - the size limit of the topic holds for what comes out, too.
//!
//! Source: `LogValidator` and `UnifiedLog.append` of Kafka 4.1.1.

use std::sync::Arc;

use skein_record::{BatchBuf, Codec, repack};
use skein_types::ErrorCode;

use super::{Outcome, node_ends};
use crate::node::Shared;
use crate::replica::Replica;
use crate::unpacking::{UNPACKED_MAX_BYTES, unpack};

/// The batch in the codec of its topic.
pub(super) async fn as_forced(
    shared: &Arc<Shared>,
    replica: &Replica,
    batch: BatchBuf,
) -> Result<BatchBuf, Outcome> {
    let Some(forced) = replica.forced_compression() else {
        return Ok(batch);
    };
    let codec = batch.header().codec();
    if codec.as_ref() == Ok(&forced.codec) {
        return Ok(batch);
    }
    shared.metrics.batches_reencoded.inc();
    if codec != Ok(Codec::None) {
        shared.metrics.decompressions.inc();
    }
    let policy = replica.policy();
    let max_bytes = match forced.codec {
        Codec::None => policy.max_message_bytes,
        _ => UNPACKED_MAX_BYTES,
    };
    let pack = move |batch: &BatchBuf, bound| repack(&batch.view(), forced, bound);
    let budget = &shared.unpack_budget;
    let unpacked = unpack(&shared.env, budget, batch, max_bytes, pack).await;
    let packed = match unpacked.map(|(_, packed)| packed) {
        Some(Ok(Some(packed))) => packed,
        Some(Err(error)) => {
            let message = Some(error.to_string());
            return Err(Outcome::refused(ErrorCode::InvalidRecord, message));
        }
        // Its codec was another just now.
        Some(Ok(None)) => {
            let message = Some("the batch could not be packed anew".to_owned());
            return Err(Outcome::refused(ErrorCode::UnknownServerError, message));
        }
        None => return Err(node_ends()),
    };
    match policy.check_size(packed.as_slice().len()) {
        Ok(()) => Ok(packed),
        Err(rejection) => Err(rejection.into()),
    }
}
