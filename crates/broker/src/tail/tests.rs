//! Memory is bounded, dense per partition, and never gives up what the store cannot read yet.

use super::*;
use bytes::Bytes;
use flotilla_types::{BatchHeader, Compression, Term};

const SHARD: ShardId = ShardId(1024);
const OTHER: ShardId = ShardId(1025);

fn batch(base: u64, records: u32, bytes: usize) -> FetchedBatch {
    let header = BatchHeader {
        record_count: records,
        base_timestamp: 0,
        producer: None,
        transactional: false,
        compression: Compression::None,
        schema_id: None,
        crc32c: 0,
    };
    FetchedBatch {
        base_offset: Offset(base),
        term: Term(1),
        append_time: base as i64 * 10,
        header,
        body: Bytes::from(vec![0; bytes]),
    }
}

fn tail(limit: usize) -> Tail {
    Tail::new(limit, Metrics::default())
}

fn bases(hit: &Hit) -> Vec<u64> {
    hit.batches.iter().map(|batch| batch.base_offset.get()).collect()
}

#[test]
fn reads_begin_inside_a_batch_and_stop_at_the_bound() {
    let tail = tail(1 << 20);
    tail.push(SHARD, [batch(10, 3, 100), batch(13, 3, 100), batch(16, 3, 100)]);
    let read = |from, bound| tail.read(SHARD, Offset(from), Offset(bound), 1 << 20, true);
    assert_eq!(bases(&read(14, 19).unwrap()), [13, 16]);
    assert_eq!(bases(&read(10, 16).unwrap()), [10, 13]);
    assert!(read(9, 19).is_none(), "before what is in memory");
    assert!(read(19, 19).is_none(), "after it");
    assert!(tail.read(OTHER, Offset(0), Offset(9), 1, true).is_none());
}

#[test]
fn the_first_batch_is_given_even_if_it_is_larger_than_asked() {
    let tail = tail(1 << 20);
    tail.push(SHARD, [batch(0, 1, 5000), batch(1, 1, 5000)]);
    assert_eq!(bases(&tail.read(SHARD, Offset(0), Offset(2), 10, true).unwrap()), [0]);
    assert!(tail.read(SHARD, Offset(0), Offset(2), 10, false).unwrap().batches.is_empty());
}

#[test]
fn oldest_leave_first_over_all_partitions_but_not_before_they_are_stored() {
    let tail = tail(2500);
    tail.push(SHARD, [batch(0, 1, 900)]);
    tail.push(OTHER, [batch(0, 1, 900)]);
    tail.push(SHARD, [batch(1, 1, 900)]);
    tail.evict(|_| Offset(0));
    assert_eq!(tail.start(SHARD), Some(Offset(0)), "nothing is stored yet");
    tail.evict(|_| Offset(5));
    assert_eq!(tail.start(SHARD), Some(Offset(1)));
    assert_eq!(tail.start(OTHER), Some(Offset(0)));
    assert!(tail.bytes() <= 2500);
}

#[test]
fn a_replaced_state_replaces_the_memory_and_the_account_balances() {
    let tail = tail(1 << 20);
    tail.push(SHARD, [batch(0, 1, 100), batch(1, 1, 100)]);
    tail.push(SHARD, [batch(50, 1, 100)]);
    assert_eq!(tail.start(SHARD), Some(Offset(50)));
    assert_eq!(tail.bytes(), batch(50, 1, 100).weight());
    tail.forget(SHARD);
    assert_eq!(tail.bytes(), 0);
}

#[test]
fn the_first_batch_at_a_time_is_found() {
    let tail = tail(1 << 20);
    tail.push(SHARD, [batch(1, 1, 1), batch(2, 1, 1)]);
    assert_eq!(tail.at_time(SHARD, 11), Some((Offset(2), 20)));
    assert_eq!(tail.at_time(SHARD, 21), None);
}
