//! What can be written, and the row of the log that readers get back.

use crate::error::WriteError;
use bytes::Bytes;
use flotilla_types::{ChangeSet, LogId, LogIndex, Offset, ShardId};

/// Whose entry it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// Consensus' own, empty: a new leader's first.
    Blank = 0,
    /// Something to apply.
    Command = 1,
    /// A change of who votes.
    Membership = 2,
}

impl EntryKind {
    /// Reads the number that is on disk.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Blank),
            1 => Some(Self::Command),
            2 => Some(Self::Membership),
            _ => None,
        }
    }
}

/// One entry of a shard's log. Header and payload are shared, never copied on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRow {
    /// Its place and the leadership that wrote it.
    pub id: LogId,
    /// Whose entry it is.
    pub kind: EntryKind,
    /// Small: the encoded command, or the membership. At most [`LogRow::HEADER_MAX_BYTES`].
    pub header: Bytes,
    /// Large: a batch's body, exactly as its maker sent it. May be empty.
    pub payload: Bytes,
}

impl LogRow {
    /// Longest header.
    pub const HEADER_MAX_BYTES: usize = 64 << 20;

    /// Bytes it weighs against every limit on bytes: header, payload and a fixed part.
    pub fn weight(&self) -> usize {
        self.header.len() + self.payload.len() + 64
    }
}

/// One write. Writes take effect in the order of [`submit`](crate::Store::submit), on disk as well.
#[derive(Clone, Debug)]
pub enum Write {
    /// Entries that continue the shard's log without a hole; the first of a new log is 0 or 1. Synced.
    Append {
        /// Whose log.
        shard: ShardId,
        /// In index order, dense.
        rows: Vec<LogRow>,
    },
    /// Removes the log's end: `from` and everything after it, which was never applied. Synced.
    Truncate {
        /// Whose log.
        shard: ShardId,
        /// First entry that goes.
        from: LogIndex,
    },
    /// Removes the log's beginning, the index rows that point into it and checkpoints before `upto`, and
    /// remembers the purge point, all in one. Not synced by itself: if it is lost it is done again. The
    /// space comes back later, by a compaction in the background.
    Purge {
        /// Whose log.
        shard: ShardId,
        /// Last entry that goes.
        upto: LogIndex,
        /// What the caller wants to find again about it; see [`ShardMarks::purged`](crate::ShardMarks).
        mark: Bytes,
        /// Index rows with a smaller base offset go.
        index_below: Offset,
    },
    /// The shard's vote. Synced.
    Vote {
        /// Whose vote.
        shard: ShardId,
        /// Opaque.
        vote: Bytes,
    },
    /// What applying entries wrote. Rides in the next batch and is written alone after some 20 ms; never
    /// synced by itself, because the log can replay it. `done` means written, not synced.
    Apply {
        /// Whose state.
        shard: ShardId,
        /// Index rows and state rows.
        changes: ChangeSet,
        /// Last entry applied. Its row must have been submitted before; it never goes back.
        applied: LogId,
        /// Who votes as of `applied`; opaque.
        membership: Bytes,
        /// The shard's small state as of an index, kept until it is purged.
        checkpoint: Option<(LogIndex, Bytes)>,
    },
    /// Puts a snapshot in the place of everything up to `applied`: state, index and checkpoints become the
    /// snapshot's, log rows up to it go, and it becomes the purge point. One batch, synced.
    Install {
        /// Whose state.
        shard: ShardId,
        /// Last entry the snapshot contains.
        applied: LogId,
        /// Who votes as of `applied`; opaque.
        membership: Bytes,
        /// As in [`Write::Purge`].
        mark: Bytes,
        /// All state rows.
        rows: Vec<(Bytes, Bytes)>,
        /// The snapshot as a checkpoint at `applied`.
        checkpoint: Bytes,
    },
    /// Removes every row of the shard. Nothing else of it may be submitted until `done`. Synced.
    Destroy {
        /// Which shard.
        shard: ShardId,
    },
}

impl Write {
    /// The shard it is about.
    pub const fn shard(&self) -> ShardId {
        match self {
            Self::Append { shard, .. }
            | Self::Truncate { shard, .. }
            | Self::Purge { shard, .. }
            | Self::Vote { shard, .. }
            | Self::Apply { shard, .. }
            | Self::Install { shard, .. }
            | Self::Destroy { shard } => *shard,
        }
    }

    /// Whether its `done` waits for a sync.
    pub const fn needs_sync(&self) -> bool {
        !matches!(self, Self::Apply { .. } | Self::Purge { .. })
    }

    /// Whether it can wait a little for company.
    pub const fn is_patient(&self) -> bool {
        matches!(self, Self::Apply { .. })
    }

    /// Bytes it weighs in the queue and in a commit.
    pub fn weight(&self) -> usize {
        const ROW: usize = 64;
        ROW + match self {
            Self::Append { rows, .. } => rows.iter().map(LogRow::weight).sum(),
            Self::Truncate { .. } | Self::Destroy { .. } => 0,
            Self::Purge { mark, .. } => mark.len(),
            Self::Vote { vote, .. } => vote.len(),
            Self::Apply { changes, membership, checkpoint, .. } => {
                let state =
                    changes.state.iter().map(|s| s.key.len() + s.value.as_ref().map_or(0, Bytes::len));
                state.sum::<usize>()
                    + (changes.index.len() + changes.state.len()) * ROW
                    + membership.len()
                    + checkpoint.as_ref().map_or(0, |(_, bytes)| bytes.len())
            }
            Self::Install { membership, mark, rows, checkpoint, .. } => {
                rows.iter().map(|(key, value)| key.len() + value.len() + ROW).sum::<usize>()
                    + membership.len()
                    + mark.len()
                    + checkpoint.len()
            }
        }
    }
}

/// Told what became of a write: on the writer's thread, in submit order. Must not block. `Err` means
/// *unknown*: the write may be there after a restart.
pub type Done = Box<dyn FnOnce(Result<(), WriteError>) + Send>;
