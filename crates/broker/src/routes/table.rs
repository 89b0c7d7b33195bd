//! The table itself: which topics there are, which shard carries each partition, who leads it.
//!
//! A table never changes. A new one shares whatever did not change with the one before, so that comparing
//! two of them costs a pointer per topic.

use crate::routes::RouteError;
use flotilla_types::topic::{Resolved, TopicConfig};
use flotilla_types::{
    ClusterId, GroupId, LeaderHint, LogIndex, NodeId, PartitionId, ShardId, Term, TimestampMs, TopicId,
    TopicName,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// All that a node knows about who serves what.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Routes {
    /// The cluster; `None` until the controller has been set up.
    pub cluster: Option<ClusterId>,
    /// Who leads the controller.
    pub controller: Option<(NodeId, Term)>,
    /// Every node of the cluster.
    pub nodes: Arc<BTreeMap<NodeId, Node>>,
    /// Every topic.
    pub topics: BTreeMap<TopicName, Arc<TopicRoute>>,
    /// Who coordinates groups, by number; empty until they are placed.
    pub coordinators: Vec<PartitionRoute>,
    /// The controller's log index of the last change that is in here. Never goes back on a node.
    pub version: LogIndex,
    /// Shards below this have been given out by the controller.
    pub next_shard: ShardId,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where clients reach it, `host:port`.
    pub client: String,
    /// Where nodes reach it, `host:port`.
    pub peer: String,
    /// Its failure domain; empty = none named.
    pub rack: String,
    /// Whether this node reaches it now.
    pub online: bool,
}

/// A topic.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicRoute {
    /// Its name.
    pub name: TopicName,
    /// This life of it.
    pub id: TopicId,
    /// As set.
    pub config: TopicConfig,
    /// With defaults filled in.
    pub resolved: Resolved,
    /// Free to use.
    pub labels: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: TimestampMs,
    /// By number.
    pub partitions: Vec<PartitionRoute>,
}

/// A partition, or a coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRoute {
    /// What carries it.
    pub shard: ShardId,
    /// Who leads it.
    pub leader: Option<(NodeId, Term)>,
    /// Where it should be; the first is preferred as leader.
    pub replicas: Vec<NodeId>,
}

/// What differs between two tables.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// New or changed, in their new form.
    pub topics: Vec<Arc<TopicRoute>>,
    /// Gone, in their last form. A topic made again is in both lists' order: gone, then new.
    pub deleted: Vec<Arc<TopicRoute>>,
    /// Nodes, the cluster or the controller's leader changed.
    pub nodes: bool,
}

impl Changes {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.deleted.is_empty() && !self.nodes
    }
}

impl Routes {
    /// Finds a partition.
    pub fn find(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        id: Option<TopicId>,
    ) -> Result<(&Arc<TopicRoute>, &PartitionRoute), RouteError> {
        let route = self.topics.get(topic).ok_or_else(|| RouteError::UnknownTopic(topic.clone()))?;
        if let Some(asked) = id
            && asked != route.id
        {
            return Err(RouteError::OtherTopic { topic: topic.clone(), found: route.id, asked });
        }
        let found = route.partitions.get(partition.get() as usize);
        let found = found.ok_or_else(|| RouteError::UnknownPartition { topic: topic.clone(), partition })?;
        Ok((route, found))
    }

    /// Where a leader's clients go.
    pub fn hint(&self, leader: Option<(NodeId, Term)>) -> Option<LeaderHint> {
        let (node, term) = leader?;
        let endpoint = self.nodes.get(&node)?.client.clone();
        Some(LeaderHint { node, endpoint, term })
    }

    /// What a watcher of `before` has to hear.
    pub fn changes_since(&self, before: &Self) -> Changes {
        let same = |name: &TopicName, route: &Arc<TopicRoute>| {
            before.topics.get(name).is_some_and(|old| Arc::ptr_eq(old, route) || old == route)
        };
        let topics = self.topics.iter().filter(|(name, route)| !same(name, route));
        let gone = before.topics.iter().filter(|(name, old)| {
            self.topics.get(*name).is_none_or(|new| !Arc::ptr_eq(new, old) && new.id != old.id)
        });
        Changes {
            topics: topics.map(|(_, route)| route.clone()).collect(),
            deleted: gone.map(|(_, route)| route.clone()).collect(),
            nodes: self.nodes != before.nodes
                || self.controller != before.controller
                || self.cluster != before.cluster,
        }
    }

    /// Every partition, in order of topic and number.
    pub fn partitions(&self) -> impl Iterator<Item = (&Arc<TopicRoute>, PartitionId, &PartitionRoute)> {
        self.topics.values().flat_map(|topic| {
            topic
                .partitions
                .iter()
                .enumerate()
                .map(move |(number, partition)| (topic, PartitionId(number as u32), partition))
        })
    }

    /// Everything that is placed besides the controller: coordinators, then partitions.
    pub fn placed(&self) -> impl Iterator<Item = &PartitionRoute> {
        self.coordinators.iter().chain(self.topics.values().flat_map(|topic| &topic.partitions))
    }

    /// The coordinator that a group's name falls to.
    pub fn coordinator_of(&self, group: &GroupId) -> Option<&PartitionRoute> {
        let shard = group.coordinator(self.coordinators.len() as u32)?;
        self.coordinators.iter().find(|placed| placed.shard == shard)
    }

    /// The partition that a shard carries.
    pub fn of_shard(&self, shard: ShardId) -> Option<(&Arc<TopicRoute>, PartitionId, &PartitionRoute)> {
        self.partitions().find(|(_, _, partition)| partition.shard == shard)
    }
}
