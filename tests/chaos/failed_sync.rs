//! A sync that fails once ends the process, because nobody knows what is on disk any more. Started again,
//! the node has everything that was acknowledged.

use flotilla_proto::v1::TopicConfig;
use flotilla_tests::binaries;
use flotilla_tests::cluster::{Cluster, START_LIMIT};
use flotilla_tests::wire::Wire;
use flotilla_tests::workload::{Load, Running, judge, scan, scan_replicas};
use std::time::Duration;

const TOPIC: &str = "orders";
const PARTITIONS: u32 = 3;
const PROGRESS: Duration = Duration::from_secs(30);
/// What the server's exit codes call a storage error after which nothing may be written.
const FATAL: i32 = 70;
/// Syncs that go well first, for each node in turn: early, within the load, and in the middle of much.
const GOOD_SYNCS: [u64; 3] = [40, 250, 900];

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_sync_fails_ends_and_comes_back_whole() {
    let mut cluster = Cluster::new(3, "");
    for node in &mut cluster.nodes {
        node.use_build(binaries::faulty(), &[]);
    }
    cluster.start_all().await;
    Wire::to(&cluster.nodes[0].client())
        .create_topic(TOPIC, PARTITIONS as i32, 3, TopicConfig::default())
        .await;
    let running = Running::start(&cluster, Load::to(TOPIC, PARTITIONS)).await;
    for (id, good) in (1..=3).zip(GOOD_SYNCS) {
        running.acknowledges(500, PROGRESS).await;
        cluster.node(id).kill();
        let fault = format!("fail-sync-after={good}");
        cluster.node(id).use_build(binaries::faulty(), &[("FLOTILLA_FAULT", fault.as_str())]);
        cluster.node(id).start();
        let status = cluster.node(id).wait_exit(PROGRESS).await.expect("a failed sync ends the node");
        running.history.fault(format!("the sync after {good} of node {id} failed"));
        assert_eq!(status.code(), Some(FATAL), "node {id} ended with {status}");
        running.acknowledges(500, PROGRESS).await;
        cluster.node(id).use_build(binaries::faulty(), &[]);
        cluster.node(id).start();
        cluster.node(id).wait_ready(START_LIMIT).await;
    }
    running.acknowledges(500, PROGRESS).await;
    let history = running.stop().await;
    scan(&cluster, TOPIC, PARTITIONS, &history).await;
    scan_replicas(&cluster, TOPIC, PARTITIONS, &[1, 2, 3], &history).await;
    judge(&cluster, &history);
    println!(
        "figure: three nodes ended by a failed sync each, {} records acknowledged, none lost",
        history.acknowledged()
    );
}
