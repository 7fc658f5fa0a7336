//! `DeleteTopics` (20): topics by name or id, removed by the controller.
//!
//! Input: names (version 1 to 5), or names and ids (version 6). Output: for each whether it is
//! gone.
//!
//! Invariants:
//! - a topic that the request names twice, in whatever way, stays: one of the two is a mistake;
//! - a topic that is gone is out of this node's image before the client hears of it.
//!
//! Source: KIP-4, KIP-516 (by id), KIP-599 (messages).

use std::collections::BTreeSet;
use std::sync::Arc;

use skein_controller::{DeleteTopics, DeleteTopicsResult, Refusal, TopicReference};
use skein_metadata::Image;
use skein_protocol::Str;
use skein_protocol::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use skein_types::{ErrorCode, TopicId};

use super::create_topics::{call_within, duplicates};
use super::describe_configs::broker_config;
use crate::node::Shared;
use crate::router::Context;

/// The first version whose clients know `TOPIC_DELETION_DISABLED`.
const DELETION_DISABLED_VERSION: i16 = 3;

/// What the controller is asked for, and what is refused here.
#[derive(Default)]
struct Sorted {
    references: Vec<TopicReference>,
    refused: Vec<DeletableTopicResult>,
}

/// Has the controller delete what may be deleted.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    context: &Context,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let image = shared.image();
    let mentions = mentions(&request);
    if !broker_config(shared, &image).topics.delete_topic_enable {
        let refusal = deletion_disabled(context.head.api_version);
        return refuse_all(&mentions, &refusal);
    }
    let Sorted {
        references,
        refused,
    } = sort_out(&image, &mentions);
    let mut responses = refused;
    if !references.is_empty() {
        let delete = DeleteTopics { topics: references };
        match call_within(shared, request.timeout_ms, delete.clone()).await {
            Ok(results) => responses.extend(results.into_iter().map(to_response)),
            Err(refusal) => responses.extend(
                delete
                    .topics
                    .into_iter()
                    .map(|topic| refuse(topic.name.map(Str::from), topic.id, &refusal)),
            ),
        }
    }
    DeleteTopicsResponse {
        responses,
        ..Default::default()
    }
}

/// The topics of the request, in whatever version it says them.
fn mentions(request: &DeleteTopicsRequest) -> Vec<DeleteTopicState> {
    let by_name = request.topic_names.iter().map(|name| DeleteTopicState {
        name: Some(name.clone()),
        topic_id: TopicId::ZERO,
    });
    by_name.chain(request.topics.iter().cloned()).collect()
}

fn deletion_disabled(api_version: i16) -> Refusal {
    let code = if api_version < DELETION_DISABLED_VERSION {
        ErrorCode::InvalidRequest
    } else {
        ErrorCode::TopicDeletionDisabled
    };
    Refusal::new(code, "delete.topic.enable is false")
}

fn sort_out(image: &Image, mentions: &[DeleteTopicState]) -> Sorted {
    let mut sorted = Sorted::default();
    let invalid = |message: &str| Refusal::new(ErrorCode::InvalidRequest, message);
    for topic in mentions {
        let refusal = match (&topic.name, topic.topic_id.is_zero()) {
            (None, true) => invalid("a topic is named by name or by id"),
            (Some(_), false) => invalid("a topic is named by name or by id, not both"),
            _ => continue,
        };
        sorted
            .refused
            .push(refuse(topic.name.clone(), topic.topic_id, &refusal));
    }
    let names = || {
        let by_name = mentions.iter().filter(|topic| topic.topic_id.is_zero());
        by_name.filter_map(|topic| topic.name.clone())
    };
    let ids = || {
        let by_id = mentions.iter().filter(|topic| topic.name.is_none());
        by_id.map(|topic| topic.topic_id).filter(|id| !id.is_zero())
    };
    let names_twice = duplicates(names());
    let ids_twice = duplicates(ids());
    let doubled = invalid("the request names the topic more than once");
    let by_name = names_twice
        .iter()
        .map(|name| (Some(name.clone()), TopicId::ZERO));
    let by_id = ids_twice.iter().map(|id| (None, *id));
    let doubles = by_name
        .chain(by_id)
        .map(|(name, id)| refuse(name, id, &doubled));
    sorted.refused.extend(doubles);
    // A name may also stand for a topic that the request has by its id.
    let ids_asked: BTreeSet<TopicId> = ids().collect();
    let mut ids_once: BTreeSet<TopicId> = ids_asked.difference(&ids_twice).copied().collect();
    let mut names_once = BTreeSet::new();
    for name in names().filter(|name| !names_twice.contains(name)) {
        match image.topic_by_name(&name).map(|topic| topic.id) {
            Some(id) if ids_asked.contains(&id) => {
                ids_once.remove(&id);
                sorted.refused.push(refuse(Some(name), id, &doubled));
            }
            _ => {
                names_once.insert(name);
            }
        }
    }
    let by_name = names_once.into_iter().map(|name| TopicReference {
        name: Some(name.into()),
        id: TopicId::ZERO,
    });
    let by_id = ids_once
        .into_iter()
        .map(|id| TopicReference { name: None, id });
    sorted.references = by_name.chain(by_id).collect();
    sorted
}

fn to_response(topic: DeleteTopicsResult) -> DeletableTopicResult {
    let name = topic.name.map(Str::from);
    match topic.result {
        Ok(()) => DeletableTopicResult {
            name,
            topic_id: topic.id,
            ..Default::default()
        },
        Err(refusal) => refuse(name, topic.id, &refusal),
    }
}

fn refuse_all(mentions: &[DeleteTopicState], refusal: &Refusal) -> DeleteTopicsResponse {
    let refuse = |topic: &DeleteTopicState| refuse(topic.name.clone(), topic.topic_id, refusal);
    DeleteTopicsResponse {
        responses: mentions.iter().map(refuse).collect(),
        ..Default::default()
    }
}

fn refuse(name: Option<Str>, topic_id: TopicId, refusal: &Refusal) -> DeletableTopicResult {
    DeletableTopicResult {
        name,
        topic_id,
        error_code: refusal.code.code(),
        error_message: Some(Str::from(&refusal.message)),
    }
}

#[cfg(test)]
mod tests {
    use skein_metadata::Record;
    use skein_types::{TopicName, Uuid};

    use super::*;

    const ID: TopicId = Uuid([7; 16]);
    const UNKNOWN_ID: TopicId = Uuid([8; 16]);

    fn image() -> Image {
        let mut image = Image::new();
        let name = TopicName::new("known").unwrap();
        image
            .apply_records(&[Record::Topic { id: ID, name }])
            .unwrap();
        image
    }

    /// Names, or ids where there is no name; and what is asked of the controller and refused here.
    #[track_caller]
    fn check(
        mentions: &[(Option<&'static str>, TopicId)],
        references: &[(Option<&str>, TopicId)],
        refused: &[(Option<&str>, TopicId)],
    ) {
        let mentions: Vec<_> = mentions
            .iter()
            .map(|(name, id)| DeleteTopicState {
                name: name.map(Str::from_static),
                topic_id: *id,
            })
            .collect();
        let sorted = sort_out(&image(), &mentions);
        let asked: Vec<_> = sorted
            .references
            .iter()
            .map(|topic| (topic.name.as_deref(), topic.id))
            .collect();
        assert_eq!(asked, references);
        let found: Vec<_> = sorted
            .refused
            .iter()
            .map(|topic| (topic.name.as_deref(), topic.topic_id))
            .collect();
        assert_eq!(found, refused);
        let invalid = ErrorCode::InvalidRequest.code();
        assert!(
            sorted
                .refused
                .iter()
                .all(|topic| topic.error_code == invalid)
        );
    }

    const NO_ID: TopicId = TopicId::ZERO;

    #[test]
    fn names_and_ids_go_to_the_controller_whether_they_are_known_or_not() {
        check(&[(Some("known"), NO_ID)], &[(Some("known"), NO_ID)], &[]);
        check(
            &[(Some("unknown"), NO_ID)],
            &[(Some("unknown"), NO_ID)],
            &[],
        );
        check(
            &[(None, ID), (None, UNKNOWN_ID)],
            &[(None, ID), (None, UNKNOWN_ID)],
            &[],
        );
    }

    #[test]
    fn a_topic_named_twice_stays_and_is_answered_once() {
        let known = (Some("known"), NO_ID);
        check(&[known, known, known], &[], &[known]);
        check(&[(None, ID), (None, ID)], &[], &[(None, ID)]);
        check(&[(None, ID), known], &[], &[(Some("known"), ID)]);
        check(&[known, (None, ID)], &[], &[(Some("known"), ID)]);
        check(
            &[(None, ID), (None, ID), known],
            &[],
            &[(None, ID), (Some("known"), ID)],
        );
    }

    #[test]
    fn a_topic_is_named_by_either_name_or_id() {
        check(&[(None, NO_ID)], &[], &[(None, NO_ID)]);
        check(&[(Some("known"), ID)], &[], &[(Some("known"), ID)]);
    }

    #[test]
    fn old_clients_hear_of_disabled_deletion_by_a_code_that_they_know() {
        assert_eq!(deletion_disabled(2).code, ErrorCode::InvalidRequest);
        assert_eq!(deletion_disabled(3).code, ErrorCode::TopicDeletionDisabled);
    }

    #[test]
    fn every_version_names_topics_in_its_own_field() {
        let known = Str::from_static("known");
        let old = DeleteTopicsRequest {
            topic_names: vec![known.clone()],
            ..Default::default()
        };
        let new = DeleteTopicsRequest {
            topics: vec![DeleteTopicState {
                name: Some(known),
                topic_id: NO_ID,
            }],
            ..Default::default()
        };
        assert_eq!(mentions(&old), mentions(&new));
    }
}
