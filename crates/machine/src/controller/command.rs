//! What the controller is told. Each command that may be proposed again, because its answer was lost, gives
//! the same answer again.

use crate::encoding::{Bad, Field, Reader, fields};
use flotilla_types::topic::{Retention, TopicConfig};
use flotilla_types::{ClusterId, NodeId, ShardId, StoreId, TimestampMs, TopicId, TopicName};
use std::collections::BTreeMap;
use std::time::Duration;

/// A command for the controller.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Places the coordinators, once.
    PlaceCoordinators {
        /// Nodes of each, the preferred leader first.
        placement: Vec<Vec<NodeId>>,
        /// The leader's clock.
        now: TimestampMs,
    },
    /// The first command of a cluster: its id and the nodes it begins with.
    Bootstrap {
        /// The cluster.
        cluster: ClusterId,
        /// Every node of the initial list.
        nodes: Vec<NodeSpec>,
    },
    /// A node says that it is there, with the store it has. Adds it or confirms it; its id is refused with
    /// any other store than the first.
    RegisterNode {
        /// The node, where it is reached.
        node: NodeSpec,
        /// Its data directory.
        store: StoreId,
    },
    /// Corrects where a node is reached.
    UpdateNode {
        /// The node as it is to be.
        node: NodeSpec,
    },
    /// Takes a node that carries no replicas out for good: its id is never accepted again.
    RetireNode {
        /// The node.
        node: NodeId,
    },
    /// Makes a topic. The planner chose where its partitions go.
    CreateTopic {
        /// Its name.
        name: TopicName,
        /// Its settings.
        config: TopicConfig,
        /// Free text by key.
        labels: BTreeMap<String, String>,
        /// The nodes of each partition; the first is the preferred leader.
        placement: Vec<Vec<NodeId>>,
        /// The proposer's clock.
        now: TimestampMs,
        /// Random, chosen by the proposer: a repeat of the same request gets the same answer. 0 = none.
        request: u128,
    },
    /// Changes settings and labels, whole.
    UpdateTopic {
        /// Which topic.
        topic: TopicId,
        /// Its settings from now on.
        config: TopicConfig,
        /// Its labels from now on.
        labels: BTreeMap<String, String>,
    },
    /// Adds partitions at the end.
    AddPartitions {
        /// Which topic.
        topic: TopicId,
        /// Partitions it has; if it has these and the new ones already, nothing is added.
        from: u32,
        /// The nodes of each new partition.
        placement: Vec<Vec<NodeId>>,
    },
    /// Removes a topic with its partitions.
    DeleteTopic {
        /// Which topic.
        topic: TopicId,
    },
    /// Says where a partition's replicas are to be.
    PlaceReplicas {
        /// Which partition.
        shard: ShardId,
        /// Where they were when this was planned; anything else is refused. Absent = anywhere.
        from: Option<Vec<NodeId>>,
        /// The nodes; the first is the preferred leader.
        replicas: Vec<NodeId>,
    },
    /// Gives out a block of producer ids. Not repeated: ids of a lost answer stay unused.
    AllocateProducerIds {
        /// How many, 1 to [`super::PRODUCER_ID_BLOCK_MAX`].
        count: u32,
    },
    /// Raises a feature's level.
    SetFeature {
        /// Which feature.
        name: String,
        /// Its level from now on; levels never fall.
        level: u32,
    },
    /// Sets or removes a cluster-wide setting. What they mean is the broker's affair.
    SetSetting {
        /// Which setting.
        name: String,
        /// Its value from now on; absent = the default.
        value: Option<String>,
    },
}

/// A node as an operator describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    /// The node.
    pub id: NodeId,
    /// Where peers reach it, `host:port`.
    pub peer: String,
    /// Where clients reach it, `host:port`.
    pub client: String,
    /// What it shares its fate with.
    pub rack: Option<String>,
}

fields!(NodeSpec { id, peer, client, rack });
fields!(TopicConfig { retention, retention_bytes, max_batch_bytes, dedup_window, trace_sample_ratio });

/// No time stands for no limit.
impl Field for Retention {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::For(time) => Some(*time).put(out),
            Self::Unlimited => None::<Duration>.put(out),
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Bad> {
        let time: Option<Duration> = Field::take(reader)?;
        Ok(time.map_or(Self::Unlimited, Self::For))
    }
}

/// The second byte of these commands.
mod kind {
    pub const BOOTSTRAP: u8 = 32;
    pub const REGISTER_NODE: u8 = 33;
    pub const UPDATE_NODE: u8 = 34;
    pub const RETIRE_NODE: u8 = 35;
    pub const CREATE_TOPIC: u8 = 36;
    pub const UPDATE_TOPIC: u8 = 37;
    pub const ADD_PARTITIONS: u8 = 38;
    pub const DELETE_TOPIC: u8 = 39;
    pub const PLACE_REPLICAS: u8 = 40;
    pub const ALLOCATE_PRODUCER_IDS: u8 = 41;
    pub const SET_FEATURE: u8 = 42;
    pub const SET_SETTING: u8 = 43;
    pub const PLACE_COORDINATORS: u8 = 44;
}

/// Writes the kind and the fields in the order given.
macro_rules! put {
    ($out:ident, $kind:expr, $($field:expr),*) => {{
        $out.push($kind);
        $($field.put($out);)*
    }};
}

/// Reads the fields in the order given.
macro_rules! take {
    ($reader:ident, $name:ident { $($field:ident),* }) => {
        Command::$name { $($field: Field::take($reader)?),* }
    };
}

impl Command {
    /// Kind and fields, after the version.
    pub(crate) fn encode_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bootstrap { cluster, nodes } => put!(out, kind::BOOTSTRAP, cluster, nodes),
            Self::RegisterNode { node, store } => put!(out, kind::REGISTER_NODE, node, store),
            Self::UpdateNode { node } => put!(out, kind::UPDATE_NODE, node),
            Self::RetireNode { node } => put!(out, kind::RETIRE_NODE, node),
            Self::CreateTopic { name, config, labels, placement, now, request } => {
                put!(out, kind::CREATE_TOPIC, name, config, labels, placement, now, request);
            }
            Self::UpdateTopic { topic, config, labels } => {
                put!(out, kind::UPDATE_TOPIC, topic, config, labels);
            }
            Self::AddPartitions { topic, from, placement } => {
                put!(out, kind::ADD_PARTITIONS, topic, from, placement);
            }
            Self::DeleteTopic { topic } => put!(out, kind::DELETE_TOPIC, topic),
            Self::PlaceReplicas { shard, from, replicas } => {
                put!(out, kind::PLACE_REPLICAS, shard, from, replicas);
            }
            Self::AllocateProducerIds { count } => put!(out, kind::ALLOCATE_PRODUCER_IDS, count),
            Self::SetFeature { name, level } => put!(out, kind::SET_FEATURE, name, level),
            Self::SetSetting { name, value } => put!(out, kind::SET_SETTING, name, value),
            Self::PlaceCoordinators { placement, now } => put!(out, kind::PLACE_COORDINATORS, placement, now),
        }
    }

    /// The fields of a command of this kind; `None` if no such kind is known here.
    pub(crate) fn take(kind: u8, r: &mut Reader<'_>) -> Result<Option<Self>, Bad> {
        Ok(Some(match kind {
            kind::BOOTSTRAP => take!(r, Bootstrap { cluster, nodes }),
            kind::REGISTER_NODE => take!(r, RegisterNode { node, store }),
            kind::UPDATE_NODE => take!(r, UpdateNode { node }),
            kind::RETIRE_NODE => take!(r, RetireNode { node }),
            kind::CREATE_TOPIC => {
                take!(r, CreateTopic { name, config, labels, placement, now, request })
            }
            kind::PLACE_COORDINATORS => take!(r, PlaceCoordinators { placement, now }),
            kind::UPDATE_TOPIC => take!(r, UpdateTopic { topic, config, labels }),
            kind::ADD_PARTITIONS => take!(r, AddPartitions { topic, from, placement }),
            kind::DELETE_TOPIC => take!(r, DeleteTopic { topic }),
            kind::PLACE_REPLICAS => take!(r, PlaceReplicas { shard, from, replicas }),
            kind::ALLOCATE_PRODUCER_IDS => take!(r, AllocateProducerIds { count }),
            kind::SET_FEATURE => take!(r, SetFeature { name, level }),
            kind::SET_SETTING => take!(r, SetSetting { name, value }),
            _ => return Ok(None),
        }))
    }
}
