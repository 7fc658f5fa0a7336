//! Reads whole logs, when the faults are over.
//!
//! Input: the node. Output: the events of reading every partition from its start to its end.
//!
//! Invariant: it reads what any consumer could read, and all of it.
//!
//! Source: Jepsen's final reads.

pub(crate) mod groups;

use std::collections::BTreeMap;
use std::time::Duration;

use skein_protocol::messages::fetch::FetchRequest;
use skein_types::{Millis, Offset};
use tokio::time::sleep;

use crate::client::Client;
use crate::client::fetch::{FetchTerms, Progress, Session};
use crate::client::lister;
use crate::event::{Event, PartitionId};

/// How long the ends of all logs must stand still to be their ends.
const STANDS_STILL: Duration = Duration::from_millis(700);

/// The same where consumers wait for flushes: after a crash all segments of a log are flushed
/// before anything of it counts as flushed, one after the other, on a disk that may be slow.
const STANDS_STILL_FLUSHED: Duration = Duration::from_secs(15);

/// Lookups by time in each partition.
const LOOKUPS: u64 = 4;

/// Reads every partition.
pub(crate) async fn read_everything(client: &mut Client) {
    for (partition, end) in final_ends(client).await {
        // What comes back shows when it is read again.
        let is_compacted = client.plan.partition(partition).compaction.is_some();
        for _ in 0..=usize::from(is_compacted) {
            let start = read(client, partition, end).await;
            let event = Event::ReadBack {
                partition,
                start,
                end,
            };
            client.witness.tell(client.actor, event);
        }
        look_up(client, partition).await;
    }
}

/// The ends of all logs, once they move no more.
async fn final_ends(client: &mut Client) -> Vec<(PartitionId, Offset)> {
    let is_flushed = client
        .plan
        .partitions()
        .any(|partition| partition.is_flushed);
    let stands_still = if is_flushed {
        STANDS_STILL_FLUSHED
    } else {
        STANDS_STILL
    };
    let mut last = ends(client).await;
    loop {
        sleep(stands_still).await;
        let now = ends(client).await;
        if now == last {
            return now;
        }
        last = now;
    }
}

async fn ends(client: &mut Client) -> Vec<(PartitionId, Offset)> {
    let mut ends = Vec::new();
    for partition in client.witness.live_partitions() {
        loop {
            if let Some(end) = lister::end(client, partition).await {
                ends.push((partition, end));
                break;
            }
        }
    }
    ends
}

/// Reads a log up to `end`; returns where it starts.
async fn read(client: &mut Client, partition: PartitionId, end: Offset) -> Offset {
    let version = i16::try_from(client.rng.between(7, 18)).unwrap_or(18);
    let terms = FetchTerms {
        version,
        max_wait_ms: 100,
        min_bytes: 1,
        max_bytes: 500_000,
    };
    let mut start = loop {
        if let Some(start) = lister::start(client, partition).await {
            break start;
        }
    };
    let mut positions = BTreeMap::from([(partition, start)]);
    while positions[&partition] < end {
        let session = Session { id: 0, epoch: -1 };
        let request = terms.request(client, session, &positions, &[]);
        let Some((response, asked)) = client.call::<FetchRequest>(&request, version).await else {
            continue;
        };
        for (partition, progress) in terms.take(client, &response, &positions, asked) {
            match progress {
                Progress::At(position) => {
                    positions.insert(partition, position);
                }
                // Retention has moved the start meanwhile: what was read before is gone.
                Progress::OutOfRange(new) => {
                    start = match new {
                        Some(new) => new,
                        None => lister::start(client, partition).await.unwrap_or(start),
                    };
                    positions.insert(partition, start);
                    client.back_off().await;
                }
                Progress::Unavailable => client.back_off().await,
            }
        }
    }
    start
}

async fn look_up(client: &mut Client, partition: PartitionId) {
    for _ in 0..LOOKUPS {
        let elapsed = u64::try_from(client.witness.elapsed().as_millis()).unwrap_or(0);
        let back = i64::try_from(client.rng.below(elapsed + 1)).unwrap_or(0);
        let time = Millis(client.env.clock.now().0 - back);
        lister::look(client, partition, time, true).await;
    }
}
