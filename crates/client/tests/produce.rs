//! What a producer promises, against nodes that fail by script: order, no repeats, honest ends.

#![allow(clippy::unwrap_used, reason = "tests")]

mod mock;

use flotilla_client::types::random::Seeded;
use flotilla_client::types::{Failure, Offset, PartitionId, Random, Reason};
use flotilla_client::{Class, Client, Delivered, Error, Options, Producer, ProducerOptions, Record};
use mock::{Fault, Mock, TOPIC};
use std::collections::HashMap;
use std::time::Duration;

const P0: PartitionId = PartitionId(0);

async fn client(mock: &Mock) -> Client {
    let random = std::sync::Arc::new(Seeded::new(11));
    Client::connect(mock.endpoints(), Options { random, ..Options::default() }).await.unwrap()
}

/// Small batches, so that several are on the way.
fn options() -> ProducerOptions {
    ProducerOptions {
        batch_records: 7,
        request_timeout: Duration::from_millis(500),
        delivery_timeout: Duration::from_secs(20),
        ..ProducerOptions::default()
    }
}

async fn send(producer: &Producer, values: std::ops::Range<u32>) -> Vec<Result<Delivered, Error>> {
    let mut deliveries = Vec::new();
    for value in values {
        deliveries.push(producer.send_to(TOPIC, P0, Record::new(value.to_string())).await.unwrap());
    }
    futures::future::join_all(deliveries).await
}

fn numbers(values: std::ops::Range<u32>) -> Vec<String> {
    values.map(|value| value.to_string()).collect()
}

fn all_well(ended: &[Result<Delivered, Error>]) {
    for (place, ended) in ended.iter().enumerate() {
        assert_eq!(ended.as_ref().unwrap().offset, Offset(place as u64));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_stored_in_the_order_they_were_sent() {
    let mock = Mock::start(1, 1);
    let producer = client(&mock).await.producer(options());
    let ended = send(&producer, 0..1_000).await;
    all_well(&ended);
    assert_eq!(mock.values(0), numbers(0..1_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_becomes_a_duplicate_with_the_first_offset() {
    let mock = Mock::start(1, 1);
    mock.script([Fault::StoreAndBreak]);
    let producer = client(&mock).await.producer(options());
    let ended = send(&producer, 0..100).await;
    all_well(&ended);
    assert!(ended[0].as_ref().unwrap().duplicate);
    assert_eq!(mock.values(0), numbers(0..100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_in_doubt_is_asked_again_with_the_same_stamp() {
    let mock = Mock::start(1, 1);
    mock.script([Fault::StoreAndDoubt, Fault::Doubt, Fault::Doubt]);
    let producer = client(&mock).await.producer(options());
    all_well(&send(&producer, 0..50).await);
    assert_eq!(mock.values(0), numbers(0..50));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_takes_over_in_the_middle() {
    let mock = Mock::start(3, 1);
    let producer = client(&mock).await.producer(options());
    let sending = send(&producer, 0..3_000);
    let moving = async {
        for leader in [1, 2, 0, 1] {
            tokio::time::sleep(Duration::from_millis(15)).await;
            mock.lead(0, None);
            tokio::time::sleep(Duration::from_millis(5)).await;
            mock.lead(0, Some(leader));
        }
    };
    let (ended, ()) = tokio::join!(sending, moving);
    all_well(&ended);
    assert_eq!(mock.values(0), numbers(0..3_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leader_hints_are_enough_when_the_watch_is_silent() {
    let mock = Mock::start(2, 1);
    mock.cluster.watch_is_silent.store(true, std::sync::atomic::Ordering::Relaxed);
    let producer = client(&mock).await.producer(options());
    all_well(&send(&producer, 0..10).await);
    mock.lead(0, Some(1));
    let ended = tokio::time::timeout(Duration::from_secs(2), send(&producer, 10..20)).await.unwrap();
    assert!(ended.iter().all(Result::is_ok));
    assert_eq!(mock.values(0), numbers(0..20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_costs_time_and_nothing_else() {
    let mut mock = Mock::start(2, 1);
    mock.script([Fault::Delay(Duration::from_millis(50)), Fault::StoreAndSwallow]);
    let producer = client(&mock).await.producer(options());
    let mut deliveries = Vec::new();
    for value in 0..100 {
        deliveries.push(producer.send_to(TOPIC, P0, Record::new(value.to_string())).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    mock.kill(0);
    mock.clear_script();
    mock.lead(0, Some(1));
    all_well(&futures::future::join_all(deliveries).await);
    assert_eq!(mock.values(0), numbers(0..100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_leader_that_hangs_is_left_for_the_new_one() {
    let mock = Mock::start(2, 1);
    mock.script([Fault::StoreAndSwallow, Fault::Swallow]);
    let patient = ProducerOptions { request_timeout: Duration::from_secs(15), ..options() };
    let producer = client(&mock).await.producer(patient);
    let sending = send(&producer, 0..30);
    let moving = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        mock.clear_script();
        mock.lead(0, Some(1));
    };
    let both = async { tokio::join!(sending, moving) };
    let (ended, ()) = tokio::time::timeout(Duration::from_secs(5), both).await.expect("long before 15 s");
    all_well(&ended);
    assert_eq!(mock.values(0), numbers(0..30));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_pause_is_kept() {
    let mock = Mock::start(1, 1);
    let pause = Duration::from_millis(400);
    mock.script([Fault::Refuse(Failure::new(Reason::Overloaded, "too much").retry_after(pause))]);
    let producer = client(&mock).await.producer(options());
    let sending = send(&producer, 0..3);
    tokio::pin!(sending);
    assert!(tokio::time::timeout(Duration::from_millis(350), &mut sending).await.is_err());
    all_well(&sending.await);
    assert_eq!(mock.values(0), numbers(0..3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_nobody_answers_ends_as_unknown_and_the_next_ones_go_on() {
    let mock = Mock::start(1, 1);
    mock.script(vec![Fault::StoreAndSwallow; 100]);
    let impatient = ProducerOptions {
        request_timeout: Duration::from_millis(100),
        delivery_timeout: Duration::from_millis(600),
        ..options()
    };
    let producer = client(&mock).await.producer(impatient);
    let ended = send(&producer, 0..3).await;
    for ended in ended {
        let error = ended.unwrap_err();
        assert_eq!(error.class(), Class::OutcomeUnknown, "{error}");
        assert_eq!(error.reason(), Some(Reason::RequestTimedOut));
    }
    mock.clear_script();
    let ended = send(&producer, 3..6).await;
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    assert_eq!(mock.values(0), numbers(0..6), "what was unknown was stored once");
    let epochs: Vec<i64> = mock.with_partition(0, |p| p.producers.values().map(|p| p.epoch).collect());
    assert_eq!(epochs, [1], "what was given up is fenced");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_was_never_sent_fails_for_certain() {
    let mock = Mock::start(1, 1);
    let impatient = ProducerOptions { delivery_timeout: Duration::from_millis(400), ..options() };
    let producer = client(&mock).await.producer(impatient);
    mock.lead(0, None);
    for ended in send(&producer, 0..50).await {
        let error = ended.unwrap_err();
        assert_eq!(error.class(), Class::Retriable, "{error}");
    }
    mock.lead(0, Some(0));
    all_well(&send(&producer, 0..5).await);
    assert_eq!(mock.values(0), numbers(0..5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_batch_does_not_stop_those_behind_it() {
    let mock = Mock::start(1, 1);
    mock.script([Fault::Refuse(Failure::new(Reason::BatchTooLarge, "too large"))]);
    let producer = client(&mock).await.producer(ProducerOptions { linger: Duration::ZERO, ..options() });
    let ended = send(&producer, 0..200).await;
    let stored: Vec<String> =
        ended.iter().zip(0..).filter(|(e, _)| e.is_ok()).map(|(_, n): (_, u32)| n.to_string()).collect();
    let error = ended[0].as_ref().unwrap_err();
    assert_eq!((error.class(), error.reason()), (Class::Fatal, Some(Reason::BatchTooLarge)));
    assert!(stored.len() >= 193);
    assert_eq!(mock.values(0), stored);
    let epochs: Vec<i64> = mock.with_partition(0, |p| p.producers.values().map(|p| p.epoch).collect());
    assert_eq!(epochs, [0], "later batches moved up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_behind_a_batch_that_is_tried_again_moves_only_what_is_behind_it() {
    let mock = Mock::start(1, 1);
    // The first record keeps the partition busy while full batches gather behind it.
    mock.script([
        Fault::Delay(Duration::from_millis(100)),
        Fault::Refuse(Failure::new(Reason::Overloaded, "busy")),
        Fault::Refuse(Failure::new(Reason::InvalidRecord, "no")),
    ]);
    let producer = client(&mock).await.producer(options());
    let first = producer.send_to(TOPIC, P0, Record::new("first")).await.unwrap();
    let ended = send(&producer, 0..70).await;
    assert_eq!(first.await.unwrap().offset, Offset(0));
    let failed: Vec<usize> = (0..70).filter(|n| ended[*n].is_err()).collect();
    assert!(failed.len() == 7 && ended[0].is_ok(), "{failed:?}");
    let stored = (0..70).filter(|n| !failed.contains(n)).map(|n| n.to_string());
    assert_eq!(mock.values(0), std::iter::once("first".to_owned()).chain(stored).collect::<Vec<_>>());
    let epochs: Vec<i64> = mock.with_partition(0, |p| p.producers.values().map(|p| p.epoch).collect());
    assert_eq!(epochs, [0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_after_a_doubt_stays_a_doubt() {
    let mock = Mock::start(1, 1);
    mock.script([Fault::StoreAndDoubt, Fault::Refuse(Failure::new(Reason::InvalidRecord, "no"))]);
    let one = ProducerOptions { in_flight: 1, ..options() };
    let producer = client(&mock).await.producer(one);
    let error = send(&producer, 0..1).await.remove(0).unwrap_err();
    assert_eq!((error.class(), error.reason()), (Class::OutcomeUnknown, Some(Reason::InvalidRecord)));
    assert!(send(&producer, 1..3).await.iter().all(Result::is_ok));
    assert_eq!(mock.values(0), numbers(0..3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_forgot_the_producer_meets_it_anew() {
    let mock = Mock::start(1, 1);
    let producer = client(&mock).await.producer(options());
    all_well(&send(&producer, 0..10).await);
    mock.with_partition(0, |partition| partition.producers.clear());
    assert!(send(&producer, 10..20).await.iter().all(Result::is_ok));
    assert_eq!(mock.values(0), numbers(0..20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_known_to_a_dedup_window_do_not_stop_the_others() {
    let mock = Mock::start(1, 1);
    let known = |offset: u64| Failure::new(Reason::AlreadyExists, "known").with("offset", offset);
    let refused = Failure::new(Reason::AlreadyExists, "some message ids are known");
    let refuse = Fault::RefuseRecords(refused.clone(), vec![(0, known(40)), (2, known(41))]);
    // The first record keeps the partition busy while five gather to one batch.
    mock.script([Fault::Delay(Duration::from_millis(100)), refuse.clone()]);
    let slow = ProducerOptions { batch_records: 5, linger: Duration::from_secs(5), ..options() };
    let producer = client(&mock).await.producer(slow);
    let first = producer.send_to(TOPIC, P0, Record::new("first")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    let ended = send(&producer, 0..5).await;
    assert_eq!(first.await.unwrap().offset, Offset(0));
    let ended: Vec<(u64, bool)> =
        ended.into_iter().map(|e| e.map(|d| (d.offset.get(), d.duplicate)).unwrap()).collect();
    assert_eq!(ended, [(40, true), (1, false), (41, true), (2, false), (3, false)]);
    assert_eq!(mock.values(0), ["first", "1", "3", "4"]);
    // A batch that its caller made is stored whole or not at all.
    mock.script([refuse]);
    let records = (0..5).map(|n| Record::new(n.to_string())).collect();
    for delivery in producer.send_batch(TOPIC, P0, records, None).await.unwrap() {
        assert_eq!(delivery.await.unwrap_err().class(), Class::Fatal);
    }
    assert_eq!(mock.values(0).len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conditional_batch_is_stored_at_its_offset_or_not_at_all() {
    let mock = Mock::start(1, 1);
    let producer = client(&mock).await.producer(options());
    let batch = || vec![Record::new("a"), Record::new("b")];
    let first = producer.send_batch(TOPIC, P0, batch(), Some(Offset(0))).await.unwrap();
    all_well(&futures::future::join_all(first).await);
    for delivery in producer.send_batch(TOPIC, P0, batch(), Some(Offset(0))).await.unwrap() {
        let error = delivery.await.unwrap_err();
        assert_eq!((error.class(), error.reason()), (Class::Fatal, Some(Reason::OffsetConflict)));
    }
    let third = producer.send_batch(TOPIC, P0, batch(), Some(Offset(2))).await.unwrap();
    assert!(futures::future::join_all(third).await.iter().all(Result::is_ok));
    assert_eq!(mock.values(0), ["a", "b", "a", "b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_choose_partitions_and_keyless_records_spread() {
    let mock = Mock::start(3, 6);
    let producer = client(&mock).await.producer(ProducerOptions { batch_records: 10, ..options() });
    let mut deliveries = Vec::new();
    for n in 0..600 {
        let key = format!("key-{}", n % 20);
        deliveries.push((key.clone(), producer.send(TOPIC, Record::new("x").key(key)).await.unwrap()));
        drop(producer.send(TOPIC, Record::new("y")).await.unwrap());
    }
    for (key, delivery) in deliveries {
        let expected = flotilla_client::partitioner::partition_for(key.as_bytes(), 6);
        assert_eq!(delivery.await.unwrap().partition, expected);
    }
    producer.close().await;
    let keyless: Vec<usize> =
        (0..6).map(|p| mock.values(p).iter().filter(|value| *value == "y").count()).collect();
    assert_eq!(keyless.iter().sum::<usize>(), 600);
    assert!(keyless.iter().all(|count| *count > 20), "{keyless:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flush_and_close_leave_nothing_behind() {
    let mock = Mock::start(1, 2);
    let slow = ProducerOptions { linger: Duration::from_secs(60), batch_records: 1_000, ..options() };
    let producer = client(&mock).await.producer(slow);
    for n in 0..100u32 {
        drop(producer.send_to(TOPIC, PartitionId(n % 2), Record::new(n.to_string())).await.unwrap());
    }
    tokio::time::timeout(Duration::from_secs(5), producer.flush()).await.unwrap();
    assert_eq!(mock.values(0).len() + mock.values(1).len(), 100);
    for n in 0..10u32 {
        drop(producer.send_to(TOPIC, P0, Record::new(n.to_string())).await.unwrap());
    }
    tokio::time::timeout(Duration::from_secs(5), producer.close()).await.unwrap();
    assert_eq!(mock.values(0).len(), 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_sent_is_refused_at_once() {
    let mock = Mock::start(1, 1);
    let producer = client(&mock).await.producer(options());
    let error = producer.send(TOPIC, Record::new(vec![0; 2 << 20])).await.unwrap_err();
    assert_eq!((error.class(), error.reason()), (Class::Fatal, Some(Reason::BatchTooLarge)));
    let error = producer.send("no/name", Record::new("x")).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::InvalidArgument));
    let error = producer.send("elsewhere", Record::new("x")).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::UnknownTopicOrPartition));
    let error = producer.send_to(TOPIC, PartitionId(7), Record::new("x")).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::UnknownTopicOrPartition));
}

/// Random faults of every kind while leaders move. Whatever happens: what is acknowledged is there once, at
/// its offset, in order; what certainly failed is not there; what is unknown is there at most once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_acknowledgements_and_refusals_are_true() {
    for seed in 1..=12 {
        storm(seed).await;
    }
}

fn draw(random: &Seeded) -> Option<Fault> {
    Some(match random.below(40) {
        0 => Fault::Refuse(Failure::new(Reason::Overloaded, "busy")),
        1 => Fault::Refuse(Failure::new(Reason::InvalidRecord, "no")),
        2 => Fault::StoreAndBreak,
        3 => Fault::Break,
        4 => Fault::StoreAndSwallow,
        5 => Fault::Swallow,
        6 => Fault::StoreAndDoubt,
        7 => Fault::Doubt,
        8 => Fault::Delay(Duration::from_millis(random.below(30))),
        9 => Fault::Refuse(Failure::new(Reason::LeaderNotAvailable, "not now")),
        _ => return None,
    })
}

async fn storm(seed: u64) {
    let random = Seeded::new(seed);
    let mock = Mock::start(3, 1);
    let harried = ProducerOptions {
        batch_records: 1 + random.below(9) as u32,
        request_timeout: Duration::from_millis(60),
        delivery_timeout: Duration::from_millis(2_500),
        ..options()
    };
    let producer = client(&mock).await.producer(harried);
    let sending = async {
        let mut deliveries = Vec::new();
        for value in 0..1_500u32 {
            deliveries.push(producer.send_to(TOPIC, P0, Record::new(value.to_string())).await.unwrap());
            if value % 10 == 0 {
                tokio::time::sleep(Duration::from_millis(random.below(30))).await;
            }
        }
        futures::future::join_all(deliveries).await
    };
    let trouble = async {
        loop {
            tokio::time::sleep(Duration::from_millis(random.below(40))).await;
            // A pile of faults would only be one long failure.
            if let Some(fault) = draw(&random).filter(|_| mock.cluster.faults.lock().len() < 2) {
                mock.script([fault]);
            }
            if random.below(40) == 0 {
                mock.lead(0, None);
                tokio::time::sleep(Duration::from_millis(random.below(20))).await;
                mock.lead(0, Some(random.below(3) as usize));
            }
        }
    };
    let ended = tokio::select! {
        ended = sending => ended,
        () = trouble => unreachable!(),
    };
    let log = mock.values(0);
    let mut places: HashMap<u32, usize> = HashMap::new();
    for (place, value) in log.iter().enumerate() {
        let before = places.insert(value.parse().unwrap(), place);
        assert_eq!(before, None, "seed {seed}: {value} is there twice");
    }
    let mut last = None;
    let (mut acknowledged, mut unknown) = (0, 0);
    for (value, ended) in (0u32..).zip(&ended) {
        match ended {
            Ok(stored) => {
                let place = stored.offset.get() as usize;
                assert_eq!(
                    log.get(place),
                    Some(&value.to_string()),
                    "seed {seed}: {value} is not at {place}"
                );
                assert!(last < Some(place), "seed {seed}: {value} is out of order");
                last = Some(place);
                acknowledged += 1;
            }
            Err(error) if error.is_outcome_unknown() => unknown += 1,
            Err(error) => assert!(!places.contains_key(&value), "seed {seed}: {value} is there: {error}"),
        }
    }
    let strange = ended.iter().filter_map(|ended| ended.as_ref().err()).find(|error| {
        // The partition keeps what it acknowledges, so it has no reason to disagree about the count.
        error.reason() == Some(Reason::OutOfOrderSequence)
    });
    assert!(strange.is_none(), "seed {seed}: {strange:?}");
    println!("seed {seed}: {acknowledged} acknowledged, {unknown} unknown");
    assert!(acknowledged > 50, "seed {seed}: {acknowledged} acknowledged, {unknown} unknown");
}
