//! One Produce request: the batches of many partitions of one broker.
//!
//! Input: batches, and later the response. Output: the request, and a result for each batch.
//!
//! Invariant: every batch gets exactly one result, also if the response leaves its partition out.
//!
//! Source: KIP-516 (topic ids from version 13), KIP-467 (messages of errors).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use skein_protocol::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceData,
};
use skein_protocol::{Records, Str};
use skein_types::{ErrorCode, Millis, Offset, TopicName};

use crate::cluster::ClusterView;
use crate::error::ClientError;
use crate::producer::batch::{Ack, Batch};
use crate::producer::options::Acks;

/// The last version that names topics.
const VERSION_WITH_NAMES: i16 = 12;

/// The batches of one request, and its response's results for them.
pub(crate) type Results = Vec<(Batch, Result<Ack, ClientError>)>;

/// The request for `batches`, and the newest version that can carry it.
pub(crate) fn request(
    view: &ClusterView,
    batches: &[(Batch, Bytes)],
    acks: Acks,
    timeout: Duration,
) -> (ProduceRequest, i16) {
    let mut topics: BTreeMap<&TopicName, Vec<PartitionProduceData>> = BTreeMap::new();
    for (batch, bytes) in batches {
        let data = PartitionProduceData {
            index: batch.partition.partition.0,
            records: Some(Records::Bytes(bytes.clone())),
        };
        topics.entry(&batch.partition.topic).or_default().push(data);
    }
    let topics = topics
        .into_iter()
        .map(|(name, partition_data)| TopicProduceData {
            name: Str::from(name.as_str()),
            topic_id: view.topic_id(name),
            partition_data,
        });
    let request = ProduceRequest {
        transactional_id: None,
        acks: acks.wire(),
        timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
        topic_data: topics.collect(),
    };
    let has_ids = request
        .topic_data
        .iter()
        .all(|topic| !topic.topic_id.is_zero());
    let version = if has_ids {
        i16::MAX
    } else {
        VERSION_WITH_NAMES
    };
    (request, version)
}

/// What a response says of each batch.
pub(crate) fn results(
    view: &ClusterView,
    batches: Vec<Batch>,
    response: &ProduceResponse,
) -> Results {
    let results = batches.into_iter().map(|batch| {
        let partition = &batch.partition;
        let id = view.topic_id(&partition.topic);
        let topic = response.responses.iter().find(|topic| {
            // From version 13 on there is only the id, before only the name.
            topic.name.as_str() == partition.topic.as_str()
                || (!id.is_zero() && topic.topic_id == id)
        });
        let answer = topic.and_then(|topic| {
            let mut answers = topic.partition_responses.iter();
            answers.find(|answer| answer.index == partition.partition.0)
        });
        let result = match answer {
            Some(answer) => result(&batch, answer),
            None => Err(ClientError::Senseless {
                subject: partition.to_string(),
                reason: "the partition is missing",
            }),
        };
        (batch, result)
    });
    results.collect()
}

fn result(batch: &Batch, answer: &PartitionProduceResponse) -> Result<Ack, ClientError> {
    match ErrorCode::from_code(answer.error_code) {
        ErrorCode::None => Ok(Ack {
            base_offset: Offset(answer.base_offset),
            log_append_time: Millis(answer.log_append_time_ms),
        }),
        // Written before, and so long ago that the broker has forgotten where.
        ErrorCode::DuplicateSequenceNumber => Ok(Ack {
            base_offset: Offset::NONE,
            log_append_time: Millis::NONE,
        }),
        code => {
            let first = answer.record_errors.first();
            let of_record = first.and_then(|first| first.batch_index_error_message.as_ref());
            let message = of_record.or(answer.error_message.as_ref());
            let subject = batch.partition.to_string();
            Err(ClientError::refused(
                subject,
                code,
                message.map(Str::as_str),
            ))
        }
    }
}
