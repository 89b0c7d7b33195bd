//! What a member of a group promises, against a coordinator that follows the contract and fails by script:
//! every record to somebody, one owner at a time, offsets that only go forward, rebalances that end.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod mock;

use flotilla_client::groups::{
    CommitOffset, Event, GroupBuilder, GroupConsumer, GroupHandle, Listener, OffsetReset, State,
    TopicPartition,
};
use flotilla_client::types::{Failure, Offset, PartitionId, Reason};
use flotilla_client::{Class, Client, Options, Position, ProducerOptions, Record};
use futures::StreamExt;
use futures::future::BoxFuture;
use mock::groups::GroupFault;
use mock::{Mock, TOPIC};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const P0: PartitionId = PartitionId(0);
const SOON: Duration = Duration::from_millis(200);

async fn connect(mock: &Mock) -> Client {
    Client::connect(mock.endpoints(), Options::default()).await.unwrap()
}

/// `records` in each partition.
async fn fill(mock: &Mock, client: &Client, records: u32) {
    let producer = client.producer(ProducerOptions { batch_records: 10, ..ProducerOptions::default() });
    let partitions = mock.cluster.partitions.lock().len() as u32;
    for n in 0..records {
        for partition in 0..partitions {
            let record = Record::new(format!("{partition}:{n}"));
            drop(producer.send_to(TOPIC, PartitionId(partition), record).await.unwrap());
        }
    }
    producer.close().await;
}

fn member(client: &Client) -> GroupBuilder {
    client.group("billing").topics([TOPIC])
}

/// Waits for a condition.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

type Seen = Arc<Mutex<Vec<(u32, u64)>>>;

/// Reads until so many records came.
async fn read(consumer: &mut GroupConsumer, count: usize) -> Vec<(u32, u64)> {
    let mut seen = Vec::new();
    let begun = Instant::now();
    while seen.len() < count {
        assert!(begun.elapsed() < Duration::from_secs(15), "{} of {count} records", seen.len());
        let records = consumer.poll(SOON).await.unwrap();
        seen.extend(records.iter().map(|r| (r.partition.get(), r.offset.get())));
    }
    seen
}

/// A process that reads until it is told to stop, then closes.
struct Worker {
    seen: Seen,
    stop: Arc<AtomicBool>,
    handle: GroupHandle,
    task: tokio::task::JoinHandle<flotilla_client::Result<()>>,
}

impl Worker {
    fn start(builder: GroupBuilder, work: Duration) -> Self {
        let mut consumer = builder.start().unwrap();
        let (seen, stop) = (Seen::default(), Arc::new(AtomicBool::new(false)));
        let handle = consumer.handle();
        let task = tokio::spawn({
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            async move {
                while !stop.load(Ordering::Relaxed) {
                    let records = consumer.poll(Duration::from_millis(50)).await?;
                    if !records.is_empty() {
                        tokio::time::sleep(work).await;
                    }
                    seen.lock().extend(records.iter().map(|r| (r.partition.get(), r.offset.get())));
                }
                consumer.close().await
            }
        });
        Self { seen, stop, handle, task }
    }

    fn owns(&self) -> usize {
        self.handle.assignment().len()
    }

    async fn end(self) -> Vec<(u32, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap().unwrap();
        Arc::try_unwrap(self.seen).unwrap().into_inner()
    }
}

/// Each partition's records, each once and in order.
fn assert_once_in_order(seen: &[(u32, u64)], partitions: u32, records: u64) {
    let mut by_partition: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for (partition, offset) in seen {
        by_partition.entry(*partition).or_default().push(*offset);
    }
    for partition in 0..partitions {
        let expected: Vec<u64> = (0..records).collect();
        assert_eq!(by_partition.remove(&partition).unwrap_or_default(), expected, "partition {partition}");
    }
}

fn all(seen: &[(u32, u64)]) -> BTreeSet<(u32, u64)> {
    seen.iter().copied().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_processed_is_committed_and_the_next_member_goes_on_there() {
    let mock = Mock::start(2, 2);
    let client = connect(&mock).await;
    fill(&mock, &client, 50).await;
    let mut first = member(&client).auto_commit(Some(Duration::from_millis(50))).start().unwrap();
    let seen = read(&mut first, 100).await;
    assert_once_in_order(&seen, 2, 50);
    first.poll(SOON).await.unwrap();
    until("auto-commit", || mock.with_group(|g| g.offsets.values().sum::<i64>()) == 100).await;
    first.close().await.unwrap();
    fill(&mock, &client, 10).await;
    let mut second = member(&client).start().unwrap();
    let seen = read(&mut second, 20).await;
    assert!(seen.iter().all(|(_, offset)| *offset >= 50), "{seen:?}");
    second.close().await.unwrap();
    assert_eq!(mock.with_group(|g| (g.offsets.values().sum::<i64>(), g.members.len())), (120, 0));
    mock.with_group(|g| g.assert_forward());
}

/// At least once: what the application had in hand when its process died is given to somebody again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_were_not_processed_are_not_committed() {
    let mock = Mock::start(1, 1);
    let client = connect(&mock).await;
    fill(&mock, &client, 10).await;
    let mut first = member(&client).auto_commit(Some(Duration::from_millis(20))).start().unwrap();
    assert_eq!(read(&mut first, 10).await.len(), 10);
    tokio::time::sleep(SOON).await;
    let id = first.member_id().to_owned();
    drop(first); // without another poll: a crash in the middle of the work
    mock.with_group(|g| {
        assert!(g.offsets.is_empty(), "{:?}", g.offsets);
        g.throw_out(&id, 1);
    });
    let mut second = member(&client).start().unwrap();
    assert_eq!(read(&mut second, 10).await[0], (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebalance_moves_partitions_after_their_records_are_processed() {
    let mock = Mock::start(3, 6);
    let client = connect(&mock).await;
    fill(&mock, &client, 200).await;
    let work = Duration::from_millis(3);
    let options = || {
        let mut options = flotilla_client::GroupOptions { poll_records: 7, ..Default::default() };
        options.auto_commit = Some(Duration::from_millis(50));
        options
    };
    let first = Worker::start(member(&client).options(options()), work);
    until("first has all", || first.owns() == 6).await;
    until("first reads", || first.seen.lock().len() > 50).await;
    let second = Worker::start(member(&client).options(options()), work);
    until("halves", || first.owns() == 3 && second.owns() == 3).await;
    let third = Worker::start(member(&client).options(options()), work);
    until("thirds", || [&first, &second, &third].iter().all(|w| w.owns() == 2)).await;
    let total = || first.seen.lock().len() + second.seen.lock().len() + third.seen.lock().len();
    until("all is read", || total() >= 1_200).await;
    let second_has = second.end().await;
    until("second's are taken over", || first.owns() == 3 && third.owns() == 3).await;
    let mut seen = first.end().await;
    let shared: Vec<_> = [second_has, third.end().await].concat();
    seen.extend(shared);
    // Nobody died: each record was given out once, although partitions moved three times.
    assert_eq!(seen.len(), 1_200);
    assert_eq!(all(&seen).len(), 1_200);
    mock.with_group(|g| {
        g.assert_forward();
        assert_eq!(g.offsets.values().sum::<i64>(), 1_200);
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_that_stay_are_read_without_a_pause() {
    let mock = Mock::start(1, 2);
    let client = connect(&mock).await;
    let mut first = member(&client).start().unwrap();
    fill(&mock, &client, 1).await;
    read(&mut first, 2).await;
    // The commit of what is revoked hangs: it is bounded, and partition 0 does not wait for it.
    mock.with_group(|g| g.commits_always = Some(GroupFault::Hang));
    let second = member(&client).start().unwrap();
    until("revocation is under way", || {
        mock.with_group(|g| g.members.values().any(|m| !m.revoking.is_empty()))
    })
    .await;
    let producer = client.producer(ProducerOptions::default());
    let kept = mock.with_group(|g| *g.members[first.member_id()].assigned.keys().next().unwrap()) as u32;
    for n in 0..20u32 {
        producer.send_to(TOPIC, PartitionId(kept), Record::new(n.to_string())).await.unwrap().await.unwrap();
        let begun = Instant::now();
        assert_eq!(read(&mut first, 1).await.len(), 1);
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    assert_eq!(second.assignment(), [], "not before the other has given it up");
}

/// platformatic/kafka 370: auto-commit kept firing during a rebalance, failed each time for the stale
/// epoch, and so the rebalance never ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebalance_ends_although_every_commit_in_it_is_refused() {
    let mock = Mock::start(1, 4);
    let client = connect(&mock).await;
    fill(&mock, &client, 20).await;
    let quick = || {
        member(&client).auto_commit(Some(Duration::from_millis(10))).rebalance_timeout(Duration::from_secs(2))
    };
    let first = Worker::start(quick(), Duration::ZERO);
    until("first reads all", || first.seen.lock().len() == 80).await;
    for refusal in [Reason::StaleMemberEpoch, Reason::CoordinatorLoading] {
        let refusal = GroupFault::Refuse(Failure::new(refusal, "by script"));
        mock.with_group(|g| g.commits_always = Some(refusal));
        fill(&mock, &client, 5).await;
        let second = Worker::start(quick(), Duration::ZERO);
        let begun = Instant::now();
        until("halves", || first.owns() == 2 && second.owns() == 2).await;
        assert!(begun.elapsed() < Duration::from_secs(4));
        mock.with_group(|g| g.commits_always = None);
        second.end().await;
        until("first has all again", || first.owns() == 4).await;
    }
    first.end().await;
    mock.with_group(|g| {
        assert!(g.thrown_out.is_empty());
        assert_eq!(g.offsets.values().sum::<i64>(), 4 * 30);
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_and_heartbeats_do_not_wait_for_each_other() {
    let mock = Mock::start(1, 2);
    let client = connect(&mock).await;
    fill(&mock, &client, 10).await;
    mock.with_group(|g| g.interval = Duration::from_secs(30)); // heartbeats are held
    let mut consumer = member(&client).auto_commit(None).start().unwrap();
    read(&mut consumer, 20).await;
    let begun = Instant::now();
    consumer.commit().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    // The other way round: a commit that hangs, and heartbeats that go on.
    mock.with_group(|g| {
        g.interval = Duration::from_millis(50);
        g.commits_always = Some(GroupFault::Hang);
        g.seek(0, 3);
    });
    read(&mut consumer, 7).await;
    let handle = consumer.handle();
    let committing = tokio::spawn(async move { handle.commit().await });
    let before = mock.with_group(|g| g.heartbeats.len());
    until("heartbeats go on", || mock.with_group(|g| g.heartbeats.len()) > before + 5).await;
    assert!(!committing.is_finished());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_member_drops_everything_says_so_and_joins_again() {
    let mock = Mock::start(1, 2);
    let client = connect(&mock).await;
    fill(&mock, &client, 30).await;
    let mut consumer = member(&client).auto_commit(None).start().unwrap();
    let mut events = Box::pin(consumer.events());
    assert!(matches!(events.next().await, Some(Event::Assigned(all)) if all.len() == 2));
    read(&mut consumer, 60).await;
    consumer.commit_offsets(&[CommitOffset::new(TOPIC, P0, Offset(12))]).await.unwrap();
    let id = consumer.member_id().to_owned();
    mock.with_group(|g| g.throw_out(&id, 2));
    let Some(Event::Lost { partitions, .. }) = events.next().await else { panic!("nothing was lost") };
    assert_eq!(partitions.len(), 2);
    assert!(matches!(events.next().await, Some(Event::Assigned(_))));
    let seen = read(&mut consumer, 48).await;
    assert_eq!(
        seen.iter().filter(|(p, _)| *p == 0).map(|(_, o)| *o).min(),
        Some(12),
        "from the committed offset"
    );
    let silent = mock.with_group(|g| g.heartbeats.iter().filter(|(_, epoch, ..)| *epoch == 0).count());
    assert_eq!(silent, 2, "two joins, nothing in between");
    mock.with_group(|g| g.assert_forward());
}

/// A process that was paused past its session wakes up with records in hand: its commit is refused, and it
/// does not harm who has the partitions now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_thrown_out_cannot_commit() {
    let mock = Mock::start(1, 1);
    let client = connect(&mock).await;
    fill(&mock, &client, 30).await;
    mock.with_group(|g| g.interval = Duration::from_secs(20));
    let mut consumer = member(&client).auto_commit(None).start().unwrap();
    read(&mut consumer, 30).await;
    let id = consumer.member_id().to_owned();
    mock.with_group(|g| {
        g.throw_out(&id, 1);
        g.heartbeat_faults.extend(std::iter::repeat_n(GroupFault::Hang, 2));
        g.offsets.insert(0, 25);
    });
    let error = consumer.commit_offsets(&[CommitOffset::new(TOPIC, P0, Offset(20))]).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::UnknownMemberId));
    assert_eq!(mock.with_group(|g| g.offsets[&0]), 25);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_epoch_waits_for_the_heartbeat_and_is_sent_again() {
    let mock = Mock::start(1, 1);
    let client = connect(&mock).await;
    fill(&mock, &client, 30).await;
    let mut consumer = member(&client).auto_commit(None).start().unwrap();
    read(&mut consumer, 30).await;
    let stale = || GroupFault::Refuse(Failure::new(Reason::StaleMemberEpoch, "by script"));
    mock.with_group(|g| {
        g.commit_faults.extend([stale(), stale()]);
        // The epoch moves on: another member comes, and the partition stays.
        g.epoch += 1;
    });
    consumer.commit().await.unwrap();
    assert_eq!(mock.with_group(|g| g.offsets[&0]), 30);
    assert_eq!(consumer.state(), State::Stable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_of_a_commit_is_asked_again_and_nothing_goes_back() {
    let mock = Mock::start(2, 1);
    let client = connect(&mock).await;
    fill(&mock, &client, 30).await;
    let mut consumer = member(&client).auto_commit(None).start().unwrap();
    read(&mut consumer, 30).await;
    for (fault, offset) in [(GroupFault::DoAndLose, 10), (GroupFault::Lose, 20)] {
        mock.with_group(|g| g.commit_faults.push_back(fault));
        consumer.commit_offsets(&[CommitOffset::new(TOPIC, P0, Offset(offset))]).await.unwrap();
        assert_eq!(mock.with_group(|g| g.offsets[&0]), offset as i64);
    }
    consumer.commit_offsets(&[CommitOffset::new(TOPIC, P0, Offset(15))]).await.unwrap();
    assert_eq!(mock.with_group(|g| g.offsets[&0]), 20, "no seek, no way back");
    mock.with_group(|g| g.assert_forward());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_moves_costs_no_rebalance() {
    let mut mock = Mock::start(3, 3);
    let client = connect(&mock).await;
    fill(&mock, &client, 30).await;
    let worker = Worker::start(member(&client).auto_commit(Some(Duration::from_millis(20))), Duration::ZERO);
    until("it reads", || worker.seen.lock().len() == 90).await;
    let epoch = mock.with_group(|g| g.epoch);
    mock.with_group(|g| g.down = true);
    fill(&mock, &client, 5).await;
    until("it reads on", || worker.seen.lock().len() == 105).await;
    (0..3).for_each(|p| mock.lead(p, Some(1)));
    mock.kill(0);
    mock.kill(2);
    tokio::time::sleep(SOON).await;
    mock.with_group(|g| g.down = false);
    fill(&mock, &client, 5).await;
    until("all is committed", || mock.with_group(|g| g.offsets.values().sum::<i64>()) == 120).await;
    assert_eq!(mock.with_group(|g| (g.epoch, g.thrown_out.len())), (epoch, 0));
    assert_once_in_order(&worker.end().await, 3, 40);
}

/// The answer that told the new assignment is lost. The heartbeat after it says everything again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_of_a_heartbeat_loses_no_assignment_and_no_seek() {
    let mock = Mock::start(1, 2);
    let client = connect(&mock).await;
    fill(&mock, &client, 30).await;
    mock.with_group(|g| {
        g.heartbeat_faults.extend([GroupFault::DoAndLose, GroupFault::Lose, GroupFault::DoAndLose]);
    });
    let mut consumer = member(&client).start().unwrap();
    read(&mut consumer, 60).await;
    consumer.commit().await.unwrap();
    mock.with_group(|g| {
        g.heartbeat_faults.extend([GroupFault::DoAndLose, GroupFault::DoAndLose]);
        g.seek(1, 7);
    });
    // The heartbeat that is held now tells the seek; the next two are lost.
    let seen = read(&mut consumer, 23).await;
    assert_eq!(seen[0], (1, 7));
    mock.with_group(|g| g.heartbeat_faults.push_back(GroupFault::Lose));
    consumer.close().await.unwrap();
    assert_eq!(mock.with_group(|g| g.offsets[&1]), 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seek_on_a_live_group_moves_the_reader_and_refuses_what_was_read_before() {
    let mock = Mock::start(1, 1);
    let client = connect(&mock).await;
    fill(&mock, &client, 30).await;
    let mut consumer = member(&client).auto_commit(Some(Duration::from_millis(10))).start().unwrap();
    read(&mut consumer, 30).await;
    // In hand, not processed: after the seek they do not count any more.
    mock.with_group(|g| g.seek(0, 5));
    let seen = read(&mut consumer, 25).await;
    assert_eq!(seen[0], (0, 5));
    assert!(mock.with_group(|g| g.history.iter().all(|(_, offset)| *offset <= 30)));
    consumer.close().await.unwrap();
    assert_eq!(mock.with_group(|g| g.offsets[&0]), 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_is_slow_loses_what_it_holds_and_the_rebalance_goes_on() {
    let mock = Mock::start(1, 2);
    let client = connect(&mock).await;
    // Partition 1 is the one that will be given on.
    let producer = client.producer(ProducerOptions::default());
    for n in 0..10u32 {
        producer.send_to(TOPIC, PartitionId(1), Record::new(n.to_string())).await.unwrap().await.unwrap();
    }
    let timeout = Duration::from_secs(1);
    let mut slow = member(&client).rebalance_timeout(timeout).start().unwrap();
    let mut events = Box::pin(slow.events());
    read(&mut slow, 10).await; // and then it works on the last of them for long
    let begun = Instant::now();
    let mut other = member(&client).start().unwrap();
    let seen = read(&mut other, 1).await;
    assert!(begun.elapsed() < timeout * 2, "{:?}", begun.elapsed());
    assert!(seen[0].1 < 10, "what was in the slow one's hands is given out again");
    let lost = async {
        loop {
            if let Some(Event::Lost { partitions, .. }) = events.next().await {
                return partitions;
            }
        }
    };
    let lost = tokio::time::timeout(timeout, lost).await.unwrap();
    assert_eq!(lost.len(), 1);
    assert!(mock.with_group(|g| g.thrown_out.is_empty()), "it acknowledged in time");
    // It goes on with what it kept, and does not commit what it lost.
    slow.close().await.unwrap();
    other.close().await.unwrap();
    mock.with_group(|g| g.assert_forward());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_polling_leaves_and_comes_back() {
    let mock = Mock::start(1, 1);
    let client = connect(&mock).await;
    fill(&mock, &client, 10).await;
    let mut consumer = member(&client).max_poll_interval(Duration::from_millis(300)).start().unwrap();
    let mut events = Box::pin(consumer.events());
    read(&mut consumer, 10).await;
    let handle = consumer.handle();
    until("it is stale", || handle.state() == State::Stale).await;
    assert!(mock.with_group(|g| g.members.is_empty()), "others may have its work");
    assert!(mock.with_group(|g| g.offsets.is_empty()), "it never said that it was done");
    let again = read(&mut consumer, 10).await;
    assert_eq!(again[0], (0, 0));
    let kinds: Vec<&str> = futures::StreamExt::take(&mut events, 3)
        .map(|event| match event {
            Event::Assigned(_) => "assigned",
            Event::Revoked(_) => "revoked",
            Event::Lost { .. } => "lost",
        })
        .collect()
        .await;
    assert_eq!(kinds, ["assigned", "lost", "assigned"]);
    consumer.close().await.unwrap();
    assert_eq!(mock.with_group(|g| g.offsets[&0]), 10);
}

/// librdkafka 4672, as a process sees it: it closes while a heartbeat is held, and the others need not wait
/// for its session to end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leave_does_not_wait_for_the_heartbeat_that_is_held() {
    let mock = Mock::start(1, 2);
    let client = connect(&mock).await;
    fill(&mock, &client, 10).await;
    mock.with_group(|g| g.interval = Duration::from_secs(20));
    let mut consumer = member(&client).start().unwrap();
    read(&mut consumer, 20).await;
    let begun = Instant::now();
    mock.with_group(|g| g.epoch += 1);
    consumer.close().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    mock.with_group(|g| {
        assert!(g.members.is_empty());
        assert_eq!(g.offsets.values().sum::<i64>(), 20);
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_fails_in_the_midst_leaves_what_it_had_in_hand_to_others() {
    let mock = Mock::start(1, 1);
    let client = connect(&mock).await;
    fill(&mock, &client, 10).await;
    let mut consumer = member(&client).start().unwrap();
    let mut seen = 0;
    while seen < 4 {
        seen += consumer.poll_up_to(4 - seen, SOON).await.unwrap().len();
    }
    let processed = seen - 1; // one record of the last poll at least was not
    let begun = Instant::now();
    consumer.abandon().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    mock.with_group(|g| {
        assert!(g.members.is_empty());
        assert!(g.offsets.get(&0).is_none_or(|offset| *offset <= processed as i64));
    });
}

/// iggy 3527: a consumer left without draining, and its successor read a range that had been polled again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_drains_and_commits_before_it_leaves() {
    let mock = Mock::start(1, 1);
    let client = connect(&mock).await;
    fill(&mock, &client, 10).await;
    let mut consumer = member(&client).start().unwrap();
    read(&mut consumer, 10).await;
    mock.with_group(|g| {
        let refusal = GroupFault::Refuse(Failure::new(Reason::CoordinatorLoading, "by script"));
        g.commit_faults.extend([refusal, GroupFault::Lose]);
    });
    consumer.close().await.unwrap();
    assert_eq!(mock.with_group(|g| g.offsets[&0]), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_member_comes_back_to_its_partitions_and_nobody_else_notices() {
    let mock = Mock::start(1, 4);
    let client = connect(&mock).await;
    fill(&mock, &client, 10).await;
    let fixed = |name: &str| Worker::start(member(&client).instance_id(name), Duration::ZERO);
    let (first, second) = (fixed("a"), fixed("b"));
    until("halves", || first.owns() == 2 && second.owns() == 2).await;
    until("all is read", || first.seen.lock().len() + second.seen.lock().len() >= 40).await;
    let (epoch, had) = (mock.with_group(|g| g.epoch), first.handle.assignment());
    first.end().await;
    assert_eq!(second.owns(), 2, "they wait for it");
    let again = fixed("a");
    until("it has them again", || again.handle.assignment() == had).await;
    fill(&mock, &client, 1).await;
    until("it reads", || again.seen.lock().len() >= 2).await;
    assert_eq!(mock.with_group(|g| g.epoch), epoch, "no rebalance");
    // The same name at the same time is refused for as long as it is used.
    let mut twin = member(&client).instance_id("b").start().unwrap();
    assert!(twin.poll(SOON).await.unwrap().is_empty());
    assert_eq!(twin.state(), State::Joining);
    drop(twin);
    again.end().await;
    second.end().await;
}

/// platformatic/kafka 267, as a process sees it: whatever fails before the first record, reading begins at
/// the committed offset, or at the first record; never silently at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_are_never_taken_for_no_offset() {
    let mock = Mock::start(2, 1);
    let client = connect(&mock).await;
    fill(&mock, &client, 30).await;
    let refuse = |reason| GroupFault::Refuse(Failure::new(reason, "by script"));
    let faults = [
        refuse(Reason::CoordinatorLoading),
        GroupFault::Lose,
        GroupFault::DoAndLose,
        refuse(Reason::UnknownMemberId),
        refuse(Reason::StaleMemberEpoch),
        refuse(Reason::FencedMemberEpoch),
    ];
    for (committed, reset) in [(Some(17), OffsetReset::Latest), (None, OffsetReset::Earliest)] {
        mock.with_group(|g| {
            g.offsets.clear();
            g.offsets.extend(committed.map(|offset| (0, offset)));
            g.heartbeat_faults.extend(faults.clone());
        });
        let mut consumer = member(&client).auto_commit(None).offset_reset(reset).start().unwrap();
        let first = read(&mut consumer, 1).await[0];
        assert_eq!(first, (0, committed.unwrap_or(0) as u64));
        consumer.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_offset_a_partition_begins_where_it_was_told_to() {
    let mock = Mock::start(1, 1);
    let client = connect(&mock).await;
    fill(&mock, &client, 30).await;
    let mut latest = member(&client).offset_reset(OffsetReset::Latest).start().unwrap();
    assert!(latest.poll(SOON).await.unwrap().is_empty());
    let end = || mock.with_group(|g| g.offsets.get(&0).copied());
    until("it knows the end", || latest.position(TOPIC, P0).is_some()).await;
    latest.close().await.unwrap();
    assert_eq!(end(), Some(30), "so that the next one leaves nothing out");
    mock.with_group(|g| g.offsets.clear());
    let mut strict = member(&client).offset_reset(OffsetReset::Fail).start().unwrap();
    let error = loop {
        match strict.poll(SOON).await {
            Ok(records) => assert!(records.is_empty()),
            Err(error) => break error,
        }
    };
    assert_eq!((error.class(), error.metadata()["partition"].as_str()), (Class::Fatal, "0"));
    assert!(strict.poll(SOON).await.unwrap().is_empty(), "said once");
    strict.seek(TOPIC, P0, Position::Offset(Offset(28))).unwrap();
    assert_eq!(read(&mut strict, 2).await, [(0, 28), (0, 29)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pause_resume_and_seek_do_what_they_say() {
    let mock = Mock::start(1, 2);
    let client = connect(&mock).await;
    fill(&mock, &client, 30).await;
    let mut consumer = member(&client).auto_commit(Some(Duration::from_millis(20))).start().unwrap();
    until("assigned", || consumer.assignment().len() == 2).await;
    consumer.pause(TOPIC, P0).unwrap();
    let seen = read(&mut consumer, 30).await;
    assert!(seen.iter().all(|(p, _)| *p == 1));
    assert!(consumer.poll(SOON).await.unwrap().is_empty());
    consumer.resume(TOPIC, P0).unwrap();
    assert_eq!(read(&mut consumer, 30).await.len(), 30);
    consumer.poll(Duration::ZERO).await.unwrap();
    until("committed", || mock.with_group(|g| g.offsets.get(&0) == Some(&30))).await;
    consumer.seek(TOPIC, P0, Position::Offset(Offset(4))).unwrap();
    until("the place it went back to is committed", || mock.with_group(|g| g.offsets[&0]) == 4).await;
    assert_eq!(read(&mut consumer, 26).await[0], (0, 4));
    assert!(consumer.seek(TOPIC, PartitionId(9), Position::Start).is_err());
    consumer.close().await.unwrap();
    assert_eq!(mock.with_group(|g| g.offsets[&0]), 30);
}

/// Keeps its own books and commits them when partitions go.
struct Books {
    done: Mutex<BTreeMap<TopicPartition, u64>>,
    heard: Mutex<Vec<String>>,
}

impl Listener for Books {
    fn assigned<'a>(&'a self, partitions: &'a [TopicPartition], group: &'a GroupHandle) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            for tp in partitions {
                let committed = group.committed(tp.topic.as_str(), tp.partition);
                self.heard.lock().push(format!("+{}@{}", tp.partition, committed.map_or(0, Offset::get)));
            }
        })
    }

    fn revoked<'a>(&'a self, partitions: &'a [TopicPartition], group: &'a GroupHandle) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            for tp in partitions {
                let done = self.done.lock().remove(tp);
                if let Some(done) = done {
                    let offset = CommitOffset::new(tp.topic.as_str(), tp.partition, Offset(done));
                    group.commit_offsets(&[offset]).await.unwrap();
                }
                self.heard.lock().push(format!("-{}", tp.partition));
            }
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_commits_at_the_last_moment() {
    let mock = Mock::start(1, 2);
    let client = connect(&mock).await;
    fill(&mock, &client, 10).await;
    let books = Arc::new(Books { done: Mutex::default(), heard: Mutex::default() });
    let mut first =
        member(&client).auto_commit(None).listener(Arc::clone(&books) as Arc<dyn Listener>).start().unwrap();
    for _ in 0..20 {
        for record in first.poll(SOON).await.unwrap() {
            let tp = TopicPartition { topic: record.topic.clone(), partition: record.partition };
            books.done.lock().insert(tp, record.offset.get() + 1);
        }
        if books.done.lock().values().sum::<u64>() == 20 {
            break;
        }
    }
    let mut second = member(&client).auto_commit(None).start().unwrap();
    let (mut polls, mut begun) = (0, None);
    while second.assignment().is_empty() {
        first.poll(Duration::from_millis(10)).await.unwrap();
        polls += 1;
        assert!(polls < 500);
        begun = second.committed(TOPIC, P0).or(second.committed(TOPIC, PartitionId(1)));
    }
    let _ = begun;
    assert!(second.poll(SOON).await.unwrap().is_empty(), "all of it was done");
    let taken = second.assignment()[0].clone();
    assert_eq!(second.committed(TOPIC, taken.partition), Some(Offset(10)));
    let heard = books.heard.lock().clone();
    assert_eq!(heard, ["+0@0".to_owned(), "+1@0".to_owned(), format!("-{}", taken.partition)]);
    first.close().await.unwrap();
    assert_eq!(mock.with_group(|g| g.offsets.values().sum::<i64>()), 20);
    let error =
        second.commit_offsets(&[CommitOffset::new(TOPIC, PartitionId(9), Offset(1))]).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::InvalidArgument));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_that_is_given_up_loses_nothing() {
    let mock = Mock::start(1, 2);
    let client = connect(&mock).await;
    let mut consumer = member(&client).start().unwrap();
    let producing = tokio::spawn({
        let client = client.clone();
        async move {
            let producer = client.producer(ProducerOptions::default());
            for n in 0..300u32 {
                producer.send_to(TOPIC, PartitionId(n % 2), Record::new("x")).await.unwrap().await.unwrap();
            }
        }
    });
    let mut seen = Vec::new();
    while seen.len() < 300 {
        tokio::select! {
            record = consumer.next() => {
                let record = record.unwrap();
                seen.push((record.partition.get(), record.offset.get()));
            }
            () = tokio::time::sleep(Duration::from_micros(300)) => {}
        }
    }
    producing.await.unwrap();
    assert_once_in_order(&seen, 2, 150);
    consumer.close().await.unwrap();
    assert_eq!(mock.with_group(|g| g.offsets.values().sum::<i64>()), 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_never_work_is_said_and_stays() {
    let mock = Mock::start(1, 1);
    let client = connect(&mock).await;
    let refusal = Failure::new(Reason::UnsupportedAssignor, "assignor \"best\" is not known");
    mock.with_group(|g| g.heartbeat_faults.push_back(GroupFault::Refuse(refusal)));
    let mut consumer = member(&client).assignor("best").start().unwrap();
    for _ in 0..2 {
        let error = loop {
            match consumer.poll(SOON).await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.reason(), Some(Reason::UnsupportedAssignor));
    }
    assert_eq!(consumer.state(), State::Fatal);
    consumer.close().await.unwrap();
    let long = "x".repeat(10_000);
    for builder in [
        client.group(long.clone()).topics([TOPIC]),
        client.group("g"),
        client.group("g").topics(["a/b"]),
        client.group("g").pattern(long.clone()),
        member(&client).instance_id(long.clone()),
        member(&client).rack_id(long),
    ] {
        assert_eq!(builder.start().unwrap_err().reason(), Some(Reason::InvalidArgument));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_ahead_are_bounded_by_number_too() {
    let mock = Mock::start(1, 1);
    let client = connect(&mock).await;
    fill(&mock, &client, 500).await;
    let mut options = flotilla_client::GroupOptions::default();
    options.consumer.prefetch_records = 50;
    options.consumer.partition_bytes = 1;
    let mut consumer = member(&client).options(options).start().unwrap();
    assert!(!consumer.poll(SOON).await.unwrap().is_empty());
    tokio::time::sleep(SOON).await;
    // How many records a batch has depends on how busy the machine is; how many bytes a record has does not.
    let all: usize = mock.with_partition(0, |p| p.batches.iter().map(|batch| batch.2.body.len()).sum());
    let ahead = mock.cluster.fetched_bytes.load(Ordering::Relaxed);
    assert!(ahead < all / 2, "{ahead} of {all} bytes were fetched ahead");
    assert!(read(&mut consumer, 480).await.len() >= 480);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_seen_and_moved_from_outside() {
    use flotilla_client::groups::admin::SeekTo;
    let mock = Mock::start(2, 2);
    let client = connect(&mock).await;
    fill(&mock, &client, 10).await;
    let admin = client.admin();
    let ids: Vec<String> = admin.groups("").await.unwrap().into_iter().map(|g| g.group_id).collect();
    assert_eq!(ids, ["a", "b"]);
    let mut consumer = member(&client).start().unwrap();
    read(&mut consumer, 20).await;
    consumer.commit().await.unwrap();
    let group = admin.group("billing").await.unwrap();
    assert_eq!((group.member_count, group.positions.len()), (1, 2));
    assert_eq!(group.members[0].assigned.len(), 2);
    assert_eq!(group.positions[0].time_lag, Some(Duration::from_secs(3)));
    assert_eq!(admin.group_offsets("billing", &[]).await.unwrap().len(), 2);
    let plan = admin.seek_group("billing", &[], &SeekTo::ShiftBy(-4), true).await.unwrap();
    assert_eq!(plan.moves.iter().map(|m| m.to_offset.get()).collect::<Vec<_>>(), [6, 6]);
    assert_eq!(mock.with_group(|g| g.offsets[&0]), 10, "a dry run");
    admin.seek_group("billing", &[], &SeekTo::ShiftBy(-4), false).await.unwrap();
    assert_eq!(read(&mut consumer, 8).await.len(), 8);
    let error = admin.delete_group("billing", false).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::NonEmptyGroup));
    assert_eq!(admin.explain_group("billing").await.unwrap()[0].cause, "NO_MEMBERS");
}
