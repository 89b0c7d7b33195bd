//! The interface both twins have: the database of a server, and the memory of a simulation.

use crate::error::{ReadError, WriteError};
use crate::identity::Identity;
use crate::write::{Done, LogRow, Write};
use bytes::Bytes;
use flotilla_types::{IndexRow, LogId, LogIndex, Offset, ShardId, TimestampMs};
use std::fmt::Debug;
use std::ops::Range;
use std::pin::Pin;

/// All that a node keeps, of all its shards.
///
/// Reads see every write whose `done` was called, and may see later ones. They block on the disk, so
/// call them where that is allowed.
pub trait Store: Send + Sync + Debug + 'static {
    /// Whose store it is.
    fn identity(&self) -> &Identity;

    /// Queues a write and returns. Order of calls is order on disk. `done` is called once, maybe before
    /// this returns.
    fn submit(&self, write: Write, done: Done);

    /// Waits until `bytes` more may be queued. Keep the [`Room`] until the write is done: move it into
    /// `done`. Who appends reserves first; small writes need not.
    fn reserve(&self, bytes: usize) -> Pin<Box<dyn Future<Output = Room> + Send + '_>>;

    /// Entries of `range` that are there, dense, from its start (or from the log's first where that is
    /// later) up to some `max_bytes`, but at least one. Checked: a hole or a changed bit is an error.
    fn log(&self, shard: ShardId, range: Range<LogIndex>, max_bytes: usize)
    -> Result<Vec<LogRow>, ReadError>;

    /// One entry.
    fn log_row(&self, shard: ShardId, index: LogIndex) -> Result<Option<LogRow>, ReadError>;

    /// Where the shard stands.
    fn shard_marks(&self, shard: ShardId) -> Result<ShardMarks, ReadError>;

    /// All state rows, in key order, keys as they were given.
    fn state(&self, shard: ShardId) -> Result<Vec<(Bytes, Bytes)>, ReadError>;

    /// The index row with the greatest base offset at or below `offset`.
    fn index_floor(&self, shard: ShardId, offset: Offset) -> Result<Option<IndexRow>, ReadError>;

    /// Up to `max_rows` index rows with base offset `from` or greater.
    fn index_range(&self, shard: ShardId, from: Offset, max_rows: usize) -> Result<Vec<IndexRow>, ReadError>;

    /// The first index row with an append time of `time` or later. Append times never decrease.
    fn index_at_time(&self, shard: ShardId, time: TimestampMs) -> Result<Option<IndexRow>, ReadError>;

    /// The checkpoint made at exactly `at`.
    fn checkpoint(&self, shard: ShardId, at: LogIndex) -> Result<Option<Bytes>, ReadError>;

    /// Where there are checkpoints, ascending.
    fn checkpoints(&self, shard: ShardId) -> Result<Vec<LogIndex>, ReadError>;

    /// Every shard that has any row, ascending.
    fn shards(&self) -> Result<Vec<ShardId>, ReadError>;

    /// How full the disk is.
    fn disk(&self) -> DiskUsage;

    /// Writes and syncs what is queued and leaves an exact marker. Blocks. Later writes fail; reads go on.
    fn close(&self) -> Result<(), WriteError>;
}

/// Where a shard stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardMarks {
    /// Last vote written.
    pub vote: Option<Bytes>,
    /// The purge point: what is gone from the log's beginning.
    pub purged: Option<Purged>,
    /// Last row of the log; none if it has no rows.
    pub last: Option<LogId>,
    /// Last entry whose change set is written.
    pub applied: Option<Applied>,
}

/// What is gone from a log's beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purged {
    /// Last entry that went.
    pub upto: LogIndex,
    /// As given in [`Write::Purge`] or [`Write::Install`].
    pub mark: Bytes,
}

/// How far a shard's state has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Last entry applied.
    pub id: LogId,
    /// As given in [`Write::Apply`] or [`Write::Install`].
    pub membership: Bytes,
}

/// How full the disk is, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Size of the file system.
    pub total: u64,
    /// What this process may still use of it.
    pub free: u64,
    /// What the store takes.
    pub used: u64,
}

/// Leave to queue some bytes; give it back by dropping it.
#[derive(Debug)]
pub struct Room(
    #[expect(dead_code, reason = "held to be dropped")] Option<tokio::sync::OwnedSemaphorePermit>,
);

impl Room {
    /// Waits for `bytes`, or for everything where `bytes` is more than there is.
    pub(crate) async fn wait(
        budget: std::sync::Arc<tokio::sync::Semaphore>,
        bytes: usize,
        of: usize,
    ) -> Self {
        let bytes = u32::try_from(bytes.min(of)).unwrap_or(u32::MAX);
        Self(budget.acquire_many_owned(bytes).await.ok())
    }
}
