//! Why an administrator's call failed.

use flotilla_types::error::Describe;
use flotilla_types::topic::InvalidConfig;
use flotilla_types::{Failure, LeaderHint, Reason};
use std::time::Duration;

/// Why an administrator's call failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// A value that cannot work.
    #[error("{field} is {value}, {expected}")]
    Invalid {
        /// As the contract names it.
        field: &'static str,
        /// As given, escaped.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// A setting that cannot work.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// No such thing.
    #[error("{what} {name} does not exist")]
    NotFound {
        /// `topic`, `partition`, `node`.
        what: &'static str,
        /// Which.
        name: String,
    },
    /// There is one of that name.
    #[error("topic {0} exists already")]
    Exists(String),
    /// The topic was deleted and made again.
    #[error("topic {name} has id {found}, not {asked}")]
    OtherTopic {
        /// Which topic.
        name: String,
        /// The id it has now.
        found: String,
        /// Asked for.
        asked: String,
    },
    /// More replicas than nodes to hold them.
    #[error("replication factor {wanted} needs as many reachable nodes, there are {nodes}")]
    NotEnoughNodes {
        /// Asked for.
        wanted: u32,
        /// Reachable nodes.
        nodes: u32,
    },
    /// No room on the disk.
    #[error("disk is nearly full on node {0}")]
    DiskFull(u32),
    /// The partition's leader is elsewhere or nowhere.
    #[error("partition has no leader that can be reached: {0}")]
    NoLeader(String),
    /// Nobody leads the controller, or it cannot be reached. Nothing was done.
    #[error("controller cannot be reached: {0}")]
    ControllerAway(String),
    /// The controller's leader moved on the way. Nothing was done.
    #[error("controller is led by another node")]
    NotController(Option<LeaderHint>),
    /// Asked, but no answer. Indefinite.
    #[error("outcome unknown: {0}")]
    Lost(String),
    /// The offset is not in the partition.
    #[error("offset {asked} is beyond the end, {end}")]
    OffsetOutOfRange {
        /// Asked for.
        asked: u64,
        /// High watermark.
        end: u64,
    },
    /// The replica cannot lead.
    #[error("leadership cannot go to node {node}: {why}")]
    NotTransferable {
        /// Asked for.
        node: u32,
        /// Why.
        why: String,
    },
    /// The controller's rules refused.
    #[error("{0}")]
    Rules(Box<flotilla_machine::controller::Refusal>),
    /// It cannot be done.
    #[error("{0}")]
    Refused(String),
    /// This node cannot ask.
    #[error("node is quarantined: {0}")]
    Quarantined(String),
    /// Whatever the answering node said.
    #[error("{}", .0.message)]
    Remote(Box<Failure>),
}

impl Error {
    /// A value that cannot work, named as the contract names it.
    pub fn invalid(field: &'static str, value: impl std::fmt::Debug, expected: impl Into<String>) -> Self {
        Self::Invalid { field, value: format!("{value:?}"), expected: expected.into() }
    }
}

impl Describe for Error {
    fn describe(&self) -> Failure {
        let message = self.to_string();
        match self {
            Self::Invalid { field, .. } => {
                Failure::new(Reason::InvalidArgument, message).with("field", field)
            }
            Self::Config(error) => Failure::new(Reason::InvalidArgument, message)
                .with("field", format!("config.{}", error.field)),
            Self::NotFound { what, .. } => Failure::new(Reason::NotFound, message).with("resource", what),
            Self::OtherTopic { found, .. } => {
                Failure::new(Reason::NotFound, message).with("resource", "topic").with("topic_id", found)
            }
            Self::Exists(_) => Failure::new(Reason::AlreadyExists, message).with("resource", "topic"),
            Self::NotEnoughNodes { .. } => {
                Failure::new(Reason::NotEnoughReplicas, message).retry_after(Duration::from_secs(1))
            }
            Self::DiskFull(_) => Failure::new(Reason::DiskFull, message).retry_after(Duration::from_secs(5)),
            Self::NoLeader(_) | Self::ControllerAway(_) => {
                Failure::new(Reason::LeaderNotAvailable, message).retry_after(Duration::from_millis(200))
            }
            Self::NotController(hint) => Failure::new(Reason::NotLeader, message).leader(hint.clone()),
            Self::Lost(_) => Failure::new(Reason::RequestTimedOut, message).indefinite(),
            Self::OffsetOutOfRange { end, .. } => {
                Failure::new(Reason::OffsetOutOfRange, message).with("high_watermark", end)
            }
            Self::NotTransferable { .. } | Self::Refused(_) => Failure::new(Reason::InvalidArgument, message),
            Self::Quarantined(_) => Failure::new(Reason::StorageFailure, message),
            Self::Rules(refusal) => refusal.describe(),
            Self::Remote(failure) => (**failure).clone(),
        }
    }
}
