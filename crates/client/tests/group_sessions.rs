//! What a member does about calls that are not answered: it must not believe that it has what others read
//! by now, and a commit that was held up on its way must not undo a later one.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod mock;

use flotilla_client::groups::{CommitOffset, Event, GroupConsumer, State};
use flotilla_client::types::time::SystemClock;
use flotilla_client::types::{Clock, Monotonic, Offset, PartitionId, Reason, TimestampMs};
use flotilla_client::{Client, GroupOptions, Options, ProducerOptions, Record};
use futures::StreamExt;
use mock::groups::GroupFault;
use mock::{Mock, TOPIC};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const P0: PartitionId = PartitionId(0);
const SOON: Duration = Duration::from_millis(200);

/// The system's clock, which a test sets forward: what a process sees that was stopped for a while.
#[derive(Debug)]
struct Jumping {
    system: SystemClock,
    ahead_ms: AtomicU64,
}

impl Clock for Jumping {
    fn monotonic(&self) -> Monotonic {
        self.system.monotonic().plus(Duration::from_millis(self.ahead_ms.load(Ordering::Relaxed)))
    }

    fn wall(&self) -> TimestampMs {
        self.system.wall()
    }
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
        let records = consumer.poll(SOON).await.unwrap();
        seen.extend(records.iter().map(|r| (r.partition.get(), r.offset.get())));
    }
    seen
}

/// Nobody answers for a whole session: the coordinator may have given the partitions to others, so the
/// member says that they are lost before anybody can have waited for it longer, and joins again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_not_answered_for_its_session_has_lost_everything() {
    let mock = Mock::start(1, 2);
    let client = Client::connect(mock.endpoints(), Options::default()).await.unwrap();
    fill(&mock, &client, 10).await;
    let session = Duration::from_millis(900);
    mock.with_group(|g| (g.interval, g.session) = (Duration::from_millis(100), Some(session)));
    let mut consumer = client.group("billing").topics([TOPIC]).auto_commit(None).start().unwrap();
    let mut events = Box::pin(consumer.events());
    assert!(matches!(events.next().await, Some(Event::Assigned(all)) if all.len() == 2));
    read(&mut consumer, 20).await;
    let before = mock.with_group(|g| {
        g.heartbeat_faults.extend(std::iter::repeat_n(GroupFault::Hang, 100));
        g.heartbeats.len()
    });
    let silent = Instant::now();
    let Some(Event::Lost { partitions, why }) = events.next().await else { panic!("nothing was lost") };
    assert!(silent.elapsed() < session + Duration::from_secs(5), "{:?}", silent.elapsed());
    assert_eq!(partitions.len(), 2);
    assert!(why.contains("session"), "{why}");
    assert_eq!(consumer.assignment(), []);
    assert!(matches!(consumer.state(), State::Fenced | State::Joining));
    fill(&mock, &client, 5).await;
    assert!(consumer.poll(SOON).await.unwrap().is_empty(), "nothing is handed out meanwhile");
    let tried = mock.with_group(|g| {
        g.heartbeat_faults.clear();
        g.heartbeats.len()
    });
    assert!(
        tried >= before + 2,
        "{before}, then {tried} heartbeats: one that hangs must leave time in the session for others"
    );
    assert_eq!(read(&mut consumer, 30).await.len(), 30, "nothing was committed, so all comes again");
    consumer.close().await.unwrap();
}

/// A process is stopped for longer than its session. It wakes with records fetched ahead, and with some in
/// hand: none of the first are given out, and none of the others committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_stopped_past_its_session_hands_nothing_out() {
    let mock = Mock::start(1, 1);
    let clock = Arc::new(Jumping { system: SystemClock::new(), ahead_ms: AtomicU64::new(0) });
    let options = Options { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..Options::default() };
    let client = Client::connect(mock.endpoints(), options).await.unwrap();
    fill(&mock, &client, 40).await;
    let options = GroupOptions { auto_commit: None, ..GroupOptions::default() };
    let mut consumer = client.group("billing").topics([TOPIC]).options(options).start().unwrap();
    let mut had = 0;
    while had == 0 {
        had = consumer.poll_up_to(3, SOON).await.unwrap().len();
    }
    clock.ahead_ms.store(60_000, Ordering::Relaxed);
    let offset = CommitOffset::new(TOPIC, P0, Offset(had as u64));
    let error = consumer.commit_offsets(&[offset]).await.unwrap_err();
    assert!(
        matches!(error.reason(), Some(Reason::UnknownMemberId | Reason::InvalidArgument)),
        "{error}: {:?}",
        error.reason()
    );
    assert!(mock.with_group(|g| g.offsets.is_empty()));
    let first = read(&mut consumer, 1).await[0];
    assert_eq!(first, (0, 0), "as a new member, from what is committed, not from what was fetched");
    consumer.close().await.unwrap();
}

/// A commit's answer is lost, a later one is stored, and then the first arrives after all: it was held up in
/// a node that was stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_was_held_up_does_not_undo_a_later_one() {
    let mock = Mock::start(2, 1);
    let client = Client::connect(mock.endpoints(), Options::default()).await.unwrap();
    fill(&mock, &client, 30).await;
    let mut consumer = client.group("billing").topics([TOPIC]).auto_commit(None).start().unwrap();
    read(&mut consumer, 30).await;
    mock.with_group(|g| g.commit_faults.extend([GroupFault::HoldUp, GroupFault::HoldUp]));
    consumer.commit_offsets(&[CommitOffset::new(TOPIC, P0, Offset(10))]).await.unwrap();
    consumer.commit_offsets(&[CommitOffset::new(TOPIC, P0, Offset(20))]).await.unwrap();
    mock.with_group(|g| {
        assert_eq!((g.held_up.len(), g.offsets[&0]), (2, 20));
        g.arrive(&[30]);
        assert_eq!(g.offsets[&0], 20);
        g.assert_forward();
    });
    // After a seek, back is where it should go.
    consumer.seek(TOPIC, P0, flotilla_client::Position::Offset(Offset(5))).unwrap();
    consumer.commit_offsets(&[CommitOffset::new(TOPIC, P0, Offset(5))]).await.unwrap();
    assert_eq!(mock.with_group(|g| g.offsets[&0]), 5);
    consumer.close().await.unwrap();
}
