//! Members whose coordinator goes, stands still or moves, while they are held and while they act.

use super::*;
use crate::broker::Broker;
use crate::testing::{Cluster, create};
use flotilla_types::{Action, NodeId};
use tokio::task::JoinSet;

/// Three nodes, a topic, a group of one member; the node that coordinates it, one that does not, and the member.
async fn with_member() -> (Cluster, NodeId, NodeId, HeartbeatAnswer) {
    let cluster = Cluster::start(3, |_| ()).await;
    let coordinator = cluster.coordinator(&group()).await;
    let by = cluster.another(&group()).await;
    let topic = crate::admin::CreateTopic { partition_count: 4, replication_factor: 3, ..create("orders") };
    cluster.broker(by).create_topic(&context(), topic).await.unwrap();
    let joined = cluster.broker(by).heartbeat(&context(), join("a", &["orders"])).await.unwrap();
    assert_eq!(owned(&joined).len(), 4);
    (cluster, coordinator, by, joined)
}

type Answered = (Result<HeartbeatAnswer, Error>, Duration);

/// A heartbeat that is held, and how long it took in the end.
async fn held(cluster: &Cluster, by: NodeId, coordinator: NodeId, epoch: u64) -> JoinSet<Answered> {
    let broker = cluster.broker(by).clone();
    let mut held = JoinSet::new();
    held.spawn(async move {
        let begun = broker.clock.monotonic();
        let answer = broker.heartbeat(&context(), beat("a", epoch, Duration::from_secs(14))).await;
        (answer, broker.clock.monotonic().since(begun))
    });
    let holds = |broker: &Arc<Broker>| broker.metrics.group_heartbeats_held.get() == 1;
    cluster.until("a held heartbeat", |cluster| holds(cluster.broker(coordinator))).await;
    held
}

/// Heartbeats with the same epoch, until one is answered: the member owns what it owned, in the same epoch.
async fn goes_on(cluster: &Cluster, by: NodeId, before: &HeartbeatAnswer) {
    let again = async {
        loop {
            match cluster.broker(by).heartbeat(&context(), beat("a", before.member_epoch, SOON)).await {
                Ok(answer) => return answer,
                Err(error) => assert_ne!(error.describe().action, Action::Rejoin, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(30), again).await.expect("an answer");
    assert_eq!((owned(&answer), answer.member_epoch), (owned(before), before.member_epoch));
    let described = cluster.broker(by).get_group(&context(), group()).await.unwrap();
    assert_eq!((described.group_epoch, described.state), (before.member_epoch, GroupState::Stable));
}

fn assert_retriable(answer: &Result<HeartbeatAnswer, Error>) {
    let failure = answer.as_ref().unwrap_err().describe();
    let reasons = [Reason::NotCoordinator, Reason::CoordinatorLoading];
    assert!(reasons.contains(&failure.reason) && !failure.outcome_unknown, "{failure}");
    assert!([Action::Retry, Action::RefreshMetadata].contains(&failure.action), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_coordinators_node_dies_and_nothing_is_rebalanced() {
    let (mut cluster, coordinator, by, joined) = with_member().await;
    let mut held = held(&cluster, by, coordinator, joined.member_epoch).await;
    cluster.kill(coordinator);
    let (answer, took) = held.join_next().await.unwrap().unwrap();
    println!("answered {took:?} after it began to wait");
    assert_retriable(&answer);
    assert!(took < Duration::from_secs(10), "{took:?}");
    goes_on(&cluster, by, &joined).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_stands_still_keeps_nobody_waiting_once_another_leads() {
    let (cluster, coordinator, by, joined) = with_member().await;
    let mut held = held(&cluster, by, coordinator, joined.member_epoch).await;
    cluster.silence(coordinator);
    let (answer, took) = held.join_next().await.unwrap().unwrap();
    println!("answered {took:?} after it began to wait");
    assert_retriable(&answer);
    assert!(took < Duration::from_secs(12), "{took:?}");
    goes_on(&cluster, by, &joined).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_moves_says_so_to_whom_it_holds() {
    let (cluster, coordinator, by, joined) = with_member().await;
    let mut far = held(&cluster, by, coordinator, joined.member_epoch).await;
    let shard = cluster.broker(coordinator).coordinator(&group()).unwrap();
    shard.transfer_leadership(by).await.unwrap();
    let (answer, took) = far.join_next().await.unwrap().unwrap();
    assert_retriable(&answer);
    assert!(took < Duration::from_secs(10), "{took:?}");
    goes_on(&cluster, by, &joined).await;
    // Now it is held where it arrives.
    let mut near = held(&cluster, by, by, joined.member_epoch).await;
    cluster.broker(by).coordinator(&group()).unwrap().transfer_leadership(coordinator).await.unwrap();
    let (answer, took) = near.join_next().await.unwrap().unwrap();
    assert_retriable(&answer);
    assert!(took < Duration::from_secs(10), "{took:?}");
    goes_on(&cluster, by, &joined).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_lets_go_of_whom_it_passed_on() {
    let (cluster, coordinator, by, joined) = with_member().await;
    let mut held = held(&cluster, by, coordinator, joined.member_epoch).await;
    cluster.broker(by).draining.send_replace(true);
    let (answer, took) = held.join_next().await.unwrap().unwrap();
    assert_retriable(&answer);
    assert!(took < Duration::from_secs(10), "{took:?}");
    let idle = |cluster: &Cluster| cluster.broker(coordinator).metrics.group_heartbeats_held.get() == 0;
    cluster.until("nothing held", idle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_asked_for_again_where_that_does_no_harm() {
    let (cluster, _, by, joined) = with_member().await;
    let broker = cluster.broker(by);
    cluster.lose_next_answer();
    let again = Heartbeat { subscription: Some(to(&["orders"])), ..beat("a", joined.member_epoch, SOON) };
    assert_eq!(owned(&broker.heartbeat(&context(), again).await.unwrap()), owned(&joined));
    cluster.lose_next_answer();
    let b = broker.heartbeat(&context(), join("b", &["orders"])).await.unwrap();
    assert!(b.assignment.is_some(), "it joined twice and is a member once");
    let described = broker.get_group(&context(), group()).await.unwrap();
    assert_eq!(described.member_count, 2);
    // An offset commit may be followed by another: whether it was carried out must be said.
    cluster.lose_next_answer();
    let asked = CommitOffsets {
        group: group(),
        member: Some((member("a"), joined.member_epoch)),
        number: 1,
        offsets: vec![offset("orders", 0, 0)],
    };
    let lost = broker.commit_offsets(&context(), asked).await.unwrap_err().describe();
    assert_eq!((lost.reason, lost.outcome_unknown), (Reason::RequestTimedOut, true));
    let fetch = FetchOffsets { group: group(), partitions: Vec::new(), member_epoch: None };
    assert_eq!(broker.fetch_offsets(&context(), fetch).await.unwrap().offsets.len(), 1, "it was");
    cluster.lose_next_answer();
    let leave = Heartbeat { leave: Some(Leave::Forever), ..beat("b", b.member_epoch, SOON) };
    broker.heartbeat(&context(), leave).await.unwrap();
    assert_eq!(broker.get_group(&context(), group()).await.unwrap().member_count, 1);
}
