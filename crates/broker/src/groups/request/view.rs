//! Groups as people see them.

use flotilla_types::{GroupId, InstanceId, MemberId, NodeId, PartitionId, TimestampMs, TopicName};
use serde::{Deserialize, Serialize};
use std::time::Duration;

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
    /// Its members have nothing to read until then.
    pub paused_until: Option<TimestampMs>,
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

/// What belongs to a group itself, changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateGroup {
    /// Which group.
    pub group: GroupId,
    /// What is to change, as the contract names it; at least one.
    pub fields: Vec<String>,
    /// Paused until then; `None` = not paused.
    pub paused_until: Option<TimestampMs>,
}
