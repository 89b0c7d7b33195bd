//! One whole life of a group over the contract, and what the contract refuses.

mod refusals;

use super::*;
use v1::groups_client::GroupsClient;
use v1::heartbeat_request::{Leave, Subscription};

type Client = GroupsClient<Channel>;

fn beat(member_epoch: i64, max_wait_ms: i32) -> v1::HeartbeatRequest {
    v1::HeartbeatRequest {
        group_id: "g".to_owned(),
        member_id: "m".to_owned(),
        member_epoch,
        max_wait_ms,
        ..Default::default()
    }
}

fn join() -> v1::HeartbeatRequest {
    let subscription = Subscription { topics: vec!["t".to_owned()], ..Default::default() };
    v1::HeartbeatRequest { subscription: Some(subscription), ..beat(0, 0) }
}

fn offset(committed_offset: i64) -> v1::OffsetCommit {
    v1::OffsetCommit { topic: "t".to_owned(), committed_offset, ..Default::default() }
}

fn by(member_epoch: i64, offsets: Vec<v1::OffsetCommit>) -> v1::CommitOffsetsRequest {
    let (group_id, member_id) = ("g".to_owned(), "m".to_owned());
    v1::CommitOffsetsRequest { group_id, member_id, member_epoch, offsets, commit_number: 0 }
}

/// Code and reason of a refused call, and what to do about it.
fn told(status: &tonic::Status) -> (Code, String, String) {
    let details = status.get_error_details();
    let info = details.error_info().expect("every refusal says why");
    (status.code(), info.reason.clone(), info.metadata.get("action").cloned().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_lives_over_the_contract() {
    let dev = dev().await;
    create(&dev.channel, "t", 2).await;
    produce(&dev.channel, vec![request(1, "t", 0, &["a", "b", "c"])]).await;
    let mut groups: Client = GroupsClient::new(dev.channel.clone());
    let watch = v1::WatchEventsRequest { kinds: vec!["GROUP_REBALANCE".to_owned()], recent: 10 };
    let mut events = ClusterClient::new(dev.channel.clone()).watch_events(watch).await.unwrap().into_inner();

    let joined = groups.heartbeat(join()).await.unwrap().into_inner();
    let assignment = joined.assignment.unwrap();
    assert_eq!(assignment.entries.len(), 2);
    assert!(assignment.entries.iter().all(|e| e.leader.as_ref().is_some_and(|l| l.node_id == 1)));
    assert!(assignment.entries.iter().all(|e| e.committed_offset.is_none() && e.topic_id.len() == 16));
    assert_eq!(joined.session_timeout.unwrap().seconds, 45);
    let event = events.message().await.unwrap().unwrap();
    assert_eq!((event.attributes["cause"].as_str(), event.attributes["group"].as_str()), ("joined", "g"));

    let epoch = joined.member_epoch;
    let held = groups.heartbeat(beat(epoch, 50)).await.unwrap().into_inner();
    assert_eq!(held.assignment, None);
    let committed =
        groups.commit_offsets(by(epoch, vec![offset(2), v1::OffsetCommit { partition: 9, ..offset(0) }]));
    let errors = committed.await.unwrap().into_inner().errors;
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].error.as_ref().unwrap().reason, v1::ErrorReason::UnknownTopicOrPartition as i32);
    let fetch = v1::FetchOffsetsRequest { group_id: "g".to_owned(), ..Default::default() };
    let offsets = groups.fetch_offsets(fetch).await.unwrap().into_inner().offsets;
    assert_eq!(offsets.iter().map(|o| o.committed_offset).collect::<Vec<_>>(), [2]);

    let group = v1::GetGroupRequest { group_id: "g".to_owned() };
    let group = groups.get_group(group).await.unwrap().into_inner();
    assert_eq!((group.state, group.lag, group.member_count), (v1::group::State::Stable as i32, Some(1), 1));
    let seek = v1::SeekGroupRequest {
        group_id: "g".to_owned(),
        to: Some(v1::seek_group_request::To::ShiftBy(-100)),
        partitions: vec![v1::TopicPartition { topic: "t".to_owned(), partition: 0 }],
        ..Default::default()
    };
    let moved = groups.seek_group(seek).await.unwrap().into_inner().moves.remove(0);
    assert_eq!((moved.from_offset, moved.to_offset, moved.clamped_from), (2, 0, Some(-98)));
    let moved = groups.heartbeat(beat(epoch, 5000)).await.unwrap().into_inner().assignment.unwrap();
    assert_eq!(moved.entries[0].committed_offset, Some(0));

    let list = v1::ListGroupsRequest { filter: "state=STABLE lag>2".to_owned(), ..Default::default() };
    assert_eq!(groups.list_groups(list).await.unwrap().into_inner().groups.len(), 1);
    let leave = v1::HeartbeatRequest { leave: Some(Leave::Forever as i32), ..beat(epoch, 0) };
    groups.heartbeat(leave).await.unwrap();
    let explain = v1::ExplainGroupRequest { group_id: "g".to_owned() };
    let findings = groups.explain_group(explain).await.unwrap().into_inner().findings;
    assert_eq!(findings.iter().map(|f| f.cause.as_str()).collect::<Vec<_>>(), ["NO_MEMBERS"]);
    let delete = v1::DeleteGroupRequest { group_id: "g".to_owned(), force: false };
    groups.delete_group(delete.clone()).await.unwrap();
    let gone = told(&groups.delete_group(delete).await.unwrap_err());
    assert_eq!(gone, (Code::NotFound, "NOT_FOUND".to_owned(), "FAIL".to_owned()));
    dev.node.stop().await;
}
