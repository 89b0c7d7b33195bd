//! What a producer asks and what it hears.

use bytes::Bytes;
use flotilla_types::{Batch, BatchHeader, Failure, Offset, PartitionId, TimestampMs, TopicId, TopicName};
use std::time::Duration;

/// One batch for one partition.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which topic.
    pub topic: TopicName,
    /// Which of its partitions; the client chose it.
    pub partition: PartitionId,
    /// Refuses a topic that was deleted and made again.
    pub topic_id: Option<TopicId>,
    /// The header; its `crc32c` is ignored unless [`Request::sealed`].
    pub header: BatchHeader,
    /// As sent. Shared, not copied.
    pub body: Bytes,
    /// Whether the client sealed the batch; else the broker does.
    pub sealed: bool,
    /// Append only if the first record would get this offset.
    pub expected_offset: Option<Offset>,
    /// How long to wait for the outcome; zero = the node's default.
    pub timeout: Duration,
}

impl Request {
    /// A sealed batch, with nothing else asked.
    pub fn new(topic: TopicName, partition: PartitionId, batch: Batch) -> Self {
        Self {
            topic,
            partition,
            topic_id: None,
            header: batch.header,
            body: batch.body,
            sealed: true,
            expected_offset: None,
            timeout: Duration::ZERO,
        }
    }
}

/// The batch is on a majority's disks and applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Offset of the first record; of the first copy's if this is a duplicate.
    pub base_offset: Offset,
    /// When it was appended.
    pub append_time: TimestampMs,
    /// First offset that is kept.
    pub log_start: Offset,
    /// It was there already.
    pub duplicate: bool,
}

/// What is wrong with single records of a refused batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// The record's place in the batch.
    pub index: u32,
    /// What is wrong with it.
    pub failure: Failure,
}
