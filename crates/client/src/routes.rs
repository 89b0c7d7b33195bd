//! Who leads what, as far as this client has heard. News are merged, never simply believed: a leader is
//! replaced only by one of a newer leadership.

use flotilla_proto::convert::errors::leader_from_wire;
use flotilla_proto::v1;
use flotilla_types::{LeaderHint, NodeId, PartitionId, Term, TopicName};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A partition's leadership.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leadership {
    /// `None` while an election is under way.
    pub(crate) leader: Option<LeaderHint>,
    /// The newest leadership heard of.
    pub(crate) term: Term,
}

/// A topic's life and leaders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicRoute {
    /// As on the wire.
    pub(crate) topic_id: String,
    /// By partition.
    pub(crate) partitions: Vec<Leadership>,
}

/// One view of the cluster. Swapped whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Routes {
    pub(crate) cluster_id: String,
    /// Client endpoints of the nodes.
    pub(crate) nodes: BTreeMap<NodeId, String>,
    pub(crate) topics: HashMap<TopicName, Arc<TopicRoute>>,
    epoch: i64,
}

impl Routes {
    /// A topic, if it exists.
    pub(crate) fn topic(&self, topic: &str) -> Option<&Arc<TopicRoute>> {
        self.topics.get(topic)
    }

    /// A partition's leadership, if the partition exists.
    pub(crate) fn leadership(&self, topic: &str, partition: PartitionId) -> Option<&Leadership> {
        self.topic(topic)?.partitions.get(partition.get() as usize)
    }

    /// Takes news from a node. `whole` = the message names every topic; in a watch only the first does.
    /// Returns whether anything changed.
    pub(crate) fn merge(&mut self, news: v1::Metadata, whole: bool) -> bool {
        let before = self.clone();
        let current = news.metadata_epoch >= self.epoch;
        if current {
            self.epoch = news.metadata_epoch;
            self.cluster_id = news.cluster_id;
            if whole || !news.nodes.is_empty() {
                self.nodes = news
                    .nodes
                    .into_iter()
                    .filter_map(|n| Some((NodeId(u32::try_from(n.node_id).ok()?), n.endpoint)))
                    .collect();
            }
        }
        let mut named = Vec::new();
        for topic in news.topics {
            let Ok(name) = TopicName::new(&topic.topic) else { continue };
            if topic.deleted {
                if current {
                    self.topics.remove(&name);
                }
                continue;
            }
            named.push(name.clone());
            self.merge_topic(name, topic, current);
        }
        if whole && current {
            self.topics.retain(|name, _| named.contains(name));
        }
        *self != before
    }

    fn merge_topic(&mut self, name: TopicName, news: v1::metadata::TopicRoute, current: bool) {
        let known = self.topics.get(&name).filter(|known| known.topic_id == news.topic_id);
        if known.is_none() && !current && self.topics.contains_key(&name) {
            return; // an earlier life of the topic, from a node that lags
        }
        let mut partitions = known.map(|known| known.partitions.clone()).unwrap_or_default();
        let count = partitions.len().max(news.leaders.len());
        partitions.resize_with(count, Leadership::default);
        for (partition, leader) in partitions.iter_mut().zip(&news.leaders) {
            let term = Term(u64::try_from(leader.leader_epoch).unwrap_or(0));
            partition.hear(leader_from_wire(leader), term);
        }
        let route = TopicRoute { topic_id: news.topic_id, partitions };
        self.topics.insert(name, Arc::new(route));
    }

    /// Takes a hint out of an error. Returns whether it was news.
    pub(crate) fn hint(&mut self, topic: &str, partition: PartitionId, hint: &LeaderHint) -> bool {
        let Some(route) = self.topics.get_mut(topic) else { return false };
        if route.partitions.get(partition.get() as usize).is_none_or(|known| hint.term <= known.term) {
            return false;
        }
        let route = Arc::make_mut(route);
        route.partitions[partition.get() as usize].hear(Some(hint.clone()), hint.term);
        true
    }
}

impl Leadership {
    /// A newer leadership wins; of the same one, a known leader wins over none.
    fn hear(&mut self, leader: Option<LeaderHint>, term: Term) {
        if term > self.term || (term == self.term && leader.is_some()) {
            *self = Self { leader, term };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader(node: i32, epoch: i64) -> v1::Leader {
        v1::Leader { node_id: node, endpoint: format!("n{node}:1"), leader_epoch: epoch }
    }

    fn news(epoch: i64, topics: &[(&str, &str, &[v1::Leader])]) -> v1::Metadata {
        v1::Metadata {
            metadata_epoch: epoch,
            topics: topics
                .iter()
                .map(|(topic, id, leaders)| v1::metadata::TopicRoute {
                    topic: (*topic).to_owned(),
                    topic_id: (*id).to_owned(),
                    leaders: leaders.to_vec(),
                    deleted: false,
                })
                .collect(),
            ..v1::Metadata::default()
        }
    }

    fn node(routes: &Routes) -> Option<u32> {
        routes.leadership("t", PartitionId(0))?.leader.as_ref().map(|l| l.node.get())
    }

    #[test]
    fn only_a_newer_leadership_replaces_a_leader() {
        let mut routes = Routes::default();
        assert!(routes.merge(news(5, &[("t", "a", &[leader(1, 7)])]), true));
        assert!(!routes.merge(news(5, &[("t", "a", &[leader(2, 6)])]), false), "an older one is no news");
        assert!(!routes.merge(news(5, &[("t", "a", &[leader(0, 7)])]), false));
        assert_eq!(node(&routes), Some(1));
        assert!(routes.merge(news(5, &[("t", "a", &[leader(0, 8)])]), false));
        assert_eq!(node(&routes), None, "an election is under way");
        let hint =
            |node, term| LeaderHint { node: NodeId(node), endpoint: "x:1".to_owned(), term: Term(term) };
        assert!(!routes.hint("t", PartitionId(0), &hint(3, 8)), "not newer");
        assert!(routes.hint("t", PartitionId(0), &hint(3, 9)));
        assert!(!routes.hint("t", PartitionId(9), &hint(3, 9)));
        assert_eq!(node(&routes), Some(3));
    }

    #[test]
    fn a_topic_made_again_starts_anew_and_an_old_one_does_not_come_back() {
        let mut routes = Routes::default();
        routes.merge(news(5, &[("t", "a", &[leader(1, 70), leader(2, 70)])]), true);
        routes.merge(news(6, &[("t", "b", &[leader(2, 1)])]), false);
        assert_eq!(routes.topic("t").unwrap().partitions.len(), 1);
        assert!(!routes.merge(news(5, &[("t", "a", &[leader(1, 71)])]), false), "a node that lags");
        assert_eq!(node(&routes), Some(2));
        assert!(routes.merge(news(7, &[]), true));
        assert!(routes.topic("t").is_none());
    }
}
