//! Acknowledged records are there, once and in order, whoever dies.

use flotilla_tests::cluster::{Cluster, START_LIMIT};
use flotilla_tests::wire::Wire;
use flotilla_tests::workload::{Load, Running, judge, scan, scan_replicas};
use std::time::Duration;

const TOPIC: &str = "orders";
const PARTITIONS: u32 = 6;

/// A cluster of three with the topic on all of them.
async fn cluster() -> Cluster {
    let cluster = Cluster::start(3, "").await;
    Wire::to(&cluster.nodes[0].client())
        .create_topic(TOPIC, PARTITIONS as i32, 3, flotilla_proto::v1::TopicConfig::default())
        .await;
    cluster
}

/// Everything is read at the leaders and at every replica, and judged.
async fn finish(mut cluster: Cluster, running: Running) {
    let history = running.stop().await;
    cluster.start_all().await;
    scan(&cluster, TOPIC, PARTITIONS, &history).await;
    scan_replicas(&cluster, TOPIC, PARTITIONS, &[1, 2, 3], &history).await;
    judge(&cluster, &history);
    cluster.assert_healthy();
    println!("figure: {} records acknowledged", history.acknowledged());
}

const PROGRESS: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_records_survive_the_death_of_each_node_in_turn() {
    let mut cluster = cluster().await;
    let running = Running::start(&cluster, Load::to(TOPIC, PARTITIONS)).await;
    for id in 1..=3 {
        running.acknowledges(2000, PROGRESS).await;
        running.history.fault(format!("node {id} killed"));
        cluster.node(id).kill();
        running.acknowledges(2000, PROGRESS).await;
        cluster.node(id).start();
        cluster.node(id).wait_ready(START_LIMIT).await;
    }
    running.acknowledges(2000, PROGRESS).await;
    finish(cluster, running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_dies_in_the_middle_of_a_batch_loses_and_repeats_nothing() {
    let mut cluster = cluster().await;
    // Large values and many in flight: at any moment some batch is half way.
    let load = Load { value_bytes: 4000, in_flight: 1000, ..Load::to(TOPIC, PARTITIONS) };
    let running = Running::start(&cluster, load).await;
    for round in 0..5u64 {
        // Every time a little later, so that the death meets another part of a batch's way.
        running.acknowledges(500, PROGRESS).await;
        tokio::time::sleep(Duration::from_millis(3 * round)).await;
        let leader = cluster.leader(TOPIC, 0).await;
        running.history.fault(format!("node {leader} killed, leader of partition 0"));
        cluster.node(leader).kill();
        running.acknowledges(500, PROGRESS).await;
        cluster.node(leader).start();
        cluster.node(leader).wait_ready(START_LIMIT).await;
    }
    finish(cluster, running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_records_survive_the_death_of_all_nodes_at_once() {
    let mut cluster = cluster().await;
    let running = Running::start(&cluster, Load::to(TOPIC, PARTITIONS)).await;
    for _ in 0..3 {
        running.acknowledges(2000, PROGRESS).await;
        running.history.fault("all nodes killed");
        for node in &mut cluster.nodes {
            node.kill();
        }
        cluster.start_all().await;
    }
    running.acknowledges(2000, PROGRESS).await;
    finish(cluster, running).await;
}
