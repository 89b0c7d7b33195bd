//! A follower that was away while retention removed what it lacks.

use flotilla_client::{Options, ProducerOptions, Record, types};
use flotilla_proto::v1::TopicConfig;
use flotilla_tests::cluster::{Cluster, START_LIMIT};
use flotilla_tests::history::{History, Operation, Stage};
use flotilla_tests::wire::Wire;
use flotilla_tests::workload::{encode, judge, scan, scan_replicas};
use std::time::Duration;

const TOPIC: &str = "telemetry";
const VALUE_BYTES: usize = 256 << 10;

/// Appends large values one after another, remembered in the history.
async fn fill(cluster: &Cluster, history: &History, next: &mut u64, count: u64) {
    let client =
        flotilla_client::Client::connect(cluster.endpoints(), Options::default()).await.expect("connects");
    let options = ProducerOptions { compression: types::Compression::None, ..ProducerOptions::default() };
    let producer = client.producer(options);
    let mut waiting = std::collections::VecDeque::new();
    for _ in 0..count {
        let value = *next;
        *next += 1;
        history.add(0, Stage::Invoke, Operation::Send { partition: 0, value, order: value, offset: None });
        let record = Record::new(encode(value, VALUE_BYTES));
        waiting
            .push_back((value, producer.send_to(TOPIC, types::PartitionId(0), record).await.expect("taken")));
        if waiting.len() > 20 {
            settle(history, waiting.pop_front()).await;
        }
    }
    while !waiting.is_empty() {
        settle(history, waiting.pop_front()).await;
    }
}

async fn settle(history: &History, oldest: Option<(u64, flotilla_client::Delivery)>) {
    let Some((value, delivery)) = oldest else { return };
    let stored = delivery.await.expect("two of three nodes are there");
    let offset = Some(stored.offset.get());
    history.add(0, Stage::Ok, Operation::Send { partition: 0, value, order: value, offset });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_was_down_past_retention_catches_up_and_ends_equal() {
    // Retention is looked at often, so that the test need not wait for it.
    let mut cluster = Cluster::start(3, "[broker]\nretention_interval = \"500ms\"\n").await;
    let mut wire = Wire::to(&cluster.nodes[0].client());
    let keep = TopicConfig { retention_bytes: 16 << 20, ..TopicConfig::default() };
    wire.create_topic(TOPIC, 1, 3, keep).await;
    let history = History::default();
    let mut next = 1;
    fill(&cluster, &history, &mut next, 8).await;

    let leader = wire.leader(TOPIC, 0).await;
    let follower = (1..=3).find(|id| *id != leader).expect("three nodes");
    history.fault(format!("node {follower} killed, a follower"));
    cluster.node(follower).kill();
    let mut leader_wire = Wire::to(&cluster.nodes[leader as usize - 1].client());
    // Checkpoints are made every 64 MiB, and the log is purged up to one of them.
    let mut start = 0;
    for _ in 0..20 {
        fill(&cluster, &history, &mut next, 80).await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        (start, _) = leader_wire.bounds(TOPIC, 0).await.expect("the leader is there");
        if start > 400 {
            break;
        }
    }
    assert!(start > 400, "retention moved the log's start to {start} only");
    println!("figure: follower away while the log's start moved to offset {start} of {next}");

    cluster.node(follower).start();
    cluster.node(follower).wait_ready(START_LIMIT).await;
    // While it catches up, the log grows.
    fill(&cluster, &history, &mut next, 40).await;
    scan(&cluster, TOPIC, 1, &history).await;
    scan_replicas(&cluster, TOPIC, 1, &[1, 2, 3], &history).await;
    judge(&cluster, &history);
    cluster.assert_healthy();
}
