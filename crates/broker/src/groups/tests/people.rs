//! What people ask and change.

use super::*;
use flotilla_types::Clock;

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_listed_described_explained_and_deleted() {
    let node = with_topic(2).await;
    let topic = TopicName::new("orders").unwrap();
    node.produce(batch(&topic, &["x", "y", "z"], None)).await.unwrap();
    for name in ["b.1", "a.1", "c.1"] {
        let request = CommitOffsets {
            group: GroupId::new(name).unwrap(),
            member: None,
            number: 0,
            offsets: vec![offset("orders", 0, if name == "c.1" { 3 } else { 1 })],
        };
        assert_eq!(node.broker.commit_offsets(&context(), request).await.unwrap(), []);
    }
    let list = |filter: &str, page_token: &str| ListGroups {
        filter: filter.to_owned(),
        page_size: 2,
        page_token: page_token.to_owned(),
    };
    let names = |page: &GroupPage| page.groups.iter().map(|g| g.id.to_string()).collect::<Vec<_>>();
    let first = node.broker.list_groups(&context(), list("", "")).await.unwrap();
    assert_eq!(names(&first), ["a.1", "b.1"]);
    let second = node.broker.list_groups(&context(), list("", &first.next_page_token)).await.unwrap();
    assert_eq!((names(&second), second.next_page_token.as_str()), (vec!["c.1".to_owned()], ""));
    let behind =
        node.broker.list_groups(&context(), list("lag>1 state=EMPTY topic=orders", "")).await.unwrap();
    assert_eq!((names(&behind), behind.groups[0].lag), (vec!["a.1".to_owned(), "b.1".to_owned()], Some(2)));
    assert_eq!(reason(node.broker.list_groups(&context(), list("lag=1", "")).await), Reason::InvalidArgument);

    let id = GroupId::new("a.1").unwrap();
    let described = node.broker.get_group(&context(), id.clone()).await.unwrap();
    let position = &described.positions[0];
    assert_eq!((position.committed, position.end, position.lag), (Some(1), Some(3), Some(2)));
    assert!(position.time_lag.is_some());
    let causes = |findings: Vec<Finding>| findings.into_iter().map(|f| f.cause).collect::<Vec<_>>();
    let found = node.broker.explain_group(&context(), id.clone()).await.unwrap();
    assert_eq!(causes(found), [cause::NO_MEMBERS]);
    let other = Heartbeat { group: id.clone(), ..join("m", &["nothing"]) };
    send(&node, other).await.unwrap();
    let found = causes(node.broker.explain_group(&context(), id.clone()).await.unwrap());
    assert_eq!(found, [cause::NO_TOPIC, cause::NOT_SUBSCRIBED]);

    assert_eq!(reason(node.broker.delete_group(&context(), id.clone(), false).await), Reason::NonEmptyGroup);
    node.broker.delete_group(&context(), id.clone(), true).await.unwrap();
    assert_eq!(reason(node.broker.get_group(&context(), id.clone()).await), Reason::NotFound);
    assert_eq!(reason(node.broker.delete_group(&context(), id, false).await), Reason::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_paused_shown_so_and_goes_on() {
    let node = with_topic(1).await;
    let until = |fields: &[&str], paused_until| UpdateGroup {
        group: group(),
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        paused_until,
    };
    let update = async |asked| node.broker.update_group(&context(), asked).await;
    let later = node.clock.wall() + 60_000;
    let pause = until(&["paused_until"], Some(later));
    assert_eq!(reason(update(pause.clone()).await), Reason::NotFound);
    send(&node, join("a", &["orders"])).await.unwrap();
    let before = node.broker.get_group(&context(), group()).await.unwrap();
    let paused = update(pause.clone()).await.unwrap();
    assert_eq!((paused.paused_until, paused.member_count), (Some(later), 1));
    assert_eq!(paused.group_epoch, before.group_epoch, "nobody's partitions move");
    let found = node.broker.explain_group(&context(), group()).await.unwrap();
    assert_eq!(found[0].cause, cause::PAUSED);
    let nothing = send(&node, beat("a", 1, SOON)).await.unwrap();
    assert_eq!((owned(&nothing), nothing.member_epoch), (Vec::new(), 1));
    assert_eq!(
        commit(&node, Some(("a", 1)), vec![offset("orders", 0, 0)]).await,
        [],
        "what it had read counts"
    );
    let drained = Heartbeat { owned: Some(Vec::new()), ..beat("a", 1, Duration::from_millis(2)) };
    assert_eq!(send(&node, drained).await.unwrap().assignment, None, "it knows");
    node.clock.advance(Duration::from_secs(61));
    update(pause).await.expect("what was set is right when it is sent again");
    assert_eq!(node.broker.explain_group(&context(), group()).await.unwrap(), []);
    assert_eq!(
        owned(&send(&node, beat("a", 1, SOON)).await.unwrap()).len(),
        1,
        "it goes on, in the same epoch"
    );
    assert_eq!(update(until(&["paused_until"], None)).await.unwrap().paused_until, None);
    for (bad, expected) in [
        (until(&[], Some(later * 2)), Reason::InvalidArgument),
        (until(&["paused_until", "state"], Some(later * 2)), Reason::InvalidArgument),
        (until(&["queue_policy"], None), Reason::UnsupportedVersion),
        (until(&["paused_until"], Some(later)), Reason::InvalidArgument),
        (until(&["paused_until"], Some(-1)), Reason::InvalidArgument),
        (until(&["paused_until"], Some(i64::MAX)), Reason::InvalidArgument),
    ] {
        assert_eq!(reason(update(bad.clone()).await), expected, "{bad:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebalance_is_told_with_all_that_it_came_to() {
    let node = with_topic(4).await;
    two_members(&node).await;
    let told = |kind: &str| {
        let (events, _) = node.broker.observer.events.after(0);
        let of_kind = events.iter().filter(|event| event.kind == kind);
        of_kind.map(|event| event.attributes.iter().cloned().collect::<BTreeMap<_, _>>()).collect::<Vec<_>>()
    };
    let stable = crate::events::kind::GROUP_STABLE;
    let settled = async {
        while told(stable).len() < 2 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, settled).await.expect("both rebalances are told");
    let ended = told(stable).pop().unwrap();
    let facts = ["group", "cause", "member", "members", "partitions_moved", "steps", "state"];
    assert_eq!(facts.map(|fact| ended[fact].as_str()), ["g", "joined", "b", "2", "2", "2", "STABLE"]);
    assert!(ended["duration_ms"].parse::<u64>().unwrap() < 10_000);
    assert_eq!(ended["moved"].matches(" a>b").count(), 2, "{}", ended["moved"]);
    let steps: Vec<_> =
        told(crate::events::kind::GROUP_REBALANCE).iter().map(|e| e["cause"].clone()).collect();
    assert_eq!(steps, ["joined", "joined", "acknowledged"]);
    let leaders = told(crate::events::kind::LEADER_CHANGE);
    let of_orders = leaders.iter().filter(|event| event.get("topic").is_some_and(|topic| topic == "orders"));
    assert_eq!(of_orders.count(), 4);
    assert!(leaders.iter().any(|event| event["role"] == "coordinator" && event["leader"] == "1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_measured() {
    let node = with_topic(1).await;
    let topic = TopicName::new("orders").unwrap();
    node.produce(batch(&topic, &["x", "y", "z"], None)).await.unwrap();
    let a = send(&node, join("a", &["orders"])).await.unwrap();
    assert_eq!(commit(&node, Some(("a", a.member_epoch)), vec![offset("orders", 0, 1)]).await, []);
    node.broker.measure_groups().await;
    let metrics = &node.broker.metrics;
    let label = crate::metrics::GroupLabel { group: "g".to_owned() };
    let state = |state| metrics.groups.get_or_create(&crate::metrics::StateLabel { state }).get();
    assert_eq!((state("stable"), state("empty"), metrics.group_members.get()), (1, 0, 1));
    assert_eq!(metrics.group_lag.get_or_create(&label).get(), 2);
    assert_eq!(metrics.group_epoch.get_or_create(&label).get(), 1);
    assert_eq!(metrics.group_size.get_or_create(&label).get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn held_members_hear_of_a_pause_and_of_its_end_at_once() {
    let node = Arc::new(with_topic(1).await);
    let a = send(&node, join("a", &["orders"])).await.unwrap();
    let hold = || {
        let (node, epoch) = (node.clone(), a.member_epoch);
        let mut held = tokio::task::JoinSet::new();
        held.spawn(async move { owned(&send(&node, beat("a", epoch, SOON)).await.unwrap()).len() });
        held
    };
    let is_held = async || {
        while node.broker.metrics.group_heartbeats_held.get() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let pause = |ms: i64| UpdateGroup {
        group: group(),
        fields: vec!["paused_until".to_owned()],
        paused_until: Some(node.clock.wall() + ms),
    };
    let mut held = hold();
    is_held().await;
    node.broker.update_group(&context(), pause(60_000)).await.unwrap();
    assert_eq!(held.join_next().await.unwrap().unwrap(), 0);
    let mut held = hold();
    is_held().await;
    let begun = node.broker.clock.monotonic();
    node.broker.update_group(&context(), pause(100)).await.unwrap();
    assert_eq!(held.join_next().await.unwrap().unwrap(), 1);
    assert!(node.broker.clock.monotonic().since(begun) < Duration::from_secs(5));
}
