//! Members: they join, are held, hear, acknowledge, leave.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn members_join_share_acknowledge_and_leave() {
    let node = with_topic(4).await;
    let (a, b) = two_members(&node).await;
    let described = node.broker.get_group(&context(), group()).await.unwrap();
    assert_eq!(
        (described.state, described.members.len(), described.positions.len()),
        (GroupState::Stable, 2, 4)
    );
    assert!(described.members.iter().all(|m| m.state == MemberState::Stable && m.assigned == m.target));
    let leave = Heartbeat { leave: Some(Leave::Forever), ..beat("b", b, Duration::ZERO) };
    send(&node, leave.clone()).await.unwrap();
    send(&node, leave).await.expect("who is out and wants to be has what he wants");
    let all = send(&node, beat("a", a, SOON)).await.unwrap();
    assert_eq!(owned(&all).len(), 4);
    assert_eq!(reason(send(&node, beat("b", b, Duration::ZERO)).await), Reason::UnknownMemberId);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_heartbeat_is_answered_at_once_when_the_assignment_changes() {
    let node = Arc::new(with_topic(4).await);
    let first = send(&node, join("a", &["orders"])).await.unwrap();
    let (held_by, epoch) = (node.clone(), first.member_epoch);
    let mut held = tokio::task::JoinSet::new();
    held.spawn(async move { send(&held_by, beat("a", epoch, SOON)).await });
    while node.broker.metrics.group_heartbeats_held.get() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let before = node.broker.clock.monotonic();
    send(&node, join("b", &["orders"])).await.unwrap();
    let told = held.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(owned(&told).len(), 2);
    assert!(node.broker.clock.monotonic().since(before) < Duration::from_secs(5));
    assert_eq!(node.broker.metrics.group_heartbeats_held.get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_that_changes_nothing_writes_nothing() {
    let node = with_topic(1).await;
    let first = send(&node, join("a", &["orders"])).await.unwrap();
    let shard = node.broker.coordinator(&group()).unwrap();
    let before = shard.progress().applied;
    for _ in 0..10 {
        let answer = send(&node, beat("a", first.member_epoch, Duration::from_millis(2))).await.unwrap();
        assert_eq!(answer.assignment, None, "it knows");
    }
    let full = Heartbeat {
        subscription: Some(to(&["orders"])),
        owned: Some(owned(&first)),
        ..beat("a", first.member_epoch, SOON)
    };
    assert_eq!(
        owned(&send(&node, full).await.unwrap()).len(),
        1,
        "whoever asks for everything gets it at once"
    );
    assert_eq!(shard.progress().applied, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn static_members_come_back_without_a_rebalance() {
    let node = with_topic(4).await;
    let instance = |id: &str| InstanceId::new(id).ok();
    let first = Heartbeat { instance: instance("i1"), ..join("a", &["orders"]) };
    let a = send(&node, first).await.unwrap();
    let second = Heartbeat { instance: instance("i1"), ..join("a2", &["orders"]) };
    assert_eq!(reason(send(&node, second.clone()).await), Reason::UnreleasedInstanceId);
    let away = Heartbeat {
        instance: instance("i1"),
        leave: Some(Leave::Temporarily),
        ..beat("a", a.member_epoch, Duration::ZERO)
    };
    send(&node, away).await.unwrap();
    let back = send(&node, second).await.unwrap();
    assert_eq!(owned(&back), owned(&a));
    let without = Heartbeat {
        leave: Some(Leave::Temporarily),
        subscription: Some(to(&["orders"])),
        ..beat("b", 1, SOON)
    };
    assert_eq!(reason(send(&node, without).await), Reason::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_grow_or_are_made_come_to_the_group() {
    let node = with_topic(1).await;
    let pattern = Subscription { pattern: "orders|audit.*".to_owned(), ..Subscription::default() };
    let joined = Heartbeat { subscription: Some(pattern), ..beat("a", 0, Duration::ZERO) };
    let mut answer = send(&node, joined).await.unwrap();
    assert_eq!(owned(&answer).len(), 1);
    node.topic("audit.log", 2, TopicConfig::default()).await;
    answer = send(&node, beat("a", answer.member_epoch, SOON)).await.unwrap();
    assert_eq!(owned(&answer).len(), 3);
    let grow = UpdateTopic {
        name: TopicName::new("orders").unwrap(),
        id: None,
        fields: vec!["partition_count".to_owned()],
        config: TopicConfig::default(),
        labels: BTreeMap::new(),
        partition_count: 3,
        validate_only: false,
    };
    node.broker.update_topic(&context(), grow).await.unwrap();
    answer = send(&node, beat("a", answer.member_epoch, SOON)).await.unwrap();
    assert_eq!(owned(&answer).len(), 5);
    node.broker.delete_topic(&context(), &TopicName::new("audit.log").unwrap(), None).await.unwrap();
    answer = send(&node, beat("a", answer.member_epoch, SOON)).await.unwrap();
    assert_eq!(owned(&answer).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seek_whose_answer_was_lost_is_told_again() {
    let node = with_topic(2).await;
    let topic = TopicName::new("orders").unwrap();
    node.produce(batch(&topic, &["x", "y", "z"], None)).await.unwrap();
    let a = send(&node, join("a", &["orders"])).await.unwrap();
    assert_eq!(commit(&node, Some(("a", a.member_epoch)), vec![offset("orders", 0, 3)]).await, []);
    let seek = Seek { group: group(), partitions: Vec::new(), to: SeekTo::Earliest, validate_only: false };
    node.broker.seek_group(&context(), seek).await.unwrap();
    let lost = send(&node, beat("a", a.member_epoch, SOON)).await.unwrap();
    assert!(lost.member_epoch > a.member_epoch && lost.assignment.is_some());
    let position = |answer: HeartbeatAnswer| {
        let entry = answer.assignment.expect("all of it, again").entries.remove(0);
        (entry.committed, entry.assignment_epoch, answer.member_epoch)
    };
    let expected = (Some(0), lost.member_epoch, lost.member_epoch);
    // The member has not heard, so it says its old epoch; what it owns is the same.
    assert_eq!(position(send(&node, beat("a", a.member_epoch, SOON)).await.unwrap()), expected);
    let full = Heartbeat { owned: Some(owned(&a)), ..beat("a", a.member_epoch, SOON) };
    assert_eq!(position(send(&node, full).await.unwrap()), expected);
    let full = Heartbeat {
        subscription: Some(to(&["orders"])),
        owned: Some(owned(&a)),
        ..beat("a", lost.member_epoch, SOON)
    };
    assert_eq!(position(send(&node, full).await.unwrap()), expected);
    let known = send(&node, beat("a", lost.member_epoch, Duration::from_millis(2))).await.unwrap();
    assert_eq!(known.assignment, None, "it knows");
    let same = Heartbeat { owned: Some(owned(&a)), ..beat("a", lost.member_epoch, Duration::from_millis(2)) };
    assert_eq!(send(&node, same).await.unwrap().assignment, None, "it owns what it is to own");
    for other in [Vec::new(), vec![(TopicName::new("gone").unwrap(), PartitionId(0))]] {
        let other = Heartbeat { owned: Some(other), ..beat("a", lost.member_epoch, SOON) };
        assert_eq!(position(send(&node, other).await.unwrap()), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_may_say_any_epoch_it_ever_had_and_leave_twice() {
    let node = with_topic(2).await;
    let a = send(&node, join("a", &["orders"])).await.unwrap();
    for _ in 0..2 {
        send(&node, join("b", &["orders"])).await.unwrap();
    }
    let leave = |id: &str, epoch| Heartbeat { leave: Some(Leave::Forever), ..beat(id, epoch, SOON) };
    assert_eq!(reason(send(&node, leave("a", 999)).await), Reason::FencedMemberEpoch);
    for _ in 0..2 {
        let gone = send(&node, leave("a", a.member_epoch)).await.unwrap();
        assert_eq!((gone.member_epoch, gone.assignment), (0, None));
    }
    send(&node, leave("never", 3)).await.unwrap();
    send(&node, leave("b", 0)).await.unwrap();
    let described = node.broker.get_group(&context(), group()).await.unwrap();
    assert_eq!(described.state, GroupState::Empty);
    let other = GroupId::new("other").unwrap();
    send(&node, Heartbeat { group: other.clone(), ..leave("a", 1) }).await.unwrap();
    assert_eq!(reason(node.broker.get_group(&context(), other).await), Reason::NotFound, "nothing is made");
}

/// A topic that nobody wants any more is forgotten by the coordinator while a member is still about to give it up: what
/// the member says it owns counts all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_wants_any_more_is_not_given_on_before_it_is_given_up() {
    let node = with_topic(2).await;
    node.topic("bills", 1, TopicConfig::default()).await;
    let a = send(&node, join("a", &["orders"])).await.unwrap();
    let mine = owned(&a);
    assert_eq!(mine.len(), 2);
    let wish = Heartbeat { subscription: Some(to(&["bills"])), ..beat("a", a.member_epoch, Duration::ZERO) };
    let told = send(&node, wish).await.unwrap();
    assert!(owned(&told).is_empty(), "first it has to give up what it had");
    let not_yet = Heartbeat { owned: Some(mine), ..beat("a", told.member_epoch, Duration::ZERO) };
    send(&node, not_yet).await.unwrap();
    let b = send(&node, join("b", &["orders"])).await.unwrap();
    assert!(owned(&b).is_empty(), "a has not given it up");
    let given_up = Heartbeat { owned: Some(Vec::new()), ..beat("a", told.member_epoch, Duration::ZERO) };
    send(&node, given_up).await.unwrap();
    let b = send(&node, beat("b", b.member_epoch, SOON)).await.unwrap();
    assert_eq!(owned(&b).len(), 2);
}
