//! CreatePartitions.
//!
//! Input: topics with the number of partitions they shall have. Output: for each topic its new
//! partitions, or why it gets none.
//!
//! Invariant: the new partitions have as many replicas as the topic's first one.
//!
//! Source: KIP-195, `ReplicationControlManager.createPartitions` of Kafka 4.1.

use skein_metadata::{Image, Partition, Record, Topic};
use skein_types::{BrokerId, ErrorCode, PartitionIndex};

use crate::batch::{Context, Decision};
use crate::create_topics::{PARTITIONS_PER_REQUEST_MAX, duplicates};
use crate::{RandomBits, Refusal, Response, assignment, placement};

/// Adds partitions to topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatePartitions {
    /// The topics.
    pub topics: Vec<NewPartitions>,
    /// Whether to look only, and create nothing.
    pub validate_only: bool,
}

/// A topic that shall have more partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPartitions {
    /// Its name.
    pub name: String,
    /// Partitions that it shall have.
    pub count: i32,
    /// Replicas of each new partition, chosen by the client; `None` to let the controller choose.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

/// What became of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatePartitionsResult {
    /// Its name.
    pub name: String,
    /// Whether it has the partitions.
    pub result: Result<(), Refusal>,
}

pub(crate) fn decide(
    image: &Image,
    request: &CreatePartitions,
    context: &mut Context<'_>,
) -> Result<Decision, Refusal> {
    let names: Vec<_> = request
        .topics
        .iter()
        .map(|topic| topic.name.as_str())
        .collect();
    let twice = duplicates(&names);
    let mut records = Vec::new();
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let result = if twice.contains(topic.name.as_str()) {
            let message = "the request names the topic more than once";
            Err(Refusal::new(ErrorCode::InvalidRequest, message))
        } else {
            add(image, topic, &mut context.random)
        };
        let result = result.map(|of_topic| records.extend(of_topic));
        if records.len() > PARTITIONS_PER_REQUEST_MAX {
            let message = format!("one request creates {PARTITIONS_PER_REQUEST_MAX} partitions");
            return Err(Refusal::new(ErrorCode::PolicyViolation, message));
        }
        results.push(CreatePartitionsResult {
            name: topic.name.clone(),
            result,
        });
    }
    if request.validate_only {
        records.clear();
    }
    Ok(Decision {
        records,
        response: Response::CreatePartitions(results),
    })
}

fn add(
    image: &Image,
    request: &NewPartitions,
    random: &mut RandomBits,
) -> Result<Vec<Record>, Refusal> {
    let Some(topic) = image.topic_by_name(&request.name) else {
        let message = "there is no such topic";
        return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, message));
    };
    let additional = check_count(topic, request)?;
    let factor = topic
        .partitions
        .front()
        .map_or(1, |partition| partition.replicas.len());
    let partitions: Vec<Partition> = match &request.assignments {
        Some(assignments) => assign(image, assignments, additional, factor)?,
        None => {
            let code = ErrorCode::InvalidReplicationFactor;
            let placed = placement::place(image, additional, factor, random)?;
            let new = |replicas| assignment::new_partition(image, replicas, code);
            placed.into_iter().map(new).collect::<Result<_, _>>()?
        }
    };
    let first = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    let indexes = (first..).map(PartitionIndex);
    let record = |(index, partition)| Record::Partition {
        topic_id: topic.id,
        index,
        partition,
    };
    Ok(indexes.zip(partitions).map(record).collect())
}

/// How many partitions are to be added.
fn check_count(topic: &Topic, request: &NewPartitions) -> Result<usize, Refusal> {
    let current = topic.partitions.len();
    let wanted = usize::try_from(request.count).unwrap_or(0);
    if wanted <= current {
        let message = format!(
            "the topic has {current} partitions; {} is no more",
            request.count
        );
        return Err(Refusal::new(ErrorCode::InvalidPartitions, message));
    }
    let additional = wanted - current;
    if additional > PARTITIONS_PER_REQUEST_MAX {
        let message = format!("one request creates {PARTITIONS_PER_REQUEST_MAX} partitions");
        return Err(Refusal::new(ErrorCode::PolicyViolation, message));
    }
    Ok(additional)
}

fn assign(
    image: &Image,
    assignments: &[Vec<BrokerId>],
    additional: usize,
    factor: usize,
) -> Result<Vec<Partition>, Refusal> {
    let code = ErrorCode::InvalidReplicaAssignment;
    if assignments.len() != additional {
        let given = assignments.len();
        let message = format!("{additional} new partitions need as many assignments, not {given}");
        return Err(Refusal::new(code, message));
    }
    let new = |replicas: &Vec<BrokerId>| {
        assignment::check(image, replicas, Some(factor))?;
        assignment::new_partition(image, replicas.clone(), code)
    };
    assignments.iter().map(new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Request;
    use crate::testing::{self, World};

    #[track_caller]
    fn check(
        world: &mut World,
        count: i32,
        assignments: Option<Vec<Vec<i32>>>,
        expected: ErrorCode,
    ) {
        let ids = |list: Vec<i32>| list.into_iter().map(BrokerId).collect();
        let topic = NewPartitions {
            name: "a".into(),
            count,
            assignments: assignments.map(|lists| lists.into_iter().map(ids).collect()),
        };
        let request = CreatePartitions {
            topics: vec![topic],
            validate_only: false,
        };
        let response = world.grant(Request::CreatePartitions(request));
        let Response::CreatePartitions(results) = response else {
            panic!("{response:?}")
        };
        assert_eq!(
            testing::code(&results[0].result),
            expected,
            "{:?}",
            results[0].result
        );
    }

    #[test]
    fn a_topic_grows_and_never_shrinks() {
        let mut world = World::with_topics(2, &["a"]);
        check(&mut world, 1, None, ErrorCode::InvalidPartitions);
        check(&mut world, 0, None, ErrorCode::InvalidPartitions);
        check(&mut world, -5, None, ErrorCode::InvalidPartitions);
        check(&mut world, i32::MAX, None, ErrorCode::PolicyViolation);
        check(&mut world, 4, None, ErrorCode::None);
        assert_eq!(world.image.topic_by_name("a").unwrap().partitions.len(), 4);
    }

    #[test]
    fn assignments_are_as_many_as_partitions_and_alike() {
        let mut world = World::with_topics(2, &["a"]);
        check(
            &mut world,
            3,
            Some(vec![vec![1]]),
            ErrorCode::InvalidReplicaAssignment,
        );
        check(
            &mut world,
            2,
            Some(vec![vec![1, 2]]),
            ErrorCode::InvalidReplicaAssignment,
        );
        check(
            &mut world,
            2,
            Some(vec![vec![9]]),
            ErrorCode::InvalidReplicaAssignment,
        );
        check(
            &mut world,
            2,
            Some(vec![vec![]]),
            ErrorCode::InvalidReplicaAssignment,
        );
        check(&mut world, 2, Some(vec![vec![2]]), ErrorCode::None);
        let topic = world.image.topic_by_name("a").unwrap();
        assert_eq!(topic.partitions[1].leader, BrokerId(2));
    }

    #[test]
    fn an_unknown_topic_and_a_topic_named_twice_are_refused() {
        let mut world = World::with_topics(1, &["a"]);
        let topic = |name: &str| NewPartitions {
            name: name.into(),
            count: 2,
            assignments: None,
        };
        let topics = vec![topic("a"), topic("a"), topic("b")];
        let request = CreatePartitions {
            topics,
            validate_only: false,
        };
        let response = world.grant(Request::CreatePartitions(request));
        let Response::CreatePartitions(results) = response else {
            panic!("{response:?}")
        };
        let codes: Vec<_> = results
            .iter()
            .map(|topic| testing::code(&topic.result))
            .collect();
        assert_eq!(
            codes,
            [
                ErrorCode::InvalidRequest,
                ErrorCode::InvalidRequest,
                ErrorCode::UnknownTopicOrPartition
            ]
        );
    }
}
