//! Stories of records in hand: what a member had fetched or was given before its position or its partitions
//! changed must not be taken for what is true afterwards.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod mock;

use flotilla_client::groups::{CommitOffset, GroupConsumer};
use flotilla_client::types::{Offset, PartitionId, Reason};
use flotilla_client::{Client, Options, Position, ProducerOptions, Record};
use mock::{Mock, TOPIC};
use std::time::{Duration, Instant};

const P0: PartitionId = PartitionId(0);
const SOON: Duration = Duration::from_millis(200);

async fn connect(mock: &Mock) -> Client {
    Client::connect(mock.endpoints(), Options::default()).await.unwrap()
}

async fn fill(mock: &Mock, client: &Client, records: u32) {
    let producer = client.producer(ProducerOptions { batch_records: 10, ..ProducerOptions::default() });
    let partitions = mock.cluster.partitions.lock().len() as u32;
    for n in 0..records * partitions {
        let record = Record::new(n.to_string());
        drop(producer.send_to(TOPIC, PartitionId(n % partitions), record).await.unwrap());
    }
    producer.close().await;
}

async fn read(consumer: &mut GroupConsumer, count: usize) -> Vec<(u32, u64)> {
    let (mut seen, begun) = (Vec::new(), Instant::now());
    while seen.len() < count {
        assert!(begun.elapsed() < Duration::from_secs(20), "{} of {count} records", seen.len());
        let records = consumer.poll_up_to(count - seen.len(), SOON).await.unwrap();
        seen.extend(records.iter().map(|r| (r.partition.get(), r.offset.get())));
    }
    seen
}

/// A member pauses a partition with records of it fetched ahead, seeks, and resumes: what comes next is the
/// record at the new place, and none of those that were fetched for the old one, in either direction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_fetched_before_a_seek_is_not_handed_out_after_it() {
    let mock = Mock::start(1, 1);
    let client = connect(&mock).await;
    fill(&mock, &client, 100).await;
    let mut consumer = client.group("billing").topics([TOPIC]).auto_commit(None).start().unwrap();
    assert_eq!(read(&mut consumer, 5).await.last(), Some(&(0, 4)), "ninety-five are fetched ahead or soon");
    for to in [60, 7, 93] {
        consumer.pause(TOPIC, P0).unwrap();
        consumer.seek(TOPIC, P0, Position::Offset(Offset(to))).unwrap();
        assert!(consumer.poll(Duration::from_millis(20)).await.unwrap().is_empty(), "paused");
        consumer.resume(TOPIC, P0).unwrap();
        let seen = read(&mut consumer, 4).await;
        assert_eq!(seen, (to..to + 4).map(|offset| (0, offset)).collect::<Vec<_>>());
    }
    // Resumed without a seek, it goes on where it was, and leaves nothing out.
    consumer.pause(TOPIC, P0).unwrap();
    assert!(consumer.poll(Duration::from_millis(20)).await.unwrap().is_empty(), "paused");
    consumer.resume(TOPIC, P0).unwrap();
    assert_eq!(read(&mut consumer, 3).await, [(0, 97), (0, 98), (0, 99)]);
    consumer.close().await.unwrap();
}

/// A member is given records, then its partition goes to another, who reads on and commits. The first one
/// finishes its work late and commits by hand: that is refused, and the other's place stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_handed_out_before_a_revocation_cannot_be_committed_after_it() {
    let mock = Mock::start(1, 2);
    let client = connect(&mock).await;
    fill(&mock, &client, 30).await;
    let mut first = client.group("billing").topics([TOPIC]).auto_commit(None).start().unwrap();
    read(&mut first, 60).await;
    let mut second = client.group("billing").topics([TOPIC]).auto_commit(None).start().unwrap();
    let begun = Instant::now();
    while second.assignment().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "nothing was handed over");
        first.poll(Duration::from_millis(10)).await.unwrap();
    }
    let taken = second.assignment()[0].partition;
    assert!(first.assignment().iter().all(|kept| kept.partition != taken));
    read(&mut second, 30).await;
    second.commit_offsets(&[CommitOffset::new(TOPIC, taken, Offset(30))]).await.unwrap();
    let late = first.commit_offsets(&[CommitOffset::new(TOPIC, taken, Offset(12))]).await.unwrap_err();
    assert!(
        matches!(late.reason(), Some(Reason::InvalidArgument | Reason::StaleMemberEpoch)),
        "{late}: {:?}",
        late.reason()
    );
    assert!(!late.is_outcome_unknown(), "it certainly did nothing");
    mock.with_group(|g| {
        assert_eq!(g.offsets.get(&(taken.get() as i32)), Some(&30));
        g.assert_forward();
    });
    // What it kept it may commit all the same.
    let kept = first.assignment()[0].partition;
    first.commit_offsets(&[CommitOffset::new(TOPIC, kept, Offset(30))]).await.unwrap();
    first.close().await.unwrap();
    second.close().await.unwrap();
}
