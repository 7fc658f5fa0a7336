//! DeleteTopics.
//!
//! Input: names or ids. Output: for each topic its removal, or why it stays.
//!
//! Invariant: a topic is removed once, however often and in whatever way a request names it; the
//! second mention is refused.
//!
//! Source: KIP-4, KIP-516 (by id), `ControllerApis.deleteTopics` of Kafka 4.1.

use std::collections::BTreeSet;

use skein_metadata::{Image, Record};
use skein_types::{ErrorCode, TopicId};

use crate::batch::{Context, Decision, effective_config};
use crate::{Refusal, Response};

/// Deletes topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteTopics {
    /// The topics.
    pub topics: Vec<TopicReference>,
}

/// A topic by its name or by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicReference {
    /// The name; `None` if it is the id that counts.
    pub name: Option<String>,
    /// The id; zero if it is the name that counts.
    pub id: TopicId,
}

/// What became of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteTopicsResult {
    /// Its name, if it is known.
    pub name: Option<String>,
    /// Its id; zero if it is not known.
    pub id: TopicId,
    /// Whether it is gone.
    pub result: Result<(), Refusal>,
}

pub(crate) fn decide(
    image: &Image,
    request: &DeleteTopics,
    context: &Context<'_>,
) -> Result<Decision, Refusal> {
    if !effective_config(image, context.config)
        .topics
        .delete_topic_enable
    {
        let message = "delete.topic.enable is false";
        return Err(Refusal::new(ErrorCode::TopicDeletionDisabled, message));
    }
    let mut records = Vec::new();
    let mut removed = BTreeSet::new();
    let results = request.topics.iter().map(|reference| {
        let found = find(image, reference).and_then(|(id, name)| {
            if !removed.insert(id) {
                let message = "the request names the topic more than once";
                return Err(Refusal::new(ErrorCode::InvalidRequest, message));
            }
            records.push(Record::RemoveTopic { id });
            Ok((id, name))
        });
        match found {
            Ok((id, name)) => DeleteTopicsResult {
                name: Some(name),
                id,
                result: Ok(()),
            },
            Err(refusal) => DeleteTopicsResult {
                name: reference.name.clone(),
                id: reference.id,
                result: Err(refusal),
            },
        }
    });
    let results = results.collect();
    Ok(Decision {
        records,
        response: Response::DeleteTopics(results),
    })
}

fn find(image: &Image, reference: &TopicReference) -> Result<(TopicId, String), Refusal> {
    let refuse = |code, message| Err(Refusal::new(code, message));
    let found = match (&reference.name, reference.id) {
        (Some(_), id) if !id.is_zero() => {
            return refuse(
                ErrorCode::InvalidRequest,
                "a topic is named by name or by id, not both",
            );
        }
        (None, id) if id.is_zero() => {
            return refuse(
                ErrorCode::InvalidRequest,
                "a topic is named by name or by id",
            );
        }
        (Some(name), _) => image
            .topic_by_name(name)
            .ok_or(ErrorCode::UnknownTopicOrPartition),
        (None, id) => image.topic(id).ok_or(ErrorCode::UnknownTopicId),
    };
    match found {
        Ok(topic) => Ok((topic.id, topic.name.as_str().to_owned())),
        Err(code) => refuse(code, "there is no such topic"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Request;
    use crate::testing::{self, World};

    fn by_name(name: &str) -> TopicReference {
        TopicReference {
            name: Some(name.into()),
            id: TopicId::ZERO,
        }
    }

    fn by_id(id: TopicId) -> TopicReference {
        TopicReference { name: None, id }
    }

    #[track_caller]
    fn check(world: &mut World, topics: Vec<TopicReference>, expected: &[ErrorCode]) {
        let response = world.grant(Request::DeleteTopics(DeleteTopics { topics }));
        let Response::DeleteTopics(results) = response else {
            panic!("{response:?}")
        };
        let codes: Vec<_> = results
            .iter()
            .map(|topic| testing::code(&topic.result))
            .collect();
        assert_eq!(codes, expected);
    }

    #[test]
    fn topics_go_by_name_and_by_id_once() {
        let mut world = World::with_topics(1, &["a", "b"]);
        let a = world.image.topic_by_name("a").unwrap().id;
        let topics = vec![by_id(a), by_name("b"), by_name("a"), by_name("c")];
        let expected = [
            ErrorCode::None,
            ErrorCode::None,
            ErrorCode::InvalidRequest,
            ErrorCode::UnknownTopicOrPartition,
        ];
        check(&mut world, topics, &expected);
        assert_eq!(world.image.topics().len(), 0);
        check(&mut world, vec![by_id(a)], &[ErrorCode::UnknownTopicId]);
    }

    #[test]
    fn a_topic_has_one_of_name_and_id() {
        let mut world = World::with_topics(1, &["a"]);
        let id = world.image.topic_by_name("a").unwrap().id;
        let both = TopicReference {
            name: Some("a".into()),
            id,
        };
        let neither = TopicReference {
            name: None,
            id: TopicId::ZERO,
        };
        check(
            &mut world,
            vec![both, neither],
            &[ErrorCode::InvalidRequest; 2],
        );
        assert_eq!(world.image.topics().len(), 1);
    }
}
