//! What is asked of the leader of a group's coordinator, by whichever node was asked first.

use super::{
    CommitOffsets, FetchOffsets, FetchedOffsets, Finding, Group, Heartbeat, HeartbeatAnswer,
    PartitionFailure, Seek, Seeked, UpdateGroup,
};
use flotilla_types::GroupId;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What is asked of the leader of a group's coordinator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Call {
    Heartbeat(Heartbeat),
    Commit(CommitOffsets),
    Fetch(FetchOffsets),
    /// The groups of one coordinator after a name, by name.
    List {
        coordinator: u32,
        after: Option<GroupId>,
        limit: u32,
        filter: String,
    },
    Get {
        group: GroupId,
    },
    Update(UpdateGroup),
    Delete {
        group: GroupId,
        force: bool,
    },
    Seek(Seek),
    Explain {
        group: GroupId,
    },
}

/// What it answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Heartbeat(HeartbeatAnswer),
    Committed(Vec<PartitionFailure>),
    Fetched(FetchedOffsets),
    /// Groups that pass the filter, and whether there are more.
    Listed {
        groups: Vec<Group>,
        more: bool,
    },
    Group(Box<Group>),
    Deleted,
    Sought(Seeked),
    Explained(Vec<Finding>),
}

impl Call {
    /// How long the answer may be held on purpose.
    pub fn hold(&self) -> Duration {
        match self {
            Self::Heartbeat(heartbeat) => heartbeat.max_wait,
            _ => Duration::ZERO,
        }
    }

    /// Whether it says nothing and only waits for news. Its caller repeats it with what it knows by then, so that
    /// whatever goes wrong is told at once.
    pub fn only_waits(&self) -> bool {
        match self {
            Self::Heartbeat(beat) => {
                beat.member_epoch > 0
                    && !beat.max_wait.is_zero()
                    && beat.leave.is_none()
                    && beat.subscription.is_none()
                    && beat.owned.is_none()
            }
            _ => false,
        }
    }

    /// Whether a second try is as good as the first, even if the first one was carried out: reads,
    /// heartbeats and updates, whose every field says how things are and not what to add.
    pub fn is_repeatable(&self) -> bool {
        match self {
            Self::Heartbeat(_)
            | Self::Fetch(_)
            | Self::List { .. }
            | Self::Get { .. }
            | Self::Explain { .. }
            | Self::Update(_) => true,
            Self::Seek(seek) => seek.validate_only,
            Self::Commit(_) | Self::Delete { .. } => false,
        }
    }
}
