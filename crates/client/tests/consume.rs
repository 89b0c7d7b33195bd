//! What a consumer promises: every record once and in order, or an error that says where it stopped.

#![allow(clippy::unwrap_used, reason = "tests")]

mod mock;

use flotilla_client::types::{Compression, Offset, PartitionId, Reason};
use flotilla_client::{
    Client, Consumer, ConsumerOptions, Options, OutOfRange, Position, ProducerOptions, Record,
};
use mock::{Mock, TOPIC};
use std::sync::atomic::Ordering;
use std::time::Duration;

const P0: PartitionId = PartitionId(0);

async fn filled(mock: &Mock, records: u32, compression: Compression) -> Client {
    let client = Client::connect(mock.endpoints(), Options::default()).await.unwrap();
    let options = ProducerOptions { batch_records: 10, compression, ..ProducerOptions::default() };
    let producer = client.producer(options);
    let partitions = mock.cluster.partitions.lock().len() as u32;
    for n in 0..records {
        let record = Record::new(n.to_string()).timestamp(1_000 + i64::from(n));
        drop(producer.send_to(TOPIC, PartitionId(n % partitions), record).await.unwrap());
    }
    producer.close().await;
    client
}

async fn read(consumer: &mut Consumer, count: usize) -> Vec<(u64, String)> {
    let mut records = Vec::new();
    while records.len() < count {
        let record = tokio::time::timeout(Duration::from_secs(10), consumer.next()).await.unwrap().unwrap();
        let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
        records.push((record.offset.get(), value));
    }
    records
}

fn expected(range: std::ops::Range<u64>) -> Vec<(u64, String)> {
    range.map(|n| (n, n.to_string())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_comes_once_and_in_order_however_packed() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let mock = Mock::start(1, 1);
        let client = filled(&mock, 500, compression).await;
        let mut consumer = client.consumer(ConsumerOptions { partition_bytes: 200, ..Default::default() });
        consumer.assign(TOPIC, P0, Position::Start).unwrap();
        assert_eq!(read(&mut consumer, 500).await, expected(0..500));
        assert!(consumer.poll(Duration::from_millis(100)).await.unwrap().is_empty());
        assert_eq!(consumer.position(TOPIC, P0), Some(Offset(500)));
        assert_eq!(consumer.end(TOPIC, P0), Some(Offset(500)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_are_where_they_say() {
    let mock = Mock::start(2, 1);
    let client = filled(&mock, 100, Compression::None).await;
    let mut consumer = client.consumer(ConsumerOptions::default());
    consumer.assign(TOPIC, P0, Position::Offset(Offset(37))).unwrap();
    assert_eq!(read(&mut consumer, 5).await, expected(37..42));
    consumer.seek(TOPIC, P0, Position::Offset(Offset(3))).unwrap();
    assert_eq!(consumer.position(TOPIC, P0), Some(Offset(3)));
    assert_eq!(read(&mut consumer, 2).await, expected(3..5));
    // A time leads to a batch, and the record at offset n has the time 1000 + n here.
    let base = mock.with_partition(0, |partition| partition.batches[4].0);
    consumer.seek(TOPIC, P0, Position::Timestamp(1_000 + base as i64)).unwrap();
    assert_eq!(read(&mut consumer, 1).await, expected(base..base + 1));
    consumer.pause(TOPIC, P0).unwrap();
    assert!(consumer.poll(Duration::from_millis(200)).await.unwrap().is_empty());
    assert_eq!(consumer.position(TOPIC, P0), Some(Offset(base + 1)));
    consumer.resume(TOPIC, P0).unwrap();
    assert_eq!(read(&mut consumer, 2).await, expected(base + 1..base + 3));
    consumer.seek(TOPIC, P0, Position::End).unwrap();
    assert!(consumer.poll(Duration::from_millis(200)).await.unwrap().is_empty());
    drop(
        client
            .producer(ProducerOptions::default())
            .send_to(TOPIC, P0, Record::new("100"))
            .await
            .unwrap()
            .await,
    );
    assert_eq!(read(&mut consumer, 1).await, expected(100..101));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_batch_stops_its_partition_and_no_other() {
    let mock = Mock::start(1, 2);
    let client = filled(&mock, 100, Compression::None).await;
    mock.with_partition(0, |partition| {
        let (_, _, batch) = &mut partition.batches[2];
        let mut body = batch.body.to_vec();
        body[5] ^= 1;
        batch.body = body.into();
    });
    let small = ConsumerOptions { partition_bytes: 1, ..ConsumerOptions::default() };
    let mut consumer = client.consumer(small);
    consumer.assign_topic(TOPIC, Position::Start).await.unwrap();
    let (mut of_zero, mut of_one, mut errors) = (0, 0, Vec::new());
    while of_one < 50 || errors.is_empty() {
        match tokio::time::timeout(Duration::from_secs(5), consumer.next()).await.unwrap() {
            Ok(record) if record.partition == P0 => of_zero += 1,
            Ok(_) => of_one += 1,
            Err(error) => errors.push(error),
        }
    }
    let base = mock.with_partition(0, |partition| partition.batches[2].0);
    assert_eq!((of_zero, errors.len()), (base, 1));
    assert_eq!(errors[0].reason(), Some(Reason::CorruptBatch));
    assert_eq!(errors[0].metadata().get("offset"), Some(&base.to_string()));
    assert_eq!(errors[0].metadata().get("partition").map(String::as_str), Some("0"));
    assert_eq!(consumer.position(TOPIC, P0), Some(Offset(base)));
    let behind = mock.with_partition(0, |partition| partition.batches[3].0);
    consumer.seek(TOPIC, P0, Position::Offset(Offset(behind))).unwrap();
    assert_eq!(consumer.next().await.unwrap().offset, Offset(behind));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_outside_the_log_is_an_error_unless_told_otherwise() {
    let mock = Mock::start(1, 1);
    let client = filled(&mock, 100, Compression::None).await;
    mock.with_partition(0, |partition| partition.log_start = 40);
    let mut consumer = client.consumer(ConsumerOptions::default());
    consumer.assign(TOPIC, P0, Position::Offset(Offset(7))).unwrap();
    let error = consumer.next().await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::OffsetOutOfRange));
    assert!(error.message().contains("40..100"), "{error}");
    let lenient = ConsumerOptions { out_of_range: OutOfRange::Earliest, ..ConsumerOptions::default() };
    let mut consumer = client.consumer(lenient);
    consumer.assign(TOPIC, P0, Position::Offset(Offset(7))).unwrap();
    assert_eq!(read(&mut consumer, 2).await, expected(40..42));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_follows_the_leader_without_a_gap() {
    let mut mock = Mock::start(3, 1);
    let client = filled(&mock, 10, Compression::None).await;
    let mut consumer = client.consumer(ConsumerOptions::default());
    consumer.assign(TOPIC, P0, Position::Start).unwrap();
    assert_eq!(read(&mut consumer, 10).await, expected(0..10));
    let producer = client.producer(ProducerOptions::default());
    for (round, leader) in (1..).zip([1, 2]) {
        mock.lead(0, None);
        tokio::time::sleep(Duration::from_millis(50)).await;
        if leader == 2 {
            mock.kill(1);
        }
        mock.lead(0, Some(leader));
        for n in round * 10..round * 10 + 10 {
            drop(producer.send_to(TOPIC, P0, Record::new(n.to_string())).await.unwrap());
        }
        assert_eq!(read(&mut consumer, 10).await, expected(round * 10..round * 10 + 10));
    }
    assert!(consumer.trouble().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_fetched_ahead_is_bounded() {
    let mock = Mock::start(1, 1);
    let client = Client::connect(mock.endpoints(), Options::default()).await.unwrap();
    let raw = ProducerOptions { compression: Compression::None, ..ProducerOptions::default() };
    let producer = client.producer(raw);
    for _ in 0..200 {
        drop(producer.send_to(TOPIC, P0, Record::new(vec![b'x'; 10_000])).await.unwrap());
    }
    producer.close().await;
    let bounded =
        ConsumerOptions { prefetch_bytes: 200_000, partition_bytes: 1, ..ConsumerOptions::default() };
    let mut consumer = client.consumer(bounded);
    consumer.assign(TOPIC, P0, Position::Start).unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let largest = mock.with_partition(0, |p| p.batches.iter().map(|(_, _, b)| b.body.len()).max().unwrap());
    let ahead = mock.cluster.fetched_bytes.load(Ordering::Relaxed);
    assert!(ahead <= 200_000 + 2 * largest, "{ahead} bytes, largest batch {largest}");
    let mut count = 0;
    while count < 200 {
        count += consumer.poll(Duration::from_secs(5)).await.unwrap().len();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_not_there_is_an_error_not_a_silence() {
    let mock = Mock::start(1, 1);
    let client = filled(&mock, 1, Compression::None).await;
    let mut consumer = client.consumer(ConsumerOptions::default());
    let error = consumer.assign_topic("elsewhere", Position::Start).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::UnknownTopicOrPartition));
    consumer.assign(TOPIC, PartitionId(9), Position::Offset(Offset(0))).unwrap();
    let error = tokio::time::timeout(Duration::from_secs(10), consumer.next()).await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::UnknownTopicOrPartition));
}
