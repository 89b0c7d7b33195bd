//! Offsets that are stored for a group.

use flotilla_types::{Failure, GroupId, MemberId, TopicId};
use serde::{Deserialize, Serialize};

/// Offsets to store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommitOffsets {
    /// Which group.
    pub group: GroupId,
    /// Who; `None` for an administrator, who may while nobody is in the group.
    pub member: Option<(MemberId, u64)>,
    /// Rises with each call of a member, so that one that was held up on its way does not undo a later one;
    /// 0 = not numbered.
    pub number: u64,
    /// At most [`flotilla_types::limits::OFFSET_COMMITS_MAX`].
    pub offsets: Vec<OffsetCommit>,
}

/// One offset to store, or one that is. Unchecked: what is wrong with one is said of that one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OffsetCommit {
    /// Which topic.
    pub topic: String,
    /// Which partition.
    pub partition: i32,
    /// The next record to read.
    pub offset: i64,
    /// Of the last record read.
    pub leader_epoch: Option<i64>,
    /// The committer's.
    pub metadata: String,
    /// Which life of the topic; `None` = the one there is.
    pub topic_id: Option<TopicId>,
}

/// Why something was not done for one partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartitionFailure {
    /// As it was asked for.
    pub topic: String,
    /// As it was asked for.
    pub partition: i32,
    /// Why.
    #[serde(with = "crate::forward::failure")]
    pub failure: Failure,
}

/// Offsets to read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FetchOffsets {
    /// Which group.
    pub group: GroupId,
    /// Empty = all.
    pub partitions: Vec<(String, i32)>,
    /// Refused if no member of the group has this epoch or a later one.
    pub member_epoch: Option<u64>,
}

/// What is stored. Partitions without an offset are in neither list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FetchedOffsets {
    /// By topic and partition.
    pub offsets: Vec<OffsetCommit>,
    /// What could not be asked for.
    pub errors: Vec<PartitionFailure>,
}
