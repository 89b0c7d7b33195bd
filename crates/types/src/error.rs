//! What a failed call says, and what its caller should do about it.
//!
//! Each operation has its own error enum with the facts inside; all of them become a [`Failure`] at the
//! border, by [`Describe`]. Numbers are the contract's (`errors.proto`).

use crate::id::NodeId;
use crate::offset::Term;
use std::time::Duration;

/// What went wrong. The numbers are the contract's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
#[expect(missing_docs, reason = "docs/operating/errors.md has a section for each")]
pub enum Reason {
    InvalidArgument = 1,
    Unauthenticated = 2,
    PermissionDenied = 3,
    UnsupportedVersion = 4,
    NotFound = 5,
    AlreadyExists = 6,
    UnknownTopicOrPartition = 10,
    NotLeader = 11,
    LeaderNotAvailable = 12,
    FencedLeaderEpoch = 13,
    UnknownLeaderEpoch = 14,
    NotCoordinator = 15,
    CoordinatorLoading = 16,
    OffsetOutOfRange = 20,
    BatchTooLarge = 21,
    CorruptBatch = 22,
    OffsetConflict = 23,
    StorageFailure = 24,
    RequestTimedOut = 25,
    OutOfOrderSequence = 30,
    InvalidProducerEpoch = 31,
    ProducerFenced = 32,
    ProducerStateExpired = 33,
    UnknownMemberId = 40,
    FencedMemberEpoch = 41,
    StaleMemberEpoch = 42,
    UnreleasedInstanceId = 43,
    UnsupportedAssignor = 44,
    GroupMaxSizeReached = 45,
    GroupTypeMismatch = 46,
    NonEmptyGroup = 47,
    UnstableOffsetCommit = 48,
    QuotaExceeded = 70,
    Overloaded = 71,
    NotEnoughReplicas = 72,
    DiskFull = 73,
    InvalidRecord = 81,
}

impl Reason {
    /// Every reason, for tables and tests.
    pub const ALL: [Self; 37] = [
        Self::InvalidArgument,
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::UnsupportedVersion,
        Self::NotFound,
        Self::AlreadyExists,
        Self::UnknownTopicOrPartition,
        Self::NotLeader,
        Self::LeaderNotAvailable,
        Self::FencedLeaderEpoch,
        Self::UnknownLeaderEpoch,
        Self::NotCoordinator,
        Self::CoordinatorLoading,
        Self::OffsetOutOfRange,
        Self::BatchTooLarge,
        Self::CorruptBatch,
        Self::OffsetConflict,
        Self::StorageFailure,
        Self::RequestTimedOut,
        Self::OutOfOrderSequence,
        Self::InvalidProducerEpoch,
        Self::ProducerFenced,
        Self::ProducerStateExpired,
        Self::UnknownMemberId,
        Self::FencedMemberEpoch,
        Self::StaleMemberEpoch,
        Self::UnreleasedInstanceId,
        Self::UnsupportedAssignor,
        Self::GroupMaxSizeReached,
        Self::GroupTypeMismatch,
        Self::NonEmptyGroup,
        Self::UnstableOffsetCommit,
        Self::QuotaExceeded,
        Self::Overloaded,
        Self::NotEnoughReplicas,
        Self::DiskFull,
        Self::InvalidRecord,
    ];

    /// As the contract spells it, without the enum's prefix: `NOT_LEADER`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::UnsupportedVersion => "UNSUPPORTED_VERSION",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::UnknownTopicOrPartition => "UNKNOWN_TOPIC_OR_PARTITION",
            Self::NotLeader => "NOT_LEADER",
            Self::LeaderNotAvailable => "LEADER_NOT_AVAILABLE",
            Self::FencedLeaderEpoch => "FENCED_LEADER_EPOCH",
            Self::UnknownLeaderEpoch => "UNKNOWN_LEADER_EPOCH",
            Self::NotCoordinator => "NOT_COORDINATOR",
            Self::CoordinatorLoading => "COORDINATOR_LOADING",
            Self::OffsetOutOfRange => "OFFSET_OUT_OF_RANGE",
            Self::BatchTooLarge => "BATCH_TOO_LARGE",
            Self::CorruptBatch => "CORRUPT_BATCH",
            Self::OffsetConflict => "OFFSET_CONFLICT",
            Self::StorageFailure => "STORAGE_FAILURE",
            Self::RequestTimedOut => "REQUEST_TIMED_OUT",
            Self::OutOfOrderSequence => "OUT_OF_ORDER_SEQUENCE",
            Self::InvalidProducerEpoch => "INVALID_PRODUCER_EPOCH",
            Self::ProducerFenced => "PRODUCER_FENCED",
            Self::ProducerStateExpired => "PRODUCER_STATE_EXPIRED",
            Self::UnknownMemberId => "UNKNOWN_MEMBER_ID",
            Self::FencedMemberEpoch => "FENCED_MEMBER_EPOCH",
            Self::StaleMemberEpoch => "STALE_MEMBER_EPOCH",
            Self::UnreleasedInstanceId => "UNRELEASED_INSTANCE_ID",
            Self::UnsupportedAssignor => "UNSUPPORTED_ASSIGNOR",
            Self::GroupMaxSizeReached => "GROUP_MAX_SIZE_REACHED",
            Self::GroupTypeMismatch => "GROUP_TYPE_MISMATCH",
            Self::NonEmptyGroup => "NON_EMPTY_GROUP",
            Self::UnstableOffsetCommit => "UNSTABLE_OFFSET_COMMIT",
            Self::QuotaExceeded => "QUOTA_EXCEEDED",
            Self::Overloaded => "OVERLOADED",
            Self::NotEnoughReplicas => "NOT_ENOUGH_REPLICAS",
            Self::DiskFull => "DISK_FULL",
            Self::InvalidRecord => "INVALID_RECORD",
        }
    }

    /// Reads the contract's number.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as i32 == number)
    }

    /// What a caller does about it, where the operation does not say otherwise.
    pub const fn action(self) -> Action {
        match self {
            Self::NotLeader
            | Self::FencedLeaderEpoch
            | Self::UnknownTopicOrPartition
            | Self::NotCoordinator => Action::RefreshMetadata,
            Self::LeaderNotAvailable
            | Self::CoordinatorLoading
            | Self::UnknownLeaderEpoch
            | Self::UnstableOffsetCommit
            | Self::UnreleasedInstanceId
            | Self::NotEnoughReplicas
            | Self::RequestTimedOut
            | Self::QuotaExceeded
            | Self::Overloaded
            | Self::StorageFailure
            | Self::DiskFull => Action::Retry,
            Self::OutOfOrderSequence | Self::ProducerStateExpired => Action::ReinitProducer,
            Self::InvalidProducerEpoch => Action::AbortTransaction,
            Self::UnknownMemberId | Self::FencedMemberEpoch => Action::Rejoin,
            Self::StaleMemberEpoch => Action::RefreshMember,
            _ => Action::Fail,
        }
    }
}

/// What the caller does. The numbers are the contract's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Action {
    /// Do not retry this call.
    Fail = 1,
    /// The same call again, after the given pause.
    Retry = 2,
    /// Go to the leader that is named, or refresh metadata; then retry.
    RefreshMetadata = 3,
    /// Drop the assignment and join again.
    Rejoin = 4,
    /// Wait for the next heartbeat's epoch, then retry.
    RefreshMember = 5,
    /// Abort the transaction, then go on.
    AbortTransaction = 6,
    /// Ask for a producer identity again.
    ReinitProducer = 7,
}

/// Where the leader is, as far as the answering node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderHint {
    /// The node.
    pub node: NodeId,
    /// Its client endpoint, `host:port`.
    pub endpoint: String,
    /// The leadership.
    pub term: Term,
}

/// A failed call, ready for any border: gRPC status, an item's error in a stream, a log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub reason: Reason,
    /// What to do about it.
    pub action: Action,
    /// Lowercase, names thing, value and limit, no full stop.
    pub message: String,
    /// Not before this has passed.
    pub retry_after: Option<Duration>,
    /// Who to ask instead.
    pub leader: Option<LeaderHint>,
    /// Facts for programs.
    pub metadata: Vec<(&'static str, String)>,
    /// Indefinite: the request may still take effect. Retry only with the same producer sequence, or look first.
    pub outcome_unknown: bool,
}

impl Failure {
    /// A definite failure with the reason's usual action.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            action: reason.action(),
            message: message.into(),
            retry_after: None,
            leader: None,
            metadata: Vec::new(),
            outcome_unknown: false,
        }
    }

    /// With a fact for programs.
    pub fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.metadata.push((key, value.to_string()));
        self
    }

    /// With a pause before the next try.
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = Some(pause);
        self
    }

    /// With a leader to go to.
    pub fn leader(mut self, leader: Option<LeaderHint>) -> Self {
        self.leader = leader;
        self
    }

    /// With another action than the reason's usual one.
    pub fn action(mut self, action: Action) -> Self {
        self.action = action;
        self
    }

    /// Marked indefinite.
    pub fn indefinite(mut self) -> Self {
        self.outcome_unknown = true;
        self
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.reason.name(), self.message)
    }
}

impl std::error::Error for Failure {}

/// An operation's error enum that can say what its caller needs to know.
pub trait Describe {
    /// As any border shows it.
    fn describe(&self) -> Failure;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_distinct_numbers_and_names() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(Reason::from_number(reason as i32), Some(reason));
            assert!(Reason::ALL[..place].iter().all(|other| other.name() != reason.name()));
        }
        assert_eq!(Reason::from_number(0), None);
    }
}
