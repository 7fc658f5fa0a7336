//! What a node says of its cluster: its id, its brokers, its controller.
//!
//! Input: a connection. Output: the interesting fields of DescribeCluster, Metadata and
//! DescribeQuorum.

use std::collections::BTreeMap;
use std::io;

use super::{Connection, Frame, api, error};

/// The topic under which Kafka describes its quorum.
const METADATA_LOG: &str = "__cluster_metadata";

/// A cluster as one of its nodes sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenCluster {
    /// The cluster's id.
    pub cluster_id: String,
    /// The brokers that are not fenced, with the ports where they say clients reach them.
    pub brokers: BTreeMap<i32, i32>,
}

/// A partition as a node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenPartition {
    /// The topic's name.
    pub topic: String,
    /// Which one.
    pub partition: i32,
    /// The broker that leads it, -1 for none.
    pub leader: i32,
    /// Whether it has a leader, and all its replicas are in sync.
    pub is_whole: bool,
}

impl Connection {
    /// The cluster by DescribeCluster, version 0: Metadata tells of a dead broker for a while.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn cluster(&mut self) -> io::Result<SeenCluster> {
        const NO_OPERATIONS: i8 = 0;
        let body = Frame::new().uvarint(0).i8(NO_OPERATIONS).uvarint(0);
        let mut answer = self.call(api::DESCRIBE_CLUSTER, 0, &body)?;
        answer.tags();
        let (_throttle_ms, error_code) = (answer.i32(), answer.i16());
        if error_code != error::NONE {
            return Err(io::Error::other(format!(
                "DescribeCluster: error {error_code}"
            )));
        }
        answer.compact_string(); // no message
        let cluster_id = answer.compact_string().unwrap_or_default();
        let _controller = answer.i32();
        let mut brokers = BTreeMap::new();
        for _ in 0..answer.compact_length() {
            let id = answer.i32();
            answer.compact_string();
            brokers.insert(id, answer.i32());
            answer.compact_string();
            answer.tags();
        }
        Ok(SeenCluster {
            cluster_id,
            brokers,
        })
    }

    /// All partitions by Metadata, version 2.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn partitions(&mut self) -> io::Result<Vec<SeenPartition>> {
        const ALL_TOPICS: i32 = -1;
        let mut answer = self.call(api::METADATA, 2, &Frame::new().i32(ALL_TOPICS))?;
        for _ in 0..answer.i32() {
            answer.i32();
            answer.string();
            answer.i32();
            answer.string();
        }
        answer.string();
        answer.i32();
        let mut partitions = Vec::new();
        for _ in 0..answer.i32() {
            answer.i16();
            let topic = answer.string().unwrap_or_default();
            answer.i8();
            for _ in 0..answer.i32() {
                answer.i16();
                let partition = answer.i32();
                let leader = answer.i32();
                let [replicas, in_sync] = [(); 2].map(|()| {
                    let count = answer.i32();
                    (0..count).for_each(|_| _ = answer.i32());
                    count
                });
                partitions.push(SeenPartition {
                    topic: topic.clone(),
                    partition,
                    leader,
                    is_whole: leader >= 0 && in_sync == replicas,
                });
            }
        }
        Ok(partitions)
    }

    /// The broker id of the controller by DescribeQuorum, version 0, if this node knows one.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn controller(&mut self) -> io::Result<Option<i32>> {
        let body = Frame::new().uvarint(0).compact_length(1);
        let body = body.compact_string(METADATA_LOG).compact_length(1);
        let body = body.i32(0).uvarint(0).uvarint(0).uvarint(0);
        let mut answer = self.call(api::DESCRIBE_QUORUM, 0, &body)?;
        answer.tags();
        assert_eq!(answer.i16(), error::NONE);
        assert_eq!(answer.compact_length(), 1, "topics");
        answer.compact_string();
        assert_eq!(answer.compact_length(), 1, "partitions");
        answer.i32();
        assert_eq!(answer.i16(), error::NONE);
        let leader = answer.i32();
        Ok((leader >= 0).then_some(leader))
    }
}
