//! On a whole node: a topic's life, what is refused, paging, trimming and retention, states and filters.

use super::*;
use crate::health::Status;
use crate::partitions::{ListPartitions, Role};
use crate::testing::{Node, batch, config, context, create};
use flotilla_types::topic::{Retention, TopicConfig};
use flotilla_types::{NodeId, PartitionId, Reason};
use std::collections::BTreeMap;

fn reason<T: std::fmt::Debug>(answer: Result<T, Error>) -> Reason {
    answer.unwrap_err().describe().reason
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_made_described_changed_and_deleted() {
    let node = Node::start(config()).await;
    let broker = &node.broker;
    let wanted = CreateTopic {
        partition_count: 3,
        labels: BTreeMap::from([("team".to_owned(), "blue".to_owned())]),
        ..create("orders")
    };
    let dry = broker.create_topic(&context(), CreateTopic { validate_only: true, ..wanted.clone() }).await;
    assert_eq!(dry.unwrap().id, TopicId(0));
    let made = broker.create_topic(&context(), wanted.clone()).await.unwrap();
    assert_eq!((made.partition_count, made.replication_factor), (3, 1));
    assert_eq!(reason(broker.create_topic(&context(), wanted.clone()).await), Reason::AlreadyExists);
    let produced = node.produce(batch(&made.name, &["at once"], None)).await;
    assert!(produced.is_ok(), "{produced:?}");

    let got = broker.get_topic(&context(), &made.name).await.unwrap();
    assert_eq!((got.id, got.labels.len(), got.partitions.len()), (made.id, 1, 3));
    let state = &got.partitions[0];
    assert!(state.known && state.leader == Some(NodeId(1)) && state.high_watermark == Offset(1));
    assert_eq!(state.replicas.iter().map(|replica| replica.role).collect::<Vec<_>>(), [Role::Leader]);

    let update = UpdateTopic {
        name: made.name.clone(),
        id: Some(made.id),
        fields: vec!["config.retention".to_owned(), "partition_count".to_owned()],
        config: TopicConfig { retention: Some(Retention::Unlimited), ..TopicConfig::default() },
        labels: BTreeMap::new(),
        partition_count: 5,
        validate_only: false,
    };
    let changed = broker.update_topic(&context(), update.clone()).await.unwrap();
    assert_eq!((changed.partition_count, changed.labels.len()), (5, 1));
    assert_eq!(broker.routes().topics[&made.name].resolved.retention, None);
    assert_eq!(broker.routes().topics[&made.name].partitions.len(), 5);
    let fewer = UpdateTopic { partition_count: 4, ..update.clone() };
    assert_eq!(reason(broker.update_topic(&context(), fewer).await), Reason::InvalidArgument);
    let other = UpdateTopic { id: Some(TopicId(1)), ..update };
    assert_eq!(reason(broker.update_topic(&context(), other).await), Reason::NotFound);

    broker.delete_topic(&context(), &made.name, Some(made.id)).await.unwrap();
    assert_eq!(reason(broker.get_topic(&context(), &made.name).await), Reason::NotFound);
    assert_eq!(reason(broker.delete_topic(&context(), &made.name, None).await), Reason::NotFound);
    let again = broker.create_topic(&context(), wanted).await.unwrap();
    assert_ne!(again.id, made.id);
    assert_eq!(node.produce(batch(&made.name, &["x"], None)).await.unwrap().base_offset, Offset(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_of_deleted_topics_go_and_unknown_ones_stay() {
    let node = Node::start(config()).await;
    let topic = node.topic("orders", 2, TopicConfig::default()).await;
    let shard = node.broker.routes().topics[&topic].partitions[0].shard;
    let serving = node.broker.serving().unwrap().clone();
    let stranger = flotilla_types::ShardId(5000);
    serving
        .host
        .start_shard(stranger, flotilla_machine::Kind::Partition, Some(vec![NodeId(1)]))
        .await
        .unwrap();
    node.broker.delete_topic(&context(), &topic, None).await.unwrap();
    let gone = async {
        while serving.host.shard(shard).is_some() || node.broker.orphans.lock().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
    assert_eq!(*node.broker.orphans.lock(), [stranger]);
    assert!(serving.host.shard(stranger).is_some(), "reported, never deleted");
    let health = node.broker.health(&context()).await;
    let orphans = health.checks.iter().find(|check| check.name == "orphans").unwrap();
    assert!(orphans.status == Status::Degraded && orphans.detail.contains("5000"), "{orphans:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_refused() {
    let node = Node::start(config()).await;
    let small = TopicConfig { max_batch_bytes: Some(3), ..TopicConfig::default() };
    let labels = BTreeMap::from([("a b".to_owned(), String::new())]);
    for (bad, expected) in [
        (CreateTopic { partition_count: 10_001, ..create("t") }, Reason::InvalidArgument),
        (CreateTopic { replication_factor: 8, ..create("t") }, Reason::InvalidArgument),
        (CreateTopic { replication_factor: 3, ..create("t") }, Reason::NotEnoughReplicas),
        (CreateTopic { config: small, ..create("t") }, Reason::InvalidArgument),
        (CreateTopic { labels, ..create("t") }, Reason::InvalidArgument),
    ] {
        let dry = CreateTopic { validate_only: true, ..bad.clone() };
        assert_eq!(reason(node.broker.create_topic(&context(), dry).await), expected);
        assert_eq!(reason(node.broker.create_topic(&context(), bad).await), expected);
    }
    assert!(node.broker.routes().topics.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_listed_page_by_page() {
    let node = Node::start(config()).await;
    for name in ["a.1", "a.2", "a.3", "b.1"] {
        node.topic(name, 1, TopicConfig::default()).await;
    }
    let list =
        |filter: &str, page_token: String| ListTopics { filter: filter.to_owned(), page_size: 2, page_token };
    let first = node.broker.list_topics(&context(), list("a.*", String::new())).await.unwrap();
    let names = |page: &TopicPage| page.topics.iter().map(|topic| topic.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&first), ["a.1", "a.2"]);
    let second = node.broker.list_topics(&context(), list("a.", first.next_page_token)).await.unwrap();
    assert_eq!((names(&second), second.next_page_token), (vec!["a.3".to_owned()], String::new()));
    let bad = node.broker.list_topics(&context(), list("a/", String::new())).await;
    assert_eq!(reason(bad), Reason::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trim_moves_the_log_start_exactly() {
    let node = Node::start(config()).await;
    let topic = node.topic("orders", 1, TopicConfig::default()).await;
    for _ in 0..5 {
        node.produce(batch(&topic, &["x", "y"], None)).await.unwrap();
    }
    let trim = |partition, before: u64| Trim {
        topic: topic.clone(),
        partition: PartitionId(partition),
        before: Some(Offset(before)),
    };
    let failed = node.broker.trim(&context(), vec![trim(0, 5), trim(0, 99), trim(7, 0)]).await;
    let reasons: Vec<_> = failed.iter().map(|failed| failed.failure.reason).collect();
    assert_eq!(reasons, [Reason::OffsetOutOfRange, Reason::NotFound]);
    let before = node.fetch(&topic, 4, Duration::ZERO).await.error.unwrap();
    assert_eq!(before.reason, Reason::OffsetOutOfRange);
    assert!(before.metadata.contains(&("log_start_offset", "5".to_owned())));
    let kept = node.fetch(&topic, 5, Duration::ZERO).await;
    assert_eq!(kept.next_offset, Offset(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_by_time_and_by_size_removes_the_oldest() {
    let node = Node::start(config()).await;
    let hour =
        TopicConfig { retention: Some(Retention::For(Duration::from_secs(3600))), ..TopicConfig::default() };
    let by_time = node.topic("by.time", 1, hour).await;
    let small = TopicConfig { retention_bytes: Some(2048), ..TopicConfig::default() };
    let by_size = node.topic("by.size", 1, small).await;
    let kilobyte = "x".repeat(1000);
    for round in 0..4 {
        if round == 2 {
            node.clock.advance(Duration::from_secs(1800));
        }
        node.produce(batch(&by_time, &["x"], None)).await.unwrap();
        node.produce(batch(&by_size, &[&kilobyte], None)).await.unwrap();
    }
    let start = |topic: &TopicName| {
        let shard = node.broker.routes().topics[topic].partitions[0].shard;
        node.broker.shard(shard).unwrap().progress().log_start
    };
    wait_until_stored(&node).await;
    node.broker.retain_once().await;
    wait_for(|| start(&by_size) == Offset(2)).await;
    assert_eq!(start(&by_time), Offset(0));
    node.clock.advance(Duration::from_secs(1801));
    node.broker.retain_once().await;
    wait_for(|| start(&by_time) == Offset(2)).await;
    node.clock.advance(Duration::from_secs(3600));
    node.broker.retain_once().await;
    wait_for(|| start(&by_time) == Offset(4)).await;
    assert_eq!(node.produce(batch(&by_time, &["x"], None)).await.unwrap().base_offset, Offset(4));
    assert_eq!(start(&by_size), Offset(2));
}

async fn wait_until_stored(node: &Node) {
    for (_, _, placed) in node.broker.routes().partitions() {
        let shard = node.broker.shard(placed.shard).unwrap();
        wait_for(|| shard.stored_to() >= shard.progress().high_watermark).await;
    }
}

async fn wait_for(condition: impl Fn() -> bool) {
    let reached = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reached).await.expect("the condition is reached");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_well_node_says_so_and_lists_its_partitions() {
    let node = Node::start(config()).await;
    node.topic("orders", 3, TopicConfig::default()).await;
    let well = async {
        // A new cluster places its coordinators in its first moments.
        while node.broker.health(&context()).await.status != Status::Healthy
            || node.broker.groups_away().is_some()
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let well = tokio::time::timeout(Duration::from_secs(10), well).await;
    assert!(well.is_ok(), "{:?}", node.broker.health(&context()).await);
    let list =
        |filter: &str| ListPartitions { filter: filter.parse().unwrap(), page_size: 2, ..Default::default() };
    let page = node.broker.list_partitions(&context(), list("topic=orders node=1")).await.unwrap();
    assert_eq!((page.partitions.len(), page.next_page_token.as_str()), (2, "orders/1"));
    for none in ["leaderless", "under_replicated", "node=2"] {
        let page = node.broker.list_partitions(&context(), list(none)).await.unwrap();
        assert!(page.partitions.is_empty(), "{none}: {page:?}");
    }
    let topic = TopicName::new("orders").unwrap();
    let same = node.broker.transfer_leadership(&context(), &topic, PartitionId(0), Some(NodeId(1))).await;
    assert_eq!(same.unwrap().leader, Some(NodeId(1)));
    let nowhere = node.broker.transfer_leadership(&context(), &topic, PartitionId(0), Some(NodeId(2))).await;
    assert_eq!(reason(nowhere), Reason::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn producer_identities_are_the_callers_alone() {
    let node = Node::start(config()).await;
    let (first, epoch) = node.broker.init_producer(&context(), None).await.unwrap();
    let (second, _) = node.broker.init_producer(&context(), None).await.unwrap();
    assert_ne!(first, second);
    let bumped = node.broker.init_producer(&context(), Some((first, epoch))).await.unwrap();
    assert_eq!(bumped, (first, epoch.next()));
}
