//! Applying a group's command reads the coordinator's own shard only.
//!
//! Two nodes hear of topics with different delays, and apply the coordinator's log with different delays. Now one
//! leads, now the other, and proposes what it sees. Both come to the same state, and once both have heard of
//! everything, that state knows the topics as they are.

use super::world::{World, wish};
use super::{group, member, topic};
use crate::harness::Checked;
use flotilla_machine::groups::{Command, Groups, Join, Known, Sight, TopicLife};
use flotilla_machine::{Kind, Shard};
use flotilla_types::{GroupEpoch, LogId, LogIndex, Term, TopicId, TopicName};
use proptest::prelude::*;
use std::collections::BTreeSet;

#[derive(Clone, Debug)]
enum Op {
    Topic {
        number: usize,
        partitions: u32,
    },
    /// A node hears of so much more of the controller's log.
    Hear {
        node: usize,
        more: usize,
    },
    /// A node applies so much more of the coordinator's log.
    Apply {
        node: usize,
        more: usize,
    },
    Lead {
        node: usize,
    },
    Join {
        slot: usize,
        wish: usize,
    },
    Wish {
        slot: usize,
        wish: usize,
    },
    Leave {
        slot: usize,
    },
    Tell,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..3usize, 0..6u32).prop_map(|(number, partitions)| Op::Topic { number, partitions }),
        3 => (0..2usize, 1..4usize).prop_map(|(node, more)| Op::Hear { node, more }),
        3 => (0..2usize, 1..4usize).prop_map(|(node, more)| Op::Apply { node, more }),
        2 => (0..2usize).prop_map(|node| Op::Lead { node }),
        3 => (0..4usize, 0..6usize).prop_map(|(slot, wish)| Op::Join { slot, wish }),
        1 => (0..4usize, 0..6usize).prop_map(|(slot, wish)| Op::Wish { slot, wish }),
        1 => (0..4usize).prop_map(|slot| Op::Leave { slot }),
        3 => Just(Op::Tell),
    ]
}

struct Node {
    coordinator: Shard,
    /// Entries applied.
    applied: usize,
    /// The moment it sees of topics.
    sees: usize,
}

struct Cluster {
    world: World,
    log: Vec<Command>,
    nodes: [Node; 2],
    leader: usize,
}

impl Cluster {
    fn new() -> Self {
        let node = || Node { coordinator: Shard::new(Kind::Coordinator), applied: 0, sees: 0 };
        Self { world: World::new(), log: Vec::new(), nodes: [node(), node()], leader: 0 }
    }

    fn apply(&mut self, node: usize, more: usize) {
        let node = &mut self.nodes[node];
        for command in self.log.iter().skip(node.applied).take(more) {
            node.applied += 1;
            let at = LogId { term: Term(1), index: LogIndex(node.applied as u64) };
            node.coordinator.apply(at, &flotilla_machine::Command::Group(command.clone())).unwrap();
        }
    }

    /// The leader has applied all that it proposed before.
    fn propose(&mut self, command: impl FnOnce(&World, usize, &Groups) -> Option<Command>) {
        self.apply(self.leader, usize::MAX);
        let leader = &self.nodes[self.leader];
        let groups = leader.coordinator.coordinator().unwrap().groups();
        self.log.extend(command(&self.world, leader.sees, groups));
        self.apply(self.leader, usize::MAX);
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Topic { number, partitions } => self.world.change(number, partitions),
            Op::Hear { node, more } => {
                let node = &mut self.nodes[node];
                node.sees = (node.sees + more).min(self.world.latest());
            }
            Op::Apply { node, more } => self.apply(node, more),
            Op::Lead { node } => self.leader = node,
            Op::Join { slot, wish: number } => self.propose(|world, sees, _| {
                let subscription = wish(number);
                Some(Command::Join(Box::new(Join {
                    group: group(),
                    member: member(slot),
                    instance: None,
                    holder_gone: false,
                    sight: world.sight_of(sees, &subscription),
                    subscription,
                    peer: String::new(),
                    members_max: 10,
                    now: 0,
                })))
            }),
            Op::Wish { slot, wish: number } => self.propose(|world, sees, groups| {
                let group_now = groups.get(&group())?;
                let epoch = group_now.member_epoch(group_now.members().get(&member(slot))?);
                let subscription = wish(number);
                let sight = world.sight_of(sees, &subscription);
                let (group, member) = (group(), member(slot));
                Some(Command::Resubscribe { group, member, epoch, subscription, sight, now: 0 })
            }),
            Op::Leave { slot } => self.propose(|_, _, _| {
                let (group, member, epoch) = (group(), member(slot), GroupEpoch(0));
                Some(Command::Leave { group, member, epoch, temporary: false, now: 0 })
            }),
            Op::Tell => self.propose(|world, sees, groups| {
                Some(Command::TopicsChanged { sight: world.news(sees, groups), now: 0 })
            }),
        }
    }

    fn settle(&mut self) {
        for node in 0..2 {
            self.step(Op::Hear { node, more: usize::MAX / 2 });
        }
        self.step(Op::Tell);
        self.apply(0, usize::MAX);
        self.apply(1, usize::MAX);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replicas_that_hear_of_topics_at_different_times_are_equal(ops in prop::collection::vec(op(), 1..80)) {
        let mut cluster = Cluster::new();
        let mut seen: Vec<(TopicName, Known)> = Vec::new();
        for op in ops {
            cluster.step(op);
            // What is known is never replaced by what is older, whoever leads.
            let leader = &cluster.nodes[cluster.leader];
            if leader.applied == cluster.log.len() {
                let known = leader.coordinator.coordinator().unwrap().groups().topics();
                for (name, before) in seen {
                    assert!(known.get(&name).is_none_or(|now| now.as_of >= before.as_of), "{name}");
                }
                seen = known.iter().map(|(name, known)| (name.clone(), known.clone())).collect();
            }
        }
        cluster.settle();
        let [one, other] = &cluster.nodes;
        assert_eq!(one.coordinator.rows(), other.coordinator.rows());
        assert_eq!(one.coordinator.chain(), other.coordinator.chain());
        let groups = one.coordinator.coordinator().unwrap().groups();
        let now = cluster.world.at(cluster.world.latest());
        for (name, known) in groups.topics() {
            assert_eq!(known.life.as_ref(), now.get(name), "{name}");
        }
        let wanted: BTreeSet<_> = groups.wanted_topics().collect();
        assert!(wanted.iter().all(|name| groups.topics().contains_key(*name)));
        super::plans::check_whole(groups, now);
    }
}

/// A topic lived between two sights that both say it is not there. Whoever was told of the later one and is told of
/// the time between afterwards does not believe that it lives; nor does a pattern match it again.
#[test]
fn nothing_from_in_between_undoes_what_is_newer() {
    let mut coordinator = Checked::new(Kind::Coordinator);
    let mut apply = |command| {
        coordinator.apply(&flotilla_machine::Command::Group(command)).unwrap();
        let groups = coordinator.shard.coordinator().unwrap().groups();
        let lives = |number| groups.topics().get(&topic(number)).is_some_and(|known| known.life.is_some());
        (lives(0), lives(2), groups.patterns()["even"].topics.len())
    };
    let life = |id, partitions| Some(TopicLife { id: TopicId(id), partitions, racks: Vec::new() });
    let sight = |as_of, zero: Option<TopicLife>| Sight {
        as_of: LogIndex(as_of),
        patterns: [("even".to_owned(), zero.iter().map(|_| topic(2)).collect())].into(),
        topics: [(topic(0), zero.clone()), (topic(2), zero.map(|zero| TopicLife { id: TopicId(6), ..zero }))]
            .into(),
        gone: BTreeSet::new(),
    };
    let subscription = flotilla_machine::groups::Subscription { topics: [topic(0)].into(), ..wish(5) };
    let join = Join {
        group: group(),
        member: member(0),
        instance: None,
        holder_gone: false,
        subscription,
        peer: String::new(),
        members_max: 10,
        sight: sight(4, None),
        now: 0,
    };
    assert_eq!(apply(Command::Join(Box::new(join))), (false, false, 0));
    let mut tell = |sight| apply(Command::TopicsChanged { sight, now: 0 });
    assert_eq!(tell(sight(10, None)), (false, false, 0));
    assert_eq!(tell(sight(7, life(5, 1))), (false, false, 0), "it lived from 5 to 9");
    assert_eq!(tell(sight(12, life(11, 2))), (true, true, 1), "it lives again");
    assert_eq!(tell(sight(12, life(11, 1))), (true, true, 1), "partitions are never taken away");
    let groups = coordinator.shard.coordinator().unwrap().groups();
    assert_eq!(groups.topics()[&topic(0)].life, life(11, 2));
}
