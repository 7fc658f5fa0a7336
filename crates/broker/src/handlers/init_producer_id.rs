//! `InitProducerId` (22): a producer id for an idempotent producer.
//!
//! Input: nothing, or a transactional id; from version 3 also the id and epoch that the producer
//! has. Output: an id and an epoch.
//!
//! Invariants:
//! - a producer without a transactional id always gets a new id with epoch 0, whatever it had:
//!   nothing is known of its old one but what the partitions keep;
//! - a transactional id is never answered as if it were none: its producer would believe in
//!   transactions that nobody coordinates.
//!
//! Source: KIP-98, KIP-360 (id and epoch in the request), KIP-588 (`PRODUCER_FENCED`).

use std::sync::Arc;

use skein_protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use skein_types::{ErrorCode, Millis, ProducerEpoch, ProducerId};

use crate::node::Shared;
use crate::router::Context;

/// The epoch of a new id.
const FIRST_EPOCH: ProducerEpoch = ProducerEpoch(0);

/// Gives out an id.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    _context: &Context,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let given = match check(&request, shared.config.transaction.max_timeout_ms) {
        Ok(()) => shared.producer_ids.next(shared).await,
        Err(code) => Err(code),
    };
    let (code, id, epoch) = match given {
        Ok(id) => (ErrorCode::None, id, FIRST_EPOCH),
        Err(code) => (code, ProducerId::NONE, ProducerEpoch::NONE),
    };
    InitProducerIdResponse {
        error_code: code.code(),
        producer_id: id.get(),
        producer_epoch: epoch.get(),
        ..Default::default()
    }
}

/// Whether the request gets a new id here.
fn check(request: &InitProducerIdRequest, timeout_max: Millis) -> Result<(), ErrorCode> {
    let has_id = request.producer_id != ProducerId::NONE.get();
    let has_epoch = request.producer_epoch != ProducerEpoch::NONE.get();
    if has_id != has_epoch {
        return Err(ErrorCode::InvalidRequest);
    }
    let Some(transactional_id) = &request.transactional_id else {
        return Ok(());
    };
    if transactional_id.is_empty() {
        return Err(ErrorCode::InvalidRequest);
    }
    let timeout = Millis(i64::from(request.transaction_timeout_ms));
    if timeout <= Millis(0) || timeout > timeout_max {
        return Err(ErrorCode::InvalidTransactionTimeout);
    }
    // No broker coordinates transactions. `find_coordinator.rs` says why it is this code.
    Err(ErrorCode::TransactionalIdAuthorizationFailed)
}

#[cfg(test)]
mod tests {
    use skein_protocol::Str;

    use super::*;

    #[track_caller]
    fn check_one(
        transactional_id: Option<&'static str>,
        timeout_ms: i32,
        (producer_id, producer_epoch): (i64, i16),
        expected: Result<(), ErrorCode>,
    ) {
        let request = InitProducerIdRequest {
            transactional_id: transactional_id.map(Str::from_static),
            transaction_timeout_ms: timeout_ms,
            producer_id,
            producer_epoch,
            ..Default::default()
        };
        assert_eq!(check(&request, Millis(900_000)), expected);
    }

    const NONE: (i64, i16) = (-1, -1);

    #[test]
    fn without_a_transactional_id_there_is_always_a_new_producer_id() {
        check_one(None, 0, NONE, Ok(()));
        check_one(None, i32::MAX, NONE, Ok(()));
        check_one(None, 0, (4000, 3), Ok(()));
    }

    #[test]
    fn a_producer_has_both_id_and_epoch_or_neither() {
        check_one(None, 0, (4000, -1), Err(ErrorCode::InvalidRequest));
        check_one(Some("tx"), 60_000, (-1, 0), Err(ErrorCode::InvalidRequest));
    }

    #[test]
    fn a_transactional_producer_is_checked_and_then_told_that_nobody_coordinates() {
        check_one(Some(""), 60_000, NONE, Err(ErrorCode::InvalidRequest));
        for timeout_ms in [i32::MIN, -1, 0, 900_001] {
            check_one(
                Some("tx"),
                timeout_ms,
                NONE,
                Err(ErrorCode::InvalidTransactionTimeout),
            );
        }
        for timeout_ms in [1, 900_000] {
            check_one(
                Some("tx"),
                timeout_ms,
                (4000, 3),
                Err(ErrorCode::TransactionalIdAuthorizationFailed),
            );
        }
    }
}
