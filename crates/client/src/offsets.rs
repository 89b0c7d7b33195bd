//! Offsets by position: where a partition starts, ends, or was at some time. Its leader answers.

use crate::call;
use crate::client::Inner;
use crate::connection::{DECODE_MAX_BYTES, Lane};
use crate::error::{Class, Error, Result};
use crate::retry::Backoff;
pub use flotilla_proto::convert::log::Position as OffsetQuery;
use flotilla_proto::convert::log::{Isolation, isolation_to_wire, position_to_wire};
use flotilla_proto::v1;
use flotilla_proto::v1::log_client::LogClient;
use flotilla_types::{Offset, PartitionId, Reason, TimestampMs};
use std::time::Duration;

/// A look at one partition takes no longer at one node.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a partition was, by its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// The partition.
    pub partition: PartitionId,
    /// The place that was asked for.
    pub offset: Offset,
    /// Append time of the batch there, where one was asked for by time; else 0.
    pub timestamp: TimestampMs,
}

/// Asks the leader, following it, until `timeout`.
pub(crate) async fn list(
    client: &Inner,
    topic: &str,
    partition: PartitionId,
    query: OffsetQuery,
    isolation: Isolation,
    timeout: Duration,
) -> Result<ListedOffset> {
    let clock = &client.options.clock;
    let deadline = clock.monotonic().plus(timeout);
    let mut backoff = Backoff::default();
    loop {
        let error = match once(client, topic, partition, query, isolation).await {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        let went_elsewhere = client.metadata.hint(topic, partition, error.leader());
        let pause = backoff.pause(&*client.options.random, error.retry_after());
        let pause = if went_elsewhere && backoff.failures() == 1 { Duration::ZERO } else { pause };
        if error.class() == Class::Fatal || deadline.since(clock.monotonic()) <= pause {
            return Err(error);
        }
        if !went_elsewhere {
            client.metadata.refresh();
        }
        tokio::time::sleep(pause).await;
    }
}

async fn once(
    client: &Inner,
    topic: &str,
    partition: PartitionId,
    query: OffsetQuery,
    isolation: Isolation,
) -> Result<ListedOffset> {
    let routes = client.metadata.routes();
    let name = || format!("partition {topic}/{partition}");
    let leadership = routes.leadership(topic, partition).ok_or_else(|| {
        Error::retriable(Reason::UnknownTopicOrPartition, format!("{} is in no metadata", name()))
    })?;
    let leader = leadership.leader.as_ref().ok_or_else(|| {
        Error::retriable(Reason::LeaderNotAvailable, format!("{} has no leader now", name()))
    })?;
    let request = v1::ListOffsetsRequest {
        queries: vec![v1::list_offsets_request::Query {
            topic: topic.to_owned(),
            partition: partition.get() as i32,
            position: Some(position_to_wire(query)),
        }],
        isolation_level: isolation_to_wire(isolation),
    };
    let answer = call::at(client, &leader.endpoint, Lane::Control, ATTEMPT_TIMEOUT, |channel| {
        let mut client = LogClient::new(channel).max_decoding_message_size(DECODE_MAX_BYTES);
        let request = request.clone();
        async move { client.list_offsets(request).await }
    });
    let result = answer.await?.results.into_iter().next();
    let result = result.ok_or_else(|| Error::lost(format!("{}: answer is empty", name())))?;
    if let Some(error) = result.error {
        return Err(Error::from_wire(error).context(name()));
    }
    let offset = u64::try_from(result.offset)
        .map_err(|_| Error::lost(format!("{}: answer names offset {}", name(), result.offset)))?;
    Ok(ListedOffset { partition, offset: Offset(offset), timestamp: result.timestamp_ms })
}
