//! Tests of [`super`].

use skein_env::NoLoggers;
use skein_metadata::Record;
use skein_types::Uuid;

use super::*;

const THIS: BrokerId = BrokerId(1);

fn set(resource: ConfigResource, key: &str, value: &str) -> Record {
    Record::Config {
        resource,
        key: key.to_owned(),
        value: Some(value.to_owned()),
    }
}

/// One topic with an override; settings for all brokers and for this one.
fn image() -> Image {
    let name = TopicName::new("topic").unwrap();
    let topic = ConfigResource::topic(&name);
    let group = ConfigResource {
        kind: ResourceType::Group,
        name: "group".to_owned(),
    };
    let mut image = Image::new();
    let id = Uuid([1; 16]);
    image
        .apply_records(&[
            Record::Topic { id, name },
            set(topic, "retention.ms", "1000"),
            set(group, "consumer.session.timeout.ms", "50000"),
            set(ConfigResource::broker(None), "log.retention.ms", "2000"),
            set(ConfigResource::broker(None), "message.max.bytes", "3000"),
            set(
                ConfigResource::broker(Some(THIS)),
                "message.max.bytes",
                "4000",
            ),
        ])
        .unwrap();
    image
}

fn ask(
    resources: &[(i8, &str, Option<&[&str]>)],
    include_synonyms: bool,
    include_documentation: bool,
) -> Vec<DescribeConfigsResult> {
    let image = image();
    let sources = Sources {
        image: &image,
        config: &BrokerConfig::default(),
        broker_id: THIS,
        loggers: &NoLoggers,
        facts: Facts {
            brokers: 1,
            cores: 2,
        },
        include_synonyms,
        include_documentation,
    };
    let resource = |(kind, name, keys): &(i8, &str, Option<&[&str]>)| DescribeConfigsResource {
        resource_type: *kind,
        resource_name: Str::from(*name),
        configuration_keys: keys.map(|keys| keys.iter().map(|key| Str::from(*key)).collect()),
    };
    describe_all(&sources, resources.iter().map(resource).collect()).results
}

/// The entries of one resource as `(name, value, source)`.
fn entries(kind: i8, name: &str, keys: Option<&[&str]>) -> Vec<(String, String, i8)> {
    let results = ask(&[(kind, name, keys)], false, false);
    let [result] = results.try_into().unwrap();
    assert_eq!(result.error_code, 0, "{:?}", result.error_message);
    let entry = |config: DescribeConfigsResourceResult| {
        let value = config.value.map(String::from).unwrap_or_default();
        (config.name.into(), value, config.config_source)
    };
    result.configs.into_iter().map(entry).collect()
}

#[track_caller]
fn check_error(kind: i8, name: &str, expected: ErrorCode) {
    let results = ask(&[(kind, name, None)], true, true);
    let [result] = results.try_into().unwrap();
    assert_eq!(result.error_code, expected.code());
    assert_eq!(
        (result.resource_type, result.resource_name.as_str()),
        (kind, name)
    );
    assert_eq!(result.configs, []);
    let message = result.error_message.unwrap();
    assert_eq!(!message.is_empty(), expected != ErrorCode::None);
}

fn owned(name: &str, value: &str, source: ConfigSource) -> (String, String, i8) {
    (name.to_owned(), value.to_owned(), source.code())
}

#[test]
fn a_broker_tells_the_id_that_it_was_given() {
    let told = entries(BROKER, "1", Some(&["node.id"]));
    assert_eq!(told, [owned("node.id", "1", ConfigSource::Default)]);
}

#[test]
fn a_topic_tells_its_overrides_above_its_brokers_settings() {
    let all = entries(TOPIC, "topic", None);
    assert!(all.contains(&owned("retention.ms", "1000", ConfigSource::DynamicTopic)));
    assert!(all.contains(&owned(
        "max.message.bytes",
        "4000",
        ConfigSource::DynamicBroker
    )));
    assert!(all.contains(&owned("cleanup.policy", "delete", ConfigSource::Default)));
    assert_eq!(all, entries(TOPIC, "topic", Some(&[])));
}

#[test]
fn keys_that_are_asked_for_are_told_and_unknown_ones_left_out() {
    let some = entries(TOPIC, "topic", Some(&["retention.ms", "no.such.key"]));
    assert_eq!(
        some,
        [owned("retention.ms", "1000", ConfigSource::DynamicTopic)]
    );
}

#[test]
fn this_broker_tells_its_own_settings_above_those_of_all() {
    let keys: &[&str] = &["message.max.bytes", "log.retention.ms"];
    let mut some = entries(BROKER, "1", Some(keys));
    some.sort();
    let expected = [
        owned(
            "log.retention.ms",
            "2000",
            ConfigSource::DynamicDefaultBroker,
        ),
        owned("message.max.bytes", "4000", ConfigSource::DynamicBroker),
    ];
    assert_eq!(some, expected);
}

#[test]
fn the_broker_without_a_name_tells_what_is_set_for_all_and_nothing_else() {
    let mut all = entries(BROKER, "", None);
    all.sort();
    let expected = [
        owned(
            "log.retention.ms",
            "2000",
            ConfigSource::DynamicDefaultBroker,
        ),
        owned(
            "message.max.bytes",
            "3000",
            ConfigSource::DynamicDefaultBroker,
        ),
    ];
    assert_eq!(all, expected);
    for config in ask(&[(BROKER, "", None)], true, false).remove(0).configs {
        let sources: Vec<_> = config
            .synonyms
            .iter()
            .map(|synonym| synonym.source)
            .collect();
        assert_eq!(sources, [ConfigSource::DynamicDefaultBroker.code()]);
    }
}

#[test]
fn a_group_tells_its_overrides_above_the_defaults() {
    let heartbeat = "consumer.heartbeat.interval.ms";
    let session = "consumer.session.timeout.ms";
    let both: &[&str] = &[session, heartbeat];
    let expected = [
        owned(session, "50000", ConfigSource::Group),
        owned(heartbeat, "5000", ConfigSource::Default),
    ];
    assert_eq!(entries(GROUP, "group", Some(both)), expected);
    assert_eq!(entries(GROUP, "group", None).len(), 10);
    let session: &[&str] = &[session];
    let other = entries(GROUP, "other", Some(session));
    assert_eq!(other[0].1, "45000");
}

#[test]
fn what_is_not_here_is_refused_by_itself() {
    check_error(TOPIC, "unknown", ErrorCode::UnknownTopicOrPartition);
    check_error(TOPIC, "a/b", ErrorCode::InvalidTopicException);
    check_error(BROKER, "2", ErrorCode::InvalidRequest);
    check_error(BROKER, "one", ErrorCode::InvalidRequest);
    check_error(BROKER_LOGGER, "", ErrorCode::InvalidRequest);
    check_error(BROKER_LOGGER, "2", ErrorCode::InvalidRequest);
    check_error(CLIENT_METRICS, "", ErrorCode::InvalidRequest);
    check_error(GROUP, "", ErrorCode::InvalidRequest);
    for (kind, name) in [(BROKER_LOGGER, "1"), (CLIENT_METRICS, "any")] {
        check_error(kind, name, ErrorCode::None);
    }
    let both = ask(
        &[(TOPIC, "unknown", None), (TOPIC, "topic", None)],
        false,
        false,
    );
    let codes: Vec<_> = both.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [ErrorCode::UnknownTopicOrPartition.code(), 0]);
}

#[test]
fn a_type_that_is_none_refuses_the_request() {
    let both = ask(&[(TOPIC, "topic", None), (5, "any", None)], false, false);
    let invalid = ErrorCode::InvalidRequest.code();
    assert!(
        both.iter()
            .all(|result| result.error_code == invalid && result.configs.is_empty())
    );
}

#[test]
fn synonyms_and_documentation_are_told_on_request() {
    let keys: &[&str] = &["max.message.bytes"];
    let one = |synonyms, documentation| {
        ask(&[(TOPIC, "topic", Some(keys))], synonyms, documentation)
            .remove(0)
            .configs
            .remove(0)
    };
    let bare = one(false, false);
    assert_eq!(
        (bare.synonyms.as_slice(), bare.documentation.as_ref()),
        (&[][..], None)
    );
    let full = one(true, true);
    assert!(full.documentation.is_some_and(|text| !text.is_empty()));
    assert_eq!(full.config_type, skein_config::ConfigType::Int.code());
    let synonyms: Vec<_> = full
        .synonyms
        .iter()
        .map(|one| (one.name.as_str(), one.value.as_deref(), one.source))
        .collect();
    assert_eq!(synonyms[0], ("message.max.bytes", Some("4000"), 2));
    assert_eq!(synonyms[1], ("message.max.bytes", Some("3000"), 3));
    assert_eq!(synonyms[2].2, ConfigSource::Default.code());
}
