//! A whole configuration in the place of another, as changes of single keys.
//!
//! Input: all keys that shall be set from now on. Output: the changes that lead there.
//!
//! Invariants:
//! - the same values are taken and the same are refused as of changes of single keys;
//! - a key that is kept when it is not named (`kept_by_replace` in the table) stays as it is: who
//!   sets the configurations that he knows must not bring back a record that another has hidden.
//!
//! Source: KIP-133; `ConfigurationControlManager.legacyAlterConfigs` of Kafka 4.1.

use std::collections::BTreeSet;

use skein_config::{AlterOp, keys};
use skein_metadata::{ConfigResource, Image, ResourceType};

use super::{KeyAlteration, ResourceChange};

pub(super) fn alterations(
    image: &Image,
    request: &ResourceChange,
    configs: &[(String, Option<String>)],
) -> Vec<KeyAlteration> {
    let named: BTreeSet<_> = configs.iter().map(|(key, _)| key).collect();
    let current = ResourceType::from_code(request.resource_type).map(|kind| {
        image.overrides(&ConfigResource {
            kind,
            name: request.name.clone(),
        })
    });
    let set = configs.iter().map(|(key, value)| KeyAlteration {
        key: key.clone(),
        operation: AlterOp::Set.code(),
        value: value.clone(),
    });
    let gone = current.into_iter().flatten();
    let gone = gone.filter(|(key, _)| !named.contains(key) && !is_kept(request, key));
    let delete = gone.map(|(key, _)| KeyAlteration {
        key,
        operation: AlterOp::Delete.code(),
        value: None,
    });
    set.chain(delete).collect()
}

fn is_kept(request: &ResourceChange, key: &str) -> bool {
    let is_topic = ResourceType::from_code(request.resource_type) == Some(ResourceType::Topic);
    is_topic && keys::topic(key).is_some_and(|key| key.kept_by_replace)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use skein_metadata::ResourceType;
    use skein_types::ErrorCode;

    use super::*;
    use crate::testing::{World, code};
    use crate::{AlterConfigs, Call, ConfigChange, Request};

    const TOPIC: i8 = ResourceType::Topic as i8;
    const BROKER: i8 = ResourceType::Broker as i8;

    type Configs<'a> = &'a [(&'a str, Option<&'a str>)];

    fn replace(world: &mut World, resources: &[(i8, &str, Configs<'_>)]) -> Vec<ErrorCode> {
        let of = |(resource_type, name, configs): &(i8, &str, Configs<'_>)| {
            let set = |(key, value): &(&str, Option<&str>)| {
                let value = value.map(str::to_owned);
                ((*key).to_owned(), value)
            };
            ResourceChange {
                resource_type: *resource_type,
                name: (*name).to_owned(),
                change: ConfigChange::Whole(configs.iter().map(set).collect()),
            }
        };
        let response = world.grant(Request::AlterConfigs(AlterConfigs {
            resources: resources.iter().map(of).collect(),
            validate_only: false,
        }));
        let results = AlterConfigs::response(response).unwrap();
        results.iter().map(|one| code(&one.result)).collect()
    }

    fn overrides(world: &World, kind: ResourceType, name: &str) -> Vec<(String, String)> {
        let name = name.to_owned();
        let overrides: BTreeMap<_, _> = world.image.overrides(&ConfigResource { kind, name });
        overrides.into_iter().collect()
    }

    #[test]
    fn what_is_not_named_gets_its_default_again() {
        let mut world = World::with_topics(1, &["t"]);
        let both: Configs<'_> = &[
            ("retention.ms", Some("1")),
            ("max.message.bytes", Some("2")),
        ];
        assert_eq!(
            replace(&mut world, &[(TOPIC, "t", both)]),
            [ErrorCode::None]
        );
        let one: Configs<'_> = &[("retention.ms", Some("3"))];
        assert_eq!(replace(&mut world, &[(TOPIC, "t", one)]), [ErrorCode::None]);
        let set = [("retention.ms".to_owned(), "3".to_owned())];
        assert_eq!(overrides(&world, ResourceType::Topic, "t"), set);
        assert_eq!(replace(&mut world, &[(TOPIC, "t", &[])]), [ErrorCode::None]);
        assert_eq!(overrides(&world, ResourceType::Topic, "t"), []);

        let value: Configs<'_> = &[("log.retention.ms", Some("5"))];
        for name in ["", "1"] {
            assert_eq!(
                replace(&mut world, &[(BROKER, name, value)]),
                [ErrorCode::None]
            );
            assert_eq!(overrides(&world, ResourceType::Broker, name).len(), 1);
            replace(&mut world, &[(BROKER, name, &[])]);
            assert_eq!(overrides(&world, ResourceType::Broker, name), []);
        }
    }

    #[test]
    fn redacted_records_stay_hidden_unless_they_are_named() {
        let mut world = World::with_topics(1, &["t"]);
        let hidden = ("redacted.records".to_owned(), "0:7".to_owned());
        let value: Configs<'_> = &[("redacted.records", Some("0:7"))];
        assert_eq!(
            replace(&mut world, &[(TOPIC, "t", value)]),
            [ErrorCode::None]
        );
        let other: Configs<'_> = &[("retention.ms", Some("1"))];
        for (configs, expected) in [
            (
                other,
                vec![hidden.clone(), ("retention.ms".to_owned(), "1".to_owned())],
            ),
            (&[], vec![hidden]),
            (
                &[("redacted.records", Some(""))],
                vec![("redacted.records".to_owned(), String::new())],
            ),
        ] {
            let results = replace(&mut world, &[(TOPIC, "t", configs)]);
            assert_eq!(results, [ErrorCode::None]);
            assert_eq!(overrides(&world, ResourceType::Topic, "t"), expected);
        }
    }

    #[test]
    fn a_resource_with_one_bad_key_stays_as_it_is_and_the_others_change() {
        let mut world = World::with_topics(1, &["t", "u"]);
        let set: Configs<'_> = &[("retention.ms", Some("1"))];
        replace(&mut world, &[(TOPIC, "t", set)]);
        let bad: [(Configs<'_>, ErrorCode); 4] = [
            (&[("retention.ms", Some("x"))], ErrorCode::InvalidConfig),
            (&[("nope", Some("1"))], ErrorCode::InvalidConfig),
            (&[("retention.ms", None)], ErrorCode::InvalidRequest),
            (
                &[("retention.ms", Some("1")), ("retention.ms", Some("2"))],
                ErrorCode::InvalidRequest,
            ),
        ];
        for (configs, refused) in bad {
            let results = replace(&mut world, &[(TOPIC, "t", configs), (TOPIC, "u", set)]);
            assert_eq!(results, [refused, ErrorCode::None], "{configs:?}");
            let kept = [("retention.ms".to_owned(), "1".to_owned())];
            assert_eq!(overrides(&world, ResourceType::Topic, "t"), kept);
            assert_eq!(overrides(&world, ResourceType::Topic, "u"), kept);
            replace(&mut world, &[(TOPIC, "u", &[])]);
        }
        let twice = replace(&mut world, &[(TOPIC, "t", set), (TOPIC, "t", &[])]);
        assert_eq!(twice, [ErrorCode::InvalidRequest; 2]);
        for (kind, name, refused) in [
            (TOPIC, "absent", ErrorCode::UnknownTopicOrPartition),
            (TOPIC, "", ErrorCode::InvalidRequest),
            (BROKER, "7", ErrorCode::InvalidRequest),
            (BROKER, "x", ErrorCode::InvalidRequest),
            (99, "t", ErrorCode::InvalidRequest),
        ] {
            assert_eq!(replace(&mut world, &[(kind, name, &[])]), [refused]);
        }
    }
}
