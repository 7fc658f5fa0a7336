//! Precedence, places of mistakes, and the sample file.

use proptest::prelude::*;

use super::*;

const SAMPLE: &str = include_str!("../../../../config/server.properties");

fn errors(layers: Layers) -> Vec<String> {
    let errors = layers.build().unwrap_err();
    errors.0.iter().map(ToString::to_string).collect()
}

#[test]
fn command_line_beats_file_beats_environment_in_any_order() {
    let environment = [
        ("SKEIN_NUM_PARTITIONS", "2"),
        ("SKEIN_NODE_ID", "7"),
        ("HOME", "/"),
    ];
    let file = b"num.partitions=3\nlog.segment.bytes=2000000\n";
    let one = Layers::new()
        .environment(environment)
        .file("f", file)
        .set("num.partitions=4");
    let other = Layers::new()
        .set("num.partitions=4")
        .file("f", file)
        .environment(environment);
    for layers in [one, other] {
        let (config, warnings) = layers.build().unwrap();
        assert_eq!(config.topics.num_partitions, 4);
        assert_eq!(config.topic_defaults.segment_bytes, 2_000_000);
        assert_eq!(config.node.node_id, Some(skein_types::BrokerId(7)));
        assert_eq!(warnings, []);
    }
    let (config, _) = Layers::new()
        .environment(environment)
        .file("f", file)
        .build()
        .unwrap();
    assert_eq!(config.topics.num_partitions, 3);
}

#[test]
fn each_mistake_is_named_with_its_place_and_all_at_once() {
    let file =
        b"# a comment\nlog.segmnet.bytes=1\nnum.partitions = zero\n\nlog.segment.\\\n bytes=5\n";
    let layers = Layers::new()
        .environment([("SKEIN_LOG_CLEANUP_POLICY", "delete,shrink")])
        .file("conf/server.properties", file)
        .set("nonsense")
        .set("fetch.max.bytes=");
    assert_eq!(
        errors(layers),
        [
            "environment variable SKEIN_LOG_CLEANUP_POLICY: invalid value \"delete,shrink\" for \
             log.cleanup.policy: expected a list of none or more of compact, delete",
            "conf/server.properties:2: unknown key \"log.segmnet.bytes\"; did you mean \
             \"log.segment.bytes\"?",
            "conf/server.properties:3: invalid value \"zero\" for num.partitions: expected a whole \
             number from 1 up (at most 2147483647)",
            "conf/server.properties:5: invalid value \"5\" for log.segment.bytes: expected a whole \
             number from 1048576 up (at most 2147483647)",
            "--set: \"nonsense\" is not of the form key=value",
            "--set: invalid value \"\" for fetch.max.bytes: expected a whole number from 1024 up \
             (at most 2147483647)",
        ]
    );
    assert_eq!(
        errors(Layers::new().file("f", b"a=b\nc=\\u1")),
        ["f:2: a \\u escape needs four hexadecimal digits"]
    );
}

#[test]
fn a_strangers_text_is_quoted_in_short_and_escaped() {
    let [error] = &errors(Layers::new().set(&format!("{}=1", "k\u{1b}".repeat(5000))))[..] else {
        panic!("one error")
    };
    assert!(error.len() < 2000 && !error.contains('\u{1b}'), "{error}");
}

#[test]
fn a_variable_of_the_platform_is_a_warning() {
    let variables = [
        ("SKEIN_SERVICE_HOST", "10.0.0.1"),
        ("SKEIN_NUM_PARTITION", "3"),
    ];
    let (config, warnings) = Layers::new().environment(variables).build().unwrap();
    assert_eq!(config.topics.num_partitions, 1);
    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "environment variable SKEIN_SERVICE_HOST names no key",
            "environment variable SKEIN_NUM_PARTITION names no key; did you mean \
             SKEIN_NUM_PARTITIONS?",
        ]
    );
}

#[test]
fn repeated_keys_and_keys_without_effect_are_warnings() {
    let file = b"num.partitions=2\nqueued.max.requests=9\nnum.partitions=3";
    let (config, warnings) = Layers::new().file("f", file).build().unwrap();
    assert_eq!(config.topics.num_partitions, 3);
    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "f:1: num.partitions is set again further down; this one does not count",
            "f:2: queued.max.requests has no effect in this version",
        ]
    );
}

#[test]
fn the_sample_is_valid_and_shows_the_defaults() {
    let (config, warnings) = Layers::new()
        .file("sample", SAMPLE.as_bytes())
        .build()
        .unwrap();
    assert_eq!(warnings, []);
    let default = BrokerConfig::default();
    assert_eq!(config.network, default.network);
    assert_eq!(config.node, default.node);
    assert_eq!(config.topics, default.topics);
    assert_eq!(config.topic_defaults, default.topic_defaults);
}

#[test]
fn what_the_sample_shows_in_comments_is_valid_too() {
    let uncommented: String = SAMPLE
        .lines()
        .map(|line| {
            line.strip_prefix("#     ")
                .or(line.strip_prefix('#'))
                .unwrap_or(line)
        })
        .filter(|line| !line.contains(' ') && line.contains('='))
        .fold(String::new(), |text, line| text + line + "\n");
    assert!(uncommented.contains("advertised.listeners="));
    let (config, _) = Layers::new()
        .file("sample", uncommented.as_bytes())
        .build()
        .unwrap();
    assert_eq!(
        config.network.advertised_listeners[0].host,
        "kafka-1.example.com"
    );
}

proptest! {
    #[test]
    fn no_file_environment_or_option_makes_the_layers_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        option in "\\PC{0,40}",
        value in "\\PC{0,40}",
        key in prop::sample::select(keys::all().collect::<Vec<_>>()),
    ) {
        let _ = Layers::new().file("f", &bytes).set(&option).build();
        let _ = Layers::new().set(&format!("{}={value}", key.name)).build();
        let _ = Layers::new().environment([(key.environment_variable(), value)]).build();
        let variable = (format!("SKEIN_{option}"), bytes_as_text(&bytes));
        let _ = Layers::new().environment([variable]).build();
    }
}

fn bytes_as_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
