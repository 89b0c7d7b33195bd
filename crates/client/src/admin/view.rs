//! What the cluster says of itself, in the vocabulary's types. Field names are the contract's.

use flotilla_proto::convert::admin::config_from_wire;
use flotilla_proto::v1;
use flotilla_proto::v1::partition_state::replica::Role;
use flotilla_types::topic::TopicConfig;
use flotilla_types::{NodeId, Offset, PartitionId, Term, TimestampMs};
use std::collections::BTreeMap;
use std::time::Duration;

/// A topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Topic {
    /// Its name.
    pub topic: String,
    /// This life of it; a topic made again has another.
    pub topic_id: String,
    /// How many partitions it has.
    pub partition_count: u32,
    /// How many replicas each partition should have.
    pub replication_factor: u32,
    /// As set; absent settings have the defaults.
    pub config: TopicConfig,
    /// For people and programs.
    pub labels: BTreeMap<String, String>,
    /// When it was made, in milliseconds since the Unix epoch.
    pub create_time: TimestampMs,
    /// Its partitions, where they were asked for.
    pub partitions: Vec<PartitionState>,
}

/// A partition as its leader sees it, or as the answering node does while there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// Its topic.
    pub topic: String,
    /// Its place in the topic.
    pub partition: PartitionId,
    /// Who leads it; `None` = nobody now.
    pub leader: Option<NodeId>,
    /// The leadership.
    pub leader_epoch: Term,
    /// Where it is.
    pub replicas: Vec<Replica>,
    /// The first offset kept.
    pub log_start_offset: Offset,
    /// The end of what committed-only readers see.
    pub last_stable_offset: Offset,
    /// The end of what readers see.
    pub high_watermark: Offset,
    /// The end of what the leader has.
    pub log_end_offset: Offset,
    /// Bytes of bodies kept.
    pub size_bytes: u64,
}

/// One copy of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Where.
    pub node: NodeId,
    /// What it does.
    pub role: ReplicaRole,
    /// How far it has followed, as an index of the shard's log.
    pub match_index: i64,
    /// How far behind in time, if it is.
    pub lag: Option<Duration>,
    /// Whether it answers.
    pub online: bool,
}

/// What a replica does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaRole {
    /// The answering node does not know.
    Unknown,
    /// Takes appends.
    Leader,
    /// Follows and votes.
    Follower,
    /// Follows and does not vote yet.
    Learner,
}

/// The cluster's nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The cluster's id.
    pub cluster_id: String,
    /// Who leads the controller.
    pub controller: Option<NodeId>,
    /// All nodes, by id.
    pub nodes: Vec<Node>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub node: NodeId,
    /// Where clients find it, `host:port`.
    pub endpoint: String,
    /// Where it stands; empty if nobody said.
    pub rack_id: String,
    /// What it runs.
    pub version: String,
    /// Whether it answers the others.
    pub online: bool,
    /// Whether its replicas are being moved away.
    pub draining: bool,
}

/// How the cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The worst of the checks.
    pub status: HealthStatus,
    /// One by one.
    pub checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Which: nodes, leaders, under_replicated, disk and so on.
    pub name: String,
    /// How it is.
    pub status: HealthStatus,
    /// For people.
    pub detail: String,
    /// Partitions it concerns.
    pub partitions: Vec<(String, PartitionId)>,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HealthStatus {
    /// All is as it should be.
    Healthy,
    /// It serves, with less redundancy.
    Degraded,
    /// Something cannot be written or read, or the node does not say how it is.
    Unhealthy,
}

impl HealthStatus {
    /// As the contract spells it: `HEALTHY`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "HEALTHY",
            Self::Degraded => "DEGRADED",
            Self::Unhealthy => "UNHEALTHY",
        }
    }

    fn from_number(number: i32) -> Self {
        match v1::health::Status::try_from(number) {
            Ok(v1::health::Status::Healthy) => Self::Healthy,
            Ok(v1::health::Status::Degraded) => Self::Degraded,
            Ok(v1::health::Status::Unhealthy | v1::health::Status::Unspecified) | Err(_) => Self::Unhealthy,
        }
    }
}

impl ReplicaRole {
    /// As the contract spells it: `LEADER`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Leader => "LEADER",
            Self::Follower => "FOLLOWER",
            Self::Learner => "LEARNER",
        }
    }
}

fn node_id(number: i32) -> Option<NodeId> {
    u32::try_from(number).ok().filter(|n| *n > 0).map(NodeId)
}

fn offset(number: i64) -> Offset {
    Offset(u64::try_from(number).unwrap_or(0))
}

fn partition_id(number: i32) -> PartitionId {
    PartitionId(u32::try_from(number).unwrap_or(0))
}

impl Topic {
    pub(crate) fn from_wire(wire: v1::Topic) -> Self {
        let config = wire.config.as_ref().map(config_from_wire).and_then(Result::ok).unwrap_or_default();
        let create_time = wire.create_time.map_or(0, |t| t.seconds * 1_000 + i64::from(t.nanos) / 1_000_000);
        Self {
            topic: wire.topic,
            topic_id: wire.topic_id,
            partition_count: u32::try_from(wire.partition_count).unwrap_or(0),
            replication_factor: u32::try_from(wire.replication_factor).unwrap_or(0),
            config,
            labels: wire.labels.into_iter().collect(),
            create_time,
            partitions: wire.partitions.into_iter().map(PartitionState::from_wire).collect(),
        }
    }
}

impl PartitionState {
    pub(crate) fn from_wire(wire: v1::PartitionState) -> Self {
        Self {
            topic: wire.topic,
            partition: partition_id(wire.partition),
            leader: node_id(wire.leader_node_id),
            leader_epoch: Term(u64::try_from(wire.leader_epoch).unwrap_or(0)),
            replicas: wire.replicas.into_iter().filter_map(Replica::from_wire).collect(),
            log_start_offset: offset(wire.log_start_offset),
            last_stable_offset: offset(wire.last_stable_offset),
            high_watermark: offset(wire.high_watermark),
            log_end_offset: offset(wire.log_end_offset),
            size_bytes: u64::try_from(wire.size_bytes).unwrap_or(0),
        }
    }
}

impl Replica {
    fn from_wire(wire: v1::partition_state::Replica) -> Option<Self> {
        Some(Self {
            node: node_id(wire.node_id)?,
            role: match Role::try_from(wire.role) {
                Ok(Role::Leader) => ReplicaRole::Leader,
                Ok(Role::Follower) => ReplicaRole::Follower,
                Ok(Role::Learner) => ReplicaRole::Learner,
                Ok(Role::Unspecified) | Err(_) => ReplicaRole::Unknown,
            },
            match_index: wire.match_index,
            lag: wire.lag.and_then(|lag| Duration::try_from(lag).ok()),
            online: wire.online,
        })
    }
}

impl Cluster {
    pub(crate) fn from_wire(wire: v1::Metadata) -> Self {
        let mut nodes: Vec<Node> = wire.nodes.into_iter().filter_map(Node::from_wire).collect();
        nodes.sort_by_key(|node| node.node);
        Self { cluster_id: wire.cluster_id, controller: node_id(wire.controller_node_id), nodes }
    }
}

impl Node {
    fn from_wire(wire: v1::Node) -> Option<Self> {
        Some(Self {
            node: node_id(wire.node_id)?,
            endpoint: wire.endpoint,
            rack_id: wire.rack_id,
            version: wire.version,
            online: wire.online,
            draining: wire.draining,
        })
    }
}

impl Health {
    pub(crate) fn from_wire(wire: v1::Health) -> Self {
        let checks = wire.checks.into_iter().map(|check| Check {
            name: check.name,
            status: HealthStatus::from_number(check.status),
            detail: check.detail,
            partitions: check.partitions.into_iter().map(|p| (p.topic, partition_id(p.partition))).collect(),
        });
        Self { status: HealthStatus::from_number(wire.status), checks: checks.collect() }
    }
}
