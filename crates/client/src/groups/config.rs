//! How a member of a group behaves, with defaults and bounds.

use crate::config::ConsumerOptions;
use std::time::Duration;

/// Where a partition begins that has no committed offset. A failed look is never taken for "no offset":
/// the coordinator sends the committed offset with the assignment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetReset {
    /// At the first record kept. Nothing is left out.
    #[default]
    Earliest,
    /// After the last record there is. The place is committed, so that the next owner goes on there.
    Latest,
    /// Nowhere: `poll` fails, names the partition, and the partition stands still until a seek.
    Fail,
}

/// Settings of a [`super::GroupConsumer`].
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// How records are fetched. `out_of_range` also holds for a committed offset that was removed from
    /// the log since.
    pub consumer: ConsumerOptions,
    /// `uniform` (sticky, balanced; default) or `range`. The coordinator refuses others.
    pub assignor: String,
    /// Static membership: a process that comes back with the same instance id before its session ends
    /// gets its partitions back, and nobody else notices. Unique in the group. Default: none.
    pub instance_id: Option<String>,
    /// Where this process stands; partitions with a leader there are preferred. Default: nowhere.
    pub rack_id: String,
    /// For people who look at the group. Default: empty.
    pub client_id: String,
    /// How long the coordinator waits for revoked partitions. Draining and committing stay within it.
    /// Default 30 s, which is also the most.
    pub rebalance_timeout: Duration,
    /// An application that does not poll for this long leaves the group, and comes back with its next
    /// poll. Default 5 min.
    pub max_poll_interval: Duration,
    /// Where a partition begins that has no committed offset. Default: earliest.
    pub offset_reset: OffsetReset,
    /// Commit what was processed this often, when partitions are revoked, and on close. `None`: only the
    /// application commits. Default 5 s.
    pub auto_commit: Option<Duration>,
    /// Records that one poll returns at most, at least 1. Default 500.
    pub poll_records: usize,
    /// A manual offset commit, with all retries, fails after this. Default 30 s.
    pub commit_timeout: Duration,
    /// Closing, with drain, last offset commit and leave, takes no longer. Default 10 s.
    pub close_timeout: Duration,
}

/// The coordinator waits no longer, whatever a member asks.
const REBALANCE_TIMEOUT_MAX: Duration = Duration::from_secs(30);

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            consumer: ConsumerOptions::default(),
            assignor: "uniform".to_owned(),
            instance_id: None,
            rack_id: String::new(),
            client_id: String::new(),
            rebalance_timeout: REBALANCE_TIMEOUT_MAX,
            max_poll_interval: Duration::from_secs(300),
            offset_reset: OffsetReset::default(),
            auto_commit: Some(Duration::from_secs(5)),
            poll_records: 500,
            commit_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(10),
        }
    }
}

impl GroupOptions {
    /// The same, with every value inside its bounds.
    pub(crate) fn bounded(mut self) -> Self {
        self.rebalance_timeout =
            self.rebalance_timeout.clamp(Duration::from_millis(100), REBALANCE_TIMEOUT_MAX);
        self.max_poll_interval = self.max_poll_interval.max(Duration::from_millis(100));
        self.auto_commit = self.auto_commit.map(|every| every.max(Duration::from_millis(10)));
        self.poll_records = self.poll_records.max(1);
        self
    }
}
