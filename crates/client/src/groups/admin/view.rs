//! What the cluster says of groups, in the vocabulary's types. Field names are the contract's.

use super::super::event::TopicPartition;
use super::{offset_from_wire, partition_from_wire};
use crate::error::{Error, Result};
use flotilla_proto::v1;
use flotilla_types::{NodeId, Offset, PartitionId, TimestampMs};
use std::time::Duration;

/// How a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    /// The answering node is newer than this library, or said nothing.
    Unknown,
    /// It has no members; its offsets are kept for a while.
    Empty,
    /// It is being decided who gets what.
    Assigning,
    /// Members give partitions up and take others.
    Reconciling,
    /// Everybody owns what they should.
    Stable,
    /// It is going away.
    Dead,
}

/// How a member is, as the coordinator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// The answering node is newer than this library, or said nothing.
    Unknown,
    /// Owns its target.
    Stable,
    /// Has to give partitions up.
    UnrevokedPartitions,
    /// Waits for partitions that others still own.
    UnreleasedPartitions,
}

/// A consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub group_id: String,
    /// How it is.
    pub state: GroupState,
    /// Rises with every change of members, subscriptions and partitions.
    pub group_epoch: i64,
    /// The group epoch that the present target was computed for.
    pub assignment_epoch: i64,
    /// Who decides who gets what.
    pub assignor: String,
    /// The node that coordinates it.
    pub coordinator: Option<NodeId>,
    /// What members subscribe to by pattern, if they do.
    pub topic_regex: String,
    /// Topics that any member reads.
    pub topics: Vec<String>,
    /// How many members it has.
    pub member_count: u32,
    /// Records to be read, all partitions together, where that was counted.
    pub lag: Option<u64>,
    /// Its members, where they were asked for.
    pub members: Vec<Member>,
    /// Its partitions, where they were asked for.
    pub positions: Vec<Position>,
    /// Paused until then, in milliseconds since the Unix epoch.
    pub paused_until: Option<TimestampMs>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id, a UUID.
    pub member_id: String,
    /// Static membership; empty if it has none.
    pub instance_id: String,
    /// As it calls itself.
    pub client_id: String,
    /// Where it calls from.
    pub peer_address: String,
    /// Where it stands, if it said so.
    pub rack_id: String,
    /// The epoch it has reached.
    pub member_epoch: i64,
    /// How it is.
    pub state: MemberState,
    /// What it owns.
    pub assigned: Vec<TopicPartition>,
    /// What it should own.
    pub target: Vec<TopicPartition>,
    /// What it reads, patterns resolved.
    pub topics: Vec<String>,
    /// In milliseconds since the Unix epoch.
    pub last_heartbeat: Option<TimestampMs>,
}

/// How far a group is in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
    /// The next record to read; `None` = nothing is committed.
    pub committed_offset: Option<Offset>,
    /// The end of what readers see; `None` = nobody could be asked.
    pub end_offset: Option<Offset>,
    /// Records to be read.
    pub lag: u64,
    /// How long ago the first of them was appended.
    pub time_lag: Option<Duration>,
    /// Who reads it; empty = nobody.
    pub member_id: String,
}

/// What a seek moves, or would move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Partitions that are moved.
    pub moves: Vec<Move>,
    /// Partitions that are not, and why.
    pub errors: Vec<(String, PartitionId, Error)>,
}

/// One partition of a seek.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
    /// Where it was; `None` = nothing was committed.
    pub from_offset: Option<Offset>,
    /// Where it goes.
    pub to_offset: Offset,
    /// Where it was to go, if that is not in the log; `to_offset` is the nearest that is.
    pub clamped_from: Option<i64>,
}

/// A reason why a group does not advance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The topic; empty if it concerns the whole group.
    pub topic: String,
    /// The partition.
    pub partition: Option<PartitionId>,
    /// As the contract spells it: `NO_MEMBERS`.
    pub cause: String,
    /// For people: names the member, the offset and so on.
    pub detail: String,
    /// In milliseconds since the Unix epoch.
    pub since: Option<TimestampMs>,
}

/// What a group has committed in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOffset {
    /// Which.
    pub partition: TopicPartition,
    /// The next record to read.
    pub committed_offset: Offset,
    /// As the member gave it.
    pub metadata: String,
}

impl GroupState {
    /// As the contract spells it: `STABLE`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Empty => "EMPTY",
            Self::Assigning => "ASSIGNING",
            Self::Reconciling => "RECONCILING",
            Self::Stable => "STABLE",
            Self::Dead => "DEAD",
        }
    }

    fn from_number(number: i32) -> Self {
        use v1::group::State;
        match State::try_from(number) {
            Ok(State::Empty) => Self::Empty,
            Ok(State::Assigning) => Self::Assigning,
            Ok(State::Reconciling) => Self::Reconciling,
            Ok(State::Stable) => Self::Stable,
            Ok(State::Dead) => Self::Dead,
            Ok(State::Unspecified) | Err(_) => Self::Unknown,
        }
    }
}

impl MemberState {
    /// As the contract spells it: `UNREVOKED_PARTITIONS`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Stable => "STABLE",
            Self::UnrevokedPartitions => "UNREVOKED_PARTITIONS",
            Self::UnreleasedPartitions => "UNRELEASED_PARTITIONS",
        }
    }

    fn from_number(number: i32) -> Self {
        use v1::group::member::State;
        match State::try_from(number) {
            Ok(State::Stable) => Self::Stable,
            Ok(State::UnrevokedPartitions) => Self::UnrevokedPartitions,
            Ok(State::UnreleasedPartitions) => Self::UnreleasedPartitions,
            Ok(State::Unspecified) | Err(_) => Self::Unknown,
        }
    }
}

fn time(wire: Option<prost_types::Timestamp>) -> Option<TimestampMs> {
    wire.map(|time| time.seconds.saturating_mul(1_000).saturating_add(i64::from(time.nanos) / 1_000_000))
}

fn partition(number: i32) -> PartitionId {
    PartitionId(u32::try_from(number).unwrap_or(0))
}

fn partitions(wire: Vec<v1::TopicPartition>) -> Vec<TopicPartition> {
    wire.iter().filter_map(|tp| partition_from_wire(&tp.topic, tp.partition).ok()).collect()
}

impl Group {
    pub(super) fn from_wire(wire: v1::Group) -> Self {
        let members: Vec<Member> = wire.members.into_iter().map(Member::from_wire).collect();
        Self {
            group_id: wire.group_id,
            state: GroupState::from_number(wire.state),
            group_epoch: wire.group_epoch,
            assignment_epoch: wire.assignment_epoch,
            assignor: wire.assignor,
            coordinator: u32::try_from(wire.coordinator_node_id).ok().filter(|n| *n > 0).map(NodeId),
            topic_regex: wire.topic_regex,
            topics: wire.topics,
            member_count: u32::try_from(wire.member_count).unwrap_or(0).max(members.len() as u32),
            lag: wire.lag.and_then(|lag| u64::try_from(lag).ok()),
            members,
            positions: wire.positions.into_iter().map(Position::from_wire).collect(),
            paused_until: time(wire.paused_until),
        }
    }
}

impl Member {
    fn from_wire(wire: v1::group::Member) -> Self {
        Self {
            member_id: wire.member_id,
            instance_id: wire.instance_id,
            client_id: wire.client_id,
            peer_address: wire.peer_address,
            rack_id: wire.rack_id,
            member_epoch: wire.member_epoch,
            state: MemberState::from_number(wire.state),
            assigned: partitions(wire.assigned),
            target: partitions(wire.target),
            topics: wire.topics,
            last_heartbeat: time(wire.last_heartbeat),
        }
    }
}

impl Position {
    fn from_wire(wire: v1::group::Position) -> Self {
        Self {
            topic: wire.topic,
            partition: partition(wire.partition),
            committed_offset: offset_from_wire(wire.committed_offset),
            end_offset: offset_from_wire(wire.end_offset),
            lag: u64::try_from(wire.lag).unwrap_or(0),
            time_lag: wire.time_lag.and_then(|lag| Duration::try_from(lag).ok()),
            member_id: wire.member_id,
        }
    }
}

impl Plan {
    pub(super) fn from_wire(wire: v1::SeekGroupResponse) -> Self {
        let moved = |wire: v1::seek_group_response::Move| Move {
            topic: wire.topic,
            partition: partition(wire.partition),
            from_offset: offset_from_wire(wire.from_offset),
            to_offset: offset_from_wire(wire.to_offset).unwrap_or_default(),
            clamped_from: wire.clamped_from,
        };
        let failed = |wire: v1::PartitionError| {
            (wire.topic, partition(wire.partition), Error::from_wire(wire.error.unwrap_or_default()))
        };
        Self {
            moves: wire.moves.into_iter().map(moved).collect(),
            errors: wire.errors.into_iter().map(failed).collect(),
        }
    }
}

impl Finding {
    pub(super) fn from_wire(wire: v1::explain_group_response::Finding) -> Self {
        Self {
            partition: (!wire.topic.is_empty()).then(|| partition(wire.partition)),
            topic: wire.topic,
            cause: wire.cause,
            detail: wire.detail,
            since: time(wire.since),
        }
    }
}

impl GroupOffset {
    pub(super) fn from_wire(wire: v1::OffsetCommit) -> Result<Self> {
        let partition = partition_from_wire(&wire.topic, wire.partition)?;
        let committed_offset = offset_from_wire(wire.committed_offset).ok_or_else(|| {
            Error::lost(format!("answer names offset {} of {partition}", wire.committed_offset))
        })?;
        Ok(Self { partition, committed_offset, metadata: wire.metadata })
    }
}
