//! Which nodes carry a new partition: spread over racks first, then to where the least is.
//!
//! Pure and the same for the same input, so that its promises can be tested as properties: no node twice,
//! as many racks as there can be, loads that differ by little.

use flotilla_types::NodeId;
use std::collections::BTreeSet;

/// A node that can be given replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub node: NodeId,
    /// Its failure domain; empty = its own.
    pub rack: String,
    /// Replicas it carries already.
    pub replicas: u32,
    /// Partitions of which it is the preferred leader.
    pub leaders: u32,
}

/// The nodes of each of `partitions` new partitions, preferred leader first. `None` if there are fewer
/// candidates than replicas.
pub(crate) fn place(candidates: &[Candidate], partitions: u32, replication: u32) -> Option<Vec<Vec<NodeId>>> {
    if partitions == 0 {
        return Some(Vec::new());
    }
    if replication == 0 || candidates.len() < replication as usize {
        return None;
    }
    let mut load: Vec<Candidate> = candidates.to_vec();
    let mut placed = Vec::with_capacity(partitions as usize);
    for _ in 0..partitions {
        let mut chosen: Vec<usize> = Vec::with_capacity(replication as usize);
        let mut racks: BTreeSet<String> = BTreeSet::new();
        while chosen.len() < replication as usize {
            let next = (0..load.len())
                .filter(|at| !chosen.contains(at))
                .min_by_key(|at| {
                    let c = &load[*at];
                    let crowded = !c.rack.is_empty() && racks.contains(&c.rack);
                    (crowded, c.replicas, c.leaders, c.node)
                })
                .expect("there are at least as many candidates as replicas");
            racks.insert(load[next].rack.clone());
            chosen.push(next);
        }
        // Who leads least is preferred as leader; the others keep their order.
        let leader = (0..chosen.len()).min_by_key(|at| (load[chosen[*at]].leaders, *at)).unwrap_or(0);
        let first = chosen.remove(leader);
        chosen.insert(0, first);
        load[first].leaders += 1;
        chosen.iter().for_each(|at| load[*at].replicas += 1);
        placed.push(chosen.into_iter().map(|at| load[at].node).collect());
    }
    Some(placed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn nodes(racks: &[&str]) -> Vec<Candidate> {
        (1..)
            .zip(racks)
            .map(|(node, rack)| Candidate {
                node: NodeId(node),
                rack: (*rack).to_owned(),
                replicas: 0,
                leaders: 0,
            })
            .collect()
    }

    #[test]
    fn three_nodes_share_six_partitions_and_their_leaders() {
        let placed = place(&nodes(&["", "", ""]), 6, 3).unwrap();
        for node in 1..=3 {
            assert_eq!(placed.iter().filter(|replicas| replicas[0] == NodeId(node)).count(), 2);
        }
    }

    #[test]
    fn replicas_go_to_different_racks_while_there_are_any() {
        for replicas in place(&nodes(&["a", "a", "a", "b"]), 8, 2).unwrap() {
            assert!(replicas.contains(&NodeId(4)), "{replicas:?}");
        }
    }

    #[test]
    fn too_few_nodes_are_too_few() {
        assert_eq!(place(&nodes(&["", ""]), 1, 3), None);
        assert_eq!(place(&nodes(&[""]), 0, 3), Some(vec![]));
    }

    proptest! {
        #[test]
        fn placement_is_sound_spread_and_balanced(
            racks in prop::collection::vec(0usize..4, 1..12),
            partitions in 1u32..60,
            replication in 1u32..7,
        ) {
            let names = ["", "a", "b", "c"];
            let racks: Vec<&str> = racks.into_iter().map(|rack| names[rack]).collect();
            let candidates = nodes(&racks);
            let Some(placed) = place(&candidates, partitions, replication) else {
                prop_assert!(candidates.len() < replication as usize);
                return Ok(());
            };
            prop_assert_eq!(placed.len(), partitions as usize);
            let rack_of: BTreeMap<NodeId, &str> =
                candidates.iter().map(|c| (c.node, c.rack.as_str())).collect();
            // A node without a rack is a rack of its own.
            let domains = |nodes: &mut dyn Iterator<Item = NodeId>| {
                let mut named = BTreeSet::new();
                let mut own = 0;
                for node in nodes {
                    if rack_of[&node].is_empty() { own += 1 } else { named.insert(rack_of[&node]); }
                }
                named.len() + own
            };
            let there_are = domains(&mut candidates.iter().map(|c| c.node));
            for replicas in &placed {
                let distinct: BTreeSet<_> = replicas.iter().collect();
                prop_assert_eq!(distinct.len(), replication as usize);
                let used = domains(&mut replicas.iter().copied());
                prop_assert_eq!(used, there_are.min(replication as usize));
            }
            // Without racks to spread over, loads differ by at most one replica.
            if racks.iter().all(|rack| rack.is_empty()) {
                let load = |node: NodeId| placed.iter().filter(|r| r.contains(&node)).count();
                let leads = |node: NodeId| placed.iter().filter(|r| r[0] == node).count();
                let loads: Vec<_> = candidates.iter().map(|c| load(c.node)).collect();
                let leaders: Vec<_> = candidates.iter().map(|c| leads(c.node)).collect();
                let spread = |v: &[usize]| v.iter().max().unwrap() - v.iter().min().unwrap();
                prop_assert!(spread(&loads) <= 1, "{:?}", loads);
                prop_assert!(spread(&leaders) <= 2, "{:?}", leaders);
            }
            prop_assert_eq!(place(&candidates, partitions, replication), Some(placed));
        }
    }
}
