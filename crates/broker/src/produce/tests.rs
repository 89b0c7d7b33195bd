//! On a whole node: order, repeats, refusals, overload, a full disk, and answers that are not certain.

use super::*;
use crate::Config;
use crate::testing::{Node, batch, body, config, context, record, sealed};
use flotilla_store::DiskUsage;
use flotilla_types::bytesize::ByteSize;
use flotilla_types::topic::TopicConfig;
use flotilla_types::{
    Offset, PartitionId, ProducerEpoch, ProducerId, ProducerStamp, Reason, Sequence, TopicId, TopicName,
};

fn stamp(sequence: u64) -> Option<ProducerStamp> {
    Some(ProducerStamp { id: ProducerId(7), epoch: ProducerEpoch(0), base_sequence: Sequence(sequence) })
}

fn reason(answer: Result<Answer, Error>) -> Reason {
    answer.unwrap_err().describe().reason
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_get_dense_offsets_in_the_order_they_were_given() {
    let node = Node::start(config()).await;
    let topic = node.topic("orders", 1, TopicConfig::default()).await;
    let mut pending = Vec::new();
    for number in 0..200 {
        let values = vec!["x"; 1 + number % 3];
        pending.push((values.len() as u64, node.begin(batch(&topic, &values, None)).await));
    }
    let mut next = 0;
    for (records, pending) in pending {
        let answer = pending.await.unwrap();
        assert_eq!(answer.base_offset, Offset(next));
        next += records;
    }
    assert_eq!(node.broker.admission.in_flight(), 0, "every byte is given back");
    assert_eq!(node.broker.metrics.produce_in_flight_batches.get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_batch_gets_the_first_answer_and_a_gap_is_refused() {
    let node = Node::start(config()).await;
    let topic = node.topic("orders", 1, TopicConfig::default()).await;
    let first = node.produce(batch(&topic, &["a", "b"], stamp(0))).await.unwrap();
    let again = node.produce(batch(&topic, &["a", "b"], stamp(0))).await.unwrap();
    assert_eq!(again, Answer { duplicate: true, ..first });
    assert_eq!(reason(node.produce(batch(&topic, &["z"], stamp(5))).await), Reason::OutOfOrderSequence);
    assert_eq!(node.produce(batch(&topic, &["c"], stamp(2))).await.unwrap().base_offset, Offset(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expected_offset_is_met_or_refused() {
    let node = Node::start(config()).await;
    let topic = node.topic("orders", 1, TopicConfig::default()).await;
    let expecting = |offset| produce_at(&topic, offset);
    assert!(node.produce(expecting(0)).await.is_ok());
    let failure = node.produce(expecting(0)).await.unwrap_err().describe();
    assert_eq!(failure.reason, Reason::OffsetConflict);
    assert!(!failure.outcome_unknown);
    assert!(failure.metadata.contains(&("actual_offset", "1".to_owned())), "{failure:?}");
    assert!(node.produce(expecting(1)).await.is_ok());
}

fn produce_at(topic: &TopicName, offset: u64) -> Request {
    Request { expected_offset: Some(Offset(offset)), ..batch(topic, &["x"], None) }
}

#[tokio::test(flavor = "multi_thread")]
async fn message_ids_are_remembered_within_the_window() {
    let node = Node::start(config()).await;
    let config = TopicConfig { dedup_window: Some(Duration::from_secs(60)), ..TopicConfig::default() };
    let topic = node.topic("payments", 1, config).await;
    let ids = |ids: &[&str]| {
        let records: Vec<_> = ids.iter().map(|id| record(b"v", Some(id))).collect();
        sealed(&topic, &body(&records), ids.len() as u32, Compression::Zstd, None)
    };
    assert!(!node.produce(ids(&["a", "b"])).await.unwrap().duplicate);
    let again = node.produce(ids(&["a", "b"])).await.unwrap();
    assert!(again.duplicate && again.base_offset == Offset(0));
    let error = node.produce(ids(&["c", "b"])).await.unwrap_err();
    let records = error.record_errors();
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].index, records[0].failure.reason), (1, Reason::AlreadyExists));
    assert!(!error.is_indefinite());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_what_it_says_is_refused_with_its_reason() {
    let node = Node::start(config()).await;
    let topic = node.topic("orders", 1, TopicConfig::default()).await;
    let good = batch(&topic, &["x"], None);
    let mut wrong_seal = good.clone();
    wrong_seal.header.crc32c ^= 1;
    assert_eq!(reason(node.produce(wrong_seal).await), Reason::CorruptBatch);
    let miscounted = sealed(&topic, &body(&[record(b"x", None)]), 2, Compression::Lz4, None);
    assert_eq!(reason(node.produce(miscounted).await), Reason::CorruptBatch);
    let bomb = sealed(&topic, &vec![0; 256 << 20], 1, Compression::Zstd, None);
    assert_eq!(reason(node.produce(bomb).await), Reason::BatchTooLarge);
    let large = sealed(&topic, &vec![1; (1 << 20) + 1], 1, Compression::None, None);
    assert_eq!(reason(node.produce(large).await), Reason::BatchTooLarge);
    let elsewhere = Request { partition: PartitionId(9), ..good.clone() };
    assert_eq!(reason(node.produce(elsewhere).await), Reason::UnknownTopicOrPartition);
    let unknown = Request { topic: TopicName::new("nothing").unwrap(), ..good.clone() };
    assert_eq!(reason(node.produce(unknown).await), Reason::UnknownTopicOrPartition);
    let other_life = Request { topic_id: Some(TopicId(1)), ..good.clone() };
    assert_eq!(reason(node.produce(other_life).await), Reason::UnknownTopicOrPartition);
    assert_eq!(node.produce(good).await.unwrap().base_offset, Offset(0), "nothing of it is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_in_flight_is_overload_with_a_pause() {
    let config = Config { produce_in_flight_shard_batches: 4, ..config() };
    let node = Node::start(config).await;
    let topic = node.topic("orders", 1, TopicConfig::default()).await;
    let shard = node.broker.routes().topics[&topic].partitions[0].shard;
    let mut seats = Vec::new();
    for _ in 0..4 {
        seats.push(node.broker.admission.enter(shard, 1, node.broker.clock.monotonic()).await.unwrap());
    }
    let failure = node.produce(batch(&topic, &["x"], None)).await.unwrap_err().describe();
    assert_eq!(failure.reason, Reason::Overloaded);
    assert!(failure.retry_after.is_some() && !failure.outcome_unknown);
    drop(seats);
    assert!(node.produce(batch(&topic, &["x"], None)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_records_and_topics_but_not_reads() {
    let mut config = config();
    config.disk.interval = Duration::from_secs(3600);
    let node = Node::start(config).await;
    let topic = node.topic("orders", 1, TopicConfig::default()).await;
    node.produce(batch(&topic, &["x"], None)).await.unwrap();
    node.broker.disk.observe(DiskUsage { total: 100 << 30, free: 9 << 30, used: 0 });
    let failure = node.produce(batch(&topic, &["y"], None)).await.unwrap_err().describe();
    assert_eq!(failure.reason, Reason::DiskFull);
    assert!(failure.retry_after.is_some() && !failure.outcome_unknown);
    let created = node.broker.create_topic(&context(), crate::testing::create("more")).await;
    assert_eq!(created.unwrap_err().describe().reason, Reason::DiskFull);
    assert_eq!(node.fetch(&topic, 0, Duration::ZERO).await.batches.len(), 1);
    node.broker.disk.observe(DiskUsage { total: 100 << 30, free: 50 << 30, used: 0 });
    assert!(node.produce(batch(&topic, &["y"], None)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "a task of the test's own")]
async fn at_the_deadline_the_outcome_is_unknown_and_the_permit_stays_until_it_is_not() {
    let cluster = flotilla_types::ClusterId(uuid::Uuid::from_u128(7));
    let identity = flotilla_store::Identity::new(cluster, flotilla_types::NodeId(1));
    let store = flotilla_store::MemoryStore::manual(identity);
    let disk = store.clone();
    let (stuck, free) = (Arc::new(std::sync::atomic::AtomicBool::new(false)), Duration::from_millis(1));
    let is_stuck = stuck.clone();
    let writer = tokio::spawn(async move {
        loop {
            if !is_stuck.load(std::sync::atomic::Ordering::Acquire) {
                disk.commit();
            }
            tokio::time::sleep(free).await;
        }
    });
    let node = Node::start_on(config(), store).await;
    let topic = node.topic("orders", 1, TopicConfig::default()).await;
    node.produce(batch(&topic, &["the leader's first"], None)).await.unwrap();
    stuck.store(true, std::sync::atomic::Ordering::Release);
    let request = Request { timeout: Duration::from_millis(500), ..batch(&topic, &["x"], None) };
    let bytes = request.body.len() as u64;
    let error = node.produce(request).await.unwrap_err();
    assert!(error.is_indefinite() && error.describe().outcome_unknown, "{error}");
    assert_eq!(error.describe().reason, Reason::RequestTimedOut);
    assert_eq!(node.broker.admission.in_flight(), bytes, "it is still in memory");
    stuck.store(false, std::sync::atomic::Ordering::Release);
    let given_back = async {
        while node.broker.admission.in_flight() > 0 {
            tokio::time::sleep(free).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), given_back).await.unwrap();
    assert_eq!(node.fetch(&topic, 1, Duration::from_secs(5)).await.batches.len(), 1, "and it was appended");
    writer.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_has_passed_is_definite() {
    let node = Node::start(config()).await;
    let topic = node.topic("orders", 1, TopicConfig::default()).await;
    let late = Context { deadline: Some(Monotonic(Duration::ZERO)), ..context() };
    let permit = node.broker.admit(10).await.unwrap();
    let error = node.broker.produce(&late, batch(&topic, &["x"], None), permit).await.await.unwrap_err();
    assert!(!error.is_indefinite(), "{error}");
    assert_eq!(node.produce(batch(&topic, &["x"], None)).await.unwrap().base_offset, Offset(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_batch_is_appended_and_gives_its_memory_back() {
    let config = Config { produce_in_flight_bytes: ByteSize(8 << 20), ..config() };
    let node = Node::start(config).await;
    let topic = node.topic("orders", 1, TopicConfig::default()).await;
    drop(node.begin(batch(&topic, &["x"], None)).await);
    assert_eq!(node.fetch(&topic, 0, Duration::from_secs(5)).await.batches.len(), 1);
    let given_back = async {
        while node.broker.admission.in_flight() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), given_back).await.unwrap();
}
