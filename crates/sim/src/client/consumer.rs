//! A consumer: reads on, in a session or without, and sometimes again.
//!
//! Input: its plan. Output: Fetch requests; events of what was read.
//!
//! Invariant: its position moves past a batch only when the whole batch was read.
//!
//! Source: KIP-227.

use std::collections::BTreeMap;

use skein_protocol::messages::fetch::{FetchRequest, FetchResponse};
use skein_types::{ErrorCode, Offset};

use crate::client::fetch::{FetchTerms, Progress, Session};
use crate::client::{Client, lister};
use crate::event::{PartitionId, Stamp};
use crate::plan::{ConsumerPlan, Slot};

/// Runs the consumer until it is told to settle.
pub(crate) async fn run(client: Client, plan: ConsumerPlan) {
    let terms = FetchTerms {
        version: plan.version,
        max_wait_ms: plan.max_wait_ms,
        min_bytes: plan.min_bytes,
        max_bytes: plan.max_bytes,
    };
    let mut consumer = Consumer {
        client,
        plan,
        terms,
        places: BTreeMap::new(),
        positions: BTreeMap::new(),
        session: None,
        told: BTreeMap::new(),
    };
    while !consumer.client.is_settling() {
        consumer.fetch().await;
    }
}

struct Consumer {
    client: Client,
    plan: ConsumerPlan,
    terms: FetchTerms,
    /// The partition that each slot means.
    places: BTreeMap<Slot, PartitionId>,
    positions: BTreeMap<PartitionId, Offset>,
    /// `None`: the next fetch names every partition.
    session: Option<Session>,
    /// The positions that the node knows in this session.
    told: BTreeMap<PartitionId, Offset>,
}

impl Consumer {
    async fn fetch(&mut self) {
        self.client.pause(self.plan.pause_max).await;
        self.assign();
        if self.positions.is_empty() {
            return self.client.back_off().await;
        }
        self.rewind();
        let (session, positions, forgotten) = self.next_request();
        let request = self
            .terms
            .request(&self.client, session, &positions, &forgotten);
        let answer = self
            .client
            .call::<FetchRequest>(&request, self.plan.version)
            .await;
        match answer {
            Some((response, asked)) => self.take(session, &response, asked).await,
            None => self.session = None,
        }
    }

    /// Follows what the names mean now; a new topic is read from its start.
    fn assign(&mut self) {
        for slot in &self.plan.slots {
            let Some(found) = self.client.witness.find(*slot) else {
                continue;
            };
            let former = self.places.insert(*slot, found);
            if former != Some(found) {
                former.map(|former| self.positions.remove(&former));
                self.positions.insert(found, Offset::ZERO);
            }
        }
    }

    /// Jumps back to an earlier position, now and then.
    fn rewind(&mut self) {
        let rng = &mut self.client.rng;
        for position in self.positions.values_mut() {
            if rng.chance(self.plan.rewind_one_in) {
                let to = rng.between(0, u64::try_from(position.0).unwrap_or(0));
                *position = Offset(i64::try_from(to).unwrap_or(0));
            }
        }
    }

    /// The session to use, the positions to name, and the partitions to take out.
    fn next_request(&mut self) -> (Session, BTreeMap<PartitionId, Offset>, Vec<PartitionId>) {
        if !self.plan.has_session || !self.terms.has_sessions() {
            let session = Session { id: 0, epoch: -1 };
            return (session, self.positions.clone(), Vec::new());
        }
        match self.session {
            None => {
                self.told.clone_from(&self.positions);
                (Session::default(), self.positions.clone(), Vec::new())
            }
            Some(session) => {
                let told = &self.told;
                let is_news = |(partition, position): &(&PartitionId, &Offset)| {
                    told.get(*partition) != Some(*position)
                };
                let news: BTreeMap<_, _> = self
                    .positions
                    .iter()
                    .filter(is_news)
                    .map(|(p, at)| (*p, *at))
                    .collect();
                self.told
                    .extend(news.iter().map(|(partition, at)| (*partition, *at)));
                let forgotten: Vec<_> = self
                    .told
                    .keys()
                    .filter(|partition| !self.positions.contains_key(*partition))
                    .copied()
                    .collect();
                for partition in &forgotten {
                    self.told.remove(partition);
                }
                (session, news, forgotten)
            }
        }
    }

    async fn take(&mut self, used: Session, response: &FetchResponse, asked: Stamp) {
        let code = ErrorCode::from_code(response.error_code);
        if !code.is_none() {
            self.session = None;
            if !matches!(
                code,
                ErrorCode::FetchSessionIdNotFound | ErrorCode::InvalidFetchSessionEpoch
            ) {
                let text = format!("a fetch is refused as a whole: {code}");
                self.client
                    .witness
                    .accuse(self.client.actor, "well_formed", None, text);
            }
            return;
        }
        self.session = (used.epoch >= 0 && response.session_id != 0).then(|| Session {
            id: response.session_id,
            epoch: used.epoch + 1,
        });
        let progress = self
            .terms
            .take(&self.client, response, &self.positions, asked);
        let mut is_refused = false;
        for (partition, progress) in progress {
            match progress {
                Progress::At(position) => {
                    self.positions.insert(partition, position);
                }
                // The end of the log was lost, or its start has moved on: it is read from there.
                Progress::OutOfRange(start) => {
                    let start = match start {
                        Some(start) => Some(start),
                        None => lister::start(&mut self.client, partition).await,
                    };
                    self.positions
                        .insert(partition, start.unwrap_or(Offset::ZERO));
                }
                Progress::Unavailable => is_refused = true,
            }
        }
        if is_refused {
            self.client.back_off().await;
        }
    }
}
