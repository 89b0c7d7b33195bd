//! How long nothing is acknowledged when a leader goes: on request, and by SIGKILL.

use flotilla_tests::cluster::{Cluster, START_LIMIT};
use flotilla_tests::wire::Wire;
use flotilla_tests::workload::{Load, Running, judge, longest_silence, scan};
use std::time::Duration;

const TOPIC: &str = "orders";
const ROUNDS: u32 = 5;
const PROGRESS: Duration = Duration::from_secs(20);

/// A steady trickle to one partition, so that silence is the fault's and not the load's.
fn trickle() -> Load {
    Load { producers: 1, readers: 0, pause: Duration::from_millis(2), ..Load::to(TOPIC, 1) }
}

#[derive(Clone, Copy)]
enum Departure {
    Asked,
    Killed,
}

/// The longest silences of [`ROUNDS`] departures of the leader.
async fn silences(departure: Departure) -> Vec<Duration> {
    let mut cluster = Cluster::start(3, "").await;
    Wire::to(&cluster.nodes[0].client())
        .create_topic(TOPIC, 1, 3, flotilla_proto::v1::TopicConfig::default())
        .await;
    let running = Running::start(&cluster, trickle()).await;
    let mut silences = Vec::new();
    for _ in 0..ROUNDS {
        running.acknowledges(500, PROGRESS).await;
        let leader = cluster.leader(TOPIC, 0).await;
        let since = running.history.events().last().map_or(0, |event| event.at);
        match departure {
            Departure::Asked => {
                running.history.fault(format!("SIGTERM to node {leader}"));
                cluster.node(leader).terminate();
                let status = cluster.node(leader).wait_exit(Duration::from_secs(20)).await;
                let status = status.expect("a node that is asked to stop stops within 20 s");
                assert_eq!(status.code(), Some(0), "node {leader} ended with {status}");
            }
            Departure::Killed => {
                running.history.fault(format!("SIGKILL to node {leader}"));
                cluster.node(leader).kill();
            }
        }
        running.acknowledges(500, PROGRESS).await;
        silences.push(longest_silence(&running.history.events(), since));
        cluster.node(leader).start();
        cluster.node(leader).wait_ready(START_LIMIT).await;
    }
    let history = running.stop().await;
    scan(&cluster, TOPIC, 1, &history).await;
    judge(&cluster, &history);
    cluster.assert_healthy();
    silences
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_asked_to_stop_hands_over_within_300_ms() {
    let silences = silences(Departure::Asked).await;
    println!("figure: produce gap at SIGTERM of the leader {silences:?}, limit 300 ms");
    assert!(silences.iter().all(|silence| *silence <= Duration::from_millis(300)), "{silences:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_replaced_within_3500_ms() {
    let silences = silences(Departure::Killed).await;
    println!("figure: produce gap at SIGKILL of the leader {silences:?}, limit 3.5 s");
    assert!(silences.iter().all(|silence| *silence <= Duration::from_millis(3500)), "{silences:?}");
}
