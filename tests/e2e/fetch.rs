//! Reading: from the tail and from the disk, by offset and by time, waiting for what comes.

use flotilla_client::{ConsumerOptions, Options, Position, ProducerOptions, Record, types};
use flotilla_proto::v1;
use flotilla_tests::cluster::Cluster;
use flotilla_tests::wire::{self, Wire};
use flotilla_tests::workload::encode;
use flotilla_types::time::{Clock, SystemClock};
use std::time::Duration;

const TOPIC: &str = "orders";

async fn cluster() -> (Cluster, Wire) {
    let cluster = Cluster::start(1, "").await;
    let mut wire = Wire::to(&cluster.nodes[0].client());
    wire.create_topic(TOPIC, 1, 1, v1::TopicConfig::default()).await;
    (cluster, wire)
}

fn fetch(from: i64, min_bytes: i32, max_wait_ms: i32) -> v1::FetchRequest {
    v1::FetchRequest {
        partitions: vec![v1::FetchPartition {
            topic: TOPIC.to_owned(),
            fetch_offset: from,
            max_bytes: 1 << 20,
            ..v1::FetchPartition::default()
        }],
        min_bytes,
        max_bytes: 1 << 20,
        max_wait_ms,
        ..v1::FetchRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_waits_for_what_comes_and_no_longer() {
    let (_cluster, mut wire) = cluster().await;
    let clock = SystemClock::new();

    let began = clock.monotonic();
    let nothing =
        wire.log.fetch(fetch(0, 1, 400)).await.expect("an empty partition can be read").into_inner();
    let waited = clock.monotonic().since(began);
    assert!(nothing.partitions[0].batches.is_empty() && nothing.partitions[0].next_offset == 0);
    assert!(waited >= Duration::from_millis(350), "answered after {waited:?} with nothing");

    let mut other = wire.clone();
    let began = clock.monotonic();
    let (answer, ()) = tokio::join!(wire.log.fetch(fetch(0, 1, 10_000)), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let answer = other.produce(wire::request(TOPIC, 0, wire::batch(&[b"one", b"two"]))).await;
        assert_eq!(answer.expect("an answer").error, None);
    });
    let waited = clock.monotonic().since(began);
    let fetched = answer.expect("an answer").into_inner().partitions.remove(0);
    assert_eq!((fetched.next_offset, fetched.high_watermark), (2, 2));
    assert!(waited < Duration::from_secs(2), "woken after {waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_found_by_time_and_out_of_range_names_the_range() {
    use v1::list_offsets_request::{Query, query::Position as Where};
    let (_cluster, mut wire) = cluster().await;
    let mut times = Vec::new();
    for _ in 0..3 {
        let answer =
            wire.produce(wire::request(TOPIC, 0, wire::batch(&[b"a", b"b"]))).await.expect("an answer");
        assert_eq!(answer.error, None);
        times.push(answer.log_append_time);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let at = |position| Query { topic: TOPIC.to_owned(), partition: 0, position: Some(position) };
    let queries = vec![
        at(Where::Earliest(true)),
        at(Where::Latest(true)),
        at(Where::TimestampMs(times[1])),
        at(Where::TimestampMs(times[1] + 1)),
        at(Where::TimestampMs(0)),
    ];
    let request = v1::ListOffsetsRequest { queries, isolation_level: 0 };
    let results = wire.log.list_offsets(request).await.expect("an answer").into_inner().results;
    let offsets: Vec<i64> = results.iter().map(|r| r.offset).collect();
    assert_eq!(offsets, [0, 6, 2, 4, 0]);

    let beyond = wire.log.fetch(fetch(7, 1, 0)).await.expect("an answer").into_inner().partitions.remove(0);
    let error = beyond.error.expect("offset 7 is beyond the end");
    assert_eq!(error.reason(), v1::ErrorReason::OffsetOutOfRange);
    assert_eq!((beyond.log_start_offset, beyond.high_watermark), (0, 6), "the valid range");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_reads_the_past_from_disk_and_the_present_from_memory() {
    // A tail of a few batches, so that most reads go to the disk.
    let cluster = Cluster::start(1, "[broker]\ntail_bytes = \"1MiB\"\n").await;
    Wire::to(&cluster.nodes[0].client()).create_topic(TOPIC, 1, 1, v1::TopicConfig::default()).await;
    let client =
        flotilla_client::Client::connect(cluster.endpoints(), Options::default()).await.expect("connects");
    const COUNT: u64 = 3000;
    for compression in [types::Compression::Zstd, types::Compression::Lz4, types::Compression::None] {
        let producer = client.producer(ProducerOptions { compression, ..ProducerOptions::default() });
        for value in 0..COUNT {
            let delivery = producer.send(TOPIC, Record::new(encode(value, 4000))).await.expect("taken");
            drop(delivery);
        }
        producer.close().await;
    }
    let mut consumer = client.consumer(ConsumerOptions::default());
    consumer.assign(TOPIC, types::PartitionId(0), Position::Start).expect("assigned");
    for offset in 0..3 * COUNT {
        let record = tokio::time::timeout(Duration::from_secs(20), consumer.next())
            .await
            .expect("in time")
            .expect("read");
        assert_eq!(record.offset.get(), offset);
        assert_eq!(record.value.as_deref(), Some(&encode(offset % COUNT, 4000)[..]));
    }
}
