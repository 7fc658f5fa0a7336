//! Producer ids, a block at a time.
//!
//! Input: blocks from the controller. Output: ids, each given once in the life of the cluster.
//!
//! Invariants:
//! - an id is given once: a block belongs to one registration of one broker, and what is left of it
//!   when the broker stops is lost;
//! - one task asks the controller at a time, the others wait for its block.
//!
//! Source: KIP-730.

use std::time::Duration;

use skein_controller::{AllocateProducerIds, ProducerIdBlock};
use skein_types::{ErrorCode, ProducerId};
use tokio::sync::Mutex;

use crate::node::Shared;

/// How long a producer waits for the controller before it is told to ask again.
const ASK_MAX: Duration = Duration::from_secs(5);

/// What is left of the current block.
#[derive(Default)]
pub(crate) struct ProducerIds {
    left: Mutex<Option<ProducerIdBlock>>,
}

impl ProducerIds {
    /// The next id.
    pub(crate) async fn next(&self, shared: &Shared) -> Result<ProducerId, ErrorCode> {
        let mut left = self.left.lock().await;
        let block = match *left {
            Some(block) if block.length > 0 => block,
            _ => allocate(shared).await?,
        };
        let rest = ProducerIdBlock {
            first: ProducerId(block.first.get() + 1),
            length: block.length - 1,
        };
        *left = Some(rest);
        Ok(block.first)
    }
}

async fn allocate(shared: &Shared) -> Result<ProducerIdBlock, ErrorCode> {
    let request = AllocateProducerIds {
        broker_id: shared.identity.broker_id,
        broker_epoch: shared.identity.broker_epoch,
    };
    // Whatever stands in the way, the producer asks again.
    let asked = shared.controller_link.ask(request, ASK_MAX).await;
    asked.map_err(|refusal| {
        tracing::warn!(%refusal, "no producer ids from the controller");
        ErrorCode::CoordinatorLoadInProgress
    })
}
