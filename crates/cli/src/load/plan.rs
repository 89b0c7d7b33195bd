//! What a load run does, from its command line.

use crate::args::{OutputArgument, duration, size};
use crate::exit::Failed;
use crate::produce::CompressionName;
use clap::Args;
use flotilla_client::{Client, NewTopic, ProducerOptions};
use flotilla_types::bytesize::ByteSize;
use flotilla_types::limits::PRODUCER_REMEMBERED_BATCHES;
use flotilla_types::random::Seeded;
use flotilla_types::{Random, Reason};
use std::time::Duration;

/// What every command that sends takes.
#[derive(Debug, Args)]
pub struct ProduceArguments {
    /// The topic
    #[arg(add = crate::completion::topics())]
    pub topic: String,
    /// Make the topic with so many partitions if it is not there (else it must be)
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub partitions: Option<u32>,
    /// Replicas of a topic that is made (else the cluster's default)
    #[arg(
        long,
        value_name = "COUNT",
        requires = "partitions",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub replication_factor: u32,
    /// Records per second, all producers together; 0 = as fast as they are taken
    #[arg(short = 'r', long, default_value_t = 1_000.0, value_parser = rate)]
    pub rate: f64,
    /// How long
    #[arg(short = 'd', long, value_parser = duration, default_value = "10s", value_name = "TIME")]
    pub duration: Duration,
    /// Send this long before anything counts; it comes on top of --duration
    #[arg(long, value_parser = duration, default_value = "0s", value_name = "TIME")]
    pub warm_up: Duration,
    /// Stop after this many records
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub records: Option<u64>,
    /// Size of a value, at least 48 bytes
    #[arg(short = 's', long, value_parser = size, default_value = "1KiB", value_name = "SIZE")]
    pub size: ByteSize,
    /// Producers, each with connections of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub producers: u32,
    /// How batches are compressed
    #[arg(short = 'z', long, value_enum, default_value = "none")]
    pub compression: CompressionName,
    /// How long a batch waits for more records behind another (else 5ms with --rate 0, and not at all with a rate)
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub linger: Option<Duration>,
    /// A batch is closed at this size
    #[arg(long, value_parser = size, default_value = "512KiB", value_name = "SIZE")]
    pub batch_bytes: ByteSize,
    /// A batch is closed at so many records
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_records: Option<u32>,
    /// Batches of a partition on the way at once, 1 to 5 (the default)
    #[arg(long, value_name = "COUNT", value_parser = in_flight)]
    pub in_flight: Option<usize>,
    /// Records of a producer and partition on the way at once; with --rate 0 --window 1, one after the other
    #[arg(short = 'w', long, value_name = "COUNT", default_value_t = WINDOW_MAX, value_parser = window)]
    pub window: u32,
    /// A record that is not acknowledged after this fails
    #[arg(long, value_parser = duration, default_value = "120s", value_name = "TIME")]
    pub delivery_timeout: Duration,
    #[command(flatten)]
    #[expect(missing_docs, reason = "said there")]
    pub output: OutputArgument,
}

/// Records of a producer and partition on the way at once, at most.
pub const WINDOW_MAX: u32 = 1 << 16;

fn window(text: &str) -> Result<u32, String> {
    bounded(text, "--window", u64::from(WINDOW_MAX)).map(|window| window as u32)
}

fn in_flight(text: &str) -> Result<usize, String> {
    bounded(text, "--in-flight", PRODUCER_REMEMBERED_BATCHES as u64).map(|count| count as usize)
}

fn bounded(text: &str, what: &str, most: u64) -> Result<u64, String> {
    let number = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if (1..=most).contains(&number) {
        Ok(number)
    } else {
        Err(format!("{what} is {number}, expected 1 to {most}"))
    }
}

/// `flotilla bench failover`.
#[derive(Debug, Args)]
pub struct FailoverArguments {
    #[command(flatten)]
    #[expect(missing_docs, reason = "said there")]
    pub load: ProduceArguments,
    /// A shell command that deals the blow: kill, stop or cut off a node
    #[arg(long, value_name = "COMMAND")]
    pub kill: String,
    /// When, after the warm-up
    #[arg(long, value_parser = duration, default_value = "3s", value_name = "TIME")]
    pub kill_at: Duration,
    /// How many blows
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub kills: u32,
    /// Time between blows
    #[arg(long, value_parser = duration, default_value = "10s", value_name = "TIME")]
    pub kill_every: Duration,
    /// A shell command that brings back what the blow took, after half the time between blows
    #[arg(long, value_name = "COMMAND")]
    pub restore: Option<String>,
    /// Fail if nothing was acknowledged for longer than this
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub max_gap: Option<Duration>,
}

/// `flotilla bench consume`.
#[derive(Debug, Args)]
pub struct ConsumeArguments {
    /// The topic
    #[arg(add = crate::completion::topics())]
    pub topic: String,
    /// From where, as for `flotilla consume -o`
    #[arg(long, default_value = "start", allow_hyphen_values = true)]
    pub from: String,
    /// Stop after this many records (else at what was the end when the run began)
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub records: Option<u64>,
    /// Stop after this
    #[arg(short = 'd', long, value_parser = duration, value_name = "TIME")]
    pub duration: Option<Duration>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "said there")]
    pub output: OutputArgument,
}

fn rate(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches("/s").parse::<f64>().map_err(|_| format!("{text:?} is not a rate"))?;
    if number.is_finite() && number >= 0.0 { Ok(number) } else { Err(format!("rate {text} is below 0")) }
}

/// A run, ready to go.
#[derive(Debug)]
pub struct Plan {
    /// Tells this run's records from others'.
    pub run: u64,
    /// Where to.
    pub topic: String,
    /// How many partitions the topic has; records go to each in turn.
    pub partitions: u32,
    /// Records per second of one producer; 0 = no limit.
    pub rate_each: f64,
    /// All producers together, as asked.
    pub rate: f64,
    /// When to stop, the warm-up included.
    pub duration: Duration,
    /// Records of a producer and partition on the way at once.
    pub window: u32,
    /// Records of one producer, at most.
    pub records_each: u64,
    /// How many producers.
    pub producers: u32,
    /// Bytes of a value.
    pub size: usize,
    /// Each producer's settings.
    pub options: ProducerOptions,
}

impl Plan {
    /// Looks the topic up and draws a number for the run.
    pub async fn new(arguments: &ProduceArguments, client: &Client) -> Result<Self, Failed> {
        let size = arguments.size.get();
        if size < crate::load::mark::MARK_BYTES {
            return Err(Failed::Usage(format!(
                "--size is {size}, expected at least {}",
                crate::load::mark::MARK_BYTES
            )));
        }
        if let Some(partitions) = arguments.partitions {
            make(client, &arguments.topic, partitions, arguments.replication_factor).await?;
        }
        let topic = client.admin().topic(&arguments.topic).await?;
        let linger = match arguments.linger {
            Some(linger) => linger,
            None if arguments.rate > 0.0 => Duration::ZERO,
            None => ProducerOptions::default().linger,
        };
        let defaults = ProducerOptions::default();
        let producers = arguments.producers;
        Ok(Self {
            run: Seeded::from_entropy().bits(),
            topic: arguments.topic.clone(),
            partitions: topic.partition_count,
            rate_each: arguments.rate / f64::from(producers),
            rate: arguments.rate,
            duration: arguments.warm_up + arguments.duration,
            window: arguments.window,
            records_each: arguments.records.map_or(u64::MAX, |count| count.div_ceil(u64::from(producers))),
            producers,
            size,
            options: ProducerOptions {
                linger,
                batch_bytes: arguments.batch_bytes.get(),
                batch_records: arguments.batch_records.unwrap_or(defaults.batch_records),
                in_flight: arguments.in_flight.unwrap_or(defaults.in_flight),
                compression: arguments.compression.into(),
                delivery_timeout: arguments.delivery_timeout,
                ..defaults
            },
        })
    }

    /// Whether each record has a time when it is due.
    pub fn is_paced(&self) -> bool {
        self.rate_each > 0.0
    }

    /// How many records of one producer are due after `elapsed`.
    pub fn due(&self, elapsed: Duration) -> u64 {
        if self.rate_each == 0.0 {
            return self.records_each;
        }
        // The first is due at once.
        ((elapsed.as_secs_f64() * self.rate_each) as u64 + 1).min(self.records_each)
    }

    /// When a record of one producer is due, since the start.
    pub fn due_at(&self, number: u64) -> Duration {
        if self.rate_each == 0.0 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64(number as f64 / self.rate_each)
        }
    }
}

/// Makes the topic unless it is there with as many partitions.
async fn make(client: &Client, topic: &str, partitions: u32, replicas: u32) -> Result<(), Failed> {
    let admin = client.admin();
    let made = admin.create_topic(&NewTopic::new(topic, partitions, replicas), false).await;
    match made {
        Err(error) if error.reason() == Some(Reason::AlreadyExists) => {
            let has = admin.topic(topic).await?.partition_count;
            if has == partitions {
                return Ok(());
            }
            Err(Failed::Usage(format!(
                "--partitions {partitions}: topic {topic} has {has}; leave the flag out, or use another topic"
            )))
        }
        made => Ok(made.map(drop)?),
    }
}

#[cfg(test)]
mod tests;
