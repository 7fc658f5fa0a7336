//! IncrementalAlterConfigs against a model, and its refusals.

use proptest::prelude::*;
use skein_types::ErrorCode;

use super::AlterOp::{Append, Delete, Set, Subtract};
use super::*;
use crate::Layers;

fn overrides(pairs: &[(&str, &str)]) -> Overrides {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn alteration<'a>(name: &'a str, op: AlterOp, value: &'a str) -> Alteration<'a> {
    Alteration {
        name,
        op,
        value: (op != Delete).then_some(value),
    }
}

fn topic(
    current: &[(&str, &str)],
    alterations: &[(&str, AlterOp, &str)],
) -> Result<Overrides, ConfigError> {
    let alterations: Vec<_> = alterations
        .iter()
        .map(|(name, op, value)| alteration(name, *op, value))
        .collect();
    alter_topic(&BrokerConfig::default(), &overrides(current), &alterations)
}

#[test]
fn set_and_delete_change_one_key_each() {
    let current = [("retention.ms", "5"), ("segment.ms", "6")];
    let altered = topic(
        &current,
        &[("retention.ms", Delete, ""), ("flush.ms", Set, " 7 ")],
    );
    assert_eq!(
        altered,
        Ok(overrides(&[("segment.ms", "6"), ("flush.ms", " 7 ")]))
    );
    assert_eq!(
        topic(&current, &[("flush.ms", Delete, "")]),
        Ok(overrides(&current))
    );
    let old = [("of.a.former.version", "1")];
    assert_eq!(
        topic(&old, &[("of.a.former.version", Delete, "")]),
        Ok(overrides(&[]))
    );
}

#[test]
fn lists_grow_and_shrink_from_their_effective_value() {
    let appended = topic(&[], &[("cleanup.policy", Append, "compact")]);
    assert_eq!(
        appended,
        Ok(overrides(&[("cleanup.policy", "delete,compact")]))
    );
    let both = [("cleanup.policy", "delete,compact")];
    assert_eq!(
        topic(&both, &[("cleanup.policy", Append, "compact")]),
        Ok(overrides(&both))
    );
    let subtracted = topic(&both, &[("cleanup.policy", Subtract, "delete,other")]);
    assert_eq!(subtracted, Ok(overrides(&[("cleanup.policy", "compact")])));
    let (broker, _) = Layers::new()
        .set("log.cleanup.policy=compact")
        .build()
        .unwrap();
    let request = [alteration("cleanup.policy", Append, "delete")];
    let inherited = alter_topic(&broker, &overrides(&[]), &request);
    assert_eq!(
        inherited,
        Ok(overrides(&[("cleanup.policy", "compact,delete")]))
    );
}

#[test]
fn redacted_records_are_added_and_taken_back_one_by_one_up_to_their_limit() {
    let key = crate::REDACTED_RECORDS;
    let one = overrides(&[(key, "0:7")]);
    assert_eq!(topic(&[], &[(key, Append, "0:7")]), Ok(one.clone()));
    assert_eq!(
        topic(&[(key, "0:7")], &[(key, Append, "0:7")]),
        Ok(one.clone())
    );
    let both = [(key, "0:7,1:9")];
    assert_eq!(
        topic(&[(key, "0:7")], &[(key, Append, "1:9")]),
        Ok(overrides(&both))
    );
    assert_eq!(topic(&both, &[(key, Subtract, "1:9,1:10")]), Ok(one));
    for wrong in ["7", "0:07", "0:-1", "0:7,x"] {
        let refused = topic(&both, &[(key, Append, wrong)]).unwrap_err();
        assert_eq!(refused.error_code(), ErrorCode::InvalidConfig);
        assert!(
            refused.to_string().contains("partition:offset"),
            "{refused}"
        );
    }
    let max = i64::try_from(crate::REDACTED_RECORDS_MAX).unwrap();
    let list = |count| {
        let items: Vec<_> = (0..count)
            .map(|offset: i64| format!("0:{offset}"))
            .collect();
        items.join(",")
    };
    let full = list(max);
    assert!(topic(&[], &[(key, Set, &full)]).is_ok());
    assert!(
        topic(&[(key, &full)], &[(key, Append, "0:5")]).is_ok(),
        "it is there already"
    );
    let too_many = topic(&[(key, &full)], &[(key, Append, "1:5")]).unwrap_err();
    let told = "redacted.records would name 1025 records, and a topic hides at most 1024";
    assert_eq!(too_many.to_string(), told);
    let created = validate_topic_overrides(
        &BrokerConfig::default(),
        &overrides(&[(key, &list(max + 1))]),
    );
    assert_eq!(created.unwrap_err().to_string(), told);
}

#[test]
fn a_refusal_says_why_and_with_which_code() {
    let refused = |alterations: &[(&str, AlterOp, &str)], code: ErrorCode, text: &str| {
        let error = topic(&[], alterations).unwrap_err();
        assert_eq!(error.error_code(), code, "{error}");
        assert!(error.to_string().contains(text), "{error}");
    };
    use ErrorCode::{InvalidConfig, InvalidRequest};
    refused(
        &[("retention.sm", Set, "1")],
        InvalidConfig,
        r#"did you mean "retention.ms"?"#,
    );
    refused(
        &[("retention.ms", Set, "-2")],
        InvalidConfig,
        "expected a whole number from -1 up",
    );
    refused(
        &[("retention.ms", Append, "1")],
        InvalidConfig,
        "is not a list",
    );
    refused(
        &[("num.partitions", Set, "1")],
        InvalidConfig,
        "belongs to a broker",
    );
    refused(
        &[("cleanup.policy", Append, "shrink")],
        InvalidConfig,
        "compact, delete",
    );
    refused(
        &[("remote.storage.enable", Set, "true")],
        InvalidConfig,
        "no remote storage",
    );
    refused(
        &[("flush.ms", Set, "1"), ("flush.ms", Delete, "")],
        InvalidRequest,
        "more than once",
    );
    let lags = [
        ("min.compaction.lag.ms", Set, "5"),
        ("max.compaction.lag.ms", Set, "4"),
    ];
    refused(
        &lags,
        InvalidConfig,
        "must not be above max.compaction.lag.ms (4)",
    );
    let null = [Alteration {
        name: "flush.ms",
        op: Set,
        value: None,
    }];
    let error = alter_topic(&BrokerConfig::default(), &overrides(&[]), &null).unwrap_err();
    assert_eq!(error.error_code(), InvalidRequest);
}

#[test]
fn throttled_replicas_are_pairs_or_all() {
    let key = "leader.replication.throttled.replicas";
    for good in ["", "*", "0:1", "0:1,2:3"] {
        assert!(topic(&[], &[(key, Set, good)]).is_ok(), "{good}");
    }
    for bad in ["1", "a:b", "0:1:2", "-1:0"] {
        assert!(topic(&[], &[(key, Set, bad)]).is_err(), "{bad}");
    }
}

#[test]
fn what_is_not_set_can_be_deleted_whether_there_is_such_a_key_or_not() {
    let set = overrides(&[("flush.ms", "1")]);
    let delete = |name| [alteration(name, Delete, "")];
    for name in ["retention.ms", "retention.sm", "num.partitions", ""] {
        let altered = alter_topic(&BrokerConfig::default(), &set, &delete(name));
        assert_eq!(altered.as_ref(), Ok(&set), "{name}");
        assert_eq!(alter_broker(&set, &delete(name)).as_ref(), Ok(&set));
    }
}

#[test]
fn a_cleanup_policy_may_be_empty() {
    let altered = topic(&[], &[("cleanup.policy", Subtract, "delete")]).unwrap();
    assert_eq!(altered, overrides(&[("cleanup.policy", "")]));
    let config = TopicConfig::new(&BrokerConfig::default(), &altered);
    let policy = config.cleanup_policy;
    assert!(!policy.delete && !policy.compact);
}

#[test]
fn a_list_that_clients_know_as_text_is_not_appended_to() {
    let append = [alteration(
        "max.connections.per.ip.overrides",
        Append,
        "127.0.0.1:5",
    )];
    let error = alter_broker(&overrides(&[]), &append).unwrap_err();
    assert_eq!(
        error,
        ConfigError::NotAList("max.connections.per.ip.overrides")
    );
}

#[test]
fn of_a_broker_a_bad_value_and_a_read_only_key_are_invalid_requests() {
    let code = |name, op, value| {
        let error = alter_broker(&overrides(&[]), &[alteration(name, op, value)]).unwrap_err();
        error.broker_error_code()
    };
    use ErrorCode::{InvalidConfig, InvalidRequest};
    assert_eq!(code("log.segment.bytes", Set, "2"), InvalidRequest);
    assert_eq!(code("num.partitions", Set, "2"), InvalidRequest);
    assert_eq!(code("log.segment.bytes", Append, "2"), InvalidConfig);
    assert_eq!(code("log.segmnet.bytes", Set, "2000000"), InvalidConfig);
}

#[test]
fn a_broker_takes_dynamic_keys_while_it_runs() {
    let set = |name| alter_broker(&overrides(&[]), &[alteration(name, Set, "2000000")]);
    assert_eq!(
        set("log.segment.bytes"),
        Ok(overrides(&[("log.segment.bytes", "2000000")]))
    );
    assert_eq!(
        set("num.partitions"),
        Err(ConfigError::ReadOnly("num.partitions"))
    );
    assert!(
        set("segment.bytes")
            .unwrap_err()
            .to_string()
            .contains("log.segment.bytes")
    );
    assert_eq!(
        validate_broker_overrides(&overrides(&[("log.segment.bytes", "2000000")])),
        Ok(())
    );
    assert!(validate_broker_overrides(&overrides(&[("log.segment.bytes", "2")])).is_err());
    assert!(validate_broker_overrides(&overrides(&[("listeners", "P://a:1")])).is_err());
}

#[test]
fn operations_have_kafkas_numbers() {
    let ops: Vec<_> = (-1..=4).map(AlterOp::from_code).collect();
    assert_eq!(
        ops,
        [
            None,
            Some(Set),
            Some(Delete),
            Some(Append),
            Some(Subtract),
            None
        ]
    );
}

fn any_op() -> impl Strategy<Value = AlterOp> {
    prop::sample::select(vec![Set, Delete, Append, Subtract])
}

proptest! {
    /// A request changes exactly the keys it names, and what comes out is valid, or nothing
    /// changes.
    #[test]
    fn what_comes_out_is_valid_and_touches_no_other_key(
        requests in prop::collection::vec(prop::collection::vec(
            (
                prop::sample::select(keys::of_topics().map(|key| key.name).collect::<Vec<_>>()),
                any_op(),
                prop_oneof![
                    (-3i64..3_000_000).prop_map(|number| number.to_string()),
                    prop::sample::select(vec![
                        "delete", "compact", "delete,compact", "true", "0.5", "zstd", "*", "",
                    ]).prop_map(str::to_owned),
                ],
            ),
            0..5,
        ), 1..8)
    ) {
        let broker = BrokerConfig::default();
        let mut current = Overrides::new();
        for request in &requests {
            let alterations: Vec<_> =
                request.iter().map(|(name, op, value)| alteration(name, *op, value)).collect();
            let Ok(altered) = alter_topic(&broker, &current, &alterations) else { continue };
            prop_assert_eq!(validate_topic_overrides(&broker, &altered), Ok(()));
            for key in keys::of_topics() {
                let (was, is) = (current.get(key.name), altered.get(key.name));
                match request.iter().find(|(name, _, _)| *name == key.name) {
                    None => prop_assert_eq!(was, is),
                    Some((_, Set, value)) => prop_assert_eq!(is, Some(value)),
                    Some((_, Delete, _)) => prop_assert_eq!(is, None),
                    Some((_, Append, value)) => {
                        let items: Vec<_> = is.unwrap().split(',').collect();
                        let all_in = value.split(',').all(|item| items.contains(&item));
                        prop_assert!(all_in || value.is_empty());
                    }
                    Some((_, Subtract, value)) => {
                        let left = is.unwrap();
                        prop_assert!(
                            left.is_empty()
                                || left.split(',').all(|item| !value.split(',').any(|v| v == item))
                        );
                    }
                }
            }
            current = altered;
        }
    }
}

#[test]
fn a_group_keeps_to_the_limits_of_its_brokers() {
    const SESSION: &str = "consumer.session.timeout.ms";
    const INTERVAL: &str = "consumer.heartbeat.interval.ms";
    let layers = Layers::new()
        .set("group.consumer.min.session.timeout.ms=10000")
        .set("group.consumer.max.heartbeat.interval.ms=12000");
    let (broker, _) = layers.build().unwrap();
    let alter = |current: &[(&str, &str)], name: &str, value: &str| {
        let set = [alteration(name, Set, value)];
        alter_group(&broker, &overrides(current), &set)
    };
    assert_eq!(
        alter(&[], SESSION, "60000"),
        Ok(overrides(&[(SESSION, "60000")]))
    );
    for (current, name, wrong, told) in [
        (None, SESSION, "9999", "from 10000 to 60000"),
        (None, SESSION, "60001", "from 10000 to 60000"),
        (None, INTERVAL, "4999", "from 5000 to 12000"),
        (None, INTERVAL, "12001", "from 5000 to 12000"),
        (Some((INTERVAL, "11000")), SESSION, "11000", "above"),
        (Some((SESSION, "11000")), INTERVAL, "11000", "above"),
        (None, SESSION, "0", "expected a whole number from 1"),
        (None, SESSION, "soon", "expected a whole number"),
        (None, "consumer.session.timeout.mss", "1", "did you mean"),
        (None, "retention.ms", "1", "unknown key"),
        (None, "share.session.timeout.ms", "1", "from 45000 to 60000"),
    ] {
        let refused = alter(current.as_slice(), name, wrong).unwrap_err();
        assert_eq!(refused.error_code(), ErrorCode::InvalidConfig);
        assert!(refused.to_string().contains(told), "{refused}");
    }
    let both = [(SESSION, "11000"), (INTERVAL, "10000")];
    assert!(alter(&both[1..], SESSION, "11000").is_ok());
    let delete = [alteration(SESSION, Delete, "")];
    let altered = alter_group(&broker, &overrides(&both), &delete);
    assert_eq!(altered, Ok(overrides(&both[1..])));
}
