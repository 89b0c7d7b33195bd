//! What a load run does, from its command line.

use crate::args::{OutputArgument, duration, size};
use crate::exit::Failed;
use crate::produce::CompressionName;
use clap::Args;
use flotilla_client::{Client, ProducerOptions};
use flotilla_types::Random;
use flotilla_types::bytesize::ByteSize;
use flotilla_types::random::Seeded;
use std::time::Duration;

/// `flotilla bench produce` and `bench e2e`.
#[derive(Debug, Args)]
pub struct ProduceArguments {
    /// The topic; it must be there
    #[arg(add = crate::completion::topics())]
    pub topic: String,
    /// Records per second, all producers together; 0 = as fast as they are taken
    #[arg(short = 'r', long, default_value_t = 1_000.0, value_parser = rate)]
    pub rate: f64,
    /// How long
    #[arg(short = 'd', long, value_parser = duration, default_value = "10s", value_name = "TIME")]
    pub duration: Duration,
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
    /// How long a batch waits for more records
    #[arg(long, value_parser = duration, default_value = "5ms", value_name = "TIME")]
    pub linger: Duration,
    /// A batch is closed at this size
    #[arg(long, value_parser = size, default_value = "512KiB", value_name = "SIZE")]
    pub batch_bytes: ByteSize,
    /// A record that is not acknowledged after this fails
    #[arg(long, value_parser = duration, default_value = "120s", value_name = "TIME")]
    pub delivery_timeout: Duration,
    #[command(flatten)]
    #[expect(missing_docs, reason = "said there")]
    pub output: OutputArgument,
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
    /// When to stop.
    pub duration: Duration,
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
        let topic = client.admin().topic(&arguments.topic).await?;
        let producers = arguments.producers;
        Ok(Self {
            run: Seeded::from_entropy().bits(),
            topic: arguments.topic.clone(),
            partitions: topic.partition_count,
            rate_each: arguments.rate / f64::from(producers),
            rate: arguments.rate,
            duration: arguments.duration,
            records_each: arguments.records.map_or(u64::MAX, |count| count.div_ceil(u64::from(producers))),
            producers,
            size,
            options: ProducerOptions {
                linger: arguments.linger,
                batch_bytes: arguments.batch_bytes.get(),
                compression: arguments.compression.into(),
                delivery_timeout: arguments.delivery_timeout,
                ..ProducerOptions::default()
            },
        })
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
