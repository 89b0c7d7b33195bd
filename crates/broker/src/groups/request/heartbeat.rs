//! A member and its coordinator.

use flotilla_types::{GroupId, InstanceId, MemberId, PartitionId, TopicId, TopicName};
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
