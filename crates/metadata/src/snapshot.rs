//! The canonical snapshot of an image.
//!
//! Input: an image. Output: bytes that are the same for the same image on every node, and the image
//! again.
//!
//! ```text
//!  envelope(type 101: what no record says, number of records)
//!  envelope(record) ...   a cluster id that is not the text of 16 bytes, features by name,
//!                         brokers by id, forgotten members by Raft id,
//!                         topics by id with their partitions, configurations by resource and
//!                         key
//!  envelope(type 102: number of records)
//! ```
//!
//! Invariants: `decode(encode(image)) == image`, and a decoded image passes [`Image::check`]; a
//! file that was cut is no snapshot, because its end is missing.
//!
//! Source: our own format.

use serde::{Deserialize, Serialize};
use skein_types::{BrokerEpoch, ProducerId, Uuid};

use crate::envelope::{self, EnvelopeError};
use crate::log_id::LogIdV0;
use crate::{Broker, Image, LogId, Partition, Record};

/// Largest snapshot, in bytes: several times what an image of 100,000 partitions takes.
pub const SNAPSHOT_MAX_BYTES: usize = 512 * 1024 * 1024;

const SNAPSHOT: u16 = 101;
const SNAPSHOT_END: u16 = 102;
const HEAD_MAX_BYTES: usize = 256;

#[derive(Serialize, Deserialize)]
struct HeadV0 {
    cluster_id: Option<[u8; 16]>,
    next_broker_epoch: i64,
    next_producer_id: i64,
    last_applied: Option<LogIdV0>,
    last_decision: Option<LogIdV0>,
    records: u64,
}

/// Why bytes are no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// An envelope in it is broken or unknown.
    #[error("snapshot at byte {at}: {source}")]
    Envelope {
        /// Where the envelope starts.
        at: usize,
        /// What is wrong with it.
        source: EnvelopeError,
    },
    /// The records do not make an image.
    #[error("snapshot at byte {at}: {reason}")]
    Inconsistent {
        /// Behind what.
        at: usize,
        /// What does not fit.
        reason: String,
    },
}

/// The image's bytes.
///
/// # Errors
/// [`EnvelopeError::TooLarge`] above [`SNAPSHOT_MAX_BYTES`].
pub fn encode_snapshot(image: &Image) -> Result<Vec<u8>, EnvelopeError> {
    let records = count(image);
    let mut out = Vec::new();
    write_head(image, records, &mut out)?;
    let mut written = 0;
    each_record(image, &mut |record| {
        written += 1;
        record.encode(&mut out)?;
        if out.len() > SNAPSHOT_MAX_BYTES {
            return Err(EnvelopeError::TooLarge {
                length: out.len() as u64,
                max: SNAPSHOT_MAX_BYTES,
            });
        }
        Ok(())
    })?;
    assert_eq!(
        written, records,
        "the head of a snapshot counts its records"
    );
    envelope::write(SNAPSHOT_END, 0, &records, HEAD_MAX_BYTES, &mut out)?;
    Ok(out)
}

fn write_head(image: &Image, records: u64, out: &mut Vec<u8>) -> Result<(), EnvelopeError> {
    let head = HeadV0 {
        cluster_id: image.cluster_id.and_then(|id| id.uuid()).map(|id| id.0),
        next_broker_epoch: image.next_broker_epoch.get(),
        next_producer_id: image.next_producer_id.get(),
        last_applied: image.last_applied.map(LogIdV0::from),
        last_decision: image.last_decision.map(LogIdV0::from),
        records,
    };
    envelope::write(SNAPSHOT, 0, &head, HEAD_MAX_BYTES, out)
}

/// The bytes of all that is in no part of the image: its head, and the cluster's id.
pub(crate) fn head(image: &Image) -> Vec<u8> {
    let mut out = Vec::new();
    // Neither is too long: a head has few numbers, and the id has been in a record.
    let _ = write_head(image, 0, &mut out);
    if let Some(cluster) = named_cluster(image) {
        let _ = cluster.encode(&mut out);
    }
    out
}

/// The image whose snapshot is exactly `bytes`.
///
/// # Errors
/// What is wrong with the bytes, and where.
pub fn decode_snapshot(bytes: &[u8]) -> Result<Image, SnapshotError> {
    let mut reader = Reader { bytes, at: 0 };
    let head: HeadV0 = reader.next(SNAPSHOT)?;
    let mut image = Image::new();
    image.cluster_id = head.cluster_id.map(|id| Uuid(id).into());
    image.next_producer_id = ProducerId(head.next_producer_id);
    image.last_applied = head.last_applied.map(LogId::from);
    image.last_decision = head.last_decision.map(LogId::from);
    for _ in 0..head.records {
        let (record, length) =
            Record::decode(&bytes[reader.at..]).map_err(|source| reader.broken(source))?;
        // Brokers come by id, not in the order of their epochs: the head says which is next.
        image.next_broker_epoch = BrokerEpoch(0);
        image
            .apply_record(&record)
            .map_err(|reason| reader.inconsistent(reason))?;
        reader.at += length;
    }
    image.next_broker_epoch = BrokerEpoch(head.next_broker_epoch);
    let records: u64 = reader.next(SNAPSHOT_END)?;
    if records != head.records || reader.at != bytes.len() {
        return Err(reader.inconsistent("its end does not match its head".into()));
    }
    image
        .check()
        .map_err(|reason| reader.inconsistent(reason))?;
    Ok(image)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn next<T: serde::de::DeserializeOwned>(&mut self, kind: u16) -> Result<T, SnapshotError> {
        let (envelope, length) = envelope::read(&self.bytes[self.at..], HEAD_MAX_BYTES)
            .map_err(|source| self.broken(source))?;
        if (envelope.kind, envelope.version) != (kind, 0) {
            return Err(self.broken(envelope.unknown()));
        }
        let value = envelope.decode().map_err(|source| self.broken(source))?;
        self.at += length;
        Ok(value)
    }

    fn broken(&self, source: EnvelopeError) -> SnapshotError {
        SnapshotError::Envelope {
            at: self.at,
            source,
        }
    }

    fn inconsistent(&self, reason: String) -> SnapshotError {
        SnapshotError::Inconsistent {
            at: self.at,
            reason,
        }
    }
}

/// The cluster's id, if the head has no room for it.
fn named_cluster(image: &Image) -> Option<Record> {
    let cluster_id = image.cluster_id.filter(|id| id.uuid().is_none())?;
    Some(Record::Cluster { cluster_id })
}

fn count(image: &Image) -> u64 {
    let partitions: usize = image
        .topics
        .values()
        .map(|topic| topic.partitions.len())
        .sum();
    let overrides: usize = image.configs.values().map(imbl::OrdMap::len).sum();
    let records = usize::from(named_cluster(image).is_some())
        + image.features.len()
        + image.brokers.len()
        + image.forgotten.len()
        + image.topics.len()
        + partitions
        + overrides;
    records as u64
}

pub(crate) fn each_record(
    image: &Image,
    emit: &mut dyn FnMut(&Record) -> Result<(), EnvelopeError>,
) -> Result<(), EnvelopeError> {
    if let Some(cluster) = named_cluster(image) {
        emit(&cluster)?;
    }
    for (name, level) in &image.features {
        emit(&Record::Feature {
            name: name.clone(),
            level: *level,
        })?;
    }
    for broker in image.brokers.values() {
        emit(&Record::Broker(Broker::clone(broker)))?;
    }
    for raft_id in image.forgotten() {
        emit(&Record::ForgetMember { raft_id })?;
    }
    for (id, topic) in &image.topics {
        emit(&Record::Topic {
            id: *id,
            name: topic.name.clone(),
        })?;
        for (index, partition) in topic.partitions() {
            let partition = Partition::clone(partition);
            emit(&Record::Partition {
                topic_id: *id,
                index,
                partition,
            })?;
        }
    }
    for (resource, overrides) in &image.configs {
        for (key, value) in overrides {
            let (key, value) = (key.clone(), Some(value.clone()));
            emit(&Record::Config {
                resource: resource.clone(),
                key,
                value,
            })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_and_end_v0() {
        let mut image = Image::new();
        image.cluster_id = Some(Uuid([1; 16]).into());
        image.last_applied = Some(LogId { term: 2, index: 4 });
        image.next_producer_id = ProducerId(1000);
        let bytes = encode_snapshot(&image).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "650000003b000000010101010101010101010101010101010101000000000000\
             00e8030000000000000102000000000000000400000000000000000000000000\
             000000acc15a7666000000080000000000000000000000ff7f369f"
        );
        assert_eq!(decode_snapshot(&bytes).unwrap(), image);
    }

    #[test]
    fn a_cluster_id_of_any_text_comes_back() {
        let mut image = Image::new();
        image.cluster_id = Some("MkU3OEVBNTcwNTJENDM2Qk".parse().unwrap());
        let bytes = encode_snapshot(&image).unwrap();
        assert_eq!(decode_snapshot(&bytes).unwrap(), image);
    }
}
