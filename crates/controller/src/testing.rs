//! A controller without a log, for tests: decides, applies, checks.
//!
//! Input: requests. Output: responses; the image is checked after each.

use skein_config::BrokerConfig;
use skein_metadata::{Broker, Endpoint, Entry, Image, LogId, Outcome, Partition, Record};
use skein_types::{BrokerEpoch, BrokerId, ErrorCode, Millis, PartitionIndex, Uuid};

use crate::{
    Batch, Context, CreateTopics, LogEnds, NewTopic, RandomBits, Refusal, Request, Response,
    Sessions,
};

pub(crate) struct World {
    pub(crate) image: Image,
    pub(crate) config: BrokerConfig,
    pub(crate) sessions: Sessions,
    pub(crate) now: Millis,
    pub(crate) log_ends: LogEnds,
    pub(crate) quorum_silence_ms: Millis,
    seed: u8,
}

impl World {
    pub(crate) fn new(image: Image) -> Self {
        let sessions = Sessions::new(&Image::new(), Millis(0), Millis(2_000));
        Self {
            image,
            config: BrokerConfig::default(),
            sessions,
            now: Millis(0),
            log_ends: LogEnds::default(),
            quorum_silence_ms: Millis(0),
            seed: 0,
        }
    }

    /// Active brokers 1 to `count`.
    pub(crate) fn of_brokers(count: u8) -> Self {
        Self::new(image_of_brokers(count))
    }

    /// Topics with one partition and one replica, on brokers 1 to `brokers`.
    pub(crate) fn with_topics(brokers: u8, names: &[&str]) -> Self {
        let mut world = Self::of_brokers(brokers);
        let topics = names.iter().map(|name| topic(name, 1, 1)).collect();
        world.grant(Request::CreateTopics(CreateTopics {
            topics,
            validate_only: false,
        }));
        world
    }

    pub(crate) fn decide(&mut self, request: Request) -> Result<Response, Refusal> {
        self.seed = self.seed.wrapping_add(1);
        let mut batch = Batch::new(&self.image);
        let mut context = Context {
            now: self.now,
            random: RandomBits::from_seed([self.seed; 32]),
            config: &self.config,
            sessions: &self.sessions,
            log_ends: &self.log_ends,
            quorum_silence_ms: self.quorum_silence_ms,
        };
        let response = batch.decide(&request, &mut context)?;
        if let Some(entry) = batch.into_entry() {
            self.apply(entry);
        }
        Ok(response)
    }

    #[track_caller]
    pub(crate) fn grant(&mut self, request: Request) -> Response {
        self.decide(request).unwrap()
    }

    #[track_caller]
    pub(crate) fn refuse(&mut self, request: Request) -> ErrorCode {
        self.decide(request).unwrap_err().code
    }

    #[track_caller]
    pub(crate) fn partition(&self, topic: &str, index: i32) -> Partition {
        let topic = self.image.topic_by_name(topic).unwrap();
        topic
            .partition(PartitionIndex(index))
            .unwrap()
            .as_ref()
            .clone()
    }

    pub(crate) fn apply_records(&mut self, records: Vec<Record>) {
        self.apply(Entry {
            base: self.image.last_decision(),
            records,
        });
    }

    fn apply(&mut self, entry: Entry) {
        let index = self.image.last_applied().map_or(1, |last| last.index + 1);
        let log_id = LogId { term: 1, index };
        assert_eq!(self.image.apply(log_id, &entry), Ok(Outcome::Applied));
        self.image.check().unwrap();
        for topic in self.image.topics() {
            for partition in &topic.partitions {
                let fit = |id: &BrokerId| self.image.is_active(*id);
                assert!(
                    partition.isr.iter().all(fit),
                    "in the ISR, not active: {partition:?}"
                );
            }
        }
    }
}

pub(crate) fn topic(name: &str, num_partitions: i32, replication_factor: i16) -> NewTopic {
    let (assignments, configs) = (vec![], vec![]);
    NewTopic {
        name: name.into(),
        num_partitions,
        replication_factor,
        assignments,
        configs,
    }
}

pub(crate) fn code<T>(result: &Result<T, Refusal>) -> ErrorCode {
    result
        .as_ref()
        .err()
        .map_or(ErrorCode::None, |refusal| refusal.code)
}

pub(crate) fn endpoint(port: u16) -> Endpoint {
    Endpoint {
        listener: "PLAINTEXT".into(),
        host: "localhost".into(),
        port,
        security_protocol: 0,
    }
}

pub(crate) fn image_of_brokers(count: u8) -> Image {
    image_of(&vec![(0, true); usize::from(count)])
}

/// Brokers from 1 on, each with its rack and whether it is active.
pub(crate) fn image_of(brokers: &[(u8, bool)]) -> Image {
    let mut image = Image::new();
    for (id, (rack, active)) in (1_u8..).zip(brokers) {
        let broker = Broker {
            id: BrokerId(i32::from(id)),
            epoch: BrokerEpoch(i64::from(id)),
            incarnation: Uuid([id; 16]),
            raft_id: u64::from(id),
            endpoints: vec![endpoint(9000 + u16::from(id))],
            rack: Some(format!("rack-{rack}")),
            fenced: !active,
            stopping: false,
        };
        image.apply_records(&[Record::Broker(broker)]).unwrap();
    }
    image
}
