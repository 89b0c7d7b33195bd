//! On a whole node: a group's life, what is refused, who waits for news, whose session ends.

use super::*;
use crate::admin::UpdateTopic;
use crate::testing::{Node, batch, config, context};
use flotilla_types::error::Describe;
use flotilla_types::topic::TopicConfig;
use flotilla_types::{GroupId, InstanceId, MemberId, Monotonic, PartitionId, Reason, TopicName};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

fn group() -> GroupId {
    GroupId::new("g").unwrap()
}

fn member(id: &str) -> MemberId {
    MemberId::new(id).unwrap()
}

/// A heartbeat that says nothing but that it lives.
fn beat(id: &str, epoch: u64, wait: Duration) -> Heartbeat {
    Heartbeat {
        group: group(),
        member: member(id),
        member_epoch: epoch,
        instance: None,
        subscription: None,
        owned: None,
        leave: None,
        max_wait: wait,
        peer: "test".to_owned(),
    }
}

fn to(topics: &[&str]) -> Subscription {
    let topics = topics.iter().map(|topic| TopicName::new(topic).unwrap()).collect();
    Subscription { topics, ..Subscription::default() }
}

fn join(id: &str, topics: &[&str]) -> Heartbeat {
    Heartbeat { subscription: Some(to(topics)), ..beat(id, 0, Duration::ZERO) }
}

fn owned(answer: &HeartbeatAnswer) -> Vec<(TopicName, PartitionId)> {
    let entries = &answer.assignment.as_ref().expect("the answer brings an assignment").entries;
    entries.iter().map(|entry| (entry.topic.clone(), entry.partition)).collect()
}

fn offset(topic: &str, partition: i32, offset: i64) -> OffsetCommit {
    OffsetCommit {
        topic: topic.to_owned(),
        partition,
        offset,
        leader_epoch: None,
        metadata: String::new(),
        topic_id: None,
    }
}

async fn send(node: &Node, heartbeat: Heartbeat) -> Result<HeartbeatAnswer, Error> {
    tokio::time::timeout(SOON, node.broker.heartbeat(&context(), heartbeat)).await.expect("an answer")
}

async fn commit(node: &Node, by: Option<(&str, u64)>, offsets: Vec<OffsetCommit>) -> Vec<Reason> {
    let by = by.map(|(id, epoch)| (member(id), epoch));
    let request = CommitOffsets { group: group(), member: by, offsets };
    match node.broker.commit_offsets(&context(), request).await {
        Ok(failures) => failures.into_iter().map(|failure| failure.failure.reason).collect(),
        Err(error) => vec![error.describe().reason],
    }
}

async fn stored(node: &Node) -> BTreeMap<(String, i32), i64> {
    let fetch = FetchOffsets { group: group(), partitions: Vec::new(), member_epoch: None };
    let fetched = node.broker.fetch_offsets(&context(), fetch).await.unwrap();
    fetched.offsets.into_iter().map(|o| ((o.topic, o.partition), o.offset)).collect()
}

fn reason<T: std::fmt::Debug>(answer: Result<T, Error>) -> Reason {
    answer.unwrap_err().describe().reason
}

async fn with_topic(partitions: u32) -> Node {
    let node = Node::start(config()).await;
    node.topic("orders", partitions, TopicConfig::default()).await;
    node
}

/// Two members, two partitions each, both told.
async fn two_members(node: &Node) -> (u64, u64) {
    let first = send(node, join("a", &["orders"])).await.unwrap();
    assert_eq!((owned(&first).len(), first.member_epoch), (4, 1));
    let b = send(node, join("b", &["orders"])).await.unwrap();
    assert!(owned(&b).is_empty(), "what it is to have is still a's");
    let told = send(node, beat("a", first.member_epoch, SOON)).await.unwrap();
    let keeps = owned(&told);
    assert_eq!(keeps.len(), 2);
    let acknowledged = Heartbeat { owned: Some(keeps), ..beat("a", told.member_epoch, Duration::ZERO) };
    let a = send(node, acknowledged).await.unwrap();
    let b = send(node, beat("b", b.member_epoch, SOON)).await.unwrap();
    assert_eq!(owned(&b).len(), 2);
    (a.member_epoch, b.member_epoch)
}

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
async fn offsets_are_stored_refused_and_read() {
    let node = with_topic(2).await;
    let topic = TopicName::new("orders").unwrap();
    node.produce(batch(&topic, &["x", "y", "z"], None)).await.unwrap();
    let epoch = send(&node, join("a", &["orders"])).await.unwrap().member_epoch;
    let by = Some(("a", epoch));
    assert_eq!(commit(&node, by, vec![offset("orders", 0, 2)]).await, []);
    let many = vec![
        offset("orders", 0, 3),
        offset("orders", 0, 4),
        offset("orders", 0, -1),
        offset("orders", 7, 0),
        offset("nothing", 0, 0),
        offset("a/b", 0, 0),
        OffsetCommit { topic_id: Some(flotilla_types::TopicId(1)), ..offset("orders", 1, 0) },
        OffsetCommit { metadata: "x".repeat(5000), ..offset("orders", 1, 0) },
    ];
    let mut reasons = commit(&node, by, many).await;
    reasons.sort_by_key(|reason| *reason as i32);
    assert_eq!(
        reasons,
        [
            Reason::InvalidArgument,
            Reason::InvalidArgument,
            Reason::InvalidArgument,
            Reason::UnknownTopicOrPartition,
            Reason::UnknownTopicOrPartition,
            Reason::UnknownTopicOrPartition,
            Reason::OffsetOutOfRange,
        ]
    );
    assert_eq!(stored(&node).await, BTreeMap::from([(("orders".to_owned(), 0), 3)]));
    assert_eq!(
        commit(&node, Some(("a", epoch + 1)), vec![offset("orders", 0, 1)]).await,
        [Reason::FencedMemberEpoch]
    );
    assert_eq!(commit(&node, Some(("x", 1)), vec![offset("orders", 0, 1)]).await, [Reason::UnknownMemberId]);
    assert_eq!(commit(&node, None, vec![offset("orders", 0, 1)]).await, [Reason::NonEmptyGroup]);
    let ahead = FetchOffsets { group: group(), partitions: Vec::new(), member_epoch: Some(99) };
    assert_eq!(reason(node.broker.fetch_offsets(&context(), ahead).await), Reason::StaleMemberEpoch);
}

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
async fn positions_are_moved_on_live_groups_within_the_log() {
    let node = with_topic(1).await;
    let topic = TopicName::new("orders").unwrap();
    for _ in 0..5 {
        node.produce(batch(&topic, &["x", "y"], None)).await.unwrap();
    }
    let a = send(&node, join("a", &["orders"])).await.unwrap();
    assert_eq!(commit(&node, Some(("a", a.member_epoch)), vec![offset("orders", 0, 6)]).await, []);
    let seek = |to, validate_only| Seek { group: group(), partitions: Vec::new(), to, validate_only };
    for (to, at, clamped) in [
        (SeekTo::Earliest, 0, None),
        (SeekTo::Latest, 10, None),
        (SeekTo::ShiftBy(-2), 4, None),
        (SeekTo::ShiftBy(100), 10, Some(106)),
        (SeekTo::ShiftBy(-100), 0, Some(-94)),
        (SeekTo::Time(0), 0, None),
        (SeekTo::Time(i64::MAX), 10, None),
        (SeekTo::Offsets(vec![offset("orders", 0, 3)]), 3, None),
    ] {
        let plan = node.broker.seek_group(&context(), seek(to.clone(), true)).await.unwrap();
        let moved = &plan.moves[0];
        assert_eq!((moved.from, moved.to, moved.clamped_from), (Some(6), at, clamped), "{to:?}");
    }
    assert_eq!(stored(&node).await.values().copied().collect::<Vec<_>>(), [6], "a dry run moves nothing");
    node.broker.seek_group(&context(), seek(SeekTo::ShiftBy(-2), false)).await.unwrap();
    let old = commit(&node, Some(("a", a.member_epoch)), vec![offset("orders", 0, 8)]).await;
    assert_eq!(old, [Reason::StaleMemberEpoch], "under the old assignment");
    let told = send(&node, beat("a", a.member_epoch, SOON)).await.unwrap();
    assert_eq!(told.assignment.unwrap().entries[0].committed, Some(4));
    assert_eq!(commit(&node, Some(("a", told.member_epoch)), vec![offset("orders", 0, 8)]).await, []);
    let missing = Seek { group: GroupId::new("none").unwrap(), ..seek(SeekTo::Earliest, false) };
    assert_eq!(reason(node.broker.seek_group(&context(), missing).await), Reason::NotFound);
    let same = seek(SeekTo::LikeGroup(group()), false);
    assert_eq!(reason(node.broker.seek_group(&context(), same).await), Reason::InvalidArgument);
    let like = Seek { group: GroupId::new("other").unwrap(), ..seek(SeekTo::LikeGroup(group()), false) };
    let copied = node.broker.seek_group(&context(), like).await.unwrap();
    assert_eq!((copied.moves[0].from, copied.moves[0].to), (None, 8));
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_listed_described_explained_and_deleted() {
    let node = with_topic(2).await;
    let topic = TopicName::new("orders").unwrap();
    node.produce(batch(&topic, &["x", "y", "z"], None)).await.unwrap();
    for name in ["b.1", "a.1", "c.1"] {
        let request = CommitOffsets {
            group: GroupId::new(name).unwrap(),
            member: None,
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
