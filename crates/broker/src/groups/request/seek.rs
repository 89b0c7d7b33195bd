//! Other positions for a group.

use super::{OffsetCommit, PartitionFailure};
use flotilla_types::{GroupId, PartitionId, TimestampMs, TopicName};
use serde::{Deserialize, Serialize};

/// Other positions for a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seek {
    /// Which group.
    pub group: GroupId,
    /// Empty = all that it has to do with.
    pub partitions: Vec<(String, i32)>,
    /// Where to.
    pub to: SeekTo,
    /// Only say what would be done.
    pub validate_only: bool,
}

/// Where a group goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SeekTo {
    /// The first record kept.
    Earliest,
    /// After the last.
    Latest,
    /// The first record appended then or later; after the last, if there is none.
    Time(TimestampMs),
    /// So many records on, or back.
    ShiftBy(i64),
    /// Where another group is.
    LikeGroup(GroupId),
    /// These.
    Offsets(Vec<OffsetCommit>),
}

/// What a seek does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seeked {
    /// By topic and partition.
    pub moves: Vec<Move>,
    /// Partitions that stay where they are.
    pub errors: Vec<PartitionFailure>,
}

/// One partition's move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Move {
    /// Which topic.
    pub topic: TopicName,
    /// Which partition.
    pub partition: PartitionId,
    /// `None` = nothing was committed.
    pub from: Option<u64>,
    /// In the log, or just after it.
    pub to: u64,
    /// Where it was to go, if that is not in the log.
    pub clamped_from: Option<i64>,
}
