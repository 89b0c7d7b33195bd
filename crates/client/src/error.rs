//! What a failed call means for its caller: try again, do not, or nobody can say what happened.

use flotilla_proto::convert::errors::{self as wire, Told};
use flotilla_proto::v1;
use flotilla_types::{Action, LeaderHint, Reason};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use tonic_types::StatusExt;

/// The three answers to "may I try again?".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Nothing happened; the same call may work later.
    Retriable,
    /// Nothing happened, and the same call will fail again.
    Fatal,
    /// The call may have taken effect, or may still: look first, or accept a repeat.
    OutcomeUnknown,
}

impl Class {
    /// For programs: `retriable`, `fatal`, `outcome_unknown`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Retriable => "retriable",
            Self::Fatal => "fatal",
            Self::OutcomeUnknown => "outcome_unknown",
        }
    }
}

/// A failed call. Cheap to move; clones share nothing and cost a few strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    told: Box<Told>,
    class: Class,
}

/// Shorthand of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether to try again.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Whether nobody can say what happened.
    pub fn is_outcome_unknown(&self) -> bool {
        self.class == Class::OutcomeUnknown
    }

    /// What went wrong; `None` if the server is newer than this library and gave a reason it does not know.
    pub fn reason(&self) -> Option<Reason> {
        self.told.reason
    }

    /// The reason as the contract spells it: `NOT_LEADER`.
    pub fn reason_name(&self) -> &str {
        &self.told.reason_name
    }

    /// What to do about it.
    pub fn action(&self) -> Action {
        self.told.action
    }

    /// The action as the contract spells it: `REFRESH_METADATA`.
    pub fn action_name(&self) -> &'static str {
        wire::action_name(self.told.action)
    }

    /// For people: lowercase, names thing and value.
    pub fn message(&self) -> &str {
        &self.told.message
    }

    /// Not before this has passed.
    pub fn retry_after(&self) -> Option<Duration> {
        self.told.retry_after
    }

    /// Who to ask instead.
    pub fn leader(&self) -> Option<&LeaderHint> {
        self.told.leader.as_ref()
    }

    /// Facts for programs, by name.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.told.metadata
    }

    /// As an item of a stream or an answer said it.
    pub(crate) fn from_wire(error: v1::Error) -> Self {
        Self::from_told(wire::from_wire(error))
    }

    /// As the status of a call said it. Statuses that no server of ours made (transport, proxies) leave
    /// the outcome unknown: the request may have been on its way.
    pub(crate) fn from_status(status: &tonic::Status) -> Self {
        let details = status.get_error_details();
        if let Some(info) = details.error_info().filter(|info| info.domain == wire::DOMAIN) {
            let pause = details.retry_info().and_then(|retry| retry.retry_delay);
            return Self::from_told(wire::from_details(
                &info.reason,
                info.metadata.clone().into_iter().collect(),
                pause,
                status.message(),
            ));
        }
        let message = format!("{:?}: {}", status.code(), status.message());
        match status.code() {
            tonic::Code::Unimplemented => Self::fatal(Reason::UnsupportedVersion, message),
            tonic::Code::Unauthenticated => Self::fatal(Reason::Unauthenticated, message),
            tonic::Code::PermissionDenied => Self::fatal(Reason::PermissionDenied, message),
            tonic::Code::InvalidArgument => Self::fatal(Reason::InvalidArgument, message),
            _ => Self::lost(message),
        }
    }

    /// As the server told it: its action and outcome decide the class, also for reasons that are newer.
    pub(crate) fn from_told(told: Told) -> Self {
        let class = match told.action {
            _ if told.outcome_unknown => Class::OutcomeUnknown,
            Action::Fail | Action::AbortTransaction => Class::Fatal,
            Action::Retry
            | Action::RefreshMetadata
            | Action::Rejoin
            | Action::RefreshMember
            | Action::ReinitProducer => Class::Retriable,
        };
        Self { told: Box::new(told), class }
    }

    fn own(class: Class, reason: Reason, action: Action, message: impl Into<String>) -> Self {
        let told = Told {
            reason: Some(reason),
            reason_name: reason.name().to_owned(),
            action,
            message: message.into(),
            retry_after: None,
            leader: None,
            metadata: BTreeMap::new(),
            outcome_unknown: class == Class::OutcomeUnknown,
        };
        Self { told: Box::new(told), class }
    }

    /// Nothing was sent, or nothing was done.
    pub(crate) fn retriable(reason: Reason, message: impl Into<String>) -> Self {
        Self::own(Class::Retriable, reason, Action::Retry, message)
    }

    /// Nothing was done, and trying again will not help.
    pub(crate) fn fatal(reason: Reason, message: impl Into<String>) -> Self {
        Self::own(Class::Fatal, reason, Action::Fail, message)
    }

    /// The request was on its way and no answer came.
    pub(crate) fn lost(message: impl Into<String>) -> Self {
        Self::own(Class::OutcomeUnknown, Reason::RequestTimedOut, Action::Retry, message)
    }

    /// What the caller asked for cannot be.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::fatal(Reason::InvalidArgument, message)
    }

    /// The same facts, with an earlier attempt's doubt added: what was refused now may have been done then.
    pub(crate) fn doubted(mut self) -> Self {
        self.class = Class::OutcomeUnknown;
        self.told.outcome_unknown = true;
        self
    }

    /// The same facts, as the last word.
    pub(crate) fn context(mut self, before: impl fmt::Display) -> Self {
        self.told.message = format!("{before}: {}", self.told.message);
        self
    }

    /// With a fact for programs.
    pub(crate) fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.told.metadata.insert(key.to_owned(), value.to_string());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.told.reason_name, self.told.message)?;
        if self.is_outcome_unknown() { f.write_str(" (outcome unknown)") } else { Ok(()) }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::Failure;

    #[test]
    fn action_and_outcome_decide_the_class() {
        let class = |failure: Failure| Error::from_wire(wire::to_wire(&failure)).class();
        assert_eq!(class(Failure::new(Reason::NotLeader, "")), Class::Retriable);
        assert_eq!(class(Failure::new(Reason::BatchTooLarge, "")), Class::Fatal);
        assert_eq!(class(Failure::new(Reason::RequestTimedOut, "").indefinite()), Class::OutcomeUnknown);
        assert_eq!(class(Failure::new(Reason::BatchTooLarge, "").indefinite()), Class::OutcomeUnknown);
    }

    #[test]
    fn a_status_without_details_leaves_the_outcome_open() {
        for code in [tonic::Code::Unavailable, tonic::Code::Internal, tonic::Code::Cancelled] {
            let error = Error::from_status(&tonic::Status::new(code, "broken pipe"));
            assert_eq!(error.class(), Class::OutcomeUnknown, "{code:?}");
        }
        let error = Error::from_status(&tonic::Status::unimplemented("no"));
        assert_eq!(error.class(), Class::Fatal);
    }
}
