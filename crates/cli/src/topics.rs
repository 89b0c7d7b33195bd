//! `flotilla topic`.

use crate::args::{OutputArgument, duration, pair, size};
use crate::confirm::confirm;
use crate::exit::Failed;
use crate::offset::Point;
use crate::output::{Column, Output, Shape, helped, print, print_one};
use crate::session::Session;
use clap::{Args, Subcommand};
use flotilla_client::admin::{PartitionState, Topic};
use flotilla_client::{Admin, Isolation, NewTopic, OffsetQuery, TopicUpdate};
use flotilla_types::bytesize::ByteSize;
use flotilla_types::topic::{Retention, TopicConfig};
use flotilla_types::{Offset, PartitionId, duration as durations};
use serde_json::{Value, json};
use std::time::Duration;

/// `flotilla topic`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// All topics
    List {
        #[command(flatten)]
        #[expect(missing_docs, reason = "said there")]
        output: OutputArgument,
    },
    /// One topic
    Describe {
        /// Its name
        #[arg(add = crate::completion::topics())]
        topic: String,
        /// Its partitions instead of its settings
        #[arg(short = 'p', long)]
        partitions: bool,
        #[command(flatten)]
        #[expect(missing_docs, reason = "said there")]
        output: OutputArgument,
    },
    /// Make a topic
    Create(CreateArguments),
    /// Change a topic's settings, labels or number of partitions
    Update(UpdateArguments),
    /// Delete a topic with all its records
    Delete {
        /// Its name
        #[arg(add = crate::completion::topics())]
        topic: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// It is fine if there is no such topic
        #[arg(long)]
        if_exists: bool,
    },
    /// Where each partition starts and ends, or was at some time
    Offsets {
        /// The topic
        #[arg(add = crate::completion::topics())]
        topic: String,
        /// The first offset at or after this time: 2026-11-01T10:00Z, -1h
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        at: Option<String>,
        #[command(flatten)]
        #[expect(missing_docs, reason = "said there")]
        output: OutputArgument,
    },
    /// Remove records below an offset
    Trim {
        /// The topic
        #[arg(add = crate::completion::topics())]
        topic: String,
        /// The first offset to keep: end, N, -N, @TIME
        #[arg(long, value_name = "OFFSET", allow_hyphen_values = true)]
        before: String,
        /// Only these partitions
        #[arg(short = 'p', long = "partition", value_delimiter = ',', value_name = "N")]
        partitions: Vec<u32>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Say what would be removed, and remove nothing
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        #[expect(missing_docs, reason = "said there")]
        output: OutputArgument,
    },
}

/// `flotilla topic create`.
#[derive(Debug, Args)]
pub struct CreateArguments {
    /// Its name: 1 to 249 of A-Z a-z 0-9 . _ -
    topic: String,
    /// How many partitions
    #[arg(short = 'p', long, default_value_t = 1)]
    partitions: u32,
    /// How many replicas of each (0 = the cluster's default)
    #[arg(short = 'r', long, default_value_t = 0)]
    replication_factor: u32,
    #[command(flatten)]
    settings: Settings,
    /// A label
    #[arg(long = "label", value_parser = pair, value_name = "KEY=VALUE")]
    labels: Vec<(String, String)>,
    /// It is fine if the topic is there already
    #[arg(long)]
    if_not_exists: bool,
    /// Check, and make nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgument,
}

/// `flotilla topic update`.
#[derive(Debug, Args)]
pub struct UpdateArguments {
    /// Its name
    #[arg(add = crate::completion::topics())]
    topic: String,
    /// New number of partitions; it only grows, and keys move
    #[arg(short = 'p', long)]
    partitions: Option<u32>,
    #[command(flatten)]
    settings: Settings,
    /// The labels, all of them
    #[arg(long = "label", value_parser = pair, value_name = "KEY=VALUE")]
    labels: Vec<(String, String)>,
    /// Back to the default: retention, retention_bytes, max_batch_bytes, dedup_window
    #[arg(long, value_delimiter = ',', value_name = "SETTING")]
    unset: Vec<String>,
    /// Check, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgument,
}

/// A topic's settings on the command line.
#[derive(Debug, Args)]
struct Settings {
    /// How long records are kept: 7d, 12h, unlimited
    #[arg(long, value_parser = retention, value_name = "TIME")]
    retention: Option<Retention>,
    /// How many bytes are kept per partition: 10GiB
    #[arg(long, value_parser = size, value_name = "SIZE")]
    retention_bytes: Option<ByteSize>,
    /// The largest batch: 1KiB to 8MiB
    #[arg(long, value_parser = size, value_name = "SIZE")]
    max_batch_bytes: Option<ByteSize>,
    /// How long message ids are remembered: 10m
    #[arg(long, value_parser = duration, value_name = "TIME")]
    dedup_window: Option<Duration>,
}

impl Command {
    /// How the answer is printed.
    pub fn output(&self) -> Output {
        match self {
            Self::List { output }
            | Self::Describe { output, .. }
            | Self::Offsets { output, .. }
            | Self::Trim { output, .. } => output.output,
            Self::Create(arguments) => arguments.output.output,
            Self::Update(arguments) => arguments.output.output,
            Self::Delete { .. } => Output::Table,
        }
    }
}

const TOPIC: Shape = Shape {
    what: "a topic",
    columns: &[
        Column::new("topic", "its name"),
        Column::new("partition_count", "how many partitions it has"),
        Column::new("replication_factor", "how many replicas each should have"),
        Column::new("config.retention", "how long records are kept"),
        Column::new("config.retention_bytes", "bytes kept per partition, absent = no limit"),
        Column::wide("config.max_batch_bytes", "the largest batch"),
        Column::wide("config.dedup_window", "how long message ids are remembered, absent = not at all"),
        Column::wide("labels", "for people and programs"),
        Column::wide("topic_id", "this life of the topic"),
        Column::new("create_time", "when it was made"),
    ],
};

/// Also what `cluster partitions` prints.
pub(crate) const PARTITION: Shape = Shape {
    what: "a partition",
    columns: &[
        Column::new("topic", "its topic"),
        Column::new("partition", "its place in the topic"),
        Column::new("leader_node_id", "who leads it, 0 = nobody now"),
        Column::new("leader_epoch", "the leadership"),
        Column::new("replica_node_ids", "where it is"),
        Column::new("offline_node_ids", "replicas that do not answer"),
        Column::new("log_start_offset", "the first offset kept"),
        Column::new("high_watermark", "the end of what readers see"),
        Column::wide("last_stable_offset", "the end of what committed-only readers see"),
        Column::wide("log_end_offset", "the end of what the leader has"),
        Column::wide("size_bytes", "bytes kept"),
    ],
};

const OFFSETS: Shape = Shape {
    what: "a partition's offsets",
    columns: &[
        Column::new("topic", "the topic"),
        Column::new("partition", "the partition"),
        Column::new("log_start_offset", "the first offset kept"),
        Column::new("high_watermark", "the end of what readers see"),
        Column::new("records", "how many there are"),
        Column::new("offset_at", "the first offset at or after the time, if one was given"),
    ],
};

const TRIMMED: Shape = Shape {
    what: "a partition that was trimmed, or not",
    columns: &[
        Column::new("topic", "the topic"),
        Column::new("partition", "the partition"),
        Column::new("before_offset", "the first offset to keep"),
        Column::new("error", "why it was not trimmed, if it was not"),
    ],
};

fn retention(text: &str) -> Result<Retention, String> {
    match text {
        "unlimited" | "-1" => Ok(Retention::Unlimited),
        text => duration(text).map(Retention::For),
    }
}

impl Settings {
    fn config(&self) -> TopicConfig {
        TopicConfig {
            retention: self.retention,
            retention_bytes: self.retention_bytes.map(|size| size.0),
            max_batch_bytes: self.max_batch_bytes.map(|size| u32::try_from(size.0).unwrap_or(u32::MAX)),
            dedup_window: self.dedup_window,
            trace_sample_ratio: None,
        }
    }

    fn named(&self) -> Vec<&'static str> {
        let given = [
            ("retention", self.retention.is_some()),
            ("retention_bytes", self.retention_bytes.is_some()),
            ("max_batch_bytes", self.max_batch_bytes.is_some()),
            ("dedup_window", self.dedup_window.is_some()),
        ];
        given.into_iter().filter_map(|(name, given)| given.then_some(name)).collect()
    }
}

fn topic_row(topic: &Topic) -> Value {
    let resolved = topic.config.resolved();
    json!({
        "topic": topic.topic,
        "topic_id": topic.topic_id,
        "partition_count": topic.partition_count,
        "replication_factor": topic.replication_factor,
        "config": {
            "retention": resolved.retention.map_or("unlimited".to_owned(), durations::format),
            "retention_bytes": resolved.retention_bytes,
            "max_batch_bytes": resolved.max_batch_bytes,
            "dedup_window": resolved.dedup_window.map(durations::format),
        },
        "labels": topic.labels,
        "create_time": time(topic.create_time),
    })
}

fn time(ms: i64) -> Value {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(time) if ms > 0 => json!(time.to_string()),
        _ => Value::Null,
    }
}

/// A partition as every command prints it.
pub(crate) fn partition_row(partition: &PartitionState) -> Value {
    let replicas: Vec<Value> = partition
        .replicas
        .iter()
        .map(|r| {
            json!({
                "node_id": r.node, "role": r.role.name(), "match_index": r.match_index,
                "lag_ms": r.lag.map(|lag| lag.as_millis() as u64), "online": r.online,
            })
        })
        .collect();
    let nodes = |keep: fn(bool) -> bool| -> Vec<u32> {
        partition.replicas.iter().filter(|r| keep(r.online)).map(|r| r.node.get()).collect()
    };
    json!({
        "topic": partition.topic,
        "partition": partition.partition,
        "leader_node_id": partition.leader.map_or(0, |node| node.get()),
        "leader_epoch": partition.leader_epoch,
        "replicas": replicas,
        "replica_node_ids": nodes(|_| true),
        "offline_node_ids": nodes(|online| !online),
        "log_start_offset": partition.log_start_offset,
        "last_stable_offset": partition.last_stable_offset,
        "high_watermark": partition.high_watermark,
        "log_end_offset": partition.log_end_offset,
        "size_bytes": partition.size_bytes,
    })
}

/// Runs the command.
pub async fn run(session: &Session, command: Command) -> Result<(), Failed> {
    let output = command.output();
    match command {
        Command::List { .. } => {
            if helped(output, &TOPIC)? {
                return Ok(());
            }
            let topics = session.client().await?.admin().topics().await?;
            print(output, &TOPIC, topics.iter().map(topic_row).collect())
        }
        Command::Describe { topic, partitions, .. } => {
            let shape = if partitions { &PARTITION } else { &TOPIC };
            if helped(output, shape)? {
                return Ok(());
            }
            let topic = session.client().await?.admin().topic(&topic).await?;
            if partitions {
                return print(output, shape, topic.partitions.iter().map(partition_row).collect());
            }
            let mut row = topic_row(&topic);
            row["partitions"] = topic.partitions.iter().map(partition_row).collect();
            print_one(output, shape, row)
        }
        Command::Create(arguments) => create(session, arguments).await,
        Command::Update(arguments) => update(session, arguments).await,
        Command::Delete { topic, yes, if_exists } => {
            confirm(&format!("delete topic {topic} with all its records"), yes)?;
            match session.client().await?.admin().delete_topic(&topic).await {
                Err(error) if if_exists && Failed::from(error.clone()).code() == 3 => Ok(()),
                ended => Ok(ended?),
            }
        }
        Command::Offsets { topic, at, .. } => offsets(session, output, &topic, at.as_deref()).await,
        Command::Trim { topic, before, partitions, yes, dry_run, .. } => {
            if helped(output, &TRIMMED)? {
                return Ok(());
            }
            let admin = session.client().await?.admin();
            let trims = trims(session, &admin, &topic, &before, &partitions).await?;
            if !dry_run {
                confirm(&format!("remove the records of {topic} before {before}"), yes)?;
            }
            trim(&admin, output, &topic, &trims, dry_run).await
        }
    }
}

async fn create(session: &Session, arguments: CreateArguments) -> Result<(), Failed> {
    let output = arguments.output.output;
    if helped(output, &TOPIC)? {
        return Ok(());
    }
    let new = NewTopic {
        config: arguments.settings.config(),
        labels: arguments.labels.into_iter().collect(),
        ..NewTopic::new(arguments.topic, arguments.partitions, arguments.replication_factor)
    };
    let admin = session.client().await?.admin();
    let made = match admin.create_topic(&new, arguments.dry_run).await {
        Err(error) if arguments.if_not_exists && Failed::from(error.clone()).code() == 5 => {
            admin.topic(&new.topic).await?
        }
        made => made?,
    };
    print_one(output, &TOPIC, topic_row(&made))
}

async fn update(session: &Session, arguments: UpdateArguments) -> Result<(), Failed> {
    let output = arguments.output.output;
    if helped(output, &TOPIC)? {
        return Ok(());
    }
    let mut mask: Vec<String> =
        arguments.settings.named().into_iter().map(|name| format!("config.{name}")).collect();
    mask.extend(arguments.unset.iter().map(|name| format!("config.{}", name.replace('-', "_"))));
    mask.extend(arguments.partitions.map(|_| "partition_count".to_owned()));
    if !arguments.labels.is_empty() {
        mask.push("labels".to_owned());
    }
    if mask.is_empty() {
        return Err(Failed::Usage("nothing to change was given".to_owned()));
    }
    let update = TopicUpdate {
        mask,
        config: arguments.settings.config(),
        partition_count: arguments.partitions.unwrap_or(0),
        labels: arguments.labels.into_iter().collect(),
    };
    let admin = session.client().await?.admin();
    let updated = admin.update_topic(&arguments.topic, &update, arguments.dry_run).await?;
    print_one(output, &TOPIC, topic_row(&updated))
}

async fn offsets(session: &Session, output: Output, topic: &str, at: Option<&str>) -> Result<(), Failed> {
    if helped(output, &OFFSETS)? {
        return Ok(());
    }
    let time = at
        .map(|text| crate::offset::time(text, session.clock.wall()))
        .transpose()
        .map_err(|why| Failed::Usage(format!("--at: {why}")))?;
    let admin = session.client().await?.admin();
    let seen = Isolation::ReadUncommitted;
    let starts = admin.offsets(topic, OffsetQuery::Earliest, seen).await?;
    let ends = admin.offsets(topic, OffsetQuery::Latest, seen).await?;
    let then = match time {
        Some(time) => Some(admin.offsets(topic, OffsetQuery::At(time), seen).await?),
        None => None,
    };
    let rows = starts.iter().zip(&ends).enumerate().map(|(place, (start, end))| {
        json!({
            "topic": topic,
            "partition": start.partition,
            "log_start_offset": start.offset,
            "high_watermark": end.offset,
            "records": end.offset.get().saturating_sub(start.offset.get()),
            "offset_at": then.as_ref().and_then(|then| then.get(place)).map(|found| found.offset),
        })
    });
    print(output, &OFFSETS, rows.collect())
}

async fn trims(
    session: &Session,
    admin: &Admin,
    topic: &str,
    before: &str,
    only: &[u32],
) -> Result<Vec<(PartitionId, Offset)>, Failed> {
    let point = Point::parse(before, session.clock.wall())
        .map_err(|why| Failed::Usage(format!("--before: {why}")))?;
    let found = crate::offset::resolve(admin, topic, point, Isolation::ReadUncommitted).await?;
    if let Some(missing) = only.iter().find(|p| **p as usize >= found.len()) {
        return Err(Failed::NotFound(format!("partition {topic}/{missing} does not exist")));
    }
    Ok(found.into_iter().filter(|(p, _)| only.is_empty() || only.contains(&p.get())).collect())
}

async fn trim(
    admin: &Admin,
    output: Output,
    topic: &str,
    trims: &[(PartitionId, Offset)],
    dry_run: bool,
) -> Result<(), Failed> {
    let failed = if dry_run { Vec::new() } else { admin.trim(topic, trims).await? };
    let rows = trims.iter().map(|(partition, before)| {
        let error = failed.iter().find(|(p, _)| p == partition).map(|(_, error)| error.to_string());
        json!({ "topic": topic, "partition": partition, "before_offset": before, "error": error })
    });
    print(output, &TRIMMED, rows.collect())?;
    match failed.into_iter().next() {
        Some((_, error)) => Err(error.into()),
        None => Ok(()),
    }
}
