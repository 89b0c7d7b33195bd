//! `cluster.proto`: routes as a client learns them.

use crate::convert::errors::leader_from_wire;
use crate::convert::{Invalid, topic_id, topic_name};
use crate::v1;
use flotilla_types::{LeaderHint, TopicId, TopicName};

/// Where a topic's partitions are led, as a node told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The topic.
    pub topic: TopicName,
    /// Its present life; absent only when deleted.
    pub topic_id: Option<TopicId>,
    /// By partition; `None` = nobody leads now.
    pub leaders: Vec<Option<LeaderHint>>,
    /// The topic is gone.
    pub deleted: bool,
}

/// Reads a route.
pub fn route_from_wire(wire: &v1::metadata::TopicRoute) -> Result<Route, Invalid> {
    Ok(Route {
        topic: topic_name(&wire.topic)?,
        topic_id: topic_id(Some(&wire.topic_id))?,
        leaders: wire.leaders.iter().map(leader_from_wire).collect(),
        deleted: wire.deleted,
    })
}

/// Writes a route.
pub fn route_to_wire(route: &Route) -> v1::metadata::TopicRoute {
    v1::metadata::TopicRoute {
        topic: route.topic.as_str().to_owned(),
        topic_id: route.topic_id.map(TopicId::to_wire).unwrap_or_default(),
        leaders: route
            .leaders
            .iter()
            .map(|leader| leader.as_ref().map(super::errors::leader_to_wire).unwrap_or_default())
            .collect(),
        deleted: route.deleted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::{NodeId, Term};

    #[test]
    fn routes_survive_the_wire() {
        let leader = LeaderHint { node: NodeId(2), endpoint: "127.0.0.1:7402".to_owned(), term: Term(4) };
        let route = Route {
            topic: TopicName::new("orders").unwrap(),
            topic_id: Some(TopicId(77)),
            leaders: vec![None, Some(leader)],
            deleted: false,
        };
        assert_eq!(route_from_wire(&route_to_wire(&route)), Ok(route));
    }
}
