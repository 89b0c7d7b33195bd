//! On a whole node, and on several: a group's life, what is refused, who waits for news, whose session ends.

mod members;
mod moves;
mod offsets;
mod people;
mod refusals;
mod scale;
mod time;

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
    let request = CommitOffsets { group: group(), member: by, number: 0, offsets };
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
