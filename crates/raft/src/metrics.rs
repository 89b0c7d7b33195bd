//! What this crate counts.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::fmt::{Error, Write};

/// Why a node campaigned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The leader was silent for longer than its lease.
    #[default]
    Silent,
    /// The leader's process was known to be gone.
    Gone,
    /// The leader asked for it.
    Transfer,
    /// The shard is new.
    First,
}

impl EncodeLabelValue for Cause {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), Error> {
        encoder.write_str(match self {
            Self::Silent => "silent",
            Self::Gone => "gone",
            Self::Transfer => "transfer",
            Self::First => "first",
        })
    }
}

/// Label of elections.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CauseLabel {
    /// Why.
    pub cause: Cause,
}

/// Counters and gauges of all shards of a node.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Shards that run here.
    pub shards: Gauge,
    /// Shards of these that rest.
    pub shards_resting: Gauge,
    /// Shards of these that this node leads and can serve.
    pub shards_led: Gauge,
    /// Shards of these that stopped for good.
    pub shards_broken: Gauge,
    /// Times a shard was woken.
    pub wakes: Counter,
    /// Times a shard got another leader, as seen here.
    pub leader_changes: Counter,
    /// Elections that this node won, by cause.
    pub elections: Family<CauseLabel, Counter>,
    /// Frames that did not decode, or whose CRC or batch was damaged.
    pub frames_malformed: Counter,
    /// Frames that were refused because too much was waiting.
    pub frames_refused_busy: Counter,
    /// Frames with records that were refused because the disk is full.
    pub frames_refused_full: Counter,
    /// Whether records of other leaders are refused because the disk is full.
    pub full: Gauge,
    /// Snapshots installed here.
    pub snapshots_installed: Counter,
    /// Answers of a peer that had lost what it had acknowledged.
    pub reversions: Counter,
    /// Bytes of recent entries in memory, of all shards.
    pub cache_bytes: Gauge,
}

impl Metrics {
    /// Declares them, under `raft_`.
    pub fn register(&self, registry: &mut Registry) {
        let raft = registry.sub_registry_with_prefix("flotilla_raft");
        raft.register("shards", "Shards that run here", self.shards.clone());
        raft.register("shards_resting", "Shards here that rest", self.shards_resting.clone());
        raft.register("shards_led", "Shards that this node leads and can serve", self.shards_led.clone());
        raft.register("shards_broken", "Shards here that stopped for good", self.shards_broken.clone());
        raft.register("wakes", "Times a shard here was woken", self.wakes.clone());
        raft.register("leader_changes", "Times a shard here got another leader", self.leader_changes.clone());
        raft.register("elections", "Elections won by this node, by cause", self.elections.clone());
        raft.register(
            "frames_malformed",
            "Frames that were damaged or malformed",
            self.frames_malformed.clone(),
        );
        raft.register(
            "frames_refused_busy",
            "Frames refused because too much was waiting",
            self.frames_refused_busy.clone(),
        );
        raft.register(
            "frames_refused_full",
            "Frames with records refused because the disk is full",
            self.frames_refused_full.clone(),
        );
        raft.register(
            "full",
            "1 while records of other leaders are refused: the disk is full",
            self.full.clone(),
        );
        raft.register("snapshots_installed", "Snapshots installed here", self.snapshots_installed.clone());
        raft.register(
            "reversions",
            "Answers of a peer that had lost what it had acknowledged",
            self.reversions.clone(),
        );
        raft.register("cache_bytes", "Recent entries in memory, in bytes", self.cache_bytes.clone());
    }
}
