//! The loggers of this broker, as a resource with a configuration: levels by names.
//!
//! Input: what IncrementalAlterConfigs and DescribeConfigs ask of the resource. Output: changed
//! levels, or why not; the levels.
//!
//! Invariants: all changes of a request are made or none; nothing of them is in the metadata, so
//! that the next process begins with the levels of its start.
//!
//! Source: KIP-412; `RuntimeLoggerManager` of Kafka 4.1 for what is refused with which code.

use std::collections::BTreeSet;

use skein_config::{AlterOp, ConfigSource};
use skein_controller::{ConfigChange, KeyAlteration, Refusal};
use skein_env::{LogLevel, Loggers, ROOT_LOGGER};
use skein_protocol::Str;
use skein_protocol::messages::describe_configs::DescribeConfigsResourceResult;
use skein_types::{BrokerId, ErrorCode};

use super::create_topics::duplicates;

/// The type of the resource, as Kafka numbers it.
pub(super) const BROKER_LOGGER: i8 = 8;

/// Kafka's names of levels. What log4j calls fatal is an error here.
const LEVELS: [(&str, LogLevel); 6] = [
    ("TRACE", LogLevel::Trace),
    ("DEBUG", LogLevel::Debug),
    ("INFO", LogLevel::Info),
    ("WARN", LogLevel::Warn),
    ("ERROR", LogLevel::Error),
    ("FATAL", LogLevel::Error),
];

/// Loggers with the levels that they get; without one, that of the start.
type Changes = Vec<(String, Option<LogLevel>)>;

/// Whether the name of a resource of one broker is that of broker `this`.
pub(super) fn require_this_broker(this: BrokerId, name: &str) -> Result<(), Refusal> {
    match name.parse() {
        Ok(id) if BrokerId(id) == this => Ok(()),
        Ok(id) => Err(invalid(format!(
            "this is broker {this}; broker {id} answers for its own settings"
        ))),
        Err(_) => Err(invalid(format!("{name:?} is no broker id"))),
    }
}

/// The loggers with their levels; of those in `names`, or all.
pub(super) fn describe(
    loggers: &dyn Loggers,
    names: Option<&[String]>,
) -> Vec<DescribeConfigsResourceResult> {
    let is_asked_for = |name: &String| names.is_none_or(|names| names.contains(name));
    let levels = loggers.levels().into_iter();
    let levels = levels.filter(|(name, _)| is_asked_for(name));
    let entry = |(name, level): (String, LogLevel)| {
        let word = LEVELS.iter().find(|(_, known)| *known == level);
        DescribeConfigsResourceResult {
            name: name.into(),
            value: Some(Str::from_static(word.map_or("OFF", |(word, _)| word))),
            config_source: ConfigSource::DynamicBrokerLogger.code(),
            ..Default::default()
        }
    };
    levels.map(entry).collect()
}

/// Changes levels, or with `validate_only` says whether it would.
pub(super) fn alter(
    loggers: &dyn Loggers,
    change: &ConfigChange,
    validate_only: bool,
) -> Result<(), Refusal> {
    let ConfigChange::Keys(alterations) = change else {
        let message = "the levels of loggers are changed one by one, with IncrementalAlterConfigs";
        return Err(invalid(message));
    };
    let changes = check(alterations, &loggers.levels())?;
    if !validate_only {
        loggers.set(&changes);
        tracing::warn!(?changes, "levels of loggers were changed");
    }
    Ok(())
}

fn check(alterations: &[KeyAlteration], levels: &[(String, LogLevel)]) -> Result<Changes, Refusal> {
    let names: BTreeSet<_> = levels.iter().map(|(name, _)| name).collect();
    let twice = duplicates(alterations.iter().map(|one| one.key.as_str()));
    if let Some(twice) = twice.first() {
        return Err(invalid(format!("the request names logger {twice:?} twice")));
    }
    let is_delete = |one: &KeyAlteration| one.operation == AlterOp::Delete.code();
    if let Some(null) = (alterations.iter()).find(|one| one.value.is_none() && !is_delete(one)) {
        return Err(invalid(format!("logger {:?} needs a level", null.key)));
    }
    let mut changes = Changes::new();
    for KeyAlteration {
        key,
        operation,
        value,
    } in alterations
    {
        let is_set = match AlterOp::from_code(*operation) {
            Some(AlterOp::Set) => true,
            Some(AlterOp::Delete) => false,
            _ => return Err(invalid("the level of a logger can be set or deleted only")),
        };
        if !names.contains(key) {
            return Err(not_taken(format!("there is no logger {key:?}")));
        }
        if !is_set && key == ROOT_LOGGER {
            return Err(invalid("the root logger keeps a level: set it instead"));
        }
        let level = value.as_deref().filter(|_| is_set);
        changes.push((key.clone(), level.map(level_of).transpose()?));
    }
    Ok(changes)
}

fn level_of(word: &str) -> Result<LogLevel, Refusal> {
    let level = LEVELS.iter().find(|(known, _)| *known == word);
    level.map(|(_, level)| *level).ok_or_else(|| {
        let known = LEVELS.map(|(word, _)| word).join(", ");
        not_taken(format!("{word:?} is no log level: expected one of {known}"))
    })
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, message)
}

fn not_taken(message: String) -> Refusal {
    Refusal::new(ErrorCode::InvalidConfig, message)
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// A root, and one logger that begins with a level of its own.
    struct TwoLoggers(Mutex<[LogLevel; 2]>);

    const NAMES: [&str; 2] = [ROOT_LOGGER, "storage"];
    const BEGAN: [LogLevel; 2] = [LogLevel::Info, LogLevel::Off];

    impl Loggers for TwoLoggers {
        fn levels(&self) -> Vec<(String, LogLevel)> {
            let levels = NAMES.map(str::to_owned).into_iter();
            levels.zip(*self.0.lock()).collect()
        }

        fn set(&self, changes: &[(String, Option<LogLevel>)]) {
            for (name, level) in changes {
                let index = NAMES.iter().position(|known| known == name).unwrap();
                self.0.lock()[index] = level.unwrap_or(BEGAN[index]);
            }
        }
    }

    fn change(operation: i8, name: &str, level: Option<&str>) -> KeyAlteration {
        KeyAlteration {
            key: name.to_owned(),
            operation,
            value: level.map(str::to_owned),
        }
    }

    fn told(loggers: &TwoLoggers, names: Option<&[String]>) -> Vec<(String, String)> {
        let entries = describe(loggers, names).into_iter();
        let entries =
            entries.inspect(|entry| assert_eq!((entry.config_source, entry.read_only), (6, false)));
        entries
            .map(|entry| (entry.name.into(), entry.value.unwrap().into()))
            .collect()
    }

    #[test]
    fn levels_are_set_told_and_given_back() {
        let loggers = TwoLoggers(Mutex::new(BEGAN));
        let is = |root: &str, storage: &str| {
            let levels = [root, storage].map(str::to_owned).into_iter();
            let all: Vec<_> = NAMES.map(str::to_owned).into_iter().zip(levels).collect();
            assert_eq!(told(&loggers, None), all);
            let storage = vec!["storage".to_owned(), "absent".to_owned()];
            assert_eq!(told(&loggers, Some(&storage)), all[1..]);
        };
        is("INFO", "OFF");
        let set = ConfigChange::Keys(vec![
            change(0, "root", Some("FATAL")),
            change(0, "storage", Some("TRACE")),
        ]);
        alter(&loggers, &set, true).unwrap();
        is("INFO", "OFF");
        alter(&loggers, &set, false).unwrap();
        is("ERROR", "TRACE");
        let delete = ConfigChange::Keys(vec![change(1, "storage", None)]);
        alter(&loggers, &delete, false).unwrap();
        is("ERROR", "OFF");
    }

    #[test]
    fn what_is_refused_changes_nothing() {
        let loggers = TwoLoggers(Mutex::new(BEGAN));
        let (bad_request, bad_config) = (ErrorCode::InvalidRequest, ErrorCode::InvalidConfig);
        let good = change(0, "storage", Some("DEBUG"));
        for (wrong, expected) in [
            (change(0, "absent", Some("DEBUG")), bad_config),
            (change(1, "absent", None), bad_config),
            (change(0, "root", Some("debug")), bad_config),
            (change(0, "root", Some("OFF")), bad_config),
            (change(0, "root", None), bad_request),
            (change(1, "root", None), bad_request),
            (change(2, "root", Some("DEBUG")), bad_request),
            (change(3, "root", Some("DEBUG")), bad_request),
            (change(7, "root", Some("DEBUG")), bad_request),
            (good.clone(), bad_request),
        ] {
            let text = format!("{wrong:?}");
            let both = ConfigChange::Keys(vec![good.clone(), wrong]);
            let refusal = alter(&loggers, &both, false).unwrap_err();
            assert_eq!(refusal.code, expected, "{text}: {refusal}");
        }
        let whole = ConfigChange::Whole(vec![("root".to_owned(), Some("DEBUG".to_owned()))]);
        let refusal = alter(&loggers, &whole, false).unwrap_err();
        assert_eq!(refusal.code, bad_request);
        assert_eq!(*loggers.0.lock(), BEGAN);
    }
}
