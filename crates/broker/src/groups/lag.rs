//! How far groups are behind, for whoever watches them.
//!
//! Input: the groups that this node coordinates, when somebody asks. Output: per group and
//! partition the records that are not read, and how far that is in time.
//!
//! In time: how old the first record is that is not read, when it is told; 0 for who has read all.
//! Where the node's clock is late, the newest record tells that.
//!
//! ```text
//!   scrape ─► younger than AGE_MAX? ─► the last measurement
//!               └─► every coordinator: groups, offsets ─► the replicas' ends: records
//!                                         └─► of those furthest behind: two lookups each: time
//! ```
//!
//! Invariants:
//! - nothing is measured unless somebody asks, and then at most once in [`AGE_MAX`];
//! - at most [`SERIES_MAX`] partitions are told, those with the most unread records first, and how
//!   many are left out is told too;
//! - logs are read on the offload pool, [`PIECE`] partitions at a time.
//!
//! Source: none; Kafka's coordinator tells no lag.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skein_coordinator::{Request, Response};
use skein_protocol::Str;
use skein_protocol::messages::list_groups::ListGroupsRequest;
use skein_protocol::messages::offset_fetch::OffsetFetchRequestGroup;
use skein_storage::LOOKUP_UNPACKED_MAX_BYTES;
use skein_types::{LeaderEpoch, Millis, Offset, PartitionIndex};
use tokio::time::Instant;

use crate::node::Shared;
use crate::replica::ReplicaView;

/// Partitions of groups that are told, at most.
pub(crate) const SERIES_MAX: usize = 2_000;

/// How old a measurement may be.
const AGE_MAX: Duration = Duration::from_secs(5);

/// How long a measurement may take: who scrapes does not wait for coordinators that still load.
const MEASURE_MAX: Duration = Duration::from_secs(3);

/// Partitions whose logs are looked at in one piece of work.
const PIECE: usize = 64;

/// How far one group is behind in one partition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) group: Str,
    pub(crate) topic: Str,
    pub(crate) partition: i32,
    /// From the committed offset to the high watermark.
    pub(crate) records: u64,
    /// The first of these records and the newest; `None` if there are none, or they do not tell.
    pub(crate) times: Option<Times>,
}

/// Timestamps of records.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Times {
    oldest: Millis,
    newest: Millis,
}

impl Row {
    /// How far that is in time; `None` if the records do not tell.
    pub(crate) fn behind(&self, now: Millis) -> Option<Millis> {
        if self.records == 0 {
            return Some(Millis(0));
        }
        let Times { oldest, newest } = self.times?;
        let behind = now.max(newest).get().saturating_sub(oldest.get());
        Some(Millis(behind.max(0)))
    }
}

/// A measurement.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GroupLags {
    pub(crate) rows: Vec<Row>,
    /// Partitions that were too many to be told, or whose leader is not here.
    pub(crate) left_out: u64,
}

/// The last measurement.
#[derive(Default)]
pub(crate) struct LagMeter {
    last: Mutex<(Option<Instant>, Arc<GroupLags>)>,
    /// Held by who measures.
    measuring: tokio::sync::Mutex<()>,
}

impl LagMeter {
    /// The last measurement.
    pub(crate) fn last(&self) -> Arc<GroupLags> {
        Arc::clone(&self.last.lock().1)
    }

    /// Measures, if the last measurement is old.
    pub(crate) async fn refresh(&self, shared: &Arc<Shared>) {
        let _measuring = self.measuring.lock().await;
        let at = self.last.lock().0;
        if at.is_some_and(|at| at.elapsed() < AGE_MAX) {
            return;
        }
        let measured = tokio::time::timeout(MEASURE_MAX, measure(shared)).await;
        let mut last = self.last.lock();
        last.0 = Some(Instant::now());
        match measured {
            Ok(measured) => last.1 = Arc::new(measured),
            Err(_) => tracing::warn!("the lag of groups took too long to measure"),
        }
    }
}

/// A row, and where its times can be looked up.
struct Found {
    row: Row,
    committed: Offset,
    view: Arc<ReplicaView>,
}

async fn measure(shared: &Arc<Shared>) -> GroupLags {
    let mut found = Vec::new();
    let mut left_out = 0;
    let mut views = BTreeMap::new();
    for partition in shared.groups.partitions(shared) {
        for (group, topic, index, committed) in offsets(shared, partition).await {
            let key = (topic.clone(), index);
            if !views.contains_key(&key) {
                let view = view(shared, &topic, index).await;
                views.insert(key.clone(), view);
            }
            let Some(view) = views.get(&key).cloned().flatten() else {
                left_out += 1;
                continue;
            };
            let end = view.offsets.high_watermark;
            let records = u64::try_from(end.get().saturating_sub(committed.get())).unwrap_or(0);
            let row = Row {
                group,
                topic,
                partition: index,
                records,
                times: None,
            };
            found.push(Found {
                row,
                committed,
                view,
            });
        }
    }
    left_out += keep_furthest(&mut found, |found| found.row.records);
    let mut rows = Vec::with_capacity(found.len());
    while !found.is_empty() {
        let piece = found.split_off(found.len().saturating_sub(PIECE));
        let timed = move || piece.into_iter().map(timed).collect::<Vec<_>>();
        let budget = &shared.unpack_budget;
        let _permit = budget.reserve(LOOKUP_UNPACKED_MAX_BYTES).await;
        match shared.env.offload("group-lag", timed).await {
            Some(timed) => rows.extend(timed),
            // The node ends.
            None => break,
        }
    }
    GroupLags { rows, left_out }
}

/// Leaves those furthest behind; how many had to go.
fn keep_furthest<T>(found: &mut Vec<T>, records: impl Fn(&T) -> u64) -> u64 {
    let too_many = found.len().saturating_sub(SERIES_MAX);
    if too_many > 0 {
        found.sort_by_key(|one| std::cmp::Reverse(records(one)));
        found.truncate(SERIES_MAX);
    }
    too_many as u64
}

/// What the groups of one coordinator have committed: group, topic, partition, offset.
async fn offsets(shared: &Arc<Shared>, partition: PartitionIndex) -> Vec<(Str, Str, i32, Offset)> {
    let groups = &shared.groups;
    let list = Request::ListGroups(ListGroupsRequest::default());
    // One that loads, or has moved away, has none for now.
    let Response::ListGroups(listed) = groups.ask_partition(shared, partition, list).await else {
        return Vec::new();
    };
    let mut offsets = Vec::new();
    for group in listed.groups {
        let fetch = Request::OffsetFetch {
            group: OffsetFetchRequestGroup {
                group_id: group.group_id.clone(),
                topics: None,
                ..OffsetFetchRequestGroup::default()
            },
            require_stable: false,
        };
        let fetched = groups.ask_partition(shared, partition, fetch).await;
        let Response::OffsetFetch(fetched) = fetched else {
            continue;
        };
        for topic in fetched.topics {
            for one in topic.partitions {
                let (index, offset) = (one.partition_index, Offset(one.committed_offset));
                offsets.push((group.group_id.clone(), topic.name.clone(), index, offset));
            }
        }
    }
    offsets
}

/// The replica, if this node leads it.
async fn view(shared: &Arc<Shared>, topic: &str, index: i32) -> Option<Arc<ReplicaView>> {
    let found = shared.replicas.by_name(topic, PartitionIndex(index)).await;
    let view = found.ok()?.view();
    view.offsets
        .leader(LeaderEpoch::NONE)
        .is_ok()
        .then_some(view)
}

/// The row with its times.
fn timed(found: Found) -> Row {
    let Found {
        mut row,
        committed,
        view,
    } = found;
    if row.records > 0 {
        row.times = times(&view, committed);
    }
    row
}

fn times(view: &ReplicaView, committed: Offset) -> Option<Times> {
    let end = view.offsets.high_watermark;
    // A log that cannot be read is told of by who reads it.
    let oldest = view.log.unread(committed, end).ok()?.first?.timestamp;
    let newest = view.log.max_timestamp(end).ok()??.timestamp;
    let is_known = oldest != Millis::NONE && newest != Millis::NONE;
    is_known.then_some(Times { oldest, newest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_waits_is_behind_by_its_age() {
        let row = |records, times: Option<(i64, i64)>| Row {
            group: Str::default(),
            topic: Str::default(),
            partition: 0,
            records,
            times: times.map(|(oldest, newest)| Times {
                oldest: Millis(oldest),
                newest: Millis(newest),
            }),
        };
        for (row, now, behind) in [
            (row(0, None), 9, Some(0)),
            (row(1, Some((5, 5))), 9, Some(4)),
            (row(2, Some((5, 7))), 9, Some(4)),
            // The node's clock is late.
            (row(2, Some((5, 7))), 3, Some(2)),
            (row(1, Some((5, 5))), 3, Some(0)),
            (row(1, None), 9, None),
        ] {
            assert_eq!(row.behind(Millis(now)), behind.map(Millis), "{row:?} {now}");
        }
    }

    #[test]
    fn those_furthest_behind_are_kept() {
        let mut few: Vec<u64> = vec![3, 1, 2];
        assert_eq!(keep_furthest(&mut few, |one| *one), 0);
        assert_eq!(few, [3, 1, 2], "nothing has to go");
        let mut many: Vec<u64> = (0..SERIES_MAX as u64 + 5).collect();
        assert_eq!(keep_furthest(&mut many, |one| *one), 5);
        assert_eq!(many.len(), SERIES_MAX);
        assert_eq!(many.iter().min(), Some(&5));
    }
}
