//! What is asked about groups, and what comes back. All of it travels between nodes too.

use flotilla_types::{
    Failure, GroupId, InstanceId, MemberId, NodeId, PartitionId, TimestampMs, TopicId, TopicName,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A member joins, says that it lives, acknowledges its assignment, or leaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Which group.
    pub group: GroupId,
    /// Chosen by the client, once.
    pub member: MemberId,
    /// 0 joins.
    pub member_epoch: u64,
    /// Static membership.
    pub instance: Option<InstanceId>,
    /// When joining, and when changed.
    pub subscription: Option<Subscription>,
    /// When joining, when changed, and to acknowledge a revocation.
    pub owned: Option<Vec<(TopicName, PartitionId)>>,
    /// The member goes.
    pub leave: Option<Leave>,
    /// How long the answer may be held while there is nothing to say.
    pub max_wait: Duration,
    /// Where the member's calls come from; for people.
    pub peer: String,
}

/// What a member wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// By name.
    pub topics: Vec<TopicName>,
    /// By pattern; empty = none.
    pub pattern: String,
    /// Empty = the group's or the default.
    pub assignor: String,
    /// Where the member stands; empty = unknown.
    pub rack: String,
    /// How long it may take to give partitions up.
    pub rebalance_timeout: Option<Duration>,
    /// For people.
    pub client_id: String,
}

/// How a member goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leave {
    /// Its partitions go to others.
    Forever,
    /// A static member that will be back within its session.
    Temporarily,
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeartbeatAnswer {
    /// What the member has reached.
    pub member_epoch: u64,
    /// How often to send heartbeats that are not held.
    pub heartbeat_interval: Duration,
    /// How long a member may be silent.
    pub session_timeout: Duration,
    /// `None` = as it was told before.
    pub assignment: Option<Assignment>,
}

/// What a member may own now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// The group's.
    pub group_epoch: u64,
    /// By topic and partition.
    pub entries: Vec<Assigned>,
}

/// One partition of an assignment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assigned {
    /// Which topic.
    pub topic: TopicName,
    /// Which life of it.
    pub topic_id: TopicId,
    /// Which partition.
    pub partition: PartitionId,
    /// Commits sent with an older epoch are refused.
    pub assignment_epoch: u64,
    /// Where to go on; `None` = nothing was committed.
    pub committed: Option<u64>,
}

/// Offsets to store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommitOffsets {
    /// Which group.
    pub group: GroupId,
    /// Who; `None` for an administrator, who may while nobody is in the group.
    pub member: Option<(MemberId, u64)>,
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

/// A page of groups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ListGroups {
    /// `state=STABLE`, `topic=orders`, `lag>1000`, with spaces or commas between: all must hold.
    pub filter: String,
    /// At most this many; 0 = 100, never more than 1000.
    pub page_size: u32,
    /// From an earlier page's answer; empty = from the beginning.
    pub page_token: String,
}

/// One page.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GroupPage {
    /// By name, without members and positions.
    pub groups: Vec<Group>,
    /// For the next page; empty = this was the last.
    pub next_page_token: String,
}

/// How far a group is with what it decided last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupState {
    /// Nobody is in it.
    Empty,
    /// Members are on their way to their targets.
    Reconciling,
    /// Everybody owns what he is to own.
    Stable,
}

impl GroupState {
    /// As filters name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "EMPTY",
            Self::Reconciling => "RECONCILING",
            Self::Stable => "STABLE",
        }
    }
}

/// A group as people see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub id: GroupId,
    /// How far it is.
    pub state: GroupState,
    /// Rises with membership, subscriptions and topics.
    pub group_epoch: u64,
    /// Who makes the target.
    pub assignor: String,
    /// The node that leads its coordinator.
    pub coordinator: NodeId,
    /// How many are in it.
    pub member_count: u32,
    /// By id; empty in a list.
    pub members: Vec<Member>,
    /// By topic and partition; empty in a list.
    pub positions: Vec<Position>,
    /// Records that are not consumed; in a list only where the filter asks.
    pub lag: Option<u64>,
    /// Subscribed by any member, patterns resolved.
    pub topics: Vec<TopicName>,
}

/// A member as people see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Static membership.
    pub instance: Option<InstanceId>,
    /// As it says.
    pub client_id: String,
    /// Where its last heartbeat came from; empty just after the coordinator moved.
    pub peer: String,
    /// Where it stands.
    pub rack: String,
    /// What it has reached.
    pub epoch: u64,
    /// What it is doing.
    pub state: MemberState,
    /// May be its now.
    pub assigned: Vec<(TopicName, PartitionId)>,
    /// Is to be its.
    pub target: Vec<(TopicName, PartitionId)>,
    /// By this node's clock; `None` just after the coordinator moved.
    pub last_heartbeat: Option<TimestampMs>,
    /// Wants these, patterns resolved.
    pub topics: Vec<TopicName>,
    /// Wants these by pattern.
    pub pattern: String,
}

/// What a member is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberState {
    /// Owns its target.
    Stable,
    /// Has to give up partitions first.
    Unrevoked,
    /// Waits for partitions that others still have.
    Unreleased,
}

/// How far a group is in one partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Which topic.
    pub topic: TopicName,
    /// Which partition.
    pub partition: PartitionId,
    /// The next record to read; `None` = nothing was committed.
    pub committed: Option<u64>,
    /// What comes after the last readable record; `None` = the partition's leader cannot be asked.
    pub end: Option<u64>,
    /// Records not consumed: from what was committed, or from the log's start, to the end.
    pub lag: Option<u64>,
    /// How long the first of these has been there.
    pub time_lag: Option<Duration>,
    /// Who owns it.
    pub member: Option<MemberId>,
}

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

/// Why a group does not advance in a partition, or at all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// `None` = the whole group.
    pub partition: Option<(TopicName, PartitionId)>,
    /// One of [`crate::groups::cause`].
    pub cause: String,
    /// For people: names the member, the node, the time.
    pub detail: String,
    /// Since when, where that is known.
    pub since: Option<TimestampMs>,
}
