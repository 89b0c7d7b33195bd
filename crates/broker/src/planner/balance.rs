//! Which leaders move: toward the replica that placement prefers, or away from a node without room.
//!
//! Only to replicas that have caught up, on nodes that have been there for a while, and few at a time: a
//! transfer costs the partition a moment, and a node that comes and goes must not take leaders with it.

use flotilla_types::NodeId;
use std::collections::BTreeMap;

/// A replica that is fewer entries behind may be made leader.
pub(crate) const CAUGHT_UP: u64 = 64;

/// What matters of a node that is reachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeView {
    /// It has been reachable for long enough.
    pub settled: bool,
    /// Its disk has room and it serves data.
    pub room: bool,
}

/// A partition as its leader reports it.
#[derive(Clone, Debug)]
pub(crate) struct Led {
    pub shard: u32,
    pub leader: NodeId,
    /// Where it should be, the preferred leader first.
    pub wanted: Vec<NodeId>,
    /// Replicas that may lead.
    pub caught_up: Vec<NodeId>,
}

/// Shard, from, to; at most `most` of them.
pub(crate) fn moves(
    led: &[Led],
    nodes: &BTreeMap<NodeId, NodeView>,
    most: usize,
) -> Vec<(u32, NodeId, NodeId)> {
    let fit = |node: &NodeId| nodes.get(node).is_some_and(|view| view.settled && view.room);
    let better = |partition: &Led| {
        let leader_has_room = nodes.get(&partition.leader).is_some_and(|view| view.room);
        let can =
            |node: &&NodeId| **node != partition.leader && fit(node) && partition.caught_up.contains(node);
        let place = |node: &NodeId| partition.wanted.iter().position(|wanted| wanted == node);
        let own = place(&partition.leader).unwrap_or(usize::MAX);
        let best = partition.wanted.iter().find(can)?;
        let wins = !leader_has_room || (place(best) == Some(0) && own > 0) || own == usize::MAX;
        wins.then_some((partition.shard, partition.leader, *best))
    };
    led.iter().filter_map(better).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: NodeView = NodeView { settled: true, room: true };

    fn led(shard: u32, leader: u32, caught_up: &[u32]) -> Led {
        Led {
            shard,
            leader: NodeId(leader),
            wanted: vec![NodeId(1), NodeId(2), NodeId(3)],
            caught_up: caught_up.iter().copied().map(NodeId).collect(),
        }
    }

    fn nodes(views: [NodeView; 3]) -> BTreeMap<NodeId, NodeView> {
        (1..).map(NodeId).zip(views).collect()
    }

    #[test]
    fn leaders_go_where_placement_prefers_them() {
        let all = nodes([GOOD; 3]);
        assert_eq!(moves(&[led(7, 2, &[1, 2, 3])], &all, 9), [(7, NodeId(2), NodeId(1))]);
        assert_eq!(moves(&[led(7, 1, &[1, 2, 3])], &all, 9), []);
    }

    #[test]
    fn not_to_a_replica_that_lags_nor_to_a_node_that_just_came() {
        let all = nodes([GOOD; 3]);
        assert_eq!(moves(&[led(7, 2, &[2, 3])], &all, 9), []);
        let new = nodes([NodeView { settled: false, room: true }, GOOD, GOOD]);
        assert_eq!(moves(&[led(7, 2, &[1, 2, 3])], &new, 9), []);
    }

    #[test]
    fn leaders_leave_a_full_disk() {
        let full = nodes([NodeView { settled: true, room: false }, GOOD, GOOD]);
        assert_eq!(moves(&[led(7, 1, &[1, 2, 3])], &full, 9), [(7, NodeId(1), NodeId(2))]);
        assert_eq!(moves(&[led(7, 2, &[1, 2, 3])], &full, 9), [], "and do not come back to it");
    }

    #[test]
    fn few_at_a_time() {
        let all = nodes([GOOD; 3]);
        let many: Vec<Led> = (0..20).map(|shard| led(shard, 3, &[1, 2, 3])).collect();
        assert_eq!(moves(&many, &all, 8).len(), 8);
    }
}
