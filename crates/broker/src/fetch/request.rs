//! What a reader asks and what it hears.

use bytes::Bytes;
use flotilla_types::{BatchHeader, Failure, Offset, PartitionId, Term, TimestampMs, TopicId, TopicName};
use std::time::Duration;

/// Which records a reader may see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Up to the last stable offset, aborted records left out.
    #[default]
    ReadCommitted,
    /// Up to the high watermark.
    ReadUncommitted,
}

/// A long poll over some partitions.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to read, in order of preference.
    pub partitions: Vec<FetchPartition>,
    /// Answer as soon as there are this many bytes; 0 and 1 = anything.
    pub min_bytes: usize,
    /// Stop at this many; 0 = the node's limit. The first batch is returned even if it is larger.
    pub max_bytes: usize,
    /// Wait at most this long for `min_bytes`.
    pub max_wait: Duration,
    /// What may be seen.
    pub isolation: Isolation,
}

/// One partition of a fetch.
#[derive(Clone, Debug)]
pub struct FetchPartition {
    /// Which topic.
    pub topic: TopicName,
    /// Which partition.
    pub partition: PartitionId,
    /// Refuses a topic that was deleted and made again.
    pub topic_id: Option<TopicId>,
    /// Where to begin.
    pub offset: Offset,
    /// Fences a client, or this node, with stale knowledge.
    pub leader_epoch: Option<Term>,
    /// Stop this partition at this many bytes; 0 = the node's default.
    pub max_bytes: usize,
}

/// One partition of the answer. Order is the request's.
#[derive(Clone, Debug)]
pub struct FetchedPartition {
    /// Which topic.
    pub topic: TopicName,
    /// Which partition.
    pub partition: PartitionId,
    /// Whose leadership answered.
    pub leader_epoch: Term,
    /// First offset that is not committed.
    pub high_watermark: Offset,
    /// First offset that is not decided.
    pub last_stable: Offset,
    /// First offset that is kept.
    pub log_start: Offset,
    /// In offset order; the first may begin before the offset asked for.
    pub batches: Vec<FetchedBatch>,
    /// Where to go on, also when `batches` is empty.
    pub next_offset: Offset,
    /// Why there is nothing.
    pub error: Option<Failure>,
}

/// A batch, exactly as its maker sent it, and what was decided about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedBatch {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// The leadership that appended it.
    pub term: Term,
    /// When it was appended.
    pub append_time: TimestampMs,
    /// As sealed by its maker.
    pub header: BatchHeader,
    /// As sent. Shared with the tail, not copied.
    pub body: Bytes,
}

impl FetchedBatch {
    /// Offset after its last record.
    pub fn end_offset(&self) -> Offset {
        self.base_offset.plus(u64::from(self.header.record_count))
    }

    /// Bytes it weighs in an answer.
    pub fn weight(&self) -> usize {
        self.body.len() + BatchHeader::ENCODED_LEN + 24
    }
}
