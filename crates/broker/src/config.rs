//! Settings of a node's request path and housekeeping: the `[broker]` table.

use flotilla_types::ShardId;
use flotilla_types::bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The `[broker]` table. Every bound here has a metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Produce bytes between arrival and answer, whole node. Default 256MiB: what a spike may cost in
    /// memory before clients are told to slow down.
    pub produce_in_flight_bytes: ByteSize,
    /// The same for one partition. Default 16MiB, so that one slow partition cannot take the node's.
    pub produce_in_flight_shard_bytes: ByteSize,
    /// Batches of one partition proposed and not yet answered. Default 1024.
    pub produce_in_flight_shard_batches: u32,
    /// How long a produce may wait for room before it is answered OVERLOADED. Default 250ms: longer than
    /// a burst, shorter than a client's patience.
    #[serde(with = "flotilla_types::duration")]
    pub admission_wait: Duration,
    /// A partition whose oldest unanswered batch is older than this, and that has a queue, takes no more.
    /// Default 500ms: age shows overload before length does.
    #[serde(with = "flotilla_types::duration")]
    pub shed_after: Duration,
    /// The pause that an OVERLOADED answer asks for. Default 100ms.
    #[serde(with = "flotilla_types::duration")]
    pub overloaded_retry: Duration,
    /// How long a produce waits for its outcome where the request says nothing. Default 30s.
    #[serde(with = "flotilla_types::duration")]
    pub produce_timeout: Duration,
    /// The longest a produce may ask to wait. Default 2m, the client's whole delivery time.
    #[serde(with = "flotilla_types::duration")]
    pub produce_timeout_max: Duration,
    /// Compressed bodies from this size on are checked on the work pool, not on the task that serves the
    /// connection. Default 64KiB, some 0.1 ms of decompression.
    pub check_inline_bytes: ByteSize,
    /// Recent batches kept in memory for readers near the end, whole node. Default 128MiB.
    pub tail_bytes: ByteSize,
    /// Most bytes of one fetch answer. Default 8MiB. The first batch is returned even if it is larger.
    pub fetch_max_bytes: ByteSize,
    /// Most bytes of one partition in a fetch answer where the request says nothing. Default 1MiB.
    pub fetch_partition_bytes: ByteSize,
    /// Longest wait of a fetch. Default 30s.
    #[serde(with = "flotilla_types::duration")]
    pub fetch_wait_max: Duration,
    /// Most partitions in one fetch or offsets request. Default 1024.
    pub fetch_max_partitions: u32,
    /// Blocking reads and checks at once. Default 8: each holds at most one answer's bytes.
    pub pool_threads: u32,
    /// Blocking reads and checks that may wait for a place in the pool. Default 1024.
    pub pool_queue: u32,
    /// How often every node compares intent with what runs, besides whenever intent changes. Default 1s.
    #[serde(with = "flotilla_types::duration")]
    pub reconcile_interval: Duration,
    /// How often the controller's leader looks at liveness, placement and balance. Default 2s.
    #[serde(with = "flotilla_types::duration")]
    pub plan_interval: Duration,
    /// Leaders are moved back to a node only when it has been reachable this long. Default 15s.
    #[serde(with = "flotilla_types::duration")]
    pub balance_delay: Duration,
    /// Most leaders moved in one planning round. Default 8. 0 switches balancing off.
    pub balance_moves: u32,
    /// How often a leader looks at retention and checkpoints. Default 10s.
    #[serde(with = "flotilla_types::duration")]
    pub retention_interval: Duration,
    /// An idempotent producer that has been silent this long, by the log's time, is forgotten. Default 7d.
    #[serde(with = "flotilla_types::duration")]
    pub producer_expiry: Duration,
    /// Most idempotent producers one partition remembers; the idle ones go first. Default 10000.
    pub producers_max: u32,
    /// How long creating a topic waits for its partitions to have leaders. Default 5s.
    #[serde(with = "flotilla_types::duration")]
    pub create_wait: Duration,
    /// Longest time of a control call that another node must answer. Default 5s.
    #[serde(with = "flotilla_types::duration")]
    pub forward_timeout: Duration,
    /// How long shutting down waits for answers in flight. Default 5s.
    #[serde(with = "flotilla_types::duration")]
    pub drain_timeout: Duration,
    /// Partitions of a new topic where the request says nothing. Default 1.
    pub default_partitions: u32,
    /// Replicas of a new topic where the request says nothing, or all nodes if they are fewer. Default 3.
    pub default_replication: u32,
    /// When the disk counts as full.
    pub disk: DiskConfig,
    /// Consumer groups.
    pub groups: GroupsConfig,
}

/// The `[broker.groups]` table: consumer groups, on whichever node coordinates them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupsConfig {
    /// Shards that share the groups by the hash of their names. Read once, when the cluster is set up.
    /// Default 8.
    pub coordinators: u32,
    /// A member that is silent this long has left. Default 45s: longer than a garbage collection or a node's
    /// restart. A heartbeat is held for at most a third of it.
    #[serde(with = "flotilla_types::duration")]
    pub session_timeout: Duration,
    /// How often members are told to send a heartbeat where it is not held. Default 5s.
    #[serde(with = "flotilla_types::duration")]
    pub heartbeat_interval: Duration,
    /// How long a member may take to give up partitions before it is removed, where it does not ask for less.
    /// Default 30s.
    #[serde(with = "flotilla_types::duration")]
    pub rebalance_timeout_max: Duration,
    /// Most members of one group. Default 1000.
    pub members_max: u32,
    /// Offsets of a group without members are forgotten after this, by the log's time. Default 7d.
    #[serde(with = "flotilla_types::duration")]
    pub offsets_expiry: Duration,
    /// Heartbeats held at once by this node as coordinator; more are answered at once. Default 16384.
    pub held_max: u32,
    /// Heartbeats held at once that were passed to another node; more are passed without waiting there.
    /// Default 4096.
    pub forwards_held_max: u32,
}

/// The `[broker.disk]` table: produce and topic creation stop at the soft limit, every append at the hard
/// one; reads and deletes go on. A limit is the larger of its share and its bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiskConfig {
    /// Default 10.
    pub soft_free_percent: u8,
    /// Default 3GiB: memtables twice and the largest compaction fit.
    pub soft_free_bytes: ByteSize,
    /// Default 5.
    pub hard_free_percent: u8,
    /// Default 1GiB.
    pub hard_free_bytes: ByteSize,
    /// Free space must exceed a limit by this share of the disk to leave it again. Default 2.
    pub hysteresis_percent: u8,
    /// How often free space is looked at. Default 1s.
    #[serde(with = "flotilla_types::duration")]
    pub interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            produce_in_flight_bytes: ByteSize(256 << 20),
            produce_in_flight_shard_bytes: ByteSize(16 << 20),
            produce_in_flight_shard_batches: 1024,
            admission_wait: Duration::from_millis(250),
            shed_after: Duration::from_millis(500),
            overloaded_retry: Duration::from_millis(100),
            produce_timeout: Duration::from_secs(30),
            produce_timeout_max: Duration::from_secs(120),
            check_inline_bytes: ByteSize(64 << 10),
            tail_bytes: ByteSize(128 << 20),
            fetch_max_bytes: ByteSize(8 << 20),
            fetch_partition_bytes: ByteSize(1 << 20),
            fetch_wait_max: Duration::from_secs(30),
            fetch_max_partitions: 1024,
            pool_threads: 8,
            pool_queue: 1024,
            reconcile_interval: Duration::from_secs(1),
            plan_interval: Duration::from_secs(2),
            balance_delay: Duration::from_secs(15),
            balance_moves: 8,
            retention_interval: Duration::from_secs(10),
            producer_expiry: Duration::from_secs(7 * 24 * 3600),
            producers_max: 10_000,
            create_wait: Duration::from_secs(5),
            forward_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(5),
            default_partitions: 1,
            default_replication: 3,
            disk: DiskConfig::default(),
            groups: GroupsConfig::default(),
        }
    }
}

impl Default for GroupsConfig {
    fn default() -> Self {
        Self {
            coordinators: 8,
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(5),
            rebalance_timeout_max: Duration::from_secs(30),
            members_max: 1000,
            offsets_expiry: Duration::from_secs(7 * 24 * 3600),
            held_max: 16_384,
            forwards_held_max: 4096,
        }
    }
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self {
            soft_free_percent: 10,
            soft_free_bytes: ByteSize(3 << 30),
            hard_free_percent: 5,
            hard_free_bytes: ByteSize(1 << 30),
            hysteresis_percent: 2,
            interval: Duration::from_secs(1),
        }
    }
}

/// Which setting is wrong and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("broker.{key} is {value}, expected {expected}")]
pub struct InvalidConfig {
    /// As in the file, below `[broker]`.
    pub key: &'static str,
    /// As given.
    pub value: String,
    /// What would be right.
    pub expected: &'static str,
}

impl Config {
    /// Refuses what could not work.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        let batch = flotilla_types::limits::BATCH_MAX_BYTES as u64;
        let sizes = [
            ("produce_in_flight_bytes", self.produce_in_flight_bytes.0, 1 << 40),
            ("produce_in_flight_shard_bytes", self.produce_in_flight_shard_bytes.0, 1 << 40),
            ("fetch_max_bytes", self.fetch_max_bytes.0, 64 << 20),
        ];
        for (key, value, most) in sizes {
            if !(batch..=most).contains(&value) {
                let expected = "at least the largest batch, 8MiB, and not absurdly much";
                return Err(InvalidConfig { key, value: value.to_string(), expected });
            }
        }
        let counts = [
            ("produce_in_flight_shard_batches", self.produce_in_flight_shard_batches),
            ("fetch_max_partitions", self.fetch_max_partitions),
            ("pool_threads", self.pool_threads),
            ("pool_queue", self.pool_queue),
            ("producers_max", self.producers_max),
            ("default_partitions", self.default_partitions),
            ("default_replication", self.default_replication),
            ("groups.members_max", self.groups.members_max),
            ("groups.held_max", self.groups.held_max),
            ("groups.forwards_held_max", self.groups.forwards_held_max),
        ];
        for (key, value) in counts {
            if value == 0 {
                return Err(InvalidConfig { key, value: value.to_string(), expected: "at least 1" });
            }
        }
        let intervals = [
            ("reconcile_interval", self.reconcile_interval),
            ("plan_interval", self.plan_interval),
            ("retention_interval", self.retention_interval),
            ("disk.interval", self.disk.interval),
            ("groups.session_timeout", self.groups.session_timeout),
            ("groups.heartbeat_interval", self.groups.heartbeat_interval),
            ("groups.rebalance_timeout_max", self.groups.rebalance_timeout_max),
            ("groups.offsets_expiry", self.groups.offsets_expiry),
        ];
        for (key, value) in intervals {
            if value < Duration::from_millis(10) {
                let value = flotilla_types::duration::format(value);
                return Err(InvalidConfig { key, value, expected: "at least 10ms" });
            }
        }
        let most = ShardId::FIRST_PARTITION.get() - 1;
        if !(1..=most).contains(&self.groups.coordinators) {
            let value = self.groups.coordinators.to_string();
            return Err(InvalidConfig { key: "groups.coordinators", value, expected: "1 to 1023" });
        }
        if self.groups.session_timeout < self.groups.heartbeat_interval * 3 {
            let value = flotilla_types::duration::format(self.groups.session_timeout);
            let expected = "at least three times groups.heartbeat_interval";
            return Err(InvalidConfig { key: "groups.session_timeout", value, expected });
        }
        let disk = &self.disk;
        let shares = [
            ("disk.soft_free_percent", disk.soft_free_percent),
            ("disk.hard_free_percent", disk.hard_free_percent),
            ("disk.hysteresis_percent", disk.hysteresis_percent),
        ];
        for (key, value) in shares {
            if value > 90 {
                return Err(InvalidConfig { key, value: value.to_string(), expected: "at most 90" });
            }
        }
        if disk.hard_free_percent > disk.soft_free_percent || disk.hard_free_bytes > disk.soft_free_bytes {
            let expected = "at most the soft limit";
            let value = format!("{} % and {}", disk.hard_free_percent, disk.hard_free_bytes);
            return Err(InvalidConfig { key: "disk.hard_free_*", value, expected });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_sound_and_nonsense_is_named() {
        assert_eq!(Config::default().check(), Ok(()));
        let config = Config { pool_threads: 0, ..Config::default() };
        assert_eq!(config.check().unwrap_err().to_string(), "broker.pool_threads is 0, expected at least 1");
        let disk = DiskConfig { hard_free_percent: 20, ..DiskConfig::default() };
        assert!(Config { disk, ..Config::default() }.check().is_err());
        let groups = GroupsConfig { session_timeout: Duration::from_secs(14), ..GroupsConfig::default() };
        let error = Config { groups, ..Config::default() }.check().unwrap_err();
        assert_eq!((error.key, error.value.as_str()), ("groups.session_timeout", "14s"));
        let groups = GroupsConfig { coordinators: 1024, ..GroupsConfig::default() };
        assert!(Config { groups, ..Config::default() }.check().is_err());
    }

    #[test]
    fn unknown_settings_are_refused() {
        let text = r#"{"tail_bytes": "1MiB", "produce_timeout": "10s"}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert_eq!(config.tail_bytes, ByteSize(1 << 20));
        assert!(serde_json::from_str::<Config>(r#"{"tial_bytes": "1MiB"}"#).is_err());
        assert!(serde_json::from_str::<Config>(r#"{"disk": {"soft": 1}}"#).is_err());
    }
}
