//! How a command ends when it does not end well: an exit code for scripts, words or JSON for stderr.
//!
//! | Code | Means |
//! | --- | --- |
//! | 1 | error |
//! | 2 | wrong usage |
//! | 3 | not found |
//! | 4 | permission |
//! | 5 | conflict or fenced |
//! | 6 | timeout |
//! | 7 | unavailable |
//! | 8 | throttled |
//! | 10 | unhealthy |
//! | 130 | interrupted |

use crate::output::Output;
use flotilla_client::Error;
use flotilla_types::Reason;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The cluster or the client library said so.
    #[error("{0}")]
    Cluster(#[from] Error),
    /// The command line asks for what cannot be.
    #[error("{0}")]
    Usage(String),
    /// Something that was asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// It took too long.
    #[error("{0}")]
    Timeout(String),
    /// The cluster is not as it should be.
    #[error("{0}")]
    Unhealthy(String),
    /// Somebody asked for the end (SIGINT, SIGTERM), and what was begun was ended in order.
    #[error("interrupted")]
    Interrupted,
    /// Anything else.
    #[error("{0}")]
    Other(String),
    /// Files and pipes.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl Failed {
    /// See the table above.
    pub fn code(&self) -> u8 {
        match self {
            Self::Cluster(error) => error.reason().map_or(1, code_of),
            Self::Usage(_) => 2,
            Self::NotFound(_) => 3,
            Self::Timeout(_) => 6,
            Self::Unhealthy(_) => 10,
            Self::Interrupted => 130,
            Self::Other(_) | Self::Io(_) => 1,
        }
    }

    /// Prints it on stderr, as JSON where the output is JSON, and gives the exit code. A closed pipe is how
    /// `head` says that it has seen enough, so it is no failure.
    pub fn report(&self, output: Output) -> ExitCode {
        if matches!(self, Self::Io(error) if error.kind() == std::io::ErrorKind::BrokenPipe) {
            return ExitCode::SUCCESS;
        }
        if matches!(self, Self::Interrupted) {
            return ExitCode::from(self.code());
        }
        if matches!(output, Output::Json | Output::Jsonl) {
            eprintln!("{}", self.to_json());
        } else {
            eprintln!("error: {self}");
            if let Some(hint) = self.hint() {
                eprintln!("hint: {hint}");
            }
        }
        ExitCode::from(self.code())
    }

    fn hint(&self) -> Option<&'static str> {
        let Self::Cluster(error) = self else { return None };
        if error.is_outcome_unknown() {
            return Some("it may or may not have happened: look before trying again");
        }
        match error.reason()? {
            Reason::LeaderNotAvailable => {
                Some("is a node running there? --endpoints, FLOTILLA_ENDPOINTS or a profile say where")
            }
            Reason::OffsetOutOfRange => Some("`flotilla topic offsets TOPIC` shows what there is"),
            Reason::NotFound if error.metadata().get("resource").is_some_and(|what| what == "group") => {
                Some("`flotilla group list` shows what there is")
            }
            Reason::NonEmptyGroup => Some("`flotilla group describe GROUP --members` shows them; or --force"),
            Reason::UnknownTopicOrPartition | Reason::NotFound => {
                Some("`flotilla topic list` shows what there is")
            }
            _ => None,
        }
    }

    fn to_json(&self) -> Value {
        let mut error = json!({ "message": self.to_string(), "exit_code": self.code() });
        if let Self::Cluster(told) = self {
            error["message"] = json!(told.message());
            error["reason"] = json!(told.reason_name());
            error["action"] = json!(told.action_name());
            error["class"] = json!(told.class().name());
            error["outcome_unknown"] = json!(told.is_outcome_unknown());
            error["metadata"] = json!(told.metadata());
            if let Some(pause) = told.retry_after() {
                error["retry_after_ms"] = json!(pause.as_millis() as u64);
            }
        }
        json!({ "error": error })
    }
}

fn code_of(reason: Reason) -> u8 {
    match reason {
        Reason::NotFound | Reason::UnknownTopicOrPartition => 3,
        Reason::PermissionDenied | Reason::Unauthenticated => 4,
        Reason::AlreadyExists
        | Reason::OffsetConflict
        | Reason::ProducerFenced
        | Reason::InvalidProducerEpoch
        | Reason::FencedLeaderEpoch
        | Reason::UnknownMemberId
        | Reason::FencedMemberEpoch
        | Reason::StaleMemberEpoch
        | Reason::UnreleasedInstanceId
        | Reason::NonEmptyGroup
        | Reason::GroupTypeMismatch => 5,
        Reason::RequestTimedOut => 6,
        Reason::LeaderNotAvailable
        | Reason::NotLeader
        | Reason::UnknownLeaderEpoch
        | Reason::NotCoordinator
        | Reason::CoordinatorLoading
        | Reason::NotEnoughReplicas
        | Reason::StorageFailure => 7,
        Reason::QuotaExceeded | Reason::Overloaded | Reason::DiskFull | Reason::GroupMaxSizeReached => 8,
        _ => 1,
    }
}
