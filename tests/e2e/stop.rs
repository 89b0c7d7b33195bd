//! A node that is told twice to stop does not wait for anything.

use flotilla_proto::v1::TopicConfig;
use flotilla_tests::cluster::Cluster;
use flotilla_tests::wire::Wire;
use flotilla_types::time::{Clock, SystemClock};
use std::time::Duration;

/// What the server's exit codes call "was told twice to stop".
const FAILED: i32 = 1;

#[tokio::test(flavor = "multi_thread")]
async fn the_second_request_to_stop_ends_a_node_at_once() {
    let mut cluster = Cluster::start(3, "").await;
    let mut wire = Wire::to(&cluster.nodes[0].client());
    wire.create_topic("orders", 6, 3, TopicConfig::default()).await;
    wire.leader("orders", 0).await;
    // Leadership can be handed to nobody, so the first request takes its time.
    for id in [2, 3] {
        cluster.node(id).kill();
    }
    let clock = SystemClock::new();
    let began = clock.monotonic();
    cluster.node(1).terminate();
    cluster.node(1).interrupt();
    let status = cluster.node(1).wait_exit(Duration::from_secs(5)).await.expect("ends at once");
    println!("figure: told twice, a node ended after {:?}", clock.monotonic().since(began));
    assert_eq!(status.code(), Some(FAILED), "{status}");
}
