//! On a whole node: memory and disk give the same bytes, waiting ends when there is something, and readers
//! outside the log are told where it is.

use super::*;
use crate::offsets::{self, Position, Query};
use crate::testing::{Node, batch, config, context, fetch_request};
use flotilla_types::topic::TopicConfig;
use flotilla_types::{PartitionId, Reason, TopicName};

async fn filled(batches: u64) -> (Node, TopicName) {
    let node = Node::start(config()).await;
    let topic = node.topic("orders", 1, TopicConfig::default()).await;
    for number in 0..batches {
        let value = format!("value {number}");
        node.produce(batch(&topic, &[&value, "and another"], None)).await.unwrap();
    }
    (node, topic)
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_disk_give_the_same() {
    let (node, topic) = filled(40).await;
    let mut offset = 0;
    while offset < 80 {
        let tail = node.fetch(&topic, offset, Duration::ZERO).await;
        assert!(tail.error.is_none() && tail.next_offset == Offset(80), "{tail:?}");
        offset += 7;
    }
    let from_tail = node.fetch(&topic, 3, Duration::ZERO).await;
    wait_until_stored(&node, 80).await;
    node.forget_tail();
    let from_store = node.fetch(&topic, 3, Duration::ZERO).await;
    assert_eq!(from_tail.batches, from_store.batches);
    assert_eq!(from_tail.batches[0].base_offset, Offset(2), "the batch that holds the offset comes whole");
    assert_eq!(from_store.next_offset, Offset(80));
}

async fn wait_until_stored(node: &Node, end: u64) {
    let shard = node.broker.routes().partitions().next().unwrap().2.shard;
    let shard = node.broker.shard(shard).unwrap();
    while shard.stored_to() < Offset(end) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_answers_go_on_where_the_last_ended() {
    let (node, topic) = filled(20).await;
    for in_memory in [true, false] {
        if !in_memory {
            wait_until_stored(&node, 40).await;
            node.forget_tail();
        }
        let (mut offset, mut rounds) = (0, 0);
        while offset < 40 {
            let request = Request { max_bytes: 1, ..fetch_request(&[(&topic, 0, offset)]) };
            let answer = node.broker.fetch(&context(), request).await.unwrap().remove(0);
            assert_eq!(answer.batches.len(), 1, "the first batch comes even if it is larger than asked");
            assert_eq!(answer.batches[0].base_offset, Offset(offset));
            offset = answer.next_offset.get();
            rounds += 1;
        }
        assert_eq!(rounds, 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_reader_wakes_when_there_is_something() {
    let (node, topic) = filled(0).await;
    let waiting = node.fetch(&topic, 0, Duration::from_secs(20));
    let writing = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        node.produce(batch(&topic, &["x"], None)).await.unwrap();
    };
    let begun = node.broker.clock.monotonic();
    let (answer, ()) = tokio::join!(waiting, writing);
    assert_eq!(answer.batches.len(), 1);
    assert!(node.broker.clock.monotonic().since(begun) < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn min_bytes_are_waited_for_but_not_beyond_the_time() {
    let (node, topic) = filled(1).await;
    let request = Request {
        min_bytes: 1 << 20,
        max_wait: Duration::from_millis(100),
        ..fetch_request(&[(&topic, 0, 0)])
    };
    let begun = node.broker.clock.monotonic();
    let asking = context();
    let fetching = node.broker.fetch(&asking, request);
    let writing = node.produce(batch(&topic, &["more"], None));
    let (answer, _) = tokio::join!(fetching, writing);
    assert!(node.broker.clock.monotonic().since(begun) >= Duration::from_millis(100));
    assert_eq!(answer.unwrap()[0].batches.len(), 2, "what came while waiting is in the answer, once");
}

#[tokio::test(flavor = "multi_thread")]
async fn outside_the_log_readers_are_told_where_it_is() {
    let (node, topic) = filled(5).await;
    let answer = node.fetch(&topic, 11, Duration::from_secs(5)).await;
    let failure = answer.error.unwrap();
    assert_eq!(failure.reason, Reason::OffsetOutOfRange);
    assert!(failure.metadata.contains(&("high_watermark", "10".to_owned())), "{failure:?}");
    assert!(failure.metadata.contains(&("log_start_offset", "0".to_owned())));
    let at_end = node.fetch(&topic, 10, Duration::ZERO).await;
    assert!(at_end.error.is_none() && at_end.batches.is_empty() && at_end.next_offset == Offset(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_and_future_leader_epochs_are_fenced() {
    let (node, topic) = filled(1).await;
    let now = node.fetch(&topic, 0, Duration::ZERO).await.leader_epoch;
    let asked = |epoch| {
        let mut request = fetch_request(&[(&topic, 0, 0)]);
        request.partitions[0].leader_epoch = Some(epoch);
        request
    };
    for (epoch, reason) in [
        (Term(now.get() + 1), Some(Reason::UnknownLeaderEpoch)),
        (now, None),
        (Term(now.get() - 1), Some(Reason::FencedLeaderEpoch)),
    ] {
        let answer = node.broker.fetch(&context(), asked(epoch)).await.unwrap().remove(0);
        assert_eq!(answer.error.map(|failure| failure.reason), reason);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_fail_do_not_hold_up_the_others() {
    let (node, topic) = filled(2).await;
    let other = TopicName::new("nothing").unwrap();
    let request = Request {
        max_wait: Duration::from_secs(20),
        ..fetch_request(&[(&other, 0, 0), (&topic, 0, 0), (&topic, 5, 0)])
    };
    let answers = node.broker.fetch(&context(), request).await.unwrap();
    assert_eq!(answers.iter().map(|answer| answer.error.is_some()).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(answers[1].batches.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_ends_the_waiting() {
    let (node, topic) = filled(0).await;
    let waiting = node.fetch(&topic, 0, Duration::from_secs(20));
    let draining = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        node.broker.draining.send_replace(true);
    };
    let both = async { tokio::join!(waiting, draining) };
    tokio::time::timeout(Duration::from_secs(5), both).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_found_by_time_in_memory_and_on_disk() {
    let (node, topic) = filled(3).await;
    node.clock.advance(Duration::from_secs(100));
    let middle = node.broker.clock.wall();
    node.produce(batch(&topic, &["late"], None)).await.unwrap();
    let ask = |position| offsets::Request {
        queries: vec![Query { topic: topic.clone(), partition: PartitionId(0), position }],
        isolation: Isolation::ReadCommitted,
    };
    for in_memory in [true, false] {
        if !in_memory {
            wait_until_stored(&node, 7).await;
            node.forget_tail();
        }
        for (position, offset) in [
            (Position::Earliest, Some(0)),
            (Position::Latest, Some(7)),
            (Position::At(0), Some(0)),
            (Position::At(middle), Some(6)),
            (Position::At(middle + 1_000_000), None),
        ] {
            let found = node.broker.list_offsets(&context(), ask(position)).await.unwrap().remove(0);
            assert!(found.error.is_none(), "{found:?}");
            assert_eq!(found.offset, offset.map(Offset), "{position:?} in memory: {in_memory}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_acknowledged_is_there_after_a_restart() {
    let (node, topic) = filled(25).await;
    let before = node.fetch(&topic, 0, Duration::ZERO).await;
    node.broker.shutdown().await;
    let Node { store, .. } = node;
    store.crash();
    let node = Node::start_on(config(), store).await;
    let led = async {
        while node.fetch(&topic, 0, Duration::ZERO).await.error.is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), led).await.expect("the partition is led again");
    let after = node.fetch(&topic, 0, Duration::from_secs(1)).await;
    assert_eq!(before.batches, after.batches, "{:?}", after.error);
}
