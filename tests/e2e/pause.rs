//! A leader whose process stood still comes back to a cluster that went on without it.

use flotilla_tests::cluster::Cluster;
use flotilla_tests::history::{Operation, Stage};
use flotilla_tests::wire::{self, Wire};
use flotilla_tests::workload::{self, Load, Running, judge, scan, scan_replicas};
use std::time::Duration;
use tokio::task::JoinSet;

const TOPIC: &str = "orders";
const PROGRESS: Duration = Duration::from_secs(20);
/// The process number of those who ask the paused node directly.
const DIRECT: u32 = 500;

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_paused_acknowledges_nothing_that_the_others_contradict() {
    let mut cluster = Cluster::start(3, "").await;
    Wire::to(&cluster.nodes[0].client())
        .create_topic(TOPIC, 1, 3, flotilla_proto::v1::TopicConfig::default())
        .await;
    let running = Running::start(&cluster, Load { readers: 0, ..Load::to(TOPIC, 1) }).await;
    let mut order = 0;
    for _ in 0..3 {
        running.acknowledges(1000, PROGRESS).await;
        let old = cluster.leader(TOPIC, 0).await;
        let paused = cluster.nodes[old as usize - 1].client();
        // The connection is there before the pause, so that requests wait inside the process.
        let mut direct = Wire::to(&paused);
        direct.leader(TOPIC, 0).await;
        running.history.fault(format!("node {old} paused"));
        cluster.node(old).pause();

        let mut asked = JoinSet::new();
        for _ in 0..20 {
            let (mut wire, value) = (direct.clone(), (u64::from(DIRECT) << 40) | order);
            let history = std::sync::Arc::clone(&running.history);
            let send = move |offset| Operation::Send { partition: 0, value, order, offset };
            order += 1;
            history.add_at_node(DIRECT, Stage::Invoke, Some(old), send(None));
            asked.spawn(async move {
                let batch = wire::batch(&[&workload::encode(value, 100)]);
                let (stage, offset) = match wire.produce(wire::request(TOPIC, 0, batch)).await {
                    Ok(answer) => match answer.error {
                        None => (Stage::Ok, Some(answer.base_offset as u64)),
                        Some(error) if error.outcome_unknown => (Stage::Unknown, None),
                        Some(_) => (Stage::Fail, None),
                    },
                    Err(_) => (Stage::Unknown, None),
                };
                history.add_at_node(DIRECT, stage, Some(old), send(offset));
            });
        }
        // Whoever is left elects one of them and goes on.
        running.acknowledges(1000, PROGRESS).await;
        running.history.fault(format!("node {old} resumed"));
        cluster.node(old).resume();
        // A read of the old leader right now must not show what never was.
        let read = async {
            let (start, end) = direct.bounds(TOPIC, 0).await?;
            direct.read(TOPIC, 0, start, end).await
        };
        if let Ok(records) = read.await {
            let records = records.into_iter().map(|(at, text)| (at, workload::decode(&text))).collect();
            // Every round is a reader of its own: each starts at the beginning.
            running.history.add_at_node(
                2000 + order as u32,
                Stage::Ok,
                Some(old),
                Operation::Poll { partition: 0, records },
            );
        }
        while let Some(ended) = asked.join_next().await {
            ended.expect("asking does not panic");
        }
    }
    let history = running.stop().await;
    scan(&cluster, TOPIC, 1, &history).await;
    scan_replicas(&cluster, TOPIC, 1, &[1, 2, 3], &history).await;
    // The direct requests of one round travel at once, so their order says nothing: only the rest counts.
    let order_free: Vec<_> =
        flotilla_tests::checkers::ALL.iter().filter(|c| c.0 != "producer order").collect();
    let digest = flotilla_tests::digest::Digest::of(&history.events());
    let found: Vec<String> = order_free.iter().flat_map(|(_, check)| check(&digest)).take(10).collect();
    if !found.is_empty() {
        judge(&cluster, &history);
        panic!("{found:?}");
    }
    let mut events = history.events();
    events.retain(|event| event.process != DIRECT);
    let ordered =
        flotilla_tests::checkers::producer_order::check(&flotilla_tests::digest::Digest::of(&events));
    assert!(ordered.is_empty(), "{ordered:?}");
    cluster.assert_healthy();
}
