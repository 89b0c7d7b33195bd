//! Where partitions' replicas are to be. The planner chooses; here it is only held to the rules.
//!
//! Each replica's place carries the index of the command that made it. A replica that was taken away and
//! later put back on the same node is another life: whatever is left of the first one is not it.

use super::nodes::Nodes;
use super::outcome::Refusal;
use crate::encoding::fields;
use flotilla_types::limits::REPLICATION_MAX;
use flotilla_types::{LogIndex, NodeId, ShardId};

/// A partition and where its replicas are to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedPartition {
    /// The partition's shard.
    pub shard: ShardId,
    /// Its replicas; the first is the preferred leader.
    pub replicas: Vec<Replica>,
}

impl PlacedPartition {
    /// The nodes, the preferred leader first.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.replicas.iter().map(|replica| replica.node)
    }
}

/// A replica's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica {
    /// On which node.
    pub node: NodeId,
    /// The controller's log index of the command that made this place.
    pub made_at: LogIndex,
}

fields!(Replica { node, made_at });

/// Refuses a list of nodes that cannot carry a partition.
pub(super) fn check(nodes: &Nodes, replicas: &[NodeId]) -> Result<(), Refusal> {
    let distinct: std::collections::BTreeSet<_> = replicas.iter().collect();
    if replicas.is_empty() || replicas.len() > REPLICATION_MAX as usize || distinct.len() != replicas.len() {
        return Err(Refusal::Invalid {
            field: "replicas",
            value: list(replicas.iter().copied()),
            expected: "expected 1 to 7 different nodes",
        });
    }
    replicas.iter().try_for_each(|node| nodes.check_usable(*node).map(|_| ()))
}

/// Nodes as an error names them; a long list is cut.
pub(super) fn list(nodes: impl Iterator<Item = NodeId>) -> String {
    let shown: Vec<String> = nodes.take(REPLICATION_MAX as usize + 1).map(|node| node.to_string()).collect();
    format!("[{}]", shown.join(", "))
}

/// The places from now on: those that stay keep their life, the others begin one at `at`.
pub(super) fn places(before: &[Replica], nodes: &[NodeId], at: LogIndex) -> Vec<Replica> {
    let place = |node: &NodeId| {
        let stays = before.iter().find(|replica| replica.node == *node);
        stays.copied().unwrap_or(Replica { node: *node, made_at: at })
    };
    nodes.iter().map(place).collect()
}
