//! Why nothing was done for a group. All of these are definite.

use flotilla_types::error::Describe;
use flotilla_types::{Failure, GroupEpoch, GroupId, InstanceId, MemberId, PartitionId, Reason, TopicId};

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such group.
    #[error("group {group} does not exist")]
    GroupUnknown {
        /// As given.
        group: GroupId,
    },
    /// No such member (any more): it drops what it has and joins again.
    #[error("group {group} has no member {member}")]
    MemberUnknown {
        /// As given.
        group: GroupId,
        /// As given.
        member: MemberId,
    },
    /// The epoch is not one of this member's: it drops what it has and joins again.
    #[error("member {member} sent epoch {given}, expected {joined} to {current}")]
    Fenced {
        /// As given.
        member: MemberId,
        /// As given.
        given: GroupEpoch,
        /// When it joined, for the last time.
        joined: GroupEpoch,
        /// Where it is.
        current: GroupEpoch,
    },
    /// The member owns the partition since a later epoch, or a seek moved it since.
    #[error("partition {partition} of topic {topic} is assigned since epoch {assigned}, sent was {given}")]
    Stale {
        /// As given.
        topic: TopicId,
        /// As given.
        partition: PartitionId,
        /// As given.
        given: GroupEpoch,
        /// The earliest that counts.
        assigned: GroupEpoch,
    },
    /// Somebody else owns the partition, or nobody.
    #[error("partition {partition} of topic {topic} is not assigned to this member")]
    NotOwned {
        /// As given.
        topic: TopicId,
        /// As given.
        partition: PartitionId,
    },
    /// Another member has this instance id and has not left.
    #[error("instance {instance} is held by member {holder}, which has not left")]
    InstanceHeld {
        /// As given.
        instance: InstanceId,
        /// Who has it.
        holder: MemberId,
    },
    /// There is none of this name.
    #[error("assignor {name} is not known, expected \"uniform\" or \"range\"")]
    UnsupportedAssignor {
        /// As given, escaped and cut.
        name: String,
    },
    /// The group has as many members as it may have.
    #[error("group {group} has {limit} members, limit {limit}")]
    GroupFull {
        /// Which group.
        group: GroupId,
        /// The limit.
        limit: u32,
    },
    /// The group has members.
    #[error("group {group} has {members} members")]
    NotEmpty {
        /// Which group.
        group: GroupId,
        /// How many.
        members: usize,
    },
    /// A field that cannot be right.
    #[error("{field} is {value}, {expected}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// As given, escaped and cut, or how much it is.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A bound of the coordinator is reached.
    #[error("{what} would be more than the limit {limit}")]
    LimitReached {
        /// Of what there are too many.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
}

impl Describe for Refusal {
    fn describe(&self) -> Failure {
        let reason = match self {
            Self::GroupUnknown { .. } => Reason::NotFound,
            Self::MemberUnknown { .. } => Reason::UnknownMemberId,
            Self::Fenced { .. } => Reason::FencedMemberEpoch,
            Self::Stale { .. } | Self::NotOwned { .. } => Reason::StaleMemberEpoch,
            Self::InstanceHeld { .. } => Reason::UnreleasedInstanceId,
            Self::UnsupportedAssignor { .. } => Reason::UnsupportedAssignor,
            Self::GroupFull { .. } => Reason::GroupMaxSizeReached,
            Self::NotEmpty { .. } => Reason::NonEmptyGroup,
            Self::Invalid { .. } => Reason::InvalidArgument,
            Self::LimitReached { .. } => Reason::QuotaExceeded,
        };
        let failure = Failure::new(reason, self.to_string());
        match self {
            Self::GroupUnknown { .. } => failure.with("resource", "group"),
            Self::Fenced { current, .. } => failure.with("current_epoch", current),
            Self::Stale { assigned, .. } => failure.with("assignment_epoch", assigned),
            // More members or offsets do not fit before somebody removes some: not a matter of waiting.
            Self::LimitReached { .. } => failure.action(flotilla_types::Action::Fail),
            _ => failure,
        }
    }
}
