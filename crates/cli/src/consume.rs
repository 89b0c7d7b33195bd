//! `flotilla consume` and `flotilla tail`.

use crate::exit::Failed;
use crate::format::{Format, to_json};
use crate::offset::{Point, Span, resolve};
use crate::output::Output;
use crate::session::Session;
use clap::Args;
use flotilla_client::{Client, ConsumedRecord, Consumer, ConsumerOptions, Isolation, OutOfRange, Position};
use flotilla_types::{Offset, PartitionId, TopicName};
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

/// What `-h` says at its end.
const LETTERS: &str = "Letters of --format: %t topic, %p partition, %o offset, %k key, %v value, %h headers, \
    %d timestamp, %e leader epoch, %x producer id, %y producer epoch, %i message id, %T %K %V lengths of topic, key, \
    value, %% percent. Keys, values and headers take {hex}, {base64}, {json}: %v{hex}. Times take {rfc3339}, {s}, \
    {ms} or a strftime layout: %d{%H:%M:%S}. \\n \\t \\xNN are bytes.\n\n\
    Offsets: start, end, N, +N after the start, -N before the end, @TIME (RFC 3339, a date, Unix milliseconds, \
    or -1h from now), FROM:TO up to but without TO.";

/// `flotilla consume`.
#[derive(Debug, Args)]
#[command(after_help = LETTERS)]
pub struct Arguments {
    /// Topics
    #[arg(required = true, add = crate::completion::topics())]
    pub(crate) topics: Vec<String>,
    /// From where, and up to where: start end +N -N N N:M :end @TIME @-1h @-48h:-24h. With --group: where
    /// a partition begins that the group has no offset of: start end fail
    #[arg(short = 'o', long, default_value = "start", allow_hyphen_values = true)]
    pub(crate) offset: String,
    /// Stop after this many records
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub(crate) num: Option<u64>,
    /// Stop at what was the end when the command began
    #[arg(long)]
    pub(crate) until_end: bool,
    /// Stop if nothing comes for this long
    #[arg(long, value_parser = crate::args::duration, value_name = "TIME")]
    pub(crate) idle_timeout: Option<Duration>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "said there")]
    pub reading: Reading,
    #[command(flatten)]
    #[expect(missing_docs, reason = "said there")]
    pub membership: crate::member::Membership,
}

/// `flotilla tail`.
#[derive(Debug, Args)]
#[command(after_help = LETTERS)]
pub struct TailArguments {
    /// The topic
    #[arg(add = crate::completion::topics())]
    topic: String,
    /// Begin with this many records of each partition
    #[arg(short = 'n', long, default_value_t = 10, value_name = "COUNT")]
    num: u64,
    #[command(flatten)]
    #[expect(missing_docs, reason = "said there")]
    pub reading: Reading,
}

/// What both take.
#[derive(Debug, Args)]
pub struct Reading {
    /// How to print a record, from letters; see below
    #[arg(short = 'f', long, value_name = "FORMAT", conflicts_with_all = ["print_key", "print_offset", "print_partition", "print_timestamp", "print_headers"])]
    format: Option<String>,
    /// Only these partitions
    #[arg(short = 'p', long = "partition", value_delimiter = ',', value_name = "N")]
    pub(crate) partitions: Vec<u32>,
    /// The partition before each value
    #[arg(long)]
    print_partition: bool,
    /// The offset before each value
    #[arg(long)]
    print_offset: bool,
    /// The time before each value
    #[arg(long)]
    print_timestamp: bool,
    /// The headers before each value
    #[arg(long)]
    print_headers: bool,
    /// The key before each value
    #[arg(long)]
    print_key: bool,
    /// Everything but the value
    #[arg(long)]
    meta_only: bool,
    /// See records of open and aborted transactions too
    #[arg(long)]
    read_uncommitted: bool,
    /// If records were removed that should be read: go on at the first one there is
    #[arg(long)]
    skip_removed: bool,
    /// json or jsonl: one JSON value per record
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
}

const META: &str = "%t %p %o %d{rfc3339} %k %h %V\\n";

/// How records are written.
#[derive(Debug)]
pub(crate) enum Writer {
    Json,
    Format(Format),
}

impl Reading {
    pub(crate) fn writer(&self) -> Result<Writer, Failed> {
        match self.output {
            Output::Json | Output::Jsonl => return Ok(Writer::Json),
            Output::Table => {}
            _ => {
                return Err(Failed::Usage(
                    "--output prints records as json or jsonl only; see --format".to_owned(),
                ));
            }
        }
        let mut letters = String::new();
        for (asked, letter) in [
            (self.print_partition, "%p\\t"),
            (self.print_offset, "%o\\t"),
            (self.print_timestamp, "%d\\t"),
            (self.print_headers, "%h\\t"),
            (self.print_key, "%k\\t"),
        ] {
            letters.push_str(if asked { letter } else { "" });
        }
        let format = match &self.format {
            Some(format) => format.clone(),
            None if self.meta_only => META.to_owned(),
            None => letters + "%v\\n",
        };
        Format::parse(&format).map(Writer::Format).map_err(Failed::Usage)
    }

    pub(crate) fn options(&self) -> ConsumerOptions {
        ConsumerOptions {
            isolation: if self.read_uncommitted {
                Isolation::ReadUncommitted
            } else {
                Isolation::ReadCommitted
            },
            out_of_range: if self.skip_removed { OutOfRange::Earliest } else { OutOfRange::Fail },
            ..ConsumerOptions::default()
        }
    }
}

/// Where reading stops.
#[derive(Debug, Default)]
struct Stop {
    records: Option<u64>,
    idle: Option<Duration>,
    /// First offset that is not printed, by partition.
    ends: Option<BTreeMap<(TopicName, PartitionId), Offset>>,
}

/// Runs `consume`.
pub async fn run(session: &Session, arguments: Arguments) -> Result<(), Failed> {
    if let Some(group) = &arguments.membership.group {
        return crate::member::run(session, group, &arguments).await;
    }
    let mut span = Span::parse(&arguments.offset, session.clock.wall())
        .map_err(|why| Failed::Usage(format!("-o {why}")))?;
    if arguments.until_end && span.to.is_none() {
        span.to = Some(Point::End);
    }
    let stop = Stop { records: arguments.num, idle: arguments.idle_timeout, ends: None };
    read(session, &arguments.topics, span, stop, &arguments.reading).await
}

/// Runs `tail`.
pub async fn tail(session: &Session, arguments: TailArguments) -> Result<(), Failed> {
    let span = Span { from: Point::BeforeEnd(arguments.num), to: None };
    read(session, &[arguments.topic], span, Stop::default(), &arguments.reading).await
}

async fn read(
    session: &Session,
    topics: &[String],
    span: Span,
    mut stop: Stop,
    reading: &Reading,
) -> Result<(), Failed> {
    let writer = reading.writer()?;
    let client = session.client().await?;
    let mut consumer = client.consumer(reading.options());
    stop.ends = span.to.map(|_| BTreeMap::new());
    for topic in topics {
        assign(&client, &mut consumer, topic, span, &mut stop, reading).await?;
    }
    let mut progress = session.progress("consumed");
    let bounded = stop.ends.is_some() || stop.records.is_some();
    let mut out = Vec::with_capacity(1 << 20);
    let ended = follow(session, &mut consumer, &writer, &mut stop, &mut progress, &mut out).await;
    std::io::stdout().write_all(&out)?;
    std::io::stdout().flush()?;
    if bounded {
        progress.finish("");
    }
    ended
}

async fn assign(
    client: &Client,
    consumer: &mut Consumer,
    topic: &str,
    span: Span,
    stop: &mut Stop,
    reading: &Reading,
) -> Result<(), Failed> {
    let admin = client.admin();
    let isolation = reading.options().isolation;
    let from = resolve(&admin, topic, span.from, isolation).await?;
    let to = match span.to {
        Some(to) => Some(resolve(&admin, topic, to, isolation).await?),
        None => None,
    };
    if let Some(missing) = reading.partitions.iter().find(|p| **p as usize >= from.len()) {
        return Err(Failed::NotFound(format!("partition {topic}/{missing} does not exist")));
    }
    let name = TopicName::new(topic).map_err(|error| Failed::Usage(error.to_string()))?;
    for (place, (partition, offset)) in from.into_iter().enumerate() {
        if !reading.partitions.is_empty() && !reading.partitions.contains(&partition.get()) {
            continue;
        }
        if let (Some(ends), Some(to)) = (&mut stop.ends, &to) {
            let end = to.get(place).map_or(offset, |(_, end)| *end);
            if offset >= end {
                continue; // nothing to read there
            }
            ends.insert((name.clone(), partition), end);
        }
        consumer.assign(topic, partition, Position::Offset(offset))?;
    }
    Ok(())
}

/// How often a reader that gets nothing looks whether it should say so.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Written at once.
const WRITE_BYTES: usize = 256 << 10;

async fn follow(
    session: &Session,
    consumer: &mut Consumer,
    writer: &Writer,
    stop: &mut Stop,
    progress: &mut crate::progress::Progress,
    out: &mut Vec<u8>,
) -> Result<(), Failed> {
    let mut last_record = session.clock.monotonic();
    let mut last_hint = session.clock.monotonic();
    loop {
        if stop.ends.as_ref().is_some_and(BTreeMap::is_empty) || stop.records == Some(0) {
            return Ok(());
        }
        let records = consumer.poll(stop.idle.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)).await?;
        let now = session.clock.monotonic();
        if records.is_empty() {
            if stop.idle.is_some_and(|idle| now.since(last_record) >= idle) {
                return Ok(());
            }
            if session.shows_progress() && now.since(last_hint) >= crate::progress::EVERY {
                last_hint = now;
                for (topic, partition, error) in consumer.trouble().into_iter().take(3) {
                    eprintln!("waiting for {topic}/{partition}: {error}");
                }
            }
        } else {
            last_record = now;
        }
        for record in &records {
            let wanted = take(stop, record);
            if wanted {
                write(writer, record, out);
                progress.count(record.value.as_ref().map_or(0, bytes::Bytes::len));
            }
        }
        if let Some(last) = records.last() {
            finish_partition(consumer, stop, last);
        }
        // What has come is shown before waiting for more.
        if !out.is_empty() {
            for piece in out.chunks(WRITE_BYTES) {
                std::io::stdout().write_all(piece)?;
            }
            std::io::stdout().flush()?;
            out.clear();
        }
        if stop.ends.is_some() {
            progress.tick();
        }
    }
}

/// Whether a record is inside what was asked for; counts it.
fn take(stop: &mut Stop, record: &ConsumedRecord) -> bool {
    if let Some(ends) = &stop.ends {
        let end = ends.get(&(record.topic.clone(), record.partition));
        if end.is_none_or(|end| record.offset >= *end) {
            return false;
        }
    }
    match &mut stop.records {
        Some(0) => false,
        Some(left) => {
            *left -= 1;
            true
        }
        None => true,
    }
}

fn finish_partition(consumer: &mut Consumer, stop: &mut Stop, last: &ConsumedRecord) {
    let Some(ends) = &mut stop.ends else { return };
    let key = (last.topic.clone(), last.partition);
    if ends.get(&key).is_some_and(|end| last.offset.next() >= *end) {
        ends.remove(&key);
        let _ = consumer.unassign(last.topic.as_str(), last.partition);
    }
}

/// Writes a record into `out`.
pub(crate) fn write(writer: &Writer, record: &ConsumedRecord, out: &mut Vec<u8>) {
    match writer {
        Writer::Format(format) => format.print(record, out),
        Writer::Json => {
            let _ = writeln!(out, "{}", to_json(record));
        }
    }
}
