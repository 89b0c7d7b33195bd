//! Makes the table anew whenever intent or a leader changes, sharing what stayed the same.

use super::{Node, PartitionRoute, Routes, TopicRoute};
use flotilla_machine::controller::{Controller, Topic};
use flotilla_raft::KnownLeaders;
use flotilla_types::{NodeId, ShardId, TopicName};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a table is made of besides intent.
pub(crate) struct Source<'a> {
    /// Who leads, as nodes tell.
    pub leaders: &'a KnownLeaders,
    /// Whether a node is reachable.
    pub online: &'a dyn Fn(NodeId) -> bool,
}

impl Routes {
    /// The next table.
    pub(crate) fn build(before: &Self, controller: &Controller, source: &Source<'_>) -> Self {
        let nodes: BTreeMap<_, _> = controller
            .nodes()
            .iter()
            .filter(|(_, node)| !node.retired)
            .map(|(id, node)| {
                let node = Node {
                    client: node.client.clone(),
                    peer: node.peer.clone(),
                    rack: node.rack.clone().unwrap_or_default(),
                    online: (source.online)(*id),
                };
                (*id, node)
            })
            .collect();
        let nodes = if nodes == *before.nodes { before.nodes.clone() } else { Arc::new(nodes) };
        let topics = controller.topics().iter().map(|(name, topic)| {
            let new = route(name, topic, source.leaders);
            let old = before.topics.get(name).filter(|old| ***old == new);
            (name.clone(), old.cloned().unwrap_or_else(|| Arc::new(new)))
        });
        Self {
            cluster: controller.cluster_id(),
            controller: source.leaders.get(&ShardId::CONTROLLER).copied(),
            nodes,
            topics: topics.collect(),
            coordinators: controller
                .coordinators()
                .iter()
                .map(|placed| PartitionRoute {
                    shard: placed.shard,
                    leader: source.leaders.get(&placed.shard).copied(),
                    replicas: placed.replicas.iter().map(|replica| replica.node).collect(),
                })
                .collect(),
            version: controller.version(),
            next_shard: controller.next_shard_id(),
        }
    }
}

fn route(name: &TopicName, topic: &Topic, leaders: &KnownLeaders) -> TopicRoute {
    let partitions = topic.partitions.iter().map(|placed| PartitionRoute {
        shard: placed.shard,
        leader: leaders.get(&placed.shard).copied(),
        replicas: placed.nodes().collect(),
    });
    TopicRoute {
        name: name.clone(),
        id: topic.id,
        config: topic.config.clone(),
        resolved: topic.config.resolved(),
        labels: topic.labels.clone(),
        created_at: topic.created_at,
        partitions: partitions.collect(),
    }
}
