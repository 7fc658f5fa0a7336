//! Reads whole logs, when the faults are over.
//!
//! Input: the node. Output: the events of reading every partition from its start to its end.
//!
//! Invariant: it reads what any consumer could read, and all of it.
//!
//! Source: Jepsen's final reads.

use std::collections::BTreeMap;
use std::time::Duration;

use skein_protocol::messages::fetch::FetchRequest;
use skein_types::{Millis, Offset};
use tokio::time::sleep;

use crate::client::Client;
use crate::client::fetch::{FetchTerms, Progress, Session};
use crate::client::lister;
use crate::event::{Event, PartitionId};

/// How long the end of a log must stand still to be its end.
const STANDS_STILL: Duration = Duration::from_millis(700);

/// Lookups by time in each partition.
const LOOKUPS: u64 = 4;

/// Reads every partition.
pub(crate) async fn read_everything(client: &mut Client) {
    for number in 0..client.plan.partitions().count() {
        let partition = PartitionId(number);
        let end = final_end(client, partition).await;
        read(client, partition, end).await;
        client
            .witness
            .tell(client.actor, Event::ReadBack { partition, end });
        look_up(client, partition).await;
    }
}

/// The end of the log, once it moves no more: a `flushed` topic's consumers see the last records
/// when they are flushed.
async fn final_end(client: &mut Client, partition: PartitionId) -> Offset {
    let mut last = None;
    loop {
        let end = lister::end(client, partition).await;
        if let (Some(end), Some(last)) = (end, last)
            && end == last
        {
            return end;
        }
        last = end;
        sleep(STANDS_STILL).await;
    }
}

async fn read(client: &mut Client, partition: PartitionId, end: Offset) {
    let version = i16::try_from(client.rng.between(7, 18)).unwrap_or(18);
    let terms = FetchTerms {
        version,
        max_wait_ms: 100,
        min_bytes: 1,
        max_bytes: 500_000,
    };
    let mut positions = BTreeMap::from([(partition, Offset::ZERO)]);
    while positions[&partition] < end {
        let session = Session { id: 0, epoch: -1 };
        let request = terms.request(client, session, &positions);
        let Some((response, asked)) = client.call::<FetchRequest>(&request, version).await else {
            continue;
        };
        for (partition, progress) in terms.take(client, &response, &positions, asked) {
            match progress {
                Progress::At(position) => {
                    positions.insert(partition, position);
                }
                Progress::OutOfRange | Progress::Unavailable => client.back_off().await,
            }
        }
    }
}

async fn look_up(client: &mut Client, partition: PartitionId) {
    for _ in 0..LOOKUPS {
        let elapsed = u64::try_from(client.witness.elapsed().as_millis()).unwrap_or(0);
        let back = i64::try_from(client.rng.below(elapsed + 1)).unwrap_or(0);
        let time = Millis(client.env.clock.now().0 - back);
        lister::look(client, partition, time, true).await;
    }
}
