//! `flotilla produce`: a record per line of stdin, or as a format says.

use crate::args::{OutputArgument, duration, pair, size};
use crate::exit::Failed;
use crate::input::{InputFormat, next_line};
use crate::output::{Column, Shape, helped, print_one};
use crate::progress::Progress;
use crate::session::Session;
use bytes::{Bytes, BytesMut};
use clap::{Args, ValueEnum};
use flotilla_client::{Delivered, Delivery, Error, Header, Producer, ProducerOptions, Record};
use flotilla_types::bytesize::ByteSize;
use flotilla_types::{Compression, PartitionId};
use futures::FutureExt;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};

/// `flotilla produce`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The topic
    #[arg(add = crate::completion::topics())]
    topic: String,
    /// Read this file instead of stdin
    #[arg(short = 'i', long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// How a record is written in the input, such as '%k\\t%v\\n': %k key, %v value, %i message id, %d Unix milliseconds (else each line is a value)
    #[arg(short = 'f', long, value_name = "FORMAT")]
    format: Option<String>,
    /// A key for every record
    #[arg(short = 'k', long)]
    key: Option<String>,
    /// A header for every record
    #[arg(short = 'H', long = "header", value_parser = pair, value_name = "KEY=VALUE")]
    headers: Vec<(String, String)>,
    /// Send to this partition (else by key, or evenly)
    #[arg(short = 'p', long)]
    partition: Option<u32>,
    /// An empty value is a tombstone
    #[arg(long)]
    tombstone: bool,
    /// How batches are compressed
    #[arg(short = 'z', long, value_enum, default_value_t)]
    compression: CompressionName,
    /// How long a batch waits for more records
    #[arg(long, value_parser = duration, default_value = "5ms", value_name = "TIME")]
    linger: Duration,
    /// A batch is closed at this size
    #[arg(long, value_parser = size, default_value = "512KiB", value_name = "SIZE")]
    batch_bytes: ByteSize,
    /// A record that is not acknowledged after this fails
    #[arg(long, value_parser = duration, default_value = "120s", value_name = "TIME")]
    delivery_timeout: Duration,
    /// Print partition, tab, offset of each record, in the order of the input
    #[arg(long)]
    print_deliveries: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "said there")]
    pub output: OutputArgument,
}

/// A compression on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CompressionName {
    /// As it is
    None,
    /// LZ4, fast
    #[default]
    Lz4,
    /// Zstandard, small
    Zstd,
}

impl From<CompressionName> for Compression {
    fn from(name: CompressionName) -> Self {
        match name {
            CompressionName::None => Self::None,
            CompressionName::Lz4 => Self::Lz4,
            CompressionName::Zstd => Self::Zstd,
        }
    }
}

const SUMMARY: Shape = Shape {
    what: "what was produced (a table is printed only if -o asks for one)",
    columns: &[
        Column::new("topic", "where to"),
        Column::new("records", "how many were acknowledged"),
        Column::new("bytes", "bytes of their keys and values"),
        Column::new("duplicates", "how many were stored already"),
        Column::new("elapsed_ms", "how long it took"),
        Column::wide("partitions", "by partition: records, first and last offset"),
    ],
};

/// Read at once; a record may be as long as the largest record, so the buffer grows to that.
const READ_BYTES: usize = 1 << 20;
/// Deliveries that wait to be looked at.
const WAITING_MAX: usize = 200_000;

/// Runs the command.
pub async fn run(session: &Session, arguments: Arguments) -> Result<(), Failed> {
    let output = arguments.output.output;
    if helped(output, &SUMMARY)? {
        return Ok(());
    }
    let format = arguments.format.as_deref().map(InputFormat::parse).transpose().map_err(Failed::Usage)?;
    let format = format.unwrap_or_default();
    let input: Box<dyn AsyncRead + Unpin + Send> = match &arguments.input {
        Some(path) => Box::new(
            tokio::fs::File::open(path)
                .await
                .map_err(|error| Failed::NotFound(format!("{}: {error}", path.display())))?,
        ),
        None => Box::new(tokio::io::stdin()),
    };
    let options = ProducerOptions {
        linger: arguments.linger,
        batch_bytes: arguments.batch_bytes.get(),
        compression: arguments.compression.into(),
        delivery_timeout: arguments.delivery_timeout,
        ..ProducerOptions::default()
    };
    let client = session.client().await?;
    let mut sending = Sending {
        producer: client.producer(options),
        partition: arguments.partition.map(PartitionId),
        headers: headers(&arguments.headers),
        waiting: VecDeque::new(),
        summary: Summary::default(),
        progress: session.progress("produced"),
        arguments,
    };
    let ended = sending.all(input, &format).await;
    let detail = match &ended {
        Ok(()) => format!(", {} partitions", sending.summary.partitions.len()),
        Err(_) => ", then failed".to_owned(),
    };
    sending.progress.records = sending.summary.records;
    sending.progress.finish(&detail);
    if output != crate::output::Output::Table {
        let elapsed = sending.progress.elapsed();
        print_one(output, &SUMMARY, sending.summary.to_json(&sending.arguments.topic, elapsed))?;
    }
    ended
}

fn headers(given: &[(String, String)]) -> Vec<Header> {
    given.iter().map(|(key, value)| Header { key: key.clone(), value: value.clone().into() }).collect()
}

/// What was acknowledged.
#[derive(Debug, Default)]
struct Summary {
    records: u64,
    bytes: u64,
    duplicates: u64,
    /// Records, first and last offset.
    partitions: BTreeMap<PartitionId, (u64, u64, u64)>,
}

impl Summary {
    fn count(&mut self, bytes: usize, stored: &Delivered) {
        self.records += 1;
        self.bytes += bytes as u64;
        self.duplicates += u64::from(stored.duplicate);
        let offset = stored.offset.get();
        let (records, first, last) = self.partitions.entry(stored.partition).or_insert((0, offset, offset));
        *records += 1;
        *first = offset.min(*first);
        *last = offset.max(*last);
    }

    fn to_json(&self, topic: &str, elapsed: Duration) -> serde_json::Value {
        let partitions = self.partitions.iter().map(|(partition, (records, first, last))| {
            json!({ "partition": partition, "records": records, "first_offset": first, "last_offset": last })
        });
        json!({
            "topic": topic, "records": self.records, "bytes": self.bytes, "duplicates": self.duplicates,
            "elapsed_ms": elapsed.as_millis() as u64, "partitions": partitions.collect::<Vec<_>>(),
        })
    }
}

struct Sending {
    producer: Producer,
    arguments: Arguments,
    partition: Option<PartitionId>,
    headers: Vec<Header>,
    waiting: VecDeque<(usize, Delivery)>,
    summary: Summary,
    progress: Progress,
}

impl Sending {
    async fn all(
        &mut self,
        mut input: Box<dyn AsyncRead + Unpin + Send>,
        format: &InputFormat,
    ) -> Result<(), Failed> {
        let mut buffer = BytesMut::with_capacity(2 * READ_BYTES);
        loop {
            buffer.reserve(READ_BYTES);
            // Whoever types wants to see each line acknowledged, so acknowledgements are looked at meanwhile.
            let read = tokio::select! {
                read = input.read_buf(&mut buffer) => read?,
                settled = first(&mut self.waiting) => {
                    self.settle(settled)?;
                    continue;
                }
            };
            let last = read == 0;
            if format.is_lines() {
                while let Some(line) = next_line(&mut buffer, last) {
                    self.send(Record { value: Some(line), ..Record::default() }).await?;
                }
            } else {
                while let Some(record) = format.next(&mut buffer, last).map_err(Failed::Other)? {
                    self.send(record).await?;
                }
            }
            if last {
                break;
            }
        }
        self.producer.flush().await;
        while !self.waiting.is_empty() {
            let settled = first(&mut self.waiting).await;
            self.settle(settled)?;
        }
        Ok(())
    }

    async fn send(&mut self, mut record: Record) -> Result<(), Failed> {
        if let Some(key) = &self.arguments.key {
            record.key = Some(Bytes::copy_from_slice(key.as_bytes()));
        }
        if self.arguments.tombstone {
            record.value.take_if(|value| value.is_empty());
        }
        record.headers.clone_from(&self.headers);
        let bytes = record.key.as_ref().map_or(0, Bytes::len) + record.value.as_ref().map_or(0, Bytes::len);
        let topic = &self.arguments.topic;
        let sent = match self.partition {
            Some(partition) => self.producer.send_to(topic, partition, record).await,
            None => self.producer.send(topic, record).await,
        };
        self.progress.count(bytes);
        let number = self.progress.records;
        let delivery = sent.map_err(|error| numbered(number, error))?;
        self.waiting.push_back((bytes, delivery));
        if number.is_multiple_of(1_024) {
            self.progress.tick();
            while let Some((bytes, delivery)) = self.waiting.pop_front() {
                let full = self.waiting.len() >= WAITING_MAX;
                let mut delivery = delivery;
                match (&mut delivery).now_or_never() {
                    Some(settled) => self.settle((bytes, settled))?,
                    None if full => {
                        let settled = delivery.await;
                        self.settle((bytes, settled))?;
                    }
                    None => {
                        self.waiting.push_front((bytes, delivery));
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self, (bytes, settled): (usize, Result<Delivered, Error>)) -> Result<(), Failed> {
        let stored = settled.map_err(|error| numbered(self.summary.records + 1, error))?;
        self.summary.count(bytes, &stored);
        if self.arguments.print_deliveries {
            writeln!(std::io::stdout(), "{}\t{}", stored.partition, stored.offset)?;
        }
        Ok(())
    }
}

/// The oldest record's end; never, if none is on the way.
async fn first(waiting: &mut VecDeque<(usize, Delivery)>) -> (usize, Result<Delivered, Error>) {
    let Some((bytes, delivery)) = waiting.front_mut() else { return std::future::pending().await };
    let settled = (*bytes, delivery.await);
    waiting.pop_front();
    settled
}

fn numbered(number: u64, error: Error) -> Failed {
    eprintln!("record {number} failed");
    error.into()
}
