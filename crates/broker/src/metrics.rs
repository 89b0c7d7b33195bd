//! What this crate counts: names, units and labels in one place.
//!
//! Counters get the suffix `_total` when they are shown, and a unit stands in the name.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::sync::Arc;
use std::time::Duration;

/// Label of the error counters: the contract's spelling of the reason.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// `NOT_LEADER` and the like.
    pub reason: &'static str,
}

/// Label of the produce stages.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StageLabel {
    /// `admit` (waiting for room), `check` (CRC, walk), `commit` (append, replicate, apply), `total`.
    pub stage: &'static str,
}

/// Label of the reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SourceLabel {
    /// `tail` (memory) or `store`.
    pub source: &'static str,
}

/// Label of the bounds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BoundLabel {
    /// Which limit shed the request: `node_bytes`, `shard_bytes`, `shard_batches`, `shard_age`, `pool`.
    pub bound: &'static str,
}

/// Label of the changes of groups.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CauseLabel {
    /// `joined`, `left`, `session_expired` and the like.
    pub cause: &'static str,
}

/// Label of the states of groups.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StateLabel {
    /// `empty`, `reconciling` or `stable`.
    pub state: &'static str,
}

/// Label of what is shown of single groups.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct GroupLabel {
    /// The group's name.
    pub group: String,
}

/// All of this crate's metrics. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

impl std::ops::Deref for Metrics {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// The metrics themselves.
#[derive(Debug)]
#[expect(missing_docs, reason = "each one's help text is in `register`")]
pub struct Inner {
    pub produce_requests: Counter,
    pub produce_errors: Family<ReasonLabel, Counter>,
    pub produce_bytes: Counter,
    pub produce_records: Counter,
    pub produce_duplicates: Counter,
    pub produce_stage_seconds: Family<StageLabel, Histogram>,
    pub produce_in_flight_bytes: Gauge,
    pub produce_in_flight_batches: Gauge,
    pub produce_abandoned: Counter,
    pub shed: Family<BoundLabel, Counter>,
    pub fetch_requests: Counter,
    pub fetch_errors: Family<ReasonLabel, Counter>,
    pub fetch_bytes: Counter,
    pub fetch_records: Counter,
    pub fetch_waits: Counter,
    pub fetch_waiting: Gauge,
    pub fetch_reads: Family<SourceLabel, Counter>,
    pub tail_bytes: Gauge,
    pub tail_evicted: Counter,
    pub corrupt_reads: Counter,
    pub shards: Gauge,
    pub leaders: Gauge,
    pub leaderless_partitions: Gauge,
    pub broken_shards: Gauge,
    pub orphan_shards: Gauge,
    pub disk_state: Gauge,
    pub disk_free_bytes: Gauge,
    pub trims: Counter,
    pub leaders_moved: Counter,
    pub forwarded: Counter,
    pub admin_errors: Family<ReasonLabel, Counter>,
    pub groups: Family<StateLabel, Gauge>,
    pub group_members: Gauge,
    pub group_changes: Family<CauseLabel, Counter>,
    pub group_rebalance_seconds: Histogram,
    pub group_heartbeats_held: Gauge,
    pub group_forwards_held: Gauge,
    pub group_commits: Counter,
    pub group_errors: Family<ReasonLabel, Counter>,
    pub group_events_dropped: Counter,
    pub group_lag: Family<GroupLabel, Gauge>,
    pub group_epoch: Family<GroupLabel, Gauge>,
    pub group_size: Family<GroupLabel, Gauge>,
    pub events_dropped: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        fn seconds() -> Histogram {
            // 50 us to 26 s.
            Histogram::new(exponential_buckets(0.000_05, 2.0, 20))
        }
        Self(Arc::new(Inner {
            produce_requests: Counter::default(),
            produce_errors: Family::default(),
            produce_bytes: Counter::default(),
            produce_records: Counter::default(),
            produce_duplicates: Counter::default(),
            produce_stage_seconds: Family::new_with_constructor(seconds),
            produce_in_flight_bytes: Gauge::default(),
            produce_in_flight_batches: Gauge::default(),
            produce_abandoned: Counter::default(),
            shed: Family::default(),
            fetch_requests: Counter::default(),
            fetch_errors: Family::default(),
            fetch_bytes: Counter::default(),
            fetch_records: Counter::default(),
            fetch_waits: Counter::default(),
            fetch_waiting: Gauge::default(),
            fetch_reads: Family::default(),
            tail_bytes: Gauge::default(),
            tail_evicted: Counter::default(),
            corrupt_reads: Counter::default(),
            shards: Gauge::default(),
            leaders: Gauge::default(),
            leaderless_partitions: Gauge::default(),
            broken_shards: Gauge::default(),
            orphan_shards: Gauge::default(),
            disk_state: Gauge::default(),
            disk_free_bytes: Gauge::default(),
            trims: Counter::default(),
            leaders_moved: Counter::default(),
            forwarded: Counter::default(),
            admin_errors: Family::default(),
            groups: Family::default(),
            group_members: Gauge::default(),
            group_changes: Family::default(),
            group_rebalance_seconds: seconds(),
            group_heartbeats_held: Gauge::default(),
            group_forwards_held: Gauge::default(),
            group_commits: Counter::default(),
            group_errors: Family::default(),
            group_events_dropped: Counter::default(),
            group_lag: Family::default(),
            group_epoch: Family::default(),
            group_size: Family::default(),
            events_dropped: Counter::default(),
        }))
    }
}

impl Metrics {
    /// Names and explains every one of them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let r = registry;
        let bytes = || Unit::Bytes;
        r.register("flotilla_produce_requests", "Batches that arrived", self.produce_requests.clone());
        r.register(
            "flotilla_produce_errors",
            "Batches not acknowledged, by reason",
            self.produce_errors.clone(),
        );
        r.register_with_unit(
            "flotilla_produce",
            "Bodies of acknowledged batches",
            bytes(),
            self.produce_bytes.clone(),
        );
        r.register("flotilla_produce_records", "Records acknowledged", self.produce_records.clone());
        r.register(
            "flotilla_produce_duplicates",
            "Batches that were in the log already",
            self.produce_duplicates.clone(),
        );
        r.register_with_unit(
            "flotilla_produce_stage",
            "Time of acknowledged batches by stage: admit, check, commit, total",
            Unit::Seconds,
            self.produce_stage_seconds.clone(),
        );
        r.register_with_unit(
            "flotilla_produce_in_flight",
            "Produce bytes between arrival and outcome",
            bytes(),
            self.produce_in_flight_bytes.clone(),
        );
        r.register(
            "flotilla_produce_in_flight_batches",
            "Batches proposed and without outcome",
            self.produce_in_flight_batches.clone(),
        );
        r.register(
            "flotilla_produce_abandoned",
            "Proposed batches whose caller stopped waiting",
            self.produce_abandoned.clone(),
        );
        r.register("flotilla_shed", "Requests answered OVERLOADED, by bound", self.shed.clone());
        r.register("flotilla_fetch_requests", "Fetches", self.fetch_requests.clone());
        r.register("flotilla_fetch_errors", "Partitions not served, by reason", self.fetch_errors.clone());
        r.register_with_unit(
            "flotilla_fetch",
            "Bodies of batches given out",
            bytes(),
            self.fetch_bytes.clone(),
        );
        r.register("flotilla_fetch_records", "Records given out", self.fetch_records.clone());
        r.register("flotilla_fetch_waits", "Fetches that had to wait", self.fetch_waits.clone());
        r.register("flotilla_fetch_waiting", "Fetches waiting now", self.fetch_waiting.clone());
        r.register(
            "flotilla_fetch_reads",
            "Reads of one partition, from memory (tail) or disk (store)",
            self.fetch_reads.clone(),
        );
        r.register_with_unit("flotilla_tail", "Recent batches in memory", bytes(), self.tail_bytes.clone());
        r.register(
            "flotilla_tail_evicted",
            "Batches that left memory to make room",
            self.tail_evicted.clone(),
        );
        r.register(
            "flotilla_corrupt_reads",
            "Reads from disk whose checksum did not match",
            self.corrupt_reads.clone(),
        );
        r.register("flotilla_shards", "Shards that run on this node", self.shards.clone());
        r.register("flotilla_leaders", "Shards that this node leads", self.leaders.clone());
        r.register(
            "flotilla_leaderless_partitions",
            "Partitions without a leader, as this node knows",
            self.leaderless_partitions.clone(),
        );
        r.register(
            "flotilla_broken_shards",
            "Shards that stopped on this node because their state or log contradicts itself",
            self.broken_shards.clone(),
        );
        r.register(
            "flotilla_orphan_shards",
            "Shards on disk that no topic claims; never deleted automatically",
            self.orphan_shards.clone(),
        );
        r.register("flotilla_disk_state", "0 room, 1 nearly full, 2 full", self.disk_state.clone());
        r.register_with_unit(
            "flotilla_disk_free",
            "Free on the store's file system",
            bytes(),
            self.disk_free_bytes.clone(),
        );
        r.register("flotilla_trims", "Log starts moved by retention", self.trims.clone());
        r.register("flotilla_leaders_moved", "Leaders moved for balance", self.leaders_moved.clone());
        r.register("flotilla_forwarded", "Control calls passed to another node", self.forwarded.clone());
        r.register(
            "flotilla_admin_errors",
            "Administrators' calls that failed, by reason",
            self.admin_errors.clone(),
        );
        self.register_groups(r);
    }

    fn register_groups(&self, r: &mut Registry) {
        r.register("flotilla_groups", "Groups that this node coordinates, by state", self.groups.clone());
        r.register("flotilla_group_members", "Members of these groups", self.group_members.clone());
        r.register(
            "flotilla_group_changes",
            "Changes of groups by cause; each raises a group's epoch, but for acknowledged",
            self.group_changes.clone(),
        );
        r.register_with_unit(
            "flotilla_group_rebalance",
            "Time from the first change until every member owns what it is to own",
            Unit::Seconds,
            self.group_rebalance_seconds.clone(),
        );
        r.register(
            "flotilla_group_heartbeats_held",
            "Heartbeats held by this node as coordinator",
            self.group_heartbeats_held.clone(),
        );
        r.register(
            "flotilla_group_forwards_held",
            "Heartbeats held that were passed to another node",
            self.group_forwards_held.clone(),
        );
        r.register("flotilla_group_offset_commits", "Offsets stored", self.group_commits.clone());
        r.register(
            "flotilla_group_errors",
            "Calls about groups, and offset commits, that failed, by reason",
            self.group_errors.clone(),
        );
        r.register(
            "flotilla_group_events_dropped",
            "Changes of groups that were not told of, because too many came at once",
            self.group_events_dropped.clone(),
        );
        r.register(
            "flotilla_group_lag_records",
            "Records not consumed, of the groups coordinated here with the largest lag",
            self.group_lag.clone(),
        );
        r.register(
            "flotilla_group_epoch",
            "Epoch of a group: rises with its members, subscriptions, topics and seeks; shown where lag is",
            self.group_epoch.clone(),
        );
        r.register("flotilla_group_size", "Members of a group; shown where lag is", self.group_size.clone());
        r.register(
            "flotilla_events_dropped",
            "Events that a watcher did not take in time",
            self.events_dropped.clone(),
        );
    }

    /// Counts a change of a group.
    pub(crate) fn group_change(&self, cause: &'static str) {
        self.group_changes.get_or_create(&CauseLabel { cause }).inc();
    }

    /// Notes how long a stage of a produce took.
    pub(crate) fn stage(&self, stage: &'static str, took: Duration) {
        self.produce_stage_seconds.get_or_create(&StageLabel { stage }).observe(took.as_secs_f64());
    }

    /// Counts a shed request.
    pub(crate) fn shed(&self, bound: &'static str) {
        self.shed.get_or_create(&BoundLabel { bound }).inc();
    }
}

/// Counts an error in a family by its reason.
pub(crate) fn count(family: &Family<ReasonLabel, Counter>, reason: flotilla_types::Reason) {
    family.get_or_create(&ReasonLabel { reason: reason.name() }).inc();
}
