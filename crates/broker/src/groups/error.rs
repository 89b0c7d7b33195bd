//! Why a call about a group failed.

use flotilla_types::error::Describe;
use flotilla_types::{Failure, GroupId, LeaderHint, Reason};
use std::time::Duration;

/// Why a call about a group failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// A value that cannot work.
    #[error("{field} is {value}, {expected}")]
    Invalid {
        /// As the contract names it.
        field: &'static str,
        /// As given, escaped and cut.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// No such group.
    #[error("group {0} does not exist")]
    NotFound(GroupId),
    /// The coordinator's leader is another node. Nothing was done.
    #[error("group {group} is coordinated by another node")]
    NotCoordinator {
        /// Which group.
        group: GroupId,
        /// By whom, as far as is known.
        leader: Option<LeaderHint>,
    },
    /// Nobody coordinates the group now. Nothing was done.
    #[error("group {group} has no coordinator now: {why}")]
    Loading {
        /// Which group.
        group: GroupId,
        /// For people.
        why: String,
    },
    /// The group's rules refused. Nothing was done.
    #[error("{0}")]
    Rules(Box<flotilla_machine::groups::Refusal>),
    /// It was sent or proposed, but no outcome came. Indefinite.
    #[error("outcome unknown: {0}")]
    Lost(String),
    /// What a later version brings.
    #[error("{0} comes in a later version")]
    Later(&'static str),
    /// A bound is reached.
    #[error("{0}")]
    Overloaded(String),
    /// This node cannot ask.
    #[error("node is quarantined: {0}")]
    Quarantined(String),
    /// Whatever the answering node said.
    #[error("{}", .0.message)]
    Remote(Box<Failure>),
}

/// How long a caller pauses before it looks for a coordinator again.
const COORDINATOR_PAUSE: Duration = Duration::from_millis(100);

impl Error {
    /// A value that cannot work, named as the contract names it.
    pub fn invalid(field: &'static str, value: &str, expected: impl Into<String>) -> Self {
        let shown: String = value.chars().take(80).collect();
        Self::Invalid { field, value: format!("{shown:?}"), expected: expected.into() }
    }

    /// Whether another try, perhaps elsewhere, may do: nothing was done.
    pub(crate) fn is_elsewhere(&self) -> bool {
        match self {
            Self::NotCoordinator { .. } | Self::Loading { .. } => true,
            Self::Remote(failure) => {
                matches!(failure.reason, Reason::NotCoordinator | Reason::CoordinatorLoading)
                    && !failure.outcome_unknown
            }
            _ => false,
        }
    }

    /// Whether it may have been done.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            Self::Lost(_) => true,
            Self::Remote(failure) => failure.outcome_unknown,
            _ => false,
        }
    }
}

impl From<crate::admin::Error> for Error {
    fn from(error: crate::admin::Error) -> Self {
        match error {
            crate::admin::Error::Lost(why) => Self::Lost(why),
            crate::admin::Error::Remote(failure) => Self::Remote(failure),
            crate::admin::Error::Quarantined(why) => Self::Quarantined(why),
            other => Self::Remote(Box::new(other.describe())),
        }
    }
}

impl Describe for Error {
    fn describe(&self) -> Failure {
        let message = self.to_string();
        match self {
            Self::Invalid { field, .. } => {
                Failure::new(Reason::InvalidArgument, message).with("field", field)
            }
            Self::NotFound(_) => Failure::new(Reason::NotFound, message).with("resource", "group"),
            Self::NotCoordinator { leader, .. } => {
                Failure::new(Reason::NotCoordinator, message).leader(leader.clone())
            }
            Self::Loading { .. } => {
                Failure::new(Reason::CoordinatorLoading, message).retry_after(COORDINATOR_PAUSE)
            }
            Self::Rules(refusal) => refusal.describe(),
            Self::Lost(_) => Failure::new(Reason::RequestTimedOut, message).indefinite(),
            Self::Later(_) => Failure::new(Reason::UnsupportedVersion, message),
            Self::Overloaded(_) => {
                Failure::new(Reason::Overloaded, message).retry_after(Duration::from_millis(500))
            }
            Self::Quarantined(_) => {
                Failure::new(Reason::StorageFailure, message).retry_after(Duration::from_secs(1))
            }
            Self::Remote(failure) => (**failure).clone(),
        }
    }
}
