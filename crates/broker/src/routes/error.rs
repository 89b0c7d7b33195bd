//! Why a data call cannot be served by this node.

use flotilla_types::error::Describe;
use flotilla_types::{Failure, LeaderHint, PartitionId, Reason, Term, TopicId, TopicName};
use std::time::Duration;

/// Why a data call cannot be served by this node. Nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No such topic, as far as this node has heard.
    #[error("topic {0} is unknown")]
    UnknownTopic(TopicName),
    /// The topic has fewer partitions.
    #[error("topic {topic} has no partition {partition}")]
    UnknownPartition {
        /// Which topic.
        topic: TopicName,
        /// Asked for.
        partition: PartitionId,
    },
    /// The topic was deleted and made again.
    #[error("topic {topic} has id {found}, not {asked}", found = found.to_wire(), asked = asked.to_wire())]
    OtherTopic {
        /// Which topic.
        topic: TopicName,
        /// The id it has now.
        found: TopicId,
        /// Asked for.
        asked: TopicId,
    },
    /// Another node leads, or nobody known.
    #[error("node is not leader of {topic} partition {partition}")]
    NotLeader {
        /// Which topic.
        topic: TopicName,
        /// Which partition.
        partition: PartitionId,
        /// Who does.
        leader: Option<LeaderHint>,
    },
    /// The caller's leader epoch is over.
    #[error("leader epoch {asked} of {topic} partition {partition} is over, now {now}")]
    FencedEpoch {
        /// Which topic.
        topic: TopicName,
        /// Which partition.
        partition: PartitionId,
        /// The caller's.
        asked: Term,
        /// This leadership's.
        now: Term,
        /// Where to go on.
        leader: Option<LeaderHint>,
    },
    /// The caller knows a later leader epoch than this node.
    #[error("leader epoch {asked} of {topic} partition {partition} is not known here, now {now}")]
    UnknownEpoch {
        /// Which topic.
        topic: TopicName,
        /// Which partition.
        partition: PartitionId,
        /// The caller's.
        asked: Term,
        /// What this node knows.
        now: Term,
    },
    /// This node goes away.
    #[error("node is shutting down")]
    ShuttingDown,
    /// This node serves no data.
    #[error("node is quarantined: {0}")]
    Quarantined(String),
}

impl Describe for RouteError {
    fn describe(&self) -> Failure {
        let message = self.to_string();
        let pause = Duration::from_millis(50);
        match self {
            Self::UnknownTopic(_) | Self::UnknownPartition { .. } => {
                Failure::new(Reason::UnknownTopicOrPartition, message)
            }
            Self::OtherTopic { found, .. } => {
                Failure::new(Reason::UnknownTopicOrPartition, message).with("topic_id", found.to_wire())
            }
            Self::NotLeader { leader: None, .. } => {
                Failure::new(Reason::LeaderNotAvailable, message).retry_after(pause)
            }
            Self::NotLeader { leader, .. } => Failure::new(Reason::NotLeader, message).leader(leader.clone()),
            Self::FencedEpoch { leader, .. } => {
                Failure::new(Reason::FencedLeaderEpoch, message).leader(leader.clone())
            }
            Self::UnknownEpoch { .. } => Failure::new(Reason::UnknownLeaderEpoch, message).retry_after(pause),
            Self::ShuttingDown => Failure::new(Reason::LeaderNotAvailable, message).retry_after(pause),
            Self::Quarantined(_) => {
                Failure::new(Reason::StorageFailure, message).retry_after(Duration::from_secs(1))
            }
        }
    }
}
