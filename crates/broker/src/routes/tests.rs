//! A new table shares what stayed the same, and a watcher hears exactly what differs.

use super::*;
use flotilla_machine::controller::{Command as Intent, NodeSpec};
use flotilla_machine::{Command, Kind, Shard};
use flotilla_raft::KnownLeaders;
use flotilla_types::topic::TopicConfig;
use flotilla_types::{ClusterId, LogId, LogIndex, NodeId, PartitionId, ShardId, Term, TopicId, TopicName};
use std::sync::Arc;

struct World {
    shard: Shard,
    next: u64,
    leaders: KnownLeaders,
}

impl World {
    fn new() -> Self {
        let mut world = Self { shard: Shard::new(Kind::Controller), next: 0, leaders: KnownLeaders::new() };
        let node = |id: u32| NodeSpec {
            id: NodeId(id),
            peer: format!("10.0.0.{id}:7501"),
            client: format!("10.0.0.{id}:7401"),
            rack: None,
        };
        let cluster = ClusterId(uuid::Uuid::from_u128(1));
        world.apply(Intent::Bootstrap { cluster, nodes: vec![node(1), node(2)] });
        world
    }

    fn apply(&mut self, intent: Intent) -> u64 {
        let at = LogId { term: Term(1), index: LogIndex(self.next) };
        self.shard.apply(at, &Command::Controller(intent)).unwrap();
        self.next += 1;
        self.next - 1
    }

    fn create(&mut self, name: &str) -> TopicId {
        TopicId(self.apply(Intent::CreateTopic {
            name: TopicName::new(name).unwrap(),
            config: TopicConfig::default(),
            labels: Default::default(),
            placement: vec![vec![NodeId(1), NodeId(2)]],
            now: 0,
            request: 0,
        }))
    }

    fn routes(&self, before: &Routes) -> Routes {
        let source = Source { leaders: &self.leaders, online: &|_| true };
        Routes::build(before, self.shard.controller().unwrap(), &source)
    }
}

fn name(text: &str) -> TopicName {
    TopicName::new(text).unwrap()
}

#[test]
fn a_new_leader_changes_its_topic_only() {
    let mut world = World::new();
    world.create("a");
    world.create("b");
    let before = world.routes(&Routes::default());
    world.leaders.insert(before.topics["b"].partitions[0].shard, (NodeId(2), Term(3)));
    let after = world.routes(&before);
    assert!(Arc::ptr_eq(&before.topics["a"], &after.topics["a"]));
    assert!(Arc::ptr_eq(&before.nodes, &after.nodes));
    let changes = after.changes_since(&before);
    assert_eq!(changes.topics.iter().map(|topic| topic.name.as_str()).collect::<Vec<_>>(), ["b"]);
    assert!(changes.deleted.is_empty() && !changes.nodes);
    let hint = after.hint(after.topics["b"].partitions[0].leader).unwrap();
    assert_eq!((hint.node, hint.endpoint.as_str(), hint.term), (NodeId(2), "10.0.0.2:7401", Term(3)));
    assert!(after.changes_since(&after).is_empty());
}

#[test]
fn a_topic_made_again_is_another_topic() {
    let mut world = World::new();
    let first = world.create("a");
    let before = world.routes(&Routes::default());
    world.apply(Intent::DeleteTopic { topic: first });
    let second = world.create("a");
    let after = world.routes(&before);
    let changes = after.changes_since(&before);
    assert_eq!((changes.deleted[0].id, changes.topics[0].id), (first, second));
    assert_ne!(before.topics["a"].partitions[0].shard, after.topics["a"].partitions[0].shard);
    let partition = PartitionId(0);
    assert!(after.find(&name("a"), partition, Some(second)).is_ok());
    assert!(matches!(after.find(&name("a"), partition, Some(first)), Err(RouteError::OtherTopic { .. })));
}

#[test]
fn what_does_not_exist_is_named() {
    let mut world = World::new();
    world.create("a");
    let routes = world.routes(&Routes::default());
    let unknown = routes.find(&name("x"), PartitionId(0), None);
    assert!(matches!(unknown, Err(RouteError::UnknownTopic(_))));
    let beyond = routes.find(&name("a"), PartitionId(1), None);
    assert!(matches!(beyond, Err(RouteError::UnknownPartition { .. })));
    assert_eq!(routes.of_shard(ShardId(9)), None);
    assert_eq!(routes.cluster.map(|cluster| cluster.0.as_u128()), Some(1));
}
