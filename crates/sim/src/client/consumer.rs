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

use crate::client::Client;
use crate::client::fetch::{FetchTerms, Progress, Session};
use crate::event::{PartitionId, Stamp};
use crate::plan::ConsumerPlan;

/// Runs the consumer until it is told to settle.
pub(crate) async fn run(client: Client, plan: ConsumerPlan) {
    let terms = FetchTerms {
        version: plan.version,
        max_wait_ms: plan.max_wait_ms,
        min_bytes: plan.min_bytes,
        max_bytes: plan.max_bytes,
    };
    let positions = plan
        .partitions
        .iter()
        .map(|partition| (*partition, Offset::ZERO))
        .collect();
    let mut consumer = Consumer {
        client,
        plan,
        terms,
        positions,
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
    positions: BTreeMap<PartitionId, Offset>,
    /// `None`: the next fetch names every partition.
    session: Option<Session>,
    /// The positions that the node knows in this session.
    told: BTreeMap<PartitionId, Offset>,
}

impl Consumer {
    async fn fetch(&mut self) {
        self.client.pause(self.plan.pause_max).await;
        self.rewind();
        let (session, positions) = self.next_request();
        let request = self.terms.request(&self.client, session, &positions);
        let answer = self
            .client
            .call::<FetchRequest>(&request, self.plan.version)
            .await;
        match answer {
            Some((response, asked)) => self.take(session, &response, asked).await,
            None => self.session = None,
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

    /// The session to use, and the positions to name.
    fn next_request(&mut self) -> (Session, BTreeMap<PartitionId, Offset>) {
        if !self.plan.has_session || !self.terms.has_sessions() {
            return (Session { id: 0, epoch: -1 }, self.positions.clone());
        }
        match self.session {
            None => {
                self.told.clone_from(&self.positions);
                (Session::default(), self.positions.clone())
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
                (session, news)
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
                // The end of the log was lost: it is read again from its start.
                Progress::OutOfRange => {
                    self.positions.insert(partition, Offset::ZERO);
                }
                Progress::Unavailable => is_refused = true,
            }
        }
        if is_refused {
            self.client.back_off().await;
        }
    }
}
