//! One partition's reader: fetches ahead of the application, from the leader, wherever that goes.

use crate::batch_reader;
use crate::call;
use crate::client::Inner;
use crate::config::{ConsumerOptions, OutOfRange};
use crate::connection::{DECODE_MAX_BYTES, Lane};
use crate::consumer::Position;
use crate::error::{Class, Error, Result};
use crate::offsets::{self, OffsetQuery};
use crate::record::ConsumedRecord;
use crate::retry::Backoff;
use flotilla_proto::convert::log::isolation_to_wire;
use flotilla_proto::v1;
use flotilla_proto::v1::log_client::LogClient;
use flotilla_types::{LeaderHint, Offset, PartitionId, Reason, Term, TopicName};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// A leader that answers a fetch later than its wait plus this is given up.
const ANSWER_SLACK: Duration = Duration::from_secs(5);
/// A topic or partition that nobody knows for this long does not exist.
const UNKNOWN_WAIT: Duration = Duration::from_secs(5);

/// What the consumer asks of a fetcher. Every change gets another number, so that what was fetched for
/// an earlier one is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) number: u64,
    pub(crate) position: Position,
    pub(crate) paused: bool,
}

/// What a fetcher brings.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) topic: TopicName,
    pub(crate) partition: PartitionId,
    pub(crate) order: u64,
    pub(crate) outcome: Result<Chunk>,
}

/// Records of one fetch. They count against the prefetch bound until this is dropped.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) records: Vec<ConsumedRecord>,
    pub(crate) next: Offset,
    _room: [OwnedSemaphorePermit; 2],
}

/// What may be fetched ahead of the application. Always taken records first, so that nobody waits in a ring.
#[derive(Debug)]
pub(crate) struct Room {
    records: Arc<Semaphore>,
    records_max: u32,
    bytes: Arc<Semaphore>,
    bytes_max: u32,
}

impl Room {
    pub(crate) fn new(options: &ConsumerOptions) -> Self {
        let bounded = |most: usize| most.clamp(1, 1 << 31);
        let (records, bytes) = (bounded(options.prefetch_records), bounded(options.prefetch_bytes));
        Self {
            records: Arc::new(Semaphore::new(records)),
            records_max: records as u32,
            bytes: Arc::new(Semaphore::new(bytes)),
            bytes_max: bytes as u32,
        }
    }

    /// Waits for room. What is larger than all of it takes all of it.
    async fn take(&self, records: usize, bytes: usize) -> [OwnedSemaphorePermit; 2] {
        let within = |wanted: usize, most: u32| u32::try_from(wanted).unwrap_or(most).clamp(1, most);
        let of = async |room: &Arc<Semaphore>, permits| {
            Arc::clone(room).acquire_many_owned(permits).await.expect("never closed")
        };
        let records = of(&self.records, within(records, self.records_max)).await;
        [records, of(&self.bytes, within(bytes, self.bytes_max)).await]
    }
}

/// How far a fetcher is, for `position`, `end` and `trouble`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// The order it speaks of.
    pub(crate) order: u64,
    /// Where that order's position turned out to be.
    pub(crate) start: Option<Offset>,
    /// The end of what this reader may see, as last heard.
    pub(crate) end: Option<Offset>,
    /// Why nothing comes at the moment.
    pub(crate) trouble: Option<Error>,
}

#[derive(Debug)]
pub(crate) struct Fetcher {
    pub(crate) client: Arc<Inner>,
    pub(crate) options: ConsumerOptions,
    pub(crate) topic: TopicName,
    pub(crate) partition: PartitionId,
    pub(crate) room: Arc<Room>,
    pub(crate) arrivals: mpsc::Sender<Arrival>,
    pub(crate) progress: Arc<Mutex<Progress>>,
}

impl Fetcher {
    /// Follows orders until the consumer is gone.
    pub(crate) async fn run(self, mut orders: watch::Receiver<Order>) {
        loop {
            let order = *orders.borrow_and_update();
            if order.paused {
                if orders.changed().await.is_err() {
                    return;
                }
                continue;
            }
            tokio::select! {
                changed = orders.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                error = self.follow(order) => {
                    // The partition stands still here until the application seeks.
                    self.note(order, |progress| progress.trouble = Some(error.clone()));
                    if self.bring(order, Err(error)).await.is_err() || orders.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Fetches from the order's position on; returns only what the application must decide on.
    async fn follow(&self, order: Order) -> Error {
        let mut position = match self.resolve(order.position).await {
            Ok(position) => position,
            Err(error) => return error,
        };
        self.note(order, |progress| {
            *progress = Progress { order: order.number, start: Some(position), ..Progress::default() };
        });
        let mut backoff = Backoff::default();
        let mut unknown_since = None;
        let mut epoch = None;
        let mut asked = Term(0);
        loop {
            let error = match self.fetch(order, position, epoch, &mut asked).await {
                Ok(read) => {
                    backoff.reset();
                    unknown_since = None;
                    position = read.next;
                    epoch = read.epoch.or(epoch);
                    if !read.records.is_empty() && self.keep(order, read).await.is_err() {
                        std::future::pending::<()>().await; // the consumer is gone and stops this task
                    }
                    continue;
                }
                Err(error) => error,
            };
            let clock = &self.client.options.clock;
            match error.reason() {
                Some(Reason::OffsetOutOfRange) => match self.reset(position, error).await {
                    Ok(elsewhere) => {
                        position = elsewhere;
                        epoch = None;
                        continue;
                    }
                    Err(error) => return error,
                },
                Some(Reason::UnknownTopicOrPartition) => {
                    let now = clock.monotonic();
                    if now.since(*unknown_since.get_or_insert(now)) > UNKNOWN_WAIT {
                        return error;
                    }
                }
                _ => unknown_since = None,
            }
            if error.class() == Class::Fatal {
                return error;
            }
            self.pause(order, error, &mut backoff, asked).await;
        }
    }

    /// Waits before the next try, but not for one at a newer leader than the one that was asked.
    async fn pause(&self, order: Order, error: Error, backoff: &mut Backoff, asked: Term) {
        let metadata = &self.client.metadata;
        let went_elsewhere = metadata.hint(self.topic.as_str(), self.partition, error.leader());
        let pause = backoff.pause(&*self.client.options.random, error.retry_after());
        if !went_elsewhere {
            metadata.refresh();
        }
        tracing::debug!(topic = %self.topic, partition = %self.partition, %error, ?pause, "fetch is tried again");
        self.note(order, |progress| progress.trouble = Some(error));
        let mut routes = metadata.watch();
        let newer = routes.wait_for(|routes| {
            routes
                .leadership(self.topic.as_str(), self.partition)
                .and_then(|leadership| leadership.leader.as_ref())
                .is_some_and(|leader| leader.term > asked)
        });
        let _ = tokio::time::timeout(pause, newer).await;
    }

    /// Where a position is. Tries for as long as it takes, like a fetch would.
    async fn resolve(&self, position: Position) -> Result<Offset> {
        let query = match position {
            Position::Offset(offset) => return Ok(offset),
            Position::Start => OffsetQuery::Earliest,
            Position::End => OffsetQuery::Latest,
            Position::Timestamp(time) => OffsetQuery::At(time),
        };
        loop {
            let timeout = self.client.options.call_timeout.min(UNKNOWN_WAIT);
            let (topic, isolation) = (self.topic.as_str(), self.options.isolation);
            match offsets::list(&self.client, topic, self.partition, query, isolation, timeout).await {
                Ok(found) => return Ok(found.offset),
                Err(error) if error.class() == Class::Fatal => return Err(error),
                Err(error) if error.reason() == Some(Reason::UnknownTopicOrPartition) => return Err(error),
                Err(error) => self.progress.lock().trouble = Some(error),
            }
        }
    }

    /// The position is not in the log: what the options say.
    async fn reset(&self, position: Offset, error: Error) -> Result<Offset> {
        let to = match self.options.out_of_range {
            OutOfRange::Fail => {
                return Err(error.context(format!("partition {}/{}", self.topic, self.partition)));
            }
            OutOfRange::Earliest => Position::Start,
            OutOfRange::Latest => Position::End,
        };
        let elsewhere = self.resolve(to).await?;
        tracing::warn!(
            topic = %self.topic, partition = %self.partition, from = %position, to = %elsewhere,
            "position was not in the log; going on elsewhere as configured"
        );
        Ok(elsewhere)
    }

    async fn fetch(
        &self,
        order: Order,
        position: Offset,
        epoch: Option<Term>,
        asked: &mut Term,
    ) -> Result<batch_reader::Read> {
        let mut routes = self.client.metadata.watch();
        let (leader, topic_id) = {
            let routes = routes.borrow_and_update();
            let name = || format!("partition {}/{}", self.topic, self.partition);
            let leadership = routes.leadership(self.topic.as_str(), self.partition).ok_or_else(|| {
                Error::retriable(Reason::UnknownTopicOrPartition, format!("{} is in no metadata", name()))
            })?;
            let leader = leadership.leader.clone().ok_or_else(|| {
                Error::retriable(Reason::LeaderNotAvailable, format!("{} has no leader now", name()))
            })?;
            let topic_id = routes.topic(self.topic.as_str()).map(|route| route.topic_id.clone());
            (leader, topic_id.filter(|id| !id.is_empty()))
        };
        *asked = leader.term;
        let request = v1::FetchRequest {
            partitions: vec![v1::FetchPartition {
                topic: self.topic.as_str().to_owned(),
                partition: self.partition.get() as i32,
                fetch_offset: position.get() as i64,
                current_leader_epoch: Some(leader.term.get() as i64),
                last_fetched_epoch: epoch.map(|term| term.get() as i64),
                max_bytes: self.options.partition_bytes as i32,
                topic_id,
            }],
            min_bytes: 1,
            max_bytes: self.options.partition_bytes as i32,
            max_wait_ms: self.options.max_wait.as_millis() as i32,
            isolation_level: isolation_to_wire(self.options.isolation),
            filter: None,
        };
        let timeout = self.options.max_wait + ANSWER_SLACK;
        let answer = call::at(&self.client, &leader.endpoint, Lane::Fetch, timeout, |channel| {
            let mut client = LogClient::new(channel).max_decoding_message_size(DECODE_MAX_BYTES);
            let request = request.clone();
            async move { client.fetch(request).await }
        });
        let moved = self.moved(&mut routes, &leader);
        let answer = tokio::select! {
            answer = answer => answer?,
            moved = moved => return Err(moved),
        };
        let fetched = answer.partitions.into_iter().next();
        let fetched = fetched.ok_or_else(|| Error::lost("answer to a fetch is empty"))?;
        self.read(order, position, fetched)
    }

    /// Ends when a newer leader is known: whoever is asked now may never answer.
    async fn moved(
        &self,
        routes: &mut watch::Receiver<Arc<crate::routes::Routes>>,
        asked: &LeaderHint,
    ) -> Error {
        let newer = routes.wait_for(|routes| {
            routes
                .leadership(self.topic.as_str(), self.partition)
                .and_then(|leadership| leadership.leader.as_ref())
                .is_some_and(|leader| leader.term > asked.term && leader.endpoint != asked.endpoint)
        });
        if newer.await.is_err() {
            std::future::pending::<()>().await;
        }
        Error::retriable(Reason::NotLeader, "leadership moved while a fetch was waiting")
    }

    fn read(
        &self,
        order: Order,
        position: Offset,
        fetched: v1::FetchedPartition,
    ) -> Result<batch_reader::Read> {
        if let Some(error) = fetched.error {
            return Err(Error::from_wire(error));
        }
        let name = format!("partition {}/{}", self.topic, self.partition);
        if let Some(diverging) = fetched.diverging_offset {
            let message = format!("{name}: the log differs from what was read, from offset {diverging} on");
            return Err(Error::fatal(Reason::OffsetOutOfRange, message).with("diverging_offset", diverging));
        }
        let read = batch_reader::read(&self.topic, self.partition, position, fetched.batches)?;
        // Nothing of a partition is filtered or compacted as yet, so this would be a hole.
        if let Ok(next) = u64::try_from(fetched.next_offset)
            && Offset(next) > read.next
        {
            let message = format!("{name}: offsets {} to {} are missing", read.next, next - 1);
            return Err(Error::fatal(Reason::CorruptBatch, message).with("offset", read.next));
        }
        let end = match self.options.isolation {
            crate::Isolation::ReadCommitted => fetched.last_stable_offset,
            crate::Isolation::ReadUncommitted => fetched.high_watermark,
        };
        self.note(order, |progress| {
            progress.trouble = None;
            progress.end = u64::try_from(end).ok().map(Offset).max(progress.end);
        });
        Ok(read)
    }

    /// Hands records over, once there is room for them.
    async fn keep(&self, order: Order, read: batch_reader::Read) -> std::result::Result<(), ()> {
        let room = self.room.take(read.records.len(), read.bytes).await;
        self.bring(order, Ok(Chunk { records: read.records, next: read.next, _room: room })).await
    }

    async fn bring(&self, order: Order, outcome: Result<Chunk>) -> std::result::Result<(), ()> {
        let arrival =
            Arrival { topic: self.topic.clone(), partition: self.partition, order: order.number, outcome };
        self.arrivals.send(arrival).await.map_err(|_| ())
    }

    fn note(&self, order: Order, change: impl FnOnce(&mut Progress)) {
        let mut progress = self.progress.lock();
        progress.order = order.number;
        change(&mut progress);
    }
}
