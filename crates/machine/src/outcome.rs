//! What applying a command gives back: an answer for whoever asked, and what is to be written.

use crate::{controller, partitions};
use flotilla_types::{ChangeSet, LogIndex, Offset, TimestampMs};

/// The answer to one command. Every replica gets the same one; the leader's goes to the caller.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The batch is in the log at `base_offset`.
    Appended {
        /// Offset of the batch's first record; of the first copy's if this is a duplicate.
        base_offset: Offset,
        /// When the batch (or its first copy) was appended.
        append_time: TimestampMs,
        /// First offset that is kept.
        log_start: Offset,
        /// The batch was there already; nothing was appended.
        duplicate: bool,
    },
    /// The batch was not appended and never will be by this command. Definite.
    AppendRefused(partitions::Refusal),
    /// The log starts here now; at or above what was asked if it had moved further before.
    Trimmed {
        /// First offset that is kept.
        log_start: Offset,
    },
    /// Nothing was trimmed: the log ends before the offset that was asked for. Definite.
    TrimRefused {
        /// The log's end: the next record's offset.
        next_offset: Offset,
    },
    /// The chain was compared (or `at` is no longer, or not yet, remembered here).
    Audited {
        /// Whether this replica could compare.
        compared: bool,
    },
    /// The controller's answer.
    Controller(controller::Outcome),
    /// A coordinator's answer about its groups.
    Group(Box<crate::groups::Outcome>),
    /// Done, with nothing to say; also for Raft's own entries.
    Noop,
    /// The command is for another kind of shard. Nothing was done. Definite.
    Misdirected,
}

/// What applying one entry did.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// For whoever asked.
    pub outcome: Outcome,
    /// For the store. Its size follows the change, not the state.
    pub changes: ChangeSet,
    /// Write [`crate::Shard::rows`], taken now, as a checkpoint at this entry's index, together with the
    /// membership as of this index.
    pub checkpoint: bool,
    /// Hand this checkpoint to Raft as its snapshot and purge the log up to it. May be the checkpoint
    /// that this very entry makes: write that one first.
    pub purge_to: Option<PurgeTo>,
}

/// How far the log may be purged. Never goes back on one replica; a replica that was given a later
/// checkpoint as its first state passes by earlier ones while it catches up, and ignores those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurgeTo {
    /// The last entry that goes. A checkpoint exists at this index.
    pub index: LogIndex,
    /// Index rows below this offset go with it.
    pub index_rows_below: Offset,
}

/// The shard cannot go on here: its state or the log contradicts itself. The applier stops this shard on
/// this node and raises an alarm; the rest of the node goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Broken {
    /// For people: thing and values.
    pub why: String,
}

impl Broken {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into() }
    }
}
