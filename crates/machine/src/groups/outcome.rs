//! What a coordinator answers about its groups, and what changed for others than the one who asked.

use super::command::{Assignor, Overdue};
use super::refusal::Refusal;
use flotilla_types::{GroupEpoch, GroupId, LogIndex, MemberId, Offset, PartitionId, TopicId, TopicName};

/// What came of one command.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// For whoever asked. Definite either way.
    pub answer: Result<Answer, Refusal>,
    /// Groups whose members, target or assignment changed by it: for heartbeats that are held, for events
    /// and logs.
    pub changes: Vec<Change>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The member, as it is after the command: to `Join`, `Resubscribe` and `Acknowledge`.
    Member(Box<Assignment>),
    /// It is no member (any more), or a static one that is away.
    Left,
    /// What the leader waited for came after all: nothing was done.
    NotOverdue,
    /// The member is out.
    Expired,
    /// These were not committed; everything else was.
    Committed {
        /// Which, and why not. Empty = all were.
        refused: Vec<RefusedOffset>,
    },
    /// The offsets are there now.
    Sought {
        /// One for each that was asked for, in order.
        moves: Vec<Move>,
    },
    /// The group is as asked.
    Configured,
    /// The group is gone.
    Deleted,
    /// The topics are known; see the changes.
    TopicsSeen,
    /// These were forgotten.
    OffsetsExpired {
        /// Groups that are gone.
        groups: u32,
        /// Offsets that are gone.
        offsets: u32,
        /// There is more to forget: ask again.
        more: bool,
    },
}

/// What a member is to own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The member's epoch: it sends this one from now on.
    pub member_epoch: GroupEpoch,
    /// The group's.
    pub group_epoch: GroupEpoch,
    /// When this assignment last changed: the same revision is the same assignment.
    pub revision: LogIndex,
    /// What it owns and keeps, by topic name and partition. Anything else that it has it must give up.
    pub partitions: Vec<AssignedPartition>,
    /// It must give up partitions, and acknowledge that, before it goes on to the group's epoch.
    pub must_acknowledge: bool,
}

/// A partition that a member owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignedPartition {
    /// The topic's name.
    pub topic: TopicName,
    /// This life of the topic.
    pub topic_id: TopicId,
    /// Which partition.
    pub partition: PartitionId,
    /// Since which member epoch it is the owner, or which seek moved it: offset commits with an earlier one
    /// are refused. A greater one than before tells the member to read from the committed offset.
    pub assignment_epoch: GroupEpoch,
    /// The next record to read, where one was committed.
    pub committed: Option<Offset>,
}

/// One offset commit that was refused.
#[derive(Clone, Debug, PartialEq)]
pub struct RefusedOffset {
    /// As given.
    pub topic: TopicId,
    /// As given.
    pub partition: PartitionId,
    /// Why.
    pub refusal: Refusal,
}

/// Where a seek moved an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// As given.
    pub topic: TopicId,
    /// As given.
    pub partition: PartitionId,
    /// Where it was; absent = nothing was committed.
    pub from: Option<Offset>,
    /// Where it is.
    pub to: Offset,
}

/// What one command changed in one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which group.
    pub group: GroupId,
    /// Its epoch after it.
    pub epoch: GroupEpoch,
    /// Why.
    pub cause: Cause,
    /// How the group is after it. When it is `Stable` or `Empty`, the rebalance is over.
    pub state: GroupState,
    /// Partitions whose target changed, by this command.
    pub moved: Vec<Moved>,
    /// Members that have another revision than before: answer their heartbeats.
    pub revised: Vec<MemberId>,
    /// Members that are out: answer their heartbeats with a refusal.
    pub removed: Vec<MemberId>,
}

/// A partition that is to have another owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Its topic.
    pub topic: TopicId,
    /// Which partition.
    pub partition: PartitionId,
    /// Whose it was to be.
    pub from: Option<MemberId>,
    /// Whose it is to be.
    pub to: Option<MemberId>,
}

/// Why a group changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A new member.
    Joined(MemberId),
    /// A member that was there before begins again with empty hands. It keeps what it is to have.
    Rejoined(MemberId),
    /// A static member is back under another name: no partition moves.
    Replaced {
        /// Who had the instance.
        old: MemberId,
        /// Who has it.
        new: MemberId,
    },
    /// A member wants other topics.
    Resubscribed(MemberId),
    /// A member gave partitions up, and others got them: the epoch stays.
    Acknowledged(MemberId),
    /// A member left.
    Left(MemberId),
    /// A static member is away: no partition moves.
    Away(MemberId),
    /// A member was waited for in vain.
    Expired(MemberId, Overdue),
    /// Offsets were moved.
    Sought,
    /// Topics changed.
    TopicsChanged,
    /// The group was deleted with its members.
    Deleted,
}

/// How a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    /// It has no members.
    Empty,
    /// Some member has not what it is to have.
    Reconciling,
    /// Everyone has what he is to have.
    Stable,
}

/// How a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// It has its target.
    Stable,
    /// It has to give up partitions.
    UnrevokedPartitions,
    /// It waits for partitions that others still own.
    UnreleasedPartitions,
}

impl GroupState {
    /// In lower case, for logs and filters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Reconciling => "reconciling",
            Self::Stable => "stable",
        }
    }
}

impl Cause {
    /// One word, for logs, events and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Joined(_) => "joined",
            Self::Rejoined(_) => "rejoined",
            Self::Replaced { .. } => "replaced",
            Self::Resubscribed(_) => "resubscribed",
            Self::Acknowledged(_) => "acknowledged",
            Self::Left(_) => "left",
            Self::Away(_) => "away",
            Self::Expired(_, Overdue::Session) => "session_expired",
            Self::Expired(_, Overdue::Revocation) => "revocation_expired",
            Self::Expired(_, Overdue::Poll) => "poll_expired",
            Self::Sought => "sought",
            Self::TopicsChanged => "topics_changed",
            Self::Deleted => "deleted",
        }
    }

    /// Which member it is about.
    pub const fn member(&self) -> Option<&MemberId> {
        match self {
            Self::Joined(member)
            | Self::Rejoined(member)
            | Self::Replaced { new: member, .. }
            | Self::Resubscribed(member)
            | Self::Acknowledged(member)
            | Self::Left(member)
            | Self::Away(member)
            | Self::Expired(member, _) => Some(member),
            Self::Sought | Self::TopicsChanged | Self::Deleted => None,
        }
    }
}

impl std::fmt::Display for Assignor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
