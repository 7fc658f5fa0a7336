//! `skein topic`: create, list, describe, alter, delete.
//!
//! Input: options. Output: a table or JSON; nothing but a sentence for changes.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::RangeInclusive;

use clap::{Args, Subcommand};
use serde_json::json;
use skein_client::{
    Admin, ClientError, ConfigChange, ConfigDescription, ConfigOrigin, ConfigResource,
    IsolationLevel, NewTopic, OffsetSpec, Topic,
};
use skein_types::{BrokerId, Offset, TopicName, TopicPartition};

use crate::arguments::{ClusterArguments, pair};
use crate::failure::Failure;
use crate::output::{self, Table, count};
use crate::session::{Session, with_client};

/// What the protocol's numbers hold.
const PARTITIONS_RANGE: RangeInclusive<i64> = 1..=i32::MAX as i64;
const REPLICAS_RANGE: RangeInclusive<i64> = 1..=i16::MAX as i64;

const EXAMPLES: &str = "\
Examples:
  skein topic create orders --partitions 6
  skein topic list
  skein topic describe orders                        leaders, replicas, offsets
  skein topic alter orders --partitions 12 --config retention.ms=86400000
  skein topic delete orders

'skein topic COMMAND --help' has more examples.";

const CREATE_EXAMPLES: &str = "\
Examples:
  skein topic create orders                          the cluster's default partitions and replicas
  skein topic create orders --partitions 6 --replication-factor 3
  skein topic create audit --config retention.ms=-1 --config durability=flushed
  skein topic create state --config cleanup.policy=compact --validate-only";

const ALTER_EXAMPLES: &str = "\
Examples:
  skein topic alter orders --partitions 12           there can only be more, never fewer
  skein topic alter orders --config retention.ms=86400000
  skein topic alter orders --delete-config retention.ms

New partitions change where keys go: 'same key, same partition' holds from then on only.";

const LIST_EXAMPLES: &str = "\
Examples:
  skein topic list
  skein topic list --internal                        the cluster's own too
  skein topic list --json | jq -r '.[].topic'";

const DELETE_EXAMPLES: &str = "\
Examples:
  skein topic delete orders
  skein topic delete orders audit --if-exists";

const DESCRIBE_EXAMPLES: &str = "\
Examples:
  skein topic describe orders
  skein topic describe orders --all-configs          defaults too
  skein topic describe --json | jq '.[].partitions[].leader'";

/// Arguments of `skein topic`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TopicArguments {
    #[command(subcommand)]
    command: TopicCommand,
    #[command(flatten)]
    pub(crate) cluster: ClusterArguments,
}

#[derive(Debug, Subcommand)]
enum TopicCommand {
    /// Create a topic.
    #[command(after_help = CREATE_EXAMPLES)]
    Create(Create),
    /// List the topics.
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// The cluster's own topics too
        #[arg(long)]
        internal: bool,
    },
    /// Show partitions, replicas, offsets and configuration.
    #[command(after_help = DESCRIBE_EXAMPLES)]
    Describe {
        /// Which topics; all if none is named
        #[arg(value_name = "TOPIC", value_parser = topic_name)]
        topics: Vec<TopicName>,
        /// Every key of the configuration, not only those set for the topic
        #[arg(long)]
        all_configs: bool,
    },
    /// Add partitions, change the configuration.
    #[command(after_help = ALTER_EXAMPLES)]
    Alter(Alter),
    /// Delete topics with all of their records.
    #[command(after_help = DELETE_EXAMPLES)]
    Delete {
        /// Which topics
        #[arg(value_name = "TOPIC", required = true, value_parser = topic_name)]
        topics: Vec<TopicName>,
        /// It is no error if a topic does not exist
        #[arg(long)]
        if_exists: bool,
    },
}

#[derive(Debug, Args)]
struct Create {
    /// Its name: letters, digits, '.', '_' and '-', at most 249
    #[arg(value_name = "TOPIC", value_parser = topic_name)]
    topic: TopicName,
    /// How many partitions; the cluster's num.partitions if not given
    #[arg(
        long,
        short,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(PARTITIONS_RANGE)
    )]
    partitions: Option<u32>,
    /// On how many brokers; the cluster's default.replication.factor if not given
    #[arg(
        long,
        short,
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(REPLICAS_RANGE)
    )]
    replication_factor: Option<u16>,
    /// A key of the topic's configuration; may be given several times
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = pair)]
    config: Vec<(String, String)>,
    /// It is no error if the topic exists
    #[arg(long)]
    if_not_exists: bool,
    /// Only say whether it could be created
    #[arg(long)]
    validate_only: bool,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
struct Alter {
    /// Which topic
    #[arg(value_name = "TOPIC", value_parser = topic_name)]
    topic: TopicName,
    /// How many partitions there are to be
    #[arg(
        long,
        short,
        value_name = "N",
        group = "change",
        value_parser = clap::value_parser!(u32).range(PARTITIONS_RANGE)
    )]
    partitions: Option<u32>,
    /// Set a key of the configuration; may be given several times
    #[arg(long, short, value_name = "KEY=VALUE", group = "change", value_parser = pair)]
    config: Vec<(String, String)>,
    /// Take a key back to its default; may be given several times
    #[arg(long, value_name = "KEY", group = "change")]
    delete_config: Vec<String>,
    /// Only say whether it could be done
    #[arg(long)]
    validate_only: bool,
}

/// A topic's name, checked as a broker would.
pub(crate) fn topic_name(text: &str) -> Result<TopicName, String> {
    TopicName::new(text).map_err(|error| error.to_string())
}

/// Runs `skein topic`.
pub(crate) fn run(arguments: TopicArguments) -> Result<(), Failure> {
    let TopicArguments { command, cluster } = arguments;
    with_client(&cluster, |session| async move {
        match command {
            TopicCommand::Create(create) => run_create(&session, create).await,
            TopicCommand::List { internal } => run_list(&session, internal).await,
            TopicCommand::Describe {
                topics,
                all_configs,
            } => run_describe(&session, topics, all_configs).await,
            TopicCommand::Alter(alter) => run_alter(&session, alter).await,
            TopicCommand::Delete { topics, if_exists } => {
                run_delete(&session, topics, if_exists).await
            }
        }
    })
}

/// Says that a change was made.
fn done(session: &Session, topic: &TopicName, what: &str) -> Result<(), Failure> {
    let mut out = output::stdout();
    if session.json {
        return output::json(
            &mut out,
            &json!({ "topic": topic.as_str(), "result": what }),
        );
    }
    writeln!(out, "topic {topic}: {what}")?;
    Ok(out.flush()?)
}

async fn run_create(session: &Session, create: Create) -> Result<(), Failure> {
    let topic = NewTopic {
        name: create.topic,
        partitions: create.partitions,
        replication_factor: create.replication_factor,
        configs: create.config,
    };
    let created = session
        .client
        .admin()
        .create_topic(&topic, create.validate_only)
        .await;
    let what = match created {
        Ok(()) if create.validate_only => "could be created",
        Ok(()) => "created",
        Err(error)
            if create.if_not_exists
                && error.code() == Some(skein_types::ErrorCode::TopicAlreadyExists) =>
        {
            "exists already"
        }
        Err(error) => return Err(error.into()),
    };
    done(session, &topic.name, what)
}

async fn run_list(session: &Session, internal: bool) -> Result<(), Failure> {
    let topics = session.client.admin().list_topics().await?;
    let topics = topics
        .iter()
        .filter(|(_, topic)| internal || !topic.is_internal);
    let mut out = output::stdout();
    if session.json {
        let topics = topics.map(|(name, topic)| {
            json!({
                "topic": name.as_str(),
                "topic_id": topic.id.to_string(),
                "partitions": topic.partitions.len(),
                "replication_factor": replication_factor(topic),
                "internal": topic.is_internal,
            })
        });
        return output::json(&mut out, &topics.collect());
    }
    let mut table = Table::new(&["TOPIC", "PARTITIONS", "REPLICAS", "STATE"]);
    for (name, topic) in topics {
        table.row(vec![
            name.to_string(),
            topic.partitions.len().to_string(),
            replication_factor(topic).to_string(),
            state(topic),
        ]);
    }
    if table.is_empty() {
        // For people only: an empty list is an answer, not an error.
        writeln!(
            out,
            "There are no topics. 'skein topic create NAME' makes one."
        )?;
    } else {
        table.write(&mut out, 0)?;
    }
    Ok(out.flush()?)
}

fn replication_factor(topic: &Topic) -> usize {
    topic
        .partitions
        .values()
        .map(|partition| partition.replicas.len())
        .max()
        .unwrap_or(0)
}

/// What is wrong with the topic's partitions, or that nothing is.
fn state(topic: &Topic) -> String {
    let partitions = topic.partitions.values();
    let leaderless = partitions
        .clone()
        .filter(|one| one.leader.is_none())
        .count() as u64;
    let short = partitions
        .filter(|one| one.isr.len() < one.replicas.len())
        .count() as u64;
    match (leaderless, short) {
        (0, 0) => "ok".into(),
        (0, short) => format!("{} under-replicated", count(short, "partition")),
        (leaderless, _) => format!("{} without a leader", count(leaderless, "partition")),
    }
}

async fn run_describe(
    session: &Session,
    mut topics: Vec<TopicName>,
    all_configs: bool,
) -> Result<(), Failure> {
    let admin = session.client.admin();
    if topics.is_empty() {
        let all = admin.list_topics().await?;
        topics = all
            .into_iter()
            .filter(|(_, one)| !one.is_internal)
            .map(|(name, _)| name)
            .collect();
    }
    let mut out = output::stdout();
    let mut values = Vec::new();
    for (index, name) in topics.iter().enumerate() {
        let described = Described::of(&admin, name, all_configs).await?;
        if session.json {
            values.push(described.json());
            continue;
        }
        if index > 0 {
            writeln!(out)?;
        }
        described.write(&mut out)?;
    }
    if session.json {
        return output::json(&mut out, &values.into());
    }
    Ok(out.flush()?)
}

/// All that is shown of one topic.
struct Described {
    name: TopicName,
    topic: Topic,
    earliest: BTreeMap<TopicPartition, Offset>,
    latest: BTreeMap<TopicPartition, Offset>,
    configs: Vec<ConfigDescription>,
}

/// Offsets by partition.
type Offsets = BTreeMap<TopicPartition, Offset>;

/// First and next offset of the partitions that have a leader.
async fn offsets(
    admin: &Admin,
    name: &TopicName,
    topic: &Topic,
) -> Result<(Offsets, Offsets), ClientError> {
    let ask = async |spec: OffsetSpec| {
        let led = topic.partitions.iter();
        let led = led.filter(|(_, partition)| partition.leader.is_some());
        let wanted = led.map(|(index, _)| {
            let partition = TopicPartition {
                topic: name.clone(),
                partition: *index,
            };
            (partition, spec)
        });
        let level = IsolationLevel::ReadUncommitted;
        let found = admin.list_offsets(&wanted.collect(), level).await?;
        let offsets = found.into_iter();
        Ok(offsets
            .map(|(partition, found)| (partition, found.offset))
            .collect())
    };
    Ok((
        ask(OffsetSpec::Earliest).await?,
        ask(OffsetSpec::Latest).await?,
    ))
}

impl Described {
    async fn of(admin: &Admin, name: &TopicName, all_configs: bool) -> Result<Self, Failure> {
        let mut configs = admin
            .describe_configs(&ConfigResource::Topic(name.clone()))
            .await?;
        configs.retain(|key| all_configs || key.origin == ConfigOrigin::Topic);
        let mut topic = admin.describe_topic(name).await?;
        let (earliest, latest) = loop {
            let error = match offsets(admin, name, &topic).await {
                Ok(offsets) => break offsets,
                Err(error) => error,
            };
            // It had a leader a moment ago. What there is of the others is told all the same.
            let lost = match &error {
                ClientError::Offline { partition, .. } => partition.partition,
                _ => return Err(error.into()),
            };
            match topic.partitions.get_mut(&lost) {
                Some(partition) if partition.leader.is_some() => partition.leader = None,
                _ => return Err(error.into()),
            }
        };
        Ok(Self {
            name: name.clone(),
            earliest,
            latest,
            configs,
            topic,
        })
    }

    /// Index, partition, first and next offset of each partition.
    fn rows(&self) -> impl Iterator<Item = (&skein_client::Partition, TopicPartition)> {
        self.topic.partitions.iter().map(|(index, partition)| {
            let name = TopicPartition {
                topic: self.name.clone(),
                partition: *index,
            };
            (partition, name)
        })
    }

    fn json(&self) -> serde_json::Value {
        let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
        let partitions = self.rows().map(|(partition, name)| {
            json!({
                "partition": name.partition.0,
                "leader": partition.leader.map(|id| id.0),
                "leader_epoch": partition.leader_epoch.0,
                "replicas": ids(&partition.replicas),
                "isr": ids(&partition.isr),
                "offline_replicas": ids(&partition.offline_replicas),
                "log_start_offset": self.earliest.get(&name).map(|offset| offset.0),
                "high_watermark": self.latest.get(&name).map(|offset| offset.0),
            })
        });
        let configs = self
            .configs
            .iter()
            .map(|key| json!({ "key": key.name, "value": key.value, "origin": key.origin.name() }));
        json!({
            "topic": self.name.as_str(),
            "topic_id": self.topic.id.to_string(),
            "internal": self.topic.is_internal,
            "partitions": partitions.collect::<Vec<_>>(),
            "configs": configs.collect::<Vec<_>>(),
        })
    }

    fn write(&self, out: &mut impl Write) -> Result<(), Failure> {
        let partitions = count(self.topic.partitions.len() as u64, "partition");
        let replicas = count(replication_factor(&self.topic) as u64, "replica");
        let (name, id, state) = (&self.name, self.topic.id, state(&self.topic));
        writeln!(
            out,
            "topic {name}  {partitions}, {replicas} each, id {id}, {state}"
        )?;
        let mut table = Table::new(&[
            "PARTITION",
            "LEADER",
            "EPOCH",
            "REPLICAS",
            "ISR",
            "FIRST",
            "NEXT",
        ]);
        let ids = |ids: &[BrokerId]| {
            let ids: Vec<_> = ids.iter().map(BrokerId::to_string).collect();
            ids.join(",")
        };
        let text = |offset: Option<&Offset>| offset.map_or("-".into(), Offset::to_string);
        for (partition, name) in self.rows() {
            table.row(vec![
                name.partition.to_string(),
                partition.leader.map_or("none".into(), |id| id.to_string()),
                partition.leader_epoch.to_string(),
                ids(&partition.replicas),
                ids(&partition.isr),
                text(self.earliest.get(&name)),
                text(self.latest.get(&name)),
            ]);
        }
        table.write(out, 2)?;
        if self.configs.is_empty() {
            return Ok(());
        }
        let mut table = Table::new(&["KEY", "VALUE", "SET FOR"]);
        for key in &self.configs {
            let value = match &key.value {
                Some(value) => value.clone(),
                None if key.is_sensitive => "(secret)".into(),
                None => "-".into(),
            };
            table.row(vec![key.name.clone(), value, key.origin.name().into()]);
        }
        Ok(table.write(out, 2)?)
    }
}

async fn run_alter(session: &Session, alter: Alter) -> Result<(), Failure> {
    let admin = session.client.admin();
    let set = alter
        .config
        .into_iter()
        .map(|(key, value)| ConfigChange::Set(key, value));
    let changes: Vec<_> = set
        .chain(alter.delete_config.into_iter().map(ConfigChange::Delete))
        .collect();
    // The configuration first: if that is refused, nothing has been done.
    if !changes.is_empty() {
        let resource = ConfigResource::Topic(alter.topic.clone());
        admin
            .alter_configs(&resource, &changes, alter.validate_only)
            .await?;
    }
    if let Some(partitions) = alter.partitions {
        admin
            .create_partitions(&alter.topic, partitions, alter.validate_only)
            .await?;
    }
    let what = if alter.validate_only {
        "could be changed"
    } else {
        "changed"
    };
    done(session, &alter.topic, what)
}

async fn run_delete(
    session: &Session,
    topics: Vec<TopicName>,
    if_exists: bool,
) -> Result<(), Failure> {
    let admin = session.client.admin();
    for topic in topics {
        let what = match admin.delete_topic(&topic).await {
            Ok(()) => "deleted",
            Err(error)
                if if_exists
                    && error.code() == Some(skein_types::ErrorCode::UnknownTopicOrPartition) =>
            {
                "did not exist"
            }
            Err(error) => return Err(error.into()),
        };
        done(session, &topic, what)?;
    }
    Ok(())
}
