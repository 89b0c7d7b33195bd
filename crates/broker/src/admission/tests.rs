//! Bounds hold, are given back, and shed by age only where there is a queue.

use super::*;

fn admission(shard_batches: u32) -> Admission {
    let config = Config {
        produce_in_flight_bytes: ByteSize(1000),
        produce_in_flight_shard_bytes: ByteSize(600),
        produce_in_flight_shard_batches: shard_batches,
        admission_wait: Duration::from_millis(10),
        ..Config::default()
    };
    Admission::new(&config, Metrics::default())
}

fn at(ms: u64) -> Monotonic {
    Monotonic(Duration::from_millis(ms))
}

#[tokio::test]
async fn a_full_node_sheds_and_recovers() {
    let admission = admission(10);
    let first = admission.admit(800).await.unwrap();
    let refused = admission.admit(300).await.unwrap_err();
    assert!(matches!(refused, Error::Overloaded { .. }), "{refused}");
    assert_eq!(admission.in_flight(), 800);
    drop(first);
    assert_eq!(admission.in_flight(), 0);
    assert!(admission.admit(300).await.is_ok());
    assert_eq!(admission.metrics.produce_in_flight_bytes.get(), 0);
}

#[tokio::test]
async fn who_waits_gets_the_room_that_comes_free() {
    let admission = Arc::new(admission(10));
    let first = admission.admit(1000).await.unwrap();
    let (second, ()) = tokio::join!(admission.admit(10), async {
        tokio::task::yield_now().await;
        drop(first);
    });
    assert!(second.is_ok());
}

#[tokio::test]
async fn one_partition_cannot_take_the_nodes_room() {
    let admission = admission(2);
    let shard = ShardId(1024);
    let first = admission.enter(shard, 500, at(0)).await.unwrap();
    assert!(admission.enter(shard, 500, at(0)).await.is_err());
    let _second = admission.enter(shard, 1, at(0)).await.unwrap();
    assert!(admission.enter(shard, 1, at(0)).await.is_err(), "two batches at most");
    assert!(admission.enter(ShardId(1025), 500, at(0)).await.is_ok());
    drop(first);
    assert!(admission.enter(shard, 500, at(0)).await.is_ok());
}

#[tokio::test]
async fn an_old_queue_sheds_but_a_lone_old_batch_does_not() {
    let admission = admission(64);
    let shard = ShardId(1024);
    let mut seats = vec![admission.enter(shard, 1, at(0)).await.unwrap()];
    assert!(admission.enter(shard, 1, at(10_000)).await.is_ok());
    for _ in 0..8 {
        seats.push(admission.enter(shard, 1, at(400)).await.unwrap());
    }
    assert!(admission.enter(shard, 1, at(501)).await.is_err());
    seats.remove(0);
    assert!(admission.enter(shard, 1, at(501)).await.is_ok());
}
