//! The tasks that fetch from leaders, one for each.
//!
//! Input: from where each replica fetches, and from whom. Output: requests to the leaders, one
//! after the other; what they answer goes to the replicas (`deliver.rs`).
//!
//! Invariants:
//! - what to ask, and what an answer means, [`skein_partition::Fetcher`] decides;
//! - the next request waits for the replicas that are at the last answer, so that they are in it,
//!   but no longer than [`BUSY_WAIT_MAX`]: one that hangs shall not keep the others behind;
//! - a replica that is ready while a request waits for news is asked for after [`HASTEN_AFTER`],
//!   not when that request has waited to its end.
//!
//! Source: KIP-227; `AbstractFetcherThread` of Kafka 4.1.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use skein_env::Lane;
use skein_metadata::Image;
use skein_net::{PeerAddress, PeerError, PeerLinks, Purpose};
use skein_partition::{
    FetchAnswer, FetchPlan, FetchPosition, FetchedPartition, Fetcher, FetcherSettings,
    PartitionAnswer,
};
use skein_protocol::Records;
use skein_protocol::messages::fetch::{
    EpochEndOffset as WireEpochEnd, FetchPartition, FetchRequest, FetchResponse, FetchTopic,
    ForgottenTopic, PartitionData, ReplicaState,
};
use skein_protocol::messages::hasten_fetch::HastenFetchRequest;
use skein_record::EpochEndOffset;
use skein_types::{BrokerId, ErrorCode, LeaderEpoch, Millis, Offset, PartitionIndex};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::deliver::Delivery;
use crate::node::Shared;
use crate::peers::peer_address_of;
use crate::tasks::spawn_on;

/// How long a request waits for replicas that are at the last answer.
const BUSY_WAIT_MAX: Duration = Duration::from_millis(20);

/// Until the leader is told that there is more to ask for.
const HASTEN_AFTER: Duration = Duration::from_millis(5);

/// The partitions that catch up may bring this many bytes along with those in sync.
const CATCH_UP_MAX_BYTES: u32 = 1024 * 1024;

/// The leader's answer for each partition, with its records as they came.
pub(super) type Fetched = BTreeMap<FetchedPartition, (PartitionAnswer, Bytes)>;

/// See the module.
#[derive(Default)]
pub(crate) struct Fetchers {
    leaders: Mutex<BTreeMap<BrokerId, Arc<Mailbox>>>,
    /// Leaders without a task.
    begun: Mutex<Vec<(BrokerId, Arc<Mailbox>)>>,
    wake: Notify,
}

/// What one leader's task is told.
#[derive(Default)]
pub(super) struct Mailbox {
    news: Mutex<Vec<(FetchedPartition, News)>>,
    wake: Notify,
}

#[derive(Clone, Copy)]
enum News {
    Follow(FetchPosition),
    FollowLater(FetchPosition),
    InSync(bool),
    Stop,
}

impl Fetchers {
    /// A replica is ready to fetch from `leader`.
    pub(crate) fn follow(
        &self,
        leader: BrokerId,
        partition: FetchedPartition,
        position: FetchPosition,
    ) {
        self.tell(leader, partition, News::Follow(position));
    }

    /// As [`Fetchers::follow`], but not at once.
    pub(crate) fn follow_later(
        &self,
        leader: BrokerId,
        partition: FetchedPartition,
        position: FetchPosition,
    ) {
        self.tell(leader, partition, News::FollowLater(position));
    }

    /// Whether the replica is in the ISR: those come first.
    pub(crate) fn set_in_sync(
        &self,
        leader: BrokerId,
        partition: FetchedPartition,
        is_in_sync: bool,
    ) {
        self.tell(leader, partition, News::InSync(is_in_sync));
    }

    /// The replica follows none of the leaders but `leader`, or none.
    pub(crate) fn stop_others(&self, leader: Option<BrokerId>, partition: FetchedPartition) {
        let leaders = self.leaders.lock();
        let others = leaders.iter().filter(|(id, _)| Some(**id) != leader);
        let others: Vec<_> = others.map(|(_, mailbox)| Arc::clone(mailbox)).collect();
        drop(leaders);
        for mailbox in others {
            mailbox.tell(partition, News::Stop);
        }
    }

    fn tell(&self, leader: BrokerId, partition: FetchedPartition, news: News) {
        let mut leaders = self.leaders.lock();
        let mailbox = leaders.entry(leader).or_insert_with(|| {
            let mailbox = Arc::new(Mailbox::default());
            self.begun.lock().push((leader, Arc::clone(&mailbox)));
            self.wake.notify_one();
            mailbox
        });
        let mailbox = Arc::clone(mailbox);
        drop(leaders);
        mailbox.tell(partition, news);
    }
}

impl Mailbox {
    fn tell(&self, partition: FetchedPartition, news: News) {
        self.news.lock().push((partition, news));
        self.wake.notify_one();
    }

    /// Whether a replica has become ready.
    fn has_follower(&self) -> bool {
        let news = self.news.lock();
        news.iter().any(|(_, news)| matches!(news, News::Follow(_)))
    }

    /// Tells the fetcher what is new; who is ready again is busy no more.
    fn empty_into(
        &self,
        fetcher: &mut Fetcher,
        busy: &mut BTreeSet<FetchedPartition>,
        now: Millis,
    ) {
        let news = std::mem::take(&mut *self.news.lock());
        for (partition, news) in news {
            match news {
                News::Follow(position) => fetcher.follow(partition, position),
                News::FollowLater(position) => fetcher.delay(partition, position, now),
                News::InSync(is_in_sync) => {
                    fetcher.set_in_sync(partition, is_in_sync);
                    continue;
                }
                News::Stop => fetcher.stop(partition),
            }
            busy.remove(&partition);
        }
    }
}

/// Begins a task for each leader that replicas follow.
pub(super) async fn run(shared: Arc<Shared>, stop: watch::Receiver<bool>) {
    let Some(links) = shared.peer_links.clone() else {
        return; // there is nobody to follow
    };
    loop {
        let fetchers = &shared.basis.replication.fetchers;
        fetchers.wake.notified().await;
        let begun = std::mem::take(&mut *fetchers.begun.lock());
        for (leader, mailbox) in begun {
            let task = LeaderTask {
                shared: Arc::clone(&shared),
                links: links.clone(),
                leader,
                mailbox,
            };
            spawn_on(Lane::Data, &shared, &stop, "fetcher", task.run());
        }
    }
}

struct LeaderTask {
    shared: Arc<Shared>,
    links: PeerLinks,
    leader: BrokerId,
    mailbox: Arc<Mailbox>,
}

impl LeaderTask {
    async fn run(self) {
        let mut fetcher = Fetcher::new(settings(&self.shared));
        let mut busy = BTreeSet::new();
        let delivery = Delivery {
            shared: &self.shared,
            links: &self.links,
            leader: self.leader,
        };
        loop {
            self.hear(&mut fetcher, &mut busy).await;
            let now = self.now();
            let Some(plan) = fetcher.next_fetch(now) else {
                self.rest(&fetcher).await;
                continue;
            };
            let asked = self.ask_until_more(&plan).await;
            // What has happened to the replicas meanwhile is older than the answer.
            self.mailbox.empty_into(&mut fetcher, &mut busy, self.now());
            match asked {
                Ok(response) => {
                    let (answer, fetched) = read(response);
                    for order in fetcher.answered(&answer, self.now()) {
                        busy.insert(order.partition());
                        delivery.carry_out(order, &fetched).await;
                    }
                }
                Err(error) => {
                    tracing::debug!(leader = %self.leader, %error, "cannot fetch from a leader");
                    fetcher.failed(self.now());
                }
            }
        }
    }

    /// Takes in the news, and waits a little for who is still at the last answer.
    async fn hear(&self, fetcher: &mut Fetcher, busy: &mut BTreeSet<FetchedPartition>) {
        let deadline = Instant::now() + BUSY_WAIT_MAX;
        loop {
            self.mailbox.empty_into(fetcher, busy, self.now());
            if busy.is_empty() {
                return;
            }
            tokio::select! {
                biased;
                () = self.mailbox.wake.notified() => {}
                () = sleep_until(deadline) => {
                    busy.clear();
                    return;
                }
            }
        }
    }

    /// Waits until there may be something to ask for.
    async fn rest(&self, fetcher: &Fetcher) {
        match fetcher.next_due() {
            Some(due) => {
                let left = due.saturating_sub(self.now()).get();
                let left = Duration::from_millis(u64::try_from(left).unwrap_or(0).max(1));
                // Either way it is looked again.
                let _ = timeout(left, self.mailbox.wake.notified()).await;
            }
            None => self.mailbox.wake.notified().await,
        }
    }

    /// Asks, and has the leader answer early if there is more to ask for meanwhile.
    async fn ask_until_more(&self, plan: &FetchPlan) -> Result<FetchResponse, PeerError> {
        let mut asking = pin!(self.ask(plan));
        tokio::select! {
            biased;
            answered = &mut asking => return answered,
            () = self.more_to_ask() => {}
        }
        // Most answers come by themselves within that.
        if let Ok(answered) = timeout(HASTEN_AFTER, &mut asking).await {
            return answered;
        }
        tokio::select! {
            biased;
            answered = &mut asking => answered,
            // Its answer comes behind the other one. If it fails, that one ends at its own time.
            _ = self.hasten() => asking.await,
        }
    }

    /// Waits until a replica is ready that is not asked for.
    async fn more_to_ask(&self) {
        while !self.mailbox.has_follower() {
            self.mailbox.wake.notified().await;
        }
    }

    async fn hasten(&self) -> Result<(), PeerError> {
        let image = self.shared.image();
        let address = address_of(&image, self.leader).ok_or(PeerError::Forgotten)?;
        let broker_id = self.shared.identity.broker_id.get();
        let request = HastenFetchRequest { broker_id };
        let wait = self.shared.config.replica.socket_timeout_ms;
        let wait = Duration::from_millis(u64::try_from(wait.get()).unwrap_or(0));
        let call = self.links.call(&address, Purpose::Fetch, &request, wait);
        call.await.map(drop)
    }

    async fn ask(&self, plan: &FetchPlan) -> Result<FetchResponse, PeerError> {
        let image = self.shared.image();
        let Some(address) = address_of(&image, self.leader) else {
            return Err(PeerError::Forgotten);
        };
        let request = to_request(&self.shared, plan);
        let wait = plan
            .max_wait_ms
            .saturating_add(self.shared.config.replica.socket_timeout_ms);
        let wait = Duration::from_millis(u64::try_from(wait.get()).unwrap_or(0));
        self.links
            .call(&address, Purpose::Fetch, &request, wait)
            .await
    }

    fn now(&self) -> Millis {
        self.shared.basis.monotonic(Instant::now())
    }
}

/// Where a broker's peers reach it.
pub(super) fn address_of(image: &Image, broker: BrokerId) -> Option<PeerAddress> {
    peer_address_of(image.broker(broker)?)
}

fn settings(shared: &Shared) -> FetcherSettings {
    let config = &shared.config.replica;
    FetcherSettings {
        partition_max_bytes: config.fetch_max_bytes,
        catch_up_max_bytes: CATCH_UP_MAX_BYTES,
        response_max_bytes: config.fetch_response_max_bytes,
        backoff_ms: config.fetch_backoff_ms,
        wait_max_ms: config.fetch_wait_max_ms,
    }
}

fn to_request(shared: &Shared, plan: &FetchPlan) -> FetchRequest {
    let int = |bytes: u32| i32::try_from(bytes).unwrap_or(i32::MAX);
    let mut topics: Vec<FetchTopic> = Vec::new();
    for planned in &plan.partitions {
        let (topic_id, PartitionIndex(partition)) = planned.partition;
        let position = planned.position;
        let fetch = FetchPartition {
            partition,
            current_leader_epoch: position.leader_epoch.get(),
            fetch_offset: position.fetch_offset.get(),
            last_fetched_epoch: position.last_fetched_epoch.get(),
            log_start_offset: position.log_start_offset.get(),
            partition_max_bytes: int(planned.max_bytes),
            ..Default::default()
        };
        match topics.last_mut() {
            Some(topic) if topic.topic_id == topic_id => topic.partitions.push(fetch),
            _ => topics.push(FetchTopic {
                topic_id,
                partitions: vec![fetch],
                ..Default::default()
            }),
        }
    }
    let forgotten = plan.forgotten.iter();
    let forgotten = forgotten.map(|(topic_id, PartitionIndex(partition))| ForgottenTopic {
        topic_id: *topic_id,
        partitions: vec![*partition],
        ..Default::default()
    });
    FetchRequest {
        replica_state: ReplicaState {
            replica_id: shared.identity.broker_id.get(),
            replica_epoch: shared.identity.broker_epoch.get(),
        },
        max_wait_ms: i32::try_from(plan.max_wait_ms.get()).unwrap_or(i32::MAX),
        min_bytes: int(shared.config.replica.fetch_min_bytes),
        max_bytes: int(plan.max_bytes),
        session_id: plan.session_id,
        session_epoch: plan.session_epoch,
        topics,
        forgotten_topics_data: forgotten.collect(),
        ..Default::default()
    }
}

fn read(response: FetchResponse) -> (FetchAnswer, Fetched) {
    let mut fetched = Fetched::new();
    let mut partitions = Vec::new();
    for topic in response.responses {
        for data in topic.partitions {
            let partition = (topic.topic_id, PartitionIndex(data.partition_index));
            let answer = to_answer(&data);
            let records = match data.records {
                Some(Records::Bytes(bytes)) => bytes,
                _ => Bytes::new(),
            };
            partitions.push((partition, answer));
            fetched.insert(partition, (answer, records));
        }
    }
    let answer = FetchAnswer {
        error_code: ErrorCode::from_code(response.error_code),
        session_id: response.session_id,
        partitions,
    };
    (answer, fetched)
}

fn to_answer(data: &PartitionData) -> PartitionAnswer {
    let diverging = &data.diverging_epoch;
    let diverges = *diverging != WireEpochEnd::default();
    PartitionAnswer {
        error_code: ErrorCode::from_code(data.error_code),
        high_watermark: Offset(data.high_watermark),
        log_start_offset: Offset(data.log_start_offset),
        diverging_epoch: diverges.then_some(EpochEndOffset {
            epoch: LeaderEpoch(diverging.epoch),
            end_offset: Offset(diverging.end_offset),
        }),
        has_records: matches!(&data.records, Some(Records::Bytes(bytes)) if !bytes.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use skein_types::TopicId;

    use super::*;

    const SETTINGS: FetcherSettings = FetcherSettings {
        partition_max_bytes: 1,
        catch_up_max_bytes: 1,
        response_max_bytes: 1,
        backoff_ms: Millis(1),
        wait_max_ms: Millis(1),
    };

    #[test]
    fn a_replica_is_fetched_from_its_present_leader_alone() {
        let fetchers = Fetchers::default();
        let partition = (TopicId::ZERO, PartitionIndex(0));
        let position = FetchPosition {
            leader_epoch: LeaderEpoch(1),
            fetch_offset: Offset(0),
            last_fetched_epoch: LeaderEpoch::NONE,
            log_start_offset: Offset(0),
        };
        let [mut former, mut present] = [(); 2].map(|()| Fetcher::new(SETTINGS));
        let hear = |leader, fetcher: &mut Fetcher| {
            let mailbox = Arc::clone(&fetchers.leaders.lock()[&BrokerId(leader)]);
            mailbox.empty_into(fetcher, &mut BTreeSet::new(), Millis(0));
        };
        fetchers.follow(BrokerId(1), partition, position);
        hear(1, &mut former);
        assert!(!former.is_empty());
        fetchers.stop_others(Some(BrokerId(2)), partition);
        fetchers.follow(BrokerId(2), partition, position);
        hear(1, &mut former);
        hear(2, &mut present);
        assert!(former.is_empty() && !present.is_empty());
        // It leads itself.
        fetchers.stop_others(None, partition);
        hear(2, &mut present);
        assert!(present.is_empty());
    }
}
