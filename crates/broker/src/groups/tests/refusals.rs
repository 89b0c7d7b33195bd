//! What is refused before, or instead of, a change.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_refused() {
    let node = with_topic(1).await;
    let with = |change: fn(&mut Subscription)| {
        let mut heartbeat = join("a", &["orders"]);
        change(heartbeat.subscription.as_mut().unwrap());
        heartbeat
    };
    for (bad, expected) in [
        (with(|s| s.topics.clear()), Reason::InvalidArgument),
        (with(|s| s.pattern = "(".to_owned()), Reason::InvalidArgument),
        (with(|s| s.pattern = r"(\w{200}){200}".to_owned()), Reason::InvalidArgument),
        (with(|s| s.assignor = "sticky".to_owned()), Reason::UnsupportedAssignor),
        (
            with(|s| s.topics = (0..1001).map(|n| TopicName::new(&format!("t{n}")).unwrap()).collect()),
            Reason::InvalidArgument,
        ),
        (beat("a", 0, SOON), Reason::InvalidArgument),
        (beat("a", 3, SOON), Reason::UnknownMemberId),
    ] {
        assert_eq!(reason(send(&node, bad).await), expected);
    }
    let epoch = send(&node, join("a", &["orders"])).await.unwrap().member_epoch;
    assert_eq!(reason(send(&node, beat("a", epoch + 7, SOON)).await), Reason::FencedMemberEpoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_has_no_more_members_than_it_may() {
    let mut config = config();
    config.groups.members_max = 2;
    let node = Node::start(config).await;
    for id in ["a", "b"] {
        send(&node, join(id, &["orders"])).await.unwrap();
    }
    assert_eq!(reason(send(&node, join("c", &["orders"])).await), Reason::GroupMaxSizeReached);
    let shard = node.broker.coordinator(&group()).unwrap();
    let timer = memory::Timer::Session((shard.id(), group(), member("c")));
    assert!(!node.broker.groups.memory.is_armed(&timer), "nothing is remembered of it");
}
