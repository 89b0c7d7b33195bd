//! What applying one command writes: made by `machine`, written by `store`, which does not look inside.

use crate::id::{ProducerEpoch, ProducerId};
use crate::offset::{LogIndex, Offset};
use crate::time::TimestampMs;
use bytes::Bytes;

/// Where a batch is: from its base offset to the log entry that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexRow {
    /// Offset of the batch's first record.
    pub base_offset: Offset,
    /// The entry that holds the batch.
    pub log_index: LogIndex,
    /// Records in the batch, at least 1.
    pub record_count: u32,
    /// Bytes of the batch's body.
    pub body_bytes: u32,
    /// The leader's clamped clock when it proposed: never decreases along the log.
    pub append_time: TimestampMs,
    /// The leadership that wrote it; `leader_epoch` on the wire.
    pub term: crate::offset::Term,
    /// Whose batch, for idempotent and transactional producers.
    pub producer: Option<(ProducerId, ProducerEpoch)>,
    /// Part of a transaction.
    pub transactional: bool,
}

impl IndexRow {
    /// Offset after the batch's last record.
    pub const fn end_offset(&self) -> Offset {
        self.base_offset.plus(self.record_count as u64)
    }
}

/// One state row: its key within the shard, and its value or `None` to delete it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateWrite {
    /// Chosen by `machine`; the store puts the shard before it.
    pub key: Bytes,
    /// The encoded row; absent = delete.
    pub value: Option<Bytes>,
}

/// Everything one apply writes, besides the position it reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeSet {
    /// New index rows, in offset order.
    pub index: Vec<IndexRow>,
    /// State rows, in the order they must be written.
    pub state: Vec<StateWrite>,
}

impl ChangeSet {
    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty() && self.state.is_empty()
    }
}
