//! The reading half: every record is looked at, timed and checked.

use super::check::Checks;
use super::mark::{Found, Mark};
use super::measure::Measure;
use super::plan::ConsumeArguments;
use crate::exit::Failed;
use crate::offset::{Point, Span, resolve};
use flotilla_client::{Client, Consumer, ConsumerOptions, Isolation, Position};
use flotilla_types::{Offset, PartitionId, TimestampMs};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long one poll waits.
const POLL: Duration = Duration::from_millis(200);

/// A consumer that stands where the topic ends now.
pub async fn at_the_end(client: &Client, topic: &str) -> Result<Consumer, Failed> {
    let mut consumer = client.consumer(ConsumerOptions::default());
    for (partition, end) in resolve(&client.admin(), topic, Point::End, Isolation::ReadCommitted).await? {
        consumer.assign(topic, partition, Position::Offset(end))?;
    }
    Ok(consumer)
}

/// Reads the run's records for as long as it is polled; `time_reads` = that is where a record ends.
pub async fn run(
    consumer: &mut Consumer,
    run: u64,
    measure: &Measure,
    checks: &Checks,
    time_reads: bool,
) -> Result<(), Failed> {
    loop {
        for record in consumer.poll(POLL).await? {
            let value = record.value.as_deref().unwrap_or_default();
            match Mark::check(value) {
                Found::Mark(mark) if mark.lane.run == run => {
                    checks.read(&mark);
                    if time_reads {
                        let due = Duration::from_micros(mark.due_us);
                        measure.ended(due, value.len(), mark.lane.partition);
                    }
                }
                Found::Corrupt => checks.corrupt(),
                Found::Mark(_) | Found::Foreign => {}
            }
        }
    }
}

/// Reads what the arguments say, as fast as it comes.
pub async fn run_bounded(
    client: &Client,
    arguments: &ConsumeArguments,
    now: TimestampMs,
    measure: &Measure,
    checks: &Checks,
) -> Result<(), Failed> {
    let span = Span::parse(&arguments.from, now).map_err(|why| Failed::Usage(format!("--from: {why}")))?;
    let topic = &arguments.topic;
    let admin = client.admin();
    let from = resolve(&admin, topic, span.from, Isolation::ReadCommitted).await?;
    let to = resolve(&admin, topic, span.to.unwrap_or(Point::End), Isolation::ReadCommitted).await?;
    let mut consumer = client.consumer(ConsumerOptions::default());
    let mut ends: BTreeMap<PartitionId, Offset> = BTreeMap::new();
    for ((partition, from), (_, to)) in from.into_iter().zip(to) {
        if from < to || arguments.records.is_some() {
            consumer.assign(topic, partition, Position::Offset(from))?;
            ends.insert(partition, to);
        }
    }
    let mut left = arguments.records.unwrap_or(u64::MAX);
    while left > 0 && !ends.is_empty() && arguments.duration.is_none_or(|limit| measure.elapsed() < limit) {
        for record in consumer.poll(POLL).await? {
            let end = ends.get(&record.partition).copied();
            if left == 0 || (arguments.records.is_none() && end.is_none_or(|end| record.offset >= end)) {
                continue;
            }
            left -= 1;
            let value = record.value.as_deref().unwrap_or_default();
            measure.read(value.len(), record.partition.get());
            match Mark::check(value) {
                Found::Mark(mark) => checks.read(&mark),
                Found::Corrupt => checks.corrupt(),
                Found::Foreign => {}
            }
            if arguments.records.is_none() && end.is_some_and(|end| record.offset.next() >= end) {
                ends.remove(&record.partition);
                consumer.unassign(topic, record.partition)?;
            }
        }
    }
    Ok(())
}
