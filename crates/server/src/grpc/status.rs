//! The only place where a failure becomes a status.
//!
//! Code by the table below; `ErrorInfo` carries reason, action, outcome and leader, `RetryInfo` the pause.

use flotilla_proto::convert::errors::{DOMAIN, to_metadata};
use flotilla_types::error::Describe;
use flotilla_types::{Failure, Reason};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The code of each reason.
pub const fn code(reason: Reason) -> Code {
    match reason {
        Reason::InvalidArgument | Reason::BatchTooLarge | Reason::CorruptBatch | Reason::InvalidRecord => {
            Code::InvalidArgument
        }
        Reason::Unauthenticated => Code::Unauthenticated,
        Reason::PermissionDenied => Code::PermissionDenied,
        Reason::UnsupportedVersion => Code::Unimplemented,
        Reason::UnsupportedAssignor => Code::InvalidArgument,
        Reason::NotFound | Reason::UnknownTopicOrPartition => Code::NotFound,
        Reason::AlreadyExists => Code::AlreadyExists,
        Reason::NotLeader
        | Reason::NotCoordinator
        | Reason::FencedLeaderEpoch
        | Reason::UnreleasedInstanceId
        | Reason::GroupTypeMismatch
        | Reason::NonEmptyGroup
        | Reason::OutOfOrderSequence
        | Reason::ProducerStateExpired => Code::FailedPrecondition,
        Reason::LeaderNotAvailable
        | Reason::UnknownLeaderEpoch
        | Reason::NotEnoughReplicas
        | Reason::CoordinatorLoading
        | Reason::UnstableOffsetCommit => Code::Unavailable,
        Reason::OffsetOutOfRange => Code::OutOfRange,
        Reason::OffsetConflict
        | Reason::InvalidProducerEpoch
        | Reason::ProducerFenced
        | Reason::UnknownMemberId
        | Reason::FencedMemberEpoch
        | Reason::StaleMemberEpoch => Code::Aborted,
        Reason::StorageFailure => Code::Internal,
        Reason::RequestTimedOut => Code::DeadlineExceeded,
        Reason::QuotaExceeded | Reason::Overloaded | Reason::DiskFull | Reason::GroupMaxSizeReached => {
            Code::ResourceExhausted
        }
    }
}

/// A failed call's status.
pub fn from_failure(failure: &Failure) -> Status {
    let mut details = ErrorDetails::with_error_info(failure.reason.name(), DOMAIN, to_metadata(failure));
    if let Some(pause) = failure.retry_after {
        details.set_retry_info(Some(pause));
    }
    Status::with_error_details(code(failure.reason), shortened(&failure.message), details)
}

/// A failed call's status, from the operation's own error.
pub fn from_error(error: &impl Describe) -> Status {
    from_failure(&error.describe())
}

/// A call that this version does not have.
pub fn comes_later(call: &str, instead: &str) -> Status {
    let message = if instead.is_empty() {
        format!("{call} comes in a later version")
    } else {
        format!("{call} comes in a later version, {instead}")
    };
    from_failure(&Failure::new(Reason::UnsupportedVersion, message).with("call", call))
}

/// Messages travel as a header, whose list is bounded on both sides.
fn shortened(message: &str) -> String {
    const LIMIT: usize = 1024;
    crate::telemetry::escape(message, LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_proto::convert::errors::from_details;
    use flotilla_types::{Action, LeaderHint, NodeId, Term};
    use std::time::Duration;

    #[test]
    fn every_reason_has_the_code_of_the_contract() {
        let expected = |reason: Reason| match reason.name() {
            "NOT_LEADER" | "FENCED_LEADER_EPOCH" | "OUT_OF_ORDER_SEQUENCE" | "PRODUCER_STATE_EXPIRED" => {
                Code::FailedPrecondition
            }
            "NOT_COORDINATOR" | "UNRELEASED_INSTANCE_ID" | "GROUP_TYPE_MISMATCH" | "NON_EMPTY_GROUP" => {
                Code::FailedPrecondition
            }
            "UNKNOWN_MEMBER_ID" | "FENCED_MEMBER_EPOCH" | "STALE_MEMBER_EPOCH" => Code::Aborted,
            "UNSUPPORTED_ASSIGNOR" => Code::InvalidArgument,
            "COORDINATOR_LOADING" | "UNSTABLE_OFFSET_COMMIT" => Code::Unavailable,
            "LEADER_NOT_AVAILABLE" | "NOT_ENOUGH_REPLICAS" | "UNKNOWN_LEADER_EPOCH" => Code::Unavailable,
            "REQUEST_TIMED_OUT" => Code::DeadlineExceeded,
            "QUOTA_EXCEEDED" | "OVERLOADED" | "DISK_FULL" | "GROUP_MAX_SIZE_REACHED" => {
                Code::ResourceExhausted
            }
            "INVALID_PRODUCER_EPOCH" | "PRODUCER_FENCED" | "OFFSET_CONFLICT" => Code::Aborted,
            "OFFSET_OUT_OF_RANGE" => Code::OutOfRange,
            "INVALID_RECORD" | "BATCH_TOO_LARGE" | "CORRUPT_BATCH" | "INVALID_ARGUMENT" => {
                Code::InvalidArgument
            }
            "UNAUTHENTICATED" => Code::Unauthenticated,
            "PERMISSION_DENIED" => Code::PermissionDenied,
            "UNSUPPORTED_VERSION" => Code::Unimplemented,
            "NOT_FOUND" | "UNKNOWN_TOPIC_OR_PARTITION" => Code::NotFound,
            "ALREADY_EXISTS" => Code::AlreadyExists,
            "STORAGE_FAILURE" => Code::Internal,
            other => panic!("{other} is not in the table"),
        };
        for reason in Reason::ALL {
            assert_eq!(code(reason), expected(reason), "{}", reason.name());
        }
    }

    #[test]
    fn a_status_tells_all_that_the_failure_knew() {
        let leader = LeaderHint { node: NodeId(3), endpoint: "c:7403".to_owned(), term: Term(8) };
        let failure = Failure::new(Reason::NotLeader, "node 1 does not lead orders/0")
            .leader(Some(leader.clone()))
            .retry_after(Duration::from_millis(250))
            .indefinite();
        let status = from_failure(&failure);
        assert_eq!(status.code(), Code::FailedPrecondition);
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(info.domain, DOMAIN);
        let pause = details.retry_info().and_then(|retry| retry.retry_delay);
        let told = from_details(&info.reason, info.metadata.clone(), pause, status.message());
        assert_eq!(told.reason, Some(Reason::NotLeader));
        assert_eq!(told.action, Action::RefreshMetadata);
        assert_eq!(told.leader, Some(leader));
        assert_eq!(told.retry_after, Some(Duration::from_millis(250)));
        assert!(told.outcome_unknown);
    }

    #[test]
    fn what_came_from_outside_cannot_break_the_header() {
        let failure = Failure::new(Reason::InvalidArgument, format!("name {}\n", "x".repeat(9000)));
        let status = from_failure(&failure);
        assert!(status.message().len() <= 1024 && !status.message().contains('\n'));
        assert_eq!(comes_later("flotilla.v1.Log/Consume", "use Fetch").code(), Code::Unimplemented);
    }
}
