//! Sessions and revocations that end, and leaders that begin.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_and_its_partitions_go_on() {
    let mut config = config();
    config.groups.session_timeout = Duration::from_millis(600);
    config.groups.heartbeat_interval = Duration::from_millis(100);
    let node = Node::start(config).await;
    node.topic("orders", 4, TopicConfig::default()).await;
    let a = send(&node, join("a", &["orders"])).await.unwrap();
    send(&node, join("b", &["orders"])).await.unwrap();
    // It never gives anything up and is not heard of again; b lives on.
    let mut epoch = 2;
    let got = async {
        loop {
            let answer = send(&node, beat("b", epoch, SOON)).await.unwrap();
            epoch = answer.member_epoch;
            if answer.assignment.is_some_and(|assignment| assignment.entries.len() == 4) {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, got).await.expect("b gets everything");
    assert_eq!(reason(send(&node, beat("a", a.member_epoch, SOON)).await), Reason::UnknownMemberId);
    let late = commit(&node, Some(("a", a.member_epoch)), vec![offset("orders", 0, 0)]).await;
    assert_eq!(late, [Reason::UnknownMemberId]);
    let (events, _) = node.broker.observer.events.after(0);
    let causes: Vec<&str> = events
        .iter()
        .flat_map(|event| &event.attributes)
        .filter(|(key, _)| key == "cause")
        .map(|(_, cause)| cause.as_str())
        .collect();
    assert!(causes.contains(&"session_expired"), "{causes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_give_partitions_up_in_time_is_out() {
    let mut config = config();
    config.groups.rebalance_timeout_max = Duration::from_millis(200);
    let node = Node::start(config).await;
    node.topic("orders", 2, TopicConfig::default()).await;
    let a = send(&node, join("a", &["orders"])).await.unwrap();
    let b = send(&node, join("b", &["orders"])).await.unwrap();
    let told = send(&node, beat("a", a.member_epoch, SOON)).await.unwrap();
    assert_eq!(owned(&told).len(), 1);
    // It lives, but it never acknowledges.
    let fenced = send(&node, beat("a", told.member_epoch, SOON)).await;
    assert_eq!(reason(fenced), Reason::UnknownMemberId);
    let b = send(&node, beat("b", b.member_epoch, SOON)).await.unwrap();
    assert_eq!(owned(&b).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_grants_a_full_session() {
    let node = with_topic(2).await;
    let a = send(&node, join("a", &["orders"])).await.unwrap();
    let shard = node.broker.coordinator(&group()).unwrap();
    let place = (shard.id(), group(), member("a"));
    let timer = memory::Timer::Session(place.clone());
    let session = node.broker.config.groups.session_timeout;
    // What the leader remembers goes with its term.
    node.broker.groups.memory.end(shard.id());
    assert!(!node.broker.groups.memory.is_armed(&timer));
    let now: Monotonic = node.broker.clock.monotonic();
    node.broker.notice_coordinators();
    assert!(node.broker.groups.memory.due(now.plus(session * 9 / 10)).is_empty());
    let due = node.broker.groups.memory.due(now.plus(session + SOON));
    assert!(due.contains(&timer), "{due:?}");
    let told = send(&node, beat("a", a.member_epoch, SOON)).await.unwrap();
    assert_eq!(owned(&told).len(), 2, "a new leader tells everything once");
}
