//! Settings of consensus: few, in units people use, the rest derived from them.

use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Settings of every shard of a node. All nodes of a cluster should have the same timeouts.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How often a leader says that it lives, in milliseconds. Default 300: a third of the shortest election timeout.
    pub heartbeat_ms: u64,
    /// Shortest time a follower waits beyond the leader's lease before it campaigns. Default 1000.
    pub election_min_ms: u64,
    /// Longest such time; also the leader's lease. Default 1500, so that a silent node's shards have new leaders
    /// within 3 s: lease + random wait − time since the last heartbeat.
    pub election_max_ms: u64,
    /// A shard without writes rests after this long. Default 5000: longer than pauses between bursts, short
    /// against the life of an idle partition. 0 = shards never rest.
    pub rest_after_ms: u64,
    /// How often each pair of nodes exchanges a liveness frame. Default 300, as heartbeats.
    pub liveness_ms: u64,
    /// A peer that was silent for this long is taken for dead, and its resting shards wake. Default 1200.
    pub liveness_timeout_ms: u64,
    /// Most bytes of entries in one message or one read. Default 1 MiB: more would only delay others on
    /// the same connection.
    pub message_max_bytes: usize,
    /// Most append messages on their way to one replica of one shard. Default 32.
    pub pipeline_max_messages: usize,
    /// Most bytes of entries on their way to one replica of one shard. Default 8 MiB.
    pub pipeline_max_bytes: usize,
    /// Recent entries kept in memory per shard, in bytes. Default 4 MiB, or eight batches where those are larger.
    pub cache_shard_bytes: usize,
    /// The same for the whole node. Default 128 MiB. Entries not yet synced are kept beyond it.
    pub cache_node_bytes: usize,
    /// Most commands of one shard that wait to be taken by its core. Default 4096.
    pub proposals_max: usize,
    /// Longest time for one answer to a vote or a transfer. Default 1000.
    pub call_timeout_ms: u64,
    /// Longest time for one snapshot to arrive and be installed. Default 60000: the small state of a shard
    /// is megabytes at most.
    pub snapshot_timeout_ms: u64,
    /// Longest time for handing over leadership at shutdown. Default 5000.
    pub handover_timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heartbeat_ms: 300,
            election_min_ms: 1000,
            election_max_ms: 1500,
            rest_after_ms: 5000,
            liveness_ms: 300,
            liveness_timeout_ms: 1200,
            message_max_bytes: 1 << 20,
            pipeline_max_messages: 32,
            pipeline_max_bytes: 8 << 20,
            cache_shard_bytes: 4 << 20,
            cache_node_bytes: 128 << 20,
            proposals_max: 4096,
            call_timeout_ms: 1000,
            snapshot_timeout_ms: 60_000,
            handover_timeout_ms: 5000,
        }
    }
}

impl Config {
    /// Says which setting cannot work, and why.
    pub fn check(&self) -> Result<(), Error> {
        let bad = |why: String| Err(Error::Config { why });
        if self.heartbeat_ms == 0 || self.liveness_ms == 0 {
            return bad("heartbeat_ms and liveness_ms must be at least 1".into());
        }
        if self.election_min_ms < 3 * self.heartbeat_ms {
            return bad(format!(
                "election_min_ms {} must be at least 3 x heartbeat_ms {}",
                self.election_min_ms, self.heartbeat_ms
            ));
        }
        if self.election_max_ms <= self.election_min_ms {
            return bad(format!(
                "election_max_ms {} must be above election_min_ms {}",
                self.election_max_ms, self.election_min_ms
            ));
        }
        if self.liveness_timeout_ms < 2 * self.liveness_ms {
            return bad(format!(
                "liveness_timeout_ms {} must be at least 2 x liveness_ms {}",
                self.liveness_timeout_ms, self.liveness_ms
            ));
        }
        let counts = [
            ("message_max_bytes", self.message_max_bytes),
            ("pipeline_max_messages", self.pipeline_max_messages),
            ("pipeline_max_bytes", self.pipeline_max_bytes),
            ("proposals_max", self.proposals_max),
        ];
        if let Some((key, _)) = counts.into_iter().find(|(_, value)| *value == 0) {
            return bad(format!("{key} must be at least 1"));
        }
        Ok(())
    }

    /// The consensus library's settings, for every shard alike.
    pub(crate) fn openraft(&self) -> Result<openraft::Config, Error> {
        self.check()?;
        openraft::Config {
            cluster_name: "flotilla".into(),
            heartbeat_interval: self.heartbeat_ms,
            // A replicated entry says the same as a heartbeat.
            heartbeat_min_interval: Some(self.heartbeat_ms),
            election_timeout_min: self.election_min_ms,
            election_timeout_max: self.election_max_ms,
            enable_pre_vote: Some(true),
            max_payload_entries: 256,
            max_append_entries: Some(4096),
            api_batch_linger_ms: 0,
            api_channel_size: Some(self.proposals_max as u64),
            notification_channel_size: Some(4096),
            // A snapshot is a checkpoint that retention chose; the log is purged up to it at once.
            snapshot_policy: openraft::SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: 0,
            purge_batch_size: 1,
            install_snapshot_timeout: self.snapshot_timeout_ms,
            replication_lag_threshold: u64::MAX,
            ..Default::default()
        }
        .validate()
        .map_err(|error| Error::Config { why: error.to_string() })
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }

    pub(crate) fn election_max(&self) -> Duration {
        Duration::from_millis(self.election_max_ms)
    }

    pub(crate) fn rest_after(&self) -> Option<Duration> {
        (self.rest_after_ms > 0).then(|| Duration::from_millis(self.rest_after_ms))
    }

    pub(crate) fn liveness(&self) -> Duration {
        Duration::from_millis(self.liveness_ms)
    }

    pub(crate) fn liveness_timeout(&self) -> Duration {
        Duration::from_millis(self.liveness_timeout_ms)
    }

    pub(crate) fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.call_timeout_ms)
    }

    pub(crate) fn snapshot_timeout(&self) -> Duration {
        Duration::from_millis(self.snapshot_timeout_ms)
    }

    pub(crate) fn handover_timeout(&self) -> Duration {
        Duration::from_millis(self.handover_timeout_ms)
    }
}
