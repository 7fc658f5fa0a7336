//! `skein config`: describe, alter, check, doc.
//!
//! Input: a topic, brokers, loggers or a group, changes; or a file. Output: keys with values and
//! where these are set; what is wrong with a file; the table of all keys.
//!
//! `check` and `doc` need no node: they read the table that a node reads
//! (`config/keys.rs`), so that they say what it would.
//!
//! Invariant: a change is made with all of its keys or with none (the broker's promise).

use std::io::Write;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};
use skein_client::{ConfigChange, ConfigDescription, ConfigOrigin, ConfigResource};
use skein_config::{DocumentFormat, Key, Layers, document_of, keys};
use skein_types::{BrokerId, TopicName};

use crate::arguments::{ClusterArguments, pair};
use crate::failure::Failure;
use crate::output::{self, Table, count};
use crate::secret;
use crate::serve::{read_file, variables};
use crate::session::{Session, with_client};
use crate::topic::topic_name;

const EXAMPLES: &str = "\
Examples:
  skein config describe --topic orders               what is set for the topic
  skein config alter --topic orders --set retention.ms=86400000
  skein config check server.properties               would a node start with it?
  skein config doc retention.ms                      what a key means

'skein config COMMAND --help' has more examples. 'check' and 'doc' need no node.";

const DESCRIBE_EXAMPLES: &str = "\
Examples:
  skein config describe --topic orders               what is set for the topic
  skein config describe --topic orders --all         every key, defaults too
  skein config describe --broker 1 log.segment.bytes num.io.threads
  skein config describe --brokers                    what all brokers were told while they run
  skein config describe --loggers 1                  what broker 1 logs
  skein config describe --broker 1 --all --json | jq -r '.[] | select(.read_only | not) | .key'";

const ALTER_EXAMPLES: &str = "\
Examples:
  skein config alter --topic orders --set retention.ms=86400000 --set segment.bytes=268435456
  skein config alter --topic orders --delete retention.ms          back to the default
  skein config alter --topic orders --append cleanup.policy=compact
  skein config alter --brokers --set log.retention.ms=86400000     for all, and kept
  skein config alter --loggers 1 --set skein_storage=DEBUG         until broker 1 ends
  skein config alter --topic orders --set durability=flushed --validate-only

All changes of one command are made, or none. 'skein config doc' lists the keys.";

const CHECK_EXAMPLES: &str = "\
Examples:
  skein config check server.properties
  skein config check server.properties --set log.dirs=/var/lib/skein --environment
  skein config check server.properties --json | jq -r '.errors[]'

The exit code is 2 if a node would not start with it. Nothing is looked at but the file, and the one
that cluster.secret.file names in it: whether a directory can be written or a port is free shows
when a node starts.";

const DOC_EXAMPLES: &str = "\
Examples:
  skein config doc                                   every key
  skein config doc log.segment.bytes segment.bytes
  skein config doc --markdown > keys.md
  skein config doc --json | jq '.[] | select(.dynamic) | .key'";

/// Arguments of `skein config`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ConfigArguments {
    #[command(subcommand)]
    command: ConfigCommand,
    #[command(flatten)]
    cluster: ClusterArguments,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Show the configuration of a topic, of brokers, loggers or a group.
    #[command(after_help = DESCRIBE_EXAMPLES)]
    Describe(Describe),
    /// Change the configuration of a topic, of brokers, loggers or a group.
    #[command(after_help = ALTER_EXAMPLES)]
    Alter(Alter),
    /// Say whether a node would start with a file, without a node.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Check),
    /// Explain the keys: type, default, values, where and when they may be set.
    #[command(after_help = DOC_EXAMPLES)]
    Doc(Doc),
}

/// Whose configuration.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("resource").required(true))]
struct Resource {
    /// A topic's
    #[arg(long, value_name = "TOPIC", group = "resource", value_parser = topic_name)]
    topic: Option<TopicName>,
    /// One broker's
    #[arg(long, value_name = "ID", group = "resource",
          value_parser = clap::value_parser!(i32).range(0..))]
    broker: Option<i32>,
    /// What all brokers have in common
    #[arg(long, group = "resource")]
    brokers: bool,
    /// The levels of one broker's loggers, until its process ends
    #[arg(long, value_name = "ID", group = "resource",
          value_parser = clap::value_parser!(i32).range(0..))]
    loggers: Option<i32>,
    /// A group's
    #[arg(long, value_name = "GROUP", group = "resource")]
    group: Option<String>,
}

impl Resource {
    fn resource(&self) -> ConfigResource {
        if let Some(topic) = &self.topic {
            ConfigResource::Topic(topic.clone())
        } else if let Some(id) = self.broker {
            ConfigResource::Broker(BrokerId(id))
        } else if let Some(id) = self.loggers {
            ConfigResource::Loggers(BrokerId(id))
        } else if let Some(group) = &self.group {
            ConfigResource::Group(group.clone())
        } else {
            ConfigResource::AllBrokers
        }
    }

    fn name(&self) -> String {
        match self.resource() {
            ConfigResource::Topic(topic) => format!("topic {topic}"),
            ConfigResource::Broker(id) => format!("broker {id}"),
            ConfigResource::AllBrokers => "all brokers".into(),
            ConfigResource::Loggers(id) => format!("loggers of broker {id}"),
            ConfigResource::Group(id) => format!("group {id}"),
        }
    }
}

#[derive(Debug, Args)]
struct Describe {
    #[command(flatten)]
    resource: Resource,
    /// Which keys; those that are set somewhere if none is named
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
    /// Every key, defaults too
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true))]
struct Alter {
    #[command(flatten)]
    resource: Resource,
    /// Give a key this value; may be given several times, as all of these
    #[arg(long, short, value_name = "KEY=VALUE", group = "change", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Take a key back to its default
    #[arg(long, value_name = "KEY", group = "change")]
    delete: Vec<String>,
    /// Add items to a key that is a list
    #[arg(long, value_name = "KEY=ITEMS", group = "change", value_parser = pair)]
    append: Vec<(String, String)>,
    /// Take items off a key that is a list
    #[arg(long, value_name = "KEY=ITEMS", group = "change", value_parser = pair)]
    subtract: Vec<(String, String)>,
    /// Only say whether it could be done
    #[arg(long)]
    validate_only: bool,
}

#[derive(Debug, Args)]
struct Check {
    /// A configuration file with Kafka's key names (server.properties)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Set a key besides, as for 'skein serve'; may be given several times
    #[arg(long, short, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Take the variables SKEIN_* of this environment into account
    #[arg(long)]
    environment: bool,
}

#[derive(Debug, Args)]
struct Doc {
    /// Which keys; all if none is named
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
    /// Tables in Markdown
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
}

/// Runs `skein config`.
pub(crate) fn run(arguments: ConfigArguments) -> Result<(), Failure> {
    let ConfigArguments { command, cluster } = arguments;
    match command {
        ConfigCommand::Describe(describe) => with_client(&cluster, |session| async move {
            run_describe(&session, &describe).await
        }),
        ConfigCommand::Alter(alter) => with_client(&cluster, |session| async move {
            run_alter(&session, alter).await
        }),
        ConfigCommand::Check(check) => run_check(&check, cluster.json),
        ConfigCommand::Doc(doc) => run_doc(&doc, cluster.json),
    }
}

async fn run_describe(session: &Session, describe: &Describe) -> Result<(), Failure> {
    let resource = describe.resource.resource();
    let mut found = session.client.admin().describe_configs(&resource).await?;
    if describe.keys.is_empty() {
        found.retain(|key| describe.all || key.origin != ConfigOrigin::Default);
    } else {
        for name in &describe.keys {
            if !found.iter().any(|key| key.name == *name) {
                let told = format!("{} has no key {name:?}", describe.resource.name());
                let failure = Failure::failed(told);
                return Err(match keys::nearest_to(name) {
                    Some(nearest) => failure.hint(format!("Did you mean {nearest:?}?")),
                    None => failure.hint("'skein config doc' lists the keys."),
                });
            }
        }
        found.retain(|key| describe.keys.contains(&key.name));
    }
    let mut out = output::stdout();
    if session.json {
        let values: Vec<_> = found.iter().map(description_json).collect();
        return output::json(&mut out, &Value::Array(values));
    }
    if found.is_empty() {
        let name = describe.resource.name();
        writeln!(out, "{name}: nothing is set; --all shows the defaults")?;
        return Ok(out.flush()?);
    }
    let mut table = Table::new(&["KEY", "VALUE", "SET FOR", "CHANGE"]);
    for key in &found {
        let value = match &key.value {
            Some(value) => value.clone(),
            None if key.is_sensitive => "(secret)".into(),
            None => "-".into(),
        };
        let change = if key.is_read_only {
            "at start"
        } else {
            "while running"
        };
        let origin = key.origin.name();
        table.row(vec![key.name.clone(), value, origin.into(), change.into()]);
    }
    table.write(&mut out, 0)?;
    Ok(out.flush()?)
}

fn description_json(key: &ConfigDescription) -> Value {
    json!({
        "key": key.name,
        "value": key.value,
        "origin": key.origin.name(),
        "read_only": key.is_read_only,
        "sensitive": key.is_sensitive,
        "documentation": key.documentation,
    })
}

async fn run_alter(session: &Session, alter: Alter) -> Result<(), Failure> {
    let with = |change: fn(String, String) -> ConfigChange| {
        move |(key, value): (String, String)| change(key, value)
    };
    let changes: Vec<_> = alter
        .set
        .into_iter()
        .map(with(ConfigChange::Set))
        .chain(alter.delete.into_iter().map(ConfigChange::Delete))
        .chain(alter.append.into_iter().map(with(ConfigChange::Append)))
        .chain(alter.subtract.into_iter().map(with(ConfigChange::Subtract)))
        .collect();
    let admin = session.client.admin();
    admin
        .alter_configs(&alter.resource.resource(), &changes, alter.validate_only)
        .await?;
    let what = if alter.validate_only {
        "could be changed"
    } else {
        "changed"
    };
    let name = alter.resource.name();
    let mut out = output::stdout();
    if session.json {
        return output::json(&mut out, &json!({ "resource": name, "result": what }));
    }
    let keys = count(changes.len() as u64, "key");
    writeln!(out, "{name}: {keys} {what}")?;
    Ok(out.flush()?)
}

fn run_check(check: &Check, json: bool) -> Result<(), Failure> {
    let path = check.file.display().to_string();
    let bytes = read_file(&check.file)
        .map_err(|error| Failure::wrong(format!("cannot read {path}: {error}")))?;
    let mut layers = Layers::new();
    if check.environment {
        layers = layers.environment(variables());
    }
    layers = layers.file(&path, &bytes);
    for option in &check.set {
        layers = layers.set(option);
    }
    let (errors, warnings): (Vec<_>, Vec<_>) = match layers.build() {
        Ok((config, warnings)) => {
            let error = secret::of_cluster(&config).err();
            let warnings = warnings.iter().map(ToString::to_string);
            let errors = error.iter().map(ToString::to_string);
            (errors.collect(), warnings.collect())
        }
        Err(errors) => {
            let errors = errors.0.iter().map(ToString::to_string);
            (errors.collect(), Vec::new())
        }
    };
    let mut out = output::stdout();
    if json {
        output::json(&mut out, &json!({ "errors": errors, "warnings": warnings }))?;
    } else {
        for warning in &warnings {
            writeln!(out, "warning: {warning}")?;
        }
        for error in &errors {
            writeln!(out, "error: {error}")?;
        }
        if errors.is_empty() {
            let warnings = count(warnings.len() as u64, "warning");
            writeln!(out, "{path}: a node starts with it ({warnings})")?;
        }
        out.flush()?;
    }
    match errors.len() {
        0 => Ok(()),
        errors => Err(Failure::wrong(format!(
            "{path}: {}",
            count(errors as u64, "error")
        ))),
    }
}

fn run_doc(doc: &Doc, json: bool) -> Result<(), Failure> {
    for name in &doc.keys {
        if !keys::all().any(|key| key.name == name) {
            let failure = Failure::wrong(format!("there is no key {name:?}"));
            return Err(match keys::nearest_to(name) {
                Some(nearest) => failure.hint(format!("Did you mean {nearest:?}?")),
                None => failure,
            });
        }
    }
    let is_wanted = |key: &Key| match doc.keys.is_empty() {
        true => !key.internal,
        false => doc.keys.iter().any(|name| name == key.name),
    };
    let mut out = output::stdout();
    if json {
        let values: Vec<_> = keys::all()
            .filter(|key| is_wanted(key))
            .map(key_json)
            .collect();
        return output::json(&mut out, &Value::Array(values));
    }
    let format = if doc.markdown {
        DocumentFormat::Markdown
    } else {
        DocumentFormat::Plain
    };
    write!(out, "{}", document_of(format, &is_wanted))?;
    Ok(out.flush()?)
}

fn key_json(key: &Key) -> Value {
    json!({
        "key": key.name,
        "type": key.config_type.name(),
        "default": key.default_in_words(),
        "values": key.allowed_values(),
        "broker": key.is_broker(),
        "topic": key.is_topic(),
        "group": key.is_group(),
        "dynamic": key.dynamic,
        "in_effect": key.in_effect,
        "environment": key.is_broker().then(|| key.environment_variable()),
        "documentation": key.documentation(),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::arguments::Arguments;

    #[test]
    fn a_configuration_belongs_to_one_resource_and_a_change_changes_something() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' ')).map(drop);
        for line in [
            "skein config describe",
            "skein config describe --topic t --broker 1",
            "skein config describe --broker -1",
            "skein config alter --topic t",
            "skein config alter --set a=1",
            "skein config alter --topic t --set a",
            "skein config check",
            "skein config doc --markdown --json",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
        for line in [
            "skein config describe --topic t retention.ms",
            "skein config describe --brokers --all --json",
            "skein config alter --broker 1 --set a=1 --delete b --append c=d --subtract e=f",
            "skein config alter --loggers 1 --set root=WARN",
            "skein config describe --group g --all",
            "skein config doc a b --markdown",
        ] {
            parse(line).unwrap();
        }
    }
}
