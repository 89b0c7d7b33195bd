//! The controller under commands as planners and retries send them: what holds after any of them.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod harness;

use flotilla_machine::controller::{Command as C, NodeSpec, Outcome as O, ShardFate};
use flotilla_machine::{Command, Kind, Outcome};
use flotilla_types::topic::TopicConfig;
use flotilla_types::{ClusterId, NodeId, ShardId, StoreId, TopicId, TopicName};
use harness::Checked;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn spec(id: u32, rack: u8) -> NodeSpec {
    NodeSpec {
        id: NodeId(id),
        peer: format!("n{id}:7501"),
        client: format!("n{id}:7401"),
        rack: (rack > 0).then(|| format!("rack{rack}")),
    }
}

fn nodes() -> impl Strategy<Value = Vec<NodeId>> {
    proptest::collection::vec((1..6u32).prop_map(NodeId), 0..4)
}

fn placement() -> impl Strategy<Value = Vec<Vec<NodeId>>> {
    proptest::collection::vec(nodes(), 0..4)
}

fn config() -> impl Strategy<Value = TopicConfig> {
    proptest::option::of(0..4096u32)
        .prop_map(|max_batch_bytes| TopicConfig { max_batch_bytes, ..TopicConfig::default() })
}

fn command() -> impl Strategy<Value = C> {
    let name = || (0..4u8).prop_map(|n| TopicName::new(&format!("topic{n}")).unwrap());
    let labels = || {
        let pair = ("[a-z/]{0,3}", "[a-z]{0,3}");
        proptest::collection::btree_map(pair.0, pair.1, 0..2)
    };
    let topic = || (1..40u64).prop_map(TopicId);
    let shard = || (1020..1040u32).prop_map(ShardId);
    prop_oneof![
        1 => (1..3u128, proptest::collection::vec(1..5u32, 0..4)).prop_map(|(cluster, ids)| C::Bootstrap {
            cluster: ClusterId::from_number(cluster),
            nodes: ids.into_iter().map(|id| spec(id, 0)).collect(),
        }),
        3 => (0..7u32, 0..3u8, 1..6u128).prop_map(|(id, rack, store)| C::RegisterNode {
            node: spec(id, rack),
            store: StoreId::from_number(store),
        }),
        1 => (1..6u32, 0..3u8).prop_map(|(id, rack)| C::UpdateNode { node: spec(id, rack) }),
        1 => (1..8u32).prop_map(|id| C::RetireNode { node: NodeId(id) }),
        6 => (name(), config(), labels(), placement(), 0..3u128).prop_map(
            |(name, config, labels, placement, request)| C::CreateTopic {
                name, config, labels, placement, now: 7, request,
            }
        ),
        2 => (topic(), config(), labels())
            .prop_map(|(topic, config, labels)| C::UpdateTopic { topic, config, labels }),
        2 => (topic(), 0..6u32, placement())
            .prop_map(|(topic, from, placement)| C::AddPartitions { topic, from, placement }),
        2 => topic().prop_map(|topic| C::DeleteTopic { topic }),
        4 => (shard(), proptest::option::of(nodes()), nodes())
            .prop_map(|(shard, from, replicas)| C::PlaceReplicas { shard, from, replicas }),
        1 => (0..200_000u32).prop_map(|count| C::AllocateProducerIds { count }),
        1 => ("[a-z/]{0,2}", 0..4u32).prop_map(|(name, level)| C::SetFeature { name, level }),
        1 => ("[a-z/]{0,2}", proptest::option::of("[a-z]{0,3}"))
            .prop_map(|(name, value)| C::SetSetting { name, value }),
    ]
}

/// Applies and gives back the answer.
fn apply(checked: &mut Checked, command: &C) -> O {
    let before = checked.shard.clone();
    let at = checked.next;
    let applied = checked.apply(&Command::Controller(command.clone())).unwrap();
    let Outcome::Controller(outcome) = applied.outcome else { panic!("a controller's answer") };
    let (before, after) = (before.controller().unwrap(), checked.shard.controller().unwrap());
    let unchanged = before.nodes() == after.nodes()
        && before.topics() == after.topics()
        && before.features() == after.features()
        && before.settings() == after.settings()
        && before.cluster_id() == after.cluster_id()
        && before.next_producer_id() == after.next_producer_id();
    assert_eq!(after.version() == at, !unchanged, "the version says whether anything changed");
    if matches!(outcome, O::Refused(_)) {
        assert!(unchanged, "a refusal changes nothing");
        assert_eq!(applied.changes.state.len(), 2, "nor does it write more than the position");
    }
    assert!(after.next_shard_id() >= before.next_shard_id(), "shard numbers are never given out again");
    assert!(after.next_producer_id() >= before.next_producer_id());
    outcome
}

/// What holds at any time.
fn check(checked: &Checked) {
    let controller = checked.shard.controller().unwrap();
    let mut shards = BTreeMap::new();
    for (name, topic) in controller.topics() {
        assert_eq!(controller.topic_by_id(topic.id), Some((name, topic)));
        assert!(topic.id.get() <= controller.version().get());
        assert!(!topic.partitions.is_empty());
        for placed in &topic.partitions {
            assert!(shards.insert(placed.shard, topic.id).is_none(), "a shard carries one partition");
            assert!(placed.shard < controller.next_shard_id());
            assert!(!placed.replicas.is_empty());
            for (place, replica) in placed.replicas.iter().enumerate() {
                assert!(!controller.nodes()[&replica.node].retired, "nothing is placed on a retired node");
                assert!(replica.made_at.get() >= topic.id.get() && replica.made_at <= controller.version());
                assert!(placed.replicas[..place].iter().all(|other| other.node != replica.node));
            }
        }
    }
    for shard in (0..controller.next_shard_id().get() + 2).map(ShardId) {
        let expected = if shards.contains_key(&shard) {
            ShardFate::Placed
        } else if shard.is_partition() && shard < controller.next_shard_id() {
            ShardFate::Deleted
        } else {
            ShardFate::Unknown
        };
        assert_eq!(controller.fate(shard), expected);
    }
    assert_eq!(controller.partition_count(), shards.len());
}

/// Whether a repeat has to get the same answer: of those with a request of their own, and those that say
/// what is to be.
fn repeats_alike(command: &C, outcome: &O) -> bool {
    match (command, outcome) {
        (C::AllocateProducerIds { .. }, _) => false,
        (C::CreateTopic { request, .. }, O::TopicCreated { .. }) => *request != 0,
        // The shards are named once; that it is gone is said again.
        (C::DeleteTopic { .. }, _) => false,
        // Refused the first time for what is no longer so.
        (_, O::Refused(_)) => false,
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn intent_stays_sound_under_any_commands(
        commands in proptest::collection::vec((command(), any::<bool>()), 1..60),
    ) {
        let mut checked = Checked::new(Kind::Controller);
        let nodes = (1..4).map(|id| spec(id, 0)).collect();
        apply(&mut checked, &C::Bootstrap { cluster: ClusterId::from_number(1), nodes });
        for (command, repeat) in commands {
            let outcome = apply(&mut checked, &command);
            check(&checked);
            if repeat && repeats_alike(&command, &outcome) {
                let version = checked.shard.controller().unwrap().version();
                assert_eq!(apply(&mut checked, &command), outcome, "{command:?}");
                assert_eq!(checked.shard.controller().unwrap().version(), version, "a repeat changes nothing");
            }
        }
    }
}

#[test]
fn a_topic_that_is_gone_is_gone_also_when_asked_again() {
    let mut checked = Checked::new(Kind::Controller);
    apply(&mut checked, &C::Bootstrap { cluster: ClusterId::from_number(1), nodes: vec![spec(1, 0)] });
    let create = C::CreateTopic {
        name: TopicName::new("orders").unwrap(),
        config: TopicConfig::default(),
        labels: BTreeMap::new(),
        placement: vec![vec![NodeId(1)]],
        now: 0,
        request: 1,
    };
    let O::TopicCreated { topic, shards } = apply(&mut checked, &create) else { panic!("created") };
    assert_eq!(apply(&mut checked, &C::DeleteTopic { topic }), O::TopicDeleted { topic, shards });
    assert_eq!(apply(&mut checked, &C::DeleteTopic { topic }), O::TopicDeleted { topic, shards: Vec::new() });
}

#[test]
fn limits_are_refused_not_passed() {
    let mut checked = Checked::new(Kind::Controller);
    apply(&mut checked, &C::Bootstrap { cluster: ClusterId::from_number(1), nodes: vec![spec(1, 0)] });
    let create = |partitions: usize, labels: usize| C::CreateTopic {
        name: TopicName::new("big").unwrap(),
        config: TopicConfig::default(),
        labels: (0..labels).map(|n| (n.to_string(), String::new())).collect(),
        placement: vec![vec![NodeId(1)]; partitions],
        now: 0,
        request: 0,
    };
    assert!(matches!(apply(&mut checked, &create(10_001, 0)), O::Refused(_)));
    assert!(matches!(apply(&mut checked, &create(1, 65)), O::Refused(_)));
    assert!(matches!(apply(&mut checked, &create(10_000, 64)), O::TopicCreated { .. }));
    let huge = C::SetSetting { name: "x".to_owned(), value: Some("y".repeat((64 << 10) + 1)) };
    assert!(matches!(apply(&mut checked, &huge), O::Refused(_)));
    let long = C::RegisterNode {
        node: NodeSpec { peer: "p".repeat(256), ..spec(2, 0) },
        store: StoreId::from_number(1),
    };
    assert!(matches!(apply(&mut checked, &long), O::Refused(_)));
}
