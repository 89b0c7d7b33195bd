//! What an administrator asks about topics, and what comes back.

use crate::partitions::PartitionState;
use flotilla_types::topic::TopicConfig;
use flotilla_types::{Failure, Offset, PartitionId, TimestampMs, TopicId, TopicName};
use std::collections::BTreeMap;

/// A topic as an administrator sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Topic {
    /// Its name.
    pub name: TopicName,
    /// This life of it. `TopicId(0)` in a dry run of a creation.
    pub id: TopicId,
    /// How many partitions.
    pub partition_count: u32,
    /// How many replicas each has.
    pub replication_factor: u32,
    /// As set; absent settings follow the cluster's defaults.
    pub config: TopicConfig,
    /// Free to use.
    pub labels: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: TimestampMs,
    /// Filled in by `get_topic` only.
    pub partitions: Vec<PartitionState>,
}

/// A topic to make.
#[derive(Clone, Debug)]
pub struct CreateTopic {
    /// Its name.
    pub name: TopicName,
    /// 0 = the default.
    pub partition_count: u32,
    /// 0 = the default.
    pub replication_factor: u32,
    /// Its settings.
    pub config: TopicConfig,
    /// Free to use; at most 64 of 256 bytes each.
    pub labels: BTreeMap<String, String>,
    /// Check and place, but make nothing.
    pub validate_only: bool,
}

/// A page of topics.
#[derive(Clone, Debug, Default)]
pub struct ListTopics {
    /// Only names that begin so; one `*` at the end is allowed. Empty = all.
    pub filter: String,
    /// At most this many; 0 = 100, never more than 1000.
    pub page_size: u32,
    /// From an earlier page's answer; empty = from the beginning.
    pub page_token: String,
}

/// One page.
#[derive(Clone, Debug)]
pub struct TopicPage {
    /// By name, without partitions' states.
    pub topics: Vec<Topic>,
    /// For the next page; empty = this was the last.
    pub next_page_token: String,
}

/// Changes to a topic. `fields` names what is taken from the other values: `config` or `config.<name>`,
/// `labels`, `partition_count`. Empty = all of config and labels, and the partition count if it is not 0.
#[derive(Clone, Debug)]
pub struct UpdateTopic {
    /// Which topic.
    pub name: TopicName,
    /// Refuses a topic that was deleted and made again.
    pub id: Option<TopicId>,
    /// What changes.
    pub fields: Vec<String>,
    /// New settings.
    pub config: TopicConfig,
    /// New labels.
    pub labels: BTreeMap<String, String>,
    /// New count; never fewer than there are.
    pub partition_count: u32,
    /// Check, but change nothing.
    pub validate_only: bool,
}

/// Removes records before an offset.
#[derive(Clone, Debug)]
pub struct Trim {
    /// Which topic.
    pub topic: TopicName,
    /// Which partition.
    pub partition: PartitionId,
    /// First offset to keep; `None` = remove all there is.
    pub before: Option<Offset>,
}

/// A trim that failed.
#[derive(Clone, Debug)]
pub struct TrimFailed {
    /// Which topic.
    pub topic: TopicName,
    /// Which partition.
    pub partition: PartitionId,
    /// Why.
    pub failure: Failure,
}
